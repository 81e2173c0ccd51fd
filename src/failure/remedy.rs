//! Advice against refusals by a service, in one table.

use std::fmt;

use crate::http::{Meaning, Service};

/// Advice against a refusal by a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    DbtToken,
    DbtPlan,
    DbtAccount,
    DbtAddress,
    DbtRight,
    DbtIds,
    DbtHost,
    DatabricksToken,
    DatabricksAddress,
    DatabricksPlan,
    DatabricksRight,
    DatabricksName,
    DatabricksHost,
}

impl Remedy {
    /// Every remedy.
    #[cfg(test)]
    pub(crate) const ALL: [Remedy; 13] = [
        Remedy::DbtToken,
        Remedy::DbtPlan,
        Remedy::DbtAccount,
        Remedy::DbtAddress,
        Remedy::DbtRight,
        Remedy::DbtIds,
        Remedy::DbtHost,
        Remedy::DatabricksToken,
        Remedy::DatabricksAddress,
        Remedy::DatabricksPlan,
        Remedy::DatabricksRight,
        Remedy::DatabricksName,
        Remedy::DatabricksHost,
    ];

    /// The remedy when this service refuses for this reason.
    pub(crate) fn against(service: Service, means: Meaning) -> Option<Remedy> {
        Some(match (service, means) {
            (Service::Dbt, Meaning::TokenInvalid | Meaning::TokenExpired) => Remedy::DbtToken,
            (Service::Dbt, Meaning::Unpaid) => Remedy::DbtPlan,
            (Service::Dbt, Meaning::OtherAccount) => Remedy::DbtAccount,
            (Service::Dbt, Meaning::AddressBlocked) => Remedy::DbtAddress,
            (Service::Dbt, Meaning::RightMissing) => Remedy::DbtRight,
            (Service::Dbt, Meaning::NotFound) => Remedy::DbtIds,
            (Service::Dbt, Meaning::WrongHost) => Remedy::DbtHost,
            (Service::Databricks, Meaning::TokenInvalid | Meaning::TokenExpired) => Remedy::DatabricksToken,
            (Service::Databricks, Meaning::AddressBlocked) => Remedy::DatabricksAddress,
            (Service::Databricks, Meaning::NotInPlan) => Remedy::DatabricksPlan,
            (Service::Databricks, Meaning::RightMissing) => Remedy::DatabricksRight,
            (Service::Databricks, Meaning::NotFound) => Remedy::DatabricksName,
            (Service::Databricks, Meaning::WrongHost) => Remedy::DatabricksHost,
            (Service::Dbt, Meaning::NotInPlan)
            | (Service::Databricks, Meaning::Unpaid | Meaning::OtherAccount)
            | (_, Meaning::NotImplemented | Meaning::Other) => return None,
        })
    }

    pub(crate) fn advice(self) -> &'static str {
        match self {
            Remedy::DbtToken => {
                "create a new token under Account settings > API tokens, or compare the host with your browser's address bar when signed in to dbt"
            }
            Remedy::DbtPlan => "ask the dbt account's owner to check Account settings > Billing",
            Remedy::DbtAccount => "check DBT_CLOUD_ACCOUNT_ID or --dbt-account: the token belongs to another account",
            Remedy::DbtAddress => {
                "the account restricts IP addresses: ask its administrator to allow this machine's address"
            }
            Remedy::DbtRight => {
                "check DBT_CLOUD_ACCOUNT_ID, and that the token has the permission set Job Admin (or Job Runner) on the project"
            }
            Remedy::DbtIds => "compare the IDs with the URL in dbt; a token without permission gets the same response",
            Remedy::DbtHost => "compare the host with your browser's address bar when signed in to dbt",
            Remedy::DatabricksToken => {
                "check the host, or create a new token under Settings > Developer > Access tokens"
            }
            Remedy::DatabricksAddress => {
                "the workspace restricts IP addresses: ask its administrator to allow this machine's address"
            }
            Remedy::DatabricksPlan => "ask a workspace administrator: this needs another Databricks plan",
            Remedy::DatabricksRight => "ask a workspace administrator for the permission, or use a token that has it",
            Remedy::DatabricksName => "check the name; an object that this identity cannot see gets the same response",
            // This tells a host of several workspaces which one is meant.
            Remedy::DatabricksHost => {
                "check the host; if it serves several workspaces, the number after `o=` in the browser's address bar is the workspace ID"
            }
        }
    }

    /// The setting to change afterwards. Left out when a prompt asks for the value itself.
    fn set(self) -> Option<&'static str> {
        match self {
            Remedy::DbtToken => Some("DBT_CLOUD_TOKEN or DBT_CLOUD_HOST"),
            Remedy::DbtHost => Some("DBT_CLOUD_HOST"),
            Remedy::DatabricksToken => Some("DATABRICKS_TOKEN or the profile's token"),
            Remedy::DatabricksHost => Some("DATABRICKS_HOST or DATABRICKS_WORKSPACE_ID"),
            Remedy::DbtPlan
            | Remedy::DbtAccount
            | Remedy::DbtAddress
            | Remedy::DbtRight
            | Remedy::DbtIds
            | Remedy::DatabricksAddress
            | Remedy::DatabricksPlan
            | Remedy::DatabricksRight
            | Remedy::DatabricksName => None,
        }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.set() {
            Some(set) => write!(formatter, "{}, then set {set}", self.advice()),
            None => formatter.write_str(self.advice()),
        }
    }
}
