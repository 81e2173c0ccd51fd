//! Applies a fault to a response.

use http::header::{CONTENT_ENCODING, LOCATION, RETRY_AFTER};
use http::{HeaderValue, Response};
use serde_json::{Value, json};

use super::answers::{Answer, Refusal, dbt_data, json_answer, plain};
use super::routes::Row;
use crate::sandbox::{Class, Cut, Reply, SimTime};

/// The error page of a gateway whose backend does not respond.
const GATEWAY_PAGE: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n";
const TIMEOUT_PAGE: &str = "<html>\r\n<head><title>504 Gateway Time-out</title></head>\r\n<body>\r\n<center><h1>504 Gateway Time-out</h1></center>\r\n</body>\r\n</html>\r\n";
/// databricks-api §2.3: 200 and HTML instead of JSON.
const LOGIN_PAGE: &str = "<!doctype html>\n<html><head><title>Sign in</title></head><body><form action=\"/login\" method=\"post\"><input name=\"email\"></form></body></html>\n";
const NESTING: usize = 100_000;

/// Returns the response to a write struck before its effect: the envelope without any result.
pub(super) fn without_effect(row: &Row) -> Answer {
    if row.is_dbt() { dbt_data(&json!({ "status": 1 })) } else { json_answer(200, &json!({})) }
}

/// Turns the true response into what the fault class makes of it.
pub(super) fn spoil(class: &Class, row: &Row, now: SimTime, truth: Answer) -> Reply {
    let answer = match class {
        Class::NoName => return Reply::Cut(Cut::NoName),
        Class::Refused => return Reply::Cut(Cut::Refused),
        Class::Blackhole => return Reply::Cut(Cut::Blackhole),
        Class::Tls => return Reply::Cut(Cut::Tls),
        Class::Reset => return Reply::Cut(Cut::Reset),
        Class::Close => return Reply::Cut(Cut::Close),
        Class::Hang => return Reply::Hold,
        Class::ResetAfterHead => return Reply::Cut(Cut::ResetAfterHead(truth)),
        Class::ResetInBody => return Reply::Cut(Cut::ResetInBody(truth)),
        Class::Silence => return Reply::Cut(Cut::Silence(truth)),
        Class::Truncated => return Reply::Cut(Cut::Truncated(truth)),
        Class::Drip => return Reply::Cut(Cut::Drip(truth)),
        Class::Stale => return Reply::Cut(Cut::Stale(truth)),
        Class::Huge => return Reply::Cut(Cut::Huge),
        Class::Kill => return Reply::Cut(Cut::Kill(None)),
        Class::KillDuring => return Reply::Cut(Cut::Kill(Some(truth))),
        Class::Status(status) => usual_error(*status, row),
        Class::RetryAfter(seconds) => throttled(row, &seconds.to_string()),
        Class::RetryAfterDate(seconds) => throttled(row, &http_date(now.plus(i64::from(*seconds) * 1000))),
        Class::RetryAfterAbsurd => throttled(row, "999999999"),
        Class::Redirect(address) => redirected(address),
        Class::Login => plain(200, "text/html; charset=utf-8", LOGIN_PAGE),
        Class::Empty => plain(200, "application/json", ""),
        Class::BadUtf8 => plain(200, "application/json", &b"{\"data\": \"\xff\xfe\xc3\x28\"}"[..]),
        Class::Deep => plain(200, "application/json", [vec![b'['; NESTING], vec![b']'; NESTING]].concat()),
        Class::MissingField => with_body(&truth, row, missing_field),
        Class::UnknownStatus => with_body(&truth, row, |_, body| unknown_status(body)),
        Class::NullData => with_body(&truth, row, null_data),
        Class::WrongType => with_body(&truth, row, wrong_type),
        Class::GzipBomb => gzip_bomb(),
    };
    Reply::Answer(answer)
}

/// Returns the usual body for an HTTP status: from the gateway for 502 to 504, otherwise from the service.
fn usual_error(status: u16, row: &Row) -> Answer {
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
    if row.is_dbt() {
        return match status {
            400 => Refusal::dbt_field("request", "This request was refused by a fault rule."),
            401 => Refusal::dbt(401, "Invalid token."),
            403 => Refusal::dbt(403, "You do not have permission to perform this action."),
            404 => Refusal::dbt_absent(),
            405 => Refusal::DbtDetail {
                status,
                detail: format!("Method \"{}\" not allowed.", if row.writes { "POST" } else { "GET" }),
            },
            429 => Refusal::DbtDetail { status, detail: "Request was throttled.".to_owned() },
            other => Refusal::dbt(other, "A fault rule of the sandbox answers here."),
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
    Refusal::databricks(status, code, "A fault rule of the sandbox answers here.").answer()
}

fn throttled(row: &Row, wait: &str) -> Answer {
    let mut answer = usual_error(429, row);
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

fn redirected(address: &str) -> Answer {
    let mut answer = plain(307, "text/html", "");
    if let Ok(value) = HeaderValue::from_str(address) {
        answer.headers_mut().insert(LOCATION, value);
    }
    answer
}

/// Applies a change to a JSON body. A body that is not JSON is replaced.
fn with_body(truth: &Answer, row: &Row, change: impl Fn(&Row, Value) -> Value) -> Answer {
    match serde_json::from_slice(truth.body()) {
        Ok(body) => json_answer(200, &change(row, body)),
        Err(_) => json_answer(200, &change(row, json!({ "content": "" }))),
    }
}

fn missing_field(row: &Row, mut body: Value) -> Value {
    match body.as_object_mut() {
        Some(object) if row.is_dbt() && object.contains_key("data") => {
            object.shift_remove("data");
            body
        }
        Some(_) | None => json!({}),
    }
}

fn null_data(row: &Row, mut body: Value) -> Value {
    match body.as_object_mut() {
        Some(object) if row.is_dbt() && object.contains_key("data") => {
            object.insert("data".to_owned(), Value::Null);
        }
        Some(object) => {
            for (_, value) in object.iter_mut() {
                *value = Value::Null;
            }
        }
        None => {}
    }
    body
}

fn wrong_type(row: &Row, mut body: Value) -> Value {
    match body.as_object_mut() {
        Some(object) if row.is_dbt() && object.contains_key("data") => {
            object.insert("data".to_owned(), json!("not what was asked for"));
        }
        Some(object) => {
            for (_, value) in object.iter_mut() {
                *value = if value.is_string() { json!([1]) } else { json!("not what was asked for") };
            }
        }
        None => {}
    }
    body
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
fn gzip_bomb() -> Answer {
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
