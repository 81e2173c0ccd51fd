//! Waits for files that dbt uploads some seconds after the end of a run (dbt-cloud-api §6).

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::dbt::{self, Run};
use crate::http::{HttpError, Meaning, Reader};

/// A file that is still to come does so within this time.
const LIMIT: Duration = Duration::from_secs(30);
const BETWEEN: Duration = Duration::from_secs(3);

/// Once dbt says that all files are there, one that is listed is asked for so often.
const TRIES_ONCE_SAVED: u32 = 4;

/// One wait for all files of a run: 404 stands for "not yet" and for "never" alike.
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

    /// Whether this file, which just could not be had, may be there when this returns.
    pub(crate) async fn may_still_bring(&mut self, path: &str, error: &HttpError) -> bool {
        self.may_come(path, error).await && self.goes_on().await
    }

    /// Whether this file, which just could not be had, may still come.
    pub(crate) async fn may_come(&self, path: &str, error: &HttpError) -> bool {
        let may_change = error.means() == Meaning::NotFound || (!error.is_final() && !error.is_too_large());
        may_change && (!self.saved || self.is_listed(path).await)
    }

    /// Waits before what may still come is asked for again. False: that was done often and long enough.
    pub(crate) async fn goes_on(&mut self) -> bool {
        if self.saved {
            self.tries_left = self.tries_left.saturating_sub(1);
        }
        self.tries_left > 0 && self.wait().await
    }

    /// Whether more may be listed when this returns.
    pub(crate) async fn may_list_more(&mut self) -> bool {
        !self.saved && self.wait().await
    }

    /// The run as seen last on the way.
    pub(crate) fn seen(&self) -> Option<&Run> {
        self.seen.as_ref()
    }

    /// Waits a little and looks at the run. False: the time is over.
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

    /// What the list cannot tell counts as listed.
    async fn is_listed(&self, path: &str) -> bool {
        let listed = self.reader.read_once(dbt::list_artifacts(self.account, self.run)).await;
        listed.map_or(true, |listed| listed.iter().any(|own| own == path))
    }
}
