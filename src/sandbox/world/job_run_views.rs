//! Job runs as clients read them: both representations of state, pages, outputs.

use serde_json::{Value, json};

use super::World;
use super::answers::{HandlerResult, ServiceError, databricks_data};
use super::call::Call;
use super::databricks_jobs::{list_page, page_start, page_token, paged};
use super::job_runs::{JobRun, Stage, TaskRun};
use super::notebooks::LONGEST_RESULT;
use super::people::WORKSPACE_ID;

/// Adds a state in both representations, the old `state` and the new `status`.
fn add_state(
    body: &mut Value,
    (life_cycle, state): (&str, &str),
    (result, code): (Option<&str>, Option<&str>),
    message: &str,
    stopped: bool,
) {
    body["state"] =
        json!({ "life_cycle_state": life_cycle, "state_message": message, "user_cancelled_or_timedout": stopped });
    body["status"] = json!({ "state": state });
    if state == "QUEUED" {
        let why = "Queued due to reaching maximum concurrent job runs.";
        body["state"]["queue_reason"] = json!(why);
        body["status"]["queue_details"] = json!({ "code": "MAX_CONCURRENT_RUNS_REACHED", "message": why });
    }
    if let Some(result) = result {
        let (usual, kind) = termination(result);
        body["status"]["termination_details"] =
            json!({ "code": code.unwrap_or(usual), "type": kind, "message": message });
        // Termination_details is set while TERMINATING, the old result only at the end.
        if state != "TERMINATING" {
            body["state"]["result_state"] = json!(result);
        }
    }
}

fn termination(result: &str) -> (&'static str, &'static str) {
    match result {
        "SUCCESS" => ("SUCCESS", "SUCCESS"),
        "SUCCESS_WITH_FAILURES" => ("SUCCESS_WITH_FAILURES", "SUCCESS"),
        "CANCELED" => ("USER_CANCELED", "CLIENT_ERROR"),
        "TIMEDOUT" => ("CANCELED", "CLIENT_ERROR"),
        "MAXIMUM_CONCURRENT_RUNS_REACHED" => ("MAX_CONCURRENT_RUNS_EXCEEDED", "CLIENT_ERROR"),
        "DISABLED" => ("DISABLED", "CLIENT_ERROR"),
        "UPSTREAM_FAILED" | "UPSTREAM_CANCELED" | "EXCLUDED" => ("SKIPPED", "CLIENT_ERROR"),
        _ => ("RUN_EXECUTION_ERROR", "CLIENT_ERROR"),
    }
}

/// Life-cycle state, and state.
fn run_states(run: &JobRun, now: i64) -> (&'static str, &'static str) {
    let over = run.is_over(now);
    let begun = run.current().iter().any(|task| task.started.is_some());
    match run.result {
        Some("MAXIMUM_CONCURRENT_RUNS_REACHED") => ("SKIPPED", "TERMINATED"),
        // Measured on runs whose tasks are TERMINATED/FAILED.
        Some("FAILED") if over => ("INTERNAL_ERROR", "TERMINATED"),
        Some(_) if over => ("TERMINATED", "TERMINATED"),
        Some(_) => ("TERMINATING", "TERMINATING"),
        None if run.queued => ("QUEUED", "QUEUED"),
        None if run.stopped.is_some() => ("TERMINATING", "TERMINATING"),
        None if begun => ("RUNNING", "RUNNING"),
        None => ("PENDING", "PENDING"),
    }
}

fn task_states(task: &TaskRun) -> (&'static str, &'static str) {
    match task.stage {
        Stage::Blocked => ("BLOCKED", "BLOCKED"),
        Stage::Pending { .. } => ("PENDING", "PENDING"),
        Stage::WaitingForRetry { .. } => ("WAITING_FOR_RETRY", "WAITING"),
        Stage::Running => ("RUNNING", "RUNNING"),
        Stage::Stopping { .. } => ("TERMINATING", "TERMINATING"),
        Stage::Ended => match task.result {
            Some("UPSTREAM_FAILED" | "UPSTREAM_CANCELED" | "EXCLUDED" | "DISABLED") => ("SKIPPED", "TERMINATED"),
            Some(_) if task.code.is_some() => ("INTERNAL_ERROR", "TERMINATED"),
            Some(_) | None => ("TERMINATED", "TERMINATED"),
        },
    }
}

impl JobRun {
    fn state_into(&self, body: &mut Value, now: i64) {
        add_state(body, run_states(self, now), (self.result, None), &self.message, self.stopped.is_some());
    }

    /// Returns the last repair attempt as an entry of `repair_history`.
    pub(super) fn history_entry(&self, now: i64) -> Value {
        let ids: Vec<i64> = self.current().iter().map(|task| task.id).collect();
        let (id, started) =
            self.repair_attempts.last().map_or((self.id, self.created), |attempt| (attempt.id, attempt.started));
        let mut entry = json!({
            "id": id,
            "type": if self.repair_history.is_empty() { "ORIGINAL" } else { "REPAIR" },
            "start_time": started,
            "end_time": self.finished(now).unwrap_or(0),
            "task_run_ids": ids,
        });
        self.state_into(&mut entry, now);
        entry
    }
}

impl World {
    fn run_link(&self, job: i64, run: i64) -> String {
        // The legacy form of the link.
        format!("{}/?o={WORKSPACE_ID}#job/{job}/run/{run}", self.origin)
    }

    fn run_fields(&self, run: &JobRun) -> Value {
        let now = self.now.0;
        let end = run.finished(now);
        let parameters: Vec<Value> = run
            .parameters
            .iter()
            .map(|(name, default, value)| match default {
                Some(default) if default == value => json!({ "name": name, "default": default }),
                Some(default) => json!({ "name": name, "default": default, "value": value }),
                None => json!({ "name": name, "value": value }),
            })
            .collect();
        let mut body = json!({
            "job_id": run.job_id,
            "run_id": run.id,
            "number_in_job": run.id,
            "original_attempt_run_id": run.id,
            "creator_user_name": run.creator,
            "run_name": run.settings.get("name"),
            "run_type": kind_of(run),
            "trigger": "ONE_TIME",
            "format": "MULTI_TASK",
            "start_time": run.created,
            "end_time": end.unwrap_or(0),
            "setup_duration": 0,
            "execution_duration": 0,
            "cleanup_duration": 0,
            "queue_duration": run.started.map_or(now - run.created, |started| started - run.created),
            "run_page_url": self.run_link(run.job_id, run.id),
            "job_parameters": parameters,
        });
        if let Some(end) = end {
            body["run_duration"] = json!(end - run.created);
        }
        run.state_into(&mut body, now);
        body
    }

    fn task_fields(&self, run: &JobRun, task: &TaskRun, resolved: bool) -> Value {
        let settings = run.task_settings(&task.key);
        let mut body = json!({
            "run_id": task.id,
            "job_run_id": run.id,
            "task_key": task.key,
            "attempt_number": task.attempt,
            "original_attempt_run_id": task.first_attempt,
            "run_if": settings["run_if"],
            "start_time": task.started.unwrap_or(0),
            "end_time": task.ended.unwrap_or(0),
            "setup_duration": 0,
            "execution_duration": match (task.started, task.ended) { (Some(start), Some(end)) => end - start, _ => 0 },
            "cleanup_duration": 0,
            "run_page_url": self.run_link(run.job_id, task.id),
            "notebook_task": settings["notebook_task"],
        });
        for name in [
            "depends_on",
            "existing_cluster_id",
            "new_cluster",
            "job_cluster_key",
            "max_retries",
            "timeout_seconds",
            "disable_auto_optimization",
            "description",
        ] {
            if let Some(value) = settings.get(name) {
                body[name] = value.clone();
            }
        }
        if resolved {
            body["resolved_values"] = json!({ "notebook_task": { "base_parameters": task.parameters } });
        }
        let stopped =
            matches!(task.stage, Stage::Stopping { .. }) || matches!(task.result, Some("CANCELED" | "TIMEDOUT"));
        add_state(&mut body, task_states(task), (task.result, task.code), &task.message, stopped);
        body
    }

    fn whole_run(&self, run: &JobRun, call: &Call) -> Value {
        let resolved = call.query_flag("include_resolved_values");
        let mut body = self.run_fields(run);
        let tasks: Vec<Value> = run.tasks.iter().rev().map(|task| self.task_fields(run, task, resolved)).collect();
        body["tasks"] = json!(tasks);
        if call.query_flag("include_history") {
            let mut history = run.repair_history.clone();
            history.push(run.history_entry(self.now.0));
            body["repair_history"] = json!(history);
        }
        body
    }

    fn found_run(&self, call: &Call) -> Result<(&JobRun, Option<&TaskRun>), ServiceError> {
        let id = call.required_number("run_id")?;
        let found = self.job_runs.iter().find_map(|run| {
            let task = run.tasks.iter().find(|task| task.id == id);
            (run.id == id || task.is_some()).then_some((run, task))
        });
        let Some((run, task)) = found else {
            return Err(ServiceError::invalid(format!("Run {id} does not exist.")));
        };
        self.check_run_permission(run, &call.caller, "CAN_VIEW")?;
        Ok((run, task))
    }

    /// Returns an error unless `who` has at least `level` on the run's job; a one-time run belongs to its submitter.
    pub(super) fn check_run_permission(&self, run: &JobRun, who: &str, level: &str) -> Result<(), ServiceError> {
        if !run.one_time {
            // Refused if the job has been deleted.
            return self.permitted_job(&self.databricks, run.job_id, who, level).map(|_| ());
        }
        if run.creator == who || self.people.is_admin(who) {
            return Ok(());
        }
        Err(ServiceError::permission_denied(format!("User {who} does not have {level} permission on run {}.", run.id)))
    }
}

fn kind_of(run: &JobRun) -> &'static str {
    if run.one_time { "SUBMIT_RUN" } else { "JOB_RUN" }
}

pub(super) fn get(world: &mut World, call: &Call) -> HandlerResult {
    let (run, task) = world.found_run(call)?;
    if let Some(task) = task {
        let mut body = world.task_fields(run, task, call.query_flag("include_resolved_values"));
        body["job_id"] = json!(run.job_id);
        body["creator_user_name"] = json!(run.creator);
        body["run_name"] = json!(task.key);
        body["run_type"] = json!(kind_of(run));
        body["format"] = json!("SINGLE_TASK");
        return Ok(databricks_data(&body));
    }
    let mut body = world.whole_run(run, call);
    let start = page_start(call)?;
    if let Value::Object(object) = &mut body
        && paged(object, &["tasks", "job_parameters", "repair_history"], start)
        && !call.older_jobs_api
    {
        object.insert("next_page_token".to_owned(), json!(page_token(start + 100)));
    }
    Ok(databricks_data(&body))
}

pub(super) fn list(world: &mut World, call: &Call) -> HandlerResult {
    let (active, completed) = (call.query_flag("active_only"), call.query_flag("completed_only"));
    ServiceError::ensure(!(active && completed), "active_only and completed_only exclude each other.")?;
    let limit = call.number("limit")?.map_or(20, |limit| if limit == 0 { 24 } else { limit });
    let what = format!("Invalid limit {limit}: it must be less than 25.");
    ServiceError::ensure((1..=24).contains(&limit), what)?;
    let limit = usize::try_from(limit).unwrap_or(24);
    let start = page_start(call)?;
    let job = call.number("job_id")?;
    let kind = call.query_param("run_type");
    let (from, to) = (call.number("start_time_from")?, call.number("start_time_to")?);
    let now = world.now.0;
    let mut found: Vec<&JobRun> = world
        .job_runs
        .iter()
        .filter(|run| {
            job.is_none_or(|job| run.job_id == job)
                && kind.is_none_or(|kind| kind == kind_of(run))
                && !(active && run.is_over(now))
                && (!completed || run.is_over(now))
                && from.is_none_or(|from| run.created >= from)
                && to.is_none_or(|to| run.created <= to)
                && world.check_run_permission(run, &call.caller, "CAN_VIEW").is_ok()
        })
        .collect();
    found.reverse();
    found.sort_by_key(|run| std::cmp::Reverse(run.finished(now).unwrap_or(run.created)));
    let runs: Vec<Value> = found
        .iter()
        .skip(start)
        .take(limit)
        .map(|run| if call.query_flag("expand_tasks") { world.whole_run(run, call) } else { world.run_fields(run) })
        .collect();
    Ok(list_page("runs", &runs, found.len(), start + limit))
}

/// `runs/get-output`: of a task run, never of a job run.
pub(super) fn output(world: &mut World, call: &Call) -> HandlerResult {
    let (run, task) = world.found_run(call)?;
    let what = "Retrieving the output of runs with multiple tasks is not supported. Please retrieve the output of each individual task run instead.";
    let task = task.ok_or_else(|| ServiceError::invalid(what))?;
    let mut body = json!({ "metadata": world.task_fields(run, task, false), "notebook_output": {} });
    body["metadata"]["job_id"] = json!(run.job_id);
    if let Some(result) = &task.exit {
        let cut = result.floor_char_boundary(LONGEST_RESULT);
        body["notebook_output"] = json!({ "result": &result[..cut], "truncated": cut < result.len() });
    }
    if let Some((error, trace)) = &task.error {
        body["error"] = json!(error);
        body["error_trace"] = json!(trace);
    }
    Ok(databricks_data(&body))
}

pub(super) fn inspected(world: &World) -> Value {
    let now = world.now.0;
    let rows = world.job_runs.iter().map(|run| {
        let tasks: Vec<Value> = run
            .tasks
            .iter()
            .map(|task| {
                json!({
                    "task_key": task.key, "run_id": task.id, "attempt": task.attempt, "state": task_states(task).0,
                    "result": task.result, "output": task.output, "exit": task.exit, "values": task.values,
                    "parameters": task.parameters, "error": task.error.as_ref().map(|(error, _)| error),
                })
            })
            .collect();
        json!({ "run_id": run.id, "job_id": run.job_id, "state": run_states(run, now).0, "result": run.result, "tasks": tasks })
    });
    Value::Array(rows.collect())
}
