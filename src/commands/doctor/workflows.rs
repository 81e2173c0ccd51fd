//! Checks of our workflows: whether they are unchanged, and when they start.

use std::collections::{BTreeMap, BTreeSet};

use super::context::{CheckContext, PART, Selection};
use super::notebooks::{NotebookCheck, describe_change};
use super::report::Check;
use crate::commands::create_workflow::prerequisites;
use crate::commands::shared::default_path::default_path;
use crate::commands::shared::job_argument::NAME;
use crate::databricks::is_missing;
use crate::databricks::jobs::{self, Job, Summary};
use crate::databricks::workspace::NotebookPath;
use crate::engine::kinds::{
    AddedTask, AddedTaskWant, CreatedJob, ExistingTask, ID_TAG, Identity, JobSchedule, ReadBack, Workflow,
    WorkflowHave, WorkflowWant, existing_tasks, has_active_trigger, job_in_key, job_schedule, override_names,
    read_back,
};
use crate::engine::{Action, Change, Consent, Consents, Kind as _};
use crate::failure::{Code, Failure, of_databricks};
use crate::http::side_by_side;
use crate::runs::plain;
use crate::spec::TaskSpec;
use crate::text::quoted;

/// A workflow with tasks of ours.
pub(super) struct WorkflowCheck {
    pub(super) have: WorkflowHave,
    name: String,
    /// As they were written, if known; otherwise as they are.
    pub(super) tasks: Vec<ExistingTask>,
    /// The dbt jobs that the tasks start now.
    starts: BTreeSet<u64>,
    own: Option<ReadBack<WorkflowWant>>,
    added: Vec<ReadBack<AddedTaskWant>>,
    /// It runs as another identity than the caller.
    pub(super) is_of_another: bool,
}

impl WorkflowCheck {
    /// `asked`: the requested dbt job, for which the workflow may have been created.
    fn new(ours: Vec<Summary>, job: Job, chain: &CheckContext<'_>, asked: Option<u64>) -> WorkflowCheck {
        let is_of_another = job.run_as.as_ref().is_some_and(|who| !who.eq_ignore_ascii_case(&chain.me.user_name));
        let name: String = job.settings.read("name").unwrap_or_default();
        let mut tasks = existing_tasks(&job.settings);
        let starts = tasks.iter().filter_map(|task| task.job).collect();
        let have = WorkflowHave { ours, namesakes: Vec::new(), job, created_job: CreatedJob::None };
        let usual = chain.dbt.account.and_then(|account| default_path(chain.me, account).ok());
        let usual = usual.as_ref().map(NotebookPath::as_str);
        let jobs: Vec<u64> = asked.into_iter().chain(job_in_name(&name)).collect();
        let own = have.own().and_then(|_| have.read_back(&jobs, usual));
        let added = read_back(&have.job, &name, usual);
        for task in &mut tasks {
            if let Some((job, notebook)) = written(&task.key, own.as_ref(), &added) {
                (task.job, task.notebook) = (Some(job), notebook);
            }
        }
        WorkflowCheck { have, name, tasks, starts, own, added, is_of_another }
    }

    /// Whether a schedule or trigger starts its runs.
    pub(super) fn has_active_trigger(&self) -> bool {
        has_active_trigger(&self.have.job.settings)
    }

    /// Whether it starts this dbt job, or was created for it.
    pub(super) fn is_for(&self, job: u64) -> bool {
        self.starts.contains(&job) || self.tasks.iter().any(|task| task.job == Some(job))
    }

    /// ID and name, for messages.
    pub(super) fn shown(&self) -> String {
        format!("{} \"{}\"", self.short(), plain(&self.name, NAME))
    }

    /// Only the ID, for use where the name is shown nearby.
    pub(super) fn short(&self) -> String {
        format!("workflow {}", self.have.job.id)
    }
}

/// The dbt job and notebook that the task of this key was written for, if known.
fn written(
    key: &str,
    own: Option<&ReadBack<WorkflowWant>>,
    added: &[ReadBack<AddedTaskWant>],
) -> Option<(u64, String)> {
    if let Some(ReadBack { want, is_lost: _ }) = added.iter().find(|added| added.want.task.key == key) {
        return Some((want.task.job, want.notebook.clone()));
    }
    let want = &own?.want;
    let task = match want.tasks.as_slice() {
        // The key may have changed since.
        [only] => only,
        several => several.iter().find(|task| task.key == key)?,
    };
    Some((task.job, want.notebook.clone()))
}

/// The dbt job in the default name of a workflow, such as `dbt: Nightly build (222222)`.
fn job_in_name(name: &str) -> Option<u64> {
    name.strip_suffix(')')?.rsplit_once('(')?.1.parse().ok()
}

/// The workflows to check; plus a check if there are none or they cannot be listed.
pub(super) async fn find(
    chain: &CheckContext<'_>,
    selection: &Selection,
    job: Option<u64>,
) -> (Vec<WorkflowCheck>, Vec<Check>) {
    let found = match &selection.workflow {
        Some((named, text)) => {
            let again = |id: u64| format!("dbtrigger doctor --workflow {id}");
            match named.find(chain.reader, text, "nothing that depends on it was checked", again).await {
                Ok(row) => one(chain, row.job_id, job).await,
                Err(failure) => Err(failure),
            }
        }
        None => ours(chain, job).await,
    };
    match found {
        Ok(found) => (found, Vec::new()),
        Err(failure) => {
            let check = Check::failed(PART, "workflow", failure);
            (Vec::new(), vec![if selection.workflow.is_none() { check.or_setup(job) } else { check }])
        }
    }
}

/// The named workflow, even if dbtrigger did not create it.
async fn one(chain: &CheckContext<'_>, id: u64, asked: Option<u64>) -> Result<Vec<WorkflowCheck>, Failure> {
    let job = jobs::get(chain.reader, id).await;
    let job = job.map_err(|error| of_databricks(&format!("cannot read workflow {id}"), &error))?;
    let tags: BTreeMap<String, String> = job.settings.read("tags").unwrap_or_default();
    let name: String = job.settings.read("name").unwrap_or_default();
    let ours = if tags.contains_key(ID_TAG) {
        vec![Summary { id, name: name.clone(), tags, created: None }]
    } else {
        Vec::new()
    };
    let workflow = WorkflowCheck::new(ours, job, chain, asked);
    if workflow.tasks.is_empty() {
        let shown = plain(&name, NAME);
        let failure =
            Failure::new(Code::NotFound, format!("workflow {id} \"{shown}\" has no task that dbtrigger created"));
        return Err(failure.run("add a task to it", format!("dbtrigger create-workflow --add-to {id}")));
    }
    Ok(vec![workflow])
}

/// All workflows with our mark, or those that start this dbt job.
async fn ours(chain: &CheckContext<'_>, job: Option<u64>) -> Result<Vec<WorkflowCheck>, Failure> {
    let (reader, me) = (chain.reader, &chain.me.user_name);
    let all = jobs::all(reader, None).await;
    let all = all.map_err(|error| of_databricks("cannot list the workflows", &error))?;
    let mut marked: BTreeMap<String, Vec<Summary>> = BTreeMap::new();
    for summary in all.rows {
        if let Some(identity) = summary.tags.get(ID_TAG).cloned() {
            marked.entry(identity).or_default().push(summary);
        }
    }
    let marked: Vec<Vec<Summary>> = marked.into_values().collect();
    let jobs = side_by_side(&marked, async |ours| Some(jobs::get(reader, ours.first()?.id).await)).await;
    let mut found = Vec::new();
    for (ours, looked) in marked.into_iter().zip(jobs) {
        let (Some(first), Some(looked)) = (ours.first().map(|first| first.id), looked) else { continue };
        match looked {
            Ok(found_job) => found.push(WorkflowCheck::new(ours, found_job, chain, job)),
            // Deleted since the list was read.
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(of_databricks(&format!("cannot read workflow {first}"), &error)),
        }
    }
    found.sort_by_key(|workflow| workflow.have.job.id);
    if let Some(job) = job {
        found.retain(|workflow| workflow.is_for(job));
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let Some(job) = job else {
        let what = format!("no workflow created by dbtrigger is visible to {me}");
        let failure = Failure::new(Code::NotFound, what).run("create a workflow", "dbtrigger create-workflow");
        return Err(failure.run("list the dbt jobs", "dbtrigger jobs"));
    };
    let what = format!("no workflow created by dbtrigger and visible to {me} starts dbt job {job}");
    Err(Failure::new(Code::NotFound, what).run("create a workflow", format!("dbtrigger create-workflow --job {job}")))
}

/// Checks for manual edits, disallowed overrides and the schedule.
pub(super) fn compare(
    chain: &CheckContext<'_>,
    workflow: &WorkflowCheck,
    notebook_checks: &BTreeMap<String, NotebookCheck>,
) -> Vec<Check> {
    let WorkflowCheck { have, name: _, tasks, starts: _, own, added, is_of_another: _ } = workflow;
    let (job, shown) = (&have.job, workflow.shown());
    let mut checks = Vec::new();
    let mut names = BTreeSet::new();
    let id = format!("workflow:{}", job.id);
    match own {
        None if have.own().is_none() => {}
        None => {
            let failure =
                Failure::new(Code::Refused, format!("a task that dbtrigger created in {shown} names no dbt job"));
            let advice = "run create-workflow for it again with --force";
            checks.push(Check::failed(PART, &id, failure.advise(advice)));
        }
        Some(ReadBack { want, is_lost }) => {
            let again = again(chain, want, notebook_checks).filter(|_| !is_lost);
            let diff = |consents: &Consents| Workflow::diff(want, Some(have), consents);
            checks.push(judged(&id, &shown, diff, *is_lost, again.as_deref()));
            names = override_names(want, Some(&job.settings));
        }
    }
    for ReadBack { want, is_lost } in added {
        let TaskSpec { key, job: dbt_job, depends_on: _ } = &want.task;
        let id = format!("task:{}/{key}", job.id);
        let at = at_notebook(chain, &want.notebook, notebook_checks);
        let again =
            format!("dbtrigger create-workflow --add-to {} --job {}{at} --task-key {}", job.id, dbt_job, quoted(key));
        let again = (!is_lost).then_some(again);
        let diff = |consents: &Consents| AddedTask::diff(want, Some(job), consents);
        checks.push(judged(&id, &format!("the task {key} in {shown}"), diff, *is_lost, again.as_deref()));
    }
    if have.own().is_none() && added.is_empty() {
        let keys: Vec<&str> = tasks.iter().map(|task| task.key.as_str()).collect();
        let what = format!("{shown} runs the notebook in {}, but was not created by dbtrigger", keys.join(", "));
        let check = Check::warning(PART, &id, what).because("so its expected settings are unknown");
        checks.push(check);
    }
    for notebook_check in
        tasks.iter().filter_map(|task| notebook_checks.get(&task.notebook)).take(1).filter(|_| !names.is_empty())
    {
        let Ok(prerequisites) = &notebook_check.prerequisites else { continue };
        let requirements = prerequisites::NotebookRequirements {
            notebook: Some(&prerequisites.path),
            account: None,
            jobs: Vec::new(),
            host: None,
        };
        let id = format!("overrides:{}", job.id);
        checks.push(match prerequisites.check_overrides(&requirements, &names) {
            Ok(()) => Check::ok(PART, &id, format!("the notebook allows the overrides of {}", workflow.short())),
            Err(failure) => Check::failed(PART, &id, failure),
        });
    }
    checks.push(schedule(workflow));
    checks
}

/// Checks the schedule.
fn schedule(workflow: &WorkflowCheck) -> Check {
    let job = &workflow.have.job;
    let (id, shown) = (format!("schedule:{}", job.id), workflow.short());
    match job_schedule(&job.settings) {
        None => Check::ok(PART, &id, format!("{shown} has no schedule")),
        Some(JobSchedule { expression, timezone, paused: false }) => {
            Check::ok(PART, &id, format!("{shown} is scheduled: {expression} in {timezone}"))
        }
        Some(JobSchedule { expression, timezone, paused: true }) => {
            Check::warning(PART, &id, format!("the schedule of {shown} is paused"))
                .because(format!("schedule: {expression} in {timezone}"))
                .advise("resume it with create-workflow --unpaused, or with Resume in the workspace")
        }
    }
}

/// Turns a comparison without requested changes into a check. `is_lost`: it was edited, and the original is unknown.
fn judged(id: &str, shown: &str, diff: impl Fn(&Consents) -> Action, is_lost: bool, again: Option<&str>) -> Check {
    let remedy = |failure: Failure| match again {
        Some(again) => failure.run("undo the edits", format!("{again} --force")),
        None => failure.advise("run create-workflow with --force and its original --job and --name"),
    };
    match diff(&Consents::default()) {
        Action::Update(_) if is_lost => {
            let failure = Failure::new(Code::Refused, format!("{shown} was edited by hand"))
                .cause("it differs from what dbtrigger wrote, and the original is unknown");
            Check::failed(PART, id, remedy(failure))
        }
        Action::Keep(_) | Action::Remove => Check::ok(PART, id, format!("{shown} is up to date")),
        Action::Create => Check::warning(PART, id, format!("{shown} no longer exists")),
        Action::Update(changes) => {
            let check = Check::warning(PART, id, format!("{shown} was written by another version of dbtrigger"));
            let check = changes.iter().map(describe_change).fold(check, Check::because);
            again.into_iter().fold(check, |check, again| check.run("update the workflow", again))
        }
        // Its runs differ from what was requested.
        Action::Blocked { why, unless: Some(Consent::Force) } => {
            let failure = Failure::new(Code::Refused, why.what);
            let edits = match diff(&Consents::default().with(Consent::Force, true)) {
                Action::Update(changes) => edits(&changes),
                Action::Keep(_) | Action::Create | Action::Remove | Action::Blocked { .. } => Vec::new(),
            };
            Check::failed(PART, id, remedy(edits.into_iter().fold(failure, Failure::cause)))
        }
        Action::Blocked { why, unless: _ } => {
            let failure = Failure::new(Code::Refused, why.what);
            Check::failed(PART, id, why.hints.into_iter().fold(failure, Failure::hint))
        }
    }
}

/// The manual edits, as `field: original -> current`. Marks are derived, so they are left out.
fn edits(changes: &[Change]) -> Vec<String> {
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
    let is_mark = |field: &str| field.starts_with("tags.dbtrigger-") || field == "task.description";
    let edited = changes.iter().filter(|change| !is_mark(&change.field));
    edited.map(|Change { field, from, to, reason: _ }| format!("{field}: {} -> {}", shown(to), shown(from))).collect()
}

/// The command that recreates this workflow, if its original name is known.
fn again(
    chain: &CheckContext<'_>,
    want: &WorkflowWant,
    notebook_checks: &BTreeMap<String, NotebookCheck>,
) -> Option<String> {
    let account = account(chain, &want.notebook, notebook_checks);
    let at = at_notebook(chain, &want.notebook, notebook_checks);
    let named = |TaskSpec { key, job, depends_on: _ }: &TaskSpec| {
        if job_in_key(key) == Some(*job) { format!(" --job {job}") } else { format!(" --job {}={job}", quoted(key)) }
    };
    if let ([only], Some(account)) = (want.tasks.as_slice(), account)
        && want.identity == Identity::of_job(account, only.job)
    {
        return Some(format!("dbtrigger create-workflow{}{at}", named(only)));
    }
    if want.identity != Identity::of_name(&want.name) {
        return None;
    }
    let mut tasks = want.tasks.clone();
    // The service may return tasks in another order.
    tasks.sort_by(|one, other| one.key.cmp(&other.key));
    let tasks: String = tasks.iter().map(named).collect();
    Some(format!("dbtrigger create-workflow --name {}{tasks}{at}", quoted(&want.name)))
}

/// The account whose jobs this notebook starts; otherwise the one in use.
fn account(chain: &CheckContext<'_>, notebook: &str, notebook_checks: &BTreeMap<String, NotebookCheck>) -> Option<u64> {
    notebook_checks.get(notebook).and_then(NotebookCheck::account).or(chain.dbt.account)
}

/// The flag that names the notebook, unless it is the default one.
fn at_notebook(chain: &CheckContext<'_>, notebook: &str, notebook_checks: &BTreeMap<String, NotebookCheck>) -> String {
    let usual = account(chain, notebook, notebook_checks).and_then(|account| default_path(chain.me, account).ok());
    if usual.is_some_and(|usual| usual.as_str() == notebook) {
        String::new()
    } else {
        format!(" --notebook {}", quoted(notebook))
    }
}
