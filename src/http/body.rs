//! Reads a body up to its size limit. Long JSON strings are cut to both ends on request, so that huge logs do not push
//! the other fields over the limit.

use bytes::Bytes;

use super::transport::{Limits, WireError};

/// Replaces the omitted middle of a string.
const GAP: &[u8] = b" [...] ";

/// A body being received.
pub(crate) struct BodyReader {
    kept: Vec<u8>,
    cap: usize,
    longest: Option<usize>,
    place: Place,
}

/// Where the next byte is in the JSON.
#[derive(Clone, Copy)]
enum Place {
    Outside,
    Text(Text),
    /// After a backslash.
    Escape(Text),
    /// In the digits of `\uXXXX`, with the number of digits left.
    Digits(Text, u8),
}

/// A string, as offsets into `kept`. Cuts happen only before printable ASCII, so no character and no escape is split.
#[derive(Clone, Copy)]
struct Text {
    begin: usize,
    /// End of the head; what follows may be omitted.
    after_head: Option<usize>,
    /// Start of the newest part.
    newest: usize,
    has_gap: bool,
}

impl BodyReader {
    pub(crate) fn new(limits: Limits) -> BodyReader {
        let Limits { attempt: _, cap, longest_text } = limits;
        BodyReader { kept: Vec::new(), cap, longest: longest_text, place: Place::Outside }
    }

    /// # Errors
    /// Returns [`WireError::TooLarge`] if the kept bytes exceed the limit.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Result<(), WireError> {
        let Some(longest) = self.longest else {
            self.kept.extend_from_slice(chunk);
            return self.fits();
        };
        for byte in chunk {
            self.place = match self.place {
                Place::Outside if *byte == b'"' => {
                    let begin = self.kept.len() + 1;
                    Place::Text(Text { begin, after_head: None, newest: begin, has_gap: false })
                }
                Place::Outside => Place::Outside,
                Place::Text(text) => match *byte {
                    b'"' => Place::Outside,
                    b'\\' => Place::Escape(text),
                    b' '..=b'~' => Place::Text(self.shorten(text, longest)),
                    _ => Place::Text(text),
                },
                Place::Escape(text) if *byte == b'u' => Place::Digits(text, 4),
                Place::Escape(text) | Place::Digits(text, 1) => Place::Text(text),
                Place::Digits(text, left) => Place::Digits(text, left - 1),
            };
            self.kept.push(*byte);
        }
        self.fits()
    }

    /// Omits the middle of a long string, between its head and its newest part.
    fn shorten(&mut self, mut text: Text, longest: usize) -> Text {
        let here = self.kept.len();
        match text.after_head {
            None if here - text.begin >= longest => {
                (text.after_head, text.newest) = (Some(here), here);
            }
            Some(from) if here - text.newest >= longest => {
                if text.newest > from {
                    let gap = if text.has_gap { &[][..] } else { GAP };
                    self.kept.splice(from..text.newest, gap.iter().copied());
                    (text.after_head, text.has_gap) = (Some(from + gap.len()), true);
                }
                text.newest = self.kept.len();
            }
            None | Some(_) => {}
        }
        text
    }

    fn fits(&self) -> Result<(), WireError> {
        if self.kept.len() > self.cap { Err(WireError::TooLarge) } else { Ok(()) }
    }

    pub(crate) fn done(self) -> Bytes {
        Bytes::from(self.kept)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    fn taken(body: &str, chunk: usize, longest: Option<usize>, cap: usize) -> Result<Value, WireError> {
        let mut reader = BodyReader::new(Limits { attempt: Duration::MAX, cap, longest_text: longest });
        for part in body.as_bytes().chunks(chunk) {
            reader.push(part)?;
        }
        Ok(serde_json::from_slice(&reader.done()).expect("it is still JSON"))
    }

    #[test]
    fn long_texts_keep_both_ends_and_everything_else_stays() {
        let (mut good, mut total) = (0, 0);
        for piece in ["a", "\u{1} ", "line \u{1b}[31m\n", "ä😀\\ \" ", "x\\u0041"] {
            for repeats in [1, 7, 40, 5_000] {
                for chunk in [1, 3, 1024] {
                    let log = format!("first {} last", piece.repeat(repeats));
                    let body = json!({ "index": 4, "logs": log, "more": ["short", { "name": "dbt \"build\"" }] });
                    for text in [body.to_string(), body.to_string().replace('😀', "\\ud83d\\ude00")] {
                        let value = taken(&text, chunk, Some(64), 4096).unwrap();
                        let kept = value["logs"].as_str().unwrap();
                        let short =
                            kept.len() <= log.len().min(800) && kept.starts_with("first") && kept.ends_with("last");
                        let rest = value["more"] == body["more"] && value["index"] == 4;
                        total += 1;
                        good += usize::from(short && rest && (log.len() > 64 || kept == log));
                    }
                }
            }
        }
        crate::sim::say(&format!("long texts are shortened, and nothing else: {good} of {total}"));
        assert_eq!(good, total);
    }

    #[test]
    fn a_cap_holds_for_what_is_kept() {
        let body = json!({ "logs": "x ".repeat(4_000) }).to_string();
        assert!(taken(&body, 512, Some(64), 1_000).is_ok());
        assert_eq!(taken(&body, 512, None, 1_000), Err(WireError::TooLarge));
        let many = json!(vec!["x"; 1_000]).to_string();
        assert_eq!(taken(&many, 512, Some(64), 1_000), Err(WireError::TooLarge));
    }
}
