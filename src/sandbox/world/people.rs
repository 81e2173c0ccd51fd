//! Users, service principals, groups and tokens of the workspace, and the SCIM endpoints.

use http::{HeaderValue, header};
use serde_json::{Value, json};

use super::World;
use super::answers::{HandlerResult, HttpResponse, ServiceError, json_answer};
use super::call::Call;

/// Workspace id, in `X-Databricks-Org-Id`, in links and as `{{workspace.id}}`.
pub(super) const WORKSPACE_ID: i64 = 7_405_609_032_100_112;

/// The administrator with the seeded token.
pub(super) const ANA: &str = "ana@example.com";
/// Another user: owns nothing and is not an administrator.
pub(super) const BO: &str = "bo@example.com";
/// A service principal, by its application id.
pub(super) const PRINCIPAL: &str = "0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d11";

const GROUPS: &[&str] = &["users", "admins", "data-team", "data-engineers", "analysts"];

/// A user or service principal of the workspace.
#[derive(Clone)]
struct Person {
    name: String,
    token: Option<String>,
    admin: bool,
    groups: Vec<String>,
}

/// All users and service principals, and pairs of a user and a service principal on which it has the role Service
/// Principal User.
#[derive(Clone)]
pub(super) struct People(Vec<Person>, Vec<(String, String)>);

impl People {
    pub(super) fn seeded(token: &str) -> People {
        let mut people = People(Vec::new(), vec![(ANA.to_owned(), PRINCIPAL.to_owned())]);
        people.add(ANA, Some(token), true);
        people.add(BO, None, false);
        people.add(PRINCIPAL, None, false);
        people
    }

    pub(super) fn add(&mut self, name: &str, token: Option<&str>, admin: bool) {
        self.0.retain(|person| person.name != name);
        self.0.push(Person { name: name.to_owned(), token: token.map(str::to_owned), admin, groups: Vec::new() });
    }

    #[cfg(test)]
    pub(super) fn join(&mut self, name: &str, group: &str) {
        if let Some(person) = self.0.iter_mut().find(|person| person.name == name) {
            person.groups.push(group.to_owned());
        }
    }

    fn find(&self, name: &str) -> Option<&Person> {
        self.0.iter().find(|person| person.name == name)
    }

    pub(super) fn is_admin(&self, name: &str) -> bool {
        self.find(name).is_some_and(|person| person.admin)
    }

    /// Whether `caller` may set `run_as` to `named`: a user needs an administrator, a service principal a
    /// caller with the role on it (administrators need the role too).
    pub(super) fn may_run_as(&self, caller: &str, named: &str) -> bool {
        let has_role = || self.1.iter().any(|(user, principal)| user == caller && principal == named);
        named == caller || if is_application_id(named) { has_role() } else { self.is_admin(caller) }
    }

    /// Whether a grant to `principal` applies to `name`.
    pub(super) fn is_or_belongs_to(&self, name: &str, principal: &str) -> bool {
        principal == name
            || principal == "users"
            || (principal == "admins" && self.is_admin(name))
            || self.find(name).is_some_and(|person| person.groups.iter().any(|group| group == principal))
    }

    /// Whether grants and `run_as` can name this principal: any user, service principal or group of the workspace.
    pub(super) fn knows(&self, principal: &str) -> bool {
        self.find(principal).is_some() || GROUPS.contains(&principal)
    }

    /// Authenticates a Databricks request. A wrong token gives 403 and a missing one 401, both
    /// with a numeric `error_code`.
    pub(super) fn authenticate(&self, authorization: Option<&str>) -> Result<String, ServiceError> {
        let Some(token) = authorization.and_then(|value| value.strip_prefix("Bearer ")) else {
            let what = "Credential was not sent or was of an unsupported type for this API.";
            return Err(ServiceError::databricks(401, 401, what));
        };
        let person = self.0.iter().find(|person| person.token.as_deref() == Some(token));
        person
            .map(|person| person.name.clone())
            .ok_or_else(|| ServiceError::databricks(403, 403, "Invalid access token."))
    }
}

pub(super) fn is_application_id(name: &str) -> bool {
    let parts: Vec<usize> = name.split('-').map(str::len).collect();
    parts == [8, 4, 4, 4, 12] && name.chars().all(|sign| sign == '-' || sign.is_ascii_hexdigit())
}

pub(super) fn is_group(name: &str) -> bool {
    GROUPS.contains(&name)
}

/// `GET preview/scim/v2/Me`.
pub(super) fn me(world: &mut World, call: &Call) -> HandlerResult {
    let name = &call.caller;
    let Some(person) = world.people.find(name) else {
        return Err(ServiceError::permission_denied("The caller is not in this workspace."));
    };
    let mut body = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User", "urn:ietf:params:scim:schemas:extension:workspace:2.0:User"],
        "id": "4711000000000042",
        "userName": name,
        "displayName": name.split('@').next().unwrap_or(name),
        "active": true,
        "emails": [{ "type": "work", "value": name, "primary": true }],
        "groups": groups(person),
    });
    let without: Vec<&str> = call.query_param("excludedAttributes").unwrap_or_default().split(',').collect();
    if !without.contains(&"entitlements") {
        body["entitlements"] = json!([{ "value": "workspace-access" }, { "value": "databricks-sql-access" }]);
    }
    if let Value::Object(object) = &mut body {
        object.retain(|key, _| key == "id" || key == "schemas" || !without.contains(&key.as_str()));
    }
    Ok(scim(&body))
}

fn groups(person: &Person) -> Vec<Value> {
    let of = person.groups.iter().map(String::as_str);
    let all = ["users"].into_iter().chain(person.admin.then_some("admins")).chain(of);
    let listed = all.filter_map(|name| {
        let id = group_id(GROUPS.iter().position(|known| *known == name)?);
        Some(json!({ "display": name, "type": "direct", "value": id.to_string(), "$ref": format!("Groups/{id}") }))
    });
    listed.collect()
}

fn group_id(place: usize) -> usize {
    100_000_000_000_001 + place
}

fn scim(body: &Value) -> HttpResponse {
    let mut answer = json_answer(200, body);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/scim+json"));
    answer.headers_mut().insert("x-databricks-org-id", HeaderValue::from(WORKSPACE_ID));
    answer
}

/// `GET preview/scim/v2/Users?filter=userName eq "…"`.
pub(super) fn users(world: &mut World, call: &Call) -> HandlerResult {
    listed(world, call, "userName", |name| !is_application_id(name))
}

/// `GET preview/scim/v2/ServicePrincipals?filter=applicationId eq "…"`.
pub(super) fn service_principals(world: &mut World, call: &Call) -> HandlerResult {
    listed(world, call, "applicationId", is_application_id)
}

/// `GET preview/scim/v2/Groups?filter=displayName eq "…"`.
pub(super) fn groups_list(_: &mut World, call: &Call) -> HandlerResult {
    let rows = GROUPS.iter().enumerate();
    let rows = rows.map(|(place, name)| (*name, json!({ "id": group_id(place).to_string(), "displayName": name })));
    paged(call, "displayName", rows)
}

/// Lists users or service principals, as selected by `kind`.
fn listed(world: &mut World, call: &Call, field: &str, kind: fn(&str) -> bool) -> HandlerResult {
    let found = world.people.0.iter().enumerate().filter(|(_, person)| kind(&person.name));
    let rows = found.map(|(place, person)| {
        let id = 4_711_000_000_000_100_u64 + place as u64;
        let row = json!({ "id": id.to_string(), field: person.name, "displayName": person.name, "active": true,
            "groups": groups(person) });
        (person.name.as_str(), row)
    });
    paged(call, field, rows)
}

/// Returns the rows that match the filter, or all without one: at most `count`, from `startIndex`.
fn paged<'a>(call: &Call, field: &str, rows: impl Iterator<Item = (&'a str, Value)>) -> HandlerResult {
    let filter = call.query_param("filter").filter(|filter| !filter.is_empty());
    let wanted = match filter.map(|filter| (filter, quoted(filter, field).or_else(|| quoted(filter, "displayName")))) {
        None => None,
        Some((_, Some(name))) => Some(name),
        Some((filter, None)) => return Err(ServiceError::unsupported(format_args!("the filter {filter}"))),
    };
    let found: Vec<Value> = rows
        .filter(|(name, _)| wanted.is_none_or(|wanted| name.eq_ignore_ascii_case(wanted)))
        .map(|(_, row)| row)
        .collect();
    // SDKs request pages until one is empty, so a page past the end must be empty.
    let start = call.number("startIndex")?.and_then(|start| usize::try_from(start).ok()).unwrap_or(1).max(1);
    let count = call.number("count")?.map_or(100, |count| usize::try_from(count).unwrap_or(0));
    let rows: Vec<&Value> = found.iter().skip(start - 1).take(count).collect();
    let mut body = json!({ "totalResults": found.len(), "startIndex": start, "itemsPerPage": rows.len() });
    if !rows.is_empty() {
        body["Resources"] = json!(rows);
    }
    Ok(scim(&body))
}

/// Returns the value that a filter compares `field` with.
fn quoted<'a>(filter: &'a str, field: &str) -> Option<&'a str> {
    filter.strip_prefix(field)?.strip_prefix(" eq \"")?.strip_suffix('"')
}
