//! `run JOB...`: one start, from arguments to outcome.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::time::{Instant, timeout_at};

use super::dbt_report::DbtReport;
use super::follow_dbt::{DbtRunEvents, Following};
use super::junit::Results;
use super::progress::RunProgress;
use super::retry::{Resuming, Retries};
use super::{WaitOptions, on_interrupt, resume, several};
use crate::commands::job_named::{JobNamed, Narrow};
use crate::commands::{CommandContext, Given, LastKnown, line_to_dbt};
use crate::context::Environment;
use crate::credentials::{Account, AccountFlags, InputErrors};
use crate::dbt::{Link, Overrides, Run, get_job};
use crate::events::RunEvent;
use crate::failure::{Code, Ended, Failure, Report, of_start};
use crate::http::{Deadline, Writer};
use crate::runs::{
    DbtRun, DbtState, DuplicateRisk, Intent, Journal, Key, Milestone, NotStarted, RunContext, RunPoller,
    TriggerRequest, Triggered, trigger,
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
    pub(super) narrow: Narrow,
    pub(super) cause: Option<String>,
    pub(super) overrides: Overrides,
}

/// Retries, duplicate protection and output files.
pub(super) struct RunOptions {
    /// The last run is resumed.
    pub(super) failed: bool,
    pub(super) retry: u32,
    /// Folder for artifacts.
    pub(super) artifacts: Option<PathBuf>,
    /// JUnit file.
    pub(super) junit: Option<PathBuf>,
    pub(super) settle: Duration,
    pub(super) at_most_once: bool,
}

pub(super) async fn run(
    request: RunRequest,
    options: RunOptions,
    waiting: WaitOptions,
    errors: InputErrors,
    ctx: &CommandContext,
) -> Ended<Box<dyn Report>> {
    let max_parallel = request.max_parallel;
    let mut starts = match settle(request, options, waiting, errors, ctx).await {
        Ok(starts) => starts,
        Err(failure) => return failure.into(),
    };
    let journal = Journal::new(ctx.context.environment.state_folder());
    point_at_open_starts(&journal, &starts, ctx);
    if starts.len() > 1 {
        return several::run(starts, max_parallel, &journal, ctx).await;
    }
    let around =
        StartContext { means: ctx.run_context(), last_known: ctx.last_known.clone(), journal: &journal, shared: None };
    let Some(start) = starts.pop() else {
        return Failure::new(Code::Usage, "no job given").run("see its flags", "dbtrigger run --help").into();
    };
    let Ended { report, failure } = start.run(&around).await;
    Ended { report: report.map(|report| Box::new(report) as Box<dyn Report>), failure }
}

/// A start with everything it needs.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command")]
pub(super) struct PreparedRun {
    pub(super) account: Account,
    pub(super) writer: Writer,
    pub(super) deadline: Deadline,
    pub(super) order: TriggerRequest,
    /// Check the job before starting it.
    looks: bool,
    no_wait: bool,
    /// Maximum number of retries of a failed run.
    retry: u32,
    pub(super) artifacts: Option<PathBuf>,
    /// Collects the results for `--junit`.
    pub(super) results: Option<Results>,
    /// As given by the user.
    pub(super) job: String,
    /// A job was given by URL, which may be the only source of host and account.
    by_address: bool,
    flags: AccountFlags,
    given: Given,
    /// The same command without an idempotency key.
    pub(super) again: String,
    /// The command that retries the job's last failed run.
    pub(super) retry_last: String,
    /// Resume the job's last run instead of starting one.
    failed: bool,
}

/// The run to follow.
pub(super) struct Begun {
    pub(super) run: Run,
    /// Found, not started.
    pub(super) adopted: bool,
    pub(super) sends: u32,
    pub(super) duplicate_risk: Option<DuplicateRisk>,
    pub(super) intent: Option<Intent>,
}

impl From<Triggered> for Begun {
    fn from(Triggered { run, adopted, sends, duplicate_risk, intent }: Triggered) -> Begun {
        Begun { run, adopted, sends, duplicate_risk: Some(duplicate_risk), intent }
    }
}

/// What a start uses of the command.
pub(super) struct StartContext<'a> {
    pub(super) means: RunContext,
    pub(super) last_known: LastKnown,
    pub(super) journal: &'a Journal,
    /// Set if several runs are polled together.
    pub(super) shared: Option<SharedPolling<'a>>,
}

/// Shared polling and limits of several runs.
#[derive(Clone, Copy)]
pub(super) struct SharedPolling<'a> {
    pub(super) poller: &'a RunPoller,
    /// One permit per running run (`--max-parallel`).
    pub(super) places: &'a Semaphore,
    /// One permit per run whose files are downloaded.
    pub(super) fetching: &'a Semaphore,
    /// One permit per start being sent.
    pub(super) sending: &'a Semaphore,
    /// Steps need a request per run and come with all logs, so only a few runs show them.
    pub(super) steps: bool,
}

async fn settle(
    request: RunRequest,
    options: RunOptions,
    waiting: WaitOptions,
    mut errors: InputErrors,
    ctx: &CommandContext,
) -> Result<Vec<PreparedRun>, Failure> {
    let RunRequest { jobs: texts, max_parallel: _, narrow, cause, overrides } = request;
    let environment = &ctx.context.environment;
    let named: Option<Vec<JobNamed>> =
        errors.optional(texts.iter().map(|text| JobNamed::read(text)).collect::<Result<_, _>>().map(Some));
    let pasted: Vec<(String, Link)> = named.iter().flatten().flat_map(JobNamed::pasted).collect();
    let by_address = !pasted.is_empty();
    let (account, writer) = line_to_dbt(&pasted, errors, ctx)?;
    let writer = writer.until(&waiting.deadline);
    let Some(named) = named else {
        return Err(Failure::new(Code::Bug, "a value is missing without an error"));
    };
    let patient = writer.patient();
    let finding = several::find(&named, &patient, &account, &narrow, waiting.given);
    let found = ctx.interruption.or(finding).await.map_err(on_interrupt::nothing_started)?;
    // These codes may sound as if a run had been started.
    let say = |failure: Failure| {
        let told = matches!(failure.code, Code::StillRunning | Code::RateLimited | Code::Unavailable);
        if told { failure.cause("nothing was started") } else { failure }
    };
    let ids = found.map_err(say)?;
    several::check_once(&ids, &texts)?;
    let WaitOptions { deadline, no_wait, key, given, parameters: _ } = waiting;
    let RunOptions { failed, retry, artifacts, junit, settle, at_most_once } = options;
    // Last, so that a command that fails earlier creates no files.
    artifacts.as_deref().map_or(Ok(()), super::artifacts::check_folder)?;
    junit.as_deref().map_or(Ok(()), |file| ctx.results.claim(file, &texts))?;
    let results = junit.map(|_| ctx.results.clone());
    // The cause is visible to everyone with access to the run, so secrets are masked.
    let said = ctx.vault.filter().mask(&cause.unwrap_or_else(|| usual_cause(environment))).into_owned();
    let alone = ids.len() == 1;
    let starts = named.iter().zip(ids).zip(texts).map(|((named, job), text)| {
        // A name may move to another job, so resume commands use the ID.
        let (text, shown) = match named {
            JobNamed::Name(name) => (job.to_string(), format!("\"{name}\" ({job})")),
            JobNamed::Address { job: _, pasted: _ } if !alone => (text, job.to_string()),
            JobNamed::Id(_) | JobNamed::Address { job: _, pasted: _ } => (text.clone(), text),
        };
        // Host and account may be known only from the URL of another job.
        let text = match named {
            JobNamed::Name(_) | JobNamed::Id(_) if by_address => page_of(&account, job),
            JobNamed::Name(_) | JobNamed::Id(_) | JobNamed::Address { job: _, pasted: _ } => text,
        };
        // A generated key is for one run; a key from the user is shared, one run per job.
        let key = if given || alone { key.clone() } else { Key::fresh(&ctx.context.entropy) };
        let again = resume::of_dbt(&text, &ctx.account, &overrides, None);
        // A retry keeps the parameters of the failed run.
        let retry_last = resume::of_dbt(&text, &ctx.account, &Overrides::default(), None) + " --failed";
        let resume = if failed {
            retry_last.clone()
        } else {
            resume::of_dbt(&text, &ctx.account, &overrides, Some(key.as_str()))
        };
        let order = TriggerRequest {
            account: account.id,
            job,
            resume,
            key,
            look_first: given,
            said: said.clone(),
            overrides: overrides.clone(),
            settle,
            at_most_once,
            deadline: deadline.at(),
        };
        let (artifacts, results) = (artifacts.clone(), results.clone());
        let (account, writer, flags) = (account.clone(), writer.clone(), ctx.account.clone());
        let deadline = deadline.clone();
        // Several jobs were already checked.
        let looks = alone || given;
        PreparedRun {
            account,
            writer,
            deadline,
            order,
            looks,
            no_wait,
            retry,
            artifacts,
            results,
            job: shown,
            by_address,
            flags,
            given: ctx.given(),
            again,
            retry_last,
            failed,
        }
    });
    Ok(starts.collect())
}

fn page_of(account: &Account, job: u64) -> String {
    format!("{}/deploy/{}/jobs/{job}", account.origin, account.id)
}

/// The CI's name for the build is only descriptive: steps and matrix legs share it, so it cannot serve as key.
fn usual_cause(environment: &Environment) -> String {
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
    pub(super) fn pick_up(&self, run: u64) -> String {
        resume::watch_dbt(run, &self.account, &self.flags, self.by_address)
    }

    /// The report before the start.
    pub(super) fn report(&self) -> DbtReport {
        let mut report = DbtReport::new(&self.account);
        report.job_id = Some(self.order.job);
        report.key = (!self.failed).then(|| self.order.key.as_str().to_owned());
        report
    }

    /// The command that retries the run of this start from its point of failure, and no other run.
    pub(super) fn retry_command(&self) -> String {
        let resume = &self.order.resume;
        if self.failed { resume.clone() } else { format!("{resume} --retry 1") }
    }

    /// The failure for a run that was not started.
    pub(super) fn not_started(&self, error: &NotStarted) -> Failure {
        of_start(&self.job, &self.order.resume, &page_of(&self.account, self.order.job), error)
    }

    pub(super) async fn run(&self, around: &StartContext<'_>) -> Ended<DbtReport> {
        let StartContext { means, last_known, journal, shared } = around;
        let progress = RunProgress::new(self, last_known);
        // The semaphore is never closed, so only the timeout can fail.
        let place = match shared {
            Some(shared) => {
                let turn = timeout_at(self.order.deadline, shared.places.acquire());
                match means.interruption.or(turn).await {
                    Err(signal) => return progress.not_started(&NotStarted::Interrupted(signal), means),
                    Ok(Err(_)) => {
                        let why = "earlier runs had not ended, and --max-parallel allows no more at a time";
                        return progress.not_started(&NotStarted::NoTime(why.to_owned()), means);
                    }
                    Ok(Ok(place)) => place.ok(),
                }
            }
            None => None,
        };
        // A run that may still be active keeps its permit, so that the limit holds.
        let leave = |place: Option<SemaphorePermit<'_>>, ended: &Ended<DbtReport>| {
            if let Some(place) = place
                && several::may_go_on(ended)
            {
                place.forget();
            }
        };
        // The semaphore is never closed; on timeout, the trigger reports it.
        let turn = match shared {
            Some(shared) => timeout_at(self.order.deadline, shared.sending.acquire()).await.ok(),
            None => None,
        };
        let milestone = |milestone: Milestone<'_>| progress.milestone(milestone);
        let begun = if self.failed {
            Box::pin(self.resume_last(&progress, means, journal)).await
        } else {
            let triggered = self.trigger(means, journal, &milestone).await;
            triggered.map(Begun::from).map_err(|error| progress.not_started(&error, means))
        };
        drop(turn);
        let Begun { run, adopted, sends, duplicate_risk, mut intent } = match begun {
            Ok(begun) => begun,
            Err(ended) => {
                leave(place, &ended);
                return ended;
            }
        };
        progress.begun(&run, adopted, sends);
        if adopted && !self.failed {
            means.events.run(RunEvent::Adopted { has_ended: run.ended().is_some() });
        }
        let mut retries = Retries { most: self.retry, done: 0, cannot: false };
        let mut ended = if self.no_wait {
            self.wait_for_no_second(run, duplicate_risk.clone(), &progress, around).await
        } else {
            self.follow(run, duplicate_risk.clone(), &progress, intent.as_mut(), &mut retries, around).await
        };
        // A retry of the reported run may be active.
        let unknown = ended.failure.as_ref().is_some_and(|failure| failure.code == Code::OutcomeUnknown);
        if let Some(signal) = means.interruption.heard() {
            progress.stop(signal, duplicate_risk.clone(), &mut ended, means).await;
        }
        // Nothing is left to resume after the end or with `--no-wait`, unless an interrupt was to cancel the run.
        let interrupted = ended.report.as_ref().is_some_and(|report| report.on_interrupt.is_some());
        let is_gone = ended.failure.as_ref().is_some_and(|failure| failure.code == Code::RunGone);
        let has_ended = is_gone || ended.report.as_ref().is_some_and(|report| report.end.is_some());
        if (has_ended && !unknown) || (self.no_wait && !interrupted) {
            // The files are downloaded afterwards.
            if let Some(report) = &ended.report {
                last_known.over(report);
            }
            if let Some(intent) = intent {
                intent.close();
            }
        }
        // Downloading files needs no `--max-parallel` permit.
        leave(place, &ended);
        if means.interruption.heard().is_none()
            && let Err(signal) = means.interruption.or(self.finish(&mut ended, &retries, around)).await
        {
            progress.stop(signal, duplicate_risk, &mut ended, means).await;
        }
        ended
    }

    /// Triggers the run. Its job is checked while the trigger looks for earlier runs, which costs no extra time.
    async fn trigger(
        &self,
        means: &RunContext,
        journal: &Journal,
        milestone: &dyn Fn(Milestone<'_>),
    ) -> Result<Triggered, NotStarted> {
        let TriggerRequest { job, ref overrides, deadline, .. } = self.order;
        let (tell, told) = oneshot::channel();
        let preflight = async {
            let until = deadline.min(Instant::now() + PREFLIGHT);
            let looked = timeout_at(until, self.writer.read_once(get_job(self.account.id, job))).await;
            // A job that cannot be read does not block the start.
            let found = looked.ok().and_then(Result::ok).filter(|found| found.id == job);
            if found.as_ref().is_some_and(|found| found.is_ci() && found.disabled_reason().is_none())
                && !overrides.has_pull_request()
            {
                means.events.run(RunEvent::CiJob { job });
            }
            let _ = tell.send(found.and_then(|found| found.disabled_reason()));
            std::future::pending::<Infallible>().await
        };
        let disabled = async { if self.looks { told.await.ok().flatten() } else { None } };
        tokio::select! {
            triggered = trigger(&self.order, &self.writer, means, journal, milestone, disabled) => triggered,
            never = preflight, if self.looks => match never {},
        }
    }

    fn probe<'a>(
        &'a self,
        run: Run,
        duplicate_risk: Option<DuplicateRisk>,
        around: &'a StartContext<'_>,
    ) -> DbtRun<'a> {
        let StartContext { means, last_known: _, journal: _, shared } = around;
        let probe = DbtRun::new(&self.writer, &means.wall, &means.events, self.order.account, run, duplicate_risk);
        match shared {
            Some(SharedPolling { poller, places: _, sending: _, fetching: _, steps: true }) => probe.polled_by(poller),
            Some(SharedPolling { poller, places: _, sending: _, fetching: _, steps: false }) => {
                probe.polled_by(poller).without_steps()
            }
            None => probe,
        }
    }

    /// For `--no-wait`: waits only until a second run is ruled out.
    async fn wait_for_no_second(
        &self,
        run: Run,
        duplicate_risk: Option<DuplicateRisk>,
        progress: &RunProgress<'_>,
        around: &StartContext<'_>,
    ) -> Ended<DbtReport> {
        let means = &around.means;
        let mut changes = DbtRunEvents::new(&means.events, &self.account);
        changes.found(&run);
        let mut report = progress.report();
        let mut probe = self.probe(run, duplicate_risk, around);
        // After an interrupt, the run is canceled later, together with any second one.
        if report.sends > 1 {
            means.events.run(RunEvent::CheckingForSecondRun);
            let outlasting = self.writer.within(self.order.settle * 2, probe.watch_until_settled());
            let _ = means.interruption.or(outlasting).await;
        } else {
            let looking = self.writer.within(self.order.settle, probe.look_for_second());
            let _ = means.interruption.or(timeout_at(self.order.deadline, looking)).await;
        }
        report.take(probe.run());
        report.add_duplicates(probe.duplicates());
        changes.state(&DbtState { run: probe.run().clone(), step: None });
        if means.interruption.heard().is_none() {
            let command = self.given.command(&self.pick_up(probe.run().id));
            means.events.run(RunEvent::Next { command });
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
        around: &StartContext<'_>,
    ) -> Ended<DbtReport> {
        let PreparedRun {
            account,
            writer,
            deadline,
            order,
            looks: _,
            no_wait: _,
            retry: _,
            artifacts: _,
            results: _,
            job: _,
            by_address: _,
            flags: _,
            given: _,
            again,
            retry_last: _,
            failed: _,
        } = self;
        let means = &around.means;
        let mut changes = DbtRunEvents::new(&means.events, account);
        changes.found(&run);
        let pick_up = |run: u64| self.pick_up(run);
        let following = Following { account, writer, deadline, pick_up: &pick_up, again: Some(again) };
        let on_news = |run: &Run| progress.milestone(Milestone::Known(run));
        let probe = self.probe(run, duplicate_risk, around);
        let followed = following.follow(probe, &mut changes, progress.report(), means, &on_news);
        let mut ended = means.interruption.or(followed).await.unwrap_or_else(|_| progress.left());
        loop {
            let mut resuming = |report: &DbtReport, ctx: Resuming| {
                progress.resuming(report, ctx);
                if let (Resuming::Sending, Some(intent), Some(run)) = (ctx, &mut intent, report.run_id) {
                    let _ = intent.resuming(run);
                }
            };
            if means.interruption.heard().is_some() {
                break;
            }
            let Some(next) = retries.next(&mut ended, order, writer, means, &mut resuming).await else { break };
            let Some(report) = ended.report.take() else { break };
            progress.resumed(&report, &next);
            if let Some(intent) = &mut intent {
                let _ = intent.run(next.id);
            }
            changes.found(&next);
            let probe = self.probe(next, None, around);
            let followed = following.follow(probe, &mut changes, report, means, &on_news);
            ended = means.interruption.or(followed).await.unwrap_or_else(|_| progress.left());
        }
        ended
    }

    /// The command that cancels the run.
    pub(super) fn cancel(&self, run: u64) -> String {
        resume::on_dbt_run("cancel", run, &self.account, &self.flags, self.by_address)
    }
}

/// Mentions starts that earlier commands left open: `watch` follows a known run, `run` with the key finds an unknown
/// one.
fn point_at_open_starts(journal: &Journal, starts: &[PreparedRun], ctx: &CommandContext) {
    let Some(start) = starts.first() else { return };
    let open = journal.open_intents(ctx.context.wall.now());
    let is_ours = |key: &str| starts.iter().any(|start| start.order.key.as_str() == key);
    // Commands for another account would not work with the current settings.
    let others = open.iter().filter(|open| {
        !is_ours(&open.entry.key)
            && open.entry.origin == start.writer.origin()
            && open.entry.account == start.account.id
    });
    for open in others.take(MOST_REMARKS) {
        let command = open.run.map_or_else(|| open.entry.resume.clone(), |run| start.pick_up(run));
        ctx.events.run(RunEvent::OpenStart { job: open.entry.job, run: open.run, command });
    }
}
