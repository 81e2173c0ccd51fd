//! What several commands share: arguments, clients, questions, and the change of a workspace.

pub(crate) mod cache;
pub(crate) mod connect;
pub(crate) mod dbt_accounts;
pub(crate) mod default_path;
pub(crate) mod global_flags;
pub(crate) mod interrupt_report;
pub(crate) mod job_argument;
pub(crate) mod near_scopes;
pub(crate) mod printed_commands;
pub(crate) mod prompts;
pub(crate) mod provision;
pub(crate) mod run_argument;
pub(crate) mod table;
pub(crate) mod workflow_argument;
pub(crate) mod workspace_cache;
