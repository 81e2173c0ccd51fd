//! What a job of ours says of itself, read back: compared with the job, it shows what was changed in it since it was written,
//! and what this version would write otherwise. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{ID_TAG, Identity, TaskWant, WorkflowHave, WorkflowWant, tasks};
use crate::databricks::jobs::Job;
use crate::engine::kinds::task::StandingTask;

impl WorkflowHave {
    /// What `create-workflow` would be asked for, with no flag that says something new. `None` where the job has no mark, or
    /// none of its tasks of ours names a dbt job.
    pub(crate) fn read_back(&self) -> Option<WorkflowWant> {
        let Job { id: _, run_as: _, settings } = &self.job;
        let identity = Identity(settings.object("tags").read(ID_TAG)?);
        let (mut wanted, mut notebook) = (Vec::new(), None);
        for StandingTask { key, job, notebook: path } in tasks::standing(settings) {
            wanted.push(TaskWant { key, job: job?, depends_on: None });
            notebook.get_or_insert(path);
        }
        Some(WorkflowWant {
            name: settings.read("name").unwrap_or_default(),
            named: false,
            identity,
            tasks: wanted,
            notebook: notebook?,
            schedule: None,
            timezone: None,
            paused: None,
            no_schedule: false,
            compute: None,
            retries: None,
            task_timeout: None,
            overrides: None,
            tags: BTreeMap::new(),
            notify: None,
            run_as: None,
            settle: Duration::ZERO,
        })
    }
}
