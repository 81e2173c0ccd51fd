//! `watch`: follows an existing run, from any machine.

use std::collections::BTreeMap;
use std::time::Duration;

use super::CommandContext;
use super::run::{DbtFollower, DbtReport, DbtRunEvents, LONGEST, WorkflowReport, follow_run, read_run};
use super::shared::interrupt_report::Checkpoint;
use super::shared::printed_commands;
use super::shared::run_argument::{RunFound, find_run, is_dbt_run, of_other_service};
use crate::credentials::Account;
use crate::databricks::{get_workflow_run, is_missing};
use crate::dbt::{Overrides, Run};
use crate::durations;
use crate::events::{RunEvent, RunId};
use crate::failure::{Code, Ended, Failure, Known, Report, of_databricks};
use crate::http::{Deadline, Writer};
use crate::origin::Origin;
use crate::runs::{DbtRun, Journal};

/// Follow a run until it ends
///
/// Works for any run, no matter who started it and where. Prints what `run` prints and exits with the run's outcome:
/// 0 success, 3 error, 20 canceled, 8 timed out (the run is still active).
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  dbtrigger watch 123442
  dbtrigger watch 123442 --timeout 2h -o json")]
pub(crate) struct Args {
    /// ID or URL of a run in dbt or Databricks [default: choose from a list]
    #[arg(value_name = "RUN", conflicts_with = "workflow_run")]
    run: Option<String>,
    /// ID of a Databricks run; skips the dbt lookup
    #[arg(long, value_name = "ID", hide_short_help = true, value_parser = crate::document::parse_id)]
    workflow_run: Option<u64>,
    /// How long to wait, including time in the queue (90s, 10m, 2h)
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = durations::parse)]
    timeout: Duration,
}

pub(crate) async fn run(args: Args, ctx: &CommandContext) -> Ended<Box<dyn Report>> {
    let Args { run, workflow_run, timeout } = args;
    let deadline = Deadline::of_timeout(timeout.min(LONGEST * 3650));
    let watched = match Box::pin(find_run(run.as_deref(), workflow_run, false, &deadline, ctx)).await {
        Ok(RunFound::Dbt { run, seen, account, writer, by_address }) => {
            let seen = match seen {
                Some(seen) => Ok(*seen),
                None => Box::pin(read_run(&writer, &account, run, deadline.at(), &ctx.context.wall)).await,
            };
            match seen {
                Ok(seen) => Ok(watch_dbt(seen, &account, &writer, by_address, &deadline, ctx).await),
                Err(failure) => Err(failure),
            }
        }
        Ok(RunFound::Workflow { run, identity, writer }) => {
            watch_workflow(run, &identity.origin, &writer, &deadline, ctx).await
        }
        Err(failure) => Err(failure),
    };
    watched.unwrap_or_else(Ended::from)
}

async fn watch_dbt(
    seen: Run,
    account: &Account,
    writer: &Writer,
    by_address: bool,
    deadline: &Deadline,
    ctx: &CommandContext,
) -> Ended<Box<dyn Report>> {
    let run = seen.id;
    let watch_command = |run: u64| printed_commands::on_dbt_run("watch", run, account, &ctx.account, by_address);
    let run_ctx = ctx.run_context();
    let mut report = DbtReport::new(account);
    report.adopted = true;
    report.take(&seen);
    let known = report.clone();
    let on_news = |run: &Run| {
        let mut report = known.clone();
        report.take(run);
        let line = format!("dbt run {} is still running: {}", run.id, report.url());
        ctx.interrupt_report.set(Checkpoint { known: Known::of(&report), line, resume: watch_command(run.id) });
    };
    on_news(&seen);
    // Suggest no restart command unless all overrides are known: it would start something else.
    let overrides = seen.trigger.as_ref().and_then(Overrides::of);
    let start_over = seen
        .job_definition_id
        .zip(overrides)
        .map(|(job, overrides)| printed_commands::run_dbt_job(&job.to_string(), &ctx.account, &overrides, None))
        .filter(|_| !by_address);
    let mut changes = DbtRunEvents::new(&run_ctx.events, account);
    changes.found(&seen);
    let probe = DbtRun::new(writer, &run_ctx, account.id, seen, None);
    let follower =
        DbtFollower { account, writer, deadline, watch_command: &watch_command, start_over: start_over.as_deref() };
    let Ended { report, failure } = follower.follow(probe, &mut changes, report, &run_ctx, &on_news).await;
    let is_gone = failure.as_ref().is_some_and(|failure| failure.code == Code::RunGone);
    if is_gone || report.as_ref().is_some_and(|report| report.end.is_some()) {
        let journal = Journal::new(ctx.context.environment.state_folder());
        journal.close_run(writer.origin(), account.id, run, run_ctx.wall.now());
        ctx.interrupt_report.clear();
    }
    Ended { report, failure }.boxed()
}

async fn watch_workflow(
    run: u64,
    origin: &Origin,
    writer: &Writer,
    deadline: &Deadline,
    ctx: &CommandContext,
) -> Result<Ended<Box<dyn Report>>, Failure> {
    let origin = origin.to_string();
    let (job, name, url, parameters) = match writer.read(get_workflow_run(run, None)).await {
        Ok(seen) => {
            let job = seen.job_id.unwrap_or_default();
            let url = seen.url(&origin, job);
            let parameters = seen.given_parameters();
            (job, seen.run_name.unwrap_or_default(), Some(url), parameters)
        }
        Err(error) => {
            // The follower retries temporary errors.
            if error.is_final() {
                let failure = of_databricks(&format!("cannot read Databricks run {run}"), &error);
                let is_dbts = is_missing(&error) && is_dbt_run(run, deadline, ctx).await;
                return Err(if is_dbts { of_other_service(failure, "watch", run) } else { failure });
            }
            (0, String::new(), None, BTreeMap::new())
        }
    };
    let report = WorkflowReport { workflow: job, name, origin, run: Some(run), url, ..WorkflowReport::default() };
    ctx.events.run(RunEvent::Found { run: RunId::Databricks(run), url: report.url.clone() });
    let start_over = (job != 0).then(|| printed_commands::run_workflow(&job.to_string(), &parameters, None));
    Ok(follow_run(report, run, writer, deadline, start_over.as_deref(), ctx).await)
}
