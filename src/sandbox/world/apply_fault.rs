//! Applies a fault to a response.

use http::header::{CONTENT_ENCODING, LOCATION, RETRY_AFTER};
use http::{HeaderValue, Response};
use serde_json::{Value, json};

use super::answers::{HttpResponse, ServiceError, dbt_data, json_answer, plain};
use super::routes::RouteEntry;
use crate::sandbox::{FaultKind, Reply, SimTime};

/// The error page of a gateway whose backend does not respond.
const GATEWAY_PAGE: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n";
const TIMEOUT_PAGE: &str = "<html>\r\n<head><title>504 Gateway Time-out</title></head>\r\n<body>\r\n<center><h1>504 Gateway Time-out</h1></center>\r\n</body>\r\n</html>\r\n";
/// 200 and HTML instead of JSON.
const LOGIN_PAGE: &str = "<!doctype html>\n<html><head><title>Sign in</title></head><body><form action=\"/login\" method=\"post\"><input name=\"email\"></form></body></html>\n";
const NESTING: usize = 100_000;

/// Returns the response to a write struck before its effect: the envelope without any result.
pub(super) fn without_effect(entry: &RouteEntry) -> HttpResponse {
    if entry.is_dbt() { dbt_data(&json!({ "status": 1 })) } else { json_answer(200, &json!({})) }
}

/// Turns the true response into what the fault class makes of it.
pub(super) fn apply_fault(class: &FaultKind, entry: &RouteEntry, now: SimTime, true_response: HttpResponse) -> Reply {
    let answer = match class {
        FaultKind::Cut(cut) => return Reply::Broken(*cut, true_response),
        FaultKind::Status(status) => usual_error(*status, entry),
        FaultKind::RetryAfter(seconds) => throttled(entry, &seconds.to_string()),
        FaultKind::RetryAfterDate(seconds) => throttled(entry, &http_date(now.plus(i64::from(*seconds) * 1000))),
        FaultKind::RetryAfterHuge => throttled(entry, "999999999"),
        FaultKind::Redirect(address) => redirected(address),
        FaultKind::Login => plain(200, "text/html; charset=utf-8", LOGIN_PAGE),
        FaultKind::Empty => plain(200, "application/json", ""),
        FaultKind::BadUtf8 => plain(200, "application/json", &b"{\"data\": \"\xff\xfe\xc3\x28\"}"[..]),
        FaultKind::Deep => plain(200, "application/json", [vec![b'['; NESTING], vec![b']'; NESTING]].concat()),
        FaultKind::MissingField => with_body(&true_response, entry, missing_field),
        FaultKind::UnknownStatus => with_body(&true_response, entry, |_, body| unknown_status(body)),
        FaultKind::NullData => {
            with_body(&true_response, entry, |entry, body| with_content(entry, body, |_| Value::Null))
        }
        FaultKind::WrongType => with_body(&true_response, entry, |entry, body| with_content(entry, body, wrong_type)),
        FaultKind::GzipBomb => gzip_bomb(),
    };
    Reply::Answer(answer)
}

/// Returns the usual body for an HTTP status: from the gateway for 502 to 504, otherwise from the service.
fn usual_error(status: u16, entry: &RouteEntry) -> HttpResponse {
    match status {
        502 => return plain(502, "text/html", GATEWAY_PAGE),
        503 => {
            let mut answer = plain(503, "text/plain", "");
            answer.headers_mut().clear();
            return answer;
        }
        504 => return plain(504, "text/html", TIMEOUT_PAGE),
        _ => {}
    }
    if entry.is_dbt() {
        return match status {
            400 => ServiceError::dbt_field("request", "This request was refused by a fault rule."),
            401 => ServiceError::dbt(401, "Invalid token."),
            403 => ServiceError::dbt(403, "You do not have permission to perform this action."),
            404 => ServiceError::dbt_not_found(),
            405 => {
                let method = if entry.writes { "POST" } else { "GET" };
                ServiceError::dbt_detail(status, &format!("Method \"{method}\" not allowed."))
            }
            429 => ServiceError::dbt_detail(status, "Request was throttled."),
            other => ServiceError::dbt(other, "A fault rule of the sandbox answers here."),
        }
        .answer();
    }
    let code = match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "RESOURCE_DOES_NOT_EXIST",
        409 => "RESOURCE_CONFLICT",
        429 => "REQUEST_LIMIT_EXCEEDED",
        501 => "NOT_IMPLEMENTED",
        500.. => "INTERNAL_ERROR",
        _ => "BAD_REQUEST",
    };
    ServiceError::databricks(status, code, "A fault rule of the sandbox answers here.").answer()
}

fn throttled(entry: &RouteEntry, wait: &str) -> HttpResponse {
    let mut answer = usual_error(429, entry);
    if let Ok(value) = HeaderValue::from_str(wait) {
        answer.headers_mut().insert(RETRY_AFTER, value);
    }
    answer
}

fn http_date(at: SimTime) -> String {
    jiff::Timestamp::from_millisecond(at.0)
        .map(|moment| moment.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
        .unwrap_or_default()
}

fn redirected(address: &str) -> HttpResponse {
    let mut answer = plain(307, "text/html", "");
    if let Ok(value) = HeaderValue::from_str(address) {
        answer.headers_mut().insert(LOCATION, value);
    }
    answer
}

/// Applies a change to a JSON body. A body that is not JSON is replaced.
fn with_body(
    true_response: &HttpResponse,
    entry: &RouteEntry,
    change: impl Fn(&RouteEntry, Value) -> Value,
) -> HttpResponse {
    match serde_json::from_slice(true_response.body()) {
        Ok(body) => json_answer(200, &change(entry, body)),
        Err(_) => json_answer(200, &change(entry, json!({ "content": "" }))),
    }
}

fn missing_field(entry: &RouteEntry, mut body: Value) -> Value {
    match body.as_object_mut() {
        Some(object) if entry.is_dbt() && object.contains_key("data") => {
            object.shift_remove("data");
            body
        }
        Some(_) | None => json!({}),
    }
}

/// Replaces the content: dbt's `data`, otherwise every member.
fn with_content(entry: &RouteEntry, mut body: Value, with: fn(&Value) -> Value) -> Value {
    match body.as_object_mut() {
        Some(object) if entry.is_dbt() && object.contains_key("data") => object["data"] = with(&object["data"]),
        Some(object) => object.iter_mut().for_each(|(_, value)| *value = with(value)),
        None => {}
    }
    body
}

fn wrong_type(value: &Value) -> Value {
    if value.is_string() { json!([1]) } else { json!("not what was asked for") }
}

/// Replaces numbers and words that name a state with undocumented ones.
fn unknown_status(body: Value) -> Value {
    match body {
        Value::Object(object) => Value::Object(
            object
                .into_iter()
                .map(|(key, value)| {
                    let value = match (key.as_str(), value) {
                        ("status", Value::Number(_)) => json!(99),
                        (
                            "status" | "status_humanized" | "state" | "life_cycle_state" | "result_state" | "code"
                            | "type" | "object_type" | "backend_type" | "permission",
                            Value::String(_),
                        ) => json!("FANCY_NEW"),
                        (_, value) => unknown_status(value),
                    };
                    (key, value)
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(unknown_status).collect()),
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => plain,
    }
}

/// 64 MiB of zeros as one deflate block with fixed codes. Written by hand because the sandbox needs no compressor
/// otherwise.
fn gzip_bomb() -> HttpResponse {
    const LENGTH: u32 = 64 * 1024 * 1024;
    const CRC_OF_ZEROS: u32 = 0xb2eb_30ed;
    let mut bits = Bits::default();
    bits.put(0b011, 3); // last block, fixed codes
    bits.code(0x30, 8); // the literal zero
    let mut left = LENGTH - 1;
    while left >= 258 {
        bits.code(0b1100_0101, 8); // length 258
        bits.code(0, 5); // distance 1
        left -= 258;
    }
    for _ in 0..left {
        bits.code(0x30, 8);
    }
    bits.code(0, 7); // end of block
    let mut body = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    body.extend(bits.done());
    body.extend(CRC_OF_ZEROS.to_le_bytes());
    body.extend(LENGTH.to_le_bytes());
    let mut answer = Response::new(body.into());
    answer.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    answer
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    held: u32,
    count: u32,
}

impl Bits {
    /// Writes a number, lowest bit first.
    fn put(&mut self, value: u32, width: u32) {
        self.held |= value << self.count;
        self.count += width;
        while self.count >= 8 {
            self.bytes.push((self.held & 0xff) as u8);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    /// Writes a Huffman code, highest bit first.
    fn code(&mut self, value: u32, width: u32) {
        self.put(value.reverse_bits() >> (32 - width), width);
    }

    fn done(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.put(0, 8 - self.count);
        }
        self.bytes
    }
}
