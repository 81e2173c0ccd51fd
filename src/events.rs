//! What can happen while something runs, as data. Rooms emit events; only the printer draws them.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// Something a person should know; goes to stderr unless quiet.
    Remark(String),
    /// What a person has to see to answer the question after it; goes to stderr even when quiet.
    Asked(String),
    /// Something that may be wrong; goes to stderr even when quiet.
    Warning(String),
    /// A line of the result as it comes into being (`job_run_id = 123456`, one per change of state).
    Progress(String),
    /// How something stands that goes on, and is only worth drawing at a terminal: its name, and its state.
    Going { what: String, state: String },
    /// That is over.
    Over { what: String },
    /// Something that is waited for still goes on, and no line has said anything for minutes; only worth a line where
    /// nothing is drawn.
    Waiting(String),
    /// A line of stdout in any form of output, for a command that prints and then goes on (`sandbox`).
    #[cfg_attr(not(feature = "sandbox"), expect(dead_code, reason = "only the sandbox goes on"))]
    Document(String),
    /// What GitHub Actions shows beside the log of a step; only for there, even when quiet. The message may have several lines.
    Annotation { level: Level, title: String, message: String },
    /// One request and its answer, secrets and long texts left out; shown with `-v`, bodies with `-vv`.
    Trace { line: String, bodies: Vec<String> },
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Error,
    Warning,
}

/// A log without a line for five minutes looks dead, and some CI services end the job then.
const SILENCE: Duration = Duration::from_mins(4);

/// Where events go.
#[derive(Clone)]
pub(crate) struct Events {
    sink: Rc<dyn Fn(Event)>,
    bodies: bool,
    /// When the last line was said.
    said: Rc<Cell<Instant>>,
}

impl Events {
    pub(crate) fn new(sink: impl Fn(Event) + 'static) -> Events {
        Events { sink: Rc::new(sink), bodies: false, said: Rc::new(Cell::new(Instant::now())) }
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
        match &event {
            Event::Remark(_)
            | Event::Asked(_)
            | Event::Warning(_)
            | Event::Progress(_)
            | Event::Waiting(_)
            | Event::Document(_) => self.said.set(Instant::now()),
            Event::Going { what: _, state: _ }
            | Event::Over { what: _ }
            | Event::Annotation { level: _, title: _, message: _ }
            | Event::Trace { line: _, bodies: _ } => {}
        }
        (self.sink)(event);
    }

    /// Says that this still goes on, if nothing was said for minutes.
    pub(crate) fn waiting(&self, line: impl FnOnce() -> String) {
        if self.said.get().elapsed() >= SILENCE {
            self.emit(Event::Waiting(line()));
        }
    }

    /// Something that begins now, as `dbt run 123456`.
    pub(crate) fn going(&self, what: impl Into<String>) -> Going {
        Going { events: self.clone(), what: what.into() }
    }

    pub(crate) fn remark(&self, text: impl Into<String>) {
        self.emit(Event::Remark(text.into()));
    }

    pub(crate) fn asked(&self, text: impl Into<String>) {
        self.emit(Event::Asked(text.into()));
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

/// A signal that asks the program to end. Whoever takes it upon itself hears the first one, and ends in good order.
#[derive(Clone, Debug)]
pub(crate) struct Interruption {
    taken: Rc<Cell<bool>>,
    signal: watch::Sender<Option<u8>>,
}

impl Default for Interruption {
    fn default() -> Interruption {
        Interruption { taken: Rc::default(), signal: watch::Sender::new(None) }
    }
}

impl Interruption {
    /// From now on the first signal does not end the program.
    pub(crate) fn take_over(&self) {
        self.taken.set(true);
    }

    /// Hands a signal over. `false`: nobody has taken it upon itself, or it is not the first.
    pub(crate) fn hand_over(&self, signal: u8) -> bool {
        self.taken.get() && self.heard().is_none() && self.signal.send_replace(Some(signal)).is_none()
    }

    /// The signal, if one was handed over.
    pub(crate) fn heard(&self) -> Option<u8> {
        *self.signal.borrow()
    }

    pub(crate) async fn wait(&self) -> u8 {
        let mut signal = self.signal.subscribe();
        // The sender lives as long as we do.
        let heard = signal.wait_for(Option::is_some).await.ok().and_then(|signal| *signal);
        match heard {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }

    /// Does the work unless a signal comes, or has come. The work is dropped then.
    pub(crate) fn or<T>(&self, work: impl Future<Output = T>) -> impl Future<Output = Result<T, u8>> {
        // The work of a whole command would stand twice in the future around it.
        let work = Box::pin(work);
        async move {
            tokio::select! {
                biased;
                signal = self.wait() => Err(signal),
                done = work => Ok(done),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_first_signal_is_handed_over_and_only_to_who_has_taken_it_upon_itself() {
        let interruption = Interruption::default();
        assert!(!interruption.hand_over(2));
        assert_eq!((interruption.heard(), interruption.or(async { 1 }).await), (None, Ok(1)));
        interruption.take_over();
        assert!(interruption.hand_over(15));
        assert!(!interruption.hand_over(2));
        assert_eq!(interruption.clone().or(async { 1 }).await, Err(15));
    }
}
