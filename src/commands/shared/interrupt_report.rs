//! What is reported if a command is interrupted; survives when the command's future is dropped.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::document::document;
use crate::failure::{Hint, Known, Report};

/// A run that was started, or may have been.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    pub(crate) known: Known,
    /// One line about the run, such as `dbt run 123456 is still running: https://…`.
    pub(crate) line: String,
    /// The command that resumes it.
    pub(crate) resume: String,
}

/// What is known when a command is interrupted.
#[derive(Debug)]
pub(crate) struct Interrupted {
    pub(crate) known: Known,
    /// What is still running, each with the command that resumes it.
    pub(crate) active: Vec<(String, String)>,
    /// A note, if nothing is running.
    pub(crate) note: Option<StateNote>,
}

/// The state if nothing is running.
#[derive(Clone, Debug)]
pub(crate) struct StateNote {
    pub(crate) cause: Option<String>,
    /// Such as "nothing was written".
    pub(crate) state: &'static str,
    pub(crate) next: Option<Hint>,
}

#[derive(Debug)]
enum Entry {
    Running(Checkpoint),
    /// Ended or not followed; its data is still part of the document.
    Ended(Known),
    NothingStarted(Known, StateNote),
}

/// What is known so far. A command with several runs has a slot for each.
#[derive(Clone, Debug, Default)]
pub(crate) struct InterruptReport {
    entries: Rc<RefCell<BTreeMap<usize, Entry>>>,
    /// 0 for a single run; several are counted from 1.
    slot: usize,
}

impl InterruptReport {
    /// The slot of one of several, counted from 0.
    pub(crate) fn one_of_several(&self, index: usize) -> InterruptReport {
        InterruptReport { entries: self.entries.clone(), slot: index + 1 }
    }

    pub(crate) fn set(&self, checkpoint: Checkpoint) {
        self.entries.borrow_mut().insert(self.slot, Entry::Running(checkpoint));
    }

    /// Nothing is running any more.
    pub(crate) fn clear(&self) {
        self.entries.borrow_mut().remove(&self.slot);
    }

    /// Nothing is running any more; keeps what is known.
    pub(crate) fn ended(&self, report: &dyn Report) {
        self.entries.borrow_mut().insert(self.slot, Entry::Ended(Known::of(report)));
    }

    /// Nothing was started; keeps what is known, and a note.
    pub(crate) fn set_note(&self, known: impl Into<Known>, note: StateNote) {
        self.entries.borrow_mut().insert(self.slot, Entry::NothingStarted(known.into(), note));
    }

    /// This run is finished: keeps what is known of it, unless it is still running.
    pub(crate) fn keep(&self, known: Known) {
        let mut entries = self.entries.borrow_mut();
        if !matches!(entries.get(&self.slot), Some(Entry::Running(_))) {
            entries.insert(self.slot, Entry::Ended(known));
        }
    }

    pub(crate) fn get(&self) -> Option<Interrupted> {
        let entries = self.entries.borrow();
        let (mut all, mut active, mut last) = (Vec::new(), Vec::new(), None);
        for entry in entries.values() {
            match entry {
                Entry::Running(Checkpoint { known, line, resume }) => {
                    all.push(known.clone());
                    active.push((line.clone(), resume.clone()));
                }
                Entry::Ended(known) => all.push(known.clone()),
                Entry::NothingStarted(known, note) => {
                    all.push(known.clone());
                    last = Some(note.clone());
                }
            }
        }
        if all.is_empty() {
            return None;
        }
        let known = if entries.contains_key(&0) {
            all.pop()?
        } else {
            let data: Vec<_> = all.iter().map(|known| known.data.clone()).collect();
            Known { data: document!({ "runs": data }), runs: all.into_iter().flat_map(|known| known.runs).collect() }
        };
        Some(Interrupted { known, active, note: last })
    }
}
