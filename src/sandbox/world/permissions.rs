//! Permissions of jobs and workspace objects.

use serde_json::{Value, json};

use super::World;
use super::answers::{HandlerResult, ServiceError, databricks_data};
use super::call::Call;
use super::databricks::WorkspaceState;
use super::databricks_jobs::Job;
use super::people;
use super::workspace;
use super::workspace_objects::{Kind, Object};

const OBJECT_LEVELS: &[&str] = &["CAN_READ", "CAN_RUN", "CAN_EDIT", "CAN_MANAGE"];
const JOB_LEVELS: &[&str] = &["CAN_VIEW", "CAN_MANAGE_RUN", "CAN_MANAGE", "IS_OWNER"];

/// A permission granted on the object itself.
#[derive(Clone)]
pub(super) struct Grant {
    pub(super) principal: String,
    pub(super) level: &'static str,
}

/// Returns the rank of a level within its list.
fn place(levels: &[&str], level: &str) -> Option<usize> {
    levels.iter().position(|known| *known == level)
}

pub(super) fn may_edit(rights: &'static str) -> bool {
    place(OBJECT_LEVELS, rights) >= place(OBJECT_LEVELS, "CAN_EDIT")
}

impl World {
    /// Returns the highest level that `who` has on a workspace object.
    pub(super) fn rights_on(
        &self,
        state: &WorkspaceState,
        path: &str,
        object: &Object,
        who: &str,
    ) -> Option<&'static str> {
        let inherited =
            self.people.is_admin(who) || workspace::is_shared(path) || workspace::home_owner(path) == Some(who);
        if inherited {
            return Some("CAN_MANAGE");
        }
        let best = self.granted(state, &format!("{}/{}", plural(&object.kind), object.id), OBJECT_LEVELS, who);
        // Everyone can see the top folders; otherwise users could not find their home folders.
        let seen = matches!(path, "/" | "/Users" | "/Repos").then_some(0);
        best.max(seen).map(|index| OBJECT_LEVELS[index])
    }

    /// Returns the rank of the highest level granted on the object itself to `who` or a group of theirs.
    fn granted(&self, state: &WorkspaceState, id: &str, levels: &[&str], who: &str) -> Option<usize> {
        let direct = state.grants.get(id).into_iter().flatten();
        let reaching = direct.filter(|grant| self.people.is_or_belongs_to(who, &grant.principal));
        reaching.filter_map(|grant| place(levels, grant.level)).max()
    }

    /// Returns a job on which `who` has at least `level`.
    pub(super) fn permitted_job<'a>(
        &self,
        state: &'a WorkspaceState,
        job: i64,
        who: &str,
        level: &str,
    ) -> Result<&'a Job, ServiceError> {
        let Some(found) = state.jobs.get(&job) else {
            return Err(ServiceError::invalid(format!("Job {job} does not exist.")));
        };
        if self.people.is_admin(who) || found.creator == who {
            return Ok(found);
        }
        let best = self.granted(state, &format!("jobs/{job}"), JOB_LEVELS, who);
        if best.is_some() && best >= place(JOB_LEVELS, level) {
            return Ok(found);
        }
        Err(ServiceError::permission_denied(format!("User {who} does not have {level} permission on job {job}.")))
    }
}

/// Removes the grants on a deleted object.
pub(super) fn forget(world: &mut World, object: &Object) {
    world.databricks.grants.remove(&format!("{}/{}", plural(&object.kind), object.id));
}

fn plural(kind: &Kind) -> &'static str {
    match kind {
        Kind::Directory => "directories",
        Kind::Notebook { .. } => "notebooks",
        Kind::File(_) => "files",
    }
}

/// The object named in the path.
enum Subject<'a> {
    Job(i64, &'a Job),
    Object(String, &'a Object),
}

fn subject<'a>(world: &World, state: &'a WorkspaceState, call: &Call) -> Result<Subject<'a>, ServiceError> {
    let kind = call.path_params.first().map(String::as_str).unwrap_or_default();
    let named = call.path_params.get(1).map_or("", String::as_str);
    let absent = || ServiceError::not_found(format!("{kind} with id {named} does not exist."));
    let id = call.id(1).ok_or_else(absent)?;
    match kind {
        "jobs" => {
            let job = state.jobs.get(&id).ok_or_else(absent)?;
            world.permitted_job(state, id, &call.caller, "CAN_VIEW")?;
            Ok(Subject::Job(id, job))
        }
        "notebooks" | "files" | "directories" => {
            let found = state.objects.iter().find(|(_, object)| object.id == id && plural(&object.kind) == kind);
            let (path, object) = found.ok_or_else(absent)?;
            if world.rights_on(state, path, object, &call.caller).is_none() {
                return Err(absent());
            }
            Ok(Subject::Object(path.clone(), object))
        }
        other => Err(ServiceError::unsupported(format_args!("permissions of {other}"))),
    }
}

fn entry(principal: &str, level: &str, from: Option<&str>) -> Value {
    let field = if people::is_group(principal) {
        "group_name"
    } else if people::is_application_id(principal) {
        "service_principal_name"
    } else {
        "user_name"
    };
    let mut permission = json!({ "permission_level": level, "inherited": from.is_some() });
    if let Some(from) = from {
        permission["inherited_from_object"] = json!([from]);
    }
    json!({ field: principal, "display_name": principal, "all_permissions": [permission] })
}

fn shown(state: &WorkspaceState, subject: &Subject<'_>) -> Value {
    let mut entries = Vec::new();
    let (id, kind) = match subject {
        Subject::Job(id, job) => {
            entries.push(entry(&job.creator, "IS_OWNER", None));
            entries.push(entry("admins", "CAN_MANAGE", Some("/jobs/")));
            (format!("jobs/{id}"), "job")
        }
        Subject::Object(path, object) => {
            let directory = |path: &str| state.objects.get(path).map(|object| format!("/directories/{}", object.id));
            if let Some(owner) = workspace::home_owner(path) {
                let home = directory(&format!("/Users/{owner}"));
                entries.push(entry(owner, "CAN_MANAGE", home.as_deref()));
            }
            if workspace::is_shared(path) {
                entries.push(entry("users", "CAN_MANAGE", directory("/Shared").as_deref()));
            }
            entries.push(entry("admins", "CAN_MANAGE", directory("/").as_deref()));
            let kind = match object.kind {
                Kind::Directory => "directory",
                Kind::Notebook { .. } => "notebook",
                Kind::File(_) => "file",
            };
            (format!("{}/{}", plural(&object.kind), object.id), kind)
        }
    };
    let direct = state.grants.get(&id).into_iter().flatten();
    entries.extend(direct.map(|grant| entry(&grant.principal, grant.level, None)));
    json!({ "object_id": format!("/{id}"), "object_type": kind, "access_control_list": entries })
}

fn key_of(call: &Call) -> String {
    format!("permissions:{}", call.path_params.join("/"))
}

pub(super) fn needs_premium(world: &World) -> Result<(), ServiceError> {
    if world.premium {
        return Ok(());
    }
    Err(ServiceError::databricks(404, "FEATURE_DISABLED", "Access control is not available in this workspace's plan."))
}

pub(super) fn get(world: &mut World, call: &Call) -> HandlerResult {
    needs_premium(world)?;
    let state = world.state_for_read(&key_of(call));
    let subject = subject(world, state, call)?;
    Ok(databricks_data(&shown(state, &subject)))
}

/// Parses and checks an `access_control_list`.
pub(super) fn grants(world: &World, list: &Value, is_job: bool) -> Result<Vec<Grant>, ServiceError> {
    let levels = if is_job { JOB_LEVELS } else { OBJECT_LEVELS };
    let malformed = || ServiceError::malformed("Could not parse request object: access_control_list is no array");
    let grant = |entry: &Value| {
        let fields = ["user_name", "group_name", "service_principal_name"];
        let named: Vec<&str> = fields.iter().filter_map(|field| entry.get(field)?.as_str()).collect();
        let [principal] = named.as_slice() else {
            let what = "An access control entry names exactly one of user_name, group_name and service_principal_name.";
            return Err(ServiceError::invalid(what));
        };
        if !world.people.knows(principal) {
            return Err(ServiceError::not_found(format!("Principal: {principal} does not exist")));
        }
        let level = entry.get("permission_level").and_then(Value::as_str).unwrap_or_default();
        let known = levels.iter().find(|known| **known == level);
        let unknown = || ServiceError::invalid(format!("Permission level {level} is none of {}", levels.join(", ")));
        Ok(Grant { principal: (*principal).to_owned(), level: known.ok_or_else(unknown)? })
    };
    list.as_array().ok_or_else(malformed)?.iter().map(grant).collect()
}

/// Returns the grants key of the object in the path, and whether it is a job. Refuses callers who cannot manage it.
fn managed(world: &World, call: &Call) -> Result<(String, bool), ServiceError> {
    match subject(world, &world.databricks, call)? {
        Subject::Job(id, _) => {
            world.permitted_job(&world.databricks, id, &call.caller, "CAN_MANAGE")?;
            Ok((format!("jobs/{id}"), true))
        }
        Subject::Object(path, object) => {
            check_managed(world, call, &path, object)?;
            Ok((format!("{}/{}", plural(&object.kind), object.id), false))
        }
    }
}

/// Refuses callers who cannot manage a workspace object; nobody manages `/`.
pub(super) fn check_managed(world: &World, call: &Call, path: &str, object: &Object) -> Result<(), ServiceError> {
    let who = &call.caller;
    if path != "/" && world.rights_on(&world.databricks, path, object, who) == Some("CAN_MANAGE") {
        return Ok(());
    }
    Err(ServiceError::permission_denied(format!("{who} does not have Manage permissions on {path}")))
}

fn asked_for(world: &World, call: &Call, is_job: bool) -> Result<Vec<Grant>, ServiceError> {
    let list = call.fields()?.0.get("access_control_list").cloned().unwrap_or_else(|| json!([]));
    grants(world, &list, is_job)
}

fn changed(world: &mut World, call: &Call) -> HandlerResult {
    world.mark_changed(key_of(call));
    let subject = subject(world, &world.databricks, call)?;
    Ok(databricks_data(&shown(&world.databricks, &subject)))
}

/// PATCH: adds or changes only the named principals.
pub(super) fn update(world: &mut World, call: &Call) -> HandlerResult {
    needs_premium(world)?;
    let (id, is_job) = managed(world, call)?;
    let new = asked_for(world, call, is_job)?;
    ServiceError::ensure(new.iter().all(|grant| grant.level != "IS_OWNER"), "The job must have exactly one owner.")?;
    let direct = world.databricks.grants.entry(id).or_default();
    for grant in new {
        direct.retain(|old| old.principal != grant.principal);
        direct.push(grant);
    }
    changed(world, call)
}

/// PUT: replaces all direct grants. A job must have exactly one owner, never a group.
pub(super) fn set(world: &mut World, call: &Call) -> HandlerResult {
    needs_premium(world)?;
    let (id, is_job) = managed(world, call)?;
    let (owners, others): (Vec<Grant>, Vec<Grant>) =
        asked_for(world, call, is_job)?.into_iter().partition(|grant| grant.level == "IS_OWNER");
    if is_job {
        let [owner] = owners.as_slice() else {
            return Err(ServiceError::invalid("The job must have exactly one owner."));
        };
        ServiceError::ensure(!people::is_group(&owner.principal), "Groups can not be owners of a job.")?;
        if let Some(job) = call.id(1).and_then(|id| world.databricks.jobs.get_mut(&id)) {
            job.creator.clone_from(&owner.principal);
        }
    }
    world.databricks.grants.insert(id, others);
    changed(world, call)
}

/// Lists the levels that can be granted on an object.
pub(super) fn levels(world: &mut World, call: &Call) -> HandlerResult {
    needs_premium(world)?;
    let levels = match subject(world, &world.databricks, call)? {
        Subject::Job(..) => JOB_LEVELS,
        Subject::Object(..) => OBJECT_LEVELS,
    };
    let rows: Vec<Value> = levels.iter().map(|level| json!({ "permission_level": level })).collect();
    Ok(databricks_data(&json!({ "permission_levels": rows })))
}
