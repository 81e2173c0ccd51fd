//! Finds everything of ours and plans what to remove.

use std::collections::{BTreeMap, BTreeSet};

use crate::commands::shared::workflow_argument::WorkflowArgument;
use crate::databricks::jobs::{self, Job};
use crate::databricks::me::Me;
use crate::databricks::secrets::{KeyName, ScopeName};
use crate::databricks::workspace::{Listed, NotebookPath};
use crate::engine::kinds::{
    ExistingTask, FolderRemoval, FolderRemovalWant, ID_TAG, NotebookRemoval, NotebookRemovalHave, NotebookRemovalWant,
    ScopeRemoval, ScopeRemovalWant, SecretRemoval, SecretRemovalWant, TaskRemoval, TaskRemovalHave, TaskRemovalWant,
    WorkflowRemoval, WorkflowRemovalHave, WorkflowRemovalWant, added_tasks, existing_tasks,
};
use crate::engine::{Action, Consents, Entry, Kind, Plan, Planned, Refusal, Removal, Step};
use crate::failure::{Failure, of_databricks};
use crate::http::{HttpError, Reader, side_by_side};
use crate::line::Line;
use crate::spec::{DEFAULT_KEY, DEFAULT_SCOPE};

/// What to remove.
pub(super) struct Selection {
    /// Parsed and as given.
    pub(super) workflows: Vec<(WorkflowArgument, String)>,
    /// IDs of dbt jobs.
    pub(super) jobs: Vec<u64>,
    pub(super) all: bool,
    pub(super) with_secret: bool,
    pub(super) path: Option<NotebookPath>,
    pub(super) scope: Option<ScopeName>,
    pub(super) key: Option<KeyName>,
}

/// The plan and its notes.
pub(super) struct RemovalPlan {
    pub(super) plan: Plan,
    /// Workflow ID and active run ID of workflows that are removed.
    pub(super) running: Vec<(u64, u64)>,
    pub(super) warnings: Vec<String>,
}

impl RemovalPlan {
    /// Notes in addition to the plan's steps.
    pub(super) fn lines(&self) -> Vec<Line> {
        let line =
            |(workflow, run): &(u64, u64)| format!("Then: cancel run {run} of workflow {workflow} first.").into();
        self.running.iter().map(line).collect()
    }
}

/// A Databricks job that is ours or has tasks of ours.
enum Candidate {
    Workflow(WorkflowRemovalWant, Box<WorkflowRemovalHave>),
    /// A workflow of others with tasks of ours, and whether the user named it.
    Host(Box<TaskRemovalHave>, bool),
}

/// Looks up the requested objects and plans their removal.
pub(super) async fn plan_removal(
    selection: &Selection,
    reader: &Reader,
    me: &Me,
    consents: &Consents,
) -> Result<RemovalPlan, Failure> {
    let listed = if selection.all || !selection.jobs.is_empty() {
        jobs::all_with_tasks(reader).await.map_err(|error| of_databricks("cannot list the workflows", &error))?
    } else {
        Vec::new()
    };
    let named = named(selection, reader).await?;
    let ids: BTreeSet<u64> = listed.iter().filter(|job| has_ours(job)).chain(&named).map(|job| job.id).collect();
    let ids: Vec<u64> = ids.into_iter().collect();
    let candidates = side_by_side(&ids, async |id| {
        let is_named = named.iter().any(|job| job.id == *id);
        let job = named.iter().chain(&listed).find(|job| job.id == *id)?;
        candidate(reader, job, is_named, &listed, me).await.transpose()
    });
    let candidates = candidates.await.into_iter().flatten().collect::<Result<Vec<_>, _>>();
    let mut candidates = candidates.map_err(|error| of_databricks("cannot read the workflows", &error))?;
    candidates.sort_by_key(|candidate| matches!(candidate, Candidate::Host(..)));
    let mut planner = Planner {
        selection,
        me,
        consents,
        found: RemovalPlan { plan: Plan::default(), running: Vec::new(), warnings: Vec::new() },
        leaving: BTreeSet::new(),
        notebooks: BTreeSet::new(),
    };
    for candidate in candidates {
        match candidate {
            Candidate::Workflow(want, have) => planner.workflow(want, *have)?,
            Candidate::Host(have, is_named) => planner.tasks(&have, is_named)?,
        }
    }
    if selection.all {
        planner.notebooks_and_secrets(reader, &listed).await?;
    }
    Ok(planner.found)
}

/// Whether the job or one of its tasks has our mark.
fn has_ours(job: &Job) -> bool {
    job.settings.object("tags").has(ID_TAG) || !added_tasks(job).is_empty()
}

/// The workflows named by the user.
async fn named(selection: &Selection, reader: &Reader) -> Result<Vec<Job>, Failure> {
    let mut found = Vec::new();
    for (named, text) in &selection.workflows {
        let again = |id: u64| format!("dbtrigger remove --workflow {id}");
        let row = named.find(reader, text, "nothing was removed", again).await?;
        let job = jobs::get(reader, row.job_id).await;
        found.push(job.map_err(|error| of_databricks(&format!("cannot read workflow {text}"), &error))?);
    }
    Ok(found)
}

fn name_of(job: &Job) -> String {
    job.settings.read("name").unwrap_or_default()
}

/// Reads one job and what else decides about it. `None`: deleted since it was listed.
async fn candidate(
    reader: &Reader,
    job: &Job,
    named: bool,
    listed: &[Job],
    me: &Me,
) -> Result<Option<Candidate>, HttpError> {
    let me = me.user_name.clone();
    let mark = |job: &Job| job.settings.object("tags").read::<String>(ID_TAG);
    let identity = mark(job);
    if identity.is_none() && has_ours(job) {
        let want = TaskRemovalWant { workflow: job.id, workflow_name: name_of(job), keys: Vec::new(), me };
        let have = TaskRemoval::observe(reader, &want).await?;
        return Ok(have.map(|have| Candidate::Host(Box::new(have), named)));
    }
    let is_twin = |other: &&Job| other.id != job.id && identity.is_some() && mark(other) == identity;
    let twins = listed.iter().filter(is_twin).map(|other| other.id).collect();
    let want = WorkflowRemovalWant { job: job.id, name: name_of(job), named, twins, me };
    let have = WorkflowRemoval::observe(reader, &want).await?;
    Ok(have.map(|have| Candidate::Workflow(want, Box::new(have))))
}

/// The plan while it is being built.
struct Planner<'a> {
    selection: &'a Selection,
    me: &'a Me,
    consents: &'a Consents,
    found: RemovalPlan,
    /// Workflow ID and key of the tasks that are removed, alone or with their workflow.
    leaving: BTreeSet<(u64, String)>,
    /// Notebook paths of all our tasks.
    notebooks: BTreeSet<String>,
}

impl Planner<'_> {
    fn add(&mut self, removal: Removal) {
        self.found.plan.steps.push(Planned::Removal(removal));
    }

    /// Whether the task starts a requested dbt job.
    fn is_selected(&self, task: &ExistingTask) -> bool {
        self.selection.all || task.job.is_some_and(|job| self.selection.jobs.contains(&job))
    }

    /// Plans one of our workflows. If it is kept, tasks added to it may be removed.
    fn workflow(&mut self, want: WorkflowRemovalWant, have: WorkflowRemovalHave) -> Result<(), Failure> {
        let WorkflowRemovalHave { job, active, manages } = have.clone();
        let added = added_tasks(&job);
        let is_added = |task: &ExistingTask| added.iter().any(|added| added.task.key == task.key);
        let all = existing_tasks(&job.settings);
        self.notebooks.extend(all.iter().map(|task| task.notebook.clone()));
        let (chosen, others): (Vec<&ExistingTask>, Vec<&ExistingTask>) =
            all.iter().filter(|task| !is_added(task)).partition(|task| want.named || self.is_selected(task));
        let named = want.named;
        if !named && !self.selection.all && chosen.is_empty() {
            return self.tasks(&TaskRemovalHave { job, manages }, false);
        }
        let mut step = Step::<WorkflowRemoval>::compare(want, Ok(Some(have)), self.consents)?;
        match (&step.action, starts_others(&step.want, &others)) {
            (Action::Keep(_), _) | (_, None) => {}
            (Action::Blocked { .. }, Some(refusal)) => {
                let name = WorkflowRemoval::name(&step.want);
                self.found.plan.refusals.push(Entry::refused(WorkflowRemoval::KIND, name, refusal));
            }
            (Action::Create | Action::Update(_) | Action::Remove, Some(refusal)) => step.action = refusal.always(),
        }
        let leaves = step.writes();
        let stays = matches!(step.action, Action::Keep(_));
        self.add(Removal::Workflow(step));
        if stays {
            return self.tasks(&TaskRemovalHave { job, manages }, named);
        }
        if leaves {
            let tasks = job.settings.list("tasks");
            self.leaving.extend(tasks.iter().filter_map(|task| Some((job.id, task.read("task_key")?))));
            self.found.running.extend(active.into_iter().map(|run| (job.id, run)));
            if let Some(who) = job.run_as.filter(|who| *who != self.me.user_name && !self.selection.all) {
                self.found.warnings.push(format!(
                    "workflow {} runs as {who}; the access of {who} to the notebook and the key is not removed",
                    job.id
                ));
            }
        }
        Ok(())
    }

    /// Plans our tasks in a workflow that is kept: in one step, since each write changes the workflow.
    fn tasks(&mut self, have: &TaskRemovalHave, named: bool) -> Result<(), Failure> {
        let job = &have.job;
        let chosen = added_tasks(job).into_iter().filter(|added| named || self.is_selected(&added.task));
        let (edited, whole): (Vec<_>, Vec<_>) = chosen.partition(|added| added.is_edited);
        self.notebooks.extend(edited.iter().chain(&whole).map(|added| added.task.notebook.clone()));
        let alone = edited.into_iter().map(|added| vec![added.task.key]);
        let together = whole.into_iter().map(|added| added.task.key).collect();
        let groups: Vec<Vec<String>> = [together].into_iter().chain(alone).filter(|keys| !keys.is_empty()).collect();
        for keys in groups {
            let (workflow_name, me) = (name_of(job), self.me.user_name.clone());
            let want = TaskRemovalWant { workflow: job.id, workflow_name, keys: keys.clone(), me };
            let step = Step::<TaskRemoval>::compare(want, Ok(Some(have.clone())), self.consents)?;
            if step.writes() {
                self.leaving.extend(keys.into_iter().map(|key| (job.id, key)));
            }
            self.add(Removal::Task(step));
        }
        Ok(())
    }

    /// Plans the notebooks, their folder and the keys that they read.
    async fn notebooks_and_secrets(&mut self, reader: &Reader, listed: &[Job]) -> Result<(), Failure> {
        let folder: Option<NotebookPath> = format!("{}/dbtrigger", self.me.home()).parse().ok();
        let folder = folder.map(|path| FolderRemovalWant { path, leaving: Vec::new() });
        let inside = match &folder {
            Some(folder) => FolderRemoval::observe(reader, folder)
                .await
                .map_err(|error| of_databricks(&format!("cannot look into the folder {}", folder.path), &error))?,
            None => None,
        };
        let is_notebook = |object: &&Listed| object.object_type.as_deref() == Some("NOTEBOOK");
        let usual = inside.iter().flatten().filter(is_notebook).map(|object| object.path.as_str());
        let given = self.selection.path.iter().map(NotebookPath::as_str);
        // dbtrigger never deploys to an invalid path.
        let paths = self.notebooks.iter().map(String::as_str).chain(usual).chain(given);
        let paths: BTreeMap<String, NotebookPath> =
            paths.filter_map(|path| path.parse().ok()).map(|path: NotebookPath| (path.to_string(), path)).collect();
        let paths: Vec<NotebookPath> = paths.into_values().collect();
        let wants: Vec<NotebookRemovalWant> = paths
            .into_iter()
            .map(|path| NotebookRemovalWant { path, leaving: self.leaving.clone(), me: self.me.user_name.clone() })
            .collect();
        let found = side_by_side(&wants, async |want| NotebookRemovalHave::look(reader, want, listed).await).await;
        let mut keys: BTreeMap<(String, String), Vec<NotebookPath>> = BTreeMap::new();
        let mut leaving = Vec::new();
        for (want, found) in wants.into_iter().zip(found) {
            let path = want.path.clone();
            let settings = found.as_ref().ok().and_then(Option::as_ref).and_then(NotebookRemovalHave::settings);
            let step = Step::<NotebookRemoval>::compare(want, found, self.consents)?;
            let leaves = step.writes();
            self.add(Removal::Notebook(step));
            if let Some(settings) = settings {
                let readers = keys.entry((settings.scope, settings.key)).or_default();
                readers.extend((!leaves).then(|| path.clone()));
            }
            leaving.extend(leaves.then_some(path));
        }
        if let (Some(folder), Some(inside)) = (folder, inside) {
            let want = FolderRemovalWant { leaving, ..folder };
            let step = Step::<FolderRemoval>::compare(want, Ok(Some(inside)), self.consents)?;
            self.add(Removal::Folder(step));
        }
        self.secrets(reader, keys).await
    }

    /// Plans the keys and their scopes, given the notebooks that still need each key.
    async fn secrets(
        &mut self,
        reader: &Reader,
        mut keys: BTreeMap<(String, String), Vec<NotebookPath>>,
    ) -> Result<(), Failure> {
        let Selection { scope, key, with_secret, .. } = self.selection;
        if *with_secret && scope.is_none() && key.is_none() && keys.is_empty() {
            self.found.warnings.push(format!(
                "no notebook names the key, so {DEFAULT_SCOPE}/{DEFAULT_KEY} was checked; if it is elsewhere, pass --scope and --key"
            ));
        }
        if scope.is_some() || key.is_some() || keys.is_empty() {
            let scope = scope.as_ref().map_or(DEFAULT_SCOPE, ScopeName::as_str).to_owned();
            let key = key.as_ref().map_or(DEFAULT_KEY, KeyName::as_str).to_owned();
            keys.entry((scope, key)).or_default();
        }
        let mut scopes: BTreeMap<String, ScopeRemovalWant> = BTreeMap::new();
        for ((scope, key), needed_by) in keys {
            // An invalid name cannot exist.
            let (Ok(scope), Ok(key)) = (scope.parse::<ScopeName>(), key.parse::<KeyName>()) else { continue };
            let want = SecretRemovalWant { scope: scope.clone(), key: key.clone(), wanted: *with_secret, needed_by };
            let step = Step::<SecretRemoval>::plan(reader, want, self.consents).await?;
            let of_scope = scopes.entry(scope.as_str().to_lowercase()).or_insert_with(|| ScopeRemovalWant {
                scope,
                wanted: *with_secret,
                leaving: Vec::new(),
                me: self.me.user_name.clone(),
            });
            of_scope.leaving.extend(step.writes().then_some(key));
            self.add(Removal::Secret(step));
        }
        for want in scopes.into_values() {
            let step = Step::<ScopeRemoval>::plan(reader, want, self.consents).await?;
            self.add(Removal::Scope(step));
        }
        Ok(())
    }
}

/// Refuses to remove a workflow of several dbt jobs for one of them.
fn starts_others(want: &WorkflowRemovalWant, others: &[&ExistingTask]) -> Option<Refusal> {
    if others.is_empty() {
        return None;
    }
    let name = WorkflowRemoval::name(want);
    let keys: Vec<&str> = others.iter().map(|task| task.key.as_str()).collect();
    let refusal = Refusal::new(format!("the workflow {name} stays: it has other tasks too: {}", keys.join(", ")));
    Some(refusal.advise(format!(
        "to remove all of it, run `dbtrigger remove --workflow {}`; to drop one dbt job, run create-workflow with the others",
        want.job
    )))
}
