//! Who else may use the scope, as people say it.

use std::fmt;
use std::str::FromStr;

use crate::commands::quoted;
use crate::databricks::secrets::{EVERYBODY, Permission};
use crate::failure::{Code, Failure};

/// A principal and what it should be able to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::commands) struct GrantTo {
    pub(in crate::commands) principal: String,
    pub(super) permission: Permission,
}

#[derive(Debug, PartialEq, Eq)]
pub(in crate::commands) struct BadGrant(&'static str);

impl fmt::Display for BadGrant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl std::error::Error for BadGrant {}

impl FromStr for GrantTo {
    type Err = BadGrant;

    fn from_str(text: &str) -> Result<GrantTo, BadGrant> {
        let (principal, permission) = match text.rsplit_once(':') {
            None => (text, Permission::Read),
            Some((principal, level)) => (
                principal,
                Permission::named(&level.to_ascii_uppercase())
                    .ok_or(BadGrant("the level behind the colon is READ, WRITE or MANAGE"))?,
            ),
        };
        let principal = principal.trim();
        if principal.is_empty() {
            return Err(BadGrant("it names nobody"));
        }
        if principal.chars().any(char::is_control) {
            return Err(BadGrant("it has a control character in it"));
        }
        Ok(GrantTo { principal: principal.to_owned(), permission })
    }
}

/// One grant per principal; two levels for one are a contradiction. The group of everybody takes a consent of its own.
pub(in crate::commands) fn settle_grants(
    grants: Vec<GrantTo>,
    accept_shared_scope: bool,
) -> Result<Vec<GrantTo>, Failure> {
    let mut settled: Vec<GrantTo> = Vec::new();
    for grant in grants {
        if grant.principal.eq_ignore_ascii_case(EVERYBODY) && !accept_shared_scope {
            return Err(Failure::new(
                Code::Refused,
                "--grant users would let everybody in this workspace read the dbt API key; nothing was written.",
            )
            .advise("name the user, the group or the service principal that the workflow runs as, such as --grant data-engineers")
            .advise("to do it all the same, add --accept-shared-scope"));
        }
        match settled.iter().find(|known| known.principal.eq_ignore_ascii_case(&grant.principal)) {
            None => settled.push(grant),
            Some(known) if known.permission == grant.permission => {}
            Some(known) => {
                let (principal, one, two) = (&grant.principal, known.permission.name(), grant.permission.name());
                return Err(Failure::new(
                    Code::Contradiction,
                    format!("--grant names {principal} with {one} and with {two}."),
                )
                .advise("name each principal once; WRITE includes READ, and MANAGE both"));
            }
        }
    }
    Ok(settled)
}

/// The flags that say again who is meant to read the key.
pub(super) fn repeated(grants: &[GrantTo]) -> String {
    let level = |permission: Permission| match permission {
        Permission::Read => String::new(),
        Permission::Write | Permission::Manage => format!(":{}", permission.name()),
    };
    let flag = |GrantTo { principal, permission }: &GrantTo| {
        format!(" --grant {}", quoted(&format!("{principal}{}", level(*permission))))
    };
    grants.iter().map(flag).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_comes_with_a_level_or_reads() {
        let grant = |principal: &str, permission| Ok(GrantTo { principal: principal.to_owned(), permission });
        for (text, parsed) in [
            ("ana@example.com", grant("ana@example.com", Permission::Read)),
            ("data team:WRITE", grant("data team", Permission::Write)),
            ("odd:name:manage", grant("odd:name", Permission::Manage)),
            ("ana@example.com:OWN", Err(BadGrant("the level behind the colon is READ, WRITE or MANAGE"))),
            (":READ", Err(BadGrant("it names nobody"))),
            ("", Err(BadGrant("it names nobody"))),
            ("a\nb", Err(BadGrant("it has a control character in it"))),
        ] {
            assert_eq!(text.parse::<GrantTo>(), parsed, "{text:?}");
        }
    }

    #[test]
    fn two_levels_for_one_principal_are_a_contradiction_and_the_same_twice_is_once() {
        let grants = |texts: &[&str]| settle_grants(texts.iter().map(|text| text.parse().unwrap()).collect(), false);
        assert_eq!(grants(&["a", "A:READ", "b"]).unwrap().len(), 2);
        assert_eq!(grants(&["a", "a:WRITE"]).unwrap_err().code, Code::Contradiction);
        assert_eq!(grants(&["a", "Users:WRITE"]).unwrap_err().code, Code::Refused);
    }
}
