//! The runs as JUnit tests: each run is one, and so is each of its nodes.

use super::{FailureSummary, Row, RowResult};
use crate::commands::run::junit::{Case, Results, Suite, Verdict, document as xml};

/// Renders the JUnit file. It always has at least one test, so that an unknown outcome does not look like success.
pub(super) fn document(rows: &[Row], results: &Results, detail: bool, redact: &dyn Fn(&str) -> String) -> String {
    let suite = |row: &Row| {
        let Row { job, run, url, status, took, result, failed: _ } = row;
        let ended = run.map_or_else(|| status.clone(), |run| format!("dbt run {run}: {status}\n{url}"));
        let (verdict, output) = match result {
            RowResult::Failure(FailureSummary { code, what }) => {
                let message = if url.is_empty() { what.clone() } else { format!("{what}: {url}") };
                (Verdict::Error { kind: (*code).to_owned(), message }, Some(ended))
            }
            RowResult::Success | RowResult::SuccessWithFailures | RowResult::OfTask => (Verdict::Passed, Some(ended)),
        };
        let mut cases = vec![Case::of_run(job, verdict, output)];
        if let Some(run) = run {
            cases.extend(results.cases(*run, detail, redact));
        }
        Suite::of(job, took.map(|took| took.as_secs()), cases)
    };
    xml(&rows.iter().map(suite).collect::<Vec<_>>())
}
