//! Validation of job settings (databricks-api §5.1, §5.2, §6.3).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::answers::ServiceError;
use super::job_settings::{Settings, tasks, texts, whole};
use super::references;

const RUN_IF: &[&str] =
    &["ALL_SUCCESS", "AT_LEAST_ONE_SUCCESS", "NONE_FAILED", "ALL_DONE", "AT_LEAST_ONE_FAILED", "ALL_FAILED"];

fn only_of(text: &str, more: &str) -> bool {
    text.chars().all(|sign| sign.is_ascii_alphanumeric() || more.contains(sign))
}

pub(super) fn check_text(settings: &Settings) -> Result<(), ServiceError> {
    let description = settings.get("description").and_then(Value::as_str).unwrap_or_default();
    if description.chars().count() > 27_700 {
        return Err(ServiceError::invalid("The job description must not be longer than 27700 characters."));
    }
    if let Some(run_as) = settings.get("run_as") {
        let named = ["user_name", "service_principal_name", "group_name"]
            .iter()
            .filter(|field| run_as.get(field).is_some())
            .count();
        if named != 1 {
            return Err(ServiceError::invalid(
                "run_as must name exactly one of user_name, service_principal_name and group_name.",
            ));
        }
    }
    Ok(())
}

/// Tags are copied to job clusters, so the rules of cluster tags apply (§5.1).
pub(super) fn check_tags(settings: &Settings) -> Result<(), ServiceError> {
    let Some(tags) = settings.get("tags") else {
        return Ok(());
    };
    let tags =
        tags.as_object().ok_or_else(|| ServiceError::malformed("Could not parse request object: tags is no object"))?;
    if tags.len() > 25 {
        return Err(ServiceError::invalid("A job can have at most 25 tags."));
    }
    for (key, value) in tags {
        let Some(value) = value.as_str() else {
            return Err(ServiceError::malformed(format!(
                "Could not parse request object: the value of tag {key} is no string"
            )));
        };
        let fits = (1..=127).contains(&key.len()) && value.len() <= 255;
        if !fits || !only_of(key, " +-=._:/@") || !only_of(value, " +-=._:/@") {
            return Err(ServiceError::invalid(format!(
                "The tag {key}={value} is invalid: keys have 1 to 127 characters, values at most 255, from letters, digits, spaces and + - = . _ : / @"
            )));
        }
    }
    Ok(())
}

pub(super) fn check_parameters(settings: &Settings) -> Result<(), ServiceError> {
    let mut seen = BTreeSet::new();
    for parameter in settings.get("parameters").and_then(Value::as_array).into_iter().flatten() {
        let name = parameter.get("name").and_then(Value::as_str).unwrap_or_default();
        if name.is_empty() || !only_of(name, "_-.") {
            return Err(ServiceError::invalid(format!(
                "Job parameter name '{name}' is invalid: only alphanumeric, _, - and . characters are permitted."
            )));
        }
        if !parameter.get("default").is_some_and(Value::is_string) {
            return Err(ServiceError::invalid(format!("Job parameter '{name}' has no default.")));
        }
        if !seen.insert(name) {
            return Err(ServiceError::invalid(format!("Job parameter '{name}' is given more than once.")));
        }
    }
    Ok(())
}

pub(super) fn check_times(settings: &Settings) -> Result<(), ServiceError> {
    let most = whole(settings, "max_concurrent_runs", 1);
    if !(0..=1000).contains(&most) {
        return Err(ServiceError::invalid("max_concurrent_runs must lie between 0 and 1000."));
    }
    if whole(settings, "timeout_seconds", 0) < 0 {
        return Err(ServiceError::invalid("timeout_seconds must not be negative."));
    }
    let starters =
        ["schedule", "trigger", "continuous", "triggers"].iter().filter(|field| settings.contains_key(**field)).count();
    if starters > 1 {
        return Err(ServiceError::invalid("A job has at most one of schedule, trigger, continuous and triggers."));
    }
    let Some(schedule) = settings.get("schedule") else {
        return Ok(());
    };
    let cron = schedule.get("quartz_cron_expression").and_then(Value::as_str).unwrap_or_default();
    let parts: Vec<&str> = cron.split_whitespace().collect();
    // Quartz: there is a seconds field, and exactly one of day-of-month and day-of-week is a question mark.
    let asked = parts.len() >= 6 && ((parts[3] == "?") != (parts[5] == "?"));
    if !(6..=7).contains(&parts.len())
        || !asked
        || !cron.chars().all(|sign| sign.is_ascii_alphanumeric() || " ?*,-/#".contains(sign))
    {
        return Err(ServiceError::invalid(format!("Invalid cron expression: '{cron}'.")));
    }
    let zone = schedule.get("timezone_id").and_then(Value::as_str).unwrap_or_default();
    if jiff::tz::TimeZone::get(zone).is_err() {
        return Err(ServiceError::invalid(format!("Invalid timezone id: '{zone}'.")));
    }
    check_pause(schedule)
}

fn check_pause(schedule: &Value) -> Result<(), ServiceError> {
    match schedule.get("pause_status").and_then(Value::as_str) {
        None | Some("PAUSED" | "UNPAUSED") => Ok(()),
        Some(other) => Err(ServiceError::invalid(format!("Invalid pause status {other}."))),
    }
}

pub(super) fn check_tasks(settings: &Settings) -> Result<(), ServiceError> {
    let tasks = tasks(settings);
    if tasks.len() > 1000 {
        return Err(ServiceError::invalid("A job can have at most 1000 tasks."));
    }
    let mut upstream: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for task in tasks {
        let key = task.get("task_key").and_then(Value::as_str).unwrap_or_default();
        if key.is_empty() || key.len() > 100 {
            return Err(ServiceError::invalid("A task key has 1 to 100 characters."));
        }
        if !only_of(key, "-_") {
            return Err(ServiceError::invalid(format!(
                "Task key '{key}' contains an invalid character. Only alphanumeric, - and _ characters are permitted."
            )));
        }
        if upstream.insert(key, texts(task.get("depends_on"), "task_key")).is_some() {
            return Err(ServiceError::invalid(format!("Task key '{key}' is not unique.")));
        }
        check_task(settings, key, task)?;
    }
    // Repeatedly removing tasks without remaining upstream tasks leaves only cycles.
    while !upstream.is_empty() {
        let before = upstream.len();
        for (key, needs) in &upstream {
            if let Some(missing) = needs.iter().find(|need| !tasks.iter().any(|task| task["task_key"] == **need)) {
                return Err(ServiceError::invalid(format!(
                    "Task '{key}' depends on '{missing}', which does not exist."
                )));
            }
        }
        let left: BTreeSet<&str> = upstream.keys().copied().collect();
        upstream.retain(|_, needs| needs.iter().any(|need| left.contains(need)));
        if upstream.len() == before {
            return Err(ServiceError::invalid("The dependencies of the tasks form a circle."));
        }
    }
    Ok(())
}

fn check_task(settings: &Settings, key: &str, task: &Value) -> Result<(), ServiceError> {
    let kinds: Vec<&String> = task
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, value)| name.ends_with("_task") && !value.is_null())
        .map(|(name, _)| name)
        .collect();
    if kinds.len() != 1 {
        return Err(ServiceError::invalid(format!(
            "Task '{key}' must have exactly one task type, and has {}.",
            kinds.len()
        )));
    }
    let chosen = ["existing_cluster_id", "new_cluster", "job_cluster_key"]
        .iter()
        .filter(|field| task.get(**field).is_some_and(|value| !value.is_null()))
        .count();
    if chosen > 1 {
        return Err(ServiceError::invalid(format!(
            "Task '{key}' must have at most one of existing_cluster_id, new_cluster and job_cluster_key."
        )));
    }
    if let Some(cluster) = task.get("job_cluster_key").and_then(Value::as_str)
        && !texts(settings.get("job_clusters"), "job_cluster_key").contains(&cluster)
    {
        return Err(ServiceError::invalid(format!("Job cluster '{cluster}' of task '{key}' is not defined.")));
    }
    if task.get("description").and_then(Value::as_str).is_some_and(|text| text.chars().count() > 1000) {
        return Err(ServiceError::invalid(format!(
            "The description of task '{key}' must not be longer than 1000 characters."
        )));
    }
    if let Some(rule) = task.get("run_if")
        && !rule.as_str().is_some_and(|rule| RUN_IF.contains(&rule))
    {
        return Err(ServiceError::invalid(format!("Invalid run_if {rule} of task '{key}'.")));
    }
    if task.get("max_retries").and_then(Value::as_i64).is_some_and(|count| count < -1) {
        return Err(ServiceError::invalid(format!("max_retries of task '{key}' must be -1 or more.")));
    }
    let Some(notebook) = task.get("notebook_task") else {
        return Ok(());
    };
    // §6.3: a notebook task takes its environment from the notebook.
    if task.get("environment_key").is_some() {
        return Err(ServiceError::invalid(format!(
            "A task environment can not be provided for notebook task {key}. Please use the %pip magic command to install notebook-scoped Python libraries and Python wheel packages"
        )));
    }
    let path = notebook.get("notebook_path").and_then(Value::as_str).unwrap_or_default();
    let from_git = notebook.get("source").and_then(Value::as_str) == Some("GIT");
    if !path.starts_with('/') && !from_git {
        return Err(ServiceError::invalid(format!(
            "Only absolute paths (starting with '/') are currently supported for notebooks in the workspace, and '{path}' is none."
        )));
    }
    check_base_parameters(settings, key, notebook)
}

fn check_base_parameters(settings: &Settings, key: &str, notebook: &Value) -> Result<(), ServiceError> {
    let Some(given) = notebook.get("base_parameters") else {
        return Ok(());
    };
    let Some(given) = given.as_object() else {
        return Err(ServiceError::malformed(format!(
            "Could not parse request object: base_parameters of task '{key}' is no object"
        )));
    };
    if Value::Object(given.clone()).to_string().len() > 1_000_000 {
        return Err(ServiceError::invalid(format!("base_parameters of task '{key}' are larger than 1 MB.")));
    }
    let names = texts(settings.get("parameters"), "name");
    let keys = texts(settings.get("tasks"), "task_key");
    for (name, value) in given {
        let Some(text) = value.as_str() else {
            return Err(ServiceError::malformed(format!(
                "Could not parse request object: base parameter '{name}' of task '{key}' is no string"
            )));
        };
        references::check(text, &names, &keys)
            .map_err(|what| ServiceError::invalid(format!("Task '{key}' contains an unknown reference: {what}")))?;
    }
    Ok(())
}
