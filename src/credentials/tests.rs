//! Token issuers against what they call: GitHub with the sandbox, and a script in place of `databricks`.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::sync::OnceCell;

use super::cli::FromCli;
use super::oauth::{Endpoint, FromGitHub, FromServicePrincipal};
use crate::context::Wall;
use crate::events::Events;
use crate::http::{IssuedToken, Issuer, Lane, Limits, NoToken, Pending, TokenClient, Transport};
use crate::origin::Origin;
use crate::sandbox::{Reply, Seed, SimTime, World};
use crate::secret::Vault;

const ID: &str = "1b2c3d4e-0000-4000-8000-000000000001";
const JWT: &str = "eyJhbGciOi.of-github.0123456789";

/// The sandbox and GitHub. Records the requests to GitHub.
#[derive(Clone)]
struct Town {
    world: Rc<RefCell<World>>,
    asked: Rc<RefCell<Vec<String>>>,
    github: u16,
}

impl Transport for Town {
    fn send(&self, request: Request<Bytes>, _: Limits, _: Lane) -> Pending<'_> {
        Box::pin(async move {
            if request.uri().host() != Some("github.example") {
                let Reply::Answer(answer) = self.world.borrow_mut().answer(SimTime(0), &request) else { panic!() };
                return Ok(answer);
            }
            let bearer = request.headers()["authorization"].to_str().unwrap();
            self.asked.borrow_mut().push(format!("{} {bearer}", request.uri()));
            let mut answer = Response::new(Bytes::from(format!(r#"{{"value":"{JWT}"}}"#)));
            *answer.status_mut() = http::StatusCode::from_u16(self.github).unwrap();
            Ok(answer)
        })
    }
}

async fn from_github(github: u16, trusted: &str) -> (Result<IssuedToken, NoToken>, Vec<String>, Vault) {
    let seed = Seed {
        databricks_token: "dapi-town-0123456789".to_owned(),
        dbt_token: "dbtc_town_0123456789".to_owned(),
        start: SimTime(0),
        random: 7,
    };
    let mut world = World::new(seed);
    world.add_federation_policy(ID, trusted, false);
    let town = Town { world: Rc::new(RefCell::new(world)), asked: Rc::default(), github };
    let vault = Vault::default();
    let token_client = || TokenClient {
        transport: Rc::new(town.clone()),
        user_agent: "test".to_owned(),
        events: Events::new(|_| {}),
        wall: Wall::of(|| "2026-11-23T12:00:00Z".parse().unwrap()),
    };
    let origin = Origin::parse("https://sandbox.invalid").unwrap();
    let issuer = FromGitHub {
        endpoint: Endpoint { origin, token_client: token_client(), vault: vault.clone(), url: OnceCell::new() },
        github: token_client(),
        id: Some(ID.to_owned()),
        url: "https://github.example/token?api-version=2".parse().unwrap(),
        token: vault.admit("request-0123456789".to_owned()).unwrap(),
        audience: None,
    };
    let issued = issuer.issue(false).await;
    let asked = town.asked.borrow().clone();
    (issued, asked, vault)
}

#[tokio::test(start_paused = true)]
async fn githubs_id_token_for_the_endpoint_is_exchanged_for_one_of_the_workspace() {
    let (issued, asked, vault) = from_github(200, JWT).await;
    let fresh = issued.ok().unwrap();
    assert_eq!(fresh.life, Some(Duration::from_hours(1)));
    assert_eq!(
        asked,
        [
            "https://github.example/token?api-version=2&audience=https%3A%2F%2Fsandbox.invalid%2Foidc%2Fv1%2Ftoken Bearer request-0123456789"
        ]
    );
    for secret in [JWT, fresh.secret.reveal()] {
        assert!(!vault.filter().mask(secret).contains(secret), "the filter does not know it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_github_and_one_of_the_workspace_are_told_apart() {
    let none = from_github(403, JWT).await.0.err().unwrap();
    assert_eq!((none.message.as_str(), none.is_retryable), ("GitHub (github.example) issued no ID token: 403", false));
    assert!(from_github(503, JWT).await.0.err().unwrap().is_retryable);
    let none = from_github(200, "of.another.repository").await.0.err().unwrap();
    assert!(none.message.contains("invalid_grant") && none.advice.contains("federation policy"), "{none:?}");
}

/// Issues a token from a script in place of `databricks`; returns it and the script's arguments.
#[cfg(unix)]
async fn from_cli(script: &str, profile: Option<&str>) -> (Result<IssuedToken, NoToken>, String) {
    from_cli_after(false, script, profile).await
}

/// Like `from_cli`, with `refused` for the previous token.
#[cfg(unix)]
async fn from_cli_after(refused: bool, script: &str, profile: Option<&str>) -> (Result<IssuedToken, NoToken>, String) {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("databricks");
    let script = format!("#!/bin/sh\necho \"$*\" > \"$(dirname \"$0\")/asked\"\n{script}\n");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let issuer = FromCli {
        program,
        profile: profile.map(ToOwned::to_owned),
        host: "https://w.cloud.databricks.com".to_owned(),
        profiles: Vec::new(),
        tried: vec![super::Tried { name: "pat", why: "not set".to_owned() }],
        vault: Vault::default(),
        wall: Wall::of(|| "2026-11-23T12:00:00Z".parse().unwrap()),
        forces: OnceCell::new(),
    };
    let issued = issuer.issue(refused).await;
    let asked = std::fs::read_to_string(folder.path().join("asked")).unwrap_or_default();
    (issued, asked.trim().to_owned())
}

#[cfg(unix)]
#[tokio::test]
async fn the_program_databricks_is_asked_for_the_profile_or_else_for_the_host() {
    let script =
        r#"echo '{"access_token":"eyJ-of-cli-1","token_type":"Bearer","expiry":"2026-11-23T13:00:00.123456+00:00"}'"#;
    let (issued, asked) = from_cli(script, Some("work")).await;
    let fresh = issued.ok().unwrap();
    assert_eq!((fresh.secret.reveal(), fresh.life.unwrap().as_secs()), ("eyJ-of-cli-1", 3600));
    assert_eq!(asked, "auth token --profile work");
    let (_, asked) = from_cli(script, None).await;
    assert_eq!(asked, "auth token --host https://w.cloud.databricks.com");
    let (issued, _) = from_cli(r#"echo '{"access_token":"eyJ-of-cli-1"}'"#, None).await;
    assert_eq!(issued.ok().unwrap().life, None);
}

#[cfg(unix)]
#[tokio::test]
async fn what_the_program_says_when_it_has_no_token_is_passed_on_and_half_a_token_is_not_quoted() {
    let (issued, _) = from_cli("echo 'no login for work' >&2; exit 1", Some("work")).await;
    let none = issued.err().unwrap();
    assert!(none.message.ends_with("no login for work"), "{none:?}");
    assert!(none.advice.contains("databricks auth login --profile work"), "{none:?}");
    assert_eq!((none.is_retryable, none.tried), (false, vec!["tried pat: not set".to_owned()]));
    for script in ["echo 'eyJ-cut-of'", r#"echo '{"token":"eyJ-cut-of"}'"#, r#"echo '{"access_token":"eyJ-cut of"}'"#] {
        let none = from_cli(script, None).await.0.err().unwrap();
        assert!(!format!("{none:?}").contains("eyJ-cut"), "{none:?}");
    }
}

/// A host with these metadata and discovery documents. Records the requests.
struct Documents {
    metadata: (u16, &'static str),
    discovery: &'static str,
    asked: Rc<RefCell<Vec<String>>>,
}

impl Transport for Documents {
    fn send(&self, request: Request<Bytes>, _: Limits, _: Lane) -> Pending<'_> {
        Box::pin(async move {
            self.asked.borrow_mut().push(format!("{} {}", request.method(), request.uri()));
            let path = request.uri().path();
            let (status, body) = if path == "/.well-known/databricks-config" {
                self.metadata
            } else if path.ends_with("/.well-known/oauth-authorization-server") {
                (if self.discovery.is_empty() { 404 } else { 200 }, self.discovery)
            } else {
                (200, r#"{"access_token":"eyJ-by-discovery-1","expires_in":3600}"#)
            };
            let mut answer = Response::new(Bytes::from(body));
            *answer.status_mut() = http::StatusCode::from_u16(status).unwrap();
            Ok(answer)
        })
    }
}

/// All requests that a client secret at `https://w.cloud.databricks.com` leads to, or the error.
async fn discovered(metadata: (u16, &'static str), discovery: &'static str) -> Result<Vec<String>, NoToken> {
    let asked: Rc<RefCell<Vec<String>>> = Rc::default();
    let token_client = TokenClient {
        transport: Rc::new(Documents { metadata, discovery, asked: asked.clone() }),
        user_agent: "test".to_owned(),
        events: Events::new(|_| {}),
        wall: Wall::of(|| "2026-11-23T12:00:00Z".parse().unwrap()),
    };
    let vault = Vault::default();
    let origin = Origin::parse("https://w.cloud.databricks.com").unwrap();
    let secret = vault.admit("dose-discovery-1".to_owned()).unwrap();
    let endpoint = Endpoint { origin, token_client, vault, url: OnceCell::new() };
    let issued = FromServicePrincipal { endpoint, id: ID.to_owned(), secret }.issue(false).await;
    let asked = asked.borrow().clone();
    if issued.is_err() {
        assert!(!asked.iter().any(|asked| asked.starts_with("POST")), "{asked:?}");
    }
    issued.map(|_| asked)
}

#[tokio::test(start_paused = true)]
async fn the_hosts_metadata_say_where_tokens_are_asked_for() {
    const HOST: &str = "https://w.cloud.databricks.com";
    const ACCOUNT: &str = r#"{"token_endpoint":"https://w.cloud.databricks.com/oidc/accounts/a-1/v1/token"}"#;
    let first = format!("GET {HOST}/.well-known/databricks-config");
    let metadata = r#"{"oidc_endpoint":"https://w.cloud.databricks.com/oidc/accounts/{account_id}/","account_id":"a-1","host_type":"UNIFIED"}"#;
    let asked = discovered((200, metadata), ACCOUNT).await.unwrap();
    let discovery = format!("GET {HOST}/oidc/accounts/a-1/.well-known/oauth-authorization-server");
    assert_eq!(asked, [first.clone(), discovery, format!("POST {HOST}/oidc/accounts/a-1/v1/token")]);
    // Without usable metadata, the workspace's default paths are used.
    for metadata in [(404, ""), (200, "{}"), (200, "<html>"), (403, r#"{"oidc_endpoint":"https://x.example"}"#)] {
        let asked = discovered(metadata, "").await.unwrap();
        let discovery = format!("GET {HOST}/oidc/.well-known/oauth-authorization-server");
        assert_eq!(asked, [first.clone(), discovery, format!("POST {HOST}/oidc/v1/token")]);
    }
}

#[tokio::test(start_paused = true)]
async fn metadata_send_no_secret_elsewhere_and_an_account_that_is_not_named_is_said() {
    for (metadata, discovery, part) in [
        (
            r#"{"oidc_endpoint":"https://evil.example/oidc"}"#,
            "",
            "as its token endpoint; secrets are not sent to another host",
        ),
        (
            r#"{"oidc_endpoint":"http://w.cloud.databricks.com/oidc"}"#,
            "",
            "as its token endpoint; secrets are not sent to another host",
        ),
        (
            "{}",
            r#"{"token_endpoint":"https://evil.example/t"}"#,
            "as its token endpoint; secrets are not sent to another host",
        ),
        (
            r#"{"oidc_endpoint":"https://w.cloud.databricks.com/oidc/accounts/{account_id}"}"#,
            "",
            "the OAuth metadata of",
        ),
    ] {
        let none = discovered((200, metadata), discovery).await.unwrap_err();
        assert!(none.message.contains(part) && !none.is_retryable, "{none:?}");
    }
    let none = discovered((503, ""), "").await.unwrap_err();
    assert!(none.is_retryable && none.message.contains("/.well-known/databricks-config answered 503"), "{none:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_refused_token_is_renewed_by_force_where_the_program_can_do_that() {
    let answers = |version: &str| {
        format!(
            r#"if [ "$1" = version ]; then echo '{version}'; else echo '{{"access_token":"eyJ-of-the-program-0123","token_type":"Bearer"}}'; fi"#
        )
    };
    let (old, new) = (r#"{"Major":0,"Minor":295,"Patch":9}"#, r#"{"Major":0,"Minor":296,"Patch":0,"Version":"x"}"#);
    for (refused, version, expected) in [
        (true, new, "auth token --profile prod --force-refresh"),
        (true, r#"{"Major":1,"Minor":0,"Patch":0}"#, "auth token --profile prod --force-refresh"),
        (true, old, "auth token --profile prod"),
        (true, "Databricks CLI v0.205", "auth token --profile prod"),
        (false, new, "auth token --profile prod"),
    ] {
        let (issued, asked) = from_cli_after(refused, &answers(version), Some("prod")).await;
        assert!(issued.is_ok(), "{version}");
        assert_eq!(asked, expected, "{refused} {version}");
    }
}
