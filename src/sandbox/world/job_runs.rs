//! Runs of jobs: how they start, go on and end (databricks-api §5.6 to §5.8, §10.6).
//!
//! Nothing here has a timer: [`World::advance_job_runs`] brings every run up to a moment.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::World;
use super::answers::{Handled, Refusal, databricks_data};
use super::call::Call;
use super::job_settings::{is_serverless, tasks, texts, whole};

/// Serverless compute is there after so long.
const COLD_START: i64 = 8_000;
/// A run that is over cleans up for so long before it is TERMINATED.
const CLEAN_UP: i64 = 2_000;
/// A cancelled task whose notebook does not end is given up after so long.
const GRACE: i64 = 120_000;
/// Automatic re-runs of a failed serverless task that does not forbid them (§6.3).
const AUTO_OPTIMIZATION_RETRIES: i64 = 1;

#[derive(Clone)]
pub(super) struct JobRun {
    pub(super) id: i64,
    pub(super) job_id: i64,
    pub(super) creator: String,
    pub(super) identity: String,
    pub(super) created: i64,
    pub(super) queued: bool,
    pub(super) started: Option<i64>,
    /// When its last task ended; it is TERMINATED a little later.
    pub(super) ended: Option<i64>,
    pub(super) result: Option<&'static str>,
    pub(super) message: String,
    pub(super) stopped: Option<&'static str>,
    token: Option<String>,
    /// The job's settings when the run was made.
    pub(super) settings: Map<String, Value>,
    /// Name, default, value.
    pub(super) parameters: Vec<(String, Option<String>, String)>,
    pub(super) tasks: Vec<TaskRun>,
}

/// One attempt of one task.
#[derive(Clone)]
pub(super) struct TaskRun {
    pub(super) key: String,
    pub(super) id: i64,
    pub(super) attempt: i64,
    pub(super) first_attempt: i64,
    pub(super) stage: Stage,
    pub(super) started: Option<i64>,
    pub(super) ended: Option<i64>,
    pub(super) result: Option<&'static str>,
    pub(super) message: String,
    /// A code of `termination_details` other than the result's usual one.
    pub(super) code: Option<&'static str>,
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) values: Map<String, Value>,
    pub(super) output: String,
    pub(super) exit: Option<String>,
    pub(super) error: Option<(String, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Blocked,
    /// Waits for compute until then, after that for somebody to run it.
    Pending {
        ready: i64,
    },
    /// Between two attempts.
    WaitingForRetry {
        until: i64,
    },
    Running,
    /// Asked to stop at that moment, to end with this result.
    Stopping {
        since: i64,
        result: &'static str,
    },
    Ended,
}

impl TaskRun {
    pub(super) fn new(
        key: &str,
        id: i64,
        attempt: i64,
        first_attempt: i64,
        stage: Stage,
    ) -> TaskRun {
        TaskRun {
            key: key.to_owned(),
            id,
            attempt,
            first_attempt,
            stage,
            started: None,
            ended: None,
            result: None,
            message: String::new(),
            code: None,
            parameters: BTreeMap::new(),
            values: Map::new(),
            output: String::new(),
            exit: None,
            error: None,
        }
    }

    pub(super) fn end(&mut self, now: i64, result: &'static str, message: impl Into<String>) {
        self.stage = Stage::Ended;
        self.ended = Some(now);
        self.result = Some(result);
        self.message = message.into();
    }

    fn is_failed(&self) -> bool {
        matches!(self.result, Some("FAILED" | "TIMEDOUT" | "UPSTREAM_FAILED"))
    }
}

impl JobRun {
    /// TERMINATED, seen from this moment.
    pub(super) fn is_over(&self, now: i64) -> bool {
        self.ended.is_some_and(|ended| now >= ended + CLEAN_UP)
    }

    pub(super) fn finished(&self, now: i64) -> Option<i64> {
        self.ended
            .map(|ended| ended + CLEAN_UP)
            .filter(|end| now >= *end)
    }

    pub(super) fn task_settings(&self, key: &str) -> &Value {
        tasks(&self.settings)
            .iter()
            .find(|task| task["task_key"] == key)
            .unwrap_or(&Value::Null)
    }

    /// The last attempt of a task.
    pub(super) fn last(&self, key: &str) -> Option<&TaskRun> {
        self.tasks.iter().rev().find(|task| task.key == key)
    }

    fn begin(&mut self, now: i64) {
        self.queued = false;
        self.started = Some(now);
        if self.tasks.is_empty() {
            self.ended = Some(now);
            self.result = Some("SUCCESS");
        }
    }

    /// Stops whatever has not ended.
    pub(super) fn stop(&mut self, now: i64, result: &'static str, message: &str) {
        if self.ended.is_some() || self.stopped.is_some() {
            return;
        }
        self.stopped = Some(result);
        message.clone_into(&mut self.message);
        for task in &mut self.tasks {
            task.stop(now, result);
        }
        if self.queued {
            self.queued = false;
            self.ended = Some(now);
            self.result = Some(result);
        }
    }

    /// One step towards `now`; true if anything changed.
    fn step(&mut self, now: i64, ids: &mut super::ids::Ids) -> bool {
        let Some(started) = self.started.filter(|_| self.ended.is_none()) else {
            return false;
        };
        let mut changed = false;
        let limit = whole(&self.settings, "timeout_seconds", 0) * 1000;
        if limit > 0 && now >= started + limit && self.stopped.is_none() {
            self.stop(started + limit, "TIMEDOUT", "Run timed out.");
            changed = true;
        }
        for index in 0..self.tasks.len() {
            changed |= self.step_task(index, now, ids);
        }
        if self.tasks.iter().all(|task| task.stage == Stage::Ended) {
            self.conclude(now);
            changed = true;
        }
        changed
    }

    fn step_task(&mut self, index: usize, now: i64, ids: &mut super::ids::Ids) -> bool {
        let key = self.tasks[index].key.clone();
        let settings = self.task_settings(&key).clone();
        match self.tasks[index].stage {
            Stage::Blocked => match self.decision(&settings) {
                None => return false,
                Some(None) => {
                    let ready =
                        self.started.unwrap_or(now).max(self.last_end(&settings)) + COLD_START;
                    self.tasks[index].stage = Stage::Pending { ready };
                }
                Some(Some(result)) => {
                    let why = if result == "EXCLUDED" {
                        "The run condition of the task is not met."
                    } else {
                        "Task skipped because one or more of its upstream dependencies did not succeed."
                    };
                    self.tasks[index].end(now, result, why);
                }
            },
            Stage::WaitingForRetry { until } if now >= until => {
                self.tasks[index].stage = Stage::Pending {
                    ready: until + COLD_START,
                };
            }
            Stage::Running => {
                let limit = settings
                    .get("timeout_seconds")
                    .and_then(Value::as_i64)
                    .unwrap_or(0)
                    * 1000;
                let due = self.tasks[index].started.unwrap_or(now) + limit;
                if limit == 0 || now < due {
                    return false;
                }
                self.tasks[index].stage = Stage::Stopping {
                    since: due,
                    result: "TIMEDOUT",
                };
            }
            Stage::Stopping { since, result } if now >= since + GRACE => {
                self.end_task(index, since + GRACE, result, "", ids);
            }
            Stage::Pending { .. }
            | Stage::WaitingForRetry { .. }
            | Stage::Stopping { .. }
            | Stage::Ended => return false,
        }
        true
    }

    fn last_end(&self, settings: &Value) -> i64 {
        let needs = texts(settings.get("depends_on"), "task_key");
        needs
            .iter()
            .filter_map(|need| self.last(need)?.ended)
            .max()
            .unwrap_or(0)
    }

    /// Whether a blocked task may start: not yet, yes, or it ends with that result (§5.2 `run_if`, §5.7).
    fn decision(&self, settings: &Value) -> Option<Option<&'static str>> {
        let needs = texts(settings.get("depends_on"), "task_key");
        let ends: Vec<&TaskRun> = needs.iter().filter_map(|need| self.last(need)).collect();
        if ends.iter().any(|task| task.stage != Stage::Ended) {
            return None;
        }
        if ends.is_empty() {
            return Some(None);
        }
        let good = |task: &&&TaskRun| matches!(task.result, Some("SUCCESS" | "EXCLUDED"));
        let succeeded = ends.iter().filter(good).count();
        let failed = ends.iter().filter(|task| task.is_failed()).count();
        let rule = settings
            .get("run_if")
            .and_then(Value::as_str)
            .unwrap_or("ALL_SUCCESS");
        let skipped = if failed > 0 {
            "UPSTREAM_FAILED"
        } else {
            "UPSTREAM_CANCELED"
        };
        Some(match rule {
            "ALL_DONE" => None,
            "AT_LEAST_ONE_SUCCESS" => (succeeded == 0).then_some(skipped),
            "NONE_FAILED" => (failed > 0).then_some(skipped),
            "AT_LEAST_ONE_FAILED" => (failed == 0).then_some("EXCLUDED"),
            "ALL_FAILED" => (failed < ends.len()).then_some("EXCLUDED"),
            _ => (succeeded < ends.len()).then_some(skipped),
        })
    }

    /// Ends an attempt, and begins the next one where retries are left (§10.6).
    pub(super) fn end_task(
        &mut self,
        index: usize,
        now: i64,
        result: &'static str,
        message: &str,
        ids: &mut super::ids::Ids,
    ) {
        self.tasks[index].end(now, result, message);
        let (key, attempt) = (self.tasks[index].key.clone(), self.tasks[index].attempt);
        let settings = self.task_settings(&key);
        let count = |name: &str| settings.get(name).and_then(Value::as_i64).unwrap_or(0);
        let flag = |name: &str| settings.get(name) == Some(&json!(true));
        let mut retries = count("max_retries");
        if retries == 0 && is_serverless(settings) && !flag("disable_auto_optimization") {
            retries = AUTO_OPTIMIZATION_RETRIES;
        }
        let again = result == "FAILED" || (result == "TIMEDOUT" && flag("retry_on_timeout"));
        if !again || self.stopped.is_some() || (retries >= 0 && attempt >= retries) {
            return;
        }
        // §5.2: the interval counts from the start of the failed attempt.
        let until =
            now.max(self.tasks[index].started.unwrap_or(now) + count("min_retry_interval_millis"));
        let first = self.tasks[index].first_attempt;
        self.tasks.push(TaskRun::new(
            &key,
            ids.fresh(),
            attempt + 1,
            first,
            Stage::WaitingForRetry { until },
        ));
    }

    fn conclude(&mut self, now: i64) {
        self.ended = Some(
            self.tasks
                .iter()
                .filter_map(|task| task.ended)
                .max()
                .unwrap_or(now),
        );
        if let Some(result) = self.stopped {
            self.result = Some(result);
            return;
        }
        let keys: Vec<&str> = tasks(&self.settings)
            .iter()
            .filter_map(|task| task["task_key"].as_str())
            .collect();
        let needed: Vec<&str> = tasks(&self.settings)
            .iter()
            .flat_map(|task| texts(task.get("depends_on"), "task_key"))
            .collect();
        let bad = |key: &&&str| {
            self.last(key)
                .is_some_and(|task| !matches!(task.result, Some("SUCCESS" | "EXCLUDED")))
        };
        let Some(first) = keys.iter().find(bad) else {
            self.result = Some("SUCCESS");
            return;
        };
        // §5.7: a failed leaf makes the run FAILED; otherwise it succeeded with failures.
        let leaf_failed = keys
            .iter()
            .filter(|key| !needed.contains(key))
            .any(|key| bad(&key));
        if !leaf_failed {
            self.result = Some("SUCCESS_WITH_FAILURES");
            return;
        }
        let failed = keys
            .iter()
            .find(|key| {
                self.last(key)
                    .is_some_and(|task| task.result == Some("FAILED"))
            })
            .unwrap_or(first);
        let said = self
            .last(failed)
            .map(|task| task.message.clone())
            .unwrap_or_default();
        let mut message = format!("Task {failed} failed with message: {said}.");
        if keys.iter().any(|key| {
            self.last(key)
                .is_some_and(|task| task.result == Some("UPSTREAM_FAILED"))
        }) {
            message.push_str(" This caused all downstream tasks to get skipped.");
        }
        self.message = message;
        let timed_out = self
            .last(failed)
            .is_some_and(|task| task.result == Some("TIMEDOUT"));
        let cancelled = self
            .last(failed)
            .is_some_and(|task| task.result == Some("CANCELED"));
        self.result = Some(if timed_out {
            "TIMEDOUT"
        } else if cancelled {
            "CANCELED"
        } else {
            "FAILED"
        });
    }
}

impl TaskRun {
    pub(super) fn stop(&mut self, now: i64, result: &'static str) {
        match self.stage {
            Stage::Running => self.stage = Stage::Stopping { since: now, result },
            Stage::Blocked | Stage::Pending { .. } | Stage::WaitingForRetry { .. } => {
                self.end(now, result, "")
            }
            Stage::Stopping { .. } | Stage::Ended => {}
        }
    }
}

impl World {
    pub(super) fn advance_job_runs(&mut self) {
        let now = self.now.0;
        loop {
            let mut changed = false;
            for index in 0..self.job_runs.len() {
                changed |= self.job_runs[index].step(now, &mut self.ids);
                let run = &self.job_runs[index];
                if run.queued
                    && self.active_runs(run.job_id) < whole(&run.settings, "max_concurrent_runs", 1)
                {
                    self.job_runs[index].begin(now);
                    changed = true;
                }
            }
            if !changed {
                return;
            }
        }
    }

    fn active_runs(&self, job: i64) -> i64 {
        let active = self
            .job_runs
            .iter()
            .filter(|run| run.job_id == job && !run.queued && !run.is_over(self.now.0));
        i64::try_from(active.count()).unwrap_or(i64::MAX)
    }
}

/// `run-now`.
pub(super) fn run_now(world: &mut World, call: &Call) -> Handled {
    let fields = call.fields()?;
    let job_id = fields.id("job_id")?;
    world.may(&world.databricks, job_id, &call.caller, "CAN_MANAGE_RUN")?;
    let token = fields
        .text("idempotency_token")?
        .filter(|token| !token.is_empty());
    if let Some(token) = &token {
        if token.len() > 64 {
            return Err(Refusal::invalid(
                "The idempotency token must not be longer than 64 characters.",
            ));
        }
        // §2.6: the same token gives the run that it made, whatever else the request says.
        if let Some(run) = world
            .job_runs
            .iter()
            .find(|run| run.job_id == job_id && run.token.as_ref() == Some(token))
        {
            return Ok(databricks_data(
                &json!({ "run_id": run.id, "number_in_job": run.id }),
            ));
        }
    }
    if fields.0.get("only").is_some_and(|only| !only.is_null()) {
        return Err(Refusal::NotBuilt("run-now with `only`".to_owned()));
    }
    let Some(job) = world.databricks.jobs.get(&job_id).cloned() else {
        return Err(Refusal::invalid(format!("Job {job_id} does not exist.")));
    };
    if let Some(other) = tasks(&job.settings)
        .iter()
        .find(|task| task.get("notebook_task").is_none())
    {
        return Err(Refusal::NotBuilt(format!(
            "runs of tasks without a notebook, such as {}",
            other["task_key"]
        )));
    }
    let given = fields.object("job_parameters")?.unwrap_or_default();
    let legacy = fields.object("notebook_params")?.unwrap_or_default();
    let defined = job
        .settings
        .get("parameters")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    if !defined.is_empty() && !legacy.is_empty() {
        return Err(Refusal::invalid(
            "notebook_params cannot be used with a job that defines job parameters: use job_parameters.",
        ));
    }
    if Value::Object(legacy.clone()).to_string().len() > 10_000 {
        return Err(Refusal::invalid(
            "notebook_params must not be larger than 10000 bytes.",
        ));
    }
    let parameters = parameters(&defined, &given, &legacy)?;
    let queue = fields
        .object("queue")?
        .map(Value::Object)
        .or_else(|| job.settings.get("queue").cloned());
    let may_wait = queue.is_some_and(|queue| queue.get("enabled") == Some(&json!(true)));
    let most = whole(&job.settings, "max_concurrent_runs", 1);
    let now = call.now.0;
    let mut run = JobRun {
        id: world.ids.fresh(),
        job_id,
        creator: call.caller.clone(),
        identity: job.identity().to_owned(),
        created: now,
        queued: false,
        started: None,
        ended: None,
        result: None,
        message: String::new(),
        stopped: None,
        token,
        settings: job.settings.clone(),
        parameters,
        tasks: Vec::new(),
    };
    for task in tasks(&job.settings) {
        let id = world.ids.fresh();
        run.tasks.push(TaskRun::new(
            task["task_key"].as_str().unwrap_or_default(),
            id,
            0,
            id,
            Stage::Blocked,
        ));
    }
    if world.active_runs(job_id) < most {
        run.begin(now);
    } else if may_wait && most > 0 {
        run.queued = true;
    } else {
        // §5.6: the run exists, and never ran.
        run.tasks.clear();
        run.ended = Some(now - CLEAN_UP);
        run.result = Some("MAXIMUM_CONCURRENT_RUNS_REACHED");
        "Run skipped because the limit of concurrent runs of the job is reached."
            .clone_into(&mut run.message);
    }
    let id = run.id;
    world.job_runs.push(run);
    world.advance_job_runs();
    Ok(databricks_data(
        &json!({ "run_id": id, "number_in_job": id }),
    ))
}

/// Job parameters of a run; names that the job does not define are pushed down too.
fn parameters(
    defined: &[Value],
    given: &Map<String, Value>,
    legacy: &Map<String, Value>,
) -> Result<Vec<(String, Option<String>, String)>, Refusal> {
    let text = |name: &str, value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        _ => Err(Refusal::malformed(format!(
            "Could not parse request object: job parameter {name} is no string"
        ))),
    };
    let mut all = Vec::new();
    for parameter in defined {
        let name = parameter["name"].as_str().unwrap_or_default();
        let default = parameter["default"].as_str().unwrap_or_default().to_owned();
        let value = given.get(name).map(|value| text(name, value)).transpose()?;
        all.push((
            name.to_owned(),
            Some(default.clone()),
            value.unwrap_or(default),
        ));
    }
    for (name, value) in given.iter().chain(legacy) {
        if !all.iter().any(|(known, _, _)| known == name) {
            all.push((name.clone(), None, text(name, value)?));
        }
    }
    Ok(all)
}

/// `runs/cancel`: asynchronous; takes job runs and task runs. What is over stays as it is.
pub(super) fn cancel(world: &mut World, call: &Call) -> Handled {
    let id = call.fields()?.id("run_id")?;
    let now = call.now.0;
    let found = world
        .job_runs
        .iter()
        .position(|run| run.id == id || run.tasks.iter().any(|task| task.id == id));
    let Some(index) = found else {
        return Err(Refusal::invalid(format!("Run {id} does not exist.")));
    };
    let job = world.job_runs[index].job_id;
    world.may(&world.databricks, job, &call.caller, "CAN_MANAGE_RUN")?;
    let run = &mut world.job_runs[index];
    if run.id == id {
        run.stop(now, "CANCELED", "Run cancelled.");
    } else if let Some(task) = run.tasks.iter_mut().find(|task| task.id == id) {
        task.stop(now, "CANCELED");
    }
    world.advance_job_runs();
    Ok(databricks_data(&json!({})))
}
