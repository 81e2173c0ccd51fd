//! Partial runs and repairs: `only`, `EXCLUDED` and `DISABLED` tasks, `runs/repair`, `repair_history`, `runs/list`.

use serde_json::{Value, json};

use super::Bench;
use crate::sandbox::{NotebookEnd, NotebookOutcome, SimTime};

const REPAIR: &str = "/api/2.2/jobs/runs/repair";

/// Ends the next notebook with success or failure and returns its parameters.
fn play(bench: &mut Bench, good: bool) -> Value {
    bench.wait(9);
    let task = bench.world.next_notebook(SimTime(bench.now)).expect("a task");
    let outcome = if good {
        NotebookOutcome::Finished
    } else {
        NotebookOutcome::Failed { error: "Exception: Failure!".to_owned(), trace: String::new() }
    };
    bench.world.notebook_ended(SimTime(bench.now), task.task_run_id, NotebookEnd { output: String::new(), outcome });
    bench.wait(5);
    json!(task.parameters)
}

/// Creates a job. Each task is `key`, then upstream tasks after `:` and `run_if` after `?`.
fn job(bench: &mut Bench, shape: &[&str]) -> i64 {
    bench.notebook_job(&json!({}));
    let tasks: Vec<Value> = shape
        .iter()
        .map(|text| {
            let (text, rule) = text.split_once('?').unwrap_or((text, "ALL_SUCCESS"));
            let (key, needs) = text.split_once(':').unwrap_or((text, ""));
            let needs: Vec<Value> =
                needs.split(',').filter(|need| !need.is_empty()).map(|need| json!({ "task_key": need })).collect();
            json!({ "task_key": key, "depends_on": needs, "run_if": rule, "disable_auto_optimization": true,
                    "notebook_task": { "notebook_path": "/Users/ana@example.com/n",
                        "base_parameters": { "key": "{{task.name}}/{{job.repair_count}}" } } })
        })
        .collect();
    let settings = json!({ "tasks": tasks, "parameters": [{ "name": "day", "default": "sunday" }] });
    bench.post("/api/2.2/jobs/create", &settings)["job_id"].as_i64().expect("a job")
}

fn history(bench: &mut Bench, run: i64) -> Vec<Value> {
    let run = bench.get(&format!("/api/2.2/jobs/runs/get?run_id={run}&include_history=true"));
    run["repair_history"].as_array().expect("a history").clone()
}

fn result<'a>(run: &'a Value, key: &str) -> &'a str {
    let task = run["tasks"].as_array().expect("tasks").iter().find(|task| task["task_key"] == key).expect(key);
    task["state"]["result_state"].as_str().unwrap_or_default()
}

#[test]
fn a_repair_runs_failed_tasks_again_under_the_same_run_with_new_task_runs() {
    let mut bench = Bench::new();
    let job = job(&mut bench, &["a", "b:a", "c:b"]);
    let run = bench.post("/api/2.2/jobs/run-now", &json!({ "job_id": job, "job_parameters": { "day": "monday" } }));
    let run = run["run_id"].as_i64().expect("a run");
    assert_eq!(play(&mut bench, true)["day"], "monday");
    assert_eq!(play(&mut bench, false)["key"], "b/0");
    let failed = bench.job_run(run);
    assert_eq!(failed["state"]["result_state"], "FAILED");
    let first = history(&mut bench, run);
    assert_eq!((first.len(), &first[0]["type"], &first[0]["id"]), (1, &json!("ORIGINAL"), &json!(run)));
    let repair = bench.post(REPAIR, &json!({ "run_id": run, "rerun_all_failed_tasks": true }))["repair_id"].clone();
    let going = bench.job_run(run);
    assert_eq!((&going["state"]["life_cycle_state"], &going["end_time"]), (&json!("PENDING"), &json!(0)));
    // Job parameters of the first start are not kept.
    let second = play(&mut bench, true);
    assert_eq!((&second["key"], &second["day"]), (&json!("b/1"), &json!("sunday")));
    assert_eq!(play(&mut bench, true)["key"], "c/1");
    let over = bench.job_run(run);
    assert_eq!(over["state"]["result_state"], "SUCCESS");
    assert_eq!(over["tasks"].as_array().map(Vec::len), Some(5));
    let attempts: Vec<&Value> =
        over["tasks"].as_array().expect("tasks").iter().map(|task| &task["attempt_number"]).collect();
    assert_eq!(attempts, [&json!(0); 5]);
    let both = history(&mut bench, run);
    assert_eq!((both.len(), &both[1]["type"], &both[1]["id"]), (2, &json!("REPAIR"), &repair));
    assert_eq!(
        (&both[0]["state"]["result_state"], &both[1]["state"]["result_state"]),
        (&json!("FAILED"), &json!("SUCCESS"))
    );
    assert_eq!(both[1]["task_run_ids"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_second_repair_names_the_first() {
    let mut bench = Bench::new();
    let job = job(&mut bench, &["a"]);
    let run = bench.run_now(job);
    play(&mut bench, false);
    let first = bench.post(REPAIR, &json!({ "run_id": run, "rerun_tasks": ["a"] }))["repair_id"].clone();
    play(&mut bench, false);
    for wrong in [Value::Null, json!(run)] {
        let body = json!({ "run_id": run, "rerun_tasks": ["a"], "latest_repair_id": wrong });
        let (status, answer) = bench.call("POST", REPAIR, &body);
        let said =
            answer["message"].as_str().unwrap_or_default().starts_with("The latest repair ID needs to be provided");
        assert!(status == 400 && said, "{answer}");
    }
    bench.post(REPAIR, &json!({ "run_id": run, "rerun_tasks": ["a"], "latest_repair_id": first }));
    assert_eq!(play(&mut bench, true)["key"], "a/2");
    assert_eq!(history(&mut bench, run).len(), 3);
}

#[test]
fn what_cannot_be_repaired_is_refused() {
    let mut bench = Bench::new();
    let job = job(&mut bench, &["a", "b:a"]);
    let run = bench.run_now(job);
    let all = json!({ "run_id": run, "rerun_all_failed_tasks": true });
    assert_eq!(bench.refused("POST", REPAIR, &all).0, 400, "it is not over");
    play(&mut bench, true);
    play(&mut bench, true);
    for body in [
        all,
        json!({ "run_id": 5, "rerun_tasks": ["a"] }),
        json!({ "run_id": run }),
        json!({ "run_id": run, "rerun_tasks": ["gone"] }),
        json!({ "run_id": run, "rerun_tasks": ["a"], "rerun_all_failed_tasks": true }),
        json!({ "run_id": run, "rerun_tasks": "a" }),
    ] {
        assert_eq!(bench.refused("POST", REPAIR, &body).0, 400, "{body}");
    }
    // A successful task can be run again, with its downstream tasks.
    bench.post(REPAIR, &json!({ "run_id": run, "rerun_tasks": ["a"], "rerun_dependent_tasks": true }));
    assert_eq!((&play(&mut bench, true)["key"], &play(&mut bench, true)["key"]), (&json!("a/1"), &json!("b/1")));
}

#[test]
fn only_lets_some_tasks_run_and_disables_the_rest() {
    for (only, runs) in [
        (json!(["b"]), &["b"][..]),
        (json!(["+b"]), &["a", "b"]),
        (json!(["b+"]), &["b", "c"]),
        (json!(["+c", "d"]), &["a", "b", "c", "d"]),
        (json!([]), &["a", "b", "c", "d"]),
    ] {
        let mut bench = Bench::new();
        let job = job(&mut bench, &["a", "b:a", "c:b", "d"]);
        let run = bench.post("/api/2.2/jobs/run-now", &json!({ "job_id": job, "only": only }))["run_id"].clone();
        for _ in runs {
            play(&mut bench, true);
        }
        let over = bench.job_run(run.as_i64().expect("a run"));
        assert_eq!(over["state"]["result_state"], "SUCCESS", "{only}");
        for key in ["a", "b", "c", "d"] {
            let expected = if runs.contains(&key) { "SUCCESS" } else { "DISABLED" };
            assert_eq!(result(&over, key), expected, "{only} {key}");
        }
    }
    let mut bench = Bench::new();
    let job = job(&mut bench, &["a"]);
    let body = json!({ "job_id": job, "only": ["gone"] });
    assert_eq!(bench.refused("POST", "/api/2.2/jobs/run-now", &body).0, 400);
}

#[test]
fn what_lies_behind_excluded_tasks_only_is_excluded() {
    let mut bench = Bench::new();
    let job = job(&mut bench, &["a", "b:a?AT_LEAST_ONE_FAILED", "c:b"]);
    let run = bench.run_now(job);
    play(&mut bench, true);
    let over = bench.job_run(run);
    assert_eq!(["a", "b", "c"].map(|key| result(&over, key)), ["SUCCESS", "EXCLUDED", "EXCLUDED"]);
    assert_eq!(over["state"]["result_state"], "SUCCESS");
}

#[test]
fn lists_of_runs_take_a_type_and_times() {
    let mut bench = Bench::new();
    let job = job(&mut bench, &["a"]);
    let first = bench.run_now(job);
    let begun = bench.now;
    let second = bench.wait(60).run_now(job);
    let mut ids = |query: &str| -> Vec<i64> {
        let list = bench.get(&format!("/api/2.2/jobs/runs/list?job_id={job}&{query}"));
        list["runs"].as_array().into_iter().flatten().filter_map(|run| run["run_id"].as_i64()).collect()
    };
    assert_eq!(ids("run_type=JOB_RUN"), [second, first]);
    assert_eq!(ids("run_type=SUBMIT_RUN"), Vec::<i64>::new());
    assert_eq!(ids(&format!("start_time_from={}", begun + 1)), [second]);
    assert_eq!(ids(&format!("start_time_to={begun}")), [first]);
}
