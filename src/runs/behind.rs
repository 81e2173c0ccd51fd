//! The dbt runs that the notebook of a Databricks run has started: found by the marker that its key makes.

use super::marker::Key;
use crate::dbt::{PAGE, Run, RunFilter, Status, get_run_with_trigger, list_account_runs};
use crate::http::{HttpError, Reader};

/// An account has far fewer active runs than this; a service that ignores the filter is not read to its end.
const MOST_PAGES: u64 = 20;

/// A run may resume one that resumed another, and so on.
const LONGEST_CHAIN: usize = 10;

/// The active dbt runs that were started, or resumed, for this Databricks run.
pub(crate) async fn dbt_runs_behind(
    reader: &Reader,
    account: u64,
    workflow_run: u64,
    workspace: Option<&str>,
) -> Result<Vec<Run>, HttpError> {
    let active =
        RunFilter { statuses: vec![Status::Queued, Status::Starting, Status::Running], ..RunFilter::default() };
    let (mut found, mut seen) = (Vec::new(), 0);
    for _ in 0..MOST_PAGES {
        let page = reader.read(list_account_runs(account, &active, seen, PAGE)).await?;
        seen += page.rows.len() as u64;
        let more = page.more_after(seen, PAGE);
        for row in page.rows.into_iter().filter(|row| row.ended().is_none()) {
            if is_behind(reader, account, &row, workflow_run, workspace).await? {
                found.push(row);
            }
        }
        if !more {
            break;
        }
    }
    // Rows move between pages while runs end.
    found.sort_by_key(|run| run.id);
    found.dedup_by_key(|run| run.id);
    Ok(found)
}

/// A resumed run need not carry the marker (dbt-cloud-api §5.2); the first of its chain does.
async fn is_behind(
    reader: &Reader,
    account: u64,
    row: &Run,
    workflow_run: u64,
    workspace: Option<&str>,
) -> Result<bool, HttpError> {
    let mut run = row.clone();
    for _ in 0..LONGEST_CHAIN {
        if run.trigger.is_none() {
            run = reader.read(get_run_with_trigger(account, run.id)).await?;
        }
        let cause = run.trigger.as_ref().map(|trigger| trigger.cause.as_str()).unwrap_or_default();
        if belongs(cause, workflow_run, workspace) {
            return Ok(true);
        }
        let Some(resumed) = run.retrying_run_id else { return Ok(false) };
        run = reader.read(get_run_with_trigger(account, resumed)).await?;
    }
    Ok(false)
}

/// The notebook's key is `WORKSPACE/RUN/TASK/REPAIR`.
fn belongs(cause: &str, workflow_run: u64, workspace: Option<&str>) -> bool {
    let Some(key) = Key::in_cause(cause) else { return false };
    let mut parts = key.as_str().split('/');
    let (Some(of), Some(run), Some(_task)) = (parts.next(), parts.next(), parts.next()) else { return false };
    run == workflow_run.to_string()
        && !of.is_empty()
        && of.bytes().all(|byte| byte.is_ascii_digit())
        && workspace.is_none_or(|workspace| workspace == of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_of_this_workspace_and_run_counts() {
        for (cause, belonging) in [
            ("Triggered by Databricks Workflows [dbtrigger:12/345/dbt/0]", true),
            ("x [dbtrigger:12/345/dbt/1:2]", true),
            ("x [dbtrigger:12/3456/dbt/0]", false),
            ("x [dbtrigger:13/345/dbt/0]", false),
            ("x [dbtrigger:345]", false),
            ("x [dbtrigger:notebook/345/dbt]", false),
            ("12/345/dbt/0", false),
            ("", false),
        ] {
            assert_eq!(belongs(cause, 345, Some("12")), belonging, "{cause}");
        }
        assert!(belongs("[dbtrigger:13/345/dbt/0]", 345, None));
    }
}
