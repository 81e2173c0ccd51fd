//! A principal's access to the workflow. Levels are added, never lowered or removed.

use std::collections::BTreeSet;

use serde::Serialize;

use super::access::{self, direct, give, highest, holders, lacking, raise, unknown};
use super::workflow::{Identity, own_job};
use crate::databricks::permissions::{Holding, JobLevel, Level as _, grant_on_job, job_permissions};
use crate::databricks::{has_no_acls, is_missing};
use crate::engine::apply::Inputs;
use crate::engine::{Action, Applied, Consents, Creation, Kind, Note, Skipped, Step};
use crate::failure::Failure;
use crate::http::{HttpError, Reader, Rows, Writer};

pub(crate) enum JobGrant {}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct JobGrantWant {
    /// With `identity`, what the workflow is found by: the same plan may create it.
    pub(crate) workflow: String,
    pub(crate) identity: Identity,
    /// The job's ID, if it existed before or has been created since.
    pub(crate) job: Option<u64>,
    /// Email of a user, display name of a group, or application ID of a service principal.
    pub(crate) principal: String,
    pub(crate) level: JobLevel,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JobGrantHave {
    /// The principal's own entries, and all principals with access to the job itself.
    Held { job: u64, own: Vec<Holding>, holders: BTreeSet<String> },
    /// The workspace has no ACLs.
    NoAcls { job: u64 },
}

impl Kind for JobGrant {
    type Want = JobGrantWant;
    type Have = JobGrantHave;

    const KIND: &'static str = "workflow grant";
    const CREATION: Creation = Creation::Overwrites;

    fn name(want: &JobGrantWant) -> String {
        let JobGrantWant { workflow, identity: _, job: _, principal, level } = want;
        format!("{} on \"{workflow}\" for {principal}", level.name())
    }

    async fn observe(reader: &Reader, want: &JobGrantWant) -> Result<Option<JobGrantHave>, HttpError> {
        let job = match want.job {
            Some(job) => Some(job),
            None => own_job(reader, &want.workflow, &want.identity).await?,
        };
        let Some(job) = job else { return Ok(None) };
        match reader.read(job_permissions(job)).await {
            Ok(Rows { rows: mut own, unreadable }) => {
                let holders = holders(&own);
                own.retain(|held| held.principal.eq_ignore_ascii_case(&want.principal));
                if unreadable > 0 && direct(&own).is_empty() {
                    return Err(access::unread(reader, "permissions/get"));
                }
                Ok(Some(JobGrantHave::Held { job, own, holders }))
            }
            Err(error) if has_no_acls(&error) => Ok(Some(JobGrantHave::NoAcls { job })),
            // Just created, or deleted meanwhile.
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn diff(want: &JobGrantWant, have: Option<&JobGrantHave>, _consents: &Consents) -> Action {
        let Some(have) = have else { return Action::Create };
        let JobGrantHave::Held { job: _, own, holders: _ } = have else { return Action::Keep(needless(want, have)) };
        if suffices(want, have) {
            return Action::Keep(needless(want, have));
        }
        raise(own, want.level)
    }

    fn is_as_planned(step: &Step<JobGrant>, now: Option<&JobGrantHave>) -> bool {
        match (&step.have, now) {
            (
                Some(JobGrantHave::Held { job: _, own: before, holders: _ }),
                Some(JobGrantHave::Held { job: _, own, holders: _ }),
            ) => direct(before) == direct(own),
            // The job is new; its creator owns it.
            (None, Some(have @ JobGrantHave::Held { job: _, own, holders: _ })) => {
                direct(own).is_empty() && !suffices(&step.want, have)
            }
            (before, now) => before.as_ref() == now,
        }
    }

    async fn apply(writer: &Writer, step: &mut Step<JobGrant>, _inputs: &Inputs) -> Result<Applied, HttpError> {
        let JobGrantWant { workflow: _, identity: _, job, principal, level } = &step.want;
        let job = match (&step.have, job) {
            (Some(JobGrantHave::Held { job, own: _, holders: _ } | JobGrantHave::NoAcls { job }), _)
            | (None, Some(job)) => *job,
            // The job is not visible yet, or gone; the read after this finds out.
            (None, None) => return Ok(Applied::Written),
        };
        let kind = access::kind_of(writer, principal).await;
        give(writer, grant_on_job(job, kind, principal, *level), job_permissions(job)).await
    }

    fn differences(step: &Step<JobGrant>, now: Option<&JobGrantHave>) -> Vec<String> {
        match now {
            None => vec!["no job with access lists".to_owned()],
            Some(have) if suffices(&step.want, have) => Vec::new(),
            Some(JobGrantHave::NoAcls { job: _ }) => Vec::new(),
            Some(JobGrantHave::Held { job: _, own, holders: _ }) => lacking(own, step.want.level),
        }
    }

    fn collateral_losses(step: &Step<JobGrant>) -> Vec<String> {
        match (&step.have, &step.now) {
            (
                Some(JobGrantHave::Held { job: _, own: _, holders: before }),
                Some(JobGrantHave::Held { job: _, own: _, holders: now }),
            ) => access::lost_access(before, now),
            (_, _) => Vec::new(),
        }
    }

    fn downgraded_to_noop(step: &Step<JobGrant>, now: Option<&JobGrantHave>) -> Option<Note> {
        // The creator of the job owns it.
        now.and_then(|have| needless(&step.want, have))
    }

    fn explain(want: &JobGrantWant, error: &HttpError, failure: Failure) -> Failure {
        let JobGrantWant { workflow, identity: _, job: _, principal, level: _ } = want;
        let managed = format!("the job \"{workflow}\", which its owner and administrators have");
        access::explain(principal, &managed, error, failure)
    }
}

/// Whether the principal has the requested access, or an unknown level that it must keep.
fn suffices(want: &JobGrantWant, have: &JobGrantHave) -> bool {
    match have {
        JobGrantHave::NoAcls { job: _ } => true,
        JobGrantHave::Held { job: _, own, holders: _ } => {
            highest(own) >= Some(want.level) || unknown::<JobLevel>(own).is_some()
        }
    }
}

/// Why a grant is needless, if it is.
fn needless(want: &JobGrantWant, have: &JobGrantHave) -> Option<Note> {
    match have {
        JobGrantHave::NoAcls { job: _ } => Some(Note::Skipped(Skipped::NoJobAcls)),
        JobGrantHave::Held { job: _, own, holders: _ } => match highest(own) {
            Some(JobLevel::IsOwner) => Some(Note::Kept("kept: is the owner".to_owned())),
            Some(level) if level > want.level => Some(Note::Kept(format!("kept: already has {}", level.name()))),
            Some(level) if level == want.level => None,
            Some(_) | None => unknown::<JobLevel>(own),
        },
    }
}
