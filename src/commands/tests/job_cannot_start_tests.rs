//! dbt jobs that cannot start: every command that would start or schedule one reports it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::commands::tests::harness::Harness;
use crate::commands::{create_workflow, deploy_notebook, doctor, init_secrets, jobs, run, watch};
use crate::failure::Code;

/// A plain job of the sandbox.
const JOB: &str = "300001";

async fn ctx(job: &Value) -> Harness {
    let ctx = Harness::new();
    assert_eq!(ctx.run(init_secrets::run, &[]).await.unwrap().exit, 0);
    assert_eq!(ctx.run(deploy_notebook::run, &[]).await.unwrap().exit, 0);
    ctx.world(|world| world.script_dbt_job(JOB.parse().unwrap(), &json!({ "job": job })));
    ctx.take_log();
    ctx
}

#[tokio::test(start_paused = true)]
async fn a_job_of_which_no_run_starts_is_told_before_anything_is_started() {
    let (mut good, mut total, mut wrong) = (0, 0, Vec::new());
    for (job, says, comes_back) in [
        (json!({ "deactivated": true, "run_failure_count": 100 }), "after 100 consecutive failures", true),
        (json!({ "deactivated": true, "deactivation_reason": "Account inactivity." }), "Account inactivity", true),
        (json!({ "deactivated": true }), "dbt deactivated it", true),
        (json!({ "job_type": "hybrid", "execute_steps": [] }), "hybrid", false),
        (json!({ "state": 2 }), "deleted", false),
    ] {
        let mut take = |command: &str, right: bool, seen: String| {
            total += 1;
            good += usize::from(right);
            if !right {
                wrong.push(format!("{says} ({command}): {seen}"));
            }
        };
        let world = ctx(&job).await;
        let listed = world.run(jobs::run, &[]).await.unwrap();
        let row = listed.data["jobs"].as_array().unwrap().iter().find(|row| row["job_id"] == JOB).cloned();
        let is_reported = row.as_ref().and_then(|row| row["cannot_start"].as_str()).map(|why| why.contains(says));
        // Deleted jobs are not listed.
        let right = if says == "deleted" { row.is_none() } else { is_reported == Some(true) };
        take("jobs", right, format!("{row:?}"));

        let created = world.run(create_workflow::run, &["--job", JOB]).await.unwrap();
        let right = if comes_back {
            created.exit == 0 && created.said().contains(says)
        } else {
            created.code == Some(Code::Refused) && created.failure.contains(says) && world.take_writes().is_empty()
        };
        take("create-workflow", right, format!("{created:?}"));

        let lines: [&[&str]; 4] = [&[JOB], &[JOB, "--no-wait"], &["222222", JOB], &[JOB, "--idempotency-key", "k"]];
        for line in lines {
            world.take_log();
            let ran = world.run(run::run, line).await.unwrap();
            let right = ran.code == Some(Code::Refused) && ran.failure.contains(says) && world.take_writes().is_empty();
            take(&format!("run {line:?}"), right, format!("{ran:?}"));
        }

        let looked = world.run(doctor::run, &["--job", JOB]).await.unwrap();
        let check = looked.data["checks"]
            .as_array()
            .unwrap()
            .iter()
            .find(|check| check["id"] == format!("setup.job:{JOB}"))
            .cloned();
        let check = check.unwrap_or_default();
        take("doctor", check["status"] == "failed" && check.to_string().contains(says), check.to_string());
    }
    crate::sim::say(&format!("jobs of which no run starts, told by the commands: {good} of {total}"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn looking_at_the_job_takes_no_time_of_its_own_and_stands_in_no_way() {
    let latency = Duration::from_millis(100);
    let start = async |ctx: &Harness| {
        ctx.set_latency(latency);
        ctx.run(run::run, &["222222", "--no-wait"]).await.unwrap()
    };
    let outcome = start(&Harness::new()).await;
    // Three requests: find earlier runs, start, check for a second run.
    assert!(outcome.exit == 0 && outcome.took <= 3 * latency + Duration::from_millis(10), "{:?}", outcome.took);
    for fault in ["status=500", "status=403", "reset", "hang", "login"] {
        let ctx = Harness::new();
        let rule = format!("dbt:jobs/get={fault},times=forever");
        ctx.world(|world| world.add_fault(crate::sandbox::FaultRule::parse(&rule).unwrap()));
        let outcome = start(&ctx).await;
        assert!(outcome.exit == 0 && outcome.took < Duration::from_secs(12), "{fault}: {outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_deactivated_while_its_run_waits_is_told_once() {
    let (mut good, mut total, mut wrong) = (0, 0, Vec::new());
    // Runs of this job stay queued for a long time.
    let waits = "222225";
    for (job, says) in [
        (json!({ "deactivated": true, "run_failure_count": 100 }), "after 100 consecutive failures"),
        (json!({ "deactivated": true, "deactivation_reason": "Account inactivity." }), "Account inactivity"),
    ] {
        for watched in [false, true] {
            let world = ctx(&json!({})).await;
            let script = job.clone();
            // Deactivated right after the run was created.
            world.side_effect("dbt:jobs/run", move |world| {
                world.world(|world| world.script_dbt_job(waits.parse().unwrap(), &json!({ "job": script })));
            });
            let line: &[&str] = if watched { &[waits, "--no-wait"] } else { &[waits, "--timeout", "9m"] };
            let mut outcome = world.run(run::run, line).await.unwrap();
            if watched {
                let run = crate::commands::tests::harness::id(&outcome.data["run_id"]);
                world.take_log();
                outcome = world.run(watch::run, &[&run, "--timeout", "9m"]).await.unwrap();
            }
            let warned = outcome.said().matches(says).count();
            let asked = world.take_log().iter().filter(|seen| seen.operation == "dbt:jobs/get").count();
            let is_reported = outcome.failure.contains(says);
            let right = (warned, is_reported, outcome.code) == (1, true, Some(Code::StillRunning)) && asked <= 10;
            total += 1;
            good += usize::from(right);
            if !right {
                wrong.push(format!("{says}, watched: {watched}: {warned} warnings, {asked} requests, {outcome:?}"));
            }
        }
    }
    crate::sim::say(&format!("jobs that are deactivated while a run waits: {good} of {total}"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
