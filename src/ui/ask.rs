//! Prompts at the terminal: dialoguer's lists and hidden input, rustyline's line editor. The terminal is restored
//! afterwards.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::rc::Rc;

use dialoguer::console::{Key, Term, measure_text_width, truncate_str};
use dialoguer::theme::Theme;
use dialoguer::{FuzzySelect, Password, Select};
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{Behavior, Config, Editor};
use zeroize::Zeroizing;

use super::sanitise::{clean, sanitise};
use crate::questions::{PendingAnswer, Prompter, Unanswered};
use crate::secret::{Filter, looks_like_a_token};

/// Maximum number of list items shown at once.
const ROWS: usize = 10;

const HOW_TO_CHOOSE: &str = "arrow keys, or type to search; Enter selects, Esc cancels";

/// A secret is read as a terminal line, which silently drops anything beyond this length.
const LONGEST_LINE: usize = if cfg!(target_os = "linux") { 4095 } else { 1023 };

/// The terminal of this process.
pub(super) struct Terminal {
    filter: Filter,
    /// Whether a question is on the screen without an answer.
    open: Rc<Cell<bool>>,
}

impl Terminal {
    pub(super) fn new(filter: Filter, open: Rc<Cell<bool>>) -> Terminal {
        Terminal { filter, open }
    }

    /// The text as one clean line.
    fn plain(&self, text: &str) -> String {
        clean(&self.filter, text).replace(['\n', '\t'], " ")
    }

    /// Reads on another thread, so that signals are still handled. The terminal is restored even if this future is
    /// dropped.
    async fn beside<T: Send + 'static>(
        &self,
        mode: InputMode,
        read: impl FnOnce(&Screen) -> Result<T, Unanswered> + Send + 'static,
    ) -> Result<T, Unanswered> {
        self.open.set(true);
        let mut guard = TerminalGuard::new(mode);
        let reading = tokio::task::spawn_blocking(move || read(&Screen { term: Term::buffered_stderr() }));
        let answer = match reading.await {
            Ok(read) => read,
            Err(error) => Err(Unanswered::Broken(error.to_string())),
        };
        // The readers of `Keys` end their own line.
        guard.open = answer.is_err() && mode != InputMode::Keys;
        self.open.set(answer.is_err());
        answer
    }
}

impl Prompter for Terminal {
    fn text<'a>(&'a self, prompt: &'a str, initial: &'a str) -> PendingAnswer<'a, String> {
        let (prompt, initial) = (self.plain(prompt), self.plain(initial));
        Box::pin(self.beside(InputMode::Keys, move |screen| read_text(screen, &prompt, &initial)))
    }

    fn secret<'a>(&'a self, prompt: &'a str) -> PendingAnswer<'a, Zeroizing<String>> {
        let prompt = self.plain(prompt);
        Box::pin(async move {
            let secret = self.beside(InputMode::HiddenLine, move |screen| read_secret(screen, &prompt)).await?;
            // A truncated input is not accepted as the token.
            if secret.len() >= LONGEST_LINE {
                return Err(Unanswered::Broken("the input is longer than any token".to_owned()));
            }
            Ok(secret)
        })
    }

    fn choose<'a>(&'a self, prompt: &'a str, items: &'a [String]) -> PendingAnswer<'a, usize> {
        let prompt = self.plain(prompt);
        let items: Vec<String> = items.iter().map(|item| self.plain(item)).collect();
        Box::pin(self.beside(InputMode::Keys, move |screen| read_choice(screen, &prompt, &items)))
    }

    fn key<'a>(&'a self, prompt: &'a str, keys: &'a str) -> PendingAnswer<'a, char> {
        let (prompt, keys) = (self.plain(prompt), keys.to_owned());
        Box::pin(self.beside(InputMode::KeysFromNow, move |screen| read_key(screen, &prompt, &keys)))
    }
}

/// Why a prompt got no answer.
fn why(error: &io::Error) -> Unanswered {
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
enum InputMode {
    /// Key by key: between keys, Ctrl-C is read like any other. Unread input is left for the next reader.
    Keys,
    /// One key, such as a confirmation: input typed before the question appeared is discarded.
    KeysFromNow,
    /// A line edited by the terminal itself. Further pasted lines are discarded, so that neither the next question
    /// nor the shell reads them.
    HiddenLine,
}

/// The terminal's state before a question. Until it is restored, the terminal echoes nothing; the prompt draws the
/// input.
struct TerminalGuard {
    #[cfg(unix)]
    before: Option<rustix::termios::Termios>,
    /// Whether the question is on the screen without an answer.
    open: bool,
    mode: InputMode,
}

impl TerminalGuard {
    fn new(mode: InputMode) -> TerminalGuard {
        TerminalGuard {
            #[cfg(unix)]
            before: quiet(mode).ok(),
            open: true,
            mode,
        }
    }
}

#[cfg(unix)]
fn quiet(mode: InputMode) -> rustix::io::Result<rustix::termios::Termios> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let before = tcgetattr(io::stdin())?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(match mode {
        InputMode::Keys | InputMode::KeysFromNow => LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG,
        InputMode::HiddenLine => LocalModes::ECHO,
    });
    let actions = match mode {
        InputMode::Keys | InputMode::HiddenLine => OptionalActions::Drain,
        InputMode::KeysFromNow => OptionalActions::Flush,
    };
    tcsetattr(io::stdin(), actions, &quiet)?;
    Ok(before)
}

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        let term = Term::stderr();
        // If the terminal is gone, errors cannot be reported.
        let _ = term.show_cursor();
        if self.open {
            let _ = term.write_line("");
        }
        #[cfg(unix)]
        if let Some(before) = &self.before {
            use rustix::termios::{OptionalActions, tcsetattr};
            let actions = match self.mode {
                InputMode::Keys | InputMode::KeysFromNow => OptionalActions::Drain,
                InputMode::HiddenLine => OptionalActions::Flush,
            };
            let _ = tcsetattr(io::stdin(), actions, before);
        }
    }
}

/// Where prompts draw.
struct Screen {
    term: Term,
}

impl Screen {
    /// One column is left free: a full line would wrap on some terminals.
    fn width(&self) -> usize {
        usize::from(self.term.size().1.max(2)) - 1
    }

    fn height(&self) -> usize {
        usize::from(self.term.size().0)
    }

    fn theme(&self, labels: &[String], shown: usize) -> PromptTheme {
        PromptTheme { width: self.width(), labels: labels.to_vec(), shown }
    }

    /// Writes one line, wrapped between words, and flushes it.
    fn line(&self, line: &str) -> io::Result<()> {
        for line in wrapped(line, self.width(), 0) {
            self.term.write_line(&line)?;
        }
        self.term.flush()
    }
}

/// Wraps the text between words at `width` columns; `first` columns of the first line are used already. A longer
/// word stays whole, so that it can be copied.
pub(super) fn wrapped(text: &str, width: usize, first: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut used = first;
    for word in text.split(' ') {
        let columns = measure_text_width(word);
        match lines.last_mut() {
            Some(line) if used + 1 + columns <= width => {
                line.push(' ');
                line.push_str(word);
                used += 1 + columns;
            }
            Some(_) => {
                lines.push(word.to_owned());
                used = columns + INDENT;
            }
            None => {
                lines.push(word.to_owned());
                used += columns;
            }
        }
    }
    lines
}

/// Largest indentation of continuation lines, in columns.
const INDENT: usize = 4;

/// The prompts' appearance. An open question consists of whole lines with the input below, since dialoguer assumes
/// that lines do not wrap.
struct PromptTheme {
    width: usize,
    /// The list items, and how many are shown at once.
    labels: Vec<String>,
    shown: usize,
}

impl PromptTheme {
    fn cut(&self, line: &str) -> String {
        truncate_str(line, self.width, "…").into_owned()
    }

    /// The lines of a question, each truncated if even one word is too long.
    fn lines(&self, text: &str) -> String {
        wrapped(text, self.width, 0).iter().map(|line| self.cut(line)).collect::<Vec<_>>().join("\n")
    }

    /// How many matches are not shown, if any.
    fn hidden(&self, part: &str) -> String {
        match self.labels.iter().filter(|label| is_found(label, part)).count() {
            0 => "   no matches".to_owned(),
            count if count > self.shown => format!("   {} of {count} shown", self.shown),
            _ => String::new(),
        }
    }
}

/// Whether dialoguer's search matches: all letters in this order, case-sensitive if there are capitals.
fn is_found(text: &str, part: &str) -> bool {
    let exact = part.chars().any(|sign| sign.is_ascii_uppercase());
    let mut signs = text.chars();
    part.chars().all(|wanted| signs.any(|sign| if exact { sign == wanted } else { sign.eq_ignore_ascii_case(&wanted) }))
}

impl Theme for PromptTheme {
    fn format_password_prompt(&self, to: &mut dyn fmt::Write, prompt: &str) -> fmt::Result {
        write!(to, "{}\n> ", self.lines(&format!("{prompt} (hidden):")))
    }

    fn format_password_prompt_selection(&self, to: &mut dyn fmt::Write, prompt: &str) -> fmt::Result {
        to.write_str(&self.lines(&format!("{prompt}: (hidden)")))
    }

    fn format_select_prompt(&self, to: &mut dyn fmt::Write, prompt: &str) -> fmt::Result {
        to.write_str(&self.lines(&format!("{prompt}: arrow keys; Enter selects, Esc cancels")))
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

/// Reads a line with the usual editing keys. `initial` is prefilled.
fn read_text(screen: &Screen, prompt: &str, initial: &str) -> Result<String, Unanswered> {
    // If a signal ended the program here, bracketed paste would stay on.
    let config =
        Config::builder().behavior(Behavior::PreferTerm).auto_add_history(false).bracketed_paste(false).build();
    let read = Editor::<(), _>::with_history(config, MemHistory::new())
        .and_then(|mut editor| editor.readline_with_initial(&format!("{prompt}: "), (initial, "")));
    let text = match read {
        Ok(text) => text,
        Err(ReadlineError::Interrupted) => return Err(Unanswered::Interrupted),
        Err(ReadlineError::Eof) => return Err(Unanswered::EndOfInput),
        Err(error) => return Err(Unanswered::Broken(error.to_string())),
    };
    // The user pasted a token by mistake: remove it from the screen.
    if looks_like_a_token(&text) {
        let width = measure_text_width(prompt) + 2 + measure_text_width(&text);
        screen.term.clear_last_lines(width / (screen.width() + 1) + 1).map_err(|error| why(&error))?;
        screen.line(&format!("{prompt}: (hidden)")).map_err(|error| why(&error))?;
    }
    Ok(text)
}

/// Reads a secret without showing anything, not even its length.
fn read_secret(screen: &Screen, prompt: &str) -> Result<Zeroizing<String>, Unanswered> {
    let theme = screen.theme(&[], 0);
    Password::with_theme(&theme)
        .with_prompt(prompt)
        .allow_empty_password(true)
        .interact_on(&screen.term)
        .map(Zeroizing::new)
        .map_err(|dialoguer::Error::IO(error)| why(&error))
}

/// Reads one of these keys; Enter is the one in upper case.
fn slashed(keys: &str) -> String {
    keys.chars().map(String::from).collect::<Vec<_>>().join("/")
}

fn read_key(screen: &Screen, prompt: &str, keys: &str) -> Result<char, Unanswered> {
    let shown = match keys.split_once('e') {
        Some((keys, _)) => format!("{}, e to edit", slashed(keys)),
        None => slashed(keys),
    };
    let asks = || -> io::Result<Key> {
        screen.term.write_str(&format!("{prompt} [{shown}] "))?;
        screen.term.flush()?;
        screen.term.read_key_raw()
    };
    loop {
        let key = asks().map_err(|error| why(&error))?;
        if matches!(key, Key::CtrlC | Key::Escape) {
            return Err(Unanswered::Interrupted);
        }
        let chosen = if let Key::Char(typed) = key {
            keys.chars().find(|known| known.eq_ignore_ascii_case(&typed))
        } else {
            keys.chars().find(|known| key == Key::Enter && known.is_ascii_uppercase())
        };
        let end = chosen.map(|key| key.to_ascii_lowercase().to_string()).unwrap_or_default();
        screen.line(&end).map_err(|error| why(&error))?;
        if let Some(key) = chosen {
            return Ok(key.to_ascii_lowercase());
        }
    }
}

/// Two items need no search.
fn is_of_two(items: &[String]) -> bool {
    items.len() <= 2
}

fn read_choice(screen: &Screen, prompt: &str, items: &[String]) -> Result<usize, Unanswered> {
    let labels = labels(items, screen.width().saturating_sub(2));
    let header = wrapped(&format!("{prompt}: {HOW_TO_CHOOSE}"), screen.width(), 0).len();
    let shown = ROWS.min(screen.height().saturating_sub(header + 3)).max(1);
    let theme = screen.theme(&labels, shown);
    let chosen = if is_of_two(items) {
        Select::with_theme(&theme)
            .with_prompt(prompt)
            .items(&labels)
            .default(0)
            .report(false)
            .interact_on_opt(&screen.term)
    } else {
        FuzzySelect::with_theme(&theme)
            .with_prompt(prompt)
            .items(&labels)
            .default(0)
            .max_length(shown)
            .highlight_matches(false)
            .report(false)
            .interact_on_opt(&screen.term)
    };
    // Esc cancels like Ctrl-C.
    let chosen = chosen.map_err(|dialoguer::Error::IO(error)| why(&error))?.ok_or(Unanswered::Interrupted)?;
    screen.line(&format!("{prompt}: {}", items[chosen])).map_err(|error| why(&error))?;
    Ok(chosen)
}

/// The items as list labels, each unique and in one row: dialoguer identifies the chosen one by its text, and
/// assumes that a text with more bytes than the terminal has columns wraps.
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

/// Truncates the text so that it has at most `most` bytes including `end`; there are never fewer bytes than
/// columns.
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
            assert_eq!(why(&io::Error::new(kind, "x")), unanswered);
        }
    }

    #[test]
    fn a_long_question_is_broken_between_words() {
        let text = "Run this on which compute, by the name or its cluster ID [Enter: you]";
        assert_eq!(
            wrapped(text, 30, 0),
            ["Run this on which compute, by", "the name or its cluster ID", "[Enter: you]"]
        );
        assert_eq!(wrapped("at https://a-very-long-host:", 10, 0), ["at", "https://a-very-long-host:"]);
    }

    #[test]
    fn what_is_not_to_be_seen_of_a_list_is_said() {
        let labels: Vec<String> = (0..12).map(|job| format!("{}  Nightly {job}", 300_000 + job)).collect();
        let theme = PromptTheme { width: 80, labels, shown: 10 };
        assert_eq!(theme.hidden(""), "   10 of 12 shown");
        assert_eq!(theme.hidden("ngl"), "   10 of 12 shown");
        assert_eq!(theme.hidden("NGL"), "   no matches");
        assert_eq!((theme.hidden("300011"), theme.hidden("Nightly 3")), (String::new(), String::new()));
    }

    #[test]
    fn each_label_is_one_row_and_none_is_like_another() {
        let items = ["Nightly build, long", "Nightly build, also long", "Daily [4]", "Daily", "Daily", "Ночная сборка"];
        let labels = labels(&items.map(str::to_owned), 16);
        assert_eq!(labels, ["Nightly build…", "Nightly b… [2]", "Daily [4]", "Daily", "Daily [5]", "Ночная …"]);
        assert!(labels.iter().all(|label| label.len() <= 16));
    }
}
