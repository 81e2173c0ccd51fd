//! The schedule of a job: as it stands, and as it should be. Pure.

use super::WorkflowWant;
use crate::databricks::raw::Raw;

/// A schedule as it stands in a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Timetable {
    pub(crate) expression: String,
    pub(crate) timezone: String,
    pub(crate) paused: bool,
}

/// The schedule that is there.
pub(crate) fn timetable(settings: &Raw) -> Option<Timetable> {
    let schedule: Raw = settings.read("schedule")?;
    Some(Timetable {
        expression: schedule.read("quartz_cron_expression")?,
        timezone: schedule.read("timezone_id").unwrap_or_else(|| "UTC".to_owned()),
        paused: schedule.read::<String>("pause_status").as_deref() == Some("PAUSED"),
    })
}

/// The schedule that should be there: a flag that was not given leaves its part as it is, or at the default where there
/// is nothing yet.
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

/// Something else than a schedule starts this job, and the service takes one of them only (databricks-api §5.1).
pub(super) fn other_start(settings: &Raw) -> Option<&'static str> {
    ["continuous", "trigger", "triggers"].into_iter().find(|name| settings.has(name))
}
