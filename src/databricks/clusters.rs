//! Lookups of clusters, node types, runtimes and policies.

use serde::Deserialize;
use serde_json::Value;

use super::{rows, skip_invalid};
use crate::http::{Call, Path, Read, parse_json};

/// An existing cluster.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Cluster {
    #[serde(default)]
    pub(crate) cluster_id: String,
    #[serde(default)]
    pub(crate) cluster_name: String,
    /// `JOB`: created by a run for itself.
    pub(crate) cluster_source: Option<String>,
    /// The only user of a single-user cluster.
    pub(crate) single_user_name: Option<String>,
}

/// `clusters/get`. A missing cluster is a 400.
pub(crate) fn get(id: &str) -> Read<Cluster> {
    let call = Call::get("clusters/get", Path::new("/api/2.1/clusters/get")).query("cluster_id", id);
    Read::new(call, parse_json)
}

/// The first page of `clusters/list`: enough to suggest names, not to find every cluster.
pub(crate) fn list() -> Read<Vec<Cluster>> {
    let call = Call::get("clusters/list", Path::new("/api/2.1/clusters/list")).query("page_size", 100);
    Read::new(call, |answer| rows(answer, "clusters"))
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Info {
    #[serde(deserialize_with = "skip_invalid")]
    status: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Disks {
    local_disks: Option<u64>,
    local_disk_size_gb: Option<u64>,
    local_nvme_disks: Option<u64>,
}

/// A node type.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeType {
    pub(crate) node_type_id: String,
    memory_mb: Option<u64>,
    num_cores: Option<f64>,
    num_gpus: Option<u64>,
    is_deprecated: Option<bool>,
    is_hidden: Option<bool>,
    is_graviton: Option<bool>,
    node_info: Option<Info>,
    node_instance_type: Option<Disks>,
}

impl NodeType {
    /// Whether it is available in this region and subscription.
    pub(crate) fn can_be_had(&self) -> bool {
        let mut status = self.node_info.iter().flat_map(|info| &info.status);
        !status.any(|word| word == "NotAvailableInRegion" || word == "NotEnabledOnSubscription")
    }

    /// Whether it may be chosen by default.
    fn is_plain(&self) -> bool {
        self.can_be_had()
            && self.is_deprecated != Some(true)
            && self.is_hidden != Some(true)
            && self.is_graviton != Some(true)
            && self.num_gpus.unwrap_or(0) == 0
            && !self.node_type_id.contains("-fleet.")
    }
}

/// The smallest node type that may be chosen by default.
pub(crate) fn smallest(types: &[NodeType]) -> Option<&NodeType> {
    let disks = |node: &NodeType| {
        let disks = node.node_instance_type.clone().unwrap_or_default();
        let Disks { local_disks, local_disk_size_gb, local_nvme_disks } = disks;
        (local_disks.unwrap_or(0), local_disk_size_gb.unwrap_or(0), local_nvme_disks.unwrap_or(0))
    };
    types.iter().filter(|node| node.is_plain()).min_by(|left, right| {
        let cores = |node: &NodeType| node.num_cores.unwrap_or(0.0);
        let rest = |node: &NodeType| (node.memory_mb.unwrap_or(0), disks(node), node.node_type_id.clone());
        cores(left).total_cmp(&cores(right)).then_with(|| rest(left).cmp(&rest(right)))
    })
}

/// `clusters/list-node-types`.
pub(crate) fn node_types() -> Read<Vec<NodeType>> {
    let call = Call::get("clusters/list-node-types", Path::new("/api/2.1/clusters/list-node-types"));
    Read::new(call, |answer| rows(answer, "node_types"))
}

/// A Databricks Runtime version.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SparkVersion {
    #[serde(default)]
    pub(crate) key: String,
    #[serde(default)]
    name: String,
}

/// `clusters/spark-versions`.
pub(crate) fn spark_versions() -> Read<Vec<SparkVersion>> {
    let call = Call::get("clusters/spark-versions", Path::new("/api/2.1/clusters/spark-versions"));
    Read::new(call, |answer| rows(answer, "versions"))
}

/// The latest LTS runtime that may be chosen by default.
pub(crate) fn newest_with_long_support(versions: &[SparkVersion]) -> Option<&SparkVersion> {
    const ODD: [&str; 6] = ["apache-spark-", "-ml-", "-hls-", "-gpu-", "-photon-", "-aarch64-"];
    let numbers = |version: &SparkVersion| -> Vec<u64> {
        version.key.split(['.', '-']).map_while(|part| part.parse().ok()).collect()
    };
    let plain = |version: &&SparkVersion| {
        let SparkVersion { key, name } = version;
        let long = name.contains("LTS") || key.contains("-esr-");
        long && key.contains("-scala2.12") && !name.contains("Beta") && !ODD.iter().any(|odd| key.contains(odd))
    };
    versions.iter().filter(plain).max_by_key(|version| numbers(version))
}

/// A cluster policy.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Policy {
    #[serde(default)]
    pub(crate) policy_id: String,
    #[serde(default)]
    pub(crate) name: String,
    definition: Option<String>,
}

impl Policy {
    /// Whether the policy fixes the value of this field.
    pub(crate) fn fixes(&self, field: &str) -> bool {
        let definition = self.definition.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
        definition.is_some_and(|definition| definition[field]["type"] == "fixed")
    }
}

/// `policies/clusters/list`: the policies that the caller may use.
pub(crate) fn policies() -> Read<Vec<Policy>> {
    let call = Call::get("policies/clusters/list", Path::new("/api/2.0/policies/clusters/list"));
    Read::new(call, |answer| rows(answer, "policies"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_machines_and_runtimes_are_not_chosen_unasked() {
        let types: Vec<NodeType> = serde_json::from_str(
            r#"[{"node_type_id":"big","num_cores":4.0},{"node_type_id":"b","num_cores":1.5,"memory_mb":9},
                {"node_type_id":"a","num_cores":1.5,"memory_mb":9},{"node_type_id":"gpu","num_cores":1,"num_gpus":1},
                {"node_type_id":"arm","is_graviton":true},{"node_type_id":"old","is_deprecated":true},
                {"node_type_id":"hidden","is_hidden":true},{"node_type_id":"x-fleet.s"},
                {"node_type_id":"far","node_info":{"status":["NotEnabledOnSubscription"]}}]"#,
        )
        .unwrap();
        assert_eq!(smallest(&types).unwrap().node_type_id, "a");
        assert!(smallest(&types[3..]).is_none());

        let version = |key: &str, name: &str| SparkVersion { key: key.to_owned(), name: name.to_owned() };
        let versions = [
            version("9.1.x-scala2.12", "9.1 LTS"),
            version("16.4.x-scala2.12", "16.4 LTS"),
            version("16.4.x-photon-scala2.12", "16.4 LTS"),
            version("17.0.x-scala2.12", "17.0"),
            version("18.0.x-scala2.12", "18.0 LTS Beta"),
        ];
        assert_eq!(newest_with_long_support(&versions).unwrap().key, "16.4.x-scala2.12");
        assert!(newest_with_long_support(&versions[2..]).is_none());
    }
}
