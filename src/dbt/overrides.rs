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
    /// What a run was started with. `None` where that cannot be said in these words: a pull request, or a type that nobody
    /// knows.
    pub(crate) fn of(trigger: &Trigger) -> Option<Overrides> {
        let set = |name: &str| trigger.rest.get(name).filter(|value| !is_nothing(value));
        let text = |name: &str| set(name).and_then(Value::as_str).map(ToOwned::to_owned);
        let steps = set("steps_override").and_then(Value::as_array);
        let overrides = Overrides {
            git_sha: text("git_sha"),
            git_branch: text("git_branch"),
            schema_override: text("schema_override"),
            dbt_version_override: text("dbt_version_override"),
            threads_override: set("threads_override").and_then(Value::as_u64).and_then(|count| count.try_into().ok()),
            target_name_override: text("target_name_override"),
            // False is what comes back where nothing was asked for, too.
            generate_docs_override: set("generate_docs_override").and_then(Value::as_bool),
            timeout_seconds_override: set("timeout_seconds_override").and_then(Value::as_u64),
            steps_override: steps.into_iter().flatten().filter_map(Value::as_str).map(ToOwned::to_owned).collect(),
        };
        // What was not understood shows as a difference.
        overrides.differs_from(trigger).is_none().then_some(overrides)
    }

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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_run_was_started_with_is_read_back_or_nothing_is() {
        let of = |value: Value| Overrides::of(&serde_json::from_value(value).unwrap());
        let bare = json!({"cause": "x", "git_branch": null, "steps_override": [], "generate_docs_override": false});
        assert_eq!(of(bare), Some(Overrides::default()));
        let all = Overrides {
            git_sha: Some("a1".to_owned()),
            git_branch: Some("main".to_owned()),
            schema_override: Some("s".to_owned()),
            dbt_version_override: Some("1.9".to_owned()),
            threads_override: Some(4),
            target_name_override: Some("t".to_owned()),
            generate_docs_override: Some(true),
            timeout_seconds_override: Some(600),
            steps_override: vec!["dbt build".to_owned()],
        };
        let mut sent = serde_json::to_value(&all).unwrap();
        sent["cause"] = json!("x");
        assert_eq!(of(sent), Some(all));
        for (name, odd) in [
            ("github_pull_request_id", json!(7)),
            ("threads_override", json!("4")),
            ("threads_override", json!(-1)),
            ("steps_override", json!(["dbt build", 7])),
            ("git_branch", json!({"name": "main"})),
        ] {
            assert_eq!(of(json!({"cause": "x", name: odd})), None, "{name}");
        }
    }
}
