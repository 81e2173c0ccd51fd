//! What of a job's settings is ours: reading it out, comparing it, writing it in. Pure.
//!
//! Everything else in a job of ours (notifications, tags of others, permissions, description, further parameters and tasks)
//! belongs to whoever set it, and goes back byte for byte.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Identity, WorkflowWant};
use crate::databricks::raw::Raw;
use crate::engine::Change;

/// Whose job it is, for people who filter by tags.
const MANAGED_BY: (&str, &str) = ("managed-by", "dbtrigger");
/// Which of ours: the mark that a job is found by.
pub(crate) const ID_TAG: &str = "dbtrigger-id";
/// What we wrote last, as a digest: tells "edited by hand" from "to be changed". The number before the hyphen is the list of
/// fields that the digest is over; a version that manages other fields counts on.
const SETTINGS_TAG: &str = "dbtrigger-settings";
const SETTINGS_VERSION: &str = "1-";

/// Filled in by the workflow when it runs (databricks-api §10.5); constant for all automatic retries of one task.
const KEY: &str = "{{workspace.id}}/{{job.run_id}}/{{task.name}}/{{job.repair_count}}";
const ATTEMPT: &str = "{{task.execution_count}}";
/// The notebook waits 1440 minutes; ten more let it end by itself, with its own message, before the task is cut off.
const TASK_TIMEOUT: u64 = (1440 + 10) * 60;

/// The parameter of the notebook by which our tasks are known.
const KEY_PARAMETER: &str = "dbtrigger_key";

/// One field that we manage, in the service's words, and its value as text; `None`: it is not there.
type Field = (&'static str, Option<String>);

/// What is wanted of the fields that never depend on anybody else.
pub(super) fn wanted(want: &WorkflowWant) -> Vec<Field> {
    let some = |text: &str| Some(text.to_owned());
    vec![
        ("parameters.job_id", Some(want.job.to_string())),
        ("parameters.dbtrigger_job_id", None),
        ("max_concurrent_runs", some("1")),
        ("queue.enabled", some("true")),
        ("task.task_key", Some(task_key(want))),
        ("task.notebook_task.notebook_path", Some(bare(&want.notebook))),
        ("task.notebook_task.source", some("WORKSPACE")),
        ("task.notebook_task.base_parameters.dbtrigger_key", some(KEY)),
        ("task.notebook_task.base_parameters.dbtrigger_attempt", some(ATTEMPT)),
        ("task.notebook_task.base_parameters.job_id", None),
        ("task.notebook_task.base_parameters.dbtrigger_job_id", None),
        ("task.notebook_task.warehouse_id", None),
        ("task.existing_cluster_id", None),
        ("task.new_cluster", None),
        ("task.job_cluster_key", None),
        ("task.environment_key", None),
        ("task.max_retries", some("0")),
        ("task.disable_auto_optimization", some("true")),
        ("task.timeout_seconds", Some(TASK_TIMEOUT.to_string())),
        ("further tasks of dbtrigger", None),
    ]
}

/// The same fields as they are, defaults that the service fills in or leaves out made alike (databricks-api §5.5).
pub(super) fn found(want: &WorkflowWant, settings: &Raw) -> Vec<Field> {
    let tasks = settings.list("tasks");
    let ours = our_task(want, &tasks);
    let task = ours.map(|place| &tasks[place]);
    let notebook = task.map(|task| task.object("notebook_task")).unwrap_or_default();
    let base = notebook.object("base_parameters");
    let text = |raw: &Raw, name: &str| raw.read::<Value>(name).map(|value| plain(&value));
    let of_task = |name: &str| task.and_then(|task| text(task, name));
    let or = |value: Option<String>, default: &str| task.map(|_| value.unwrap_or_else(|| default.to_owned()));
    let further: Vec<String> = tasks
        .iter()
        .enumerate()
        .filter(|(place, task)| Some(*place) != ours && is_ours(task))
        .map(|(_, task)| key_of(task))
        .collect();
    vec![
        ("parameters.job_id", parameter(settings, "job_id")),
        ("parameters.dbtrigger_job_id", parameter(settings, "dbtrigger_job_id")),
        ("max_concurrent_runs", Some(text(settings, "max_concurrent_runs").unwrap_or_else(|| "1".to_owned()))),
        ("queue.enabled", Some(text(&settings.object("queue"), "enabled").unwrap_or_else(|| "true".to_owned()))),
        ("task.task_key", of_task("task_key")),
        ("task.notebook_task.notebook_path", text(&notebook, "notebook_path").map(|path| bare(&path))),
        ("task.notebook_task.source", or(text(&notebook, "source"), "WORKSPACE")),
        ("task.notebook_task.base_parameters.dbtrigger_key", text(&base, KEY_PARAMETER)),
        ("task.notebook_task.base_parameters.dbtrigger_attempt", text(&base, "dbtrigger_attempt")),
        ("task.notebook_task.base_parameters.job_id", text(&base, "job_id")),
        ("task.notebook_task.base_parameters.dbtrigger_job_id", text(&base, "dbtrigger_job_id")),
        ("task.notebook_task.warehouse_id", text(&notebook, "warehouse_id")),
        ("task.existing_cluster_id", of_task("existing_cluster_id")),
        ("task.new_cluster", of_task("new_cluster").map(|_| "a cluster of its own".to_owned())),
        ("task.job_cluster_key", of_task("job_cluster_key")),
        ("task.environment_key", of_task("environment_key")),
        ("task.max_retries", or(of_task("max_retries"), "0")),
        ("task.disable_auto_optimization", or(of_task("disable_auto_optimization"), "false")),
        ("task.timeout_seconds", or(of_task("timeout_seconds"), "0")),
        ("further tasks of dbtrigger", (!further.is_empty()).then(|| further.join(", "))),
    ]
}

/// Both spellings of a path name one thing, and the service may answer with either (databricks-api §4.3).
fn bare(path: &str) -> String {
    path.strip_prefix("/Workspace").filter(|rest| rest.starts_with('/')).unwrap_or(path).to_owned()
}

/// Texts as they are, everything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

fn parameter(settings: &Raw, name: &str) -> Option<String> {
    let all = settings.list("parameters");
    let found = all.iter().find(|parameter| parameter.read::<String>("name").as_deref() == Some(name))?;
    Some(found.read::<Value>("default").map(|value| plain(&value)).unwrap_or_default())
}

fn task_key(want: &WorkflowWant) -> String {
    format!("dbt_{}", want.job)
}

fn key_of(task: &Raw) -> String {
    task.read("task_key").unwrap_or_default()
}

fn is_ours(task: &Raw) -> bool {
    task.object("notebook_task").object("base_parameters").has(KEY_PARAMETER)
}

/// The place of the task that is to be ours: ours by key, else the first of ours, else the one notebook task that there is
/// (which is what a job looks like that somebody made by the guide, and that is to be adopted).
fn our_task(want: &WorkflowWant, tasks: &[Raw]) -> Option<usize> {
    let key = task_key(want);
    let by_key = tasks.iter().position(|task| is_ours(task) && key_of(task) == key);
    by_key.or_else(|| tasks.iter().position(is_ours)).or(match tasks {
        [only] if only.has("notebook_task") => Some(0),
        _ => None,
    })
}

/// Whether a job of somebody else is one that can become ours without harm: a single notebook task, or no task at all.
pub(super) fn can_be_adopted(want: &WorkflowWant, settings: &Raw) -> bool {
    let tasks = settings.list("tasks");
    tasks.len() <= 1 && (tasks.is_empty() || our_task(want, &tasks).is_some())
}

/// What the digest tag says of these fields.
fn digest(fields: &[Field]) -> String {
    let text = json!(fields).to_string();
    format!("{SETTINGS_VERSION}{}", hex(&Sha256::digest(text.as_bytes()), 16))
}

/// The first digits of a digest in hex: tags take few other characters.
pub(super) fn hex(digest: &[u8], digits: usize) -> String {
    let mut text = String::new();
    for byte in digest {
        let _ = write!(text, "{byte:02x}");
    }
    text.truncate(digits);
    text
}

fn tags(settings: &Raw) -> BTreeMap<String, String> {
    settings.read("tags").unwrap_or_default()
}

/// The tags as they should be: those of others, and ours.
fn our_tags(want: &WorkflowWant) -> [(&'static str, String); 3] {
    let Identity(identity) = &want.identity;
    [(MANAGED_BY.0, MANAGED_BY.1.to_owned()), (ID_TAG, identity.clone()), (SETTINGS_TAG, digest(&wanted(want)))]
}

/// Whether somebody has changed what we manage since we wrote it, to something else than what is wanted now. Without the
/// tag that would tell, whatever differs counts as edited.
pub(super) fn is_edited(want: &WorkflowWant, settings: &Raw) -> bool {
    let found = found(want, settings);
    found != wanted(want) && tags(settings).get(SETTINGS_TAG) != Some(&digest(&found))
}

/// A schedule as it stands in a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Timetable {
    pub(crate) expression: String,
    pub(crate) timezone: String,
    pub(crate) paused: bool,
}

/// The schedule that is there.
pub(crate) fn timetable(settings: &Raw) -> Option<Timetable> {
    let schedule: Raw = settings.read("schedule")?;
    Some(Timetable {
        expression: schedule.read("quartz_cron_expression")?,
        timezone: schedule.read("timezone_id").unwrap_or_else(|| "UTC".to_owned()),
        paused: schedule.read::<String>("pause_status").as_deref() == Some("PAUSED"),
    })
}

/// The schedule that should be there: a flag that was not given leaves its part as it is, or at the default where there
/// is nothing yet.
pub(crate) fn timetable_after(want: &WorkflowWant, standing: Option<Timetable>) -> Option<Timetable> {
    let expression = want.schedule.clone().or_else(|| standing.as_ref().map(|standing| standing.expression.clone()))?;
    let timezone = want.timezone.clone().or_else(|| standing.as_ref().map(|standing| standing.timezone.clone()));
    Some(Timetable {
        expression,
        timezone: timezone.unwrap_or_else(|| "UTC".to_owned()),
        paused: want.paused || standing.is_some_and(|standing| standing.paused),
    })
}

/// Something else than a schedule starts this job, and the service takes one of them only (databricks-api §5.1).
pub(super) fn other_start(settings: &Raw) -> Option<&'static str> {
    ["continuous", "trigger", "triggers"].into_iter().find(|name| settings.has(name))
}

/// What is to be changed in a job that is there, field by field.
pub(super) fn changes(want: &WorkflowWant, settings: &Raw) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut compare = |field: &str, from: Option<String>, to: Option<String>, reason: &str| {
        if from != to {
            changes.push(Change { field: field.to_owned(), from, to, reason: reason.to_owned() });
        }
    };
    if want.named {
        compare("name", settings.read("name"), Some(want.name.clone()), "--name says so");
    }
    let there = found(want, settings);
    for ((field, to), (_, from)) in wanted(want).into_iter().zip(there) {
        let reason = match field {
            "parameters.job_id" | "task.task_key" => "--job says so",
            "task.notebook_task.notebook_path" => "the notebook that reads the key and starts the dbt job",
            "task.max_retries" | "task.disable_auto_optimization" => "a task that is run again would start dbt again",
            "task.timeout_seconds" => "the notebook is to end by itself before it is cut off",
            "parameters.dbtrigger_job_id"
            | "task.notebook_task.base_parameters.job_id"
            | "task.notebook_task.base_parameters.dbtrigger_job_id" => "it would start another dbt job than --job",
            _ => "what dbtrigger manages in a workflow of its own",
        };
        compare(field, from, to, reason);
    }
    let standing = timetable(settings);
    let schedule = timetable_after(want, standing.clone());
    let part = |schedule: Option<&Timetable>, part: fn(&Timetable) -> String| schedule.map(part);
    let pause = |standing: &Timetable| if standing.paused { "PAUSED".to_owned() } else { "UNPAUSED".to_owned() };
    for (field, of, reason) in [
        (
            "schedule.quartz_cron_expression",
            (|it| it.expression.clone()) as fn(&Timetable) -> String,
            "--schedule says so",
        ),
        ("schedule.timezone_id", |it| it.timezone.clone(), "--timezone says so, or its default"),
        ("schedule.pause_status", pause, "--paused says so, or its default"),
    ] {
        compare(field, part(standing.as_ref(), of), part(schedule.as_ref(), of), reason);
    }
    let there = tags(settings);
    for (name, value) in our_tags(want) {
        let reason = if name == SETTINGS_TAG { "what was written last" } else { "the mark of dbtrigger" };
        compare(&format!("tags.{name}"), there.get(name).cloned(), Some(value), reason);
    }
    changes
}

/// Tasks that are not ours and wait for one that would be gone.
pub(super) fn left_waiting(want: &WorkflowWant, settings: &Raw) -> Option<(String, String)> {
    let tasks = settings.list("tasks");
    let ours = our_task(want, &tasks);
    let stays = |key: &str| {
        key == task_key(want)
            || tasks
                .iter()
                .enumerate()
                .any(|(place, task)| Some(place) != ours && !is_ours(task) && key_of(task) == key)
    };
    tasks.iter().filter(|task| !is_ours(task)).find_map(|task| {
        let needs = task.list("depends_on").into_iter().map(|need| key_of(&need)).find(|key| !stays(key))?;
        Some((key_of(task), needs))
    })
}

/// The whole settings to send: what is there with our fields in it, or a new job's.
pub(super) fn whole(want: &WorkflowWant, there: Option<&Raw>) -> Raw {
    let mut settings = there.cloned().unwrap_or_default();
    // Left out, it stays; sent by somebody who may not set it, it is refused (databricks-api §5.5).
    settings.remove("run_as");
    if want.named || there.is_none() {
        settings.set("name", &want.name);
    }
    let mut all_tags = settings.object("tags");
    for (name, value) in our_tags(want) {
        all_tags.set(name, &value);
    }
    settings.set("tags", &all_tags);
    settings.set("parameters", &parameters(want, settings.list("parameters")));
    settings.set("tasks", &tasks(want, settings.list("tasks")));
    settings.set("max_concurrent_runs", &1);
    let mut queue = settings.object("queue");
    queue.set("enabled", &true);
    settings.set("queue", &queue);
    if let Some(Timetable { expression, timezone, paused }) = timetable_after(want, timetable(&settings)) {
        let mut raw = settings.object("schedule");
        raw.set("quartz_cron_expression", &expression);
        raw.set("timezone_id", &timezone);
        raw.set("pause_status", if paused { "PAUSED" } else { "UNPAUSED" });
        settings.set("schedule", &raw);
    }
    settings
}

fn parameters(want: &WorkflowWant, mut all: Vec<Raw>) -> Vec<Raw> {
    let name = |parameter: &Raw| parameter.read::<String>("name").unwrap_or_default();
    all.retain(|parameter| name(parameter) != "dbtrigger_job_id");
    let place = all.iter().position(|parameter| name(parameter) == "job_id");
    let place = place.unwrap_or_else(|| {
        all.push(Raw::default());
        all.len() - 1
    });
    all[place].set("name", "job_id");
    all[place].set("default", &want.job.to_string());
    all
}

fn tasks(want: &WorkflowWant, mut all: Vec<Raw>) -> Vec<Raw> {
    let place = our_task(want, &all);
    let mut task = place.map(|place| all[place].clone()).unwrap_or_default();
    task.set("task_key", &task_key(want));
    let mut notebook = task.object("notebook_task");
    notebook.set("notebook_path", &want.notebook);
    notebook.set("source", "WORKSPACE");
    notebook.remove("warehouse_id");
    let mut base = notebook.object("base_parameters");
    base.remove("job_id");
    base.remove("dbtrigger_job_id");
    base.set(KEY_PARAMETER, KEY);
    base.set("dbtrigger_attempt", ATTEMPT);
    notebook.set("base_parameters", &base);
    task.set("notebook_task", &notebook);
    for compute in ["existing_cluster_id", "new_cluster", "job_cluster_key", "environment_key"] {
        task.remove(compute);
    }
    task.set("max_retries", &0);
    task.set("disable_auto_optimization", &true);
    task.set("timeout_seconds", &TASK_TIMEOUT);
    match place {
        Some(place) => all[place] = task,
        None => all.push(task),
    }
    let mut at = 0;
    let ours = place.unwrap_or(all.len() - 1);
    all.retain(|task| {
        at += 1;
        at - 1 == ours || !is_ours(task)
    });
    all
}

/// What would be changed, as lines with signs in front.
pub(super) fn lines(changes: &[Change]) -> String {
    let mut text = String::new();
    for Change { field, from, to, reason: _ } in changes {
        // The tag follows from the rest.
        if field.ends_with(SETTINGS_TAG) {
            continue;
        }
        for (sign, value) in [('-', from), ('+', to)] {
            if let Some(value) = value {
                let _ = writeln!(text, "      {sign} {field}: {value}");
            }
        }
    }
    text
}
