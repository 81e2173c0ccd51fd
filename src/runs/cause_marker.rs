//! The key of a start, and the marker that carries it in `cause`, where dbt keeps it for us.

use sha2::{Digest as _, Sha256};

use crate::context::Entropy;
use crate::text::hex;

/// Longest `cause`, in bytes (dbt does not say whether characters or bytes).
const CAUSE_LIMIT: usize = 255;

/// Longest key, in characters. Leaves room in `cause` for a short text.
const KEY_LIMIT: usize = 200;

/// Hex digits appended to a key with uppercase letters.
const DIGEST: usize = 8;

/// The idempotency key: starts with the same key are one start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key(String);

/// Why a key is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadKey {
    #[error("it is empty")]
    Empty,
    #[error("it has more than {KEY_LIMIT} characters")]
    TooLong,
    #[error("it contains {0:?}; use letters, digits, and . _ : / -")]
    Character(char),
    /// The cause ends up in SQL comments.
    #[error("it contains `--`, which starts an SQL comment")]
    CommentMark,
}

impl Key {
    /// The key in the marker of a `cause`. A start with this key makes the same marker.
    pub(crate) fn in_cause(cause: &str) -> Option<Key> {
        let cause = cause.to_ascii_lowercase();
        let (_, behind) = cause.split_once("[dbtrigger:")?;
        let (key, _) = behind.split_once(']')?;
        Key::parse(key).ok()
    }

    /// Parses a key from the user.
    pub(crate) fn parse(text: &str) -> Result<Key, BadKey> {
        if text.is_empty() {
            return Err(BadKey::Empty);
        }
        let odd = |character: &char| !character.is_ascii_alphanumeric() && !"._:/-".contains(*character);
        if let Some(character) = text.chars().find(odd) {
            return Err(BadKey::Character(character));
        }
        if text.len() > KEY_LIMIT {
            return Err(BadKey::TooLong);
        }
        if text.contains("--") {
            return Err(BadKey::CommentMark);
        }
        Ok(Key(text.to_owned()))
    }

    /// The key for retrying this run, the same for every caller.
    pub(crate) fn of_resumption(run: u64) -> Key {
        Key(format!("failed-run-{run}"))
    }

    /// A new, unique key.
    pub(crate) fn fresh(entropy: &Entropy) -> Key {
        Key(entropy.name())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The marker in `cause`. Lower case, in case the service does not preserve case; a key with uppercase letters gets
    /// a digest to stay distinct.
    pub(crate) fn marker(&self) -> String {
        let Key(key) = self;
        if !key.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return format!("[dbtrigger:{key}]");
        }
        let digest = hex(Sha256::digest(key));
        format!("[dbtrigger:{}-{}]", key.to_ascii_lowercase(), &digest[..DIGEST])
    }

    /// The Databricks idempotency token for this key and job: 64 characters, the longest allowed.
    pub(crate) fn token(&self, workflow: u64) -> String {
        hex(Sha256::digest(format!("dbtrigger/{workflow}/{}", self.0)))
    }
}

/// Builds the `cause`: the marker, then text for people, in at most 255 bytes. The marker comes first, so that it
/// survives truncation.
///
/// dbt writes the text into SQL comments, and macros paste it into SQL strings, so it has no quotes, backslashes,
/// control characters or comment marks. It has no brackets either, so that it cannot contain another marker.
pub(crate) fn cause(text: &str, key: &Key) -> String {
    let marker = key.marker();
    let mut plain: String = text
        .chars()
        .map(|character| match character {
            '"' | '\'' | '`' | '\\' | '{' | '}' => ' ',
            '[' => '(',
            ']' => ')',
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => ' ',
            _ if character.is_control() => ' ',
            _ => character,
        })
        .collect();
    // Removing one mark can create another.
    while let Some(mark) = ["--", "/*", "*/"].into_iter().find(|mark| plain.contains(mark)) {
        plain = plain.replace(mark, if mark == "--" { "-" } else { " " });
    }
    let plain = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut room = (CAUSE_LIMIT - marker.len()).saturating_sub(1).min(plain.len());
    while !plain.is_char_boundary(room) {
        room -= 1;
    }
    let plain = plain[..room].trim_end();
    if plain.is_empty() { marker } else { format!("{marker} {plain}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_holds_only_what_is_harmless_in_every_place_it_ends_up_in() {
        for (text, bad) in [
            ("", Some(BadKey::Empty)),
            ("a b", Some(BadKey::Character(' '))),
            ("a]b", Some(BadKey::Character(']'))),
            ("ä", Some(BadKey::Character('ä'))),
            ("a--b", Some(BadKey::CommentMark)),
            ("2026-11-23/orders:nightly_1.a", None),
        ] {
            assert_eq!(Key::parse(text).err(), bad, "{text}");
        }
        assert_eq!(Key::parse(&"a".repeat(201)).err(), Some(BadKey::TooLong));
        assert_eq!(Key::parse(&"a".repeat(200)).unwrap().token(7).len(), 64);
    }

    #[test]
    fn the_key_is_read_back_from_a_cause() {
        assert_eq!(Key::in_cause(&cause("why", &Key::parse("a/1").unwrap())).unwrap().as_str(), "a/1");
        assert_eq!(Key::in_cause("why [DBTRIGGER:A/1]").unwrap().as_str(), "a/1");
        for cause in ["", "why", "[dbtrigger:a", "[dbtrigger:]", "[dbtrigger:a b]"] {
            assert_eq!(Key::in_cause(cause), None, "{cause}");
        }
    }

    #[test]
    fn tokens_differ_by_job_and_key_and_are_the_same_each_time() {
        let key = Key::parse("k").unwrap();
        assert_eq!(key.token(1), key.token(1));
        assert_ne!(key.token(1), key.token(2));
        assert_ne!(key.token(1), Key::parse("l").unwrap().token(1));
    }

    #[test]
    fn keys_that_differ_only_in_case_have_markers_of_their_own_in_lower_case() {
        let marker = |key: &str| Key::parse(key).unwrap().marker();
        assert_eq!(marker("nightly"), "[dbtrigger:nightly]");
        let capital = marker("Nightly");
        assert!(capital.starts_with("[dbtrigger:nightly-") && capital != marker("NIGHTLY"), "{capital}");
        assert_eq!(capital, capital.to_ascii_lowercase());
        // The key parsed from a cause has the same marker.
        assert_eq!(Key::in_cause(&capital).unwrap().marker(), capital);
    }

    #[test]
    fn whatever_is_said_the_cause_is_harmless_and_begins_with_the_marker() {
        let longest = Key::parse(&"K".repeat(200)).unwrap();
        let short = Key::parse("k").unwrap();
        for text in [
            "",
            "nightly build",
            "it's \"quoted\" \\ `here`",
            "a\nb\u{0}c\u{1b}[31m",
            "-- drop */ table /* x ----y",
            "-/**/- and /-*-/*",
            "[dbtrigger:other]",
            "{{ env_var('X') }}",
            &"ä".repeat(300),
            &"-".repeat(300),
        ] {
            for key in [&longest, &short] {
                let cause = cause(text, key);
                let front = cause.strip_prefix(&key.marker()).unwrap();
                assert!(cause.len() <= 255, "{cause}");
                assert!(!front.contains(['"', '\'', '\\', '`', '[', ']', '\n']), "{cause}");
                assert!(!front.contains("--") && !front.contains("/*") && !front.contains("*/"), "{cause}");
            }
        }
        assert_eq!(cause("nightly build", &short), "[dbtrigger:k] nightly build");
        assert_eq!(cause(" ", &short), "[dbtrigger:k]");
    }
}
