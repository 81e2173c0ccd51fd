//! Provisioning with concurrent writers, with services that behave a little differently, and with several commands at
//! once.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Request;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::commands::tests::harness::{DATABRICKS_TOKEN, Harness, InjectedFault, Outcome};
use crate::commands::{create_workflow, deploy_notebook, init_secrets, remove, setup};
use crate::failure::Code;
use crate::sandbox::{FaultRule, NotebookOutcome, Reply, SimTime};

const PATH: &str = "/Users/ana@example.com/dbtrigger/run_dbt_job_51234";
const JOB: [&str; 2] = ["--job", "222222"];

#[derive(Clone, Copy)]
enum Command {
    Secrets,
    Notebook,
    Workflow,
    Setup,
    Remove,
}

async fn run(ctx: &Harness, command: Command, line: &[&str]) -> Outcome {
    let ended = match command {
        Command::Secrets => Box::pin(ctx.run(init_secrets::run, line)).await,
        Command::Notebook => Box::pin(ctx.run(deploy_notebook::run, line)).await,
        Command::Workflow => Box::pin(ctx.run(create_workflow::run, line)).await,
        Command::Setup => Box::pin(ctx.run(setup::run, line)).await,
        Command::Remove => Box::pin(ctx.run(remove::run, line)).await,
    };
    ended.expect("nobody kills it")
}

/// Sends a request as another client; `None` if it is refused.
fn ask(ctx: &Harness, method: &str, path: &str, body: &Value) -> Option<Value> {
    let request = Request::builder()
        .method(method)
        .uri(format!("http://127.0.0.1:1{path}"))
        .header("authorization", format!("Bearer {DATABRICKS_TOKEN}"))
        .body(if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) })
        .unwrap();
    match ctx.world(|world| world.answer(SimTime(0), &request)) {
        Reply::Answer(answer) if answer.status().is_success() => serde_json::from_slice(answer.body()).ok(),
        Reply::Answer(_) | Reply::Broken(..) => None,
    }
}

fn post(ctx: &Harness, path: &str, body: &Value) {
    let _ = ask(ctx, "POST", path, body);
}

fn state(ctx: &Harness) -> Value {
    ctx.world(|world| world.inspect())
}

fn jobs(ctx: &Harness) -> Vec<Value> {
    state(ctx)["jobs"].as_array().unwrap().clone()
}

/// The first job, or null.
fn job(ctx: &Harness) -> Value {
    jobs(ctx).first().cloned().unwrap_or_default()
}

fn update(ctx: &Harness, new_settings: &Value) {
    post(ctx, "/api/2.2/jobs/update", &json!({ "job_id": job(ctx)["job_id"], "new_settings": new_settings }));
}

fn task(ctx: &Harness, key: &str) -> Value {
    let tasks = job(ctx)["settings"]["tasks"].as_array().cloned().unwrap_or_default();
    tasks.into_iter().find(|task| task["task_key"] == key).unwrap_or_default()
}

fn text(ctx: &Harness) -> String {
    use base64::Engine as _;
    let exported = ask(ctx, "GET", &format!("/api/2.0/workspace/export?path={PATH}&format=SOURCE"), &Value::Null);
    let content = exported.unwrap_or_default()["content"].as_str().unwrap_or_default().to_owned();
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(content).unwrap()).unwrap()
}

fn import(ctx: &Harness, text: &str) {
    use base64::Engine as _;
    let content = base64::engine::general_purpose::STANDARD.encode(text);
    post(ctx, "/api/2.0/workspace/mkdirs", &json!({ "path": "/Users/ana@example.com/dbtrigger" }));
    let body = json!({ "path": PATH, "format": "SOURCE", "language": "PYTHON", "content": content, "overwrite": true });
    post(ctx, "/api/2.0/workspace/import", &body);
}

fn object_id(ctx: &Harness) -> String {
    let path = format!("/api/2.0/workspace/get-status?path={PATH}");
    ask(ctx, "GET", &path, &Value::Null).unwrap_or_default()["object_id"].to_string()
}

fn share(ctx: &Harness, object: &str, id: &str, level: &str) {
    let list = json!({ "access_control_list": [{ "group_name": "analysts", "permission_level": level }] });
    let _ = ask(ctx, "PATCH", &format!("/api/2.0/permissions/{object}/{id}"), &list);
}

fn level(ctx: &Harness, object: &str, id: &str, principal: &str) -> Value {
    state(ctx)["grants"][format!("{object}/{id}")][principal].clone()
}

fn put_key(ctx: &Harness, key: &str, value: &str) {
    post(ctx, "/api/2.0/secrets/put", &json!({ "scope": "dbt-cloud", "key": key, "string_value": value }));
}

fn put_acl(ctx: &Harness, principal: &str, level: &str) {
    let body = json!({ "scope": "dbt-cloud", "principal": principal, "permission": level });
    post(ctx, "/api/2.0/secrets/acls/put", &body);
}

fn hash(value: &str) -> String {
    use sha2::Digest as _;
    crate::text::hex(sha2::Sha256::digest(value))
}

fn daily_load() -> Value {
    json!({ "name": "Daily load", "description": "Ask Bo",
        "tasks": [{ "task_key": "load", "sql_task": { "x": 1 } }, { "task_key": "report", "sql_task": { "x": 2 } }] })
}

/// A sandbox after these commands.
async fn world(lines: &[(Command, &[&str])]) -> Harness {
    let ctx = Harness::new();
    for (command, line) in lines {
        assert_eq!(run(&ctx, *command, line).await.exit, 0, "{line:?}");
    }
    ctx.take_log();
    ctx
}

/// A change of another client, and whether it is still present.
type Theirs = (fn(&Harness), fn(&Harness) -> bool);

struct Scene {
    name: &'static str,
    base: Harness,
    command: Command,
    line: Vec<&'static str>,
    /// The read and the write of the object that they change too, if the write cannot avoid replacing it.
    replaces: Option<(&'static str, &'static str)>,
    theirs: Theirs,
}

const SECRET: (Command, &[&str]) = (Command::Secrets, &[]);
const NOTEBOOK: (Command, &[&str]) = (Command::Notebook, &[]);
const WORKFLOW: (Command, &[&str]) = (Command::Workflow, &JOB);
const ADD: [&str; 4] = ["--add-to", "Daily load", "--job", "222222"];

async fn with_daily_load(lines: &[&[&str]]) -> Harness {
    let ctx = world(&[SECRET, NOTEBOOK]).await;
    post(&ctx, "/api/2.2/jobs/create", &daily_load());
    for line in lines {
        assert_eq!(run(&ctx, Command::Workflow, line).await.exit, 0, "{line:?}");
    }
    ctx.take_log();
    ctx
}

async fn secret_scenes() -> Vec<Scene> {
    let put = Some(("databricks:secrets/list", "databricks:secrets/put"));
    let key: Theirs = (
        |ctx| put_key(ctx, "api-key", "dbtc_theirs-0123456789"),
        |ctx| state(ctx)["scopes"]["dbt-cloud"]["secrets"]["api-key"]["sha256"] == hash("dbtc_theirs-0123456789"),
    );
    let acl: Theirs = (
        |ctx| put_acl(ctx, "analysts", "MANAGE"),
        |ctx| state(ctx)["scopes"]["dbt-cloud"]["acls"]["analysts"] == "MANAGE",
    );
    let scope: Theirs = (
        |ctx| {
            post(ctx, "/api/2.0/secrets/scopes/create", &json!({ "scope": "dbt-cloud" }));
            put_key(ctx, "other", "theirs");
        },
        |ctx| state(ctx)["scopes"]["dbt-cloud"]["secrets"]["other"].is_object(),
    );
    let put_acl = Some(("databricks:secrets/acls/list", "databricks:secrets/acls/put"));
    let scene = |name, base, line: &[&'static str], replaces, theirs| Scene {
        name,
        base,
        command: Command::Secrets,
        line: line.to_vec(),
        replaces,
        theirs,
    };
    let other = world(&[(Command::Secrets, &["--key", "other"])]).await;
    let rotated = world(&[SECRET]).await;
    rotated.set("DBT_CLOUD_TOKEN", "dbtc_another-0123456789");
    let blind = rotated.copy();
    blind.world(|world| world.set_secret_reading(false));
    let shared = world(&[(Command::Secrets, &["--grant", "analysts"])]).await;
    vec![
        scene("scope", world(&[]).await, &[], None, scope),
        scene("key", other, &[], put, key),
        scene("key, rotated", rotated, &["--rotate", "--no-validate"], put, key),
        scene("key, rotated unread", blind, &["--rotate", "--no-validate"], put, key),
        scene("grant", world(&[SECRET]).await, &["--grant", "analysts"], put_acl, acl),
        scene("grant, raised", shared, &["--grant", "analysts:WRITE"], put_acl, acl),
    ]
}

async fn notebook_scenes() -> Vec<Scene> {
    let written: Theirs =
        (|ctx| import(ctx, "# Databricks notebook source\nprint(1)"), |ctx| text(ctx).ends_with("print(1)"));
    let cell: Theirs = (
        |ctx| import(ctx, &format!("{}\n\n# COMMAND ----------\n\nprint(2)", text(ctx))),
        |ctx| text(ctx).ends_with("print(2)"),
    );
    let held: Theirs = (
        |ctx| share(ctx, "notebooks", &object_id(ctx), "CAN_MANAGE"),
        |ctx| level(ctx, "notebooks", &object_id(ctx), "analysts") == "CAN_MANAGE",
    );
    let import = Some(("databricks:workspace/export", "databricks:workspace/import"));
    let grant = Some(("databricks:permissions/get", "databricks:permissions/update"));
    let scene = |name, base, line: &[&'static str], replaces, theirs| Scene {
        name,
        base,
        command: Command::Notebook,
        line: line.to_vec(),
        replaces,
        theirs,
    };
    let there = world(&[NOTEBOOK]).await;
    let shared = world(&[(Command::Notebook, &["--grant", "analysts:CAN_READ"])]).await;
    vec![
        scene("notebook", world(&[]).await, &[], None, written),
        scene("notebook, changed", there.copy(), &["--allow-job", "222222"], import, cell),
        scene("notebook grant", there, &["--grant", "analysts"], grant, held),
        scene("notebook grant, raised", shared, &["--grant", "analysts"], grant, held),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
async fn workflow_scenes() -> Vec<Scene> {
    let described: Theirs = (
        |ctx| update(ctx, &json!({ "description": "Theirs", "timeout_seconds": 77, "health": { "rules": [] } })),
        |ctx| job(ctx)["settings"]["description"] == "Theirs" && job(ctx)["settings"]["timeout_seconds"] == 77,
    );
    let tagged: Theirs = (
        |ctx| {
            let mut tags = job(ctx)["settings"]["tags"].clone();
            tags["theirs"] = "1".into();
            update(ctx, &json!({ "tags": tags }));
        },
        |ctx| job(ctx)["settings"]["tags"]["theirs"] == "1",
    );
    let timed: Theirs = (
        |ctx| {
            let schedule = json!({ "quartz_cron_expression": "0 0 3 * * ?", "timezone_id": "UTC" });
            update(ctx, &json!({ "schedule": schedule }));
        },
        |ctx| job(ctx)["settings"]["schedule"]["quartz_cron_expression"] == "0 0 3 * * ?",
    );
    let added: Theirs = (
        |ctx| update(ctx, &json!({ "tasks": [{ "task_key": "theirs", "sql_task": {} }] })),
        |ctx| task(ctx, "theirs").is_object(),
    );
    let in_ours: Theirs = (
        |ctx| {
            let mut tasks = job(ctx)["settings"]["tasks"].clone();
            for task in tasks.as_array_mut().unwrap() {
                task["libraries"] = json!([{ "jar": "theirs" }]);
            }
            update(ctx, &json!({ "tasks": tasks }));
        },
        |ctx| {
            let tasks = job(ctx)["settings"]["tasks"].as_array().unwrap().clone();
            !tasks.is_empty() && tasks.iter().all(|task| task["libraries"][0]["jar"] == "theirs")
        },
    );
    let parameter: Theirs = (
        |ctx| {
            let mut all = job(ctx)["settings"]["parameters"].as_array().cloned().unwrap_or_default();
            all.push(json!({ "name": "theirs", "default": "1" }));
            update(ctx, &json!({ "parameters": all }));
        },
        |ctx| {
            let all = job(ctx)["settings"]["parameters"].as_array().cloned().unwrap_or_default();
            all.iter().any(|parameter| parameter["name"] == "theirs")
        },
    );
    let deleted: Theirs =
        (|ctx| post(ctx, "/api/2.2/jobs/delete", &json!({ "job_id": job(ctx)["job_id"] })), |ctx| jobs(ctx).is_empty());
    let held: Theirs = (
        |ctx| share(ctx, "jobs", &job(ctx)["job_id"].to_string(), "CAN_MANAGE"),
        |ctx| level(ctx, "jobs", &job(ctx)["job_id"].to_string(), "analysts") == "CAN_MANAGE",
    );
    let there = world(&[SECRET, NOTEBOOK, WORKFLOW]).await;
    let named = world(&[SECRET, NOTEBOOK, (Command::Workflow, &["--name", "Both", "--job", "222222"])]).await;
    let edited = there.copy();
    let mut tasks = job(&edited)["settings"]["tasks"].clone();
    tasks[0]["disable_auto_optimization"] = false.into();
    update(&edited, &json!({ "tasks": tasks }));
    let foreign = world(&[SECRET, NOTEBOOK]).await;
    let guide = json!({ "name": "dbt: Nightly build (222222)", "tasks": [
        { "task_key": "run", "notebook_task": { "notebook_path": PATH, "source": "WORKSPACE" } }] });
    post(&foreign, "/api/2.2/jobs/create", &guide);
    let shared =
        world(&[SECRET, NOTEBOOK, (Command::Workflow, &["--job", "222222", "--grant", "analysts:CAN_VIEW"])]).await;
    let scene = |name, base: &Harness, line: &[&'static str], replaces, theirs| Scene {
        name,
        base: base.copy(),
        command: Command::Workflow,
        line: line.to_vec(),
        replaces,
        theirs,
    };
    let sends = Some(("databricks:jobs/get", "databricks:jobs/update"));
    let schedule = &["--job", "222222", "--schedule", "0 0 6 * * ?"];
    let retries = &["--job", "222222", "--retries", "1"];
    let force = &["--job", "222222", "--force"];
    let adopt = &["--job", "222222", "--adopt"];
    let several = &["--name", "Both", "--job", "222222", "--job", "222223"];
    let view = &["--job", "222222", "--grant", "analysts:CAN_MANAGE_RUN"];
    let grants = Some(("databricks:permissions/get", "databricks:permissions/update"));
    vec![
        scene("schedule, description", &there, schedule, None, described),
        scene("schedule, tag", &there, schedule, None, tagged),
        scene("schedule, schedule", &there, schedule, sends, timed),
        scene("schedule, task", &there, schedule, None, added),
        scene("schedule, our task", &there, schedule, None, in_ours),
        scene("schedule, parameter", &there, schedule, None, parameter),
        scene("schedule, deleted", &there, schedule, None, deleted),
        scene("task, description", &there, retries, None, described),
        scene("task, tag", &there, retries, None, tagged),
        scene("task, task", &there, retries, None, added),
        scene("task, our task", &there, retries, sends, in_ours),
        scene("tag, tag", &there, &["--job", "222222", "--tag", "a=b"], sends, tagged),
        scene("tag, description", &there, &["--job", "222222", "--tag", "a=b"], None, described),
        scene("forced, description", &edited, force, None, described),
        scene("forced, task", &edited, force, None, added),
        scene("adopted, description", &foreign, adopt, None, described),
        scene("adopted, task", &foreign, adopt, None, added),
        scene("two jobs, description", &named, several, None, described),
        scene("two jobs, task", &named, several, None, added),
        scene("two jobs, parameter", &named, several, sends, parameter),
        scene("workflow grant", &there, view, grants, held),
        scene("workflow grant, raised", &shared, view, grants, held),
        scene(
            "created, grant",
            &world(&[SECRET, NOTEBOOK]).await,
            &["--job", "222222", "--grant", "analysts:CAN_VIEW"],
            grants,
            held,
        ),
    ]
}

async fn task_scenes() -> Vec<Scene> {
    let described: Theirs =
        (|ctx| update(ctx, &json!({ "description": "Theirs" })), |ctx| job(ctx)["settings"]["description"] == "Theirs");
    let other: Theirs = (
        |ctx| update(ctx, &json!({ "tasks": [{ "task_key": "load", "sql_task": { "x": "theirs" } }] })),
        |ctx| task(ctx, "load")["sql_task"]["x"] == "theirs",
    );
    let same_key: Theirs = (
        |ctx| update(ctx, &json!({ "tasks": [{ "task_key": "dbt_222222", "sql_task": { "x": "theirs" } }] })),
        |ctx| task(ctx, "dbt_222222")["sql_task"]["x"] == "theirs",
    );
    let more: Theirs = (
        |ctx| update(ctx, &json!({ "tasks": [{ "task_key": "theirs", "sql_task": {} }] })),
        |ctx| task(ctx, "theirs").is_object(),
    );
    let scene = |name, base: &Harness, line: &[&'static str], replaces, theirs| Scene {
        name,
        base: base.copy(),
        command: Command::Workflow,
        line: line.to_vec(),
        replaces,
        theirs,
    };
    let fresh = with_daily_load(&[]).await;
    let added = with_daily_load(&[&ADD]).await;
    let sends = Some(("databricks:jobs/get", "databricks:jobs/update"));
    let again = [&ADD[..], &["--retries", "1"]].concat();
    vec![
        scene("added task, description", &fresh, &ADD, None, described),
        scene("added task, other task", &fresh, &ADD, None, other),
        scene("added task, its key", &fresh, &ADD, sends, same_key),
        scene("added task, new task", &fresh, &ADD, None, more),
        scene("added task again, description", &added, &again, None, described),
        scene("added task again, other task", &added, &again, None, other),
        scene("added task again, itself", &added, &again, sends, same_key),
        scene("added task again, new task", &added, &again, None, more),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
async fn removal_scenes() -> Vec<Scene> {
    let described: Theirs =
        (|ctx| update(ctx, &json!({ "description": "Theirs" })), |ctx| job(ctx)["settings"]["description"] == "Theirs");
    let added: Theirs = (
        |ctx| update(ctx, &json!({ "tasks": [{ "task_key": "theirs", "sql_task": {} }] })),
        |ctx| task(ctx, "theirs").is_object(),
    );
    let edited: Theirs = (
        |ctx| {
            let mut tasks = job(ctx)["settings"]["tasks"].clone();
            for task in tasks.as_array_mut().into_iter().flatten() {
                task["notebook_task"]["source"] = "GIT".into();
            }
            update(ctx, &json!({ "tasks": tasks }));
        },
        |ctx| job(ctx)["settings"]["tasks"][0]["notebook_task"]["source"] == "GIT",
    );
    let started: Theirs = (
        |ctx| post(ctx, "/api/2.2/jobs/run-now", &json!({ "job_id": job(ctx)["job_id"] })),
        |ctx| !jobs(ctx).is_empty() && state(ctx)["job_runs"].as_array().is_some_and(|runs| !runs.is_empty()),
    );
    let load: Theirs = (
        |ctx| {
            let mut load = task(ctx, "load");
            load["timeout_seconds"] = 60.into();
            update(ctx, &json!({ "description": "Theirs", "tasks": [load] }));
        },
        |ctx| {
            let settings = job(ctx)["settings"].clone();
            settings["description"] == "Theirs" && task(ctx, "load")["timeout_seconds"] == 60
        },
    );
    let ours: Theirs = (
        |ctx| {
            let mut task = task(ctx, "dbt_222222");
            task["disable_auto_optimization"] = false.into();
            update(ctx, &json!({ "tasks": [task] }));
        },
        |ctx| task(ctx, "dbt_222222")["disable_auto_optimization"] == false,
    );
    let waits: Theirs = (
        |ctx| {
            let needs = json!([{ "task_key": "dbt_222222" }]);
            update(ctx, &json!({ "tasks": [{ "task_key": "after", "sql_task": {}, "depends_on": needs }] }));
        },
        |ctx| task(ctx, "after").is_object() && task(ctx, "dbt_222222").is_object(),
    );
    let cell: Theirs = (
        |ctx| import(ctx, &format!("{}\n\n# COMMAND ----------\n\nprint(2)", text(ctx))),
        |ctx| text(ctx).ends_with("print(2)"),
    );
    let used: Theirs = (
        |ctx| {
            let run = json!({ "notebook_path": PATH, "source": "WORKSPACE" });
            let body = json!({ "name": "Theirs", "tasks": [{ "task_key": "x", "notebook_task": run }] });
            post(ctx, "/api/2.2/jobs/create", &body);
        },
        |ctx| jobs(ctx).iter().any(|job| job["settings"]["name"] == "Theirs") && !text(ctx).is_empty(),
    );
    let key: Theirs = (
        |ctx| put_key(ctx, "api-key", "dbtc_theirs-0123456789"),
        |ctx| state(ctx)["scopes"]["dbt-cloud"]["secrets"]["api-key"]["sha256"] == hash("dbtc_theirs-0123456789"),
    );
    let other: Theirs = (
        |ctx| put_key(ctx, "other", "theirs"),
        |ctx| state(ctx)["scopes"]["dbt-cloud"]["secrets"]["other"].is_object(),
    );
    let acl: Theirs =
        (|ctx| put_acl(ctx, "analysts", "READ"), |ctx| state(ctx)["scopes"]["dbt-cloud"]["acls"]["analysts"] == "READ");
    let neighbor: Theirs = (
        |ctx| {
            let content = "cHJpbnQoMSk=";
            let path = "/Users/ana@example.com/dbtrigger/theirs";
            let body = json!({ "path": path, "format": "SOURCE", "language": "PYTHON", "content": content });
            post(ctx, "/api/2.0/workspace/import", &body);
        },
        |ctx| state(ctx)["workspace"]["/Users/ana@example.com/dbtrigger/theirs"].is_object(),
    );
    let workflow = world(&[SECRET, NOTEBOOK, WORKFLOW]).await;
    let notebook = world(&[SECRET, NOTEBOOK]).await;
    // One deletion of each kind: the folder is kept, the scope is kept, the scope is empty.
    let crowded = notebook.copy();
    (neighbor.0)(&crowded);
    let shared = world(&[(Command::Secrets, &["--grant", "analysts"]), NOTEBOOK]).await;
    let empty = notebook.copy();
    post(&empty, "/api/2.0/secrets/delete", &json!({ "scope": "dbt-cloud", "key": "api-key" }));
    let added_to = with_daily_load(&[&ADD]).await;
    let scene = |name, base: &Harness, line: &[&'static str], replaces, theirs| Scene {
        name,
        base: base.copy(),
        command: Command::Remove,
        line: line.to_vec(),
        replaces,
        theirs,
    };
    let by_job = &["--job", "222222", "-y"];
    let all = &["--all", "--with-secret", "-y"];
    let job = Some(("databricks:jobs/get", "databricks:jobs/delete"));
    let runs = Some(("databricks:jobs/runs/list", "databricks:jobs/delete"));
    let sends = Some(("databricks:jobs/get", "databricks:jobs/update"));
    let deletes = Some(("databricks:workspace/export", "databricks:workspace/delete"));
    let lists = Some(("databricks:jobs/list", "databricks:workspace/delete"));
    let deletes_key = Some(("databricks:secrets/list", "databricks:secrets/delete"));
    let keys = Some(("databricks:secrets/list", "databricks:secrets/scopes/delete"));
    let access = Some(("databricks:secrets/acls/list", "databricks:secrets/scopes/delete"));
    vec![
        scene("removed workflow, description", &workflow, by_job, job, described),
        scene("removed workflow, new task", &workflow, by_job, job, added),
        scene("removed workflow, edited", &workflow, by_job, job, edited),
        scene("removed workflow, started", &workflow, by_job, runs, started),
        scene("removed task, other task", &added_to, by_job, None, load),
        scene("removed task, itself", &added_to, by_job, sends, ours),
        scene("removed task, waited for", &added_to, by_job, sends, waits),
        scene("removed notebook, edited", &crowded, &["--all", "-y"], deletes, cell),
        scene("removed notebook, used", &crowded, &["--all", "-y"], lists, used),
        scene("removed folder, neighbor", &notebook, all, None, neighbor),
        scene("removed secret", &shared, all, deletes_key, key),
        scene("removed scope, another key", &empty, all, keys, other),
        scene("removed scope, access", &empty, all, access, acl),
    ]
}

/// Cases in which the command was asked to replace what the plan shows of theirs.
fn consents(name: &str) -> bool {
    [
        "key, rotated",
        "key, rotated unread",
        "schedule, schedule",
        "schedule, deleted",
        "removed workflow, description",
        "removed secret",
    ]
    .contains(&name)
}

#[tokio::test(start_paused = true)]
#[ignore = "takes minutes; .ci/run runs it"]
async fn a_second_writer_between_any_two_requests_loses_nothing() {
    second_writer(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_second_writer_between_some_requests_loses_nothing() {
    second_writer(5).await;
}

/// A second writer at each moment, or at each of so many. `cargo test --lib a_second_writer -- --nocapture` prints the counts.
#[expect(clippy::print_stdout, reason = "the line is what the test is for")]
async fn second_writer(every: usize) {
    let mut scenes = secret_scenes().await;
    scenes.extend(notebook_scenes().await);
    scenes.extend(workflow_scenes().await);
    scenes.extend(task_scenes().await);
    scenes.extend(removal_scenes().await);
    let (mut all, mut windows, mut wrong) = (0, 0, Vec::new());
    for Scene { name, base, command, line, replaces, theirs: (act, is_there) } in scenes {
        let calm = base.copy();
        let dry = [&line[..], &["--dry-run"]].concat();
        assert_eq!(run(&calm, command, &dry).await.exit, 0, "{name}");
        // Changes before the plan are shown in it, so they are covered by consent.
        let planned = calm.take_effects().len();
        calm.take_log();
        assert_eq!(run(&calm, command, &line).await.exit, 0, "{name}");
        let effects = calm.take_effects();
        let window = replaces.map(|(read, write)| {
            let write = effects.iter().rposition(|operation| *operation == write).unwrap();
            let read = effects[..write].iter().rposition(|operation| *operation == read).unwrap();
            read + 1..=write
        });
        let last = calm.take_log().iter().rposition(|seen| seen.writes).unwrap();
        let disturbed = [InjectedFault::Unavailable, InjectedFault::LostBefore].map(|trouble| (Some(trouble), last));
        for (trouble, index) in (0..effects.len()).map(|index| (None, index)).chain(disturbed).step_by(every) {
            let ctx = base.copy();
            if let Some(trouble) = trouble {
                ctx.inject_fault(last, trouble);
            } else if window.as_ref().is_some_and(|window| window.contains(&index)) {
                // A change between this read and its write cannot be detected.
                windows += 1;
                continue;
            }
            let took = Rc::new(Cell::new(false));
            let noticed = took.clone();
            ctx.meanwhile(index, move |ctx| {
                act(ctx);
                noticed.set(is_there(ctx));
            });
            let outcome = run(&ctx, command, &line).await;
            if !took.get() {
                continue;
            }
            all += 1;
            let is_fine = match (outcome.exit, outcome.code) {
                (0, None) | (6, Some(Code::NotFound)) => true,
                (7, Some(Code::Refused | Code::ChangedMeanwhile)) => true,
                // Our change was written, then undone or replaced by theirs.
                (1, Some(Code::Failed)) => outcome.failure.contains("reads back differently"),
                (_, _) => false,
            };
            let is_kept = is_there(&ctx) || (trouble.is_none() && index < planned && consents(name));
            if !is_kept || !is_fine {
                let Outcome { exit, code, failure, .. } = outcome;
                let at = effects.get(index);
                wrong.push(format!("{name}, {trouble:?} at {index} of {at:?}: {exit} {code:?} {failure}"));
            }
        }
    }
    println!(
        "concurrent writers: {} of {all} ({windows} moments between a read and its write left out)",
        all - wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Sandbox, command and arguments; operation and side effect of the service; expected text.
type Case<'a> = (&'a Harness, Command, &'a [&'a str], &'static str, fn(&Harness), &'a str);

/// `cargo test --lib what_a_service_takes_away -- --nocapture` prints the counts.
#[tokio::test(start_paused = true)]
#[expect(clippy::print_stdout, reason = "the line is what the test is for")]
async fn what_a_service_takes_away_beside_a_write_is_named() {
    type Act = fn(&Harness);
    let others_gone: Act = |ctx| {
        let mut settings = job(ctx)["settings"].clone();
        settings["tasks"]
            .as_array_mut()
            .unwrap()
            .retain(|task| task["task_key"] != "load" && task["task_key"] != "theirs");
        let body = json!({ "job_id": job(ctx)["job_id"], "new_settings": settings });
        post(ctx, "/api/2.2/jobs/reset", &body);
    };
    let undescribed: Act = |ctx| {
        let body = json!({ "job_id": job(ctx)["job_id"], "fields_to_remove": ["description"] });
        post(ctx, "/api/2.2/jobs/update", &body);
    };
    let untagged: Act = |ctx| {
        let mut tags = job(ctx)["settings"]["tags"].clone();
        tags.as_object_mut().unwrap().shift_remove("team");
        update(ctx, &json!({ "tags": tags }));
    };
    let key_gone: Act = |ctx| post(ctx, "/api/2.0/secrets/delete", &json!({ "scope": "dbt-cloud", "key": "other" }));
    let acl_gone: Act =
        |ctx| post(ctx, "/api/2.0/secrets/acls/delete", &json!({ "scope": "dbt-cloud", "principal": "analysts" }));
    let theirs = with_daily_load(&[]).await;
    let added = with_daily_load(&[&ADD]).await;
    let workflow = world(&[SECRET, NOTEBOOK, (Command::Workflow, &["--job", "222222", "--tag", "team=bi"])]).await;
    update(&workflow, &json!({ "description": "Ask Bo", "tasks": [{ "task_key": "theirs", "sql_task": {} }] }));
    let keys = world(&[(Command::Secrets, &["--key", "other", "--grant", "analysts"])]).await;
    let rotated = keys.copy();
    assert_eq!(run(&rotated, Command::Secrets, &["--grant", "analysts"]).await.exit, 0);
    rotated.set("DBT_CLOUD_TOKEN", "dbtc_another-0123456789");
    let shared = world(&[NOTEBOOK]).await;
    share(&shared, "notebooks", &object_id(&shared), "CAN_READ");
    let held = world(&[SECRET, NOTEBOOK, WORKFLOW]).await;
    share(&held, "jobs", &job(&held)["job_id"].to_string(), "CAN_VIEW");
    let again = [&ADD[..], &["--retries", "1"]].concat();
    let schedule = ["--job", "222222", "--schedule", "0 0 6 * * ?"];
    let (jobs_update, put, put_acl, grant) = (
        "databricks:jobs/update",
        "databricks:secrets/put",
        "databricks:secrets/acls/put",
        "databricks:permissions/update",
    );
    let cases: [Case; 12] = [
        (&theirs, Command::Workflow, &ADD, jobs_update, others_gone, "tasks.load"),
        (&added, Command::Workflow, &again, jobs_update, others_gone, "tasks.load"),
        (&theirs, Command::Workflow, &ADD, jobs_update, undescribed, "description"),
        (&workflow, Command::Workflow, &schedule, jobs_update, others_gone, "tasks.theirs"),
        (&workflow, Command::Workflow, &schedule, jobs_update, undescribed, "description"),
        (&workflow, Command::Workflow, &schedule, jobs_update, untagged, "tags.team"),
        (&keys, Command::Secrets, &["--grant", "analysts"], put, key_gone, "key other"),
        (&keys, Command::Secrets, &["--accept-shared-scope"], put, acl_gone, "the access of analysts"),
        (&rotated, Command::Secrets, &["--rotate", "--no-validate", "--grant", "analysts"], put, key_gone, "key other"),
        (
            &keys,
            Command::Secrets,
            &["--key", "other", "--grant", "data-team"],
            put_acl,
            acl_gone,
            "the access of analysts",
        ),
        (
            &shared,
            Command::Notebook,
            &["--grant", "data-team:CAN_MANAGE"],
            grant,
            only_ours_of,
            "the access of analysts",
        ),
        (
            &held,
            Command::Workflow,
            &["--job", "222222", "--grant", "data-team:CAN_MANAGE"],
            grant,
            only_ours_of,
            "the access of analysts",
        ),
    ];
    let mut wrong = Vec::new();
    let count = cases.len();
    for (base, command, line, operation, act, gone) in cases {
        let ctx = base.copy();
        ctx.side_effect(operation, act);
        let outcome = run(&ctx, command, line).await;
        if outcome.code != Some(Code::Failed) || !outcome.failure.contains(&format!("but lost: {gone}")) {
            wrong.push(format!("{line:?} without {gone}: {:?} {}", outcome.code, outcome.failure));
        }
    }
    println!("what is gone is named: {} of {count}", count - wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A service that replaces the whole access list of the notebook or job.
fn only_ours_of(ctx: &Harness) {
    let (object, id, own) = match job(ctx)["job_id"].as_u64() {
        Some(id) => ("jobs", id.to_string(), "IS_OWNER"),
        None => ("notebooks", object_id(ctx), "CAN_MANAGE"),
    };
    let entries = json!([
        { "user_name": "ana@example.com", "permission_level": own },
        { "group_name": "data-team", "permission_level": "CAN_MANAGE" },
    ]);
    let path = format!("/api/2.0/permissions/{object}/{id}");
    assert!(ask(ctx, "PUT", &path, &json!({ "access_control_list": entries })).is_some());
}

/// Field named in the failure, and how the job is altered.
type AlteredField = (&'static str, fn(&mut Value));

const FULL: [&str; 24] = [
    "--name",
    "Own",
    "--job",
    "222222",
    "--schedule",
    "0 0 6 * * ?",
    "--timezone",
    "Europe/Berlin",
    "--paused",
    "--tag",
    "team=bi",
    "--notify",
    "ops@example.com",
    "--retries",
    "2",
    "--task-timeout",
    "2h",
    "--override",
    "git_branch=main",
    "--run-as",
    "0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d11",
    "--grant-run-as",
    "--compute",
    "serverless",
];

fn altered_fields() -> Vec<AlteredField> {
    vec![
        ("name", |job| job["settings"]["name"] = "OWN".into()),
        ("parameters.job_id", |job| job["settings"]["parameters"] = json!([])),
        ("max_concurrent_runs", |job| job["settings"]["max_concurrent_runs"] = 3.into()),
        ("queue.enabled", |job| job["settings"]["queue"] = json!({ "enabled": false })),
        ("schedule.quartz_cron_expression", |job| {
            job["settings"]["schedule"]["quartz_cron_expression"] = "0 0 6 ? * * *".into();
        }),
        ("schedule.timezone_id", |job| job["settings"]["schedule"]["timezone_id"] = "CET".into()),
        ("schedule.pause_status", |job| job["settings"]["schedule"]["pause_status"] = "UNPAUSED".into()),
        ("email_notifications.on_failure", |job| job["settings"]["email_notifications"] = json!({})),
        ("tags.team", |job| job["settings"]["tags"]["team"] = "BI".into()),
        ("tags.managed-by", |job| job["settings"]["tags"]["managed-by"] = "".into()),
        ("tags.dbtrigger-id", |job| job["settings"]["tags"]["dbtrigger-id"] = "x".into()),
        ("tags.dbtrigger-settings", |job| job["settings"]["tags"]["dbtrigger-settings"] = "x".into()),
        ("run_as", |job| job["run_as_user_name"] = "ana@example.com".into()),
        ("task.task_key", |job| job["settings"]["tasks"][0]["task_key"] = "DBT_222222".into()),
        ("task.notebook_task.notebook_path", |job| {
            job["settings"]["tasks"][0]["notebook_task"]["notebook_path"] = "/x".into();
        }),
        ("task.notebook_task.source", |job| job["settings"]["tasks"][0]["notebook_task"]["source"] = "GIT".into()),
        ("task.notebook_task.base_parameters.dbtrigger_key", |job| {
            job["settings"]["tasks"][0]["notebook_task"]["base_parameters"]["dbtrigger_key"] = "x".into();
        }),
        ("task.notebook_task.base_parameters.dbtrigger_attempt", |job| {
            job["settings"]["tasks"][0]["notebook_task"]["base_parameters"]["dbtrigger_attempt"] = "x".into();
        }),
        ("task.notebook_task.base_parameters.dbtrigger_overrides", |job| {
            job["settings"]["tasks"][0]["notebook_task"]["base_parameters"]["dbtrigger_overrides"] = "{}".into();
        }),
        ("task.notebook_task.warehouse_id", |job| {
            job["settings"]["tasks"][0]["notebook_task"]["warehouse_id"] = "x".into();
        }),
        ("task.environment_key", |job| job["settings"]["tasks"][0]["environment_key"] = "default".into()),
        ("task.disable_auto_optimization", |job| {
            job["settings"]["tasks"][0]["disable_auto_optimization"] = false.into();
        }),
        ("task.max_retries", |job| job["settings"]["tasks"][0]["max_retries"] = 0.into()),
        ("task.timeout_seconds", |job| job["settings"]["tasks"][0]["timeout_seconds"] = 60.into()),
        ("task.existing_cluster_id", |job| job["settings"]["tasks"][0]["existing_cluster_id"] = "x".into()),
    ]
}

/// `cargo test --lib a_confirmed_write -- --nocapture` prints the counts.
#[tokio::test(start_paused = true)]
#[expect(clippy::print_stdout, reason = "the line is what the test is for")]
async fn a_confirmed_write_that_reads_back_differently_is_said_as_such_with_the_id() {
    let base = world(&[SECRET, (Command::Notebook, &["--allow-override", "git_branch"])]).await;
    let line = &FULL;
    let there = base.copy();
    assert_eq!(run(&there, Command::Workflow, &["--name", "Own", "--job", "222222"]).await.exit, 0);
    there.take_log();
    let (mut all, mut wrong) = (0, Vec::new());
    for (field, edit) in altered_fields() {
        for (base, verb) in [(&base, "created"), (&there, "updated")] {
            let ctx = base.copy();
            // The job is altered only after the write.
            let written = Rc::new(Cell::new(false));
            ctx.alter_responses(move |operation, body| match operation {
                "databricks:jobs/create" | "databricks:jobs/update" => written.set(true),
                "databricks:jobs/get" if written.get() => edit(body),
                _ => {}
            });
            let outcome = run(&ctx, Command::Workflow, line).await;
            all += 1;
            let id = job(&ctx)["job_id"].to_string();
            let said = outcome.failure.contains(&format!("was {verb} as job {id}, but reads back differently"))
                || outcome.failure.contains(&format!("was {verb} as job {id}, but lost"));
            let is_right = outcome.code == Some(Code::Failed)
                && said
                && outcome.failure.contains(field)
                && outcome.data["job_id"].to_string().trim_matches('"') == id
                && outcome.data["url"].as_str().is_some_and(|url| url.contains(&id) && outcome.text.contains(url))
                && !outcome.text.contains("failed")
                && jobs(&ctx).len() == 1;
            if !is_right {
                wrong.push(format!("{field}, {verb}: {:?} {}\n{}", outcome.code, outcome.failure, outcome.text));
            }
        }
    }
    println!("fields that read back differently: {} of {all}", all - wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_cannot_be_read_back_is_told_with_its_id() {
    for rule in ["databricks:jobs/get=status=403,times=forever", "databricks:jobs/list=status=403,times=forever"] {
        let ctx = world(&[SECRET, NOTEBOOK]).await;
        ctx.side_effect("databricks:jobs/create", move |ctx| {
            ctx.world(|world| world.add_fault(FaultRule::parse(rule).unwrap()));
        });
        let outcome = run(&ctx, Command::Workflow, &JOB).await;
        let id = job(&ctx)["job_id"].to_string();
        assert_eq!(outcome.exit, 4, "{rule}: {outcome:?}");
        assert_eq!(outcome.data["job_id"].to_string().trim_matches('"'), id, "{rule}: {outcome:?}");
        assert!(outcome.failure.contains(&format!("was created as job {id}")), "{rule}: {outcome:?}");
        assert!(outcome.text.contains("created, not confirmed"), "{rule}: {outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_is_rotated_where_the_list_tells_no_time() {
    for (readable, writes) in [(true, 1), (false, 1)] {
        for missing in [true, false] {
            let ctx = world(&[SECRET]).await;
            ctx.world(|world| world.set_secret_reading(readable));
            ctx.alter_responses(move |operation, body| {
                if operation == "databricks:secrets/list"
                    && let Some(secrets) = body["secrets"].as_array_mut()
                {
                    for secret in secrets {
                        if missing {
                            secret.as_object_mut().unwrap().shift_remove("last_updated_timestamp");
                        } else {
                            secret["last_updated_timestamp"] = Value::Null;
                        }
                    }
                }
            });
            ctx.set("DBT_CLOUD_TOKEN", "dbtc_another-0123456789");
            let outcome = run(&ctx, Command::Secrets, &["--rotate", "--no-validate"]).await;
            assert_eq!(outcome.exit, 0, "readable {readable}: {outcome:?}");
            assert_eq!(ctx.take_writes().len(), writes);
            let stored = state(&ctx)["scopes"]["dbt-cloud"]["secrets"]["api-key"]["sha256"].clone();
            assert_eq!(stored, hash("dbtc_another-0123456789"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_to_take_access_away_where_there_are_no_access_lists() {
    let open = |ctx: &Harness| {
        let body = json!({ "scope": "dbt-cloud", "initial_manage_principal": "users" });
        post(ctx, "/api/2.0/secrets/scopes/create", &body);
    };
    let basic = Harness::new();
    basic.world(|world| world.set_premium(false));
    open(&basic);
    let without_lists = Harness::new();
    open(&without_lists);
    without_lists.world(|world| {
        world.add_fault(FaultRule::parse("databricks:secrets/acls/*=status=501,times=forever").unwrap());
    });
    for ctx in [basic, without_lists] {
        let outcome = run(&ctx, Command::Secrets, &[]).await;
        assert_eq!((outcome.exit, outcome.code), (7, Some(Code::Refused)), "{outcome:?}");
        assert!(!outcome.failure.contains("remove the"), "{}", outcome.failure);
    }
    let premium = world(&[(Command::Secrets, &["--key", "first"])]).await;
    put_acl(&premium, "users", "READ");
    let outcome = run(&premium, Command::Secrets, &[]).await;
    assert!(outcome.exit == 7 && outcome.failure.contains("remove the"), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn that_a_dbt_job_has_a_schedule_is_said_where_the_workflow_starts_by_itself_too() {
    type Edit = fn(&Harness);
    let own: Edit = |_| ();
    let paused: Edit = |ctx| {
        update(
            ctx,
            &json!({ "schedule": { "quartz_cron_expression": "0 0 6 * * ?", "timezone_id": "UTC", "pause_status": "PAUSED" } }),
        );
    };
    let active: Edit = |ctx| {
        update(ctx, &json!({ "schedule": { "quartz_cron_expression": "0 0 6 * * ?", "timezone_id": "UTC" } }));
    };
    let triggered: Edit = |ctx| update(ctx, &json!({ "trigger": { "periodic": { "interval": 1, "unit": "DAYS" } } }));
    let waiting: Edit = |ctx| {
        update(ctx, &json!({ "trigger": { "periodic": { "interval": 1, "unit": "DAYS" }, "pause_status": "PAUSED" } }));
    };
    let at_six = &["--job", "222222", "--schedule", "0 0 6 * * ?"][..];
    let paused_line = &["--job", "222222", "--schedule", "0 0 6 * * ?", "--paused"][..];
    let unpaused = &["--job", "222222", "--unpaused"][..];
    let none = &["--job", "222222", "--no-schedule"][..];
    for (edit, line, is_said) in [
        (None, &JOB[..], false),
        (None, at_six, true),
        (None, paused_line, false),
        (Some(own), &JOB, false),
        (Some(paused), &JOB, false),
        (Some(paused), unpaused, true),
        (Some(active), &JOB, true),
        (Some(active), none, false),
        (Some(triggered), &JOB, true),
        (Some(waiting), &JOB, false),
        (Some(active), &ADD, true),
        (Some(paused), &ADD, false),
        (Some(own), &ADD, false),
        (Some(triggered), &ADD, true),
    ] {
        let ctx = match edit {
            None => world(&[SECRET, NOTEBOOK]).await,
            Some(edit) => {
                let ctx =
                    if line == ADD { with_daily_load(&[]).await } else { world(&[SECRET, NOTEBOOK, WORKFLOW]).await };
                edit(&ctx);
                ctx
            }
        };
        let outcome = run(&ctx, Command::Workflow, line).await;
        assert_eq!(outcome.exit, 0, "{outcome:?}");
        let warned = outcome.data["warnings"].to_string().contains("it will run from both");
        assert_eq!(warned, is_said, "{line:?}: {outcome:?}");
    }
}

fn checked() -> NotebookOutcome {
    NotebookOutcome::Exited { result: json!({ "mode": "check", "ok": true, "output": ["reached"] }).to_string() }
}

/// Whether at most one of each object exists after a race.
fn once(ctx: &Harness) -> bool {
    let state = state(ctx);
    let names: BTreeSet<String> =
        jobs(ctx).iter().map(|job| job["settings"]["name"].as_str().unwrap().to_owned()).collect();
    state["scopes"].as_object().unwrap().len() <= 1 && names.len() == jobs(ctx).len()
}

#[tokio::test(start_paused = true)]
#[ignore = "takes minutes; .ci/run runs it"]
async fn sixteen_at_once_make_one_of_each() {
    at_once(16, &[0, 3, 17, 40]).await;
}

#[tokio::test(start_paused = true)]
async fn four_at_once_make_one_of_each() {
    at_once(4, &[3]).await;
}

/// So many commands, these milliseconds apart. `cargo test --lib at_once -- --nocapture` prints the counts.
#[expect(clippy::print_stdout, reason = "the line is what the test is for")]
async fn at_once(number: u64, delays: &[u64]) {
    let schedule = &["--job", "222222", "--schedule", "0 0 6 * * ?", "--grant", "analysts:CAN_VIEW"][..];
    let set_up = &["--job", "222222", "--schedule", "0 0 6 * * ?", "--grant", "analysts", "-y"][..];
    let fresh = world(&[]).await;
    let prepared = world(&[SECRET, NOTEBOOK]).await;
    let there = world(&[SECRET, NOTEBOOK, WORKFLOW]).await;
    let loaded = with_daily_load(&[]).await;
    let (mut all, mut wrong) = (0, Vec::new());
    for (name, base, command, line) in [
        ("init-secrets", &fresh, Command::Secrets, &["--grant", "analysts"][..]),
        ("deploy-notebook", &fresh, Command::Notebook, &["--grant", "analysts"]),
        ("create-workflow", &prepared, Command::Workflow, schedule),
        ("create-workflow, there", &there, Command::Workflow, schedule),
        ("create-workflow --add-to", &loaded, Command::Workflow, &ADD),
        ("setup", &fresh, Command::Setup, set_up),
    ] {
        for &apart in delays {
            for stale in [0, 2] {
                let ctx = base.copy();
                ctx.world(|world| world.set_stale_reads(stale));
                let racers = (0..number).map(async |racer| {
                    sleep(Duration::from_millis(racer * apart)).await;
                    run(&ctx, command, line).await
                });
                let ends = tokio::select! {
                    ends = Box::pin(join_all(racers)) => ends,
                    () = notebooks(&ctx) => unreachable!("it goes on until dropped"),
                };
                ctx.world(|world| world.set_stale_reads(0));
                ctx.take_log();
                let again = tokio::select! {
                    again = Box::pin(run(&ctx, command, line)) => again,
                    () = notebooks(&ctx) => unreachable!("it goes on until dropped"),
                };
                let mut writes = ctx.take_writes();
                // A check may be started more than once.
                writes.retain(|operation| *operation != "databricks:jobs/runs/submit");
                all += 1;
                let bad: Vec<&String> = ends
                    .iter()
                    .filter(|end| !matches!((end.exit, end.code), (0, None) | (7, Some(Code::ChangedMeanwhile))))
                    .map(|end| &end.failure)
                    .collect();
                if !bad.is_empty() || !once(&ctx) || again.exit != 0 || !writes.is_empty() {
                    wrong.push(format!(
                        "{name}, {apart} ms, {stale} stale: {} jobs, again {} {writes:?}, {bad:?}",
                        jobs(&ctx).len(),
                        again.exit
                    ));
                }
            }
        }
    }
    println!("{number} racers: {} of {all}", all - wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Ends each notebook that starts, until dropped.
async fn notebooks(ctx: &Harness) {
    loop {
        ctx.finish_notebook(checked()).await;
    }
}
