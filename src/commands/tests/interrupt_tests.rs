//! `run --on-interrupt cancel`, end to end against the in-memory sandbox.

use std::cell::RefCell;
use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use crate::commands::tests::harness::{Harness, InjectedFault, Outcome, id};
use crate::commands::{CommandContext, InterruptReport, create_workflow, deploy_notebook, init_secrets, run};
use crate::failure::Code;
use crate::sandbox::FaultRule;

const TERMINATED: Option<Code> = Some(Code::Interrupted(15));

async fn start(ctx: &Harness, line: &[&str]) -> Outcome {
    let line: Vec<&str> = line.iter().copied().chain(["--on-interrupt", "cancel"]).collect();
    ctx.run(run::run, &line).await.expect("nobody kills it")
}

fn fault(ctx: &Harness, rule: &str) {
    ctx.world(|world| world.add_fault(FaultRule::parse(rule).unwrap()));
}

/// The status of each dbt run started by the test.
fn statuses(ctx: &Harness) -> Vec<Value> {
    let world = ctx.world(|world| world.inspect());
    let runs = world["dbt_runs"].as_array().unwrap().iter().filter(|run| run["seeded"] == false);
    runs.map(|run| run["status"].clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_followed_run_is_cancelled_and_that_is_confirmed() {
    let ctx = Harness::new();
    ctx.interrupt_at("dbt:runs/get", 3);
    let outcome = start(&ctx, &["222222"]).await;
    assert_eq!((outcome.exit, outcome.code), (143, TERMINATED), "{outcome:?}");
    assert_eq!((&outcome.data["status"], &outcome.data["on_interrupt"]), (&"CANCELLED".into(), &"cancelled".into()));
    let run = id(&outcome.data["run_id"]);
    assert!(outcome.failure.contains(&format!("dbt run {run} was canceled")), "{outcome:?}");
    assert!(outcome.said().contains("interrupted: canceling dbt run"), "{}", outcome.said());
    assert_eq!(ctx.take_writes(), ["dbt:jobs/run", "dbt:runs/cancel"]);
}

#[tokio::test(start_paused = true)]
async fn before_anything_is_sent_nothing_is_started() {
    for operation in ["dbt:jobs/get", "dbt:runs/list"] {
        for line in [&["222222"][..], &["222222", "300001"], &["222222", "--idempotency-key", "k"]] {
            let ctx = Harness::new();
            ctx.interrupt_at(operation, 1);
            let outcome = start(&ctx, line).await;
            assert_eq!(outcome.code, TERMINATED, "{operation} {line:?} {outcome:?}");
            assert_eq!(ctx.take_writes(), Vec::<&str>::new(), "{operation} {line:?}");
            assert!(outcome.failure.contains("started"), "{outcome:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_on_its_way_is_not_lost() {
    for trouble in [None, Some("reset,phase=after"), Some("hang,phase=after"), Some("status=500,phase=after")] {
        let ctx = Harness::new();
        if let Some(trouble) = trouble {
            fault(&ctx, &format!("dbt:jobs/run={trouble}"));
        }
        ctx.interrupt_at("dbt:jobs/run", 1);
        let outcome = start(&ctx, &["222222"]).await;
        assert_eq!((outcome.code, &outcome.data["on_interrupt"]), (TERMINATED, &"cancelled".into()), "{outcome:?}");
        assert_eq!(ctx.take_writes(), ["dbt:jobs/run", "dbt:runs/cancel"], "{trouble:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unclear_start_is_not_sent_again_and_said_with_the_command_that_looks() {
    let ctx = Harness::new();
    fault(&ctx, "dbt:jobs/run=reset,phase=before");
    ctx.interrupt_at("dbt:jobs/run", 1);
    let outcome = start(&ctx, &["222222"]).await;
    assert_eq!((outcome.code, &outcome.data["on_interrupt"]), (TERMINATED, &"unknown".into()), "{outcome:?}");
    assert!(outcome.failure.contains("it is unknown whether a run of dbt job 222222 was started"), "{outcome:?}");
    assert!(outcome.failure.contains("--idempotency-key"), "{outcome:?}");
    assert_eq!(ctx.take_writes(), ["dbt:jobs/run"]);
    // A request that was certainly not sent is not retried either.
    let ctx = Harness::new();
    fault(&ctx, "dbt:jobs/run=refused,times=forever");
    ctx.interrupt_at("dbt:jobs/run", 2);
    let outcome = start(&ctx, &["222222"]).await;
    assert_eq!((outcome.code, &outcome.data["on_interrupt"]), (TERMINATED, &"not-started".into()), "{outcome:?}");
    assert_eq!(ctx.take_writes(), ["dbt:jobs/run"; 2]);
}

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_while_cancelling_is_said_with_what_became_of_the_run() {
    for (rule, became, says) in [
        ("dbt:runs/cancel=status=403,times=forever", "goes-on", "annot cancel dbt run"),
        ("dbt:runs/cancel=reset,phase=after", "cancelled", "was canceled"),
        ("dbt:runs/cancel=reset,phase=before", "cancelled", "was canceled"),
        ("dbt:runs/cancel=status=503,times=2", "cancelled", "was canceled"),
        ("dbt:runs/cancel=hang,times=forever", "goes-on", "no response about canceling dbt run"),
    ] {
        let ctx = Harness::new();
        fault(&ctx, rule);
        ctx.interrupt_at("dbt:runs/get", 3);
        let outcome = start(&ctx, &["222222"]).await;
        assert_eq!((outcome.code, &outcome.data["on_interrupt"]), (TERMINATED, &became.into()), "{rule} {outcome:?}");
        assert!(outcome.failure.contains(says), "{rule} {outcome:?}");
        let command = format!("\"dbtrigger cancel {}\"", id(&outcome.data["run_id"]));
        assert_eq!(outcome.failure.contains(&command), became == "goes-on", "{rule} {outcome:?}");
    }
    // Requested, but never confirmed.
    let ctx = Harness::new();
    fault(&ctx, "dbt:runs/get=status=503,nth=4,times=forever");
    fault(&ctx, "dbt:runs/cancel=missing-field,times=forever");
    ctx.interrupt_at("dbt:runs/get", 3);
    let outcome = start(&ctx, &["222222"]).await;
    assert_eq!((outcome.code, &outcome.data["on_interrupt"]), (TERMINATED, &"goes-on".into()), "{outcome:?}");
    assert!(outcome.failure.contains("dbtrigger cancel"), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_ended_meanwhile_is_said_so() {
    let ctx = Harness::new();
    let _ = ctx.run(run::run, &["222222"]).await.unwrap();
    let looks = ctx.take_log().iter().filter(|seen| seen.operation == "dbt:runs/get").count();
    // The signal comes shortly before the run ends, and the cancellation arrives after.
    let ctx = Harness::new();
    fault(&ctx, "dbt:runs/cancel=retry-after=15,times=1");
    ctx.interrupt_at("dbt:runs/get", looks - 1);
    let outcome = start(&ctx, &["222222"]).await;
    assert_eq!((outcome.code, &outcome.data["status"]), (TERMINATED, &"SUCCESS".into()), "{outcome:?}");
    assert_eq!(outcome.data["on_interrupt"], "ended-itself", "{outcome:?}");
    assert!(outcome.failure.contains("ended before it could be canceled: SUCCESS"), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_fresh_run_that_is_not_found_yet_is_cancelled_once_it_is() {
    let ctx = Harness::new();
    ctx.world(|world| world.set_fresh_404(8_000));
    ctx.interrupt_at("dbt:jobs/run", 1);
    let outcome = start(&ctx, &["222222"]).await;
    assert_eq!(outcome.data["on_interrupt"], "cancelled", "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn of_several_each_is_cancelled_and_those_that_wait_are_not_started() {
    let ctx = Harness::new();
    ctx.interrupt_at("dbt:runs/list", 12);
    let outcome = start(&ctx, &["222222", "300001", "300002", "--max-parallel", "2"]).await;
    assert_eq!((outcome.exit, outcome.code), (143, TERMINATED), "{outcome:?}");
    let runs = outcome.data["runs"].as_array().unwrap();
    let became: Vec<&Value> = runs.iter().map(|run| &run["on_interrupt"]).collect();
    assert_eq!(became, ["cancelled", "cancelled", "not-started"], "{outcome:?}");
    assert!(runs.iter().all(|run| run["exit_code"] == 143), "{outcome:?}");
    assert_eq!(statuses(&ctx).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_resumption_that_is_on_its_way_is_not_lost() {
    for trouble in [None, Some("dbt:runs/retry=reset,phase=after")] {
        let ctx = Harness::new();
        if let Some(rule) = trouble {
            fault(&ctx, rule);
        }
        ctx.interrupt_at("dbt:runs/retry", 1);
        let outcome = start(&ctx, &["222226", "--retry", "1"]).await;
        assert_eq!((outcome.code, &outcome.data["on_interrupt"]), (TERMINATED, &"cancelled".into()), "{outcome:?}");
        assert_eq!(outcome.data["resumed"].as_array().map(Vec::len), Some(1), "{outcome:?}");
        assert_eq!(ctx.take_writes(), ["dbt:jobs/run", "dbt:runs/retry", "dbt:runs/cancel"], "{trouble:?}");
    }
    // Its outcome stays unknown: reported, and not sent again.
    let ctx = Harness::new();
    fault(&ctx, "dbt:runs/retry=reset,phase=before");
    ctx.interrupt_at("dbt:runs/retry", 1);
    let outcome = start(&ctx, &["222226", "--retry", "1"]).await;
    assert_eq!((outcome.code, &outcome.data["on_interrupt"]), (TERMINATED, &"unknown".into()), "{outcome:?}");
    assert_eq!(ctx.take_writes(), ["dbt:jobs/run", "dbt:runs/retry"]);
}

async fn workflow() -> Harness {
    let ctx = Harness::new();
    let _ = ctx.run(init_secrets::run, &[]).await.unwrap();
    let _ = ctx.run(deploy_notebook::run, &[]).await.unwrap();
    let made = ctx.run(create_workflow::run, &["--job", "222225"]).await.unwrap();
    assert_eq!(made.exit, 0, "{made:?}");
    let _ = ctx.take_log();
    ctx
}

const WORKFLOW: [&str; 2] = ["--workflow", "dbt: Long queue (222225)"];

#[tokio::test(start_paused = true)]
async fn a_workflow_is_cancelled_with_what_is_behind_it() {
    let ctx = workflow().await;
    ctx.interrupt_at("databricks:jobs/runs/get", 3);
    let outcome = start(&ctx, &WORKFLOW).await;
    assert_eq!((outcome.exit, outcome.code), (143, TERMINATED), "{outcome:?}");
    assert_eq!(outcome.data["on_interrupt"], "cancelled", "{outcome:?}");
    assert!(outcome.data["dbt_runs"].is_array(), "{outcome:?}");
    assert_eq!(ctx.take_writes(), ["databricks:jobs/run-now", "databricks:jobs/runs/cancel"]);
}

#[tokio::test(start_paused = true)]
async fn a_press_that_is_on_its_way_is_not_lost_and_one_that_stays_unclear_is_said() {
    for (trouble, became, writes) in [
        ("", "cancelled", &["databricks:jobs/run-now", "databricks:jobs/runs/cancel"][..]),
        ("databricks:jobs/run-now=hang,times=forever", "unknown", &["databricks:jobs/run-now"]),
        ("databricks:jobs/run-now=status=403,times=forever", "not-started", &["databricks:jobs/run-now"]),
    ] {
        let ctx = workflow().await;
        if !trouble.is_empty() {
            fault(&ctx, trouble);
        }
        ctx.interrupt_at("databricks:jobs/run-now", 1);
        let outcome = start(&ctx, &WORKFLOW).await;
        assert_eq!((outcome.code, &outcome.data["on_interrupt"]), (TERMINATED, &became.into()), "{outcome:?}");
        assert_eq!(ctx.take_writes(), writes, "{trouble}");
    }
    let ctx = workflow().await;
    ctx.interrupt_at("databricks:jobs/list", 1);
    let outcome = start(&ctx, &WORKFLOW).await;
    assert_eq!(outcome.code, TERMINATED, "{outcome:?}");
    assert_eq!(ctx.take_writes(), Vec::<&str>::new());
}

#[tokio::test(start_paused = true)]
async fn a_workflow_that_cannot_be_cancelled_is_said_with_the_command() {
    let ctx = workflow().await;
    fault(&ctx, "databricks:jobs/runs/cancel=status=403,times=forever");
    ctx.interrupt_at("databricks:jobs/runs/get", 3);
    let outcome = start(&ctx, &WORKFLOW).await;
    assert_eq!((outcome.code, &outcome.data["on_interrupt"]), (TERMINATED, &"goes-on".into()), "{outcome:?}");
    let command = format!("\"dbtrigger cancel --workflow-run {}\"", id(&outcome.data["workflow_run_id"]));
    assert!(outcome.failure.contains(&command), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_signal_while_files_are_fetched_ends_that_and_the_run_has_ended_already() {
    let ctx = Harness::new();
    let home = tempfile::tempdir().unwrap();
    ctx.interrupt_at("dbt:runs/artifacts/list", 1);
    let outcome = start(&ctx, &["222222", "--artifacts", home.path().to_str().unwrap()]).await;
    assert_eq!((outcome.code, &outcome.data["status"]), (TERMINATED, &"SUCCESS".into()), "{outcome:?}");
    assert_eq!(outcome.data["on_interrupt"], "ended-itself", "{outcome:?}");
    assert_eq!(ctx.take_writes(), ["dbt:jobs/run"]);
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_to_one_request_the_run_is_cancelled_or_the_command_says_otherwise() {
    for index in 0..12 {
        for trouble in
            [InjectedFault::LostBefore, InjectedFault::LostAfter, InjectedFault::ErrorAfter, InjectedFault::Unavailable]
        {
            let ctx = Harness::new();
            ctx.interrupt_at("dbt:runs/get", 2);
            ctx.inject_fault(index, trouble);
            let outcome = start(&ctx, &["222222"]).await;
            assert_eq!(outcome.code, TERMINATED, "{index} {trouble:?} {outcome:?}");
            let ended = statuses(&ctx).iter().all(|status| *status == 30);
            let said = outcome.data["on_interrupt"] == "cancelled";
            assert_eq!(ended, said, "{index} {trouble:?} {outcome:?} {:?}", statuses(&ctx));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_confirmed_is_not_called_cancelled() {
    let ctx = Harness::new();
    let _ = ctx.run(run::run, &["222222"]).await.unwrap();
    let looks = ctx.take_log().iter().filter(|seen| seen.operation == "dbt:runs/get").count();
    // The run is active at this read.
    let look = looks - 3;
    for (rule, says) in [("hang", "had not ended after"), ("status=403", "cannot read its status")] {
        let ctx = Harness::new();
        fault(&ctx, &format!("dbt:runs/get={rule},nth={look},times=forever"));
        ctx.interrupt_at("dbt:runs/get", look);
        let outcome = start(&ctx, &["222222"]).await;
        assert_eq!((outcome.code, &outcome.data["on_interrupt"]), (TERMINATED, &"goes-on".into()), "{outcome:?}");
        assert!(outcome.failure.contains(says), "{rule} {outcome:?}");
        assert!(
            outcome.failure.contains(&format!("\"dbtrigger cancel {}\"", id(&outcome.data["run_id"]))),
            "{outcome:?}"
        );
    }
    let ctx = workflow().await;
    fault(&ctx, "databricks:jobs/runs/cancel=hang,times=forever");
    ctx.interrupt_at("databricks:jobs/runs/get", 3);
    let outcome = start(&ctx, &WORKFLOW).await;
    assert_eq!((outcome.code, &outcome.data["on_interrupt"]), (TERMINATED, &"goes-on".into()), "{outcome:?}");
    assert!(outcome.failure.contains("canceling Databricks run"), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_while_it_is_cancelled_finds_what_may_go_on_and_a_later_one_that_nothing_does() {
    for (ctx, line, read, write) in [
        (Harness::new(), &["222222"][..], "dbt:runs/get", "dbt:runs/cancel"),
        (workflow().await, &WORKFLOW, "databricks:jobs/runs/get", "databricks:jobs/runs/cancel"),
    ] {
        let line = [line, &["--on-interrupt", "cancel"]].concat();
        let known = RefCell::new(InterruptReport::default());
        let command = async |args, ctx: &CommandContext| {
            known.replace(ctx.interrupt_report.clone());
            run::run(args, ctx).await
        };
        let ended = ctx.copy();
        ended.interrupt_at(read, 3);
        assert_eq!(ended.run(command, &line).await.unwrap().code, TERMINATED);
        let going = known.borrow().get().map(|left| left.active).unwrap_or_default();
        assert!(going.is_empty() || write.starts_with("dbt:"), "{going:?}");
        ctx.interrupt_at(read, 3);
        let cancelling = async {
            while !ctx.take_writes().contains(&write) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            outcome = ctx.run(command, &line) => panic!("it has ended: {outcome:?}"),
            () = cancelling => {}
        }
        let left = known.borrow().get().expect("what may go on");
        let [(goes_on, resume)] = &left.active[..] else { panic!("{left:?}") };
        assert!(goes_on.contains("canceling") && resume.starts_with("dbtrigger cancel "), "{left:?}");
        assert_eq!(left.known.data["on_interrupt"], "goes-on", "{left:?}");
    }
}
