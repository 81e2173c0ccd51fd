//! The interface between requests and what carries them: real sockets, or an in-memory world on simulated time.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};

/// How connections are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Connections are kept and reused.
    Pooled,
    /// A new connection for this request; no layer below resends it.
    Fresh,
}

/// Limits of one attempt. The transport's own connect timeout (DNS, connection, TLS) is shorter than `attempt`, so a
/// slow connection counts as not sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// From the DNS lookup to the last byte of the body.
    pub(crate) attempt: Duration,
    /// Longest body, in bytes.
    pub(crate) cap: usize,
    /// Longer JSON strings are cut to about this many bytes at each end; `None` keeps them.
    pub(crate) longest_text: Option<usize>,
}

/// A network problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Net {
    pub(crate) kind: NetKind,
    /// The system's error message.
    pub(crate) detail: String,
}

impl Net {
    pub(crate) fn new(kind: NetKind, detail: impl Into<String>) -> Net {
        Net { kind, detail: detail.into() }
    }
}

/// Kinds of network problems that need different advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NetKind {
    #[error("the name does not resolve")]
    Name,
    #[error("connection refused")]
    Connect,
    #[error("the connection timed out")]
    ConnectTimeout,
    #[error("the proxy refused the connection")]
    Proxy,
    /// Never retried.
    #[error("the certificate is not trusted")]
    Certificate,
    /// For another reason than the certificate.
    #[error("the TLS handshake failed")]
    Tls,
    #[error("the connection broke before the response was complete")]
    Broken,
    #[error("the response timed out")]
    Timeout,
}

/// Why an attempt returned no complete response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WireError {
    /// Nothing of the request reached the service.
    NotSent(Net),
    /// The request may have reached the service.
    Lost(Net),
    /// The body exceeds the limit. The service has acted on the request.
    TooLarge,
}

/// The pending response to one request.
pub(crate) type Pending<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, WireError>> + 'a>>;

/// Sends one request, once. Follows no redirects and never retries.
pub(crate) trait Transport {
    fn send(&self, request: Request<Bytes>, limits: Limits, lane: Lane) -> Pending<'_>;

    /// Starts opening connections for the first requests of this lane. Sends nothing over them.
    fn preconnect(&self, _lane: Lane, _count: usize) {}
}
