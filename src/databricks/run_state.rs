//! How a run or task stands: the old and the new form of its state together (databricks-api §5.7).

use serde::Deserialize;

use super::soft;

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct State {
    #[serde(default, deserialize_with = "soft")]
    life_cycle_state: Option<String>,
    #[serde(default, deserialize_with = "soft")]
    result_state: Option<String>,
    #[serde(default, deserialize_with = "soft")]
    state_message: Option<String>,
    #[serde(default, deserialize_with = "soft")]
    queue_reason: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct NewStatus {
    #[serde(default, deserialize_with = "soft")]
    state: Option<String>,
    #[serde(default, deserialize_with = "soft")]
    termination_details: Option<Details>,
    #[serde(default, deserialize_with = "soft")]
    queue_details: Option<Details>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Details {
    #[serde(default, deserialize_with = "soft")]
    code: Option<String>,
    #[serde(default, deserialize_with = "soft")]
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

/// How a run or task stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RunState {
    /// With the service's word for it.
    Going(String),
    Ended(WorkflowEnd),
}

/// How a run or task ended, with the service's word for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WorkflowEnd {
    Success(String),
    /// Some tasks failed, all leaves succeeded: good, with a remark.
    SuccessWithFailures(String),
    /// It never had to run: a condition, or another choice of tasks.
    Left(String),
    /// It should have run, and did not: a limit of runs, or what it depends on did not succeed.
    NeverRan(String),
    Cancelled(String),
    /// FAILED, TIMEDOUT and whatever else is not good.
    Failed(String),
}

impl WorkflowEnd {
    /// What a result or a termination code means. Words that nobody knows are not good.
    pub(crate) fn of(word: &str) -> WorkflowEnd {
        let owned = word.to_owned();
        match word {
            "SUCCESS" => WorkflowEnd::Success(owned),
            "SUCCESS_WITH_FAILURES" => WorkflowEnd::SuccessWithFailures(owned),
            "EXCLUDED" | "DISABLED" => WorkflowEnd::Left(owned),
            "CANCELED" | "USER_CANCELED" => WorkflowEnd::Cancelled(owned),
            "SKIPPED"
            | "UPSTREAM_FAILED"
            | "UPSTREAM_CANCELED"
            | "MAXIMUM_CONCURRENT_RUNS_REACHED"
            | "MAX_CONCURRENT_RUNS_EXCEEDED"
            | "MAX_JOB_QUEUE_SIZE_EXCEEDED"
            | "WORKSPACE_RUN_LIMIT_EXCEEDED" => WorkflowEnd::NeverRan(owned),
            _ => WorkflowEnd::Failed(owned),
        }
    }

    /// The service's word for it.
    pub(crate) fn word(&self) -> &str {
        match self {
            WorkflowEnd::Success(word)
            | WorkflowEnd::SuccessWithFailures(word)
            | WorkflowEnd::Left(word)
            | WorkflowEnd::NeverRan(word)
            | WorkflowEnd::Cancelled(word)
            | WorkflowEnd::Failed(word) => word,
        }
    }

    fn is_success(&self) -> bool {
        match self {
            WorkflowEnd::Success(_) | WorkflowEnd::SuccessWithFailures(_) => true,
            WorkflowEnd::Left(_) | WorkflowEnd::NeverRan(_) | WorkflowEnd::Cancelled(_) | WorkflowEnd::Failed(_) => {
                false
            }
        }
    }
}

impl RunState {
    /// The service's word for it.
    pub(crate) fn word(&self) -> &str {
        match self {
            RunState::Going(word) => word,
            RunState::Ended(end) => end.word(),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        match self {
            RunState::Going(_) => false,
            RunState::Ended(_) => true,
        }
    }
}

pub(super) fn standing(state: Option<&State>, status: Option<&NewStatus>) -> Option<RunState> {
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
        return Some(RunState::Going(life.or(new).unwrap_or_default().to_owned()));
    }
    // SKIPPED and INTERNAL_ERROR may come without a result.
    let end = WorkflowEnd::of(result.or(code).or(life).or(new).unwrap_or_default());
    // Good is only what nothing in the answer contradicts.
    let end = match (life, code.map(WorkflowEnd::of)) {
        (Some("INTERNAL_ERROR"), _) if end.is_success() || matches!(end, WorkflowEnd::Left(_)) => {
            WorkflowEnd::Failed("INTERNAL_ERROR".to_owned())
        }
        (Some("SKIPPED"), _) if end.is_success() => WorkflowEnd::NeverRan("SKIPPED".to_owned()),
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
