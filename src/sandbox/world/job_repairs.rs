//! Repairs: run tasks of an ended run again within it.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::World;
use super::answers::{HandlerResult, ServiceError, databricks_data};
use super::call::Call;
use super::databricks::Fields;
use super::job_run_calls::{parameters_of, refuse_other_tasks};
use super::job_runs::{JobRun, Stage, TaskRun};
use super::job_settings::{tasks, texts};

/// The original run, or a repair of it.
#[derive(Clone)]
pub(super) struct RepairAttempt {
    /// The run's id for the original run.
    pub(super) id: i64,
    pub(super) started: i64,
    /// Index of its first attempt in the run's tasks.
    pub(super) first: usize,
}

/// Returns the task keys of `rerun_tasks` or `only`, in the order sent.
pub(super) fn keys(fields: &Fields, name: &str) -> Result<Option<Vec<String>>, ServiceError> {
    let Some(value) = fields.0.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    serde_json::from_value(value.clone())
        .map(Some)
        .map_err(|_| ServiceError::malformed(format!("Could not parse request object: {name} is no array of strings")))
}

/// Adds all direct and indirect downstream tasks, or upstream ones.
pub(super) fn with_dependencies(settings: &Map<String, Value>, chosen: &mut BTreeSet<String>, upstream: bool) {
    loop {
        let before = chosen.len();
        for task in tasks(settings) {
            let key = task["task_key"].as_str().unwrap_or_default();
            for need in texts(task.get("depends_on"), "task_key") {
                let (from, to) = if upstream { (key, need) } else { (need, key) };
                if chosen.contains(from) {
                    chosen.insert(to.to_owned());
                }
            }
        }
        if chosen.len() == before {
            return;
        }
    }
}

impl JobRun {
    fn has_failed(&self, key: &str) -> bool {
        self.last(key).is_some_and(|task| !task.is_good())
    }
}

/// `runs/repair`.
pub(super) fn repair(world: &mut World, call: &Call) -> HandlerResult {
    let fields = call.fields()?;
    let id = fields.id("run_id")?;
    let index = world.run_index(|run| run.id == id, id)?;
    let now = call.now.0;
    let run = &world.job_runs[index];
    let job = world.permitted_job(&world.databricks, run.job_id, &call.caller, "CAN_MANAGE_RUN")?.clone();
    ServiceError::ensure(run.is_over(now), format!("Run {id} cannot be repaired: it is not over."))?;
    let latest = run.repair_attempts.last().map_or(id, |attempt| attempt.id);
    let told = fields.0.get("latest_repair_id").is_some_and(|given| !given.is_null());
    ServiceError::ensure(
        run.repair_attempts.len() < 2 || (told && fields.id("latest_repair_id")? == latest),
        "The latest repair ID needs to be provided in order to repair a run again.",
    )?;
    refuse_other_tasks(&job.settings)?;
    let chosen = chosen(run, &job.settings, &fields)?;
    let parameters = parameters_of(&job.settings, &fields)?;
    // The history keeps the state of earlier attempts; the settings are the current ones.
    let entry = run.history_entry(now);
    let repair = world.ids.next_id();
    let run = &mut world.job_runs[index];
    run.repair_history.push(entry);
    run.repair_attempts.push(RepairAttempt { id: repair, started: now, first: run.tasks.len() });
    run.settings.clone_from(&job.settings);
    job.identity().clone_into(&mut run.identity);
    run.parameters = parameters;
    (run.started, run.ended, run.result, run.stopped) = (Some(now), None, None, None);
    run.message.clear();
    for key in chosen {
        let id = world.ids.next_id();
        run.tasks.push(TaskRun::new(&key, id, 0, id, Stage::Blocked));
    }
    world.advance_job_runs();
    Ok(databricks_data(&json!({ "repair_id": repair })))
}

fn chosen(run: &JobRun, settings: &Map<String, Value>, fields: &Fields) -> Result<Vec<String>, ServiceError> {
    let known: Vec<&str> = tasks(settings).iter().filter_map(|task| task["task_key"].as_str()).collect();
    let named = keys(fields, "rerun_tasks")?.filter(|named| !named.is_empty());
    let mut chosen: BTreeSet<String> = match (named, fields.flag("rerun_all_failed_tasks")?) {
        (Some(_), true) => {
            return Err(ServiceError::invalid("Only one of rerun_tasks and rerun_all_failed_tasks can be specified."));
        }
        (None, false) => {
            return Err(ServiceError::invalid("One of rerun_tasks and rerun_all_failed_tasks must be specified."));
        }
        (None, true) => known.iter().filter(|key| run.has_failed(key)).map(|key| (*key).to_owned()).collect(),
        (Some(named), false) => {
            if let Some(unknown) = named.iter().find(|key| !known.contains(&key.as_str())) {
                return Err(ServiceError::invalid(format!("Task '{unknown}' does not exist in the job.")));
            }
            named.into_iter().collect()
        }
    };
    ServiceError::ensure(!chosen.is_empty(), "The run has no task to repair.")?;
    if fields.flag("rerun_dependent_tasks")? {
        with_dependencies(settings, &mut chosen, false);
    }
    Ok(known.into_iter().filter(|key| chosen.contains(*key)).map(str::to_owned).collect())
}
