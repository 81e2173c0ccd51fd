//! What to do next, as data: text and JSON are both rendered here.

use std::borrow::Cow;
use std::fmt;

use super::remedy::Remedy;
use crate::document::{Data, document};
use crate::line::Line;

/// One thing to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    /// A command to paste. The label says what it does; it is shown where there are several things to do.
    Run { label: Cow<'static, str>, command: String },
    /// The same command again, with the flag that consents to what was refused.
    Anyway { flag: &'static str, command: String },
    /// The flag of [`Hint::Anyway`], until the command is known.
    Add(&'static str),
    /// Advice in words.
    Do(String),
    /// What helps against a refusal of a service.
    Against(Remedy),
}

/// What a flag of `Consent` consents to.
fn consents_to(flag: &str) -> &'static str {
    match flag {
        "--force" => "overwrite it",
        "--adopt" => "take it over",
        "--rotate" => "replace the key",
        "--accept-shared-path" => "accept that others can edit it",
        "--accept-shared-scope" => "accept that others can read it",
        "--cancel-runs" => "cancel its runs",
        _ => "do it anyway",
    }
}

impl Hint {
    /// A command to paste.
    pub(crate) fn run(label: impl Into<Cow<'static, str>>, command: impl Into<String>) -> Hint {
        Hint::Run { label: label.into(), command: command.into() }
    }

    /// The command to paste, if it is one.
    pub(crate) fn command(&self) -> Option<&str> {
        match self {
            Hint::Run { label: _, command } | Hint::Anyway { flag: _, command } => Some(command),
            Hint::Add(_) | Hint::Do(_) | Hint::Against(_) => None,
        }
    }

    /// What it does, without the command.
    fn words(&self) -> Cow<'_, str> {
        match self {
            Hint::Run { label, command: _ } => Cow::Borrowed(label),
            Hint::Anyway { flag, command: _ } => consents_to(flag).into(),
            Hint::Add(flag) => format!("to {}, add {flag}", consents_to(flag)).into(),
            Hint::Do(advice) => Cow::Borrowed(advice),
            Hint::Against(remedy) => remedy.to_string().into(),
        }
    }

    /// The same about one of several services. A label names its service already.
    pub(crate) fn about(self, service: impl fmt::Display) -> Hint {
        match self {
            Hint::Run { .. } | Hint::Anyway { .. } => self,
            Hint::Add(_) | Hint::Do(_) | Hint::Against(_) => Hint::Do(format!("{service}: {}", self.words())),
        }
    }

    /// As a line below an error or a report.
    pub(crate) fn line(&self) -> Line {
        let text = format!("next: {self}");
        if self.command().is_some() { Line::Whole(text) } else { Line::Prose(text) }
    }

    /// As an object: `text` is the label of a command, or advice.
    fn json(&self) -> Data {
        document!({ "text": self.words().as_ref(), "command": self.command() })
    }
}

/// With its label.
impl fmt::Display for Hint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.words())?;
        self.command().map_or(Ok(()), |command| write!(formatter, ": {command}"))
    }
}

/// The line of each hint. A command that stands alone has no label, unless it consents to something.
pub(crate) fn next_lines(hints: &[Hint]) -> Vec<Line> {
    match hints {
        [Hint::Run { label: _, command }] => vec![Line::Whole(format!("next: {command}"))],
        hints => hints.iter().map(Hint::line).collect(),
    }
}

/// The hints in a document.
pub(crate) fn hints_in_json(hints: &[Hint]) -> Vec<Data> {
    hints.iter().map(Hint::json).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_stands_before_a_command_where_there_are_several_hints_or_it_consents() {
        let run = Hint::run("list the jobs", "dbtrigger jobs");
        let anyway = Hint::Anyway { flag: "--adopt", command: "dbtrigger x --adopt".to_owned() };
        let whole = |text: &str| Line::Whole(text.to_owned());
        assert_eq!(next_lines(std::slice::from_ref(&run)), [whole("next: dbtrigger jobs")]);
        assert_eq!(next_lines(std::slice::from_ref(&anyway)), [whole("next: take it over: dbtrigger x --adopt")]);
        let both = [whole("next: list the jobs: dbtrigger jobs"), Line::Prose("next: look".to_owned())];
        assert_eq!(next_lines(&[run, Hint::Do("look".to_owned())]), both);
    }

    #[test]
    fn each_hint_of_a_document_has_its_words_and_its_command() {
        let hints = hints_in_json(&[Hint::run("list the jobs", "dbtrigger jobs"), Hint::Do("look".to_owned())]);
        assert_eq!(*hints[0], serde_json::json!({ "text": "list the jobs", "command": "dbtrigger jobs" }));
        assert_eq!(*hints[1], serde_json::json!({ "text": "look", "command": null }));
    }
}
