//! The notebook `templates/run_dbt_job.py`: rendering it, and recognizing it in a workspace. Pure text, no I/O.

mod literal;
mod marker_line;
mod settings;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;

pub(crate) use marker_line::{compare_versions, digest, normalise};
pub(crate) use settings::{CredentialChange, Found, Settings};

use std::cmp::Ordering;

/// The notebook, with a placeholder for the settings.
const TEMPLATE: &str = include_str!("../../templates/run_dbt_job.py");
const PLACEHOLDER: &str = "@@DBTRIGGER_SETTINGS@@";
const SETTINGS_BEFORE: &str = "SETTINGS = json.loads('";
const SETTINGS_AFTER: &str = "')";

/// Renders the notebook, with its marker and one final newline.
pub(crate) fn render(settings: &Settings, version: &str) -> String {
    marker_line::put(&fill(settings), version)
}

/// The template with its settings and the template's own marker line.
fn fill(settings: &Settings) -> String {
    let (before, after) =
        TEMPLATE.split_once(PLACEHOLDER).expect("the template has its placeholder, a test sees to that");
    [before, &literal::encode(&settings.to_json()), after].concat()
}

/// What the text of a notebook in a workspace is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// It has no dbtrigger marker.
    NotOurs,
    /// A notebook rendered from one of our templates.
    Ours {
        /// The version of dbtrigger that rendered it; empty if the marker line is damaged.
        version: String,
        /// Whether it was edited since.
        state: State,
        /// Its settings; `None` if they are no longer readable.
        settings: Option<Found>,
    },
}

/// Whether a dbtrigger notebook is as it was rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The body matches the digest in its marker.
    Intact,
    /// The body does not match.
    EditedByHand,
}

/// Reads a notebook's source, as exported.
pub(crate) fn read(text: &str) -> Reading {
    let text = normalise(text);
    let Some(marker) = marker_line::read(&text) else {
        return Reading::NotOurs;
    };
    let settings = text
        .split('\n')
        .find_map(|line| line.strip_prefix(SETTINGS_BEFORE)?.strip_suffix(SETTINGS_AFTER))
        .and_then(literal::decode)
        .and_then(|value| Found::from_json(&value));
    Reading::Ours {
        version: marker.version,
        state: if marker.intact { State::Intact } else { State::EditedByHand },
        settings,
    }
}

/// How the notebook in a workspace relates to the wanted one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Drift {
    /// Someone else's notebook.
    NotOurs,
    /// The same text; nothing to do.
    Unchanged,
    /// Ours and unedited, but another version or other settings.
    Outdated(Difference),
    /// Ours, and edited since.
    EditedByHand(Difference),
}

/// What an overwrite would change, besides the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The version that rendered the notebook in the workspace; empty if its marker line is damaged.
    pub(crate) version: String,
    /// Whether that version is newer than ours.
    pub(crate) downgrade: bool,
    /// Changes of where the key is read from or sent to. Empty also if the settings in the workspace are
    /// unreadable.
    pub(crate) credential_changes: Vec<CredentialChange>,
}

/// Compares a notebook's source, as exported, with what these settings and this version would render.
pub(crate) fn drift(text: &str, want: &Settings, version: &str) -> Drift {
    let (found_version, state, settings) = match read(text) {
        Reading::NotOurs => return Drift::NotOurs,
        Reading::Ours { version, state, settings } => (version, state, settings),
    };
    if normalise(text) == normalise(&render(want, version)) {
        return Drift::Unchanged;
    }
    let difference = Difference {
        downgrade: compare_versions(&found_version, version) == Some(Ordering::Greater),
        version: found_version,
        credential_changes: settings.map(|found| found.credential_changes(want)).unwrap_or_default(),
    };
    match state {
        State::Intact => Drift::Outdated(difference),
        State::EditedByHand => Drift::EditedByHand(difference),
    }
}
