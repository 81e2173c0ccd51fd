//! The credential in the `Authorization` header: a fixed secret, or issued tokens that expire.
//!
//! The token is requested for every request and cached here while it is valid. A copy kept elsewhere would break long
//! follows once it expires.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Request, Response};
use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use url::Url;

use super::retry::RetryAfter;
use super::transport::{Lane, Limits, Net, NetKind, Transport, WireError};
use crate::context::Wall;
use crate::durations;
use crate::events::{Event, Events};
use crate::secret::Secret;

/// Timeout of one request to a token issuer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Renew a token with this much lifetime left, or half of it if that is less.
const EARLY: Duration = Duration::from_mins(5);

/// Do not use a token with less than this left, or an eighth of its lifetime: services reject the last seconds.
const LAST: Duration = Duration::from_secs(40);

/// Wait after a failed renewal while the old token is still valid. Also the age from which a rejection that does not
/// name the token leads to a renewal.
const RENEWAL_RETRY: Duration = Duration::from_mins(1);

/// The secret for requests to one service.
#[derive(Clone)]
pub(crate) enum Credential {
    Fixed(Secret),
    Issued(Rc<IssuedCredential>),
}

/// A token and its remaining lifetime, if known.
pub(crate) struct IssuedToken {
    pub(crate) secret: Secret,
    pub(crate) life: Option<Duration>,
}

/// Why no token is available.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no token: {message}")]
pub(crate) struct NoToken {
    /// The message, including the issuer.
    pub(crate) message: String,
    /// Whether a retry may help.
    pub(crate) is_retryable: bool,
    /// The network problem with the issuer, if any.
    pub(crate) net: Option<NetKind>,
    /// The issuer's `Retry-After`.
    pub(crate) retry_after: Option<RetryAfter>,
    /// The next step.
    pub(crate) advice: String,
    /// The other auth methods, and why each does not apply.
    pub(crate) tried: Vec<String>,
}

/// The pending response of an issuer.
pub(crate) type TokenFuture<'a> = Pin<Box<dyn Future<Output = Result<IssuedToken, NoToken>> + 'a>>;

/// A source of tokens.
pub(crate) trait Issuer {
    /// Issues a token. `refused`: the service rejected the last one, so a cached copy must not be returned.
    fn issue(&self, refused: bool) -> TokenFuture<'_>;
}

/// A token that the service rejected.
#[derive(Clone, Copy)]
pub(super) struct RefusedToken<'a> {
    pub(super) secret: &'a Secret,
    /// Whether the service says that the token is the cause.
    pub(super) is_named: bool,
}

/// The cached token of an issuer, renewed before it expires.
pub(crate) struct IssuedCredential {
    issuer: Box<dyn Issuer>,
    wall: Wall,
    cache: Mutex<TokenCache>,
}

/// The cached token, and a refusal of the issuer with a `Retry-After`.
#[derive(Default)]
struct TokenCache {
    token: Option<CachedToken>,
    /// No request is sent to the issuer before this time.
    refusal: Option<(Instant, NoToken)>,
}

struct CachedToken {
    secret: Secret,
    /// When it was issued, by both clocks.
    since: (Instant, Timestamp),
    life: Option<Duration>,
    /// No renewal is tried before this time, because the last one failed.
    next_renewal: Option<Instant>,
}

impl CachedToken {
    fn new(fresh: IssuedToken, wall: &Wall) -> CachedToken {
        let IssuedToken { secret, life } = fresh;
        CachedToken { secret, since: (Instant::now(), wall.now()), life, next_renewal: None }
    }

    /// Its age by the clock that advanced further: the monotonic one may stop while the machine sleeps.
    fn age(&self, wall: &Wall) -> Duration {
        let (instant, timestamp) = self.since;
        let by_wall = Duration::try_from(wall.now().duration_since(timestamp)).unwrap_or_default();
        instant.elapsed().max(by_wall)
    }

    fn has_left(&self, least: Duration, part: u32, wall: &Wall) -> bool {
        self.life.is_none_or(|life| life.saturating_sub(self.age(wall)) > least.min(life / part))
    }
}

impl Credential {
    pub(crate) fn issued(issuer: impl Issuer + 'static, wall: Wall) -> Credential {
        Credential::Issued(Rc::new(IssuedCredential { issuer: Box::new(issuer), wall, cache: Mutex::default() }))
    }

    /// The secret for a request. `refused` is the one that the service just rejected.
    pub(super) async fn secret(&self, refused: Option<RefusedToken<'_>>) -> Result<Secret, NoToken> {
        match self {
            Credential::Fixed(secret) => Ok(secret.clone()),
            Credential::Issued(issued) => issued.secret(refused).await,
        }
    }

    /// Remaining lifetime of the cached token, if known.
    pub(super) async fn life(&self) -> Option<Duration> {
        match self {
            Credential::Fixed(_) => None,
            Credential::Issued(issued) => {
                let cache = issued.cache.lock().await;
                let token = cache.token.as_ref()?;
                Some(token.life?.saturating_sub(token.age(&issued.wall)))
            }
        }
    }

    /// Whether a new one can be issued.
    pub(super) fn is_renewable(&self) -> bool {
        match self {
            Credential::Fixed(_) => false,
            Credential::Issued(_) => true,
        }
    }
}

impl IssuedCredential {
    async fn secret(&self, refused: Option<RefusedToken<'_>>) -> Result<Secret, NoToken> {
        // Held during the request, so that concurrent requests share one new token.
        let mut cache = self.cache.lock().await;
        let TokenCache { token, refusal } = &mut *cache;
        let now = Instant::now();
        let usable = token.as_mut().filter(|cached| {
            let is_refused = refused.is_some_and(|RefusedToken { secret, is_named }| {
                secret.reveal() == cached.secret.reveal() && (is_named || cached.age(&self.wall) > RENEWAL_RETRY)
            });
            cached.has_left(LAST, 8, &self.wall) && !is_refused
        });
        let Some(cached) = usable else {
            if let Some((until, none)) = refusal.as_ref().filter(|(until, _)| now < *until) {
                return Err(NoToken { retry_after: Some(RetryAfter(*until - now)), ..none.clone() });
            }
            return match self.issuer.issue(refused.is_some()).await {
                Ok(fresh) => {
                    *refusal = None;
                    let secret = fresh.secret.clone();
                    *token = Some(CachedToken::new(fresh, &self.wall));
                    Ok(secret)
                }
                Err(none) => {
                    *refusal = none.retry_after.map(|RetryAfter(wait)| (Instant::now() + wait, none.clone()));
                    Err(none)
                }
            };
        };
        let is_waiting = cached.next_renewal.is_some_and(|until| now < until);
        if is_waiting || cached.has_left(EARLY, 2, &self.wall) {
            return Ok(cached.secret.clone());
        }
        match self.issuer.issue(false).await {
            Ok(fresh) => *cached = CachedToken::new(fresh, &self.wall),
            // The old token is still valid; renew later.
            Err(none) => {
                let wait = none.retry_after.map_or(RENEWAL_RETRY, |RetryAfter(wait)| wait.max(RENEWAL_RETRY));
                cached.next_renewal = Some(Instant::now() + wait);
            }
        }
        Ok(cached.secret.clone())
    }
}

/// A request to an issuer that got no response.
#[derive(Clone, Debug)]
pub(crate) struct Unanswered {
    pub(crate) why: String,
    /// The network problem, if any.
    pub(crate) net: Option<NetKind>,
}

impl From<String> for Unanswered {
    fn from(why: String) -> Unanswered {
        Unanswered { why, net: None }
    }
}

/// Sends requests to token issuers. Never traces bodies, because requests and responses contain secrets.
pub(crate) struct TokenClient {
    pub(crate) transport: Rc<dyn Transport>,
    pub(crate) user_agent: String,
    pub(crate) events: Events,
    pub(crate) wall: Wall,
}

/// A request to a token issuer.
pub(crate) struct TokenRequest {
    pub(crate) url: Url,
    /// The header value, which is a secret.
    pub(crate) authorization: Option<String>,
    /// Form body of a POST; `None` sends a GET.
    pub(crate) form: Option<Vec<(&'static str, String)>>,
}

impl TokenClient {
    /// The `Retry-After` of this response.
    pub(crate) fn retry_after(&self, answer: &Response<Bytes>) -> Option<RetryAfter> {
        RetryAfter::read(answer.headers(), self.wall.now())
    }

    /// Sends the request and returns the response, whatever its status.
    pub(crate) async fn ask(&self, ask: TokenRequest) -> Result<Response<Bytes>, Unanswered> {
        let TokenRequest { url, authorization, form } = ask;
        let mut shown = url.clone();
        shown.set_query(None);
        let body = form.map(|pairs| url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish());
        let method = if body.is_some() { http::Method::POST } else { http::Method::GET };
        let mut request = Request::new(Bytes::from(body.unwrap_or_default()));
        *request.method_mut() = method.clone();
        *request.uri_mut() = url.as_str().parse().map_err(|_| format!("{shown} is not a URL"))?;
        let headers = request.headers_mut();
        if let Some(authorization) = authorization {
            let mut value = HeaderValue::from_str(&authorization)
                .map_err(|_| "the credential contains invalid characters".to_owned())?;
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
            .unwrap_or_else(|_| Err(WireError::Lost(Net::new(NetKind::Timeout, durations::shown(PATIENCE)))));
        let took = begun.elapsed().as_millis();
        let (line, answer) = match sent {
            Ok(answer) => (format!("{method} {shown} -> {} in {took} ms", answer.status().as_u16()), Ok(answer)),
            Err(WireError::NotSent(net) | WireError::Lost(net)) => {
                let unanswered = Unanswered { why: format!("{shown}: {}", net.kind), net: Some(net.kind) };
                (format!("{method} {shown} -> {} after {took} ms", net.kind), Err(unanswered))
            }
            Err(WireError::TooLarge) => {
                let large = "larger than the cap";
                (format!("{method} {shown} -> {large}"), Err(format!("{shown}: the answer is {large}").into()))
            }
        };
        self.events.emit(Event::Trace { line, bodies: Vec::new() });
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::secret::Vault;

    struct Counting(Rc<Cell<u32>>, Duration);

    impl Issuer for Counting {
        fn issue(&self, _refused: bool) -> TokenFuture<'_> {
            Box::pin(async {
                self.0.set(self.0.get() + 1);
                let secret = Vault::default().admit(format!("token-number-{}-0123456789", self.0.get())).unwrap();
                Ok(IssuedToken { secret, life: Some(self.1) })
            })
        }
    }

    /// How many tokens are issued for two requests, the second one this much later by each clock.
    async fn issued(life: Duration, monotonic: Duration, wall: Duration, refused: Option<bool>) -> u32 {
        let (count, now) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(Timestamp::UNIX_EPOCH)));
        let clock = now.clone();
        let credential = Credential::issued(Counting(count.clone(), life), Wall::of(move || clock.get()));
        let first = credential.secret(None).await.unwrap();
        tokio::time::advance(monotonic).await;
        now.set(now.get() + wall);
        let refused = refused.map(|is_named| RefusedToken { secret: &first, is_named });
        credential.secret(refused).await.unwrap();
        count.get()
    }

    #[tokio::test(start_paused = true)]
    async fn the_life_of_a_token_is_counted_by_both_clocks_and_a_refusal_renews_it_once() {
        let (minute, hour) = (Duration::from_mins(1), Duration::from_hours(1));
        for (life, monotonic, wall, refused, expected) in [
            (hour, minute, minute, None, 1),
            (hour, minute * 54, minute * 54, None, 1),
            (hour, minute * 56, minute * 56, None, 2),
            // The machine slept: one of the two clocks stopped.
            (hour, minute, minute * 56, None, 2),
            (hour, minute * 56, minute, None, 2),
            (hour, minute, hour * 8, None, 2),
            // Half of a short lifetime.
            (minute * 4, minute, minute, None, 1),
            (minute * 4, Duration::from_secs(121), Duration::from_secs(121), None, 2),
            (hour, Duration::ZERO, Duration::ZERO, Some(true), 2),
            (hour, minute * 2, minute * 2, Some(false), 2),
            // A rejection that does not name a just issued token does not renew it.
            (hour, Duration::ZERO, Duration::ZERO, Some(false), 1),
        ] {
            let found = issued(life, monotonic, wall, refused).await;
            assert_eq!(found, expected, "life {life:?}, {monotonic:?} and {wall:?} later, refused {refused:?}");
        }
    }
}
