//! Plans: the differences between the wanted and the actual state, with their reasons.

use std::fmt;

use serde::Serialize;

use super::apply::Inputs;
use super::kinds::{
    AddedTask, FolderRemoval, Grant, GrantWant, JobGrant, Notebook, NotebookGrant, NotebookRemoval, Scope,
    ScopeRemoval, Secret, SecretRemoval, TaskRemoval, Workflow, WorkflowRemoval,
};
use super::note::Note;
use crate::document::{Data, ToDocument, document};
use crate::failure::{Failure, Hint, of_databricks};
use crate::http::{HttpError, Reader, Writer};

/// What the user agreed to, each with its own flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consent {
    /// `--force`: overwrite what was edited by hand, would be downgraded or points elsewhere.
    Force,
    /// `--adopt`: take over an object without our mark.
    Adopt,
    /// `--rotate`: replace an existing key.
    Rotate,
    /// `--accept-shared-path`: use a path that every user can edit.
    AcceptSharedPath,
    /// `--accept-shared-scope`: use a scope that others can read.
    AcceptSharedScope,
    /// `--cancel-runs`: cancel active runs of what is removed.
    CancelRuns,
}

impl Consent {
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

/// The consents given.
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

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// The field's name in the API, such as `schedule.quartz_cron_expression`.
    pub(crate) field: String,
    pub(crate) from: Option<String>,
    pub(crate) to: Option<String>,
    /// Why it changes, such as `newer version`.
    pub(crate) reason: String,
}

impl Change {
    /// Describes the change as one that was written but reads back differently.
    pub(crate) fn as_difference(&self) -> String {
        let Change { field, from, to, reason: _ } = self;
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
        format!("{field}: {} instead of {}", shown(from), shown(to))
    }
}

impl ToDocument for Change {
    fn to_document(&self) -> Data {
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

/// Why an object is left alone although it differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// As in [`Failure`]: "notebook /Shared/x was edited by hand since dbtrigger 0.1.0 wrote it".
    pub(crate) what: String,
    pub(crate) causes: Vec<String>,
    /// The differing lines, as a unified diff.
    pub(crate) diff: Option<String>,
    /// What else the user can do besides consenting: "set the key in the vault vault.example".
    pub(crate) hints: Vec<Hint>,
    /// Other reasons to refuse the same object.
    pub(crate) others: Vec<Refusal>,
}

impl Refusal {
    pub(crate) fn new(what: impl Into<String>) -> Refusal {
        Refusal { what: what.into(), causes: Vec::new(), diff: None, hints: Vec::new(), others: Vec::new() }
    }

    pub(crate) fn diff(mut self, diff: impl Into<String>) -> Refusal {
        self.diff = Some(diff.into());
        self
    }

    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Refusal {
        self.hints.push(Hint::Do(advice.into()));
        self
    }

    /// Blocked unless the user gives this consent.
    pub(crate) fn unless(self, consent: Consent) -> Action {
        Action::Blocked { why: self, unless: Some(consent) }
    }

    /// Blocked whatever the user consents to.
    pub(crate) fn always(self) -> Action {
        Action::Blocked { why: self, unless: None }
    }
}

/// The code is that of the plan: refused.
impl From<Failure> for Refusal {
    fn from(Failure { code: _, what, causes, hints, open_questions: _ }: Failure) -> Refusal {
        Refusal { what, causes, diff: None, hints, others: Vec::new() }
    }
}

/// What to do about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing is written; the note is for the report.
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
    /// Keeps the object, with the reason.
    pub(crate) fn kept(why: impl fmt::Display) -> Action {
        Action::Keep(Some(Note::Kept(format!("kept: {why}"))))
    }

    /// This action, unless something refuses it.
    pub(crate) fn unless_refused(self, refusals: Vec<Action>) -> Action {
        refusals.into_iter().rfold(self, |rest, refusal| match (refusal, rest) {
            (Action::Blocked { mut why, unless }, Action::Blocked { why: mut other, unless: consent }) => {
                // What no consent helps against comes before the consents.
                let (unless, late) = if consent.is_some() { (unless, consent) } else { (None, unless) };
                other.hints.extend(late.map(|consent| Hint::Add(consent.flag())));
                why.diff = why.diff.or(other.diff.take());
                why.others.extend(std::mem::take(&mut other.others));
                why.others.insert(0, other);
                Action::Blocked { why, unless }
            }
            (refusal, _) => refusal,
        })
    }

    /// There is nothing to remove.
    pub(crate) fn absent() -> Action {
        Action::Keep(Some(Note::Kept("not there".to_owned())))
    }
}

/// What a create does if an object of this name has appeared since the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Creation {
    Overwrites,
    IsRefused,
    /// Names are not unique. `apply` never repeats such a create.
    MakesAnother,
}

/// What the answer to a write says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    Written,
    /// Nothing was written, since an object of this name exists.
    Found,
}

/// The state of a step that may race with other processes creating the same object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RaceOutcome {
    /// There is no other object.
    Ours,
    /// There still are others.
    NotYet,
    /// The object created by this step was deleted again: the other one is used.
    Theirs,
}

/// One kind of object: how it is found, compared and changed.
pub(crate) trait Kind: Sized {
    /// What a create does if an object of this name has appeared since the plan.
    const CREATION: Creation;

    /// The wanted state. It must be serializable, which a secret is not.
    type Want: Serialize;
    /// The state found.
    type Have;

    /// The kind in Databricks' terms, such as `secret scope`.
    const KIND: &'static str;

    /// The name as the user writes it.
    fn name(want: &Self::Want) -> String;

    /// The name within a sentence.
    fn quoted(want: &Self::Want) -> String {
        Self::name(want)
    }

    /// Reads the object; `None` if it does not exist.
    async fn observe(reader: &Reader, want: &Self::Want) -> Result<Option<Self::Have>, HttpError>;

    /// Compares without I/O.
    fn diff(want: &Self::Want, have: Option<&Self::Have>, consents: &Consents) -> Action;

    /// Reads the object again, directly before the write and after it; by its ID if that is known.
    async fn reobserve(reader: &Reader, step: &Step<Self>) -> Result<Option<Self::Have>, HttpError> {
        Self::observe(reader, &step.want).await
    }

    /// Whether the read directly before the write shows the state that the plan was made for.
    fn is_as_planned(step: &Step<Self>, now: Option<&Self::Have>) -> bool;

    /// Makes the change of the step's action in a single attempt: the caller reads again before it repeats one.
    /// What it learns about the object goes into the step.
    async fn apply(writer: &Writer, step: &mut Step<Self>, inputs: &Inputs) -> Result<Applied, HttpError>;

    /// The parts of the change that a read after `apply` does not show, one text per field.
    fn differences(step: &Step<Self>, now: Option<&Self::Have>) -> Vec<String>;

    /// Names of other people's things that the change has lost.
    fn collateral_losses(_step: &Step<Self>) -> Vec<String> {
        Vec::new()
    }

    /// Resolves a race with other processes that created the same object.
    async fn resolve_race(_writer: &Writer, _step: &mut Step<Self>) -> Result<RaceOutcome, HttpError> {
        Ok(RaceOutcome::Ours)
    }

    /// What the service calls a created object, such as `job 123`, if the name does not say it.
    fn created_id(_step: &Step<Self>) -> Option<String> {
        None
    }

    /// Lines by others that an update would overwrite, as a unified diff.
    fn overwritten_diff(_want: &Self::Want, _have: Option<&Self::Have>) -> Option<String> {
        None
    }

    /// A note in place of the change, if a read after `apply` shows that it was not needed.
    fn downgraded_to_noop(_step: &Step<Self>, _now: Option<&Self::Have>) -> Option<Note> {
        None
    }

    /// Adds what this kind knows about a failed request.
    fn explain(_want: &Self::Want, _error: &HttpError, failure: Failure) -> Failure {
        failure
    }
}

/// One object: its wanted state, its actual state and the action between them.
pub(crate) struct Step<K: Kind> {
    pub(crate) want: K::Want,
    /// The state before any write of this step.
    pub(crate) have: Option<K::Have>,
    pub(crate) action: Action,
    pub(crate) progress: Progress,
    /// The state after the change, as read back or as answered.
    pub(crate) now: Option<K::Have>,
    pub(crate) consents: Consents,
}

/// How far a step has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing was sent.
    Pending,
    /// The service accepted the change, but reads do not show all of it yet.
    Written,
    /// Done and read back, or nothing to do.
    Done,
    /// Not changed.
    Failed,
    /// No answer says whether it was changed.
    Unknown,
}

impl<K: Kind> Step<K> {
    /// Observes and compares.
    pub(crate) async fn plan(reader: &Reader, want: K::Want, consents: &Consents) -> Result<Step<K>, Failure> {
        let found = K::observe(reader, &want).await;
        Step::compare(want, found, consents)
    }

    /// Compares with an earlier observation.
    pub(crate) fn compare(
        want: K::Want,
        found: Result<Option<K::Have>, HttpError>,
        consents: &Consents,
    ) -> Result<Step<K>, Failure> {
        let have = found.map_err(|error| failed::<K>("read", &want, &error))?;
        let action = K::diff(&want, have.as_ref(), consents);
        Ok(Step { want, have, action, progress: Progress::Pending, now: None, consents: consents.clone() })
    }

    /// A step with a given action, for tests.
    #[cfg(test)]
    pub(crate) fn settled(want: K::Want, action: Action) -> Step<K> {
        Step { want, have: None, action, progress: Progress::Pending, now: None, consents: Consents::default() }
    }

    /// The latest known state: as read after the change, else as found.
    pub(crate) fn present(&self) -> Option<&K::Have> {
        self.now.as_ref().or(self.have.as_ref())
    }

    /// Whether applying this step writes anything.
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
            Action::Update(_) => K::overwritten_diff(&self.want, self.have.as_ref()),
            Action::Blocked { why, unless: _ } => why.diff.clone(),
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

/// The failure of a request about one object: "cannot create secret scope dbt-cloud: permission denied (403)".
pub(super) fn failed<K: Kind>(verb: &str, want: &K::Want, error: &HttpError) -> Failure {
    let failure = of_databricks(&format!("cannot {verb} {} {}", K::KIND, K::quoted(want)), error);
    K::explain(want, error, failure)
}

/// A step of any kind.
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

/// A step that removes something.
pub(crate) enum Removal {
    Workflow(Step<WorkflowRemoval>),
    Task(Step<TaskRemoval>),
    Notebook(Step<NotebookRemoval>),
    Folder(Step<FolderRemoval>),
    Secret(Step<SecretRemoval>),
    Scope(Step<ScopeRemoval>),
}

/// Evaluates the same expression for a step of any kind.
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
        if let Planned::Workflow(step) = self { Some(step) } else { None }
    }

    /// The lane within the wave. Steps of one lane are written one after another and are adjacent in a plan.
    pub(super) fn lane(&self) -> u8 {
        match self {
            // The scope's readers are checked before the key is stored, so a grant must not change them at the same
            // time.
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

    /// The wave. Steps of one wave are independent; each wave depends on the earlier ones.
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
    /// The reverse order of creation: nothing is removed while something that remains may need it.
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

/// A step as it is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    /// The name within a sentence.
    pub(crate) quoted: String,
    pub(crate) action: Action,
    pub(crate) progress: Progress,
    /// The difference as a unified diff, where it helps the user decide.
    pub(crate) diff: Option<String>,
}

impl Entry {
    /// Something that the plan needs and that is missing or unfit. Nothing is written for it.
    pub(crate) fn refused(kind: &'static str, name: impl Into<String>, why: impl Into<Refusal>) -> Entry {
        let name = name.into();
        let action = why.into().always();
        Entry { kind, quoted: name.clone(), name, action, progress: Progress::Pending, diff: None }
    }

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
            Action::Blocked { why, unless } => {
                entry.set("action", "blocked");
                let reasons = [why].into_iter().chain(&why.others).map(|why| why.what.as_str());
                entry.set("reason", reasons.collect::<Vec<_>>().join("; "));
                entry.set("unless", unless.map(Consent::flag));
            }
        }
        if let Some(diff) = diff {
            entry.set("diff", diff);
        }
        entry
    }
}

#[derive(Default)]
pub(crate) struct Plan {
    /// What the plan needs and does not have.
    pub(crate) refusals: Vec<Entry>,
    /// All steps, in the order in which they are applied.
    pub(crate) steps: Vec<Planned>,
}

impl Plan {
    /// Brings the steps into the order in which they are applied, and settles what depends on several of them: who is
    /// meant to read the key, and what the creator of the scope can do anyway. `me`: the caller.
    pub(crate) fn new(mut steps: Vec<Planned>, refusals: Vec<Entry>, me: &str) -> Plan {
        // The run-as identity may already have a grant from a flag, with a higher level.
        let mut readers: Vec<String> = Vec::new();
        steps.retain(|planned| {
            let Planned::Grant(Step { want: GrantWant { principal, .. }, .. }) = planned else { return true };
            let is_new = !readers.iter().any(|known| known.eq_ignore_ascii_case(principal));
            readers.extend(is_new.then(|| principal.clone()));
            is_new
        });
        steps.sort_by_key(|planned| (planned.wave(), planned.lane()));
        let mut plan = Plan { refusals, steps };
        let scope = plan.scope().and_then(|step| step.have.clone());
        let creates_the_scope = plan.scope().is_some_and(Step::writes);
        for planned in &mut plan.steps {
            if let Planned::Secret(step) = planned {
                step.settle(scope.as_ref());
                step.settle_readers(me, &readers);
            } else if let Planned::Grant(step) = planned {
                step.settle(creates_the_scope, me);
            }
        }
        plan
    }

    pub(crate) fn scope(&self) -> Option<&Step<Scope>> {
        self.steps.iter().find_map(|planned| if let Planned::Scope(step) = planned { Some(step) } else { None })
    }

    pub(crate) fn secret(&self) -> Option<&Step<Secret>> {
        self.steps.iter().find_map(|planned| if let Planned::Secret(step) = planned { Some(step) } else { None })
    }

    pub(crate) fn notebook(&self) -> Option<&Step<Notebook>> {
        self.steps.iter().find_map(|planned| if let Planned::Notebook(step) = planned { Some(step) } else { None })
    }

    pub(crate) fn workflow(&self) -> Option<&Step<Workflow>> {
        self.steps.iter().find_map(Planned::workflow)
    }

    pub(crate) fn added_task(&self) -> Option<&Step<AddedTask>> {
        self.steps.iter().find_map(|planned| if let Planned::AddedTask(step) = planned { Some(&**step) } else { None })
    }

    pub(crate) fn grants(&self) -> impl Iterator<Item = &Step<Grant>> {
        self.steps.iter().filter_map(|planned| if let Planned::Grant(step) = planned { Some(step) } else { None })
    }

    pub(crate) fn notebook_grants(&self) -> impl Iterator<Item = &Step<NotebookGrant>> {
        self.steps
            .iter()
            .filter_map(|planned| if let Planned::NotebookGrant(step) = planned { Some(step) } else { None })
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.refusals.iter().cloned().chain(self.steps.iter().map(Planned::entry)).collect()
    }

    /// Whether applying it writes anything.
    pub(crate) fn writes(&self) -> bool {
        self.steps.iter().any(Planned::writes)
    }
}
