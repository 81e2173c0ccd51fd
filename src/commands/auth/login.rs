//! `auth login`: checks a token with its service and stores it.

use std::path::PathBuf;

use super::{owner_in_json, unusable, waited};
use crate::commands::shared::dbt_accounts::validate;
use crate::commands::shared::provision::who;
use crate::commands::{CommandContext, databricks_client, dbt_client};
use crate::credentials::{
    Databricks, InputErrors, KeySource, MissingInput, Source, Sourced, TOKEN_VARIABLES, Token,
    check_credential_for_host, given_token, key_to_store, named_account, named_workspace,
};
use crate::document::Data;
use crate::failure::{Code, Failure, Report};
use crate::keyring::{KeyringError, Owner};
use crate::line::Line;
use crate::questions::Question;
use crate::secret::Secret;

/// Store a token in the system keyring
///
/// The token is checked with its service first. You can store tokens for several accounts and workspaces; if nothing selects one,
/// commands list them and ask you to choose.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "The token is read from a hidden prompt, --token-stdin, --token-file, or DBT_CLOUD_TOKEN (DATABRICKS_TOKEN).
To sign in to Databricks with a browser, run `databricks auth login`: dbtrigger uses that login too.

Examples:
  dbtrigger auth login --dbt-host ab123.us1.dbt.com --dbt-account 1234
  dbtrigger auth login --databricks --token-file token
  dbtrigger auth login --databricks 'https://dbc-a1b2345c-d6e7.cloud.databricks.com/?o=12345'"
)]
pub(super) struct Args {
    /// Store a dbt token (default)
    #[arg(long, conflicts_with = "databricks")]
    dbt: bool,
    /// Store a Databricks personal access token for this workspace
    ///
    /// Without HOST, the workspace of DATABRICKS_HOST or the profile. If one host serves several workspaces, add ?o=ID as
    /// in the browser's address bar, or set DATABRICKS_WORKSPACE_ID.
    #[arg(long, value_name = "HOST", num_args = 0..=1, default_missing_value = "")]
    databricks: Option<String>,
    /// Read the token from stdin
    #[arg(long, conflicts_with = "token_file")]
    token_stdin: bool,
    /// Read the token from a file
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Args {
    pub(super) fn reads_stdin(&self) -> bool {
        self.token_stdin
    }
}

/// A token that the service has accepted.
struct Accepted {
    owner: Owner,
    token: Sourced<Secret>,
    /// The type of a dbt token, or the identity of a Databricks token.
    known: Option<String>,
}

pub(super) async fn run(args: Args, ctx: &CommandContext) -> Result<LoginReport, Failure> {
    let Args { dbt: _, databricks, token_stdin, token_file } = args;
    let from = KeySource { token_stdin, token_file };
    let keyring = ctx.context.environment.keyring();
    // Fail before the user looks for a token that cannot be stored.
    let cannot = "nothing was stored: the keyring is unavailable";
    match waited(ctx, keyring.open()).await {
        Ok(_) => {}
        Err(trouble @ KeyringError::Corrupt { entry: _, why: _ }) => ctx.events.warning(format!(
            "{trouble}; it is the list of logins, and was started over: other logins still work, and are listed again after the next login"
        )),
        Err(trouble) => return Err(unusable(cannot, &trouble)),
    }
    let accepted = match databricks {
        Some(host) => of_databricks(host, &from, ctx).await?,
        None => of_dbt(&from, ctx).await?,
    };
    let Accepted { owner, token, known } = accepted;
    let replaced = waited(ctx, keyring.keep(&owner, token.value.reveal())).await.map_err(|trouble| {
        unusable(&format!("cannot store the token for {owner}"), &trouble)
            .run("see what is stored", "dbtrigger auth status")
    })?;
    let variables: &[&str] = match owner {
        Owner::Dbt { host: _, account: _ } => &TOKEN_VARIABLES,
        Owner::Databricks { host: _, workspace: _ } => &["DATABRICKS_TOKEN", "DATABRICKS_CLIENT_SECRET"],
    };
    for name in variables.iter().filter(|name| ctx.context.environment.get(name).is_some()) {
        ctx.events.warning(format!("{name} is set and takes precedence over the keyring"));
    }
    Ok(LoginReport { owner, from: token.source, known, replaced })
}

async fn of_dbt(from: &KeySource, ctx: &CommandContext) -> Result<Accepted, Failure> {
    let environment = &ctx.context.environment;
    let mut errors = InputErrors::default();
    let account = named_account(&ctx.account, environment, &mut errors);
    let token = errors.need(
        key_to_store(from, environment, &ctx.vault).await,
        MissingInput::value(
            "token",
            "pass --token-stdin or --token-file FILE, or set DBT_CLOUD_TOKEN",
            Some(Question::DbtToken),
        ),
    );
    let (account, token) = errors.settled(account.zip(token))?;
    let bare = Token::bare(token.clone());
    validate(&dbt_client(&account, &bare, ctx)?, account.id).await?;
    let owner = Owner::Dbt { host: account.origin.to_string(), account: account.id };
    Ok(Accepted { owner, token, known: bare.kind().map(ToOwned::to_owned) })
}

async fn of_databricks(host: String, from: &KeySource, ctx: &CommandContext) -> Result<Accepted, Failure> {
    let environment = &ctx.context.environment;
    let mut errors = InputErrors::default();
    // The flag without a value is empty.
    let host = Some(host).filter(|host| !host.is_empty());
    let flag = host.clone().map(|text| Sourced::new(text, Source::Flag("--databricks")));
    let at = errors.need(
        named_workspace(flag, environment),
        MissingInput::value(
            "Databricks host",
            "pass --databricks HOST, set DATABRICKS_HOST, or pick a profile of ~/.databrickscfg with -p",
            Some(Question::DatabricksHost),
        ),
    );
    let token = errors.need(
        token_for_databricks(from, ctx).await,
        MissingInput::value(
            "token",
            "pass --token-stdin or --token-file FILE, or set DATABRICKS_TOKEN",
            Some(Question::DatabricksToken { host }),
        ),
    );
    let (at, token) = errors.settled(at.zip(token))?;
    let identity = Databricks::with_token(at.clone(), token.clone());
    check_credential_for_host(&identity.auth_method, &at.host)?;
    let me = who(&databricks_client(&identity, ctx)?.reader()).await?;
    let owner = Owner::Databricks { host: at.host.value.to_string(), workspace: at.id.map(|id| id.value) };
    Ok(Accepted { owner, token, known: Some(me.user_name) })
}

/// The token from the flag, else from the prompt, else from the variable.
async fn token_for_databricks(from: &KeySource, ctx: &CommandContext) -> Result<Option<Sourced<Secret>>, Failure> {
    let variable = "DATABRICKS_TOKEN";
    let advice = "create a personal access token in the workspace under Settings > Developer > Access tokens, and pass only the token";
    if let Some(given) = given_token(from, "Databricks token", advice, &ctx.vault).await? {
        return Ok(Some(given));
    }
    if let Some(typed) = ctx.vault.kept(variable) {
        return Ok(Some(Sourced::new(typed, Source::Typed)));
    }
    let Some(text) = ctx.context.environment.get(variable) else { return Ok(None) };
    ctx.vault
        .admit(text.to_owned())
        .map(|secret| Some(Sourced::new(secret, Source::Variable(variable))))
        .map_err(|odd| Failure::new(Code::InvalidInput, format!("{variable} is not a token: {odd}")).advise(advice))
}

pub(super) struct LoginReport {
    owner: Owner,
    from: Source,
    known: Option<String>,
    replaced: bool,
}

impl Report for LoginReport {
    fn text(&self) -> Vec<Line> {
        let LoginReport { owner, from, known, replaced } = self;
        let known = known.as_ref().map(|known| format!(" ({known})")).unwrap_or_default();
        let done = if *replaced { "Replaced" } else { "Stored" };
        let stored = format!("{done} the token for {owner}{known} in the keyring, from {from}.");
        vec![stored.into(), "next: dbtrigger auth status".into()]
    }

    fn json(&self) -> Data {
        let LoginReport { owner, from, known, replaced } = self;
        let mut data = owner_in_json(owner);
        let (identity, kind) = match owner {
            Owner::Dbt { host: _, account: _ } => (None, known.as_deref()),
            Owner::Databricks { host: _, workspace: _ } => (known.as_deref(), Some("personal token")),
        };
        data.set("identity", identity);
        data.set("token_kind", kind);
        data.set("token_from", from.to_string());
        data.set("replaced", replaced);
        data
    }
}
