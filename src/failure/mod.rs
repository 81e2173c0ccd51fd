//! What went wrong, for people and for machines: a stable code, causes, and the next thing to do.
//!
//! One file per layer turns its errors into failures, each an exhaustive mapping.

mod hint;
mod http;
mod pages;
mod remedy;
mod runs;

use std::borrow::Cow;

use crate::document::{Data, document};
use crate::questions::Open;

pub(crate) use self::hint::{Hint, hints_in_json, next_lines};
pub(crate) use self::http::{of_databricks, of_dbt};
pub(crate) use self::pages::Page;
pub(crate) use self::remedy::Remedy;
pub(crate) use self::runs::{of_gone, of_start};

/// The stable codes. Names and exit codes are public interface (`docs/reference/exit-codes.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Something failed that has no code of its own.
    Failed,
    /// A flag or argument that does not exist or does not fit.
    Usage,
    /// Values are missing, and nobody can be asked.
    MissingInput,
    /// A value is not of its form.
    InvalidInput,
    /// Two sources say different things.
    Contradiction,
    /// The run ended in error.
    RunFailed,
    /// The token is missing, wrong or expired.
    NotAuthenticated,
    /// The identity may not do this.
    NotAllowed,
    /// It does not exist, or is not visible.
    NotFound,
    /// The run was there, and is not any more.
    RunGone,
    /// Not ours, changed by hand, or open to others: its own flag consents.
    Refused,
    /// Somebody else has changed it while the command ran; their change stays.
    ChangedMeanwhile,
    /// Waited long enough; the run goes on.
    StillRunning,
    /// Nobody knows whether the run was started; nothing was sent again.
    OutcomeUnknown,
    /// Name, connection, proxy.
    Network,
    /// Certificate or handshake.
    Tls,
    /// The service answered something that makes no sense.
    InvalidResponse,
    /// The run was cancelled.
    RunCancelled,
    /// A bug of ours.
    Bug,
    /// Rate limited after all retries.
    RateLimited,
    /// Unavailable after all retries.
    Unavailable,
    /// Ended by a signal: its number.
    Interrupted(u8),
}

impl Code {
    /// The name in JSON output.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Code::Failed => "failed",
            Code::Usage => "usage",
            Code::MissingInput => "missing-input",
            Code::InvalidInput => "invalid-input",
            Code::Contradiction => "contradiction",
            Code::RunFailed => "run-failed",
            Code::NotAuthenticated => "not-authenticated",
            Code::NotAllowed => "not-allowed",
            Code::NotFound => "not-found",
            Code::RunGone => "run-gone",
            Code::Refused => "refused",
            Code::ChangedMeanwhile => "changed-meanwhile",
            Code::StillRunning => "still-running",
            Code::OutcomeUnknown => "outcome-unknown",
            Code::Network => "network",
            Code::Tls => "tls",
            Code::InvalidResponse => "nonsense",
            Code::RunCancelled => "run-cancelled",
            Code::Bug => "bug",
            Code::RateLimited => "rate-limited",
            Code::Unavailable => "unavailable",
            Code::Interrupted(_) => "interrupted",
        }
    }

    /// The exit code of the contract.
    pub(crate) fn exit(self) -> u8 {
        match self {
            Code::Failed => 1,
            Code::Usage | Code::MissingInput | Code::InvalidInput | Code::Contradiction => 2,
            Code::RunFailed => 3,
            Code::NotAuthenticated | Code::NotAllowed => 4,
            Code::NotFound | Code::RunGone => 6,
            Code::Refused | Code::ChangedMeanwhile => 7,
            Code::StillRunning => 8,
            Code::OutcomeUnknown => 9,
            Code::Network | Code::Tls => 12,
            Code::InvalidResponse => 13,
            Code::RunCancelled => 20,
            Code::Bug => 70,
            Code::RateLimited | Code::Unavailable => 75,
            Code::Interrupted(signal) => 128 + signal,
        }
    }
}

/// One failure, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    /// What happened to what, in the words of the user's input. A whole sentence.
    pub(crate) what: String,
    pub(crate) causes: Vec<String>,
    pub(crate) hints: Vec<Hint>,
    /// What a person could be asked for, so that it goes on. Not shown.
    pub(crate) open: Open,
}

impl Failure {
    pub(crate) fn new(code: Code, what: impl Into<String>) -> Failure {
        Failure { code, what: what.into(), causes: Vec::new(), hints: Vec::new(), open: Open::default() }
    }

    /// Somebody has ended the program with this signal.
    pub(crate) fn interrupted(signal: u8) -> Failure {
        let name = match signal {
            1 => "SIGHUP",
            3 => "SIGQUIT",
            15 => "SIGTERM",
            _ => "SIGINT",
        };
        Failure::new(Code::Interrupted(signal), format!("Interrupted by {name}."))
    }

    /// Adds a sentence about how things stand: "Nothing was started."
    pub(crate) fn state(mut self, sentence: &str) -> Failure {
        self.what.push(' ');
        self.what.push_str(sentence);
        self
    }

    pub(crate) fn cause(mut self, cause: impl Into<String>) -> Failure {
        self.causes.push(cause.into());
        self
    }

    /// A command to paste, and what it does.
    pub(crate) fn run(self, label: impl Into<Cow<'static, str>>, command: impl Into<String>) -> Failure {
        self.hint(Hint::run(label, command))
    }

    /// The flag that consents to what was refused.
    pub(crate) fn unless(mut self, flag: &'static str) -> Failure {
        self.hints.push(Hint::Add(flag));
        self
    }

    /// Advice in words.
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Failure {
        self.hints.push(Hint::Do(advice.into()));
        self
    }

    /// Advice that is there to use.
    pub(crate) fn hint(mut self, hint: Hint) -> Failure {
        self.hints.push(hint);
        self
    }

    /// Names that were perhaps meant, before all other advice.
    pub(crate) fn meant(mut self, names: &[String]) -> Failure {
        if let [first, rest @ ..] = names {
            let names = rest.iter().fold(first.clone(), |names, name| format!("{names} or {name}"));
            self.hints.insert(0, Hint::Do(format!("did you mean {names}?")));
        }
        self
    }

    pub(crate) fn json(&self) -> Data {
        let Failure { code, what, causes, hints, open: _ } = self;
        document!({ "code": code.name(), "message": what, "causes": causes, "hints": hints_in_json(hints) })
    }
}

/// How a command ended: what is known, and what failed. Both can be there.
#[derive(Debug)]
pub(crate) struct Ended<R> {
    pub(crate) report: Option<R>,
    pub(crate) failure: Option<Failure>,
}

impl<R> Ended<R> {
    pub(crate) fn well(report: R) -> Ended<R> {
        Ended { report: Some(report), failure: None }
    }
}

impl<R> From<Failure> for Ended<R> {
    fn from(failure: Failure) -> Ended<R> {
        Ended { report: None, failure: Some(failure) }
    }
}

/// What a command found out or did.
pub(crate) trait Report {
    /// For people, on stdout; whole lines. May be empty where everything was said on the way.
    fn text(&self) -> String;
    /// The `data` of the JSON document.
    fn json(&self) -> Data;
}

/// What the JSON document still has to say where people have seen it all.
pub(crate) struct DataOnly(pub(crate) Data);

impl Report for DataOnly {
    fn text(&self) -> String {
        String::new()
    }

    fn json(&self) -> Data {
        self.0.clone()
    }
}
