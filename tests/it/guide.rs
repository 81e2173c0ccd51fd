//! The guide's steps with the built program, on the sandbox with the real notebook in a real Python.

use serde_json::Value;

use crate::harness::Site;

/// What the guide's own notebook prints (its sample), one line per change instead of one per poll.
const SAMPLE: [&str; 5] = [
    "job_run_id = ",
    "DbtJobRunStatus.QUEUED",
    "DbtJobRunStatus.STARTING",
    "DbtJobRunStatus.RUNNING",
    "DbtJobRunStatus.SUCCESS",
];

const WORKFLOW: &str = "dbt: Nightly build (222222)";

fn set_up(site: &Site) {
    let _ = site.run(&["init-secrets", "--grant", "data-engineers"]).ends(0);
    let _ = site.run(&["deploy-notebook"]).ends(0);
    let _ = site.run(&["create-workflow", "--job", "222222"]).ends(0);
}

#[test]
fn the_guide_from_the_secret_to_the_notebooks_output() {
    let site = Site::new();
    set_up(&site);
    let run = site.run(&["run", "--workflow", WORKFLOW]).ends(0);
    // The notebook's own output, line by line as in the guide.
    let printed = notebook_output(&site.inspect());
    let lines: Vec<&str> =
        printed.lines().filter(|line| line.starts_with("job_run_id") || line.starts_with("DbtJobRunStatus")).collect();
    assert_eq!(lines.len(), SAMPLE.len(), "{printed}");
    for (line, sample) in lines.iter().zip(SAMPLE) {
        assert!(line.starts_with(sample), "{line} is not {sample}\n{printed}");
    }
    // The same lines are printed at the terminal.
    for line in lines {
        assert!(run.stdout.contains(line), "{line} is missing\n{run}");
    }
    // Watching it later shows the same, and starts nothing.
    let address = run.stdout.lines().find(|line| line.contains("/jobs/") && line.contains("/runs/")).unwrap();
    let watched = site.run(&["watch", address.trim(), "-o", "json"]).ends(0).json();
    assert_eq!(watched["data"]["status"], "SUCCESS", "{watched}");
    assert!(watched["data"]["tasks"][0]["dbt_run_id"].is_string(), "{watched}");
    let world = site.inspect();
    let started: Vec<&Value> = dbt_runs(&world, 222_222);
    assert_eq!(started.len(), 1, "{world}");
}

#[test]
fn each_command_a_second_time_writes_nothing() {
    let site = Site::new();
    set_up(&site);
    for arguments in [
        &["init-secrets", "--grant", "data-engineers"][..],
        &["deploy-notebook"],
        &["create-workflow", "--job", "222222"],
        &["create-workflow", "--job", "222222", "--dry-run"],
    ] {
        let before = (site.requests(), site.inspect());
        let _ = site.run(arguments).ends(0);
        assert_eq!(site.writes(before.0), Vec::<String>::new(), "{arguments:?}");
        assert_eq!(site.inspect(), before.1, "{arguments:?}");
    }
}

#[test]
fn a_dry_run_on_an_empty_workspace_writes_nothing() {
    let site = Site::new();
    let before = site.inspect();
    let _ = site.run(&["init-secrets", "--grant", "data-engineers", "--dry-run"]).ends(0);
    let _ = site.run(&["deploy-notebook", "--dry-run"]).ends(0);
    assert_eq!(site.writes(0), Vec::<String>::new());
    assert_eq!(site.inspect(), before);
}

/// The runs of a job that dbtrigger started: their cause contains the mark.
fn dbt_runs(world: &Value, job: u64) -> Vec<&Value> {
    let runs = world["dbt_runs"].as_array().unwrap();
    runs.iter()
        .filter(|run| run["job_id"] == job && run["cause"].as_str().is_some_and(|cause| cause.contains("[dbtrigger:")))
        .collect()
}

fn notebook_output(world: &Value) -> String {
    let runs = world["job_runs"].as_array().unwrap();
    runs.iter().flat_map(|run| run["tasks"].as_array().unwrap()).filter_map(|task| task["output"].as_str()).collect()
}
