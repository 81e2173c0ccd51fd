//! The arguments of `create-workflow`, and how they become a spec.

use std::path::PathBuf;
use std::time::Duration;

use super::input::{Caller, Input};
use super::job_arguments::{JobArguments, TargetWorkflow};
use crate::commands::CommandContext;
use crate::commands::shared::job_argument::JobFilterFlags;
use crate::credentials::InputErrors;
use crate::databricks::permissions::JobLevel;
use crate::databricks::workspace::NotebookPath;
use crate::durations;
use crate::engine::{Consent, Consents};
use crate::failure::{Code, Failure};
use crate::spec::grants::{self, GrantTo};
use crate::spec::{
    Setting, TaskSettings, WorkflowSettings, WorkflowSpec, options, parse_flags, read_name, read_run_as, read_start,
};

/// How long a created job may be missing from lists after its response was lost.
pub(super) const SETTLE: Duration = Duration::from_mins(1);
/// Notes of a dry run for `--check` and `--run-now`.
pub(in crate::commands) const THEN_CHECKED: &str = "Then: check it with a run that starts nothing in dbt.";
pub(in crate::commands) const THEN_RUN: &str = "Then: run it and follow the run.";

/// Create or update the Databricks job
///
/// Creates a Databricks job with one notebook task and the job parameter job_id; serverless unless --compute says otherwise. For
/// several dbt jobs, each gets a task with its own job_id and a key such as dbt_222222. A job that this command created before
/// is found by its tag, even if it was renamed, and updated. Settings made by others (notifications, parameters, tags, tasks) are
/// kept, and so is every setting whose flag you leave out.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  dbtrigger create-workflow --job 222222 --schedule '0 0 6 * * ?' --timezone Europe/Berlin
  dbtrigger create-workflow --job 222222 --check --run-now
  dbtrigger create-workflow --job 'Nightly build' --project 'Jaffle Shop'
  dbtrigger create-workflow --job 222222 --retries 1 --tag team=bi --notify ops@example.com
  dbtrigger create-workflow --name Both --job one=222222 --job two=222225 --depends-on two=one
  dbtrigger create-workflow --job 222222 --compute new
  dbtrigger create-workflow --add-to 'Daily load' --job 222222 --depends-on dbt_222222=load
  dbtrigger create-workflow --job 222222 --grant data-team --no-schedule
  dbtrigger create-workflow --job 222222 --run-as bo@example.com --grant-run-as")]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag, as clap reads them")]
pub(crate) struct Args {
    /// Show the plan and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Overwrite manual edits in what dbtrigger manages
    #[arg(long, hide_short_help = true)]
    pub(super) force: bool,
    /// Take over a job with the same name, or a task with the same key, that dbtrigger did not create
    #[arg(long, hide_short_help = true)]
    pub(super) adopt: bool,
    /// dbt job: ID, URL, or name; repeat for one task each
    #[arg(long, value_name = "[KEY=]JOB", help_heading = "Job")]
    pub(super) job: Vec<String>,
    /// Tasks that a task waits for; repeatable, none clears [default: unchanged, or none]
    #[arg(long, value_name = "KEY=KEY[,KEY]", help_heading = "Job", hide_short_help = true)]
    pub(super) depends_on: Vec<Setting<String>>,
    /// Name of the workflow
    #[arg(
        long,
        value_name = "NAME",
        help_heading = "Job",
        help = "Name [default: dbt: <job name> (<job ID>)]",
        long_help = "Name of the workflow; required for several jobs, and skips the dbt lookup [default: dbt: <job name> \
                     (<job ID>)]"
    )]
    pub(super) name: Option<String>,
    /// Compute, as `ComputeSpec` reads it.
    #[arg(
        long,
        value_name = "COMPUTE",
        help_heading = "Compute",
        help = "What to run on: serverless, cluster:ID, job-cluster:KEY, or new[:NODE_TYPE]",
        long_help = "What to run on: serverless, cluster:ID, job-cluster:KEY, or new[:NODE_TYPE]\n\n\"new\" creates the smallest cluster for each run [default: unchanged, or serverless]"
    )]
    pub(super) compute: Option<String>,
    /// Cluster policy of a new cluster
    #[arg(long, value_name = "ID", help_heading = "Compute", hide_short_help = true)]
    pub(super) policy: Option<String>,
    /// File with the new cluster as JSON: the object under new_cluster in a job
    #[arg(long, value_name = "FILE", conflicts_with_all = ["compute", "policy"], help_heading = "Compute", hide_short_help = true)]
    pub(super) cluster_json: Option<PathBuf>,
    #[command(flatten)]
    pub(super) workflow: WorkflowFlags,
    /// Remove the schedule
    #[arg(long, conflicts_with_all = ["schedule", "timezone", "paused", "unpaused"], help_heading = "Schedule", hide_short_help = true)]
    pub(super) no_schedule: bool,
    /// Pause the schedule
    #[arg(long, conflicts_with = "unpaused", help_heading = "Schedule")]
    pub(super) paused: bool,
    /// Resume the schedule
    #[arg(long, help_heading = "Schedule", hide_short_help = true)]
    pub(super) unpaused: bool,
    /// Override for every dbt run, such as git_branch=main; repeatable, none clears [default: unchanged, or none]
    ///
    /// The notebook must allow it: see `deploy-notebook --allow-override`.
    #[arg(long = "override", value_name = "KEY=VALUE", help_heading = "Run options", hide_short_help = true)]
    pub(super) overrides: Vec<Setting<String>>,
    /// Add a tag to the workflow; repeatable
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Job", hide_short_help = true)]
    pub(super) tag: Vec<String>,
    /// Email this address when a run fails; repeatable, none clears [default: unchanged, or none]
    #[arg(long, value_name = "EMAIL", help_heading = "Run options", hide_short_help = true)]
    pub(super) notify: Vec<Setting<String>>,
    /// Retry a failed task up to N times; a retry resumes or repeats the dbt run [default: unchanged, or 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100), help_heading = "Run options", hide_short_help = true)]
    pub(super) retries: Option<u32>,
    /// Time limit of a task [default: unchanged, or 24h10m: ten minutes longer than the notebook waits]
    #[arg(long, value_name = "DURATION", value_parser = durations::whole_seconds, help_heading = "Run options", hide_short_help = true)]
    pub(super) task_timeout: Option<Duration>,
    /// Add a task to this workflow instead (ID, URL, name)
    ///
    /// Nothing else in the workflow is changed.
    #[arg(long, value_name = "WORKFLOW", help_heading = "Job")]
    pub(super) add_to: Option<String>,
    /// Key of the added task.
    #[arg(
        long,
        value_name = "KEY",
        requires = "add_to",
        help_heading = "Job",
        hide_short_help = true,
        help = "Key of the added task, such as load [default: dbt_<job ID>]"
    )]
    pub(super) task_key: Option<String>,
    #[command(flatten, next_help_heading = "Job")]
    pub(super) job_filter: JobFilterFlags,
    #[command(flatten, next_help_heading = "Access")]
    pub(super) identity: IdentityFlags,
    /// Check the setup with a run that starts nothing in dbt
    ///
    /// The run uses the workflow's identity and compute, reads the key, and connects to dbt.
    #[arg(long, help_heading = "Run options")]
    pub(super) check: bool,
    /// Run the workflow now and exit with its outcome
    #[arg(long, help_heading = "Run options")]
    pub(super) run_now: bool,
}

/// The flags of a workflow that `setup` has too.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::commands) struct WorkflowFlags {
    /// The deployed notebook
    #[arg(
        long,
        alias = "path",
        value_name = "PATH",
        help_heading = "Job",
        hide_short_help = true,
        help = "Workspace path of the notebook [default: unchanged, or /Users/<you>/dbtrigger/run_dbt_job_<account>]"
    )]
    pub(in crate::commands) notebook: Option<NotebookPath>,
    /// Quartz cron expression, such as '0 0 6 * * ?' [default: unchanged, or none]
    #[arg(long, value_name = "CRON", help_heading = "Schedule")]
    pub(in crate::commands) schedule: Option<String>,
    /// IANA time zone of the schedule, such as Europe/Berlin [default: unchanged, or UTC]
    #[arg(long, value_name = "ZONE", help_heading = "Schedule")]
    pub(in crate::commands) timezone: Option<String>,
}

#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct IdentityFlags {
    /// User (email) or service principal (ID) to run as
    ///
    /// Default: unchanged, or you.
    #[arg(long, value_name = "WHO")]
    pub(super) run_as: Option<String>,
    /// Grant the run-as identity access to key and notebook
    #[arg(long)]
    pub(super) grant_run_as: bool,
    /// Grant access to the workflow: CAN_VIEW, CAN_MANAGE_RUN (default), or CAN_MANAGE; repeatable
    ///
    /// PRINCIPAL is a user (email), group (name), or service principal (application ID). Existing access is never removed.
    #[arg(long, value_name = "PRINCIPAL[:LEVEL]", hide_short_help = true)]
    pub(super) grant: Vec<GrantTo<JobLevel>>,
}

/// Refuses flags that apply to a whole workflow, and several jobs.
fn check_flags(args: &Args) -> Result<(), Failure> {
    if args.add_to.is_none() {
        return Ok(());
    }
    if args.job.len() > 1 {
        return Err(Failure::new(
            Code::Usage,
            format!("--add-to adds one task, but {} --job are given", args.job.len()),
        )
        .advise("run the command once for each --job"));
    }
    let about_all = [
        ("--name", args.name.is_some()),
        ("--schedule", args.workflow.schedule.is_some()),
        ("--timezone", args.workflow.timezone.is_some()),
        ("--no-schedule", args.no_schedule),
        ("--paused", args.paused),
        ("--unpaused", args.unpaused),
        ("--tag", !args.tag.is_empty()),
        ("--notify", !args.notify.is_empty()),
        ("--run-as", args.identity.run_as.is_some()),
        ("--grant", !args.identity.grant.is_empty()),
    ];
    let given: Vec<&str> = about_all.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag).collect();
    if given.is_empty() {
        return Ok(());
    }
    let is = if given.len() == 1 { "is" } else { "are" };
    Err(Failure::new(
        Code::Usage,
        format!(
            "{} {is} about the whole workflow, but --add-to adds one task and changes nothing else",
            given.join(", ")
        ),
    )
    .advise("change the workflow in the workspace instead, or drop --add-to to create a separate workflow"))
}

/// Reads all flags of `create-workflow`.
pub(super) fn settle(args: Args, ctx: &CommandContext) -> Result<Input, Failure> {
    check_flags(&args)?;
    let mut errors = InputErrors::default();
    let input = read(args, ctx, &mut errors);
    errors.settle()?;
    input.ok_or_else(|| Failure::new(Code::Bug, "input is missing after it was resolved"))
}

fn read(args: Args, ctx: &CommandContext, errors: &mut InputErrors) -> Option<Input> {
    let target = match args.task_key {
        _ if args.add_to.is_none() => TargetWorkflow::Own,
        task_key => TargetWorkflow::Existing { task_key },
    };
    let (asked, tasks) = JobArguments::read(args.job, args.job_filter, target, args.depends_on, ctx, errors);
    let name = errors.optional(args.name.map(read_name).transpose());
    let WorkflowFlags { notebook, schedule, timezone } = args.workflow;
    let now = ctx.context.wall.now();
    let (schedule, timezone) = read_start(schedule.as_deref(), timezone.as_deref(), now, errors);
    let compute = parse_flags(args.compute.as_deref(), args.policy, args.cluster_json.as_ref());
    let compute = errors.optional(compute.map(Some)).unwrap_or_default();
    let overrides = errors.optional(options::overrides(args.overrides).map(Some)).unwrap_or_default();
    let tags = errors.optional(options::tags(args.tag).map(Some)).unwrap_or_default();
    let notify = errors.optional(options::addresses(args.notify).map(Some)).unwrap_or_default();
    let IdentityFlags { run_as, grant_run_as, grant } = args.identity;
    let run_as = errors.optional(run_as.map(|text| read_run_as(&text)).transpose());
    let grants = errors.optional(grants::settle(grant).map(Some)).unwrap_or_default();
    let spec = WorkflowSpec {
        name,
        account: None,
        tasks,
        notebook,
        compute,
        each_task: TaskSettings {
            retries: args.retries.into(),
            timeout: args.task_timeout.map(|limit| limit.as_secs()).into(),
            overrides,
        },
        settings: WorkflowSettings {
            schedule: if args.no_schedule { Setting::Clear } else { schedule },
            timezone,
            // clap allows only one of the two.
            paused: (args.paused || args.unpaused).then_some(args.paused).into(),
            notify,
            tags,
            run_as: run_as.into(),
        },
        grant_run_as,
        grants,
    };
    let consents = Consents::default().with(Consent::Adopt, args.adopt).with(Consent::Force, args.force);
    Input::resolve(spec, consents, asked, (args.add_to, Caller::CreateWorkflow), ctx, errors)
}
