//! `run JOB`.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::dbt_report::DbtReport;
use super::follow_dbt::{Following, Lines};
use super::{Waiting, resume};
use crate::commands::job_named::{JobNamed, Narrow};
use crate::commands::last_known::Known;
use crate::commands::{Stage, line_to_dbt};
use crate::context::Environment;
use crate::credentials::{Account, Wants};
use crate::dbt::{Overrides, Run};
use crate::failure::{Code, Ended, Failure, Report, of_start};
use crate::http::Writer;
use crate::runs::{DbtRun, DbtState, Journal, Means, Milestone, Order, Triggered, trigger};

/// Of the starts that nobody followed to their end so many are pointed at.
const MOST_REMARKS: usize = 3;

/// What is to be started, in the person's words.
pub(super) struct Asked {
    pub(super) job: String,
    pub(super) narrow: Narrow,
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
    match settle(asked, care, waiting, wants, stage).await {
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
    /// By an address, which may be the only source of host and account.
    by_address: bool,
    /// The same command without a key.
    again: String,
}

async fn settle(asked: Asked, care: Care, waiting: Waiting, mut wants: Wants, stage: &Stage) -> Result<Start, Failure> {
    let deadline = Instant::now() + waiting.timeout;
    let Asked { job: text, narrow, cause, overrides } = asked;
    let environment = &stage.context.environment;
    let named = wants.optional(JobNamed::read(&text).map(Some));
    let pasted = named.as_ref().map(JobNamed::pasted).unwrap_or_default();
    let by_address = !pasted.is_empty();
    let (account, writer) = line_to_dbt(&pasted, wants, stage)?;
    let Some(named) = named else {
        return Err(Failure::new(Code::Bug, "A value is missing, and nothing said so."));
    };
    let found = timeout_at(deadline, named.find(&writer, &account, &narrow)).await;
    let job = found.unwrap_or_else(|_| {
        Err(Failure::new(
            Code::Unavailable,
            format!("The time was over before dbt job {text} was found; nothing was started."),
        )
        .advise("give more time with --timeout"))
    })?;
    // A name may be given to another job one day; the commands that pick this start up name the id.
    let (text, shown) = match &named {
        JobNamed::Name(name) => (job.to_string(), format!("\"{name}\" ({job})")),
        JobNamed::Id(_) | JobNamed::Address { .. } => (text.clone(), text),
    };
    let Waiting { timeout: _, no_wait, key, given, parameters: _ } = waiting;
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
    Ok(Start { account, writer, order, no_wait, job: shown, by_address, again })
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
        let Start { account, writer, order, no_wait, job, by_address, again } = &self;
        let pick_up = |run: u64| resume::watch_dbt(run, account, &stage.account, *by_address);
        let means = stage.means();
        let journal = Journal::new(stage.context.environment.state_folder());
        point_at_open_starts(&journal, order, writer.origin(), &means, &pick_up);
        let mut report = DbtReport::new(account);
        report.job_id = Some(order.job);
        report.key = Some(order.key.as_str().to_owned());
        let known = report.clone();
        let milestone = |milestone: Milestone<'_>| {
            let mut report = known.clone();
            let (line, resume) = match milestone {
                Milestone::Sending => (format!("a run of dbt job {job} may have been started"), order.resume.clone()),
                Milestone::Known(run) => {
                    report.take(run);
                    (format!("dbt run {} goes on: {}", run.id, report.url()), pick_up(run.id))
                }
            };
            stage.last_known.set(Known { data: report.json(), line, resume });
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
        let Triggered { run, adopted: _, sends, doubt, intent } = triggered;
        let mut lines = Lines::new(&means.events, account);
        lines.header(&run);
        let mut probe = DbtRun::new(writer, &means.wall, &means.events, order.account, run, doubt);
        let mut ended = if *no_wait {
            if sends > 1 {
                means.events.remark("it was sent more than once; looking for a second run before the end");
                probe.outlast_doubt().await;
            }
            report.take(probe.run());
            report.duplicates = probe.duplicates().to_vec();
            lines.state(&DbtState { run: probe.run().clone(), step: None });
            Ended::well(report)
        } else {
            let following =
                Following { account, writer, deadline: order.deadline, pick_up: &pick_up, again: Some(again) };
            let on_news = |run: &Run| milestone(Milestone::Known(run));
            following.follow(probe, &mut lines, report, &means, &on_news).await
        };
        // Ended, or not waited for: nothing is left to pick up.
        let over = *no_wait || ended.report.as_ref().is_some_and(|report| report.end.is_some());
        if let Some(intent) = intent.filter(|_| over) {
            intent.close();
        }
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
}

/// Starts that an earlier command left behind: `watch` follows what is known, `run` with its key finds what is not.
fn point_at_open_starts(
    journal: &Journal,
    order: &Order,
    origin: &str,
    means: &Means,
    pick_up: &dyn Fn(u64) -> String,
) {
    let open = journal.open_intents(means.wall.now());
    // The command of another account's start would not work with what is set now.
    let others = open.iter().filter(|open| {
        open.entry.key != order.key.as_str() && open.entry.origin == origin && open.entry.account == order.account
    });
    for open in others.take(MOST_REMARKS) {
        let (what, command) = match open.run {
            Some(run) => (format!("dbt run {run} of job {}", open.entry.job), pick_up(run)),
            None => (format!("a start of dbt job {}", open.entry.job), open.entry.resume.clone()),
        };
        means.events.remark(format!("{what} was not followed to its end; `{command}` picks it up"));
    }
}
