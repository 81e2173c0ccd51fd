//! What survives when a command's future is dropped: enough for the last line.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::document::{Data, document};

/// A run that was started, or may have been.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    /// The `data` of the JSON document: what is known so far.
    pub(crate) data: Data,
    /// What goes on without us, in one line: `dbt run 123456 goes on: https://…`.
    pub(crate) line: String,
    /// The command that picks it up again.
    pub(crate) resume: String,
}

/// What is known of everything that a command has to do with.
#[derive(Debug)]
pub(crate) struct Interrupted {
    /// The `data` of the JSON document.
    pub(crate) data: Data,
    /// What goes on, each with the command that picks it up.
    pub(crate) going: Vec<(String, String)>,
    /// What else there is to say.
    pub(crate) said: Option<StateNote>,
}

/// How things stand where nothing goes on.
#[derive(Clone, Debug)]
pub(crate) struct StateNote {
    pub(crate) cause: Option<String>,
    /// A sentence: "Nothing was written."
    pub(crate) state: &'static str,
    pub(crate) advice: Option<&'static str>,
}

#[derive(Debug)]
enum Part {
    GoesOn(Checkpoint),
    /// It has ended, or nobody waits for it; its data still belongs into the document.
    Over(Data),
    /// Nothing was started; so things stand.
    Stands(Data, StateNote),
}

/// A cell that outlives the command. A command with several runs has a place for each.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastKnown {
    parts: Rc<RefCell<BTreeMap<usize, Part>>>,
    /// 0: the only one; several are counted from 1.
    place: usize,
}

impl LastKnown {
    /// The place of one of several, counted from 0.
    pub(crate) fn one_of_several(&self, index: usize) -> LastKnown {
        LastKnown { parts: self.parts.clone(), place: index + 1 }
    }

    pub(crate) fn set(&self, known: Checkpoint) {
        self.parts.borrow_mut().insert(self.place, Part::GoesOn(known));
    }

    /// Nothing goes on any more.
    pub(crate) fn clear(&self) {
        self.parts.borrow_mut().remove(&self.place);
    }

    /// Nothing goes on any more, and this is what is known.
    pub(crate) fn over(&self, data: Data) {
        self.parts.borrow_mut().insert(self.place, Part::Over(data));
    }

    /// Nothing was started, and this is how things stand.
    pub(crate) fn stands(&self, data: Data, said: StateNote) {
        self.parts.borrow_mut().insert(self.place, Part::Stands(data, said));
    }

    /// This one of several is done with: what is known of it stays, and so does what goes on.
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
