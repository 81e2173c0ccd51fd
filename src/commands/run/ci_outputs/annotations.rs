//! What GitHub Actions shows beside the log: one annotation for each run that did not end well.

use super::{Bad, How, Row};
use crate::events::{Event, Level};
use crate::failure::FailedPart;

/// GitHub shows ten of a kind for each step.
const MOST: usize = 10;

/// Of one run so many names are shown.
const NAMES: usize = 20;

/// One for each run that did not end well; the last of too many says how many more there are.
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
    let Row { job, run: _, url, status, took: _, how, failed } = row;
    let (level, what) = match how {
        How::Badly(Bad { code: _, what }) => (Level::Error, what.as_str()),
        How::WithFailures => (Level::Warning, "It succeeded with failures."),
        How::Well | How::PartOfTheRowAbove => return None,
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
