//! The wanted state of a dbtrigger job, reconstructed from the job. Comparing the two shows later edits and what this
//! version would write differently. Pure.

use std::time::Duration;

use super::settings::{Record, is_written, record};
use super::{ID_TAG, Identity, WorkflowHave, WorkflowWant, tasks};
use crate::databricks::jobs::Job;
use crate::engine::kinds::task::{ExistingTask, job_in_key};
use crate::spec::{Setting, TaskSettings, TaskSpec, WorkflowSettings};

/// What was written, as far as it can be reconstructed.
#[derive(Clone, Debug)]
pub(crate) struct ReadBack<W> {
    pub(crate) want: W,
    /// Whether the job was edited and the original is unknown, so that `want` is the current state.
    pub(crate) is_lost: bool,
}

impl WorkflowHave {
    /// The wanted state of `create-workflow` with no new settings. If the dbt job or the notebook was edited, the
    /// digest in the tag tells whether it was one of `jobs` or the one in its task's key, and this notebook. `None`
    /// if the job has no mark, or a dbtrigger task names no dbt job.
    pub(crate) fn read_back(&self, jobs: &[u64], notebook: Option<&str>) -> Option<ReadBack<WorkflowWant>> {
        let settings = &self.job.settings;
        let there = self.as_it_stands()?;
        match record(settings) {
            Record::Agrees | Record::Unknown => return Some(ReadBack { want: there, is_lost: false }),
            Record::Differs => {}
        }
        let with = |task_of: &dyn Fn(&TaskSpec) -> TaskSpec, path: &str| WorkflowWant {
            tasks: there.tasks.iter().map(task_of).collect(),
            notebook: path.to_owned(),
            ..there.clone()
        };
        let in_key = |task: &TaskSpec| TaskSpec { job: job_in_key(&task.key).unwrap_or(task.job), ..task.clone() };
        let mut candidates = Vec::new();
        for path in [Some(there.notebook.as_str()), notebook].into_iter().flatten() {
            candidates.push(with(&TaskSpec::clone, path));
            candidates.push(with(&in_key, path));
            for job in jobs.iter().filter(|_| there.tasks.len() == 1) {
                candidates.push(with(&|task| TaskSpec { job: *job, ..task.clone() }, path));
                candidates.push(with(&|task| TaskSpec { job: *job, key: format!("dbt_{job}"), ..task.clone() }, path));
            }
        }
        let written = candidates.into_iter().find(|want| is_written(want, settings));
        let is_lost = written.is_none();
        Some(ReadBack { want: written.unwrap_or(there), is_lost })
    }

    /// The wanted state that equals the current one.
    fn as_it_stands(&self) -> Option<WorkflowWant> {
        let Job { id: _, run_as: _, settings } = &self.job;
        let identity = Identity(settings.object("tags").read(ID_TAG)?);
        let (mut wanted, mut notebook) = (Vec::new(), None);
        for ExistingTask { key, job, notebook: path } in tasks::own_tasks(settings) {
            // If the parameter was removed, the key may still name the dbt job.
            let job = job.or_else(|| job_in_key(&key));
            wanted.push(TaskSpec { key, job: job?, depends_on: Setting::Keep });
            notebook.get_or_insert(path);
        }
        Some(WorkflowWant {
            name: settings.read("name").unwrap_or_default(),
            named: false,
            identity,
            tasks: wanted,
            notebook: notebook?,
            compute: Setting::Keep,
            each_task: TaskSettings::default(),
            settings: WorkflowSettings::default(),
            settle: Duration::ZERO,
        })
    }
}
