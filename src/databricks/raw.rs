//! JSON objects of which we own a few fields. All others are sent back byte for byte.

use std::fmt;

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// A JSON object that keeps the service's bytes: the digits of numbers, the order of fields, and fields added by later
/// versions of the API.
#[derive(Clone, Debug, Default)]
pub(crate) struct Raw(Vec<(String, Box<RawValue>)>);

impl Raw {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The field as a `T`; `None` if it is absent, null or of another type.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        self.find(name).and_then(|value| serde_json::from_str(value.get()).ok())
    }

    /// An object field; empty if it is absent.
    pub(crate) fn object(&self, name: &str) -> Raw {
        self.read(name).unwrap_or_default()
    }

    /// A list of objects; empty if it is absent.
    pub(crate) fn list(&self, name: &str) -> Vec<Raw> {
        self.read(name).unwrap_or_default()
    }

    /// Replaces a field in place, or appends it.
    pub(crate) fn set(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        // Wire types have string keys and finite numbers only, so this cannot fail.
        let value = to_raw_value(value).expect("a wire type serialises");
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, place)) => *place = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Whether both have the same content, regardless of formatting.
    pub(crate) fn is_same(&self, other: &Raw) -> bool {
        match (serde_json::to_value(self), serde_json::to_value(other)) {
            (Ok(left), Ok(right)) => left == right,
            // A number out of range for `Value`: compare the text.
            (_, _) => serde_json::to_string(self).ok() == serde_json::to_string(other).ok(),
        }
    }

    /// The field, unless it is absent or null.
    fn find(&self, name: &str) -> Option<&RawValue> {
        let (_, value) = self.0.iter().find(|(known, _)| known == name)?;
        (value.get() != "null").then_some(&**value)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Raw;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Raw(fields))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_touched_goes_back_byte_for_byte() {
        let text = r#"{"z":1.50,"id":9223372036854775807,"big":1e400,"n":null,"a":{"y":[1 , 2],"x":"\u00e4"}}"#;
        let mut raw: Raw = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&raw).unwrap(), text);
        raw.set("id", &7);
        raw.set("new", "x");
        raw.remove("z");
        assert_eq!(
            serde_json::to_string(&raw).unwrap(),
            r#"{"id":7,"big":1e400,"n":null,"a":{"y":[1 , 2],"x":"\u00e4"},"new":"x"}"#
        );
        assert!(raw.has("a") && !raw.has("n") && !raw.has("z"));
        assert_eq!(raw.object("a").read::<String>("x").as_deref(), Some("ä"));
    }
}
