//! Jobs: create, update, reset, delete, get, list.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::World;
use super::answers::{HandlerResult, HttpResponse, ServiceError, databricks_data};
use super::call::Call;
use super::{job_settings, permissions};

/// Page size of arrays in a job (API 2.2).
const PAGE: usize = 100;

#[derive(Clone)]
pub(super) struct Job {
    pub(super) creator: String,
    pub(super) created: i64,
    pub(super) settings: Map<String, Value>,
}

impl Job {
    /// Returns the identity its runs use: `run_as`, otherwise the creator.
    pub(super) fn identity(&self) -> &str {
        let run_as = self.settings.get("run_as");
        ["user_name", "service_principal_name", "group_name"]
            .iter()
            .find_map(|field| run_as?.get(field)?.as_str())
            .unwrap_or(&self.creator)
    }

    pub(super) fn name(&self) -> &str {
        self.settings.get("name").and_then(Value::as_str).unwrap_or_default()
    }
}

fn key_of(job: i64) -> String {
    format!("job:{job}")
}

/// Returns an opaque token for the page that begins at `offset`.
pub(super) fn page_token(offset: usize) -> String {
    URL_SAFE_NO_PAD.encode(format!("sandbox-page:{offset}"))
}

/// Returns the offset of the requested page.
pub(super) fn page_start(call: &Call) -> Result<usize, ServiceError> {
    let Some(token) = call.query_param("page_token").filter(|token| !token.is_empty()) else {
        return Ok(0);
    };
    let decoded = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded
        .and_then(|text| text.strip_prefix("sandbox-page:")?.parse().ok())
        .ok_or_else(|| ServiceError::invalid("Invalid page token."))
}

/// Answers with a page of a list; an empty list is omitted. `end` is the offset behind the page.
pub(super) fn list_page(name: &str, rows: &[Value], total: usize, end: usize) -> HttpResponse {
    let mut body = json!({ "has_more": total > end });
    if !rows.is_empty() {
        body[name] = json!(rows);
    }
    if total > end {
        body["next_page_token"] = json!(page_token(end));
    }
    databricks_data(&body)
}

/// Cuts arrays to the page of 100 that begins at `start`, exhausted ones to empty arrays. Returns whether more
/// pages follow.
pub(super) fn paged(object: &mut Map<String, Value>, arrays: &[&str], start: usize) -> bool {
    let mut more = false;
    for name in arrays {
        if let Some(Value::Array(items)) = object.get_mut(*name) {
            more |= items.len() > start + PAGE;
            *items = items.iter().skip(start).take(PAGE).cloned().collect();
        }
    }
    more
}

impl World {
    /// Checks that the caller may set the `run_as` in these settings. An unchanged `run_as` is not checked.
    pub(super) fn may_run_as(&self, call: &Call, settings: &Map<String, Value>) -> Result<(), ServiceError> {
        let Some(run_as) = settings.get("run_as").and_then(Value::as_object) else {
            return Ok(());
        };
        let named = run_as.values().find_map(Value::as_str).unwrap_or_default();
        let what = format!("Principal {named} of run_as does not exist.");
        ServiceError::ensure(self.people.knows(named), what)?;
        if self.people.may_run_as(&call.caller, named) {
            return Ok(());
        }
        Err(ServiceError::permission_denied(format!("User {} cannot set run_as to {named}.", call.caller)))
    }

    pub(super) fn check_compute(&self, settings: &Map<String, Value>) -> Result<(), ServiceError> {
        let needs_serverless = |task: &Value| task.get("notebook_task").is_some() && job_settings::is_serverless(task);
        ServiceError::ensure(
            self.serverless || !job_settings::tasks(settings).iter().any(needs_serverless),
            "Serverless compute for workflows is not enabled in this workspace: the task must have one of existing_cluster_id, new_cluster and job_cluster_key.",
        )
    }
}

pub(super) fn create(world: &mut World, call: &Call) -> HandlerResult {
    let fields = call.fields()?;
    let grants = match fields.0.get("access_control_list") {
        None | Some(Value::Null) => Vec::new(),
        Some(list) => permissions::grants(world, list, true)?,
    };
    let settings = job_settings::settled(fields.0)?;
    world.may_run_as(call, &settings)?;
    world.check_compute(&settings)?;
    let id = world.ids.next_id();
    let owner = grants.iter().find(|grant| grant.level == "IS_OWNER").map(|grant| grant.principal.clone());
    let job = Job { creator: owner.unwrap_or_else(|| call.caller.clone()), created: call.now.0, settings };
    world.databricks.jobs.insert(id, job);
    let direct = grants.into_iter().filter(|grant| grant.level != "IS_OWNER").collect();
    world.databricks.grants.insert(format!("jobs/{id}"), direct);
    Ok(changed(world, id, &json!({ "job_id": id })))
}

pub(super) fn update(world: &mut World, call: &Call) -> HandlerResult {
    let fields = call.fields()?;
    let id = fields.id("job_id")?;
    let old = world.permitted_job(&world.databricks, id, &call.caller, "CAN_MANAGE")?;
    let remove: Vec<String> = match fields.0.get("fields_to_remove") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(_) => return Err(ServiceError::malformed("Could not parse request object: fields_to_remove is no array")),
    };
    let new = fields.object("new_settings")?.unwrap_or_default();
    world.may_run_as(call, &new)?;
    let settings = job_settings::merged(&old.settings, new, &remove);
    written(world, id, settings)
}

pub(super) fn reset(world: &mut World, call: &Call) -> HandlerResult {
    let fields = call.fields()?;
    let id = fields.id("job_id")?;
    let Some(old) = world.databricks.jobs.get(&id) else {
        // As measured, reset checks permission before existence.
        let who = &call.caller;
        let what = format!("User {who} does not have Manage permissions on job with ID {id}, or it does not exist.");
        return Err(ServiceError::permission_denied(what));
    };
    let run_as = old.settings.get("run_as").cloned();
    world.permitted_job(&world.databricks, id, &call.caller, "CAN_MANAGE")?;
    let Some(mut new) = fields.object("new_settings")? else {
        return Err(ServiceError::invalid("Missing required field: new_settings"));
    };
    world.may_run_as(call, &new)?;
    if let Some(run_as) = run_as {
        // Omitting run_as does not clear it.
        new.entry("run_as").or_insert(run_as);
    }
    written(world, id, new)
}

/// What happens to active runs is unverified; here they continue but can no longer be read.
pub(super) fn delete(world: &mut World, call: &Call) -> HandlerResult {
    let id = call.fields()?.id("job_id")?;
    world.permitted_job(&world.databricks, id, &call.caller, "CAN_MANAGE")?;
    world.databricks.jobs.remove(&id);
    world.databricks.grants.remove(&format!("jobs/{id}"));
    Ok(changed(world, id, &json!({})))
}

fn written(world: &mut World, id: i64, settings: Map<String, Value>) -> HandlerResult {
    let settings = job_settings::settled(settings)?;
    world.check_compute(&settings)?;
    if let Some(job) = world.databricks.jobs.get_mut(&id) {
        job.settings = settings;
    }
    Ok(changed(world, id, &json!({})))
}

/// Records that reads of the job and of lists may lag, and answers with `body`.
fn changed(world: &mut World, id: i64, body: &Value) -> HttpResponse {
    world.mark_changed(key_of(id));
    world.mark_changed("jobs");
    databricks_data(body)
}

pub(super) fn get(world: &mut World, call: &Call) -> HandlerResult {
    let id = call.required_number("job_id")?;
    let state = world.state_for_read(&key_of(id));
    let job = world.permitted_job(state, id, &call.caller, "CAN_VIEW")?;
    let start = page_start(call)?;
    let mut settings = job_settings::shown(&job.settings);
    let more = paged(&mut settings, &["tasks", "job_clusters", "environments", "parameters"], start);
    let mut body = json!({
        "job_id": id,
        "creator_user_name": job.creator,
        "run_as_user_name": job.identity(),
        "created_time": job.created,
        "settings": settings,
    });
    // API 2.1 has no pages, so longer arrays are cut.
    if more && !call.older_jobs_api {
        body["has_more"] = json!(true);
        body["next_page_token"] = json!(page_token(start + PAGE));
    }
    Ok(databricks_data(&body))
}

pub(super) fn list(world: &mut World, call: &Call) -> HandlerResult {
    let limit = call.number("limit")?.unwrap_or(20);
    let what = format!("Invalid limit {limit}: it must lie between 1 and 100.");
    ServiceError::ensure((1..=100).contains(&limit), what)?;
    let limit = usize::try_from(limit).unwrap_or(100);
    let start = match call.number("offset")? {
        Some(offset) if call.query_param("page_token").is_none() => usize::try_from(offset).unwrap_or(0),
        Some(_) | None => page_start(call)?,
    };
    let name = call.query_param("name").filter(|name| !name.is_empty()).map(str::to_lowercase);
    let state = world.state_for_read("jobs");
    let mut found: Vec<(&i64, &Job)> = state
        .jobs
        .iter()
        .filter(|(id, job)| {
            world.permitted_job(state, **id, &call.caller, "CAN_VIEW").is_ok()
                && name.as_ref().is_none_or(|name| job.name().to_lowercase() == *name)
        })
        .collect();
    found.sort_by_key(|(id, job)| (std::cmp::Reverse(job.created), **id));
    let jobs: Vec<Value> = found
        .iter()
        .skip(start)
        .take(limit)
        .map(|(id, job)| {
            let mut settings = job_settings::shown(&job.settings);
            let expanded = call.query_flag("expand_tasks");
            let more = expanded && paged(&mut settings, &["tasks", "job_clusters"], 0);
            if !expanded {
                settings.retain(|name, _| !["tasks", "job_clusters", "environments", "parameters"].contains(&name.as_str()));
            }
            let mut row = json!({ "job_id": id, "creator_user_name": job.creator, "created_time": job.created, "settings": settings });
            if more {
                row["has_more"] = json!(true);
            }
            row
        })
        .collect();
    Ok(list_page("jobs", &jobs, found.len(), start + limit))
}
