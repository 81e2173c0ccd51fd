//! `auth`: tokens in the system's keyring, and the source of each credential.

mod login;
mod logout;
mod next;
mod status;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::time::Duration;

use clap::Subcommand;
use tokio::time::sleep;

use super::CommandContext;
use crate::document::{Data, Id, ToDocument as _, document};
use crate::events::Event;
use crate::failure::{Code, Ended, Failure, Report};
use crate::keyring::{KeyringError, Owner};

/// The logins in the keyring, or why they cannot be listed.
type Logins = Result<Vec<Owner>, KeyringError>;

/// How long to wait for the keyring before saying so.
const SOON: Duration = Duration::from_secs(1);

/// Sign in, sign out, and show who you are
///
/// Tokens are stored in the system keyring: Keychain on macOS, Credential Manager on Windows, Secret Service on Linux. A stored
/// token is sent only to the host it was stored for. Environment variables take precedence. The keyring is not used where CI or
/// DBTRIGGER_NO_KEYRING is set.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  dbtrigger auth status
  dbtrigger auth login --dbt-host ab123.us1.dbt.com --dbt-account 1234
  dbtrigger auth login --databricks https://dbc-a1b2345c-d6e7.cloud.databricks.com
  dbtrigger auth logout --all")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, Subcommand)]
enum Action {
    Login(login::Args),
    Status(status::Args),
    Logout(logout::Args),
}

impl Args {
    /// Whether the token is read from stdin, which rules out prompts.
    pub(crate) fn reads_stdin(&self) -> bool {
        match &self.action {
            Action::Login(args) => args.reads_stdin(),
            Action::Status(_) | Action::Logout(_) => false,
        }
    }

    pub(crate) fn changes_keyring(&self) -> bool {
        match &self.action {
            Action::Login(_) | Action::Logout(_) => true,
            Action::Status(_) => false,
        }
    }
}

pub(crate) async fn run(args: Args, ctx: &CommandContext) -> Ended<Box<dyn Report>> {
    let Args { action } = args;
    match action {
        Action::Status(args) => status::run(&args, ctx).await,
        Action::Logout(args) => logout::run(args, ctx).await,
        Action::Login(args) => match login::run(args, ctx).await {
            Ok(report) => Ended::well(Box::new(report)),
            Err(failure) => failure.into(),
        },
    }
}

/// Waits for the keyring, and prints a remark if it takes long.
async fn waited<T>(
    ctx: &CommandContext,
    call: impl Future<Output = Result<T, KeyringError>>,
) -> Result<T, KeyringError> {
    let mut call = std::pin::pin!(call);
    let done = tokio::select! {
        biased;
        done = &mut call => done,
        () = sleep(SOON) => {
            ctx.events.remark("waiting for the keyring, which may be asking for its password in a separate window");
            call.await
        }
    };
    if let Err(error) = &done {
        let bodies = error.system_text().into_iter().map(ToOwned::to_owned).collect();
        ctx.events.emit(Event::Trace { line: format!("keyring: {error}"), bodies });
    }
    done
}

/// The failure if the keyring cannot be used. `doing` is a sentence without its period.
fn unusable(doing: &str, trouble: &KeyringError) -> Failure {
    let code = if matches!(trouble, KeyringError::Closed(_)) { Code::InvalidInput } else { Code::Failed };
    let failure = Failure::new(code, doing).cause(trouble.to_string());
    trouble.remedy().into_iter().fold(failure, Failure::advise)
        .advise("without a keyring: set DBT_CLOUD_TOKEN or keep dbt's own file ~/.dbt/dbt_cloud.yml; for Databricks set DATABRICKS_TOKEN or name a profile of ~/.databrickscfg with -p")
}

fn owner_in_json(owner: &Owner) -> Data {
    match owner {
        Owner::Dbt { host, account } => {
            document!({ "service": "dbt", "host": host, "account_id": Id(*account), "workspace_id": None::<Id> })
        }
        Owner::Databricks { host, workspace } => {
            document!({ "service": "databricks", "host": host, "account_id": None::<Id>, "workspace_id": workspace })
        }
    }
}

fn owners_in_json(owners: &[Owner]) -> Data {
    owners.iter().map(owner_in_json).collect::<Vec<_>>().to_document()
}
