//! dbt platform (dbt Cloud): URLs, endpoints and wire types.

mod accounts;
mod artifacts;
mod envelope;
mod errors;
mod jobs;
mod link;
#[cfg(test)]
mod look_alike_tests;
mod overrides;
mod projects;
mod run_requests;
mod run_response;
mod steps;

pub(crate) use accounts::{Account, list_accounts, list_accounts_v2};
pub(crate) use artifacts::{Node, RESULTS, get_artifact, get_run_results, list_artifacts};
pub(crate) use envelope::{PAGE, Page, all as all_pages};
pub(crate) use errors::parse_error;
pub(crate) use jobs::{Job, JobDisabled, JobFilter, get_job, list_jobs};
pub(crate) use link::{Link, parse_host};
pub(crate) use overrides::{Difference, FIELDS, Field, Kind, Overrides, Together, wrong_together};
pub(crate) use projects::{Project, list_projects};
pub(crate) use run_requests::{
    RunFilter, TRIGGER_LIMIT, cancel_run, get_run, get_run_with_steps, get_run_with_trigger, list_account_runs,
    list_runs, list_these_runs, retry_run, trigger,
};
pub(crate) use run_response::{End, NoRetry, Run, Status, Trigger};
pub(crate) use steps::{Step, Steps};
