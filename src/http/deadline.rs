//! Deadlines of commands. Readers and writers hold one, so no request outlasts it.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::durations::shown;

/// The whole time of a deadline, and where it comes from, which decides the advice when it is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// The command's `--timeout`.
    Timeout(Duration),
    /// A built-in limit; the command has no flag for it.
    Own(Duration),
}

/// The time, such as `10m`.
impl fmt::Display for Limit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Timeout(time) | Limit::Own(time) => formatter.write_str(&shown(*time)),
        }
    }
}

/// When a command stops waiting. Clones share the value.
#[derive(Clone, Debug)]
pub(crate) struct Deadline {
    at: Rc<Cell<Instant>>,
    limit: Limit,
}

impl From<Instant> for Deadline {
    fn from(at: Instant) -> Deadline {
        let limit = Limit::Own(at.saturating_duration_since(Instant::now()));
        Deadline { at: Rc::new(Cell::new(at)), limit }
    }
}

impl Deadline {
    /// A `--timeout` that starts now.
    pub(crate) fn of_timeout(timeout: Duration) -> Deadline {
        Deadline { limit: Limit::Timeout(timeout), ..Deadline::after(timeout) }
    }

    /// A built-in limit that starts now.
    pub(crate) fn after(wait: Duration) -> Deadline {
        Deadline::from(Instant::now() + wait)
    }

    pub(crate) fn limit(&self) -> Limit {
        self.limit
    }

    pub(crate) fn at(&self) -> Instant {
        self.at.get()
    }

    pub(crate) fn left(&self) -> Duration {
        self.at().saturating_duration_since(Instant::now())
    }

    /// Moves the deadline later, for example by the time that the machine was asleep.
    pub(crate) fn extend_to(&self, later: Instant) {
        self.at.set(self.at().max(later));
    }

    /// Does the work, or drops it at the deadline, which may have been moved meanwhile.
    pub(crate) fn cut<T>(&self, work: impl Future<Output = T>) -> impl Future<Output = Option<T>> {
        // Boxed, since the work would otherwise be stored twice.
        let work = Box::pin(work);
        async move {
            let passed = async {
                while !self.left().is_zero() {
                    sleep_until(self.at()).await;
                }
            };
            tokio::select! {
                biased;
                done = work => Some(done),
                () = passed => None,
            }
        }
    }
}
