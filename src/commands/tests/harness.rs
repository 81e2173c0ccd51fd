//! Test harness: runs whole commands against the in-memory sandbox, with paused time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use clap::FromArgMatches as _;
use http::{Request, Response};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::commands::{CommandContext, InterruptReport, Prompts, Wire};
use crate::context::{Context, Entropy, Environment, Wall};
use crate::credentials::AccountFlags;
use crate::events::{Event, Events, Interruption, RunEvent};
use crate::failure::{Code, Ended, Report, RunOutcome};
use crate::http::{Lane, Limits, Net, NetKind, Pace, Pending, Transport, WireError};
use crate::keyring::Keyring;
use crate::line::plain;
use crate::sandbox::{NotebookEnd, NotebookOutcome, NotebookTask, Reply, Seed, SimTime, World};
use crate::secret::Vault;
use crate::sim::arrive;
use crate::ui::run_events::printed;

pub(crate) const DATABRICKS_TOKEN: &str = "dapi-rehearsal-0123456789";
pub(crate) const DBT_TOKEN: &str = "dbtc_rehearsal-0123456789";
pub(crate) const ANA: &str = "ana@example.com";
pub(crate) const ACCOUNT: u64 = 51234;

const START: i64 = 1_760_000_000_000;

/// A fault at one request, counted over both services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InjectedFault {
    /// The program is killed before the request takes effect.
    KilledBefore,
    /// The program is killed after the effect, before the response.
    KilledAfter,
    /// The connection breaks before the effect.
    LostBefore,
    /// The effect happens, the response is lost.
    LostAfter,
    /// The effect happens, the response is a 500.
    ErrorAfter,
    /// 503 without an effect.
    Unavailable,
    /// This request never gets a response.
    Hang,
    /// No request gets a response from here on.
    HangFromHere,
}

impl InjectedFault {
    /// Faults after which the same command is run again.
    pub(crate) const REPEATABLE: [InjectedFault; 6] = [
        InjectedFault::KilledBefore,
        InjectedFault::KilledAfter,
        InjectedFault::LostBefore,
        InjectedFault::LostAfter,
        InjectedFault::ErrorAfter,
        InjectedFault::Unavailable,
    ];
}

/// A response in place of the sandbox's.
#[derive(Clone)]
struct Scripted {
    /// Index of the first request it applies to.
    from: usize,
    /// The operations it applies to.
    of: Rc<dyn Fn(&str) -> bool>,
    status: u16,
    body: String,
}

/// An action on the sandbox.
type Act = Rc<dyn Fn(&Harness)>;

/// Alters the body of a successful response, given the operation.
type AlterResponse = Rc<dyn Fn(&str, &mut Value)>;

/// A request that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) operation: &'static str,
    pub(crate) writes: bool,
    pub(crate) body: String,
    /// Time since the sandbox was created.
    pub(crate) at: Duration,
    /// Workspace ID in the headers.
    pub(crate) workspace: Option<String>,
}

/// The sandbox and a log of all requests.
#[derive(Clone)]
pub(crate) struct Harness(Rc<Inner>);

struct Inner {
    world: RefCell<World>,
    log: RefCell<Vec<Seen>>,
    latency: Cell<Duration>,
    fault: Cell<Option<(usize, InjectedFault)>>,
    /// Operation and call number at which a signal is sent.
    signal: Cell<Option<(&'static str, usize)>>,
    interruption: RefCell<Interruption>,
    /// Responses in place of the sandbox's.
    scripted: RefCell<Vec<Scripted>>,
    /// Header that a proxy removes from each response.
    dropped: Cell<Option<&'static str>>,
    /// Operations in the order of their effects: parallel requests may be reordered.
    effects: RefCell<Vec<&'static str>>,
    /// Action of another client before the effect with this index.
    meanwhile: RefCell<Option<(usize, Act)>>,
    /// Side effect of the service at each call of this operation.
    side_effect: RefCell<Option<(&'static str, Act)>>,
    /// Alters responses.
    alteration: RefCell<Option<AlterResponse>>,
    killed: tokio::sync::Notify,
    begun: Instant,
    environment: RefCell<Environment>,
    /// Number of commands run, which seeds each one differently.
    commands: Cell<u64>,
}

/// How a command ended, for assertions.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// 0 or the exit code of the failure.
    pub(crate) exit: u8,
    pub(crate) code: Option<Code>,
    /// The failure as JSON.
    pub(crate) failure: String,
    pub(crate) text: String,
    pub(crate) data: Value,
    /// The runs that CI outputs are rendered from.
    pub(crate) runs: Vec<RunOutcome>,
    pub(crate) events: Vec<Event>,
    pub(crate) took: Duration,
    /// Longest time without an output line.
    pub(crate) silence: Duration,
}

impl Harness {
    /// A new sandbox, and an environment that points to it.
    pub(crate) fn new() -> Harness {
        let seed = Seed {
            databricks_token: DATABRICKS_TOKEN.to_owned(),
            dbt_token: DBT_TOKEN.to_owned(),
            start: SimTime(START),
            random: 7,
        };
        let account = ACCOUNT.to_string();
        let environment = Environment::of([
            ("DATABRICKS_HOST", "http://127.0.0.1:1"),
            ("DATABRICKS_TOKEN", DATABRICKS_TOKEN),
            ("DBT_CLOUD_HOST", "http://127.0.0.1:1"),
            ("DBT_CLOUD_ACCOUNT_ID", account.as_str()),
            ("DBT_CLOUD_TOKEN", DBT_TOKEN),
        ]);
        Harness(Rc::new(Inner {
            world: RefCell::new(World::new(seed)),
            log: RefCell::default(),
            // The sandbox's clock has milliseconds: without latency, two writes would have the same time.
            latency: Cell::new(Duration::from_millis(10)),
            fault: Cell::default(),
            signal: Cell::default(),
            interruption: RefCell::default(),
            scripted: RefCell::default(),
            dropped: Cell::default(),
            effects: RefCell::default(),
            meanwhile: RefCell::default(),
            side_effect: RefCell::default(),
            alteration: RefCell::default(),
            killed: tokio::sync::Notify::new(),
            begun: Instant::now(),
            environment: RefCell::new(environment),
            commands: Cell::new(0),
        }))
    }

    /// An independent copy of the sandbox.
    pub(crate) fn copy(&self) -> Harness {
        let Inner {
            world,
            log: _,
            latency,
            fault: _,
            signal: _,
            interruption: _,
            scripted,
            dropped,
            effects: _,
            meanwhile: _,
            side_effect: _,
            alteration: _,
            killed: _,
            begun,
            environment,
            commands,
        } = &*self.0;
        Harness(Rc::new(Inner {
            world: RefCell::new(world.borrow().clone()),
            log: RefCell::default(),
            latency: latency.clone(),
            fault: Cell::default(),
            signal: Cell::default(),
            interruption: RefCell::default(),
            scripted: scripted.clone(),
            dropped: dropped.clone(),
            effects: RefCell::default(),
            meanwhile: RefCell::default(),
            side_effect: RefCell::default(),
            alteration: RefCell::default(),
            killed: tokio::sync::Notify::new(),
            begun: *begun,
            environment: environment.clone(),
            commands: commands.clone(),
        }))
    }

    /// Time since the sandbox was created.
    pub(crate) fn age(&self) -> Duration {
        self.0.begun.elapsed()
    }

    /// A copy with its clock set back to this age, valid if nothing was done since.
    pub(crate) fn copy_of_age(&self, age: Duration) -> Harness {
        let mut copy = self.copy();
        if let Some(inner) = Rc::get_mut(&mut copy.0) {
            inner.begun = Instant::now() - age;
        }
        copy
    }

    pub(crate) fn world<R>(&self, look: impl FnOnce(&mut World) -> R) -> R {
        look(&mut self.0.world.borrow_mut())
    }

    /// Sends a request to either service as another client; it must succeed.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        let dbt = path.starts_with("/api/v2/");
        let authorization = if dbt { format!("Token {DBT_TOKEN}") } else { format!("Bearer {DATABRICKS_TOKEN}") };
        let request =
            Request::post(path).header("authorization", authorization).body(Bytes::from(body.to_string())).unwrap();
        match self.world(|world| world.answer(now(self.0.begun), &request)) {
            Reply::Answer(answer) if answer.status().is_success() => serde_json::from_slice(answer.body()).unwrap(),
            other @ (Reply::Answer(_) | Reply::Broken(..)) => panic!("{path}: {other:?}"),
        }
    }

    /// Waits until a notebook starts, and ends it with this outcome.
    pub(crate) async fn finish_notebook(&self, outcome: NotebookOutcome) -> NotebookTask {
        loop {
            let task = self.world(|world| world.next_notebook(now(self.0.begun)));
            if let Some(task) = task {
                let end = NotebookEnd { output: String::new(), outcome };
                self.world(|world| world.notebook_ended(now(self.0.begun), task.task_run_id, end));
                return task;
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// Sets a variable for later commands; empty means unset.
    pub(crate) fn set(&self, name: &str, value: &str) {
        let changed = self.0.environment.borrow().with([(name.to_owned(), value.to_owned())]);
        *self.0.environment.borrow_mut() = changed;
    }

    /// Sets the keyring for later commands.
    pub(crate) fn use_keyring(&self, keyring: &Keyring) {
        let changed = self.0.environment.borrow().with_keyring(keyring.clone());
        *self.0.environment.borrow_mut() = changed;
    }

    /// Selects a profile, like `-p`.
    pub(crate) fn choose_profile(&self, name: &str) {
        let changed = self.0.environment.borrow().with_profile(Some(name));
        *self.0.environment.borrow_mut() = changed;
    }

    /// Sets the time each request takes.
    pub(crate) fn set_latency(&self, latency: Duration) {
        self.0.latency.set(latency);
    }

    /// Injects a fault at one request, counted from 0 and from now.
    pub(crate) fn inject_fault(&self, index: usize, fault: InjectedFault) {
        self.0.fault.set(Some((self.0.log.borrow().len() + index, fault)));
    }

    /// Another client acts before the effect with this number, counted from 0 and from now.
    pub(crate) fn meanwhile(&self, index: usize, act: impl Fn(&Harness) + 'static) {
        self.0.meanwhile.replace(Some((self.0.effects.borrow().len() + index, Rc::new(act))));
    }

    /// The operations that took effect since the last call, in order.
    pub(crate) fn take_effects(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.effects.borrow_mut())
    }

    /// The service also does this after each call of the operation.
    pub(crate) fn side_effect(&self, operation: &'static str, act: impl Fn(&Harness) + 'static) {
        self.0.side_effect.replace(Some((operation, Rc::new(act))));
    }

    /// Alters successful JSON responses from now on.
    pub(crate) fn alter_responses(&self, alter: impl Fn(&str, &mut Value) + 'static) {
        self.0.alteration.replace(Some(Rc::new(alter)));
    }

    /// Sends SIGTERM at this call of the operation, counted from 1 and from now.
    pub(crate) fn interrupt_at(&self, operation: &'static str, call: usize) {
        self.0.signal.set(Some((operation, call)));
    }

    /// From now on the operation has no effect and gets this response.
    pub(crate) fn answer_with(&self, operation: &'static str, status: u16, body: &str) {
        self.answer_from(0, move |of| of == operation, status, body);
    }

    /// Same, for all these operations, after this many more requests.
    pub(crate) fn answer_from(&self, after: usize, of: impl Fn(&str) -> bool + 'static, status: u16, body: &str) {
        // 0 means always, even if the log is taken in between.
        let from = if after == 0 { 0 } else { self.0.log.borrow().len() + after };
        let scripted = Scripted { from, of: Rc::new(of), status, body: body.to_owned() };
        self.0.scripted.borrow_mut().push(scripted);
    }

    /// Removes this header from all responses.
    pub(crate) fn drop_header(&self, name: &'static str) {
        self.0.dropped.set(Some(name));
    }

    /// The requests since the last call.
    pub(crate) fn take_log(&self) -> Vec<Seen> {
        std::mem::take(&mut self.0.log.borrow_mut())
    }

    /// The writing operations since the last call.
    pub(crate) fn take_writes(&self) -> Vec<&'static str> {
        self.take_log().into_iter().filter(|seen| seen.writes).map(|seen| seen.operation).collect()
    }

    /// The context of a command in this sandbox.
    pub(crate) fn ctx(&self, account: AccountFlags, events: Events) -> CommandContext {
        let clock = self.0.begun;
        let interruption = Interruption::default();
        self.0.interruption.replace(interruption.clone());
        self.0.commands.update(|begun| begun + 1);
        CommandContext {
            context: Context {
                environment: self.0.environment.borrow().clone(),
                stdin_is_terminal: false,
                stdout_is_terminal: false,
                stderr_is_terminal: false,
                wall: Wall::of(move || Timestamp::from_millisecond(now(clock).0).unwrap()),
                zone: TimeZone::UTC,
                entropy: Entropy::seeded(self.0.commands.get()),
                program: None,
            },
            vault: Vault::default(),
            events,
            json: false,
            account,
            ca_bundle: None,
            pace: Pace::default(),
            interrupt_report: InterruptReport::default(),
            results: crate::commands::run::Results::default(),
            interruption,
            wire: Wire::Memory(Rc::new(self.clone())),
            prompts: Prompts::default(),
        }
    }

    /// Runs a command with these arguments. `None`: it was killed.
    pub(crate) async fn run<A: clap::Args>(
        &self,
        command: impl AsyncFnOnce(A, &CommandContext) -> Ended<Box<dyn Report>>,
        line: &[&str],
    ) -> Option<Outcome> {
        let words = std::iter::once("dbtrigger").chain(line.iter().copied());
        let root = A::augment_args(Globals::command_for_tests());
        let matches = root.try_get_matches_from(words).unwrap_or_else(|error| panic!("{error}"));
        let args = A::from_arg_matches(&matches).unwrap();
        let Globals { account } = Globals::from_arg_matches(&matches).unwrap();
        let events: Rc<RefCell<Vec<Event>>> = Rc::default();
        let sink = events.clone();
        let begun = Instant::now();
        let silence = Rc::new(Cell::new((begun, Duration::ZERO)));
        let (heard, hear) = (silence.clone(), move |silence: &Cell<(Instant, Duration)>| {
            let (last, longest) = silence.get();
            silence.set((Instant::now(), longest.max(last.elapsed())));
        });
        let ctx = self.ctx(
            account,
            Events::new(move |event| {
                if is_line(&event) {
                    hear(&heard);
                }
                sink.borrow_mut().push(event);
            }),
        );
        let ended = tokio::select! {
            biased;
            () = self.0.killed.notified() => return None,
            ended = command(args, &ctx) => ended,
        };
        let Ended { report, failure } = ended;
        let filter = ctx.vault.filter();
        let outcome = Outcome {
            exit: failure.as_ref().map_or(0, |failure| failure.code.exit()),
            code: failure.as_ref().map(|failure| failure.code),
            failure: failure.as_ref().map(|failure| failure.json().to_string()).unwrap_or_default(),
            text: report.as_ref().map(|report| plain(&report.text())).unwrap_or_default(),
            data: report.as_ref().map(|report| (*report.json()).clone()).unwrap_or_default(),
            runs: report.as_ref().map(|report| report.runs()).unwrap_or_default(),
            events: events.borrow().clone(),
            took: begun.elapsed(),
            silence: {
                hear(&silence);
                silence.get().1
            },
        };
        // Output contains no secret, even before the filter.
        let said = format!("{outcome:?}");
        assert_eq!(filter.mask(&said), said);
        Some(outcome)
    }
}

impl Outcome {
    /// All output except the result.
    pub(crate) fn said(&self) -> String {
        let said = self.events.iter().cloned().flat_map(printed).filter_map(|event| match event {
            Event::Remark(line) | Event::Asked(line) | Event::Progress(line) => Some(line.to_string()),
            Event::Warning(text) | Event::Waiting(text) => Some(text),
            Event::ActivityState { what: _, state: _ }
            | Event::ActivityEnded { what: _ }
            | Event::Document(_)
            | Event::Annotation { level: _, title: _, message: _ }
            | Event::Trace { line: _, bodies: _ }
            | Event::Run(_)
            | Event::OfJob { job: _, event: _ } => None,
        });
        said.collect::<Vec<_>>().join("\n")
    }

    /// The events of runs, whichever job they belong to.
    pub(crate) fn run_events(&self) -> Vec<&RunEvent> {
        fn run_event(event: &Event) -> Option<&RunEvent> {
            if let Event::OfJob { job: _, event } = event {
                return run_event(event);
            }
            if let Event::Run(event) = event { Some(event) } else { None }
        }
        self.events.iter().filter_map(run_event).collect()
    }
}

/// Whether the event prints a line.
fn is_line(event: &Event) -> bool {
    match event {
        Event::Remark(_)
        | Event::Asked(_)
        | Event::Warning(_)
        | Event::Waiting(_)
        | Event::Progress(_)
        | Event::Run(_)
        | Event::OfJob { job: _, event: _ } => true,
        Event::ActivityState { what: _, state: _ }
        | Event::ActivityEnded { what: _ }
        | Event::Document(_)
        | Event::Annotation { level: _, title: _, message: _ }
        | Event::Trace { line: _, bodies: _ } => false,
    }
}

/// An ID in a JSON document.
pub(crate) fn id(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no id: {value}")).to_owned()
}

/// Same, as a number.
pub(crate) fn number(value: &Value) -> u64 {
    id(value).parse().unwrap()
}

/// The global flags that commands read.
#[derive(clap::Parser)]
struct Globals {
    #[command(flatten)]
    account: AccountFlags,
}

impl Globals {
    fn command_for_tests() -> clap::Command {
        <Globals as clap::CommandFactory>::command()
    }
}

fn now(begun: Instant) -> SimTime {
    SimTime(START + i64::try_from(begun.elapsed().as_millis()).unwrap())
}

impl Transport for Harness {
    fn send(&self, request: Request<Bytes>, limits: Limits, _lane: Lane) -> Pending<'_> {
        Box::pin(async move {
            let inner = &*self.0;
            let route = World::route(&request);
            let index = inner.log.borrow().len();
            inner.log.borrow_mut().push(Seen {
                operation: route.map_or("unknown", |route| route.operation),
                writes: route.is_some_and(|route| route.writes),
                body: String::from_utf8_lossy(request.body()).into_owned(),
                at: inner.begun.elapsed(),
                workspace: request
                    .headers()
                    .get("x-databricks-workspace-id")
                    .map(|id| id.to_str().unwrap_or_default().to_owned()),
            });
            inner.count_to_signal(route.map_or("unknown", |route| route.operation));
            sleep(inner.latency.get() / 2).await;
            let strikes =
                |at: usize, fault: InjectedFault| at == index || (at < index && fault == InjectedFault::HangFromHere);
            let fault = inner.fault.get().filter(|(at, fault)| strikes(*at, *fault)).map(|(_, fault)| fault);
            if fault.is_some_and(|fault| fault != InjectedFault::HangFromHere) {
                inner.fault.set(None);
            }
            let lost = || Err(WireError::Lost(Net::new(NetKind::Broken, "reset")));
            match fault {
                Some(InjectedFault::KilledBefore) => return self.killed().await,
                Some(InjectedFault::LostBefore) => return lost(),
                Some(InjectedFault::Unavailable) => return Ok(status(503)),
                Some(InjectedFault::Hang | InjectedFault::HangFromHere) => return std::future::pending().await,
                None | Some(InjectedFault::KilledAfter | InjectedFault::LostAfter | InjectedFault::ErrorAfter) => {}
            }
            let operation = route.map_or("unknown", |route| route.operation);
            let is_it = |scripted: &&Scripted| index >= scripted.from && (scripted.of)(operation);
            let scripted = inner.scripted.borrow().iter().find(is_it).cloned();
            if let Some(Scripted { from: _, of: _, status, body }) = scripted {
                sleep(inner.latency.get() / 2).await;
                return Ok(Response::builder().status(status).body(Bytes::from(body)).unwrap());
            }
            let place = inner.effects.borrow().len();
            inner.effects.borrow_mut().push(operation);
            let meanwhile = inner.meanwhile.borrow().clone().filter(|(at, _)| *at == place);
            if let Some((_, act)) = meanwhile {
                act(self);
            }
            let mut reply = inner.world.borrow_mut().answer(now(inner.begun), &request);
            let side_effect = inner.side_effect.borrow().clone().filter(|(at, _)| *at == operation);
            if let Some((_, act)) = side_effect {
                act(self);
            }
            let alteration = inner.alteration.borrow().clone();
            if let (Some(alter), Reply::Answer(answer)) = (alteration, &mut reply)
                && answer.status().is_success()
                && let Ok(mut body) = serde_json::from_slice(answer.body())
            {
                alter(operation, &mut body);
                *answer.body_mut() = Bytes::from(body.to_string());
            }
            match fault {
                Some(InjectedFault::KilledAfter) => return self.killed().await,
                Some(InjectedFault::LostAfter) => return lost(),
                Some(InjectedFault::ErrorAfter) => return Ok(status(500)),
                None
                | Some(
                    InjectedFault::KilledBefore
                    | InjectedFault::LostBefore
                    | InjectedFault::Unavailable
                    | InjectedFault::Hang
                    | InjectedFault::HangFromHere,
                ) => {}
            }
            sleep(inner.latency.get() / 2).await;
            let mut answer = arrive(reply, limits, &inner.killed).await?;
            if let Some(name) = inner.dropped.get() {
                answer.headers_mut().remove(name);
            }
            Ok(answer)
        })
    }
}

impl Inner {
    fn count_to_signal(&self, operation: &str) {
        match self.signal.get() {
            Some((at, 1)) if at == operation => {
                self.signal.set(None);
                assert!(self.interruption.borrow().pass_on(15), "nobody takes the signal upon itself");
            }
            Some((at, more)) if at == operation => self.signal.set(Some((at, more - 1))),
            Some(_) | None => {}
        }
    }
}

impl Harness {
    async fn killed(&self) -> Result<Response<Bytes>, WireError> {
        self.0.killed.notify_one();
        std::future::pending().await
    }
}

fn status(status: u16) -> Response<Bytes> {
    let mut answer =
        Response::new(Bytes::from_static(br#"{"error_code":"TEMPORARILY_UNAVAILABLE","message":"later"}"#));
    *answer.status_mut() = http::StatusCode::from_u16(status).unwrap();
    answer
}
