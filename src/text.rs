//! Small helpers for text.

use std::fmt::Write as _;

/// Lowercase hex digits.
pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Quotes as one word for bash, zsh and fish. No shell can pass NUL, so a word with it becomes an empty one.
pub(crate) fn quoted(word: &str) -> String {
    shlex::try_quote(word).unwrap_or("''".into()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_reaches_the_program_as_it_is() {
        for word in
            ["", "a b", "it's", "end\\", "$HOME `id` !x", "=x", "{a,b}", "ä", "line\nbreak", "/Users/ana@example.com/x"]
        {
            let line = format!("printf %s {}", quoted(word));
            for shell in ["bash", "zsh", "fish"] {
                // Only bash is on every machine.
                let Ok(output) = std::process::Command::new(shell).args(["-c", &line]).output() else { continue };
                assert_eq!(String::from_utf8_lossy(&output.stdout), word, "{shell}: {line}");
            }
        }
    }
}
