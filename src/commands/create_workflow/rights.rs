//! Whether the run-as identity can read notebook and key, and the grants that it lacks.

use super::prerequisites::{Prerequisites, at};
use crate::databricks::has_no_acls;
use crate::databricks::me::groups_of;
use crate::databricks::permissions::{Level as _, NotebookLevel, Principal, notebook_permissions};
use crate::databricks::secrets::{ADMINISTRATORS, EVERYBODY, Permission, ScopeName, acls};
use crate::databricks::workspace::{NotebookPath, get_status};
use crate::engine::kinds::{Grant, GrantWant, NotebookGrant};
use crate::engine::{Consents, Planned, Step};
use crate::failure::{Code, Failure};
use crate::http::{HttpError, Reader, Rows};
use crate::text::quoted;

/// Whether an identity can read one object.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Access {
    Has,
    Lacks,
    /// Why it is unknown.
    Unknown(String),
}

/// The access of one identity.
pub(crate) struct Rights {
    who: String,
    path: NotebookPath,
    scope: ScopeName,
    key: String,
    notebook: Access,
    secret: Access,
}

/// Looks up who can read notebook and scope.
pub(crate) async fn look(reader: &Reader, who: &str, prerequisites: &Prerequisites) -> Option<Rights> {
    // An invalid scope name is reported with the key.
    let scope = prerequisites.scope.parse::<ScopeName>().ok()?;
    let (on_notebook, on_scope) =
        tokio::join!(readers_of_notebook(reader, &prerequisites.path), readers_of_scope(reader, &scope));
    let by_name = |readers: &Readers| match readers {
        Ok(Some(Named { names, unreadable: _ })) => {
            names.iter().any(|name| name.eq_ignore_ascii_case(who) || name == EVERYBODY)
        }
        Ok(None) | Err(_) => true,
    };
    // Groups are requested only if they make a difference.
    let groups = if by_name(&on_notebook) && by_name(&on_scope) { Ok(None) } else { reader.read(groups_of(who)).await };
    let access = |readers: Readers| match readers {
        Ok(None) => Access::Has,
        Ok(Some(Named { names, unreadable })) => match judge(who, &names, groups.as_ref().map(Option::as_deref)) {
            Access::Lacks if unreadable > 0 => Access::Unknown("an entry of its access list cannot be read".to_owned()),
            judged @ (Access::Has | Access::Lacks | Access::Unknown(_)) => judged,
        },
        Err(why) => Access::Unknown(why.to_string()),
    };
    let (notebook, secret) = (access(on_notebook), access(on_scope));
    Some(Rights {
        who: who.to_owned(),
        path: prerequisites.path.clone(),
        scope,
        key: prerequisites.key.clone(),
        notebook,
        secret,
    })
}

/// Who can read it; `None`: everyone, since the workspace has no access control.
type Readers = Result<Option<Named>, HttpError>;

/// Principals with read access, and the number of entries that could not be parsed.
struct Named {
    names: Vec<String>,
    unreadable: usize,
}

async fn readers_of_notebook(reader: &Reader, path: &NotebookPath) -> Readers {
    let Some(id) = reader.read(get_status(path)).await?.object_id else {
        return Ok(Some(Named { names: vec![ADMINISTRATORS.to_owned()], unreadable: 0 }));
    };
    match reader.read(notebook_permissions(id)).await {
        // Every permission level includes reading.
        Ok(Rows { rows, unreadable }) => {
            let known = rows.into_iter().filter(|held| NotebookLevel::named(&held.level).is_some());
            Ok(Some(Named { names: known.map(|held| held.principal).collect(), unreadable }))
        }
        Err(error) if has_no_acls(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn readers_of_scope(reader: &Reader, scope: &ScopeName) -> Readers {
    match reader.read(acls(scope)).await {
        Ok(Rows { rows, unreadable }) => {
            let known = rows.into_iter().filter(|acl| Permission::named(&acl.permission).is_some());
            // Admins can manage every scope and are not listed.
            let names = known.map(|acl| acl.principal).chain([ADMINISTRATORS.to_owned()]).collect();
            Ok(Some(Named { names, unreadable }))
        }
        Err(error) if has_no_acls(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the identity is named directly or through a group.
fn judge(who: &str, names: &[String], groups: Result<Option<&[String]>, &HttpError>) -> Access {
    if names.iter().any(|name| name.eq_ignore_ascii_case(who) || name == EVERYBODY) {
        return Access::Has;
    }
    let mut others: Vec<&str> = names.iter().map(String::as_str).collect();
    others.retain(|name| Principal::of(name) == Principal::Group);
    others.sort_unstable();
    others.dedup();
    if others.is_empty() {
        return Access::Lacks;
    }
    match groups {
        Ok(Some(groups)) if groups.iter().any(|group| others.contains(&group.as_str())) => Access::Has,
        // The list may lack parent groups of its groups.
        Ok(Some(groups)) if groups.iter().any(|group| group != EVERYBODY) => Access::Unknown(format!(
            "the groups of {who} ({}) may be members of one that can: {}",
            groups.join(", "),
            others.join(", ")
        )),
        Ok(Some(_)) => Access::Lacks,
        Ok(None) => Access::Unknown(format!("it may be a member of a group that can: {}", others.join(", "))),
        Err(error) => {
            Access::Unknown(format!("it may be a member of a group that can ({}): {error}", others.join(", ")))
        }
    }
}

/// The grants to add. Unknown access is granted too; at worst it already existed through a group.
pub(super) async fn grants(reader: &Reader, who: &str, prerequisites: &Prerequisites) -> Result<Vec<Planned>, Failure> {
    let Ok(scope) = prerequisites.scope.parse::<ScopeName>() else { return Ok(Vec::new()) };
    let (principal, path, none) = (who.to_owned(), prerequisites.path.clone(), Consents::default());
    let of_secret = GrantWant { scope, principal: principal.clone(), permission: Permission::Read };
    let of_notebook = NotebookGrant { object: path, principal, level: NotebookLevel::CanRun };
    let (rights, of_secret, of_notebook) = tokio::join!(
        look(reader, who, prerequisites),
        Step::<Grant>::plan(reader, of_secret, &none),
        Step::<NotebookGrant>::plan(reader, of_notebook, &none)
    );
    let (of_secret, of_notebook) = (of_secret?, of_notebook?);
    let (secret, notebook) =
        rights.map_or((true, true), |rights| (rights.secret == Access::Has, rights.notebook == Access::Has));
    // Existing direct grants are shown as kept; access through a group is not granted again.
    let secret = (!secret || !of_secret.writes()).then_some(Planned::Grant(of_secret));
    let notebook = (!notebook || !of_notebook.writes()).then_some(Planned::NotebookGrant(of_notebook));
    Ok(secret.into_iter().chain(notebook).collect())
}

impl Rights {
    /// Refuses missing access, which would fail in every run. Returns warnings for unknown access.
    pub(crate) fn check(&self) -> Result<Vec<String>, Failure> {
        let Rights { who, path, scope, key, notebook, secret } = self;
        let on_scope = format!(
            "dbtrigger init-secrets --scope {} --key {} --grant {}",
            quoted(scope.as_str()),
            quoted(key),
            quoted(&format!("{who}:READ"))
        );
        let on_notebook =
            format!("dbtrigger deploy-notebook{} --grant {}", at(path), quoted(&format!("{who}:CAN_RUN")));
        let (mut warnings, mut lacking, mut commands) = (Vec::new(), Vec::new(), Vec::new());
        for (what, access, command) in [
            (format!("the secret scope {scope}"), secret, on_scope),
            (format!("the notebook {path}"), notebook, on_notebook),
        ] {
            match access {
                Access::Has => {}
                Access::Lacks => {
                    commands.push((format!("grant access to {what}"), command));
                    lacking.push(what);
                }
                Access::Unknown(why) => warnings.push(format!(
                    "cannot tell whether the run-as identity {who} can read {what}: {why}; grant access with --grant-run-as, or test it with --check"
                )),
            }
        }
        if lacking.is_empty() {
            return Ok(warnings);
        }
        let failure = Failure::new(
            Code::NotAllowed,
            format!("the run-as identity {who} cannot read {}, so every run would fail", lacking.join(" and ")),
        );
        Err(commands.into_iter().fold(failure, |failure, (label, command)| failure.run(label, command)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_read_by_name_with_everybody_or_through_a_group_is_told_from_who_may_not() {
        let owned = |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() };
        let bo = "bo@example.com";
        for (names, groups, expected) in [
            (&["Bo@example.com"][..], None, "has"),
            (&["users"], None, "has"),
            (&["ana@example.com"], None, "lacks"),
            (&["ana@example.com", "admins"], Some(&["users"][..]), "lacks"),
            (&["admins"], Some(&["users", "admins"]), "has"),
            (&["data-team"], Some(&["data-team"]), "has"),
            (
                &["data-team", "admins"],
                Some(&["users", "analysts"]),
                "may be members of one that can: admins, data-team",
            ),
            (&["data-team", "admins"], None, "may be a member of a group that can: admins, data-team"),
        ] {
            let groups = groups.map(owned);
            let said = match judge(bo, &owned(names), Ok(groups.as_deref())) {
                Access::Has => "has".to_owned(),
                Access::Lacks => "lacks".to_owned(),
                Access::Unknown(why) => why,
            };
            assert!(said.ends_with(expected), "{names:?} {groups:?}: {said}");
        }
    }
}
