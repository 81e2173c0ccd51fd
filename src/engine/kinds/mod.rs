//! One file per kind of thing, with its observe, diff and apply together.
//!
//! The contract of such a file: observing only reads; `diff` is pure; `apply` makes the one change that the action names and
//! reads nothing it does not have to; errors go up raw and get their "cannot create X" in the walk (`explain` adds what
//! only the kind knows).

mod difference;
mod grant;
mod job_grant;
mod notebook;
mod notebook_grant;
mod scope;
mod secret;
#[cfg(test)]
mod tests;
mod workflow;

pub(crate) use grant::{Grant, GrantWant};
pub(crate) use job_grant::{JobGrant, JobGrantWant};
pub(crate) use notebook::{DEFAULT_KEY, DEFAULT_SCOPE, Notebook, NotebookHave, NotebookWant, VERSION};
pub(crate) use notebook_grant::{NotebookGrant, NotebookGrantWant};
pub(crate) use scope::{Scope, ScopeWant};
pub(crate) use secret::{Readers, Secret, SecretWant, told};
pub(crate) use workflow::{
    Compute, ID_TAG, Identity, TaskWant, Timetable, Workflow, WorkflowWant, check_tasks, name_all, override_names,
    run_as_refused, timetable, timetable_after,
};
