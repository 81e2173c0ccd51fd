//! The route table: every method and path that the sandbox serves.

use bytes::Bytes;
use http::{Method, Request};

use super::World;
use super::answers::{HandlerResult, ServiceError};
use super::call::Call;
use super::{
    artifacts, clusters, databricks_jobs, dbt, dbt_calls, dbt_job_writes, dbt_jobs, dbt_projects, dbt_run_views,
    job_repairs, job_run_calls, job_run_views, oauth, people, permissions, secrets, workspace,
};

/// The service and operation of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// `databricks` or `dbt`.
    pub service: &'static str,
    /// Name used in fault rules, such as `dbt:jobs/run`.
    pub operation: &'static str,
    /// Whether the request can change state.
    pub writes: bool,
}

pub(super) struct RouteEntry {
    method: &'static str,
    /// `{}` matches one segment, `{…}` at the end the rest.
    path: &'static str,
    /// The path up to its first placeholder: tells most routes apart at once.
    start: &'static [u8],
    pub(super) operation: &'static str,
    pub(super) writes: bool,
    pub(super) run: Handler,
}

type Handler = fn(&mut World, &Call) -> HandlerResult;

const fn get(path: &'static str, operation: &'static str, run: Handler) -> RouteEntry {
    entry("GET", path, operation, run)
}

const fn post(path: &'static str, operation: &'static str, run: Handler) -> RouteEntry {
    entry("POST", path, operation, run)
}

const fn entry(method: &'static str, path: &'static str, operation: &'static str, run: Handler) -> RouteEntry {
    let writes = !matches!(method.as_bytes(), b"GET");
    let mut end = 0;
    while end < path.len() && !matches!(path.as_bytes()[end], b'{' | b'x') {
        end += 1;
    }
    let (start, _) = path.as_bytes().split_at(end);
    RouteEntry { method, path, start, operation, writes, run }
}

/// `2.x` in a path matches 2.1 and 2.2, the versions of the Jobs API.
static TABLE: &[RouteEntry] = &[
    get("/.well-known/databricks-config", "databricks:host-metadata", oauth::metadata),
    get("/oidc/.well-known/oauth-authorization-server", "databricks:oidc/discovery", oauth::discovery),
    // A POST that changes no state of the service.
    RouteEntry { writes: false, ..post("/oidc/v1/token", "databricks:oidc/token", oauth::token) },
    get("/api/2.0/preview/scim/v2/Me", "databricks:scim/me", people::me),
    get("/api/2.0/preview/scim/v2/Users", "databricks:scim/users", people::users),
    get("/api/2.0/preview/scim/v2/ServicePrincipals", "databricks:scim/service-principals", people::service_principals),
    get("/api/2.0/preview/scim/v2/Groups", "databricks:scim/groups", people::groups_list),
    post("/api/2.0/secrets/scopes/create", "databricks:secrets/scopes/create", secrets::create_scope),
    get("/api/2.0/secrets/scopes/list", "databricks:secrets/scopes/list", secrets::list_scopes),
    post("/api/2.0/secrets/scopes/delete", "databricks:secrets/scopes/delete", secrets::delete_scope),
    post("/api/2.0/secrets/put", "databricks:secrets/put", secrets::put),
    post("/api/2.0/secrets/delete", "databricks:secrets/delete", secrets::delete),
    get("/api/2.0/secrets/list", "databricks:secrets/list", secrets::list),
    get("/api/2.0/secrets/get", "databricks:secrets/get", secrets::get),
    post("/api/2.0/secrets/acls/put", "databricks:secrets/acls/put", secrets::put_acl),
    get("/api/2.0/secrets/acls/get", "databricks:secrets/acls/get", secrets::get_acl),
    get("/api/2.0/secrets/acls/list", "databricks:secrets/acls/list", secrets::list_acls),
    post("/api/2.0/secrets/acls/delete", "databricks:secrets/acls/delete", secrets::delete_acl),
    get("/api/2.0/workspace/get-status", "databricks:workspace/get-status", workspace::status),
    get("/api/2.0/workspace/list", "databricks:workspace/list", workspace::list),
    post("/api/2.0/workspace/delete", "databricks:workspace/delete", workspace::delete),
    post("/api/2.0/workspace/mkdirs", "databricks:workspace/mkdirs", workspace::make_directories),
    post("/api/2.0/workspace/import", "databricks:workspace/import", workspace::import),
    get("/api/2.0/workspace/export", "databricks:workspace/export", workspace::export),
    post("/api/2.0/workspace-files/import-file/{…}", "databricks:workspace-files/import-file", workspace::import_file),
    get("/api/2.0/permissions/{}/{}", "databricks:permissions/get", permissions::get),
    entry("PATCH", "/api/2.0/permissions/{}/{}", "databricks:permissions/update", permissions::update),
    entry("PUT", "/api/2.0/permissions/{}/{}", "databricks:permissions/set", permissions::set),
    get("/api/2.0/permissions/{}/{}/permissionLevels", "databricks:permissions/levels", permissions::levels),
    get("/api/2.1/clusters/list", "databricks:clusters/list", clusters::list),
    get("/api/2.1/clusters/get", "databricks:clusters/get", clusters::get),
    get("/api/2.1/clusters/list-node-types", "databricks:clusters/list-node-types", clusters::node_types),
    get("/api/2.1/clusters/spark-versions", "databricks:clusters/spark-versions", clusters::spark_versions),
    get("/api/2.0/policies/clusters/list", "databricks:policies/clusters/list", clusters::policies),
    // Older releases of the SDK use this path.
    get("/api/2.0/clusters/list", "databricks:clusters/list", clusters::list),
    get("/api/2.0/instance-pools/list", "databricks:instance-pools/list", clusters::pools),
    get("/api/2.0/sql/warehouses", "databricks:sql/warehouses", clusters::warehouses),
    post("/api/2.x/jobs/create", "databricks:jobs/create", databricks_jobs::create),
    post("/api/2.x/jobs/reset", "databricks:jobs/reset", databricks_jobs::reset),
    post("/api/2.x/jobs/update", "databricks:jobs/update", databricks_jobs::update),
    post("/api/2.x/jobs/delete", "databricks:jobs/delete", databricks_jobs::delete),
    get("/api/2.x/jobs/get", "databricks:jobs/get", databricks_jobs::get),
    get("/api/2.x/jobs/list", "databricks:jobs/list", databricks_jobs::list),
    post("/api/2.x/jobs/run-now", "databricks:jobs/run-now", job_run_calls::run_now),
    post("/api/2.x/jobs/runs/submit", "databricks:jobs/runs/submit", job_run_calls::submit),
    get("/api/2.x/jobs/runs/get", "databricks:jobs/runs/get", job_run_views::get),
    get("/api/2.x/jobs/runs/get-output", "databricks:jobs/runs/get-output", job_run_views::output),
    post("/api/2.x/jobs/runs/cancel", "databricks:jobs/runs/cancel", job_run_calls::cancel),
    post("/api/2.x/jobs/runs/cancel-all", "databricks:jobs/runs/cancel-all", job_run_calls::cancel_all),
    post("/api/2.x/jobs/runs/delete", "databricks:jobs/runs/delete", job_run_calls::delete),
    post("/api/2.x/jobs/runs/repair", "databricks:jobs/runs/repair", job_repairs::repair),
    get("/api/2.x/jobs/runs/list", "databricks:jobs/runs/list", job_run_views::list),
    get("/api/v2/accounts", "dbt:accounts/list", dbt::accounts),
    get("/api/v3/accounts", "dbt:accounts/list", dbt::accounts),
    get("/api/v2/accounts/{}", "dbt:accounts/get", dbt::one_account),
    get("/api/v3/accounts/{}", "dbt:accounts/get", dbt::one_account),
    get("/api/v2/whoami", "dbt:whoami", dbt::who_am_i),
    get("/api/v2/accounts/{}/projects", "dbt:projects/list", dbt_projects::projects),
    get("/api/v2/accounts/{}/environments", "dbt:environments/list", dbt_projects::environments_of_the_account),
    get("/api/v2/accounts/{}/environments/{}", "dbt:environments/get", dbt_projects::environment),
    get("/api/v2/accounts/{}/projects/{}", "dbt:projects/get", dbt_projects::project),
    get("/api/v3/accounts/{}/projects", "dbt:projects/list", dbt_projects::projects),
    get("/api/v3/accounts/{}/projects/{}", "dbt:projects/get", dbt_projects::project),
    get("/api/v3/accounts/{}/projects/{}/environments/{}", "dbt:environments/get", dbt_projects::environment),
    get("/api/v3/accounts/{}/projects/{}/environments", "dbt:environments/list", dbt_projects::environments),
    get(
        "/api/v3/accounts/{}/projects/{}/environment-variables/job",
        "dbt:environment-variables/job",
        dbt_projects::variables_of_a_job,
    ),
    get("/api/v3/accounts/{}/environments", "dbt:environments/list", dbt_projects::environments_of_the_account),
    get("/api/v2/accounts/{}/jobs", "dbt:jobs/list", dbt_jobs::list),
    post("/api/v2/accounts/{}/jobs", "dbt:jobs/create", dbt_job_writes::create),
    get("/api/v2/accounts/{}/jobs/{}", "dbt:jobs/get", dbt_jobs::get),
    post("/api/v2/accounts/{}/jobs/{}", "dbt:jobs/update", dbt_job_writes::update),
    entry("DELETE", "/api/v2/accounts/{}/jobs/{}", "dbt:jobs/delete", dbt_job_writes::delete),
    get("/api/v2/accounts/{}/jobs/{}/artifacts/{…}", "dbt:jobs/artifacts/get", artifacts::of_the_job),
    post("/api/v2/accounts/{}/jobs/{}/run", "dbt:jobs/run", dbt_calls::run),
    post("/api/v2/accounts/{}/jobs/{}/rerun", "dbt:jobs/rerun", dbt_calls::rerun),
    get("/api/v2/accounts/{}/runs", "dbt:runs/list", dbt_calls::list),
    get("/api/v2/accounts/{}/runs/{}", "dbt:runs/get", dbt_calls::get),
    post("/api/v2/accounts/{}/runs/{}/cancel", "dbt:runs/cancel", dbt_calls::cancel),
    post("/api/v2/accounts/{}/runs/{}/retry", "dbt:runs/retry", dbt_calls::retry),
    get("/api/v2/accounts/{}/steps/{}", "dbt:steps/get", dbt_run_views::step),
    get("/api/v2/accounts/{}/runs/{}/artifacts", "dbt:runs/artifacts/list", artifacts::list),
    get("/api/v2/accounts/{}/runs/{}/artifacts/{…}", "dbt:runs/artifacts/get", artifacts::get),
];

impl RouteEntry {
    pub(super) fn route(&self) -> Route {
        let service = if self.is_dbt() { "dbt" } else { "databricks" };
        Route { service, operation: self.operation, writes: self.writes }
    }

    pub(super) fn is_dbt(&self) -> bool {
        self.operation.starts_with("dbt:")
    }
}

/// Whether a path belongs to dbt Cloud. The paths of the two services do not overlap.
pub(super) fn is_dbt(path: &str) -> bool {
    path.starts_with("/api/v2/") || path.starts_with("/api/v3/")
}

/// Whether a path belongs to either service. Other paths are answered without authentication.
pub(super) fn is_of_a_service(path: &str) -> bool {
    is_dbt(path) || path.starts_with("/api/2.") || is_open(path)
}

/// Whether a path needs no token, because it leads to one.
pub(super) fn is_open(path: &str) -> bool {
    path.starts_with("/oidc/") || path == "/.well-known/databricks-config"
}

/// Returns the route of a request and the segments matched by its placeholders.
pub(super) fn find(method: &Method, path: &str) -> Option<(&'static RouteEntry, Vec<String>)> {
    TABLE
        .iter()
        .filter(|entry| entry.method == method.as_str() && path.as_bytes().starts_with(entry.start))
        .find_map(|entry| Some((entry, path_params(entry.path, path)?)))
}

fn path_params(pattern: &str, path: &str) -> Option<Vec<String>> {
    // dbt's maintained clients send paths with and without the trailing slash; Databricks paths
    // have none.
    let path = if is_dbt(path) { path.strip_suffix('/').unwrap_or(path) } else { path };
    let mut path_params = Vec::new();
    let mut given = path.split('/');
    let mut expected = pattern.split('/');
    loop {
        match (expected.next(), given.next()) {
            (None, None) => return Some(path_params),
            (Some("{…}"), Some(first)) if !first.is_empty() => {
                let rest: Vec<&str> = std::iter::once(first).chain(given).collect();
                path_params.push(decoded(&rest.join("/")));
                return Some(path_params);
            }
            (Some("{}"), Some(segment)) if !segment.is_empty() => path_params.push(decoded(segment)),
            (Some("2.x"), Some("2.1" | "2.2")) => {}
            (Some(expected), Some(given)) if expected == given => {}
            (Some(_) | None, Some(_)) | (Some(_), None) => return None,
        }
    }
}

fn decoded(segment: &str) -> String {
    // With its separators escaped, the segment decodes as a single form key.
    let guarded = segment.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    let mut pairs = url::form_urlencoded::parse(guarded.as_bytes());
    pairs.next().map(|(key, _)| key.into_owned()).unwrap_or_default()
}

/// Returns the error for a request without a route: the service's own error for a wrong method, otherwise 501.
pub(super) fn unknown(request: &Request<Bytes>) -> ServiceError {
    let (method, path) = (request.method(), request.uri().path());
    if path.contains("/.well-known/") {
        // A host without the document answers 404, and SDKs continue without it.
        return ServiceError::databricks(404, "ENDPOINT_NOT_FOUND", "This workspace has no such document");
    }
    let known = TABLE.iter().any(|entry| path_params(entry.path, path).is_some());
    if known && is_dbt(path) && !is_written_elsewhere(path) {
        return ServiceError::dbt_detail(405, &format!("Method \"{method}\" not allowed."));
    }
    if known && !is_dbt(path) {
        let short = path.strip_prefix("/api/2.").map_or(path, |rest| rest.get(1..).unwrap_or(path));
        let what = format!("No API found for '{method} {short}'");
        return ServiceError::databricks(404, "ENDPOINT_NOT_FOUND", what);
    }
    ServiceError::unsupported(format_args!("{method} {path}"))
}

/// Whether dbt's API has methods for this path that the sandbox lacks: it also creates and changes projects and
/// environments.
fn is_written_elsewhere(path: &str) -> bool {
    path.split('/').any(|part| ["projects", "environments"].contains(&part))
}

/// Returns the operation of each entry.
pub(super) fn operations() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|entry| entry.operation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(method: &str, path: &str) -> Option<&'static str> {
        find(&method.parse().expect("a method"), path).map(|(entry, _)| entry.operation)
    }

    #[test]
    fn dbt_paths_work_with_and_without_the_last_slash() {
        assert_eq!(operation("POST", "/api/v2/accounts/51234/jobs/1/run/"), Some("dbt:jobs/run"));
        assert_eq!(operation("POST", "/api/v2/accounts/51234/jobs/1/run"), Some("dbt:jobs/run"));
        assert_eq!(operation("GET", "/api/v2/accounts/51234/runs/1/artifacts/"), Some("dbt:runs/artifacts/list"));
        let found = find(&Method::GET, "/api/v2/accounts/1/runs/2/artifacts/run/a%20b.sql").expect("a row");
        assert_eq!(found.1, ["1", "2", "run/a b.sql"]);
    }

    #[test]
    fn double_slashes_and_foreign_versions_name_nothing() {
        assert_eq!(operation("GET", "/api/v2/accounts/51234//runs/"), None);
        assert_eq!(operation("GET", "/api/2.0/jobs/get"), None);
        assert_eq!(operation("GET", "/api/2.1/jobs/get"), Some("databricks:jobs/get"));
        assert_eq!(operation("GET", "/api/2.2/jobs/get"), Some("databricks:jobs/get"));
        assert_eq!(operation("GET", "/api/2.2/jobs/get/"), None);
        for version in ["2.0", "2.1"] {
            assert_eq!(operation("GET", &format!("/api/{version}/clusters/list")), Some("databricks:clusters/list"));
        }
    }

    #[test]
    fn operations_are_the_path_behind_the_version_and_writes_are_the_posts_and_patches_but_for_tokens() {
        for entry in TABLE {
            let asks = entry.operation == "databricks:oidc/token";
            assert_eq!(entry.writes, entry.method != "GET" && !asks, "{}", entry.operation);
            if let Some(path) = entry.path.strip_prefix("/api/2.").map(|rest| &rest[2..]) {
                let path = path.replace("preview/scim/v2/Me", "scim/me");
                let path = path.replace("preview/scim/v2/Users", "scim/users");
                let path = path.replace("preview/scim/v2/Groups", "scim/groups").replace("/{…}", "");
                let path = path.replace("preview/scim/v2/ServicePrincipals", "scim/service-principals");
                let named = entry.operation.trim_start_matches("databricks:");
                assert!(path == named || named.starts_with("permissions/"), "{path} is {named}");
            }
        }
    }
}
