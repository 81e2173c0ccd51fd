//! What `cancel` knows of the runs that it stopped.

use serde_json::{Value, json};

use crate::failure::Report;

/// One run that was asked to stop.
#[derive(Clone, Debug)]
pub(super) struct Stopped {
    pub(super) run: u64,
    pub(super) url: String,
    /// The service's word, as seen last.
    pub(super) status: String,
    /// It had ended before anything was asked.
    pub(super) already: bool,
    pub(super) fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Cancelled,
    /// In another way than by being cancelled.
    EndedItself,
    GoesOn,
}

impl Stopped {
    fn line(&self, what: &str) -> String {
        let Stopped { run, url, status, already, fate } = self;
        match fate {
            _ if *already => format!("{what} {run} has ended already: {status}   {url}"),
            Fate::Cancelled => format!("{what} {run} was cancelled   {url}"),
            Fate::EndedItself => format!("{what} {run} ended before it could be cancelled: {status}   {url}"),
            Fate::GoesOn => format!("{what} {run} goes on: {status}   {url}"),
        }
    }

    fn json(&self) -> Value {
        let Stopped { run, url, status, already, fate } = self;
        json!({
            "run_id": run, "run_url": url, "status": status, "already_ended": already,
            "cancelled": !already && *fate == Fate::Cancelled,
        })
    }
}

/// The `data` of `cancel`.
#[derive(Debug, Default)]
pub(super) struct CancelReport {
    pub(super) workflow: Option<Stopped>,
    /// `None`: they were not looked for.
    pub(super) dbt: Option<Vec<Stopped>>,
}

impl Report for CancelReport {
    fn text(&self) -> String {
        let CancelReport { workflow, dbt } = self;
        let workflows = workflow.iter().map(|stopped| stopped.line("Databricks run"));
        let dbt_runs = dbt.iter().flatten().map(|stopped| stopped.line("dbt run"));
        workflows.chain(dbt_runs).collect::<Vec<_>>().join("\n")
    }

    fn json(&self) -> Value {
        let CancelReport { workflow, dbt } = self;
        json!({
            "workflow_run": workflow.as_ref().map(Stopped::json),
            "dbt_runs": dbt.as_ref().map(|runs| runs.iter().map(Stopped::json).collect::<Vec<_>>()),
        })
    }
}
