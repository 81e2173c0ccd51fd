//! `runs`: lists recent dbt runs, orphaned dbt runs, or runs of a workflow.

mod of_workflow;
mod orphans;

pub(crate) use of_workflow::Span;

use jiff::tz::TimeZone;

use super::jobs::moment;
use super::shared::job_argument::{JobArgument, JobFilterFlags, shown_name};
use super::shared::table::table;
use super::{CommandContext, connect_dbt};
use crate::credentials::{Account, InputErrors};
use crate::dbt::{PAGE, Run, RunFilter, Status, all_pages, list_account_runs};
use crate::document::{Data, Id, document};
use crate::durations::shown;
use crate::failure::{Ended, Failure, Report, of_dbt};
use crate::line::Line;

/// List recent runs, newest first
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  dbtrigger runs
  dbtrigger runs --orphans
  dbtrigger runs --workflow 'dbt: Nightly build (222222)' --limit 5
  dbtrigger runs --job 'Nightly build' --status error --limit 5 -o json")]
pub(crate) struct Args {
    /// Only runs of this dbt job (ID, URL, or name)
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
    /// Only runs with this status; repeatable
    #[arg(long, value_enum, value_name = "STATUS")]
    status: Vec<Wanted>,
    /// Maximum number of runs
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    limit: u64,
    /// List dbt runs that are still active although the Databricks run that started them has ended
    #[arg(long, conflicts_with_all = ["job", "status", "limit", "project", "environment"])]
    orphans: bool,
    /// List runs of this Databricks job (ID, URL, or exact name) instead
    #[arg(long, value_name = "WORKFLOW", conflicts_with_all = ["job", "status", "orphans", "project", "environment"])]
    workflow: Option<String>,
    #[command(flatten)]
    job_filter: JobPlace,
}

/// Project and environment of a job given by name.
#[derive(Clone, Debug, clap::Args)]
struct JobPlace {
    /// Only jobs in this dbt project (name or ID)
    #[arg(long, value_name = "PROJECT", requires = "job")]
    project: Option<String>,
    /// Only jobs in this dbt environment (name or ID)
    #[arg(long, value_name = "ENVIRONMENT", requires = "job")]
    environment: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Wanted {
    Queued,
    Starting,
    Running,
    Success,
    Error,
    Cancelled,
}

impl Wanted {
    fn status(self) -> Status {
        match self {
            Wanted::Queued => Status::Queued,
            Wanted::Starting => Status::Starting,
            Wanted::Running => Status::Running,
            Wanted::Success => Status::Success,
            Wanted::Error => Status::Error,
            Wanted::Cancelled => Status::Cancelled,
        }
    }
}

pub(crate) async fn run(args: Args, ctx: &CommandContext) -> Ended<Box<dyn Report>> {
    let listed = match &args.workflow {
        Some(workflow) => of_workflow::listed(workflow, args.limit, ctx).await,
        None if args.orphans => orphans::listed(ctx).await,
        None => listed(args, ctx).await,
    };
    listed.map_or_else(Ended::from, Ended::well)
}

async fn listed(args: Args, ctx: &CommandContext) -> Result<Box<dyn Report>, Failure> {
    let Args { job, status, limit, job_filter: JobPlace { project, environment }, .. } = args;
    let mut errors = InputErrors::default();
    let named = errors.optional(job.as_deref().map(JobArgument::read).transpose());
    let pasted = named.as_ref().map(JobArgument::pasted).unwrap_or_default();
    let (account, reader) = connect_dbt(&pasted, errors, ctx)?;
    let job_filter = JobFilterFlags { project, environment };
    let job = match &named {
        Some(named) => Some(named.find(&reader, &account, &job_filter).await?),
        None => None,
    };
    let statuses: Vec<Status> = status.into_iter().map(Wanted::status).collect();
    let filter = RunFilter { job, statuses };
    // Filter here too, in case the service ignores a parameter.
    let fits = |run: &Run| {
        let RunFilter { job, statuses } = &filter;
        let is_job = job.is_none_or(|job| run.job_definition_id.is_none_or(|of| of == job));
        is_job && (statuses.is_empty() || run.status.is_some_and(|status| statuses.contains(&status)))
    };
    let enough = usize::try_from(limit).unwrap_or(usize::MAX);
    let list = |offset| list_account_runs(account.id, &filter, offset, PAGE);
    let mut runs = all_pages(&reader, "runs/list", (|run: &Run| run.id, fits), enough, list)
        .await
        .map_err(|error| of_dbt("cannot list the runs of the account", &error))?;
    runs.sort_by_key(|run| std::cmp::Reverse(run.id));
    if runs.is_empty() {
        ctx.events.remark(match (filter.statuses.is_empty(), filter.job) {
            (false, _) => "no matching runs".to_owned(),
            (true, Some(job)) => format!("no runs yet of dbt job {job}"),
            (true, None) => format!("no runs yet in account {}", account.id),
        });
    }
    Ok(Box::new(RunsReport { account, runs, zone: ctx.context.zone.clone() }))
}

/// A name with its id, as far as both are known.
fn with_name(name: Option<&str>, id: Option<u64>) -> String {
    match (name.filter(|name| !name.is_empty()), id) {
        (Some(name), Some(id)) => format!("{} ({id})", shown_name(Some(name))),
        (Some(name), None) => shown_name(Some(name)),
        (None, id) => id.map(|id| id.to_string()).unwrap_or_default(),
    }
}

/// The first fields of a dbt run in a document.
fn dbt_run_fields(run: &Run, account: &Account) -> Data {
    document!({
        "run_id": Id(run.id),
        "run_url": run.url(&account.origin.to_string(), account.id),
        "status": run.status.map(Status::word),
        "job_id": run.job_definition_id.map(Id),
        "job": run.job_name(),
    })
}

struct RunsReport {
    account: Account,
    runs: Vec<Run>,
    zone: TimeZone,
}

impl Report for RunsReport {
    fn text(&self) -> Vec<Line> {
        let row = |run: &Run| {
            vec![
                run.id.to_string(),
                run.status.map(Status::word).unwrap_or_default(),
                with_name(run.job_name(), run.job_definition_id),
                run.created().map(|at| moment(at, &self.zone)).unwrap_or_default(),
                run.took().map(shown).unwrap_or_default(),
            ]
        };
        table(&["ID", "STATUS", "JOB", "CREATED", "TOOK"], self.runs.iter().map(row))
    }

    fn json(&self) -> Data {
        let RunsReport { account, runs, zone: _ } = self;
        let row = |run: &Run| {
            let cause = run.trigger.as_ref().map(|trigger| crate::runs::plain(&trigger.cause, 400));
            let mut row = dbt_run_fields(run, account);
            row.extend(&document!({
                "cause": cause,
                "retrying_run_id": run.retrying_run_id.map(Id),
                "created_at": run.created().map(|at| at.to_string()),
                "started_at": run.started().map(|at| at.to_string()),
                "finished_at": run.finished().map(|at| at.to_string()),
                "duration_seconds": run.took(),
            }));
            row
        };
        document!({ "account_id": Id(account.id), "runs": runs.iter().map(row).collect::<Vec<_>>() })
    }
}
