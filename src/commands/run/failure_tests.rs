//! How runs end, for the cases in `tests/failures/cases.json`, in every command that reports it.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::commands::tests::harness::{Harness, Outcome};
use crate::commands::{run, watch};

/// A plain sandbox job, which succeeds after a minute unless scripted otherwise.
const JOB: &str = "300001";

fn cases() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/failures/cases.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A sandbox in which runs of the job end as in the case.
fn ctx(case: &Value) -> Harness {
    let mut run = case["run"].as_object().unwrap().clone();
    let steps = case["steps"].as_array().unwrap().iter().enumerate().map(|(at, step)| {
        let humanized = if step[1] == 30 { "Skipped" } else { "Done" };
        json!({ "index": at + 1, "name": step[0], "status": step[1], "status_humanized": humanized, "logs": step.get(2) })
    });
    // The API does not promise an order.
    run.insert("run_steps".to_owned(), steps.rev().collect());
    if case["job"].is_null() {
        run.insert("job".to_owned(), Value::Null);
    }
    let file = |step: &String, nodes: &Value| {
        let failed = nodes.as_array().unwrap().iter().map(|node| json!({ "unique_id": node, "status": "error" }));
        let good = json!({ "unique_id": format!("model.shop.ok_{step}"), "status": "success", "message": "OK" });
        json!({ "run_results.json": { "args": { "step": step }, "results": failed.chain([good]).collect::<Vec<_>>() } })
    };
    let files = case["files"].as_object().unwrap();
    let files: Map<String, Value> = files.iter().map(|(step, nodes)| (step.clone(), file(step, nodes))).collect();
    let ctx = Harness::new();
    let script = json!({ "job": case["job"], "run": run, "files": files });
    ctx.world(|world| world.script_dbt_job(JOB.parse().unwrap(), &script));
    ctx
}

fn line(case: &Value) -> Vec<String> {
    let mut line = vec![JOB.to_owned()];
    let overrides = &case["overrides"];
    for step in overrides["steps_override"].as_array().into_iter().flatten() {
        line.extend(["--step".to_owned(), step.as_str().unwrap().to_owned()]);
    }
    line.extend(overrides["generate_docs_override"].as_bool().map(|docs| format!("--generate-docs={docs}")));
    line
}

async fn start(ctx: &Harness, line: &[String]) -> Outcome {
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    ctx.run(run::run, &line).await.expect("nobody kills it")
}

/// The expectations of the case that were not met.
fn wrong(case: &Value, outcome: &Outcome) -> Vec<String> {
    let expect = &case["expect"];
    let exit = if case["run"]["status"] == 20 { 3 } else { 0 };
    let nodes: Vec<&Value> = outcome.data["failed_nodes"].as_array().unwrap().iter().map(|n| &n["unique_id"]).collect();
    let mut wrong = Vec::new();
    let mut check = |what: &str, seen: Value, wanted: Value| {
        if seen != wanted {
            wrong.push(format!("{what}: {seen}, not {wanted}"));
        }
    };
    check("exit", json!(outcome.exit), json!(exit));
    let step = outcome.data["failed_step"].get("index").cloned().unwrap_or_default();
    check("step", step, expect["step"].clone());
    check("nodes", json!(nodes), expect["nodes"].clone());
    for text in expect["says"].as_array().unwrap() {
        let text = text.as_str().unwrap();
        check(text, json!(outcome.failure.contains(text)), json!(true));
    }
    wrong
}

#[tokio::test(start_paused = true)]
async fn logs_of_any_length_hide_neither_the_step_nor_its_models() {
    let log = "06:00:00 \u{1b}[31mbuilding\u{1b}[0m ä😀\n".repeat(300_000) + "Compilation Error in model orders\n";
    let (mut good, mut total) = (0, 0);
    for (files, says) in
        [(json!({}), "Compilation Error in model orders"), (json!({ "1": ["model.shop.orders"] }), "model orders")]
    {
        let case = json!({
            "job": { "execute_steps": ["dbt build"] }, "overrides": {}, "run": { "status": 20 },
            "steps": [["Invoke dbt with `dbt build`", 20, log]], "files": files,
        });
        let outcome = start(&ctx(&case), &line(&case)).await;
        total += 1;
        good += usize::from(outcome.failure.contains(says) && outcome.data["failed_step"]["index"] == 1);
    }
    crate::sim::say(&format!("failures behind logs beyond the cap: {good} of {total}"));
    assert_eq!(good, total);
    let fetched = async |rule: &str| {
        let ctx = Harness::new();
        ctx.world(|world| world.add_fault(crate::sandbox::FaultRule::parse(rule).unwrap()));
        let outcome = start(&ctx, &["222223".to_owned()]).await;
        assert_eq!(outcome.exit, 3, "{outcome:?}");
        ctx.take_log().iter().filter(|seen| seen.operation == "dbt:runs/artifacts/get").count()
    };
    assert_eq!(fetched("dbt:runs/artifacts/get=huge,times=forever").await, 1, "what is too large is asked for once");
}

#[tokio::test(start_paused = true)]
async fn each_command_tells_of_each_end_as_the_cases_say() {
    let (mut good, mut total, mut all_wrong) = (0, 0, Vec::new());
    for case in cases() {
        let name = case["name"].as_str().unwrap();
        let expect = &case["expect"];
        let mut take = |command: &str, wrong: Vec<String>| {
            total += 1;
            good += usize::from(wrong.is_empty());
            all_wrong.extend(wrong.iter().map(|wrong| format!("{name} ({command}): {wrong}")));
        };

        let bare = ctx(&case);
        let outcome = start(&bare, &line(&case)).await;
        let request = bare.take_log().iter().filter(|seen| seen.operation == "dbt:runs/artifacts/get").count();
        let mut of_run = wrong(&case, &outcome);
        if request as u64 > expect["asks"].as_u64().unwrap_or(6) {
            of_run.push(format!("it asks {request} times for files"));
        }
        take("run", of_run);

        let run = outcome.data["run_id"].to_string();
        let outcome = bare.run(watch::run, &[run.trim_matches('"')]).await.unwrap();
        take("watch", wrong(&case, &outcome));

        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("files");
        let with = |flag: &str, path: &std::path::Path| {
            [line(&case), vec![flag.to_owned(), path.to_str().unwrap().to_owned()]].concat()
        };
        let outcome = start(&ctx(&case), &with("--artifacts", &folder)).await;
        let mut of_files = wrong(&case, &outcome);
        let results = std::fs::read_to_string(folder.join("run_results.json")).unwrap_or_default();
        let results: Value = serde_json::from_str(&results).unwrap_or_default();
        let step = results["args"]["step"].as_str().and_then(|step| step.parse::<u64>().ok());
        if json!(step) != expect["counts"] {
            of_files.push(format!("it fetches the results of step {step:?}"));
        }
        take("--artifacts", of_files);

        let kept: std::cell::RefCell<Option<run::Results>> = std::cell::RefCell::default();
        let words = with("--junit", &home.path().join("junit.xml"));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let junit = ctx(&case);
        let outcome = junit
            .run(
                async |args, ctx: &crate::commands::CommandContext| {
                    kept.replace(Some(ctx.results.clone()));
                    run::run(args, ctx).await
                },
                &words,
            )
            .await
            .unwrap();
        let mut of_junit = wrong(&case, &outcome);
        let run = outcome.data["run_id"].to_string().trim_matches('"').parse().unwrap();
        let cases = kept.take().unwrap().cases(run, true, &str::to_owned);
        let steps = cases.iter().filter_map(|case| case.name.strip_prefix("ok_")?.parse::<u64>().ok());
        let steps: BTreeSet<u64> = steps.collect();
        if json!(steps) != expect["junit"] {
            of_junit.push(format!("--junit has the results of {steps:?}"));
        }
        take("--junit", of_junit);
    }
    crate::sim::say(&format!("how runs end, told by the commands: {good} of {total}"));
    assert!(all_wrong.is_empty() && total > 100, "{}", all_wrong.join("\n"));
}
