//! `deploy-notebook`: renders the notebook and uploads it to the workspace.

use futures_util::future::try_join_all;

use super::CommandContext;
use super::shared::default_path::default_path;
use super::shared::near_scopes::near_scopes;
use super::shared::provision::{Applied, Finish, Provision, caller_and, who};
use super::shared::workspace_cache::WorkspaceCache;
use crate::credentials::{self, InputErrors};
use crate::databricks::me::Me;
use crate::databricks::permissions::NotebookLevel;
use crate::databricks::secrets::{KeyName, ScopeName};
use crate::databricks::workspace::NotebookPath;
use crate::dbt::{FIELDS, Field};
use crate::document::{Data, Id, document};
use crate::engine::kinds::{GUESS_LIMIT, Notebook, NotebookGrant, NotebookHave, NotebookWant, VERSION};
use crate::engine::{Consent, Consents, Inputs, Plan, Planned, Step};
use crate::failure::{Code, Ended, Failure, Report};
use crate::http::Reader;
use crate::line::Line;
use crate::notebook::digest;
use crate::spec::grants::{self, GrantTo};
use crate::spec::{NotebookSettings, NotebookSpec, Setting};
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
    allow_override: Vec<Setting<&'static Field>>,
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
    /// Show the plan and change nothing
    #[arg(long)]
    dry_run: bool,
}

fn parse_override(text: &str) -> Result<Setting<&'static Field>, String> {
    if text == "none" {
        return Ok(Setting::Clear);
    }
    Field::named(text).map(Setting::Set).ok_or_else(|| {
        let names: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
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

pub(crate) async fn run(args: Args, ctx: &CommandContext) -> Ended<Box<dyn Report>> {
    deploy(args, ctx).await.unwrap_or_else(Ended::from)
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
    let settings = NotebookSettings {
        host: account.origin,
        account_id: account.id,
        scope: scope.map(|scope| scope.to_string()).into(),
        key: key.map(|key| key.to_string()).into(),
        allow_override,
        allow_job,
    };
    let Some(identity) = identity else {
        return Ok(Ended::well(Box::new(Printed { text: settings.text(None) })));
    };
    let spec = NotebookSpec { path, settings, grants };
    let writer = super::databricks_client(&identity, ctx)?;
    let consents = Consents::default()
        .with(Consent::AcceptSharedPath, accept_shared_path)
        .with(Consent::Force, force)
        .with(Consent::Adopt, adopt);
    writer.preconnect(3, false);
    let guess = WorkspaceCache::load(writer.origin(), ctx).notebook(spec.settings.account_id);
    let (me, (step, grants)) = plan_for_caller(&writer.reader(), &spec, guess, &consents).await?;
    let steps = [Planned::Notebook(step)].into_iter().chain(grants).collect();
    let plan = Plan::new(steps, Vec::new(), &me.user_name);
    let step = plan.notebook();
    // Only if the notebook changes, so that a repeated command makes no extra request.
    if let Some(scope) = given_scope.filter(|_| step.is_some_and(Step::writes)) {
        near_scopes(&writer, &scope).await.warn(&scope, ctx);
    }
    let found = step.and_then(|step| Some(step.have.as_ref()?.state(&step.want))).unwrap_or("absent");
    let provision = Provision { ctx, writer: &writer, me: &me, dry_run, inputs: Inputs::default() };
    let applied = provision.apply(plan).await;
    Ok(report_notebook(applied, found, spec.path.is_none()).end())
}

/// The notebook, and the grants on it.
pub(super) type NotebookPlan = (Step<Notebook>, Vec<Planned>);

/// Plans the notebook at this path, and the grants on it.
pub(super) async fn plan_notebook(
    reader: &Reader,
    spec: &NotebookSpec,
    path: &NotebookPath,
    consents: &Consents,
) -> Result<NotebookPlan, Failure> {
    let want = NotebookWant { path: path.clone(), settings: spec.settings.clone() };
    let granting = spec.grants.iter().cloned().map(|GrantTo { principal, level }| {
        Step::<NotebookGrant>::plan(reader, NotebookGrant { object: path.clone(), principal, level }, consents)
    });
    let (step, grants) = tokio::try_join!(Step::<Notebook>::plan(reader, want, consents), try_join_all(granting))?;
    Ok((step, grants.into_iter().map(Planned::NotebookGrant).collect()))
}

/// Looks up the caller and plans: in parallel if the path is given. The default path is in the caller's home folder; if
/// it is the `guess`, what was read there beside the caller is used.
async fn plan_for_caller(
    reader: &Reader,
    spec: &NotebookSpec,
    guess: Option<NotebookPath>,
    consents: &Consents,
) -> Result<(Me, NotebookPlan), Failure> {
    if let Some(path) = &spec.path {
        return caller_and(reader, Box::pin(plan_notebook(reader, spec, path, consents))).await;
    }
    let guessed = async {
        match &guess {
            Some(path) => Ok(reader.within(GUESS_LIMIT, Box::pin(plan_notebook(reader, spec, path, consents))).await),
            None => Ok(None),
        }
    };
    let (me, guessed) = tokio::try_join!(who(reader), guessed)?;
    let path = default_path(&me, spec.settings.account_id)?;
    let steps = match guessed.filter(|_| guess.as_ref() == Some(&path)) {
        Some(planned) => planned?,
        None => plan_notebook(reader, spec, &path, consents).await?,
    };
    Ok((me, steps))
}

fn report_notebook(mut applied: Applied, found: &str, default_path: bool) -> Applied {
    let Some(step) = applied.plan.notebook() else { return applied };
    let path = step.want.path.to_string();
    let object_id = match step.present() {
        Some(NotebookHave::Notebook { object_id, text: _ }) => *object_id,
        Some(NotebookHave::Other(_) | NotebookHave::NoFolder { .. }) | None => None,
    };
    let settings = step.want.settings.after(step.have.as_ref());
    let sha256 = digest(&step.want.settings.text(step.have.as_ref()));
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
    fn text(&self) -> Vec<Line> {
        vec![self.text.trim_end_matches('\n').into()]
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
        let notebook = NotebookSettings {
            host: crate::origin::Origin::parse("ab123.us1.dbt.com").unwrap(),
            account_id: 51234,
            scope: Setting::Keep,
            key: Setting::Keep,
            allow_override: Setting::Keep,
            allow_job: Setting::Keep,
        };
        let ended: Ended<Box<dyn Report>> = Ended::well(Box::new(Printed { text: notebook.text(None) }));
        // A pipe, then a terminal of 80 columns; with `-v` there are no progress lines.
        for (draws, verbose) in [(false, 0), (true, 1)] {
            let page = Page::default();
            let settings = OutputSettings { format: Format::Text, quiet: false, verbose, color: false, draws };
            let (out, err) = (Box::new(page.clone()), Box::new(io::sink()));
            let printer = Printer::over(settings, Vault::default().filter(), out, err, draws);
            assert_eq!(printer.end(&ended), 0);
            assert_eq!(String::from_utf8(page.0.borrow().clone()).unwrap(), notebook.text(None));
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
