//! Responses and errors in the wording and shape of the two services.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

pub(super) type HttpResponse = Response<Bytes>;

/// The result of a handler.
pub(super) type HandlerResult = Result<HttpResponse, ServiceError>;

/// An error response.
#[derive(Debug)]
pub(super) enum ServiceError {
    /// The usual form: a code and a message.
    Databricks { status: u16, code: &'static str, message: String },
    /// The envelope, with the reason of a 400 in `data`.
    Dbt { status: u16, message: String, data: Box<Value> },
    /// Errors of the web framework, outside the envelope (405, 429).
    DbtDetail { status: u16, detail: String },
    /// Not supported by the sandbox. The 501 makes a test that needs it fail.
    Unsupported(String),
}

impl ServiceError {
    pub(super) fn databricks(status: u16, code: &'static str, message: impl Into<String>) -> ServiceError {
        ServiceError::Databricks { status, code, message: message.into() }
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

    pub(super) fn dbt(status: u16, message: impl Into<String>) -> ServiceError {
        ServiceError::Dbt { status, message: message.into(), data: Box::new(Value::Null) }
    }

    /// 400 with `data` mapping the field to the reason.
    pub(super) fn dbt_field(field: &str, reason: impl Into<String>) -> ServiceError {
        ServiceError::Dbt {
            status: 400,
            message: "The request was invalid. Please double check the provided data and try again.".to_owned(),
            data: Box::new(json!({ field: reason.into() })),
        }
    }

    /// 404, both for what does not exist and for what the token may not see.
    pub(super) fn dbt_not_found() -> ServiceError {
        ServiceError::dbt(
            404,
            "The requested resource was not found. Please check that you have the proper permissions.",
        )
    }

    pub(super) fn answer(self) -> HttpResponse {
        match self {
            ServiceError::Databricks { status, code, message } => {
                json_answer(status, &json!({ "error_code": code, "message": message }))
            }
            ServiceError::Dbt { status, message, data } => json_answer(status, &envelope(status, &message, *data)),
            ServiceError::DbtDetail { status, detail } => json_answer(status, &json!({ "detail": detail })),
            ServiceError::Unsupported(what) => json_answer(
                501,
                &json!({
                    "error_code": "NOT_IMPLEMENTED",
                    "message": format!("The local sandbox does not support {what}; use a real workspace or account for it"),
                }),
            ),
        }
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
