//! Between two sends of a non-idempotent request: looks whether the first one took effect, and waits.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::RunContext;
use super::look_up::LookupResult;
use crate::dbt::Run;
use crate::events::RunEvent;
use crate::http::{Deadline, HttpError, PATIENCE, cool_down};

/// Sends with an unclear outcome and no run found, before giving up.
pub(super) const MOST_OPEN_SENDS: u32 = 5;

/// First and longest wait between two lookups.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// Longest `Retry-After` respected between two lookups: the service's own cooldown.
const COOL_DOWN: Duration = Duration::from_mins(5);

/// A send with an unclear outcome.
pub(super) struct UnclearSend<'a> {
    pub(super) context: &'a RunContext,
    /// When the send ended; the settle time starts here.
    pub(super) from: Instant,
    /// How long a new run may take to appear in lists.
    pub(super) settle: Duration,
    pub(super) deadline: &'a Deadline,
}

impl UnclearSend<'_> {
    /// Looks at growing intervals until the run appears, or until a complete lookup after the settle time found
    /// nothing. A failed lookup proves nothing, so looking goes on, for 15 minutes or twice the settle time, whichever
    /// is longer. `Err`: still unknown, with the last lookup error.
    pub(super) async fn look_until_listed(
        &self,
        look: impl AsyncFn() -> LookupResult,
        found: impl Fn(&[Run]) -> Option<Run>,
    ) -> Result<Option<Run>, Option<HttpError>> {
        let UnclearSend { context, from, settle, deadline } = self;
        let settled = *from + *settle;
        // The deadline may be moved meanwhile.
        let give_up = || (*from + PATIENCE.max(*settle * 2)).min(deadline.at());
        let (mut wait, mut failed) = (FIRST_WAIT, None);
        loop {
            let looking = Instant::now();
            let looked = timeout_at(give_up(), look()).await;
            let mut asked = Duration::ZERO;
            if let Ok(looked) = looked {
                if let Some(run) = found(&looked.runs) {
                    return Ok(Some(run));
                }
                match looked.incomplete {
                    None if looking >= settled => return Ok(None),
                    None => {}
                    Some(error) => {
                        asked = error
                            .service_error()
                            .and_then(|service_error| service_error.retry_after)
                            .map_or(Duration::ZERO, |after| after.0);
                        failed = Some(error);
                    }
                }
            }
            let now = Instant::now();
            if now >= give_up() {
                return Err(failed);
            }
            let jitter = wait.mul_f64(0.9 + 0.2 * context.entropy.fraction());
            let mut wake = now + jitter.max(asked.min(COOL_DOWN));
            // The final lookup is not delayed.
            if asked.is_zero() && now < settled {
                wake = wake.min(settled);
            }
            sleep(wake.min(give_up()).saturating_duration_since(now)).await;
            wait = (wait * 17 / 10).min(LONGEST_WAIT);
        }
    }
}

/// Waits after a send that had no effect.
pub(super) async fn wait_before_repeating(context: &RunContext, error: &HttpError, attempt: u32, patience: Instant) {
    let asked = error.service_error().and_then(|service_error| service_error.retry_after).map(|after| after.0);
    let limited = error.is_status(429);
    let growing = context.pace.backoff.saturating_mul(1 << attempt.min(16)).min(context.pace.backoff_cap);
    let wait = match asked {
        Some(asked) => asked,
        None if limited => cool_down(attempt),
        None => growing,
    };
    let wait = wait.saturating_add(Duration::from_secs(1).mul_f64(context.entropy.fraction()));
    let wait = wait.min(patience.saturating_duration_since(Instant::now()));
    if wait >= Duration::from_secs(2) {
        context.events.run(RunEvent::NotSent { error: error.to_string(), wait });
    }
    // The caller checks for an interruption before it sends again.
    let _ = context.interruption.or(sleep(wait)).await;
}
