//! Both services as a pure function of time and requests: no clock, no I/O, no randomness but a seeded one.
//!
//! [`World::answer`] is the only way in: authenticate, find the route, ask the fault rules, run the handler.
//! A request changes state in its handler and nowhere else, so "before the effect" and "after the effect"
//! mean what they say. What time alone changes (runs) is brought up to date at the start of each answer.

mod answers;
mod artifacts;
mod call;
pub(super) use call::is_form;
mod clusters;
mod databricks;
mod dbt;
mod dbt_calls;
mod dbt_job_writes;
mod dbt_jobs;
mod dbt_projects;
mod dbt_run_views;
mod dbt_runs;
mod ids;
mod inspect;
mod job_checks;
mod job_repairs;
mod job_run_calls;
mod job_run_views;
mod job_runs;
mod job_settings;
mod job_verdicts;
mod jobs;
mod notebooks;
mod oauth;
mod people;
mod permissions;
mod references;
mod routes;
mod secrets;
mod seed;
mod spoil;
mod workspace;
mod workspace_objects;

use std::cell::Cell;
use std::collections::BTreeMap;

use bytes::Bytes;
use http::Request;
use http::header::AUTHORIZATION;

use self::answers::Refusal;
use self::call::Call;
pub use self::routes::Route;
use super::fault::{Faults, Phase};
use super::{Reply, Rule, SimTime};

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
    start: SimTime,
    now: SimTime,
    origin: String,
    faults: Faults,
    ids: ids::Ids,
    people: people::People,
    oauth: oauth::OAuth,
    databricks: databricks::Databricks,
    job_runs: Vec<job_runs::JobRun>,
    dbt: dbt::Dbt,
    premium: bool,
    serverless: bool,
    secret_reading: bool,
    stale_reads: u32,
    /// Old states, by what was written.
    stale: BTreeMap<String, databricks::Stale>,
    touched: Vec<String>,
}

/// Marks an answer that a fault rule had a hand in: no service says that.
#[derive(Clone, Copy, Debug)]
pub struct Spoilt;

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
    pub parameters: BTreeMap<String, String>,
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
        let Seed { databricks_token, dbt_token, start, random } = seed;
        let mut world = World {
            start,
            now: start,
            origin: "https://sandbox.invalid".to_owned(),
            faults: Faults::default(),
            ids: ids::Ids::new(random),
            people: people::People::seeded(&databricks_token),
            oauth: oauth::OAuth::new(),
            databricks: databricks::Databricks::default(),
            job_runs: Vec::new(),
            dbt: dbt::Dbt::new(dbt_token),
            premium: true,
            serverless: true,
            secret_reading: true,
            stale_reads: 0,
            stale: BTreeMap::new(),
            touched: Vec::new(),
        };
        world.seed();
        world
    }

    /// The origin that links in answers begin with; `https://sandbox.invalid` until then.
    pub fn set_origin(&mut self, origin: String) {
        self.origin = origin;
    }

    /// Puts a fault rule in force; it counts calls from now on.
    pub fn add_fault(&mut self, rule: Rule) {
        self.faults.add(rule);
    }

    /// The first so many reads of a Databricks object after a write still show the old state. Runs are not
    /// concerned.
    pub fn set_stale_reads(&mut self, calls: u32) {
        self.stale_reads = calls;
    }

    /// A workspace without the Premium plan has no ACLs (databricks-api §3.4, §7).
    pub fn set_premium(&mut self, premium: bool) {
        self.premium = premium;
    }

    /// The token that dbt takes from now on, such as a personal one.
    pub fn set_dbt_token(&mut self, token: &str) {
        token.clone_into(&mut self.dbt.token);
    }

    /// Whether `secrets/get` may be called from outside a cluster (databricks-api §3.1: it may be refused).
    pub fn set_secret_reading(&mut self, allowed: bool) {
        self.secret_reading = allowed;
    }

    /// A workspace without serverless compute refuses notebook tasks that name no cluster.
    pub fn set_serverless(&mut self, enabled: bool) {
        self.serverless = enabled;
    }

    /// Adds somebody to the workspace who calls with a token of their own: a user or, by its application id,
    /// a service principal.
    pub fn add_caller(&mut self, name: &str, token: &str, admin: bool, groups: &[&str]) {
        self.people.add(name, Some(token), admin);
        for group in groups {
            self.people.join(name, group);
        }
        self.make_directory(&format!("/Users/{name}"));
    }

    /// The route that a request would take, for logs; `None` if the sandbox has none.
    pub fn route(request: &Request<Bytes>) -> Option<Route> {
        routes::find(request.method(), request.uri().path()).map(|(row, _)| row.route())
    }

    /// The operations that are served, for fault rules: `dbt:jobs/run` and so on. Some are named more than once.
    pub fn operations() -> impl Iterator<Item = &'static str> {
        routes::operations()
    }

    /// Answers one request at the moment `now`; a moment before an earlier one counts as that earlier one.
    pub fn answer(&mut self, now: SimTime, request: &Request<Bytes>) -> Reply {
        self.advance(now);
        let path = request.uri().path();
        if !routes::is_of_a_service(path) {
            return Reply::Answer(routes::unknown(request));
        }
        let authorization = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let caller = if routes::is_open(path) {
            Ok(String::new())
        } else if routes::is_dbt(path) {
            let allowed = self.dbt.authenticate(authorization).and_then(|()| self.dbt.throttle(self.now.0));
            allowed.map(|()| String::new()).map_err(Refusal::answer)
        } else {
            self.oauth
                .caller(authorization, self.now.0)
                .unwrap_or_else(|| self.people.authenticate(authorization))
                .map_err(|refused| *refused)
        };
        let caller = match caller {
            Ok(caller) => caller,
            Err(refused) => return Reply::Answer(refused),
        };
        let Some((row, places)) = routes::find(request.method(), path) else {
            return Reply::Answer(routes::unknown(request));
        };
        let call = match Call::read(self.now, request, caller, places) {
            Ok(call) => call,
            Err(refused) => return Reply::Answer(refused.answer()),
        };
        match self.faults.strike(row.operation) {
            None => Reply::Answer(self.handle(row, &call)),
            // Reading has no effect, so its true answer is there to be spoilt even "before".
            Some((class, Phase::Before)) if row.writes => {
                spoilt(spoil::spoil(&class, row, self.now, spoil::without_effect(row)))
            }
            Some((class, Phase::Before | Phase::After)) => {
                let truth = self.handle(row, &call);
                spoilt(spoil::spoil(&class, row, self.now, truth))
            }
        }
    }

    /// Brings runs up to the moment `now`; [`World::answer`] does it by itself.
    pub fn advance(&mut self, now: SimTime) {
        self.now = self.now.max(now);
        self.dbt.advance(self.now.0);
        self.advance_job_runs();
    }

    fn handle(&mut self, row: &'static routes::Row, call: &Call) -> answers::Answer {
        let before = (row.writes && self.stale_reads > 0 && !row.is_dbt()).then(|| self.databricks.clone());
        let answer = (row.run)(self, call).unwrap_or_else(Refusal::answer);
        for key in std::mem::take(&mut self.touched) {
            if let Some(old) = before.clone() {
                let left = Cell::new(self.stale_reads);
                self.stale.insert(key, databricks::Stale { old, left });
            }
        }
        answer
    }
}

fn spoilt(mut reply: Reply) -> Reply {
    if let Reply::Answer(answer) = &mut reply {
        answer.extensions_mut().insert(Spoilt);
    }
    reply
}

#[cfg(test)]
mod tests;
