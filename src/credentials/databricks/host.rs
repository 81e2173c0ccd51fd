//! The workspace's host, and which credentials may go there.

use super::{Place, Way};
use crate::credentials::{Source, Sourced};
use crate::failure::{Code, Failure};
use crate::origin::{Origin, shown};

/// databricks-api §1.4: such a host serves no workspace.
fn is_account_console(host: &str) -> bool {
    Origin::parse(host)
        .is_ok_and(|origin| ["accounts.", "accounts-dod."].iter().any(|front| origin.host().starts_with(front)))
}

/// A host as somebody wrote it.
pub(crate) fn read_host(text: Sourced<String>) -> Result<Sourced<Origin>, Failure> {
    let Sourced { value, source } = text;
    if is_account_console(&value) {
        return Err(Failure::new(
            Code::InvalidInput,
            format!("{source} is \"{}\", which is an account console and no workspace.", shown(&value)),
        )
        .advise("give the address in your browser when signed in to the workspace itself"));
    }
    Origin::parse(&value).map(|origin| Sourced::new(origin, source.clone())).map_err(|bad| {
            Failure::new(Code::InvalidInput, format!("{source} is \"{}\", which cannot be used: {bad}.", shown(&value)))
                .advise("give the address in your browser when signed in to the workspace, such as https://dbc-a1b2345c-d6e7.cloud.databricks.com")
        })
}

pub(super) fn find_host(place: &Place<'_>) -> Result<Option<Sourced<Origin>>, Failure> {
    let variable = place.in_environment("host").map(read_host).transpose()?;
    let profile = place.in_profile("host").map(read_host).transpose()?;
    match (variable, profile) {
        (Some(variable), Some(profile)) if variable.value != profile.value => Err(Failure::new(
            Code::Contradiction,
            format!(
                "Two sources name a different Databricks workspace: {} says {}, {} says {}.",
                variable.source, variable.value, profile.source, profile.value
            ),
        )
        .advise("drop one of the two, or name the profile with -p: then it is the whole identity")),
        (Some(found), _) | (None, Some(found)) => Ok(Some(found)),
        (None, None) => Ok(None),
    }
}

/// A token that belongs to no host, such as one of a variable, goes to a host that a variable names, or to one of Databricks' own.
pub(crate) fn may_go_there(way: &Way, host: &Sourced<Origin>) -> Result<(), Failure> {
    let from = match way {
        Way::Token(token) => &token.source,
        Way::ServicePrincipal { id, secret: _ } => &id.source,
        Way::GitHub { id: Some(id), .. } => &id.source,
        // What `databricks` and GitHub give is made for the host that was named to them.
        Way::GitHub { id: None, .. } | Way::Cli { .. } => return Ok(()),
    };
    let stored_apart = matches!(
        (from, &host.source),
        (Source::Variable(_) | Source::Stdin | Source::File(_), Source::Profile { .. } | Source::Keyring(_))
    );
    if !stored_apart || is_of_databricks(&host.value) {
        return Ok(());
    }
    let origin = &host.value;
    Err(Failure::new(
        Code::Refused,
        format!(
            "What {from} holds is not sent to {origin}: that is no host of Databricks', and only {} names it.",
            host.source
        ),
    )
    .advise(format!("only if you know that {origin} is your workspace: set DATABRICKS_HOST to it")))
}

/// databricks-api §1.4.
pub(crate) fn is_of_databricks(origin: &Origin) -> bool {
    ["databricks.com", "cloud.databricks.us", "azuredatabricks.net", "databricks.azure.us", "databricks.azure.cn"]
        .into_iter()
        .any(|domain| origin.is_under(domain))
}
