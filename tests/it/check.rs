//! `create-workflow --check` with the built program and the real notebook: the problems found, and the commands
//! that fix them.

use serde_json::{Value, json};

use crate::harness::{Output, Site};

/// A key issued by dbt later.
const LATER: &str = "dbtc_Later+dbt/token-5EED0xyz_Q";
const CHECK: [&str; 4] = ["create-workflow", "--job", "222222", "--check"];

fn ready() -> Site {
    let site = Site::new();
    let _ = site.run(&["init-secrets"]).ends(0);
    let _ = site.run(&["deploy-notebook"]).ends(0);
    site
}

/// Runs the program with another dbt key, or with none.
fn with_key(site: &Site, key: Option<&str>, arguments: &[&str]) -> Output {
    let mut command = site.command(arguments);
    match key {
        Some(key) => command.env("DBT_CLOUD_TOKEN", key),
        None => command.env_remove("DBT_CLOUD_TOKEN"),
    };
    Site::finish(arguments, command.spawn().unwrap())
}

/// The one-time runs so far.
fn checks(site: &Site) -> Vec<Value> {
    let runs = site.inspect()["job_runs"].as_array().unwrap().clone();
    let is_check = |run: &Value| run["tasks"][0]["parameters"]["dbtrigger_mode"] == "check";
    runs.into_iter().filter(is_check).collect()
}

#[test]
fn a_key_that_dbt_refuses_shows_in_the_check_and_the_named_command_stores_another() {
    let site = ready();
    site.sandbox.with_world(|world, _| world.set_dbt_token(LATER));
    let refused = with_key(&site, Some(LATER), &CHECK).ends(4);
    let rotate = "dbtrigger init-secrets --scope dbt-cloud --key api-key --rotate";
    let _ = refused.says("dbt rejects the key in dbt-cloud/api-key").says(rotate).says("see http://");
    let document = with_key(&site, Some(LATER), &[&CHECK[..], &["-o", "json"]].concat()).ends(4).json();
    assert_eq!(document["error"]["code"], "not-authenticated", "{document}");
    assert!(document["error"]["hints"].to_string().contains(rotate), "{document}");
    // The workflow was still created, and the result of the check is reported.
    let data = &document["data"];
    assert_eq!((&data["result"], &data["check"]["status"]), (&"kept".into(), &"FAILED".into()), "{document}");
    assert!(dbt_starts(&site).is_empty(), "{:?}", dbt_starts(&site));
    let words: Vec<&str> = rotate.split(' ').skip(1).collect();
    let _ = with_key(&site, Some(LATER), &words).ends(0);
    let well = with_key(&site, Some(LATER), &[&CHECK[..], &["-o", "json"]].concat()).ends(0).json();
    assert_eq!(well["data"]["check"]["status"], "SUCCESS", "{well}");
    assert_eq!(checks(&site).len(), 3);
    assert!(dbt_starts(&site).is_empty(), "{:?}", dbt_starts(&site));
}

#[test]
fn a_text_that_can_be_no_key_shows_in_the_check_and_the_named_command_stores_one() {
    let site = ready();
    let garbage = json!({ "scope": "dbt-cloud", "key": "api-key", "string_value": "garbage with spaces" });
    site.post("/api/2.0/secrets/put", &garbage);
    let document = site.run(&[&CHECK[..], &["-o", "json"]].concat()).ends(4).json();
    let hints = document["error"]["hints"].to_string();
    assert!(hints.contains("\"dbtrigger init-secrets --scope dbt-cloud --key api-key --rotate\""), "{document}");
    assert!(!hints.contains("--grant") && !document.to_string().contains("garbage"), "{document}");
    let _ = site.run(&["init-secrets", "--scope", "dbt-cloud", "--key", "api-key", "--rotate"]).ends(0);
    let _ = site.run(&CHECK).ends(0);
}

#[test]
fn a_job_that_the_key_cannot_see_shows_in_the_check() {
    let site = ready();
    // Without access to dbt, the job is not checked first.
    let line = ["create-workflow", "--job", "299999", "--name", "Lost", "--check", "-o", "json"];
    let document = with_key(&site, None, &line).ends(6).json();
    assert_eq!(document["error"]["code"], "not-found", "{document}");
    let message = document["error"]["message"].as_str().unwrap();
    assert_eq!(message, "the key in dbt-cloud/api-key cannot see the dbt job of task dbt_299999");
    assert!(document["error"]["hints"].to_string().contains("\"dbtrigger jobs\""), "{document}");
    assert_eq!(document["data"]["result"], "created", "{document}");
    // With `--run-now`, nothing runs after the failed check.
    let _ = with_key(&site, None, &[&line[..], &["--run-now"]].concat()).ends(6);
    assert_eq!((checks(&site).len(), site.inspect()["job_runs"].as_array().unwrap().len()), (2, 2));
}

#[test]
fn a_lost_answer_makes_no_second_check_on_a_socket() {
    for class in ["reset,phase=after", "status=503,phase=after", "truncated,phase=after"] {
        let site = ready();
        site.fault(&format!("databricks:jobs/runs/submit={class}"));
        let since = site.requests();
        let _ = site.run(&CHECK).ends(0);
        let sent = site.writes(since).iter().filter(|operation| *operation == "databricks:jobs/runs/submit").count();
        assert_eq!((sent, checks(&site).len()), (2, 1), "{class}");
    }
}

/// The requests to dbt that write.
fn dbt_starts(site: &Site) -> Vec<String> {
    site.writes(0).into_iter().filter(|operation| operation.starts_with("dbt:")).collect()
}
