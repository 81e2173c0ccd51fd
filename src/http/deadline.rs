//! Until when a command waits. It is given to the handles that send requests, so that no request outlasts it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

/// The end of a command's waiting. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Deadline(Rc<Cell<Instant>>);

impl From<Instant> for Deadline {
    fn from(at: Instant) -> Deadline {
        Deadline(Rc::new(Cell::new(at)))
    }
}

impl Deadline {
    /// So long from now.
    pub(crate) fn after(wait: Duration) -> Deadline {
        Deadline::from(Instant::now() + wait)
    }

    pub(crate) fn at(&self) -> Instant {
        self.0.get()
    }

    pub(crate) fn left(&self) -> Duration {
        self.at().saturating_duration_since(Instant::now())
    }

    /// Moves it to a later moment: time in which the machine slept is no time in which we waited.
    pub(crate) fn extend_to(&self, later: Instant) {
        self.0.set(self.at().max(later));
    }
}
