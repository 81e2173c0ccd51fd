//! What a command reports: text, JSON, and the outcomes of runs that CI outputs are rendered from.

use std::time::Duration;

use super::Failure;
use crate::document::Data;
use crate::line::Line;

/// How a command ended: its report, its failure, or both.
#[derive(Debug)]
pub(crate) struct Ended<R> {
    pub(crate) report: Option<R>,
    pub(crate) failure: Option<Failure>,
}

impl<R> Ended<R> {
    pub(crate) fn well(report: R) -> Ended<R> {
        Ended { report: Some(report), failure: None }
    }

    pub(crate) fn boxed(self) -> Ended<Box<dyn Report>>
    where
        R: Report + 'static,
    {
        let Ended { report, failure } = self;
        Ended { report: report.map(|report| Box::new(report) as Box<dyn Report>), failure }
    }
}

impl<R> From<Failure> for Ended<R> {
    fn from(failure: Failure) -> Ended<R> {
        Ended { report: None, failure: Some(failure) }
    }
}

/// What a command found or did.
pub(crate) trait Report {
    /// Text for stdout. Empty if everything was printed along the way.
    fn text(&self) -> Vec<Line>;
    /// The `data` of the JSON document.
    fn json(&self) -> Data;
    /// The runs that the command started or followed, for what a CI service reads.
    fn runs(&self) -> Vec<RunOutcome> {
        Vec::new()
    }
}

/// What came out of one run, whichever service ran it.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunOutcome {
    /// The name of the workflow, or the id of the dbt job.
    pub(crate) name: String,
    /// The dbt job.
    pub(crate) job_id: Option<u64>,
    pub(crate) run_id: Option<u64>,
    pub(crate) run_url: Option<String>,
    /// In the words of its service.
    pub(crate) status: Option<String>,
    pub(crate) took: Option<Duration>,
    /// It succeeded although something in it failed.
    pub(crate) with_failures: bool,
    /// Models, tests or tasks that failed for good.
    pub(crate) failed: Vec<FailedPart>,
    /// The dbt runs that its tasks started.
    pub(crate) dbt_runs: Vec<TaskRun>,
    /// Its own result; `None` while it is active, and where it is the command's only run.
    pub(crate) result: Option<Result<(), Failure>>,
}

/// A model, test or task that failed.
#[derive(Clone, Debug)]
pub(crate) struct FailedPart {
    pub(crate) name: String,
    pub(crate) message: Option<String>,
}

/// The dbt run of a task of a workflow.
#[derive(Clone, Debug)]
pub(crate) struct TaskRun {
    pub(crate) task_key: String,
    pub(crate) run_id: u64,
    pub(crate) run_url: Option<String>,
    pub(crate) status: Option<String>,
}

/// What a command knows so far, without text, which was printed along the way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) data: Data,
    pub(crate) runs: Vec<RunOutcome>,
}

impl Known {
    pub(crate) fn of(report: &dyn Report) -> Known {
        Known { data: report.json(), runs: report.runs() }
    }
}

impl From<Data> for Known {
    fn from(data: Data) -> Known {
        Known { data, runs: Vec::new() }
    }
}

impl Report for Known {
    fn text(&self) -> Vec<Line> {
        Vec::new()
    }

    fn json(&self) -> Data {
        self.data.clone()
    }

    fn runs(&self) -> Vec<RunOutcome> {
        self.runs.clone()
    }
}
