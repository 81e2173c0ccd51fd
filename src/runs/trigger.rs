//! The trigger: at most one run does work for one key, whatever gets lost.
//!
//! The steps carry the numbers of the protocol ("The trigger: exactly one run" in `docs/architecture.md`); step 6 goes
//! on while the run is followed, in `dbt_run`.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep, timeout_at};

use super::RunContext;
use super::journal::{Entry, Intent, Journal, OpenIntent, Turn};
use super::look_up::{LookUp, Looked, Since, first_own, found, is_own, nonsense};
use super::marker::{Key, cause, hex};
use super::resume::{NotResumed, Resumption, resume};
use super::settle::{MOST_OPEN_SENDS, Settling, wait_before_repeating};
use crate::dbt::{self, Difference, Off, Overrides, Run, TRIGGER_LIMIT};
use crate::http::{HttpError, PATIENCE, Sent, Writer};

/// What is to be started, and how carefully.
#[derive(Clone, Debug)]
pub(crate) struct TriggerRequest {
    pub(crate) account: u64,
    pub(crate) job: u64,
    pub(crate) key: Key,
    /// Somebody gave the key, so an earlier start may have used it.
    pub(crate) look_first: bool,
    /// The part of `cause` that is for people.
    pub(crate) said: String,
    pub(crate) overrides: Overrides,
    /// How long a run whose trigger was not answered may take to show in lists.
    pub(crate) settle: Duration,
    pub(crate) at_most_once: bool,
    pub(crate) deadline: Instant,
    /// The command that picks the run up.
    pub(crate) resume: String,
}

/// A run that was started, or found again.
#[derive(Debug)]
pub(crate) struct Triggered {
    pub(crate) run: Run,
    /// It was there already, started with this key by an earlier command.
    pub(crate) adopted: bool,
    pub(crate) sends: u32,
    /// What a second run is looked for with.
    pub(crate) doubt: DuplicateRisk,
    pub(crate) intent: Option<Intent>,
}

/// What a second run with our marker is looked for with: the service may have made one whatever it answered.
#[derive(Clone, Debug)]
pub(crate) struct DuplicateRisk {
    pub(crate) account: u64,
    pub(crate) job: u64,
    pub(crate) marker: String,
    /// Only newer runs can be ours.
    pub(crate) since: Since,
    /// Until then a second run may still come to light.
    pub(crate) until: Instant,
    /// It was sent twice or not answered, or others may use the key: looked for at once and again and again.
    pub(crate) likely: bool,
    /// How long a run may take to show in lists.
    pub(crate) settle: Duration,
}

/// Between two looks whether another process on this machine has started the run.
const BETWEEN_TURNS: Duration = Duration::from_millis(500);

/// What somebody who watches should remember.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Milestone<'a> {
    /// From now on a run may exist.
    Sending,
    /// It exists.
    Known(&'a Run),
}

/// Why no run is followed.
#[derive(Clone, Debug)]
pub(crate) enum NotStarted {
    /// Earlier runs could not be looked through, so nothing was sent.
    Blind(HttpError),
    /// The key belongs to a run with other parameters. Nothing was sent.
    OtherParameters { run: Box<Run>, difference: Difference },
    /// The service refused.
    Rejected(HttpError),
    /// The service was not reached, or said to come back later, until patience or time was over.
    NeverSent(HttpError),
    /// No run of the job would start. Nothing was sent.
    Off(Off),
    /// The time was over before anything was sent that may have had an effect; and what it was spent on.
    NoTime(String),
    /// Interrupted by this signal before anything was sent that may have had an effect.
    Interrupted(u8),
    /// The outcome stayed unclear each time, and no run showed each time.
    NoRunShows { error: HttpError, sends: u32 },
    /// Nobody knows whether a run was started. Nothing was sent again.
    Unknown { error: Option<HttpError>, looking: Option<HttpError> },
}

impl NotStarted {
    /// Whether there may be a run all the same.
    pub(crate) fn may_have_started(&self) -> bool {
        match self {
            NotStarted::NoRunShows { error: _, sends: _ } | NotStarted::Unknown { error: _, looking: _ } => true,
            NotStarted::Blind(_)
            | NotStarted::OtherParameters { run: _, difference: _ }
            | NotStarted::Rejected(_)
            | NotStarted::NeverSent(_)
            | NotStarted::Off(_)
            | NotStarted::NoTime(_)
            | NotStarted::Interrupted(_) => false,
        }
    }
}

/// Starts a run of the job, or finds the one that was started with the same key. `off`: what is known against starting any, told
/// by whoever looks at the job meanwhile.
pub(crate) async fn trigger(
    order: &TriggerRequest,
    writer: &Writer,
    means: &RunContext,
    journal: &Journal,
    milestone: &dyn Fn(Milestone<'_>),
    off: impl Future<Output = Option<Off>>,
) -> Result<Triggered, NotStarted> {
    // 1. Key and marker.
    let marker = order.key.marker();
    let cause = cause(&order.said, &order.key);
    let since = Since::default();
    let mut started = Attempt { order, writer, means, marker: &marker, since, settle_from: Instant::now() };

    // 2. On this machine one start at a time; then look before the first POST, from the one list that bounds later ones too.
    let (mut intent, left) = started.turn(journal).await?;
    match started.look_before(left.as_ref()).await {
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

    // A run of such a job would wait in the queue for ever.
    if let Some(off) = off.await {
        if let Some(intent) = intent {
            intent.close();
        }
        return Err(NotStarted::Off(off));
    }

    let mut progress = Progress::default();
    match started.send_until_known(&cause, &mut progress, milestone).await {
        Ok(run) => {
            milestone(Milestone::Known(&run));
            if let Some(intent) = &mut intent {
                // The marker finds it anyway.
                let _ = intent.run(run.id);
                intent.share();
            }
            let unclear = progress.open > 0 || progress.sends > 1;
            let until = if unclear { started.settle_from + order.settle } else { Instant::now() };
            // Somebody who used the key before us may have started it too.
            let doubt = started.doubt(until, unclear || order.look_first);
            Ok(Triggered { run, adopted: false, sends: progress.sends, doubt, intent })
        }
        Err(failed) => {
            // What surely was not started leaves nothing to pick up, unless an earlier start has.
            if progress.open == 0
                && left.is_none()
                && let Some(intent) = intent
            {
                intent.close();
            }
            Err(failed)
        }
    }
}

/// Resumes a run as [`resume`] does, on this machine one process at a time: the others follow the run of the first. `order`: the
/// start that asks for it.
pub(crate) async fn resume_alone(
    order: &TriggerRequest,
    resumption: &Resumption,
    writer: &Writer,
    means: &RunContext,
    journal: &Journal,
    sending: &mut dyn FnMut(),
) -> Result<(Run, Option<Intent>), NotResumed> {
    let order = TriggerRequest { key: Key::of_resumption(resumption.run), ..order.clone() };
    let marker = order.key.marker();
    let (since, settle_from) = (Since::default(), Instant::now());
    let started = Attempt { order: &order, writer, means, marker: &marker, since, settle_from };
    let (mut intent, left) = started.turn(journal).await.map_err(|error| match error {
        NotStarted::Interrupted(_) => NotResumed::Interrupted,
        NotStarted::NoTime(_)
        | NotStarted::Blind(_)
        | NotStarted::OtherParameters { run: _, difference: _ }
        | NotStarted::Rejected(_)
        | NotStarted::NeverSent(_)
        | NotStarted::Off(_)
        | NotStarted::NoRunShows { error: _, sends: _ }
        | NotStarted::Unknown { error: _, looking: _ } => NotResumed::NoTime,
    })?;
    let known = async {
        let looked = timeout_at(order.deadline, writer.read(dbt::get_run(order.account, left.as_ref()?.run?))).await;
        looked.ok()?.ok().filter(|there| there.retrying_run_id == Some(resumption.run))
    };
    let resumed = match means.interruption.or(known).await.map_err(|_| NotResumed::Interrupted)? {
        Some(there) => Ok(there),
        None => {
            started.note(intent.as_mut());
            resume(resumption, writer, means, sending).await
        }
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
            if left.is_none()
                && let Some(intent) = intent.take()
            {
                intent.close();
            }
        }
    }
    resumed.map(|run| (run, intent))
}

/// Before anything is sent the deadline, or a signal, only means that nothing will be.
async fn in_time<T>(
    order: &TriggerRequest,
    means: &RunContext,
    spent: &str,
    looking: impl Future<Output = T>,
) -> Result<T, NotStarted> {
    let looked = means.interruption.or(timeout_at(order.deadline, looking)).await;
    looked.map_err(NotStarted::Interrupted)?.map_err(|_| NotStarted::NoTime(spent.to_owned()))
}

const LOOKING: &str = "dbt had not listed earlier runs by then";

/// What has been sent.
#[derive(Default)]
struct Progress {
    sends: u32,
    /// Sends whose outcome stayed unclear.
    open: u32,
}

/// One start, with what has been found out so far.
struct Attempt<'a> {
    order: &'a TriggerRequest,
    writer: &'a Writer,
    means: &'a RunContext,
    marker: &'a str,
    since: Since,
    /// The end of the last send: the settle time counts from here.
    settle_from: Instant,
}

impl<'a> Attempt<'a> {
    /// Waits until no other process on this machine is starting a run with this key, and gives what such a one has noted.
    async fn turn(&self, journal: &Journal) -> Result<(Option<Intent>, Option<OpenIntent>), NotStarted> {
        let Attempt { order, means, .. } = self;
        let mut said = false;
        loop {
            match journal.turn(&self.entry()) {
                Ok(Turn::NoJournal) => return Ok((None, None)),
                Ok(Turn::Ours(intent, left)) => return Ok((Some(intent), left)),
                Ok(Turn::Followed(intent, open)) => return Ok((Some(intent), Some(open))),
                Ok(Turn::Busy) => {}
                Err(error) => {
                    // The marker in `cause` is record enough.
                    means.events.remark(format!("cannot record this start on disk ({error}); continuing without"));
                    return Ok((None, None));
                }
            }
            if !said {
                means.events.remark("another start with this key is in progress on this machine; waiting for its run");
                said = true;
            }
            let spent = "another start with this key was in progress on this machine";
            in_time(order, means, spent, sleep(BETWEEN_TURNS)).await?;
        }
    }

    /// Looks for a run that an earlier start with this key has made: the first one, and what stands for it now. Notes what a run
    /// of ours is newer than.
    async fn look_before(&mut self, left: Option<&OpenIntent>) -> Result<Option<(Run, Run)>, NotStarted> {
        let Attempt { order, means, marker, .. } = *self;
        let reader = self.writer.patient();
        let patient = LookUp { reader: &reader, patient: true, ..self.look_up() };
        let look = async { if order.look_first { patient.runs(None).await } else { patient.newest(order.job).await } };
        let Looked { runs, cut, since } = in_time(order, means, LOOKING, look).await?;
        if let Some((first, now)) = found(&runs, marker) {
            return Ok(Some((first.clone(), now.clone())));
        }
        if let Some(error) = cut {
            return Err(NotStarted::Blind(error));
        }
        self.since = since;
        // Noted, and nobody knows how it went: perhaps the POST is on its way right now.
        let Some(OpenIntent { entry, run }) = left else { return Ok(None) };
        if let Some(id) = run
            && let Ok(run) =
                in_time(order, means, LOOKING, reader.read(dbt::get_run_with_trigger(order.account, *id))).await?
            && is_own(&run, marker)
        {
            return Ok(Some((run.clone(), run)));
        }
        let age = Duration::try_from(means.wall.now().duration_since(entry.at)).unwrap_or_default();
        if age > TRIGGER_LIMIT + order.settle {
            return Ok(None);
        }
        means.events.remark("another start with this key was just in progress; looking for its run first");
        self.settle_from = Instant::now();
        Ok(self.settle(None).await?.map(|run| (run.clone(), run)))
    }

    fn look_up(&self) -> LookUp<'a> {
        let TriggerRequest { account, job, .. } = self.order;
        LookUp { reader: self.writer, wall: &self.means.wall, account: *account, job: Some(*job), patient: false }
    }

    /// Steps 4 and 5.
    async fn send_until_known(
        &mut self,
        cause: &str,
        progress: &mut Progress,
        milestone: &dyn Fn(Milestone<'_>),
    ) -> Result<Run, NotStarted> {
        let order = self.order;
        let patience = (Instant::now() + PATIENCE).min(order.deadline);
        let (mut refused, mut unclear, mut last, mut once_only) = (0, None, None, order.at_most_once);
        loop {
            // What is on its way is waited for; what is not, is not sent any more.
            if let Some(signal) = self.means.interruption.heard() {
                return Err(match unclear {
                    None => NotStarted::Interrupted(signal),
                    error @ Some(_) => NotStarted::Unknown { error, looking: None },
                });
            }
            let left = order.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() && progress.open == 0 {
                return Err(NotStarted::NoTime(last.unwrap_or_else(|| "no time was left to start it".to_owned())));
            }
            // 4. One POST on a new connection; nothing below repeats it.
            milestone(Milestone::Sending);
            progress.sends += 1;
            let once = dbt::trigger(order.account, order.job, cause, &order.overrides, TRIGGER_LIMIT.min(left));
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
                    let proof = error.is_certificate() || (limited && order.at_most_once);
                    if proof || Instant::now() >= patience {
                        return Err(match progress.open {
                            0 if !proof && Instant::now() >= order.deadline => NotStarted::NoTime(error.to_string()),
                            0 => NotStarted::NeverSent(error),
                            _ => NotStarted::NoRunShows { error, sends: progress.sends },
                        });
                    }
                    refused += 1;
                    last = Some(error.to_string());
                    wait_before_repeating(self.means, &error, refused, patience).await;
                    if !limited {
                        // Nothing left this machine: this was no send.
                        progress.sends -= 1;
                        continue;
                    }
                    // Not started, says the service; a run that shows all the same is ours. Looking has its own time behind the wait.
                    let settled = Instant::now().checked_sub(order.settle).unwrap_or(self.settle_from);
                    self.settle_from = self.settle_from.max(settled);
                    let Ok(settled) = self.means.interruption.or(self.settle(None)).await else { continue };
                    match settled {
                        Ok(Some(run)) => return Ok(run),
                        Ok(None) => {}
                        // Nothing unknown about it: it was refused.
                        Err(_) if Instant::now() >= order.deadline && progress.open == 0 => {
                            return Err(NotStarted::NoTime(error.to_string()));
                        }
                        Err(_) if progress.open == 0 => return Err(NotStarted::NeverSent(error)),
                        Err(_) => return Err(NotStarted::NoRunShows { error, sends: progress.sends }),
                    }
                }
                Sent::Open(error) => {
                    progress.open += 1;
                    self.means.events.remark(format!(
                        "unclear whether the run was started ({error}); looking for it before sending anything again"
                    ));
                    if let Some(run) = self.settle(Some(&error)).await? {
                        return Ok(run);
                    }
                    if once_only {
                        return Err(NotStarted::Unknown { error: Some(error), looking: None });
                    }
                    if progress.open >= MOST_OPEN_SENDS || Instant::now() >= order.deadline {
                        return Err(NotStarted::NoRunShows { error, sends: progress.sends });
                    }
                    unclear = Some(error);
                    if self.means.interruption.heard().is_some() {
                        continue;
                    }
                    let seconds = self.settle_from.elapsed().as_secs();
                    self.means.events.remark(format!("no run found after {seconds} s; starting it again"));
                }
            }
        }
    }

    /// Looks for our run until the settle time is over.
    async fn settle(&self, error: Option<&HttpError>) -> Result<Option<Run>, NotStarted> {
        let TriggerRequest { settle, deadline, .. } = self.order;
        let settling = Settling { means: self.means, from: self.settle_from, settle: *settle, deadline: *deadline };
        let look = async || self.look_up().runs(Some(self.since)).await;
        let shown = settling.until_shown(look, |runs| first_own(runs, self.marker).cloned()).await;
        shown.map_err(|looking| NotStarted::Unknown { error: error.cloned(), looking })
    }

    /// Whether the run that the trigger was answered with is the one that it made.
    async fn check(&self, run: Run) -> Result<Run, NotOurs> {
        let Attempt { order, writer, marker, since, .. } = *self;
        let not_ours = |run: &Run, reason: &str, strange| {
            let error = nonsense("jobs/run", writer.origin(), &format!("it names run {}, {reason}", run.id));
            Err(NotOurs { error, strange })
        };
        if run.job_definition_id.is_some_and(|job| job != order.job) || since.excludes(&run) {
            return not_ours(&run, "which this start cannot have created", false);
        }
        let mut run = run;
        if run.trigger.is_none() {
            match writer.read_once(dbt::get_run_with_trigger(order.account, run.id)).await {
                Ok(single) if single.id == run.id => run = single,
                Ok(_) | Err(_) => return not_ours(&run, "of which nothing is known", false),
            }
        }
        // A service that does not say what started it: nothing speaks against it.
        if run.trigger.is_none() || is_own(&run, marker) {
            return Ok(run);
        }
        not_ours(&run, "which does not carry the marker of this start", true)
    }

    /// Follows the run that carries the key already, if it was started as it would be now.
    fn adopt(
        &mut self,
        first: &Run,
        now: Run,
        mut intent: Option<Intent>,
        milestone: &dyn Fn(Milestone<'_>),
    ) -> Result<Triggered, NotStarted> {
        if let Some(difference) = first.trigger.as_ref().and_then(|trigger| self.order.overrides.differs_from(trigger))
        {
            if let Some(intent) = intent {
                intent.abandon();
            }
            return Err(NotStarted::OtherParameters { run: Box::new(now), difference });
        }
        self.since = Since::before(first);
        milestone(Milestone::Known(&now));
        self.note(intent.as_mut());
        if let Some(intent) = &mut intent {
            let _ = intent.run(now.id);
            intent.share();
        }
        // Whoever started it may have sent it twice: a second run would show within the settle time of the first.
        let age = first.created().and_then(|at| Duration::try_from(self.means.wall.now().duration_since(at)).ok());
        let until = Instant::now() + self.order.settle.saturating_sub(age.unwrap_or_default());
        let until = if now.ended().is_none() { until } else { Instant::now() };
        let doubt = self.doubt(until, now.ended().is_none());
        Ok(Triggered { run: now, adopted: true, sends: 0, doubt, intent })
    }

    fn entry(&self) -> Entry {
        let order = self.order;
        let parameters = serde_json::to_vec(&order.overrides).unwrap_or_default();
        Entry {
            key: order.key.as_str().to_owned(),
            origin: self.writer.origin().to_owned(),
            account: order.account,
            job: order.job,
            parameters: hex(&Sha256::digest(parameters)),
            newer_than: self.since.id,
            resume: order.resume.clone(),
            at: self.means.wall.now(),
        }
    }

    fn note(&self, intent: Option<&mut Intent>) {
        if let Some(intent) = intent
            && let Err(error) = intent.note(&self.entry())
        {
            // The marker in `cause` is record enough.
            self.means.events.remark(format!("cannot record this start on disk ({error}); continuing without"));
        }
    }

    fn doubt(&self, until: Instant, likely: bool) -> DuplicateRisk {
        let TriggerRequest { account, job, settle, .. } = *self.order;
        DuplicateRisk { account, job, marker: self.marker.to_owned(), since: self.since, until, likely, settle }
    }
}

/// Why the run that the trigger was answered with is not followed.
struct NotOurs {
    error: HttpError,
    /// It is new, and does not carry our marker: ours, if the service keeps no `cause`. Nothing is sent again.
    strange: bool,
}
