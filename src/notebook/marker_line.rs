//! The marker line, which tells a later deploy whether a notebook is unchanged, outdated or edited by hand.

use std::cmp::Ordering;

use sha2::{Digest, Sha256};

use crate::text::hex;

/// Start of the marker line.
pub(super) const PREFIX: &str = "# dbtrigger-notebook:";
const CELL: &str = "# COMMAND ----------";

/// The marker line in the first cell.
pub(super) struct Marker {
    /// Empty if the line is damaged.
    pub(super) version: String,
    /// Whether the body matches the digest in the marker.
    pub(super) intact: bool,
}

/// Removes what import and export may change: byte order mark, CRLF, trailing white space.
pub(crate) fn normalise(text: &str) -> String {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.replace("\r\n", "\n").trim_end().to_owned()
}

/// Replaces the text's marker line by one for this version.
pub(super) fn put(text: &str, version: &str) -> String {
    let lines: Vec<&str> = text.split('\n').collect();
    let place = find(&lines).expect("the template has a marker line, a test sees to that");
    let marker = format!("{PREFIX} version={version} sha256={}", digest_without(&lines, place));
    let mut text = lines;
    text[place] = &marker;
    text.join("\n")
}

/// The marker of a normalized text.
pub(super) fn read(text: &str) -> Option<Marker> {
    let lines: Vec<&str> = text.split('\n').collect();
    let place = find(&lines)?;
    let said = lines[place][PREFIX.len()..].strip_prefix(" version=").and_then(|rest| rest.split_once(" sha256="));
    Some(match said {
        Some((version, digest)) => {
            Marker { version: version.to_owned(), intact: digest == digest_without(&lines, place) }
        }
        None => Marker { version: String::new(), intact: false },
    })
}

/// Only the first cell counts: a marker further down may be quoted text.
fn find(lines: &[&str]) -> Option<usize> {
    lines.iter().take_while(|line| line.trim_end() != CELL).position(|line| line.starts_with(PREFIX))
}

/// The digest that the text's marker should contain; `None` for a text without a marker.
pub(crate) fn digest(text: &str) -> Option<String> {
    let text = normalise(text);
    let lines: Vec<&str> = text.split('\n').collect();
    find(&lines).map(|place| digest_without(&lines, place))
}

fn digest_without(lines: &[&str], place: usize) -> String {
    let mut body = lines.to_vec();
    body.remove(place);
    hex(Sha256::digest(normalise(&body.join("\n"))))
}

/// Orders versions of the form `MAJOR.MINOR.PATCH[-PRE]`; `None` if one of them has another form.
pub(crate) fn compare_versions(left: &str, right: &str) -> Option<Ordering> {
    let (left, left_pre) = parse_version(left)?;
    let (right, right_pre) = parse_version(right)?;
    Some(left.cmp(&right).then_with(|| match (left_pre, right_pre) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater, // 1.0.0 comes after 1.0.0-rc.1
        (Some(_), None) => Ordering::Less,
        (Some(left), Some(right)) => compare_pre(left, right),
    }))
}

fn parse_version(text: &str) -> Option<([u64; 3], Option<&str>)> {
    let text = text.split('+').next()?;
    let (numbers, pre) = match text.split_once('-') {
        Some((numbers, pre)) => (numbers, Some(pre)),
        None => (text, None),
    };
    let numbers: Vec<u64> = numbers.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    Some((numbers.try_into().ok()?, pre))
}

fn compare_pre(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.split('.'), right.split('.'));
    loop {
        let ordering = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(left), Some(right)) => match (left.parse::<u64>(), right.parse::<u64>()) {
                (Ok(left), Ok(right)) => left.cmp(&right),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => left.cmp(right),
            },
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_semantic_versions() {
        let ascending = [
            "0.1.0-alpha",
            "0.1.0-alpha.1",
            "0.1.0-alpha.beta",
            "0.1.0-rc.2",
            "0.1.0-rc.11",
            "0.1.0",
            "0.2.0",
            "0.10.0",
            "1.0.0",
        ];
        for pair in ascending.windows(2) {
            assert_eq!(compare_versions(pair[0], pair[1]), Some(Ordering::Less), "{pair:?}");
            assert_eq!(compare_versions(pair[1], pair[0]), Some(Ordering::Greater), "{pair:?}");
        }
        assert_eq!(compare_versions("1.0.0+a", "1.0.0+b"), Some(Ordering::Equal));
        assert_eq!(compare_versions("1.0", "1.0.0"), None);
        assert_eq!(compare_versions("", "1.0.0"), None);
    }

    #[test]
    fn only_what_import_changes_is_normalised() {
        assert_eq!(normalise("\u{feff}a \r\n\tb\r\n\r\n"), "a \n\tb");
        assert_eq!(normalise("a\rb"), "a\rb");
    }
}
