//! What should exist, as plain data without I/O.

mod compute;
pub(crate) mod grants;
mod notebook;
pub(crate) mod options;
mod secret;
mod setting;
pub(crate) mod tasks;
mod workflow;

pub(crate) use self::compute::{ComputeSpec, parse_compute, parse_flags};
pub(crate) use self::notebook::{NotebookSettings, NotebookSpec};
pub(crate) use self::secret::{DEFAULT_KEY, DEFAULT_SCOPE, SecretSpec, secret_names};
pub(crate) use self::setting::{Setting, TaskSettings, TaskSpec, WorkflowSettings};
pub(crate) use self::tasks::circle;
pub(crate) use self::workflow::{WorkflowSpec, read_name, read_run_as, read_schedule, read_start, read_zone};
