//! `setup`: the whole guide in one go, through the same engine as the commands for its steps.

mod again;
mod outline;
mod shown;

use std::collections::BTreeMap;

use futures_util::future::maybe_done;

use self::again::commands;
use self::outline::{Outline, look, look_early};
use self::shown::{Offered, Row, rows};
use super::create_workflow::{Check, Door, Input, One, Press, THEN_CHECKED, THEN_RUN, collect, describe, go_on};
use super::grants::GrantTo;
use super::init_secrets::{Storing, key_to_store, now_read, settle_grants, tried_key, try_key, warn_of_readers};
use super::job_named::Narrow;
use super::provision::{Finish, Provision, beside, no_plan, who};
use super::{Stage, to_databricks};
use crate::credentials::{KeySource, Missing, Sourced, Token, Wants};
use crate::databricks::secrets::{Fingerprint, KeyName, Permission, ScopeName};
use crate::databricks::workspace::NotebookPath;
use crate::engine::kinds::NotebookHave;
use crate::engine::{Inputs, Plan, Planned, blocked};
use crate::failure::{Code, Ended, Failure, Report};
use crate::questions::Setting;
use crate::secret::Secret;

/// Set up everything in one go: secret, notebook, workflow
///
/// Asks for what is not said, shows all that would be done, and does it once that is accepted: stores the dbt API key, deploys the
/// notebook, makes the Databricks job for one dbt job, and looks with a run in check mode whether its runs would reach dbt. Then it
/// offers a first run, and prints the same as commands for CI. What is there already is kept, so after an interruption the same
/// command goes on from there.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "At a terminal `dbtrigger setup` alone is enough. Without one, everything is given by flags and variables, and -y accepts the plan.

Examples:
  dbtrigger setup --job 222222 --dry-run
  dbtrigger setup --job 'Nightly build' --schedule '0 0 6 * * ?' --timezone Europe/Berlin -y
  dbtrigger setup --job 222222 --token-file new-key -y --run-now
  dbtrigger setup --job 222222 --rotate --token-file new-key --grant data-engineers -y
  dbtrigger setup --job 222222 --run-as bo@example.com --dry-run"
)]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag, as clap reads them")]
pub(crate) struct Args {
    /// The dbt job: its id, its address copied from the browser, or its name
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
    #[command(flatten)]
    narrow: Narrow,
    /// As a person gave it.
    #[arg(long, value_name = "NAME", help = "Name of the workflow [default: dbt: <name of the dbt job> (<id>)]")]
    name: Option<String>,
    /// Secret scope for the dbt API key [default: the notebook's, at first dbt-cloud]
    #[arg(long, value_name = "SCOPE")]
    scope: Option<ScopeName>,
    /// Name of the key in the scope [default: the notebook's, at first api-key]
    #[arg(long, value_name = "KEY")]
    key: Option<KeyName>,
    /// As a person gave it.
    #[arg(
        long,
        visible_alias = "notebook",
        value_name = "PATH",
        help = "Where the notebook goes [default: unchanged, at first /Users/<you>/dbtrigger/run_dbt_job_<account>]"
    )]
    path: Option<NotebookPath>,
    /// What the workflow runs on; `new` is the smallest machine for each run [default: unchanged, at first serverless]
    #[arg(long, value_name = "serverless|cluster:ID|job-cluster:KEY|new[:NODE_TYPE]")]
    compute: Option<String>,
    /// Quartz cron expression by which the workflow starts, such as `0 0 6 * * ?` [default: unchanged, at first none]
    #[arg(long, value_name = "CRON")]
    schedule: Option<String>,
    /// Time zone of the schedule by its IANA name, such as Europe/Berlin [default: unchanged, at first UTC]
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// Whom the runs act as: a user's e-mail, or a service principal's application id; gets access to key and notebook [default: unchanged, at first you]
    #[arg(long, value_name = "WHO")]
    run_as: Option<String>,
    /// Let the schedule wait until somebody lets it run: `create-workflow --unpaused`, or the switch in the workspace
    #[arg(long)]
    paused: bool,
    /// Give another user (e-mail), group (name) or service principal (application id) access to the scope of the key: READ if not said; repeatable
    #[arg(long, value_name = "PRINCIPAL[:READ|WRITE|MANAGE]")]
    grant: Vec<GrantTo<Permission>>,
    #[command(flatten)]
    source: KeySource,
    /// Replace a key that is there
    #[arg(long)]
    rotate: bool,
    /// Store the key although others than those named with --grant, whoever the runs act as, the scope's creator and administrators can read it, or nobody can tell who can
    #[arg(long)]
    accept_shared_scope: bool,
    /// Put the notebook below /Shared, where everybody in the workspace can edit it and so use the key
    #[arg(long)]
    accept_shared_path: bool,
    /// Undo what was edited by hand in what dbtrigger manages
    #[arg(long)]
    force: bool,
    /// Take over a notebook, or a job of the same name, that dbtrigger did not make
    #[arg(long)]
    adopt: bool,
    /// Run the workflow at the end, and wait: its outcome is the outcome of this command
    #[arg(long)]
    run_now: bool,
    /// Accept the plan without being asked
    #[arg(short, long)]
    yes: bool,
    /// Show what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    /// The key comes from there, so no answer can.
    pub(crate) fn reads_stdin(&self) -> bool {
        self.source.token_stdin
    }

    /// Applies what was edited in the plan on the screen; without a value it is the default again.
    fn edit(&mut self, settings: &BTreeMap<Setting, Option<String>>) {
        for (setting, value) in settings.clone() {
            match setting {
                Setting::Scope => self.scope = value.and_then(|value| value.parse().ok()),
                Setting::Notebook => self.path = value.and_then(|value| value.parse().ok()),
                Setting::Compute => self.compute = value,
                Setting::Schedule => self.schedule = value,
                Setting::Zone => self.timezone = value,
                Setting::RunAs => self.run_as = value,
            }
        }
    }
}

pub(crate) async fn run(args: Args, stage: &Stage) -> Ended<Box<dyn Report>> {
    match Box::pin(set_up(args, stage)).await {
        Ok(ended) => ended,
        Err(failure) => failure.into(),
    }
}

/// Everything that is known before Databricks is asked what is there.
struct Known {
    args: Args,
    input: Input,
    /// Who else may use the scope.
    grants: Vec<GrantTo<Permission>>,
    key: Option<Sourced<Secret>>,
    /// What is missing for storing a key; of interest only if one has to be stored.
    storing: Wants,
}

/// Settles flags, variables and answers; everything missing is named at once.
async fn settle(mut args: Args, stage: &Stage) -> Result<Known, Failure> {
    let grants = settle_grants(std::mem::take(&mut args.grant), args.accept_shared_scope)?;
    args.edit(&stage.talk.settings);
    let mut wants = Wants::default();
    let may_ask = stage.talk.asker.is_some();
    if !may_ask && !args.yes && !args.dry_run {
        let give = "-y, once --dry-run has shown it; at a terminal it is asked for";
        wants.need(Ok(None::<()>), Missing { what: "your consent to the plan", give, ask: None });
    }
    let mut storing = Wants::default();
    let key = key_to_store(&args.source, true, stage, &mut storing).await;
    let one = One {
        job: args.job.clone(),
        narrow: args.narrow.clone(),
        name: args.name.clone(),
        notebook: args.path.clone(),
        compute: args.compute.clone(),
        schedule: args.schedule.clone(),
        timezone: args.timezone.clone(),
        paused: args.paused,
        run_as: args.run_as.clone(),
        adopt: args.adopt,
        force: args.force,
    };
    let input =
        collect(one.into(), Door::Guide { key: key.clone().map(|key| Box::new(Token::bare(key))) }, stage, &mut wants);
    // Whether a key has to be stored is known only after a look. But if the command has to fail anyway, or the key is
    // certain to be used, it is named too.
    if !wants.is_settled() || storing.has_wrong() || (args.rotate && !storing.is_settled()) {
        wants.join(storing);
        wants.settle()?;
        return Err(Failure::new(Code::Bug, "Something is missing that nobody can name."));
    }
    let Some(input) = input else {
        return Err(Failure::new(Code::Bug, "The input is settled and yet something is missing."));
    };
    Ok(Known { args, input, grants, key, storing })
}

async fn set_up(args: Args, stage: &Stage) -> Result<Ended<Box<dyn Report>>, Failure> {
    let Known { args, mut input, grants, key, storing } = settle(args, stage).await?;
    let source = key.as_ref().map(|key| key.source.clone());
    let compare = key.as_ref().filter(|_| args.rotate).map(|key| Fingerprint::of(&key.value));
    input.find_jobs(stage).await?;
    let Some((account, _)) = input.access.clone() else {
        return Err(Failure::new(Code::Bug, "The dbt account is settled and yet missing."));
    };
    // The notebook will send the key there, so the same rule holds as for sending it from here.
    account.check_bare_token("The dbt API key")?;
    let writer = to_databricks(&input.databricks, stage)?;
    let (run_now, yes, dry_run) = (args.run_now, args.yes, args.dry_run);
    writer.open_ahead(4, !dry_run);
    let to_store = key.map(|key| Storing { key, account: Some(account.clone()) });
    // Of interest only if the key has to be stored, and asked beside what tells that.
    let mut tried = maybe_done(Box::pin(try_key(to_store.as_ref(), stage)));
    let meant = (grants.as_slice(), compare);
    let early = async { tokio::join!(who(&writer), look_early(&args, meant, &input, &writer, stage)) };
    let (me, early) = beside(&mut tried, Box::pin(early)).await;
    let (me, early) = (me?, early?);
    let looks = look(&args, (early, meant), &input, &account, &writer, &me, stage);
    let outline = match beside(&mut tried, Box::pin(looks)).await {
        Ok(outline) => outline,
        Err(failure) => return no_plan(failure, dry_run, &stage.given(), &writer, &me),
    };
    let mut inputs = Inputs::default();
    warn_of_unused_key(&args, &outline, stage);
    if outline.writes_key() {
        storing.settle()?;
        inputs.key = Some(tried_key(to_store.as_ref(), &mut tried, stage).await?);
    }
    let rows = rows(&args, &input, &account, &outline, source.as_ref(), (writer.origin(), &me));
    let lines: Vec<String> = rows.iter().map(Row::line).collect();
    outline.warn(stage);
    let refused = blocked(&outline.plan).is_some();
    let asker = stage.talk.asker.clone().filter(|_| !yes);
    let outline = match &asker {
        Some(asker) if !dry_run && !refused && outline.plan.writes() => {
            let offered = Offered::of(&outline, rows, run_now, writer.origin(), &me);
            if let Err(ended) = offered.accept(&**asker, stage).await {
                return Ok(ended);
            }
            // It was looked at for as long as somebody wanted to: only what was accepted is done.
            let early = look_early(&args, meant, &input, &writer, stage).await?;
            let again = Box::pin(look(&args, (early, meant), &input, &account, &writer, &me, stage)).await?;
            if again.plan.entries() != outline.plan.entries() {
                let what = "What is there has changed while the plan was shown; nothing was written.";
                return Err(Failure::new(Code::ChangedMeanwhile, what).run("dbtrigger setup"));
            }
            again
        }
        Some(_) | None => outline,
    };
    let Outline { plan, scope, key, readers, ground, warnings, .. } = outline;
    let provision = Provision { stage, writer: &writer, me: &me, dry_run, inputs };
    let mut carried = provision.carry_out(plan).await;
    if readers.is_none() {
        // A scope that was made just now may have come out open to everybody.
        warn_of_readers(now_read(&carried.plan), &scope, stage);
    }
    carried.field("scope", scope.as_str());
    carried.field("key", key.as_str());
    let again = commands(&args, &input, &account, &carried.plan, (&scope, &key), writer.origin());
    let again = if refused || carried.finish == Finish::Failed { Vec::new() } else { again };
    let press = match asker {
        _ if run_now => Press::Now,
        Some(asker) => Press::Offered(asker),
        None => Press::No,
    };
    let goes_on = !matches!(press, Press::No);
    let (mut carried, job) = describe(carried, &writer, &me, stage, &warnings, goes_on);
    let is_fine = carried.is_well() || (carried.finish == Finish::Shown && !refused);
    let job = job.filter(|_| is_fine && carried.failure.is_none());
    let check = match &job {
        Some(job) => {
            let check = Check::of(job, &input.jobs, &ground, &me);
            check.due(&state(&carried.plan), &writer).await
        }
        None => None,
    };
    if carried.finish == Finish::Shown && !refused {
        for line in lines {
            carried.line(line);
        }
        if check.is_some() || carried.plan.writes() {
            carried.line(THEN_CHECKED);
        }
        if run_now {
            carried.line(THEN_RUN);
        }
    }
    carried.field("commands", &again);
    let parting = parting(&again);
    if let Some(job) = job.filter(|_| !dry_run && (check.is_some() || goes_on)) {
        let access = (&input.databricks, &writer);
        return Ok(go_on(carried, check, &parting, (job.id, press), access, stage).await);
    }
    for line in parting {
        carried.line(line);
    }
    Ok(carried.end())
}

/// The commands for people.
fn parting(again: &[String]) -> Vec<String> {
    let title =
        (!again.is_empty()).then(|| "The same for CI, where the credentials of both services are set:".to_owned());
    title.into_iter().chain(again.iter().map(|line| format!("  {line}"))).collect()
}

/// A key that somebody gave is not passed over in silence.
fn warn_of_unused_key(args: &Args, outline: &Outline, stage: &Stage) {
    if !outline.writes_key() && !args.rotate && args.source.is_given() {
        let (scope, key) = (&outline.scope, &outline.key);
        stage.events.warning(format!(
            "There is a key in {scope}/{key} already, which is left as it is and not compared with the one that was given: --rotate replaces it."
        ));
    }
}

/// What a check depends on beside the workflow: the text of the notebook, and when the key was written last.
fn state(plan: &Plan) -> String {
    let of = |step: &Planned| match step {
        Planned::Notebook(step) => match step.present() {
            Some(NotebookHave::Notebook { object_id: _, text }) => Some(text.clone()),
            Some(NotebookHave::Other(_) | NotebookHave::NoFolder { .. }) | None => None,
        },
        Planned::Secret(step) => step.present().and_then(|have| have.updated).map(|updated| updated.to_string()),
        Planned::Scope(_)
        | Planned::Grant(_)
        | Planned::NotebookGrant(_)
        | Planned::Workflow(_)
        | Planned::AddedTask(_)
        | Planned::JobGrant(_) => None,
    };
    plan.steps.iter().filter_map(of).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
