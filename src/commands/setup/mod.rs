//! `setup`: secret, notebook and workflow in one plan, with the same engine as their own commands.

mod again;
mod setup_plan;
mod shown;

use std::collections::BTreeMap;

use futures_util::future::maybe_done;

use self::again::commands;
use self::setup_plan::{SetupPlan, Specs, observe_before_identity, plan_setup};
use self::shown::{Row, accept, rows};
use super::create_workflow::{
    Caller, Check, Input, JobArguments, RunNow, THEN_CHECKED, THEN_RUN, TargetWorkflow, WorkflowFlags, check_and_run,
    report_workflow,
};
use super::init_secrets::{Storing, key_to_store, now_read, tried_key, try_key, warn_of_readers};
use super::shared::job_argument::JobFilterFlags;
use super::shared::provision::{ConfirmationFlags, Finish, Provision, poll_alongside, who};
use super::{CommandContext, databricks_client};
use crate::credentials::{Account, InputErrors, KeySource, Sourced, Token};
use crate::databricks::secrets::{Fingerprint, KeyName, Permission, ScopeName};
use crate::engine::kinds::NotebookHave;
use crate::engine::{Consent, Consents, Inputs, Plan, Step, blocked};
use crate::failure::{Code, Ended, Failure, Report};
use crate::line::Line;
use crate::questions::PlanSetting;
use crate::secret::Secret;
use crate::spec::grants::{self, GrantTo};
use crate::spec::{
    NotebookSettings, NotebookSpec, SecretSpec, Setting, TaskSpec, WorkflowSettings, WorkflowSpec, parse_flags,
    read_name, read_run_as, read_start, secret_names,
};

/// Set up secret, notebook, and workflow
///
/// Asks for what is missing, shows the plan, and applies it once you confirm: stores the dbt API key in a secret scope,
/// deploys the notebook, creates a Databricks job for one dbt job, and checks it with a run that starts nothing in dbt.
/// Then it offers a first run and prints the equivalent commands for CI. Safe to repeat: existing objects are kept, and
/// an interrupted setup resumes where it stopped.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "At a terminal, `dbtrigger setup` is all you need. Elsewhere, pass flags and variables, and -y to apply the plan.

Examples:
  dbtrigger setup --job 222222 -y
  dbtrigger setup --job 222222 --dry-run
  dbtrigger setup --job 'Nightly build' --schedule '0 0 6 * * ?' --timezone Europe/Berlin -y
  dbtrigger setup --job 222222 --token-file new-key -y --run-now
  dbtrigger setup --job 222222 --rotate --token-file new-key --grant data-engineers -y
  dbtrigger setup --job 222222 --run-as bo@example.com --dry-run"
)]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag, as clap reads them")]
pub(crate) struct Args {
    #[command(flatten)]
    confirmation: ConfirmationFlags,
    /// Overwrite manual edits in what dbtrigger manages
    #[arg(long, hide_short_help = true)]
    force: bool,
    /// Take over a notebook, or a job with the same name, that dbtrigger did not create
    #[arg(long, hide_short_help = true)]
    adopt: bool,
    /// dbt job: ID, URL, or name
    #[arg(long, value_name = "JOB", help_heading = "Job")]
    job: Option<String>,
    #[command(flatten, next_help_heading = "Job")]
    job_filter: JobFilterFlags,
    /// Name of the workflow
    #[arg(
        long,
        value_name = "NAME",
        help_heading = "Job",
        hide_short_help = true,
        help = "Name of the workflow [default: dbt: <job name> (<job ID>)]"
    )]
    name: Option<String>,
    /// Secret scope for the dbt API key [default: the notebook's, or dbt-cloud]
    #[arg(long, value_name = "SCOPE", help_heading = "Access", hide_short_help = true)]
    scope: Option<ScopeName>,
    /// Key in the scope [default: the notebook's, or api-key]
    #[arg(long, value_name = "KEY", help_heading = "Access", hide_short_help = true)]
    key: Option<KeyName>,
    /// Compute, as `create-workflow` reads it.
    #[arg(
        long,
        value_name = "COMPUTE",
        help_heading = "Compute",
        help = "What to run on: serverless, cluster:ID, or new[:NODE_TYPE] [default: unchanged, or serverless]"
    )]
    compute: Option<String>,
    #[command(flatten)]
    workflow: WorkflowFlags,
    /// User (email) or service principal (ID) to run as
    ///
    /// Default: unchanged, or you. The identity is granted access to the key and the notebook.
    #[arg(long, value_name = "WHO", help_heading = "Access")]
    run_as: Option<String>,
    /// Create the schedule paused
    ///
    /// Start it later with `create-workflow --unpaused` or in the workspace.
    #[arg(long, help_heading = "Schedule", hide_short_help = true)]
    paused: bool,
    /// Grant access to the secret scope: READ (default), WRITE, or MANAGE; repeatable
    ///
    /// PRINCIPAL is a user (email), group (name), or service principal (application ID).
    #[arg(long, value_name = "PRINCIPAL[:LEVEL]", help_heading = "Access", hide_short_help = true)]
    grant: Vec<GrantTo<Permission>>,
    #[command(flatten, next_help_heading = "Access")]
    source: KeySource,
    /// Replace an existing dbt API key
    #[arg(long, help_heading = "Access")]
    rotate: bool,
    /// Store the key even if others can read the scope, or its readers are unknown
    ///
    /// "Others" means anyone except the principals named with --grant, the run-as identity, the scope's creator, and
    /// administrators.
    #[arg(long, help_heading = "Access", hide_short_help = true)]
    accept_shared_scope: bool,
    /// Allow a notebook under /Shared, where everyone in the workspace can edit it and so use the key
    #[arg(long, help_heading = "Access", hide_short_help = true)]
    accept_shared_path: bool,
    /// Run the workflow at the end and exit with its outcome
    #[arg(long, help_heading = "Run options")]
    run_now: bool,
}

impl Args {
    /// Whether the key is read from stdin, which rules out prompts.
    pub(crate) fn reads_stdin(&self) -> bool {
        self.source.token_stdin
    }

    /// The workflow. The run-as identity gets the access that it lacks.
    fn workflow_spec(&self, tasks: Vec<TaskSpec>, ctx: &CommandContext, errors: &mut InputErrors) -> WorkflowSpec {
        let name = errors.optional(self.name.clone().map(read_name).transpose());
        let now = ctx.context.wall.now();
        let WorkflowFlags { notebook, schedule, timezone } = &self.workflow;
        let (schedule, timezone) = read_start(schedule.as_deref(), timezone.as_deref(), now, errors);
        let compute = parse_flags(self.compute.as_deref(), None, None);
        let compute = errors.optional(compute.map(Some)).unwrap_or_default();
        let run_as = self.run_as.as_deref().map(read_run_as);
        let run_as = errors.optional(run_as.transpose()).into();
        let paused = self.paused.then_some(true).into();
        WorkflowSpec {
            name,
            tasks,
            notebook: notebook.clone(),
            compute,
            settings: WorkflowSettings { schedule, timezone, paused, run_as, ..WorkflowSettings::default() },
            grant_run_as: true,
            ..WorkflowSpec::default()
        }
    }

    /// The notebook, for this account.
    fn notebook_spec(&self, account: &Account) -> NotebookSpec {
        NotebookSpec {
            path: self.workflow.notebook.clone(),
            settings: NotebookSettings {
                host: account.origin.clone(),
                account_id: account.id,
                scope: self.scope.as_ref().map(ToString::to_string).into(),
                key: self.key.as_ref().map(ToString::to_string).into(),
                allow_override: Setting::Keep,
                allow_job: Setting::Keep,
            },
            grants: Vec::new(),
        }
    }

    fn consents(&self) -> Consents {
        Consents::default()
            .with(Consent::Rotate, self.rotate)
            .with(Consent::AcceptSharedScope, self.accept_shared_scope)
            .with(Consent::AcceptSharedPath, self.accept_shared_path)
            .with(Consent::Force, self.force)
            .with(Consent::Adopt, self.adopt)
    }

    /// Applies edits of the displayed plan; `None` restores the default.
    fn edit(&mut self, settings: &BTreeMap<PlanSetting, Option<String>>) {
        for (setting, value) in settings.clone() {
            match setting {
                PlanSetting::Scope => self.scope = value.and_then(|value| value.parse().ok()),
                PlanSetting::Notebook => self.workflow.notebook = value.and_then(|value| value.parse().ok()),
                PlanSetting::Compute => self.compute = value,
                PlanSetting::Schedule => self.workflow.schedule = value,
                PlanSetting::Zone => self.workflow.timezone = value,
                PlanSetting::RunAs => self.run_as = value,
            }
        }
    }
}

pub(crate) async fn run(args: Args, ctx: &CommandContext) -> Ended<Box<dyn Report>> {
    Box::pin(set_up(args, ctx)).await.unwrap_or_else(Ended::from)
}

/// Everything known before any request to Databricks.
struct Settled {
    args: Args,
    input: Input,
    secret: SecretSpec,
    key: Option<Sourced<Secret>>,
    /// What is missing for storing a key; reported only if one must be stored.
    storing: InputErrors,
}

/// Resolves flags, variables and answers; reports everything missing at once.
async fn settle(mut args: Args, ctx: &CommandContext) -> Result<Settled, Failure> {
    let grants = grants::settle(std::mem::take(&mut args.grant))?;
    args.edit(&ctx.prompts.answers.borrow().settings);
    let mut errors = InputErrors::default();
    args.confirmation.check(ctx, &mut errors);
    let mut storing = InputErrors::default();
    let (scope, key) = secret_names(args.scope.clone(), args.key.clone())?;
    let unless_stored = (!args.rotate && !ctx.prompts.key_is_stored).then(|| (scope.to_string(), key.to_string()));
    let value = key_to_store(&args.source, true, unless_stored, ctx, &mut storing).await;
    let job = args.job.clone().into_iter().collect();
    let (asked, tasks) =
        JobArguments::read(job, args.job_filter.clone(), TargetWorkflow::Own, Vec::new(), ctx, &mut errors);
    let spec = args.workflow_spec(tasks, ctx, &mut errors);
    let replacement = value.as_ref().filter(|_| args.rotate).map(|value| Fingerprint::of(&value.value));
    let caller = Caller::Setup { key: value.clone().map(|key| Box::new(Token::bare(key))) };
    let input = Input::resolve(spec, args.consents(), asked, (None, caller), ctx, &mut errors);
    // Only later lookups tell whether a key must be stored. Report it now if the command fails anyway or the key is
    // needed for certain.
    if !errors.is_settled() || storing.has_wrong() || (args.rotate && !storing.is_settled()) {
        errors.join(storing);
        errors.settle()?;
        return Err(Failure::new(Code::Bug, "a value is missing without a name"));
    }
    let Some(input) = input else {
        return Err(Failure::new(Code::Bug, "input is missing after it was resolved"));
    };
    let secret = SecretSpec { scope, key, replacement, grants };
    Ok(Settled { args, input, secret, key: value, storing })
}

async fn set_up(args: Args, ctx: &CommandContext) -> Result<Ended<Box<dyn Report>>, Failure> {
    let Settled { args, mut input, secret, key, storing } = settle(args, ctx).await?;
    let source = key.as_ref().map(|key| key.source.clone());
    input.find_jobs(ctx).await?;
    let Some(account) = input.dbt.clone() else {
        return Err(Failure::new(Code::Bug, "the dbt account is missing after it was resolved"));
    };
    // The notebook will send the key to this host, so the same rule applies as for sending it from here.
    account.check_bare_token("the dbt API key")?;
    let mut specs = Specs { secret, notebook: args.notebook_spec(&account), input };
    let writer = databricks_client(&specs.input.databricks, ctx)?;
    let (run_now, ConfirmationFlags { yes, dry_run }) = (args.run_now, args.confirmation);
    writer.preconnect(4, !dry_run);
    let to_store = key.map(|key| Storing { key, account: Some(account.clone()) });
    // Needed only if the key must be stored; checked in parallel with the lookups that tell.
    let mut tried = maybe_done(Box::pin(try_key(to_store.as_ref(), ctx)));
    let early = async { tokio::join!(who(&writer), observe_before_identity(&specs, &writer, ctx)) };
    let (me, early) = poll_alongside(&mut tried, Box::pin(early)).await;
    let (me, early) = (me?, early?);
    let looks = plan_setup(&mut specs, early, &writer, &me, ctx);
    let setup_plan = poll_alongside(&mut tried, Box::pin(looks)).await?;
    let mut inputs = Inputs::default();
    warn_of_unused_key(&args, &setup_plan, ctx);
    let refused = blocked(&setup_plan.plan).is_some();
    // A refused plan stores no key.
    if setup_plan.writes_key() && !refused {
        storing.settle()?;
        inputs.key = Some(tried_key(to_store.as_ref(), &mut tried, ctx).await?);
    }
    let rows = rows(&args, &specs.input, &account, &setup_plan, source.as_ref(), (writer.origin(), &me));
    let lines: Vec<Line> = rows.iter().map(Row::line).collect();
    setup_plan.warn(ctx);
    let prompter = ctx.prompts.prompter.clone().filter(|_| !yes);
    let setup_plan = match &prompter {
        Some(prompter) if !dry_run && !refused && setup_plan.plan.writes() => {
            let access = (writer.origin(), &me);
            if let Err(ended) = accept(&setup_plan, rows, run_now, access, &**prompter, ctx).await {
                return Ok(ended);
            }
            // The plan may be stale after the prompt; observe again, and apply only what was accepted.
            let early = observe_before_identity(&specs, &writer, ctx).await?;
            let again = Box::pin(plan_setup(&mut specs, early, &writer, &me, ctx)).await?;
            if again.plan.entries() != setup_plan.plan.entries() {
                let what = "the workspace changed while the plan was shown; nothing was written";
                return Err(Failure::new(Code::ChangedMeanwhile, what).run("see the new plan", "dbtrigger setup"));
            }
            again
        }
        Some(_) | None => setup_plan,
    };
    let SetupPlan { plan, scope, key, readers, prerequisites, warnings, .. } = setup_plan;
    let input = &specs.input;
    let provision = Provision { ctx, writer: &writer, me: &me, dry_run, inputs };
    let mut applied = provision.apply(plan).await;
    if readers.is_none() {
        // A new scope may be readable by all users.
        warn_of_readers(now_read(&applied.plan), &scope, ctx);
    }
    applied.field("scope", scope.as_str());
    applied.field("key", key.as_str());
    let again = commands(&args, input, &account, &applied.plan, (&scope, &key), writer.origin());
    let again = if refused || applied.finish == Finish::Failed { Vec::new() } else { again };
    let first_run = match prompter {
        _ if run_now => RunNow::Now,
        Some(prompter) => RunNow::Offered(prompter),
        None => RunNow::No,
    };
    let goes_on = !matches!(first_run, RunNow::No);
    let (mut applied, job) = report_workflow(applied, &writer, &me, ctx, &warnings, goes_on);
    let is_fine = applied.is_well() || (applied.finish == Finish::Shown && !refused);
    let job = job.filter(|_| is_fine && applied.failure.is_none());
    let check = match job.as_ref().zip(prerequisites.as_ref()) {
        Some((job, prerequisites)) => {
            let check = Check::of(job, &input.spec.tasks, prerequisites, &me);
            check.due(&state(&applied.plan), &writer).await
        }
        None => None,
    };
    if applied.finish == Finish::Shown && !refused {
        for line in lines {
            applied.line(line);
        }
        if check.is_some() || applied.plan.writes() {
            applied.line(THEN_CHECKED);
        }
        if run_now {
            applied.line(THEN_RUN);
        }
    }
    applied.field("commands", &again);
    let closing_lines = closing_lines(&again);
    if let Some(job) = job.filter(|_| !dry_run && (check.is_some() || goes_on)) {
        let access = (&input.databricks, &writer);
        return Ok(check_and_run(applied, check, &closing_lines, (job.id, first_run), access, ctx).await);
    }
    for line in closing_lines {
        applied.line(line);
    }
    Ok(applied.end())
}

/// The equivalent commands, for display.
fn closing_lines(again: &[String]) -> Vec<Line> {
    let title = (!again.is_empty()).then(|| "For CI, with the credentials of both services set:".into());
    title.into_iter().chain(again.iter().map(|line| format!("  {line}").into())).collect()
}

/// Warns if a key was given but is not used.
fn warn_of_unused_key(args: &Args, setup_plan: &SetupPlan, ctx: &CommandContext) {
    if !setup_plan.writes_key() && !args.rotate && args.source.is_given() {
        let (scope, key) = (&setup_plan.scope, &setup_plan.key);
        ctx.events.warning(format!("{scope}/{key} already exists and is kept; replace it with --rotate"));
    }
}

/// What a check depends on besides the workflow: the notebook's source, and when the key was last written.
fn state(plan: &Plan) -> String {
    let text = match plan.notebook().and_then(Step::present) {
        Some(NotebookHave::Notebook { object_id: _, text }) => Some(text.clone()),
        Some(NotebookHave::Other(_) | NotebookHave::NoFolder { .. }) | None => None,
    };
    let updated = plan.secret().and_then(Step::present).and_then(|have| have.updated);
    updated.map(|updated| updated.to_string()).into_iter().chain(text).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
