//! Removing a dbtrigger notebook: only if it is unedited and no job runs it.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{NotebookHave, in_words, look_at};
use crate::databricks::jobs::{Job, all_with_tasks};
use crate::databricks::permissions::{Holding, notebook_permissions};
use crate::databricks::raw::Raw;
use crate::databricks::workspace::{NotebookPath, delete};
use crate::engine::apply::Inputs;
use crate::engine::kinds::task::{bare, key_of};
use crate::engine::kinds::{access, still_there};
use crate::engine::{Action, Applied, Consents, Creation, Kind, Progress, Step};
use crate::failure::{Code, Failure};
use crate::http::{HttpError, Reader, Writer};
use crate::notebook::{Found, Reading, State, normalise, read};

pub(crate) enum NotebookRemoval {}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct NotebookRemovalWant {
    pub(crate) path: NotebookPath,
    /// The tasks that are removed before it, as job ID and task key.
    pub(crate) leaving: BTreeSet<(u64, String)>,
    /// The caller.
    pub(crate) me: String,
}

/// What is at the path, and what else decides whether it may be removed.
#[derive(Clone, Debug)]
pub(crate) struct NotebookRemovalHave {
    found: NotebookHave,
    /// The tasks of all visible jobs that run it.
    users: Vec<User>,
    /// Who has access to the notebook itself; empty also if unknown.
    holders: Vec<Holding>,
    manages: bool,
}

/// A task that runs a notebook.
#[derive(Clone, Debug, PartialEq, Eq)]
struct User {
    job: u64,
    name: String,
    key: String,
}

/// The tasks among these jobs that run a notebook.
fn users(jobs: &[Job], path: &NotebookPath) -> Vec<User> {
    let is_it = |task: &Raw| {
        let run: Option<String> = task.object("notebook_task").read("notebook_path");
        run.is_some_and(|run| bare(&run) == path.as_str())
    };
    let of = |job: &Job| {
        let name: String = job.settings.read("name").unwrap_or_default();
        // A job in the old format has its task outside the list.
        let all = job.settings.list("tasks").into_iter().chain([job.settings.clone()]);
        let found = all.filter(|task| is_it(task) || is_it(&task.object("for_each_task").object("task")));
        found.map(|task| User { job: job.id, name: name.clone(), key: key_of(&task) }).collect::<Vec<_>>()
    };
    jobs.iter().flat_map(of).collect()
}

impl NotebookRemovalHave {
    /// Reads the notebook, given all jobs.
    pub(crate) async fn look(
        reader: &Reader,
        want: &NotebookRemovalWant,
        jobs: &[Job],
    ) -> Result<Option<NotebookRemovalHave>, HttpError> {
        let Some(found) = look_at(reader, &want.path).await? else { return Ok(None) };
        let (mut holders, mut manages) = (Vec::new(), true);
        if let NotebookHave::Notebook { object_id: Some(id), text: _ } = &found {
            let permissions = reader.read(notebook_permissions(*id)).await;
            if let Ok(all) = &permissions {
                holders.extend(all.rows.iter().filter(|held| !held.inherited).cloned());
            }
            manages = access::manages(reader, &want.me, permissions).await?;
        }
        Ok(Some(NotebookRemovalHave { found, users: users(jobs, &want.path), holders, manages }))
    }

    /// The settings in a dbtrigger notebook.
    pub(crate) fn settings(&self) -> Option<Found> {
        match &self.found {
            NotebookHave::Notebook { object_id: _, text } => match read(text) {
                Reading::Ours { version: _, state: _, settings } => settings,
                Reading::NotOurs => None,
            },
            NotebookHave::Other(_) | NotebookHave::NoFolder { .. } => None,
        }
    }

    /// The tasks that will still run it.
    fn remaining(&self, want: &NotebookRemovalWant) -> Vec<&User> {
        self.users.iter().filter(|user| !want.leaving.contains(&(user.job, user.key.clone()))).collect()
    }
}

impl Kind for NotebookRemoval {
    type Want = NotebookRemovalWant;
    type Have = NotebookRemovalHave;

    const KIND: &'static str = "notebook";
    const CREATION: Creation = Creation::IsRefused;

    fn name(want: &NotebookRemovalWant) -> String {
        want.path.to_string()
    }

    async fn observe(reader: &Reader, want: &NotebookRemovalWant) -> Result<Option<NotebookRemovalHave>, HttpError> {
        let jobs = all_with_tasks(reader).await?;
        NotebookRemovalHave::look(reader, want, &jobs).await
    }

    /// After the deletion, it no longer matters which tasks run it.
    async fn reobserve(
        reader: &Reader,
        step: &Step<NotebookRemoval>,
    ) -> Result<Option<NotebookRemovalHave>, HttpError> {
        match step.progress {
            Progress::Written => NotebookRemovalHave::look(reader, &step.want, &[]).await,
            Progress::Pending | Progress::Done | Progress::Failed | Progress::Unknown => {
                NotebookRemoval::observe(reader, &step.want).await
            }
        }
    }

    fn diff(want: &NotebookRemovalWant, have: Option<&NotebookRemovalHave>, _consents: &Consents) -> Action {
        let Some(have) = have else { return Action::absent() };
        let mut access = String::new();
        if !have.holders.is_empty() {
            let named = have.holders.iter().map(|held| format!("{} ({})", held.principal, held.level));
            access = format!("; access to it stays too: {}", named.collect::<Vec<_>>().join(", "));
        }
        let kept = |why: &str| Action::kept(format!("{why}{access}"));
        let text = match &have.found {
            NotebookHave::Notebook { object_id: _, text } => text,
            NotebookHave::Other(kind) => return kept(&format!("it is {}", in_words(kind))),
            NotebookHave::NoFolder { .. } => return Action::absent(),
        };
        match read(text) {
            Reading::NotOurs => return kept("dbtrigger did not write it"),
            Reading::Ours { version: _, state: State::EditedByHand, settings: _ } => {
                return kept("it was edited since dbtrigger wrote it");
            }
            Reading::Ours { version: _, state: State::Intact, settings: _ } => {}
        }
        let remaining = have.remaining(want);
        if !remaining.is_empty() {
            let told = remaining.iter().map(|User { job, name, key }| format!("{key} in job {job} \"{name}\""));
            return kept(&format!("tasks run it: {}", told.collect::<Vec<_>>().join(", ")));
        }
        if have.manages { Action::Remove } else { kept(&format!("{} may not manage it", want.me)) }
    }

    fn is_as_planned(step: &Step<NotebookRemoval>, now: Option<&NotebookRemovalHave>) -> bool {
        let text = |have: &NotebookRemovalHave| match &have.found {
            NotebookHave::Notebook { object_id, text } => Some((*object_id, normalise(text))),
            NotebookHave::Other(_) | NotebookHave::NoFolder { .. } => None,
        };
        match (&step.have, now) {
            (Some(before), Some(now)) => text(before) == text(now) && now.remaining(&step.want).is_empty(),
            (_, _) => false,
        }
    }

    async fn apply(writer: &Writer, step: &mut Step<NotebookRemoval>, _inputs: &Inputs) -> Result<Applied, HttpError> {
        writer.put_once(delete(&step.want.path)).await.map(|()| Applied::Written)
    }

    fn differences(_step: &Step<NotebookRemoval>, now: Option<&NotebookRemovalHave>) -> Vec<String> {
        still_there(now)
    }

    fn explain(_want: &NotebookRemovalWant, error: &HttpError, failure: Failure) -> Failure {
        if failure.code == Code::NotAllowed && error.operation == "workspace/delete" {
            return failure.advise("deleting a notebook takes CAN_MANAGE on it, which the owner of its folder has");
        }
        failure
    }
}
