//! Follows a run of a Databricks job to its end and says how it ended: for `run --workflow` and `watch` alike.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::duration::shown;
use crate::commands::Stage;
use crate::commands::last_known::Known;
use crate::databricks::{Standing, WorkflowEnd};
use crate::events::{Events, Going};
use crate::failure::{Code, Ended, Failure, Report, of_databricks};
use crate::http::Reader;
use crate::runs::{Followed, TaskState, WorkflowProbe, WorkflowState, follow};

/// Follows the run to its end.
pub(crate) async fn follow_run(
    mut report: WorkflowReport,
    run: u64,
    reader: &Reader,
    deadline: Instant,
    again: Option<&str>,
    stage: &Stage,
) -> Ended<Box<dyn Report>> {
    let pick_up = super::resume::watch_workflow(run);
    stage.last_known.set(Known {
        data: report.json(),
        line: format!("Databricks run {run} goes on: {}", report.url()),
        resume: pick_up.clone(),
    });
    let going = stage.events.going(format!("Databricks run {run}"));
    let mut lines = Lines { going, events: &stage.events, run: String::new(), tasks: Vec::new(), waited: false };
    let mut probe = WorkflowProbe::new(reader, run);
    let followed = follow(&mut probe, deadline, &stage.means(), |state| lines.state(state)).await;
    // Over before the last words are said.
    drop(lines);
    let failure = match followed {
        Followed::Ended(state) => {
            report.take(&state);
            let failure = verdict(&report, &state, again, stage);
            report.state = Some(state);
            failure
        }
        Followed::OutOfTime(state) => {
            let word = state.as_ref().map_or_else(|| "not seen".to_owned(), |state| state.standing.word().to_owned());
            report.state = state;
            Some(
                Failure::new(Code::StillRunning, format!("Waited long enough; Databricks run {run} goes on."))
                    .cause(format!("it is {word} now"))
                    .run(pick_up)
                    .advise(format!("see it at {}", report.url())),
            )
        }
        Followed::Blind(state, error) => {
            report.state = state;
            Some(
                of_databricks(&format!("Cannot follow Databricks run {run} any longer; it may go on"), &error)
                    .run(pick_up),
            )
        }
    };
    if failure.is_none() {
        stage.last_known.clear();
    }
    Ended { report: Some(Box::new(report)), failure }
}

fn verdict(report: &WorkflowReport, state: &WorkflowState, again: Option<&str>, stage: &Stage) -> Option<Failure> {
    let name = report.shown_name();
    let run = state.run.run_id;
    let end = match &state.standing {
        Standing::Ended(end) => end,
        Standing::Going(_) => return None,
    };
    let failure = match end {
        WorkflowEnd::Success(_) | WorkflowEnd::Left(_) => return None,
        WorkflowEnd::SuccessWithFailures(_) => {
            stage.events.remark("some tasks failed, and all that had to end well did: SUCCESS_WITH_FAILURES");
            return None;
        }
        WorkflowEnd::Cancelled(word) => {
            Failure::new(Code::RunCancelled, format!("Databricks run {run} of {name} was cancelled ({word})."))
        }
        WorkflowEnd::Failed(word) => {
            Failure::new(Code::RunFailed, format!("Databricks run {run} of {name} ended as {word}."))
        }
    };
    let mut failure = failure;
    for task in &state.tasks {
        if let Some(Standing::Ended(WorkflowEnd::Failed(word))) = &task.standing {
            // The rest was shown with the task, and stands in the data.
            let said = task.said.as_ref().and_then(|said| said.error.first().cloned());
            let why = said.or_else(|| task.message.clone()).unwrap_or_else(|| word.clone());
            failure = failure.cause(format!("task {}: {why}", task.key));
        }
    }
    if failure.causes.is_empty() {
        failure.causes.extend(state.run.message().map(ToOwned::to_owned));
    }
    let failure = failure.advise(format!("see the run at {}", report.url()));
    Some(match again {
        Some(again) => failure.run(again),
        None => failure,
    })
}

/// One line per change of the run and of each task.
struct Lines<'a> {
    going: Going,
    events: &'a Events,
    run: String,
    /// What was printed of each task last, and whether its output was.
    tasks: Vec<(String, String, bool)>,
    /// Why it waits was said.
    waited: bool,
}

impl Lines<'_> {
    fn state(&mut self, state: &WorkflowState) {
        let WorkflowState { run, standing, tasks } = state;
        // Tasks end before their run does, and are read so too.
        let over = matches!(standing, Standing::Ended(_));
        if !over {
            self.run_line(standing.word().to_owned());
            if standing.word() == "QUEUED" && !self.waited {
                self.waited = true;
                self.events.remark(run.message().unwrap_or("the run waits for its turn").to_owned());
            }
        }
        for task in tasks {
            self.task(task);
        }
        if over {
            let milliseconds = run.end_time.zip(run.start_time).and_then(|(end, start)| end.checked_sub(start));
            let took = milliseconds.map(|took| format!("   in {}", shown(Duration::from_millis(took))));
            self.run_line(format!("{}{}", standing.word(), took.unwrap_or_default()));
        }
    }

    fn run_line(&mut self, line: String) {
        if line != self.run {
            self.events.progress(line.clone());
            self.going.state(line.clone());
            self.run = line;
        }
    }

    fn task(&mut self, task: &TaskState) {
        let TaskState { key, run_id: _, attempt, standing, message: _, said } = task;
        let Some(standing) = standing else { return };
        let attempt = if *attempt > 1 { format!("   (attempt {attempt})") } else { String::new() };
        let line = format!("task {key}   {}{attempt}", standing.word());
        let index = self.tasks.iter().position(|(known, _, _)| known == key).unwrap_or_else(|| {
            self.tasks.push((key.clone(), String::new(), false));
            self.tasks.len() - 1
        });
        let (_, last, told) = &mut self.tasks[index];
        if *last != line {
            self.events.progress(line.clone());
            self.going.state(line.clone());
            (*last, *told) = (line, false);
        }
        let Some(said) = said.as_ref().filter(|_| !*told) else { return };
        *told = true;
        for line in said.lines.iter().chain(&said.error) {
            self.events.progress(format!("  {line}"));
        }
        let shown = |url: &&String| said.lines.contains(url) || said.error.contains(url);
        if let Some(url) = said.dbt_run_url.as_ref().filter(|url| !shown(url)) {
            self.events.progress(format!("  {url}"));
        }
    }
}

/// What is known of the run: the `data` of `run --workflow` and of `watch --workflow-run`.
pub(crate) struct WorkflowReport {
    pub(crate) workflow: u64,
    pub(crate) name: String,
    pub(crate) origin: String,
    /// What the start carried, if it was ours.
    pub(crate) key: Option<String>,
    pub(crate) run: Option<u64>,
    pub(crate) url: Option<String>,
    pub(crate) state: Option<WorkflowState>,
}

impl WorkflowReport {
    fn take(&mut self, state: &WorkflowState) {
        let run = &state.run;
        // A one-time run has a job of its own that nobody sees.
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

impl Report for WorkflowReport {
    /// Everything was said on the way.
    fn text(&self) -> String {
        String::new()
    }

    fn json(&self) -> Value {
        let WorkflowReport { workflow, name, origin: _, key, run, url, state } = self;
        let tasks: Vec<Value> = state.iter().flat_map(|state| &state.tasks).map(task_json).collect();
        json!({
            "workflow_id": workflow,
            "workflow_name": name,
            "key": key,
            "workflow_run_id": run,
            "workflow_run_url": url,
            "status": state.as_ref().map(|state| state.standing.word()),
            "message": state.as_ref().and_then(|state| state.run.message()).map(|text| crate::runs::plain(text, 500)),
            "tasks": tasks,
        })
    }
}

fn task_json(task: &TaskState) -> Value {
    let TaskState { key, run_id, attempt, standing, message, said } = task;
    let said = said.as_ref();
    json!({
        "task_key": key,
        "run_id": run_id,
        "attempt": attempt,
        "status": standing.as_ref().map(Standing::word),
        "message": message,
        "output": said.map(|said| &said.lines),
        "error": said.filter(|said| !said.error.is_empty()).map(|said| said.error.join("\n")),
        "dbt_run_id": said.and_then(|said| said.dbt_run_id),
        "dbt_run_url": said.and_then(|said| said.dbt_run_url.as_ref()),
        "dbt_run_status": said.and_then(|said| said.dbt_status.as_ref()),
    })
}
