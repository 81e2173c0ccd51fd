//! What happens with the workflow once it is there: its check, and its run.

use std::rc::Rc;

use super::check::Check;
use crate::commands::provision::Carried;
use crate::commands::talk::unanswered;
use crate::commands::{Said, Stage};
use crate::credentials::Databricks;
use crate::document::Data;
use crate::failure::{Ended, Failure, Report};
use crate::http::Writer;
use crate::questions::Questioner;

/// How things stand where nobody answers whether there is to be a run.
const SET_UP: &str = "setup is complete; no run was started";

/// The same once somebody has said yes, until its run is known.
const PRESSED: &str = "setup is complete; check whether its run was started with `dbtrigger runs --workflow WORKFLOW`";

/// Whether the workflow is run once it is there.
pub(in crate::commands) enum Press {
    No,
    Now,
    /// If this person says so.
    Offered(Rc<dyn Questioner>),
}

impl From<bool> for Press {
    fn from(run_now: bool) -> Press {
        if run_now { Press::Now } else { Press::No }
    }
}

/// Checks the workflow if that is wanted, then presses "Run now" on it if that is, and follows; the first outcome that is not
/// good, else the last one, is the outcome. `parting`: what a person is told before they are asked for a run.
pub(in crate::commands) async fn go_on(
    carried: Carried,
    check: Option<Check>,
    parting: &[String],
    (job, press): (u64, Press),
    (databricks, writer): (&Databricks, &Writer),
    stage: &Stage,
) -> Ended<Box<dyn Report>> {
    let Ended { report: made, failure: _ } = carried.end();
    // What was made is said before the run begins, not after it.
    for line in made.iter().flat_map(|made| made.text().lines().map(ToOwned::to_owned).collect::<Vec<_>>()) {
        stage.events.progress(line);
    }
    let mut all = MadeAndRun { made, check: None, run: None };
    if let Some(check) = check {
        let Ended { report, failure } = check.run(writer, stage).await;
        all.check = report;
        if failure.is_some() {
            tell(parting, stage);
            return Ended { report: Some(Box::new(all)), failure };
        }
    }
    tell(parting, stage);
    let presses = match press {
        Press::No => false,
        Press::Now => true,
        Press::Offered(asker) => {
            // A signal at the question finds what was made.
            stage.last_known.stands(all.json(), Said { cause: None, advice: SET_UP });
            let answer = offered(&*asker).await;
            match answer {
                Ok(answer) => {
                    stage.last_known.stands(all.json(), Said { cause: None, advice: PRESSED });
                    answer
                }
                Err(failure) => return Ended { report: Some(Box::new(all)), failure: Some(failure) },
            }
        }
    };
    if !presses {
        return Ended::well(Box::new(all));
    }
    let Ended { report, failure } = crate::commands::run::press(job, databricks, stage).await;
    all.run = report;
    Ended { report: Some(Box::new(all)), failure }
}

fn tell(lines: &[String], stage: &Stage) {
    for line in lines {
        stage.events.progress(line);
    }
}

/// Asks whether there is to be a first run. Without an answer there is none, and what was made stays.
async fn offered(asker: &dyn Questioner) -> Result<bool, Failure> {
    asker.key("Run the workflow now?", "yN").await.map(|key| key == 'y').map_err(|reason| {
        let Failure { code, what, causes, hints: _, open: _ } = unanswered(reason);
        let failure = Failure::new(code, what).advise(SET_UP);
        causes.into_iter().fold(failure, Failure::cause)
    })
}

/// The workflow, its check, and the run of it.
struct MadeAndRun {
    made: Option<Box<dyn Report>>,
    check: Option<Box<dyn Report>>,
    run: Option<Box<dyn Report>>,
}

impl Report for MadeAndRun {
    fn text(&self) -> String {
        let MadeAndRun { made: _, check: _, run } = self;
        run.as_ref().map(|run| run.text()).unwrap_or_default()
    }

    fn json(&self) -> Data {
        let MadeAndRun { made, check, run } = self;
        let mut data = made.as_ref().map_or_else(Data::object, |made| made.json());
        for (name, part) in [("check", check), ("run", run)] {
            if let Some(part) = part {
                data.set(name, part.json());
            }
        }
        data
    }
}
