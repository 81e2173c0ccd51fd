//! `jobs`: lists dbt jobs with their IDs.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::shared::job_argument::{JobFilterFlags, Projects, environment, jobs, shown_name};
use super::shared::table::table;
use super::{CommandContext, connect_dbt};
use crate::credentials::{Account, InputErrors};
use crate::dbt::{Job, JobDisabled, Status};
use crate::document::{Data, Id, document};
use crate::failure::{Ended, Failure, Report};
use crate::line::Line;

/// List the jobs in your dbt account
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  dbtrigger jobs
  dbtrigger jobs --project 'Jaffle Shop' --environment Production -o json")]
pub(crate) struct Args {
    #[command(flatten)]
    job_filter: JobFilterFlags,
}

pub(crate) async fn run(args: Args, ctx: &CommandContext) -> Ended<Box<dyn Report>> {
    let Args { job_filter } = args;
    listed(&job_filter, ctx).await.map_or_else(Ended::from, |report| Ended::well(report).boxed())
}

async fn listed(job_filter: &JobFilterFlags, ctx: &CommandContext) -> Result<JobsReport, Failure> {
    let (account, reader) = connect_dbt(&[], InputErrors::default(), ctx)?;
    let projects = Projects::read(&reader, &account, job_filter).await?;
    if projects.unnamed {
        ctx.events.remark("this token cannot list projects; showing their IDs");
    }
    let jobs = jobs(&reader, &account, job_filter, &projects, None).await?;
    if jobs.is_empty() {
        ctx.events.remark(format!("no jobs in account {} are visible to this token", account.id));
    }
    Ok(JobsReport { account, projects, jobs, zone: ctx.context.zone.clone() })
}

struct JobsReport {
    account: Account,
    projects: Projects,
    jobs: Vec<Job>,
    zone: TimeZone,
}

/// Why a job cannot start, in short.
fn short(disabled: &JobDisabled) -> &'static str {
    match disabled {
        JobDisabled::Deleted => "deleted",
        JobDisabled::Hybrid => "hybrid: runs elsewhere",
        JobDisabled::Deactivated { .. } => "deactivated",
    }
}

/// A time in this zone for display.
pub(super) fn moment(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M %Z").to_string()
}

impl Report for JobsReport {
    fn text(&self) -> Vec<Line> {
        let row = |job: &Job| {
            let id = || job.project_id.map(|id| id.to_string()).unwrap_or_default();
            let last = job.most_recent_run.as_ref().map_or_else(String::new, |run| {
                let status = run.status.map(Status::word).unwrap_or_default();
                run.created().map_or_else(|| status.clone(), |at| format!("{status} {}", moment(at, &self.zone)))
            });
            vec![
                job.id.to_string(),
                shown_name(job.name.as_deref()),
                self.projects.name(job.project_id).map_or_else(id, |name| shown_name(Some(name))),
                environment(job),
                match job.disabled_reason() {
                    Some(disabled) => format!("{last} ({})", short(&disabled)).trim().to_owned(),
                    None => last,
                },
            ]
        };
        table(&["ID", "NAME", "PROJECT", "ENVIRONMENT", "LAST RUN"], self.jobs.iter().map(row))
    }

    fn json(&self) -> Data {
        let JobsReport { account, projects, jobs, zone: _ } = self;
        let origin = account.origin.to_string();
        let row = |job: &Job| {
            let last = job.most_recent_run.as_ref().map(|run| {
                document!({
                    "run_id": Id(run.id),
                    "run_url": run.url(&origin, account.id),
                    "status": run.status.map(Status::word),
                    "created_at": run.created().map(|at| at.to_string()),
                    "finished_at": run.finished().map(|at| at.to_string()),
                })
            });
            document!({
                "job_id": Id(job.id),
                "name": job.name,
                "project_id": job.project_id.map(Id),
                "project": projects.name(job.project_id),
                "environment_id": job.environment_id.map(Id),
                "environment": job.environment_name(),
                "job_type": job.job_type,
                "has_schedule": job.has_schedule(),
                "deactivated": matches!(job.disabled_reason(), Some(JobDisabled::Deactivated { .. } | JobDisabled::Deleted)),
                "cannot_start": job.disabled_reason().map(|disabled| disabled.why()),
                "last_run": last,
            })
        };
        document!({ "account_id": Id(account.id), "jobs": jobs.iter().map(row).collect::<Vec<_>>() })
    }
}
