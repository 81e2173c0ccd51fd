//! The settings rendered into a notebook.

use serde_json::{Value, json};

use crate::origin::Origin;

/// The overrides of the trigger endpoint that a notebook may be allowed to pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OverrideKey {
    GitSha,
    GitBranch,
    AzurePullRequestId,
    GithubPullRequestId,
    GitlabMergeRequestId,
    NonNativePullRequestId,
    SchemaOverride,
    DbtVersionOverride,
    ThreadsOverride,
    TargetNameOverride,
    GenerateDocsOverride,
    TimeoutSecondsOverride,
    StepsOverride,
}

impl OverrideKey {
    /// All overrides, in the order of the endpoint's documentation.
    pub(crate) const ALL: [Self; 13] = [
        Self::GitSha,
        Self::GitBranch,
        Self::AzurePullRequestId,
        Self::GithubPullRequestId,
        Self::GitlabMergeRequestId,
        Self::NonNativePullRequestId,
        Self::SchemaOverride,
        Self::DbtVersionOverride,
        Self::ThreadsOverride,
        Self::TargetNameOverride,
        Self::GenerateDocsOverride,
        Self::TimeoutSecondsOverride,
        Self::StepsOverride,
    ];

    /// The name in the request body.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::GitSha => "git_sha",
            Self::GitBranch => "git_branch",
            Self::AzurePullRequestId => "azure_pull_request_id",
            Self::GithubPullRequestId => "github_pull_request_id",
            Self::GitlabMergeRequestId => "gitlab_merge_request_id",
            Self::NonNativePullRequestId => "non_native_pull_request_id",
            Self::SchemaOverride => "schema_override",
            Self::DbtVersionOverride => "dbt_version_override",
            Self::ThreadsOverride => "threads_override",
            Self::TargetNameOverride => "target_name_override",
            Self::GenerateDocsOverride => "generate_docs_override",
            Self::TimeoutSecondsOverride => "timeout_seconds_override",
            Self::StepsOverride => "steps_override",
        }
    }

    /// The override with this name in the request body.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }
}

/// The settings rendered into a notebook: where the key is sent, which key, and what a caller may request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The dbt platform's host.
    pub(crate) host: Origin,
    /// The dbt account's ID.
    pub(crate) account_id: u64,
    /// Secret scope of the dbt key; any text is rendered safely, whether or not Databricks accepts it.
    pub(crate) scope: String,
    /// Name of the secret in that scope.
    pub(crate) key: String,
    /// Overrides that a caller may send; none if empty.
    pub(crate) allow_override: Vec<OverrideKey>,
    /// dbt jobs that may be started; any if empty.
    pub(crate) allow_job: Vec<u64>,
}

impl Settings {
    /// The JSON that the notebook reads. Lists are sorted and deduplicated, so that the order of flags makes no
    /// difference.
    pub(super) fn to_json(&self) -> Value {
        let Self { host, account_id, scope, key, allow_override, allow_job } = self;
        let mut overrides = allow_override.clone();
        overrides.sort_unstable();
        overrides.dedup();
        let mut jobs = allow_job.clone();
        jobs.sort_unstable();
        jobs.dedup();
        json!({
            "dbt_host": host.to_string(),
            "account_id": account_id.to_string(),
            "secret_scope": scope,
            "secret_key": key,
            "override_keys": overrides.into_iter().map(OverrideKey::name).collect::<Vec<_>>(),
            "job_ids": jobs,
        })
    }
}

/// The settings in a notebook found in a workspace, read leniently, since another version may have written it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) host: String,
    pub(crate) account_id: String,
    pub(crate) scope: String,
    pub(crate) key: String,
    pub(crate) allow_override: Vec<String>,
    pub(crate) allow_job: Vec<u64>,
}

impl Found {
    /// Returns `None` if one of the four settings for the key's source and destination is missing.
    pub(super) fn from_json(value: &Value) -> Option<Self> {
        let text = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
        let list = |name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        Some(Self {
            host: text("dbt_host")?,
            account_id: text("account_id")?,
            scope: text("secret_scope")?,
            key: text("secret_key")?,
            allow_override: list("override_keys").iter().filter_map(|name| Some(name.as_str()?.to_owned())).collect(),
            allow_job: list("job_ids").iter().filter_map(Value::as_u64).collect(),
        })
    }

    /// Settings that would make the wanted notebook read the key from, or send it to, another place.
    pub(crate) fn credential_changes(&self, want: &Settings) -> Vec<CredentialChange> {
        let Self {
            host,
            account_id,
            scope,
            key,
            allow_override: _, // a change in what a caller may request is an ordinary update
            allow_job: _,
        } = self;
        [
            ("dbt host", host, want.host.to_string()),
            ("dbt account", account_id, want.account_id.to_string()),
            ("secret scope", scope, want.scope.clone()),
            ("secret key", key, want.key.clone()),
        ]
        .into_iter()
        .filter(|(_, there, here)| *there != here)
        .map(|(what, there, here)| CredentialChange { what, from: there.clone(), to: here })
        .collect()
    }
}

/// A setting that differs between the notebook in the workspace and the wanted one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CredentialChange {
    /// `dbt host`, `dbt account`, `secret scope` or `secret key`.
    pub(crate) what: &'static str,
    pub(crate) from: String,
    pub(crate) to: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn override_names_read_back() {
        for key in OverrideKey::ALL {
            assert_eq!(OverrideKey::named(key.name()), Some(key));
        }
        assert_eq!(OverrideKey::named("cause"), None);
        // The same as the trigger's fields.
        let mut fields: Vec<&str> = crate::dbt::FIELDS.iter().map(|field| field.name).collect();
        let mut keys: Vec<&str> = OverrideKey::ALL.into_iter().map(OverrideKey::name).collect();
        fields.sort_unstable();
        keys.sort_unstable();
        assert_eq!(fields, keys);
    }
}
