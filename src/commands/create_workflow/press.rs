//! What happens with the workflow once it is there: its run.

use serde_json::{Value, json};

use crate::commands::Stage;
use crate::commands::provision::Carried;
use crate::credentials::Databricks;
use crate::failure::{Ended, Report};

/// Presses "Run now" on the job and follows the run; its outcome is the outcome.
pub(super) async fn press(
    carried: Carried,
    job: u64,
    databricks: &Databricks,
    stage: &Stage,
) -> Ended<Box<dyn Report>> {
    let Ended { report: made, failure: _ } = carried.end();
    // What was made is said before the run begins, not after it.
    for line in made.iter().flat_map(|made| made.text().lines().map(ToOwned::to_owned).collect::<Vec<_>>()) {
        stage.events.progress(line);
    }
    let Ended { report: run, failure } = crate::commands::run::press(job, databricks, stage).await;
    Ended { report: Some(Box::new(MadeAndRun { made, run })), failure }
}

/// The workflow, and the run of it.
struct MadeAndRun {
    made: Option<Box<dyn Report>>,
    run: Option<Box<dyn Report>>,
}

impl Report for MadeAndRun {
    fn text(&self) -> String {
        let MadeAndRun { made: _, run } = self;
        run.as_ref().map(|run| run.text()).unwrap_or_default()
    }

    fn json(&self) -> Value {
        let MadeAndRun { made, run } = self;
        let mut data = made.as_ref().map_or_else(|| json!({}), |made| made.json());
        data["run"] = run.as_ref().map(|run| run.json()).into();
        data
    }
}
