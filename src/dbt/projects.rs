//! Projects of an account.

use serde::Deserialize;

use super::envelope::{Page, lenient_number, optional, page};
use crate::http::{Call, Path, Read};

/// A project, with the fields that we use.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Project {
    #[serde(deserialize_with = "lenient_number")]
    pub(crate) id: u64,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) name: Option<String>,
}

/// A page of the account's projects (v3, because the v2 list is deprecated).
pub(crate) fn list_projects(account: u64, offset: u64, limit: u64) -> Read<Page<Project>> {
    let path = Path::new("/api/v3/accounts/").number(account).then("/projects/");
    Read::new(Call::get("projects/list", path).query("limit", limit).query("offset", offset), page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projects_are_listed_by_the_newer_api() {
        assert_eq!(list_projects(7, 100, 100).call.target(), "/api/v3/accounts/7/projects/?limit=100&offset=100");
        let project: Project = serde_json::from_str(r#"{"id":1,"name":7,"connection":null}"#).unwrap();
        assert_eq!((project.id, project.name), (1, None));
    }
}
