//! Questions at the terminal, on stderr.
//!
//! A small editor of our own on `console`'s keys instead of dialoguer: decision 17 says why.

use std::io;

use console::{Key, Term, measure_text_width, truncate_str};
use zeroize::Zeroizing;

use super::sanitise::sanitise;
use crate::questions::{Asking, Questioner, Unanswered};
use crate::secret::Filter;

/// So many of a list are shown at once.
const ROWS: usize = 10;

/// More than any token has. The room is taken at once: text that grows leaves copies of itself behind.
const LONGEST_SECRET: usize = 8 << 10;

/// The terminal of this process.
pub(super) struct Terminal {
    filter: Filter,
}

impl Terminal {
    pub(super) fn new(filter: Filter) -> Terminal {
        Terminal { filter }
    }

    /// One line that is fit to be shown.
    fn plain(&self, text: &str) -> String {
        sanitise(&self.filter.clean(text)).replace(['\n', '\t'], " ")
    }
}

impl Questioner for Terminal {
    fn text<'a>(&'a self, prompt: &'a str) -> Asking<'a, String> {
        let prompt = self.plain(prompt);
        Box::pin(beside(Rest::Stays, move |screen| read_text(screen, &prompt)))
    }

    fn secret<'a>(&'a self, prompt: &'a str) -> Asking<'a, Zeroizing<String>> {
        let prompt = self.plain(prompt);
        // Further lines of what was pasted are for nobody: not the next question, and not the shell.
        Box::pin(beside(Rest::Goes, move |screen| read_secret(screen, &prompt)))
    }

    fn choose<'a>(&'a self, prompt: &'a str, items: &'a [String]) -> Asking<'a, usize> {
        let prompt = self.plain(prompt);
        let items: Vec<String> = items.iter().map(|item| self.plain(item)).collect();
        Box::pin(beside(Rest::Stays, move |screen| read_choice(screen, &prompt, &items)))
    }
}

/// Reads beside the program, so that a signal is still heard. Whatever happens to this future, the terminal is as it was.
async fn beside<T: Send + 'static>(
    rest: Rest,
    read: impl FnOnce(&mut Screen) -> Result<T, Unanswered> + Send + 'static,
) -> Result<T, Unanswered> {
    let mut kept = Kept::keep(rest);
    let reading = tokio::task::spawn_blocking(move || {
        let mut screen = Screen { term: Term::stderr(), rows: 0 };
        read(&mut screen)
    });
    let answer = reading.await.unwrap_or_else(|error| Err(Unanswered::Broken(error.to_string())));
    kept.open = answer.is_err();
    answer
}

/// What becomes of keys that were pressed and not read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    Stays,
    Goes,
}

/// The state of the terminal before a question. Between two keys it echoes nothing, and Ctrl-C is a key.
struct Kept {
    #[cfg(unix)]
    before: Option<rustix::termios::Termios>,
    /// The question stands on the screen without an answer.
    open: bool,
    rest: Rest,
}

impl Kept {
    fn keep(rest: Rest) -> Kept {
        Kept {
            rest,
            #[cfg(unix)]
            before: quiet().ok(),
            open: true,
        }
    }
}

#[cfg(unix)]
fn quiet() -> rustix::io::Result<rustix::termios::Termios> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let before = tcgetattr(io::stdin())?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
    tcsetattr(io::stdin(), OptionalActions::Drain, &quiet)?;
    Ok(before)
}

impl Drop for Kept {
    fn drop(&mut self) {
        let term = Term::stderr();
        // Nobody can be told that the terminal is gone.
        let _ = term.show_cursor();
        if self.open {
            let _ = term.write_line("");
        }
        #[cfg(unix)]
        if let Some(before) = &self.before {
            use rustix::termios::{OptionalActions, tcsetattr};
            let actions = match self.rest {
                Rest::Stays => OptionalActions::Drain,
                Rest::Goes => OptionalActions::Flush,
            };
            let _ = tcsetattr(io::stdin(), actions, before);
        }
    }
}

/// The lines of one question.
struct Screen {
    term: Term,
    /// So many of them are above the cursor.
    rows: usize,
}

impl Screen {
    /// The next key. What ends the question comes as its own kind of error.
    #[expect(clippy::wildcard_enum_match_arm, reason = "console may come to know more keys, which mean nothing here")]
    fn key(&self) -> Result<Press, Unanswered> {
        match self.term.read_key_raw() {
            Ok(Key::CtrlC) => Err(Unanswered::Interrupted),
            Ok(Key::Char('\u{4}')) => Err(Unanswered::EndOfInput),
            Ok(key) => Ok(match key {
                Key::Enter => Press::Enter,
                Key::ArrowUp | Key::BackTab => Press::Up,
                Key::ArrowDown | Key::Tab => Press::Down,
                Key::ArrowLeft => Press::Left,
                Key::ArrowRight => Press::Right,
                Key::Home => Press::Home,
                Key::End => Press::End,
                Key::Backspace => Press::Back,
                Key::Del => Press::Delete,
                Key::Char('\u{15}') => Press::Clear,
                Key::Char('\u{17}') => Press::BackWord,
                Key::Char(sign) if !sign.is_control() => Press::Sign(sign),
                _ => Press::Nothing,
            }),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Unanswered::EndOfInput),
            Err(error) => Err(broken(&error)),
        }
    }

    /// Draws these lines in the place of the ones before, in one write, none wider than the terminal.
    fn draw(&mut self, lines: &[String]) -> Result<(), Unanswered> {
        let width = self.width();
        let mut text = self.back();
        let cut: Vec<_> = lines.iter().map(|line| truncate_str(line, width, "…").into_owned()).collect();
        text += &cut.join("\r\n");
        self.rows = lines.len().saturating_sub(1);
        self.term.write_str(&text).map_err(|error| broken(&error))
    }

    /// Leaves one ordinary line in the place of the question.
    fn leave(&mut self, line: &str) -> Result<(), Unanswered> {
        let text = format!("{}{line}\r\n", self.back());
        self.rows = 0;
        self.term.write_str(&text).map_err(|error| broken(&error))
    }

    /// To the beginning of the question, and nothing left of it.
    fn back(&self) -> String {
        let up = if self.rows == 0 { String::new() } else { format!("\u{1b}[{}A", self.rows) };
        format!("\r{up}\u{1b}[J")
    }

    /// One column stays free: a full line would wrap on some terminals.
    fn width(&self) -> usize {
        let (_, columns) = self.term.size();
        usize::from(columns.max(2)) - 1
    }

    fn height(&self) -> usize {
        usize::from(self.term.size().0)
    }
}

fn broken(error: &io::Error) -> Unanswered {
    Unanswered::Broken(error.to_string())
}

/// What a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Press {
    Enter,
    Up,
    Down,
    Left,
    Right,
    Home,
    End,
    Back,
    /// Ctrl-W.
    BackWord,
    /// Ctrl-U.
    Clear,
    Delete,
    Sign(char),
    Nothing,
}

/// A line that is being typed.
#[derive(Default)]
struct Line {
    signs: Vec<char>,
    /// The cursor stands before the sign with this number.
    at: usize,
}

impl Line {
    fn press(&mut self, press: Press) {
        let Line { signs, at } = self;
        match press {
            Press::Sign(sign) => {
                signs.insert(*at, sign);
                *at += 1;
            }
            Press::Clear => {
                signs.drain(..*at);
                *at = 0;
            }
            Press::BackWord => {
                let blanks = signs[..*at].iter().rev().take_while(|sign| sign.is_whitespace()).count();
                let word = signs[..*at - blanks].iter().rev().take_while(|sign| !sign.is_whitespace()).count();
                signs.drain(*at - blanks - word..*at);
                *at -= blanks + word;
            }
            Press::Back if *at > 0 => {
                *at -= 1;
                signs.remove(*at);
            }
            Press::Delete if *at < signs.len() => {
                signs.remove(*at);
            }
            Press::Left => *at = at.saturating_sub(1),
            Press::Right => *at = (*at + 1).min(signs.len()),
            Press::Home => *at = 0,
            Press::End => *at = signs.len(),
            Press::Back | Press::Delete | Press::Enter | Press::Up | Press::Down | Press::Nothing => {}
        }
    }

    fn text(&self) -> String {
        self.signs.iter().collect()
    }

    /// The part that fits into so many columns, with the cursor in it, and how far the cursor is from its end.
    fn window(&self, columns: usize) -> (String, usize) {
        let Line { signs, at } = self;
        let wide = |signs: &[char]| measure_text_width(&sanitise(&signs.iter().collect::<String>()));
        let mut start = 0;
        while start < *at && wide(&signs[start..*at]) >= columns {
            start += 1;
        }
        let mut end = signs.len();
        while end > *at && wide(&signs[start..end]) >= columns {
            end -= 1;
        }
        (sanitise(&signs[start..end].iter().collect::<String>()), wide(&signs[*at..end]))
    }
}

fn read_text(screen: &mut Screen, prompt: &str) -> Result<String, Unanswered> {
    let mut line = Line::default();
    loop {
        let (window, behind) = line.window(screen.width().saturating_sub(2));
        screen.draw(&[format!("{prompt}:"), format!("> {window}")])?;
        screen.term.move_cursor_left(behind).map_err(|error| broken(&error))?;
        let press = screen.key()?;
        if press == Press::Enter {
            break;
        }
        line.press(press);
    }
    let text = line.text();
    screen.leave(&format!("{prompt}: {}", sanitise(&text)))?;
    Ok(text)
}

/// Nothing of it shows, not even its length.
fn read_secret(screen: &mut Screen, prompt: &str) -> Result<Zeroizing<String>, Unanswered> {
    let mut secret = Zeroizing::new(String::with_capacity(LONGEST_SECRET + 4));
    screen.draw(&[format!("{prompt}, not shown while you type:"), "> ".to_owned()])?;
    loop {
        match screen.key()? {
            Press::Enter => break,
            Press::Back => {
                secret.pop();
            }
            Press::Clear => secret.clear(),
            // A piece of something else is not taken for the token.
            Press::Sign(_) if secret.len() >= LONGEST_SECRET => {
                return Err(Unanswered::Broken("more was typed than any token has".to_owned()));
            }
            Press::Sign(sign) => secret.push(sign),
            Press::Up
            | Press::Down
            | Press::Left
            | Press::Right
            | Press::Home
            | Press::End
            | Press::BackWord
            | Press::Delete
            | Press::Nothing => {}
        }
    }
    screen.leave(&format!("{prompt}: (not shown)"))?;
    Ok(secret)
}

fn read_choice(screen: &mut Screen, prompt: &str, items: &[String]) -> Result<usize, Unanswered> {
    screen.term.hide_cursor().map_err(|error| broken(&error))?;
    let mut line = Line::default();
    let mut at = 0;
    loop {
        let found = matching(&line.text(), items);
        at = at.min(found.len().saturating_sub(1));
        let rows = ROWS.min(screen.height().saturating_sub(4)).max(1);
        // The chosen row is always among those shown.
        let first = (at + 1).saturating_sub(rows);
        let mut lines = vec![format!("{prompt}: arrow keys, or type a part of it; Enter takes it"), {
            format!("> {}", line.window(screen.width().saturating_sub(2)).0)
        }];
        for (row, item) in found.iter().enumerate().skip(first).take(rows) {
            lines.push(format!("{} {}", if row == at { "*" } else { " " }, items[*item]));
        }
        let more = found.len().saturating_sub(first + rows);
        if found.is_empty() {
            lines.push("  nothing matches".to_owned());
        } else if more > 0 {
            lines.push(format!("  and {more} more"));
        }
        screen.draw(&lines)?;
        let press = screen.key()?;
        if press == Press::Up {
            at = at.checked_sub(1).unwrap_or(found.len().saturating_sub(1));
        } else if press == Press::Down {
            at = if at + 1 < found.len() { at + 1 } else { 0 };
        } else if press != Press::Enter {
            line.press(press);
            at = 0;
        } else if let Some(chosen) = found.get(at) {
            screen.leave(&format!("{prompt}: {}", items[*chosen]))?;
            return Ok(*chosen);
        }
    }
}

/// The places of the items that have these letters in this order, in any case; those that have them in one piece first.
fn matching(part: &str, items: &[String]) -> Vec<usize> {
    let part: Vec<char> = part.to_lowercase().chars().filter(|sign| !sign.is_whitespace()).collect();
    let whole: String = part.iter().collect();
    let mut found: Vec<(usize, usize)> = items
        .iter()
        .enumerate()
        .filter_map(|(index, item)| {
            let item: String = item.to_lowercase().chars().filter(|sign| !sign.is_whitespace()).collect();
            if let Some(start) = item.find(&whole) {
                return Some((usize::from(start > 0), index));
            }
            let mut signs = item.chars();
            part.iter().all(|sign| signs.any(|other| other == *sign)).then_some((2, index))
        })
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, index)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[Press]) -> Line {
        let mut line = Line::default();
        for key in keys {
            line.press(*key);
        }
        line
    }

    #[test]
    fn a_line_is_edited_by_its_keys() {
        let letters = |text: &str| text.chars().map(Press::Sign).collect::<Vec<_>>();
        for (keys, text, at) in [
            (vec![], "ab cd", 5),
            (vec![Press::Back], "ab c", 4),
            (vec![Press::Home, Press::Back, Press::Sign('x')], "xab cd", 1),
            (vec![Press::Left, Press::Delete], "ab c", 4),
            (vec![Press::Home, Press::Delete, Press::End, Press::Delete], "b cd", 4),
            (vec![Press::BackWord], "ab ", 3),
            (vec![Press::BackWord, Press::BackWord], "", 0),
            (vec![Press::Left, Press::Clear], "d", 0),
            (vec![Press::Right, Press::Nothing, Press::Up], "ab cd", 5),
        ] {
            let line = typed(&[letters("ab cd"), keys.clone()].concat());
            assert_eq!((line.text().as_str(), line.at), (text, at), "{keys:?}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_shows_the_part_around_the_cursor() {
        let long: Vec<Press> = "0123456789".chars().map(Press::Sign).collect();
        let mut line = typed(&long);
        assert_eq!(line.window(5), ("6789".to_owned(), 0));
        line.press(Press::Home);
        assert_eq!(line.window(5), ("0123".to_owned(), 4));
        assert_eq!(typed(&[Press::Sign('漢'), Press::Sign('字')]).window(4), ("字".to_owned(), 0));
        assert_eq!(typed(&[Press::Sign('\u{202e}'), Press::Sign('a')]).window(9), ("a".to_owned(), 0));
    }

    #[test]
    fn items_are_found_by_parts_and_by_letters_in_order() {
        let items: Vec<String> = ["Weekly full", "Nightly build", "Not in light", "build"].map(str::to_owned).into();
        for (part, found) in
            [("", &[0, 1, 2, 3][..]), ("build", &[3, 1]), ("NIGHT", &[1, 2]), ("nlt", &[2]), ("y b", &[1]), ("zz", &[])]
        {
            assert_eq!(matching(part, &items), found, "{part}");
        }
    }
}
