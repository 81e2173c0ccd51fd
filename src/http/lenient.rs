//! Deserializers that tolerate small deviations from the documented types, where that is harmless.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value};

/// 2^53: `f64` represents all integers up to it exactly.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Deserializes a `T`. Falls back to reading `"7"` and `7.0` as the number 7.
fn read<T: DeserializeOwned>(value: Value) -> Result<T, serde_json::Error> {
    let number = whole_number(&value);
    serde_json::from_value(value).or_else(|error| match number {
        Some(number) => serde_json::from_value(Value::Number(number)).map_err(|_| error),
        None => Err(error),
    })
}

fn whole_number(value: &Value) -> Option<Number> {
    match value {
        Value::String(text) => {
            text.parse::<u64>().map(Number::from).or_else(|_| text.parse::<i64>().map(Number::from)).ok()
        }
        Value::Number(number) if number.is_f64() => {
            let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() <= EXACT)?;
            format!("{float:.0}").parse::<i64>().ok().map(Number::from)
        }
        Value::Number(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// For required numbers.
pub(crate) fn lenient_number<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<T, D::Error> {
    Value::deserialize(deserializer).and_then(|value| read(value).map_err(D::Error::custom))
}

/// For fields that are only displayed: another type counts as absent.
pub(crate) fn optional<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    Value::deserialize(deserializer).map(|value| read(value).ok())
}

/// A list whose elements are parsed one by one, so that an invalid one does not hide the others. Absent and `null` are
/// empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rows<T> {
    pub(crate) rows: Vec<T>,
    /// Number of elements that could not be parsed. Checks that something is absent must take them into account.
    pub(crate) unreadable: usize,
}

impl<T> Default for Rows<T> {
    fn default() -> Rows<T> {
        Rows { rows: Vec::new(), unreadable: 0 }
    }
}

impl<T> Rows<T> {
    /// Adds a parsed row, or counts it as invalid.
    pub(crate) fn take(&mut self, row: Option<T>) {
        match row {
            Some(row) => self.rows.push(row),
            None => self.unreadable += 1,
        }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Rows<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rows<T>, D::Error> {
        struct Elements<T>(PhantomData<T>);
        impl<'de, T: DeserializeOwned> Visitor<'de> for Elements<T> {
            type Value = Rows<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list")
            }

            fn visit_unit<E>(self) -> Result<Rows<T>, E> {
                Ok(Rows::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Rows<T>, A::Error> {
                let mut rows = Rows::default();
                while let Some(element) = elements.next_element::<Value>()? {
                    rows.take(read(element).ok());
                }
                Ok(rows)
            }
        }
        deserializer.deserialize_any(Elements(PhantomData))
    }
}

/// For lists where a missing element does no harm: invalid elements are left out.
pub(crate) fn skip_invalid<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Rows::deserialize(deserializer).map(|Rows { rows, unreadable: _ }| rows)
}

/// For lists that are only displayed: like [`skip_invalid`], and another type counts as absent.
pub(crate) fn optional_list<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    Value::deserialize(deserializer).map(|value| match value {
        Value::Array(_) => Rows::deserialize(value).ok().map(|Rows { rows, unreadable: _ }| rows),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => None,
    })
}

/// For fields where `null` means absent.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Row {
        #[serde(deserialize_with = "lenient_number")]
        id: u64,
        #[serde(default, deserialize_with = "optional")]
        count: Option<i64>,
        #[serde(default, deserialize_with = "optional")]
        name: Option<String>,
    }

    #[test]
    fn numbers_are_read_as_text_and_with_a_fraction_of_nothing() {
        for (given, id) in [
            (json!(7), Some(7)),
            (json!("7"), Some(7)),
            (json!(7.0), Some(7)),
            (json!(u64::MAX), Some(u64::MAX)),
            (json!("18446744073709551615"), Some(u64::MAX)),
            (json!(7.5), None),
            (json!("7.0"), None),
            (json!(" 7"), None),
            (json!("-7"), None),
            (json!(1e300), None),
            (json!(true), None),
            (json!(null), None),
        ] {
            let row = serde_json::from_value::<Row>(json!({ "id": given, "count": given, "name": given }));
            assert_eq!(row.ok().map(|row| row.id), id, "{given}");
        }
        let row: Row = serde_json::from_value(json!({ "id": 1, "count": "-7", "name": "7" })).unwrap();
        assert_eq!((row.count, row.name.as_deref()), (Some(-7), Some("7")));
    }

    #[test]
    fn an_odd_element_does_not_hide_the_others() {
        #[derive(Deserialize)]
        struct Body {
            #[serde(default, deserialize_with = "optional_list")]
            rows: Option<Vec<Row>>,
        }
        let ids = |rows: Value| {
            let Body { rows } = serde_json::from_value(json!({ "rows": rows })).unwrap();
            rows.map(|rows| rows.into_iter().map(|row| row.id).collect::<Vec<_>>())
        };
        assert_eq!(ids(json!([{"id": 1}, {}, 7, null, "x", {"id": "2"}, {"id": []}])), Some(vec![1, 2]));
        assert_eq!((ids(json!("x")), ids(json!(null)), ids(json!([]))), (None, None, Some(vec![])));
    }
}
