//! The schedule of a job, as it is and as it should be. Pure.

use super::WorkflowWant;
use crate::databricks::raw::Raw;
use crate::spec::WorkflowSettings;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobSchedule {
    pub(crate) expression: String,
    pub(crate) timezone: String,
    pub(crate) paused: bool,
}

pub(crate) fn job_schedule(settings: &Raw) -> Option<JobSchedule> {
    let schedule: Raw = settings.read("schedule")?;
    Some(JobSchedule {
        expression: schedule.read("quartz_cron_expression")?,
        timezone: schedule.read("timezone_id").unwrap_or_else(|| "UTC".to_owned()),
        paused: schedule.read::<String>("pause_status").as_deref() == Some("PAUSED"),
    })
}

/// The wanted schedule: a flag that was not given keeps the existing value, or the default if there is none.
pub(crate) fn planned_schedule(want: &WorkflowWant, existing: Option<JobSchedule>) -> Option<JobSchedule> {
    let WorkflowSettings { schedule, timezone, paused, .. } = &want.settings;
    let of = |existing: &Option<JobSchedule>, part: fn(&JobSchedule) -> String| existing.as_ref().map(part);
    Some(JobSchedule {
        expression: schedule.after(of(&existing, |existing| existing.expression.clone()))?,
        timezone: timezone
            .after(of(&existing, |existing| existing.timezone.clone()))
            .unwrap_or_else(|| "UTC".to_owned()),
        paused: paused.after(existing.map(|existing| existing.paused)).unwrap_or_default(),
    })
}

/// The flag that needs a schedule where there is none, neither in the flags nor in the job.
pub(super) fn flag_without_schedule(wanted: &WorkflowSettings, settings: &Raw) -> Option<&'static str> {
    let WorkflowSettings { schedule, timezone, paused, .. } = wanted;
    let flag = match (paused.value(), timezone.value()) {
        (Some(true), _) => "--paused",
        (Some(false), _) => "--unpaused",
        (None, Some(_)) => "--timezone",
        (None, None) => return None,
    };
    (schedule.value().is_none() && job_schedule(settings).is_none()).then_some(flag)
}

/// Whether the job starts without user action: it has an unpaused schedule or other trigger.
pub(crate) fn has_active_trigger(settings: &Raw) -> bool {
    job_schedule(settings).is_some_and(|job_schedule| !job_schedule.paused) || has_other_start(settings)
}

/// The same for the wanted state; `settings`: as it is.
pub(crate) fn will_have_active_trigger(want: &WorkflowWant, settings: Option<&Raw>) -> bool {
    planned_schedule(want, settings.and_then(job_schedule)).is_some_and(|job_schedule| !job_schedule.paused)
        || settings.is_some_and(has_other_start)
}

fn has_other_start(settings: &Raw) -> bool {
    let is_paused = |start: &Raw| start.read::<String>("pause_status").as_deref() == Some("PAUSED");
    ["continuous", "trigger"].iter().any(|name| settings.has(name) && !is_paused(&settings.object(name)))
        || settings.list("triggers").iter().any(|start| !is_paused(start))
}

/// The other trigger that starts this job; the service allows only one kind.
pub(crate) fn other_start(settings: &Raw) -> Option<&'static str> {
    ["continuous", "trigger", "triggers"].into_iter().find(|name| settings.has(name))
}
