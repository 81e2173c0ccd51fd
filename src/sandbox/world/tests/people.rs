//! Users and authentication.

use serde_json::{Value, json};

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
    // Each service refuses the other's token.
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
    let (status, body) = bench.call("POST", "/api/2.2/jobs/runs/export", &Value::Null);
    assert_eq!(status, 501);
    assert!(body["message"].as_str().is_some_and(|text| text.contains("POST /api/2.2/jobs/runs/export")));
    let (status, body) = bench.call("GET", "/api/v2/accounts/51234/jobs/222222/run/", &Value::Null);
    assert_eq!((status, &body["detail"]), (405, &Value::from("Method \"GET\" not allowed.")));
    assert_eq!(bench.refused("GET", "/api/2.0/secrets/put", &Value::Null), (404, "ENDPOINT_NOT_FOUND".to_owned()));
}

#[test]
fn what_the_databricks_cli_asks_beside_jobs_is_answered() {
    let mut bench = Bench::new();
    let groups = bench.get("/api/2.0/preview/scim/v2/Groups?filter=displayName%20eq%20%22analysts%22");
    assert_eq!((&groups["totalResults"], &groups["Resources"][0]["displayName"]), (&json!(1), &json!("analysts")));
    assert_eq!(bench.get("/api/2.0/sql/warehouses"), json!({}));
}

#[test]
fn a_path_of_neither_service_is_not_built_whoever_asks() {
    let mut bench = Bench::new();
    assert_eq!(bench.call_as("wrong", "GET", "/oidc/v1/authorize", &Value::Null).0, 501);
    // SDKs read the host metadata before their first call; other documents are absent.
    let (status, metadata) = bench.call_as("wrong", "GET", "/.well-known/databricks-config", &Value::Null);
    assert_eq!((status, metadata["oidc_endpoint"].as_str()), (200, Some("https://sandbox.invalid/oidc")), "{metadata}");
    assert_eq!(bench.call_as("wrong", "GET", "/.well-known/another-document", &Value::Null).0, 404);
}

#[test]
fn scim_lists_give_one_user_or_service_principal_with_its_groups() {
    let mut bench = Bench::new();
    bench.world.add_caller("cy@example.com", "dapi-cy", false, &["analysts"]);
    let groups = |body: &Value| -> Vec<String> {
        let groups = body["Resources"][0]["groups"].as_array().expect("groups").iter();
        groups.map(|group| group["display"].as_str().expect("a name").to_owned()).collect()
    };
    let of = |kind: &str, field: &str, name: &str| {
        format!("/api/2.0/preview/scim/v2/{kind}?filter={field}%20eq%20%22{name}%22")
    };
    assert_eq!(groups(&bench.get(&of("Users", "userName", "ana@example.com"))), ["users", "admins"]);
    assert_eq!(groups(&bench.get(&of("Users", "userName", "cy@example.com"))), ["users", "analysts"]);
    let principal = "0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d11";
    assert_eq!(groups(&bench.get(&of("ServicePrincipals", "applicationId", principal))), ["users"]);
    let none = bench.get(&of("Users", "userName", "nobody@example.com"));
    assert_eq!((&none["totalResults"], none.get("Resources")), (&json!(0), None));
    let named = bench.get(&of("ServicePrincipals", "displayName", principal));
    assert_eq!(named["Resources"][0]["applicationId"], principal);
    // SDKs identify users by id and request pages until one is empty.
    let page = |start: u64| format!("/api/2.0/preview/scim/v2/Users?startIndex={start}&count=2");
    let (first, second) = (bench.get(&page(1)), bench.get(&page(3)));
    assert_eq!((first["Resources"].as_array().map(Vec::len), &first["totalResults"]), (Some(2), &json!(3)));
    assert_ne!(first["Resources"][0]["id"], first["Resources"][1]["id"]);
    assert_eq!(second["Resources"].as_array().map(Vec::len), Some(1));
    assert_eq!(bench.get(&page(4)).get("Resources"), None);
}

#[test]
fn runs_are_made_to_act_as_a_service_principal_by_whoever_has_the_role_on_it_and_by_no_administrator() {
    let mut bench = Bench::new();
    bench.world.add_caller("cy@example.com", "dapi-cy", false, &[]);
    let create = "/api/2.2/jobs/create";
    let job = |field: &str, name: &str| json!({ "name": "x", "tasks": [], "run_as": { field: name } });
    let (mine, other) = ("0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d11", "0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d12");
    bench.world.add_caller(other, "dapi-other", false, &[]);
    for (token, field, name, status) in [
        ("dapi-sandbox", "service_principal_name", mine, 200),
        ("dapi-sandbox", "service_principal_name", other, 403),
        ("dapi-sandbox", "user_name", "bo@example.com", 200),
        ("dapi-sandbox", "user_name", "bo@nowhere", 400),
        ("dapi-sandbox", "user_name", "nobody@example.com", 400),
        ("dapi-sandbox", "service_principal_name", "0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d13", 400),
        ("dapi-cy", "service_principal_name", mine, 403),
        ("dapi-cy", "user_name", "bo@example.com", 403),
        ("dapi-cy", "user_name", "cy@example.com", 200),
    ] {
        assert_eq!(bench.call_as(token, "POST", create, &job(field, name)).0, status, "{token} {name}");
    }
}
