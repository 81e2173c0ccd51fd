//! Secrets, and the filter that masks them.
//!
//! The only way to create a [`Secret`] is [`Vault::admit`], which teaches the output filter every form in which the
//! value could appear. It has no `Display`, no `Serialize`, and its `Debug` prints stars.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::fmt::Write as _;
use std::ops::Range;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::placeholder::Placeholder;

/// What replaces a secret in everything that is printed, logged or written.
pub(crate) const MASK: &str = "[secret]";

/// Shorter texts are not masked: masking every `abc` would ruin the output and protect nothing.
const SHORTEST_FORM: usize = 6;

/// Shortest token after its prefix, in characters; anything shorter is a name that begins alike.
const SHORTEST_TOKEN: usize = 12;

/// Whether a text begins like a token of Databricks or dbt, or contains one. Text pasted in the wrong place is not
/// repeated.
pub(crate) fn looks_like_a_token(text: &str) -> bool {
    let text = text.trim();
    holds_a_token(text) || ["dapi", "dbtc_", "dbtu_"].iter().any(|front| text.starts_with(front)) && text.len() > 12
}

/// Whether a text contains something of the form of a token: of dbt (`dbtc_`, `dbtu_`), a personal access token,
/// OAuth secret or notebook token of Databricks (`dapi`, `dose`, `dkea`, then hex), or a JWT.
pub(crate) fn holds_a_token(text: &str) -> bool {
    let behind = |front: &'static str, belongs: fn(char) -> bool| {
        text.match_indices(front).map(move |(at, _)| {
            let rest = &text[at + front.len()..];
            &rest[..rest.find(|sign| !belongs(sign)).unwrap_or(rest.len())]
        })
    };
    let in_name = |sign: char| sign.is_ascii_alphanumeric() || matches!(sign, '_' | '-');
    let of_dbt = ["dbtc_", "dbtu_"].into_iter().flat_map(|front| behind(front, in_name)).any(|rest| {
        // Thirty letters in a row are not a name; fewer are one unless they include a digit.
        rest.len() >= 30 || rest.len() >= SHORTEST_TOKEN && rest.contains(|sign: char| sign.is_ascii_digit())
    });
    let of_databricks = ["dapi", "dose", "dkea"]
        .into_iter()
        .flat_map(|front| behind(front, |sign| sign.is_ascii_hexdigit()))
        .any(|rest| rest.len() >= SHORTEST_TOKEN);
    let jwt = behind("eyJ", |sign| sign.is_ascii_alphanumeric() || matches!(sign, '_' | '-' | '.')).any(|rest| {
        let parts: Vec<&str> = rest.split('.').collect();
        parts.len() >= 3 && parts[..2].iter().all(|part| part.len() >= SHORTEST_TOKEN)
    });
    of_dbt || of_databricks || jwt
}

/// A secret value. Wiped from memory when dropped.
#[derive(Clone)]
pub(crate) struct Secret(Zeroizing<String>);

impl Secret {
    /// The value, for the code that sends it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// A text that is or may contain a token, before [`Vault::admit`] has checked it. Wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct UncheckedSecret(Zeroizing<String>);

impl UncheckedSecret {
    /// The text, for parsing it or passing it to the keyring.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for UncheckedSecret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<UncheckedSecret, D::Error> {
        String::deserialize(from).map(UncheckedSecret::from)
    }
}

impl From<String> for UncheckedSecret {
    fn from(text: String) -> UncheckedSecret {
        UncheckedSecret(Zeroizing::new(text))
    }
}

impl From<Zeroizing<String>> for UncheckedSecret {
    fn from(text: Zeroizing<String>) -> UncheckedSecret {
        UncheckedSecret(text)
    }
}

impl fmt::Debug for UncheckedSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// Why a text is not accepted as a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidSecret {
    #[error("it is empty")]
    Empty,
    #[error("it has more than one line")]
    SeveralLines,
    #[error("it contains a space or tab")]
    Blank,
    #[error("it is wrapped in quotation marks")]
    Quoted,
    #[error("it contains a control character")]
    Control,
    #[error("it contains a character that no token has (perhaps invisible, from pasting)")]
    NotAscii,
    #[error("it is {0}")]
    Unexpanded(Placeholder),
    #[error("it is in UTF-16: write it in UTF-8 (PowerShell: Set-Content -Encoding utf8NoBOM, or ascii)")]
    Utf16,
    #[error("it contains a carriage return outside a line ending")]
    CarriageReturn,
}

/// Creates secrets, and provides the filter that masks them in all output.
#[derive(Clone, Default)]
pub(crate) struct Vault {
    filter: Filter,
    /// Secrets that the user typed, by the variable that would hold them; newest last.
    kept: Rc<RefCell<Vec<(&'static str, Secret)>>>,
}

impl Vault {
    /// Accepts `text` as a token: removes one trailing line ending, and rejects anything that no token contains.
    pub(crate) fn admit(&self, text: String) -> Result<Secret, InvalidSecret> {
        self.admit_unchecked(&UncheckedSecret::from(text))
    }

    /// The same for a text that is already wiped on drop.
    pub(crate) fn admit_unchecked(&self, text: &UncheckedSecret) -> Result<Secret, InvalidSecret> {
        let text = text.reveal();
        let value = text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text);
        if value.is_empty() {
            return Err(InvalidSecret::Empty);
        }
        if let Some(placeholder) = Placeholder::find(value) {
            return Err(InvalidSecret::Unexpanded(placeholder));
        }
        // ASCII in UTF-16, read as UTF-8.
        if value.contains('\0') {
            return Err(InvalidSecret::Utf16);
        }
        if value.replace("\r\n", "").contains('\r') {
            return Err(InvalidSecret::CarriageReturn);
        }
        if value.contains(['\n', '\r']) {
            return Err(InvalidSecret::SeveralLines);
        }
        if value.contains([' ', '\t']) {
            return Err(InvalidSecret::Blank);
        }
        if value.starts_with(['"', '\'', '`']) || value.ends_with(['"', '\'', '`']) {
            return Err(InvalidSecret::Quoted);
        }
        if value.chars().any(char::is_control) {
            return Err(InvalidSecret::Control);
        }
        if !value.is_ascii() {
            return Err(InvalidSecret::NotAscii);
        }
        self.filter.learn(value);
        Ok(Secret(Zeroizing::new(value.to_owned())))
    }

    /// Teaches the filter a secret that may never be used, such as an environment variable for the other service.
    pub(crate) fn learn(&self, text: &str) {
        self.filter.learn(text);
    }

    /// Keeps a secret that the user typed in place of a variable.
    pub(crate) fn keep(&self, variable: &'static str, secret: Secret) {
        self.kept.borrow_mut().push((variable, secret));
    }

    /// Forgets a typed secret that the service rejected.
    pub(crate) fn forget(&self, variable: &str) {
        self.kept.borrow_mut().retain(|(known, _)| *known != variable);
    }

    /// The secret that the user typed in place of this variable.
    pub(crate) fn kept(&self, variable: &str) -> Option<Secret> {
        self.kept.borrow().iter().rev().find(|(known, _)| *known == variable).map(|(_, secret)| secret.clone())
    }

    pub(crate) fn filter(&self) -> Filter {
        self.filter.clone()
    }
}

/// Replaces every known secret, in each form in which it could appear, by [`MASK`].
#[derive(Clone, Default)]
pub(crate) struct Filter {
    /// In lower case: a service that repeats a token may change its case, or that of hex digits in an encoding.
    forms: Rc<RefCell<Vec<Zeroizing<String>>>>,
}

impl fmt::Debug for Filter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Filter({} forms)", self.forms.borrow().len())
    }
}

/// Shorter forms are only found unbroken.
const SHORTEST_IN_PIECES: usize = 12;

impl Filter {
    /// A filter that knows only this secret.
    pub(crate) fn of(secret: &str) -> Filter {
        let filter = Filter::default();
        filter.learn(secret);
        filter
    }

    /// Whether the text contains a known secret.
    pub(crate) fn finds(&self, text: &str) -> bool {
        !self.find(text).is_empty()
    }

    /// The text with all secrets masked. Untrusted text must be sanitized first: `ui::clean` does both.
    pub(crate) fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let found = self.find(text);
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut masked = String::with_capacity(text.len());
        let mut end = 0;
        for place in found {
            masked.push_str(&text[end..place.start]);
            masked.push_str(MASK);
            end = place.end;
        }
        masked.push_str(&text[end..]);
        Cow::Owned(masked)
    }

    /// The positions of secrets, in order and not overlapping. A secret may be broken by line breaks, blanks or
    /// replacement characters.
    fn find(&self, text: &str) -> Vec<Range<usize>> {
        let forms = self.forms.borrow();
        if forms.is_empty() {
            return Vec::new();
        }
        let (mut joined, mut places) = (String::with_capacity(text.len()), Vec::with_capacity(text.len()));
        for (at, sign) in text.char_indices().filter(|(_, sign)| !sign.is_whitespace() && *sign != '\u{fffd}') {
            joined.push(sign.to_ascii_lowercase());
            places.resize(joined.len(), at);
        }
        let whole = |place: &Range<usize>| places[place.start]..places[place.end - 1] + 1;
        let mut found = Vec::new();
        for form in forms.iter() {
            let all = joined.match_indices(form.as_str()).map(|(at, _)| whole(&(at..at + form.len())));
            found.extend(all.filter(|place| form.len() >= SHORTEST_IN_PIECES || place.len() == form.len()));
        }
        // Long service texts are truncated with `…`, which may leave a part of a secret.
        for (at, cut) in joined.match_indices('…') {
            let (front, behind) = (&joined[..at], &joined[at + cut.len()..]);
            for form in forms.iter() {
                // Forms, and therefore their parts, are ASCII.
                let mut lengths = (SHORTEST_FORM..form.len()).rev();
                if let Some(length) = lengths.clone().find(|length| front.ends_with(&form[..*length])) {
                    found.push(whole(&(at - length..at)));
                }
                if let Some(length) = lengths.find(|length| behind.starts_with(&form[form.len() - length..])) {
                    found.push(whole(&(at + cut.len()..at + cut.len() + length)));
                }
            }
        }
        found.sort_by_key(|place| place.start);
        found.dedup_by(|next, before| {
            let touch = next.start <= before.end;
            if touch {
                before.end = before.end.max(next.end);
            }
            touch
        });
        found
    }

    fn learn(&self, value: &str) {
        let mut forms = self.forms.borrow_mut();
        for form in forms_of(value) {
            if form.len() >= SHORTEST_FORM && form.is_ascii() && !forms.iter().any(|known| **known == *form) {
                forms.push(form);
            }
        }
    }
}

/// The value as plain text, hex, URL-encoded (once, twice, or every byte), JSON- and HTML-escaped, and in base64 at
/// each of the three alignments in both alphabets; all in lower case.
fn forms_of(value: &str) -> Vec<Zeroizing<String>> {
    let bytes = value.as_bytes();
    let (mut hex, mut percent, mut all_percent, mut html) =
        (String::new(), String::new(), String::new(), String::new());
    for byte in bytes {
        let _ = write!(hex, "{byte:02x}");
        let _ = write!(all_percent, "%{byte:02x}");
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(byte) {
            percent.push(char::from(*byte));
        } else {
            let _ = write!(percent, "%{byte:02x}");
        }
    }
    for sign in value.chars() {
        match sign {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            _ => html.push(sign),
        }
    }
    let json = serde_json::to_string(value).unwrap_or_default();
    let twice = percent.replace('%', "%25");
    let mut forms = vec![value.to_owned(), hex, percent, twice, all_percent, html, json.trim_matches('"').to_owned()];
    for shift in 0..3_usize {
        let mut shifted = vec![0_u8; shift];
        shifted.extend_from_slice(bytes);
        // Leave out characters that also depend on adjacent bytes: none, 2 or 3 at the front, and up to one at the
        // end.
        let front = [0, 2, 3][shift];
        let back = usize::from(shifted.len() % 3 != 0);
        for text in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
            forms.push(text.get(front..text.len() - back).unwrap_or_default().to_owned());
        }
    }
    forms.into_iter().map(|form| Zeroizing::new(form.to_ascii_lowercase())).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A token in both cases, with characters that encodings change.
    pub(crate) const MIXED: &str = "dbtc_aB3-xYz/+&QrS0123456789==";

    /// [`MIXED`] as a service may repeat it: a name, the text, and a part that must not be readable.
    pub(crate) fn disguises() -> Vec<(&'static str, String, String)> {
        let (front, back) = MIXED.split_at(12);
        let each =
            |sign: &str| MIXED.chars().flat_map(|letter| [letter.to_string(), sign.to_owned()]).collect::<String>();
        let percent = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let bytes = |write: &dyn Fn(u8) -> String| MIXED.bytes().map(write).collect::<Vec<_>>().concat();
        let mut all = vec![
            ("plain", MIXED.to_owned()),
            ("lower case", MIXED.to_lowercase()),
            ("upper case", MIXED.to_uppercase()),
            ("zero-width spaces", each("\u{200b}")),
            ("soft hyphens", each("\u{ad}")),
            ("byte order marks", each("\u{feff}")),
            ("variation selectors", each("\u{fe0f}")),
            ("tags", each("\u{e0041}")),
            ("right to left", each("\u{202e}")),
            ("control characters", each("\u{1}")),
            ("C1 controls", each("\u{9b}")),
            ("a color", format!("{front}\u{1b}[31m{back}")),
            ("a title", format!("{front}\u{1b}]0;x\u{7}{back}")),
            ("two lines", format!("{front}\n    {back}")),
            ("line separators", format!("{front}\u{2028}{back}")),
            ("blanks", each(" ")),
            ("percent", percent(MIXED)),
            ("percent in lower case", percent(MIXED).replace("%2B", "%2b").replace("%2F", "%2f").replace("%3D", "%3d")),
            ("percent of each byte", bytes(&|byte| format!("%{byte:02X}"))),
            ("percent twice", percent(&percent(MIXED))),
            ("hex", bytes(&|byte| format!("{byte:02x}"))),
            ("hex in upper case", bytes(&|byte| format!("{byte:02X}"))),
            ("HTML", MIXED.replace('&', "&amp;")),
            ("basic", STANDARD_NO_PAD.encode(format!("u:{MIXED}"))),
            ("base64", STANDARD_NO_PAD.encode(MIXED)),
            ("base64 for URLs, between others", URL_SAFE_NO_PAD.encode(format!("a{MIXED}bc"))),
            ("cut off", format!("{}…", &MIXED[..20])),
            ("cut at the front", format!("…{}", &MIXED[10..])),
        ];
        all.drain(..)
            .map(|(name, text)| {
                let seen = readable(&text);
                let part = seen.chars().skip(6).take(10).collect();
                (name, text, part)
            })
            .collect()
    }

    /// What remains readable of a text, ignoring case, colors and invisible characters.
    pub(crate) fn readable(text: &str) -> String {
        let text = text.replace("\u{1b}[31m", "").replace("\u{1b}]0;x\u{7}", "").to_lowercase();
        let shows = |sign: &char| sign.is_ascii_graphic() || *sign == '…';
        text.chars().filter(shows).collect()
    }

    #[test]
    fn only_what_is_a_token_of_a_service_looks_like_one() {
        for (text, holds) in [
            ("dapi0123456789abcdef0123456789abcdef", true),
            ("x=dapi0123456789ABCDEF0123456789ABCDEF-3&y", true),
            ("https://a:dose0123456789abcdef0123456789abcdef@x", true),
            ("dbtc_aB3dE6gH9jK2mN5pQ8sT1vW4", true),
            ("dbtu_abcdefghijklmnopqrstuvwxyzabcdef", true),
            ("dbtc_nightly_refresh", false),
            ("dapi-nightly", false),
            ("eyJhbGciOiJub25l.eyJzdWIiOiIxIn0x.sig", true),
            ("eyJ.a.b", false),
        ] {
            assert_eq!(holds_a_token(text), holds, "{text}");
        }
    }

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
                let cleaned = filter.mask(&encoded);
                assert!(cleaned.contains(MASK), "{pad:?} {tail:?}: {encoded}");
            }
        }
        let mut hex = String::new();
        for byte in TOKEN.bytes() {
            let _ = write!(hex, "{byte:02x}");
        }
        for text in [TOKEN.to_owned(), hex, "dbtc_aB3-xyz%2F%2B0123456789%3D%3D".to_owned()] {
            assert_eq!(filter.mask(&format!("<{text}>")), format!("<{MASK}>"));
        }
    }

    #[test]
    fn the_beginning_of_a_secret_before_a_cut_is_masked() {
        let (_vault, filter) = knowing();
        assert_eq!(filter.mask(&format!("said: {}… (9 bytes)", &TOKEN[..15])), format!("said: {MASK}… (9 bytes)"));
        assert_eq!(filter.mask("said: dbtc…, dbt…"), "said: dbtc…, dbt…");
        assert_eq!(filter.mask(&format!("ä… {}…", &TOKEN[..9])), format!("ä… {MASK}…"));
    }

    #[test]
    fn one_line_ending_is_cut_and_anything_else_odd_is_refused_with_the_reason() {
        let vault = Vault::default();
        assert_eq!(vault.admit("token-1234\r\n".into()).unwrap().reveal(), "token-1234");
        for (text, odd) in [
            ("", InvalidSecret::Empty),
            ("\n", InvalidSecret::Empty),
            ("a\n\n", InvalidSecret::SeveralLines),
            ("a b", InvalidSecret::Blank),
            ("\"abc\"", InvalidSecret::Quoted),
            ("a\u{7}b", InvalidSecret::Control),
            ("a\u{200b}b", InvalidSecret::NotAscii),
            ("a\r", InvalidSecret::CarriageReturn),
            ("a\rb\r", InvalidSecret::CarriageReturn),
            ("a\r\r\n", InvalidSecret::CarriageReturn),
            ("a\r\nb\r\n", InvalidSecret::SeveralLines),
            ("a\0b\0", InvalidSecret::Utf16),
            ("\u{feff}abc", InvalidSecret::NotAscii),
            ("$(DBT_CLOUD_TOKEN)", InvalidSecret::Unexpanded(Placeholder::Azure)),
            ("${{ secrets.DBT_CLOUD_TOKEN }}", InvalidSecret::Unexpanded(Placeholder::Template)),
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
