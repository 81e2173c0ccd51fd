//! Removing a secret scope. It carries no mark, so it is removed only if it is empty and no one else has access.

use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::super::secret::{Readers, format_acls, readers};
use crate::databricks::is_missing;
use crate::databricks::permissions::Level as _;
use crate::databricks::secrets::{ADMINISTRATORS, Backend, KeyName, Permission, ScopeName, delete_scope, list, scopes};
use crate::engine::apply::Inputs;
use crate::engine::kinds::still_there;
use crate::engine::{Action, Applied, Consents, Creation, Kind, Progress, Step};
use crate::failure::Failure;
use crate::http::{HttpError, Meaning, Reader, Writer};

/// How long a deleted key may still be listed.
const LISTED_FOR: Duration = Duration::from_secs(30);

pub(crate) enum ScopeRemoval {}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct ScopeRemovalWant {
    pub(crate) scope: ScopeName,
    /// Whether `--with-secret` was given.
    pub(crate) wanted: bool,
    /// The keys that are removed before it.
    pub(crate) leaving: Vec<KeyName>,
    /// The caller.
    pub(crate) me: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScopeRemovalHave {
    backend: Backend,
    /// `None`: the caller may not list them.
    keys: Option<Vec<String>>,
    readers: Readers,
}

impl ScopeRemovalWant {
    fn leaves(&self, key: &str) -> bool {
        self.leaving.iter().any(|leaving| leaving.as_str() == key)
    }
}

/// Whether only the caller and the administrators have access and the caller has MANAGE: then the caller created
/// it, as far as that is known.
fn is_own(readers: &Readers, me: &str) -> bool {
    let Readers::Listed(acls) = readers else { return false };
    let is_me = |principal: &str| principal.eq_ignore_ascii_case(me);
    acls.iter().all(|acl| is_me(&acl.principal) || acl.principal.eq_ignore_ascii_case(ADMINISTRATORS))
        && acls.iter().any(|acl| is_me(&acl.principal) && acl.permission == Permission::Manage.name())
}

/// Who has access, as text.
fn access(readers: &Readers) -> String {
    match readers {
        Readers::Listed(acls) => format_acls(acls),
        Readers::NoAcls => "every user (no access control for secrets)".to_owned(),
        Readers::Hidden => "not shown to you".to_owned(),
    }
}

impl Kind for ScopeRemoval {
    type Want = ScopeRemovalWant;
    type Have = ScopeRemovalHave;

    const KIND: &'static str = "secret scope";
    const CREATION: Creation = Creation::IsRefused;

    fn name(want: &ScopeRemovalWant) -> String {
        want.scope.to_string()
    }

    async fn observe(reader: &Reader, want: &ScopeRemovalWant) -> Result<Option<ScopeRemovalHave>, HttpError> {
        let (scopes, keys, readers) =
            tokio::join!(reader.read(scopes()), reader.read(list(&want.scope)), readers(reader, &want.scope));
        let Some(scope) = scopes?.into_iter().find(|scope| want.scope.is(&scope.name)) else { return Ok(None) };
        let keys = match keys {
            Ok(keys) => Some(keys.into_iter().map(|secret| secret.key).collect()),
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) if error.means() == Meaning::RightMissing => None,
            Err(error) => return Err(error),
        };
        let readers = readers?.unwrap_or(Readers::Hidden);
        Ok(Some(ScopeRemovalHave { backend: scope.backend, keys, readers }))
    }

    /// A list may still show keys that were just deleted.
    async fn reobserve(reader: &Reader, step: &Step<ScopeRemoval>) -> Result<Option<ScopeRemovalHave>, HttpError> {
        let end = Instant::now() + LISTED_FOR;
        let mut pause = Duration::from_millis(100);
        loop {
            let now = ScopeRemoval::observe(reader, &step.want).await?;
            let keys = now.iter().filter_map(|now| now.keys.as_ref()).flatten();
            let lags = step.progress == Progress::Pending && keys.into_iter().any(|key| step.want.leaves(key));
            if !lags || Instant::now() + pause > end {
                return Ok(now);
            }
            sleep(pause).await;
            pause *= 2;
        }
    }

    fn diff(want: &ScopeRemovalWant, have: Option<&ScopeRemovalHave>, _consents: &Consents) -> Action {
        let Some(ScopeRemovalHave { backend, keys, readers }) = have else {
            return Action::absent();
        };
        let kept = |why: &str| Action::kept(format!("{why} (access: {})", access(readers)));
        if !want.wanted {
            return kept("removed only with its last key");
        }
        match backend {
            Backend::Databricks => {}
            Backend::KeyVault(_) | Backend::Other(_) => return kept("not a Databricks-backed scope"),
        }
        let Some(keys) = keys else { return kept("its keys cannot be listed") };
        let others: Vec<&str> = keys.iter().map(String::as_str).filter(|key| !want.leaves(key)).collect();
        if !others.is_empty() {
            return kept(&format!("it has other keys: {}", others.join(", ")));
        }
        if is_own(readers, &want.me) { Action::Remove } else { kept("others have access") }
    }

    fn is_as_planned(step: &Step<ScopeRemoval>, now: Option<&ScopeRemovalHave>) -> bool {
        // Deleting a scope deletes its content.
        now.is_some_and(|now| now.keys.as_ref().is_some_and(Vec::is_empty) && is_own(&now.readers, &step.want.me))
    }

    async fn apply(writer: &Writer, step: &mut Step<ScopeRemoval>, _inputs: &Inputs) -> Result<Applied, HttpError> {
        writer.put_once(delete_scope(&step.want.scope)).await.map(|()| Applied::Written)
    }

    fn differences(_step: &Step<ScopeRemoval>, now: Option<&ScopeRemovalHave>) -> Vec<String> {
        still_there(now)
    }

    fn explain(want: &ScopeRemovalWant, error: &HttpError, failure: Failure) -> Failure {
        match error.code() {
            Some("PERMISSION_DENIED") => {
                failure.advise(format!("this takes MANAGE on the secret scope {}", want.scope))
            }
            Some(_) | None => failure,
        }
    }
}
