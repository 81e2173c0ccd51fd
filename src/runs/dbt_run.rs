//! Looks at a dbt run, and, where there may be a second one with our marker, for that one too.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::follow::{Probe, Seen};
use super::look_up::{LookUp, Looked, is_own, nonsense};
use super::poller::RunPoller;
use super::trigger::DuplicateRisk;
use crate::context::Wall;
use crate::dbt::{self, End, Off, Run, Status, Steps};
use crate::events::Events;
use crate::http::{HttpError, Writer};

/// Steps come with all their logs: fetched at changes, and at each of so many looks.
const LOOKS_PER_STEPS: u32 = 4;

/// Steps, and how the job stands, are for show: they may not hold the look up.
const SHOW_LIMIT: Duration = Duration::from_secs(10);

/// Where a second run is likely it is looked for this often in the first half minute, in the first ten minutes and later; else once
/// after fifteen seconds and once after the settle time; always at the end.
const AUDIT_AT_FIRST: Duration = Duration::from_secs(5);
const AUDIT_EARLY: Duration = Duration::from_secs(15);
const AUDIT_LATE: Duration = Duration::from_mins(1);

/// While a run waits in the queue its job is looked at this often: dbt may have deactivated it meanwhile, and then the run waits for
/// ever (dbt-cloud-api §7).
const JOB_LOOKS: Duration = Duration::from_mins(1);

/// At the end a look-up that fails is repeated so often in all.
const FINAL_AUDITS: u32 = 3;

/// A dbt run, as seen last.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DbtState {
    pub(crate) run: Run,
    /// The step that runs, where it is known: its number, how many there are, its title.
    pub(crate) step: Option<(u64, usize, String)>,
}

/// What became of a second run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DuplicateOutcome {
    /// It still waited, and was cancelled.
    Cancelled,
    /// It works, or could not be cancelled: left alone.
    Left,
    /// It had ended before anything could be done.
    Ended,
}

impl DuplicateOutcome {
    /// The word in JSON output.
    pub(crate) fn word(self) -> &'static str {
        match self {
            DuplicateOutcome::Cancelled => "cancelled",
            DuplicateOutcome::Left => "left",
            DuplicateOutcome::Ended => "ended",
        }
    }
}

/// The probe of a dbt run.
pub(crate) struct DbtRun<'a> {
    writer: &'a Writer,
    wall: &'a Wall,
    events: &'a Events,
    account: u64,
    /// Where runs beside it are looked at too.
    poller: Option<&'a RunPoller>,
    run: Run,
    begun: Instant,
    shown: Option<Status>,
    step: Option<(u64, usize, String)>,
    looks: u32,
    shows_steps: bool,
    doubt: Option<DuplicateRisk>,
    /// `None`: only at the end.
    next_audit: Option<Instant>,
    final_audits: u32,
    /// Had it ended before anybody looked?
    was_over: bool,
    duplicates: Vec<(u64, DuplicateOutcome)>,
    next_job_look: Instant,
    /// Why it waits for ever, as far as that is known.
    off: Option<Off>,
}

impl<'a> DbtRun<'a> {
    pub(crate) fn new(
        writer: &'a Writer,
        wall: &'a Wall,
        events: &'a Events,
        account: u64,
        run: Run,
        doubt: Option<DuplicateRisk>,
    ) -> DbtRun<'a> {
        let now = Instant::now();
        let next_audit = doubt.as_ref().map(|doubt| if doubt.likely { now } else { now + AUDIT_EARLY });
        let was_over = run.ended().is_some();
        DbtRun {
            writer,
            wall,
            events,
            account,
            poller: None,
            run,
            begun: now,
            shown: None,
            step: None,
            looks: 0,
            shows_steps: true,
            doubt,
            next_audit,
            final_audits: 0,
            was_over,
            duplicates: Vec::new(),
            next_job_look: now + JOB_LOOKS,
            off: None,
        }
    }

    /// Second runs with our marker, and what became of them.
    pub(crate) fn duplicates(&self) -> &[(u64, DuplicateOutcome)] {
        &self.duplicates
    }

    /// Why no run of its job starts any more, if that was seen while it waited.
    pub(crate) fn off(&self) -> Option<&Off> {
        self.off.as_ref()
    }

    /// The same, looked at together with others.
    pub(crate) fn polled_by(self, poller: &'a RunPoller) -> DbtRun<'a> {
        DbtRun { poller: Some(poller), ..self }
    }

    /// The same without the steps, which nothing is decided by.
    pub(crate) fn without_steps(self) -> DbtRun<'a> {
        DbtRun { shows_steps: false, ..self }
    }

    /// The run as seen last.
    pub(crate) fn run(&self) -> &Run {
        &self.run
    }

    /// Looks for a second run once, for callers who do not wait for the end.
    pub(crate) async fn look_for_second(&mut self) {
        if let Some(doubt) = self.doubt.clone() {
            self.audit(&doubt).await;
        }
    }

    /// Looks for a second run until none can come to light any more, for callers who do not wait for the end.
    pub(crate) async fn outlast_doubt(&mut self) {
        let Some(doubt) = self.doubt.clone() else { return };
        while Instant::now() < doubt.until {
            sleep_until(doubt.until.min(Instant::now() + AUDIT_EARLY)).await;
            self.audit(&doubt).await;
        }
    }

    fn seen(&self) -> DbtState {
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

    /// Looks at the job of a run that waits.
    async fn look_at_job(&mut self) {
        let Some(job) = self.run.job_definition_id else { return };
        if Instant::now() < self.next_job_look {
            return;
        }
        self.next_job_look = Instant::now() + JOB_LOOKS;
        let Ok(Ok(found)) = timeout(SHOW_LIMIT, self.writer.read_once(dbt::get_job(self.account, job))).await else {
            return;
        };
        let off = found.off();
        if let Some(off) = &off
            && self.off.is_none()
        {
            let (why, advice) = (off.why(), off.advice());
            self.events
                .warning(format!("dbt run {} waits, and no run of dbt job {job} starts: {why}; {advice}", self.run.id));
        }
        self.off = off;
    }

    /// Step 6: a second run with our marker. The lower id is kept. The other is cancelled only if it is surely ours, was
    /// started through the API, resumes nothing and still waits; else it is left, and said. Returns whether the look-up was complete.
    async fn audit(&mut self, doubt: &DuplicateRisk) -> bool {
        let DuplicateRisk { account, job, marker, since, until: _, likely: _, settle: _ } = doubt;
        let look_up =
            LookUp { reader: self.writer, wall: self.wall, account: *account, job: Some(*job), patient: false };
        // An incomplete look-up may still show a second run; what it does not show, the next one will.
        let Looked { runs, cut, since: _ } = match self.poller {
            Some(poller) => poller.look_up(self.wall, *job, *since, self.run.created()).await,
            None => look_up.runs(Some(*since)).await,
        };
        let complete = cut.is_none();
        let mut own: Vec<Run> = runs.into_iter().filter(|run| is_own(run, marker)).collect();
        let resumes = self.run.retrying_run_id.is_some();
        if !resumes && own.iter().all(|run| run.id != self.run.id) {
            // Ours may not show yet.
            own.push(self.run.clone());
        }
        own.sort_by_key(|run| run.id);
        let mut own = own.into_iter();
        let Some(kept) = own.next() else { return complete };
        for other in own {
            let known = self.duplicates.iter().find(|(id, _)| *id == other.id).map(|(_, fate)| *fate);
            if matches!(known, Some(DuplicateOutcome::Cancelled | DuplicateOutcome::Ended)) {
                continue;
            }
            let fate = self.stop(&other, marker).await;
            if known == Some(fate) {
                continue;
            }
            self.duplicates.retain(|(id, _)| *id != other.id);
            self.duplicates.push((other.id, fate));
            self.events.warning(format!(
                "dbt has a second run {} for this start besides {}; it {}: {}",
                other.id,
                kept.id,
                match fate {
                    DuplicateOutcome::Cancelled => "was canceled while queued",
                    DuplicateOutcome::Left => "is already running or could not be canceled, and was left alone",
                    DuplicateOutcome::Ended => "has already ended",
                },
                other.url(self.writer.origin(), *account)
            ));
        }
        if !resumes && kept.id != self.run.id {
            self.events.remark(format!("following dbt run {}, the first of the two", kept.id));
            self.run = kept;
            (self.shown, self.step) = (None, None);
        }
        complete
    }

    /// Until when a second run may still come to light once this one has ended. One that was cancelled in the queue has perhaps
    /// lost against another of the same key, which may not show yet.
    fn settled(&mut self, doubt: &mut DuplicateRisk) -> Instant {
        let lost = self.run.ended() == Some(End::Cancelled) && self.run.started().is_none();
        if doubt.likely && lost && !self.was_over && self.final_audits == 0 {
            doubt.until = doubt.until.max(Instant::now() + doubt.settle);
            self.doubt = Some(doubt.clone());
        }
        doubt.until
    }

    async fn stop(&self, other: &Run, marker: &str) -> DuplicateOutcome {
        if other.ended().is_some() {
            return DuplicateOutcome::Ended;
        }
        let may_be_stopped = |run: &Run| {
            run.status == Some(Status::Queued)
                && is_own(run, marker)
                && run.trigger.as_ref().is_some_and(|trigger| trigger.cause_category.as_deref() == Some("api"))
        };
        if !may_be_stopped(other) {
            return DuplicateOutcome::Left;
        }
        // The list may be old: what decides is how it stands now.
        match self.writer.read_once(dbt::get_run_with_trigger(self.account, other.id)).await {
            Ok(now) if now.id == other.id && may_be_stopped(&now) => {}
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

    fn name(&self) -> String {
        format!("dbt run {}", self.run.id)
    }

    async fn look(&mut self) -> Result<Seen<DbtState>, HttpError> {
        if let Some(doubt) = self.doubt.clone()
            && self.next_audit.is_some_and(|next| Instant::now() >= next)
        {
            let complete = self.audit(&doubt).await;
            let rhythm = match self.begun.elapsed().as_secs() {
                0..30 => AUDIT_AT_FIRST,
                30..600 => AUDIT_EARLY,
                _ => AUDIT_LATE,
            };
            let (now, settled) = (Instant::now(), self.begun + doubt.settle);
            // By then a second run of the same POST shows.
            self.next_audit =
                if doubt.likely || !complete { Some(now + rhythm) } else { (now < settled).then_some(settled) };
        }
        let mut run = match self.poller {
            Some(poller) => poller.look(self.run.id).await?,
            None => self.writer.read_once(dbt::get_run(self.account, self.run.id)).await?,
        };
        if run.id != self.run.id || (run.status.is_none() && run.ended().is_none()) {
            let reason = format!("it does not return the status of run {}", self.run.id);
            return Err(nonsense("runs/get", self.writer.origin(), &reason));
        }
        // The bare answer carries no trigger; what was known of it stays known.
        run.trigger = run.trigger.or_else(|| self.run.trigger.take());
        self.run = run;
        self.looks += 1;
        if self.shows_steps && self.run.status == Some(Status::Running) {
            if self.shown != self.run.status || self.looks.is_multiple_of(LOOKS_PER_STEPS) {
                self.fetch_step().await;
            }
        } else {
            self.step = None;
        }
        self.shown = self.run.status;
        if self.run.status == Some(Status::Queued) {
            self.look_at_job().await;
        } else {
            self.off = None;
        }
        if self.run.ended().is_none() {
            return Ok(Seen::Going(self.seen()));
        }
        if let Some(mut doubt) = self.doubt.clone() {
            // A second run may come to light only now; the first one's end does not make it harmless.
            let settled = Instant::now() >= self.settled(&mut doubt);
            let followed = self.run.id;
            let complete = self.audit(&doubt).await;
            self.final_audits += 1;
            if self.run.id != followed {
                self.final_audits = 0;
                return Ok(Seen::Going(self.seen()));
            }
            if !settled || (!complete && self.final_audits < FINAL_AUDITS) {
                return Ok(Seen::Going(self.seen()));
            }
            if !complete {
                self.events.remark(format!("cannot check for a second run besides {}", self.run.id));
            }
        }
        Ok(Seen::Ended(self.seen()))
    }
}
