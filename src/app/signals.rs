//! Interruption: waiting for signals, and the message after one.

use crate::commands::{self, InterruptReport, Interrupted, StateNote};
use crate::events::Interruption;
use crate::failure::{Ended, Failure, Report};
use crate::ui::Printer;

/// What an interruption leaves behind.
#[derive(Clone, Copy)]
pub(super) enum InterruptEffect {
    /// Possibly half of the changes: the same command does the rest.
    Half,
    /// A run that continues, if one was started.
    Run,
    /// The keyring, either changed or not.
    Keyring,
    /// A request that is not confirmed yet.
    Unconfirmed,
    /// No change, unless a run is known.
    AsItWas,
    /// Nothing: an interruption is how the command ends.
    Nothing,
}

impl InterruptEffect {
    /// What is not done if the command is left at a question. A command that does something else names it itself.
    pub(super) fn undone(self) -> Option<&'static str> {
        match self {
            InterruptEffect::Half => Some(commands::NOTHING_WRITTEN),
            InterruptEffect::Run => Some("nothing was started"),
            InterruptEffect::Keyring => Some("nothing was stored"),
            InterruptEffect::Unconfirmed => Some("nothing was changed"),
            InterruptEffect::AsItWas | InterruptEffect::Nothing => None,
        }
    }
}

/// The outcome of an interrupted command: what continues, and how to resume it. Also returns whether to print it.
pub(super) fn on_interrupt(
    signal: u8,
    interrupt_effect: InterruptEffect,
    interrupt_report: &InterruptReport,
    printer: &Printer,
) -> (Ended<Box<dyn Report>>, bool) {
    let failure = Failure::interrupted(signal);
    let failure = match (interrupt_report.get(), interrupt_effect) {
        (Some(Interrupted { known, active, note }), _) => {
            let failure = match note {
                Some(StateNote { cause, state, next }) => {
                    let failure = if printer.is_asking() { commands::canceled(Some(signal), None) } else { failure };
                    let failure = cause.into_iter().fold(failure.state(state), Failure::cause);
                    next.into_iter().fold(failure, Failure::hint)
                }
                None if active.is_empty() => failure.state("no run is active"),
                None => failure,
            };
            let failure = active
                .into_iter()
                .fold(failure, |failure, (line, resume)| failure.cause(line).run("follow it again", resume));
            let report: Option<Box<dyn Report>> = Some(Box::new(known));
            return (Ended { report, failure: Some(failure) }, true);
        }
        // Ctrl-C at a prompt arrives as a signal, too.
        (None, _) if printer.is_asking() => commands::canceled(Some(signal), interrupt_effect.undone()),
        (None, InterruptEffect::Half) => {
            failure.advise("run the same command again to finish: it writes only what is missing")
        }
        (None, InterruptEffect::Run) => failure.state("nothing was started"),
        (None, InterruptEffect::Unconfirmed) => failure.advise("run the same command again to see the run's status"),
        (None, InterruptEffect::Keyring) => failure.run("see what is stored", "dbtrigger auth status"),
        (None, InterruptEffect::AsItWas) => failure.state("nothing was changed"),
        (None, InterruptEffect::Nothing) => return (failure.into(), false),
    };
    (failure.into(), true)
}

/// Waits until the reader of our output is gone. After an interruption it never returns, since the same Ctrl-C may
/// have ended the reader while the command shuts down in order.
pub(super) async fn reader_gone(printer: &Printer, interruption: &Interruption) {
    printer.closed().await;
    if interruption.signal().is_some() {
        std::future::pending::<()>().await;
    }
}

/// Waits for a termination signal that the command does not handle itself, and returns its number.
#[cfg(unix)]
pub(super) async fn interrupted(interruption: &Interruption) -> u8 {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).ok();
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt()), listen(SignalKind::terminate()));
    let (mut hangup, mut quit) = (listen(SignalKind::hangup()), listen(SignalKind::quit()));
    let wait = async |listener: &mut Option<tokio::signal::unix::Signal>| match listener {
        Some(listener) => {
            listener.recv().await;
        }
        // Without a listener, this signal cannot interrupt us.
        None => std::future::pending().await,
    };
    loop {
        let signal = tokio::select! {
            () = wait(&mut interrupt) => 2,
            () = wait(&mut terminate) => 15,
            () = wait(&mut hangup) => 1,
            // Ctrl-\ asks for an immediate exit: restore only the terminal.
            () = wait(&mut quit) => return 3,
        };
        if !interruption.pass_on(signal) {
            return signal;
        }
    }
}

#[cfg(not(unix))]
pub(super) async fn interrupted(interruption: &Interruption) -> u8 {
    loop {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        if !interruption.pass_on(2) {
            return 2;
        }
    }
}
