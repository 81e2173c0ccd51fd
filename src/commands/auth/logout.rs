//! `auth logout`: removes tokens from the keyring and reports what is left.

use super::{Logins, owners_in_json, unusable, waited};
use crate::commands::CommandContext;
use crate::credentials::{
    InputErrors, Source, Sourced, Workspace, api_token, databricks, named_host_and_id, named_workspace,
};
use crate::document::{Data, document};
use crate::failure::{Code, Ended, Failure, Report};
use crate::keyring::{KeyringError, Owner};
use crate::line::Line;

/// Remove a token from the system keyring
///
/// Removes the dbt token unless --databricks or --all is given. A missing token is not an error. Other sources that still give
/// access, such as variables, are listed and left alone.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "The token itself stays valid: revoke it in its service if it is no longer needed.

Examples:
  dbtrigger auth logout --dbt-host ab123.us1.dbt.com --dbt-account 1234
  dbtrigger auth logout --databricks
  dbtrigger auth logout --all")]
pub(super) struct Args {
    /// Remove the dbt token (default)
    #[arg(long, conflicts_with = "databricks")]
    dbt: bool,
    /// Remove the Databricks token for this workspace
    ///
    /// Without HOST, the workspace of DATABRICKS_HOST or the profile, or the only one stored. Add ?o=ID if one
    /// host serves several workspaces.
    #[arg(long, value_name = "HOST", num_args = 0..=1, default_missing_value = "")]
    databricks: Option<String>,
    /// Remove every token that dbtrigger stored
    #[arg(long, conflicts_with_all = ["databricks", "dbt"])]
    all: bool,
}

pub(super) async fn run(args: Args, ctx: &CommandContext) -> Ended<Box<dyn Report>> {
    let opened = async {
        // Invalid arguments fail before the keyring is opened.
        let which = Which::read(args, ctx)?;
        let stored = waited(ctx, ctx.context.environment.keyring().open()).await;
        let chosen = which.choose(&stored, ctx)?;
        Ok::<_, Failure>((which, stored, chosen))
    };
    let (which, stored, chosen) = match opened.await {
        Ok(opened) => opened,
        Err(failure) => return Ended::from(failure),
    };
    let all = matches!(which, Which::All);
    let (removed, failure) = remove(&chosen, &stored, all, ctx).await;
    // Without the list, `--all` may have missed some.
    let failure = failure.or_else(|| stored.as_ref().err().filter(|_| all).map(|trouble| unlisted(&removed, trouble)));
    let mut logins = stored.unwrap_or_default();
    logins.retain(|owner| !removed.contains(owner));
    let report = LogoutReport { which, removed, logins, remains: remains(ctx), settled: failure.is_none() };
    Ended { report: Some(Box::new(report)), failure }
}

/// Removes the tokens one by one. Returns those removed, and the failure that stopped it.
async fn remove(chosen: &[Owner], stored: &Logins, all: bool, ctx: &CommandContext) -> (Vec<Owner>, Option<Failure>) {
    let keyring = ctx.context.environment.keyring();
    let (mut removed, mut failure) = (Vec::new(), None);
    for owner in chosen {
        match waited(ctx, keyring.remove(owner)).await {
            // A listed token that does not exist was removed by other means.
            Ok(there) if there || stored.as_ref().is_ok_and(|stored| stored.contains(owner)) => {
                removed.push(owner.clone());
            }
            Ok(_) => {}
            Err(trouble) => {
                let failed = unusable(&format!("cannot remove the token for {owner}"), &trouble);
                failure = Some(with_removed(failed, &removed).run("see what is stored", "dbtrigger auth status"));
                break;
            }
        }
    }
    match stored {
        Ok(_) => {
            if let Err(trouble) = waited(ctx, keyring.unlist(&removed)).await {
                let what = "cannot update the list of logins in the keyring; it still names the removed token";
                failure = failure.or(Some(with_removed(unusable(what, &trouble), &removed)));
            }
        }
        // Reported by the caller as incomplete.
        Err(_) if all => {}
        Err(trouble) => {
            let remedy = trouble.remedy().map(|remedy| format!(": {remedy}")).unwrap_or_default();
            ctx.events.warning(format!("{trouble}; it is the list of logins and was left unchanged{remedy}"));
        }
    }
    (removed, failure)
}

/// Adds the tokens that were already removed.
fn with_removed(failure: Failure, removed: &[Owner]) -> Failure {
    removed.iter().fold(failure, |failure, owner| failure.cause(format!("already removed: the token for {owner}")))
}

/// With `--all`, the list could not be read, so some tokens may be left.
fn unlisted(removed: &[Owner], trouble: &KeyringError) -> Failure {
    let what = "cannot read the list of logins in the keyring; there may be more tokens";
    with_removed(unusable(what, trouble), removed)
        .advise("remove each other login with --dbt-host and --dbt-account, or with --databricks HOST")
        .advise("delete every entry of the service \"dbtrigger\" in the system's keyring app")
}

/// The tokens to remove.
enum Which {
    All,
    /// Host and workspace ID.
    Databricks(Option<String>, Option<String>),
    Dbt(Option<String>, Option<u64>),
}

impl Which {
    fn read(args: Args, ctx: &CommandContext) -> Result<Which, Failure> {
        let Args { dbt: _, databricks, all } = args;
        if all {
            return Ok(Which::All);
        }
        match databricks {
            // The flag without a value is empty.
            Some(host) => Which::of_databricks(Some(host).filter(|host| !host.is_empty()), ctx),
            None => Which::of_dbt(ctx),
        }
    }

    fn of_databricks(flag: Option<String>, ctx: &CommandContext) -> Result<Which, Failure> {
        let flag = flag.map(|host| Sourced::new(host, Source::Flag("--databricks")));
        Ok(match named_workspace(flag, &ctx.context.environment)? {
            Some(Workspace { host, id }) => Which::Databricks(Some(host.value.to_string()), id.map(|id| id.value)),
            None => Which::Databricks(None, None),
        })
    }

    fn of_dbt(ctx: &CommandContext) -> Result<Which, Failure> {
        let (host, account) = named_host_and_id(&ctx.account, &ctx.context.environment)?;
        Ok(Which::Dbt(host.map(|host| host.to_string()), account))
    }

    /// The login that is fully named, which needs no list.
    fn whole(&self) -> Option<Owner> {
        match self {
            Which::Databricks(Some(host), id) => Some(Owner::Databricks { host: host.clone(), workspace: id.clone() }),
            Which::Dbt(Some(host), Some(account)) => Some(Owner::Dbt { host: host.clone(), account: *account }),
            Which::All | Which::Databricks(None, _) | Which::Dbt(None, _) | Which::Dbt(_, None) => None,
        }
    }

    fn fits(&self, owner: &Owner) -> bool {
        match (self, owner) {
            (Which::All, Owner::Dbt { host: _, account: _ } | Owner::Databricks { host: _, workspace: _ }) => true,
            (Which::Databricks(host, id), Owner::Databricks { host: theirs, workspace }) => {
                host.as_ref().is_none_or(|host| host == theirs)
                    && (id.is_none() || workspace.is_none() || id == workspace)
            }
            (Which::Dbt(host, account), Owner::Dbt { host: theirs, account: id }) => {
                host.as_ref().is_none_or(|host| host == theirs) && account.is_none_or(|account| account == *id)
            }
            (Which::Databricks(..), Owner::Dbt { host: _, account: _ })
            | (Which::Dbt(..), Owner::Databricks { host: _, workspace: _ }) => false,
        }
    }

    fn choose(&self, stored: &Logins, ctx: &CommandContext) -> Result<Vec<Owner>, Failure> {
        let stored = match (stored, self) {
            (Ok(stored), _) => stored,
            (Err(trouble), Which::All) if trouble.is_of_an_entry() => {
                // The logins named by flags and variables can still be removed.
                let named = [Which::of_databricks(None, ctx), Which::of_dbt(ctx)];
                return Ok(named.into_iter().flatten().filter_map(|which| which.whole()).collect());
            }
            (Err(trouble), _) => {
                let failure = unusable("nothing was removed: the keyring is unavailable", trouble);
                return match self.whole() {
                    Some(whole) if trouble.is_of_an_entry() => Ok(vec![whole]),
                    None if trouble.is_of_an_entry() => Err(failure.advise(self.how_to_name())),
                    Some(_) | None => Err(failure),
                };
            }
        };
        let chosen: Vec<Owner> = stored.iter().filter(|owner| self.fits(owner)).cloned().collect();
        match self.whole() {
            // A token may exist although it is not listed.
            Some(whole) if chosen.contains(&whole) || chosen.is_empty() => return Ok(vec![whole]),
            Some(_) | None => {}
        }
        if chosen.len() < 2 || matches!(self, Which::All) {
            return Ok(chosen);
        }
        let failure = Failure::new(Code::MissingInput, "nothing was removed: several logins match");
        let failure = chosen.iter().fold(failure, |failure, owner| failure.cause(owner.to_string()));
        Err(failure.advise(self.how_to_name()).advise("remove all of them with --all"))
    }

    fn how_to_name(&self) -> &'static str {
        match self {
            Which::Databricks(None, _) => "name one with --databricks HOST",
            Which::Databricks(Some(_), _) => "name one with --databricks 'HOST/?o=ID', where ID is the workspace ID",
            Which::Dbt(..) | Which::All => "name one with --dbt-host and --dbt-account",
        }
    }

    fn described(&self) -> String {
        match self {
            Which::All => "no login".to_owned(),
            Which::Databricks(None, _) => "no login for Databricks".to_owned(),
            Which::Databricks(Some(host), None) => format!("no login for Databricks at {host}"),
            Which::Databricks(Some(host), Some(id)) => format!("no login for Databricks workspace {id} at {host}"),
            Which::Dbt(Some(host), Some(account)) => format!("no login for dbt account {account} at {host}"),
            Which::Dbt(Some(host), None) => format!("no login for dbt at {host}"),
            Which::Dbt(None, Some(account)) => format!("no login for dbt account {account}"),
            Which::Dbt(None, None) => "no login for dbt".to_owned(),
        }
    }
}

/// The sources that the next command would use, per service.
fn remains(ctx: &CommandContext) -> Vec<(&'static str, String)> {
    let environment = &ctx.context.environment;
    let mut errors = InputErrors::default();
    let token = api_token(&ctx.account, &[], environment, &ctx.vault, &mut errors).ok().flatten();
    let identity = databricks(environment, &ctx.vault, &mut errors);
    let of_dbt = token.map(|token| ("dbt", token.source().to_string()));
    let of_databricks = identity.map(|identity| ("databricks", identity.auth_method.known_as()));
    of_databricks.into_iter().chain(of_dbt).collect()
}

pub(super) struct LogoutReport {
    which: Which,
    removed: Vec<Owner>,
    logins: Vec<Owner>,
    remains: Vec<(&'static str, String)>,
    /// Whether all of the requested tokens are known to be gone.
    settled: bool,
}

impl Report for LogoutReport {
    fn text(&self) -> Vec<Line> {
        let LogoutReport { which, removed, logins, remains, settled } = self;
        let mut lines: Vec<Line> =
            removed.iter().map(|owner| format!("Removed the token for {owner} from the keyring.").into()).collect();
        if removed.is_empty() && *settled {
            lines.push(format!("The keyring has {}.", which.described()).into());
        }
        lines.extend(logins.iter().map(|owner| format!("The keyring still has the token for {owner}.").into()));
        lines.extend(remains.iter().map(|(service, from)| {
            let service = if *service == "dbt" { "dbt" } else { "Databricks" };
            format!("For {service}, commands use {from}.").into()
        }));
        lines
    }

    fn json(&self) -> Data {
        let LogoutReport { which: _, removed, logins, remains, settled: _ } = self;
        let remains: Vec<Data> =
            remains.iter().map(|(service, from)| document!({ "service": service, "from": from })).collect();
        document!({ "removed": owners_in_json(removed), "logins": owners_in_json(logins), "remains": remains })
    }
}
