//! Events of a running command, as data. Other modules emit them, and only the printer prints them.

mod run;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::line::Line;

pub(crate) use self::run::{DuplicateOutcome, IterationCounts, QueueReason, RunEvent, RunId, RunsAhead, StatusDetail};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// What happens while a run is triggered and followed; `ui::run_events` has the words.
    Run(RunEvent),
    /// An event of one of several jobs, which each of its lines names.
    OfJob { job: String, event: Box<Event> },
    /// Something the user should know; goes to stderr unless quiet.
    Remark(Line),
    /// What the user must see to answer the next question; goes to stderr even when quiet.
    Asked(Line),
    /// Something that may be wrong; goes to stderr even when quiet.
    Warning(String),
    /// A line of the result so far (`job_run_id = 123456`, one per change of state).
    Progress(Line),
    /// The name and state of an activity, shown only as a progress line on a terminal.
    ActivityState { what: String, state: String },
    /// The activity has ended.
    ActivityEnded { what: String },
    /// Something awaited is still running; printed only where no progress lines are shown.
    Waiting(String),
    /// A line of stdout in any output format, for a command that prints and continues (`sandbox`).
    #[cfg_attr(not(feature = "sandbox"), expect(dead_code, reason = "only the sandbox goes on"))]
    Document(String),
    /// An annotation that GitHub Actions shows next to the log; printed only there, even when quiet. The message
    /// may have several lines.
    Annotation { level: Level, title: String, message: String },
    /// One request and its response, without secrets and long texts; shown with `-v`, bodies with `-vv`.
    Trace { line: String, bodies: Vec<String> },
}

/// The severity of an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Error,
    Warning,
}

/// A log without output for five minutes looks dead, and some CI services then end the job.
const SILENCE: Duration = Duration::from_mins(4);

/// The sink for events.
#[derive(Clone)]
pub(crate) struct Events {
    sink: Rc<dyn Fn(Event)>,
    bodies: bool,
    /// When the last line was printed.
    last_printed: Rc<Cell<Instant>>,
}

impl Events {
    pub(crate) fn new(sink: impl Fn(Event) + 'static) -> Events {
        Events { sink: Rc::new(sink), bodies: false, last_printed: Rc::new(Cell::new(Instant::now())) }
    }

    /// Enables bodies of requests and responses in [`Event::Trace`], which are expensive to prepare.
    pub(crate) fn with_bodies(self, bodies: bool) -> Events {
        Events { bodies, ..self }
    }

    /// Whether bodies are shown.
    pub(crate) fn wants_bodies(&self) -> bool {
        self.bodies
    }

    pub(crate) fn emit(&self, event: Event) {
        match &event {
            Event::Run(_)
            | Event::OfJob { job: _, event: _ }
            | Event::Remark(_)
            | Event::Asked(_)
            | Event::Warning(_)
            | Event::Progress(_)
            | Event::Waiting(_)
            | Event::Document(_) => self.last_printed.set(Instant::now()),
            Event::ActivityState { what: _, state: _ }
            | Event::ActivityEnded { what: _ }
            | Event::Annotation { level: _, title: _, message: _ }
            | Event::Trace { line: _, bodies: _ } => {}
        }
        (self.sink)(event);
    }

    pub(crate) fn run(&self, event: RunEvent) {
        self.emit(Event::Run(event));
    }

    /// Emits the event if nothing was printed for minutes.
    pub(crate) fn after_silence(&self, event: impl FnOnce() -> RunEvent) {
        if self.last_printed.get().elapsed() >= SILENCE {
            self.run(event());
        }
    }

    /// The sink for one of several jobs.
    pub(crate) fn of_job(&self, job: &str) -> Events {
        let (job, events) = (job.to_owned(), self.clone());
        let sink = move |event| events.emit(Event::OfJob { job: job.clone(), event: Box::new(event) });
        Events::new(sink).with_bodies(self.bodies)
    }

    /// Starts an activity, such as `dbt run 123456`.
    pub(crate) fn activity(&self, what: impl Into<String>) -> Activity {
        Activity { events: self.clone(), what: what.into() }
    }

    pub(crate) fn remark(&self, text: impl Into<String>) {
        self.emit(Event::Remark(Line::Prose(text.into())));
    }

    pub(crate) fn warning(&self, text: impl Into<String>) {
        self.emit(Event::Warning(text.into()));
    }

    pub(crate) fn progress(&self, line: impl Into<Line>) {
        self.emit(Event::Progress(line.into()));
    }
}

/// An activity that ends when this is dropped.
pub(crate) struct Activity {
    events: Events,
    what: String,
}

impl Activity {
    /// Shows its current state.
    pub(crate) fn state(&self, state: impl Into<String>) {
        self.events.emit(Event::ActivityState { what: self.what.clone(), state: state.into() });
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        self.events.emit(Event::ActivityEnded { what: self.what.clone() });
    }
}

/// A termination signal. A command that handles it receives the first one and shuts down in order.
#[derive(Clone, Debug)]
pub(crate) struct Interruption {
    handled: Rc<Cell<bool>>,
    signal: watch::Sender<Option<u8>>,
}

impl Default for Interruption {
    fn default() -> Interruption {
        Interruption { handled: Rc::default(), signal: watch::Sender::new(None) }
    }
}

impl Interruption {
    /// From now on the first signal does not end the program.
    pub(crate) fn handle_signal(&self) {
        self.handled.set(true);
    }

    /// Passes a signal to the command; `false` if the command does not handle signals, or it is not the first.
    pub(crate) fn pass_on(&self, signal: u8) -> bool {
        self.handled.get() && self.signal().is_none() && self.signal.send_replace(Some(signal)).is_none()
    }

    /// The signal that was passed on, if any.
    pub(crate) fn signal(&self) -> Option<u8> {
        *self.signal.borrow()
    }

    pub(crate) async fn wait(&self) -> u8 {
        let mut signal = self.signal.subscribe();
        // The sender lives as long as `self`.
        let passed_on = signal.wait_for(Option::is_some).await.ok().and_then(|signal| *signal);
        match passed_on {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }

    /// Does the work unless a signal arrives or has arrived, in which case the work is dropped.
    pub(crate) fn or<T>(&self, work: impl Future<Output = T>) -> impl Future<Output = Result<T, u8>> {
        // Boxed, since the future of a whole command would otherwise be stored twice in the surrounding one.
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
        assert!(!interruption.pass_on(2));
        assert_eq!((interruption.signal(), interruption.or(async { 1 }).await), (None, Ok(1)));
        interruption.handle_signal();
        assert!(interruption.pass_on(15));
        assert!(!interruption.pass_on(2));
        assert_eq!(interruption.clone().or(async { 1 }).await, Err(15));
    }
}
