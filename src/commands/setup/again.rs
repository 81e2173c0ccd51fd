//! Prints the equivalent commands for a pipeline.

use super::Args;
use crate::commands::create_workflow::Input;
use crate::commands::init_secrets::names;
use crate::credentials::Account;
use crate::databricks::permissions::Level as _;
use crate::databricks::secrets::{KeyName, ScopeName};
use crate::engine::Plan;
use crate::text::quoted;

/// Shell commands. They include only the consents that a new workspace needs, so that a pipeline does not overwrite
/// later changes.
pub(super) fn commands(
    args: &Args,
    input: &Input,
    account: &Account,
    plan: &Plan,
    (scope, key): (&ScopeName, &KeyName),
    workspace: &str,
) -> Vec<String> {
    let named = names(scope.as_str(), key);
    let grant = |principal: &str, level: &str| format!(" --grant {}", quoted(&format!("{principal}:{level}")));
    let path = plan.notebook().map(|step| quoted(step.want.path.as_str())).unwrap_or_default();
    let readers: String = plan.grants().map(|step| grant(&step.want.principal, step.want.permission.name())).collect();
    let runners: String =
        plan.notebook_grants().map(|step| grant(&step.want.principal, step.want.level.name())).collect();
    let consent = |given: bool, flag: &'static str| if given { flag } else { "" };
    let scope_consent = consent(args.accept_shared_scope, " --accept-shared-scope");
    let path_consent = consent(args.accept_shared_path, " --accept-shared-path");
    let said = [
        ("--name", &args.name),
        ("--compute", &args.compute),
        ("--schedule", &args.workflow.schedule),
        ("--timezone", &args.workflow.timezone),
        ("--run-as", &args.run_as),
    ];
    let said: String =
        said.into_iter().filter_map(|(flag, value)| Some(format!(" {flag} {}", quoted(value.as_ref()?)))).collect();
    let job = input.spec.tasks.first().map(|task| task.job).unwrap_or_default();
    let host = account.origin.to_string();
    let id = input.databricks.workspace.as_ref();
    let id = id.map(|id| format!(" DATABRICKS_WORKSPACE_ID={}", quoted(&id.value))).unwrap_or_default();
    vec![
        format!("export DATABRICKS_HOST={}{id}", quoted(workspace)),
        format!("export DBT_CLOUD_HOST={} DBT_CLOUD_ACCOUNT_ID={}", quoted(&host), account.id),
        format!("dbtrigger init-secrets{named}{readers}{scope_consent}"),
        format!("dbtrigger deploy-notebook --notebook {path}{named}{runners}{path_consent}"),
        format!("dbtrigger create-workflow --job {job} --notebook {path}{said} --check"),
    ]
}
