//! What dbt says about each node of a run that has ended.

use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Part, Results};
use crate::dbt::{Node, Status, Step, get_run_results, get_run_with_steps};
use crate::events::Events;
use crate::http::Reader;

/// dbt uploads results some seconds after the end of the run (dbt-cloud-api §6).
const UPLOAD: Duration = Duration::from_secs(30);
const BETWEEN: Duration = Duration::from_secs(3);

/// It may take so long in all.
const LIMIT: Duration = Duration::from_mins(5);

/// Which run's results are fetched, and in what time.
pub(in crate::commands::run) struct Wanted {
    pub(in crate::commands::run) account: u64,
    pub(in crate::commands::run) run: u64,
    /// The time that was given for the run.
    pub(in crate::commands::run) deadline: Instant,
}

impl Wanted {
    /// Fetches the results of every step that builds, as soon as there is a turn for it. What is missing is said.
    pub(in crate::commands::run) async fn fetch(
        &self,
        results: &Results,
        reader: &Reader,
        turns: Option<&Semaphore>,
        events: &Events,
    ) {
        let now = Instant::now();
        let until = (now + LIMIT).min(self.deadline);
        let mut parts = Vec::new();
        let fetching = async {
            let _turn = match turns {
                Some(turns) => turns.acquire().await.ok(),
                None => None,
            };
            self.fetch_all(reader, &mut parts).await;
        };
        if timeout_at(until, fetching).await.is_err() {
            let reason = "the time for fetching was over".to_owned();
            parts.push(Part { step: "further steps".to_owned(), results: Err(reason) });
        }
        let run = self.run;
        for Part { step, results } in &parts {
            if let Err(reason) = results {
                events
                    .warning(format!("the results of dbt run {run}, {step}, are not in the file of --junit: {reason}"));
            }
        }
        results.keep(run, parts);
    }

    async fn fetch_all(&self, reader: &Reader, parts: &mut Vec<Part>) {
        let Wanted { account, run, deadline: _ } = *self;
        let until = Instant::now() + UPLOAD;
        let mut steps = match reader.read(get_run_with_steps(account, run)).await {
            Ok(seen) => seen.run_steps.unwrap_or_default(),
            Err(error) => {
                parts.push(Part { step: "all steps".to_owned(), results: Err(error.to_string()) });
                return;
            }
        };
        steps.sort_by_key(|step| step.index);
        for step in steps.iter().filter(|step| step.builds()) {
            // What was cancelled on its way may have left nothing, and what was never begun has.
            let patient = match step.status {
                Some(Status::Success | Status::Error) => true,
                Some(Status::Cancelled) => false,
                Some(Status::Queued | Status::Starting | Status::Running | Status::Other(_)) | None => continue,
            };
            let results = self.of_step(reader, step, patient.then_some(until)).await;
            parts.push(Part { step: format!("step {}: {}", step.index, step.title()), results });
        }
    }

    /// The results of one step, waited for until then while they may still be on their way.
    async fn of_step(&self, reader: &Reader, step: &Step, until: Option<Instant>) -> Result<Vec<Node>, String> {
        loop {
            match reader.glance(get_run_results(self.account, self.run, step.index)).await {
                Ok(results) => return Ok(results.results),
                Err(_) if until.is_some_and(|until| Instant::now() + BETWEEN < until) => sleep(BETWEEN).await,
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}
