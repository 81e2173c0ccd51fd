//! Requests on dbt Cloud runs: trigger, read, list, cancel, retry.

use serde_json::{Map, Value, json};

use super::World;
use super::answers::{HandlerResult, ServiceError, dbt_data};
use super::call::Call;
use super::dbt::Order;
use super::dbt_jobs::{DbtJob, check_members};
use super::dbt_run_views::{Kind, OVERRIDES, trigger};
use super::dbt_runs::DbtRun;

/// Longest cause, in characters (longer ones were refused in practice).
const LONGEST_CAUSE: usize = 255;
const MEMBERS: &[&str] = &[
    "trigger",
    "job",
    "environment",
    "repository",
    "run_steps",
    "run_retries",
    "used_repo_cache",
    "repo_cache_restore",
    "audit",
    "debug_logs",
];
const FILTERS: &[&str] = &[
    "id__gt",
    "job_definition_id",
    "project_id",
    "project_id__in",
    "environment_id",
    "status",
    "status__in",
    "created_at__range",
    "finished_at__range",
    "dbt_version",
    "dbt_version__in",
    "deferring_run_id",
    "has_docs_generated",
    "has_sources_generated",
    "pk",
    "pk__in",
    "state",
    "order_by",
    "limit",
    "offset",
    "include_related",
    "include_related[]",
];
/// A run and when it ended; `i64::MAX` if it has not.
type Row<'a> = (&'a DbtRun, i64);

/// Returns cause and overrides of a trigger request. `cause` is required; empty overrides and wrong types are refused;
/// null and unknown fields are accepted.
fn asked_for(body: &Map<String, Value>, is_form: bool) -> Result<(String, Map<String, Value>), ServiceError> {
    let cause = match body.get("cause") {
        Some(Value::String(cause)) if !cause.is_empty() => cause.clone(),
        Some(Value::String(_)) => return Err(ServiceError::dbt_field("cause", "'' is too short")),
        None | Some(Value::Null) => return Err(ServiceError::dbt_field("cause", "'cause' is a required property")),
        Some(other) => return Err(ServiceError::dbt_field("cause", format!("{other} is not of type 'string'"))),
    };
    if cause.chars().count() > LONGEST_CAUSE {
        let what = format!("Ensure this field has no more than {LONGEST_CAUSE} characters.");
        return Err(ServiceError::dbt_field("cause", what));
    }
    let mut overrides = Map::new();
    for (name, kind) in OVERRIDES {
        let Some(value) = body.get(*name).filter(|value| !value.is_null()) else {
            continue;
        };
        let value = match (kind, value) {
            (Kind::Whole, Value::String(text)) if is_form => {
                text.parse::<i64>().map_or_else(|_| value.clone(), |number| json!(number))
            }
            (Kind::Flag, Value::String(text)) if is_form => json!(text == "true"),
            (Kind::Texts, Value::String(text)) if is_form => json!([text]),
            (Kind::Text | Kind::Whole | Kind::Flag | Kind::Texts, value) => value.clone(),
        };
        let (fits, wanted) = match kind {
            Kind::Text => (value.is_string(), "string"),
            Kind::Whole => (value.is_i64() || value.is_u64(), "integer"),
            Kind::Flag => (value.is_boolean(), "boolean"),
            Kind::Texts => {
                (value.as_array().is_some_and(|items| items.iter().all(Value::is_string)), "array of strings")
            }
        };
        if !fits {
            return Err(ServiceError::dbt_field(name, format!("{value} is not of type '{wanted}'")));
        }
        let empty =
            value.as_str() == Some("") || value.as_array().is_some_and(|items| items.iter().any(|item| item == ""));
        if empty {
            return Err(ServiceError::dbt_field(name, "'' is too short"));
        }
        overrides.insert((*name).to_owned(), value);
    }
    Ok((cause, overrides))
}

fn body_of(call: &Call) -> Result<Map<String, Value>, ServiceError> {
    call.object().map_err(|why| ServiceError::dbt_field("body", why))
}

impl World {
    fn shown_run(&self, id: i64, include: &[String]) -> HandlerResult {
        let place = self.dbt.find(id).ok_or_else(ServiceError::dbt_not_found)?;
        Ok(dbt_data(&self.dbt_run_fields(&self.dbt.runs[place], include)))
    }

    /// Whether lists already show a run.
    pub(super) fn is_listed(&self, run: &DbtRun) -> bool {
        self.now.0 >= run.created + if run.seeded { 0 } else { self.dbt.listing_lag }
    }

    /// Returns the run named in the path; a new one may be 404 for a while.
    pub(super) fn dbt_run(&self, call: &Call) -> Result<&DbtRun, ServiceError> {
        call.check_account()?;
        let place = call.id(1).and_then(|id| self.dbt.find(id)).ok_or_else(ServiceError::dbt_not_found)?;
        let run = &self.dbt.runs[place];
        if !run.seeded && self.now.0 < run.created + self.dbt.fresh_404 {
            return Err(ServiceError::dbt_not_found());
        }
        Ok(run)
    }

    fn triggered(
        &mut self,
        job: &DbtJob,
        cause: &str,
        category: &str,
        overrides: &Map<String, Value>,
        retrying: Option<i64>,
    ) -> HandlerResult {
        let id = self.dbt.next_run;
        let trigger = trigger(id + 1_000_000, job.id, cause, category, overrides);
        let id = self.new_dbt_run(job, trigger, retrying);
        self.dbt.advance(self.now.0);
        // Dagster's older client reads the job's schedule from this response.
        self.shown_run(id, &["trigger".to_owned(), "job".to_owned()])
    }

    /// Starts a run that resumes a failed one with the same overrides. That it has the `cause` of the old run is
    /// unverified, so clients must not rely on it.
    fn resumed(&mut self, run: &DbtRun) -> HandlerResult {
        let job = self.dbt.jobs.get(&run.job).cloned().ok_or_else(ServiceError::dbt_not_found)?;
        let cause = run.trigger.get("cause").and_then(Value::as_str).unwrap_or_default();
        self.triggered(&job, cause, "rerun", &run.trigger, Some(run.id))
    }
}

/// `POST jobs/{J}/run/`.
pub(super) fn run(world: &mut World, call: &Call) -> HandlerResult {
    let job = world.dbt_job(call)?.clone();
    call.check_query(&[])?;
    let (cause, overrides) = asked_for(&body_of(call)?, call.is_form())?;
    world.triggered(&job, &cause, "api", &overrides, None)
}

/// `POST jobs/{J}/rerun/`: resumes the last run if it can be retried, otherwise starts a new one.
pub(super) fn rerun(world: &mut World, call: &Call) -> HandlerResult {
    let job = world.dbt_job(call)?.clone();
    call.check_query(&[])?;
    let last = world.dbt.runs.iter().rev().find(|run| run.job == job.id).cloned();
    match last.filter(|run| world.no_retry(run).is_none()) {
        Some(run) => world.resumed(&run),
        None => world.triggered(&job, "Rerun", "rerun", &Map::new(), None),
    }
}

pub(super) fn get(world: &mut World, call: &Call) -> HandlerResult {
    let run = world.dbt_run(call)?;
    call.check_query(&["include_related", "include_related[]"])?;
    let include = call.included();
    check_members(&include, MEMBERS)?;
    Ok(dbt_data(&world.dbt_run_fields(run, &include)))
}

pub(super) fn list(world: &mut World, call: &Call) -> HandlerResult {
    call.check_account()?;
    call.check_query(FILTERS)?;
    let include = call.included();
    // Contrary to the documentation, lists accept run_steps and debug_logs too.
    check_members(&include, MEMBERS)?;
    let after = call.dbt_number("id__gt")?;
    let job = call.dbt_number("job_definition_id")?;
    let (project, projects) = (call.dbt_number("project_id")?, call.dbt_numbers("project_id__in")?);
    let environment = call.dbt_number("environment_id")?;
    let (status, statuses) = (call.dbt_number("status")?, call.dbt_numbers("status__in")?);
    let (created, finished) = (call.dbt_range("created_at__range")?, call.dbt_range("finished_at__range")?);
    let (one, some) = (call.dbt_number("pk")?, call.dbt_numbers("pk__in")?);
    let version = call.query_param("dbt_version");
    let nothing = call.dbt_number("deferring_run_id")?.is_some()
        || call.dbt_flag("has_sources_generated")? == Some(true)
        || call.query_param("state") == Some("2");
    let now = world.now.0;
    let within = |range: Option<(i64, i64)>, at: Option<i64>| {
        range.is_none_or(|(from, to)| at.is_some_and(|at| from <= at && at <= to))
    };
    let among = |list: &Option<Vec<i64>>, value: i64| list.as_ref().is_none_or(|list| list.contains(&value));
    let is = |wanted: Option<i64>, value: i64| wanted.is_none_or(|wanted| wanted == value);
    let rows: Vec<Row<'_>> = world
        .dbt
        .runs
        .iter()
        // Cheap checks first: most runs belong to another job or are too old.
        .filter(|run| after.is_none_or(|after| run.id > after) && is(job, run.job) && is(project, run.project))
        .filter(|run| {
            let number = run.status(now).number();
            let end = run.end(now).map(|(at, _)| at);
            !nothing
                && world.is_listed(run)
                && among(&projects, run.project)
                && is(environment, run.environment)
                && is(status, number)
                && among(&statuses, number)
                && within(created, Some(run.created))
                && within(finished, end)
                && is(one, run.id)
                && among(&some, run.id)
                && version.is_none_or(|version| version == super::dbt_jobs::DBT_VERSION)
        })
        .map(|run| (run, run.end(now).map_or(i64::MAX, |(at, _)| at)))
        .collect();
    let orders: &[Order<Row<'_>>] =
        &[("id", |(run, _)| run.id), ("created_at", |(run, _)| run.created), ("finished_at", |(_, end)| *end)];
    call.page(rows, orders, |(run, _)| world.dbt_run_fields(run, &include))
}

/// `POST runs/{R}/cancel/`. The response for an ended run is unverified; here it is a 400, and a later GET shows
/// the final status.
pub(super) fn cancel(world: &mut World, call: &Call) -> HandlerResult {
    let id = world.dbt_run(call)?.id;
    call.check_query(&[])?;
    let now = world.now.0;
    let place = world.dbt.find(id).ok_or_else(ServiceError::dbt_not_found)?;
    let run = &mut world.dbt.runs[place];
    if run.end(now).is_some() {
        return Err(ServiceError::dbt_field("run", "The run has already finished."));
    }
    run.cancelled.get_or_insert(now);
    world.dbt.advance(now);
    world.shown_run(id, &["trigger".to_owned()])
}

/// `POST runs/{R}/retry/`: a new run that resumes this one.
pub(super) fn retry(world: &mut World, call: &Call) -> HandlerResult {
    let run = world.dbt_run(call)?.clone();
    call.check_query(&[])?;
    match world.no_retry(&run) {
        None => world.resumed(&run),
        Some(reason) => Err(ServiceError::dbt_field("retry_not_supported_reason", reason)),
    }
}
