//! Finds what failed in a dbt run: the step, and its models and tests with their messages. The outcome of the run does
//! not depend on it.

use std::time::Duration;

use tokio::time::sleep;

use super::upload::Upload;
use crate::dbt::{self, Node, Run, Steps};
use crate::http::Reader;

/// Time limit of the search.
const LIMIT: Duration = Duration::from_mins(1);

/// Attempts to read the log, which appears some seconds after the end of a run, and the wait
/// between them.
const LOG_LOOKS: u32 = 3;
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);

/// Longest message shown, in characters.
const MESSAGE: usize = 400;

/// Most lines shown of a log.
const LOG_LINES: usize = 15;

/// What was found; empty if nothing was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FailureDetails {
    pub(crate) step: Option<FailedStep>,
    pub(crate) nodes: Vec<FailedNode>,
    /// The last lines of the step's log, if no node failed.
    pub(crate) log: Vec<String>,
    /// Whether dbt can resume the run from its point of failure.
    pub(crate) can_retry: Option<bool>,
    /// The reason if not.
    pub(crate) no_retry: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailedStep {
    pub(crate) index: u64,
    pub(crate) count: usize,
    pub(crate) title: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailedNode {
    pub(crate) unique_id: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) message: Option<String>,
    pub(crate) failures: Option<u64>,
}

/// Finds the failed step of the run, and its failed models and tests or else the last lines of its log.
pub(crate) async fn find_failures(reader: &Reader, account: u64, run: &Run) -> FailureDetails {
    let mut failure_details =
        FailureDetails { can_retry: run.can_retry, no_retry: no_retry(run), ..FailureDetails::default() };
    // On timeout the details stay incomplete.
    let _ = reader.within(LIMIT, search(reader, account, run.id, &mut failure_details)).await;
    failure_details
}

fn no_retry(run: &Run) -> Option<String> {
    run.no_retry().map(|reason| reason.to_string())
}

async fn search(reader: &Reader, account: u64, run: u64, failure_details: &mut FailureDetails) {
    let Ok(mut seen) = reader.read(dbt::get_run_with_steps(account, run)).await else { return };
    let mut steps = Steps::of(&seen);
    let Some(step) = steps.failed() else { return };
    let index = step.index;
    failure_details.step = Some(FailedStep { index, count: steps.count(), title: plain(step.title(), MESSAGE) });
    if step.has_results() {
        let mut upload = Upload::new(reader, account, &seen);
        if let Ok(nodes) = upload.results(index, true).await {
            failure_details.nodes = nodes.iter().filter(|node| node.failed()).map(failed_node).collect();
        }
        // dbt reports a run as not resumable until its results are uploaded.
        if let Some(run) = upload.seen() {
            (failure_details.can_retry, failure_details.no_retry) = (run.can_retry, no_retry(run));
        }
    }
    if !failure_details.nodes.is_empty() {
        return;
    }
    for look in 0..LOG_LOOKS {
        if look > 0 {
            sleep(BETWEEN_LOOKS).await;
            let Ok(again) = reader.read(dbt::get_run_with_steps(account, run)).await else { return };
            seen = again;
            steps = Steps::of(&seen);
        }
        if let Some(log) = steps.failed().filter(|step| step.index == index).and_then(dbt::Step::log) {
            failure_details.log = last_lines(log);
            return;
        }
    }
}

/// The last non-empty lines, each cleaned by [`plain`].
fn last_lines(log: &str) -> Vec<String> {
    let lines = log.lines().rev().map(|line| plain(line, MESSAGE)).filter(|line| !line.is_empty());
    let mut lines: Vec<String> = lines.take(LOG_LINES).collect();
    lines.reverse();
    lines
}

fn failed_node(node: &Node) -> FailedNode {
    FailedNode {
        unique_id: plain(&node.unique_id, MESSAGE),
        kind: plain(node.kind(), MESSAGE),
        name: plain(node.name(), MESSAGE),
        status: plain(node.status.as_deref().unwrap_or_default(), MESSAGE),
        message: node.message.as_deref().map(|message| plain(message, MESSAGE)).filter(|message| !message.is_empty()),
        failures: node.failures,
    }
}

impl FailedNode {
    /// `model orders (error): Database Error …`, `test not_null_orders_id (fail, 3 rows): …`.
    pub(crate) fn line(&self) -> String {
        let FailedNode { unique_id: _, kind, name, status, message, failures } = self;
        let rows = match failures {
            Some(1) => ", 1 row".to_owned(),
            Some(rows) if *rows > 1 => format!(", {rows} rows"),
            Some(_) | None => String::new(),
        };
        let message = message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
        format!("{kind} {name} ({status}{rows}){message}")
    }
}

/// Removes escape sequences and control characters, and shortens to one line of at most `limit` characters.
pub(crate) fn plain(text: &str, limit: usize) -> String {
    let mut clean = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            // A CSI sequence ends with a byte from `@` to `~`. Of other sequences, only the character after ESC is
            // skipped.
            if characters.next() == Some('[') {
                characters.by_ref().find(|end| ('@'..='~').contains(end));
            }
        } else {
            clean.push(if character.is_control() { ' ' } else { character });
        }
    }
    let line = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_one_short_line_without_colours() {
        assert_eq!(plain("\u{1b}[31mDatabase Error\u{1b}[0m\n  in model\tx\r\n", 100), "Database Error in model x");
        assert_eq!(plain(&"ä".repeat(500), MESSAGE).chars().count(), MESSAGE + 1);
        assert_eq!(plain("\u{1b}", 9), "");
        assert_eq!(plain("\u{1b}[", 9), "");
    }

    #[test]
    fn of_a_log_the_last_lines_that_say_something_are_kept() {
        let log =
            format!("{}\n\u{1b}[31mCompilation Error\u{1b}[0m\r\n\n  in model x\n\n", "06:00 Running\n".repeat(40));
        let lines = last_lines(&log);
        assert_eq!(lines.len(), LOG_LINES);
        assert_eq!(lines[LOG_LINES - 2..], ["Compilation Error", "in model x"]);
        assert!(last_lines("\n \n").is_empty());
    }

    #[test]
    fn a_failed_node_is_one_line() {
        let node = |failures, message: Option<&str>| FailedNode {
            unique_id: "test.shop.x".to_owned(),
            kind: "test".to_owned(),
            name: "x".to_owned(),
            status: "fail".to_owned(),
            message: message.map(ToOwned::to_owned),
            failures,
        };
        assert_eq!(node(Some(3), Some("Got 3 results")).line(), "test x (fail, 3 rows): Got 3 results");
        assert_eq!(node(Some(1), None).line(), "test x (fail, 1 row)");
        assert_eq!(node(None, None).line(), "test x (fail)");
    }
}
