//! The built program against the sandbox.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../harness/mod.rs"]
mod harness;

#[cfg(unix)]
mod dbt_file;
mod guide;
#[cfg(unix)]
mod interrupted;
mod reference;
mod running;
mod surface;
mod tls;
