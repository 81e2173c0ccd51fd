//! Validation of job settings, as far as clients run into it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::answers::ServiceError;
use super::job_settings::{Settings, tasks, texts, whole};
use super::references;

const TAG_SIGNS: &str = " +-=._:/@";

fn only_of(text: &str, more: &str) -> bool {
    text.chars().all(|sign| sign.is_ascii_alphanumeric() || more.contains(sign))
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Tags are copied to job clusters, so the rules of cluster tags apply.
pub(super) fn check_tags(settings: &Settings) -> Result<(), ServiceError> {
    let tags = settings.get("tags").and_then(Value::as_object);
    ServiceError::ensure(tags.is_none_or(|tags| tags.len() <= 25), "A job can have at most 25 tags.")?;
    for (key, value) in tags.into_iter().flatten() {
        let fits = |value: &str| value.len() <= 255 && only_of(value, TAG_SIGNS);
        let fits = (1..=127).contains(&key.len()) && only_of(key, TAG_SIGNS) && value.as_str().is_some_and(fits);
        ServiceError::ensure(
            fits,
            format!(
                "The tag {key}={value} is invalid: keys have 1 to 127 characters, values at most 255, from letters, digits, spaces and + - = . _ : / @"
            ),
        )?;
    }
    Ok(())
}

pub(super) fn check_parameters(settings: &Settings) -> Result<(), ServiceError> {
    for parameter in settings.get("parameters").and_then(Value::as_array).into_iter().flatten() {
        let name = text(parameter, "name");
        let what =
            format!("Job parameter name '{name}' is invalid: only alphanumeric, _, - and . characters are permitted.");
        ServiceError::ensure(!name.is_empty() && only_of(name, "_-."), what)?;
        let has_default = parameter.get("default").is_some_and(Value::is_string);
        ServiceError::ensure(has_default, format!("Job parameter '{name}' has no default."))?;
    }
    Ok(())
}

pub(super) fn check_times(settings: &Settings) -> Result<(), ServiceError> {
    let most = whole(settings, "max_concurrent_runs", 1);
    ServiceError::ensure((0..=1000).contains(&most), "max_concurrent_runs must lie between 0 and 1000.")?;
    let starters = ["schedule", "trigger", "continuous", "triggers"];
    let starters = starters.iter().filter(|field| settings.contains_key(**field)).count();
    ServiceError::ensure(starters < 2, "A job has at most one of schedule, trigger, continuous and triggers.")?;
    let Some(schedule) = settings.get("schedule") else {
        return Ok(());
    };
    let cron = text(schedule, "quartz_cron_expression");
    let parts: Vec<&str> = cron.split_whitespace().collect();
    // Quartz: there is a seconds field, and exactly one of day-of-month and day-of-week is a question mark.
    let fits = (6..=7).contains(&parts.len())
        && ((parts[3] == "?") != (parts[5] == "?"))
        && cron.chars().all(|sign| sign.is_ascii_alphanumeric() || " ?*,-/#".contains(sign));
    ServiceError::ensure(fits, format!("Invalid cron expression: '{cron}'."))?;
    let zone = text(schedule, "timezone_id");
    ServiceError::ensure(jiff::tz::TimeZone::get(zone).is_ok(), format!("Invalid timezone id: '{zone}'."))
}

pub(super) fn check_tasks(settings: &Settings) -> Result<(), ServiceError> {
    let tasks = tasks(settings);
    let mut upstream: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for task in tasks {
        let key = text(task, "task_key");
        ServiceError::ensure((1..=100).contains(&key.len()), "A task key has 1 to 100 characters.")?;
        let what = format!(
            "Task key '{key}' contains an invalid character. Only alphanumeric, - and _ characters are permitted."
        );
        ServiceError::ensure(only_of(key, "-_"), what)?;
        let is_new = upstream.insert(key, texts(task.get("depends_on"), "task_key")).is_none();
        ServiceError::ensure(is_new, format!("Task key '{key}' is not unique."))?;
        check_task(settings, key, task)?;
    }
    for (key, needs) in &upstream {
        if let Some(missing) = needs.iter().find(|need| !upstream.contains_key(*need)) {
            return Err(ServiceError::invalid(format!("Task '{key}' depends on '{missing}', which does not exist.")));
        }
    }
    // Repeatedly removing tasks without remaining upstream tasks leaves only cycles.
    while !upstream.is_empty() {
        let left: BTreeSet<&str> = upstream.keys().copied().collect();
        upstream.retain(|_, needs| needs.iter().any(|need| left.contains(need)));
        ServiceError::ensure(upstream.len() < left.len(), "The dependencies of the tasks form a circle.")?;
    }
    Ok(())
}

fn check_task(settings: &Settings, key: &str, task: &Value) -> Result<(), ServiceError> {
    let fields = task.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let kinds = fields.clone().filter(|(name, _)| name.ends_with("_task")).count();
    ServiceError::ensure(kinds == 1, format!("Task '{key}' must have exactly one task type, and has {kinds}."))?;
    let computes = ["existing_cluster_id", "new_cluster", "job_cluster_key"];
    let chosen = fields.filter(|(name, _)| computes.contains(&name.as_str())).count();
    let what = format!("Task '{key}' must have at most one of existing_cluster_id, new_cluster and job_cluster_key.");
    ServiceError::ensure(chosen < 2, what)?;
    let cluster = text(task, "job_cluster_key");
    let is_defined = cluster.is_empty() || texts(settings.get("job_clusters"), "job_cluster_key").contains(&cluster);
    ServiceError::ensure(is_defined, format!("Job cluster '{cluster}' of task '{key}' is not defined."))?;
    let what = format!("The description of task '{key}' must not be longer than 1000 characters.");
    ServiceError::ensure(text(task, "description").chars().count() <= 1000, what)?;
    let Some(notebook) = task.get("notebook_task") else {
        return Ok(());
    };
    // A notebook task takes its environment from the notebook.
    let what = format!(
        "A task environment can not be provided for notebook task {key}. Please use the %pip magic command to install notebook-scoped Python libraries and Python wheel packages"
    );
    ServiceError::ensure(task.get("environment_key").is_none(), what)?;
    let path = text(notebook, "notebook_path");
    let what = format!(
        "Only absolute paths (starting with '/') are currently supported for notebooks in the workspace, and '{path}' is none."
    );
    ServiceError::ensure(path.starts_with('/') || text(notebook, "source") == "GIT", what)?;
    check_base_parameters(settings, key, notebook)
}

fn check_base_parameters(settings: &Settings, key: &str, notebook: &Value) -> Result<(), ServiceError> {
    let names = texts(settings.get("parameters"), "name");
    let keys = texts(settings.get("tasks"), "task_key");
    for (name, value) in notebook.get("base_parameters").and_then(Value::as_object).into_iter().flatten() {
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
