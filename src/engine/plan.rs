//! What differs between what should be and what is there, as data with reasons.

use std::fmt;

use serde::Serialize;

use super::apply::Inputs;
use super::kinds::{
    AddedTask, FolderRemoval, Grant, JobGrant, Notebook, NotebookGrant, NotebookRemoval, Scope, ScopeRemoval, Secret,
    SecretRemoval, TaskRemoval, Workflow, WorkflowRemoval,
};
use super::note::Note;
use crate::document::{Data, Shown, document};
use crate::failure::{Failure, of_databricks};
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
    /// `--accept-shared-scope`: a scope that others can read.
    AcceptSharedScope,
    /// `--cancel-runs`: cancel the runs of what is removed.
    CancelRuns,
}

impl Consent {
    /// The flag that gives it.
    pub(crate) fn flag(self) -> &'static str {
        match self {
            Consent::Force => "--force",
            Consent::Adopt => "--adopt",
            Consent::Rotate => "--rotate",
            Consent::AcceptSharedPath => "--accept-shared-path",
            Consent::AcceptSharedScope => "--accept-shared-scope",
            Consent::CancelRuns => "--cancel-runs",
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// In the service's words: `schedule.quartz_cron_expression`.
    pub(crate) field: String,
    pub(crate) from: Option<String>,
    pub(crate) to: Option<String>,
    /// Why it is changed: `the template is newer`.
    pub(crate) reason: String,
}

impl Change {
    /// The same, where it was written and a read shows it otherwise.
    pub(crate) fn as_difference(&self) -> String {
        let Change { field, from, to, reason: _ } = self;
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
        format!("{field}: {} instead of {}", shown(from), shown(to))
    }
}

impl Shown for Change {
    fn shown(&self) -> Data {
        let Change { field, from, to, reason } = self;
        let mut change = document!({ "field": field });
        for (name, value) in [("from", from), ("to", to)] {
            if let Some(value) = value {
                change.set(name, value);
            }
        }
        change.set("reason", reason);
        change
    }
}

/// Why something is left alone although it differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// A whole sentence: "The notebook was edited by hand since dbtrigger 0.1.0 wrote it."
    pub(crate) what: String,
    /// The lines that differ, in unified form.
    pub(crate) diff: Option<String>,
    /// What else to do about it, beside the consent: "set the key in the vault vault.example".
    pub(crate) advice: Option<String>,
}

impl Refusal {
    pub(crate) fn new(what: impl Into<String>) -> Refusal {
        Refusal { what: what.into(), diff: None, advice: None }
    }

    pub(crate) fn diff(mut self, diff: impl Into<String>) -> Refusal {
        self.diff = Some(diff.into());
        self
    }

    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Refusal {
        self.advice = Some(advice.into());
        self
    }

    /// As an action: blocked unless somebody consents.
    pub(crate) fn unless(self, consent: Consent) -> Action {
        Action::Blocked { why: self, unless: Some(consent) }
    }

    /// As an action that no consent helps with.
    pub(crate) fn always(self) -> Action {
        Action::Blocked { why: self, unless: None }
    }
}

/// What is to be done about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing is written; the note says what a reader should still know.
    Keep(Option<Note>),
    Create,
    Update(Vec<Change>),
    Remove,
    /// Left alone unless the consent is given; `None`: no consent helps.
    Blocked {
        why: Refusal,
        unless: Option<Consent>,
    },
}

impl Action {
    /// It stays, and why.
    pub(crate) fn kept(why: impl fmt::Display) -> Action {
        Action::Keep(Some(Note::Kept(format!("kept: {why}"))))
    }

    /// There is nothing to remove.
    pub(crate) fn absent() -> Action {
        Action::Keep(Some(Note::Kept("not there".to_owned())))
    }
}

/// What a create does where something of this name has come to be there since the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Creation {
    Overwrites,
    IsRefused,
    /// Names are not unique. Such a create is never repeated by the walk.
    MakesAnother,
}

/// What the answer to a write says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    Written,
    /// Nothing was written, since something of this name is there.
    Found,
}

/// How a step stands to others that made the same thing at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// There are no others.
    Ours,
    /// There still are others.
    NotYet,
    /// What this step made was taken back: the other one is used.
    Theirs,
}

/// One kind of thing: how it is found, compared and changed.
pub(crate) trait Kind: Sized {
    /// What a create does where something of this name has come to be there since the plan.
    const CREATION: Creation;

    /// What should be. It is serialised into reports, and a secret cannot be serialised.
    type Want: Serialize;
    /// What is there.
    type Have;

    /// In the service's words: `secret scope`.
    const KIND: &'static str;

    /// The name in the words of the user's input.
    fn name(want: &Self::Want) -> String;

    /// The name within a sentence.
    fn quoted(want: &Self::Want) -> String {
        Self::name(want)
    }

    /// Looks at what is there; `None` if nothing is.
    async fn observe(reader: &Reader, want: &Self::Want) -> Result<Option<Self::Have>, HttpError>;

    /// Compares. Pure.
    fn diff(want: &Self::Want, have: Option<&Self::Have>, consents: &Consents) -> Action;

    /// Looks once more at what a step is about, directly before its write and after it. Where its id is known, by that.
    async fn look_again(reader: &Reader, step: &Step<Self>) -> Result<Option<Self::Have>, HttpError> {
        Self::observe(reader, &step.want).await
    }

    /// Whether what a look directly before the write shows is what the plan was made for.
    fn is_as_planned(step: &Step<Self>, now: Option<&Self::Have>) -> bool;

    /// Makes the one change that the action names, with one attempt: the walk looks again before it repeats it. What it
    /// learns of the thing goes into the step.
    async fn apply(writer: &Writer, step: &mut Step<Self>, inputs: &Inputs) -> Result<Applied, HttpError>;

    /// What of the change a look after `apply` does not show, field by field. Empty: all of it shows.
    fn differences(step: &Step<Self>, now: Option<&Self::Have>) -> Vec<String>;

    /// What of others was there before the change and is not any more, by name.
    fn gone(_step: &Step<Self>) -> Vec<String> {
        Vec::new()
    }

    /// Settles with others that made the same thing at the same time.
    async fn settle(_writer: &Writer, _step: &mut Step<Self>) -> Result<Settled, HttpError> {
        Ok(Settled::Ours)
    }

    /// What the service calls the thing that a step made, such as `job 123`, if the name does not tell.
    fn made_as(_step: &Step<Self>) -> Option<String> {
        None
    }

    /// The lines that an update would overwrite though somebody else wrote them, in unified form.
    fn lost(_want: &Self::Want, _have: Option<&Self::Have>) -> Option<String> {
        None
    }

    /// What a look after `apply` shows to be needless after all, as a note in place of the change.
    fn downgraded_to_noop(_step: &Step<Self>, _now: Option<&Self::Have>) -> Option<Note> {
        None
    }

    /// Says more about a failed request than its status does, where the kind knows more.
    fn explain(_want: &Self::Want, _error: &HttpError, failure: Failure) -> Failure {
        failure
    }
}

/// One thing with what should be, what is there, and what is to be done.
pub(crate) struct Step<K: Kind> {
    pub(crate) want: K::Want,
    /// What was there before anything was written for it.
    pub(crate) have: Option<K::Have>,
    pub(crate) action: Action,
    pub(crate) progress: Progress,
    /// What a look after the change shows, or the answer to it.
    pub(crate) now: Option<K::Have>,
    pub(crate) consents: Consents,
}

/// How far a step has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing was sent for it.
    Pending,
    /// The service has taken the change; reads do not show all of it.
    Written,
    /// Done and read back, or nothing was to do.
    Done,
    /// It was not changed.
    Failed,
    /// No answer tells whether it was changed.
    Unknown,
}

impl<K: Kind> Step<K> {
    /// Observes and compares.
    pub(crate) async fn plan(reader: &Reader, want: K::Want, consents: &Consents) -> Result<Step<K>, Failure> {
        let found = K::observe(reader, &want).await;
        Step::compare(want, found, consents)
    }

    /// Compares with what was observed before.
    pub(crate) fn compare(
        want: K::Want,
        found: Result<Option<K::Have>, HttpError>,
        consents: &Consents,
    ) -> Result<Step<K>, Failure> {
        let have = found.map_err(|error| failed::<K>("read", &want, &error))?;
        let action = K::diff(&want, have.as_ref(), consents);
        Ok(Step { want, have, action, progress: Progress::Pending, now: None, consents: consents.clone() })
    }

    /// A step whose difference is known, for tests.
    #[cfg(test)]
    pub(crate) fn settled(want: K::Want, action: Action) -> Step<K> {
        Step { want, have: None, action, progress: Progress::Pending, now: None, consents: Consents::default() }
    }

    /// What is there as far as is known: after a change what a look showed, else what was found.
    pub(crate) fn present(&self) -> Option<&K::Have> {
        self.now.as_ref().or(self.have.as_ref())
    }

    /// Whether the walk has something to write here.
    pub(crate) fn writes(&self) -> bool {
        match self.action {
            Action::Create | Action::Update(_) | Action::Remove => true,
            Action::Keep(_) | Action::Blocked { .. } => false,
        }
    }

    fn entry(&self) -> Entry {
        let progress = match &self.action {
            Action::Keep(_) => Progress::Done,
            Action::Create | Action::Update(_) | Action::Remove | Action::Blocked { .. } => self.progress,
        };
        let diff = match &self.action {
            Action::Update(_) => K::lost(&self.want, self.have.as_ref()),
            Action::Blocked { why: Refusal { what: _, diff, advice: _ }, unless: _ } => diff.clone(),
            Action::Keep(_) | Action::Create | Action::Remove => None,
        };
        Entry {
            kind: K::KIND,
            name: K::name(&self.want),
            quoted: K::quoted(&self.want),
            action: self.action.clone(),
            progress,
            diff,
        }
    }
}

/// A request about one thing that failed: "Cannot create the secret scope dbt-cloud."
pub(super) fn failed<K: Kind>(verb: &str, want: &K::Want, error: &HttpError) -> Failure {
    let failure = of_databricks(&format!("Cannot {verb} the {} {}", K::KIND, K::quoted(want)), error);
    K::explain(want, error, failure)
}

/// A step of any kind. Grows with the files in `kinds/`; the walk and the plan match on it without a catch-all.
pub(crate) enum Planned {
    Scope(Step<Scope>),
    Secret(Step<Secret>),
    Grant(Step<Grant>),
    Workflow(Box<Step<Workflow>>),
    AddedTask(Box<Step<AddedTask>>),
    Notebook(Step<Notebook>),
    NotebookGrant(Step<NotebookGrant>),
    JobGrant(Step<JobGrant>),
    Removal(Removal),
}

/// A step that takes something away.
pub(crate) enum Removal {
    Workflow(Step<WorkflowRemoval>),
    Task(Step<TaskRemoval>),
    Notebook(Step<NotebookRemoval>),
    Folder(Step<FolderRemoval>),
    Secret(Step<SecretRemoval>),
    Scope(Step<ScopeRemoval>),
}

/// Does the same with a step of whichever kind.
macro_rules! each {
    ($planned:expr, $step:ident => $same:expr) => {
        match $planned {
            Planned::Scope($step) => $same,
            Planned::Secret($step) => $same,
            Planned::Grant($step) => $same,
            Planned::Workflow($step) => $same,
            Planned::AddedTask($step) => $same,
            Planned::Notebook($step) => $same,
            Planned::NotebookGrant($step) => $same,
            Planned::JobGrant($step) => $same,
            Planned::Removal($crate::engine::Removal::Workflow($step)) => $same,
            Planned::Removal($crate::engine::Removal::Task($step)) => $same,
            Planned::Removal($crate::engine::Removal::Notebook($step)) => $same,
            Planned::Removal($crate::engine::Removal::Folder($step)) => $same,
            Planned::Removal($crate::engine::Removal::Secret($step)) => $same,
            Planned::Removal($crate::engine::Removal::Scope($step)) => $same,
        }
    };
}
pub(super) use each;

impl Planned {
    pub(crate) fn entry(&self) -> Entry {
        each!(self, step => step.entry())
    }

    pub(crate) fn writes(&self) -> bool {
        each!(self, step => step.writes())
    }

    /// The step, if it is about a workflow.
    pub(crate) fn workflow(&self) -> Option<&Step<Workflow>> {
        match self {
            Planned::Workflow(step) => Some(step),
            Planned::Scope(_)
            | Planned::Secret(_)
            | Planned::Grant(_)
            | Planned::AddedTask(_)
            | Planned::Notebook(_)
            | Planned::NotebookGrant(_)
            | Planned::JobGrant(_)
            | Planned::Removal(_) => None,
        }
    }

    /// Steps of one lane of a wave are written one after another. Those of a lane stand side by side in a plan.
    pub(super) fn lane(&self) -> u8 {
        match self {
            // Who else may read the scope is compared before the key is stored in it.
            Planned::Secret(_) | Planned::Grant(_) => 1,
            Planned::Notebook(_) => 2,
            Planned::Scope(_)
            | Planned::NotebookGrant(_)
            | Planned::Workflow(_)
            | Planned::AddedTask(_)
            | Planned::JobGrant(_)
            | Planned::Removal(_) => 0,
        }
    }

    /// Steps of one wave do not need one another; each wave needs the ones before it.
    pub(super) fn wave(&self) -> u8 {
        match self {
            Planned::Scope(_) => 0,
            Planned::Secret(_) | Planned::Grant(_) | Planned::Notebook(_) => 1,
            Planned::NotebookGrant(_) => 2,
            Planned::Workflow(_) | Planned::AddedTask(_) => 3,
            Planned::JobGrant(_) => 4,
            Planned::Removal(removal) => removal.wave(),
        }
    }
}

impl Removal {
    /// The other way round: nothing is taken away while something that stays may need it.
    fn wave(&self) -> u8 {
        match self {
            Removal::Workflow(_) | Removal::Task(_) => 0,
            Removal::Notebook(_) => 1,
            Removal::Folder(_) => 2,
            Removal::Secret(_) => 3,
            Removal::Scope(_) => 4,
        }
    }
}

/// The printable side of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    /// The name within a sentence.
    pub(crate) quoted: String,
    pub(crate) action: Action,
    pub(crate) progress: Progress,
    /// What is there and what should be, in unified form, where that helps to decide.
    pub(crate) diff: Option<String>,
}

impl Entry {
    pub(crate) fn json(&self) -> Data {
        let Entry { kind, name, quoted: _, action, progress, diff } = self;
        let progress = match progress {
            Progress::Pending => "pending",
            Progress::Written => "written",
            Progress::Done => "done",
            Progress::Failed => "failed",
            Progress::Unknown => "unknown",
        };
        let mut entry = document!({ "kind": kind, "name": name, "progress": progress });
        match action {
            Action::Keep(note) => {
                entry.set("action", "keep");
                if let Some(note) = note {
                    entry.set("note", note.to_string());
                    if let Some(why) = note.skipped() {
                        entry.set("skipped", why.word());
                    }
                }
            }
            Action::Create => entry.set("action", "create"),
            Action::Remove => entry.set("action", "remove"),
            Action::Update(changes) => {
                entry.set("action", "update");
                entry.set("changes", changes);
            }
            Action::Blocked { why: Refusal { what, diff: _, advice: _ }, unless } => {
                entry.set("action", "blocked");
                entry.set("reason", what);
                entry.set("unless", unless.map(Consent::flag));
            }
        }
        if let Some(diff) = diff {
            entry.set("diff", diff);
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

    /// Whether walking it would write anything.
    pub(crate) fn writes(&self) -> bool {
        self.steps.iter().any(Planned::writes)
    }
}
