//! `--check`: a one-time run in check mode, and how its result is interpreted.

use super::*;

const SERVICE: &str = "0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d11";
const CHECK: [&str; 3] = ["--job", "222222", "--check"];
const SUBMIT: &str = "databricks:jobs/runs/submit";

fn well() -> NotebookOutcome {
    NotebookOutcome::Exited { result: json!({ "mode": "check", "ok": true, "output": ["reached"] }).to_string() }
}

fn bad(message: &str) -> NotebookOutcome {
    NotebookOutcome::Failed { error: format!("NotTriggered: {message}"), trace: String::new() }
}

fn one_time_runs(ctx: &Harness) -> usize {
    let runs = ctx.world(|world| world.inspect())["job_runs"].as_array().unwrap().clone();
    let is_check = |run: &&Value| run["tasks"][0]["parameters"]["dbtrigger_mode"] == "check";
    runs.iter().filter(is_check).count()
}

#[tokio::test(start_paused = true)]
async fn a_check_runs_the_notebook_once_in_check_mode_as_whom_the_runs_act_as() {
    let ctx = prepared().await;
    ctx.run(deploy_notebook::run, &["--allow-override", "git_branch"]).await;
    ctx.take_log();
    let granted = ["--run-as", SERVICE, "--grant-run-as", "--override", "git_branch=main", "--task-timeout", "2h"];
    let outcome = run_now(&ctx, &[&CHECK[..], &granted].concat(), well()).await;
    assert_eq!((outcome.exit, &outcome.data["check"]["status"]), (0, &json!("SUCCESS")), "{outcome:?}");
    assert!(outcome.data.get("run").is_none() && outcome.said().contains("reached"), "{outcome:?}");
    let log = ctx.take_log();
    let sent: Vec<Value> = log
        .iter()
        .filter(|seen| seen.operation == SUBMIT)
        .map(|seen| serde_json::from_str(&seen.body).unwrap())
        .collect();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0]["run_as"], json!({ "service_principal_name": SERVICE }));
    assert_eq!(sent[0]["idempotency_token"].as_str().unwrap().len(), 64);
    let base =
        json!({ "job_id": "222222", "dbtrigger_mode": "check", "dbtrigger_overrides": "{\"git_branch\":\"main\"}" });
    assert_eq!(sent[0]["tasks"][0]["notebook_task"]["base_parameters"], base);
    assert_eq!(one_time_runs(&ctx), 1);
    assert!(!log.iter().any(|seen| seen.operation == "databricks:jobs/run-now"));
}

#[tokio::test(start_paused = true)]
async fn a_check_is_good_only_if_the_notebook_says_so_itself() {
    let (mut good, mut total) = (0, 0);
    let said = |result: Value| NotebookOutcome::Exited { result: result.to_string() };
    for outcome in [
        NotebookOutcome::Finished,
        NotebookOutcome::Exited { result: "fine".to_owned() },
        said(json!({})),
        said(json!({ "mode": "check", "output": [] })),
        said(json!({ "mode": "check", "ok": false, "output": [] })),
        said(json!({ "mode": "check", "ok": "true", "output": [] })),
        said(json!({ "ok": true, "output": [] })),
        said(json!({ "mode": "run", "ok": true, "status": "SUCCESS", "output": [] })),
    ] {
        let ctx = prepared().await;
        // The second time, an earlier run of the check has ended successfully.
        for _ in 0..2 {
            let ended = run_now(&ctx, &CHECK, outcome.clone()).await;
            total += 1;
            good += usize::from((ended.exit, ended.code) == (1, Some(Code::Failed)));
        }
        let ended = run_now(&ctx, &CHECK, well()).await;
        assert_eq!(ended.exit, 0, "{ended:?}");
    }
    crate::sim::say(&format!("checks that the notebook has not confirmed do not pass: {good} of {total}"));
    assert_eq!(good, total);
}

#[tokio::test(start_paused = true)]
async fn after_a_good_check_it_is_run_and_a_dry_run_only_says_so() {
    let ctx = prepared().await;
    let line = [&CHECK[..], &["--run-now"]].concat();
    let dry = create(&ctx, &[&line[..], &["--dry-run"]].concat()).await;
    assert!(dry.exit == 0 && ctx.take_writes().is_empty(), "{dry:?}");
    let place = |word: &str| dry.text.find(word).unwrap_or_else(|| panic!("{word} in {}", dry.text));
    assert!(place("Then: check") < place("Then: run"));
    let outcome = run_now(&ctx, &line, well()).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    assert_eq!(ctx.take_writes(), ["databricks:jobs/create", SUBMIT, "databricks:jobs/run-now"]);
    let data = &outcome.data;
    assert_eq!((&data["check"]["status"], &data["run"]["status"]), (&json!("SUCCESS"), &json!("SUCCESS")));

    let ctx = prepared().await;
    let outcome = run_now(&ctx, &line, bad("x\ndbtrigger-reason: egress")).await;
    assert_eq!((outcome.exit, &outcome.data["result"]), (12, &json!("created")), "{outcome:?}");
    assert_eq!(ctx.take_writes(), ["databricks:jobs/create", SUBMIT]);
}

#[tokio::test(start_paused = true)]
async fn what_is_in_the_way_is_told_apart_and_has_its_own_exit_code_and_next_step() {
    let base = prepared().await;
    create(&base, &JOB).await;
    for (verdict, code, words) in [
        ("key-refused", Code::NotAuthenticated, &["rejects the key in dbt-cloud/api-key", "--rotate"][..]),
        (
            "key-malformed",
            Code::NotAuthenticated,
            &["dbt-cloud/api-key is not a dbt API key", "init-secrets --scope dbt-cloud --key api-key --rotate"],
        ),
        ("key-not-allowed", Code::NotAllowed, &["Job Runner"]),
        ("address-refused", Code::NotAllowed, &["IP restrictions", "addresses"]),
        ("job-not-visible", Code::NotFound, &["cannot see the dbt job", "dbtrigger jobs"]),
        ("egress", Code::Network, &["cannot reach dbt", "port 443"]),
        ("name", Code::Network, &["cannot resolve", "private DNS"]),
        ("proxy", Code::Network, &["proxy", "HTTPS_PROXY"]),
        ("network", Code::Network, &["broke"]),
        ("tls", Code::Tls, &["TLS", "REQUESTS_CA_BUNDLE"]),
        ("secret", Code::NotAllowed, &["ana@example.com cannot use the secret", "--grant ana@example.com:READ"]),
        ("input", Code::Refused, &["rejects the workflow's parameters", "deploy-notebook --notebook"]),
        ("unavailable", Code::Unavailable, &["a minute"]),
        ("unexpected-response", Code::UnexpectedResponse, &["the host that answers the workflow's compute is not dbt"]),
        ("fancy-new", Code::Failed, &["failed for another reason"]),
    ] {
        let ctx = base.copy();
        let outcome = run_now(&ctx, &CHECK, bad(&format!("The words of it.\ndbtrigger-reason: {verdict}"))).await;
        assert_eq!((outcome.code, outcome.exit), (Some(code), code.exit()), "{verdict}: {outcome:?}");
        for word in words.iter().chain(&["The words of it.", "see http://127.0.0.1:1/jobs/"]) {
            assert!(outcome.failure.contains(word), "{verdict}: {word} in {}", outcome.failure);
        }
        assert!(!outcome.failure.contains("dbtrigger-reason"), "{}", outcome.failure);
        assert_eq!((ctx.take_writes(), jobs(&ctx).len()), (vec![SUBMIT], 1), "{verdict}");
    }
    // An old or edited notebook reports no reason.
    let outcome = run_now(&base.copy(), &CHECK, bad("Something else.")).await;
    assert!(outcome.exit == 1 && outcome.failure.contains("Something else."), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_notebook_that_the_runs_cannot_read_shows_in_the_check() {
    let ctx = prepared().await;
    // The access lists are hidden, which is only a warning.
    for operation in ["permissions/get", "secrets/acls/list"] {
        let rule = format!("databricks:{operation}=status=403,times=forever");
        ctx.world(|world| world.add_fault(FaultRule::parse(&rule).unwrap()));
    }
    let outcome = run_now(&ctx, &[&CHECK[..], &["--run-as", SERVICE]].concat(), well()).await;
    assert_eq!(outcome.code, Some(Code::NotAllowed), "{outcome:?}");
    let words = format!("{SERVICE} cannot read notebook /Users/ana@example.com/dbtrigger/run_dbt_job_51234");
    assert!(
        outcome.failure.contains(&words) && outcome.failure.contains(&format!("--grant {SERVICE}:CAN_RUN")),
        "{}",
        outcome.failure
    );
}

#[tokio::test(start_paused = true)]
async fn a_check_that_cannot_be_started_says_why_and_leaves_the_workflow() {
    let base = prepared().await;
    assert_eq!(create(&base, &["--job", "222222", "--run-as", SERVICE, "--grant-run-as"]).await.exit, 0);
    let ctx = base.copy();
    ctx.world(|world| world.set_serverless(false));
    let outcome = create(&ctx, &CHECK).await;
    assert!(outcome.exit == 1 && outcome.failure.contains("--compute cluster:ID"), "{outcome:?}");
    let ctx = base.copy();
    ctx.world(|world| world.add_fault(FaultRule::parse(&format!("{SUBMIT}=status=403")).unwrap()));
    let outcome = create(&ctx, &CHECK).await;
    assert!(outcome.exit == 4 && outcome.failure.contains("Service Principal User"), "{outcome:?}");
    assert_eq!(outcome.data["result"], "kept");
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_makes_no_second_check() {
    let base = prepared().await;
    create(&base, &JOB).await;
    for class in ["reset,phase=before", "reset,phase=after", "status=503,phase=after", "truncated,phase=after"] {
        let ctx = base.copy();
        ctx.world(|world| world.add_fault(FaultRule::parse(&format!("{SUBMIT}={class}")).unwrap()));
        let outcome = run_now(&ctx, &CHECK, well()).await;
        assert_eq!((outcome.exit, one_time_runs(&ctx)), (0, 1), "{class}: {outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn several_tasks_are_checked_in_one_run_each_with_its_own_job() {
    let ctx = prepared().await;
    let line =
        ["--name", "Both", "--job", "222222", "--job", "one=222225", "--depends-on", "one=dbt_222222", "--check"];
    let create_all = create(&ctx, &line);
    let ended = async {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            ctx.world(|world| {
                while let Some(task) = world.next_notebook(SimTime(0)) {
                    // The second task fails, although no task depends on it.
                    let second = task.parameters["job_id"] == "222225";
                    let outcome = if second { bad("x\ndbtrigger-reason: job-not-visible") } else { well() };
                    world.notebook_ended(SimTime(0), task.task_run_id, NotebookEnd { outcome, output: String::new() });
                }
            });
        }
    };
    let outcome = tokio::select! {
        outcome = create_all => outcome,
        () = ended => unreachable!("it goes on until dropped"),
    };
    assert_eq!(outcome.code, Some(Code::NotFound), "{outcome:?}");
    assert!(outcome.failure.contains("the dbt job of task one"), "{}", outcome.failure);
    assert_eq!(outcome.data["check"]["tasks"].as_array().unwrap().len(), 2);
}
