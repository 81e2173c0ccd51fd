//! Artifacts of a run.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use serde::Deserialize;

use super::envelope::{optional, or_default, skip_invalid};
use super::run_requests::run_path;
use crate::http::{BodyProblem, Call, Read, parse_json, title_of_page};

/// `run_results.json`, with the fields needed for failures.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct RunResults {
    #[serde(default, deserialize_with = "skip_invalid")]
    pub(crate) results: Vec<Node>,
}

/// A model, test, seed or snapshot, with its outcome.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Node {
    /// `kind.package.name[.hash]`.
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) unique_id: String,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) status: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) message: Option<String>,
    /// Number of failing rows of a test.
    #[serde(default, deserialize_with = "optional")]
    pub(crate) failures: Option<u64>,
    /// In seconds.
    #[serde(default, deserialize_with = "optional")]
    pub(crate) execution_time: Option<f64>,
}

impl Node {
    /// Whether it failed. `warn` is not a failure.
    pub(crate) fn failed(&self) -> bool {
        matches!(self.status.as_deref(), Some("error" | "fail" | "runtime error" | "partial success"))
    }

    /// Such as `model`, `test`, `seed`.
    pub(crate) fn kind(&self) -> &str {
        self.unique_id.split('.').next().unwrap_or_default()
    }

    /// The name without kind, package and hash.
    pub(crate) fn name(&self) -> &str {
        let mut parts = self.unique_id.splitn(4, '.');
        match (parts.next(), parts.next(), parts.next()) {
            (_, _, Some(name)) => name,
            _ => &self.unique_id,
        }
    }
}

/// The results file. Each step has its own.
pub(crate) const RESULTS: &str = "run_results.json";

/// The results of one step. Without a step the service returns the last one's, which may be from generating docs.
pub(crate) fn get_run_results(account: u64, run: u64, step: u64) -> Read<RunResults> {
    let path = run_path(account, run).then("/artifacts/run_results.json");
    Read::json(
        Call::get("runs/artifacts/get", path).query("step", step).accept("*/*").cap(64 << 20).shorten(LONGEST_TEXT),
    )
}

/// Longest string kept of the results, in bytes: compiled code may be long, and messages are shown shortened.
const LONGEST_TEXT: usize = 1 << 10;

/// Longest file accepted, in bytes (manifests of hundreds of megabytes exist).
const LARGEST: usize = 512 << 20;

/// Timeout for reading a file.
const FILE_LIMIT: Duration = Duration::from_mins(2);

/// The paths of the run's files. The response is null if there are none.
pub(crate) fn list_artifacts(account: u64, run: u64) -> Read<Vec<String>> {
    Read::new(Call::get("runs/artifacts/list", run_path(account, run).then("/artifacts/")), paths)
}

#[derive(Deserialize)]
struct Paths {
    #[serde(deserialize_with = "skip_invalid")]
    data: Vec<String>,
}

fn paths(answer: &Response<Bytes>) -> Result<Vec<String>, BodyProblem> {
    parse_json::<Paths>(answer).map(|Paths { data }| data)
}

/// A file of a run, unparsed, from this step or from the last one.
pub(crate) fn get_artifact(account: u64, run: u64, path: &str, step: Option<u64>) -> Read<Bytes> {
    let is_page =
        path.rsplit_once('.').is_some_and(|(_, end)| matches!(end.to_ascii_lowercase().as_str(), "html" | "htm"));
    let path = run_path(account, run).then("/artifacts/").file(path);
    let call = Call::get("runs/artifacts/get", path).accept("*/*").cap(LARGEST).within(FILE_LIMIT);
    Read::new(call.query_some("step", step), if is_page { whole } else { no_page })
}

/// Accepts any body, including an empty one.
#[expect(clippy::unnecessary_wraps, reason = "it is one way of reading among others")]
fn whole(answer: &Response<Bytes>) -> Result<Bytes, BodyProblem> {
    Ok(answer.body().clone())
}

/// Rejects a web page, such as a login page.
fn no_page(answer: &Response<Bytes>) -> Result<Bytes, BodyProblem> {
    let kind = answer.headers().get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let begin =
        String::from_utf8_lossy(&answer.body()[..answer.body().len().min(200)]).trim_start().to_ascii_lowercase();
    if kind.to_ascii_lowercase().starts_with("text/html")
        || begin.starts_with("<!doctype html")
        || begin.starts_with("<html")
    {
        return Err(BodyProblem::Page(title_of_page(answer.body()).unwrap_or_default()));
    }
    whole(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_no_trailing_slash_and_names_its_step() {
        let read = get_run_results(7, 9, 4);
        assert_eq!(read.call.target(), "/api/v2/accounts/7/runs/9/artifacts/run_results.json?step=4");
        assert_eq!(read.call.accept, "*/*");
        let target = |path, step| get_artifact(7, 9, path, step).call.target();
        assert_eq!(
            target("compiled/a b.sql", Some(4)),
            "/api/v2/accounts/7/runs/9/artifacts/compiled/a%20b.sql?step=4"
        );
        assert_eq!(target("manifest.json", None), "/api/v2/accounts/7/runs/9/artifacts/manifest.json");
        assert_eq!(list_artifacts(7, 9).call.target(), "/api/v2/accounts/7/runs/9/artifacts/");
    }

    #[test]
    fn a_run_without_files_says_null_and_no_data_at_all_is_no_answer() {
        let list = |body: &str| paths(&Response::new(Bytes::from(body.to_owned())));
        assert_eq!(list(r#"{"data":null}"#), Ok(Vec::new()));
        assert_eq!(list(r#"{"data":["manifest.json"]}"#), Ok(vec!["manifest.json".to_owned()]));
        assert!(list(r#"{"status":{}}"#).is_err() && list("").is_err());
    }

    #[test]
    fn an_empty_file_is_a_file_and_a_page_is_one_only_where_its_name_says_so() {
        let page = "<!DOCTYPE html><title>Log in</title>";
        for (path, kind, body, taken) in [
            ("compiled/a.sql", "text/plain", "", true),
            ("index.html", "text/html", page, true),
            ("static_index.HTML", "text/html", page, true),
            ("manifest.json", "text/html; charset=utf-8", page, false),
            ("manifest.json", "application/json", page, false),
            ("report.xml", "application/xml", "<results/>", true),
            ("compiled/a.sql", "", "<> 1", true),
        ] {
            let answer = Response::builder().header("content-type", kind).body(Bytes::from(body)).unwrap();
            let read = (get_artifact(7, 9, path, None).parse)(&answer);
            assert_eq!(read.is_ok(), taken, "{path} {kind} {body}: {read:?}");
        }
    }

    #[test]
    fn failed_nodes_are_told_by_status_and_named_by_their_id() {
        let text = r#"{"metadata":{},"results":[
            {"unique_id":"model.shop.orders","status":"error","message":"Database Error","failures":null,"timing":[]},
            {"unique_id":"test.shop.not_null_orders_id.abc123","status":"fail","message":"Got 3 results","failures":3},
            {"unique_id":"model.shop.customers","status":"success"},
            {"unique_id":"model.shop.v","status":"warn"},
            {"unique_id":"odd","status":7,"message":[]}]}"#;
        let results: RunResults = serde_json::from_str(text).unwrap();
        let failed: Vec<(&str, &str, Option<u64>)> = results
            .results
            .iter()
            .filter(|node| node.failed())
            .map(|node| (node.kind(), node.name(), node.failures))
            .collect();
        assert_eq!(failed, [("model", "orders", None), ("test", "not_null_orders_id", Some(3))]);
        assert_eq!(results.results[4].name(), "odd");
    }
}
