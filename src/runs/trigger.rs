//! The trigger: starts at most one run per key, even if responses are lost.
//!
//! Comments number the steps of the protocol ("The trigger: exactly one run" in `docs/architecture.md`). Step 6
//! continues while the run is followed, in `dbt_run`.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep};

use super::RunContext;
use super::cause_marker::{Key, cause};
use super::journal::{Entry, Intent, Journal, OpenIntent, Turn};
use super::look_up::{LookUp, LookupResult, RunLowerBound, first_and_latest, first_own, is_own};
use super::resume::{NotResumed, Resumption, resume};
use super::settle::{MOST_OPEN_SENDS, UnclearSend, wait_before_repeating};
use crate::dbt::{self, Difference, JobDisabled, Overrides, Run, TRIGGER_LIMIT};
use crate::events::RunEvent;
use crate::http::{BodyProblem, Deadline, HttpError, PATIENCE, Sent, Writer};
use crate::text::hex;

/// What to start, and how.
#[derive(Clone, Debug)]
pub(crate) struct TriggerRequest {
    pub(crate) account: u64,
    pub(crate) job: u64,
    pub(crate) key: Key,
    /// The user chose the key, so an earlier start may have used it.
    pub(crate) look_first: bool,
    /// The text in `cause` after the marker.
    pub(crate) reason: String,
    pub(crate) overrides: Overrides,
    /// How long a new run may take to appear in lists.
    pub(crate) settle: Duration,
    pub(crate) at_most_once: bool,
    pub(crate) deadline: Deadline,
    /// The command that finds or starts the run.
    pub(crate) resume: String,
}

/// A run that was started, or found.
#[derive(Debug)]
pub(crate) struct Triggered {
    pub(crate) run: Run,
    /// Whether an earlier command with this key started it.
    pub(crate) adopted: bool,
    pub(crate) sends: u32,
    /// How to look for a second run.
    pub(crate) duplicate_risk: DuplicateRisk,
    pub(crate) intent: Option<Intent>,
}

/// How to look for a second run with our marker, which the service may have created whatever it responded.
#[derive(Clone, Debug)]
pub(crate) struct DuplicateRisk {
    pub(crate) account: u64,
    pub(crate) job: u64,
    pub(crate) marker: String,
    /// Lower bound of our runs.
    pub(crate) since: RunLowerBound,
    /// Until when a second run may appear.
    pub(crate) until: Instant,
    /// Sent twice, without a response, or the key may be used elsewhere. Then look at once and repeatedly.
    pub(crate) likely: bool,
    /// How long a new run may take to appear in lists.
    pub(crate) settle: Duration,
}

/// Interval of checks whether another process on this machine has started the run.
const BETWEEN_TURNS: Duration = Duration::from_millis(500);

/// What the caller should remember in case of an interruption.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Milestone<'a> {
    /// A run may exist from now on.
    Sending,
    /// The run is known.
    Known(&'a Run),
}

/// Why there is no run to follow.
#[derive(Clone, Debug)]
pub(crate) enum NotStarted {
    /// Earlier runs could not be listed. Nothing was sent.
    Blind(HttpError),
    /// The key belongs to a run with other parameters. Nothing was sent.
    OtherParameters { run: Box<Run>, difference: Difference },
    /// The service rejected the request.
    Rejected(HttpError),
    /// The service was unreachable or responded 429 until the time was over.
    NeverSent(HttpError),
    /// The job starts no runs. Nothing was sent.
    JobDisabled(JobDisabled),
    /// Timed out before a send that may have taken effect, with the reason.
    NoTime(String),
    /// Interrupted by this signal before a send that may have taken effect.
    Interrupted(u8),
    /// Every send had an unclear outcome, and no run appeared.
    NoRunShows { error: HttpError, sends: u32 },
    /// Unknown whether a run was started. Nothing was sent again.
    Unknown { error: Option<HttpError>, looking: Option<Box<HttpError>> },
}

impl NotStarted {
    /// Whether a run may have been started.
    pub(crate) fn may_have_started(&self) -> bool {
        matches!(self, NotStarted::NoRunShows { error: _, sends: _ } | NotStarted::Unknown { error: _, looking: _ })
    }
}

/// Starts a run of the job, or finds the one started with the same key. `disabled` resolves to the reason why the job
/// starts no runs, if any, while earlier runs are looked up.
pub(crate) async fn trigger(
    request: &TriggerRequest,
    writer: &Writer,
    context: &RunContext,
    journal: &Journal,
    milestone: &dyn Fn(Milestone<'_>),
    disabled: impl Future<Output = Option<JobDisabled>>,
) -> Result<Triggered, NotStarted> {
    // 1. Key and marker.
    let marker = request.key.marker();
    let cause = cause(&request.reason, &request.key);
    let since = RunLowerBound::default();
    let mut started = Attempt { request, writer, context, marker: &marker, since, settle_from: Instant::now() };

    // 2. One start at a time on this machine, then a lookup before the first POST. Its list also bounds later lookups.
    let (mut intent, left_behind) = started.turn(journal).await?;
    match started.look_before(left_behind.as_ref()).await {
        Ok(Some((first, now))) => return started.adopt(&first, now, intent, milestone),
        Ok(None) => {}
        Err(failed) => {
            if let Some(intent) = intent {
                intent.abandon();
            }
            return Err(failed);
        }
    }
    // 3. The intent, on disk and synced.
    started.note(intent.as_mut());

    // A run of such a job would stay queued forever.
    if let Some(disabled) = disabled.await {
        if let Some(intent) = intent {
            intent.close();
        }
        return Err(NotStarted::JobDisabled(disabled));
    }

    let mut progress = Progress::default();
    match started.send_until_known(&cause, &mut progress, milestone).await {
        Ok(run) => {
            milestone(Milestone::Known(&run));
            if let Some(intent) = &mut intent {
                // If this fails, the marker still finds the run.
                let _ = intent.run(run.id);
                intent.share();
            }
            let unclear = progress.open > 0 || progress.sends > 1;
            let until = if unclear { started.settle_from + request.settle } else { Instant::now() };
            // If another process used the key before, it may have started a run too.
            let duplicate_risk = started.duplicate_risk(until, unclear || request.look_first);
            Ok(Triggered { run, adopted: false, sends: progress.sends, duplicate_risk, intent })
        }
        Err(failed) => {
            // Nothing was started, so leave no intent, unless an earlier start left one.
            if progress.open == 0
                && left_behind.is_none()
                && let Some(intent) = intent
            {
                intent.close();
            }
            Err(failed)
        }
    }
}

/// Resumes a run as [`resume`] does, on this machine one process at a time: the others follow the run of the first. `request`: the
/// start that asks for it.
pub(crate) async fn resume_alone(
    request: &TriggerRequest,
    resumption: &Resumption,
    writer: &Writer,
    context: &RunContext,
    journal: &Journal,
    sending: &mut dyn FnMut(),
) -> Result<(Run, Option<Intent>), NotResumed> {
    let request = TriggerRequest { key: Key::of_resumption(resumption.run), ..request.clone() };
    let marker = request.key.marker();
    let (since, settle_from) = (RunLowerBound::default(), Instant::now());
    let started = Attempt { request: &request, writer, context, marker: &marker, since, settle_from };
    let (mut intent, left_behind) = started.turn(journal).await.map_err(|error| {
        if matches!(error, NotStarted::Interrupted(_)) { NotResumed::Interrupted } else { NotResumed::NoTime }
    })?;
    let known = async {
        let reading = writer.read(dbt::get_run(request.account, left_behind.as_ref()?.run?));
        request.deadline.cut(reading).await?.ok().filter(|there| there.retrying_run_id == Some(resumption.run))
    };
    let known = context.interruption.or(known).await.map_err(|_| NotResumed::Interrupted)?;
    let resumed = if let Some(known) = known {
        Ok(known)
    } else {
        started.note(intent.as_mut());
        resume(resumption, writer, context, sending).await
    };
    match &resumed {
        Ok(run) => {
            if let Some(intent) = &mut intent {
                let _ = intent.run(run.id);
                intent.share();
            }
        }
        // A later command looks for it.
        Err(NotResumed::Unknown { error: _, looking: _ }) => {}
        Err(NotResumed::Cannot(_) | NotResumed::Failed(_) | NotResumed::NoTime | NotResumed::Interrupted) => {
            if left_behind.is_none()
                && let Some(intent) = intent.take()
            {
                intent.close();
            }
        }
    }
    resumed.map(|run| (run, intent))
}

/// Runs a lookup before anything is sent, when the deadline or a signal means that nothing will be.
async fn before_deadline<T>(
    request: &TriggerRequest,
    context: &RunContext,
    spent: &str,
    looking: impl Future<Output = T>,
) -> Result<T, NotStarted> {
    let looked = context.interruption.or(request.deadline.cut(looking)).await;
    looked.map_err(NotStarted::Interrupted)?.ok_or_else(|| NotStarted::NoTime(spent.to_owned()))
}

const NOT_LISTED: &str = "dbt had not listed earlier runs by then";

/// Sends so far.
#[derive(Default)]
struct Progress {
    sends: u32,
    /// Sends with an unclear outcome.
    open: u32,
}

/// One start, with what is known so far.
struct Attempt<'a> {
    request: &'a TriggerRequest,
    writer: &'a Writer,
    context: &'a RunContext,
    marker: &'a str,
    since: RunLowerBound,
    /// When the last send ended; the settle time starts here.
    settle_from: Instant,
}

impl<'a> Attempt<'a> {
    /// Waits until no other process on this machine is starting a run with this key. Returns what it recorded.
    async fn turn(&self, journal: &Journal) -> Result<(Option<Intent>, Option<OpenIntent>), NotStarted> {
        let Attempt { request, context, .. } = self;
        let mut announced = false;
        loop {
            match journal.turn(&self.entry()) {
                Ok(Turn::NoJournal) => return Ok((None, None)),
                Ok(Turn::Ours(intent, left)) => return Ok((Some(intent), left)),
                Ok(Turn::Followed(intent, open)) => return Ok((Some(intent), Some(open))),
                Ok(Turn::Busy) => {}
                Err(error) => {
                    // The marker in `cause` is enough.
                    context.events.run(RunEvent::StartNotRecorded { error: error.to_string() });
                    return Ok((None, None));
                }
            }
            if !announced {
                context.events.run(RunEvent::OtherStartInProgress);
                announced = true;
            }
            let spent = "another start with this key was in progress on this machine";
            before_deadline(request, context, spent, sleep(BETWEEN_TURNS)).await?;
        }
    }

    /// Looks for a run of an earlier start with this key; returns the first one, and the last one that resumed it. Sets
    /// the lower bound for our run.
    async fn look_before(&mut self, left_behind: Option<&OpenIntent>) -> Result<Option<(Run, Run)>, NotStarted> {
        let Attempt { request, context, marker, .. } = *self;
        let reader = self.writer.patient();
        let patient = LookUp { reader: &reader, patient: true, ..self.look_up() };
        let look =
            async { if request.look_first { patient.runs(None).await } else { patient.newest(request.job).await } };
        let LookupResult { runs, incomplete, since } = before_deadline(request, context, NOT_LISTED, look).await?;
        if let Some((first, now)) = first_and_latest(&runs, marker) {
            return Ok(Some((first.clone(), now.clone())));
        }
        if let Some(error) = incomplete {
            return Err(NotStarted::Blind(error));
        }
        self.since = since;
        // Recorded with an unknown outcome: its POST may be in flight.
        let Some(OpenIntent { entry, run }) = left_behind else { return Ok(None) };
        if let Some(id) = run
            && let Ok(run) = before_deadline(
                request,
                context,
                NOT_LISTED,
                reader.read(dbt::get_run_with_trigger(request.account, *id)),
            )
            .await?
            && is_own(&run, marker)
        {
            return Ok(Some((run.clone(), run)));
        }
        let age = Duration::try_from(context.wall.now().duration_since(entry.at)).unwrap_or_default();
        if age > TRIGGER_LIMIT + request.settle {
            return Ok(None);
        }
        context.events.run(RunEvent::OtherStartEnded);
        self.settle_from = Instant::now();
        Ok(self.find_own_run(None).await?.map(|run| (run.clone(), run)))
    }

    fn look_up(&self) -> LookUp<'a> {
        let TriggerRequest { account, job, .. } = self.request;
        LookUp { reader: self.writer, wall: &self.context.wall, account: *account, job: Some(*job), patient: false }
    }

    /// Steps 4 and 5.
    async fn send_until_known(
        &mut self,
        cause: &str,
        progress: &mut Progress,
        milestone: &dyn Fn(Milestone<'_>),
    ) -> Result<Run, NotStarted> {
        let request = self.request;
        let patience = (Instant::now() + PATIENCE).min(request.deadline.at());
        let (mut refused, mut unclear, mut last, mut once_only) = (0, None, None, request.at_most_once);
        loop {
            // A pending send is waited for; no new one begins.
            if let Some(signal) = self.context.interruption.signal() {
                return Err(match unclear {
                    None => NotStarted::Interrupted(signal),
                    error @ Some(_) => NotStarted::Unknown { error, looking: None },
                });
            }
            let left = request.deadline.left();
            if left.is_zero() && progress.open == 0 {
                return Err(NotStarted::NoTime(last.unwrap_or_else(|| "no time was left to start it".to_owned())));
            }
            // 4. One POST on a new connection; no layer below resends it.
            milestone(Milestone::Sending);
            progress.sends += 1;
            let once = dbt::trigger(request.account, request.job, cause, &request.overrides, TRIGGER_LIMIT.min(left));
            let sent = self.writer.once(once).await;
            self.settle_from = Instant::now();
            // 5. What the outcome means.
            let sent = match sent {
                Sent::Done(run) => match self.check(run).await {
                    Ok(run) => return Ok(run),
                    Err(NotOurs { error, strange }) => {
                        once_only |= strange;
                        Sent::Open(error)
                    }
                },
                other @ (Sent::NotSent(_) | Sent::Rejected(_) | Sent::Open(_)) => other,
            };
            match sent {
                Sent::Done(run) => return Ok(run),
                Sent::Rejected(error) => return Err(NotStarted::Rejected(error)),
                Sent::NotSent(error) => {
                    let limited = error.is_status(429);
                    let proof = error.is_certificate() || (limited && request.at_most_once);
                    if proof || Instant::now() >= patience {
                        return Err(match progress.open {
                            0 if !proof && request.deadline.left().is_zero() => NotStarted::NoTime(error.to_string()),
                            0 => NotStarted::NeverSent(error),
                            _ => NotStarted::NoRunShows { error, sends: progress.sends },
                        });
                    }
                    refused += 1;
                    last = Some(error.to_string());
                    wait_before_repeating(self.context, &error, refused, patience).await;
                    if !limited {
                        // Nothing was sent, so do not count it.
                        progress.sends -= 1;
                        continue;
                    }
                    // Not started, says the service; if a run appears anyway, it is ours. The time limit of the
                    // lookup starts after the wait.
                    let settled = Instant::now().checked_sub(request.settle).unwrap_or(self.settle_from);
                    self.settle_from = self.settle_from.max(settled);
                    let Ok(settled) = self.context.interruption.or(self.find_own_run(None)).await else { continue };
                    match settled {
                        Ok(Some(run)) => return Ok(run),
                        Ok(None) => {}
                        // Not unknown: the service refused it.
                        Err(_) if request.deadline.left().is_zero() && progress.open == 0 => {
                            return Err(NotStarted::NoTime(error.to_string()));
                        }
                        Err(_) if progress.open == 0 => return Err(NotStarted::NeverSent(error)),
                        Err(_) => return Err(NotStarted::NoRunShows { error, sends: progress.sends }),
                    }
                }
                Sent::Open(error) => {
                    progress.open += 1;
                    self.context.events.run(RunEvent::StartUnclear { error: error.to_string() });
                    if let Some(run) = self.find_own_run(Some(&error)).await? {
                        return Ok(run);
                    }
                    if once_only {
                        return Err(NotStarted::Unknown { error: Some(error), looking: None });
                    }
                    if progress.open >= MOST_OPEN_SENDS || request.deadline.left().is_zero() {
                        return Err(NotStarted::NoRunShows { error, sends: progress.sends });
                    }
                    unclear = Some(error);
                    if self.context.interruption.signal().is_some() {
                        continue;
                    }
                    self.context.events.run(RunEvent::StartRepeated { after: self.settle_from.elapsed() });
                }
            }
        }
    }

    /// Looks for our run until the settle time is over.
    async fn find_own_run(&self, error: Option<&HttpError>) -> Result<Option<Run>, NotStarted> {
        let TriggerRequest { settle, ref deadline, .. } = *self.request;
        let unclear_send = UnclearSend { context: self.context, from: self.settle_from, settle, deadline };
        let look = async || self.look_up().runs(Some(self.since)).await;
        let shown = unclear_send.look_until_listed(look, |runs| first_own(runs, self.marker).cloned()).await;
        shown.map_err(|looking| NotStarted::Unknown { error: error.cloned(), looking: looking.map(Box::new) })
    }

    /// Checks that the run in the response is the one this trigger created.
    async fn check(&self, run: Run) -> Result<Run, NotOurs> {
        let Attempt { request, writer, marker, since, .. } = *self;
        let not_ours = |run: &Run, reason: &str, strange| {
            let problem = BodyProblem::Unreadable(format!("it names run {}, {reason}", run.id));
            let error = writer.invalid_response("jobs/run", problem);
            Err(NotOurs { error, strange })
        };
        if run.job_definition_id.is_some_and(|job| job != request.job) || since.excludes(&run) {
            return not_ours(&run, "which this start cannot have created", false);
        }
        let mut run = run;
        if run.trigger.is_none() {
            match writer.read_once(dbt::get_run_with_trigger(request.account, run.id)).await {
                Ok(single) if single.id == run.id => run = single,
                Ok(_) | Err(_) => return not_ours(&run, "of which nothing is known", false),
            }
        }
        // Without a trigger nothing contradicts it.
        if run.trigger.is_none() || is_own(&run, marker) {
            return Ok(run);
        }
        not_ours(&run, "which does not carry the marker of this start", true)
    }

    /// Follows the run that already carries the key, if its parameters are the same.
    fn adopt(
        &mut self,
        first: &Run,
        now: Run,
        mut intent: Option<Intent>,
        milestone: &dyn Fn(Milestone<'_>),
    ) -> Result<Triggered, NotStarted> {
        if let Some(difference) =
            first.trigger.as_ref().and_then(|trigger| self.request.overrides.differs_from(trigger))
        {
            if let Some(intent) = intent {
                intent.abandon();
            }
            return Err(NotStarted::OtherParameters { run: Box::new(now), difference });
        }
        self.since = RunLowerBound::before(first);
        milestone(Milestone::Known(&now));
        self.note(intent.as_mut());
        if let Some(intent) = &mut intent {
            let _ = intent.run(now.id);
            intent.share();
        }
        // The other start may have sent it twice; a second run appears within the settle time of the first.
        let age = first.created().and_then(|at| Duration::try_from(self.context.wall.now().duration_since(at)).ok());
        let until = Instant::now() + self.request.settle.saturating_sub(age.unwrap_or_default());
        let until = if now.ended().is_none() { until } else { Instant::now() };
        let duplicate_risk = self.duplicate_risk(until, now.ended().is_none());
        Ok(Triggered { run: now, adopted: true, sends: 0, duplicate_risk, intent })
    }

    fn entry(&self) -> Entry {
        let request = self.request;
        let parameters = serde_json::to_vec(&request.overrides).unwrap_or_default();
        Entry {
            key: request.key.as_str().to_owned(),
            origin: self.writer.origin().to_owned(),
            account: request.account,
            job: request.job,
            parameters: hex(Sha256::digest(parameters)),
            newer_than: self.since.id,
            resume: request.resume.clone(),
            at: self.context.wall.now(),
        }
    }

    fn note(&self, intent: Option<&mut Intent>) {
        if let Some(intent) = intent
            && let Err(error) = intent.note(&self.entry())
        {
            // The marker in `cause` is enough.
            self.context.events.run(RunEvent::StartNotRecorded { error: error.to_string() });
        }
    }

    fn duplicate_risk(&self, until: Instant, likely: bool) -> DuplicateRisk {
        let TriggerRequest { account, job, settle, .. } = *self.request;
        DuplicateRisk { account, job, marker: self.marker.to_owned(), since: self.since, until, likely, settle }
    }
}

/// Why the run in the response is not followed.
struct NotOurs {
    error: HttpError,
    /// New but without our marker: ours if the service does not keep `cause`. Nothing is sent again.
    strange: bool,
}
