//! `init-secrets`: creates the scope, stores the dbt API key in it and grants access.

use std::pin::Pin;

use futures_util::future::{MaybeDone, maybe_done, try_join_all};

use super::CommandContext;
use super::shared::dbt_accounts::validate;
use super::shared::near_scopes::{NearScopes, near_scopes};
use super::shared::provision::{Provision, caller_and, poll_alongside};
use crate::credentials::{self, Account, InputErrors, KeySource, MissingInput, SignIn, Sourced, Token};
use crate::databricks::permissions::Level as _;
use crate::databricks::secrets::{EVERYBODY, Fingerprint, KeyName, Permission, ScopeName};
use crate::document::{Data, ToDocument as _, document};
use crate::engine::kinds::{Grant, GrantWant, Readers, Scope, ScopeWant, Secret, SecretWant, format_acls};
use crate::engine::{Consent, Consents, Inputs, Plan, Planned, Step, blocked};
use crate::failure::{Code, Ended, Failure, Report};
use crate::http::Reader;
use crate::questions::Question;
use crate::secret::Secret as Value;
use crate::spec::grants::{self, GrantTo};
use crate::spec::{DEFAULT_KEY, DEFAULT_SCOPE, SecretSpec};
use crate::text::quoted;

/// Store the dbt API key in a secret scope
///
/// Creates the scope if it is missing, stores the key, and grants access. The key is checked with dbt before anything is written.
/// An existing key is kept unless you pass --rotate.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "The key is read from --token-stdin, --token-file, DBT_CLOUD_TOKEN, or a hidden prompt; never from \
~/.dbt/dbt_cloud.yml. No flag takes its value.

Examples:
  dbtrigger init-secrets --grant data-engineers
  dbtrigger init-secrets --rotate --token-file new-key --grant data-engineers
  dbtrigger init-secrets --scope team --accept-shared-scope --no-validate --dry-run"
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the contract")]
pub(crate) struct Args {
    /// Secret scope
    #[arg(long, value_name = "SCOPE", default_value = DEFAULT_SCOPE)]
    scope: ScopeName,
    /// Key in the scope
    #[arg(long, value_name = "KEY", default_value = DEFAULT_KEY)]
    key: KeyName,
    /// Grant access to the scope: READ (default), WRITE, or MANAGE; repeatable
    ///
    /// PRINCIPAL is a user (email), group (name), or service principal (application ID).
    #[arg(long, value_name = "PRINCIPAL[:LEVEL]", help_heading = "Access")]
    grant: Vec<GrantTo<Permission>>,
    #[command(flatten)]
    source: KeySource,
    /// Replace an existing key
    #[arg(long)]
    rotate: bool,
    /// Store the key even if others can read the scope, or its readers are unknown
    ///
    /// "Others" means anyone except the principals named with --grant, the scope's creator, and administrators.
    #[arg(long, help_heading = "Access")]
    accept_shared_scope: bool,
    /// Store the key without checking it with dbt
    #[arg(long)]
    no_validate: bool,
    /// Show the plan and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    /// Whether the key is read from stdin, which rules out prompts.
    pub(crate) fn reads_stdin(&self) -> bool {
        self.source.token_stdin
    }
}

pub(crate) async fn run(args: Args, ctx: &CommandContext) -> Ended<Box<dyn Report>> {
    provision(args, ctx).await.unwrap_or_else(Ended::from)
}

async fn provision(args: Args, ctx: &CommandContext) -> Result<Ended<Box<dyn Report>>, Failure> {
    let Args { scope, key, grant, source, rotate, accept_shared_scope, no_validate, dry_run } = args;
    let grants = grants::settle(grant)?;
    let mut errors = InputErrors::default();
    let identity = credentials::databricks(&ctx.context.environment, &ctx.vault, &mut errors);
    let mut storing = InputErrors::default();
    let value = Storing::find(&source, no_validate, ctx, &mut storing).await;
    // Only later lookups tell whether a key must be stored. Report it now if the command fails anyway or the key is
    // needed for certain.
    if !errors.is_settled() || storing.has_wrong() || (rotate && !storing.is_settled()) {
        errors.join(storing);
        errors.settle()?;
        return Err(Failure::new(Code::Bug, "a value is missing without a name"));
    }
    let Some(identity) = identity else {
        return Err(Failure::new(Code::Bug, "the Databricks identity is missing after it was resolved"));
    };
    let writer = super::databricks_client(&identity, ctx)?;

    let consents =
        Consents::default().with(Consent::Rotate, rotate).with(Consent::AcceptSharedScope, accept_shared_scope);
    let replacement = value.as_ref().filter(|_| rotate).map(|value| Fingerprint::of(&value.key.value));
    let spec = SecretSpec { scope: scope.clone(), key: key.clone(), replacement, grants };
    let reader = writer.reader();
    let looks = plan_secret(&reader, &spec, &consents);
    // Needed only if the key must be stored; checked in parallel with the lookups that tell.
    let mut tried = maybe_done(Box::pin(try_key(value.as_ref(), ctx)));
    let (me, SecretPlan { steps, near }) =
        poll_alongside(&mut tried, Box::pin(caller_and(&reader, Box::pin(looks)))).await?;
    let plan = Plan::new(steps, Vec::new(), &me.user_name);
    let have = plan.secret().and_then(|step| step.have.as_ref());
    let key_is_there = have.is_some_and(|have| have.is_there);
    let readers = have.map(|have| have.readers.clone());
    let found_scope = plan.scope().and_then(|step| step.have.as_ref());
    // The notebook uses the stored spelling of the scope.
    let named = names(found_scope.map_or(scope.as_str(), |have| &have.name), &key);

    let mut inputs = Inputs::default();
    // A refused plan stores no key.
    if plan.secret().is_some_and(Step::writes) && blocked(&plan).is_none() {
        storing.settle()?;
        inputs.key = Some(tried_key(value.as_ref(), &mut tried, ctx).await?);
    }
    warn_of_readers(readers.as_ref(), &scope, ctx);
    if found_scope.is_none() {
        near.warn(&scope, ctx);
    }

    let provision = Provision { ctx, writer: &writer, me: &me, dry_run, inputs };
    let mut applied = provision.apply(plan).await;
    applied.field("scope", scope.as_str());
    applied.field("key", key.as_str());
    if readers.is_none() {
        // A new scope may be readable by all users.
        warn_of_readers(now_read(&applied.plan), &scope, ctx);
    }
    if let Some(readers) = readers {
        applied.field("readers", readers_in_json(&readers));
        if let Readers::Listed(acls) = &readers {
            applied.line(format!("Readers of scope {scope}: {}, and administrators.", format_acls(acls)));
        }
    }
    if applied.is_well() {
        if key_is_there && !rotate {
            let grants = spec.grants.iter().map(|grant| [" --grant ".to_owned(), quoted(&grant.to_string())].concat());
            let again: String = grants.collect();
            applied.next("replace the key", format!("dbtrigger init-secrets{named} --rotate{again}"));
        }
        applied.next("deploy the notebook", format!("dbtrigger deploy-notebook{named}"));
    }
    Ok(applied.end())
}

/// The scope, its key and the grants, and scopes with similar names.
pub(super) struct SecretPlan {
    pub(super) steps: Vec<Planned>,
    pub(super) near: NearScopes,
}

/// Plans the scope, its key and the grants.
pub(super) async fn plan_secret(
    reader: &Reader,
    spec: &SecretSpec,
    consents: &Consents,
) -> Result<SecretPlan, Failure> {
    let SecretSpec { scope, key, replacement, grants } = spec;
    let want =
        SecretWant { scope: scope.clone(), key: key.clone(), compare: *replacement, intended_readers: Vec::new() };
    let granting = grants.iter().cloned().map(|GrantTo { principal, level }| {
        Step::<Grant>::plan(reader, GrantWant { scope: scope.clone(), principal, permission: level }, consents)
    });
    let (scope, secret, grants, near) = tokio::try_join!(
        Step::<Scope>::plan(reader, ScopeWant { scope: scope.clone() }, consents),
        Step::<Secret>::plan(reader, want, consents),
        try_join_all(granting),
        async { Ok(near_scopes(reader, scope).await) }
    )?;
    let mut steps = vec![Planned::Scope(scope), Planned::Secret(secret)];
    steps.extend(grants.into_iter().map(Planned::Grant));
    Ok(SecretPlan { steps, near })
}

/// Warns about readers before a key is stored.
pub(super) fn warn_of_readers(readers: Option<&Readers>, scope: &ScopeName, ctx: &CommandContext) {
    let Some(readers) = readers else { return };
    if readers.everybody().is_some() {
        let why = match readers {
            Readers::NoAcls => " (no Premium plan, so no access control)",
            Readers::Listed(_) | Readers::Hidden => "",
        };
        ctx.events.warning(format!("every user of this workspace can read secret scope {scope}{why}"));
    } else if *readers == Readers::Hidden {
        ctx.events.warning(format!(
            "cannot list the readers of secret scope {scope}: that requires MANAGE, which its creator and administrators have"
        ));
    }
}

/// Who can read the scope, as of the read after the write.
pub(super) fn now_read(plan: &Plan) -> Option<&Readers> {
    plan.secret().and_then(|step| step.now.as_ref()).map(|now| &now.readers)
}

fn readers_in_json(readers: &Readers) -> Data {
    match readers {
        Readers::Listed(acls) => {
            let of = |acl: &crate::databricks::secrets::Acl| document!({ "principal": acl.principal, "permission": acl.permission });
            acls.iter().map(of).collect::<Vec<_>>().to_document()
        }
        Readers::NoAcls => {
            [document!({ "principal": EVERYBODY, "permission": Permission::Manage.name() })].to_document()
        }
        Readers::Hidden => Data::default(),
    }
}

/// The flags for this scope and key in the next command; empty for defaults.
pub(super) fn names(scope: &str, key: &KeyName) -> String {
    let flag = |name: &str, value: &str, default: &str| {
        if value == default { String::new() } else { format!(" {name} {value}") }
    };
    flag("--scope", scope, DEFAULT_SCOPE) + &flag("--key", key.as_str(), DEFAULT_KEY)
}

/// The key to store, and the account to validate it with, unless turned off.
pub(super) struct Storing {
    pub(super) key: Sourced<Value>,
    pub(super) account: Option<Account>,
}

/// The key to store; `tried`: dbt validates it first.
pub(super) async fn key_to_store(
    source: &KeySource,
    tried: bool,
    unless_stored: Option<(String, String)>,
    ctx: &CommandContext,
    errors: &mut InputErrors,
) -> Option<Sourced<Value>> {
    errors.need(
        credentials::key_to_store(source, &ctx.context.environment, &ctx.vault).await,
        MissingInput::sign_in(
            SignIn::DbtToken,
            &ctx.context.environment,
            Some(Question::DbtKey { tried, unless_stored }),
        )
        .given_with("--token-stdin/--token-file"),
    )
}

impl Storing {
    async fn find(
        source: &KeySource,
        no_validate: bool,
        ctx: &CommandContext,
        errors: &mut InputErrors,
    ) -> Option<Storing> {
        let key = key_to_store(source, !no_validate, None, ctx, errors).await;
        if no_validate {
            return Some(Storing { key: key?, account: None });
        }
        let account = credentials::account(&ctx.account, &[], &ctx.context.environment, errors);
        Some(Storing { key: key?, account: Some(account?) })
    }

    /// Prints remarks about the key.
    pub(super) fn remark(&self, ctx: &CommandContext) {
        let Storing { key: Sourced { value, source }, account } = self;
        if value.reveal().starts_with("dbtu_") {
            ctx.events.warning(format!(
                "the key from {source} is a personal token: anyone who can read the secret can act as you in dbt; use a service token (dbtc_) instead"
            ));
        }
        if account.is_none() {
            ctx.events.warning(format!("the key from {source} was not checked with dbt (--no-validate)"));
        }
    }

    /// Validates the key with dbt before it is stored.
    async fn validate(&self, ctx: &CommandContext) -> Result<(), Failure> {
        let Some(account) = &self.account else { return Ok(()) };
        account.check_bare_token(&self.key.source.to_string())?;
        let token = Token::bare(self.key.clone());
        let dbt = super::dbt_client(account, &token, ctx)?;
        validate(&dbt, account.id).await
    }
}

/// Returns the key once dbt accepts it; `tried` is the running or finished [`try_key`].
pub(super) async fn tried_key<S: Future<Output = Result<(), Failure>> + Unpin>(
    storing: Option<&Storing>,
    tried: &mut MaybeDone<S>,
    ctx: &CommandContext,
) -> Result<Value, Failure> {
    let Some(storing) = storing else {
        return Err(Failure::new(Code::Bug, "the key is missing after it was resolved"));
    };
    storing.remark(ctx);
    (&mut *tried).await;
    Pin::new(tried).take_output().transpose()?;
    Ok(storing.key.value.clone())
}

/// Validates a key with dbt, if there is one.
pub(super) async fn try_key(storing: Option<&Storing>, ctx: &CommandContext) -> Result<(), Failure> {
    match storing {
        Some(storing) => storing.validate(ctx).await,
        None => Ok(()),
    }
}
