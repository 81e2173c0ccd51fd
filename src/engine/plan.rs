//! What differs between what should be and what is there, as data with reasons.

use serde::Serialize;
use serde_json::{Value, json};

use super::walk::Inputs;
use crate::http::{HttpError, Reader, Writer};

/// What somebody said yes to: each has its own flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consent {
    /// `--force`: overwrite what was edited by hand, would be downgraded or points elsewhere.
    Force,
    /// `--adopt`: take over what carries no mark of ours.
    Adopt,
    /// `--rotate`: replace a key that is there.
    Rotate,
    /// `--accept-shared-path`: a place where everybody may edit.
    AcceptSharedPath,
}

impl Consent {
    /// The flag that gives it.
    pub(crate) fn flag(self) -> &'static str {
        match self {
            Consent::Force => "--force",
            Consent::Adopt => "--adopt",
            Consent::Rotate => "--rotate",
            Consent::AcceptSharedPath => "--accept-shared-path",
        }
    }
}

/// All that was said yes to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Consents(Vec<Consent>);

impl Consents {
    /// Adds a consent if its flag was given.
    pub(crate) fn with(mut self, consent: Consent, given: bool) -> Consents {
        if given {
            self.0.push(consent);
        }
        self
    }

    pub(crate) fn has(&self, consent: Consent) -> bool {
        self.0.contains(&consent)
    }
}

/// One difference, with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Change {
    /// In the service's words: `schedule.quartz_cron_expression`.
    pub(crate) field: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    /// Why it is changed: `the template is newer`.
    pub(crate) reason: String,
}

/// Why something is left alone although it differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// A whole sentence: "The notebook was edited by hand since dbtrigger 0.1.0 wrote it."
    pub(crate) what: String,
    /// The lines that differ, in unified form.
    pub(crate) diff: Option<String>,
}

/// What is to be done about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// It is as it should be; holds what a person should still know about it ("left as it is, not compared").
    Keep(Option<String>),
    Create,
    Update(Vec<Change>),
    /// Left alone unless the consent is given; `None`: no consent helps.
    Blocked {
        why: Refusal,
        unless: Option<Consent>,
    },
}

/// One kind of thing: how it is found, compared and changed.
pub(crate) trait Kind: Sized {
    /// What should be. It is serialised into reports, and a secret cannot be serialised.
    type Want: Serialize;
    /// What is there.
    type Have;

    /// In the service's words: `secret scope`.
    const KIND: &'static str;

    /// The name in the words of the user's input.
    fn name(want: &Self::Want) -> String;

    /// Looks at what is there; `None` if nothing is.
    async fn observe(reader: &Reader, want: &Self::Want) -> Result<Option<Self::Have>, HttpError>;

    /// Compares. Pure.
    fn diff(want: &Self::Want, have: Option<&Self::Have>, consents: &Consents) -> Action;

    /// Makes the one change that the action names.
    async fn apply(writer: &Writer, step: &Step<Self>, inputs: &Inputs) -> Result<(), HttpError>;

    /// Whether a look after `apply` shows what was done.
    fn shows(step: &Step<Self>, now: Option<&Self::Have>) -> bool;
}

/// One thing with what should be, what is there, and what is to be done.
pub(crate) struct Step<K: Kind> {
    pub(crate) want: K::Want,
    pub(crate) have: Option<K::Have>,
    pub(crate) action: Action,
}

impl<K: Kind> Step<K> {
    /// Observes and compares.
    pub(crate) async fn plan(reader: &Reader, want: K::Want, consents: &Consents) -> Result<Step<K>, HttpError> {
        let have = K::observe(reader, &want).await?;
        let action = K::diff(&want, have.as_ref(), consents);
        Ok(Step { want, have, action })
    }

    fn entry(&self) -> Entry {
        Entry { kind: K::KIND, name: K::name(&self.want), action: self.action.clone() }
    }
}

/// A step of any kind. Grows with the files in `kinds/`; the walk and the plan match on it without a catch-all.
pub(crate) enum Planned {}

impl Planned {
    pub(crate) fn entry(&self) -> Entry {
        match *self {}
    }
}

/// The printable side of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) action: Action,
}

impl Entry {
    pub(crate) fn json(&self) -> Value {
        let Entry { kind, name, action } = self;
        let mut entry = json!({ "kind": kind, "name": name });
        match action {
            Action::Keep(note) => {
                entry["action"] = "keep".into();
                if let Some(note) = note {
                    entry["note"] = note.as_str().into();
                }
            }
            Action::Create => entry["action"] = "create".into(),
            Action::Update(changes) => {
                entry["action"] = "update".into();
                entry["changes"] = json!(changes);
            }
            Action::Blocked { why: Refusal { what, diff }, unless } => {
                entry["action"] = "blocked".into();
                entry["reason"] = what.as_str().into();
                entry["unless"] = unless.map(Consent::flag).into();
                if let Some(diff) = diff {
                    entry["diff"] = diff.as_str().into();
                }
            }
        }
        entry
    }
}

/// All steps, in the order in which they are walked.
pub(crate) struct Plan {
    pub(crate) steps: Vec<Planned>,
}

impl Plan {
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.steps.iter().map(Planned::entry).collect()
    }
}
