//! dbt error responses.

use bytes::Bytes;
use http::Response;
use serde_json::Value;

use crate::http::{Meaning, Service, ServiceError, meaning, shorten, title_of_page};

/// Parses an error response, with its meaning.
pub(crate) fn parse_error(answer: &Response<Bytes>) -> ServiceError {
    let service_error = words(answer);
    let (status, headers) = (answer.status(), answer.headers());
    let means = if service_error.means == Meaning::AddressBlocked {
        service_error.means
    } else {
        meaning(Service::Dbt, status, headers, None, &service_error.message, service_error.page)
    };
    ServiceError { means, ..service_error }
}

/// Parses the envelope, `{"detail": …}`, a web page or plain text.
fn words(answer: &Response<Bytes>) -> ServiceError {
    if let Some(title) = title_of_page(answer.body()) {
        return ServiceError { message: title, page: true, ..ServiceError::default() };
    }
    let Ok(body) = serde_json::from_slice::<Value>(answer.body()) else {
        return ServiceError { message: shorten(&String::from_utf8_lossy(answer.body())), ..ServiceError::default() };
    };
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned);
    let mut parts: Vec<String> = text(&body["status"]["user_message"])
        .or_else(|| text(&body["status"]["developer_message"]))
        .or_else(|| text(&body["detail"]))
        .into_iter()
        .collect();
    // A 400 has its reason in `data`: a string, or an object from field to reason.
    match &body["data"] {
        Value::String(reason) => parts.push(reason.clone()),
        Value::Object(fields) if answer.status().as_u16() == 400 => {
            parts.extend(
                fields
                    .iter()
                    .map(|(field, reason)| format!("{field}: {}", text(reason).unwrap_or_else(|| reason.to_string()))),
            );
        }
        Value::Object(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {}
    }
    if parts.is_empty() {
        parts.push(shorten(&String::from_utf8_lossy(answer.body())));
    }
    // IP restrictions are reported in a separate field.
    let blocked = answer.status().as_u16() == 403 && body["data"]["account_access_denied"] == true;
    let means = if blocked { Meaning::AddressBlocked } else { Meaning::Other };
    ServiceError { message: shorten(&parts.join(" ")), means, ..ServiceError::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_400_is_found_in_data() {
        for (status, body, message) in [
            (
                401,
                r#"{"status":{"code":401,"user_message":"Invalid token.","developer_message":null},"data":null}"#,
                "Invalid token.",
            ),
            (
                400,
                r#"{"status":{"user_message":"The request was invalid."},"data":{"cause":["required"]}}"#,
                r#"The request was invalid. cause: ["required"]"#,
            ),
            (400, r#"{"status":{"user_message":"Bad"},"data":"reason"}"#, "Bad reason"),
            (405, r#"{"detail":"Method \"GET\" not allowed."}"#, "Method \"GET\" not allowed."),
            (502, "<html><title>Bad Gateway</title>", "Bad Gateway"),
            (500, "", ""),
        ] {
            let mut answer = Response::new(Bytes::from(body));
            *answer.status_mut() = http::StatusCode::from_u16(status).unwrap();
            assert_eq!(parse_error(&answer).message, message);
        }
    }
}
