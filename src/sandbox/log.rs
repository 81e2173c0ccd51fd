//! The request log: each request and its outcome, with every secret replaced.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::Request;
use http::header::{CONTENT_TYPE, HeaderMap};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::world::is_form;
use super::{Faulted, Reply, SimTime, World};

/// Replaces a secret.
const HIDDEN: &str = "[secret]";

/// Members of a JSON or form body whose values are always secret.
const SECRET_MEMBERS: &[&str] = &[
    "string_value",
    "bytes_value",
    "token",
    "token_value",
    "password",
    "client_secret",
    "client_assertion",
    "subject_token",
    "access_token",
    "refresh_token",
];

/// Longest text logged in full, in bytes. Longer ones, such as a notebook in base64, would drown the rest.
const LONGEST: usize = 2_000;

/// Shortest value hidden, in bytes. Hiding shorter ones would blank out half the log; neither service issues such
/// tokens.
const SHORTEST_SECRET: usize = 6;

/// One logged request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogLine {
    /// Time on the sandbox's clock; ISO 8601 in the file.
    #[serde(serialize_with = "iso")]
    pub time: SimTime,
    /// `databricks`, `dbt`, or `none` for a path the sandbox does not serve.
    pub service: &'static str,
    /// The operation as in fault rules, or `none`.
    pub operation: &'static str,
    /// The HTTP method.
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The query without the question mark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The HTTP status, if there was a complete response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Otherwise, the fault class that broke the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<&'static str>,
    /// Whether the operation can change state.
    pub writes: bool,
    /// The User-Agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The client's port; requests with the same port used one connection.
    pub connection: u16,
    /// The body: JSON with long texts shortened, otherwise text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
}

/// One request with its response.
#[derive(Serialize)]
struct Exchange<'a> {
    #[serde(flatten)]
    line: &'a LogLine,
    /// The content type of the response.
    kind: Option<&'a str>,
    answer: Option<Value>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields over by reference")]
fn iso<S: Serializer>(time: &SimTime, to: S) -> Result<S::Ok, S::Error> {
    match jiff::Timestamp::from_millisecond(time.0) {
        Ok(time) => to.collect_str(&format_args!("{time:.3}")),
        Err(_) => to.serialize_i64(time.0),
    }
}

/// All lines so far, and the secrets that must not appear in them.
pub(super) struct Log {
    file: Option<File>,
    exchanges: Option<File>,
    lines: Vec<LogLine>,
    /// Each secret in every encoding in which it may appear.
    hidden: BTreeSet<String>,
}

impl Log {
    pub(super) fn in_memory(secrets: &[String]) -> Log {
        let mut log = Log { file: None, exchanges: None, lines: Vec::new(), hidden: BTreeSet::new() };
        for secret in secrets {
            log.hide(secret);
        }
        log
    }

    /// Creates a log that is also appended to a file.
    pub(super) fn at(path: &Path, secrets: &[String]) -> io::Result<Log> {
        let mut log = Log::in_memory(secrets);
        log.file = Some(open(path)?);
        Ok(log)
    }

    /// Appends complete exchanges with dbt Cloud to this file from now on.
    pub(super) fn keep_exchanges(&mut self, path: &Path) -> io::Result<()> {
        self.exchanges = Some(open(path)?);
        Ok(())
    }

    pub(super) fn lines(&self) -> &[LogLine] {
        &self.lines
    }

    /// Adds one request. Returns the first failure to write a file, which is not written to again.
    pub(super) fn note(&mut self, time: SimTime, request: &Request<Bytes>, port: u16, reply: &Reply) -> io::Result<()> {
        let body = self.body(kind(request.headers()), request.body());
        let (service, operation, writes) = match World::route(request) {
            Some(route) => (route.service, route.operation, route.writes),
            None => ("none", "none", false),
        };
        let (status, cut) = match reply {
            Reply::Answer(answer) => (Some(answer.status().as_u16()), None),
            Reply::Broken(cut, _) => (None, Some(cut.name())),
        };
        let line = LogLine {
            time,
            service,
            operation,
            method: request.method().to_string(),
            path: self.without_secrets(request.uri().path()),
            query: request.uri().query().map(|query| self.without_secrets(query)),
            status,
            cut,
            writes,
            agent: request
                .headers()
                .get(http::header::USER_AGENT)
                .and_then(|agent| Some(self.without_secrets(agent.to_str().ok()?))),
            connection: port,
            body,
        };
        let kept = self.exchange(&line, reply);
        let written = append(&mut self.file, &line).and(kept);
        self.lines.push(line);
        written
    }

    fn exchange(&mut self, line: &LogLine, reply: &Reply) -> io::Result<()> {
        let Reply::Answer(answer) = reply else {
            return Ok(());
        };
        if self.exchanges.is_none() || line.service != "dbt" || answer.extensions().get::<Faulted>().is_some() {
            return Ok(());
        }
        let kind = kind(answer.headers());
        let exchange = Exchange { line, kind, answer: self.body(kind, answer.body()) };
        append(&mut self.exchanges, &exchange)
    }

    fn body(&mut self, kind: Option<&str>, body: &Bytes) -> Option<Value> {
        if body.is_empty() {
            return None;
        }
        if is_form(kind, body) {
            return Some(Value::String(shortened(self.form(body))));
        }
        if let Ok(mut json) = serde_json::from_slice(body) {
            // Collect secrets from all members first: a value may repeat a secret of another member.
            self.learn(&json);
            self.clean(&mut json);
            return Some(json);
        }
        Some(match std::str::from_utf8(body) {
            // Malformed JSON: the secret in it cannot be located.
            Ok(text) if SECRET_MEMBERS.iter().any(|name| text.contains(name)) => {
                Value::String(format!("[{} bytes]", text.len()))
            }
            Ok(text) => Value::String(shortened(self.without_secrets(text))),
            Err(_) => Value::String(format!("[{} bytes]", body.len())),
        })
    }

    /// Returns the form's fields with secret values replaced.
    fn form(&mut self, body: &[u8]) -> String {
        let fields: Vec<_> = url::form_urlencoded::parse(body).collect();
        for (name, value) in &fields {
            if SECRET_MEMBERS.contains(&name.as_ref()) {
                self.hide(value);
            }
        }
        let fields = fields.iter().map(|(name, value)| {
            let value = if SECRET_MEMBERS.contains(&name.as_ref()) { HIDDEN } else { value.as_ref() };
            self.without_secrets(&format!("{name}={value}"))
        });
        fields.collect::<Vec<_>>().join("&")
    }

    fn learn(&mut self, json: &Value) {
        match json {
            Value::Object(members) => {
                for (name, value) in members {
                    if !SECRET_MEMBERS.contains(&name.as_str()) {
                        self.learn(value);
                        continue;
                    }
                    let Some(secret) = value.as_str() else {
                        continue;
                    };
                    self.hide(secret);
                    // `bytes_value` is base64; the decoded value is secret too.
                    let inner = STANDARD.decode(secret).ok();
                    if let Some(inner) = inner.and_then(|bytes| String::from_utf8(bytes).ok()) {
                        self.hide(&inner);
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.learn(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn hide(&mut self, secret: &str) {
        if secret.len() < SHORTEST_SECRET {
            return;
        }
        let forms = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD];
        self.hidden.extend(forms.map(|form| form.encode(secret)));
        let escaped: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        self.hidden.insert(escaped);
        self.hidden.insert(secret.to_owned());
    }

    fn clean(&self, json: &mut Value) {
        match json {
            Value::Object(members) => {
                for (name, value) in members {
                    if SECRET_MEMBERS.contains(&name.as_str()) && !value.is_null() {
                        *value = Value::String(HIDDEN.to_owned());
                    } else {
                        self.clean(value);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.clean(item)),
            Value::String(text) => *text = shortened(self.without_secrets(text)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn without_secrets(&self, text: &str) -> String {
        let mut clean = text.to_owned();
        // Longest first: the encoding without padding is a prefix of the padded one.
        let mut forms: Vec<&String> = self.hidden.iter().filter(|form| text.contains(form.as_str())).collect();
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        for form in forms {
            clean = clean.replace(form.as_str(), HIDDEN);
        }
        clean
    }
}

fn kind(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok())
}

/// Opens a file for appending; a new one gets mode 0600.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Appends a line; after a failure the file is not written to again.
fn append(file: &mut Option<File>, line: &impl Serialize) -> io::Result<()> {
    let Some(open) = file else {
        return Ok(());
    };
    // One write per line, so a reader never sees half a line.
    let written = serde_json::to_vec(line).map_err(io::Error::from).and_then(|mut text| {
        text.push(b'\n');
        open.write_all(&text)
    });
    if written.is_err() {
        *file = None;
    }
    written
}

fn shortened(text: String) -> String {
    if text.len() > LONGEST { format!("[{} bytes]", text.len()) } else { text }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Request, Response};

    use super::Log;
    use crate::sandbox::{Cut, Faulted, Reply, SimTime};

    #[test]
    fn no_form_of_a_secret_reaches_the_log() {
        let folder = tempfile::tempdir().expect("works");
        let path = folder.path().join("requests.log");
        let token = "dapi-hidden/value+1";
        let mut log = Log::at(&path, &[token.to_owned()]).expect("works");
        let bodies = [
            r#"{"scope":"s","key":"k","string_value":"c4nary-value"}"#,
            // base64 of `other-canary`
            r#"{"scope":"s","key":"k","bytes_value":"b3RoZXItY2FuYXJ5"}"#,
            r#"{"text":"c4nary-value and YzRuYXJ5LXZhbHVl and other-canary and dapi-hidden/value+1"}"#,
            r#"{"scope": "s", "string_value": "unlearnt-value""#,
            "c4nary-value=dapi-hidden%2Fvalue%2B1",
        ];
        for body in bodies {
            let request =
                Request::post("http://localhost/api/2.0/secrets/put?x=c4nary-value&y=dapi-hidden%2Fvalue%2B1")
                    .header("user-agent", "agent dapi-hidden/value+1")
                    .body(Bytes::from(body))
                    .expect("works");
            let reply = Reply::Answer(Response::new(Bytes::new()));
            log.note(SimTime(1_700_000_000_000), &request, 40_000, &reply).expect("works");
        }
        let text = std::fs::read_to_string(&path).expect("works");
        let first = text.lines().next().expect("works");
        assert!(first.contains(r#""time":"2023-11-14T22:13:20.000Z""#), "{first}");
        assert!(first.contains(r#""string_value":"[secret]""#), "{first}");
        for line in text.lines().skip(1) {
            for canary in
                ["c4nary-value", "YzRuYXJ5LXZhbHVl", "other-canary", "b3RoZXItY2FuYXJ5", "dapi-hidden", "unlearnt"]
            {
                assert!(!line.contains(canary), "{canary} in {line}");
            }
        }
        assert!(!first.contains("dapi-hidden"));
        assert_eq!(log.lines().len(), bodies.len());
    }

    #[test]
    fn what_is_secret_in_oauth_stays_out_of_the_log_as_json_and_as_a_form() {
        let form = "application/x-www-form-urlencoded";
        for member in
            ["client_secret", "client_assertion", "subject_token", "access_token", "refresh_token", "password"]
        {
            let mut log = Log::in_memory(&[]);
            for (kind, body) in [
                (form, format!("grant_type=x&{member}=c4nary%2Fvalue&note=c4nary%2Fvalue")),
                (
                    "Application/X-WWW-Form-Urlencoded; charset=utf-8",
                    format!("note=c4nary%2Fvalue&{member}=c4nary%2Fvalue"),
                ),
                // curl's default content type for JSON bodies.
                (form, format!(r#"{{"{member}":"c4nary/value","note":"c4nary/value"}}"#)),
                ("application/json", format!(r#"{{"{member}":"c4nary/value","note":"c4nary/value"}}"#)),
                // A form with another content type.
                ("text/plain", format!("{member}=c4nary%2fvalue")),
            ] {
                let request = Request::post("http://localhost/oidc/v1/token?x=c4nary/value")
                    .header("content-type", kind)
                    .body(Bytes::from(body))
                    .expect("works");
                log.note(SimTime(0), &request, 40_000, &Reply::Answer(Response::new(Bytes::new()))).expect("works");
            }
            let lines = log.lines();
            let said = format!("{lines:?}");
            assert!(!said.to_ascii_lowercase().contains("c4nary"), "{member}: {said}");
            let first = lines[0].body.as_ref().and_then(|body| body.as_str());
            assert_eq!(first, Some(format!("grant_type=x&{member}=[secret]&note=[secret]").as_str()));
        }
        // A name that only contains a secret member's name is not hidden.
        let request = Request::post("http://localhost/oidc/v1/token")
            .header("content-type", form)
            .body(Bytes::from("subject_token_type=urn%3Ajwt&scope=all-apis"))
            .expect("works");
        let mut log = Log::in_memory(&[]);
        log.note(SimTime(0), &request, 40_000, &Reply::Answer(Response::new(Bytes::new()))).expect("works");
        let body = log.lines()[0].body.as_ref().and_then(|body| body.as_str());
        assert_eq!(body, Some("subject_token_type=urn:jwt&scope=all-apis"));
    }

    #[test]
    fn whole_exchanges_with_dbt_are_kept_without_secrets_unless_a_fault_changed_them() {
        let folder = tempfile::tempdir().expect("works");
        let path = folder.path().join("exchanges.jsonl");
        let token = "dbtc_hidden-token";
        let mut log = Log::in_memory(&[token.to_owned()]);
        log.keep_exchanges(&path).expect("works");
        let answer = |faulted: bool| {
            let mut answer = Response::new(Bytes::from(format!(r#"{{"data":"{token}"}}"#)));
            if faulted {
                answer.extensions_mut().insert(Faulted);
            }
            Reply::Answer(answer)
        };
        let dbt = "http://localhost/api/v2/accounts/51234/jobs/1/run/";
        for (to, reply) in [
            (dbt, answer(false)),
            (dbt, answer(true)),
            (dbt, Reply::Broken(Cut::Hang, Response::new(Bytes::new()))),
            ("http://localhost/api/2.2/jobs/create", answer(false)),
        ] {
            let request = Request::post(to).body(Bytes::from(r#"{"cause":"x"}"#)).expect("works");
            log.note(SimTime(0), &request, 40_000, &reply).expect("works");
        }
        let text = std::fs::read_to_string(&path).expect("works");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(r#""answer":{"data":"[secret]"}"#) && text.contains(r#""body":{"cause":"x"}"#), "{text}");
    }
}
