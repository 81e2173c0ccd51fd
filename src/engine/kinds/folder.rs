//! The folder that `deploy-notebook` creates in the home folder. It carries no mark, so it is removed only when
//! empty.

use serde::Serialize;

use crate::databricks::is_missing;
use crate::databricks::workspace::{Listed, NotebookPath, delete, list};
use crate::engine::apply::Inputs;
use crate::engine::kinds::still_there;
use crate::engine::kinds::task::bare;
use crate::engine::{Action, Applied, Consents, Creation, Kind, Step};
use crate::http::{HttpError, Reader, Writer};

pub(crate) enum FolderRemoval {}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct FolderRemovalWant {
    pub(crate) path: NotebookPath,
    /// The notebooks that are removed before it.
    pub(crate) leaving: Vec<NotebookPath>,
}

impl FolderRemovalWant {
    /// What will still be in it.
    fn remaining<'a>(&self, inside: &'a [Listed]) -> Vec<&'a str> {
        let leaves = |path: &str| self.leaving.iter().any(|leaving| leaving.as_str() == bare(path));
        inside.iter().map(|object| object.path.as_str()).filter(|path| !leaves(path)).collect()
    }
}

impl Kind for FolderRemoval {
    type Want = FolderRemovalWant;
    type Have = Vec<Listed>;

    const KIND: &'static str = "folder";
    const CREATION: Creation = Creation::IsRefused;

    fn name(want: &FolderRemovalWant) -> String {
        want.path.to_string()
    }

    async fn observe(reader: &Reader, want: &FolderRemovalWant) -> Result<Option<Vec<Listed>>, HttpError> {
        match reader.read(list(&want.path)).await {
            Ok(inside) => Ok(Some(inside)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn diff(want: &FolderRemovalWant, have: Option<&Vec<Listed>>, _consents: &Consents) -> Action {
        let Some(inside) = have else { return Action::absent() };
        // An object that is not a folder is listed as itself.
        let remaining = want.remaining(inside);
        if remaining.is_empty() {
            return Action::Remove;
        }
        Action::kept(format!("not empty: {}", remaining.join(", ")))
    }

    fn is_as_planned(step: &Step<FolderRemoval>, now: Option<&Vec<Listed>>) -> bool {
        // The list may lag behind a deletion, but the service refuses to delete a folder that is not empty.
        now.is_some_and(|inside| step.want.remaining(inside).is_empty())
    }

    async fn apply(writer: &Writer, step: &mut Step<FolderRemoval>, _inputs: &Inputs) -> Result<Applied, HttpError> {
        match writer.put_once(delete(&step.want.path)).await {
            Err(error) if error.code() == Some("DIRECTORY_NOT_EMPTY") => Ok(Applied::Found),
            ended => ended.map(|()| Applied::Written),
        }
    }

    fn differences(_step: &Step<FolderRemoval>, now: Option<&Vec<Listed>>) -> Vec<String> {
        still_there(now)
    }
}
