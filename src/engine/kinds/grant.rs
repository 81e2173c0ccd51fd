//! A principal's access to a scope. Levels are raised, never lowered or removed.

use std::collections::BTreeSet;

use serde::Serialize;

use super::access::{self, ForEverybody, refuse_everybody};
use crate::databricks::permissions::Level as _;
use crate::databricks::secrets::{Acl, EVERYBODY, Permission, ScopeName, acls, put_acl};
use crate::databricks::{has_no_acls, is_missing};
use crate::engine::apply::Inputs;
use crate::engine::{Action, Applied, Change, Consent, Consents, Creation, Kind, Note, Skipped, Step};
use crate::failure::Failure;
use crate::http::{HttpError, Reader, Rows, Writer};

pub(crate) enum Grant {}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct GrantWant {
    pub(crate) scope: ScopeName,
    /// Email of a user, display name of a group, or application ID of a service principal.
    pub(crate) principal: String,
    pub(crate) permission: Permission,
}

/// The access that it has, and all principals with access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GrantHave {
    pub(crate) access: Access,
    pub(crate) principals: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Nothing,
    /// This level, in Databricks' spelling.
    Level(String),
    /// The workspace has no ACLs.
    NoAcls,
    /// The only entry is MANAGE for all users, as in workspaces without the Premium plan:
    /// nothing can be added.
    Everybody,
}

impl Kind for Grant {
    type Want = GrantWant;
    type Have = GrantHave;

    const KIND: &'static str = "grant";
    const CREATION: Creation = Creation::Overwrites;

    fn name(want: &GrantWant) -> String {
        let GrantWant { scope, principal, permission } = want;
        format!("{} on {scope} for {principal}", permission.name())
    }

    async fn observe(reader: &Reader, want: &GrantWant) -> Result<Option<GrantHave>, HttpError> {
        match reader.read(acls(&want.scope)).await {
            Ok(Rows { rows: acls, unreadable }) => {
                let access = listed(&acls, &want.principal);
                if unreadable > 0 && !matches!(access, Access::Level(_)) {
                    return Err(access::unread(reader, "secrets/acls/list"));
                }
                Ok(Some(GrantHave { access, principals: acls.into_iter().map(|acl| acl.principal).collect() }))
            }
            Err(error) if has_no_acls(&error) => {
                Ok(Some(GrantHave { access: Access::NoAcls, principals: BTreeSet::new() }))
            }
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn diff(want: &GrantWant, have: Option<&GrantHave>, consents: &Consents) -> Action {
        let for_everybody = ForEverybody {
            could: "read the dbt API key",
            advice: "name the user, group, or service principal that the workflow runs as, such as --grant data-engineers",
            unless: Some(Consent::AcceptSharedScope),
        };
        if let Some(refused) = refuse_everybody(&want.principal, want.permission, Some(for_everybody), consents) {
            return refused;
        }
        let level = match have.map(|have| &have.access) {
            None | Some(Access::Nothing) => return Action::Create,
            // Whether a key may be stored in such a scope is decided by the secret kind.
            Some(access @ (Access::NoAcls | Access::Everybody)) => return Action::Keep(needless(access)),
            Some(Access::Level(level)) => level,
        };
        match Permission::named(level) {
            Some(found) if found == want.permission => Action::Keep(None),
            Some(found) if found > want.permission => {
                Action::Keep(Some(Note::Kept(format!("kept: already has {level}"))))
            }
            Some(_) => Action::Update(vec![Change {
                field: "permission".to_owned(),
                from: Some(level.clone()),
                to: Some(want.permission.name().to_owned()),
                reason: "higher level requested".to_owned(),
            }]),
            None => Action::Keep(Some(Note::Kept(format!("kept: has {level}, an unknown level")))),
        }
    }

    /// A put overwrites the level of this principal and nothing else.
    fn is_as_planned(step: &Step<Grant>, now: Option<&GrantHave>) -> bool {
        let access = |have: Option<&GrantHave>| have.map_or(Access::Nothing, |have| have.access.clone());
        access(step.have.as_ref()) == access(now)
    }

    async fn apply(writer: &Writer, step: &mut Step<Grant>, _inputs: &Inputs) -> Result<Applied, HttpError> {
        let GrantWant { scope, principal, permission } = &step.want;
        match writer.put_once(put_acl(scope, principal, *permission)).await {
            // The scope may be open to all users without any way to restrict it; only reading its ACLs shows that.
            Err(error) if has_no_acls(&error) => match writer.read(acls(scope)).await {
                Ok(Rows { rows, unreadable: 0 }) if is_open_to_all(&rows) => Ok(Applied::Written),
                Err(again) if has_no_acls(&again) => Ok(Applied::Written),
                Ok(_) | Err(_) => Err(error),
            },
            ended => ended.map(|()| Applied::Written),
        }
    }

    fn differences(step: &Step<Grant>, now: Option<&GrantHave>) -> Vec<String> {
        let wanted = step.want.permission;
        match now.map(|now| &now.access) {
            Some(Access::Level(level)) if Permission::named(level).is_none_or(|found| found >= wanted) => Vec::new(),
            Some(Access::Level(level)) => vec![format!("permission: requested {}, has {level}", wanted.name())],
            Some(Access::NoAcls | Access::Everybody) => Vec::new(),
            Some(Access::Nothing) | None => vec!["no access list entry for this principal".to_owned()],
        }
    }

    fn collateral_losses(step: &Step<Grant>) -> Vec<String> {
        let (Some(before), Some(now)) = (&step.have, &step.now) else { return Vec::new() };
        before.principals.difference(&now.principals).map(|principal| format!("the access of {principal}")).collect()
    }

    fn downgraded_to_noop(_step: &Step<Grant>, now: Option<&GrantHave>) -> Option<Note> {
        now.and_then(|now| needless(&now.access))
    }

    fn explain(want: &GrantWant, error: &HttpError, failure: Failure) -> Failure {
        let GrantWant { scope, principal, permission: _ } = want;
        match error.code() {
            Some("PERMISSION_DENIED") => failure.advise(format!(
                "reading and granting access requires MANAGE on secret scope {scope}, which its creator and administrators have"
            )),
            Some("RESOURCE_DOES_NOT_EXIST" | "INVALID_PARAMETER_VALUE") => failure.advise(format!(
                "check \"{principal}\": use a user's email, a group's display name, or a service principal's application ID (a UUID)"
            )),
            Some(_) | None => failure,
        }
    }
}

impl Step<Grant> {
    /// The creator of a scope has MANAGE; a lower level put afterwards would take that away.
    pub(crate) fn settle(&mut self, creates_the_scope: bool, me: &str) {
        if creates_the_scope && self.want.principal.eq_ignore_ascii_case(me) {
            self.action = Action::Keep(Some(Note::Kept("gets MANAGE by creating the scope".to_owned())));
        }
    }
}

/// Why a grant is needless where ACLs would add nothing.
fn needless(access: &Access) -> Option<Note> {
    match access {
        Access::NoAcls => Some(Note::Skipped(Skipped::NoSecretAcls)),
        Access::Everybody => Some(Note::Skipped(Skipped::OpenScope)),
        Access::Level(_) | Access::Nothing => None,
    }
}

fn listed(acls: &[Acl], principal: &str) -> Access {
    match acls.iter().find(|acl| acl.principal.eq_ignore_ascii_case(principal) && !acl.permission.is_empty()) {
        Some(acl) => Access::Level(acl.permission.clone()),
        None if is_open_to_all(acls) => Access::Everybody,
        None => Access::Nothing,
    }
}

/// Whether all users have MANAGE and no other principal is listed.
pub(super) fn is_open_to_all(acls: &[Acl]) -> bool {
    let [Acl { principal, permission }] = acls else { return false };
    principal == EVERYBODY && permission == Permission::Manage.name()
}
