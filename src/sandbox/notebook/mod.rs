//! Runs the notebook tasks of [`World`](super::World) with the machine's Python.
//!
//! Each task is one process that runs the driver `dbutils.py`, with a strict `dbutils`, and talks JSON lines over
//! pipes. Inside, `time` and `datetime` follow the sandbox's clock (at speed 60, a notebook's minute takes a second),
//! while socket timeouts stay in real time.

#[cfg(test)]
mod end_to_end_tests;
mod execute;
mod python;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::JoinSet;

use self::execute::{Cluster, NotebookRun, Refused, execute};
pub(super) use self::python::PythonSearch;
use self::python::{Python, prepare};
use super::server::Handle;
use super::{NotebookEnd, NotebookOutcome, NotebookTask, SecretRefused};

/// Notebooks that run at once; further tasks wait, as for a cluster.
const AT_ONCE: usize = 8;

/// Poll interval: a task may become due by time alone, without a request.
const TICK: Duration = Duration::from_millis(25);

/// Runs notebook tasks as they become due, until aborted.
pub(super) async fn serve(handle: Handle, search: PythonSearch) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let python = Arc::new(OnceCell::new());
    let search = Arc::new(search);
    let mut running = JoinSet::new();
    loop {
        let place = Arc::clone(&room).acquire_owned().await;
        let task = loop {
            if let Some(task) = handle.with_world(super::World::next_notebook) {
                break task;
            }
            while running.try_join_next().is_some() {}
            handle.changed_within(TICK).await;
        };
        let (handle, search, python) = (handle.clone(), Arc::clone(&search), Arc::clone(&python));
        running.spawn(async move {
            let end = run(&handle, &task, &search, &python).await;
            handle.with_world(|world, now| world.notebook_ended(now, task.task_run_id, end));
            handle.changed();
            drop(place);
        });
    }
}

async fn run(handle: &Handle, task: &NotebookTask, search: &PythonSearch, python: &OnceCell<Python>) -> NotebookEnd {
    let ready = python.get_or_try_init(|| prepare(search, |remark| handle.remark(remark))).await;
    let (outcome, output) = match ready {
        Ok(python) => {
            let notebook = NotebookRun {
                path: &task.path,
                source: &task.source,
                parameters: &task.parameters,
                now: handle.now(),
                speed: handle.0.speed,
                search_path: search.search_path.as_deref(),
                authority: handle.0.authority.as_deref(),
            };
            execute(python, &notebook, &Task { handle, task }).await
        }
        Err(why) => {
            handle.remark(why.as_str());
            (NotebookOutcome::Failed { error: why, trace: String::new() }, String::new())
        }
    };
    NotebookEnd { output, outcome }
}

/// A task's view of the world, limited to what its run's identity may see.
struct Task<'a> {
    handle: &'a Handle,
    task: &'a NotebookTask,
}

impl Cluster for Task<'_> {
    fn secret(&self, scope: &str, key: &str) -> Result<String, Refused> {
        let read = |world: &mut super::World, _| world.read_secret(self.task.task_run_id, scope, key);
        self.handle.with_world(read).map_err(|refused| Refused {
            kind: match &refused {
                SecretRefused::Missing { .. } => "missing",
                SecretRefused::Forbidden { .. } => "forbidden",
            },
            words: refused.to_string(),
        })
    }

    fn secrets(&self, scope: &str) -> Result<Vec<String>, Refused> {
        let state = self.handle.with_world(|world, _| world.inspect());
        let keys: Vec<String> = state["scopes"][scope]["secrets"]
            .as_object()
            .map(|secrets| secrets.keys().cloned().collect())
            .unwrap_or_default();
        // Listing needs READ, like getting. A missing scope is reported like a missing key.
        match keys.first() {
            Some(key) => self.secret(scope, key).map(|_| keys),
            None if state["scopes"][scope].is_object() => Ok(keys),
            None => Err(Refused { kind: "missing", words: format!("Scope {scope} does not exist!") }),
        }
    }

    fn set_task_value(&self, key: &str, value: Value) {
        self.handle.with_world(|world, _| {
            world.set_task_value(self.task.task_run_id, key, value);
        });
    }

    fn task_value(&self, task: &str, key: &str) -> Option<Value> {
        self.handle.with_world(|world, _| world.task_value(self.task.task_run_id, task, key))
    }

    fn is_cancelled(&self) -> bool {
        self.handle.with_world(|world, _| world.is_cancelled(self.task.task_run_id))
    }
}
