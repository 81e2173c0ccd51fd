//! Request values: what to send and how to parse the response. No I/O.

use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Parses a response into a `T`.
pub(crate) type Parse<T> = fn(&Response<Bytes>) -> Result<T, BodyProblem>;

/// How a response differs from what the API promises.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyProblem {
    /// A web page (a login page, a proxy, the wrong host), with its title.
    #[error("received a web page{} instead of data", if .0.is_empty() { String::new() } else { format!(" titled \"{}\"", .0) })]
    Page(String),
    /// Although data was expected.
    #[error("empty response")]
    Empty,
    #[error("the response is larger than {cap} bytes")]
    TooLarge { cap: usize },
    /// Not valid JSON, for example truncated.
    #[error("unexpected response: {0}")]
    Broken(String),
    /// Any other reason.
    #[error("unexpected response: {0}")]
    Unreadable(String),
}

impl BodyProblem {
    /// Invalid JSON may be whole on the next attempt (`Broken`); valid JSON of another type will not change
    /// (`Unreadable`).
    pub(crate) fn of(error: &serde_json::Error) -> BodyProblem {
        if error.is_data() {
            BodyProblem::Unreadable(error.to_string())
        } else {
            BodyProblem::Broken(error.to_string())
        }
    }
}

/// A path whose segments are percent-encoded, so that no value can escape its segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path(String);

impl Path {
    /// A fixed API path, such as `/api/2.0/secrets/put`.
    pub(crate) fn new(fixed: &'static str) -> Path {
        Path(fixed.to_owned())
    }

    /// Appends fixed text, slashes included.
    pub(crate) fn then(mut self, fixed: &'static str) -> Path {
        self.0.push_str(fixed);
        self
    }

    /// Appends a number.
    pub(crate) fn number(mut self, id: u64) -> Path {
        let _ = write!(self.0, "{id}");
        self
    }

    /// Appends a file name from the service. Slashes are kept; other special characters are encoded.
    pub(crate) fn file(mut self, name: &str) -> Path {
        for byte in name.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_./~".contains(&byte) {
                self.0.push(char::from(byte));
            } else {
                let _ = write!(self.0, "%{byte:02X}");
            }
        }
        self
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// One request.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// The API operation, for messages and the trace, such as `secrets/put`.
    pub(crate) operation: &'static str,
    pub(crate) method: Method,
    pub(crate) path: Path,
    pub(crate) query: Vec<(&'static str, String)>,
    /// JSON. May contain a secret, so the trace redacts it.
    pub(crate) body: Option<Bytes>,
    pub(crate) accept: &'static str,
    /// Timeout of one attempt, body included.
    pub(crate) attempt: Duration,
    /// Longest body accepted, in bytes.
    pub(crate) cap: usize,
    /// Longer JSON strings are cut to about this many bytes at each end.
    pub(crate) longest_text: Option<usize>,
}

impl Call {
    pub(crate) fn get(operation: &'static str, path: Path) -> Call {
        Call {
            operation,
            method: Method::GET,
            path,
            query: Vec::new(),
            body: None,
            accept: "application/json",
            attempt: Duration::from_secs(30),
            cap: 8 << 20,
            longest_text: None,
        }
    }

    pub(crate) fn post(operation: &'static str, path: Path) -> Call {
        Call { method: Method::POST, ..Call::get(operation, path) }
    }

    pub(crate) fn query(mut self, name: &'static str, value: impl fmt::Display) -> Call {
        self.query.push((name, value.to_string()));
        self
    }

    /// Adds a query parameter, if there is a value.
    pub(crate) fn query_some(self, name: &'static str, value: Option<impl fmt::Display>) -> Call {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// Sets the JSON body.
    pub(crate) fn json(mut self, body: &impl Serialize) -> Call {
        // Wire types have string keys and finite numbers only, so this cannot fail.
        self.body = Some(serde_json::to_vec(body).expect("a wire type serialises").into());
        self
    }

    pub(crate) fn accept(mut self, accept: &'static str) -> Call {
        self.accept = accept;
        self
    }

    pub(crate) fn within(mut self, attempt: Duration) -> Call {
        self.attempt = attempt;
        self
    }

    pub(crate) fn cap(mut self, cap: usize) -> Call {
        self.cap = cap;
        self
    }

    /// Keeps only both ends of JSON strings longer than this many bytes.
    pub(crate) fn shorten(mut self, longest_text: usize) -> Call {
        self.longest_text = Some(longest_text);
        self
    }

    /// Path and query, as in the request line.
    pub(crate) fn target(&self) -> String {
        if self.query.is_empty() {
            return self.path.as_str().to_owned();
        }
        let mut pairs = url::form_urlencoded::Serializer::new(String::new());
        pairs.extend_pairs(&self.query);
        format!("{}?{}", self.path.as_str(), pairs.finish())
    }
}

macro_rules! lane {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub(crate) struct $name<T> {
            pub(crate) call: Call,
            pub(crate) parse: Parse<T>,
        }

        impl<T> $name<T> {
            pub(crate) fn new(call: Call, parse: Parse<T>) -> $name<T> {
                $name { call, parse }
            }
        }
    };
}

lane!(
    /// A request that changes nothing and may be retried.
    Read
);
lane!(
    /// A request that changes something and may be retried, because a second time has no further effect.
    Idempotent
);
lane!(
    /// A request that must not be retried blindly.
    NonIdempotent
);

macro_rules! whole_json {
    ($($name:ident),*) => {$(
        impl<T: DeserializeOwned> $name<T> {
            /// Parses the whole body as JSON.
            pub(crate) fn json(call: Call) -> $name<T> {
                $name { call, parse: json }
            }
        }
    )*};
}

whole_json!(Read, Idempotent);

/// Parses the whole body as JSON.
pub(crate) fn json<T: DeserializeOwned>(answer: &Response<Bytes>) -> Result<T, BodyProblem> {
    if answer.body().is_empty() {
        return Err(BodyProblem::Empty);
    }
    serde_json::from_slice(answer.body()).map_err(|error| BodyProblem::of(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_cannot_become_a_query() {
        assert_eq!(Path::new("/x/").file("a/b c?step=1#%2e.json").as_str(), "/x/a/b%20c%3Fstep%3D1%23%252e.json");
    }

    #[test]
    fn a_query_is_percent_encoded() {
        let call = Call::get("runs/list", Path::new("/runs/")).query("status__in", "[1,2]").query("limit", 100);
        assert_eq!(call.target(), "/runs/?status__in=%5B1%2C2%5D&limit=100");
    }
}
