//! What is fixed when a notebook is rendered.

use std::fmt;
use std::net::IpAddr;

use serde_json::{Value, json};
use url::{Host, Url};

/// The overrides of the trigger endpoint that a notebook may be allowed to pass on (dbt-cloud-api §3.1).
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
    /// All of them, in the order of the endpoint's documentation.
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

    /// The key with this name in the request body.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }
}

/// Scheme, host and port, nothing else: `https`, or `http` to a literal loopback address (the sandbox).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin(String);

impl Origin {
    /// Reads an origin; the error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, BadSetting> {
        let bad = |why| BadSetting {
            setting: "dbt host",
            value: text.to_owned(),
            why,
        };
        let url = Url::parse(text).map_err(|_| bad("is not an address such as https://ab123.us1.dbt.com"))?;
        let loopback = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
            Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
            Some(Host::Domain(_)) => false,
            None => return Err(bad("names no host")),
        };
        // The notebook checks the same again, so that an edit by hand cannot widen it.
        match url.scheme() {
            "https" => {}
            "http" if loopback => {}
            "http" => return Err(bad("must begin with https://")),
            _ => return Err(bad("must begin with https://")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("must not hold a user name or password"));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(bad("must end after the host"));
        }
        if matches!(url.host(), Some(Host::Ipv6(_))) && !loopback {
            return Err(bad("must be a host name"));
        }
        let origin = url.origin().ascii_serialization();
        let plain = |character: char| character.is_ascii_alphanumeric() || ".-:/[]".contains(character);
        if origin.chars().all(plain) {
            Ok(Self(origin))
        } else {
            Err(bad("holds characters that no host of dbt Cloud has"))
        }
    }

    /// As written into the notebook, without a slash at the end.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A setting that the notebook cannot be rendered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadSetting {
    /// Which one, in words for people.
    pub(crate) setting: &'static str,
    /// What it was.
    pub(crate) value: String,
    /// What is wrong with it.
    pub(crate) why: &'static str,
}

impl fmt::Display for BadSetting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the {} {:?} {}", self.setting, self.value, self.why)
    }
}

impl std::error::Error for BadSetting {}

/// What is fixed in a rendered notebook: where the key goes, which key, and what a caller may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Where dbt Cloud is.
    pub(crate) host: Origin,
    account_id: String,
    /// Secret scope of the dbt key; any text is rendered safely, whether Databricks accepts it is for others to say.
    pub(crate) scope: String,
    /// Name of the secret in that scope.
    pub(crate) key: String,
    /// Overrides that a caller may send; none if empty.
    pub(crate) allow_override: Vec<OverrideKey>,
    /// dbt jobs that may be started; any if empty.
    pub(crate) allow_job: Vec<u64>,
}

impl Settings {
    /// Settings without any override allowed and with any job allowed; errors name the setting.
    pub(crate) fn new(host: Origin, account_id: &str, scope: &str, key: &str) -> Result<Self, BadSetting> {
        if account_id.is_empty() || account_id.len() > 19 || !account_id.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BadSetting {
                setting: "dbt account id",
                value: account_id.to_owned(),
                why: "is not a number",
            });
        }
        Ok(Self {
            host,
            account_id: account_id.to_owned(),
            scope: scope.to_owned(),
            key: key.to_owned(),
            allow_override: Vec::new(),
            allow_job: Vec::new(),
        })
    }

    /// The account, digits only.
    pub(crate) fn account_id(&self) -> &str {
        &self.account_id
    }

    /// As the notebook reads it. Lists are sorted and without repetition, so that the order of flags is no difference.
    pub(super) fn to_json(&self) -> Value {
        let Self {
            host,
            account_id,
            scope,
            key,
            allow_override,
            allow_job,
        } = self;
        let mut overrides = allow_override.clone();
        overrides.sort_unstable();
        overrides.dedup();
        let mut jobs = allow_job.clone();
        jobs.sort_unstable();
        jobs.dedup();
        json!({
            "dbt_host": host.as_str(),
            "account_id": account_id,
            "secret_scope": scope,
            "secret_key": key,
            "override_keys": overrides.into_iter().map(OverrideKey::name).collect::<Vec<_>>(),
            "job_ids": jobs,
        })
    }
}

/// What a notebook found in a workspace says; read leniently, since another version may have written it.
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
    /// `None` where one of the four that say where the key goes is missing.
    pub(super) fn from_json(value: &Value) -> Option<Self> {
        let text = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
        let list = |name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        Some(Self {
            host: text("dbt_host")?,
            account_id: text("account_id")?,
            scope: text("secret_scope")?,
            key: text("secret_key")?,
            allow_override: list("override_keys")
                .iter()
                .filter_map(|name| Some(name.as_str()?.to_owned()))
                .collect(),
            allow_job: list("job_ids").iter().filter_map(Value::as_u64).collect(),
        })
    }

    /// Where this notebook and the one that is wanted would take the key from or send it to different places.
    pub(crate) fn moved(&self, want: &Settings) -> Vec<Moved> {
        let Self {
            host,
            account_id,
            scope,
            key,
            allow_override: _, // what a caller may ask for is an ordinary change
            allow_job: _,
        } = self;
        [
            ("dbt host", host, want.host.as_str()),
            ("dbt account", account_id, want.account_id()),
            ("secret scope", scope, want.scope.as_str()),
            ("secret key", key, want.key.as_str()),
        ]
        .into_iter()
        .filter(|(_, there, here)| there.as_str() != *here)
        .map(|(what, there, here)| Moved {
            what,
            from: there.clone(),
            to: here.to_owned(),
        })
        .collect()
    }
}

/// A place that differs between the notebook in the workspace and the one that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    /// `dbt host`, `dbt account`, `secret scope` or `secret key`.
    pub(crate) what: &'static str,
    pub(crate) from: String,
    pub(crate) to: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_origin_and_nothing_else() {
        for good in [
            "https://ab123.us1.dbt.com",
            "https://ab123.us1.dbt.com/",
            "https://AB123.us1.dbt.com:8443",
            "http://127.0.0.1:8080",
            "http://[::1]:8080",
        ] {
            assert!(Origin::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "ab123.us1.dbt.com",
            "http://ab123.us1.dbt.com",
            "http://localhost:80",
            "ftp://ab123.us1.dbt.com",
            "https://user@ab123.us1.dbt.com",
            "https://user:word@ab123.us1.dbt.com",
            "https://ab123.us1.dbt.com/api",
            "https://ab123.us1.dbt.com/?a",
            "https://ab123.us1.dbt.com/#a",
            "https://[2001:db8::1]",
            "https://",
            "",
            "https://ab_1'.dbt.com",
        ] {
            assert!(Origin::parse(bad).is_err(), "{bad}");
        }
        let origin = Origin::parse("https://AB123.us1.dbt.com:443/").expect("valid");
        assert_eq!(origin.as_str(), "https://ab123.us1.dbt.com");
    }

    #[test]
    fn an_account_id_is_digits() {
        let host = || Origin::parse("https://ab123.us1.dbt.com").expect("valid");
        assert!(Settings::new(host(), "51234", "s", "k").is_ok());
        for bad in ["", "-1", "1 ", "٣", "1e3", "12345678901234567890"] {
            assert!(Settings::new(host(), bad, "s", "k").is_err(), "{bad}");
        }
    }

    #[test]
    fn override_names_read_back() {
        for key in OverrideKey::ALL {
            assert_eq!(OverrideKey::named(key.name()), Some(key));
        }
        assert_eq!(OverrideKey::named("cause"), None);
    }
}
