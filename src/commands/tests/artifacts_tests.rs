//! `run --artifacts`, end to end against the in-memory sandbox.

use crate::commands::run;
use crate::commands::tests::harness::{Harness, Outcome, id};
use crate::events::RunEvent;
use crate::failure::Code;
use crate::sandbox::FaultRule;

async fn start(ctx: &Harness, line: &[&str]) -> Outcome {
    ctx.run(run::run, line).await.expect("nobody kills it")
}

fn names(folder: &std::path::Path) -> Vec<String> {
    let Ok(listed) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = listed.map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(start_paused = true)]
async fn the_files_of_a_run_are_fetched_of_the_step_that_decides_on_failure_too() {
    for (job, exit) in [("222222", 0), ("222223", 3)] {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("target");
        let outcome = start(&Harness::new(), &[job, "--artifacts", folder.to_str().unwrap()]).await;
        assert_eq!(outcome.exit, exit, "{outcome:?}");
        assert_eq!(names(&folder), ["manifest.json", "run_results.json"], "{}", outcome.said());
        assert_eq!(outcome.data["artifacts"].as_array().map(Vec::len), Some(2), "{outcome:?}");
        let results = std::fs::read_to_string(folder.join("run_results.json")).unwrap();
        let results: serde_json::Value = serde_json::from_str(&results).unwrap();
        // Not of the docs step, which is the last one of job 222223.
        assert_eq!(results["args"]["which"], "build");
    }
    // Each of several runs has a folder named by its ID.
    let home = tempfile::tempdir().unwrap();
    let outcome = start(&Harness::new(), &["222222", "300001", "--artifacts", home.path().to_str().unwrap()]).await;
    let mut runs: Vec<String> = outcome.data["runs"].as_array().unwrap().iter().map(|run| id(&run["run_id"])).collect();
    runs.sort();
    assert_eq!(names(home.path()), runs);
    assert_eq!(names(&home.path().join(&runs[0])), ["manifest.json", "run_results.json"]);
}

#[tokio::test(start_paused = true)]
async fn the_results_of_the_step_that_decides_are_waited_for_and_replaced_by_no_others() {
    // Not uploaded yet; the manifest is requested first.
    for (times, there) in [("3", true), ("forever", false)] {
        let home = tempfile::tempdir().unwrap();
        let ctx = Harness::new();
        let rule = format!("dbt:runs/artifacts/get=status=404,nth=2,times={times}");
        ctx.world(|world| world.add_fault(FaultRule::parse(&rule).unwrap()));
        let outcome = start(&ctx, &["222222", "--artifacts", home.path().to_str().unwrap()]).await;
        let results = std::fs::read_to_string(home.path().join("run_results.json"));
        let asked = ctx.take_log().iter().filter(|seen| seen.operation == "dbt:runs/artifacts/get").count();
        assert!(asked > 4, "{times}: {asked}");
        let missing = &outcome.data["artifacts_missing"];
        if there {
            let results: serde_json::Value = serde_json::from_str(&results.unwrap()).unwrap();
            assert_eq!((&results["args"]["which"], missing), (&"build".into(), &serde_json::json!([])), "{outcome:?}");
        } else {
            assert!(results.is_err() && missing[0]["path"] == "run_results.json", "{outcome:?}");
            assert!(missing[0]["reason"].as_str().is_some_and(|reason| reason.contains("404")), "{outcome:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fetching_takes_no_place_of_a_run_and_no_longer_than_the_time_given_and_a_minute() {
    let home = tempfile::tempdir().unwrap();
    let ctx = Harness::new();
    let rule = "dbt:runs/artifacts/list=hang,times=forever";
    ctx.world(|world| world.add_fault(FaultRule::parse(rule).unwrap()));
    let folder = home.path().to_str().unwrap();
    let line = ["222222", "300001", "--max-parallel", "1", "--timeout", "10m", "--artifacts", folder];
    let outcome = start(&ctx, &line).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    assert!(outcome.took <= std::time::Duration::from_secs(661), "{:?}", outcome.took);
    for run in outcome.data["runs"].as_array().unwrap() {
        assert_eq!(run["artifacts_missing"][0]["path"], serde_json::Value::Null, "{run}");
    }
}

#[tokio::test(start_paused = true)]
async fn files_that_are_not_to_be_had_are_a_warning_and_change_no_outcome() {
    for (rule, path) in [
        ("dbt:runs/artifacts/list=status=403,times=forever", None),
        ("dbt:runs/artifacts/get=status=404,times=forever", Some("manifest.json")),
    ] {
        let home = tempfile::tempdir().unwrap();
        let ctx = Harness::new();
        ctx.world(|world| world.add_fault(FaultRule::parse(rule).unwrap()));
        let outcome = start(&ctx, &["222222", "--artifacts", home.path().to_str().unwrap()]).await;
        assert_eq!(outcome.exit, 0, "{rule}: {outcome:?}");
        let warns = |event: &&RunEvent| matches!(event, RunEvent::ArtifactMissing { path: named, .. } if named.as_deref() == path);
        assert!(outcome.run_events().iter().any(warns), "{rule}: {}", outcome.said());
        assert_eq!(names(home.path()), Vec::<String>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_cannot_be_written_is_refused_before_anything_is_started() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for (folder, jobs) in [(file.path().to_owned(), &["222222"][..]), (file.path().join("x"), &["222222", "300001"])] {
        let ctx = Harness::new();
        let line = [jobs, &["--artifacts", folder.to_str().unwrap()]].concat();
        let outcome = start(&ctx, &line).await;
        assert_eq!((outcome.exit, outcome.code), (2, Some(Code::InvalidInput)), "{outcome:?}");
        assert!(outcome.failure.contains("cannot write to --artifacts"), "{outcome:?}");
        assert_eq!(ctx.take_writes(), Vec::<&str>::new());
    }
    // A command that fails earlier creates no folder.
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("new");
    let outcome = start(&Harness::new(), &["Nighly build", "--artifacts", folder.to_str().unwrap()]).await;
    assert_eq!((outcome.code, folder.exists()), (Some(Code::NotFound), false), "{outcome:?}");
}
