//! Creating a job exactly once, even if a response is lost.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{CreatedJob, Workflow, WorkflowHave, WorkflowWant, look, run_as, settings};
use crate::databricks::jobs::{self, Job, Summary};
use crate::databricks::{is_missing, list_workflow_runs};
use crate::engine::{RaceOutcome, Step};
use crate::http::{Fault, HttpError, Reader, RetryAfter, Rows, Sent, Writer};

/// Maximum number of attempts to create a job; every look-up between them must find nothing.
const SENDS: u32 = 3;
/// Time for all attempts that certainly did nothing, including the waits between them.
const NOT_SENT_FOR: Duration = Duration::from_mins(2);
/// How long look-ups after a lost response may fail before giving up.
const BLIND_FOR: Duration = Duration::from_mins(5);

/// Creates the job once, and returns it as sent if a response contains its ID. The service has no idempotency key
/// for jobs, so a request with unknown outcome is followed by a look-up by our tag, and only
/// a complete look-up that finds nothing allows another attempt.
pub(super) async fn create(writer: &Writer, want: &WorkflowWant) -> Result<Option<WorkflowHave>, HttpError> {
    let mut whole = settings::whole(want, None);
    run_as::write(want, None, &mut whole);
    let not_sent_until = Instant::now() + NOT_SENT_FOR;
    let (mut sends, mut pause) = (0, Duration::from_millis(500));
    loop {
        match writer.once(jobs::create(&whole)).await {
            Sent::Done(id) => {
                let job = Job { id, run_as: None, settings: whole };
                let own = Summary { id, name: want.name.clone(), tags: BTreeMap::new(), created: None };
                return Ok(Some(WorkflowHave {
                    ours: vec![own],
                    namesakes: Vec::new(),
                    job,
                    created_job: CreatedJob::Created(id),
                }));
            }
            Sent::Rejected(error) => return Err(error),
            Sent::NotSent(error) => {
                let asked = error
                    .service_error()
                    .and_then(|service_error| service_error.retry_after)
                    .map(|RetryAfter(asked)| asked);
                let longer = pause.max(asked.unwrap_or_default());
                if error.is_certificate() || Instant::now() + longer > not_sent_until {
                    return Err(error);
                }
                sleep(longer).await;
                pause = (pause * 2).min(Duration::from_secs(15));
                // A gateway's "try later" is trusted, but a look-up is cheap compared with a second job.
                if error.status().is_some() && !look(writer, &want.name, &want.identity).await?.0.is_empty() {
                    return Ok(None);
                }
            }
            Sent::Open(error) => {
                sends += 1;
                match settled(writer, want).await {
                    Outcome::Made => return Ok(None),
                    Outcome::NotMade if sends < SENDS => {}
                    Outcome::NotMade => return Err(error),
                    Outcome::Unknown => {
                        return Err(HttpError { fault: Fault::DeadlineExceeded(Box::new(error.fault)), ..error });
                    }
                }
            }
        }
    }
}

/// When several processes created the same job, every one but the first deletes its own: same tag, created by this
/// process, never run. Each looks after creating its own, so the later one sees the earlier one.
pub(super) async fn resolve_race(writer: &Writer, step: &mut Step<Workflow>) -> Result<RaceOutcome, HttpError> {
    let Some(now) = &mut step.now else { return Ok(RaceOutcome::Ours) };
    let others = now.ours.len() > 1;
    match now.created_job {
        CreatedJob::None => Ok(RaceOutcome::Ours),
        CreatedJob::Created(own) if now.ours.first().is_none_or(|first| first.id == own) => {
            Ok(if others { RaceOutcome::NotYet } else { RaceOutcome::Ours })
        }
        // The list does not show it yet.
        CreatedJob::Created(own) if !now.ours.iter().any(|job| job.id == own) => Ok(RaceOutcome::NotYet),
        CreatedJob::Created(own) => {
            if writer.read(list_workflow_runs(own, false, None)).await?.runs == Rows::default() {
                match writer.put(jobs::delete(own)).await {
                    Err(error) if !is_missing(&error) => return Err(error),
                    Ok(()) | Err(_) => now.created_job = CreatedJob::Deleted(own),
                }
            }
            Ok(RaceOutcome::NotYet)
        }
        CreatedJob::Deleted(_) => Ok(if others { RaceOutcome::NotYet } else { RaceOutcome::Theirs }),
    }
}

/// The outcome of a create request without a response.
enum Outcome {
    Made,
    /// A complete look-up that began after the settling time found nothing.
    NotMade,
    /// The look-ups failed too.
    Unknown,
}

async fn settled(reader: &Reader, want: &WorkflowWant) -> Outcome {
    let end = Instant::now() + want.settle;
    let mut pause = Duration::from_millis(500);
    loop {
        let begun = Instant::now();
        match look(reader, &want.name, &want.identity).await {
            Ok((ours, _)) if !ours.is_empty() => return Outcome::Made,
            Ok(_) if begun >= end => return Outcome::NotMade,
            // A missing permission does not go away by waiting.
            Err(error) if error.means().rejects_identity() || error.is_certificate() => {
                return Outcome::Unknown;
            }
            Err(_) if Instant::now() >= end + BLIND_FOR => return Outcome::Unknown,
            Ok(_) | Err(_) => {}
        }
        let left = end.saturating_duration_since(Instant::now());
        sleep(if left.is_zero() { pause } else { pause.min(left) }).await;
        pause = (pause * 2).min(Duration::from_secs(10));
    }
}
