//! A Databricks workspace and a dbt Cloud account on this machine.
//!
//! [`World`] is both services as a pure function of time and requests; the carrier puts it on loopback
//! sockets and runs notebook tasks with the machine's Python. This room shares no type with the clients,
//! so that one misunderstanding cannot cancel the other.

mod carrier;
mod environment;
mod fault;
mod log;
mod notebook;
mod options;
mod peer;
mod stream;
mod tls;
mod world;

pub use carrier::{Background, Handle, Sandbox, start};
pub use environment::Variables;
pub use fault::{Class, Cut, Phase, Rule};
pub use log::LogLine;
pub use options::{Options, Remark, StartError};
pub use world::{NotebookEnd, NotebookOutcome, NotebookTask, Route, SecretRefused, Seed, Spoilt, World};

/// A moment on the sandbox's own clock: milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SimTime(pub i64);

impl SimTime {
    /// So many milliseconds later; negative: earlier.
    #[must_use]
    pub fn plus(self, milliseconds: i64) -> SimTime {
        SimTime(self.0.saturating_add(milliseconds))
    }
}

/// What comes back for one request.
#[derive(Debug)]
pub enum Reply {
    /// A whole answer.
    Answer(http::Response<bytes::Bytes>),
    /// The connection fails in the way named; the effect of the request may or may not have happened.
    Cut(Cut),
    /// Nothing ever comes back, and the connection stays open.
    Hold,
}
