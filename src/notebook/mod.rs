//! The notebook `templates/run_dbt_job.py`: rendering it, and recognising it when it is found in a workspace.
//! Pure text, no I/O.

mod literal;
mod mark;
mod settings;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;

pub(crate) use mark::{compare_versions, digest, normalise};
pub(crate) use settings::{Found, Moved, OverrideKey, Settings};

use std::cmp::Ordering;

/// The notebook, with a placeholder for the settings.
const TEMPLATE: &str = include_str!("../../templates/run_dbt_job.py");
const PLACEHOLDER: &str = "@@DBTRIGGER_SETTINGS@@";
const SETTINGS_BEFORE: &str = "SETTINGS = json.loads('";
const SETTINGS_AFTER: &str = "')";

/// Renders the notebook, marker included. It ends with one line end.
pub(crate) fn render(settings: &Settings, version: &str) -> String {
    mark::put(&fill(settings), version)
}

/// The template with its settings, the marker line still the template's.
fn fill(settings: &Settings) -> String {
    let (before, after) =
        TEMPLATE.split_once(PLACEHOLDER).expect("the template has its placeholder, a test sees to that");
    [before, &literal::encode(&settings.to_json()), after].concat()
}

/// What a text found in a workspace is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// It carries no marker of ours.
    NotOurs,
    /// A notebook that was rendered from a template of ours.
    Ours {
        /// The version of dbtrigger that rendered it; empty where the marker line was damaged.
        version: String,
        /// Whether somebody has changed it since.
        state: State,
        /// Its settings; `None` where they cannot be read any more.
        settings: Option<Found>,
    },
}

/// Whether a notebook of ours is still as it was rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The body has the digest that its marker names.
    Intact,
    /// It has another.
    EditedByHand,
}

/// Reads a notebook's source, as exported.
pub(crate) fn read(text: &str) -> Reading {
    let text = normalise(text);
    let Some(marker) = mark::read(&text) else {
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

/// How the notebook in a workspace relates to the one that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Drift {
    /// Somebody else's notebook.
    NotOurs,
    /// The same text; nothing to do.
    Unchanged,
    /// Ours and untouched, but another version or other settings.
    Outdated(Difference),
    /// Ours, and changed by somebody since.
    EditedByHand(Difference),
}

/// What an overwrite would change, beside the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The version that rendered the notebook in the workspace; empty where its marker line was damaged.
    pub(crate) version: String,
    /// That version is newer than ours.
    pub(crate) downgrade: bool,
    /// The places where the key comes from or goes to that would change. Empty also where the settings of the
    /// notebook in the workspace cannot be read.
    pub(crate) moved: Vec<Moved>,
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
        moved: settings.map(|found| found.moved(want)).unwrap_or_default(),
    };
    match state {
        State::Intact => Drift::Outdated(difference),
        State::EditedByHand => Drift::EditedByHand(difference),
    }
}
