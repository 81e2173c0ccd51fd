//! Compares `docs/reference/` with the program. `UPDATE_REFERENCE=1 cargo test --test it reference` updates it.

mod examples;
mod fields;
mod meanings;

#[path = "../../../src/context/variables.rs"]
mod variables;

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The first line of each page.
const MADE: &str =
    "<!-- Made from the program by `UPDATE_REFERENCE=1 cargo test --test it reference`; do not edit. -->\n\n";

/// Writes the page, or compares it with the existing one.
#[track_caller]
fn page(name: &str, text: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference");
    let text = format!("{MADE}{}\n", text.trim_end());
    if updating() {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), text).unwrap();
        return;
    }
    let there = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    if there == text {
        return;
    }
    let (there, now): (Vec<&str>, Vec<&str>) = (there.lines().collect(), text.lines().collect());
    let at = (0..=now.len()).find(|at| there.get(*at) != now.get(*at)).unwrap_or_default();
    panic!(
        "docs/reference/{name} is not what the program says, first in line {}:\n  there: {}\n  now:   {}\nrun: UPDATE_REFERENCE=1 cargo test --test it reference",
        at + 1,
        there.get(at).unwrap_or(&"(the end)"),
        now.get(at).unwrap_or(&"(the end)")
    );
}

#[expect(clippy::disallowed_methods, reason = "the one switch of this test")]
pub(crate) fn updating() -> bool {
    std::env::var_os("UPDATE_REFERENCE").is_some()
}

/// What the program prints in an empty environment.
fn printed(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_dbtrigger")).args(arguments).env_clear().output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The `data` of `explain`.
fn explained() -> Value {
    let document: Value = serde_json::from_str(&printed(&["explain", "-o", "json"])).unwrap();
    document["data"].clone()
}

fn exit_code(code: &Value) -> String {
    let code = code["exit_code"].as_u64().unwrap();
    if code > 128 { "128+n".to_owned() } else { code.to_string() }
}

#[test]
fn reference_of_commands() {
    let mut text =
        "# Commands\n\nWhat `--help` prints. The global options are listed once, under `dbtrigger`.\n\n".to_owned();
    let mut block = |title: &str, arguments: &[&str]| {
        let help = printed(arguments);
        let own = match help.split_once("\nGlobal options:\n") {
            Some((own, globals)) if title != "dbtrigger" => {
                let after = globals.split_once("[env: DBT_CLOUD_ACCOUNT_ID]\n").map_or("", |(_, after)| after);
                [own, after].concat()
            }
            _ => help,
        };
        text += &["## ", title, "\n\n```text\n", own.trim_end(), "\n```\n\n"].concat();
    };
    block("dbtrigger", &["--help"]);
    let whole = crate::arguments::whole_commands();
    for command in crate::arguments::commands() {
        block(&command, &[&command, "--help"]);
        for action in whole.iter().filter(|whole| whole.starts_with(&format!("{command} "))) {
            let words: Vec<&str> = action.split(' ').chain(["--help"]).collect();
            block(action, &words);
        }
    }
    page("commands.md", &text);
}

#[test]
fn reference_of_the_environment() {
    let mut text = "# Environment variables\n\nEvery variable that dbtrigger reads. An empty one counts as unset. Flags take precedence.\n".to_owned();
    for (title, group) in variables::VARIABLES {
        text += &["\n## ", title, "\n\n| Variable | Meaning |\n|---|---|\n"].concat();
        for (name, says) in group {
            text += &["| `", name, "` | ", says, " |\n"].concat();
        }
    }
    page("environment.md", &text);
}

#[test]
fn reference_of_exit_codes() {
    let data = explained();
    let mut text = "# Exit codes\n\nFor details, run `dbtrigger explain CODE`.\n\n| Exit code | Meaning | Error codes |\n|---|---|---|\n".to_owned();
    for exit in data["exit_codes"].as_array().unwrap() {
        let codes = data["codes"].as_array().unwrap().iter().filter(|code| code["exit_code"] == exit["exit_code"]);
        let names = codes.map(|code| code["code"].as_str().unwrap());
        let links: Vec<String> = names.map(|name| format!("[`{name}`](errors.md#{name})")).collect();
        text += &["| ", &exit_code(exit), " | ", exit["means"].as_str().unwrap(), " | ", &links.join(", "), " |\n"]
            .concat();
    }
    page("exit-codes.md", &text);
}

#[test]
fn reference_of_errors() {
    let data = explained();
    let mut text = "# Error codes\n\nEvery error ends its first line with its code in brackets; in JSON it is `error.code`. `dbtrigger explain CODE` prints\nthe same.\n".to_owned();
    for code in data["codes"].as_array().unwrap() {
        let word = |name: &str| code[name].as_str().unwrap().to_owned();
        let list = |name: &str| {
            let lines = code[name].as_array().unwrap().iter().map(|line| format!("- {}\n", line.as_str().unwrap()));
            lines.collect::<Vec<_>>().concat()
        };
        let section = format!(
            "\n## {}\n\nExit code {}. {}\n\nWhy it happens:\n\n{}\nWhat to do:\n\n{}\n```text\n$ {}\n{}\n```\n",
            word("code"),
            exit_code(code),
            word("means"),
            list("why"),
            list("what_to_do"),
            code["example"]["typed"].as_str().unwrap(),
            code["example"]["comes"].as_str().unwrap()
        );
        text += &section;
    }
    page("errors.md", &text);
}

/// The fields that are numbers in documents. An ID is a string, since not every reader has 64-bit numbers.
const NUMBERS: [&str; 18] = [
    "attempt",
    "count",
    "duration_seconds",
    "exit_code",
    "failed",
    "failures",
    "index",
    "ok",
    "queued_before",
    "repair",
    "repairs",
    "sends",
    "skipped",
    "status_code",
    "succeeded",
    "total",
    "version",
    "warning",
];

#[test]
#[expect(clippy::print_stdout, reason = "the line is what the test is for")]
fn reference_of_json_documents() {
    let mut shown = examples::all();
    let odd = |example: &&examples::Example| {
        fields::numbers(&example.document).into_iter().find(|name| !NUMBERS.contains(name)).map(ToOwned::to_owned)
    };
    let wrong: Vec<_> = shown.iter().filter_map(|example| Some((&example.typed, odd(&example)?))).collect();
    println!("documents without an id that is a number: {} of {}", shown.len() - wrong.len(), shown.len());
    assert!(wrong.is_empty(), "an id is a string, and a new number belongs into NUMBERS: {wrong:?}");
    let order = crate::arguments::commands();
    shown.sort_by_key(|example| {
        let command = example.heading.split(' ').next().unwrap();
        // What all commands may print comes first.
        (order.iter().position(|known| known == command), example.heading)
    });
    let mut text = "# JSON documents\n\n`-o json` prints one document on stdout. `ok` is false exactly when `error` is present; `data` is present whenever anything\nis known, also alongside `error`. While `version` is 1, fields may be added but not removed or changed. Errors are printed\nas text on stderr too. IDs are strings: jq and JavaScript round numbers of their length. Arguments accept an ID with or\nwithout the quotes.\n\nThe examples were printed by dbtrigger against its own sandbox, with fixed times, ports, and keys, and shortened lists. Types\nand presence of fields are those of these examples.\n".to_owned();
    let mut unexplained = Vec::new();
    for command in crate::arguments::whole_commands() {
        let known = shown.iter().any(|example| example.heading == command);
        assert!(known, "tests/it/reference/examples.rs has no example of {command}");
    }
    for mine in shown.chunk_by(|one, next| one.heading == next.heading) {
        let heading = mine[0].heading;
        text += &["\n## ", heading, "\n"].concat();
        for example in mine {
            let document = serde_json::to_string_pretty(&fields::normal(&example.document)).unwrap();
            text += &["\n    ", &example.typed, "\n\n```json\n", &document, "\n```\n"].concat();
        }
        text += "\n| Field | Type | Present | Meaning |\n|---|---|---|---|\n";
        for field in fields::of(mine.iter().map(|example| &example.document)) {
            let meaning = meanings::of(heading, &field.path);
            if meaning.is_none() {
                unexplained.push(format!("{heading}: {}", field.path));
            }
            let there = if field.always { "always" } else { "sometimes" };
            let fields::Field { path, types, always: _ } = &field;
            text += &["| `", path, "` | ", types, " | ", there, " | ", meaning.unwrap_or("–"), " |\n"].concat();
        }
    }
    page("json.md", &text);
    assert!(
        unexplained.is_empty(),
        "say in tests/it/reference/meanings.rs what these are:\n{}",
        unexplained.join("\n")
    );
}
