//! The protocol cases through the real notebook, in virtual time, against the sandbox's world.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use serde_json::{Value, json};

use super::service::Service;
use crate::dbt::Field;
use crate::notebook::{Settings, render};
use crate::origin::Origin;
use crate::sandbox::{Cut, FaultRule, Reply, Seed, SimTime, World};

const TOKEN: &str = "dbtc_0123456789abcdefABCDEF+/=x";
const HOST: &str = "https://sandbox.invalid";
const KEY: &str = "7405609032100112/1055/dbt_222222/0";
const START: i64 = 1_767_225_600_000;
const DAY: i64 = 86_400_000;

/// `notebook_runner.py`, which runs one case after another.
struct Driver {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Driver {
    fn start() -> Driver {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/notebook/notebook_runner.py");
        let mut child = Command::new("python3")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 on this machine");
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Driver { child, input, output }
    }

    fn tell(&mut self, message: &Value) {
        writeln!(self.input, "{message}").expect("the driver listens");
        self.input.flush().expect("the driver listens");
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the driver speaks");
        serde_json::from_str(&line).expect("the driver speaks JSON")
    }

    fn end(mut self) {
        drop(self.input);
        self.child.wait().expect("the driver ends");
    }
}

/// The service's side of one case.
struct Side {
    world: World,
    service: Service,
    triggers: u64,
    resumes: u64,
}

impl Side {
    fn answer(&mut self, request: &Value) -> Value {
        let mut built = Request::builder()
            .method(request["method"].as_str().unwrap())
            .uri(request["url"].as_str().unwrap())
            .header("host", "sandbox.invalid");
        for (name, value) in request["headers"].as_object().unwrap() {
            built = built.header(name, value.as_str().unwrap());
        }
        let body = Bytes::from(request["body"].as_str().unwrap_or_default().to_owned());
        let built = built.body(body).unwrap();
        match World::route(&built).map(|route| route.operation) {
            Some("dbt:jobs/run") => self.triggers += 1,
            Some("dbt:runs/retry") => self.resumes += 1,
            Some(_) | None => {}
        }
        match self.service.answer(&mut self.world, SimTime(request["now"].as_i64().unwrap()), &built) {
            Reply::Answer(answer) => whole(&answer),
            // The notebook does not reuse connections.
            Reply::Broken(Cut::Stale, answer) => whole(&answer),
            Reply::Broken(cut, answer) => json!({"cut": cut.name(), "head": whole(&answer)}),
        }
    }

    /// A call by the case itself, which is not counted.
    fn call(&mut self, now: i64, method: &str, path: &str, body: &Value) -> Value {
        let request = Request::builder()
            .method(method)
            .uri(format!("{HOST}/api/v2/accounts/51234/{path}"))
            .header("host", "sandbox.invalid")
            .header("authorization", format!("Token {TOKEN}"))
            .header("content-type", "application/json")
            .body(Bytes::from(body.to_string()))
            .unwrap();
        let Reply::Answer(answer) = self.world.answer(SimTime(now), &request) else { panic!("{method} {path}") };
        assert!(answer.status().is_success(), "{method} {path}: {answer:?}");
        serde_json::from_slice(answer.body()).unwrap()
    }

    fn runs(&self) -> Vec<Value> {
        self.world.inspect()["dbt_runs"].as_array().unwrap().clone()
    }
}

fn whole(answer: &Response<Bytes>) -> Value {
    let headers: serde_json::Map<String, Value> = answer
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), json!(String::from_utf8_lossy(value.as_bytes()))))
        .collect();
    json!({"status": answer.status().as_u16(), "headers": headers, "body_base64": STANDARD.encode(answer.body())})
}

fn source() -> String {
    let settings = Settings {
        host: Origin::parse(HOST).unwrap(),
        account_id: 51234,
        scope: "dbt-cloud".to_owned(),
        key: "api-key".to_owned(),
        allow_override: ["git_branch", "threads_override"].map(|name| Field::named(name).unwrap()).to_vec(),
        allow_job: Vec::new(),
    };
    render(&settings, "0.1.0")
}

/// Creates the earlier runs of a case.
fn earlier(side: &mut Side, case: &Value) {
    let job = case["job"].as_u64().unwrap();
    let mut made = Vec::new();
    for run in case["earlier"].as_array().unwrap() {
        let at = START - run["age_s"].as_i64().unwrap() * 1000;
        let key = match run["key"].as_str().unwrap_or("own") {
            "other" => "other/1".to_owned(),
            "longer" => format!("{KEY}0"),
            _ => KEY.to_owned(),
        };
        let answer = if let Some(resumed) = run["resumes"].as_u64() {
            let resumed = &made[usize::try_from(resumed).unwrap()];
            side.call(at, "POST", &format!("runs/{resumed}/retry/"), &json!({}))
        } else {
            let mut body = run["overrides"].as_object().cloned().unwrap_or_default();
            body.insert("cause".to_owned(), json!(format!("[dbtrigger:{key}] Triggered by Databricks Workflows")));
            side.call(at, "POST", &format!("jobs/{job}/run/"), &Value::Object(body))
        };
        let id = answer["data"]["id"].clone();
        if run["outcome"] == "cancelled" {
            side.call(at + 60_000, "POST", &format!("runs/{id}/cancel/"), &json!({}));
        }
        made.push(id);
    }
}

/// Runs one case; returns the actual and the expected outcome.
fn play(driver: &mut Driver, source: &str, case: &Value) -> (Value, Value) {
    let world = World::new(Seed {
        databricks_token: "dapi0123456789".to_owned(),
        dbt_token: TOKEN.to_owned(),
        start: SimTime(START - 9 * DAY),
        random: 1,
    });
    let mut side = Side { world, service: Service::of(case), triggers: 0, resumes: 0 };
    earlier(&mut side, case);
    let before: BTreeSet<String> = side.runs().iter().map(|run| run["id"].to_string()).collect();
    side.world.set_listing_lag(case["lag_ms"].as_i64().unwrap());
    side.world.set_fresh_404(case["fresh_404_ms"].as_i64().unwrap());
    for rule in case["faults"].as_array().unwrap() {
        side.world.add_fault(FaultRule::parse(rule.as_str().unwrap()).unwrap());
    }
    let key = if case["key"] == "fixed" { KEY } else { "" };
    let overrides = case.get("overrides").unwrap_or(&json!({})).to_string();
    let widgets = json!({
        "job_id": case["job"].to_string(), "dbtrigger_key": key, "dbtrigger_overrides": overrides,
    });
    driver.tell(&json!({"case": {"source": source, "widgets": widgets, "secret": TOKEN, "start_ms": START}}));
    let done = loop {
        let mut message = driver.hear();
        if message.get("done").is_some() {
            break message["done"].take();
        }
        let reply = side.answer(&message);
        driver.tell(&reply);
    };
    assert_eq!(done["violation"], Value::Null);
    // A day later every run has ended.
    let tick = Request::builder().uri(format!("{HOST}/api/v2/accounts/")).body(Bytes::new()).unwrap();
    let _ = side.world.answer(SimTime(done["now"].as_i64().unwrap() + DAY), &tick);
    let made: Vec<Value> = side.runs().into_iter().filter(|run| !before.contains(&run["id"].to_string())).collect();
    let ended: Value = serde_json::from_str(done["exit"].as_str().unwrap_or("null")).unwrap();
    let verdict = if done["exception"].is_null() {
        json!(ended["status"].as_str().unwrap_or_default().to_lowercase())
    } else {
        done["exception"]["reason"].clone()
    };
    let mut expect = case["expect"].clone();
    for (name, value) in case["notebook"].as_object().into_iter().flatten() {
        expect[name] = value.clone();
    }
    let mut got = json!({
        "posts": side.triggers, "runs_made": made.len(),
        "runs_worked": made.iter().filter(|run| run["worked"] == true).count(), "verdict": verdict,
    });
    if expect["posts"].is_array()
        && (expect["posts"][0].as_u64()..=expect["posts"][1].as_u64()).contains(&Some(side.triggers))
    {
        expect["posts"] = got["posts"].clone();
    }
    if expect.get("retries").is_some() {
        got["retries"] = json!(side.resumes);
    }
    if ended.is_object() {
        got["adopted"] = ended["adopted"].clone();
        got["duplicates"] = json!(ended["duplicates"].as_array().map_or(0, Vec::len));
        expect["duplicates"] = json!(expect["duplicates"].as_u64().unwrap_or(0));
    } else {
        expect.as_object_mut().unwrap().shift_remove("adopted");
        expect.as_object_mut().unwrap().shift_remove("duplicates");
    }
    if got != expect {
        got["done"] = done;
    }
    (got, expect)
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/protocol");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    paths
}

#[test]
#[ignore = "takes long; .ci/run runs it"]
fn every_protocol_case_comes_out_of_the_notebook_as_expected() {
    let mut driver = Driver::start();
    let source = source();
    let paths = cases();
    let mut wrong = Vec::new();
    for path in &paths {
        let case: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let (got, expect) = play(&mut driver, &source, &case);
        if got != expect {
            wrong.push(format!("{}\n  expected {expect}\n  got      {got}", case["name"]));
        }
    }
    driver.end();
    let right = paths.len() - wrong.len();
    super::say(&format!("protocol cases, notebook on the sandbox's world: {right} of {}", paths.len()));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
