//! Tests of more than one command, and what they run in.

mod artifacts_tests;
mod concurrent_tests;
mod deadline_tests;
mod gone_tests;
pub(crate) mod harness;
mod identity_tests;
mod interrupt_tests;
mod list_tests;
mod named_tests;
mod off_tests;
pub(crate) mod person;
mod prompts_tests;
mod provision_tests;
mod refusal_tests;
mod refused_plan_tests;
mod retry_tests;
mod run_tests;
mod several_tests;
mod shown_tests;
mod waves_tests;
