//! Follows a run of a Databricks job to its end and reports how it ended, for `run --workflow` and `watch`.

use std::time::Duration;

use super::duration::shown;
use super::on_interrupt::Stopped;
use crate::commands::CommandContext;
use crate::commands::last_known::Checkpoint;
use crate::databricks::{Iterations, RunState, WorkflowEnd};
use crate::document::{Count, Data, Id, document};
use crate::events::{Activity, Events};
use crate::failure::{Code, Ended, FailedPart, Failure, Known, Report, RunOutcome, TaskRun, of_databricks, of_gone};
use crate::http::{Deadline, Reader};
use crate::runs::{
    EarlierAttempt, Followed, RunsAhead, TaskOutputSummary, TaskState, WorkflowProbe, WorkflowState, follow,
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
    follow_judged(report, run, reader, deadline, ctx, &judge).await
}

/// Follows the run to its end; the caller decides what counts as failure.
pub(crate) async fn follow_judged(
    mut report: WorkflowReport,
    run: u64,
    reader: &Reader,
    deadline: &Deadline,
    ctx: &CommandContext,
    judge: &dyn Fn(&WorkflowReport, &WorkflowState) -> Option<Failure>,
) -> Ended<Box<dyn Report>> {
    let pick_up = super::resume::watch_workflow(run);
    ctx.last_known.set(Checkpoint {
        known: Known::of(&report),
        line: format!("Databricks run {run} is still running: {}", report.url()),
        resume: pick_up.clone(),
    });
    let going = ctx.events.activity(format!("Databricks run {run}"));
    let mut lines = Lines::new(going, &ctx.events);
    let mut probe = WorkflowProbe::new(reader, run);
    let followed = follow(&mut probe, deadline.clone(), &ctx.run_context(), |state| lines.state(state)).await;
    // Clears the progress bar before the last messages.
    drop(lines);
    let failure = match followed {
        Followed::Ended(state) => {
            report.take(&state);
            let failure = judge(&report, &state);
            report.state = Some(state);
            failure
        }
        Followed::OutOfTime(state) => {
            let word = state.as_ref().map_or_else(|| "not seen".to_owned(), |state| state.state.word().to_owned());
            report.state = state;
            Some(
                Failure::new(Code::StillRunning, format!("timed out; Databricks run {run} is still running"))
                    .cause(format!("status: {word}"))
                    .run("follow it again", pick_up)
                    .advise(format!("see {}", report.url())),
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
                    .run("follow it again", pick_up),
            )
        }
    };
    if failure.is_none() {
        ctx.last_known.clear();
    }
    Ended { report: Some(Box::new(report)), failure }
}

fn verdict(report: &WorkflowReport, state: &WorkflowState, again: Option<&str>, events: &Events) -> Option<Failure> {
    let name = report.shown_name();
    let run = state.run.run_id;
    let end = match &state.state {
        RunState::Ended(end) => end,
        RunState::Going(_) => return None,
    };
    let failure = match end {
        WorkflowEnd::Success(_) | WorkflowEnd::Excluded(_) => return None,
        WorkflowEnd::SuccessWithFailures(_) => {
            let failed: Vec<String> = causes(state, |end| matches!(end, WorkflowEnd::Failed(_)));
            for cause in failed {
                events.remark(cause);
            }
            events.remark("some tasks failed, but the run succeeded: SUCCESS_WITH_FAILURES");
            return None;
        }
        WorkflowEnd::Cancelled(word) => {
            let by = match state.run.code() {
                Some("USER_CANCELED") => " by a user",
                Some("CANCELED") => " by Databricks",
                Some(_) | None => "",
            };
            Failure::new(Code::RunCancelled, format!("Databricks run {run} of {name} was canceled{by} ({word})."))
        }
        WorkflowEnd::NotRun(word) => {
            let failure = Failure::new(Code::RunFailed, format!("Databricks run {run} of {name} never ran: {word}."));
            if is_limit(word) || state.run.code().is_some_and(is_limit) {
                failure.advise("enable the workflow's queue, so that runs over the limit wait instead of being skipped")
            } else {
                failure
            }
        }
        WorkflowEnd::Failed(word) => {
            Failure::new(Code::RunFailed, format!("Databricks run {run} of {name} ended with {word}."))
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

/// Prints one line per change of the run and of each attempt of a task.
struct Lines<'a> {
    going: Activity,
    events: &'a Events,
    run: String,
    /// Run ID, last status printed and whether the output was printed, per attempt.
    tasks: Vec<(u64, String, bool)>,
    /// Last queue reason printed.
    queue: String,
    repairs: usize,
}

impl<'a> Lines<'a> {
    fn new(going: Activity, events: &'a Events) -> Lines<'a> {
        Lines { going, events, run: String::new(), tasks: Vec::new(), queue: String::new(), repairs: 0 }
    }
}

impl Lines<'_> {
    fn state(&mut self, state: &WorkflowState) {
        let WorkflowState { run, state, tasks, ahead } = state;
        if run.repairs() > self.repairs {
            self.repairs = run.repairs();
            let times = if self.repairs == 1 { "once".to_owned() } else { format!("{} times", self.repairs) };
            self.events.remark(format!("this run was repaired {times}; the last attempt of each task counts"));
        }
        // Tasks end before their run does, so they are printed first.
        let over = state.is_over();
        if !over {
            self.run_line(state.word().to_owned());
            if state.word() == "QUEUED" {
                self.queue_line(&waits(run.queue_code(), run.message(), ahead.as_ref()));
            }
        }
        for task in tasks {
            self.task(task);
        }
        if over {
            let (start, end) = run.span();
            let milliseconds = end.zip(start).and_then(|(end, start)| end.checked_sub(start));
            let took = milliseconds.map(|took| format!("   in {}", shown(Duration::from_millis(took))));
            self.run_line(format!("{}{}", state.word(), took.unwrap_or_default()));
        }
    }

    fn run_line(&mut self, line: String) {
        if line != self.run {
            self.going.state(line.clone());
            self.events.progress(line.clone());
            self.run = line;
        }
    }

    fn queue_line(&mut self, line: &str) {
        if line != self.queue {
            self.events.remark(line);
            line.clone_into(&mut self.queue);
        }
    }

    /// What was last printed for this attempt.
    fn known(&mut self, run_id: u64) -> &mut (u64, String, bool) {
        let index = self.tasks.iter().position(|(known, _, _)| *known == run_id).unwrap_or_else(|| {
            self.tasks.push((run_id, String::new(), false));
            self.tasks.len() - 1
        });
        &mut self.tasks[index]
    }

    fn task(&mut self, task: &TaskState) {
        let TaskState { key, run_id, attempt, repair, state, message: _, outcome, iterations, earlier, output } = task;
        for before in earlier {
            let EarlierAttempt { run_id, attempt, repair: in_repair, state, message: _, dbt_run_url: _ } = before;
            let Some(state) = state else { continue };
            let (_, last, _) = self.known(*run_id);
            // Already printed when this was the newest attempt.
            if last != state.word() {
                state.word().clone_into(last);
                let which =
                    if in_repair < repair { format!("before repair {repair}") } else { format!("attempt {attempt}") };
                self.events.progress(format!("task {key}   {}   ({which}; tried again)", state.word()));
            }
        }
        let Some(state) = state else { return };
        let (_, last, told) = self.known(*run_id);
        if last != state.word() {
            state.word().clone_into(last);
            *told = false;
            let mut notes = Vec::new();
            notes.extend((*repair > 0).then(|| format!("repair {repair}")));
            notes.extend((*attempt > 1).then(|| format!("attempt {attempt}")));
            if state.is_over() {
                notes.extend(outcome.as_ref().map(|outcome| format!("it is {outcome}")));
                notes.extend(iterations.as_ref().map(loop_line));
            }
            let notes = if notes.is_empty() { String::new() } else { format!("   ({})", notes.join(", ")) };
            let line = format!("task {key}   {}{notes}", state.word());
            self.going.state(line.clone());
            self.events.progress(line);
        }
        let (_, _, told) = self.known(*run_id);
        let Some(output) = output.as_ref().filter(|_| !*told) else { return };
        *told = true;
        for line in output.lines.iter().chain(&output.error) {
            self.events.progress(format!("  {line}"));
        }
        let shown = |url: &&String| output.lines.contains(url) || output.error.contains(url);
        if let Some(url) = output.dbt_run_url.as_ref().filter(|url| !shown(url)) {
            self.events.progress(format!("  {url}"));
        }
    }
}

fn loop_line(iterations: &Iterations) -> String {
    let Iterations { total, succeeded, failed } = iterations;
    let failed = if *failed > 0 { format!(", {failed} failed") } else { String::new() };
    format!("{succeeded} of {total} iterations succeeded{failed}")
}

/// Why a queued run waits, and for which runs.
fn waits(code: Option<&str>, message: Option<&str>, ahead: Option<&RunsAhead>) -> String {
    let why = match code {
        Some("MAX_CONCURRENT_RUNS_REACHED") => "the workflow is at its concurrency limit".to_owned(),
        Some("ACTIVE_RUNS_LIMIT_REACHED") => "the workspace is at its run limit".to_owned(),
        Some("ACTIVE_RUN_JOB_TASKS_LIMIT_REACHED") => "the workspace is at its task limit".to_owned(),
        Some(other) => message.unwrap_or(other).to_owned(),
        None => message.unwrap_or("it is queued").to_owned(),
    };
    let why = format!("queued: {}", crate::runs::plain(&why, 300));
    let Some(RunsAhead { begun, waiting, more }) = ahead else { return why };
    let ids: Vec<String> = begun.iter().take(3).map(u64::to_string).collect();
    let runs = match (begun.len(), ids.join(", ")) {
        (0, _) => None,
        (1, id) => Some(format!("run {id}")),
        (2 | 3, ids) => Some(format!("runs {ids}")),
        (many, ids) => Some(format!("runs {ids} and {} more", many - 3)),
    };
    let waiting = match waiting {
        0 => None,
        1 => Some("1 run queued earlier".to_owned()),
        many => Some(format!("{many} runs queued earlier")),
    };
    let parts: Vec<String> = runs.into_iter().chain(waiting).chain(more.then(|| "others".to_owned())).collect();
    if parts.is_empty() { why } else { format!("{why}; behind {}", parts.join(" and ")) }
}

/// What is known of the run: the `data` of `run --workflow` and `watch --workflow-run`.
#[derive(Clone)]
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
    pub(crate) on_interrupt: Option<Stopped>,
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
}

impl WorkflowReport {
    /// The status after `--on-interrupt cancel`, otherwise as last seen.
    fn status(&self) -> Option<&str> {
        let stopped = self.on_interrupt.as_ref().and_then(|stopped| stopped.status.as_deref());
        stopped.or_else(|| self.state.as_ref().map(|state| state.state.word()))
    }
}

impl Report for WorkflowReport {
    /// Empty, since everything was printed as progress.
    fn text(&self) -> String {
        String::new()
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
            "on_interrupt": on_interrupt.as_ref().map(|stopped| stopped.became.word()),
            "dbt_runs": on_interrupt.as_ref().map(|stopped| &stopped.dbt_runs),
            "message": state.as_ref().and_then(|state| state.run.message()).map(|text| crate::runs::plain(text, 500)),
            "repairs": state.as_ref().map(|state| state.run.repairs()),
            "queued_behind": state.as_ref().and_then(|state| state.ahead.as_ref()).map(|ahead| {
                let RunsAhead { begun, waiting, more } = ahead;
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
