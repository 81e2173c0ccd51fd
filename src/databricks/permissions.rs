//! Permissions on notebooks and jobs.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::http::{BodyProblem, Call, Idempotent, Path, Read, Rows, parse_json};

/// The kind of identity. It is derived from the name: users have e-mail addresses, service principals application IDs
/// (UUIDs), and groups display names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Principal {
    User,
    Group,
    ServicePrincipal,
}

impl Principal {
    pub(crate) fn of(name: &str) -> Principal {
        let parts: Vec<usize> = name.split('-').map(str::len).collect();
        if parts == [8, 4, 4, 4, 12] && name.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()) {
            return Principal::ServicePrincipal;
        }
        if name.contains('@') { Principal::User } else { Principal::Group }
    }

    /// The kind of a `run_as` identity: a service principal by its ID, otherwise a user, whose name need not be an
    /// e-mail address.
    pub(crate) fn of_run_as(name: &str) -> Principal {
        match Principal::of(name) {
            Principal::ServicePrincipal => Principal::ServicePrincipal,
            Principal::User | Principal::Group => Principal::User,
        }
    }

    /// The field of a permission, or of `run_as`, with the name.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Principal::User => "user_name",
            Principal::Group => "group_name",
            Principal::ServicePrincipal => "service_principal_name",
        }
    }
}

/// A permission level; each includes the ones before it.
pub(crate) trait Level: Copy + Ord + 'static {
    /// All levels, lowest first.
    const ALL: &'static [Self];

    /// The name in the API.
    fn name(self) -> &'static str;

    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|level| level.name() == name)
    }
}

/// A permission on a notebook; each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum NotebookLevel {
    CanRead,
    CanRun,
    CanEdit,
    CanManage,
}

impl Level for NotebookLevel {
    const ALL: &'static [NotebookLevel] =
        &[NotebookLevel::CanRead, NotebookLevel::CanRun, NotebookLevel::CanEdit, NotebookLevel::CanManage];

    fn name(self) -> &'static str {
        match self {
            NotebookLevel::CanRead => "CAN_READ",
            NotebookLevel::CanRun => "CAN_RUN",
            NotebookLevel::CanEdit => "CAN_EDIT",
            NotebookLevel::CanManage => "CAN_MANAGE",
        }
    }
}

/// A permission on a job; each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum JobLevel {
    CanView,
    CanManageRun,
    CanManage,
    /// Exactly one user or service principal has it, initially the creator of the job.
    IsOwner,
}

impl Level for JobLevel {
    const ALL: &'static [JobLevel] =
        &[JobLevel::CanView, JobLevel::CanManageRun, JobLevel::CanManage, JobLevel::IsOwner];

    fn name(self) -> &'static str {
        match self {
            JobLevel::CanView => "CAN_VIEW",
            JobLevel::CanManageRun => "CAN_MANAGE_RUN",
            JobLevel::CanManage => "CAN_MANAGE",
            JobLevel::IsOwner => "IS_OWNER",
        }
    }
}

/// A permission of a principal on an object, direct or inherited from a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holding {
    /// E-mail address of a user, display name of a group, or application ID of a service principal.
    pub(crate) principal: String,
    /// As in the API, such as `CAN_RUN`. May be unknown to this version.
    pub(crate) level: String,
    pub(crate) inherited: bool,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    access_control_list: Rows<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    user_name: Option<String>,
    group_name: Option<String>,
    service_principal_name: Option<String>,
    #[serde(default)]
    all_permissions: Rows<EntryLevel>,
}

#[derive(Deserialize)]
struct EntryLevel {
    permission_level: Option<String>,
    inherited: Option<bool>,
}

fn notebook(id: u64) -> Path {
    Path::new("/api/2.0/permissions/notebooks/").number(id)
}

fn job(id: u64) -> Path {
    Path::new("/api/2.0/permissions/jobs/").number(id)
}

/// `GET permissions/notebooks/{id}`, with the object ID from `get-status`.
pub(crate) fn notebook_permissions(id: u64) -> Read<Rows<Holding>> {
    permissions(notebook(id))
}

/// `GET permissions/jobs/{id}`.
pub(crate) fn job_permissions(id: u64) -> Read<Rows<Holding>> {
    permissions(job(id))
}

fn permissions(path: Path) -> Read<Rows<Holding>> {
    Read::new(Call::get("permissions/get", path), |answer| {
        let Body { access_control_list: Rows { rows, unreadable } } = parse_json(answer)?;
        let mut all = Rows { rows: Vec::new(), unreadable };
        for entry in rows {
            let (held, unreadable) = holdings(entry);
            all.rows.extend(held);
            all.unreadable += unreadable;
        }
        Ok(all)
    })
}

/// Returns the permissions of an entry, and how many levels are unreadable.
fn holdings(entry: Entry) -> (Vec<Holding>, usize) {
    let Entry { user_name, group_name, service_principal_name, all_permissions: Rows { rows: levels, unreadable } } =
        entry;
    let named = [user_name, group_name, service_principal_name].into_iter().flatten().find(|name| !name.is_empty());
    let Some(principal) = named else { return (Vec::new(), levels.len() + unreadable) };
    let held = levels
        .into_iter()
        .filter_map(|EntryLevel { permission_level, inherited }| {
            let inherited = inherited.unwrap_or_default();
            Some(Holding { principal: principal.clone(), level: permission_level?, inherited })
        })
        .collect();
    (held, unreadable)
}

/// `PATCH permissions/notebooks/{id}`: sets the direct permission of one principal; others are unchanged.
pub(crate) fn grant_on_notebook(id: u64, kind: Principal, principal: &str, level: NotebookLevel) -> Idempotent<()> {
    grant(notebook(id), kind, principal, level)
}

/// `PATCH permissions/jobs/{id}`: sets the direct permission of one principal; others are unchanged.
pub(crate) fn grant_on_job(id: u64, kind: Principal, principal: &str, level: JobLevel) -> Idempotent<()> {
    grant(job(id), kind, principal, level)
}

fn grant(path: Path, kind: Principal, principal: &str, level: impl Level) -> Idempotent<()> {
    let call = Call { method: http::Method::PATCH, ..Call::post("permissions/update", path) };
    let entry = json!({ kind.field(): principal, "permission_level": level.name() });
    // The resulting permissions are read with a separate request.
    Idempotent::new(call.json(&json!({ "access_control_list": [entry] })), |answer| -> Result<(), BodyProblem> {
        super::done(answer)
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Method, Response};

    use super::*;

    #[test]
    fn a_name_tells_what_it_stands_for() {
        for (name, principal) in [
            ("ana@example.com", Principal::User),
            ("data-engineers", Principal::Group),
            ("Data Team", Principal::Group),
            ("0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d11", Principal::ServicePrincipal),
            ("0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d1x", Principal::Group),
        ] {
            assert_eq!(Principal::of(name), principal, "{name}");
        }
    }

    #[test]
    fn levels_are_read_whatever_they_were_given_to_and_a_grant_names_one_principal() {
        let Read { call, parse } = notebook_permissions(9_007_199_254_740_993);
        assert_eq!(call.target(), "/api/2.0/permissions/notebooks/9007199254740993");
        let text = r#"{"object_id":"/notebooks/1","access_control_list":[
            {"user_name":"ana@example.com","all_permissions":[{"permission_level":"CAN_MANAGE","inherited":true},
                {"permission_level":"CAN_RUN","inherited":false}]},
            {"group_name":"users","all_permissions":null},{"display_name":"nobody"},
            {"service_principal_name":"x","all_permissions":[{"permission_level":"FANCY"},{"inherited":true}]}]}"#;
        let found = parse(&Response::new(Bytes::from(text))).unwrap();
        let found: Vec<(&str, &str, bool)> =
            found.rows.iter().map(|held| (held.principal.as_str(), held.level.as_str(), held.inherited)).collect();
        let ana = "ana@example.com";
        assert_eq!(found, [(ana, "CAN_MANAGE", true), (ana, "CAN_RUN", false), ("x", "FANCY", false)]);

        assert_eq!(job_permissions(7).call.target(), "/api/2.0/permissions/jobs/7");
        let Idempotent { call, parse: _ } = grant_on_job(7, Principal::User, "ana@example.com", JobLevel::CanManageRun);
        assert_eq!(call.target(), "/api/2.0/permissions/jobs/7");
        let body: serde_json::Value = serde_json::from_slice(&call.body.unwrap()).unwrap();
        let entry = json!({ "user_name": ana, "permission_level": "CAN_MANAGE_RUN" });
        assert_eq!(body, json!({ "access_control_list": [entry] }));

        let Idempotent { call, parse: _ } =
            grant_on_notebook(7, Principal::Group, "data-engineers", NotebookLevel::CanRun);
        assert_eq!(
            (call.method.clone(), call.target()),
            (Method::PATCH, "/api/2.0/permissions/notebooks/7".to_owned())
        );
        let body: serde_json::Value = serde_json::from_slice(&call.body.unwrap()).unwrap();
        let entry = json!({ "group_name": "data-engineers", "permission_level": "CAN_RUN" });
        assert_eq!(body, json!({ "access_control_list": [entry] }));
    }
}
