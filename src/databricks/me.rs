//! The identity of the token, and group membership.

use serde::Deserialize;

use super::permissions::Principal;
use super::rows;
use crate::http::{BodyProblem, Call, Path, Read, Rows, parse_json};

/// The identity of the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Me {
    /// The e-mail address of a user, or the application ID of a service principal.
    pub(crate) user_name: String,
    /// The workspace ID, for links.
    pub(crate) workspace_id: Option<u64>,
}

impl Me {
    /// The home folder, which only this identity and administrators can edit.
    pub(crate) fn home(&self) -> String {
        format!("/Users/{}", self.user_name)
    }
}

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "userName")]
    user_name: Option<String>,
}

/// `GET /api/2.0/preview/scim/v2/Me` without entitlements, which are slow.
pub(crate) fn me() -> Read<Me> {
    let call =
        Call::get("scim/me", Path::new("/api/2.0/preview/scim/v2/Me")).query("excludedAttributes", "entitlements");
    Read::new(call, |answer| {
        let Body { user_name } = parse_json(answer)?;
        let user_name = user_name
            .filter(|name| !name.is_empty())
            .ok_or_else(|| BodyProblem::Unreadable("it has no userName".to_owned()))?;
        let workspace_id = answer.headers().get("x-databricks-org-id");
        let workspace_id = workspace_id.and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
        Ok(Me { user_name, workspace_id })
    })
}

/// The names of the groups that a user or service principal is a direct member of; `None` if the response does not say.
pub(crate) fn groups_of(name: &str) -> Read<Option<Vec<String>>> {
    #[derive(Deserialize)]
    struct Group {
        display: Option<String>,
    }
    #[derive(Deserialize)]
    struct Row {
        groups: Option<Rows<Group>>,
    }
    #[derive(Deserialize)]
    struct Body {
        #[serde(rename = "Resources", default)]
        resources: Rows<Row>,
    }
    let (operation, path, field) = match Principal::of(name) {
        Principal::ServicePrincipal => {
            ("scim/service-principals", "/api/2.0/preview/scim/v2/ServicePrincipals", "applicationId")
        }
        Principal::User | Principal::Group => ("scim/users", "/api/2.0/preview/scim/v2/Users", "userName"),
    };
    // Characters that would break the quoted filter value are in no e-mail address and no ID.
    let plain: String = name.chars().filter(|sign| !matches!(sign, '"' | '\\')).collect();
    let call = Call::get(operation, Path::new(path)).query("filter", format!("{field} eq \"{plain}\""));
    Read::new(call, |answer| {
        let Rows { rows, unreadable: 0 } = parse_json::<Body>(answer)?.resources else { return Ok(None) };
        let [Row { groups: Some(Rows { rows: groups, unreadable }) }] = rows.as_slice() else { return Ok(None) };
        // An unreadable group still counts as a group.
        let unread = (*unreadable > 0).then(|| Some("one that cannot be read".to_owned()));
        Ok(groups.iter().map(|Group { display }| display.clone()).chain(unread).collect())
    })
}

/// The users with this name, as the service spells it; at most one.
pub(crate) fn users_named(name: &str) -> Read<Vec<String>> {
    #[derive(Deserialize)]
    struct Row {
        #[serde(rename = "userName")]
        user_name: Option<String>,
    }
    let plain: String = name.chars().filter(|sign| !matches!(sign, '"' | '\\')).collect();
    let call = Call::get("scim/users", Path::new("/api/2.0/preview/scim/v2/Users"))
        .query("filter", format!("userName eq \"{plain}\""));
    Read::new(call, |answer| {
        let users: Vec<Row> = rows(answer, "Resources")?;
        Ok(users.into_iter().filter_map(|row| row.user_name).collect())
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Response;

    use super::*;

    #[test]
    fn the_identity_is_asked_for_without_entitlements_and_the_workspace_id_is_in_a_header() {
        let Read { call, parse } = me();
        assert_eq!(call.target(), "/api/2.0/preview/scim/v2/Me?excludedAttributes=entitlements");
        let answer = Response::builder()
            .header("X-Databricks-Org-Id", "7405609032100112")
            .body(Bytes::from(r#"{"userName":"ana@example.com","active":true}"#))
            .unwrap();
        let me = parse(&answer).unwrap();
        assert_eq!((me.home().as_str(), me.workspace_id), ("/Users/ana@example.com", Some(7_405_609_032_100_112)));
        assert!(parse(&Response::new(Bytes::from("{}"))).is_err());
    }

    #[test]
    fn groups_are_read_of_the_one_that_is_named_and_what_is_not_said_is_not_known() {
        let Read { call, parse } = groups_of("bo\"@example.com");
        assert_eq!(call.target(), "/api/2.0/preview/scim/v2/Users?filter=userName+eq+%22bo%40example.com%22");
        let read = |text: &'static str| parse(&Response::new(Bytes::from(text))).unwrap();
        let both = r#"{"Resources":[{"groups":[{"display":"users"},{"display":"admins"}]}]}"#;
        assert_eq!(read(both), Some(vec!["users".to_owned(), "admins".to_owned()]));
        for text in [r#"{"Resources":[{}]}"#, "{}", r#"{"Resources":[{"groups":[{"value":"1"}]}]}"#] {
            assert_eq!(read(text), None, "{text}");
        }
        let call = groups_of("0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d11").call;
        assert!(call.target().starts_with("/api/2.0/preview/scim/v2/ServicePrincipals?filter=applicationId"));
    }
}
