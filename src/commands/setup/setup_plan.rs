//! The plan of `setup`.

use crate::commands::CommandContext;
use crate::commands::create_workflow::{
    Findings, Input, LookedUp, NotebookRequirements, Prerequisites, UsualKeys, WorkflowPlan, look_up, plan_workflow,
    planned,
};
use crate::commands::deploy_notebook::plan_notebook;
use crate::commands::init_secrets::{SecretPlan, plan_secret, warn_of_readers};
use crate::commands::shared::near_scopes::NearScopes;
use crate::databricks::me::Me;
use crate::databricks::secrets::{KeyName, ScopeName};
use crate::databricks::workspace::NotebookPath;
use crate::engine::kinds::{JobsAhead, Readers};
use crate::engine::{Plan, Planned, Step};
use crate::failure::Failure;
use crate::http::Reader;
use crate::spec::{NotebookSpec, SecretSpec};

/// What should exist, and the services for it.
pub(super) struct Specs {
    pub(super) secret: SecretSpec,
    pub(super) notebook: NotebookSpec,
    /// With the workflow.
    pub(super) input: Input,
}

/// The plan and its inputs.
pub(super) struct SetupPlan {
    pub(super) plan: Plan,
    pub(super) scope: ScopeName,
    pub(super) key: KeyName,
    /// Who can read the scope, if it exists.
    pub(super) readers: Option<Readers>,
    /// `None`: refused.
    pub(super) prerequisites: Option<Prerequisites>,
    pub(super) warnings: Vec<String>,
    near: NearScopes,
}

/// Lookups that do not depend on the caller's identity and thus the notebook's path: the dbt job, all jobs of the
/// workspace, and the secret in its default location.
pub(super) struct Early {
    looked_up: LookedUp,
    jobs: JobsAhead,
    secret_plan: Result<SecretPlan, Failure>,
}

/// Runs these lookups.
pub(super) async fn observe_before_identity(
    specs: &Specs,
    reader: &Reader,
    ctx: &CommandContext,
) -> Result<Early, Failure> {
    let Specs { secret, notebook: _, input } = specs;
    let (looked_up, jobs, secret_plan) =
        tokio::join!(look_up(input, ctx), JobsAhead::read(reader, None), plan_secret(reader, secret, &input.consents));
    Ok(Early { looked_up: looked_up?, jobs, secret_plan })
}

impl SetupPlan {
    pub(super) fn writes_key(&self) -> bool {
        self.plan.secret().is_some_and(Step::writes)
    }

    /// Prints warnings that matter before the plan is accepted.
    pub(super) fn warn(&self, ctx: &CommandContext) {
        for warning in &self.warnings {
            ctx.events.warning(warning.as_str());
        }
        warn_of_readers(self.readers.as_ref(), &self.scope, ctx);
        if self.plan.scope().is_some_and(|step| step.have.is_none()) {
            self.near.warn(&self.scope, ctx);
        }
    }
}

/// Plans everything. The notebook determines where the key is.
pub(super) async fn plan_setup(
    specs: &mut Specs,
    Early { looked_up, jobs, secret_plan }: Early,
    reader: &Reader,
    me: &Me,
    ctx: &CommandContext,
) -> Result<SetupPlan, Failure> {
    let Specs { secret, notebook, input } = specs;
    let consents = input.consents.clone();
    let mut notebook_plan = None;
    let observe = async |requirements: &NotebookRequirements<'_>, path: &NotebookPath| {
        let prerequisites = plan_notebook(reader, notebook, path, &consents).await.map(|plan| {
            let (step, _) = notebook_plan.insert(plan);
            planned(requirements, step)
        });
        (prerequisites, UsualKeys::unknown())
    };
    let plans = plan_workflow(reader, input, (looked_up, jobs), me, ctx, observe);
    let WorkflowPlan { steps: of_workflow, findings, prerequisites } = Box::pin(plans).await?;
    let named = prerequisites.as_ref().and_then(|prerequisites| prerequisites.secret().ok());
    let (scope, key) = named.unwrap_or_else(|| (secret.scope.clone(), secret.key.clone()));
    let SecretPlan { mut steps, near } = if secret.scope == scope && secret.key == key {
        secret_plan?
    } else {
        let secret = SecretSpec { scope: scope.clone(), key: key.clone(), ..secret.clone() };
        plan_secret(reader, &secret, &consents).await?
    };
    if let Some((step, grants)) = notebook_plan {
        steps.push(Planned::Notebook(step));
        steps.extend(grants);
    }
    steps.extend(of_workflow);
    let Findings { warnings, refusals } = findings;
    let plan = Plan::new(steps, refusals, &me.user_name);
    let readers = plan.secret().and_then(|step| Some(step.have.as_ref()?.readers.clone()));
    Ok(SetupPlan { plan, scope, key, readers, prerequisites, warnings, near })
}
