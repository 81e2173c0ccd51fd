//! End to end: a job created and started over HTTP, its notebook in real Python, its result read over HTTP.

#![expect(clippy::disallowed_methods, reason = "these tests look for the machine's Python")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::sandbox::{Handle, Options, Sandbox, Seed, SimTime, start};

const TOKEN: &str = "dapi-sandbox-token";
const PATH: &str = "/Users/ana@example.com/a notebook";

fn options() -> Options {
    let mut options = Options::new(Seed {
        databricks_token: TOKEN.to_owned(),
        dbt_token: "dbtc_sandbox-token".to_owned(),
        start: SimTime(1_800_000_000_000),
        random: 7,
    });
    options.speed = 600.0;
    options
}

async fn sandbox() -> Sandbox {
    let mut options = options();
    options.search_path = std::env::var_os("PATH");
    // Only used if the machine's Python lacks `requests`.
    options.python_environment = Some(std::env::temp_dir().join("dbtrigger-sandbox-python"));
    start(options).await.expect("a sandbox")
}

async fn call(to: &Handle, method: &str, path: &str, body: &Value) -> Value {
    let address = to.origin().strip_prefix("http://").expect("an origin");
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: sandbox\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(head.as_bytes()).await.expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 "), "{method} {path}: {answer}");
    serde_json::from_str(body).expect("JSON")
}

/// Creates and starts a job with one notebook task, and returns the run id.
async fn begin(on: &Handle, source: &str) -> i64 {
    let import = json!({
        "path": PATH, "format": "SOURCE", "language": "PYTHON", "overwrite": true, "content": STANDARD.encode(source),
    });
    call(on, "POST", "/api/2.0/workspace/import", &import).await;
    let job = json!({
        "name": "A job",
        "parameters": [{"name": "job_id", "default": "222222"}],
        "tasks": [{"task_key": "only", "notebook_task": {"notebook_path": PATH, "source": "WORKSPACE"}}],
    });
    let job = call(on, "POST", "/api/2.2/jobs/create", &job).await;
    let run = json!({"job_id": job["job_id"]});
    let run = call(on, "POST", "/api/2.2/jobs/run-now", &run).await;
    run["run_id"].as_i64().expect("a run id")
}

/// Waits until the run has ended and returns it as `inspect` shows it.
async fn ended(on: &Handle, run: i64) -> Value {
    on.until(|world, now| {
        world.advance(now);
        let state = world.inspect();
        let runs = state["job_runs"].as_array().expect("runs");
        let found = runs.iter().find(|found| found["run_id"] == run).expect("the run");
        (!found["result"].is_null()).then(|| found.clone())
    })
    .await
}

#[tokio::test]
async fn a_notebook_task_reads_its_secret_calls_the_sandbox_and_leaves_its_result() {
    let sandbox = sandbox().await;
    let scope = json!({"scope": "dbt-cloud"});
    call(&sandbox, "POST", "/api/2.0/secrets/scopes/create", &scope).await;
    let secret = json!({"scope": "dbt-cloud", "key": "api-key", "string_value": "dbtc_sandbox-token"});
    call(&sandbox, "POST", "/api/2.0/secrets/put", &secret).await;
    let source = format!(
        "# Databricks notebook source\nimport requests\ntoken = dbutils.secrets.get('dbt-cloud', 'api-key')\n\n\
         # COMMAND ----------\n\n\
         answer = requests.get('{}/api/v2/accounts/51234/jobs/' + dbutils.widgets.get('job_id') + '/',\n\
         \x20                     headers={{'Authorization': 'Token ' + token}}, timeout=10)\n\
         print(answer.json()['data']['name'], token)\n\
         dbutils.jobs.taskValues.set('status', answer.status_code)\n\
         dbutils.notebook.exit('done')\n",
        sandbox.origin()
    );
    let run = begin(&sandbox, &source).await;
    let run = ended(&sandbox, run).await;
    let task = &run["tasks"][0];
    assert_eq!(run["result"], "SUCCESS", "{run}");
    assert_eq!(task["output"], "Nightly build [REDACTED]\n", "{run}");
    assert_eq!(task["exit"], "done");
    let path = format!("/api/2.2/jobs/runs/get-output?run_id={}", task["run_id"]);
    let output = call(&sandbox, "GET", &path, &Value::Null).await;
    assert_eq!(output["notebook_output"]["result"], "done", "{output}");
    let log = serde_json::to_string(&sandbox.log()).expect("JSON");
    assert!(log.contains("dbt:jobs/get"), "{log}");
    assert!(!log.contains("dbtc_sandbox") && !log.contains(TOKEN), "{log}");
    sandbox.stop().await;
}

#[tokio::test]
async fn a_cancelled_run_interrupts_its_notebook() {
    let sandbox = sandbox().await;
    let source = "# Databricks notebook source\nimport time\ntry:\n    dbutils.jobs.taskValues.set('here', True)\n    time.sleep(1e9)\nfinally:\n    print('cleaned up')\n";
    let run = begin(&sandbox, source).await;
    sandbox
        .until(|world, _| {
            let state = world.inspect();
            let value = &state["job_runs"][0]["tasks"][0]["values"]["here"];
            value.as_bool()
        })
        .await;
    call(&sandbox, "POST", "/api/2.2/jobs/runs/cancel", &json!({"run_id": run})).await;
    let run = ended(&sandbox, run).await;
    assert_eq!(run["result"], "CANCELED", "{run}");
    sandbox
        .until(|world, _| {
            let state = world.inspect();
            let output = state["job_runs"][0]["tasks"][0]["output"].as_str()?;
            (output == "cleaned up\n").then_some(())
        })
        .await;
}

#[tokio::test]
async fn without_a_python_the_task_fails_and_says_what_to_install() {
    let sandbox = start(options()).await.expect("a sandbox");
    let run = begin(&sandbox, "# Databricks notebook source\nprint(1)\n").await;
    let run = ended(&sandbox, run).await;
    assert_eq!(run["result"], "FAILED", "{run}");
    let path = format!("/api/2.2/jobs/runs/get-output?run_id={}", run["tasks"][0]["run_id"]);
    let output = call(&sandbox, "GET", &path, &Value::Null).await;
    let said = output["error"].as_str().expect("an error");
    assert!(said.contains("Install Python"), "{output}");
}
