//! What tests change about a world, beside requests and fault rules.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::sandbox::World;
use crate::sandbox::world::dbt::Scripted;
use crate::sandbox::world::dbt_runs::PlannedOutcome;
use crate::sandbox::world::people;
use crate::sandbox::world::secrets::{Level, Scope, Secret};

impl World {
    /// Makes the first `calls` reads of a Databricks object after a write return the old state. Runs are not affected.
    pub(crate) fn set_stale_reads(&mut self, calls: u32) {
        self.stale_reads = calls;
    }

    /// Sets whether the workspace has the Premium plan; without it there are no ACLs.
    pub(crate) fn set_premium(&mut self, premium: bool) {
        self.premium = premium;
    }

    /// Sets whether `secrets/get` works outside a cluster (it may be refused).
    pub(crate) fn set_secret_reading(&mut self, allowed: bool) {
        self.secret_reading = allowed;
    }

    /// Sets whether the workspace has serverless compute; without it, notebook tasks without a cluster are refused.
    pub(crate) fn set_serverless(&mut self, enabled: bool) {
        self.serverless = enabled;
    }

    /// Adds a caller with a token of its own to the workspace: a user, or a service principal named by its application
    /// id.
    pub(crate) fn add_caller(&mut self, name: &str, token: &str, admin: bool, groups: &[&str]) {
        self.people.add(name, Some(token), admin);
        for group in groups {
            self.people.join(name, group);
        }
        self.make_directory(&format!("/Users/{name}"));
    }

    /// Sets how long reading a new dbt run answers 404, in milliseconds after its trigger.
    pub(crate) fn set_fresh_404(&mut self, milliseconds: i64) {
        self.dbt.fresh_404 = milliseconds;
    }

    /// Renames a dbt job, as another user might. Ignored if the job does not exist.
    pub(crate) fn rename_dbt_job(&mut self, job: i64, name: &str) {
        if let Some(job) = self.dbt.jobs.get_mut(&job) {
            name.clone_into(&mut job.name);
        }
    }

    /// Sets the dbt Cloud rate limit, in requests per minute; 5,000 by default.
    pub(crate) fn set_dbt_rate_limit(&mut self, requests_a_minute: u32) {
        self.dbt.rate = requests_a_minute;
    }

    /// Adds a federation policy: this id token is accepted for the service principal.
    pub(crate) fn add_federation_policy(&mut self, application_id: &str, id_token: &str, admin: bool) {
        self.people.add(application_id, None, admin);
        self.oauth.policies.push((application_id.to_owned(), id_token.to_owned()));
    }

    /// Sets the lifetime of tokens issued from now on, in seconds.
    pub(crate) fn set_token_life(&mut self, seconds: i64) {
        self.oauth.token_lifetime_seconds = seconds;
    }

    /// Expires all issued tokens, as revoking them would.
    pub(crate) fn end_tokens(&mut self) {
        for issued in &mut self.oauth.issued {
            issued.expires = 0;
        }
    }

    /// Adds a scope backed by Azure Key Vault, which this API cannot create with a personal token.
    pub(crate) fn add_key_vault_scope(&mut self, name: &str, keys: &[&str]) {
        let secret = Secret { value: b"from-the-vault".to_vec(), version: 1, updated: self.now.0 };
        let scope = Scope {
            name: name.to_owned(),
            key_vault: true,
            creator: people::ANA.to_owned(),
            secrets: keys.iter().map(|key| ((*key).to_owned(), secret.clone())).collect(),
            acls: BTreeMap::from([(people::ANA.to_owned(), Level::Manage)]),
        };
        self.databricks.scopes.insert(name.to_lowercase(), scope);
    }

    /// Reserves a scope name, so it cannot be created. Which names Databricks reserves is
    /// undocumented.
    pub(crate) fn reserve_scope(&mut self, name: &str) {
        self.databricks.reserved_scopes.push(name.to_lowercase());
    }

    /// Scripts the runs of a dbt job: `case` has fields of the job in `job`, of an ended run in `run` (such as `status`
    /// and `run_steps`), and in `files` the files of each step, by its number. Ignored if the job does not exist.
    pub(crate) fn script_dbt_job(&mut self, job: i64, case: &Value) {
        let members = |name: &str| case[name].as_object().cloned().unwrap_or_default();
        let Some(job) = self.dbt.jobs.get_mut(&job) else { return };
        job.written.extend(members("job"));
        let scripted = Scripted { run: members("run"), files: members("files") };
        job.plan.outcome = match scripted.run.get("status").and_then(Value::as_i64) {
            Some(20) => PlannedOutcome::ModelError,
            Some(30) => PlannedOutcome::CancelledElsewhere,
            Some(_) | None => PlannedOutcome::Success,
        };
        self.dbt.scripted.insert(job.id, scripted);
    }
}
