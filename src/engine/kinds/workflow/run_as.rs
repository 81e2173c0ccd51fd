//! Whom the runs of a workflow act as. Pure.

use serde_json::json;

use super::WorkflowWant;
use crate::databricks::jobs::Job;
use crate::databricks::permissions::Principal;
use crate::databricks::raw::Raw;
use crate::engine::Change;
use crate::failure::Failure;
use crate::http::{Phrase, Service, ServiceError, says};

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
        reason: "from --run-as".to_owned(),
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
pub(crate) fn refused(run_as: &str, said: &ServiceError, failure: Failure) -> Failure {
    match said.code.as_deref() {
        Some("PERMISSION_DENIED") => failure.advise(match Principal::of(run_as) {
            Principal::ServicePrincipal => format!(
                "running as {run_as} requires the role Service Principal User on it (Manager does not include it, and administrators need it too): ask the service principal's manager, under Settings > Identity and access"
            ),
            Principal::User | Principal::Group => {
                format!("running as {run_as} requires a workspace administrator: ask one to run this command")
            }
        }),
        Some("INVALID_PARAMETER_VALUE" | "RESOURCE_DOES_NOT_EXIST")
            if said.names(run_as) || says(Service::Databricks, &said.message, Phrase::RunAs) =>
        {
            failure.advise(format!(
                "check --run-as {run_as}: use a user's sign-in email, or a service principal's application ID (a UUID), not its name"
            ))
        }
        Some(_) | None => failure,
    }
}
