//! `create-workflow`, end to end against the in-memory sandbox.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use crate::commands::tests::harness::{ANA, DATABRICKS_TOKEN, Harness, InjectedFault, Outcome};
use crate::commands::{deploy_notebook, init_secrets};
use crate::events::Event;
use crate::failure::Code;
use crate::http::{Fault, HttpError, Service, ServiceError, meaning};
use crate::sandbox::{Cut, FaultKind, FaultRule, NotebookEnd, NotebookOutcome, Phase, Reply, SimTime};

mod check;
mod people;

const NAME: &str = "dbt: Nightly build (222222)";
const JOB: [&str; 2] = ["--job", "222222"];

pub(super) async fn create(ctx: &Harness, line: &[&str]) -> Outcome {
    ctx.run(super::run, line).await.expect("nobody kills it")
}

/// A sandbox with secret and notebook deployed.
pub(super) async fn prepared() -> Harness {
    let ctx = Harness::new();
    assert_eq!(ctx.run(init_secrets::run, &[]).await.unwrap().exit, 0);
    assert_eq!(ctx.run(deploy_notebook::run, &[]).await.unwrap().exit, 0);
    ctx.take_log();
    ctx
}

pub(super) fn jobs(ctx: &Harness) -> Vec<Value> {
    ctx.world(|world| world.inspect())["jobs"].as_array().unwrap().clone()
}

fn only_job(ctx: &Harness) -> Value {
    let jobs = jobs(ctx);
    assert_eq!(jobs.len(), 1, "{jobs:#?}");
    jobs[0].clone()
}

/// Sends a request as another client.
pub(super) fn ask(ctx: &Harness, path: &str, body: &Value) -> Value {
    let request = http::Request::post(format!("http://127.0.0.1:1{path}"))
        .header("authorization", format!("Bearer {DATABRICKS_TOKEN}"))
        .header("content-type", "application/json")
        .body(body.to_string().into())
        .unwrap();
    match ctx.world(|world| world.answer(SimTime(0), &request)) {
        Reply::Answer(answer) => {
            assert!(answer.status().is_success(), "{answer:?}");
            serde_json::from_slice(answer.body()).unwrap()
        }
        other @ Reply::Broken(..) => panic!("{other:?}"),
    }
}

/// Edits a job in the workspace.
pub(super) fn edit(ctx: &Harness, job: &Value, edit: impl FnOnce(&mut Value)) {
    let mut settings = job["settings"].clone();
    edit(&mut settings);
    ask(ctx, "/api/2.2/jobs/reset", &json!({ "job_id": job["job_id"], "new_settings": settings }));
}

pub(super) fn warnings(outcome: &Outcome) -> Vec<&str> {
    let all = outcome.events.iter().filter_map(|event| match event {
        Event::Warning(text) => Some(text.as_str()),
        Event::Run(_)
        | Event::OfJob { job: _, event: _ }
        | Event::Remark(_)
        | Event::Asked(_)
        | Event::Progress(_)
        | Event::ActivityState { what: _, state: _ }
        | Event::Waiting(_)
        | Event::ActivityEnded { what: _ }
        | Event::Document(_)
        | Event::Annotation { level: _, title: _, message: _ }
        | Event::Trace { line: _, bodies: _ } => None,
    });
    all.collect()
}

#[tokio::test(start_paused = true)]
async fn the_third_step_of_the_guide_makes_one_job_and_the_second_time_writes_nothing() {
    let ctx = prepared().await;
    let line = ["--job", "222222", "--schedule", "0 0 6 ? * MON-FRI", "--timezone", "europe/berlin"];
    let first = create(&ctx, &line).await;
    assert_eq!(first.exit, 0, "{first:?}");
    assert_eq!(ctx.take_writes(), ["databricks:jobs/create"]);
    let job = only_job(&ctx);
    let settings = &job["settings"];
    assert_eq!(settings["name"], NAME);
    assert_eq!(settings["schedule"]["timezone_id"], "Europe/Berlin");
    assert_eq!(settings["parameters"], json!([{ "name": "job_id", "default": "222222" }]));
    let notebook = &settings["tasks"][0]["notebook_task"]["notebook_path"];
    assert_eq!(notebook, "/Users/ana@example.com/dbtrigger/run_dbt_job_51234");
    let data = &first.data;
    assert_eq!((&data["job_id"], &data["result"]), (&json!(job["job_id"].to_string()), &json!("created")));
    assert_eq!((&data["name"], &data["identity"]), (&json!(NAME), &json!(ANA)));
    assert_eq!(data["url"], format!("http://127.0.0.1:1/jobs/{}?o=7405609032100112", job["job_id"]));
    assert_eq!(data["schedule"]["next"].as_array().unwrap().len(), 3, "{data}");
    assert!(first.text.contains(&format!("dbtrigger run --workflow {}", job["job_id"])), "{}", first.text);
    assert!(warnings(&first)[0].contains("also has a schedule"), "{first:?}");

    for line in [&line[..], &JOB] {
        let second = create(&ctx, line).await;
        assert_eq!((second.exit, &second.data["result"]), (0, &json!("kept")), "{second:?}");
        assert_eq!(ctx.take_writes(), [""; 0]);
        assert_eq!(only_job(&ctx), job);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_of_jobs_create_never_makes_a_second_job_whatever_the_way_it_is_lost() {
    let mut cases = 0;
    let base = prepared().await;
    for class in FaultKind::catalogue() {
        for phase in [Phase::Before, Phase::After] {
            if !class.allows(phase) {
                continue;
            }
            let word = if phase == Phase::Before { "before" } else { "after" };
            let rule = format!("databricks:jobs/create={class},phase={word}");
            let ctx = base.copy();
            ctx.world(|world| world.add_fault(FaultRule::parse(&rule).unwrap()));
            let first = ctx.run(super::run, &JOB).await;
            let (kills, lies) = (matches!(class, FaultKind::Cut(Cut::Kill | Cut::KillDuring)), class.denies_effect());
            assert_eq!(first.is_none(), kills, "{rule}");
            // A refusal is final, and a Retry-After of a week is not awaited; but 429 is not a refusal.
            let refuses = lies && matches!(class, FaultKind::Status(status) if status != 429);
            if let Some(first) = first {
                let fails = refuses || class == FaultKind::RetryAfterHuge;
                assert_eq!(first.exit != 0, fails, "{rule}: {first:?}");
            }
            let again = create(&ctx, &JOB).await;
            assert_eq!(again.exit, 0, "{rule}: {again:?}");
            only_job(&ctx);
            cases += 1;
        }
    }
    assert!(cases > 60, "{cases}");
}

#[tokio::test(start_paused = true)]
async fn killed_or_disturbed_at_any_request_the_same_command_again_ends_in_the_same_world() {
    let line = ["--job", "222222", "--schedule", "0 0 6 * * ?"];
    let base = prepared().await;
    let calm = base.copy();
    create(&calm, &line).await;
    let (requests, expected) = (calm.take_log().len(), only_job(&calm)["settings"].clone());
    assert!(requests >= 8, "{requests}");
    for trouble in InjectedFault::REPEATABLE {
        for index in 0..requests {
            let ctx = base.copy();
            ctx.inject_fault(index, trouble);
            let first = ctx.run(super::run, &line).await;
            let killed = matches!(trouble, InjectedFault::KilledBefore | InjectedFault::KilledAfter);
            assert_eq!(first.is_none(), killed, "{trouble:?} at {index}");
            if let Some(first) = first {
                assert_eq!(first.exit, 0, "{trouble:?} at {index}: {first:?}");
            }
            assert_eq!(create(&ctx, &line).await.exit, 0, "{trouble:?} at {index}");
            assert_eq!(only_job(&ctx)["settings"], expected, "{trouble:?} at {index}");
            ctx.take_log();
            create(&ctx, &line).await;
            assert_eq!(ctx.take_writes(), [""; 0], "{trouble:?} at {index}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_request_of_an_update_the_same_command_again_ends_in_the_same_world() {
    let line = ["--job", "222222", "--schedule", "0 0 7 * * ?"];
    let base = prepared().await;
    create(&base, &["--job", "222222", "--schedule", "0 0 6 * * ?"]).await;
    for trouble in
        [InjectedFault::KilledBefore, InjectedFault::KilledAfter, InjectedFault::LostAfter, InjectedFault::Unavailable]
    {
        for index in 0.. {
            let ctx = base.copy();
            ctx.take_log();
            ctx.inject_fault(index, trouble);
            ctx.run(super::run, &line).await;
            let reached = ctx.take_log().len() > index;
            assert_eq!(create(&ctx, &line).await.exit, 0, "{trouble:?} at {index}");
            assert_eq!(only_job(&ctx)["settings"]["schedule"]["quartz_cron_expression"], "0 0 7 * * ?");
            if !reached {
                assert!(index > 5);
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_lost_answer_nothing_is_sent_again_before_the_time_to_settle_has_passed() {
    let ctx = prepared().await;
    ctx.world(|world| world.add_fault(FaultRule::parse("databricks:jobs/create=reset,phase=before").unwrap()));
    let outcome = create(&ctx, &JOB).await;
    assert_eq!(outcome.exit, 0);
    assert!(outcome.took >= Duration::from_mins(1), "{:?}", outcome.took);
    assert_eq!(ctx.take_writes(), ["databricks:jobs/create"; 2]);
    only_job(&ctx);

    let ctx = prepared().await;
    ctx.world(|world| world.add_fault(FaultRule::parse("databricks:jobs/create=reset,phase=after").unwrap()));
    let outcome = create(&ctx, &JOB).await;
    assert_eq!(outcome.exit, 0);
    assert!(outcome.took < Duration::from_secs(5), "{:?}", outcome.took);
    assert_eq!(ctx.take_writes(), ["databricks:jobs/create"]);
    only_job(&ctx);
}

#[tokio::test(start_paused = true)]
async fn where_looking_fails_too_nothing_is_sent_again_and_that_is_said() {
    for (rule, within) in [
        ("databricks:jobs/list=status=403,nth=2", Duration::from_mins(1)),
        ("databricks:jobs/list=status=503,nth=2,times=forever", Duration::from_mins(10)),
    ] {
        for phase in ["before", "after"] {
            let ctx = prepared().await;
            ctx.world(|world| {
                world.add_fault(FaultRule::parse(&format!("databricks:jobs/create=reset,phase={phase}")).unwrap());
                world.add_fault(FaultRule::parse(rule).unwrap());
            });
            let outcome = create(&ctx, &JOB).await;
            assert_eq!((outcome.exit, outcome.code), (9, Some(Code::OutcomeUnknown)), "{rule}: {outcome:?}");
            assert!(outcome.failure.contains("nothing was sent again"), "{}", outcome.failure);
            assert!(outcome.took <= within, "{rule}: {:?}", outcome.took);
            assert_eq!(ctx.take_writes(), ["databricks:jobs/create"]);
            if !rule.contains("forever") {
                assert_eq!(create(&ctx, &JOB).await.exit, 0);
                only_job(&ctx);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_jobs_with_one_mark_are_named_and_refused() {
    let ctx = prepared().await;
    create(&ctx, &JOB).await;
    ask(&ctx, "/api/2.2/jobs/create", &only_job(&ctx)["settings"]);
    let ids: Vec<String> = jobs(&ctx).iter().map(|job| job["job_id"].to_string()).collect();
    let outcome = create(&ctx, &JOB).await;
    assert_eq!((outcome.exit, ids.len()), (7, 2), "{outcome:?}");
    assert!(ids.iter().all(|id| outcome.failure.contains(id)), "{}", outcome.failure);
}

#[tokio::test(start_paused = true)]
async fn a_renamed_job_is_found_through_all_pages_and_keeps_its_name() {
    let ctx = prepared().await;
    create(&ctx, &JOB).await;
    let job = only_job(&ctx);
    edit(&ctx, &job, |settings| settings["name"] = "Ours by another name".into());
    for number in 0..230 {
        ask(&ctx, "/api/2.2/jobs/create", &json!({ "name": format!("other {number}"), "tasks": [] }));
    }
    ctx.take_log();
    let outcome = create(&ctx, &JOB).await;
    assert_eq!((outcome.exit, &outcome.data["name"]), (0, &json!("Ours by another name")), "{outcome:?}");
    assert_eq!(outcome.data["job_id"], job["job_id"].to_string());
    assert_eq!(ctx.take_writes(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_others_set_in_the_job_survives_an_update() {
    let ctx = prepared().await;
    create(&ctx, &JOB).await;
    edit(&ctx, &only_job(&ctx), |settings| {
        settings["description"] = "Owned by finance".into();
        settings["email_notifications"] = json!({ "on_failure": ["ops@example.com"] });
        settings["tags"]["cost"] = "42".into();
        settings["schedule"] =
            json!({ "quartz_cron_expression": "0 0 5 * * ?", "timezone_id": "UTC", "pause_status": "PAUSED" });
    });
    ctx.take_log();
    let kept = create(&ctx, &JOB).await;
    assert_eq!((kept.exit, ctx.take_writes()), (0, vec![]), "{kept:?}");

    let outcome = create(&ctx, &["--job", "222222", "--schedule", "0 0 6 * * ?"]).await;
    assert_eq!((outcome.exit, &outcome.data["result"]), (0, &json!("updated")), "{outcome:?}");
    assert!(outcome.text.contains("0 0 5 * * ? -> 0 0 6 * * ? (from --schedule)"), "{}", outcome.text);
    let settings = only_job(&ctx)["settings"].clone();
    assert_eq!((&settings["description"], &settings["tags"]["cost"]), (&json!("Owned by finance"), &json!("42")));
    assert_eq!(settings["email_notifications"]["on_failure"], json!(["ops@example.com"]));
    assert_eq!(settings["schedule"]["pause_status"], "PAUSED", "what operators paused stays paused");
}

#[tokio::test(start_paused = true)]
async fn an_edited_a_foreign_and_a_bundles_job_are_left_alone_with_the_flag_named() {
    let ctx = prepared().await;
    create(&ctx, &JOB).await;
    edit(&ctx, &only_job(&ctx), |settings| settings["tasks"][0]["disable_auto_optimization"] = false.into());
    ctx.take_log();
    let outcome = create(&ctx, &JOB).await;
    assert_eq!((outcome.exit, ctx.take_writes()), (7, vec![]), "{outcome:?}");
    assert!(
        outcome.failure.contains("--force") && outcome.text.contains("- task.disable_auto_optimization: false"),
        "{outcome:?}"
    );
    let dry = create(&ctx, &["--job", "222222", "--dry-run"]).await;
    assert_eq!((dry.exit, ctx.take_writes()), (0, vec![]), "{dry:?}");
    assert_eq!(create(&ctx, &["--job", "222222", "--force"]).await.exit, 0);
    assert_eq!(ctx.take_writes(), ["databricks:jobs/update"]);
    assert_eq!(create(&ctx, &JOB).await.data["result"], "kept");

    let ctx = prepared().await;
    let foreign = json!({ "name": NAME, "parameters": [{ "name": "job_id", "default": "222222" }], "tasks": [
        { "task_key": "run", "notebook_task": { "notebook_path": "/Shared/by-hand", "source": "WORKSPACE" }, "max_retries": 1 }] });
    ask(&ctx, "/api/2.2/jobs/create", &foreign);
    ctx.take_log();
    let outcome = create(&ctx, &JOB).await;
    assert_eq!((outcome.exit, ctx.take_writes()), (7, vec![]), "{outcome:?}");
    assert!(outcome.failure.contains("--adopt"), "{outcome:?}");
    assert_eq!(create(&ctx, &["--job", "222222", "--adopt"]).await.exit, 0);
    assert_eq!(create(&ctx, &JOB).await.data["result"], "kept");
    assert_eq!(only_job(&ctx)["settings"]["tasks"].as_array().unwrap().len(), 1);

    let ctx = prepared().await;
    let mut bundled = foreign.clone();
    bundled["deployment"] = json!({ "kind": "BUNDLE", "metadata_file_path": "/x" });
    bundled["edit_mode"] = "UI_LOCKED".into();
    ask(&ctx, "/api/2.2/jobs/create", &bundled);
    ctx.take_log();
    let outcome = create(&ctx, &["--job", "222222", "--adopt", "--force"]).await;
    assert_eq!((outcome.exit, ctx.take_writes()), (7, vec![]), "{outcome:?}");
    assert!(outcome.failure.contains("bundle"), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_missing_notebook_or_key_names_the_command_that_makes_it_and_nothing_is_written() {
    let ctx = Harness::new();
    let outcome = create(&ctx, &JOB).await;
    assert_eq!((outcome.exit, outcome.code), (7, Some(Code::Refused)), "{outcome:?}");
    assert!(outcome.failure.contains("\"dbtrigger deploy-notebook\""), "{}", outcome.failure);
    let outcome = create(&ctx, &["--job", "222222", "--notebook", "/Users/ana@example.com/my run"]).await;
    assert!(
        outcome.failure.contains("deploy-notebook --notebook '/Users/ana@example.com/my run'"),
        "{}",
        outcome.failure
    );

    ctx.run(deploy_notebook::run, &[]).await;
    let outcome = create(&ctx, &JOB).await;
    assert_eq!(outcome.exit, 7, "{outcome:?}");
    assert!(outcome.failure.contains("dbtrigger init-secrets --scope dbt-cloud --key api-key"), "{}", outcome.failure);
    ctx.run(init_secrets::run, &["--key", "other"]).await;
    assert_eq!(create(&ctx, &JOB).await.exit, 7);
    assert!(jobs(&ctx).is_empty());
    ctx.run(init_secrets::run, &[]).await;
    assert_eq!(create(&ctx, &JOB).await.exit, 0);
}

#[tokio::test(start_paused = true)]
async fn a_notebook_that_cannot_run_the_job_is_refused_with_the_way_out() {
    let ctx = prepared().await;
    let path = "/Users/ana@example.com/dbtrigger/run_dbt_job_51234";
    let outcome = create(&ctx, &["--job", "222222", "--dbt-account", "51235", "--name", "x", "--notebook", path]).await;
    // dbt or the notebook may fail first; either way nothing is created.
    assert_ne!(outcome.exit, 0);
    ctx.set("DBT_CLOUD_TOKEN", "");
    let outcome = create(&ctx, &["--job", "222222", "--dbt-account", "51235", "--name", "x", "--notebook", path]).await;
    assert_eq!((outcome.exit, outcome.code), (7, Some(Code::Refused)), "{outcome:?}");
    assert!(outcome.failure.contains("51234") && outcome.failure.contains("51235"), "{}", outcome.failure);

    let ctx = prepared().await;
    ctx.run(deploy_notebook::run, &["--allow-job", "222223"]).await;
    let outcome = create(&ctx, &JOB).await;
    assert_eq!(outcome.exit, 7, "{outcome:?}");
    assert!(outcome.failure.contains("deploy-notebook --allow-job 222223 --allow-job 222222"), "{}", outcome.failure);

    let import = json!({ "path": "/Users/ana@example.com/foreign", "format": "SOURCE", "language": "PYTHON",
        "content": "IyBEYXRhYnJpY2tzIG5vdGVib29rIHNvdXJjZQo=", "overwrite": true });
    ask(&ctx, "/api/2.0/workspace/import", &import);
    let outcome = create(&ctx, &["--job", "222222", "--notebook", "/Users/ana@example.com/foreign"]).await;
    assert_eq!(outcome.exit, 7, "{outcome:?}");
    assert!(jobs(&ctx).is_empty());
}

#[tokio::test(start_paused = true)]
async fn with_an_id_and_a_name_dbt_is_not_needed_at_all() {
    let ctx = prepared().await;
    for name in ["DBT_CLOUD_TOKEN", "DBT_CLOUD_HOST"] {
        ctx.set(name, "");
    }
    let line = ["--job", "222222", "--name", "Nightly"];
    let outcome = create(&ctx, &line).await;
    assert_eq!((outcome.exit, &outcome.data["name"]), (0, &json!("Nightly")), "{outcome:?}");
    assert!(ctx.take_log().iter().all(|seen| seen.operation.starts_with("databricks:")));
    // With access later, it is the same workflow.
    ctx.set("DBT_CLOUD_TOKEN", crate::commands::tests::harness::DBT_TOKEN);
    ctx.set("DBT_CLOUD_HOST", "http://127.0.0.1:1");
    assert_eq!(create(&ctx, &line).await.data["result"], "kept");
    only_job(&ctx);

    ctx.set("DBT_CLOUD_ACCOUNT_ID", "");
    let outcome = create(&ctx, &line).await;
    assert_eq!((outcome.exit, outcome.code), (2, Some(Code::MissingInput)), "{outcome:?}");
    assert!(outcome.failure.contains("--notebook"), "{}", outcome.failure);
}

#[tokio::test(start_paused = true)]
async fn with_a_name_dbt_that_is_out_of_reach_is_a_warning_and_its_no_is_still_a_no() {
    let ctx = prepared().await;
    let line = ["--job", "222222", "--name", "Nightly"];
    ctx.world(|world| world.add_fault(FaultRule::parse("dbt:jobs/get=refused,times=forever").unwrap()));
    let outcome = create(&ctx, &line).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    assert!(outcome.said().contains("cannot read dbt job"), "{}", outcome.said());
    let outcome = create(&ctx, &["--job", "222222"]).await;
    assert_eq!(outcome.exit, 12, "{outcome:?}");
    let ctx = prepared().await;
    assert_eq!(create(&ctx, &["--job", "987654", "--name", "Nightly"]).await.exit, 6);
}

#[tokio::test(start_paused = true)]
async fn with_a_name_a_token_of_dbt_that_will_not_do_is_a_warning() {
    let base = prepared().await;
    let line = ["--job", "222222", "--name", "Nightly"];
    let add = ["--job", "222222", "--add-to", "Daily load"];
    for (status, code) in [("401", Code::NotAuthenticated), ("408", Code::Unavailable), ("429", Code::RateLimited)] {
        let ctx = base.copy();
        ask(&ctx, "/api/2.2/jobs/create", &json!({ "name": "Daily load" }));
        let rule = format!("dbt:jobs/get=status={status},times=forever");
        ctx.world(|world| world.add_fault(FaultRule::parse(&rule).unwrap()));
        for line in [&line[..], &add] {
            let outcome = create(&ctx, line).await;
            assert_eq!(outcome.exit, 0, "{status}: {outcome:?}");
            let said = warnings(&outcome).join("\n");
            assert!(said.contains("cannot read dbt job") && said.contains(status), "{status}: {said}");
        }
        // Without `--name`, dbt is required.
        assert_eq!(create(&ctx, &JOB).await.code, Some(code), "{status}");
    }
    let ctx = base.copy();
    ctx.set("DBT_CLOUD_TOKEN", "dbtc_of-yesteryear");
    let outcome = create(&ctx, &line).await;
    assert!(outcome.exit == 0 && warnings(&outcome)[0].contains("401"), "{outcome:?}");
    let error = |status: u16, message: &str, page: bool| HttpError {
        service: "dbt",
        operation: "jobs/get",
        origin: "https://x".to_owned(),
        fault: Fault::Status(
            StatusCode::from_u16(status).unwrap(),
            ServiceError {
                means: meaning(
                    Service::Dbt,
                    StatusCode::from_u16(status).unwrap(),
                    &http::HeaderMap::new(),
                    None,
                    message,
                    page,
                ),
                ..ServiceError::default()
            },
        ),
        attempts: 1,
        request_id: None,
        exceeded: None,
    };
    assert!(!super::workflow_plan::is_about_the_job(&error(403, "Forbidden: Access denied", false)));
    assert!(!super::workflow_plan::is_about_the_job(&error(404, "nginx", true)));
    assert!(super::workflow_plan::is_about_the_job(&error(
        403,
        "Access denied: Token is not scoped to account.",
        false
    )));
    // An error about the job itself is still fatal.
    let ctx = base.copy();
    ctx.world(|world| world.add_fault(FaultRule::parse("dbt:jobs/get=status=403,times=forever").unwrap()));
    assert_eq!(create(&ctx, &line).await.code, Some(Code::NotAllowed));
}

#[tokio::test(start_paused = true)]
async fn everything_missing_or_wrong_is_named_at_once_before_anything_is_sent() {
    let ctx = Harness::new();
    for name in ["DATABRICKS_HOST", "DATABRICKS_TOKEN", "DBT_CLOUD_TOKEN", "DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID"] {
        ctx.set(name, "");
    }
    let outcome = create(&ctx, &JOB).await;
    assert_eq!((outcome.exit, outcome.code), (2, Some(Code::MissingInput)), "{outcome:?}");
    for word in
        ["DATABRICKS_HOST", "DATABRICKS_TOKEN", "DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID", "DBT_CLOUD_TOKEN", "--name"]
    {
        assert!(outcome.failure.contains(word), "{word}: {}", outcome.failure);
    }
    let ctx = Harness::new();
    for (line, words) in [
        (&["--job", "0"][..], &["a job ID is a positive number"][..]),
        (&["--job", "222222", "--schedule", "0 6 * * 1-5"], &["0 0 6 ? * MON-FRI"]),
        (&["--job", "222222", "--schedule", "0 0 6 30 2 ?"], &["never matches a future time"]),
        (
            &["--job", "0", "--schedule", "no", "--timezone", "Mars/Base", "--name", " "],
            &["invalid dbt job", "invalid schedule", "Mars/Base", "--name"],
        ),
        (&["--job", "222222", "--dbt-account", "x"], &["account ID"]),
        (
            &["--job", "222222", "--project", "Jaffle Shop"],
            &["--project and --environment apply to a job given by name"],
        ),
    ] {
        let outcome = create(&ctx, line).await;
        assert_eq!(outcome.exit, 2, "{outcome:?}");
        for word in words {
            assert!(outcome.failure.contains(word), "{word}: {}", outcome.failure);
        }
    }
    assert!(ctx.take_log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_job_by_its_name_is_the_same_job_and_dbt_has_to_be_asked_for_it() {
    let ctx = prepared().await;
    assert_eq!(create(&ctx, &["--job", "Nightly build", "--project", "Jaffle Shop"]).await.exit, 0);
    ctx.take_log();
    let by_id = create(&ctx, &JOB).await;
    assert_eq!((by_id.exit, &by_id.data["result"]), (0, &json!("kept")), "{by_id:?}");
    let line =
        ["--name", "Both", "--job", "first=Nightly build", "--job", "222225", "--depends-on", "dbt_222225=first"];
    let both = create(&ctx, &line).await;
    let tasks =
        json!([{ "task_key": "first", "dbt_job_id": "222222" }, { "task_key": "dbt_222225", "dbt_job_id": "222225" }]);
    assert_eq!((both.exit, &both.data["tasks"]), (0, &tasks), "{both:?}");
    ctx.take_log();
    for (line, code, word) in [
        (&["--job", "Nightly bild"][..], Code::NotFound, "did you mean \\\"Nightly build\\\" (222222)"),
        (&["--job", "Nightly build", "--project", "None"], Code::NotFound, "no project is named"),
        (&["--name", "N", "--job", "Nightly build", "--job", "dbt_222222=222225"], Code::InvalidInput, "two tasks"),
        (&["--name", "N", "--job", "Nightly build", "--depends-on", "x=y"], Code::InvalidInput, "no --job has key"),
    ] {
        let outcome = create(&ctx, line).await;
        assert_eq!((outcome.code, ctx.take_writes()), (Some(code), vec![]), "{outcome:?}");
        assert!(outcome.failure.contains(word), "{}", outcome.failure);
    }
    // With an ID and a name, dbt would not be needed.
    ctx.set("DBT_CLOUD_TOKEN", "");
    let outcome = create(&ctx, &["--job", "Nightly build", "--name", "N"]).await;
    assert_eq!((outcome.code, ctx.take_log().len()), (Some(Code::MissingInput), 0), "{outcome:?}");
    assert!(outcome.failure.contains("--job"), "{}", outcome.failure);
}

#[tokio::test(start_paused = true)]
async fn flags_about_a_schedule_need_one() {
    let ctx = prepared().await;
    for line in [&["--job", "222222", "--paused"][..], &["--job", "222222", "--timezone", "UTC"]] {
        let outcome = create(&ctx, line).await;
        assert_eq!((outcome.exit, outcome.code), (7, Some(Code::Refused)), "{outcome:?}");
        assert!(jobs(&ctx).is_empty());
    }
    create(&ctx, &["--job", "222222", "--schedule", "0 0 6 * * ?"]).await;
    let outcome = create(&ctx, &["--job", "222222", "--paused"]).await;
    assert_eq!((outcome.exit, &outcome.data["schedule"]["paused"]), (0, &json!(true)), "{outcome:?}");
    assert_eq!(only_job(&ctx)["settings"]["schedule"]["pause_status"], "PAUSED");
}

#[tokio::test(start_paused = true)]
async fn a_workspace_without_serverless_is_told_so_with_the_ways_out() {
    let ctx = prepared().await;
    ctx.world(|world| world.set_serverless(false));
    let outcome = create(&ctx, &JOB).await;
    assert_eq!((outcome.exit, outcome.code), (1, Some(Code::Failed)), "{outcome:?}");
    assert!(
        outcome.failure.contains("serverless") && outcome.failure.contains("dbtrigger run 222222"),
        "{}",
        outcome.failure
    );
    assert_eq!(ctx.take_writes(), ["databricks:jobs/create"]);
    assert!(jobs(&ctx).is_empty());
}

#[tokio::test(start_paused = true)]
async fn stale_reads_after_the_write_are_waited_out() {
    let ctx = prepared().await;
    ctx.world(|world| world.set_stale_reads(3));
    let outcome = create(&ctx, &JOB).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    only_job(&ctx);
}

/// Ends every notebook that starts with this outcome, until dropped.
async fn notebooks(ctx: &Harness, outcome: NotebookOutcome) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        ctx.world(|world| {
            while let Some(task) = world.next_notebook(SimTime(0)) {
                assert_eq!(task.parameters["job_id"], "222222");
                let end = NotebookEnd { outcome: outcome.clone(), output: String::new() };
                world.notebook_ended(SimTime(0), task.task_run_id, end);
            }
        });
    }
}

async fn run_now(ctx: &Harness, line: &[&str], outcome: NotebookOutcome) -> Outcome {
    tokio::select! {
        ended = create(ctx, line) => ended,
        () = notebooks(ctx, outcome) => unreachable!("it goes on until dropped"),
    }
}

#[tokio::test(start_paused = true)]
async fn with_run_now_the_outcome_of_the_run_is_the_outcome() {
    let line = ["--job", "222222", "--run-now"];
    let failed = NotebookOutcome::Failed { error: "RuntimeError: model orders".into(), trace: String::new() };
    let ctx = prepared().await;
    let outcome = run_now(&ctx, &line, NotebookOutcome::Finished).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    assert_eq!((&outcome.data["result"], &outcome.data["run"]["status"]), (&json!("created"), &json!("SUCCESS")));
    let said = outcome.said();
    let place = |word: &str| said.find(word).unwrap_or_else(|| panic!("{word} in {said}"));
    assert!(place(NAME) < place("workflow_run_id"), "{said}");
    let writes = ["databricks:jobs/create", "databricks:jobs/run-now"];
    assert_eq!(ctx.take_writes(), writes);

    // The random seed is fixed, so the same start in the same sandbox would be the same run.
    let ctx = prepared().await;
    create(&ctx, &JOB).await;
    ctx.take_log();
    let outcome = run_now(&ctx, &line, failed).await;
    assert_eq!((outcome.exit, outcome.code), (3, Some(Code::RunFailed)), "{outcome:?}");
    assert!(outcome.failure.contains("model orders"), "{}", outcome.failure);
    assert_eq!((&outcome.data["result"], &outcome.data["run"]["status"]), (&json!("kept"), &json!("FAILED")));
    assert_eq!(ctx.take_writes(), ["databricks:jobs/run-now"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_run_where_nothing_was_made() {
    let ctx = prepared().await;
    let dry = create(&ctx, &["--job", "222222", "--run-now", "--dry-run"]).await;
    assert_eq!(dry.exit, 0, "{dry:?}");
    ask(&ctx, "/api/2.2/jobs/create", &json!({ "name": NAME, "tasks": [] }));
    ctx.take_log();
    let outcome = create(&ctx, &["--job", "222222", "--run-now"]).await;
    assert_eq!((outcome.exit, ctx.take_writes()), (7, vec![]), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn the_small_print_is_written_once_and_left_out_it_stays() {
    let ctx = prepared().await;
    ctx.run(deploy_notebook::run, &["--allow-override", "git_branch"]).await;
    ctx.take_log();
    let line = [
        &["--job", "222222", "--retries", "2", "--task-timeout", "4h", "--tag", "team=finance", "--tag", "tier="][..],
        &["--notify", "ops@example.com", "--override", "git_branch=main", "--schedule", "0 0 6 * * ?", "--paused"],
    ]
    .concat();
    let first = create(&ctx, &line).await;
    assert_eq!((first.exit, ctx.take_writes()), (0, vec!["databricks:jobs/create"]), "{first:?}");
    let job = only_job(&ctx);
    let (settings, task) = (&job["settings"], &job["settings"]["tasks"][0]);
    assert_eq!((&task["max_retries"], &task["timeout_seconds"]), (&json!(2), &json!(14_400)));
    assert_eq!(task["notebook_task"]["base_parameters"]["dbtrigger_overrides"], r#"{"git_branch":"main"}"#);
    assert_eq!((&settings["tags"]["team"], &settings["tags"]["tier"]), (&json!("finance"), &json!("")));
    assert_eq!(settings["email_notifications"]["on_failure"], json!(["ops@example.com"]));
    for line in [&line[..], &JOB] {
        let again = create(&ctx, line).await;
        assert_eq!((again.exit, ctx.take_writes()), (0, vec![]), "{again:?}");
    }
    edit(&ctx, &job, |settings| settings["tasks"][0]["max_retries"] = 5.into());
    ctx.take_log();
    assert_eq!((create(&ctx, &JOB).await.exit, ctx.take_writes()), (0, vec![]));

    let back = ["--job", "222222", "--unpaused", "--override", "none", "--notify", "none", "--retries", "0"];
    let outcome = create(&ctx, &back).await;
    assert_eq!((outcome.exit, &outcome.data["schedule"]["paused"]), (0, &json!(false)), "{outcome:?}");
    let settings = only_job(&ctx)["settings"].clone();
    assert_eq!(settings["tasks"][0]["max_retries"], 0);
    assert!(settings["tasks"][0]["notebook_task"]["base_parameters"].get("dbtrigger_overrides").is_none());
    assert!(settings["email_notifications"].get("on_failure").is_none());
    ctx.take_log();
    let gone = create(&ctx, &["--job", "222222", "--no-schedule"]).await;
    assert_eq!((gone.exit, &gone.data["schedule"]), (0, &Value::Null), "{gone:?}");
    assert!(only_job(&ctx)["settings"].get("schedule").is_none());
    assert_eq!(ctx.take_writes(), ["databricks:jobs/update"]);
    let again = create(&ctx, &["--job", "222222", "--no-schedule"]).await;
    assert_eq!((again.exit, ctx.take_writes()), (0, vec![]), "{again:?}");
    assert_eq!(create(&ctx, &["--job", "222222", "--unpaused"]).await.code, Some(Code::Refused));
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_that_could_look_ends_with_0_and_says_what_would_be_refused() {
    let ctx = prepared().await;
    assert_eq!(ctx.run(deploy_notebook::run, &["--allow-job", "222225"]).await.unwrap().exit, 0);
    ctx.take_log();
    let allowed = ["--job", "222225", "--override", "git_branch=main"];
    for (line, says) in [(&["--job", "222222"][..], "may start only"), (&allowed, "does not allow override")] {
        let plain = create(&ctx, line).await;
        assert!(plain.exit == 7 && plain.failure.contains(says), "{plain:?}");
        let dry = create(&ctx, &[line, &["--dry-run"]].concat()).await;
        assert_eq!((dry.exit, &dry.data["refused"]["code"]), (0, &json!("refused")), "{dry:?}");
        assert!(dry.text.contains("Plan cannot be applied: ") && dry.text.contains(says), "{}", dry.text);
        let actions: Vec<&Value> = dry.data["steps"].as_array().unwrap().iter().map(|step| &step["action"]).collect();
        assert_eq!(
            (actions, dry.data["identity"].as_str()),
            (vec![&json!("blocked"), &json!("create")], Some("ana@example.com"))
        );
    }
    assert_eq!(ctx.take_writes(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn overrides_that_the_notebook_does_not_allow_are_refused_with_the_command_that_allows_them() {
    let ctx = prepared().await;
    let line = ["--job", "222222", "--override", "git_branch=main", "--override", "threads_override=4"];
    let outcome = create(&ctx, &line).await;
    assert_eq!((outcome.exit, ctx.take_writes()), (7, vec![]), "{outcome:?}");
    let deploy = "dbtrigger deploy-notebook --allow-override git_branch --allow-override threads_override";
    assert!(outcome.failure.contains(deploy), "{}", outcome.failure);
    let allow = ["--allow-override", "git_branch", "--allow-override", "threads_override"];
    ctx.run(deploy_notebook::run, &allow).await;
    assert_eq!(create(&ctx, &line).await.exit, 0);

    // After the notebook disallows them, the workflow's overrides would make every run fail.
    ctx.run(deploy_notebook::run, &["--allow-override", "none"]).await;
    ctx.take_log();
    let outcome = create(&ctx, &JOB).await;
    assert_eq!((outcome.exit, ctx.take_writes()), (7, vec![]), "{outcome:?}");
    assert!(outcome.failure.contains("--override none"), "{}", outcome.failure);
    assert_eq!(create(&ctx, &["--job", "222222", "--override", "none"]).await.exit, 0);
    assert_eq!(create(&ctx, &JOB).await.exit, 0);
}

#[tokio::test(start_paused = true)]
async fn small_print_that_cannot_be_used_is_refused_before_anything_is_sent() {
    let ctx = Harness::new();
    let line = ["--job", "222222", "--tag", "a", "--notify", "ops", "--override", "cause=x"];
    let outcome = create(&ctx, &line).await;
    assert_eq!((outcome.exit, outcome.code), (2, Some(Code::InvalidInput)), "{outcome:?}");
    for flag in ["--tag", "--notify", "--override"] {
        assert!(outcome.failure.contains(flag), "{flag}: {}", outcome.failure);
    }
    assert!(ctx.take_log().is_empty());
    let parse = |line: &[&str]| {
        let command = <super::Args as clap::Args>::augment_args(clap::Command::new("create-workflow"));
        command.try_get_matches_from(["create-workflow", "--job", "1"].iter().chain(line)).is_ok()
    };
    for line in [
        &["--paused", "--unpaused"][..],
        &["--no-schedule", "--paused"],
        &["--no-schedule", "--unpaused"],
        &["--no-schedule", "--schedule", "x"],
        &["--no-schedule", "--timezone", "UTC"],
        &["--retries", "-1"],
        &["--retries", "101"],
        &["--task-timeout", "0s"],
    ] {
        assert!(!parse(line), "{line:?}");
    }
    assert!(parse(&["--no-schedule", "--retries", "0"]));
}

const SEVERAL: [&str; 8] =
    ["--name", "Both", "--job", "load=222222", "--job", "222223", "--depends-on", "dbt_222223=load"];

#[tokio::test(start_paused = true)]
async fn several_jobs_are_a_task_each_and_one_job_to_two_and_back_leaves_nothing_behind() {
    let ctx = prepared().await;
    let one = ["--name", "Both", "--job", "load=222222"];
    create(&ctx, &one).await;
    let before = only_job(&ctx);
    ctx.take_log();
    let outcome = create(&ctx, &SEVERAL).await;
    assert_eq!((outcome.exit, ctx.take_writes()), (0, vec!["databricks:jobs/update"]), "{outcome:?}");
    let tasks =
        json!([{ "task_key": "load", "dbt_job_id": "222222" }, { "task_key": "dbt_222223", "dbt_job_id": "222223" }]);
    assert_eq!((&outcome.data["tasks"], &outcome.data["dbt_job_id"]), (&tasks, &Value::Null));
    let settings = only_job(&ctx)["settings"].clone();
    assert!(settings.get("parameters").is_none(), "{settings:#}");
    assert_eq!(settings["tasks"].as_array().unwrap().len(), 2, "{settings:#}");
    let again = create(&ctx, &SEVERAL).await;
    assert_eq!((again.exit, ctx.take_writes()), (0, vec![]), "{again:?}");
    let back = create(&ctx, &one).await;
    assert_eq!((back.exit, ctx.take_writes()), (0, vec!["databricks:jobs/update"]), "{back:?}");
    assert_eq!(only_job(&ctx), before);
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_request_on_the_way_from_one_job_to_two_it_ends_in_the_same_world() {
    let one = ["--name", "Both", "--job", "load=222222"];
    let base = prepared().await;
    create(&base, &one).await;
    let calm = base.copy();
    create(&calm, &SEVERAL).await;
    let expected = only_job(&calm)["settings"].clone();
    for trouble in
        [InjectedFault::KilledBefore, InjectedFault::KilledAfter, InjectedFault::LostAfter, InjectedFault::Unavailable]
    {
        for index in 0.. {
            let ctx = base.copy();
            ctx.take_log();
            ctx.inject_fault(index, trouble);
            ctx.run(super::run, &SEVERAL).await;
            let reached = ctx.take_log().len() > index;
            assert_eq!(create(&ctx, &SEVERAL).await.exit, 0, "{trouble:?} at {index}");
            assert_eq!(only_job(&ctx)["settings"], expected, "{trouble:?} at {index}");
            if !reached {
                assert!(index > 5);
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn several_jobs_need_a_name_and_keys_that_fit() {
    let ctx = prepared().await;
    let outcome = create(&ctx, &["--job", "222222", "--job", "222223"]).await;
    assert_eq!((outcome.exit, outcome.code), (2, Some(Code::MissingInput)), "{outcome:?}");
    assert!(outcome.failure.contains("--name"), "{}", outcome.failure);
    for (line, reason) in [
        (&["--name", "x", "--job", "222222", "--job", "222222"][..], "two tasks have it"),
        (&["--name", "x", "--job", "a b=222222"], "letters, digits"),
        (&["--name", "x", "--job", "222222", "--depends-on", "dbt_222222=load"], "no --job has key"),
    ] {
        let outcome = create(&ctx, line).await;
        assert_eq!((outcome.exit, outcome.code), (2, Some(Code::InvalidInput)), "{outcome:?}");
        assert!(outcome.failure.contains(reason), "{}", outcome.failure);
    }
    assert!(ctx.take_log().is_empty());
    ctx.run(deploy_notebook::run, &["--allow-job", "222222"]).await;
    let outcome = create(&ctx, &SEVERAL).await;
    assert_eq!(outcome.exit, 7, "{outcome:?}");
    assert!(outcome.failure.contains("--allow-job 222222 --allow-job 222223"), "{}", outcome.failure);
    assert!(jobs(&ctx).is_empty());
}

#[tokio::test(start_paused = true)]
async fn every_form_of_compute_is_written_once_left_out_it_stays_and_taken_back_it_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cluster.json");
    let cluster = r#"{"spark_version":"16.4.x-scala2.12","node_type_id":"m5d.xlarge","num_workers":1}"#;
    std::fs::write(&file, cluster).unwrap();
    let file = file.to_str().unwrap();
    let ctx = prepared().await;
    ctx.world(|world| world.set_serverless(false));
    for (flags, field, value) in [
        (&["--compute", "cluster:0101-120000-shared01"][..], "existing_cluster_id", json!("0101-120000-shared01")),
        (
            &["--compute", "new"],
            "new_cluster",
            json!({
            "spark_version": "16.4.x-scala2.12", "node_type_id": "m5d.large", "num_workers": 0,
            "data_security_mode": "SINGLE_USER", "custom_tags": { "ResourceClass": "SingleNode" },
            "spark_conf": { "spark.databricks.cluster.profile": "singleNode", "spark.master": "local[*]" } }),
        ),
        (&["--cluster-json", file], "new_cluster", serde_json::from_str(cluster).unwrap()),
    ] {
        let line = [&JOB[..], flags].concat();
        assert_eq!(create(&ctx, &line).await.exit, 0, "{flags:?}");
        let task = only_job(&ctx)["settings"]["tasks"][0].clone();
        assert_eq!(task[field], value, "{flags:?}");
        let fields = ["existing_cluster_id", "new_cluster", "job_cluster_key"];
        assert_eq!(fields.iter().filter(|name| task.get(**name).is_some()).count(), 1, "{task:#}");
        ctx.take_log();
        for line in [&line[..], &JOB] {
            let again = create(&ctx, line).await;
            assert_eq!((again.exit, ctx.take_writes()), (0, vec![]), "{again:?}");
        }
    }
    // Cluster settings of operators are kept, and fields added by the service are not a difference.
    edit(&ctx, &only_job(&ctx), |settings| {
        settings["tasks"][0]["new_cluster"]["aws_attributes"] = json!({ "zone_id": "auto" });
    });
    ctx.take_log();
    for line in [&[&JOB[..], &["--cluster-json", file]].concat()[..], &JOB] {
        let again = create(&ctx, line).await;
        assert_eq!((again.exit, ctx.take_writes()), (0, vec![]), "{again:?}");
    }
    edit(&ctx, &only_job(&ctx), |settings| {
        settings["job_clusters"] = json!([{ "job_cluster_key": "small", "new_cluster": { "num_workers": 0 } }]);
    });
    let line = ["--job", "222222", "--compute", "job-cluster:small"];
    assert_eq!(create(&ctx, &line).await.exit, 0);
    assert_eq!(only_job(&ctx)["settings"]["tasks"][0]["job_cluster_key"], "small");
    ctx.take_log();
    assert_eq!((create(&ctx, &line).await.exit, ctx.take_writes()), (0, vec![]));
    ctx.world(|world| world.set_serverless(true));
    assert_eq!(create(&ctx, &["--job", "222222", "--compute", "serverless"]).await.exit, 0);
    assert!(only_job(&ctx)["settings"]["tasks"][0].get("new_cluster").is_none());
    let with_policy = ["--job", "222222", "--compute", "new", "--policy", "A1B2C3D4E5F60718"];
    for writes in [1, 0] {
        ctx.take_log();
        assert_eq!(create(&ctx, &with_policy).await.exit, 0);
        assert_eq!(ctx.take_writes().len(), writes);
    }
    let cluster = only_job(&ctx)["settings"]["tasks"][0]["new_cluster"].clone();
    assert_eq!(cluster["policy_id"], "A1B2C3D4E5F60718");
    assert!(cluster.get("node_type_id").is_none(), "the policy says it: {cluster}");
}

#[tokio::test(start_paused = true)]
async fn compute_that_is_not_there_is_refused_with_what_there_is() {
    let ctx = prepared().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cluster.json");
    std::fs::write(&file, r#"{"spark_version":"1.0","node_type_id":"m5d.large","num_workers":0}"#).unwrap();
    for (flags, exit, words) in [
        (&["--compute", "cluster:none"][..], 7, &["cluster:0101-120000-shared01", "does not exist"][..]),
        (&["--compute", "cluster:0103-120000-jobrun03"], 7, &["is a job cluster", "--compute new"]),
        (&["--compute", "job-cluster:small"], 7, &["no job cluster small", "--compute serverless"]),
        (&["--compute", "new:m9.huge"], 7, &["m9.huge", "m5d.large"]),
        (&["--compute", "new:c1.medium"], 7, &["no usable node type"]),
        (&["--compute", "new", "--policy", "X"], 7, &["A1B2C3D4E5F60718", "Small jobs"]),
        (&["--compute", "serverless", "--policy", "X"], 2, &["--policy"]),
        (&["--cluster-json", file.to_str().unwrap()], 7, &["no runtime 1.0", "16.4.x-scala2.12"]),
        (&["--compute", "pool:x"], 2, &["job-cluster:KEY"]),
    ] {
        let outcome = create(&ctx, &[&JOB[..], flags].concat()).await;
        assert_eq!((outcome.exit, ctx.take_writes()), (exit, vec![]), "{flags:?}: {outcome:?}");
        for word in words {
            assert!(outcome.failure.contains(word), "{word}: {}", outcome.failure);
        }
    }
    let outcome = create(&ctx, &["--job", "222222", "--compute", "cluster:0102-120000-bosown02"]).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    assert!(warnings(&outcome).iter().any(|text| text.contains("dedicated to bo@example.com")), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_mistyped_scope_or_key_is_said_with_the_nearest_one() {
    for (flags, says) in [
        (&["--scope", "dbt-cluod"][..], "did you mean \\\"dbt-cloud\\\"?"),
        (&["--key", "api-kye"], "did you mean \\\"api-key\\\"?"),
        (&["--scope", "finance"], "no secret scope finance"),
    ] {
        let ctx = Harness::new();
        assert_eq!(ctx.run(init_secrets::run, &[]).await.unwrap().exit, 0);
        assert_eq!(ctx.run(deploy_notebook::run, flags).await.unwrap().exit, 0);
        ctx.take_log();
        let outcome = create(&ctx, &JOB).await;
        assert_eq!(outcome.code, Some(Code::Refused), "{outcome:?}");
        assert!(outcome.failure.contains(says), "{flags:?} {outcome:?}");
        assert_eq!(ctx.take_writes(), [""; 0]);
    }
}
