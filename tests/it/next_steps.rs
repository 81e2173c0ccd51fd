//! The form of next steps, on each recorded screen and in each example of the reference.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::arguments::words;

fn pages(folder: &str, ending: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(folder);
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|file| file.extension().is_some_and(|found| found == ending))
        .map(|file| (file.clone(), std::fs::read_to_string(&file).unwrap()))
        .collect()
}

/// Whether the command is one of ours, with flags that it has, and can be pasted as it stands.
#[track_caller]
fn can_be_pasted(command: &str, place: &str) {
    let place = format!("{place}: {command}");
    assert!(!command.contains(['<', '>', '`', '…']) && command.matches('\'').count().is_multiple_of(2), "{place}");
    let (variables, line) = command.split_once("dbtrigger ").unwrap();
    assert!(variables.split_whitespace().all(|word| word.contains('=')), "{place}");
    let output = Command::new(env!("CARGO_BIN_EXE_dbtrigger")).args(words(line)).arg("--help").env_clear().output();
    let output = output.unwrap();
    assert!(output.status.success(), "{place}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// The command of a next step, behind its label.
fn command(step: &str) -> Option<(bool, &str)> {
    let is_command = |text: &str| {
        let mut words = text.split(' ').skip_while(|word| word.contains('=') && !word.starts_with('-'));
        words.next() == Some("dbtrigger")
    };
    if is_command(step) {
        return Some((false, step));
    }
    let (_, behind) = step.split_once(": ")?;
    is_command(behind).then_some((true, behind))
}

#[test]
fn on_a_screen_they_come_last_have_labels_where_there_are_several_and_can_be_pasted() {
    let mut counted = 0;
    for (file, text) in pages("screens", "txt") {
        for screen in text.split("\n# ") {
            let place = format!("{}: {}", file.display(), screen.lines().next().unwrap_or_default());
            assert!(!screen.contains("Next:") && !screen.contains("next: run `"), "{place}");
            let lines: Vec<&str> = screen.trim_end().lines().collect();
            let (exit, shown) = lines.split_last().unwrap();
            // A wrapped line goes on behind four spaces.
            let shown = shown.join("\n").replace("\n    ", " ");
            let mut steps: Vec<&str> = shown.lines().rev().map_while(|line| line.strip_prefix("next: ")).collect();
            steps.reverse();
            // Without an answer that would be lost there is nothing to go on with; help names commands in its text.
            let last = shown.lines().last().unwrap_or_default();
            let needs_none =
                *exit == "[exit 0]" || last.starts_with("Canceled.") || last.ends_with("`dbtrigger setup`.");
            assert!(!steps.is_empty() || needs_none, "{place}: no next step");
            for step in &steps {
                if let Some((labelled, command)) = command(step) {
                    assert!(labelled || steps.len() == 1, "{place}: {step}");
                    can_be_pasted(command, &place);
                    counted += 1;
                }
            }
        }
    }
    assert!(counted > 10, "{counted}");
}

/// Each hint below this value.
fn hints<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field.as_array() {
                    Some(items) if name == "hints" => found.extend(items),
                    Some(items) if name == "next" => found.extend(items.iter().filter(|item| item.is_object())),
                    Some(_) | None => hints(field, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| hints(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn in_a_document_each_has_a_text_and_a_command_or_null() {
    let mut counted = 0;
    for (file, text) in pages("reference", "md") {
        for block in text.split("```json\n").skip(1) {
            let block = block.split("\n```").next().unwrap();
            let document: Value = serde_json::from_str(block).unwrap();
            let mut all = Vec::new();
            hints(&document, &mut all);
            for hint in all {
                let fields: Vec<&String> = hint.as_object().unwrap().keys().collect();
                assert!(fields.len() == 2 && hint["text"].is_string(), "{hint}");
                if let Some(command) = hint["command"].as_str() {
                    can_be_pasted(command, &file.display().to_string());
                    counted += 1;
                }
            }
        }
    }
    assert!(counted > 5, "{counted}");
}
