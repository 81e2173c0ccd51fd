//! The workspace's OAuth endpoints: discovery, client credentials of service principals, and
//! exchange of id tokens.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CACHE_CONTROL, HeaderValue};
use serde_json::json;

use super::World;
use super::answers::{HandlerResult, ServiceError, databricks_data};
use super::call::Call;

/// Default token lifetime in seconds.
const LIFE: i64 = 3600;

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// OAuth clients and the tokens issued.
#[derive(Clone)]
pub(super) struct OAuth {
    /// Application ids and their client secrets.
    clients: Vec<(String, String)>,
    /// Application ids and the id tokens their federation policies accept.
    pub(super) policies: Vec<(String, String)>,
    pub(super) issued: Vec<IssuedToken>,
    pub(super) token_lifetime_seconds: i64,
}

#[derive(Clone)]
pub(super) struct IssuedToken {
    token: String,
    to: String,
    pub(super) expires: i64,
}

impl OAuth {
    pub(super) fn new() -> OAuth {
        OAuth { clients: Vec::new(), policies: Vec::new(), issued: Vec::new(), token_lifetime_seconds: LIFE }
    }

    /// Returns the caller of a token issued here; an expired token is refused. `None` for other tokens.
    pub(super) fn caller(&self, authorization: Option<&str>, now: i64) -> Option<Result<String, ServiceError>> {
        let token = authorization?.strip_prefix("Bearer ")?;
        let issued = self.issued.iter().find(|issued| issued.token == token)?;
        if now < issued.expires {
            return Some(Ok(issued.to.clone()));
        }
        Some(Err(ServiceError::databricks(401, "UNAUTHENTICATED", "Token is expired.")))
    }
}

impl World {
    /// Adds a client secret for a service principal, which is added to the workspace.
    pub fn add_client(&mut self, application_id: &str, secret: &str, admin: bool) {
        self.people.add(application_id, None, admin);
        self.oauth.clients.push((application_id.to_owned(), secret.to_owned()));
    }
}

/// Host metadata, from which SDKs find the OAuth endpoints.
#[expect(clippy::unnecessary_wraps, reason = "the route table wants one shape")]
pub(super) fn metadata(world: &mut World, _: &Call) -> HandlerResult {
    Ok(databricks_data(&json!({
        "oidc_endpoint": format!("{}/oidc", world.origin),
        "account_id": "5b0c5b0c-0000-4000-8000-000000051234",
        "workspace_id": super::people::WORKSPACE_ID.to_string(),
        "cloud": "AWS",
        "host_type": "workspace",
    })))
}

/// `GET /oidc/.well-known/oauth-authorization-server`.
#[expect(clippy::unnecessary_wraps, reason = "the route table wants one shape")]
pub(super) fn discovery(world: &mut World, _: &Call) -> HandlerResult {
    let origin = &world.origin;
    Ok(databricks_data(&json!({
        "issuer": format!("{origin}/oidc"),
        "authorization_endpoint": format!("{origin}/oidc/v1/authorize"),
        "token_endpoint": format!("{origin}/oidc/v1/token"),
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials", EXCHANGE],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "none"],
    })))
}

/// `POST /oidc/v1/token`.
pub(super) fn token(world: &mut World, call: &Call) -> HandlerResult {
    if !call.is_form() {
        return Err(ServiceError::oauth(400, "invalid_request", "The request body must be form-encoded."));
    }
    let form = call.object().map_err(ServiceError::malformed)?;
    let field = |name: &str| form.get(name).and_then(|value| value.as_str()).unwrap_or_default();
    if field("scope") != "all-apis" {
        return Err(ServiceError::oauth(400, "invalid_scope", "The scope must be all-apis."));
    }
    let to = match field("grant_type") {
        "client_credentials" => {
            let pair = call.authorization.as_deref().and_then(|header| header.strip_prefix("Basic "));
            let pair = pair.and_then(|text| STANDARD.decode(text).ok()).and_then(|bytes| String::from_utf8(bytes).ok());
            let known = pair
                .as_deref()
                .and_then(|pair| pair.split_once(':'))
                .and_then(|(id, secret)| world.oauth.clients.iter().find(|(known, its)| known == id && its == secret));
            let Some((id, _)) = known else {
                return Err(ServiceError::oauth(401, "invalid_client", "Client authentication failed"));
            };
            id.clone()
        }
        EXCHANGE => {
            if field("subject_token_type") != JWT {
                return Err(ServiceError::oauth(400, "invalid_request", "The subject token type is not supported."));
            }
            let (client, subject) = (field("client_id"), field("subject_token"));
            let taken =
                world.oauth.policies.iter().find(|(id, jwt)| jwt == subject && (client.is_empty() || client == id));
            let Some((id, _)) = taken else {
                return Err(ServiceError::oauth(400, "invalid_grant", "No federation policy matches the token."));
            };
            id.clone()
        }
        _ => return Err(ServiceError::oauth(400, "unsupported_grant_type", "The grant type is not supported.")),
    };
    let token = format!("eyJ0sandbox.{:06}.{}", world.oauth.issued.len() + 1, world.ids.next_commit_sha());
    let seconds = world.oauth.token_lifetime_seconds;
    world.oauth.issued.push(IssuedToken { token: token.clone(), to, expires: world.now.0 + seconds * 1000 });
    let body = json!({ "access_token": token, "token_type": "Bearer", "expires_in": seconds, "scope": "all-apis" });
    let mut answer = databricks_data(&body);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}
