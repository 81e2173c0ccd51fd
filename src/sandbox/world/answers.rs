//! Responses and errors in the wording and shape of the two services.

use std::fmt::Display;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

pub(super) type HttpResponse = Response<Bytes>;

/// The result of a handler.
pub(super) type HandlerResult = Result<HttpResponse, ServiceError>;

/// An error response: status and body.
#[derive(Debug)]
pub(super) struct ServiceError(u16, Value);

impl ServiceError {
    /// The usual form: a code, for a few errors a number, and a message.
    pub(super) fn databricks(status: u16, code: impl Into<Value>, message: impl Into<String>) -> ServiceError {
        ServiceError(status, json!({ "error_code": code.into(), "message": message.into() }))
    }

    /// An error of the OAuth endpoints.
    pub(super) fn oauth(status: u16, error: &str, description: &str) -> ServiceError {
        ServiceError(status, json!({ "error": error, "error_description": description }))
    }

    /// 400 `INVALID_PARAMETER_VALUE`.
    pub(super) fn invalid(message: impl Into<String>) -> ServiceError {
        ServiceError::databricks(400, "INVALID_PARAMETER_VALUE", message)
    }

    /// 400 `INVALID_PARAMETER_VALUE`, unless `holds`.
    pub(super) fn ensure(holds: bool, message: impl Into<String>) -> Result<(), ServiceError> {
        if holds { Ok(()) } else { Err(ServiceError::invalid(message)) }
    }

    /// 400 `BAD_REQUEST`.
    pub(super) fn bad_request(message: impl Into<String>) -> ServiceError {
        ServiceError::databricks(400, "BAD_REQUEST", message)
    }

    /// 400 `RESOURCE_ALREADY_EXISTS`.
    pub(super) fn already_exists(message: impl Into<String>) -> ServiceError {
        ServiceError::databricks(400, "RESOURCE_ALREADY_EXISTS", message)
    }

    /// 400 `MALFORMED_REQUEST`.
    pub(super) fn malformed(message: impl Into<String>) -> ServiceError {
        ServiceError::databricks(400, "MALFORMED_REQUEST", message)
    }

    /// 404 `RESOURCE_DOES_NOT_EXIST`.
    pub(super) fn not_found(message: impl Into<String>) -> ServiceError {
        ServiceError::databricks(404, "RESOURCE_DOES_NOT_EXIST", message)
    }

    /// 403 `PERMISSION_DENIED`.
    pub(super) fn permission_denied(message: impl Into<String>) -> ServiceError {
        ServiceError::databricks(403, "PERMISSION_DENIED", message)
    }

    /// The envelope, with null as data.
    pub(super) fn dbt(status: u16, message: &str) -> ServiceError {
        ServiceError(status, envelope(status, message, Value::Null))
    }

    /// 400 with `data` mapping the field to the reason.
    pub(super) fn dbt_field(field: &str, reason: impl Into<String>) -> ServiceError {
        let message = "The request was invalid. Please double check the provided data and try again.";
        ServiceError(400, envelope(400, message, json!({ field: reason.into() })))
    }

    /// Errors of the web framework, outside the envelope (405, 429).
    pub(super) fn dbt_detail(status: u16, detail: &str) -> ServiceError {
        ServiceError(status, json!({ "detail": detail }))
    }

    /// 404, both for what does not exist and for what the token may not see.
    pub(super) fn dbt_not_found() -> ServiceError {
        ServiceError::dbt(
            404,
            "The requested resource was not found. Please check that you have the proper permissions.",
        )
    }

    /// Not supported by the sandbox. The 501 makes a test that needs it fail.
    pub(super) fn unsupported(what: impl Display) -> ServiceError {
        let message = format!("The local sandbox does not support {what}; use a real workspace or account for it");
        ServiceError::databricks(501, "NOT_IMPLEMENTED", message)
    }

    pub(super) fn answer(self) -> HttpResponse {
        json_answer(self.0, &self.1)
    }
}

/// The envelope of all dbt Cloud responses.
pub(super) fn envelope(status: u16, message: &str, data: Value) -> Value {
    let mut envelope = json!({
        "status": {
            "code": status,
            "is_success": status < 400,
            "user_message": message,
            "developer_message": if status < 400 { Value::String(String::new()) } else { Value::Null },
        },
        "data": null,
    });
    // Set outside the macro, which would rebuild the whole value.
    envelope["data"] = data;
    envelope
}

/// A successful dbt Cloud response.
pub(super) fn dbt_data(data: &Value) -> HttpResponse {
    json_answer(200, &envelope(200, "Success!", data.clone()))
}

/// A successful Databricks response.
pub(super) fn databricks_data(body: &Value) -> HttpResponse {
    json_answer(200, body)
}

/// A list in a Databricks response. The field is absent when there are none.
pub(super) fn rows(name: &str, rows: &[Value]) -> HttpResponse {
    databricks_data(&if rows.is_empty() { json!({}) } else { json!({ name: rows }) })
}

pub(super) fn json_answer(status: u16, body: &Value) -> HttpResponse {
    plain(status, "application/json", body.to_string())
}

pub(super) fn plain(status: u16, kind: &'static str, body: impl Into<Bytes>) -> HttpResponse {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}
