//! Both services as a pure function of time and requests: no clock, no I/O, and only seeded randomness.
//!
//! [`World::answer`] is the only entry point: it authenticates, finds the route, applies the fault rules and runs the
//! handler. A request changes state only in its handler, so a fault strikes exactly before or after the effect. State
//! that changes with time alone (runs) is updated at the start of each answer.

mod answers;
mod artifacts;
mod call;
pub(super) use call::is_form;
mod apply_fault;
mod clusters;
mod databricks;
mod databricks_jobs;
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
mod job_results;
mod job_run_calls;
mod job_run_views;
mod job_runs;
mod job_settings;
mod notebooks;
mod oauth;
mod people;
mod permissions;
mod references;
mod routes;
mod secrets;
mod seed;
mod workspace;
mod workspace_objects;

use std::cell::Cell;
use std::collections::BTreeMap;

use bytes::Bytes;
use http::Request;
use http::header::AUTHORIZATION;
use serde::Deserialize;

use self::answers::ServiceError;
use self::call::Call;
pub use self::routes::Route;
use super::fault::{Faults, Phase};
use super::{FaultRule, Reply, SimTime};

/// What a world is created from.
#[derive(Clone)]
pub struct Seed {
    /// Personal access token of `ana@example.com`, a workspace administrator.
    pub databricks_token: String,
    /// Service token of dbt account 51234.
    pub dbt_token: String,
    /// When the world begins; its history is earlier.
    pub start: SimTime,
    /// Seed for all ids that look random.
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
    databricks: databricks::WorkspaceState,
    job_runs: Vec<job_runs::JobRun>,
    dbt: dbt::Dbt,
    premium: bool,
    serverless: bool,
    secret_reading: bool,
    stale_reads: u32,
    /// Earlier states for stale reads, by the key of what was written.
    stale: BTreeMap<String, databricks::Stale>,
    changed_keys: Vec<String>,
}

/// Response extension that marks a response a fault rule produced or changed.
#[derive(Clone, Copy, Debug)]
pub struct Faulted;

/// A notebook task that is ready to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotebookTask {
    /// The run id of this attempt of the task.
    pub task_run_id: i64,
    /// Path of the notebook in the workspace.
    pub path: String,
    /// The notebook in Databricks' source format.
    pub source: String,
    /// Widget values: base parameters, overridden by job parameters, with references substituted.
    pub parameters: BTreeMap<String, String>,
    /// The identity the task runs as.
    pub identity: String,
}

/// The result of a notebook and what it printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotebookEnd {
    /// Printed text, with secrets replaced.
    pub output: String,
    /// The result.
    pub outcome: NotebookOutcome,
}

/// How a notebook ended.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum NotebookOutcome {
    /// Ended by `dbutils.notebook.exit(result)`.
    Exited {
        /// The value passed to `exit`.
        result: String,
    },
    /// The last cell finished.
    Finished,
    /// A cell raised an exception.
    Failed {
        /// Type and message, shown as `error` by `get-output`.
        error: String,
        /// Traceback, shown as `error_trace`.
        trace: String,
    },
}

/// Why `dbutils.secrets.get` raised. `Display` uses Databricks' words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretRefused {
    /// No such scope or key.
    #[error("Secret does not exist with scope: {scope} and key: {key}")]
    Missing {
        /// The requested scope.
        scope: String,
        /// The requested key.
        key: String,
    },
    /// The run's identity has no READ on the scope.
    #[error("PERMISSION_DENIED: User {identity} does not have READ permission on scope: {scope}")]
    Forbidden {
        /// The requested scope.
        scope: String,
        /// The run's identity.
        identity: String,
    },
}

impl World {
    /// Creates a world with the seeded account, projects and jobs, and an empty workspace.
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
            databricks: databricks::WorkspaceState::default(),
            job_runs: Vec::new(),
            dbt: dbt::Dbt::new(dbt_token),
            premium: true,
            serverless: true,
            secret_reading: true,
            stale_reads: 0,
            stale: BTreeMap::new(),
            changed_keys: Vec::new(),
        };
        world.seed();
        world
    }

    /// Sets the origin of links in responses; `https://sandbox.invalid` by default.
    pub fn set_origin(&mut self, origin: String) {
        self.origin = origin;
    }

    /// Adds a fault rule, which counts calls from now on.
    pub fn add_fault(&mut self, rule: FaultRule) {
        self.faults.add(rule);
    }

    /// Replaces the token that dbt accepts, for example with a personal one.
    pub fn set_dbt_token(&mut self, token: &str) {
        token.clone_into(&mut self.dbt.token);
    }

    /// Returns the route of a request, for logs; `None` if the sandbox does not serve it.
    pub fn route(request: &Request<Bytes>) -> Option<Route> {
        routes::find(request.method(), request.uri().path()).map(|(entry, _)| entry.route())
    }

    /// Returns the operations served, for fault rules: `dbt:jobs/run` and so on. Some appear more than once.
    pub fn operations() -> impl Iterator<Item = &'static str> {
        routes::operations()
    }

    /// Answers one request at the moment `now`. The clock never goes back: an earlier `now` counts as the latest one.
    pub fn answer(&mut self, now: SimTime, request: &Request<Bytes>) -> Reply {
        self.advance(now);
        let (entry, call) = match self.routed(request) {
            Ok(found) => found,
            Err(refused) => return Reply::Answer(refused.answer()),
        };
        match self.faults.next_fault(entry.operation) {
            None => Reply::Answer(self.handle(entry, &call)),
            // A read has no effect, so the fault can use its true response even "before".
            Some((class, Phase::Before)) if entry.writes => {
                mark_faulted(apply_fault::apply_fault(&class, entry, self.now, apply_fault::without_effect(entry)))
            }
            Some((class, Phase::Before | Phase::After)) => {
                let true_response = self.handle(entry, &call);
                mark_faulted(apply_fault::apply_fault(&class, entry, self.now, true_response))
            }
        }
    }

    /// Authenticates a request and finds its route.
    fn routed(&mut self, request: &Request<Bytes>) -> Result<(&'static routes::RouteEntry, Call), ServiceError> {
        let path = request.uri().path();
        if !routes::is_of_a_service(path) {
            return Err(routes::unknown(request));
        }
        let authorization = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let mut caller = String::new();
        if routes::is_dbt(path) {
            self.dbt.authenticate(authorization)?;
            self.dbt.throttle(self.now.0)?;
        } else if !routes::is_open(path) {
            caller = match self.oauth.caller(authorization, self.now.0) {
                Some(issued) => issued?,
                None => self.people.authenticate(authorization)?,
            };
        }
        let (entry, path_params) = routes::find(request.method(), path).ok_or_else(|| routes::unknown(request))?;
        Ok((entry, Call::read(self.now, request, caller, path_params)?))
    }

    /// Updates runs to the moment `now`; [`World::answer`] does so itself.
    pub fn advance(&mut self, now: SimTime) {
        self.now = self.now.max(now);
        self.dbt.advance(self.now.0);
        self.advance_job_runs();
    }

    fn handle(&mut self, entry: &'static routes::RouteEntry, call: &Call) -> answers::HttpResponse {
        let before = (entry.writes && self.stale_reads > 0 && !entry.is_dbt()).then(|| self.databricks.clone());
        let answer = (entry.run)(self, call).unwrap_or_else(ServiceError::answer);
        for key in std::mem::take(&mut self.changed_keys) {
            if let Some(old) = before.clone() {
                let left = Cell::new(self.stale_reads);
                self.stale.insert(key, databricks::Stale { old, left });
            }
        }
        answer
    }
}

fn mark_faulted(mut reply: Reply) -> Reply {
    if let Reply::Answer(answer) = &mut reply {
        answer.extensions_mut().insert(Faulted);
    }
    reply
}

#[cfg(test)]
mod tests;
