//! The commands in the docs: each is valid, and the steps of the guide work.

use std::process::Command;

use crate::arguments::words;
use crate::harness::Site;

const GUIDE: &str = include_str!("../../docs/guide.md");
const PAGES: [(&str, &str); 8] = [
    ("README.md", include_str!("../../README.md")),
    ("install.md", include_str!("../../docs/install.md")),
    ("credentials.md", include_str!("../../docs/credentials.md")),
    ("guide.md", GUIDE),
    ("guide.ru.md", include_str!("../../docs/guide.ru.md")),
    ("ci.md", include_str!("../../docs/ci.md")),
    ("notebook.md", include_str!("../../docs/notebook.md")),
    ("security.md", include_str!("../../docs/security.md")),
];

/// The commands in indented blocks.
fn blocks(page: &str) -> Vec<&str> {
    page.lines().filter_map(|line| line.strip_prefix("    dbtrigger ")).collect()
}

#[test]
fn the_guide_can_be_walked_and_both_languages_type_the_same() {
    let site = Site::with(|options| options.speed = 300.0);
    site.make_workflow("Daily load");
    let typed = blocks(GUIDE);
    assert!(typed.len() >= 9, "{typed:?}");
    for line in &typed {
        let arguments = words(line);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let _ = site.run(&arguments).ends(0);
    }
    let [.., (_, russian), _, _, _] = PAGES;
    assert_eq!(blocks(russian), typed);
}

#[test]
fn every_command_of_every_page_is_one_of_the_program() {
    let mut counted = 0;
    for (name, page) in PAGES {
        for line in commands(page) {
            let arguments = words(&line);
            // With `--help`, unknown arguments are reported, but missing ones are not.
            let output =
                Command::new(env!("CARGO_BIN_EXE_dbtrigger")).args(arguments).arg("--help").env_clear().output();
            let output = output.unwrap();
            assert!(output.status.success(), "{name}: dbtrigger {line}\n{}", String::from_utf8_lossy(&output.stderr));
            counted += 1;
        }
    }
    assert!(counted >= 60, "{counted}");
}

/// The text of a page's blocks of this language.
fn fenced<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let begin = format!("```{language}\n");
    page.split(&begin).skip(1).map(|behind| behind.split("\n```").next().unwrap()).collect()
}

#[test]
fn every_block_of_yaml_is_yaml() {
    let mut counted = 0;
    for (name, page) in PAGES {
        for block in fenced(page, "yaml") {
            let read = serde_yaml::from_str::<serde_json::Value>(block);
            assert!(read.as_ref().is_ok_and(serde_json::Value::is_object), "{name}: {read:?}\n{block}");
            counted += 1;
        }
    }
    assert!(counted >= 3, "{counted}");
}

#[test]
fn the_outcome_of_the_azure_pipeline_says_the_run_where_there_is_one_and_never_fails() {
    let pipelines = PAGES.iter().flat_map(|(_, page)| fenced(page, "yaml"));
    let steps = pipelines
        .filter_map(|block| serde_yaml::from_str::<serde_json::Value>(block).unwrap()["steps"].as_array().cloned());
    let outcome = steps.flatten().find(|step| step["name"] == "outcome").unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (document, run) in [
        (Some(r#"{"ok": true, "data": {"run_id": "4242"}}"#), "4242"),
        (Some(r#"{"ok": false, "data": {"run_id": "4242"}, "error": {"code": "run-failed"}}"#), "4242"),
        (Some(r#"{"ok": false, "data": {"run_id": null}, "error": {"code": "no-answer"}}"#), ""),
        (Some(r#"{"ok": false, "error": {"code": "usage"}}"#), ""),
        (Some(""), ""),
        (None, ""),
    ] {
        let _ = std::fs::remove_file(folder.path().join("dbt.json"));
        if let Some(document) = document {
            std::fs::write(folder.path().join("dbt.json"), document).unwrap();
        }
        // As the service's agent runs it.
        let mut bash = Command::new("bash");
        bash.args(["--noprofile", "--norc", "-c", outcome["script"].as_str().unwrap()]).current_dir(folder.path());
        let output = bash.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said, format!("##vso[task.setvariable variable=dbtRunId;isOutput=true]{run}\n"), "{document:?}");
        assert!(output.status.success() && output.stderr.is_empty(), "{document:?}: {output:?}");
    }
}

/// The commands in blocks, in pipeline lines, continued over lines that begin with a flag, and in backticks.
fn commands(page: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in page.lines() {
        let bare = line
            .trim_start()
            .trim_start_matches("- ")
            .trim_start_matches("run: ")
            .trim_start_matches("$ ")
            .trim_start_matches("exec ");
        if let Some(command) = bare.strip_prefix("dbtrigger ") {
            found.push(command.to_owned());
            goes_on = true;
        } else if let Some(last) = found.last_mut().filter(|_| goes_on && bare.starts_with("--")) {
            *last += " ";
            *last += bare;
        } else {
            goes_on = false;
            let spans = line.split('`').skip(1).step_by(2);
            found.extend(spans.filter_map(|span| span.strip_prefix("dbtrigger ")).map(ToOwned::to_owned));
        }
    }
    found.into_iter().map(|command| plain(&command)).collect()
}

/// Without what a shell or a CI service adds or removes.
fn plain(command: &str) -> String {
    let mut plain = String::new();
    let end = [" # ", " > ", " &", "  #"].iter().filter_map(|sign| command.find(sign)).min();
    let mut rest = &command[..end.unwrap_or(command.len())];
    while let Some((before, inside)) = rest.split_once("${{") {
        plain += before;
        plain += "value";
        rest = inside.split_once("}}").map_or("", |(_, behind)| behind);
    }
    plain += rest;
    plain.replace('"', "'").replace("COMMAND", "run")
}
