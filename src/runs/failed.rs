//! What failed in a dbt run: the step, the models and tests with their messages. Nothing here changes the verdict.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::dbt::{self, Node, Status, Step};
use crate::http::Reader;

/// Finding out what failed may take so long in all.
const LIMIT: Duration = Duration::from_mins(1);

/// dbt uploads results some seconds after the end of the run (dbt-cloud-api §6).
const UPLOAD: Duration = Duration::from_secs(30);
const BETWEEN: Duration = Duration::from_secs(3);

/// Of each message so many characters are shown.
const MESSAGE: usize = 400;

/// What was found out. Empty where there is nothing to find.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    pub(crate) step: Option<FailedStep>,
    pub(crate) nodes: Vec<FailedNode>,
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

/// Finds the failing step and, where it ran dbt, what failed in it.
pub(crate) async fn find_failures(reader: &Reader, account: u64, run: u64) -> Findings {
    let mut findings = Findings::default();
    // What is not found in time is left out: the run has failed all the same.
    let _ = reader.within(LIMIT, search(reader, account, run, &mut findings)).await;
    findings
}

async fn search(reader: &Reader, account: u64, run: u64, findings: &mut Findings) {
    let Ok(seen) = reader.read(dbt::get_run_with_steps(account, run)).await else { return };
    let mut steps: Vec<Step> = seen.run_steps.unwrap_or_default();
    steps.sort_by_key(|step| step.index);
    let Some(step) = steps.iter().find(|step| step.status == Some(Status::Error)) else { return };
    findings.step = Some(FailedStep { index: step.index, count: steps.len(), title: plain(step.title(), MESSAGE) });
    if !step.runs_dbt() {
        return;
    }
    let until = Instant::now() + UPLOAD;
    loop {
        match reader.glance(dbt::get_run_results(account, run, step.index)).await {
            Ok(results) => {
                findings.nodes = results.results.iter().filter(|node| node.failed()).map(failed_node).collect();
                return;
            }
            // 404 stands for "not yet" and for "never" alike.
            Err(_) if Instant::now() + BETWEEN < until => sleep(BETWEEN).await,
            Err(_) => return,
        }
    }
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

/// One line without escape sequences and control characters, of at most so many characters.
pub(crate) fn plain(text: &str, limit: usize) -> String {
    let mut clean = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            // A control sequence ends with a byte from `@` to `~` (behind its `[`); of others one character goes too.
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
