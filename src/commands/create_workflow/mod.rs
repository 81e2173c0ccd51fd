//! `create-workflow`: creates or updates the Databricks job for dbt jobs.

mod add_to;
mod args;
mod check;
mod compute;
mod identity;
mod input;
mod job_arguments;
pub(crate) mod prerequisites;
mod report;
pub(crate) mod rights;
mod run_now;
mod workflow_plan;

pub(crate) use self::args::Args;
pub(super) use self::args::WorkflowFlags;
use self::args::settle;
pub(super) use self::args::{THEN_CHECKED, THEN_RUN};
pub(super) use self::check::{Check, Used};
pub(super) use self::input::{Caller, Input};
pub(super) use self::job_arguments::{JobArguments, TargetWorkflow};
use self::prerequisites::{Checked, read_prerequisites};
pub(super) use self::prerequisites::{Findings, NotebookRequirements, Prerequisites, UsualKeys, planned};
pub(super) use self::report::{next_starts, report_workflow, schedule_document};
use self::run_now::Then;
pub(super) use self::run_now::{RunNow, check_and_run};
use self::workflow_plan::identity_of;
pub(super) use self::workflow_plan::{LookedUp, WorkflowPlan, look_up, plan_workflow};
use super::CommandContext;
use super::shared::provision::{Finish, Provision, caller_and};
use super::shared::workspace_cache::WorkspaceCache;
use crate::databricks::workspace::NotebookPath;
use crate::engine::kinds::{GUESS_LIMIT, JobsAhead};
use crate::engine::{Inputs, Plan};
use crate::failure::{Ended, Failure, Report};
use crate::http::Reader;

pub(crate) async fn run(args: Args, ctx: &CommandContext) -> Ended<Box<dyn Report>> {
    create(args, ctx).await.unwrap_or_else(Ended::from)
}

async fn create(args: Args, ctx: &CommandContext) -> Result<Ended<Box<dyn Report>>, Failure> {
    let (then, dry_run) = (Then { check: args.check, run_now: args.run_now }, args.dry_run);
    let mut input = settle(args, ctx)?;
    input.find_jobs(ctx).await?;
    if let Some(workflow) = &input.add_to {
        return add_to::add(workflow, &input, then, dry_run, ctx).await;
    }
    let writer = super::databricks_client(&input.databricks, ctx)?;
    writer.preconnect(3, !dry_run);
    let cache = WorkspaceCache::load(writer.origin(), ctx);
    let early = async {
        let ahead = read_ahead(&input, &cache, &writer);
        tokio::try_join!(look_up(&input, ctx), async { Ok(ahead.await) })
    };
    let (me, (looked_up, ahead)) = caller_and(&writer, Box::pin(early)).await?;
    let Ahead { jobs, mut notebook } = ahead;
    let observe = async |requirements: &NotebookRequirements<'_>, path: &NotebookPath| {
        if let Some((_, prerequisites, usual)) = notebook.take_if(|(read, ..)| read == path) {
            return (prerequisites, usual);
        }
        tokio::join!(read_prerequisites(&writer, requirements, path.clone()), UsualKeys::list(&writer))
    };
    let plans = plan_workflow(&writer, &mut input, (looked_up, jobs), &me, ctx, observe);
    let WorkflowPlan { steps, findings, prerequisites } = Box::pin(plans).await?;
    let Findings { warnings, refusals } = findings;
    for warning in &warnings {
        ctx.events.warning(warning.as_str());
    }
    let provision = Provision { ctx, writer: &writer, me: &me, dry_run, inputs: Inputs::default() };
    let applied = provision.apply(Plan::new(steps, refusals, &me.user_name)).await;
    let (mut applied, job) = report_workflow(applied, &writer, &me, ctx, &warnings, then.run_now);
    if applied.finish == Finish::Shown {
        for (requested, line) in [(then.check, THEN_CHECKED), (then.run_now, THEN_RUN)] {
            if requested {
                applied.line(line);
            }
        }
    }
    let made = job.zip(prerequisites);
    let made = made.map(|(job, prerequisites)| (job.id, Check::of(&job, &input.spec.tasks, &prerequisites, &me)));
    Ok(then.go_on(applied, made, (&input.databricks, &writer), ctx).await)
}

/// What can be read before the caller and the name of the workflow are known.
struct Ahead {
    jobs: JobsAhead,
    /// The notebook at its probable path, and the keys of the default scope.
    notebook: Option<(NotebookPath, Checked<Prerequisites>, UsualKeys)>,
}

async fn read_ahead(input: &Input, cache: &WorkspaceCache, reader: &Reader) -> Ahead {
    let job = identity_of(input).ok().and_then(|identity| cache.job(&identity));
    let path = input.spec.account.filter(|_| input.spec.notebook.is_none()).and_then(|account| cache.notebook(account));
    let notebook = async {
        let path = path?;
        let requirements = input.requirements();
        let reads =
            async { tokio::join!(read_prerequisites(reader, &requirements, path.clone()), UsualKeys::list(reader)) };
        let (prerequisites, usual) = reader.within(GUESS_LIMIT, Box::pin(reads)).await?;
        Some((path, prerequisites, usual))
    };
    let (jobs, notebook) = tokio::join!(JobsAhead::read(reader, job), notebook);
    Ahead { jobs, notebook }
}

#[cfg(test)]
mod tests;
