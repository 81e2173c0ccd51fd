//! databricks-api §2.1, §7; dbt-cloud-api §2.5.

use serde_json::Value;

use super::{Bench, DBT_TOKEN, TOKEN};
use crate::sandbox::Reply;

#[test]
fn me_says_who_calls_and_which_workspace_this_is() {
    let mut bench = Bench::new();
    let Reply::Answer(answer) = bench.send("GET", "/api/2.0/preview/scim/v2/Me", TOKEN, "") else {
        panic!("no answer")
    };
    assert_eq!(answer.headers()["x-databricks-org-id"], "7405609032100112");
    assert_eq!(answer.headers()["content-type"], "application/scim+json");
    let body: Value = serde_json::from_slice(answer.body()).expect("JSON");
    assert_eq!(body["userName"], "ana@example.com");
    assert!(body["entitlements"].is_array());
    let short = bench.get("/api/2.0/preview/scim/v2/Me?excludedAttributes=entitlements");
    assert!(short.get("entitlements").is_none());
}

#[test]
fn a_wrong_token_is_refused_with_a_number_for_a_code() {
    let mut bench = Bench::new();
    let (status, body) = bench.call_as("wrong", "GET", "/api/2.0/preview/scim/v2/Me", &Value::Null);
    assert_eq!((status, &body["error_code"]), (403, &Value::from(403)));
    // The one service's token is nothing to the other.
    assert_eq!(bench.call_as(DBT_TOKEN, "GET", "/api/2.0/secrets/scopes/list", &Value::Null).0, 403);
    let (status, body) = bench.call_as(TOKEN, "GET", "/api/v3/accounts/", &Value::Null);
    assert_eq!((status, &body["status"]["user_message"]), (401, &Value::from("Invalid token.")));
}

#[test]
fn another_account_is_403_and_another_job_404() {
    let mut bench = Bench::new();
    let (status, body) = bench.call("GET", "/api/v2/accounts/1/jobs/222222/", &Value::Null);
    assert_eq!(
        (status, &body["status"]["user_message"]),
        (403, &Value::from("Access denied: Token is not scoped to account."))
    );
    let (status, body) = bench.call("GET", "/api/v2/accounts/51234/jobs/1/", &Value::Null);
    assert_eq!(status, 404);
    assert!(
        body["status"]["user_message"]
            .as_str()
            .is_some_and(|text| text.starts_with("The requested resource was not found."))
    );
}

#[test]
fn what_is_not_built_answers_501_with_its_name_and_a_wrong_method_as_the_services_do() {
    let mut bench = Bench::new();
    let (status, body) = bench.call("POST", "/api/2.2/jobs/runs/delete", &Value::Null);
    assert_eq!(status, 501);
    assert!(body["message"].as_str().is_some_and(|text| text.contains("POST /api/2.2/jobs/runs/delete")));
    let (status, body) = bench.call("GET", "/api/v2/accounts/51234/jobs/222222/run/", &Value::Null);
    assert_eq!((status, &body["detail"]), (405, &Value::from("Method \"GET\" not allowed.")));
    assert_eq!(bench.refused("GET", "/api/2.0/secrets/put", &Value::Null), (404, "ENDPOINT_NOT_FOUND".to_owned()));
}

#[test]
fn a_path_of_neither_service_is_not_built_whoever_asks() {
    let mut bench = Bench::new();
    assert_eq!(bench.call_as("wrong", "GET", "/oidc/v1/authorize", &Value::Null).0, 501);
    // What SDKs look for before their first call is absent, as on hosts without it.
    let (status, metadata) = bench.call_as("wrong", "GET", "/.well-known/databricks-config", &Value::Null);
    assert_eq!((status, metadata["oidc_endpoint"].as_str()), (200, Some("https://sandbox.invalid/oidc")), "{metadata}");
    assert_eq!(bench.call_as("wrong", "GET", "/.well-known/another-document", &Value::Null).0, 404);
}
