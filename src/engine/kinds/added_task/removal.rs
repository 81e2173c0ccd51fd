//! Removing dbtrigger tasks from someone else's workflow: nothing else in it is ever sent.

use std::collections::BTreeSet;

use serde::Serialize;

use super::description_marker::Mark;
use super::{is_added, marked};
use crate::databricks::is_missing;
use crate::databricks::jobs::{self, Job};
use crate::databricks::permissions::job_permissions;
use crate::databricks::raw::Raw;
use crate::engine::apply::Inputs;
use crate::engine::kinds::task::{ExistingTask, existing_task, found, key_of, needs_of};
use crate::engine::kinds::unmanaged::fields;
use crate::engine::kinds::workflow::managed_elsewhere;
use crate::engine::kinds::{access, unmanaged};
use crate::engine::{Action, Applied, Consents, Creation, Kind, Refusal, Step};
use crate::failure::{Code, Failure};
use crate::http::{HttpError, Reader, Writer};

/// A dbtrigger task in a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Added {
    /// Its key, dbt job and notebook.
    pub(crate) task: ExistingTask,
    /// Whether a managed field was edited.
    pub(crate) is_edited: bool,
}

/// The tasks of a job that carry our mark.
pub(crate) fn added_tasks(job: &Job) -> Vec<Added> {
    let tasks = job.settings.list("tasks");
    let all = tasks.iter().filter_map(|task| {
        let mark = Mark::of(task)?;
        let is_edited = mark.digest != Mark::digest(marked(&found(Some(task))));
        Some(Added { task: existing_task(&job.settings, task), is_edited })
    });
    all.collect()
}

pub(crate) enum TaskRemoval {}

/// The tasks to remove from a job: one step for all of them, since each write changes the job.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TaskRemovalWant {
    pub(crate) workflow: u64,
    /// The job's name in the workspace.
    pub(crate) workflow_name: String,
    pub(crate) keys: Vec<String>,
    /// The caller.
    pub(crate) me: String,
}

#[derive(Clone, Debug)]
pub(crate) struct TaskRemovalHave {
    pub(crate) job: Job,
    /// Whether the caller manages it, as far as that is known.
    pub(crate) manages: bool,
}

/// The requested tasks that exist and carry our mark.
fn there(want: &TaskRemovalWant, settings: &Raw) -> Vec<String> {
    let tasks = settings.list("tasks");
    tasks.iter().filter(|task| is_added(task)).map(key_of).filter(|key| want.keys.contains(key)).collect()
}

/// The job without them.
fn intended(want: &TaskRemovalWant, settings: &Raw) -> Raw {
    let (leaving, mut whole) = (there(want, settings), settings.clone());
    let mut tasks = settings.list("tasks");
    tasks.retain(|task| !leaving.contains(&key_of(task)));
    whole.set("tasks", &tasks);
    whole
}

impl Kind for TaskRemoval {
    type Want = TaskRemovalWant;
    type Have = TaskRemovalHave;

    const KIND: &'static str = "task";
    const CREATION: Creation = Creation::IsRefused;

    fn name(want: &TaskRemovalWant) -> String {
        let TaskRemovalWant { workflow, workflow_name, keys, me: _ } = want;
        format!("{} in job {workflow} \"{workflow_name}\"", keys.join(", "))
    }

    async fn observe(reader: &Reader, want: &TaskRemovalWant) -> Result<Option<TaskRemovalHave>, HttpError> {
        let (job, permissions) =
            tokio::join!(jobs::get(reader, want.workflow), reader.read(job_permissions(want.workflow)));
        match job {
            Ok(job) => {
                let manages = access::manages(reader, &want.me, permissions).await?;
                Ok(Some(TaskRemovalHave { job, manages }))
            }
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn diff(want: &TaskRemovalWant, have: Option<&TaskRemovalHave>, _consents: &Consents) -> Action {
        let Some(TaskRemovalHave { job, manages }) = have else {
            return Action::absent();
        };
        let leaving = there(want, &job.settings);
        if leaving.is_empty() {
            return Action::absent();
        }
        if let Some(who) = managed_elsewhere(job) {
            return Action::kept(format!("the job is managed by {who}"));
        }
        if added_tasks(job).iter().any(|added| added.is_edited && leaving.contains(&added.task.key)) {
            return Action::kept("edited since dbtrigger wrote it".to_owned());
        }
        let tasks = job.settings.list("tasks");
        let waiting: BTreeSet<String> = tasks
            .iter()
            .filter(|task| !leaving.contains(&key_of(task)))
            .filter(|task| needs_of(task).iter().any(|need| leaving.contains(need)))
            .map(key_of)
            .collect();
        if !waiting.is_empty() {
            let waiting: Vec<String> = waiting.into_iter().collect();
            let name = TaskRemoval::name(want);
            return Refusal::new(format!("the task {name} stays: other tasks depend on it: {}", waiting.join(", ")))
                .advise("remove the dependency in the workspace first")
                .always();
        }
        if *manages { Action::Remove } else { Action::kept(format!("{} may not manage the job", want.me)) }
    }

    fn is_as_planned(step: &Step<TaskRemoval>, now: Option<&TaskRemovalHave>) -> bool {
        let settings = |have: Option<&TaskRemovalHave>| have.map(|have| fields(&have.job.settings));
        settings(step.have.as_ref()) == settings(now)
    }

    async fn apply(writer: &Writer, step: &mut Step<TaskRemoval>, _inputs: &Inputs) -> Result<Applied, HttpError> {
        let Some(TaskRemovalHave { job, manages: _ }) = &step.have else { return Ok(Applied::Written) };
        let keys = there(&step.want, &job.settings).into_iter().map(|key| format!("tasks/{key}"));
        let update = jobs::Update { fields_to_remove: keys.collect(), ..jobs::Update::default() };
        writer.put_once(jobs::update(job.id, &update)).await.map(|()| Applied::Written)
    }

    fn differences(step: &Step<TaskRemoval>, now: Option<&TaskRemovalHave>) -> Vec<String> {
        let still = now.map(|now| there(&step.want, &now.job.settings)).unwrap_or_default();
        still.into_iter().map(|key| format!("the task {key} is still there")).collect()
    }

    fn collateral_losses(step: &Step<TaskRemoval>) -> Vec<String> {
        let (Some(before), Some(now)) = (&step.have, &step.now) else { return Vec::new() };
        let before = &before.job.settings;
        unmanaged::lost_paths(before, &intended(&step.want, before), &now.job.settings)
    }

    fn explain(want: &TaskRemovalWant, error: &HttpError, failure: Failure) -> Failure {
        if failure.code == Code::NotAllowed && error.operation == "jobs/update" {
            return failure.advise(format!("changing job {} takes CAN_MANAGE on it", want.workflow));
        }
        failure
    }
}
