//! A line for people, as what it is, which decides how a terminal wraps it.

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A command to paste, a row of a table, or a text of others: never wrapped. May have several lines.
    Whole(String),
    /// Words; continuation lines are indented. A command in backticks stays together.
    Prose(String),
    /// Words behind so many columns, below which continuation lines are indented.
    Item(usize, String),
    /// A setting of a plan, whose value has a column of its own.
    Setting { label: &'static str, value: String },
}

/// The column of the value of a setting.
pub(crate) const VALUE_AT: usize = 14;

impl Line {
    /// The same with its text changed.
    pub(crate) fn map(self, change: impl Fn(&str) -> String) -> Line {
        match self {
            Line::Whole(text) => Line::Whole(change(&text)),
            Line::Prose(text) => Line::Prose(change(&text)),
            Line::Item(indent, text) => Line::Item(indent, change(&text)),
            Line::Setting { label, value } => Line::Setting { label, value: change(&value) },
        }
    }
}

impl From<String> for Line {
    fn from(text: String) -> Line {
        Line::Whole(text)
    }
}

impl From<&str> for Line {
    fn from(text: &str) -> Line {
        Line::Whole(text.to_owned())
    }
}

/// Without wrapping.
impl fmt::Display for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Whole(text) | Line::Prose(text) => formatter.write_str(text),
            Line::Item(indent, text) => write!(formatter, "{:indent$}{text}", ""),
            Line::Setting { label, value } => write!(formatter, "{label:<VALUE_AT$}{value}"),
        }
    }
}

/// The lines as one text.
#[cfg(test)]
pub(crate) fn plain(lines: &[Line]) -> String {
    lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
