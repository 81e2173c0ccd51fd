//! Finds the dbt runs that the notebook of a Databricks run started, by the marker with the notebook's key.

use super::cause_marker::Key;
use crate::dbt::{End, PAGE, Run, RunFilter, Status, all_pages, get_run_with_trigger, list_account_runs};
use crate::events::{Events, RunEvent};
use crate::http::{HttpError, Reader, side_by_side};

/// Longest chain of resumed runs that is followed.
const LONGEST_CHAIN: usize = 10;

/// The task of a Databricks run whose notebook started a dbt run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parent {
    pub(crate) workspace: String,
    pub(crate) run: u64,
    pub(crate) task: String,
}

impl Parent {
    fn is_of(&self, workflow_run: u64, workspace: Option<&str>) -> bool {
        self.run == workflow_run && workspace.is_none_or(|workspace| workspace == self.workspace)
    }
}

/// Returns the active dbt runs that were started, or resumed, for this Databricks run.
pub(crate) async fn active_child_runs(
    reader: &Reader,
    account: u64,
    workflow_run: u64,
    workspace: Option<&str>,
    events: &Events,
) -> Result<Vec<Run>, HttpError> {
    let all = active_notebook_runs(reader, account, events).await?;
    Ok(all.into_iter().filter(|(_, parent)| parent.is_of(workflow_run, workspace)).map(|(run, _)| run).collect())
}

/// Returns the dbt runs of this Databricks run that were recently canceled, as its notebook does when it is canceled
/// itself. Reads only the newest page: the result is only displayed.
pub(crate) async fn canceled_child_runs(
    reader: &Reader,
    account: u64,
    workflow_run: u64,
    workspace: Option<&str>,
) -> Result<Vec<Run>, HttpError> {
    let cancelled = RunFilter { statuses: vec![Status::Cancelled], ..RunFilter::default() };
    let page = reader.read_once(list_account_runs(account, &cancelled, 0, PAGE)).await?;
    let rows: Vec<Run> = page.rows.into_iter().filter(|row| row.ended() == Some(End::Cancelled)).collect();
    let parents = side_by_side(&rows, async |row| parent_in_chain(reader, account, row).await).await;
    // An error for one run does not hide the others.
    let is_of = |parent: &Result<Option<Parent>, HttpError>| match parent {
        Ok(Some(parent)) => parent.is_of(workflow_run, workspace),
        Ok(None) | Err(_) => false,
    };
    let mut found: Vec<Run> =
        rows.into_iter().zip(parents).filter(|(_, parent)| is_of(parent)).map(|(row, _)| row).collect();
    found.sort_by_key(|run| run.id);
    Ok(found)
}

/// Returns the active dbt runs that notebooks started, or resumed. A run whose cause cannot be read is left out with a
/// remark.
pub(crate) async fn active_notebook_runs(
    reader: &Reader,
    account: u64,
    events: &Events,
) -> Result<Vec<(Run, Parent)>, HttpError> {
    let active =
        RunFilter { statuses: vec![Status::Queued, Status::Starting, Status::Running], ..RunFilter::default() };
    let list = |offset| list_account_runs(account, &active, offset, PAGE);
    let fits = |run: &Run| run.ended().is_none();
    let mut rows = all_pages(reader, "runs/list", (|run: &Run| run.id, fits), usize::MAX, list).await?;
    rows.sort_by_key(|run| run.id);
    let parents = side_by_side(&rows, async |row| parent_in_chain(reader, account, row).await).await;
    let mut found = Vec::new();
    for (row, parent) in rows.into_iter().zip(parents) {
        match parent {
            Ok(Some(parent)) => found.push((row, parent)),
            Ok(None) => {}
            Err(error) => {
                events.run(RunEvent::ParentUnknown { run: row.id, error: error.to_string() });
            }
        }
    }
    Ok(found)
}

/// A resumed run may lack the marker; the first run of its chain has it.
async fn parent_in_chain(reader: &Reader, account: u64, row: &Run) -> Result<Option<Parent>, HttpError> {
    let mut run = row.clone();
    for _ in 0..LONGEST_CHAIN {
        if run.trigger.is_none() {
            run = reader.read(get_run_with_trigger(account, run.id)).await?;
        }
        let found = run.trigger.as_ref().and_then(|trigger| parent(&trigger.cause));
        if found.is_some() {
            return Ok(found);
        }
        let Some(resumed) = run.retrying_run_id else { return Ok(None) };
        run = reader.read(get_run_with_trigger(account, resumed)).await?;
    }
    Ok(None)
}

/// The notebook's key is `WORKSPACE/RUN/TASK/REPAIR`.
fn parent(cause: &str) -> Option<Parent> {
    let key = Key::in_cause(cause)?;
    let mut parts = key.as_str().split('/');
    let (workspace, run, task) = (parts.next()?, parts.next()?, parts.next()?);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let run = run.parse().ok().filter(|_| digits(workspace) && digits(run))?;
    Some(Parent { workspace: workspace.to_owned(), run, task: task.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_that_a_notebook_makes_names_a_parent() {
        for (cause, named) in [
            ("[dbtrigger:12/345/dbt/0] Triggered by Databricks Workflows", Some(("12", 345, "dbt"))),
            ("[DBTrigger:12/345/dbt_Orders/0-ab] x", Some(("12", 345, "dbt_orders"))),
            ("x [dbtrigger:12/345/dbt/1:2]", Some(("12", 345, "dbt"))),
            ("x [dbtrigger:13/3456/dbt/0]", Some(("13", 3456, "dbt"))),
            ("x [dbtrigger:345]", None),
            ("x [dbtrigger:notebook/345/dbt]", None),
            ("x [dbtrigger:12/nightly/dbt]", None),
            ("12/345/dbt/0", None),
            ("", None),
        ] {
            let found = parent(cause);
            let found = found.as_ref().map(|found| (found.workspace.as_str(), found.run, found.task.as_str()));
            assert_eq!(found, named, "{cause}");
        }
    }
}
