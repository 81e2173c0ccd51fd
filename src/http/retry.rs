//! Whether to try again, and when: pure decisions over faults, times and one random number.

use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;

use super::call::Shape;
use super::error::Fault;
use super::refusal::Meaning;
use super::transport::NetKind;

/// When a service asks to be asked again: `Retry-After` in either form, as a wait from the moment of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryAfter(pub(crate) Duration);

/// A longer wish than this is cut: nobody waits for it, and times are added to it.
const LONGEST: Duration = Duration::from_hours(24);

impl RetryAfter {
    /// Reads the header, or dbt Cloud's own beside it (dbt-cloud-api §7). A date is judged against the answer's own `Date`, so that a wrong local clock does no
    /// harm; without one, against the local clock.
    pub(crate) fn read(headers: &HeaderMap, now: Timestamp) -> Option<RetryAfter> {
        let value = headers.get(http::header::RETRY_AFTER).or_else(|| headers.get("x-rate-limit-retry-after-seconds"));
        let text = value?.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse::<u64>() {
            return Some(RetryAfter(Duration::from_secs(seconds).min(LONGEST)));
        }
        let at = date(text)?;
        let said = headers.get(http::header::DATE).and_then(|value| date(value.to_str().ok()?)).unwrap_or(now);
        let wait: Duration = at.duration_since(said).try_into().unwrap_or(Duration::ZERO);
        Some(RetryAfter(wait.min(LONGEST)))
    }
}

/// A date as HTTP writes it.
pub(super) fn date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp())
}

/// The times of waiting and asking. Handed in, so that simulations and the sandbox can choose their own.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// The longest first wait before an attempt is repeated; doubles each time.
    pub(crate) backoff: Duration,
    /// The longest wait between two attempts, unless the service names one.
    pub(crate) backoff_cap: Duration,
    /// For all attempts of one read or repeatable write together.
    pub(crate) total: Duration,
    /// For name, connection and TLS of one attempt.
    pub(crate) connect: Duration,
    /// The first and the longest wait between two looks at a run.
    pub(crate) poll: Duration,
    pub(crate) poll_cap: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            backoff: Duration::from_millis(500),
            backoff_cap: Duration::from_secs(20),
            total: Duration::from_mins(2),
            connect: Duration::from_secs(10),
            poll: Duration::from_secs(1),
            poll_cap: Duration::from_secs(15),
        }
    }
}

/// Attempts at a name that does not resolve, or at a host where nobody listens, before that is believed: a hiccup is over by
/// then, and a typing error should not take minutes to be told.
const MOST_UNREACHED: u32 = 4;

/// Whether one more attempt of something repeatable is worth it after so many. Exhaustive on purpose: a new fault has to decide.
pub(crate) fn worth_repeating(fault: &Fault, attempts: u32) -> bool {
    match fault {
        Fault::NotSent(net) | Fault::Lost(net) => worth_another_try(net.kind, attempts),
        // The way to whoever issues tokens is a way like any other.
        Fault::NoToken(none) => none.passing && none.net.is_none_or(|kind| worth_another_try(kind, attempts)),
        // What a plan does not have it will not have next time either, whatever status that comes with.
        Fault::Status(_, said) if said.means == Meaning::NotInPlan => false,
        Fault::Status(status, _) => matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504),
        Fault::InvalidResponse(shape) => match shape {
            // A page instead of data is a wrong host, a proxy or a login: it will be there next time too.
            Shape::Page(_) | Shape::TooLarge { .. } | Shape::Unreadable(_) => false,
            Shape::Empty | Shape::Broken(_) => true,
        },
        Fault::DeadlineExceeded(_) => false,
    }
}

fn worth_another_try(kind: NetKind, attempts: u32) -> bool {
    match kind {
        NetKind::Certificate => false,
        NetKind::Name | NetKind::Connect => attempts < MOST_UNREACHED,
        NetKind::ConnectTimeout | NetKind::Proxy | NetKind::Tls | NetKind::Broken | NetKind::Timeout => true,
    }
}

/// How long to wait before attempt number `next` (the second is 2): full jitter between zero and a growing limit,
/// never less than what the service asks for.
pub(crate) fn wait_before(next: u32, asked: Option<RetryAfter>, pace: &Pace, fraction: f64) -> Duration {
    let limit = pace.backoff.saturating_mul(1 << next.saturating_sub(2).min(16)).min(pace.backoff_cap);
    let jitter = limit.mul_f64(fraction);
    match asked {
        Some(RetryAfter(asked)) => asked.saturating_add(jitter.min(Duration::from_secs(1))),
        None => jitter,
    }
}

/// How long a start, and what stands before it, waits for a service that does not take it.
pub(crate) const PATIENCE: Duration = Duration::from_mins(15);

/// How long to leave a service alone that has limited us so often and does not say for how long: dbt cools down for five minutes
/// (dbt-cloud-api §7).
pub(crate) fn cool_down(times: u32) -> Duration {
    Duration::from_mins(1).saturating_mul(times).min(Duration::from_mins(5))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn retry_after_is_read_in_both_forms_and_a_date_against_the_services_own_clock() {
        let local = Timestamp::UNIX_EPOCH;
        let read =
            |pairs: &[(&'static str, &str)]| RetryAfter::read(&headers(pairs), local).map(|after| after.0.as_secs());
        assert_eq!(read(&[("retry-after", "7")]), Some(7));
        let date = ("date", "Wed, 21 Oct 2026 07:28:00 GMT");
        assert_eq!(read(&[("retry-after", "Wed, 21 Oct 2026 07:28:09 GMT"), date]), Some(9));
        assert_eq!(read(&[("retry-after", "Wed, 21 Oct 2026 07:27:00 GMT"), date]), Some(0));
        assert_eq!(read(&[("x-rate-limit-retry-after-seconds", "11")]), Some(11));
        // A clock that such a wish is added to would overflow.
        for absurd in ["18446744073709551615", "999999999", "Thu, 31 Dec 2099 23:59:59 GMT"] {
            assert_eq!(read(&[("retry-after", absurd), date]), Some(24 * 3600));
        }
        assert_eq!(read(&[("retry-after", "soon")]), None);
        assert_eq!(read(&[("retry-after", "-3")]), None);
    }

    #[test]
    fn waits_grow_to_the_cap_and_jitter_uses_the_whole_range() {
        let pace = Pace::default();
        assert_eq!(wait_before(2, None, &pace, 1.0), Duration::from_millis(500));
        assert_eq!(wait_before(4, None, &pace, 1.0), Duration::from_secs(2));
        assert_eq!(wait_before(60, None, &pace, 1.0), pace.backoff_cap);
        assert_eq!(wait_before(60, None, &pace, 0.0), Duration::ZERO);
        assert!(wait_before(2, Some(RetryAfter(Duration::from_secs(30))), &pace, 0.0) >= Duration::from_secs(30));
    }
}
