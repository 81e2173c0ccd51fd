//! Runs of workflows that were retried, repaired, queued or skipped, end to end against the in-memory sandbox.

use serde_json::{Value, json};

use crate::commands::tests::harness::{Harness, Outcome, id, number};
use crate::commands::{cancel, deploy_notebook, run, runs, watch};
use crate::failure::Code;
use crate::sandbox::NotebookOutcome;

const NOTEBOOK: &str = "/Users/ana@example.com/dbtrigger/run_dbt_job_51234";
/// Workspace ID of the sandbox.
const WORKSPACE: &str = "7405609032100112";
const FINE: NotebookOutcome = NotebookOutcome::Finished;

fn fault(ctx: &Harness, rule: &str) {
    ctx.world(|world| world.add_fault(crate::sandbox::FaultRule::parse(rule).unwrap()));
}

fn failed() -> NotebookOutcome {
    NotebookOutcome::Failed { error: "DbtRunFailed: no".to_owned(), trace: String::new() }
}

/// Creates a job with these tasks: key, retries and dependencies.
async fn workflow(ctx: &Harness, tasks: &[(&str, u32, &[&str])]) -> String {
    let _ = ctx.run(deploy_notebook::run, &[]).await.unwrap();
    let tasks: Vec<Value> = tasks
        .iter()
        .map(|(key, retries, needs)| {
            let needs: Vec<Value> = needs.iter().map(|need| json!({ "task_key": need })).collect();
            json!({ "task_key": key, "max_retries": retries, "depends_on": needs, "disable_auto_optimization": true,
                    "notebook_task": { "notebook_path": NOTEBOOK, "source": "WORKSPACE" } })
        })
        .collect();
    let settings = json!({ "name": "w", "tasks": tasks, "parameters": [{ "name": "day", "default": "sunday" }] });
    ctx.post("/api/2.2/jobs/create", &settings)["job_id"].to_string()
}

async fn started(ctx: &Harness, line: &[&str]) -> String {
    let line: Vec<&str> = line.iter().copied().chain(["--no-wait"]).collect();
    let outcome = ctx.run(run::run, &line).await.expect("nobody kills it");
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    let data = outcome.data;
    id(&data[if data["run_id"].is_null() { "workflow_run_id" } else { "run_id" }])
}

async fn watched(ctx: &Harness, line: &[&str]) -> Outcome {
    ctx.run(watch::run, line).await.expect("nobody kills it")
}

fn task<'a>(outcome: &'a Outcome, key: &str) -> &'a Value {
    outcome.data["tasks"].as_array().unwrap().iter().find(|task| task["task_key"] == key).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_retried_and_repaired_run_ends_as_the_newest_attempts_do() {
    let ctx = Harness::new();
    let job = workflow(&ctx, &[("a", 1, &[]), ("b", 0, &["a"])]).await;
    let run = started(&ctx, &["--workflow", &job, "--param", "day=last monday"]).await;
    ctx.finish_notebook(failed()).await;
    ctx.finish_notebook(failed()).await;
    let outcome = watched(&ctx, &["--workflow-run", &run]).await;
    assert_eq!(outcome.code, Some(Code::RunFailed), "{outcome:?}");
    for line in
        ["task a   FAILED   (attempt 1; tried again)", "task a   FAILED   (attempt 2)", "task b   UPSTREAM_FAILED"]
    {
        assert!(outcome.said().contains(line), "{line}: {}", outcome.said());
    }
    assert!(outcome.failure.contains("task a (the last of 2 attempts): DbtRunFailed: no"), "{outcome:?}");
    // The suggested command has the same parameters.
    let again = format!("\"dbtrigger run --workflow {job} --param 'day=last monday'\"");
    assert!(outcome.failure.contains(&again), "{outcome:?}");
    assert_eq!((&outcome.data["repairs"], &task(&outcome, "a")["attempt"]), (&0.into(), &2.into()));
    let repair = json!({ "run_id": run.parse::<u64>().unwrap(), "rerun_all_failed_tasks": true });
    ctx.post("/api/2.2/jobs/runs/repair", &repair);
    let notebooks = async {
        ctx.finish_notebook(FINE).await;
        ctx.finish_notebook(FINE).await;
    };
    let line = ["--workflow-run", run.as_str()];
    let (outcome, ()) = tokio::join!(watched(&ctx, &line), notebooks);
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    for line in [
        "this run was repaired once",
        "task a   FAILED   (before repair 1; tried again)",
        "task a   SUCCESS   (repair 1)",
        "task b   UPSTREAM_FAILED   (before repair 1; tried again)",
        "task b   SUCCESS   (repair 1)",
    ] {
        assert!(outcome.said().contains(line), "{line}: {}", outcome.said());
    }
    let a = task(&outcome, "a");
    assert_eq!((&outcome.data["repairs"], &a["repair"], &a["attempt"]), (&1.into(), &1.into(), &1.into()));
    let earlier: Vec<&Value> = a["earlier_attempts"].as_array().unwrap().iter().map(|one| &one["attempt"]).collect();
    assert_eq!(earlier, [&json!(1), &json!(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_queued_run_says_behind_which_and_a_skipped_one_that_it_never_ran() {
    let ctx = Harness::new();
    let job = workflow(&ctx, &[("a", 0, &[])]).await;
    let first = started(&ctx, &["--workflow", &job, "--idempotency-key", "1"]).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let second = started(&ctx, &["--workflow", &job, "--idempotency-key", "2"]).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let third = started(&ctx, &["--workflow", &job, "--idempotency-key", "3"]).await;
    let outcome = watched(&ctx, &["--workflow-run", &third, "--timeout", "30s"]).await;
    assert_eq!(outcome.code, Some(Code::StillRunning), "{outcome:?}");
    let says = format!("behind run {first} and 1 run queued earlier");
    assert!(outcome.said().contains(&says), "{}", outcome.said());
    assert_eq!(outcome.said().matches("queued: ").count(), 1, "{}", outcome.said());
    let ahead = json!({ "run_ids": [first], "queued_before": 1, "more": false });
    assert_eq!(outcome.data["queued_behind"], ahead);
    // The runs ahead are only for display: without them the run is still followed.
    fault(&ctx, "databricks:jobs/runs/list=status=403,times=forever");
    let outcome = watched(&ctx, &["--workflow-run", &second, "--timeout", "30s"]).await;
    assert_eq!((outcome.code, &outcome.data["queued_behind"]), (Some(Code::StillRunning), &Value::Null));
    assert!(outcome.said().contains("queued: the workflow is at its concurrency limit"), "{}", outcome.said());
    let off = json!({ "job_id": job.parse::<u64>().unwrap(), "new_settings": { "queue": { "enabled": false } } });
    ctx.post("/api/2.2/jobs/update", &off);
    let outcome = ctx.run(run::run, &["--workflow", &job, "--idempotency-key", "4"]).await.unwrap();
    assert_eq!((outcome.exit, &outcome.data["status"]), (3, &"MAXIMUM_CONCURRENT_RUNS_REACHED".into()));
    assert!(
        outcome.failure.contains("never ran")
            && outcome.failure.contains("enable the workflow's queue, so that runs over the limit"),
        "{outcome:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn watch_offers_the_start_that_was_and_none_that_it_cannot_say() {
    let ctx = Harness::new();
    let line = ["222223", "--git-branch", "main", "--threads", "4", "--step", "dbt build", "--generate-docs"];
    let run = started(&ctx, &line).await;
    let outcome = watched(&ctx, &[&run]).await;
    assert_eq!(outcome.code, Some(Code::RunFailed), "{outcome:?}");
    let again = "\"dbtrigger run 222223 --git-branch main --threads 4 --generate-docs=true --step 'dbt build'\"";
    assert!(outcome.failure.contains(again), "{outcome:?}");
    let body = json!({ "cause": "by hand", "github_pull_request_id": 7 });
    let run = ctx.post("/api/v2/accounts/51234/jobs/222223/run/", &body)["data"]["id"].to_string();
    let outcome = watched(&ctx, &[&run]).await;
    assert_eq!(outcome.code, Some(Code::RunFailed), "{outcome:?}");
    assert!(!outcome.failure.contains("dbtrigger run 222223"), "{outcome:?}");
}

/// A repaired run of two tasks, each with a dbt run, the first from the repair; and a dbt run of another workflow run.
async fn repaired_with_dbt_runs(ctx: &Harness) -> (String, [String; 3]) {
    let job = workflow(ctx, &[("a", 0, &[]), ("b", 0, &[])]).await;
    let run = started(ctx, &["--workflow", &job]).await;
    ctx.finish_notebook(failed()).await;
    ctx.finish_notebook(failed()).await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let id: u64 = run.parse().unwrap();
    ctx.post("/api/2.2/jobs/runs/repair", &json!({ "run_id": id, "rerun_tasks": ["a"] }));
    let of = async |job: &str, key: String| started(ctx, &[job, "--idempotency-key", &key]).await;
    let runs = [
        of("222225", format!("{WORKSPACE}/{run}/a/1")).await,
        of("300005", format!("{WORKSPACE}/{run}/b/0")).await,
        of("300006", format!("{WORKSPACE}/{}/a/0", id + 1)).await,
    ];
    let _ = ctx.take_log();
    (run, runs)
}

async fn cancelled(ctx: &Harness, run: &str) -> Outcome {
    ctx.run(cancel::run, &["--workflow-run", run]).await.expect("nobody kills it")
}

fn cancelled_runs(outcome: &Outcome) -> Vec<String> {
    let runs = outcome.data["dbt_runs"].as_array().unwrap().iter().filter(|run| run["cancelled"] == true);
    runs.map(|run| id(&run["run_id"])).collect()
}

#[tokio::test(start_paused = true)]
async fn the_dbt_runs_of_every_task_and_repair_are_cancelled_though_one_refuses() {
    let ctx = Harness::new();
    let (run, dbt) = repaired_with_dbt_runs(&ctx).await;
    let outcome = cancelled(&ctx, &run).await;
    assert_eq!((outcome.exit, cancelled_runs(&outcome)), (0, dbt[..2].to_vec()), "{outcome:?}");
    let ctx = Harness::new();
    let (run, dbt) = repaired_with_dbt_runs(&ctx).await;
    fault(&ctx, "dbt:runs/cancel=status=403,times=1");
    let outcome = cancelled(&ctx, &run).await;
    assert_eq!(outcome.code, Some(Code::NotAllowed), "{outcome:?}");
    assert!(outcome.failure.contains(&format!("annot cancel dbt run {}", dbt[0])), "{outcome:?}");
    assert_eq!(cancelled_runs(&outcome), dbt[1..2].to_vec(), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dbt_run_that_shows_late_is_cancelled_beside_one_that_showed() {
    let ctx = Harness::new();
    let job = workflow(&ctx, &[("a", 0, &[])]).await;
    let run = started(&ctx, &["--workflow", &job]).await;
    let first = started(&ctx, &["222225", "--idempotency-key", &format!("{WORKSPACE}/{run}/a/0")]).await;
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    ctx.world(|world| world.set_listing_lag(7_000));
    let body = json!({ "cause": format!("x [dbtrigger:{WORKSPACE}/{run}/b/0]") });
    let late = ctx.post("/api/v2/accounts/51234/jobs/300005/run/", &body)["data"]["id"].to_string();
    let outcome = cancelled(&ctx, &run).await;
    assert_eq!((outcome.exit, cancelled_runs(&outcome)), (0, vec![first, late]), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn without_access_to_dbt_the_runs_that_the_tasks_told_of_are_named() {
    let ctx = Harness::new();
    let job = workflow(&ctx, &[("a", 0, &[]), ("b", 0, &[])]).await;
    let run = started(&ctx, &["--workflow", &job]).await;
    let url = "https://ab123.us1.dbt.com/deploy/51234/projects/1/runs/77/";
    let error = format!("DbtRunFailed: no\n{url}");
    ctx.finish_notebook(NotebookOutcome::Failed { error, trace: String::new() }).await;
    ctx.set("DBT_CLOUD_TOKEN", "");
    let outcome = cancelled(&ctx, &run).await;
    assert_eq!((outcome.exit, &outcome.data["dbt_runs"]), (0, &Value::Null), "{outcome:?}");
    assert!(outcome.said().contains(&format!("may still be running: {url}")), "{}", outcome.said());
}

async fn orphans(ctx: &Harness) -> Outcome {
    ctx.run(runs::run, &["--orphans"]).await.expect("nobody kills it")
}

#[tokio::test(start_paused = true)]
async fn orphans_are_the_active_dbt_runs_whose_databricks_run_or_task_is_over_or_gone() {
    let ctx = Harness::new();
    let job = workflow(&ctx, &[("a", 0, &[]), ("b", 0, &[])]).await;
    let run = started(&ctx, &["--workflow", &job]).await;
    let key = |run: &str, task: &str| format!("{WORKSPACE}/{run}/{task}/0");
    let a = started(&ctx, &["222225", "--idempotency-key", &key(&run, "a")]).await;
    let _alone = started(&ctx, &["300005", "--idempotency-key", "nightly"]).await;
    let none = orphans(&ctx).await;
    assert_eq!((none.exit, none.data["orphans"].as_array().map(Vec::len)), (0, Some(0)), "{none:?}");
    assert!(none.said().contains("no orphaned dbt runs in account"), "{}", none.said());
    // Its task has failed while the run is active.
    ctx.finish_notebook(failed()).await;
    let of_task = orphans(&ctx).await;
    let row = &of_task.data["orphans"][0];
    assert_eq!((&id(&row["run_id"]), &row["workflow_run_status"]), (&a, &"task FAILED".into()), "{of_task:?}");
    assert!(of_task.text.contains(&format!("dbtrigger cancel {a}")), "{}", of_task.text);
    let gone = started(&ctx, &["300006", "--idempotency-key", &key("99", "a")]).await;
    let away = started(&ctx, &["300007", "--idempotency-key", "12/99/a/0"]).await;
    ctx.finish_notebook(FINE).await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let _ = ctx.take_log();
    let all = orphans(&ctx).await;
    let rows = all.data["orphans"].as_array().unwrap();
    let rows: Vec<(String, &str)> =
        rows.iter().map(|row| (id(&row["run_id"]), row["workflow_run_status"].as_str().unwrap())).collect();
    assert_eq!(rows, [(a, "FAILED"), (gone, "gone")], "{all:?}");
    assert!(all.said().contains(&format!("dbt run {away} was started from workspace 12")), "{}", all.said());
    assert_eq!(ctx.take_writes(), Vec::<&str>::new());
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_cannot_be_looked_at_is_no_orphans_proof() {
    for (rule, code) in [
        ("databricks:jobs/runs/get=status=401,times=forever", Code::NotAuthenticated),
        ("databricks:scim/me=status=401,times=forever", Code::NotAuthenticated),
        ("dbt:runs/list=status=403,times=forever", Code::NotAllowed),
    ] {
        let ctx = Harness::new();
        let key = format!("{WORKSPACE}/99/a/0");
        let _ = started(&ctx, &["222225", "--idempotency-key", &key]).await;
        fault(&ctx, rule);
        let outcome = orphans(&ctx).await;
        assert_eq!((outcome.code, &outcome.data), (Some(code), &Value::Null), "{rule}: {outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_workspace_does_not_say_which_it_is_a_missing_parent_is_no_proof() {
    let ctx = Harness::new();
    let _ = started(&ctx, &["222225", "--idempotency-key", "12/99/a/0"]).await;
    let ours = started(&ctx, &["300005", "--idempotency-key", &format!("{WORKSPACE}/98/a/0")]).await;
    ctx.drop_header("x-databricks-org-id");
    let outcome = orphans(&ctx).await;
    assert_eq!((outcome.exit, &outcome.data["orphans"]), (0, &json!([])), "{outcome:?}");
    assert!(outcome.said().contains("was started from workspace 12, and this workspace"), "{outcome:?}");
    assert!(outcome.said().contains(&format!("dbt run {ours} was started from workspace {WORKSPACE}")), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_may_not_be_looked_at_hides_no_other() {
    // The Databricks run cannot be read.
    let ctx = Harness::new();
    let first = started(&ctx, &["222225", "--idempotency-key", &format!("{WORKSPACE}/99/a/0")]).await;
    let second = started(&ctx, &["300005", "--idempotency-key", &format!("{WORKSPACE}/98/a/0")]).await;
    fault(&ctx, "databricks:jobs/runs/get=status=403,times=1");
    let outcome = orphans(&ctx).await;
    let rows = outcome.data["orphans"].as_array().unwrap();
    assert_eq!((outcome.exit, rows.len(), &id(&rows[0]["run_id"])), (0, 1, &second), "{outcome:?}");
    assert!(outcome.said().contains(&format!("which started dbt run {first}")), "{outcome:?}");
    // The dbt run that an active run retries cannot be read; it is first in the list and was not started by us.
    for refusal in ["404", "403"] {
        let ctx = Harness::new();
        let job = workflow(&ctx, &[("a", 0, &[])]).await;
        let run = started(&ctx, &["--workflow", &job]).await;
        let ours = started(&ctx, &["222225", "--idempotency-key", &format!("{WORKSPACE}/{run}/a/0")]).await;
        let body = json!({ "cause": "by hand" });
        let failed = ctx.post("/api/v2/accounts/51234/jobs/222223/run/", &body)["data"]["id"].to_string();
        tokio::time::sleep(std::time::Duration::from_mins(5)).await;
        let path = format!("/api/v2/accounts/51234/runs/{failed}/retry/");
        let foreign = ctx.post(&path, &json!({}))["data"]["id"].to_string();
        fault(&ctx, &format!("dbt:runs/get=status={refusal},times=1"));
        let outcome = cancelled(&ctx, &run).await;
        assert_eq!((outcome.exit, cancelled_runs(&outcome)), (0, vec![ours]), "{refusal}: {outcome:?}");
        let says = format!("cannot read what started dbt run {foreign}, or a run that it retries");
        assert!(outcome.said().contains(&says), "{refusal}: {}", outcome.said());
    }
}

#[tokio::test(start_paused = true)]
async fn runs_of_a_workflow_are_listed_with_how_long_they_took_and_what_started_them() {
    let ctx = Harness::new();
    let job = workflow(&ctx, &[("a", 0, &[])]).await;
    let list = async |line: &[&str]| ctx.run(runs::run, line).await.expect("nobody kills it");
    let none = list(&["--workflow", "w"]).await;
    assert_eq!((none.exit, &none.data["runs"]), (0, &json!([])), "{none:?}");
    assert!(none.said().contains(&format!("no runs yet of workflow \"w\" ({job})")), "{}", none.said());
    assert_eq!(none.text, "");
    // Runs of another workflow are not listed.
    let other =
        json!({ "name": "other", "tasks": [{ "task_key": "a", "notebook_task": { "notebook_path": NOTEBOOK } }] });
    let other = ctx.post("/api/2.2/jobs/create", &other)["job_id"].to_string();
    let _ = started(&ctx, &["--workflow", &other]).await;
    ctx.finish_notebook(FINE).await;
    let first = started(&ctx, &["--workflow", &job]).await;
    ctx.finish_notebook(failed()).await;
    tokio::time::sleep(std::time::Duration::from_mins(1)).await;
    let second = started(&ctx, &["--workflow", &job, "--idempotency-key", "2"]).await;
    // By name, by ID and by URL.
    let address = format!("http://127.0.0.1:1/jobs/{job}");
    for named in ["w", &job, &address] {
        let all = list(&["--workflow", named]).await;
        assert_eq!((all.exit, &id(&all.data["workflow_id"])), (0, &job), "{all:?}");
        let rows = all.data["runs"].as_array().unwrap();
        let ids: Vec<String> = rows.iter().map(|row| id(&row["workflow_run_id"])).collect();
        assert_eq!(ids, [second.clone(), first.clone()], "{named}: {all:?}");
        let (going, over) = (&rows[0], &rows[1]);
        assert_eq!((&over["status"], &over["trigger"]), (&"FAILED".into(), &"ONE_TIME".into()), "{all:?}");
        assert!(over["duration_seconds"].as_u64() > Some(0) && over["finished_at"].is_string(), "{over}");
        assert!(going["started_at"].is_string() && going["finished_at"].is_null(), "{going}");
        assert!(going["duration_seconds"].is_null(), "{going}");
        let url = format!("{address}/runs/{first}?o={WORKSPACE}");
        assert_eq!(over["workflow_run_url"], url);
        let lines: Vec<&str> = all.text.lines().collect();
        let cells: Vec<&str> = lines[2].split_whitespace().collect();
        assert_eq!((cells[0], cells[1], cells[6], cells.last()), (first.as_str(), "FAILED", "UTC", Some(&"ONE_TIME")));
        assert!(cells[7].ends_with('s'), "{}", all.text);
    }
    let newest = list(&["--workflow", "w", "--limit", "1"]).await;
    assert_eq!(newest.data["runs"].as_array().map(Vec::len), Some(1), "{newest:?}");
    assert_eq!(newest.data["runs"][0]["workflow_run_id"], second);
    let _ = ctx.take_log();
    let _ = list(&["--workflow", "w"]).await;
    assert_eq!(ctx.take_writes(), Vec::<&str>::new());
}

#[tokio::test(start_paused = true)]
async fn runs_of_a_workflow_stand_on_pages_and_none_is_listed_twice() {
    let ctx = Harness::new();
    let job = workflow(&ctx, &[("a", 0, &[])]).await;
    for key in 0..30 {
        let _ = started(&ctx, &["--workflow", &job, "--idempotency-key", &key.to_string()]).await;
    }
    for (limit, rows, pages) in [("5", 5, 1), ("24", 24, 1), ("25", 25, 2), ("100", 30, 2)] {
        let _ = ctx.take_log();
        let listed = ctx.run(runs::run, &["--workflow", &job, "--limit", limit]).await.unwrap();
        let mut ids: Vec<u64> =
            listed.data["runs"].as_array().unwrap().iter().map(|row| number(&row["workflow_run_id"])).collect();
        ids.sort_unstable();
        ids.dedup();
        let asked = ctx.take_log().iter().filter(|seen| seen.operation == "databricks:jobs/runs/list").count();
        assert_eq!((ids.len(), asked), (rows, pages), "{limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn runs_of_a_workflow_that_is_not_there_or_not_shown_are_refused() {
    let ctx = Harness::new();
    let job = workflow(&ctx, &[("a", 0, &[])]).await;
    for (named, code, says) in [
        ("999", Code::NotFound, "its runs were not listed"),
        ("ww", Code::NotFound, "no workflow is named"),
        ("https://elsewhere.cloud.databricks.com/jobs/1", Code::Contradiction, "elsewhere"),
    ] {
        let outcome = ctx.run(runs::run, &["--workflow", named]).await.unwrap();
        assert_eq!((outcome.code, &outcome.data), (Some(code), &Value::Null), "{named}: {outcome:?}");
        assert!(outcome.failure.contains(says), "{named}: {outcome:?}");
    }
    for (status, code) in [("403", Code::NotAllowed), ("401", Code::NotAuthenticated), ("500", Code::Unavailable)] {
        let ctx = ctx.copy();
        fault(&ctx, &format!("databricks:jobs/runs/list=status={status},times=forever"));
        let outcome = ctx.run(runs::run, &["--workflow", &job]).await.unwrap();
        assert_eq!((outcome.code, &outcome.data), (Some(code), &Value::Null), "{status}: {outcome:?}");
        assert!(outcome.failure.contains(&format!("the runs of workflow \\\"w\\\" ({job})")), "{outcome:?}");
    }
}
