//! Starts, submits, cancels and deletes job runs.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::World;
use super::answers::{HandlerResult, ServiceError, databricks_data};
use super::call::Call;
use super::databricks::Fields;
use super::databricks_jobs::Job;
use super::job_repairs::{keys, with_dependencies};
use super::job_runs::{CLEAN_UP, JobRun, Stage, TaskRun};
use super::job_settings::{settled, tasks, whole};

impl World {
    pub(super) fn run_index(&self, is_it: impl Fn(&JobRun) -> bool, id: i64) -> Result<usize, ServiceError> {
        let found = self.job_runs.iter().position(is_it);
        found.ok_or_else(|| ServiceError::invalid(format!("Run {id} does not exist.")))
    }
}

/// Fields of `runs/submit` that become the run's settings.
const SUBMITTED: &[&str] = &["tasks", "timeout_seconds", "run_as", "environments", "git_source", "queue"];

fn token_of(fields: &Fields) -> Result<Option<String>, ServiceError> {
    let token = fields.text("idempotency_token")?.filter(|token| !token.is_empty());
    let fits = token.as_ref().is_none_or(|token| token.len() <= 64);
    ServiceError::ensure(fits, "The idempotency token must not be longer than 64 characters.").map(|()| token)
}

/// `run-now`.
pub(super) fn run_now(world: &mut World, call: &Call) -> HandlerResult {
    let fields = call.fields()?;
    let job_id = fields.id("job_id")?;
    let job = world.permitted_job(&world.databricks, job_id, &call.caller, "CAN_MANAGE_RUN")?.clone();
    let token = token_of(&fields)?;
    // The same token returns the run it created, whatever else the request contains.
    let is_same = |run: &&JobRun| token.is_some() && run.job_id == job_id && run.token == token;
    if let Some(run) = world.job_runs.iter().find(is_same) {
        return Ok(databricks_data(&json!({ "run_id": run.id, "number_in_job": run.id })));
    }
    refuse_other_tasks(&job.settings)?;
    let only = only(&job.settings, &fields)?;
    let parameters = parameters_of(&job.settings, &fields)?;
    let queue = fields.object("queue")?.map(Value::Object).or_else(|| job.settings.get("queue").cloned());
    let may_wait = queue.is_some_and(|queue| queue.get("enabled") == Some(&json!(true)));
    let most = whole(&job.settings, "max_concurrent_runs", 1);
    let now = call.now.0;
    let mut run = JobRun::new(world.ids.next_id(), job_id, &job, &call.caller, now);
    run.token = token;
    run.parameters = parameters;
    for task in tasks(&job.settings) {
        let id = world.ids.next_id();
        let key = task["task_key"].as_str().unwrap_or_default();
        let mut attempt = TaskRun::new(key, id, 0, id, Stage::Blocked);
        if only.as_ref().is_some_and(|only| !only.contains(key)) {
            attempt.end(now, "DISABLED", "");
        }
        run.tasks.push(attempt);
    }
    if world.active_runs(job_id) < most {
        run.begin(now);
    } else if may_wait && most > 0 {
        run.queued = true;
    } else {
        // The run exists but never ran.
        run.tasks.clear();
        run.ended = Some(now - CLEAN_UP);
        run.result = Some("MAXIMUM_CONCURRENT_RUNS_REACHED");
        "Run skipped because the limit of concurrent runs of the job is reached.".clone_into(&mut run.message);
    }
    let id = run.id;
    world.job_runs.push(run);
    world.advance_job_runs();
    Ok(databricks_data(&json!({ "run_id": id, "number_in_job": id })))
}

/// Refuses jobs with tasks the sandbox cannot run.
pub(super) fn refuse_other_tasks(settings: &Map<String, Value>) -> Result<(), ServiceError> {
    let other = tasks(settings).iter().find(|task| task.get("notebook_task").is_none());
    other.map_or(Ok(()), |other| {
        Err(ServiceError::unsupported(format_args!("runs of tasks without a notebook, such as {}", other["task_key"])))
    })
}

/// Returns the tasks selected by `only`: `+key` adds upstream tasks, `key+` downstream tasks.
fn only(settings: &Map<String, Value>, fields: &Fields) -> Result<Option<BTreeSet<String>>, ServiceError> {
    let Some(wishes) = keys(fields, "only")?.filter(|wishes| !wishes.is_empty()) else {
        return Ok(None);
    };
    let mut all = BTreeSet::new();
    for wish in &wishes {
        let key = wish.trim_start_matches('+').trim_end_matches('+');
        let exists = tasks(settings).iter().any(|task| task["task_key"] == key);
        ServiceError::ensure(exists, format!("Task '{key}' does not exist in the job."))?;
        let (mut before, mut behind) = (BTreeSet::from([key.to_owned()]), BTreeSet::from([key.to_owned()]));
        if wish.starts_with('+') {
            with_dependencies(settings, &mut before, true);
        }
        if wish.ends_with('+') {
            with_dependencies(settings, &mut behind, false);
        }
        all.extend(before);
        all.extend(behind);
    }
    Ok(Some(all))
}

/// Returns the job parameters of a run as (name, default, value). Names that the job does not define are pushed down
/// too.
pub(super) fn parameters_of(
    settings: &Map<String, Value>,
    fields: &Fields,
) -> Result<Vec<(String, Option<String>, String)>, ServiceError> {
    let given = fields.object("job_parameters")?.unwrap_or_default();
    let legacy = fields.object("notebook_params")?.unwrap_or_default();
    let defined = settings.get("parameters").and_then(Value::as_array).cloned().unwrap_or_default();
    ServiceError::ensure(
        defined.is_empty() || legacy.is_empty(),
        "notebook_params cannot be used with a job that defines job parameters: use job_parameters.",
    )?;
    let text = |name: &str, value: &Value| {
        let what = format!("Could not parse request object: job parameter {name} is no string");
        value.as_str().map(str::to_owned).ok_or_else(|| ServiceError::malformed(what))
    };
    let mut all = Vec::new();
    for parameter in &defined {
        let name = parameter["name"].as_str().unwrap_or_default();
        let default = parameter["default"].as_str().unwrap_or_default().to_owned();
        let value = given.get(name).map(|value| text(name, value)).transpose()?;
        all.push((name.to_owned(), Some(default.clone()), value.unwrap_or(default)));
    }
    for (name, value) in given.iter().chain(&legacy) {
        if !all.iter().any(|(known, _, _)| known == name) {
            all.push((name.clone(), None, text(name, value)?));
        }
    }
    Ok(all)
}

/// `runs/submit`: a one-time run without a job, whose tasks are not retried.
pub(super) fn submit(world: &mut World, call: &Call) -> HandlerResult {
    let fields = call.fields()?;
    let token = token_of(&fields)?;
    let is_same = |run: &&JobRun| token.is_some() && run.one_time && run.token == token;
    if let Some(run) = world.job_runs.iter().find(is_same) {
        return Ok(databricks_data(&json!({ "run_id": run.id })));
    }
    let mut sent = fields.0.clone();
    let name = fields.text("run_name")?.unwrap_or_else(|| "Untitled".to_owned());
    sent.retain(|name, _| SUBMITTED.contains(&name.as_str()));
    sent.insert("name".to_owned(), json!(name));
    let mut settings = settled(sent)?;
    ServiceError::ensure(!tasks(&settings).is_empty(), "One of the following fields must be set: tasks.")?;
    refuse_other_tasks(&settings)?;
    world.may_run_as(call, &settings)?;
    world.check_compute(&settings)?;
    for task in settings.get_mut("tasks").and_then(Value::as_array_mut).into_iter().flatten() {
        task["max_retries"] = json!(0);
        task["disable_auto_optimization"] = json!(true);
    }
    let now = call.now.0;
    let job = Job { creator: call.caller.clone(), created: now, settings };
    let (id, job_id) = (world.ids.next_id(), world.ids.next_id());
    let mut run = JobRun::new(id, job_id, &job, &call.caller, now);
    run.one_time = true;
    run.token = token;
    for task in tasks(&job.settings) {
        let id = world.ids.next_id();
        run.tasks.push(TaskRun::new(task["task_key"].as_str().unwrap_or_default(), id, 0, id, Stage::Blocked));
    }
    run.begin(now);
    world.job_runs.push(run);
    world.advance_job_runs();
    Ok(databricks_data(&json!({ "run_id": id })))
}

/// `runs/cancel`: asynchronous; accepts job runs and task runs. A run that has ended is unchanged.
pub(super) fn cancel(world: &mut World, call: &Call) -> HandlerResult {
    let id = call.fields()?.id("run_id")?;
    let now = call.now.0;
    let index = world.run_index(|run| run.id == id || run.tasks.iter().any(|task| task.id == id), id)?;
    world.check_run_permission(&world.job_runs[index], &call.caller, "CAN_MANAGE_RUN")?;
    let run = &mut world.job_runs[index];
    if run.id == id {
        run.stop(now, "CANCELED", "Run cancelled.");
    } else if let Some(task) = run.tasks.iter_mut().find(|task| task.id == id) {
        task.stop(now, "CANCELED");
    }
    world.advance_job_runs();
    Ok(databricks_data(&json!({})))
}

/// `runs/cancel-all`: of one job, or with `all_queued_runs` all queued runs in the workspace.
pub(super) fn cancel_all(world: &mut World, call: &Call) -> HandlerResult {
    let fields = call.fields()?;
    let queued = fields.0.get("all_queued_runs") == Some(&json!(true));
    let job = match fields.0.get("job_id") {
        None | Some(Value::Null) if queued => None,
        Some(_) | None => Some(fields.id("job_id")?),
    };
    if let Some(job) = job {
        world.permitted_job(&world.databricks, job, &call.caller, "CAN_MANAGE_RUN")?;
    }
    let now = call.now.0;
    let chosen: Vec<usize> = (0..world.job_runs.len())
        .filter(|index| {
            let run = &world.job_runs[*index];
            job.map_or(run.queued, |job| run.job_id == job && (!queued || run.queued))
                && world.check_run_permission(run, &call.caller, "CAN_MANAGE_RUN").is_ok()
        })
        .collect();
    for index in chosen {
        world.job_runs[index].stop(now, "CANCELED", "Run cancelled.");
    }
    world.advance_job_runs();
    Ok(databricks_data(&json!({})))
}

/// `runs/delete`: only runs that have ended.
pub(super) fn delete(world: &mut World, call: &Call) -> HandlerResult {
    let id = call.fields()?.id("run_id")?;
    let index = world.run_index(|run| run.id == id, id)?;
    world.check_run_permission(&world.job_runs[index], &call.caller, "CAN_MANAGE_RUN")?;
    let what = format!("Run {id} is active: only runs that are over can be deleted.");
    ServiceError::ensure(world.job_runs[index].is_over(call.now.0), what)?;
    world.job_runs.remove(index);
    Ok(databricks_data(&json!({})))
}
