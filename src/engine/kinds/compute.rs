//! The compute of our tasks. Pure.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::databricks::raw::Raw;
use crate::failure::{Code, Failure};
use crate::http::{HttpError, Phrase, Service, says};
use crate::spec::Setting;

/// The fields of a task that name its compute; a task without any of them is serverless.
const FIELDS: [&str; 3] = ["existing_cluster_id", "job_cluster_key", "new_cluster"];

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Compute {
    /// An existing cluster, by ID.
    Cluster(String),
    /// A cluster defined by the job, by key.
    JobCluster(String),
    /// A cluster for the run alone.
    New {
        cluster: Map<String, Value>,
        /// Fields that were not requested explicitly: any existing value is fine.
        defaulted_fields: Vec<&'static str>,
    },
}

impl Compute {
    fn field(&self) -> (&'static str, Value) {
        match self {
            Compute::Cluster(id) => (FIELDS[0], id.as_str().into()),
            Compute::JobCluster(key) => (FIELDS[1], key.as_str().into()),
            Compute::New { cluster, defaulted_fields: _ } => (FIELDS[2], Value::Object(cluster.clone())),
        }
    }

    /// Whether this field of a task matches; the service fills in fields omitted from a new cluster.
    fn is_met(&self, field: &str, there: Option<&Value>) -> bool {
        match (self, there) {
            (Compute::New { cluster, defaulted_fields }, Some(Value::Object(there))) if field == FIELDS[2] => {
                cluster.iter().all(|(name, value)| {
                    // Never returned by the service.
                    name == "apply_policy_default_values"
                        || there.get(name) == Some(value)
                        || (defaulted_fields.contains(&name.as_str()) && there.contains_key(name))
                })
            }
            _ => {
                let (own, value) = self.field();
                if own == field { there == Some(&value) } else { there.is_none() }
            }
        }
    }
}

/// Each field as it is and as it will be. With nothing requested, a dbtrigger job (`own`) keeps its compute, and
/// other tasks become serverless.
pub(super) fn fields(
    want: &Setting<Compute>,
    task: Option<&Raw>,
    own: bool,
) -> [(&'static str, Option<String>, Option<String>); 3] {
    FIELDS.map(|field| {
        let there: Option<Value> = task.and_then(|task| task.read(field));
        let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        let from = there.as_ref().map(shown);
        let to = match want {
            Setting::Keep if own => from.clone(),
            Setting::Set(compute) if compute.is_met(field, there.as_ref()) => from.clone(),
            Setting::Set(compute) => {
                Some(compute.field()).filter(|(own, _)| *own == field).map(|(_, value)| shown(&value))
            }
            Setting::Keep | Setting::Clear => None,
        };
        (field, from, to)
    })
}

pub(super) fn write(want: &Setting<Compute>, task: &mut Raw, own: bool) {
    for field in FIELDS {
        match want {
            Setting::Keep if own => {}
            Setting::Set(compute) if compute.is_met(field, task.read::<Value>(field).as_ref()) => {}
            Setting::Set(compute) if compute.field().0 == field => task.set(field, &compute.field().1),
            Setting::Keep | Setting::Set(_) | Setting::Clear => task.remove(field),
        }
    }
}

/// The requested job cluster if the job does not define it, with the keys of those that it does define.
pub(super) fn missing_cluster(want: &Setting<Compute>, settings: &Raw) -> Option<(String, Vec<String>)> {
    let Setting::Set(Compute::JobCluster(key)) = want else { return None };
    let clusters = settings.list("job_clusters");
    let keys: Vec<String> = clusters.iter().filter_map(|cluster| cluster.read("job_cluster_key")).collect();
    (!keys.contains(key)).then(|| (key.clone(), keys))
}

/// Whether the workspace refuses serverless compute. A missing permission is never taken for that, whatever the
/// message says.
pub(crate) fn is_serverless_refused(error: &HttpError) -> bool {
    let Some(said) = error.service_error() else { return false };
    match said.code.as_deref() {
        Some("FEATURE_DISABLED") => true,
        // Where serverless is off, the error says that a task needs compute, or names
        // serverless.
        Some("INVALID_PARAMETER_VALUE") => says(Service::Databricks, &said.message, Phrase::ServerlessOff),
        Some(_) | None => false,
    }
}

/// Adds advice to a rejected job if the workspace refuses serverless compute for it.
pub(super) fn explain(dbt_job: Option<u64>, error: &HttpError, failure: Failure) -> Failure {
    if !is_serverless_refused(error) {
        return failure;
    }
    let Failure { code: _, what, causes, hints: _, open_questions: _ } = failure;
    let mut refusal = Failure::new(Code::Failed, what);
    refusal.causes = causes;
    let refusal = refusal
        .cause("the workspace does not allow serverless compute for this job; no other compute was used instead")
        .advise("ask a workspace administrator to enable serverless compute for jobs (requires Unity Catalog)")
        .advise("use other compute: --compute cluster:ID, or --compute new for a small job cluster");
    match dbt_job {
        Some(job) => refusal.run("run the job without Databricks", format!("dbtrigger run {job}")),
        None => refusal,
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::http::{Fault, ServiceError};

    #[test]
    fn only_what_refuses_serverless_itself_is_taken_for_that() {
        let words = "Serverless compute is not enabled here.";
        let off = "One of job_cluster_key, new_cluster, or existing_cluster_id must be specified.";
        let off_before = "Either new_cluster or existing_cluster_id must be specified.";
        for (status, code, message, expected) in [
            (400, Some("INVALID_PARAMETER_VALUE"), off, true),
            (400, Some("INVALID_PARAMETER_VALUE"), off_before, true),
            (400, Some("FEATURE_DISABLED"), "Not here.", true),
            (400, Some("INVALID_PARAMETER_VALUE"), words, true),
            (400, Some("INVALID_PARAMETER_VALUE"), "The timeout is too long.", false),
            (403, Some("PERMISSION_DENIED"), words, false),
            (403, None, words, false),
            (429, Some("REQUEST_LIMIT_EXCEEDED"), words, false),
        ] {
            let said = ServiceError {
                code: code.map(ToOwned::to_owned),
                message: message.to_owned(),
                ..ServiceError::default()
            };
            let error = HttpError {
                service: "Databricks",
                operation: "jobs/runs/submit",
                origin: "https://x".to_owned(),
                fault: Fault::Status(StatusCode::from_u16(status).unwrap(), said),
                attempts: 1,
                request_id: None,
                exceeded: None,
            };
            assert_eq!(is_serverless_refused(&error), expected, "{code:?} {message}");
            let plain = Failure::new(Code::NotAllowed, "cannot create it");
            let code = if expected { Code::Failed } else { Code::NotAllowed };
            assert_eq!(explain(None, &error, plain).code, code);
        }
    }
}
