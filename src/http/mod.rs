//! Request values, and the two clients that send them.
//!
//! A [`Read`] changes nothing and may be retried, an [`Idempotent`] write may be retried, and a [`NonIdempotent`] one
//! is sent once, on a new connection; its outcome may be [`Sent::Open`]. A [`Reader`] has no method that writes.

mod body;
mod call;
mod client;
mod deadline;
mod error;
mod lenient;
mod pages;
mod preconnect;
mod probe;
mod refusal;
mod retry;
mod socket;
mod token;
mod trace;
mod transport;

#[cfg(test)]
pub(crate) use body::BodyReader;
pub(crate) use call::{BodyProblem, Call, Idempotent, NonIdempotent, Path, Read, json as parse_json};
pub(crate) use client::{Profile, Reader, Sent, Writer};
pub(crate) use deadline::{Deadline, Limit};
pub(crate) use error::{Fault, HttpError, ServiceError, shorten, title_of_page};
pub(crate) use lenient::{Rows, lenient_number, optional, optional_list, or_default, skip_invalid};
pub(crate) use pages::{Pages, side_by_side};
pub(crate) use probe::probe;
pub(crate) use refusal::{Meaning, Phrase, Service, meaning, says};
pub(crate) use retry::{PATIENCE, Pace, RetryAfter, cool_down};
#[cfg(test)]
pub(crate) use socket::refusing;
pub(crate) use socket::{Roots, Sockets, is_proxied};
pub(crate) use token::{Credential, IssuedToken, Issuer, NoToken, TokenClient, TokenFuture, TokenRequest, Unanswered};
#[cfg(test)]
pub(crate) use transport::{Lane, Limits, Pending, WireError};
pub(crate) use transport::{Net, NetKind, Transport};
