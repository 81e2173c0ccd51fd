//! The id of the workspace, where one host serves several (databricks-api §1.4).

use url::Url;

use super::Place;
use crate::credentials::Sourced;
use crate::failure::{Code, Failure};
use crate::origin::{shown, with_scheme};

/// What is said about it, by a variable, a profile, or the query of a host that was copied from a browser. Two that differ
/// contradict each other.
pub(super) fn find(place: &Place<'_>) -> Result<Option<Sourced<String>>, Failure> {
    let own = |id: Option<Sourced<String>>| id.map(checked).transpose();
    let copied = |host: Option<Sourced<String>>| {
        own(host.and_then(|Sourced { value, source }| Some(Sourced::new(in_query(&value)?, source))))
    };
    let said = [
        own(place.in_environment("workspace_id"))?,
        copied(place.in_environment("host"))?,
        own(place.in_profile("workspace_id"))?,
        copied(place.in_profile("host"))?,
    ];
    let mut said = said.into_iter().flatten();
    let Some(first) = said.next() else { return Ok(None) };
    match said.find(|other| other.value != first.value) {
        None => Ok(Some(first)),
        Some(other) => Err(Failure::new(
            Code::Contradiction,
            format!(
                "Two sources name a different Databricks workspace: {} says {}, {} says {}.",
                first.source, first.value, other.source, other.value
            ),
        )
        .advise("drop one of the two, or name the profile with -p: then it is the whole identity")),
    }
}

/// The id goes into a header: letters, digits, `-` and `_`.
fn checked(id: Sourced<String>) -> Result<Sourced<String>, Failure> {
    let sign = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !id.value.is_empty() && id.value.bytes().all(sign) {
        return Ok(id);
    }
    let Sourced { value, source } = id;
    Err(Failure::new(Code::InvalidInput, format!("{source} is \"{}\", which is no id of a workspace.", shown(&value)))
        .advise("give the number behind `o=` in the browser's address bar when signed in to the workspace"))
}

/// `?o=` and `?workspace_id=` where they are numbers, `?w=` whatever it is.
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
