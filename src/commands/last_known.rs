//! What is known about a command's runs; survives when the command's future is dropped.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::document::{Data, document};

/// A run that was started, or may have been.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    /// The `data` of the JSON document so far.
    pub(crate) data: Data,
    /// One line about the run, such as `dbt run 123456 is still running: https://…`.
    pub(crate) line: String,
    /// The command that resumes it.
    pub(crate) resume: String,
}

/// What is known when a command is interrupted.
#[derive(Debug)]
pub(crate) struct Interrupted {
    /// The `data` of the JSON document.
    pub(crate) data: Data,
    /// What is still running, each with the command that resumes it.
    pub(crate) going: Vec<(String, String)>,
    /// A note, if nothing is running.
    pub(crate) said: Option<StateNote>,
}

/// The state if nothing is running.
#[derive(Clone, Debug)]
pub(crate) struct StateNote {
    pub(crate) cause: Option<String>,
    pub(crate) advice: &'static str,
}

#[derive(Debug)]
enum Part {
    GoesOn(Checkpoint),
    /// Ended or not followed; its data is still part of the document.
    Over(Data),
    /// Nothing was started.
    Stands(Data, StateNote),
}

/// Shared state that outlives the command. A command with several runs has a slot for each.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastKnown {
    parts: Rc<RefCell<BTreeMap<usize, Part>>>,
    /// 0 for a single run; several are counted from 1.
    place: usize,
}

impl LastKnown {
    /// The slot of one of several, counted from 0.
    pub(crate) fn one_of_several(&self, index: usize) -> LastKnown {
        LastKnown { parts: self.parts.clone(), place: index + 1 }
    }

    pub(crate) fn set(&self, known: Checkpoint) {
        self.parts.borrow_mut().insert(self.place, Part::GoesOn(known));
    }

    /// Nothing is running any more.
    pub(crate) fn clear(&self) {
        self.parts.borrow_mut().remove(&self.place);
    }

    /// Nothing is running any more; keeps the data.
    pub(crate) fn over(&self, data: Data) {
        self.parts.borrow_mut().insert(self.place, Part::Over(data));
    }

    /// Nothing was started; keeps the data and a note.
    pub(crate) fn stands(&self, data: Data, said: StateNote) {
        self.parts.borrow_mut().insert(self.place, Part::Stands(data, said));
    }

    /// This run is finished: keeps its data, unless it is still running.
    pub(crate) fn keep(&self, data: Data) {
        let mut parts = self.parts.borrow_mut();
        if !matches!(parts.get(&self.place), Some(Part::GoesOn(_))) {
            parts.insert(self.place, Part::Over(data));
        }
    }

    pub(crate) fn get(&self) -> Option<Interrupted> {
        let parts = self.parts.borrow();
        let (mut all, mut going, mut last) = (Vec::new(), Vec::new(), None);
        for part in parts.values() {
            match part {
                Part::GoesOn(Checkpoint { data, line, resume }) => {
                    all.push(data.clone());
                    going.push((line.clone(), resume.clone()));
                }
                Part::Over(data) => all.push(data.clone()),
                Part::Stands(data, said) => {
                    all.push(data.clone());
                    last = Some(said.clone());
                }
            }
        }
        let single = parts.contains_key(&0);
        drop(parts);
        let data = if single { all.pop()? } else { document!({ "runs": all }) };
        (single || data["runs"].as_array().is_some_and(|runs| !runs.is_empty())).then_some(Interrupted {
            data,
            going,
            said: last,
        })
    }
}
