//! Tests of the world through requests, as clients send them.

mod dbt;
mod faults;
mod jobs;
mod oauth;
mod people;
mod removed;
mod repairs;
mod runs;
mod secrets;
mod setup;
mod workspace;

use bytes::Bytes;
use http::{Method, Request};
use serde_json::{Value, json};

use super::{Seed, World};
use crate::sandbox::{FaultRule, Reply, SimTime};

const START: i64 = 1_790_000_000_000;
const TOKEN: &str = "dapi-sandbox";
const DBT_TOKEN: &str = "dbtc_sandbox";
const RUNS: &str = "/api/v2/accounts/51234/runs/";

/// A world with a clock that the test advances.
struct Bench {
    world: World,
    now: i64,
}

impl Bench {
    fn new() -> Bench {
        let seed = Seed {
            databricks_token: TOKEN.to_owned(),
            dbt_token: DBT_TOKEN.to_owned(),
            start: SimTime(START),
            random: 7,
        };
        Bench { world: World::new(seed), now: START }
    }

    fn wait(&mut self, seconds: i64) -> &mut Bench {
        self.now += seconds * 1000;
        self
    }

    fn fault(&mut self, rule: &str) -> &mut Bench {
        self.world.add_fault(FaultRule::parse(rule).expect("a rule"));
        self
    }

    fn send(&mut self, method: &str, path: &str, token: &str, body: impl Into<Bytes>) -> Reply {
        let scheme = if path.starts_with("/api/v") { "Token" } else { "Bearer" };
        let request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).expect("a method"))
            .uri(format!("https://sandbox.invalid{path}"))
            .header("Authorization", format!("{scheme} {token}"))
            .body(body.into())
            .expect("a request");
        self.world.answer(SimTime(self.now), &request)
    }

    fn call(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let token = if path.starts_with("/api/2.") { TOKEN } else { DBT_TOKEN };
        self.call_as(token, method, path, body)
    }

    fn call_as(&mut self, token: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let sent = if body.is_null() { String::new() } else { body.to_string() };
        match self.send(method, path, token, sent) {
            Reply::Answer(answer) => {
                let body = serde_json::from_slice(answer.body()).unwrap_or(Value::Null);
                (answer.status().as_u16(), body)
            }
            other @ Reply::Broken(..) => panic!("no whole answer but {other:?}"),
        }
    }

    fn get(&mut self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, &Value::Null);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    fn post(&mut self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.call("POST", path, body);
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Returns the status and `error_code` of an error response from Databricks.
    fn refused(&mut self, method: &str, path: &str, body: &Value) -> (u16, String) {
        let (status, answer) = self.call(method, path, body);
        (status, answer["error_code"].as_str().unwrap_or_default().to_owned())
    }

    fn trigger(&mut self, job: i64, body: &Value) -> i64 {
        let answer = self.post(&format!("/api/v2/accounts/51234/jobs/{job}/run/"), body);
        answer["data"]["id"].as_i64().expect("a run id")
    }

    fn run(&mut self, id: i64) -> Value {
        self.get(&format!("{RUNS}{id}/?include_related=%5B%22trigger%22,%22run_steps%22%5D"))["data"].clone()
    }

    fn status(&mut self, id: i64) -> i64 {
        self.run(id)["status"].as_i64().expect("a status")
    }

    /// Creates a job with one serverless notebook task, and its notebook.
    fn notebook_job(&mut self, task: &Value) -> i64 {
        let source = "IyBEYXRhYnJpY2tzIG5vdGVib29rIHNvdXJjZQpwcmludCgxKQ=="; // header and `print(1)`
        self.post(
            "/api/2.0/workspace/import",
            &json!({ "path": "/Users/ana@example.com/n", "language": "PYTHON", "content": source, "overwrite": true }),
        );
        let mut whole = json!({
            "task_key": "dbt", "disable_auto_optimization": true,
            "notebook_task": { "notebook_path": "/Users/ana@example.com/n", "base_parameters": { "job_id": "1", "key": "{{job.run_id}}/{{task.name}}/{{task.execution_count}}" } },
        });
        for (name, value) in task.as_object().into_iter().flatten() {
            whole[name] = value.clone();
        }
        let settings =
            json!({ "name": "dbt", "parameters": [{ "name": "job_id", "default": "222222" }], "tasks": [whole] });
        self.post("/api/2.2/jobs/create", &settings)["job_id"].as_i64().expect("a job id")
    }

    fn run_now(&mut self, job: i64) -> i64 {
        self.post("/api/2.2/jobs/run-now", &json!({ "job_id": job }))["run_id"].as_i64().expect("a run id")
    }

    fn job_run(&mut self, run: i64) -> Value {
        self.get(&format!("/api/2.2/jobs/runs/get?run_id={run}"))
    }
}
