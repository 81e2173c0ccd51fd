//! Deleting and replacing, and multipart bodies.

use serde_json::{Value, json};

use super::{Bench, TOKEN};
use crate::sandbox::Reply;

const ACLS: &str = "/api/2.0/secrets/acls/list?scope=s";
const DELETE: &str = "/api/2.0/workspace/delete";
const HOME: &str = "/Users/ana@example.com";

fn absent() -> (u16, String) {
    (404, "RESOURCE_DOES_NOT_EXIST".to_owned())
}

#[test]
fn secrets_acls_and_scopes_are_deleted_once_and_not_in_a_key_vault() {
    let mut bench = Bench::new();
    bench.post("/api/2.0/secrets/scopes/create", &json!({ "scope": "s" }));
    bench.post("/api/2.0/secrets/put", &json!({ "scope": "s", "key": "k", "string_value": "v" }));
    let reader = json!({ "scope": "s", "principal": "analysts" });
    bench.post("/api/2.0/secrets/acls/put", &json!({ "scope": "s", "principal": "analysts", "permission": "READ" }));
    assert_eq!(bench.get(ACLS)["items"].as_array().map(Vec::len), Some(2));
    bench.post("/api/2.0/secrets/acls/delete", &reader);
    assert_eq!(bench.get(ACLS)["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(bench.refused("POST", "/api/2.0/secrets/acls/delete", &reader), absent());
    let secret = json!({ "scope": "s", "key": "k" });
    bench.post("/api/2.0/secrets/delete", &secret);
    assert_eq!(bench.refused("POST", "/api/2.0/secrets/delete", &secret), absent());
    bench.post("/api/2.0/secrets/scopes/delete", &json!({ "scope": "S" }));
    assert_eq!(bench.get("/api/2.0/secrets/scopes/list"), json!({}));
    assert_eq!(bench.refused("POST", "/api/2.0/secrets/scopes/delete", &json!({ "scope": "s" })), absent());
    bench.world.add_key_vault_scope("vault", &["k"]);
    let refused = bench.refused("POST", "/api/2.0/secrets/delete", &json!({ "scope": "vault", "key": "k" }));
    assert_eq!(refused, (400, "BAD_REQUEST".to_owned()));
}

#[test]
fn deleting_in_a_scope_needs_the_level_that_writing_needs() {
    let mut bench = Bench::new();
    bench.world.add_caller("kim@example.com", "dapi-kim", false, &[]);
    bench.post("/api/2.0/secrets/scopes/create", &json!({ "scope": "s" }));
    bench.post("/api/2.0/secrets/put", &json!({ "scope": "s", "key": "k", "string_value": "v" }));
    let grant = json!({ "scope": "s", "principal": "kim@example.com", "permission": "READ" });
    bench.post("/api/2.0/secrets/acls/put", &grant);
    for (path, body) in [
        ("delete", json!({ "scope": "s", "key": "k" })),
        ("acls/delete", json!({ "scope": "s", "principal": "ana@example.com" })),
        ("scopes/delete", json!({ "scope": "s" })),
    ] {
        let (status, answer) = bench.call_as("dapi-kim", "POST", &format!("/api/2.0/secrets/{path}"), &body);
        assert_eq!((status, answer["error_code"].as_str()), (403, Some("PERMISSION_DENIED")), "{path}");
    }
}

#[test]
fn folders_are_listed_and_deleted_with_their_contents_only_if_asked() {
    let mut bench = Bench::new();
    bench.post("/api/2.0/workspace/mkdirs", &json!({ "path": format!("{HOME}/a/b") }));
    let body = json!({ "path": format!("{HOME}/a/n"), "language": "PYTHON", "content": "cHJpbnQoMSk=" });
    bench.post("/api/2.0/workspace/import", &body);
    let list = format!("/api/2.0/workspace/list?path={HOME}/a");
    let paths = |answer: &Value| -> Vec<String> {
        let rows = answer["objects"].as_array().expect("rows");
        rows.iter().map(|row| row["path"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(paths(&bench.get(&list)), [format!("{HOME}/a/b"), format!("{HOME}/a/n")]);
    assert_eq!(paths(&bench.get(&format!("{list}/n"))), [format!("{HOME}/a/n")]);
    assert_eq!(bench.get(&format!("{list}/b")), json!({}));
    let refused = bench.refused("POST", DELETE, &json!({ "path": format!("{HOME}/a") }));
    assert_eq!(refused, (400, "DIRECTORY_NOT_EMPTY".to_owned()));
    bench.post(DELETE, &json!({ "path": format!("{HOME}/a"), "recursive": true }));
    let status = format!("/api/2.0/workspace/get-status?path={HOME}/a/n");
    assert_eq!(bench.refused("GET", &status, &Value::Null), absent());
    assert_eq!(bench.refused("POST", DELETE, &json!({ "path": format!("{HOME}/a") })), absent());
    assert_eq!(bench.refused("POST", DELETE, &json!({ "path": "/" })).0, 403);
}

#[test]
fn a_deleted_job_is_in_no_list_and_can_not_be_deleted_again() {
    let mut bench = Bench::new();
    let job = bench.notebook_job(&json!({}));
    bench.run_now(job);
    bench.post("/api/2.2/jobs/delete", &json!({ "job_id": job }));
    assert_eq!(bench.get("/api/2.2/jobs/list"), json!({ "has_more": false }));
    for (method, path, body) in [
        ("GET", format!("/api/2.2/jobs/get?job_id={job}"), Value::Null),
        ("POST", "/api/2.2/jobs/delete".to_owned(), json!({ "job_id": job })),
    ] {
        assert_eq!(bench.refused(method, &path, &body), (400, "INVALID_PARAMETER_VALUE".to_owned()), "{path}");
    }
}

#[test]
fn put_replaces_grants_and_leaves_a_job_exactly_one_owner() {
    let mut bench = Bench::new();
    let job = bench.notebook_job(&json!({}));
    let path = format!("/api/2.0/permissions/jobs/{job}");
    let entry = |who: &str, name: &str, level: &str| json!({ who: name, "permission_level": level });
    let list = |entries: &[Value]| json!({ "access_control_list": entries });
    bench.call("PATCH", &path, &list(&[entry("group_name", "analysts", "CAN_VIEW")]));
    let (owner, bo) =
        (entry("user_name", "ana@example.com", "IS_OWNER"), entry("user_name", "bo@example.com", "IS_OWNER"));
    let group = entry("group_name", "analysts", "IS_OWNER");
    for wrong in [&[][..], &[owner.clone(), bo.clone()], &[group]] {
        let refused = bench.refused("PUT", &path, &list(wrong));
        assert_eq!(refused, (400, "INVALID_PARAMETER_VALUE".to_owned()), "{wrong:?}");
    }
    // PATCH cannot set an owner, because the job already has one.
    let second = bench.refused("PATCH", &path, &list(std::slice::from_ref(&bo)));
    assert_eq!(second, (400, "INVALID_PARAMETER_VALUE".to_owned()));
    let (status, shown) =
        bench.call("PUT", &path, &list(&[bo, entry("group_name", "data-engineers", "CAN_MANAGE_RUN")]));
    assert_eq!(status, 200, "{shown}");
    let text = shown.to_string();
    assert!(text.contains("data-engineers") && !text.contains("analysts"), "{text}");
    let creator = bench.get(&format!("/api/2.2/jobs/get?job_id={job}"))["creator_user_name"].clone();
    assert_eq!(creator, "bo@example.com");
    let levels = bench.get(&format!("{path}/permissionLevels"))["permission_levels"].to_string();
    assert!(levels.contains("CAN_MANAGE_RUN"), "{levels}");
}

#[test]
fn a_notebook_comes_in_as_parts_too_and_broken_parts_are_refused() {
    let mut bench = Bench::new();
    let part = |name: &str, value: &str| {
        let file = if name == "content" { "; filename=\"content\"" } else { "" };
        format!("--xyz\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{value}\r\n")
    };
    let whole: String =
        [("path", "/Shared/n"), ("language", "PYTHON"), ("overwrite", "true"), ("content", "a\r\n\r\nb")]
            .map(|(name, value)| part(name, value))
            .concat();
    let mut send = |body: String, kind: &str| {
        let request = http::Request::post("https://sandbox.invalid/api/2.0/workspace/import")
            .header("Authorization", format!("Bearer {TOKEN}"))
            .header("Content-Type", kind)
            .body(body.into())
            .expect("a request");
        match bench.world.answer(crate::sandbox::SimTime(bench.now), &request) {
            Reply::Answer(answer) => answer.status().as_u16(),
            other @ Reply::Broken(..) => panic!("no whole answer but {other:?}"),
        }
    };
    let kind = "multipart/form-data; boundary=xyz";
    for _ in 0..2 {
        assert_eq!(send(format!("{whole}--xyz--\r\n"), kind), 200);
    }
    assert_eq!(send(whole.clone(), kind), 400, "without an end");
    assert_eq!(send(format!("{whole}--xyz--\r\n"), "multipart/form-data"), 400, "without a boundary");
    assert_eq!(send(String::new(), kind), 400, "without anything");
    let body = bench.get("/api/2.0/workspace/export?path=/Shared/n&direct_download=false");
    assert_eq!(body["content"], "IyBEYXRhYnJpY2tzIG5vdGVib29rIHNvdXJjZQphCgpi");
}
