//! From credentials to a line to a service.

use std::rc::Rc;

use super::{Stage, Wire};
use crate::credentials::{Account, Databricks, Missing, Wants, account, api_token};
use crate::dbt::Link;
use crate::failure::{Code, Failure};
use crate::http::{Profile, Sockets, Transport, Writer};
use crate::origin::Origin;
use crate::secret::Secret;

/// A line to the workspace.
pub(crate) fn to_databricks(identity: &Databricks, stage: &Stage) -> Result<Writer, Failure> {
    let Databricks { origin, token } = identity;
    let profile = Profile {
        service: "Databricks",
        origin: origin.to_string(),
        scheme: "Bearer",
        secret: token.clone(),
        user_agent: user_agent(stage, "auth/pat"),
        said: crate::databricks::said,
    };
    line(origin, profile, stage)
}

/// A line to the dbt account. The caller has checked that this token may go there.
pub(crate) fn to_dbt(account: &Account, token: Secret, stage: &Stage) -> Result<Writer, Failure> {
    let profile = Profile {
        service: "dbt Cloud",
        origin: account.origin.to_string(),
        scheme: "Token",
        secret: token,
        user_agent: user_agent(stage, "auth/token"),
        said: crate::dbt::said,
    };
    line(&account.origin, profile, stage)
}

/// The account of dbt and a line to it, from what flags, pasted addresses and the environment say.
pub(crate) fn line_to_dbt(
    pasted: &[(String, Link)],
    mut wants: Wants,
    stage: &Stage,
) -> Result<(Account, Writer), Failure> {
    let environment = &stage.context.environment;
    let account = account(&stage.account, pasted, environment, &mut wants);
    let token = wants.need(
        api_token(environment, &stage.vault),
        Missing { what: "the token for dbt", give: "set DBT_CLOUD_TOKEN to a service token or personal access token" },
    );
    wants.settle()?;
    let (Some(account), Some(token)) = (account, token) else {
        return Err(Failure::new(Code::Bug, "A value is missing, and nothing said so."));
    };
    account.check_bare_token()?;
    let writer = to_dbt(&account, token, stage)?;
    Ok((account, writer))
}

fn line(origin: &Origin, profile: Profile, stage: &Stage) -> Result<Writer, Failure> {
    let Stage { context, vault: _, events, json: _, account: _, pace, last_known: _, wire } = stage;
    let transport: Rc<dyn Transport> = match wire {
        Wire::Sockets => Rc::new(Sockets::new(origin.url(), pace.connect).map_err(|error| {
            Failure::new(Code::Tls, "The system's certificates cannot be used.")
                .cause(error.to_string())
                .advise("check SSL_CERT_FILE and SSL_CERT_DIR, and that the package ca-certificates is installed")
        })?),
        #[cfg(test)]
        Wire::Given(transport) => transport.clone(),
    };
    Ok(Writer::new(profile, transport, pace.clone(), context.entropy.clone(), context.wall.clone(), events.clone()))
}

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
