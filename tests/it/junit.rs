//! The output of `run --junit`, read by an independent XML parser.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{Site, id};

/// The document as JSON: each suite with its attributes and cases, each case with its attributes and elements.
const READ: &str = r"
import json, sys
from xml.etree import ElementTree
root = ElementTree.parse(sys.argv[1]).getroot()
assert root.tag == 'testsuites', root.tag
suites = []
for suite in root:
    assert suite.tag == 'testsuite' and all(case.tag == 'testcase' for case in suite)
    cases = [{**case.attrib, 'parts': {part.tag: {**part.attrib, 'text': part.text} for part in case}} for case in suite]
    suites.append({**suite.attrib, 'cases': cases})
print(json.dumps({**root.attrib, 'suites': suites}))
";

fn read(file: &Path) -> Value {
    let output = Command::new("python3").args(["-c", READ]).arg(file).output().unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    // The counts match the cases.
    let count = |suites: &[Value], element: &str| {
        let cases = suites.iter().flat_map(|suite| suite["cases"].as_array().unwrap());
        cases.filter(|case| element.is_empty() || case["parts"].get(element).is_some()).count().to_string()
    };
    let suites = document["suites"].as_array().unwrap();
    for (name, element) in [("tests", ""), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")] {
        assert_eq!(document[name], count(suites, element), "{text}");
        for suite in suites {
            assert_eq!(suite[name], count(std::slice::from_ref(suite), element), "{text}");
        }
    }
    document
}

fn file(site: &Site) -> PathBuf {
    site.home.path().join("dbt-junit.xml")
}

/// Runs the program with the file and reads what it wrote.
fn run(site: &Site, arguments: &[&str], exit: i32) -> Value {
    let file = file(site);
    let _ = site.run(&[arguments, &["--junit", file.to_str().unwrap()]].concat()).ends(exit);
    read(&file)
}

fn counts(of: &Value) -> [&str; 4] {
    ["tests", "failures", "errors", "skipped"].map(|name| of[name].as_str().unwrap())
}

fn quick() -> Site {
    Site::with(|options| options.speed = 300.0)
}

#[test]
fn a_run_and_its_nodes_are_tests_and_messages_are_there_only_if_wished_for() {
    let site = quick();
    let good = run(&site, &["run", "222222"], 0);
    assert_eq!(counts(&good), ["7", "0", "0", "0"]);
    assert_eq!(
        (&good["suites"][0]["name"], &good["suites"][0]["cases"][0]["name"]),
        (&"dbt job 222222".into(), &"dbt job 222222".into())
    );
    let out = good["suites"][0]["cases"][0]["parts"]["system-out"]["text"].as_str().unwrap();
    assert!(out.contains(": SUCCESS\nhttp"), "{out}");

    let brief = run(&site, &["run", "222223"], 3);
    assert_eq!(counts(&brief), ["7", "1", "2", "1"]);
    let cases = &brief["suites"][0]["cases"];
    let error = &cases[0]["parts"]["error"];
    assert_eq!(error["type"], "run-failed");
    assert!(
        error["message"].as_str().is_some_and(|text| text.contains("failed: ") && text.contains("/runs/")),
        "{error}"
    );
    let orders = &cases[3];
    assert_eq!(
        (&orders["classname"], &orders["name"], &orders["time"]),
        (&"model.jaffle_shop".into(), &"orders".into(), &"1.200".into())
    );
    assert_eq!(orders["parts"]["error"], serde_json::json!({ "type": "error", "message": "error", "text": "error" }));
    assert!(!brief.to_string().contains("UNRESOLVED_COLUMN"), "{brief}");
    let detailed = run(&site, &["run", "222223", "--summary-detail"], 3);
    let message = detailed["suites"][0]["cases"][3]["parts"]["error"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("error: Database Error in model orders") && message.contains("UNRESOLVED_COLUMN"),
        "{message}"
    );
}

#[test]
fn several_jobs_are_suites_of_one_file_and_a_cancelled_run_is_an_error() {
    let site = quick();
    let document = run(&site, &["run", "222222", "222223", "222224"], 3);
    let names: Vec<&Value> = document["suites"].as_array().unwrap().iter().map(|suite| &suite["name"]).collect();
    assert_eq!(names, ["dbt job 222222", "dbt job 222223", "dbt job 222224"]);
    assert_eq!(counts(&document["suites"][0]), ["7", "0", "0", "0"]);
    let cancelled = &document["suites"][2]["cases"][0]["parts"]["error"];
    assert_eq!(cancelled["type"], "run-cancelled");
    assert!(
        cancelled["message"].as_str().is_some_and(|text| text.contains("was canceled: ") && text.contains("/runs/")),
        "{cancelled}"
    );
    let alone = run(&quick(), &["run", "222224"], 20);
    assert_eq!(alone["suites"][0]["cases"][0]["parts"]["error"]["type"], "run-cancelled");
}

#[test]
fn what_goes_on_or_was_not_started_or_interrupted_is_an_error() {
    let site = Site::new();
    let waited = run(&site, &["run", "222225", "--timeout", "3s"], 8);
    let error = &waited["suites"][0]["cases"][0]["parts"]["error"];
    assert_eq!((counts(&waited), &error["type"]), (["1", "0", "1", "0"], &"still-running".into()));
    assert!(
        error["message"].as_str().is_some_and(|text| text.contains("is still ") && text.contains("/runs/")),
        "{error}"
    );
    // A name with every character that is special in XML.
    let hostile = "a ]]> <b x='1'> & \" \u{1}\u{fffe} é";
    let missing = run(&site, &["run", hostile], 6);
    let case = &missing["suites"][0]["cases"][0];
    assert_eq!(case["parts"]["error"]["type"], "not-found", "{missing}");
    assert!(case["name"].as_str().is_some_and(|name| name.starts_with("dbt job a ]]> <b x='1'> & \" ")), "{case}");

    let site = Site::with(|options| options.speed = 20.0);
    let file = file(&site);
    let arguments = ["run", "222222", "--junit", file.to_str().unwrap()];
    let child = site.command(&arguments).spawn().unwrap();
    site.until_asked("dbt:runs/get", 2);
    // A killed program leaves this behind.
    assert_eq!(read(&file)["suites"][0]["cases"][0]["parts"]["error"]["type"], "outcome-unknown");
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let _ = Site::finish(&arguments, child).ends(143);
    assert_eq!(read(&file)["suites"][0]["cases"][0]["parts"]["error"]["type"], "interrupted");
}

#[test]
fn a_file_that_cannot_be_written_is_refused_before_the_start_and_later_is_a_warning() {
    let site = quick();
    let home = site.home.path().to_str().unwrap().to_owned();
    for place in [home.clone(), format!("{home}/no/such.xml"), "/dev/stdout".to_owned()] {
        let refused = site.run(&["run", "222222", "--junit", &place]).ends(2).says("nothing was started");
        assert!(!refused.stderr.contains("warning"), "{refused}");
    }
    let _ = site.run(&["run", "--workflow", "w", "--junit", "x.xml"]).ends(2).says("cannot be used with");
    let _ = site.run(&["run", "222222", "--no-wait", "--junit", "x.xml"]).ends(2).says("cannot be used with");
    assert_eq!(site.writes(0), Vec::<String>::new());

    let site = Site::with(|options| options.speed = 20.0);
    let folder = site.home.path().join("results");
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("junit.xml");
    let arguments = ["run", "222223", "--junit", file.to_str().unwrap()];
    let child = site.command(&arguments).spawn().unwrap();
    // The file was written before the start.
    site.until_asked("dbt:runs/get", 1);
    std::fs::remove_dir_all(&folder).unwrap();
    let _ = Site::finish(&arguments, child).ends(3).says("warning: cannot write the JUnit report to ");
}

#[test]
fn github_gets_an_annotation_on_stderr_and_stdout_stays_one_document() {
    let site = quick();
    let mut command = site.command(&["run", "222223", "-o", "json", "-q"]);
    let child = command.env("GITHUB_ACTIONS", "true").spawn().unwrap();
    let output = Site::finish(&["run", "222223"], child).ends(3);
    let data = &output.json()["data"];
    let commands: Vec<&str> = output.stderr.lines().filter(|line| line.starts_with("::")).collect();
    let (run, url) = (id(&data["run_id"]), data["run_url"].as_str().unwrap());
    let expected = format!(
        "::error title=dbtrigger run 222223%3A ERROR (run-failed)::dbt run {run} of job 222223 failed%0A{url}\
         %0Amodel orders%0Atest unique_stg_orders_order_id"
    );
    assert_eq!(commands, [expected]);
}
