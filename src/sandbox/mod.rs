//! The sandbox: a Databricks workspace and a dbt Cloud account on this machine.
//!
//! [`World`] is both services as a pure function of time and requests. The server answers on loopback sockets and
//! runs notebook tasks with the machine's Python. The module shares no types with the clients, so a misunderstanding in
//! one cannot hide the same one in the other.

mod environment;
mod fault;
mod log;
mod notebook;
mod options;
mod peer;
mod server;
mod stream;
mod tls;
mod world;

pub use environment::Variables;
pub use fault::{Cut, FaultKind, FaultRule, Phase};
pub use log::LogLine;
pub use options::{OnMessage, Options, StartError};
pub use server::{Background, Handle, Sandbox, start};
pub use world::{Faulted, NotebookEnd, NotebookOutcome, NotebookTask, Route, SecretRefused, Seed, World};

/// A moment on the sandbox's clock, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SimTime(pub i64);

impl SimTime {
    /// Returns this moment plus `milliseconds`, which may be negative.
    #[must_use]
    pub fn plus(self, milliseconds: i64) -> SimTime {
        SimTime(self.0.saturating_add(milliseconds))
    }
}

/// The outcome of one request.
#[derive(Debug)]
pub enum Reply {
    /// A complete response.
    Answer(http::Response<bytes::Bytes>),
    /// The connection breaks before or within this response; whether the request had its effect depends on the fault
    /// rule's phase.
    Broken(Cut, http::Response<bytes::Bytes>),
}
