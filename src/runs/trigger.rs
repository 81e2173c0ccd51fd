//! The trigger: at most one run does work for one key, whatever gets lost.
//!
//! The steps carry the numbers of the protocol ("The trigger: exactly one run" in `docs/architecture.md`); step 6 goes
//! on while the run is followed, in `dbt_run`.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, timeout_at};

use super::Means;
use super::journal::{Entry, Intent, Journal, OpenIntent};
use super::look_up::{LookUp, first_own, found};
use super::marker::{Key, cause, hex};
use super::settle::{MOST_OPEN_SENDS, PATIENCE, Settling, wait_before_repeating};
use crate::dbt::{self, Difference, Off, Overrides, Run, TRIGGER_LIMIT};
use crate::http::{HttpError, Sent, Writer};

/// What is to be started, and how carefully.
#[derive(Clone, Debug)]
pub(crate) struct Order {
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
    /// Why there may be a second run, if there may.
    pub(crate) doubt: Option<Doubt>,
    pub(crate) intent: Option<Intent>,
}

/// There may be a second run with our marker: what is needed to look for it.
#[derive(Clone, Debug)]
pub(crate) struct Doubt {
    pub(crate) account: u64,
    pub(crate) job: u64,
    pub(crate) marker: String,
    /// Only newer runs can be ours.
    pub(crate) newer_than: u64,
    /// Until then a second run may still come to light.
    pub(crate) until: Instant,
}

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
    order: &Order,
    writer: &Writer,
    means: &Means,
    journal: &Journal,
    milestone: &dyn Fn(Milestone<'_>),
    off: impl Future<Output = Option<Off>>,
) -> Result<Triggered, NotStarted> {
    // 1. Key and marker.
    let marker = order.key.marker();
    let cause = cause(&order.said, &order.key);
    let mut started = Start { order, writer, means, marker: &marker, newer_than: 0, settle_from: Instant::now() };

    // 2. Look before the first POST whenever the key is not fresh; else note the newest run only.
    let patient = started.look_up(true);
    if order.look_first {
        let looked = in_time(order, means, patient.runs(None)).await?;
        if let Some((first, now)) = found(&looked.runs, &marker) {
            return started.adopt(first, now.clone(), journal, milestone);
        }
        if let Some(error) = looked.cut {
            return Err(NotStarted::Blind(error));
        }
        started.newer_than = looked.runs.first().map_or(0, |run| run.id);
    }
    // 3. The newest run id of the job, then the intent, on disk and synced.
    if started.newer_than == 0 {
        // Nothing within 7 days does not mean nothing at all.
        started.newer_than = in_time(order, means, patient.newest()).await?.map_err(NotStarted::Blind)?;
    }
    let (mut intent, earlier) = started.note(journal);
    if let Some(run) = started.in_flight(earlier).await? {
        return started.adopt(&run, run.clone(), journal, milestone);
    }

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
            }
            let doubt = if progress.open > 0 || progress.sends > 1 {
                Some(started.doubt(started.settle_from + order.settle))
            } else {
                // Somebody who used the key before us may have started it too: looked for while we wait anyway.
                order.look_first.then(|| started.doubt(Instant::now()))
            };
            Ok(Triggered { run, adopted: false, sends: progress.sends, doubt, intent })
        }
        Err(failed) => {
            // What surely was not started leaves nothing to pick up.
            if progress.open == 0
                && let Some(intent) = intent
            {
                intent.close();
            }
            Err(failed)
        }
    }
}

/// Before anything is sent the deadline, or a signal, only means that nothing will be.
async fn in_time<T>(order: &Order, means: &Means, looking: impl Future<Output = T>) -> Result<T, NotStarted> {
    let looked = means.interruption.or(timeout_at(order.deadline, looking)).await;
    let spent =
        |_| NotStarted::NoTime("dbt Cloud had not answered what was asked about earlier runs by then".to_owned());
    looked.map_err(NotStarted::Interrupted)?.map_err(spent)
}

/// What has been sent.
#[derive(Default)]
struct Progress {
    sends: u32,
    /// Sends whose outcome stayed unclear.
    open: u32,
}

/// One start, with what has been found out so far.
struct Start<'a> {
    order: &'a Order,
    writer: &'a Writer,
    means: &'a Means,
    marker: &'a str,
    newer_than: u64,
    /// The end of the last send: the settle time counts from here.
    settle_from: Instant,
}

impl<'a> Start<'a> {
    fn look_up(&self, patient: bool) -> LookUp<'a> {
        let Order { account, job, .. } = self.order;
        LookUp { reader: self.writer, wall: &self.means.wall, account: *account, job: *job, patient }
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
        let (mut refused, mut unclear, mut last) = (0, None, None);
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
                return Err(NotStarted::NoTime(last.unwrap_or_else(|| "none was left to send the start".to_owned())));
            }
            // 4. One POST on a new connection; nothing below repeats it.
            milestone(Milestone::Sending);
            progress.sends += 1;
            let once = dbt::trigger(order.account, order.job, cause, &order.overrides, TRIGGER_LIMIT.min(left));
            let sent = self.writer.once(once).await;
            self.settle_from = Instant::now();
            // 5. What the outcome means.
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
                    // Surely not started; but the wait is over anyway, and looking costs nothing.
                    let looked = self.look_up(false).runs(Some(self.newer_than)).await;
                    if let Some(run) = first_own(&looked.runs, self.marker) {
                        return Ok(run.clone());
                    }
                }
                Sent::Open(error) => {
                    progress.open += 1;
                    self.means.events.remark(format!(
                        "it is unclear whether the run was started ({error}); looking for it before anything is sent again"
                    ));
                    if let Some(run) = self.settle(Some(&error)).await? {
                        return Ok(run);
                    }
                    if order.at_most_once {
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
                    self.means.events.remark(format!("no run shows after {seconds} s; starting it again"));
                }
            }
        }
    }

    /// Looks for our run until the settle time is over.
    async fn settle(&self, error: Option<&HttpError>) -> Result<Option<Run>, NotStarted> {
        let Order { settle, deadline, .. } = self.order;
        let settling = Settling { means: self.means, from: self.settle_from, settle: *settle, deadline: *deadline };
        let look = async || self.look_up(false).runs(Some(self.newer_than)).await;
        let shown = settling.until_shown(look, |runs| first_own(runs, self.marker).cloned()).await;
        shown.map_err(|looking| NotStarted::Unknown { error: error.cloned(), looking })
    }

    /// Follows the run that carries the key already, if it was started as it would be now.
    fn adopt(
        &mut self,
        first: &Run,
        now: Run,
        journal: &Journal,
        milestone: &dyn Fn(Milestone<'_>),
    ) -> Result<Triggered, NotStarted> {
        if let Some(difference) = first.trigger.as_ref().and_then(|trigger| self.order.overrides.differs_from(trigger))
        {
            return Err(NotStarted::OtherParameters { run: Box::new(now), difference });
        }
        self.newer_than = first.id.saturating_sub(1);
        milestone(Milestone::Known(&now));
        let (mut intent, _) = self.note(journal);
        if let Some(intent) = &mut intent {
            let _ = intent.run(now.id);
        }
        // Whoever started it may have sent it twice: a second run would show within the settle time of the first.
        let age = first.created().and_then(|at| Duration::try_from(self.means.wall.now().duration_since(at)).ok());
        let until = Instant::now() + self.order.settle.saturating_sub(age.unwrap_or_default());
        let doubt = now.ended().is_none().then(|| self.doubt(until));
        Ok(Triggered { run: now, adopted: true, sends: 0, doubt, intent })
    }

    /// Somebody has noted the same start, and nobody knows how it went: perhaps their POST is on its way right now.
    async fn in_flight(&mut self, earlier: Option<OpenIntent>) -> Result<Option<Run>, NotStarted> {
        let Some(OpenIntent { entry, run }) = earlier else { return Ok(None) };
        let order = self.order;
        if let Some(id) = run
            && let Ok(run) =
                in_time(order, self.means, self.writer.glance(dbt::get_run_with_trigger(order.account, id))).await?
            && run.trigger.as_ref().is_some_and(|trigger| trigger.cause.contains(self.marker))
        {
            return Ok(Some(run));
        }
        let age = Duration::try_from(self.means.wall.now().duration_since(entry.at)).unwrap_or_default();
        if age > TRIGGER_LIMIT + order.settle {
            return Ok(None);
        }
        self.means.events.remark("another start with this key was under way a moment ago; looking for its run first");
        self.settle_from = Instant::now();
        self.settle(None).await
    }

    fn note(&self, journal: &Journal) -> (Option<Intent>, Option<OpenIntent>) {
        let order = self.order;
        let parameters = serde_json::to_vec(&order.overrides).unwrap_or_default();
        let entry = Entry {
            key: order.key.as_str().to_owned(),
            origin: self.writer.origin().to_owned(),
            account: order.account,
            job: order.job,
            parameters: hex(&Sha256::digest(parameters)),
            newer_than: self.newer_than,
            resume: order.resume.clone(),
            at: self.means.wall.now(),
        };
        match journal.note(&entry) {
            Ok(noted) => noted.map_or((None, None), |noted| (Some(noted.intent), noted.earlier)),
            Err(error) => {
                // The marker in `cause` is record enough.
                self.means.events.remark(format!("this start cannot be noted on disk ({error}); going on without"));
                (None, None)
            }
        }
    }

    fn doubt(&self, until: Instant) -> Doubt {
        let Order { account, job, .. } = self.order;
        Doubt { account: *account, job: *job, marker: self.marker.to_owned(), newer_than: self.newer_than, until }
    }
}
