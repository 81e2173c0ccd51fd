//! What the checks use.

use jiff::tz::TimeZone;

use super::report::Section;
use crate::commands::shared::job_argument::{JobArgument, JobFilterFlags};
use crate::commands::shared::workflow_argument::WorkflowArgument;
use crate::credentials::Account;
use crate::databricks::me::Me;
use crate::http::Reader;

pub(super) const PART: Section = Section::Setup;

/// The connection to dbt, or the check that failed on the way.
pub(super) struct Dbt {
    pub(super) line: Result<(Account, Reader), String>,
    pub(super) account: Option<u64>,
    /// The zone of printed times.
    pub(super) zone: TimeZone,
}

/// What the user wants checked.
pub(super) struct Selection {
    /// With its name or ID as typed.
    pub(super) workflow: Option<(WorkflowArgument, String)>,
    pub(super) job: Option<JobArgument>,
    pub(super) job_filter: JobFilterFlags,
}

/// What the checks in the workspace use.
pub(super) struct CheckContext<'a> {
    pub(super) reader: &'a Reader,
    pub(super) me: &'a Me,
    pub(super) dbt: &'a Dbt,
}
