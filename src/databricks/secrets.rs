//! Secret scopes, secrets and their access control lists.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::permissions::Level;
use super::{done, optional, or_default, rows};
use crate::http::{BodyProblem, Call, Idempotent, Path, Read, Rows, parse_json};
use crate::secret::Secret;

/// A valid scope name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct ScopeName(String);

/// A valid key name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct KeyName(String);

/// Why a name is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadName(&'static str);

fn is_name(text: &str, signs: &[u8]) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || signs.contains(&byte))
}

impl FromStr for ScopeName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<ScopeName, BadName> {
        // Databricks' documentation disagrees about `@` and `/`, so leave them to the service.
        if is_name(text, b"-_.@/") {
            return Ok(ScopeName(text.to_owned()));
        }
        Err(BadName("a scope name has 1 to 128 letters, digits, hyphens, underscores, at signs, slashes, and dots"))
    }
}

impl FromStr for KeyName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<KeyName, BadName> {
        if is_name(text, b"-_.") {
            return Ok(KeyName(text.to_owned()));
        }
        Err(BadName("a key name has 1 to 128 letters, digits, hyphens, underscores, and dots"))
    }
}

impl ScopeName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Scope names are case-insensitive.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.0.eq_ignore_ascii_case(name)
    }
}

impl KeyName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ScopeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The group of all identities in a workspace.
pub(crate) const EVERYBODY: &str = "users";
/// The group of administrators, who can manage every scope.
pub(crate) const ADMINISTRATORS: &str = "admins";

/// A permission on a scope; each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Permission {
    Read,
    Write,
    Manage,
}

impl Level for Permission {
    const ALL: &'static [Permission] = &[Permission::Read, Permission::Write, Permission::Manage];

    fn name(self) -> &'static str {
        match self {
            Permission::Read => "READ",
            Permission::Write => "WRITE",
            Permission::Manage => "MANAGE",
        }
    }
}

/// Where the values of a scope are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// Databricks.
    Databricks,
    /// Azure Key Vault, with its URL if returned. Read-only through Databricks.
    KeyVault(Option<String>),
    /// A backend unknown to this version.
    Other(String),
}

/// A listed scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScopeInfo {
    pub(crate) name: String,
    pub(crate) backend: Backend,
}

/// A listed secret, without its value.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct SecretInfo {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) key: String,
    /// Milliseconds since 1970.
    #[serde(default, deserialize_with = "optional")]
    pub(crate) last_updated_timestamp: Option<i64>,
}

/// A permission of a principal on a scope.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Acl {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) principal: String,
    /// As in the API, such as `READ`. May be unknown to this version.
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) permission: String,
}

/// A hash to compare values without holding them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(crate) fn of(secret: &Secret) -> Fingerprint {
        Fingerprint(Sha256::digest(secret.reveal().as_bytes()).into())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// `scopes/list`: all scopes that this identity can see. There is no request for a single scope.
pub(crate) fn scopes() -> Read<Vec<ScopeInfo>> {
    #[derive(Deserialize)]
    struct Vault {
        dns_name: Option<String>,
    }
    #[derive(Deserialize)]
    struct Item {
        #[serde(default, deserialize_with = "or_default")]
        name: String,
        backend_type: Option<String>,
        keyvault_metadata: Option<Vault>,
    }
    Read::new(Call::get("secrets/scopes/list", Path::new("/api/2.0/secrets/scopes/list")), |answer| {
        let scopes: Vec<Item> = rows(answer, "scopes")?;
        let known = scopes.into_iter().map(|Item { name, backend_type, keyvault_metadata }| {
            let backend = match backend_type.as_deref() {
                None | Some("DATABRICKS") => Backend::Databricks,
                Some("AZURE_KEYVAULT") => Backend::KeyVault(keyvault_metadata.and_then(|vault| vault.dns_name)),
                Some(other) => Backend::Other(other.to_owned()),
            };
            ScopeInfo { name, backend }
        });
        Ok(known.collect())
    })
}

/// `scopes/create`. The creator has MANAGE; no one else has access.
pub(crate) fn create_scope(scope: &ScopeName) -> Idempotent<()> {
    let call = Call::post("secrets/scopes/create", Path::new("/api/2.0/secrets/scopes/create"));
    Idempotent::new(call.json(&json!({ "scope": scope.as_str() })), done)
}

/// `scopes/create` of a scope that all users of the workspace can manage: the only kind without the Premium plan.
pub(crate) fn create_open_scope(scope: &ScopeName) -> Idempotent<()> {
    let call = Call::post("secrets/scopes/create", Path::new("/api/2.0/secrets/scopes/create"));
    Idempotent::new(call.json(&json!({ "scope": scope.as_str(), "initial_manage_principal": EVERYBODY })), done)
}

/// `secrets/list`: the keys of a scope, without values.
pub(crate) fn list(scope: &ScopeName) -> Read<Vec<SecretInfo>> {
    let call = Call::get("secrets/list", Path::new("/api/2.0/secrets/list")).query("scope", scope);
    Read::new(call, |answer| rows(answer, "secrets"))
}

/// `secrets/put`: stores a value, replacing an existing one.
pub(crate) fn put(scope: &ScopeName, key: &KeyName, value: &Secret) -> Idempotent<()> {
    #[derive(Serialize)]
    struct Body<'a> {
        scope: &'a str,
        key: &'a str,
        string_value: &'a str,
    }
    let call = Call::post("secrets/put", Path::new("/api/2.0/secrets/put"));
    let body = Body { scope: scope.as_str(), key: key.as_str(), string_value: value.reveal() };
    Idempotent::new(call.json(&body), done)
}

/// `secrets/delete`. A key that does not exist is an error.
pub(crate) fn delete(scope: &ScopeName, key: &KeyName) -> Idempotent<()> {
    let call = Call::post("secrets/delete", Path::new("/api/2.0/secrets/delete"));
    Idempotent::new(call.json(&json!({ "scope": scope.as_str(), "key": key.as_str() })), done)
}

/// `scopes/delete`: deletes a scope and its secrets.
pub(crate) fn delete_scope(scope: &ScopeName) -> Idempotent<()> {
    let call = Call::post("secrets/scopes/delete", Path::new("/api/2.0/secrets/scopes/delete"));
    Idempotent::new(call.json(&json!({ "scope": scope.as_str() })), done)
}

/// `secrets/get`. Keeps only the fingerprint of the value. May be denied outside a cluster.
pub(crate) fn fingerprint(scope: &ScopeName, key: &KeyName) -> Read<Fingerprint> {
    #[derive(Deserialize)]
    struct Body {
        value: String,
    }
    let call = Call::get("secrets/get", Path::new("/api/2.0/secrets/get")).query("scope", scope).query("key", key);
    Read::new(call, |answer| {
        // Drop the parser's message, which may quote the value.
        let odd = |_| BodyProblem::Unreadable("it has no value".to_owned());
        let Body { value } = serde_json::from_slice(answer.body()).map_err(odd)?;
        let plain = STANDARD.decode(Zeroizing::new(value).as_bytes()).map(Zeroizing::new);
        let plain = plain.map_err(|_| BodyProblem::Unreadable("the value is not base64".to_owned()))?;
        Ok(Fingerprint(Sha256::digest(plain.as_slice()).into()))
    })
}

/// `acls/list`. Requires MANAGE.
pub(crate) fn acls(scope: &ScopeName) -> Read<Rows<Acl>> {
    #[derive(Deserialize)]
    struct Body {
        // Databricks' documentation shows both names.
        #[serde(alias = "acls", default)]
        items: Rows<Acl>,
    }
    let call = Call::get("secrets/acls/list", Path::new("/api/2.0/secrets/acls/list")).query("scope", scope);
    Read::new(call, |answer| Ok(parse_json::<Body>(answer)?.items))
}

/// `acls/put`: sets the permission of one principal, replacing an existing one.
pub(crate) fn put_acl(scope: &ScopeName, principal: &str, permission: Permission) -> Idempotent<()> {
    let call = Call::post("secrets/acls/put", Path::new("/api/2.0/secrets/acls/put"));
    let body = json!({ "scope": scope.as_str(), "principal": principal, "permission": permission.name() });
    Idempotent::new(call.json(&body), done)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Method, Response};

    use super::*;
    use crate::secret::Vault;

    fn answer(body: &str) -> Response<Bytes> {
        Response::new(Bytes::from(body.to_owned()))
    }

    fn body(call: &Call) -> serde_json::Value {
        serde_json::from_slice(call.body.as_ref().unwrap()).unwrap()
    }

    #[test]
    fn names_are_checked_before_anything_is_sent() {
        for (name, scope, key) in [
            ("dbt-cloud", true, true),
            ("a.b_c@d", true, false),
            ("", false, false),
            ("a b", false, false),
            ("a/b", true, false),
            ("ä", false, false),
            (&"x".repeat(128), true, true),
            (&"x".repeat(129), false, false),
        ] {
            assert_eq!(name.parse::<ScopeName>().is_ok(), scope, "{name}");
            assert_eq!(name.parse::<KeyName>().is_ok(), key, "{name}");
        }
    }

    #[test]
    fn a_scope_is_opened_to_everybody_only_where_it_is_asked_for() {
        let Idempotent { call, parse: _ } = create_scope(&"dbt".parse().unwrap());
        assert_eq!((call.method.clone(), call.path.as_str()), (Method::POST, "/api/2.0/secrets/scopes/create"));
        assert_eq!(body(&call), json!({ "scope": "dbt" }));
        let Idempotent { call, parse: _ } = create_open_scope(&"dbt".parse().unwrap());
        assert_eq!(body(&call), json!({ "scope": "dbt", "initial_manage_principal": "users" }));
    }

    #[test]
    fn the_key_is_put_as_text() {
        let key = Vault::default().admit("dbtc_1234567890\n".to_owned()).unwrap();
        let Idempotent { call, parse: _ } = put(&"dbt".parse().unwrap(), &"api-key".parse().unwrap(), &key);
        assert_eq!(body(&call), json!({ "scope": "dbt", "key": "api-key", "string_value": "dbtc_1234567890" }));
    }

    #[test]
    fn absent_lists_are_empty_lists_and_both_names_of_the_acl_list_are_read() {
        let scope: ScopeName = "dbt".parse().unwrap();
        assert_eq!((scopes().parse)(&answer("{}")).unwrap(), []);
        assert_eq!((list(&scope).parse)(&answer("{}")).unwrap(), []);
        for name in ["items", "acls"] {
            let text = format!(r#"{{"{name}":[{{"principal":"users","permission":"MANAGE"}}]}}"#);
            assert_eq!((acls(&scope).parse)(&answer(&text)).unwrap().rows[0].principal, "users");
        }
    }

    #[test]
    fn the_three_kinds_of_scope_are_told_apart() {
        let text = r#"{"scopes":[{"name":"a","backend_type":"DATABRICKS"},{"name":"b","backend_type":"AZURE_KEYVAULT",
            "keyvault_metadata":{"resource_id":"/x","dns_name":"https://v.vault.azure.net/"}},{"name":"c","backend_type":"NEW"}]}"#;
        let backends: Vec<Backend> =
            (scopes().parse)(&answer(text)).unwrap().into_iter().map(|scope| scope.backend).collect();
        let vault = Backend::KeyVault(Some("https://v.vault.azure.net/".to_owned()));
        assert_eq!(backends, [Backend::Databricks, vault, Backend::Other("NEW".to_owned())]);
    }

    #[test]
    fn of_a_stored_value_only_the_fingerprint_is_kept_and_no_error_quotes_it() {
        let key = Vault::default().admit("dbtc_1234567890".to_owned()).unwrap();
        let Read { call, parse } = fingerprint(&"dbt".parse().unwrap(), &"api-key".parse().unwrap());
        assert_eq!(call.target(), "/api/2.0/secrets/get?scope=dbt&key=api-key");
        let stored = |value: &str| answer(&format!(r#"{{"key":"api-key","value":"{}"}}"#, STANDARD.encode(value)));
        assert_eq!(parse(&stored("dbtc_1234567890")).unwrap(), Fingerprint::of(&key));
        assert_ne!(parse(&stored("dbtc_1234567890\n")).unwrap(), Fingerprint::of(&key));
        let Err(BodyProblem::Unreadable(reason)) = parse(&answer(r#"{"value":["dbtc_1234567890"]}"#)) else { panic!() };
        assert!(!reason.contains("dbtc"), "{reason}");
    }
}
