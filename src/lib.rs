//! Runs dbt platform (dbt Cloud) jobs from Databricks Workflows: secret, notebook, workflow and trigger from one
//! command line.
//!
//! The program is [`main`]; the stand-in for both services is [`sandbox`]. Everything else is private, so that the
//! compiler reports unused code. `docs/architecture.md` is the overview.

#[cfg(all(test, not(all(feature = "sandbox", feature = "tests"))))]
compile_error!("the tests need the features `sandbox` and `tests`");

mod app;
mod commands;
mod context;
mod credentials;
mod databricks;
mod dbt;
mod document;
mod durations;
mod engine;
mod events;
mod failure;
mod http;
mod keyring;
mod line;
#[cfg(test)]
mod module_dependencies;
mod nearest;
mod notebook;
mod origin;
mod placeholder;
mod questions;
mod runs;
#[cfg(feature = "sandbox")]
pub mod sandbox;
mod schedule;
mod secret;
#[cfg(test)]
mod sim;
mod spec;
mod text;
mod ui;
mod yaml;

use std::process::ExitCode;

/// Runs the program with the process's arguments and streams, and returns its exit code.
pub fn main() -> ExitCode {
    app::main(std::env::args_os())
}
