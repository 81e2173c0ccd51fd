//! Plans the workflow and its grants, before anything is written.

use super::args::SETTLE;
use super::input::Input;
use super::prerequisites::{Checked, Findings, NotebookRequirements, Prerequisites, UsualKeys};
use super::{compute, identity};
use crate::commands::{CommandContext, dbt_client};
use crate::credentials::Account;
use crate::databricks::me::Me;
use crate::databricks::workspace::NotebookPath;
use crate::dbt::{self, JobDisabled};
use crate::engine::kinds::{
    Identity, JobsAhead, Workflow, WorkflowWant, existing_tasks, find_workflow, override_names,
    will_have_active_trigger,
};
use crate::engine::{Action, Consent, Entry, Planned, Step};
use crate::failure::{Code, Failure, of_dbt};
use crate::http::{HttpError, Meaning, Reader, side_by_side};
use crate::spec::{TaskSpec, WorkflowSpec};

/// The steps, and what else was found.
pub(in crate::commands) struct WorkflowPlan {
    pub(in crate::commands) steps: Vec<Planned>,
    pub(in crate::commands) findings: Findings,
    /// `None`: refused.
    pub(in crate::commands) prerequisites: Option<Prerequisites>,
}

/// Looks up notebook, workflow and compute, and plans the workflow and its grants. An existing workflow keeps its
/// notebook unless `--notebook` names another. `observe` looks up the notebook at a path.
pub(in crate::commands) async fn plan_workflow(
    reader: &Reader,
    input: &mut Input,
    (looked_up, mut ahead): (LookedUp, JobsAhead),
    me: &Me,
    ctx: &CommandContext,
    mut observe: impl AsyncFnMut(&NotebookRequirements<'_>, &NotebookPath) -> (Checked<Prerequisites>, UsualKeys),
) -> Result<WorkflowPlan, Failure> {
    let identity = identity_of(input)?;
    loop {
        let LookedUp { name, mut findings, scheduled } = looked_up.clone();
        let requirements = input.requirements();
        let path = requirements.path(me)?;
        let ((prerequisites, usual), workflow, compute) = tokio::join!(
            observe(&requirements, &path),
            find_workflow(reader, &name, &identity, std::mem::take(&mut ahead)),
            compute::settle(reader, &input.spec.compute, me, &mut findings)
        );
        // Without a token dbt did not name the job, so an existing workflow is shown by its own name.
        let standing_name = match &workflow {
            Ok(Some(have)) if input.token.is_none() && input.spec.name.is_none() => have.job.settings.read("name"),
            Ok(_) | Err(_) => None,
        };
        let want = WorkflowWant {
            name: standing_name.unwrap_or(name),
            named: input.spec.name.is_some(),
            identity: identity.clone(),
            tasks: input.spec.tasks.clone(),
            notebook: path.as_str().to_owned(),
            compute: compute?,
            each_task: input.spec.each_task.clone(),
            settings: input.spec.settings.clone(),
            settle: SETTLE,
        };
        let step = Step::<Workflow>::compare(want, workflow, &input.consents)?;
        let is_usable = match &prerequisites {
            Ok(checked) => checked.as_ref().is_ok_and(|found| found.check_jobs(&requirements).is_ok()),
            // Other failures say nothing about the notebook.
            Err(failure) => failure.code != Code::NotAllowed,
        };
        if let Some(current) = current_notebook(&step, input, is_usable) {
            input.spec.notebook = Some(current);
            continue;
        }
        if will_have_active_trigger(&step.want, step.have.as_ref().map(|have| &have.job.settings)) {
            findings.warnings.splice(0..0, scheduled);
        }
        let prerequisites = findings.need("notebook", path.as_str(), prerequisites?);
        let checks = check(reader, input, &step, (prerequisites.as_ref(), usual), me, ctx, &mut findings);
        let (readers, grants) = tokio::join!(Box::pin(checks), Box::pin(identity::grants(reader, input, &step)));
        let mut steps = findings.unless_blocked(&step.action, readers)?;
        let grants = findings.unless_blocked(&step.action, grants)?;
        steps.push(Planned::Workflow(Box::new(step)));
        steps.extend(grants);
        return Ok(WorkflowPlan { steps, findings, prerequisites });
    }
}

/// The notebook that our existing workflow runs, if the plan would move it to another that the user did not name.
/// If the planned one is usable, not for an edited workflow, which is refused anyway, nor with `--force`, which
/// restores the planned one.
fn current_notebook(step: &Step<Workflow>, input: &Input, is_usable: bool) -> Option<NotebookPath> {
    let Step { want, have, action, .. } = step;
    let is_kept = !is_usable || (matches!(action, Action::Update(_)) && !input.consents.has(Consent::Force));
    if input.spec.notebook.is_some() || !is_kept {
        return None;
    }
    let have = have.as_ref().filter(|have| have.is_own())?;
    let mut paths = existing_tasks(&have.job.settings).into_iter().map(|task| task.notebook);
    let path = paths.next().filter(|path| *path != want.notebook)?;
    if paths.all(|other| other == path) { path.parse().ok() } else { None }
}

/// Checks what would fail in every run, and plans what the run-as identity lacks. `prerequisites`: `None` if refused.
async fn check(
    reader: &Reader,
    input: &Input,
    step: &Step<Workflow>,
    (prerequisites, usual): (Option<&Prerequisites>, UsualKeys),
    me: &Me,
    ctx: &CommandContext,
    findings: &mut Findings,
) -> Result<Vec<Planned>, Failure> {
    let Some(prerequisites) = prerequisites else { return Ok(Vec::new()) };
    let job = step.have.as_ref().map(|have| &have.job);
    let run_as = step.want.settings.run_as.value().map(String::as_str);
    let other = identity::other(run_as, job.and_then(|job| job.run_as.as_deref()), me);
    let overrides = override_names(&step.want, job.map(|job| &job.settings));
    let key = prerequisites.check_key(usual, reader, me).await;
    identity::check_runs(reader, input, (prerequisites, key), (&overrides, other), me, ctx, findings).await
}

/// What dbt knows about the jobs, if it was asked.
#[derive(Clone)]
pub(in crate::commands) struct LookedUp {
    pub(super) name: String,
    pub(super) findings: Findings,
    /// Warnings about jobs that also have a schedule in dbt, used if the workflow starts by itself.
    pub(super) scheduled: Vec<String>,
}

/// Reads the jobs from dbt if possible; optional if the workflow has a name.
pub(in crate::commands) async fn look_up(input: &Input, ctx: &CommandContext) -> Result<LookedUp, Failure> {
    let Input { spec: WorkflowSpec { name, tasks, .. }, dbt, token, .. } = input;
    let Some((account, token)) = dbt.as_ref().zip(token.as_ref()) else {
        let job = tasks.first().map(|task| task.job).unwrap_or_default();
        let name = name.clone().unwrap_or_else(|| format!("dbt: job {job}"));
        return Ok(LookedUp { name, findings: Findings::default(), scheduled: Vec::new() });
    };
    let reader = dbt_client(account, token, ctx)?.reader();
    let Account { id, .. } = account;
    let (mut findings, mut scheduled, mut named) = (Findings::default(), Vec::new(), name.clone());
    let asked = side_by_side(tasks, async |task| reader.read(dbt::get_job(*id, task.job)).await).await;
    for (TaskSpec { key: _, job, depends_on: _ }, found) in tasks.iter().zip(asked) {
        let found = match found {
            Ok(found) => found,
            // With a name dbt is optional, so only errors about the job itself are fatal.
            Err(error) if input.is_named() && !is_about_the_job(&error) => {
                findings.warnings.push(format!("cannot read dbt job {job}: {error}"));
                continue;
            }
            Err(error) => return Err(of_dbt(&format!("cannot read the dbt job {job}"), &error)),
        };
        let title = found.name.as_deref().unwrap_or("without a name").split_whitespace().collect::<Vec<_>>().join(" ");
        if found.has_schedule() {
            scheduled.push(format!("dbt job {job} \"{title}\" also has a schedule in dbt; it will run from both"));
        }
        match found.disabled_reason() {
            // These jobs can never start.
            Some(disabled @ (JobDisabled::Deleted | JobDisabled::Hybrid)) => {
                let what = format!("dbt job {job} \"{title}\" would not start; nothing was changed");
                let refusal = Failure::new(Code::Refused, what)
                    .cause(disabled.why())
                    .advise(disabled.advice())
                    .run("list the dbt jobs", "dbtrigger jobs");
                findings.refusals.push(Entry::refused("dbt job", job.to_string(), refusal));
            }
            Some(disabled @ JobDisabled::Deactivated { .. }) => {
                let (why, advice) = (disabled.why(), disabled.advice());
                findings.warnings.push(format!("dbt job {job} \"{title}\" would not start: {why}; {advice}"));
            }
            None => {}
        }
        if found.is_ci() {
            findings.warnings.push(format!("dbt job {job} \"{title}\" is a CI job for pull requests"));
        }
        named.get_or_insert_with(|| format!("dbt: {title} ({job})"));
    }
    Ok(LookedUp { name: named.unwrap_or_default(), findings, scheduled })
}

/// Whether the error is about the job or the account. An expired token, an IP restriction or a proxy's page says
/// nothing about the job.
pub(super) fn is_about_the_job(error: &HttpError) -> bool {
    matches!(error.means(), Meaning::NotFound | Meaning::RightMissing | Meaning::OtherAccount)
}

pub(in crate::commands) fn identity_of(input: &Input) -> Result<Identity, Failure> {
    match (&input.spec.name, input.spec.account, input.spec.tasks.as_slice()) {
        (Some(name), _, _) => Ok(Identity::of_name(name)),
        (None, Some(account), [only]) => Ok(Identity::of_job(account, only.job)),
        (None, _, _) => Err(Failure::new(Code::Bug, "a workflow without a name has no single job")),
    }
}
