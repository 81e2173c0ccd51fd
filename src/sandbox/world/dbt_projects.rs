//! Projects and environments of the dbt Cloud account.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::World;
use super::answers::{HandlerResult, ServiceError, dbt_data};
use super::call::Call;
use super::dbt::{ACCOUNT, plain_time};
use super::dbt_jobs::{DBT_VERSION, DbtJob};

/// Project ids and names.
pub(super) const PROJECTS: [(i64, &str); 2] = [(4101, "Jaffle Shop"), (4102, "Finance")];

fn part_of(call: &Call, name: &str) -> bool {
    call.query_param("name__icontains").is_none_or(|part| name.to_lowercase().contains(&part.to_lowercase()))
}

/// `GET v3 projects/`.
pub(super) fn projects(world: &mut World, call: &Call) -> HandlerResult {
    call.check_account()?;
    call.check_query(&["name__icontains", "state", "pk", "pk__in", "limit", "offset", "order_by"])?;
    let wanted = call.dbt_numbers("pk__in")?;
    let made = plain_time(world.start.0 - 300 * 86_400_000);
    let deleted = matches!(call.query_param("state"), Some("2" | "deleted"));
    let rows = PROJECTS
        .iter()
        .filter(|(id, name)| {
            !deleted && part_of(call, name) && wanted.as_ref().is_none_or(|wanted| wanted.contains(id))
        })
        .map(|(id, name)| shown(*id, name, &made))
        .collect();
    page(call, rows)
}

fn shown(id: i64, name: &str, made: &Value) -> Value {
    json!({
        "id": id, "account_id": ACCOUNT, "name": name, "description": "", "state": 1, "type": 0, "created_at": made, "updated_at": made,
        "connection": null, "repository": null, "docs_job": null, "freshness_job": null, "fusion_readiness": null,
        "environments": [], "group_permissions": [], "default_version": DBT_VERSION,
    })
}

/// `GET v3 projects/{P}/`.
pub(super) fn project(world: &mut World, call: &Call) -> HandlerResult {
    call.check_account()?;
    call.check_query(&["include_related", "include_related[]"])?;
    let made = plain_time(world.start.0 - 300 * 86_400_000);
    let known = PROJECTS.iter().find(|(id, _)| Some(*id) == call.id(1));
    let (id, name) = known.ok_or_else(ServiceError::dbt_not_found)?;
    Ok(dbt_data(&shown(*id, name, &made)))
}

/// `GET v3 projects/{P}/environments/{E}/`, and `GET v2 environments/{E}/`, which Dagster uses.
pub(super) fn environment(world: &mut World, call: &Call) -> HandlerResult {
    call.check_account()?;
    call.check_query(&["include_related", "include_related[]"])?;
    let project = call.id(2).and_then(|_| call.id(1));
    let found = call.id(2).or(call.id(1)).map(|id| world.environment_fields(id));
    let is_in =
        |fields: &Value| fields["project_id"].as_i64().is_some_and(|of| project.is_none_or(|project| project == of));
    Ok(dbt_data(&found.filter(is_in).ok_or_else(ServiceError::dbt_not_found)?))
}

/// `GET v2 environments/`: of all projects; deprecated but still served.
pub(super) fn environments_of_the_account(world: &mut World, call: &Call) -> HandlerResult {
    call.check_account()?;
    call.check_query(&["project_id", "project_id__in", "state", "pk", "limit", "offset", "order_by"])?;
    let (project, projects) = (call.dbt_number("project_id")?, call.dbt_numbers("project_id__in")?);
    let one = call.dbt_number("pk")?;
    let deleted = matches!(call.query_param("state"), Some("2" | "deleted"));
    let fits = |job: &DbtJob| {
        !deleted
            && project.is_none_or(|project| job.project == project)
            && projects.as_ref().is_none_or(|projects| projects.contains(&job.project))
            && one.is_none_or(|one| job.environment == one)
    };
    page(call, environments_of(world, fits).collect())
}

/// `GET v3 projects/{P}/environments/`.
pub(super) fn environments(world: &mut World, call: &Call) -> HandlerResult {
    call.check_account()?;
    call.check_query(&["name", "name__icontains", "type", "deployment_type", "limit", "offset", "order_by"])?;
    let project = call.id(1).filter(|id| PROJECTS.iter().any(|(known, _)| known == id));
    let Some(project) = project else { return Err(ServiceError::dbt_not_found()) };
    let is = |row: &Value, field: &str, asked: &str| call.query_param(asked).is_none_or(|asked| row[field] == asked);
    let rows = environments_of(world, |job| job.project == project).filter(|row| {
        part_of(call, row["name"].as_str().unwrap_or_default())
            && is(row, "name", "name")
            && is(row, "type", "type")
            && is(row, "deployment_type", "deployment_type")
    });
    page(call, rows.collect())
}

/// `GET v3 projects/{P}/environment-variables/job/`: no job in the sandbox has any.
pub(super) fn variables_of_a_job(world: &mut World, call: &Call) -> HandlerResult {
    call.check_account()?;
    call.check_query(&["job_definition_id", "include_related", "include_related[]"])?;
    let job = call
        .dbt_number("job_definition_id")?
        .ok_or_else(|| ServiceError::dbt_field("job_definition_id", "'job_definition_id' is a required property"))?;
    let found = world.dbt.jobs.get(&job).filter(|job| Some(job.project) == call.id(1));
    found.map(|_| dbt_data(&json!({}))).ok_or_else(ServiceError::dbt_not_found)
}

/// Returns the environments of the jobs that fit, by id.
fn environments_of(world: &World, fits: impl Fn(&DbtJob) -> bool) -> impl Iterator<Item = Value> {
    let ids: BTreeSet<i64> = world.dbt.jobs.values().filter(|job| fits(job)).map(|job| job.environment).collect();
    ids.into_iter().map(|id| world.environment_fields(id))
}

fn page(call: &Call, rows: Vec<Value>) -> HandlerResult {
    call.page(rows, &[("id", |row| row["id"].as_i64().unwrap_or(0))], Value::clone)
}
