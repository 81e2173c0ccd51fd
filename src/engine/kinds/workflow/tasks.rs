//! The dbtrigger tasks in a dbtrigger job: reading, comparing and writing them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::WorkflowWant;
use super::settings::{Field, is_own};
use crate::databricks::raw::Raw;
use crate::engine::kinds::added_task::is_added;
use crate::engine::kinds::task::{self, Chosen, ExistingTask, JOB, Recipe, State, has_key, key_of, need};
use crate::spec::{Setting, TaskSpec};

/// Name of the field that lists our tasks that are no longer wanted.
const FURTHER: &str = "other dbtrigger tasks";

/// The name of a task's field, in reports and in the digest.
fn called(want: &WorkflowWant, task: &TaskSpec, field: &str) -> String {
    if want.tasks.len() == 1 { format!("task.{field}") } else { format!("tasks.{}.{field}", task.key) }
}

fn recipe<'a>(want: &'a WorkflowWant, task: &'a TaskSpec) -> Recipe<'a> {
    Recipe {
        key: &task.key,
        job: task.job,
        // A workflow parameter would win over each task's own.
        job_parameter: (want.tasks.len() > 1).then_some(JOB),
        notebook: &want.notebook,
        compute: &want.compute,
        settings: &want.each_task,
    }
}

/// The wanted values of all managed task fields.
pub(super) fn wanted(want: &WorkflowWant) -> Vec<Field> {
    let each = want.tasks.iter().flat_map(|task| {
        recipe(want, task).managed().into_iter().map(|(field, value)| (called(want, task, field), value))
    });
    each.chain([(FURTHER.to_owned(), None)]).collect()
}

/// The same fields as they are.
pub(super) fn found(want: &WorkflowWant, settings: &Raw) -> Vec<Field> {
    let tasks = settings.list("tasks");
    let places = places(want, settings);
    let mut fields = Vec::new();
    for (wanted, place) in want.tasks.iter().zip(&places) {
        let found = task::found(place.map(|place| &tasks[place]));
        fields.extend(found.into_iter().map(|(field, value)| (called(want, wanted, field), value)));
    }
    let further: Vec<String> = tasks
        .iter()
        .enumerate()
        .filter(|(place, task)| !places.contains(&Some(*place)) && is_ours(task))
        .map(|(_, task)| key_of(task))
        .collect();
    fields.push((FURTHER.to_owned(), (!further.is_empty()).then(|| further.join(", "))));
    fields
}

/// The tasks as they will be written, by key; independent of which other tasks are wanted later.
pub(super) fn state_wanted(want: &WorkflowWant) -> BTreeMap<String, State> {
    want.tasks.iter().map(|task| (task.key.clone(), recipe(want, task).managed())).collect()
}

/// The dbtrigger tasks as they are, by key.
pub(super) fn state_found(settings: &Raw) -> BTreeMap<String, State> {
    let tasks = settings.list("tasks");
    tasks.iter().filter(|task| is_ours(task)).map(|task| (key_of(task), task::found(Some(task)))).collect()
}

/// The settings that a flag may choose and an operator may change, by task.
fn chosen_of<'a>(want: &'a WorkflowWant, settings: &Raw) -> Vec<(&'a TaskSpec, Vec<Chosen>)> {
    let tasks = settings.list("tasks");
    let own = is_own(want, settings);
    let chosen = want.tasks.iter().zip(places(want, settings)).map(|(wanted, place)| {
        let task = place.map(|place| &tasks[place]);
        (wanted, recipe(want, wanted).chosen(task, own, &needs_after(want, wanted, task, settings)))
    });
    chosen.collect()
}

/// The same, as field name, current value, future value and reason.
pub(super) fn chosen(
    want: &WorkflowWant,
    settings: &Raw,
) -> Vec<(String, Option<String>, Option<String>, &'static str)> {
    let all = chosen_of(want, settings).into_iter().flat_map(|(task, chosen)| {
        chosen
            .into_iter()
            .map(|Chosen { field, from, to, reason }| (called(want, task, field), from, to, reason))
            .collect::<Vec<_>>()
    });
    all.collect()
}

/// The names of the overrides that the tasks will carry, for a check against what the notebook allows.
pub(crate) fn override_names(want: &WorkflowWant, settings: Option<&Raw>) -> BTreeSet<String> {
    let nothing = Raw::default();
    let chosen = chosen_of(want, settings.unwrap_or(&nothing));
    chosen.iter().flat_map(|(_, chosen)| task::override_names(chosen)).collect()
}

/// A task's future dependencies: those on others' tasks are kept; those on ours follow `--depends-on`, or without
/// the flag are kept as long as the task remains.
fn needs_after(want: &WorkflowWant, wanted: &TaskSpec, task: Option<&Raw>, settings: &Raw) -> Vec<Raw> {
    let tasks = settings.list("tasks");
    let places = places(want, settings);
    let ours: BTreeSet<String> = tasks.iter().filter(|task| is_ours(task)).map(key_of).collect();
    let is_wanted = |key: &str| want.tasks.iter().any(|task| task.key == key);
    let mut needs = task.map(|task| task.list("depends_on")).unwrap_or_default();
    // A task whose key changes stays a dependency.
    for need in &mut needs {
        let key = key_of(need);
        let is_it = |place: &Option<usize>| place.is_some_and(|place| key_of(&tasks[place]) == key);
        if let Some((now, _)) = want.tasks.iter().zip(&places).find(|(_, place)| is_it(place)) {
            need.set("task_key", &now.key);
        }
    }
    needs.retain(|need| {
        let key = key_of(need);
        let is_ours = ours.contains(&key);
        match &wanted.depends_on {
            Setting::Set(keys) => keys.contains(&key) || !(is_ours || is_wanted(&key)),
            Setting::Clear => !(is_ours || is_wanted(&key)),
            Setting::Keep => is_wanted(&key) || !is_ours,
        }
    });
    for key in wanted.depends_on.value().into_iter().flatten() {
        if !needs.iter().any(|need| key_of(need) == *key) {
            needs.push(need(key));
        }
    }
    needs.sort_by_key(key_of);
    needs
}

/// Whether a task is ours. One added to an existing workflow belongs to the command that added it.
pub(super) fn is_ours(task: &Raw) -> bool {
    has_key(task) && !is_added(task)
}

/// The dbtrigger tasks as they are, without those added to an existing workflow.
pub(super) fn own_tasks(settings: &Raw) -> Vec<ExistingTask> {
    let tasks = settings.list("tasks");
    tasks.iter().filter(|task| is_ours(task)).map(|task| task::existing_task(settings, task)).collect()
}

/// For each wanted task, the index of the task that will become it: ours with the same key; else a remaining one of
/// ours with the same dbt job, so that operators' settings stay with that job. For the first wanted task also the
/// only remaining one of ours, or the job's only notebook task (a job created by hand from the guide, to be
/// adopted).
fn places(want: &WorkflowWant, settings: &Raw) -> Vec<Option<usize>> {
    let tasks = settings.list("tasks");
    let by_key = |key: &str| tasks.iter().position(|task| is_ours(task) && key_of(task) == key);
    let mut places: Vec<Option<usize>> = want.tasks.iter().map(|task| by_key(&task.key)).collect();
    let mut left: Vec<usize> =
        (0..tasks.len()).filter(|place| is_ours(&tasks[*place]) && !places.contains(&Some(*place))).collect();
    for (wanted, place) in want.tasks.iter().zip(&mut places).filter(|(_, place)| place.is_none()) {
        let starts_it = |left: &usize| task::existing_task(settings, &tasks[*left]).job == Some(wanted.job);
        *place = left.iter().position(starts_it).map(|found| left.remove(found));
    }
    if places.first() == Some(&None) {
        // With several, the choice would be arbitrary: the service lists them in a different order each time.
        places[0] = match (left.as_slice(), tasks.as_slice()) {
            ([only], _) => Some(*only),
            ([], [only]) if only.has("notebook_task") && !is_ours(only) => Some(0),
            _ => None,
        };
    }
    places
}

/// Whether someone else's job can safely become ours: it has a single notebook task, or no task.
pub(super) fn can_be_adopted(want: &WorkflowWant, settings: &Raw) -> bool {
    let tasks = settings.list("tasks");
    tasks.len() <= 1 && (tasks.is_empty() || places(want, settings).contains(&Some(0)))
}

/// A task of others that depends on one that would be removed, with the key of that one.
pub(super) fn left_waiting(want: &WorkflowWant, settings: &Raw) -> Option<(String, String)> {
    let tasks = settings.list("tasks");
    let places = places(want, settings);
    let stays = |key: &str| {
        want.tasks.iter().any(|task| task.key == key)
            || tasks
                .iter()
                .enumerate()
                .any(|(place, task)| !places.contains(&Some(place)) && !is_ours(task) && key_of(task) == key)
    };
    tasks.iter().enumerate().filter(|(place, task)| !places.contains(&Some(*place)) && !is_ours(task)).find_map(
        |(_, task)| {
            let needs = task.list("depends_on").iter().map(key_of).find(|key| !stays(key))?;
            Some((key_of(task), needs))
        },
    )
}

/// The key of someone else's task that a new dbtrigger task would overwrite.
pub(super) fn taken_key(want: &WorkflowWant, settings: &Raw) -> Option<String> {
    let tasks = settings.list("tasks");
    let places = places(want, settings);
    let others = tasks.iter().enumerate().filter(|(place, task)| !places.contains(&Some(*place)) && !is_ours(task));
    others.map(|(_, task)| key_of(task)).find(|key| want.tasks.iter().any(|task| task.key == *key))
}

/// All tasks to send: others' unchanged, ours with our fields set.
pub(super) fn whole(want: &WorkflowWant, settings: &Raw) -> Vec<Raw> {
    let own = is_own(want, settings);
    let before = settings.list("tasks");
    let places = places(want, settings);
    let mut all: Vec<Option<Raw>> = before
        .iter()
        .enumerate()
        .map(|(place, task)| (places.contains(&Some(place)) || !is_ours(task)).then(|| task.clone()))
        .collect();
    for (wanted, place) in want.tasks.iter().zip(places) {
        let there = place.map(|place| &before[place]);
        let task = recipe(want, wanted).written(there, own, &needs_after(want, wanted, there, settings));
        match place {
            Some(place) => all[place] = Some(task),
            None => all.push(Some(task)),
        }
    }
    all.into_iter().flatten().collect()
}
