//! Tokens from the workspace's OAuth endpoints: for a service principal with a secret, and for
//! GitHub Actions with an ID token.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Response;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::OnceCell;
use url::Url;

use super::databricks::host::is_of_databricks;
use crate::http::{
    IssuedToken, Issuer, NoToken, TokenClient, TokenFuture, TokenRequest, Unanswered, shorten, title_of_page,
};
use crate::origin::Origin;
use crate::secret::{Secret, Vault};

/// All APIs of the workspace.
const SCOPE: &str = "all-apis";

/// The workspace's token endpoint.
pub(super) struct Endpoint {
    pub(super) origin: Origin,
    pub(super) token_client: TokenClient,
    pub(super) vault: Vault,
    /// Discovered once.
    pub(super) url: OnceCell<Url>,
}

/// Issues tokens for the client ID and secret of a service principal.
pub(super) struct FromServicePrincipal {
    pub(super) endpoint: Endpoint,
    pub(super) id: String,
    pub(super) secret: Secret,
}

/// Exchanges the ID token of a GitHub Actions job for a workspace token.
pub(super) struct FromGitHub {
    pub(super) endpoint: Endpoint,
    pub(super) github: TokenClient,
    pub(super) id: Option<String>,
    pub(super) url: Url,
    pub(super) token: Secret,
    pub(super) audience: Option<String>,
}

#[derive(Deserialize)]
struct TokenResponse {
    access_token: String,
    expires_in: Option<u64>,
}

impl Issuer for FromServicePrincipal {
    fn issue(&self, _refused: bool) -> TokenFuture<'_> {
        Box::pin(async {
            let basic = STANDARD.encode(format!("{}:{}", self.id, self.secret.reveal()));
            // Redaction must know the encoded form, too.
            self.endpoint
                .vault
                .admit(basic.clone())
                .map_err(|odd| none(&format!("the client secret: {odd}"), false))?;
            let form = vec![("grant_type", "client_credentials".to_owned()), ("scope", SCOPE.to_owned())];
            self.endpoint
                .ask(Some(format!("Basic {basic}")), form, "check DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET (or client_id and client_secret of the profile): a workspace administrator can create a new secret under Settings > Identity and access > Service principals")
                .await
        })
    }
}

impl Issuer for FromGitHub {
    fn issue(&self, _refused: bool) -> TokenFuture<'_> {
        Box::pin(async {
            let audience = match &self.audience {
                Some(audience) => audience.clone(),
                None => self.endpoint.url().await?.to_string(),
            };
            let mut url = self.url.clone();
            url.query_pairs_mut().append_pair("audience", &audience);
            let ask = TokenRequest { url, authorization: Some(format!("Bearer {}", self.token.reveal())), form: None };
            let answer = self.github.ask(ask).await.map_err(unanswered)?;
            let host = self.url.host_str().unwrap_or_default();
            let value = serde_json::from_slice::<Value>(answer.body()).ok();
            let given =
                value.as_ref().and_then(|value| value["value"].as_str()).filter(|_| answer.status().is_success());
            let Some(given) = given else {
                let status = answer.status().as_u16();
                let none = none(&format!("GitHub ({host}) issued no ID token: {status}"), is_passing(status));
                return Err(NoToken { retry_after: self.github.retry_after(&answer), ..none });
            };
            let jwt =
                self.endpoint.vault.admit(given.to_owned()).map_err(|odd| {
                    none(&format!("the response of GitHub ({host}) is not an ID token: {odd}"), false)
                })?;
            let mut form = vec![
                ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange".to_owned()),
                ("subject_token", jwt.reveal().to_owned()),
                ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt".to_owned()),
                ("scope", SCOPE.to_owned()),
            ];
            form.extend(self.id.clone().map(|id| ("client_id", id)));
            self.endpoint
                .ask(None, form, "compare the service principal's federation policy with this repository, branch, or environment, and set DATABRICKS_CLIENT_ID to its application ID")
                .await
        })
    }
}

impl Endpoint {
    /// The token endpoint from the host's metadata, from OAuth discovery, or the default path.
    async fn url(&self) -> Result<&Url, NoToken> {
        self.url.get_or_try_init(|| self.discover()).await
    }

    async fn discover(&self) -> Result<Url, NoToken> {
        let at = |path: &str| self.origin.url().join(path).map_err(|error| none(&error.to_string(), false));
        let metadata = self.document(at("/.well-known/databricks-config")?).await?;
        let root = metadata.and_then(|document| {
            let root = document["oidc_endpoint"].as_str()?.trim_end_matches('/');
            let root = match document["account_id"].as_str() {
                Some(account) => root.replace("{account_id}", account),
                None => root.to_owned(),
            };
            Some(format!("{root}/.well-known/oauth-authorization-server"))
        });
        if root.as_ref().is_some_and(|root| root.contains("{account_id}")) {
            let message = format!("the OAuth metadata of {} names no account", self.origin);
            return Err(none(&message, false));
        }
        let discovery = match root.and_then(|root| Url::parse(&root).ok()) {
            Some(url) => {
                self.check(&url)?;
                url
            }
            None => at("/oidc/.well-known/oauth-authorization-server")?,
        };
        let named =
            self.document(discovery).await?.and_then(|document| Url::parse(document["token_endpoint"].as_str()?).ok());
        let endpoint = match named {
            Some(endpoint) => endpoint,
            None => at("/oidc/v1/token")?,
        };
        self.check(&endpoint)?;
        Ok(endpoint)
    }

    /// Checks that the secret is sent only to the workspace itself, or from one Databricks host to another.
    fn check(&self, url: &Url) -> Result<(), NoToken> {
        let theirs = |origin: &Origin| is_of_databricks(origin) && is_of_databricks(&self.origin);
        match Origin::of(url) {
            Ok(origin) if origin == self.origin || theirs(&origin) => Ok(()),
            Ok(_) | Err(_) => Err(none(
                &format!("{} names {url} as its token endpoint; secrets are not sent to another host", self.origin),
                false,
            )),
        }
    }

    /// Reads a document; `None` if the host does not have it. An unreachable host is an error.
    async fn document(&self, url: Url) -> Result<Option<Value>, NoToken> {
        let ask = TokenRequest { url: url.clone(), authorization: None, form: None };
        let answer = self.token_client.ask(ask).await.map_err(unanswered)?;
        match answer.status().as_u16() {
            200..=299 => Ok(serde_json::from_slice(answer.body()).ok()),
            status if is_passing(status) => Err(NoToken {
                retry_after: self.token_client.retry_after(&answer),
                ..none(&format!("{url} answered {status}"), true)
            }),
            _ => Ok(None),
        }
    }

    async fn ask(
        &self,
        authorization: Option<String>,
        form: Vec<(&'static str, String)>,
        advice: &str,
    ) -> Result<IssuedToken, NoToken> {
        let url = self.url().await?.clone();
        let ask = TokenRequest { url: url.clone(), authorization, form: Some(form) };
        let answer = self.token_client.ask(ask).await.map_err(unanswered)?;
        let status = answer.status().as_u16();
        if !answer.status().is_success() {
            let message = format!("{url} answered {status}: {}", said(&answer));
            let advice = if status == 404 {
                "check the host: it does not support OAuth (a personal access token works without)"
            } else {
                advice
            };
            let retry_after = self.token_client.retry_after(&answer);
            return Err(NoToken { advice: advice.to_owned(), retry_after, ..none(&message, is_passing(status)) });
        }
        let TokenResponse { access_token, expires_in } = serde_json::from_slice(answer.body())
            .map_err(|_| none(&format!("{url} returned no access_token"), false))?;
        let secret = self
            .vault
            .admit(access_token)
            .map_err(|odd| none(&format!("the access_token from {url} is not a token: {odd}"), false))?;
        Ok(IssuedToken { secret, life: expires_in.map(Duration::from_secs) })
    }
}

/// Formats `{error, error_description}`, or any other response.
fn said(answer: &Response<Bytes>) -> String {
    if let Some(title) = title_of_page(answer.body()) {
        return format!("a web page \"{title}\"");
    }
    let Ok(body) = serde_json::from_slice::<Value>(answer.body()) else {
        return shorten(&String::from_utf8_lossy(answer.body()));
    };
    let text = |name: &str| body[name].as_str().filter(|text| !text.is_empty());
    let words: Vec<&str> =
        ["error", "error_code", "error_description", "message"].into_iter().filter_map(text).collect();
    shorten(&words.join(": "))
}

fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

fn unanswered(unanswered: Unanswered) -> NoToken {
    let Unanswered { why, net } = unanswered;
    NoToken { net, ..none(&why, true) }
}

fn none(message: &str, is_retryable: bool) -> NoToken {
    let advice = if is_retryable {
        "run the same command again in a few minutes"
    } else {
        "check DATABRICKS_HOST or the profile's host"
    };
    NoToken {
        message: message.to_owned(),
        is_retryable,
        net: None,
        retry_after: None,
        advice: advice.to_owned(),
        tried: Vec::new(),
    }
}
