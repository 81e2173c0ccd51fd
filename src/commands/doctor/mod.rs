//! `doctor`: checks everything between a schedule in Databricks and a run in dbt, and reports what is broken.
//!
//! It only has a [`Reader`], so it cannot change anything.

mod context;
mod dbt_jobs;
mod hosts;
mod last_run;
mod notebooks;
mod report;
mod workflow_to_job;
mod workflows;

use self::context::{CheckContext, Dbt, Selection};
use self::hosts::{Host, databricks_identity, dbt_identity, host_checks};
use self::report::{Check, Examined, Section};
use super::shared::job_argument::{JobArgument, JobFilterFlags};
use super::shared::workflow_argument::WorkflowArgument;
use super::{CommandContext, connect_dbt, databricks_client};
use crate::credentials::{self, Account, Databricks, InputErrors};
use crate::failure::{Code, Ended, Failure, Report};
use crate::http::Reader;
use crate::origin::Origin;

/// Check the setup and report what is broken
///
/// Checks the connection to both services (DNS, proxy, TLS, clock), both credentials, and then the notebook, the key it
/// reads, the workflows that dbtrigger created, the access of their run-as identities, the dbt jobs they start, and the
/// last runs. What depends on a failed check is skipped. Changes nothing. Name a workflow that got a task from --add-to
/// with --workflow to check it. Exits with 0 if no check fails, otherwise with 1.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  dbtrigger doctor
  dbtrigger doctor --job 222222
  dbtrigger doctor --workflow 'dbt: Nightly build (222222)' -o json")]
pub(crate) struct Args {
    /// Check only this workflow (ID, URL, or exact name) and what it depends on [default: all that dbtrigger created]
    #[arg(long, value_name = "WORKFLOW", conflicts_with = "job")]
    workflow: Option<String>,
    /// Check only this dbt job (ID, URL, or name) and the workflows that start it
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
    #[command(flatten)]
    job_filter: JobFilterFlags,
}

pub(crate) async fn run(args: Args, ctx: &CommandContext) -> Ended<Box<dyn Report>> {
    match examine(args, ctx).await {
        Ok(examined) => {
            let failure = examined.failure();
            Ended { report: Some(Box::new(examined)), failure }
        }
        Err(failure) => failure.into(),
    }
}

async fn examine(args: Args, ctx: &CommandContext) -> Result<Examined, Failure> {
    let Args { workflow, job, job_filter } = args;
    let environment = &ctx.context.environment;
    let mut missing = InputErrors::default();
    let identity = credentials::databricks(environment, &ctx.vault, &mut missing);
    let job = job.as_deref().map(JobArgument::read).transpose()?;
    if !job_filter.is_empty() && !matches!(job, Some(JobArgument::Name(_))) {
        let what = "--project and --environment apply to a job given by name";
        return Err(Failure::new(Code::Usage, what).advise("drop them, or pass --job with a name"));
    }
    let own = identity.as_ref().map(|identity| &identity.origin);
    let workflow = match workflow {
        Some(text) => Some((WorkflowArgument::read(&text, own)?, text)),
        None => None,
    };
    let pasted = job.as_ref().map(JobArgument::pasted).unwrap_or_default();
    let databricks = missing
        .settled(identity)
        .and_then(|identity| databricks_client(&identity, ctx).map(|writer| (identity, writer.reader())));
    let dbt = connect_dbt(&pasted, InputErrors::default(), ctx).map(|(account, writer)| (account, writer.reader()));
    // The host can be probed without a credential.
    let host = credentials::databricks_host(environment);
    let account = credentials::account(&ctx.account, &pasted, environment, &mut InputErrors::default());
    let account_id = credentials::account_id(&ctx.account, &pasted, environment).ok().flatten();

    let dbt = dbt.map(|(account, reader)| {
        let what = format!("account {} at {}, with the token of {}", account.id, account.origin, reader.known_as());
        let origin = account.origin.clone();
        ((account, reader), what, origin)
    });
    let databricks = databricks.map(|(identity, reader)| {
        let what = format!("{}, with {} ({})", identity.origin, reader.known_as(), identity.auth_method.name());
        let origin = identity.origin.clone();
        ((identity, reader), what, origin)
    });
    let identify_dbt = async |(account, reader): (Account, Reader)| {
        let check = dbt_identity(&reader, &account).await;
        let line = (!check.has_failed()).then_some((account, reader));
        (check, line)
    };
    let identify_databricks = async |(identity, reader): (Databricks, Reader)| {
        let (check, me) = databricks_identity(&reader, &identity).await;
        (check, me.map(|me| (reader, me)))
    };
    let dbt_host = account.as_ref().map(|account| &account.origin);
    let (at_dbt, at_databricks) = tokio::try_join!(
        look_at(Section::Dbt, dbt, dbt_host, identify_dbt, ctx),
        look_at(Section::Databricks, databricks, host.as_ref(), identify_databricks, ctx),
    )?;
    let Side { mut checks, line: dbt } = at_dbt;
    checks.extend(at_databricks.checks);
    let dbt = Dbt { line: dbt, account: account_id, zone: ctx.context.zone.clone() };
    let selection = Selection { workflow, job, job_filter };
    checks.extend(CheckContext::follow(at_databricks.line, &dbt, &selection).await);
    Ok(Examined::new(checks, ctx.global_flags()))
}

/// Checks of one service, and its connection or the check that failed.
struct Side<T> {
    checks: Vec<Check>,
    line: Result<T, String>,
}

/// The first failed check that later ones depend on.
fn is_broken(checks: &[Check]) -> Option<String> {
    let mut broken = checks.iter().filter(|check| check.blocks_later_checks());
    broken.next().map(Check::as_reason)
}

/// Checks the credentials of a service, its host, and, if `identify` can be called, who they belong to. `given` comes
/// with a description and the host; `host` is known without a credential.
async fn look_at<G, T>(
    part: Section,
    given: Result<(G, String, Origin), Failure>,
    host: Option<&Origin>,
    identify: impl AsyncFnOnce(G) -> (Check, Option<T>),
    ctx: &CommandContext,
) -> Result<Side<T>, Failure> {
    let (check, given, own) = match given {
        Ok((given, what, own)) => (Check::ok(part, "credentials", what), Some(given), Some(own)),
        Err(failure) => (Check::failed(part, "credentials", failure), None, None),
    };
    let (mut checks, broken) = check_host(check, own.as_ref().or(host), ctx).await?;
    let (check, line) = match (broken, given) {
        (None, Some(given)) => {
            let (check, line) = identify(given).await;
            let failed = check.as_reason();
            (check, line.ok_or(failed))
        }
        (broken, _) => {
            let of = broken.unwrap_or_default();
            (Check::skipped(part, "identity", &of), Err(of))
        }
    };
    checks.push(check);
    Ok(Side { checks, line })
}

/// The check of the given values and those of the host, which needs no credential; and the check that failed, if any.
async fn check_host(
    given: Check,
    host: Option<&Origin>,
    ctx: &CommandContext,
) -> Result<(Vec<Check>, Option<String>), Failure> {
    let part = given.part();
    let mut checks = vec![given];
    if let Some(origin) = host {
        checks.extend(host_checks(Host { part, origin }, ctx).await?);
    } else {
        let of = is_broken(&checks).unwrap_or_default();
        checks.push(Check::skipped(part, "connection", &of));
    }
    let broken = is_broken(&checks);
    Ok((checks, broken))
}

#[cfg(test)]
mod tests;
