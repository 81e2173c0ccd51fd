//! `create-workflow`: the Databricks job around dbt jobs.

mod add_to;
mod check;
mod compute;
mod describe;
mod drawn;
pub(crate) mod ground;
mod identity;
mod input;
mod jobs;
mod named;
mod options;
mod press;
pub(crate) mod rights;

use std::path::PathBuf;
use std::time::Duration;

pub(super) use self::check::{Check, Used};
pub(super) use self::describe::describe;
use self::drawn::own_notebook;
pub(super) use self::drawn::{Drawn, LookedUp, draw, find, look_up};
use self::ground::survey;
pub(super) use self::ground::{Ground, NearScopes, UsualKeys, near_scopes, planned};
pub(super) use self::identity::read_run_as;
use self::input::settle;
pub(super) use self::input::{Door, Input, collect, read_schedule, read_zone};
pub(super) use self::press::{Press, go_on};
use super::Stage;
use super::deploy_notebook::default_path;
use super::job_named::Narrow;
use super::provision::{Finish, Provision, no_plan, who_and};
use crate::databricks::jobs::Summary;
use crate::databricks::me::Me;
use crate::databricks::workspace::NotebookPath;
use crate::engine::kinds::list_ahead;
use crate::engine::{Inputs, Plan};
use crate::failure::{Code, Ended, Failure, Report};
use crate::http::Reader;

/// How long a new job may take to show in lists after an answer that was lost.
const SETTLE: Duration = Duration::from_mins(1);
/// What a dry run says of `--check` and of `--run-now`.
pub(super) const THEN_CHECKED: &str = "Then it would be checked by a run of its notebook in check mode.";
pub(super) const THEN_RUN: &str = "Then it would be run, and followed to its end.";

/// Create the Databricks job that runs a dbt job, or several
///
/// Makes a job with one notebook task, serverless unless `--compute` says otherwise, and the parameter `job_id`, as the guide does by hand; for several dbt
/// jobs a task each, with keys such as `dbt_222222`, and each with its own `job_id`. A job that this
/// command made before is found by its tag, whatever it was renamed to, and brought up to date; what others set in
/// it (notifications, further parameters, tags, tasks) stays. A flag that is left out changes nothing in it.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = "Examples:
  dbtrigger create-workflow --job 222222 --check --run-now
  dbtrigger create-workflow --job 'Nightly build' --project 'Jaffle Shop'
  dbtrigger create-workflow --job 222222 --schedule '0 0 6 * * ?' --timezone Europe/Berlin
  dbtrigger create-workflow --job 222222 --retries 1 --tag team=bi --notify ops@example.com
  dbtrigger create-workflow --name Both --job one=222222 --job two=222225 --depends-on two=one
  dbtrigger create-workflow --job 222222 --compute new
  dbtrigger create-workflow --add-to 'Daily load' --job 222222 --depends-on dbt_222222=load
  dbtrigger create-workflow --job 222222 --grant data-team:CAN_MANAGE_RUN --no-schedule
  dbtrigger create-workflow --job 222222 --run-as bo@example.com --grant-run-as")]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag, as clap reads them")]
pub(crate) struct Args {
    /// The dbt job: its id, its address copied from the browser, or its name; repeatable, a task each, which may be given a key
    #[arg(long, value_name = "[KEY=]JOB")]
    job: Vec<String>,
    /// Which task waits for which others; repeatable, `none` to take all back [default: unchanged, at first none waits]
    #[arg(long, value_name = "KEY=KEY[,KEY]")]
    depends_on: Vec<String>,
    /// As a person gave it.
    #[arg(
        long,
        value_name = "NAME",
        help = "Name of the workflow; with it dbt need not be asked; required for several jobs [default: dbt: <name of \
                the dbt job> (<id>)]"
    )]
    name: Option<String>,
    /// As a person gave it.
    #[arg(
        long,
        value_name = "PATH",
        help = "The deployed notebook [default: unchanged, at first /Users/<you>/dbtrigger/run_dbt_job_<account>]"
    )]
    notebook: Option<NotebookPath>,
    /// What it runs on; `new` is the smallest machine for each run [default: unchanged, at first serverless]
    #[arg(long, value_name = "serverless|cluster:ID|job-cluster:KEY|new[:NODE_TYPE]")]
    compute: Option<String>,
    /// The cluster policy of a new cluster
    #[arg(long, value_name = "ID")]
    policy: Option<String>,
    /// A file with the new cluster as JSON, as it stands under `new_cluster` in a job
    #[arg(long, value_name = "FILE", conflicts_with_all = ["compute", "policy"])]
    cluster_json: Option<PathBuf>,
    /// Quartz cron expression by which it starts, such as `0 0 6 * * ?` [default: unchanged, at first none]
    #[arg(long, value_name = "CRON")]
    schedule: Option<String>,
    /// Time zone of the schedule by its IANA name, such as Europe/Berlin [default: unchanged, at first UTC]
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// Take the schedule away
    #[arg(long, conflicts_with_all = ["schedule", "timezone", "paused", "unpaused"])]
    no_schedule: bool,
    /// Pause the schedule
    #[arg(long, conflicts_with = "unpaused")]
    paused: bool,
    /// Let the schedule run again
    #[arg(long)]
    unpaused: bool,
    /// Start every run of dbt with this override, such as `git_branch=main`; the notebook must allow it; repeatable, `none` to take all back [default: unchanged, at first none]
    #[arg(long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// A tag on the workflow, beside those that it has; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    tag: Vec<String>,
    /// Who gets an email when a run fails; repeatable, `none` to take all away [default: unchanged, at first nobody]
    #[arg(long, value_name = "EMAIL")]
    notify: Vec<String>,
    /// How often a failed task is run again; it resumes or repeats the dbt run [default: unchanged, at first 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100))]
    retries: Option<u32>,
    /// When a task is cut off [default: unchanged, at first 24h10m, which is ten minutes more than the notebook waits]
    #[arg(long, value_name = "DURATION", value_parser = options::whole_seconds)]
    task_timeout: Option<Duration>,
    /// Add one task to this workflow of somebody else instead, and change nothing else in it: its id, its address or its exact name
    #[arg(long, value_name = "WORKFLOW")]
    add_to: Option<String>,
    /// The key of the task that is added, such as `load` [default: dbt_ and the id of the dbt job]
    #[arg(long, value_name = "KEY", requires = "add_to")]
    task_key: Option<String>,
    #[command(flatten)]
    narrow: Narrow,
    #[command(flatten)]
    identity: identity::Flags,
    /// Run its notebook once in check mode, as whom and on what the workflow runs: reads the key, reaches dbt, starts nothing
    #[arg(long)]
    check: bool,
    /// Run it at once, and wait for the end: its outcome is the outcome of this command
    #[arg(long)]
    run_now: bool,
    /// Take over a job of the same name, or a task of the same key, that dbtrigger did not make
    #[arg(long)]
    adopt: bool,
    /// Undo what was edited by hand in what dbtrigger manages
    #[arg(long)]
    force: bool,
    /// Show what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,
}

/// One dbt job in a workflow of its own, as `setup` asks for it.
pub(super) struct One {
    pub(super) job: Option<String>,
    pub(super) narrow: Narrow,
    pub(super) name: Option<String>,
    pub(super) notebook: Option<NotebookPath>,
    pub(super) compute: Option<String>,
    pub(super) schedule: Option<String>,
    pub(super) timezone: Option<String>,
    pub(super) paused: bool,
    pub(super) run_as: Option<String>,
    pub(super) adopt: bool,
    pub(super) force: bool,
}

impl From<One> for Args {
    /// All other flags are left out. Whoever the runs act as gets what it lacks.
    fn from(one: One) -> Args {
        let One { job, narrow, name, notebook, compute, schedule, timezone, paused, run_as, adopt, force } = one;
        let identity = identity::Flags { run_as, grant_run_as: true, grant: Vec::new() };
        let job = job.into_iter().collect();
        Args {
            job,
            name,
            notebook,
            compute,
            schedule,
            timezone,
            paused,
            narrow,
            identity,
            adopt,
            force,
            ..Args::default()
        }
    }
}

pub(crate) async fn run(args: Args, stage: &Stage) -> Ended<Box<dyn Report>> {
    match create(args, stage).await {
        Ok(ended) => ended,
        Err(failure) => failure.into(),
    }
}

async fn create(args: Args, stage: &Stage) -> Result<Ended<Box<dyn Report>>, Failure> {
    let (check, run_now, dry_run) = (args.check, args.run_now, args.dry_run);
    let mut input = settle(args, stage)?;
    input.find_jobs(stage).await?;
    if let Some(workflow) = &input.add_to {
        return add_to::add(workflow, &input, add_to::Then { check, run_now }, dry_run, stage).await;
    }
    let writer = super::to_databricks(&input.databricks, stage)?;
    writer.open_ahead(3, !dry_run);
    let early = async { tokio::try_join!(look_up(&input, stage), async { Ok(list_ahead(&writer).await) }) };
    let (me, (looked_up, listed)) = who_and(&writer, Box::pin(early)).await?;
    let (ground, Drawn { steps, warnings }) = match look(&mut input, &looked_up, listed, &writer, &me, stage).await {
        Ok(planned) => planned,
        Err(failure) => return no_plan(failure, dry_run, &stage.given(), &writer, &me),
    };
    for warning in &warnings {
        stage.events.warning(warning.as_str());
    }
    let provision = Provision { stage, writer: &writer, me: &me, dry_run, inputs: Inputs::default() };
    let carried = provision.carry_out(Plan { steps }).await;
    let (mut carried, job) = describe(carried, &writer, &me, stage, &warnings, run_now);
    if carried.finish == Finish::Shown {
        for (wanted, line) in [(check, THEN_CHECKED), (run_now, THEN_RUN)] {
            if wanted {
                carried.line(line);
            }
        }
    }
    match job.filter(|_| (check || run_now) && carried.is_well() && carried.failure.is_none()) {
        Some(job) => {
            let check = check.then(|| Check::of(&job, &input.jobs, &ground, &me));
            Ok(go_on(carried, check, &[], (job.id, run_now.into()), (&input.databricks, &writer), stage).await)
        }
        None => Ok(carried.end()),
    }
}

/// Looks at what the workflow stands on, and at the workflow. One that stands on another notebook than the usual one stays there, unless
/// somebody names one.
async fn look(
    input: &mut Input,
    looked_up: &LookedUp,
    listed: Option<Vec<Summary>>,
    reader: &Reader,
    me: &Me,
    stage: &Stage,
) -> Result<(Ground, Drawn), Failure> {
    let looks = async |input: &Input, listed| {
        let load = input.load();
        let (ground, found, usual) = tokio::join!(
            survey(reader, &load, me),
            find(reader, input, looked_up, listed, me),
            UsualKeys::list(reader)
        );
        let ground = ground?;
        let drawn = draw(reader, input, looked_up.clone(), found?, (&ground, usual), me, stage).await?;
        Ok::<_, Failure>((ground, drawn))
    };
    let first = looks(input, listed).await;
    let standing = match &first {
        Ok((_, drawn)) => drawn.standing_notebook(input),
        // Another identity has another home folder, and perhaps nothing of use in it.
        Err(failure) if matches!(failure.code, Code::NotFound | Code::NotAllowed | Code::Refused) => {
            let usual = input.account.and_then(|account| default_path(me, account).ok());
            own_notebook(reader, input, &looked_up.name).await.filter(|path| Some(path) != usual.as_ref())
        }
        Err(_) => None,
    };
    if standing.is_none() {
        return first;
    }
    input.notebook = standing;
    looks(input, None).await
}

#[cfg(test)]
mod tests;
