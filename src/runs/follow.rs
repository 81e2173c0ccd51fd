//! Follows dbt runs and Databricks runs to their end.
//!
//! A failed poll is not a failed run. Following ends with the run, with proof that polling is useless, or at the
//! deadline, which holds whatever the service does.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::RunContext;
use crate::events::{RunEvent, RunId};
use crate::http::{Deadline, Fault, HttpError, Meaning, Pace};

/// The last poll starts this long before the deadline, so that it can finish in time.
const FINAL_POLL: Duration = Duration::from_secs(2);

/// Longest wait between two looks at the clocks, so that a suspended machine is noticed soon after it resumes.
const SLICE: Duration = Duration::from_secs(5);

/// A wait that took this much longer than planned, by either clock, means that the machine was suspended.
const SUSPENDED: Duration = Duration::from_secs(30);

/// First wait after a 429 without a `Retry-After`; doubled each time. The service may need minutes to cool down,
/// or recover at once.
const RATE_LIMIT_WAIT: Duration = Duration::from_secs(10);
const RATE_LIMIT_CAP: Duration = Duration::from_mins(5);

/// Cap on `Retry-After`: longer waits would turn every hiccup into a timeout.
const LONGEST_REQUESTED: Duration = Duration::from_mins(15);

/// How long a new run may not be found.
const NEW: Duration = Duration::from_mins(1);

/// In its first minute, a run that was seen must be missing from this many polls in a row, because another server of
/// the service may not know it yet.
const NOT_FOUND_WHILE_NEW: u32 = 4;

/// Polls something that runs.
pub(crate) trait Probe {
    type State;

    fn run_id(&self) -> RunId;

    /// Polls once. Cancel-safe.
    async fn poll(&mut self) -> Result<PollResult<Self::State>, HttpError>;
}

/// Result of a poll.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PollResult<S> {
    Active(S),
    Ended(S),
}

/// How following ended.
#[derive(Debug)]
pub(crate) enum Followed<S> {
    /// The run ended.
    Ended(S),
    /// The deadline passed. Holds the last known state of the run, if any.
    OutOfTime(Option<S>),
    /// The run was deleted, or is no longer visible.
    Gone(Option<S>, HttpError),
    /// Polling is useless; the run may still be active.
    Blind(Option<S>, HttpError),
}

/// Failed polls so far.
#[derive(Clone, Debug, Default)]
struct FailedPolls {
    /// Rejected for the identity or its address, in a row.
    denied: u32,
    /// Not found, in a row, counted once the run was seen or is older than a minute.
    gone: u32,
    /// Within the first minute, when "not found" needs more repeats.
    young: bool,
    /// Failed in any way, in a row.
    failed: u32,
}

impl FailedPolls {
    /// `seen`: whether an earlier poll succeeded.
    fn note(&mut self, error: &HttpError, age: Duration, seen: bool) {
        self.failed += 1;
        let means = error.means();
        self.denied = if means.rejects_identity() { self.denied + 1 } else { 0 };
        // An endpoint that worked before exists, so a later 501 comes from a gateway.
        let missing =
            matches!(means, Meaning::NotFound | Meaning::WrongHost) || (means == Meaning::NotImplemented && !seen);
        self.young = age <= NEW;
        self.gone = if missing && (seen || !self.young) { self.gone + 1 } else { 0 };
    }

    /// Whether polling again will not help. `error` is the last one noted.
    fn prove_useless(&self, error: &HttpError) -> bool {
        let enough = if self.young { NOT_FOUND_WHILE_NEW } else { 2 };
        // An untrusted certificate is proof at once; anything else may be temporary and has to repeat.
        error.is_certificate() || self.denied >= 2 || self.gone >= enough
    }
}

/// Polls until the run ends, the deadline passes, or there is proof that polling is useless. `on_poll` receives every
/// state.
pub(crate) async fn follow<P: Probe>(
    probe: &mut P,
    until: impl Into<Deadline>,
    context: &RunContext,
    mut on_poll: impl FnMut(&P::State),
) -> Followed<P::State>
where
    P::State: Clone,
{
    let RunContext { pace, entropy, events, .. } = context;
    let until = until.into();
    let (begun, mut deadline) = (Instant::now(), until.at());
    let reserve = reserve(deadline);
    let mut failed_polls = FailedPolls::default();
    let mut last: Option<P::State> = None;
    loop {
        let final_poll = Instant::now() >= deadline - reserve;
        let cut = if final_poll { deadline } else { deadline - reserve };
        let mut requested_wait = Duration::ZERO;
        let run = probe.run_id();
        let still = || RunEvent::StillRunning { run, age: begun.elapsed() };
        match wait_or_notice_suspend(cut, Box::pin(probe.poll()), context, &still).await {
            Waited::Done(Ok(PollResult::Ended(state))) => {
                on_poll(&state);
                return Followed::Ended(state);
            }
            Waited::Done(Ok(PollResult::Active(state))) => {
                on_poll(&state);
                last = Some(state);
                failed_polls = FailedPolls::default();
            }
            Waited::Done(Err(error)) => {
                failed_polls.note(&error, begun.elapsed(), last.is_some());
                if failed_polls.prove_useless(&error) {
                    let is_gone = error.means() == Meaning::NotFound;
                    return if is_gone { Followed::Gone(last, error) } else { Followed::Blind(last, error) };
                }
                requested_wait = requested_wait_of(&error, failed_polls.failed);
                if error.is_status(429) {
                    events.run(RunEvent::PollLimited { error: error.to_string(), wait: requested_wait });
                } else if failed_polls.failed == 3 {
                    events.run(RunEvent::PollFailing { error: error.to_string() });
                }
            }
            Waited::Elapsed => {}
            Waited::Suspended { extension } => {
                deadline += extension;
                until.extend_to(deadline);
                continue;
            }
        }
        if final_poll {
            return Followed::OutOfTime(last);
        }
        let wait = interval(begun.elapsed(), pace, entropy.fraction()).max(requested_wait);
        let wake = (Instant::now() + wait).min(deadline - reserve);
        match wait_or_notice_suspend(wake, pending::<Infallible>(), context, &still).await {
            Waited::Done(never) => match never {},
            Waited::Elapsed => {}
            Waited::Suspended { extension } => {
                deadline += extension;
                until.extend_to(deadline);
            }
        }
    }
}

/// How long before the deadline the last poll starts: at most half of the time left.
pub(super) fn reserve(deadline: Instant) -> Duration {
    FINAL_POLL.min(deadline.saturating_duration_since(Instant::now()) / 2)
}

/// The wait that the last of this many failed polls asks for.
fn requested_wait_of(error: &HttpError, failed: u32) -> Duration {
    match error.last_fault() {
        Fault::Status(status, service_error) => match service_error.retry_after {
            Some(after) => after.0.min(LONGEST_REQUESTED),
            None if status.as_u16() == 429 => {
                let doubled = 1 << failed.saturating_sub(1).min(16);
                (RATE_LIMIT_WAIT * doubled).min(RATE_LIMIT_CAP)
            }
            None => Duration::ZERO,
        },
        Fault::NoToken(none) => none.retry_after.map_or(Duration::ZERO, |after| after.0.min(LONGEST_REQUESTED)),
        Fault::NotSent(_) | Fault::Lost(_) | Fault::InvalidResponse(_) | Fault::DeadlineExceeded(_) => Duration::ZERO,
    }
}

/// The wait between two polls. Grows with the run's age, with jitter, so that many followers stay far below the
/// account's 5,000 requests a minute.
fn interval(age: Duration, pace: &Pace, fraction: f64) -> Duration {
    let wait = (age / 20).clamp(pace.poll, pace.poll_cap.max(pace.poll));
    wait.mul_f64(0.85 + 0.3 * fraction)
}

/// How a wait ended.
enum Waited<T> {
    Done(T),
    Elapsed,
    /// The machine was suspended. `extension`: by how much the monotonic clock ran on, since suspended time does not
    /// count against a deadline.
    Suspended {
        extension: Duration,
    },
}

/// Does the work, and drops it at `until`, or if the machine turns out to have been suspended: its connections are dead
/// by then, and its time limits used up.
async fn wait_or_notice_suspend<T>(
    until: Instant,
    mut work: impl Future<Output = T> + Unpin,
    context: &RunContext,
    still: &dyn Fn() -> RunEvent,
) -> Waited<T> {
    let RunContext { wall, events, .. } = context;
    loop {
        let (monotonic_before, wall_before) = (Instant::now(), wall.now());
        let slice = until.saturating_duration_since(monotonic_before).min(SLICE);
        events.after_silence(still);
        let done = tokio::select! {
            biased;
            done = &mut work => Some(done),
            () = sleep_until(monotonic_before + slice) => None,
        };
        let monotonic_over = monotonic_before.elapsed().saturating_sub(slice);
        let wall_over =
            Duration::try_from(wall.now().duration_since(wall_before)).unwrap_or_default().saturating_sub(slice);
        // The monotonic clock stops during suspend on some systems and continues on others.
        if monotonic_over > SUSPENDED || wall_over > SUSPENDED {
            events.run(RunEvent::Suspended { duration: wall_over.max(monotonic_over) });
            let extension = if monotonic_over > SUSPENDED { monotonic_over } else { Duration::ZERO };
            return Waited::Suspended { extension };
        }
        match done {
            Some(done) => return Waited::Done(done),
            None if Instant::now() >= until => return Waited::Elapsed,
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use http::StatusCode;
    use jiff::Timestamp;
    use tokio::time::sleep;

    use super::*;
    use crate::context::{Entropy, Wall};
    use crate::events::{Events, Interruption};
    use crate::http::{Net, NetKind, NoToken, RetryAfter, Service, ServiceError, meaning};

    fn error(fault: Fault) -> HttpError {
        HttpError {
            service: "x",
            operation: "y",
            origin: String::new(),
            fault,
            attempts: 1,
            request_id: None,
            exceeded: None,
        }
    }

    fn status(status: u16) -> HttpError {
        let status = StatusCode::from_u16(status).unwrap();
        let means = meaning(Service::Databricks, status, &http::HeaderMap::new(), None, "", false);
        error(Fault::Status(status, ServiceError { means, ..ServiceError::default() }))
    }

    fn retry_after(seconds: u64) -> HttpError {
        let service_error =
            ServiceError { retry_after: Some(RetryAfter(Duration::from_secs(seconds))), ..ServiceError::default() };
        error(Fault::Status(StatusCode::TOO_MANY_REQUESTS, service_error))
    }

    fn no_token(seconds: u64) -> HttpError {
        let (message, advice, tried) = (String::new(), String::new(), Vec::new());
        let retry_after = Some(RetryAfter(Duration::from_secs(seconds)));
        error(Fault::NoToken(NoToken { message, is_retryable: true, net: None, retry_after, advice, tried }))
    }

    fn lost(kind: NetKind) -> HttpError {
        error(Fault::Lost(Net::new(kind, "")))
    }

    /// A run that ends at a given age. Each poll first takes the next fault of a list.
    struct Script {
        begun: Instant,
        ends_at: Duration,
        faults: Vec<Option<HttpError>>,
        forever: bool,
        hang: bool,
        polls: u32,
    }

    impl Probe for Script {
        type State = u64;

        fn run_id(&self) -> RunId {
            RunId::Dbt(1)
        }

        async fn poll(&mut self) -> Result<PollResult<u64>, HttpError> {
            self.polls += 1;
            if self.hang {
                std::future::pending::<()>().await;
            }
            sleep(Duration::from_millis(50)).await;
            let next = match self.faults.as_slice() {
                [] => None,
                [only] if self.forever => only.clone(),
                _ => self.faults.remove(0),
            };
            if let Some(error) = next {
                return Err(error);
            }
            let age = self.begun.elapsed();
            let state = age.as_secs();
            Ok(if age >= self.ends_at { PollResult::Ended(state) } else { PollResult::Active(state) })
        }
    }

    fn script(ends_at: u64, faults: Vec<Option<HttpError>>) -> Script {
        let ends_at = Duration::from_secs(ends_at);
        Script { begun: Instant::now(), ends_at, faults, forever: false, hang: false, polls: 0 }
    }

    fn context() -> RunContext {
        let begun = Instant::now();
        RunContext {
            pace: Pace::default(),
            wall: Wall::of(move || Timestamp::UNIX_EPOCH + begun.elapsed()),
            entropy: Entropy::seeded(7),
            interruption: Interruption::default(),
            events: Events::new(|_| {}),
        }
    }

    async fn run(probe: &mut Script, seconds: u64) -> (Followed<u64>, Duration) {
        let begun = Instant::now();
        let followed = follow(probe, begun + Duration::from_secs(seconds), &context(), |_| {}).await;
        (followed, begun.elapsed())
    }

    fn every_fault() -> Vec<HttpError> {
        let mut all: Vec<HttpError> = [
            NetKind::Name,
            NetKind::Connect,
            NetKind::ConnectTimeout,
            NetKind::Proxy,
            NetKind::Tls,
            NetKind::Broken,
            NetKind::Timeout,
        ]
        .map(lost)
        .into();
        all.extend([400, 401, 403, 404, 405, 408, 409, 422, 429, 500, 502, 503, 504, 307].map(status));
        all.extend([retry_after(7), retry_after(999_999_999), no_token(7), no_token(999_999_999)]);
        all.extend(
            [crate::http::BodyProblem::Empty, crate::http::BodyProblem::Page(String::new())]
                .map(|problem| error(Fault::InvalidResponse(problem))),
        );
        all
    }

    #[tokio::test(start_paused = true)]
    async fn no_single_failed_look_ends_the_waiting_at_any_place() {
        for fault in every_fault() {
            for place in 0..30 {
                let mut faults = vec![None; place];
                faults.push(Some(fault.clone()));
                let mut probe = script(120, faults);
                let (followed, _) = run(&mut probe, 3600).await;
                match followed {
                    Followed::Ended(_) => {}
                    other @ (Followed::OutOfTime(_) | Followed::Gone(..) | Followed::Blind(..)) => {
                        panic!("{fault} at {place}: {other:?}")
                    }
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_holds_under_every_fault_that_never_ends() {
        for fault in every_fault() {
            let proof = [401, 403, 404].iter().any(|status| fault.is_status(*status));
            for seconds in [1, 10, 59, 3600] {
                let mut probe = Script { forever: true, ..script(9_999_999, vec![Some(fault.clone())]) };
                let (followed, took) = run(&mut probe, seconds).await;
                match followed {
                    Followed::OutOfTime(None) => {
                        assert!(took <= Duration::from_secs(seconds), "{fault}: {took:?} of {seconds} s");
                        assert!(took + FINAL_POLL >= Duration::from_secs(seconds), "{fault}: {took:?} of {seconds} s");
                    }
                    Followed::Gone(None, _) | Followed::Blind(None, _) => assert!(proof, "{fault}"),
                    other @ (Followed::Ended(_)
                    | Followed::OutOfTime(Some(_))
                    | Followed::Gone(Some(_), _)
                    | Followed::Blind(Some(_), _)) => {
                        panic!("{fault}: {other:?}")
                    }
                }
            }
        }
        let mut probe = Script { hang: true, ..script(0, Vec::new()) };
        let (followed, took) = run(&mut probe, 100).await;
        assert!(matches!(followed, Followed::OutOfTime(None)) && took == Duration::from_secs(100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_ends_just_before_the_deadline_is_seen_by_the_last_look() {
        let mut probe = script(97, Vec::new());
        probe.faults = vec![None, Some(retry_after(999_999_999))];
        // The absurd `Retry-After` is cut to the time left.
        let (followed, _) = run(&mut probe, 100).await;
        assert!(matches!(followed, Followed::Ended(98)), "{followed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_tokens_may_ask_for_time_too() {
        let mut probe = script(1, vec![Some(no_token(300))]);
        let (followed, took) = run(&mut probe, 3600).await;
        assert!(matches!(followed, Followed::Ended(_)), "{followed:?}");
        assert!(took >= Duration::from_mins(5), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn only_proof_ends_the_waiting_early() {
        let twice = |status: HttpError| vec![Some(status.clone()), Some(status)];
        let late = |status: HttpError| {
            let mut faults = vec![None; 40];
            faults.extend(twice(status));
            faults
        };
        for (faults, ends) in [
            (twice(status(401)), true),
            (twice(status(403)), true),
            (vec![Some(status(401)), Some(status(500)), Some(status(403))], false),
            (vec![Some(status(401)), None, Some(status(401))], false),
            (twice(status(404)), false),
            (late(status(404)), true),
            (vec![Some(error(Fault::NotSent(Net::new(NetKind::Certificate, ""))))], true),
        ] {
            let shown = format!("{faults:?}");
            let (followed, _) = run(&mut script(600, faults), 3600).await;
            assert_eq!(matches!(followed, Followed::Gone(..) | Followed::Blind(..)), ends, "{shown}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn looks_become_rarer_with_age() {
        let mut probe = script(3600, Vec::new());
        let _ = run(&mut probe, 86400).await;
        assert!((240..330).contains(&probe.polls), "{}", probe.polls);
    }

    #[tokio::test(start_paused = true)]
    async fn eight_hours_of_sleep_lead_to_a_fresh_look_and_not_to_a_false_timeout() {
        // The monotonic clock stops, the wall clock jumps.
        let jumped = Rc::new(Cell::new(false));
        let remarks = Rc::new(RefCell::new(Vec::new()));
        let begun = Instant::now();
        let (flag, sink) = (jumped.clone(), remarks.clone());
        let context = RunContext {
            wall: Wall::of(move || {
                let late = begun.elapsed() > Duration::from_secs(400);
                flag.set(late);
                Timestamp::UNIX_EPOCH + begun.elapsed() + Duration::from_secs(if late { 8 * 3600 } else { 0 })
            }),
            events: Events::new(move |event| sink.borrow_mut().push(format!("{event:?}"))),
            pace: Pace { poll: Duration::from_mins(5), poll_cap: Duration::from_mins(5), ..Pace::default() },
            entropy: Entropy::seeded(1),
            interruption: Interruption::default(),
        };
        let mut probe = script(402, Vec::new());
        let followed = follow(&mut probe, begun + Duration::from_hours(1), &context, |_| {}).await;
        assert!(matches!(followed, Followed::Ended(402..=410)), "{followed:?}");
        assert!(jumped.get() && remarks.borrow().iter().any(|remark| remark.contains("Suspended")), "{remarks:?}");
    }

    /// Hangs in its first poll, as after a suspend, and ends in the next one.
    struct HangsOnce(u32);

    impl Probe for HangsOnce {
        type State = u32;

        fn run_id(&self) -> RunId {
            RunId::Dbt(1)
        }

        async fn poll(&mut self) -> Result<PollResult<u32>, HttpError> {
            self.0 += 1;
            if self.0 == 1 {
                pending::<()>().await;
            }
            Ok(PollResult::Ended(self.0))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspend_during_a_poll_leads_to_a_fresh_poll_whatever_the_clocks_do() {
        // Eight hours; the monotonic clock runs on or stops.
        for runs_on in [true, false] {
            let (begun, slept) = (Instant::now(), Rc::new(Cell::new(Duration::ZERO)));
            let suspended = slept.clone();
            let context = RunContext {
                wall: Wall::of(move || Timestamp::UNIX_EPOCH + begun.elapsed() + suspended.get()),
                ..context()
            };
            let deadline = Deadline::after(Duration::from_mins(10));
            let mut probe = HangsOnce(0);
            let (followed, ()) = tokio::join!(follow(&mut probe, deadline.clone(), &context, |_| {}), async {
                sleep(Duration::from_secs(2)).await;
                if runs_on {
                    tokio::time::advance(Duration::from_hours(8)).await;
                } else {
                    slept.set(Duration::from_hours(8));
                }
            });
            assert!(matches!(followed, Followed::Ended(2)), "{followed:?}");
            let left = deadline.left().as_secs();
            assert!((590..=600).contains(&left), "{left} s are left, runs on: {runs_on}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspend_during_the_last_poll_is_no_timeout() {
        let mut probe = HangsOnce(0);
        let deadline = Deadline::after(Duration::from_secs(1));
        let context = context();
        let (followed, ()) = tokio::join!(follow(&mut probe, deadline, &context, |_| {}), async {
            sleep(Duration::from_millis(700)).await;
            tokio::time::advance(Duration::from_hours(8)).await;
        });
        assert!(matches!(followed, Followed::Ended(2)), "{followed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_waits_elsewhere_has_the_deadline_as_it_was_moved() {
        let deadline = Deadline::after(Duration::from_secs(10));
        let (waited, ()) = tokio::join!(deadline.cut(sleep(Duration::from_secs(15))), async {
            deadline.extend_to(Instant::now() + Duration::from_secs(20));
        });
        assert_eq!((waited, deadline.cut(sleep(Duration::from_secs(15))).await), (Some(()), None));
    }

    #[test]
    fn only_rate_limits_and_what_the_service_asks_for_slow_the_polling_down() {
        let waits = |error: HttpError| [1, 2, 5, 6, 99].map(|failed| requested_wait_of(&error, failed).as_secs());
        assert_eq!(waits(status(429)), [10, 20, 160, 300, 300]);
        assert_eq!(waits(status(503)), [0; 5]);
        assert_eq!(waits(retry_after(7)), [7; 5]);
        assert_eq!(waits(retry_after(999_999_999)), [900; 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_poll_has_at_most_half_of_the_time() {
        let reserved = |seconds| reserve(Instant::now() + Duration::from_secs(seconds));
        assert_eq!([1, 4, 3600].map(|seconds| reserved(seconds).as_millis()), [500, 2000, 2000]);
    }

    #[tokio::test(start_paused = true)]
    async fn three_failed_polls_in_a_row_are_told_once() {
        for (failed, told) in [(2, 0), (3, 1), (9, 1)] {
            let events = Rc::new(RefCell::new(Vec::new()));
            let sink = events.clone();
            let context = RunContext {
                events: Events::new(move |event| sink.borrow_mut().push(format!("{event:?}"))),
                ..context()
            };
            let mut probe = script(600, vec![Some(status(503)); failed]);
            let followed = follow(&mut probe, Instant::now() + Duration::from_hours(1), &context, |_| {}).await;
            assert!(matches!(followed, Followed::Ended(_)), "{followed:?}");
            let count = events.borrow().iter().filter(|event| event.contains("PollFailing")).count();
            assert_eq!(count, told, "{failed} failed");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_later_by_the_time_that_the_machine_slept() {
        let context = context();
        let mut probe = script(8 * 3600 + 60, Vec::new());
        let (followed, ()) =
            tokio::join!(follow(&mut probe, Instant::now() + Duration::from_mins(5), &context, |_| {}), async {
                // After the first poll.
                sleep(Duration::from_millis(100)).await;
                tokio::time::advance(Duration::from_hours(8)).await;
            });
        assert!(matches!(followed, Followed::Ended(_)), "{followed:?}");
    }
}
