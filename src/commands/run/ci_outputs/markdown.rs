//! The job summary as GitHub Markdown, with all service text escaped.

use std::fmt::Write as _;

use super::Row;
use crate::failure::FailedPart;

/// GitHub accepts 1 MiB per step, and other commands may use it too.
const MOST: usize = 256 * 1024;

/// Maximum number of names shown per run.
const NAMES: usize = 20;

/// A table with a row per run; with `detail`, followed by the failure messages.
pub(super) fn summary(rows: &[Row], detail: bool) -> String {
    // Markdown needs a blank line before a table.
    let mut summary = "\n| Job | Run | Status | Failed |\n|---|---|---|---|\n".to_owned();
    let lines = rows.iter().map(row);
    let mut left_out = fill(&mut summary, lines, "");
    if detail {
        let reasons = rows.iter().flat_map(|row| &row.failed).filter_map(reason);
        left_out += fill(&mut summary, reasons, "\n");
    }
    if left_out > 0 {
        let _ = write!(summary, "\nand {left_out} more lines\n");
    }
    summary
}

/// Adds the lines that fit, after `before`. Returns how many were left out.
fn fill(summary: &mut String, lines: impl Iterator<Item = String>, before: &str) -> usize {
    let (mut before, mut left_out) = (before, 0);
    for line in lines {
        if left_out > 0 || summary.len() + line.len() > MOST {
            left_out += 1;
        } else {
            *summary += std::mem::take(&mut before);
            *summary += &line;
        }
    }
    left_out
}

fn row(row: &Row) -> String {
    let Row { job, run, url, status, took: _, result: _, failed } = row;
    let mut names: Vec<String> =
        failed.iter().take(NAMES).map(|FailedPart { name, message: _ }| as_text(name)).collect();
    if failed.len() > NAMES {
        names.push(format!("and {} more", failed.len() - NAMES));
    }
    format!("| {} | {} | {} | {} |\n", as_text(job), link(*run, url), as_text(status), names.join(", "))
}

fn reason(failed: &FailedPart) -> Option<String> {
    let FailedPart { name, message } = failed;
    message.as_ref().map(|message| format!("- **{}**: {}\n", as_text(name), as_text(message)))
}

/// A link, if the URL is valid and has no character that could end the link.
fn link(run: Option<u64>, url: &str) -> String {
    let Some(run) = run else { return String::new() };
    let is_address = (url.starts_with("https://") || url.starts_with("http://"))
        && url.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:/?#%&=+,;@".contains(&byte));
    if is_address { format!("[{run}]({url})") } else { run.to_string() }
}

/// Escapes everything that is special in Markdown, HTML or on GitHub.
fn as_text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let characters: Vec<char> = text.chars().collect();
    for (index, character) in characters.iter().copied().enumerate() {
        let in_a_word = |other: Option<&char>| other.is_some_and(char::is_ascii_alphanumeric);
        match character {
            // Tables are split at `|` before anything else is parsed.
            '|' => escaped += "&#124;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '&' => escaped += "&amp;",
            // Mentions and references work even if escaped; a zero-width space prevents them.
            '@' | '#' => escaped.extend(['\\', character, '\u{200b}']),
            // Starts a formula unless it is alone.
            '$' => escaped += "<span>$</span>",
            // Emphasis only at the edge of a word.
            '_' if in_a_word(characters.get(index + 1)) && index > 0 && in_a_word(characters.get(index - 1)) => {
                escaped.push('_');
            }
            '-' | ',' | '/' | '(' | ')' | ' ' => escaped.push(character),
            _ if character.is_control() => escaped.push(' '),
            _ if character.is_ascii_punctuation() => escaped.extend(['\\', character]),
            _ => escaped.push(character),
        }
    }
    escaped
}
