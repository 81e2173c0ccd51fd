//! Progress lines, below everything that is printed. The printed lines are the same without a terminal.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dialoguer::console::{Term, truncate_str};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle, TermLike};

/// Highest refresh rate, per second.
const RATE: u8 = 10;

/// Interval of the spinner.
const PACE: Duration = Duration::from_millis(250);

/// Maximum number of progress lines.
const MOST: usize = 8;

/// Rows of the terminal kept free for printed output.
const LEFT: usize = 2;

/// Stderr with the progress lines at the bottom of its terminal. Printed text and the progress lines are written at
/// once, so that the lines never disappear in between.
#[derive(Clone)]
pub(super) struct Screen(Arc<Mutex<Inner>>);

struct Inner {
    stream: Box<dyn Write + Send>,
    /// Rows and columns.
    size: Box<dyn Fn() -> (u16, u16) + Send>,
    /// The lines of the next frame so far.
    drawing: Vec<String>,
    /// The last complete frame.
    frame: Vec<String>,
    /// Whether frames are recorded but not drawn, because the next print draws the last of them.
    held: bool,
    /// Whether lines are drawn, with the cursor at the start of the first one.
    drawn: bool,
}

impl Screen {
    pub(super) fn new(stream: Box<dyn Write + Send>) -> Screen {
        Screen::sized(stream, Box::new(|| Term::stderr().size()))
    }

    fn sized(stream: Box<dyn Write + Send>, size: Box<dyn Fn() -> (u16, u16) + Send>) -> Screen {
        let (drawing, frame) = Default::default();
        Screen(Arc::new(Mutex::new(Inner { stream, size, drawing, frame, held: false, drawn: false })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes whole lines above the progress lines.
    pub(super) fn print(&self, text: &str) -> io::Result<()> {
        self.lock().put(text)
    }
}

impl Inner {
    /// The cursor is kept above the progress lines: from there, `CSI J` erases them however many rows they take by
    /// now, along with the `^C` echoed by the terminal.
    fn put(&mut self, text: &str) -> io::Result<()> {
        let (rows, columns) = (self.size)();
        let mut lines = fitting(&self.frame, MOST.min(usize::from(rows).saturating_sub(LEFT)).max(1));
        // A line may have been formatted for a wider terminal.
        for line in &mut lines {
            *line = truncate_str(line, usize::from(room(columns)), "").into_owned();
        }
        let all = if !self.drawn && lines.is_empty() {
            text.to_owned()
        } else {
            let erase = if self.drawn { "\r\u{1b}[J" } else { "" };
            // If the terminal has become narrower meanwhile, a line must not wrap.
            let below = match lines.len() {
                0 => String::new(),
                1 => format!("\u{1b}[?7l{}\u{1b}[?7h\r", lines[0]),
                count => format!("\u{1b}[?7l{}\u{1b}[?7h\r\u{1b}[{}A", lines.join("\n"), count - 1),
            };
            // Terminals with synchronized updates show all of it at once, even if it arrives in pieces.
            format!("\u{1b}[?2026h{erase}{text}{below}\u{1b}[?2026l")
        };
        self.drawn = !lines.is_empty();
        self.stream.write_all(all.as_bytes())?;
        self.stream.flush()
    }
}

/// The first lines, with the number of the others in the last one.
fn fitting(lines: &[String], most: usize) -> Vec<String> {
    if lines.len() <= most {
        return lines.to_vec();
    }
    let mut fitting = lines[..most - 1].to_vec();
    fitting.push(format!("  and {} more", lines.len() - fitting.len()));
    fitting
}

/// One column is left free: a full line would wrap on some terminals.
fn room(columns: u16) -> u16 {
    columns.max(2) - 1
}

impl fmt::Debug for Screen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Screen")
    }
}

/// Receives the lines that indicatif draws; [`Inner::put`] positions them.
impl TermLike for Screen {
    fn width(&self) -> u16 {
        room((self.lock().size)().1)
    }

    /// Unlimited, so that indicatif draws all lines and the excess can be counted.
    fn height(&self) -> u16 {
        u16::MAX
    }

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.write_str(line)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        // Drop padding: the rest of the row is erased anyway.
        let line = text.trim_end_matches([' ', '\r']);
        if !line.is_empty() {
            self.lock().drawing.push(line.to_owned());
        }
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let mut inner = self.lock();
        inner.frame = std::mem::take(&mut inner.drawing);
        if !inner.held {
            // If stderr is gone, errors cannot be reported.
            let _ = inner.put("");
        }
        Ok(())
    }
}

/// The progress lines.
pub(super) struct Bars {
    screen: Screen,
    all: MultiProgress,
    shown: RefCell<Vec<(String, ProgressBar)>>,
}

impl Bars {
    pub(super) fn on(screen: Screen) -> Bars {
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(screen.clone()), RATE);
        Bars { screen, all: MultiProgress::with_draw_target(target), shown: RefCell::default() }
    }

    /// Shows the state of `what` on its line.
    pub(super) fn show(&self, what: &str, state: String) {
        let mut shown = self.shown.borrow_mut();
        if let Some((_, bar)) = shown.iter().find(|(known, _)| known == what) {
            bar.set_message(state);
            return;
        }
        // `wide_msg` is truncated at the terminal's current width.
        let style = ProgressStyle::with_template("{spinner} {elapsed}  {prefix}  {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner())
            .tick_chars("|/-\\ ");
        let bar = ProgressBar::new_spinner().with_style(style).with_finish(ProgressFinish::AndClear);
        let bar = self.all.add(bar.with_prefix(what.to_owned()).with_message(state));
        // Draw at once instead of waiting for the spinner's thread.
        bar.tick();
        bar.enable_steady_tick(PACE);
        shown.push((what.to_owned(), bar));
    }

    /// Removes the line of `what`.
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

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.shown.borrow().len()
    }

    /// Writes whole lines above the progress lines, which are redrawn in their current state.
    pub(super) fn print(&self, text: &str) -> io::Result<()> {
        if !self.shown.borrow().is_empty() {
            // The latest state may not have been drawn yet.
            self.screen.lock().held = true;
            self.all.suspend(|| ());
        }
        let mut inner = self.screen.lock();
        inner.held = false;
        inner.put(text)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU16, Ordering};

    use super::*;

    /// Records each write.
    #[derive(Clone, Default)]
    struct Writes(Arc<Mutex<Vec<String>>>);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn terminal(rows: u16, columns: u16) -> vt100::Parser {
        vt100::Parser::new(rows.try_into().unwrap(), columns.try_into().unwrap(), 100)
    }

    /// The screen after each write, in a terminal of this size.
    fn seen(writes: &Writes, (rows, columns): (u16, u16)) -> Vec<String> {
        let mut terminal = terminal(rows, columns);
        let look = |write: &String| {
            terminal.process(write.replace('\n', "\r\n").as_bytes());
            terminal.screen().contents()
        };
        writes.0.lock().unwrap().iter().map(look).collect()
    }

    fn bars(screen: &str) -> usize {
        screen.lines().filter(|line| line.starts_with(['|', '/', '-', '\\'])).count()
    }

    #[test]
    fn a_printed_line_and_the_lines_below_it_are_one_write_and_say_the_same() {
        let writes = Writes::default();
        let screen = Bars::on(Screen::sized(Box::new(writes.clone()), Box::new(|| (10, 60))));
        for run in 1..=3 {
            screen.show(&format!("dbt run {run}"), "QUEUED".to_owned());
        }
        screen.print("drawn\n").unwrap();
        let before = writes.0.lock().unwrap().len();
        screen.show("dbt run 2", "RUNNING".to_owned());
        screen.print("222223: RUNNING\n").unwrap();
        let all = seen(&writes, (10, 60));
        assert!(all[before - 1..].iter().all(|screen| bars(screen) == 3), "{all:#?}");
        let said: Vec<&String> = all.iter().filter(|screen| screen.contains("222223: RUNNING")).collect();
        assert!(!said.is_empty() && said.iter().all(|screen| screen.contains("dbt run 2  RUNNING")), "{all:#?}");
        for run in 1..=3 {
            screen.clear(&format!("dbt run {run}"));
        }
        assert_eq!(seen(&writes, (10, 60)).last().unwrap(), "drawn\n222223: RUNNING");
    }

    #[test]
    fn what_has_no_place_is_counted_and_what_is_printed_can_be_seen() {
        for (rows, drawn, more) in
            [(10, 7, "  and 18 more"), (40, 7, "  and 18 more"), (5, 2, "  and 23 more"), (2, 0, "  and 25 more")]
        {
            let writes = Writes::default();
            let screen = Bars::on(Screen::sized(Box::new(writes.clone()), Box::new(move || (rows, 60))));
            for run in 1..=25 {
                screen.show(&format!("dbt run {run}"), "QUEUED".to_owned());
            }
            screen.print("a line\n").unwrap();
            let last = seen(&writes, (rows, 60)).pop().unwrap();
            assert_eq!(bars(&last), drawn, "{last}");
            assert!(last.starts_with("a line\n") && last.ends_with(more), "{last}");
        }
    }

    #[test]
    fn nothing_is_left_of_a_line_when_the_terminal_echoes_or_becomes_narrower() {
        let (writes, columns) = (Writes::default(), Arc::new(AtomicU16::new(60)));
        let width = columns.clone();
        let size = Box::new(move || (10, width.load(Ordering::Relaxed)));
        let screen = Bars::on(Screen::sized(Box::new(writes.clone()), size));
        for run in ["dbt run 1", "dbt run 2", "dbt run 3"] {
            screen.show(run, "x".repeat(80));
        }
        screen.print("a line\n").unwrap();
        let mut terminal = terminal(10, 60);
        let take = || writes.0.lock().unwrap().drain(..).collect::<String>().replace('\n', "\r\n");
        terminal.process(take().as_bytes());
        assert_eq!(bars(&terminal.screen().contents()), 3);
        // From now on lines are formatted for the new width; earlier output has arrived.
        columns.store(30, Ordering::Relaxed);
        terminal.process(take().as_bytes());
        terminal.process(b"^C");
        terminal.screen_mut().set_size(10.try_into().unwrap(), 30.try_into().unwrap());
        for run in ["dbt run 1", "dbt run 2", "dbt run 3"] {
            screen.clear(run);
        }
        screen.print("the end\n").unwrap();
        terminal.process(take().as_bytes());
        assert_eq!(terminal.screen().contents(), "a line\nthe end");
    }
}
