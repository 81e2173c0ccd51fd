//! The built program against the sandbox.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../harness/mod.rs"]
mod harness;

#[cfg(unix)]
mod dbt_file;
mod doctor;
mod guide;
mod reference;
mod running;
mod surface;
mod tls;
