//! Whether the workspace has the compute that is asked for.

use serde_json::{Map, Value, json};

use super::prerequisites::{Checked, Findings};
use crate::databricks::clusters::{self, Policy, SparkVersion};
use crate::databricks::is_missing;
use crate::databricks::me::Me;
use crate::engine::kinds::Compute;
use crate::failure::{Code, Failure, of_databricks};
use crate::http::Reader;
use crate::spec::{ComputeSpec, Setting};

/// Maximum number of alternatives named in an error.
const NAMED: usize = 10;

/// Looks up what the flags name.
pub(super) async fn settle(
    reader: &Reader,
    compute_spec: &Setting<ComputeSpec>,
    me: &Me,
    findings: &mut Findings,
) -> Result<Setting<Compute>, Failure> {
    Ok(match compute_spec {
        Setting::Keep => Setting::Keep,
        Setting::Set(compute_spec) => Setting::Set(Box::pin(look_up(reader, compute_spec, me, findings)).await?),
        Setting::Clear => Setting::Clear,
    })
}

async fn look_up(
    reader: &Reader,
    compute_spec: &ComputeSpec,
    me: &Me,
    findings: &mut Findings,
) -> Result<Compute, Failure> {
    match compute_spec {
        // Checked later, when the job is known.
        ComputeSpec::JobCluster(key) => Ok(Compute::JobCluster(key.clone())),
        ComputeSpec::Cluster(id) => {
            let checked = existing(reader, id, me, findings).await?;
            findings.need("cluster", id, checked);
            Ok(Compute::Cluster(id.clone()))
        }
        ComputeSpec::New { node_type, policy } => new(reader, node_type.as_deref(), policy.as_deref(), findings).await,
        ComputeSpec::Whole(cluster) => {
            let text = |name: &str| cluster.get(name).and_then(Value::as_str);
            let version = text("spark_version").filter(|version| !version.starts_with("custom:"));
            let version_name = version.unwrap_or_default();
            let (policy, node, version) = tokio::join!(
                when(text("policy_id"), async |id| find_policy(reader, id).await),
                when(text("node_type_id"), async |node| pick_node(reader, Some(node)).await),
                when(version, async |version| check_version(reader, version).await)
            );
            if let Some(policy) = policy? {
                findings.need("cluster policy", text("policy_id").unwrap_or_default(), policy);
            }
            if let Some(node) = node? {
                findings.need("node type", text("node_type_id").unwrap_or_default(), node);
            }
            if let Some(checked) = version? {
                findings.need("Databricks runtime", version_name, checked);
            }
            Ok(Compute::New { cluster: cluster.clone(), defaulted_fields: Vec::new() })
        }
    }
}

/// Calls `ask` only if a name is set.
async fn when<T>(named: Option<&str>, ask: impl AsyncFnOnce(&str) -> Result<T, Failure>) -> Result<Option<T>, Failure> {
    match named {
        Some(name) => ask(name).await.map(Some),
        None => Ok(None),
    }
}

/// A not-found error that lists what exists.
fn missing(what: &str, name: &str, mut known: Vec<String>) -> Failure {
    known.sort_unstable();
    let more = known.len().saturating_sub(NAMED);
    known.truncate(NAMED);
    let known = if known.is_empty() { "none visible to you".to_owned() } else { known.join(", ") };
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Failure::new(Code::NotFound, format!("no {what} {name} in this workspace"))
        .advise(format!("available: {known}{more}"))
}

async fn existing(reader: &Reader, id: &str, me: &Me, findings: &mut Findings) -> Checked<()> {
    let cluster = match reader.read(clusters::get(id)).await {
        Ok(cluster) => cluster,
        Err(error) if is_missing(&error) => {
            // Only for listing alternatives; if this fails, the error does without them.
            let known = reader.read(clusters::list()).await.unwrap_or_default();
            let known = known.into_iter().filter(|cluster| cluster.cluster_source.as_deref() != Some("JOB"));
            let known = known.map(|cluster| format!("cluster:{} \"{}\"", cluster.cluster_id, cluster.cluster_name));
            return Ok(Err(missing("cluster", id, known.collect()).cause(error.to_string())));
        }
        Err(error) => return Err(of_databricks(&format!("cannot read the cluster {id}"), &error)),
    };
    if cluster.cluster_source.as_deref() == Some("JOB") {
        let what = format!("cluster {id} is a job cluster that ends with its run");
        return Ok(Err(Failure::new(Code::Refused, what).advise("name an all-purpose cluster, or use --compute new")));
    }
    if let Some(single) = cluster.single_user_name.filter(|single| *single != me.user_name && !single.is_empty()) {
        findings.warnings.push(format!(
            "cluster {id} \"{}\" is dedicated to {single}; runs as {} cannot use it",
            cluster.cluster_name, me.user_name
        ));
    }
    Ok(Ok(()))
}

async fn find_policy(reader: &Reader, id: &str) -> Checked<Policy> {
    let policies = reader.read(clusters::policies()).await;
    let policies = policies.map_err(|error| of_databricks("cannot list the cluster policies", &error))?;
    let known = policies.iter().map(|policy| format!("{} \"{}\"", policy.policy_id, policy.name)).collect();
    Ok(policies.into_iter().find(|policy| policy.policy_id == id).ok_or_else(|| missing("cluster policy", id, known)))
}

/// Checks that the node type exists and is available; without one, picks the smallest.
async fn pick_node(reader: &Reader, requested: Option<&str>) -> Checked<String> {
    let types = reader.read(clusters::node_types()).await;
    let types = types.map_err(|error| of_databricks("cannot list the node types", &error))?;
    Ok(match requested {
        Some(requested) if types.iter().any(|node| node.node_type_id == requested && node.can_be_had()) => {
            Ok(requested.to_owned())
        }
        Some(requested) => {
            let known = types.iter().filter(|node| node.can_be_had()).map(|node| node.node_type_id.clone());
            Err(missing("usable node type", requested, known.collect()))
        }
        None => clusters::smallest(&types).map(|node| node.node_type_id.clone()).ok_or_else(|| {
            Failure::new(Code::NotFound, "the workspace lists no suitable node type")
                .advise("name one with --compute new:NODE_TYPE, or describe the cluster with --cluster-json")
        }),
    })
}

async fn versions(reader: &Reader) -> Result<Vec<SparkVersion>, Failure> {
    let versions = reader.read(clusters::spark_versions()).await;
    versions.map_err(|error| of_databricks("cannot list the Databricks runtimes", &error))
}

async fn check_version(reader: &Reader, version: &str) -> Checked<()> {
    let versions = versions(reader).await?;
    if versions.iter().any(|known| known.key == version) {
        return Ok(Ok(()));
    }
    let newest = clusters::newest_with_long_support(&versions).map(|known| known.key.clone());
    Ok(Err(missing("runtime", version, newest.into_iter().collect())))
}

/// The newest LTS runtime version.
async fn pick_version(reader: &Reader) -> Checked<String> {
    let versions = versions(reader).await?;
    Ok(clusters::newest_with_long_support(&versions).map(|newest| newest.key.clone()).ok_or_else(|| {
        Failure::new(Code::NotFound, "the workspace lists no Databricks Runtime LTS version")
            .advise("describe the cluster with --cluster-json")
    }))
}

/// The smallest cluster for a notebook that only waits: a single node.
async fn new(
    reader: &Reader,
    node_type: Option<&str>,
    policy_id: Option<&str>,
    findings: &mut Findings,
) -> Result<Compute, Failure> {
    // Lookups of fields that the policy fixes are not used, so their errors do not matter.
    let (policy, version, node) = tokio::join!(
        when(policy_id, async |id| find_policy(reader, id).await),
        pick_version(reader),
        pick_node(reader, node_type)
    );
    let policy = policy?.and_then(|policy| findings.need("cluster policy", policy_id.unwrap_or_default(), policy));
    let is_fixed = |field: &str| policy.as_ref().is_some_and(|policy| policy.fixes(field));
    let mut cluster = Map::new();
    let mut defaulted_fields = Vec::new();
    if !is_fixed("spark_version") {
        if let Some(version) = findings.need("Databricks runtime", "LTS", version?) {
            cluster.insert("spark_version".to_owned(), version.into());
        }
        // A newer version later must not count as a change to the workflow.
        defaulted_fields.push("spark_version");
    }
    if node_type.is_some() || !is_fixed("node_type_id") {
        if let Some(node) = findings.need("node type", node_type.unwrap_or("smallest"), node?) {
            cluster.insert("node_type_id".to_owned(), node.into());
        }
        if node_type.is_none() {
            defaulted_fields.push("node_type_id");
        }
    }
    for (name, value) in [
        ("num_workers", json!(0)),
        ("data_security_mode", json!("SINGLE_USER")),
        ("spark_conf", json!({ "spark.databricks.cluster.profile": "singleNode", "spark.master": "local[*]" })),
        ("custom_tags", json!({ "ResourceClass": "SingleNode" })),
    ] {
        if !is_fixed(name) {
            cluster.insert(name.to_owned(), value);
        }
    }
    if let Some(policy) = policy {
        cluster.insert("policy_id".to_owned(), policy.policy_id.into());
        cluster.insert("apply_policy_default_values".to_owned(), true.into());
    }
    Ok(Compute::New { cluster, defaulted_fields })
}
