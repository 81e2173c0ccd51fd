//! `run JOB`: what is done after the outcome is known.

use super::dbt_report::DbtReport;
use super::download::Download;
use super::prepared_run::{PreparedRun, StartContext};
use super::retry_from_failure::Retries;
use crate::failure::{Code, Ended, Hint};

impl PreparedRun {
    /// Downloads files and completes the failure's next steps. The outcome stays the same.
    pub(super) async fn finish(&self, ended: &mut Ended<DbtReport>, retries: &Retries, start_ctx: &StartContext<'_>) {
        if let Some(report) = &mut ended.report
            && let (Some(_), Some(run)) = (report.end, report.run_id)
        {
            let download = Download {
                reader: &self.writer,
                account: self.account.id,
                run,
                deadline: self.request.deadline.at(),
                permits: start_ctx.shared.map(|shared| shared.download_permits),
                events: &start_ctx.run_ctx.events,
            };
            if let Some(folder) = &self.options.artifacts {
                let folder = if start_ctx.shared.is_some() { folder.join(run.to_string()) } else { folder.clone() };
                let files = download.artifacts(&folder).await;
                (report.artifacts, report.artifacts_missing) = (files.fetched, files.missing);
            }
            if let Some(results) = &self.results {
                download.results(results).await;
            }
        }
        let can_retry = ended.report.as_ref().is_some_and(|report| report.failure_details.can_retry == Some(true));
        if can_retry
            && !retries.is_impossible
            && let Some(failure) = ended.failure.as_mut().filter(|failure| failure.code == Code::RunFailed)
        {
            // A generated key is of no use to the user (docs/decisions/0014).
            let hint = if self.request.look_first {
                Hint::run("retry from the point of failure", self.retry_command())
            } else {
                Hint::run("retry the job's last failed run from the point of failure", self.retry_last.clone())
            };
            failure.hints.insert(0, hint);
        }
        // The same key always leads to the same, ended run.
        if self.request.look_first
            && let Some(failure) = &mut ended.failure
            && matches!(failure.code, Code::RunFailed | Code::RunCancelled)
        {
            *failure =
                failure.clone().advise("this key now belongs to this run; use a new --idempotency-key for a new run");
        }
    }
}
