//! Databricks error responses.

use bytes::Bytes;
use http::Response;
use serde_json::Value;

use crate::http::{HttpError, Meaning, Phrase, Service, ServiceError, meaning, says, shorten, title_of_page};

/// Parses an error response, with its meaning.
pub(crate) fn parse_error(answer: &Response<Bytes>) -> ServiceError {
    let service_error = words(answer);
    let (status, headers) = (answer.status(), answer.headers());
    let means = meaning(
        Service::Databricks,
        status,
        headers,
        service_error.code.as_deref(),
        &service_error.message,
        service_error.page,
    );
    ServiceError { means, ..service_error }
}

/// Tries body formats in the order of Databricks' own clients.
fn words(answer: &Response<Bytes>) -> ServiceError {
    if let Some(title) = title_of_page(answer.body()) {
        return ServiceError { message: title, page: true, ..ServiceError::default() };
    }
    let plain = String::from_utf8_lossy(answer.body());
    let Ok(body) = serde_json::from_slice::<Value>(answer.body()) else {
        return coded(&plain);
    };
    let text = |field: &str| body[field].as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned);
    let message =
        text("message").or_else(|| text("error_description")).or_else(|| text("detail")).or_else(|| text("error"));
    // The code may be a string or a number, or be at the start of the message.
    let code = match &body["error_code"] {
        Value::String(code) if !code.is_empty() => Some(code.clone()),
        // A number equal to the status adds nothing.
        Value::Number(code) => Some(code.to_string()).filter(|code| code != answer.status().as_str()),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    match (code, message) {
        (Some(code), message) => {
            ServiceError { code: Some(code), message: shorten(&message.unwrap_or_default()), ..ServiceError::default() }
        }
        (None, Some(message)) => coded(&message),
        (None, None) => coded(&plain),
    }
}

/// Splits `CODE: message`; otherwise it is all message.
fn coded(text: &str) -> ServiceError {
    let is_code = |code: &str| code.len() > 3 && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    match text.split_once(": ") {
        Some((code, message)) if is_code(code) => {
            ServiceError { code: Some(code.to_owned()), message: shorten(message), ..ServiceError::default() }
        }
        Some(_) | None => ServiceError { message: shorten(text), ..ServiceError::default() },
    }
}

/// Whether the object does not exist, or is not visible to the identity.
pub(crate) fn is_missing(error: &HttpError) -> bool {
    // A compatible server without the endpoint has no such objects either.
    error.means() == Meaning::NotFound || (error.means() == Meaning::NotImplemented && error.is_status(404))
}

/// Whether the object already exists: 400 for scopes and notebooks, 409 for files. Compatible servers may omit the
/// code.
pub(crate) fn is_there_already(error: &HttpError) -> bool {
    match error.code() {
        Some("RESOURCE_ALREADY_EXISTS" | "ALREADY_EXISTS") => true,
        // These 409s report concurrent writes, not an existing object.
        Some("ABORTED" | "RESOURCE_CONFLICT") => false,
        Some(_) => error.is_status(409),
        None => {
            let in_words = error
                .service_error()
                .is_some_and(|service_error| says(Service::Databricks, &service_error.message, Phrase::AlreadyExists));
            error.is_status(409) || (error.is_status(400) && in_words)
        }
    }
}

/// Whether there are no access control lists: no Premium plan, or a compatible server without
/// these endpoints.
pub(crate) fn has_no_acls(error: &HttpError) -> bool {
    matches!(error.means(), Meaning::NotInPlan | Meaning::NotImplemented)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_wherever_the_services_put_them() {
        for (body, code, message) in [
            (r#"{"error_code":"RESOURCE_DOES_NOT_EXIST","message":"gone"}"#, Some("RESOURCE_DOES_NOT_EXIST"), "gone"),
            (r#"{"error_code":404,"message":"gone"}"#, Some("404"), "gone"),
            (
                r#"{"error_code":"","message":"RESOURCE_ALREADY_EXISTS: /a already exists."}"#,
                Some("RESOURCE_ALREADY_EXISTS"),
                "/a already exists.",
            ),
            (r#"{"detail":"nope","status":"404"}"#, None, "nope"),
            ("PERMISSION_DENIED: no", Some("PERMISSION_DENIED"), "no"),
            ("<pre>Bad thing</pre>", None, "Bad thing"),
        ] {
            let service_error = parse_error(&Response::new(Bytes::from(body)));
            assert_eq!((service_error.code.as_deref(), service_error.message.as_str()), (code, message), "{body}");
        }
    }
}
