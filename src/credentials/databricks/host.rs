//! The workspace's host, and which credentials may be sent to it.

use super::{AuthMethod, Place};
use crate::credentials::{Source, Sourced, expanded, two_different};
use crate::failure::{Code, Failure};
use crate::origin::{Origin, shown};

/// Whether the host is an account console, which serves no workspace.
fn is_account_console(host: &str) -> bool {
    Origin::parse(host)
        .is_ok_and(|origin| ["accounts.", "accounts-dod."].iter().any(|front| origin.host().starts_with(front)))
}

/// Parses a host from the user.
pub(crate) fn read_host(text: Sourced<String>) -> Result<Sourced<Origin>, Failure> {
    let Sourced { value, source } = expanded(text)?;
    if is_account_console(&value) {
        return Err(Failure::new(
            Code::InvalidInput,
            format!("{source} \"{}\" is an account console, not a workspace", shown(&value)),
        )
        .advise("use the URL in your browser when signed in to the workspace"));
    }
    Origin::parse(&value).map(|origin| Sourced::new(origin, source.clone())).map_err(|bad| {
            Failure::new(Code::InvalidInput, format!("{source} \"{}\" is invalid: {bad}", shown(&value)))
                .advise("use the URL in your browser when signed in to the workspace, such as https://dbc-a1b2345c-d6e7.cloud.databricks.com")
        })
}

pub(super) fn find_host(place: &Place<'_>) -> Result<Option<Sourced<Origin>>, Failure> {
    let variable = place.in_environment("host").map(read_host).transpose()?;
    let profile = place.in_profile("host").map(read_host).transpose()?;
    match (variable, profile) {
        (Some(variable), Some(profile)) if variable.value != profile.value => {
            Err(two_different("Databricks hosts", &variable, &profile))
        }
        (Some(found), _) | (None, Some(found)) => Ok(Some(found)),
        (None, None) => Ok(None),
    }
}

/// Refuses to send a credential that is not stored with its host, such as one from a variable, unless a flag or
/// variable names the host or it is one of Databricks' own.
pub(crate) fn check_credential_for_host(auth_method: &AuthMethod, host: &Sourced<Origin>) -> Result<(), Failure> {
    let named = match &host.source {
        Source::Flag(_) | Source::Variable(_) | Source::Typed => true,
        Source::Pasted(_)
        | Source::Keyring(_)
        | Source::Stdin
        | Source::File(_)
        | Source::Profile { .. }
        | Source::DbtFile { .. } => false,
    };
    if named || is_of_databricks(&host.value) || is_stored_with(auth_method, &host.source) {
        return Ok(());
    }
    let origin = &host.value;
    let what = auth_method.secret_source().map_or_else(|| auth_method.known_as(), Source::to_string);
    Err(Failure::new(
        Code::Contradiction,
        format!("{what} is not sent to {origin}: it is not a Databricks host, and only {} names it", host.source),
    )
    .advise(format!("only if {origin} is your workspace: set DATABRICKS_HOST to it")))
}

/// Whether the secret is stored together with the host.
fn is_stored_with(auth_method: &AuthMethod, host: &Source) -> bool {
    match (auth_method.secret_source(), host) {
        // A login is looked up by this host, and the prompt for a token shows the host.
        (Some(Source::Keyring(_) | Source::Typed), _) => true,
        (Some(Source::Profile { profile, file, .. }), Source::Profile { profile: other, file: other_file, .. }) => {
            (profile, file) == (other, other_file)
        }
        (
            Some(
                Source::Flag(_)
                | Source::Variable(_)
                | Source::Pasted(_)
                | Source::Stdin
                | Source::File(_)
                | Source::Profile { .. }
                | Source::DbtFile { .. },
            ),
            _,
        ) => false,
        (None, _) => auth_method.finds_its_login_by_host(),
    }
}

/// Whether the host is under a domain of Databricks.
pub(crate) fn is_of_databricks(origin: &Origin) -> bool {
    ["databricks.com", "cloud.databricks.us", "azuredatabricks.net", "databricks.azure.us", "databricks.azure.cn"]
        .into_iter()
        .any(|domain| origin.is_under(domain))
}
