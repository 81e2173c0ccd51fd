//! `create-workflow --add-to`: adds one task to an existing workflow and changes nothing else in it.

use super::args::THEN_CHECKED;
use super::check::Check;
use super::compute;
use super::identity;
use super::input::{AddTo, Input};
use super::prerequisites::{Findings, UsualKeys, read_prerequisites};
use super::run_now::Then;
use super::workflow_plan::{LookedUp, look_up};
use crate::commands::CommandContext;
use crate::commands::databricks_client;
use crate::commands::shared::provision::{Applied, Finish, Provision, caller_and};
use crate::databricks::jobs::{self, Job};
use crate::databricks::me::Me;
use crate::document::Id;
use crate::engine::kinds::{
    AddedTask, AddedTaskWant, carried_overrides, changed_meanwhile, has_active_trigger, keys_there,
};
use crate::engine::{Inputs, Plan, Planned, Step};
use crate::failure::{Code, Ended, Failure, Hint, Report};
use crate::http::Writer;
use crate::spec::TaskSpec;

pub(super) async fn add(
    workflow: &AddTo,
    input: &Input,
    then: Then,
    dry_run: bool,
    ctx: &CommandContext,
) -> Result<Ended<Box<dyn Report>>, Failure> {
    let [task] = input.spec.tasks.as_slice() else {
        return Err(Failure::new(Code::Bug, "no job is left after the flags were checked"));
    };
    let writer = databricks_client(&input.databricks, ctx)?;
    writer.preconnect(3, false);
    let (me, looked_up) = caller_and(&writer, Box::pin(look_up(input, ctx))).await?;
    let LookedUp { name: _, mut findings, scheduled } = looked_up;
    let AddTo { text, named } = workflow;
    let again = |job: u64| format!("dbtrigger create-workflow --add-to {job} --job {}", task.job);
    let requirements = input.requirements();
    let path = requirements.path(&me)?;
    let (row, prerequisites, usual, compute) = tokio::try_join!(
        named.find(&writer, text, "nothing was written", again),
        read_prerequisites(&writer, &requirements, path.clone()),
        async { Ok(UsualKeys::list(&writer).await) },
        compute::settle(&writer, &input.spec.compute, &me, &mut findings)
    )?;
    let workflow = row.job_id;
    let prerequisites = findings.need("notebook", path.as_str(), prerequisites);
    let want = AddedTaskWant {
        workflow,
        workflow_name: row.name().to_owned(),
        task: task.clone(),
        notebook: path.as_str().to_owned(),
        compute,
        settings: input.spec.each_task.clone(),
    };
    let key = async {
        match &prerequisites {
            Some(prerequisites) => Some((prerequisites, prerequisites.check_key(usual, &writer, &me).await)),
            None => None,
        }
    };
    let (planned, key) = tokio::join!(Step::<AddedTask>::plan(&writer, want, &input.consents), key);
    let planned = planned?;
    let Some(job) = &planned.have else {
        return Err(Failure::new(Code::Bug, "the workflow was read without a result"));
    };
    if has_active_trigger(&job.settings) {
        findings.warnings.splice(0..0, scheduled);
    }
    let mut steps = Vec::new();
    if let Some((prerequisites, key)) = key {
        let overrides = carried_overrides(&planned.want, &job.settings);
        let runs = (&overrides, identity::other(None, job.run_as.as_deref(), &me));
        let checks = identity::check_runs(&writer, input, (prerequisites, key), runs, &me, ctx, &mut findings);
        let readers = Box::pin(checks).await;
        steps = findings.unless_blocked(&planned.action, readers)?;
    }
    let Findings { warnings, refusals } = findings;
    for warning in &warnings {
        ctx.events.warning(warning.as_str());
    }
    let provision = Provision { ctx, writer: &writer, me: &me, dry_run, inputs: Inputs::default() };
    steps.push(Planned::AddedTask(Box::new(planned)));
    let applied = provision.apply(Plan::new(steps, refusals, &me.user_name)).await;
    let (mut applied, there) = report_task(applied, &writer, &me, warnings, ctx, then.run_now);
    if then.check && applied.finish == Finish::Shown {
        applied.line(THEN_CHECKED);
    }
    let made = there.zip(prerequisites);
    let made = made.map(|((job, task), prerequisites)| (job.id, Check::of(&job, &[task], &prerequisites, &me)));
    Ok(then.go_on(applied, made, (&input.databricks, &writer), ctx).await)
}

/// Adds the workflow and its task to the report. Returns both if the task exists.
fn report_task(
    mut applied: Applied,
    writer: &Writer,
    me: &Me,
    mut warnings: Vec<String>,
    ctx: &CommandContext,
    run_now: bool,
) -> (Applied, Option<(Job, TaskSpec)>) {
    let Some(step) = applied.plan.added_task() else { return (applied, None) };
    let result = applied.result(&step.action, "added");
    if let (Some(before), Some(after)) = (&step.have, &step.now) {
        let changed = changed_meanwhile(&step.want, before, after);
        if !changed.is_empty() {
            let warning = format!(
                "the workflow was changed at the same time: {}; that change is kept, and only the task was written",
                changed.join(", ")
            );
            ctx.events.warning(warning.as_str());
            warnings.push(warning);
        }
    }
    let AddedTaskWant { workflow, workflow_name, task, notebook, compute: _, settings: _ } = step.want.clone();
    // Our task keeps its key even if it was renamed in the workspace.
    let (key, others) = step.present().map_or((task.key.clone(), 0), |job| keys_there(&step.want, job));
    let url = jobs::link(writer.origin(), workflow, me.workspace_id);
    let there = step.present().cloned().map(|job| (job, TaskSpec { key: key.clone(), ..task.clone() }));
    applied.field("job_id", Id(workflow));
    applied.field("url", url.clone());
    applied.field("name", workflow_name);
    applied.field("result", result);
    applied.field("task_key", key);
    applied.field("dbt_job_id", Id(task.job));
    applied.field("notebook", notebook);
    applied.field("warnings", warnings);
    applied.line(url);
    if run_now {
        let all = match others {
            0 => "the workflow".to_owned(),
            1 => "the whole workflow (with its other task)".to_owned(),
            count => format!("the whole workflow (with its {count} other tasks)"),
        };
        if applied.finish == Finish::Shown {
            applied.line(format!("Then: run {all} and follow it."));
        } else if applied.is_well() {
            applied.line(format!("Running {all}."));
        }
    } else if applied.is_well() {
        applied.next("run the whole workflow", format!("dbtrigger run --workflow {workflow}"));
        applied.then(Hint::Do("wait for its next scheduled run".to_owned()));
    }
    (applied, there)
}

#[cfg(test)]
mod tests;
