//! Tests of more than one command, and what they run in.

mod artifacts_tests;
mod concurrent_tests;
mod deadline_tests;
mod deleted_run_tests;
mod endless_list_tests;
pub(crate) mod harness;
mod identity_tests;
mod interrupt_tests;
mod job_cannot_start_tests;
pub(crate) mod person;
mod prompts_tests;
mod provision_tests;
mod refusal_tests;
mod refused_plan_tests;
mod request_waves_tests;
mod retry_tests;
mod run_argument_tests;
mod run_tests;
mod several_jobs_tests;
mod workflow_run_tests;
