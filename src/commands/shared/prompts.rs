//! Prompts for missing values, and stores the answers where flags and variables would be.
//!
//! A command fails with its open questions and is run again with the answers. Nothing is written before that.

mod dbt;
mod hosts;
mod runs;
mod settings;

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::Rc;

use self::dbt::KeyQuestion;
use crate::commands::shared::job_argument::{JobArgument, JobFilterFlags};
use crate::commands::shared::provision::who;
use crate::commands::shared::run_argument::RunArgument;
use crate::commands::{CommandContext, databricks_client};
use crate::context::Environment;
use crate::credentials::{Databricks, InputErrors, Source, Sourced, check_host, databricks, named_workspace, profiles};
use crate::databricks::secrets::{self, KeyName, ScopeName};
use crate::dbt::Link;
use crate::events::Event;
use crate::failure::{Code, Failure, Hint};
use crate::line::Line;
use crate::origin::Origin;
use crate::questions::{OpenQuestions, PlanSetting, Prompter, Question, Unanswered};

/// Maximum number of attempts at entering a token.
const MOST_TRIES: usize = 3;

/// State note of a prompt: prompts come before any write.
pub(crate) const NOTHING_WRITTEN: &str = "nothing was written";

/// Source of typed answers.
const TYPED: Source = Source::Typed;

/// Last item in the list of workspaces.
const ELSEWHERE: &str = "another workspace";

/// The prompter, and answers that have no other place among flags and variables.
#[derive(Default)]
pub(crate) struct Prompts {
    pub(crate) prompter: Option<Rc<dyn Prompter>>,
    /// The scope already has a dbt API key, so none is asked for.
    pub(crate) key_is_stored: bool,
    /// The dbt job that was chosen.
    pub(crate) job: Option<u64>,
    /// The run that was chosen.
    pub(crate) run: Option<RunArgument>,
    /// Shared with what handles a signal at a prompt.
    pub(crate) answers: Rc<RefCell<Answers>>,
    /// What is not done if a prompt is left, if the command does anything.
    pub(crate) undone: Option<&'static str>,
}

/// The answers so far, as they would be given on the command line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    pub(crate) instead: Vec<Instead>,
    /// Edited settings of the plan; `None` restores the default.
    pub(crate) settings: BTreeMap<PlanSetting, Option<String>>,
}

impl Answers {
    pub(crate) fn is_empty(&self) -> bool {
        self.instead.is_empty() && self.settings.is_empty()
    }
}

/// A flag or variable that would have made a prompt unnecessary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Instead {
    /// Name and value; no value for a secret.
    Variable(&'static str, Option<String>),
    /// Name and value.
    Flag(&'static str, String),
    Argument(String),
}

/// Asks all open questions, in an order that lets each answer be checked with the previous ones.
pub(crate) async fn answer(
    open: &OpenQuestions,
    ctx: &mut CommandContext,
    prompter: &dyn Prompter,
) -> Result<(), Failure> {
    let OpenQuestions { questions, pasted, tried: _ } = open;
    let pasted: Vec<(String, Link)> =
        pasted.iter().filter_map(|text| Some((text.clone(), Link::parse(text).ok()?))).collect();
    let mut prompts = Dialog { ctx, prompter, pasted, named: None, job_flag: None };
    ask_all(questions, &mut prompts).await
}

async fn ask_all(questions: &[Question], prompts: &mut Dialog<'_>) -> Result<(), Failure> {
    let (mut databricks_host, mut credential) = (false, false);
    let (mut dbt_host, mut dbt_account, mut dbt_token) = (false, false, false);
    let (mut token_to_store, mut to_store) = (None, None);
    let (mut choice, mut run, mut edited) = (None, None, None);
    for question in questions {
        match question {
            Question::DatabricksHost => databricks_host = true,
            Question::DatabricksCredential => credential = true,
            Question::DatabricksToken { host } => token_to_store = Some(host.as_deref()),
            Question::DbtHost => dbt_host = true,
            Question::DbtAccount => dbt_account = true,
            Question::DbtToken => dbt_token = true,
            Question::DbtKey { tried, unless_stored } => to_store = Some((*tried, unless_stored.as_ref())),
            Question::DbtJob { flag, project, environment } => {
                choice = Some((*flag, JobFilterFlags { project: project.clone(), environment: environment.clone() }));
            }
            Question::Run { active } => run = Some(*active),
            Question::Setting { setting, now } => edited = Some((*setting, now)),
        }
    }
    let mut typed_host = false;
    if databricks_host {
        let found = prompts.workspace(credential).await?;
        credential = credential && found != Workspace::Profile;
        typed_host = found == Workspace::Typed;
    }
    if credential {
        while let Err(failure) = prompts.databricks_token().await {
            if !typed_host || !is_about_the_host(failure.code) {
                return Err(failure);
            }
            prompts.tell(&failure);
            prompts.databricks_host().await?;
        }
    }
    if let Some(host) = token_to_store {
        prompts.token_to_store(host).await?;
    }
    prompts.job_flag = choice.as_ref().and_then(|(flag, _)| *flag);
    // Listing jobs needs an account and a token, even if the rest of the command does not.
    let looks = choice.is_some();
    if looks && (prompts.lacks_host()? || prompts.lacks_account()?) {
        prompts.address().await?;
    }
    if (looks || dbt_host) && prompts.lacks_host()? {
        prompts.host().await?;
    }
    let account = (looks || dbt_account) && prompts.lacks_account()?;
    let stored = match &to_store {
        Some((_, Some((scope, key)))) => prompts.is_stored(scope, key).await,
        Some((_, None)) | None => false,
    };
    let names_job = matches!(prompts.named, Some(JobArgument::Id(_)));
    let key = if stored && (!looks || names_job) {
        KeyQuestion::None
    } else if let Some((tried, _)) = to_store.filter(|_| !stored) {
        if tried { KeyQuestion::ToStore } else { KeyQuestion::ToStoreUntried }
    } else if dbt_token || (looks && prompts.lacks_token()?) {
        KeyQuestion::Token
    } else {
        KeyQuestion::None
    };
    prompts.key_and_account(key, account).await?;
    if let Some((flag, job_filter)) = choice {
        prompts.job(flag, &job_filter).await?;
    }
    if let Some(active) = run {
        prompts.run(active).await?;
    }
    if let Some((setting, now)) = edited {
        prompts.setting(setting, now).await?;
    }
    Ok(())
}

/// Whether another host may help, because this one is unreachable or is not the service.
fn is_about_the_host(code: Code) -> bool {
    matches!(code, Code::Network | Code::Tls | Code::UnexpectedResponse | Code::NotFound | Code::Unavailable)
}

/// How the workspace was determined.
#[derive(PartialEq, Eq)]
enum Workspace {
    /// A profile, with its credential.
    Profile,
    /// The host of a profile without a usable credential.
    ProfileHost,
    Typed,
}

/// The failure if a prompt gets no answer; `state` says what was done, or was not.
pub(in crate::commands) fn unanswered_at(unanswered: Unanswered, state: Option<&str>) -> Failure {
    match unanswered {
        Unanswered::Interrupted => canceled(Some(2), state),
        Unanswered::EndOfInput => {
            left(Some(2), "input ended at a prompt", state).advise("use --no-input to list every missing value at once")
        }
        Unanswered::Broken(why) => Failure::new(Code::Failed, "cannot prompt on this terminal")
            .cause(why)
            .advise("use --no-input to list every missing value with its flag and variable"),
    }
}

/// The failure if the user answers no, or leaves a prompt as if by this signal.
pub(crate) fn canceled(signal: Option<u8>, state: Option<&str>) -> Failure {
    left(signal, "canceled", state)
}

fn left(signal: Option<u8>, what: &str, state: Option<&str>) -> Failure {
    let failure = Failure::new(Code::Cancelled(signal), what);
    match state {
        Some(state) => failure.state(state),
        None => failure,
    }
}

struct Dialog<'a> {
    ctx: &'a mut CommandContext,
    prompter: &'a dyn Prompter,
    pasted: Vec<(String, Link)>,
    /// The job, as entered at the prompt for its URL.
    named: Option<JobArgument>,
    /// The flag that names the job; none for an argument.
    job_flag: Option<&'static str>,
}

impl Dialog<'_> {
    fn instead(&self) -> RefMut<'_, Vec<Instead>> {
        RefMut::map(self.ctx.prompts.answers.borrow_mut(), |answers| &mut answers.instead)
    }

    /// The failure if a prompt gets no answer.
    fn unanswered(&self, reason: Unanswered) -> Failure {
        unanswered_at(reason, self.ctx.prompts.undone)
    }

    /// Whether the scope already has this key; false if that cannot be read.
    async fn is_stored(&mut self, scope: &str, key: &str) -> bool {
        let environment = &self.ctx.context.environment;
        let identity = databricks(environment, &self.ctx.vault, &mut InputErrors::default());
        let (Ok(scope), Ok(key), Some(identity)) = (scope.parse::<ScopeName>(), key.parse::<KeyName>(), identity)
        else {
            return false;
        };
        let Ok(writer) = databricks_client(&identity, self.ctx) else { return false };
        let stored =
            writer.read(secrets::list(&scope)).await.is_ok_and(|keys| keys.iter().any(|info| info.key == key.as_str()));
        if stored {
            self.ctx.events.remark(format!("API key: kept in {scope}/{key} (replace it with --rotate)"));
            self.ctx.prompts.key_is_stored = true;
        }
        stored
    }

    /// Explains what is wrong with an answer, before the prompt is repeated.
    fn tell(&self, failure: &Failure) {
        let Failure { code: _, what, causes: _, hints, open_questions: _ } = failure;
        self.ctx.events.warning(what.as_str());
        for cause in failure.main_causes() {
            self.ctx.events.remark(format!("  cause: {cause}"));
        }
        for hint in hints {
            // At a prompt, only the advice is useful, not the flags.
            let hint = match hint {
                Hint::Against(remedy) => Line::Prose(format!("next: {}", remedy.advice())),
                Hint::Run { .. } | Hint::Anyway { .. } | Hint::Add(_) | Hint::Do(_) => hint.line(),
            };
            self.ctx.events.emit(Event::Remark(hint));
        }
    }

    async fn choose(&self, prompt: &str, items: &[String]) -> Result<usize, Failure> {
        self.prompter.choose(prompt, items).await.map_err(|reason| self.unanswered(reason))
    }

    /// Asks for the workspace: a profile, which may have a credential, or a host. If the only profile works, it is used
    /// without a prompt.
    async fn workspace(&mut self, credential: bool) -> Result<Workspace, Failure> {
        let mut offers: Vec<(String, String)> = profiles(&self.ctx.context.environment)
            .into_iter()
            .filter(|(_, host)| Origin::parse(host).is_ok())
            .collect();
        if let [(name, host)] = offers.as_slice()
            && credential
            && let Some(environment) = self.with_profile(name)
            && works(&environment, self.ctx).await
        {
            self.ctx.events.remark(format!("Using the profile {name} ({host})"));
            self.ctx.context.environment = environment;
            self.instead().push(Instead::Flag("-p", name.clone()));
            return Ok(Workspace::Profile);
        }
        if !offers.is_empty() {
            let mut items: Vec<String> = offers.iter().map(|(name, host)| format!("{name}   {host}")).collect();
            items.push(ELSEWHERE.to_owned());
            let chosen = self.choose("Databricks workspace", &items).await?;
            if chosen < offers.len() {
                let (name, host) = offers.swap_remove(chosen);
                // A credential from the environment is kept, and only the host is taken from the profile.
                if credential && let Some(environment) = self.with_profile(&name) {
                    self.ctx.context.environment = environment;
                    self.instead().push(Instead::Flag("-p", name));
                    return Ok(Workspace::Profile);
                }
                return self.take_host(&host).map(|()| Workspace::ProfileHost);
            }
        }
        self.databricks_host().await.map(|()| Workspace::Typed)
    }

    async fn databricks_host(&mut self) -> Result<(), Failure> {
        loop {
            let typed = self.ask("Databricks host (the URL of your workspace)", "").await?;
            match self.take_host(&typed) {
                Ok(()) => return Ok(()),
                Err(failure) => self.tell(&failure),
            }
        }
    }

    /// The environment with this profile, if it has a credential.
    fn with_profile(&self, name: &str) -> Option<Environment> {
        let environment = self.ctx.context.environment.with_profile(Some(name));
        let mut errors = InputErrors::default();
        let found = databricks(&environment, &self.ctx.vault, &mut errors);
        (found.is_some() && errors.settle().is_ok()).then_some(environment)
    }

    async fn ask(&self, prompt: &str, initial: &str) -> Result<String, Failure> {
        self.prompter
            .text(prompt, initial)
            .await
            .map(|typed| typed.trim().to_owned())
            .map_err(|reason| self.unanswered(reason))
    }

    /// Returns one key in lower case; Enter is the upper-case one in `keys`.
    async fn key(&self, prompt: &str, keys: &str) -> Result<char, Failure> {
        self.prompter.key(prompt, keys).await.map_err(|reason| self.unanswered(reason))
    }

    async fn databricks_token(&mut self) -> Result<(), Failure> {
        let host = check_host(&self.ctx.context.environment)?.map(|host| host.value.to_string()).unwrap_or_default();
        let prompt = format!("Databricks personal access token for {host}");
        let check = async |ctx: &CommandContext| {
            let mut errors = InputErrors::default();
            let identity = databricks(&ctx.context.environment, &ctx.vault, &mut errors);
            let identity = errors.settled(identity)?;
            who(&databricks_client(&identity, ctx)?.reader()).await.map(|_| ())
        };
        self.token(&prompt, "DATABRICKS_TOKEN", check).await
    }

    async fn token_to_store(&mut self, host: Option<&str>) -> Result<(), Failure> {
        let flag = host.map(|host| Sourced::new(host.to_owned(), Source::Flag("--databricks")));
        let at = named_workspace(flag, &self.ctx.context.environment)?
            .ok_or_else(|| Failure::new(Code::Bug, "a token prompt needs a host"))?;
        let prompt = format!("Databricks personal access token for {}", at.host.value);
        let check = async |ctx: &CommandContext| {
            let Some(token) = ctx.vault.kept("DATABRICKS_TOKEN") else {
                return Err(Failure::new(Code::Bug, "the typed token is missing"));
            };
            let identity = Databricks::with_token(at.clone(), Sourced::new(token, Source::Typed));
            who(&databricks_client(&identity, ctx)?.reader()).await.map(|_| ())
        };
        self.token(&prompt, "DATABRICKS_TOKEN", check).await
    }

    /// Asks for a token until the service accepts it. The output filter masks it from then on.
    async fn token(
        &mut self,
        prompt: &str,
        variable: &'static str,
        check: impl AsyncFn(&CommandContext) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut tries = 0;
        loop {
            let mut typed = self.prompter.secret(prompt).await.map_err(|reason| self.unanswered(reason))?;
            let vault = &self.ctx.vault;
            match vault.admit(std::mem::take(&mut *typed)) {
                Ok(secret) => vault.keep(variable, secret),
                Err(odd) => {
                    let what = format!("not a token: {odd}");
                    self.tell(&Failure::new(Code::InvalidInput, what).advise("copy only the token and try again"));
                    continue;
                }
            }
            let Err(failure) = check(self.ctx).await else { break };
            self.ctx.vault.forget(variable);
            tries += 1;
            if !matches!(failure.code, Code::NotAuthenticated | Code::NotAllowed) || tries == MOST_TRIES {
                return Err(failure);
            }
            self.tell(&failure);
        }
        let given = Instead::Variable(variable, None);
        if !self.instead().contains(&given) {
            self.instead().push(given);
        }
        Ok(())
    }
}

/// Whether Databricks accepts the credential in this environment.
async fn works(environment: &Environment, ctx: &CommandContext) -> bool {
    let mut errors = InputErrors::default();
    let Some(identity) = databricks(environment, &ctx.vault, &mut errors) else { return false };
    let Ok(writer) = databricks_client(&identity, ctx) else { return false };
    who(&writer.reader()).await.is_ok()
}
