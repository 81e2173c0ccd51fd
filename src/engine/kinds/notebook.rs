//! The notebook. The mark in its first lines tells *unchanged*, *outdated*, *edited by hand* and *not ours* apart.

mod removal;

use std::iter::successors;

use futures_util::future::try_join_all;
use serde::Serialize;

pub(crate) use self::removal::{NotebookRemoval, NotebookRemovalHave, NotebookRemovalWant};
use super::difference::unified;
use crate::databricks::workspace::{NotebookPath, ObjectInfo, export, get_status, import, mkdirs};
use crate::databricks::{is_missing, is_there_already};
use crate::dbt::Field;
use crate::engine::apply::Inputs;
use crate::engine::{Action, Applied, Change, Consent, Consents, Creation, Kind, Refusal, Step};
use crate::failure::{Code, Failure};
use crate::http::{HttpError, Meaning, Reader, Writer};
use crate::notebook::{Difference, Drift, Found, Reading, Settings, State, drift, normalise, read, render};
use crate::spec::{DEFAULT_KEY, DEFAULT_SCOPE, NotebookSettings};

/// The version written into the mark.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The notebook that runs a dbt job.
pub(crate) enum Notebook {}

/// The notebook that should exist.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NotebookWant {
    pub(crate) path: NotebookPath,
    pub(crate) settings: NotebookSettings,
}

/// What is at the path.
#[derive(Clone, Debug)]
pub(crate) enum NotebookHave {
    Notebook {
        object_id: Option<u64>,
        /// As exported.
        text: String,
    },
    /// A folder, file or other object, by its Databricks type such as `DIRECTORY`.
    Other(String),
    /// Nothing, and nothing can be created: `above` in the path is not a folder.
    NoFolder { above: NotebookPath, kind: String },
}

impl NotebookSettings {
    /// The settings that the notebook will have, given the existing one.
    pub(crate) fn after(&self, have: Option<&NotebookHave>) -> Settings {
        let NotebookSettings { host, account_id, scope, key, allow_override, allow_job } = self;
        let kept = have.and_then(kept);
        let kept = kept.as_ref();
        let overrides = |kept: &Found| kept.allow_override.iter().filter_map(|name| Field::named(name)).collect();
        let (kept_scope, kept_key) = (kept.map(|kept| kept.scope.clone()), kept.map(|kept| kept.key.clone()));
        Settings {
            host: host.clone(),
            account_id: *account_id,
            scope: scope.after(kept_scope).unwrap_or_else(|| DEFAULT_SCOPE.to_owned()),
            key: key.after(kept_key).unwrap_or_else(|| DEFAULT_KEY.to_owned()),
            allow_override: allow_override.after(kept.map(overrides)).unwrap_or_default(),
            allow_job: allow_job.after(kept.map(|kept| kept.allow_job.clone())).unwrap_or_default(),
        }
    }

    pub(crate) fn text(&self, have: Option<&NotebookHave>) -> String {
        render(&self.after(have), VERSION)
    }
}

/// The settings of an unedited dbtrigger notebook. The settings of an edited one may not be what was requested.
fn kept(have: &NotebookHave) -> Option<Found> {
    let NotebookHave::Notebook { object_id: _, text } = have else { return None };
    match read(text) {
        Reading::Ours { version: _, state: State::Intact, settings } => settings,
        Reading::Ours { version: _, state: State::EditedByHand, settings: _ } | Reading::NotOurs => None,
    }
}

impl NotebookHave {
    /// The state in one word, for JSON.
    pub(crate) fn state(&self, want: &NotebookWant) -> &'static str {
        match self {
            NotebookHave::Other(_) | NotebookHave::NoFolder { .. } => "in-the-way",
            NotebookHave::Notebook { object_id: _, text } => {
                match drift(text, &want.settings.after(Some(self)), VERSION) {
                    Drift::NotOurs => "not-ours",
                    Drift::Unchanged => "unchanged",
                    Drift::Outdated(_) => "outdated",
                    Drift::EditedByHand(_) => "edited-by-hand",
                }
            }
        }
    }
}

impl Kind for Notebook {
    type Want = NotebookWant;
    type Have = NotebookHave;

    const KIND: &'static str = "notebook";
    const CREATION: Creation = Creation::IsRefused;

    fn name(want: &NotebookWant) -> String {
        want.path.to_string()
    }

    async fn observe(reader: &Reader, want: &NotebookWant) -> Result<Option<NotebookHave>, HttpError> {
        // In parallel: if the notebook does not exist, what is above it matters.
        let (found, above) = tokio::join!(look_at(reader, &want.path), above(reader, &want.path));
        match found? {
            None => above,
            there => Ok(there),
        }
    }

    async fn reobserve(reader: &Reader, step: &Step<Notebook>) -> Result<Option<NotebookHave>, HttpError> {
        look_at(reader, &step.want.path).await
    }

    fn diff(want: &NotebookWant, have: Option<&NotebookHave>, consents: &Consents) -> Action {
        let path = &want.path;
        let mut refusals = Vec::new();
        if path.is_shared() && !consents.has(Consent::AcceptSharedPath) {
            let refusal = Refusal::new(format!(
                "notebook {path} would be under /Shared, where every user of the workspace can edit it and so use the dbt key it reads"
            ))
            .advise("drop --notebook to use your home folder, which only you and administrators can edit");
            refusals.push(refusal.unless(Consent::AcceptSharedPath));
        }
        let text = match have {
            None => return Action::Create.unless_refused(refusals),
            Some(NotebookHave::NoFolder { above, kind }) => {
                let kind = in_words(kind);
                return Refusal::new(format!("there is {kind} at {above}, so {path} cannot be created"))
                    .advise("choose another --notebook, or delete what is there")
                    .always()
                    .unless_refused(refusals);
            }
            Some(NotebookHave::Other(kind)) => {
                let kind = in_words(kind);
                return Refusal::new(format!("there is {kind} at {path}, so no notebook can be created there"))
                    .advise("choose another --notebook, or delete what is there")
                    .always()
                    .unless_refused(refusals);
            }
            Some(NotebookHave::Notebook { object_id: _, text }) => text,
        };
        let settings = want.settings.after(have);
        let wanted = render(&settings, VERSION);
        let action = match drift(text, &settings, VERSION) {
            Drift::Unchanged => Action::Keep(None),
            Drift::NotOurs if consents.has(Consent::Adopt) => Action::Update(vec![Change {
                field: "text".to_owned(),
                from: None,
                to: None,
                reason: "--adopt: replaces a notebook that dbtrigger did not create".to_owned(),
            }]),
            Drift::NotOurs => Refusal::new(format!("notebook {path} exists and was not created by dbtrigger"))
                .diff(unified(&normalise(text), &normalise(&wanted)))
                .unless(Consent::Adopt),
            Drift::Outdated(difference) => outdated(path, text, &settings, &difference, consents),
            Drift::EditedByHand(difference) if consents.has(Consent::Force) => {
                let mut changes = changes(text, &settings, &difference);
                changes.push(Change {
                    field: "text".to_owned(),
                    from: None,
                    to: None,
                    reason: "--force: manual edits are lost".to_owned(),
                });
                Action::Update(changes)
            }
            Drift::EditedByHand(Difference { version, downgrade: _, credential_changes: _ }) => {
                let since = if version.is_empty() { String::new() } else { format!(" {version}") };
                Refusal::new(format!("notebook {path} was edited by hand since dbtrigger{since} wrote it"))
                    .diff(unified(&normalise(text), &normalise(&wanted)))
                    .unless(Consent::Force)
            }
        };
        action.unless_refused(refusals)
    }

    fn overwritten_diff(want: &NotebookWant, have: Option<&NotebookHave>) -> Option<String> {
        let Some(NotebookHave::Notebook { object_id: _, text }) = have else { return None };
        let settings = want.settings.after(have);
        match drift(text, &settings, VERSION) {
            Drift::NotOurs | Drift::EditedByHand(_) => {
                Some(unified(&normalise(text), &normalise(&render(&settings, VERSION))))
            }
            Drift::Unchanged | Drift::Outdated(_) => None,
        }
    }

    fn is_as_planned(step: &Step<Notebook>, now: Option<&NotebookHave>) -> bool {
        let text = |have: Option<&NotebookHave>| match have {
            Some(NotebookHave::Notebook { object_id: _, text }) => Some(normalise(text)),
            Some(NotebookHave::Other(_) | NotebookHave::NoFolder { .. }) | None => None,
        };
        let now = text(now);
        now.is_some() && now == text(step.have.as_ref())
    }

    async fn apply(writer: &Writer, step: &mut Step<Notebook>, _inputs: &Inputs) -> Result<Applied, HttpError> {
        let Step { want, have, action, progress: _, now: _, consents: _ } = step;
        let text = want.settings.text(have.as_ref());
        if !matches!(action, Action::Create) {
            return writer.put_once(import(&want.path, &text, true)).await.map(|()| Applied::Written);
        }
        if want.path.folder() != "/" {
            writer.put_once(mkdirs(want.path.folder())).await?;
        }
        // Without overwriting: a notebook created by someone else since the read is not ours to replace.
        match writer.put_once(import(&want.path, &text, false)).await {
            Err(error) if is_there_already(&error) => Ok(Applied::Found),
            ended => ended.map(|()| Applied::Written),
        }
    }

    fn differences(step: &Step<Notebook>, now: Option<&NotebookHave>) -> Vec<String> {
        match now {
            Some(NotebookHave::Notebook { object_id: _, text }) => {
                let is_same = normalise(text) == normalise(&step.want.settings.text(step.have.as_ref()));
                if is_same { Vec::new() } else { vec!["another text".to_owned()] }
            }
            Some(NotebookHave::Other(kind)) => vec![format!("{} instead of a notebook", in_words(kind))],
            Some(NotebookHave::NoFolder { .. }) | None => vec!["nothing at this path".to_owned()],
        }
    }

    fn explain(want: &NotebookWant, error: &HttpError, failure: Failure) -> Failure {
        let NotebookWant { path, .. } = want;
        if error.operation == "workspace/mkdirs" && is_there_already(error) {
            return Failure::new(
                Code::Refused,
                format!("cannot create folder {}: something else exists there", path.folder()),
            )
            .cause(error.to_string())
            .advise("choose another --notebook, or delete what is there");
        }
        if failure.code != Code::NotAllowed {
            return failure;
        }
        failure.advise(format!(
            "this requires edit permission in {}; drop --notebook to use your home folder",
            path.folder()
        ))
    }
}

/// Reads what is at a path.
async fn look_at(reader: &Reader, path: &NotebookPath) -> Result<Option<NotebookHave>, HttpError> {
    // Anything but a notebook needs no text, so do not wait for the export.
    let status = async {
        match reader.read(get_status(path)).await {
            Ok(ObjectInfo { object_id, object_type, language: _ }) => match object_type.as_deref() {
                Some("NOTEBOOK") => Ok(object_id),
                other => {
                    Err(Ok(Some(NotebookHave::Other(other.unwrap_or("something other than a notebook").to_owned()))))
                }
            },
            Err(error) if is_missing(&error) => Err(Ok(None)),
            Err(error) => Err(Err(error)),
        }
    };
    let text = async { Ok(reader.read(export(path)).await) };
    match tokio::try_join!(status, text) {
        Ok((object_id, Ok(text))) => Ok(Some(NotebookHave::Notebook { object_id, text })),
        // Just created or just deleted, so that the two reads differ. Writing as if it were absent overwrites
        // nothing.
        Ok((_, Err(error))) if is_missing(&error) => Ok(None),
        Ok((_, Err(error))) => Err(error),
        Err(settled) => settled,
    }
}

/// What prevents the notebook's folder from being created; `None` if the folder exists or can be created.
async fn above(reader: &Reader, path: &NotebookPath) -> Result<Option<NotebookHave>, HttpError> {
    // A home folder and top-level folders always exist.
    let folders = successors(path.above(), NotebookPath::above).filter(|above| !is_given(above));
    // In parallel: a new path has several missing folders.
    let looks = folders.map(|above| async {
        match reader.read(get_status(&above)).await {
            Ok(status) => Ok(Some((above, status.object_type))),
            // A user may be able to write to a folder without seeing its parent.
            Err(error) if is_missing(&error) || error.means() == Meaning::RightMissing => Ok(None),
            Err(error) => Err(error),
        }
    });
    let nearest = try_join_all(looks).await?.into_iter().flatten().next();
    Ok(nearest.and_then(|(above, kind)| {
        // Object types that the reference does not name may contain others.
        let kind = kind.filter(|kind| NO_FOLDERS.contains(&kind.as_str()))?;
        Some(NotebookHave::NoFolder { above, kind })
    }))
}

/// Whether a path is `/Users/<name>` or top-level, where the service itself creates folders.
fn is_given(path: &NotebookPath) -> bool {
    let text = path.as_str();
    let depth = text.matches('/').count();
    depth == 1 || (depth == 2 && text.starts_with("/Users/"))
}

/// Object types that cannot contain others.
const NO_FOLDERS: [&str; 4] = ["NOTEBOOK", "FILE", "LIBRARY", "DASHBOARD"];

fn in_words(kind: &str) -> &str {
    match kind {
        "DIRECTORY" => "a folder",
        "FILE" => "a file",
        "NOTEBOOK" => "a notebook",
        "LIBRARY" => "a library",
        "DASHBOARD" => "a dashboard",
        other => other,
    }
}

fn outdated(
    path: &NotebookPath,
    text: &str,
    settings: &Settings,
    difference: &Difference,
    consents: &Consents,
) -> Action {
    let Difference { version, downgrade, credential_changes } = difference;
    let harmless = !*downgrade && credential_changes.is_empty();
    if harmless || consents.has(Consent::Force) {
        let mut changes = changes(text, settings, difference);
        if changes.is_empty() {
            let reason = "this dbtrigger writes another one".to_owned();
            changes.push(Change { field: "text".to_owned(), from: None, to: None, reason });
        }
        return Action::Update(changes);
    }
    let mut reasons: Vec<String> = credential_changes
        .iter()
        .map(|change| format!("another {} ({} instead of {})", change.what, change.to, change.from))
        .collect();
    if *downgrade {
        reasons.push(format!("an older version of it ({VERSION} instead of {version})"));
    }
    Refusal::new(format!("notebook {path} would get {}, which affects the workflows that use it", reasons.join(", ")))
        .diff(unified(&normalise(text), &normalise(&render(settings, VERSION))))
        .advise("to keep both, choose another --notebook")
        .unless(Consent::Force)
}

fn changes(text: &str, settings: &Settings, difference: &Difference) -> Vec<Change> {
    let Difference { version, downgrade, credential_changes } = difference;
    let change = |field: &str, from: String, to: String, reason: &str| Change {
        field: field.to_owned(),
        from: Some(from),
        to: Some(to),
        reason: reason.to_owned(),
    };
    let mut changes = Vec::new();
    if version != VERSION && !version.is_empty() {
        let reason = if *downgrade { "--force: older version" } else { "newer version" };
        changes.push(change("version", version.clone(), VERSION.to_owned(), reason));
    }
    changes.extend(
        credential_changes
            .iter()
            .map(|changed| change(changed.what, changed.from.clone(), changed.to.clone(), "--force")),
    );
    let found = match read(text) {
        Reading::Ours { version: _, state: _, settings } => settings,
        Reading::NotOurs => None,
    };
    if let Some(Found { host: _, account_id: _, scope: _, key: _, mut allow_override, mut allow_job }) = found {
        allow_override.sort();
        allow_job.sort_unstable();
        let mut wanted: Vec<String> = settings.allow_override.iter().map(|field| field.name.to_owned()).collect();
        wanted.sort();
        wanted.dedup();
        if wanted != allow_override {
            let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            changes.push(change("overrides", list(&allow_override), list(&wanted), "--allow-override"));
        }
        let mut wanted = settings.allow_job.clone();
        wanted.sort_unstable();
        wanted.dedup();
        if wanted != allow_job {
            let list = |ids: &[u64]| {
                if ids.is_empty() {
                    "any".to_owned()
                } else {
                    ids.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
                }
            };
            changes.push(change("jobs", list(&allow_job), list(&wanted), "--allow-job"));
        }
    }
    changes
}
