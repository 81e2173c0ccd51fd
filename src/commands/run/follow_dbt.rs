//! Follows a dbt run to its end and reports how it ended, for `run` and `watch`.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::dbt_report::DbtReport;
use crate::context::Wall;
use crate::credentials::Account;
use crate::dbt::{End, Page, Run, RunFilter, Status, get_run_with_trigger, list_account_runs};
use crate::events::{Activity, Events, RunEvent, RunId, StatusDetail};
use crate::failure::{Code, Ended, Failure, of_dbt, of_gone};
use crate::http::{Deadline, Meaning, Reader, Writer};
use crate::runs::{DbtRun, DbtState, FailureDetails, Followed, RunContext, find_failures, follow, plain};

/// How long to retry a run that is not found: about 1 % of the reads of a new run are answered with 404.
const MOMENT: Duration = Duration::from_secs(5);
const BETWEEN: Duration = Duration::from_secs(1);

/// A run that is older than this is found if it exists.
const NEW: Duration = Duration::from_mins(1);

/// How a run is followed.
pub(crate) struct DbtFollower<'a> {
    pub(crate) account: &'a Account,
    pub(crate) writer: &'a Writer,
    pub(crate) deadline: &'a Deadline,
    /// The command that resumes following a run.
    pub(crate) watch_command: &'a dyn Fn(u64) -> String,
    /// The command that starts the run again, if known.
    pub(crate) start_over: Option<&'a str>,
}

/// Reads a run named by the user before it is followed. After a temporary error, returns an empty run for the follower.
pub(crate) async fn read_run(
    reader: &Reader,
    account: &Account,
    run: u64,
    deadline: Instant,
    wall: &Wall,
) -> Result<Run, Failure> {
    let until = (Instant::now() + MOMENT).min(deadline);
    let mut not_found = None;
    loop {
        let looked = tokio::time::timeout_at(deadline, reader.read(get_run_with_trigger(account.id, run))).await;
        let error = match looked {
            Ok(Ok(seen)) if seen.id == run => return Ok(seen),
            Ok(Ok(_)) => return Ok(Run::unseen(run)),
            Err(_) => return not_found.map_or_else(|| Ok(Run::unseen(run)), Err),
            Ok(Err(error)) => error,
        };
        if !error.is_final() {
            return not_found.map_or_else(|| Ok(Run::unseen(run)), Err);
        }
        let failure = of_dbt(&format!("cannot read dbt run {run}"), &error);
        let is_new = error.means() == Meaning::NotFound
            && tokio::time::timeout_at(until, may_be_new(reader, account, run, wall)).await.unwrap_or(false)
            && Instant::now() + BETWEEN < until;
        if !is_new {
            return Err(failure);
        }
        not_found = Some(failure);
        sleep(BETWEEN).await;
    }
}

/// Whether the run may be too new to be found: unless the account's newest run is a later one that is not new itself.
async fn may_be_new(reader: &Reader, account: &Account, run: u64, wall: &Wall) -> bool {
    let newest = reader.read_once(list_account_runs(account.id, &RunFilter::default(), 0, 1)).await;
    let Ok(Page { rows, date, .. }) = newest else { return true };
    let now = date.unwrap_or_else(|| wall.now());
    let is_old = |created: Timestamp| Duration::try_from(now.duration_since(created)).is_ok_and(|age| age > NEW);
    rows.first().is_none_or(|newest| newest.id <= run || !newest.created().is_some_and(is_old))
}

impl DbtFollower<'_> {
    /// Follows the probe's run. Calls `on_news` on every change.
    pub(crate) async fn follow(
        &self,
        mut probe: DbtRun<'_>,
        changes: &mut DbtRunEvents<'_>,
        mut report: DbtReport,
        run_ctx: &RunContext,
        on_news: &dyn Fn(&Run),
    ) -> Ended<DbtReport> {
        let DbtFollower { account, writer, deadline, watch_command, start_over } = self;
        let followed = follow(&mut probe, (*deadline).clone(), run_ctx, |state| {
            if changes.state(state) {
                on_news(&state.run);
            }
        })
        .await;
        report.take(probe.run());
        report.add_duplicates(probe.duplicates());
        let number = report.run_id.unwrap_or_default();
        // After a timeout the run may still have ended: only the search for a second one was cut short.
        let failure = match (report.end, followed) {
            (Some(End::Success), _) => None,
            (Some(End::Error), _) => {
                report.failure_details = find_failures(writer, account.id, probe.run()).await;
                Some(failed(&report, *start_over))
            }
            (Some(End::Cancelled), _) => Some(cancelled(&report, *start_over)),
            (None, Followed::Gone(_, error)) => {
                Some(of_gone(&format!("dbt run {number}"), &error).run("list recent runs", "dbtrigger runs"))
            }
            (None, Followed::Blind(_, error)) => Some(
                of_dbt(&format!("lost track of dbt run {number}"), &error)
                    .state("it may still be running")
                    .run("follow it again", watch_command(number)),
            ),
            (None, Followed::OutOfTime(_) | Followed::Ended(_)) => {
                let word = match report.status {
                    Some(Status::Queued) => "queued",
                    Some(Status::Starting) => "starting",
                    Some(Status::Running | Status::Success | Status::Error | Status::Cancelled | Status::Other(_))
                    | None => "running",
                };
                let what = format!("timed out after {}; dbt run {number} is still {word}", deadline.limit());
                let failure = Failure::new(Code::StillRunning, what);
                let failure = match probe.disabled_reason() {
                    Some(disabled) => failure.cause(disabled.why()).advise(disabled.advice()),
                    None => failure,
                };
                Some(
                    failure
                        .run("follow it again", watch_command(number))
                        .advise(format!("see the run: {}", report.url())),
                )
            }
        };
        Ended { report: Some(report), failure }
    }
}

/// Emits an event for each change of a dbt run.
pub(crate) struct DbtRunEvents<'a> {
    events: &'a Events,
    account: &'a Account,
    run: Option<u64>,
    latest: Option<RunEvent>,
    activity: Option<Activity>,
}

impl<'a> DbtRunEvents<'a> {
    pub(crate) fn new(events: &'a Events, account: &'a Account) -> DbtRunEvents<'a> {
        DbtRunEvents { events, account, run: None, latest: None, activity: None }
    }

    pub(crate) fn found(&mut self, run: &Run) {
        if self.run != Some(run.id) {
            let id = RunId::Dbt(run.id);
            (self.run, self.latest) = (Some(run.id), None);
            self.activity = Some(self.events.activity(id.to_string()));
            let url = run.url(&self.account.origin.to_string(), self.account.id);
            self.events.run(RunEvent::Found { run: id, url: Some(url) });
        }
    }

    /// Returns whether the state was new.
    pub(crate) fn state(&mut self, state: &DbtState) -> bool {
        let DbtState { run, step } = state;
        self.found(run);
        let Some(status) = run.status else { return false };
        let has_ended = run.ended().is_some();
        let detail = match (step, run.blocked_by.as_deref()) {
            _ if has_ended => run.took().map(StatusDetail::Took),
            (Some((index, count, title)), _) => {
                Some(StatusDetail::Step { index: *index, count: *count, title: plain(title, 200) })
            }
            (None, Some([first, ..])) if status == Status::Queued => Some(StatusDetail::WaitingFor(*first)),
            (None, Some(_) | None) => None,
        };
        let event = RunEvent::Status { run: RunId::Dbt(run.id), status: status.to_string(), has_ended, detail };
        if self.latest.as_ref() == Some(&event) {
            return false;
        }
        if has_ended {
            self.activity = None;
        }
        self.events.run(event.clone());
        self.latest = Some(event);
        true
    }
}

fn failed(report: &DbtReport, start_over: Option<&str>) -> Failure {
    let number = report.run_id.unwrap_or_default();
    let mut failure = Failure::new(Code::RunFailed, format!("dbt run {number}{} failed", report.of_job()));
    let FailureDetails { step, nodes, log, can_retry, no_retry } = &report.failure_details;
    if let Some(step) = step {
        failure = failure.cause(format!("step {}/{} failed: {}", step.index, step.count, step.title));
    }
    failure.causes.extend(report.message.as_ref().map(|message| format!("dbt: {message}")));
    let shown_nodes = 20;
    failure.causes.extend(nodes.iter().take(shown_nodes).map(crate::runs::FailedNode::line));
    if nodes.len() > shown_nodes {
        failure = failure.cause(format!("and {} more", nodes.len() - shown_nodes));
    }
    failure.causes.extend(log.iter().map(|line| format!("log: {line}")));
    let url = report.url();
    let failure = match (can_retry, no_retry) {
        (Some(false) | None, Some(reason)) => {
            failure.cause(format!("it cannot be retried from the point of failure: {reason}"))
        }
        (Some(true), _) | (Some(false) | None, None) => failure,
    };
    with(failure, start_over).advise(format!("see the run: {url}"))
}

fn cancelled(report: &DbtReport, start_over: Option<&str>) -> Failure {
    let number = report.run_id.unwrap_or_default();
    let failure = match report.reason() {
        Some("timed-out") => Failure::new(
            Code::RunCancelled,
            format!("dbt run {number}{} was canceled: it reached dbt's time limit", report.of_job()),
        ),
        Some(_) | None => Failure::new(Code::RunCancelled, format!("dbt run {number}{} was canceled", report.of_job())),
    };
    let failure = match &report.message {
        Some(message) => failure.cause(format!("dbt: {message}")),
        None => failure,
    };
    with(failure, start_over).advise(format!("see who canceled it: {}", report.url()))
}

fn with(failure: Failure, start_over: Option<&str>) -> Failure {
    match start_over {
        Some(start_over) => failure.run("start over", start_over),
        None => failure,
    }
}
