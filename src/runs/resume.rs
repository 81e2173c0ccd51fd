//! Resumes a failed run from its point of failure, exactly once.
//!
//! dbt accepts no `cause` there, so after a lost response the new run is looked up by the run that it resumes.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::RunContext;
use super::look_up::{LookUp, RunLowerBound};
use super::settle::{MOST_OPEN_SENDS, UnclearSend, wait_before_repeating};
use crate::dbt::{self, NoRetry, Run, TRIGGER_LIMIT};
use crate::events::RunEvent;
use crate::http::{BodyProblem, Deadline, HttpError, PATIENCE, Reader, Sent, Writer};

/// How long after the end of a run its results may be uploaded; until then it cannot be resumed.
const UPLOAD: Duration = Duration::from_secs(30);
const BETWEEN: Duration = Duration::from_secs(3);

/// Which run to resume, and how.
#[derive(Clone, Debug)]
pub(crate) struct Resumption {
    pub(crate) account: u64,
    pub(crate) job: u64,
    /// The failed run, and when it was created.
    pub(crate) run: u64,
    pub(crate) created: Option<Timestamp>,
    pub(crate) settle: Duration,
    pub(crate) at_most_once: bool,
    pub(crate) deadline: Deadline,
}

/// Why the run was not resumed.
#[derive(Clone, Debug)]
pub(crate) enum NotResumed {
    /// dbt cannot resume it, for this reason.
    Cannot(String),
    /// A request failed before anything was sent.
    Failed(HttpError),
    /// Timed out before anything was sent.
    NoTime,
    /// Interrupted before anything was sent.
    Interrupted,
    /// Unknown whether it was resumed.
    Unknown { error: HttpError, looking: Option<Box<HttpError>> },
}

/// The job's newest run, as lists show it.
pub(crate) async fn newest_run(account: u64, job: u64, reader: &Reader) -> Result<Option<Run>, HttpError> {
    let page = reader.read(dbt::list_runs(account, job, 0, 1)).await?;
    if page.unreadable > 0 {
        let problem = BodyProblem::Unreadable("a row of its list cannot be read".to_owned());
        return Err(reader.invalid_response("runs/list", problem));
    }
    Ok(page.rows.into_iter().find(|run| run.job_definition_id.is_none_or(|of| of == job)))
}

/// Resumes the run, or returns the run that already resumes it. `sending` is called before each send.
pub(crate) async fn resume(
    resumption: &Resumption,
    writer: &Writer,
    context: &RunContext,
    sending: &mut dyn FnMut(),
) -> Result<Run, NotResumed> {
    let Resumption { account, job, run, created, settle, at_most_once, ref deadline } = *resumption;
    let patient = writer.patient();
    let look_up = LookUp { reader: writer, wall: &context.wall, account, job: Some(job), patient: false };
    let found =
        |runs: &[Run]| runs.iter().filter(|row| row.retrying_run_id == Some(run)).min_by_key(|row| row.id).cloned();
    let since = RunLowerBound { id: run, at: created };
    let list_newer = async || look_up.runs(Some(since)).await;
    let before_deadline = async |looking| {
        let looked = context.interruption.or(deadline.cut(looking)).await;
        looked.map_err(|_| NotResumed::Interrupted)?.ok_or(NotResumed::NoTime)
    };
    // It may already be resumed: by the same start on another machine, or by a user in dbt.
    let first_look = LookUp { reader: &patient, wall: &context.wall, account, job: Some(job), patient: true };
    let looked = before_deadline(first_look.runs(Some(since))).await?;
    if let Some(there) = found(&looked.runs) {
        return Ok(there);
    }
    if let Some(error) = looked.incomplete {
        return Err(NotResumed::Failed(error));
    }
    let obstacle = context.interruption.or(why_not_resumable(resumption, &patient)).await;
    if let Some(obstacle) = obstacle.map_err(|_| NotResumed::Interrupted)?? {
        let unclear_send = UnclearSend { context, from: Instant::now(), settle, deadline };
        let cannot = || NotResumed::Cannot(obstacle.to_string());
        // A newer run that is not listed yet may be the one that resumes it.
        if obstacle != NoRetry::NotLatest {
            return Err(cannot());
        }
        return unclear_send.look_until_listed(list_newer, found).await.ok().flatten().ok_or_else(cannot);
    }
    let patience = (Instant::now() + PATIENCE).min(deadline.at());
    let (mut unclear, mut refused): (Option<HttpError>, u32) = (None, 0);
    let mut unclear_sends = 0;
    loop {
        let left = deadline.left();
        let interrupted = context.interruption.signal().is_some();
        if left.is_zero() || interrupted {
            let not_sent = if interrupted { NotResumed::Interrupted } else { NotResumed::NoTime };
            return Err(unknown_or(unclear, not_sent));
        }
        sending();
        let sent = writer.once(dbt::retry_run(account, run, TRIGGER_LIMIT.min(left))).await;
        let unclear_send = UnclearSend { context, from: Instant::now(), settle, deadline };
        let error = match sent {
            Sent::Done(new) if new.id != run => return Ok(new),
            // The response names the run itself, so it is unusable.
            Sent::Done(_) => {
                let problem = BodyProblem::Unreadable("it returned no new run".to_owned());
                writer.invalid_response("runs/retry", problem)
            }
            Sent::NotSent(error) => {
                if Instant::now() >= patience || error.is_certificate() || (at_most_once && error.is_status(429)) {
                    return Err(unknown_or(unclear, NotResumed::Failed(error)));
                }
                refused += 1;
                let limited = error.is_status(429);
                wait_before_repeating(context, &error, refused, patience).await;
                if limited {
                    // The service says that it did not resume the run; if a new run appears anyway, it is ours.
                    let settled = Instant::now().checked_sub(settle).unwrap_or(unclear_send.from);
                    let unclear_send = UnclearSend { from: unclear_send.from.max(settled), ..unclear_send };
                    match unclear_send.look_until_listed(list_newer, found).await {
                        Ok(Some(there)) => return Ok(there),
                        Ok(None) => {}
                        Err(_) => return Err(unknown_or(unclear, NotResumed::Failed(error))),
                    }
                }
                continue;
            }
            Sent::Rejected(error) => {
                let Some(first) = unclear else { return Err(NotResumed::Cannot(error.to_string())) };
                // Possibly because an earlier send took effect.
                return match unclear_send.look_until_listed(list_newer, found).await {
                    Ok(Some(there)) => Ok(there),
                    Ok(None) => Err(NotResumed::Cannot(error.to_string())),
                    Err(looking) => Err(NotResumed::Unknown { error: first, looking: looking.map(Box::new) }),
                };
            }
            Sent::Open(error) => error,
        };
        context.events.run(RunEvent::ResumeUnclear { run, error: error.to_string() });
        match unclear_send.look_until_listed(list_newer, found).await {
            Ok(Some(there)) => return Ok(there),
            Ok(None) if at_most_once => return Err(NotResumed::Unknown { error, looking: None }),
            Ok(None) => {}
            Err(looking) => return Err(NotResumed::Unknown { error, looking: looking.map(Box::new) }),
        }
        unclear_sends += 1;
        if unclear_sends >= MOST_OPEN_SENDS {
            return Err(NotResumed::Unknown { error, looking: None });
        }
        unclear = Some(error);
    }
}

/// After an unclear send it is unknown whether the run was resumed, whatever came later.
fn unknown_or(unclear: Option<HttpError>, not_resumed: NotResumed) -> NotResumed {
    unclear.map_or(not_resumed, |error| NotResumed::Unknown { error, looking: None })
}

/// Why dbt cannot resume the run, if it says so.
async fn why_not_resumable(resumption: &Resumption, reader: &Reader) -> Result<Option<NoRetry>, NotResumed> {
    let until = (Instant::now() + UPLOAD).min(resumption.deadline.at());
    loop {
        let looked = resumption.deadline.cut(reader.read(dbt::get_run(resumption.account, resumption.run))).await;
        let seen = looked.ok_or(NotResumed::NoTime)?.map_err(NotResumed::Failed)?;
        let obstacle = seen.no_retry();
        let may_come = matches!(obstacle, Some(NoRetry::NoResults(_)));
        if !may_come || Instant::now() + BETWEEN >= until {
            return Ok(obstacle);
        }
        sleep(BETWEEN).await;
    }
}
