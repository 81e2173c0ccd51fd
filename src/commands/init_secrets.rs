//! `init-secrets`: the scope, the dbt API key in it, and access for whoever runs the job.

use std::fmt;
use std::str::FromStr;

use futures_util::future::try_join_all;

use super::Stage;
use super::provision::{Provision, who};
use crate::credentials::{self, Account, KeySource, Missing, Sourced, Wants};
use crate::databricks::secrets::{EVERYBODY, Fingerprint, KeyName, Permission, ScopeName};
use crate::dbt::{list_accounts, list_accounts_v2};
use crate::engine::kinds::{DEFAULT_KEY, DEFAULT_SCOPE, Grant, GrantWant, Scope, ScopeWant, Secret, SecretWant};
use crate::engine::{Action, Consent, Consents, Inputs, Plan, Planned, Step};
use crate::failure::{Code, Ended, Failure, Report, of_dbt};
use crate::http::{Fault, Writer};
use crate::secret::Secret as Value;

/// Store the dbt API key as a Databricks secret
///
/// Creates the secret scope if it is missing, puts the key into it, and lets the given principals read it. The key is
/// tried at dbt before anything is written. What is there already is left as it is.
#[derive(Debug, clap::Args)]
#[command(after_help = "The key comes from --token-stdin, --token-file or DBT_CLOUD_TOKEN; no flag takes its value.

Examples:
  dbtrigger init-secrets --grant data-engineers
  dbtrigger init-secrets --rotate --token-file new-key")]
pub(crate) struct Args {
    /// Secret scope
    #[arg(long, value_name = "SCOPE", default_value = DEFAULT_SCOPE)]
    scope: ScopeName,
    /// Name of the key in the scope
    #[arg(long, value_name = "KEY", default_value = DEFAULT_KEY)]
    key: KeyName,
    /// Give a user (e-mail), group (name) or service principal (application id) access to the scope: READ if not said
    #[arg(long, value_name = "PRINCIPAL[:READ|WRITE|MANAGE]")]
    grant: Vec<GrantTo>,
    #[command(flatten)]
    source: KeySource,
    /// Replace a key that is there
    #[arg(long)]
    rotate: bool,
    /// Show what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,
}

/// A principal and what it should be able to do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct GrantTo {
    principal: String,
    permission: Permission,
}

#[derive(Debug, PartialEq, Eq)]
struct BadGrant(&'static str);

impl fmt::Display for BadGrant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl std::error::Error for BadGrant {}

impl FromStr for GrantTo {
    type Err = BadGrant;

    fn from_str(text: &str) -> Result<GrantTo, BadGrant> {
        let (principal, permission) = match text.rsplit_once(':') {
            None => (text, Permission::Read),
            Some((principal, level)) => (
                principal,
                Permission::named(&level.to_ascii_uppercase())
                    .ok_or(BadGrant("the level behind the colon is READ, WRITE or MANAGE"))?,
            ),
        };
        let principal = principal.trim();
        if principal.is_empty() {
            return Err(BadGrant("it names nobody"));
        }
        if principal.chars().any(char::is_control) {
            return Err(BadGrant("it has a control character in it"));
        }
        Ok(GrantTo { principal: principal.to_owned(), permission })
    }
}

pub(crate) async fn run(args: Args, stage: &Stage) -> Ended<Box<dyn Report>> {
    match provision(args, stage).await {
        Ok(ended) => ended,
        Err(failure) => failure.into(),
    }
}

async fn provision(args: Args, stage: &Stage) -> Result<Ended<Box<dyn Report>>, Failure> {
    let Args { scope, key, grant, source, rotate, dry_run } = args;
    let grants = settle_grants(grant)?;
    let mut wants = Wants::default();
    let identity = credentials::databricks(&stage.context.environment, &stage.vault, &mut wants);
    let mut storing = Wants::default();
    let value = Storing::find(&source, stage, &mut storing).await;
    // Whether a key has to be stored is known only after a look. But if the command has to fail anyway, or the key is
    // certain to be used, everything that is missing is named now.
    if !wants.is_settled() || storing.has_wrong() || (rotate && !storing.is_settled()) {
        wants.join(storing);
        wants.settle()?;
        return Err(Failure::new(Code::Bug, "Something is missing that nobody can name."));
    }
    let Some(identity) = identity else {
        return Err(Failure::new(Code::Bug, "The Databricks identity is settled and yet missing."));
    };
    let writer = super::to_databricks(&identity, stage)?;

    let consents = Consents::default().with(Consent::Rotate, rotate);
    let compare = value.as_ref().filter(|_| rotate).map(|value| Fingerprint::of(&value.key.value));
    let reader = writer.reader();
    let (me, scope_step, mut secret_step, mut grant_steps) = tokio::try_join!(
        who(&reader),
        Step::<Scope>::plan(&reader, ScopeWant { scope: scope.clone() }, &consents),
        Step::<Secret>::plan(&reader, SecretWant { scope: scope.clone(), key: key.clone(), compare }, &consents),
        try_join_all(grants.into_iter().map(|GrantTo { principal, permission }| {
            Step::<Grant>::plan(&reader, GrantWant { scope: scope.clone(), principal, permission }, &consents)
        })),
    )?;
    secret_step.settle(scope_step.have.as_ref());
    for step in &mut grant_steps {
        step.settle(scope_step.action == Action::Create, &me.user_name);
    }
    let key_is_there = secret_step.have.as_ref().is_some_and(|have| have.updated.is_some());
    let writes_key = secret_step.writes();
    let is_open = secret_step.have.as_ref().is_some_and(|have| have.everybody.is_some());
    let named = names(&scope, &key);

    let mut inputs = Inputs::default();
    if writes_key {
        storing.settle()?;
        let Some(value) = value else {
            return Err(Failure::new(Code::Bug, "The key to store is settled and yet missing."));
        };
        value.validate(stage).await?;
        inputs.key = Some(value.key.value);
    }
    if is_open {
        stage.events.warning(format!("everybody in this workspace can read the secret scope {scope}"));
    }

    let mut steps = vec![Planned::Scope(scope_step), Planned::Secret(secret_step)];
    steps.extend(grant_steps.into_iter().map(Planned::Grant));
    let provision = Provision { stage, writer: &writer, me: &me, dry_run, inputs };
    let mut carried = provision.carry_out(Plan { steps }).await;
    carried.field("scope", scope.as_str());
    carried.field("key", key.as_str());
    if carried.is_well() {
        if key_is_there && !rotate {
            carried.line(format!("To replace the key: dbtrigger init-secrets{named} --rotate"));
        }
        carried.line(format!("Next: dbtrigger deploy-notebook{named}"));
    }
    Ok(carried.end())
}

/// The flags that repeat these names in the next command.
fn names(scope: &ScopeName, key: &KeyName) -> String {
    let flag = |name: &str, value: &str, default: &str| {
        if value == default { String::new() } else { format!(" {name} {value}") }
    };
    flag("--scope", scope.as_str(), DEFAULT_SCOPE) + &flag("--key", key.as_str(), DEFAULT_KEY)
}

/// One grant per principal; two levels for one are a contradiction. The group of everybody takes a consent of its own,
/// which this version has no flag for.
fn settle_grants(grants: Vec<GrantTo>) -> Result<Vec<GrantTo>, Failure> {
    let mut settled: Vec<GrantTo> = Vec::new();
    for grant in grants {
        if grant.principal.eq_ignore_ascii_case(EVERYBODY) {
            return Err(Failure::new(
                Code::Refused,
                "--grant users would let everybody in this workspace read the dbt API key; nothing was written.",
            )
            .advise("name the user, the group or the service principal that the workflow runs as, such as --grant data-engineers"));
        }
        match settled.iter().find(|known| known.principal.eq_ignore_ascii_case(&grant.principal)) {
            None => settled.push(grant),
            Some(known) if known.permission == grant.permission => {}
            Some(known) => {
                let (principal, one, two) = (&grant.principal, known.permission.name(), grant.permission.name());
                return Err(Failure::new(
                    Code::Contradiction,
                    format!("--grant names {principal} with {one} and with {two}."),
                )
                .advise("name each principal once; WRITE includes READ, and MANAGE both"));
            }
        }
    }
    Ok(settled)
}

/// The key that is to be stored, and the account that it belongs to.
struct Storing {
    key: Sourced<Value>,
    account: Account,
}

impl Storing {
    async fn find(source: &KeySource, stage: &Stage, wants: &mut Wants) -> Option<Storing> {
        let environment = &stage.context.environment;
        let key = wants.need(
            credentials::key_to_store(source, environment, &stage.vault).await,
            Missing {
                what: "the dbt API key to store",
                give: "--token-stdin, --token-file FILE, or the variable DBT_CLOUD_TOKEN",
            },
        );
        let account = credentials::account(&stage.account, &[], environment, wants);
        Some(Storing { key: key?, account: account? })
    }

    /// Tries the key at dbt, so that no wrong one is stored.
    async fn validate(&self, stage: &Stage) -> Result<(), Failure> {
        let Storing { key: Sourced { value, source }, account } = self;
        account.check_bare_token()?;
        if value.reveal().starts_with("dbtu_") {
            stage.events.warning(format!(
                "the key from {source} is a personal token: whoever can read the secret acts as you in dbt; a service token (dbtc_) is made for this"
            ));
        }
        let dbt = super::to_dbt(account, value.clone(), stage)?;
        validate(&dbt, account.id).await
    }
}

/// Asks dbt which accounts the key may see.
async fn validate(dbt: &Writer, id: u64) -> Result<(), Failure> {
    let doing = "Nothing was written: dbt Cloud could not be asked about the key";
    let accounts = match dbt.read(list_accounts()).await {
        // Older hosts do not have the newer endpoint (dbt-cloud-api §2.4).
        Err(error) if error.is_status(404) => dbt.read(list_accounts_v2()).await,
        answer => answer,
    };
    let accounts = accounts.map_err(|error| match error.last_fault() {
        Fault::Status(status, _) if status.as_u16() == 401 => {
            of_dbt("Nothing was written: dbt Cloud does not accept the key", &error)
        }
        Fault::Status(status, _) if status.as_u16() == 403 => {
            of_dbt("Nothing was written: dbt Cloud accepts the key, but does not let it see any account", &error)
        }
        Fault::Status(status, _) if status.as_u16() == 404 => {
            let origin = error.origin.clone();
            of_dbt(doing, &error)
                .cause(format!("{origin} does not answer as dbt Cloud does"))
                .advise("compare DBT_CLOUD_HOST with your browser's address bar when signed in to dbt")
        }
        Fault::Status(..)
        | Fault::NotSent(_)
        | Fault::NoToken(_)
        | Fault::Lost(_)
        | Fault::Nonsense(_)
        | Fault::TooLate(_) => of_dbt(doing, &error),
    })?;
    if accounts.rows.iter().any(|account| account.id == id) {
        return Ok(());
    }
    let seen: Vec<String> = accounts
        .rows
        .iter()
        .map(|account| match &account.name {
            Some(name) => format!("{} ({name})", account.id),
            None => account.id.to_string(),
        })
        .collect();
    let seen = if seen.is_empty() { "none".to_owned() } else { seen.join(", ") };
    Err(Failure::new(Code::NotFound, format!("Nothing was written: the dbt API key is good, but not for the account {id}."))
        .cause(format!("the accounts that it can see at {}: {seen}", dbt.origin()))
        .advise("check DBT_CLOUD_ACCOUNT_ID or --dbt-account, or make a key in that account; an account that restricts IP addresses looks the same from elsewhere"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_comes_with_a_level_or_reads() {
        let grant = |principal: &str, permission| Ok(GrantTo { principal: principal.to_owned(), permission });
        for (text, parsed) in [
            ("ana@example.com", grant("ana@example.com", Permission::Read)),
            ("data team:WRITE", grant("data team", Permission::Write)),
            ("odd:name:manage", grant("odd:name", Permission::Manage)),
            ("ana@example.com:OWN", Err(BadGrant("the level behind the colon is READ, WRITE or MANAGE"))),
            (":READ", Err(BadGrant("it names nobody"))),
            ("", Err(BadGrant("it names nobody"))),
            ("a\nb", Err(BadGrant("it has a control character in it"))),
        ] {
            assert_eq!(text.parse::<GrantTo>(), parsed, "{text:?}");
        }
    }

    #[test]
    fn two_levels_for_one_principal_are_a_contradiction_and_the_same_twice_is_once() {
        let grants = |texts: &[&str]| settle_grants(texts.iter().map(|text| text.parse().unwrap()).collect());
        assert_eq!(grants(&["a", "A:READ", "b"]).unwrap().len(), 2);
        assert_eq!(grants(&["a", "a:WRITE"]).unwrap_err().code, Code::Contradiction);
        assert_eq!(grants(&["a", "Users:WRITE"]).unwrap_err().code, Code::Refused);
    }
}
