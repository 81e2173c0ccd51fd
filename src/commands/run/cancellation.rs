//! What an interrupt did to a run.

use crate::document::Data;
use crate::failure::Code;

/// What happened to a run after an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancellation {
    NotStarted,
    /// It is unknown whether the run was started.
    Unknown,
    Cancelled,
    /// Ended before the cancellation, or in another way.
    Ended,
    StillRunning,
    /// Deleted.
    Gone,
}

impl Cancellation {
    /// The word in JSON output.
    pub(super) fn word(self) -> &'static str {
        match self {
            Cancellation::NotStarted => "not-started",
            Cancellation::Unknown => "unknown",
            Cancellation::Cancelled => "cancelled",
            Cancellation::Ended => "ended-itself",
            Cancellation::StillRunning => "goes-on",
            Cancellation::Gone => "gone",
        }
    }
}

/// What happened to a Databricks run and its dbt runs after an interrupt.
#[derive(Clone)]
pub(crate) struct WorkflowCancellation {
    pub(super) outcome: Cancellation,
    /// Status in the service's words, as last seen.
    pub(super) status: Option<String>,
    /// As in `cancel`'s data; null if they were not looked up.
    pub(super) dbt_runs: Data,
}

impl WorkflowCancellation {
    /// For a run whose ID is unknown.
    pub(super) fn unseen(code: Code) -> WorkflowCancellation {
        let outcome = if code == Code::OutcomeUnknown { Cancellation::Unknown } else { Cancellation::NotStarted };
        WorkflowCancellation { outcome, status: None, dbt_runs: Data::default() }
    }
}
