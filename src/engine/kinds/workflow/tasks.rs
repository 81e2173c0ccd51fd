//! What of the tasks in a job of ours is ours: reading it out, comparing it, writing it in. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::compute;
use super::settings::{Field, is_own, plain};
use super::{TaskWant, WorkflowWant};
use crate::databricks::raw::Raw;

/// Filled in by the workflow when it runs (databricks-api §10.5); constant for all automatic retries of one task.
const KEY: &str = "{{workspace.id}}/{{job.run_id}}/{{task.name}}/{{job.repair_count}}";
const ATTEMPT: &str = "{{task.execution_count}}";
/// The notebook waits 1440 minutes; ten more let it end by itself, with its own message, before the task is cut off.
const TASK_TIMEOUT: u64 = (1440 + 10) * 60;

/// The parameter of the notebook by which our tasks are known.
const KEY_PARAMETER: &str = "dbtrigger_key";
/// What is called so when tasks of ours are there that are wanted no more.
const FURTHER: &str = "further tasks of dbtrigger";
pub(super) const OVERRIDES: &str = "dbtrigger_overrides";

/// How a field of this task is called in what is shown and in the digest.
fn called(want: &WorkflowWant, task: &TaskWant, field: &str) -> String {
    if want.tasks.len() == 1 { format!("task.{field}") } else { format!("tasks.{}.{field}", task.key) }
}

/// What is wanted of the fields of a task that never depend on anybody else.
fn wanted_of(want: &WorkflowWant, task: &TaskWant) -> [(&'static str, Option<String>); 10] {
    let some = |text: &str| Some(text.to_owned());
    // A parameter of the workflow would win over each task's own (databricks-api §5.3).
    let own_job = (want.tasks.len() > 1).then(|| task.job.to_string());
    [
        ("task_key", some(&task.key)),
        ("notebook_task.notebook_path", Some(bare(&want.notebook))),
        ("notebook_task.source", some("WORKSPACE")),
        ("notebook_task.base_parameters.dbtrigger_key", some(KEY)),
        ("notebook_task.base_parameters.dbtrigger_attempt", some(ATTEMPT)),
        ("notebook_task.base_parameters.job_id", own_job),
        ("notebook_task.base_parameters.dbtrigger_job_id", None),
        ("notebook_task.warehouse_id", None),
        ("environment_key", None),
        ("disable_auto_optimization", some("true")),
    ]
}

/// The same fields as they are, defaults that the service fills in or leaves out made alike (databricks-api §5.5).
fn found_of(task: Option<&Raw>) -> [(&'static str, Option<String>); 10] {
    let notebook = task.map(|task| task.object("notebook_task")).unwrap_or_default();
    let base = notebook.object("base_parameters");
    let text = |raw: &Raw, name: &str| raw.read::<Value>(name).map(|value| plain(&value));
    let of_task = |name: &str| task.and_then(|task| text(task, name));
    let or = |value: Option<String>, default: &str| task.map(|_| value.unwrap_or_else(|| default.to_owned()));
    [
        ("task_key", of_task("task_key")),
        ("notebook_task.notebook_path", text(&notebook, "notebook_path").map(|path| bare(&path))),
        ("notebook_task.source", or(text(&notebook, "source"), "WORKSPACE")),
        ("notebook_task.base_parameters.dbtrigger_key", text(&base, KEY_PARAMETER)),
        ("notebook_task.base_parameters.dbtrigger_attempt", text(&base, "dbtrigger_attempt")),
        ("notebook_task.base_parameters.job_id", text(&base, "job_id")),
        ("notebook_task.base_parameters.dbtrigger_job_id", text(&base, "dbtrigger_job_id")),
        ("notebook_task.warehouse_id", text(&notebook, "warehouse_id")),
        ("environment_key", of_task("environment_key")),
        ("disable_auto_optimization", or(of_task("disable_auto_optimization"), "false")),
    ]
}

/// All tasks as they are wanted.
pub(super) fn wanted(want: &WorkflowWant) -> Vec<Field> {
    let each = want
        .tasks
        .iter()
        .flat_map(|task| wanted_of(want, task).into_iter().map(|(field, value)| (called(want, task, field), value)));
    each.chain([(FURTHER.to_owned(), None)]).collect()
}

/// The same fields as they are.
pub(super) fn found(want: &WorkflowWant, settings: &Raw) -> Vec<Field> {
    let tasks = settings.list("tasks");
    let places = places(want, &tasks);
    let mut fields = Vec::new();
    for (wanted, place) in want.tasks.iter().zip(&places) {
        let found = found_of(place.map(|place| &tasks[place]));
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

/// The tasks as they will be written, by their keys: the same whatever other tasks are wanted later.
pub(super) fn state_wanted(want: &WorkflowWant) -> BTreeMap<String, Vec<(&'static str, Option<String>)>> {
    want.tasks.iter().map(|task| (task.key.clone(), wanted_of(want, task).to_vec())).collect()
}

/// The tasks of ours as they are, by their keys.
pub(super) fn state_found(settings: &Raw) -> BTreeMap<String, Vec<(&'static str, Option<String>)>> {
    let tasks = settings.list("tasks");
    tasks.iter().filter(|task| is_ours(task)).map(|task| (key_of(task), found_of(Some(task)).to_vec())).collect()
}

/// What a flag may choose and an operator may change: each field as it is and as it will be, with the reason.
pub(super) fn chosen(
    want: &WorkflowWant,
    settings: &Raw,
) -> Vec<(String, Option<String>, Option<String>, &'static str)> {
    let tasks = settings.list("tasks");
    let own = is_own(want, settings);
    let mut fields = Vec::new();
    for (wanted, place) in want.tasks.iter().zip(places(want, &tasks)) {
        let task = place.map(|place| &tasks[place]);
        let standing = task.filter(|_| own);
        let number = |name: &str| task.map(|task| task.read::<i64>(name).unwrap_or(0).to_string());
        let base = task.map(|task| task.object("notebook_task").object("base_parameters")).unwrap_or_default();
        let overrides = base.read::<Value>(OVERRIDES).map(|value| plain(&value));
        let needs = |all: &[String]| (!all.is_empty()).then(|| all.join(", "));
        for (field, from, to, reason) in [
            (
                "max_retries",
                number("max_retries"),
                Some(retries(want, standing).to_string()),
                "--retries says so, or its default: a task that is run again may start dbt again",
            ),
            (
                "timeout_seconds",
                number("timeout_seconds"),
                Some(timeout(want, standing).to_string()),
                "--task-timeout says so, or its default: the notebook is to end by itself before it is cut off",
            ),
            (
                "notebook_task.base_parameters.dbtrigger_overrides",
                overrides.clone(),
                overrides_after(want, overrides.filter(|_| own)),
                "--override says so",
            ),
            (
                "depends_on",
                task.and_then(|task| needs(&needs_of(task))),
                needs(&needs_after(want, wanted, task, &tasks).iter().map(key_of).collect::<Vec<_>>()),
                "--depends-on says so, or a task is gone",
            ),
        ] {
            fields.push((called(want, wanted, field), from, to, reason));
        }
        for (field, from, to) in compute::fields(want.compute.as_ref(), task, own) {
            fields.push((called(want, wanted, field), from, to, "--compute says so, or its default"));
        }
    }
    fields
}

fn retries(want: &WorkflowWant, standing: Option<&Raw>) -> i64 {
    let there = || standing.map(|task| task.read("max_retries").unwrap_or(0));
    want.retries.map(i64::from).or_else(there).unwrap_or(0)
}

fn timeout(want: &WorkflowWant, standing: Option<&Raw>) -> u64 {
    let there = || standing.map(|task| task.read("timeout_seconds").unwrap_or(0));
    want.task_timeout.or_else(there).unwrap_or(TASK_TIMEOUT)
}

/// The text that the task should carry. What says the same in another order stays as it is.
fn overrides_after(want: &WorkflowWant, standing: Option<String>) -> Option<String> {
    let Some(overrides) = &want.overrides else { return standing };
    let wanted = (!overrides.is_empty()).then(|| overrides.clone());
    let there = standing.as_deref().map(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
    match (there, wanted) {
        (Some(Some(there)), Some(wanted)) if there == wanted => standing,
        (_, wanted) => wanted.map(|wanted| Value::Object(wanted).to_string()),
    }
}

/// The overrides that the tasks will carry, by their names in dbt; for a check against what the notebook allows.
pub(crate) fn override_names(want: &WorkflowWant, settings: Option<&Raw>) -> BTreeSet<String> {
    let nothing = Raw::default();
    let fields = chosen(want, settings.unwrap_or(&nothing));
    let texts = fields.into_iter().filter(|(name, ..)| name.ends_with(OVERRIDES)).filter_map(|(_, _, to, _)| to);
    texts
        .filter_map(|text| serde_json::from_str::<Map<String, Value>>(&text).ok())
        .flat_map(|all| all.into_iter().map(|(name, _)| name))
        .collect()
}

/// The keys that a task waits for, in one order: the service gives them back in another (databricks-api §5.5).
fn needs_of(task: &Raw) -> Vec<String> {
    let mut needs: Vec<String> = task.list("depends_on").iter().map(key_of).collect();
    needs.sort_unstable();
    needs
}

/// What a task of ours will wait for: other people's tasks as before; ours as `--depends-on` says, and without it as before
/// as far as they stay.
fn needs_after(want: &WorkflowWant, wanted: &TaskWant, task: Option<&Raw>, tasks: &[Raw]) -> Vec<Raw> {
    let ours: BTreeSet<String> = tasks.iter().filter(|task| is_ours(task)).map(key_of).collect();
    let is_wanted = |key: &str| want.tasks.iter().any(|task| task.key == key);
    let mut needs = task.map(|task| task.list("depends_on")).unwrap_or_default();
    needs.retain(|need| {
        let key = key_of(need);
        match &wanted.depends_on {
            Some(keys) => keys.contains(&key) || !(ours.contains(&key) || is_wanted(&key)),
            None => is_wanted(&key) || !ours.contains(&key),
        }
    });
    for key in wanted.depends_on.iter().flatten() {
        if !needs.iter().any(|need| key_of(need) == *key) {
            let mut need = Raw::default();
            need.set("task_key", key);
            needs.push(need);
        }
    }
    needs.sort_by_key(key_of);
    needs
}

/// Both spellings of a path name one thing, and the service may answer with either (databricks-api §4.3).
fn bare(path: &str) -> String {
    path.strip_prefix("/Workspace").filter(|rest| rest.starts_with('/')).unwrap_or(path).to_owned()
}

pub(super) fn key_of(task: &Raw) -> String {
    task.read("task_key").unwrap_or_default()
}

fn is_ours(task: &Raw) -> bool {
    task.object("notebook_task").object("base_parameters").has(KEY_PARAMETER)
}

/// For each wanted task the place of the one that is to become it: ours by key; for the first also one of ours that would be
/// left over, or the one notebook task that there is (which is what a job looks like that somebody made by the guide, and
/// that is to be adopted).
fn places(want: &WorkflowWant, tasks: &[Raw]) -> Vec<Option<usize>> {
    let by_key = |key: &str| tasks.iter().position(|task| is_ours(task) && key_of(task) == key);
    let mut places: Vec<Option<usize>> = want.tasks.iter().map(|task| by_key(&task.key)).collect();
    if places.first() == Some(&None) {
        let left = (0..tasks.len()).find(|place| is_ours(&tasks[*place]) && !places.contains(&Some(*place)));
        places[0] = left.or(match tasks {
            [only] if only.has("notebook_task") && !is_ours(only) => Some(0),
            _ => None,
        });
    }
    places
}

/// Whether a job of somebody else is one that can become ours without harm: a single notebook task, or no task at all.
pub(super) fn can_be_adopted(want: &WorkflowWant, settings: &Raw) -> bool {
    let tasks = settings.list("tasks");
    tasks.len() <= 1 && (tasks.is_empty() || places(want, &tasks).contains(&Some(0)))
}

/// Tasks that are not ours and wait for one that would be gone.
pub(super) fn left_waiting(want: &WorkflowWant, settings: &Raw) -> Option<(String, String)> {
    let tasks = settings.list("tasks");
    let places = places(want, &tasks);
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

/// A task of somebody else that bears the key of a new one of ours: it would be overwritten.
pub(super) fn taken_key(want: &WorkflowWant, settings: &Raw) -> Option<String> {
    let tasks = settings.list("tasks");
    let places = places(want, &tasks);
    let others = tasks.iter().enumerate().filter(|(place, task)| !places.contains(&Some(*place)) && !is_ours(task));
    others.map(|(_, task)| key_of(task)).find(|key| want.tasks.iter().any(|task| task.key == *key))
}

/// All tasks to send: those of others as they are, ours with our fields in them.
pub(super) fn whole(want: &WorkflowWant, settings: &Raw) -> Vec<Raw> {
    let own = is_own(want, settings);
    let before = settings.list("tasks");
    let places = places(want, &before);
    let mut all: Vec<Option<Raw>> = before
        .iter()
        .enumerate()
        .map(|(place, task)| (places.contains(&Some(place)) || !is_ours(task)).then(|| task.clone()))
        .collect();
    for (wanted, place) in want.tasks.iter().zip(places) {
        let there = place.map(|place| &before[place]);
        let task = whole_task(want, wanted, there, own, &before);
        match place {
            Some(place) => all[place] = Some(task),
            None => all.push(Some(task)),
        }
    }
    all.into_iter().flatten().collect()
}

fn whole_task(want: &WorkflowWant, wanted: &TaskWant, there: Option<&Raw>, own: bool, before: &[Raw]) -> Raw {
    let standing = there.filter(|_| own);
    let mut task = there.cloned().unwrap_or_default();
    task.set("task_key", &wanted.key);
    let needs = needs_after(want, wanted, there, before);
    if needs.is_empty() {
        task.remove("depends_on");
    } else if there.map(needs_of) != Some(needs.iter().map(key_of).collect()) {
        task.set("depends_on", &needs);
    }
    let mut notebook = task.object("notebook_task");
    notebook.set("notebook_path", &want.notebook);
    notebook.set("source", "WORKSPACE");
    notebook.remove("warehouse_id");
    let mut base = notebook.object("base_parameters");
    base.remove("dbtrigger_job_id");
    if want.tasks.len() > 1 {
        base.set("job_id", &wanted.job.to_string());
    } else {
        base.remove("job_id");
    }
    base.set(KEY_PARAMETER, KEY);
    base.set("dbtrigger_attempt", ATTEMPT);
    let overrides = base.read::<Value>(OVERRIDES).map(|value| plain(&value)).filter(|_| own);
    match overrides_after(want, overrides) {
        Some(text) => base.set(OVERRIDES, &text),
        None => base.remove(OVERRIDES),
    }
    notebook.set("base_parameters", &base);
    task.set("notebook_task", &notebook);
    compute::write(want.compute.as_ref(), &mut task, standing.is_some());
    task.remove("environment_key");
    task.set("max_retries", &retries(want, standing));
    task.set("disable_auto_optimization", &true);
    task.set("timeout_seconds", &timeout(want, standing));
    task
}
