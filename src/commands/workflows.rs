//! `workflows`: lists the Databricks jobs that run dbt jobs.

use jiff::tz::TimeZone;

use super::create_workflow::{next_starts, schedule_document};
use super::jobs::moment;
use super::runs::Span;
use super::shared::job_argument::shown_name;
use super::shared::table::table;
use super::{CommandContext, connect_databricks};
use crate::credentials::InputErrors;
use crate::databricks::jobs::{self, Job};
use crate::databricks::{RunState, WorkflowRun, is_missing, latest_workflow_run};
use crate::document::{Data, Id, document};
use crate::engine::kinds::{ID_TAG, JobSchedule, added_tasks, dbt_jobs, job_schedule, other_start};
use crate::failure::{Ended, Failure, Report, of_databricks};
use crate::http::{HttpError, Reader, side_by_side};
use crate::line::Line;
use crate::runs::plain;

/// List the Databricks jobs that run dbt
///
/// Lists jobs created by dbtrigger, jobs with a task added by it, and other jobs that run a dbt job.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  dbtrigger workflows
  dbtrigger workflows -o json")]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, ctx: &CommandContext) -> Ended<Box<dyn Report>> {
    listed(ctx).await.map_or_else(Ended::from, |report| Ended::well(report).boxed())
}

async fn listed(ctx: &CommandContext) -> Result<WorkflowsReport, Failure> {
    let (identity, writer) = connect_databricks(InputErrors::default(), ctx)?;
    let workflows = rows(&writer.reader(), ctx).await?;
    if workflows.is_empty() {
        ctx.events.remark("No workflows yet.");
    }
    Ok(WorkflowsReport { origin: identity.origin.to_string(), workflows, zone: ctx.context.zone.clone() })
}

/// The Databricks jobs that run dbt jobs, by name.
pub(super) async fn rows(reader: &Reader, ctx: &CommandContext) -> Result<Vec<Row>, Failure> {
    let all = jobs::all_with_tasks(reader).await;
    let all = all.map_err(|error| of_databricks("cannot list the workflows", &error))?;
    let jobs: Vec<(Job, Vec<u64>)> =
        all.into_iter().filter_map(|job| dbt_jobs(&job.settings).map(|dbt_jobs| (job, dbt_jobs))).collect();
    let last = side_by_side(&jobs, async |(job, _)| last_run(reader, job.id).await).await;
    let mut workflows = Vec::new();
    for ((job, dbt_jobs), last) in jobs.into_iter().zip(last) {
        let last = last.map_err(|error| of_databricks(&format!("cannot list the runs of workflow {}", job.id), &error));
        let job_schedule = job_schedule(&job.settings);
        let next = job_schedule.as_ref().map(|job_schedule| next_starts(job_schedule, ctx)).unwrap_or_default();
        workflows.push(Row { last: last?, job_schedule, next, dbt_jobs, job });
    }
    workflows.sort_by_cached_key(|row| (row.name().to_lowercase(), row.job.id));
    Ok(workflows)
}

/// The newest run. `None`: there is none, or the job was deleted since the list was made.
async fn last_run(reader: &Reader, job: u64) -> Result<Option<WorkflowRun>, HttpError> {
    match reader.read(latest_workflow_run(job)).await {
        // A look-alike may ignore whose runs are asked for.
        Ok(page) => Ok(page.runs.rows.into_iter().find(|run| run.job_id.is_none_or(|of| of == job))),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What dbtrigger created in a Databricks job.
#[derive(Clone, Copy)]
enum Made {
    Workflow,
    Tasks,
    Nothing,
}

impl Made {
    fn of(job: &Job) -> Made {
        if job.settings.object("tags").has(ID_TAG) {
            Made::Workflow
        } else if added_tasks(job).is_empty() {
            Made::Nothing
        } else {
            Made::Tasks
        }
    }

    fn word(self) -> Option<&'static str> {
        match self {
            Made::Workflow => Some("workflow"),
            Made::Tasks => Some("tasks"),
            Made::Nothing => None,
        }
    }
}

/// A Databricks job that runs dbt jobs.
pub(super) struct Row {
    job: Job,
    /// The dbt jobs that it runs, as far as it names them.
    dbt_jobs: Vec<u64>,
    job_schedule: Option<JobSchedule>,
    next: Vec<jiff::Zoned>,
    pub(super) last: Option<WorkflowRun>,
}

impl Row {
    pub(super) fn name(&self) -> String {
        self.job.settings.read("name").unwrap_or_default()
    }

    /// What starts it.
    fn schedule(&self) -> String {
        match &self.job_schedule {
            Some(JobSchedule { expression, timezone, paused }) => {
                let paused = if *paused { " (paused)" } else { "" };
                plain(&format!("{expression} {timezone}{paused}"), 100)
            }
            None => other_start(&self.job.settings).unwrap_or_default().to_owned(),
        }
    }

    fn last(&self, zone: &TimeZone) -> String {
        let Some(run) = &self.last else { return String::new() };
        let status = run.state().map(|state| plain(state.word(), 100)).unwrap_or_default();
        Span::of(run).started.map_or_else(|| status.clone(), |at| format!("{status} {}", moment(at, zone)))
    }
}

/// The `data` of `workflows`.
struct WorkflowsReport {
    origin: String,
    workflows: Vec<Row>,
    zone: TimeZone,
}

impl Report for WorkflowsReport {
    fn text(&self) -> Vec<Line> {
        let cells = |row: &Row| {
            let next = row.next.first().map(|at| moment(at.timestamp(), at.time_zone())).unwrap_or_default();
            let dbt_jobs: Vec<String> = row.dbt_jobs.iter().map(ToString::to_string).collect();
            let made = match Made::of(&row.job) {
                Made::Workflow => "dbtrigger",
                Made::Tasks => "dbtrigger (task)",
                Made::Nothing => "",
            };
            vec![
                row.job.id.to_string(),
                shown_name(Some(&row.name())),
                dbt_jobs.join(", "),
                row.schedule(),
                next,
                row.last(&self.zone),
                made.to_owned(),
            ]
        };
        let heads = ["ID", "NAME", "DBT JOB", "SCHEDULE", "NEXT START", "LAST RUN", "CREATED BY"];
        table(&heads, self.workflows.iter().map(cells))
    }

    fn json(&self) -> Data {
        let WorkflowsReport { origin, workflows, zone: _ } = self;
        let row = |row: &Row| {
            let id = row.job.id;
            let last = row.last.as_ref().map(|run| {
                let Span { started, finished } = Span::of(run);
                document!({
                    "workflow_run_id": Id(run.run_id),
                    "workflow_run_url": run.url(origin, id),
                    "status": run.state().as_ref().map(RunState::word),
                    "started_at": started.map(|at| at.to_string()),
                    "finished_at": finished.map(|at| at.to_string()),
                })
            });
            document!({
                "workflow_id": Id(id),
                "workflow_url": jobs::link(origin, id, None),
                "workflow_name": row.name(),
                "created_by_dbtrigger": Made::of(&row.job).word(),
                "dbt_job_ids": row.dbt_jobs.iter().copied().map(Id).collect::<Vec<_>>(),
                "schedule": row.job_schedule.as_ref().map(|job_schedule| schedule_document(job_schedule, &row.next)),
                "other_start": other_start(&row.job.settings),
                "last_run": last,
            })
        };
        document!({ "workflows": workflows.iter().map(row).collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::commands::tests::harness::{Harness, Outcome, id};
    use crate::commands::{create_workflow, deploy_notebook, init_secrets, run};

    async fn list(world: &Harness) -> Outcome {
        world.run(super::run, &[]).await.expect("nobody kills it")
    }

    fn notebook(path: &str, parameters: &Value) -> Value {
        let notebook = json!({ "notebook_path": path, "source": "WORKSPACE", "base_parameters": parameters });
        json!({ "task_key": "load", "notebook_task": notebook })
    }

    #[tokio::test(start_paused = true)]
    async fn workflows_that_run_dbt_jobs_are_listed_with_schedule_and_last_run_and_nothing_is_written() {
        let world = Harness::new();
        let _ = world.run(init_secrets::run, &[]).await;
        let _ = world.run(deploy_notebook::run, &[]).await;
        let empty = list(&world).await;
        assert_eq!(
            (empty.exit, empty.text.as_str(), empty.data["workflows"].as_array().map(Vec::len)),
            (0, "", Some(0))
        );
        let made = |name: &str, settings: Value| {
            let mut settings = settings;
            settings["name"] = name.into();
            world.post("/api/2.2/jobs/create", &settings)["job_id"].to_string()
        };
        let _ = made("Other", json!({ "tasks": [notebook("/Shared/load", &json!({}))] }));
        let host = made("Host", json!({ "tasks": [notebook("/Shared/load", &json!({}))] }));
        let by_hand =
            made("By hand", json!({ "tasks": [notebook("/Shared/run_dbt", &json!({ "job_id": "222224" }))] }));
        let native = json!({ "connection_resource_name": "dbt", "dbt_platform_job_id": "222226" });
        let native = made("Native", json!({ "tasks": [{ "task_key": "dbt", "dbt_platform_task": native }] }));
        for line in [
            &["--job", "222222", "--schedule", "0 0 6 * * ?", "--timezone", "Europe/Berlin"][..],
            &["--job", "222225", "--schedule", "0 0 7 * * ?", "--paused"],
            &["--add-to", &host, "--job", "222223"],
        ] {
            assert_eq!(world.run(create_workflow::run, line).await.map(|made| made.exit), Some(0), "{line:?}");
        }
        let started = world.run(run::run, &["--workflow", "dbt: Nightly build (222222)", "--no-wait"]).await.unwrap();
        let _ = world.take_log();
        let listed = list(&world).await;
        assert!(world.take_writes().is_empty());
        let rows = listed.data["workflows"].as_array().unwrap();
        assert_eq!(rows.len(), 5, "{rows:?}");
        let by_job = |job: &str| rows.iter().find(|row| row["dbt_job_ids"] == json!([job])).unwrap();
        let (ours, paused) = (by_job("222222"), by_job("222225"));
        assert_eq!(ours["created_by_dbtrigger"], "workflow");
        assert_eq!(ours["schedule"]["next"][0], "2025-10-10T04:00:00Z");
        assert_eq!(ours["last_run"]["workflow_run_id"], started.data["workflow_run_id"]);
        assert_eq!((&paused["schedule"]["paused"], &paused["schedule"]["next"]), (&true.into(), &json!([])));
        assert_eq!(paused["last_run"], Value::Null);
        for (job, workflow, made) in
            [("222223", &host, json!("tasks")), ("222224", &by_hand, Value::Null), ("222226", &native, Value::Null)]
        {
            let row = by_job(job);
            assert_eq!((&id(&row["workflow_id"]), &row["created_by_dbtrigger"]), (workflow, &made), "{row}");
        }
        assert_eq!(listed.text.lines().count(), 6);
    }
}
