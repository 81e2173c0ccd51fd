//! The dbt API key in a secret scope, as it is asked for.

use super::grants::GrantTo;
use super::setting::Setting;
use crate::databricks::secrets::{Fingerprint, KeyName, Permission, ScopeName};
use crate::failure::{Code, Failure};

/// Scope and key, unless a flag or the notebook names others.
pub(crate) const DEFAULT_SCOPE: &str = "dbt-cloud";
pub(crate) const DEFAULT_KEY: &str = "api-key";

/// A dbt API key in a secret scope.
#[derive(Clone, Debug)]
pub(crate) struct SecretSpec {
    pub(crate) scope: Setting<ScopeName>,
    pub(crate) key: Setting<KeyName>,
    /// The key that replaces a stored one.
    pub(crate) replacement: Option<Fingerprint>,
    /// Who gets access to the scope.
    pub(crate) grants: Vec<GrantTo<Permission>>,
}

impl SecretSpec {
    /// Scope and key, if no notebook names them.
    pub(crate) fn names(&self) -> Result<(ScopeName, KeyName), Failure> {
        let bug = |_| Failure::new(Code::Bug, "the default scope or key name is invalid");
        let scope = self.scope.value().cloned().map_or_else(|| DEFAULT_SCOPE.parse().map_err(bug), Ok)?;
        let key = self.key.value().cloned().map_or_else(|| DEFAULT_KEY.parse().map_err(bug), Ok)?;
        Ok((scope, key))
    }
}
