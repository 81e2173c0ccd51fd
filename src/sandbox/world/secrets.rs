//! Secret scopes, secrets and their ACLs.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::answers::{HandlerResult, HttpResponse, ServiceError, databricks_data, rows};
use super::call::Call;
use super::databricks::WorkspaceState;
use super::people::People;
use super::{SecretRefused, World};

const LARGEST_VALUE: usize = 128 * 1024;
/// Most scopes in a workspace, and most secrets in a scope.
const MOST: usize = 1000;

/// READ < WRITE < MANAGE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Read,
    Write,
    Manage,
}

impl Level {
    fn parse(text: &str) -> Option<Level> {
        [Level::Read, Level::Write, Level::Manage].into_iter().find(|level| level.name() == text)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Level::Read => "READ",
            Level::Write => "WRITE",
            Level::Manage => "MANAGE",
        }
    }
}

#[derive(Clone)]
pub(super) struct Scope {
    pub(super) name: String,
    pub(super) key_vault: bool,
    pub(super) creator: String,
    pub(super) secrets: BTreeMap<String, Secret>,
    pub(super) acls: BTreeMap<String, Level>,
}

#[derive(Clone)]
pub(super) struct Secret {
    pub(super) value: Vec<u8>,
    /// How often it was put, so tests can detect a repeated write.
    pub(super) version: u32,
    pub(super) updated: i64,
}

impl Scope {
    fn level(&self, people: &People, who: &str) -> Option<Level> {
        // Administrators can read and manage every scope.
        if people.is_admin(who) {
            return Some(Level::Manage);
        }
        let granted = self.acls.iter().filter(|(principal, _)| people.is_or_belongs_to(who, principal));
        granted.map(|(_, level)| *level).max()
    }
}

impl World {
    pub(super) fn secret_for(&self, who: &str, scope: &str, key: &str) -> Result<String, SecretRefused> {
        let missing = || SecretRefused::Missing { scope: scope.to_owned(), key: key.to_owned() };
        let found = self.databricks.scopes.get(&scope.to_lowercase()).ok_or_else(missing)?;
        if found.level(&self.people, who).is_none() {
            return Err(SecretRefused::Forbidden { scope: scope.to_owned(), identity: who.to_owned() });
        }
        let secret = found.secrets.get(key).ok_or_else(missing)?;
        Ok(String::from_utf8_lossy(&secret.value).into_owned())
    }

    fn allowed<'a>(
        &'a self,
        state: &'a WorkspaceState,
        call: &Call,
        scope: &str,
        level: Level,
    ) -> Result<&'a Scope, ServiceError> {
        let Some(found) = state.scopes.get(&scope.to_lowercase()) else {
            return Err(ServiceError::not_found(format!("Scope {scope} does not exist!")));
        };
        if found.level(&self.people, &call.caller) >= Some(level) {
            return Ok(found);
        }
        let (who, level) = (&call.caller, level.name());
        Err(ServiceError::permission_denied(format!("User {who} does not have {level} permission on scope {scope}")))
    }
}

/// Records that reads of the scope may lag.
fn changed(world: &mut World, scope: &str) -> HttpResponse {
    world.mark_changed(key_of(scope));
    databricks_data(&json!({}))
}

fn key_of(scope: &str) -> String {
    format!("scope:{}", scope.to_lowercase())
}

fn is_name(text: &str, more: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.chars().all(|sign| sign.is_ascii_alphanumeric() || "-_.".contains(sign) || more.contains(sign))
}

pub(super) fn create_scope(world: &mut World, call: &Call) -> HandlerResult {
    let fields = call.fields()?;
    let name = fields.required_text("scope")?;
    let first = fields.text("initial_manage_principal")?;
    let what = format!(
        "Scope name {name} is invalid: it must consist of alphanumeric characters, dashes, underscores, @ and periods, and be at most 128 characters long."
    );
    ServiceError::ensure(is_name(&name, "@"), what)?;
    match fields.text("scope_backend_type")?.as_deref() {
        None | Some("DATABRICKS") => {}
        Some("AZURE_KEYVAULT") => {
            return Err(ServiceError::databricks(
                401,
                "UNAUTHENTICATED",
                "Scope with Azure KeyVault must have userAADToken defined!",
            ));
        }
        Some(other) => return Err(ServiceError::invalid(format!("Unknown scope backend type {other}"))),
    }
    if world.databricks.reserved_scopes.contains(&name.to_lowercase()) {
        return Err(ServiceError::databricks(403, "CUSTOMER_UNAUTHORIZED", format!("Scope name {name} is reserved.")));
    }
    if world.databricks.scopes.contains_key(&name.to_lowercase()) {
        return Err(ServiceError::already_exists(format!("Scope {name} already exists!")));
    }
    if world.databricks.scopes.len() >= MOST {
        let what = format!("Cannot create more than {MOST} scopes");
        return Err(ServiceError::databricks(400, "RESOURCE_LIMIT_EXCEEDED", what));
    }
    let manager = match first.as_deref() {
        Some("users") => "users".to_owned(),
        Some(other) => {
            return Err(ServiceError::invalid(format!(
                "initial_manage_principal can only be \"users\", not \"{other}\""
            )));
        }
        None if !world.premium => {
            return Err(ServiceError::bad_request(
                "Premium Tier is disabled in this workspace. Secret scopes can only be created with initial_manage_principal \"users\".",
            ));
        }
        None => call.caller.clone(),
    };
    let scope = Scope {
        name: name.clone(),
        key_vault: false,
        creator: call.caller.clone(),
        secrets: BTreeMap::new(),
        acls: BTreeMap::from([(manager, Level::Manage)]),
    };
    world.databricks.scopes.insert(name.to_lowercase(), scope);
    world.mark_changed("scopes");
    Ok(changed(world, &name))
}

#[expect(clippy::unnecessary_wraps, reason = "every row of the route table has this signature")]
pub(super) fn list_scopes(world: &mut World, _call: &Call) -> HandlerResult {
    let scopes: Vec<Value> = world
        .state_for_read("scopes")
        .scopes
        .values()
        .map(|scope| {
            if scope.key_vault {
                json!({ "name": scope.name, "backend_type": "AZURE_KEYVAULT", "keyvault_metadata": {
                    "resource_id": "/subscriptions/0/resourceGroups/sandbox/providers/Microsoft.KeyVault/vaults/sandbox",
                    "dns_name": "https://sandbox.vault.azure.net/" } })
            } else {
                json!({ "name": scope.name, "backend_type": "DATABRICKS" })
            }
        })
        .collect();
    Ok(rows("scopes", &scopes))
}

pub(super) fn put(world: &mut World, call: &Call) -> HandlerResult {
    let fields = call.fields()?;
    let (name, key) = (fields.required_text("scope")?, fields.required_text("key")?);
    let value = match (fields.text("string_value")?, fields.text("bytes_value")?) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(encoded)) => STANDARD
            .decode(encoded)
            .map_err(|_| ServiceError::malformed("Could not parse request object: bytes_value is not base64"))?,
        (Some(_), Some(_)) | (None, None) => {
            return Err(ServiceError::malformed("Exactly one of string_value and bytes_value must be given."));
        }
    };
    let scope = world.allowed(&world.databricks, call, &name, Level::Write)?;
    if scope.key_vault {
        return Err(ServiceError::bad_request("Cannot write secrets to Azure KeyVault"));
    }
    let what = format!(
        "Secret key {key} is invalid: it must consist of alphanumeric characters, dashes, underscores and periods, and be at most 128 characters long."
    );
    ServiceError::ensure(is_name(&key, ""), what)?;
    let what = format!("Secret value exceeds the maximum of {LARGEST_VALUE} bytes");
    ServiceError::ensure(value.len() <= LARGEST_VALUE, what)?;
    if scope.secrets.len() >= MOST && !scope.secrets.contains_key(&key) {
        let what = format!("Cannot store more than {MOST} secrets in scope {name}");
        return Err(ServiceError::databricks(400, "RESOURCE_LIMIT_EXCEEDED", what));
    }
    if let Some(scope) = world.databricks.scopes.get_mut(&name.to_lowercase()) {
        let version = scope.secrets.get(&key).map_or(1, |old| old.version + 1);
        scope.secrets.insert(key, Secret { value, version, updated: call.now.0 });
    }
    Ok(changed(world, &name))
}

pub(super) fn list(world: &mut World, call: &Call) -> HandlerResult {
    let name = call.required_param("scope")?;
    let scope = world.allowed(world.state_for_read(&key_of(name)), call, name, Level::Read)?;
    let secrets: Vec<Value> = scope
        .secrets
        .iter()
        .map(|(key, secret)| json!({ "key": key, "last_updated_timestamp": secret.updated }))
        .collect();
    Ok(rows("secrets", &secrets))
}

pub(super) fn get(world: &mut World, call: &Call) -> HandlerResult {
    let (name, key) = (call.required_param("scope")?, call.required_param("key")?);
    let scope = world.allowed(world.state_for_read(&key_of(name)), call, name, Level::Read)?;
    if !world.secret_reading {
        return Err(ServiceError::bad_request("Secret values can only be read from a command on a cluster."));
    }
    match scope.secrets.get(key) {
        Some(secret) => Ok(databricks_data(&json!({ "key": key, "value": STANDARD.encode(&secret.value) }))),
        None => Err(ServiceError::not_found(format!("Failed to get secret {key} for scope {name}."))),
    }
}

pub(super) fn put_acl(world: &mut World, call: &Call) -> HandlerResult {
    let fields = call.fields()?;
    let (name, principal) = (fields.required_text("scope")?, fields.required_text("principal")?);
    let level = fields.required_text("permission")?;
    let Some(level) = Level::parse(&level) else {
        return Err(ServiceError::invalid(format!("Invalid permission {level}: it is one of READ, WRITE, MANAGE")));
    };
    super::permissions::needs_premium(world)?;
    world.allowed(&world.databricks, call, &name, Level::Manage)?;
    if !world.people.knows(&principal) {
        return Err(ServiceError::not_found(format!("User or Group {principal} does not exist.")));
    }
    if let Some(scope) = world.databricks.scopes.get_mut(&name.to_lowercase()) {
        // Put overwrites, although the documentation mentions RESOURCE_ALREADY_EXISTS.
        scope.acls.insert(principal, level);
    }
    Ok(changed(world, &name))
}

pub(super) fn get_acl(world: &mut World, call: &Call) -> HandlerResult {
    let (name, principal) = (call.required_param("scope")?, call.required_param("principal")?);
    let scope = world.allowed(world.state_for_read(&key_of(name)), call, name, Level::Manage)?;
    match scope.acls.get(principal) {
        Some(level) => Ok(databricks_data(&json!({ "principal": principal, "permission": level.name() }))),
        None => Err(ServiceError::not_found(format!("No ACL for principal {principal} in scope {name}"))),
    }
}

pub(super) fn list_acls(world: &mut World, call: &Call) -> HandlerResult {
    let name = call.required_param("scope")?;
    let scope = world.allowed(world.state_for_read(&key_of(name)), call, name, Level::Manage)?;
    let items: Vec<Value> = scope
        .acls
        .iter()
        .map(|(principal, level)| json!({ "principal": principal, "permission": level.name() }))
        .collect();
    Ok(databricks_data(&json!({ "items": items })))
}

/// Deletes all secrets and ACLs of the scope too.
pub(super) fn delete_scope(world: &mut World, call: &Call) -> HandlerResult {
    let name = call.fields()?.required_text("scope")?;
    world.allowed(&world.databricks, call, &name, Level::Manage)?;
    world.databricks.scopes.remove(&name.to_lowercase());
    world.mark_changed("scopes");
    Ok(changed(world, &name))
}

pub(super) fn delete(world: &mut World, call: &Call) -> HandlerResult {
    let fields = call.fields()?;
    let (name, key) = (fields.required_text("scope")?, fields.required_text("key")?);
    if world.allowed(&world.databricks, call, &name, Level::Write)?.key_vault {
        return Err(ServiceError::bad_request("Cannot delete secrets from Azure KeyVault"));
    }
    let scope = world.databricks.scopes.get_mut(&name.to_lowercase());
    if scope.and_then(|scope| scope.secrets.remove(&key)).is_none() {
        return Err(ServiceError::not_found(format!("Failed to delete secret {key} for scope {name}.")));
    }
    Ok(changed(world, &name))
}

pub(super) fn delete_acl(world: &mut World, call: &Call) -> HandlerResult {
    let fields = call.fields()?;
    let (name, principal) = (fields.required_text("scope")?, fields.required_text("principal")?);
    world.allowed(&world.databricks, call, &name, Level::Manage)?;
    let scope = world.databricks.scopes.get_mut(&name.to_lowercase());
    if scope.and_then(|scope| scope.acls.remove(&principal)).is_none() {
        return Err(ServiceError::not_found(format!("No ACL for principal {principal} in scope {name}")));
    }
    Ok(changed(world, &name))
}
