//! A principal's access to a notebook or a workflow. Levels are added, never lowered or removed.

use std::collections::BTreeSet;
use std::fmt::Debug;

use serde::Serialize;

use super::access::{self, ForEverybody, refuse_everybody};
use super::workflow::{Identity, own_job};
use crate::databricks::permissions::{
    Holding, JobLevel, Level, NotebookLevel, Principal, grant_on_job, grant_on_notebook, job_permissions,
    notebook_permissions,
};
use crate::databricks::secrets::EVERYBODY;
use crate::databricks::workspace::{NotebookPath, get_status};
use crate::databricks::{has_no_acls, is_missing};
use crate::engine::apply::Inputs;
use crate::engine::{Action, Applied, Change, Consent, Consents, Creation, Kind, Note, Skipped, Step};
use crate::failure::{Code, Failure};
use crate::http::{HttpError, Idempotent, Read, Reader, Rows, Writer};

pub(crate) type NotebookGrant = GrantOn<NotebookPath>;
pub(crate) type JobGrant = GrantOn<WorkflowJob>;

/// What the permissions API can grant access to.
pub(crate) trait Grantable: Clone + Debug + Serialize {
    type Level: Level + Debug + Serialize;

    const KIND: &'static str;
    /// Why a grant is skipped in a workspace without ACLs.
    const NO_ACLS: Skipped;
    /// Whether access can come from a folder, or from an entry for all users.
    const HAS_FOLDER: bool;
    /// The difference if it is not there.
    const ABSENT: &'static str;

    /// What all users could do with this level, if they could use the dbt key with it.
    fn for_everybody(level: Self::Level) -> Option<ForEverybody>;

    /// The name within that of the grant.
    fn name(&self) -> String;

    /// The object in a sentence, and who has `CAN_MANAGE` on it.
    fn managed(&self) -> String;

    /// The ID in the permissions API; `None` if it does not exist.
    async fn id(&self, reader: &Reader) -> Result<Option<u64>, HttpError>;

    fn permissions(id: u64) -> Read<Rows<Holding>>;

    fn grant(id: u64, kind: Principal, principal: &str, level: Self::Level) -> Idempotent<()>;
}

impl Grantable for NotebookPath {
    type Level = NotebookLevel;

    const KIND: &'static str = "notebook grant";
    const NO_ACLS: Skipped = Skipped::NoNotebookAcls;
    const HAS_FOLDER: bool = true;
    const ABSENT: &'static str = "no notebook with access lists";

    fn for_everybody(level: NotebookLevel) -> Option<ForEverybody> {
        (level >= NotebookLevel::CanEdit).then_some(ForEverybody {
            could: "edit the notebook, and so use the dbt key",
            advice: "grant CAN_RUN, or name the user or group that should edit it",
            unless: Some(Consent::AcceptSharedPath),
        })
    }

    fn name(&self) -> String {
        self.to_string()
    }

    fn managed(&self) -> String {
        format!("{self}, which the owner of its folder and administrators have")
    }

    async fn id(&self, reader: &Reader) -> Result<Option<u64>, HttpError> {
        match reader.read(get_status(self)).await {
            Ok(status) if status.object_type.as_deref() == Some("NOTEBOOK") => Ok(status.object_id),
            // Conflicts are reported by the notebook kind.
            Ok(_) => Ok(None),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn permissions(id: u64) -> Read<Rows<Holding>> {
        notebook_permissions(id)
    }

    fn grant(id: u64, kind: Principal, principal: &str, level: NotebookLevel) -> Idempotent<()> {
        grant_on_notebook(id, kind, principal, level)
    }
}

/// The job of a workflow.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct WorkflowJob {
    /// With `identity`, what the workflow is found by: the same plan may create it.
    pub(crate) workflow: String,
    pub(crate) identity: Identity,
    /// The job's ID, if it existed before or has been created since.
    pub(crate) job: Option<u64>,
}

impl Grantable for WorkflowJob {
    type Level = JobLevel;

    const KIND: &'static str = "workflow grant";
    const NO_ACLS: Skipped = Skipped::NoJobAcls;
    const HAS_FOLDER: bool = false;
    const ABSENT: &'static str = "no job with access lists";

    fn for_everybody(level: JobLevel) -> Option<ForEverybody> {
        (level >= JobLevel::CanManage).then_some(ForEverybody {
            could: "change what the workflow runs, and so use the dbt key",
            advice: "grant CAN_MANAGE_RUN, or name the user or group that should change it",
            unless: None,
        })
    }

    fn name(&self) -> String {
        format!("\"{}\"", self.workflow)
    }

    fn managed(&self) -> String {
        format!("the job \"{}\", which its owner and administrators have", self.workflow)
    }

    async fn id(&self, reader: &Reader) -> Result<Option<u64>, HttpError> {
        match self.job {
            Some(job) => Ok(Some(job)),
            None => own_job(reader, &self.workflow, &self.identity).await,
        }
    }

    fn permissions(id: u64) -> Read<Rows<Holding>> {
        job_permissions(id)
    }

    fn grant(id: u64, kind: Principal, principal: &str, level: JobLevel) -> Idempotent<()> {
        grant_on_job(id, kind, principal, level)
    }
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct GrantOn<O: Grantable> {
    pub(crate) object: O,
    /// Email of a user, display name of a group, or application ID of a service principal.
    pub(crate) principal: String,
    pub(crate) level: O::Level,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GrantOnHave {
    /// The principal's own entries, those of all users, and all principals with access to the object itself.
    Held { id: u64, own: Vec<Holding>, everybody: Vec<Holding>, holders: BTreeSet<String> },
    /// The workspace has no ACLs.
    NoAcls,
}

impl<O: Grantable> Kind for GrantOn<O> {
    type Want = GrantOn<O>;
    type Have = GrantOnHave;

    const KIND: &'static str = O::KIND;
    const CREATION: Creation = Creation::Overwrites;

    fn name(want: &GrantOn<O>) -> String {
        format!("{} on {} for {}", want.level.name(), want.object.name(), want.principal)
    }

    async fn observe(reader: &Reader, want: &GrantOn<O>) -> Result<Option<GrantOnHave>, HttpError> {
        match want.object.id(reader).await? {
            Some(id) => held(reader, want, id).await,
            None => Ok(None),
        }
    }

    async fn reobserve(reader: &Reader, step: &Step<GrantOn<O>>) -> Result<Option<GrantOnHave>, HttpError> {
        match step.present() {
            Some(GrantOnHave::Held { id: known, own: _, everybody: _, holders: _ }) => {
                // Another object may have taken its path meanwhile.
                let object = step.want.object.id(reader);
                match tokio::join!(object, held(reader, &step.want, *known)) {
                    (Ok(Some(id)), seen) if id == *known => seen,
                    (Ok(Some(id)), _) => held(reader, &step.want, id).await,
                    (Ok(None), _) => Ok(None),
                    (Err(error), _) => Err(error),
                }
            }
            Some(GrantOnHave::NoAcls) | None => GrantOn::observe(reader, &step.want).await,
        }
    }

    fn diff(want: &GrantOn<O>, have: Option<&GrantOnHave>, consents: &Consents) -> Action {
        let for_everybody = O::for_everybody(want.level);
        if let Some(refused) = refuse_everybody(&want.principal, want.level, for_everybody, consents) {
            return refused;
        }
        match have {
            Some(GrantOnHave::Held { id: _, own, everybody: _, holders: _ }) if !suffices(want, have) => {
                highest::<O::Level>(own).map_or(Action::Create, |level| {
                    Action::Update(vec![Change {
                        field: "permission_level".to_owned(),
                        from: Some(level.name().to_owned()),
                        to: Some(want.level.name().to_owned()),
                        reason: "higher level requested".to_owned(),
                    }])
                })
            }
            Some(have) => Action::Keep(needless(want, have)),
            None => Action::Create,
        }
    }

    fn is_as_planned(step: &Step<GrantOn<O>>, now: Option<&GrantOnHave>) -> bool {
        match (&step.have, now) {
            (
                Some(GrantOnHave::Held { id: _, own: before, everybody: _, holders: _ }),
                Some(GrantOnHave::Held { id: _, own, everybody: _, holders: _ }),
            ) => direct(before) == direct(own),
            // The object is new: its creator owns it, and access inherited from its folder may be enough.
            (None, Some(GrantOnHave::Held { id: _, own, everybody: _, holders: _ })) => {
                direct(own).is_empty() && !suffices(&step.want, now)
            }
            (before, now) => before.as_ref() == now,
        }
    }

    async fn apply(writer: &Writer, step: &mut Step<GrantOn<O>>, _inputs: &Inputs) -> Result<Applied, HttpError> {
        let GrantOn { object, principal, level } = &step.want;
        let id = match &step.have {
            Some(GrantOnHave::Held { id, own: _, everybody: _, holders: _ }) => Some(*id),
            Some(GrantOnHave::NoAcls) => None,
            None => object.id(writer).await?,
        };
        // If the object is not visible yet, or gone, the read after this finds out.
        let Some(id) = id else { return Ok(Applied::Written) };
        let kind = access::kind_of(writer, principal).await;
        match writer.put_once(O::grant(id, kind, principal, *level)).await {
            // Only a second read decides that the workspace has no ACLs.
            Err(error) if has_no_acls(&error) => match writer.read(O::permissions(id)).await {
                Err(again) if has_no_acls(&again) => Ok(Applied::Written),
                Ok(_) | Err(_) => Err(error),
            },
            ended => ended.map(|()| Applied::Written),
        }
    }

    fn differences(step: &Step<GrantOn<O>>, now: Option<&GrantOnHave>) -> Vec<String> {
        match now {
            Some(GrantOnHave::Held { id: _, own, everybody: _, holders: _ }) if !suffices(&step.want, now) => {
                let has = highest::<O::Level>(own).map_or("nothing", Level::name);
                vec![format!("permission_level: requested {}, has {has}", step.want.level.name())]
            }
            Some(_) => Vec::new(),
            None => vec![O::ABSENT.to_owned()],
        }
    }

    fn collateral_losses(step: &Step<GrantOn<O>>) -> Vec<String> {
        match (&step.have, &step.now) {
            (
                Some(GrantOnHave::Held { id: _, own: _, everybody: _, holders: before }),
                Some(GrantOnHave::Held { id: _, own: _, everybody: _, holders: now }),
            ) => before.difference(now).map(|principal| format!("the access of {principal}")).collect(),
            (_, _) => Vec::new(),
        }
    }

    fn downgraded_to_noop(step: &Step<GrantOn<O>>, now: Option<&GrantOnHave>) -> Option<Note> {
        now.and_then(|have| needless(&step.want, have))
    }

    fn explain(want: &GrantOn<O>, error: &HttpError, failure: Failure) -> Failure {
        if error.operation == "permissions/update" && (is_missing(error) || error.is_status(400)) {
            return failure.advise(format!(
                "check \"{}\": use a user's email, a group's display name, or a service principal's application ID (a UUID)",
                want.principal
            ));
        }
        if failure.code == Code::NotAllowed {
            let managed = want.object.managed();
            return failure.advise(format!("reading and granting access requires CAN_MANAGE on {managed}"));
        }
        failure
    }
}

/// Reads the access list of the object with this ID.
async fn held<O: Grantable>(reader: &Reader, want: &GrantOn<O>, id: u64) -> Result<Option<GrantOnHave>, HttpError> {
    match reader.read(O::permissions(id)).await {
        Ok(Rows { rows, unreadable }) => {
            let of = |name: &str| -> Vec<Holding> {
                rows.iter().filter(|held| held.principal.eq_ignore_ascii_case(name)).cloned().collect()
            };
            let own = of(&want.principal);
            if unreadable > 0 && direct(&own).is_empty() {
                return Err(access::unread(reader, "permissions/get"));
            }
            let everybody = if O::HAS_FOLDER { of(EVERYBODY) } else { Vec::new() };
            let holders = rows.iter().filter(|held| !held.inherited).map(|held| held.principal.clone()).collect();
            Ok(Some(GrantOnHave::Held { id, own, everybody, holders }))
        }
        Err(error) if has_no_acls(&error) => Ok(Some(GrantOnHave::NoAcls)),
        // Just created, or deleted meanwhile.
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the principal has the requested access, itself or as one of all users, or an unknown level that it must
/// keep.
fn suffices<O: Grantable>(want: &GrantOn<O>, have: Option<&GrantOnHave>) -> bool {
    match have {
        None => false,
        Some(GrantOnHave::NoAcls) => true,
        Some(GrantOnHave::Held { id: _, own, everybody, holders: _ }) => {
            highest(own).max(highest(everybody)) >= Some(want.level) || unknown::<O::Level>(own).is_some()
        }
    }
}

/// Why a grant is needless, if it is.
fn needless<O: Grantable>(want: &GrantOn<O>, have: &GrantOnHave) -> Option<Note> {
    let GrantOnHave::Held { id: _, own, everybody, holders: _ } = have else {
        return Some(Note::Skipped(O::NO_ACLS));
    };
    let held: Option<O::Level> = highest(own);
    if held < Some(want.level) {
        let of_everybody: Option<O::Level> = highest(everybody);
        if of_everybody < Some(want.level) {
            return unknown::<O::Level>(own);
        }
        return Some(Note::Kept(format!("every user already has {} there", of_everybody?.name())));
    }
    let level = held?;
    let from_folder = O::HAS_FOLDER && !direct(own).contains(level.name());
    let text = match (level > want.level, from_folder) {
        (true, _) if level.name() == JobLevel::IsOwner.name() => "kept: is the owner".to_owned(),
        (true, true) => format!("kept: already has {} from the folder", level.name()),
        (true, false) => format!("kept: already has {}", level.name()),
        (false, true) => "has it from the folder".to_owned(),
        (false, false) => return None,
    };
    Some(Note::Kept(text))
}

/// The highest of the levels that this version knows.
fn highest<L: Level>(holdings: &[Holding]) -> Option<L> {
    holdings.iter().filter_map(|held| L::named(&held.level)).max()
}

/// Why a principal keeps its access: this version does not know its level, so the level must not be overwritten.
fn unknown<L: Level>(own: &[Holding]) -> Option<Note> {
    let held = own.iter().find(|held| !held.inherited && L::named(&held.level).is_none())?;
    Some(Note::Kept(format!("kept: has {}, an unknown level", held.level)))
}

/// The principal's levels on the object itself, which a grant overwrites.
fn direct(own: &[Holding]) -> BTreeSet<&str> {
    own.iter().filter(|held| !held.inherited).map(|held| held.level.as_str()).collect()
}
