//! Simulations: our own protocol, in Rust and in the notebook, against the sandbox's world, on virtual time.

mod edges;
mod exactly_once;
mod memory;
mod notebook;
mod protocol_cases;
mod scene;
mod table;

/// A line of a proof, for whoever runs it with `--nocapture`.
#[expect(clippy::print_stdout, reason = "a test reports to its runner; the printer belongs to the program")]
fn say(line: &str) {
    println!("{line}");
}
