//! dbt accounts.

use serde::Deserialize;

use super::envelope::{lenient_number, optional, page};
use crate::http::{Call, Path, Read};

use super::envelope::Page;

/// An account, with the fields that we use.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Account {
    #[serde(deserialize_with = "lenient_number")]
    pub(crate) id: u64,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) name: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) plan: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) locked: Option<bool>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) lock_reason: Option<String>,
}

/// The accounts that the token can access; currently always one.
pub(crate) fn list_accounts() -> Read<Page<Account>> {
    Read::new(Call::get("accounts/list", Path::new("/api/v3/accounts/")), page)
}

/// The accounts from the older endpoint, for hosts without v3.
pub(crate) fn list_accounts_v2() -> Read<Page<Account>> {
    Read::new(Call::get("accounts/list", Path::new("/api/v2/accounts/")), page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_ends_with_a_slash() {
        assert_eq!(list_accounts().call.target(), "/api/v3/accounts/");
        assert_eq!(list_accounts_v2().call.target(), "/api/v2/accounts/");
    }

    #[test]
    fn fields_that_are_only_shown_may_have_any_type() {
        let account: Account =
            serde_json::from_str(r#"{"id":70403103916712,"name":7,"locked":null,"new":[]}"#).unwrap();
        assert_eq!((account.id, account.name, account.locked), (70_403_103_916_712, None, None));
    }
}
