//! dbt jobs.

use serde::Deserialize;

use super::envelope::{Page, data, lenient_number, optional, page};
use super::run_response::Run;
use crate::http::{Call, Path, Read};

/// A dbt job, with the fields that we use.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Job {
    #[serde(deserialize_with = "lenient_number")]
    pub(crate) id: u64,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) name: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) account_id: Option<u64>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) project_id: Option<u64>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) environment_id: Option<u64>,
    /// 1: active, 2: deleted.
    #[serde(default, deserialize_with = "optional")]
    pub(crate) state: Option<u64>,
    /// Set after 100 consecutive failures, or if the account was inactive. Triggered runs do not start then.
    #[serde(default, deserialize_with = "optional")]
    deactivated: Option<bool>,
    /// Free text.
    #[serde(default, deserialize_with = "optional")]
    deactivation_reason: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    run_failure_count: Option<u64>,
    /// Such as `ci`, `scheduled`, `other`, `merge`.
    #[serde(default, deserialize_with = "optional")]
    pub(crate) job_type: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    triggers: Option<Triggers>,
    /// Only if requested with `include_related`, like `most_recent_run`.
    #[serde(default, deserialize_with = "optional")]
    environment: Option<Environment>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) most_recent_run: Option<Run>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Environment {
    #[serde(default, deserialize_with = "optional")]
    name: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Triggers {
    #[serde(default, deserialize_with = "optional")]
    schedule: Option<bool>,
}

impl Job {
    /// Whether dbt also starts it on a schedule.
    pub(crate) fn has_schedule(&self) -> bool {
        self.triggers.as_ref().and_then(|triggers| triggers.schedule) == Some(true)
    }

    /// Why the job starts no runs, however they are triggered; `None` if no reason is known.
    pub(crate) fn disabled_reason(&self) -> Option<JobDisabled> {
        if self.state == Some(2) {
            return Some(JobDisabled::Deleted);
        }
        if self.job_type.as_deref() == Some("hybrid") {
            return Some(JobDisabled::Hybrid);
        }
        (self.deactivated == Some(true)).then(|| JobDisabled::Deactivated {
            reason: self.deactivation_reason.clone().filter(|reason| !reason.trim().is_empty()),
            failures: self.run_failure_count.filter(|count| *count > 0),
        })
    }

    /// The name of its environment, if it was requested.
    pub(crate) fn environment_name(&self) -> Option<&str> {
        self.environment.as_ref().and_then(|environment| environment.name.as_deref())
    }

    /// Whether it is a CI job, for pull requests.
    pub(crate) fn is_ci(&self) -> bool {
        self.job_type.as_deref() == Some("ci")
    }
}

/// Why a job starts no runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JobDisabled {
    Deleted,
    /// Another orchestrator runs it and uploads the results.
    Hybrid,
    /// dbt deactivated it after failures or inactivity. `reason` is dbt's text, if any.
    Deactivated {
        reason: Option<String>,
        failures: Option<u64>,
    },
}

impl JobDisabled {
    /// Such as `dbt deactivated it after 100 consecutive failures`.
    pub(crate) fn why(&self) -> String {
        match self {
            JobDisabled::Deleted => "it was deleted".to_owned(),
            JobDisabled::Hybrid => {
                "it is a hybrid job: another orchestrator runs it and uploads the results to dbt".to_owned()
            }
            JobDisabled::Deactivated { reason: Some(reason), failures: _ } => {
                let reason: String = reason.chars().filter(|sign| !sign.is_control()).take(200).collect();
                format!("dbt deactivated it: {}", reason.trim().trim_end_matches('.'))
            }
            JobDisabled::Deactivated { reason: None, failures: Some(failures) } => {
                format!("dbt deactivated it after {failures} consecutive failures")
            }
            JobDisabled::Deactivated { reason: None, failures: None } => "dbt deactivated it".to_owned(),
        }
    }

    /// How to fix it, if known.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            JobDisabled::Deleted => "choose another job",
            JobDisabled::Hybrid => "start it in that orchestrator, or choose a job that dbt runs",
            JobDisabled::Deactivated { .. } => {
                "see the notice on the job's page in dbt; after failures, fix them and save the job's settings again to reactivate it"
            }
        }
    }
}

/// One job. Checks host, token, account and job in one request, and needs only permission to run the job.
pub(crate) fn get_job(account: u64, job: u64) -> Read<Job> {
    let path = Path::new("/api/v2/accounts/").number(account).then("/jobs/").number(job).then("/");
    Read::new(Call::get("jobs/get", path), data)
}

/// Filters for a list of jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct JobFilter {
    pub(crate) project: Option<u64>,
    pub(crate) environment: Option<u64>,
    /// Part of the name, case-insensitive.
    pub(crate) name_part: Option<String>,
}

/// A page of jobs ordered by ID, each with its environment and latest run.
pub(crate) fn list_jobs(account: u64, filter: &JobFilter, offset: u64, limit: u64) -> Read<Page<Job>> {
    let JobFilter { project, environment, name_part } = filter;
    let path = Path::new("/api/v2/accounts/").number(account).then("/jobs/");
    let call = Call::get("jobs/list", path)
        .query("order_by", "id")
        .query("limit", limit)
        .query("offset", offset)
        .query("include_related", r#"["environment","most_recent_run"]"#)
        .query_some("project_id", *project)
        .query_some("environment_id", *environment)
        .query_some("name__icontains", name_part.as_ref());
    Read::new(call, page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_tells_what_deserves_a_warning() {
        assert_eq!(get_job(7, 222_222).call.target(), "/api/v2/accounts/7/jobs/222222/");
        let job: Job = serde_json::from_str(
            r#"{"id":1,"name":"Nightly","triggers":{"schedule":true},"state":1,"deactivated":true,"job_type":"ci"}"#,
        )
        .unwrap();
        assert!(job.has_schedule() && job.disabled_reason().is_some() && job.is_ci());
        let bare: Job = serde_json::from_str(r#"{"id":1,"triggers":[],"state":"x"}"#).unwrap();
        let filter = JobFilter { project: Some(2), name_part: Some("a b".to_owned()), ..JobFilter::default() };
        assert_eq!(
            list_jobs(7, &filter, 0, 100).call.target(),
            "/api/v2/accounts/7/jobs/?order_by=id&limit=100&offset=0&include_related=%5B%22environment%22%2C%22most_recent_run%22%5D&project_id=2&name__icontains=a+b"
        );
        for (text, why) in [
            (r#"{"id":1,"state":2}"#, Some("deleted")),
            (r#"{"id":1,"job_type":"hybrid","execute_steps":[]}"#, Some("hybrid")),
            (r#"{"id":1,"deactivated":true,"run_failure_count":100}"#, Some("100 consecutive failures")),
            (
                r#"{"id":1,"deactivated":true,"deactivation_reason":"account inactivity","run_failure_count":0}"#,
                Some("account inactivity"),
            ),
            (r#"{"id":1,"deactivated":true}"#, Some("dbt deactivated it")),
            (r#"{"id":1,"deactivated":false,"deactivation_reason":"once","job_type":"other","state":1}"#, None),
        ] {
            let disabled = serde_json::from_str::<Job>(text).unwrap().disabled_reason().map(|disabled| disabled.why());
            assert_eq!(disabled.is_some(), why.is_some(), "{text}");
            assert!(disabled.unwrap_or_default().contains(why.unwrap_or_default()), "{text}");
        }
        assert!(!bare.has_schedule() && bare.disabled_reason().is_none() && !bare.is_ci());
    }
}
