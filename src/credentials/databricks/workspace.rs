//! The workspace ID, for hosts that serve several workspaces.

use url::Url;

use super::Place;
use super::host::{find_host, read_host};
use crate::context::Environment;
use crate::credentials::{Source, Sourced, two_different};
use crate::failure::{Code, Failure};
use crate::keyring::Owner;
use crate::origin::{Origin, shown, with_scheme};

/// A host, with the workspace ID if known.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    pub(crate) host: Sourced<Origin>,
    pub(crate) id: Option<Sourced<String>>,
}

/// The workspace named by a flag, or by the environment or a profile. Stored logins do not count.
pub(crate) fn named_workspace(
    flag: Option<Sourced<String>>,
    environment: &Environment,
) -> Result<Option<Workspace>, Failure> {
    let place = Place::find(environment)?;
    let Some(flag) = flag else {
        let Some(host) = find_host(&place)? else { return Ok(None) };
        return Ok(Some(Workspace { host, id: find(&place)? }));
    };
    let host = read_host(flag.clone())?;
    // An ID from elsewhere counts unless it is for another host.
    let near = match find_host(&place) {
        Ok(other) if other.as_ref().is_none_or(|other| other.value == host.value) => Some(&place),
        Ok(_) | Err(_) => None,
    };
    Ok(Some(Workspace { host, id: beside(flag, near)? }))
}

/// The workspace ID from variables, profile, and the query of a host copied from a browser. Different IDs are an error.
pub(super) fn find(place: &Place<'_>) -> Result<Option<Sourced<String>>, Failure> {
    agreed(said(place)?)
}

/// The workspace ID for a host named by a flag. `place` is `None` if the environment and profile are about another
/// host.
fn beside(flag: Sourced<String>, place: Option<&Place<'_>>) -> Result<Option<Sourced<String>>, Failure> {
    let theirs = place.map(said).transpose()?.unwrap_or_default();
    agreed([copied(Some(flag))?].into_iter().chain(theirs))
}

/// The workspace ID that a keyring login was stored for.
pub(super) fn of_login(source: &Source) -> Option<Sourced<String>> {
    let Source::Keyring(Owner::Databricks { host: _, workspace: Some(id) }) = source else { return None };
    Some(Sourced::new(id.clone(), source.clone()))
}

fn own(id: Option<Sourced<String>>) -> Result<Option<Sourced<String>>, Failure> {
    id.map(checked).transpose()
}

fn copied(host: Option<Sourced<String>>) -> Result<Option<Sourced<String>>, Failure> {
    own(host.and_then(|Sourced { value, source }| Some(Sourced::new(in_query(&value)?, source))))
}

fn said(place: &Place<'_>) -> Result<[Option<Sourced<String>>; 4], Failure> {
    Ok([
        own(place.in_environment("workspace_id"))?,
        copied(place.in_environment("host"))?,
        own(place.in_profile("workspace_id"))?,
        copied(place.in_profile("host"))?,
    ])
}

fn agreed(said: impl IntoIterator<Item = Option<Sourced<String>>>) -> Result<Option<Sourced<String>>, Failure> {
    let mut said = said.into_iter().flatten();
    let Some(first) = said.next() else { return Ok(None) };
    match said.find(|other| other.value != first.value) {
        None => Ok(Some(first)),
        Some(other) => Err(two_different("Databricks workspace IDs", &first, &other)),
    }
}

/// Checks that the ID is safe in a header: letters, digits, `-` and `_`.
fn checked(id: Sourced<String>) -> Result<Sourced<String>, Failure> {
    let sign = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !id.value.is_empty() && id.value.bytes().all(sign) {
        return Ok(id);
    }
    let Sourced { value, source } = id;
    Err(Failure::new(Code::InvalidInput, format!("{source} \"{}\" is not a workspace ID", shown(&value)))
        .advise("use the number after `o=` in the browser's address bar when signed in to the workspace"))
}

/// The ID from `?o=` or `?workspace_id=` if it is a number, or from `?w=`.
pub(crate) fn in_query(host: &str) -> Option<String> {
    let url = Url::parse(&with_scheme(host).ok()?).ok()?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    url.query_pairs().find_map(|(name, value)| match &*name {
        "o" | "workspace_id" => digits(&value).then(|| value.into_owned()),
        "w" => (!value.is_empty()).then(|| value.into_owned()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_from_the_browser_names_the_workspace() {
        for (host, id) in [
            ("https://one.databricks.com/?o=12", Some("12")),
            ("one.databricks.com/jobs?a=7&workspace_id=13", Some("13")),
            ("https://one.databricks.com/?w=ab-12", Some("ab-12")),
            ("https://one.databricks.com/?o=12#job/3", Some("12")),
            ("https://one.databricks.com/?o=mine", None),
            ("https://one.databricks.com/?w=", None),
            ("https://one.databricks.com/#?o=12", None),
            ("https://one.databricks.com", None),
            ("", None),
        ] {
            assert_eq!(in_query(host).as_deref(), id, "{host}");
        }
    }
}
