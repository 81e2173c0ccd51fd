//! The seam between requests and whatever carries them: real sockets, or a world in memory on simulated time.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};

/// How connections are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Connections are kept and used again.
    Pooled,
    /// One connection for this one request; nothing below sends it a second time.
    Fresh,
}

/// What one attempt may use up. The time for name, connection and TLS is the transport's own, and shorter than `attempt`, so
/// that a slow connection counts as not sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// From the first look-up to the last byte of the body.
    pub(crate) attempt: Duration,
    /// Bytes of body.
    pub(crate) cap: usize,
    /// Of longer texts in a body of JSON so many bytes at both ends are kept; `None`: all of them.
    pub(crate) longest_text: Option<usize>,
}

/// What went wrong on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Net {
    pub(crate) kind: NetKind,
    /// The system's own words.
    pub(crate) detail: String,
}

impl Net {
    pub(crate) fn new(kind: NetKind, detail: impl Into<String>) -> Net {
        Net { kind, detail: detail.into() }
    }
}

/// The kinds of trouble between here and the service that call for different advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NetKind {
    /// The name does not resolve.
    Name,
    /// Nobody accepts the connection.
    Connect,
    /// Nobody answers the connection attempt in time.
    ConnectTimeout,
    /// The proxy refuses.
    Proxy,
    /// The certificate is not trusted: final, never repeated.
    Certificate,
    /// The TLS handshake fails otherwise.
    Tls,
    /// The connection was closed or reset before the answer was whole.
    Broken,
    /// The answer was not whole in time.
    Timeout,
}

impl fmt::Display for NetKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            NetKind::Name => "the name does not resolve",
            NetKind::Connect => "connection refused",
            NetKind::ConnectTimeout => "the connection timed out",
            NetKind::Proxy => "the proxy refused the connection",
            NetKind::Certificate => "the certificate is not trusted",
            NetKind::Tls => "the TLS handshake failed",
            NetKind::Broken => "the connection broke before the response was complete",
            NetKind::Timeout => "the response timed out",
        })
    }
}

/// One attempt that brought no whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WireError {
    /// Certainly nothing of the request reached the service.
    NotSent(Net),
    /// The request may have reached it.
    Lost(Net),
    /// The body outgrew the cap. The service has acted.
    TooLarge,
}

/// What the host has shown at a connection over TLS, in DER: an extension of the answer, on lanes that ask for it.
#[derive(Clone)]
pub(super) struct PeerCertificate(pub(super) Bytes);

/// The pending answer to one request.
pub(crate) type Pending<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, WireError>> + 'a>>;

/// Carries one request, once. Follows no redirect and repeats nothing.
pub(crate) trait Transport {
    fn send(&self, request: Request<Bytes>, limits: Limits, lane: Lane) -> Pending<'_>;

    /// Begins to open connections that requests of this lane will use first, and sends nothing over them.
    fn open_ahead(&self, _lane: Lane, _count: usize) {}
}
