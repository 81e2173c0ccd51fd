//! Downloads the node results of a run that has ended.

use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::{Part, Results};
use crate::dbt::{Node, RESULTS, Step, Steps, get_run_results, get_run_with_steps};
use crate::events::{Events, RunEvent};
use crate::http::Reader;
use crate::runs::Upload;

/// Longest time for all downloads.
const LIMIT: Duration = Duration::from_mins(5);

/// A run whose results are downloaded.
pub(in crate::commands::run) struct Wanted {
    pub(in crate::commands::run) account: u64,
    pub(in crate::commands::run) run: u64,
    /// Deadline of the whole run command.
    pub(in crate::commands::run) deadline: Instant,
}

impl Wanted {
    /// Downloads the results of every step that builds, when a permit of `turns` is free. Warns about missing results.
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
            parts.push(Part { step: "more steps".to_owned(), results: Err(reason) });
        }
        let run = self.run;
        for Part { step, results } in &parts {
            if let Err(reason) = results {
                events.run(RunEvent::ResultsMissing { run, step: step.clone(), reason: reason.clone() });
            }
        }
        results.keep(run, parts);
    }

    async fn fetch_all(&self, reader: &Reader, parts: &mut Vec<Part>) {
        let Wanted { account, run, deadline: _ } = *self;
        let seen = match reader.read(get_run_with_steps(account, run)).await {
            Ok(seen) => seen,
            Err(error) => {
                parts.push(Part { step: "all steps".to_owned(), results: Err(error.to_string()) });
                return;
            }
        };
        let mut upload = Upload::new(reader, account, &seen);
        for (step, patient) in Steps::of(&seen).built() {
            let results = self.of_step(reader, step, Some(&mut upload).filter(|_| patient)).await;
            parts.push(Part { step: format!("step {}: {}", step.index, step.title()), results });
        }
    }

    /// Downloads the results of one step, and retries while they may still be uploaded.
    async fn of_step(
        &self,
        reader: &Reader,
        step: &Step,
        mut upload: Option<&mut Upload<'_>>,
    ) -> Result<Vec<Node>, String> {
        loop {
            let error = match reader.read_once(get_run_results(self.account, self.run, step.index)).await {
                Ok(results) => return Ok(results.results),
                Err(error) => error,
            };
            let again = match &mut upload {
                Some(upload) => upload.may_still_bring(RESULTS, &error).await,
                None => false,
            };
            if !again {
                return Err(error.to_string());
            }
        }
    }
}
