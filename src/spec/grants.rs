//! `--grant PRINCIPAL[:LEVEL]` for scopes, notebooks and workflows, each with its own levels.

use std::fmt;
use std::str::FromStr;

use crate::databricks::permissions::{JobLevel, Level, NotebookLevel};
use crate::databricks::secrets::Permission;
use crate::failure::{Code, Failure};

/// The levels that the flag can grant on a kind of object.
pub(crate) trait Given: Level {
    /// Levels that can be granted, lowest first.
    const GIVEN: &'static [Self] = Self::ALL;
    /// Level if only a principal is given.
    const DEFAULT: Self;
}

impl Given for Permission {
    const DEFAULT: Permission = Permission::Read;
}

impl Given for NotebookLevel {
    const DEFAULT: NotebookLevel = NotebookLevel::CanRun;
}

impl Given for JobLevel {
    /// A job has exactly one owner, its creator.
    const GIVEN: &'static [JobLevel] = &[JobLevel::CanView, JobLevel::CanManageRun, JobLevel::CanManage];
    const DEFAULT: JobLevel = JobLevel::CanManageRun;
}

/// A principal and the level to grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GrantTo<L> {
    pub(crate) principal: String,
    pub(crate) level: L,
}

impl<L: Given> FromStr for GrantTo<L> {
    type Err = String;

    fn from_str(text: &str) -> Result<GrantTo<L>, String> {
        let (principal, level) = match text.rsplit_once(':') {
            Some((principal, level)) => {
                let named = L::named(&level.to_ascii_uppercase()).filter(|level| L::GIVEN.contains(level));
                (principal, named.ok_or_else(|| format!("the level must be {}", names::<L>(" or ")))?)
            }
            None => (text, L::DEFAULT),
        };
        let principal = principal.trim();
        if principal.is_empty() {
            return Err("the principal is empty".to_owned());
        }
        if principal.chars().any(char::is_control) {
            return Err("it contains a control character".to_owned());
        }
        Ok(GrantTo { principal: principal.to_owned(), level })
    }
}

/// In the form of the flag.
impl<L: Given> fmt::Display for GrantTo<L> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GrantTo { principal, level } = self;
        if L::DEFAULT == *level {
            return formatter.write_str(principal);
        }
        write!(formatter, "{principal}:{}", level.name())
    }
}

/// The levels that can be granted, such as `A, B or C`.
fn names<L: Given>(last: &str) -> String {
    let names: Vec<&str> = L::GIVEN.iter().map(|level| level.name()).collect();
    let Some((highest, others)) = names.split_last() else { return String::new() };
    others.join(", ") + last + highest
}

/// One grant per principal; different levels for one are a contradiction.
pub(crate) fn settle<L: Given>(given: Vec<GrantTo<L>>) -> Result<Vec<GrantTo<L>>, Failure> {
    let mut settled: Vec<GrantTo<L>> = Vec::new();
    for grant in given {
        let GrantTo { principal, level } = &grant;
        match settled.iter().find(|known| known.principal.eq_ignore_ascii_case(principal)) {
            None => settled.push(grant),
            Some(known) if known.level == *level => {}
            Some(known) => {
                return Err(Failure::new(
                    Code::Contradiction,
                    format!("--grant gives {principal} both {} and {}", known.level.name(), level.name()),
                )
                .advise(format!(
                    "name each principal once; each level includes those before it: {}",
                    names::<L>(", ")
                )));
            }
        }
    }
    Ok(settled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<L: Given>(text: &str) -> Result<(String, L), String> {
        text.parse::<GrantTo<L>>().map(|GrantTo { principal, level }| (principal, level))
    }

    #[test]
    fn a_principal_comes_with_a_level_or_gets_the_usual_one() {
        let to = |principal: &str| principal.to_owned();
        for (text, parsed) in [
            ("ana@example.com", Ok((to("ana@example.com"), Permission::Read))),
            ("data team:WRITE", Ok((to("data team"), Permission::Write))),
            ("odd:name:manage", Ok((to("odd:name"), Permission::Manage))),
            ("ana@example.com:OWN", Err("the level must be READ, WRITE or MANAGE".to_owned())),
            (":READ", Err("the principal is empty".to_owned())),
            ("", Err("the principal is empty".to_owned())),
            ("a\nb", Err("it contains a control character".to_owned())),
        ] {
            assert_eq!(read(text), parsed, "{text:?}");
        }
        assert_eq!(read("team"), Ok((to("team"), NotebookLevel::CanRun)));
        assert_eq!(read("team:can_edit"), Ok((to("team"), NotebookLevel::CanEdit)));
        assert_eq!(read("team:can_manage_run"), Ok((to("team"), JobLevel::CanManageRun)));
        for text in ["team:CAN_RUN", "team:IS_OWNER"] {
            let reason = "the level must be CAN_VIEW, CAN_MANAGE_RUN or CAN_MANAGE";
            assert_eq!(read::<JobLevel>(text), Err(reason.to_owned()));
        }
        assert_eq!(read("team"), Ok((to("team"), JobLevel::CanManageRun)));
    }

    #[test]
    fn a_grant_is_printed_as_the_flag_takes_it() {
        for text in ["team", "team:MANAGE", "a:b:WRITE"] {
            assert_eq!(text.parse::<GrantTo<Permission>>().unwrap().to_string(), text);
        }
        assert_eq!("team:READ".parse::<GrantTo<Permission>>().unwrap().to_string(), "team");
        assert_eq!("team:CAN_VIEW".parse::<GrantTo<JobLevel>>().unwrap().to_string(), "team:CAN_VIEW");
    }

    #[test]
    fn two_levels_for_one_principal_are_a_contradiction_and_the_same_twice_is_once() {
        let settled = |texts: &[&str]| {
            let given = texts.iter().map(|text| text.parse::<GrantTo<Permission>>().unwrap()).collect();
            settle(given).map(|grants| grants.len()).map_err(|failure| failure.code)
        };
        assert_eq!(settled(&["a", "A:READ", "b"]), Ok(2));
        assert_eq!(settled(&["a", "a:WRITE"]), Err(Code::Contradiction));
    }
}
