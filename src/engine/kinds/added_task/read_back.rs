//! What the tasks of ours in somebody's workflow say of themselves, read back. Pure.

use super::AddedTaskWant;
use super::mark::Mark;
use crate::databricks::jobs::Job;
use crate::engine::kinds::TaskWant;
use crate::engine::kinds::task::{StandingTask, standing_task};

/// What would be asked for to add the tasks of ours in this workflow once more, with no flag that says something new: compared
/// with the workflow, it shows what was changed in them since. One that names no dbt job is left out.
pub(crate) fn read_back(job: &Job, name: &str) -> Vec<AddedTaskWant> {
    let tasks = job.settings.list("tasks");
    let all = tasks.iter().filter_map(|task| {
        let Mark { key, digest: _ } = Mark::of(task)?;
        let StandingTask { key: _, job: dbt_job, notebook } = standing_task(&job.settings, task);
        Some(AddedTaskWant {
            workflow: job.id,
            workflow_name: name.to_owned(),
            task: TaskWant { key, job: dbt_job?, depends_on: None },
            notebook,
            compute: None,
            retries: None,
            task_timeout: None,
            overrides: None,
        })
    });
    all.collect()
}
