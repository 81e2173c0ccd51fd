//! What is printed for each state that the service documents, and the exit code.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::{Value, json};

use super::*;
use crate::databricks::WorkflowRun;
use crate::events::Event;
use crate::line::Line;
use crate::ui::run_events::printed;

/// What is printed for a run, and the exit code; `None` while it is active.
struct Shown {
    lines: Vec<String>,
    failure: Option<Failure>,
    exit: Option<u8>,
}

fn shown_state(state: &WorkflowState) -> Shown {
    let lines: Rc<RefCell<Vec<String>>> = Rc::default();
    let sink = lines.clone();
    let events = Events::new(move |event| {
        let printed = printed(event).into_iter().filter_map(|event| match event {
            Event::Remark(line) | Event::Asked(line) | Event::Progress(line) => Some(line.to_string()),
            Event::Warning(text) => Some(text),
            Event::ActivityState { what: _, state: _ }
            | Event::Waiting(_)
            | Event::ActivityEnded { what: _ }
            | Event::Document(_)
            | Event::Annotation { level: _, title: _, message: _ }
            | Event::Trace { line: _, bodies: _ }
            | Event::Run(_)
            | Event::OfJob { job: _, event: _ } => None,
        });
        sink.borrow_mut().extend(printed);
    });
    WorkflowRunEvents::new(1, &events).state(state);
    let report = WorkflowReport {
        workflow: 2,
        name: "dbt".to_owned(),
        origin: "https://x".to_owned(),
        run: Some(1),
        ..WorkflowReport::default()
    };
    let failure = verdict(&report, state, None, &events);
    let exit = failure.as_ref().map_or(0, |failure| failure.code.exit());
    let exit = state.state.is_over().then_some(exit);
    Shown { lines: lines.take(), failure, exit }
}

fn shown_run(state: &Value, status: &Value) -> Shown {
    let run: WorkflowRun =
        serde_json::from_value(json!({ "run_id": 1, "job_id": 2, "state": state, "status": status })).unwrap();
    let state = run.state().unwrap();
    shown_state(&WorkflowState { run, state, tasks: Vec::new(), ahead: None })
}

fn what(shown: &Shown) -> String {
    shown.failure.as_ref().map(|failure| failure.what.clone()).unwrap_or_default()
}

const RESULTS: [&str; 12] = [
    "SUCCESS",
    "SUCCESS_WITH_FAILURES",
    "FAILED",
    "TIMEDOUT",
    "CANCELED",
    "MAXIMUM_CONCURRENT_RUNS_REACHED",
    "EXCLUDED",
    "DISABLED",
    "UPSTREAM_FAILED",
    "UPSTREAM_CANCELED",
    "BRAND_NEW",
    "",
];

#[test]
fn every_life_cycle_with_every_result_is_printed_and_ends_as_the_contract_says() {
    // Per result: last line and exit code for TERMINATED, SKIPPED and INTERNAL_ERROR.
    let ends = [
        [("SUCCESS", 0), ("SKIPPED", 3), ("INTERNAL_ERROR", 3)],
        [("SUCCESS_WITH_FAILURES", 0), ("SKIPPED", 3), ("INTERNAL_ERROR", 3)],
        [("FAILED", 3), ("FAILED", 3), ("FAILED", 3)],
        [("TIMEDOUT", 3), ("TIMEDOUT", 3), ("TIMEDOUT", 3)],
        [("CANCELED", 20), ("CANCELED", 20), ("CANCELED", 20)],
        [("MAXIMUM_CONCURRENT_RUNS_REACHED", 3); 3],
        [("EXCLUDED", 0), ("EXCLUDED", 0), ("INTERNAL_ERROR", 3)],
        [("DISABLED", 0), ("DISABLED", 0), ("INTERNAL_ERROR", 3)],
        [("UPSTREAM_FAILED", 3); 3],
        [("UPSTREAM_CANCELED", 3); 3],
        [("BRAND_NEW", 3); 3],
        [("TERMINATED", 3), ("SKIPPED", 3), ("INTERNAL_ERROR", 3)],
    ];
    let mut count = 0;
    for (result, ends) in RESULTS.into_iter().zip(ends) {
        let state = |life: &str| match result {
            "" => json!({ "life_cycle_state": life }),
            result => json!({ "life_cycle_state": life, "result_state": result }),
        };
        for (life, (line, exit)) in ["TERMINATED", "SKIPPED", "INTERNAL_ERROR"].into_iter().zip(ends) {
            let shown = shown_run(&state(life), &Value::Null);
            assert_eq!((shown.lines[0].as_str(), shown.exit), (line, Some(exit)), "{life} {result}");
            // A failure names the status; SUCCESS_WITH_FAILURES prints a remark.
            assert_eq!(what(&shown).is_empty(), exit == 0, "{life} {result}");
            let names = what(&shown).to_lowercase().contains(&line.to_lowercase());
            assert!(exit == 0 || names, "{life} {result}: {}", what(&shown));
            assert_eq!(shown.lines.len() > 1, line == "SUCCESS_WITH_FAILURES", "{:?}", shown.lines);
            count += 1;
        }
        for life in
            ["QUEUED", "PENDING", "RUNNING", "TERMINATING", "BLOCKED", "WAITING_FOR_RETRY", "WAITING", "BRAND_NEW"]
        {
            let shown = shown_run(&state(life), &Value::Null);
            assert_eq!((shown.lines[0].as_str(), shown.exit), (life, None), "{life} {result}");
            assert_eq!(shown.lines.len() > 1, life == "QUEUED", "{life}");
            count += 1;
        }
    }
    assert_eq!(count, 12 * 11);
}

#[test]
fn every_termination_code_is_printed_and_ends_as_the_contract_says() {
    let codes: &[(&str, u8, &str)] = &[
        ("SUCCESS", 0, ""),
        ("SUCCESS_WITH_FAILURES", 0, ""),
        ("DISABLED", 0, ""),
        ("USER_CANCELED", 20, "was canceled by a user (USER_CANCELED)"),
        ("CANCELED", 20, "was canceled by Databricks (CANCELED)"),
        ("SKIPPED", 3, "never ran: SKIPPED"),
        ("MAX_CONCURRENT_RUNS_EXCEEDED", 3, "never ran: MAX_CONCURRENT_RUNS_EXCEEDED"),
        ("MAX_JOB_QUEUE_SIZE_EXCEEDED", 3, "never ran"),
        ("WORKSPACE_RUN_LIMIT_EXCEEDED", 3, "never ran"),
        ("RUN_EXECUTION_ERROR", 3, "failed: RUN_EXECUTION_ERROR"),
        ("INVALID_RUN_CONFIGURATION", 3, "failed: "),
        ("INVALID_CLUSTER_REQUEST", 3, "failed: "),
        ("RESOURCE_NOT_FOUND", 3, "failed: "),
        ("UNAUTHORIZED_ERROR", 3, "failed: "),
        ("FEATURE_DISABLED", 3, "failed: "),
        ("LIBRARY_INSTALLATION_ERROR", 3, "failed: "),
        ("REPOSITORY_CHECKOUT_FAILED", 3, "failed: "),
        ("BUDGET_POLICY_LIMIT_EXCEEDED", 3, "failed: "),
        ("CLUSTER_REQUEST_LIMIT_EXCEEDED", 3, "failed: "),
        ("MAX_SPARK_CONTEXTS_EXCEEDED", 3, "failed: "),
        ("INTERNAL_ERROR", 3, "failed: INTERNAL_ERROR"),
        ("DRIVER_ERROR", 3, "failed: "),
        ("CLUSTER_ERROR", 3, "failed: "),
        ("STORAGE_ACCESS_ERROR", 3, "failed: "),
        ("CLOUD_FAILURE", 3, "failed: "),
        ("BREAKING_CHANGE", 3, "failed: "),
        ("CLUSTER_TERMINATED_BY_USER", 3, "failed: "),
        ("BRAND_NEW", 3, "failed: BRAND_NEW"),
    ];
    for (code, exit, says) in codes {
        let details = json!({ "code": code, "type": "CLIENT_ERROR", "message": "why" });
        let over = json!({ "state": "TERMINATED", "termination_details": details });
        let shown = shown_run(&Value::Null, &over);
        assert_eq!((shown.lines[0].as_str(), shown.exit), (*code, Some(*exit)), "{code}");
        assert!(what(&shown).contains(says), "{code}: {}", what(&shown));
        let causes = shown.failure.map(|failure| failure.causes).unwrap_or_default();
        assert_eq!(causes.is_empty(), *exit == 0, "{code}: {causes:?}");
        // The details are set while the run cleans up.
        for state in ["BLOCKED", "PENDING", "QUEUED", "RUNNING", "TERMINATING", "WAITING"] {
            let going = json!({ "state": state, "termination_details": details });
            let shown = shown_run(&Value::Null, &going);
            assert_eq!((shown.lines[0].as_str(), shown.exit), (state, None), "{code} {state}");
        }
        // With both forms, the result is the status, but the code overrides a success.
        for (result, line) in [("FAILED", "FAILED"), ("TIMEDOUT", "TIMEDOUT"), ("SUCCESS", *code)] {
            let old = json!({ "life_cycle_state": "TERMINATED", "result_state": result });
            let shown = shown_run(&old, &over);
            let exit = if result == "SUCCESS" { *exit } else { 3 };
            assert_eq!((shown.lines[0].as_str(), shown.exit), (line, Some(exit)), "{result} {code}");
        }
    }
}

#[test]
fn a_run_skipped_over_the_limit_is_told_how_to_wait_instead() {
    let state = json!({ "life_cycle_state": "SKIPPED", "result_state": "MAXIMUM_CONCURRENT_RUNS_REACHED" });
    let failure = shown_run(&state, &Value::Null).failure.unwrap();
    assert!(
        failure.json().to_string().contains("enable the workflow's queue, so that runs over the limit"),
        "{failure:?}"
    );
    let other = json!({ "life_cycle_state": "SKIPPED" });
    assert!(!format!("{:?}", shown_run(&other, &Value::Null).failure).contains("queue"));
}

fn task(key: &str, run_id: u64, state: RunState) -> TaskState {
    TaskState {
        key: key.to_owned(),
        run_id,
        attempt: 1,
        repair: 0,
        state: Some(state),
        message: None,
        outcome: None,
        iterations: None,
        earlier: Vec::new(),
        output: None,
    }
}

fn ended(end: fn(String) -> WorkflowEnd, word: &str) -> RunState {
    RunState::Ended(end(word.to_owned()))
}

fn state(result: &str, tasks: Vec<TaskState>) -> WorkflowState {
    let run: WorkflowRun = serde_json::from_value(
        json!({ "run_id": 1, "state": { "life_cycle_state": "TERMINATED", "result_state": result } }),
    )
    .unwrap();
    let state = run.state().unwrap();
    WorkflowState { run, state, tasks, ahead: None }
}

#[test]
fn tasks_that_failed_say_why_and_those_skipped_over_them_do_not() {
    let mut broken = task("broken", 1, ended(WorkflowEnd::Failed, "FAILED"));
    broken.message = Some("Workload failed".to_owned());
    let skipped = task("skipped", 2, ended(WorkflowEnd::NotRun, "UPSTREAM_FAILED"));
    let left = task("left", 3, ended(WorkflowEnd::Excluded, "EXCLUDED"));
    let shown = shown_state(&state("FAILED", vec![broken.clone(), skipped.clone(), left]));
    assert_eq!(shown.failure.unwrap().causes, ["task broken: Workload failed"]);
    let words = ["task broken   FAILED", "task skipped   UPSTREAM_FAILED", "task left   EXCLUDED", "FAILED"];
    assert_eq!(shown.lines, words);
    // Without a failed task, the skipped one is the cause.
    let shown = shown_state(&state("FAILED", vec![skipped]));
    assert_eq!(shown.failure.unwrap().causes, ["task skipped: UPSTREAM_FAILED"]);
    let shown = shown_state(&state("SUCCESS_WITH_FAILURES", vec![broken]));
    assert_eq!(shown.exit, Some(0));
    assert!(shown.lines.contains(&"task broken: Workload failed".to_owned()), "{:?}", shown.lines);
}

#[test]
fn the_newest_attempt_decides_and_those_before_are_said_as_such() {
    let mut tried = task("dbt", 12, ended(WorkflowEnd::Failed, "FAILED"));
    tried.attempt = 2;
    let before = |run_id, attempt, repair| EarlierAttempt {
        run_id,
        attempt,
        repair,
        state: Some(ended(WorkflowEnd::Failed, "FAILED")),
        message: None,
        dbt_run_url: None,
    };
    tried.earlier = vec![before(11, 1, 0)];
    let shown = shown_state(&state("FAILED", vec![tried.clone()]));
    assert_eq!(shown.lines[..2], ["task dbt   FAILED   (attempt 1; tried again)", "task dbt   FAILED   (attempt 2)"]);
    assert_eq!(shown.failure.unwrap().causes, ["task dbt (the last of 2 attempts): FAILED"]);
    let mut repaired = task("dbt", 9, ended(WorkflowEnd::Success, "SUCCESS"));
    (repaired.repair, repaired.earlier) = (1, vec![before(11, 1, 0), before(12, 2, 0)]);
    let shown = shown_state(&state("SUCCESS", vec![repaired]));
    let lines = ["task dbt   FAILED   (before repair 1; tried again)"; 2];
    assert_eq!(shown.lines[..2], lines);
    assert_eq!((shown.lines[2].as_str(), shown.exit), ("task dbt   SUCCESS   (repair 1)", Some(0)));
    // Followed from its start, each attempt is printed once.
    let statuses: Rc<RefCell<Vec<(String, u64)>>> = Rc::default();
    let sink = statuses.clone();
    let events = Events::new(move |event| {
        if let Event::Run(RunEvent::TaskStatus { status, attempt, .. }) = event {
            sink.borrow_mut().push((status, attempt));
        }
    });
    let mut changes = WorkflowRunEvents::new(1, &events);
    changes.task(RunId::Databricks(1), &task("dbt", 11, ended(WorkflowEnd::Failed, "FAILED")));
    let mut waiting = task("dbt", 12, RunState::Active("WAITING_FOR_RETRY".to_owned()));
    (waiting.attempt, waiting.earlier) = (2, vec![before(11, 1, 0)]);
    changes.task(RunId::Databricks(1), &waiting);
    changes.task(RunId::Databricks(1), &waiting);
    assert_eq!(*statuses.borrow(), [("FAILED".to_owned(), 1), ("WAITING_FOR_RETRY".to_owned(), 2)]);
}

#[test]
fn conditions_and_loops_say_what_they_came_to() {
    let mut condition = task("ask", 1, ended(WorkflowEnd::Success, "SUCCESS"));
    condition.outcome = Some("false".to_owned());
    let mut each = task("each", 2, ended(WorkflowEnd::Failed, "FAILED"));
    each.iterations = Some(Iterations { total: 10, succeeded: 7, failed: 3 });
    let lines = shown_state(&state("FAILED", vec![condition, each])).lines;
    assert_eq!(lines[0], "task ask   SUCCESS   (it is false)");
    assert_eq!(lines[1], "task each   FAILED   (7 of 10 iterations succeeded, 3 failed)");
    let mut going = task("each", 2, RunState::Active("RUNNING".to_owned()));
    going.iterations = Some(Iterations { total: 10, succeeded: 7, failed: 3 });
    assert_eq!(shown_state(&state("FAILED", vec![going])).lines[0], "task each   RUNNING");
}

#[test]
fn a_queued_run_says_at_which_limit_and_behind_what() {
    let ahead = |begun: &[u64], waiting, more| shown_ahead(&ActiveRuns { begun: begun.to_vec(), waiting, more });
    for (code, message, ahead, says) in [
        (
            Some("MAX_CONCURRENT_RUNS_REACHED"),
            None,
            Some(ahead(&[7], 0, false)),
            "queued: the workflow is at its concurrency limit; behind run 7",
        ),
        (
            Some("MAX_CONCURRENT_RUNS_REACHED"),
            None,
            Some(ahead(&[7, 8], 1, false)),
            "queued: the workflow is at its concurrency limit; behind runs 7, 8 and 1 run queued earlier",
        ),
        (
            Some("ACTIVE_RUNS_LIMIT_REACHED"),
            None,
            Some(ahead(&[1, 2, 3, 4, 5], 2, true)),
            "queued: the workspace is at its run limit; behind runs 1, 2, 3 and 2 more and 2 runs queued earlier and others",
        ),
        (
            Some("ACTIVE_RUN_JOB_TASKS_LIMIT_REACHED"),
            None,
            Some(ahead(&[], 0, false)),
            "queued: the workspace is at its task limit",
        ),
        (Some("BRAND_NEW"), Some("no\u{1b}[31m room"), None, "queued: no room"),
        (Some("BRAND_NEW"), None, None, "queued: BRAND_NEW"),
        (None, None, None, "queued: it is queued"),
    ] {
        let queued = RunEvent::Queued { reason: queue_reason(code, message), ahead };
        assert_eq!(printed(Event::Run(queued)), [Event::Remark(Line::Prose(says.to_owned()))]);
    }
}

#[test]
fn what_a_queued_run_waits_for_is_said_again_only_if_the_text_changes() {
    let lines: Rc<RefCell<Vec<String>>> = Rc::default();
    let sink = lines.clone();
    let events = Events::new(move |event| {
        for event in printed(event) {
            if let Event::Remark(text) = event {
                sink.borrow_mut().push(text.to_string());
            }
        }
    });
    let mut changes = WorkflowRunEvents::new(1, &events);
    let run = json!({ "run_id": 1, "job_id": 2, "state": { "life_cycle_state": "QUEUED" } });
    for begun in [vec![1, 2, 3, 4, 5], vec![1, 2, 3, 6, 7], vec![1, 2, 3, 7]] {
        let run: WorkflowRun = serde_json::from_value(run.clone()).unwrap();
        let state = run.state().unwrap();
        let ahead = Some(ActiveRuns { begun, waiting: 0, more: false });
        changes.state(&WorkflowState { run, state, tasks: Vec::new(), ahead });
    }
    let queued: Vec<String> = lines.take().into_iter().filter(|line| line.starts_with("queued: ")).collect();
    assert_eq!(queued.len(), 2, "{queued:?}");
    assert_ne!(queued[0], queued[1]);
}
