//! The built program against the sandbox.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../harness/mod.rs"]
mod harness;

#[cfg(unix)]
mod bars;
mod guide;
#[cfg(unix)]
mod pty;
#[cfg(unix)]
mod questions;
mod running;
mod surface;
