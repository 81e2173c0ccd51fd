//! What goes on, one line each below everything that is printed. The lines above are the same without a terminal.

use std::cell::RefCell;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

/// So often a second at most.
const RATE: u8 = 10;

/// How often the sign in front moves.
const PACE: Duration = Duration::from_millis(250);

/// The lines at the bottom of the terminal.
pub(super) struct Bars {
    all: MultiProgress,
    shown: RefCell<Vec<(String, ProgressBar)>>,
}

impl Bars {
    pub(super) fn new() -> Bars {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(RATE));
        Bars { all, shown: RefCell::default() }
    }

    /// Shows how it stands, on its line.
    pub(super) fn show(&self, what: &str, state: String) {
        let mut shown = self.shown.borrow_mut();
        if let Some((_, bar)) = shown.iter().find(|(known, _)| known == what) {
            bar.set_message(state);
            return;
        }
        // `wide_msg` is cut at the width of the terminal, whatever it is by now.
        let style = ProgressStyle::with_template("{spinner} {elapsed}  {prefix}  {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner())
            .tick_chars("|/-\\ ");
        let bar = ProgressBar::new_spinner().with_style(style).with_finish(ProgressFinish::AndClear);
        let bar = self.all.add(bar);
        bar.set_prefix(what.to_owned());
        bar.set_message(state);
        bar.enable_steady_tick(PACE);
        shown.push((what.to_owned(), bar));
    }

    /// Takes its line away.
    pub(super) fn clear(&self, what: &str) {
        self.shown.borrow_mut().retain(|(known, bar)| {
            let over = known == what;
            if over {
                bar.finish_and_clear();
                self.all.remove(bar);
            }
            !over
        });
    }

    /// How many lines there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.shown.borrow().len()
    }

    /// Writes while nothing is drawn.
    pub(super) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        if self.shown.borrow().is_empty() { write() } else { self.all.suspend(write) }
    }
}
