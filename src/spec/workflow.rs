//! A workflow, as it is asked for.

use jiff::Timestamp;

use super::compute::ComputeSpec;
use super::grants::GrantTo;
use super::setting::{Setting, TaskSettings, TaskSpec, WorkflowSettings};
use crate::credentials::{InputErrors, Source};
use crate::databricks::permissions::JobLevel;
use crate::databricks::workspace::NotebookPath;
use crate::failure::{Code, Failure};
use crate::schedule::{BadSchedule, Schedule, Zone};

/// Longest name that Databricks accepts.
const LONGEST_NAME: usize = 4096;

/// A workflow for dbt jobs, or tasks for someone else's workflow.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkflowSpec {
    /// By default that of the dbt job.
    pub(crate) name: Option<String>,
    /// The dbt account of the jobs.
    pub(crate) account: Option<u64>,
    /// At least one, once names of dbt jobs are resolved.
    pub(crate) tasks: Vec<TaskSpec>,
    /// By default the account's, in the caller's home folder.
    pub(crate) notebook: Option<NotebookPath>,
    pub(crate) compute: Setting<ComputeSpec>,
    pub(crate) each_task: TaskSettings,
    pub(crate) settings: WorkflowSettings,
    /// Whether the run-as identity gets the access to key and notebook that it lacks.
    pub(crate) grant_run_as: bool,
    pub(crate) grants: Vec<GrantTo<JobLevel>>,
}

/// Reads `--schedule` and `--timezone`.
pub(crate) fn read_start(
    schedule: Option<&str>,
    timezone: Option<&str>,
    now: Timestamp,
    errors: &mut InputErrors,
) -> (Setting<String>, Setting<String>) {
    let zone = errors.optional(timezone.map(read_zone).transpose());
    let schedule = schedule.map(|text| read_schedule(text, &Source::Flag("--schedule"), zone.as_ref(), now));
    let schedule = errors.optional(schedule.transpose());
    (schedule.map(|schedule| schedule.expression().to_owned()).into(), zone.map(|zone| zone.name().to_owned()).into())
}

pub(crate) fn read_name(name: String) -> Result<String, Failure> {
    let reason = if name.trim().is_empty() {
        "it is empty"
    } else if name.trim() != name {
        "it starts or ends with whitespace"
    } else if name.chars().any(char::is_control) {
        "it contains a line break or another control character"
    } else if name.len() > LONGEST_NAME {
        "Databricks allows at most 4096 bytes"
    } else {
        return Ok(name);
    };
    Err(Failure::new(Code::InvalidInput, format!("--name is invalid: {reason}"))
        .advise("pass the name to show in the workspace"))
}

pub(crate) fn read_zone(text: &str) -> Result<Zone, Failure> {
    Zone::parse(text).map_err(|bad| {
        Failure::new(Code::InvalidInput, format!("invalid time zone \"{text}\": {bad}"))
            .advise("use an IANA name such as Europe/Berlin, America/New_York, or UTC")
    })
}

pub(crate) fn read_schedule(
    text: &str,
    source: &Source,
    zone: Option<&Zone>,
    now: Timestamp,
) -> Result<Schedule, Failure> {
    let zone = zone.cloned().unwrap_or_else(Zone::utc);
    Schedule::parse(text, zone, now).map_err(|bad| {
        let failure =
            Failure::new(Code::InvalidInput, format!("invalid schedule \"{text}\": {bad}"));
        match bad {
            BadSchedule::Unix { quartz: Some(meant) } | BadSchedule::NotQuartz { reason: _, meant: Some(meant) } => {
                if let Source::Typed = source {
                    failure.advise(format!("write {meant}"))
                } else {
                    failure.advise(format!("write {source} '{meant}'"))
                }
            }
            BadSchedule::Unix { quartz: None }
            | BadSchedule::NotQuartz { reason: _, meant: None }
            | BadSchedule::Never
            | BadSchedule::Zone => failure.advise(
                "use seconds, minutes, hours, day of month, month, day of week, such as '0 0 6 ? * MON-FRI' for 6 a.m. on weekdays",
            ),
        }
    })
}

/// Parses a run-as identity. Only the service knows which identities exist.
pub(crate) fn read_run_as(text: &str) -> Result<String, Failure> {
    let text = text.trim();
    let wrong = |reason: &str| {
        Failure::new(Code::InvalidInput, format!("invalid run-as identity \"{text}\": {reason}"))
            .advise("use the email that a user signs in with, or the application ID (a UUID) of a service principal")
    };
    if text.is_empty() {
        return Err(wrong("it is empty"));
    }
    if text.chars().any(char::is_control) {
        return Err(wrong("it contains a control character"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_nobody_could_find_again_are_refused() {
        for name in ["", "  ", " x", "x\n", "a\u{1b}[31m", &"x".repeat(4097)] {
            assert!(read_name(name.to_owned()).is_err(), "{name:?}");
        }
        for name in ["Täglich: dbt (1)", &"x".repeat(4096)] {
            assert_eq!(read_name(name.to_owned()).unwrap(), name);
        }
    }

    #[test]
    fn runs_act_as_whomever_the_service_knows() {
        let id = "0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d11";
        for good in
            ["bo@example.com", "bo_x#EXT#@example.com", "bö@example.com", id, "bo", "CORP\\bo", "bo jensen", "a;b`c"]
        {
            assert_eq!(read_run_as(&format!(" {good} ")).unwrap(), good);
        }
        for text in ["", " ", "a\n@b", "a\u{7}b"] {
            assert_eq!(read_run_as(text).unwrap_err().code, Code::InvalidInput, "{text}");
        }
    }
}
