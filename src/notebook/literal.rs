//! JSON as a Python string literal that no value can break out of.
//!
//! The literal is in single quotes on one line. Every character not known to be harmless becomes a JSON escape
//! `\uXXXX`, with the backslash doubled for Python, so the line contains no quote, control character or line break,
//! and no `#` that could start a notebook command.

use std::fmt::Write as _;

use serde_json::Value;

/// Returns the text between the quotes for a JSON value.
pub(super) fn encode(value: &Value) -> String {
    let json = value.to_string();
    let mut literal = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '\\' => literal.push_str("\\\\"),
            ' ' | '"' | '{' | '}' | '[' | ']' | ',' | ':' | '.' | '_' | '/' | '@' | '-' => {
                literal.push(character);
            }
            plain if plain.is_ascii_alphanumeric() => literal.push(plain),
            other => {
                // serde_json escapes control characters itself, so anything else here is inside a string.
                let mut units = [0; 2];
                for unit in other.encode_utf16(&mut units) {
                    write!(literal, "\\\\u{unit:04x}").expect("a String takes everything");
                }
            }
        }
    }
    literal
}

/// Parses the text between the quotes; `None` for anything that [`encode`] does not write.
pub(super) fn decode(literal: &str) -> Option<Value> {
    let mut json = String::with_capacity(literal.len());
    let mut characters = literal.chars();
    while let Some(character) = characters.next() {
        match character {
            '\'' => return None,
            '\\' if characters.next() != Some('\\') => return None,
            plain => json.push(plain),
        }
    }
    serde_json::from_str(&json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_literal_has_neither_quotes_nor_line_ends_nor_comment_signs() {
        let value = json!({"scope": "it's # COMMAND ----------\n\r\u{2028}\u{0085}\u{7f}\0 \\ \" é 🦀"});
        let literal = encode(&value);
        assert!(literal.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        assert!(!literal.contains(['\'', '#']));
        assert_eq!(decode(&literal), Some(value));
    }

    #[test]
    fn every_backslash_is_doubled() {
        let literal = encode(&json!("a\\b\"c\n"));
        assert_eq!(literal, r#""a\\\\b\\"c\\n""#);
    }

    #[test]
    fn what_was_not_written_by_us_is_not_read() {
        assert_eq!(decode("{}' + ''"), None);
        assert_eq!(decode(r"\n{}"), None);
        assert_eq!(decode("{"), None);
        assert_eq!(decode("\\"), None);
    }
}
