//! `run --retry`, end to end against the in-memory sandbox: a failed run is retried once, whatever response is lost.

use crate::commands::run;
use crate::commands::tests::harness::{Harness, Outcome, id, number};
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
async fn the_last_run_of_a_job_is_resumed_without_a_key_if_it_failed_and_only_then() {
    let ctx = Harness::new();
    let refused = async |line: &[&str], code: Code, next: &str| {
        let outcome = start(&ctx, line).await;
        assert_eq!(outcome.code, Some(code), "{line:?}: {outcome:?}");
        assert!(outcome.failure.contains(next), "{next}: {outcome:?}");
    };
    refused(&["222226", "--failed"], Code::NotFound, "\"dbtrigger run 222226\"").await;
    let failed = start(&ctx, &["222226"]).await;
    let _ = start(&ctx, &["222222"]).await;
    let _ = start(&ctx, &["222224"]).await;
    let waiting = start(&ctx, &["222225", "--no-wait"]).await;
    let _ = ctx.take_log();
    refused(&["222222", "--failed"], Code::Refused, "\"dbtrigger run 222222\"").await;
    refused(&["222224", "--failed"], Code::Refused, "\"dbtrigger run 222224\"").await;
    let watch = format!("\"dbtrigger watch {}\"", id(&waiting.data["run_id"]));
    refused(&["222225", "--failed"], Code::Refused, &watch).await;
    assert!(ctx.take_writes().is_empty());
    let outcome = start(&ctx, &["Flaky warehouse", "--failed"]).await;
    assert_eq!((outcome.exit, &outcome.data["resumed"][0]["run_id"]), (0, &failed.data["run_id"]), "{outcome:?}");
    assert_eq!(outcome.data["sends"], 1);
    assert_eq!(ctx.take_writes(), ["dbt:runs/retry"]);
    refused(&["222226", "--failed"], Code::Refused, "\"dbtrigger run 222226\"").await;
    assert_eq!(resumed(&ctx).len(), 1);
    // What is not waited for is found by the next command, and not resumed once more.
    let ctx = Harness::new();
    let _ = start(&ctx, &["222226"]).await;
    let first = start(&ctx, &["222226", "--failed", "--no-wait"]).await;
    let again = start(&ctx, &["222226", "--failed"]).await;
    assert_eq!((again.exit, &again.data["run_id"], &again.data["adopted"]), (0, &first.data["run_id"], &true.into()));
    assert_eq!(resumed(&ctx).len(), 1);
    // dbt's own reason.
    let ctx = Harness::new();
    let _ = start(&ctx, &["222226"]).await;
    fault(&ctx, "dbt:runs/retry=status=400");
    let outcome = start(&ctx, &["222226", "--failed"]).await;
    assert_eq!(outcome.code, Some(Code::Refused), "{outcome:?}");
    assert!(outcome.failure.contains("cannot be retried from the point of failure"), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_resumption_of_the_last_run_that_nobody_knows_of_is_9_and_the_same_command_finds_it() {
    let ctx = Harness::new();
    let state = tempfile::tempdir().unwrap();
    ctx.set("XDG_STATE_HOME", state.path().to_str().unwrap());
    let _ = start(&ctx, &["222226"]).await;
    fault(&ctx, "dbt:runs/retry=reset,phase=after");
    ctx.world(|world| world.set_listing_lag(50_000));
    let line = ["222226", "--failed", "--at-most-once", "--settle", "10s"];
    let outcome = start(&ctx, &line).await;
    assert_eq!(outcome.code, Some(Code::OutcomeUnknown), "{outcome:?}");
    assert!(outcome.failure.contains("\"dbtrigger run 222226 --failed\""), "{outcome:?}");
    let outcome = start(&ctx, &line[..2]).await;
    assert_eq!((outcome.exit, resumed(&ctx).len()), (0, 1), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn of_two_that_resume_the_last_run_at_once_on_one_machine_one_does_and_both_follow() {
    let ctx = Harness::new();
    let state = tempfile::tempdir().unwrap();
    ctx.set("XDG_STATE_HOME", state.path().to_str().unwrap());
    let _ = start(&ctx, &["222226"]).await;
    ctx.world(|world| world.set_listing_lag(50_000));
    let line = ["222226", "--failed"];
    let (one, other) = tokio::join!(start(&ctx, &line), start(&ctx, &line));
    assert_eq!((one.exit, other.exit, &one.data["run_id"]), (0, 0, &other.data["run_id"]), "{one:?} {other:?}");
    assert_eq!(resumed(&ctx), [number(&one.data["run_id"])]);
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
            let by_key = &["222226", "--idempotency-key", "nightly", "--retry", "1"][..];
            let last = &["222226", "--failed"][..];
            let ways = [(0, 1), (12_000, 1), (50_000, 1), (20_000, 2)];
            for (line, (lag, times)) in [by_key, last].into_iter().flat_map(|line| ways.map(|way| (line, way))) {
                let ctx = Harness::new();
                ctx.set("XDG_STATE_HOME", "");
                if line == last {
                    let _ = start(&ctx, &line[..1]).await;
                }
                ctx.world(|world| world.set_listing_lag(lag));
                fault(&ctx, &format!("dbt:runs/retry={class},phase={name},times={times}"));
                let mut outcome = None;
                for _ in 0..=times {
                    outcome = ctx.run(run::run, line).await;
                    if outcome.is_some() {
                        break;
                    }
                }
                // Two Retry-After responses of a year exceed the limit: not retried, and reported.
                let put_off = class == FaultKind::RetryAfterHuge && times == 2;
                let refused = phase == Phase::Before
                    && matches!(class, FaultKind::Status(status) if (400..500).contains(&status) && !matches!(status, 408 | 429));
                let runs = resumed(&ctx);
                let right = outcome.as_ref().is_some_and(|outcome| {
                    if refused || put_off {
                        // The failure of the run itself counts only where it was started here.
                        (outcome.exit == 3) == (line == by_key) && outcome.exit != 0 && runs.is_empty()
                    } else {
                        outcome.exit == 0 && runs.len() == 1 && number(&outcome.data["run_id"]) == runs[0]
                    }
                });
                total += 1;
                if right {
                    good += 1;
                } else {
                    wrong.push(format!(
                        "{line:?} {class} {name} lag {lag} times {times}: {runs:?} {:?}",
                        outcome.map(|outcome| (outcome.exit, outcome.failure))
                    ));
                }
            }
        }
    }
    crate::sim::say(&format!("a failed run is resumed once: {good} of {total}"));
    assert!(wrong.is_empty() && total > 100, "{total}\n{}", wrong.join("\n"));
}
