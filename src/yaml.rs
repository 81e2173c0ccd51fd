//! YAML from other tools: read with limits; errors name the line.

use std::io::Read;

use serde::de::DeserializeOwned;

/// Largest file, in bytes: far more than any that is read here.
const LONGEST: u64 = 1 << 20;

/// Maximum number of nodes in a document, counting each use of an alias.
const MOST_NODES: usize = 20_000;

/// Why a file was not read. It never quotes the text, which may contain secrets.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadYaml {
    #[error(transparent)]
    Unread(std::io::Error),
    #[error("it is longer than {LONGEST} bytes")]
    TooLong,
    #[error("it is not text")]
    NotText,
    /// Not YAML, or not of the expected structure; the place is line and column.
    #[error("{}{why}", .place.map(|(line, column)| format!("line {line}, column {column}: ")).unwrap_or_default())]
    At { place: Option<(u64, u64)>, why: &'static str },
}

/// Reads one document. A string is kept as written, quoted or not.
pub(crate) fn read<T: DeserializeOwned>(from: impl Read) -> Result<T, BadYaml> {
    let mut bytes = Vec::new();
    from.take(LONGEST + 1).read_to_end(&mut bytes).map_err(BadYaml::Unread)?;
    if bytes.len() as u64 > LONGEST {
        return Err(BadYaml::TooLong);
    }
    let text = String::from_utf8(bytes).map_err(|_| BadYaml::NotText)?;
    let options = serde_yaml::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
        budget: serde_yaml::budget! { max_nodes: MOST_NODES },
    };
    serde_yaml::from_str_with_options(&text, options)
        .map_err(|error| BadYaml::At { place: error.location().map(|at| (at.line(), at.column())), why: why(&error) })
}

/// The library's own messages may quote the file.
#[expect(clippy::wildcard_enum_match_arm, reason = "the library's errors, of which there are many")]
fn why(error: &serde_yaml::Error) -> &'static str {
    use serde_yaml::Error;
    match error {
        Error::Budget { .. } => "it holds too much",
        Error::AliasError { .. } => "unknown alias, or too many",
        Error::DuplicateMappingKey { .. } => "duplicate key",
        Error::MultipleDocuments { .. } => "a second document starts here",
        Error::Unexpected { .. } | Error::SerdeInvalidType { .. } | Error::SerdeInvalidValue { .. } => {
            "unexpected type of value"
        }
        _ => "it is not YAML, is nested too deeply, or has an unexpected structure",
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(default)]
    struct Doc {
        id: Option<String>,
        list: Option<Vec<Doc>>,
    }

    fn said(text: &[u8]) -> String {
        match read::<Doc>(text) {
            Ok(doc) => format!("{doc:?}"),
            Err(bad) => bad.to_string(),
        }
    }

    #[test]
    fn a_text_stays_as_it_is_written() {
        for text in ["12", "014", "1_000", "no", "on", "2026-01-01", "12:30:45", "0x1f", "1e5", "1.10"] {
            let plain: Doc = read(format!("id: {text}\nother: [1, {{a: b}}]\n").as_bytes()).unwrap();
            assert_eq!(plain.id.as_deref(), Some(text));
            let quoted: Doc = read(format!("id: \"{text}\"\n").as_bytes()).unwrap();
            assert_eq!(quoted.id.as_deref(), Some(text));
        }
        for text in ["", "id:\n", "id: ~\n", "# nothing\n", "{}"] {
            assert_eq!(read::<Doc>(text.as_bytes()).unwrap().id, None, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_yaml_is_refused_with_its_place_and_nothing_of_its_text() {
        for (text, part) in [
            ("id: 1\nid: secret-1\n", "line 2, column 1: duplicate key"),
            ("id: 1\n\tsecret-1: x\n", "line 1"),
            ("id: {a: secret-1}\n", "line 1"),
            ("list: secret-1\n", "line 1"),
            ("list:\n  - secret-1\n", "line 2"),
            ("secret-1\n", "line 1"),
            ("id: *secret-1\n", "line 1"),
            ("id: [secret-1\n", "line"),
            ("id: 1\n---\nid: secret-1\n", "line"),
            ("id: \"secret-1\n", "line"),
            ("id: !secret-1 {}\n", "line 1"),
        ] {
            let said = said(text.as_bytes());
            assert!(said.contains(part) && !said.contains("secret-1"), "{text:?}: {said}");
        }
        assert_eq!(said(&[b'i', b'd', b':', b' ', 0xff]), "it is not text");
    }

    #[test]
    fn what_is_made_to_hurt_is_refused_at_once() {
        let begun = Instant::now();
        let deep = "[".repeat(100_000);
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let inner = vec![format!("*a{}", level - 1); 10].join(", ");
            let _ = writeln!(laughs, "a{level}: &a{level} [{inner}]");
        }
        let many = format!("list: [{}]", "{id: 1},".repeat(30_000));
        for text in [deep, laughs, many] {
            let said = said(text.as_bytes());
            assert!(said.starts_with("line ") && said.contains("too "), "{said}");
        }
        assert!(said(&vec![b'#'; (1 << 20) + 1]).contains("longer than 1048576 bytes"));
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}
