//! Interprets the steps of a run: which one failed it, and whose results count.
//!
//! The cases are in `tests/failures/cases.json`; the notebook follows the same rules.

use serde::Deserialize;
use serde_json::Value;

use super::envelope::{lenient_number, optional};
use super::run_response::{JobPart, Run, Status, Trigger};

/// Commands of the source freshness checkbox, under its current and old name.
const FRESHNESS: [&str; 2] = ["dbt source freshness", "dbt source snapshot-freshness"];

/// Command of the docs checkbox.
const DOCS: &str = "dbt docs generate";

/// One step of a run.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Step {
    /// Starts at 1; the step number in artifact requests.
    #[serde(deserialize_with = "lenient_number")]
    pub(crate) index: u64,
    #[serde(default, deserialize_with = "optional")]
    name: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) status: Option<Status>,
    #[serde(default, deserialize_with = "optional")]
    status_humanized: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    run_step_command: Option<Command>,
    #[serde(default, deserialize_with = "optional")]
    logs: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    truncated_debug_logs: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Command {
    #[serde(default, deserialize_with = "optional")]
    dbt_command: Option<String>,
}

impl Step {
    /// The command, or the step's own name: `dbt build` for ``Invoke dbt with `dbt build` ``.
    pub(crate) fn title(&self) -> &str {
        let name = self.name.as_deref().unwrap_or("(without a name)");
        name.strip_prefix("Invoke dbt with `").and_then(|rest| rest.strip_suffix('`')).unwrap_or(name)
    }

    /// The dbt command line; `None` for steps such as cloning the repository.
    fn command(&self) -> Option<&str> {
        let told = self.run_step_command.as_ref().and_then(|command| command.dbt_command.as_deref());
        let quoted = || self.name.as_deref()?.split_once('`')?.1.rsplit_once('`').map(|(command, _)| command);
        told.or_else(quoted).map(str::trim).filter(|command| *command == "dbt" || command.starts_with("dbt "))
    }

    /// The subcommand: `build` of `dbt --quiet build --select x`.
    fn verb(&self) -> Option<&str> {
        self.command()?.split_whitespace().skip(1).find(|word| !word.starts_with('-'))
    }

    /// Whether it builds or tests something, so that its results count.
    pub(crate) fn builds(&self) -> bool {
        matches!(self.verb(), Some("build" | "run" | "test" | "seed" | "snapshot" | "retry"))
    }

    /// Whether it writes a `run_results.json`.
    pub(crate) fn has_results(&self) -> bool {
        self.builds() || matches!(self.verb(), Some("compile" | "docs" | "run-operation" | "clone"))
    }

    /// Whether it started. Skipped steps are recognized by their text, because their status number is not documented.
    fn has_begun(&self) -> bool {
        let skipped = self.status_humanized.as_deref().is_some_and(|text| text.eq_ignore_ascii_case("skipped"));
        !skipped && self.status.is_some_and(|status| status != Status::Queued)
    }

    /// Its log, if there is one yet.
    pub(crate) fn log(&self) -> Option<&str> {
        [&self.logs, &self.truncated_debug_logs].into_iter().flatten().map(String::as_str).find(|log| !log.is_empty())
    }

    /// Whether the step has the name of this checkbox.
    fn is_named(&self, name: &str) -> bool {
        self.name.as_deref().is_some_and(|own| own.trim().eq_ignore_ascii_case(name))
    }
}

/// The steps of a run, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Steps {
    all: Vec<Step>,
    /// Positions of steps that come from a checkbox of the job. They may fail without failing the run.
    by_checkbox: Vec<usize>,
}

impl Steps {
    /// The steps of a run that was read with its steps, job and trigger.
    pub(crate) fn of(run: &Run) -> Steps {
        let mut all = run.run_steps.clone().unwrap_or_default();
        all.sort_by_key(|step| step.index);
        let by_checkbox = checkboxes(&all, run.job.as_ref(), run.trigger.as_ref());
        Steps { all, by_checkbox }
    }

    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// The running step.
    pub(crate) fn running(&self) -> Option<&Step> {
        self.all.iter().rfind(|step| step.status == Some(Status::Running))
    }

    /// The step that failed the run: the last failed one that is not from a checkbox, since only such a failure ends
    /// the run. A run that was aborted has a step that is still "running".
    pub(crate) fn failed(&self) -> Option<&Step> {
        let mut own = self.all.iter().enumerate().filter(|(at, _)| !self.by_checkbox.contains(at));
        own.rfind(|(_, step)| step.status == Some(Status::Error)).map(|(_, step)| step).or_else(|| self.running())
    }

    /// The step whose files count for the run: the one that failed it, otherwise the last one that built something.
    pub(crate) fn counts(&self, failed: bool) -> Option<&Step> {
        match self.failed().filter(|_| failed) {
            Some(step) => Some(step).filter(|step| step.has_results()),
            None => self.all.iter().rfind(|step| step.builds() && step.has_begun()),
        }
    }

    /// The steps that built something, each with whether its results are certain to be uploaded.
    pub(crate) fn built(&self) -> impl Iterator<Item = (&Step, bool)> {
        let built = self.all.iter().filter(|step| step.builds() && step.has_begun());
        // A step that was canceled may have written nothing.
        built.map(|step| (step, matches!(step.status, Some(Status::Success | Status::Error))))
    }

    /// Whether any step may have written files.
    pub(crate) fn leave_files(&self) -> bool {
        self.all.iter().any(|step| step.has_begun() && step.has_results())
    }
}

/// Returns the positions of steps that come from checkboxes. The same command in the job's own list is not a checkbox.
/// If the job is unknown, the position decides, and only if another step failed too.
fn checkboxes(all: &[Step], job: Option<&JobPart>, trigger: Option<&Trigger>) -> Vec<usize> {
    let overridden = |name: &str| trigger.and_then(|trigger| trigger.rest.get(name));
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(|text| text.trim().to_owned()).collect()
    };
    let steps_override = overridden("steps_override").map(texts).filter(|steps| !steps.is_empty());
    let listed = steps_override.or_else(|| job?.execute_steps.clone());
    // `false` is also returned if nothing was requested.
    let docs = overridden("generate_docs_override").and_then(Value::as_bool).filter(|docs| *docs);
    let docs = docs.or_else(|| job?.generate_docs);
    let freshness = job.and_then(|job| job.run_generate_sources);
    let is_listed = |command: &str| listed.iter().flatten().filter(|own| own.trim() == command).count();

    let is_freshness = |step: &Step| {
        step.is_named("source freshness") || step.command().is_some_and(|command| FRESHNESS.contains(&command))
    };
    let is_docs = |step: &Step| step.is_named("generate docs") || step.command() == Some(DOCS);
    // `dbt deps` runs before the first command, listed or not.
    let is_own = |step: &Step| match &listed {
        Some(_) => step.command().is_some_and(|command| command != "dbt deps" && is_listed(command) > 0),
        None => step.builds(),
    };
    let mut found = Vec::new();
    if let Some(at) = all.iter().position(is_freshness)
        && (all[at].is_named("source freshness")
            || (freshness.unwrap_or(true) && !all[..at].iter().any(|step| is_own(step) && !is_freshness(step))))
    {
        found.push(at);
    }
    let mut left = is_listed(DOCS);
    for (at, step) in all.iter().enumerate().filter(|(_, step)| is_docs(step)) {
        if step.is_named("generate docs") {
            found.push(at);
        } else if left > 0 {
            left -= 1;
        } else if docs.unwrap_or(true) && !all[at + 1..].iter().any(is_own) {
            found.push(at);
        }
    }
    let others_failed =
        |at: &usize| all.iter().enumerate().any(|(other, step)| other != *at && step.status == Some(Status::Error));
    if job.is_none() {
        found.retain(|at| {
            others_failed(at) || all[*at].is_named("generate docs") || all[*at].is_named("source freshness")
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn step(value: Value) -> Step {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_step_is_titled_by_its_command_and_known_by_its_verb() {
        for (name, title, builds, results) in [
            ("Invoke dbt with `dbt build --select x`", "dbt build --select x", true, true),
            ("Invoke dbt with `dbt --quiet run`", "dbt --quiet run", true, true),
            ("Invoke dbt with `dbt deps`", "dbt deps", false, false),
            ("Invoke dbt with `dbt compile`", "dbt compile", false, true),
            ("Clone git repository", "Clone git repository", false, false),
            ("Create profile from connection dbt build", "Create profile from connection dbt build", false, false),
        ] {
            let step = step(json!({ "index": 1, "name": name }));
            assert_eq!((step.title(), step.builds(), step.has_results()), (title, builds, results));
        }
        let told = step(json!({ "index": 1, "name": "Custom", "run_step_command": { "dbt_command": "dbt test" } }));
        assert!(told.builds() && told.title() == "Custom");
    }
}
