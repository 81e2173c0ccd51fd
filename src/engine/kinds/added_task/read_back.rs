//! The wanted state of the tasks we added to someone's workflow, reconstructed from the workflow. Pure.

use super::description_marker::Mark;
use super::{AddedTaskWant, marked, whole};
use crate::databricks::jobs::Job;
use crate::engine::kinds::ReadBack;
use crate::engine::kinds::task::{ExistingTask, existing_task, found, job_in_key};
use crate::spec::{Setting, TaskSettings, TaskSpec};

/// The wanted state that would add our tasks to this workflow again with no new settings. Comparing it with the
/// workflow shows later edits. If the dbt job or the notebook was edited, the digest in the mark tells whether it
/// was the job in the key, and this notebook. A task without a dbt job is left out.
pub(crate) fn read_back(job: &Job, name: &str, notebook: Option<&str>) -> Vec<ReadBack<AddedTaskWant>> {
    let tasks = job.settings.list("tasks");
    let all = tasks.iter().filter_map(|task| {
        let Mark { key, digest } = Mark::of(task)?;
        let ExistingTask { key: own_key, job: dbt_job, notebook: path } = existing_task(&job.settings, task);
        let in_key = job_in_key(&key);
        let there = AddedTaskWant {
            workflow: job.id,
            workflow_name: name.to_owned(),
            task: TaskSpec { key, job: dbt_job.or(in_key)?, depends_on: Setting::Keep },
            notebook: path,
            compute: Setting::Keep,
            settings: TaskSettings::default(),
        };
        if digest == Mark::digest(marked(&found(Some(task)))) || !Mark::is_current(&digest) {
            return Some(ReadBack { want: there, is_lost: false });
        }
        let mut candidates = Vec::new();
        for path in [Some(there.notebook.as_str()), notebook].into_iter().flatten() {
            for dbt_job in [Some(there.task.job), in_key].into_iter().flatten() {
                let task = TaskSpec { job: dbt_job, ..there.task.clone() };
                candidates.push(AddedTaskWant { task, notebook: path.to_owned(), ..there.clone() });
            }
        }
        let is_it = |want: &AddedTaskWant| whole(want, &job.settings, &own_key, Some(task)).mark.digest == digest;
        let written = candidates.into_iter().find(is_it);
        let is_lost = written.is_none();
        Some(ReadBack { want: written.unwrap_or(there), is_lost })
    });
    all.collect()
}
