//! `create-workflow`: the Databricks job around dbt jobs.

mod add_to;
mod check;
mod compute;
mod describe;
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

use self::check::Check;
use self::describe::describe;
use self::ground::{Ground, survey};
use self::input::{Input, settle};
use self::press::go_on;
use super::Stage;
use super::job_named::Narrow;
use super::provision::{Finish, Provision, who};
use crate::credentials::Account;
use crate::databricks::workspace::NotebookPath;
use crate::dbt;
use crate::engine::kinds::{Compute, Identity, TaskWant, Workflow, WorkflowWant, override_names, timetable};
use crate::engine::{Action, Inputs, Plan, Planned, Step};
use crate::failure::{Code, Ended, Failure, Report, is_ip_restriction, of_dbt};
use crate::http::HttpError;

/// How long a new job may take to show in lists after an answer that was lost.
const SETTLE: Duration = Duration::from_mins(1);
/// What a dry run says of `--check` and of `--run-now`.
const THEN_CHECKED: &str = "Then it would be checked by a run of its notebook in check mode.";
const THEN_RUN: &str = "Then it would be run, and followed to its end.";

/// Create the Databricks job that runs a dbt job, or several
///
/// Makes a job with one notebook task, serverless unless `--compute` says otherwise, and the parameter `job_id`, as the guide does by hand; for several dbt
/// jobs a task each, with keys such as `dbt_222222`, and each with its own `job_id`. A job that this
/// command made before is found by its tag, whatever it was renamed to, and brought up to date; what others set in
/// it (notifications, further parameters, tags, tasks) stays. A flag that is left out changes nothing in it.
#[derive(Clone, Debug, clap::Args)]
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
        help = "The deployed notebook [default: /Users/<you>/dbtrigger/run_dbt_job_<account>]"
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

pub(crate) async fn run(args: Args, stage: &Stage) -> Ended<Box<dyn Report>> {
    match create(args, stage).await {
        Ok(ended) => ended,
        Err(failure) => failure.into(),
    }
}

async fn create(args: Args, stage: &Stage) -> Result<Ended<Box<dyn Report>>, Failure> {
    let (check, run_now, dry_run) = (args.check, args.run_now, args.dry_run);
    let mut input = settle(args, stage)?;
    if let Some((account, token)) = input.access.as_ref().filter(|_| input.asked.has_names()) {
        input.jobs = input.asked.find(account, token, stage).await?;
    }
    if let Some(workflow) = &input.add_to {
        return add_to::add(workflow, &input, add_to::Then { check, run_now }, dry_run, stage).await;
    }
    let writer = super::to_databricks(&input.databricks, stage)?;
    let (me, looked_up) = tokio::try_join!(who(&writer), look_up(&input, stage))?;
    let LookedUp { name, mut warnings } = looked_up;
    let ground = survey(&writer, &input.load(), &me).await?;
    let compute = match &input.compute {
        Some(wish) => Some(compute::settle(&writer, wish, &me, &mut warnings).await?),
        None => None,
    };
    let want = want(&input, name, compute, &ground)?;
    let (planned, key) =
        tokio::join!(Step::<Workflow>::plan(&writer, want, &input.consents), ground.check_key(&writer, &me));
    let planned = planned?;
    check_flags(&planned)?;
    ground.check_overrides(
        &input.load(),
        &override_names(&planned.want, planned.have.as_ref().map(|have| &have.job.settings)),
    )?;
    warnings.extend(ground.warnings.iter().cloned());
    let standing = planned.have.as_ref().and_then(|have| have.job.run_as.as_deref());
    let other = identity::other(planned.want.run_as.as_deref(), standing, &me);
    let (mut steps, mut after) = (Vec::new(), Vec::new());
    // What is refused changes nothing, and needs nothing.
    if !matches!(planned.action, Action::Blocked { .. }) {
        let grant = input.grant_run_as;
        let readers = identity::readers(&writer, grant, (&ground, key), other, &me, stage).await?;
        warnings.extend(readers.warnings);
        steps = readers.steps;
        after = identity::grants(&writer, &input, &planned).await?;
    }
    for warning in &warnings {
        stage.events.warning(warning.as_str());
    }
    let provision = Provision { stage, writer: &writer, me: &me, dry_run, inputs: Inputs::default() };
    steps.push(Planned::Workflow(Box::new(planned)));
    steps.extend(after);
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
            Ok(go_on(carried, check, run_now.then_some(job.id), (&input.databricks, &writer), stage).await)
        }
        None => Ok(carried.end()),
    }
}

/// What dbt says about the jobs, as far as it was asked.
struct LookedUp {
    name: String,
    warnings: Vec<String>,
}

/// Asks dbt for the jobs, if there is access; with a name given, that is no must.
async fn look_up(input: &Input, stage: &Stage) -> Result<LookedUp, Failure> {
    let Input { jobs, name, access, .. } = input;
    let Some((account, token)) = access else {
        // Without access there is a name, the input was settled so.
        return Ok(LookedUp { name: name.clone().unwrap_or_default(), warnings: Vec::new() });
    };
    let reader = super::to_dbt(account, token, stage)?.reader();
    let Account { id, .. } = account;
    let (mut warnings, mut named) = (Vec::new(), name.clone());
    for TaskWant { key: _, job, depends_on: _ } in jobs {
        let found = match reader.read(dbt::get_job(*id, *job)).await {
            Ok(found) => found,
            // With a name dbt need not be asked: only what dbt itself says of the job stands in the way.
            Err(error) if input.is_named() && !is_about_the_job(&error) => {
                warnings.push(format!("The dbt job {job} could not be looked at: {error}."));
                continue;
            }
            Err(error) => return Err(of_dbt(&format!("Cannot read the dbt job {job}"), &error)),
        };
        let title = found.name.as_deref().unwrap_or("without a name").split_whitespace().collect::<Vec<_>>().join(" ");
        if found.has_schedule() {
            warnings.push(format!(
                "The dbt job {job} \"{title}\" has a schedule of its own in dbt Cloud, which this does not change: it will run from both."
            ));
        }
        if found.is_deactivated() {
            warnings.push(format!(
                "The dbt job {job} \"{title}\" is deactivated: dbt Cloud does not start it until its settings are saved there."
            ));
        }
        if found.is_ci() {
            warnings.push(format!("The dbt job {job} \"{title}\" is a CI job, made for pull requests."));
        }
        named.get_or_insert_with(|| format!("dbt: {title} ({job})"));
    }
    Ok(LookedUp { name: named.unwrap_or_default(), warnings })
}

/// Whether dbt says that the job is not there or not for this account; a token that is out of date, an address that is not let
/// in, or a page of something in between says nothing about it.
fn is_about_the_job(error: &HttpError) -> bool {
    error.said().is_some_and(|said| !said.page)
        && (error.is_status(404) || (error.is_status(403) && !is_ip_restriction(error)))
}

fn want(input: &Input, name: String, compute: Option<Compute>, ground: &Ground) -> Result<WorkflowWant, Failure> {
    let identity = match (&input.name, input.account, input.jobs.as_slice()) {
        (Some(name), _, _) => Identity::of_name(name),
        (None, Some(account), [only]) => Identity::of_job(account, only.job),
        (None, _, _) => {
            return Err(Failure::new(Code::Bug, "A workflow without a name is not of one job of an account."));
        }
    };
    Ok(WorkflowWant {
        name,
        named: input.name.is_some(),
        identity,
        tasks: input.jobs.clone(),
        notebook: ground.path.as_str().to_owned(),
        schedule: input.schedule.as_ref().map(|schedule| schedule.expression().to_owned()),
        timezone: input.zone.as_ref().map(|zone| zone.name().to_owned()),
        paused: input.paused,
        no_schedule: input.no_schedule,
        compute,
        retries: input.retries,
        task_timeout: input.task_timeout.map(|limit| limit.as_secs()),
        overrides: input.overrides.clone(),
        tags: input.tags.clone(),
        notify: input.notify.clone(),
        run_as: input.run_as.clone(),
        settle: SETTLE,
    })
}

/// Flags that say something about a schedule need one, in the flags or in the job.
fn check_flags(step: &Step<Workflow>) -> Result<(), Failure> {
    let WorkflowWant { schedule, timezone, paused, .. } = &step.want;
    let standing = step.have.as_ref().and_then(|have| timetable(&have.job.settings));
    let flag = match (paused, timezone) {
        (Some(true), _) => "--paused",
        (Some(false), _) => "--unpaused",
        (None, Some(_)) => "--timezone",
        (None, None) => return Ok(()),
    };
    if schedule.is_some() || standing.is_some() {
        return Ok(());
    }
    Err(Failure::new(Code::Usage, format!("{flag} is given, and there is no schedule that it could be about."))
        .advise("add --schedule, such as --schedule '0 0 6 * * ?'"))
}

#[cfg(test)]
mod tests;
