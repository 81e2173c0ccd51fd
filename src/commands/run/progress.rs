//! What is known of a start while it is in progress, for an interrupt.

use std::cell::RefCell;

use super::cancel_on_interrupt::{InterruptedRun, as_interruption};
use super::dbt_report::DbtReport;
use super::interrupt_outcome::InterruptOutcome;
use super::prepared_run::PreparedRun;
use super::retry_from_failure::Resuming;
use crate::commands::InterruptReport;
use crate::commands::shared::interrupt_report::Checkpoint;
use crate::dbt::Run;
use crate::failure::{Ended, Failure, Known};
use crate::runs::{DuplicateRisk, Milestone, NotStarted, RunContext};

pub(super) struct RunProgress<'a> {
    start: &'a PreparedRun,
    interrupt_report: &'a InterruptReport,
    /// The report without the latest state of the run.
    known: RefCell<DbtReport>,
    /// The run as last seen.
    latest: RefCell<Option<Run>>,
}

impl<'a> RunProgress<'a> {
    pub(super) fn new(start: &'a PreparedRun, interrupt_report: &'a InterruptReport) -> RunProgress<'a> {
        let (known, latest) = (RefCell::new(start.report()), RefCell::new(None));
        RunProgress { start, interrupt_report, known, latest }
    }

    pub(super) fn report(&self) -> DbtReport {
        let mut report = self.known.borrow().clone();
        if let Some(run) = self.latest.borrow().as_ref() {
            report.take(run);
        }
        report
    }

    /// The report when the follower is interrupted.
    pub(super) fn interrupted(&self) -> Ended<DbtReport> {
        Ended::well(self.report())
    }

    pub(super) fn milestone(&self, milestone: Milestone<'_>) {
        let (request, job) = (&self.start.request, &self.start.job);
        let (line, resume) = match milestone {
            Milestone::Sending => (format!("a run of dbt job {job} may have been started"), request.resume.clone()),
            Milestone::Known(run) => {
                *self.latest.borrow_mut() = Some(run.clone());
                let line = format!("dbt run {} is still running: {}", run.id, self.report().url());
                (line, self.start.watch_command(run.id))
            }
        };
        self.interrupt_report.set(Checkpoint { known: Known::of(&self.report()), line, resume });
    }

    pub(super) fn begun(&self, run: &Run, adopted: bool, sends: u32) {
        let mut known = self.known.borrow_mut();
        (known.adopted, known.sends) = (adopted, sends);
        *self.latest.borrow_mut() = Some(run.clone());
    }

    /// The reported run has failed and is being retried.
    pub(super) fn resuming(&self, report: &DbtReport, resuming: Resuming) {
        let run = report.run_id.unwrap_or_default();
        let line = match resuming {
            Resuming::Looking => format!("dbt run {run} failed and was not resumed yet: {}", report.url()),
            Resuming::Sending => format!("a run that resumes dbt run {run} may have been started"),
        };
        // This command follows a retry that exists, and starts one only if there is none.
        self.interrupt_report.set(Checkpoint { known: Known::of(report), line, resume: self.start.retry_command() });
    }

    /// `next` resumes the reported run.
    pub(super) fn resumed(&self, report: &DbtReport, next: &Run) {
        self.known.borrow_mut().clone_from(report);
        self.milestone(Milestone::Known(next));
    }

    pub(super) fn not_started(&self, error: &NotStarted, run_ctx: &RunContext) -> Ended<DbtReport> {
        self.ended_early(self.report(), self.start.not_started(error), error.may_have_started(), run_ctx)
    }

    /// No run is followed.
    pub(super) fn ended_early(
        &self,
        mut report: DbtReport,
        mut failure: Failure,
        may_have_started: bool,
        run_ctx: &RunContext,
    ) -> Ended<DbtReport> {
        if !may_have_started {
            self.interrupt_report.clear();
        }
        if let Some(signal) = run_ctx.interruption.signal() {
            report.on_interrupt =
                Some(if may_have_started { InterruptOutcome::Unknown } else { InterruptOutcome::NotStarted });
            failure = as_interruption(signal, failure);
        }
        Ended { report: Some(report), failure: Some(failure) }
    }

    /// Cancels the run, and records the result in `ended`.
    pub(super) async fn cancel(
        &self,
        signal: u8,
        duplicate_risk: Option<DuplicateRisk>,
        ended: &mut Ended<DbtReport>,
        run_ctx: &RunContext,
    ) {
        let latest = self.latest.borrow().clone();
        if let Some(run) = latest {
            InterruptedRun { start: self.start, run, duplicate_risk }
                .cancel_and_record(signal, ended, run_ctx, self.interrupt_report)
                .await;
        }
    }
}
