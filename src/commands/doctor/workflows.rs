//! The workflows of dbtrigger: which there are, whether they are as they were written, and when they start.

use std::collections::{BTreeMap, BTreeSet};

use super::chain::{Chain, PART, Wanted};
use super::check::Check;
use super::notebooks::{Footing, told};
use crate::commands::create_workflow::ground;
use crate::commands::deploy_notebook::{default_path, quoted};
use crate::commands::job_named::NAME;
use crate::databricks::is_missing;
use crate::databricks::jobs::{self, Job, Summary};
use crate::engine::kinds::{
    AddedTask, ID_TAG, Identity, StandingTask, TaskWant, Timetable, Workflow, WorkflowHave, WorkflowWant,
    override_names, read_back, standing, timetable,
};
use crate::engine::{Action, Consent, Consents, Kind as _, Refusal};
use crate::failure::{Code, Failure, of_databricks};
use crate::runs::plain;

/// A workflow with tasks of ours.
pub(super) struct Standing {
    pub(super) have: WorkflowHave,
    name: String,
    pub(super) tasks: Vec<StandingTask>,
    /// It does not run as whoever asks.
    pub(super) is_of_another: bool,
}

impl Standing {
    fn new(ours: Vec<Summary>, job: Job, chain: &Chain<'_>) -> Standing {
        let is_of_another = job.run_as.as_ref().is_some_and(|who| !who.eq_ignore_ascii_case(&chain.me.user_name));
        let name: String = job.settings.read("name").unwrap_or_default();
        let tasks = standing(&job.settings);
        Standing { name, tasks, is_of_another, have: WorkflowHave { ours, namesakes: Vec::new(), job } }
    }

    /// As people see it.
    pub(super) fn shown(&self) -> String {
        format!("the workflow {} \"{}\"", self.have.job.id, plain(&self.name, NAME))
    }
}

/// The workflows that are to be looked at; a check where there is none, or where it cannot be known.
pub(super) async fn find(chain: &Chain<'_>, wanted: &Wanted, job: Option<u64>) -> (Vec<Standing>, Vec<Check>) {
    let found = match &wanted.workflow {
        Some((named, text)) => {
            let again = |id: u64| format!("dbtrigger doctor --workflow {id}");
            match named.find(chain.reader, text, "nothing that hangs on it was looked at", again).await {
                Ok(row) => one(chain, row.job_id).await,
                Err(failure) => Err(failure),
            }
        }
        None => ours(chain, job).await,
    };
    match found {
        Ok(found) => (found, Vec::new()),
        Err(failure) => (Vec::new(), vec![Check::failed(PART, "workflow", failure)]),
    }
}

/// The one that is named, whoever made it.
async fn one(chain: &Chain<'_>, id: u64) -> Result<Vec<Standing>, Failure> {
    let job = jobs::get(chain.reader, id).await;
    let job = job.map_err(|error| of_databricks(&format!("Cannot look at the workflow {id}"), &error))?;
    let tags: BTreeMap<String, String> = job.settings.read("tags").unwrap_or_default();
    let name: String = job.settings.read("name").unwrap_or_default();
    let ours = if tags.contains_key(ID_TAG) { vec![Summary { id, name: name.clone(), tags }] } else { Vec::new() };
    let standing = Standing::new(ours, job, chain);
    if standing.tasks.is_empty() {
        let shown = plain(&name, NAME);
        let failure =
            Failure::new(Code::NotFound, format!("The workflow {id} \"{shown}\" has no task that dbtrigger made."));
        return Err(failure.run(format!("dbtrigger create-workflow --add-to {id} --job <ID>")));
    }
    Ok(vec![standing])
}

/// All with our mark, or those of them that start this dbt job.
async fn ours(chain: &Chain<'_>, job: Option<u64>) -> Result<Vec<Standing>, Failure> {
    let (reader, me) = (chain.reader, &chain.me.user_name);
    let all = jobs::all(reader, None).await;
    let all = all.map_err(|error| of_databricks("Cannot list the workflows", &error))?;
    let mut marked: BTreeMap<String, Vec<Summary>> = BTreeMap::new();
    for summary in all {
        if let Some(identity) = summary.tags.get(ID_TAG).cloned() {
            marked.entry(identity).or_default().push(summary);
        }
    }
    let mut found = Vec::new();
    for ours in marked.into_values() {
        let Some(first) = ours.first().map(|first| first.id) else { continue };
        match jobs::get(reader, first).await {
            Ok(job) => found.push(Standing::new(ours, job, chain)),
            // Deleted since the list was made.
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(of_databricks(&format!("Cannot look at the workflow {first}"), &error)),
        }
    }
    found.sort_by_key(|standing| standing.have.job.id);
    if let Some(job) = job {
        found.retain(|standing| standing.tasks.iter().any(|task| task.job == Some(job)));
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let Some(job) = job else {
        let what = format!("There is no workflow of dbtrigger, as far as {me} can see.");
        let failure = Failure::new(Code::NotFound, what).run("dbtrigger create-workflow --job <ID>");
        return Err(failure.run("dbtrigger jobs"));
    };
    let what = format!("No workflow of dbtrigger starts the dbt job {job}, as far as {me} can see.");
    Err(Failure::new(Code::NotFound, what).run(format!("dbtrigger create-workflow --job {job}")))
}

/// What `create-workflow` would change in it, whether its overrides are allowed, and when it starts.
pub(super) fn compare(chain: &Chain<'_>, workflow: &Standing, footings: &BTreeMap<String, Footing>) -> Vec<Check> {
    let Standing { have, name, tasks, is_of_another: _ } = workflow;
    let (job, shown) = (&have.job, workflow.shown());
    let mut checks = Vec::new();
    let mut names = BTreeSet::new();
    let id = format!("workflow:{}", job.id);
    if have.own().is_some() {
        match have.read_back() {
            None => {
                let failure =
                    Failure::new(Code::Refused, format!("A task of dbtrigger's in {shown} names no dbt job."));
                let advice = "run create-workflow for it once more, with --force";
                checks.push(Check::failed(PART, &id, failure.advise(advice)));
            }
            Some(want) => {
                let again = again(chain, &want, footings);
                checks.push(judged(
                    &id,
                    &shown,
                    Workflow::diff(&want, Some(have), &Consents::default()),
                    again.as_deref(),
                ));
                names = override_names(&want, Some(&job.settings));
            }
        }
    }
    let added = read_back(job, name);
    for want in &added {
        let TaskWant { key, job: dbt_job, depends_on: _ } = &want.task;
        let id = format!("task:{}/{key}", job.id);
        let at = at_notebook(chain, &want.notebook, footings);
        let again =
            format!("dbtrigger create-workflow --add-to {} --job {}{at} --task-key {}", job.id, dbt_job, quoted(key));
        let action = AddedTask::diff(want, Some(job), &Consents::default());
        checks.push(judged(&id, &format!("the task {key} in {shown}"), action, Some(&again)));
    }
    if have.own().is_none() && added.is_empty() {
        let keys: Vec<&str> = tasks.iter().map(|task| task.key.as_str()).collect();
        let what = format!("{shown} runs the notebook in {}, and has no mark of dbtrigger.", keys.join(", "));
        let check = Check::warning(PART, &id, what).because("so what it should be like is not known");
        checks.push(check);
    }
    for footing in tasks.iter().filter_map(|task| footings.get(&task.notebook)).take(1).filter(|_| !names.is_empty()) {
        let Ok(ground) = &footing.ground else { continue };
        let load = ground::Load { notebook: Some(&ground.path), account: None, jobs: Vec::new(), host: None };
        let id = format!("overrides:{}", job.id);
        checks.push(match ground.check_overrides(&load, &names) {
            Ok(()) => Check::ok(PART, &id, format!("the notebook allows the overrides of {shown}")),
            Err(failure) => Check::failed(PART, &id, failure),
        });
    }
    checks.push(schedule(workflow));
    checks
}

/// When it starts by itself.
fn schedule(workflow: &Standing) -> Check {
    let job = &workflow.have.job;
    let (id, shown) = (format!("schedule:{}", job.id), workflow.shown());
    match timetable(&job.settings) {
        None => Check::ok(PART, &id, format!("{shown} has no schedule: somebody or something else starts it")),
        Some(Timetable { expression, timezone, paused: false }) => {
            Check::ok(PART, &id, format!("{shown} starts by {expression} in {timezone}"))
        }
        Some(Timetable { expression, timezone, paused: true }) => {
            Check::warning(PART, &id, format!("The schedule of {shown} is paused, so it does not start by itself."))
                .because(format!("it would start by {expression} in {timezone}"))
                .advise("to let it run again: create-workflow --unpaused, or Resume on the page of the workflow")
        }
    }
}

/// What an action says of something that nobody asked to change.
fn judged(id: &str, shown: &str, action: Action, again: Option<&str>) -> Check {
    let remedy = |check: Check, flags: &str| match again {
        Some(again) => check.run(format!("{again}{flags}")),
        None => check.advise(format!("run create-workflow{flags} with the --name that it had when it was made")),
    };
    match action {
        Action::Keep(_) => Check::ok(PART, id, format!("{shown} is as dbtrigger writes it")),
        Action::Create => Check::warning(PART, id, format!("{shown} is not there any more")),
        Action::Update(changes) => {
            let check = Check::warning(PART, id, format!("create-workflow would change {shown}."));
            remedy(changes.iter().map(told).fold(check, Check::because), "")
        }
        Action::Blocked { why: Refusal { what, diff, advice: _ }, unless: Some(Consent::Force) } => {
            let lines = diff.iter().flat_map(|diff| diff.lines()).map(str::trim);
            let check = lines.fold(Check::warning(PART, id, what), Check::because);
            remedy(check, " --force")
        }
        Action::Blocked { why: Refusal { what, diff: _, advice }, unless: _ } => {
            let failure = Failure::new(Code::Refused, what);
            Check::failed(PART, id, advice.into_iter().fold(failure, Failure::advise))
        }
    }
}

/// The command that asks for this workflow, where its name at first is known.
fn again(chain: &Chain<'_>, want: &WorkflowWant, footings: &BTreeMap<String, Footing>) -> Option<String> {
    let account = footings.get(&want.notebook).and_then(Footing::account);
    let at = at_notebook(chain, &want.notebook, footings);
    if let ([only], Some(account)) = (want.tasks.as_slice(), account)
        && want.identity == Identity::of_job(account, only.job)
    {
        return Some(format!("dbtrigger create-workflow --job {}{at}", only.job));
    }
    if want.identity != Identity::of_name(&want.name) {
        return None;
    }
    let mut tasks = want.tasks.clone();
    // The service gives them back in another order.
    tasks.sort_by(|one, other| one.key.cmp(&other.key));
    let tasks = tasks.iter().map(|TaskWant { key, job, depends_on: _ }| {
        if *key == format!("dbt_{job}") { format!(" --job {job}") } else { format!(" --job {}={job}", quoted(key)) }
    });
    Some(format!("dbtrigger create-workflow --name {}{}{at}", quoted(&want.name), tasks.collect::<String>()))
}

/// The flag that names the notebook, where it is not the usual one.
fn at_notebook(chain: &Chain<'_>, notebook: &str, footings: &BTreeMap<String, Footing>) -> String {
    let account = footings.get(notebook).and_then(Footing::account);
    let usual = account.and_then(|account| default_path(chain.me, account).ok());
    if usual.is_some_and(|usual| usual.as_str() == notebook) {
        String::new()
    } else {
        format!(" --notebook {}", quoted(notebook))
    }
}
