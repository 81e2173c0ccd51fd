//! The error of a failed request, with the service's own error.

use std::fmt;

use http::StatusCode;

use super::call::BodyProblem;
use super::deadline::Limit;
use super::refusal::Meaning;
use super::retry::RetryAfter;
use super::token::NoToken;
use super::transport::{Net, NetKind};

/// Why a request failed, and which one.
#[derive(Clone, Debug)]
pub(crate) struct HttpError {
    /// `Databricks` or `dbt`.
    pub(crate) service: &'static str,
    /// The API operation, such as `secrets/put`.
    pub(crate) operation: &'static str,
    /// The origin of the request, such as `https://host`.
    pub(crate) origin: String,
    pub(crate) fault: Fault,
    /// Number of attempts made.
    pub(crate) attempts: u32,
    /// The service's request ID, for its support.
    pub(crate) request_id: Option<String>,
    /// The deadline that cut the request short, if any. The service is not at fault then.
    pub(crate) exceeded: Option<Limit>,
}

/// The kind of failure. Match it without a catch-all.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Nothing of the request reached the service.
    NotSent(Net),
    /// No token was available, so nothing was sent.
    NoToken(NoToken),
    /// The request may have reached the service; no complete response was received.
    Lost(Net),
    /// A status other than 2xx.
    Status(StatusCode, ServiceError),
    /// A 2xx response with an unexpected body.
    InvalidResponse(BodyProblem),
    /// The total time for all attempts is over; holds the last failure.
    DeadlineExceeded(Box<Fault>),
}

/// The service's own error, with long text shortened.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceError {
    /// Error code, such as `RESOURCE_DOES_NOT_EXIST`.
    pub(crate) code: Option<String>,
    pub(crate) message: String,
    /// Target of a redirect (redirects are never followed).
    pub(crate) location: Option<String>,
    pub(crate) retry_after: Option<RetryAfter>,
    /// Whether the response was a web page.
    pub(crate) page: bool,
    /// What the error means, from the table in `refusal`.
    pub(crate) means: Meaning,
}

impl ServiceError {
    /// Whether the message contains `value`.
    pub(crate) fn names(&self, value: &str) -> bool {
        self.message.contains(value)
    }
}

impl HttpError {
    /// The underlying fault: the last attempt's if the time was over.
    pub(crate) fn last_fault(&self) -> &Fault {
        match &self.fault {
            Fault::DeadlineExceeded(last) => last,
            fault @ (Fault::NotSent(_)
            | Fault::NoToken(_)
            | Fault::Lost(_)
            | Fault::Status(..)
            | Fault::InvalidResponse(_)) => fault,
        }
    }

    /// Turns "not found" into "wrong host", for endpoints that every host of the service has.
    pub(crate) fn of_wrong_host(mut self) -> HttpError {
        if let Fault::Status(_, service_error) = &mut self.fault
            && service_error.means == Meaning::NotFound
        {
            service_error.means = Meaning::WrongHost;
        }
        self
    }

    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self.last_fault() {
            Fault::Status(status, _) => Some(*status),
            Fault::NotSent(_)
            | Fault::NoToken(_)
            | Fault::Lost(_)
            | Fault::InvalidResponse(_)
            | Fault::DeadlineExceeded(_) => None,
        }
    }

    /// The service's error, if it responded with one.
    pub(crate) fn service_error(&self) -> Option<&ServiceError> {
        match self.last_fault() {
            Fault::Status(_, service_error) => Some(service_error),
            Fault::NotSent(_)
            | Fault::NoToken(_)
            | Fault::Lost(_)
            | Fault::InvalidResponse(_)
            | Fault::DeadlineExceeded(_) => None,
        }
    }

    /// What the error means; `Other` if the service responded with none.
    pub(crate) fn means(&self) -> Meaning {
        self.service_error().map(|service_error| service_error.means).unwrap_or_default()
    }

    /// The service's error code.
    pub(crate) fn code(&self) -> Option<&str> {
        self.service_error()?.code.as_deref()
    }

    pub(crate) fn is_status(&self, status: u16) -> bool {
        self.status().is_some_and(|found| found.as_u16() == status)
    }

    /// Whether the response exceeds the size limit; a retry would too.
    pub(crate) fn is_too_large(&self) -> bool {
        match self.last_fault() {
            Fault::InvalidResponse(BodyProblem::TooLarge { .. }) => true,
            Fault::InvalidResponse(
                BodyProblem::Page(_) | BodyProblem::Empty | BodyProblem::Broken(_) | BodyProblem::Unreadable(_),
            )
            | Fault::NotSent(_)
            | Fault::NoToken(_)
            | Fault::Lost(_)
            | Fault::Status(..)
            | Fault::DeadlineExceeded(_) => false,
        }
    }

    /// Whether a retry would fail the same way: the request was rejected, or the certificate or credential is invalid.
    pub(crate) fn is_final(&self) -> bool {
        match self.last_fault() {
            Fault::Status(status, _) => status.is_client_error() && !matches!(status.as_u16(), 408 | 429),
            Fault::NoToken(none) => !none.is_retryable || self.is_certificate(),
            Fault::NotSent(_) | Fault::Lost(_) | Fault::InvalidResponse(_) | Fault::DeadlineExceeded(_) => {
                self.is_certificate()
            }
        }
    }

    /// Whether the service may have acted on the request. A redirect counts as no effect.
    pub(crate) fn may_have_taken_effect(&self) -> bool {
        match self.last_fault() {
            Fault::Status(status, _) => status.is_server_error() || status.as_u16() == 408,
            Fault::Lost(_) | Fault::InvalidResponse(_) => true,
            Fault::NotSent(_) | Fault::NoToken(_) | Fault::DeadlineExceeded(_) => false,
        }
    }

    /// Whether the certificate is not trusted, which a retry does not change.
    pub(crate) fn is_certificate(&self) -> bool {
        match self.last_fault() {
            Fault::NotSent(net) | Fault::Lost(net) => net.kind == NetKind::Certificate,
            Fault::NoToken(none) => none.net == Some(NetKind::Certificate),
            Fault::Status(..) | Fault::InvalidResponse(_) | Fault::DeadlineExceeded(_) => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NotSent(net) | Fault::Lost(net) => {
                let kind = net.kind.to_string();
                // Without the number of the system's error.
                let detail = net.detail.split(" (os error").next().unwrap_or_default();
                if detail.is_empty() || detail.eq_ignore_ascii_case(&kind) {
                    return formatter.write_str(&kind);
                }
                write!(formatter, "{kind} ({detail})")
            }
            Fault::NoToken(none) => write!(formatter, "{none}"),
            Fault::Status(status, service_error) => {
                write!(formatter, "{}", status.as_u16())?;
                match &service_error.code {
                    Some(code) => write!(formatter, " {code}")?,
                    None => write!(formatter, " {}", status.canonical_reason().unwrap_or("with no reason"))?,
                }
                if !service_error.message.is_empty() {
                    write!(formatter, ": {}", service_error.message)?;
                }
                if let Some(location) = &service_error.location {
                    write!(formatter, " (it points to {location})")?;
                }
                Ok(())
            }
            Fault::InvalidResponse(shape) => write!(formatter, "{shape}"),
            Fault::DeadlineExceeded(last) => write!(formatter, "{last}; no time left to retry"),
        }
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at {}, {}: {}", self.service, self.origin, self.operation, self.fault)?;
        if self.attempts > 1 {
            write!(formatter, " (after {} attempts)", self.attempts)?;
        }
        if let Some(id) = &self.request_id {
            write!(formatter, " (request id {id})")?;
        }
        Ok(())
    }
}

/// Returns the title of a web page, or the text of its `<pre>`, shortened; `None` if the body is
/// not a page.
pub(crate) fn title_of_page(body: &[u8]) -> Option<String> {
    let start = String::from_utf8_lossy(&body[..body.len().min(4096)]).into_owned();
    let trimmed = start.trim_start_matches('\u{feff}').trim_start();
    if !trimmed.starts_with('<') {
        return None;
    }
    let lower = trimmed.to_ascii_lowercase();
    let between = |open: &str, close: &str| {
        let from = lower.find(open)? + open.len();
        let to = lower[from..].find(close)? + from;
        Some(trimmed[from..to].trim().to_owned())
    };
    let title = between("<pre>", "</pre>").or_else(|| between("<title>", "</title>")).unwrap_or_default();
    Some(shorten(&title))
}

/// Joins the text to one line of at most 200 characters.
pub(crate) fn shorten(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_known_by_its_first_character_and_named_by_its_title() {
        assert_eq!(title_of_page(b" <html><TITLE>Sign in</TITLE>").as_deref(), Some("Sign in"));
        assert_eq!(title_of_page(b"<html>").as_deref(), Some(""));
        assert_eq!(title_of_page(b"{\"a\":1}"), None);
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let long = "ä".repeat(300);
        assert_eq!(shorten(&long).chars().count(), 201);
    }
}
