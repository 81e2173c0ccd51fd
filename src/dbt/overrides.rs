//! What a run does differently from its job's own settings: sent with the trigger, compared with what a run carries.

use serde::Serialize;
use serde_json::Value;

use super::runs::Trigger;

/// What a trigger changes against the job's own settings. Absent fields are not sent: empty texts are refused (§3.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Overrides {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) git_sha: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) git_branch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) schema_override: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dbt_version_override: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) threads_override: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target_name_override: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) generate_docs_override: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_seconds_override: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) steps_override: Vec<String>,
}

/// Everything that a run's `trigger` tells about how it differs from the job's own settings.
const DIFFERENCES: [&str; 13] = [
    "git_sha",
    "git_branch",
    "schema_override",
    "dbt_version_override",
    "threads_override",
    "target_name_override",
    "generate_docs_override",
    "timeout_seconds_override",
    "steps_override",
    "azure_pull_request_id",
    "github_pull_request_id",
    "gitlab_merge_request_id",
    "non_native_pull_request_id",
];

/// A parameter in which a run differs from what is wanted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) name: &'static str,
    /// As JSON; `nothing` where it is not set.
    pub(crate) wanted: String,
    pub(crate) seen: String,
}

impl Overrides {
    /// The first parameter in which the run was started differently. What was not asked for may come back as null,
    /// as false, or empty.
    pub(crate) fn differs_from(&self, trigger: &Trigger) -> Option<Difference> {
        let wanted = serde_json::to_value(self).unwrap_or_default();
        let shown = |value: &Value| if value.is_null() { "nothing".to_owned() } else { value.to_string() };
        DIFFERENCES.into_iter().find_map(|name| {
            let seen = trigger.rest.get(name).unwrap_or(&Value::Null);
            let wanted = wanted.get(name).unwrap_or(&Value::Null);
            let same = if wanted.is_null() { is_nothing(seen) } else { wanted == seen };
            (!same).then(|| Difference { name, wanted: shown(wanted), seen: shown(seen) })
        })
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::Object(_) => false,
    }
}
