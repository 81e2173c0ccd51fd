//! The Databricks identity: a personal access token and the host it belongs to, from the environment.

use super::{Missing, Wants};
use crate::context::Environment;
use crate::failure::{Code, Failure};
use crate::origin::{Origin, shown};
use crate::secret::{Secret, Vault};

/// A workspace and the token for it.
#[derive(Clone, Debug)]
pub(crate) struct Databricks {
    pub(crate) origin: Origin,
    pub(crate) token: Secret,
}

/// Finds host and token. What is missing or wrong is added to `wants`, and `None` comes back.
///
/// The token is a bare one; it goes to the host that the variable beside it names, whatever the domain.
pub(crate) fn databricks(environment: &Environment, vault: &Vault, wants: &mut Wants) -> Option<Databricks> {
    let host = environment.get("DATABRICKS_HOST").map(|text| {
        Origin::parse(text).map_err(|bad| {
            Failure::new(Code::InvalidInput, format!("DATABRICKS_HOST is \"{}\", which cannot be used: {bad}.", shown(text)))
                .advise("set DATABRICKS_HOST to the address in your browser when signed in to the workspace, such as https://dbc-a1b2345c-d6e7.cloud.databricks.com")
        })
    });
    let token = environment.get("DATABRICKS_TOKEN").map(|text| {
        vault.admit(text.to_owned()).map_err(|odd| {
            Failure::new(Code::InvalidInput, format!("DATABRICKS_TOKEN does not hold a token: {odd}."))
                .advise("make a personal access token in the workspace under Settings > Developer > Access tokens, and set DATABRICKS_TOKEN to it alone")
        })
    });
    let origin = wants.need(
        host.transpose(),
        Missing {
            what: "the host of the Databricks workspace",
            give: "set DATABRICKS_HOST, such as https://dbc-a1b2345c-d6e7.cloud.databricks.com",
        },
    );
    let token = wants.need(
        token.transpose(),
        Missing { what: "the Databricks token", give: "set DATABRICKS_TOKEN to a personal access token" },
    );
    Some(Databricks { origin: origin?, token: token? })
}
