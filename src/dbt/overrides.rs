//! Overrides of a job's settings for one run: sent with the trigger, and compared with those of an existing run.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::run_response::Trigger;

/// Overrides of a job's settings for one run, by the names in [`FIELDS`]. Unset fields are not sent, because empty strings
/// are rejected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Overrides(pub(crate) Map<String, Value>);

/// The JSON type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Number,
    Seconds,
    Flag,
    Texts,
}

impl Kind {
    fn fits(self, value: &Value) -> bool {
        match self {
            Kind::Text => value.is_string(),
            Kind::Number | Kind::Seconds => value.is_u64(),
            Kind::Flag => value.is_boolean(),
            Kind::Texts => value.as_array().is_some_and(|items| items.iter().all(Value::is_string)),
        }
    }
}

/// A field of the trigger's body, other than `cause`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// The flag of `run`, without dashes.
    pub(crate) flag: &'static str,
    /// The placeholder of its value in the help.
    pub(crate) value_name: &'static str,
    pub(crate) help: &'static str,
}

const fn field(
    name: &'static str,
    kind: Kind,
    flag: &'static str,
    value_name: &'static str,
    help: &'static str,
) -> Field {
    Field { name, kind, flag, value_name, help }
}

/// Every field by which a run can differ from its job's settings, in the order of dbt's documentation. The flags of `run`, the
/// overrides of tasks and of the notebook, and the comparison of runs are all read from here.
#[rustfmt::skip]
pub(crate) static FIELDS: [Field; 13] = [
    field("git_sha", Kind::Text, "git-sha", "SHA", "Git commit to check out"),
    field("git_branch", Kind::Text, "git-branch", "BRANCH", "Git branch to check out"),
    field("azure_pull_request_id", Kind::Number, "azure-pull-request-id", "NUMBER", "Azure DevOps pull request of this CI run; requires --git-sha or --git-branch"),
    field("github_pull_request_id", Kind::Number, "github-pull-request-id", "NUMBER", "GitHub pull request of this CI run; requires --git-sha or --git-branch"),
    field("gitlab_merge_request_id", Kind::Number, "gitlab-merge-request-id", "NUMBER", "GitLab merge request of this CI run; requires --git-sha or --git-branch"),
    field("non_native_pull_request_id", Kind::Number, "non-native-pull-request-id", "NUMBER", "Pull request on any other git host; requires --git-sha or --git-branch, and dbt does not drop its schema"),
    field("schema_override", Kind::Text, "schema", "SCHEMA", "Schema to build in"),
    field("dbt_version_override", Kind::Text, "dbt-version", "VERSION", "dbt version or release track"),
    field("threads_override", Kind::Number, "threads", "N", "Number of dbt threads"),
    field("target_name_override", Kind::Text, "dbt-target", "NAME", "Target name (target.name in dbt)"),
    field("generate_docs_override", Kind::Flag, "generate-docs", "true|false", "Generate docs"),
    field("timeout_seconds_override", Kind::Seconds, "run-timeout", "DURATION", "Time limit of the run in dbt"),
    field("steps_override", Kind::Texts, "step", "COMMAND", "Command to run instead of the job's commands; repeatable"),
];

impl Field {
    /// The field with this name.
    pub(crate) fn named(name: &str) -> Option<&'static Field> {
        FIELDS.iter().find(|field| field.name == name)
    }

    /// Whether it is the ID of a pull request.
    pub(crate) fn is_pull_request(&self) -> bool {
        self.name.ends_with("_request_id")
    }
}

/// Checks for fields that exclude or require each other ("CI jobs"). `is_set` takes a field name.
pub(crate) fn wrong_together(is_set: impl Fn(&str) -> bool) -> Option<Together> {
    let mut requests = FIELDS.iter().filter(|field| field.is_pull_request() && is_set(field.name));
    match (requests.next(), requests.next()) {
        (Some(one), Some(other)) => Some(Together::TwoPullRequests(one, other)),
        (Some(one), None) if !is_set("git_sha") && !is_set("git_branch") => Some(Together::NoCommit(one)),
        (Some(_) | None, None) | (None, Some(_)) => None,
    }
}

/// An invalid combination of fields.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Together {
    TwoPullRequests(&'static Field, &'static Field),
    /// A pull request without a commit or branch to check out.
    NoCommit(&'static Field),
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
        let mut set = Map::new();
        for field in &FIELDS {
            let Some(value) = trigger.rest.get(field.name).filter(|value| !is_nothing(value)) else { continue };
            if !field.kind.fits(value) {
                return None;
            }
            set.insert(field.name.to_owned(), value.clone());
        }
        wrong_together(|name| set.contains_key(name)).is_none().then_some(Overrides(set))
    }

    /// Whether the run is for a pull request.
    pub(crate) fn has_pull_request(&self) -> bool {
        FIELDS.iter().any(|field| field.is_pull_request() && self.0.contains_key(field.name))
    }

    /// The first parameter that differs from what the run was started with. Parameters that were not requested may be
    /// returned as null, false or empty.
    pub(crate) fn differs_from(&self, trigger: &Trigger) -> Option<Difference> {
        let shown = |value: &Value| if value.is_null() { "nothing".to_owned() } else { value.to_string() };
        FIELDS.iter().find_map(|&Field { name, .. }| {
            let seen = trigger.rest.get(name).unwrap_or(&Value::Null);
            let wanted = self.0.get(name).unwrap_or(&Value::Null);
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
        let mut all = Map::new();
        for field in FIELDS.iter().filter(|field| !field.is_pull_request()) {
            let value = match field.kind {
                Kind::Text => json!("main"),
                Kind::Number | Kind::Seconds => json!(9_007_199_254_740_993_u64),
                Kind::Flag => json!(true),
                Kind::Texts => json!(["dbt build"]),
            };
            all.insert(field.name.to_owned(), value);
        }
        all.insert("github_pull_request_id".to_owned(), json!(7));
        let mut sent = Value::Object(all.clone());
        // Only one pull request is allowed at a time.
        sent["gitlab_merge_request_id"] = json!(7);
        sent["cause"] = json!("x");
        assert_eq!(of(sent), None);
        let mut sent = Value::Object(all.clone());
        sent["cause"] = json!("x");
        assert_eq!(of(sent), Some(Overrides(all)));
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
        let requests: Vec<&Field> = FIELDS.iter().filter(|field| field.is_pull_request()).collect();
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
