//! Databricks: its endpoints and wire types, one file per API family.

mod errors;
mod runs;

pub(crate) use errors::{is_missing, is_there_already, said};
pub(crate) use runs::{
    Standing, TaskOutput, TaskRun, WorkflowEnd, WorkflowRow, WorkflowRun, get_task_output, get_workflow, get_workflow_run,
    list_workflows_named, run_now,
};
