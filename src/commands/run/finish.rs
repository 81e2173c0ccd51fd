//! `run JOB`: what is done after the outcome is known.

use super::dbt::{PreparedRun, StartContext};
use super::dbt_report::DbtReport;
use super::retry::Retries;
use super::{artifacts, junit};
use crate::failure::{Code, Ended, Hint};

impl PreparedRun {
    /// Downloads files and completes the failure's next steps. The outcome stays the same.
    pub(super) async fn finish(&self, ended: &mut Ended<DbtReport>, retries: &Retries, around: &StartContext<'_>) {
        let order = &self.order;
        if let (Some(folder), Some(report)) = (&self.artifacts, &mut ended.report)
            && let (Some(_), Some(run)) = (report.end, report.run_id)
        {
            let folder = if around.shared.is_some() { folder.join(run.to_string()) } else { folder.clone() };
            let wanted =
                artifacts::Wanted { account: self.account.id, run, folder: &folder, deadline: self.deadline.at() };
            let turns = around.shared.map(|shared| shared.fetching);
            let files = wanted.fetch(&self.writer, turns, &around.means.events).await;
            (report.artifacts, report.artifacts_missing) = (files.fetched, files.missing);
        }
        if let (Some(results), Some(report)) = (&self.results, &ended.report)
            && let (Some(_), Some(run)) = (report.end, report.run_id)
        {
            let wanted = junit::Wanted { account: self.account.id, run, deadline: self.deadline.at() };
            let turns = around.shared.map(|shared| shared.fetching);
            wanted.fetch(results, &self.writer, turns, &around.means.events).await;
        }
        let can_retry = ended.report.as_ref().is_some_and(|report| report.findings.can_retry == Some(true));
        if can_retry
            && !retries.cannot
            && let Some(failure) = ended.failure.as_mut().filter(|failure| failure.code == Code::RunFailed)
        {
            // A generated key is of no use to the user.
            let command = if order.look_first { self.retry_command() } else { self.retry_last.clone() };
            failure.hints.insert(0, Hint::run("retry from the point of failure", command));
        }
        // The same key always leads to the same, ended run.
        if order.look_first
            && let Some(failure) = &mut ended.failure
            && matches!(failure.code, Code::RunFailed | Code::RunCancelled)
        {
            *failure =
                failure.clone().advise("this key now belongs to this run; use a new --idempotency-key for a new run");
        }
    }
}
