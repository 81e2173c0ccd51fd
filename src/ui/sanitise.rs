//! Text from services is not trusted: escape sequences, invisible characters and CI commands are taken out before
//! anything reaches a terminal or a log.

/// The text without control characters (newline and tab apart), without characters that turn or hide text, and with
/// commands that CI services read from logs made harmless.
pub(crate) fn sanitise(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for (index, line) in without_escapes(text).split('\n').enumerate() {
        if index > 0 {
            clean.push('\n');
        }
        // GitHub reads `::name` at the start of a line, Azure `##vso[` and `##[` anywhere (peers-reliability B19).
        let line = line.replace("##vso[", "## vso[").replace("##[", "## [");
        if line.trim_start().starts_with("::") {
            clean.push_str(&line.replacen("::", ": :", 1));
        } else {
            clean.push_str(&line);
        }
    }
    clean
}

/// Drops whole escape sequences first, so that `ESC[31m` leaves no `[31m` behind.
fn without_escapes(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => match characters.peek() {
                Some('[') => {
                    characters.next();
                    // A control sequence ends with a byte from `@` to `~`.
                    for part in characters.by_ref() {
                        if ('@'..='~').contains(&part) {
                            break;
                        }
                    }
                }
                Some(']' | 'P' | 'X' | '^' | '_') => {
                    characters.next();
                    // A string sequence ends with BEL or ESC `\`.
                    while let Some(part) = characters.next() {
                        if part == '\u{7}' || (part == '\u{1b}' && characters.next_if_eq(&'\\').is_some()) {
                            break;
                        }
                    }
                }
                Some(_) => {
                    characters.next();
                }
                None => {}
            },
            '\n' | '\t' => clean.push(character),
            '\r' => {}
            _ if character.is_control() => clean.push('\u{fffd}'),
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => {}
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
            ("one\r\ntwo", "one\ntwo"),
            ("x\n::set-output name=a::b", "x\n: :set-output name=a::b"),
            ("##vso[task.setvariable]x", "## vso[task.setvariable]x"),
            ("a::b", "a::b"),
        ] {
            assert_eq!(sanitise(text), clean, "{text:?}");
        }
    }
}
