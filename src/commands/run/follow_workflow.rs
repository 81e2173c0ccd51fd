//! Follows a run of a Databricks job to its end and reports how it ended, for `run --workflow` and `watch`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::interrupt_outcome::WorkflowInterruptOutcome;
use crate::commands::CommandContext;
use crate::commands::shared::interrupt_report::Checkpoint;
use crate::databricks::{Iterations, RunState, WorkflowEnd};
use crate::document::{Count, Data, Id, document};
use crate::events::{Activity, Events, IterationCounts, QueueReason, RunEvent, RunId, RunsAhead, StatusDetail};
use crate::failure::{Code, Ended, FailedPart, Failure, Known, Report, RunOutcome, TaskRun, of_databricks, of_gone};
use crate::http::{Deadline, Reader};
use crate::line::Line;
use crate::runs::{
    ActiveRuns, EarlierAttempt, Followed, TaskOutputSummary, TaskState, WorkflowProbe, WorkflowState, follow,
};

/// Follows the run to its end.
pub(crate) async fn follow_run(
    report: WorkflowReport,
    run: u64,
    reader: &Reader,
    deadline: &Deadline,
    again: Option<&str>,
    ctx: &CommandContext,
) -> Ended<Box<dyn Report>> {
    let judge = |report: &WorkflowReport, state: &WorkflowState| verdict(report, state, again, &ctx.events);
    follow_run_with(report, run, reader, deadline, ctx, &judge).await
}

/// Follows the run to its end; the caller decides what counts as failure.
pub(crate) async fn follow_run_with(
    mut report: WorkflowReport,
    run: u64,
    reader: &Reader,
    deadline: &Deadline,
    ctx: &CommandContext,
    judge: &dyn Fn(&WorkflowReport, &WorkflowState) -> Option<Failure>,
) -> Ended<Box<dyn Report>> {
    let watch_command = crate::commands::shared::printed_commands::watch_workflow_run(run);
    ctx.interrupt_report.set(Checkpoint {
        known: Known::of(&report),
        line: format!("Databricks run {run} is still running: {}", report.url()),
        resume: watch_command.clone(),
    });
    let mut changes = WorkflowRunEvents::new(run, &ctx.events);
    let mut probe = WorkflowProbe::new(reader, run);
    let followed = follow(&mut probe, deadline.clone(), &ctx.run_context(), |state| changes.state(state)).await;
    // Clears the progress bar before the last messages.
    drop(changes);
    let failure = match followed {
        Followed::Ended(state) => {
            report.take(&state);
            let failure = judge(&report, &state);
            report.state = Some(state);
            failure
        }
        Followed::OutOfTime(state) => {
            let word = state.as_ref().map_or_else(|| "running".to_owned(), |state| state.state.word().to_lowercase());
            report.state = state;
            Some(
                Failure::new(
                    Code::StillRunning,
                    format!("timed out after {}; Databricks run {run} is still {word}", deadline.limit()),
                )
                .run("follow it again", watch_command)
                .advise(format!("see the run: {}", report.url())),
            )
        }
        Followed::Gone(state, error) => {
            report.state = state;
            let gone = of_gone(&format!("Databricks run {run}"), &error);
            let listed = format!("dbtrigger runs --workflow {}", report.workflow);
            Some(if report.workflow == 0 { gone } else { gone.run("list the workflow's runs", listed) })
        }
        Followed::Blind(state, error) => {
            report.state = state;
            Some(
                of_databricks(&format!("lost track of Databricks run {run}"), &error)
                    .state("it may still be running")
                    .run("follow it again", watch_command),
            )
        }
    };
    if failure.is_none() {
        ctx.interrupt_report.clear();
    }
    Ended { report: Some(Box::new(report)), failure }
}

fn verdict(report: &WorkflowReport, state: &WorkflowState, again: Option<&str>, events: &Events) -> Option<Failure> {
    let name = report.shown_name();
    let run = state.run.run_id;
    let end = match &state.state {
        RunState::Ended(end) => end,
        RunState::Active(_) => return None,
    };
    let failure = match end {
        WorkflowEnd::Success(_) | WorkflowEnd::Excluded(_) => return None,
        WorkflowEnd::SuccessWithFailures(_) => {
            let causes = causes(state, |end| matches!(end, WorkflowEnd::Failed(_)));
            events.run(RunEvent::SucceededWithFailures { causes });
            return None;
        }
        WorkflowEnd::Cancelled(word) => {
            let by = match state.run.code() {
                Some("USER_CANCELED") => " by a user",
                Some("CANCELED") => " by Databricks",
                Some(_) | None => "",
            };
            Failure::new(Code::RunCancelled, format!("Databricks run {run} of {name} was canceled{by} ({word})"))
        }
        WorkflowEnd::NotRun(word) => {
            let failure = Failure::new(Code::RunFailed, format!("Databricks run {run} of {name} never ran: {word}"));
            if is_limit(word) || state.run.code().is_some_and(is_limit) {
                failure.advise("enable the workflow's queue, so that runs over the limit wait instead of being skipped")
            } else {
                failure
            }
        }
        WorkflowEnd::Failed(word) => {
            let word = if word == "FAILED" { String::new() } else { format!(": {word}") };
            Failure::new(Code::RunFailed, format!("Databricks run {run} of {name} failed{word}"))
        }
    };
    let mut failure = failure;
    // Failed tasks are the cause; skipped ones only if no task failed.
    failure.causes = causes(state, |end| matches!(end, WorkflowEnd::Failed(_)));
    if failure.causes.is_empty() {
        failure.causes = causes(state, |end| matches!(end, WorkflowEnd::NotRun(_)));
    }
    if failure.causes.is_empty() {
        failure.causes.extend(state.run.message().map(ToOwned::to_owned));
    }
    let needs_new_key =
        state.tasks.iter().filter_map(|task| task.output.as_ref()).any(TaskOutputSummary::needs_new_key);
    let failure = match again {
        _ if needs_new_key => failure
            .run("replace the key", "dbtrigger init-secrets --rotate")
            .run("see which key it reads", format!("dbtrigger doctor --workflow {}", report.workflow)),
        Some(again) => failure.run("start over", again),
        None => failure,
    };
    Some(failure.advise(format!("see the run: {}", report.url())))
}

/// Whether a run was skipped because of a limit on runs.
fn is_limit(word: &str) -> bool {
    matches!(word, "MAXIMUM_CONCURRENT_RUNS_REACHED" | "MAX_CONCURRENT_RUNS_EXCEEDED")
}

/// Why the tasks that ended in this way did so, each by its newest attempt.
fn causes(state: &WorkflowState, counts: impl Fn(&WorkflowEnd) -> bool) -> Vec<String> {
    let mut causes = Vec::new();
    for task in &state.tasks {
        let Some(RunState::Ended(end)) = task.state.as_ref() else { continue };
        if counts(end) {
            // The full message was printed with the task and is in the data.
            let output = task.output.as_ref().and_then(|output| output.error.first().cloned());
            let why = output.or_else(|| task.message.clone()).unwrap_or_else(|| end.word().to_owned());
            let times = match task.earlier.len() {
                0 => String::new(),
                earlier => format!(" (the last of {} attempts)", earlier + 1),
            };
            causes.push(format!("task {}{times}: {why}", task.key));
        }
    }
    causes
}

/// Emits an event for each change of a Databricks run and of each attempt of its tasks.
struct WorkflowRunEvents<'a> {
    events: &'a Events,
    /// Ends its progress line when dropped.
    _activity: Activity,
    status: Option<RunEvent>,
    queue: Option<RunEvent>,
    attempts: BTreeMap<u64, ShownAttempt>,
    repairs: usize,
}

/// What was last emitted for an attempt of a task.
#[derive(Default)]
struct ShownAttempt {
    status: String,
    output: bool,
}

impl<'a> WorkflowRunEvents<'a> {
    fn new(run: u64, events: &'a Events) -> WorkflowRunEvents<'a> {
        let activity = events.activity(RunId::Databricks(run).to_string());
        WorkflowRunEvents {
            events,
            _activity: activity,
            status: None,
            queue: None,
            attempts: BTreeMap::new(),
            repairs: 0,
        }
    }

    fn state(&mut self, state: &WorkflowState) {
        let WorkflowState { run, state, tasks, ahead } = state;
        if run.repairs() > self.repairs {
            self.repairs = run.repairs();
            self.events.run(RunEvent::Repaired { times: self.repairs });
        }
        let (id, has_ended) = (RunId::Databricks(run.run_id), state.is_over());
        let status = |detail| RunEvent::Status { run: id, status: state.word().to_owned(), has_ended, detail };
        // Tasks end before their run does, so their events come first.
        if !has_ended {
            emit_if_new(&mut self.status, status(None), self.events);
            if state.word() == "QUEUED" {
                let reason = queue_reason(run.queue_code(), run.message());
                emit_if_new(
                    &mut self.queue,
                    RunEvent::Queued { reason, ahead: ahead.as_ref().map(shown_ahead) },
                    self.events,
                );
            }
        }
        for task in tasks {
            self.task(id, task);
        }
        if has_ended {
            let (start, end) = run.span();
            let milliseconds = end.zip(start).and_then(|(end, start)| end.checked_sub(start));
            let took = milliseconds.map(|took| StatusDetail::Took(Duration::from_millis(took)));
            emit_if_new(&mut self.status, status(took), self.events);
        }
    }

    fn task(&mut self, run: RunId, task: &TaskState) {
        for earlier in &task.earlier {
            let Some(status) = earlier.state.as_ref().map(|state| state.word().to_owned()) else { continue };
            let shown = self.attempts.entry(earlier.run_id).or_default();
            // Already emitted when this was the newest attempt.
            if shown.status != status {
                shown.status.clone_from(&status);
                let repair = (earlier.repair < task.repair).then_some(task.repair);
                let (task, attempt) = (task.key.clone(), earlier.attempt);
                self.events.run(RunEvent::TaskRetried { task, status, attempt, repair });
            }
        }
        let Some(state) = &task.state else { return };
        let shown = self.attempts.entry(task.run_id).or_default();
        if shown.status != state.word() {
            *shown = ShownAttempt { status: state.word().to_owned(), output: false };
            let counts = |iterations: &Iterations| {
                let Iterations { total, succeeded, failed } = *iterations;
                IterationCounts { total, succeeded, failed }
            };
            self.events.run(RunEvent::TaskStatus {
                run,
                task: task.key.clone(),
                status: state.word().to_owned(),
                attempt: task.attempt,
                repair: task.repair,
                outcome: task.outcome.clone().filter(|_| state.is_over()),
                iterations: task.iterations.as_ref().filter(|_| state.is_over()).map(counts),
            });
        }
        if let Some(output) = task.output.as_ref().filter(|_| !shown.output) {
            shown.output = true;
            let TaskOutputSummary { lines, error, dbt_run_url, .. } = output.clone();
            self.events.run(RunEvent::TaskOutput { lines, error, dbt_run_url });
        }
    }
}

fn emit_if_new(latest: &mut Option<RunEvent>, event: RunEvent, events: &Events) {
    if latest.as_ref() != Some(&event) {
        events.run(event.clone());
        *latest = Some(event);
    }
}

fn shown_ahead(ahead: &ActiveRuns) -> RunsAhead {
    let ActiveRuns { begun, waiting, more } = ahead;
    RunsAhead { first: begun.iter().copied().take(3).collect(), begun: begun.len(), waiting: *waiting, more: *more }
}

fn queue_reason(code: Option<&str>, message: Option<&str>) -> QueueReason {
    match code {
        Some("MAX_CONCURRENT_RUNS_REACHED") => QueueReason::WorkflowRunLimit,
        Some("ACTIVE_RUNS_LIMIT_REACHED") => QueueReason::WorkspaceRunLimit,
        Some("ACTIVE_RUN_JOB_TASKS_LIMIT_REACHED") => QueueReason::WorkspaceTaskLimit,
        Some(_) | None => {
            let words = message.or(code).unwrap_or("it is queued");
            QueueReason::Other(crate::runs::plain(words, 300))
        }
    }
}

/// What is known of the run: the `data` of `run --workflow` and `watch --workflow-run`.
#[derive(Clone, Default)]
pub(crate) struct WorkflowReport {
    pub(crate) workflow: u64,
    pub(crate) name: String,
    pub(crate) origin: String,
    /// Idempotency token, if dbtrigger started the run.
    pub(crate) key: Option<String>,
    pub(crate) run: Option<u64>,
    pub(crate) url: Option<String>,
    pub(crate) state: Option<WorkflowState>,
    /// Result of `--on-interrupt cancel`, after an interrupt.
    pub(crate) on_interrupt: Option<WorkflowInterruptOutcome>,
}

impl WorkflowReport {
    fn take(&mut self, state: &WorkflowState) {
        let run = &state.run;
        // A one-time run has a hidden job of its own.
        if self.workflow == 0 {
            self.workflow = run.job_id.unwrap_or_default();
        }
        self.url = Some(run.url(&self.origin, self.workflow));
    }

    pub(crate) fn url(&self) -> &str {
        self.url.as_deref().unwrap_or_default()
    }

    pub(crate) fn shown_name(&self) -> String {
        if self.name.is_empty() { format!("workflow {}", self.workflow) } else { format!("workflow \"{}\"", self.name) }
    }

    /// The status after `--on-interrupt cancel`, otherwise as last seen.
    fn status(&self) -> Option<&str> {
        let cancellation = self.on_interrupt.as_ref().and_then(|cancellation| cancellation.status.as_deref());
        cancellation.or_else(|| self.state.as_ref().map(|state| state.state.word()))
    }
}

impl Report for WorkflowReport {
    /// Empty, since everything was printed as progress.
    fn text(&self) -> Vec<Line> {
        Vec::new()
    }

    fn runs(&self) -> Vec<RunOutcome> {
        let tasks = || self.state.iter().flat_map(|state| &state.tasks);
        // While the run is active, a failed task may be retried.
        let is_over = self.state.as_ref().is_some_and(|state| state.state.is_over());
        let has_failed =
            |task: &&TaskState| is_over && matches!(task.state, Some(RunState::Ended(WorkflowEnd::Failed(_))));
        let failed = tasks().filter(has_failed).map(|task| FailedPart {
            name: task.key.clone(),
            message: task.output.as_ref().and_then(TaskOutputSummary::error_text).or_else(|| task.message.clone()),
        });
        let dbt_runs = tasks().filter_map(|task| {
            let output = task.output.as_ref()?;
            Some(TaskRun {
                task_key: task.key.clone(),
                run_id: output.dbt_run_id?,
                run_url: output.dbt_run_url.clone(),
                status: output.dbt_status.clone(),
            })
        });
        let end = self.state.as_ref().map(|state| &state.state);
        vec![RunOutcome {
            name: self.name.clone(),
            run_id: self.run,
            run_url: self.url.clone(),
            status: self.status().map(ToOwned::to_owned),
            with_failures: matches!(end, Some(RunState::Ended(WorkflowEnd::SuccessWithFailures(_)))),
            failed: failed.collect(),
            dbt_runs: dbt_runs.collect(),
            ..RunOutcome::default()
        }]
    }

    fn json(&self) -> Data {
        let WorkflowReport { workflow, name, origin: _, key, run, url, state, on_interrupt } = self;
        let tasks: Vec<Data> = state.iter().flat_map(|state| &state.tasks).map(task_json).collect();
        document!({
            "workflow_id": Id(*workflow),
            "workflow_name": name,
            "key": key,
            "workflow_run_id": run.map(Id),
            "workflow_run_url": url,
            "status": self.status(),
            "on_interrupt": on_interrupt.as_ref().map(|cancellation| cancellation.outcome.word()),
            "dbt_runs": on_interrupt.as_ref().map(|cancellation| &cancellation.dbt_runs),
            "message": state.as_ref().and_then(|state| state.run.message()).map(|text| crate::runs::plain(text, 500)),
            "repairs": state.as_ref().map(|state| state.run.repairs()),
            "queued_behind": state.as_ref().and_then(|state| state.ahead.as_ref()).map(|ahead| {
                let ActiveRuns { begun, waiting, more } = ahead;
                document!({ "run_ids": begun.iter().copied().map(Id).collect::<Vec<_>>(), "queued_before": waiting, "more": more })
            }),
            "tasks": tasks,
        })
    }
}

fn task_json(task: &TaskState) -> Data {
    let TaskState { key, run_id, attempt, repair, state, message, outcome, iterations, earlier, output } = task;
    let output = output.as_ref();
    let earlier: Vec<Data> = earlier
        .iter()
        .map(|earlier| {
            let EarlierAttempt { run_id, attempt, repair, state, message, dbt_run_url } = earlier;
            let status = state.as_ref().map(RunState::word);
            document!({
                "run_id": Id(*run_id), "attempt": Count(*attempt), "repair": repair, "status": status, "message": message,
                "dbt_run_url": dbt_run_url,
            })
        })
        .collect();
    document!({
        "task_key": key,
        "run_id": Id(*run_id),
        "attempt": Count(*attempt),
        "repair": repair,
        "status": state.as_ref().map(RunState::word),
        "message": message,
        "outcome": outcome,
        "iterations": iterations.as_ref().map(|iterations| {
            let Iterations { total, succeeded, failed } = iterations;
            document!({ "total": Count(*total), "succeeded": Count(*succeeded), "failed": Count(*failed) })
        }),
        "earlier_attempts": earlier,
        "output": output.map(|output| &output.lines),
        "error": output.and_then(TaskOutputSummary::error_text),
        "dbt_run_id": output.and_then(|output| output.dbt_run_id).map(Id),
        "dbt_run_url": output.and_then(|output| output.dbt_run_url.as_ref()),
        "dbt_run_status": output.and_then(|output| output.dbt_status.as_ref()),
    })
}

#[cfg(test)]
mod tests;
