//! Secrets, and the filter that knows them.
//!
//! A [`Secret`] comes into being in one way, [`Vault::admit`], which teaches the output filter every form in
//! which the value could show. It has no `Display`, no `Serialize`, and stars for `Debug`.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::fmt::Write as _;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// What stands in the place of a secret in everything that is printed, logged or written.
pub(crate) const MASK: &str = "[secret]";

/// Shorter texts are not searched for: masking every `abc` would ruin the output and protect nothing.
const SHORTEST_FORM: usize = 6;

/// Whether a text begins as tokens of the two services do. What was pasted into the wrong place is not repeated.
pub(crate) fn looks_like_a_token(text: &str) -> bool {
    ["dapi", "dbtc_", "dbtu_"].iter().any(|front| text.trim().starts_with(front)) && text.trim().len() > 12
}

/// A value that must not be seen. Wiped from memory when dropped.
#[derive(Clone)]
pub(crate) struct Secret(Zeroizing<String>);

impl Secret {
    /// The value, for the one place that has to send it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// A text that holds a token, or may hold one, before [`Vault::admit`] has looked at it. Wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Sealed(Zeroizing<String>);

impl Sealed {
    /// The text, for whoever reads it or hands it to the keyring.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Sealed, D::Error> {
        String::deserialize(from).map(Sealed::from)
    }
}

impl From<String> for Sealed {
    fn from(text: String) -> Sealed {
        Sealed(Zeroizing::new(text))
    }
}

impl From<Zeroizing<String>> for Sealed {
    fn from(text: Zeroizing<String>) -> Sealed {
        Sealed(text)
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// Why a text is not taken as a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Odd {
    Empty,
    SeveralLines,
    Blank,
    Quoted,
    Control,
    NotAscii,
}

impl fmt::Display for Odd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Odd::Empty => "it is empty",
            Odd::SeveralLines => "it has more than one line",
            Odd::Blank => "it has a space or tab in it",
            Odd::Quoted => "it is wrapped in quotation marks",
            Odd::Control => "it has a control character in it",
            Odd::NotAscii => "it has a character in it that no token has (perhaps an invisible one from pasting)",
        })
    }
}

/// Makes secrets, and hands the filter that knows them to whoever writes anything anywhere.
#[derive(Clone, Default)]
pub(crate) struct Vault {
    filter: Filter,
    /// What a person typed, under the variable that would say it; the newest last.
    kept: Rc<RefCell<Vec<(&'static str, Secret)>>>,
}

impl Vault {
    /// Takes `text` as a token: cuts one trailing line ending, refuses whatever no token holds.
    pub(crate) fn admit(&self, text: String) -> Result<Secret, Odd> {
        self.unseal(&Sealed::from(text))
    }

    /// The same for a text that is wiped already.
    pub(crate) fn unseal(&self, text: &Sealed) -> Result<Secret, Odd> {
        let text = text.reveal();
        let value = text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text);
        if value.is_empty() {
            return Err(Odd::Empty);
        }
        if value.contains(['\n', '\r']) {
            return Err(Odd::SeveralLines);
        }
        if value.contains([' ', '\t']) {
            return Err(Odd::Blank);
        }
        if value.starts_with(['"', '\'', '`']) || value.ends_with(['"', '\'', '`']) {
            return Err(Odd::Quoted);
        }
        if value.chars().any(char::is_control) {
            return Err(Odd::Control);
        }
        if !value.is_ascii() {
            return Err(Odd::NotAscii);
        }
        self.filter.learn(value);
        Ok(Secret(Zeroizing::new(value.to_owned())))
    }

    /// Keeps what a person typed, in the place of a variable.
    pub(crate) fn keep(&self, variable: &'static str, secret: Secret) {
        self.kept.borrow_mut().push((variable, secret));
    }

    /// Drops what was kept: the service refused it.
    pub(crate) fn forget(&self, variable: &str) {
        self.kept.borrow_mut().retain(|(known, _)| *known != variable);
    }

    /// What a person typed in the place of this variable.
    pub(crate) fn kept(&self, variable: &str) -> Option<Secret> {
        self.kept.borrow().iter().rev().find(|(known, _)| *known == variable).map(|(_, secret)| secret.clone())
    }

    pub(crate) fn filter(&self) -> Filter {
        self.filter.clone()
    }
}

/// Replaces every known secret, in each form in which it could show, by [`MASK`].
#[derive(Clone, Default)]
pub(crate) struct Filter {
    forms: Rc<RefCell<Vec<Zeroizing<String>>>>,
}

impl fmt::Debug for Filter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Filter({} forms)", self.forms.borrow().len())
    }
}

impl Filter {
    /// The text without any secret in it.
    pub(crate) fn clean<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut cleaned = Cow::Borrowed(text);
        for form in self.forms.borrow().iter() {
            if cleaned.contains(form.as_str()) {
                cleaned = Cow::Owned(cleaned.replace(form.as_str(), MASK));
            }
        }
        self.without_cut_forms(cleaned)
    }

    /// Long texts of services are cut and end with `…`: the cut may go through a secret, whose beginning is left then.
    fn without_cut_forms<'a>(&self, text: Cow<'a, str>) -> Cow<'a, str> {
        let mut pieces: Vec<Cow<'_, str>> = text.split('…').map(Cow::Borrowed).collect();
        let cuts = pieces.len() - 1;
        let mut changed = false;
        for piece in &mut pieces[..cuts] {
            let forms = self.forms.borrow();
            let beginning = forms.iter().filter_map(|form| {
                // Forms and so their beginnings are ASCII.
                (SHORTEST_FORM..form.len()).rev().find(|length| piece.ends_with(&form[..*length]))
            });
            if let Some(length) = beginning.max() {
                *piece = Cow::Owned(format!("{}{MASK}", &piece[..piece.len() - length]));
                changed = true;
            }
        }
        if changed { Cow::Owned(pieces.join("…")) } else { text }
    }

    fn learn(&self, value: &str) {
        let mut forms = self.forms.borrow_mut();
        for form in forms_of(value) {
            if form.len() >= SHORTEST_FORM && !forms.iter().any(|known| **known == *form) {
                forms.push(form);
            }
        }
        // The longest first, so that a shorter form never leaves the rest of a longer one behind.
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    }
}

/// Plain, hex, URL-encoded, JSON-escaped, and base64 at each of its three alignments in both alphabets.
fn forms_of(value: &str) -> Vec<Zeroizing<String>> {
    let bytes = value.as_bytes();
    let mut hex = String::new();
    let mut percent = String::new();
    for byte in bytes {
        let _ = write!(hex, "{byte:02x}");
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(byte) {
            percent.push(char::from(*byte));
        } else {
            let _ = write!(percent, "%{byte:02X}");
        }
    }
    let json = serde_json::to_string(value).unwrap_or_default();
    let mut forms = vec![
        value.to_owned(),
        hex.to_uppercase(),
        hex,
        percent.to_lowercase(),
        percent,
        json.trim_matches('"').to_owned(),
    ];
    for shift in 0..3_usize {
        let mut shifted = vec![0_u8; shift];
        shifted.extend_from_slice(bytes);
        // Characters that also depend on the neighbours are left out: 1, 2 or 3 at the front, up to one at the back.
        let front = [0, 2, 3][shift];
        let back = usize::from(shifted.len() % 3 != 0);
        for text in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
            forms.push(text.get(front..text.len() - back).unwrap_or_default().to_owned());
        }
    }
    forms.into_iter().map(Zeroizing::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "dbtc_aB3-xyz/+0123456789==";

    fn knowing() -> (Vault, Filter) {
        let vault = Vault::default();
        vault.admit(TOKEN.to_owned()).unwrap();
        let filter = vault.filter();
        (vault, filter)
    }

    #[test]
    fn each_form_of_a_secret_is_masked_at_each_alignment() {
        let (_vault, filter) = knowing();
        for pad in ["", "a", "ab", "abc"] {
            for tail in ["", "z", "zz"] {
                let framed = format!("{pad}{TOKEN}{tail}");
                let encoded = STANDARD_NO_PAD.encode(&framed);
                let cleaned = filter.clean(&encoded);
                assert!(cleaned.contains(MASK), "{pad:?} {tail:?}: {encoded}");
            }
        }
        let mut hex = String::new();
        for byte in TOKEN.bytes() {
            let _ = write!(hex, "{byte:02x}");
        }
        for text in [TOKEN.to_owned(), hex, "dbtc_aB3-xyz%2F%2B0123456789%3D%3D".to_owned()] {
            assert_eq!(filter.clean(&format!("<{text}>")), format!("<{MASK}>"));
        }
    }

    #[test]
    fn the_beginning_of_a_secret_before_a_cut_is_masked() {
        let (_vault, filter) = knowing();
        assert_eq!(filter.clean(&format!("said: {}… (9 bytes)", &TOKEN[..15])), format!("said: {MASK}… (9 bytes)"));
        assert_eq!(filter.clean("said: dbtc…, dbt…"), "said: dbtc…, dbt…");
        assert_eq!(filter.clean(&format!("ä… {}…", &TOKEN[..9])), format!("ä… {MASK}…"));
    }

    #[test]
    fn one_line_ending_is_cut_and_anything_else_odd_is_refused_with_the_reason() {
        let vault = Vault::default();
        assert_eq!(vault.admit("token-1234\r\n".into()).unwrap().reveal(), "token-1234");
        for (text, odd) in [
            ("", Odd::Empty),
            ("\n", Odd::Empty),
            ("a\n\n", Odd::SeveralLines),
            ("a b", Odd::Blank),
            ("\"abc\"", Odd::Quoted),
            ("a\u{7}b", Odd::Control),
            ("a\u{200b}b", Odd::NotAscii),
        ] {
            assert_eq!(vault.admit(text.into()).unwrap_err(), odd, "{text:?}");
        }
    }

    #[test]
    fn a_secret_shows_stars_in_debug_output() {
        let (vault, _filter) = knowing();
        let secret = vault.admit("token-1234".into()).unwrap();
        assert_eq!(format!("{secret:?}"), "***");
    }
}
