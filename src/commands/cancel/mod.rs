//! `cancel`: cancels a dbt run, or a Databricks run together with the dbt run it started.

mod report;

use std::time::Duration;

use tokio::time::sleep;

use self::report::CanceledRun;
pub(super) use self::report::{CancelOutcome, CancelReport};
use super::shared::interrupt_report::Checkpoint;
use super::shared::printed_commands;
use super::shared::run_argument::{RunFound, find_run, is_dbt_run, of_other_service};
use super::{CommandContext, connect_dbt};
use crate::credentials::{Account, InputErrors};
use crate::databricks::{RunState, WorkflowEnd, cancel_workflow_run, get_workflow_run, is_missing};
use crate::dbt::{End, Run, cancel_run, get_run, get_run_with_trigger};
use crate::durations;
use crate::events::RunEvent;
use crate::failure::{Code, Ended, Failure, Report, of_databricks, of_dbt, of_gone};
use crate::http::{Deadline, HttpError, Meaning, Writer};
use crate::origin::Origin;
use crate::runs::{DbtRun, Followed, WorkflowProbe, active_child_runs, canceled_child_runs, follow};

/// Pause before the second lookup: a dbt run that has just started may not be in lists yet.
const SETTLE: Duration = Duration::from_secs(5);

/// Cancel a run
///
/// Waits until the service confirms. Canceling a Databricks run also cancels the dbt run that it started. A run that has already
/// ended is not an error.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  dbtrigger cancel 123442
  dbtrigger cancel 123442 --timeout 10m -o json")]
pub(crate) struct Args {
    /// ID or URL of a run in dbt or Databricks [default: choose from a list]
    #[arg(value_name = "RUN", conflicts_with = "workflow_run")]
    run: Option<String>,
    /// ID of a Databricks run; skips the dbt lookup
    #[arg(long, value_name = "ID", hide_short_help = true, value_parser = crate::document::parse_id)]
    workflow_run: Option<u64>,
    /// How long to wait for the run to end (90s, 10m, 2h)
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = durations::parse)]
    timeout: Duration,
}

pub(crate) async fn run(args: Args, ctx: &CommandContext) -> Ended<Box<dyn Report>> {
    let Args { run, workflow_run, timeout } = args;
    let deadline = Deadline::of_timeout(timeout);
    let mut report = CancelReport::default();
    let failure = match Box::pin(find_run(run.as_deref(), workflow_run, true, &deadline, ctx)).await {
        Ok(RunFound::Dbt { run, seen, account, writer, by_address }) => {
            let retry_command = printed_commands::on_dbt_run("cancel", run, &account, &ctx.account, by_address);
            let client = DbtClient { account: &account, writer: &writer, retry_command: &retry_command };
            cancel_dbt(run, seen, &client, &deadline, &mut report, ctx).await.err()
        }
        Ok(RunFound::Workflow { run, identity, writer }) => {
            cancel_workflow(run, &identity.origin, &writer, &deadline, &mut report, ctx).await.err()
        }
        Err(failure) => Some(failure),
    };
    if failure.is_none() {
        ctx.interrupt_report.clear();
    }
    let known = report.workflow.is_some() || report.dbt.as_ref().is_some_and(|canceled| !canceled.is_empty());
    Ended { report: known.then(|| Box::new(report) as Box<dyn Report>), failure }
}

async fn cancel_dbt(
    run: u64,
    seen: Option<Box<Run>>,
    client: &DbtClient<'_>,
    deadline: &Deadline,
    report: &mut CancelReport,
    ctx: &CommandContext,
) -> Result<(), Failure> {
    let seen = match seen {
        Some(seen) => *seen,
        None => client
            .writer
            .read(get_run_with_trigger(client.account.id, run))
            .await
            .map_err(|error| of_dbt(&format!("cannot read dbt run {run}"), &error).state("nothing was canceled"))?,
    };
    if seen.id != run {
        return Err(Failure::new(Code::UnexpectedResponse, format!("dbt answered with a different run than {run}"))
            .advise("run the same command again with `-vv` to see the response"));
    }
    match request_dbt_cancellation(seen, client, report, ctx).await? {
        Some(pending) => await_dbt_cancellation(pending, client, deadline, report, ctx).await,
        None => Ok(()),
    }
}

/// Account and client for canceling dbt runs, and the command that tries again.
struct DbtClient<'a> {
    account: &'a Account,
    writer: &'a Writer,
    retry_command: &'a str,
}

/// A dbt run whose cancellation was requested, and its index in the report.
struct PendingCancellation {
    run: Run,
    index: usize,
}

fn dbt_row(run: &Run, account: &Account, had_ended: bool) -> CanceledRun {
    CanceledRun {
        run: run.id,
        url: run.url(&account.origin.to_string(), account.id),
        status: run.status.map(crate::dbt::Status::word).unwrap_or_default(),
        had_ended,
        outcome: match run.ended() {
            Some(End::Cancelled) => CancelOutcome::Cancelled,
            Some(End::Success | End::Error) => CancelOutcome::Ended,
            None => CancelOutcome::StillRunning,
        },
    }
}

/// Why a run was not canceled.
pub(super) enum NotCancelled {
    /// It no longer exists.
    Gone(HttpError),
    Failed(HttpError),
}

/// Asks dbt to cancel the run. Returns its state after that.
pub(super) async fn request_cancellation(writer: &Writer, account: u64, seen: Run) -> Result<Run, NotCancelled> {
    let run = seen.id;
    match writer.put(cancel_run(account, run)).await {
        Ok(now) if now.id == run => Ok(now),
        Ok(_) => Ok(seen),
        // dbt refuses to cancel a run that has ended, so read its status.
        Err(error) => match writer.read(get_run(account, run)).await {
            Ok(now) if now.id == run && now.ended().is_some() => Ok(now),
            Err(now) if now.means() == Meaning::NotFound => Err(NotCancelled::Gone(now)),
            Ok(_) | Err(_) => Err(NotCancelled::Failed(error)),
        },
    }
}

/// Requests cancellation. Returns `None` if the run has ended.
async fn request_dbt_cancellation(
    seen: Run,
    client: &DbtClient<'_>,
    report: &mut CancelReport,
    ctx: &CommandContext,
) -> Result<Option<PendingCancellation>, Failure> {
    let DbtClient { account, writer, retry_command } = *client;
    let run = seen.id;
    let had_ended = seen.ended().is_some();
    let rows = report.dbt.get_or_insert_default();
    rows.push(dbt_row(&seen, account, had_ended));
    let index = rows.len() - 1;
    if had_ended {
        return Ok(None);
    }
    ctx.interrupt_report.set(Checkpoint {
        known: report.known().into(),
        line: format!("canceling dbt run {run}: {}", seen.url(&account.origin.to_string(), account.id)),
        resume: retry_command.to_owned(),
    });
    let latest = match request_cancellation(writer, account.id, seen).await {
        Ok(latest) => latest,
        Err(NotCancelled::Gone(error)) => return Err(record_gone(run, &error, index, report)),
        Err(NotCancelled::Failed(error)) => {
            return Err(of_dbt(&format!("cannot cancel dbt run {run}"), &error)
                .state("it may still be running")
                .run("try again", retry_command));
        }
    };
    report.dbt.get_or_insert_default()[index] = dbt_row(&latest, account, false);
    Ok(latest.ended().is_none().then_some(PendingCancellation { run: latest, index }))
}

/// Records that a dbt run no longer exists.
fn record_gone(run: u64, error: &HttpError, index: usize, report: &mut CancelReport) -> Failure {
    report.dbt.get_or_insert_default()[index].outcome = CancelOutcome::Gone;
    of_gone(&format!("dbt run {run}"), error).run("list recent runs", "dbtrigger runs")
}

/// Waits until a run whose cancellation was requested has ended.
async fn await_dbt_cancellation(
    pending: PendingCancellation,
    client: &DbtClient<'_>,
    deadline: &Deadline,
    report: &mut CancelReport,
    ctx: &CommandContext,
) -> Result<(), Failure> {
    let DbtClient { account, writer, retry_command } = *client;
    let PendingCancellation { run: latest, index } = pending;
    let run = latest.id;
    let run_ctx = ctx.run_context();
    let mut probe = DbtRun::new(writer, &run_ctx, account.id, latest, None);
    let followed = follow(&mut probe, deadline.clone(), &run_ctx, |_| {}).await;
    report.dbt.get_or_insert_default()[index] = dbt_row(probe.run(), account, false);
    match followed {
        Followed::Ended(_) => Ok(()),
        Followed::OutOfTime(_) => Err(Failure::new(
            Code::StillRunning,
            format!("requested cancellation of dbt run {run}, but it had not ended after {}", deadline.limit()),
        )
        .run("try again", retry_command)),
        Followed::Gone(_, error) => Err(record_gone(run, &error, index, report)),
        Followed::Blind(_, error) => {
            Err(of_dbt(&format!("requested cancellation of dbt run {run}, but cannot read its status"), &error)
                .run("try again", retry_command))
        }
    }
}

/// Cancels a Databricks run and the dbt runs it started.
pub(super) async fn cancel_workflow(
    run: u64,
    origin: &Origin,
    writer: &Writer,
    deadline: &Deadline,
    report: &mut CancelReport,
    ctx: &CommandContext,
) -> Result<(), Failure> {
    let retry_command = format!("dbtrigger cancel --workflow-run {run}");
    let seen = match writer.read(get_workflow_run(run, None)).await {
        Ok(seen) => seen,
        Err(error) => {
            let failure =
                of_databricks(&format!("cannot read Databricks run {run}"), &error).state("nothing was canceled");
            let is_dbts = is_missing(&error) && is_dbt_run(run, deadline, ctx).await;
            return Err(if is_dbts { of_other_service(failure, "cancel", run) } else { failure });
        }
    };
    let workspace = seen.workspace();
    let url = seen.url(&origin.to_string(), seen.job_id.unwrap_or_default());
    let canceled = |state: Option<&RunState>, had_ended: bool| CanceledRun {
        run,
        url: url.clone(),
        status: state.map(|state| state.word().to_owned()).unwrap_or_default(),
        had_ended,
        outcome: match state {
            Some(RunState::Ended(WorkflowEnd::Cancelled(_))) => CancelOutcome::Cancelled,
            Some(RunState::Ended(_)) => CancelOutcome::Ended,
            Some(RunState::Active(_)) | None => CancelOutcome::StillRunning,
        },
    };
    let state = seen.state();
    let had_ended = matches!(state, Some(RunState::Ended(_)));
    report.workflow = Some(canceled(state.as_ref(), had_ended));
    let mut gone = None;
    // Databricks first: otherwise its notebook would see a canceled dbt run, or start another one.
    if !had_ended {
        ctx.interrupt_report.set(Checkpoint {
            known: report.known().into(),
            line: format!("canceling Databricks run {run}: {url}"),
            resume: retry_command.clone(),
        });
        // The refusal may mean that the run has just ended, so read its status.
        if let Err(error) = writer.put(cancel_workflow_run(run)).await {
            match writer.read(get_workflow_run(run, None)).await {
                Err(now) if now.means() == Meaning::NotFound => gone = Some(now),
                Ok(now) if matches!(now.state(), Some(RunState::Ended(_))) => {}
                Ok(_) | Err(_) => {
                    return Err(of_databricks(&format!("cannot cancel Databricks run {run}"), &error)
                        .state("it may still be running")
                        .run("try again", retry_command));
                }
            }
        }
    }
    if !had_ended && gone.is_none() {
        let mut probe = WorkflowProbe::new(writer, run);
        let followed = follow(&mut probe, deadline.clone(), &ctx.run_context(), |_| {}).await;
        let requested = format!("requested cancellation of Databricks run {run}, but");
        let (state, failure) = match followed {
            Followed::Ended(state) => (Some(state), None),
            Followed::OutOfTime(state) => {
                let what = format!("{requested} it had not ended after {}", deadline.limit());
                (state, Some(Failure::new(Code::StillRunning, what)))
            }
            Followed::Gone(state, error) => {
                gone = Some(error);
                (state, None)
            }
            Followed::Blind(state, error) => {
                (state, Some(of_databricks(&format!("{requested} cannot read its status"), &error)))
            }
        };
        report.workflow = Some(canceled(state.as_ref().map(|state| &state.state), false));
        if let Some(failure) = failure {
            return Err(failure.cause("its dbt run was not looked up yet").run("try again", retry_command));
        }
    }
    // The dbt runs go on even if their Databricks run is deleted.
    let gone = gone.map(|error| {
        report.workflow = Some(CanceledRun { outcome: CancelOutcome::Gone, ..canceled(state.as_ref(), false) });
        of_gone(&format!("Databricks run {run}"), &error)
    });
    let parent = ParentRun { workflow_run: run, workspace, just_active: !had_ended, databricks: writer };
    let cancelled = cancel_child_runs(&parent, deadline, &retry_command, report, ctx).await;
    match (gone, cancelled) {
        (None, cancelled) => cancelled,
        (Some(gone), Ok(())) => Err(gone),
        (Some(gone), Err(failure)) => Err(failure.cause(gone.what)),
    }
}

/// The Databricks run whose dbt runs are canceled.
struct ParentRun<'a> {
    workflow_run: u64,
    workspace: Option<String>,
    /// The run was active until now, so its notebooks may just have started a dbt run.
    just_active: bool,
    databricks: &'a Writer,
}

/// Returns the URLs of the dbt runs that the run's tasks report.
async fn dbt_urls_of_tasks(parent: &ParentRun<'_>, deadline: &Deadline, ctx: &CommandContext) -> Vec<String> {
    let mut probe = WorkflowProbe::new(parent.databricks, parent.workflow_run);
    match follow(&mut probe, deadline.clone(), &ctx.run_context(), |_| {}).await {
        Followed::Ended(state) => {
            let output = state.tasks.into_iter().filter_map(|task| task.output);
            output.filter_map(|output| output.dbt_run_url).collect()
        }
        Followed::OutOfTime(_) | Followed::Gone(..) | Followed::Blind(..) => Vec::new(),
    }
}

/// Cancels the dbt runs that the run's notebooks started in any task, attempt or repair and did not cancel themselves.
async fn cancel_child_runs(
    parent: &ParentRun<'_>,
    deadline: &Deadline,
    retry_command: &str,
    report: &mut CancelReport,
    ctx: &CommandContext,
) -> Result<(), Failure> {
    let (account, writer) = match connect_dbt(&[], InputErrors::default(), ctx) {
        Ok((account, writer)) => (account, writer.until(deadline)),
        // The Databricks run can be canceled without access to dbt; the notebook tries to cancel its dbt run.
        Err(failure) => {
            let error = [&[failure.what][..], &failure.causes].concat().join("; ");
            ctx.events.run(RunEvent::ChildRunsUnknown { error, command: retry_command.to_owned() });
            for url in dbt_urls_of_tasks(parent, deadline, ctx).await {
                ctx.events.run(RunEvent::ChildRunMayBeActive { url });
            }
            return Ok(());
        }
    };
    report.dbt = Some(Vec::new());
    let ParentRun { workflow_run, ref workspace, just_active, databricks: _ } = *parent;
    let list_child_runs = async || {
        let looking = active_child_runs(&writer, account.id, workflow_run, workspace.as_deref(), &ctx.events);
        looking.await.map_err(|error| {
            of_dbt(&format!("cannot look up the dbt run of Databricks run {workflow_run}"), &error)
                .state("it may still be running")
                .run("try again", retry_command)
        })
    };
    let client = DbtClient { account: &account, writer: &writer, retry_command };
    let (mut known, mut pending, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for last in [!just_active, true] {
        // Request all cancellations before waiting for any; one failure does not stop the others.
        let found = match list_child_runs().await {
            Ok(found) => found,
            // Still wait for the runs already requested.
            Err(failure) => {
                failures.push(failure);
                break;
            }
        };
        for run in found {
            if known.contains(&run.id) {
                continue;
            }
            known.push(run.id);
            match request_dbt_cancellation(run, &client, report, ctx).await {
                Ok(active) => pending.extend(active),
                Err(failure) => failures.push(failure),
            }
        }
        if last {
            break;
        }
        sleep(SETTLE.min(deadline.left())).await;
    }
    if just_active && failures.is_empty() {
        match canceled_child_runs(&writer, account.id, workflow_run, workspace.as_deref()).await {
            Ok(cancelled) => {
                let others = cancelled.iter().filter(|run| !known.contains(&run.id));
                let rows = others.map(|run| dbt_row(run, &account, true));
                report.dbt.get_or_insert_default().extend(rows);
            }
            Err(error) => ctx.events.run(RunEvent::CanceledChildRunsUnknown { error: error.to_string() }),
        }
    }
    for run in pending {
        failures.extend(await_dbt_cancellation(run, &client, deadline, report, ctx).await.err());
    }
    let mut failures = failures.into_iter();
    match failures.next() {
        Some(first) => Err(failures.fold(first, |first, other| first.cause(other.what))),
        None => Ok(()),
    }
}
