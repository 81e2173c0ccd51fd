//! `setup`, end to end against the in-memory sandbox, with scripted answers.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::*;
use crate::commands::tests::harness::{DBT_TOKEN, Harness, InjectedFault, Outcome};
use crate::commands::tests::person::{Answer, Person};
use crate::commands::{InterruptReport, answer, create_workflow, deploy_notebook, init_secrets};
use crate::credentials::AccountFlags;
use crate::events::Event;
use crate::keyring::Owner;
use crate::keyring::double::Double;
use crate::questions::Unanswered;
use crate::sandbox::{FaultRule, NotebookOutcome};

const PATH: &str = "/Users/ana@example.com/dbtrigger/run_dbt_job_51234";
const SERVICE: &str = "0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d11";
const SUBMIT: &str = "databricks:jobs/runs/submit";
const PRESS: &str = "databricks:jobs/run-now";
/// The writes in a new workspace.
const ALL: [&str; 6] = [
    "databricks:secrets/scopes/create",
    "databricks:secrets/put",
    "databricks:workspace/mkdirs",
    "databricks:workspace/import",
    "databricks:jobs/create",
    SUBMIT,
];
const JOB: [&str; 2] = ["--job", "222222"];
const YES: [&str; 3] = ["--job", "222222", "-y"];

fn well() -> NotebookOutcome {
    NotebookOutcome::Exited { result: json!({ "mode": "check", "ok": true, "output": ["reached"] }).to_string() }
}

/// Ends each notebook that starts with this outcome, until dropped.
async fn notebooks(world: &Harness, outcome: NotebookOutcome) {
    loop {
        world.finish_notebook(outcome.clone()).await;
        sleep(Duration::from_secs(1)).await;
    }
}

async fn played<T>(world: &Harness, outcome: NotebookOutcome, ends: impl Future<Output = T>) -> T {
    tokio::select! {
        ended = ends => ended,
        () = notebooks(world, outcome) => unreachable!("it goes on until dropped"),
    }
}

/// Runs it without a terminal.
async fn alone(world: &Harness, line: &[&str]) -> Option<Outcome> {
    Box::pin(played(world, well(), world.run(run, line))).await
}

async fn done(world: &Harness, line: &[&str]) -> Outcome {
    Box::pin(alone(world, line)).await.expect("nobody kills it")
}

/// Runs it at a terminal: answers open questions and runs the command again, as the program does.
async fn talked(world: &Harness, line: &[&str], person: &Rc<Person>) -> Outcome {
    let command = async |args: Args, outer: &CommandContext| {
        let mut ctx = world.ctx(AccountFlags::default(), outer.events.clone());
        ctx.prompts.prompter = Some(person.clone());
        loop {
            let ended = run(args.clone(), &ctx).await;
            let open = ended.failure.as_ref().map(|failure| failure.open_questions.clone()).unwrap_or_default();
            if open.questions.is_empty() {
                return ended;
            }
            if let Err(failure) = answer(&open, &mut ctx, &**person).await {
                return failure.into();
            }
        }
    };
    let outcome = Box::pin(played(world, well(), world.run(command, line))).await.expect("nobody kills it");
    assert!(person.answers.borrow().is_empty(), "questions were left out: {:?}", person.answers.borrow());
    outcome
}

fn steps(outcome: &Outcome) -> Vec<String> {
    let step = |step: &Value| {
        format!(
            "{} {} {}",
            step["kind"].as_str().unwrap(),
            step["action"].as_str().unwrap(),
            step["progress"].as_str().unwrap()
        )
    };
    outcome.data["steps"].as_array().unwrap().iter().map(step).collect()
}

/// The result without run IDs, versions and other varying values.
fn state(world: &Harness) -> Value {
    fn forget(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for name in
                    ["job_runs", "dbt_runs", "object_id", "job_id", "version", "created_time", "last_updated_timestamp"]
                {
                    fields.shift_remove(name);
                }
                fields.values_mut().for_each(forget);
            }
            Value::Array(items) => items.iter_mut().for_each(forget),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut found = world.world(|world| world.inspect());
    forget(&mut found);
    found
}

/// The number of checks that were started.
fn checks(world: &Harness) -> usize {
    world.world(|world| world.inspect())["job_runs"].as_array().unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn any_line_of_the_plan_can_be_edited_before_it_is_applied_and_a_run_is_offered_after_the_check() {
    let world = Harness::new();
    let edits: [&[&str]; 7] = [
        &["e", "Secret scope", "no scope", "team"],
        &["e", "Notebook", "no path", ""],
        &["e", "Compute", "a mainframe", "serverless"],
        &["e", "Schedule", "0 6 * * *", "0 0 6 * * ?"],
        &["e", "Time zone", "Europe/Nowhere", "Europe/Berlin"],
        &["e", "Run as", "ana\u{7}", ""],
        // The same setting can be edited repeatedly.
        &["e", "Compute", "", "y", "y"],
    ];
    let answers: Vec<Answer> = edits.concat().into_iter().map(Ok).collect();
    let person = Person::of(&answers);
    let outcome = Box::pin(talked(&world, &JOB, &person)).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    assert_eq!(person.asked.borrow().iter().filter(|prompt| *prompt == "Apply?").count(), 8);
    let said = outcome.said();
    assert!(said.contains("write 0 0 6 * * ?"), "{said}");
    let place = |words: &str| said.rfind(words).unwrap_or_else(|| panic!("{words} in {said}"));
    let order = ["Time zone     Europe/Berlin", "Writing to", "reached"];
    assert!(order.map(place).is_sorted(), "{said}");
    assert_eq!(world.take_writes(), [&ALL[..], &[PRESS]].concat());
    let data = &outcome.data;
    assert_eq!((&data["check"]["status"], &data["run"]["status"]), (&json!("SUCCESS"), &json!("SUCCESS")));
    assert_eq!((&data["scope"], &data["result"]), (&json!("team"), &json!("created")));
    assert_eq!(data["schedule"]["timezone_id"], "Europe/Berlin");
    assert_eq!(
        data["commands"],
        json!([
            "export DATABRICKS_HOST=http://127.0.0.1:1",
            "export DBT_CLOUD_HOST=http://127.0.0.1:1 DBT_CLOUD_ACCOUNT_ID=51234",
            "dbtrigger init-secrets --scope team",
            format!("dbtrigger deploy-notebook --notebook {PATH} --scope team"),
            format!(
                "dbtrigger create-workflow --job 222222 --notebook {PATH} --schedule '0 0 6 * * ?' --timezone Europe/Berlin --check"
            ),
        ])
    );
    assert!(outcome.said().contains("  dbtrigger init-secrets --scope team\n"), "{}", outcome.said());
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_or_says_no_before_the_end_of_the_questions_has_written_nothing() {
    let world = Harness::new();
    let before = state(&world);
    let good: [Answer; 4] = [Ok("e"), Ok("Schedule"), Ok("0 0 6 * * ?"), Ok("y")];
    for leave in 0..good.len() {
        for reason in [Unanswered::Interrupted, Unanswered::EndOfInput] {
            let mut answers = good[..leave].to_vec();
            answers.push(Err(reason));
            let outcome = Box::pin(talked(&world, &JOB, &Person::of(&answers))).await;
            assert_eq!(outcome.exit, 130, "{leave}: {outcome:?}");
        }
    }
    let answers = [&good[..3], &[Ok("n")]].concat();
    let outcome = Box::pin(talked(&world, &JOB, &Person::of(&answers))).await;
    assert_eq!((outcome.exit, outcome.code), (1, Some(Code::Cancelled(None))), "{outcome:?}");
    assert_eq!(steps(&outcome).last().unwrap(), "workflow create pending");
    assert_eq!(outcome.text, "", "it was on the screen already");
    assert_eq!(world.take_writes(), [""; 0]);
    assert_eq!(state(&world), before);
}

#[tokio::test(start_paused = true)]
async fn a_first_run_that_nobody_answers_for_is_not_started_and_what_was_made_stays() {
    for (answer, exit) in [(Ok("n"), 0), (Err(Unanswered::Interrupted), 130), (Err(Unanswered::EndOfInput), 130)] {
        let world = Harness::new();
        let person = Person::of(&[Ok("y"), answer]);
        let outcome = Box::pin(talked(&world, &JOB, &person)).await;
        assert_eq!((outcome.exit, &outcome.data["result"]), (exit, &json!("created")), "{outcome:?}");
        assert_eq!(outcome.failure.contains("setup is complete, and no run was started"), exit != 0);
        assert_eq!(world.take_writes(), ALL);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_stored_is_asked_for_only_to_replace_it() {
    let world = Harness::new();
    assert_eq!(Box::pin(done(&world, &YES)).await.exit, 0);
    world.set("DBT_CLOUD_TOKEN", "");
    world.take_writes();
    let again = Person::of(&[Ok("n")]);
    let outcome = Box::pin(talked(&world, &JOB, &again)).await;
    assert_eq!((outcome.exit, &outcome.data["result"]), (0, &json!("kept")), "{outcome:?}");
    assert_eq!(*again.asked.borrow(), ["Run the workflow now?"]);
    assert_eq!(world.take_writes(), [""; 0]);
    let rotate = Person::of(&[Ok(DBT_TOKEN), Ok("n")]);
    let outcome = Box::pin(talked(&world, &[&JOB[..], &["--rotate"]].concat(), &rotate)).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    assert!(rotate.asked.borrow()[0].starts_with("dbt API key"), "{:?}", rotate.asked.borrow());
}

#[tokio::test(start_paused = true)]
async fn the_plan_is_shown_with_its_workspace_job_key_and_settings_before_it_is_applied() {
    let world = Harness::new();
    let settings = ["--schedule", "0 0 6 * * ?", "--timezone", "Europe/Berlin", "--run-as", SERVICE];
    let line = [&JOB[..], &settings, &["--run-now", "--paused"]].concat();
    let outcome = Box::pin(talked(&world, &line, &Person::of(&[Ok("n")]))).await;
    let shown: Vec<String> = outcome
        .events
        .iter()
        .filter_map(|event| if let Event::Asked(line) = event { Some(line.to_string()) } else { None })
        .collect();
    for (label, value) in [
        ("Workspace", "http://127.0.0.1:1 (as ana@example.com)"),
        ("dbt job", "222222 in account 51234 (http://127.0.0.1:1)"),
        ("API key", "from DBT_CLOUD_TOKEN"),
        ("Secret scope", "dbt-cloud"),
        ("Notebook", PATH),
        ("Compute", "serverless"),
        ("Schedule", "0 0 6 * * ? (paused)"),
        ("Time zone", "Europe/Berlin"),
        ("Run as", SERVICE),
    ] {
        assert!(shown.contains(&format!("{label:<14}{value}")), "{label} in {shown:#?}");
    }
    assert!(shown.iter().any(|line| line == THEN_CHECKED) && shown.iter().any(|line| line == THEN_RUN), "{shown:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_given_and_not_stored_is_never_passed_over_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, DBT_TOKEN).unwrap();
    let world = Harness::new();
    let line = [&YES[..], &["--token-file", file.to_str().unwrap()]].concat();
    let warned = "already exists and is kept; replace it with --rotate";
    let first = Box::pin(done(&world, &line)).await;
    assert!(first.exit == 0 && !first.said().contains(warned), "{first:?}");
    let again = Box::pin(done(&world, &line)).await;
    assert!(again.exit == 0 && again.said().contains(warned), "{again:?}");
    let rotated = Box::pin(done(&world, &[&line[..], &["--rotate"]].concat())).await;
    assert!(rotated.exit == 0 && !rotated.said().contains(warned), "{rotated:?}");
}

#[tokio::test(start_paused = true)]
async fn the_commands_for_ci_name_the_workspace_of_a_host_that_serves_several() {
    let world = Harness::new();
    world.set("DATABRICKS_WORKSPACE_ID", "4242");
    let outcome = Box::pin(done(&world, &["--job", "222222", "--dry-run"])).await;
    assert_eq!(
        outcome.data["commands"][0], "export DATABRICKS_HOST=http://127.0.0.1:1 DATABRICKS_WORKSPACE_ID=4242",
        "{outcome:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_changes_while_the_plan_is_shown_is_not_done_on_top_of_it() {
    let world = Harness::new();
    let meddler = world.clone();
    let others = move || {
        meddler.post("/api/2.0/secrets/scopes/create", &json!({ "scope": "dbt-cloud" }));
    };
    let person = Person::while_others(&[Ok("y")], others);
    let outcome = Box::pin(talked(&world, &JOB, &person)).await;
    assert_eq!((outcome.exit, outcome.code), (7, Some(Code::ChangedMeanwhile)), "{outcome:?}");
    assert!(
        outcome.failure.contains("the workspace changed while the plan was shown; nothing was"),
        "{}",
        outcome.failure
    );
    assert_eq!(world.take_writes(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn without_a_terminal_the_plan_is_accepted_by_its_flag_and_by_nothing_else() {
    let world = Harness::new();
    let outcome = Box::pin(done(&world, &JOB)).await;
    assert_eq!((outcome.exit, outcome.code), (2, Some(Code::MissingInput)), "{outcome:?}");
    assert!(outcome.failure.contains("pass -y to apply the plan"), "{}", outcome.failure);
    world.set("DBT_CLOUD_TOKEN", "");
    let outcome = Box::pin(done(&world, &[])).await;
    for missing in ["-y", "--job", "DBT_CLOUD_TOKEN", "--token-stdin"] {
        assert!(outcome.exit == 2 && outcome.failure.contains(missing), "{missing} in {}", outcome.failure);
    }
    assert!(!outcome.failure.contains("--name"), "{}", outcome.failure);
    assert_eq!(world.take_log(), []);
    world.set("DBT_CLOUD_TOKEN", DBT_TOKEN);
    let outcome = Box::pin(done(&world, &["--job", "222222", "--dry-run", "--run-now"])).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    for words in ["+ workflow \"dbt: Nightly build (222222)\"", THEN_CHECKED, THEN_RUN, "dbtrigger init-secrets\n"] {
        assert!(outcome.text.contains(words), "{words} in {}", outcome.text);
    }
    assert_eq!(world.take_writes(), [""; 0]);
    assert_eq!(Box::pin(done(&world, &YES)).await.exit, 0);
    assert_eq!(world.take_writes(), ALL);
}

#[tokio::test(start_paused = true)]
async fn setting_up_again_writes_nothing_with_and_without_a_terminal() {
    let world = Harness::new();
    let line = [&YES[..], &["--schedule", "0 0 6 * * ?", "--run-as", SERVICE]].concat();
    let first = Box::pin(done(&world, &line)).await;
    assert_eq!(first.exit, 0, "{first:?}");
    assert!(steps(&first).iter().all(|step| step.ends_with(" create done")), "{first:?}");
    let before = state(&world);
    world.take_log();
    for line in [&line[..], &YES] {
        let again = Box::pin(done(&world, line)).await;
        assert_eq!(again.exit, 0, "{again:?}");
        assert!(again.text.contains("Nothing to change."), "{}", again.text);
    }
    let person = Person::of(&[Ok("n")]);
    assert_eq!(Box::pin(talked(&world, &JOB, &person)).await.exit, 0);
    assert_eq!(world.take_writes(), [""; 0]);
    assert_eq!(state(&world), before);
}

#[tokio::test(start_paused = true)]
#[ignore = "takes long; .ci/run runs it"]
async fn stopped_at_any_request_it_goes_on_from_there() {
    let line = [&YES[..], &["--run-as", SERVICE]].concat();
    let world = Harness::new();
    assert_eq!(Box::pin(done(&world, &line)).await.exit, 0);
    let requests = world.take_log();
    let whole = state(&world);
    let check = requests.iter().position(|seen| seen.operation == SUBMIT).unwrap();
    let deaths = Cell::new(0);
    for index in 0..=check {
        for trouble in [InjectedFault::KilledBefore, InjectedFault::KilledAfter] {
            let world = Harness::new();
            world.inject_fault(index, trouble);
            deaths.set(deaths.get() + usize::from(Box::pin(alone(&world, &line)).await.is_none()));
            let again = Box::pin(done(&world, &line)).await;
            assert_eq!(again.exit, 0, "{trouble:?} at {index}: {again:?}");
            assert_eq!(state(&world), whole, "{trouble:?} at {index}");
            // The check is also resumed, and not repeated if the first one is still active.
            assert_eq!(again.data["check"]["status"], "SUCCESS", "{trouble:?} at {index}: {again:?}");
            assert_eq!(checks(&world), 1, "{trouble:?} at {index}");
        }
    }
    assert_eq!(deaths.get(), 2 * (check + 1));
}

#[tokio::test(start_paused = true)]
async fn a_check_that_did_not_end_well_is_made_up_for_and_one_that_did_is_not_repeated() {
    let world = Harness::new();
    let bad =
        NotebookOutcome::Failed { error: "NotTriggered: x\ndbtrigger-reason: egress".into(), trace: String::new() };
    assert_eq!(Box::pin(played(&world, bad, world.run(run, &YES))).await.unwrap().exit, 12);
    world.take_log();
    let shown = Box::pin(done(&world, &["--job", "222222", "--dry-run"])).await;
    assert!(shown.exit == 0 && shown.text.contains(THEN_CHECKED), "{shown:?}");
    assert_eq!(world.take_writes(), [""; 0]);
    let again = Box::pin(done(&world, &YES)).await;
    assert_eq!((again.exit, &again.data["check"]["status"]), (0, &json!("SUCCESS")), "{again:?}");
    assert_eq!(world.take_writes(), [SUBMIT]);
    for line in [&YES[..], &["--job", "222222", "--dry-run"]] {
        let third = Box::pin(done(&world, line)).await;
        assert!(third.exit == 0 && third.data.get("check").is_none(), "{third:?}");
        assert!(!third.text.contains(THEN_CHECKED), "{third:?}");
    }
    assert_eq!(world.take_writes(), [""; 0]);
    // The check of the old key no longer counts.
    world.set("DBT_CLOUD_TOKEN", "dbtc_another-0123456789");
    assert_eq!(world.run(init_secrets::run, &["--rotate", "--no-validate"]).await.unwrap().exit, 0);
    world.set("DBT_CLOUD_TOKEN", DBT_TOKEN);
    world.take_log();
    assert_eq!(Box::pin(done(&world, &YES)).await.data["check"]["status"], "SUCCESS");
    assert_eq!(world.take_writes(), [SUBMIT]);
}

#[tokio::test(start_paused = true)]
async fn a_workflow_on_a_notebook_of_its_own_stays_there_unless_another_one_is_named() {
    let world = Harness::new();
    let own = ["--notebook", "/Users/ana@example.com/own", "--scope", "team"];
    assert_eq!(Box::pin(done(&world, &[&YES[..], &own].concat())).await.exit, 0);
    world.take_log();
    // Both without and with a notebook at the default path.
    for _ in 0..2 {
        for again in [
            Box::pin(done(&world, &YES)).await,
            Box::pin(played(&world, well(), world.run(create_workflow::run, &JOB))).await.unwrap(),
        ] {
            assert_eq!((again.exit, &again.data["notebook"]), (0, &json!("/Users/ana@example.com/own")), "{again:?}");
            assert!(
                again.said().contains("Nothing to change.") || again.text.contains("Nothing to change."),
                "{again:?}"
            );
        }
        assert_eq!(world.take_writes(), [""; 0]);
        for command in [world.run(init_secrets::run, &[]).await, world.run(deploy_notebook::run, &[]).await] {
            assert_eq!(command.unwrap().exit, 0);
        }
        world.take_log();
    }
    let moved = Box::pin(done(&world, &[&YES[..], &["--notebook", PATH]].concat())).await;
    assert_eq!((moved.exit, &moved.data["notebook"]), (0, &json!(PATH)), "{moved:?}");
}

#[tokio::test(start_paused = true)]
async fn it_does_what_the_commands_for_its_steps_do() {
    let world = Harness::new();
    let line = [&YES[..], &["--schedule", "0 0 6 * * ?", "--run-as", SERVICE, "--scope", "team"]].concat();
    assert_eq!(Box::pin(done(&world, &line)).await.exit, 0);
    let single = Harness::new();
    let secrets = ["--scope", "team"];
    assert_eq!(single.run(init_secrets::run, &secrets).await.unwrap().exit, 0);
    assert_eq!(single.run(deploy_notebook::run, &secrets).await.unwrap().exit, 0);
    let workflow = ["--job", "222222", "--schedule", "0 0 6 * * ?", "--run-as", SERVICE, "--grant-run-as"];
    assert_eq!(single.run(create_workflow::run, &workflow).await.unwrap().exit, 0);
    assert_eq!(state(&world), state(&single));
}

#[tokio::test(start_paused = true)]
async fn others_get_access_to_the_scope_as_init_secrets_gives_it_and_the_commands_for_ci_carry_it() {
    let world = Harness::new();
    let service = format!("{SERVICE}:WRITE");
    let grants = ["--grant", "data-engineers", "--grant", &service];
    let schedule = ["--run-as", SERVICE, "--schedule", "0 0 6 * * ?"];
    let line = [&YES[..], &grants, &schedule, &["--paused"]].concat();
    let first = Box::pin(done(&world, &line)).await;
    assert_eq!((first.exit, &first.data["schedule"]["paused"]), (0, &json!(true)), "{first:?}");
    let granted = format!("  dbtrigger init-secrets --grant data-engineers:READ --grant {SERVICE}:WRITE\n");
    assert!(first.said().contains(granted.trim_end()), "{}", first.said());
    // A one-time choice of the user is not repeated by a pipeline.
    assert!(!first.data["commands"].to_string().contains("--paused"), "{}", first.data["commands"]);
    let single = Harness::new();
    assert_eq!(single.run(init_secrets::run, &grants).await.unwrap().exit, 0);
    assert_eq!(single.run(deploy_notebook::run, &[]).await.unwrap().exit, 0);
    let workflow = [&JOB[..], &schedule, &["--grant-run-as", "--paused"]].concat();
    assert_eq!(single.run(create_workflow::run, &workflow).await.unwrap().exit, 0);
    assert_eq!(state(&world), state(&single));
    let everybody = Box::pin(done(&world, &[&YES[..], &["--grant", "users"]].concat())).await;
    assert!(everybody.exit == 7 && everybody.failure.contains("--accept-shared-scope"), "{everybody:?}");
}

#[tokio::test(start_paused = true)]
async fn a_scope_that_others_can_read_takes_their_name() {
    let world = Harness::new();
    world.post("/api/2.0/secrets/scopes/create", &json!({ "scope": "dbt-cloud" }));
    let acl = json!({ "scope": "dbt-cloud", "principal": "analysts", "permission": "READ" });
    world.post("/api/2.0/secrets/acls/put", &acl);
    world.take_log();
    let outcome = Box::pin(done(&world, &YES)).await;
    assert!(outcome.exit == 7 && outcome.failure.contains("analysts (READ)"), "{outcome:?}");
    assert_eq!(world.take_writes(), [""; 0]);
    assert_eq!(Box::pin(done(&world, &[&YES[..], &["--grant", "analysts"]].concat())).await.exit, 0);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_there_is_replaced_only_on_demand_and_only_by_another_one() {
    let world = Harness::new();
    world.post("/api/2.0/secrets/scopes/create", &json!({ "scope": "dbt-cloud" }));
    let old = json!({ "scope": "dbt-cloud", "key": "api-key", "string_value": "dbtc_old-0123456789" });
    world.post("/api/2.0/secrets/put", &old);
    let version =
        || world.world(|world| world.inspect())["scopes"]["dbt-cloud"]["secrets"]["api-key"]["version"].clone();
    let rotate = [&YES[..], &["--rotate"]].concat();
    for (line, expected) in [(&YES[..], 1), (&rotate, 2), (&rotate, 2)] {
        let outcome = Box::pin(done(&world, line)).await;
        assert_eq!((outcome.exit, version()), (0, json!(expected)), "{line:?}: {outcome:?}");
        // `--rotate` in a pipeline would replace later keys.
        assert!(!outcome.data["commands"].to_string().contains("--rotate"), "{outcome:?}");
    }
    // With `--rotate` the key is required, so nothing is looked up without one.
    world.set("DBT_CLOUD_TOKEN", "");
    world.take_log();
    let outcome = Box::pin(done(&world, &rotate)).await;
    assert!(outcome.exit == 2 && outcome.failure.contains("--token-stdin"), "{outcome:?}");
    assert_eq!(world.take_log(), []);
}

#[tokio::test(start_paused = true)]
async fn the_key_goes_where_the_notebook_that_is_there_reads_it() {
    let world = Harness::new();
    assert_eq!(world.run(deploy_notebook::run, &["--scope", "team", "--key", "mine"]).await.unwrap().exit, 0);
    let outcome = Box::pin(done(&world, &YES)).await;
    assert_eq!((outcome.exit, &outcome.data["scope"], &outcome.data["key"]), (0, &json!("team"), &json!("mine")));
    assert!(outcome.said().contains("init-secrets --scope team --key mine\n"), "{}", outcome.said());
    assert_eq!(world.world(|world| world.inspect())["scopes"]["team"]["secrets"]["mine"]["version"], 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_in_any_step_is_refused_in_all_before_anybody_is_asked_to_accept() {
    let world = Harness::new();
    let foreign = json!({ "path": "/Users/ana@example.com/mine", "format": "SOURCE", "language": "PYTHON", "content": "cHJpbnQoMSkK" });
    world.post("/api/2.0/workspace/import", &foreign);
    let line = [&JOB[..], &["--notebook", "/Users/ana@example.com/mine"]].concat();
    let person = Person::of(&[]);
    let outcome = Box::pin(talked(&world, &line, &person)).await;
    assert_eq!((outcome.exit, outcome.code), (7, Some(Code::Refused)), "{outcome:?}");
    assert!(outcome.failure.contains("--adopt") && outcome.data["commands"] == json!([]), "{outcome:?}");

    let narrow = ["--allow-job", "222223"];
    assert_eq!(world.run(deploy_notebook::run, &narrow).await.unwrap().exit, 0);
    world.take_log();
    let outcome = Box::pin(done(&world, &YES)).await;
    assert!(outcome.exit == 7 && outcome.failure.contains("may start only these dbt jobs: 222223"), "{outcome:?}");
    let dry = Box::pin(done(&world, &["--job", "222222", "--dry-run"])).await;
    assert_eq!((dry.exit, &dry.data["refused"]["code"], &dry.data["commands"]), (0, &json!("refused"), &json!([])));
    let shared = [&YES[..], &["--notebook", "/Shared/run"]].concat();
    let outcome = Box::pin(done(&world, &shared)).await;
    assert!(outcome.exit == 7 && outcome.failure.contains("--accept-shared-path"), "{outcome:?}");
    assert_eq!(world.take_writes(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn one_key_in_a_file_is_enough_and_one_that_dbt_refuses_is_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    let world = Harness::new();
    world.set("DBT_CLOUD_TOKEN", "");
    for (token, exit) in [("dbtc_wrong-0123456789", 4), (DBT_TOKEN, 0)] {
        std::fs::write(&file, token).unwrap();
        let outcome = Box::pin(done(&world, &[&YES[..], &["--token-file", file.to_str().unwrap()]].concat())).await;
        assert_eq!(outcome.exit, exit, "{outcome:?}");
        let writes = world.take_writes();
        assert_eq!(writes.is_empty(), exit != 0, "{writes:?}");
    }
    assert_eq!(world.world(|world| world.inspect())["scopes"]["dbt-cloud"]["secrets"]["api-key"]["version"], 1);
    // The key to store is checked even if another token is used for requests.
    let world = Harness::new();
    std::fs::write(&file, "dbtc_wrong-0123456789").unwrap();
    let outcome = Box::pin(done(&world, &[&YES[..], &["--token-file", file.to_str().unwrap()]].concat())).await;
    assert!(outcome.exit == 4 && outcome.failure.contains("cannot use the dbt API key"), "{outcome:?}");
    assert_eq!(world.take_writes(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_fails_is_the_outcome_and_no_run_is_offered() {
    let world = Harness::new();
    let bad =
        NotebookOutcome::Failed { error: "NotTriggered: x\ndbtrigger-reason: egress".into(), trace: String::new() };
    let line = [&YES[..], &["--run-now"]].concat();
    let outcome = Box::pin(played(&world, bad, world.run(run, &line))).await.unwrap();
    assert_eq!((outcome.exit, outcome.code), (12, Some(Code::Network)), "{outcome:?}");
    assert_eq!(world.take_writes(), ALL);
    assert!(outcome.said().contains("dbtrigger create-workflow --job 222222"), "{}", outcome.said());
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_to_accept_what_is_only_shown_or_was_accepted_beforehand() {
    let world = Harness::new();
    let dry = [&JOB[..], &["--dry-run"]].concat();
    let shown = Box::pin(talked(&world, &dry, &Person::of(&[]))).await;
    assert_eq!(shown.exit, 0, "{shown:?}");
    assert_eq!(world.take_writes(), [""; 0]);
    let accepted = Box::pin(talked(&world, &YES, &Person::of(&[]))).await;
    assert_eq!(accepted.exit, 0, "{accepted:?}");
    assert_eq!(world.take_writes(), ALL);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_tried_and_missed_only_where_it_would_be_stored() {
    let (folder, account) = (tempfile::tempdir().unwrap(), 51234);
    let file = folder.path().join("key");
    std::fs::write(&file, "dbtc_wrong-0123456789").unwrap();
    let world = Harness::new();
    assert_eq!(Box::pin(done(&world, &YES)).await.exit, 0);
    let given = Box::pin(done(&world, &[&YES[..], &["--token-file", file.to_str().unwrap()]].concat())).await;
    assert_eq!(given.exit, 0, "{given:?}");
    // A login can be used for requests, but is not a key to store.
    let owner = Owner::Dbt { host: "http://127.0.0.1:1".to_owned(), account };
    world.set("DBT_CLOUD_TOKEN", "");
    world.use_keyring(&Double::holding(&[(owner, DBT_TOKEN)]).keyring());
    let none = Box::pin(done(&world, &YES)).await;
    assert_eq!(none.exit, 0, "{none:?}");
    world.take_log();
    let rotated = Box::pin(done(&world, &[&YES[..], &["--rotate"]].concat())).await;
    assert!(rotated.exit == 2 && rotated.failure.contains("--token-stdin"), "{rotated:?}");
    let nowhere = Box::pin(done(&world, &[&YES[..], &["--token-file", "nowhere"]].concat())).await;
    assert!(nowhere.exit == 2 && nowhere.failure.contains("nowhere"), "{nowhere:?}");
    assert_eq!(world.take_log(), []);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_has_to_know_of_scope_and_job_is_warned_about() {
    let world = Harness::new();
    world.world(|world| world.set_premium(false));
    let line = ["--job", "300120", "-y", "--accept-shared-scope"];
    for _ in ["the scope is made", "the scope is there"] {
        let outcome = Box::pin(done(&world, &line)).await;
        assert_eq!(outcome.exit, 0, "{outcome:?}");
        for words in ["every user of this workspace can read secret scope dbt-cloud", "is a CI job"] {
            assert!(outcome.said().contains(words), "{words} in {}", outcome.said());
        }
        assert!(outcome.data["commands"].to_string().contains("--accept-shared-scope"), "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_commands_for_ci_have_the_consents_and_the_grants_that_a_new_place_needs() {
    let world = Harness::new();
    let line = ["--job", "222222", "--dry-run", "--notebook", "/Shared/run", "--accept-shared-path"];
    let shared = Box::pin(done(&world, &line)).await;
    assert!(shared.data["commands"][3].as_str().unwrap().ends_with(" --accept-shared-path"), "{shared:?}");
    let run_as = Box::pin(done(&world, &["--job", "222222", "--dry-run", "--run-as", SERVICE])).await;
    let grant = format!(" --grant {SERVICE}:CAN_RUN");
    assert!(run_as.data["commands"][3].as_str().unwrap().ends_with(&grant), "{run_as:?}");
    // The identity is named twice, but gets one grant, with the level of the flag.
    let more = format!("{SERVICE}:WRITE");
    let both = Box::pin(done(&world, &["--job", "222222", "--dry-run", "--run-as", SERVICE, "--grant", &more])).await;
    assert_eq!(both.data["commands"][2], format!("dbtrigger init-secrets --grant {more}"), "{both:?}");
}

#[tokio::test(start_paused = true)]
async fn a_check_is_repeated_where_what_it_depends_on_has_changed_or_its_end_cannot_be_seen() {
    let world = Harness::new();
    let checked = async |line: &[&str]| {
        let outcome = Box::pin(done(&world, &[&YES[..], line].concat())).await;
        assert_eq!(outcome.exit, 0, "{line:?}: {outcome:?}");
        world.take_writes().contains(&SUBMIT)
    };
    assert!(checked(&[]).await && !checked(&[]).await);
    // Another notebook.
    let jobs = ["--allow-job", "222222", "--allow-job", "222223"];
    assert_eq!(world.run(deploy_notebook::run, &jobs).await.unwrap().exit, 0);
    assert!(checked(&[]).await && !checked(&[]).await);
    // Other compute, another identity.
    for line in [&["--compute", "new"][..], &["--run-as", SERVICE]] {
        assert!(checked(line).await && !checked(line).await, "{line:?}");
    }
    // The check is on a later page of runs.
    for token in 0..30 {
        let task = json!({ "task_key": "t", "notebook_task": { "notebook_path": PATH } });
        let body = json!({ "run_name": "another", "idempotency_token": token.to_string(), "tasks": [task] });
        world.post("/api/2.2/jobs/runs/submit", &body);
    }
    assert!(!checked(&[]).await);
    world.world(|world| {
        world.add_fault(FaultRule::parse("databricks:jobs/runs/list=status=403,times=forever").unwrap());
    });
    assert!(checked(&[]).await);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_somebody_cancels_is_said_so_and_made_up_for() {
    let world = Harness::new();
    let cancelled = async {
        let run = loop {
            let found = world.world(|world| world.inspect())["job_runs"][0]["run_id"].clone();
            if !found.is_null() {
                break found;
            }
            sleep(Duration::from_millis(10)).await;
        };
        world.post("/api/2.2/jobs/runs/cancel", &json!({ "run_id": run }));
    };
    let (outcome, ()) = Box::pin(async { tokio::join!(world.run(run, &YES), cancelled) }).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.code, Some(Code::RunCancelled), "{outcome:?}");
    let again = Box::pin(done(&world, &YES)).await;
    assert_eq!((again.exit, checks(&world)), (0, 2), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn a_signal_at_the_question_finds_the_plan_and_behind_it_nothing_is_said_to_be_unwritten() {
    let world = Harness::new();
    let known: Rc<RefCell<InterruptReport>> = Rc::default();
    let left = |known: &Rc<RefCell<InterruptReport>>| known.borrow().get();
    let looked = known.clone();
    let person = Person::while_others(&[Ok("y")], move || {
        let left = left(&looked).expect("the plan is known");
        assert_eq!(left.note.unwrap().state, "nothing was written");
        assert_eq!(left.known.data["steps"][0]["progress"], "pending");
    });
    let command = async |args: Args, outer: &CommandContext| {
        let mut ctx = world.ctx(AccountFlags::default(), outer.events.clone());
        ctx.prompts.prompter = Some(person.clone());
        known.replace(ctx.interrupt_report.clone());
        run(args, &ctx).await
    };
    // The first write is in flight.
    let writing = async {
        while world.take_writes().is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        outcome = Box::pin(world.run(command, &JOB)) => panic!("it has ended: {outcome:?}"),
        () = writing => {}
    }
    assert!(left(&known).is_none());
}
