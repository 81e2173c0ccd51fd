//! Asks a person for what is missing, and puts the answers where flags and variables would have put them.
//!
//! Commands know nothing of it: they fail with what is open, are told, and begin again. Nothing was written until then.

mod hosts;
mod settings;

use std::collections::BTreeMap;
use std::rc::Rc;

use super::job_named::{Narrow, Places, environment, jobs, shown_name};
use super::provision::who;
use super::{Stage, init_secrets, line_to_dbt, to_databricks, to_dbt};
use crate::credentials::{
    Account, Databricks, Source, Sourced, Token, Wants, account, account_id, api_token, check_host, databricks,
    dbt_host, named_workspace, profiles, read_account_id,
};
use crate::dbt::{Job, Link};
use crate::failure::{Code, Failure, Hint};
use crate::origin::Origin;
use crate::questions::{Open, Question, Questioner, Setting, Unanswered};

/// A token that the service refuses is asked for so often.
const MOST_TRIES: usize = 3;

/// Where answers come from.
const TYPED: Source = Source::Typed;

/// The last of the workspaces to choose from.
const ELSEWHERE: &str = "another workspace";

/// Whom to ask, and what has no other place among the flags and variables.
#[derive(Default)]
pub(crate) struct Talk {
    pub(crate) asker: Option<Rc<dyn Questioner>>,
    /// The dbt job that was chosen.
    pub(crate) job: Option<u64>,
    /// What was said about settings; nothing: it stays as it is.
    pub(crate) settings: BTreeMap<Setting, Option<String>>,
}

/// What would have made a question needless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Instead {
    /// A variable and its value; none is shown of a secret.
    Variable(&'static str, Option<String>),
    /// A flag and its value.
    Flag(&'static str, String),
    Argument(String),
}

/// Asks for everything that is open, in an order in which each answer can be checked with the ones before it.
pub(crate) async fn answer(open: &Open, stage: &mut Stage, asker: &dyn Questioner) -> Result<Vec<Instead>, Failure> {
    let Open { questions, pasted } = open;
    let pasted: Vec<(String, Link)> =
        pasted.iter().filter_map(|text| Some((text.clone(), Link::parse(text).ok()?))).collect();
    let mut talk = Talking { stage, asker, pasted, instead: Vec::new() };
    let has = |question: &Question| questions.contains(question);
    let mut credential = has(&Question::DatabricksCredential);
    if has(&Question::DatabricksHost) {
        credential = !talk.workspace(credential).await? && credential;
    }
    if credential {
        talk.databricks_token().await?;
    }
    for question in questions {
        if let Question::DatabricksToken { host } = question {
            talk.token_to_store(host.as_deref()).await?;
        }
    }
    let choice = questions.iter().find_map(|question| match question {
        Question::DbtJob { flag, project, environment } => {
            Some((*flag, Narrow { project: project.clone(), environment: environment.clone() }))
        }
        Question::DatabricksHost
        | Question::DatabricksCredential
        | Question::DatabricksToken { host: _ }
        | Question::DbtHost
        | Question::DbtAccount
        | Question::DbtToken
        | Question::DbtKey { tried: _ }
        | Question::Setting(_) => None,
    });
    // A job is looked for in an account, and with a token, that the rest of the command may not need.
    let looks = choice.is_some();
    if has(&Question::DbtHost) || (looks && talk.lacks_host()?) {
        talk.host().await?;
    }
    if has(&Question::DbtAccount) || (looks && talk.lacks_account()?) {
        talk.account().await?;
    }
    if has(&Question::DbtKey { tried: false }) {
        talk.dbt_token("dbt API key to store", false).await?;
    } else if has(&Question::DbtKey { tried: true }) {
        talk.dbt_token("dbt API key to store", true).await?;
    } else if has(&Question::DbtToken) || (looks && talk.lacks_token()?) {
        talk.dbt_token("Token for dbt", true).await?;
    }
    if let Some((flag, narrow)) = choice {
        talk.job(flag, &narrow).await?;
    }
    let settings = questions.iter().filter_map(|question| match question {
        Question::Setting(setting) => Some(*setting),
        Question::DatabricksHost
        | Question::DatabricksCredential
        | Question::DatabricksToken { host: _ }
        | Question::DbtHost
        | Question::DbtAccount
        | Question::DbtToken
        | Question::DbtKey { tried: _ }
        | Question::DbtJob { flag: _, project: _, environment: _ } => None,
    });
    talk.settings(&settings.collect::<Vec<_>>()).await?;
    Ok(talk.instead)
}

/// How a command ends that gets no answer. Questions come before anything is written.
pub(super) fn unanswered(unanswered: Unanswered) -> Failure {
    match unanswered {
        Unanswered::Interrupted => left_at_a_question(2, "Interrupted at a question."),
        Unanswered::EndOfInput => left_at_a_question(2, "The input ended at a question."),
        Unanswered::Broken(why) => Failure::new(Code::Failed, "The terminal cannot be used for a question.")
            .cause(why)
            .advise("use --no-input, which names every missing value with its flag and variable"),
    }
}

/// How a command ends that is left at a question, as if by this signal.
pub(crate) fn left_at_a_question(signal: u8, what: &str) -> Failure {
    Failure::new(Code::Interrupted(signal), what)
        .advise("nothing was written or started; --no-input names every missing value at once")
}

struct Talking<'a> {
    stage: &'a mut Stage,
    asker: &'a dyn Questioner,
    pasted: Vec<(String, Link)>,
    instead: Vec<Instead>,
}

impl Talking<'_> {
    /// What is wrong with an answer, before the question comes again.
    fn tell(&self, failure: &Failure) {
        let Failure { code: _, what, causes, hints, open: _ } = failure;
        self.stage.events.warning(what.as_str());
        for cause in causes {
            self.stage.events.remark(format!("  because: {cause}"));
        }
        for hint in hints {
            // The next answer is all that has to be given.
            let hint = match hint {
                Hint::DoAndSet { advice, set: _ } => (*advice).to_owned(),
                Hint::Run(_) | Hint::Add(_) | Hint::Do(_) | Hint::GiveEach => hint.to_string(),
            };
            self.stage.events.remark(format!("next: {hint}"));
        }
    }

    async fn choose(&self, prompt: &str, items: &[String]) -> Result<usize, Failure> {
        self.asker.choose(prompt, items).await.map_err(unanswered)
    }

    /// Asks for the workspace: a profile of the file, which may bring the credential with it, or an address. Says
    /// whether the credential is known now.
    async fn workspace(&mut self, credential: bool) -> Result<bool, Failure> {
        let offers: Vec<(String, String)> = profiles(&self.stage.context.environment)
            .into_iter()
            .filter(|(_, host)| Origin::parse(host).is_ok())
            .collect();
        if !offers.is_empty() {
            let mut items: Vec<String> = offers.iter().map(|(name, host)| format!("{name}: {host}")).collect();
            items.push(ELSEWHERE.to_owned());
            let chosen = self.choose("Databricks workspace, by its profile", &items).await?;
            if let Some((name, host)) = offers.into_iter().nth(chosen) {
                let whole = self.stage.context.environment.with_profile(Some(&name));
                let mut wants = Wants::default();
                // A credential of the environment stays what it is; only the host comes from the file then.
                if credential && databricks(&whole, &self.stage.vault, &mut wants).is_some() && wants.settle().is_ok() {
                    self.stage.context.environment = whole;
                    self.instead.push(Instead::Flag("-p", name));
                    return Ok(true);
                }
                return self.take_host(&host).map(|()| false);
            }
        }
        loop {
            let typed = self.ask("Databricks host, such as https://dbc-a1b2345c-d6e7.cloud.databricks.com").await?;
            match self.take_host(&typed) {
                Ok(()) => return Ok(false),
                Err(failure) => self.tell(&failure),
            }
        }
    }

    async fn ask(&self, prompt: &str) -> Result<String, Failure> {
        self.asker.text(prompt).await.map(|typed| typed.trim().to_owned()).map_err(unanswered)
    }

    async fn databricks_token(&mut self) -> Result<(), Failure> {
        let host = check_host(&self.stage.context.environment)?.map(|host| host.value.to_string()).unwrap_or_default();
        let prompt = format!("Personal access token for {host}");
        let check = async |stage: &Stage| {
            let mut wants = Wants::default();
            let identity = databricks(&stage.context.environment, &stage.vault, &mut wants);
            wants.settle()?;
            match identity {
                Some(identity) => who(&to_databricks(&identity, stage)?.reader()).await.map(|_| ()),
                None => Err(Failure::new(Code::Bug, "The Databricks identity is settled and yet missing.")),
            }
        };
        self.token(&prompt, "DATABRICKS_TOKEN", check).await
    }

    async fn token_to_store(&mut self, host: Option<&str>) -> Result<(), Failure> {
        let flag = host.map(|host| Sourced::new(host.to_owned(), Source::Flag("--databricks")));
        let at = named_workspace(flag, &self.stage.context.environment)?
            .ok_or_else(|| Failure::new(Code::Bug, "A token is asked for, and no host."))?;
        let prompt = format!("Personal access token for {}", at.host.value);
        let check = async |stage: &Stage| {
            let Some(token) = stage.vault.kept("DATABRICKS_TOKEN") else {
                return Err(Failure::new(Code::Bug, "A token was typed and is not there."));
            };
            let identity = Databricks::with_token(at.clone(), Sourced::new(token, Source::Typed));
            who(&to_databricks(&identity, stage)?.reader()).await.map(|_| ())
        };
        self.token(&prompt, "DATABRICKS_TOKEN", check).await
    }

    /// Asks for a token, which the service has to accept. What is typed is known to the output's filter from then on.
    async fn token(
        &mut self,
        prompt: &str,
        variable: &'static str,
        check: impl AsyncFn(&Stage) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut tries = 0;
        loop {
            let mut typed = self.asker.secret(prompt).await.map_err(unanswered)?;
            let vault = &self.stage.vault;
            match vault.admit(std::mem::take(&mut *typed)) {
                Ok(secret) => vault.keep(variable, secret),
                Err(odd) => {
                    let what = format!("What was typed is no token: {odd}.");
                    self.tell(&Failure::new(Code::InvalidInput, what).advise("copy the token again, alone"));
                    continue;
                }
            }
            let Err(failure) = check(self.stage).await else { break };
            self.stage.vault.forget(variable);
            tries += 1;
            if !matches!(failure.code, Code::NotAuthenticated | Code::NotAllowed) || tries == MOST_TRIES {
                return Err(failure);
            }
            self.tell(&failure);
        }
        self.instead.push(Instead::Variable(variable, None));
        Ok(())
    }

    fn lacks_host(&self) -> Result<bool, Failure> {
        Ok(dbt_host(&self.stage.account, &self.pasted, &self.stage.context.environment)?.is_none())
    }

    fn lacks_account(&self) -> Result<bool, Failure> {
        Ok(account_id(&self.stage.account, &self.pasted, &self.stage.context.environment)?.is_none())
    }

    fn lacks_token(&self) -> Result<bool, Failure> {
        let Talking { stage, asker: _, pasted, instead: _ } = self;
        let environment = &stage.context.environment;
        Ok(api_token(&stage.account, pasted, environment, &stage.vault, &mut Wants::default())?.is_none())
    }

    async fn account(&mut self) -> Result<(), Failure> {
        loop {
            let typed = self.ask("Id of your dbt account, the number behind /deploy/ in its addresses").await?;
            let possible = read_account_id(&typed, TYPED);
            self.stage.account.dbt_account = Some(typed);
            let environment = &self.stage.context.environment;
            match possible.and_then(|_| account_id(&self.stage.account, &self.pasted, environment)) {
                Ok(found) => {
                    self.instead.push(Instead::Flag("--dbt-account", found.unwrap_or_default().to_string()));
                    return Ok(());
                }
                Err(failure) => self.tell(&failure),
            }
            self.stage.account.dbt_account = None;
        }
    }

    async fn dbt_token(&mut self, prompt: &str, tried: bool) -> Result<(), Failure> {
        if !tried {
            return self.token(prompt, "DBT_CLOUD_TOKEN", async |_: &Stage| Ok(())).await;
        }
        let mut wants = Wants::default();
        let account = account(&self.stage.account, &self.pasted, &self.stage.context.environment, &mut wants);
        wants.settle()?;
        let Some(account) = account else {
            return Err(Failure::new(Code::Bug, "The dbt account is settled and yet missing."));
        };
        // Nobody should type a token for a host that would not get it.
        account.check_bare_token("The dbt token")?;
        let prompt = format!("{prompt}, of account {} at {}", account.id, account.origin);
        let check = async |stage: &Stage| accepted(&account, stage).await;
        self.token(&prompt, "DBT_CLOUD_TOKEN", check).await
    }

    async fn job(&mut self, flag: Option<&'static str>, narrow: &Narrow) -> Result<(), Failure> {
        let (account, reader) = line_to_dbt(&self.pasted, Wants::default(), self.stage)?;
        let places = Places::read(&reader, &account, narrow).await?;
        let jobs = jobs(&reader, &account, narrow, &places, None).await?;
        if jobs.is_empty() {
            let what = format!("No dbt job shows in account {} that could be chosen.", account.id);
            return Err(Failure::new(Code::NotFound, what)
                .cause("the token may not see any")
                .advise("give the job by its id or its address, or use a token that may see it"));
        }
        let items: Vec<String> = jobs
            .iter()
            .map(|job| {
                let project = job.project_id.map(|id| id.to_string());
                let project = places.name(job.project_id).map(|name| shown_name(Some(name))).or(project);
                let (name, project) = (shown_name(job.name.as_deref()), project.unwrap_or_default());
                // The id first: what does not fit is cut off, and is not found by typing then.
                format!("{}   {name}   {project}, {}", job.id, environment(job))
            })
            .collect();
        let chosen = self.choose("dbt job", &items).await?;
        let Some(job) = jobs.get(chosen) else {
            return Err(Failure::new(Code::Bug, "A job was chosen that is not in the list."));
        };
        self.stage.talk.job = Some(job.id);
        self.instead.extend(repeats(job, &jobs, narrow).map(|named| match flag {
            Some(flag) => Instead::Flag(flag, named),
            None => Instead::Argument(named),
        }));
        Ok(())
    }
}

/// How to name this job beside the flags that narrowed the list: they go with names only.
fn repeats(job: &Job, jobs: &[Job], narrow: &Narrow) -> Option<String> {
    if narrow.is_empty() {
        return Some(job.id.to_string());
    }
    let name = job.name.clone()?;
    (jobs.iter().filter(|other| other.name.as_deref() == Some(name.as_str())).count() == 1).then_some(name)
}

/// Asks dbt whether the token is good, and for this account.
async fn accepted(account: &Account, stage: &Stage) -> Result<(), Failure> {
    let Some(token) = stage.vault.kept("DBT_CLOUD_TOKEN") else {
        return Err(Failure::new(Code::Bug, "A token was typed and is not there."));
    };
    let token = Token::bare(Sourced::new(token, Source::Typed));
    init_secrets::validate(&to_dbt(account, &token, stage)?, account.id).await
}
