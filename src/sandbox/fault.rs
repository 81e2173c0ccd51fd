//! Fault rules: which call of which operation goes wrong, when, and how.

use bytes::Bytes;
use http::Response;

/// When the fault strikes, seen from the effect of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The request has no effect.
    Before,
    /// The effect has happened; only the answer is spoilt.
    After,
}

/// How a connection fails.
#[derive(Debug)]
pub enum Cut {
    /// The name does not resolve. In memory only: no accepted connection can show it.
    NoName,
    /// Nobody listens. In memory only.
    Refused,
    /// Packets vanish, the connection is never made. In memory only.
    Blackhole,
    /// The TLS handshake fails. In memory only.
    Tls,
    /// RST before any byte of an answer.
    Reset,
    /// FIN before any byte of an answer.
    Close,
    /// The head of this answer, then RST.
    ResetAfterHead(Response<Bytes>),
    /// Half of the body of this answer, then RST.
    ResetInBody(Response<Bytes>),
    /// The head of this answer, then nothing, the connection stays open.
    Silence(Response<Bytes>),
    /// Half of the announced body, then FIN.
    Truncated(Response<Bytes>),
    /// The answer, one byte a second.
    Drip(Response<Bytes>),
    /// The calling process is killed: with `Some`, half of this answer is sent first.
    Kill(Option<Response<Bytes>>),
}
