//! CI outputs of `run`, from the same data as the JSON document: step outputs, job summary and annotations for GitHub
//! Actions, and the file of `--junit`. Nothing here changes the outcome.

mod annotations;
mod junit_document;
mod markdown;

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Args;
use super::junit::{self, Results};
use crate::context::Environment;
use crate::document::{Data, Id, ToDocument as _, document};
use crate::events::Events;
use crate::failure::{FailedPart, Failure, RunOutcome, io_reason};
use crate::runs::plain;

/// Longest service message shown, in characters.
const LONGEST: usize = 400;

/// Which CI outputs a `run` writes.
pub(crate) struct CiOutputs {
    /// The jobs or the workflow, as typed.
    named: Vec<String>,
    /// Include the messages of failures.
    detail: bool,
    junit: Option<PathBuf>,
}

/// How the command ended.
pub(crate) struct Ending<'a> {
    /// Outcomes of the runs that were started or followed.
    pub(crate) runs: &'a [RunOutcome],
    pub(crate) failure: Option<&'a Failure>,
    /// Results of the run's nodes.
    pub(crate) results: &'a Results,
    /// Exit code of the program.
    pub(crate) exit: u8,
}

impl CiOutputs {
    pub(crate) fn of(args: &Args) -> CiOutputs {
        let named = args.workflow.as_ref().map_or_else(|| args.jobs(), |workflow| vec![workflow.clone()]);
        CiOutputs { named, detail: args.options.summary_detail, junit: args.options.junit.clone() }
    }

    /// Writes the JUnit file, appends to the files named by GitHub Actions, and emits annotations. `redact` redacts
    /// secrets.
    pub(crate) fn write(
        &self,
        ending: &Ending<'_>,
        environment: &Environment,
        redact: &dyn Fn(&str) -> String,
        events: &Events,
    ) {
        let append_to = |variable: &str, what: &str, text: &dyn Fn() -> String| {
            if let Some(path) = environment.get(variable)
                && let Err(error) = append(Path::new(path), &text())
            {
                events.warning(format!("cannot write {what} to {path} ({variable}): {}", io_reason(&error)));
            }
        };
        let rows = self.rows(ending, redact);
        if let Some(file) = self.junit.as_ref().filter(|_| !ending.results.is_refused())
            && let Err(error) =
                junit::write(file, &junit_document::document(&rows, ending.results, self.detail, redact))
        {
            events.warning(format!("cannot write the JUnit report to {}: {}", file.display(), io_reason(&error)));
        }
        append_to("GITHUB_OUTPUT", "the outputs of this step", &|| self.outputs(ending, redact));
        append_to("GITHUB_STEP_SUMMARY", "the summary of this step", &|| markdown::summary(&rows, self.detail));
        if environment.get("GITHUB_ACTIONS") == Some("true") {
            for annotation in annotations::of(&rows, self.detail) {
                events.emit(annotation);
            }
        }
    }

    /// `name=value` lines; values have no line breaks.
    fn outputs(&self, ending: &Ending<'_>, redact: &dyn Fn(&str) -> String) -> String {
        let Ending { runs, failure: _, results: _, exit } = ending;
        let word = |text: &Option<String>| text.as_ref().and_then(|text| line(text, redact));
        if self.named.len() > 1 {
            let runs: Vec<Data> = runs
                .iter()
                .map(|run| {
                    let exit = match &run.result {
                        Some(Ok(())) => 0,
                        Some(Err(failure)) => failure.code.exit(),
                        None => *exit,
                    };
                    document!({
                        "job_id": run.job_id.map(Id), "run_id": run.run_id.map(Id), "run_url": word(&run.run_url),
                        "status": word(&run.status), "exit_code": exit,
                    })
                })
                .collect();
            return format!("runs={}\nexit_code={exit}\n", *runs.to_document());
        }
        let run = runs.first().cloned().unwrap_or_default();
        let id = run.run_id.map(|id| id.to_string()).unwrap_or_default();
        let [url, status] = [word(&run.run_url), word(&run.status)].map(Option::unwrap_or_default);
        format!("run_id={id}\nrun_url={url}\nstatus={status}\nexit_code={exit}\n")
    }

    /// One row per run; the dbt runs of a workflow follow its row.
    fn rows(&self, ending: &Ending<'_>, redact: &dyn Fn(&str) -> String) -> Vec<Row> {
        let Ending { runs, failure, results: _, exit: _ } = ending;
        let command_failure = failure.map(|failure| FailureSummary::new(failure, redact));
        if runs.is_empty() {
            let row = |named: &str| Row {
                job: plain(&redact(named), LONGEST),
                status: command_failure.as_ref().map_or("not seen", |failure| failure.code).to_owned(),
                result: command_failure.clone().map_or(RowResult::Success, RowResult::Failure),
                ..Row::default()
            };
            return match &self.named[..] {
                [] => vec![row("not given")],
                named => named.iter().map(|named| row(named)).collect(),
            };
        }
        let mut rows: Vec<Row> = runs.iter().flat_map(|run| rows_of(run, command_failure.as_ref(), redact)).collect();
        // After an interrupt, the jobs that were still waiting for a slot are missing.
        let more = if self.named.len() > 1 { self.named.len().saturating_sub(runs.len()) } else { 0 };
        rows.extend(command_failure.filter(|_| more > 0).map(|failure| Row {
            job: format!("{more} more"),
            status: failure.code.to_owned(),
            result: RowResult::Failure(failure),
            ..Row::default()
        }));
        rows
    }
}

/// The row of a run, and those of its dbt runs. `command_failure`: how the command failed.
fn rows_of(run: &RunOutcome, command_failure: Option<&FailureSummary>, redact: &dyn Fn(&str) -> String) -> Vec<Row> {
    let word = |text: &Option<String>| text.as_ref().and_then(|text| line(text, redact));
    let failure = match &run.result {
        Some(result) => result.as_ref().err().map(|failure| FailureSummary::new(failure, redact)),
        None => command_failure.cloned(),
    };
    let status = match (word(&run.status), &failure) {
        (Some(status), None) => status,
        (Some(status), Some(failure)) => format!("{status} ({})", failure.code),
        (None, Some(failure)) => failure.code.to_owned(),
        (None, None) => "not seen".to_owned(),
    };
    let result = match failure {
        Some(failure) => RowResult::Failure(failure),
        None if run.with_failures => RowResult::SuccessWithFailures,
        None => RowResult::Success,
    };
    let failed = run.failed.iter().map(|FailedPart { name, message }| FailedPart {
        name: line(name, redact).unwrap_or_default(),
        message: word(message),
    });
    let row = Row {
        job: line(&run.name, redact).unwrap_or_default(),
        run: run.run_id,
        url: word(&run.run_url).unwrap_or_default(),
        status,
        took: run.took,
        result,
        failed: failed.collect(),
    };
    let of_tasks = run.dbt_runs.iter().map(|task| Row {
        job: line(&task.task_key, redact).unwrap_or_default(),
        run: Some(task.run_id),
        url: word(&task.run_url).unwrap_or_default(),
        status: word(&task.status).unwrap_or_else(|| "not seen".to_owned()),
        result: RowResult::OfTask,
        ..Row::default()
    });
    std::iter::once(row).chain(of_tasks).collect()
}

/// A row of the summary: plain text without line breaks.
#[derive(Default)]
struct Row {
    job: String,
    run: Option<u64>,
    url: String,
    status: String,
    took: Option<Duration>,
    result: RowResult,
    failed: Vec<FailedPart>,
}

/// How a row's run ended.
#[derive(Default)]
enum RowResult {
    #[default]
    Success,
    /// Succeeded, although something in it failed.
    SuccessWithFailures,
    Failure(FailureSummary),
    OfTask,
}

/// A failure, with text of dbtrigger and the user only, since messages of a service may contain data.
#[derive(Clone)]
struct FailureSummary {
    /// Name of the error code.
    code: &'static str,
    what: String,
}

impl FailureSummary {
    fn new(failure: &Failure, redact: &dyn Fn(&str) -> String) -> FailureSummary {
        FailureSummary { code: failure.code.name(), what: plain(&redact(&failure.what), LONGEST) }
    }
}

/// The text in one line; `None` if it is empty.
fn line(text: &str, redact: &dyn Fn(&str) -> String) -> Option<String> {
    Some(plain(&redact(text), LONGEST)).filter(|text| !text.is_empty())
}

/// Appends whole lines, after a line break if the file does not end with one.
fn append(path: &Path, lines: &str) -> io::Result<()> {
    // Opening a pipe would block until it has a reader.
    if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        return Err(io::Error::other("it is not a file"));
    }
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let mut last = [b'\n'];
    // Seeking before the end fails in an empty file.
    if file.seek(SeekFrom::End(-1)).is_ok() {
        file.read_exact(&mut last)?;
    }
    let between = if last == *b"\n" { "" } else { "\n" };
    file.write_all(format!("{between}{lines}").as_bytes())
}

#[cfg(test)]
mod tests;
