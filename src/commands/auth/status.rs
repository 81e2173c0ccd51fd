//! `auth status`: for both services who, where, from which sources, and whether it works now.

use serde_json::{Value, json};

use super::owners_in_json;
use crate::commands::provision::who;
use crate::commands::{Stage, init_secrets, to_databricks, to_dbt};
use crate::credentials::{Missing, Wants, account, api_token, databricks};
use crate::databricks::permissions::Principal;
use crate::failure::{Code, Ended, Failure, Report, of_dbt};
use crate::keyring::{Owner, Trouble};
use crate::questions::Open;

/// Show who you are at both services, from where, and whether it works
///
/// Asks each service once. Ends with 0 if both answer, and with 4 if one does not know you.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  dbtrigger auth status
  dbtrigger auth status -o json")]
pub(super) struct Args {}

pub(super) async fn run(args: &Args, stage: &Stage) -> Ended<Box<dyn Report>> {
    let Args {} = args;
    let logins = stage.context.environment.keyring().logins();
    let (databricks, dbt) = tokio::join!(of_the_workspace(stage), of_the_account(stage));
    let failure = together([&databricks, &dbt]);
    let report: Option<Box<dyn Report>> = Some(Box::new(StatusReport { databricks, dbt, logins }));
    Ended { report, failure }
}

/// What is known of one service.
struct Standing {
    service: &'static str,
    /// How to sign in.
    login: &'static str,
    /// Name in JSON, words for people, value.
    facts: Vec<(&'static str, &'static str, Value)>,
    failure: Option<Failure>,
}

impl Standing {
    fn new(service: &'static str, login: &'static str) -> Standing {
        Standing { service, login, facts: Vec::new(), failure: None }
    }

    fn fact(&mut self, name: &'static str, words: &'static str, value: impl Into<Value>) {
        self.facts.push((name, words, value.into()));
    }
}

async fn of_the_workspace(stage: &Stage) -> Standing {
    let mut standing = Standing::new("Databricks", "dbtrigger auth login --databricks");
    standing.failure = ask_workspace(stage, &mut standing).await.err();
    standing
}

async fn ask_workspace(stage: &Stage, standing: &mut Standing) -> Result<(), Failure> {
    let mut wants = Wants::default();
    let identity = databricks(&stage.context.environment, &stage.vault, &mut wants);
    wants.settle()?;
    let Some(identity) = identity else {
        return Err(Failure::new(Code::Bug, "The Databricks identity is settled and yet missing."));
    };
    standing.fact("host", "host", identity.origin.to_string());
    standing.fact("host_from", "host from", identity.host_from.to_string());
    standing.fact("auth_type", "way", identity.way.name());
    standing.fact("credential_from", "credential", identity.way.known_as());
    standing.fact("tried", "", identity.tried.clone());
    let reader = to_databricks(&identity, stage)?.reader();
    let me = who(&reader).await?;
    standing.fact("workspace_id", "workspace", me.workspace_id);
    let kind = match Principal::of(&me.user_name) {
        Principal::User | Principal::Group => "user",
        Principal::ServicePrincipal => "service principal",
    };
    standing.fact("identity", "identity", me.user_name);
    standing.fact("identity_kind", "kind", kind);
    let expires = reader.token_life().await.and_then(|life| stage.context.wall.now().checked_add(life).ok());
    standing.fact("expires_at", "expires, then renewed", expires.map(|at| at.to_string()));
    Ok(())
}

async fn of_the_account(stage: &Stage) -> Standing {
    let mut standing = Standing::new("dbt Cloud", "dbtrigger auth login");
    standing.failure = ask_account(stage, &mut standing).await.err();
    standing
}

async fn ask_account(stage: &Stage, standing: &mut Standing) -> Result<(), Failure> {
    let environment = &stage.context.environment;
    let mut wants = Wants::default();
    let account = account(&stage.account, &[], environment, &mut wants);
    let token = api_token(&stage.account, &[], environment, &stage.vault, &mut wants);
    let token = wants.need(
        token,
        Missing {
            what: "the token for dbt",
            give: "set DBT_CLOUD_TOKEN, store one with `dbtrigger auth login`, or keep one in ~/.dbt/dbt_cloud.yml",
            ask: None,
        },
    );
    if let Some(account) = &account {
        standing.fact("host", "host", account.origin.to_string());
        standing.fact("host_from", "host from", account.host_from.to_string());
        standing.fact("account_id", "account", account.id);
        standing.fact("account_from", "account from", account.id_from.to_string());
    }
    if let Some(token) = &token {
        standing.fact("token_from", "token", token.source().to_string());
        standing.fact("token_kind", "kind", token.kind());
    }
    wants.settle()?;
    let (Some(account), Some(token)) = (account, token) else {
        return Err(Failure::new(Code::Bug, "A value is missing, and nothing said so."));
    };
    let writer = to_dbt(&account, &token, stage)?;
    let seen = init_secrets::accounts(&writer).await.map_err(|error| {
        of_dbt(&format!("Cannot find out which account {} is for", writer.reader().known_as()), &error)
    })?;
    let Some(mine) = seen.iter().find(|seen| seen.id == account.id) else {
        let ids: Vec<String> = seen.iter().map(|seen| seen.id.to_string()).collect();
        let ids = if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
        return Err(Failure::new(
            Code::NotAllowed,
            format!("The token from {} is good, but not for account {}.", token.source(), account.id),
        )
        .cause(format!("the accounts that it can see at {}: {ids}", account.origin))
        .advise("check DBT_CLOUD_ACCOUNT_ID or --dbt-account, or make a token in that account"));
    };
    standing.fact("account_name", "name", mine.name.clone());
    standing.fact("plan", "plan", mine.plan.clone());
    if mine.locked == Some(true) {
        let why = mine.lock_reason.as_deref().unwrap_or("dbt does not say why");
        stage.events.warning(format!("dbt account {} is locked: {why}", account.id));
    }
    Ok(())
}

/// One failure for both services.
fn together(standings: [&Standing; 2]) -> Option<Failure> {
    let failing: Vec<(&Standing, &Failure)> =
        standings.into_iter().filter_map(|standing| Some((standing, standing.failure.as_ref()?))).collect();
    let (_, first) = failing.first()?;
    // Who is not signed in is not authenticated, whatever is missing for it.
    let code = if first.code == Code::MissingInput { Code::NotAuthenticated } else { first.code };
    let what = match failing.as_slice() {
        [(one, _)] => format!("{} does not work.", one.service),
        _ => "Neither Databricks nor dbt Cloud works.".to_owned(),
    };
    let mut together = Failure::new(code, what);
    for (standing, failure) in failing {
        let Failure { code, what, causes, hints, open } = failure;
        // Nobody is asked here: what is missing is the answer.
        let _: &Open = open;
        together.causes.push(format!("{}: {what}", standing.service));
        together.causes.extend(causes.iter().cloned());
        if matches!(code, Code::MissingInput | Code::NotAuthenticated) {
            together = together.run(standing.login);
        }
        together.hints.extend(hints.iter().filter(|hint| !together.hints.contains(hint)).cloned().collect::<Vec<_>>());
    }
    Some(together)
}

struct StatusReport {
    databricks: Standing,
    dbt: Standing,
    logins: Result<Vec<Owner>, Trouble>,
}

impl Report for StatusReport {
    fn text(&self) -> String {
        let StatusReport { databricks, dbt, logins } = self;
        let mut lines = Vec::new();
        for Standing { service, login: _, facts, failure } in [databricks, dbt] {
            lines.push(match failure {
                None => format!("{service}: works"),
                Some(failure) => format!("{service}: does not work [{}]", failure.code.name()),
            });
            for (_, words, value) in facts {
                match value {
                    Value::Null => {}
                    Value::String(text) => lines.push(format!("  {words:<22} {text}")),
                    // Why the ways before this one do not apply.
                    Value::Array(rows) => {
                        lines.extend(rows.iter().filter_map(Value::as_str).map(|row| format!("  {row}")));
                    }
                    Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
                        lines.push(format!("  {words:<22} {value}"));
                    }
                }
            }
        }
        lines.push(match logins {
            Ok(logins) if logins.is_empty() => "Keyring: nothing is stored".to_owned(),
            Ok(logins) => {
                let logins: Vec<String> = logins.iter().map(ToString::to_string).collect();
                format!("Keyring: {}", logins.join("; "))
            }
            Err(trouble) => format!("Keyring: {trouble}"),
        });
        lines.join("\n")
    }

    fn json(&self) -> Value {
        let StatusReport { databricks, dbt, logins } = self;
        let of = |standing: &Standing| {
            let Standing { service: _, login: _, facts, failure } = standing;
            let mut data = json!({ "works": failure.is_none() });
            for (name, _, value) in facts {
                data[*name] = value.clone();
            }
            data["error"] = failure.as_ref().map(Failure::json).into();
            data
        };
        let trouble = logins.as_ref().err().map(ToString::to_string);
        json!({
            "databricks": of(databricks),
            "dbt": of(dbt),
            "keyring": { "logins": owners_in_json(logins.as_deref().unwrap_or_default()), "trouble": trouble },
        })
    }
}
