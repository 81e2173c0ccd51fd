//! What stands in the `Authorization` header: a fixed secret, or tokens that somebody issues and that expire.
//!
//! A token is asked for at every request. The one at hand is given as long as it lives: a copy kept elsewhere would break
//! long follows after exactly its life (databricks-api §1.7).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Request, Response};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use url::Url;

use super::retry::RetryAfter;
use super::transport::{Lane, Limits, Net, NetKind, Transport, WireError};
use crate::context::Wall;
use crate::events::{Event, Events};
use crate::secret::Secret;

/// How long one request for a token may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A token is renewed when this little of its life is left, or a quarter of it if that is less.
const EARLY: Duration = Duration::from_mins(5);

/// With less left than this, or an eighth of its life, a token is not used any more: services refuse the last seconds (§1.6).
const LAST: Duration = Duration::from_secs(40);

/// After a renewal that failed while the old token still lives.
const REST: Duration = Duration::from_mins(1);

/// A secret of one request.
#[derive(Clone)]
pub(crate) enum Credential {
    Fixed(Secret),
    Issued(Rc<Issued>),
}

/// A token, and how long it lives from now on, if that is known.
pub(crate) struct Fresh {
    pub(crate) secret: Secret,
    pub(crate) life: Option<Duration>,
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoToken {
    /// In words, with who was asked.
    pub(crate) message: String,
    /// Whether asking once more may help.
    pub(crate) passing: bool,
    /// When the issuer asks to be asked again.
    pub(crate) retry_after: Option<RetryAfter>,
    /// The next thing to do.
    pub(crate) advice: String,
    /// The other ways, and why each does not apply.
    pub(crate) tried: Vec<String>,
}

impl fmt::Display for NoToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "no token: {}", self.message)
    }
}

/// The pending answer of an issuer.
pub(crate) type Asking<'a> = Pin<Box<dyn Future<Output = Result<Fresh, NoToken>> + 'a>>;

/// Whoever issues tokens.
pub(crate) trait Issuer {
    fn issue(&self) -> Asking<'_>;
}

/// The token of an issuer, renewed before it expires.
pub(crate) struct Issued {
    issuer: Box<dyn Issuer>,
    held: Mutex<Holding>,
}

/// The token at hand, and a refusal that asked for time.
#[derive(Default)]
struct Holding {
    token: Option<Held>,
    /// Until then the issuer is left alone, whoever wants a token.
    refusal: Option<(Instant, NoToken)>,
}

struct Held {
    secret: Secret,
    /// When it came, and how long it lives.
    since: Instant,
    life: Option<Duration>,
    /// Renewing it failed: until then it is not tried again.
    resting: Option<Instant>,
}

impl Held {
    fn has_left(&self, least: Duration, part: u32, now: Instant) -> bool {
        self.life.is_none_or(|life| (self.since + life).saturating_duration_since(now) > least.min(life / part))
    }
}

impl Credential {
    pub(crate) fn issued(issuer: impl Issuer + 'static) -> Credential {
        Credential::Issued(Rc::new(Issued { issuer: Box::new(issuer), held: Mutex::default() }))
    }

    /// The secret for a request; `refused` is one that the service no longer takes.
    pub(super) async fn secret(&self, refused: Option<&Secret>) -> Result<Secret, NoToken> {
        match self {
            Credential::Fixed(secret) => Ok(secret.clone()),
            Credential::Issued(issued) => issued.secret(refused).await,
        }
    }

    /// How long the token at hand lives, if that is known.
    pub(super) async fn life(&self) -> Option<Duration> {
        match self {
            Credential::Fixed(_) => None,
            Credential::Issued(issued) => {
                let held = issued.held.lock().await;
                let Held { secret: _, since, life, resting: _ } = held.token.as_ref()?;
                Some((*since + (*life)?).saturating_duration_since(Instant::now()))
            }
        }
    }

    /// Whether another one can be had.
    pub(super) fn is_renewable(&self) -> bool {
        match self {
            Credential::Fixed(_) => false,
            Credential::Issued(_) => true,
        }
    }
}

impl Issued {
    async fn secret(&self, refused: Option<&Secret>) -> Result<Secret, NoToken> {
        // Held while asking: requests at the same time wait for one token instead of fetching several.
        let mut held = self.held.lock().await;
        let Holding { token, refusal } = &mut *held;
        let now = Instant::now();
        let usable = token.as_mut().filter(|held| {
            held.has_left(LAST, 8, now) && refused.is_none_or(|refused| refused.reveal() != held.secret.reveal())
        });
        let Some(held_still) = usable else {
            if let Some((until, none)) = refusal.as_ref().filter(|(until, _)| now < *until) {
                return Err(NoToken { retry_after: Some(RetryAfter(*until - now)), ..none.clone() });
            }
            return match self.issuer.issue().await {
                Ok(Fresh { secret, life }) => {
                    *refusal = None;
                    *token = Some(Held { secret: secret.clone(), since: Instant::now(), life, resting: None });
                    Ok(secret)
                }
                Err(none) => {
                    *refusal = none.retry_after.map(|RetryAfter(wait)| (Instant::now() + wait, none.clone()));
                    Err(none)
                }
            };
        };
        let resting = held_still.resting.is_some_and(|until| now < until);
        if resting || held_still.has_left(EARLY, 4, now) {
            return Ok(held_still.secret.clone());
        }
        match self.issuer.issue().await {
            Ok(Fresh { secret, life }) => {
                *held_still = Held { secret, since: Instant::now(), life, resting: None };
            }
            // The old one still lives; it is tried again later.
            Err(none) => {
                let rest = none.retry_after.map_or(REST, |RetryAfter(wait)| wait.max(REST));
                held_still.resting = Some(Instant::now() + rest);
            }
        }
        Ok(held_still.secret.clone())
    }
}

/// Sends what issuers ask. Bodies are never traced: they are secrets on both ways.
pub(crate) struct Asker {
    pub(crate) transport: Rc<dyn Transport>,
    pub(crate) user_agent: String,
    pub(crate) events: Events,
    pub(crate) wall: Wall,
}

/// A question of an issuer.
pub(crate) struct Ask {
    pub(crate) url: Url,
    /// The header's value, which is a secret.
    pub(crate) authorization: Option<String>,
    /// Sent as a form with POST; without it the request is a GET.
    pub(crate) form: Option<Vec<(&'static str, String)>>,
}

impl Asker {
    /// When whoever answered so asks to be asked again.
    pub(crate) fn retry_after(&self, answer: &Response<Bytes>) -> Option<RetryAfter> {
        RetryAfter::read(answer.headers(), self.wall.now())
    }

    /// The answer, whatever its status; in words and whether it may pass if there is none.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<Response<Bytes>, String> {
        let Ask { url, authorization, form } = ask;
        let mut shown = url.clone();
        shown.set_query(None);
        let body = form.map(|pairs| url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish());
        let method = if body.is_some() { http::Method::POST } else { http::Method::GET };
        let mut request = Request::new(Bytes::from(body.unwrap_or_default()));
        *request.method_mut() = method.clone();
        *request.uri_mut() = url.as_str().parse().map_err(|_| format!("{shown} is no address"))?;
        let headers = request.headers_mut();
        if let Some(authorization) = authorization {
            let mut value = HeaderValue::from_str(&authorization)
                .map_err(|_| "the credential has odd characters in it".to_owned())?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_str(&self.user_agent).expect("our own name is printable"));
        if method == http::Method::POST {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        }
        let limits = Limits { attempt: PATIENCE, cap: 1 << 20, longest_text: None };
        let begun = Instant::now();
        let sent = timeout(PATIENCE, self.transport.send(request, limits, Lane::Pooled))
            .await
            .unwrap_or_else(|_| Err(WireError::Lost(Net::new(NetKind::Timeout, format!("{} s", PATIENCE.as_secs())))));
        let took = begun.elapsed().as_millis();
        let (line, answer) = match sent {
            Ok(answer) => (format!("{method} {shown} -> {} in {took} ms", answer.status().as_u16()), Ok(answer)),
            Err(WireError::NotSent(net) | WireError::Lost(net)) => {
                (format!("{method} {shown} -> {} after {took} ms", net.kind), Err(format!("{shown}: {}", net.kind)))
            }
            Err(WireError::TooLarge) => {
                let large = "larger than the cap";
                (format!("{method} {shown} -> {large}"), Err(format!("{shown}: the answer is {large}")))
            }
        };
        self.events.emit(Event::Trace { line, bodies: Vec::new() });
        answer
    }
}
