//! `create-workflow`: creates or updates the Databricks job for dbt jobs.

mod add_to;
mod check;
mod compute;
mod describe;
mod identity;
mod input;
mod named;
pub(crate) mod prerequisites;
pub(crate) mod rights;
mod run_now;
mod workflow_plan;

use std::path::PathBuf;
use std::time::Duration;

pub(super) use self::check::{Check, Used};
pub(super) use self::describe::{describe, describe_schedule, next_starts};
use self::input::settle;
pub(super) use self::input::{Caller, Input};
pub(super) use self::named::{JobArgs, Place};
use self::prerequisites::{Checked, read_prerequisites};
pub(super) use self::prerequisites::{Findings, NearScopes, Prerequisites, UsualKeys, near_scopes, planned};
pub(super) use self::run_now::{RunNow, check_and_run};
use self::workflow_plan::identity_of;
pub(super) use self::workflow_plan::{Compared, LookedUp, WorkflowPlan, find, look_up};
use super::CommandContext;
use super::shared::job_named::Narrow;
use super::shared::last_seen::LastSeen;
use super::shared::provision::{Finish, Provision, caller_and};
use crate::databricks::me::Me;
use crate::databricks::workspace::NotebookPath;
use crate::durations;
use crate::engine::kinds::JobsAhead;
use crate::engine::{Inputs, Plan};
use crate::failure::{Ended, Failure, Report};
use crate::http::Reader;
use crate::spec::Setting;

/// How long a created job may be missing from lists after its response was lost.
const SETTLE: Duration = Duration::from_mins(1);
/// Notes of a dry run for `--check` and `--run-now`.
pub(super) const THEN_CHECKED: &str = "Then: check it with a run that starts nothing in dbt.";
pub(super) const THEN_RUN: &str = "Then: run it and follow the run.";

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
    /// Show the plan and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Overwrite manual edits in what dbtrigger manages
    #[arg(long, hide_short_help = true)]
    force: bool,
    /// Take over a job with the same name, or a task with the same key, that dbtrigger did not create
    #[arg(long, hide_short_help = true)]
    adopt: bool,
    /// dbt job: ID, URL, or name; repeat for one task each
    #[arg(long, value_name = "[KEY=]JOB", help_heading = "Job")]
    job: Vec<String>,
    /// Tasks that a task waits for; repeatable, none clears [default: unchanged, or none]
    #[arg(long, value_name = "KEY=KEY[,KEY]", help_heading = "Job", hide_short_help = true)]
    depends_on: Vec<Setting<String>>,
    /// Name of the workflow
    #[arg(
        long,
        value_name = "NAME",
        help_heading = "Job",
        help = "Name of the workflow [default: dbt: <job name> (<job ID>)]",
        long_help = "Name of the workflow; required for several jobs, and skips the dbt lookup [default: dbt: <job name> \
                     (<job ID>)]"
    )]
    name: Option<String>,
    /// The deployed notebook
    #[arg(
        long,
        alias = "path",
        value_name = "PATH",
        help_heading = "Job",
        hide_short_help = true,
        help = "Workspace path of the notebook [default: unchanged, or /Users/<you>/dbtrigger/run_dbt_job_<account>]"
    )]
    notebook: Option<NotebookPath>,
    /// Compute, as `ComputeSpec` reads it.
    #[arg(
        long,
        value_name = "COMPUTE",
        help_heading = "Compute",
        help = "What to run on: serverless, cluster:ID, job-cluster:KEY, or new[:NODE_TYPE]",
        long_help = "What to run on: serverless, cluster:ID, job-cluster:KEY, or new[:NODE_TYPE]\n\n\"new\" creates the smallest cluster for each run [default: unchanged, or serverless]"
    )]
    compute: Option<String>,
    /// Cluster policy of a new cluster
    #[arg(long, value_name = "ID", help_heading = "Compute", hide_short_help = true)]
    policy: Option<String>,
    /// File with the new cluster as JSON: the object under new_cluster in a job
    #[arg(long, value_name = "FILE", conflicts_with_all = ["compute", "policy"], help_heading = "Compute", hide_short_help = true)]
    cluster_json: Option<PathBuf>,
    /// Quartz cron expression, such as '0 0 6 * * ?' [default: unchanged, or none]
    #[arg(long, value_name = "CRON", help_heading = "Schedule")]
    schedule: Option<String>,
    /// IANA time zone of the schedule, such as Europe/Berlin [default: unchanged, or UTC]
    #[arg(long, value_name = "ZONE", help_heading = "Schedule")]
    timezone: Option<String>,
    /// Remove the schedule
    #[arg(long, conflicts_with_all = ["schedule", "timezone", "paused", "unpaused"], help_heading = "Schedule", hide_short_help = true)]
    no_schedule: bool,
    /// Pause the schedule
    #[arg(long, conflicts_with = "unpaused", help_heading = "Schedule")]
    paused: bool,
    /// Resume the schedule
    #[arg(long, help_heading = "Schedule", hide_short_help = true)]
    unpaused: bool,
    /// Override for every dbt run, such as git_branch=main; repeatable, none clears [default: unchanged, or none]
    ///
    /// The notebook must allow it: see `deploy-notebook --allow-override`.
    #[arg(long = "override", value_name = "KEY=VALUE", help_heading = "Run options", hide_short_help = true)]
    overrides: Vec<Setting<String>>,
    /// Add a tag to the workflow; repeatable
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Job", hide_short_help = true)]
    tag: Vec<String>,
    /// Email this address when a run fails; repeatable, none clears [default: unchanged, or none]
    #[arg(long, value_name = "EMAIL", help_heading = "Run options", hide_short_help = true)]
    notify: Vec<Setting<String>>,
    /// Retry a failed task up to N times; a retry resumes or repeats the dbt run [default: unchanged, or 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100), help_heading = "Run options", hide_short_help = true)]
    retries: Option<u32>,
    /// Time limit of a task [default: unchanged, or 24h10m: ten minutes longer than the notebook waits]
    #[arg(long, value_name = "DURATION", value_parser = durations::whole_seconds, help_heading = "Run options", hide_short_help = true)]
    task_timeout: Option<Duration>,
    /// Add a task to this existing workflow (ID, URL, or exact name) instead
    ///
    /// Nothing else in the workflow is changed.
    #[arg(long, value_name = "WORKFLOW", help_heading = "Job")]
    add_to: Option<String>,
    /// Key of the added task.
    #[arg(
        long,
        value_name = "KEY",
        requires = "add_to",
        help_heading = "Job",
        hide_short_help = true,
        help = "Key of the added task, such as load [default: dbt_<job ID>]"
    )]
    task_key: Option<String>,
    #[command(flatten, next_help_heading = "Job")]
    narrow: Narrow,
    #[command(flatten, next_help_heading = "Access")]
    identity: identity::Flags,
    /// Check the setup with a run that starts nothing in dbt
    ///
    /// The run uses the workflow's identity and compute, reads the key, and connects to dbt.
    #[arg(long, help_heading = "Run options")]
    check: bool,
    /// Run the workflow now and exit with its outcome
    #[arg(long, help_heading = "Run options")]
    run_now: bool,
}

pub(crate) async fn run(args: Args, ctx: &CommandContext) -> Ended<Box<dyn Report>> {
    match create(args, ctx).await {
        Ok(ended) => ended,
        Err(failure) => failure.into(),
    }
}

async fn create(args: Args, ctx: &CommandContext) -> Result<Ended<Box<dyn Report>>, Failure> {
    let (check, run_now, dry_run) = (args.check, args.run_now, args.dry_run);
    let mut input = settle(args, ctx)?;
    input.find_jobs(ctx).await?;
    if let Some(workflow) = &input.add_to {
        return add_to::add(workflow, &input, add_to::Then { check, run_now }, dry_run, ctx).await;
    }
    let writer = super::to_databricks(&input.databricks, ctx)?;
    writer.preconnect(3, !dry_run);
    let last_seen = LastSeen::load(writer.origin(), ctx);
    let early = async {
        let ahead = read_ahead(&input, &last_seen, &writer);
        tokio::try_join!(look_up(&input, ctx), async { Ok(ahead.await) })
    };
    let (me, (looked_up, ahead)) = caller_and(&writer, Box::pin(early)).await?;
    let (prerequisites, WorkflowPlan { steps, findings }) =
        look(&mut input, &looked_up, ahead, &writer, &me, ctx).await?;
    let Findings { warnings, refusals } = findings;
    for warning in &warnings {
        ctx.events.warning(warning.as_str());
    }
    let provision = Provision { ctx, writer: &writer, me: &me, dry_run, inputs: Inputs::default() };
    let applied = provision.apply(Plan { refusals, steps }).await;
    let (mut applied, job) = describe(applied, &writer, &me, ctx, &warnings, run_now);
    if applied.finish == Finish::Shown {
        for (requested, line) in [(check, THEN_CHECKED), (run_now, THEN_RUN)] {
            if requested {
                applied.line(line);
            }
        }
    }
    let goes_on = (check || run_now) && applied.is_well() && applied.failure.is_none();
    match job.zip(prerequisites).filter(|_| goes_on) {
        Some((job, prerequisites)) => {
            let check = check.then(|| Check::of(&job, &input.spec.tasks, &prerequisites, &me));
            Ok(check_and_run(applied, check, &[], (job.id, run_now.into()), (&input.databricks, &writer), ctx).await)
        }
        None => Ok(applied.end()),
    }
}

/// What can be read before the caller and the name of the workflow are known.
struct Ahead {
    jobs: JobsAhead,
    /// The notebook at its probable path, and the keys of the default scope.
    notebook: Option<(NotebookPath, Checked<Prerequisites>, UsualKeys)>,
}

async fn read_ahead(input: &Input, last_seen: &LastSeen, reader: &Reader) -> Ahead {
    let job = identity_of(input).ok().and_then(|identity| last_seen.job(&identity));
    let path =
        input.spec.account.filter(|_| input.spec.notebook.is_none()).and_then(|account| last_seen.notebook(account));
    let notebook = async {
        let path = path?;
        let requirements = input.requirements();
        let reads = (read_prerequisites(reader, &requirements, path.clone()), UsualKeys::list(reader));
        let (prerequisites, usual) = tokio::join!(reads.0, reads.1);
        Some((path, prerequisites, usual))
    };
    let (jobs, notebook) = tokio::join!(JobsAhead::read(reader, job), notebook);
    Ahead { jobs, notebook }
}

/// Looks up the prerequisites and the workflow. An existing workflow keeps its notebook unless `--notebook` names
/// another.
async fn look(
    input: &mut Input,
    looked_up: &LookedUp,
    Ahead { mut jobs, mut notebook }: Ahead,
    reader: &Reader,
    me: &Me,
    ctx: &CommandContext,
) -> Result<(Option<Prerequisites>, WorkflowPlan), Failure> {
    loop {
        let requirements = input.requirements();
        let path = requirements.path(me)?;
        let reads = async {
            if let Some((_, prerequisites, usual)) = notebook.take_if(|(read, ..)| *read == path) {
                return (prerequisites, usual);
            }
            tokio::join!(read_prerequisites(reader, &requirements, path.clone()), UsualKeys::list(reader))
        };
        let finds = find(reader, input, looked_up, std::mem::take(&mut jobs), me);
        let ((prerequisites, usual), found) = tokio::join!(reads, finds);
        let mut compared = Compared::new(input, looked_up.clone(), found?, &path)?;
        if let Some(current) = compared.current_notebook(input) {
            input.spec.notebook = Some(current);
            continue;
        }
        let prerequisites = compared.findings.need("notebook", path.as_str(), prerequisites?);
        let workflow_plan = compared.check(reader, input, (prerequisites.as_ref(), usual), me, ctx).await?;
        return Ok((prerequisites, workflow_plan));
    }
}

#[cfg(test)]
mod tests;
