//! Access to a scope for one principal. Levels are raised, never lowered or removed.

use serde::Serialize;

use crate::databricks::is_missing;
use crate::databricks::secrets::{Permission, ScopeName, acl, put_acl};
use crate::engine::walk::Inputs;
use crate::engine::{Action, Change, Consents, Kind, Refusal, Step};
use crate::failure::{Code, Failure};
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
            Err(error) if error.code() == Some("FEATURE_DISABLED") => Ok(Some(GrantHave::NoAcls)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn diff(want: &GrantWant, have: Option<&GrantHave>, _consents: &Consents) -> Action {
        let level = match have {
            None => return Action::Create,
            Some(GrantHave::NoAcls) => return no_acls(want).always(),
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
                reason: "--grant asks for more".to_owned(),
            }]),
            None => Action::Keep(Some(format!("has {level}, a level that this version does not know, and keeps it"))),
        }
    }

    async fn apply(writer: &Writer, step: &Step<Grant>, _inputs: &Inputs) -> Result<(), HttpError> {
        let GrantWant { scope, principal, permission } = &step.want;
        writer.put(put_acl(scope, principal, *permission)).await
    }

    fn shows(step: &Step<Grant>, now: Option<&GrantHave>) -> bool {
        match now {
            Some(GrantHave::Level(level)) => Permission::named(level).is_none_or(|found| found >= step.want.permission),
            Some(GrantHave::NoAcls) | None => false,
        }
    }

    fn explain(want: &GrantWant, error: &HttpError, failure: Failure) -> Failure {
        let GrantWant { scope, principal, permission: _ } = want;
        match error.code() {
            Some("FEATURE_DISABLED") => {
                let Refusal { what, diff: _, advice } = no_acls(want);
                let refused = Failure::new(Code::Refused, what).cause(error.to_string());
                advice.into_iter().fold(refused, Failure::advise)
            }
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

fn no_acls(want: &GrantWant) -> Refusal {
    let GrantWant { scope, principal, permission } = want;
    let level = permission.name();
    Refusal::new(format!(
        "{principal} is not given {level} on the secret scope {scope}: this workspace has no access lists for secrets (no Premium plan), so everybody can read every scope."
    ))
    .advise("store the key in a workspace with the Premium plan, whose secret scopes can be closed")
}
