//! `run --retry` and `run --failed`: retry a failed run from its point of failure.

use super::dbt_report::{DbtReport, Resumed};
use super::prepared_run::{PreparedRun, StartedRun};
use super::progress::RunProgress;
use crate::dbt::{End, Run, Status};
use crate::events::RunEvent;
use crate::failure::{Code, Ended, Failure, of_dbt};
use crate::http::HttpError;
use crate::runs::{
    Journal, NotResumed, NotStarted, Resumption, RunContext, TriggerRequest, newest_run, resume, resume_alone,
};

/// How many retries are allowed, and how many were made.
pub(super) struct Retries {
    pub(super) most: u32,
    pub(super) done: u32,
    /// dbt cannot retry the last failed run, so no more attempts are made.
    pub(super) is_impossible: bool,
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
        start: &PreparedRun,
        run_ctx: &RunContext,
        resuming: &mut dyn FnMut(&DbtReport, Resuming),
    ) -> Option<Run> {
        let Ended { report, failure } = ended;
        let report = report.as_mut().filter(|report| report.end == Some(End::Error))?;
        let run = report.run_id?;
        if self.done >= self.most {
            return None;
        }
        self.done += 1;
        run_ctx.events.run(RunEvent::Resuming { run, attempt: Some((self.done + 1, self.most + 1)) });
        let resumption = resumption(&start.request, run, report);
        resuming(report, Resuming::Looking);
        match resume(&resumption, &start.writer, run_ctx, &mut || resuming(report, Resuming::Sending)).await {
            Ok(next) => {
                continue_with(run, &next, report, run_ctx);
                Some(next)
            }
            Err(not) => {
                self.is_impossible = matches!(not, NotResumed::Cannot(_));
                *failure = Some(not_resumed(run, failure.take(), &not, start));
                None
            }
        }
    }
}

fn resumption(request: &TriggerRequest, run: u64, report: &DbtReport) -> Resumption {
    let TriggerRequest { account, job, settle, at_most_once, ref deadline, .. } = *request;
    Resumption { account, job, run, created: report.created, settle, at_most_once, deadline: deadline.clone() }
}

/// The report goes on with the run that resumes this one.
fn continue_with(run: u64, next: &Run, report: &mut DbtReport, run_ctx: &RunContext) {
    run_ctx.events.run(RunEvent::Resumed { run: next.id, failed: run });
    report.resumed.push(Resumed { run_id: run, run_url: report.url().to_owned(), status: report.status });
    report.failure_details = crate::runs::FailureDetails::default();
}

impl PreparedRun {
    /// For `--failed`: resumes the job's last run, or finds the run that resumes it.
    pub(super) async fn resume_last(
        &self,
        progress: &RunProgress<'_>,
        run_ctx: &RunContext,
        journal: &Journal,
    ) -> Result<StartedRun, Ended<DbtReport>> {
        let request = &self.request;
        let patient = self.writer.patient();
        let looking = request.deadline.cut(newest_run(request.account, request.job, &patient));
        let last = match run_ctx.interruption.or(looking).await {
            Ok(Some(Ok(last))) => Ok(last),
            Ok(Some(Err(error))) => Err(NotStarted::Blind(error)),
            Ok(None) => Err(NotStarted::NoTime("dbt had not listed the job's runs by then".to_owned())),
            Err(signal) => Err(NotStarted::Interrupted(signal)),
        };
        let last = last.map_err(|error| progress.not_started(&error, run_ctx))?;
        let job = &self.job;
        let Some(last) = last else {
            let failure = Failure::new(Code::NotFound, format!("dbt job {job} has no runs yet"))
                .run("start a run", &self.start_over);
            return Err(progress.ended_early(progress.report(), failure, false, run_ctx));
        };
        let (run, mut report) = (last.id, progress.report());
        report.take(&last);
        let refused = match last.ended() {
            Some(End::Error) => None,
            None if last.retrying_run_id.is_some() => {
                run_ctx.events.run(RunEvent::ResumedElsewhere);
                return Ok(StartedRun { run: last, adopted: true, sends: 0, duplicate_risk: None, intent: None });
            }
            None => {
                let what = format!("dbt run {run}, the last one of job {job}, is still running");
                Some(Failure::new(Code::Refused, what).run("follow it", self.watch_command(run)))
            }
            Some(End::Success | End::Cancelled) => {
                let what = format!("dbt run {run}, the last one of job {job}, did not fail");
                let status = last.status.map(Status::word).unwrap_or_default();
                Some(
                    Failure::new(Code::Refused, what)
                        .cause(format!("status: {status}"))
                        .run("start a new run", &self.start_over),
                )
            }
        };
        if let Some(refused) = refused {
            return Err(progress.ended_early(report, refused, false, run_ctx));
        }
        run_ctx.events.run(RunEvent::Resuming { run, attempt: None });
        progress.resuming(&report, Resuming::Looking);
        let resumption = resumption(request, run, &report);
        let mut sends = 0;
        let mut sending = || {
            sends += 1;
            progress.resuming(&report, Resuming::Sending);
        };
        match resume_alone(request, &resumption, &self.writer, run_ctx, journal, &mut sending).await {
            Ok((next, intent)) => {
                continue_with(run, &next, &mut report, run_ctx);
                progress.resumed(&report, &next);
                Ok(StartedRun { run: next, adopted: sends == 0, sends, duplicate_risk: None, intent })
            }
            Err(not) => {
                let may_have_started = matches!(not, NotResumed::Unknown { error: _, looking: _ });
                let failure = not_resumed_last(run, &not, self, run_ctx);
                Err(progress.ended_early(report, failure, may_have_started, run_ctx))
            }
        }
    }
}

/// Why `--failed` has resumed nothing.
fn not_resumed_last(run: u64, not: &NotResumed, start: &PreparedRun, run_ctx: &RunContext) -> Failure {
    match not {
        NotResumed::Cannot(reason) => {
            let what = format!("dbt run {run} cannot be retried from the point of failure; nothing was started");
            Failure::new(Code::Refused, what).cause(reason).run("start over", &start.start_over)
        }
        NotResumed::Failed(error) => of_dbt(&format!("cannot retry dbt run {run}"), error).state("nothing was started"),
        NotResumed::NoTime => Failure::new(
            Code::StillRunning,
            format!(
                "cannot retry dbt run {run}: timed out after {}; nothing was started",
                start.request.deadline.limit()
            ),
        )
        .advise("increase --timeout"),
        NotResumed::Interrupted => Failure::interrupted(run_ctx.interruption.signal().unwrap_or_default())
            .cause(format!("dbt run {run} was not retried")),
        NotResumed::Unknown { error, looking } => unknown(run, error, looking.as_deref(), &start.request.resume),
    }
}

fn unknown(run: u64, error: &HttpError, looking: Option<&HttpError>, start_over: &str) -> Failure {
    let unknown =
        Failure::new(Code::OutcomeUnknown, format!("dbt run {run} failed, and it is unknown whether it was retried"));
    let unknown = unknown.cause(error.to_string());
    let unknown = match looking {
        Some(error) => unknown.cause(format!("looking for the retry failed too: {error}")),
        None => unknown.cause("no retry was found so far"),
    };
    unknown.run("look for the retry", start_over)
}

/// Keeps the run's own failure, unless an unknown retry may be active.
fn not_resumed(run: u64, failed: Option<Failure>, not: &NotResumed, start: &PreparedRun) -> Failure {
    let failed = failed.unwrap_or_else(|| Failure::new(Code::RunFailed, format!("dbt run {run} failed")));
    match not {
        NotResumed::Cannot(reason) => failed.cause(format!("it cannot be retried from the point of failure: {reason}")),
        NotResumed::Failed(error) => failed.cause(format!("it was not retried from the point of failure: {error}")),
        NotResumed::NoTime => {
            failed.cause(format!("it was not retried: timed out after {}", start.request.deadline.limit()))
        }
        NotResumed::Interrupted => failed.cause("it was not retried again"),
        NotResumed::Unknown { error, looking } => unknown(run, error, looking.as_deref(), &start.request.resume),
    }
}
