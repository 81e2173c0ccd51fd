//! What an interrupt did to a run.

use crate::document::Data;
use crate::failure::Code;

/// What happened to a run after an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InterruptOutcome {
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

impl InterruptOutcome {
    /// The word in JSON output.
    pub(super) fn word(self) -> &'static str {
        match self {
            InterruptOutcome::NotStarted => "not-started",
            InterruptOutcome::Unknown => "unknown",
            InterruptOutcome::Cancelled => "cancelled",
            InterruptOutcome::Ended => "ended-itself",
            InterruptOutcome::StillRunning => "goes-on",
            InterruptOutcome::Gone => "gone",
        }
    }
}

/// What happened to a Databricks run and its dbt runs after an interrupt.
#[derive(Clone)]
pub(crate) struct WorkflowInterruptOutcome {
    pub(super) outcome: InterruptOutcome,
    /// Status in the service's words, as last seen.
    pub(super) status: Option<String>,
    /// As in `cancel`'s data; null if they were not looked up.
    pub(super) dbt_runs: Data,
}

impl WorkflowInterruptOutcome {
    /// For a run whose ID is unknown.
    pub(super) fn unseen(code: Code) -> WorkflowInterruptOutcome {
        let outcome =
            if code == Code::OutcomeUnknown { InterruptOutcome::Unknown } else { InterruptOutcome::NotStarted };
        WorkflowInterruptOutcome { outcome, status: None, dbt_runs: Data::default() }
    }
}
