//! The state of a run or task, from the API's old and new formats.

use serde::Deserialize;

use super::optional;

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct State {
    #[serde(default, deserialize_with = "optional")]
    life_cycle_state: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    result_state: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    state_message: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    queue_reason: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct NewStatus {
    #[serde(default, deserialize_with = "optional")]
    state: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    termination_details: Option<Details>,
    #[serde(default, deserialize_with = "optional")]
    queue_details: Option<Details>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Details {
    #[serde(default, deserialize_with = "optional")]
    code: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    message: Option<String>,
}

impl NewStatus {
    pub(super) fn termination_code(&self) -> Option<&str> {
        self.termination_details.as_ref().and_then(|details| details.code.as_deref())
    }

    pub(super) fn queue_code(&self) -> Option<&str> {
        self.queue_details.as_ref().and_then(|details| details.code.as_deref())
    }
}

/// The state of a run or task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RunState {
    /// Active, with the service's status, such as `RUNNING`.
    Active(String),
    Ended(WorkflowEnd),
}

/// How a run or task ended, with the service's result or code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WorkflowEnd {
    Success(String),
    /// Some tasks failed, but all leaf tasks succeeded. Counts as success, with a remark.
    SuccessWithFailures(String),
    /// Did not need to run: excluded by a condition, or not selected.
    Excluded(String),
    /// Should have run but did not: a limit on runs, or a failed dependency.
    NotRun(String),
    Cancelled(String),
    /// FAILED, TIMEDOUT and any other failure.
    Failed(String),
}

impl WorkflowEnd {
    /// The meaning of a result state or termination code. Unknown ones count as failures.
    pub(crate) fn of(word: &str) -> WorkflowEnd {
        let owned = word.to_owned();
        match word {
            "SUCCESS" => WorkflowEnd::Success(owned),
            "SUCCESS_WITH_FAILURES" => WorkflowEnd::SuccessWithFailures(owned),
            "EXCLUDED" | "DISABLED" => WorkflowEnd::Excluded(owned),
            "CANCELED" | "USER_CANCELED" => WorkflowEnd::Cancelled(owned),
            "SKIPPED"
            | "UPSTREAM_FAILED"
            | "UPSTREAM_CANCELED"
            | "MAXIMUM_CONCURRENT_RUNS_REACHED"
            | "MAX_CONCURRENT_RUNS_EXCEEDED"
            | "MAX_JOB_QUEUE_SIZE_EXCEEDED"
            | "WORKSPACE_RUN_LIMIT_EXCEEDED" => WorkflowEnd::NotRun(owned),
            _ => WorkflowEnd::Failed(owned),
        }
    }

    /// The service's result or code.
    pub(crate) fn word(&self) -> &str {
        match self {
            WorkflowEnd::Success(word)
            | WorkflowEnd::SuccessWithFailures(word)
            | WorkflowEnd::Excluded(word)
            | WorkflowEnd::NotRun(word)
            | WorkflowEnd::Cancelled(word)
            | WorkflowEnd::Failed(word) => word,
        }
    }

    fn is_success(&self) -> bool {
        matches!(self, WorkflowEnd::Success(_) | WorkflowEnd::SuccessWithFailures(_))
    }
}

impl RunState {
    /// The service's status, result or code.
    pub(crate) fn word(&self) -> &str {
        match self {
            RunState::Active(word) => word,
            RunState::Ended(end) => end.word(),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        match self {
            RunState::Active(_) => false,
            RunState::Ended(_) => true,
        }
    }
}

pub(super) fn run_state(state: Option<&State>, status: Option<&NewStatus>) -> Option<RunState> {
    let life = state.and_then(|state| state.life_cycle_state.as_deref());
    let new = status.and_then(|status| status.state.as_deref());
    let result = state.and_then(|state| state.result_state.as_deref());
    let code = status.and_then(NewStatus::termination_code);
    let over = match (life, new) {
        (Some("TERMINATED" | "SKIPPED" | "INTERNAL_ERROR"), _) | (_, Some("TERMINATED")) => true,
        (Some(_), _) | (None, Some(_)) => false,
        (None, None) => return None,
    };
    if !over {
        return Some(RunState::Active(life.or(new).unwrap_or_default().to_owned()));
    }
    // SKIPPED and INTERNAL_ERROR may come without a result.
    let end = WorkflowEnd::of(result.or(code).or(life).or(new).unwrap_or_default());
    // A run is successful only if nothing in the response contradicts it.
    let end = match (life, code.map(WorkflowEnd::of)) {
        (Some("INTERNAL_ERROR"), _) if end.is_success() || matches!(end, WorkflowEnd::Excluded(_)) => {
            WorkflowEnd::Failed("INTERNAL_ERROR".to_owned())
        }
        (Some("SKIPPED"), _) if end.is_success() => WorkflowEnd::NotRun("SKIPPED".to_owned()),
        (_, Some(finer)) if end.is_success() && !matches!(finer, WorkflowEnd::Success(_)) => finer,
        (Some(_) | None, Some(_) | None) => end,
    };
    Some(RunState::Ended(end))
}

pub(super) fn message<'a>(state: Option<&'a State>, status: Option<&'a NewStatus>) -> Option<&'a str> {
    let of = |details: Option<&'a Details>| details.and_then(|details| details.message.as_deref());
    state
        .and_then(|state| state.state_message.as_deref())
        .filter(|text| !text.is_empty())
        .or_else(|| of(status.and_then(|status| status.termination_details.as_ref())))
        .or_else(|| state.and_then(|state| state.queue_reason.as_deref()))
        .or_else(|| of(status.and_then(|status| status.queue_details.as_ref())))
        .filter(|text| !text.is_empty())
}
