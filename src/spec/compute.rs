//! The compute that the flags ask for.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::setting::Setting;
use crate::credentials::open_file;
use crate::failure::{Code, Failure, io_reason};

/// Largest file accepted, in bytes: far more than any cluster needs.
const LARGEST_FILE: u64 = 1024 * 1024;

/// The compute of a task, as it is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ComputeSpec {
    Cluster(String),
    JobCluster(String),
    New {
        node_type: Option<String>,
        policy: Option<String>,
    },
    /// The cluster definition from a file.
    Whole(Map<String, Value>),
}

/// Parses the compute flags. clap rejects `--cluster-json` together with others.
pub(crate) fn parse_flags(
    compute: Option<&str>,
    policy: Option<String>,
    file: Option<&PathBuf>,
) -> Result<Setting<ComputeSpec>, Failure> {
    if let Some(file) = file {
        return whole(file).map(|cluster| Setting::Set(ComputeSpec::Whole(cluster)));
    }
    let compute_spec = compute.map(|text| parse_compute(text, policy.clone())).transpose()?.unwrap_or_default();
    match (&compute_spec, policy) {
        (Setting::Set(ComputeSpec::New { .. }), _) | (_, None) => Ok(compute_spec),
        (_, Some(_)) => Err(Failure::new(Code::Usage, "--policy applies to new clusters only")
            .advise("add --compute new, or drop --policy")),
    }
}

pub(crate) fn parse_compute(text: &str, policy: Option<String>) -> Result<Setting<ComputeSpec>, Failure> {
    let rest = text.split_once(':').filter(|(_, rest)| !rest.trim().is_empty());
    Ok(Setting::Set(match (text, rest) {
        ("serverless", _) => return Ok(Setting::Clear),
        ("new", _) => ComputeSpec::New { node_type: None, policy },
        (_, Some(("cluster", id))) => ComputeSpec::Cluster(id.to_owned()),
        (_, Some(("job-cluster", key))) => ComputeSpec::JobCluster(key.to_owned()),
        (_, Some(("new", node))) => ComputeSpec::New { node_type: Some(node.to_owned()), policy },
        (_, Some(_) | None) => {
            return Err(Failure::new(Code::InvalidInput, format!("invalid compute \"{text}\""))
                .advise("use serverless, cluster:ID, job-cluster:KEY, new, or new:NODE_TYPE"));
        }
    }))
}

/// Reads a cluster from a file: the object under `new_cluster` in a job.
fn whole(file: &Path) -> Result<Map<String, Value>, Failure> {
    let wrong = |reason: String| {
        Failure::new(Code::InvalidInput, format!("--cluster-json {} is invalid: {reason}", file.display()))
            .advise("pass a file with the JSON object that a job has under `new_cluster`, such as {\"spark_version\": \"16.4.x-scala2.12\", \"node_type_id\": \"m5d.large\", \"num_workers\": 0}")
    };
    let mut text = String::new();
    open_file(file)
        .and_then(|file| file.take(LARGEST_FILE + 1).read_to_string(&mut text))
        .map_err(|error| wrong(io_reason(&error)))?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(wrong("it is larger than 1 MiB".to_owned()));
    }
    let cluster: Map<String, Value> = serde_json::from_str(&text).map_err(|error| {
        wrong(format!("it is not a JSON object (line {}, column {})", error.line(), error.column()))
    })?;
    let has = |name: &str| cluster.get(name).is_some_and(|value| !value.is_null());
    if has("new_cluster") {
        return Err(wrong("the cluster is nested under new_cluster; pass only the object inside".to_owned()));
    }
    // A policy may provide these fields.
    let policy = has("policy_id");
    if !has("spark_version") && !policy {
        return Err(wrong("it has no spark_version".to_owned()));
    }
    if !has("node_type_id") && !has("instance_pool_id") && !policy {
        return Err(wrong("it has neither node_type_id nor instance_pool_id".to_owned()));
    }
    let sized = ["num_workers", "autoscale", "is_single_node"].iter().any(|name| has(name));
    if !sized && !policy {
        return Err(wrong("it has neither num_workers nor autoscale".to_owned()));
    }
    Ok(cluster)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_compute_is_read_and_others_are_refused_with_the_list() {
        let parsed = |text: &str| parse_flags(Some(text), None, None).unwrap();
        let read = |text: &str| parsed(text).value().unwrap().clone();
        assert_eq!(parsed("serverless"), Setting::Clear);
        assert_eq!(read("cluster:0101-a"), ComputeSpec::Cluster("0101-a".to_owned()));
        assert_eq!(read("job-cluster:small"), ComputeSpec::JobCluster("small".to_owned()));
        assert_eq!(read("new"), ComputeSpec::New { node_type: None, policy: None });
        assert_eq!(read("new:m5d.large"), ComputeSpec::New { node_type: Some("m5d.large".to_owned()), policy: None });
        assert_eq!(parse_flags(None, None, None).unwrap(), Setting::Keep);
        for text in ["", "cluster", "cluster:", "new:", "job-cluster: ", "pool:x", "Serverless"] {
            let failure = parse_flags(Some(text), None, None).unwrap_err();
            assert_eq!(failure.code, Code::InvalidInput, "{text:?}");
        }
        for compute in [None, Some("serverless"), Some("cluster:x")] {
            assert_eq!(parse_flags(compute, Some("P".to_owned()), None).unwrap_err().code, Code::Usage);
        }
    }

    #[test]
    fn a_file_that_is_no_cluster_is_refused_with_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("cluster.json");
        for (text, reason) in [
            ("", "not a JSON object"),
            ("[]", "not a JSON object"),
            (r#"{"new_cluster":{}}"#, "under new_cluster"),
            (r#"{"node_type_id":"x","num_workers":0}"#, "no spark_version"),
            (r#"{"spark_version":"x","num_workers":0}"#, "neither node_type_id"),
            (r#"{"spark_version":"x","node_type_id":"y","num_workers":null}"#, "neither num_workers"),
        ] {
            std::fs::write(&file, text).unwrap();
            let failure = parse_flags(None, None, Some(&file)).unwrap_err();
            assert!(failure.what.contains(reason), "{text}: {}", failure.what);
        }
        let cluster = r#"{"policy_id":"P"}"#;
        std::fs::write(&file, cluster.to_owned() + &" ".repeat(1024 * 1024 - cluster.len())).unwrap();
        assert!(matches!(parse_flags(None, None, Some(&file)).unwrap(), Setting::Set(ComputeSpec::Whole(_))));
        std::fs::write(&file, " ".repeat(1024 * 1024 + 1)).unwrap();
        assert!(parse_flags(None, None, Some(&file)).unwrap_err().what.contains("larger"));
        assert!(parse_flags(None, None, Some(&directory.path().join("no"))).is_err());
    }
}
