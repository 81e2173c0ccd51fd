//! Requests as lines for `-v` and bodies for `-vv`, without secrets.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

use super::error::shorten;

/// JSON fields whose text is never shown (`bytes_value` is easily forgotten).
const HIDDEN: [&str; 13] = [
    "string_value",
    "bytes_value",
    "token_value",
    "access_token",
    "refresh_token",
    "id_token",
    "token",
    "password",
    "client_secret",
    "subject_token",
    "api_key",
    "value",
    // A notebook written by hand may contain a token.
    "content",
];

/// The body on one line, with hidden fields as `***` and long text cut.
pub(super) fn body(body: &Bytes) -> Option<String> {
    if body.is_empty() {
        return None;
    }
    match serde_json::from_slice::<Value>(body) {
        Ok(mut value) => {
            hide(&mut value);
            Some(cut(&value.to_string()))
        }
        Err(_) => {
            Some(format!("{} bytes: {}", body.len(), shorten(&String::from_utf8_lossy(&body[..body.len().min(400)]))))
        }
    }
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                if HIDDEN.contains(&name.as_str()) && field.is_string() {
                    *field = Value::from("***");
                } else {
                    hide(field);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::String(text) => *text = cut(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(1000) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

/// The service's request ID.
pub(super) fn request_id(headers: &HeaderMap) -> Option<String> {
    ["x-request-id", "x-databricks-request-id", "x-dbt-request-id"]
        .iter()
        .find_map(|name| headers.get(*name))
        .and_then(|value| value.to_str().ok())
        .map(shorten)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_fields_are_starred_at_any_depth() {
        let shown = body(&Bytes::from_static(br#"{"a":[{"bytes_value":"c2VjcmV0","scope":"s"}]}"#)).unwrap();
        assert_eq!(shown, r#"{"a":[{"bytes_value":"***","scope":"s"}]}"#);
    }
}
