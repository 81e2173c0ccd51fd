//! Documents that the program prints with its sandbox.

use std::io::{BufRead as _, BufReader};
use std::process::Command;

use serde_json::Value;

use crate::harness::{Site, id};

/// The command line, and the resulting document.
pub(crate) struct Example {
    /// The command and the flag that changes its documents, or `errors` for what every command may print.
    pub(crate) heading: &'static str,
    pub(crate) typed: String,
    pub(crate) document: Value,
}

/// Heading, arguments after the command, and exit code. `RUN` is the Databricks run of the previous example,
/// `WAITING` a queued dbt run.
const LINES: [(&str, &[&str], i32); 45] = [
    ("errors", &["jbos"], 2),
    ("errors", &["run", "Nighly build"], 6),
    // Before any run, so that the newest run is always the same.
    ("jobs", &["--project", "Jaffle Shop"], 0),
    ("auth status", &["status"], 0),
    ("setup", &["--job", "222222", "--schedule", "0 0 6 * * ?", "--dry-run"], 0),
    ("init-secrets", &["--grant", "data-engineers"], 0),
    ("init-secrets", &["--dry-run"], 0),
    ("deploy-notebook", &[], 0),
    ("deploy-notebook", &["--allow-job", "222222", "--dry-run"], 0),
    ("deploy-notebook", &["--scope", "another"], 7),
    ("deploy-notebook", &["--scope", "another", "--dry-run"], 0),
    ("deploy-notebook --print", &["--print"], 0),
    ("create-workflow", &["--job", "222222", "--schedule", "0 0 6 * * ?"], 0),
    ("create-workflow", &["--job", "222223"], 0),
    ("create-workflow", &["--job", "222222", "--override", "git_branch=main", "--dry-run"], 0),
    ("doctor", &["--job", "222222"], 0),
    ("doctor", &["--job", "300001"], 1),
    ("run", &["222222"], 0),
    ("run", &["222223"], 3),
    ("run", &["222224"], 20),
    ("run", &["222225", "--no-wait"], 0),
    ("run with several jobs", &["222222", "222223", "--max-parallel", "1"], 3),
    ("run --workflow", &["--workflow", "dbt: Broken models (222223)"], 3),
    ("run --workflow", &["--workflow", "dbt: Nightly build (222222)"], 0),
    ("watch", &["123456"], 0),
    ("watch", &["123457"], 3),
    ("watch --workflow-run", &["--workflow-run", "RUN"], 0),
    ("cancel", &["WAITING"], 0),
    ("cancel", &["--workflow-run", "RUN"], 0),
    ("runs", &["--limit", "3"], 0),
    ("setup", &["--job", "222225", "--notebook", "/Users/ana@example.com/second", "-y", "--run-now"], 0),
    ("runs --orphans", &["--orphans"], 0),
    ("runs --workflow", &["--workflow", "dbt: Nightly build (222222)"], 0),
    ("workflows", &[], 0),
    ("create-workflow --check", &["--job", "222222", "--check", "--run-now"], 0),
    ("create-workflow --check", &["--job", "222222", "--run-as", "bo@example.com", "--grant-run-as", "--check"], 0),
    ("create-workflow --add-to", &["--job", "222222", "--add-to", "Daily load", "--depends-on", "dbt_222222=load"], 0),
    ("create-workflow --add-to", &["--job", "222222", "--add-to", "Daily load"], 0),
    ("remove", &["--workflow", "dbt: Broken models (222223)", "--dry-run"], 0),
    ("remove", &["--job", "222222", "-y"], 0),
    ("remove", &["--all", "--with-secret", "-y"], 0),
    ("explain", &["not-found"], 0),
    ("explain", &["0"], 0),
    ("completions", &["bash"], 0),
    ("version", &[], 0),
];

/// Runs all of them in one world, in this order.
pub(crate) fn all() -> Vec<Example> {
    let site = Site::with(|options| options.speed = 300.0);
    site.make_workflow("Daily load");
    let (mut run, mut shown) = (String::new(), Vec::new());
    // It has a sandbox of its own.
    let demo = site.command(&["demo", "-o", "json"]).spawn().unwrap();
    for (heading, arguments, exit) in LINES {
        let mut line: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        if heading != "errors" {
            line.extend(heading.split(' ').next().map(ToOwned::to_owned));
            line.rotate_right(1);
        }
        for word in &mut line {
            match word.as_str() {
                "RUN" => word.clone_from(&run),
                "WAITING" => *word = waiting(&site),
                _ => {}
            }
        }
        line.extend(["-o".to_owned(), "json".to_owned()]);
        let words: Vec<&str> = line.iter().map(String::as_str).collect();
        let output = site.run(&words).ends(exit);
        let document = output.json();
        if let Some(error) = document.get("error") {
            assert!(
                output.stderr.contains(&format!(" [{}]\n", error["code"].as_str().unwrap())),
                "{words:?}\n{output}"
            );
        }
        if let Some(id) = document["data"]["workflow_run_id"].as_str() {
            id.clone_into(&mut run);
        }
        let quoted = words.iter().map(|word| if word.contains(' ') { format!("'{word}'") } else { (*word).to_owned() });
        let typed = format!("$ dbtrigger {}", quoted.collect::<Vec<_>>().join(" "));
        shown.push(Example { heading, typed, document });
    }
    let document = Site::finish(&["demo"], demo).ends(0).json();
    shown.push(Example { heading: "demo", typed: "$ dbtrigger demo -o json".to_owned(), document });
    shown.push(sandbox(&site));
    shown.push(over_https());
    shown.extend(with_a_keyring());
    shown
}

/// Starts a run that is queued for long.
fn waiting(site: &Site) -> String {
    let document = site.run(&["run", "222225", "--no-wait", "-o", "json"]).ends(0).json();
    id(&document["data"]["run_id"])
}

/// Hosts that have a certificate, with nothing set up.
fn over_https() -> Example {
    let document = crate::tls::secure().run(&["doctor", "-o", "json"]).ends(1).json();
    Example { heading: "doctor", typed: "$ dbtrigger doctor -o json".to_owned(), document }
}

/// The examples that need a keyring: their files are written and compared by `cargo test --test keyring`, with
/// `UPDATE_REFERENCE=1` for writing.
fn with_a_keyring() -> [Example; 2] {
    [
        (
            "auth login",
            include_str!("auth-login.json"),
            "--dbt-host 127.0.0.1:PORT --dbt-account 51234 --token-file token",
        ),
        ("auth logout", include_str!("auth-logout.json"), "--all"),
    ]
    .map(|(heading, document, flags)| Example {
        heading,
        typed: format!("$ dbtrigger {heading} {flags} -o json"),
        document: serde_json::from_str(document).unwrap(),
    })
}

/// The one that runs until interrupted.
fn sandbox(site: &Site) -> Example {
    let arguments = ["sandbox", "-o", "json"];
    let mut child = site.command(&arguments).spawn().unwrap();
    let line = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let _ = Site::finish(&arguments, child).ends(130);
    let document = serde_json::from_str(&line).unwrap();
    Example { heading: "sandbox", typed: "$ dbtrigger sandbox -o json".to_owned(), document }
}
