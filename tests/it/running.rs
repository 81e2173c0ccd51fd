//! Running dbt jobs with the built program: outcomes, JSON, interruption, closed pipes.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command};

use crate::harness::{Site, id};

/// Sends a signal to a program that this test started.
fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn each_outcome_has_its_exit_code_and_the_document_says_the_same_beside_the_error() {
    let site = Site::with(|options| options.speed = 300.0);
    for (job, exit, status, code) in [
        ("222222", 0, "SUCCESS", None),
        ("222223", 3, "ERROR", Some("run-failed")),
        ("222224", 20, "CANCELLED", Some("run-cancelled")),
    ] {
        let document = site.run(&["run", job, "-o", "json"]).ends(exit).json();
        assert_eq!(document["ok"], code.is_none(), "{document}");
        assert_eq!(document["error"]["code"].as_str(), code, "{document}");
        assert_eq!(document["data"]["status"], status, "{document}");
        assert!(document["data"]["run_id"].is_string() && document["data"]["run_url"].is_string(), "{document}");
    }
}

#[test]
fn a_failed_run_names_the_step_the_model_and_the_test_and_what_to_do() {
    let site = Site::with(|options| options.speed = 300.0);
    let _ = site
        .run(&["run", "222223"])
        .ends(3)
        .says("dbt build")
        .says("model orders")
        .says("test unique_stg_orders_order_id")
        .says("next:");
}

#[test]
fn an_interrupted_command_leaves_the_run_and_its_last_line_picks_it_up_again() {
    let picks_up = |(name, exit)| {
        // Slow enough that the run is still going when the signal arrives.
        let site = Site::with(|options| options.speed = 20.0);
        let mut child = site.command(&["run", "222222"]).spawn().unwrap();
        let mut line = String::new();
        // Kept open, so that the program can write to it.
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let run = line.trim().strip_prefix("job_run_id = ").unwrap().to_owned();
        signal(&child, name);
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(exit), "{said}");
        let command = said.lines().find_map(|line| line.strip_prefix("next: ")).unwrap_or_else(|| panic!("{said}"));
        let arguments: Vec<&str> = command.split(' ').skip(1).chain(["-o", "json"]).collect();
        let document = site.run(&arguments).ends(0).json();
        assert_eq!(document["data"]["run_id"], run, "{document}");
        assert_eq!(document["data"]["adopted"], true, "{document}");
    };
    std::thread::scope(|scope| {
        for signal in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
            scope.spawn(move || picks_up(signal));
        }
    });
}

#[test]
fn an_interrupted_command_with_several_runs_names_each_and_how_to_pick_it_up() {
    let site = Site::with(|options| options.speed = 20.0);
    let mut child = site.command(&["run", "222222", "300001", "-o", "json"]).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut runs = Vec::new();
    while runs.len() < 2 {
        let mut line = String::new();
        assert!(said.read_line(&mut line).unwrap() > 0, "it ended early");
        runs.extend(line.trim().split_once(": job_run_id = ").map(|(_, run)| run.to_owned()));
    }
    signal(&child, "-INT");
    let mut document = String::new();
    child.stdout.take().unwrap().read_to_string(&mut document).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{document}");
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["data"]["runs"].as_array().map(Vec::len), Some(2), "{document}");
    for run in runs {
        assert!(document["error"]["hints"].to_string().contains(&format!("\"dbtrigger watch {run}\"")), "{document}");
        assert!(
            document["error"]["causes"].to_string().contains(&format!("dbt run {run} is still running")),
            "{document}"
        );
    }
}

#[test]
fn waiting_shorter_than_the_run_ends_with_8_and_the_run_goes_on() {
    let site = Site::with(|options| options.speed = 20.0);
    let document = site.run(&["run", "222222", "--timeout", "1s", "-o", "json"]).ends(8).json();
    assert_eq!(document["error"]["code"], "still-running", "{document}");
    assert!(document["data"]["run_id"].is_string(), "{document}");
    // The command in the error resumes it, with its outcome and the key of the start.
    let hint = document["error"]["hints"].to_string();
    let run = id(&document["data"]["run_id"]);
    assert!(hint.contains(&format!("\"dbtrigger watch {run}\"")), "{document}");
    let watched = site.run(&["watch", &run, "-o", "json"]).ends(0).json();
    assert_eq!((&watched["data"]["status"], &watched["data"]["key"]), (&"SUCCESS".into(), &document["data"]["key"]));
    let document = site.run(&["run", "222225", "--no-wait", "-o", "json"]).ends(0).json();
    assert!(document["data"]["run_id"].is_string(), "{document}");
}

#[test]
fn watch_follows_what_runs_elsewhere_and_says_how_it_ended() {
    let site = Site::with(|options| options.speed = 300.0);
    for (job, exit) in [("222222", 0), ("222223", 3), ("222224", 20)] {
        let document = site.run(&["run", job, "--no-wait", "-o", "json"]).ends(0).json();
        let address = document["data"]["run_url"].as_str().unwrap().to_owned();
        let by_run = site.run(&["watch", &address, "-o", "json"]).ends(exit).json();
        assert_eq!(by_run["data"]["run_id"], document["data"]["run_id"], "{by_run}");
        assert_eq!(by_run["data"]["job_id"], job, "{by_run}");
    }
    let _ = site.run(&["watch", "99"]).ends(6).says("dbt run 99");
    let _ = site.run(&["watch", "--workflow-run", "99"]).ends(6).says("Databricks run 99");
    let _ = site.run(&["watch", "nightly"]).ends(2).says("nightly");
    assert_eq!(site.writes(0).len(), 3, "only the starts wrote");
}

#[test]
fn a_reader_that_leaves_ends_the_program_quietly() {
    let site = Site::with(|options| options.speed = 20.0);
    let mut child = site.command(&["run", "222222"]).spawn().unwrap();
    // Reads one line and closes the pipe, like `head -1`.
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(141), ""));
}

#[test]
fn the_key_comes_from_stdin_or_a_file_and_anything_odd_is_refused_before_a_request() {
    let site = Site::new();
    let other = "dbtc_5EED0another0key0of0the0same0account";
    let output =
        site.run_with_input(&["init-secrets", "--token-stdin", "--scope", "one"], "  quoted \"key\"\n").ends(2);
    assert_eq!(site.requests(), 0, "{output}");
    let _ = output.says("--token-stdin");
    // A key that dbt rejects is not stored.
    let _ = site.run_with_input(&["init-secrets", "--token-stdin", "--scope", "one"], &format!("{other}\n")).ends(4);
    assert_eq!(site.inspect()["scopes"]["one"], serde_json::Value::Null);
    let file = site.home.path().join("key");
    std::fs::write(&file, format!("{}\r\n", crate::harness::DBT_TOKEN)).unwrap();
    let _ = site.run(&["init-secrets", "--token-file", file.to_str().unwrap(), "--scope", "one"]).ends(0);
    assert_eq!(site.inspect()["scopes"]["one"]["secrets"]["api-key"]["version"], 1);
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_token_is_not_sent_to_a_host_that_only_a_pasted_address_names() {
    let site = Site::new();
    let address = format!("{}/deploy/51234/projects/4101/jobs/222222", site.sandbox.origin());
    let mut command = site.command(&["run", &address]);
    let arguments = ["run", address.as_str()];
    let output = Site::finish(&arguments, command.env_remove("DBT_CLOUD_HOST").spawn().unwrap()).ends(2);
    assert_eq!(site.requests(), 0, "{output}");
}

#[test]
fn traces_show_requests_and_never_a_secret() {
    let site = Site::new();
    let output = site.run(&["init-secrets", "-vv"]).ends(0).says("POST ").says("\"string_value\":\"***\"");
    assert!(!output.stderr.contains(crate::harness::DBT_TOKEN));
}

#[test]
fn what_looks_wrong_in_the_world_is_said_with_the_next_step() {
    let site = Site::new();
    // The notebook does not exist yet.
    let _ = site.run(&["create-workflow", "--job", "222222"]).ends(7).says("dbtrigger deploy-notebook");
    // Someone else's notebook is in the way.
    let _ = site.run(&["init-secrets"]).ends(0);
    let _ = site.run(&["deploy-notebook", "--notebook", "/Shared/nb"]).ends(7).says("--accept-shared-path");
    let _ = site.run(&["create-workflow", "--job", "222222", "--schedule", "0 6 * * *"]).ends(2).says("0 0 6 * * ?");
    site.fault("dbt:jobs/run=status=401,times=forever");
    let _ = site.run(&["run", "222222"]).ends(4).says("DBT_CLOUD_HOST");
}

#[test]
fn connections_that_die_while_idle_do_no_harm() {
    let site = Site::with(|options| options.speed = 300.0);
    site.fault("databricks:*=stale,times=forever");
    site.fault("dbt:*=stale,times=forever");
    for arguments in
        [&["init-secrets"][..], &["deploy-notebook"], &["create-workflow", "--job", "222222"], &["run", "222222"]]
    {
        let _ = site.run(arguments).ends(0);
    }
    let world = site.inspect();
    let ours = world["dbt_runs"].as_array().unwrap().iter().filter(|run| run["seeded"] == false);
    assert_eq!((world["jobs"].as_array().unwrap().len(), ours.count()), (1, 1), "{world}");
}
