//! A Databricks job that runs dbt jobs. It is found by a tag, whatever it was renamed to, and never created twice.

mod creation;
mod job_schedule;
mod read_back;
mod removal;
mod run_as;
mod settings;
mod tasks;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep};

pub(crate) use self::job_schedule::{
    JobSchedule, has_active_trigger, job_schedule, other_start, planned_schedule, will_have_active_trigger,
};
pub(crate) use self::read_back::ReadBack;
pub(crate) use self::removal::{WorkflowRemoval, WorkflowRemovalHave, WorkflowRemovalWant};
pub(crate) use self::run_as::refused as run_as_refused;
pub(crate) use self::settings::ID_TAG;
pub(crate) use self::tasks::override_names;
use super::compute::{self, Compute};
use super::digest::digest;
use super::task::key_of;
use super::unmanaged;
use crate::databricks::is_missing;
use crate::databricks::jobs::{self, Job, Summary};
use crate::databricks::raw::Raw;
use crate::engine::apply::Inputs;
use crate::engine::{Action, Applied, Change, Consent, Consents, Creation, Kind, Note, RaceOutcome, Refusal, Step};
use crate::failure::{Code, Failure};
use crate::http::{BodyProblem, Fault, HttpError, Reader, Rows, Writer};
use crate::spec::{Setting, TaskSettings, TaskSpec, WorkflowSettings};

/// How long the job list and the job itself may disagree.
const AGREES_WITHIN: Duration = Duration::from_secs(30);
/// How long concurrent runs of this command may take until one job is left.
const SETTLES_WITHIN: Duration = Duration::from_secs(5);
/// Maximum number of tags on a job.
const MOST_TAGS: usize = 25;

pub(crate) enum Workflow {}

/// The digest in the tag by which a dbtrigger job is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Identity(String);

impl Identity {
    /// The identity of a workflow without a given name: the dbt job itself.
    pub(crate) fn of_job(account: u64, job: u64) -> Identity {
        Identity::digest(&format!("dbt-account:{account}/job:{job}"))
    }

    /// The identity of a named workflow: its original name.
    pub(crate) fn of_name(name: &str) -> Identity {
        Identity::digest(&format!("name:{name}"))
    }

    /// Tags allow few characters, so names are stored as a digest.
    fn digest(text: &str) -> Identity {
        Identity(digest(text, 32))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn is_of(&self, job: &Summary) -> bool {
        job.tags.get(ID_TAG) == Some(&self.0)
    }
}

/// The workflow that should exist.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct WorkflowWant {
    pub(crate) name: String,
    /// Whether the name was given explicitly, so that an existing job is renamed.
    pub(crate) named: bool,
    pub(crate) identity: Identity,
    /// At least one. The dbt job's ID is a workflow parameter if there is one task, else a task parameter.
    pub(crate) tasks: Vec<TaskSpec>,
    /// The notebook's path in the workspace.
    pub(crate) notebook: String,
    /// The tasks' compute; by default serverless.
    pub(crate) compute: Setting<Compute>,
    pub(crate) each_task: TaskSettings,
    pub(crate) settings: WorkflowSettings,
    /// How long a job may take to become visible after a lost response, before it counts as not created.
    #[serde(skip)]
    pub(crate) settle: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct WorkflowHave {
    /// Jobs with our tag. More than one is an error for the user to resolve.
    pub(crate) ours: Vec<Summary>,
    /// Jobs of the same name without our tag; looked up only if no job has the tag.
    pub(crate) namesakes: Vec<Summary>,
    /// The first of ours, else the first namesake, with all settings.
    pub(crate) job: Job,
    pub(crate) created_job: CreatedJob,
}

/// What this command created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CreatedJob {
    /// Nothing: it existed before, or its creator is unknown.
    None,
    /// The job of this ID, according to the response.
    Created(u64),
    /// The job of this ID, which was deleted again: another process had created one first.
    Deleted(u64),
}

impl WorkflowHave {
    /// Our job, as listed.
    pub(crate) fn own(&self) -> Option<&Summary> {
        self.ours.first()
    }

    pub(crate) fn is_own(&self) -> bool {
        !self.ours.is_empty() || self.created_job != CreatedJob::None
    }
}

fn changes(want: &WorkflowWant, job: &Job) -> Vec<Change> {
    let mut changes = settings::changes(want, &job.settings);
    changes.extend(run_as::change(want, Some(job)));
    changes
}

/// The `jobs/update` request that turns the settings `before` into `after`.
fn update(before: &Raw, after: &Raw) -> jobs::Update {
    let mut update = jobs::Update::default();
    let value = |raw: &Raw, name: &str| raw.read::<Value>(name);
    for name in after.names().filter(|name| *name != "tasks" && value(before, name) != value(after, name)) {
        if let Some(value) = after.read::<Box<RawValue>>(name) {
            update.new_settings.set(name, &value);
        }
        // No source says whether such an array is merged or replaced: removed and sent whole,
        // it ends up as sent either way.
        if name == "parameters" && before.has(name) {
            update.fields_to_remove.push(name.to_owned());
        }
    }
    let (there, wanted) = (before.list("tasks"), after.list("tasks"));
    let changed: Vec<&Raw> = wanted.iter().filter(|task| !there.iter().any(|other| other.is_same(task))).collect();
    if !changed.is_empty() {
        update.new_settings.set("tasks", &changed);
    }
    // An omitted `run_as` stays as it is.
    let dropped = before.names().filter(|name| *name != "run_as" && before.has(name) && !after.has(name));
    update.fields_to_remove.extend(dropped.map(ToOwned::to_owned));
    let keys: Vec<String> = wanted.iter().map(key_of).collect();
    let dropped = there.iter().map(key_of).filter(|key| !keys.contains(key));
    update.fields_to_remove.extend(dropped.map(|key| format!("tasks/{key}")));
    update
}

/// The whole settings that a job will have.
fn intended(want: &WorkflowWant, job: &Job) -> Raw {
    let mut whole = settings::whole(want, Some(&job.settings));
    run_as::write(want, Some(job), &mut whole);
    whole
}

/// Finds the jobs with our tag, oldest first: among those of this name, else among all jobs. If there is none, also
/// returns the jobs of this name.
async fn look(reader: &Reader, name: &str, identity: &Identity) -> Result<(Vec<Summary>, Vec<Summary>), HttpError> {
    look_in(None, reader, name, identity).await
}

/// The same, within the listed jobs if there are any.
async fn look_in(
    listed: Option<Vec<Summary>>,
    reader: &Reader,
    name: &str,
    identity: &Identity,
) -> Result<(Vec<Summary>, Vec<Summary>), HttpError> {
    let oldest_first = |mut jobs: Vec<Summary>| {
        jobs.sort_by_key(|job| (job.created, job.id));
        jobs
    };
    let lower = name.to_lowercase();
    let named = match &listed {
        Some(all) => {
            Rows { rows: all.iter().filter(|job| job.name.to_lowercase() == lower).cloned().collect(), unreadable: 0 }
        }
        None => jobs::all(reader, Some(name)).await?,
    };
    let (ours, others): (Vec<Summary>, Vec<Summary>) = named.rows.into_iter().partition(|job| identity.is_of(job));
    if !ours.is_empty() {
        return Ok((oldest_first(ours), Vec::new()));
    }
    let all = match listed {
        Some(all) => Rows { rows: all, unreadable: 0 },
        None => jobs::all(reader, None).await?,
    };
    let ours = oldest_first(all.rows.into_iter().filter(|job| identity.is_of(job)).collect());
    // One of the unreadable jobs may be ours, and another one would be created.
    if ours.is_empty() && named.unreadable + all.unreadable > 0 {
        return Err(reader
            .invalid_response("jobs/list", BodyProblem::Unreadable("a job of the list cannot be read".to_owned())));
    }
    // The service compares names case-insensitively; we do not.
    let namesakes = others.into_iter().filter(|job| job.name == name);
    Ok(if ours.is_empty() { (ours, namesakes.collect()) } else { (ours, Vec::new()) })
}

/// Longest wait for what is read because of a guess: about one attempt.
pub(crate) const GUESS_LIMIT: Duration = Duration::from_secs(5);

/// What was read in parallel with requests that must precede the workflow look-up.
#[derive(Debug, Default)]
pub(crate) struct JobsAhead {
    /// All jobs, if they fit on one page.
    listed: Option<Vec<Summary>>,
    /// The job that the workflow probably is.
    guessed: Option<Job>,
}

impl JobsAhead {
    /// `guess`: the ID that the workflow had before.
    pub(crate) async fn read(reader: &Reader, guess: Option<u64>) -> JobsAhead {
        let guessed = async { reader.within(GUESS_LIMIT, Box::pin(jobs::get(reader, guess?))).await?.ok() };
        let (listed, guessed) = tokio::join!(reader.read_once(jobs::list(None, None)), guessed);
        let listed = match listed {
            Ok(jobs::Page { jobs: Rows { rows, unreadable: 0 }, next: None }) => Some(rows),
            // The look-up that needs the list reports the error.
            Ok(_) | Err(_) => None,
        };
        JobsAhead { listed, guessed }
    }
}

/// Finds the workflow of this name and mark.
pub(crate) async fn find_workflow(
    reader: &Reader,
    name: &str,
    identity: &Identity,
    JobsAhead { mut listed, mut guessed }: JobsAhead,
) -> Result<Option<WorkflowHave>, HttpError> {
    let begun = Instant::now();
    let end = begun + AGREES_WITHIN;
    let mut pause = Duration::from_millis(250);
    loop {
        let (ours, namesakes) = look_in(listed.take(), reader, name, identity).await?;
        let Some(first) = ours.first().or(namesakes.first()) else { return Ok(None) };
        let job = match guessed.take_if(|job| job.id == first.id) {
            Some(job) => Ok(job),
            None => jobs::get(reader, first.id).await,
        };
        match job {
            // Created by concurrent runs of this command, which will resolve it.
            Ok(_) if ours.len() > 1 && begun.elapsed() + pause < SETTLES_WITHIN => {}
            Ok(job) => return Ok(Some(WorkflowHave { ours, namesakes, job, created_job: CreatedJob::None })),
            // Listed but not found: just created or just deleted. Treating it as absent would create a second one.
            Err(error) if is_missing(&error) && Instant::now() < end => {}
            Err(error) => return Err(error),
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// The ID of the job with our tag, which may have just been created.
pub(super) async fn own_job(reader: &Reader, name: &str, identity: &Identity) -> Result<Option<u64>, HttpError> {
    Ok(look(reader, name, identity).await?.0.first().map(|job| job.id))
}

/// `job 12 "name" and job 34 "name"`.
pub(crate) fn name_all(jobs: &[Summary]) -> String {
    let named: Vec<String> = jobs.iter().map(|job| format!("job {} \"{}\"", job.id, job.name)).collect();
    named.join(" and ")
}

/// The other tool that manages this job, if any.
pub(super) fn managed_elsewhere(job: &Job) -> Option<&'static str> {
    let deployment = job.settings.object("deployment");
    if deployment.has("kind") || job.settings.read::<String>("edit_mode").as_deref() == Some("UI_LOCKED") {
        return Some("a Databricks bundle, whose next deployment would undo the change");
    }
    let tags = job.settings.object("tags");
    let terraform = tags.names().any(|name| {
        let bare: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        bare.eq_ignore_ascii_case("managedby")
            && tags.read::<String>(name).is_some_and(|value| value.to_ascii_lowercase().contains("terraform"))
    });
    terraform.then_some("Terraform, whose next apply would undo the change")
}

impl Kind for Workflow {
    type Want = WorkflowWant;
    type Have = WorkflowHave;

    const KIND: &'static str = "workflow";
    const CREATION: Creation = Creation::MakesAnother;

    fn name(want: &WorkflowWant) -> String {
        want.name.clone()
    }

    fn quoted(want: &WorkflowWant) -> String {
        format!("\"{}\"", want.name)
    }

    async fn observe(reader: &Reader, want: &WorkflowWant) -> Result<Option<WorkflowHave>, HttpError> {
        find_workflow(reader, &want.name, &want.identity, JobsAhead::default()).await
    }

    fn diff(want: &WorkflowWant, have: Option<&WorkflowHave>, consents: &Consents) -> Action {
        let nothing = Raw::default();
        let there = have.map_or(&nothing, |have| &have.job.settings);
        let mut refusals = Vec::new();
        if let Some((key, keys)) = compute::missing_cluster(&want.compute, there) {
            let known = if keys.is_empty() { "none".to_owned() } else { keys.join(", ") };
            refusals.push(
                Refusal::new(format!("workflow \"{}\" has no job cluster {key}; its job clusters: {known}", want.name))
                    .advise("name one of them, or use --compute serverless, cluster:ID, or new")
                    .always(),
            );
        }
        if let Some(flag) = job_schedule::flag_without_schedule(&want.settings, there) {
            refusals.push(
                Refusal::new(format!("workflow \"{}\" has no schedule, which {flag} needs", want.name))
                    .advise("add --schedule, such as --schedule '0 0 6 * * ?'")
                    .always(),
            );
        }
        let Some(WorkflowHave { ours, namesakes, job, created_job: _ }) = have else {
            return Action::Create.unless_refused(refusals);
        };
        // The name in the workspace: our job is found whatever it was renamed to.
        let name = ours.first().or(namesakes.first()).map_or(&want.name, |job| &job.name);
        if ours.len() > 1 {
            return Refusal::new(format!("{} jobs have this workflow's tag: {}", ours.len(), name_all(ours)))
                .advise("remove what is not needed with `dbtrigger remove --workflow ID`, or take the tag dbtrigger-id away from what was made as a copy")
                .always()
                .unless_refused(refusals);
        }
        if ours.is_empty() && namesakes.len() > 1 {
            return Refusal::new(format!(
                "{} jobs have this name, and dbtrigger created none of them: {}",
                namesakes.len(),
                name_all(namesakes)
            ))
            .advise("choose another name with --name")
            .always()
            .unless_refused(refusals);
        }
        let changes = changes(want, job);
        if changes.is_empty() {
            return Action::Keep(None).unless_refused(refusals);
        }
        let id = job.id;
        if let Some(who) = managed_elsewhere(job) {
            return Refusal::new(format!("job {id} \"{name}\" is managed by {who}"))
                .advise("choose another name with --name, or change it there")
                .always()
                .unless_refused(refusals);
        }
        if let Some(start) = other_start(&job.settings).filter(|_| want.settings.schedule.value().is_some()) {
            refusals.push(
                Refusal::new(format!("job {id} \"{name}\" already has `{start}`; a job cannot also have a schedule"))
                    .advise("drop --schedule, or remove the other trigger in the workspace")
                    .always(),
            );
        }
        if let Some((task, needs)) = tasks::left_waiting(want, &job.settings) {
            refusals.push(
                Refusal::new(format!(
                    "task {task} of job {id} \"{name}\" depends on task {needs}, which would be removed"
                ))
                .advise("change the dependency in the workspace, or create another workflow with --name")
                .always(),
            );
        }
        if let Some(key) = tasks::taken_key(want, &job.settings) {
            refusals.push(
                Refusal::new(format!("job {id} \"{name}\" has a conflicting task {key} that dbtrigger did not create"))
                    .advise("give the task another key with --job KEY=JOB, or rename the other one in the workspace")
                    .always(),
            );
        }
        let tags = settings::count_tags(want, &job.settings);
        if tags > MOST_TAGS {
            refusals.push(
                Refusal::new(format!("job {id} \"{name}\" would have {tags} tags, but Databricks allows {MOST_TAGS}"))
                    .advise("use fewer --tag, or remove tags in the workspace")
                    .always(),
            );
        }
        let lines = settings::lines(&changes);
        if ours.is_empty() && !tasks::can_be_adopted(want, &job.settings) {
            let what = format!(
                "job {id} \"{name}\" was not created by dbtrigger and has more than one notebook task; they would be overwritten"
            );
            refusals.push(Refusal::new(what).advise("choose another name with --name").always());
        } else if ours.is_empty() && !consents.has(Consent::Adopt) {
            let marked = job.settings.object("tags").has(ID_TAG);
            let whose = if marked { "is another dbtrigger workflow" } else { "was not created by dbtrigger" };
            let refusal = Refusal::new(format!("the job {id} \"{name}\" {whose}"))
                .diff(lines)
                .advise("or choose another name with --name");
            refusals.push(refusal.unless(Consent::Adopt));
        } else if !ours.is_empty() && settings::is_edited(want, &job.settings) && !consents.has(Consent::Force) {
            let refusal = Refusal::new(format!("job {id} \"{name}\" was edited by hand")).diff(lines);
            refusals.push(refusal.unless(Consent::Force));
        }
        Action::Update(changes).unless_refused(refusals)
    }

    async fn reobserve(reader: &Reader, step: &Step<Workflow>) -> Result<Option<WorkflowHave>, HttpError> {
        let WorkflowWant { name, identity, .. } = &step.want;
        let Some(have) = step.present() else { return Workflow::observe(reader, &step.want).await };
        let get = async {
            match jobs::get(reader, have.job.id).await {
                Ok(job) => Ok(Some(job)),
                Err(error) if is_missing(&error) => Ok(None),
                Err(error) => Err(error),
            }
        };
        let mut again = have.clone();
        match have.created_job {
            CreatedJob::None => {
                let Some(job) = get.await? else { return Ok(None) };
                let tags: BTreeMap<String, String> = job.settings.read("tags").unwrap_or_default();
                let own =
                    Summary { id: job.id, name: job.settings.read("name").unwrap_or_default(), tags, created: None };
                // An adopted job is ours from then on.
                if again.ours.is_empty() && identity.is_of(&own) {
                    again.ours.push(own);
                }
                again.job = job;
            }
            // Others may have created one at the same time.
            CreatedJob::Created(_) => {
                let (job, (ours, _)) = tokio::try_join!(get, look(reader, name, identity))?;
                let Some(job) = job else { return Ok(None) };
                (again.ours, again.job) = (ours, job);
            }
            CreatedJob::Deleted(_) => {
                let found = Workflow::observe(reader, &step.want).await?;
                return Ok(found.map(|found| WorkflowHave { created_job: have.created_job, ..found }));
            }
        }
        Ok(Some(again))
    }

    fn is_as_planned(step: &Step<Workflow>, now: Option<&WorkflowHave>) -> bool {
        let job = |have: Option<&WorkflowHave>| {
            have.map(|have| (have.job.id, have.job.run_as.clone(), unmanaged::fields(&have.job.settings)))
        };
        job(step.have.as_ref()) == job(now)
    }

    async fn apply(writer: &Writer, step: &mut Step<Workflow>, _inputs: &Inputs) -> Result<Applied, HttpError> {
        match (&step.action, &step.have) {
            (Action::Create, _) => {
                step.now = creation::create(writer, &step.want).await?;
                Ok(Applied::Written)
            }
            (Action::Update(_), Some(have)) => {
                let update = update(&have.job.settings, &intended(&step.want, &have.job));
                writer.put_once(jobs::update(have.job.id, &update)).await.map(|()| Applied::Written)
            }
            (Action::Update(_), None) | (Action::Keep(_) | Action::Remove | Action::Blocked { .. }, _) => {
                Ok(Applied::Written)
            }
        }
    }

    fn differences(step: &Step<Workflow>, now: Option<&WorkflowHave>) -> Vec<String> {
        let Some(now) = now else { return vec!["no such job".to_owned()] };
        let changes = changes(&step.want, &now.job);
        let mut differences: Vec<String> = changes.iter().map(Change::as_difference).collect();
        if let CreatedJob::Created(own) = now.created_job
            && !now.ours.iter().any(|job| job.id == own)
        {
            differences.push("it is missing from the list of jobs with its tag".to_owned());
        }
        differences
    }

    fn collateral_losses(step: &Step<Workflow>) -> Vec<String> {
        let (Some(before), Some(now)) = (&step.have, &step.now) else { return Vec::new() };
        unmanaged::lost_paths(&before.job.settings, &intended(&step.want, &before.job), &now.job.settings)
    }

    async fn resolve_race(writer: &Writer, step: &mut Step<Workflow>) -> Result<RaceOutcome, HttpError> {
        creation::resolve_race(writer, step).await
    }

    fn created_id(step: &Step<Workflow>) -> Option<String> {
        step.present().map(|have| format!("job {}", have.job.id))
    }

    fn downgraded_to_noop(_step: &Step<Workflow>, now: Option<&WorkflowHave>) -> Option<Note> {
        match now?.created_job {
            CreatedJob::Deleted(_) => Some(Note::Kept("created by a concurrent run of this command".to_owned())),
            CreatedJob::None | CreatedJob::Created(_) => None,
        }
    }

    fn explain(want: &WorkflowWant, error: &HttpError, failure: Failure) -> Failure {
        if !matches!(error.operation, "jobs/create" | "jobs/update") {
            return failure;
        }
        if let Fault::DeadlineExceeded(_) = error.fault
            && error.operation == "jobs/create"
        {
            let Failure { code: _, what, causes, hints: _, open_questions: _ } = failure;
            let mut unknown = Failure::new(Code::OutcomeUnknown, what);
            unknown.causes = causes;
            return unknown
                .cause("the response was lost and the jobs cannot be listed, so it is unknown whether the job was created; nothing was sent again")
                .advise("run the same command again: it looks for the job by its tag before creating one");
        }
        if error.service_error().is_none() {
            return failure.advise("run the same command again: it looks for the job by its tag before creating one");
        }
        let failure = match (want.settings.run_as.value(), error.service_error()) {
            (Some(run_as), Some(said)) => run_as::refused(run_as, said, failure),
            (None, _) | (_, None) => failure,
        };
        compute::explain(want.tasks.first().map(|task| task.job), error, failure)
    }
}

#[cfg(test)]
pub(super) mod tests;
