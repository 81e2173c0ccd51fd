//! `run JOB...`: one start, from arguments to outcome.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::{SemaphorePermit, oneshot};
use tokio::time::{Instant, timeout_at};

use super::dbt_report::DbtReport;
use super::follow_dbt::{DbtFollower, DbtRunEvents};
use super::prepared_run::{PreparedRun, SharedPolling, StartContext, StartedRun};
use super::progress::RunProgress;
use super::retry_from_failure::{Resuming, Retries};
use super::{RunOptions, WaitOptions, cancel_on_interrupt, several_jobs};
use crate::commands::shared::job_argument::{JobArgument, JobFilterFlags};
use crate::commands::shared::printed_commands;
use crate::commands::{CommandContext, connect_dbt};
use crate::context::Environment;
use crate::credentials::{Account, InputErrors};
use crate::dbt::{Link, Overrides, Run, get_job};
use crate::events::RunEvent;
use crate::failure::{Code, Ended, Failure, Report, of_start};
use crate::runs::{
    DbtRun, DbtState, DuplicateRisk, Intent, Journal, Key, Milestone, NotStarted, RunContext, TriggerRequest,
    Triggered, trigger,
};

/// Longest time for checking the job before it is triggered.
const PREFLIGHT: Duration = Duration::from_secs(10);

/// Maximum number of earlier open starts mentioned.
const MOST_REMARKS: usize = 3;

/// What to start, as given by the user.
pub(super) struct RunRequest {
    pub(super) jobs: Vec<String>,
    /// Maximum number of runs at the same time; `None`: no limit.
    pub(super) max_parallel: Option<usize>,
    pub(super) job_filter: JobFilterFlags,
    pub(super) cause: Option<String>,
    pub(super) overrides: Overrides,
    pub(super) options: RunOptions,
}

pub(super) async fn run(
    request: RunRequest,
    waiting: WaitOptions,
    errors: InputErrors,
    ctx: &CommandContext,
) -> Ended<Box<dyn Report>> {
    let max_parallel = request.max_parallel;
    let starts = match prepare(request, waiting, errors, ctx).await {
        Ok(starts) => starts,
        Err(failure) => return failure.into(),
    };
    let journal = Journal::new(ctx.context.environment.state_folder());
    report_open_starts(&journal, &starts, ctx);
    let (run_ctx, interrupt_report) = (ctx.run_context(), ctx.interrupt_report.clone());
    match starts.as_slice() {
        [] => Failure::new(Code::Usage, "no job given").run("see its flags", "dbtrigger run --help").into(),
        [start] => {
            start.run(&StartContext { run_ctx, interrupt_report, journal: &journal, shared: None }).await.boxed()
        }
        several => several_jobs::run(several, max_parallel, &journal, ctx).await,
    }
}

async fn prepare(
    request: RunRequest,
    waiting: WaitOptions,
    mut errors: InputErrors,
    ctx: &CommandContext,
) -> Result<Vec<PreparedRun>, Failure> {
    let RunRequest { jobs: texts, max_parallel: _, job_filter, cause, overrides, options } = request;
    let environment = &ctx.context.environment;
    let named: Option<Vec<JobArgument>> =
        errors.optional(texts.iter().map(|text| JobArgument::read(text)).collect::<Result<_, _>>().map(Some));
    let pasted: Vec<(String, Link)> = named.iter().flatten().flat_map(JobArgument::pasted).collect();
    let by_address = !pasted.is_empty();
    let (account, writer) = connect_dbt(&pasted, errors, ctx)?;
    let writer = writer.until(&waiting.deadline);
    let Some(named) = named else {
        return Err(Failure::new(Code::Bug, "a value is missing without an error"));
    };
    let patient = writer.patient();
    let finding = several_jobs::find(&named, &patient, &account, &job_filter, waiting.key_given);
    let found = ctx.interruption.or(finding).await.map_err(cancel_on_interrupt::nothing_started)?;
    // These codes may sound as if a run had been started.
    let clarified = |failure: Failure| {
        let is_ambiguous = matches!(failure.code, Code::StillRunning | Code::RateLimited | Code::Unavailable);
        if is_ambiguous { failure.cause("nothing was started") } else { failure }
    };
    let ids = found.map_err(clarified)?;
    several_jobs::refuse_duplicates(&ids, &texts)?;
    let WaitOptions { deadline, no_wait, key, key_given, parameters: _ } = waiting;
    // Last, so that a command that fails earlier creates no files.
    options.artifacts.as_deref().map_or(Ok(()), super::artifacts::check_folder)?;
    options.junit.as_deref().map_or(Ok(()), |file| ctx.results.claim(file, &texts))?;
    let results = options.junit.as_ref().map(|_| ctx.results.clone());
    // The cause is visible to everyone with access to the run, so secrets are masked.
    let reason = ctx.vault.filter().mask(&cause.unwrap_or_else(|| default_cause(environment))).into_owned();
    let alone = ids.len() == 1;
    let starts = named.iter().zip(ids).zip(texts).map(|((named, job), text)| {
        // A name may move to another job, so resume commands use the ID.
        let (text, shown) = match named {
            JobArgument::Name(name) => (job.to_string(), format!("\"{name}\" ({job})")),
            JobArgument::Address { job: _, pasted: _ } if !alone => (text, job.to_string()),
            JobArgument::Id(_) | JobArgument::Address { job: _, pasted: _ } => (text.clone(), text),
        };
        // Host and account may be known only from the URL of another job.
        let is_url = matches!(named, JobArgument::Address { job: _, pasted: _ });
        let text = if by_address && !is_url { job_url(&account, job) } else { text };
        // A generated key is for one run; a key from the user is shared, one run per job.
        let key = if key_given || alone { key.clone() } else { Key::fresh(&ctx.context.entropy) };
        let start_over = printed_commands::run_dbt_job(&text, &ctx.account, &overrides, None);
        // A retry keeps the parameters of the failed run.
        let retry_last = printed_commands::run_dbt_job(&text, &ctx.account, &Overrides::default(), None) + " --failed";
        let resume = if options.failed {
            retry_last.clone()
        } else {
            printed_commands::run_dbt_job(&text, &ctx.account, &overrides, Some(key.as_str()))
        };
        let request = TriggerRequest {
            account: account.id,
            job,
            resume,
            key,
            look_first: key_given,
            reason: reason.clone(),
            overrides: overrides.clone(),
            settle: options.settle,
            at_most_once: options.at_most_once,
            deadline: deadline.clone(),
        };
        PreparedRun {
            account: account.clone(),
            writer: writer.clone(),
            request,
            // Several jobs were already checked.
            checks_job: alone || key_given,
            no_wait,
            options: options.clone(),
            results: results.clone(),
            job: shown,
            by_address,
            flags: ctx.account.clone(),
            global_flags: ctx.global_flags(),
            start_over,
            retry_last,
        }
    });
    Ok(starts.collect())
}

fn job_url(account: &Account, job: u64) -> String {
    format!("{}/deploy/{}/jobs/{job}", account.origin, account.id)
}

/// The CI's name for the build is only descriptive: steps and matrix legs share it, so it cannot serve as key.
fn default_cause(environment: &Environment) -> String {
    for (service, place, number) in [
        ("GitHub Actions", "GITHUB_REPOSITORY", "GITHUB_RUN_ID"),
        ("GitLab CI", "CI_PROJECT_PATH", "CI_PIPELINE_ID"),
        ("Azure Pipelines", "BUILD_DEFINITIONNAME", "BUILD_BUILDID"),
    ] {
        if let (Some(place), Some(number)) = (environment.get(place), environment.get(number)) {
            return format!("Started by dbtrigger in {service}: {place}, run {number}");
        }
    }
    "Started by dbtrigger".to_owned()
}

impl PreparedRun {
    /// The failure for a run that was not started.
    pub(super) fn not_started(&self, error: &NotStarted) -> Failure {
        let page = job_url(&self.account, self.request.job);
        of_start(&self.job, &self.request.resume, &page, self.request.deadline.limit(), error)
    }

    pub(super) async fn run(&self, start_ctx: &StartContext<'_>) -> Ended<DbtReport> {
        let StartContext { run_ctx, interrupt_report, journal, shared } = start_ctx;
        let progress = RunProgress::new(self, interrupt_report);
        // The semaphore is never closed, so only the timeout can fail.
        let permit = match shared {
            Some(shared) => {
                let turn = self.request.deadline.cut(shared.run_permits.acquire());
                match run_ctx.interruption.or(turn).await {
                    Err(signal) => return progress.not_started(&NotStarted::Interrupted(signal), run_ctx),
                    Ok(None) => {
                        let why = "earlier runs had not ended, and --max-parallel allows no more at a time";
                        return progress.not_started(&NotStarted::NoTime(why.to_owned()), run_ctx);
                    }
                    Ok(Some(permit)) => permit.ok(),
                }
            }
            None => None,
        };
        // A run that may still be active keeps its permit, so that the limit holds.
        let release = |permit: Option<SemaphorePermit<'_>>, ended: &Ended<DbtReport>| {
            if let Some(permit) = permit
                && several_jobs::may_be_active(ended)
            {
                permit.forget();
            }
        };
        // The semaphore is never closed; on timeout, the trigger reports it.
        let turn = match shared {
            Some(shared) => self.request.deadline.cut(shared.send_permits.acquire()).await,
            None => None,
        };
        let milestone = |milestone: Milestone<'_>| progress.milestone(milestone);
        let begun = if self.options.failed {
            Box::pin(self.resume_last(&progress, run_ctx, journal)).await
        } else {
            let triggered = self.trigger(run_ctx, journal, &milestone).await;
            triggered.map(StartedRun::from).map_err(|error| progress.not_started(&error, run_ctx))
        };
        drop(turn);
        let StartedRun { run, adopted, sends, duplicate_risk, mut intent } = match begun {
            Ok(begun) => begun,
            Err(ended) => {
                release(permit, &ended);
                return ended;
            }
        };
        progress.begun(&run, adopted, sends);
        if adopted && !self.options.failed {
            run_ctx.events.run(RunEvent::Adopted { has_ended: run.ended().is_some() });
        }
        let mut retries = Retries { most: self.options.retry, done: 0, is_impossible: false };
        let mut ended = if self.no_wait {
            self.rule_out_second_run(run, duplicate_risk.clone(), &progress, start_ctx).await
        } else {
            self.follow(run, duplicate_risk.clone(), &progress, intent.as_mut(), &mut retries, start_ctx).await
        };
        // A retry of the reported run may be active.
        let unknown = ended.failure.as_ref().is_some_and(|failure| failure.code == Code::OutcomeUnknown);
        if let Some(signal) = run_ctx.interruption.signal() {
            progress.cancel(signal, duplicate_risk.clone(), &mut ended, run_ctx).await;
        }
        // Nothing is left to resume after the end or with `--no-wait`, unless an interrupt was to cancel the run.
        let interrupted = ended.report.as_ref().is_some_and(|report| report.on_interrupt.is_some());
        let is_gone = ended.failure.as_ref().is_some_and(|failure| failure.code == Code::RunGone);
        let has_ended = is_gone || ended.report.as_ref().is_some_and(|report| report.end.is_some());
        if (has_ended && !unknown) || (self.no_wait && !interrupted) {
            // The files are downloaded afterwards.
            if let Some(report) = &ended.report {
                interrupt_report.ended(report);
            }
            if let Some(intent) = intent {
                intent.close();
            }
        }
        // Downloading files needs no `--max-parallel` permit.
        release(permit, &ended);
        if run_ctx.interruption.signal().is_none()
            && let Err(signal) = run_ctx.interruption.or(self.finish(&mut ended, &retries, start_ctx)).await
        {
            progress.cancel(signal, duplicate_risk, &mut ended, run_ctx).await;
        }
        ended
    }

    /// Triggers the run. Its job is checked while the trigger looks for earlier runs, which costs no extra time.
    async fn trigger(
        &self,
        run_ctx: &RunContext,
        journal: &Journal,
        milestone: &dyn Fn(Milestone<'_>),
    ) -> Result<Triggered, NotStarted> {
        let TriggerRequest { job, ref overrides, ref deadline, .. } = self.request;
        let (send_reason, reason) = oneshot::channel();
        let preflight = async {
            let until = deadline.at().min(Instant::now() + PREFLIGHT);
            let looked = timeout_at(until, self.writer.read_once(get_job(self.account.id, job))).await;
            // A job that cannot be read does not block the start.
            let found = looked.ok().and_then(Result::ok).filter(|found| found.id == job);
            if found.as_ref().is_some_and(|found| found.is_ci() && found.disabled_reason().is_none())
                && !overrides.has_pull_request()
            {
                run_ctx.events.run(RunEvent::CiJob { job });
            }
            let _ = send_reason.send(found.and_then(|found| found.disabled_reason()));
            std::future::pending::<Infallible>().await
        };
        let disabled = async { if self.checks_job { reason.await.ok().flatten() } else { None } };
        tokio::select! {
            triggered = trigger(&self.request, &self.writer, run_ctx, journal, milestone, disabled) => triggered,
            never = preflight, if self.checks_job => match never {},
        }
    }

    fn probe<'a>(
        &'a self,
        run: Run,
        duplicate_risk: Option<DuplicateRisk>,
        start_ctx: &'a StartContext<'_>,
    ) -> DbtRun<'a> {
        let probe = DbtRun::new(&self.writer, &start_ctx.run_ctx, self.request.account, run, duplicate_risk);
        match &start_ctx.shared {
            Some(SharedPolling { poller, steps: true, .. }) => probe.polled_by(poller),
            Some(SharedPolling { poller, steps: false, .. }) => probe.polled_by(poller).without_steps(),
            None => probe,
        }
    }

    /// For `--no-wait`: waits only until a second run is ruled out.
    async fn rule_out_second_run(
        &self,
        run: Run,
        duplicate_risk: Option<DuplicateRisk>,
        progress: &RunProgress<'_>,
        start_ctx: &StartContext<'_>,
    ) -> Ended<DbtReport> {
        let run_ctx = &start_ctx.run_ctx;
        let mut changes = DbtRunEvents::new(&run_ctx.events, &self.account);
        changes.found(&run);
        let mut report = progress.report();
        let mut probe = self.probe(run, duplicate_risk, start_ctx);
        // After an interrupt, the run is canceled later, together with any second one.
        if report.sends > 1 {
            run_ctx.events.run(RunEvent::CheckingForSecondRun);
            let outlasting = self.writer.within(self.request.settle * 2, probe.check_until_settled());
            let _ = run_ctx.interruption.or(outlasting).await;
        } else {
            let looking = self.writer.within(self.request.settle, probe.check_for_second_run());
            let _ = run_ctx.interruption.or(self.request.deadline.cut(looking)).await;
        }
        report.take(probe.run());
        report.add_duplicates(probe.duplicates());
        changes.state(&DbtState { run: probe.run().clone(), step: None });
        if run_ctx.interruption.signal().is_none() {
            let command = self.global_flags.command(&self.watch_command(probe.run().id));
            run_ctx.events.run(RunEvent::Next { command });
        }
        Ended::well(report)
    }

    /// Follows the run to its end, and any retries of it.
    async fn follow(
        &self,
        run: Run,
        duplicate_risk: Option<DuplicateRisk>,
        progress: &RunProgress<'_>,
        mut intent: Option<&mut Intent>,
        retries: &mut Retries,
        start_ctx: &StartContext<'_>,
    ) -> Ended<DbtReport> {
        let PreparedRun { account, writer, request, start_over, .. } = self;
        let run_ctx = &start_ctx.run_ctx;
        let mut changes = DbtRunEvents::new(&run_ctx.events, account);
        changes.found(&run);
        let watch_command = |run: u64| self.watch_command(run);
        let following = DbtFollower {
            account,
            writer,
            deadline: &request.deadline,
            watch_command: &watch_command,
            start_over: Some(start_over),
        };
        let on_news = |run: &Run| progress.milestone(Milestone::Known(run));
        let probe = self.probe(run, duplicate_risk, start_ctx);
        let followed = following.follow(probe, &mut changes, progress.report(), run_ctx, &on_news);
        let mut ended = run_ctx.interruption.or(followed).await.unwrap_or_else(|_| progress.interrupted());
        loop {
            let mut resuming = |report: &DbtReport, ctx: Resuming| {
                progress.resuming(report, ctx);
                if let (Resuming::Sending, Some(intent), Some(run)) = (ctx, &mut intent, report.run_id) {
                    let _ = intent.resuming(run);
                }
            };
            if run_ctx.interruption.signal().is_some() {
                break;
            }
            let Some(next) = retries.next(&mut ended, self, run_ctx, &mut resuming).await else { break };
            let Some(report) = ended.report.take() else { break };
            progress.resumed(&report, &next);
            if let Some(intent) = &mut intent {
                let _ = intent.run(next.id);
            }
            changes.found(&next);
            let probe = self.probe(next, None, start_ctx);
            let followed = following.follow(probe, &mut changes, report, run_ctx, &on_news);
            ended = run_ctx.interruption.or(followed).await.unwrap_or_else(|_| progress.interrupted());
        }
        ended
    }
}

/// Mentions starts that earlier commands left open: `watch` follows a known run, `run` with the key finds an unknown
/// one.
fn report_open_starts(journal: &Journal, starts: &[PreparedRun], ctx: &CommandContext) {
    let Some(start) = starts.first() else { return };
    let open = journal.open_intents(ctx.context.wall.now());
    let is_ours = |key: &str| starts.iter().any(|start| start.request.key.as_str() == key);
    // Commands for another account would not work with the current settings.
    let others = open.iter().filter(|open| {
        !is_ours(&open.entry.key)
            && open.entry.origin == start.writer.origin()
            && open.entry.account == start.account.id
    });
    for open in others.take(MOST_REMARKS) {
        let command = open.run.map_or_else(|| open.entry.resume.clone(), |run| start.watch_command(run));
        ctx.events.run(RunEvent::OpenStart { job: open.entry.job, run: open.run, command });
    }
}
