//! Checks the dependencies between modules: reads the sources and fails on one that points the wrong way.

use std::path::{Path, PathBuf};

/// Each module with the modules it may use. `docs/architecture.md` has the same in words.
const MAY_USE: [(&str, &str); 27] = [
    ("context", "keyring placeholder"),
    ("document", ""),
    ("durations", ""),
    ("events", "line"),
    ("keyring", "secret"),
    ("line", ""),
    ("nearest", ""),
    ("placeholder", ""),
    ("questions", ""),
    ("schedule", ""),
    ("secret", "placeholder"),
    ("sandbox", ""),
    ("text", ""),
    ("yaml", ""),
    ("origin", "secret"),
    ("notebook", "origin text"),
    ("http", "context durations events origin secret"),
    ("dbt", "http origin"),
    ("databricks", "http secret"),
    ("runs", "context databricks dbt events http text"),
    ("failure", "dbt document http line questions runs"),
    ("ui", "document durations events failure line questions secret text"),
    ("credentials", "context dbt durations failure http keyring nearest origin placeholder questions secret yaml"),
    ("spec", "credentials databricks dbt failure notebook origin schedule"),
    ("engine", "databricks document durations failure http line notebook origin secret spec text"),
    (
        "commands",
        "context credentials databricks dbt document durations engine events failure http keyring line nearest notebook origin questions runs sandbox schedule secret spec text",
    ),
    (
        "app",
        "commands context document credentials events failure http line nearest placeholder questions secret text ui",
    ),
];

fn sources(module: &str) -> Vec<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = vec![source.join(format!("{module}.rs"))];
    let mut folders = vec![source.join(module)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    // Tests are next to their code and may use any module.
    found.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        path.is_file()
            && !name.contains("tests")
            && path.components().all(|part| part.as_os_str() != "tests")
            && path.extension().is_some_and(|extension| extension == "rs")
    });
    found
}

#[test]
fn modules_use_only_lower_layers() {
    let mut wrong = Vec::new();
    for (module, may_use) in MAY_USE {
        let files = sources(module);
        assert!(!files.is_empty(), "module {module} has no file");
        for path in files {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            let others = MAY_USE.iter().map(|(other, _)| *other).filter(|other| *other != module);
            for other in others.filter(|other| !may_use.split(' ').any(|name| name == *other)) {
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
    for (module, _) in MAY_USE {
        for path in sources(module) {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            if module != "http" && code.contains("reqwest::") {
                wrong.push(format!("{} opens connections", path.display()));
            }
            // `context` only asks whether stderr is a terminal.
            let writes = ["io::stdout()", "io::stderr()"].iter().any(|stream| code.contains(stream));
            if writes && !["ui", "context"].contains(&module) {
                wrong.push(format!("{} writes to a stream", path.display()));
            }
            if !["http", "engine", "runs"].contains(&module) && code.contains(".once(") && code.contains("Writer") {
                wrong.push(format!("{} sends what must not be repeated", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_words_of_services_are_looked_at_in_one_table() {
    let mut wrong = Vec::new();
    for (module, _) in MAY_USE.iter().filter(|(module, _)| *module != "sandbox") {
        for path in sources(module) {
            // Only these two match the text of a service's errors.
            if path.ends_with("http/refusal.rs") || path.ends_with("http/error.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            let asks = [
                "contains(\"",
                "contains(&",
                "starts_with(\"",
                "ends_with(\"",
                "find(\"",
                "to_lowercase(",
                "to_ascii_lowercase(",
            ];
            if asks.iter().any(|ask| code.contains(&format!("message.{ask}"))) {
                wrong.push(format!("{} searches what a service says", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
