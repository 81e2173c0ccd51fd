//! How the sandbox is to run, and why it may not start.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::{Rule, Seed};

/// Beyond this the clock overflows in a long session, and no client could follow.
pub(super) const FASTEST: f64 = 100_000.0;

/// What the sandbox says beside its answers: a private Python is made, a log cannot be written.
pub type Remark = Box<dyn FnMut(&str) + Send>;

/// How the sandbox is to run. Environment, entropy and the start of the clock are handed in.
pub struct Options {
    /// The port on 127.0.0.1; without one the system picks a free one.
    pub port: Option<u16>,
    /// Https instead of http, with a certificate that is valid for a year from this moment of real time.
    pub tls: Option<jiff::Timestamp>,
    /// Added to every request, half before its effect and half before its answer. Real time.
    pub latency: Duration,
    /// Added to every connection before its first request is looked at. Real time.
    pub connect_latency: Duration,
    /// How many seconds pass on the sandbox's clock in one real second.
    pub speed: f64,
    /// What goes wrong, and when.
    pub faults: Vec<Rule>,
    /// One JSON line per request is appended to this file.
    pub log: Option<PathBuf>,
    /// Each whole exchange with dbt Cloud that no fault spoilt is appended to this file, bodies included, secrets replaced: a
    /// JSON line each, to be compared with dbt's own description.
    pub exchanges: Option<PathBuf>,
    /// The variables that point a client here are written to this file, `NAME=value` a line, mode 0600. It
    /// stays when the sandbox stops: its token is worthless by then.
    pub env_file: Option<PathBuf>,
    /// This Python runs the notebooks. Without it `python3`, then `python` is looked for in `search_path`.
    pub python: Option<PathBuf>,
    /// The value of `PATH`.
    pub search_path: Option<OsString>,
    /// The folder of the private Python environment that is made once when `requests` is missing, such as
    /// `<cache>/dbtrigger/sandbox-python`. Without one, none is made.
    pub python_environment: Option<PathBuf>,
    /// Tokens, the start of the clock and the seed of ids.
    pub seed: Seed,
    /// Told what a person at the terminal should know.
    pub remark: Remark,
}

impl Options {
    /// The defaults: any free port, http, no latency, speed 60, no faults, no files, no Python.
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
            remark: Box::new(|_| ()),
        }
    }
}

/// Why the sandbox did not start.
#[derive(Debug)]
pub enum StartError {
    /// The port is taken, or may not be used.
    Port {
        /// As asked for; 0 for any.
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
    /// The fault cannot be shown on sockets, or not on this system.
    Fault {
        /// The rule in its text form.
        rule: String,
        /// Why.
        reason: &'static str,
    },
    /// The speed is no number between 0 and 100,000.
    Speed(f64),
    /// A file cannot be written.
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system gives no thread or no event loop.
    System(std::io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Port { port, source } if source.kind() == std::io::ErrorKind::AddrInUse => {
                write!(to, "Port {port} on 127.0.0.1 is taken by another program")
            }
            StartError::Port { port, source: _ } => {
                write!(to, "Port {port} on 127.0.0.1 cannot be used")
            }
            StartError::Fault { rule, reason } => write!(to, "The fault `{rule}`: {reason}"),
            StartError::Speed(speed) => {
                write!(to, "The speed must be above 0 and at most {FASTEST}, not {speed}")
            }
            StartError::File { path, source: _ } => {
                write!(to, "Cannot write {}", path.display())
            }
            StartError::System(_) => write!(to, "The sandbox cannot run on this system"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::Port { port: _, source }
            | StartError::File { path: _, source }
            | StartError::System(source) => Some(source),
            StartError::Fault { rule: _, reason: _ } | StartError::Speed(_) => None,
        }
    }
}
