//! The reader and the writer. `attempt` sends one request: credential, request, timeout, transport, trace, verdict.
//! Retries wrap it.

use std::cell::Cell;
use std::fmt::Write as _;
use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use tokio::time::{Instant, sleep, timeout};

use super::call::{BodyProblem, Call, Idempotent, NonIdempotent, Parse, Read};
use super::deadline::{Deadline, Limit};
use super::error::{Fault, HttpError, ServiceError, title_of_page};
use super::refusal::Meaning;
use super::retry::{PATIENCE, Pace, RetryAfter, cool_down, wait_before, worth_repeating};
use super::token::{Credential, RefusedToken};
use super::trace;
use super::transport::{Lane, Limits, Net, NetKind, Transport, WireError};
use crate::context::{Entropy, Wall};
use crate::durations::shown;
use crate::events::{Event, Events};
use crate::secret::Secret;
#[cfg(test)]
use crate::secret::Vault;

/// Header that selects the workspace on a host that serves several.
const WORKSPACE: HeaderName = HeaderName::from_static("x-databricks-workspace-id");

/// How to talk to one service.
pub(crate) struct Profile {
    /// `Databricks` or `dbt`.
    pub(crate) service: &'static str,
    /// `https://host`, without a path.
    pub(crate) origin: String,
    /// `Bearer` or `Token`.
    pub(crate) scheme: &'static str,
    pub(crate) credential: Credential,
    /// Owner and source of the credential, for messages, such as `DATABRICKS_TOKEN`.
    pub(crate) known_as: String,
    pub(crate) user_agent: String,
    /// The workspace ID, on a host that serves several: letters, digits, `-` and `_`.
    pub(crate) workspace: Option<String>,
    /// Parses the service's own error format.
    pub(crate) parse_error: fn(&Response<Bytes>) -> ServiceError,
}

struct Line {
    profile: Profile,
    transport: Rc<dyn Transport>,
    pace: Pace,
    entropy: Entropy,
    wall: Wall,
    events: Events,
    /// Whether the last [`Writer::put_once`] lost its connection.
    write_was_lost: Cell<bool>,
}

/// Reads from one service, up to its deadline if it has one. It has no method that writes.
#[derive(Clone)]
pub(crate) struct Reader {
    line: Rc<Line>,
    deadline: Option<Deadline>,
    /// Whether it waits out a rate limit.
    is_patient: bool,
}

/// Reads and writes.
#[derive(Clone)]
pub(crate) struct Writer(Reader);

impl Deref for Writer {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.0
    }
}

/// Outcome of one send that must not be retried blindly.
#[derive(Debug)]
#[must_use]
pub(crate) enum Sent<T> {
    Done(T),
    /// The service did nothing (not reached, or 429), so it may be sent again.
    NotSent(HttpError),
    /// The service rejected it.
    Rejected(HttpError),
    /// Unknown whether the service did it.
    Open(HttpError),
}

impl Reader {
    /// Reads with retries, up to the total time.
    pub(crate) async fn read<T>(&self, read: Read<T>) -> Result<T, HttpError> {
        self.repeat(&read.call, read.parse, self.line.pace.total).await
    }

    /// Reads with one attempt, for callers with an interval of their own (following a run, looking up a start).
    pub(crate) async fn read_once<T>(&self, read: Read<T>) -> Result<T, HttpError> {
        self.attempt(&read.call, read.parse, Lane::Pooled, self.left())
            .await
            .map_err(|fault| self.error(&read.call, fault, 1))
    }

    /// Returns a reader with this deadline instead of its own.
    pub(crate) fn until(&self, deadline: &Deadline) -> Reader {
        Reader { deadline: Some(deadline.clone()), ..self.clone() }
    }

    /// Returns a reader that waits out rate limits, for reads before a start.
    pub(crate) fn patient(&self) -> Reader {
        Reader { is_patient: true, ..self.clone() }
    }

    /// Runs `work` for at most `limit` and not past the deadline. Returns `None` on timeout.
    pub(crate) async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        timeout(limit.min(self.left()), work).await.ok()
    }

    fn left(&self) -> Duration {
        self.deadline.as_ref().map_or(Duration::MAX, Deadline::left)
    }

    fn limit(&self) -> Option<Limit> {
        self.deadline.as_ref().map(Deadline::limit)
    }

    /// Owner and source of the credential.
    pub(crate) fn known_as(&self) -> &str {
        &self.line.profile.known_as
    }

    /// Remaining lifetime of the current token, if known.
    pub(crate) async fn token_life(&self) -> Option<Duration> {
        self.line.profile.credential.life().await
    }

    /// The origin that requests go to.
    pub(crate) fn origin(&self) -> &str {
        &self.line.profile.origin
    }

    async fn repeat<T>(&self, call: &Call, parse: Parse<T>, total: Duration) -> Result<T, HttpError> {
        self.repeat_and_tell(call, parse, total).await.map_err(|(error, _)| error)
    }

    /// Retries. A failure comes with whether any of the attempts may have taken effect.
    async fn repeat_and_tell<T>(&self, call: &Call, parse: Parse<T>, total: Duration) -> Result<T, (HttpError, bool)> {
        let mut open = false;
        let mut end = Instant::now() + total.min(self.left());
        let patience = Instant::now() + PATIENCE.min(self.left());
        let (mut attempts, mut limited) = (1, 0);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.attempt(call, parse, Lane::Pooled, left).await {
                Ok(value) => return Ok(value),
                Err(failed) => {
                    open |= may_have_taken_effect(&failed.fault);
                    let error = self.error(call, failed, attempts);
                    if self.is_patient && error.is_status(429) {
                        limited += 1;
                        self.cool_down(error, limited, patience).await.map_err(|error| (error, open))?;
                        end = Instant::now() + total.min(self.left());
                    } else {
                        self.pause(error, end).await.map_err(|error| (error, open))?;
                    }
                }
            }
            attempts += 1;
        }
    }

    /// When retries that start now end.
    pub(crate) fn repeats_until(&self) -> Instant {
        Instant::now() + self.line.pace.total.min(self.left())
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// Returns `error` if it is not worth retrying or there is no time left.
    pub(crate) async fn pause(&self, error: HttpError, end: Instant) -> Result<(), HttpError> {
        if !worth_repeating(&error.fault, error.attempts) {
            return Err(error);
        }
        let asked = match &error.fault {
            Fault::Status(_, service_error) => service_error.retry_after,
            Fault::NoToken(none) => none.retry_after,
            Fault::NotSent(_) | Fault::Lost(_) | Fault::InvalidResponse(_) | Fault::DeadlineExceeded(_) => None,
        };
        let wait = wait_before(error.attempts + 1, asked, &self.line.pace, self.line.entropy.fraction());
        self.wait(wait, error, end).await
    }

    /// Waits out a rate limit. `times` counts the 429 responses so far.
    async fn cool_down(&self, error: HttpError, times: u32, end: Instant) -> Result<(), HttpError> {
        let asked = error.service_error().and_then(|service_error| service_error.retry_after);
        let wait = asked.map_or_else(|| cool_down(times), |RetryAfter(asked)| asked);
        let jitter = Duration::from_secs(1).mul_f64(self.line.entropy.fraction());
        self.wait(wait.saturating_add(jitter), error, end).await
    }

    async fn wait(&self, wait: Duration, error: HttpError, end: Instant) -> Result<(), HttpError> {
        if Instant::now() + wait >= end {
            let exceeded = self.limit().filter(|_| wait >= self.left());
            return Err(HttpError { fault: Fault::DeadlineExceeded(Box::new(error.fault)), exceeded, ..error });
        }
        if wait >= Duration::from_secs(2) {
            let HttpError { service, operation, fault, .. } = error;
            let wait = shown(wait);
            self.line.events.remark(format!("{service}: {fault} ({operation}); retrying in {wait}"));
        }
        sleep(wait).await;
        Ok(())
    }

    async fn attempt<T>(&self, call: &Call, parse: Parse<T>, lane: Lane, left: Duration) -> Result<T, Failed> {
        if left.is_zero() {
            return Err(Fault::NotSent(Net::new(NetKind::Timeout, "no time was left")).into());
        }
        let begun = Instant::now();
        let secret = self.secret(None, left).await?;
        let answer = self.send(call, lane, left, &secret).await?;
        let Some(is_named) = self.may_be_the_token(&answer) else { return self.judge(&answer, parse) };
        let refused = RefusedToken { secret: &secret, is_named };
        let again = Box::pin(self.renewed(call, lane, left.saturating_sub(begun.elapsed()), refused)).await?;
        self.judge(again.as_ref().unwrap_or(&answer), parse)
    }

    /// Sends again with a new token, if the issuer has one. The service rejected the first request, so this is not a
    /// retry.
    async fn renewed(
        &self,
        call: &Call,
        lane: Lane,
        left: Duration,
        refused: RefusedToken<'_>,
    ) -> Result<Option<Response<Bytes>>, Failed> {
        let begun = Instant::now();
        match self.secret(Some(refused), left).await {
            Ok(renewed) if renewed.reveal() != refused.secret.reveal() => {
                self.send(call, lane, left.saturating_sub(begun.elapsed()), &renewed).await.map(Some)
            }
            Ok(_) => Ok(None),
            // Report the service's own refusal, not the failed renewal.
            Err(_) if !refused.is_named => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    /// Whether a new token may help: `Some(true)` if the service names the token as the cause. Expired tokens are
    /// rejected with 403 as often as with 401, and not always with a message or in JSON.
    fn may_be_the_token(&self, answer: &Response<Bytes>) -> Option<bool> {
        let refused = matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        if !refused || !self.line.profile.credential.is_renewable() {
            return None;
        }
        match (self.line.profile.parse_error)(answer).means {
            Meaning::TokenInvalid | Meaning::TokenExpired => Some(true),
            Meaning::RightMissing | Meaning::WrongHost | Meaning::Other => Some(false),
            Meaning::AddressBlocked
            | Meaning::NotInPlan
            | Meaning::Unpaid
            | Meaning::OtherAccount
            | Meaning::NotFound
            | Meaning::NotImplemented => None,
        }
    }

    /// The secret to send, requested again for each attempt.
    async fn secret(&self, refused: Option<RefusedToken<'_>>, left: Duration) -> Result<Secret, Failed> {
        match timeout(left, self.line.profile.credential.secret(refused)).await {
            Ok(secret) => secret.map_err(|none| Fault::NoToken(none).into()),
            Err(_) => Err(Fault::NotSent(Net::new(NetKind::Timeout, "no token came in time")).into()),
        }
    }

    async fn send(&self, call: &Call, lane: Lane, left: Duration, secret: &Secret) -> Result<Response<Bytes>, Failed> {
        let line = &*self.line;
        let limits = Limits { attempt: call.attempt.min(left), cap: call.cap, longest_text: call.longest_text };
        let begun = Instant::now();
        let sent = timeout(limits.attempt, line.transport.send(self.request(call, secret), limits, lane)).await;
        let sent = sent.unwrap_or_else(|_| Err(WireError::Lost(Net::new(NetKind::Timeout, shown(limits.attempt)))));
        self.trace(call, &sent, begun.elapsed());
        sent.map_err(|error| match error {
            WireError::NotSent(net) => Fault::NotSent(net).into(),
            WireError::Lost(net) => Fault::Lost(net).into(),
            WireError::TooLarge => Failed::from(Fault::InvalidResponse(BodyProblem::TooLarge { cap: limits.cap })),
        })
    }

    fn judge<T>(&self, answer: &Response<Bytes>, parse: Parse<T>) -> Result<T, Failed> {
        let request_id = trace::request_id(answer.headers());
        self.verdict(answer, parse).map_err(|fault| Failed { fault, request_id })
    }

    fn verdict<T>(&self, answer: &Response<Bytes>, parse: Parse<T>) -> Result<T, Fault> {
        if !answer.status().is_success() {
            let mut service_error = (self.line.profile.parse_error)(answer);
            service_error.retry_after = RetryAfter::read(answer.headers(), self.line.wall.now());
            if answer.status().is_redirection() {
                let location = answer.headers().get(http::header::LOCATION).and_then(|value| value.to_str().ok());
                service_error.location = location.map(super::error::shorten);
            }
            return Err(Fault::Status(answer.status(), service_error));
        }
        parse(answer).map_err(|problem| {
            // Report a web page as one, whatever the parse error.
            Fault::InvalidResponse(title_of_page(answer.body()).map_or(problem, BodyProblem::Page))
        })
    }

    fn request(&self, call: &Call, secret: &Secret) -> Request<Bytes> {
        let profile = &self.line.profile;
        let mut request = Request::new(call.body.clone().unwrap_or_default());
        *request.method_mut() = call.method.clone();
        // Origin and target are made of checked parts, and a secret is printable ASCII, so neither can fail to parse.
        *request.uri_mut() =
            format!("{}{}", profile.origin, call.target()).parse().expect("a checked origin and an encoded target");
        let mut authorization = HeaderValue::from_str(&format!("{} {}", profile.scheme, secret.reveal()))
            .expect("a secret is printable ASCII");
        authorization.set_sensitive(true);
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, authorization);
        headers.insert(ACCEPT, HeaderValue::from_static(call.accept));
        headers.insert(USER_AGENT, HeaderValue::from_str(&profile.user_agent).expect("our own name is printable"));
        if let Some(id) = &profile.workspace {
            headers.insert(WORKSPACE, HeaderValue::from_str(id).expect("a checked id is printable"));
        }
        if call.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        request
    }

    fn trace(&self, call: &Call, sent: &Result<Response<Bytes>, WireError>, took: Duration) {
        let mut line = format!("{} {}{}", call.method, self.line.profile.origin, call.target());
        let wanted = self.line.events.wants_bodies();
        let shown = |body: &Bytes| if wanted { trace::body(body) } else { None };
        let mut bodies: Vec<String> =
            call.body.as_ref().and_then(shown).map(|body| format!("> {body}")).into_iter().collect();
        match sent {
            Ok(answer) => {
                let _ = write!(line, " -> {} in {} ms", answer.status().as_u16(), took.as_millis());
                if let Some(id) = trace::request_id(answer.headers()) {
                    let _ = write!(line, " (request id {id})");
                }
                bodies.extend(shown(answer.body()).map(|body| format!("< {body}")));
            }
            Err(WireError::NotSent(net) | WireError::Lost(net)) => {
                let _ = write!(line, " -> {} ({}) after {} ms", net.kind, net.detail, took.as_millis());
            }
            Err(WireError::TooLarge) => line += " -> larger than the cap",
        }
        self.line.events.emit(Event::Trace { line, bodies });
    }

    /// An error for a response that the caller found to be invalid.
    pub(crate) fn invalid_response(&self, operation: &'static str, problem: BodyProblem) -> HttpError {
        HttpError {
            service: self.line.profile.service,
            operation,
            origin: self.line.profile.origin.clone(),
            fault: Fault::InvalidResponse(problem),
            attempts: 1,
            request_id: None,
            exceeded: None,
        }
    }

    fn error(&self, call: &Call, failed: Failed, attempts: u32) -> HttpError {
        let profile = &self.line.profile;
        let error = HttpError {
            service: profile.service,
            operation: call.operation,
            origin: profile.origin.clone(),
            fault: failed.fault,
            attempts,
            request_id: failed.request_id,
            exceeded: None,
        };
        // A final error is reported as such even past the deadline.
        HttpError { exceeded: self.limit().filter(|_| self.left().is_zero() && !error.is_final()), ..error }
    }
}

impl Writer {
    pub(crate) fn new(
        profile: Profile,
        transport: Rc<dyn Transport>,
        pace: Pace,
        entropy: Entropy,
        wall: Wall,
        events: Events,
    ) -> Writer {
        let line = Line { profile, transport, pace, entropy, wall, events, write_was_lost: Cell::default() };
        Writer(Reader { line: Rc::new(line), deadline: None, is_patient: false })
    }

    /// A writer over a test's own transport.
    #[cfg(test)]
    pub(crate) fn over(
        transport: Rc<dyn Transport>,
        parse_error: fn(&Response<Bytes>) -> ServiceError,
        wall: Wall,
    ) -> Writer {
        let profile = Profile {
            service: "the service",
            origin: "https://sandbox.invalid".to_owned(),
            scheme: "Bearer",
            credential: Credential::Fixed(Vault::default().admit("token-0123456789".to_owned()).unwrap()),
            known_as: "a token".to_owned(),
            user_agent: "test".to_owned(),
            workspace: None,
            parse_error,
        };
        Writer::new(profile, transport, Pace::default(), Entropy::seeded(1), wall, Events::new(|_| {}))
    }

    /// Returns a writer with this deadline instead of its own.
    pub(crate) fn until(&self, deadline: &Deadline) -> Writer {
        Writer(self.0.until(deadline))
    }

    /// Starts opening connections: `at_once` pooled ones, and a fresh one if `sends_once`.
    pub(crate) fn preconnect(&self, at_once: usize, sends_once: bool) {
        let transport = &self.0.line.transport;
        transport.preconnect(Lane::Pooled, at_once);
        transport.preconnect(Lane::Fresh, usize::from(sends_once));
    }

    /// Returns a reader for the same service.
    pub(crate) fn reader(&self) -> Reader {
        self.0.clone()
    }

    /// Sends an idempotent write, with retries.
    pub(crate) async fn put<T>(&self, put: Idempotent<T>) -> Result<T, HttpError> {
        self.repeat(&put.call, put.parse, self.0.line.pace.total).await
    }

    /// Sends an idempotent write with retries for at most `within`. The outcome says whether any attempt may have taken
    /// effect.
    pub(crate) async fn put_within<T>(&self, put: Idempotent<T>, within: Duration) -> Sent<T> {
        match self.repeat_and_tell(&put.call, put.parse, self.0.line.pace.total.min(within)).await {
            Ok(value) => Sent::Done(value),
            Err((error, true)) => Sent::Open(error),
            Err((error, false)) if error.is_final() => Sent::Rejected(error),
            Err((error, false)) => Sent::NotSent(error),
        }
    }

    /// Sends an idempotent write with one attempt, for callers who check the current state before each.
    ///
    /// After a lost connection the next write opens a new one: the caller's check has just used the pooled connection,
    /// and a server that closes idle connections would break it each time.
    pub(crate) async fn put_once<T>(&self, put: Idempotent<T>) -> Result<T, HttpError> {
        let lane = if self.0.line.write_was_lost.get() { Lane::Fresh } else { Lane::Pooled };
        let sent = self.attempt(&put.call, put.parse, lane, Duration::MAX).await;
        let lost = |failed: &Failed| matches!(failed.fault, Fault::Lost(_));
        self.0.line.write_was_lost.set(sent.as_ref().err().is_some_and(lost));
        sent.map_err(|failed| self.error(&put.call, failed, 1))
    }

    /// Sends once, on a new connection.
    pub(crate) async fn once<T>(&self, once: NonIdempotent<T>) -> Sent<T> {
        match self.attempt(&once.call, once.parse, Lane::Fresh, self.left()).await {
            Ok(value) => Sent::Done(value),
            Err(failed) => {
                let error = self.error(&once.call, failed, 1);
                match &error.fault {
                    Fault::NotSent(_) => Sent::NotSent(error),
                    Fault::NoToken(none) if none.is_retryable => Sent::NotSent(error),
                    Fault::NoToken(_) => Sent::Rejected(error),
                    Fault::Status(status, _) => match status.as_u16() {
                        429 => Sent::NotSent(error),
                        408 => Sent::Open(error),
                        400..=499 => Sent::Rejected(error),
                        // Any 5xx may have taken effect (dbt-core#2836), and a redirect says nothing about it.
                        _ => Sent::Open(error),
                    },
                    Fault::Lost(_) | Fault::InvalidResponse(_) | Fault::DeadlineExceeded(_) => Sent::Open(error),
                }
            }
        }
    }
}

/// Whether the request may have taken effect despite this fault.
fn may_have_taken_effect(fault: &Fault) -> bool {
    match fault {
        Fault::NotSent(_) | Fault::NoToken(_) => false,
        // Any 5xx may have taken effect (dbt-core#2836), and a redirect says nothing about it.
        Fault::Status(status, _) => !status.is_client_error() || status.as_u16() == 408,
        Fault::Lost(_) | Fault::InvalidResponse(_) => true,
        Fault::DeadlineExceeded(last) => may_have_taken_effect(last),
    }
}

/// A failed attempt, before its call is known.
struct Failed {
    fault: Fault,
    request_id: Option<String>,
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Failed {
        Failed { fault, request_id: None }
    }
}
