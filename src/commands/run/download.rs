//! Downloads the files of a run that has ended. Nothing here changes the run's outcome.

use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::events::Events;
use crate::http::Reader;

/// The run whose files are downloaded, and the limits.
pub(super) struct Download<'a> {
    pub(super) reader: &'a Reader,
    pub(super) account: u64,
    pub(super) run: u64,
    /// Deadline of the whole command.
    pub(super) deadline: Instant,
    /// One permit per run that downloads at the same time.
    pub(super) permits: Option<&'a Semaphore>,
    pub(super) events: &'a Events,
}

impl Download<'_> {
    /// Does the work when a permit is free. Returns `false` if the limit or the deadline came first.
    pub(super) async fn within(&self, limit: Duration, work: impl Future<Output = ()>) -> bool {
        let until = (Instant::now() + limit).min(self.deadline);
        let with_permit = async {
            let _permit = match self.permits {
                Some(permits) => permits.acquire().await.ok(),
                None => None,
            };
            work.await;
        };
        timeout_at(until, with_permit).await.is_ok()
    }
}
