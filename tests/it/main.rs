//! The built program against the sandbox.

#[path = "../harness/mod.rs"]
mod harness;

mod guide;
mod surface;
