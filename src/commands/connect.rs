//! From credentials to a line to a service.

use std::io::Read as _;
use std::path::Path;
use std::rc::Rc;

use tokio::sync::OnceCell;

use super::{Stage, Wire};
use crate::context::Environment;
use crate::credentials::{
    Account, Databricks, Endpoint, FromCli, FromGitHub, FromServicePrincipal, Missing, Token, Wants, Way, account,
    api_token, open_file, profiles_at,
};
use crate::dbt::Link;
use crate::failure::{Code, Failure};
use crate::http::{Asker, Credential, Profile, Proxy, Roots, Sockets, Transport, Walk, Writer, walk};
use crate::origin::Origin;
use crate::questions::Question;

/// A line to the workspace.
pub(crate) fn to_databricks(identity: &Databricks, stage: &Stage) -> Result<Writer, Failure> {
    let Databricks { origin, host_from: _, workspace, way, tried, remark } = identity;
    if let Some(remark) = remark {
        stage.events.warning(remark);
    }
    let agent = user_agent(stage, &format!("auth/{}", way.name()));
    let endpoint = || -> Result<Endpoint, Failure> {
        let asker = asker(origin, &agent, stage)?;
        Ok(Endpoint { origin: origin.clone(), asker, vault: stage.vault.clone(), url: OnceCell::new() })
    };
    let wall = stage.context.wall.clone();
    let credential = match way {
        Way::Token(token) => Credential::Fixed(token.value.clone()),
        Way::ServicePrincipal { id, secret } => Credential::issued(
            FromServicePrincipal { endpoint: endpoint()?, id: id.value.clone(), secret: secret.value.clone() },
            wall,
        ),
        Way::GitHub { id, url, token, audience } => {
            let github = Origin::of(url).map_err(|bad| {
                Failure::new(Code::InvalidInput, format!("The ID token URL from GitHub is invalid: {bad}."))
                    .advise("do not set ACTIONS_ID_TOKEN_REQUEST_URL; GitHub sets it")
            })?;
            Credential::issued(
                FromGitHub {
                    endpoint: endpoint()?,
                    github: asker(&github, &agent, stage)?,
                    id: id.as_ref().map(|id| id.value.clone()),
                    url: url.clone(),
                    token: token.value.clone(),
                    audience: audience.clone(),
                },
                wall,
            )
        }
        Way::Cli { program, profile } => Credential::issued(
            FromCli {
                program: program.clone(),
                profile: profile.as_ref().map(|profile| profile.name.clone()),
                host: origin.to_string(),
                profiles: profiles_at(&stage.context.environment, Some(origin)),
                tried: tried.clone(),
                vault: stage.vault.clone(),
                wall: wall.clone(),
                forces: OnceCell::new(),
            },
            wall,
        ),
    };
    let profile = Profile {
        service: "Databricks",
        origin: origin.to_string(),
        scheme: "Bearer",
        credential,
        known_as: way.known_as(),
        user_agent: agent,
        workspace: workspace.as_ref().map(|id| id.value.clone()),
        said: crate::databricks::said,
    };
    line(origin, profile, stage)
}

/// A line to the dbt account, if this token may go there.
pub(crate) fn to_dbt(account: &Account, token: &Token, stage: &Stage) -> Result<Writer, Failure> {
    let secret = token.secret_for(account)?;
    for remark in token.remarks() {
        stage.events.warning(remark);
    }
    let profile = Profile {
        service: "dbt Cloud",
        origin: account.origin.to_string(),
        scheme: "Token",
        credential: Credential::Fixed(secret),
        known_as: token.source().to_string(),
        user_agent: user_agent(stage, "auth/token"),
        workspace: None,
        said: crate::dbt::said,
    };
    line(&account.origin, profile, stage)
}

/// The account of dbt and a line to it, from what flags, pasted addresses, the environment and dbt's own file say.
pub(crate) fn line_to_dbt(
    pasted: &[(String, Link)],
    mut wants: Wants,
    stage: &Stage,
) -> Result<(Account, Writer), Failure> {
    let environment = &stage.context.environment;
    let account = account(&stage.account, pasted, environment, &mut wants);
    let token = api_token(&stage.account, pasted, environment, &stage.vault, &mut wants);
    let token = wants.need(
        token,
        Missing {
            what: "the token for dbt",
            give: "run `dbtrigger auth login`, set DBT_CLOUD_TOKEN to a service token or personal token, or put one in ~/.dbt/dbt_cloud.yml",
            ask: Some(Question::DbtToken),
        },
    );
    wants.settle()?;
    let (Some(account), Some(token)) = (account, token) else {
        return Err(Failure::new(Code::Bug, "A value is missing without an error."));
    };
    let writer = to_dbt(&account, &token, stage)?;
    Ok((account, writer))
}

fn line(origin: &Origin, profile: Profile, stage: &Stage) -> Result<Writer, Failure> {
    let Stage {
        context,
        vault: _,
        events,
        json: _,
        account: _,
        ca_bundle: _,
        pace,
        last_known: _,
        interruption: _,
        wire: _,
        talk: _,
        results: _,
    } = stage;
    let transport = transport(origin, stage)?;
    Ok(Writer::new(profile, transport, pace.clone(), context.entropy.clone(), context.wall.clone(), events.clone()))
}

/// What asks this origin for tokens.
fn asker(origin: &Origin, agent: &str, stage: &Stage) -> Result<Asker, Failure> {
    Ok(Asker {
        transport: transport(origin, stage)?,
        user_agent: agent.to_owned(),
        events: stage.events.clone(),
        wall: stage.context.wall.clone(),
    })
}

/// Walks the way to this origin as a request would go, with no credential.
pub(crate) async fn walk_to(origin: &Origin, stage: &Stage) -> Result<Walk, Failure> {
    match &stage.wire {
        Wire::Sockets(_) => {
            let transport = transport(origin, stage)?;
            let (agent, proxy) = (user_agent(stage, "auth/none"), Proxy::on_the_way_to(origin.url()));
            Ok(walk(origin.url(), proxy, &*transport, &agent, stage.pace.connect).await)
        }
        // There is no way to a world in memory.
        #[cfg(test)]
        Wire::Given(_) => Ok(Walk::default()),
    }
}

fn transport(origin: &Origin, stage: &Stage) -> Result<Rc<dyn Transport>, Failure> {
    Ok(match &stage.wire {
        Wire::Sockets(roots) => Rc::new(Sockets::new(origin.url(), stage.pace.connect, roots).map_err(|error| {
            Failure::new(Code::Tls, "Cannot load the system's certificates.")
                .cause(error.to_string())
                .advise("check SSL_CERT_FILE and SSL_CERT_DIR, and that the package ca-certificates is installed")
        })?),
        #[cfg(test)]
        Wire::Given(transport) => transport.clone(),
    })
}

/// The certificates to trust beside the system's: those of `--ca-bundle`, and of `SSL_CERT_FILE` where the system does not read it.
pub(crate) fn roots(bundle: Option<&Path>, environment: &Environment) -> Result<Roots, Failure> {
    let variable = environment.get("SSL_CERT_FILE").map(Path::new).filter(|_| !SYSTEM_READS_SSL_CERT_FILE);
    if let Some(file) = environment.get("SSL_CERT_FILE").map(Path::new).filter(|file| file.exists()) {
        // Where the system reads it, too.
        open_file(file).map_err(|error| no_certificates(file, "SSL_CERT_FILE", error.to_string()))?;
    }
    let mut roots = Roots::default();
    for (source, file) in [("--ca-bundle", bundle), ("SSL_CERT_FILE", variable)] {
        let Some(file) = file else { continue };
        let mut pem = Vec::new();
        let read = open_file(file).and_then(|mut file| file.read_to_end(&mut pem)).map_err(|error| error.to_string());
        read.and_then(|_| roots.add(&pem)).map_err(|reason| no_certificates(file, source, reason))?;
    }
    Ok(roots)
}

fn no_certificates(file: &Path, source: &str, reason: String) -> Failure {
    Failure::new(Code::InvalidInput, format!("Cannot load the certificates in {} ({source}).", file.display()))
        .cause(reason)
        .advise("pass a PEM file with the CA certificate")
}

/// Elsewhere the system keeps its certificates in a store of its own.
const SYSTEM_READS_SSL_CERT_FILE: bool = cfg!(not(any(windows, target_vendor = "apple")));

/// Who we are, truthfully: name, version, system, way of authenticating, and whether CI runs us.
fn user_agent(stage: &Stage, auth: &str) -> String {
    let ci = if stage.context.environment.get("GITHUB_ACTIONS").is_some() {
        " cicd/github"
    } else if stage.context.environment.get("GITLAB_CI").is_some() {
        " cicd/gitlab"
    } else if stage.context.environment.get("TF_BUILD").is_some() {
        " cicd/azure-devops"
    } else {
        ""
    };
    format!("dbtrigger/{} os/{} {auth}{ci}", env!("CARGO_PKG_VERSION"), std::env::consts::OS)
}
