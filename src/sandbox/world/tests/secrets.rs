//! Secrets.

use http::Request;
use serde_json::{Value, json};

use super::{Bench, TOKEN};
use crate::sandbox::{Reply, SecretRefused, SimTime};

const CREATE: &str = "/api/2.0/secrets/scopes/create";
const PUT: &str = "/api/2.0/secrets/put";
const ACLS: &str = "/api/2.0/secrets/acls/list?scope=dbt-cloud";

fn with_scope() -> Bench {
    let mut bench = Bench::new();
    bench.post(CREATE, &json!({ "scope": "dbt-cloud" }));
    bench
}

/// curl's `-d` sends a form's content type by default.
#[test]
fn json_that_calls_itself_a_form_is_json() {
    let mut bench = Bench::new();
    let request = Request::post(format!("https://sandbox.invalid{CREATE}"))
        .header("Authorization", format!("Bearer {TOKEN}"))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(r#" {"scope":"dbt-cloud"}"#.into())
        .expect("a request");
    let Reply::Answer(answer) = bench.world.answer(SimTime(bench.now), &request) else { panic!("no answer") };
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(bench.get("/api/2.0/secrets/scopes/list")["scopes"][0]["name"], "dbt-cloud");
}

#[test]
fn a_scope_that_exists_is_refused_with_400_whatever_its_case() {
    let mut bench = with_scope();
    let (status, body) = bench.call("POST", CREATE, &json!({ "scope": "DBT-Cloud" }));
    assert_eq!((status, body["error_code"].as_str()), (400, Some("RESOURCE_ALREADY_EXISTS")));
    assert_eq!(body["message"], "Scope DBT-Cloud already exists!");
}

#[test]
fn lists_without_anything_in_them_lack_their_field() {
    let mut bench = Bench::new();
    assert_eq!(bench.get("/api/2.0/secrets/scopes/list"), json!({}));
    bench.post(CREATE, &json!({ "scope": "dbt-cloud" }));
    assert_eq!(bench.get("/api/2.0/secrets/list?scope=dbt-cloud"), json!({}));
    assert_eq!(
        bench.get("/api/2.0/secrets/scopes/list"),
        json!({ "scopes": [{ "name": "dbt-cloud", "backend_type": "DATABRICKS" }] })
    );
}

#[test]
fn the_creator_manages_a_scope_unless_everybody_does() {
    let mut bench = with_scope();
    assert_eq!(bench.get(ACLS)["items"], json!([{ "principal": "ana@example.com", "permission": "MANAGE" }]));
    bench.post(CREATE, &json!({ "scope": "open", "initial_manage_principal": "users" }));
    let open = bench.get("/api/2.0/secrets/acls/list?scope=open");
    assert_eq!(open["items"], json!([{ "principal": "users", "permission": "MANAGE" }]));
}

#[test]
fn without_the_premium_plan_only_a_scope_open_to_all_can_be_made() {
    let mut bench = Bench::new();
    bench.world.set_premium(false);
    assert_eq!(bench.refused("POST", CREATE, &json!({ "scope": "a" })), (400, "BAD_REQUEST".to_owned()));
    bench.post(CREATE, &json!({ "scope": "a", "initial_manage_principal": "users" }));
}

#[test]
fn a_value_put_as_text_or_bytes_is_read_back_as_base64_and_counted() {
    let mut bench = with_scope();
    bench.post(PUT, &json!({ "scope": "dbt-cloud", "key": "api-key", "string_value": "dbtc_x" }));
    assert_eq!(
        bench.get("/api/2.0/secrets/get?scope=dbt-cloud&key=api-key"),
        json!({ "key": "api-key", "value": "ZGJ0Y194" })
    );
    bench.wait(5).post(PUT, &json!({ "scope": "DBT-CLOUD", "key": "api-key", "bytes_value": "ZGJ0Y195" }));
    let listed = bench.get("/api/2.0/secrets/list?scope=dbt-cloud");
    assert_eq!(listed["secrets"][0]["last_updated_timestamp"], json!(bench.now));
    let inspected = bench.world.inspect();
    assert_eq!(inspected["scopes"]["dbt-cloud"]["secrets"]["api-key"]["version"], 2);
    assert!(!inspected.to_string().contains("dbtc_y"));
}

#[test]
fn what_the_secrets_service_refuses_is_refused() {
    let mut bench = with_scope();
    let long = "x".repeat(128 * 1024 + 1);
    for (path, body, status, code) in [
        (CREATE, json!({ "scope": "no spaces" }), 400, "INVALID_PARAMETER_VALUE"),
        (CREATE, json!({ "scope": "x".repeat(129) }), 400, "INVALID_PARAMETER_VALUE"),
        (CREATE, json!({}), 400, "INVALID_PARAMETER_VALUE"),
        (CREATE, json!({ "scope": 7 }), 400, "MALFORMED_REQUEST"),
        (CREATE, json!({ "scope": "kv", "scope_backend_type": "AZURE_KEYVAULT" }), 401, "UNAUTHENTICATED"),
        (PUT, json!({ "scope": "gone", "key": "k", "string_value": "v" }), 404, "RESOURCE_DOES_NOT_EXIST"),
        (PUT, json!({ "scope": "dbt-cloud", "key": "k" }), 400, "MALFORMED_REQUEST"),
        (
            PUT,
            json!({ "scope": "dbt-cloud", "key": "k", "string_value": "v", "bytes_value": "dg==" }),
            400,
            "MALFORMED_REQUEST",
        ),
        (PUT, json!({ "scope": "dbt-cloud", "key": "a@b", "string_value": "v" }), 400, "INVALID_PARAMETER_VALUE"),
        (PUT, json!({ "scope": "dbt-cloud", "key": "k", "string_value": long }), 400, "INVALID_PARAMETER_VALUE"),
        (
            "/api/2.0/secrets/acls/put",
            json!({ "scope": "dbt-cloud", "principal": "nobody", "permission": "READ" }),
            404,
            "RESOURCE_DOES_NOT_EXIST",
        ),
        (
            "/api/2.0/secrets/acls/put",
            json!({ "scope": "dbt-cloud", "principal": "users", "permission": "LOOK" }),
            400,
            "INVALID_PARAMETER_VALUE",
        ),
    ] {
        assert_eq!(bench.refused("POST", path, &body), (status, code.to_owned()), "{path}");
    }
    for (path, code) in [
        ("/api/2.0/secrets/list?scope=gone", "RESOURCE_DOES_NOT_EXIST"),
        ("/api/2.0/secrets/get?scope=dbt-cloud&key=gone", "RESOURCE_DOES_NOT_EXIST"),
        ("/api/2.0/secrets/acls/get?scope=dbt-cloud&principal=bo@example.com", "RESOURCE_DOES_NOT_EXIST"),
    ] {
        assert_eq!(bench.refused("GET", path, &Value::Null), (404, code.to_owned()));
    }
}

#[test]
fn a_key_vault_scope_is_listed_as_such_and_cannot_be_written() {
    let mut bench = Bench::new();
    bench.world.add_key_vault_scope("vault", &["api-key"]);
    let scopes = bench.get("/api/2.0/secrets/scopes/list");
    assert_eq!(scopes["scopes"][0]["backend_type"], "AZURE_KEYVAULT");
    let body = json!({ "scope": "vault", "key": "api-key", "string_value": "v" });
    assert_eq!(bench.refused("POST", PUT, &body), (400, "BAD_REQUEST".to_owned()));
}

#[test]
fn levels_are_read_write_manage_and_putting_an_acl_overwrites_it() {
    let mut bench = with_scope();
    bench.world.add_caller("carl@example.com", "carls-token", false, &["data-team"]);
    let list = "/api/2.0/secrets/list?scope=dbt-cloud";
    let put = json!({ "scope": "dbt-cloud", "key": "k", "string_value": "v" });
    assert_eq!(bench.call_as("carls-token", "GET", list, &Value::Null).0, 403);
    for (level, seen) in
        [("READ", (200, 403, 403)), ("WRITE", (200, 200, 403)), ("MANAGE", (200, 200, 200)), ("READ", (200, 403, 403))]
    {
        bench.post(
            "/api/2.0/secrets/acls/put",
            &json!({ "scope": "dbt-cloud", "principal": "data-team", "permission": level }),
        );
        let codes = (
            bench.call_as("carls-token", "GET", list, &Value::Null).0,
            bench.call_as("carls-token", "POST", PUT, &put).0,
            bench.call_as("carls-token", "GET", ACLS, &Value::Null).0,
        );
        assert_eq!(codes, seen, "{level}");
    }
}

#[test]
fn reading_outside_a_cluster_may_be_refused() {
    let mut bench = with_scope();
    bench.post(PUT, &json!({ "scope": "dbt-cloud", "key": "k", "string_value": "v" }));
    bench.world.set_secret_reading(false);
    assert_eq!(
        bench.refused("GET", "/api/2.0/secrets/get?scope=dbt-cloud&key=k", &Value::Null),
        (400, "BAD_REQUEST".to_owned())
    );
}

#[test]
fn the_first_reads_after_a_write_show_the_old_state_when_told_so() {
    let mut bench = with_scope();
    bench.world.set_stale_reads(2);
    bench.post(PUT, &json!({ "scope": "dbt-cloud", "key": "k", "string_value": "v" }));
    let list = "/api/2.0/secrets/list?scope=dbt-cloud";
    assert_eq!(bench.get(list), json!({}));
    assert_eq!(bench.get(list), json!({}));
    assert_eq!(bench.get(list)["secrets"][0]["key"], "k");
    // Another write does not make these reads stale.
    bench.post("/api/2.0/workspace/mkdirs", &json!({ "path": "/Shared/a" }));
    assert_eq!(bench.get(list)["secrets"][0]["key"], "k");
}

#[test]
fn a_run_reads_secrets_as_who_it_runs_as() {
    let mut bench = with_scope();
    bench.post(PUT, &json!({ "scope": "dbt-cloud", "key": "api-key", "string_value": "dbtc_x" }));
    let job = bench.notebook_job(&json!({}));
    let principal = "0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d11";
    bench.post(
        "/api/2.2/jobs/update",
        &json!({ "job_id": job, "new_settings": { "run_as": { "service_principal_name": principal } } }),
    );
    let status = bench.get("/api/2.0/workspace/get-status?path=/Users/ana@example.com/n");
    let grant =
        json!({ "access_control_list": [{ "service_principal_name": principal, "permission_level": "CAN_RUN" }] });
    bench.call("PATCH", &format!("/api/2.0/permissions/notebooks/{}", status["object_id"]), &grant);
    bench.run_now(job);
    bench.wait(60);
    let now = crate::sandbox::SimTime(bench.now);
    let task = bench.world.next_notebook(now).expect("a task").task_run_id;
    let refused = bench.world.read_secret(task, "dbt-cloud", "api-key").expect_err("no ACL");
    assert!(matches!(refused, SecretRefused::Forbidden { .. }), "{refused}");
    bench.post(
        "/api/2.0/secrets/acls/put",
        &json!({ "scope": "dbt-cloud", "principal": principal, "permission": "READ" }),
    );
    assert_eq!(bench.world.read_secret(task, "dbt-cloud", "api-key"), Ok("dbtc_x".to_owned()));
    let missing = bench.world.read_secret(task, "dbt-cloud", "gone").expect_err("no key");
    assert_eq!(missing.to_string(), "Secret does not exist with scope: dbt-cloud and key: gone");
}
