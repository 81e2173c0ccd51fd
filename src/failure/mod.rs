//! Failures as people and machines see them: a stable code, causes, and next steps.
//!
//! Each file maps the errors of one layer, exhaustively.

mod explanations;
mod hint;
mod http;
mod io;
mod remedy;
mod report;
mod runs;

use std::borrow::Cow;

use crate::document::{Data, document};
use crate::questions::OpenQuestions;

pub(crate) use self::explanations::Explanation;
pub(crate) use self::hint::{Hint, hints_in_json, next_lines};
pub(crate) use self::http::{of_databricks, of_dbt};
pub(crate) use self::io::io_reason;
pub(crate) use self::remedy::Remedy;
pub(crate) use self::report::{Ended, FailedPart, Known, Report, RunOutcome, TaskRun};
pub(crate) use self::runs::{of_gone, of_start};

/// The stable error codes. Names and exit codes are a public interface (`docs/reference/exit-codes.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// A failure without a code of its own.
    Failed,
    /// Unknown or conflicting flags or arguments.
    Usage,
    /// Values are missing and there is no terminal to prompt on.
    MissingInput,
    /// A value is malformed.
    InvalidInput,
    /// Two sources disagree.
    Contradiction,
    /// The run failed.
    RunFailed,
    /// The token is missing, invalid or expired.
    NotAuthenticated,
    /// The identity lacks a permission.
    NotAllowed,
    /// Not found, or not visible to the identity.
    NotFound,
    /// The run existed before and no longer does.
    RunGone,
    /// Not ours, edited by hand, open to others, or lacking something that a plan needs.
    Refused,
    /// Another process or user changed the object while the command ran. Their change is kept.
    ChangedMeanwhile,
    /// Timed out; the run is still active.
    StillRunning,
    /// Unknown whether the run was started. Nothing was sent again.
    OutcomeUnknown,
    /// DNS, connection or proxy.
    Network,
    /// Certificate or handshake.
    Tls,
    /// The service's response could not be understood.
    UnexpectedResponse,
    /// The run was canceled.
    RunCancelled,
    /// The user answered no, or left a question; with the signal of Ctrl-C.
    Cancelled(Option<u8>),
    /// A bug in dbtrigger.
    Bug,
    /// Still rate limited after all retries.
    RateLimited,
    /// Still unavailable after all retries.
    Unavailable,
    /// Ended by a signal, with its number.
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
            Code::UnexpectedResponse => "unexpected-response",
            Code::RunCancelled => "run-cancelled",
            Code::Cancelled(_) => "cancelled",
            Code::Bug => "bug",
            Code::RateLimited => "rate-limited",
            Code::Unavailable => "unavailable",
            Code::Interrupted(_) => "interrupted",
        }
    }

    /// The process exit code.
    pub(crate) fn exit(self) -> u8 {
        match self {
            Code::Failed | Code::Cancelled(None) => 1,
            Code::Usage | Code::MissingInput | Code::InvalidInput | Code::Contradiction => 2,
            Code::RunFailed => 3,
            Code::NotAuthenticated | Code::NotAllowed => 4,
            Code::NotFound | Code::RunGone => 6,
            Code::Refused | Code::ChangedMeanwhile => 7,
            Code::StillRunning => 8,
            Code::OutcomeUnknown => 9,
            Code::Network | Code::Tls => 12,
            Code::UnexpectedResponse => 13,
            Code::RunCancelled => 20,
            Code::Bug => 70,
            Code::RateLimited | Code::Unavailable => 75,
            Code::Interrupted(signal) | Code::Cancelled(Some(signal)) => 128 + signal,
        }
    }
}

/// A failure with its causes and next steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    /// What failed, for what object and why, in the terms of the user's input, without a capital and a period:
    /// "cannot read dbt job 222222: not found (404)".
    pub(crate) what: String,
    pub(crate) causes: Vec<String>,
    pub(crate) hints: Vec<Hint>,
    /// The questions that could resolve it at a prompt. Not printed.
    pub(crate) open_questions: OpenQuestions,
}

impl Failure {
    pub(crate) fn new(code: Code, what: impl Into<String>) -> Failure {
        Failure {
            code,
            what: what.into(),
            causes: Vec::new(),
            hints: Vec::new(),
            open_questions: OpenQuestions::default(),
        }
    }

    /// The program was ended by this signal.
    pub(crate) fn interrupted(signal: u8) -> Failure {
        let name = match signal {
            1 => "SIGHUP",
            3 => "SIGQUIT",
            15 => "SIGTERM",
            _ => "SIGINT",
        };
        Failure::new(Code::Interrupted(signal), format!("interrupted by {name}"))
    }

    /// Adds how things stand: "nothing was started".
    pub(crate) fn state(mut self, clause: &str) -> Failure {
        self.what.push_str("; ");
        self.what.push_str(clause);
        self
    }

    pub(crate) fn cause(mut self, cause: impl Into<String>) -> Failure {
        // What was tried stays last: it is shown with -v only.
        let reasons = self.causes.len().saturating_sub(self.open_questions.tried);
        self.causes.insert(reasons, cause.into());
        self
    }

    /// Adds a command to paste, with a label.
    pub(crate) fn run(self, label: impl Into<Cow<'static, str>>, command: impl Into<String>) -> Failure {
        self.hint(Hint::run(label, command))
    }

    /// Adds the flag that consents to what was refused.
    pub(crate) fn unless(mut self, flag: &'static str) -> Failure {
        self.hints.push(Hint::Add(flag));
        self
    }

    /// Adds advice in words.
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Failure {
        self.hints.push(Hint::Do(advice.into()));
        self
    }

    /// Adds an existing hint.
    pub(crate) fn hint(mut self, hint: Hint) -> Failure {
        self.hints.push(hint);
        self
    }

    /// Inserts "did you mean" with these names before all other hints.
    pub(crate) fn meant(mut self, names: &[String]) -> Failure {
        if let [first, rest @ ..] = names {
            let names = rest.iter().fold(first.clone(), |names, name| format!("{names} or {name}"));
            self.hints.insert(0, Hint::Do(format!("did you mean {names}?")));
        }
        self
    }

    /// The causes that are shown without `-v`: three at most, none that repeats the line above. What became of a run is
    /// shown whole: its failed models, or which runs go on after an interrupt.
    pub(crate) fn main_causes(&self) -> Vec<&str> {
        let most = if matches!(self.code, Code::RunFailed | Code::Interrupted(_)) { usize::MAX } else { 3 };
        let reasons = self.causes.len().saturating_sub(self.open_questions.tried);
        let new = |cause: &&str| !self.what.ends_with(cause);
        self.causes[..reasons].iter().map(String::as_str).filter(new).take(most).collect()
    }

    pub(crate) fn json(&self) -> Data {
        let Failure { code, what, causes, hints, open_questions: _ } = self;
        document!({ "code": code.name(), "message": what, "causes": causes, "hints": hints_in_json(hints) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_causes_are_shown_and_those_of_a_run_all() {
        for (code, shown) in [(Code::Refused, vec!["b", "c", "d"]), (Code::RunFailed, vec!["b", "c", "d", "e"])] {
            let mut failure = Failure::new(code, "what: it is a").cause("it is a").cause("b").cause("tried");
            failure.open_questions.tried = 1;
            assert_eq!(failure.cause("c").cause("d").cause("e").main_causes(), shown);
        }
    }
}
