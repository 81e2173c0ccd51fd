//! Jobs of the dbt Cloud account.

use serde_json::{Map, Value, json};

use super::World;
use super::answers::{HandlerResult, ServiceError, dbt_data};
use super::call::Call;
use super::dbt::{ACCOUNT, Order, plain_time};
use super::dbt_runs::RunPlan;

#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent settings of the service")]
pub(super) struct DbtJob {
    pub(super) id: i64,
    pub(super) project: i64,
    pub(super) environment: i64,
    pub(super) name: String,
    pub(super) commands: Vec<String>,
    pub(super) generate_docs: bool,
    pub(super) scheduled: bool,
    pub(super) is_ci: bool,
    pub(super) deactivated: bool,
    /// 0: only the account's limit.
    pub(super) timeout_seconds: i64,
    pub(super) plan: RunPlan,
    /// Fields written by a client, returned as sent.
    pub(super) written: Map<String, Value>,
}

/// The dbt version of every environment.
pub(super) const DBT_VERSION: &str = "1.9.4";

const FILTERS: &[&str] = &[
    "project_id",
    "project_id__in",
    "environment_id",
    "name__icontains",
    "state",
    "is_system",
    "triggers_schedule",
    "dbt_version__in",
    "is_fusion_ready",
    "order_by",
    "limit",
    "offset",
    "include_related",
    "include_related[]",
];
const MEMBERS: &[&str] = &[
    "environment",
    "custom_environment_variables",
    "most_recent_run",
    "most_recent_completed_run",
    "fusion_readiness",
];

impl World {
    pub(super) fn job_fields(&self, job: &DbtJob, include: &[String]) -> Value {
        let made = plain_time(self.start.0 - 200 * 86_400_000);
        let kind = if job.is_ci {
            "ci"
        } else if job.scheduled {
            "scheduled"
        } else {
            "other"
        };
        let mut body = json!({
            "id": job.id, "account_id": ACCOUNT, "project_id": job.project, "environment_id": job.environment,
            "name": job.name, "description": "", "dbt_version": null, "raw_dbt_version": null,
            "execute_steps": job.commands, "execution": { "timeout_seconds": job.timeout_seconds },
            "generate_docs": job.generate_docs, "run_generate_sources": false, "run_lint": false, "run_compare_changes": false,
            "errors_on_lint_failure": true, "settings": { "threads": 4, "target_name": "default" },
            "triggers": { "github_webhook": job.is_ci, "git_provider_webhook": job.is_ci, "schedule": job.scheduled, "on_merge": false },
            "schedule": { "cron": "0 6 * * *", "date": { "type": "every_day" }, "time": { "type": "at_exact_hours", "hours": [6] } },
            "job_type": kind, "state": 1, "deactivated": job.deactivated,
            "run_failure_count": if job.deactivated { 100 } else { 0 },
            "deferring_environment_id": null, "deferring_job_definition_id": null, "job_completion_trigger_condition": null,
            "lifecycle_webhooks": false, "lifecycle_webhooks_url": null, "is_deferrable": false, "generate_sources": false,
            "created_at": made, "updated_at": made,
            "next_run": null, "next_run_humanized": null,
            "environment": null, "most_recent_run": null, "most_recent_completed_run": null,
        });
        for (name, value) in &job.written {
            match (body.get_mut(name), value) {
                // Omitted members of an object are unchanged.
                (Some(Value::Object(shown)), Value::Object(written)) => shown.extend(written.clone()),
                _ => body[name] = value.clone(),
            }
        }
        let asked = |name: &str| include.iter().any(|member| member == name);
        if asked("environment") {
            body["environment"] = self.environment_fields(job.environment);
        }
        if asked("custom_environment_variables") {
            body["custom_environment_variables"] = json!([]);
        }
        let now = self.now.0;
        let mut runs = self.dbt.runs.iter().rev().filter(|run| run.job == job.id && self.is_listed(run));
        if asked("most_recent_run") {
            body["most_recent_run"] = runs.clone().next().map_or(Value::Null, |run| self.dbt_run_fields(run, &[]));
        }
        if asked("most_recent_completed_run") {
            body["most_recent_completed_run"] =
                runs.find(|run| run.end(now).is_some()).map_or(Value::Null, |run| self.dbt_run_fields(run, &[]));
        }
        body
    }

    pub(super) fn environment_fields(&self, environment: i64) -> Value {
        let project = self.dbt.jobs.values().find(|job| job.environment == environment).map(|job| job.project);
        json!({
            "id": environment, "account_id": ACCOUNT, "project_id": project, "name": "Production", "type": "deployment",
            "deployment_type": "production", "dbt_version": DBT_VERSION, "state": 1, "use_custom_branch": false, "custom_branch": null, "supports_docs": true,
        })
    }

    /// Returns the job named in the path.
    pub(super) fn dbt_job(&self, call: &Call) -> Result<&DbtJob, ServiceError> {
        call.check_account()?;
        call.id(1).and_then(|id| self.dbt.jobs.get(&id)).ok_or_else(ServiceError::dbt_not_found)
    }
}

/// Refuses unknown members of `include_related`.
pub(super) fn check_members(include: &[String], known: &[&str]) -> Result<(), ServiceError> {
    match include.iter().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(ServiceError::dbt_field("include_related", format!("'{name}' is not one of {known:?}"))),
    }
}

pub(super) fn list(world: &mut World, call: &Call) -> HandlerResult {
    call.check_account()?;
    call.check_query(FILTERS)?;
    let include = call.included();
    check_members(&include, MEMBERS)?;
    let project = call.dbt_number("project_id")?;
    let projects = call.dbt_numbers("project_id__in")?;
    let environment = call.dbt_number("environment_id")?;
    let part = call.query_param("name__icontains").map(str::to_lowercase);
    let scheduled = call.dbt_flag("triggers_schedule")?;
    let deleted = matches!(call.query_param("state"), Some("2" | "deleted"));
    let system = call.dbt_flag("is_system")? == Some(true);
    let rows: Vec<&DbtJob> = world
        .dbt
        .jobs
        .values()
        .filter(|job| {
            !deleted
                && !system
                && project.is_none_or(|project| job.project == project)
                && projects.as_ref().is_none_or(|projects| projects.contains(&job.project))
                && environment.is_none_or(|environment| job.environment == environment)
                && part.as_ref().is_none_or(|part| job.name.to_lowercase().contains(part))
                && scheduled.is_none_or(|scheduled| job.scheduled == scheduled)
        })
        .collect();
    let orders: &[Order<&DbtJob>] = &[
        ("id", |job| job.id),
        ("created_at", |job| job.id),
        ("updated_at", |job| job.id),
        ("project_id", |job| job.project),
    ];
    call.page(rows, orders, |job| world.job_fields(job, &include))
}

pub(super) fn get(world: &mut World, call: &Call) -> HandlerResult {
    let job = world.dbt_job(call)?;
    call.check_query(&["include_related", "include_related[]"])?;
    let include = call.included();
    check_members(&include, MEMBERS)?;
    Ok(dbt_data(&world.job_fields(job, &include)))
}
