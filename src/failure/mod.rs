//! Failures as people and machines see them: a stable code, causes, and next steps.
//!
//! Each file maps the errors of one layer, exhaustively.

mod code;
mod hint;
mod http;
mod io;
mod remedy;
mod report;
mod runs;

use std::borrow::Cow;

use crate::document::{Data, document};
use crate::questions::OpenQuestions;

pub(crate) use self::code::{Code, Explanation};
pub(crate) use self::hint::{Hint, hints_in_json, next_lines};
pub(crate) use self::http::{of_databricks, of_dbt};
pub(crate) use self::io::io_reason;
pub(crate) use self::remedy::Remedy;
pub(crate) use self::report::{Ended, FailedPart, Known, Report, RunOutcome, TaskRun};
pub(crate) use self::runs::{of_gone, of_start};

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
