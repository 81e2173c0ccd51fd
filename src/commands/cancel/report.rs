//! The report of `cancel`.

use crate::document::{Data, Id, ToDocument as _, document};
use crate::failure::Report;
use crate::line::Line;

/// A run whose cancellation was requested.
#[derive(Clone, Debug)]
pub(in crate::commands) struct CanceledRun {
    pub(in crate::commands) run: u64,
    pub(in crate::commands) url: String,
    /// Status in the service's words, as last seen.
    pub(in crate::commands) status: String,
    /// The run had ended before the request.
    pub(in crate::commands) had_ended: bool,
    pub(in crate::commands) outcome: CancelOutcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) enum CancelOutcome {
    Cancelled,
    /// Ended other than by being canceled.
    Ended,
    StillRunning,
    /// Deleted.
    Gone,
}

impl CanceledRun {
    fn line(&self, what: &str) -> String {
        let CanceledRun { run, url, status, had_ended, outcome } = self;
        match outcome {
            _ if *had_ended => format!("{what} {run} had already ended: {status}   {url}"),
            CancelOutcome::Cancelled => format!("{what} {run} canceled   {url}"),
            CancelOutcome::Ended => format!("{what} {run} ended before it could be canceled: {status}   {url}"),
            CancelOutcome::StillRunning => format!("{what} {run} is still running: {status}   {url}"),
            CancelOutcome::Gone => format!("{what} {run} is gone   {url}"),
        }
    }

    fn json(&self) -> Data {
        let CanceledRun { run, url, status, had_ended, outcome } = self;
        document!({
            "run_id": Id(*run), "run_url": url, "status": status, "already_ended": had_ended,
            "cancelled": !had_ended && *outcome == CancelOutcome::Cancelled,
        })
    }
}

/// The `data` of `cancel`.
#[derive(Debug, Default)]
pub(in crate::commands) struct CancelReport {
    pub(in crate::commands) workflow: Option<CanceledRun>,
    /// `None` if the dbt runs were not looked up.
    pub(in crate::commands) dbt: Option<Vec<CanceledRun>>,
    /// Data of the calling command, if `cancel` runs as part of another one.
    pub(in crate::commands) caller_data: Data,
}

impl CancelReport {
    /// The data so far, for an interrupted command.
    pub(super) fn known(&self) -> Data {
        if self.caller_data.is_null() {
            return self.json();
        }
        let mut data = self.caller_data.clone();
        data.set("dbt_runs", self.dbt_json());
        data
    }

    pub(in crate::commands) fn dbt_json(&self) -> Data {
        self.dbt.as_ref().map(|runs| runs.iter().map(CanceledRun::json).collect::<Vec<_>>()).to_document()
    }
}

impl Report for CancelReport {
    fn text(&self) -> Vec<Line> {
        let CancelReport { workflow, dbt, caller_data: _ } = self;
        let workflows = workflow.iter().map(|canceled| canceled.line("Databricks run"));
        let dbt_runs = dbt.iter().flatten().map(|canceled| canceled.line("dbt run"));
        workflows.chain(dbt_runs).map(Line::Whole).collect()
    }

    fn json(&self) -> Data {
        document!({ "workflow_run": self.workflow.as_ref().map(CanceledRun::json), "dbt_runs": self.dbt_json() })
    }
}
