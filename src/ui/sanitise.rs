//! Text from services is not trusted: escape sequences, invisible characters and CI commands are removed before
//! anything reaches a terminal, a log or a CI file, and secrets are masked in the rest.

use crate::secret::Filter;

/// Makes a text safe to print. It is sanitized first, since removing characters can make a secret readable that was
/// split.
pub(crate) fn clean(filter: &Filter, text: &str) -> String {
    filter.mask(&sanitise(text)).into_owned()
}

/// Removes control characters (except newline and tab) and characters that reorder or hide text, and disarms
/// commands that CI services read from logs.
pub(super) fn sanitise(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for (index, line) in without_escapes(text).split('\n').enumerate() {
        if index > 0 {
            clean.push('\n');
        }
        // GitHub reads `::name` at the start of a line, Azure `##vso[` and `##[` anywhere (peers-reliability B19),
        // TeamCity `##teamcity[`.
        let line = line.replace("##vso[", "## vso[").replace("##[", "## [").replace("##teamcity[", "## teamcity[");
        if line.trim_start().starts_with("::") {
            clean.push_str(&line.replacen("::", ": :", 1));
        } else {
            clean.push_str(&line);
        }
    }
    clean
}

/// Whether a character is invisible (`Default_Ignorable_Code_Point` of Unicode 17) or changes the text direction.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Removes whole escape sequences, so that `ESC[31m` leaves no `[31m`.
fn without_escapes(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => match characters.peek() {
                Some('[') => {
                    characters.next();
                    // Parameters are characters from space to `?`, and one from `@` to `~` ends the sequence.
                    // Anything else is text again: an unfinished sequence must not swallow the words after it.
                    while characters.next_if(|part| (' '..='?').contains(part)).is_some() {}
                    characters.next_if(|part| ('@'..='~').contains(part));
                }
                Some(']' | 'P' | 'X' | '^' | '_') => {
                    characters.next();
                    // A string sequence ends with BEL or ESC `\`; an unfinished one with its line.
                    while let Some(part) = characters.next_if(|part| *part != '\n') {
                        if part == '\u{7}' || (part == '\u{1b}' && characters.next_if_eq(&'\\').is_some()) {
                            break;
                        }
                    }
                }
                Some('\n') => {}
                Some(_) => {
                    characters.next();
                }
                None => {}
            },
            '\n' | '\t' => clean.push(character),
            '\r' => {}
            _ if character.is_control() => clean.push('\u{fffd}'),
            // Some viewers break lines here, so a command could begin after it.
            '\u{2028}' | '\u{2029}' => clean.push(' '),
            _ if is_invisible(character) => {}
            _ => clean.push(character),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_invisible_characters_and_ci_commands_are_harmless() {
        for (text, clean) in [
            ("a\u{1b}[31mred\u{1b}[0m", "ared"),
            ("\u{1b}]0;title\u{7}x", "x"),
            ("\u{1b}]8;;http://evil\u{1b}\\link", "link"),
            ("\u{9b}31m", "\u{fffd}31m"),
            ("ab\u{202e}cd", "abcd"),
            ("ab\u{61c}c\u{ad}d\u{e0041}", "abcd"),
            ("x\u{2028}::set-output name=a::b", "x ::set-output name=a::b"),
            ("\u{1b}]0;never ended\nthe link", "\nthe link"),
            ("\u{1b}[31\nthe link", "\nthe link"),
            ("\u{1b}\nthe link", "\nthe link"),
            ("##teamcity[buildStop]", "## teamcity[buildStop]"),
            ("one\r\ntwo", "one\ntwo"),
            ("x\n::set-output name=a::b", "x\n: :set-output name=a::b"),
            ("##vso[task.setvariable]x", "## vso[task.setvariable]x"),
            ("a::b", "a::b"),
        ] {
            assert_eq!(sanitise(text), clean, "{text:?}");
        }
    }
}
