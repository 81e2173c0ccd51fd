//! Until when a command waits. It is given to the handles that send requests, so that no request outlasts it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

/// Whose a deadline is, which decides what helps where it cuts a request short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// `--timeout` of the command.
    Timeout,
    /// Ours: the command has no flag for it.
    Own,
}

/// The end of a command's waiting. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Deadline {
    at: Rc<Cell<Instant>>,
    limit: Limit,
}

impl From<Instant> for Deadline {
    fn from(at: Instant) -> Deadline {
        Deadline { at: Rc::new(Cell::new(at)), limit: Limit::Own }
    }
}

impl Deadline {
    /// What `--timeout` gives, from now on.
    pub(crate) fn of_timeout(timeout: Duration) -> Deadline {
        Deadline { limit: Limit::Timeout, ..Deadline::after(timeout) }
    }

    /// A limit of our own, this long from now.
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

    /// Moves it to a later moment: time in which the machine slept is no time in which we waited.
    pub(crate) fn extend_to(&self, later: Instant) {
        self.at.set(self.at().max(later));
    }
}
