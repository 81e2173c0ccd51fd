//! Everything that would be done, as one plan.

use super::Args;
use crate::commands::Stage;
use crate::commands::create_workflow::{Drawn, Ground, Input, draw, look_up, planned};
use crate::commands::deploy_notebook::{Wish, default_path};
use crate::commands::init_secrets::{Kept, keep};
use crate::credentials::Account;
use crate::databricks::me::Me;
use crate::databricks::secrets::{KeyName, ScopeName};
use crate::engine::kinds::{Notebook, Readers, SecretWant};
use crate::engine::{Action, Consent, Consents, Plan, Planned, Step};
use crate::failure::Failure;
use crate::http::Reader;

/// The plan, and what it was made from.
pub(super) struct Outline {
    pub(super) plan: Plan,
    pub(super) scope: ScopeName,
    pub(super) key: KeyName,
    /// Who can read the scope, if it is there.
    pub(super) readers: Option<Readers>,
    pub(super) ground: Ground,
    pub(super) warnings: Vec<String>,
}

impl Outline {
    pub(super) fn writes_key(&self) -> bool {
        self.plan.steps.iter().any(|step| matches!(step, Planned::Secret(step) if step.writes()))
    }
}

/// Looks at everything. Where the key lies is what the notebook will say.
pub(super) async fn look(
    args: &Args,
    input: &Input,
    account: &Account,
    reader: &Reader,
    me: &Me,
    stage: &Stage,
) -> Result<Outline, Failure> {
    let consents = Consents::default()
        .with(Consent::AcceptSharedScope, args.accept_shared_scope)
        .with(Consent::AcceptSharedPath, args.accept_shared_path)
        .with(Consent::Force, args.force)
        .with(Consent::Adopt, args.adopt);
    let path = match &args.path {
        Some(path) => path.clone(),
        None => default_path(me, account.id)?,
    };
    let wish = Wish {
        account: account.clone(),
        scope: args.scope.as_ref().map(ToString::to_string),
        key: args.key.as_ref().map(ToString::to_string),
        allow_override: None,
        allow_job: None,
    };
    let notebook = Step::<Notebook>::plan(reader, wish.at(path), &consents).await?;
    let ground = planned(&input.load(), &notebook)?;
    let (scope, key) = ground.secret()?;
    let want = SecretWant { scope: scope.clone(), key: key.clone(), compare: None };
    let looks = async { tokio::try_join!(look_up(input, stage), keep(reader, want, &consents)) };
    let (looked_up, mut kept) = looks.await?;
    let Drawn { steps: drawn, warnings } = draw(reader, input, looked_up, &ground, me, stage).await?;
    let (mut grants, rest): (Vec<Planned>, Vec<Planned>) =
        drawn.into_iter().partition(|step| matches!(step, Planned::Grant(_)));
    let mut meant = Vec::new();
    for step in &mut grants {
        if let Planned::Grant(step) = step {
            step.settle(kept.scope.action == Action::Create, &me.user_name);
            meant.push(step.want.principal.clone());
        }
    }
    kept.secret.settle_readers(&me.user_name, &meant, &consents);
    let Kept { scope: scope_step, secret } = kept;
    let readers = secret.have.as_ref().map(|have| have.readers.clone());
    let mut steps = vec![Planned::Scope(scope_step), Planned::Secret(secret)];
    steps.extend(grants);
    steps.push(Planned::Notebook(notebook));
    steps.extend(rest);
    Ok(Outline { plan: Plan { steps }, scope, key, readers, ground, warnings })
}
