//! One request, parsed for a handler.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, header};
use serde_json::{Map, Value};

use super::answers::ServiceError;
use crate::sandbox::SimTime;

/// An authenticated request with a route.
pub(super) struct Call {
    pub(super) now: SimTime,
    /// The Databricks caller; empty for dbt.
    pub(super) caller: String,
    /// Path segments matched by `{}` and `{…}`, from left to right.
    pub(super) path_params: Vec<String>,
    /// Query parameters, decoded, in order, with duplicates.
    pub(super) query: Vec<(String, String)>,
    body: Bytes,
    parts: Option<Map<String, Value>>,
    form: bool,
    /// The Authorization header, for routes that authenticate themselves.
    pub(super) authorization: Option<String>,
    /// Whether the path is below `/api/2.1/`, where the Jobs API has no pages for arrays.
    pub(super) older_jobs_api: bool,
}

impl Call {
    pub(super) fn read(
        now: SimTime,
        request: &Request<Bytes>,
        caller: String,
        path_params: Vec<String>,
    ) -> Result<Call, ServiceError> {
        let text = request.uri().query().unwrap_or_default();
        let query = url::form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let parts = match kind.filter(|kind| kind.starts_with("multipart/")) {
            Some(kind) => Some(parts(kind, request.body()).ok_or_else(|| {
                ServiceError::malformed("Could not parse request object: the body has no parts as its type announces")
            })?),
            None => None,
        };
        Ok(Call {
            now,
            caller,
            path_params,
            query,
            body: request.body().clone(),
            parts,
            form: is_form(kind, request.body()),
            authorization: request
                .headers()
                .get(header::AUTHORIZATION)
                .and_then(|value| value.to_str().ok())
                .map(ToOwned::to_owned),
            older_jobs_api: request.uri().path().starts_with("/api/2.1/"),
        })
    }

    /// Returns the first query parameter with this name.
    pub(super) fn query_param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns the path parameter at `index` as a number; `None` if it is not one.
    pub(super) fn id(&self, index: usize) -> Option<i64> {
        self.path_params.get(index)?.parse().ok()
    }

    /// Returns the body as a JSON object, empty if there is no body. Form fields become strings, files base64 strings.
    pub(super) fn object(&self) -> Result<Map<String, Value>, String> {
        if let Some(parts) = &self.parts {
            return Ok(parts.clone());
        }
        if self.body.is_empty() {
            return Ok(Map::new());
        }
        if self.form {
            let pairs = url::form_urlencoded::parse(&self.body).into_owned();
            return Ok(pairs.map(|(key, value)| (key, Value::String(value))).collect());
        }
        match serde_json::from_slice(&self.body) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err("the body is no JSON object".to_owned()),
            Err(error) => Err(format!("the body is no JSON: {error}")),
        }
    }

    /// Returns the raw body.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    pub(super) fn is_form(&self) -> bool {
        self.form || self.parts.is_some()
    }
}

/// Whether a body is a web form. curl's `-d` sets a form's content type by default, for JSON too.
pub(in crate::sandbox) fn is_form(kind: Option<&str>, body: &[u8]) -> bool {
    kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded"))
        && !body.trim_ascii_start().starts_with(b"{")
}

/// Parses a `multipart/form-data` body into fields by name: strings, and base64 for files.
fn parts(kind: &str, body: &[u8]) -> Option<Map<String, Value>> {
    let boundary = kind.split("boundary=").nth(1)?.split(';').next()?.trim().trim_matches('"');
    let line = format!("\r\n--{boundary}");
    // Makes the first boundary follow a line break like the others.
    let whole = [b"\r\n", body].concat();
    let mut found = Map::new();
    let mut rest = behind(&whole, line.as_bytes())?;
    while let Some(part) = rest.strip_prefix(b"\r\n") {
        let end = position(part, line.as_bytes())?;
        let middle = position(&part[..end], b"\r\n\r\n")?;
        let (head, content) = (std::str::from_utf8(&part[..middle]).ok()?, &part[middle + 4..end]);
        let name = head.split("name=\"").nth(1)?.split('"').next()?;
        let text = if head.contains("filename=") {
            STANDARD.encode(content)
        } else {
            String::from_utf8(content.to_vec()).ok()?
        };
        found.insert(name.to_owned(), Value::String(text));
        rest = &part[end + line.len()..];
    }
    rest.starts_with(b"--").then_some(found)
}

fn position(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

fn behind<'a>(text: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    position(text, wanted).map(|start| &text[start + wanted.len()..])
}
