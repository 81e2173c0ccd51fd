//! State of a Databricks workspace, with reads that may lag behind writes.

use std::cell::Cell;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::World;
use super::answers::ServiceError;
use super::call::Call;
use super::databricks_jobs::Job;
use super::permissions::Grant;
use super::secrets::Scope;
use super::workspace_objects::Object;

/// Workspace state without runs. A stale read sees an older copy.
#[derive(Clone, Default)]
pub(super) struct WorkspaceState {
    /// Keyed by lowercase name, because scope names are case-insensitive.
    pub(super) scopes: BTreeMap<String, Scope>,
    /// Lowercase.
    pub(super) reserved_scopes: Vec<String>,
    /// Keyed by path without `/Workspace`.
    pub(super) objects: BTreeMap<String, Object>,
    pub(super) jobs: BTreeMap<i64, Job>,
    /// Direct grants, keyed by `jobs/123` or `notebooks/123`.
    pub(super) grants: BTreeMap<String, Vec<Grant>>,
}

/// The state before a write, for the next reads of the objects it changed.
#[derive(Clone)]
pub(super) struct Stale {
    pub(super) old: WorkspaceState,
    pub(super) left: Cell<u32>,
}

impl World {
    /// Returns the state as a read of `key` sees it.
    pub(super) fn state_for_read(&self, key: &str) -> &WorkspaceState {
        match self.stale.get(key) {
            Some(stale) if stale.left.get() > 0 => {
                stale.left.set(stale.left.get() - 1);
                &stale.old
            }
            Some(_) | None => &self.databricks,
        }
    }

    /// Records that a write changed what reads of `key` return.
    pub(super) fn mark_changed(&mut self, key: impl Into<String>) {
        self.changed_keys.push(key.into());
    }
}

impl Call {
    /// Returns the body of a Databricks request. In forms, `true` and `false` become booleans.
    pub(super) fn fields(&self) -> Result<Fields, ServiceError> {
        let mut fields =
            self.object().map_err(|why| ServiceError::malformed(format!("Could not parse request object: {why}")))?;
        for value in fields.values_mut().filter(|_| self.is_form()) {
            match value.as_str() {
                Some("true") => *value = Value::Bool(true),
                Some("false") => *value = Value::Bool(false),
                Some(_) | None => {}
            }
        }
        Ok(Fields(fields))
    }

    /// Returns a required query parameter.
    pub(super) fn required_param(&self, name: &str) -> Result<&str, ServiceError> {
        match self.query_param(name) {
            Some(value) if !value.is_empty() => Ok(value),
            Some(_) | None => Err(missing(name)),
        }
    }

    /// Returns a numeric query parameter.
    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, ServiceError> {
        match self.query_param(name) {
            None | Some("") => Ok(None),
            Some(value) => {
                value.parse().map(Some).map_err(|_| ServiceError::invalid(format!("Invalid value for {name}: {value}")))
            }
        }
    }

    /// Returns a required numeric query parameter.
    pub(super) fn required_number(&self, name: &str) -> Result<i64, ServiceError> {
        self.number(name)?.ok_or_else(|| missing(name))
    }

    pub(super) fn query_flag(&self, name: &str) -> bool {
        self.query_param(name) == Some("true")
    }
}

/// A JSON object with typed getters. Unknown fields are accepted.
pub(super) struct Fields(pub(super) Map<String, Value>);

impl Fields {
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, ServiceError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(wrong_type(name, "a string", other)),
        }
    }

    pub(super) fn required_text(&self, name: &str) -> Result<String, ServiceError> {
        match self.text(name)? {
            Some(text) if !text.is_empty() => Ok(text),
            Some(_) | None => Err(missing(name)),
        }
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, ServiceError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(wrong_type(name, "a boolean", other)),
        }
    }

    /// Returns an id; int64 fields may be numbers or strings.
    pub(super) fn id(&self, name: &str) -> Result<i64, ServiceError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Err(missing(name)),
            Some(value) => value
                .as_i64()
                .or_else(|| value.as_str()?.parse().ok())
                .ok_or_else(|| wrong_type(name, "a 64-bit integer", value)),
        }
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<Map<String, Value>>, ServiceError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object.clone())),
            Some(other) => Err(wrong_type(name, "an object", other)),
        }
    }
}

fn missing(name: &str) -> ServiceError {
    ServiceError::invalid(format!("Missing required field: {name}"))
}

fn wrong_type(name: &str, wanted: &str, got: &Value) -> ServiceError {
    let mut shown = got.to_string();
    shown.truncate(shown.char_indices().nth(40).map_or(shown.len(), |(end, _)| end));
    ServiceError::malformed(format!("Could not parse request object: expected {wanted} for field {name}, got {shown}"))
}
