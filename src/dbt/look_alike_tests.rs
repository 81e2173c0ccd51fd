//! Compatible servers that differ from dbt in small ways. A response without rows must never be read as an empty list
//! of runs: "no such run" decides whether to trigger again.

use std::fmt::Debug;

use bytes::Bytes;
use http::{Response, StatusCode};

use super::*;
use crate::http::{BodyProblem, Idempotent, NonIdempotent, Read};

/// Above 2^53, where an `f64` loses the last digit.
const ID: u64 = 9_007_199_254_740_993;

fn answer(status: u16, body: &str) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::from(body.to_owned()));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}

fn read<T: Debug>(parse: fn(&Response<Bytes>) -> Result<T, BodyProblem>, body: &str) -> String {
    parse(&answer(200, body)).map_or_else(|shape| format!("unreadable: {shape}"), |value| format!("{value:?}"))
}

#[test]
fn an_empty_list_is_empty_and_an_absent_or_null_one_is_no_answer() {
    type Reader = Box<dyn Fn(&str) -> String>;
    let lists: [(&str, Reader); 3] = [
        ("accounts/list", Box::new(|body| read(list_accounts().parse, body))),
        ("accounts/list v2", Box::new(|body| read(list_accounts_v2().parse, body))),
        ("runs/list", Box::new(|body| read(list_runs(1, 2, 0, PAGE).parse, body))),
    ];
    for (operation, parse) in lists {
        for body in [
            r#"{"data":[]}"#,
            r#"{"data":[],"extra":null,"status":null}"#,
            r#"{"data":[],"extra":{"pagination":null,"filters":7}}"#,
            r#"{"data":[],"extra":{"pagination":{"total_count":"0"}},"new":[]}"#,
        ] {
            assert!(parse(body).contains("rows: []"), "{operation} {body}: {}", parse(body));
        }
        for body in ["", "{}", r#"{"data":null}"#, r#"{"data":{}}"#, r#"{"data":""}"#, "[]", "null"] {
            assert!(parse(body).starts_with("unreadable"), "{operation} {body}");
        }
    }
    // The results file has no envelope, and is only displayed.
    for body in ["{}", r#"{"results":null}"#, r#"{"results":[]}"#] {
        assert_eq!(read(get_run_results(1, 2, 3).parse, body), "RunResults { results: [] }", "{body}");
    }
}

#[test]
fn one_odd_row_hides_no_other_and_is_counted() {
    type Reader = Box<dyn Fn(&str) -> String>;
    type Named = fn(&str) -> String;
    let named: Named = |name| format!(r#"{{"id":1,"name":"{name}"}}"#);
    let run: Named = |name| format!(r#"{{"id":1,"status_message":"{name}"}}"#);
    let filter = RunFilter::default();
    let all: [(&str, &str, Named, bool, Reader); 9] = [
        ("accounts/list", "data", named, true, Box::new(|body| read(list_accounts().parse, body))),
        ("accounts/list v2", "data", named, true, Box::new(|body| read(list_accounts_v2().parse, body))),
        ("projects/list", "data", named, true, Box::new(|body| read(list_projects(1, 0, 9).parse, body))),
        (
            "jobs/list",
            "data",
            named,
            true,
            Box::new(|body| read(list_jobs(1, &JobFilter::default(), 0, 9).parse, body)),
        ),
        ("runs/list", "data", run, true, Box::new(|body| read(list_runs(1, 2, 0, PAGE).parse, body))),
        (
            "runs/list of all",
            "data",
            run,
            true,
            Box::new(move |body| read(list_account_runs(1, &filter, 0, 9).parse, body)),
        ),
        ("runs/list of some", "data", run, true, Box::new(|body| read(list_these_runs(1, &[1]).parse, body))),
        (
            "runs/artifacts/list",
            "data",
            |name| format!(r#""{name}""#),
            false,
            Box::new(|body| read(list_artifacts(1, 2).parse, body)),
        ),
        (
            "run_results.json",
            "results",
            |name| format!(r#"{{"unique_id":"{name}"}}"#),
            false,
            Box::new(|body| read(get_run_results(1, 2, 3).parse, body)),
        ),
    ];
    let odd = ["7", "null", "{\"id\":[]}", "[[]]", "true"];
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
    crate::sim::say(&format!("lists of dbt with one odd element: {good} of {}", all.len() * odd.len()));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn fields_that_are_only_shown_may_be_null_absent_or_of_another_type() {
    let bare = [
        r#"{"data":{"id":1}}"#,
        r#"{"data":{"id":1,"status":null,"trigger":null,"run_steps":null,"blocked_by":null,"href":null,"project_id":null}}"#,
        r#"{"data":{"id":1,"status":"x","trigger":[],"run_steps":{},"blocked_by":7,"href":7,"created_at":7,"is_error":"no"}}"#,
    ];
    for body in bare {
        for parse in [get_run(1, 1).parse, get_run_with_trigger(1, 1).parse, get_run_with_steps(1, 1).parse] {
            assert!(!read(parse, body).starts_with("unreadable"), "{body}: {}", read(parse, body));
        }
        assert!(!read(get_job(1, 1).parse, body).starts_with("unreadable"), "{body}");
        assert!(!read(cancel_run(1, 1).parse, body).starts_with("unreadable"), "{body}");
    }
    let job = r#"{"data":{"id":1,"name":null,"triggers":null,"state":"1","deactivated":"no","job_type":7}}"#;
    assert!(!read(get_job(1, 1).parse, job).starts_with("unreadable"));
    let accounts = r#"{"data":[{"id":1,"name":null,"plan":7,"locked":"no","lock_reason":{}}]}"#;
    assert!(!read(list_accounts().parse, accounts).starts_with("unreadable"));
    let results = r#"{"results":[{"unique_id":null,"status":null,"message":7,"failures":"3"},{}]}"#;
    assert!(!read(get_run_results(1, 2, 3).parse, results).starts_with("unreadable"));
}

#[test]
fn a_success_without_a_body_starts_nothing_that_is_known() {
    let NonIdempotent { call: _, parse } = trigger(1, 2, "x", &Overrides::default(), TRIGGER_LIMIT);
    let Idempotent { call: _, parse: cancel } = cancel_run(1, 2);
    let Read { call: _, parse: look } = get_run(1, 2);
    for body in ["", "{}", r#"{"status":{"code":200}}"#, r#"{"data":null}"#, r#"{"data":{}}"#] {
        for parse in [parse, cancel, look] {
            assert!(read(parse, body).starts_with("unreadable"), "{body}");
        }
    }
}

#[test]
fn ids_above_what_a_double_holds_keep_their_last_digit() {
    let id = ID.to_string();
    let (one, many) = (format!(r#"{{"data":{{"id":{id}}}}}"#), format!(r#"{{"data":[{{"id":{id}}}]}}"#));
    for (operation, text) in [
        ("jobs/get", read(get_job(1, 1).parse, &one)),
        ("runs/get", read(get_run(1, 1).parse, &one)),
        ("runs/cancel", read(cancel_run(1, 1).parse, &one)),
        ("jobs/run", read(trigger(1, 2, "x", &Overrides::default(), TRIGGER_LIMIT).parse, &one)),
        ("runs/list", read(list_runs(1, 2, 0, PAGE).parse, &many)),
        ("accounts/list", read(list_accounts().parse, &many)),
    ] {
        assert!(text.contains(&id), "{operation}: {text}");
    }
    for target in [
        get_job(ID, 1).call.target(),
        get_run(1, ID).call.target(),
        cancel_run(1, ID).call.target(),
        list_runs(1, ID, 0, PAGE).call.target(),
        get_run_results(1, ID, 4).call.target(),
    ] {
        assert!(target.contains(&id), "{target}");
    }
}

#[test]
fn an_error_says_what_it_can_whatever_its_shape() {
    for (status, body, message) in [
        (404, "", ""),
        (404, "{}", "{}"),
        (404, r#"{"status":null,"data":null}"#, r#"{"status":null,"data":null}"#),
        (404, r#"{"status":{"user_message":null,"developer_message":"no such run"}}"#, "no such run"),
        (403, r#"{"detail":"denied"}"#, "denied"),
        (500, "null", "null"),
        (400, r#"{"data":{"cause":null}}"#, "cause: null"),
    ] {
        assert_eq!(parse_error(&answer(status, body)).message, message, "{status} {body}");
    }
}
