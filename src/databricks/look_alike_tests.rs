//! Compatible servers that differ from Databricks in small ways: lists absent, null or empty, a success without a body,
//! an error without a code, an ID above 2^53, access control lists that return 501.

use std::collections::BTreeMap;

use std::fmt::Debug;

use bytes::Bytes;
use http::{Response, StatusCode};

use super::permissions::{NotebookLevel, grant_on_notebook, notebook_permissions};
use super::secrets::{Permission, ScopeName, acls, create_open_scope, create_scope, list, put_acl, scopes};
use super::workspace::{NotebookPath, get_status, import, mkdirs};
use super::*;
use crate::http::{Fault, HttpError, Idempotent, NonIdempotent, Read};

/// Above 2^53, where an `f64` loses the last digit.
const ID: u64 = 9_007_199_254_740_993;

fn answer(status: u16, body: &str) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::from(body.to_owned()));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}

/// The parsed value in `Debug` form, or the reason why it is unreadable.
fn read<T: Debug>(parse: fn(&Response<Bytes>) -> Result<T, BodyProblem>, body: &str) -> String {
    parse(&answer(200, body)).map_or_else(|shape| format!("unreadable: {shape}"), |value| format!("{value:?}"))
}

fn scope() -> ScopeName {
    "dbt".parse().unwrap()
}

fn path() -> NotebookPath {
    "/Users/a/x".parse().unwrap()
}

#[test]
fn a_list_may_be_absent_null_or_empty() {
    type Reader = Box<dyn Fn(&str) -> String>;
    let lists: [(&str, &str, Reader); 8] = [
        (
            "jobs/runs/list",
            "runs",
            Box::new(|body| {
                read(|answer| (list_workflow_runs(1, false, None).parse)(answer).map(|page| page.runs.rows), body)
            }),
        ),
        ("secrets/scopes/list", "scopes", Box::new(|body| read(scopes().parse, body))),
        ("secrets/list", "secrets", Box::new(|body| read(list(&scope()).parse, body))),
        (
            "secrets/acls/list",
            "items",
            Box::new(|body| read(|answer| (acls(&scope()).parse)(answer).map(|all| all.rows), body)),
        ),
        (
            "secrets/acls/list",
            "acls",
            Box::new(|body| read(|answer| (acls(&scope()).parse)(answer).map(|all| all.rows), body)),
        ),
        (
            "permissions/get",
            "access_control_list",
            Box::new(|body| read(|answer| (notebook_permissions(1).parse)(answer).map(|all| all.rows), body)),
        ),
        (
            "jobs/list",
            "jobs",
            Box::new(|body| read(|answer| (jobs::list(None, None).parse)(answer).map(|page| page.jobs.rows), body)),
        ),
        (
            "jobs/list by name",
            "jobs",
            Box::new(|body| read(|answer| (list_workflows_named("x", None).parse)(answer).map(|page| page.jobs), body)),
        ),
    ];
    for (operation, field, parse) in lists {
        for body in ["{}".to_owned(), format!(r#"{{"{field}":null}}"#), format!(r#"{{"{field}":[]}}"#)] {
            assert_eq!(parse(&body), "[]", "{operation} {body}");
        }
        assert!(parse("7").starts_with("unreadable") && parse("").starts_with("unreadable"), "{operation}");
    }
    for tasks in ["", r#","tasks":null"#, r#","tasks":[]"#] {
        let body = format!(r#"{{"run_id":1{tasks}}}"#);
        let Read { call: _, parse } = get_workflow_run(1, None);
        assert_eq!(parse(&answer(200, &body)).unwrap().attempts().len(), 0, "{body}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of all lists")]
fn one_odd_element_hides_no_other_and_counts_where_it_may_be_what_is_looked_for() {
    type Reader = Box<dyn Fn(&str) -> String>;
    type Named = fn(&str) -> String;
    fn lists<T: Debug>(parse: impl Fn() -> fn(&Response<Bytes>) -> Result<T, BodyProblem> + 'static) -> Reader {
        Box::new(move |body| read(parse(), body))
    }
    let holds = r#""all_permissions":[{"permission_level":"CAN_VIEW"}]"#;
    let holder = |name: &str| format!(r#"{{"user_name":"{name}",{holds}}}"#);
    // Operation, field of the list, an element with a given name, whether unreadable elements are counted, parser.
    let all: [(&str, &str, Named, bool, Reader); 14] = [
        ("secrets/scopes/list", "scopes", |name| format!(r#"{{"name":"{name}"}}"#), false, lists(|| scopes().parse)),
        ("secrets/list", "secrets", |name| format!(r#"{{"key":"{name}"}}"#), false, lists(|| list(&scope()).parse)),
        (
            "secrets/acls/list",
            "items",
            |name| format!(r#"{{"principal":"{name}"}}"#),
            true,
            lists(|| acls(&scope()).parse),
        ),
        (
            "permissions/get",
            "access_control_list",
            |name| format!(r#"{{"user_name":"{name}","all_permissions":[{{"permission_level":"X"}}]}}"#),
            true,
            lists(|| notebook_permissions(1).parse),
        ),
        (
            "permissions/get of a job",
            "access_control_list",
            |name| format!(r#"{{"user_name":"{name}","all_permissions":[{{"permission_level":"X"}}]}}"#),
            true,
            lists(|| permissions::job_permissions(1).parse),
        ),
        (
            "jobs/list",
            "jobs",
            |name| format!(r#"{{"job_id":1,"settings":{{"name":"{name}"}}}}"#),
            true,
            lists(|| jobs::list(None, None).parse),
        ),
        (
            "jobs/list by name",
            "jobs",
            |name| format!(r#"{{"job_id":1,"settings":{{"name":"{name}"}}}}"#),
            false,
            lists(|| list_workflows_named("x", None).parse),
        ),
        (
            "jobs/runs/list",
            "runs",
            |name| format!(r#"{{"run_id":1,"run_name":"{name}"}}"#),
            true,
            lists(|| list_workflow_runs(1, false, None).parse),
        ),
        (
            "jobs/runs/get",
            "run_id\":1,\"tasks",
            |name| format!(r#"{{"run_id":1,"task_key":"{name}"}}"#),
            false,
            lists(|| get_workflow_run(1, None).parse),
        ),
        (
            "clusters/list",
            "clusters",
            |name| format!(r#"{{"cluster_id":"{name}"}}"#),
            false,
            lists(|| clusters::list().parse),
        ),
        (
            "clusters/list-node-types",
            "node_types",
            |name| format!(r#"{{"node_type_id":"{name}"}}"#),
            false,
            lists(|| clusters::node_types().parse),
        ),
        (
            "clusters/spark-versions",
            "versions",
            |name| format!(r#"{{"key":"{name}"}}"#),
            false,
            lists(|| clusters::spark_versions().parse),
        ),
        (
            "policies/clusters/list",
            "policies",
            |name| format!(r#"{{"policy_id":"{name}"}}"#),
            false,
            lists(|| clusters::policies().parse),
        ),
        (
            "scim/users",
            "Resources",
            |name| format!(r#"{{"userName":"{name}"}}"#),
            false,
            lists(|| me::users_named("x").parse),
        ),
    ];
    let odd = ["7", "null", r#""x""#, "[[]]", "true"];
    let (mut good, mut wrong) = (0, Vec::new());
    for (operation, field, element, counts, parse) in &all {
        for odd in odd {
            let body = format!(r#"{{"{field}":[{},{odd},{}]}}"#, element("first"), element("last"));
            let read = parse(&body);
            if read.contains("first") && read.contains("last") && (!counts || read.contains("unreadable: 1")) {
                good += 1;
            } else {
                wrong.push(format!("{operation} {body}: {read}"));
            }
        }
    }
    // Levels within an entry, and groups of a user.
    let entry = format!(
        r#"{{"access_control_list":[{},{{"user_name":"b","all_permissions":[7,{{"permission_level":"X"}}]}}]}}"#,
        holder("a")
    );
    assert_eq!(
        (notebook_permissions(1).parse)(&answer(200, &entry)).map(|all| (all.rows.len(), all.unreadable)),
        Ok((2, 1))
    );
    let groups = r#"{"Resources":[{"groups":[{"display":"a"},7]}]}"#;
    assert_eq!((me::groups_of("b").parse)(&answer(200, groups)).unwrap().unwrap().len(), 2);
    crate::sim::say(&format!("lists of Databricks with one odd element: {good} of {}", all.len() * odd.len()));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn fields_of_a_row_may_be_null_and_unknown_ones_are_passed_over() {
    assert!(read(scopes().parse, r#"{"scopes":[{"name":null,"backend_type":null,"new":{}}]}"#).contains("Databricks"));
    let keys = r#"{"secrets":[{"key":null},{"key":"api-key","last_updated_timestamp":null,"new":1}]}"#;
    assert!(read(list(&scope()).parse, keys).contains("api-key"));
    let items = r#"{"items":[{"principal":null,"permission":null},{"principal":"users","permission":"FANCY"}]}"#;
    assert!(read(acls(&scope()).parse, items).contains("FANCY"));
    let entries = r#"{"access_control_list":[{"user_name":null,"all_permissions":null},{}]}"#;
    assert_eq!(read(notebook_permissions(1).parse, entries), "Rows { rows: [], unreadable: 0 }");
    let rows =
        r#"{"jobs":[{"job_id":1},{"job_id":2,"settings":null},{"job_id":3,"settings":{"name":null,"tags":null}}]}"#;
    assert!(read(|answer| (jobs::list(None, None).parse)(answer).map(|page| page.jobs.rows.len()), rows) == "3");
    assert!(!read(list_workflows_named("x", None).parse, rows).starts_with("unreadable"));
    assert!(!read(get_workflow(1).parse, r#"{"job_id":1,"settings":null}"#).starts_with("unreadable"));
    for history in ["null", "[]", "7", r#"[{"task_run_ids":null,"start_time":null,"state":null,"new":1}]"#] {
        let task = r#"{"run_id":2,"start_time":null,"original_attempt_run_id":null,"condition_task":null,"for_each_task":null}"#;
        let run = format!(r#"{{"run_id":1,"repair_history":{history},"tasks":[{task}]}}"#);
        let read = read(
            |answer| (get_workflow_run(1, None).parse)(answer).map(|run| (run.repairs(), run.attempts().len())),
            &run,
        );
        assert_eq!(read, "(0, 1)", "{history}");
    }
    let rows = r#"{"runs":[{"run_id":1,"state":null,"start_time":null,"run_page_url":null}],"has_more":null,"next_page_token":null}"#;
    assert!(!read(list_workflow_runs(1, true, None).parse, rows).starts_with("unreadable"));
    let run = r#"{"run_id":1,"state":null,"status":null,"tasks":[{"run_id":2,"task_key":null,"state":null}]}"#;
    assert!(read(|answer| (get_workflow_run(1, None).parse)(answer).map(|run| run.attempts().len()), run) == "1");
    assert!(!read(get_task_output(1).parse, r#"{"notebook_output":null,"error":null}"#).starts_with("unreadable"));
    let status = r#"{"object_id":null,"object_type":null,"language":null}"#;
    assert!(!read(get_status(&path()).parse, status).starts_with("unreadable"));
    let me = r#"{"userName":"a","groups":null,"emails":null,"active":"yes"}"#;
    assert!(!read(me::me().parse, me).starts_with("unreadable"));
}

#[test]
fn a_success_may_have_no_body_where_nothing_is_told_and_never_where_an_id_is() {
    let key = crate::secret::Vault::default().admit("dbtc_1234567890".to_owned()).unwrap();
    let puts: [(&str, Idempotent<()>); 9] = [
        ("secrets/scopes/create", create_scope(&scope())),
        ("secrets/scopes/create", create_open_scope(&scope())),
        ("secrets/put", secrets::put(&scope(), &"api-key".parse().unwrap(), &key)),
        ("secrets/acls/put", put_acl(&scope(), "x", Permission::Read)),
        ("workspace/mkdirs", mkdirs("/a")),
        ("workspace/import", import(&path(), "", true)),
        ("permissions/update", grant_on_notebook(1, super::permissions::Principal::User, "x", NotebookLevel::CanRun)),
        ("jobs/update", jobs::update(1, &jobs::Update::default())),
        ("jobs/delete", jobs::delete(1)),
    ];
    for (operation, Idempotent { call: _, parse }) in puts {
        for body in ["", "{}", r#"{"object_id":1,"new":[]}"#] {
            assert_eq!(read(parse, body), "()", "{operation} {body:?}");
        }
        for body in ["<html></html>", "[]", "OK", "null"] {
            assert!(read(parse, body).starts_with("unreadable"), "{operation} {body:?}");
        }
    }
    let NonIdempotent { call: _, parse } = jobs::create(&raw::Raw::default());
    let Idempotent { call: _, parse: start } = run_now(1, "x", &BTreeMap::new());
    for body in ["", "{}", "null"] {
        assert!(read(parse, body).starts_with("unreadable") && read(start, body).starts_with("unreadable"), "{body:?}");
    }
}

#[test]
fn ids_above_what_a_double_holds_keep_their_last_digit() {
    let id = ID.to_string();
    for (operation, text) in [
        ("workspace/get-status", read(get_status(&path()).parse, &format!(r#"{{"object_id":{id}}}"#))),
        ("jobs/list", read(jobs::list(None, None).parse, &format!(r#"{{"jobs":[{{"job_id":{id}}}]}}"#))),
        (
            "jobs/list by name",
            read(list_workflows_named("x", None).parse, &format!(r#"{{"jobs":[{{"job_id":{id}}}]}}"#)),
        ),
        ("jobs/get", read(jobs::get_page(1, None).parse, &format!(r#"{{"job_id":{id},"settings":{{}}}}"#))),
        ("jobs/get by id", read(get_workflow(1).parse, &format!(r#"{{"job_id":{id}}}"#))),
        ("jobs/create", read(jobs::create(&raw::Raw::default()).parse, &format!(r#"{{"job_id":{id}}}"#))),
        ("jobs/run-now", read(run_now(1, "x", &BTreeMap::new()).parse, &format!(r#"{{"run_id":{id}}}"#))),
        (
            "jobs/runs/list",
            read(list_workflow_runs(1, false, None).parse, &format!(r#"{{"runs":[{{"run_id":{id}}}]}}"#)),
        ),
        ("jobs/runs/get", read(get_workflow_run(1, None).parse, &format!(r#"{{"run_id":{id}}}"#))),
    ] {
        assert!(text.contains(&id), "{operation}: {text}");
    }
    for target in [
        notebook_permissions(ID).call.target(),
        get_workflow(ID).call.target(),
        get_workflow_run(ID, None).call.target(),
        list_workflow_runs(ID, true, Some("t")).call.target(),
        get_task_output(ID).call.target(),
        jobs::get_page(ID, None).call.target(),
    ] {
        assert!(target.contains(&id), "{target}");
    }
}

fn error(status: u16, body: &str) -> HttpError {
    let answer = answer(status, body);
    HttpError {
        service: "Databricks",
        operation: "secrets/acls/list",
        origin: "https://x".to_owned(),
        fault: Fault::Status(answer.status(), parse_error(&answer)),
        attempts: 1,
        request_id: None,
        exceeded: None,
    }
}

#[test]
fn an_error_without_a_code_is_told_by_its_status_and_words() {
    // Expected: missing, already exists, no access control lists.
    for (status, body, expected) in [
        (404, r#"{"error_code":"RESOURCE_DOES_NOT_EXIST","message":"gone"}"#, [true, false, false]),
        (404, r#"{"message":"gone"}"#, [true, false, false]),
        (404, "", [true, false, false]),
        (404, r#"{"error_code":null,"message":null}"#, [true, false, false]),
        (404, "<html><title>nginx</title>", [false, false, false]),
        (400, r#"{"message":"Scope x does not exist!"}"#, [true, false, false]),
        (400, r#"{"message":"Scope x already exists!"}"#, [false, true, false]),
        (400, r#"{"error_code":"","message":"RESOURCE_ALREADY_EXISTS: /a"}"#, [false, true, false]),
        (409, "", [false, true, false]),
        (400, r#"{"error_code":"INVALID_PARAMETER_VALUE","message":"a job of this name already exists"}"#, [false; 3]),
        (501, "", [false, false, true]),
        (501, r#"{"error_code":"NOT_IMPLEMENTED"}"#, [false, false, true]),
        (501, "<html><title>Not Implemented</title>", [false, false, true]),
        (400, r#"{"error_code":"FEATURE_DISABLED","message":"no"}"#, [false, false, true]),
        (403, r#"{"error_code":"PERMISSION_DENIED","message":"no"}"#, [false; 3]),
        (500, "", [false; 3]),
    ] {
        let error = error(status, body);
        assert_eq!([is_missing(&error), is_there_already(&error), has_no_acls(&error)], expected, "{status} {body}");
    }
    // A disabled feature may also be a 404, so callers check `has_no_acls` before `is_missing`.
    let disabled = error(404, r#"{"error_code":"FEATURE_DISABLED","message":"no"}"#);
    assert!(has_no_acls(&disabled));
    // An empty body is an error where a value is expected.
    let Read { call: _, parse } = scopes();
    assert!(parse(&answer(200, "")).is_err());
}
