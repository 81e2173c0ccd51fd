//! The parts of a job that are not ours: whether they are unchanged, and which are missing. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::databricks::raw::Raw;

/// Set and removed by the service itself when compute changes.
pub(super) const FILLED_IN: &str = "performance_target";

/// The fields that identify the entries of lists, in the order in which they are tried.
const KEYS: [&str; 6] = ["task_key", "job_cluster_key", "environment_key", "name", "id", "metric"];

/// The fields of an object in canonical order, since the service reorders lists.
pub(super) fn fields(raw: &Raw) -> BTreeMap<String, Value> {
    raw.names().map(|name| (name.to_owned(), canonical(raw.read(name).unwrap_or_default()))).collect()
}

pub(super) fn canonical(value: Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.into_iter().map(canonical).collect();
            items.sort_by_key(Value::to_string);
            Value::Array(items)
        }
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(name, value)| (name, canonical(value))).collect())
        }
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => plain,
    }
}

/// Paths that should have stayed and are missing: `tasks.load`, `tags.team`. A different value is not missing:
/// someone may have changed it.
pub(super) fn lost_paths(before: &Raw, intended: &Raw, now: &Raw) -> Vec<String> {
    let missing = |after: &Raw| {
        let mut paths = BTreeSet::new();
        for name in before.names().filter(|name| *name != FILLED_IN) {
            let value = |raw: &Raw| raw.read::<Value>(name).unwrap_or_default();
            compare(&value(before), &value(after), name, &mut paths);
        }
        paths
    };
    let taken_out = missing(intended);
    let was_intended = |path: &String| {
        taken_out
            .iter()
            .any(|taken| path.strip_prefix(taken).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    };
    missing(now).into_iter().filter(|path| !was_intended(path)).collect()
}

/// Whether the service may as well omit this value.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_nothing),
        Value::Object(fields) => fields.values().all(is_nothing),
    }
}

fn compare(before: &Value, after: &Value, path: &str, missing: &mut BTreeSet<String>) {
    if is_nothing(before) {
        return;
    }
    if after.is_null() {
        missing.insert(path.to_owned());
        return;
    }
    match (before, after) {
        (Value::Object(fields), Value::Object(now)) => {
            for (name, value) in fields {
                compare(value, now.get(name).unwrap_or(&Value::Null), &format!("{path}.{name}"), missing);
            }
        }
        (Value::Array(items), Value::Array(now)) => {
            for item in items {
                match named(item) {
                    Some((key, name)) => {
                        let found = now.iter().find(|other| other.get(key).is_some_and(|other| text(other) == name));
                        compare(item, found.unwrap_or(&Value::Null), &format!("{path}.{name}"), missing);
                    }
                    // Entries without a name cannot be matched, so only their number counts.
                    None if now.contains(item) || now.len() >= items.len() => {}
                    None => {
                        missing.insert(format!("{path}.{}", text(item)));
                    }
                }
            }
        }
        (_, _) => {}
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

fn named(item: &Value) -> Option<(&'static str, String)> {
    KEYS.into_iter().find_map(|key| Some((key, text(item.get(key)?))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn raw(value: &Value) -> Raw {
        serde_json::from_str(&value.to_string()).unwrap()
    }

    type Edit = fn(&mut Value);

    #[test]
    fn only_what_should_have_stayed_and_is_there_no_more_is_gone() {
        let before = json!({
            "description": "Ask Bo", "timeout_seconds": 0, "email_notifications": { "on_failure": ["a@x", "b@x"] },
            "tags": { "team": "bi", "empty": "" }, "performance_target": "STANDARD",
            "tasks": [{ "task_key": "a", "libraries": [{ "jar": "x" }, { "jar": "y" }] }, { "task_key": "b", "odd": 1 }],
        });
        let drop: Edit = |job| {
            job["tasks"].as_array_mut().unwrap().remove(1);
        };
        let same: Edit = |_| ();
        let cases: [(Edit, Edit, &[&str]); 10] = [
            (same, same, &[]),
            (same, drop, &["tasks.b"]),
            (drop, drop, &[]),
            (same, |job| job["tasks"].as_array_mut().unwrap().reverse(), &[]),
            (same, |job| job["description"] = "Ask Ana".into(), &[]),
            (
                same,
                |job| *job = json!({ "tags": { "team": "bi" }, "tasks": job["tasks"] }),
                &["description", "email_notifications"],
            ),
            (
                same,
                |job| job["email_notifications"]["on_failure"] = json!(["b@x"]),
                &["email_notifications.on_failure.a@x"],
            ),
            (
                same,
                |job| job["tasks"][0]["libraries"] = json!([{ "jar": "x" }]),
                &["tasks.a.libraries.{\"jar\":\"y\"}"],
            ),
            (same, |job| job["tags"] = json!({}), &["tags.team"]),
            (|job| job["tags"] = Value::Null, |job| job["tags"] = json!({ "new": "x" }), &[]),
        ];
        for (intend, happen, expected) in cases {
            let (mut intended, mut now) = (before.clone(), before.clone());
            intend(&mut intended);
            happen(&mut now);
            assert_eq!(lost_paths(&raw(&before), &raw(&intended), &raw(&now)), expected, "{now}");
        }
    }
}
