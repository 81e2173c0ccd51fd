//! `remove`: deletes what dbtrigger created.

mod removal_plan;

use self::removal_plan::{RemovalPlan, Selection, plan_removal};
use super::cancel::{CancelReport, cancel_workflow};
use super::shared::job_argument::{JobArgument, JobFilterFlags};
use super::shared::provision::{ConfirmationFlags, Provision, ask_to_apply, who};
use super::shared::workflow_argument::WorkflowArgument;
use super::{CommandContext, connect_dbt, databricks_client};
use crate::credentials::{Databricks, InputErrors, databricks};
use crate::databricks::secrets::{KeyName, ScopeName};
use crate::databricks::workspace::NotebookPath;
use crate::document::Id;
use crate::engine::{Consent, Consents, Inputs, blocked};
use crate::failure::{Code, Ended, Failure, Report};
use crate::http::{Deadline, Writer};
use crate::line::Line;

/// How long to wait for a canceled run to end.
const CANCELLED_WITHIN: std::time::Duration = std::time::Duration::from_mins(5);

/// Remove what dbtrigger created
///
/// Removes workflows, tasks added to other workflows, the notebook, and, with --with-secret, the dbt API key. Only what
/// carries the mark of dbtrigger and is unedited is removed. The rest stays, and the plan shows why. If interrupted,
/// run it again to continue.
#[derive(Clone, Debug, clap::Args)]
#[command(
    group(clap::ArgGroup::new("what").required(true).multiple(true).args(["workflow", "job", "all"])),
    after_help = "Examples:
  dbtrigger remove --workflow 'dbt: Nightly build (222222)' --dry-run
  dbtrigger remove --job 222223 --cancel-runs -y
  dbtrigger remove --all --with-secret -y"
)]
pub(crate) struct Args {
    #[command(flatten)]
    confirmation: ConfirmationFlags,
    /// Cancel active runs of the workflows first, and the dbt runs they started
    #[arg(long)]
    cancel_runs: bool,
    /// Databricks job: ID, URL, or name; repeatable
    ///
    /// If dbtrigger did not create the workflow, only the tasks that it added are removed.
    #[arg(long, value_name = "WORKFLOW", help_heading = "What to remove")]
    workflow: Vec<String>,
    /// Workflows and tasks that start this dbt job: ID, URL, or name; repeatable
    #[arg(long, value_name = "JOB", help_heading = "What to remove")]
    job: Vec<String>,
    #[command(flatten, next_help_heading = "What to remove")]
    job_filter: JobFilterFlags,
    /// All workflows, added tasks, and notebooks of dbtrigger in the workspace
    #[arg(long, conflicts_with_all = ["workflow", "job"], help_heading = "What to remove")]
    all: bool,
    /// With --all: the dbt API key too
    ///
    /// The scope is removed too if it is then empty and no one else has access.
    #[arg(long, requires = "all", help_heading = "What to remove")]
    with_secret: bool,
    /// A notebook outside its usual folder
    #[arg(
        long = "notebook",
        alias = "path",
        value_name = "PATH",
        requires = "all",
        help_heading = "What to remove",
        hide_short_help = true,
        help = "With --all: a notebook that no workflow runs and that is not in /Users/<you>/dbtrigger"
    )]
    path: Option<NotebookPath>,
    /// Secret scope of the dbt API key [default: the notebook's, or dbt-cloud]
    #[arg(long, value_name = "SCOPE", requires = "all", help_heading = "What to remove", hide_short_help = true)]
    scope: Option<ScopeName>,
    /// Key in the scope [default: the notebook's, or api-key]
    #[arg(long, value_name = "KEY", requires = "all", help_heading = "What to remove", hide_short_help = true)]
    key: Option<KeyName>,
}

pub(crate) async fn run(args: Args, ctx: &CommandContext) -> Ended<Box<dyn Report>> {
    Box::pin(remove(args, ctx)).await.unwrap_or_else(Ended::from)
}

async fn remove(args: Args, ctx: &CommandContext) -> Result<Ended<Box<dyn Report>>, Failure> {
    let (cancel_runs, ConfirmationFlags { yes, dry_run }) = (args.cancel_runs, args.confirmation);
    let (identity, selection) = settle(args, ctx).await?;
    let writer = databricks_client(&identity, ctx)?;
    writer.preconnect(4, false);
    let me = who(&writer).await?;
    let consents = Consents::default().with(Consent::CancelRuns, cancel_runs);
    let mut found = plan_removal(&selection, &writer, &me, &consents).await?;
    let refused = blocked(&found.plan).is_some();
    let goes_on = !dry_run && !refused && found.plan.writes();
    let prompter = ctx.prompts.prompter.clone().filter(|_| goes_on && !yes);
    if let Some(prompter) = &prompter {
        let value = format!("{} (as {})", writer.origin(), me.user_name);
        let above = [Line::Setting { label: "Workspace", value }];
        let (lines, asked) = ((&above[..], found.lines()), ("yN", "nothing was removed"));
        let access = (writer.origin(), &me);
        if let Err(ended) = ask_to_apply(&found.plan, lines, access, asked, &**prompter, ctx).await {
            return Ok(ended);
        }
    }
    let cancelled = if goes_on { cancel(&found, &identity, &writer, ctx).await? } else { Vec::new() };
    if prompter.is_some() || !cancelled.is_empty() {
        // The plan may be stale: observe again. Runs started since are not covered by the consent.
        let again = plan_removal(&selection, &writer, &me, &Consents::default()).await?;
        if prompter.is_some() && blocked(&again.plan).is_none() && again.plan.entries() != found.plan.entries() {
            let what = "the workspace changed while the plan was shown; nothing was removed";
            return Err(
                Failure::new(Code::ChangedMeanwhile, what).advise("run the same command again to see the new plan")
            );
        }
        found = RemovalPlan { running: found.running, ..again };
    }
    let lines = found.lines();
    let RemovalPlan { plan, running: _, warnings } = found;
    for warning in &warnings {
        ctx.events.warning(warning.as_str());
    }
    let provision = Provision { ctx, writer: &writer, me: &me, dry_run, inputs: Inputs::default() };
    let mut applied = provision.apply(plan).await;
    if dry_run && !refused {
        for line in lines {
            applied.line(line);
        }
    }
    applied.field("cancelled_runs", cancelled.into_iter().map(Id).collect::<Vec<_>>());
    applied.field("warnings", warnings);
    Ok(applied.end())
}

/// Resolves flags and variables; reports everything missing at once.
async fn settle(args: Args, ctx: &CommandContext) -> Result<(Databricks, Selection), Failure> {
    let Args { workflow, job, job_filter, all, with_secret, path, scope, key, cancel_runs: _, confirmation } = args;
    let mut errors = InputErrors::default();
    let jobs = job.iter().map(|text| JobArgument::read(text)).collect::<Result<Vec<_>, _>>()?;
    let identity = databricks(&ctx.context.environment, &ctx.vault, &mut errors);
    confirmation.check(ctx, &mut errors);
    let mut ids = Vec::new();
    if jobs.iter().any(|job| matches!(job, JobArgument::Name(_))) || !job_filter.is_empty() {
        let pasted: Vec<_> = jobs.iter().flat_map(JobArgument::pasted).collect();
        let (account, dbt) = connect_dbt(&pasted, errors, ctx)?;
        for job in &jobs {
            ids.push(job.find(&dbt, &account, &job_filter).await?);
        }
    } else {
        errors.settle()?;
        ids.extend(jobs.iter().filter_map(|job| match job {
            JobArgument::Id(job) | JobArgument::Address { job, pasted: _ } => Some(*job),
            JobArgument::Name(_) => None,
        }));
    }
    let Some(identity) = identity else {
        return Err(Failure::new(Code::Bug, "the workspace is missing after it was resolved"));
    };
    let named = |text: String| Ok((WorkflowArgument::read(&text, Some(&identity.origin))?, text));
    let workflows = workflow.into_iter().map(named).collect::<Result<Vec<_>, Failure>>()?;
    let selection = Selection { workflows, jobs: ids, all, with_secret, path, scope, key };
    Ok((identity, selection))
}

/// Cancels the runs of the workflows to remove, and the dbt runs they started.
async fn cancel(
    found: &RemovalPlan,
    identity: &Databricks,
    writer: &Writer,
    ctx: &CommandContext,
) -> Result<Vec<u64>, Failure> {
    let mut cancelled = Vec::new();
    for (workflow, run) in &found.running {
        ctx.events.remark(format!("Cancelling run {run} of workflow {workflow}"));
        let deadline = Deadline::after(CANCELLED_WITHIN);
        let writer = writer.until(&deadline);
        let mut report = CancelReport::default();
        cancel_workflow(*run, &identity.origin, &writer, &deadline, &mut report, ctx)
            .await
            .map_err(|failure| failure.cause("nothing was removed yet"))?;
        ctx.interrupt_report.clear();
        cancelled.push(*run);
    }
    Ok(cancelled)
}

#[cfg(test)]
mod tests;
