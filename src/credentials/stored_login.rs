//! Logins that `auth login` stored in the keyring.

use super::dbt_file::Active;
use super::{Source, Sourced};
use crate::failure::{Code, Failure};
use crate::keyring::{Keyring, KeyringError, Owner};
use crate::origin::Origin;
use crate::secret::UncheckedSecret;

/// The name in the list of sources that were tried.
pub(super) const NAME: &str = "keyring";

/// Why the keyring has no usable login.
#[derive(Debug)]
pub(super) enum NoLogin {
    /// The reason.
    None(String),
    /// It may have a login, but cannot be read.
    Unreadable(KeyringError),
    /// It has several logins, and none is selected.
    Ambiguous(Failure),
}

impl From<KeyringError> for NoLogin {
    fn from(trouble: KeyringError) -> NoLogin {
        if trouble.hides() { NoLogin::Unreadable(trouble) } else { NoLogin::None(trouble.to_string()) }
    }
}

/// Finds the only dbt login for this host and account, each if given.
pub(super) fn dbt(host: Option<&Origin>, id: Option<u64>, keyring: &Keyring) -> Result<Active, NoLogin> {
    // With both given, the list of logins is not needed.
    let owners = if let (Some(host), Some(account)) = (host, id) {
        vec![Owner::Dbt { host: host.to_string(), account }]
    } else {
        let host = host.map(ToString::to_string);
        let mut owners = keyring.logins()?;
        owners.retain(|owner| match owner {
            Owner::Dbt { host: theirs, account } => {
                host.as_ref().is_none_or(|host| host == theirs) && id.is_none_or(|id| id == *account)
            }
            Owner::Databricks { host: _, workspace: _ } => false,
        });
        owners
    };
    let (owner, token) = the_one(owners, keyring, "dbt accounts", || match (host, id) {
        (Some(host), Some(id)) => format!("no login for account {id} at {host}"),
        (Some(host), None) => format!("no login for dbt at {host}"),
        (None, Some(id)) => format!("no login for dbt account {id}"),
        (None, None) => "no login for dbt".to_owned(),
    })
    .map_err(|no_login| {
        let name = "name one with --dbt-host and --dbt-account, or with DBT_CLOUD_HOST and DBT_CLOUD_ACCOUNT_ID";
        advised(no_login, name)
    })?;
    let Owner::Dbt { host, account } = &owner else {
        return Err(NoLogin::None("no login for dbt".to_owned()));
    };
    let source = Source::Keyring(owner.clone());
    let host = origin(host, &source)?;
    Ok(Active {
        host: Sourced::new(host, source.clone()),
        account: Some(Sourced::new(*account, source.clone())),
        token: Ok(Sourced::new(token, source)),
        remarks: Vec::new(),
    })
}

/// Finds the only Databricks login for this host and workspace ID, each if given. A login stored without an ID is for
/// the whole host, and comes after one with the given ID.
pub(super) fn databricks(
    host: Option<&Origin>,
    workspace: Option<&str>,
    keyring: &Keyring,
) -> Result<(Sourced<Origin>, Sourced<UncheckedSecret>), NoLogin> {
    let listed = match (keyring.logins(), host) {
        // With the host given, an unreadable list does not matter.
        (Err(trouble), Some(_)) if trouble.is_of_an_entry() => Vec::new(),
        (listed, _) => listed?,
    };
    let named = host.map(ToString::to_string);
    let mut of_the_id = Vec::new();
    let mut of_the_host = Vec::new();
    let whole = named.iter().map(|host| Owner::Databricks { host: host.clone(), workspace: None });
    let with_id = named
        .iter()
        .zip(workspace)
        .map(|(host, id)| Owner::Databricks { host: host.clone(), workspace: Some(id.to_owned()) });
    for owner in listed.into_iter().chain(with_id).chain(whole) {
        let Owner::Databricks { host, workspace: id } = &owner else { continue };
        let fits = named.as_ref().is_none_or(|named| named == host)
            && (workspace.is_none() || id.is_none() || id.as_deref() == workspace);
        let list = if workspace.is_some() && id.is_some() { &mut of_the_id } else { &mut of_the_host };
        if fits && !list.contains(&owner) {
            list.push(owner);
        }
    }
    let none = || {
        let at = host.map(|host| format!(" at {host}")).unwrap_or_default();
        match workspace {
            Some(id) => format!("no login for Databricks workspace {id}{at}"),
            None => format!("no login for Databricks{at}"),
        }
    };
    let what = "Databricks workspaces";
    let found = match the_one(of_the_id, keyring, what, none) {
        Err(NoLogin::None(_)) => the_one(of_the_host, keyring, what, none),
        found => found,
    };
    let (owner, token) = found.map_err(|no_login| match host {
        None => advised(no_login, "name one with DATABRICKS_HOST, and DATABRICKS_WORKSPACE_ID if a host has several"),
        Some(host) => advised(
            advised(no_login, "name one with DATABRICKS_WORKSPACE_ID"),
            &format!("or, if one of them has no ID, remove it: `dbtrigger auth logout --databricks {host}`"),
        ),
    })?;
    let (Owner::Databricks { host, workspace: _ } | Owner::Dbt { host, account: _ }) = &owner;
    let source = Source::Keyring(owner.clone());
    Ok((Sourced::new(origin(host, &source)?, source.clone()), Sourced::new(token, source)))
}

fn origin(host: &str, source: &Source) -> Result<Origin, NoLogin> {
    Origin::parse(host).map_err(|bad| NoLogin::None(format!("{source} has no host: {bad}")))
}

fn advised(no_login: NoLogin, how: &str) -> NoLogin {
    match no_login {
        NoLogin::Ambiguous(failure) => NoLogin::Ambiguous(failure.advise(how)),
        NoLogin::None(_) | NoLogin::Unreadable(_) => no_login,
    }
}

/// Finds the only login that still has a token; the user may have removed others with the system's tools.
fn the_one(
    owners: Vec<Owner>,
    keyring: &Keyring,
    what: &str,
    none: impl Fn() -> String,
) -> Result<(Owner, UncheckedSecret), NoLogin> {
    let mut there = Vec::new();
    for owner in owners {
        if let Some(token) = keyring.token(&owner)? {
            there.push((owner, token));
        }
    }
    if there.len() > 1 {
        let failure = Failure::new(
            Code::MissingInput,
            format!("the keyring has logins for several {what}, and none is selected"),
        );
        let failure = there.iter().fold(failure, |failure, (owner, _)| failure.cause(owner.to_string()));
        return Err(NoLogin::Ambiguous(failure));
    }
    there.pop().ok_or_else(|| NoLogin::None(none()))
}

#[cfg(test)]
mod tests;
