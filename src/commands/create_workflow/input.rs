//! Resolves flags and environment into complete values; reports everything missing at once.

use super::compute::ComputeArg;
use super::identity::{Flags, read_run_as, settle_grants};
use super::named::{JobArgs, Place};
use super::prerequisites::NotebookRequirements;
use super::{Args, add_to, compute, options};
use crate::commands::CommandContext;
use crate::commands::shared::grants::GrantTo;
use crate::commands::shared::job_named::Narrow;
use crate::commands::shared::workflow_named::WorkflowNamed;
use crate::credentials::{self, Account, Databricks, InputErrors, MissingInput, Source, Token};
use crate::databricks::permissions::JobLevel;
use crate::databricks::workspace::NotebookPath;
use crate::dbt::Link;
use crate::engine::{Consent, Consents};
use crate::failure::{Code, Failure};
use crate::http::Service;
use crate::questions::Question;
use crate::schedule::{BadSchedule, Schedule, Zone};
use crate::spec::{Setting, TaskSettings, TaskSpec, WorkflowSettings};

/// Longest name that Databricks accepts (databricks-api §5.1).
const LONGEST_NAME: usize = 4096;

const NO_NOTEBOOK: MissingInput = MissingInput::value(
    "the notebook",
    "--notebook PATH, or the ID of its dbt account with --dbt-account or DBT_CLOUD_ACCOUNT_ID",
    Some(Question::DbtAccount),
);

/// The command that creates the workflow.
pub(in crate::commands) enum Caller {
    /// `create-workflow`, which does not need dbt if the workflow has a name.
    CreateWorkflow,
    /// `setup`, which also needs the dbt account for its notebook. Without another token it uses the key that it
    /// stores.
    Setup { key: Option<Box<Token>> },
}

/// Everything known before any request.
pub(in crate::commands) struct Input {
    pub(in crate::commands) databricks: Databricks,
    /// The jobs as given.
    pub(super) asked: JobArgs,
    /// At least one, once names are resolved.
    pub(in crate::commands) jobs: Vec<TaskSpec>,
    pub(super) name: Option<String>,
    /// The existing workflow that gets the task.
    pub(super) add_to: Option<AddTo>,
    /// ID of the dbt account.
    pub(super) account: Option<u64>,
    /// Account and token for looking up the dbt job.
    pub(in crate::commands) dbt: Option<Account>,
    pub(in crate::commands) token: Option<Token>,
    pub(super) notebook: Option<NotebookPath>,
    pub(super) compute: Setting<ComputeArg>,
    pub(super) each_task: TaskSettings,
    pub(super) settings: WorkflowSettings,
    pub(super) grant_run_as: bool,
    pub(super) grants: Vec<GrantTo<JobLevel>>,
    pub(super) consents: Consents,
}

/// A workflow as the user named it.
pub(super) struct AddTo {
    pub(super) text: String,
    pub(super) named: WorkflowNamed,
}

impl Input {
    /// What the notebook must provide.
    pub(in crate::commands) fn requirements(&self) -> NotebookRequirements<'_> {
        NotebookRequirements {
            notebook: self.notebook.as_ref(),
            account: self.account,
            jobs: self.jobs.iter().map(|task| task.job).collect(),
            host: self.dbt.as_ref().map(|account| &account.origin),
        }
    }

    /// Whether the name of the workflow is known without dbt.
    pub(super) fn is_named(&self) -> bool {
        self.name.is_some() || self.add_to.is_some()
    }

    /// Resolves jobs given by name.
    pub(in crate::commands) async fn find_jobs(&mut self, ctx: &CommandContext) -> Result<(), Failure> {
        if let Some((account, token)) = self.dbt.as_ref().zip(self.token.as_ref()).filter(|_| self.asked.has_names()) {
            self.jobs = self.asked.find(account, token, ctx).await?;
        }
        Ok(())
    }
}

pub(super) fn settle(args: Args, ctx: &CommandContext) -> Result<Input, Failure> {
    add_to::check_flags(&args)?;
    let mut errors = InputErrors::default();
    let input = collect(args, Caller::CreateWorkflow, ctx, &mut errors);
    errors.settle()?;
    input.ok_or_else(|| Failure::new(Code::Bug, "input is missing after it was resolved"))
}

/// Reads all flags. Adds everything missing or wrong to `errors`; `None` if there is any.
pub(in crate::commands) fn collect(
    args: Args,
    caller: Caller,
    ctx: &CommandContext,
    errors: &mut InputErrors,
) -> Option<Input> {
    let Args {
        job: given,
        depends_on,
        name,
        notebook,
        compute,
        policy,
        cluster_json,
        schedule,
        timezone,
        no_schedule,
        paused,
        unpaused,
        overrides,
        tag,
        notify,
        retries,
        task_timeout,
        add_to,
        task_key,
        narrow,
        identity: Flags { run_as, grant_run_as, grant },
        check: _,
        run_now: _,
        adopt,
        force,
        dry_run: _,
    } = args;
    // clap allows only one of the two.
    let paused = (paused || unpaused).then_some(paused);
    let environment = &ctx.context.environment;
    let place = if add_to.is_some() { Place::Other { task_key } } else { Place::Own };
    let given = given_jobs(given, ctx, &narrow, errors);
    let asked = JobArgs::read(&given, narrow, place, depends_on, errors);
    let jobs = match asked.tasks() {
        // If a job is missing, its key would be reported as missing too.
        Some(tasks) if asked.len() == given.len() => errors.optional(tasks.map(Some)).unwrap_or_default(),
        Some(_) | None => Vec::new(),
    };
    let name = errors.optional(name.map(check_name).transpose());
    let zone = errors.optional(timezone.map(|text| read_zone(&text, &Source::Flag("--timezone"))).transpose());
    let schedule = errors.optional(
        schedule.map(|text| read_schedule(&text, &Source::Flag("--schedule"), zone.as_ref(), ctx)).transpose(),
    );
    let compute = compute::parse_flags(compute.as_deref(), policy, cluster_json.as_ref());
    let compute = errors.optional(compute.map(Some)).unwrap_or_default();
    let overrides = errors.optional(options::overrides(overrides).map(Some)).unwrap_or_default();
    let tags = errors.optional(options::tags(tag).map(Some)).unwrap_or_default();
    let notify = errors.optional(options::addresses(notify).map(Some)).unwrap_or_default();
    let run_as = errors.optional(run_as.map(|text| read_run_as(&text, &Source::Flag("--run-as"))).transpose());
    let grants = errors.optional(settle_grants(grant).map(Some)).unwrap_or_default();
    let databricks = credentials::databricks(environment, &ctx.vault, errors);
    let own = databricks.as_ref().map(|identity| &identity.origin);
    let add_to = add_to.map(|text| WorkflowNamed::read(&text, own).map(|named| AddTo { text, named }));
    let is_named = name.is_some() || add_to.is_some();
    let add_to = errors.optional(add_to.transpose());
    let (account, dbt, token) = of_dbt(&asked, is_named, notebook.is_some(), caller, ctx, errors);
    let consents = Consents::default().with(Consent::Adopt, adopt).with(Consent::Force, force);
    Some(Input {
        databricks: databricks?,
        asked,
        jobs,
        name,
        add_to,
        account,
        dbt,
        token,
        notebook,
        compute,
        each_task: TaskSettings {
            retries: retries.into(),
            timeout: task_timeout.map(|limit| limit.as_secs()).into(),
            overrides,
        },
        settings: WorkflowSettings {
            schedule: if no_schedule {
                Setting::Clear
            } else {
                schedule.map(|schedule| schedule.expression().to_owned()).into()
            },
            timezone: zone.map(|zone| zone.name().to_owned()).into(),
            paused: paused.into(),
            notify,
            tags,
            run_as: run_as.into(),
        },
        grant_run_as,
        grants,
        consents,
    })
}

/// The ID of the dbt account, and account and token for looking up jobs, as far as needed or available.
fn of_dbt(
    asked: &JobArgs,
    has_name: bool,
    has_notebook: bool,
    caller: Caller,
    ctx: &CommandContext,
    errors: &mut InputErrors,
) -> (Option<u64>, Option<Account>, Option<Token>) {
    let environment = &ctx.context.environment;
    let pasted = asked.pasted();
    // Errors of dbt's credential file matter only if a token is needed.
    let mut tried = InputErrors::default();
    let token = credentials::api_token(&ctx.account, &pasted, environment, &ctx.vault, &mut tried);
    let (is_setup, key) = match caller {
        Caller::CreateWorkflow => (false, None),
        Caller::Setup { key } => (true, key),
    };
    let token = token.map(|token| token.or(key.map(|key| *key)));
    if !has_name && asked.len() > 1 {
        let give = "--name NAME (required for several jobs)";
        errors.need(Ok(None::<u64>), MissingInput::value("the name of the workflow", give, None));
        return (None, None, None);
    }
    if !has_name || asked.has_names() || is_setup {
        // dbt provides the name of the workflow or the ID of the job.
        let account = credentials::account(&ctx.account, &pasted, environment, errors);
        errors.join(tried);
        let ask = Some(Question::DbtToken);
        let missing = MissingInput::sign_in(Service::Dbt, "DBT_CLOUD_TOKEN", environment, ask);
        let missing = if asked.has_names() {
            missing.or("pass the job's ID to --job")
        } else if is_setup {
            missing
        } else {
            missing.or("pass --name")
        };
        // Where the scope has a key, the check of the workflow asks dbt with it.
        let token = if is_setup && ctx.prompts.key_is_stored && !asked.has_names() {
            errors.optional(token)
        } else {
            errors.need(token, missing)
        };
        return (account.as_ref().map(|account| account.id), account, token);
    }
    let token = errors.optional(token);
    let id = errors.optional(credentials::account_id(&ctx.account, &pasted, environment));
    if id.is_none() && !has_notebook {
        errors.need(Ok(None::<u64>), NO_NOTEBOOK);
    }
    let account = id.filter(|_| token.is_some()).and_then(|_| whole_account(ctx, &pasted, errors));
    (id, account, token)
}

/// The jobs of the command line, or the job chosen at a prompt.
fn given_jobs(given: Vec<String>, ctx: &CommandContext, narrow: &Narrow, errors: &mut InputErrors) -> Vec<String> {
    if !given.is_empty() {
        return given;
    }
    let missing = MissingInput::value(
        "the dbt job",
        "--job with its ID, URL, or name; `dbtrigger jobs` lists them",
        Some(Question::DbtJob {
            flag: Some("--job"),
            project: narrow.project.clone(),
            environment: narrow.environment.clone(),
        }),
    );
    let chosen = errors.need(Ok(ctx.prompts.job), missing);
    chosen.iter().map(ToString::to_string).collect()
}

/// The account, if host and ID are known. Invalid values are errors, missing ones are not.
fn whole_account(ctx: &CommandContext, pasted: &[(String, Link)], errors: &mut InputErrors) -> Option<Account> {
    let mut own = InputErrors::default();
    let account = credentials::account(&ctx.account, pasted, &ctx.context.environment, &mut own);
    match own.settle() {
        Ok(()) => account,
        Err(failure) if failure.code == Code::MissingInput => None,
        Err(failure) => errors.optional(Err(failure)),
    }
}

fn check_name(name: String) -> Result<String, Failure> {
    let reason = if name.trim().is_empty() {
        "it is empty"
    } else if name.trim() != name {
        "it starts or ends with whitespace"
    } else if name.chars().any(char::is_control) {
        "it contains a line break or another control character"
    } else if name.len() > LONGEST_NAME {
        "Databricks allows at most 4096 bytes"
    } else {
        return Ok(name);
    };
    Err(Failure::new(Code::InvalidInput, format!("--name is invalid: {reason}"))
        .advise("pass the name to show in the workspace"))
}

pub(in crate::commands) fn read_zone(text: &str, source: &Source) -> Result<Zone, Failure> {
    Zone::parse(text).map_err(|bad| {
        Failure::new(Code::InvalidInput, format!("{source} is \"{text}\", which cannot be used: {bad}"))
            .advise("use an IANA name such as Europe/Berlin, America/New_York, or UTC")
    })
}

pub(in crate::commands) fn read_schedule(
    text: &str,
    source: &Source,
    zone: Option<&Zone>,
    ctx: &CommandContext,
) -> Result<Schedule, Failure> {
    let zone = zone.cloned().unwrap_or_else(Zone::utc);
    Schedule::parse(text, zone, ctx.context.wall.now()).map_err(|bad| {
        let failure =
            Failure::new(Code::InvalidInput, format!("{source} is \"{text}\", which cannot be used: {bad}"));
        match bad {
            BadSchedule::Unix { quartz: Some(meant) } | BadSchedule::NotQuartz { reason: _, meant: Some(meant) } => {
                if let Source::Typed = source {
                    failure.advise(format!("write {meant}"))
                } else {
                    failure.advise(format!("write {source} '{meant}'"))
                }
            }
            BadSchedule::Unix { quartz: None }
            | BadSchedule::NotQuartz { reason: _, meant: None }
            | BadSchedule::Never
            | BadSchedule::Zone => failure.advise(
                "use seconds, minutes, hours, day of month, month, day of week, such as '0 0 6 ? * MON-FRI' for 6 a.m. on weekdays",
            ),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_nobody_could_find_again_are_refused() {
        for name in ["", "  ", " x", "x\n", "a\u{1b}[31m", &"x".repeat(4097)] {
            assert!(check_name(name.to_owned()).is_err(), "{name:?}");
        }
        assert_eq!(check_name("Täglich: dbt (1)".to_owned()).unwrap(), "Täglich: dbt (1)");
    }
}
