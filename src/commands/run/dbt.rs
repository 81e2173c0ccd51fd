//! `run JOB`.

use std::time::Duration;

use tokio::time::Instant;

use super::dbt_report::DbtReport;
use super::duration::shown;
use super::{Waiting, resume};
use crate::commands::last_known::Known;
use crate::commands::{Stage, to_dbt};
use crate::context::Environment;
use crate::credentials::{Account, Missing, Wants, account, api_token};
use crate::dbt::{End, Link, Overrides, Run, Status};
use crate::events::Events;
use crate::failure::{Code, Ended, Failure, Report, of_dbt, of_start};
use crate::http::Writer;
use crate::runs::{
    DbtRun, DbtState, Findings, Followed, Journal, Means, Milestone, Order, Triggered, find_failures, follow, plain,
    trigger,
};

/// Of the starts that nobody followed to their end so many are pointed at.
const MOST_REMARKS: usize = 3;

/// What is to be started, in the person's words.
pub(super) struct Asked {
    pub(super) job: String,
    pub(super) cause: Option<String>,
    pub(super) overrides: Overrides,
}

/// How carefully.
#[derive(Clone, Copy)]
pub(super) struct Care {
    pub(super) settle: Duration,
    pub(super) at_most_once: bool,
}

pub(super) async fn run(
    asked: Asked,
    care: Care,
    waiting: Waiting,
    wants: Wants,
    stage: &Stage,
) -> Ended<Box<dyn Report>> {
    match settle(asked, care, waiting, wants, stage) {
        Ok(start) => start.run(stage).await,
        Err(failure) => failure.into(),
    }
}

/// A start with everything that it needs.
struct Start {
    account: Account,
    writer: Writer,
    order: Order,
    no_wait: bool,
    /// As the person named it.
    job: String,
    /// The same command without a key.
    again: String,
}

fn settle(asked: Asked, care: Care, waiting: Waiting, mut wants: Wants, stage: &Stage) -> Result<Start, Failure> {
    let deadline = Instant::now() + waiting.timeout;
    let Asked { job: text, cause, overrides } = asked;
    let environment = &stage.context.environment;
    let job = wants.optional(read_job(&text).map(Some));
    let pasted = match &job {
        Some((_, Some(link))) => vec![(text.clone(), link.clone())],
        Some((_, None)) | None => Vec::new(),
    };
    let account = account(&stage.account, &pasted, environment, &mut wants);
    let token = wants.need(
        api_token(environment, &stage.vault),
        Missing { what: "the token for dbt", give: "set DBT_CLOUD_TOKEN to a service token or personal access token" },
    );
    wants.settle()?;
    let (Some((job, _)), Some(account), Some(token)) = (job, account, token) else {
        return Err(Failure::new(Code::Bug, "A value is missing, and nothing said so."));
    };
    account.check_bare_token()?;
    let writer = to_dbt(&account, token, stage)?;
    let Waiting { timeout: _, no_wait, key, given } = waiting;
    let Care { settle, at_most_once } = care;
    let again = resume::of_dbt(&text, &stage.account, &overrides, None);
    let order = Order {
        account: account.id,
        job,
        resume: resume::of_dbt(&text, &stage.account, &overrides, Some(key.as_str())),
        key,
        look_first: given,
        // Everybody who sees the run sees its cause.
        said: stage.vault.filter().clean(&cause.unwrap_or_else(|| usual_cause(environment))).into_owned(),
        overrides,
        settle,
        at_most_once,
        deadline,
    };
    Ok(Start { account, writer, order, no_wait, job: text, again })
}

/// A job by id or address. Names come later.
fn read_job(text: &str) -> Result<(u64, Option<Link>), Failure> {
    let advice =
        "give its id or its address: the id is the number behind /jobs/ in the address of the job's page in dbt";
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.parse() {
            Ok(id) if id > 0 => Ok((id, None)),
            Ok(_) | Err(_) => {
                Err(Failure::new(Code::InvalidInput, format!("{text} is no id of a dbt job.")).advise(advice))
            }
        };
    }
    if !text.contains('/') {
        return Err(Failure::new(
            Code::InvalidInput,
            format!("\"{text}\" is neither an id nor an address of a dbt job, and jobs are not looked up by name yet."),
        )
        .advise(advice));
    }
    let link = Link::parse(text).map_err(|bad| {
        Failure::new(
            Code::InvalidInput,
            format!("\"{}\" cannot be used as the address of a dbt job: {bad}.", crate::origin::shown(text)),
        )
        .advise(advice)
    })?;
    match (link.job, link.run) {
        (Some(job), _) => Ok((job, Some(link))),
        (None, Some(run)) => {
            Err(Failure::new(Code::InvalidInput, format!("\"{text}\" is the address of run {run}, not of a job."))
                .advise(advice))
        }
        (None, None) => {
            Err(Failure::new(Code::InvalidInput, format!("The address \"{text}\" names no dbt job.")).advise(advice))
        }
    }
}

/// What the CI calls itself is text for people only: steps and matrix legs share it, so it is no key.
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

impl Start {
    async fn run(self, stage: &Stage) -> Ended<Box<dyn Report>> {
        let Start { account, writer, order, no_wait: _, job, again: _ } = &self;
        let means = Means {
            pace: stage.pace.clone(),
            wall: stage.context.wall.clone(),
            entropy: stage.context.entropy.clone(),
            events: stage.events.clone(),
        };
        let journal = Journal::new(stage.context.environment.state_folder());
        point_at_open_starts(&journal, order, writer.origin(), &means);
        let mut report = DbtReport::new(order, account);
        let known = report.clone();
        let milestone = |milestone: Milestone<'_>| {
            let mut report = known.clone();
            let line = match milestone {
                Milestone::Sending => format!("a run of dbt job {job} may have been started"),
                Milestone::Known(run) => {
                    report.take(run);
                    format!("dbt run {} goes on: {}", run.id, report.url())
                }
            };
            stage.last_known.set(Known { data: report.json(), line, resume: order.resume.clone() });
        };
        let triggered = match trigger(order, writer, &means, &journal, &milestone).await {
            Ok(triggered) => triggered,
            Err(error) => {
                let page = format!("{}/deploy/{}/jobs/{}", account.origin, account.id, order.job);
                let failure = of_start(job, &order.resume, &page, &error);
                return Ended { report: Some(Box::new(report)), failure: Some(failure) };
            }
        };
        report.take(&triggered.run);
        report.adopted = triggered.adopted;
        report.sends = triggered.sends;
        if triggered.adopted {
            means.events.remark(match triggered.run.ended() {
                None => "this key was used before; following the run that it started",
                Some(_) => {
                    "this key was used before, and the run that it started has ended; a new run needs a new --idempotency-key"
                }
            });
        }
        let mut ended = self.follow(triggered, report, &means, &milestone).await;
        if ended.failure.is_none() {
            stage.last_known.clear();
        }
        // A key that has led to an ended run leads to it each time.
        if order.look_first
            && let Some(failure) = &mut ended.failure
            && matches!(failure.code, Code::RunFailed | Code::RunCancelled)
        {
            *failure =
                failure.clone().advise("the key belongs to this run now: a new run needs a new --idempotency-key");
        }
        let Ended { report, failure } = ended;
        Ended { report: report.map(|report| Box::new(report) as Box<dyn Report>), failure }
    }

    async fn follow(
        &self,
        triggered: Triggered,
        mut report: DbtReport,
        means: &Means,
        milestone: &dyn Fn(Milestone<'_>),
    ) -> Ended<DbtReport> {
        let Start { account, writer, order, no_wait, job: _, again } = self;
        let Triggered { run, adopted: _, sends, doubt, intent } = triggered;
        let mut lines = Lines { events: &means.events, account, run: 0, last: String::new() };
        lines.header(&run);
        let mut probe = DbtRun::new(writer, &means.wall, &means.events, order.account, run, doubt);
        if *no_wait {
            if sends > 1 {
                means.events.remark("it was sent more than once; looking for a second run before the end");
                probe.outlast_doubt().await;
            }
            report.take(probe.run());
            report.duplicates = probe.duplicates().to_vec();
            lines.header(probe.run());
            lines.state(&DbtState { run: probe.run().clone(), step: None });
            if let Some(intent) = intent {
                intent.close();
            }
            return Ended::well(report);
        }
        let followed = follow(&mut probe, order.deadline, means, |state| {
            if lines.state(state) {
                milestone(Milestone::Known(&state.run));
            }
        })
        .await;
        report.take(probe.run());
        report.duplicates = probe.duplicates().to_vec();
        let end = match &followed {
            Followed::Ended(state) => state.run.ended(),
            // It had ended, and only the search for a second one was cut short.
            Followed::OutOfTime(state) | Followed::Blind(state, _) => {
                state.as_ref().and_then(|state| state.run.ended())
            }
        };
        if end.is_some()
            && let Some(intent) = intent
        {
            intent.close();
        }
        let number = report.run_id.unwrap_or_default();
        let failure = match (end, followed) {
            (Some(End::Success), _) => None,
            (Some(End::Error), _) => {
                report.findings = find_failures(writer, order.account, number).await;
                Some(failed(&report, again))
            }
            (Some(End::Cancelled), _) => Some(cancelled(&report, again)),
            (None, Followed::Blind(_, error)) => Some(
                of_dbt(&format!("Cannot follow dbt run {number} any longer; it may go on"), &error).run(&order.resume),
            ),
            (None, Followed::OutOfTime(_) | Followed::Ended(_)) => Some(
                Failure::new(Code::StillRunning, format!("Waited long enough; dbt run {number} goes on."))
                    .cause(format!("it is {} now", report.status.map_or_else(|| "not seen".to_owned(), Status::word)))
                    .run(&order.resume)
                    .advise(format!("see it at {}", report.url())),
            ),
        };
        Ended { report: Some(report), failure }
    }
}

/// Starts that an earlier command left behind. `run` with their key follows them.
fn point_at_open_starts(journal: &Journal, order: &Order, origin: &str, means: &Means) {
    let open = journal.open_intents(means.wall.now());
    // The command of another account's start would not work with what is set now.
    let others = open.iter().filter(|open| {
        open.entry.key != order.key.as_str() && open.entry.origin == origin && open.entry.account == order.account
    });
    for open in others.take(MOST_REMARKS) {
        let what = match open.run {
            Some(run) => format!("dbt run {run} of job {}", open.entry.job),
            None => format!("a start of dbt job {}", open.entry.job),
        };
        means.events.remark(format!("{what} was not followed to its end; `{}` picks it up", open.entry.resume));
    }
}

/// One line per change.
struct Lines<'a> {
    events: &'a Events,
    account: &'a Account,
    run: u64,
    last: String,
}

impl Lines<'_> {
    fn header(&mut self, run: &Run) {
        if self.run != run.id {
            self.run = run.id;
            self.last.clear();
            self.events.progress(format!("job_run_id = {}", run.id));
            self.events.progress(run.url(&self.account.origin.to_string(), self.account.id));
        }
    }

    /// Returns whether there was something new.
    fn state(&mut self, state: &DbtState) -> bool {
        let DbtState { run, step } = state;
        self.header(run);
        let Some(status) = run.status else { return false };
        let more = match (run.ended(), step, run.blocked_by.as_deref()) {
            (Some(_), _, _) => run.took().map(|took| format!("in {}", shown(took))),
            (None, Some((index, count, title)), _) => Some(format!("step {index}/{count}: {}", plain(title, 200))),
            (None, None, Some([first, ..])) if status == Status::Queued => Some(format!("waits for run {first}")),
            (None, None, Some(_) | None) => None,
        };
        let line = more.map_or_else(|| status.to_string(), |more| format!("{status}   {more}"));
        if line == self.last {
            return false;
        }
        self.events.progress(line.clone());
        self.last = line;
        true
    }
}

fn failed(report: &DbtReport, again: &str) -> Failure {
    let number = report.run_id.unwrap_or_default();
    let mut failure =
        Failure::new(Code::RunFailed, format!("dbt run {number} of job {} ended in error.", report.job_id));
    let Findings { step, nodes } = &report.findings;
    match step {
        Some(step) => {
            failure = failure.cause(format!("step {}/{} failed: {}", step.index, step.count, step.title));
        }
        None => failure.causes.extend(report.message.clone()),
    }
    let shown_nodes = 20;
    failure.causes.extend(nodes.iter().take(shown_nodes).map(crate::runs::FailedNode::line));
    if nodes.len() > shown_nodes {
        failure = failure.cause(format!("and {} more", nodes.len() - shown_nodes));
    }
    failure
        .advise(format!(
            "correct what failed, then retry from the point of failure on the run's page: {}",
            report.url()
        ))
        .run(again)
}

fn cancelled(report: &DbtReport, again: &str) -> Failure {
    let number = report.run_id.unwrap_or_default();
    let failure = match report.reason() {
        Some("timed-out") => Failure::new(
            Code::RunCancelled,
            format!("dbt run {number} of job {} was cancelled by dbt's own time limit.", report.job_id),
        ),
        Some(_) | None => {
            Failure::new(Code::RunCancelled, format!("dbt run {number} of job {} was cancelled.", report.job_id))
        }
    };
    let failure = match &report.message {
        Some(message) => failure.cause(format!("dbt Cloud says: {message}")),
        None => failure,
    };
    failure.advise(format!("see who cancelled it, and why, at {}", report.url())).run(again)
}
