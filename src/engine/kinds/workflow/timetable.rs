//! The schedule of a job, as it is and as it should be. Pure.

use super::WorkflowWant;
use crate::databricks::raw::Raw;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Timetable {
    pub(crate) expression: String,
    pub(crate) timezone: String,
    pub(crate) paused: bool,
}

pub(crate) fn timetable(settings: &Raw) -> Option<Timetable> {
    let schedule: Raw = settings.read("schedule")?;
    Some(Timetable {
        expression: schedule.read("quartz_cron_expression")?,
        timezone: schedule.read("timezone_id").unwrap_or_else(|| "UTC".to_owned()),
        paused: schedule.read::<String>("pause_status").as_deref() == Some("PAUSED"),
    })
}

/// The wanted schedule: a flag that was not given keeps the existing value, or the default if there is none.
pub(crate) fn timetable_after(want: &WorkflowWant, standing: Option<Timetable>) -> Option<Timetable> {
    if want.no_schedule {
        return None;
    }
    let expression = want.schedule.clone().or_else(|| standing.as_ref().map(|standing| standing.expression.clone()))?;
    let timezone = want.timezone.clone().or_else(|| standing.as_ref().map(|standing| standing.timezone.clone()));
    Some(Timetable {
        expression,
        timezone: timezone.unwrap_or_else(|| "UTC".to_owned()),
        paused: want.paused.unwrap_or_else(|| standing.is_some_and(|standing| standing.paused)),
    })
}

/// Whether the job starts without user action: it has an unpaused schedule or other trigger.
pub(crate) fn starts_by_itself(settings: &Raw) -> bool {
    timetable(settings).is_some_and(|timetable| !timetable.paused) || has_other_start(settings)
}

/// The same for the wanted state; `settings`: as it is.
pub(crate) fn will_start_by_itself(want: &WorkflowWant, settings: Option<&Raw>) -> bool {
    timetable_after(want, settings.and_then(timetable)).is_some_and(|timetable| !timetable.paused)
        || settings.is_some_and(has_other_start)
}

fn has_other_start(settings: &Raw) -> bool {
    let is_paused = |start: &Raw| start.read::<String>("pause_status").as_deref() == Some("PAUSED");
    ["continuous", "trigger"].iter().any(|name| settings.has(name) && !is_paused(&settings.object(name)))
        || settings.list("triggers").iter().any(|start| !is_paused(start))
}

/// The other trigger that starts this job; the service allows only one kind (databricks-api §5.1).
pub(super) fn other_start(settings: &Raw) -> Option<&'static str> {
    ["continuous", "trigger", "triggers"].into_iter().find(|name| settings.has(name))
}
