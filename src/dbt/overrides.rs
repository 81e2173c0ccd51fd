//! Overrides of a job's settings for one run: sent with the trigger, and compared with those of an existing run.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::run_response::Trigger;

/// Overrides of a job's settings for one run. Unset fields are not sent, because empty strings are rejected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Overrides {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) git_sha: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) git_branch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) azure_pull_request_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) github_pull_request_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gitlab_merge_request_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) non_native_pull_request_id: Option<u64>,
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

/// The JSON type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Number,
    Flag,
    Texts,
}

/// A field of the trigger's body, other than `cause`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// The flag of `run`.
    pub(crate) flag: &'static str,
}

const fn field(name: &'static str, kind: Kind, flag: &'static str) -> Field {
    Field { name, kind, flag }
}

/// Every field by which a run can differ from its job's settings. Used to send, validate, compare
/// and print them as flags, and as the list of what callers of the notebook may set.
pub(crate) const FIELDS: [Field; 13] = [
    field("git_sha", Kind::Text, "--git-sha"),
    field("git_branch", Kind::Text, "--git-branch"),
    field("azure_pull_request_id", Kind::Number, "--azure-pull-request-id"),
    field("github_pull_request_id", Kind::Number, "--github-pull-request-id"),
    field("gitlab_merge_request_id", Kind::Number, "--gitlab-merge-request-id"),
    field("non_native_pull_request_id", Kind::Number, "--non-native-pull-request-id"),
    field("schema_override", Kind::Text, "--schema"),
    field("target_name_override", Kind::Text, "--dbt-target"),
    field("threads_override", Kind::Number, "--threads"),
    field("dbt_version_override", Kind::Text, "--dbt-version"),
    field("steps_override", Kind::Texts, "--step"),
    field("timeout_seconds_override", Kind::Number, "--run-timeout"),
    field("generate_docs_override", Kind::Flag, "--generate-docs"),
];

impl Field {
    /// Whether it is the ID of a pull request.
    pub(crate) fn is_pull_request(&self) -> bool {
        self.name.ends_with("_request_id")
    }
}

/// Checks for fields that exclude or require each other ("CI jobs"). `is_set` takes a field name.
pub(crate) fn wrong_together(is_set: impl Fn(&str) -> bool) -> Option<Together> {
    let mut requests = FIELDS.iter().filter(|field| field.is_pull_request() && is_set(field.name));
    match (requests.next(), requests.next()) {
        (Some(one), Some(other)) => Some(Together::TwoPullRequests(*one, *other)),
        (Some(one), None) if !is_set("git_sha") && !is_set("git_branch") => Some(Together::NoCommit(*one)),
        (Some(_) | None, None) | (None, Some(_)) => None,
    }
}

/// An invalid combination of fields.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Together {
    TwoPullRequests(Field, Field),
    /// A pull request without a commit or branch to check out.
    NoCommit(Field),
}

/// A parameter of a run that differs from the requested value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) name: &'static str,
    /// As JSON; `nothing` if unset.
    pub(crate) wanted: String,
    pub(crate) seen: String,
}

impl Overrides {
    /// The overrides that a run was started with; `None` if a value has an unexpected type, or if the combination would
    /// be rejected here.
    pub(crate) fn of(trigger: &Trigger) -> Option<Overrides> {
        let set = |name: &str| trigger.rest.get(name).filter(|value| !is_nothing(value));
        let there = FIELDS.iter().filter_map(|field| Some((field.name.to_owned(), set(field.name)?.clone())));
        serde_json::from_value(Value::Object(there.collect()))
            .ok()
            .filter(|_| wrong_together(|name| set(name).is_some()).is_none())
    }

    /// The fields that are set, by name.
    pub(crate) fn fields(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => fields,
            // Unreachable: a struct serializes as an object.
            Ok(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) | Err(_) => {
                Map::new()
            }
        }
    }

    /// Whether the run is for a pull request.
    pub(crate) fn has_pull_request(&self) -> bool {
        let fields = self.fields();
        FIELDS.iter().any(|field| field.is_pull_request() && fields.contains_key(field.name))
    }

    /// The first parameter that differs from what the run was started with. Parameters that were not requested may be
    /// returned as null, false or empty.
    pub(crate) fn differs_from(&self, trigger: &Trigger) -> Option<Difference> {
        let wanted = self.fields();
        let shown = |value: &Value| if value.is_null() { "nothing".to_owned() } else { value.to_string() };
        FIELDS.into_iter().find_map(|Field { name, kind: _, flag: _ }| {
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
            github_pull_request_id: Some(9_007_199_254_740_993),
            schema_override: Some("s".to_owned()),
            dbt_version_override: Some("1.9".to_owned()),
            threads_override: Some(4),
            target_name_override: Some("t".to_owned()),
            generate_docs_override: Some(true),
            timeout_seconds_override: Some(600),
            steps_override: vec!["dbt build".to_owned()],
            ..Overrides::default()
        };
        let mut sent = serde_json::to_value(&all).unwrap();
        // Only one pull request is allowed at a time.
        for request in FIELDS.iter().filter(|field| field.is_pull_request()) {
            sent[request.name] = json!(9_007_199_254_740_993_u64);
        }
        // The table has exactly these fields.
        let mut names: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
        let mut there: Vec<&str> = sent.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        there.sort_unstable();
        assert_eq!(there, names);
        sent["cause"] = json!("x");
        assert_eq!(of(sent), None);
        let mut sent = serde_json::to_value(&all).unwrap();
        sent["cause"] = json!("x");
        assert_eq!(of(sent), Some(all));
        for (name, odd) in [
            ("github_pull_request_id", json!("7")),
            ("threads_override", json!("4")),
            ("threads_override", json!(-1)),
            ("steps_override", json!(["dbt build", 7])),
            ("git_branch", json!({"name": "main"})),
        ] {
            assert_eq!(of(json!({"cause": "x", name: odd})), None, "{name}");
        }
    }

    #[test]
    fn a_pull_request_goes_with_one_commit_or_branch_and_no_other_request() {
        let requests: Vec<Field> = FIELDS.into_iter().filter(Field::is_pull_request).collect();
        assert_eq!(requests.len(), 4);
        let wrong = |set: &[&str]| wrong_together(|name| set.contains(&name)).is_some();
        for one in &requests {
            assert!(wrong(&[one.name]) && wrong(&[one.name, "schema_override"]), "{}", one.name);
            assert!(!wrong(&[one.name, "git_sha"]) && !wrong(&[one.name, "git_branch"]), "{}", one.name);
            for other in requests.iter().filter(|other| other.name != one.name) {
                assert!(wrong(&[one.name, other.name, "git_sha"]), "{} {}", one.name, other.name);
            }
        }
        assert!(!wrong(&[]) && !wrong(&["git_sha", "git_branch"]));
    }
}
