//! What an added task waits for, among tasks of others. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{AddedTaskWant, key, there};
use crate::databricks::jobs::Job;
use crate::databricks::raw::Raw;
use crate::engine::kinds::task::{circle, key_of, need, needs_of};
use crate::engine::kinds::workflow::TaskWant;

/// What the task will wait for: as said, and without a word as before. An entry that is there stays as it is, since it may say
/// more than the key (the outcome of a condition, databricks-api §5.2).
pub(super) fn after(want: &TaskWant, task: Option<&Raw>) -> Vec<Raw> {
    let mut needs = task.map(|task| task.list("depends_on")).unwrap_or_default();
    if let Some(keys) = &want.depends_on {
        needs.retain(|need| keys.contains(&key_of(need)));
        for key in keys {
            if !needs.iter().any(|need| key_of(need) == *key) {
                needs.push(need(key));
            }
        }
    }
    needs.sort_by_key(key_of);
    needs
}

/// The keys that `--depends-on` names and no other task of the workflow has, with those that there are.
pub(crate) fn unknown_needs(want: &AddedTaskWant, job: &Job) -> Option<(Vec<String>, Vec<String>)> {
    let there = there(want, &job.settings);
    let own = key(want, there.task().0);
    let tasks = job.settings.list("tasks");
    let known: Vec<String> = tasks.iter().map(key_of).filter(|key| *key != own).collect();
    let named = want.task.depends_on.iter().flatten();
    let unknown: Vec<String> = named.filter(|key| !known.contains(key)).cloned().collect();
    (!unknown.is_empty()).then_some((unknown, known))
}

/// The tasks that wait for one another in a circle, once ours waits for what it should; empty if there is none.
pub(crate) fn circle_with_ours(want: &AddedTaskWant, job: &Job) -> Vec<String> {
    let there = there(want, &job.settings);
    let (task, _) = there.task();
    let tasks = job.settings.list("tasks");
    let mut needs: BTreeMap<String, BTreeSet<String>> =
        tasks.iter().map(|task| (key_of(task), needs_of(task).into_iter().collect())).collect();
    let own = key(want, task);
    needs.insert(own.clone(), after(&want.task, task).iter().map(key_of).collect());
    circle(&needs, &own)
}
