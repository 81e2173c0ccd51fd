//! `run` with several jobs, end to end against the in-memory sandbox.

use jiff::Timestamp;
use serde_json::Value;

use crate::commands::run;
use crate::commands::tests::harness::{Harness, Outcome, number};
use crate::failure::Code;
use crate::sandbox::FaultRule;

async fn start(ctx: &Harness, line: &[&str]) -> Outcome {
    ctx.run(run::run, line).await.expect("nobody kills it")
}

fn fault(ctx: &Harness, rule: &str) {
    ctx.world(|world| world.add_fault(FaultRule::parse(rule).unwrap()));
}

fn count(ctx: &Harness, operation: &str) -> usize {
    ctx.take_log().iter().filter(|seen| seen.operation == operation).count()
}

fn moment(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn several_jobs_run_side_by_side_each_with_its_lines_its_key_and_its_outcome() {
    let ctx = Harness::new();
    let outcome = start(&ctx, &["222222", "Broken models", "222224"]).await;
    assert_eq!((outcome.exit, outcome.code), (3, Some(Code::RunFailed)), "{outcome:?}");
    let runs = outcome.data["runs"].as_array().unwrap();
    let of = |name: &str| runs.iter().map(|run| run[name].clone()).collect::<Vec<_>>();
    assert_eq!(of("status"), ["SUCCESS", "ERROR", "CANCELLED"]);
    assert_eq!(of("exit_code"), [0, 3, 20]);
    assert_eq!(runs[1]["error"]["code"], "run-failed", "{}", runs[1]);
    assert!(runs[1]["failed_nodes"].as_array().is_some_and(|nodes| !nodes.is_empty()), "{}", runs[1]);
    let keys = of("key");
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys.iter().all(Value::is_string), "{keys:?}");
    // In parallel: the second is created before the first has ended.
    assert!(moment(&runs[1]["created_at"]) < moment(&runs[0]["finished_at"]));
    for line in [
        "222222: job_run_id = ",
        "222222: DbtJobRunStatus.SUCCESS",
        "\"Broken models\" (222223): DbtJobRunStatus.RUNNING   step 4/5: dbt build",
        "222224: DbtJobRunStatus.CANCELLED",
    ] {
        assert!(outcome.said().contains(line), "{line}\n{}", outcome.said());
    }
    for says in ["2 of 3 runs", "222224: dbt run", "model orders", "\"dbtrigger run 222223\""] {
        assert!(outcome.failure.contains(says), "{says}: {}", outcome.failure);
    }
    assert_eq!(outcome.text.lines().count(), 3, "{}", outcome.text);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_started_unless_every_job_is_right() {
    let ctx = Harness::new();
    for (line, code, says) in [
        (&["222222", "999999"][..], Code::NotFound, "999999"),
        (&["222222", "Nighly build"], Code::NotFound, "222222"),
        (&["222222", "Nightly build"], Code::InvalidInput, "given twice"),
        (&["222222", ""], Code::InvalidInput, "it is empty"),
        (&["222222", "https://ab123.us1.dbt.com/deploy/7/projects/1/jobs/2"], Code::Contradiction, "7"),
        (&["222222", "222223", "--project", "Finance"], Code::Usage, "apply to a job given by name"),
    ] {
        let outcome = start(&ctx, line).await;
        assert_eq!(outcome.code, Some(code), "{line:?} {outcome:?}");
        assert!(outcome.failure.contains(says), "{line:?} {outcome:?}");
        assert_eq!(ctx.take_writes(), Vec::<&str>::new(), "{line:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_several_outcomes_the_one_that_needs_somebody_most_counts() {
    for (line, faults, exit) in [
        (&["222222", "300001"][..], &[][..], 0),
        // Order of precedence: unknown, error, canceled, not started, still running.
        (&["222223", "222222", "--at-most-once"], &["dbt:jobs/run=reset,phase=before,nth=2"], 9),
        (&["222224", "222223", "222225", "--timeout", "10m"], &[], 3),
        (&["222225", "222224", "--timeout", "10m"], &[], 20),
        (&["222225", "222224", "--timeout", "10m"], &["dbt:jobs/run=status=403,nth=1"], 20),
        (&["222225", "222222", "--timeout", "10m"], &["dbt:jobs/run=status=403,nth=1"], 4),
        (&["222225", "222222", "--timeout", "10m"], &[], 8),
    ] {
        let ctx = Harness::new();
        for rule in faults {
            fault(&ctx, rule);
        }
        let outcome = start(&ctx, line).await;
        assert_eq!(outcome.exit, exit, "{line:?} {faults:?} {outcome:?}");
        // The others were still followed to their end.
        let runs = outcome.data["runs"].as_array().unwrap();
        let starts = line.iter().filter(|word| word.len() == 6 && word.starts_with(['2', '3'])).count();
        assert_eq!(runs.len(), starts, "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_runs_than_asked_for_go_at_a_time() {
    let ctx = Harness::new();
    let outcome = start(&ctx, &["300001", "300002", "300003", "--max-parallel", "1"]).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    let mut runs = outcome.data["runs"].as_array().unwrap().clone();
    runs.sort_by_key(|run| number(&run["run_id"]));
    for pair in runs.windows(2) {
        assert!(moment(&pair[1]["created_at"]) >= moment(&pair[0]["finished_at"]), "{pair:?}");
    }
    // A job without a slot in time is reported as not started.
    let _ = ctx.take_log();
    let outcome = start(&ctx, &["222225", "300004", "--max-parallel", "1", "--timeout", "2m"]).await;
    assert_eq!(outcome.exit, 8, "{outcome:?}");
    for says in ["cannot start dbt job 300004", "--max-parallel allows no more"] {
        assert!(outcome.failure.contains(says), "{outcome:?}");
    }
    assert!(outcome.text.lines().any(|line| line.starts_with("300004   not started")), "{}", outcome.text);
    assert_eq!(ctx.take_writes(), ["dbt:jobs/run"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_may_go_on_unseen_keeps_its_place() {
    for (rule, code) in [
        // Started, but no longer readable: neither in the list nor directly.
        ("dbt:runs/list=status=403,nth=3,times=forever", Code::NotAllowed),
        // Unknown whether it was started.
        ("dbt:jobs/run=reset,phase=before,times=1", Code::OutcomeUnknown),
    ] {
        let ctx = Harness::new();
        fault(&ctx, rule);
        if code == Code::NotAllowed {
            fault(&ctx, "dbt:runs/get=status=403,times=forever");
        }
        let line = ["222222", "300004", "--max-parallel", "1", "--at-most-once", "--timeout", "30m"];
        let outcome = start(&ctx, &line).await;
        assert_eq!(outcome.code, Some(code), "{rule}: {outcome:?}");
        assert!(outcome.failure.contains("cannot start dbt job 300004"), "{rule}: {outcome:?}");
        assert_eq!(ctx.take_writes(), ["dbt:jobs/run"], "{rule}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_job_has_the_given_key_and_the_same_command_starts_none_of_them_again() {
    let ctx = Harness::new();
    let line = ["222222", "300001", "--idempotency-key", "nightly-7"];
    let first = start(&ctx, &line).await;
    assert_eq!(first.exit, 0, "{first:?}");
    let _ = ctx.take_log();
    let again = start(&ctx, &line).await;
    assert_eq!(again.exit, 0, "{again:?}");
    assert_eq!(ctx.take_writes(), Vec::<&str>::new());
    for index in 0..2 {
        let (one, other) = (&first.data["runs"][index], &again.data["runs"][index]);
        assert_eq!((&one["run_id"], &other["adopted"]), (&other["run_id"], &true.into()), "{again:?}");
        assert_eq!(other["key"], "nightly-7");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_runs_are_looked_at_with_one_request() {
    let ctx = Harness::new();
    let jobs: Vec<String> =
        (3..=118).filter(|number| *number != 117).map(|number| (300_000 + number).to_string()).collect();
    let line: Vec<&str> = jobs.iter().map(String::as_str).collect();
    let outcome = start(&ctx, &line).await;
    assert_eq!(outcome.exit, 0, "{}", outcome.failure);
    let log = ctx.take_log();
    let of = |operation: &str| log.iter().filter(|seen| seen.operation == operation).count();
    assert_eq!((of("dbt:jobs/run"), of("dbt:jobs/get"), of("dbt:runs/get")), (115, 115, 0));
    // Each start looks for the newest run of its job once; the rest is polling.
    let looks = u64::try_from(of("dbt:runs/list") - 115).unwrap();
    let seconds = outcome.took.as_secs();
    assert!((90..130).contains(&seconds) && (20..=seconds * 2).contains(&looks), "{looks} looks in {seconds} s");
}

#[tokio::test(start_paused = true)]
async fn several_runs_outlast_what_one_outlasts_and_stop_at_proof() {
    for (rule, exit) in [
        ("dbt:runs/list=status=503,nth=3,times=30", 0),
        ("dbt:runs/list=reset,nth=3,times=30", 0),
        ("dbt:runs/list=hang,nth=3,times=3", 0),
        ("dbt:runs/list=login,nth=3,times=30", 0),
        ("dbt:runs/list=retry-after=20,nth=3,times=3", 0),
        // If the service rejects the list, runs are polled one by one.
        ("dbt:runs/list=status=400,nth=3,times=forever", 0),
        ("dbt:runs/list=status=404,nth=3,times=forever", 0),
        ("dbt:runs/list=status=401,nth=3", 0),
        ("dbt:runs/list=status=401,nth=3,times=forever", 4),
    ] {
        let ctx = Harness::new();
        fault(&ctx, rule);
        let outcome = start(&ctx, &["222222", "300001"]).await;
        assert_eq!(outcome.exit, exit, "{rule}: {outcome:?}");
    }
    // A lagging list, and reads that briefly return 404.
    let ctx = Harness::new();
    ctx.world(|world| {
        world.set_listing_lag(50_000);
        world.set_fresh_404(20_000);
    });
    assert_eq!(start(&ctx, &["222222", "300001"]).await.exit, 0);
    assert!(count(&ctx, "dbt:runs/get") > 10);
    // The last poll is in time for all runs.
    let ctx = Harness::new();
    fault(&ctx, "dbt:runs/list=hang,nth=5,times=forever");
    let outcome = start(&ctx, &["222222", "300001", "--timeout", "2m"]).await;
    assert_eq!((outcome.exit, outcome.took.as_secs()), (8, 120), "{outcome:?}");
}
