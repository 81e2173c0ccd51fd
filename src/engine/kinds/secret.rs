//! The dbt API key in its scope. Its value can rarely be read, so a key that is there is left as it is unless it is
//! to be rotated.

use serde::Serialize;

use crate::databricks::is_missing;
use crate::databricks::secrets::{
    Backend, EVERYBODY, Fingerprint, KeyName, Permission, ScopeInfo, ScopeName, acls, fingerprint, list, put,
};
use crate::engine::walk::Inputs;
use crate::engine::{Action, Change, Consent, Consents, Kind, Refusal, Step};
use crate::failure::Failure;
use crate::http::{HttpError, Reader, Writer};

/// The dbt API key.
pub(crate) enum Secret {}

/// The key that should be there.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SecretWant {
    pub(crate) scope: ScopeName,
    pub(crate) key: KeyName,
    /// What the stored value is compared with; only when it is to be rotated.
    #[serde(skip)]
    pub(crate) compare: Option<Fingerprint>,
}

/// What is known of the scope's inside.
#[derive(Clone, Debug)]
pub(crate) struct SecretHave {
    /// When the key was last written, if it is there: milliseconds since 1970.
    pub(crate) updated: Option<i64>,
    /// What everybody in the workspace may do with the scope.
    pub(crate) everybody: Option<String>,
    /// Whether the stored value is the wanted one, where that can be told.
    pub(crate) same: Option<bool>,
}

impl SecretWant {
    fn is_open(&self, have: &SecretHave) -> Option<Action> {
        let level = have.everybody.as_ref()?;
        let (scope, key) = (&self.scope, &self.key);
        Some(
            Refusal::new(format!(
                "The key {key} is not stored: everybody in this workspace can read the secret scope {scope} (users: {level})."
            ))
            .advise("choose another scope with --scope, or take the access of the group `users` away from this one")
            .always(),
        )
    }
}

impl Kind for Secret {
    type Want = SecretWant;
    type Have = SecretHave;

    const KIND: &'static str = "secret";

    fn name(want: &SecretWant) -> String {
        format!("{}/{}", want.scope, want.key)
    }

    async fn observe(reader: &Reader, want: &SecretWant) -> Result<Option<SecretHave>, HttpError> {
        let SecretWant { scope, key, compare } = want;
        let updated = async {
            let listed = reader.read(list(scope)).await;
            let listed = listed.map_err(|error| if is_missing(&error) { None } else { Some(error) })?;
            let found = listed.into_iter().find(|secret| secret.key == key.as_str());
            Ok(found.map(|secret| secret.last_updated_timestamp.unwrap_or_default()))
        };
        let everybody = async {
            match reader.read(acls(scope)).await {
                Ok(acls) => Ok(acls.into_iter().find(|acl| acl.principal == EVERYBODY).map(|acl| acl.permission)),
                // No Premium plan, no ACLs: everybody manages everything (databricks-api §3.4).
                Err(error) if error.code() == Some("FEATURE_DISABLED") => {
                    Ok(Some(Permission::Manage.name().to_owned()))
                }
                // Who has no MANAGE cannot look, and is not hindered by that.
                Err(error) if error.is_status(403) || is_missing(&error) => Ok(None),
                Err(error) => Err(Some(error)),
            }
        };
        let same = async {
            let Some(wanted) = compare else { return Ok(None) };
            match reader.read(fingerprint(scope, key)).await {
                Ok(stored) => Ok(Some(stored == *wanted)),
                // Reading a value may be refused outside a cluster, and a missing one cannot be read.
                Err(error) if error.status().is_some_and(|status| status.is_client_error()) => Ok(None),
                Err(error) => Err(Some(error)),
            }
        };
        // Where the scope is missing, the other two answers are not waited for.
        match tokio::try_join!(updated, everybody, same) {
            Ok((updated, everybody, same)) => Ok(Some(SecretHave { updated, everybody, same })),
            Err(None) => Ok(None),
            Err(Some(error)) => Err(error),
        }
    }

    fn diff(want: &SecretWant, have: Option<&SecretHave>, consents: &Consents) -> Action {
        let Some(have) = have else { return Action::Create };
        let write = |action| want.is_open(have).unwrap_or(action);
        match have.updated {
            None => write(Action::Create),
            Some(_) if !consents.has(Consent::Rotate) => Action::Keep(Some("left as it is, not compared".to_owned())),
            Some(_) => match have.same {
                Some(true) => Action::Keep(Some("holds this key already".to_owned())),
                Some(false) => write(rotated("another key is stored")),
                None => write(rotated("the stored key cannot be read, so it may be the same")),
            },
        }
    }

    async fn apply(writer: &Writer, step: &Step<Secret>, inputs: &Inputs) -> Result<(), HttpError> {
        // The command asks for the key before it lets a plan be walked that stores one.
        let key = inputs.key.as_ref().expect("a plan that stores a key is walked with one");
        writer.put(put(&step.want.scope, &step.want.key, key)).await
    }

    fn shows(step: &Step<Secret>, now: Option<&SecretHave>) -> bool {
        let updated = |have: Option<&SecretHave>| have.and_then(|have| have.updated);
        updated(now).is_some() && updated(now) != updated(step.have.as_ref())
    }

    fn explain(want: &SecretWant, error: &HttpError, failure: Failure) -> Failure {
        match error.code() {
            Some("PERMISSION_DENIED") => {
                failure.advise(format!("this takes READ and WRITE on the secret scope {}", want.scope))
            }
            Some("RESOURCE_LIMIT_EXCEEDED") => {
                failure.advise("the scope has as many keys as it may: choose another with --scope")
            }
            Some(_) | None => failure,
        }
    }
}

impl Step<Secret> {
    /// Settles what only the scope's kind can tell: a Key Vault cannot be written to from here (databricks-api §3.5).
    pub(crate) fn settle(&mut self, scope: Option<&ScopeInfo>) {
        let Some(ScopeInfo { name, backend: Backend::KeyVault(address) }) = scope else { return };
        let key = &self.want.key;
        match &self.action {
            Action::Keep(_) => {
                self.action = Action::Keep(Some("is kept in an Azure Key Vault, not compared".to_owned()));
            }
            Action::Create | Action::Update(_) | Action::Blocked { .. } => {
                let vault = address.as_deref().unwrap_or("the Key Vault behind the scope");
                let odd = if key.as_str().contains(['_', '.']) {
                    " (a Key Vault takes letters, digits and hyphens only: choose such a name with --key)"
                } else {
                    ""
                };
                self.action = Refusal::new(format!(
                    "The key {key} cannot be stored: the secret scope {name} is kept in an Azure Key Vault, which only Azure can write."
                ))
                .advise(format!(
                    "in Azure, set the secret {key} in {vault}{odd}, then run the same command again; or choose another scope with --scope"
                ))
                .always();
            }
        }
    }
}

fn rotated(reason: &str) -> Action {
    Action::Update(vec![Change {
        field: "value".to_owned(),
        from: None,
        to: None,
        reason: format!("--rotate; {reason}"),
    }])
}
