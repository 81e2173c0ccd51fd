//! Who may use whom: reads the sources and fails on an arrow that points the wrong way.

use std::path::{Path, PathBuf};

/// Rooms, and the rooms of ours that each may not name. `docs/architecture.md` has the same in words.
const FORBIDDEN: [(&str, &[&str]); 12] = [
    (
        "secret",
        &[
            "commands",
            "engine",
            "runs",
            "ui",
            "failure",
            "http",
            "dbt",
            "databricks",
            "credentials",
            "sandbox",
            "app",
            "context",
        ],
    ),
    (
        "events",
        &[
            "commands",
            "engine",
            "runs",
            "ui",
            "failure",
            "http",
            "dbt",
            "databricks",
            "credentials",
            "sandbox",
            "app",
            "context",
            "secret",
        ],
    ),
    (
        "origin",
        &[
            "commands",
            "engine",
            "runs",
            "ui",
            "failure",
            "http",
            "dbt",
            "databricks",
            "credentials",
            "sandbox",
            "app",
            "context",
        ],
    ),
    (
        "http",
        &[
            "commands",
            "engine",
            "runs",
            "ui",
            "failure",
            "dbt",
            "databricks",
            "credentials",
            "sandbox",
            "app",
            "notebook",
        ],
    ),
    (
        "dbt",
        &["commands", "engine", "runs", "ui", "failure", "databricks", "credentials", "sandbox", "app", "notebook"],
    ),
    (
        "databricks",
        &["commands", "engine", "runs", "ui", "failure", "dbt", "credentials", "sandbox", "app", "notebook"],
    ),
    (
        "notebook",
        &["commands", "engine", "runs", "ui", "failure", "http", "dbt", "databricks", "credentials", "sandbox", "app"],
    ),
    (
        "schedule",
        &["commands", "engine", "runs", "ui", "failure", "http", "dbt", "databricks", "credentials", "sandbox", "app"],
    ),
    ("engine", &["commands", "runs", "ui", "credentials", "sandbox", "app"]),
    ("runs", &["commands", "engine", "ui", "credentials", "sandbox", "app", "notebook"]),
    ("ui", &["commands", "engine", "runs", "http", "dbt", "databricks", "credentials", "sandbox", "app"]),
    (
        "sandbox",
        &[
            "commands",
            "engine",
            "runs",
            "ui",
            "failure",
            "http",
            "dbt",
            "databricks",
            "credentials",
            "app",
            "context",
            "events",
            "secret",
            "origin",
        ],
    ),
];

fn sources(room: &str) -> Vec<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = vec![source.join(format!("{room}.rs"))];
    let mut folders = vec![source.join(room)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    // Tests stand beside their code and may drive one room against another.
    found.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        path.is_file() && !name.contains("tests") && path.extension().is_some_and(|extension| extension == "rs")
    });
    found
}

#[test]
fn arrows_between_rooms_point_down() {
    let mut wrong = Vec::new();
    for (room, forbidden) in FORBIDDEN {
        let files = sources(room);
        assert!(!files.is_empty(), "room {room} has no file");
        for path in files {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            for other in forbidden {
                if code.contains(&format!("crate::{other}::")) || code.contains(&format!("crate::{other};")) {
                    wrong.push(format!("{} uses {other}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_printer_writes_to_a_stream_and_only_http_opens_a_connection() {
    let mut wrong = Vec::new();
    for (room, _) in FORBIDDEN {
        for path in sources(room) {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            if room != "http" && code.contains("reqwest::") {
                wrong.push(format!("{} opens connections", path.display()));
            }
            if room != "ui" && (code.contains("io::stdout()") || code.contains("io::stderr()")) {
                wrong.push(format!("{} writes to a stream", path.display()));
            }
            if !["http", "engine", "runs"].contains(&room) && code.contains(".once(") && code.contains("Writer") {
                wrong.push(format!("{} sends what must not be repeated", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
