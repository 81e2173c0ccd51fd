//! What can happen while something runs, as data. Rooms emit events; only the printer draws them.

use std::rc::Rc;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// Something a person should know; goes to stderr unless quiet.
    Remark(String),
    /// Something that may be wrong; goes to stderr even when quiet.
    Warning(String),
    /// A line of the result as it comes into being (`job_run_id = 123456`, one per change of state).
    Progress(String),
    /// How something stands that goes on, and is only worth drawing at a terminal: its name, and its state.
    Going { what: String, state: String },
    /// That is over.
    Over { what: String },
    /// A line of stdout in any form of output, for a command that prints and then goes on (`sandbox`).
    Document(String),
    /// One request and its answer, secrets and long texts left out; shown with `-v`, bodies with `-vv`.
    Trace { line: String, bodies: Vec<String> },
}

/// Where events go.
#[derive(Clone)]
pub(crate) struct Events {
    sink: Rc<dyn Fn(Event)>,
    bodies: bool,
}

impl Events {
    pub(crate) fn new(sink: impl Fn(Event) + 'static) -> Events {
        Events { sink: Rc::new(sink), bodies: false }
    }

    /// Asks for the bodies of requests and answers in [`Event::Trace`]: making them presentable costs more than all else.
    pub(crate) fn with_bodies(self, bodies: bool) -> Events {
        Events { bodies, ..self }
    }

    /// Whether anybody looks at bodies.
    pub(crate) fn wants_bodies(&self) -> bool {
        self.bodies
    }

    pub(crate) fn emit(&self, event: Event) {
        (self.sink)(event);
    }

    /// Something that begins now, as `dbt run 123456`.
    pub(crate) fn going(&self, what: impl Into<String>) -> Going {
        Going { events: self.clone(), what: what.into() }
    }

    pub(crate) fn remark(&self, text: impl Into<String>) {
        self.emit(Event::Remark(text.into()));
    }

    pub(crate) fn warning(&self, text: impl Into<String>) {
        self.emit(Event::Warning(text.into()));
    }

    pub(crate) fn progress(&self, text: impl Into<String>) {
        self.emit(Event::Progress(text.into()));
    }
}

/// Something that goes on until this is dropped, by whatever end.
pub(crate) struct Going {
    events: Events,
    what: String,
}

impl Going {
    /// How it stands now.
    pub(crate) fn state(&self, state: impl Into<String>) {
        self.events.emit(Event::Going { what: self.what.clone(), state: state.into() });
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        self.events.emit(Event::Over { what: self.what.clone() });
    }
}
