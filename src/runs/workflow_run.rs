//! Looks at a run of a Databricks job.

use super::follow::{Probe, Seen};
use crate::databricks::{Standing, WorkflowRun, get_workflow_run};
use crate::http::{Fault, HttpError, Reader, Shape};

/// More pages of tasks than this are not read.
const MOST_PAGES: u32 = 20;

/// The run with all its tasks, as seen last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkflowState {
    pub(crate) run: WorkflowRun,
    pub(crate) standing: Standing,
}

/// The probe of a Databricks run.
pub(crate) struct WorkflowProbe<'a> {
    reader: &'a Reader,
    run: u64,
}

impl<'a> WorkflowProbe<'a> {
    pub(crate) fn new(reader: &'a Reader, run: u64) -> WorkflowProbe<'a> {
        WorkflowProbe { reader, run }
    }
}

impl Probe for WorkflowProbe<'_> {
    type State = WorkflowState;

    async fn look(&mut self) -> Result<Seen<WorkflowState>, HttpError> {
        let mut run = self.reader.glance(get_workflow_run(self.run, None)).await?;
        let mut pages = 1;
        while let Some(page) = run.next_page_token.take().filter(|token| !token.is_empty() && pages < MOST_PAGES) {
            run.add_page(self.reader.glance(get_workflow_run(self.run, Some(&page))).await?);
            pages += 1;
        }
        let Some(standing) = run.standing().filter(|_| run.run_id == self.run) else {
            return Err(HttpError {
                service: "Databricks",
                operation: "jobs/runs/get",
                origin: self.reader.origin().to_owned(),
                fault: Fault::Nonsense(Shape::Unreadable(format!("it does not say how run {} stands", self.run))),
                attempts: 1,
                request_id: None,
            });
        };
        let state = WorkflowState { run, standing };
        Ok(match state.standing {
            Standing::Going(_) => Seen::Going(state),
            Standing::Ended(_) => Seen::Ended(state),
        })
    }
}
