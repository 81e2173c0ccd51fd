//! dbt Cloud runs and steps as clients read them.

use serde_json::{Map, Value, json};

use super::World;
use super::answers::{HandlerResult, ServiceError, dbt_data};
use super::call::Call;
use super::dbt::{ACCOUNT, clock, humanized, run_time};
use super::dbt_jobs::DBT_VERSION;
use super::dbt_runs::{DbtRun, End, PlannedOutcome, Status};

/// Delay between the end of a step and its logs, in milliseconds.
const LOG_DELAY: i64 = 3_000;
/// Delay between the end of a run and its artifacts, in milliseconds.
const UPLOAD: i64 = 5_000;

/// Fields that a job has only in its own responses, not as part of a run.
const OF_A_JOB_ALONE: &[&str] = &[
    "raw_dbt_version",
    "deactivated",
    "run_failure_count",
    "job_completion_trigger_condition",
    "lifecycle_webhooks_url",
    "is_deferrable",
    "generate_sources",
    "created_at",
    "updated_at",
    "next_run",
    "next_run_humanized",
    "environment",
    "most_recent_run",
    "most_recent_completed_run",
];

/// Every override of the trigger endpoint. The trigger in a response has all of them, null where not given.
pub(super) const OVERRIDES: &[(&str, Kind)] = &[
    ("git_branch", Kind::Text),
    ("git_sha", Kind::Text),
    ("azure_pull_request_id", Kind::Whole),
    ("github_pull_request_id", Kind::Whole),
    ("gitlab_merge_request_id", Kind::Whole),
    ("non_native_pull_request_id", Kind::Whole),
    ("schema_override", Kind::Text),
    ("dbt_version_override", Kind::Text),
    ("threads_override", Kind::Whole),
    ("target_name_override", Kind::Text),
    ("generate_docs_override", Kind::Flag),
    ("timeout_seconds_override", Kind::Whole),
    ("steps_override", Kind::Texts),
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Whole,
    Flag,
    Texts,
}

/// Returns a trigger as the service stores it.
pub(super) fn trigger(
    id: i64,
    job: i64,
    cause: &str,
    category: &str,
    overrides: &Map<String, Value>,
) -> Map<String, Value> {
    let given = OVERRIDES.iter().map(|(name, _)| (*name, overrides.get(*name).cloned().unwrap_or(Value::Null)));
    let fields = [("id", json!(id)), ("cause", json!(cause)), ("cause_humanized", json!(cause))];
    let fields = fields.into_iter().chain([("job_definition_id", json!(job))]).chain(given);
    fields.chain([("cause_category", json!(category))]).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn time_or_null(at: Option<i64>) -> Value {
    at.map_or(Value::Null, run_time)
}

/// The members of an object.
fn members(object: Value) -> Map<String, Value> {
    if let Value::Object(members) = object { members } else { Map::new() }
}

impl World {
    /// Returns why a run cannot be retried. Only the latest run of a job can be, and only after an error.
    pub(super) fn no_retry(&self, run: &DbtRun) -> Option<&'static str> {
        if run.status(self.now.0) != Status::Error {
            return Some("RETRY_NOT_FAILED_RUN");
        }
        let newer = self.dbt.runs.iter().rev().take_while(|other| other.id > run.id).any(|other| other.job == run.job);
        newer.then_some("RETRY_NOT_LATEST_RUN")
    }

    /// Whether the run's artifacts are available.
    pub(super) fn has_artifacts(&self, run: &DbtRun) -> bool {
        let now = self.now.0;
        match run.end(now) {
            Some((at, End::Success | End::Error)) => now >= at + UPLOAD,
            // Canceled runs have none.
            Some((_, End::Cancelled | End::TimedOut)) | None => false,
        }
    }

    fn message(&self, run: &DbtRun) -> Value {
        match run.end(self.now.0) {
            Some((_, End::TimedOut)) => {
                let seconds = run.timeout / 1000;
                json!(format!(
                    "This run timed out after running for {}, which exceeded the configured timeout of {seconds} seconds.",
                    humanized(run.timeout)
                ))
            }
            Some((_, End::Cancelled)) => json!("Cancelled by user."),
            Some((_, End::Error)) => json!("dbt command failed"),
            Some((_, End::Success)) | None => Value::Null,
        }
    }

    pub(super) fn canceller(&self, run: &DbtRun) -> Value {
        match run.end(self.now.0) {
            Some((_, End::Cancelled)) if run.cancelled.is_some() => {
                json!({ "id": 7001, "type": "service_token", "name": "sandbox" })
            }
            Some((_, End::Cancelled)) => json!({ "id": 7002, "type": "user", "name": "Somebody Else" }),
            Some((_, End::TimedOut)) => json!({ "id": null, "type": "system", "name": "dbt Cloud" }),
            Some((_, End::Success | End::Error)) | None => Value::Null,
        }
    }

    /// Returns a run with the members named in `include`.
    pub(super) fn dbt_run_fields(&self, run: &DbtRun, include: &[String]) -> Value {
        let now = self.now.0;
        let status = run.status(now);
        let end = run.end(now).map(|(at, _)| at);
        let last = end.unwrap_or(now);
        let started = run.starts_running().filter(|at| *at <= last && run.worked(now));
        let dequeued = run.dequeued;
        let (queued_for, ran_for) = (dequeued.unwrap_or(last) - run.created, started.map_or(0, |at| last - at));
        let no_retry = self.no_retry(run);
        let blocked_by = if status == Status::Queued { self.dbt.blockers(run) } else { Vec::new() };
        let cloned = started.is_some_and(|at| now > at + 5_000);
        let saved = self.has_artifacts(run);
        let updated = [Some(run.created), dequeued, started, end].into_iter().flatten().max();
        let mut body = members(json!({
            "id": run.id, "trigger_id": run.trigger.get("id"), "account_id": ACCOUNT, "environment_id": run.environment,
            "project_id": run.project, "job_definition_id": run.job, "job_id": run.job,
            "status": status.number(), "status_humanized": status.name(), "status_message": self.message(run),
            "dbt_version": DBT_VERSION, "git_branch": run.trigger.get("git_branch").filter(|branch| !branch.is_null()).cloned().unwrap_or_else(|| json!("main")),
            "git_sha": if cloned { json!(run.commit) } else { Value::Null },
            "owner_thread_id": null, "executed_by_thread_id": null, "deferring_run_id": null,
            "artifacts_saved": saved, "artifact_s3_path": if saved { json!(format!("prod/runs/{}/artifacts/target", run.id)) } else { Value::Null },
            "has_docs_generated": saved && run.steps.iter().any(|step| step.name == "Generate docs") && status == Status::Success,
            "has_sources_generated": false, "notifications_sent": false, "blocked_by": blocked_by,
            "created_at": run_time(run.created), "updated_at": time_or_null(updated), "dequeued_at": time_or_null(dequeued),
            "started_at": time_or_null(started), "finished_at": time_or_null(end), "last_checked_at": null,
            "last_heartbeat_at": null, "should_start_at": run_time(run.created),
            "trigger": null, "job": null, "environment": null, "repository": null, "run_steps": [], "audit": null,
            "deprecation": null, "used_repo_cache": null, "repo_cache_restore": null,
        }));
        body.extend(members(json!({
            "in_progress": end.is_none(), "is_complete": end.is_some(), "is_success": status == Status::Success,
            "is_error": status == Status::Error, "is_cancelled": status == Status::Cancelled, "is_running": null,
            "duration": clock(last - run.created), "queued_duration": clock(queued_for), "run_duration": clock(ran_for),
            "duration_humanized": humanized(last - run.created), "queued_duration_humanized": humanized(queued_for),
            "run_duration_humanized": humanized(ran_for), "created_at_humanized": format!("{} ago", humanized(now - run.created)),
            "finished_at_humanized": format!("{} from now", humanized(0)),
            "retrying_run_id": run.retrying, "can_retry": no_retry.is_none(), "retry_not_supported_reason": no_retry,
            "href": format!("{}/deploy/{ACCOUNT}/projects/{}/runs/{}/", self.origin, run.project, run.id),
        })));
        body.extend(include.iter().filter_map(|name| Some((name.clone(), self.member(run, name, include)?))));
        if let (Some(scripted), Some(_)) = (self.dbt.scripted.get(&run.job), end) {
            let shown = |name: &String| name != "run_steps" || include.contains(name);
            body.extend(scripted.run.clone().into_iter().filter(|(name, _)| shown(name)));
        }
        Value::Object(body)
    }

    /// Returns a member of `include`; `None` for those without content in the sandbox.
    fn member(&self, run: &DbtRun, name: &str, include: &[String]) -> Option<Value> {
        Some(match name {
            "trigger" => Value::Object(run.trigger.clone()),
            "job" => {
                let Some(job) = self.dbt.jobs.get(&run.job) else { return Some(Value::Null) };
                // As part of a run, a job has fewer fields and its schedule has only words
                // (dbt-cloud-openapi-v2, `InternalJobDefinition`).
                let mut fields = members(self.job_fields(job, &[]));
                fields.retain(|name, _| !OF_A_JOB_ALONE.contains(&name.as_str()));
                let schedule = json!({ "cron": "0 6 * * *", "date": "every_day", "time": "at_exact_hours" });
                fields.insert("schedule".to_owned(), schedule);
                Value::Object(fields)
            }
            "environment" => self.environment_fields(run.environment),
            "run_steps" => self.steps(run, include.iter().any(|name| name == "debug_logs")),
            "audit" => json!({
                "trigger": { "actor": { "id": 7001, "type": "service_token", "name": "sandbox" } },
                "cancellation": { "actor": self.canceller(run) },
            }),
            "run_retries" => {
                let resumed = self.dbt.runs.iter().filter(|other| other.retrying == Some(run.id));
                resumed.map(|other| json!({ "id": other.id, "status": other.status(self.now.0).number() })).collect()
            }
            _ => return None,
        })
    }

    /// Returns the steps of a run; empty before it is running.
    fn steps(&self, run: &DbtRun, debug: bool) -> Value {
        let now = self.now.0;
        if !run.worked(now) {
            return json!([]);
        }
        let stopped = run.end(now);
        let times = run.step_times();
        let rows = run.steps.iter().zip(times).enumerate().map(|(index, (step, times))| {
            let (begin, end) = times.unwrap_or((i64::MAX, i64::MAX));
            let cut = stopped.map_or(i64::MAX, |(at, _)| at);
            let cancelled = matches!(stopped, Some((_, End::Cancelled | End::TimedOut)));
            // The number of a skipped step is unverified, so clients must compare the text.
            let (number, name) = if begin >= cut && stopped.is_some() {
                (30, "Skipped")
            } else if now < begin {
                (1, "Queued")
            } else if cancelled && end >= cut {
                (30, "Cancelled")
            } else if now < end {
                (3, "Running")
            } else if run.failing_step() == Some(index) {
                (20, "Error")
            } else {
                (10, "Success")
            };
            let finished = (now >= end.min(cut) && begin < cut).then_some(end.min(cut));
            let started = (now >= begin && begin < cut).then_some(begin);
            let logs = finished.filter(|at| now >= at + LOG_DELAY).map(|_| log(run, index, number));
            let took = started.map_or(0, |begin| finished.unwrap_or(now) - begin);
            json!({
                "id": run.id * 100 + i64::try_from(index).unwrap_or(0), "run_id": run.id, "account_id": ACCOUNT,
                "index": index + 1, "name": step.name, "status": number, "status_humanized": name,
                "status_color": match number { 10 => "green", 20 => "red", _ => "gray" },
                "logs": logs, "debug_logs": logs.as_ref().filter(|_| debug), "truncated_debug_logs": logs,
                "log_path": "", "debug_log_path": "",
                "started_at": time_or_null(started), "finished_at": time_or_null(finished),
                "created_at": time_or_null(started), "updated_at": time_or_null(finished.or(started)),
                "duration": clock(took), "duration_humanized": humanized(took),
                "run_step_command": step.command.as_ref().map(|command| json!({ "run_step_id": run.id * 100 + i64::try_from(index).unwrap_or(0), "dbt_command": command })),
                "run_step_invocation": null,
            })
        });
        // The order of the array is not guaranteed.
        let mut rows: Vec<Value> = rows.collect();
        rows.reverse();
        Value::Array(rows)
    }
}

fn log(run: &DbtRun, index: usize, number: i64) -> String {
    let step = &run.steps[index];
    match &step.command {
        None => format!("{}\nDone.\n", step.name),
        Some(command) if number == 20 => format!(
            "\u{1b}[0m06:00:01  Running with dbt={DBT_VERSION}\n06:00:02  Concurrency: 4 threads\n06:00:31  3 of 6 \u{1b}[31mERROR\u{1b}[0m creating sql table model analytics.orders [\u{1b}[31mERROR\u{1b}[0m in 4.12s]\n06:00:40  \u{1b}[31mCompleted with 2 errors:\u{1b}[0m\n06:00:40    Database Error in model orders (models/marts/orders.sql)\n06:00:40  Done. PASS=3 WARN=0 ERROR=2 SKIP=1 TOTAL=6\ncommand: {command}\n"
        ),
        Some(command) => format!(
            "\u{1b}[0m06:00:01  Running with dbt={DBT_VERSION}\n06:00:40  \u{1b}[32mCompleted successfully\u{1b}[0m\ncommand: {command}\n"
        ),
    }
}

/// `GET steps/{id}/`.
pub(super) fn step(world: &mut World, call: &Call) -> HandlerResult {
    call.check_account()?;
    call.check_query(&["include_related", "include_related[]"])?;
    let id = call.id(1).ok_or_else(ServiceError::dbt_not_found)?;
    let run = world.dbt.find(id / 100).ok_or_else(ServiceError::dbt_not_found)?;
    let debug = call.included().iter().any(|name| name == "debug_logs");
    let steps = world.steps(&world.dbt.runs[run], debug);
    let found = steps.as_array().into_iter().flatten().find(|step| step["id"] == id);
    found.map(dbt_data).ok_or_else(ServiceError::dbt_not_found)
}

pub(super) fn inspected(world: &World) -> Value {
    let now = world.now.0;
    let rows = world.dbt.runs.iter().map(|run| {
        json!({
            "id": run.id, "job_id": run.job, "status": run.status(now).number(), "cause": run.trigger.get("cause"),
            "trigger": run.trigger, "worked": run.worked(now), "retrying_run_id": run.retrying, "seeded": run.seeded,
            "cancelled_by": world.canceller(run)["type"], "scripted_cancel": run.plan.outcome == PlannedOutcome::CancelledElsewhere,
        })
    });
    Value::Array(rows.collect())
}
