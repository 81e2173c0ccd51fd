//! The built program against the sandbox.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../harness/mod.rs"]
mod harness;

#[cfg(unix)]
mod bars;
#[cfg(unix)]
mod dbt_file;
mod guide;
#[cfg(unix)]
mod pty;
#[cfg(unix)]
mod questions;
mod reference;
mod running;
#[cfg(unix)]
mod setup;
mod surface;
mod tls;
