//! A start of a dbt job with everything it needs.

use tokio::sync::Semaphore;

use super::RunOptions;
use super::dbt_report::DbtReport;
use super::junit::Results;
use crate::commands::shared::printed_commands;
use crate::commands::{GlobalFlags, InterruptReport};
use crate::credentials::{Account, AccountFlags};
use crate::dbt::Run;
use crate::http::Writer;
use crate::runs::{DuplicateRisk, Intent, Journal, RunContext, RunPoller, TriggerRequest, Triggered};

/// A start with everything it needs.
pub(super) struct PreparedRun {
    pub(super) account: Account,
    pub(super) writer: Writer,
    pub(super) request: TriggerRequest,
    /// Check the job before starting it.
    pub(super) checks_job: bool,
    pub(super) no_wait: bool,
    pub(super) options: RunOptions,
    /// Collects the results for `--junit`.
    pub(super) results: Option<Results>,
    /// As given by the user.
    pub(super) job: String,
    /// A job was given by URL, which may be the only source of host and account.
    pub(super) by_address: bool,
    pub(super) flags: AccountFlags,
    pub(super) global_flags: GlobalFlags,
    /// The same command without an idempotency key.
    pub(super) start_over: String,
    /// The command that retries the job's last failed run.
    pub(super) retry_last: String,
}

/// The run to follow.
pub(super) struct StartedRun {
    pub(super) run: Run,
    /// Found, not started.
    pub(super) adopted: bool,
    pub(super) sends: u32,
    pub(super) duplicate_risk: Option<DuplicateRisk>,
    pub(super) intent: Option<Intent>,
}

impl From<Triggered> for StartedRun {
    fn from(Triggered { run, adopted, sends, duplicate_risk, intent }: Triggered) -> StartedRun {
        StartedRun { run, adopted, sends, duplicate_risk: Some(duplicate_risk), intent }
    }
}

/// What a start uses of the command.
pub(super) struct StartContext<'a> {
    pub(super) run_ctx: RunContext,
    pub(super) interrupt_report: InterruptReport,
    pub(super) journal: &'a Journal,
    /// Set if several runs are polled together.
    pub(super) shared: Option<SharedPolling<'a>>,
}

/// Shared polling and limits of several runs.
#[derive(Clone, Copy)]
pub(super) struct SharedPolling<'a> {
    pub(super) poller: &'a RunPoller,
    /// One permit per running run (`--max-parallel`).
    pub(super) run_permits: &'a Semaphore,
    /// One permit per run whose files are downloaded.
    pub(super) download_permits: &'a Semaphore,
    /// One permit per start being sent.
    pub(super) send_permits: &'a Semaphore,
    /// Steps need a request per run and come with all logs, so only a few runs show them.
    pub(super) steps: bool,
}

impl PreparedRun {
    pub(super) fn watch_command(&self, run: u64) -> String {
        printed_commands::on_dbt_run("watch", run, &self.account, &self.flags, self.by_address)
    }

    /// The report before the start.
    pub(super) fn report(&self) -> DbtReport {
        let mut report = DbtReport::new(&self.account);
        report.job_id = Some(self.request.job);
        report.key = (!self.options.failed).then(|| self.request.key.as_str().to_owned());
        report
    }

    /// The command that retries the run of this start from its point of failure, and no other run.
    pub(super) fn retry_command(&self) -> String {
        let resume = &self.request.resume;
        if self.options.failed { resume.clone() } else { format!("{resume} --retry 1") }
    }

    /// The command that cancels the run.
    pub(super) fn cancel(&self, run: u64) -> String {
        printed_commands::on_dbt_run("cancel", run, &self.account, &self.flags, self.by_address)
    }
}
