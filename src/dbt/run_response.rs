//! A run of a dbt job.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::envelope::{lenient_number, optional, optional_list};
use super::steps::Step;

/// The status number of a run or step. Unknown numbers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "i64")]
pub(crate) enum Status {
    Queued,
    Starting,
    Running,
    Success,
    Error,
    Cancelled,
    Other(i64),
}

/// The known statuses, with their numbers in the API and their names in JSON output.
const KNOWN: [(Status, i64, &str); 6] = [
    (Status::Queued, 1, "QUEUED"),
    (Status::Starting, 2, "STARTING"),
    (Status::Running, 3, "RUNNING"),
    (Status::Success, 10, "SUCCESS"),
    (Status::Error, 20, "ERROR"),
    (Status::Cancelled, 30, "CANCELLED"),
];

impl From<i64> for Status {
    fn from(number: i64) -> Status {
        KNOWN.iter().find(|(_, known, _)| *known == number).map_or(Status::Other(number), |(status, _, _)| *status)
    }
}

impl Status {
    /// The number in the API.
    pub(crate) fn number(self) -> i64 {
        if let Status::Other(number) = self {
            return number;
        }
        KNOWN.iter().find(|(known, _, _)| *known == self).map_or(0, |(_, number, _)| *number)
    }

    /// The name in JSON output; the number if it is unknown.
    pub(crate) fn word(self) -> String {
        let known = KNOWN.iter().find(|(known, _, _)| *known == self);
        known.map_or_else(|| self.number().to_string(), |(_, _, word)| (*word).to_owned())
    }
}

impl fmt::Display for Status {
    /// As in the guide: `DbtJobRunStatus.RUNNING`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Status::Other(number) = self {
            return write!(formatter, "DbtJobRunStatus({number})");
        }
        write!(formatter, "DbtJobRunStatus.{}", self.word())
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Success,
    Error,
    Cancelled,
}

/// A run. `id` and `status` decide; most other fields are only displayed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(crate) struct Run {
    #[serde(deserialize_with = "lenient_number")]
    pub(crate) id: u64,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) status: Option<Status>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) status_message: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    is_complete: Option<bool>,
    #[serde(default, deserialize_with = "optional")]
    is_success: Option<bool>,
    #[serde(default, deserialize_with = "optional")]
    is_error: Option<bool>,
    #[serde(default, deserialize_with = "optional")]
    is_cancelled: Option<bool>,
    /// The run that this one resumes from its point of failure.
    #[serde(default, deserialize_with = "lenient_number")]
    pub(crate) retrying_run_id: Option<u64>,
    /// Whether it can be resumed from its point of failure; the next field says why not.
    #[serde(default, deserialize_with = "optional")]
    pub(crate) can_retry: Option<bool>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) retry_not_supported_reason: Option<String>,
    /// Whether its artifacts are uploaded.
    #[serde(default, deserialize_with = "optional")]
    pub(crate) artifacts_saved: Option<bool>,
    /// A version, or a release track.
    #[serde(default, deserialize_with = "optional")]
    dbt_version: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) project_id: Option<u64>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) job_definition_id: Option<u64>,
    #[serde(default, deserialize_with = "optional")]
    created_at: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    started_at: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    finished_at: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    href: Option<String>,
    /// IDs of runs that it waits for.
    #[serde(default, deserialize_with = "optional_list")]
    pub(crate) blocked_by: Option<Vec<u64>>,
    /// Its job, if requested.
    #[serde(default, deserialize_with = "optional")]
    pub(super) job: Option<JobPart>,
    /// What started it. Null if not requested, or if the service omits it.
    #[serde(default, deserialize_with = "optional")]
    pub(crate) trigger: Option<Trigger>,
    #[serde(default, deserialize_with = "optional_list")]
    pub(crate) run_steps: Option<Vec<Step>>,
}

/// A job, as included in a run.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct JobPart {
    #[serde(default, deserialize_with = "optional")]
    name: Option<String>,
    /// The commands that it runs unless overridden.
    #[serde(default, deserialize_with = "optional")]
    pub(super) execute_steps: Option<Vec<String>>,
    /// Its checkboxes: docs, and source freshness.
    #[serde(default, deserialize_with = "optional")]
    pub(super) generate_docs: Option<bool>,
    #[serde(default, deserialize_with = "optional")]
    pub(super) run_generate_sources: Option<bool>,
}

/// What started a run.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Trigger {
    /// Required, because runs are found by it: a trigger without it counts as absent.
    pub(crate) cause: String,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) cause_category: Option<String>,
    /// All other fields, including the overrides.
    #[serde(flatten)]
    pub(crate) rest: Map<String, Value>,
}

impl Run {
    /// A run of which only the ID is known.
    pub(crate) fn unseen(id: u64) -> Run {
        Run { id, ..Run::default() }
    }

    /// How it ended, or `None` while it is active. The flags count only if the status is unknown.
    pub(crate) fn ended(&self) -> Option<End> {
        match self.status {
            Some(Status::Success) => Some(End::Success),
            Some(Status::Error) => Some(End::Error),
            Some(Status::Cancelled) => Some(End::Cancelled),
            Some(Status::Queued | Status::Starting | Status::Running) => None,
            Some(Status::Other(_)) | None if self.is_complete != Some(true) => None,
            Some(Status::Other(_)) | None => {
                [(self.is_success, End::Success), (self.is_error, End::Error), (self.is_cancelled, End::Cancelled)]
                    .into_iter()
                    .find_map(|(flag, end)| (flag == Some(true)).then_some(end))
            }
        }
    }

    /// The URL of the run: the service's own link if it leads to this origin or to dbt's domains, otherwise ours.
    pub(crate) fn url(&self, origin: &str, account: u64) -> String {
        if let Some(href) = &self.href {
            let leads_to_dbt = url::Url::parse(href).is_ok_and(|url| {
                let host = url.host_str().unwrap_or_default();
                url.scheme() == "https" && (host.ends_with(".dbt.com") || host.ends_with(".getdbt.com"))
            });
            if leads_to_dbt || href.strip_prefix(origin).is_some_and(|rest| rest.starts_with('/')) {
                return href.clone();
            }
        }
        match self.project_id {
            Some(project) => format!("{origin}/deploy/{account}/projects/{project}/runs/{}/", self.id),
            None => format!("{origin}/deploy/{account}/runs/{}/", self.id),
        }
    }

    /// Why it cannot be resumed from its point of failure, if dbt says so.
    pub(crate) fn no_retry(&self) -> Option<NoRetry> {
        if self.can_retry != Some(false) {
            return None;
        }
        let engine = Engine::of(self.dbt_version.as_deref().unwrap_or_default());
        Some(match self.retry_not_supported_reason.as_deref().unwrap_or_default() {
            "RETRY_UNSUPPORTED_CMD" => NoRetry::Command(engine),
            "RETRY_UNSUPPORTED_VERSION" => NoRetry::Version(engine),
            "RETRY_NOT_LATEST_RUN" => NoRetry::NotLatest,
            "RETRY_NOT_FAILED_RUN" => NoRetry::NotFailed,
            "RETRY_NO_RUN_RESULTS" => NoRetry::NoResults(engine),
            "" => NoRetry::Unsaid,
            other => NoRetry::Other(other.chars().take(100).collect()),
        })
    }

    /// The name of its job, if requested.
    pub(crate) fn job_name(&self) -> Option<&str> {
        self.job.as_ref().and_then(|job| job.name.as_deref())
    }

    pub(crate) fn created(&self) -> Option<Timestamp> {
        self.created_at.as_deref().and_then(moment)
    }

    pub(crate) fn started(&self) -> Option<Timestamp> {
        self.started_at.as_deref().and_then(moment)
    }

    pub(crate) fn finished(&self) -> Option<Timestamp> {
        self.finished_at.as_deref().and_then(moment)
    }

    /// Time from creation to end.
    pub(crate) fn took(&self) -> Option<Duration> {
        self.finished()?.duration_since(self.created()?).try_into().ok()
    }
}

/// The dbt engine that runs commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Core,
    Fusion,
}

/// Release tracks of Fusion; all others are Core.
const FUSION: [&str; 5] = ["latest-fusion", "fusion-stable", "fusion-extended", "fusion-nightly", "fusion-fallback"];

impl Engine {
    /// Returns the engine for a version or release track: dbt 2 is Fusion, including dbt-core 2, which runs on the same
    /// engine.
    fn of(version: &str) -> Engine {
        if FUSION.contains(&version) || version.split('.').next() == Some("2") { Engine::Fusion } else { Engine::Core }
    }
}

/// Why a run cannot be resumed from its point of failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoRetry {
    /// The failed command does not support it.
    Command(Engine),
    Version(Engine),
    NotLatest,
    NotFailed,
    NoResults(Engine),
    /// dbt gives no reason.
    Unsaid,
    /// A reason unknown to this version, as dbt returns it.
    Other(String),
}

impl fmt::Display for NoRetry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            NoRetry::Command(Engine::Core) => {
                "dbt cannot retry the command that failed (it retries build, run, test, seed, snapshot, compile, clone, docs generate and run-operation)"
            }
            NoRetry::Command(Engine::Fusion) => "the Fusion engine cannot retry the command that failed",
            NoRetry::Version(Engine::Core) => "its version of dbt cannot retry; 1.6 and later can",
            NoRetry::Version(Engine::Fusion) => {
                "its version of the Fusion engine cannot retry; 2.0.0-preview.108 and later can"
            }
            NoRetry::NotLatest => "it is no longer the job's latest run",
            NoRetry::NotFailed => "dbt does not count it as failed",
            NoRetry::NoResults(Engine::Core) => "it has no results: it failed before any model ran",
            NoRetry::NoResults(Engine::Fusion) => {
                "it has no results: it failed before any model ran (Fusion before 2.0.0-preview.174 writes none when it fails early)"
            }
            NoRetry::Unsaid => "dbt gives no reason",
            NoRetry::Other(word) => return write!(formatter, "dbt says {word}"),
        })
    }
}

/// Parses a time. Runs use `2021-11-26 16:48:41.431645+00:00`, other objects `T` and `Z`.
fn moment(text: &str) -> Option<Timestamp> {
    text.trim().replacen(' ', "T", 1).parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dbt::Overrides;

    fn run(value: Value) -> Run {
        serde_json::from_value(value).unwrap()
    }

    fn wire_trigger(value: Value) -> Trigger {
        serde_json::from_value(value).unwrap()
    }

    /// Versions and release tracks, as runs name them.
    const VERSIONS: &[(&str, Engine)] = &[
        ("1.5.0-latest", Engine::Core),
        ("1.12.6", Engine::Core),
        ("1.10.0-pre", Engine::Core),
        ("2026.5.28+996c6a8", Engine::Core),
        ("latest", Engine::Core),
        ("compatible", Engine::Core),
        ("extended", Engine::Core),
        ("fallback", Engine::Core),
        ("versionless", Engine::Core),
        ("confusion", Engine::Core),
        ("my-fusion-branch", Engine::Core),
        ("", Engine::Core),
        ("2.0.0-preview.108", Engine::Fusion),
        ("2.0.0", Engine::Fusion),
        ("2.1", Engine::Fusion),
        ("latest-fusion", Engine::Fusion),
        ("fusion-stable", Engine::Fusion),
        ("fusion-extended", Engine::Fusion),
        ("fusion-nightly", Engine::Fusion),
        ("fusion-fallback", Engine::Fusion),
    ];

    #[expect(clippy::print_stdout, reason = "the figure")]
    #[test]
    fn why_a_run_cannot_be_resumed_is_told_by_its_engine() {
        let (mut good, mut total) = (0, 0);
        for (version, engine) in VERSIONS {
            for (reason, expected) in [
                ("RETRY_UNSUPPORTED_CMD", NoRetry::Command(*engine)),
                ("RETRY_UNSUPPORTED_VERSION", NoRetry::Version(*engine)),
                ("RETRY_NOT_LATEST_RUN", NoRetry::NotLatest),
                ("RETRY_NOT_FAILED_RUN", NoRetry::NotFailed),
                ("RETRY_NO_RUN_RESULTS", NoRetry::NoResults(*engine)),
                ("", NoRetry::Unsaid),
                ("RETRY_FULL_MOON", NoRetry::Other("RETRY_FULL_MOON".to_owned())),
            ] {
                let of = |can_retry: bool| -> Run {
                    let run = serde_json::json!({
                        "id": 7, "dbt_version": version, "can_retry": can_retry, "retry_not_supported_reason": reason,
                    });
                    serde_json::from_value(run).unwrap()
                };
                let told = of(false).no_retry();
                // The text for one engine names no version of the other.
                let words = told.as_ref().map(ToString::to_string).unwrap_or_default();
                let foreign = match engine {
                    Engine::Core => words.contains("2.0"),
                    Engine::Fusion => words.contains("1.6") || words.contains("run-operation"),
                };
                total += 1;
                good += usize::from(told.as_ref() == Some(&expected) && !foreign && of(true).no_retry().is_none());
                assert_eq!(told, Some(expected), "{version} {reason}");
            }
        }
        println!("why a run cannot be resumed, by engine: {good} of {total}");
        assert_eq!(good, total);
    }

    #[test]
    fn the_number_decides_and_flags_help_out_only_where_nobody_knows_it() {
        for (value, ended) in [
            (json!({"id": 1, "status": 10}), Some(End::Success)),
            (json!({"id": 1, "status": 20, "is_complete": false}), Some(End::Error)),
            (json!({"id": 1, "status": 30}), Some(End::Cancelled)),
            (json!({"id": 1, "status": 3, "is_complete": true, "is_success": true}), None),
            (json!({"id": 1, "status": 99}), None),
            (json!({"id": 1, "status": 99, "is_complete": true, "is_error": true}), Some(End::Error)),
            (json!({"id": 1, "status": 99, "is_complete": true}), None),
            (json!({"id": 1, "status": "FANCY_NEW"}), None),
            (json!({"id": 1}), None),
        ] {
            assert_eq!(run(value.clone()).ended(), ended, "{value}");
        }
        assert_eq!(Status::from(99).to_string(), "DbtJobRunStatus(99)");
        assert_eq!(Status::from(99).number(), 99);
        assert_eq!(Status::Running.to_string(), "DbtJobRunStatus.RUNNING");
    }

    #[test]
    fn a_trigger_without_a_cause_counts_as_none_and_an_id_must_be_there() {
        assert_eq!(run(json!({"id": 1, "trigger": {"id": 5}})).trigger, None);
        assert_eq!(run(json!({"id": 1, "trigger": null})).trigger, None);
        assert!(serde_json::from_value::<Run>(json!({"status": 1})).is_err());
        assert!(serde_json::from_value::<Run>(json!({"id": 1, "retrying_run_id": "odd"})).is_err());
        assert_eq!(run(json!({"id": 70_471_805_314_449_u64})).id, 70_471_805_314_449);
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_replaced_by_our_own() {
        let origin = "https://ab123.us1.dbt.com";
        for (href, url) in [
            (
                Some("https://ab123.us1.dbt.com/deploy/1/projects/2/runs/3/"),
                "https://ab123.us1.dbt.com/deploy/1/projects/2/runs/3/",
            ),
            (Some("https://cloud.getdbt.com/#/accounts/1/runs/3/"), "https://cloud.getdbt.com/#/accounts/1/runs/3/"),
            (Some("https://evil.example/x"), "https://ab123.us1.dbt.com/deploy/1/projects/2/runs/3/"),
            (Some("https://ab123.us1.dbt.com.evil.example/x"), "https://ab123.us1.dbt.com/deploy/1/projects/2/runs/3/"),
            (None, "https://ab123.us1.dbt.com/deploy/1/projects/2/runs/3/"),
        ] {
            assert_eq!(run(json!({"id": 3, "project_id": 2, "href": href})).url(origin, 1), url);
        }
        let loopback = run(json!({"id": 3, "href": "http://127.0.0.1:80/deploy/1/runs/3/"}));
        assert_eq!(loopback.url("http://127.0.0.1:80", 1), "http://127.0.0.1:80/deploy/1/runs/3/");
    }

    #[test]
    fn times_are_read_in_both_forms() {
        let run = run(
            json!({"id": 1, "created_at": "2021-11-26 16:48:41.431645+00:00", "finished_at": "2021-11-26T16:52:53Z"}),
        );
        assert_eq!(run.took().unwrap().as_secs(), 251);
        assert_eq!(moment("yesterday"), None);
    }

    #[test]
    fn parameters_are_compared_with_what_the_run_was_started_with() {
        let nothing = Overrides::default();
        let bare = json!({"cause": "x", "git_branch": null, "steps_override": [], "generate_docs_override": false, "schema_override": ""});
        assert_eq!(nothing.differs_from(&wire_trigger(bare)), None);
        let on_branch = json!({"cause": "x", "git_branch": "main"});
        let difference = nothing.differs_from(&wire_trigger(on_branch.clone())).unwrap();
        assert_eq!(
            (difference.name, difference.wanted.as_str(), difference.seen.as_str()),
            ("git_branch", "nothing", "\"main\"")
        );
        let main: Overrides = serde_json::from_value(json!({"git_branch": "main"})).unwrap();
        assert_eq!(main.differs_from(&wire_trigger(on_branch)), None);
        assert_eq!(main.differs_from(&wire_trigger(json!({"cause": "x"}))).unwrap().seen, "nothing");
        let docs = json!({"cause": "x", "git_branch": "main", "generate_docs_override": true});
        assert_eq!(main.differs_from(&wire_trigger(docs)).unwrap().name, "generate_docs_override");
    }
}
