//! A secret scope. It carries no mark, so it is found by name and never changed.

mod removal;

use serde::Serialize;

pub(crate) use self::removal::{ScopeRemoval, ScopeRemovalWant};
use crate::databricks::is_there_already;
use crate::databricks::secrets::{Backend, ScopeInfo, ScopeName, create_open_scope, create_scope, scopes};
use crate::engine::apply::Inputs;
use crate::engine::{Action, Applied, Consent, Consents, Creation, Kind, Note, Refusal, Step};
use crate::failure::{Code, Failure};
use crate::http::{HttpError, Phrase, Reader, Service, Writer, says};

pub(crate) enum Scope {}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct ScopeWant {
    pub(crate) scope: ScopeName,
}

impl Kind for Scope {
    type Want = ScopeWant;
    type Have = ScopeInfo;

    const KIND: &'static str = "secret scope";
    const CREATION: Creation = Creation::IsRefused;

    fn name(want: &ScopeWant) -> String {
        want.scope.to_string()
    }

    async fn observe(reader: &Reader, want: &ScopeWant) -> Result<Option<ScopeInfo>, HttpError> {
        Ok(reader.read(scopes()).await?.into_iter().find(|scope| want.scope.is(&scope.name)))
    }

    fn diff(want: &ScopeWant, have: Option<&ScopeInfo>, _consents: &Consents) -> Action {
        let Some(ScopeInfo { name, backend }) = have else { return Action::Create };
        match backend {
            Backend::Databricks if name == want.scope.as_str() => Action::Keep(None),
            Backend::Databricks => {
                Action::Keep(Some(Note::Kept(format!("exists as {name}; scope names are not case-sensitive"))))
            }
            // Whether that will do depends on the key: see `Secret`.
            Backend::KeyVault(_) => Action::Keep(Some(Note::Kept("in an Azure Key Vault".to_owned()))),
            Backend::Other(backend) => Refusal::new(format!("secret scope {name} has an unknown backend: {backend}"))
                .advise("choose another scope with --scope")
                .always(),
        }
    }

    fn is_as_planned(_step: &Step<Scope>, now: Option<&ScopeInfo>) -> bool {
        now.is_none()
    }

    async fn apply(writer: &Writer, step: &mut Step<Scope>, _inputs: &Inputs) -> Result<Applied, HttpError> {
        let ScopeWant { scope } = &step.want;
        let mut made = writer.put_once(create_scope(scope)).await;
        if let Err(error) = &made
            && step.consents.has(Consent::AcceptSharedScope)
            && is_for_premium_only(error)
        {
            made = writer.put_once(create_open_scope(scope)).await;
        }
        match made {
            Err(error) if is_there_already(&error) => Ok(Applied::Found),
            ended => ended.map(|()| Applied::Written),
        }
    }

    fn differences(_step: &Step<Scope>, now: Option<&ScopeInfo>) -> Vec<String> {
        match now {
            None => vec!["no such scope in the list of scopes".to_owned()],
            Some(ScopeInfo { name: _, backend: Backend::Databricks }) => Vec::new(),
            Some(ScopeInfo { name: _, backend: Backend::KeyVault(_) | Backend::Other(_) }) => {
                vec!["backend_type, which is not DATABRICKS".to_owned()]
            }
        }
    }

    fn explain(want: &ScopeWant, error: &HttpError, failure: Failure) -> Failure {
        let Some(said) = error.service_error() else { return failure };
        let scope = &want.scope;
        if is_for_premium_only(error) {
            return Failure::new(
                Code::Refused,
                format!("secret scope {scope} was not created: without the Premium plan, every user of this workspace could read it"),
            )
            .cause(error.to_string())
            .unless("--accept-shared-scope")
            .advise("or use a workspace with the Premium plan, which can restrict scopes");
        }
        match said.code.as_deref() {
            Some("RESOURCE_LIMIT_EXCEEDED") => {
                failure.advise("the workspace is at its limit of scopes: choose an existing one with --scope")
            }
            // A missing permission to create scopes has another code.
            Some("CUSTOMER_UNAUTHORIZED") => Failure::new(
                Code::InvalidInput,
                format!("cannot create secret scope {scope}: Databricks reserves this name"),
            )
            .cause(error.to_string())
            .advise("choose another name with --scope"),
            Some(_) | None => failure,
        }
    }
}

/// Whether the scope could only be created open to all users, for lack of the Premium plan.
fn is_for_premium_only(error: &HttpError) -> bool {
    let Some(said) = error.service_error() else { return false };
    says(Service::Databricks, &said.message, Phrase::PremiumOnly)
}
