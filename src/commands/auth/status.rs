//! `auth status`: identity, host, sources and validity of the credentials of both services.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::next::{Next, instead, login_to_databricks, login_to_dbt};
use super::{Logins, owners_in_json};
use crate::commands::jobs::moment;
use crate::commands::shared::dbt_accounts::accounts;
use crate::commands::shared::provision::who;
use crate::commands::{CommandContext, GlobalFlags, databricks_client, dbt_client};
use crate::credentials::{
    AccountFlags, AuthMethod, Databricks, InputErrors, MissingInput, SignIn, Sourced, Tried, Workspace, account,
    api_token, databricks, named_workspace,
};
use crate::databricks::permissions::Principal;
use crate::document::{Data, Id, ToDocument, document};
use crate::failure::{Code, Ended, Failure, Report, of_dbt};
use crate::line::Line;

/// Show who you are signed in as, and where each credential comes from
///
/// Asks each service once. Exits with 0 if both accept the credentials and with 4 if either rejects them; otherwise with the
/// error's own code, input errors (2) before network errors (12) before temporary errors (75).
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  dbtrigger auth status
  dbtrigger auth status -o json")]
pub(super) struct Args {}

pub(super) async fn run(args: &Args, ctx: &CommandContext) -> Ended<Box<dyn Report>> {
    let Args {} = args;
    let logins = ctx.context.environment.keyring().logins();
    let (mut databricks, mut dbt) = (ServiceStatus::new("Databricks"), ServiceStatus::new("dbt"));
    let (of_databricks, of_dbt) =
        tokio::join!(ask_workspace(ctx, &logins, &mut databricks), ask_account(ctx, &logins, &mut dbt));
    (databricks.failure, dbt.failure) = (of_databricks.err(), of_dbt.err());
    // Each service's commands say what is about it alone: a profile that does not exist would fail those of the other.
    let (profile, bundle) = (ctx.context.environment.profile(), ctx.ca_bundle.as_deref());
    let given =
        [GlobalFlags::of(profile, bundle, &AccountFlags::default()), GlobalFlags::of(None, bundle, &ctx.account)];
    let failure = together([(&databricks, &given[0]), (&dbt, &given[1])]);
    let report: Option<Box<dyn Report>> =
        Some(Box::new(StatusReport { databricks, dbt, logins, zone: ctx.context.zone.clone() }));
    Ended { report, failure }
}

/// What is known of one service.
struct ServiceStatus {
    service: &'static str,
    /// JSON name, label and value.
    facts: Vec<(&'static str, &'static str, Data)>,
    failure: Option<Failure>,
}

impl ServiceStatus {
    fn new(service: &'static str) -> ServiceStatus {
        ServiceStatus { service, facts: Vec::new(), failure: None }
    }

    fn fact(&mut self, name: &'static str, words: &'static str, value: impl ToDocument) {
        self.facts.push((name, words, value.to_document()));
    }

    /// Expiry of the token, or why it is unknown.
    fn expiry(&mut self, at: Option<Timestamp>, not_told: &str) {
        self.fact("expires_at", "expires (auto-renewed)", at.map(|at| at.to_string()));
        self.fact("expires_note", "expires", at.is_none().then_some(not_told));
    }
}

async fn ask_workspace(
    ctx: &CommandContext,
    logins: &Logins,
    service_status: &mut ServiceStatus,
) -> Result<(), Failure> {
    let environment = &ctx.context.environment;
    let mut errors = InputErrors::default();
    let identity = databricks(environment, &ctx.vault, &mut errors);
    // The host may be known without a credential.
    let at = match &identity {
        Some(Databricks { origin, host_from, workspace, auth_method: _, tried: _, remark: _ }) => {
            Some(Workspace { host: Sourced::new(origin.clone(), host_from.clone()), id: workspace.clone() })
        }
        None => named_workspace(None, environment).ok().flatten(),
    };
    if let Some(Workspace { host, id }) = &at {
        service_status.fact("host", "host", host.value.to_string());
        service_status.fact("host_from", "host source", host.source.to_string());
        service_status.fact("workspace_sent", "requested workspace", id.as_ref().map(|id| id.value.clone()));
        service_status.fact("workspace_from", "workspace source", id.as_ref().map(|id| id.source.to_string()));
    }
    let next = Next { environment, logins };
    let has_credential = at.is_none() && errors.count_missing() == 1;
    let identity = errors
        .settled(identity)
        .map_err(|failure| instead(failure, || next.without_databricks(at.as_ref(), has_credential)))?;
    service_status.fact("auth_type", "auth", identity.auth_method.name());
    service_status.fact("credential_from", "credential", identity.auth_method.known_as());
    let tried = identity.tried.iter().map(|Tried { name, why }| document!({ "way": name, "reason": why }));
    service_status.fact("tried", "", tried.collect::<Vec<_>>());
    let given = match &identity.auth_method {
        AuthMethod::Token(token) => {
            service_status.expiry(None, "unknown for a personal access token");
            Some(&token.source)
        }
        AuthMethod::ServicePrincipal { .. } | AuthMethod::GitHub { .. } | AuthMethod::Cli { .. } => None,
    };
    let reader = databricks_client(&identity, ctx)?.reader();
    let me = who(&reader).await.map_err(|failure| match given {
        Some(source) => next.after_a_refusal(failure, source, &login_to_databricks(at.as_ref())),
        None => failure,
    })?;
    service_status.fact("workspace_id", "workspace", me.workspace_id.map(Id));
    let kind = match Principal::of(&me.user_name) {
        Principal::User | Principal::Group => "user",
        Principal::ServicePrincipal => "service principal",
    };
    service_status.fact("identity", "identity", me.user_name);
    service_status.fact("identity_kind", "kind", kind);
    if given.is_none() {
        let expires = reader.token_life().await.and_then(|life| ctx.context.wall.now().checked_add(life).ok());
        service_status.expiry(expires, "unknown to the token's issuer");
    }
    Ok(())
}

async fn ask_account(ctx: &CommandContext, logins: &Logins, service_status: &mut ServiceStatus) -> Result<(), Failure> {
    let environment = &ctx.context.environment;
    let mut errors = InputErrors::default();
    let account = account(&ctx.account, &[], environment, &mut errors);
    let token = api_token(&ctx.account, &[], environment, &ctx.vault, &mut errors);
    let next = Next { environment, logins };
    let token = errors.need(token, MissingInput::sign_in(SignIn::DbtToken, environment, None));
    if let Some(account) = &account {
        service_status.fact("host", "host", account.origin.to_string());
        service_status.fact("host_from", "host source", account.host_from.to_string());
        service_status.fact("account_id", "account", Id(account.id));
        service_status.fact("account_from", "account source", account.id_from.to_string());
    }
    if let Some(token) = &token {
        service_status.fact("token_from", "token", token.source().to_string());
        service_status.fact("token_kind", "kind", token.kind());
        service_status.expiry(None, "unknown");
    }
    let login = login_to_dbt(account.as_ref());
    let settled = errors.settled(account.as_ref().zip(token));
    let (account, token) = settled.map_err(|failure| instead(failure, || next.without_dbt(account.as_ref())))?;
    let writer = dbt_client(account, &token, ctx)?;
    let seen = accounts(&writer).await.map_err(|error| {
        let what = format!("cannot look up the account of {}", writer.reader().known_as());
        let failure = of_dbt(&what, &error);
        // A token that lacks this permission is still valid.
        if failure.code == Code::NotAllowed { failure } else { next.after_a_refusal(failure, token.source(), &login) }
    })?;
    let Some(mine) = seen.iter().find(|seen| seen.id == account.id) else {
        let ids: Vec<String> = seen.iter().map(|seen| seen.id.to_string()).collect();
        let ids = if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
        return Err(Failure::new(
            Code::NotAllowed,
            format!("the token from {} is valid, but not for account {}", token.source(), account.id),
        )
        .cause(format!("accounts it can see at {}: {ids}", account.origin))
        .advise("check DBT_CLOUD_ACCOUNT_ID or --dbt-account, or create a token in that account"));
    };
    service_status.fact("account_name", "name", mine.name.clone());
    service_status.fact("plan", "plan", mine.plan.clone());
    if mine.locked == Some(true) {
        let why = mine.lock_reason.as_deref().unwrap_or("dbt gives no reason");
        ctx.events.warning(format!("dbt account {} is locked: {why}", account.id));
    }
    Ok(())
}

/// Combines the failures of both services, with the flags given for each.
fn together(service_statuses: [(&ServiceStatus, &GlobalFlags); 2]) -> Option<Failure> {
    let failing: Vec<(&ServiceStatus, &GlobalFlags, &Failure)> = service_statuses
        .into_iter()
        .filter_map(|(service_status, given)| Some((service_status, given, service_status.failure.as_ref()?)))
        .collect();
    let code = failing.iter().map(|(_, _, failure)| code(failure)).min_by_key(|code| rank(*code))?;
    let what = match failing.as_slice() {
        [(one, _, _)] => format!("not signed in to {}", one.service),
        _ => "not signed in to Databricks or dbt".to_owned(),
    };
    let mut together = Failure::new(code, what);
    let several = failing.len() > 1;
    let mut tried = Vec::new();
    for (ServiceStatus { service, facts: _, failure: _ }, given, failure) in failing {
        let Failure { code, what, causes, hints, open_questions } = failure;
        let named = |text: &str| if several { format!("{service}: {text}") } else { text.to_owned() };
        // That something is missing is said already; the hints say what.
        if *code != Code::MissingInput {
            together.causes.push(format!("{service}: {what}"));
        }
        let (reasons, looked) = causes.split_at(causes.len() - open_questions.tried);
        together.causes.extend(reasons.iter().map(|cause| named(cause)));
        tried.extend(looked.iter().map(|cause| named(cause)));
        for hint in hints.iter().cloned() {
            let hint = given.hint(hint);
            together = together.hint(if several { hint.about(service) } else { hint });
        }
    }
    together.open_questions.tried = tried.len();
    together.causes.extend(tried);
    Some(together)
}

/// A missing value means not authenticated.
fn code(failure: &Failure) -> Code {
    if failure.code == Code::MissingInput { Code::NotAuthenticated } else { failure.code }
}

/// Failures that waiting does not fix rank first.
fn rank(code: Code) -> u8 {
    match code {
        Code::NotAuthenticated | Code::NotAllowed => 0,
        Code::Network | Code::Tls => 2,
        Code::StillRunning | Code::RateLimited | Code::Unavailable => 3,
        Code::Failed
        | Code::Usage
        | Code::MissingInput
        | Code::InvalidInput
        | Code::Contradiction
        | Code::RunFailed
        | Code::NotFound
        | Code::RunGone
        | Code::Refused
        | Code::ChangedMeanwhile
        | Code::OutcomeUnknown
        | Code::UnexpectedResponse
        | Code::RunCancelled
        | Code::Cancelled(_)
        | Code::Bug
        | Code::Interrupted(_) => 1,
    }
}

struct StatusReport {
    databricks: ServiceStatus,
    dbt: ServiceStatus,
    logins: Logins,
    zone: TimeZone,
}

impl Report for StatusReport {
    fn text(&self) -> Vec<Line> {
        let StatusReport { databricks, dbt, logins, zone } = self;
        let mut lines = Vec::new();
        for ServiceStatus { service, facts, failure } in [databricks, dbt] {
            lines.push(match failure {
                None => format!("{service}: signed in"),
                Some(failure) => format!("{service}: not signed in [{}]", failure.code.name()),
            });
            for (name, words, value) in facts {
                match &**value {
                    Value::Null => {}
                    Value::String(text) if *name == "expires_at" => {
                        let at = text.parse().map_or_else(|_| text.clone(), |at| moment(at, zone));
                        lines.push(format!("  {words:<22} {at}"));
                    }
                    Value::String(text) => lines.push(format!("  {words:<22} {text}")),
                    // Why earlier auth methods do not apply.
                    Value::Array(rows) => lines.extend(rows.iter().map(|row| {
                        let of = |name: &str| row[name].as_str().unwrap_or_default();
                        format!("  {:<22} {}", format!("tried {}", of("way")), of("reason"))
                    })),
                    Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
                        lines.push(format!("  {words:<22} {}", **value));
                    }
                }
            }
        }
        lines.push(match logins {
            Ok(logins) if logins.is_empty() => "Keyring: empty".to_owned(),
            Ok(logins) => {
                let logins: Vec<String> = logins.iter().map(ToString::to_string).collect();
                format!("Keyring: {}", logins.join("; "))
            }
            Err(trouble) => {
                let trouble = trouble.to_string();
                format!("Keyring: {}", trouble.strip_prefix("the keyring is ").unwrap_or(&trouble))
            }
        });
        lines.into_iter().map(Line::Whole).collect()
    }

    fn json(&self) -> Data {
        let StatusReport { databricks, dbt, logins, zone: _ } = self;
        let of = |service_status: &ServiceStatus| {
            let ServiceStatus { service: _, facts, failure } = service_status;
            let mut data = document!({ "works": failure.is_none() });
            for (name, _, value) in facts {
                data.set(name, value);
            }
            data.set("error", failure.as_ref().map(Failure::json));
            data
        };
        let trouble = logins.as_ref().err().map(ToString::to_string);
        document!({
            "databricks": of(databricks),
            "dbt": of(dbt),
            "keyring": document!({ "logins": owners_in_json(logins.as_deref().unwrap_or_default()), "trouble": trouble }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_know_you_goes_before_what_passes_whichever_service_it_is() {
        for (one, other, worst) in [
            (Code::Network, Code::NotAuthenticated, 4),
            (Code::Unavailable, Code::NotAllowed, 4),
            (Code::InvalidInput, Code::MissingInput, 4),
            (Code::Tls, Code::Contradiction, 2),
            (Code::RateLimited, Code::Network, 12),
            (Code::Unavailable, Code::UnexpectedResponse, 13),
        ] {
            let failing = |service, code| {
                let mut service_status = ServiceStatus::new(service);
                service_status.failure = Some(Failure::new(code, "It fails."));
                service_status
            };
            for (one, other) in [(one, other), (other, one)] {
                let (given, one_of, other_of) =
                    (GlobalFlags::default(), failing("Databricks", one), failing("dbt", other));
                let both = [(&one_of, &given), (&other_of, &given)];
                assert_eq!(together(both).unwrap().code.exit(), worst, "{one:?} {other:?}");
            }
        }
    }
}
