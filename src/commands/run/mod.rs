//! `run`: starts a dbt job, or a Databricks job with `--workflow`, and follows it to its end.

mod artifacts;
mod ci_outputs;
mod course;
mod dbt;
mod dbt_report;
mod duration;
#[cfg(test)]
mod failure_tests;
mod finish;
mod follow_dbt;
mod follow_workflow;
mod junit;
mod on_interrupt;
#[cfg(test)]
mod pull_request_tests;
pub(crate) mod resume;
mod retry;
mod several;
mod workflow;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;

pub(crate) use ci_outputs::{CiOutputs, Ending};
pub(crate) use dbt_report::DbtReport;
pub(crate) use duration::shown;
pub(crate) use follow_dbt::{Following, Lines, see};
pub(crate) use follow_workflow::{WorkflowReport, follow_judged, follow_run};
pub(crate) use junit::Results;

use super::durations;
use super::job_named::Narrow;
use super::{Stage, line_to_dbt};
use crate::credentials::{Databricks, Missing, Wants};
use crate::dbt::{Overrides, Together, wrong_together};
use crate::failure::{Code, Ended, Failure, Report};
use crate::http::Deadline;
use crate::questions::Question;
use crate::runs::Key;

/// How long is waited if nobody says otherwise; `--timeout` has the same in words.
pub(crate) const LONGEST: Duration = Duration::from_hours(24);

/// Start dbt jobs, each exactly once, and follow their runs to the end
///
/// The exit code is the run's own outcome: 0 success, 3 error, 20 cancelled, 8 when the waiting was long enough and the run
/// goes on, 9 when it is unknown whether it was started. Of several runs the first of 9, 3, 20, 8 counts that any of them has.
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
    /// The dbt job: its id, its address copied from the browser, or its name; several are started side by side; at a terminal it
    /// can be chosen
    #[arg(value_name = "JOB", conflicts_with = "workflow")]
    job: Vec<String>,
    /// Of several jobs, so many runs at a time; all of them, unless this is given
    #[arg(long, value_name = "N", conflicts_with = "workflow", value_parser = clap::value_parser!(u16).range(1..))]
    max_parallel: Option<u16>,
    /// The project of a job given by name: its name or id
    #[arg(long, value_name = "PROJECT", conflicts_with = "workflow")]
    project: Option<String>,
    /// The environment of a job given by name: its name or id
    #[arg(long, value_name = "ENVIRONMENT", conflicts_with = "workflow")]
    environment: Option<String>,
    /// Press "Run now" on this Databricks job instead: its id, its address or its exact name
    #[arg(long, value_name = "WORKFLOW")]
    workflow: Option<String>,
    /// A job parameter for this run of the workflow; repeat it for several
    #[arg(long, value_name = "NAME=VALUE")]
    param: Vec<String>,
    /// How long to wait in all, time in the queue included (90s, 10m, 2h)
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = durations::parse)]
    timeout: Duration,
    /// Start it and do not wait for the end
    #[arg(long)]
    no_wait: bool,
    /// Makes starts with the same key the same run: letters, digits and . _ : / -
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// How often a run that ended in error is resumed from its point of failure; the outcome is the last one's
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=20), conflicts_with_all = ["workflow", "no_wait"], hide_default_value = true)]
    retry: u32,
    /// Fetch the files that the run leaves (its manifest, its results and others) into this folder, also when it fails;
    /// of several jobs each has a folder of its own in it, named by the run's id
    #[arg(long, value_name = "DIR", conflicts_with_all = ["workflow", "no_wait"])]
    artifacts: Option<PathBuf>,
    /// Write the outcome into this file as tests in the form of `JUnit`: each run, and each model, test, seed and snapshot of
    /// it; one file for all jobs, however the command ends
    #[arg(long, value_name = "FILE", conflicts_with_all = ["workflow", "no_wait"])]
    junit: Option<PathBuf>,
    /// In the summary and the annotations of GitHub Actions and in the file of --junit: the messages of what failed, too, which may
    /// have data in them
    #[arg(long)]
    summary_detail: bool,
    /// How long a run whose start was not answered may take to show before it is started again
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = durations::parse, conflicts_with = "workflow")]
    settle: Duration,
    /// Never send the start a second time, even if no run shows
    #[arg(long, conflicts_with = "workflow")]
    at_most_once: bool,
    /// What becomes of the run when the command is interrupted: it goes on, or it is cancelled, which is confirmed
    /// within 30 seconds; a second signal ends the command at once
    #[arg(long, value_name = "leave|cancel", value_enum, hide_possible_values = true, default_value_t = OnInterrupt::Leave)]
    on_interrupt: OnInterrupt,
    #[command(flatten)]
    changes: Changes,
}

/// What becomes of a run when somebody interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum OnInterrupt {
    /// It goes on.
    Leave,
    /// It is cancelled.
    Cancel,
}

/// What this run does differently from the job's own settings.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "For this run only")]
struct Changes {
    /// Why it is started, as people read it in dbt
    #[arg(long, value_name = "TEXT", conflicts_with = "workflow")]
    cause: Option<String>,
    /// Commit to check out
    #[arg(long, value_name = "SHA", conflicts_with = "workflow", value_parser = NonEmptyStringValueParser::new())]
    git_sha: Option<String>,
    /// Branch to check out
    #[arg(long, value_name = "BRANCH", conflicts_with = "workflow", value_parser = NonEmptyStringValueParser::new())]
    git_branch: Option<String>,
    /// The pull request at GitHub that this run of a CI job is for: its number; with --git-sha or --git-branch
    #[arg(long, value_name = "NUMBER", conflicts_with = "workflow", value_parser = clap::value_parser!(u64).range(1..))]
    github_pull_request_id: Option<u64>,
    /// The merge request at GitLab that this run of a CI job is for, likewise
    #[arg(long, value_name = "NUMBER", conflicts_with = "workflow", value_parser = clap::value_parser!(u64).range(1..))]
    gitlab_merge_request_id: Option<u64>,
    /// The pull request at Azure DevOps that this run of a CI job is for, likewise
    #[arg(long, value_name = "NUMBER", conflicts_with = "workflow", value_parser = clap::value_parser!(u64).range(1..))]
    azure_pull_request_id: Option<u64>,
    /// The pull request at any other git host that this run of a CI job is for, likewise; its schema is yours to drop
    #[arg(long, value_name = "NUMBER", conflicts_with = "workflow", value_parser = clap::value_parser!(u64).range(1..))]
    non_native_pull_request_id: Option<u64>,
    /// Schema to build in
    #[arg(long, value_name = "SCHEMA", conflicts_with = "workflow", value_parser = NonEmptyStringValueParser::new())]
    schema: Option<String>,
    /// Name of the target (`target.name` in dbt)
    #[arg(long, value_name = "NAME", conflicts_with = "workflow", value_parser = NonEmptyStringValueParser::new())]
    dbt_target: Option<String>,
    /// How many threads dbt uses
    #[arg(long, value_name = "N", conflicts_with = "workflow", value_parser = clap::value_parser!(u32).range(1..))]
    threads: Option<u32>,
    /// Version of dbt, or release track
    #[arg(long, value_name = "VERSION", conflicts_with = "workflow", value_parser = NonEmptyStringValueParser::new())]
    dbt_version: Option<String>,
    /// Command to run instead of the job's own; repeat it for several
    #[arg(long, value_name = "COMMAND", conflicts_with = "workflow", value_parser = NonEmptyStringValueParser::new())]
    step: Vec<String>,
    /// Whether to generate docs
    #[arg(long, value_name = "true|false", conflicts_with = "workflow", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    generate_docs: Option<bool>,
    /// How long dbt lets the run last
    #[arg(long, value_name = "DURATION", conflicts_with = "workflow", value_parser = duration::whole_seconds)]
    run_timeout: Option<Duration>,
}

impl Changes {
    /// What is for people, and what is for dbt.
    fn settle(self) -> Result<(Option<String>, Overrides), Failure> {
        let Changes {
            cause,
            git_sha,
            git_branch,
            github_pull_request_id,
            gitlab_merge_request_id,
            azure_pull_request_id,
            non_native_pull_request_id,
            schema,
            dbt_target,
            threads,
            dbt_version,
            step,
            generate_docs,
            run_timeout,
        } = self;
        let overrides = Overrides {
            git_sha,
            git_branch,
            azure_pull_request_id,
            github_pull_request_id,
            gitlab_merge_request_id,
            non_native_pull_request_id,
            schema_override: schema,
            dbt_version_override: dbt_version,
            threads_override: threads,
            target_name_override: dbt_target,
            generate_docs_override: generate_docs,
            timeout_seconds_override: run_timeout.map(|timeout| timeout.as_secs()),
            steps_override: step,
        };
        let fields = overrides.fields();
        match wrong_together(|name| fields.contains_key(name)) {
            None => Ok((cause, overrides)),
            Some(Together::TwoPullRequests(one, other)) => {
                let what =
                    format!("{} and {} contradict each other: a run is for one pull request.", one.flag, other.flag);
                Err(Failure::new(Code::Contradiction, what).advise("leave one of them out"))
            }
            Some(Together::NoCommit(one)) => {
                let what =
                    format!("{} needs --git-sha or --git-branch: dbt does not look up what to check out.", one.flag);
                Err(Failure::new(Code::Usage, what).advise("add --git-sha with the commit of the pull request"))
            }
        }
    }
}

/// How to wait, and for which start.
struct Waiting {
    deadline: Deadline,
    no_wait: bool,
    key: Key,
    /// Somebody gave the key.
    given: bool,
    /// For a workflow.
    parameters: BTreeMap<String, String>,
}

pub(crate) async fn run(args: Args, stage: &Stage) -> Ended<Box<dyn Report>> {
    let Args {
        job,
        max_parallel,
        project,
        environment,
        workflow,
        param,
        timeout,
        no_wait,
        idempotency_key,
        retry,
        artifacts,
        junit,
        summary_detail: _,
        settle,
        at_most_once,
        on_interrupt,
        changes,
    } = args;
    // The parser would let it pass beside a JOB, which excludes what it requires.
    if workflow.is_none() && !param.is_empty() {
        return Failure::new(Code::Usage, "--param is for runs of a workflow, and no --workflow is given.")
            .advise("for a run of a dbt job there are --step, --schema, --git-branch and others")
            .run("dbtrigger run --help")
            .into();
    }
    let mut wants = Wants::default();
    let given = idempotency_key.is_some();
    let key = wants.optional(idempotency_key.map(|text| read_key(&text)).transpose());
    let key = key.unwrap_or_else(|| Key::fresh(&stage.context.entropy));
    let parameters = wants.optional(read_parameters(&param).map(Some)).unwrap_or_default();
    let waiting = Waiting { deadline: Deadline::of_timeout(timeout), no_wait, key, given, parameters };
    match on_interrupt {
        OnInterrupt::Leave => {}
        OnInterrupt::Cancel => stage.interruption.take_over(),
    }
    if let Some(workflow) = workflow {
        return workflow::run(&workflow, waiting, wants, stage).await;
    }
    // Chosen from a list, which was narrowed by the same flags.
    let chosen = stage.talk.job.filter(|_| job.is_empty());
    let (jobs, narrow) = match chosen {
        Some(chosen) => (vec![chosen.to_string()], Narrow::default()),
        None => (job, Narrow { project, environment }),
    };
    if jobs.is_empty() {
        let Narrow { project, environment } = narrow;
        let missing = Missing {
            what: "the JOB",
            give: "its id, its address copied from the browser, or its name; `dbtrigger jobs` lists them; or --workflow",
            ask: Some(Question::DbtJob { flag: None, project, environment }),
        };
        wants.need(Ok(None::<u64>), missing);
        return match line_to_dbt(&[], wants, stage) {
            Err(failure) => failure.into(),
            Ok(_) => Failure::new(Code::Bug, "The JOB is missing, and nothing said so.").into(),
        };
    }
    let (cause, overrides) = match changes.settle() {
        Ok(settled) => settled,
        Err(failure) => return failure.into(),
    };
    let care = dbt::Care { retry, artifacts, junit, settle, at_most_once };
    let max_parallel = max_parallel.map(usize::from);
    dbt::run(dbt::Asked { jobs, max_parallel, narrow, cause, overrides }, care, waiting, wants, stage).await
}

/// Presses "Run now" on a workflow of this id and follows the run, as `run --workflow ID` does.
pub(in crate::commands) async fn press(
    workflow: u64,
    databricks: &Databricks,
    stage: &Stage,
) -> Ended<Box<dyn Report>> {
    let key = Key::fresh(&stage.context.entropy);
    let deadline = Deadline::after(LONGEST);
    let waiting = Waiting { deadline, no_wait: false, key, given: false, parameters: BTreeMap::new() };
    workflow::press(workflow, databricks, &waiting, stage).await
}

fn read_parameters(texts: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let invalid = |text: &str, why: &str| {
        Failure::new(Code::InvalidInput, format!("--param \"{text}\" cannot be used: {why}."))
            .advise("write it as NAME=VALUE, each name once")
    };
    let mut parameters = BTreeMap::new();
    for text in texts {
        let Some((name, value)) = text.split_once('=') else { return Err(invalid(text, "it has no = in it")) };
        if name.trim().is_empty() || name.trim() != name {
            return Err(invalid(text, "its name is empty, or has blanks around it"));
        }
        if parameters.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(invalid(text, &format!("{name} is given twice")));
        }
    }
    Ok(parameters)
}

fn read_key(text: &str) -> Result<Key, Failure> {
    Key::parse(text).map_err(|bad| {
        Failure::new(Code::InvalidInput, format!("--idempotency-key is \"{text}\", which cannot be used: {bad}."))
            .advise("use what names this start and no other, such as a date and the name of the pipeline")
    })
}
