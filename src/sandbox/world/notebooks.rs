//! The interface to the notebook runner: hands out notebook tasks and takes their results.

use std::collections::BTreeMap;

use serde_json::Value;

use super::job_runs::{JobRun, Stage, TaskRun};
use super::references::{ReferenceValues, substituted};
use super::{NotebookEnd, NotebookOutcome, NotebookTask, SecretRefused, World};
use crate::sandbox::SimTime;

/// Message of a task whose notebook raised an exception.
const FAILED: &str = "Workload failed, see run output for details";
/// Longest exit value, in bytes; a longer one is cut.
pub(super) const LONGEST_RESULT: usize = 5 * 1024 * 1024;

/// Returns the value of `{{tasks.T.WHAT}}`.
fn of_other(run: &JobRun, key: &str, what: &str) -> Option<String> {
    let task = run.last(key)?;
    match what {
        "run_id" => Some(task.id.to_string()),
        "result_state" => task.result.map(str::to_lowercase),
        "error_code" => task.error.as_ref().map(|_| "RUN_EXECUTION_ERROR".to_owned()),
        values => task
            .values
            .get(values.strip_prefix("values.")?)
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
    }
}

/// Returns widget values: base parameters, overridden by job parameters, with references substituted.
fn parameters(run: &JobRun, task: &TaskRun, job_name: &str, path: &str, origin: &str) -> BTreeMap<String, String> {
    let others = |key: &str, what: &str| of_other(run, key, what);
    let mut values = ReferenceValues {
        job_id: run.job_id,
        job_name,
        run_id: run.id,
        started: SimTime(run.started.unwrap_or(run.created)),
        task_key: &task.key,
        task_run_id: task.id,
        attempt: task.attempt,
        repairs: run.repair_history.len(),
        notebook_path: path,
        origin,
        parameters: &[],
        others: &others,
    };
    let pushed: Vec<(String, String)> =
        run.parameters.iter().map(|(name, _, value)| (name.clone(), substituted(value, &values))).collect();
    values.parameters = &pushed;
    let base =
        run.task_settings(&task.key)["notebook_task"]["base_parameters"].as_object().cloned().unwrap_or_default();
    let mut all: BTreeMap<String, String> = base
        .iter()
        .map(|(name, value)| (name.clone(), substituted(value.as_str().unwrap_or_default(), &values)))
        .collect();
    all.extend(pushed);
    all
}

impl World {
    fn place_of(&self, task: i64) -> Option<(usize, usize)> {
        self.job_runs
            .iter()
            .enumerate()
            .find_map(|(run, found)| Some((run, found.tasks.iter().position(|known| known.id == task)?)))
    }

    /// Returns the next ready notebook task and moves it to RUNNING. A task whose notebook is missing, or hidden from
    /// the run's identity, fails instead.
    pub fn next_notebook(&mut self, now: SimTime) -> Option<NotebookTask> {
        self.advance(now);
        let now = self.now.0;
        loop {
            let (run, task) = self.job_runs.iter().enumerate().find_map(|(run, found)| {
                let ready = |task: &TaskRun| matches!(task.stage, Stage::Pending { ready } if ready <= now);
                Some((run, found.tasks.iter().position(ready)?))
            })?;
            let found = &self.job_runs[run];
            let attempt = &found.tasks[task];
            let settings = found.task_settings(&attempt.key);
            let path = settings["notebook_task"]["notebook_path"].as_str().unwrap_or_default().to_owned();
            let identity = found.identity.clone();
            let job_name = found.settings.get("name").and_then(Value::as_str).unwrap_or_default();
            let parameters = parameters(found, attempt, job_name, &path, &self.origin);
            let source = self.notebook_for(&identity, &path);
            let found = &mut self.job_runs[run];
            let attempt = &mut found.tasks[task];
            attempt.started = Some(now);
            attempt.parameters.clone_from(&parameters);
            let Some(source) = source else {
                let message = format!(
                    "Unable to access the notebook \"{path}\". Either it does not exist, or the identity used to run this job, {identity}, lacks the required permissions."
                );
                attempt.code = Some("RESOURCE_NOT_FOUND");
                attempt.error = Some((message.clone(), String::new()));
                found.end_task(task, now, "FAILED", &message, &mut self.ids);
                self.advance_job_runs();
                continue;
            };
            attempt.stage = Stage::Running;
            return Some(NotebookTask { task_run_id: attempt.id, path, source, parameters, identity });
        }
    }

    /// Returns a secret as `dbutils.secrets.get` in this task does, with the run's identity and the scope's ACLs.
    ///
    /// # Errors
    /// The secret does not exist, or the identity may not read it.
    pub fn read_secret(&self, task: i64, scope: &str, key: &str) -> Result<String, SecretRefused> {
        match self.place_of(task) {
            Some((run, _)) => self.secret_for(&self.job_runs[run].identity, scope, key),
            None => Err(SecretRefused::Missing { scope: scope.to_owned(), key: key.to_owned() }),
        }
    }

    /// Implements `dbutils.jobs.taskValues.set`.
    pub fn set_task_value(&mut self, task: i64, key: &str, value: Value) {
        if let Some((run, task)) = self.place_of(task) {
            self.job_runs[run].tasks[task].values.insert(key.to_owned(), value);
        }
    }

    /// Implements `dbutils.jobs.taskValues.get`: the value set by the last attempt of `task_key` in the same run.
    pub fn task_value(&self, task: i64, task_key: &str, key: &str) -> Option<Value> {
        let (run, _) = self.place_of(task)?;
        self.job_runs[run].last(task_key)?.values.get(key).cloned()
    }

    /// Records the result of a notebook from [`World::next_notebook`]. A task that was stopped meanwhile keeps its
    /// result but takes the printed text.
    pub fn notebook_ended(&mut self, now: SimTime, task: i64, end: NotebookEnd) {
        self.advance(now);
        let Some((run, task)) = self.place_of(task) else {
            return;
        };
        let NotebookEnd { output, outcome } = end;
        let found = &mut self.job_runs[run];
        let attempt = &mut found.tasks[task];
        attempt.output = output;
        let stopped = match attempt.stage {
            Stage::Stopping { result, .. } => Some(result),
            Stage::Running => None,
            Stage::Blocked | Stage::Pending { .. } | Stage::WaitingForRetry { .. } | Stage::Ended => return,
        };
        let (result, message) = match outcome {
            NotebookOutcome::Exited { result } => {
                attempt.exit = Some(result);
                ("SUCCESS", "")
            }
            NotebookOutcome::Finished => ("SUCCESS", ""),
            NotebookOutcome::Failed { error, trace } => {
                attempt.error = Some((error, trace));
                ("FAILED", FAILED)
            }
        };
        let (result, message) = stopped.map_or((result, message), |stopped| (stopped, ""));
        found.end_task(task, self.now.0, result, message, &mut self.ids);
        self.advance_job_runs();
    }

    /// Whether a task was canceled, timed out or has ended, so its notebook must be interrupted.
    pub fn is_cancelled(&self, task: i64) -> bool {
        self.place_of(task).is_none_or(|(run, task)| match self.job_runs[run].tasks[task].stage {
            Stage::Stopping { .. } | Stage::Ended => true,
            Stage::Blocked | Stage::Pending { .. } | Stage::WaitingForRetry { .. } | Stage::Running => false,
        })
    }
}
