//! Plans the workflow and its grants, before anything is written.

use super::input::Input;
use super::prerequisites::{Prerequisites, UsualKeys};
use super::{SETTLE, compute, identity};
use crate::commands::{CommandContext, to_dbt};
use crate::credentials::Account;
use crate::databricks::jobs;
use crate::databricks::me::Me;
use crate::databricks::workspace::NotebookPath;
use crate::dbt::{self, JobDisabled};
use crate::engine::kinds::{
    Compute, Identity, JobsAhead, Workflow, WorkflowHave, WorkflowWant, existing_tasks, find_workflow, job_schedule,
    override_names, own_job, will_have_active_trigger,
};
use crate::engine::{Action, Consent, Planned, Step};
use crate::failure::{Code, Failure, of_dbt};
use crate::http::{HttpError, Meaning, Reader, side_by_side};
use crate::spec::{Setting, TaskSpec, WorkflowSettings};

/// The steps, and problems to mention.
pub(in crate::commands) struct WorkflowPlan {
    pub(in crate::commands) steps: Vec<Planned>,
    pub(in crate::commands) warnings: Vec<String>,
}

impl WorkflowPlan {
    /// The notebook that our existing workflow runs, if the plan would move it to another that the user did not name.
    /// Not if the workflow was edited, which is refused anyway, nor with `--force`, which restores the planned one.
    pub(in crate::commands) fn current_notebook(&self, input: &Input) -> Option<NotebookPath> {
        if input.notebook.is_some() || input.consents.has(Consent::Force) {
            return None;
        }
        let step = self.steps.iter().find_map(Planned::workflow)?;
        let have = step.have.as_ref().filter(|have| have.is_own() && matches!(step.action, Action::Update(_)))?;
        let mut paths = existing_tasks(&have.job.settings).into_iter().map(|task| task.notebook);
        let path = paths.next().filter(|path| *path != step.want.notebook)?;
        if paths.all(|other| other == path) { path.parse().ok() } else { None }
    }
}

/// The notebook of our existing workflow, for when there is none at the default path.
pub(in crate::commands) async fn own_notebook(reader: &Reader, input: &Input, name: &str) -> Option<NotebookPath> {
    let identity = identity_of(input).ok().filter(|_| input.notebook.is_none())?;
    let job = own_job(reader, name, &identity).await.ok()??;
    let job = jobs::get(reader, job).await.ok()?;
    existing_tasks(&job.settings).first()?.notebook.parse().ok()
}

/// Looks up the workflow and its compute, neither of which depends on the notebook. `listed`: all jobs, if already
/// listed.
pub(in crate::commands) async fn find(
    reader: &Reader,
    input: &Input,
    LookedUp { name, warnings: _, scheduled: _ }: &LookedUp,
    ahead: JobsAhead,
    me: &Me,
) -> Result<Found, Failure> {
    let identity = identity_of(input)?;
    let (workflow, compute) =
        tokio::join!(find_workflow(reader, name, &identity, ahead), compute::settle(reader, &input.compute, me));
    Ok(Found { workflow, compute })
}

/// Results of these lookups.
pub(in crate::commands) struct Found {
    workflow: Result<Option<WorkflowHave>, HttpError>,
    compute: compute::Settled,
}

/// Compares the request with what was `found`, and refuses what would fail in every run.
pub(in crate::commands) async fn plan_workflow(
    reader: &Reader,
    input: &Input,
    looked_up: LookedUp,
    found: Found,
    (prerequisites, usual): (&Prerequisites, UsualKeys),
    me: &Me,
    ctx: &CommandContext,
) -> Result<WorkflowPlan, Failure> {
    let LookedUp { name, mut warnings, scheduled } = looked_up;
    let Found { workflow, compute } = found;
    let (compute, of_compute) = compute?;
    warnings.extend(of_compute);
    // Without a token dbt did not name the job, so an existing workflow is shown by its own name.
    let standing_name = match &workflow {
        Ok(Some(have)) if input.token.is_none() && input.name.is_none() => have.job.settings.read("name"),
        Ok(_) | Err(_) => None,
    };
    let name = standing_name.unwrap_or(name);
    let want = want(input, name, compute, prerequisites)?;
    let planned = Step::<Workflow>::compare(want, workflow, &input.consents)?;
    let key = prerequisites.check_key(usual, reader, me).await;
    check_flags(&planned)?;
    if will_have_active_trigger(&planned.want, planned.have.as_ref().map(|have| &have.job.settings)) {
        warnings.splice(0..0, scheduled);
    }
    prerequisites.check_overrides(
        &input.requirements(),
        &override_names(&planned.want, planned.have.as_ref().map(|have| &have.job.settings)),
    )?;
    warnings.extend(prerequisites.warnings.iter().cloned());
    let current_run_as = planned.have.as_ref().and_then(|have| have.job.run_as.as_deref());
    let other = identity::other(planned.want.settings.run_as.value().map(String::as_str), current_run_as, me);
    let (mut steps, mut after) = (Vec::new(), Vec::new());
    // A refused plan writes nothing, so it needs no grants.
    if !matches!(planned.action, Action::Blocked { .. }) {
        let grant = input.grant_run_as;
        let (readers, grants) = tokio::join!(
            Box::pin(identity::readers(reader, grant, (prerequisites, key), other, me, ctx)),
            Box::pin(identity::grants(reader, input, &planned))
        );
        let readers = readers?;
        warnings.extend(readers.warnings);
        (steps, after) = (readers.steps, grants?);
    }
    steps.push(Planned::Workflow(Box::new(planned)));
    steps.extend(after);
    Ok(WorkflowPlan { steps, warnings })
}

/// What dbt knows about the jobs, if it was asked.
#[derive(Clone)]
pub(in crate::commands) struct LookedUp {
    pub(super) name: String,
    pub(super) warnings: Vec<String>,
    /// Warnings about jobs that also have a schedule in dbt, used if the workflow starts by itself.
    pub(super) scheduled: Vec<String>,
}

/// Reads the jobs from dbt if possible; optional if the workflow has a name.
pub(in crate::commands) async fn look_up(input: &Input, ctx: &CommandContext) -> Result<LookedUp, Failure> {
    let Input { jobs, name, dbt, token, .. } = input;
    let Some((account, token)) = dbt.as_ref().zip(token.as_ref()) else {
        let job = jobs.first().map(|task| task.job).unwrap_or_default();
        let name = name.clone().unwrap_or_else(|| format!("dbt: job {job}"));
        return Ok(LookedUp { name, warnings: Vec::new(), scheduled: Vec::new() });
    };
    let reader = to_dbt(account, token, ctx)?.reader();
    let Account { id, .. } = account;
    let (mut warnings, mut scheduled, mut named) = (Vec::new(), Vec::new(), name.clone());
    let asked = side_by_side(jobs, async |task| reader.read(dbt::get_job(*id, task.job)).await).await;
    for (TaskSpec { key: _, job, depends_on: _ }, found) in jobs.iter().zip(asked) {
        let found = match found {
            Ok(found) => found,
            // With a name dbt is optional, so only errors about the job itself are fatal.
            Err(error) if input.is_named() && !is_about_the_job(&error) => {
                warnings.push(format!("cannot read dbt job {job}: {error}"));
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
                return Err(Failure::new(Code::Refused, what)
                    .cause(disabled.why())
                    .advise(disabled.advice())
                    .run("list the dbt jobs", "dbtrigger jobs"));
            }
            Some(disabled @ JobDisabled::Deactivated { .. }) => {
                let (why, advice) = (disabled.why(), disabled.advice());
                warnings.push(format!("dbt job {job} \"{title}\" would not start: {why}; {advice}"));
            }
            None => {}
        }
        if found.is_ci() {
            warnings.push(format!("dbt job {job} \"{title}\" is a CI job for pull requests"));
        }
        named.get_or_insert_with(|| format!("dbt: {title} ({job})"));
    }
    Ok(LookedUp { name: named.unwrap_or_default(), warnings, scheduled })
}

/// Whether the error is about the job or the account. An expired token, an IP restriction or a proxy's page says
/// nothing about the job.
pub(super) fn is_about_the_job(error: &HttpError) -> bool {
    matches!(error.means(), Meaning::NotFound | Meaning::RightMissing | Meaning::OtherAccount)
}

pub(in crate::commands) fn identity_of(input: &Input) -> Result<Identity, Failure> {
    match (&input.name, input.account, input.jobs.as_slice()) {
        (Some(name), _, _) => Ok(Identity::of_name(name)),
        (None, Some(account), [only]) => Ok(Identity::of_job(account, only.job)),
        (None, _, _) => Err(Failure::new(Code::Bug, "a workflow without a name has no single job")),
    }
}

fn want(
    input: &Input,
    name: String,
    compute: Setting<Compute>,
    prerequisites: &Prerequisites,
) -> Result<WorkflowWant, Failure> {
    Ok(WorkflowWant {
        name,
        named: input.name.is_some(),
        identity: identity_of(input)?,
        tasks: input.jobs.clone(),
        notebook: prerequisites.path.as_str().to_owned(),
        compute,
        each_task: input.each_task.clone(),
        settings: input.settings.clone(),
        settle: SETTLE,
    })
}

/// Refuses schedule flags if there is no schedule in the flags or in the job.
fn check_flags(step: &Step<Workflow>) -> Result<(), Failure> {
    let WorkflowSettings { schedule, timezone, paused, .. } = &step.want.settings;
    let current_schedule = step.have.as_ref().and_then(|have| job_schedule(&have.job.settings));
    let flag = match (paused.value(), timezone.value()) {
        (Some(true), _) => "--paused",
        (Some(false), _) => "--unpaused",
        (None, Some(_)) => "--timezone",
        (None, None) => return Ok(()),
    };
    if schedule.value().is_some() || current_schedule.is_some() {
        return Ok(());
    }
    Err(Failure::new(Code::Usage, format!("{flag} needs a schedule"))
        .advise("add --schedule, such as --schedule '0 0 6 * * ?'"))
}
