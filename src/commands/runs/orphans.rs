//! `runs --orphans`: active dbt runs whose Databricks run has ended.

use super::{dbt_run_fields, with_name};
use crate::commands::shared::printed_commands;
use crate::commands::shared::table::table;
use crate::commands::{CommandContext, connect_dbt, databricks_client};
use crate::credentials::{Account, InputErrors, databricks};
use crate::databricks::{RunState, WorkflowRun, get_workflow_run, is_missing, me};
use crate::dbt::{Run, Status};
use crate::document::{Data, Id, document};
use crate::failure::{Code, Failure, Report, of_databricks, of_dbt};
use crate::http::{Meaning, side_by_side};
use crate::line::Line;
use crate::runs::{Parent, active_notebook_runs};

pub(super) async fn listed(ctx: &CommandContext) -> Result<Box<dyn Report>, Failure> {
    let mut errors = InputErrors::default();
    let identity = databricks(&ctx.context.environment, &ctx.vault, &mut errors);
    let (account, dbt) = connect_dbt(&[], errors, ctx)?;
    let Some(identity) = identity else {
        return Err(Failure::new(Code::Bug, "a value is missing without an error"));
    };
    let workspace = databricks_client(&identity, ctx)?;
    let own = workspace
        .read(me::me())
        .await
        .map_err(|error| of_databricks("cannot look up the workspace ID", &error))?
        .workspace_id
        .map(|id| id.to_string());
    let active = active_notebook_runs(&dbt, account.id, &ctx.events)
        .await
        .map_err(|error| of_dbt("cannot list the active dbt runs of the account", &error))?;
    // Databricks runs of other workspaces cannot be looked up here.
    let looked = side_by_side(&active, async |(_, parent)| match &own {
        Some(own) if *own != parent.workspace => None,
        Some(_) | None => Some(workspace.read(get_workflow_run(parent.run, None)).await),
    })
    .await;
    let mut orphans = Vec::new();
    for ((run, parent), looked) in active.into_iter().zip(looked) {
        let Parent { workspace: of, run: parent_run, task } = &parent;
        let Some(looked) = looked else {
            ctx.events.remark(format!(
                "dbt run {} was started from workspace {of}, but this is {}: its parent was not looked up",
                run.id,
                own.as_deref().unwrap_or_default()
            ));
            continue;
        };
        let mut workflow = None;
        let why = match looked {
            Ok(seen) => {
                let over = over(&seen, task);
                workflow = Some((seen.job_id, seen.run_name));
                over
            }
            // With the workspace ID unknown, the run may exist in another workspace.
            Err(error) if is_missing(&error) && own.is_none() => {
                ctx.events.remark(format!(
                    "dbt run {} was started from workspace {of}, and this workspace's ID is unknown: its parent, missing here, may be there",
                    run.id
                ));
                None
            }
            Err(error) if is_missing(&error) => Some("gone".to_owned()),
            // One unreadable run does not hide the others.
            Err(error) if error.means() == Meaning::RightMissing => {
                ctx.events.remark(format!(
                    "cannot read Databricks run {parent_run}, which started dbt run {}: {error}",
                    run.id
                ));
                None
            }
            Err(error) => {
                let what = format!("cannot read Databricks run {parent_run}, which started dbt run {}", run.id);
                return Err(of_databricks(&what, &error));
            }
        };
        if let Some(why) = why {
            let cancel = printed_commands::on_dbt_run("cancel", run.id, &account, &ctx.account, false);
            let (workflow, workflow_name) = workflow.unwrap_or_default();
            orphans.push(Orphan { run, parent, workflow, workflow_name, why, cancel });
        }
    }
    if orphans.is_empty() {
        ctx.events.remark(format!("no orphaned dbt runs in account {}", account.id));
    }
    Ok(Box::new(OrphansReport { account, orphans }))
}

/// Returns the final status of the run, or of the newest attempt of the task. `None` if still active or unknown. The
/// task key in the marker is lowercase.
fn over(seen: &WorkflowRun, task: &str) -> Option<String> {
    if let Some(RunState::Ended(end)) = seen.state() {
        return Some(end.word().to_owned());
    }
    let attempts = seen.attempts();
    let newest = attempts
        .iter()
        .filter_map(|attempts| attempts.last())
        .find(|last| last.task.task_key.eq_ignore_ascii_case(task))?;
    match newest.task.state() {
        Some(RunState::Ended(end)) => Some(format!("task {}", end.word())),
        Some(RunState::Active(_)) | None => None,
    }
}

struct Orphan {
    run: Run,
    parent: Parent,
    /// The Databricks job that started it, if it could be looked up.
    workflow: Option<u64>,
    workflow_name: Option<String>,
    /// Final status of the Databricks run.
    why: String,
    cancel: String,
}

/// The `data` of `runs --orphans`.
struct OrphansReport {
    account: Account,
    orphans: Vec<Orphan>,
}

impl Report for OrphansReport {
    fn text(&self) -> Vec<Line> {
        let row = |orphan: &Orphan| {
            let Orphan { run, parent, workflow, workflow_name, why, cancel } = orphan;
            vec![
                run.id.to_string(),
                run.status.map(Status::word).unwrap_or_default(),
                with_name(run.job_name(), run.job_definition_id),
                with_name(workflow_name.as_deref(), *workflow),
                format!("{} {}", parent.run, crate::runs::plain(&parent.task, 100)),
                crate::runs::plain(why, 100),
                cancel.clone(),
            ]
        };
        let heads = ["ID", "STATUS", "JOB", "WORKFLOW", "DATABRICKS RUN", "ITS STATUS", "CANCEL WITH"];
        table(&heads, self.orphans.iter().map(row))
    }

    fn json(&self) -> Data {
        let OrphansReport { account, orphans } = self;
        let row = |orphan: &Orphan| {
            let Orphan { run, parent, workflow, workflow_name, why, cancel } = orphan;
            let mut row = dbt_run_fields(run, account);
            row.extend(&document!({
                "workflow_id": workflow.map(Id),
                "workflow_name": workflow_name,
                "workflow_run_id": Id(parent.run),
                "task_key": parent.task,
                "workflow_run_status": why,
                "cancel": cancel,
            }));
            row
        };
        document!({ "account_id": Id(account.id), "orphans": orphans.iter().map(row).collect::<Vec<_>>() })
    }
}
