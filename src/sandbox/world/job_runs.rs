//! Runs of jobs: how they start, progress and end.
//!
//! There are no timers: [`World::advance_job_runs`] updates every run to the current moment.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::World;
use super::databricks_jobs::Job;
use super::job_repairs::RepairAttempt;
use super::job_results::Decision;
use super::job_settings::{is_serverless, tasks, texts, whole};

/// Start time of serverless compute, in milliseconds.
const COLD_START: i64 = 8_000;
/// Cleanup time between a run's end and TERMINATED, in milliseconds.
pub(super) const CLEAN_UP: i64 = 2_000;
/// How long a canceled task may take to end its notebook, in milliseconds.
const GRACE: i64 = 120_000;
/// Automatic retries of a failed serverless task unless disabled.
const AUTO_OPTIMIZATION_RETRIES: i64 = 1;

#[derive(Clone, Default)]
pub(super) struct JobRun {
    pub(super) id: i64,
    pub(super) job_id: i64,
    /// Created by `runs/submit`: its job is not listed, and only its submitter has access.
    pub(super) one_time: bool,
    pub(super) creator: String,
    pub(super) identity: String,
    pub(super) created: i64,
    pub(super) queued: bool,
    pub(super) started: Option<i64>,
    /// When its last task ended; it is TERMINATED after [`CLEAN_UP`].
    pub(super) ended: Option<i64>,
    pub(super) result: Option<&'static str>,
    pub(super) message: String,
    pub(super) stopped: Option<&'static str>,
    pub(super) token: Option<String>,
    /// The job's settings when the run was created.
    pub(super) settings: Map<String, Value>,
    /// Name, default, value.
    pub(super) parameters: Vec<(String, Option<String>, String)>,
    pub(super) tasks: Vec<TaskRun>,
    /// The original run and its repairs.
    pub(super) repair_attempts: Vec<RepairAttempt>,
    /// `repair_history` entries: all of `repair_attempts` but the last.
    pub(super) repair_history: Vec<Value>,
}

/// One attempt of one task.
#[derive(Clone, Default)]
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
    /// A `termination_details` code that differs from the result's usual one.
    pub(super) code: Option<&'static str>,
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) values: Map<String, Value>,
    pub(super) output: String,
    pub(super) exit: Option<String>,
    pub(super) error: Option<(String, String)>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Stage {
    #[default]
    Blocked,
    /// Waits for compute until `ready`, then for the notebook runner.
    Pending {
        ready: i64,
    },
    /// Between two attempts.
    WaitingForRetry {
        until: i64,
    },
    Running,
    /// Stopping since that moment; will end with this result.
    Stopping {
        since: i64,
        result: &'static str,
    },
    Ended,
}

impl TaskRun {
    pub(super) fn new(key: &str, id: i64, attempt: i64, first_attempt: i64, stage: Stage) -> TaskRun {
        TaskRun { key: key.to_owned(), id, attempt, first_attempt, stage, ..TaskRun::default() }
    }

    /// Whether the task succeeded or was not meant to run.
    pub(super) fn is_good(&self) -> bool {
        matches!(self.result, Some("SUCCESS" | "EXCLUDED" | "DISABLED"))
    }

    pub(super) fn end(&mut self, now: i64, result: &'static str, message: impl Into<String>) {
        self.stage = Stage::Ended;
        self.ended = Some(now);
        self.result = Some(result);
        self.message = message.into();
    }
}

impl JobRun {
    /// Creates a run with the job's current settings and no tasks.
    pub(super) fn new(id: i64, job_id: i64, job: &Job, creator: &str, now: i64) -> JobRun {
        JobRun {
            id,
            job_id,
            creator: creator.to_owned(),
            identity: job.identity().to_owned(),
            created: now,
            settings: job.settings.clone(),
            repair_attempts: vec![RepairAttempt { id, started: now, first: 0 }],
            ..JobRun::default()
        }
    }

    /// Returns the task attempts of the last repair attempt.
    pub(super) fn current(&self) -> &[TaskRun] {
        &self.tasks[self.repair_attempts.last().map_or(0, |attempt| attempt.first)..]
    }

    /// Whether the run is TERMINATED at `now`.
    pub(super) fn is_over(&self, now: i64) -> bool {
        self.ended.is_some_and(|ended| now >= ended + CLEAN_UP)
    }

    pub(super) fn finished(&self, now: i64) -> Option<i64> {
        self.ended.map(|ended| ended + CLEAN_UP).filter(|end| now >= *end)
    }

    pub(super) fn task_settings(&self, key: &str) -> &Value {
        tasks(&self.settings).iter().find(|task| task["task_key"] == key).unwrap_or(&Value::Null)
    }

    /// Returns the last attempt of a task.
    pub(super) fn last(&self, key: &str) -> Option<&TaskRun> {
        self.tasks.iter().rev().find(|task| task.key == key)
    }

    pub(super) fn begin(&mut self, now: i64) {
        self.queued = false;
        self.started = Some(now);
        if self.tasks.is_empty() {
            self.ended = Some(now);
            self.result = Some("SUCCESS");
        }
    }

    /// Stops everything that has not ended.
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

    /// Advances the run by one step toward `now`; returns whether anything changed.
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
            self.set_result(now);
            changed = true;
        }
        changed
    }

    fn step_task(&mut self, index: usize, now: i64, ids: &mut super::ids::Ids) -> bool {
        let key = self.tasks[index].key.clone();
        let settings = self.task_settings(&key).clone();
        match self.tasks[index].stage {
            Stage::Blocked => match self.decision(&settings) {
                Decision::NotYet => return false,
                Decision::Start => {
                    let ready = self.started.unwrap_or(now).max(self.last_end(&settings)) + COLD_START;
                    self.tasks[index].stage = Stage::Pending { ready };
                }
                Decision::End(result) => {
                    let why = if result == "EXCLUDED" {
                        "The run condition of the task is not met."
                    } else {
                        "Task skipped because one or more of its upstream dependencies did not succeed."
                    };
                    self.tasks[index].end(now, result, why);
                }
            },
            Stage::WaitingForRetry { until } if now >= until => {
                self.tasks[index].stage = Stage::Pending { ready: until + COLD_START };
            }
            Stage::Running => {
                let limit = settings.get("timeout_seconds").and_then(Value::as_i64).unwrap_or(0) * 1000;
                let due = self.tasks[index].started.unwrap_or(now) + limit;
                if limit == 0 || now < due {
                    return false;
                }
                self.tasks[index].stage = Stage::Stopping { since: due, result: "TIMEDOUT" };
            }
            Stage::Stopping { since, result } if now >= since + GRACE => {
                self.end_task(index, since + GRACE, result, "", ids);
            }
            Stage::Pending { .. } | Stage::WaitingForRetry { .. } | Stage::Stopping { .. } | Stage::Ended => {
                return false;
            }
        }
        true
    }

    fn last_end(&self, settings: &Value) -> i64 {
        let needs = texts(settings.get("depends_on"), "task_key");
        needs.iter().filter_map(|need| self.last(need)?.ended).max().unwrap_or(0)
    }

    /// Ends an attempt and starts the next one if retries are left.
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
        // The interval starts at the start of the failed attempt.
        let until = now.max(self.tasks[index].started.unwrap_or(now) + count("min_retry_interval_millis"));
        let first = self.tasks[index].first_attempt;
        self.tasks.push(TaskRun::new(&key, ids.next_id(), attempt + 1, first, Stage::WaitingForRetry { until }));
    }
}

impl TaskRun {
    pub(super) fn stop(&mut self, now: i64, result: &'static str) {
        match self.stage {
            Stage::Running => self.stage = Stage::Stopping { since: now, result },
            Stage::Blocked | Stage::Pending { .. } | Stage::WaitingForRetry { .. } => {
                self.end(now, result, "");
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
                if run.queued && self.active_runs(run.job_id) < whole(&run.settings, "max_concurrent_runs", 1) {
                    self.job_runs[index].begin(now);
                    changed = true;
                }
            }
            if !changed {
                return;
            }
        }
    }

    pub(super) fn active_runs(&self, job: i64) -> i64 {
        let active = self.job_runs.iter().filter(|run| run.job_id == job && !run.queued && !run.is_over(self.now.0));
        i64::try_from(active.count()).unwrap_or(i64::MAX)
    }
}
