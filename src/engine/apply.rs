//! Applies a plan.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::plan::{
    Action, Applied, Consent, Creation, Entry, Kind, Plan, Planned, Progress, RaceOutcome, Refusal, Step, each, failed,
};
use crate::databricks::is_missing;
use crate::durations::shown;
use crate::failure::{Code, Failure, Hint};
use crate::http::{HttpError, Reader, Writer};
use crate::secret::Secret;

/// How long a write may take to become visible in reads before it is reported as failed.
const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(30);

/// Inputs of `apply` that a plan must not hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inputs {
    /// The dbt API key.
    pub(crate) key: Option<Secret>,
}

/// Applies the plan in waves. Within a wave, the steps of a lane are written one after another (parallel ACL writes
/// on one scope end inconsistently), and the lanes in parallel. A wave is then read back all
/// at once, in parallel with the reads before the first writes of the next wave; those writes wait for both. A plan
/// with a blocked step is not applied at all. `on_progress` is called whenever a step has progressed.
///
/// # Errors
/// The first change that fails or does not become visible. Earlier changes stay; running the same command again
/// continues there.
pub(crate) async fn apply(
    writer: &Writer,
    plan: &mut Plan,
    inputs: &Inputs,
    on_progress: &dyn Fn(Entry),
) -> Result<(), Failure> {
    if let Some(failure) = blocked(plan) {
        return Err(failure);
    }
    plan.steps.sort_by_key(|planned| (planned.wave(), planned.lane()));
    let mut job = None;
    let mut before: &mut [Planned] = &mut [];
    for wave in plan.steps.chunk_by_mut(|left, right| left.wave() == right.wave()) {
        let needs_job = wave.iter().any(|planned| matches!(planned, Planned::JobGrant(_)));
        if needs_job {
            confirm_all(writer, before, on_progress).await?;
            let made = before.iter().find_map(Planned::workflow).and_then(Step::present);
            job = job.or_else(|| made.map(|have| have.job.id));
            before = &mut [];
        }
        for planned in wave.iter_mut() {
            if let Planned::JobGrant(step) = planned {
                step.want.object.job = step.want.object.job.or(job);
            }
        }
        let count = wave.chunk_by(|left, right| left.lane() == right.lane()).count();
        let gate = WaveGate::for_arrivals(count + 1);
        let confirming = async {
            let confirmed = confirm_all(writer, before, on_progress).await;
            gate.confirmed.send_replace(Some(confirmed.is_ok()));
            gate.arrive(confirmed.is_ok());
            confirmed
        };
        let lanes = wave.chunk_by_mut(|left, right| left.lane() == right.lane()).map(async |lane| {
            let mut ticket = LaneTicket { gate: &gate, is_due: true };
            for planned in lane {
                let written = each!(planned, step => Box::pin(write(writer, step, inputs, &mut ticket)).await);
                on_progress(planned.entry());
                if let Err(failure) = written {
                    ticket.fails();
                    return Err(failure);
                }
            }
            ticket.arrives();
            Ok(())
        });
        let (confirmed, written) = tokio::join!(confirming, join_all(lanes));
        confirmed?;
        written.into_iter().collect::<Result<(), Failure>>()?;
        before = wave;
    }
    confirm_all(writer, before, on_progress).await
}

/// Reads back what a wave has written.
async fn confirm_all(writer: &Writer, wave: &mut [Planned], on_progress: &dyn Fn(Entry)) -> Result<(), Failure> {
    let reads = wave.iter_mut().map(async |planned| {
        let seen = each!(planned, step => Box::pin(confirm(writer, step)).await);
        on_progress(planned.entry());
        seen
    });
    join_all(reads).await.into_iter().collect()
}

/// Opens for the writes of a wave once the previous wave is read back and each lane has read the object of its
/// first write.
struct WaveGate {
    awaited: Cell<usize>,
    /// Whether the previous wave is visible; `None` until that is known.
    confirmed: watch::Sender<Option<bool>>,
    /// `None`: closed; `Some(true)`: open; `Some(false)`: something failed, write nothing more.
    state: watch::Sender<Option<bool>>,
}

impl WaveGate {
    fn for_arrivals(awaited: usize) -> WaveGate {
        WaveGate { awaited: Cell::new(awaited), confirmed: watch::Sender::new(None), state: watch::Sender::new(None) }
    }

    fn arrive(&self, is_ok: bool) {
        self.awaited.set(self.awaited.get().saturating_sub(1));
        if !is_ok {
            self.state.send_replace(Some(false));
        } else if self.awaited.get() == 0 {
            self.state.send_if_modified(|state| state.is_none() && state.replace(true).is_none());
        }
    }
}

/// When the read directly before a write began and ended.
#[derive(Clone, Copy)]
struct PreWriteRead {
    began: Instant,
    ended: Instant,
}

impl PreWriteRead {
    /// Whether waiting for other lanes took longer than the read itself, so that more than a round trip separates
    /// it from the write.
    fn is_old(self) -> bool {
        self.ended.elapsed() > self.ended.duration_since(self.began)
    }
}

/// Waits for a value; `false` means that something failed.
async fn wait_for_ok(state: &watch::Sender<Option<bool>>) -> bool {
    let mut state = state.subscribe();
    // The sender outlives every waiter.
    state.wait_for(Option::is_some).await.is_ok_and(|state| *state == Some(true))
}

/// The arrival at the gate that a lane still owes.
struct LaneTicket<'a> {
    gate: &'a WaveGate,
    is_due: bool,
}

impl LaneTicket<'_> {
    fn arrives(&mut self) {
        if std::mem::take(&mut self.is_due) {
            self.gate.arrive(true);
        }
    }

    fn fails(&mut self) {
        self.is_due = false;
        self.gate.arrive(false);
    }

    /// Waits until this lane may write; `false` means that it must not.
    async fn may_write(&mut self) -> bool {
        self.arrives();
        wait_for_ok(&self.gate.state).await
    }
}

/// The failure for a plan with blocked steps, naming all of them.
pub(crate) fn blocked(plan: &Plan) -> Option<Failure> {
    let mut failure: Option<Failure> = None;
    for entry in plan.entries() {
        failure = match entry.action {
            Action::Blocked { why, unless } => Some(refused(failure, why, unless)),
            Action::Keep(_) | Action::Create | Action::Update(_) | Action::Remove => failure,
        };
    }
    failure
}

/// Adds a refusal to the failure so far.
fn refused(before: Option<Failure>, why: Refusal, unless: Option<Consent>) -> Failure {
    let Refusal { what, causes, diff: _, hints, others } = why;
    let mut failure = match before {
        None => Failure::new(Code::Refused, what),
        Some(before) => before.cause(what),
    };
    failure.causes.extend(causes);
    failure.hints.extend(unless.map(|consent| Hint::Add(consent.flag())));
    for hint in hints {
        if !failure.hints.contains(&hint) {
            failure.hints.push(hint);
        }
    }
    others.into_iter().fold(failure, |failure, other| refused(Some(failure), other, None))
}

/// Reads the object again directly before each attempt to write it, and leaves it alone if it has changed since the
/// plan. No API call supports a precondition, so a change between that read and the
/// write goes unnoticed.
async fn write<K: Kind>(
    writer: &Writer,
    step: &mut Step<K>,
    inputs: &Inputs,
    ticket: &mut LaneTicket<'_>,
) -> Result<(), Failure> {
    let (verb, overwrites, repeats) = match (&step.action, K::CREATION) {
        (Action::Keep(_) | Action::Blocked { .. }, _) => return Ok(()),
        (Action::Update(_), _) => ("update", true, true),
        (Action::Remove, _) => ("remove", true, true),
        (Action::Create, Creation::Overwrites) => ("create", true, true),
        (Action::Create, Creation::IsRefused) => ("create", false, true),
        (Action::Create, Creation::MakesAnother) => ("create", false, false),
    };
    let end = writer.repeats_until();
    // An earlier attempt may have succeeded without an answer.
    let mut unanswered = false;
    let mut attempts = 1;
    loop {
        let mut last_read = None;
        if overwrites {
            let began = Instant::now();
            let now = K::reobserve(writer, step).await;
            let read = PreWriteRead { began, ended: Instant::now() };
            // While the previous wave is not visible, this read proves nothing.
            if !wait_for_ok(&ticket.gate.confirmed).await {
                return Ok(());
            }
            if read.is_old() {
                continue;
            }
            last_read = Some(read);
            let now = now.map_err(|error| {
                step.progress = if unanswered { Progress::Unknown } else { Progress::Failed };
                failed::<K>("read", &step.want, &error)
            })?;
            if K::is_as_planned(step, now.as_ref()) {
                step.have = now;
            } else if unanswered && K::differences(step, now.as_ref()).is_empty() {
                step.progress = Progress::Written;
                return Ok(());
            } else {
                step.now = now;
                return changed_meanwhile(step);
            }
        }
        if !ticket.may_write().await {
            return Ok(());
        }
        if last_read.is_some_and(PreWriteRead::is_old) {
            continue;
        }
        let error = match K::apply(writer, step, inputs).await {
            Ok(Applied::Written) => {
                step.progress = Progress::Written;
                return Ok(());
            }
            // Deleting something already gone is done.
            Err(error) if step.action == Action::Remove && is_missing(&error) => {
                step.progress = Progress::Written;
                return Ok(());
            }
            Ok(Applied::Found) => return name_already_exists(writer, step, unanswered).await,
            Err(error) => error,
        };
        unanswered |= error.may_have_taken_effect();
        let goes_on = if repeats { writer.pause(HttpError { attempts, ..error }, end).await } else { Err(error) };
        if let Err(error) = goes_on {
            step.progress = if unanswered { Progress::Unknown } else { Progress::Failed };
            return Err(failed::<K>(verb, &step.want, &error));
        }
        attempts += 1;
    }
}

/// An object of this name has appeared since the plan: created by our own earlier attempt, whose answer was lost, or
/// by someone else.
async fn name_already_exists<K: Kind>(reader: &Reader, step: &mut Step<K>, unanswered: bool) -> Result<(), Failure> {
    let end = Instant::now() + VISIBILITY_TIMEOUT;
    let mut pause = Duration::from_millis(100);
    while step.now.is_none() && Instant::now() + pause < end {
        step.now = K::reobserve(reader, step).await.map_err(|error| {
            step.progress = Progress::Unknown;
            failed::<K>("read", &step.want, &error)
        })?;
        if step.now.is_none() {
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }
    if unanswered && K::differences(step, step.now.as_ref()).is_empty() {
        step.progress = Progress::Done;
        return Ok(());
    }
    changed_meanwhile(step)
}

/// Reports a change made by others since the plan, which stays. If nothing is left to do, the step is done.
fn changed_meanwhile<K: Kind>(step: &mut Step<K>) -> Result<(), Failure> {
    let action = K::diff(&step.want, step.now.as_ref(), &step.consents);
    let (kind, name) = (K::KIND, K::quoted(&step.want));
    let removes = step.action == Action::Remove;
    let done = if removes { "removed" } else { "written" };
    let what = format!("the {kind} {name} was not {done}: it has changed since it was compared");
    let failure = Failure::new(Code::ChangedMeanwhile, what);
    let failure = match action {
        // The object must be kept now, so removing it has failed.
        Action::Keep(note) if removes && !K::differences(step, step.now.as_ref()).is_empty() => {
            note.into_iter().fold(failure, |failure, note| failure.cause(note.to_string()))
        }
        Action::Keep(note) => {
            step.action = Action::Keep(K::downgraded_to_noop(step, step.now.as_ref()).or(note));
            step.progress = Progress::Done;
            return Ok(());
        }
        Action::Create => failure.cause("it was deleted or changed"),
        Action::Remove => failure,
        Action::Update(changes) => {
            let fields: Vec<String> = changes.into_iter().map(|change| change.field).collect();
            failure.cause(format!("differences: {}", fields.join(", ")))
        }
        Action::Blocked { why, unless } => refused(Some(failure), why, unless),
    };
    step.progress = Progress::Failed;
    Err(failure.advise("run the same command again to compare with the current state"))
}

/// Reads until the change is visible, then checks that everything else is still there.
async fn confirm<K: Kind>(writer: &Writer, step: &mut Step<K>) -> Result<(), Failure> {
    if step.progress != Progress::Written {
        return Ok(());
    }
    let verb = match step.action {
        Action::Create => "created",
        Action::Remove => "removed",
        Action::Update(_) | Action::Keep(_) | Action::Blocked { .. } => "updated",
    };
    let (kind, name) = (K::KIND, K::quoted(&step.want));
    let done = |step: &Step<K>| {
        let id = K::created_id(step).map(|id| format!(" as {id}")).unwrap_or_default();
        format!("the {kind} {name} was {verb}{id}")
    };
    let unread = |step: &Step<K>, error: &HttpError| {
        let cause = format!("{}, but could not be read back", done(step));
        failed::<K>("read back", &step.want, error).cause(cause)
    };
    let end = Instant::now() + VISIBILITY_TIMEOUT;
    let mut pause = Duration::from_millis(100);
    loop {
        let now = K::reobserve(writer, step).await.map_err(|error| unread(step, &error))?;
        let is_there = now.is_some();
        if is_there {
            step.now = now;
        }
        let race = K::resolve_race(writer, step).await.map_err(|error| unread(step, &error))?;
        let differences = K::differences(step, step.now.as_ref().filter(|_| is_there));
        let late = Instant::now() + pause > end;
        match race {
            RaceOutcome::Theirs => return changed_meanwhile(step),
            RaceOutcome::Ours if differences.is_empty() => break,
            // The command's report names the other objects.
            RaceOutcome::NotYet if differences.is_empty() && late => break,
            RaceOutcome::Ours | RaceOutcome::NotYet if late => {
                return Err(Failure::new(Code::Failed, format!("{}, but reads back differently", done(step)))
                    .cause(format!("{} after the write: {}", shown(VISIBILITY_TIMEOUT), differences.join("; ")))
                    .advise(
                        "compare it in the workspace, or run the same command again: it writes only what differs",
                    ));
            }
            RaceOutcome::Ours | RaceOutcome::NotYet => {}
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
    let losses = K::collateral_losses(step);
    if !losses.is_empty() {
        return Err(Failure::new(Code::Failed, format!("{}, but lost: {}", done(step), losses.join(", ")))
            .cause("the service replaced more than was sent, or it was removed at the same time")
            .advise("restore it in the workspace"));
    }
    if let Some(note) = K::downgraded_to_noop(step, step.now.as_ref()) {
        step.action = Action::Keep(Some(note));
    }
    step.progress = Progress::Done;
    Ok(())
}
