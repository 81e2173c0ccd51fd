//! `run --retry`: retries a failed run from its point of failure.

use super::dbt_report::{DbtReport, Resumed};
use crate::dbt::{End, Run};
use crate::failure::{Code, Ended, Failure};
use crate::http::Writer;
use crate::runs::{NotResumed, Resumption, RunContext, TriggerRequest, resume};

/// How many retries are allowed, and how many were made.
pub(super) struct Retries {
    pub(super) most: u32,
    pub(super) done: u32,
    /// dbt cannot retry the last failed run, so no more attempts are made.
    pub(super) cannot: bool,
}

/// How far a retry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resuming {
    /// Nothing has been sent.
    Looking,
    /// From here on a run may exist.
    Sending,
}

impl Retries {
    /// Returns the run that retries the failed one in `ended`, or `None`. If a retry fails, the reason is added to
    /// `ended`. `resuming` is called at each stage.
    pub(super) async fn next(
        &mut self,
        ended: &mut Ended<DbtReport>,
        order: &TriggerRequest,
        writer: &Writer,
        means: &RunContext,
        resuming: &mut dyn FnMut(&DbtReport, Resuming),
    ) -> Option<Run> {
        let Ended { report, failure } = ended;
        let report = report.as_mut().filter(|report| report.end == Some(End::Error))?;
        let run = report.run_id?;
        if self.done >= self.most {
            return None;
        }
        self.done += 1;
        let attempt = format!("attempt {} of {}", self.done + 1, self.most + 1);
        means.events.remark(format!("dbt run {run} failed; retrying from the point of failure ({attempt})"));
        let TriggerRequest { account, job, settle, at_most_once, deadline, .. } = order;
        let resumption = Resumption {
            account: *account,
            job: *job,
            run,
            created: report.created,
            settle: *settle,
            at_most_once: *at_most_once,
            deadline: *deadline,
        };
        resuming(report, Resuming::Looking);
        match resume(&resumption, writer, means, &mut || resuming(report, Resuming::Sending)).await {
            Ok(next) => {
                means.events.remark(format!("dbt run {} resumes run {run}", next.id));
                report.resumed.push(Resumed { run_id: run, run_url: report.url().to_owned(), status: report.status });
                report.findings = crate::runs::Findings::default();
                Some(next)
            }
            Err(not) => {
                self.cannot = matches!(not, NotResumed::Cannot(_));
                *failure = Some(not_resumed(run, failure.take(), &not, &order.resume));
                None
            }
        }
    }
}

/// Keeps the run's own failure, unless an unknown retry may be active.
fn not_resumed(run: u64, failed: Option<Failure>, not: &NotResumed, again: &str) -> Failure {
    let failed = failed.unwrap_or_else(|| Failure::new(Code::RunFailed, format!("dbt run {run} failed.")));
    match not {
        NotResumed::Cannot(reason) => failed.cause(format!("it cannot be retried from the point of failure: {reason}")),
        NotResumed::Failed(error) => failed.cause(format!("it was not retried from the point of failure: {error}")),
        NotResumed::NoTime => failed.cause("it timed out before the retry"),
        NotResumed::Interrupted => failed.cause("it was not retried again"),
        NotResumed::Unknown { error, looking } => {
            let unknown = Failure::new(
                Code::OutcomeUnknown,
                format!("dbt run {run} failed, and it is unknown whether it was retried."),
            );
            let unknown = unknown.cause(error.to_string());
            let unknown = match looking {
                Some(error) => unknown.cause(format!("looking for the retry failed too: {error}")),
                None => unknown.cause("no retry was found so far"),
            };
            unknown.run("look for the retry", again)
        }
    }
}
