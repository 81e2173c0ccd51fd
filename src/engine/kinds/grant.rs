//! Access to a scope for one principal. Levels are raised, never lowered or removed.

use serde::Serialize;

use crate::databricks::permissions::Level as _;
use crate::databricks::secrets::{Acl, EVERYBODY, Permission, ScopeName, acl, acls, put_acl};
use crate::databricks::{has_no_acls, is_missing};
use crate::engine::walk::Inputs;
use crate::engine::{Action, Change, Consents, Kind, Step};
use crate::failure::Failure;
use crate::http::{HttpError, Reader, Writer};

/// Access to a scope.
pub(crate) enum Grant {}

/// What a principal should be able to do.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct GrantWant {
    pub(crate) scope: ScopeName,
    /// E-mail of a user, display name of a group, application id of a service principal.
    pub(crate) principal: String,
    pub(crate) permission: Permission,
}

/// What it can do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GrantHave {
    /// This level, as Databricks says it.
    Level(String),
    /// The workspace has no ACLs.
    NoAcls,
    /// Everybody manages the scope and nobody else is named: how a scope looks without the Premium plan
    /// (databricks-api §3.4). There is nothing to add to that.
    Everybody,
}

impl Kind for Grant {
    type Want = GrantWant;
    type Have = GrantHave;

    const KIND: &'static str = "grant";

    fn name(want: &GrantWant) -> String {
        let GrantWant { scope, principal, permission } = want;
        format!("{} on {scope} for {principal}", permission.name())
    }

    async fn observe(reader: &Reader, want: &GrantWant) -> Result<Option<GrantHave>, HttpError> {
        match reader.read(acl(&want.scope, &want.principal)).await {
            Ok(acl) => {
                Ok(Some(GrantHave::Level(acl.permission)).filter(|have| *have != GrantHave::Level(String::new())))
            }
            // A look-alike may have the list and nothing else; one refusal alone proves no plan.
            Err(error) if has_no_acls(&error) || is_missing(&error) => match reader.read(acls(&want.scope)).await {
                Ok(acls) => Ok(listed(&acls, &want.principal)),
                Err(error) if has_no_acls(&error) => Ok(Some(GrantHave::NoAcls)),
                Err(error) if is_missing(&error) => Ok(None),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    fn diff(want: &GrantWant, have: Option<&GrantHave>, _consents: &Consents) -> Action {
        let level = match have {
            None => return Action::Create,
            // Whether a key may lie in such a scope is the secret's question.
            Some(have @ (GrantHave::NoAcls | GrantHave::Everybody)) => return Action::Keep(needless(have)),
            Some(GrantHave::Level(level)) => level,
        };
        match Permission::named(level) {
            Some(found) if found == want.permission => Action::Keep(None),
            Some(found) if found > want.permission => {
                Action::Keep(Some(format!("has {level}, which is more, and keeps it")))
            }
            Some(_) => Action::Update(vec![Change {
                field: "permission".to_owned(),
                from: Some(level.clone()),
                to: Some(want.permission.name().to_owned()),
                reason: "more is asked for".to_owned(),
            }]),
            None => Action::Keep(Some(format!("has {level}, a level that this version does not know, and keeps it"))),
        }
    }

    async fn apply(writer: &Writer, step: &Step<Grant>, _inputs: &Inputs) -> Result<(), HttpError> {
        let GrantWant { scope, principal, permission } = &step.want;
        // Somebody may have given more since the plan, which this would lower.
        if let Some(GrantHave::Level(level)) = Grant::observe(writer, &step.want).await?
            && Permission::named(&level).is_none_or(|found| found >= *permission)
        {
            return Ok(());
        }
        match writer.put(put_acl(scope, principal, *permission)).await {
            // A scope that could only be made open: the look after it shows that.
            Err(error) if has_no_acls(&error) => match writer.read(acls(scope)).await {
                Ok(acls) if is_open_to_all(&acls) => Ok(()),
                Err(again) if has_no_acls(&again) => Ok(()),
                Ok(_) | Err(_) => Err(error),
            },
            ended => ended,
        }
    }

    fn shows(step: &Step<Grant>, now: Option<&GrantHave>) -> bool {
        match now {
            Some(GrantHave::Level(level)) => Permission::named(level).is_none_or(|found| found >= step.want.permission),
            Some(GrantHave::NoAcls | GrantHave::Everybody) => true,
            None => false,
        }
    }

    fn came_out(_step: &Step<Grant>, now: Option<&GrantHave>) -> Option<String> {
        now.and_then(needless)
    }

    fn explain(want: &GrantWant, error: &HttpError, failure: Failure) -> Failure {
        let GrantWant { scope, principal, permission: _ } = want;
        match error.code() {
            Some("PERMISSION_DENIED") => failure.advise(format!(
                "seeing and giving access takes MANAGE on the secret scope {scope}, which its creator and administrators have"
            )),
            Some("RESOURCE_DOES_NOT_EXIST" | "INVALID_PARAMETER_VALUE") => failure.advise(format!(
                "check \"{principal}\": a user is given by e-mail, a group by its display name, a service principal by its application id (a UUID)"
            )),
            Some(_) | None => failure,
        }
    }
}

impl Step<Grant> {
    /// Whoever creates a scope has MANAGE at once; putting a lower level after it would take that away.
    pub(crate) fn settle(&mut self, creates_the_scope: bool, me: &str) {
        if creates_the_scope && self.want.principal.eq_ignore_ascii_case(me) {
            self.action = Action::Keep(Some("gets MANAGE by creating the scope".to_owned()));
        }
    }
}

/// Why somebody is not given anything, where access lists would add nothing.
fn needless(have: &GrantHave) -> Option<String> {
    match have {
        GrantHave::NoAcls => Some(
            "skipped: this workspace has no access lists for secrets (no Premium plan), so everybody has access anyhow"
                .to_owned(),
        ),
        GrantHave::Everybody => Some("skipped: everybody in this workspace manages the scope anyhow".to_owned()),
        GrantHave::Level(_) => None,
    }
}

fn listed(acls: &[Acl], principal: &str) -> Option<GrantHave> {
    match acls.iter().find(|acl| acl.principal.eq_ignore_ascii_case(principal)) {
        Some(acl) => Some(GrantHave::Level(acl.permission.clone())),
        None => is_open_to_all(acls).then_some(GrantHave::Everybody),
    }
}

fn is_open_to_all(acls: &[Acl]) -> bool {
    let [Acl { principal, permission }] = acls else { return false };
    principal == EVERYBODY && permission == Permission::Manage.name()
}
