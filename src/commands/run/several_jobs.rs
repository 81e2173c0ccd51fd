//! `run JOB JOB...`: several starts in parallel, polled together, with one outcome.

use futures_util::future::{join_all, try_join_all};
use tokio::sync::Semaphore;

use super::artifacts;
use super::dbt_report::DbtReport;
use super::prepared_run::{PreparedRun, SharedPolling, StartContext};
use crate::commands::CommandContext;
use crate::commands::shared::job_argument::{JobArgument, JobFilterFlags};
use crate::credentials::Account;
use crate::dbt::{Status, get_job};
use crate::document::{Data, document};
use crate::failure::{Code, Ended, Failure, Hint, Known, Report, RunOutcome, of_dbt};
use crate::http::Reader;
use crate::line::Line;
use crate::runs::{Journal, RunContext, RunPoller};

/// Jobs looked up, and starts sent, at the same time.
const AT_A_TIME: usize = 8;

/// Maximum number of runs whose steps are shown: steps need a request per run and come with all logs.
const WITH_STEPS: usize = 10;

/// Maximum number of causes, and of next steps, shown; the JSON document has all of them.
const SHOWN: usize = 20;

/// Returns the IDs of all jobs. If there are several, each is checked, so that an unknown or disabled job fails before
/// the first start. `given`: the key is from the user, so its runs may already exist.
pub(super) async fn find(
    named: &[JobArgument],
    reader: &Reader,
    account: &Account,
    job_filter: &JobFilterFlags,
    given: bool,
) -> Result<Vec<u64>, Failure> {
    let find_one = async |named: &JobArgument| named.find(reader, account, job_filter).await;
    let check_one = async |job: u64| {
        let looked = reader.read(get_job(account.id, job)).await;
        let found = looked
            .map_err(|error| of_dbt(&format!("cannot read dbt job {job}"), &error).state("nothing was started"))?;
        match found.disabled_reason() {
            // A run that the key started earlier is followed.
            Some(disabled) if !given => {
                let what = format!("dbt job {job} would not start; nothing was started");
                Err(Failure::new(Code::Refused, what).cause(disabled.why()).advise(disabled.advice()))
            }
            Some(_) | None => Ok(()),
        }
    };
    let mut ids = Vec::new();
    for some in named.chunks(AT_A_TIME) {
        ids.extend(try_join_all(some.iter().map(find_one)).await?);
    }
    if ids.len() > 1 {
        for some in ids.chunks(AT_A_TIME) {
            let _ = try_join_all(some.iter().copied().map(check_one)).await?;
        }
    }
    Ok(ids)
}

/// Refuses duplicate jobs: with one key both would be the same run.
pub(super) fn refuse_duplicates(ids: &[u64], texts: &[String]) -> Result<(), Failure> {
    for (index, id) in ids.iter().enumerate() {
        if let Some(first) = ids[..index].iter().position(|earlier| earlier == id) {
            return Err(Failure::new(
                Code::InvalidInput,
                format!("dbt job {id} is given twice: \"{}\" and \"{}\"", texts[first], texts[index]),
            )
            .advise("name each job once; run the command again for a second run"));
        }
    }
    Ok(())
}

/// Starts all of them, at most `max_parallel` at the same time, and waits for all.
pub(super) async fn run(
    starts: &[PreparedRun],
    max_parallel: Option<usize>,
    journal: &Journal,
    ctx: &CommandContext,
) -> Ended<Box<dyn Report>> {
    let first = &starts[0];
    let run_ctx = ctx.run_context();
    let deadline = first.request.deadline.clone();
    let poller = RunPoller::new(first.writer.reader(), first.account.id, run_ctx.pace.poll, deadline);
    let send_permits = Semaphore::new(AT_A_TIME);
    let run_permits = Semaphore::new(max_parallel.unwrap_or(starts.len()));
    let download_permits = Semaphore::new(artifacts::AT_A_TIME);
    let shared = SharedPolling {
        poller: &poller,
        run_permits: &run_permits,
        send_permits: &send_permits,
        download_permits: &download_permits,
        steps: starts.len() <= WITH_STEPS,
    };
    let one = async |index: usize, start: &PreparedRun| {
        let interrupt_report = ctx.interrupt_report.one_of_several(index);
        let run_ctx = RunContext { events: ctx.events.of_job(&start.job), ..run_ctx.clone() };
        let start_ctx =
            StartContext { run_ctx, interrupt_report: interrupt_report.clone(), journal, shared: Some(shared) };
        let Ended { report, failure } = start.run(&start_ctx).await;
        let one = EndedRun { job: start.job.clone(), report: report.unwrap_or_else(|| start.report()), failure };
        interrupt_report.keep(Known { data: one.json(), runs: vec![one.outcome()] });
        one
    };
    let runs = tokio::select! {
        runs = join_all(starts.iter().enumerate().map(|(index, start)| one(index, start))) => runs,
        () = poller.serve() => return Failure::new(Code::Bug, "polling ended unexpectedly").into(),
    };
    let several = Several { runs };
    let failure = several.failure();
    Ended { report: Some(Box::new(several)), failure }
}

/// Whether a run without a follower may still be active.
pub(super) fn may_be_active(ended: &Ended<DbtReport>) -> bool {
    let Ended { report, failure } = ended;
    let unseen = report.as_ref().is_some_and(|report| report.run_id.is_some() && report.end.is_none());
    failure
        .as_ref()
        .is_some_and(|failure| failure.code != Code::RunGone && (unseen || failure.code == Code::OutcomeUnknown))
}

/// How one of the runs ended.
struct EndedRun {
    /// As given by the user.
    job: String,
    report: DbtReport,
    failure: Option<Failure>,
}

impl EndedRun {
    fn json(&self) -> Data {
        let EndedRun { job: _, report, failure } = self;
        let mut data = report.json();
        data.set("exit_code", failure.as_ref().map_or(0, |failure| failure.code.exit()));
        data.set("error", failure.as_ref().map(Failure::json));
        data
    }

    fn outcome(&self) -> RunOutcome {
        let EndedRun { job: _, report, failure } = self;
        RunOutcome { result: Some(failure.clone().map_or(Ok(()), Err)), ..report.outcome() }
    }
}

/// The `data` of `run` with several jobs: `runs`, in the order of the arguments.
struct Several {
    runs: Vec<EndedRun>,
}

impl Several {
    /// The most urgent outcome: unknown, then error, canceled, not started, still running.
    fn failure(&self) -> Option<Failure> {
        let rank = |code: Code| match code {
            // An interrupt outranks everything else.
            Code::Interrupted(_) | Code::Cancelled(_) => 0,
            Code::OutcomeUnknown => 1,
            Code::RunFailed => 2,
            Code::RunCancelled => 3,
            Code::Failed
            | Code::Usage
            | Code::MissingInput
            | Code::InvalidInput
            | Code::Contradiction
            | Code::NotAuthenticated
            | Code::NotAllowed
            | Code::NotFound
            | Code::RunGone
            | Code::Refused
            | Code::ChangedMeanwhile
            | Code::Network
            | Code::Tls
            | Code::UnexpectedResponse
            | Code::Bug
            | Code::RateLimited
            | Code::Unavailable => 4,
            Code::StillRunning => 5,
        };
        let failures: Vec<(&str, &Failure)> =
            self.runs.iter().filter_map(|one| Some((one.job.as_str(), one.failure.as_ref()?))).collect();
        let code = failures.iter().map(|(_, failure)| failure.code).min_by_key(|code| rank(*code))?;
        let what = format!("{} of {} runs did not succeed", failures.len(), self.runs.len());
        let mut whole = Failure::new(code, what);
        for (job, failure) in &failures {
            whole.causes.push(format!("{job}: {}", failure.what));
            whole.causes.extend(failure.causes.iter().map(|cause| format!("{job}: {cause}")));
            let new: Vec<Hint> = failure.hints.iter().filter(|hint| !whole.hints.contains(hint)).cloned().collect();
            whole.hints.extend(new);
        }
        if whole.causes.len() > SHOWN {
            let more = whole.causes.split_off(SHOWN).len();
            whole.causes.push(format!("and {more} more lines; `-o json` has the error of each run"));
        }
        whole.hints.truncate(SHOWN);
        Some(whole)
    }
}

impl Report for Several {
    /// One line per run, after all progress lines.
    fn text(&self) -> Vec<Line> {
        let line = |one: &EndedRun| {
            let EndedRun { job, report, failure } = one;
            let status = match (report.status, failure) {
                (Some(status), _) => Status::word(status),
                // No run exists, so its code `still-running` would be misleading.
                (None, Some(failure)) if failure.code == Code::StillRunning && report.run_id.is_none() => {
                    "not started".to_owned()
                }
                (None, Some(failure)) => failure.code.name().to_owned(),
                (None, None) => "not seen".to_owned(),
            };
            format!("{job}   {status}   {}", report.url()).trim_end().into()
        };
        self.runs.iter().map(line).collect()
    }

    fn json(&self) -> Data {
        document!({ "runs": self.runs.iter().map(EndedRun::json).collect::<Vec<_>>() })
    }

    fn runs(&self) -> Vec<RunOutcome> {
        self.runs.iter().map(EndedRun::outcome).collect()
    }
}
