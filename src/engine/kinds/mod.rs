//! One file per kind of object, with its `observe`, `diff` and `apply`.
//!
//! In each of them, `observe` only reads, `diff` is pure, and `apply` makes the one change that the action names,
//! with no needless reads. Errors are passed up as they are: the engine adds "cannot create X", and `explain` what
//! only the kind knows.

mod access;
mod added_task;
mod compute;
mod difference;
mod digest;
mod folder;
mod grant;
mod grant_on;
mod notebook;
mod one_time;
#[cfg(test)]
mod request_tests;
mod scope;
mod secret;
mod task;
#[cfg(test)]
mod tests;
mod unmanaged;
mod workflow;

pub(crate) use added_task::{
    AddedTask, AddedTaskWant, TaskRemoval, TaskRemovalHave, TaskRemovalWant, added_tasks, carried_overrides,
    changed_meanwhile, keys_there, read_back,
};
pub(crate) use compute::{Compute, is_serverless_refused};
pub(crate) use digest::digest;
pub(crate) use folder::{FolderRemoval, FolderRemovalWant};
pub(crate) use grant::{Grant, GrantWant};
pub(crate) use grant_on::{JobGrant, NotebookGrant, WorkflowJob};
pub(crate) use notebook::{
    Notebook, NotebookHave, NotebookRemoval, NotebookRemovalHave, NotebookRemovalWant, NotebookWant, VERSION,
};
pub(crate) use one_time::check_tasks;
pub(crate) use scope::{Scope, ScopeRemoval, ScopeRemovalWant, ScopeWant};
pub(crate) use secret::{Readers, Secret, SecretRemoval, SecretRemovalWant, SecretWant, format_acls};
pub(crate) use task::{ExistingTask, dbt_jobs, existing_tasks, job_in_key};
pub(crate) use workflow::{
    CreatedJob, GUESS_LIMIT, ID_TAG, Identity, JobSchedule, JobsAhead, ReadBack, Workflow, WorkflowHave,
    WorkflowRemoval, WorkflowRemovalHave, WorkflowRemovalWant, WorkflowWant, find_workflow, has_active_trigger,
    job_schedule, name_all, other_start, override_names, planned_schedule, run_as_refused, will_have_active_trigger,
};

/// What a read after a removal still shows.
fn still_there<T>(now: Option<&T>) -> Vec<String> {
    now.iter().map(|_| "it is still there".to_owned()).collect()
}
