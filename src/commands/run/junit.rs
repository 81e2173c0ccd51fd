//! `run --junit`: the outcome as JUnit XML for CI services. Nothing here changes the outcome.

mod fetch;
mod xml;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::rc::Rc;

pub(super) use xml::{Case, Suite, Verdict, document};

use crate::dbt::Node;
use crate::failure::{Code, Failure, io_reason};
use crate::runs::plain;

/// Longest service message shown, in characters.
const LONGEST: usize = 400;

/// Node results for the JUnit file. Shared, because the file is written after the command has ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Results {
    runs: Rc<RefCell<BTreeMap<u64, Vec<StepResults>>>>,
    /// The file could not be written, and the command failed for that reason.
    refused: Rc<Cell<bool>>,
}

/// Results of one step.
#[derive(Clone, Debug)]
struct StepResults {
    /// Such as `step 4: dbt build`.
    step: String,
    /// The error says why there are no results.
    results: Result<Vec<Node>, String>,
}

impl Results {
    /// Checks before anything is started that the file can be written. Writes an "unknown" outcome, so that a killed
    /// program does not leave the file of an earlier run.
    pub(super) fn claim(&self, file: &Path, jobs: &[String]) -> Result<(), Failure> {
        let suites: Vec<Suite> = jobs
            .iter()
            .map(|job| {
                let verdict = Verdict::Error {
                    kind: "outcome-unknown".to_owned(),
                    message: "The command has not ended, or was killed; the run may still be active.".to_owned(),
                };
                Suite::of(&plain(job, LONGEST), None, vec![Case::of_run(job, verdict, None)])
            })
            .collect();
        self.refused.set(false);
        write(file, &document(&suites)).map_err(|error| {
            self.refused.set(true);
            let what = format!("cannot write to --junit \"{}\"; nothing was started", file.display());
            Failure::new(Code::InvalidInput, what)
                .cause(io_reason(&error))
                .advise("choose a file in an existing directory that you can write to")
        })
    }

    /// Whether to skip the file, because the command failed for not being able to write it.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.get()
    }

    fn insert(&self, run: u64, parts: Vec<StepResults>) {
        self.runs.borrow_mut().insert(run, parts);
    }

    /// The nodes of this run as tests. If several steps ran a node, the last one counts.
    pub(super) fn cases(&self, run: u64, detail: bool, redact: &dyn Fn(&str) -> String) -> Vec<Case> {
        let runs = self.runs.borrow();
        let mut cases: Vec<Case> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for StepResults { step, results } in runs.get(&run).into_iter().flatten() {
            match results {
                Ok(nodes) => {
                    for node in nodes {
                        let case = node_case(node, detail, redact);
                        let place = *places.entry(&node.unique_id).or_insert(cases.len());
                        if place < cases.len() {
                            cases[place] = case;
                        } else {
                            cases.push(case);
                        }
                    }
                }
                Err(reason) => cases.push(Case {
                    class: "dbt.step".to_owned(),
                    name: plain(&redact(step), LONGEST),
                    seconds: None,
                    verdict: Verdict::Skipped {
                        message: plain(&redact(&format!("its results are not available: {reason}")), LONGEST),
                    },
                    output: None,
                }),
            }
        }
        cases
    }
}

/// Splits `model.shop.orders` into `model.shop` and `orders`; a version or hash stays in the name to keep it unique.
fn node_case(node: &Node, detail: bool, redact: &dyn Fn(&str) -> String) -> Case {
    let id = plain(&redact(&node.unique_id), LONGEST);
    let (class, name) = match id.match_indices('.').nth(1) {
        Some((dot, _)) => (id[..dot].to_owned(), id[dot + 1..].to_owned()),
        None => (String::new(), id),
    };
    let status = node.status.as_deref().map(|status| plain(&redact(status), LONGEST)).unwrap_or_default();
    // The message may contain data.
    let message_text = node.message.as_deref().filter(|_| detail).map(|text| plain(&redact(text), LONGEST));
    let message = match message_text.filter(|message_text| !message_text.is_empty()) {
        Some(message_text) => format!("{status}: {message_text}"),
        None => status.clone(),
    };
    let (verdict, output) = match status.as_str() {
        "success" | "pass" => (Verdict::Passed, None),
        "fail" | "partial success" => (Verdict::Failure { kind: status, message }, None),
        "error" | "runtime error" => (Verdict::Error { kind: status, message }, None),
        "skipped" => (Verdict::Skipped { message }, None),
        "" => (Verdict::Skipped { message: "dbt reports no status".to_owned() }, None),
        // `warn`, `no-op`, `reused` and unknown statuses are not failures.
        _ => (Verdict::Passed, Some(message)),
    };
    Case { class, name, seconds: node.execution_time, verdict, output }
}

/// Writes the file atomically.
pub(super) fn write(file: &Path, text: &str) -> io::Result<()> {
    let no = |why: &str| Err(io::Error::other(why.to_owned()));
    match fs::symlink_metadata(file) {
        Ok(there) if there.is_dir() => return no("it is a directory"),
        // A device or pipe is not a place for a report, and renaming would replace a symlink.
        Ok(there) if !there.is_file() => return no("it exists and is not a regular file"),
        Ok(_) | Err(_) => {}
    }
    let folder = match file.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => return no("it is not a file name"),
    };
    if !folder.is_dir() {
        return no("its directory does not exist");
    }
    let mut builder = tempfile::Builder::new();
    // In containers, the reader is often another user.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut whole = builder.tempfile_in(folder)?;
    whole.write_all(text.as_bytes())?;
    whole.persist(file).map_err(|failed| failed.error)?;
    Ok(())
}

#[cfg(test)]
mod tests;
