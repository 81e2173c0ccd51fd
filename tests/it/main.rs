//! The built program against the sandbox.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../harness/mod.rs"]
mod harness;

#[cfg(target_os = "linux")]
mod bars;
#[cfg(unix)]
mod check;
#[cfg(unix)]
mod ci_outputs;
mod dbt_file;
mod guide;
#[cfg(unix)]
mod interrupted;
#[cfg(target_os = "linux")]
mod pty;
#[cfg(target_os = "linux")]
mod questions;
mod reference;
mod running;
mod surface;
mod tls;
