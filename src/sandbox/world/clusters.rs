//! Clusters, node types, runtimes and policies. They never change.
#![expect(clippy::unnecessary_wraps, reason = "every handler of the route table answers so")]

use serde_json::{Value, json};

use super::World;
use super::answers::{HandlerResult, ServiceError, databricks_data};
use super::call::Call;

/// A shared cluster, another user's single-user cluster, and one created by a job run.
fn clusters() -> Vec<Value> {
    vec![
        json!({ "cluster_id": "0101-120000-shared01", "cluster_name": "Shared", "state": "TERMINATED",
            "spark_version": "16.4.x-scala2.12", "node_type_id": "m5d.large", "data_security_mode": "USER_ISOLATION",
            "cluster_source": "UI", "creator_user_name": "ana@example.com" }),
        json!({ "cluster_id": "0102-120000-bosown02", "cluster_name": "Bo's own", "state": "RUNNING",
            "spark_version": "15.4.x-scala2.12", "node_type_id": "m5d.large", "data_security_mode": "SINGLE_USER",
            "single_user_name": "bo@example.com", "cluster_source": "UI", "creator_user_name": "bo@example.com" }),
        json!({ "cluster_id": "0103-120000-jobrun03", "cluster_name": "job-1-run-2", "state": "TERMINATED",
            "spark_version": "16.4.x-scala2.12", "node_type_id": "m5d.large", "cluster_source": "JOB",
            "creator_user_name": "ana@example.com" }),
    ]
}

pub(super) fn list(_world: &mut World, _call: &Call) -> HandlerResult {
    Ok(databricks_data(&json!({ "clusters": clusters() })))
}

/// A missing cluster is a 400, not a 404.
pub(super) fn get(_world: &mut World, call: &Call) -> HandlerResult {
    let id = call.query_param("cluster_id").unwrap_or_default();
    let found = clusters().into_iter().find(|cluster| cluster["cluster_id"] == id);
    let found = found.ok_or_else(|| ServiceError::invalid(format!("Cluster {id} does not exist")))?;
    Ok(databricks_data(&found))
}

fn node_type(id: &str, memory: u64, cores: f64) -> Value {
    json!({ "node_type_id": id, "instance_type_id": id, "description": id, "category": "General Purpose",
        "memory_mb": memory, "num_cores": cores, "num_gpus": 0, "is_deprecated": false, "is_hidden": false,
        "is_graviton": false, "node_instance_type": { "local_disks": 1, "local_disk_size_gb": 75 } })
}

pub(super) fn node_types(_world: &mut World, _call: &Call) -> HandlerResult {
    let with = |mut node: Value, field: &str, value: Value| {
        node[field] = value;
        node
    };
    let types = [
        node_type("m5d.xlarge", 16_384, 4.0),
        node_type("m5d.large", 8_192, 2.0),
        with(node_type("m1.small", 2_048, 1.0), "is_deprecated", json!(true)),
        with(node_type("m6gd.medium", 4_096, 1.0), "is_graviton", json!(true)),
        with(node_type("g4dn.tiny", 4_096, 1.0), "num_gpus", json!(1)),
        with(node_type("c1.medium", 2_048, 1.0), "node_info", json!({ "status": ["NotAvailableInRegion"] })),
        node_type("rd-fleet.small", 2_048, 1.0),
    ];
    Ok(databricks_data(&json!({ "node_types": types })))
}

pub(super) fn spark_versions(_world: &mut World, _call: &Call) -> HandlerResult {
    let versions = [
        ("9.1.x-scala2.12", "9.1 LTS (includes Apache Spark 3.1.2, Scala 2.12)"),
        ("16.4.x-scala2.12", "16.4 LTS (includes Apache Spark 3.5.2, Scala 2.12)"),
        ("16.4.x-scala2.13", "16.4 LTS (includes Apache Spark 3.5.2, Scala 2.13)"),
        ("16.4.x-cpu-ml-scala2.12", "16.4 LTS ML (includes Apache Spark 3.5.2, Scala 2.12)"),
        ("17.1.x-scala2.12", "17.1 (includes Apache Spark 4.0.0, Scala 2.12)"),
        ("18.0.x-scala2.12", "18.0 LTS Beta (includes Apache Spark 4.0.0, Scala 2.12)"),
    ];
    let versions: Vec<Value> = versions.iter().map(|(key, name)| json!({ "key": key, "name": name })).collect();
    Ok(databricks_data(&json!({ "versions": versions })))
}

pub(super) fn policies(_world: &mut World, _call: &Call) -> HandlerResult {
    let definition = json!({ "node_type_id": { "type": "fixed", "value": "m5d.large" } }).to_string();
    Ok(databricks_data(&json!({ "policies": [
        { "policy_id": "A1B2C3D4E5F60718", "name": "Small jobs", "definition": definition },
    ] })))
}

/// There are no pools; empty lists are omitted.
pub(super) fn pools(_world: &mut World, _call: &Call) -> HandlerResult {
    Ok(databricks_data(&json!({})))
}

/// There are no SQL warehouses; empty lists are omitted.
pub(super) fn warehouses(_world: &mut World, _call: &Call) -> HandlerResult {
    Ok(databricks_data(&json!({})))
}
