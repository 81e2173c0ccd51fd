//! Looks at a run of a Databricks job, and reads what its tasks said when they ended.

use std::time::Duration;

use tokio::time::timeout;

use super::failed::plain;
use super::follow::{Probe, Seen};
use crate::databricks::{Standing, TaskOutput, TaskRun, WorkflowEnd, WorkflowRun, get_task_output, get_workflow_run};
use crate::dbt::Link;
use crate::http::{Fault, HttpError, Reader, Shape};

/// More pages of tasks than this are not read.
const MOST_PAGES: u32 = 20;

/// What a task said is for show: it may not hold a look up.
const OUTPUT_LIMIT: Duration = Duration::from_secs(10);

/// After so many failed attempts what a task said is left out.
const OUTPUT_TRIES: u32 = 3;

/// Of what a task said so many lines are kept, each this long.
const LINES: usize = 100;
const LINE: usize = 500;

/// The run with its tasks, as seen last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkflowState {
    pub(crate) run: WorkflowRun,
    pub(crate) standing: Standing,
    pub(crate) tasks: Vec<TaskState>,
}

/// One task in its newest attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TaskState {
    pub(crate) key: String,
    pub(crate) run_id: u64,
    /// From 1.
    pub(crate) attempt: u64,
    pub(crate) standing: Option<Standing>,
    pub(crate) message: Option<String>,
    /// What it said, once it has ended and could be read.
    pub(crate) said: Option<TaskSaid>,
}

/// What a task said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TaskSaid {
    /// The notebook's own lines.
    pub(crate) lines: Vec<String>,
    pub(crate) dbt_run_id: Option<u64>,
    pub(crate) dbt_run_url: Option<String>,
    pub(crate) dbt_status: Option<String>,
    /// The exception that ended it, line by line.
    pub(crate) error: Vec<String>,
}

/// The probe of a Databricks run.
pub(crate) struct WorkflowProbe<'a> {
    reader: &'a Reader,
    run: u64,
    /// By task run: how often it was tried, and what was read.
    outputs: Vec<(u64, u32, Option<TaskSaid>)>,
}

impl<'a> WorkflowProbe<'a> {
    pub(crate) fn new(reader: &'a Reader, run: u64) -> WorkflowProbe<'a> {
        WorkflowProbe { reader, run, outputs: Vec::new() }
    }

    /// Reads what an ended task said, unless that was done, or tried often enough.
    async fn listen(&mut self, task: &TaskRun) -> Option<TaskSaid> {
        match task.standing() {
            Some(Standing::Ended(WorkflowEnd::Left(_)) | Standing::Going(_)) | None => return None,
            Some(Standing::Ended(
                WorkflowEnd::Success(_)
                | WorkflowEnd::SuccessWithFailures(_)
                | WorkflowEnd::Cancelled(_)
                | WorkflowEnd::Failed(_),
            )) => {}
        }
        let index = self.outputs.iter().position(|(run, _, _)| *run == task.run_id).unwrap_or_else(|| {
            self.outputs.push((task.run_id, 0, None));
            self.outputs.len() - 1
        });
        let (_, tries, said) = &mut self.outputs[index];
        if said.is_none() && *tries < OUTPUT_TRIES {
            *tries += 1;
            if let Ok(Ok(output)) = timeout(OUTPUT_LIMIT, self.reader.glance(get_task_output(task.run_id))).await {
                *said = Some(understood(&output, task.runs_notebook()));
            }
        }
        said.clone()
    }
}

/// The notebook's result is a JSON object with its `output`; whatever else a task says is shown as it is.
fn understood(output: &TaskOutput, notebook: bool) -> TaskSaid {
    let mut said = TaskSaid::default();
    if let Some(text) = output.result().filter(|_| notebook) {
        match serde_json::from_str::<serde_json::Value>(text) {
            Ok(result) if result["output"].is_array() => {
                let lines = result["output"].as_array().into_iter().flatten().filter_map(|line| line.as_str());
                said.lines = lines.take(LINES).map(|line| plain(line, LINE)).collect();
                said.dbt_run_id = result["dbt_run_id"].as_u64();
                said.dbt_run_url = result["url"].as_str().map(|url| plain(url, LINE));
                said.dbt_status = result["status"].as_str().map(|status| plain(status, LINE));
            }
            Ok(_) | Err(_) => said.lines = text.lines().take(LINES).map(|line| plain(line, LINE)).collect(),
        }
    }
    let error = output.error.as_deref().or(output.error_trace.as_deref()).unwrap_or_default();
    said.error = error.lines().map(|line| plain(line, LINE)).filter(|line| !line.is_empty()).take(LINES).collect();
    // A notebook that failed hands no result over; the exception ends with the dbt run's link.
    if said.dbt_run_url.is_none()
        && let Some((url, run)) = said.error.iter().rev().find_map(|line| run_in(line))
    {
        (said.dbt_run_url, said.dbt_run_id) = (Some(url), Some(run));
    }
    said
}

/// A line that is the address of a dbt run.
fn run_in(line: &str) -> Option<(String, u64)> {
    let link = line.starts_with("http").then(|| Link::parse(line).ok())??;
    Some((line.to_owned(), link.run?))
}

impl Probe for WorkflowProbe<'_> {
    type State = WorkflowState;

    async fn look(&mut self) -> Result<Seen<WorkflowState>, HttpError> {
        let mut run = self.reader.glance(get_workflow_run(self.run, None)).await?;
        let mut pages = 1;
        while let Some(page) = run.next_page_token.take().filter(|token| !token.is_empty() && pages < MOST_PAGES) {
            run.add_page(self.reader.glance(get_workflow_run(self.run, Some(&page))).await?);
            pages += 1;
        }
        let Some(standing) = run.standing().filter(|_| run.run_id == self.run) else {
            return Err(HttpError {
                service: "Databricks",
                operation: "jobs/runs/get",
                origin: self.reader.origin().to_owned(),
                fault: Fault::Nonsense(Shape::Unreadable(format!("it does not say how run {} stands", self.run))),
                attempts: 1,
                request_id: None,
            });
        };
        let over = matches!(standing, Standing::Ended(_));
        let mut tasks = Vec::new();
        for task in run.newest_tasks() {
            let mut said = self.listen(task).await;
            while over && said.is_none() && self.may_try_again(task) {
                said = self.listen(task).await;
            }
            tasks.push(TaskState {
                key: plain(&task.task_key, LINE),
                run_id: task.run_id,
                attempt: task.attempt(),
                standing: task.standing(),
                message: task.message().map(|message| plain(message, LINE)),
                said,
            });
        }
        let state = WorkflowState { run, standing, tasks };
        Ok(if over { Seen::Ended(state) } else { Seen::Going(state) })
    }
}

impl WorkflowProbe<'_> {
    /// The last look has no later one to leave a failed attempt to.
    fn may_try_again(&self, task: &TaskRun) -> bool {
        self.outputs.iter().any(|(run, tries, said)| *run == task.run_id && *tries < OUTPUT_TRIES && said.is_none())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(value: serde_json::Value, notebook: bool) -> TaskSaid {
        understood(&serde_json::from_value(value).unwrap(), notebook)
    }

    #[test]
    fn the_notebooks_own_lines_and_its_dbt_run_are_read_from_its_result() {
        let result = json!({"output": ["job_run_id = 1", "DbtJobRunStatus.SUCCESS"], "dbt_run_id": 1, "url": "https://x", "status": "SUCCESS"});
        let said = said(json!({"notebook_output": {"result": result.to_string()}}), true);
        assert_eq!(said.lines, ["job_run_id = 1", "DbtJobRunStatus.SUCCESS"]);
        assert_eq!((said.dbt_run_id, said.dbt_run_url.as_deref()), (Some(1), Some("https://x")));
    }

    #[test]
    fn whatever_else_a_task_says_does_no_harm() {
        assert_eq!(said(json!({"notebook_output": {"result": "plain \u{1b}[31mtext"}}), true).lines, ["plain text"]);
        assert_eq!(said(json!({"notebook_output": {"result": "{\"output\": 7}"}}), true).lines, ["{\"output\": 7}"]);
        assert_eq!(said(json!({"notebook_output": {}}), true), TaskSaid::default());
        assert_eq!(said(json!({"notebook_output": []}), false), TaskSaid::default());
        let failed = said(json!({"error": "\u{1b}[0;31mDbtRunFailed\u{1b}[0m: dbt run 1\nFailed step 4\n\n"}), true);
        assert_eq!(
            (failed.error, failed.dbt_run_id),
            (vec!["DbtRunFailed: dbt run 1".to_owned(), "Failed step 4".to_owned()], None)
        );
        let linked =
            said(json!({"error": "E: dbt run 7 failed\nhttps://ab.us1.dbt.com/deploy/1/projects/2/runs/7/"}), true);
        assert_eq!(linked.dbt_run_id, Some(7));
    }
}
