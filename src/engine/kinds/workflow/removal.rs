//! Removing a dbtrigger job: only if it is unedited, has no tasks of others and no active run.

use serde::Serialize;

use super::settings::{Record, record};
use super::{ID_TAG, managed_elsewhere, tasks};
use crate::databricks::jobs::{self, Job};
use crate::databricks::permissions::job_permissions;
use crate::databricks::{WorkflowRun, is_missing, list_workflow_runs};
use crate::engine::apply::Inputs;
use crate::engine::kinds::added_task::{added_tasks, is_added};
use crate::engine::kinds::task::key_of;
use crate::engine::kinds::{access, still_there, unmanaged};
use crate::engine::{Action, Applied, Consent, Consents, Creation, Kind, Refusal, Step};
use crate::failure::{Code, Failure};
use crate::http::{BodyProblem, HttpError, Reader, Writer};

pub(crate) enum WorkflowRemoval {}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct WorkflowRemovalWant {
    pub(crate) job: u64,
    /// Its name in the workspace.
    pub(crate) name: String,
    /// Whether the user named this job, so that keeping it is a refusal.
    pub(crate) named: bool,
    /// Other jobs with the same mark, such as a copy made in the workspace.
    pub(crate) twins: Vec<u64>,
    /// The caller.
    pub(crate) me: String,
}

/// The job, and what else decides whether it may be removed.
#[derive(Clone, Debug)]
pub(crate) struct WorkflowRemovalHave {
    pub(crate) job: Job,
    pub(crate) active: Vec<u64>,
    /// Whether the caller manages it, as far as that is known.
    pub(crate) manages: bool,
}

async fn active(reader: &Reader, job: u64) -> Result<Vec<u64>, HttpError> {
    let page = async |token: Option<String>| {
        let listed = reader.read(list_workflow_runs(job, true, token.as_deref())).await?;
        // The unreadable run may be active.
        if listed.runs.unreadable > 0 {
            return Err(reader.invalid_response(
                "jobs/runs/list",
                BodyProblem::Unreadable("a run of the list cannot be read".to_owned()),
            ));
        }
        Ok((listed.runs.rows, listed.next_page_token.filter(|token| !token.is_empty())))
    };
    let runs = reader.pages("jobs/runs/list", |run: &WorkflowRun| run.run_id, usize::MAX, page).await?;
    Ok(runs.into_iter().map(|run| run.run_id).collect())
}

/// Why the job is kept, as a clause, and what the user can do.
fn reason(want: &WorkflowRemovalWant, have: &WorkflowRemovalHave) -> Option<(String, String)> {
    let WorkflowRemovalHave { job, active: _, manages } = have;
    let settings = &job.settings;
    let in_workspace = || "delete it in the workspace".to_owned();
    if !settings.object("tags").has(ID_TAG) {
        return Some(("dbtrigger did not create it".to_owned(), in_workspace()));
    }
    if let Some(who) = managed_elsewhere(job) {
        return Some((format!("it is managed by {who}"), "remove it there".to_owned()));
    }
    if !want.twins.is_empty() && !want.named {
        let ids: Vec<String> = want.twins.iter().map(u64::to_string).collect();
        let advice = format!("keep one of them: dbtrigger remove --workflow {}", want.job);
        return Some((format!("other jobs carry the same mark: {}", ids.join(", ")), advice));
    }
    let all = settings.list("tasks");
    let foreign: Vec<String> = all.iter().filter(|task| !tasks::is_ours(task) && !is_added(task)).map(key_of).collect();
    if !foreign.is_empty() {
        return Some((format!("dbtrigger did not add all of its tasks: {}", foreign.join(", ")), in_workspace()));
    }
    let is_written = match record(settings) {
        Record::Agrees => !added_tasks(job).iter().any(|task| task.is_edited),
        Record::Differs | Record::Unknown => false,
    };
    if !is_written {
        return Some((
            "it was edited since dbtrigger wrote it".to_owned(),
            "delete it in the workspace, or undo the edits first with `create-workflow --force`".to_owned(),
        ));
    }
    let advice = "its owner and administrators can give CAN_MANAGE: on its page, under Permissions".to_owned();
    (!manages).then(|| (format!("{} may not manage it", want.me), advice))
}

impl Kind for WorkflowRemoval {
    type Want = WorkflowRemovalWant;
    type Have = WorkflowRemovalHave;

    const KIND: &'static str = "workflow";
    const CREATION: Creation = Creation::IsRefused;

    fn name(want: &WorkflowRemovalWant) -> String {
        format!("{} \"{}\"", want.job, want.name)
    }

    async fn observe(reader: &Reader, want: &WorkflowRemovalWant) -> Result<Option<WorkflowRemovalHave>, HttpError> {
        let (job, active, permissions) =
            tokio::join!(jobs::get(reader, want.job), active(reader, want.job), reader.read(job_permissions(want.job)));
        let job = match job {
            Ok(job) => job,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let manages = access::manages(reader, &want.me, permissions).await?;
        Ok(Some(WorkflowRemovalHave { job, active: active?, manages }))
    }

    fn diff(want: &WorkflowRemovalWant, have: Option<&WorkflowRemovalHave>, consents: &Consents) -> Action {
        let Some(have) = have else { return Action::absent() };
        let name = WorkflowRemoval::name(want);
        match reason(want, have) {
            Some((why, advice)) if want.named => {
                return Refusal::new(format!("the workflow {name} stays: {why}")).advise(advice).always();
            }
            Some((why, _)) => return Action::kept(why),
            None => {}
        }
        if have.active.is_empty() || consents.has(Consent::CancelRuns) {
            return Action::Remove;
        }
        let runs: Vec<String> = have.active.iter().map(u64::to_string).collect();
        let run = if runs.len() == 1 { "run" } else { "runs" };
        Refusal::new(format!("the workflow {name} is running: {run} {}", runs.join(", ")))
            .advise("wait until it has ended: `dbtrigger watch --workflow-run` follows it")
            .unless(Consent::CancelRuns)
    }

    fn is_as_planned(step: &Step<WorkflowRemoval>, now: Option<&WorkflowRemovalHave>) -> bool {
        let job = |have: &WorkflowRemovalHave| (have.job.run_as.clone(), unmanaged::fields(&have.job.settings));
        match (&step.have, now) {
            (Some(before), Some(now)) => job(before) == job(now) && now.active.is_empty(),
            (_, _) => false,
        }
    }

    async fn apply(writer: &Writer, step: &mut Step<WorkflowRemoval>, _inputs: &Inputs) -> Result<Applied, HttpError> {
        writer.put_once(jobs::delete(step.want.job)).await.map(|()| Applied::Written)
    }

    fn differences(_step: &Step<WorkflowRemoval>, now: Option<&WorkflowRemovalHave>) -> Vec<String> {
        still_there(now)
    }

    fn explain(_want: &WorkflowRemovalWant, error: &HttpError, failure: Failure) -> Failure {
        if failure.code == Code::NotAllowed && error.operation == "jobs/delete" {
            return failure
                .advise("deleting a job takes CAN_MANAGE on it, which its owner and administrators can give");
        }
        failure
    }
}
