//! Questions at the terminal, on stderr: dialoguer's prompts, in a terminal that is kept and put back.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::rc::Rc;

use dialoguer::console::{Term, measure_text_width, truncate_str};
use dialoguer::theme::Theme;
use dialoguer::{FuzzySelect, Input, Password, Select};
use zeroize::Zeroizing;

use super::sanitise::{clean, sanitise};
use crate::questions::{Asking, Questioner, Unanswered};
use crate::secret::{Filter, looks_like_a_token};

/// So many of a list are shown at once.
const ROWS: usize = 10;

const HOW_TO_CHOOSE: &str = "type to search, arrow keys to move, Enter to select, Esc to cancel";

/// A secret is read as a line of the terminal, which drops what is longer than this without a word.
const LONGEST_LINE: usize = if cfg!(target_os = "linux") { 4095 } else { 1023 };

/// The terminal of this process.
pub(super) struct Terminal {
    filter: Filter,
    /// A question was put and has no answer yet.
    open: Rc<Cell<bool>>,
    /// Nobody was asked anything yet.
    first: Cell<bool>,
}

impl Terminal {
    pub(super) fn new(filter: Filter, open: Rc<Cell<bool>>) -> Terminal {
        Terminal { filter, open, first: Cell::new(true) }
    }

    /// The way out, said once.
    fn way_out(&self) -> &'static str {
        if self.first.replace(false) { " (Ctrl-C to cancel)" } else { "" }
    }

    /// One line that is fit to be shown.
    fn plain(&self, text: &str) -> String {
        clean(&self.filter, text).replace(['\n', '\t'], " ")
    }

    /// Reads beside the program, so that a signal is still heard. Whatever happens to this future, the terminal is as it was.
    async fn beside<T: Send + 'static>(
        &self,
        reads: Reads,
        read: impl FnOnce(&Screen) -> Result<T, dialoguer::Error> + Send + 'static,
    ) -> Result<T, Unanswered> {
        self.open.set(true);
        let mut kept = Kept::keep(reads);
        let reading = tokio::task::spawn_blocking(move || read(&Screen { term: Term::buffered_stderr() }));
        let answer = match reading.await {
            Ok(read) => read.map_err(|error| why(&error)),
            Err(error) => Err(Unanswered::Broken(error.to_string())),
        };
        kept.open = answer.is_err();
        self.open.set(answer.is_err());
        answer
    }
}

impl Questioner for Terminal {
    fn text<'a>(&'a self, prompt: &'a str) -> Asking<'a, String> {
        let (prompt, out) = (self.plain(prompt), self.way_out());
        Box::pin(self.beside(Reads::Keys, move |screen| read_text(screen, &prompt, out)))
    }

    fn secret<'a>(&'a self, prompt: &'a str) -> Asking<'a, Zeroizing<String>> {
        let prompt = self.plain(prompt);
        Box::pin(async move {
            let secret = self.beside(Reads::HiddenLine, move |screen| read_secret(screen, &prompt)).await?;
            // A piece of something else is not taken for the token.
            if secret.len() >= LONGEST_LINE {
                return Err(Unanswered::Broken("the input is longer than any token".to_owned()));
            }
            Ok(secret)
        })
    }

    fn choose<'a>(&'a self, prompt: &'a str, items: &'a [String]) -> Asking<'a, usize> {
        let prompt = self.plain(prompt);
        self.first.set(false);
        let items: Vec<String> = items.iter().map(|item| self.plain(item)).collect();
        let reads = if is_of_two(&items) { Reads::KeysFromNow } else { Reads::Keys };
        Box::pin(self.beside(reads, move |screen| read_choice(screen, &prompt, &items)))
    }
}

/// Why a prompt gave no answer.
fn why(error: &dialoguer::Error) -> Unanswered {
    let dialoguer::Error::IO(error) = error;
    if error.kind() == io::ErrorKind::Interrupted {
        Unanswered::Interrupted
    } else if error.kind() == io::ErrorKind::UnexpectedEof {
        Unanswered::EndOfInput
    } else {
        Unanswered::Broken(error.to_string())
    }
}

/// How a prompt reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    /// Key by key: between two of them Ctrl-C waits to be read as well. What is not read stays for whoever reads next.
    Keys,
    /// The same for a choice of two, such as consent: what was typed before the question was there is no answer to it.
    KeysFromNow,
    /// A line that the terminal itself edits. Further lines of what was pasted are for nobody: not the next question,
    /// and not the shell.
    HiddenLine,
}

/// The state of the terminal before a question. While it is open, nothing is echoed but what the prompt draws.
struct Kept {
    #[cfg(unix)]
    before: Option<rustix::termios::Termios>,
    /// The question stands on the screen without an answer.
    open: bool,
    reads: Reads,
}

impl Kept {
    fn keep(reads: Reads) -> Kept {
        Kept {
            #[cfg(unix)]
            before: quiet(reads).ok(),
            open: true,
            reads,
        }
    }
}

#[cfg(unix)]
fn quiet(reads: Reads) -> rustix::io::Result<rustix::termios::Termios> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let before = tcgetattr(io::stdin())?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(match reads {
        Reads::Keys | Reads::KeysFromNow => LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG,
        Reads::HiddenLine => LocalModes::ECHO,
    });
    let actions = match reads {
        Reads::Keys | Reads::HiddenLine => OptionalActions::Drain,
        Reads::KeysFromNow => OptionalActions::Flush,
    };
    tcsetattr(io::stdin(), actions, &quiet)?;
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
            let actions = match self.reads {
                Reads::Keys | Reads::KeysFromNow => OptionalActions::Drain,
                Reads::HiddenLine => OptionalActions::Flush,
            };
            let _ = tcsetattr(io::stdin(), actions, before);
        }
    }
}

/// Where the prompts draw, and how they look there.
struct Screen {
    term: Term,
}

impl Screen {
    /// One column stays free: a full line would wrap on some terminals.
    fn width(&self) -> usize {
        usize::from(self.term.size().1.max(2)) - 1
    }

    fn height(&self) -> usize {
        usize::from(self.term.size().0)
    }

    fn look(&self, labels: &[String], shown: usize) -> Look {
        Look { width: self.width(), labels: labels.to_vec(), shown }
    }

    /// Writes one ordinary line, broken between words, and shows it. Gives how many rows it takes.
    fn line(&self, line: &str) -> io::Result<usize> {
        let lines = wrapped(line, self.width());
        for line in &lines {
            self.term.write_line(line)?;
        }
        self.term.flush()?;
        Ok(lines.iter().map(|line| measure_text_width(line).div_ceil(self.width() + 1).max(1)).sum())
    }
}

/// The text in lines of so many columns, broken between words. A word that is longer stays whole: it can be copied then.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if measure_text_width(line) + 1 + measure_text_width(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// An open question is whole lines, and what is typed stands below them: dialoguer counts on lines that do not wrap.
struct Look {
    width: usize,
    /// What there is to choose from, and how much of it is shown at once.
    labels: Vec<String>,
    shown: usize,
}

impl Look {
    fn cut(&self, line: &str) -> String {
        truncate_str(line, self.width, "…").into_owned()
    }

    /// The lines of a question, each cut where even one word is too long.
    fn lines(&self, text: &str) -> String {
        wrapped(text, self.width).iter().map(|line| self.cut(line)).collect::<Vec<_>>().join("\n")
    }

    /// How much of the list is not to be seen.
    fn hidden(&self, part: &str) -> String {
        match self.labels.iter().filter(|label| is_found(label, part)).count() {
            0 => "   no matches".to_owned(),
            count if count > self.shown => format!("   {} of {count} shown", self.shown),
            _ => String::new(),
        }
    }
}

/// Whether dialoguer finds the text by this part of it: all letters in this order; capitals count if there are any.
fn is_found(text: &str, part: &str) -> bool {
    let exact = part.chars().any(|sign| sign.is_ascii_uppercase());
    let mut signs = text.chars();
    part.chars().all(|wanted| signs.any(|sign| if exact { sign == wanted } else { sign.eq_ignore_ascii_case(&wanted) }))
}

impl Theme for Look {
    fn format_input_prompt(&self, to: &mut dyn fmt::Write, _: &str, _: Option<&str>) -> fmt::Result {
        to.write_str("> ")
    }

    fn format_password_prompt(&self, to: &mut dyn fmt::Write, prompt: &str) -> fmt::Result {
        write!(to, "{}\n> ", self.lines(&format!("{prompt} (hidden):")))
    }

    fn format_password_prompt_selection(&self, to: &mut dyn fmt::Write, prompt: &str) -> fmt::Result {
        to.write_str(&self.lines(&format!("{prompt}: (not shown)")))
    }

    fn format_select_prompt(&self, to: &mut dyn fmt::Write, prompt: &str) -> fmt::Result {
        to.write_str(&self.lines(&format!("{prompt}: arrow keys to move, Enter to select, Esc to cancel")))
    }

    fn format_fuzzy_select_prompt(
        &self,
        to: &mut dyn fmt::Write,
        prompt: &str,
        part: &str,
        cursor: usize,
    ) -> fmt::Result {
        let (head, tail) = part.split_at(cursor);
        let header = self.lines(&format!("{prompt}: {HOW_TO_CHOOSE}"));
        let find = format!("find: {}|{}{}", sanitise(head), sanitise(tail), self.hidden(part));
        write!(to, "{header}\n{}", self.cut(&find))
    }
}

fn read_text(screen: &Screen, prompt: &str, out: &str) -> Result<String, dialoguer::Error> {
    let look = screen.look(&[], 0);
    // Not through the prompt: dialoguer reckons with its width when a key moves the cursor, as if it were one line.
    let rows = screen.line(&format!("{prompt}{out}:"))?;
    let text: String = Input::with_theme(&look).allow_empty(true).report(false).interact_text_on(&screen.term)?;
    // Where the cursor stands in an answer of several rows is not known: what is above it stays then.
    if measure_text_width(&text) + 2 <= screen.width() {
        screen.term.clear_last_lines(rows)?;
    }
    // It was a slip, and it need not stay on the screen.
    let answer = if looks_like_a_token(&text) { "(not shown)".into() } else { sanitise(&text) };
    screen.line(&format!("{prompt}: {answer}"))?;
    Ok(text)
}

/// Nothing of it shows, not even its length.
fn read_secret(screen: &Screen, prompt: &str) -> Result<Zeroizing<String>, dialoguer::Error> {
    let look = screen.look(&[], 0);
    Password::with_theme(&look)
        .with_prompt(prompt)
        .allow_empty_password(true)
        .interact_on(&screen.term)
        .map(Zeroizing::new)
}

/// Two, such as yes and no, need not be searched.
fn is_of_two(items: &[String]) -> bool {
    items.len() <= 2
}

fn read_choice(screen: &Screen, prompt: &str, items: &[String]) -> Result<usize, dialoguer::Error> {
    let labels = labels(items, screen.width().saturating_sub(2));
    let header = wrapped(&format!("{prompt}: {HOW_TO_CHOOSE}"), screen.width()).len();
    let shown = ROWS.min(screen.height().saturating_sub(header + 3)).max(1);
    let look = screen.look(&labels, shown);
    let chosen = if is_of_two(items) {
        Select::with_theme(&look)
            .with_prompt(prompt)
            .items(&labels)
            .default(0)
            .report(false)
            .interact_on_opt(&screen.term)
    } else {
        FuzzySelect::with_theme(&look)
            .with_prompt(prompt)
            .items(&labels)
            .default(0)
            .max_length(shown)
            .highlight_matches(false)
            .report(false)
            .interact_on_opt(&screen.term)
    };
    // Esc is as good as Ctrl-C.
    let chosen = chosen?.ok_or_else(|| io::Error::from(io::ErrorKind::Interrupted))?;
    screen.line(&format!("{prompt}: {}", items[chosen]))?;
    Ok(chosen)
}

/// The items as they stand in the list, each in one row and none like another: dialoguer finds the chosen one by its
/// text, and takes a text of more bytes than the terminal has columns for one that wraps.
fn labels(items: &[String], most: usize) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut labels = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let (mut label, mut end) = (short(item, "", most), String::new());
        while !seen.insert(label.clone()) {
            end = format!("{end} [{}]", index + 1);
            label = short(item, &end, most);
        }
        labels.push(label);
    }
    labels
}

/// The text with this end, in so many bytes, which are never fewer than columns.
fn short(text: &str, end: &str, most: usize) -> String {
    if text.len() + end.len() <= most {
        return format!("{text}{end}");
    }
    let room = text.floor_char_boundary(most.saturating_sub('…'.len_utf8() + end.len()));
    format!("{}…{end}", &text[..room])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_prompt_ends_the_question() {
        for (kind, unanswered) in [
            (io::ErrorKind::Interrupted, Unanswered::Interrupted),
            (io::ErrorKind::UnexpectedEof, Unanswered::EndOfInput),
            (io::ErrorKind::PermissionDenied, Unanswered::Broken("x".to_owned())),
        ] {
            assert_eq!(why(&dialoguer::Error::IO(io::Error::new(kind, "x"))), unanswered);
        }
    }

    #[test]
    fn a_long_question_is_broken_between_words() {
        let text = "Whom the runs act as, by e-mail or application id [Enter: you]";
        assert_eq!(
            wrapped(text, 30),
            [
                "Run as (email or application ID) [Enter: unchanged, or you",
                "Run as (email or application ID) [Enter: unchanged, or you",
                "[Enter: you]"
            ]
        );
        assert_eq!(wrapped("at https://a-very-long-host:", 10), ["at", "https://a-very-long-host:"]);
    }

    #[test]
    fn what_is_not_to_be_seen_of_a_list_is_said() {
        let labels: Vec<String> = (0..12).map(|job| format!("{}  Nightly {job}", 300_000 + job)).collect();
        let look = Look { width: 80, labels, shown: 10 };
        assert_eq!(look.hidden(""), "   10 of 12 shown");
        assert_eq!(look.hidden("ngl"), "   10 of 12 shown");
        assert_eq!(look.hidden("NGL"), "   no matches");
        assert_eq!((look.hidden("300011"), look.hidden("Nightly 3")), (String::new(), String::new()));
    }

    #[test]
    fn each_label_is_one_row_and_none_is_like_another() {
        let items = ["Nightly build, long", "Nightly build, also long", "Daily [4]", "Daily", "Daily", "Ночная сборка"];
        let labels = labels(&items.map(str::to_owned), 16);
        assert_eq!(labels, ["Nightly build…", "Nightly b… [2]", "Daily [4]", "Daily", "Daily [5]", "Ночная …"]);
        assert!(labels.iter().all(|label| label.len() <= 16));
    }
}
