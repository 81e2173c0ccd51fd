//! Waits for files that dbt uploads some seconds after the end of a run.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::dbt::{self, Node, RESULTS, Run};
use crate::http::{HttpError, Meaning, Reader};

/// How long to wait for a file.
const LIMIT: Duration = Duration::from_secs(30);
const BETWEEN: Duration = Duration::from_secs(3);

/// Attempts to read a listed file after dbt says that all files are uploaded.
const TRIES_ONCE_SAVED: u32 = 4;

/// One wait for all files of a run. A 404 can mean "not yet" or "never".
pub(crate) struct Upload<'a> {
    reader: &'a Reader,
    account: u64,
    run: u64,
    until: Instant,
    saved: bool,
    tries_left: u32,
    seen: Option<Run>,
}

impl<'a> Upload<'a> {
    pub(crate) fn new(reader: &'a Reader, account: u64, run: &Run) -> Upload<'a> {
        Upload {
            reader,
            account,
            run: run.id,
            until: Instant::now() + LIMIT,
            saved: run.artifacts_saved == Some(true),
            tries_left: TRIES_ONCE_SAVED,
            seen: None,
        }
    }

    /// Reads the node results of a step. `waits`: while they may still be uploaded.
    pub(crate) async fn results(&mut self, step: u64, waits: bool) -> Result<Vec<Node>, HttpError> {
        loop {
            match self.reader.read_once(dbt::get_run_results(self.account, self.run, step)).await {
                Ok(results) => return Ok(results.results),
                Err(error) if waits && self.may_appear(RESULTS, &error).await && self.wait_to_retry().await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether this file, which could not be read, may still be uploaded.
    pub(crate) async fn may_appear(&self, path: &str, error: &HttpError) -> bool {
        let may_change = error.means() == Meaning::NotFound || (!error.is_final() && !error.is_too_large());
        may_change && (!self.saved || self.is_listed(path).await)
    }

    /// Waits before the next attempt. Returns `false` after enough attempts or time.
    pub(crate) async fn wait_to_retry(&mut self) -> bool {
        if self.saved {
            self.tries_left = self.tries_left.saturating_sub(1);
        }
        self.tries_left > 0 && self.wait().await
    }

    /// Waits if more files may be listed. Returns whether to list again.
    pub(crate) async fn wait_for_list(&mut self) -> bool {
        !self.saved && self.wait().await
    }

    /// The run as last read during the wait.
    pub(crate) fn seen(&self) -> Option<&Run> {
        self.seen.as_ref()
    }

    /// Waits, then reads the run. Returns `false` if the time is over.
    async fn wait(&mut self) -> bool {
        if Instant::now() + BETWEEN >= self.until {
            return false;
        }
        sleep(BETWEEN).await;
        if let Ok(seen) = self.reader.read_once(dbt::get_run(self.account, self.run)).await {
            self.saved |= seen.artifacts_saved == Some(true);
            self.seen = Some(seen);
        }
        true
    }

    /// If the list cannot be read, the file counts as listed.
    async fn is_listed(&self, path: &str) -> bool {
        let listed = self.reader.read_once(dbt::list_artifacts(self.account, self.run)).await;
        listed.map_or(true, |listed| listed.iter().any(|own| own == path))
    }
}
