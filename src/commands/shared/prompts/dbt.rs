//! Prompts for the dbt account, API key and job. The URL of the job comes first, since it provides all but the key.

use super::hosts::{bare, can_be_a_host};
use super::{Dialog, Instead, MOST_TRIES, TYPED, is_about_the_host};
use crate::commands::shared::dbt_accounts::{accounts, not_for_account, of_accounts};
use crate::commands::shared::job_argument::{JobArgument, JobFilterFlags, Projects, environment, jobs, shown_name};
use crate::commands::{connect_dbt, dbt_client};
use crate::credentials::{InputErrors, account, account_id, api_token, dbt_host, read_account_id};
use crate::dbt::{Account as Seen, Job, Link, get_job};
use crate::failure::{Code, Failure, of_dbt};
use crate::http::Writer;
use crate::origin::is_loopback;

/// What the key is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyQuestion {
    /// No key is needed.
    None,
    /// To be stored once dbt accepts it.
    ToStore,
    /// To be stored without asking dbt.
    ToStoreUntried,
    /// Only for requests.
    Token,
}

impl Dialog<'_> {
    pub(super) fn lacks_host(&self) -> Result<bool, Failure> {
        Ok(dbt_host(&self.ctx.account, &self.pasted, &self.ctx.context.environment)?.is_none())
    }

    pub(super) fn lacks_account(&self) -> Result<bool, Failure> {
        Ok(account_id(&self.ctx.account, &self.pasted, &self.ctx.context.environment)?.is_none())
    }

    pub(super) fn lacks_token(&self) -> Result<bool, Failure> {
        let environment = &self.ctx.context.environment;
        let token =
            api_token(&self.ctx.account, &self.pasted, environment, &self.ctx.vault, &mut InputErrors::default())?;
        Ok(token.is_none())
    }

    /// Asks for the URL of the job, which provides host, account and job. A URL of the account, a host, an ID or a name
    /// also works; the rest is asked for.
    pub(super) async fn address(&mut self) -> Result<(), Failure> {
        loop {
            let typed = self.ask("URL of your dbt job (copy it from your browser)", "").await?;
            let read = if is_an_address(&typed) {
                self.take_address(&typed).await
            } else {
                can_be_a_host(&typed).and_then(|()| JobArgument::read(&typed)).map(|job| {
                    self.named = Some(job);
                    true
                })
            };
            match read {
                Ok(true) => {
                    self.note_job();
                    return Ok(());
                }
                Ok(false) => {}
                Err(failure) => self.tell(&failure),
            }
        }
    }

    /// Uses the parts of the URL. Returns false if the user rejects an unknown host.
    async fn take_address(&mut self, typed: &str) -> Result<bool, Failure> {
        can_be_a_host(typed)?;
        let link = Link::parse(typed).map_err(|bad| {
            Failure::new(Code::InvalidInput, format!("invalid URL: {bad}"))
                .advise("open the job in dbt and copy its URL from your browser")
        })?;
        let origin = &link.origin;
        let known = ["dbt.com", "getdbt.com"].iter().any(|domain| origin.is_under(domain));
        if !known && !is_loopback(origin.url()) {
            let prompt = format!("{} is not a host of dbt Labs. Use it?", origin.host());
            if self.key(&prompt, "yN").await? != 'y' {
                return Ok(false);
            }
        }
        let flags = &mut self.ctx.account;
        (flags.dbt_host, flags.dbt_account) = (Some(bare(origin)), link.account.map(|id| id.to_string()));
        // Fails here if variables contradict the URL, as with flags.
        if let Err(failure) = self.lacks_host().and_then(|_| self.lacks_account()) {
            (self.ctx.account.dbt_host, self.ctx.account.dbt_account) = (None, None);
            return Err(failure);
        }
        self.instead().push(Instead::Flag("--dbt-host", bare(origin)));
        self.instead().extend(link.account.map(|id| Instead::Flag("--dbt-account", id.to_string())));
        self.named = link.job.map(JobArgument::Id);
        Ok(true)
    }

    /// Asks for a key until dbt accepts it, and for the account if unknown, from those that the key can see.
    pub(super) async fn key_and_account(&mut self, key: KeyQuestion, lacks_account: bool) -> Result<(), Failure> {
        let prompt = match key {
            KeyQuestion::None if lacks_account && !self.lacks_host()? && !self.lacks_token()? => {
                return match self.visible().await {
                    Ok(seen) => self.settle_account(&seen).await,
                    Err(_) => self.account().await,
                };
            }
            KeyQuestion::None if lacks_account => return self.account().await,
            KeyQuestion::None => return Ok(()),
            KeyQuestion::ToStoreUntried => {
                if lacks_account {
                    self.account().await?;
                }
                return self.token("dbt API key", "DBT_CLOUD_TOKEN", async |_| Ok(())).await;
            }
            KeyQuestion::ToStore => "dbt API key",
            KeyQuestion::Token => "dbt API token",
        };
        let mut tries = 0;
        loop {
            let Some(origin) = dbt_host(&self.ctx.account, &self.pasted, &self.ctx.context.environment)? else {
                return Err(Failure::new(Code::Bug, "the dbt host is settled and yet missing"));
            };
            // Fail before the key is typed if it must not be sent to this host.
            self.host_of_accounts()?.check_bare_token("the dbt API key")?;
            self.token(&format!("{prompt} for {}", bare(&origin)), "DBT_CLOUD_TOKEN", async |_| Ok(())).await?;
            let failure = match self.visible().await {
                Ok(seen) => return self.settle_account(&seen).await,
                Err(failure) => failure,
            };
            self.ctx.vault.forget("DBT_CLOUD_TOKEN");
            tries += 1;
            if tries == MOST_TRIES {
                return Err(failure);
            }
            let typed = self.instead().iter().any(|instead| matches!(instead, Instead::Flag("--dbt-host", _)));
            if matches!(failure.code, Code::NotAuthenticated | Code::NotAllowed) {
                self.tell(&failure);
            } else if typed && is_about_the_host(failure.code) {
                self.tell(&failure);
                self.host().await?;
            } else {
                return Err(failure);
            }
        }
    }

    /// The host as an account; the ID is a placeholder if only the token can tell it.
    fn host_of_accounts(&self) -> Result<crate::credentials::Account, Failure> {
        let mut flags = self.ctx.account.clone();
        if self.lacks_account()? {
            flags.dbt_account = Some("1".to_owned());
        }
        let mut errors = InputErrors::default();
        let account = account(&flags, &self.pasted, &self.ctx.context.environment, &mut errors);
        errors.settled(account)
    }

    /// The accounts that the token can see.
    async fn visible(&self) -> Result<Vec<Seen>, Failure> {
        let environment = &self.ctx.context.environment;
        let mut errors = InputErrors::default();
        let token = api_token(&self.ctx.account, &self.pasted, environment, &self.ctx.vault, &mut errors)?;
        let Some(token) = token else {
            return Err(Failure::new(Code::Bug, "the dbt token is settled and yet missing"));
        };
        let dbt: Writer = dbt_client(&self.host_of_accounts()?, &token, self.ctx)?;
        accounts(&dbt).await.map_err(|error| of_accounts(&error))
    }

    /// Uses the named account if the key can see it; otherwise offers those that it can see.
    async fn settle_account(&mut self, seen: &[Seen]) -> Result<(), Failure> {
        let environment = &self.ctx.context.environment;
        let named = account_id(&self.ctx.account, &self.pasted, environment)?;
        if named.is_some_and(|id| seen.iter().any(|account| account.id == id)) {
            return Ok(());
        }
        let label = |account: &Seen| match account.name.as_deref() {
            Some(name) => format!("{} ({})", account.id, shown_name(Some(name))),
            None => account.id.to_string(),
        };
        // A flag or pasted URL for another account would contradict the choice.
        let fixed = self.ctx.account.dbt_url.is_some() || !self.pasted.is_empty();
        let chosen = match (named, seen) {
            (None, []) => return self.account().await,
            (None, [only]) => {
                self.ctx.events.remark(format!("dbt account {}", label(only)));
                only.id
            }
            (Some(id), _) if fixed || seen.is_empty() => return Err(self.wrong_account(id, seen)?),
            (Some(id), [only]) => {
                let prompt =
                    format!("This key cannot see account {id}, only account {}. Use that account?", label(only));
                if self.key(&prompt, "Yn").await? != 'y' {
                    return Err(self.wrong_account(id, seen)?);
                }
                only.id
            }
            (_, several) => {
                let items: Vec<String> = several.iter().map(label).collect();
                several[self.choose("dbt account", &items).await?].id
            }
        };
        self.ctx.account.dbt_account = Some(chosen.to_string());
        self.instead().retain(|instead| !matches!(instead, Instead::Flag("--dbt-account", _)));
        self.instead().push(Instead::Flag("--dbt-account", chosen.to_string()));
        Ok(())
    }

    fn wrong_account(&self, id: u64, seen: &[Seen]) -> Result<Failure, Failure> {
        Ok(not_for_account(id, seen, &self.host_of_accounts()?.origin.to_string()))
    }

    async fn account(&mut self) -> Result<(), Failure> {
        loop {
            let typed = self.ask("dbt account ID (the number after /deploy/ in its URLs)", "").await?;
            let possible = read_account_id(&typed, TYPED);
            self.ctx.account.dbt_account = Some(typed);
            let environment = &self.ctx.context.environment;
            match possible.and_then(|_| account_id(&self.ctx.account, &self.pasted, environment)) {
                Ok(found) => {
                    self.instead().push(Instead::Flag("--dbt-account", found.unwrap_or_default().to_string()));
                    return Ok(());
                }
                Err(failure) => self.tell(&failure),
            }
            self.ctx.account.dbt_account = None;
        }
    }

    /// Determines the job: the one that was typed, if dbt has it, else one from the list.
    pub(super) async fn job(&mut self, flag: Option<&'static str>, job_filter: &JobFilterFlags) -> Result<(), Failure> {
        self.forget_job(flag);
        // Without a token dbt cannot be asked; the check of the workflow will.
        if self.ctx.prompts.key_is_stored
            && self.lacks_token()?
            && let Some(JobArgument::Id(job)) = self.named
        {
            self.take_job(job, flag, job.to_string());
            return Ok(());
        }
        let (account, reader) = connect_dbt(&self.pasted, InputErrors::default(), self.ctx)?;
        if let Some(named) = self.named.take() {
            let found = match named.find(&reader, &account, job_filter).await {
                Ok(job) => reader
                    .read(get_job(account.id, job))
                    .await
                    .map(|_| job)
                    .map_err(|error| of_dbt(&format!("cannot read dbt job {job}"), &error)),
                Err(failure) => Err(failure),
            };
            match found {
                Ok(job) => {
                    self.take_job(job, flag, job.to_string());
                    return Ok(());
                }
                Err(failure) if matches!(failure.code, Code::NotFound | Code::InvalidInput) => {
                    self.tell(&failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        let projects = Projects::read(&reader, &account, job_filter).await?;
        let jobs = jobs(&reader, &account, job_filter, &projects, None).await?;
        if jobs.is_empty() {
            let what = format!("no dbt job in account {} is visible to this token", account.id);
            return Err(
                Failure::new(Code::NotFound, what).advise("name the job by ID or URL, or use a token that can see it")
            );
        }
        let items: Vec<String> = jobs
            .iter()
            .map(|job| {
                let project = job.project_id.map(|id| id.to_string());
                let project = projects.name(job.project_id).map(|name| shown_name(Some(name))).or(project);
                let (name, project) = (shown_name(job.name.as_deref()), project.unwrap_or_default());
                // The ID comes first: text that is cut off cannot be found by typing.
                format!("{}   {name}   {project}, {}", job.id, environment(job))
            })
            .collect();
        let chosen = self.choose("dbt job", &items).await?;
        let Some(job) = jobs.get(chosen) else {
            return Err(Failure::new(Code::Bug, "the chosen job is not in the list"));
        };
        match repeats(job, &jobs, job_filter) {
            Some(named) => self.take_job(job.id, flag, named),
            None => self.ctx.prompts.job = Some(job.id),
        }
        Ok(())
    }

    /// Notes the job that was typed, for the command that goes on if the next prompt is left.
    fn note_job(&self) {
        let named = match &self.named {
            Some(JobArgument::Id(job) | JobArgument::Address { job, pasted: _ }) => job.to_string(),
            Some(JobArgument::Name(name)) => name.clone(),
            None => return,
        };
        self.instead().push(given(self.job_flag, named));
    }

    /// Forgets the job that was typed.
    fn forget_job(&self, flag: Option<&'static str>) {
        self.instead().retain(|instead| match instead {
            Instead::Flag(name, _) => Some(*name) != flag,
            Instead::Argument(_) => flag.is_some(),
            Instead::Variable(_, _) => true,
        });
    }

    fn take_job(&mut self, job: u64, flag: Option<&'static str>, named: String) {
        self.ctx.prompts.job = Some(job);
        self.instead().push(given(flag, named));
    }
}

/// The job on the command line.
fn given(flag: Option<&'static str>, named: String) -> Instead {
    match flag {
        Some(flag) => Instead::Flag(flag, named),
        None => Instead::Argument(named),
    }
}

/// Whether it looks like a URL rather than an ID or a name.
fn is_an_address(typed: &str) -> bool {
    !typed.contains(char::is_whitespace) && (typed.contains("://") || typed.contains('.'))
}

/// How to name this job together with the filter flags, which require a name.
fn repeats(job: &Job, jobs: &[Job], job_filter: &JobFilterFlags) -> Option<String> {
    if job_filter.is_empty() {
        return Some(job.id.to_string());
    }
    let name = job.name.clone()?;
    (jobs.iter().filter(|other| other.name.as_deref() == Some(name.as_str())).count() == 1).then_some(name)
}
