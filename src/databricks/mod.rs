//! Databricks endpoints and wire types, one file per API.

pub(crate) mod clusters;
mod errors;
pub(crate) mod jobs;
#[cfg(test)]
mod look_alike_tests;
pub(crate) mod me;
pub(crate) mod permissions;
pub(crate) mod raw;
mod run_state;
mod runs;
pub(crate) mod secrets;
mod task_attempts;
pub(crate) mod workspace;

use bytes::Bytes;
use http::Response;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub(crate) use errors::{has_no_acls, is_missing, is_there_already, parse_error};
pub(crate) use run_state::{RunState, WorkflowEnd};
pub(crate) use runs::{
    OtherParameter, TaskOutput, TaskRun, WorkflowRow, WorkflowRun, cancel_workflow_run, get_task_output, get_workflow,
    get_workflow_run, latest_workflow_run, list_one_time_runs, list_workflow_runs, list_workflows_named, run_now,
    submit_run,
};
pub(crate) use task_attempts::{Attempt, Iterations};

use crate::http::{BodyProblem, lenient_number, optional, optional_list, or_default, parse_json, skip_invalid};

/// Parses the readable rows of a list. The field is absent if there are none.
fn rows<T: DeserializeOwned>(answer: &Response<Bytes>, field: &str) -> Result<Vec<T>, BodyProblem> {
    let mut body: Map<String, Value> = parse_json(answer)?;
    skip_invalid(body.remove(field).unwrap_or_default()).map_err(|error| BodyProblem::of(&error))
}

/// Parses the response of a write that returns nothing. Accepts any JSON object, but no web page. A compatible server
/// may send no body; the read after the write shows whether it took effect.
fn done(answer: &Response<Bytes>) -> Result<(), BodyProblem> {
    if answer.body().is_empty() {
        return Ok(());
    }
    parse_json::<Map<String, Value>>(answer).map(|_| ())
}
