//! The dependencies of an added task on other tasks. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{AddedTaskWant, key, there};
use crate::databricks::jobs::Job;
use crate::databricks::raw::Raw;
use crate::engine::kinds::task::{key_of, need, needs_of};
use crate::spec::{Setting, TaskSpec, circle};

/// The task's future dependencies: as requested, else unchanged. An existing entry is kept whole, since it may say
/// more than the key (the outcome of a condition, databricks-api §5.2).
pub(super) fn after(want: &TaskSpec, task: Option<&Raw>) -> Vec<Raw> {
    let mut needs = task.map(|task| task.list("depends_on")).unwrap_or_default();
    match &want.depends_on {
        Setting::Keep => {}
        Setting::Set(keys) => {
            needs.retain(|need| keys.contains(&key_of(need)));
            for key in keys {
                if !needs.iter().any(|need| key_of(need) == *key) {
                    needs.push(need(key));
                }
            }
        }
        Setting::Clear => needs.clear(),
    }
    needs.sort_by_key(key_of);
    needs
}

/// The keys in `--depends-on` that no other task has, with those that exist.
pub(crate) fn unknown_needs(want: &AddedTaskWant, job: &Job) -> Option<(Vec<String>, Vec<String>)> {
    let there = there(want, &job.settings);
    let own = key(want, there.task().0);
    let tasks = job.settings.list("tasks");
    let known: Vec<String> = tasks.iter().map(key_of).filter(|key| *key != own).collect();
    let named = want.task.depends_on.value().into_iter().flatten();
    let unknown: Vec<String> = named.filter(|key| !known.contains(key)).cloned().collect();
    (!unknown.is_empty()).then_some((unknown, known))
}

/// The tasks in a dependency cycle with ours as it will be; empty if there is none.
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
