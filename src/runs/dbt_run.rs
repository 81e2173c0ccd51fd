//! The probe of a dbt run, which also looks for a second run with our marker where one is possible.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::RunContext;
use super::follow::{PollResult, Probe};
use super::look_up::{LookUp, LookupResult, is_own};
use super::poller::RunPoller;
use super::trigger::DuplicateRisk;
use crate::dbt::{self, End, JobDisabled, Run, Status, Steps};
use crate::events::{DuplicateOutcome, RunEvent, RunId};
use crate::http::{BodyProblem, HttpError, Writer};

/// The run with its steps includes all logs, so it is read when the status changes and on every fourth poll only.
const POLLS_PER_STEPS: u32 = 4;

/// Timeout for reading steps and the job, which are only displayed and must not delay the poll.
const SHOW_LIMIT: Duration = Duration::from_secs(10);

/// How often to look for a second run where one is likely: in the first 30 seconds, in the first 10 minutes, and later.
/// Otherwise it is looked for after 15 seconds and after the settle time. Always at the end.
const AUDIT_AT_FIRST: Duration = Duration::from_secs(5);
const AUDIT_EARLY: Duration = Duration::from_secs(15);
const AUDIT_LATE: Duration = Duration::from_mins(1);

/// How often to read the job of a queued run: if dbt deactivated the job meanwhile, the run never starts.
const JOB_INTERVAL: Duration = Duration::from_mins(1);

/// Attempts at the final lookup, in total.
const FINAL_AUDITS: u32 = 3;

/// The last known state of a dbt run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DbtState {
    pub(crate) run: Run,
    /// The running step, if known: number, number of steps, title.
    pub(crate) step: Option<(u64, usize, String)>,
}

/// The probe of a dbt run.
pub(crate) struct DbtRun<'a> {
    writer: &'a Writer,
    context: &'a RunContext,
    account: u64,
    /// Shares polls with other followed runs.
    poller: Option<&'a RunPoller>,
    run: Run,
    started_at: Instant,
    last_status: Option<Status>,
    step: Option<(u64, usize, String)>,
    polls: u32,
    shows_steps: bool,
    duplicate_risk: Option<DuplicateRisk>,
    /// `None`: look only at the end.
    next_audit: Option<Instant>,
    final_audits: u32,
    /// Whether the run had ended before the first poll.
    had_ended: bool,
    duplicates: Vec<(u64, DuplicateOutcome)>,
    next_job_read: Instant,
    /// Why the job starts no runs, if it does not.
    disabled_reason: Option<JobDisabled>,
}

impl<'a> DbtRun<'a> {
    pub(crate) fn new(
        writer: &'a Writer,
        context: &'a RunContext,
        account: u64,
        run: Run,
        duplicate_risk: Option<DuplicateRisk>,
    ) -> DbtRun<'a> {
        let now = Instant::now();
        let next_audit =
            duplicate_risk.as_ref().map(|duplicate_risk| if duplicate_risk.likely { now } else { now + AUDIT_EARLY });
        let had_ended = run.ended().is_some();
        DbtRun {
            writer,
            context,
            account,
            poller: None,
            run,
            started_at: now,
            last_status: None,
            step: None,
            polls: 0,
            shows_steps: true,
            duplicate_risk,
            next_audit,
            final_audits: 0,
            had_ended,
            duplicates: Vec::new(),
            next_job_read: now + JOB_INTERVAL,
            disabled_reason: None,
        }
    }

    /// Second runs with our marker, and what happened to them.
    pub(crate) fn duplicates(&self) -> &[(u64, DuplicateOutcome)] {
        &self.duplicates
    }

    /// Why the job starts no runs, if that was found while the run was queued.
    pub(crate) fn disabled_reason(&self) -> Option<&JobDisabled> {
        self.disabled_reason.as_ref()
    }

    /// Shares polls with other followed runs.
    pub(crate) fn polled_by(self, poller: &'a RunPoller) -> DbtRun<'a> {
        DbtRun { poller: Some(poller), ..self }
    }

    /// Does not read the steps, which are only displayed.
    pub(crate) fn without_steps(self) -> DbtRun<'a> {
        DbtRun { shows_steps: false, ..self }
    }

    /// The last known state of the run.
    pub(crate) fn run(&self) -> &Run {
        &self.run
    }

    /// Looks for a second run once, for callers who do not wait for the end.
    pub(crate) async fn check_for_second_run(&mut self) {
        if let Some(duplicate_risk) = self.duplicate_risk.clone() {
            self.audit(&duplicate_risk).await;
        }
    }

    /// Looks for a second run until none can appear, for callers who do not wait for the end.
    pub(crate) async fn check_until_settled(&mut self) {
        let Some(duplicate_risk) = self.duplicate_risk.clone() else { return };
        while Instant::now() < duplicate_risk.until {
            sleep_until(duplicate_risk.until.min(Instant::now() + AUDIT_EARLY)).await;
            self.audit(&duplicate_risk).await;
        }
    }

    fn state(&self) -> DbtState {
        DbtState { run: self.run.clone(), step: self.step.clone() }
    }

    async fn fetch_step(&mut self) {
        let read = dbt::get_run_with_steps(self.account, self.run.id);
        let Ok(Ok(run)) = timeout(SHOW_LIMIT, self.writer.read_once(read)).await else { return };
        let steps = Steps::of(&run);
        if let Some(step) = steps.running() {
            self.step = Some((step.index, steps.count(), step.title().to_owned()));
        }
    }

    /// Reads the job of a queued run.
    async fn check_job(&mut self) {
        let Some(job) = self.run.job_definition_id else { return };
        if Instant::now() < self.next_job_read {
            return;
        }
        self.next_job_read = Instant::now() + JOB_INTERVAL;
        let Ok(Ok(found)) = timeout(SHOW_LIMIT, self.writer.read_once(dbt::get_job(self.account, job))).await else {
            return;
        };
        let disabled = found.disabled_reason();
        if let Some(disabled) = &disabled
            && self.disabled_reason.is_none()
        {
            let (why, advice) = (disabled.why(), disabled.advice().to_owned());
            self.context.events.run(RunEvent::JobDisabled { run: self.run.id, job, why, advice });
        }
        self.disabled_reason = disabled;
    }

    /// Step 6 of the protocol: looks for a second run with our marker. The lower ID is kept. The other run is canceled
    /// only if it is ours, was started through the API, resumes nothing and is still queued; otherwise it is left and
    /// reported. Returns whether the lookup was complete.
    async fn audit(&mut self, duplicate_risk: &DuplicateRisk) -> bool {
        let DuplicateRisk { account, job, marker, since, until: _, likely: _, settle: _ } = duplicate_risk;
        let look_up = LookUp {
            reader: self.writer,
            wall: &self.context.wall,
            account: *account,
            job: Some(*job),
            patient: false,
        };
        // An incomplete lookup may still show a second run; if it does not, the next one will.
        let LookupResult { runs, incomplete, since: _ } = match self.poller {
            Some(poller) => poller.look_up(&self.context.wall, *job, *since, self.run.created()).await,
            None => look_up.runs(Some(*since)).await,
        };
        let complete = incomplete.is_none();
        let mut own: Vec<Run> = runs.into_iter().filter(|run| is_own(run, marker)).collect();
        let resumes = self.run.retrying_run_id.is_some();
        if !resumes && own.iter().all(|run| run.id != self.run.id) {
            // Lists may not show our run yet.
            own.push(self.run.clone());
        }
        own.sort_by_key(|run| run.id);
        let mut own = own.into_iter();
        let Some(kept) = own.next() else { return complete };
        for other in own {
            let known = self.duplicates.iter().find(|(id, _)| *id == other.id).map(|(_, outcome)| *outcome);
            if matches!(known, Some(DuplicateOutcome::Cancelled | DuplicateOutcome::Ended)) {
                continue;
            }
            let outcome = self.cancel_if_queued(&other, marker).await;
            if known == Some(outcome) {
                continue;
            }
            self.duplicates.retain(|(id, _)| *id != other.id);
            self.duplicates.push((other.id, outcome));
            let url = other.url(self.writer.origin(), *account);
            self.context.events.run(RunEvent::SecondRun { run: other.id, kept: kept.id, outcome, url });
        }
        if !resumes && kept.id != self.run.id {
            self.context.events.run(RunEvent::FollowingFirst { run: kept.id });
            self.run = kept;
            (self.last_status, self.step) = (None, None);
        }
        complete
    }

    /// When a second run can no longer appear after this one ended. A run that was canceled in the queue may have lost
    /// against another one with the same key that is not listed yet.
    fn settled(&mut self, duplicate_risk: &mut DuplicateRisk) -> Instant {
        let lost = self.run.ended() == Some(End::Cancelled) && self.run.started().is_none();
        if duplicate_risk.likely && lost && !self.had_ended && self.final_audits == 0 {
            duplicate_risk.until = duplicate_risk.until.max(Instant::now() + duplicate_risk.settle);
            self.duplicate_risk = Some(duplicate_risk.clone());
        }
        duplicate_risk.until
    }

    async fn cancel_if_queued(&self, other: &Run, marker: &str) -> DuplicateOutcome {
        if other.ended().is_some() {
            return DuplicateOutcome::Ended;
        }
        let may_be_canceled = |run: &Run| {
            run.status == Some(Status::Queued)
                && is_own(run, marker)
                && run.trigger.as_ref().is_some_and(|trigger| trigger.cause_category.as_deref() == Some("api"))
        };
        if !may_be_canceled(other) {
            return DuplicateOutcome::Left;
        }
        // The list may be outdated, so check the current state.
        match self.writer.read_once(dbt::get_run_with_trigger(self.account, other.id)).await {
            Ok(now) if now.id == other.id && may_be_canceled(&now) => {}
            Ok(_) | Err(_) => return DuplicateOutcome::Left,
        }
        match self.writer.put(dbt::cancel_run(self.account, other.id)).await {
            Ok(run) if run.id == other.id && run.ended() == Some(dbt::End::Cancelled) => DuplicateOutcome::Cancelled,
            Ok(_) | Err(_) => DuplicateOutcome::Left,
        }
    }
}

impl Probe for DbtRun<'_> {
    type State = DbtState;

    fn run_id(&self) -> RunId {
        RunId::Dbt(self.run.id)
    }

    async fn poll(&mut self) -> Result<PollResult<DbtState>, HttpError> {
        if let Some(duplicate_risk) = self.duplicate_risk.clone()
            && self.next_audit.is_some_and(|next| Instant::now() >= next)
        {
            let complete = self.audit(&duplicate_risk).await;
            let interval = match self.started_at.elapsed().as_secs() {
                0..30 => AUDIT_AT_FIRST,
                30..600 => AUDIT_EARLY,
                _ => AUDIT_LATE,
            };
            let (now, settled) = (Instant::now(), self.started_at + duplicate_risk.settle);
            // A second run of the same POST is listed by then.
            self.next_audit = if duplicate_risk.likely || !complete {
                Some(now + interval)
            } else {
                (now < settled).then_some(settled)
            };
        }
        let mut run = match self.poller {
            Some(poller) => poller.poll(self.run.id).await?,
            None => self.writer.read_once(dbt::get_run(self.account, self.run.id)).await?,
        };
        if run.id != self.run.id || (run.status.is_none() && run.ended().is_none()) {
            let reason = format!("it does not return the status of run {}", self.run.id);
            return Err(self.writer.invalid_response("runs/get", BodyProblem::Unreadable(reason)));
        }
        // The response without includes has no trigger; keep the known one.
        run.trigger = run.trigger.or_else(|| self.run.trigger.take());
        self.run = run;
        self.polls += 1;
        if self.shows_steps && self.run.status == Some(Status::Running) {
            if self.last_status != self.run.status || self.polls.is_multiple_of(POLLS_PER_STEPS) {
                self.fetch_step().await;
            }
        } else {
            self.step = None;
        }
        self.last_status = self.run.status;
        if self.run.status == Some(Status::Queued) {
            self.check_job().await;
        } else {
            self.disabled_reason = None;
        }
        if self.run.ended().is_none() {
            return Ok(PollResult::Active(self.state()));
        }
        if let Some(mut duplicate_risk) = self.duplicate_risk.clone() {
            // A second run may appear only now, and is not harmless because the first one ended.
            let settled = Instant::now() >= self.settled(&mut duplicate_risk);
            let followed = self.run.id;
            let complete = self.audit(&duplicate_risk).await;
            self.final_audits += 1;
            if self.run.id != followed {
                self.final_audits = 0;
                return Ok(PollResult::Active(self.state()));
            }
            if !settled || (!complete && self.final_audits < FINAL_AUDITS) {
                return Ok(PollResult::Active(self.state()));
            }
            if !complete {
                self.context.events.run(RunEvent::SecondRunUnknown { run: self.run.id });
            }
        }
        Ok(PollResult::Ended(self.state()))
    }
}
