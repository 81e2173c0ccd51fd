//! Does what a plan says, and nothing else.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::plan::{Action, Consent, Entry, Kind, Plan, Planned, Progress, Refusal, Step, each, failed};
use crate::failure::{Code, Failure};
use crate::http::{Reader, Writer};
use crate::secret::Secret;

/// How long a write may take to show in reads before that is reported.
const SHOWS_WITHIN: Duration = Duration::from_secs(30);

/// What applying needs and a plan must not hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inputs {
    /// The dbt API key.
    pub(crate) key: Option<Secret>,
}

/// Walks the plan in waves: within a wave the writes go out one after another (parallel ACL writes on one scope end
/// inconsistently, databricks-api §3.4), then all of them are read back at once. A plan with anything blocked in it is
/// not walked at all. `told` hears of each step as it gets on.
///
/// # Errors
/// The first change that fails or does not show. What came before it stays; the same command picks up there.
pub(crate) async fn walk(
    writer: &Writer,
    plan: &mut Plan,
    inputs: &Inputs,
    told: &dyn Fn(Entry),
) -> Result<(), Failure> {
    if let Some(failure) = blocked(plan) {
        return Err(failure);
    }
    plan.steps.sort_by_key(Planned::wave);
    for wave in plan.steps.chunk_by_mut(|left, right| left.wave() == right.wave()) {
        for planned in wave.iter_mut() {
            let written = each!(planned, step => write(writer, step, inputs).await);
            told(planned.entry());
            written?;
        }
        let looks = wave.iter_mut().map(async |planned| {
            let seen = each!(planned, step => confirm(writer, step).await);
            told(planned.entry());
            seen
        });
        for seen in join_all(looks).await {
            seen?;
        }
    }
    Ok(())
}

/// The refusal of a plan with anything blocked in it: all of it at once.
pub(crate) fn blocked(plan: &Plan) -> Option<Failure> {
    let mut failure: Option<Failure> = None;
    for entry in plan.entries() {
        failure = match entry.action {
            Action::Blocked { why, unless } => Some(refused(failure, why, unless)),
            Action::Keep(_) | Action::Create | Action::Update(_) => failure,
        };
    }
    failure
}

/// What is refused, behind what is refused already.
fn refused(before: Option<Failure>, why: Refusal, unless: Option<Consent>) -> Failure {
    let Refusal { what, diff: _, advice } = why;
    let mut failure = match before {
        None => Failure::new(Code::Refused, what),
        Some(before) => before.cause(what),
    };
    if let Some(consent) = unless {
        failure = failure.unless(consent.flag());
    }
    advice.into_iter().fold(failure, Failure::advise)
}

async fn write<K: Kind>(writer: &Writer, step: &mut Step<K>, inputs: &Inputs) -> Result<(), Failure> {
    let verb = match &step.action {
        Action::Keep(_) | Action::Blocked { .. } => return Ok(()),
        Action::Create => "create",
        Action::Update(_) => "update",
    };
    let checked = Box::pin(K::check(writer, step)).await.map_err(|error| failed::<K>("read", &step.want, &error))?;
    if let Some((why, unless)) = checked {
        let failure = refused(None, why.clone(), unless);
        (step.action, step.progress) = (Action::Blocked { why, unless }, Progress::Failed);
        return Err(failure);
    }
    let applied = K::apply(writer, step, inputs).await;
    step.progress = if applied.is_ok() { Progress::Written } else { Progress::Failed };
    applied.map_err(|error| failed::<K>(verb, &step.want, &error))
}

/// Looks until a change shows.
async fn confirm<K: Kind>(reader: &Reader, step: &mut Step<K>) -> Result<(), Failure> {
    if step.progress != Progress::Written {
        return Ok(());
    }
    let end = Instant::now() + SHOWS_WITHIN;
    let mut pause = Duration::from_millis(100);
    loop {
        let now = K::observe(reader, &step.want).await.map_err(|error| failed::<K>("read back", &step.want, &error))?;
        if K::shows(step, now.as_ref()) {
            if let Some(note) = K::came_out(step, now.as_ref()) {
                step.action = Action::Keep(Some(note));
            }
            step.now = now;
            step.progress = Progress::Done;
            return Ok(());
        }
        if Instant::now() + pause > end {
            step.progress = Progress::Failed;
            let (kind, name, seconds) = (K::KIND, K::quoted(&step.want), SHOWS_WITHIN.as_secs());
            return Err(Failure::new(
                Code::Failed,
                format!("The {kind} {name} was written, but does not read back as written."),
            )
            .cause(format!("{seconds} s after the write a look still shows the old state"))
            .advise("run the same command again: it compares and writes only what differs"));
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}
