//! Creates, updates and deletes dbt Cloud jobs (dbt-cloud-openapi-v2, `Create Job`, `Update Job`, `Destroy Job`).

use serde_json::{Map, Value, json};

use super::World;
use super::answers::{HandlerResult, ServiceError, dbt_data};
use super::call::Call;
use super::dbt::ACCOUNT;
use super::dbt_jobs::DbtJob;
use super::seed;

/// A field and the check for its type.
type Field = (&'static str, fn(&Value) -> bool);

/// The writable fields of a job. Other fields are ignored, because clients send back whatever they read.
const WRITTEN: &[Field] = &[
    ("name", Value::is_string),
    ("description", Value::is_string),
    ("dbt_version", Value::is_string),
    ("deferring_environment_id", Value::is_i64),
    ("deferring_job_definition_id", Value::is_i64),
    ("execute_steps", Value::is_array),
    ("execution", Value::is_object),
    ("generate_docs", Value::is_boolean),
    ("job_type", Value::is_string),
    ("lifecycle_webhooks", Value::is_boolean),
    ("run_compare_changes", Value::is_boolean),
    ("run_generate_sources", Value::is_boolean),
    ("generate_sources", Value::is_boolean),
    ("run_lint", Value::is_boolean),
    ("errors_on_lint_failure", Value::is_boolean),
    ("settings", Value::is_object),
    ("triggers", Value::is_object),
    ("schedule", Value::is_object),
];

fn body(call: &Call) -> Result<Map<String, Value>, ServiceError> {
    call.check_query(&[])?;
    if call.is_form() {
        return Err(ServiceError::unsupported("jobs of dbt written as forms"));
    }
    let body = call.object().map_err(|why| ServiceError::dbt_field("body", why))?;
    if body.get("account_id").is_some_and(|account| *account != json!(ACCOUNT)) {
        return Err(ServiceError::dbt_field("account_id", format!("the account of the path is {ACCOUNT}")));
    }
    Ok(body)
}

/// Applies a request body to a job. Null fields are ignored.
fn write(world: &World, job: &mut DbtJob, body: &Map<String, Value>) -> Result<(), ServiceError> {
    for (name, fits) in WRITTEN {
        let Some(value) = body.get(*name).filter(|value| !value.is_null()) else {
            continue;
        };
        if !fits(value) {
            return Err(ServiceError::dbt_field(name, format!("{value} is not of the type of this field")));
        }
        job.written.insert((*name).to_owned(), value.clone());
    }
    if let Some(name) = body.get("name").and_then(Value::as_str) {
        name.clone_into(&mut job.name);
    }
    if job.name.is_empty() {
        return Err(ServiceError::dbt_field("name", "'' is too short"));
    }
    for (field, place) in [("project_id", &mut job.project), ("environment_id", &mut job.environment)] {
        if let Some(value) = body.get(field).filter(|value| !value.is_null()) {
            *place = value
                .as_i64()
                .ok_or_else(|| ServiceError::dbt_field(field, format!("{value} is not of type 'integer'")))?;
        }
    }
    if !world.dbt.jobs.values().any(|other| (other.project, other.environment) == (job.project, job.environment)) {
        return Err(ServiceError::dbt_field("environment_id", "the project has no such environment"));
    }
    if let Some(steps) = body.get("execute_steps").and_then(Value::as_array) {
        job.commands = steps.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    }
    if let Some(docs) = body.get("generate_docs").and_then(Value::as_bool) {
        job.generate_docs = docs;
    }
    if let Some(seconds) = body.get("execution").and_then(|execution| execution.get("timeout_seconds")?.as_i64()) {
        job.timeout_seconds = seconds;
    }
    if let Some(scheduled) = body.get("triggers").and_then(|triggers| triggers.get("schedule")?.as_bool()) {
        job.scheduled = scheduled;
    }
    if let Some(kind) = body.get("job_type").and_then(Value::as_str) {
        job.is_ci = kind == "ci";
    }
    Ok(())
}

/// `POST v2 jobs/`. The API description marks more fields as required than working clients send (Dagster sends only
/// names and ids).
pub(super) fn create(world: &mut World, call: &Call) -> HandlerResult {
    call.check_account()?;
    let body = body(call)?;
    for field in ["name", "project_id", "environment_id"] {
        if body.get(field).is_none_or(Value::is_null) {
            return Err(ServiceError::dbt_field(field, format!("'{field}' is a required property")));
        }
    }
    let id = world.dbt.jobs.keys().max().map_or(1, |last| last + 1);
    let mut job = seed::written_job(id);
    write(world, &mut job, &body)?;
    let shown = world.job_fields(&job, &[]);
    world.dbt.jobs.insert(id, job);
    Ok(dbt_data(&shown))
}

/// `POST v2 jobs/{id}/`. A `state` of 2 deletes the job.
pub(super) fn update(world: &mut World, call: &Call) -> HandlerResult {
    let mut job = world.dbt_job(call)?.clone();
    let body = body(call)?;
    if body.get("state") == Some(&json!(2)) {
        return delete(world, call);
    }
    write(world, &mut job, &body)?;
    let shown = world.job_fields(&job, &[]);
    world.dbt.jobs.insert(job.id, job);
    Ok(dbt_data(&shown))
}

/// `DELETE v2 jobs/{id}/`. Documented as 204 without a body, but working clients read the job from the response
/// (Dagster).
pub(super) fn delete(world: &mut World, call: &Call) -> HandlerResult {
    let job = world.dbt_job(call)?;
    let (id, mut shown) = (job.id, world.job_fields(job, &[]));
    shown["state"] = json!(2);
    world.dbt.jobs.remove(&id);
    Ok(dbt_data(&shown))
}
