//! Simulations: our own protocol, in Rust and in the notebook, against the sandbox's world, on virtual time.

mod edges;
mod exactly_once;
mod memory;
mod notebook;
mod protocol_cases;
mod scene;
mod service;
mod table;

pub(crate) use memory::arrive;

/// A line of a proof. Written past the test runner's capture, so that every run shows it.
pub(crate) fn say(line: &str) {
    use std::io::Write as _;

    // A runner that has gone has nobody to tell.
    let _ = writeln!(std::io::stdout(), "{line}");
}
