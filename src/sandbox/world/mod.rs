//! Both services as a pure function of time and requests: no clock, no I/O, no randomness but a seeded one.
//!
//! [`World::answer`] is the only way in: authenticate, find the route, ask the fault rules, run the handler.
//! A request changes state in its handler and nowhere else, so "before the effect" and "after the effect"
//! mean what they say. What time alone changes (runs) is brought up to date at the start of each answer.

mod answers;
mod call;
mod inspect;
mod routes;
mod spoil;

use bytes::Bytes;
use http::Request;

use self::answers::Refusal;
use self::call::Call;
pub use self::routes::Route;
use super::fault::{Class, Faults, Phase};
use super::{Cut, Reply, Rule, SimTime};

/// What a world is made from.
#[derive(Clone)]
pub struct Seed {
    /// The personal access token of `ana@example.com`, who administers the workspace.
    pub databricks_token: String,
    /// The service token of dbt account 51234.
    pub dbt_token: String,
    /// When the world begins; its history lies before.
    pub start: SimTime,
    /// Decides every id that looks random.
    pub random: u64,
}

/// A Databricks workspace and a dbt Cloud account.
#[derive(Clone)]
pub struct World {
    now: SimTime,
    faults: Faults,
    origin: String,
}

/// A notebook task that waits for somebody to run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotebookTask {
    /// The run id of this attempt of the task.
    pub task_run_id: i64,
    /// Where the notebook lies in the workspace.
    pub path: String,
    /// Its text in Databricks' source format.
    pub source: String,
    /// The widgets: base parameters, job parameters pushed down over them, references substituted.
    pub parameters: std::collections::BTreeMap<String, String>,
    /// Who the task runs as.
    pub identity: String,
}

/// How a notebook ended, with what it printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotebookEnd {
    /// Printed text, secrets already replaced.
    pub output: String,
    /// How it ended.
    pub outcome: NotebookOutcome,
}

/// How a notebook ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotebookOutcome {
    /// `dbutils.notebook.exit(result)`.
    Exited {
        /// The value handed to `exit`.
        result: String,
    },
    /// The last cell ended.
    Finished,
    /// An exception came out of a cell.
    Failed {
        /// Its type and message, as `error` of `get-output`.
        error: String,
        /// Its traceback, as `error_trace`.
        trace: String,
    },
}

/// Why `dbutils.secrets.get` raised. `Display` is in Databricks' words (databricks-api §10.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRefused {
    /// No such scope or key.
    Missing {
        /// The scope asked for.
        scope: String,
        /// The key asked for.
        key: String,
    },
    /// The run's identity has no READ on the scope.
    Forbidden {
        /// The scope asked for.
        scope: String,
        /// Who asked.
        identity: String,
    },
}

impl std::fmt::Display for SecretRefused {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SecretRefused::Missing { scope, key } => {
                write!(out, "Secret does not exist with scope: {scope} and key: {key}")
            }
            SecretRefused::Forbidden { scope, identity } => {
                write!(out, "PERMISSION_DENIED: User {identity} does not have READ permission on scope: {scope}")
            }
        }
    }
}

impl std::error::Error for SecretRefused {}

impl World {
    /// A world with the seeded account, projects and jobs, and an empty workspace.
    pub fn new(seed: Seed) -> World {
        World { now: seed.start, faults: Faults::default(), origin: "https://sandbox.invalid".to_owned() }
    }

    /// The origin that links in answers begin with; `https://sandbox.invalid` until then.
    pub fn set_origin(&mut self, origin: String) {
        self.origin = origin;
    }

    /// Puts a fault rule in force; it counts calls from now on.
    pub fn add_fault(&mut self, rule: Rule) {
        self.faults.add(rule);
    }

    /// A new dbt run shows in lists of runs only after so long (dbt-cloud-api §3.3).
    pub fn set_listing_lag(&mut self, _milliseconds: i64) {}

    /// Reading a new dbt run answers 404 for so long after its trigger (dbt-cloud-api §4.5).
    pub fn set_fresh_404(&mut self, _milliseconds: i64) {}

    /// The first so many reads of a Databricks object after a write still show the old state.
    pub fn set_stale_reads(&mut self, _calls: u32) {}

    /// The route that a request would take, for logs; `None` if the sandbox has none.
    pub fn route(request: &Request<Bytes>) -> Option<Route> {
        routes::find(request.method(), request.uri().path()).map(|(row, _)| row.route())
    }

    /// Answers one request at the moment `now`, which never lies before an earlier one.
    pub fn answer(&mut self, now: SimTime, request: &Request<Bytes>) -> Reply {
        self.advance(now);
        let found = routes::find(request.method(), request.uri().path());
        let row = match found {
            Some((row, _)) => row,
            None => return Reply::Answer(routes::unknown(request)),
        };
        let call = match Call::read(self.now, request, String::new(), found.map(|(_, ids)| ids).unwrap_or_default()) {
            Ok(call) => call,
            Err(refusal) => return Reply::Answer(refusal.answer()),
        };
        let struck = self.faults.strike(row.operation);
        match struck {
            None => Reply::Answer(self.handle(row, &call)),
            Some((class, Phase::Before)) => {
                // Reading has no effect, so its true answer is there to be spoilt even "before".
                let truth = if row.writes { spoil::without_effect(row) } else { self.handle(row, &call) };
                self.spoilt(&class, row, truth)
            }
            Some((class, Phase::After)) => {
                let truth = self.handle(row, &call);
                self.spoilt(&class, row, truth)
            }
        }
    }

    /// Brings runs up to the moment `now`; [`World::answer`] does it by itself.
    pub fn advance(&mut self, now: SimTime) {
        self.now = self.now.max(now);
    }

    /// Hands out the next notebook task that is ready and moves it to RUNNING.
    pub fn next_notebook(&mut self, now: SimTime) -> Option<NotebookTask> {
        self.advance(now);
        None
    }

    /// What `dbutils.secrets.get` gives to a task, under the run's identity and the scope's ACLs.
    ///
    /// # Errors
    /// No such secret, or no right to read it.
    pub fn read_secret(&self, _task: i64, scope: &str, key: &str) -> Result<String, SecretRefused> {
        Err(SecretRefused::Missing { scope: scope.to_owned(), key: key.to_owned() })
    }

    /// `dbutils.jobs.taskValues.set` of a task.
    pub fn set_task_value(&mut self, _task: i64, _key: &str, _value: serde_json::Value) {}

    /// Says how a notebook that [`World::next_notebook`] handed out has ended.
    pub fn notebook_ended(&mut self, now: SimTime, _task: i64, _end: NotebookEnd) {
        self.advance(now);
    }

    /// Whether a task was cancelled or timed out, so that whoever runs its notebook must interrupt it.
    pub fn is_cancelled(&self, _task: i64) -> bool {
        false
    }

    fn handle(&mut self, row: &'static routes::Row, call: &Call) -> answers::Answer {
        (row.run)(self, call).unwrap_or_else(Refusal::answer)
    }

    fn spoilt(&self, class: &Class, row: &'static routes::Row, truth: answers::Answer) -> Reply {
        match class {
            Class::Kill => Reply::Cut(Cut::Kill(None)),
            other => spoil::spoil(other, row, self.now, truth),
        }
    }
}
