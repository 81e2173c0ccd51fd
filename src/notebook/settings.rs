//! The settings rendered into a notebook.

use serde_json::{Value, json};

use crate::dbt::{FIELDS, Field};
use crate::origin::Origin;

/// The settings rendered into a notebook: where the key is sent, which key, and what a caller may request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The dbt platform's host.
    pub(crate) host: Origin,
    /// The dbt account's ID.
    pub(crate) account_id: u64,
    /// Secret scope of the dbt key; any text is rendered safely, whether or not Databricks accepts it.
    pub(crate) scope: String,
    /// Name of the secret in that scope.
    pub(crate) key: String,
    /// Overrides that a caller may send; none if empty.
    pub(crate) allow_override: Vec<&'static Field>,
    /// dbt jobs that may be started; any if empty.
    pub(crate) allow_job: Vec<u64>,
}

impl Settings {
    /// The JSON that the notebook reads. Lists are sorted and deduplicated, so that the order of flags makes no
    /// difference.
    pub(super) fn to_json(&self) -> Value {
        let Self { host, account_id, scope, key, allow_override, allow_job } = self;
        let overrides = FIELDS.iter().filter(|field| allow_override.contains(field));
        let mut jobs = allow_job.clone();
        jobs.sort_unstable();
        jobs.dedup();
        json!({
            "dbt_host": host.to_string(),
            "account_id": account_id.to_string(),
            "secret_scope": scope,
            "secret_key": key,
            "override_keys": overrides.map(|field| field.name).collect::<Vec<_>>(),
            "job_ids": jobs,
        })
    }
}

/// The settings in a notebook found in a workspace, read leniently, since another version may have written it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) host: String,
    pub(crate) account_id: String,
    pub(crate) scope: String,
    pub(crate) key: String,
    pub(crate) allow_override: Vec<String>,
    pub(crate) allow_job: Vec<u64>,
}

impl Found {
    /// Returns `None` if one of the four settings for the key's source and destination is missing.
    pub(super) fn from_json(value: &Value) -> Option<Self> {
        let text = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
        let list = |name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        Some(Self {
            host: text("dbt_host")?,
            account_id: text("account_id")?,
            scope: text("secret_scope")?,
            key: text("secret_key")?,
            allow_override: list("override_keys").iter().filter_map(|name| Some(name.as_str()?.to_owned())).collect(),
            allow_job: list("job_ids").iter().filter_map(Value::as_u64).collect(),
        })
    }

    /// Settings that would make the wanted notebook read the key from, or send it to, another place.
    pub(crate) fn credential_changes(&self, want: &Settings) -> Vec<CredentialChange> {
        let Self {
            host,
            account_id,
            scope,
            key,
            allow_override: _, // a change in what a caller may request is an ordinary update
            allow_job: _,
        } = self;
        [
            ("dbt host", host, want.host.to_string()),
            ("dbt account", account_id, want.account_id.to_string()),
            ("secret scope", scope, want.scope.clone()),
            ("secret key", key, want.key.clone()),
        ]
        .into_iter()
        .filter(|(_, there, here)| *there != here)
        .map(|(what, there, here)| CredentialChange { what, from: there.clone(), to: here })
        .collect()
    }
}

/// A setting that differs between the notebook in the workspace and the wanted one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CredentialChange {
    /// `dbt host`, `dbt account`, `secret scope` or `secret key`.
    pub(crate) what: &'static str,
    pub(crate) from: String,
    pub(crate) to: String,
}
