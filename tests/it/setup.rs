//! `setup` at a terminal, screen by screen, and the commands that it prints.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{DATABRICKS_TOKEN, DBT_TOKEN, Site};
use crate::pty::Pty;

const VARIABLES: [&str; 5] =
    ["DATABRICKS_HOST", "DATABRICKS_TOKEN", "DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID", "DBT_CLOUD_TOKEN"];

fn fast() -> Site {
    Site::with(|options| options.speed = 300.0)
}

/// `setup` where nothing is known.
fn guide(site: &Site) -> Pty {
    let mut command = site.command(&["setup"]);
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    Pty::start(&command, 70, 150)
}

/// Types the answer; tokens are hidden.
#[track_caller]
fn answers(pty: &mut Pty, question: &str, answer: &str) {
    if [DATABRICKS_TOKEN, DBT_TOKEN].contains(&answer) {
        pty.answers_hidden(question, answer);
    } else {
        pty.answers(question, answer);
    }
}

/// The questions, each with a good answer. The last two confirm the plan and decline the first run.
fn conversation(site: &Site) -> [(&'static str, String); 6] {
    let origin = site.sandbox.origin();
    [
        ("Databricks host", origin),
        ("personal access token for", DATABRICKS_TOKEN),
        (
            "URL of your dbt job (copy it from your browser)",
            &format!("{origin}/deploy/51234/projects/111111/jobs/222222"),
        ),
        ("dbt API key for", DBT_TOKEN),
        ("Apply? [y/N, e to edit]", "y"),
        ("Run the workflow now? [y/N]", "n"),
    ]
    .map(|(question, answer)| (question, answer.to_owned()))
}

/// Waits for the question and answers it with a key or a line.
#[track_caller]
fn answered(pty: &mut Pty, question: &str, answer: &str) {
    if question.ends_with(']') {
        pty.sees(question);
        pty.keys(answer);
    } else {
        answers(pty, question, answer);
    }
}

#[test]
fn the_guide_from_nothing_to_a_checked_workflow_and_its_commands() {
    let site = fast();
    let mut pty = guide(&site);
    for (question, answer) in conversation(&site) {
        if question.starts_with("Apply?") {
            pty.sees(question);
            assert_eq!(site.writes(0), Vec::<String>::new());
        }
        answered(&mut pty, question, &answer);
    }
    let left = pty.ends(0);
    for words in [
        "secret dbt-cloud/api-key",
        "workflow \"dbt: Nightly build (222222)\": created",
        "key accepted",
        "Run the workflow now? [y/N] n",
        "  dbtrigger init-secrets",
        "  dbtrigger deploy-notebook --notebook /Users/ana@example.com/dbtrigger/run_dbt_job_51234",
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
fn a_line_of_the_plan_is_edited_with_the_usual_keys_and_what_was_answered_is_repeated_after_a_no() {
    let site = fast();
    let mut pty = guide(&site);
    for (question, answer) in &conversation(&site)[..4] {
        answered(&mut pty, question, answer);
    }
    pty.sees("Apply? [y/N, e to edit]");
    pty.keys("e");
    pty.sees("Edit: arrow keys");
    pty.keys("scope\r");
    pty.sees("Secret scope: dbt-cloud");
    // To the start, a word; to the end, another; delete the last word, delete everything, and type it again.
    pty.keys("\u{1}team-\u{5}-x\u{17}\u{15}night-\u{1}my-\u{1b}[Fly\r");
    pty.sees("Secret scope  my-night-ly");
    pty.sees_times("Apply? [y/N, e to edit]", 2);
    // Any other key asks again.
    pty.keys("q");
    pty.sees_times("Apply? [y/N, e to edit]", 3);
    pty.keys("\r");
    let left = pty.ends(1);
    let again = left.screen.replace('\n', "");
    for words in ["next: ", "--dbt-account 51234 --job 222222 --scope my-night-ly"] {
        assert!(again.contains(words), "{words}\n{}", left.screen);
    }
    assert_eq!(site.writes(0), Vec::<String>::new());
}

#[test]
fn what_was_typed_before_the_plan_was_shown_is_no_consent_to_it() {
    let site = fast();
    let mut pty = Pty::start(&site.command(&["setup", "--job", "222222"]), 60, 120);
    pty.keys("y\r");
    pty.sees("Apply? [y/N, e to edit]");
    pty.keys("\u{3}");
    let left = pty.ends(130);
    assert!(left.screen.contains("Canceled."), "{}", left.screen);
    assert_eq!(site.writes(0), Vec::<String>::new());
}

#[test]
fn the_only_profile_that_works_is_used_without_a_question() {
    let site = fast();
    let file = site.home.path().join(".databrickscfg");
    let text = format!("[work]\nhost = {}\ntoken = {DATABRICKS_TOKEN}\n", site.sandbox.origin());
    std::fs::write(&file, text).unwrap();
    let mut pty = guide(&site);
    for (question, answer) in &conversation(&site)[2..] {
        answered(&mut pty, question, answer);
    }
    let left = pty.ends(0);
    // The leak suite searches the home folder for tokens.
    std::fs::remove_file(file).unwrap();
    assert!(!left.raw.contains("Databricks host"), "{}", left.screen);
}

#[test]
fn leaving_the_guide_at_any_question_leaves_the_terminal_as_it_was_and_writes_nothing() {
    let site = fast();
    let offer = conversation(&site).len() - 1;
    for leave in 0..=offer {
        let mut pty = guide(&site);
        for (index, (question, answer)) in conversation(&site).into_iter().enumerate() {
            if index == leave {
                pty.hides(question);
                pty.keys("\u{3}");
                break;
            }
            answered(&mut pty, question, &answer);
        }
        let left = pty.ends(130);
        if leave < offer {
            assert!(left.screen.contains("Canceled."), "{leave}\n{}", left.screen);
            assert_eq!(site.writes(0), Vec::<String>::new(), "{leave}");
        } else {
            assert!(left.screen.contains("Setup is complete, and no run was started"), "{}", left.screen);
            assert!(left.screen.contains("dbtrigger create-workflow --job 222222"), "{}", left.screen);
            let next: Vec<&str> = left.screen.lines().filter_map(|line| line.strip_prefix("next: ")).collect();
            assert!(matches!(next[..], [one] if one.contains(" run --workflow ")), "{}", left.screen);
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
    // The hosts are in the script; the credentials are the pipeline's.
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
