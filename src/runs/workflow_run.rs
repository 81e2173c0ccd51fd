//! The probe of a Databricks run, which also reads the output of its tasks.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::timeout;

use super::failure_details::plain;
use super::follow::{PollResult, Probe};
use crate::databricks::{
    Attempt, Iterations, RunState, TaskOutput, TaskRun, WorkflowEnd, WorkflowRun, get_task_output, get_workflow_run,
    list_workflow_runs,
};
use crate::dbt::Link;
use crate::events::RunId;
use crate::http::{BodyProblem, HttpError, Pages, Reader, side_by_side};

/// Timeout for reading output, which is only displayed and must not delay the poll.
const OUTPUT_LIMIT: Duration = Duration::from_secs(10);

/// Attempts to read the output of a task.
const OUTPUT_TRIES: u32 = 3;

/// While the run is queued, the runs ahead of it are read on every fourth poll only.
const POLLS_PER_QUEUE: u32 = 4;

/// Most lines kept of a task's output, and most characters of a line.
const LINES: usize = 100;
const LINE: usize = 500;

/// The last known state of a run, with its tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkflowState {
    pub(crate) run: WorkflowRun,
    pub(crate) state: RunState,
    pub(crate) tasks: Vec<TaskState>,
    /// The runs ahead of it while it is QUEUED, if they could be read.
    pub(crate) ahead: Option<ActiveRuns>,
}

/// Other active runs of the same job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ActiveRuns {
    /// Runs that have started.
    pub(crate) begun: Vec<u64>,
    /// Number of runs that are queued and were created before.
    pub(crate) waiting: usize,
    /// Whether there are more than were read.
    pub(crate) more: bool,
}

/// The latest attempt of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TaskState {
    pub(crate) key: String,
    pub(crate) run_id: u64,
    /// Starts at 1.
    pub(crate) attempt: u64,
    /// The repair that made this attempt; 0 is the original run.
    pub(crate) repair: usize,
    pub(crate) state: Option<RunState>,
    pub(crate) message: Option<String>,
    /// The result of a condition task.
    pub(crate) outcome: Option<String>,
    /// The iterations of a for-each task.
    pub(crate) iterations: Option<Iterations>,
    /// Earlier attempts, oldest first.
    pub(crate) earlier: Vec<EarlierAttempt>,
    /// Its output, once it ended and could be read.
    pub(crate) output: Option<TaskOutputSummary>,
}

/// An attempt that was followed by another one, so its outcome no longer counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EarlierAttempt {
    pub(crate) run_id: u64,
    pub(crate) attempt: u64,
    pub(crate) repair: usize,
    pub(crate) state: Option<RunState>,
    pub(crate) message: Option<String>,
    /// As read while it was the latest attempt.
    pub(crate) dbt_run_url: Option<String>,
}

/// The output of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TaskOutputSummary {
    /// Lines printed by the notebook.
    pub(crate) lines: Vec<String>,
    pub(crate) dbt_run_id: Option<u64>,
    pub(crate) dbt_run_url: Option<String>,
    pub(crate) dbt_status: Option<String>,
    /// The exception that ended the task, line by line.
    pub(crate) error: Vec<String>,
    /// The notebook's machine-readable reason for its failure.
    pub(crate) reason: Option<String>,
    /// In check mode: whether all checks of the notebook passed.
    pub(crate) checked: bool,
}

impl TaskOutputSummary {
    /// The exception that ended the task.
    pub(crate) fn error_text(&self) -> Option<String> {
        (!self.error.is_empty()).then(|| self.error.join("\n"))
    }

    /// Whether dbt rejects the stored key, so that running again cannot help.
    pub(crate) fn needs_new_key(&self) -> bool {
        matches!(self.reason.as_deref(), Some("key-refused" | "key-malformed"))
    }
}

/// Prefix of the machine-readable line.
const REASON: &str = "dbtrigger-reason: ";

/// The probe of a Databricks run.
pub(crate) struct WorkflowProbe<'a> {
    reader: &'a Reader,
    run: u64,
    /// By task run: number of attempts, and the output.
    outputs: BTreeMap<u64, (u32, Option<TaskOutputSummary>)>,
    queued_polls: u32,
    ahead: Option<ActiveRuns>,
}

impl<'a> WorkflowProbe<'a> {
    pub(crate) fn new(reader: &'a Reader, run: u64) -> WorkflowProbe<'a> {
        WorkflowProbe { reader, run, outputs: BTreeMap::new(), queued_polls: 0, ahead: None }
    }

    /// Reads the output of these tasks concurrently, unless it was read or tried often enough. Returns `false` if
    /// nothing was left to read.
    async fn read_outputs(&mut self, tasks: &[&TaskRun]) -> bool {
        let is_due = |task: &&&TaskRun| {
            may_have_output(task)
                && self
                    .outputs
                    .get(&task.run_id)
                    .is_none_or(|(tries, output)| output.is_none() && *tries < OUTPUT_TRIES)
        };
        let due: Vec<&TaskRun> = tasks.iter().filter(is_due).copied().collect();
        let read = async |task: &&TaskRun| {
            timeout(OUTPUT_LIMIT, self.reader.read_once(get_task_output(task.run_id))).await.ok()?.ok()
        };
        let answers = side_by_side(&due, read).await;
        for (task, answer) in due.iter().zip(answers) {
            let (tries, output) = self.outputs.entry(task.run_id).or_default();
            *tries += 1;
            *output = answer.map(|answer| parse_output(&answer, task.runs_notebook()));
        }
        !due.is_empty()
    }

    fn output(&self, run_id: u64) -> Option<&TaskOutputSummary> {
        self.outputs.get(&run_id)?.1.as_ref()
    }
}

/// Whether the task has ended and may have output.
fn may_have_output(task: &TaskRun) -> bool {
    match task.state() {
        Some(RunState::Ended(WorkflowEnd::Excluded(_) | WorkflowEnd::NotRun(_)) | RunState::Active(_)) | None => false,
        Some(RunState::Ended(_)) => task.run_id != 0 && task.has_output(),
    }
}

/// Parses a task's output. A notebook's result is a JSON object with `output`; anything else is kept as text.
fn parse_output(output: &TaskOutput, notebook: bool) -> TaskOutputSummary {
    let mut summary = TaskOutputSummary::default();
    if let Some(text) = output.result().filter(|_| notebook) {
        match serde_json::from_str::<serde_json::Value>(text) {
            Ok(result) if result["output"].is_array() => {
                let lines = result["output"].as_array().into_iter().flatten().filter_map(|line| line.as_str());
                summary.lines = lines.take(LINES).map(|line| plain(line, LINE)).collect();
                let id = &result["dbt_run_id"];
                summary.dbt_run_id = id.as_u64().or_else(|| id.as_str()?.parse().ok());
                summary.dbt_run_url = result["url"].as_str().map(|url| plain(url, LINE));
                summary.checked = result["mode"] == "check" && result["ok"] == true;
                summary.dbt_status = result["status"].as_str().map(|status| plain(status, LINE));
            }
            Ok(_) | Err(_) => summary.lines = text.lines().take(LINES).map(|line| plain(line, LINE)).collect(),
        }
    }
    let error = output.error.as_deref().or(output.error_trace.as_deref()).unwrap_or_default();
    let lines = error.lines().map(|line| plain(line, LINE)).filter(|line| !line.is_empty()).take(LINES);
    for line in lines {
        match line.strip_prefix(REASON).filter(|_| notebook) {
            Some(reason) => summary.reason = Some(reason.to_owned()),
            None => summary.error.push(line),
        }
    }
    // A failed notebook returns no result, but its exception ends with the link to the dbt run.
    if summary.dbt_run_url.is_none()
        && let Some((url, run)) = summary.error.iter().rev().find_map(|line| run_in(line))
    {
        (summary.dbt_run_url, summary.dbt_run_id) = (Some(url), Some(run));
    }
    summary
}

/// Parses a line that is the URL of a dbt run.
fn run_in(line: &str) -> Option<(String, u64)> {
    let link = line.starts_with("http").then(|| Link::parse(line).ok())??;
    Some((line.to_owned(), link.run?))
}

impl Probe for WorkflowProbe<'_> {
    type State = WorkflowState;

    fn run_id(&self) -> RunId {
        RunId::Databricks(self.run)
    }

    async fn poll(&mut self) -> Result<PollResult<WorkflowState>, HttpError> {
        let mut run = self.reader.read_once(get_workflow_run(self.run, None)).await?;
        let mut pages = Pages::default();
        let invalid_response = |problem| self.reader.invalid_response("jobs/runs/get", problem);
        while let Some(page) =
            pages.step(run.next_page_token.take().filter(|token| !token.is_empty())).map_err(invalid_response)?
        {
            run.add_page(self.reader.read_once(get_workflow_run(self.run, Some(&page))).await?);
        }
        let Some(state) = run.state().filter(|_| run.run_id == self.run) else {
            let reason = format!("it does not return the status of run {}", self.run);
            return Err(self.reader.invalid_response("jobs/runs/get", BodyProblem::Unreadable(reason)));
        };
        let over = state.is_over();
        self.read_queue(&run, &state).await;
        let attempts = run.attempts();
        let newest: Vec<&TaskRun> = attempts.iter().filter_map(|all| Some(all.last()?.task)).collect();
        // There is no later poll, so retry failed reads now.
        while self.read_outputs(&newest).await && over {}
        let mut tasks = Vec::new();
        for attempts in attempts {
            let Some((newest, before)) = attempts.split_last() else { continue };
            let task = newest.task;
            tasks.push(TaskState {
                key: plain(&task.task_key, LINE),
                run_id: task.run_id,
                attempt: task.attempt(),
                repair: newest.repair,
                state: task.state(),
                message: task.message().map(|message| plain(message, LINE)),
                outcome: task.outcome().map(|outcome| plain(outcome, LINE)),
                iterations: task.iterations(),
                earlier: before.iter().map(|earlier| self.earlier(*earlier)).collect(),
                output: self.output(task.run_id).filter(|_| may_have_output(task)).cloned(),
            });
        }
        let state = WorkflowState { run, state, tasks, ahead: self.ahead.clone() };
        Ok(if over { PollResult::Ended(state) } else { PollResult::Active(state) })
    }
}

impl WorkflowProbe<'_> {
    fn earlier(&self, earlier: Attempt<'_>) -> EarlierAttempt {
        let Attempt { task, repair } = earlier;
        EarlierAttempt {
            run_id: task.run_id,
            attempt: task.attempt(),
            repair,
            state: task.state(),
            message: task.message().map(|message| plain(message, LINE)),
            dbt_run_url: self.output(task.run_id).and_then(|output| output.dbt_run_url.clone()),
        }
    }

    /// Reads what the run waits for, if it is queued.
    async fn read_queue(&mut self, run: &WorkflowRun, state: &RunState) {
        let (Some(job), "QUEUED") = (run.job_id, state.word()) else {
            (self.queued_polls, self.ahead) = (0, None);
            return;
        };
        let due = self.queued_polls.is_multiple_of(POLLS_PER_QUEUE);
        self.queued_polls += 1;
        if !due {
            return;
        }
        let read = self.reader.read_once(list_workflow_runs(job, true, None));
        let Ok(Ok(page)) = timeout(OUTPUT_LIMIT, read).await else { return };
        let mut ahead = ActiveRuns {
            begun: Vec::new(),
            waiting: 0,
            more: page.next_page_token.is_some() || page.runs.unreadable > 0,
        };
        for other in page.runs.rows.iter().filter(|other| other.run_id != run.run_id) {
            match other.state() {
                Some(RunState::Active(word)) if word == "QUEUED" => {
                    ahead.waiting += usize::from(other.start_time <= run.start_time);
                }
                Some(RunState::Active(_)) => ahead.begun.push(other.run_id),
                Some(RunState::Ended(_)) | None => {}
            }
        }
        self.ahead = Some(ahead);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: serde_json::Value, notebook: bool) -> TaskOutputSummary {
        parse_output(&serde_json::from_value(value).unwrap(), notebook)
    }

    #[test]
    fn the_notebooks_own_lines_and_its_dbt_run_are_read_from_its_result() {
        for id in [json!(1), json!("1")] {
            let result = json!({"output": ["job_run_id = 1", "DbtJobRunStatus.SUCCESS"], "dbt_run_id": id, "url": "https://x", "status": "SUCCESS"});
            let output = parse(json!({"notebook_output": {"result": result.to_string()}}), true);
            assert_eq!(output.lines, ["job_run_id = 1", "DbtJobRunStatus.SUCCESS"]);
            assert_eq!((output.dbt_run_id, output.dbt_run_url.as_deref()), (Some(1), Some("https://x")));
        }
    }

    #[test]
    fn whatever_else_a_task_says_does_no_harm() {
        assert_eq!(parse(json!({"notebook_output": {"result": "plain \u{1b}[31mtext"}}), true).lines, ["plain text"]);
        assert_eq!(parse(json!({"notebook_output": {"result": "{\"output\": 7}"}}), true).lines, ["{\"output\": 7}"]);
        assert_eq!(parse(json!({"notebook_output": {}}), true), TaskOutputSummary::default());
        assert_eq!(parse(json!({"notebook_output": []}), false), TaskOutputSummary::default());
        let failed = parse(json!({"error": "\u{1b}[0;31mDbtRunFailed\u{1b}[0m: dbt run 1\nFailed step 4\n\n"}), true);
        assert_eq!(
            (failed.error, failed.dbt_run_id),
            (vec!["DbtRunFailed: dbt run 1".to_owned(), "Failed step 4".to_owned()], None)
        );
        let told = parse(json!({"error": "NotTriggered: HTTP 401\ndbtrigger-reason: key-refused"}), true);
        assert_eq!((told.error.len(), told.reason.as_deref(), told.checked), (1, Some("key-refused"), false));
        let linked =
            parse(json!({"error": "E: dbt run 7 failed\nhttps://ab.us1.dbt.com/deploy/1/projects/2/runs/7/"}), true);
        assert_eq!(linked.dbt_run_id, Some(7));
    }
}
