//! Everything that would be done, as one plan.

use super::Args;
use crate::commands::Stage;
use crate::commands::create_workflow::{Drawn, Ground, Input, draw, look_up, planned, warn_of_near_scope};
use crate::commands::deploy_notebook::{Wish, default_path};
use crate::commands::grants::GrantTo;
use crate::commands::init_secrets::{Kept, keep, warn_of_readers};
use crate::credentials::Account;
use crate::databricks::me::Me;
use crate::databricks::secrets::{Fingerprint, KeyName, Permission, ScopeName};
use crate::databricks::workspace::NotebookPath;
use crate::engine::kinds::{Notebook, Readers, SecretWant};
use crate::engine::{Consent, Consents, Plan, Planned, Step};
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

    /// Says what somebody has to know before they accept it.
    pub(super) async fn warn(&self, reader: &Reader, stage: &Stage) {
        for warning in &self.warnings {
            stage.events.warning(warning.as_str());
        }
        warn_of_readers(self.readers.as_ref(), &self.scope, stage);
        if self.plan.steps.iter().any(|step| matches!(step, Planned::Scope(step) if step.have.is_none())) {
            warn_of_near_scope(reader, &self.scope, stage).await;
        }
    }
}

/// Looks at everything. Where the key lies is what the notebook will say. `grants`: who else may use the scope; `compare`: what a
/// key that is to be replaced is compared with. A workflow that stands on another notebook than the usual one stays there, unless somebody
/// names one.
pub(super) async fn look(
    args: &Args,
    meant: (&[GrantTo<Permission>], Option<Fingerprint>),
    input: &Input,
    account: &Account,
    reader: &Reader,
    me: &Me,
    stage: &Stage,
) -> Result<Outline, Failure> {
    let path = match &args.path {
        Some(path) => path.clone(),
        None => default_path(me, account.id)?,
    };
    let (outline, standing) = look_from(path, args, meant, input, account, reader, me, stage).await?;
    match standing {
        Some(path) => Ok(look_from(path, args, meant, input, account, reader, me, stage).await?.0),
        None => Ok(outline),
    }
}

/// The same for the notebook at this path, and the notebook that the workflow runs now if that is another one to keep.
#[expect(clippy::too_many_arguments, reason = "what the look takes, and the path")]
async fn look_from(
    path: NotebookPath,
    args: &Args,
    (grants, compare): (&[GrantTo<Permission>], Option<Fingerprint>),
    input: &Input,
    account: &Account,
    reader: &Reader,
    me: &Me,
    stage: &Stage,
) -> Result<(Outline, Option<NotebookPath>), Failure> {
    let consents = Consents::default()
        .with(Consent::Rotate, args.rotate)
        .with(Consent::AcceptSharedScope, args.accept_shared_scope)
        .with(Consent::AcceptSharedPath, args.accept_shared_path)
        .with(Consent::Force, args.force)
        .with(Consent::Adopt, args.adopt);
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
    let want = SecretWant {
        scope: scope.clone(),
        key: key.clone(),
        compare,
        accept_open: consents.has(Consent::AcceptSharedScope),
        meant: Vec::new(),
    };
    let looks = async { tokio::try_join!(look_up(input, stage), keep(reader, want, grants.to_vec(), &consents)) };
    let (looked_up, mut kept) = looks.await?;
    let drawn = draw(reader, input, looked_up, &ground, me, stage).await?;
    let standing = drawn.standing_notebook(input);
    let Drawn { steps: drawn, warnings } = drawn;
    let mut rest = Vec::new();
    for step in drawn {
        if let Planned::Grant(grant) = step {
            // Whoever the runs act as may have been named too, and with more.
            if !names(&kept, &grant.want.principal) {
                kept.grants.push(grant);
            }
        } else {
            rest.push(step);
        }
    }
    kept.settle_for(me, &consents);
    let Kept { scope: scope_step, secret, grants } = kept;
    let readers = secret.have.as_ref().map(|have| have.readers.clone());
    let mut steps = vec![Planned::Scope(scope_step), Planned::Secret(secret)];
    steps.extend(grants.into_iter().map(Planned::Grant));
    steps.push(Planned::Notebook(notebook));
    steps.extend(rest);
    Ok((Outline { plan: Plan { steps }, scope, key, readers, ground, warnings }, standing))
}

fn names(kept: &Kept, principal: &str) -> bool {
    kept.grants.iter().any(|step| step.want.principal.eq_ignore_ascii_case(principal))
}
