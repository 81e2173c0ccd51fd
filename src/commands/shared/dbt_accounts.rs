//! The dbt accounts that a key can see.

use crate::dbt::{Account as Seen, list_accounts, list_accounts_v2};
use crate::failure::{Code, Failure, of_dbt};
use crate::http::{HttpError, Meaning, Reader, Writer};

/// The accounts that the key can see.
pub(in crate::commands) async fn accounts(dbt: &Reader) -> Result<Vec<Seen>, HttpError> {
    let page = match dbt.read(list_accounts()).await {
        // Older hosts lack the newer endpoint, with various responses; a host without either is
        // not dbt.
        Err(error) if error.is_status(404) => dbt.read(list_accounts_v2()).await.map_err(HttpError::of_wrong_host),
        answer => answer,
    };
    Ok(page?.rows)
}

/// Checks that the key can see this account.
pub(in crate::commands) async fn validate(dbt: &Writer, id: u64) -> Result<(), Failure> {
    let accounts = accounts(dbt).await.map_err(|error| of_accounts(&error))?;
    if accounts.iter().any(|account| account.id == id) {
        return Ok(());
    }
    Err(not_for_account(id, &accounts, dbt.origin()))
}

/// Why the accounts of a key could not be listed.
pub(in crate::commands) fn of_accounts(error: &HttpError) -> Failure {
    let check = "cannot check the key with dbt";
    let failure = match error.means() {
        Meaning::TokenInvalid | Meaning::TokenExpired => of_dbt("cannot use the dbt API key", error),
        Meaning::RightMissing | Meaning::OtherAccount => of_dbt("cannot see any dbt account with the key", error),
        Meaning::WrongHost => of_dbt(check, error).cause(format!("{} does not respond like dbt", error.origin)),
        Meaning::AddressBlocked
        | Meaning::NotInPlan
        | Meaning::Unpaid
        | Meaning::NotFound
        | Meaning::NotImplemented
        | Meaning::Other => of_dbt(check, error),
    };
    failure.state("nothing was written")
}

/// Accounts with their names, in one line.
pub(in crate::commands) fn listed(accounts: &[Seen]) -> String {
    let named = |name: &String| format!(" ({name})");
    let seen = accounts.iter();
    let seen = seen.map(|account| format!("{}{}", account.id, account.name.as_ref().map(named).unwrap_or_default()));
    if accounts.is_empty() { "none".to_owned() } else { seen.collect::<Vec<_>>().join(", ") }
}

/// The key is valid, but cannot see this account.
pub(in crate::commands) fn not_for_account(id: u64, accounts: &[Seen], origin: &str) -> Failure {
    let seen = listed(accounts);
    Failure::new(Code::NotFound, format!("nothing was written: the dbt API key is valid, but not for account {id}"))
        .cause(format!("the accounts that it can see at {origin}: {seen}"))
        .advise("check DBT_CLOUD_ACCOUNT_ID or --dbt-account, or create a key in that account; an account with IP restrictions looks the same from a blocked address")
}
