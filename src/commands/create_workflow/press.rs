//! What happens with the workflow once it is there: its check, and its run.

use serde_json::{Value, json};

use super::check::Check;
use crate::commands::Stage;
use crate::commands::provision::Carried;
use crate::credentials::Databricks;
use crate::failure::{Ended, Report};
use crate::http::Writer;

/// Checks the workflow if that is wanted, then presses "Run now" on it if that is, and follows; the first outcome that is not
/// good, else the last one, is the outcome.
pub(super) async fn go_on(
    carried: Carried,
    check: Option<Check>,
    run: Option<u64>,
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
            return Ended { report: Some(Box::new(all)), failure };
        }
    }
    let Some(job) = run else { return Ended::well(Box::new(all)) };
    let Ended { report, failure } = crate::commands::run::press(job, databricks, stage).await;
    all.run = report;
    Ended { report: Some(Box::new(all)), failure }
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

    fn json(&self) -> Value {
        let MadeAndRun { made, check, run } = self;
        let mut data = made.as_ref().map_or_else(|| json!({}), |made| made.json());
        for (name, part) in [("check", check), ("run", run)] {
            if let Some(part) = part {
                data[name] = part.json();
            }
        }
        data
    }
}
