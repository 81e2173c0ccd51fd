//! Access to the workflow for one principal. Levels are added, never lowered or removed.

use serde::Serialize;

use super::access::{self, give, highest, raise, unknown};
use super::workflow::{Identity, own_job};
use crate::databricks::permissions::{Holding, JobLevel, Level as _, grant_on_job, job_permissions};
use crate::databricks::{has_no_acls, is_missing};
use crate::engine::walk::Inputs;
use crate::engine::{Action, Consents, Kind, Step};
use crate::failure::Failure;
use crate::http::{HttpError, Reader, Writer};

/// Access to the workflow.
pub(crate) enum JobGrant {}

/// What a principal should be able to do.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct JobGrantWant {
    /// The name and the mark by which the workflow is found: it may be made in the same walk.
    pub(crate) workflow: String,
    pub(crate) identity: Identity,
    /// Its id, if it was there before.
    pub(crate) job: Option<u64>,
    /// E-mail of a user, display name of a group, application id of a service principal.
    pub(crate) principal: String,
    pub(crate) level: JobLevel,
}

/// What it can do now with the job that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JobGrantHave {
    /// What the principal has by name.
    Held { job: u64, own: Vec<Holding> },
    /// The workspace has no ACLs.
    NoAcls { job: u64 },
}

impl Kind for JobGrant {
    type Want = JobGrantWant;
    type Have = JobGrantHave;

    const KIND: &'static str = "workflow grant";

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
            Ok(mut own) => {
                own.retain(|held| held.principal.eq_ignore_ascii_case(&want.principal));
                Ok(Some(JobGrantHave::Held { job, own }))
            }
            Err(error) if has_no_acls(&error) => Ok(Some(JobGrantHave::NoAcls { job })),
            // Made just now, or deleted since.
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn diff(want: &JobGrantWant, have: Option<&JobGrantHave>, _consents: &Consents) -> Action {
        let Some(have) = have else { return Action::Create };
        let JobGrantHave::Held { job: _, own } = have else { return Action::Keep(needless(want, have)) };
        if suffices(want, have) {
            return Action::Keep(needless(want, have));
        }
        raise(own, want.level)
    }

    async fn apply(writer: &Writer, step: &Step<JobGrant>, _inputs: &Inputs) -> Result<(), HttpError> {
        let JobGrantWant { workflow: _, identity: _, job: _, principal, level } = &step.want;
        // The job may be new, and so its id; and somebody may have given more since the plan, which this would lower.
        let now = JobGrant::observe(writer, &step.want).await?;
        let job = match &now {
            Some(have) if suffices(&step.want, have) => return Ok(()),
            Some(JobGrantHave::Held { job, own: _ } | JobGrantHave::NoAcls { job }) => *job,
            // It does not show yet, or is gone; the look after this one tells.
            None => return Ok(()),
        };
        let kind = access::kind_of(writer, principal).await;
        give(writer, grant_on_job(job, kind, principal, *level), job_permissions(job)).await
    }

    fn shows(step: &Step<JobGrant>, now: Option<&JobGrantHave>) -> bool {
        now.is_some_and(|have| suffices(&step.want, have))
    }

    fn came_out(step: &Step<JobGrant>, now: Option<&JobGrantHave>) -> Option<String> {
        // Whoever makes the job owns it.
        now.and_then(|have| needless(&step.want, have))
    }

    fn explain(want: &JobGrantWant, error: &HttpError, failure: Failure) -> Failure {
        let JobGrantWant { workflow, identity: _, job: _, principal, level: _ } = want;
        let managed = format!("the job \"{workflow}\", which its owner and administrators have");
        access::explain(principal, &managed, error, failure)
    }
}

/// Whether the principal can do what is wanted, or has to keep what it has.
fn suffices(want: &JobGrantWant, have: &JobGrantHave) -> bool {
    match have {
        JobGrantHave::NoAcls { job: _ } => true,
        JobGrantHave::Held { job: _, own } => highest(own) >= Some(want.level) || unknown::<JobLevel>(own).is_some(),
    }
}

/// Why nothing is given where that would add nothing.
fn needless(want: &JobGrantWant, have: &JobGrantHave) -> Option<String> {
    match have {
        JobGrantHave::NoAcls { job: _ } => Some(
            "skipped: this workspace has no access lists for jobs (no Premium plan), so everybody can see and change it"
                .to_owned(),
        ),
        JobGrantHave::Held { job: _, own } => match highest(own) {
            Some(JobLevel::IsOwner) => Some("is the owner, which is more, and stays it".to_owned()),
            Some(level) if level > want.level => Some(format!("has {}, which is more, and keeps it", level.name())),
            Some(level) if level == want.level => None,
            Some(_) | None => unknown::<JobLevel>(own),
        },
    }
}
