//! Reports the workflow that exists or would be created: URL, schedule and next command.

use crate::commands::CommandContext;
use crate::commands::shared::provision::Applied;
use crate::databricks::jobs::{self as databricks_jobs, Job};
use crate::databricks::me::Me;
use crate::document::{Data, Id, document};
use crate::engine::kinds::{ID_TAG, JobSchedule, job_schedule, name_all, planned_schedule};
use crate::failure::{Code, Failure};
use crate::http::Writer;
use crate::schedule::{Schedule, Zone};

/// Firing times shown.
const SHOWN: usize = 3;

/// Adds the job to the report. Returns the job if it is ours and can be run.
pub(in crate::commands) fn report_workflow(
    mut applied: Applied,
    writer: &Writer,
    me: &Me,
    ctx: &CommandContext,
    warnings: &[String],
    run_now: bool,
) -> (Applied, Option<Job>) {
    let workflow = applied.plan.workflow();
    let Some(step) = workflow else { return (applied, None) };
    let result = applied.result(&step.action, "created");
    let want = step.want.clone();
    let present = step.present().filter(|have| have.is_own()).cloned();
    let current_schedule = present.as_ref().and_then(|have| job_schedule(&have.job.settings));
    // If nothing was written, the schedule as it would be.
    let job_schedule = if result.is_some() { current_schedule } else { planned_schedule(&want, current_schedule) };
    let job = present.as_ref().map(|have| have.job.id);
    let name = present.as_ref().and_then(|have| have.job.settings.read::<String>("name")).unwrap_or(want.name);
    let url = job.map(|job| databricks_jobs::link(writer.origin(), job, me.workspace_id));
    applied.field("job_id", job.map(Id));
    applied.field("url", url.clone());
    applied.field("name", name);
    applied.field("tag", document!({ ID_TAG: want.identity.as_str() }));
    applied.field("result", result);
    let only = if let [only] = want.tasks.as_slice() { Some(only.job) } else { None };
    applied.field("dbt_job_id", only.map(Id));
    let tasks = want.tasks.iter().map(|task| document!({ "task_key": task.key, "dbt_job_id": Id(task.job) }));
    applied.field("tasks", tasks.collect::<Vec<_>>());
    applied.field("notebook", want.notebook);
    applied.field("run_as", want.settings.run_as.after(present.as_ref().and_then(|have| have.job.run_as.clone())));
    applied.field("warnings", warnings);
    let moments = job_schedule.as_ref().map(|job_schedule| next_starts(job_schedule, ctx)).unwrap_or_default();
    applied.field("schedule", job_schedule.as_ref().map(|job_schedule| schedule_document(job_schedule, &moments)));
    if let Some(JobSchedule { expression, timezone, paused }) = &job_schedule {
        let paused = if *paused { ", paused" } else { "" };
        applied.line(format!("Schedule: {expression} in {timezone}{paused}"));
        for moment in &moments {
            let local = moment.strftime("%a %F %H:%M:%S %Z").to_string();
            let utc = if timezone == "UTC" { String::new() } else { format!("  ({})", moment.timestamp()) };
            applied.line(format!("  {local}{utc}"));
        }
    }
    if let Some(url) = url {
        applied.line(url);
    }
    if let Some(have) = present.as_ref().filter(|have| have.ours.len() > 1)
        && applied.failure.is_none()
    {
        applied.failure = Some(
            Failure::new(Code::Refused, format!("two jobs now have this workflow's tag: {}", name_all(&have.ours)))
                .cause("a create request whose response was lost succeeded late, or this command ran twice at once")
                .advise("remove one of the two before it starts, with `dbtrigger remove --workflow ID`"),
        );
    }
    match job {
        Some(job) if result.is_some() && !run_now => applied.next("run it", format!("dbtrigger run --workflow {job}")),
        Some(_) | None => {}
    }
    (applied, present.map(|have| have.job))
}

/// The next times at which it starts; none while it is paused.
pub(in crate::commands) fn next_starts(job_schedule: &JobSchedule, ctx: &CommandContext) -> Vec<jiff::Zoned> {
    let now = ctx.context.wall.now();
    let JobSchedule { expression, timezone, paused } = job_schedule;
    if *paused {
        return Vec::new();
    }
    // A schedule edited by others may not parse; it is shown without times.
    Zone::parse(timezone)
        .and_then(|zone| Schedule::parse(expression, zone, now))
        .map(|schedule| schedule.next(now, SHOWN))
        .unwrap_or_default()
}

pub(in crate::commands) fn schedule_document(job_schedule: &JobSchedule, moments: &[jiff::Zoned]) -> Data {
    let JobSchedule { expression, timezone, paused } = job_schedule;
    let next: Vec<String> = moments.iter().map(|moment| moment.timestamp().to_string()).collect();
    document!({ "quartz_cron_expression": expression, "timezone_id": timezone, "paused": paused, "next": next })
}
