//! CI outputs of `run`, from the same data as the JSON document: step outputs, job summary and annotations for GitHub
//! Actions, and the file of `--junit`. Nothing here changes the outcome.

mod annotations;
mod markdown;
mod tests_of_runs;

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Args;
use super::junit::{self, Results};
use crate::context::Environment;
use crate::databricks::WorkflowEnd;
use crate::document::{Count, Data, Shown as _, document};
use crate::events::Events;
use crate::failure::{Code, Failure, io_reason};
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
    /// The `data` of the JSON document; null if nothing is known.
    pub(crate) data: &'a Value,
    pub(crate) failure: Option<&'a Failure>,
    /// Results of the run's nodes.
    pub(crate) results: &'a Results,
    /// Exit code of the program.
    pub(crate) exit: u8,
}

impl CiOutputs {
    pub(crate) fn of(args: &Args) -> CiOutputs {
        let named = args.workflow.as_ref().map_or_else(|| args.jobs(), |workflow| vec![workflow.clone()]);
        CiOutputs { named, detail: args.summary_detail, junit: args.junit.clone() }
    }

    /// Writes the JUnit file, appends to the files named by GitHub Actions, and emits annotations. `clean` redacts
    /// secrets.
    pub(crate) fn write(
        &self,
        ending: &Ending<'_>,
        environment: &Environment,
        clean: &dyn Fn(&str) -> String,
        events: &Events,
    ) {
        let append_to = |variable: &str, what: &str, text: &dyn Fn() -> String| {
            if let Some(path) = environment.get(variable)
                && let Err(error) = append(Path::new(path), &text())
            {
                events.warning(format!("cannot write {what} to {path} ({variable}): {}", io_reason(&error)));
            }
        };
        let rows = self.rows(ending, clean);
        if let Some(file) = self.junit.as_ref().filter(|_| !ending.results.is_refused())
            && let Err(error) = junit::write(file, &tests_of_runs::document(&rows, ending.results, self.detail, clean))
        {
            events.warning(format!("cannot write the JUnit report to {}: {}", file.display(), io_reason(&error)));
        }
        append_to("GITHUB_OUTPUT", "the outputs of this step", &|| self.outputs(ending, clean));
        append_to("GITHUB_STEP_SUMMARY", "the summary of this step", &|| markdown::summary(&rows, self.detail));
        if environment.get("GITHUB_ACTIONS") == Some("true") {
            for annotation in annotations::of(&rows, self.detail) {
                events.emit(annotation);
            }
        }
    }

    /// `name=value` lines; values have no line breaks.
    fn outputs(&self, ending: &Ending<'_>, clean: &dyn Fn(&str) -> String) -> String {
        let Ending { data, failure: _, results: _, exit } = ending;
        if self.named.len() > 1 {
            let runs: Vec<Data> = runs_of(data)
                .iter()
                .map(|run| {
                    let exit = run["exit_code"].as_u64().unwrap_or_else(|| u64::from(*exit));
                    let word = |name: &str| word(run, name, clean);
                    document!({
                        "job_id": word("job_id"), "run_id": word("run_id"), "run_url": word("run_url"),
                        "status": word("status"), "exit_code": Count(exit),
                    })
                })
                .collect();
            return format!("runs={}\nexit_code={exit}\n", *runs.shown());
        }
        let (id, url) = (word(data, id_name(data), clean), word(data, url_name(data), clean));
        let [id, url, status] = [id, url, word(data, "status", clean)].map(Option::unwrap_or_default);
        format!("run_id={id}\nrun_url={url}\nstatus={status}\nexit_code={exit}\n")
    }

    /// One row per run; the dbt runs of a workflow follow its row.
    fn rows(&self, ending: &Ending<'_>, clean: &dyn Fn(&str) -> String) -> Vec<Row> {
        let Ending { data, failure, results: _, exit: _ } = ending;
        let whole = failure.map(|failure| Bad::new(failure.code.name(), &failure.what, clean));
        let code = failure.map(|failure| failure.code);
        let runs = if self.named.len() > 1 { runs_of(data) } else { std::slice::from_ref(*data) };
        if runs.iter().all(Value::is_null) {
            let row = |named: &String| Row {
                job: plain(&clean(named), LONGEST),
                run: String::new(),
                url: String::new(),
                status: whole.as_ref().map_or("not seen", |bad| bad.code.as_str()).to_owned(),
                seconds: None,
                how: whole.clone().map_or(How::Well, How::Badly),
                failed: Vec::new(),
            };
            let nobody = ["not given".to_owned()];
            let named = if self.named.is_empty() { &nobody[..] } else { &self.named[..] };
            return named.iter().map(row).collect();
        }
        let mut rows = Vec::new();
        for run in runs {
            let name = if is_workflow(run) { "workflow_name" } else { "job_id" };
            // With several jobs each run has its own error; a single run takes the command's.
            let bad = match run.get("error") {
                Some(error) => error["code"]
                    .as_str()
                    .map(|code| Bad::new(code, error["message"].as_str().unwrap_or_default(), clean)),
                None => whole.clone(),
            };
            let status = match (word(run, "status", clean), &bad) {
                (Some(status), None) => status,
                (Some(status), Some(bad)) => format!("{status} ({})", bad.code),
                (None, Some(bad)) => bad.code.clone(),
                (None, None) => "not seen".to_owned(),
            };
            let with_failures = || {
                let end = run["status"].as_str().filter(|_| is_workflow(run)).map(WorkflowEnd::of);
                matches!(end, Some(WorkflowEnd::SuccessWithFailures(_)))
            };
            let how = match bad {
                Some(bad) => How::Badly(bad),
                None if with_failures() => How::WithFailures,
                None => How::Well,
            };
            rows.push(Row {
                job: word(run, name, clean).unwrap_or_default(),
                run: word(run, id_name(run), clean).unwrap_or_default(),
                url: word(run, url_name(run), clean).unwrap_or_default(),
                status,
                seconds: run["duration_seconds"].as_u64(),
                how,
                failed: failed(run, code, clean),
            });
            rows.extend(list(run, "tasks").iter().filter(|task| !task["dbt_run_id"].is_null()).map(|task| Row {
                job: word(task, "task_key", clean).unwrap_or_default(),
                run: word(task, "dbt_run_id", clean).unwrap_or_default(),
                url: word(task, "dbt_run_url", clean).unwrap_or_default(),
                status: word(task, "dbt_run_status", clean).unwrap_or_else(|| "not seen".to_owned()),
                seconds: None,
                how: How::PartOfTheRowAbove,
                failed: Vec::new(),
            }));
        }
        // After an interrupt, the data lacks the jobs that were still waiting for a slot.
        let more = if self.named.len() > 1 { self.named.len().saturating_sub(runs.len()) } else { 0 };
        rows.extend(whole.filter(|_| more > 0).map(|bad| Row {
            job: format!("{more} more"),
            run: String::new(),
            url: String::new(),
            status: bad.code.clone(),
            seconds: None,
            how: How::Badly(bad),
            failed: Vec::new(),
        }));
        rows
    }
}

/// A row of the summary: plain text without line breaks.
struct Row {
    job: String,
    run: String,
    url: String,
    status: String,
    seconds: Option<u64>,
    how: How,
    failed: Vec<Failed>,
}

/// How a run in a row ended.
enum How {
    Well,
    /// Succeeded, although something in it failed.
    WithFailures,
    Badly(Bad),
    PartOfTheRowAbove,
}

/// A failure, in words of ours and of the user only, since messages of a service may contain data.
#[derive(Clone)]
struct Bad {
    /// Name of the error code.
    code: String,
    what: String,
}

impl Bad {
    fn new(code: &str, what: &str, clean: &dyn Fn(&str) -> String) -> Bad {
        Bad { code: plain(&clean(code), LONGEST), what: plain(&clean(what), LONGEST) }
    }
}

/// A model, test or task that failed.
struct Failed {
    name: String,
    message: Option<String>,
}

fn failed(run: &Value, code: Option<Code>, clean: &dyn Fn(&str) -> String) -> Vec<Failed> {
    if is_workflow(run) {
        // In a run that is still active, failed tasks may be retried.
        let ended = matches!(code, None | Some(Code::RunFailed | Code::RunCancelled));
        let has_failed =
            |task: &&Value| matches!(task["status"].as_str().map(WorkflowEnd::of), Some(WorkflowEnd::Failed(_)));
        let failed = list(run, "tasks").iter().filter(|_| ended).filter(has_failed).map(|task| Failed {
            name: word(task, "task_key", clean).unwrap_or_default(),
            message: word(task, "error", clean).or_else(|| word(task, "message", clean)),
        });
        return failed.collect();
    }
    let nodes = list(run, "failed_nodes").iter().map(|node| {
        let part = |name: &str| word(node, name, clean).unwrap_or_default();
        Failed { name: format!("{} {}", part("kind"), part("name")), message: word(node, "message", clean) }
    });
    nodes.collect()
}

fn is_workflow(run: &Value) -> bool {
    run.get("workflow_id").is_some()
}

fn id_name(run: &Value) -> &'static str {
    if is_workflow(run) { "workflow_run_id" } else { "run_id" }
}

fn url_name(run: &Value) -> &'static str {
    if is_workflow(run) { "workflow_run_url" } else { "run_url" }
}

fn runs_of(data: &Value) -> &[Value] {
    list(data, "runs")
}

fn list<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The value as one line of text.
fn word(of: &Value, name: &str, clean: &dyn Fn(&str) -> String) -> Option<String> {
    let text = match &of[name] {
        Value::String(text) => plain(&clean(text), LONGEST),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    Some(text).filter(|text| !text.is_empty())
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
