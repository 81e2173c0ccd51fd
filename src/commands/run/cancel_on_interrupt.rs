//! `run --on-interrupt cancel`: cancels what was started, and waits for confirmation, before the program ends.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::dbt_report::DbtReport;
use super::follow_workflow::WorkflowReport;
use super::interrupt_outcome::{InterruptOutcome, WorkflowInterruptOutcome};
use super::prepared_run::PreparedRun;
use crate::commands::cancel::NotCancelled;
use crate::commands::shared::interrupt_report::Checkpoint;
use crate::commands::{CommandContext, InterruptReport, cancel};
use crate::dbt::{End, Run, Status};
use crate::document::Data;
use crate::durations::shown;
use crate::events::{DuplicateOutcome, Interruption, RunEvent, RunId};
use crate::failure::{Code, Ended, Failure, Known, Report, of_dbt, of_gone};
use crate::http::{Deadline, HttpError, Writer};
use crate::origin::Origin;
use crate::runs::{DbtRun, DuplicateRisk, Followed, RunContext, follow};

/// Longest time for the cancellation after an interrupt.
const LIMIT: Duration = Duration::from_secs(30);

/// Pause between attempts: a new run may not be found for a moment.
const BETWEEN: Duration = Duration::from_secs(2);

/// Interrupted before anything was sent.
pub(super) fn nothing_started(signal: u8) -> Failure {
    Failure::interrupted(signal).state("nothing was started")
}

/// The outcome is the interruption; the failure becomes its causes.
pub(super) fn as_interruption(signal: u8, failure: Failure) -> Failure {
    if matches!(failure.code, Code::Interrupted(_)) {
        return failure;
    }
    let Failure { code: _, what, causes, hints, open_questions: _ } = failure;
    let interrupted = Failure::interrupted(signal).cause(what);
    Failure { causes: interrupted.causes.into_iter().chain(causes).collect(), hints, ..interrupted }
}

/// Waits for a signal and then for `LIMIT`.
pub(super) async fn grace_period_after_signal(interruption: &Interruption) {
    interruption.wait().await;
    sleep(LIMIT).await;
}

/// A dbt run whose follower was interrupted.
pub(super) struct InterruptedRun<'a> {
    pub(super) start: &'a PreparedRun,
    /// As last seen.
    pub(super) run: Run,
    /// Set if there may be a second run.
    pub(super) duplicate_risk: Option<DuplicateRisk>,
}

impl InterruptedRun<'_> {
    /// Cancels the run, and records the result in `ended`.
    pub(super) async fn cancel_and_record(
        self,
        signal: u8,
        ended: &mut Ended<DbtReport>,
        run_ctx: &RunContext,
        interrupt_report: &InterruptReport,
    ) {
        let Some(report) = &mut ended.report else { return };
        let failure = match ended.failure.take() {
            // A retry of this run may be active, with unknown ID.
            Some(failure) if failure.code == Code::OutcomeUnknown => {
                report.on_interrupt = Some(InterruptOutcome::Unknown);
                as_interruption(signal, failure)
            }
            Some(_) | None => self.cancel(signal, report, run_ctx, interrupt_report).await,
        };
        ended.failure = Some(failure);
    }

    async fn cancel(
        self,
        signal: u8,
        report: &mut DbtReport,
        run_ctx: &RunContext,
        interrupt_report: &InterruptReport,
    ) -> Failure {
        let InterruptedRun { start, run, duplicate_risk } = self;
        let interrupted = Failure::interrupted(signal);
        let word = |report: &DbtReport| report.status.map_or_else(|| "not seen".to_owned(), Status::word);
        if report.end.is_some() {
            report.on_interrupt = Some(InterruptOutcome::Ended);
            let failure = interrupted.cause(format!("dbt run {} had already ended: {}", run.id, word(report)));
            return failure.advise(format!("see the run: {}", report.url()));
        }
        let (number, cancel_command) = (run.id, start.cancel(run.id));
        run_ctx.events.run(RunEvent::Canceling { run: RunId::Dbt(number) });
        report.on_interrupt = Some(InterruptOutcome::StillRunning);
        interrupt_report.set(Checkpoint {
            known: Known::of(report),
            line: format!("canceling dbt run {number}: {}", report.url()),
            resume: cancel_command.clone(),
        });
        let deadline = Instant::now() + LIMIT;
        let writer = start.writer.until(&cancellation_deadline());
        let account = start.account.id;
        let request = match timeout_at(deadline, request_cancellation(&writer, account, run, deadline)).await {
            Ok(Ok(request)) => request,
            Ok(Err(error)) => {
                let refused =
                    of_dbt(&format!("cannot cancel dbt run {number}"), &error).state("it may still be running");
                return as_interruption(signal, refused.run("cancel it", cancel_command));
            }
            Err(_) => {
                let cause = format!("no response about canceling dbt run {number}; it may still be running");
                return interrupted.cause(cause).run("cancel it", cancel_command);
            }
        };
        let mut probe = DbtRun::new(&writer, run_ctx, account, request, duplicate_risk).without_steps();
        let followed = follow(&mut probe, deadline, run_ctx, |_| {}).await;
        report.take(probe.run());
        report.add_duplicates(probe.duplicates());
        let number = probe.run().id;
        let mut failure = match (report.end, followed) {
            (Some(End::Cancelled), _) => {
                report.on_interrupt = Some(InterruptOutcome::Cancelled);
                interrupted.cause(format!("dbt run {number} was canceled"))
            }
            (Some(End::Success | End::Error), _) => {
                report.on_interrupt = Some(InterruptOutcome::Ended);
                interrupted.cause(format!("dbt run {number} ended before it could be canceled: {}", word(report)))
            }
            (None, Followed::Gone(_, error)) => {
                report.on_interrupt = Some(InterruptOutcome::Gone);
                as_interruption(
                    signal,
                    of_gone(&format!("dbt run {number}"), &error).run("list recent runs", "dbtrigger runs"),
                )
            }
            (None, Followed::Blind(_, error)) => {
                let what = format!("requested cancellation of dbt run {number}, but cannot read its status");
                as_interruption(signal, of_dbt(&what, &error).run("cancel it", &cancel_command))
            }
            (None, Followed::OutOfTime(_) | Followed::Ended(_)) => interrupted
                .cause(format!(
                    "requested cancellation of dbt run {number}, but it had not ended after {}",
                    shown(LIMIT)
                ))
                .run("cancel it", &cancel_command),
        };
        for (second, _) in report.duplicates.iter().filter(|(_, outcome)| *outcome == DuplicateOutcome::Left) {
            failure = failure
                .cause(format!("a second run {second} of this start is still running"))
                .run("cancel the second run", start.cancel(*second));
        }
        failure.advise(format!("see the run: {}", report.url()))
    }
}

/// The run's deadline does not limit its cancellation: `LIMIT` does, around all requests.
fn cancellation_deadline() -> Deadline {
    Deadline::after(LIMIT * 2)
}

/// Asks dbt to cancel the run, and retries while it is not found.
async fn request_cancellation(writer: &Writer, account: u64, run: Run, deadline: Instant) -> Result<Run, HttpError> {
    loop {
        match cancel::request_cancellation(writer, account, run.clone()).await {
            Ok(request) => return Ok(request),
            Err(NotCancelled::Gone(_)) if Instant::now() + BETWEEN < deadline => sleep(BETWEEN).await,
            Err(NotCancelled::Gone(error) | NotCancelled::Failed(error)) => return Err(error),
        }
    }
}

/// Cancels the Databricks run and the dbt runs it started.
pub(super) async fn cancel_workflow(
    signal: u8,
    run: u64,
    mut report: WorkflowReport,
    origin: &Origin,
    writer: &Writer,
    ctx: &CommandContext,
) -> Ended<Box<dyn Report>> {
    ctx.events.run(RunEvent::Canceling { run: RunId::Databricks(run) });
    let resume = format!("dbtrigger cancel --workflow-run {run}");
    let mut cancellation =
        WorkflowInterruptOutcome { outcome: InterruptOutcome::StillRunning, status: None, dbt_runs: Data::default() };
    report.on_interrupt = Some(cancellation.clone());
    let known = Checkpoint {
        known: Known::of(&report),
        line: format!("canceling Databricks run {run}: {}", report.url()),
        resume: resume.clone(),
    };
    let mut report_of_cancel =
        cancel::CancelReport { caller_data: known.known.data.clone(), ..cancel::CancelReport::default() };
    ctx.interrupt_report.set(known);
    let deadline = Deadline::after(LIMIT);
    let writer = writer.until(&cancellation_deadline());
    let stopping = cancel::cancel_workflow(run, origin, &writer, &deadline, &mut report_of_cancel, ctx);
    let failed = match timeout_at(deadline.at(), stopping).await {
        Ok(Ok(())) => None,
        Ok(Err(failure)) => Some(failure),
        Err(_) => Some(
            Failure::new(
                Code::StillRunning,
                format!("timed out after {} canceling Databricks run {run}", deadline.limit()),
            )
            .cause("it, or one of its dbt runs, may still be running")
            .run("cancel it", resume),
        ),
    };
    if let Some(now) = &report_of_cancel.workflow {
        cancellation.outcome = match now.outcome {
            cancel::CancelOutcome::Cancelled => InterruptOutcome::Cancelled,
            cancel::CancelOutcome::Ended => InterruptOutcome::Ended,
            cancel::CancelOutcome::StillRunning => InterruptOutcome::StillRunning,
            cancel::CancelOutcome::Gone => InterruptOutcome::Gone,
        };
        cancellation.status = Some(now.status.clone()).filter(|status| !status.is_empty());
    }
    cancellation.dbt_runs = report_of_cancel.dbt_json();
    report.on_interrupt = Some(cancellation);
    let mut failure = Failure::interrupted(signal);
    failure.causes.extend(report_of_cancel.text().iter().map(ToString::to_string));
    if let Some(Failure { code: _, what, causes, hints, open_questions: _ }) = failed {
        failure.causes.extend(std::iter::once(what).chain(causes));
        failure.hints.extend(hints);
    } else {
        ctx.interrupt_report.ended(&report);
    }
    let failure = failure.advise(format!("see the run: {}", report.url()));
    Ended { report: Some(Box::new(report)), failure: Some(failure) }
}
