//! Grants on the scope.

use crate::databricks::secrets::{EVERYBODY, Permission};
use crate::failure::{Code, Failure};
use crate::spec::grants::{self, GrantTo};
use crate::text::quoted;

/// The flags that repeat these grants.
pub(super) fn repeated(grants: &[GrantTo<Permission>]) -> String {
    let flag = |grant: &GrantTo<Permission>| format!(" --grant {}", quoted(&grant.to_string()));
    grants.iter().map(flag).collect()
}

/// A grant to the group of all users requires a consent.
pub(in crate::commands) fn settle_grants(
    given: Vec<GrantTo<Permission>>,
    accept_shared_scope: bool,
) -> Result<Vec<GrantTo<Permission>>, Failure> {
    grants::settle(given, |GrantTo { principal, level: _ }| {
        (principal.eq_ignore_ascii_case(EVERYBODY) && !accept_shared_scope).then(|| {
            Failure::new(
                Code::Refused,
                "--grant users would let every user of this workspace read the dbt API key; nothing was written",
            )
            .advise(
                "name the user, group, or service principal that the workflow runs as, such as --grant data-engineers",
            )
            .unless("--accept-shared-scope")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_reads_the_key_only_with_consent() {
        let everybody = || vec!["Users:WRITE".parse().unwrap()];
        assert_eq!(settle_grants(everybody(), false).unwrap_err().code, Code::Refused);
        assert_eq!(settle_grants(everybody(), true).unwrap().len(), 1);
    }
}
