//! Runs of CI jobs for a pull request: the request, adoption, suggested commands and refusals.

use serde_json::Value;

use crate::commands::tests::harness::{Harness, Outcome};
use crate::commands::{run, watch};
use crate::dbt::FIELDS;

/// The sandbox's job "Pull requests".
const JOB: &str = "300120";

async fn start(ctx: &Harness, line: &[&str]) -> Outcome {
    ctx.run(run::run, line).await.expect("nobody kills it")
}

#[tokio::test(start_paused = true)]
async fn a_run_is_started_for_each_kind_of_pull_request_and_wrong_combinations_before_anything_is_sent() {
    let (mut good, mut total, mut wrong) = (0, 0, Vec::new());
    let mut take = |what: String, right: bool, seen: &Outcome| {
        total += 1;
        good += usize::from(right);
        if !right {
            wrong.push(format!("{what}: {seen:?}"));
        }
    };
    let requests = FIELDS.iter().filter(|field| field.is_pull_request());
    let requests: Vec<(&str, String)> = requests.map(|field| (field.name, format!("--{}", field.flag))).collect();
    for (name, flag) in &requests {
        for (checkout, field) in [("--git-sha", "git_sha"), ("--git-branch", "git_branch")] {
            let ctx = Harness::new();
            let line = [JOB, flag, "9007199254740993", checkout, "fix", "--idempotency-key", "k"];
            let outcome = start(&ctx, &line).await;
            let sent = ctx.take_log().into_iter().find(|seen| seen.operation == "dbt:jobs/run").unwrap();
            let sent: Value = serde_json::from_str(&sent.body).unwrap();
            let right = outcome.exit == 0 && sent[name] == 9_007_199_254_740_993_u64 && sent[field] == "fix";
            take(format!("{flag} {checkout}"), right, &outcome);
            // The same key adopts the run; another pull request is refused.
            let again = start(&ctx, &line).await;
            take(format!("{flag} again"), again.exit == 0 && again.data["adopted"] == true, &again);
            let other = start(&ctx, &[JOB, flag, "8", checkout, "fix", "--idempotency-key", "k"]).await;
            take(format!("{flag} another"), other.exit == 7 && other.failure.contains(name), &other);
        }
        for line in [&[JOB, flag, "7"][..], &[JOB, flag, "7", "--schema", "x"]] {
            let ctx = Harness::new();
            let outcome = start(&ctx, line).await;
            take(format!("{flag} alone"), outcome.exit == 2 && ctx.take_log().is_empty(), &outcome);
        }
        for (_, other) in requests.iter().filter(|(other, _)| other != name) {
            let ctx = Harness::new();
            let outcome = start(&ctx, &[JOB, flag, "7", other, "8", "--git-sha", "a1"]).await;
            take(format!("{flag} {other}"), outcome.exit == 2 && ctx.take_log().is_empty(), &outcome);
        }
    }
    // The suggested command for a new run has the same pull request.
    let ctx = Harness::new();
    ctx.world(|world| world.script_dbt_job(300_120, &serde_json::json!({ "run": { "status": 20 } })));
    let line = [JOB, "--github-pull-request-id", "42", "--git-branch", "fix", "--no-wait"];
    let started = start(&ctx, &line).await;
    let number = started.data["run_id"].to_string();
    let watched = ctx.run(watch::run, &[number.trim_matches('"')]).await.unwrap();
    let again = "dbtrigger run 300120 --git-branch fix --github-pull-request-id 42";
    take("watch".to_owned(), watched.failure.contains(again), &watched);
    crate::sim::say(&format!("runs for pull requests, started or refused: {good} of {total}"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
