//! Simulations: our protocol, in Rust and in the notebook, against the sandbox's world, in virtual time.

mod edges;
mod exactly_once;
mod memory;
mod notebook;
mod protocol_cases;
mod scene;
mod service;
mod table;

pub(crate) use memory::arrive;

/// Prints a line of a proof, bypassing the test runner's capture so that every run shows it.
pub(crate) fn say(line: &str) {
    use std::io::Write as _;

    // If the runner is gone, the line is lost.
    let _ = writeln!(std::io::stdout(), "{line}");
}
