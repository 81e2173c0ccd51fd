//! Creates the clients of both services from credentials.

use std::io::Read as _;
use std::path::Path;
use std::rc::Rc;

use jiff::Timestamp;

use crate::commands::{CommandContext, Wire};
use crate::context::Environment;
use crate::credentials::{
    Account, Connection, Databricks, InputErrors, MissingInput, SignIn, Token, account, api_token, databricks,
    open_file,
};
use crate::dbt::Link;
use crate::failure::{Code, Failure, io_reason};
use crate::http::{Credential, Net, Profile, Roots, Sockets, TokenClient, Transport, Writer, probe};
use crate::origin::Origin;
use crate::questions::Question;

/// The client of the workspace.
pub(crate) fn databricks_client(identity: &Databricks, ctx: &CommandContext) -> Result<Writer, Failure> {
    let Databricks { origin, host_from: _, workspace, auth_method, tried, remark } = identity;
    if let Some(remark) = remark {
        ctx.events.warning(remark);
    }
    let agent = user_agent(ctx, &format!("auth/{}", auth_method.name()));
    let credential = auth_method.credential(&Connection {
        origin,
        tried,
        environment: &ctx.context.environment,
        vault: &ctx.vault,
        wall: &ctx.context.wall,
        token_client: &|origin| {
            Ok(TokenClient {
                transport: transport(origin, ctx)?,
                user_agent: agent.clone(),
                events: ctx.events.clone(),
                wall: ctx.context.wall.clone(),
            })
        },
    })?;
    let profile = Profile {
        service: "Databricks",
        origin: origin.to_string(),
        scheme: "Bearer",
        credential,
        known_as: auth_method.known_as(),
        user_agent: agent,
        workspace: workspace.as_ref().map(|id| id.value.clone()),
        parse_error: crate::databricks::parse_error,
    };
    client(origin, profile, ctx)
}

/// The Databricks identity from the environment, and a client for its workspace.
pub(crate) fn connect_databricks(
    mut errors: InputErrors,
    ctx: &CommandContext,
) -> Result<(Databricks, Writer), Failure> {
    let identity = databricks(&ctx.context.environment, &ctx.vault, &mut errors);
    let identity = errors.settled(identity)?;
    let writer = databricks_client(&identity, ctx)?;
    Ok((identity, writer))
}

/// The client of the dbt account, if the token may be sent there.
pub(crate) fn dbt_client(account: &Account, token: &Token, ctx: &CommandContext) -> Result<Writer, Failure> {
    let secret = token.secret_for(account)?;
    for remark in token.remarks() {
        ctx.events.warning(remark);
    }
    let profile = Profile {
        service: "dbt",
        origin: account.origin.to_string(),
        scheme: "Token",
        credential: Credential::Fixed(secret),
        known_as: token.source().to_string(),
        user_agent: user_agent(ctx, "auth/token"),
        workspace: None,
        parse_error: crate::dbt::parse_error,
    };
    client(&account.origin, profile, ctx)
}

/// The dbt account and its client, from flags, pasted URLs, the environment and dbt's credential file.
pub(crate) fn connect_dbt(
    pasted: &[(String, Link)],
    mut errors: InputErrors,
    ctx: &CommandContext,
) -> Result<(Account, Writer), Failure> {
    let environment = &ctx.context.environment;
    let account = account(&ctx.account, pasted, environment, &mut errors);
    let token = api_token(&ctx.account, pasted, environment, &ctx.vault, &mut errors);
    let token = errors.need(token, MissingInput::sign_in(SignIn::DbtToken, environment, Some(Question::DbtToken)));
    let (account, token) = errors.settled(account.zip(token))?;
    let writer = dbt_client(&account, &token, ctx)?;
    Ok((account, writer))
}

fn client(origin: &Origin, profile: Profile, ctx: &CommandContext) -> Result<Writer, Failure> {
    let (transport, context) = (transport(origin, ctx)?, &ctx.context);
    let (entropy, wall) = (context.entropy.clone(), context.wall.clone());
    Ok(Writer::new(profile, transport, ctx.pace.clone(), entropy, wall, ctx.events.clone()))
}

/// Whether this origin can be reached, without a credential; returns its clock.
pub(crate) async fn probe_host(
    origin: &Origin,
    ctx: &CommandContext,
) -> Result<Result<Option<Timestamp>, Net>, Failure> {
    match &ctx.wire {
        Wire::Sockets(_) => {
            let transport = transport(origin, ctx)?;
            Ok(probe(origin.url(), &*transport, &user_agent(ctx, "auth/none")).await)
        }
        // There is no connection to the in-memory sandbox.
        #[cfg(test)]
        Wire::Memory(_) => Ok(Ok(None)),
    }
}

fn transport(origin: &Origin, ctx: &CommandContext) -> Result<Rc<dyn Transport>, Failure> {
    Ok(match &ctx.wire {
        Wire::Sockets(roots) => Rc::new(Sockets::new(origin.url(), ctx.pace.connect, roots).map_err(|error| {
            Failure::new(Code::Tls, "cannot load the system's certificates")
                .cause(error.to_string())
                .advise("check SSL_CERT_FILE and SSL_CERT_DIR, and that the package ca-certificates is installed")
        })?),
        #[cfg(test)]
        Wire::Memory(transport) => transport.clone(),
    })
}

/// Additional trusted certificates: `--ca-bundle`, and `SSL_CERT_FILE` where the system does not read it.
pub(crate) fn roots(bundle: Option<&Path>, environment: &Environment) -> Result<Roots, Failure> {
    let variable = environment.get("SSL_CERT_FILE").map(Path::new).filter(|_| !SYSTEM_READS_SSL_CERT_FILE);
    if let Some(file) = environment.get("SSL_CERT_FILE").map(Path::new).filter(|file| file.exists()) {
        // Checked even where the system reads it.
        open_file(file).map_err(|error| no_certificates(file, "SSL_CERT_FILE", io_reason(&error)))?;
    }
    let mut roots = Roots::default();
    for (source, file) in [("--ca-bundle", bundle), ("SSL_CERT_FILE", variable)] {
        let Some(file) = file else { continue };
        let mut pem = Vec::new();
        let read = open_file(file).and_then(|mut file| file.read_to_end(&mut pem)).map_err(|error| io_reason(&error));
        read.and_then(|_| roots.add(&pem)).map_err(|reason| no_certificates(file, source, reason))?;
    }
    Ok(roots)
}

fn no_certificates(file: &Path, source: &str, reason: String) -> Failure {
    Failure::new(Code::InvalidInput, format!("cannot load the certificates in {} ({source})", file.display()))
        .cause(reason)
        .advise("pass a PEM file with the CA certificate")
}

/// Windows and Apple systems have their own certificate stores.
const SYSTEM_READS_SSL_CERT_FILE: bool = cfg!(not(any(windows, target_vendor = "apple")));

/// Name, version, system, auth method and CI service.
fn user_agent(ctx: &CommandContext, auth: &str) -> String {
    let ci = if ctx.context.environment.get("GITHUB_ACTIONS").is_some() {
        " cicd/github"
    } else if ctx.context.environment.get("GITLAB_CI").is_some() {
        " cicd/gitlab"
    } else if ctx.context.environment.get("TF_BUILD").is_some() {
        " cicd/azure-devops"
    } else {
        ""
    };
    format!("dbtrigger/{} os/{} {auth}{ci}", env!("CARGO_PKG_VERSION"), std::env::consts::OS)
}
