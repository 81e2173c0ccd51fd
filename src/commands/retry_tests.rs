//! `run --retry`, end to end against the in-memory sandbox: a failed run is retried once, whatever response is lost.

use super::harness::{Harness, Outcome, id, number};
use super::run;
use crate::failure::Code;
use crate::sandbox::{FaultKind, FaultRule, Phase};

async fn start(ctx: &Harness, line: &[&str]) -> Outcome {
    ctx.run(run::run, line).await.expect("nobody kills it")
}

fn fault(ctx: &Harness, rule: &str) {
    ctx.world(|world| world.add_fault(FaultRule::parse(rule).unwrap()));
}

/// IDs of runs that retry another one.
fn resumed(ctx: &Harness) -> Vec<u64> {
    let state = ctx.world(|world| world.inspect());
    let runs = state["dbt_runs"].as_array().unwrap();
    runs.iter().filter(|run| run["retrying_run_id"].is_u64()).map(|run| run["id"].as_u64().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_failed_run_is_resumed_and_the_last_ones_outcome_counts() {
    let ctx = Harness::new();
    let outcome = start(&ctx, &["222226", "--retry", "2"]).await;
    assert_eq!((outcome.exit, outcome.code), (0, None), "{outcome:?}");
    let first = &outcome.data["resumed"][0];
    assert_eq!((&first["status"], &outcome.data["status"]), (&"ERROR".into(), &"SUCCESS".into()));
    assert_eq!(resumed(&ctx), [number(&outcome.data["run_id"])]);
    assert_eq!(ctx.take_writes(), ["dbt:jobs/run", "dbt:runs/retry"]);
    let said = outcome.said();
    for says in ["attempt 2 of 3", &format!("resumes run {}", id(&first["run_id"])), "DbtJobRunStatus.SUCCESS"] {
        assert!(said.contains(says), "{says}\n{said}");
    }
    // A job that always fails is retried as often as requested, and the last failure is reported.
    let ctx = Harness::new();
    let outcome = start(&ctx, &["222223", "--retry", "2"]).await;
    assert_eq!((outcome.exit, outcome.data["resumed"].as_array().map(Vec::len)), (3, Some(2)), "{outcome:?}");
    assert!(outcome.failure.contains("model orders"), "{outcome:?}");
    assert_eq!(ctx.take_writes(), ["dbt:jobs/run", "dbt:runs/retry", "dbt:runs/retry"]);
    // Each of several runs is retried on its own.
    let ctx = Harness::new();
    let outcome = start(&ctx, &["222226", "222222", "--retry", "1"]).await;
    assert_eq!((outcome.exit, resumed(&ctx).len()), (0, 1), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_cancelled_or_succeeded_is_not_resumed_and_without_the_flag_nothing_is() {
    for (line, exit) in [
        (&["222224", "--retry", "3"][..], 20),
        (&["222222", "--retry", "3"], 0),
        (&["222226"], 3),
        (&["222226", "--retry", "0"], 3),
    ] {
        let ctx = Harness::new();
        let outcome = start(&ctx, line).await;
        assert_eq!(outcome.exit, exit, "{line:?}: {outcome:?}");
        assert_eq!(ctx.take_writes(), ["dbt:jobs/run"], "{line:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_dbt_does_not_resume_ends_in_error_and_says_why() {
    for (rule, says) in [
        ("dbt:runs/retry=status=400", "cannot be retried from the point of failure"),
        ("dbt:runs/retry=status=403", "cannot be retried from the point of failure"),
    ] {
        let ctx = Harness::new();
        fault(&ctx, rule);
        let outcome = start(&ctx, &["222226", "--retry", "1"]).await;
        assert_eq!(outcome.code, Some(Code::RunFailed), "{rule}: {outcome:?}");
        assert!(outcome.failure.contains(says), "{rule}: {outcome:?}");
        // A retry that cannot work is not advised.
        assert!(!outcome.failure.contains("--retry 1"), "{rule}: {outcome:?}");
        assert_eq!(resumed(&ctx), Vec::<u64>::new());
    }
    // Another client has started a newer run, so the failed one cannot be retried.
    let ctx = Harness::new();
    let failed = start(&ctx, &["222226", "--idempotency-key", "one"]).await;
    assert!(failed.failure.contains("--idempotency-key one --retry 1\""), "{failed:?}");
    let _ = start(&ctx, &["222226"]).await;
    let outcome = start(&ctx, &["222226", "--idempotency-key", "one", "--retry", "1"]).await;
    assert_eq!(outcome.code, Some(Code::RunFailed), "{outcome:?}");
    assert!(outcome.failure.contains("it is no longer the job's latest run"), "{outcome:?}");
    assert!(!outcome.failure.contains("--retry 1"), "{outcome:?}");
    assert_eq!(resumed(&ctx), Vec::<u64>::new());
}

#[tokio::test(start_paused = true)]
async fn the_command_that_the_failure_names_resumes_that_run_and_each_time_the_same() {
    let ctx = Harness::new();
    let failed = start(&ctx, &["222226", "--idempotency-key", "one"]).await;
    let line = ["222226", "--idempotency-key", "one", "--retry", "1"];
    let outcome = start(&ctx, &line).await;
    assert_eq!((outcome.exit, &outcome.data["resumed"][0]["run_id"]), (0, &failed.data["run_id"]), "{outcome:?}");
    let again = start(&ctx, &line).await;
    assert_eq!((again.exit, &again.data["run_id"]), (0, &outcome.data["run_id"]), "{again:?}");
    assert_eq!(resumed(&ctx).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_resumption_nobody_knows_of_is_9_and_is_found_by_the_next_command() {
    let ctx = Harness::new();
    let state = tempfile::tempdir().unwrap();
    ctx.set("XDG_STATE_HOME", state.path().to_str().unwrap());
    fault(&ctx, "dbt:runs/retry=reset,phase=after");
    ctx.world(|world| world.set_listing_lag(50_000));
    let line = ["222226", "--idempotency-key", "one", "--retry", "1", "--at-most-once", "--settle", "10s"];
    let outcome = start(&ctx, &line).await;
    assert_eq!(outcome.code, Some(Code::OutcomeUnknown), "{outcome:?}");
    assert!(outcome.failure.contains("\"dbtrigger run 222226 --idempotency-key one\""), "{outcome:?}");
    // The journal still has the start, but not as the failed run.
    let later = start(&ctx, &["222222", "--no-wait"]).await;
    let points = "a start of dbt job 222226 was not followed to its end; resume with `dbtrigger run 222226 --idempotency-key one`";
    assert!(later.said().contains(points), "{}", later.said());
    // With the default settle time the retry is found, although dbt only reports a newer run.
    let outcome = start(&ctx, &line[..5]).await;
    assert_eq!((outcome.exit, resumed(&ctx).len()), (0, 1), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
#[ignore = "takes minutes; .ci/run runs it"]
async fn a_lost_answer_never_leads_to_two_resumptions() {
    let (mut good, mut total) = (0, 0);
    let mut wrong = Vec::new();
    for class in FaultKind::catalogue() {
        for (name, phase) in [("before", Phase::Before), ("after", Phase::After)] {
            // A service that denies what it has done cannot be handled correctly.
            if !class.allows(phase) || (phase == Phase::After && class.denies_effect()) {
                continue;
            }
            for (lag, times) in [(0, 1), (12_000, 1), (50_000, 1), (20_000, 2)] {
                let ctx = Harness::new();
                ctx.set("XDG_STATE_HOME", "");
                ctx.world(|world| world.set_listing_lag(lag));
                fault(&ctx, &format!("dbt:runs/retry={class},phase={name},times={times}"));
                let line = ["222226", "--idempotency-key", "nightly", "--retry", "1"];
                let mut outcome = None;
                for _ in 0..=times {
                    outcome = ctx.run(run::run, &line).await;
                    if outcome.is_some() {
                        break;
                    }
                }
                // Two Retry-After responses of a year exceed the limit: not retried, and reported.
                let put_off = class == FaultKind::RetryAfterAbsurd && times == 2;
                let refused = phase == Phase::Before
                    && matches!(class, FaultKind::Status(status) if (400..500).contains(&status) && !matches!(status, 408 | 429));
                let runs = resumed(&ctx);
                let right = outcome.as_ref().is_some_and(|outcome| {
                    if refused || put_off {
                        outcome.exit == 3 && runs.is_empty()
                    } else {
                        outcome.exit == 0 && runs.len() == 1 && number(&outcome.data["run_id"]) == runs[0]
                    }
                });
                total += 1;
                if right {
                    good += 1;
                } else {
                    wrong.push(format!(
                        "{class} {name} lag {lag} times {times}: {runs:?} {:?}",
                        outcome.map(|outcome| (outcome.exit, outcome.failure))
                    ));
                }
            }
        }
    }
    crate::sim::say(&format!("a failed run is resumed once: {good} of {total}"));
    assert!(wrong.is_empty() && total > 100, "{total}\n{}", wrong.join("\n"));
}
