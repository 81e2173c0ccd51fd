//! The dbt API key in a secret scope, as it is asked for.

use super::grants::GrantTo;
use crate::databricks::secrets::{Fingerprint, KeyName, Permission, ScopeName};
use crate::failure::{Code, Failure};

/// Scope and key, unless a flag or the notebook names others.
pub(crate) const DEFAULT_SCOPE: &str = "dbt-cloud";
pub(crate) const DEFAULT_KEY: &str = "api-key";

/// A dbt API key in a secret scope.
#[derive(Clone, Debug)]
pub(crate) struct SecretSpec {
    pub(crate) scope: ScopeName,
    pub(crate) key: KeyName,
    /// The key that replaces a stored one.
    pub(crate) replacement: Option<Fingerprint>,
    /// Who gets access to the scope.
    pub(crate) grants: Vec<GrantTo<Permission>>,
}

/// Scope and key, if no notebook names them.
pub(crate) fn secret_names(scope: Option<ScopeName>, key: Option<KeyName>) -> Result<(ScopeName, KeyName), Failure> {
    let bug = |_| Failure::new(Code::Bug, "the default scope or key name is invalid");
    let scope = scope.map_or_else(|| DEFAULT_SCOPE.parse().map_err(bug), Ok)?;
    let key = key.map_or_else(|| DEFAULT_KEY.parse().map_err(bug), Ok)?;
    Ok((scope, key))
}
