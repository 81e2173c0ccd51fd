//! The whole state as JSON, for tests.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{World, dbt_run_views, job_run_views, workspace};

impl World {
    /// Returns the whole state, with secrets as SHA-256 only. Runs are as of the last request or [`World::advance`].
    pub fn inspect(&self) -> Value {
        let scopes: Map<String, Value> = self
            .databricks
            .scopes
            .values()
            .map(|scope| {
                let secrets: Map<String, Value> = scope
                    .secrets
                    .iter()
                    .map(|(key, secret)| {
                        (key.clone(), json!({ "sha256": hex(&secret.value), "version": secret.version }))
                    })
                    .collect();
                let acls: Map<String, Value> =
                    scope.acls.iter().map(|(principal, level)| (principal.clone(), json!(level.name()))).collect();
                let backend = if scope.key_vault { "AZURE_KEYVAULT" } else { "DATABRICKS" };
                let row = json!({ "backend": backend, "creator": scope.creator, "secrets": secrets, "acls": acls });
                (scope.name.clone(), row)
            })
            .collect();
        let jobs: Vec<Value> = self
            .databricks
            .jobs
            .iter()
            .map(|(id, job)| json!({ "job_id": id, "creator": job.creator, "settings": job.settings }))
            .collect();
        let grants: Map<String, Value> = self
            .databricks
            .grants
            .iter()
            .map(|(object, grants)| {
                let rows: Map<String, Value> =
                    grants.iter().map(|grant| (grant.principal.clone(), json!(grant.level))).collect();
                (object.clone(), Value::Object(rows))
            })
            .collect();
        json!({
            "scopes": scopes,
            "workspace": workspace::inspected(self),
            "jobs": jobs,
            "grants": grants,
            "job_runs": job_run_views::inspected(self),
            "dbt_runs": dbt_run_views::inspected(self),
        })
    }
}

fn hex(value: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for byte in Sha256::digest(value) {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
