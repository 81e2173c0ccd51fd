//! One dbtrigger task in someone else's workflow. It is identified by a mark in its description, and nothing else in
//! the workflow is ever sent.

mod description_marker;
mod needs;
mod read_back;
mod removal;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use self::description_marker::Mark;
pub(crate) use self::read_back::read_back;
pub(crate) use self::removal::{TaskRemoval, TaskRemovalHave, TaskRemovalWant, added_tasks};
use super::compute::{self, Compute};
use super::task::{
    self, ATTEMPT_PARAMETER, Chosen, JOB, JOB_THAT_WINS, KEY_PARAMETER, OVERRIDES, Recipe, State, bare, has_key, key_of,
};
use super::unmanaged::{FILLED_IN, canonical, fields};
use super::workflow::{ID_TAG, managed_elsewhere};
use crate::databricks::is_missing;
use crate::databricks::jobs::{self, Job};
use crate::databricks::raw::Raw;
use crate::engine::apply::Inputs;
use crate::engine::{Action, Applied, Change, Consent, Consents, Creation, Kind, Refusal, Step};
use crate::failure::{Code, Failure};
use crate::http::{HttpError, Reader, Writer};
use crate::spec::{Setting, TaskSettings, TaskSpec};

/// Maximum number of tasks in a job.
const MOST_TASKS: usize = 1000;

pub(crate) enum AddedTask {}

/// The task that should exist.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct AddedTaskWant {
    pub(crate) workflow: u64,
    /// The workflow's name in the workspace.
    pub(crate) workflow_name: String,
    pub(crate) task: TaskSpec,
    /// The notebook's path in the workspace.
    pub(crate) notebook: String,
    /// By default serverless.
    pub(crate) compute: Setting<Compute>,
    pub(crate) settings: TaskSettings,
}

/// Whether a task was added to an existing workflow.
pub(super) fn is_added(task: &Raw) -> bool {
    Mark::of(task).is_some()
}

/// What is found in place of the task.
enum There {
    Nothing,
    Ours(Raw),
    Foreign(Raw),
    /// Copies: it is unknown which one is meant.
    Several(Vec<String>),
}

/// The task with our mark, whatever it was renamed to, else the one with the key.
fn there(want: &AddedTaskWant, settings: &Raw) -> There {
    let tasks = settings.list("tasks");
    let is_it = |task: &&Raw| Mark::of(task).is_some_and(|mark| mark.key == want.task.key);
    let mut marked: Vec<Raw> = tasks.iter().filter(is_it).cloned().collect();
    if marked.len() > 1 {
        return There::Several(marked.iter().map(key_of).collect());
    }
    match (marked.pop(), tasks.into_iter().find(|task| key_of(task) == want.task.key)) {
        (Some(task), _) => There::Ours(task),
        (None, Some(task)) if is_added(&task) => There::Ours(task),
        (None, Some(task)) => There::Foreign(task),
        (None, None) => There::Nothing,
    }
}

impl There {
    /// The existing task, and whether it is ours.
    fn task(&self) -> (Option<&Raw>, bool) {
        match self {
            There::Ours(task) => (Some(task), true),
            There::Foreign(task) => (Some(task), false),
            There::Nothing | There::Several(_) => (None, false),
        }
    }
}

fn parameters(settings: &Raw) -> BTreeSet<String> {
    settings.list("parameters").iter().filter_map(|parameter| parameter.read("name")).collect()
}

/// The parameter for the dbt job. A workflow parameter wins over a task parameter of the same name,
/// and a workflow that dbtrigger created may get one at any time.
fn job_parameter(settings: &Raw) -> &'static str {
    let has_one = parameters(settings).contains(JOB) || settings.object("tags").has(ID_TAG);
    if has_one { JOB_THAT_WINS } else { JOB }
}

/// The wanted task: how it is built, what it will depend on, and its mark.
struct Whole<'a> {
    recipe: Recipe<'a>,
    needs: Vec<Raw>,
    mark: Mark,
}

/// The fields that the mark covers: all managed ones but the key, since a renamed task does the same as before.
fn marked(state: &State) -> &[(&'static str, Option<String>)] {
    &state[1..]
}

/// Builds the wanted task. `key` is its current or future key.
fn whole<'a>(want: &'a AddedTaskWant, settings: &Raw, key: &'a str, task: Option<&Raw>) -> Whole<'a> {
    let recipe = Recipe {
        key,
        job: want.task.job,
        job_parameter: Some(job_parameter(settings)),
        notebook: &want.notebook,
        compute: &want.compute,
        settings: &want.settings,
    };
    Whole { recipe, needs: needs::after(&want.task, task), mark: Mark::new(&want.task.key, marked(&recipe.managed())) }
}

impl Whole<'_> {
    fn chosen(&self, task: Option<&Raw>, own: bool) -> Vec<Chosen> {
        self.recipe.chosen(task, own, &self.needs)
    }

    fn changes(&self, task: Option<&Raw>, own: bool) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut compare = |field: &str, from: Option<String>, to: Option<String>, reason: &str| {
            if from != to {
                changes.push(Change { field: format!("task.{field}"), from, to, reason: reason.to_owned() });
            }
        };
        for ((field, to), (_, from)) in self.recipe.managed().into_iter().zip(task::found(task)) {
            compare(field, from, to, task::reason(field));
        }
        for Chosen { field, from, to, reason } in self.chosen(task, own) {
            compare(field, from, to, reason);
        }
        let mark = task.and_then(Mark::of).map(|mark| mark.text());
        compare("description", mark, Some(self.mark.text()), "the mark of dbtrigger and the last write");
        changes
    }

    /// Whether a managed field was changed since we wrote it, to something other than what is wanted now.
    fn is_edited(&self, task: &Raw) -> bool {
        let found = task::found(Some(task));
        found != self.recipe.managed() && Mark::of(task).is_none_or(|mark| mark.digest != Mark::digest(marked(&found)))
    }

    fn written(&self, task: Option<&Raw>, own: bool) -> Raw {
        let mut written = self.recipe.written(task, own, &self.needs);
        written.set("description", &self.mark.described(task));
        written
    }
}

/// The task's current or future key.
fn key(want: &AddedTaskWant, task: Option<&Raw>) -> String {
    task.map_or_else(|| want.task.key.clone(), key_of)
}

/// The task's key in the workflow, current or future, and the number of other tasks.
pub(crate) fn keys_there(want: &AddedTaskWant, job: &Job) -> (String, usize) {
    let there = there(want, &job.settings);
    let own = key(want, there.task().0);
    let others = job.settings.list("tasks").iter().filter(|task| key_of(task) != own).count();
    (own, others)
}

/// The whole task to send.
fn to_send(want: &AddedTaskWant, settings: &Raw) -> Raw {
    let there = there(want, settings);
    let (task, own) = there.task();
    whole(want, settings, &key(want, task), task).written(task, own)
}

/// The names of the overrides that the task will carry, for a check against what the notebook allows.
pub(crate) fn carried_overrides(want: &AddedTaskWant, settings: &Raw) -> BTreeSet<String> {
    let there = there(want, settings);
    let (task, own) = there.task();
    task::override_names(&whole(want, settings, &key(want, task), task).chosen(task, own))
}

/// Whether the job predates multi-task jobs and has its task outside the list.
fn has_old_format(settings: &Raw) -> bool {
    settings.read::<String>("format").as_deref() == Some("SINGLE_TASK")
        || (!settings.has("tasks") && settings.names().any(|name| name.ends_with("_task") && settings.has(name)))
}

/// Workflow parameters that would win over those that the task passes.
fn clashes(want: &AddedTaskWant, settings: &Raw) -> Vec<String> {
    let overridden = (!carried_overrides(want, settings).is_empty()).then_some(OVERRIDES);
    let passed = [JOB_THAT_WINS, KEY_PARAMETER, ATTEMPT_PARAMETER].into_iter().chain(overridden);
    let named = parameters(settings);
    passed.filter(|name| named.contains(*name)).map(ToOwned::to_owned).collect()
}

/// The whole workflow with our task as it will be.
fn intended(want: &AddedTaskWant, settings: &Raw) -> Raw {
    let (task, mut whole) = (to_send(want, settings), settings.clone());
    let mut tasks = settings.list("tasks");
    match tasks.iter_mut().find(|other| key_of(other) == key_of(&task)) {
        Some(place) => *place = task,
        None => tasks.push(task),
    }
    whole.set("tasks", &tasks);
    whole
}

/// What else changed in the workflow besides our task: someone wrote at the same time.
pub(crate) fn changed_meanwhile(want: &AddedTaskWant, before: &Job, after: &Job) -> Vec<String> {
    let (before, after) = (others(want, &before.settings), others(want, &after.settings));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names.into_iter().filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
}

fn others(want: &AddedTaskWant, settings: &Raw) -> BTreeMap<String, Value> {
    let there = there(want, settings);
    let own = key(want, there.task().0);
    let tasks = settings.list("tasks").into_iter().filter(|task| key_of(task) != own);
    let tasks = tasks
        .map(|task| (format!("tasks.{}", key_of(&task)), canonical(serde_json::to_value(task).unwrap_or_default())));
    let fields = fields(settings).into_iter().filter(|(name, _)| !["tasks", FILLED_IN].contains(&name.as_str()));
    tasks.chain(fields).collect()
}

/// `job 12 "Daily load"`.
fn workflow(want: &AddedTaskWant) -> String {
    format!("job {} \"{}\"", want.workflow, want.workflow_name)
}

impl Kind for AddedTask {
    type Want = AddedTaskWant;
    type Have = Job;

    const KIND: &'static str = "task";
    const CREATION: Creation = Creation::Overwrites;

    fn name(want: &AddedTaskWant) -> String {
        format!("{} in {}", want.task.key, workflow(want))
    }

    /// Returns the workflow, which must exist.
    async fn observe(reader: &Reader, want: &AddedTaskWant) -> Result<Option<Job>, HttpError> {
        jobs::get(reader, want.workflow).await.map(Some)
    }

    fn diff(want: &AddedTaskWant, have: Option<&Job>, consents: &Consents) -> Action {
        let Some(job) = have else {
            return Refusal::new(format!("there is no {}", workflow(want))).always();
        };
        let (settings, name) = (&job.settings, workflow(want));
        if has_old_format(settings) {
            return Refusal::new(format!("the {name} has the old single-task format, which takes no second task"))
                .advise("give its task a key in the workspace to convert the job to several tasks, then run the same command again")
                .always();
        }
        let there = there(want, settings);
        if let There::Several(keys) = &there {
            let count = keys.len();
            return Refusal::new(format!("{count} tasks of {name} carry the mark of this task: {}", keys.join(", ")))
                .advise("remove the mark from the copy's description, or delete the copy")
                .always();
        }
        let mut refusals = Vec::new();
        if let Some((cluster, keys)) = compute::missing_cluster(&want.compute, settings) {
            let known = if keys.is_empty() { "none".to_owned() } else { keys.join(", ") };
            refusals.push(
                Refusal::new(format!("the {name} has no job cluster {cluster}; its job clusters: {known}"))
                    .advise("name one of them, or use --compute serverless, cluster:ID, or new")
                    .always(),
            );
        }
        let clashes = clashes(want, settings);
        if !clashes.is_empty() {
            refusals.push(
                Refusal::new(format!(
                    "the {name} has its own parameter {}, which would override the task's",
                    clashes.join(", ")
                ))
                .advise(
                    "rename the workflow's parameter in the workspace, or drop --add-to to create a separate workflow",
                )
                .always(),
            );
        }
        refusals.extend(needs::refused(want, job, &name).map(Refusal::always));
        let (task, own) = there.task();
        let key = key(want, task);
        let whole = whole(want, settings, &key, task);
        let changes = whole.changes(task, own);
        if changes.is_empty() {
            return Action::Keep(None).unless_refused(refusals);
        }
        if let Some(who) = managed_elsewhere(job) {
            let task = serde_json::json!(whole.written(task, own));
            return Refusal::new(format!("the {name} is managed by {who}"))
                .diff(format!("{task:#}"))
                .advise("add the task shown above to the job there; this command then finds it in place")
                .always()
                .unless_refused(refusals);
        }
        if whole.mark.has_no_room(task) {
            refusals.push(
                Refusal::new(format!("the description of task {key} of {name} is too long to add dbtrigger's mark"))
                    .advise("shorten it to 900 characters in the workspace")
                    .always(),
            );
        }
        let refused = |what: String| Refusal::new(what).diff(task::lines(&changes));
        let count = settings.list("tasks").len();
        refusals.extend(match &there {
            There::Nothing if count >= MOST_TASKS => Some(
                Refusal::new(format!("the {name} has {count} tasks, and Databricks allows {MOST_TASKS}"))
                    .advise("drop --add-to to create a separate workflow")
                    .always(),
            ),
            There::Foreign(task) if !can_be_adopted(want, settings, task) => Some(
                Refusal::new(format!("the {name} has a task {key} that dbtrigger did not create"))
                    .advise("give the new task another key with --task-key")
                    .always(),
            ),
            There::Foreign(_) if !consents.has(Consent::Adopt) => Some(
                refused(format!("the {name} has a task {key} that dbtrigger did not add, and that runs its notebook"))
                    .advise("or give the new task another key with --task-key")
                    .unless(Consent::Adopt),
            ),
            There::Ours(task) if whole.is_edited(task) && !consents.has(Consent::Force) => {
                Some(refused(format!("task {key} of {name} was edited by hand")).unless(Consent::Force))
            }
            There::Nothing | There::Several(_) | There::Foreign(_) | There::Ours(_) => None,
        });
        let write = if task.is_some() { Action::Update(changes) } else { Action::Create };
        write.unless_refused(refusals)
    }

    fn is_as_planned(step: &Step<AddedTask>, now: Option<&Job>) -> bool {
        let settings = |job: Option<&Job>| job.map(|job| fields(&job.settings));
        settings(step.have.as_ref()) == settings(now)
    }

    async fn apply(writer: &Writer, step: &mut Step<AddedTask>, _inputs: &Inputs) -> Result<Applied, HttpError> {
        match (&step.action, &step.have) {
            (Action::Create | Action::Update(_), Some(job)) => {
                let mut update = jobs::Update::default();
                update.new_settings.set("tasks", &[to_send(&step.want, &job.settings)]);
                writer.put_once(jobs::update(job.id, &update)).await.map(|()| Applied::Written)
            }
            (Action::Create | Action::Update(_), None)
            | (Action::Keep(_) | Action::Remove | Action::Blocked { .. }, _) => Ok(Applied::Written),
        }
    }

    fn differences(step: &Step<AddedTask>, now: Option<&Job>) -> Vec<String> {
        let Some(job) = now else { return vec!["no such job".to_owned()] };
        let there = there(&step.want, &job.settings);
        let (task, own) = there.task();
        let changes = whole(&step.want, &job.settings, &key(&step.want, task), task).changes(task, own);
        match (task, own) {
            (None, _) => vec!["no such task in the job".to_owned()],
            (Some(_), false) => vec!["no mark of dbtrigger in the description of the task".to_owned()],
            (Some(_), true) => changes.iter().map(Change::as_difference).collect(),
        }
    }

    fn collateral_losses(step: &Step<AddedTask>) -> Vec<String> {
        let (Some(before), Some(now)) = (&step.have, &step.now) else { return Vec::new() };
        super::unmanaged::lost_paths(&before.settings, &intended(&step.want, &before.settings), &now.settings)
    }

    fn explain(want: &AddedTaskWant, error: &HttpError, failure: Failure) -> Failure {
        let writes = error.operation == "jobs/update";
        if failure.code == Code::NotAllowed {
            let (doing, level) = if writes { ("changing", "CAN_MANAGE") } else { ("reading", "CAN_VIEW") };
            return failure.advise(format!(
                "{doing} {} requires {level}; its owner or a workspace administrator can grant it under Permissions on the job's page",
                workflow(want)
            ));
        }
        // With status 400 the service also says "does not exist" about things that a task refers to.
        let id = want.workflow.to_string();
        let of_a_task =
            error.is_status(400) && error.service_error().is_some_and(|service_error| !service_error.names(&id));
        if is_missing(error) && !of_a_task {
            return Failure { code: Code::NotFound, ..failure }.advise("the workflow was deleted meanwhile");
        }
        if writes { compute::explain(Some(want.task.job), error, failure) } else { failure }
    }
}

/// Whether someone else's task can safely become ours: it runs our notebook, and it is not one of a workflow that
/// we created.
fn can_be_adopted(want: &AddedTaskWant, settings: &Raw, task: &Raw) -> bool {
    let path: Option<String> = task.object("notebook_task").read("notebook_path");
    let of_the_workflow = has_key(task) && settings.object("tags").has(ID_TAG);
    !of_the_workflow && (has_key(task) || path.is_some_and(|path| bare(&path) == bare(&want.notebook)))
}

#[cfg(test)]
pub(super) mod tests;
