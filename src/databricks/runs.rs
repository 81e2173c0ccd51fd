//! Runs of Databricks jobs: start, poll, cancel, read task output.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::permissions::Principal;
use super::raw::Raw;
use super::run_state::{NewStatus, RunState, State, message, run_state};
use super::task_attempts::{Condition, ForEach, Repair};
use super::{lenient_number, optional, optional_list};
use crate::http::{Call, Idempotent, Path, Read, Rows};

/// A job, with its ID and name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct WorkflowRow {
    #[serde(deserialize_with = "lenient_number")]
    pub(crate) job_id: u64,
    #[serde(default, deserialize_with = "optional")]
    settings: Option<Named>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) creator_user_name: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Named {
    #[serde(default, deserialize_with = "optional")]
    name: Option<String>,
}

impl WorkflowRow {
    pub(crate) fn name(&self) -> &str {
        self.settings.as_ref().and_then(|settings| settings.name.as_deref()).unwrap_or_default()
    }
}

/// A page of jobs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct WorkflowPage {
    #[serde(default, deserialize_with = "super::skip_invalid")]
    pub(crate) jobs: Vec<WorkflowRow>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) next_page_token: Option<String>,
}

/// Jobs with this name. The service ignores case, so the caller compares.
pub(crate) fn list_workflows_named(name: &str, page: Option<&str>) -> Read<WorkflowPage> {
    let call = Call::get("jobs/list", Path::new("/api/2.2/jobs/list")).query("name", name).query("limit", 100);
    Read::json(call.query_some("page_token", page))
}

/// One job, mainly for its name.
pub(crate) fn get_workflow(job: u64) -> Read<WorkflowRow> {
    Read::json(Call::get("jobs/get", Path::new("/api/2.2/jobs/get")).query("job_id", job))
}

/// The response of `run-now` and `submit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Started {
    #[serde(deserialize_with = "lenient_number")]
    pub(crate) run_id: u64,
}

#[derive(Serialize)]
struct RunNow<'a> {
    job_id: u64,
    idempotency_token: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    job_parameters: &'a BTreeMap<String, String>,
}

/// Starts the job. Idempotent: for the same token (at most 64 characters) the service returns the same run.
pub(crate) fn run_now(job: u64, token: &str, parameters: &BTreeMap<String, String>) -> Idempotent<Started> {
    let call = Call::post("jobs/run-now", Path::new("/api/2.2/jobs/run-now"));
    Idempotent::json(call.json(&RunNow { job_id: job, idempotency_token: token, job_parameters: parameters }))
}

#[derive(Serialize)]
struct Submit<'a> {
    run_name: &'a str,
    idempotency_token: &'a str,
    tasks: &'a [Raw],
    #[serde(skip_serializing_if = "Option::is_none")]
    run_as: Option<Value>,
}

/// Starts a one-time run, as another identity if `run_as` is set. Idempotent like `run-now`.
pub(crate) fn submit_run(name: &str, token: &str, tasks: &[Raw], run_as: Option<&str>) -> Idempotent<Started> {
    let call = Call::post("jobs/runs/submit", Path::new("/api/2.2/jobs/runs/submit"));
    let run_as = run_as.map(|who| json!({ Principal::of_run_as(who).field(): who }));
    Idempotent::json(call.json(&Submit { run_name: name, idempotency_token: token, tasks, run_as }))
}

/// A run of a job. States may be unknown values.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct WorkflowRun {
    #[serde(deserialize_with = "lenient_number")]
    pub(crate) run_id: u64,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) job_id: Option<u64>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) run_name: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    run_page_url: Option<String>,
    /// What started it; may be an unknown value.
    #[serde(default, deserialize_with = "optional")]
    pub(crate) trigger: Option<String>,
    /// Milliseconds since 1970; 0 before the start.
    #[serde(default, deserialize_with = "optional")]
    pub(crate) start_time: Option<u64>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) end_time: Option<u64>,
    #[serde(default, deserialize_with = "optional")]
    state: Option<State>,
    #[serde(default, deserialize_with = "optional")]
    status: Option<NewStatus>,
    #[serde(default, deserialize_with = "optional_list")]
    pub(super) tasks: Option<Vec<TaskRun>>,
    /// The original run and its repairs, latest last.
    #[serde(default, deserialize_with = "optional_list")]
    pub(super) repair_history: Option<Vec<Repair>>,
    #[serde(default, deserialize_with = "optional_list")]
    job_parameters: Option<Vec<Parameter>>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) next_page_token: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Parameter {
    name: String,
    #[serde(default, deserialize_with = "optional")]
    value: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    default: Option<String>,
}

/// A parameter of a run that differs from the requested value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OtherParameter {
    pub(crate) name: String,
    pub(crate) wanted: String,
    pub(crate) seen: String,
}

/// One attempt of a task.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct TaskRun {
    /// 0 if the service does not return it.
    #[serde(default, deserialize_with = "lenient_number")]
    pub(crate) run_id: u64,
    #[serde(default, deserialize_with = "super::or_default")]
    pub(crate) task_key: String,
    /// Starts at 0.
    #[serde(default, deserialize_with = "optional")]
    pub(super) attempt_number: Option<u64>,
    #[serde(default, deserialize_with = "optional")]
    pub(super) original_attempt_run_id: Option<u64>,
    #[serde(default, deserialize_with = "optional")]
    pub(super) start_time: Option<u64>,
    #[serde(default, deserialize_with = "optional")]
    state: Option<State>,
    #[serde(default, deserialize_with = "optional")]
    status: Option<NewStatus>,
    #[serde(default, deserialize_with = "optional")]
    notebook_task: Option<Value>,
    #[serde(default, deserialize_with = "optional")]
    pub(super) condition_task: Option<Condition>,
    #[serde(default, deserialize_with = "optional")]
    pub(super) for_each_task: Option<ForEach>,
}

/// A page of runs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct RunPage {
    #[serde(default)]
    pub(crate) runs: Rows<WorkflowRun>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) next_page_token: Option<String>,
}

impl WorkflowRun {
    /// The state, or `None` if the response has none.
    pub(crate) fn state(&self) -> Option<RunState> {
        run_state(self.state.as_ref(), self.status.as_ref())
    }

    /// The service's message about the state.
    pub(crate) fn message(&self) -> Option<&str> {
        message(self.state.as_ref(), self.status.as_ref())
    }

    /// The termination code of the newer status format, more precise than `state`.
    pub(crate) fn code(&self) -> Option<&str> {
        self.status.as_ref().and_then(NewStatus::termination_code)
    }

    /// The limit that it waits for while it is QUEUED.
    pub(crate) fn queue_code(&self) -> Option<&str> {
        self.status.as_ref().and_then(NewStatus::queue_code)
    }

    /// Parameters that differ from the job's defaults.
    pub(crate) fn given_parameters(&self) -> BTreeMap<String, String> {
        let given = self.job_parameters.iter().flatten().filter_map(|parameter| {
            let Parameter { name, value, default } = parameter;
            value.clone().filter(|value| default.as_ref() != Some(value)).map(|value| (name.clone(), value))
        });
        given.collect()
    }

    /// The URL of the run. The service's own URL works for administrators only, so build another one with its
    /// workspace ID.
    pub(crate) fn url(&self, origin: &str, job: u64) -> String {
        let query = self.workspace().map(|id| format!("?o={id}")).unwrap_or_default();
        format!("{origin}/jobs/{job}/runs/{}{query}", self.run_id)
    }

    /// The first job parameter that differs from `wanted`. Dynamic values (`{{…}}`) and values that the service does
    /// not return never differ.
    pub(crate) fn differs_from(&self, wanted: &BTreeMap<String, String>) -> Option<OtherParameter> {
        self.job_parameters.iter().flatten().find_map(|parameter| {
            let Parameter { name, value, default } = parameter;
            let seen = value.as_ref().or(default.as_ref())?;
            let wanted = wanted.get(name).or(default.as_ref())?;
            let other = seen != wanted && !wanted.contains("{{");
            other.then(|| OtherParameter { name: name.clone(), wanted: wanted.clone(), seen: seen.clone() })
        })
    }

    /// The workspace ID, from the run's URL.
    pub(crate) fn workspace(&self) -> Option<String> {
        let after = self.run_page_url.as_deref()?.split_once("o=")?.1;
        let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
        (!digits.is_empty()).then_some(digits)
    }

    /// Adds the tasks and repairs of a further page.
    pub(crate) fn add_page(&mut self, page: WorkflowRun) {
        self.tasks.get_or_insert_default().extend(page.tasks.unwrap_or_default());
        self.repair_history.get_or_insert_default().extend(page.repair_history.unwrap_or_default());
        self.next_page_token = page.next_page_token;
    }
}

impl TaskRun {
    /// The state, or `None` if the response has none.
    pub(crate) fn state(&self) -> Option<RunState> {
        run_state(self.state.as_ref(), self.status.as_ref())
    }

    pub(crate) fn message(&self) -> Option<&str> {
        message(self.state.as_ref(), self.status.as_ref())
    }

    /// The attempt number, starting at 1.
    pub(crate) fn attempt(&self) -> u64 {
        self.attempt_number.unwrap_or(0) + 1
    }

    pub(crate) fn runs_notebook(&self) -> bool {
        self.notebook_task.as_ref().is_some_and(Value::is_object)
    }
}

/// A run with its tasks and repair history. Further tasks are on further pages.
pub(crate) fn get_workflow_run(run: u64, page: Option<&str>) -> Read<WorkflowRun> {
    let call = Call::get("jobs/runs/get", Path::new("/api/2.2/jobs/runs/get")).query("run_id", run);
    Read::json(call.query("include_history", true).query_some("page_token", page))
}

/// Largest page of runs (less than 25).
const RUNS_PAGE: u64 = 24;

/// A page of the job's runs without their tasks, newest first; only active ones if `active`.
pub(crate) fn list_workflow_runs(job: u64, active: bool, page: Option<&str>) -> Read<RunPage> {
    let call = Call::get("jobs/runs/list", Path::new("/api/2.2/jobs/runs/list"))
        .query("job_id", job)
        .query("limit", RUNS_PAGE)
        .query_some("active_only", active.then_some(true))
        .query_some("page_token", page);
    Read::json(call)
}

/// The newest run of the job, without its tasks.
pub(crate) fn latest_workflow_run(job: u64) -> Read<RunPage> {
    let call = Call::get("jobs/runs/list", Path::new("/api/2.2/jobs/runs/list")).query("job_id", job);
    Read::json(call.query("limit", 1))
}

/// A page of one-time runs without their tasks, newest first, of the caller and of users whose runs the caller can see.
pub(crate) fn list_one_time_runs(page: Option<&str>) -> Read<RunPage> {
    let call = Call::get("jobs/runs/list", Path::new("/api/2.2/jobs/runs/list"))
        .query("run_type", "SUBMIT_RUN")
        .query("limit", RUNS_PAGE)
        .query_some("page_token", page);
    Read::json(call)
}

/// Requests cancellation of a run. Idempotent; the run has ended only once `runs/get` says so.
pub(crate) fn cancel_workflow_run(run: u64) -> Idempotent<()> {
    let call = Call::post("jobs/runs/cancel", Path::new("/api/2.2/jobs/runs/cancel")).json(&json!({ "run_id": run }));
    // The body is an empty object, or empty.
    Idempotent::new(call, |_| Ok(()))
}

/// The output of one attempt of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct TaskOutput {
    #[serde(default, deserialize_with = "optional")]
    notebook_output: Option<NotebookOutput>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) error: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) error_trace: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct NotebookOutput {
    #[serde(default, deserialize_with = "optional")]
    result: Option<String>,
}

impl TaskOutput {
    /// The value passed to `dbutils.notebook.exit`.
    pub(crate) fn result(&self) -> Option<&str> {
        self.notebook_output.as_ref().and_then(|output| output.result.as_deref()).filter(|result| !result.is_empty())
    }
}

/// The output of a task's run. The service rejects the ID of a whole run.
pub(crate) fn get_task_output(task_run: u64) -> Read<TaskOutput> {
    Read::json(Call::get("jobs/runs/get-output", Path::new("/api/2.2/jobs/runs/get-output")).query("run_id", task_run))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(value: Value) -> WorkflowRun {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_start_carries_its_token_and_may_be_repeated() {
        let put = run_now(7, "token", &BTreeMap::new());
        assert_eq!(put.call.target(), "/api/2.2/jobs/run-now");
        let body: Value = serde_json::from_slice(&put.call.body.unwrap()).unwrap();
        assert_eq!(body, json!({"job_id": 7, "idempotency_token": "token"}));
        assert_eq!(
            list_workflows_named("dbt: a & b", Some("t")).call.target(),
            "/api/2.2/jobs/list?name=dbt%3A+a+%26+b&limit=100&page_token=t"
        );
    }

    #[test]
    fn the_page_of_a_run_is_written_in_the_form_that_opens_for_everybody() {
        let origin = "https://dbc.example.com";
        let old = run(json!({"run_id": 3, "run_page_url": "https://dbc.example.com/?o=12#job/2/run/3"}));
        assert_eq!(old.url(origin, 2), "https://dbc.example.com/jobs/2/runs/3?o=12");
        assert_eq!(run(json!({"run_id": 3})).url(origin, 2), "https://dbc.example.com/jobs/2/runs/3");
    }

    #[test]
    fn parameters_of_a_run_are_compared_with_what_is_wanted() {
        let run: WorkflowRun = serde_json::from_value(json!({"run_id": 1, "job_parameters": [
            {"name": "day", "value": "monday", "default": "sunday"},
            {"name": "at", "value": "12:00", "default": "{{job.start_time.iso_time}}"},
            {"name": "untold"},
        ]}))
        .unwrap();
        let wanted = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        for same in [&[("day", "monday")][..], &[("day", "{{job.trigger.type}}")], &[("day", "monday"), ("more", "x")]]
        {
            assert_eq!(run.differs_from(&wanted(same)), None, "{same:?}");
        }
        let other = run.differs_from(&wanted(&[])).unwrap();
        assert_eq!((other.name.as_str(), other.wanted.as_str(), other.seen.as_str()), ("day", "sunday", "monday"));
        assert_eq!(run.differs_from(&wanted(&[("day", "monday"), ("at", "13:00")])).unwrap().name, "at");
    }
}
