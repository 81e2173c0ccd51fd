//! Sandbox options, and the reasons a start can fail.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::{FaultRule, Seed};

/// Highest speed. Above it the clock overflows in a long session and no client could keep up.
pub(super) const FASTEST: f64 = 100_000.0;

/// Receives messages for the terminal, such as that a private Python environment is being made.
pub type OnMessage = Box<dyn FnMut(&str) + Send>;

/// Options of the sandbox. Environment variables, entropy and the start of the clock are passed in.
pub struct Options {
    /// Port on 127.0.0.1; `None` lets the system pick a free one.
    pub port: Option<u16>,
    /// Serves https with a certificate valid for a year from this moment of real time; `None` serves http.
    pub tls: Option<jiff::Timestamp>,
    /// Delay added to every request, half before its effect and half before its response, in real time.
    pub latency: Duration,
    /// Delay added to every connection before its first request, in real time.
    pub connect_latency: Duration,
    /// Seconds on the sandbox's clock per real second.
    pub speed: f64,
    /// Fault rules in force from the start.
    pub faults: Vec<FaultRule>,
    /// File to which one JSON line per request is appended.
    pub log: Option<PathBuf>,
    /// File to which each complete exchange with dbt Cloud is appended as a JSON line, with bodies and with secrets
    /// replaced, for comparison with dbt's API description. Exchanges hit by a fault rule are left out.
    pub exchanges: Option<PathBuf>,
    /// File to which the variables for clients are written, one `NAME=value` per line, mode 0600. It is not deleted
    /// when the sandbox stops, because its tokens are worthless by then.
    pub env_file: Option<PathBuf>,
    /// Python that runs the notebooks; `None` searches `search_path` for `python3`, then `python`.
    pub python: Option<PathBuf>,
    /// Value of `PATH`.
    pub search_path: Option<OsString>,
    /// Folder of the private Python environment, made once if `requests` is missing, such as
    /// `<cache>/dbtrigger/sandbox-python`; `None` makes none.
    pub python_environment: Option<PathBuf>,
    /// Tokens, start of the clock and seed for ids.
    pub seed: Seed,
    /// Receives messages for the user at the terminal.
    pub on_message: OnMessage,
}

impl Options {
    /// Returns the defaults: any free port, http, no latency, speed 60, no faults, no files, no Python.
    pub fn new(seed: Seed) -> Options {
        Options {
            port: None,
            tls: None,
            latency: Duration::ZERO,
            connect_latency: Duration::ZERO,
            speed: 60.0,
            faults: Vec::new(),
            log: None,
            exchanges: None,
            env_file: None,
            python: None,
            search_path: None,
            python_environment: None,
            seed,
            on_message: Box::new(|_| ()),
        }
    }
}

/// The reason the sandbox did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port is taken or not permitted.
    #[error(
        "port {port} on 127.0.0.1 {}",
        if .source.kind() == std::io::ErrorKind::AddrInUse { "is taken by another program" } else { "cannot be used" }
    )]
    Port {
        /// The requested port; 0 for any.
        port: u16,
        /// The system's error.
        source: std::io::Error,
    },
    /// The fault cannot be produced on sockets, names no operation, or is not supported on this system.
    #[error("the fault `{rule}`: {reason}")]
    Fault {
        /// The rule in its text form.
        rule: String,
        /// The reason.
        reason: &'static str,
    },
    /// The speed is not above 0 and at most 100,000.
    #[error("the speed must be above 0 and at most {FASTEST}, not {0}")]
    Speed(f64),
    /// A file cannot be written.
    #[error("cannot write {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The system provides no thread, event loop or TLS certificate.
    #[error("the sandbox cannot run on this system")]
    System(#[source] std::io::Error),
}
