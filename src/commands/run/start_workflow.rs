//! `run --workflow W`.

use std::collections::BTreeMap;

use super::follow_workflow::{WorkflowReport, follow_run};
use super::interrupt_outcome::WorkflowInterruptOutcome;
use super::{LONGEST, WaitOptions, cancel_on_interrupt};
use crate::commands::shared::interrupt_report::Checkpoint;
use crate::commands::shared::printed_commands;
use crate::commands::shared::workflow_argument::WorkflowArgument;
use crate::commands::{CommandContext, databricks_client};
use crate::credentials::{Databricks, InputErrors};
use crate::databricks::{OtherParameter, get_workflow_run, run_now};
use crate::events::{RunEvent, RunId};
use crate::failure::{Code, Ended, Failure, Known, Report, of_databricks};
use crate::http::{Deadline, Reader, Sent};
use crate::runs::Key;

pub(super) async fn run(
    text: &str,
    waiting: WaitOptions,
    errors: InputErrors,
    ctx: &CommandContext,
) -> Ended<Box<dyn Report>> {
    match WorkflowArgument::with_identity(text, errors, ctx) {
        Ok((named, identity)) => start(text, &identity, named, &waiting, ctx).await.unwrap_or_else(Ended::from),
        Err(failure) => failure.into(),
    }
}

/// Runs the workflow with this ID and follows the run, as `run --workflow ID` does.
pub(in crate::commands) async fn start_workflow(
    workflow: u64,
    identity: &Databricks,
    ctx: &CommandContext,
) -> Ended<Box<dyn Report>> {
    let waiting = WaitOptions {
        deadline: Deadline::after(LONGEST),
        no_wait: false,
        key: Key::fresh(&ctx.context.entropy),
        key_given: false,
        parameters: BTreeMap::new(),
    };
    let named = WorkflowArgument::Id(workflow);
    let started = Box::pin(start(&workflow.to_string(), identity, named, &waiting, ctx)).await;
    started.unwrap_or_else(Ended::from)
}

async fn start(
    text: &str,
    identity: &Databricks,
    named: WorkflowArgument,
    waiting: &WaitOptions,
    ctx: &CommandContext,
) -> Result<Ended<Box<dyn Report>>, Failure> {
    let deadline = &waiting.deadline;
    let writer = databricks_client(identity, ctx)?.until(deadline);
    let again = |job: u64| format!("dbtrigger run --workflow {job}");
    let finding = named.find(&writer, text, "nothing was started", again);
    let row = ctx.interruption.or(finding).await.map_err(cancel_on_interrupt::nothing_started)??;
    let job = row.job_id;
    let mut report = WorkflowReport {
        workflow: job,
        name: row.name().to_owned(),
        origin: identity.origin.to_string(),
        key: Some(waiting.key.as_str().to_owned()),
        ..WorkflowReport::default()
    };
    let again = printed_commands::run_workflow(text, &waiting.parameters, None);
    let resume = printed_commands::run_workflow(text, &waiting.parameters, Some(waiting.key.as_str()));
    let shown_name = report.shown_name();
    ctx.interrupt_report.set(Checkpoint {
        known: Known::of(&report),
        line: format!("a run of {shown_name} may have been started"),
        resume: resume.clone(),
    });
    let token = waiting.key.token(job);
    let time_left = deadline.left();
    let sending = writer.put_within(run_now(job, &token, &waiting.parameters), time_left);
    // After an interrupt, the response to a sent request is awaited for a limited time.
    let sent = tokio::select! {
        sent = sending => Some(sent),
        () = cancel_on_interrupt::grace_period_after_signal(&ctx.interruption) => None,
    };
    let started = match sent {
        Some(Sent::Done(started)) => Ok(started),
        Some(Sent::NotSent(error) | Sent::Rejected(error)) => {
            Err(of_databricks(&format!("Databricks did not start {shown_name}"), &error).state("nothing was started"))
        }
        Some(Sent::Open(error)) => Err(unknown(&shown_name, &resume, &error.to_string())),
        None => Err(unknown(&shown_name, &resume, "interrupted before Databricks responded")),
    };
    let started = match started {
        Ok(started) => started,
        Err(mut failure) => {
            if let Some(signal) = ctx.interruption.signal() {
                report.on_interrupt = Some(WorkflowInterruptOutcome::unseen(failure.code));
                failure = cancel_on_interrupt::as_interruption(signal, failure);
            }
            return Ok(Ended { report: Some(Box::new(report)), failure: Some(failure) });
        }
    };
    let run = started.run_id;
    report.run = Some(run);
    report.url = Some(format!("{}/jobs/{job}/runs/{run}", identity.origin));
    ctx.events.run(RunEvent::Found { run: RunId::Databricks(run), url: report.url.clone() });
    if waiting.key_given
        && let Some(failure) = other_parameters(&writer, run, waiting).await
    {
        ctx.interrupt_report.ended(&report);
        return Ok(Ended { report: Some(Box::new(report)), failure: Some(failure) });
    }
    let left = report.clone();
    let following = async {
        if waiting.no_wait {
            ctx.interrupt_report.ended(&report);
            ctx.events.run(RunEvent::Next {
                command: ctx.global_flags().command(&printed_commands::watch_workflow_run(run)),
            });
            return Ended::well(Box::new(report) as Box<dyn Report>);
        }
        follow_run(report, run, &writer, deadline, Some(&again), ctx).await
    };
    match ctx.interruption.or(following).await {
        Ok(ended) => Ok(ended),
        Err(signal) => {
            Ok(Box::pin(cancel_on_interrupt::cancel_workflow(signal, run, left, &identity.origin, &writer, ctx)).await)
        }
    }
}

/// With a used token the service returns its run, whatever the parameters.
async fn other_parameters(reader: &Reader, run: u64, waiting: &WaitOptions) -> Option<Failure> {
    // A run that cannot be read now is followed anyway.
    let seen = reader.read_once(get_workflow_run(run, None)).await.ok()?;
    let OtherParameter { name, wanted, seen } = seen.differs_from(&waiting.parameters)?;
    Some(
        Failure::new(
            Code::Refused,
            format!("the key already belongs to Databricks run {run}, which was started with other parameters"),
        )
        .cause(format!("{name}: requested \"{wanted}\", run {run} has \"{seen}\""))
        .advise("use a new --idempotency-key for a new run, or the same parameters to follow that run"),
    )
}

/// `run-now` may have started the run; the token makes a retry safe.
fn unknown(workflow: &str, resume: &str, why: &str) -> Failure {
    Failure::new(Code::OutcomeUnknown, format!("it is unknown whether a run of {workflow} was started"))
        .cause(why)
        .run("look for the run, and start it if there is none", resume)
        .advise("this command cannot start a second run: it has the same idempotency token")
}
