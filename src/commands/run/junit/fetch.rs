//! Downloads the node results of a run that has ended.

use std::time::Duration;

use super::{Results, StepResults};
use crate::commands::run::download::Download;
use crate::dbt::{Steps, get_run_with_steps};
use crate::events::RunEvent;
use crate::runs::Upload;

/// Longest time for all downloads.
const LIMIT: Duration = Duration::from_mins(5);

impl Download<'_> {
    /// Downloads the results of every step that builds. Warns about missing results.
    pub(in crate::commands::run) async fn results(&self, results: &Results) {
        let mut steps = Vec::new();
        if !self.within(LIMIT, self.all_results(&mut steps)).await {
            let reason = "the time for fetching was over".to_owned();
            steps.push(StepResults { step: "more steps".to_owned(), results: Err(reason) });
        }
        for StepResults { step, results } in &steps {
            if let Err(reason) = results {
                let (step, reason) = (step.clone(), reason.clone());
                self.events.run(RunEvent::ResultsMissing { run: self.run, step, reason });
            }
        }
        results.insert(self.run, steps);
    }

    async fn all_results(&self, steps: &mut Vec<StepResults>) {
        let seen = match self.reader.read(get_run_with_steps(self.account, self.run)).await {
            Ok(seen) => seen,
            Err(error) => {
                steps.push(StepResults { step: "all steps".to_owned(), results: Err(error.to_string()) });
                return;
            }
        };
        let mut upload = Upload::new(self.reader, self.account, &seen);
        for (step, waits) in Steps::of(&seen).built() {
            let results = upload.results(step.index, waits).await.map_err(|error| error.to_string());
            steps.push(StepResults { step: format!("step {}: {}", step.index, step.title()), results });
        }
    }
}
