//! Workspace objects.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Bench;
use crate::sandbox::Reply;

const IMPORT: &str = "/api/2.0/workspace/import";
const HOME: &str = "/Users/ana@example.com";

fn notebook(path: &str, text: &str) -> Value {
    json!({ "path": path, "format": "SOURCE", "language": "PYTHON", "content": STANDARD.encode(text), "overwrite": true })
}

fn exported(bench: &mut Bench, path: &str) -> String {
    let body = bench.get(&format!("/api/2.0/workspace/export?path={path}&format=SOURCE"));
    let bytes = STANDARD.decode(body["content"].as_str().expect("content")).expect("base64");
    String::from_utf8(bytes).expect("text")
}

#[test]
fn import_makes_no_parents_and_mkdirs_makes_all_of_them() {
    let mut bench = Bench::new();
    let body = notebook("/Users/ana@example.com/a/b/n", "x");
    assert_eq!(bench.refused("POST", IMPORT, &body), (404, "RESOURCE_DOES_NOT_EXIST".to_owned()));
    bench.post("/api/2.0/workspace/mkdirs", &json!({ "path": "/Workspace/Users/ana@example.com/a/b" }));
    bench.post("/api/2.0/workspace/mkdirs", &json!({ "path": "/Users/ana@example.com//a/b" }));
    assert!(bench.post(IMPORT, &body)["object_id"].is_i64());
    let under = json!({ "path": "/Users/ana@example.com/a/b/n/deeper" });
    assert_eq!(bench.refused("POST", "/api/2.0/workspace/mkdirs", &under), (400, "RESOURCE_ALREADY_EXISTS".to_owned()));
}

#[test]
fn exactly_one_newline_at_the_end_is_lost() {
    let mut bench = Bench::new();
    let header = "# Databricks notebook source\n";
    for (put, got) in [("foobar\n", "foobar"), ("foobar", "foobar"), ("foobar\n\n", "foobar\n")] {
        bench.post(IMPORT, &notebook("/Users/ana@example.com/n", &format!("{header}{put}")));
        assert_eq!(exported(&mut bench, "/Workspace/Users/ana@example.com/n"), format!("{header}{got}"));
    }
}

#[test]
fn export_is_canonical_and_a_canonical_notebook_comes_back_as_it_was() {
    let mut bench = Bench::new();
    bench.post(IMPORT, &notebook("/Shared/n", "a = 1\r\n# COMMAND ----------\r\n\r\n\r\nb = 2"));
    let canonical = "# Databricks notebook source\na = 1\n\n# COMMAND ----------\n\nb = 2";
    assert_eq!(exported(&mut bench, "/Shared/n"), canonical);
    bench.post(IMPORT, &notebook("/Shared/n", canonical));
    assert_eq!(exported(&mut bench, "/Shared/n"), canonical);
}

#[test]
fn overwriting_keeps_the_id_and_needs_to_be_asked_for() {
    let mut bench = Bench::new();
    let first = bench.post(IMPORT, &notebook("/Shared/n", "a"));
    assert_eq!(bench.post(IMPORT, &notebook("/Shared/n", "b")), first);
    let mut body = notebook("/Shared/n", "c");
    body["overwrite"] = json!(false);
    assert_eq!(bench.refused("POST", IMPORT, &body), (400, "RESOURCE_ALREADY_EXISTS".to_owned()));
    let file = json!({ "path": "/Shared/f.txt", "format": "AUTO", "content": "YQ==" });
    bench.post(IMPORT, &file);
    assert_eq!(bench.refused("POST", IMPORT, &file), (409, "RESOURCE_ALREADY_EXISTS".to_owned()));
    assert_eq!(bench.refused("POST", IMPORT, &notebook("/Shared/f.txt", "x")).0, 400);
    assert_eq!(bench.refused("POST", IMPORT, &notebook("/Shared", "x")).0, 400);
}

#[test]
fn source_keeps_the_ending_of_a_path_and_auto_drops_it() {
    let mut bench = Bench::new();
    bench.post(IMPORT, &notebook("/Shared/a.py", "x"));
    assert_eq!(bench.get("/api/2.0/workspace/get-status?path=/Shared/a.py")["object_type"], "NOTEBOOK");
    let content = STANDARD.encode("# Databricks notebook source\nx");
    bench.post(IMPORT, &json!({ "path": "/Shared/b.py", "format": "AUTO", "content": content }));
    assert_eq!(bench.get("/api/2.0/workspace/get-status?path=/Shared/b")["language"], "PYTHON");
    let no_language = json!({ "path": "/Shared/c", "format": "SOURCE", "content": content });
    let (status, body) = bench.call("POST", IMPORT, &no_language);
    assert_eq!(status, 400);
    assert!(body["message"].as_str().is_some_and(|text| text.starts_with("The zip file may not be valid")));
}

#[test]
fn what_is_absent_and_what_is_hidden_look_the_same() {
    let mut bench = Bench::new();
    bench.world.add_caller("carl@example.com", "carls-token", false, &[]);
    bench.post(IMPORT, &notebook("/Users/ana@example.com/n", "x"));
    let path = format!("/api/2.0/workspace/get-status?path={HOME}/n");
    let (status, body) = bench.call_as("carls-token", "GET", &path, &Value::Null);
    assert_eq!((status, body["message"].as_str()), (404, Some("Path (/Users/ana@example.com/n) doesn't exist.")));
    assert_eq!(bench.refused("GET", "/api/2.0/workspace/get-status?path=/nowhere", &Value::Null).0, 404);
    assert_eq!(bench.refused("GET", "/api/2.0/workspace/get-status?path=nowhere", &Value::Null).0, 400);
    assert_eq!(bench.call_as("carls-token", "POST", IMPORT, &notebook("/Users/ana@example.com/m", "x")).0, 403);
    assert_eq!(bench.call_as("carls-token", "POST", IMPORT, &notebook("/Shared/m", "x")).0, 200);
}

#[test]
fn a_notebook_above_ten_megabytes_is_refused_and_other_formats_are_not_built() {
    let mut bench = Bench::new();
    let huge = notebook("/Shared/n", &"x".repeat(10 * 1024 * 1024 + 1));
    assert_eq!(bench.refused("POST", IMPORT, &huge), (400, "MAX_NOTEBOOK_SIZE_EXCEEDED".to_owned()));
    let other = json!({ "path": "/Shared/n", "format": "JUPYTER", "content": "" });
    assert_eq!(bench.refused("POST", IMPORT, &other), (501, "NOT_IMPLEMENTED".to_owned()));
}

#[test]
#[expect(clippy::print_stdout, reason = "the line is what the test is for")]
fn files_are_imported_raw_and_become_notebooks_by_name_and_header() {
    let mut bench = Bench::new();
    let at =
        |name: &str| format!("/api/2.0/workspace-files/import-file/Workspace%2FUsers%2Fana%40example.com%2F{name}");
    let cases = [
        ("a.txt", "plain", "a.txt", "FILE"),
        ("a%20b.json", "{\"path\": \"elsewhere\"}", "a%20b.json", "FILE"),
        ("module.py", "x = 1", "module.py", "FILE"),
        ("one.py", "# Databricks notebook source\nx", "one", "NOTEBOOK"),
        ("two.sql", "-- Databricks notebook source\nselect 1", "two", "NOTEBOOK"),
        ("three.scala", "// Databricks notebook source\nx", "three", "NOTEBOOK"),
        ("four.r", "# Databricks notebook source\nx", "four", "NOTEBOOK"),
        ("five.sql", "# Databricks notebook source\nx", "five.sql", "FILE"),
    ];
    let mut right = 0;
    for (name, content, stored, kind) in cases {
        let mut sent = |query: &str| match bench.send("POST", &format!("{}{query}", at(name)), super::TOKEN, content) {
            Reply::Answer(answer) => answer.status().as_u16(),
            other @ Reply::Broken(..) => panic!("{name}: {other:?}"),
        };
        assert_eq!(sent(""), 200, "{name}");
        assert_eq!(sent("?overwrite=false"), if kind == "FILE" { 409 } else { 400 }, "{name}");
        assert_eq!(sent("?overwrite=true"), 200, "{name}");
        assert_eq!(exported(&mut bench, &format!("{HOME}/{stored}")), content, "{name}");
        let status = bench.get(&format!("/api/2.0/workspace/get-status?path={HOME}/{stored}"));
        assert_eq!(status["object_type"], kind, "{name}");
        right += 1;
    }
    println!("FILES: {right} of {}", cases.len());
    for (path, refused) in [("Shared%2Fno%2Fparent.txt", 404), ("Users%2Fana%40example.com%2Fn.ipynb", 501)] {
        let path = format!("/api/2.0/workspace-files/import-file/{path}");
        assert_eq!(bench.call("POST", &path, &json!({})).0, refused, "{path}");
    }
}

#[test]
fn permissions_are_inherited_and_patch_changes_only_who_is_named() {
    let mut bench = Bench::new();
    bench.world.add_caller("eve@example.com", "dapi-eve", false, &[]);
    let id = bench.post(IMPORT, &notebook("/Users/ana@example.com/n", "x"))["object_id"].clone();
    let path = format!("/api/2.0/permissions/notebooks/{id}");
    let grant =
        |who: &str, level: &str| json!({ "access_control_list": [{ "user_name": who, "permission_level": level }] });
    assert_eq!(bench.call("PATCH", &path, &grant("bo@example.com", "CAN_RUN")).0, 200);
    assert_eq!(bench.call("PATCH", &path, &grant("eve@example.com", "CAN_READ")).0, 200);
    let shown = bench.get(&path);
    assert_eq!((&shown["object_id"], &shown["object_type"]), (&json!(format!("/notebooks/{id}")), &json!("notebook")));
    let direct: Vec<&str> = shown["access_control_list"]
        .as_array()
        .expect("entries")
        .iter()
        .filter(|entry| entry["all_permissions"][0]["inherited"] == false)
        .map(|entry| entry["user_name"].as_str().expect("a name"))
        .collect();
    assert_eq!(direct, ["bo@example.com", "eve@example.com"]);
    for nobody in ["nobody", "nobody@example.com", "0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d13"] {
        assert_eq!(bench.call("PATCH", &path, &grant(nobody, "CAN_READ")).0, 404, "{nobody}");
    }
    assert_eq!(bench.call("PATCH", &path, &grant("bo@example.com", "CAN_VIEW")).0, 400);
    let shared = bench.post(IMPORT, &notebook("/Shared/n", "x"))["object_id"].clone();
    let shown = bench.get(&format!("/api/2.0/permissions/notebooks/{shared}"));
    assert!(
        shown["access_control_list"].as_array().expect("entries").iter().any(|entry| entry["group_name"] == "users")
    );
}
