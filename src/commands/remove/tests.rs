//! What `remove` deletes and keeps, and how it handles interruptions, against the in-memory sandbox.

use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::commands::tests::harness::{Harness, InjectedFault, Outcome};
use crate::commands::tests::person::Person;
use crate::commands::{create_workflow, deploy_notebook, init_secrets};
use crate::credentials::AccountFlags;

const PATH: &str = "/Users/ana@example.com/dbtrigger/run_dbt_job_51234";
const SERVICE: &str = "0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d11";
const ALL: [&str; 3] = ["--all", "--with-secret", "-y"];

async fn remove(ctx: &Harness, line: &[&str]) -> Outcome {
    Box::pin(ctx.run(run, line)).await.expect("nobody kills it")
}

/// Runs the command whose name comes first.
async fn make(ctx: &Harness, line: &[&str]) {
    let (command, line) = line.split_first().unwrap();
    let ended = match *command {
        "init-secrets" => Box::pin(ctx.run(init_secrets::run, line)).await,
        "deploy-notebook" => Box::pin(ctx.run(deploy_notebook::run, line)).await,
        "create-workflow" => Box::pin(ctx.run(create_workflow::run, line)).await,
        other => panic!("{other}"),
    };
    let outcome = ended.expect("nobody kills it");
    assert_eq!(outcome.exit, 0, "{command} {line:?}: {outcome:?}");
}

async fn world(lines: &[&[&str]]) -> Harness {
    let ctx = Harness::new();
    for line in lines {
        make(&ctx, line).await;
    }
    ctx.take_log();
    ctx
}

const SECRET: &[&str] = &["init-secrets"];
const NOTEBOOK: &[&str] = &["deploy-notebook"];
const WORKFLOW: &[&str] = &["create-workflow", "--job", "222222"];
const ADD: &[&str] = &["create-workflow", "--add-to", "Daily load", "--job", "222222"];

/// The sandbox's state without runs, which are never deleted.
fn state(ctx: &Harness) -> Value {
    let mut found = ctx.world(|world| world.inspect());
    for runs in ["job_runs", "dbt_runs"] {
        found.as_object_mut().unwrap().shift_remove(runs);
    }
    found
}

fn steps(outcome: &Outcome) -> Vec<String> {
    let step = |step: &Value| {
        let word = |name: &str| step[name].as_str().unwrap();
        format!("{} {} {}", word("kind"), word("action"), word("progress"))
    };
    outcome.data["steps"].as_array().unwrap().iter().map(step).collect()
}

fn note(outcome: &Outcome, kind: &str) -> String {
    let steps = outcome.data["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["kind"] == kind).unwrap_or_else(|| panic!("{kind}: {steps:?}"));
    step["note"].as_str().unwrap_or_default().to_owned()
}

fn jobs(ctx: &Harness) -> Vec<Value> {
    state(ctx)["jobs"].as_array().unwrap().clone()
}

fn job_named(ctx: &Harness, name: &str) -> Value {
    jobs(ctx).into_iter().find(|job| job["settings"]["name"] == name).unwrap_or_default()
}

fn update(ctx: &Harness, job: &Value, new_settings: &Value) {
    ctx.post("/api/2.2/jobs/update", &json!({ "job_id": job["job_id"], "new_settings": new_settings }));
}

fn import(ctx: &Harness, path: &str, text: &str) {
    let (folder, _) = path.rsplit_once('/').unwrap();
    ctx.post("/api/2.0/workspace/mkdirs", &json!({ "path": folder }));
    let content = STANDARD.encode(text);
    let body = json!({ "path": path, "format": "SOURCE", "language": "PYTHON", "content": content, "overwrite": true });
    ctx.post("/api/2.0/workspace/import", &body);
}

fn text(ctx: &Harness) -> String {
    state(ctx)["workspace"][PATH]["content"].as_str().unwrap().to_owned()
}

fn daily_load(ctx: &Harness) {
    let body = json!({ "name": "Daily load", "description": "Ask Bo", "tags": { "team": "bi" },
        // Otherwise the service sets it with the first serverless task and keeps it.
        "performance_target": "STANDARD",
        "tasks": [{ "task_key": "load", "sql_task": { "x": 1 } },
            { "task_key": "report", "sql_task": { "x": 2 }, "depends_on": [{ "task_key": "load" }] }] });
    ctx.post("/api/2.2/jobs/create", &body);
}

/// Scopes, notebooks, jobs and grants of others.
fn others(ctx: &Harness) {
    ctx.post("/api/2.0/secrets/scopes/create", &json!({ "scope": "team" }));
    ctx.post("/api/2.0/secrets/put", &json!({ "scope": "team", "key": "api-key", "string_value": "theirs" }));
    let acl = json!({ "scope": "team", "principal": "analysts", "permission": "READ" });
    ctx.post("/api/2.0/secrets/acls/put", &acl);
    import(ctx, "/Shared/theirs", "# Databricks notebook source\nprint(1)");
    import(ctx, "/Users/ana@example.com/own/load", "# Databricks notebook source\nprint(2)");
    daily_load(ctx);
    let body = json!({ "name": "Nightly", "access_control_list": [{ "group_name": "analysts", "permission_level": "CAN_VIEW" }],
        "tasks": [{ "task_key": "a", "notebook_task": { "notebook_path": "/Shared/theirs", "source": "WORKSPACE" } }] });
    ctx.post("/api/2.2/jobs/create", &body);
}

/// State before, and the commands that create things.
struct World {
    name: &'static str,
    before: fn(&Harness),
    made: &'static [&'static [&'static str]],
    /// Flags that `remove` needs.
    flags: &'static [&'static str],
}

const WORLDS: [World; 14] = [
    World { name: "empty", before: |_| (), made: &[SECRET, NOTEBOOK, WORKFLOW], flags: &[] },
    World { name: "nothing made", before: others, made: &[], flags: &[] },
    World { name: "others'", before: others, made: &[SECRET, NOTEBOOK, WORKFLOW], flags: &[] },
    World { name: "added task", before: others, made: &[SECRET, NOTEBOOK, ADD], flags: &[] },
    World { name: "workflow and added task", before: others, made: &[SECRET, NOTEBOOK, ADD, WORKFLOW], flags: &[] },
    World {
        name: "two added tasks, one after the other",
        before: others,
        made: &[
            SECRET,
            NOTEBOOK,
            ADD,
            &["create-workflow", "--add-to", "Daily load", "--job", "222223", "--depends-on", "dbt_222223=dbt_222222"],
        ],
        flags: &[],
    },
    World {
        name: "added to a workflow of ours",
        before: others,
        made: &[
            SECRET,
            NOTEBOOK,
            WORKFLOW,
            &["create-workflow", "--add-to", "dbt: Nightly build (222222)", "--job", "222223"],
        ],
        flags: &[],
    },
    World {
        name: "several jobs, schedule, tags, access",
        before: others,
        made: &[
            SECRET,
            &["deploy-notebook", "--grant", "data-engineers"],
            &[
                "create-workflow",
                "--name",
                "Both",
                "--job",
                "222222",
                "--job",
                "222223",
                "--schedule",
                "0 0 6 * * ?",
                "--tag",
                "team=bi",
                "--grant",
                "analysts:CAN_VIEW",
            ],
        ],
        flags: &[],
    },
    World {
        name: "elsewhere",
        before: others,
        made: &[
            &["init-secrets", "--scope", "new", "--key", "dbt"],
            &["deploy-notebook", "--notebook", "/Users/ana@example.com/second", "--scope", "new", "--key", "dbt"],
            &["create-workflow", "--job", "222222", "--notebook", "/Users/ana@example.com/second"],
        ],
        flags: &[],
    },
    World {
        name: "elsewhere, without a workflow",
        before: others,
        made: &[
            &["init-secrets", "--scope", "new", "--key", "dbt"],
            &["deploy-notebook", "--notebook", "/Users/ana@example.com/second"],
        ],
        flags: &["--notebook", "/Users/ana@example.com/second", "--scope", "new", "--key", "dbt"],
    },
    World {
        name: "a scope with another key",
        before: |ctx| {
            ctx.post("/api/2.0/secrets/scopes/create", &json!({ "scope": "dbt-cloud" }));
            let body = json!({ "scope": "dbt-cloud", "key": "other", "string_value": "theirs" });
            ctx.post("/api/2.0/secrets/put", &body);
        },
        made: &[SECRET, NOTEBOOK, WORKFLOW],
        flags: &[],
    },
    World {
        name: "a folder with something else",
        before: |ctx| {
            import(ctx, "/Users/ana@example.com/dbtrigger/notes", "# Databricks notebook source\nprint(3)");
        },
        made: &[SECRET, NOTEBOOK, WORKFLOW],
        flags: &[],
    },
    World {
        name: "another's job of the same name",
        before: |ctx| {
            others(ctx);
            let body = json!({ "name": "dbt: Nightly build (222222)", "tasks": [{ "task_key": "x", "sql_task": {} },
                { "task_key": "y", "sql_task": {} }] });
            ctx.post("/api/2.2/jobs/create", &body);
        },
        made: &[SECRET, NOTEBOOK, &["create-workflow", "--job", "222222", "--name", "Mine"]],
        flags: &[],
    },
    World {
        name: "many jobs, many tasks",
        before: |ctx| {
            let tasks: Vec<Value> =
                (0..130).map(|index| json!({ "task_key": format!("t{index}"), "sql_task": {} })).collect();
            ctx.post(
                "/api/2.2/jobs/create",
                &json!({ "name": "Daily load", "performance_target": "STANDARD", "tasks": tasks }),
            );
            for index in 0..60 {
                let tasks = json!([{ "task_key": "t", "sql_task": {} }]);
                ctx.post("/api/2.2/jobs/create", &json!({ "name": format!("Job {index}"), "tasks": tasks }));
            }
        },
        made: &[SECRET, NOTEBOOK, ADD, WORKFLOW],
        flags: &[],
    },
];

/// `cargo test --lib the_workspace_is_as_before -- --nocapture` prints the counts.
#[tokio::test(start_paused = true)]
#[expect(clippy::print_stdout, reason = "the line is what the test is for")]
async fn the_workspace_is_as_before_after_everything_made_is_removed() {
    let (mut all, mut wrong) = (0, Vec::new());
    for World { name, before, made, flags } in &WORLDS {
        for stale in [0, 2] {
            let ctx = Harness::new();
            before(&ctx);
            let due = state(&ctx).to_string();
            for line in *made {
                make(&ctx, line).await;
            }
            ctx.world(|world| world.set_stale_reads(stale));
            let line = [&ALL[..], flags].concat();
            let dry = remove(&ctx, &[&line[..], &["--dry-run"]].concat()).await;
            let shown = ctx.take_writes();
            let outcome = remove(&ctx, &line).await;
            ctx.world(|world| world.set_stale_reads(0));
            let found = state(&ctx).to_string();
            ctx.take_log();
            let again = remove(&ctx, &line).await;
            all += 1;
            let is_well = (dry.exit, outcome.exit, again.exit) == (0, 0, 0);
            if !is_well || found != due || shown.contains(&"databricks:jobs/delete") || !ctx.take_writes().is_empty() {
                let place = due.bytes().zip(found.bytes()).take_while(|(due, found)| due == found).count();
                let end = found.len().min(place + 300);
                wrong.push(format!(
                    "{name}, {stale} stale: {} {} …{}",
                    outcome.failure,
                    outcome.text,
                    &found[place..end]
                ));
            }
        }
    }
    println!("the workspace is as before: {} of {all}", all - wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

async fn everything() -> Harness {
    let ctx = Harness::new();
    others(&ctx);
    for line in [SECRET, NOTEBOOK, ADD, WORKFLOW] {
        make(&ctx, line).await;
    }
    ctx.take_log();
    ctx
}

/// `cargo test --lib removal_survives -- --nocapture` prints the counts.
#[tokio::test(start_paused = true)]
#[expect(clippy::print_stdout, reason = "the line is what the test is for")]
#[ignore = "takes long; .ci/run runs it"]
async fn removal_survives_every_trouble_at_every_request() {
    let base = everything().await;
    let line = &ALL;
    let clean = base.copy();
    let outcome = remove(&clean, line).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    let deletions = [
        "databricks:jobs/delete",
        "databricks:jobs/update",
        "databricks:workspace/delete",
        "databricks:workspace/delete",
        "databricks:secrets/delete",
        "databricks:secrets/scopes/delete",
    ];
    let log = clean.take_log();
    let writes: Vec<&str> = log.iter().filter(|seen| seen.writes).map(|seen| seen.operation).collect();
    assert_eq!(writes, deletions);
    let (goal, mut all, mut wrong) = (state(&clean), 0, Vec::new());
    for (index, seen) in log.iter().enumerate() {
        for trouble in InjectedFault::REPEATABLE {
            let ctx = base.copy();
            ctx.inject_fault(index, trouble);
            let first = Box::pin(ctx.run(run, line)).await;
            let again = remove(&ctx, line).await;
            all += 1;
            let is_well = first.as_ref().is_none_or(|first| first.exit == 0) && again.exit == 0;
            ctx.take_log();
            let third = remove(&ctx, line).await;
            if !is_well || state(&ctx) != goal || third.exit != 0 || !ctx.take_writes().is_empty() {
                wrong.push(format!("{trouble:?} at {index} of {:?}: {first:?} {again:?}", seen.operation));
            }
        }
    }
    println!("removal with a trouble at each request: {} of {all}", all - wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[tokio::test(start_paused = true)]
async fn what_was_edited_stays_with_the_reason_and_so_does_what_it_needs() {
    let ctx = everything().await;
    import(&ctx, PATH, &format!("{}\n\n# COMMAND ----------\n\nprint(2)", text(&ctx)));
    let before = state(&ctx);
    let outcome = remove(&ctx, &ALL).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    assert!(note(&outcome, "notebook").contains("edited"), "{outcome:?}");
    assert!(note(&outcome, "secret").contains(PATH), "{outcome:?}");
    let after = state(&ctx);
    assert_eq!((&after["workspace"], &after["scopes"]), (&before["workspace"], &before["scopes"]));
    assert_eq!(ctx.take_writes(), ["databricks:jobs/delete", "databricks:jobs/update"]);

    let ctx = everything().await;
    let workflow = job_named(&ctx, "dbt: Nightly build (222222)");
    let mut tasks = workflow["settings"]["tasks"].clone();
    tasks[0]["disable_auto_optimization"] = false.into();
    update(&ctx, &workflow, &json!({ "tasks": tasks }));
    let outcome = remove(&ctx, &ALL).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    assert!(note(&outcome, "workflow").contains("edited"), "{outcome:?}");
    assert!(note(&outcome, "notebook").contains("dbt_222222"), "{outcome:?}");
    assert_eq!(ctx.take_writes(), ["databricks:jobs/update"]);
    let id = workflow["job_id"].to_string();
    let named = remove(&ctx, &["--workflow", &id, "-y"]).await;
    assert_eq!((named.exit, named.code), (7, Some(Code::Refused)), "{named:?}");

    let ctx = everything().await;
    let load = job_named(&ctx, "Daily load");
    let mut task = load["settings"]["tasks"][2].clone();
    task["notebook_task"]["base_parameters"]["dbtrigger_key"] = "x".into();
    update(&ctx, &load, &json!({ "tasks": [task] }));
    let outcome = remove(&ctx, &ALL).await;
    assert!(outcome.exit == 0 && note(&outcome, "task").contains("edited"), "{outcome:?}");
    assert_eq!(ctx.take_writes(), ["databricks:jobs/delete"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_ours_stays() {
    let ctx = everything().await;
    let foreign = remove(&ctx, &["--workflow", "Nightly", "-y"]).await;
    assert_eq!((foreign.exit, foreign.code), (7, Some(Code::Refused)), "{foreign:?}");
    let unknown = remove(&ctx, &["--workflow", "Nightlies", "-y"]).await;
    assert_eq!((unknown.exit, unknown.code), (6, Some(Code::NotFound)), "{unknown:?}");
    let none = remove(&ctx, &["--job", "300001", "-y"]).await;
    assert!(none.exit == 0 && steps(&none).is_empty(), "{none:?}");
    assert_eq!(ctx.take_writes(), [""; 0]);

    // A task of others in our workflow, and one that depends on ours.
    let workflow = job_named(&ctx, "dbt: Nightly build (222222)");
    update(&ctx, &workflow, &json!({ "tasks": [{ "task_key": "theirs", "sql_task": {} }] }));
    let outcome = remove(&ctx, &["--all", "-y"]).await;
    assert!(outcome.exit == 0 && note(&outcome, "workflow").contains("theirs"), "{outcome:?}");
    assert_eq!(ctx.take_writes(), ["databricks:jobs/update"]);
    make(&ctx, ADD).await;
    let load = job_named(&ctx, "Daily load");
    let waits = json!({ "task_key": "after", "sql_task": {}, "depends_on": [{ "task_key": "dbt_222222" }] });
    update(&ctx, &load, &json!({ "tasks": [waits] }));
    ctx.take_log();
    let outcome = remove(&ctx, &["--all", "-y"]).await;
    assert_eq!((outcome.exit, outcome.code), (7, Some(Code::Refused)), "{outcome:?}");
    assert!(outcome.failure.contains("after"), "{}", outcome.failure);
    assert_eq!(ctx.take_writes(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_told_apart_only_by_a_person() {
    let ctx = world(&[SECRET, NOTEBOOK, WORKFLOW]).await;
    let settings = jobs(&ctx)[0]["settings"].clone();
    let copy = ctx.post("/api/2.2/jobs/create", &settings);
    let outcome = remove(&ctx, &["--job", "222222", "-y"]).await;
    assert_eq!((outcome.exit, steps(&outcome)), (0, vec!["workflow keep done".to_owned(); 2]), "{outcome:?}");
    let named = remove(&ctx, &["--workflow", &copy["job_id"].to_string(), "-y"]).await;
    assert_eq!((named.exit, jobs(&ctx).len()), (0, 1), "{named:?}");
    let last = remove(&ctx, &["--job", "222222", "-y"]).await;
    assert_eq!((last.exit, jobs(&ctx).len()), (0, 0), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn by_its_dbt_job_each_workflow_and_task_goes_that_starts_nothing_else() {
    let ctx = everything().await;
    make(&ctx, &["create-workflow", "--job", "222223"]).await;
    ctx.take_log();
    let outcome = remove(&ctx, &["--job", "Nightly build", "-y"]).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    assert_eq!(steps(&outcome), ["workflow remove done", "task remove done"]);
    assert!(job_named(&ctx, "dbt: Broken models (222223)")["job_id"].is_u64());
    make(&ctx, &["create-workflow", "--name", "Both", "--job", "222222", "--job", "222223"]).await;
    ctx.take_log();
    let outcome = remove(&ctx, &["--job", "222222", "-y"]).await;
    assert_eq!((outcome.exit, outcome.code), (7, Some(Code::Refused)), "{outcome:?}");
    assert!(outcome.failure.contains("dbt_222223"), "{}", outcome.failure);
    let running = ctx.copy();
    let job = job_named(&running, "Both")["job_id"].clone();
    running.post("/api/2.2/jobs/run-now", &json!({ "job_id": job }));
    let outcome = remove(&running, &["--job", "222222", "-y"]).await;
    assert_eq!(steps(&outcome), ["workflow blocked pending"; 2]);
    assert!(outcome.failure.contains("dbt_222223") && outcome.failure.contains("--cancel-runs"), "{}", outcome.failure);
    let both = remove(&ctx, &["--job", "222222", "--job", "222223", "-y"]).await;
    assert_eq!((both.exit, jobs(&ctx).len()), (0, 2), "{both:?}");
}

#[tokio::test(start_paused = true)]
async fn a_workflow_that_is_running_is_refused_or_its_run_is_cancelled_first() {
    let ctx = world(&[SECRET, NOTEBOOK, WORKFLOW]).await;
    let job = jobs(&ctx)[0]["job_id"].clone();
    let run = ctx.post("/api/2.2/jobs/run-now", &json!({ "job_id": job }))["run_id"].to_string();
    let outcome = remove(&ctx, &["--all", "-y"]).await;
    assert_eq!((outcome.exit, outcome.code), (7, Some(Code::Refused)), "{outcome:?}");
    assert!(outcome.failure.contains(&run) && outcome.failure.contains("--cancel-runs"), "{}", outcome.failure);
    let dry = remove(&ctx, &["--all", "--dry-run"]).await;
    assert!(dry.exit == 0 && dry.data["refused"]["message"].to_string().contains(&run), "{dry:?}");
    let dry = remove(&ctx, &["--all", "--cancel-runs", "--dry-run"]).await;
    assert!(dry.exit == 0 && dry.text.contains(&run), "{dry:?}");
    assert_eq!(ctx.take_writes(), [""; 0]);
    let outcome = remove(&ctx, &["--all", "--cancel-runs", "-y"]).await;
    assert_eq!((outcome.exit, &outcome.data["cancelled_runs"]), (0, &json!([run])), "{outcome:?}");
    let writes = ctx.take_writes();
    assert_eq!(writes[..2], ["databricks:jobs/runs/cancel", "databricks:jobs/delete"], "{writes:?}");

    // A run that is started after the plan.
    let base = world(&[SECRET, NOTEBOOK, WORKFLOW]).await;
    let calm = base.copy();
    remove(&calm, &["--all", "-y"]).await;
    let effects = calm.take_effects();
    let last = effects.iter().position(|operation| *operation == "databricks:jobs/delete").unwrap();
    let look = effects[..last].iter().rposition(|operation| *operation == "databricks:jobs/runs/list").unwrap();
    let ctx = base.copy();
    ctx.meanwhile(look, move |ctx| {
        ctx.post("/api/2.2/jobs/run-now", &json!({ "job_id": job }));
    });
    let outcome = remove(&ctx, &["--all", "-y"]).await;
    assert_eq!((outcome.exit, outcome.code), (7, Some(Code::ChangedMeanwhile)), "{outcome:?}");
    assert!(outcome.failure.contains("--cancel-runs") && ctx.take_writes().is_empty(), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn access_that_nobody_can_tell_apart_is_listed() {
    let ctx = world(&[
        &["init-secrets", "--grant", "data-engineers"],
        &["deploy-notebook", "--grant", "data-engineers"],
        &["create-workflow", "--job", "222222", "--run-as", SERVICE, "--grant-run-as"],
    ])
    .await;
    let outcome = remove(&ctx, &["--job", "222222", "-y"]).await;
    assert!(outcome.exit == 0 && outcome.data["warnings"].to_string().contains(SERVICE), "{outcome:?}");
    let kept = remove(&ctx, &["--all", "--dry-run"]).await;
    assert!(note(&kept, "secret").contains("--with-secret"), "{kept:?}");
    let outcome = remove(&ctx, &ALL).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    let note = note(&outcome, "secret scope");
    assert!(note.contains("data-engineers (READ)") && note.contains(SERVICE), "{note}");
    let left = state(&ctx);
    assert_eq!(left["scopes"]["dbt-cloud"]["secrets"], json!({}));
    assert_eq!(left["grants"], json!({}));
}

#[tokio::test(start_paused = true)]
async fn what_somebody_may_only_see_stays() {
    let ctx = world(&[SECRET, NOTEBOOK]).await;
    ctx.world(|world| world.add_caller("kim@example.com", "dapi-kim-0123456789", false, &[]));
    make(&ctx, &["create-workflow", "--job", "222222", "--grant", "kim@example.com:CAN_VIEW"]).await;
    ctx.set("DATABRICKS_TOKEN", "dapi-kim-0123456789");
    let before = state(&ctx);
    let outcome = remove(&ctx, &ALL).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    assert_eq!(state(&ctx), before);
    assert!(note(&outcome, "workflow").contains("kim@example.com"), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn the_plan_is_asked_for_and_without_anybody_to_ask_it_needs_the_flag() {
    let base = everything().await;
    let alone = remove(&base, &["--all"]).await;
    assert_eq!((alone.exit, alone.code), (2, Some(Code::MissingInput)), "{alone:?}");
    assert!(base.take_log().is_empty());
    let asked = async |ctx: &Harness, person: Rc<Person>| {
        let command = async |args: Args, outer: &CommandContext| {
            let mut ctx = ctx.ctx(AccountFlags::default(), outer.events.clone());
            ctx.prompts.prompter = Some(person);
            run(args, &ctx).await
        };
        Box::pin(ctx.run(command, &["--all"])).await.expect("nobody kills it")
    };
    let no = asked(&base, Person::of(&[Ok("n")])).await;
    assert_eq!((no.exit, base.take_writes()), (1, Vec::new()), "{no:?}");
    let ctx = base.copy();
    let yes = asked(&ctx, Person::of(&[Ok("y")])).await;
    assert_eq!((yes.exit, jobs(&ctx).len()), (0, 2), "{yes:?}");
    let ctx = base.copy();
    let world = ctx.clone();
    let meanwhile = move || {
        let workflow = job_named(&world, "dbt: Nightly build (222222)");
        update(&world, &workflow, &json!({ "tasks": [{ "task_key": "theirs", "sql_task": {} }] }));
    };
    let changed = asked(&ctx, Person::while_others(&[Ok("y")], meanwhile)).await;
    assert_eq!((changed.exit, changed.code), (7, Some(Code::ChangedMeanwhile)), "{changed:?}");
    assert_eq!(ctx.take_writes(), [""; 0]);
}
