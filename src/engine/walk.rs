//! Does what a plan says, and nothing else.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::plan::{Action, Kind, Plan, Planned, Step};
use crate::events::Events;
use crate::failure::{Code, Failure, of_databricks};
use crate::http::Writer;
use crate::secret::Secret;

/// How long a write may take to show in reads before that is reported.
const SHOWS_WITHIN: Duration = Duration::from_secs(30);

/// What applying needs and a plan must not hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inputs {
    /// The dbt API key.
    pub(crate) key: Option<Secret>,
}

/// Walks the plan from the first step to the last. A plan with anything blocked in it is not walked at all.
///
/// # Errors
/// The first change that fails or does not show. What came before it stays; the same command picks up there.
pub(crate) async fn walk(writer: &Writer, plan: &Plan, inputs: &Inputs, events: &Events) -> Result<(), Failure> {
    if let Some(failure) = blocked(plan) {
        return Err(failure);
    }
    for step in &plan.steps {
        walk_one(writer, step, inputs, events).await?;
    }
    Ok(())
}

/// The refusal of a plan with anything blocked in it: all of it at once.
pub(crate) fn blocked(plan: &Plan) -> Option<Failure> {
    let mut failure: Option<Failure> = None;
    for entry in plan.entries() {
        let Action::Blocked { why, unless } = entry.action else { continue };
        let mut next = failure
            .map_or_else(|| Failure::new(Code::Refused, why.what.clone()), |failure| failure.cause(why.what.clone()));
        if let Some(consent) = unless {
            next = next.advise(format!("to do it all the same, add {}", consent.flag()));
        }
        failure = Some(next);
    }
    failure
}

async fn walk_one(_writer: &Writer, step: &Planned, _inputs: &Inputs, _events: &Events) -> Result<(), Failure> {
    match *step {}
}

/// Applies one step and waits until it shows.
async fn take<K: Kind>(writer: &Writer, step: &Step<K>, inputs: &Inputs, events: &Events) -> Result<(), Failure> {
    let verb = match &step.action {
        Action::Keep(_) | Action::Blocked { .. } => return Ok(()),
        Action::Create => "create",
        Action::Update(_) => "update",
    };
    let name = K::name(&step.want);
    K::apply(writer, step, inputs)
        .await
        .map_err(|error| of_databricks(&format!("Cannot {verb} the {} {name}", K::KIND), &error))?;
    let end = Instant::now() + SHOWS_WITHIN;
    let mut pause = Duration::from_millis(100);
    loop {
        let now = K::observe(writer, &step.want)
            .await
            .map_err(|error| of_databricks(&format!("Cannot read the {} {name} back", K::KIND), &error))?;
        if K::shows(step, now.as_ref()) {
            events.remark(format!("{verb}d {} {name}", K::KIND));
            return Ok(());
        }
        if Instant::now() + pause > end {
            return Err(Failure::new(
                Code::Failed,
                format!("The {} {name} was written, but does not read back as written.", K::KIND),
            )
            .cause(format!("{} s after the write a look still shows the old state", SHOWS_WITHIN.as_secs()))
            .advise("run the same command again: it compares and writes only what differs"));
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}
