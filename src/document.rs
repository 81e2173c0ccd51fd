//! Typed JSON documents. An ID is a string there, since JavaScript and jq numbers do not hold 64 bits. A plain
//! `u64` does not implement [`ToDocument`], so a forgotten ID does not compile.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::time::Duration;

use serde_json::{Map, Value};

/// A document or a part of one, made by [`document!`]. Dereferences to its JSON value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Data(Value);

impl Data {
    pub(crate) fn object() -> Data {
        Data(Value::Object(Map::new()))
    }

    /// Sets a field; anything but an object becomes one first.
    pub(crate) fn set(&mut self, name: &str, value: impl ToDocument) {
        if !self.is_object() {
            *self = Data::object();
        }
        self.0[name] = value.to_document().0;
    }

    pub(crate) fn extend(&mut self, more: &Data) {
        for (name, value) in more.as_object().into_iter().flatten() {
            self.set(name, Data(value.clone()));
        }
    }

    /// Parses a document that this program printed.
    #[cfg(feature = "sandbox")]
    pub(crate) fn printed(text: &str) -> Data {
        Data(serde_json::from_str(text).unwrap_or_default())
    }
}

impl Deref for Data {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0
    }
}

/// Values that can be part of a document.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no form in a JSON document",
    note = "an id is an `Id`, a number of things a `Count`, a span of time a `Duration`"
)]
pub(crate) trait ToDocument {
    fn to_document(&self) -> Data;
}

/// The ID of an object in either service: a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(pub(crate) u64);

/// A quantity or an index: a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) u64);

impl ToDocument for Id {
    fn to_document(&self) -> Data {
        Data(self.0.to_string().into())
    }
}

impl ToDocument for Count {
    fn to_document(&self) -> Data {
        Data(self.0.into())
    }
}

/// As whole seconds.
impl ToDocument for Duration {
    fn to_document(&self) -> Data {
        Data(self.as_secs().into())
    }
}

impl ToDocument for Data {
    fn to_document(&self) -> Data {
        self.clone()
    }
}

macro_rules! plain {
    ($($plain:ty),*) => {$(
        impl ToDocument for $plain {
            fn to_document(&self) -> Data {
                Data((*self).into())
            }
        }
    )*};
}

plain!(bool, u8, u32, usize, i32);

impl ToDocument for str {
    fn to_document(&self) -> Data {
        Data(self.into())
    }
}

impl ToDocument for String {
    fn to_document(&self) -> Data {
        self.as_str().to_document()
    }
}

impl<T: ToDocument + ?Sized> ToDocument for &T {
    fn to_document(&self) -> Data {
        (**self).to_document()
    }
}

impl<T: ToDocument> ToDocument for Option<T> {
    fn to_document(&self) -> Data {
        self.as_ref().map(ToDocument::to_document).unwrap_or_default()
    }
}

impl<T: ToDocument> ToDocument for [T] {
    fn to_document(&self) -> Data {
        Data(self.iter().map(|value| value.to_document().0).collect())
    }
}

impl<T: ToDocument> ToDocument for Vec<T> {
    fn to_document(&self) -> Data {
        self.as_slice().to_document()
    }
}

impl<T: ToDocument, const N: usize> ToDocument for [T; N] {
    fn to_document(&self) -> Data {
        self.as_slice().to_document()
    }
}

impl<T: ToDocument> ToDocument for BTreeMap<&str, T> {
    fn to_document(&self) -> Data {
        Data(self.iter().map(|(name, value)| ((*name).to_owned(), value.to_document().0)).collect())
    }
}

/// An object of a document: `document!({ "run_id": Id(7), "status": status })`. The values implement `ToDocument`.
macro_rules! document {
    ({ $($name:tt : $value:expr),* $(,)? }) => {{
        let mut document = $crate::document::Data::object();
        $(document.set($name, &$value);)*
        document
    }};
}

pub(crate) use document;

/// Parses an ID argument: plain, or quoted as in a document.
pub(crate) fn parse_id(text: &str) -> Result<u64, String> {
    let id = unquoted(text);
    let digits = id.bytes().all(|byte| byte.is_ascii_digit());
    id.parse().ok().filter(|id| digits && *id > 0).ok_or_else(|| "an ID is a positive number".to_owned())
}

/// Removes the quotes that `jq` leaves around an ID; any other text is returned unchanged.
pub(crate) fn unquoted(text: &str) -> &str {
    let inside = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    inside.filter(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit())).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_id_keeps_every_digit_in_whatever_it_stands() {
        let ids = [u64::MAX, (1 << 53) + 1];
        let document = document!({
            "one": Id(ids[0]), "many": ids.map(Id), "none": None::<Id>, "below": document!({ "of": Some(Id(ids[1])) }),
            "count": Count(3), "took": Duration::from_millis(1999),
        });
        let expected = json!({
            "one": "18446744073709551615", "many": ["18446744073709551615", "9007199254740993"], "none": null,
            "below": { "of": "9007199254740993" }, "count": 3, "took": 1,
        });
        assert_eq!(*document, expected);
    }

    #[test]
    fn an_id_loses_the_quotes_of_a_document_and_a_name_does_not() {
        for (text, id) in [("\"7\"", "7"), ("7", "7"), ("\"Nightly\"", "\"Nightly\""), ("\"", "\""), ("\"\"", "\"\"")] {
            assert_eq!(unquoted(text), id);
        }
        assert_eq!(parse_id("\"9007199254740993\""), Ok(9_007_199_254_740_993));
        for text in ["0", "+7", "", "-1", "\"0\"", "99999999999999999999"] {
            assert!(parse_id(text).is_err(), "{text}");
        }
    }
}
