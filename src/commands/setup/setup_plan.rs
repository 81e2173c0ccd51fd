//! The plan of `setup`.

use super::Args;
use crate::commands::CommandContext;
use crate::commands::create_workflow::{
    Compared, FailureDetails, Input, LookedUp, Prerequisites, UsualKeys, WorkflowPlan, find, look_up, planned,
};
use crate::commands::deploy_notebook::NotebookSettings;
use crate::commands::init_secrets::{SecretPlan, plan_secret, warn_of_readers};
use crate::commands::shared::default_path::default_path;
use crate::commands::shared::near_scopes::{NearScopes, near_scopes};
use crate::credentials::Account;
use crate::databricks::me::Me;
use crate::databricks::secrets::{Fingerprint, KeyName, Permission, ScopeName};
use crate::databricks::workspace::NotebookPath;
use crate::engine::kinds::{DEFAULT_KEY, DEFAULT_SCOPE, JobsAhead, Notebook, Readers, SecretWant};
use crate::engine::{Consent, Consents, Plan, Planned, Step};
use crate::failure::{Code, Failure};
use crate::http::Reader;
use crate::spec::Setting;
use crate::spec::grants::GrantTo;

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
    at: (ScopeName, KeyName),
    secret_plan: Result<SecretPlan, Failure>,
    near: NearScopes,
}

/// Who else gets access to the scope, and the fingerprint of the new key for `--rotate`.
type KeyIntent<'a> = (&'a [GrantTo<Permission>], Option<Fingerprint>);

/// Runs these lookups.
pub(super) async fn observe_before_identity(
    args: &Args,
    (grants, compare): KeyIntent<'_>,
    input: &Input,
    reader: &Reader,
    ctx: &CommandContext,
) -> Result<Early, Failure> {
    let bug = |_| Failure::new(Code::Bug, "the default scope or key name is invalid");
    let scope = args.scope.clone().map_or_else(|| DEFAULT_SCOPE.parse().map_err(bug), Ok)?;
    let key = args.key.clone().map_or_else(|| DEFAULT_KEY.parse().map_err(bug), Ok)?;
    let consents = consents(args);
    let want = secret_want(scope.clone(), key.clone(), compare, &consents);
    let (looked_up, jobs, secret_plan, near) = tokio::join!(
        look_up(input, ctx),
        JobsAhead::read(reader, None),
        plan_secret(reader, want, grants.to_vec(), &consents),
        near_scopes(reader, &scope)
    );
    Ok(Early { looked_up, jobs, at: (scope, key), secret_plan, near })
}

fn secret_want(scope: ScopeName, key: KeyName, compare: Option<Fingerprint>, consents: &Consents) -> SecretWant {
    let accept_open = consents.has(Consent::AcceptSharedScope);
    SecretWant { scope, key, compare, accept_open, intended_readers: Vec::new() }
}

fn consents(args: &Args) -> Consents {
    Consents::default()
        .with(Consent::Rotate, args.rotate)
        .with(Consent::AcceptSharedScope, args.accept_shared_scope)
        .with(Consent::AcceptSharedPath, args.accept_shared_path)
        .with(Consent::Force, args.force)
        .with(Consent::Adopt, args.adopt)
}

impl SetupPlan {
    pub(super) fn writes_key(&self) -> bool {
        self.plan.steps.iter().any(|step| matches!(step, Planned::Secret(step) if step.writes()))
    }

    /// Prints warnings that matter before the plan is accepted.
    pub(super) fn warn(&self, ctx: &CommandContext) {
        for warning in &self.warnings {
            ctx.events.warning(warning.as_str());
        }
        warn_of_readers(self.readers.as_ref(), &self.scope, ctx);
        if self.plan.steps.iter().any(|step| matches!(step, Planned::Scope(step) if step.have.is_none())) {
            self.near.warn(&self.scope, ctx);
        }
    }
}

/// Plans everything. The notebook determines where the key is. An existing workflow keeps its notebook unless
/// `--notebook` names another.
pub(super) async fn look(
    args: &Args,
    (mut early, key_intent): (Early, KeyIntent<'_>),
    input: &Input,
    account: &Account,
    reader: &Reader,
    me: &Me,
    ctx: &CommandContext,
) -> Result<SetupPlan, Failure> {
    let mut path = match &args.path {
        Some(path) => path.clone(),
        None => default_path(me, account.id)?,
    };
    loop {
        match look_from(path, args, early, key_intent, input, account, reader, me, ctx).await? {
            Ok(setup_plan) => return Ok(setup_plan),
            Err(current) => path = current,
        }
        early = observe_before_identity(args, key_intent, input, reader, ctx).await?;
    }
}

/// Same, for the notebook at this path; or the workflow's current notebook, if that is kept instead.
#[expect(clippy::too_many_arguments, reason = "what the look takes, and the path")]
async fn look_from(
    path: NotebookPath,
    args: &Args,
    early: Early,
    (grants, compare): KeyIntent<'_>,
    input: &Input,
    account: &Account,
    reader: &Reader,
    me: &Me,
    ctx: &CommandContext,
) -> Result<Result<SetupPlan, NotebookPath>, Failure> {
    let consents = consents(args);
    let Early { looked_up, jobs, at, mut secret_plan, mut near } = early;
    let notebook_settings = NotebookSettings {
        account: account.clone(),
        scope: args.scope.as_ref().map(ToString::to_string).into(),
        key: args.key.as_ref().map(ToString::to_string).into(),
        allow_override: Setting::Keep,
        allow_job: Setting::Keep,
    };
    let found = async {
        match &looked_up {
            Ok(looked_up) => find(reader, input, looked_up, jobs, me).await.map(Some),
            Err(_) => Ok(None),
        }
    };
    let (notebook, found) = tokio::join!(Step::<Notebook>::plan(reader, notebook_settings.at(path), &consents), found);
    let notebook = notebook?;
    let (prerequisites, fit) = planned(&input.requirements(), &notebook);
    let Prerequisites { path, scope, key, .. } = &prerequisites;
    let (path, secret) = (path.clone(), format!("{scope}/{key}"));
    let mut named = FailureDetails::default();
    let (scope, key) = named.need("secret", &secret, prerequisites.secret()).unwrap_or_else(|| at.clone());
    if at != (scope.clone(), key.clone()) {
        let want = secret_want(scope.clone(), key.clone(), compare, &consents);
        let looks = plan_secret(reader, want, grants.to_vec(), &consents);
        (secret_plan, near) = tokio::join!(looks, near_scopes(reader, &scope));
    }
    let (looked_up, mut secret_plan) = (looked_up?, secret_plan?);
    let Some(found) = found? else {
        return Err(Failure::new(Code::Bug, "the dbt job was read, but the workflow was not"));
    };
    let mut compared = Compared::new(input, looked_up, found, &path)?;
    if let Some(current) = compared.current_notebook(input, true) {
        return Ok(Err(current));
    }
    compared.failure_details.extend(named);
    compared.failure_details.need("notebook", path.as_str(), fit);
    let checked = compared.check(reader, input, (Some(&prerequisites), UsualKeys::unknown()), me, ctx).await?;
    let WorkflowPlan { steps: workflow_plan, failure_details: FailureDetails { warnings, refusals } } = checked;
    let mut rest = Vec::new();
    for step in workflow_plan {
        if let Planned::Grant(grant) = step {
            // The run-as identity may already have a grant from a flag, with a higher level.
            if !names(&secret_plan, &grant.want.principal) {
                secret_plan.grants.push(grant);
            }
        } else {
            rest.push(step);
        }
    }
    secret_plan.settle_for(me, &consents);
    let SecretPlan { scope: scope_step, secret, grants } = secret_plan;
    let readers = secret.have.as_ref().map(|have| have.readers.clone());
    let mut steps = vec![Planned::Scope(scope_step), Planned::Secret(secret)];
    steps.extend(grants.into_iter().map(Planned::Grant));
    steps.push(Planned::Notebook(notebook));
    steps.extend(rest);
    Ok(Ok(SetupPlan { plan: Plan { refusals, steps }, scope, key, readers, prerequisites, warnings, near }))
}

fn names(secret_plan: &SecretPlan, principal: &str) -> bool {
    secret_plan.grants.iter().any(|step| step.want.principal.eq_ignore_ascii_case(principal))
}
