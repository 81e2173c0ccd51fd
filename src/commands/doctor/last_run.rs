//! How the last run of a workflow ended.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::context::{CheckContext, PART};
use super::notebooks::NotebookCheck;
use super::report::Check;
use super::workflows::WorkflowCheck;
use crate::commands::create_workflow::Used;
use crate::commands::jobs::moment;
use crate::databricks::{self, WorkflowEnd, list_workflow_runs};
use crate::failure::{Code, Failure, of_databricks};
use crate::runs::{PollResult, Probe as _, WorkflowProbe, WorkflowState, plain};

/// Checks the newest run that has ended; a failed run is a failed check with its cause.
pub(super) async fn look(
    chain: &CheckContext<'_>,
    workflow: &WorkflowCheck,
    notebook_checks: &BTreeMap<String, NotebookCheck>,
) -> Check {
    let job = workflow.have.job.id;
    let (id, subject) = (format!("last-run:{job}"), format!("the last run of {}", workflow.short()));
    let unknown = |error| {
        let failure = of_databricks(&format!("the outcome of {subject} is unknown"), &error);
        let check = Check::warning(PART, &id, failure.what);
        failure.causes.into_iter().fold(check, Check::because).then(failure.hints)
    };
    let page = match chain.reader.read(list_workflow_runs(job, false, None)).await {
        Ok(page) => page,
        Err(error) => return unknown(error),
    };
    let ended = page.runs.rows.iter().filter_map(|run| match run.state()? {
        databricks::RunState::Ended(end) => Some((run, end)),
        databricks::RunState::Active(_) => None,
    });
    let Some((run, end)) = ended.max_by_key(|(run, _)| (run.start_time, run.run_id)) else {
        let of = "no run has ended yet, so it is unknown whether dbt accepts the key";
        return Check::skipped(PART, &id, of);
    };
    let at = run.start_time.and_then(|at| i64::try_from(at).ok()).and_then(|at| Timestamp::from_millisecond(at).ok());
    let at = at.map(|at| format!(" ({})", moment(at, &chain.dbt.zone))).unwrap_or_default();
    let described = format!("{subject}, {}{at}", run.run_id);
    let watch = format!("dbtrigger watch --workflow-run {}", run.run_id);
    let well = |word: &str| Check::ok(PART, &id, format!("{described}: {word}"));
    match end {
        WorkflowEnd::Success(word) | WorkflowEnd::Excluded(word) => well(&word),
        WorkflowEnd::SuccessWithFailures(word) => {
            well(&word).warn("some of its tasks failed").run("see what happened", watch)
        }
        WorkflowEnd::Cancelled(word) => well(&word).warn("it was canceled").run("see what happened", watch),
        WorkflowEnd::NotRun(word) | WorkflowEnd::Failed(word) => {
            let state = match WorkflowProbe::new(chain.reader, run.run_id).poll().await {
                Ok(PollResult::Ended(state) | PollResult::Active(state)) => state,
                Err(error) => return unknown(error),
            };
            let what = format!("run {}{at} of {} failed: {word}", run.run_id, workflow.short());
            Check::failed(PART, &id, why(workflow, notebook_checks, &state, what).run("see what happened", watch))
        }
    }
}

/// Why it failed, and the next steps.
fn why(
    workflow: &WorkflowCheck,
    notebook_checks: &BTreeMap<String, NotebookCheck>,
    state: &WorkflowState,
    what: String,
) -> Failure {
    let failure = Failure::new(Code::RunFailed, what);
    let failed =
        state.tasks.iter().find(|task| matches!(task.state, Some(databricks::RunState::Ended(WorkflowEnd::Failed(_)))));
    let Some(task) = failed else {
        let message = state.run.message().map(|message| plain(message, 400));
        return message.into_iter().fold(failure, Failure::cause);
    };
    let notebook = workflow.tasks.iter().find(|own| own.key == task.key).map(|own| &own.notebook);
    let prerequisites = notebook.and_then(|notebook| notebook_checks.get(notebook)?.prerequisites.as_ref().ok());
    let Some(prerequisites) = prerequisites else {
        // A task of others, or a notebook that failed its own check.
        let lines = task.output.iter().flat_map(|output| &output.error).chain(&task.message).take(5);
        return lines.map(|line| format!("task {}: {line}", task.key)).fold(failure, Failure::cause);
    };
    let who = workflow.have.job.run_as.as_deref().unwrap_or("its run-as identity");
    let used = Used { who, path: &prerequisites.path, scope: &prerequisites.scope, key: &prerequisites.key };
    let Failure { code: _, what: why, causes, hints, open_questions: _ } = used.meaning(task);
    let failure = causes.into_iter().fold(failure.cause(why), Failure::cause);
    Failure { hints, ..failure }
}
