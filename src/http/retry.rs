//! Whether and when to retry: pure functions of faults, times and one random number.

use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;

use super::call::BodyProblem;
use super::error::Fault;
use super::refusal::Meaning;
use super::transport::NetKind;

/// The `Retry-After` of a response, as a wait from its arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryAfter(pub(crate) Duration);

/// Longer waits are capped, because adding them to an `Instant` could overflow.
const LONGEST: Duration = Duration::from_hours(24);

impl RetryAfter {
    /// Reads the header, or dbt's own variant of it. A date is compared with the response's `Date`,
    /// so a wrong local clock does no harm; without one, with the local clock.
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

/// Parses an HTTP date.
pub(super) fn date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp())
}

/// Wait times and intervals. Passed in, so that simulations and the sandbox can use their own.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// Upper bound of the first wait before a retry; doubles each time.
    pub(crate) backoff: Duration,
    /// Upper bound of later waits, unless the service asks for more.
    pub(crate) backoff_cap: Duration,
    /// All attempts of a read or idempotent write together.
    pub(crate) total: Duration,
    /// DNS, connection and TLS of one attempt.
    pub(crate) connect: Duration,
    /// First and longest wait between two polls of a run.
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

/// Attempts when a name does not resolve or a connection is refused. Enough for a hiccup, without making the user wait
/// minutes for a typo.
const MOST_UNREACHED: u32 = 4;

/// Whether to retry after this many attempts. Exhaustive, so that a new fault needs a decision.
pub(crate) fn worth_repeating(fault: &Fault, attempts: u32) -> bool {
    match fault {
        Fault::NotSent(net) | Fault::Lost(net) => worth_another_try(net.kind, attempts),
        // Requests to a token issuer are retried like any other.
        Fault::NoToken(none) => none.is_retryable && none.net.is_none_or(|kind| worth_another_try(kind, attempts)),
        // A plan does not change between retries, whatever the status.
        Fault::Status(_, service_error) if service_error.means == Meaning::NotInPlan => false,
        Fault::Status(status, _) => matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504),
        Fault::InvalidResponse(problem) => match problem {
            // A page means the wrong host, a proxy or a login, which a retry does not change.
            BodyProblem::Page(_) | BodyProblem::TooLarge { .. } | BodyProblem::Unreadable(_) => false,
            BodyProblem::Empty | BodyProblem::Broken(_) => true,
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

/// The wait before attempt number `next` (the first retry is 2): full jitter up to a growing limit, and never less than
/// the service asks for.
pub(crate) fn wait_before(next: u32, asked: Option<RetryAfter>, pace: &Pace, fraction: f64) -> Duration {
    let limit = pace.backoff.saturating_mul(1 << next.saturating_sub(2).min(16)).min(pace.backoff_cap);
    let jitter = limit.mul_f64(fraction);
    match asked {
        Some(RetryAfter(asked)) => asked.saturating_add(jitter.min(Duration::from_secs(1))),
        None => jitter,
    }
}

/// How long a start, and the lookups around it, keep trying while the service is unreachable or rate limits us.
pub(crate) const PATIENCE: Duration = Duration::from_mins(15);

/// The wait after the `times`th rate limit without a `Retry-After`. dbt's cooldown is five minutes.
pub(crate) fn cool_down(times: u32) -> Duration {
    Duration::from_mins(1).saturating_mul(times).min(Duration::from_mins(5))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Net, ServiceError};

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
        // These would overflow when added to an `Instant`.
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

    #[test]
    fn a_host_that_is_not_reached_is_tried_four_times_and_a_broken_connection_as_long_as_there_is_time() {
        let fault = |kind| Fault::NotSent(Net::new(kind, ""));
        for kind in [NetKind::Name, NetKind::Connect] {
            assert!(worth_repeating(&fault(kind), 3));
            assert!(!worth_repeating(&fault(kind), 4) && !worth_repeating(&fault(kind), 5));
        }
        assert!(worth_repeating(&fault(NetKind::Broken), 99));
        assert!(!worth_repeating(&fault(NetKind::Certificate), 1));
    }

    #[test]
    fn what_the_plan_does_not_include_is_not_tried_again_whatever_the_status() {
        let status = |means| {
            let error = ServiceError { means, ..ServiceError::default() };
            Fault::Status(http::StatusCode::INTERNAL_SERVER_ERROR, error)
        };
        assert!(!worth_repeating(&status(Meaning::NotInPlan), 1));
        assert!(worth_repeating(&status(ServiceError::default().means), 1));
    }

    #[test]
    fn rate_limits_without_a_time_are_waited_for_up_to_the_services_cool_down() {
        let waits = [1, 2, 5, 6, u32::MAX].map(|times| cool_down(times).as_secs());
        assert_eq!(waits, [60, 120, 300, 300, 300]);
    }
}
