//! Request values: what to send, and how to read the answer. No I/O here.

use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How an answer becomes a `T`.
pub(crate) type Parse<T> = fn(&Response<Bytes>) -> Result<T, Shape>;

/// An answer that is not what the service promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A web page came instead: a login page, a proxy, a wrong host. Holds its title.
    Page(String),
    /// The body is empty where something was due.
    Empty,
    /// More bytes than the cap allows.
    TooLarge { cap: usize },
    /// It is no JSON: cut off, or spoiled on the way.
    Broken(String),
    /// Anything else, with the reason.
    Unreadable(String),
}

impl Shape {
    /// A body that is no JSON may come whole the next time; one that is, and has another form, will have it then too.
    pub(crate) fn of(error: &serde_json::Error) -> Shape {
        if error.is_data() { Shape::Unreadable(error.to_string()) } else { Shape::Broken(error.to_string()) }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shape::Page(title) if title.is_empty() => formatter.write_str("received a web page instead of data"),
            Shape::Page(title) => write!(formatter, "received a web page titled \"{title}\" instead of data"),
            Shape::Empty => formatter.write_str("empty response"),
            Shape::TooLarge { cap } => write!(formatter, "the response is larger than {cap} bytes"),
            Shape::Broken(reason) | Shape::Unreadable(reason) => {
                write!(formatter, "unexpected response: {reason}")
            }
        }
    }
}

/// A path whose segments are encoded, so that no value can leave its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path(String);

impl Path {
    /// A fixed path of the API's own, such as `/api/2.0/secrets/put`.
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

    /// Appends what a service named, slashes between its parts included; everything else that means something is encoded.
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

/// One request as a value.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// The operation in the service's words, for messages and the trace: `secrets/put`.
    pub(crate) operation: &'static str,
    pub(crate) method: Method,
    pub(crate) path: Path,
    pub(crate) query: Vec<(&'static str, String)>,
    /// JSON text; may hold a secret, so it is shown by the trace only after redaction.
    pub(crate) body: Option<Bytes>,
    pub(crate) accept: &'static str,
    /// How long one attempt may take in all.
    pub(crate) attempt: Duration,
    /// How many bytes of an answer are taken in.
    pub(crate) cap: usize,
    /// Of longer texts in it so many bytes at both ends are taken in.
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

    /// Sends this value as JSON.
    pub(crate) fn json(mut self, body: &impl Serialize) -> Call {
        // Our wire types have text keys and finite numbers only, so this cannot fail.
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

    /// Of texts in the answer that are longer only both ends are of interest.
    pub(crate) fn shorten(mut self, longest_text: usize) -> Call {
        self.longest_text = Some(longest_text);
        self
    }

    /// Path and query as they go into the request line.
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
    /// A request that changes nothing, and may be repeated.
    Read
);
lane!(
    /// A request that changes something, and may be repeated: doing it twice is doing it once.
    Idempotent
);
lane!(
    /// A request that must not be repeated blindly.
    NonIdempotent
);

macro_rules! whole_json {
    ($($name:ident),*) => {$(
        impl<T: DeserializeOwned> $name<T> {
            /// The answer's whole body is JSON of this type.
            pub(crate) fn json(call: Call) -> $name<T> {
                $name { call, parse: json }
            }
        }
    )*};
}

whole_json!(Read, Idempotent);

/// Reads the whole body as JSON.
pub(crate) fn json<T: DeserializeOwned>(answer: &Response<Bytes>) -> Result<T, Shape> {
    if answer.body().is_empty() {
        return Err(Shape::Empty);
    }
    serde_json::from_slice(answer.body()).map_err(|error| Shape::of(&error))
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
