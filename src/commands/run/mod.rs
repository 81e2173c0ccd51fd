//! `run`: starts a dbt job, or a Databricks job with `--workflow`, and follows it to its end.

mod artifacts;
mod cancel_on_interrupt;
mod ci_outputs;
mod dbt_report;
mod download;
#[cfg(test)]
mod failure_tests;
mod finish;
mod follow_dbt;
mod follow_workflow;
mod interrupt_outcome;
mod junit;
mod override_flags;
mod prepared_run;
mod progress;
#[cfg(test)]
mod pull_request_tests;
mod retry_from_failure;
mod several_jobs;
mod start_dbt;
mod start_workflow;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use ci_outputs::{CiOutputs, Ending};
pub(crate) use dbt_report::DbtReport;
pub(crate) use follow_dbt::{DbtFollower, DbtRunEvents, read_run};
pub(crate) use follow_workflow::{WorkflowReport, follow_run, follow_run_with};
pub(crate) use junit::Results;
pub(in crate::commands) use start_workflow::start_workflow;

use self::override_flags::OverrideFlags;
use super::shared::job_argument::JobFilterFlags;
use super::{CommandContext, connect_dbt};
use crate::credentials::{InputErrors, MissingInput};
use crate::durations;
use crate::failure::{Code, Ended, Failure, Report};
use crate::http::Deadline;
use crate::questions::Question;
use crate::runs::Key;

/// Default of `--timeout`.
pub(crate) const LONGEST: Duration = Duration::from_hours(24);

/// Start dbt jobs and follow their runs
///
/// Starts each dbt run exactly once, even if a response is lost, and exits with the run's outcome: 0 success, 3 error, 20
/// canceled, 8 timed out (the run is still active), 9 unknown whether the run was started. With several jobs, the exit code is the
/// first of 9, 3, 20, 8 that applies to any of them.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  dbtrigger run 222222
  dbtrigger run 'Nightly build' --project 'Jaffle Shop'
  dbtrigger run 222222 300001 300003 --max-parallel 2
  dbtrigger run 222226 --retry 1 --artifacts target
  dbtrigger run 222222 300001 --junit dbt-junit.xml
  dbtrigger run 300120 --github-pull-request-id 42 --git-branch fix-orders
  dbtrigger run 222222 --on-interrupt cancel --junit dbt-junit.xml --summary-detail
  dbtrigger run 222222 --idempotency-key nightly-2026-11-23 --step 'dbt build --select tag:nightly'
  dbtrigger run --workflow 'dbt: Nightly build (222222)'")]
pub(crate) struct Args {
    /// dbt job: ID, URL, or name; several are started in parallel
    #[arg(value_name = "JOB", conflicts_with = "workflow")]
    job: Vec<String>,
    /// Same as JOB
    #[arg(long = "job", value_name = "JOB", conflicts_with = "workflow", help_heading = "Job", hide_short_help = true)]
    job_flag: Vec<String>,
    /// Run at most N jobs at a time [default: all]
    #[arg(long, value_name = "N", conflicts_with = "workflow", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Run options", hide_short_help = true)]
    max_parallel: Option<u16>,
    /// Only jobs in this dbt project (name or ID)
    #[arg(long, value_name = "PROJECT", conflicts_with = "workflow", help_heading = "Job", hide_short_help = true)]
    project: Option<String>,
    /// Only jobs in this dbt environment (name or ID)
    #[arg(long, value_name = "ENVIRONMENT", conflicts_with = "workflow", help_heading = "Job", hide_short_help = true)]
    environment: Option<String>,
    /// Run this Databricks job instead (ID, URL, or name)
    #[arg(long, value_name = "WORKFLOW", help_heading = "Job")]
    workflow: Option<String>,
    /// Job parameter for this run of the workflow; repeatable
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Job", hide_short_help = true)]
    param: Vec<String>,
    /// How long to wait (90s, 10m, 2h)
    ///
    /// Includes the time in the queue.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = durations::parse, help_heading = "Run options")]
    timeout: Duration,
    /// Start the run and exit without waiting
    #[arg(long, help_heading = "Run options")]
    no_wait: bool,
    /// Start at most one run for this key
    ///
    /// A later start with the same key follows the existing run. Letters, digits, and . _ : / - are allowed.
    #[arg(long, value_name = "KEY", help_heading = "Run options")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    options: RunOptions,
    /// On Ctrl-C, leave the run active or cancel it
    ///
    /// Waits up to 30 seconds for the cancellation; a second signal exits at once.
    #[arg(long, value_name = "leave|cancel", value_enum, hide_possible_values = true, default_value_t = OnInterrupt::Leave, help_heading = "Run options", hide_short_help = true)]
    on_interrupt: OnInterrupt,
    #[command(flatten)]
    changes: OverrideFlags,
}

impl Args {
    /// The dbt jobs, from positional arguments and `--job`.
    fn jobs(&self) -> Vec<String> {
        [&self.job[..], &self.job_flag].concat()
    }
}

/// Retries, output files and duplicate protection.
#[derive(Clone, Debug, clap::Args)]
struct RunOptions {
    /// Resume a failed run up to N times
    ///
    /// Each attempt starts from the point of failure. The outcome is that of the last attempt.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=20), conflicts_with_all = ["workflow", "no_wait"], hide_default_value = true, help_heading = "Run options")]
    retry: u32,
    /// Resume the job's last run if it failed
    ///
    /// It goes on from the point of failure. If another run already resumes it, that one is followed.
    #[arg(long, conflicts_with_all = ["workflow", "idempotency_key"], help_heading = "Run options")]
    failed: bool,
    /// Download the run's artifacts (manifest, run results, and others) to a directory
    ///
    /// Also after a failure. With several jobs, each run gets a subdirectory named after its ID.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["workflow", "no_wait"], help_heading = "Output")]
    artifacts: Option<PathBuf>,
    /// Write a JUnit report to a file
    ///
    /// Each run, and each model, test, seed, and snapshot in it, is a test case; one file for all jobs, written however
    /// the command ends.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["workflow", "no_wait"], help_heading = "Output")]
    junit: Option<PathBuf>,
    /// Include failure messages in CI summaries, annotations, and the JUnit report; they may contain data
    #[arg(long, help_heading = "Output", hide_short_help = true)]
    summary_detail: bool,
    /// After a lost response, how long to look for the run before starting it again
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = durations::parse, conflicts_with = "workflow", help_heading = "Run options", hide_short_help = true)]
    settle: Duration,
    /// After a lost response, never start the run again, even if it is not found
    #[arg(long, conflicts_with = "workflow", help_heading = "Run options", hide_short_help = true)]
    at_most_once: bool,
}

/// What happens to a run on an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum OnInterrupt {
    /// Keep it running.
    Leave,
    /// Cancel it.
    Cancel,
}

/// How to wait, and the idempotency key.
struct WaitOptions {
    deadline: Deadline,
    no_wait: bool,
    key: Key,
    /// The user gave the key.
    key_given: bool,
    /// Job parameters, for a workflow.
    parameters: BTreeMap<String, String>,
}

pub(crate) async fn run(args: Args, ctx: &CommandContext) -> Ended<Box<dyn Report>> {
    let job = args.jobs();
    let Args { project, environment, workflow, param, timeout, no_wait, idempotency_key, options, .. } = args;
    // clap does not require `--workflow` here, because JOB conflicts with it.
    if workflow.is_none() && !param.is_empty() {
        return Failure::new(Code::Usage, "--param requires --workflow")
            .advise("for a dbt job, use --step, --schema, --git-branch, and other overrides")
            .run("see its flags", "dbtrigger run --help")
            .into();
    }
    let mut errors = InputErrors::default();
    let key_given = idempotency_key.is_some();
    let key = errors.optional(idempotency_key.map(|text| read_key(&text)).transpose());
    let key = key.unwrap_or_else(|| Key::fresh(&ctx.context.entropy));
    let parameters = errors.optional(read_parameters(&param).map(Some)).unwrap_or_default();
    let waiting = WaitOptions { deadline: Deadline::of_timeout(timeout), no_wait, key, key_given, parameters };
    if args.on_interrupt == OnInterrupt::Cancel {
        ctx.interruption.handle_signal();
    }
    if let Some(workflow) = workflow {
        return start_workflow::run(&workflow, waiting, errors, ctx).await;
    }
    // The list to choose from was already filtered by these flags.
    let chosen = ctx.prompts.job.filter(|_| job.is_empty());
    let (jobs, job_filter) = match chosen {
        Some(chosen) => (vec![chosen.to_string()], JobFilterFlags::default()),
        None => (job, JobFilterFlags { project, environment }),
    };
    if jobs.is_empty() {
        let JobFilterFlags { project, environment } = job_filter;
        let missing = MissingInput::value(
            "dbt job",
            "pass the ID, URL, or name of a dbt job (`dbtrigger jobs` lists them), or --workflow NAME",
            Some(Question::DbtJob { flag: None, project, environment }),
        );
        errors.need(Ok(None::<u64>), missing);
        return match connect_dbt(&[], errors, ctx) {
            Err(failure) => failure.into(),
            Ok(_) => Failure::new(Code::Bug, "the job is missing without an error").into(),
        };
    }
    let (cause, overrides) = match args.changes.settle() {
        Ok(settled) => settled,
        Err(failure) => return failure.into(),
    };
    let max_parallel = args.max_parallel.map(usize::from);
    let request = start_dbt::RunRequest { jobs, max_parallel, job_filter, cause, overrides, options };
    Box::pin(start_dbt::run(request, waiting, errors, ctx)).await
}

fn read_parameters(texts: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let invalid = |text: &str, why: &str| {
        Failure::new(Code::InvalidInput, format!("--param \"{text}\" is invalid: {why}"))
            .advise("use NAME=VALUE, each name once")
    };
    let mut parameters = BTreeMap::new();
    for text in texts {
        let Some((name, value)) = text.split_once('=') else { return Err(invalid(text, "it has no =")) };
        if name.trim().is_empty() || name.trim() != name {
            return Err(invalid(text, "its name is empty or has spaces around it"));
        }
        if parameters.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(invalid(text, &format!("{name} is given twice")));
        }
    }
    Ok(parameters)
}

fn read_key(text: &str) -> Result<Key, Failure> {
    Key::parse(text).map_err(|bad| {
        Failure::new(Code::InvalidInput, format!("--idempotency-key \"{text}\" is invalid: {bad}"))
            .advise("use something unique to this start, such as the pipeline's name and a date")
    })
}
