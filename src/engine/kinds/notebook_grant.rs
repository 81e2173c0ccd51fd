//! A principal's access to the notebook. Levels are added, never lowered or removed.

use std::collections::BTreeSet;

use serde::Serialize;

use super::access::{self, direct, give, highest, holders, lacking, raise, unknown};
use crate::databricks::permissions::{Holding, Level as _, NotebookLevel, grant_on_notebook, notebook_permissions};
use crate::databricks::secrets::EVERYBODY;
use crate::databricks::workspace::{NotebookPath, get_status};
use crate::databricks::{has_no_acls, is_missing};
use crate::engine::apply::Inputs;
use crate::engine::{Action, Applied, Consents, Creation, Kind, Note, Skipped, Step};
use crate::failure::Failure;
use crate::http::{HttpError, Reader, Rows, Writer};

pub(crate) enum NotebookGrant {}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct NotebookGrantWant {
    pub(crate) path: NotebookPath,
    /// Email of a user, display name of a group, or application ID of a service principal.
    pub(crate) principal: String,
    pub(crate) level: NotebookLevel,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotebookGrantHave {
    /// The principal's own entries, those of all users, and all principals with access to the notebook itself.
    Held { object_id: u64, own: Vec<Holding>, everybody: Vec<Holding>, holders: BTreeSet<String> },
    /// The workspace has no ACLs.
    NoAcls,
}

impl Kind for NotebookGrant {
    type Want = NotebookGrantWant;
    type Have = NotebookGrantHave;

    const KIND: &'static str = "notebook grant";
    const CREATION: Creation = Creation::Overwrites;

    fn name(want: &NotebookGrantWant) -> String {
        let NotebookGrantWant { path, principal, level } = want;
        format!("{} on {path} for {principal}", level.name())
    }

    async fn observe(reader: &Reader, want: &NotebookGrantWant) -> Result<Option<NotebookGrantHave>, HttpError> {
        let object_id = match reader.read(get_status(&want.path)).await {
            Ok(status) if status.object_type.as_deref() == Some("NOTEBOOK") => status.object_id,
            // Conflicts are reported by the notebook kind.
            Ok(_) => None,
            Err(error) if is_missing(&error) => None,
            Err(error) => return Err(error),
        };
        let Some(object_id) = object_id else { return Ok(None) };
        match reader.read(notebook_permissions(object_id)).await {
            Ok(Rows { rows: holdings, unreadable }) => {
                let of = |name: &str| {
                    holdings.iter().filter(|held| held.principal.eq_ignore_ascii_case(name)).cloned().collect()
                };
                let (own, everybody): (Vec<Holding>, Vec<Holding>) = (of(&want.principal), of(EVERYBODY));
                if unreadable > 0 && direct(&own).is_empty() {
                    return Err(access::unread(reader, "permissions/get"));
                }
                Ok(Some(NotebookGrantHave::Held { object_id, own, everybody, holders: holders(&holdings) }))
            }
            Err(error) if has_no_acls(&error) => Ok(Some(NotebookGrantHave::NoAcls)),
            // Deleted meanwhile.
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn diff(want: &NotebookGrantWant, have: Option<&NotebookGrantHave>, _consents: &Consents) -> Action {
        let Some(have) = have else { return Action::Create };
        let NotebookGrantHave::Held { object_id: _, own, everybody: _, holders: _ } = have else {
            return Action::Keep(needless(want, have));
        };
        if suffices(want, have) {
            return Action::Keep(needless(want, have));
        }
        raise(own, want.level)
    }

    fn is_as_planned(step: &Step<NotebookGrant>, now: Option<&NotebookGrantHave>) -> bool {
        match (&step.have, now) {
            (
                Some(NotebookGrantHave::Held { object_id: _, own: before, everybody: _, holders: _ }),
                Some(NotebookGrantHave::Held { object_id: _, own, everybody: _, holders: _ }),
            ) => direct(before) == direct(own),
            // The notebook is new; access inherited from its folder may be enough.
            (None, Some(have @ NotebookGrantHave::Held { object_id: _, own, everybody: _, holders: _ })) => {
                direct(own).is_empty() && !suffices(&step.want, have)
            }
            (before, now) => before.as_ref() == now,
        }
    }

    async fn apply(writer: &Writer, step: &mut Step<NotebookGrant>, _inputs: &Inputs) -> Result<Applied, HttpError> {
        let NotebookGrantWant { path, principal, level } = &step.want;
        let object_id = match &step.have {
            Some(NotebookGrantHave::Held { object_id, own: _, everybody: _, holders: _ }) => *object_id,
            Some(NotebookGrantHave::NoAcls) => return Ok(Applied::Written),
            None => match writer.read(get_status(path)).await?.object_id {
                Some(object_id) => object_id,
                // Permissions need an ID; the read after this finds out.
                None => return Ok(Applied::Written),
            },
        };
        let kind = access::kind_of(writer, principal).await;
        give(writer, grant_on_notebook(object_id, kind, principal, *level), notebook_permissions(object_id)).await
    }

    fn differences(step: &Step<NotebookGrant>, now: Option<&NotebookGrantHave>) -> Vec<String> {
        match now {
            None => vec!["no notebook with access lists".to_owned()],
            Some(have) if suffices(&step.want, have) => Vec::new(),
            Some(NotebookGrantHave::NoAcls) => Vec::new(),
            Some(NotebookGrantHave::Held { object_id: _, own, everybody: _, holders: _ }) => {
                lacking(own, step.want.level)
            }
        }
    }

    fn collateral_losses(step: &Step<NotebookGrant>) -> Vec<String> {
        match (&step.have, &step.now) {
            (
                Some(NotebookGrantHave::Held { object_id: _, own: _, everybody: _, holders: before }),
                Some(NotebookGrantHave::Held { object_id: _, own: _, everybody: _, holders: now }),
            ) => access::lost_access(before, now),
            (_, _) => Vec::new(),
        }
    }

    fn downgraded_to_noop(step: &Step<NotebookGrant>, now: Option<&NotebookGrantHave>) -> Option<Note> {
        // A new notebook inherits access from its folder.
        now.and_then(|have| needless(&step.want, have))
    }

    fn explain(want: &NotebookGrantWant, error: &HttpError, failure: Failure) -> Failure {
        let NotebookGrantWant { path, principal, level: _ } = want;
        let managed = format!("{path}, which the owner of its folder and administrators have");
        access::explain(principal, &managed, error, failure)
    }
}

/// Whether the principal has the requested access, itself or as one of all users, or an unknown level that it must
/// keep.
fn suffices(want: &NotebookGrantWant, have: &NotebookGrantHave) -> bool {
    match have {
        NotebookGrantHave::NoAcls => true,
        NotebookGrantHave::Held { object_id: _, own, everybody, holders: _ } => {
            highest(own).max(highest(everybody)) >= Some(want.level) || unknown::<NotebookLevel>(own).is_some()
        }
    }
}

/// Why a grant is needless, if it is.
fn needless(want: &NotebookGrantWant, have: &NotebookGrantHave) -> Option<Note> {
    match have {
        NotebookGrantHave::NoAcls => Some(Note::Skipped(Skipped::NoNotebookAcls)),
        NotebookGrantHave::Held { object_id: _, own, everybody, holders: _ } => {
            let held: Option<NotebookLevel> = highest(own);
            if held < Some(want.level) {
                if highest(everybody) < Some(want.level) {
                    return unknown::<NotebookLevel>(own);
                }
                let level = highest::<NotebookLevel>(everybody)?.name();
                return Some(Note::Kept(format!("every user already has {level} there")));
            }
            let level = held?;
            let handed_down = !own.iter().any(|held| !held.inherited && held.level == level.name());
            match (level > want.level, handed_down) {
                (true, true) => Some(Note::Kept(format!("kept: already has {} from the folder", level.name()))),
                (true, false) => Some(Note::Kept(format!("kept: already has {}", level.name()))),
                (false, true) => Some(Note::Kept("has it from the folder".to_owned())),
                (false, false) => None,
            }
        }
    }
}
