//! Runs: started exactly once, followed to their end, and reported when they fail.

mod cause_marker;
mod child_runs;
mod dbt_run;
mod failure_details;
mod follow;
mod journal;
mod look_up;
mod poller;
mod resume;
mod settle;
mod trigger;
mod upload;
mod workflow_run;

pub(crate) use cause_marker::Key;
#[cfg(test)]
pub(crate) use cause_marker::cause;
pub(crate) use child_runs::{Parent, active_child_runs, active_notebook_runs, canceled_child_runs};
pub(crate) use dbt_run::{DbtRun, DbtState};
pub(crate) use failure_details::{FailedNode, FailureDetails, find_failures, plain};
pub(crate) use follow::{Followed, PollResult, Probe, follow};
pub(crate) use journal::{Intent, Journal};
pub(crate) use poller::RunPoller;
pub(crate) use resume::{NotResumed, Resumption, newest_run, resume};
pub(crate) use trigger::{DuplicateRisk, Milestone, NotStarted, TriggerRequest, Triggered, resume_alone, trigger};
pub(crate) use upload::Upload;
pub(crate) use workflow_run::{ActiveRuns, EarlierAttempt, TaskOutputSummary, TaskState, WorkflowProbe, WorkflowState};

use crate::context::{Entropy, Wall};
use crate::events::{Events, Interruption};
use crate::http::Pace;

/// Clocks, randomness and events for everything in this module.
#[derive(Clone)]
pub(crate) struct RunContext {
    pub(crate) pace: Pace,
    pub(crate) wall: Wall,
    pub(crate) entropy: Entropy,
    pub(crate) events: Events,
    /// Once interrupted, nothing more is sent; pending requests are waited for.
    pub(crate) interruption: Interruption,
}
