//! The dbt API key in its scope. Its value is rarely readable, so an existing key is kept unless `--rotate` is
//! given.

mod removal;

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

pub(crate) use self::removal::{SecretRemoval, SecretRemovalWant};
use super::grant::is_open_to_all;
use crate::databricks::permissions::Level as _;
use crate::databricks::permissions::Principal;
use crate::databricks::secrets::{
    ADMINISTRATORS, Acl, Backend, EVERYBODY, Fingerprint, KeyName, Permission, ScopeInfo, ScopeName, SecretInfo, acls,
    fingerprint, list, put,
};
use crate::databricks::{has_no_acls, is_missing};
use crate::engine::apply::Inputs;
use crate::engine::{Action, Applied, Change, Consent, Consents, Creation, Kind, Note, Refusal, Step};
use crate::failure::Failure;
use crate::http::{HttpError, Meaning, Reader, Rows, Writer};

/// How long the ACLs of a new scope may be missing.
const LISTED_WITHIN: Duration = Duration::from_secs(30);

pub(crate) enum Secret {}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct SecretWant {
    pub(crate) scope: ScopeName,
    pub(crate) key: KeyName,
    /// What the stored value is compared with, when rotating and after writing.
    #[serde(skip)]
    pub(crate) compare: Option<Fingerprint>,
    /// The intended readers, including the caller.
    #[serde(skip)]
    pub(crate) intended_readers: Vec<String>,
}

/// What is known about the scope's content.
#[derive(Clone, Debug)]
pub(crate) struct SecretHave {
    pub(crate) keys: BTreeSet<String>,
    pub(crate) is_there: bool,
    /// When the key was last written, in milliseconds since 1970, if the service says so.
    pub(crate) updated: Option<i64>,
    pub(crate) readers: Readers,
    /// Fingerprint of the stored value, if it was requested and is readable.
    pub(crate) stored: Option<Fingerprint>,
}

impl SecretHave {
    /// Whether the stored value is the wanted one, if that is known.
    fn is_same(&self, want: &SecretWant) -> Option<bool> {
        Some(self.stored? == want.compare?)
    }
}

/// Who can read the scope: every level includes reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    Listed(Vec<Acl>),
    /// The workspace has no ACLs: every user has MANAGE.
    NoAcls,
    /// Unknown: reading the ACLs requires MANAGE, which the caller does not have, or was refused for another
    /// reason.
    Hidden,
}

impl Readers {
    /// Whether access can be taken away from all users. Without the Premium plan, a scope has exactly that one
    /// entry, and it cannot be changed.
    pub(crate) fn can_be_closed(&self) -> bool {
        match self {
            Readers::Listed(acls) => !is_open_to_all(acls),
            Readers::NoAcls | Readers::Hidden => false,
        }
    }

    /// Whether the same principals have the same levels.
    fn is_same(&self, other: &Readers) -> bool {
        match (self, other) {
            (Readers::Listed(left), Readers::Listed(right)) => {
                left.len() == right.len() && left.iter().all(|acl| right.contains(acl))
            }
            (Readers::Listed(_) | Readers::NoAcls | Readers::Hidden, _) => self == other,
        }
    }

    /// The level of all workspace users.
    pub(crate) fn everybody(&self) -> Option<&str> {
        match self {
            Readers::Listed(acls) => {
                acls.iter().find(|acl| acl.principal.eq_ignore_ascii_case(EVERYBODY)).map(|acl| acl.permission.as_str())
            }
            Readers::NoAcls => Some(Permission::Manage.name()),
            Readers::Hidden => None,
        }
    }

    /// Who else can read besides the administrators, the intended readers and the scope's creator. Databricks does
    /// not say who created it, but the creator has MANAGE, so the only person with MANAGE is assumed to be the
    /// creator.
    fn unintended_readers(&self, intended_readers: &[String]) -> Vec<&Acl> {
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
                .chain(intended_readers.iter().map(String::as_str))
                .any(|name| acl.principal.eq_ignore_ascii_case(name))
        };
        acls.iter().filter(|acl| !known(acl) && creator != Some(*acl)).collect()
    }
}

impl SecretWant {
    /// Refuses to store a key that all users, or unknown principals, can read.
    fn is_open(&self, readers: &Readers) -> Option<Refusal> {
        let (scope, key) = (&self.scope, &self.key);
        let (why, advice) = match readers {
            Readers::Listed(_) => (
                format!("every user of this workspace can read secret scope {scope} (users: {})", readers.everybody()?),
                if readers.can_be_closed() {
                    "choose another scope with --scope, or remove the group `users` from this one"
                } else {
                    "choose another scope with --scope"
                },
            ),
            Readers::NoAcls => (
                format!(
                    "every user of this workspace can read secret scope {scope}: no access control (no Premium plan)"
                ),
                "use a workspace with the Premium plan, which can restrict scopes",
            ),
            Readers::Hidden => (
                format!("cannot determine the readers of secret scope {scope}"),
                "ask its creator or an administrator to store the key, or choose another scope with --scope",
            ),
        };
        Some(Refusal::new(format!("key {key} was not stored: {why}")).advise(advice))
    }

    /// Refuses to store a key that others than the intended readers can read, if those are known.
    fn is_read_by_others(&self, readers: &Readers) -> Option<Refusal> {
        let unintended_readers = readers.unintended_readers(&self.intended_readers);
        if self.intended_readers.is_empty() || unintended_readers.is_empty() {
            return None;
        }
        let (scope, key, unintended_readers) = (&self.scope, &self.key, format_acls(unintended_readers));
        let what = format!("key {key} was not stored: others can read secret scope {scope}: {unintended_readers}");
        Some(Refusal::new(what))
    }
}

impl Kind for Secret {
    type Want = SecretWant;
    type Have = SecretHave;

    const KIND: &'static str = "secret";
    const CREATION: Creation = Creation::Overwrites;

    fn name(want: &SecretWant) -> String {
        format!("{}/{}", want.scope, want.key)
    }

    async fn observe(reader: &Reader, want: &SecretWant) -> Result<Option<SecretHave>, HttpError> {
        Ok(match inside(reader, want).await? {
            (Some(keys), readers, stored) => Some(have(want, keys, readers.unwrap_or(Readers::Hidden), stored)),
            // The scope is missing, but without ACLs a new one would be open to all users.
            (None, Some(readers @ (Readers::NoAcls | Readers::Hidden)), _) => {
                Some(have(want, Vec::new(), readers, None))
            }
            // It was created between the two reads.
            (None, Some(Readers::Listed(_)) | None, _) => None,
        })
    }

    fn diff(want: &SecretWant, have: Option<&SecretHave>, consents: &Consents) -> Action {
        let Some(have) = have else { return Action::Create };
        let accepted = consents.has(Consent::AcceptSharedScope);
        let open =
            || want.is_open(&have.readers).or_else(|| want.is_read_by_others(&have.readers)).filter(|_| !accepted);
        let write = |action| open().map_or(action, |refusal| refusal.unless(Consent::AcceptSharedScope));
        if !have.is_there {
            return write(Action::Create);
        }
        if !consents.has(Consent::Rotate) {
            return Action::Keep(Some(Note::Kept("kept (replace it with --rotate)".to_owned())));
        }
        match have.is_same(want) {
            Some(true) => Action::Keep(Some(Note::Kept("unchanged".to_owned()))),
            Some(false) => write(rotated("a different key is stored")),
            None => write(rotated("the stored key is not readable, so it may be the same")),
        }
    }

    /// A new scope may not be visible at once, and may have been created open to all users.
    async fn reobserve(reader: &Reader, step: &Step<Secret>) -> Result<Option<SecretHave>, HttpError> {
        let want = &step.want;
        let end = Instant::now() + LISTED_WITHIN;
        let mut pause = Duration::from_millis(100);
        loop {
            match inside(reader, want).await? {
                (Some(keys), Some(readers), stored) => return Ok(Some(have(want, keys, readers, stored))),
                (keys, readers, stored)
                    if step.consents.has(Consent::AcceptSharedScope) || Instant::now() + pause > end =>
                {
                    let readers = readers.unwrap_or(Readers::Hidden);
                    return Ok(Some(have(want, keys.unwrap_or_default(), readers, stored)));
                }
                _ => sleep(pause).await,
            }
            pause *= 2;
        }
    }

    fn is_as_planned(step: &Step<Secret>, now: Option<&SecretHave>) -> bool {
        let key = |have: Option<&SecretHave>| have.filter(|have| have.is_there).map(|have| (have.updated, have.stored));
        if key(step.have.as_ref()) != key(now) {
            return false;
        }
        // Whether the key may be stored depends on who can read it.
        match (&step.have, now) {
            (_, Some(_)) if step.consents.has(Consent::AcceptSharedScope) => true,
            (Some(before), Some(now)) => before.readers.is_same(&now.readers),
            // The scope was created meanwhile.
            (None, Some(now)) => {
                step.want.is_open(&now.readers).is_none()
                    && now.readers.unintended_readers(&step.want.intended_readers).is_empty()
            }
            (_, None) => false,
        }
    }

    async fn apply(writer: &Writer, step: &mut Step<Secret>, inputs: &Inputs) -> Result<Applied, HttpError> {
        // The command asks for the key before it applies a plan that stores one.
        let key = inputs.key.as_ref().expect("a plan that stores a key is walked with one");
        step.want.compare = Some(Fingerprint::of(key));
        writer.put_once(put(&step.want.scope, &step.want.key, key)).await.map(|()| Applied::Written)
    }

    fn differences(step: &Step<Secret>, now: Option<&SecretHave>) -> Vec<String> {
        let Some(now) = now.filter(|now| now.is_there) else { return vec!["no such key in the scope".to_owned()] };
        let is_newer = || match (&step.have, now.updated) {
            (Some(SecretHave { is_there: true, updated: Some(before), .. }), Some(updated)) => *before != updated,
            // If the service does not report the time, its answer to the write is trusted.
            (_, _) => true,
        };
        match now.is_same(&step.want) {
            Some(false) => vec!["another value".to_owned()],
            None if !is_newer() => vec!["the same last_updated_timestamp".to_owned()],
            Some(true) | None => Vec::new(),
        }
    }

    fn collateral_losses(step: &Step<Secret>) -> Vec<String> {
        let (Some(before), Some(now)) = (&step.have, &step.now) else { return Vec::new() };
        let keys = before.keys.difference(&now.keys).map(|key| format!("key {key}"));
        let names = |have: &SecretHave| match &have.readers {
            Readers::Listed(acls) => Some(acls.iter().map(|acl| acl.principal.clone()).collect::<BTreeSet<_>>()),
            Readers::NoAcls | Readers::Hidden => None,
        };
        let readers = names(before).zip(names(now)).into_iter();
        let readers = readers.flat_map(|(before, now)| before.difference(&now).cloned().collect::<Vec<_>>());
        keys.chain(readers.map(|principal| format!("the access of {principal}"))).collect()
    }

    fn explain(want: &SecretWant, error: &HttpError, failure: Failure) -> Failure {
        match error.code() {
            Some("PERMISSION_DENIED") => {
                failure.advise(format!("this requires READ and WRITE on secret scope {}", want.scope))
            }
            Some("RESOURCE_LIMIT_EXCEEDED") => {
                failure.advise("the scope is at its limit of keys: choose another with --scope")
            }
            Some(_) | None => failure,
        }
    }
}

impl Step<Secret> {
    /// Sets the intended readers. Refuses to store a key that others can read, unless
    /// that is accepted.
    pub(crate) fn settle_readers(&mut self, me: &str, intended_readers: &[String]) {
        self.want.intended_readers = intended_readers.iter().cloned().chain([me.to_owned()]).collect();
        let Some(have) = &self.have else { return };
        if !self.writes() || self.consents.has(Consent::AcceptSharedScope) {
            return;
        }
        let unintended_readers = have.readers.unintended_readers(&self.want.intended_readers);
        if unintended_readers.is_empty() {
            return;
        }
        let (scope, key) = (&self.want.scope, &self.want.key);
        self.action = Refusal::new(format!(
            "key {key} was not stored: secret scope {scope} already existed, and others can read it: {}",
            format_acls(unintended_readers)
        ))
        .advise(
            "name the intended readers with --grant, remove the others' access, or choose another scope with --scope",
        )
        .unless(Consent::AcceptSharedScope);
    }

    /// Refuses to write to an Azure Key Vault, which the Databricks API cannot do.
    pub(crate) fn settle(&mut self, scope: Option<&ScopeInfo>) {
        let Some(ScopeInfo { name, backend: Backend::KeyVault(address) }) = scope else { return };
        let key = &self.want.key;
        match &self.action {
            Action::Keep(_) => {
                let same = self.have.as_ref().and_then(|have| have.is_same(&self.want)) == Some(true);
                let compared = if same { "unchanged" } else { "not compared" };
                self.action = Action::Keep(Some(Note::Kept(format!("in an Azure Key Vault, {compared}"))));
            }
            Action::Create | Action::Update(_) | Action::Remove | Action::Blocked { .. } => {
                let vault = address.as_deref().unwrap_or("the Key Vault behind the scope");
                let odd = if key.as_str().contains(['_', '.']) {
                    " (Key Vault names allow only letters, digits, and hyphens: choose one with --key)"
                } else {
                    ""
                };
                self.action = Refusal::new(format!(
                    "cannot store key {key}: secret scope {name} is in an Azure Key Vault, which only Azure can write"
                ))
                .advise(format!(
                    "set secret {key} in {vault}{odd} in Azure, then run the same command again; or choose another scope with --scope"
                ))
                .always();
            }
        }
    }
}

/// The scope's keys and readers, each `None` if missing, and the fingerprint of the stored value.
type Inside = (Option<Vec<SecretInfo>>, Option<Readers>, Option<Fingerprint>);

async fn inside(reader: &Reader, want: &SecretWant) -> Result<Inside, HttpError> {
    let SecretWant { scope, key, compare, intended_readers: _ } = want;
    let listed = async {
        match reader.read(list(scope)).await {
            Ok(listed) => Ok(Some(listed)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    };
    let stored = async {
        if compare.is_none() {
            return Ok(None);
        }
        match reader.read(fingerprint(scope, key)).await {
            Ok(stored) => Ok(Some(stored)),
            // Reading a value may be refused outside a cluster, and a missing one cannot be read.
            Err(error) if is_missing(&error) || is_withheld(&error) => Ok(None),
            Err(error) => Err(error),
        }
    };
    tokio::try_join!(listed, readers(reader, scope), stored)
}

fn have(want: &SecretWant, keys: Vec<SecretInfo>, readers: Readers, stored: Option<Fingerprint>) -> SecretHave {
    let found = keys.iter().find(|secret| secret.key == want.key.as_str());
    let (is_there, updated) = (found.is_some(), found.and_then(|secret| secret.last_updated_timestamp));
    SecretHave { keys: keys.into_iter().map(|secret| secret.key).collect(), is_there, updated, readers, stored }
}

/// Who can read the scope; `None` if it does not exist.
pub(super) async fn readers(reader: &Reader, scope: &ScopeName) -> Result<Option<Readers>, HttpError> {
    match reader.read(acls(scope)).await {
        Ok(Rows { rows, unreadable: 0 }) => Ok(Some(Readers::Listed(rows))),
        // The unreadable entry may be that of all users.
        Ok(Rows { rows: _, unreadable: _ }) => Ok(Some(Readers::Hidden)),
        Err(error) if has_no_acls(&error) => Ok(Some(Readers::NoAcls)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) if is_withheld(&error) => Ok(Some(Readers::Hidden)),
        Err(error) => Err(error),
    }
}

/// Whether the caller may not see this. Errors that may pass, and those that refuse every request, do not count.
fn is_withheld(error: &HttpError) -> bool {
    let means = error.means();
    error.is_final() && error.status().is_some() && (means == Meaning::RightMissing || !means.rejects_identity())
}

/// `ana@example.com (MANAGE), analysts (READ)`.
pub(crate) fn format_acls<'a>(acls: impl IntoIterator<Item = &'a Acl>) -> String {
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
