//! Who the token belongs to (databricks-api §7).

use serde::Deserialize;

use crate::http::{Call, Path, Read, Shape, parse_json};

/// The identity behind the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Me {
    /// The e-mail of a user, the application id of a service principal.
    pub(crate) user_name: String,
    /// The id of the workspace, for links.
    pub(crate) workspace_id: Option<u64>,
}

impl Me {
    /// The folder that only this identity and administrators can edit.
    pub(crate) fn home(&self) -> String {
        format!("/Users/{}", self.user_name)
    }
}

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "userName")]
    user_name: Option<String>,
}

/// `GET /api/2.0/preview/scim/v2/Me`, without the entitlements, which cost the service time.
pub(crate) fn me() -> Read<Me> {
    let call =
        Call::get("scim/me", Path::new("/api/2.0/preview/scim/v2/Me")).query("excludedAttributes", "entitlements");
    Read::new(call, |answer| {
        let Body { user_name } = parse_json(answer)?;
        let user_name = user_name
            .filter(|name| !name.is_empty())
            .ok_or_else(|| Shape::Unreadable("it has no userName".to_owned()))?;
        let workspace_id = answer.headers().get("x-databricks-org-id");
        let workspace_id = workspace_id.and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
        Ok(Me { user_name, workspace_id })
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
}
