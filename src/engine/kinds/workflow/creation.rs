//! Making a job once, whatever becomes of the answers.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Made, Workflow, WorkflowHave, WorkflowWant, look, run_as, settings};
use crate::databricks::jobs::{self, Job, Summary};
use crate::databricks::{is_missing, list_workflow_runs};
use crate::engine::{Settled, Step};
use crate::http::{Fault, HttpError, Reader, RetryAfter, Rows, Sent, Writer};

/// How often a job is sent at most when every look in between finds that it was not made.
const SENDS: u32 = 3;
/// For all sends that certainly did nothing, their waits included.
const NOT_SENT_FOR: Duration = Duration::from_mins(2);
/// How long looking may fail before it is given up after a lost answer.
const BLIND_FOR: Duration = Duration::from_mins(5);

/// Makes the job, once, and gives it back as it was sent, if an answer says which it is. The service has no key against doubles
/// (databricks-api §2.6), so an answer that leaves the outcome open is followed by a look for our tag, and only a complete look
/// that finds nothing allows another send.
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
                return Ok(Some(WorkflowHave { ours: vec![own], namesakes: Vec::new(), job, made: Made::This(id) }));
            }
            Sent::Rejected(error) => return Err(error),
            Sent::NotSent(error) => {
                let asked = error.said().and_then(|said| said.retry_after).map(|RetryAfter(asked)| asked);
                let longer = pause.max(asked.unwrap_or_default());
                if error.is_certificate() || Instant::now() + longer > not_sent_until {
                    return Err(error);
                }
                sleep(longer).await;
                pause = (pause * 2).min(Duration::from_secs(15));
                // A gateway that says "later" is believed, but a look costs little beside a second job.
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

/// Of several runs of this command that each made a job, all but the one that was made first delete their own: the same tag,
/// made by this process, never run. Each looks after it has made its own, so whoever made the later one sees the earlier one.
pub(super) async fn settle(writer: &Writer, step: &mut Step<Workflow>) -> Result<Settled, HttpError> {
    let Some(now) = &mut step.now else { return Ok(Settled::Ours) };
    let others = now.ours.len() > 1;
    match now.made {
        Made::Nothing => Ok(Settled::Ours),
        Made::This(own) if now.ours.first().is_none_or(|first| first.id == own) => {
            Ok(if others { Settled::NotYet } else { Settled::Ours })
        }
        // The list does not show it yet.
        Made::This(own) if !now.ours.iter().any(|job| job.id == own) => Ok(Settled::NotYet),
        Made::This(own) => {
            if writer.read(list_workflow_runs(own, false, None)).await?.runs == Rows::default() {
                match writer.put(jobs::delete(own)).await {
                    Err(error) if !is_missing(&error) => return Err(error),
                    Ok(()) | Err(_) => now.made = Made::Undone(own),
                }
            }
            Ok(Settled::NotYet)
        }
        Made::Undone(_) => Ok(if others { Settled::NotYet } else { Settled::Theirs }),
    }
}

/// What became of a job whose making got no answer.
enum Outcome {
    Made,
    /// A complete look that began after the time to settle found nothing.
    NotMade,
    /// Looking failed too.
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
            // An identity that may not look any more will not be allowed to in a minute either.
            Err(error) if error.means().is_of_whoever_asks() || error.is_certificate() => {
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
