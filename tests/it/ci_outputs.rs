//! The built program's output for GitHub Actions.

use std::path::Path;
use std::process::{Child, Command};

use serde_json::Value;

use crate::harness::{Output, Site};

/// The program as a step of GitHub Actions, with its two files in the home folder.
fn step(site: &Site, arguments: &[&str]) -> Child {
    let mut command = site.command(arguments);
    command.env("GITHUB_OUTPUT", site.home.path().join("output"));
    command.env("GITHUB_STEP_SUMMARY", site.home.path().join("summary.md")).spawn().unwrap()
}

fn run(site: &Site, arguments: &[&str]) -> Output {
    Site::finish(arguments, step(site, arguments))
}

fn read(site: &Site, name: &str) -> String {
    let path: &Path = site.home.path();
    std::fs::read_to_string(path.join(name)).unwrap()
}

fn value(outputs: &str, name: &str) -> String {
    let lines: Vec<&str> = outputs.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect();
    assert_eq!(lines.len(), 1, "{name} in {outputs}");
    lines[0].to_owned()
}

#[test]
fn a_failed_run_is_there_with_link_and_models_and_its_messages_only_if_wished_for() {
    let site = Site::with(|options| options.speed = 300.0);
    let document = run(&site, &["run", "222223", "-o", "json"]).ends(3).json();
    let outputs = read(&site, "output");
    assert_eq!(value(&outputs, "run_id"), document["data"]["run_id"]);
    assert_eq!(value(&outputs, "run_url"), document["data"]["run_url"].as_str().unwrap());
    assert_eq!((value(&outputs, "status").as_str(), value(&outputs, "exit_code").as_str()), ("ERROR", "3"));
    let brief = read(&site, "summary.md");
    assert!(brief.contains("model orders") && !brief.contains("- **"), "{brief}");
    let _ = run(&site, &["run", "222223", "--summary-detail"]).ends(3);
    let both = read(&site, "summary.md");
    assert!(both.starts_with(&brief) && both[brief.len()..].contains("- **model orders**: "), "{both}");
}

#[test]
fn several_runs_and_a_job_that_is_not_there_are_told() {
    let site = Site::with(|options| options.speed = 300.0);
    let _ = run(&site, &["run", "222222", "222223"]).ends(3);
    let runs: Value = serde_json::from_str(&value(&read(&site, "output"), "runs")).unwrap();
    assert_eq!((&runs[0]["exit_code"], &runs[1]["exit_code"]), (&0.into(), &3.into()), "{runs}");
    let site = Site::new();
    let _ = run(&site, &["run", "No such job"]).ends(6);
    assert_eq!(read(&site, "output"), "run_id=\nrun_url=\nstatus=\nexit_code=6\n");
    assert!(read(&site, "summary.md").contains("| No such job |  | not-found |"), "{}", read(&site, "summary.md"));
    // Only `run` has such outputs.
    let site = Site::new();
    let _ = run(&site, &["jobs"]).ends(0);
    assert!(!site.home.path().join("output").exists());
}

#[test]
fn an_interrupted_run_is_told_whether_it_goes_on_or_was_cancelled() {
    for (wish, status) in [("leave", None), ("cancel", Some("CANCELLED"))] {
        let site = Site::with(|options| options.speed = 20.0);
        let arguments = ["run", "222222", "--on-interrupt", wish];
        let child = step(&site, &arguments);
        site.until_asked("dbt:runs/get", 2);
        assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
        let _ = Site::finish(&arguments, child).ends(143);
        let outputs = read(&site, "output");
        assert_eq!(value(&outputs, "exit_code"), "143");
        let page = format!("/runs/{}/", value(&outputs, "run_id"));
        assert!(value(&outputs, "run_url").ends_with(&page), "{outputs}");
        assert!(status.is_none_or(|status| value(&outputs, "status") == status), "{outputs}");
        let summary = read(&site, "summary.md");
        assert!(summary.contains("(interrupted)") && summary.contains(&value(&outputs, "run_url")), "{summary}");
    }
}

#[test]
fn a_file_that_cannot_be_written_is_a_warning_and_the_outcome_is_the_runs() {
    let site = Site::with(|options| options.speed = 300.0);
    for (job, exit) in [("222222", 0), ("222223", 3)] {
        let mut command = site.command(&["run", job, "-o", "json"]);
        let child = command.env("GITHUB_OUTPUT", site.home.path().join("no/such")).spawn().unwrap();
        let output = Site::finish(&["run", job], child).ends(exit);
        assert!(output.stderr.contains("warning: cannot write the outputs of this step to "), "{output}");
        assert_eq!(output.json()["ok"], exit == 0, "{output}");
    }
}
