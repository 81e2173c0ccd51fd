//! The dependencies of an added task on other tasks. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{AddedTaskWant, key, there};
use crate::databricks::jobs::Job;
use crate::databricks::raw::Raw;
use crate::engine::Refusal;
use crate::engine::kinds::task::{key_of, need, needs_of};
use crate::spec::{Setting, TaskSpec, circle};

/// The task's future dependencies: as requested, else unchanged. An existing entry is kept whole, since it may say
/// more than the key (the outcome of a condition).
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

/// Refuses a `--depends-on` that names a task which does not exist, or one that depends on ours. `name` is that of the
/// workflow.
pub(super) fn refused(want: &AddedTaskWant, job: &Job, name: &str) -> Option<Refusal> {
    let there = there(want, &job.settings);
    let (task, _) = there.task();
    let tasks = job.settings.list("tasks");
    let own = key(want, task);
    let known: Vec<String> = tasks.iter().map(key_of).filter(|key| *key != own).collect();
    let named = want.task.depends_on.value().into_iter().flatten();
    let unknown: Vec<String> = named.filter(|key| !known.contains(key)).cloned().collect();
    if !unknown.is_empty() {
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let unknown = unknown.join(", ");
        return Some(
            Refusal::new(format!("the {name} has no task {unknown}, which --depends-on names; its tasks: {known}"))
                .advise(format!("use --depends-on {}=KEY[,KEY] with these keys", want.task.key)),
        );
    }
    let mut needs: BTreeMap<String, BTreeSet<String>> =
        tasks.iter().map(|task| (key_of(task), needs_of(task).into_iter().collect())).collect();
    needs.insert(own.clone(), after(&want.task, task).iter().map(key_of).collect());
    let circle = circle(&needs, &own);
    (!circle.is_empty()).then(|| {
        Refusal::new(format!("--depends-on makes a cycle of {}: none of them could start", circle.join(", ")))
            .advise("remove one of the dependencies, or change the other in the workspace")
    })
}
