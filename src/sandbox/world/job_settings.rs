//! Allowed job settings and the defaults the service adds.

use serde_json::{Map, Value, json};

use super::answers::ServiceError;
use super::job_checks;

pub(super) type Settings = Map<String, Value>;

/// Settings that a job keeps; other fields are accepted and dropped.
const KEPT: &[&str] = &[
    "name",
    "description",
    "tags",
    "parameters",
    "tasks",
    "job_clusters",
    "environments",
    "timeout_seconds",
    "max_concurrent_runs",
    "queue",
    "schedule",
    "trigger",
    "continuous",
    "triggers",
    "email_notifications",
    "webhook_notifications",
    "notification_settings",
    "health",
    "run_as",
    "git_source",
    "edit_mode",
    "deployment",
    "parent_path",
    "performance_target",
    "budget_policy_id",
    "usage_policy_id",
    "environment_variables",
    "trigger_details",
];

/// Arrays that `update` merges by key.
const KEYED: &[(&str, &str)] = &[
    ("tasks", "task_key"),
    ("job_clusters", "job_cluster_key"),
    ("environments", "environment_key"),
    ("parameters", "name"),
];

pub(super) fn texts<'a>(list: Option<&'a Value>, field: &str) -> Vec<&'a str> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| item.get(field)?.as_str()).collect()
}

pub(super) fn tasks(settings: &Settings) -> &[Value] {
    settings.get("tasks").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(super) fn whole(settings: &Settings, field: &str, otherwise: i64) -> i64 {
    settings.get(field).and_then(Value::as_i64).unwrap_or(otherwise)
}

/// Whether a task names no compute and so is serverless.
pub(super) fn is_serverless(task: &Value) -> bool {
    ["existing_cluster_id", "new_cluster", "job_cluster_key"]
        .iter()
        .all(|field| task.get(field).is_none_or(Value::is_null))
}

/// Merges `new_settings` of `update` into a job: fields replace fields; in keyed arrays, matching entries are
/// replaced whole and others are kept.
pub(super) fn merged(old: &Settings, new: Settings, remove: &[String]) -> Settings {
    let mut settings = old.clone();
    for name in remove {
        match name.split_once('/') {
            None => {
                settings.shift_remove(name);
            }
            Some((array, key)) => {
                let Some((_, field)) = KEYED.iter().find(|(known, _)| *known == array) else {
                    continue;
                };
                if let Some(Value::Array(items)) = settings.get_mut(array) {
                    items.retain(|item| item.get(field).and_then(Value::as_str) != Some(key));
                }
            }
        }
    }
    for (name, value) in new {
        let keyed = KEYED.iter().find(|(known, _)| *known == name);
        match (keyed, settings.get_mut(&name), value) {
            (Some((_, field)), Some(Value::Array(items)), Value::Array(sent)) => {
                for entry in sent {
                    let same = items.iter().position(|item| item.get(field) == entry.get(field));
                    match same {
                        Some(index) => items[index] = entry,
                        None => items.push(entry),
                    }
                }
            }
            (_, _, value) => {
                settings.insert(name, value);
            }
        }
    }
    settings
}

/// Checks settings and adds the service's defaults.
pub(super) fn settled(mut settings: Settings) -> Result<Settings, ServiceError> {
    // Keeps the position of `format`, which is overwritten below.
    settings.retain(|name, value| (KEPT.contains(&name.as_str()) || name == "format") && !value.is_null());
    for field in ["tasks", "parameters", "job_clusters", "environments"] {
        if settings.get(field).is_some_and(|value| !value.is_array()) {
            return Err(ServiceError::malformed(format!("Could not parse request object: {field} is no array")));
        }
    }
    let name = settings.entry("name").or_insert_with(|| json!("Untitled")).as_str();
    let name = name.ok_or_else(|| ServiceError::malformed("Could not parse request object: name is no string"))?;
    ServiceError::ensure(name.len() <= 4096, "The job name must not be longer than 4096 bytes.")?;
    job_checks::check_tags(&settings)?;
    job_checks::check_parameters(&settings)?;
    job_checks::check_times(&settings)?;
    job_checks::check_tasks(&settings)?;
    fill(&mut settings);
    Ok(settings)
}

fn fill(settings: &mut Settings) {
    settings.insert("format".to_owned(), json!("MULTI_TASK"));
    for (name, value) in [
        ("email_notifications", json!({})),
        ("webhook_notifications", json!({})),
        ("timeout_seconds", json!(0)),
        ("max_concurrent_runs", json!(1)),
        ("queue", json!({ "enabled": true })),
    ] {
        settings.entry(name).or_insert(value);
    }
    if let Some(Value::Object(schedule)) = settings.get_mut("schedule") {
        schedule.entry("pause_status").or_insert(json!("UNPAUSED"));
    }
    let from_git = settings.contains_key("git_source");
    let mut serverless = false;
    for task in settings.get_mut("tasks").and_then(Value::as_array_mut).into_iter().flatten() {
        serverless |= is_serverless(task) && task.get("notebook_task").is_some();
        let Some(task) = task.as_object_mut() else {
            continue;
        };
        for (name, value) in [
            ("run_if", json!("ALL_SUCCESS")),
            ("timeout_seconds", json!(0)),
            ("email_notifications", json!({})),
            ("webhook_notifications", json!({})),
        ] {
            task.entry(name).or_insert(value);
        }
        if let Some(Value::Object(notebook)) = task.get_mut("notebook_task") {
            notebook.entry("source").or_insert(json!(if from_git { "GIT" } else { "WORKSPACE" }));
        }
    }
    if serverless {
        settings.entry("performance_target").or_insert(json!("PERFORMANCE_OPTIMIZED"));
    }
}

/// Returns settings as read: tasks and `depends_on` are in a different order than sent.
pub(super) fn shown(settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    if let Some(Value::Array(tasks)) = settings.get_mut("tasks") {
        tasks.reverse();
        for task in tasks {
            if let Some(Value::Array(needs)) = task.get_mut("depends_on") {
                needs.reverse();
            }
        }
    }
    settings
}
