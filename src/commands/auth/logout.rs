//! `auth logout`: removes tokens from the keyring, and says what is left.

use serde_json::{Value, json};

use super::{owners_in_json, unusable, waited};
use crate::commands::Stage;
use crate::credentials::{Source, Sourced, Wants, api_token, check_host, databricks, named_host_and_id, read_host};
use crate::failure::{Code, Failure, Report};
use crate::keyring::{Owner, Trouble};

/// Remove a token from the system's keyring
///
/// Without --databricks or --all it is the one for dbt. What is not there is removed already. What else gives access, such as
/// a variable, is named and left alone.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "The token itself stays valid: revoke it at its service if nobody needs it any more.

Examples:
  dbtrigger auth logout --dbt-host ab123.us1.dbt.com --dbt-account 1234
  dbtrigger auth logout --databricks
  dbtrigger auth logout --all")]
pub(super) struct Args {
    /// The token for dbt, which is what is meant if neither service is named
    #[arg(long, conflicts_with = "databricks")]
    dbt: bool,
    /// The token for this workspace, or for the one that `DATABRICKS_HOST` or the profile names, or the only one
    #[arg(long, value_name = "HOST", num_args = 0..=1, default_missing_value = "")]
    databricks: Option<String>,
    /// Every token that this program has stored
    #[arg(long, conflicts_with_all = ["databricks", "dbt"])]
    all: bool,
}

pub(super) async fn run(args: Args, stage: &Stage) -> Result<LogoutReport, Failure> {
    let Args { dbt: _, databricks, all } = args;
    let keyring = stage.context.environment.keyring();
    // What is named wrongly fails before anything is opened.
    let which = if all {
        Which::All
    } else if let Some(host) = databricks {
        // An empty one is the flag alone.
        let host = if host.is_empty() {
            check_host(&stage.context.environment)?
        } else {
            Some(read_host(Sourced::new(host, Source::Flag("--databricks")))?)
        };
        Which::Databricks(host.map(|host| host.value.to_string()))
    } else {
        let (host, account) = named_host_and_id(&stage.account, &stage.context.environment)?;
        Which::Dbt(host.map(|host| host.to_string()), account)
    };
    let cannot = |trouble: &Trouble| unusable("Nothing was removed: the keyring cannot be used", trouble);
    let stored = waited(stage, keyring.open()).await.map_err(|trouble| cannot(&trouble))?;
    let chosen = which.choose(&stored)?;
    let mut removed = Vec::new();
    for owner in chosen {
        waited(stage, keyring.remove(&owner)).await.map_err(|trouble| {
            unusable(&format!("The token for {owner} could not be removed"), &trouble).run("dbtrigger auth status")
        })?;
        // One that no list names may have been there or not.
        if stored.contains(&owner) {
            removed.push(owner);
        }
    }
    let logins = waited(stage, keyring.open()).await.map_err(|trouble| cannot(&trouble))?;
    Ok(LogoutReport { which, removed, logins, remains: remains(stage) })
}

/// Which tokens are meant.
enum Which {
    All,
    Databricks(Option<String>),
    Dbt(Option<String>, Option<u64>),
}

impl Which {
    fn choose(&self, stored: &[Owner]) -> Result<Vec<Owner>, Failure> {
        let fits = |owner: &&Owner| match (self, owner) {
            (Which::All, Owner::Dbt { host: _, account: _ } | Owner::Databricks { host: _ }) => true,
            (Which::Databricks(host), Owner::Databricks { host: theirs }) => {
                host.as_ref().is_none_or(|host| host == theirs)
            }
            (Which::Dbt(host, account), Owner::Dbt { host: theirs, account: id }) => {
                host.as_ref().is_none_or(|host| host == theirs) && account.is_none_or(|account| account == *id)
            }
            (Which::Databricks(_), Owner::Dbt { host: _, account: _ })
            | (Which::Dbt(..), Owner::Databricks { host: _ }) => false,
        };
        let mut chosen: Vec<Owner> = stored.iter().filter(fits).cloned().collect();
        match self {
            Which::All => return Ok(chosen),
            // Whole names need no list.
            Which::Databricks(Some(host)) => chosen = vec![Owner::Databricks { host: host.clone() }],
            Which::Dbt(Some(host), Some(account)) => {
                chosen = vec![Owner::Dbt { host: host.clone(), account: *account }];
            }
            Which::Databricks(None) | Which::Dbt(None, _) | Which::Dbt(_, None) => {}
        }
        if chosen.len() < 2 {
            return Ok(chosen);
        }
        let failure =
            Failure::new(Code::MissingInput, "Nothing was removed: the keyring has several logins that may be meant.");
        let failure = chosen.iter().fold(failure, |failure, owner| failure.cause(owner.to_string()));
        Err(match self {
            Which::Databricks(_) => failure.advise("name one with --databricks HOST"),
            Which::Dbt(..) | Which::All => failure.advise("name one with --dbt-host and --dbt-account"),
        }
        .advise("or remove all of them with --all"))
    }

    fn described(&self) -> String {
        match self {
            Which::All => "any login".to_owned(),
            Which::Databricks(None) => "a login for Databricks".to_owned(),
            Which::Databricks(Some(host)) => format!("a login for Databricks at {host}"),
            Which::Dbt(Some(host), Some(account)) => format!("a login for dbt account {account} at {host}"),
            Which::Dbt(Some(host), None) => format!("a login for dbt at {host}"),
            Which::Dbt(None, Some(account)) => format!("a login for dbt account {account}"),
            Which::Dbt(None, None) => "a login for dbt".to_owned(),
        }
    }
}

/// What the next command would use: for each service, from where.
fn remains(stage: &Stage) -> Vec<(&'static str, String)> {
    let environment = &stage.context.environment;
    let mut wants = Wants::default();
    let token = api_token(&stage.account, &[], environment, &stage.vault, &mut wants).ok().flatten();
    let identity = databricks(environment, &stage.vault, &mut wants);
    let of_dbt = token.map(|token| ("dbt", token.source().to_string()));
    let of_databricks = identity.map(|identity| ("databricks", identity.way.known_as()));
    of_databricks.into_iter().chain(of_dbt).collect()
}

pub(super) struct LogoutReport {
    which: Which,
    removed: Vec<Owner>,
    logins: Vec<Owner>,
    remains: Vec<(&'static str, String)>,
}

impl Report for LogoutReport {
    fn text(&self) -> String {
        let LogoutReport { which, removed, logins, remains } = self;
        let mut lines: Vec<String> =
            removed.iter().map(|owner| format!("Removed the token for {owner} from the keyring.")).collect();
        if removed.is_empty() {
            lines.push(format!("The keyring does not have {}.", which.described()));
        }
        lines.extend(logins.iter().map(|owner| format!("The keyring still has the token for {owner}.")));
        lines.extend(remains.iter().map(|(service, from)| {
            let service = if *service == "dbt" { "dbt" } else { "Databricks" };
            format!("For {service}, commands use {from}.")
        }));
        lines.join("\n")
    }

    fn json(&self) -> Value {
        let LogoutReport { which: _, removed, logins, remains } = self;
        let remains: Vec<Value> =
            remains.iter().map(|(service, from)| json!({ "service": service, "from": from })).collect();
        json!({ "removed": owners_in_json(removed), "logins": owners_in_json(logins), "remains": remains })
    }
}
