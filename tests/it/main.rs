//! The built program against the sandbox.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../harness/mod.rs"]
mod harness;

mod arguments;
#[cfg(target_os = "linux")]
mod bars;
mod check;
mod ci_outputs;
#[cfg(unix)]
mod dbt_file;
mod docs;
mod doctor;
mod examples;
mod guide;
#[cfg(unix)]
mod interrupted;
mod junit;
mod next_steps;
#[cfg(target_os = "linux")]
mod pty;
#[cfg(target_os = "linux")]
mod questions;
mod reference;
mod running;
#[cfg(target_os = "linux")]
mod screens;
#[cfg(target_os = "linux")]
mod setup;
mod tls;
