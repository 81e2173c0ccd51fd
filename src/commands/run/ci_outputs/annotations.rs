//! Annotations for GitHub Actions: one for each run that did not succeed.

use super::{FailureSummary, Row, RowResult};
use crate::events::{Event, Level};
use crate::failure::FailedPart;

/// GitHub shows ten annotations of a kind per step.
const MOST: usize = 10;

/// Maximum number of names shown per run.
const NAMES: usize = 20;

/// Returns one annotation per run that did not succeed. Beyond the limit, the last one says how many more there are.
pub(super) fn of(rows: &[Row], detail: bool) -> Vec<Event> {
    let mut all: Vec<Event> = rows.iter().filter_map(|row| one(row, detail)).collect();
    if all.len() > MOST {
        let more = all.split_off(MOST - 1).len();
        let message = format!("{more} more runs did not succeed; see the step's log");
        all.push(Event::Annotation { level: Level::Error, title: "dbtrigger run".to_owned(), message });
    }
    all
}

fn one(row: &Row, detail: bool) -> Option<Event> {
    let Row { job, run: _, url, status, took: _, result, failed } = row;
    let (level, what) = match result {
        RowResult::Failure(FailureSummary { code: _, what }) => (Level::Error, what.as_str()),
        RowResult::SuccessWithFailures => (Level::Warning, "succeeded with failures"),
        RowResult::Success | RowResult::OfTask => return None,
    };
    let mut lines = vec![what.to_owned(), url.clone()];
    lines.extend(failed.iter().take(NAMES).map(|FailedPart { name, message }| match message {
        Some(message) if detail => format!("{name}: {message}"),
        Some(_) | None => name.clone(),
    }));
    if failed.len() > NAMES {
        lines.push(format!("and {} more", failed.len() - NAMES));
    }
    lines.retain(|line| !line.is_empty());
    Some(Event::Annotation { level, title: format!("dbtrigger run {job}: {status}"), message: lines.join("\n") })
}
