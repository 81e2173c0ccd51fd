//! `deploy-notebook`: renders the notebook and uploads it to the workspace.

use futures_util::future::try_join_all;

use super::CommandContext;
use super::shared::default_path::default_path;
use super::shared::last_seen::LastSeen;
use super::shared::near_scopes::near_scopes;
use super::shared::provision::{Applied, Finish, Provision, caller_and, who};
use crate::credentials::{self, Account, InputErrors};
use crate::databricks::me::Me;
use crate::databricks::permissions::NotebookLevel;
use crate::databricks::secrets::{KeyName, ScopeName};
use crate::databricks::workspace::NotebookPath;
use crate::document::{Data, Id, document};
use crate::engine::kinds::{GUESS_LIMIT, Notebook, NotebookGrant, NotebookHave, NotebookWant, VERSION};
use crate::engine::{Consent, Consents, Inputs, Plan, Planned, Step};
use crate::failure::{Code, Ended, Failure, Report};
use crate::http::Reader;
use crate::notebook::{OverrideKey, digest};
use crate::spec::Setting;
use crate::spec::grants::{self, GrantTo};
use crate::text::quoted;

/// Deploy the notebook that runs a dbt job
///
/// Imports a readable Python notebook into the workspace. It starts a dbt job, waits for it, and fails if the job fails. The host
/// that receives the key is fixed in it. A notebook that was edited by hand, or that dbtrigger did not create, is not overwritten
/// unless you ask for it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  dbtrigger deploy-notebook
  dbtrigger deploy-notebook --grant data-engineers:CAN_RUN
  dbtrigger deploy-notebook --allow-override git_branch --allow-job 222222 --dry-run
  dbtrigger deploy-notebook --print")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the contract")]
pub(crate) struct Args {
    /// Where the notebook goes
    #[arg(
        long = "notebook",
        alias = "path",
        value_name = "PATH",
        help = "Workspace path of the notebook [default: /Users/<you>/dbtrigger/run_dbt_job_<account>]"
    )]
    path: Option<NotebookPath>,
    /// Allow a path under /Shared, where everyone in the workspace can edit the notebook and so use the key
    #[arg(long, help_heading = "Access", hide_short_help = true)]
    accept_shared_path: bool,
    /// Secret scope that holds the dbt API key [default: unchanged, or dbt-cloud]
    #[arg(long, value_name = "SCOPE")]
    scope: Option<ScopeName>,
    /// Key in the scope [default: unchanged, or api-key]
    #[arg(long, value_name = "KEY")]
    key: Option<KeyName>,
    /// Let whoever starts the workflow set this override, such as git_branch; repeatable, none clears [default:
    /// unchanged, or none]
    #[arg(long, value_name = "OVERRIDE", value_parser = parse_override, help_heading = "Run options")]
    allow_override: Vec<Setting<OverrideKey>>,
    /// Start only this dbt job; repeatable, any clears [default: unchanged, or any]
    #[arg(long, value_name = "ID", value_parser = parse_job, help_heading = "Run options")]
    allow_job: Vec<Setting<u64>>,
    /// Grant access to the notebook: CAN_READ, CAN_RUN (default), CAN_EDIT, or CAN_MANAGE; repeatable
    ///
    /// PRINCIPAL is a user (email), group (name), or service principal (application ID). Existing access is never removed.
    #[arg(long, value_name = "PRINCIPAL[:LEVEL]", help_heading = "Access")]
    grant: Vec<GrantTo<NotebookLevel>>,
    /// Overwrite manual edits, a newer version, or a notebook that reads or sends the key elsewhere
    #[arg(long)]
    force: bool,
    /// Overwrite a notebook that dbtrigger did not create
    #[arg(long)]
    adopt: bool,
    /// Print the notebook instead of deploying it; sends nothing to Databricks
    #[arg(long, conflicts_with_all = ["path", "accept_shared_path", "grant", "force", "adopt", "dry_run"], help_heading = "Output")]
    print: bool,
    /// Show the plan and write nothing
    #[arg(long)]
    dry_run: bool,
}

fn parse_override(text: &str) -> Result<Setting<OverrideKey>, String> {
    if text == "none" {
        return Ok(Setting::Clear);
    }
    OverrideKey::named(text).map(Setting::Set).ok_or_else(|| {
        let names: Vec<&str> = OverrideKey::ALL.into_iter().map(OverrideKey::name).collect();
        format!("the overrides are none, {}", names.join(", "))
    })
}

fn parse_job(text: &str) -> Result<Setting<u64>, String> {
    if text == "any" {
        return Ok(Setting::Clear);
    }
    match text.parse::<u64>() {
        Ok(id) if id > 0 && !text.starts_with('+') => Ok(Setting::Set(id)),
        Ok(_) | Err(_) => Err("a dbt job ID is a number such as 222222; `any` clears".to_owned()),
    }
}

/// Settings of the notebook, before its path is known.
#[derive(Clone)]
pub(super) struct NotebookSettings {
    pub(super) account: Account,
    pub(super) scope: Setting<String>,
    pub(super) key: Setting<String>,
    pub(super) allow_override: Setting<Vec<OverrideKey>>,
    pub(super) allow_job: Setting<Vec<u64>>,
}

impl NotebookSettings {
    pub(super) fn at(self, path: NotebookPath) -> NotebookWant {
        let NotebookSettings { account, scope, key, allow_override, allow_job } = self;
        NotebookWant { path, host: account.origin, account_id: account.id, scope, key, allow_override, allow_job }
    }
}

pub(crate) async fn run(args: Args, ctx: &CommandContext) -> Ended<Box<dyn Report>> {
    match deploy(args, ctx).await {
        Ok(ended) => ended,
        Err(failure) => failure.into(),
    }
}

async fn deploy(args: Args, ctx: &CommandContext) -> Result<Ended<Box<dyn Report>>, Failure> {
    let Args { path, accept_shared_path, scope, key, allow_override, allow_job, grant, force, adopt, print, dry_run } =
        args;
    let grants = grants::settle(grant)?;
    let allow_override = Setting::list("--allow-override", "none", allow_override)?;
    let allow_job = Setting::list("--allow-job", "any", allow_job)?;
    let environment = &ctx.context.environment;
    let mut errors = InputErrors::default();
    let account = credentials::account(&ctx.account, &[], environment, &mut errors);
    let identity = if print { None } else { credentials::databricks(environment, &ctx.vault, &mut errors) };
    errors.settle()?;
    let Some(account) = account else {
        return Err(Failure::new(Code::Bug, "the dbt account is missing after it was resolved"));
    };
    // The notebook will send the key to this host, so the same rule applies as for sending it from here.
    account.check_bare_token("the dbt API key")?;
    let given_scope = scope.clone();
    let (scope, key) = (scope.map(|scope| scope.to_string()).into(), key.map(|key| key.to_string()).into());
    let notebook_settings = NotebookSettings { account, scope, key, allow_override, allow_job };

    let Some(identity) = identity else {
        return Ok(Ended::well(Box::new(Printed { text: notebook_settings.at(nowhere()?).text(None) })));
    };
    let writer = super::to_databricks(&identity, ctx)?;
    let consents = Consents::default()
        .with(Consent::AcceptSharedPath, accept_shared_path)
        .with(Consent::Force, force)
        .with(Consent::Adopt, adopt);
    writer.preconnect(3, false);
    let default_path = path.is_none();
    let guess = LastSeen::load(writer.origin(), ctx).notebook(notebook_settings.account.id);
    let (me, step, grant_steps) = look(&writer.reader(), path, guess, notebook_settings, grants, &consents).await?;
    // Only if the notebook changes, so that a repeated command makes no extra request.
    if let Some(scope) = given_scope.filter(|_| step.writes()) {
        near_scopes(&writer, &scope).await.warn(&scope, ctx);
    }
    let found = step.have.as_ref().map_or("absent", |have| have.state(&step.want));
    let provision = Provision { ctx, writer: &writer, me: &me, dry_run, inputs: Inputs::default() };
    let mut steps = vec![Planned::Notebook(step)];
    steps.extend(grant_steps.into_iter().map(Planned::NotebookGrant));
    let applied = provision.apply(Plan { steps, ..Plan::default() }).await;
    Ok(describe(applied, found, default_path).end())
}

/// `--print` needs no path; the source does not depend on it.
fn nowhere() -> Result<NotebookPath, Failure> {
    "/run_dbt_job".parse().map_err(|bad| Failure::new(Code::Bug, format!("the default path is invalid: {bad}")))
}

/// Looks up the caller and the notebook: in parallel if the path is given. The default path is in the caller's home
/// folder; if it is the `guess`, what was read there beside the caller is used.
async fn look(
    reader: &Reader,
    path: Option<NotebookPath>,
    guess: Option<NotebookPath>,
    notebook_settings: NotebookSettings,
    grants: Vec<GrantTo<NotebookLevel>>,
    consents: &Consents,
) -> Result<(Me, Step<Notebook>, Vec<Step<NotebookGrant>>), Failure> {
    let account = notebook_settings.account.id;
    let plans = async |path: &NotebookPath| {
        let granting = grants.iter().cloned().map(|GrantTo { principal, level }| {
            Step::<NotebookGrant>::plan(reader, NotebookGrant { object: path.clone(), principal, level }, consents)
        });
        let want = notebook_settings.clone().at(path.clone());
        tokio::try_join!(Step::<Notebook>::plan(reader, want, consents), try_join_all(granting))
    };
    if let Some(path) = path {
        let (me, (step, grants)) = caller_and(reader, Box::pin(plans(&path))).await?;
        return Ok((me, step, grants));
    }
    let guessed = async {
        match &guess {
            Some(path) => Ok(reader.within(GUESS_LIMIT, Box::pin(plans(path))).await),
            None => Ok(None),
        }
    };
    let (me, guessed) = tokio::try_join!(who(reader), guessed)?;
    let path = default_path(&me, account)?;
    let (step, grants) = match guessed.filter(|_| guess.as_ref() == Some(&path)) {
        Some(planned) => planned?,
        None => plans(&path).await?,
    };
    Ok((me, step, grants))
}

fn describe(mut applied: Applied, found: &str, default_path: bool) -> Applied {
    let Some(Planned::Notebook(step)) = applied.plan.steps.first() else { return applied };
    let path = step.want.path.to_string();
    let object_id = match step.present() {
        Some(NotebookHave::Notebook { object_id, text: _ }) => *object_id,
        Some(NotebookHave::Other(_) | NotebookHave::NoFolder { .. }) | None => None,
    };
    let settings = step.want.settings(step.have.as_ref());
    let sha256 = digest(&step.want.text(step.have.as_ref()));
    applied.field("path", path.as_str());
    applied.field("object_id", object_id.map(Id));
    applied.field("version", VERSION);
    applied.field("sha256", sha256);
    applied.field("state", found);
    applied.field("scope", settings.scope.as_str());
    applied.field("key", settings.key.as_str());
    match applied.finish {
        Finish::Changed | Finish::Unchanged => {
            let at = if default_path { String::new() } else { format!(" --notebook {}", quoted(&path)) };
            applied.line(format!("It reads the dbt API key from secret {}/{}.", settings.scope, settings.key));
            applied.next("create a workflow", format!("dbtrigger create-workflow{at}"));
        }
        Finish::Shown | Finish::Blocked | Finish::Failed => {}
    }
    applied
}

/// The source of the notebook.
struct Printed {
    text: String,
}

impl Report for Printed {
    fn text(&self) -> String {
        self.text.clone()
    }

    fn verbatim(&self) -> Vec<&str> {
        vec![&self.text]
    }

    fn json(&self) -> Data {
        let Printed { text } = self;
        document!({ "text": text, "version": VERSION, "sha256": digest(text) })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::{self, Write};
    use std::rc::Rc;

    use super::*;
    use crate::secret::Vault;
    use crate::ui::{Format, OutputSettings, Printer};

    #[derive(Clone, Default)]
    struct Page(Rc<RefCell<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_printed_is_the_notebook_to_the_byte() {
        let want = NotebookWant {
            path: nowhere().unwrap(),
            host: crate::origin::Origin::parse("ab123.us1.dbt.com").unwrap(),
            account_id: 51234,
            scope: Setting::Keep,
            key: Setting::Keep,
            allow_override: Setting::Keep,
            allow_job: Setting::Keep,
        };
        let ended: Ended<Box<dyn Report>> = Ended::well(Box::new(Printed { text: want.text(None) }));
        // A pipe, then a terminal of 80 columns; with `-v` there are no progress lines.
        for (draws, verbose) in [(false, 0), (true, 1)] {
            let page = Page::default();
            let settings = OutputSettings { format: Format::Text, quiet: false, verbose, color: false, draws };
            let (out, err) = (Box::new(page.clone()), Box::new(io::sink()));
            let printer = Printer::over(settings, Vault::default().filter(), out, err, draws);
            assert_eq!(printer.end(&ended), 0);
            assert_eq!(String::from_utf8(page.0.borrow().clone()).unwrap(), want.text(None));
        }
    }

    #[test]
    fn lists_are_emptied_by_a_word_that_stands_alone() {
        let list = |given| Setting::list("--allow-job", "any", given);
        assert_eq!(list(Vec::<Setting<u64>>::new()).unwrap(), Setting::Keep);
        assert_eq!(list(vec![Setting::Clear]).unwrap(), Setting::Clear);
        assert_eq!(list(vec![Setting::Set(7)]).unwrap(), Setting::Set(vec![7]));
        let both = list(vec![Setting::Set(7), Setting::Clear]).unwrap_err();
        assert_eq!(both.code, Code::Contradiction);
        assert!(parse_override("cause").unwrap_err().contains("git_branch"));
        assert!(parse_job("0").is_err() && parse_job("+7").is_err() && parse_job("12a").is_err());
    }
}
