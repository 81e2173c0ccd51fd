//! The fault catalogue of reliability.md, in memory.

use http::header::{CONTENT_ENCODING, LOCATION, RETRY_AFTER};
use serde_json::{Value, json};

use super::{Bench, DBT_TOKEN, TOKEN};
use crate::sandbox::{Cut, FaultKind, FaultRule, Phase, Reply};

const RUN: &str = "/api/v2/accounts/51234/jobs/222222/run/";

fn triggered(bench: &Bench) -> usize {
    let inspected = bench.world.inspect();
    inspected["dbt_runs"].as_array().expect("runs").iter().filter(|run| run["seeded"] == false).count()
}

fn struck(rule: &str) -> (Reply, usize) {
    let mut bench = Bench::new();
    let reply = bench.fault(rule).send("POST", RUN, DBT_TOKEN, json!({ "cause": "c" }).to_string());
    let count = triggered(&bench);
    (reply, count)
}

#[test]
fn every_class_leaves_no_effect_before_and_exactly_one_after() {
    for class in FaultKind::catalogue() {
        for (phase, name, effects) in [(Phase::Before, "before", 0), (Phase::After, "after", 1)] {
            if class.allows(phase) {
                let (_, count) = struck(&format!("dbt:jobs/run={class},phase={name}"));
                assert_eq!(count, effects, "{class} {name}");
            }
        }
    }
}

#[test]
fn no_answer_spoilt_before_the_effect_claims_a_run() {
    for class in FaultKind::catalogue() {
        if class.allows(Phase::Before)
            && let (Reply::Answer(answer), _) = struck(&format!("dbt:jobs/run={class}"))
        {
            let body: Value = serde_json::from_slice(answer.body()).unwrap_or(Value::Null);
            assert!(body["data"].get("id").is_none(), "{class}: {body}");
        }
    }
}

#[test]
fn every_class_becomes_the_cut_or_answer_that_it_names() {
    let after = |class: &str| struck(&format!("dbt:jobs/run={class},phase=after")).0;
    assert!(matches!(struck("dbt:jobs/run=no-name").0, Reply::Broken(Cut::NoName, _)));
    assert!(matches!(struck("dbt:jobs/run=tls").0, Reply::Broken(Cut::Tls, _)));
    assert!(matches!(after("reset"), Reply::Broken(Cut::Reset, _)));
    assert!(matches!(after("hang"), Reply::Broken(Cut::Hang, _)));
    assert!(matches!(after("huge"), Reply::Broken(Cut::Huge, _)));
    assert!(matches!(after("kill"), Reply::Broken(Cut::Kill, _)));
    assert!(matches!(after("kill-during"), Reply::Broken(Cut::KillDuring, answer) if answer.status() == 200));
    assert!(
        matches!(after("truncated"), Reply::Broken(Cut::Truncated, answer) if answer.body().starts_with(b"{\"status\""))
    );
}

#[test]
fn statuses_carry_the_body_that_usually_goes_with_them() {
    let body_of = |rule: &str| match struck(rule).0 {
        Reply::Answer(answer) => answer,
        other @ Reply::Broken(..) => panic!("{other:?}"),
    };
    assert!(body_of("dbt:jobs/run=status=502").body().starts_with(b"<html>"));
    assert!(body_of("dbt:jobs/run=status=503").body().is_empty());
    let limited = body_of("dbt:jobs/run=retry-after=7");
    assert_eq!((limited.status().as_u16(), &limited.headers()[RETRY_AFTER]), (429, &"7".parse().expect("a value")));
    assert_eq!(body_of("dbt:jobs/run=retry-after-date=7").headers()[RETRY_AFTER], "Mon, 21 Sep 2026 14:13:27 GMT");
    assert_eq!(
        body_of("dbt:jobs/run=redirect=https://elsewhere.invalid/x").headers()[LOCATION],
        "https://elsewhere.invalid/x"
    );
    let login = body_of("dbt:jobs/run=login");
    assert_eq!(
        (login.status().as_u16(), &login.headers()["content-type"]),
        (200, &"text/html; charset=utf-8".parse().expect("a value"))
    );
    let unauthenticated: Value = serde_json::from_slice(body_of("dbt:jobs/run=status=401").body()).expect("JSON");
    assert_eq!(unauthenticated["status"]["user_message"], "Invalid token.");
}

#[test]
fn a_read_spoilt_before_shows_the_true_state_spoilt() {
    let mut bench = Bench::new();
    bench.fault("dbt:runs/get=unknown-status");
    let row = bench.get("/api/v2/accounts/51234/runs/123442/");
    assert_eq!((&row["data"]["status"], &row["data"]["id"]), (&json!(99), &json!(123_442)));
    assert_eq!(row["status"]["code"], 200);
    bench.fault("databricks:scim/me=null-data");
    assert_eq!(bench.get("/api/2.0/preview/scim/v2/Me")["userName"], Value::Null);
}

#[test]
fn the_bomb_is_small_on_the_wire_and_its_packing_is_announced() {
    let Reply::Answer(answer) = struck("dbt:jobs/run=gzip-bomb").0 else { panic!("no answer") };
    assert_eq!(answer.headers()[CONTENT_ENCODING], "gzip");
    assert!(answer.body().len() < 1024 * 1024);
}

#[test]
fn a_call_with_a_wrong_token_is_not_counted() {
    let mut bench = Bench::new();
    bench.world.add_fault(FaultRule::parse("databricks:*=reset").expect("a rule"));
    bench.call_as("wrong", "GET", "/api/2.0/secrets/scopes/list", &Value::Null);
    assert!(matches!(bench.send("GET", "/api/2.0/secrets/scopes/list", TOKEN, ""), Reply::Broken(Cut::Reset, _)));
}

#[test]
fn two_worlds_of_one_seed_are_the_same() {
    let mut worlds = [Bench::new(), Bench::new()];
    let [first, second] = worlds.each_mut().map(|bench| {
        bench.trigger(222_222, &json!({ "cause": "c" }));
        bench.notebook_job(&json!({}));
        bench.wait(1000);
        bench.world.advance(crate::sandbox::SimTime(bench.now));
        bench.world.inspect()
    });
    assert_eq!(first, second);
}
