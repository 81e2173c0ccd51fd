//! Failures to start a run, and runs that disappeared.

use super::http::of_dbt;
use super::{Code, Failure};
use crate::dbt::Difference;
use crate::http::{HttpError, Limit};
use crate::runs::NotStarted;

/// A run that existed before and no longer does. `run` is its description, such as `dbt run 123456`.
pub(crate) fn of_gone(run: &str, error: &HttpError) -> Failure {
    Failure::new(Code::RunGone, format!("{run} is gone: it was deleted, or is no longer visible"))
        .cause(error.to_string())
}

/// A dbt job whose run could not be started or found. `job` is the job as the user named it, `start` the command that
/// starts it again with the same key, `page` the URL of the job, `limit` the command's timeout.
pub(crate) fn of_start(job: &str, start: &str, page: &str, limit: Limit, error: &NotStarted) -> Failure {
    match error {
        NotStarted::Blind(error) => {
            of_dbt(&format!("cannot look up earlier runs of dbt job {job}"), error).state("nothing was started")
        }
        NotStarted::Rejected(error) => of_dbt(&format!("dbt did not start job {job}"), error),
        NotStarted::NeverSent(error) => {
            of_dbt(&format!("cannot start dbt job {job}"), error).state("nothing was started")
        }
        NotStarted::JobDisabled(disabled) => {
            let what = format!("dbt job {job} would not start; nothing was started");
            Failure::new(Code::Refused, what)
                .cause(disabled.why())
                .advise(disabled.advice())
                .advise(format!("see {page}"))
        }
        NotStarted::NoTime(spent) => Failure::new(
            Code::StillRunning,
            format!("cannot start dbt job {job}: timed out after {limit}; nothing was started"),
        )
        .cause(spent)
        .advise("increase --timeout"),
        NotStarted::Interrupted(signal) => {
            Failure::interrupted(*signal).cause(format!("no run of dbt job {job} was started"))
        }
        NotStarted::OtherParameters { run, difference } => {
            let Difference { name, wanted, seen } = difference;
            Failure::new(
                Code::Refused,
                format!("the key already belongs to dbt run {}, which was started with other parameters", run.id),
            )
            .cause(format!("{name}: requested {wanted}, run {} has {seen}", run.id))
            .advise("use a new --idempotency-key for a new run, or the same parameters to follow that run")
        }
        NotStarted::NoRunShows { error, sends } => {
            let failure = of_dbt(&format!("dbt did not start job {job}: no run was found"), error);
            let times = if *sends == 1 { "once".to_owned() } else { format!("{sends} times") };
            failure
                .cause(format!("it was sent {times} without a clear response, and no run appeared"))
                .run("look for the run, and start it if there is none", start)
                .advise(format!("see the job's runs: {page}"))
        }
        NotStarted::Unknown { error, looking } => {
            let mut failure = Failure::new(
                Code::OutcomeUnknown,
                format!("it is unknown whether a run of dbt job {job} was started; nothing was sent again"),
            );
            failure.causes.extend(error.iter().map(ToString::to_string));
            match looking {
                Some(error) => failure = failure.cause(format!("looking for the run failed too: {error}")),
                None => failure = failure.cause("no run with this key was found so far"),
            }
            failure
                .run("look for the run, and start it if there is none", start)
                .advise(format!("see the job's runs: {page}"))
        }
    }
}
