//! `create-workflow --add-to`, end to end against the in-memory sandbox.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::tests::{ask, create, edit, jobs, prepared, warnings};
use crate::commands::tests::harness::{Harness, InjectedFault, Outcome};
use crate::failure::Code;
use crate::sandbox::{FaultRule, NotebookEnd, NotebookOutcome, SimTime};

const LINE: [&str; 4] = ["--add-to", "Daily load", "--job", "222222"];
const UPDATE: &str = "databricks:jobs/update";

/// A workflow of others, with fields unknown to dbtrigger.
fn daily_load() -> Value {
    json!({
        "name": "Daily load", "description": "Finance's. Ask Bo.",
        "tags": { "cost-center": "42" },
        "parameters": [{ "name": "region", "default": "eu", "odd": [1.5, null] }],
        "job_clusters": [{ "job_cluster_key": "small", "new_cluster": { "spark_version": "16.4.x-scala2.12", "odd": {} } }],
        "schedule": { "quartz_cron_expression": "0 0 5 * * ?", "timezone_id": "UTC", "pause_status": "PAUSED", "odd": 1 },
        "health": { "rules": [{ "metric": "RUN_DURATION_SECONDS", "op": "GREATER_THAN", "value": 9_223_372_036_854_775_807_u64 }] },
        "performance_target": "STANDARD",
        "tasks": [
            { "task_key": "load", "ai_thing_task": { "z": 1.50, "a": [null, {}] }, "max_retries": 3, "odd": "kept" },
            { "task_key": "report", "depends_on": [{ "task_key": "load" }], "sql_task": { "odd": { "b": 1, "a": 2 } } },
        ],
    })
}

/// A sandbox with that workflow. Returns its ID.
async fn stage_with(workflow: &Value) -> (Harness, u64) {
    let ctx = prepared().await;
    let id = ask(&ctx, "/api/2.2/jobs/create", workflow)["job_id"].as_u64().unwrap();
    // Fields that the service fills in are stable after a second save.
    edit_by_hand(&ctx, id, |_| ());
    ctx.take_log();
    (ctx, id)
}

async fn ctx() -> (Harness, u64) {
    stage_with(&daily_load()).await
}

fn settings(ctx: &Harness, id: u64) -> Value {
    jobs(ctx).into_iter().find(|job| job["job_id"] == id).unwrap()["settings"].clone()
}

fn task(ctx: &Harness, id: u64, key: &str) -> Value {
    let settings = settings(ctx, id);
    settings["tasks"].as_array().unwrap().iter().find(|task| task["task_key"] == key).cloned().unwrap_or_default()
}

/// The whole workflow without the task of this key.
fn others(ctx: &Harness, id: u64, key: &str) -> String {
    let mut settings = settings(ctx, id);
    settings["tasks"].as_array_mut().unwrap().retain(|task| task["task_key"] != key);
    settings.to_string()
}

fn edit_by_hand(ctx: &Harness, id: u64, change: impl FnOnce(&mut Value)) {
    edit(ctx, &json!({ "job_id": id, "settings": settings(ctx, id) }), change);
}

#[tokio::test(start_paused = true)]
async fn one_task_is_sent_and_nothing_else_changes_and_the_second_time_nothing_is_written() {
    let (ctx, id) = ctx().await;
    let before = others(&ctx, id, "dbt_222222");
    let first = create(&ctx, &LINE).await;
    assert_eq!((first.exit, &first.data["result"]), (0, &json!("added")), "{first:?}");
    let log = ctx.take_log();
    let sent: Vec<_> = log.iter().filter(|seen| seen.writes).collect();
    assert_eq!(sent.len(), 1, "{sent:?}");
    let body: Value = serde_json::from_str(&sent[0].body).unwrap();
    assert_eq!(sent[0].operation, UPDATE);
    assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), ["job_id", "new_settings"]);
    assert_eq!(body["new_settings"].as_object().unwrap().keys().collect::<Vec<_>>(), ["tasks"]);
    assert_eq!(body["new_settings"]["tasks"].as_array().unwrap().len(), 1);
    assert_eq!(others(&ctx, id, "dbt_222222"), before);
    let added = task(&ctx, id, "dbt_222222");
    assert_eq!(added["notebook_task"]["base_parameters"]["job_id"], "222222");
    assert_eq!(added["notebook_task"]["source"], "WORKSPACE");
    assert_eq!((&first.data["job_id"], &first.data["task_key"]), (&json!(id.to_string()), &json!("dbt_222222")));
    assert_eq!((&first.data["name"], &first.data["dbt_job_id"]), (&json!("Daily load"), &json!("222222")));
    assert!(first.text.contains(&format!("run the whole workflow: dbtrigger run --workflow {id}")), "{}", first.text);
    assert_eq!(warnings(&first), [""; 0], "the schedule of the workflow is paused, so nothing runs twice");

    let (address, id_text) = (format!("http://127.0.0.1:1/jobs/{id}?o=1"), id.to_string());
    for workflow in ["Daily load", &address, &id_text] {
        let second = create(&ctx, &["--add-to", workflow, "--job", "222222", "--force", "--adopt"]).await;
        assert_eq!((second.exit, &second.data["result"]), (0, &json!("kept")), "{second:?}");
        assert_eq!(ctx.take_writes(), [""; 0]);
    }
    // The order of tasks is not guaranteed.
    edit_by_hand(&ctx, id, |settings| settings["tasks"].as_array_mut().unwrap().reverse());
    ctx.take_log();
    assert_eq!(create(&ctx, &LINE).await.data["result"], "kept");
    assert_eq!(ctx.take_writes(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn flags_that_changed_replace_the_task_alone_and_left_out_they_stay() {
    let (ctx, id) = ctx().await;
    let before = others(&ctx, id, "late");
    let key = ["--task-key", "late"];
    create(&ctx, &[&LINE[..], &key].concat()).await;
    let more = [
        "--depends-on",
        "late=load,report",
        "--compute",
        "job-cluster:small",
        "--retries",
        "2",
        "--task-timeout",
        "2h",
    ];
    ctx.take_log();
    let outcome = create(&ctx, &[&LINE[..], &key, &more].concat()).await;
    assert_eq!((outcome.exit, &outcome.data["result"]), (0, &json!("updated")), "{outcome:?}");
    assert_eq!(ctx.take_writes(), [UPDATE]);
    let late = task(&ctx, id, "late");
    assert_eq!(late["depends_on"], json!([{ "task_key": "load" }, { "task_key": "report" }]));
    assert_eq!((&late["job_cluster_key"], &late["max_retries"]), (&json!("small"), &json!(2)));
    assert_eq!(others(&ctx, id, "late"), before);
    assert_eq!(create(&ctx, &[&LINE[..], &key].concat()).await.data["result"], "kept");
    assert_eq!(task(&ctx, id, "late"), late);
    // Without `--task-key` it is another task.
    assert_eq!(create(&ctx, &LINE).await.data["result"], "added");
    assert_eq!(settings(&ctx, id)["tasks"].as_array().unwrap().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn in_each_cell_of_the_table_not_a_byte_of_others_changes() {
    type Change = fn(&mut Value);
    let ours: Change = |_| ();
    let edited: Change = |settings| settings["tasks"][2]["disable_auto_optimization"] = false.into();
    let renamed: Change = |settings| settings["tasks"][2]["task_key"] = "renamed".into();
    let unmarked: Change = |settings| settings["tasks"][2]["description"] = "Bo's".into();
    let foreign: Change =
        |settings| settings["tasks"][2] = json!({ "task_key": "dbt_222222", "sql_task": { "odd": 1.5 } });
    let bundled: Change = |settings| settings["deployment"] = json!({ "kind": "BUNDLE" });
    let terraform: Change = |settings| settings["tags"] = json!({ "ManagedBy": "Terraform" });
    let copied: Change = |settings| {
        let mut copy = settings["tasks"][2].clone();
        copy["task_key"] = "copy".into();
        settings["tasks"].as_array_mut().unwrap().push(copy);
    };
    let (other, same) = (&["--retries", "1"][..], &[][..]);
    for (cell, change, flags, exit, says) in [
        ("ours", ours, same, 0, ""),
        ("ours, another flag", ours, other, 0, ""),
        ("ours, edited", edited, same, 7, "--force"),
        ("ours, edited", edited, &["--force"], 0, ""),
        ("ours, renamed", renamed, other, 0, ""),
        ("ours, without its mark", unmarked, same, 7, "--adopt"),
        ("ours, without its mark", unmarked, &["--adopt"], 0, ""),
        ("foreign", foreign, &["--adopt", "--force"], 7, "--task-key"),
        ("ours, a bundle's", bundled, same, 0, ""),
        ("ours, a bundle's", bundled, &["--retries", "1", "--force"], 7, "bundle"),
        ("ours, Terraform's", terraform, &["--retries", "1", "--force"], 7, "Terraform"),
        ("ours twice", copied, &["--force"], 7, "dbt_222222"),
    ] {
        let (ctx, id) = ctx().await;
        create(&ctx, &LINE).await;
        edit_by_hand(&ctx, id, change);
        let key = if cell.contains("renamed") { "renamed" } else { "dbt_222222" };
        let (before, whole) = (others(&ctx, id, key), settings(&ctx, id));
        ctx.take_log();
        let outcome = create(&ctx, &[&LINE[..], flags].concat()).await;
        assert_eq!(outcome.exit, exit, "{cell} {flags:?}: {outcome:?}");
        assert!(outcome.failure.contains(says), "{cell}: {}", outcome.failure);
        assert_eq!(others(&ctx, id, key), before, "{cell} {flags:?}");
        if exit != 0 {
            assert_eq!((ctx.take_writes(), settings(&ctx, id)), (vec![], whole), "{cell} {flags:?}");
            continue;
        }
        ctx.take_log();
        let again = create(&ctx, &LINE).await;
        assert_eq!((again.exit, ctx.take_writes()), (0, vec![]), "{cell} {flags:?}: {again:?}");
        assert_eq!(again.data["task_key"], key);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_shows_what_differs_or_the_task_to_add_elsewhere() {
    let (ctx, id) = ctx().await;
    create(&ctx, &LINE).await;
    edit_by_hand(&ctx, id, |settings| settings["tasks"][2]["disable_auto_optimization"] = false.into());
    let outcome = create(&ctx, &LINE).await;
    assert!(outcome.text.contains("- task.disable_auto_optimization: false"), "{}", outcome.text);
    let dry = create(&ctx, &[&LINE[..], &["--dry-run"]].concat()).await;
    assert!(dry.exit == 0 && dry.text.contains("Plan cannot be applied: "), "{dry:?}");

    let mut bundled = daily_load();
    bundled["edit_mode"] = "UI_LOCKED".into();
    let (ctx, _) = stage_with(&bundled).await;
    let outcome = create(&ctx, &LINE).await;
    assert_eq!((outcome.exit, ctx.take_writes()), (7, vec![]), "{outcome:?}");
    assert!(outcome.text.contains("\"task_key\": \"dbt_222222\""), "{}", outcome.text);
    assert!(outcome.failure.contains("add the task shown above to the job there; this command"), "{}", outcome.failure);
}

#[tokio::test(start_paused = true)]
async fn a_workflow_that_is_not_one_is_refused_with_all_that_there_are() {
    let (ctx, id) = ctx().await;
    let second = ask(&ctx, "/api/2.2/jobs/create", &daily_load())["job_id"].to_string();
    ctx.take_log();
    let outcome = create(&ctx, &LINE).await;
    assert_eq!((outcome.exit, outcome.code), (2, Some(Code::InvalidInput)), "{outcome:?}");
    for id in [&id.to_string(), &second] {
        let command = format!("dbtrigger create-workflow --add-to {id} --job 222222");
        assert!(outcome.failure.contains(&command), "{}", outcome.failure);
    }
    for (workflow, exit, says) in [
        ("daily load", 6, "did you mean \\\"Daily load\\\""),
        ("99", 6, "cannot read workflow 99"),
        (" ", 2, "is not a workflow: it is empty"),
        ("https://dbc.cloud.databricks.com/jobs/1", 2, "but the Databricks identity is for"),
    ] {
        let outcome = create(&ctx, &["--add-to", workflow, "--job", "222222"]).await;
        assert_eq!(outcome.exit, exit, "{workflow}: {outcome:?}");
        assert!(outcome.failure.contains(says), "{workflow}: {}", outcome.failure);
    }
    assert_eq!(ctx.take_writes(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_goes_not_together_with_one_task_is_refused_before_anything_is_sent() {
    let (ctx, _) = ctx().await;
    for (line, code, says) in [
        (&["--job", "222225"][..], Code::Usage, "--add-to adds one task, but 2 --job are given"),
        (&["--name", "x"], Code::Usage, "--name is about the whole workflow"),
        (&["--schedule", "0 0 6 * * ?", "--timezone", "UTC"], Code::Usage, "--schedule, --timezone are about"),
        (&["--no-schedule"], Code::Usage, "--no-schedule"),
        (&["--paused"], Code::Usage, "--paused"),
        (&["--unpaused"], Code::Usage, "--unpaused"),
        (&["--tag", "a=b"], Code::Usage, "--tag"),
        (&["--notify", "ops@example.com"], Code::Usage, "--notify"),
        (&["--task-key", "a b"], Code::InvalidInput, "a key may contain only letters, digits, - and _"),
        (&["--depends-on", "load=report"], Code::InvalidInput, "only the added task dbt_222222"),
    ] {
        let outcome = create(&ctx, &[&LINE[..], line].concat()).await;
        assert_eq!((outcome.exit, outcome.code), (2, Some(code)), "{outcome:?}");
        assert!(outcome.failure.contains(says), "{}", outcome.failure);
    }
    let outcome = create(&ctx, &["--add-to", "Daily load", "--job", "one=222222", "--task-key", "two"]).await;
    assert_eq!(outcome.code, Some(Code::Contradiction), "{outcome:?}");
    assert!(ctx.take_log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn dependencies_on_what_is_not_there_and_circles_are_refused_with_the_keys() {
    let (ctx, id) = ctx().await;
    let outcome = create(&ctx, &[&LINE[..], &["--depends-on", "dbt_222222=load,lode"]].concat()).await;
    assert_eq!((outcome.exit, outcome.code), (7, Some(Code::Refused)), "{outcome:?}");
    assert!(
        outcome.failure.contains("no task lode,") && outcome.failure.contains("report, load"),
        "{}",
        outcome.failure
    );
    assert_eq!(create(&ctx, &LINE).await.exit, 0);
    edit_by_hand(&ctx, id, |settings| settings["tasks"][0]["depends_on"] = json!([{ "task_key": "dbt_222222" }]));
    ctx.take_log();
    let outcome = create(&ctx, &[&LINE[..], &["--depends-on", "dbt_222222=report"]].concat()).await;
    assert_eq!((outcome.exit, outcome.code), (7, Some(Code::Refused)), "{outcome:?}");
    assert!(outcome.failure.contains("a cycle of dbt_222222, load, report"), "{}", outcome.failure);
    assert_eq!(ctx.take_writes(), [""; 0]);
}

/// Ends every notebook that starts. Returns their parameters.
async fn run_now(ctx: &Harness, line: &[&str]) -> (Outcome, Vec<Value>) {
    let seen = std::cell::RefCell::new(Vec::new());
    let notebooks = async {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            ctx.world(|world| {
                while let Some(task) = world.next_notebook(SimTime(0)) {
                    seen.borrow_mut().push(json!(task.parameters));
                    let end = NotebookEnd { outcome: NotebookOutcome::Finished, output: String::new() };
                    world.notebook_ended(SimTime(0), task.task_run_id, end);
                }
            });
        }
    };
    let outcome = tokio::select! {
        ended = create(ctx, line) => ended,
        () = notebooks => unreachable!("it goes on until dropped"),
    };
    (outcome, seen.into_inner())
}

#[tokio::test(start_paused = true)]
async fn with_run_now_the_whole_workflow_runs_and_a_job_id_of_its_own_does_not_reach_our_task() {
    let path = "/Users/ana@example.com/dbtrigger/run_dbt_job_51234";
    let theirs = json!({
        "name": "Daily load", "parameters": [{ "name": "job_id", "default": "7" }],
        "tasks": [{ "task_key": "load", "notebook_task": { "notebook_path": path, "source": "WORKSPACE" } }],
    });
    let (ctx, id) = stage_with(&theirs).await;
    let line = [&LINE[..], &["--depends-on", "dbt_222222=load", "--run-now"]].concat();
    let dry = create(&ctx, &[&line[..], &["--dry-run"]].concat()).await;
    assert!(dry.text.contains("Then: run the whole workflow (with its other task)"), "{}", dry.text);
    assert_eq!(ctx.take_writes(), [""; 0]);
    let (outcome, parameters) = run_now(&ctx, &line).await;
    assert_eq!((outcome.exit, &outcome.data["run"]["status"]), (0, &json!("SUCCESS")), "{outcome:?}");
    assert_eq!(ctx.take_writes(), [UPDATE, "databricks:jobs/run-now"]);
    assert!(outcome.said().contains("Running the whole workflow (with its other task)."), "{}", outcome.said());
    // The workflow's own `job_id` overrides both tasks; our task has another parameter that takes precedence.
    assert_eq!(parameters.len(), 2, "{parameters:?}");
    assert!(parameters.iter().all(|seen| seen["job_id"] == "7"), "{parameters:?}");
    assert_eq!(parameters[1]["dbtrigger_job_id"], "222222", "{parameters:?}");
    let base = task(&ctx, id, "dbt_222222")["notebook_task"]["base_parameters"].clone();
    assert_eq!(base["job_id"], Value::Null);
    edit_by_hand(&ctx, id, |settings| {
        settings["parameters"].as_array_mut().unwrap().push(json!({ "name": "dbtrigger_job_id", "default": "" }));
    });
    ctx.take_log();
    let outcome = create(&ctx, &line).await;
    assert_eq!((outcome.exit, ctx.take_writes()), (7, vec![]), "{outcome:?}");
    assert!(outcome.failure.contains("has its own parameter dbtrigger_job_id"), "{}", outcome.failure);
}

#[tokio::test(start_paused = true)]
async fn whoever_may_see_the_workflow_and_not_change_it_is_told_who_can_give_the_right() {
    const BO: &str = "dapi-rehearsal-bo-0123456789";
    let (ctx, id) = ctx().await;
    ctx.world(|world| world.add_caller("bo@example.com", BO, false, &[]));
    let path = "/Users/ana@example.com/dbtrigger/run_dbt_job_51234";
    let line = [&LINE[..], &["--notebook", path]].concat();
    assert_eq!(
        ctx.run(crate::commands::deploy_notebook::run, &["--grant", "bo@example.com:CAN_READ"]).await.unwrap().exit,
        0
    );
    assert_eq!(ctx.run(crate::commands::init_secrets::run, &["--grant", "bo@example.com"]).await.unwrap().exit, 0);
    grant(&ctx, id, "CAN_VIEW");
    ctx.set("DATABRICKS_TOKEN", BO);
    let outcome = create(&ctx, &line).await;
    assert_eq!((outcome.exit, outcome.code), (4, Some(Code::NotAllowed)), "{outcome:?}");
    for words in [
        "cannot create task dbt_222222 in job",
        "requires CAN_MANAGE",
        "its owner or a workspace administrator can grant it under",
    ] {
        assert!(outcome.failure.contains(words), "{}", outcome.failure);
    }
    assert_eq!(task(&ctx, id, "dbt_222222"), Value::Null);
    // The run-as identity is not the caller.
    grant(&ctx, id, "CAN_MANAGE");
    let outcome = create(&ctx, &line).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    assert!(
        outcome.said().contains("whether the run-as identity ana@example.com can read the secret scope"),
        "{}",
        outcome.said()
    );
}

fn grant(ctx: &Harness, id: u64, level: &str) {
    let request = http::Request::patch(format!("http://127.0.0.1:1/api/2.0/permissions/jobs/{id}"))
        .header("authorization", format!("Bearer {}", crate::commands::tests::harness::DATABRICKS_TOKEN))
        .header("content-type", "application/json")
        .body(
            json!({ "access_control_list": [{ "user_name": "bo@example.com", "permission_level": level }] })
                .to_string()
                .into(),
        )
        .unwrap();
    let reply = ctx.world(|world| world.answer(SimTime(0), &request));
    assert!(matches!(reply, crate::sandbox::Reply::Answer(ref answer) if answer.status().is_success()), "{reply:?}");
}

#[tokio::test(start_paused = true)]
async fn a_workflow_that_is_deleted_meanwhile_is_named_so() {
    for rule in ["databricks:jobs/update=status=404", "databricks:jobs/get=status=404,nth=2"] {
        let (ctx, id) = ctx().await;
        ctx.world(|world| world.add_fault(FaultRule::parse(rule).unwrap()));
        let outcome = create(&ctx, &["--add-to", &id.to_string(), "--job", "222222"]).await;
        assert_eq!((outcome.exit, outcome.code), (6, Some(Code::NotFound)), "{rule}: {outcome:?}");
        assert!(outcome.failure.contains("the workflow was deleted meanwhile"), "{rule}: {}", outcome.failure);
    }
}

#[tokio::test(start_paused = true)]
async fn a_workspace_without_serverless_is_told_so_and_other_compute_works() {
    let mut workflow = daily_load();
    workflow["tasks"][1]["job_cluster_key"] = "small".into();
    let (ctx, id) = stage_with(&workflow).await;
    ctx.world(|world| world.set_serverless(false));
    let outcome = create(&ctx, &LINE).await;
    assert_eq!((outcome.exit, outcome.code), (1, Some(Code::Failed)), "{outcome:?}");
    assert!(outcome.failure.contains("does not allow serverless compute"), "{}", outcome.failure);
    let outcome = create(&ctx, &[&LINE[..], &["--compute", "job-cluster:smal"]].concat()).await;
    assert_eq!(outcome.exit, 7, "{outcome:?}");
    assert!(outcome.failure.contains("has no job cluster smal; its job clusters: small"), "{}", outcome.failure);
    assert_eq!(create(&ctx, &[&LINE[..], &["--compute", "job-cluster:small"]].concat()).await.exit, 0);
    assert_eq!(task(&ctx, id, "dbt_222222")["job_cluster_key"], "small");
}

#[tokio::test(start_paused = true)]
async fn overrides_that_the_notebook_does_not_allow_are_refused_those_from_before_included() {
    let (ctx, id) = ctx().await;
    let line = [&LINE[..], &["--override", "git_branch=main"]].concat();
    let outcome = create(&ctx, &line).await;
    assert_eq!((outcome.exit, ctx.take_writes()), (7, vec![]), "{outcome:?}");
    assert!(outcome.failure.contains("deploy-notebook --allow-override git_branch"), "{}", outcome.failure);
    ctx.run(crate::commands::deploy_notebook::run, &["--allow-override", "git_branch"]).await;
    assert_eq!(create(&ctx, &line).await.exit, 0);
    let base = task(&ctx, id, "dbt_222222")["notebook_task"]["base_parameters"].clone();
    assert_eq!(base["dbtrigger_overrides"], r#"{"git_branch":"main"}"#);
    ctx.run(crate::commands::deploy_notebook::run, &["--allow-override", "none"]).await;
    assert_eq!(create(&ctx, &LINE).await.exit, 7);
    assert_eq!(create(&ctx, &[&LINE[..], &["--override", "none"]].concat()).await.exit, 0);
    assert_eq!(create(&ctx, &LINE).await.data["result"], "kept");
}

#[tokio::test(start_paused = true)]
async fn dbt_need_not_be_asked_and_its_no_is_still_a_no() {
    let (ctx, _) = ctx().await;
    assert_eq!(create(&ctx, &["--add-to", "Daily load", "--job", "987654"]).await.exit, 6);
    ctx.world(|world| world.add_fault(FaultRule::parse("dbt:jobs/get=refused,times=forever").unwrap()));
    let outcome = create(&ctx, &[&LINE[..], &["--dry-run"]].concat()).await;
    assert!(outcome.exit == 0 && outcome.said().contains("cannot read dbt job"), "{outcome:?}");
    for name in ["DBT_CLOUD_TOKEN", "DBT_CLOUD_HOST"] {
        ctx.set(name, "");
    }
    ctx.take_log();
    assert_eq!(create(&ctx, &LINE).await.exit, 0);
    assert!(ctx.take_log().iter().all(|seen| seen.operation.starts_with("databricks:")));
    ctx.set("DBT_CLOUD_ACCOUNT_ID", "");
    let outcome = create(&ctx, &LINE).await;
    assert_eq!(outcome.code, Some(Code::MissingInput), "{outcome:?}");
    assert!(outcome.failure.contains("--notebook") && !outcome.failure.contains("--name"), "{}", outcome.failure);
}

#[tokio::test(start_paused = true)]
async fn two_at_the_same_time_lose_nothing_and_each_is_told_of_the_other() {
    let (ctx, id) = ctx().await;
    let before = others(&ctx, id, "");
    let (left, right) = ([&LINE[..], &["--task-key", "left"]].concat(), [&LINE[..], &["--task-key", "right"]].concat());
    let (left, right) = tokio::join!(create(&ctx, &left), create(&ctx, &right));
    assert_eq!((left.exit, right.exit), (0, 0), "{left:?} {right:?}");
    assert_ne!(task(&ctx, id, "left"), Value::Null);
    assert_ne!(task(&ctx, id, "right"), Value::Null);
    let warns_of = |outcome: &Outcome, other: &str| {
        warnings(outcome)
            .iter()
            .any(|said| said.contains(&format!("at the same time: tasks.{other}; that change is kept")))
    };
    assert!(warns_of(&left, "right") || warns_of(&right, "left"), "{left:?} {right:?}");
    edit_by_hand(&ctx, id, |settings| {
        settings["tasks"]
            .as_array_mut()
            .unwrap()
            .retain(|task| task["task_key"] != "left" && task["task_key"] != "right");
    });
    assert_eq!(others(&ctx, id, ""), before);
}

#[tokio::test(start_paused = true)]
async fn more_tasks_than_one_page_has_are_all_seen() {
    let mut workflow = daily_load();
    let tasks = workflow["tasks"].as_array_mut().unwrap();
    tasks.extend((0..230).map(|number| json!({ "task_key": format!("t{number}"), "sql_task": {} })));
    let (ctx, id) = stage_with(&workflow).await;
    let before = others(&ctx, id, "dbt_222222");
    assert_eq!(create(&ctx, &[&LINE[..], &["--depends-on", "dbt_222222=t0,t229"]].concat()).await.exit, 0);
    ctx.take_log();
    assert_eq!(create(&ctx, &LINE).await.data["result"], "kept");
    assert_eq!((ctx.take_writes(), others(&ctx, id, "dbt_222222")), (vec![], before));
}

#[tokio::test(start_paused = true)]
async fn a_workflow_from_git_gets_a_task_from_the_workspace() {
    let mut workflow = daily_load();
    workflow["git_source"] =
        json!({ "git_url": "https://git.example.com/x", "git_provider": "gitHub", "git_branch": "main" });
    let (ctx, id) = stage_with(&workflow).await;
    assert_eq!(create(&ctx, &LINE).await.exit, 0);
    assert_eq!(task(&ctx, id, "dbt_222222")["notebook_task"]["source"], "WORKSPACE");
    assert_eq!(create(&ctx, &LINE).await.data["result"], "kept");
}

#[tokio::test(start_paused = true)]
async fn a_task_added_to_a_workflow_of_ours_stays_out_of_its_way() {
    let ctx = prepared().await;
    let own = ["--name", "Own", "--job", "222222"];
    create(&ctx, &own).await;
    let added = ["--add-to", "Own", "--job", "222225", "--depends-on", "dbt_222225=dbt_222222"];
    assert_eq!(create(&ctx, &added).await.data["result"], "added");
    let id = jobs(&ctx)[0]["job_id"].as_u64().unwrap();
    let task_before = task(&ctx, id, "dbt_222225");
    ctx.take_log();
    assert_eq!(create(&ctx, &own).await.data["result"], "kept");
    assert_eq!(ctx.take_writes(), [""; 0]);
    // From one job to two and back, our workflow loses and regains its parameter `job_id`; the added task is unchanged.
    let two = [&own[..], &["--job", "222223"]].concat();
    for line in [&two[..], &own] {
        assert_eq!(create(&ctx, line).await.data["result"], "updated", "{line:?}");
        assert_eq!(task(&ctx, id, "dbt_222225"), task_before);
        assert_eq!(create(&ctx, &added).await.data["result"], "kept", "{line:?}");
    }
    // Its own task cannot be taken over.
    let outcome = create(&ctx, &["--add-to", "Own", "--job", "222222", "--adopt", "--force"]).await;
    assert_eq!(outcome.exit, 7, "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn stale_reads_after_the_write_are_waited_out() {
    let (ctx, id) = ctx().await;
    ctx.world(|world| world.set_stale_reads(3));
    assert_eq!(create(&ctx, &LINE).await.exit, 0);
    assert_ne!(task(&ctx, id, "dbt_222222"), Value::Null);
}

#[tokio::test(start_paused = true)]
async fn killed_or_disturbed_at_any_request_the_same_command_again_ends_in_the_same_world() {
    let (fresh, id) = ctx().await;
    let with_task = fresh.copy();
    create(&with_task, &LINE).await;
    with_task.take_log();
    let update = [&LINE[..], &["--depends-on", "dbt_222222=load", "--retries", "1"]].concat();
    for (base, line) in [(fresh, &LINE[..]), (with_task, &update)] {
        let calm = base.copy();
        create(&calm, line).await;
        let (requests, expected) = (calm.take_log().len(), settings(&calm, id));
        assert!(requests >= 7, "{requests}");
        for trouble in InjectedFault::REPEATABLE {
            for index in 0..requests {
                let ctx = base.copy();
                ctx.inject_fault(index, trouble);
                let first = ctx.run(super::super::run, line).await;
                let killed = matches!(trouble, InjectedFault::KilledBefore | InjectedFault::KilledAfter);
                assert_eq!(first.is_none(), killed, "{trouble:?} at {index}");
                if let Some(first) = first {
                    assert_eq!(first.exit, 0, "{trouble:?} at {index}: {first:?}");
                }
                assert_eq!(create(&ctx, line).await.exit, 0, "{trouble:?} at {index}");
                assert_eq!(settings(&ctx, id), expected, "{trouble:?} at {index}");
                ctx.take_log();
                create(&ctx, line).await;
                assert_eq!(ctx.take_writes(), [""; 0], "{trouble:?} at {index}");
            }
        }
    }
}
