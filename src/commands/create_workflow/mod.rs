//! `create-workflow`: the Databricks job around dbt jobs.

mod compute;
mod ground;
mod input;
mod jobs;
mod options;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use self::ground::{Ground, survey};
use self::input::{Input, settle};
use super::Stage;
use super::provision::{Carried, Finish, Provision, who};
use crate::credentials::{Account, Databricks};
use crate::databricks::jobs as databricks_jobs;
use crate::databricks::me::Me;
use crate::databricks::workspace::NotebookPath;
use crate::dbt;
use crate::engine::kinds::{
    Compute, ID_TAG, Identity, TaskWant, Timetable, Workflow, WorkflowHave, WorkflowWant, name_all, override_names,
    timetable, timetable_after,
};
use crate::engine::{Action, Inputs, Plan, Planned, Step};
use crate::failure::{Code, Ended, Failure, Report, of_dbt};
use crate::http::Writer;
use crate::schedule::{Schedule, Zone};

/// How long a new job may take to show in lists after an answer that was lost.
const SETTLE: Duration = Duration::from_mins(1);
/// So many firing times are shown.
const SHOWN: usize = 3;

/// Create the Databricks job that runs a dbt job, or several
///
/// Makes a job with one notebook task, serverless unless `--compute` says otherwise, and the parameter `job_id`, as the guide does by hand; for several dbt
/// jobs a task each, with keys such as `dbt_222222`, and each with its own `job_id`. A job that this
/// command made before is found by its tag, whatever it was renamed to, and brought up to date; what others set in
/// it (notifications, further parameters, tags, tasks) stays. A flag that is left out changes nothing in it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  dbtrigger create-workflow --job 222222 --run-now
  dbtrigger create-workflow --job 222222 --schedule '0 0 6 * * ?' --timezone Europe/Berlin
  dbtrigger create-workflow --job 222222 --retries 1 --tag team=bi --notify ops@example.com
  dbtrigger create-workflow --name Both --job one=222222 --job two=222225 --depends-on two=one
  dbtrigger create-workflow --job 222222 --compute new
  dbtrigger create-workflow --job 222222 --no-schedule")]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag, as clap reads them")]
pub(crate) struct Args {
    /// The dbt job: its id, or its address copied from the browser; repeatable, a task each, which may be given a key
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
    /// Run it at once, and wait for the end: its outcome is the outcome of this command
    #[arg(long)]
    run_now: bool,
    /// Take over a job of the same name that dbtrigger did not make
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
    let (run_now, dry_run) = (args.run_now, args.dry_run);
    let input = settle(args, stage)?;
    let writer = super::to_databricks(&input.databricks, stage)?;
    let (me, looked_up) = tokio::try_join!(who(&writer), look_up(&input, stage))?;
    let LookedUp { name, mut warnings } = looked_up;
    let ground = survey(&writer, &input, &me).await?;
    let compute = match &input.compute {
        Some(wish) => Some(compute::settle(&writer, wish, &me, &mut warnings).await?),
        None => None,
    };
    let want = want(&input, name, compute, &ground)?;
    let (planned, ()) =
        tokio::try_join!(Step::<Workflow>::plan(&writer, want, &input.consents), ground.check_key(&writer, &me))?;
    check_flags(&planned)?;
    ground.check_overrides(
        &input,
        &override_names(&planned.want, planned.have.as_ref().map(|have| &have.job.settings)),
    )?;
    warnings.extend(ground.warnings.iter().cloned());
    warnings.extend(planned.have.as_ref().and_then(|have| other_identity(have, &me)));
    for warning in &warnings {
        stage.events.warning(warning.as_str());
    }
    let provision = Provision { stage, writer: &writer, me: &me, dry_run, inputs: Inputs::default() };
    let carried = provision.carry_out(Plan { steps: vec![Planned::Workflow(Box::new(planned))] }).await;
    let (carried, job) = describe(carried, &writer, &me, stage, &warnings, run_now);
    match job {
        Some(job) if run_now && carried.is_well() && carried.failure.is_none() => {
            Ok(press(carried, job, &input.databricks, stage).await)
        }
        Some(_) | None => Ok(carried.end()),
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
    account.check_bare_token()?;
    let reader = super::to_dbt(account, token.clone(), stage)?.reader();
    let Account { id, .. } = account;
    let (mut warnings, mut named) = (Vec::new(), name.clone());
    for TaskWant { key: _, job, depends_on: _ } in jobs {
        let found = match reader.read(dbt::get_job(*id, *job)).await {
            Ok(found) => found,
            // With a name dbt need not be asked: only what dbt itself says of the job stands in the way.
            Err(error) if name.is_some() && !error.status().is_some_and(|status| status.is_client_error()) => {
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

/// Somebody made the runs of this job act as another identity than the one whose rights were checked.
fn other_identity(have: &WorkflowHave, me: &Me) -> Option<String> {
    let run_as = have.job.run_as.as_deref().filter(|run_as| *run_as != me.user_name)?;
    have.own()?;
    Some(format!(
        "The runs of job {} act as {run_as}, not as {}: whether {run_as} may read the notebook and the key was not checked.",
        have.job.id, me.user_name
    ))
}

/// Adds what is known of the job to the report. The id comes back if there is a job of ours to run.
fn describe(
    mut carried: Carried,
    writer: &Writer,
    me: &Me,
    stage: &Stage,
    warnings: &[String],
    run_now: bool,
) -> (Carried, Option<u64>) {
    let Some(Planned::Workflow(step)) = carried.plan.steps.first() else { return (carried, None) };
    let (result, running) = match (&step.action, carried.finish) {
        (_, Finish::Shown | Finish::Blocked | Finish::Failed) => (None, false),
        (Action::Create, Finish::Changed | Finish::Unchanged) => (Some("created"), true),
        (Action::Update(_), Finish::Changed | Finish::Unchanged) => (Some("updated"), true),
        (Action::Keep(_) | Action::Blocked { .. }, Finish::Changed | Finish::Unchanged) => (Some("kept"), true),
    };
    let want = step.want.clone();
    let present = step.present().filter(|have| have.own().is_some()).cloned();
    let standing = present.as_ref().and_then(|have| timetable(&have.job.settings));
    // What will be, where nothing was written.
    let timetable = if running { standing } else { timetable_after(&want, standing) };
    let job = present.as_ref().map(|have| have.job.id);
    let name = present.as_ref().and_then(|have| have.job.settings.read::<String>("name")).unwrap_or(want.name);
    let url = job.map(|job| databricks_jobs::link(writer.origin(), job, me.workspace_id));
    carried.field("job_id", job);
    carried.field("url", url.clone());
    carried.field("name", name);
    carried.field("tag", json!({ ID_TAG: want.identity.as_str() }));
    carried.field("result", result);
    let only = if let [only] = want.tasks.as_slice() { Some(only.job) } else { None };
    carried.field("dbt_job_id", only);
    let tasks = want.tasks.iter().map(|task| json!({ "task_key": task.key, "dbt_job_id": task.job }));
    carried.field("tasks", tasks.collect::<Value>());
    carried.field("notebook", want.notebook);
    carried.field("warnings", json!(warnings));
    let moments = timetable.as_ref().map(|timetable| firing(timetable, stage)).unwrap_or_default();
    carried
        .field("schedule", timetable.as_ref().map_or(Value::Null, |timetable| describe_schedule(timetable, &moments)));
    if let Some(Timetable { expression, timezone, paused }) = &timetable {
        let paused = if *paused { ", paused" } else { "" };
        carried.line(format!("Schedule: {expression} in {timezone}{paused}"));
        for moment in &moments {
            carried.line(format!("  {}  ({})", moment.timestamp(), moment.strftime("%a %F %H:%M:%S %Z")));
        }
    }
    if let Some(url) = url {
        carried.line(url);
    }
    if let Some(have) = present.filter(|have| have.ours.len() > 1)
        && carried.failure.is_none()
    {
        carried.failure = Some(
            Failure::new(
                Code::Refused,
                format!("There are two jobs with the mark of this workflow now: {}.", name_all(&have.ours)),
            )
            .cause(
                "the service made one more behind an answer that was lost, or this command ran twice at the same time",
            )
            .advise("delete one of the two in the workspace before one of them starts"),
        );
    }
    match job {
        Some(job) if running && !run_now => carried.line(format!("Next: dbtrigger run --workflow {job}")),
        Some(_) | None => {}
    }
    if run_now && carried.finish == Finish::Shown {
        carried.line("Then it would be run, and followed to its end.");
    }
    (carried, job)
}

fn firing(timetable: &Timetable, stage: &Stage) -> Vec<jiff::Zoned> {
    let now = stage.context.wall.now();
    let Timetable { expression, timezone, paused: _ } = timetable;
    // What somebody else wrote into a job need not be readable here; then it is shown without times.
    Zone::parse(timezone)
        .and_then(|zone| Schedule::parse(expression, zone, now))
        .map(|schedule| schedule.next(now, SHOWN))
        .unwrap_or_default()
}

fn describe_schedule(timetable: &Timetable, moments: &[jiff::Zoned]) -> Value {
    let Timetable { expression, timezone, paused } = timetable;
    let next: Vec<String> = moments.iter().map(|moment| moment.timestamp().to_string()).collect();
    json!({ "quartz_cron_expression": expression, "timezone_id": timezone, "paused": paused, "next": next })
}

/// Presses "Run now" on the job and follows the run; its outcome is the outcome.
async fn press(carried: Carried, job: u64, databricks: &Databricks, stage: &Stage) -> Ended<Box<dyn Report>> {
    let Ended { report: made, failure: _ } = carried.end();
    // What was made is said before the run begins, not after it.
    for line in made.iter().flat_map(|made| made.text().lines().map(ToOwned::to_owned).collect::<Vec<_>>()) {
        stage.events.progress(line);
    }
    let Ended { report: run, failure } = super::run::press(job, databricks, stage).await;
    Ended { report: Some(Box::new(MadeAndRun { made, run })), failure }
}

/// The workflow, and the run of it.
struct MadeAndRun {
    made: Option<Box<dyn Report>>,
    run: Option<Box<dyn Report>>,
}

impl Report for MadeAndRun {
    fn text(&self) -> String {
        let MadeAndRun { made: _, run } = self;
        run.as_ref().map(|run| run.text()).unwrap_or_default()
    }

    fn json(&self) -> Value {
        let MadeAndRun { made, run } = self;
        let mut data = made.as_ref().map_or_else(|| json!({}), |made| made.json());
        data["run"] = run.as_ref().map(|run| run.json()).into();
        data
    }
}

#[cfg(test)]
mod tests;
