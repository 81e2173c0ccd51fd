//! Whom the runs of a workflow act as. Pure.

use serde_json::json;

use super::WorkflowWant;
use crate::databricks::jobs::Job;
use crate::databricks::permissions::Principal;
use crate::databricks::raw::Raw;
use crate::engine::Change;
use crate::failure::Failure;
use crate::http::{Phrase, Said, Service, says};

/// The difference, if somebody else is wanted than whom the job names. Mails and ids are the same in any case.
pub(super) fn change(want: &WorkflowWant, job: Option<&Job>) -> Option<Change> {
    let wanted = want.run_as.as_ref()?;
    let there = job.and_then(|job| job.run_as.as_ref());
    if there.is_some_and(|there| there.eq_ignore_ascii_case(wanted)) {
        return None;
    }
    Some(Change {
        field: "run_as".to_owned(),
        from: there.cloned(),
        to: Some(wanted.clone()),
        reason: "--run-as says so".to_owned(),
    })
}

/// Names the one who is wanted. Left out, it stays (databricks-api §5.5), and nobody needs a right for that.
pub(super) fn write(want: &WorkflowWant, job: Option<&Job>, settings: &mut Raw) {
    if change(want, job).is_some()
        && let Some(wanted) = &want.run_as
    {
        settings.set("run_as", &json!({ Principal::of_run_as(wanted).field(): wanted }));
    }
}

/// What to do where the service does not let these runs act as somebody.
pub(crate) fn refused(run_as: &str, said: &Said, failure: Failure) -> Failure {
    match said.code.as_deref() {
        Some("PERMISSION_DENIED") => failure.advise(match Principal::of(run_as) {
            Principal::ServicePrincipal => format!(
                "letting runs act as {run_as} takes the role Service Principal User on it, which Manager does not include and administrators need too: ask whoever manages the service principal, under Settings > Identity and access"
            ),
            Principal::User | Principal::Group => {
                format!("letting runs act as {run_as} takes an administrator of the workspace: ask one to run this command")
            }
        }),
        Some("INVALID_PARAMETER_VALUE" | "RESOURCE_DOES_NOT_EXIST")
            if said.names(run_as) || says(Service::Databricks, &said.message, Phrase::RunAs) =>
        {
            failure.advise(format!(
                "check --run-as {run_as}: a user is given by the name with which they sign in to this workspace, mostly an e-mail, a service principal by its application id (a UUID), not by its name"
            ))
        }
        Some(_) | None => failure,
    }
}
