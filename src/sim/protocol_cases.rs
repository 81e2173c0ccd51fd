//! The cases of `tests/protocol`, which the notebook runs too, through the command's protocol.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use serde_json::{Value, json};

use super::scene::{JOB, ReportedOutcome, Scene, SimHost, TOKEN, key_of, on_paused_time};
use super::service::Service;
use crate::dbt::{End, Overrides};
use crate::runs::{Journal, Key};
use crate::sandbox::{FaultRule, Reply, Seed, SimTime, World};

const DAY: i64 = 86_400_000;
const OWN_KEY: &str = "7405609032100112/1055/dbt_222222/0";

/// A call by the case itself, which is not counted.
fn call(world: &mut World, now: SimTime, path: &str, body: &Value) -> Value {
    let request = http::Request::builder()
        .method("POST")
        .uri(format!("https://sandbox.invalid/api/v2/accounts/51234/{path}"))
        .header("authorization", format!("Token {TOKEN}"))
        .header("content-type", "application/json")
        .body(Bytes::from(body.to_string()))
        .unwrap();
    let Reply::Answer(answer) = world.answer(now, &request) else { panic!("{path}") };
    assert!(answer.status().is_success(), "{path}: {answer:?}");
    serde_json::from_slice(answer.body()).unwrap()
}

/// Creates the earlier runs of the case, and returns the world at its start.
fn earlier(case: &Value, start: SimTime) -> World {
    let mut world = World::new(Seed {
        databricks_token: "dapi_simulation_token_0123456789".to_owned(),
        dbt_token: TOKEN.to_owned(),
        start: start.plus(-9 * DAY),
        random: 1,
    });
    let mut made: Vec<Value> = Vec::new();
    for run in case["earlier"].as_array().unwrap() {
        let at = start.plus(-run["age_s"].as_i64().unwrap() * 1000);
        let key = match run["key"].as_str().unwrap_or("own") {
            "other" => "other/1".to_owned(),
            "longer" => format!("{OWN_KEY}0"),
            _ => OWN_KEY.to_owned(),
        };
        let answer = if let Some(resumed) = run["resumes"].as_u64() {
            let resumed = &made[usize::try_from(resumed).unwrap()];
            call(&mut world, at, &format!("runs/{resumed}/retry/"), &json!({}))
        } else {
            let mut body = run["overrides"].as_object().cloned().unwrap_or_default();
            body.insert("cause".to_owned(), json!(format!("[dbtrigger:{key}] Triggered by Databricks Workflows")));
            call(&mut world, at, &format!("jobs/{}/run/", case["job"]), &Value::Object(body))
        };
        let id = answer["data"]["id"].clone();
        if run["outcome"] == "cancelled" {
            call(&mut world, at.plus(60_000), &format!("runs/{id}/cancel/"), &json!({}));
        }
        made.push(id);
    }
    world.set_listing_lag(case["lag_ms"].as_i64().unwrap());
    world.set_fresh_404(case["fresh_404_ms"].as_i64().unwrap());
    for rule in case["faults"].as_array().unwrap() {
        world.add_fault(FaultRule::parse(rule.as_str().unwrap()).unwrap());
    }
    world
}

/// The exit codes for a verdict of the cases.
fn codes(verdict: &str) -> &'static [u8] {
    match verdict {
        "success" => &[0],
        "error" => &[3],
        "cancelled" => &[20],
        "unknown" => &[9],
        "refused" => &[7, 2],
        "rejected" => &[1, 2],
        "not-allowed" => &[4],
        "not-found" => &[6],
        "unavailable" => &[75],
        "network" => &[12],
        other => panic!("no such verdict: {other}"),
    }
}

fn code_of(reported: &ReportedOutcome) -> u8 {
    match reported {
        ReportedOutcome::Ended { end, .. } => match end {
            Some(End::Success) => 0,
            Some(End::Error) => 3,
            Some(End::Cancelled) => 20,
            None => 70,
        },
        ReportedOutcome::NotStarted(error) => {
            let limit = crate::http::Limit::Own(std::time::Duration::ZERO);
            crate::failure::of_start("222222", "start", "page", limit, error).code.exit()
        }
        ReportedOutcome::Left { error: Some(error), .. } => crate::failure::of_dbt("cannot follow", error).code.exit(),
        ReportedOutcome::Left { error: None, .. } => 8,
        ReportedOutcome::Killed => 137,
    }
}

async fn wrong(case: &Value) -> Option<String> {
    let start = super::scene::START;
    let key = (case["key"] == "fixed").then(|| OWN_KEY.to_owned());
    let overrides = &case["overrides"];
    let scene = Scene {
        key,
        job: case["job"].as_u64().unwrap_or(JOB),
        overrides: Overrides(overrides.as_object().cloned().unwrap_or_default()),
        ..Scene::new(Vec::new())
    };
    let world = earlier(case, start);
    let ids = |world: &World| -> Vec<Value> { world.inspect()["dbt_runs"].as_array().unwrap().clone() };
    let before: BTreeSet<String> = ids(&world).iter().map(|run| run["id"].to_string()).collect();
    let host = SimHost::on(world);
    *host.transport.service.borrow_mut() = Service::of(case);
    let key: Key = key_of(&scene);
    let reported = host.start(&scene, &Journal::default(), &key).await;
    host.transport.world.borrow_mut().advance(host.transport.now().plus(DAY));
    let made: Vec<Value> = ids(&host.transport.world.borrow())
        .into_iter()
        .filter(|run| !before.contains(&run["id"].to_string()))
        .collect();
    let posts = u64::from(host.transport.posts.get());
    let expect = &case["expect"];
    let posts_fit = match expect["posts"].as_array() {
        Some(range) => (range[0].as_u64()..=range[1].as_u64()).contains(&Some(posts)),
        None => expect["posts"].as_u64() == Some(posts),
    };
    let worked = made.iter().filter(|run| run["worked"] == true).count() as u64;
    let reported_fits = match &reported {
        ReportedOutcome::Ended { run: _, end: _, adopted, duplicates } => {
            expect.get("adopted").is_none_or(|expected| expected.as_bool() == Some(*adopted))
                && expect["duplicates"].as_u64().unwrap_or(0) == duplicates.len() as u64
        }
        ReportedOutcome::NotStarted(_) | ReportedOutcome::Left { run: _, error: _ } | ReportedOutcome::Killed => true,
    };
    let good = posts_fit
        && reported_fits
        && expect["runs_made"].as_u64() == Some(made.len() as u64)
        && expect["runs_worked"].as_u64() == Some(worked)
        && codes(expect["verdict"].as_str().unwrap()).contains(&code_of(&reported));
    (!good).then(|| {
        format!(
            "expected {expect}\n  got posts {posts}, made {}, worked {worked}, code {}, {reported:?}\n  said {:#?}",
            made.len(),
            code_of(&reported),
            host.remarks.borrow()
        )
    })
}

#[test]
fn every_protocol_case_comes_out_of_the_command_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/protocol");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|item| item.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    let (mut total, mut failed) = (0, Vec::new());
    for path in paths {
        let case: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        if case["only"] == "notebook" {
            continue;
        }
        total += 1;
        if let Some(why) = on_paused_time(wrong(&case)) {
            failed.push(format!("{}: {why}", case["name"]));
        }
    }
    super::say(&format!("protocol cases, command on the sandbox's world: {} of {total}", total - failed.len()));
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
