//! What survives when a command's future is dropped: enough for the last line.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::Value;

/// A run that was started, or may have been.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// The `data` of the JSON document: what is known so far.
    pub(crate) data: Value,
    /// What goes on without us, in one line: `dbt run 123456 goes on: https://…`.
    pub(crate) line: String,
    /// The command that picks it up again.
    pub(crate) resume: String,
}

/// A cell that outlives the command.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastKnown(Rc<RefCell<Option<Known>>>);

impl LastKnown {
    pub(crate) fn set(&self, known: Known) {
        *self.0.borrow_mut() = Some(known);
    }

    /// Nothing goes on any more.
    pub(crate) fn clear(&self) {
        *self.0.borrow_mut() = None;
    }

    pub(crate) fn get(&self) -> Option<Known> {
        self.0.borrow().clone()
    }
}
