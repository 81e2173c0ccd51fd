//! What the pages tell people to type: it can be typed, and the guide's way leads to its end.

use std::process::Command;

use crate::harness::Site;
use crate::surface::words;

const GUIDE: &str = include_str!("../../docs/guide.md");
const PAGES: [(&str, &str); 7] = [
    ("README.md", include_str!("../../README.md")),
    ("credentials.md", include_str!("../../docs/credentials.md")),
    ("guide.md", GUIDE),
    ("guide.ru.md", include_str!("../../docs/guide.ru.md")),
    ("ci.md", include_str!("../../docs/ci.md")),
    ("notebook.md", include_str!("../../docs/notebook.md")),
    ("security.md", include_str!("../../docs/security.md")),
];

/// The commands that stand alone as a block.
fn blocks(page: &str) -> Vec<&str> {
    page.lines().filter_map(|line| line.strip_prefix("    dbtrigger ")).collect()
}

#[test]
fn the_guide_can_be_walked_and_both_languages_type_the_same() {
    let site = Site::with(|options| options.speed = 600.0);
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
            // With the help asked for, only what is there is looked at, not what is missing.
            let output =
                Command::new(env!("CARGO_BIN_EXE_dbtrigger")).args(arguments).arg("--help").env_clear().output();
            let output = output.unwrap();
            assert!(output.status.success(), "{name}: dbtrigger {line}\n{}", String::from_utf8_lossy(&output.stderr));
            counted += 1;
        }
    }
    assert!(counted >= 60, "{counted}");
}

/// In blocks, in lines of pipelines, continued over lines that begin with a flag, and between backticks.
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

/// Without what a shell or a CI service puts in or takes away.
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
