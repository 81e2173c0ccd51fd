//! The identity that a workflow's runs use. Pure.

use serde_json::json;

use super::WorkflowWant;
use crate::databricks::jobs::Job;
use crate::databricks::permissions::Principal;
use crate::databricks::raw::Raw;
use crate::engine::Change;
use crate::failure::Failure;
use crate::http::{Phrase, Service, ServiceError, says};

/// The change of `run_as`, if another identity is requested. Emails and IDs are compared case-insensitively.
pub(super) fn change(want: &WorkflowWant, job: Option<&Job>) -> Option<Change> {
    let wanted = want.settings.run_as.value()?;
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

/// Sets the requested identity. If omitted, it stays as it is, which requires no permission.
pub(super) fn write(want: &WorkflowWant, job: Option<&Job>, settings: &mut Raw) {
    if change(want, job).is_some()
        && let Some(wanted) = want.settings.run_as.value()
    {
        settings.set("run_as", &json!({ Principal::of_run_as(wanted).field(): wanted }));
    }
}

/// Adds advice if the service refuses this identity.
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
