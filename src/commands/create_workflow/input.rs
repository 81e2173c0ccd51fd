//! Finds the services for a workflow; reports everything missing at once.

use super::job_arguments::JobArguments;
use super::prerequisites::NotebookRequirements;
use crate::commands::CommandContext;
use crate::commands::shared::workflow_argument::WorkflowArgument;
use crate::credentials::{self, Account, Databricks, InputErrors, MissingInput, SignIn, Token};
use crate::dbt::Link;
use crate::engine::Consents;
use crate::failure::{Code, Failure};
use crate::questions::Question;
use crate::spec::WorkflowSpec;

fn missing_notebook() -> MissingInput {
    let give = "pass --notebook PATH, or set DBT_CLOUD_ACCOUNT_ID (or pass --dbt-account ID)";
    MissingInput::value("notebook", give, Some(Question::DbtAccount))
}

/// The command that creates the workflow.
pub(in crate::commands) enum Caller {
    /// `create-workflow`, which does not need dbt if the workflow has a name.
    CreateWorkflow,
    /// `setup`, which also needs the dbt account for its notebook. Without another token it uses the key that it
    /// stores.
    Setup { key: Option<Box<Token>> },
}

/// What is asked for, and the services for it.
pub(in crate::commands) struct Input {
    pub(in crate::commands) spec: WorkflowSpec,
    pub(in crate::commands) consents: Consents,
    /// The existing workflow that gets the task.
    pub(super) add_to: Option<AddTo>,
    pub(in crate::commands) databricks: Databricks,
    /// Account and token for looking up the dbt job.
    pub(in crate::commands) dbt: Option<Account>,
    pub(in crate::commands) token: Option<Token>,
    /// The jobs as given.
    asked: JobArguments,
}

/// A workflow as the user named it.
pub(super) struct AddTo {
    pub(super) text: String,
    pub(super) named: WorkflowArgument,
}

impl Input {
    /// Finds the services. Adds everything missing or wrong to `errors`; `None` if the workspace is missing.
    pub(in crate::commands) fn resolve(
        mut spec: WorkflowSpec,
        consents: Consents,
        asked: JobArguments,
        (add_to, caller): (Option<String>, Caller),
        ctx: &CommandContext,
        errors: &mut InputErrors,
    ) -> Option<Input> {
        let databricks = credentials::databricks(&ctx.context.environment, &ctx.vault, errors);
        let own = databricks.as_ref().map(|identity| &identity.origin);
        let add_to = add_to.map(|text| WorkflowArgument::read(&text, own).map(|named| AddTo { text, named }));
        let is_named = spec.name.is_some() || add_to.is_some();
        let add_to = errors.optional(add_to.transpose());
        let (account, dbt, token) = of_dbt(&asked, is_named, spec.notebook.is_some(), caller, ctx, errors);
        spec.account = account;
        Some(Input { spec, consents, add_to, databricks: databricks?, dbt, token, asked })
    }

    /// What the notebook must provide.
    pub(in crate::commands) fn requirements(&self) -> NotebookRequirements<'_> {
        NotebookRequirements {
            notebook: self.spec.notebook.as_ref(),
            account: self.spec.account,
            jobs: self.spec.tasks.iter().map(|task| task.job).collect(),
            host: self.dbt.as_ref().map(|account| &account.origin),
        }
    }

    /// Whether the name of the workflow is known without dbt.
    pub(super) fn is_named(&self) -> bool {
        self.spec.name.is_some() || self.add_to.is_some()
    }

    /// Resolves jobs given by name.
    pub(in crate::commands) async fn find_jobs(&mut self, ctx: &CommandContext) -> Result<(), Failure> {
        if let Some((account, token)) = self.dbt.as_ref().zip(self.token.as_ref()).filter(|_| self.asked.has_names()) {
            self.spec.tasks = self.asked.find(account, token, ctx).await?;
        }
        Ok(())
    }
}

/// The ID of the dbt account, and account and token for looking up jobs, as far as needed or available.
fn of_dbt(
    asked: &JobArguments,
    has_name: bool,
    has_notebook: bool,
    caller: Caller,
    ctx: &CommandContext,
    errors: &mut InputErrors,
) -> (Option<u64>, Option<Account>, Option<Token>) {
    let environment = &ctx.context.environment;
    let pasted = asked.pasted();
    // Errors of dbt's credential file matter only if a token is needed.
    let mut tried = InputErrors::default();
    let token = credentials::api_token(&ctx.account, &pasted, environment, &ctx.vault, &mut tried);
    let (is_setup, key) = match caller {
        Caller::CreateWorkflow => (false, None),
        Caller::Setup { key } => (true, key),
    };
    let token = token.map(|token| token.or(key.map(|key| *key)));
    if !has_name && asked.len() > 1 {
        let give = "pass --name NAME (required for several jobs)";
        errors.need(Ok(None::<u64>), MissingInput::value("workflow name", give, None));
        return (None, None, None);
    }
    if !has_name || asked.has_names() || is_setup {
        // dbt provides the name of the workflow or the ID of the job.
        let account = credentials::account(&ctx.account, &pasted, environment, errors);
        errors.join(tried);
        let ask = Some(Question::DbtToken);
        let missing = MissingInput::sign_in(SignIn::DbtToken, environment, ask);
        let missing = if asked.has_names() {
            missing.or("name the job by its ID in --job")
        } else if is_setup {
            missing
        } else {
            missing.or("pass --name")
        };
        // Where the scope has a key, the check of the workflow asks dbt with it.
        let token = if is_setup && ctx.prompts.key_is_stored && !asked.has_names() {
            errors.optional(token)
        } else {
            errors.need(token, missing)
        };
        return (account.as_ref().map(|account| account.id), account, token);
    }
    let token = errors.optional(token);
    let id = errors.optional(credentials::account_id(&ctx.account, &pasted, environment));
    if id.is_none() && !has_notebook {
        errors.need(Ok(None::<u64>), missing_notebook());
    }
    let account = id.filter(|_| token.is_some()).and_then(|_| whole_account(ctx, &pasted, errors));
    (id, account, token)
}

/// The account, if host and ID are known. Invalid values are errors, missing ones are not.
fn whole_account(ctx: &CommandContext, pasted: &[(String, Link)], errors: &mut InputErrors) -> Option<Account> {
    let mut own = InputErrors::default();
    let account = credentials::account(&ctx.account, pasted, &ctx.context.environment, &mut own);
    match own.settle() {
        Ok(()) => account,
        Err(failure) if failure.code == Code::MissingInput => None,
        Err(failure) => errors.optional(Err(failure)),
    }
}
