//! Requests about runs of dbt jobs: trigger, poll, cancel.

use std::time::Duration;

use serde::Serialize;

use super::envelope::{PAGE, Page, data, page};
use super::overrides::Overrides;
use super::run_response::{Run, Status};
use crate::http::{Call, Idempotent, NonIdempotent, Path, Read};

/// Timeout of the trigger request.
pub(crate) const TRIGGER_LIMIT: Duration = Duration::from_mins(1);

#[derive(Serialize)]
struct TriggerBody<'a> {
    cause: &'a str,
    #[serde(flatten)]
    overrides: &'a Overrides,
}

/// Starts a run of the job. There is no idempotency key, so the caller has to resolve an unclear outcome.
pub(crate) fn trigger(
    account: u64,
    job: u64,
    cause: &str,
    overrides: &Overrides,
    limit: Duration,
) -> NonIdempotent<Run> {
    let path = Path::new("/api/v2/accounts/").number(account).then("/jobs/").number(job).then("/run/");
    NonIdempotent::new(Call::post("jobs/run", path).json(&TriggerBody { cause, overrides }).within(limit), data)
}

/// A page of the job's runs, newest first, each with its trigger.
pub(crate) fn list_runs(account: u64, job: u64, offset: u64, limit: u64) -> Read<Page<Run>> {
    let path = Path::new("/api/v2/accounts/").number(account).then("/runs/");
    let call = Call::get("runs/list", path)
        .query("job_definition_id", job)
        .query("order_by", "-id")
        .query("limit", limit)
        .query("offset", offset)
        .query("include_related", r#"["trigger"]"#);
    Read::new(call, page)
}

/// Filters for a list of runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunFilter {
    pub(crate) job: Option<u64>,
    /// Empty: any status.
    pub(crate) statuses: Vec<Status>,
}

/// A page of the account's runs, newest first, each with its trigger and job.
pub(crate) fn list_account_runs(account: u64, filter: &RunFilter, offset: u64, limit: u64) -> Read<Page<Run>> {
    let RunFilter { job, statuses } = filter;
    let path = Path::new("/api/v2/accounts/").number(account).then("/runs/");
    let numbers: Vec<i64> = statuses.iter().map(|status| status.number()).collect();
    let call = Call::get("runs/list", path)
        .query("order_by", "-id")
        .query("limit", limit)
        .query("offset", offset)
        .query("include_related", r#"["trigger","job"]"#)
        .query_some("job_definition_id", *job)
        .query_some("status__in", (!numbers.is_empty()).then(|| serde_json::json!(numbers)));
    Read::new(call, page)
}

/// Those of these runs that lists show already, without related objects. At most [`PAGE`] IDs.
pub(crate) fn list_these_runs(account: u64, runs: &[u64]) -> Read<Page<Run>> {
    let path = Path::new("/api/v2/accounts/").number(account).then("/runs/");
    let call = Call::get("runs/list", path)
        .query("pk__in", serde_json::json!(runs))
        .query("order_by", "-id")
        .query("limit", PAGE);
    Read::new(call, page)
}

/// One run, without related objects.
pub(crate) fn get_run(account: u64, run: u64) -> Read<Run> {
    Read::new(Call::get("runs/get", run_path(account, run).then("/")), data)
}

/// One run, with its trigger.
pub(crate) fn get_run_with_trigger(account: u64, run: u64) -> Read<Run> {
    let call = Call::get("runs/get", run_path(account, run).then("/"));
    Read::new(call.query("include_related", r#"["trigger"]"#), data)
}

/// One run with its steps, and with the job and trigger, which tell checkbox steps apart. Includes all logs, so not for
/// every poll.
pub(crate) fn get_run_with_steps(account: u64, run: u64) -> Read<Run> {
    let call = Call::get("runs/get", run_path(account, run).then("/")).within(STEPS_LIMIT).shorten(LONGEST_LOG);
    Read::new(call.query("include_related", r#"["run_steps","job","trigger"]"#), data)
}

/// Timeout for reading a run with its logs.
const STEPS_LIMIT: Duration = Duration::from_mins(1);

/// Bytes kept at each end of a log.
const LONGEST_LOG: usize = 16 << 10;

/// Starts a run that resumes this one from its point of failure. It accepts no `cause`, so the caller has to
/// resolve an unclear outcome.
pub(crate) fn retry_run(account: u64, run: u64, limit: Duration) -> NonIdempotent<Run> {
    NonIdempotent::new(Call::post("runs/retry", run_path(account, run).then("/retry/")).within(limit), data)
}

/// Cancels a run. Idempotent.
pub(crate) fn cancel_run(account: u64, run: u64) -> Idempotent<Run> {
    Idempotent::new(Call::post("runs/cancel", run_path(account, run).then("/cancel/")), data)
}

pub(super) fn run_path(account: u64, run: u64) -> Path {
    Path::new("/api/v2/accounts/").number(account).then("/runs/").number(run)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn requests_carry_lists_as_json_text_and_end_with_a_slash() {
        assert_eq!(
            list_runs(7, 8, 100, 100).call.target(),
            "/api/v2/accounts/7/runs/?job_definition_id=8&order_by=-id&limit=100&offset=100&include_related=%5B%22trigger%22%5D"
        );
        let active = RunFilter { job: Some(8), statuses: vec![Status::Queued, Status::Running] };
        assert_eq!(
            list_account_runs(7, &active, 0, 100).call.target(),
            "/api/v2/accounts/7/runs/?order_by=-id&limit=100&offset=0&include_related=%5B%22trigger%22%2C%22job%22%5D&job_definition_id=8&status__in=%5B1%2C3%5D"
        );
        assert_eq!(
            list_these_runs(7, &[8, 9]).call.target(),
            "/api/v2/accounts/7/runs/?pk__in=%5B8%2C9%5D&order_by=-id&limit=100"
        );
        assert_eq!(
            get_run_with_steps(7, 9).call.target(),
            "/api/v2/accounts/7/runs/9/?include_related=%5B%22run_steps%22%2C%22job%22%2C%22trigger%22%5D"
        );
        assert_eq!(cancel_run(7, 9).call.target(), "/api/v2/accounts/7/runs/9/cancel/");
        assert_eq!(cancel_run(7, 9).call.body, None);
        let retry = retry_run(7, 9, TRIGGER_LIMIT).call;
        assert_eq!((retry.target().as_str(), retry.body), ("/api/v2/accounts/7/runs/9/retry/", None));
    }

    #[test]
    fn a_trigger_sends_only_what_was_asked_for() {
        let overrides = json!({"git_branch": "main", "steps_override": ["dbt build"]});
        let overrides: Overrides = serde_json::from_value(overrides).unwrap();
        let once = trigger(7, 8, "why", &overrides, TRIGGER_LIMIT);
        assert_eq!(once.call.target(), "/api/v2/accounts/7/jobs/8/run/");
        let body: Value = serde_json::from_slice(&once.call.body.unwrap()).unwrap();
        assert_eq!(body, json!({"cause": "why", "git_branch": "main", "steps_override": ["dbt build"]}));
        assert_eq!(once.call.attempt, Duration::from_mins(1));
    }
}
