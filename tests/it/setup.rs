//! The guide at a terminal, screen by screen, and the commands that it prints.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{DATABRICKS_TOKEN, DBT_TOKEN, Site};
use crate::pty::Pty;

const VARIABLES: [&str; 5] =
    ["DATABRICKS_HOST", "DATABRICKS_TOKEN", "DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID", "DBT_CLOUD_TOKEN"];

fn fast() -> Site {
    Site::with(|options| options.speed = 600.0)
}

/// The guide where nothing is known.
fn guide(site: &Site) -> Pty {
    let mut command = site.command(&["setup"]);
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    Pty::start(&command, 70, 150)
}

/// Types the answer; tokens are not shown.
#[track_caller]
fn answers(pty: &mut Pty, question: &str, answer: &str) {
    if [DATABRICKS_TOKEN, DBT_TOKEN].contains(&answer) {
        pty.answers_hidden(question, answer);
    } else {
        pty.answers(question, answer);
    }
}

/// What it asks for, each with a good answer. The last two are the consent to the plan and the first run.
fn conversation(site: &Site) -> [(&'static str, String); 13] {
    let origin = site.sandbox.origin();
    [
        ("Databricks host", origin),
        ("Personal access token for", DATABRICKS_TOKEN),
        ("Host of your dbt account", origin),
        ("ID of your dbt account", "51234"),
        ("dbt API key to store, of account 51234", DBT_TOKEN),
        ("dbt job: arrow keys", "222222"),
        ("Secret scope for the dbt API key", ""),
        ("Path of the notebook [Enter: /Users/ana@example.com/dbtrigger/run_dbt_job_51234]", ""),
        ("Schedule (Quartz cron", "0 0 6 * * ?"),
        ("Time zone of the schedule", "Europe/Berlin"),
        ("Run as (email", ""),
        ("Apply to", "\u{1b}[B"),
        ("Run the workflow now", "no"),
    ]
    .map(|(question, answer)| (question, answer.to_owned()))
}

#[test]
fn the_guide_from_nothing_to_a_checked_workflow_and_its_commands() {
    let site = fast();
    let mut pty = guide(&site);
    for (question, answer) in conversation(&site) {
        if question == "Apply to" {
            pty.sees(question);
            assert_eq!(site.writes(0), Vec::<String>::new());
        }
        answers(&mut pty, question, &answer);
    }
    let left = pty.ends(0);
    for words in [
        "+ secret dbt-cloud/api-key: would be created",
        "workflow \"dbt: Nightly build (222222)\": created",
        "the key is accepted",
        "Run the workflow now: no",
        "  dbtrigger init-secrets",
        "  dbtrigger deploy-notebook --notebook /Users/ana@example.com/dbtrigger/run_dbt_job_51234",
        "--schedule '0 0 6 * * ?' --timezone Europe/Berlin --check",
    ] {
        assert!(left.screens.iter().any(|screen| screen.replace('\n', "").contains(words)), "{words}\n{}", left.screen);
    }
    assert!(!left.raw.contains("next time:"), "{}", left.screen);
    for secret in [DATABRICKS_TOKEN, DBT_TOKEN] {
        assert!(!left.raw.contains(secret) && !left.raw.contains(&secret[..12]));
    }
    let world = site.inspect();
    assert_eq!(world["scopes"]["dbt-cloud"]["secrets"]["api-key"]["version"], 1);
    assert_eq!(world["jobs"].as_array().unwrap().len(), 1, "{world}");
}

#[test]
fn what_was_typed_before_the_plan_was_shown_is_no_consent_to_it() {
    let site = fast();
    let settings = ["--scope", "team", "--notebook", "/Users/ana@example.com/x", "--schedule", "0 0 6 * * ?"];
    let line = [&["setup", "--job", "222222", "--timezone", "UTC", "--run-as", "ana@example.com"], &settings[..]];
    let mut pty = Pty::start(&site.command(&line.concat()), 40, 120);
    pty.keys("\u{1b}[B\r");
    pty.sees("> no");
    pty.keys("\u{3}");
    let left = pty.ends(130);
    assert!(left.screen.contains("Canceled"), "{}", left.screen);
    assert_eq!(site.writes(0), Vec::<String>::new());
}

#[test]
fn leaving_the_guide_at_any_question_leaves_the_terminal_as_it_was_and_writes_nothing() {
    let site = fast();
    let offer = conversation(&site).len() - 1;
    for leave in 0..=offer {
        let mut pty = guide(&site);
        for (index, (question, answer)) in conversation(&site).into_iter().enumerate() {
            if index == leave {
                pty.sees(question);
                pty.keys("\u{3}");
                break;
            }
            answers(&mut pty, question, &answer);
        }
        let left = pty.ends(130);
        if leave < offer {
            assert!(left.screen.contains("Canceled"), "{leave}\n{}", left.screen);
            assert_eq!(site.writes(0), Vec::<String>::new(), "{leave}");
        } else {
            assert!(left.screen.contains("setup is complete; no run was started"), "{}", left.screen);
            assert!(left.screen.contains("dbtrigger create-workflow --job 222222"), "{}", left.screen);
            assert!(!site.writes(0).iter().any(|operation| operation.contains("run-now")));
        }
    }
}

#[test]
fn the_printed_commands_make_the_same_in_a_fresh_workspace() {
    const SERVICE: &str = "0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d11";
    let (site, fresh) = (fast(), fast());
    let line = ["setup", "--job", "222222", "--scope", "team", "--schedule", "0 0 6 * * ?", "--run-as", SERVICE, "-y"];
    let document = site.run(&[&line[..], &["-o", "json"]].concat()).ends(0).json();
    let lines: Vec<&str> = document["data"]["commands"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(lines.len(), 5, "{document}");
    let script = format!("set -e\n{}\n", lines.join("\n")).replace(site.sandbox.origin(), fresh.sandbox.origin());

    let model = fresh.command(&[]);
    let variables = model.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let program = Path::new(env!("CARGO_BIN_EXE_dbtrigger")).parent().unwrap();
    let search = model.get_envs().find(|(name, _)| *name == "PATH").unwrap().1.unwrap();
    let mut path = program.as_os_str().to_owned();
    path.push(":");
    path.push(search);
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).env_clear().envs(variables).env("PATH", path).current_dir(fresh.home.path());
    // The places are in the script; the credentials are the pipeline's.
    for variable in ["DATABRICKS_HOST", "DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID"] {
        shell.env_remove(variable);
    }
    let child = shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _ = Site::finish(&["the printed commands"], child).ends(0);
    let world = |site: &Site| {
        let mut world = site.essence();
        let runs = world.as_object_mut().unwrap().shift_remove("job_runs");
        (world, runs.map(|runs| runs.as_array().unwrap().len()))
    };
    assert_eq!(world(&fresh), world(&site));
}
