//! Notes on steps that write nothing.

use std::fmt;

/// A note on a step that writes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    Kept(String),
    Skipped(Skipped),
}

/// Why a grant was skipped: it would add nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Skipped {
    NoSecretAcls,
    NoNotebookAcls,
    NoJobAcls,
    /// Every user has MANAGE on the scope.
    OpenScope,
}

impl Note {
    pub(crate) fn skipped(&self) -> Option<Skipped> {
        match self {
            Note::Skipped(why) => Some(*why),
            Note::Kept(_) => None,
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Kept(text) => formatter.write_str(text),
            Note::Skipped(why) => write!(formatter, "skipped: {}", why.text()),
        }
    }
}

impl Skipped {
    /// The word for it in JSON documents.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Skipped::NoSecretAcls | Skipped::NoNotebookAcls | Skipped::NoJobAcls => "no-acls",
            Skipped::OpenScope => "open-scope",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Skipped::NoSecretAcls => "no access control for secrets (no Premium plan); every user already has access",
            Skipped::NoNotebookAcls => {
                "no access control for notebooks (no Premium plan); every user can read, run, and edit it"
            }
            Skipped::NoJobAcls => "no access control for jobs (no Premium plan); every user can see and change it",
            Skipped::OpenScope => "every user already has MANAGE on the scope",
        }
    }
}
