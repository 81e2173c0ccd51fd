//! The report of `run JOB`.

use std::time::Duration;

use jiff::Timestamp;

use super::artifacts::Missing;
use super::interrupt_outcome::InterruptOutcome;
use crate::credentials::Account;
use crate::dbt::{End, Run, Status};
use crate::document::{Count, Data, Id, document};
use crate::events::DuplicateOutcome;
use crate::failure::{FailedPart, Report, RunOutcome};
use crate::http::{Phrase, Service, says};
use crate::line::Line;
use crate::runs::{FailedNode, FailureDetails, Key, plain};

/// What is known of the run: the `data` of `run JOB` and `watch RUN`.
#[derive(Clone, Debug, Default)]
pub(crate) struct DbtReport {
    pub(crate) origin: String,
    pub(crate) account_id: u64,
    pub(crate) job_id: Option<u64>,
    /// Idempotency key, if dbtrigger started the run.
    pub(crate) key: Option<String>,
    pub(crate) run_id: Option<u64>,
    pub(crate) run_url: Option<String>,
    pub(crate) status: Option<Status>,
    pub(crate) end: Option<End>,
    pub(crate) message: Option<String>,
    pub(crate) created: Option<Timestamp>,
    pub(crate) started: Option<Timestamp>,
    pub(crate) finished: Option<Timestamp>,
    pub(crate) took: Option<Duration>,
    pub(crate) adopted: bool,
    pub(crate) sends: u32,
    pub(crate) duplicates: Vec<(u64, DuplicateOutcome)>,
    pub(crate) failure_details: FailureDetails,
    /// Failed runs that this run resumes, oldest first.
    pub(crate) resumed: Vec<Resumed>,
    /// Downloaded files of the run.
    pub(crate) artifacts: Vec<String>,
    pub(crate) artifacts_missing: Vec<Missing>,
    /// Result of `--on-interrupt cancel`, after an interrupt.
    pub(crate) on_interrupt: Option<InterruptOutcome>,
}

/// A failed run that was retried from its point of failure.
#[derive(Clone, Debug)]
pub(crate) struct Resumed {
    pub(crate) run_id: u64,
    pub(crate) run_url: String,
    pub(crate) status: Option<Status>,
}

impl DbtReport {
    pub(crate) fn new(account: &Account) -> DbtReport {
        DbtReport { origin: account.origin.to_string(), account_id: account.id, ..DbtReport::default() }
    }

    pub(crate) fn take(&mut self, run: &Run) {
        self.run_id = Some(run.id);
        self.job_id = run.job_definition_id.or(self.job_id);
        if self.key.is_none() {
            let key = run.trigger.as_ref().and_then(|trigger| Key::in_cause(&trigger.cause));
            self.key = key.map(|key| key.as_str().to_owned());
        }
        self.run_url = Some(run.url(&self.origin, self.account_id));
        self.status = run.status;
        self.end = run.ended();
        self.message = run.status_message.as_deref().map(|text| plain(text, 400)).filter(|text| !text.is_empty());
        self.created = run.created();
        self.started = run.started();
        self.finished = run.finished();
        self.took = run.took();
    }

    /// Replaces what was known of these runs; duplicates of a run before its retry are kept.
    pub(crate) fn add_duplicates(&mut self, found: &[(u64, DuplicateOutcome)]) {
        self.duplicates.retain(|(known, _)| found.iter().all(|(run, _)| run != known));
        self.duplicates.extend_from_slice(found);
    }

    /// ` of job 222222`, or empty.
    pub(crate) fn of_job(&self) -> String {
        self.job_id.map(|job| format!(" of job {job}")).unwrap_or_default()
    }

    pub(crate) fn url(&self) -> &str {
        self.run_url.as_deref().unwrap_or_default()
    }

    /// Why the run was canceled: a run that exceeds dbt's own time limit also ends as canceled.
    pub(crate) fn reason(&self) -> Option<&'static str> {
        let cancelled = self.end == Some(End::Cancelled);
        let timed_out = self.message.as_ref().is_some_and(|message| says(Service::Dbt, message, Phrase::TimedOut));
        cancelled.then_some(if timed_out { "timed-out" } else { "cancelled" })
    }
}

impl DbtReport {
    pub(super) fn outcome(&self) -> RunOutcome {
        let failed = self.failure_details.nodes.iter().map(|FailedNode { kind, name, message, .. }| FailedPart {
            name: format!("{kind} {name}"),
            message: message.clone(),
        });
        RunOutcome {
            name: self.job_id.map(|job| job.to_string()).unwrap_or_default(),
            job_id: self.job_id,
            run_id: self.run_id,
            run_url: self.run_url.clone(),
            status: self.status.map(Status::word),
            took: self.took,
            failed: failed.collect(),
            ..RunOutcome::default()
        }
    }
}

impl Report for DbtReport {
    /// Empty, since everything was printed as progress.
    fn text(&self) -> Vec<Line> {
        Vec::new()
    }

    fn json(&self) -> Data {
        let DbtReport {
            origin: _,
            account_id,
            job_id,
            key,
            run_id,
            run_url,
            status,
            end: _,
            message,
            created,
            started,
            finished,
            took,
            adopted,
            sends,
            duplicates,
            failure_details: FailureDetails { step, nodes, log, can_retry, no_retry },
            resumed,
            artifacts,
            artifacts_missing,
            on_interrupt,
        } = self;
        let missing = artifacts_missing.iter();
        let missing = missing.map(|Missing { path, reason }| document!({ "path": path, "reason": reason }));
        let time = |time: &Option<Timestamp>| time.map(|time| time.to_string());
        let duplicates = duplicates.iter();
        let duplicates = duplicates.map(|(id, outcome)| document!({ "run_id": Id(*id), "fate": outcome.word() }));
        let nodes = nodes.iter().map(|node| {
            let FailedNode { unique_id, kind, name, status, message, failures } = node;
            document!({ "unique_id": unique_id, "kind": kind, "name": name, "status": status, "message": message, "failures": failures.map(Count) })
        });
        let resumed = resumed.iter().map(|Resumed { run_id, run_url, status }| document!({ "run_id": Id(*run_id), "run_url": run_url, "status": status.map(Status::word) }));
        document!({
            "account_id": Id(*account_id),
            "job_id": job_id.map(Id),
            "key": key,
            "run_id": run_id.map(Id),
            "run_url": run_url,
            "status": status.map(Status::word),
            "status_code": status.map(|status| Count(status.number().unsigned_abs())),
            "reason": self.reason(),
            "message": message,
            "created_at": time(created),
            "started_at": time(started),
            "finished_at": time(finished),
            "duration_seconds": took,
            "adopted": adopted,
            "sends": sends,
            "duplicates": duplicates.collect::<Vec<_>>(),
            "failed_step": step.as_ref().map(|step| document!({ "index": Count(step.index), "count": step.count, "name": step.title })),
            "failed_nodes": nodes.collect::<Vec<_>>(),
            "failed_log": log,
            "can_retry": can_retry,
            "no_retry_reason": no_retry,
            "resumed": resumed.collect::<Vec<_>>(),
            "artifacts": artifacts,
            "artifacts_missing": missing.collect::<Vec<_>>(),
            "on_interrupt": on_interrupt.map(InterruptOutcome::word),
        })
    }

    fn runs(&self) -> Vec<RunOutcome> {
        vec![self.outcome()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::connect_dbt;
    use crate::commands::tests::harness::Harness;
    use crate::credentials::{AccountFlags, InputErrors};
    use crate::events::Events;

    #[tokio::test(start_paused = true)]
    async fn second_runs_of_a_start_stay_known_when_it_is_resumed() {
        let ctx = Harness::new().ctx(AccountFlags::default(), Events::new(|_| ()));
        let (account, _) = connect_dbt(&[], InputErrors::default(), &ctx).unwrap();
        let mut report = DbtReport::new(&account);
        report.add_duplicates(&[(7, DuplicateOutcome::Left), (8, DuplicateOutcome::Cancelled)]);
        // The retry has no duplicates of its own.
        report.add_duplicates(&[]);
        assert_eq!(report.duplicates, [(7, DuplicateOutcome::Left), (8, DuplicateOutcome::Cancelled)]);
        // One of them has ended since.
        report.add_duplicates(&[(7, DuplicateOutcome::Ended)]);
        assert_eq!(report.duplicates, [(8, DuplicateOutcome::Cancelled), (7, DuplicateOutcome::Ended)]);
    }
}
