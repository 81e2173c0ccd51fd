//! What happens once the workflow exists: its check and its run.

use std::rc::Rc;

use super::check::Check;
use crate::commands::shared::prompts::unanswered_at;
use crate::commands::shared::provision::Applied;
use crate::commands::{CommandContext, StateNote};
use crate::credentials::Databricks;
use crate::document::Data;
use crate::failure::{Ended, Hint, Report, next_lines};
use crate::http::Writer;
use crate::line::Line;
use crate::questions::Prompter;

/// State note if the prompt for a run is not answered.
const NOTE_NO_RUN: &str = "setup is complete, and no run was started";

/// State note after the answer "yes", until the run is known.
const NOTE_RUN_REQUESTED: &str = "setup is complete, but it is unknown whether the run was started";

/// Label of the command that starts the first run later.
const RUN: &str = "run the workflow";

/// Whether to run the workflow once it exists.
pub(in crate::commands) enum RunNow {
    No,
    Now,
    /// Ask the user.
    Offered(Rc<dyn Prompter>),
}

/// What `create-workflow` does once the workflow exists.
#[derive(Clone, Copy)]
pub(super) struct Then {
    pub(super) check: bool,
    pub(super) run_now: bool,
}

impl Then {
    /// Checks and runs the workflow, if there is one: its ID and its check.
    pub(super) async fn go_on(
        self,
        applied: Applied,
        made: Option<(u64, Check)>,
        access: (&Databricks, &Writer),
        ctx: &CommandContext,
    ) -> Ended<Box<dyn Report>> {
        let Then { check, run_now } = self;
        let goes_on = (check || run_now) && applied.is_well() && applied.failure.is_none();
        let Some((job, made)) = made.filter(|_| goes_on) else { return applied.end() };
        let run_now = if run_now { RunNow::Now } else { RunNow::No };
        check_and_run(applied, Some(made).filter(|_| check), &[], (job, run_now), access, ctx).await
    }
}

/// Checks the workflow and runs it, as requested. The outcome is the first failure, or that of the last step.
/// `closing_lines` are printed before the prompt for a run.
pub(in crate::commands) async fn check_and_run(
    mut applied: Applied,
    check: Option<Check>,
    closing_lines: &[Line],
    (job, run_now): (u64, RunNow),
    (databricks, writer): (&Databricks, &Writer),
    ctx: &CommandContext,
) -> Ended<Box<dyn Report>> {
    let hints = applied.take_hints();
    let Ended { report: made, failure: _ } = applied.end();
    // Print what was created before the run starts.
    for line in made.iter().flat_map(|made| made.text()) {
        ctx.events.progress(line);
    }
    let mut all = MadeAndRun { made, check: None, run: None, hints: Vec::new() };
    if let Some(check) = check {
        let Ended { report, failure } = check.run(writer, ctx).await;
        all.check = report;
        if failure.is_some() {
            tell(closing_lines, ctx);
            return Ended { report: Some(Box::new(all)), failure };
        }
    }
    tell(closing_lines, ctx);
    let runs_now = match run_now {
        RunNow::No => false,
        RunNow::Now => true,
        RunNow::Offered(prompter) => {
            let note = |state, next| {
                ctx.interrupt_report.set_note(all.json(), StateNote { cause: None, state, next: Some(next) });
            };
            let run = format!("dbtrigger run --workflow {job}");
            // If the prompt is interrupted, the report is already complete.
            note(NOTE_NO_RUN, Hint::run(RUN, &run));
            match prompter.key("Run the workflow now?", "yN").await {
                Ok('y') => {
                    note(NOTE_RUN_REQUESTED, Hint::run("list its runs", format!("dbtrigger runs --workflow {job}")));
                    true
                }
                Ok(_) => {
                    ctx.events.progress(format!("next: {run}"));
                    false
                }
                Err(reason) => {
                    let failure = unanswered_at(reason, Some(NOTE_NO_RUN)).run(RUN, run);
                    return Ended { report: Some(Box::new(all)), failure: Some(failure) };
                }
            }
        }
    };
    if !runs_now {
        all.hints = hints;
        return Ended::well(Box::new(all));
    }
    let Ended { report, failure } = crate::commands::run::start_workflow(job, databricks, ctx).await;
    all.run = report;
    Ended { report: Some(Box::new(all)), failure }
}

fn tell(lines: &[Line], ctx: &CommandContext) {
    for line in lines {
        ctx.events.progress(line.clone());
    }
}

/// The report of the workflow, its check and its run.
struct MadeAndRun {
    made: Option<Box<dyn Report>>,
    check: Option<Box<dyn Report>>,
    run: Option<Box<dyn Report>>,
    /// What to do next: the last lines.
    hints: Vec<Hint>,
}

impl Report for MadeAndRun {
    fn text(&self) -> Vec<Line> {
        let MadeAndRun { made: _, check: _, run, hints } = self;
        run.iter().flat_map(|run| run.text()).chain(next_lines(hints)).collect()
    }

    fn json(&self) -> Data {
        let MadeAndRun { made, check, run, hints: _ } = self;
        let mut data = made.as_ref().map_or_else(Data::object, |made| made.json());
        for (name, part) in [("check", check), ("run", run)] {
            if let Some(part) = part {
                data.set(name, part.json());
            }
        }
        data
    }
}
