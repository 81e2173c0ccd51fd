//! The tasks of a one-time run that checks the tasks of a workflow. Pure.

use serde_json::value::RawValue;

use super::task::{OVERRIDES, key_of};
use crate::databricks::raw::Raw;
use crate::spec::TaskSpec;

/// In seconds. The notebook gives up after a minute, but a cluster may wait long for machines; a check that takes
/// longer hangs.
const TIMEOUT: u64 = 7200;

/// A check task for each task of a job: the same notebook on the same compute with the same overrides, in check
/// mode. A one-time run cannot use the job's clusters, so it gets a copy.
pub(crate) fn check_tasks(settings: &Raw, tasks: &[TaskSpec]) -> Vec<Raw> {
    let all = settings.list("tasks");
    let clusters = settings.list("job_clusters");
    let found = tasks.iter().filter_map(|wanted| Some((wanted, all.iter().find(|task| key_of(task) == wanted.key)?)));
    found.map(|(wanted, there)| check_task(wanted, there, &clusters)).collect()
}

fn check_task(wanted: &TaskSpec, there: &Raw, clusters: &[Raw]) -> Raw {
    let mut task = Raw::default();
    task.set("task_key", &wanted.key);
    let notebook = there.object("notebook_task");
    let mut base = Raw::default();
    base.set("job_id", &wanted.job.to_string());
    base.set("dbtrigger_mode", "check");
    if let Some(overrides) = notebook.object("base_parameters").read::<String>(OVERRIDES) {
        base.set(OVERRIDES, &overrides);
    }
    let mut run = Raw::default();
    run.set("notebook_path", &notebook.read::<String>("notebook_path").unwrap_or_default());
    run.set("source", "WORKSPACE");
    run.set("base_parameters", &base);
    task.set("notebook_task", &run);
    for field in ["existing_cluster_id", "new_cluster", "libraries"] {
        if let Some(value) = there.read::<Box<RawValue>>(field) {
            task.set(field, &value);
        }
    }
    let shared = there.read::<String>("job_cluster_key");
    let cluster = clusters.iter().find(|cluster| shared.is_some() && cluster.read("job_cluster_key") == shared);
    if let Some(cluster) = cluster.and_then(|cluster| cluster.read::<Box<RawValue>>("new_cluster")) {
        task.set("new_cluster", &cluster);
    }
    task.set("max_retries", &0);
    task.set("disable_auto_optimization", &true);
    task.set("timeout_seconds", &TIMEOUT);
    task
}
