//! The dbt API key in its scope. Its value can rarely be read, so a key that is there is left as it is unless it is
//! to be rotated.

use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::databricks::permissions::Level as _;
use crate::databricks::permissions::Principal;
use crate::databricks::secrets::{
    ADMINISTRATORS, Acl, Backend, EVERYBODY, Fingerprint, KeyName, Permission, ScopeInfo, ScopeName, acls, fingerprint,
    list, put,
};
use crate::databricks::{has_no_acls, is_missing};
use crate::engine::walk::Inputs;
use crate::engine::{Action, Change, Consent, Consents, Kind, Refusal, Step};
use crate::failure::Failure;
use crate::http::{HttpError, Reader, Writer};

/// How long the access list of a scope that was made just now may be missing.
const LISTED_WITHIN: Duration = Duration::from_secs(30);

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
    /// Store it also where everybody, or nobody knows who, can read it: `--accept-shared-scope`.
    #[serde(skip)]
    pub(crate) accept_open: bool,
    /// Who is meant to read it, whoever stores it included.
    #[serde(skip)]
    pub(crate) meant: Vec<String>,
}

/// What is known of the scope's inside.
#[derive(Clone, Debug)]
pub(crate) struct SecretHave {
    /// When the key was last written, if it is there: milliseconds since 1970.
    pub(crate) updated: Option<i64>,
    pub(crate) readers: Readers,
    /// Whether the stored value is the wanted one, where that can be told.
    pub(crate) same: Option<bool>,
}

/// Who can read all that is in a scope: every level includes reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    Listed(Vec<Acl>),
    /// The workspace has no ACLs: everybody manages everything (databricks-api §3.4).
    NoAcls,
    /// They cannot be determined: seeing them takes MANAGE, which this identity has not, or the answer is another refusal.
    Hidden,
}

impl Readers {
    /// What everybody in the workspace may do with the scope.
    pub(crate) fn everybody(&self) -> Option<&str> {
        match self {
            Readers::Listed(acls) => {
                acls.iter().find(|acl| acl.principal.eq_ignore_ascii_case(EVERYBODY)).map(|acl| acl.permission.as_str())
            }
            Readers::NoAcls => Some(Permission::Manage.name()),
            Readers::Hidden => None,
        }
    }

    /// Who can read beside the administrators, those who are meant to, and whoever made the scope. Databricks does not
    /// tell who did; they have MANAGE from it, so the only person who has is taken for them.
    fn strangers(&self, meant: &[String]) -> Vec<&Acl> {
        let Readers::Listed(acls) = self else { return Vec::new() };
        let is_manager = |acl: &&Acl| {
            acl.permission == Permission::Manage.name()
                && match Principal::of(&acl.principal) {
                    Principal::User | Principal::ServicePrincipal => true,
                    Principal::Group => false,
                }
        };
        let mut managers = acls.iter().filter(is_manager);
        let creator = managers.next().filter(|_| managers.next().is_none());
        let known = |acl: &Acl| {
            [ADMINISTRATORS]
                .into_iter()
                .chain(meant.iter().map(String::as_str))
                .any(|name| acl.principal.eq_ignore_ascii_case(name))
        };
        acls.iter().filter(|acl| !known(acl) && creator != Some(*acl)).collect()
    }
}

impl SecretWant {
    /// Why a key must not be stored where these can read it: everybody can, or who can is not known.
    fn is_open(&self, readers: &Readers) -> Option<Refusal> {
        let (scope, key) = (&self.scope, &self.key);
        let (why, advice) = match readers {
            Readers::Listed(_) => (
                format!(
                    "everybody in this workspace can read the secret scope {scope} (users: {})",
                    readers.everybody()?
                ),
                "choose another scope with --scope, or take the access of the group `users` away from this one",
            ),
            Readers::NoAcls => (
                format!(
                    "everybody in this workspace can read the secret scope {scope}: it has no access lists (no Premium plan)"
                ),
                "store the key in a workspace with the Premium plan, whose secret scopes can be closed",
            ),
            Readers::Hidden => (
                format!("who can read the secret scope {scope} cannot be determined"),
                "ask its creator or an administrator, who have MANAGE on it, to store the key, or choose another scope with --scope",
            ),
        };
        Some(Refusal::new(format!("The key {key} is not stored: {why}.")).advise(advice))
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
        let SecretWant { scope, key, compare, accept_open: _, meant: _ } = want;
        let updated = async {
            let listed = match reader.read(list(scope)).await {
                Ok(listed) => listed,
                Err(error) if is_missing(&error) => return Ok(None),
                Err(error) => return Err(error),
            };
            let found = listed.into_iter().find(|secret| secret.key == key.as_str());
            Ok(Some(found.map(|secret| secret.last_updated_timestamp.unwrap_or_default())))
        };
        let same = async {
            let Some(wanted) = compare else { return Ok(None) };
            match reader.read(fingerprint(scope, key)).await {
                Ok(stored) => Ok(Some(stored == *wanted)),
                // Reading a value may be refused outside a cluster, and a missing one cannot be read.
                Err(error) if error.status().is_some_and(|status| status.is_client_error()) => Ok(None),
                Err(error) => Err(error),
            }
        };
        let (listed, readers, same) = tokio::try_join!(updated, readers(reader, scope), same)?;
        Ok(match (listed, readers) {
            (Some(updated), readers) => Some(SecretHave { updated, readers: readers.unwrap_or(Readers::Hidden), same }),
            // The scope is missing; but one that is made where access lists are not to be had would be open to everybody.
            (None, Some(readers @ (Readers::NoAcls | Readers::Hidden))) => {
                Some(SecretHave { updated: None, readers, same: None })
            }
            // It came into being between the two looks.
            (None, Some(Readers::Listed(_)) | None) => None,
        })
    }

    fn diff(want: &SecretWant, have: Option<&SecretHave>, consents: &Consents) -> Action {
        let Some(have) = have else { return Action::Create };
        let accepted = consents.has(Consent::AcceptSharedScope);
        let open = || want.is_open(&have.readers).filter(|_| !accepted);
        let write = |action| open().map_or(action, |refusal| refusal.unless(Consent::AcceptSharedScope));
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

    /// A scope that was made just now may have come out open, and one that was there may have been opened since.
    async fn check(reader: &Reader, step: &Step<Secret>) -> Result<Option<(Refusal, Option<Consent>)>, HttpError> {
        let consent = Some(Consent::AcceptSharedScope);
        let want = &step.want;
        if want.accept_open {
            return Ok(None);
        }
        let end = Instant::now() + LISTED_WITHIN;
        let mut pause = Duration::from_millis(100);
        let found = loop {
            match readers(reader, &want.scope).await? {
                Some(readers) => break readers,
                None if Instant::now() + pause > end => break Readers::Hidden,
                None => sleep(pause).await,
            }
            pause *= 2;
        };
        if let Some(refusal) = want.is_open(&found) {
            return Ok(Some((refusal, consent)));
        }
        let (scope, key) = (&want.scope, &want.key);
        let strangers = found.strangers(&want.meant);
        Ok((!strangers.is_empty()).then(|| {
            let strangers = told(strangers);
            let refusal = Refusal::new(format!(
                "The key {key} is not stored: others can read the secret scope {scope} by now: {strangers}."
            ))
            .advise("run the same command again: it looks at the readers anew");
            (refusal, consent)
        }))
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
    /// Settles what only the command knows: who is meant to read what is stored. Refuses to store a key where somebody
    /// else can read it, unless that is accepted.
    pub(crate) fn settle_readers(&mut self, me: &str, meant: &[String], consents: &Consents) {
        self.want.meant = meant.iter().cloned().chain([me.to_owned()]).collect();
        let Some(have) = &self.have else { return };
        if !self.writes() || consents.has(Consent::AcceptSharedScope) {
            return;
        }
        let strangers = have.readers.strangers(&self.want.meant);
        if strangers.is_empty() {
            return;
        }
        let (scope, key) = (&self.want.scope, &self.want.key);
        self.action = Refusal::new(format!(
            "The key {key} is not stored: the secret scope {scope} was there before, and others can read it: {}.",
            told(strangers)
        ))
        .advise("name with --grant who is meant to read the key, take the access of the others away, or choose another scope with --scope")
        .unless(Consent::AcceptSharedScope);
    }

    /// Settles what only the scope's kind can tell: a Key Vault cannot be written to from here (databricks-api §3.5).
    pub(crate) fn settle(&mut self, scope: Option<&ScopeInfo>) {
        let Some(ScopeInfo { name, backend: Backend::KeyVault(address) }) = scope else { return };
        let key = &self.want.key;
        match &self.action {
            Action::Keep(_) => {
                let same = self.have.as_ref().and_then(|have| have.same) == Some(true);
                let compared = if same { "and is this key already" } else { "not compared" };
                self.action = Action::Keep(Some(format!("is kept in an Azure Key Vault, {compared}")));
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

/// Who can read the scope; `None` if it is not there.
async fn readers(reader: &Reader, scope: &ScopeName) -> Result<Option<Readers>, HttpError> {
    match reader.read(acls(scope)).await {
        Ok(acls) => Ok(Some(Readers::Listed(acls))),
        Err(error) if has_no_acls(&error) => Ok(Some(Readers::NoAcls)),
        Err(error) if is_missing(&error) => Ok(None),
        // Whoever may not look does not know; what may pass, and what is about the token, is an error.
        Err(error) if error.is_final() && error.status().is_some() && !error.means().is_of_token() => {
            Ok(Some(Readers::Hidden))
        }
        Err(error) => Err(error),
    }
}

/// `ana@example.com (MANAGE), analysts (READ)`.
pub(crate) fn told<'a>(acls: impl IntoIterator<Item = &'a Acl>) -> String {
    let named = |principal: &'a str| if principal.is_empty() { "(without a name)" } else { principal };
    let words = acls.into_iter().map(|Acl { principal, permission }| format!("{} ({permission})", named(principal)));
    words.collect::<Vec<_>>().join(", ")
}

fn rotated(reason: &str) -> Action {
    Action::Update(vec![Change {
        field: "value".to_owned(),
        from: None,
        to: None,
        reason: format!("--rotate; {reason}"),
    }])
}
