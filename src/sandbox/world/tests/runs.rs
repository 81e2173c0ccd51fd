//! Job runs.

use serde_json::{Value, json};

use super::Bench;
use crate::sandbox::{NotebookEnd, NotebookOutcome, NotebookTask, SimTime};

fn next(bench: &mut Bench) -> Option<NotebookTask> {
    bench.world.next_notebook(SimTime(bench.now))
}

fn end(bench: &mut Bench, task: i64, outcome: NotebookOutcome) {
    let end = NotebookEnd { output: "printed\n".to_owned(), outcome };
    bench.world.notebook_ended(SimTime(bench.now), task, end);
}

fn failed() -> NotebookOutcome {
    NotebookOutcome::Failed { error: "Exception: Failure!".to_owned(), trace: "Traceback…".to_owned() }
}

fn states(run: &Value) -> (&str, &str) {
    (
        run["state"]["life_cycle_state"].as_str().unwrap_or_default(),
        run["state"]["result_state"].as_str().unwrap_or_default(),
    )
}

#[test]
fn a_run_waits_for_compute_runs_cleans_up_and_is_over() {
    let mut bench = Bench::new();
    let job = bench.notebook_job(&json!({}));
    let run = bench.run_now(job);
    assert_eq!(states(&bench.job_run(run)), ("PENDING", ""));
    assert_eq!(next(&mut bench), None);
    let task = next(bench.wait(8)).expect("a task");
    assert_eq!(task.source, "# Databricks notebook source\nprint(1)");
    assert_eq!(task.identity, "ana@example.com");
    let running = bench.job_run(run);
    assert_eq!((states(&running).0, running["status"]["state"].as_str()), ("RUNNING", Some("RUNNING")));
    assert_eq!(running["tasks"][0]["run_id"], task.task_run_id);
    bench.wait(60);
    end(&mut bench, task.task_run_id, NotebookOutcome::Exited { result: "{}".to_owned() });
    // While TERMINATING, termination_details is set but the old result is not.
    let closing = bench.job_run(run);
    assert_eq!(states(&closing), ("TERMINATING", ""));
    assert_eq!(closing["status"]["termination_details"]["code"], "SUCCESS");
    assert_eq!(closing["end_time"], 0);
    let over = bench.wait(2).job_run(run);
    assert_eq!(states(&over), ("TERMINATED", "SUCCESS"));
    assert_eq!(over["end_time"], bench.now);
    let output = bench.get(&format!("/api/2.2/jobs/runs/get-output?run_id={}", task.task_run_id));
    assert_eq!(output["notebook_output"], json!({ "result": "{}", "truncated": false }));
    assert_eq!(bench.world.inspect()["job_runs"][0]["tasks"][0]["output"], "printed\n");
}

#[test]
fn job_parameters_win_over_base_parameters_and_references_are_filled_in() {
    let mut bench = Bench::new();
    let job = bench.notebook_job(&json!({}));
    let run =
        bench.post("/api/2.2/jobs/run-now", &json!({ "job_id": job, "job_parameters": { "extra": "e" } }))["run_id"]
            .as_i64()
            .expect("a run");
    let task = next(bench.wait(8)).expect("a task");
    assert_eq!(task.parameters["job_id"], "222222");
    assert_eq!(task.parameters["extra"], "e");
    assert_eq!(task.parameters["key"], format!("{run}/dbt/1"));
}

#[test]
fn a_failed_task_is_terminated_and_its_run_has_an_internal_error() {
    let mut bench = Bench::new();
    let job = bench.notebook_job(&json!({}));
    let run = bench.run_now(job);
    let task = next(bench.wait(8)).expect("a task").task_run_id;
    end(&mut bench, task, failed());
    let over = bench.wait(5).job_run(run);
    assert_eq!(states(&over), ("INTERNAL_ERROR", "FAILED"));
    assert_eq!(
        over["state"]["state_message"],
        "Task dbt failed with message: Workload failed, see run output for details."
    );
    assert_eq!(over["status"]["termination_details"]["code"], "RUN_EXECUTION_ERROR");
    assert_eq!(states(&over["tasks"][0]), ("TERMINATED", "FAILED"));
    let output = bench.get(&format!("/api/2.2/jobs/runs/get-output?run_id={task}"));
    assert_eq!(output["error"], "Exception: Failure!");
    assert_eq!(output["notebook_output"], json!({}));
}

#[test]
fn output_is_had_from_a_task_run_only() {
    let mut bench = Bench::new();
    let job = bench.notebook_job(&json!({}));
    let run = bench.run_now(job);
    let (status, body) = bench.call("GET", &format!("/api/2.2/jobs/runs/get-output?run_id={run}"), &Value::Null);
    assert_eq!((status, &body["error_code"]), (400, &json!("INVALID_PARAMETER_VALUE")));
    assert!(
        body["message"]
            .as_str()
            .is_some_and(|text| text.starts_with("Retrieving the output of runs with multiple tasks"))
    );
    let (status, body) = bench.call("GET", "/api/2.2/jobs/runs/get?run_id=5", &Value::Null);
    assert_eq!((status, &body["message"]), (400, &json!("Run 5 does not exist.")));
}

#[test]
fn the_same_idempotency_token_gives_the_same_run() {
    let mut bench = Bench::new();
    let job = bench.notebook_job(&json!({}));
    let body = json!({ "job_id": job, "idempotency_token": "t".repeat(64) });
    let first = bench.post("/api/2.2/jobs/run-now", &body);
    assert_eq!(bench.wait(600).post("/api/2.2/jobs/run-now", &body), first);
    assert_ne!(bench.run_now(job), first["run_id"].as_i64().expect("an id"));
    let long = json!({ "job_id": job, "idempotency_token": "t".repeat(65) });
    assert_eq!(bench.refused("POST", "/api/2.2/jobs/run-now", &long).0, 400);
}

#[test]
fn retries_are_new_attempts_with_a_growing_execution_count() {
    let mut bench = Bench::new();
    let job = bench.notebook_job(&json!({ "max_retries": 1, "min_retry_interval_millis": 60_000 }));
    let run = bench.run_now(job);
    let first = next(bench.wait(8)).expect("a task");
    end(&mut bench, first.task_run_id, failed());
    assert_eq!(bench.job_run(run)["tasks"][0]["state"]["life_cycle_state"], "WAITING_FOR_RETRY");
    assert_eq!(next(bench.wait(59)), None);
    let second = next(bench.wait(10)).expect("a second attempt");
    assert_eq!(second.parameters["key"], format!("{run}/dbt/2"));
    assert_ne!(second.task_run_id, first.task_run_id);
    end(&mut bench, second.task_run_id, NotebookOutcome::Finished);
    let over = bench.wait(5).job_run(run);
    assert_eq!(states(&over), ("TERMINATED", "SUCCESS"));
    let attempts: Vec<(&Value, &Value)> = over["tasks"]
        .as_array()
        .expect("tasks")
        .iter()
        .map(|task| (&task["attempt_number"], &task["original_attempt_run_id"]))
        .collect();
    let original = json!(first.task_run_id);
    assert_eq!(attempts, [(&json!(1), &original), (&json!(0), &original)]);
}

#[test]
fn serverless_runs_a_failed_task_again_unless_that_is_switched_off() {
    let mut bench = Bench::new();
    let job = bench.notebook_job(&json!({ "disable_auto_optimization": false }));
    bench.run_now(job);
    let first = next(bench.wait(8)).expect("a task").task_run_id;
    end(&mut bench, first, failed());
    let second = next(bench.wait(30)).expect("the platform's own retry").task_run_id;
    end(&mut bench, second, failed());
    assert_eq!(next(bench.wait(600)), None);
}

#[test]
fn runs_over_the_limit_wait_in_the_queue_or_are_skipped() {
    let mut bench = Bench::new();
    let job = bench.notebook_job(&json!({}));
    let first = bench.run_now(job);
    let second = bench.run_now(job);
    let waiting = bench.job_run(second);
    assert_eq!(states(&waiting), ("QUEUED", ""));
    assert_eq!(waiting["status"]["queue_details"]["code"], "MAX_CONCURRENT_RUNS_REACHED");
    let task = next(bench.wait(8)).expect("a task");
    end(&mut bench, task.task_run_id, NotebookOutcome::Finished);
    assert_eq!(states(&bench.wait(2).job_run(first)), ("TERMINATED", "SUCCESS"));
    assert_eq!(states(&bench.job_run(second)).0, "PENDING");
    let body = json!({ "job_id": job, "queue": { "enabled": false } });
    let third = bench.post("/api/2.2/jobs/run-now", &body)["run_id"].as_i64().expect("a run");
    assert_eq!(states(&bench.job_run(third)), ("SKIPPED", "MAXIMUM_CONCURRENT_RUNS_REACHED"));
}

#[test]
fn a_cancelled_run_waits_for_its_notebook_and_keeps_what_it_printed() {
    let mut bench = Bench::new();
    let job = bench.notebook_job(&json!({ "max_retries": 3 }));
    let run = bench.run_now(job);
    let task = next(bench.wait(8)).expect("a task").task_run_id;
    assert!(!bench.world.is_cancelled(task));
    bench.post("/api/2.2/jobs/runs/cancel", &json!({ "run_id": run }));
    assert!(bench.world.is_cancelled(task));
    assert_eq!(states(&bench.job_run(run)), ("TERMINATING", ""));
    bench.wait(3);
    end(&mut bench, task, failed());
    let over = bench.wait(5).job_run(run);
    assert_eq!(states(&over), ("TERMINATED", "CANCELED"));
    assert_eq!(over["state"]["user_cancelled_or_timedout"], true);
    assert_eq!(over["status"]["termination_details"]["code"], "USER_CANCELED");
    assert_eq!(over["tasks"].as_array().map(Vec::len), Some(1));
    assert_eq!(bench.world.inspect()["job_runs"][0]["tasks"][0]["output"], "printed\n");
    // Canceling again is not an error.
    bench.post("/api/2.2/jobs/runs/cancel", &json!({ "run_id": run }));
}

#[test]
fn a_task_over_its_time_limit_is_stopped() {
    let mut bench = Bench::new();
    let job = bench.notebook_job(&json!({ "timeout_seconds": 30 }));
    let run = bench.run_now(job);
    let task = next(bench.wait(8)).expect("a task").task_run_id;
    bench.wait(31).job_run(run);
    assert!(bench.world.is_cancelled(task));
    end(&mut bench, task, failed());
    assert_eq!(states(&bench.wait(5).job_run(run)), ("TERMINATED", "TIMEDOUT"));
}

#[test]
fn a_notebook_that_cannot_be_read_fails_only_when_it_runs() {
    let mut bench = Bench::new();
    let task = json!({ "task_key": "a", "disable_auto_optimization": true, "notebook_task": { "notebook_path": "/Shared/gone" } });
    let job = bench.post("/api/2.2/jobs/create", &json!({ "tasks": [task] }))["job_id"].as_i64().expect("a job");
    let run = bench.run_now(job);
    assert_eq!(next(bench.wait(8)), None);
    let over = bench.wait(5).job_run(run);
    assert!(
        over["tasks"][0]["state"]["state_message"]
            .as_str()
            .is_some_and(|text| text.starts_with("Unable to access the notebook \"/Shared/gone\"."))
    );
    assert_eq!(over["tasks"][0]["status"]["termination_details"]["code"], "RESOURCE_NOT_FOUND");
}

#[test]
fn what_lies_behind_a_failed_task_is_skipped_and_task_values_reach_what_lies_behind_a_good_one() {
    let mut bench = Bench::new();
    bench.notebook_job(&json!({}));
    let task = |key: &str, needs: Value, run_if: &str| {
        json!({ "task_key": key, "depends_on": needs, "run_if": run_if, "disable_auto_optimization": true,
                "notebook_task": { "notebook_path": "/Users/ana@example.com/n", "base_parameters": { "id": "{{tasks.a.values.dbt_run_id}}" } } })
    };
    let behind = json!([{ "task_key": "a" }]);
    let tasks = json!([
        task("a", json!([]), "ALL_SUCCESS"),
        task("b", behind.clone(), "ALL_SUCCESS"),
        task("c", behind, "ALL_DONE")
    ]);
    let job = bench.post("/api/2.2/jobs/create", &json!({ "tasks": tasks }))["job_id"].as_i64().expect("a job");
    let run = bench.run_now(job);
    let first = next(bench.wait(8)).expect("a task").task_run_id;
    bench.world.set_task_value(first, "dbt_run_id", json!(123_456));
    end(&mut bench, first, failed());
    let last = next(bench.wait(9)).expect("the task that always runs");
    assert_eq!(last.parameters["id"], "123456");
    end(&mut bench, last.task_run_id, NotebookOutcome::Finished);
    let over = bench.wait(5).job_run(run);
    assert_eq!(states(&over), ("INTERNAL_ERROR", "FAILED"));
    let skipped = over["tasks"].as_array().expect("tasks").iter().find(|task| task["task_key"] == "b").expect("b");
    assert_eq!(states(skipped), ("SKIPPED", "UPSTREAM_FAILED"));
}

#[test]
fn lists_of_runs_come_newest_first_and_in_pages() {
    let mut bench = Bench::new();
    let job = bench.notebook_job(&json!({}));
    let runs: Vec<i64> = (0..3).map(|_| bench.wait(1).run_now(job)).collect();
    let list = bench.get(&format!("/api/2.2/jobs/runs/list?job_id={job}&limit=2"));
    assert_eq!(list["runs"][0]["run_id"], runs[2]);
    assert!(list["runs"][0].get("tasks").is_none());
    let token = list["next_page_token"].as_str().expect("a token").to_owned();
    let rest = bench.get(&format!("/api/2.2/jobs/runs/list?job_id={job}&limit=2&page_token={token}&expand_tasks=true"));
    assert_eq!(rest["runs"][0]["run_id"], runs[0]);
    assert_eq!(rest["runs"][0]["tasks"][0]["task_key"], "dbt");
    assert_eq!(bench.refused("GET", "/api/2.2/jobs/runs/list?limit=25", &Value::Null).0, 400);
    assert_eq!(
        bench.refused("GET", "/api/2.2/jobs/runs/list?active_only=true&completed_only=true", &Value::Null).0,
        400
    );
}

#[test]
fn a_one_time_run_acts_as_who_it_says_is_made_once_for_its_token_and_is_in_no_list_of_jobs() {
    let mut bench = Bench::new();
    bench.notebook_job(&json!({}));
    let principal = "0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d11";
    let mut body = json!({
        "run_name": "a look", "idempotency_token": "t1", "run_as": { "service_principal_name": principal },
        "tasks": [{ "task_key": "look", "max_retries": 3, "notebook_task":
            { "notebook_path": "/Users/ana@example.com/n", "base_parameters": { "a": "{{job.run_id}}" } } }],
    });
    let submit = "/api/2.2/jobs/runs/submit";
    let run = bench.post(submit, &body)["run_id"].as_i64().expect("a run id");
    assert_eq!(bench.post(submit, &body)["run_id"], run);
    let seen = bench.job_run(run);
    assert_eq!((&seen["run_type"], &seen["run_name"]), (&json!("SUBMIT_RUN"), &json!("a look")));
    assert_eq!(bench.get("/api/2.2/jobs/list")["jobs"].as_array().expect("jobs").len(), 1);
    let of_kind = |bench: &mut Bench, kind: &str| {
        bench.get(&format!("/api/2.2/jobs/runs/list?run_type={kind}"))["runs"].as_array().map_or(0, Vec::len)
    };
    assert_eq!((of_kind(&mut bench, "SUBMIT_RUN"), of_kind(&mut bench, "JOB_RUN")), (1, 0));
    // The principal may not read the notebook, and the task is not retried.
    bench.wait(60);
    assert!(bench.world.next_notebook(crate::sandbox::SimTime(bench.now)).is_none());
    let seen = bench.wait(60).job_run(run);
    assert_eq!((&seen["state"]["result_state"], seen["tasks"].as_array().expect("tasks").len()), (&json!("FAILED"), 1));
    let task = seen["tasks"][0]["run_id"].clone();
    let output = bench.get(&format!("/api/2.2/jobs/runs/get-output?run_id={task}"));
    let said = output["error"].as_str().expect("an error");
    assert!(said.starts_with("Unable to access the notebook") && said.contains(principal), "{said}");

    body["idempotency_token"] = "t2".into();
    body.as_object_mut().expect("an object").shift_remove("run_as");
    let run = bench.post(submit, &body)["run_id"].as_i64().expect("a run id");
    bench.wait(60);
    let task = bench.world.next_notebook(crate::sandbox::SimTime(bench.now)).expect("a task");
    assert_eq!((task.identity.as_str(), &task.parameters["a"]), ("ana@example.com", &run.to_string()));
    // A one-time run is visible only to its submitter and administrators.
    bench.world.add_caller("cy@example.com", "dapi-cy", false, &[]);
    let path = format!("/api/2.2/jobs/runs/get?run_id={run}");
    assert_eq!(bench.call_as("dapi-cy", "GET", &path, &Value::Null).0, 403);
    for (name, wrong) in [
        ("tasks", json!([])),
        ("tasks", json!([{ "task_key": "a", "job_cluster_key": "b", "notebook_task": { "notebook_path": "/n" } }])),
        ("idempotency_token", json!("x".repeat(65))),
        ("run_as", json!({ "user_name": "bo@nowhere" })),
    ] {
        let mut body = body.clone();
        body["idempotency_token"] = "t3".into();
        body[name] = wrong.clone();
        assert_eq!(bench.refused("POST", submit, &body), (400, "INVALID_PARAMETER_VALUE".to_owned()), "{wrong}");
    }
    bench.world.set_serverless(false);
    body["idempotency_token"] = "t4".into();
    assert_eq!(bench.refused("POST", submit, &body).0, 400);
}

#[test]
fn all_runs_of_a_job_are_cancelled_or_what_waits_and_only_what_is_over_is_deleted() {
    let mut bench = Bench::new();
    let job = bench.notebook_job(&json!({}));
    let runs: Vec<i64> = (0..3).map(|_| bench.run_now(job)).collect();
    let (cancel, delete) = ("/api/2.2/jobs/runs/cancel-all", "/api/2.2/jobs/runs/delete");
    assert_eq!(bench.refused("POST", cancel, &json!({})), (400, "INVALID_PARAMETER_VALUE".to_owned()));
    bench.post(cancel, &json!({ "all_queued_runs": true }));
    bench.wait(60);
    let result = |bench: &mut Bench, run: i64| bench.job_run(run)["state"]["result_state"].clone();
    let ended: Vec<Value> = runs.iter().map(|run| result(&mut bench, *run)).collect();
    assert_eq!(ended, [Value::Null, json!("CANCELED"), json!("CANCELED")]);
    let first = json!({ "run_id": runs[0] });
    assert_eq!(bench.refused("POST", delete, &first), (400, "INVALID_PARAMETER_VALUE".to_owned()));
    bench.post(cancel, &json!({ "job_id": job }));
    bench.wait(60);
    assert_eq!(result(&mut bench, runs[0]), "CANCELED");
    bench.post(delete, &first);
    let path = format!("/api/2.2/jobs/runs/get?run_id={}", runs[0]);
    assert_eq!(bench.call("GET", &path, &Value::Null).1["message"], format!("Run {} does not exist.", runs[0]));
}
