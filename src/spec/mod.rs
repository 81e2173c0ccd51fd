//! What should exist, as plain data without I/O.

mod compute;
pub(crate) mod grants;
pub(crate) mod options;
mod setting;
pub(crate) mod tasks;
mod workflow;

pub(crate) use self::compute::{ComputeSpec, parse_compute, parse_flags};
pub(crate) use self::setting::{Setting, TaskSettings, TaskSpec, WorkflowSettings};
pub(crate) use self::tasks::circle;
pub(crate) use self::workflow::{WorkflowSpec, read_name, read_run_as, read_schedule, read_start, read_zone};
