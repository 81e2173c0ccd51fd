//! The mark in the description of a task added to someone else's workflow, since tasks have no tags. Pure.

use serde::Serialize;
use serde_json::json;

use crate::databricks::raw::Raw;
use crate::engine::kinds::digest::digest;

/// The description around the mark if there was none.
const WORDS: &str = "Starts a dbt job and waits for it.";
const OPEN: &str = "[dbtrigger ";
/// Version of the digest's input, raised when other fields are managed.
const VERSION: &str = "1-";
const DIGITS: usize = 16;
/// Longest description that Databricks accepts, in characters.
const LONGEST: usize = 1000;

/// `[dbtrigger KEY 1-0123456789abcdef]`: the task's original key, whatever it was renamed to, and a digest of what
/// we wrote last, which tells "edited by hand" from "to be changed".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) key: String,
    pub(super) digest: String,
}

impl Mark {
    pub(super) fn new(key: &str, state: &(impl Serialize + ?Sized)) -> Mark {
        Mark { key: key.to_owned(), digest: Mark::digest(state) }
    }

    pub(super) fn digest(state: &(impl Serialize + ?Sized)) -> String {
        format!("{VERSION}{}", digest(&json!(state).to_string(), DIGITS))
    }

    /// Whether a digest covers the fields that this version manages.
    pub(super) fn is_current(digest: &str) -> bool {
        digest.starts_with(VERSION)
    }

    pub(super) fn text(&self) -> String {
        let Mark { key, digest } = self;
        format!("{OPEN}{key} {digest}]")
    }

    /// The mark of a task, if it has one.
    pub(super) fn of(task: &Raw) -> Option<Mark> {
        let description: String = task.read("description")?;
        split(&description).map(|(_, mark, _)| mark)
    }

    /// The description with this mark in it; the text around it stays.
    pub(super) fn described(&self, task: Option<&Raw>) -> String {
        let there: Option<String> = task.and_then(|task| task.read("description"));
        let mark = self.text();
        match there.as_deref().map(|there| (there, split(there))) {
            Some((_, Some((before, _, after)))) => format!("{before}{mark}{after}"),
            Some((words, None)) if !words.trim().is_empty() => format!("{words} {mark}"),
            Some((_, None)) | None => format!("{WORDS} {mark}"),
        }
    }

    /// Whether the description would exceed Databricks' limit.
    pub(super) fn has_no_room(&self, task: Option<&Raw>) -> bool {
        self.described(task).chars().count() > LONGEST
    }
}

/// The first mark, with the text before and after it. Other text may begin like a mark.
fn split(description: &str) -> Option<(&str, Mark, &str)> {
    description.match_indices(OPEN).find_map(|(place, _)| {
        let (inside, after) = description[place + OPEN.len()..].split_once(']')?;
        Some((&description[..place], read(inside)?, after))
    })
}

/// Parses the text between the brackets; `None` unless this or another version of dbtrigger wrote it.
fn read(inside: &str) -> Option<Mark> {
    let (key, digest) = inside.split_once(' ')?;
    let (version, digits) = digest.split_once('-')?;
    let is_ours = !key.is_empty()
        && !version.is_empty()
        && version.bytes().all(|byte| byte.is_ascii_digit())
        && digits.len() == DIGITS
        && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_ours.then(|| Mark { key: key.to_owned(), digest: digest.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(description: &str) -> Raw {
        let mut task = Raw::default();
        task.set("description", description);
        task
    }

    #[test]
    fn a_mark_is_found_among_the_words_of_others_which_stay() {
        let mark = Mark::new("dbt_222222", &"state");
        assert_eq!(mark.described(None), format!("Starts a dbt job and waits for it. {}", mark.text()));
        assert_eq!(mark.described(Some(&described(" "))), mark.described(None));
        for (there, expected) in [
            ("Finance's".to_owned(), format!("Finance's {}", mark.text())),
            ("Ask Bo [dbtrigger old 1-0123456789abcdef] first".to_owned(), format!("Ask Bo {} first", mark.text())),
            ("See [dbtrigger docs]".to_owned(), format!("See [dbtrigger docs] {}", mark.text())),
            (
                format!("[dbtrigger nightly job] [dbtrigger {}", mark.text()),
                format!("[dbtrigger nightly job] [dbtrigger {}", mark.text()),
            ),
            (mark.described(None), mark.described(None)),
        ] {
            let written = mark.described(Some(&described(&there)));
            assert_eq!(written, expected);
            assert_eq!(Mark::of(&described(&written)), Some(mark.clone()));
        }
    }

    #[test]
    fn what_only_looks_like_a_mark_is_none() {
        for text in [
            "",
            "dbtrigger",
            "[dbtrigger ",
            "[dbtrigger ]",
            "[dbtrigger key]",
            "[dbtrigger docs]",
            "[dbtrigger nightly job]",
            "[dbtrigger  1-0123456789abcdef]",
            "[dbtrigger a b 1-0123456789abcdef]",
            "[dbtrigger a 1-0123456789abcde]",
            "[dbtrigger a 1-0123456789abcdef0]",
            "[dbtrigger a 1-0123456789ABCDEF]",
            "[dbtrigger a -0123456789abcdef]",
            "[dbtrigger a x-0123456789abcdef]",
            "[dbtrigger a 1-0123456789abcdef",
        ] {
            assert_eq!(Mark::of(&described(text)), None, "{text}");
        }
        assert_eq!(Mark::of(&Raw::default()), None);
    }
}
