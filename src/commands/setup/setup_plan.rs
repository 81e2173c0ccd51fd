//! The plan of `setup`.

use crate::commands::CommandContext;
use crate::commands::create_workflow::{
    Compared, Findings, Input, LookedUp, Prerequisites, UsualKeys, WorkflowPlan, find, look_up, planned,
};
use crate::commands::deploy_notebook::plan_notebook;
use crate::commands::init_secrets::{SecretPlan, plan_secret, warn_of_readers};
use crate::commands::shared::default_path::default_path;
use crate::commands::shared::near_scopes::NearScopes;
use crate::databricks::me::Me;
use crate::databricks::secrets::{KeyName, ScopeName};
use crate::engine::kinds::{JobsAhead, Readers};
use crate::engine::{Plan, Planned, Step};
use crate::failure::{Code, Failure};
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
    pub(super) prerequisites: Prerequisites,
    pub(super) warnings: Vec<String>,
    near: NearScopes,
}

/// Lookups that do not depend on the caller's identity and thus the notebook's path: the dbt job, all jobs of the
/// workspace, and the secret in its default location.
pub(super) struct Early {
    looked_up: Result<LookedUp, Failure>,
    jobs: JobsAhead,
    names: (ScopeName, KeyName),
    secret_plan: Result<SecretPlan, Failure>,
}

/// Runs these lookups.
pub(super) async fn observe_before_identity(
    specs: &Specs,
    reader: &Reader,
    ctx: &CommandContext,
) -> Result<Early, Failure> {
    let Specs { secret, notebook: _, input } = specs;
    let (scope, key) = secret.names()?;
    let (looked_up, jobs, secret_plan) = tokio::join!(
        look_up(input, ctx),
        JobsAhead::read(reader, None),
        plan_secret(reader, secret, (&scope, &key), &input.consents)
    );
    Ok(Early { looked_up, jobs, names: (scope, key), secret_plan })
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

/// Plans everything. The notebook determines where the key is. An existing workflow keeps its notebook unless
/// `--notebook` names another.
pub(super) async fn plan_setup(
    specs: &Specs,
    mut early: Early,
    reader: &Reader,
    me: &Me,
    ctx: &CommandContext,
) -> Result<SetupPlan, Failure> {
    let Specs { secret, notebook, input } = specs;
    let mut path = match &notebook.path {
        Some(path) => path.clone(),
        None => default_path(me, notebook.settings.account_id)?,
    };
    loop {
        let Early { looked_up, jobs, names, mut secret_plan } = early;
        let finds = async {
            match &looked_up {
                Ok(looked_up) => find(reader, input, looked_up, jobs, me).await,
                Err(failure) => Err(failure.clone()),
            }
        };
        let (of_notebook, found) = tokio::join!(plan_notebook(reader, notebook, &path, &input.consents), finds);
        let of_notebook = of_notebook?;
        let Some(Planned::Notebook(step)) = of_notebook.first() else {
            return Err(Failure::new(Code::Bug, "the plan of the notebook has no notebook"));
        };
        let (prerequisites, fit) = planned(&input.requirements(), step);
        let Prerequisites { scope, key, .. } = &prerequisites;
        let mut findings = Findings::default();
        let named = findings.need("secret", &format!("{scope}/{key}"), prerequisites.secret());
        let (scope, key) = named.unwrap_or_else(|| names.clone());
        if names != (scope.clone(), key.clone()) {
            secret_plan = plan_secret(reader, secret, (&scope, &key), &input.consents).await;
        }
        let (looked_up, SecretPlan { mut steps, near }) = (looked_up?, secret_plan?);
        let mut compared = Compared::new(input, looked_up, found?, &path)?;
        if let Some(current) = compared.current_notebook(input, true) {
            path = current;
            early = observe_before_identity(specs, reader, ctx).await?;
            continue;
        }
        compared.findings.extend(findings);
        compared.findings.need("notebook", path.as_str(), fit);
        let checked = compared.check(reader, input, (Some(&prerequisites), UsualKeys::unknown()), me, ctx).await?;
        let WorkflowPlan { steps: of_workflow, findings: Findings { warnings, refusals } } = checked;
        steps.extend(of_notebook.into_iter().chain(of_workflow));
        let plan = Plan::new(steps, refusals, &me.user_name);
        let readers = plan.secret().and_then(|step| Some(step.have.as_ref()?.readers.clone()));
        return Ok(SetupPlan { plan, scope, key, readers, prerequisites, warnings, near });
    }
}
