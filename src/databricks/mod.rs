//! Databricks: its endpoints and wire types, one file per API family.

mod errors;
pub(crate) mod jobs;
pub(crate) mod me;
pub(crate) mod raw;
mod runs;
pub(crate) mod secrets;
pub(crate) mod workspace;

use bytes::Bytes;
use http::Response;
use serde_json::{Map, Value};

pub(crate) use errors::{is_missing, is_there_already, said};
pub(crate) use runs::{
    OtherParameter, Standing, TaskOutput, TaskRun, WorkflowEnd, WorkflowRow, WorkflowRun, cancel_workflow_run,
    get_task_output, get_workflow, get_workflow_run, list_workflows_named, run_now,
};

use crate::http::{Shape, parse_json};

/// Reads the answer of a write that says nothing: an object with whatever in it, so that a page is not taken for it.
fn done(answer: &Response<Bytes>) -> Result<(), Shape> {
    parse_json::<Map<String, Value>>(answer).map(|_| ())
}
