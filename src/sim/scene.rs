//! One start of a dbt job in a world with faults, from the trigger to the end of the run, and what really happened.

use std::future::ready;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::memory::MemoryTransport;
use crate::context::{Entropy, Wall};
use crate::dbt::{self, End, Overrides};
use crate::events::{Event, Events, Interruption};
use crate::http::{Credential, Deadline, HttpError, Pace, Profile, Writer};
use crate::runs::{DbtRun, Followed, Journal, Key, NotStarted, RunContext, TriggerRequest, Triggered, follow, trigger};
use crate::sandbox::{FaultRule, Seed, SimTime, World};
use crate::secret::Vault;
use crate::ui::run_events::printed;

pub(super) const ACCOUNT: u64 = 51234;
pub(super) const JOB: u64 = 222_222;

/// 2026-11-23T12:00:00Z.
pub(super) const START: SimTime = SimTime(1_795_435_200_000);

pub(super) const DATABRICKS_TOKEN: &str = "dapi_simulation_token_0123456789";
pub(super) const TOKEN: &str = "dbtc_simulation_token_0123456789";

/// The world's behavior and the parameters of a start.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) faults: Vec<String>,
    pub(super) lag: i64,
    pub(super) fresh_404: i64,
    /// A given key; `None`: a generated one.
    pub(super) key: Option<String>,
    pub(super) at_most_once: bool,
    pub(super) seed: u64,
    pub(super) timeout: Duration,
    pub(super) job: u64,
    pub(super) overrides: Overrides,
}

impl Scene {
    pub(super) fn new(faults: Vec<String>) -> Scene {
        Scene {
            faults,
            lag: 0,
            fresh_404: 0,
            key: None,
            at_most_once: false,
            seed: 1,
            timeout: Duration::from_hours(4),
            job: JOB,
            overrides: Overrides::default(),
        }
    }
}

/// The outcome of a start, as reported to the caller.
#[derive(Debug)]
pub(super) enum ReportedOutcome {
    Ended {
        run: u64,
        end: Option<End>,
        adopted: bool,
        /// Reported duplicate runs.
        duplicates: Vec<u64>,
    },
    NotStarted(NotStarted),
    /// Following ended before the run did.
    Left {
        run: u64,
        /// Why following ended early; `None` at the deadline.
        error: Option<HttpError>,
    },
    /// A fault killed the process.
    Killed,
}

/// The runs with the marker that the world has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ActualRuns {
    /// IDs of the runs that did work.
    pub(super) worked: Vec<u64>,
    /// IDs of all runs but resumed ones.
    pub(super) all: Vec<u64>,
    pub(super) posts: u32,
}

/// A new world, meant to be cloned: creating one is the most expensive part of a case.
pub(super) fn world() -> World {
    world_of(START)
}

/// A world whose history ends at this moment.
pub(super) fn world_of(start: SimTime) -> World {
    World::new(Seed { databricks_token: DATABRICKS_TOKEN.to_owned(), dbt_token: TOKEN.to_owned(), start, random: 7 })
}

/// Where processes start one after another.
pub(super) struct SimHost {
    pub(super) transport: MemoryTransport,
    pub(super) context: RunContext,
    pub(super) remarks: Rc<std::cell::RefCell<Vec<String>>>,
    pub(super) writer: Writer,
}

impl SimHost {
    pub(super) fn new(world: &World, scene: &Scene) -> SimHost {
        let mut world = world.clone();
        world.set_listing_lag(scene.lag);
        world.set_fresh_404(scene.fresh_404);
        for fault in &scene.faults {
            world.add_fault(FaultRule::parse(fault).unwrap());
        }
        SimHost::with_seed(world, scene.seed)
    }

    /// On a prepared world.
    pub(super) fn on(world: World) -> SimHost {
        SimHost::with_seed(world, 1)
    }

    fn with_seed(world: World, seed: u64) -> SimHost {
        SimHost::with(MemoryTransport::new(world, START), seed, "dbt", "Token", TOKEN, dbt::parse_error)
    }

    /// With a client for Databricks.
    pub(super) fn for_databricks(transport: MemoryTransport) -> SimHost {
        SimHost::with(transport, 1, "Databricks", "Bearer", DATABRICKS_TOKEN, crate::databricks::parse_error)
    }

    fn with(
        transport: MemoryTransport,
        seed: u64,
        service: &'static str,
        scheme: &'static str,
        token: &str,
        parse_error: fn(&http::Response<bytes::Bytes>) -> crate::http::ServiceError,
    ) -> SimHost {
        let clock = transport.clone();
        let remarks = Rc::new(std::cell::RefCell::new(Vec::new()));
        let sink = remarks.clone();
        let context = RunContext {
            // A long poll interval keeps ten thousand runs affordable; the outcome does not depend on it.
            pace: Pace { poll: Duration::from_secs(40), poll_cap: Duration::from_mins(1), ..Pace::default() },
            wall: Wall::of(move || Timestamp::from_millisecond(clock.now().0).unwrap()),
            entropy: Entropy::seeded(seed),
            events: Events::new(move |event| {
                for event in printed(event) {
                    if let Event::Remark(line) = event {
                        sink.borrow_mut().push(line.to_string());
                    } else if let Event::Warning(text) = event {
                        sink.borrow_mut().push(text);
                    }
                }
            }),
            interruption: Interruption::default(),
        };
        let profile = Profile {
            service,
            origin: "https://sandbox.invalid".to_owned(),
            scheme,
            credential: Credential::Fixed(Vault::default().admit(token.to_owned()).unwrap()),
            known_as: "a token".to_owned(),
            user_agent: "dbtrigger/sim".to_owned(),
            workspace: None,
            parse_error,
        };
        let writer = Writer::new(
            profile,
            Rc::new(transport.clone()),
            context.pace.clone(),
            context.entropy.clone(),
            context.wall.clone(),
            context.events.clone(),
        );
        SimHost { transport, context, remarks, writer }
    }

    /// Runs one process: triggers and follows to the end, unless a fault kills it.
    pub(super) async fn start(&self, scene: &Scene, journal: &Journal, key: &Key) -> ReportedOutcome {
        tokio::select! {
            biased;
            () = self.transport.killed() => ReportedOutcome::Killed,
            reported = self.start_undisturbed(scene, journal, key) => reported,
        }
    }

    async fn start_undisturbed(&self, scene: &Scene, journal: &Journal, key: &Key) -> ReportedOutcome {
        let deadline = Deadline::after(scene.timeout);
        let triggered = match self.trigger(scene, journal, key).await {
            Ok(triggered) => triggered,
            Err(error) => return ReportedOutcome::NotStarted(error),
        };
        let adopted = triggered.adopted;
        let (run, risk) = (triggered.run, Some(triggered.duplicate_risk));
        let mut probe = DbtRun::new(&self.writer, &self.context, ACCOUNT, run, risk).without_steps();
        let followed = follow(&mut probe, deadline, &self.context, |_| {}).await;
        let run = probe.run().id;
        let duplicates = probe.duplicates().iter().map(|(id, _)| *id).collect();
        match followed {
            Followed::Ended(state) => {
                if let Some(intent) = triggered.intent {
                    intent.close();
                }
                ReportedOutcome::Ended { run, end: state.run.ended(), adopted, duplicates }
            }
            Followed::OutOfTime(_) => ReportedOutcome::Left { run, error: None },
            Followed::Gone(_, error) | Followed::Blind(_, error) => ReportedOutcome::Left { run, error: Some(error) },
        }
    }

    /// Triggers without following.
    pub(super) async fn trigger(&self, scene: &Scene, journal: &Journal, key: &Key) -> Result<Triggered, NotStarted> {
        let request = TriggerRequest {
            account: ACCOUNT,
            job: scene.job,
            key: key.clone(),
            look_first: scene.key.is_some(),
            reason: "simulated".to_owned(),
            overrides: scene.overrides.clone(),
            settle: Duration::from_mins(1),
            at_most_once: scene.at_most_once,
            deadline: Deadline::after(scene.timeout),
            resume: String::new(),
        };
        trigger(&request, &self.writer, &self.context, journal, &|_| {}, ready(None)).await
    }

    /// What really happened, read long afterwards.
    pub(super) fn actual_runs(&self, key: &Key) -> ActualRuns {
        let mut world = self.transport.world.borrow_mut();
        world.advance(self.transport.now().plus(6 * 3600 * 1000));
        let marker = key.marker();
        let state = world.inspect();
        let own: Vec<&Value> = state["dbt_runs"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|run| run["retrying_run_id"].is_null())
            .filter(|run| run["cause"].as_str().is_some_and(|cause| cause.to_lowercase().contains(&marker)))
            .collect();
        let id = |run: &&Value| run["id"].as_u64().unwrap();
        ActualRuns {
            worked: own.iter().filter(|run| run["worked"] == true).map(id).collect(),
            all: own.iter().map(id).collect(),
            posts: self.transport.posts.get(),
        }
    }
}

/// The key of a scene.
pub(super) fn key_of(scene: &Scene) -> Key {
    match &scene.key {
        Some(text) => Key::parse(text).unwrap(),
        None => Key::fresh(&Entropy::seeded(scene.seed)),
    }
}

/// Runs a future on a runtime with paused time.
pub(super) fn on_paused_time<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
}
