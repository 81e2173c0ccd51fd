//! dbt jobs.

use serde::Deserialize;

use super::envelope::{Page, data, page, soft, whole};
use super::runs::Run;
use crate::http::{Call, Path, Read};

/// A dbt job, as far as we look at it (dbt-cloud-api §5.3).
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Job {
    #[serde(deserialize_with = "whole")]
    pub(crate) id: u64,
    #[serde(default, deserialize_with = "soft")]
    pub(crate) name: Option<String>,
    #[serde(default, deserialize_with = "soft")]
    pub(crate) account_id: Option<u64>,
    #[serde(default, deserialize_with = "soft")]
    pub(crate) project_id: Option<u64>,
    #[serde(default, deserialize_with = "soft")]
    pub(crate) environment_id: Option<u64>,
    /// 1: active, 2: deleted.
    #[serde(default, deserialize_with = "soft")]
    pub(crate) state: Option<u64>,
    /// Set after 100 failures in a row: triggered runs do not start then (dbt-cloud-api §7).
    #[serde(default, deserialize_with = "soft")]
    pub(crate) deactivated: Option<bool>,
    /// `ci`, `scheduled`, `other`, `merge` and more.
    #[serde(default, deserialize_with = "soft")]
    pub(crate) job_type: Option<String>,
    #[serde(default, deserialize_with = "soft")]
    triggers: Option<Triggers>,
    /// Where that was asked for, like the run.
    #[serde(default, deserialize_with = "soft")]
    environment: Option<Environment>,
    #[serde(default, deserialize_with = "soft")]
    pub(crate) most_recent_run: Option<Run>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Environment {
    #[serde(default, deserialize_with = "soft")]
    name: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Triggers {
    #[serde(default, deserialize_with = "soft")]
    schedule: Option<bool>,
}

impl Job {
    /// Whether dbt Cloud also starts it by itself.
    pub(crate) fn has_schedule(&self) -> bool {
        self.triggers.as_ref().and_then(|triggers| triggers.schedule) == Some(true)
    }

    /// Whether triggered runs would not start: deactivated after failures, or deleted.
    pub(crate) fn is_deactivated(&self) -> bool {
        self.deactivated == Some(true) || self.state == Some(2)
    }

    /// The name of its environment, where that was asked for.
    pub(crate) fn environment_name(&self) -> Option<&str> {
        self.environment.as_ref().and_then(|environment| environment.name.as_deref())
    }

    /// Whether it is a CI job, made for pull requests.
    pub(crate) fn is_ci(&self) -> bool {
        self.job_type.as_deref() == Some("ci")
    }
}

/// One job; the answer proves host, token, account and job in one call, and needs no more than the right to run it.
pub(crate) fn get_job(account: u64, job: u64) -> Read<Job> {
    let path = Path::new("/api/v2/accounts/").number(account).then("/jobs/").number(job).then("/");
    Read::new(Call::get("jobs/get", path), data)
}

/// Which jobs of an account are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct JobFilter {
    pub(crate) project: Option<u64>,
    pub(crate) environment: Option<u64>,
    /// A part of the name, whatever its case.
    pub(crate) name_part: Option<String>,
}

/// A page of jobs by id, each with its environment and its newest run (dbt-cloud-api §5.3).
pub(crate) fn list_jobs(account: u64, filter: &JobFilter, offset: u64, limit: u64) -> Read<Page<Job>> {
    let JobFilter { project, environment, name_part } = filter;
    let path = Path::new("/api/v2/accounts/").number(account).then("/jobs/");
    let mut call = Call::get("jobs/list", path)
        .query("order_by", "id")
        .query("limit", limit)
        .query("offset", offset)
        .query("include_related", r#"["environment","most_recent_run"]"#);
    for (name, id) in [("project_id", project), ("environment_id", environment)] {
        if let Some(id) = id {
            call = call.query(name, id);
        }
    }
    if let Some(part) = name_part {
        call = call.query("name__icontains", part);
    }
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
        assert!(job.has_schedule() && job.is_deactivated() && job.is_ci());
        let bare: Job = serde_json::from_str(r#"{"id":1,"triggers":[],"state":"x"}"#).unwrap();
        let filter = JobFilter { project: Some(2), name_part: Some("a b".to_owned()), ..JobFilter::default() };
        assert_eq!(
            list_jobs(7, &filter, 0, 100).call.target(),
            "/api/v2/accounts/7/jobs/?order_by=id&limit=100&offset=0&include_related=%5B%22environment%22%2C%22most_recent_run%22%5D&project_id=2&name__icontains=a+b"
        );
        assert!(!bare.has_schedule() && !bare.is_deactivated() && !bare.is_ci());
    }
}
