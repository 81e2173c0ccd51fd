//! dbt URLs, as users paste them.

use url::Url;

use crate::origin::{BadOrigin, Origin, with_scheme};

/// The parts of a pasted URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) origin: Origin,
    pub(crate) account: Option<u64>,
    pub(crate) project: Option<u64>,
    pub(crate) job: Option<u64>,
    pub(crate) run: Option<u64>,
}

/// Why a URL cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LinkError {
    #[error(transparent)]
    Origin(#[from] BadOrigin),
    /// The host serves something else, described here.
    #[error("it is {0}, not an account's own host such as ab123.us1.dbt.com")]
    OtherHost(&'static str),
}

impl Link {
    /// Parses any URL form of dbt's current pages, older pages and API. IDs are found by the path segment before them.
    pub(crate) fn parse(text: &str) -> Result<Link, LinkError> {
        let url = with_scheme(text).and_then(|text| Url::parse(&text).map_err(|_| BadOrigin::NotUrl))?;
        let origin = host(&url)?;
        // The oldest pages have their path after `#/`.
        let path = format!("{}/{}", url.path(), url.fragment().unwrap_or_default());
        let parts: Vec<&str> = path.split(['/', '?']).filter(|part| !part.is_empty()).collect();
        let number = |text: &str| {
            text.parse::<u64>().ok().filter(|id| *id > 0 && text.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let after = |word: &str| parts.windows(2).find(|pair| pair[0] == word).and_then(|pair| number(pair[1]));
        let before_projects = parts.windows(2).find(|pair| pair[1] == "projects").and_then(|pair| number(pair[0]));
        Ok(Link {
            origin,
            account: after("accounts").or(before_projects).or_else(|| after("deploy")),
            project: after("projects"),
            job: after("jobs"),
            run: after("runs"),
        })
    }
}

/// Parses a host, as in `--dbt-host` and `DBT_CLOUD_HOST`.
pub(crate) fn parse_host(text: &str) -> Result<Origin, LinkError> {
    let url = with_scheme(text).and_then(|text| Url::parse(&text).map_err(|_| BadOrigin::NotUrl))?;
    host(&url)
}

fn host(url: &Url) -> Result<Origin, LinkError> {
    let origin = Origin::of(url)?;
    let name = origin.host();
    let other = match name.split('.').next().unwrap_or_default() {
        "login" if origin.is_under("dbt.com") => Some("dbt's sign-in page"),
        "www" | "docs" | "status" if origin.is_under("getdbt.com") || origin.is_under("dbt.com") => {
            Some("a public page of dbt Labs")
        }
        _ if name.contains(".semantic-layer.") => Some("the Semantic Layer"),
        _ if name.contains(".metadata.") || name.starts_with("metadata.") => Some("the Discovery API"),
        _ => None,
    };
    match other {
        Some(what) => Err(LinkError::OtherHost(what)),
        None => Ok(origin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::print_stdout, reason = "the line is what the test is for")]
    fn a_host_is_taken_if_the_notebook_takes_it_too() {
        let table: serde_json::Value = serde_json::from_str(include_str!("../../tests/notebook/hosts.json")).unwrap();
        let accepted: Vec<(String, String)> = serde_json::from_value(table["accepted"].clone()).unwrap();
        let refused: Vec<String> = serde_json::from_value(table["refused"].clone()).unwrap();
        let rows = accepted.into_iter().map(|(text, origin)| (text, Some(origin)));
        let rows: Vec<_> = rows.chain(refused.into_iter().map(|text| (text, None))).collect();
        let wrong: Vec<_> = rows
            .iter()
            .map(|(text, origin)| (text, origin, parse_host(text).ok().map(|found| found.to_string())))
            .filter(|(_, origin, found)| *origin != found)
            .collect();
        println!("hosts of the program: {} of {}", rows.len() - wrong.len(), rows.len());
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn every_form_of_address_gives_its_ids() {
        for (text, account, project, job, run) in [
            (
                "https://ab123.us1.dbt.com/deploy/1234/projects/111111/jobs/222222",
                Some(1234),
                Some(111_111),
                Some(222_222),
                None,
            ),
            (
                "ab123.us1.dbt.com/deploy/1234/projects/111111/jobs/222222/settings?x=1",
                Some(1234),
                Some(111_111),
                Some(222_222),
                None,
            ),
            ("https://ab123.us1.dbt.com/deploy/1/projects/2/runs/3?tabId=artifacts", Some(1), Some(2), None, Some(3)),
            ("https://h.getdbt.com/next/deploy/1/projects/2/jobs/3/", Some(1), Some(2), Some(3), None),
            ("https://h.getdbt.com/#/accounts/1/projects/2/jobs/3/", Some(1), Some(2), Some(3), None),
            ("https://h.getdbt.com/next/settings/accounts/9/projects/2/", Some(9), Some(2), None, None),
            ("https://h.dbt.com/accounts/1/jobs/3/docs/", Some(1), None, Some(3), None),
            ("https://h.dbt.com/api/v2/accounts/1/jobs/3/run/", Some(1), None, Some(3), None),
            ("https://h.dbt.com/7/projects/2/environments/production", Some(7), Some(2), None, None),
            ("https://h.dbt.com/deploy/1/runs/70471805314449/", Some(1), None, None, Some(70_471_805_314_449)),
            ("http://127.0.0.1:8080/deploy/1/projects/2/jobs/3", Some(1), Some(2), Some(3), None),
            ("https://h.dbt.com/", None, None, None, None),
        ] {
            let link = Link::parse(text).unwrap();
            assert_eq!((link.account, link.project, link.job, link.run), (account, project, job, run), "{text}");
        }
    }

    #[test]
    fn hosts_that_serve_something_else_are_refused_by_name() {
        for text in [
            "https://www.getdbt.com/x",
            "login.dbt.com",
            "https://ab.metadata.us1.dbt.com/graphql",
            "ab.semantic-layer.us1.dbt.com",
        ] {
            assert!(matches!(Link::parse(text), Err(LinkError::OtherHost(_))), "{text}");
        }
        assert!(matches!(Link::parse("http://ab.us1.dbt.com/deploy/1"), Err(LinkError::Origin(BadOrigin::PlainHttp))));
    }
}
