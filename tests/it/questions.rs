//! Questions at a terminal, screen by screen.

use std::process::Command;

use crate::harness::{DATABRICKS_TOKEN, DBT_TOKEN, Site};
use crate::pty::Pty;

const VARIABLES: [&str; 5] =
    ["DATABRICKS_HOST", "DATABRICKS_TOKEN", "DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID", "DBT_CLOUD_TOKEN"];

/// The program in this world, without these variables.
fn without(site: &Site, variables: &[&str], arguments: &[&str]) -> Command {
    let mut command = site.command(arguments);
    for variable in variables {
        command.env_remove(variable);
    }
    command
}

/// The questions of `init-secrets` if nothing is known, each with a good answer, and whether the answer is hidden.
fn conversation(site: &Site) -> [(&'static str, String, bool); 4] {
    let origin = site.sandbox.origin();
    [
        ("Databricks host", origin.to_owned(), false),
        ("Databricks personal access token for", DATABRICKS_TOKEN.to_owned(), true),
        ("dbt host", origin.to_owned(), false),
        // The key determines the account.
        ("dbt API key for", DBT_TOKEN.to_owned(), true),
    ]
}

#[track_caller]
fn converse(pty: &mut Pty, (question, answer, hidden): &(&'static str, String, bool)) {
    if *hidden {
        pty.answers_hidden(question, answer);
    } else {
        pty.answers(question, answer);
    }
}

#[test]
fn init_secrets_asks_for_everything_and_says_how_to_say_it_next_time() {
    let site = Site::new();
    let origin = site.sandbox.origin();
    let mut pty = Pty::start(&without(&site, &VARIABLES, &["init-secrets"]), 40, 120);
    for asked in &conversation(&site) {
        converse(&mut pty, asked);
    }
    let left = pty.ends(0);
    let lines: Vec<&str> = left.screen.lines().collect();
    let bare = origin.trim_start_matches("https://");
    let asked = [
        format!("Databricks host (the URL of your workspace): {origin}"),
        format!("Databricks personal access token for {origin}: (hidden)"),
        format!("dbt host (such as ab123.us1.dbt.com): {origin}"),
        format!("dbt API key for {bare}: (hidden)"),
    ];
    assert_eq!(lines[..4], asked, "{}", left.screen);
    let whole = left.screen.replace('\n', "");
    for part in ["Without questions: DATABRICKS_HOST=http", "dbtrigger init-secrets --dbt-host ", "--dbt-account 51234"]
    {
        assert!(whole.contains(part), "{part}\n{}", left.screen);
    }
    // The next command gets the answers as flags, so that it does not ask again.
    let next = format!("next: dbtrigger --dbt-host {origin} --dbt-account 51234 deploy-notebook");
    assert!(left.screen.contains(&next), "{}", left.screen);
    for secret in [DATABRICKS_TOKEN, DBT_TOKEN] {
        assert!(!left.raw.contains(secret) && !left.raw.contains(&secret[..12]));
    }
    assert_eq!(site.inspect()["scopes"]["dbt-cloud"]["secrets"]["api-key"]["version"], 1);
    assert_eq!(whole.matches("Without questions:").count(), 1, "{whole}");
}

#[test]
fn leaving_any_question_leaves_the_terminal_as_it_was_and_writes_nothing() {
    let site = Site::new();
    for leave in 0..conversation(&site).len() {
        let mut pty = Pty::start(&without(&site, &VARIABLES, &["init-secrets"]), 30, 120);
        for (index, asked) in conversation(&site).iter().enumerate() {
            if index == leave {
                if asked.2 {
                    pty.hides(asked.0);
                } else {
                    pty.sees(asked.0);
                }
                // In the middle of an answer, where Ctrl-D does nothing.
                pty.keys("ab\u{4}");
                pty.keys("\u{3}");
                break;
            }
            converse(&mut pty, asked);
        }
        let left = pty.ends(130);
        assert!(left.screen.contains("Canceled. Nothing was written."), "{leave}\n{}", left.screen);
    }
    assert_eq!(site.writes(0), Vec::<String>::new());
}

#[test]
fn a_list_can_be_left_too_and_a_signal_from_outside_is_heard_at_a_question() {
    let site = Site::new();
    let mut pty = Pty::start(&site.command(&["run"]), 30, 100);
    pty.sees("dbt job: arrow keys");
    pty.keys("\u{4}\u{3}");
    let _ = pty.ends(130);
    for (name, exit) in [("-TERM", 143), ("-HUP", 129), ("-INT", 130), ("-QUIT", 131)] {
        for (variables, question) in [
            (&VARIABLES[..], "URL of your dbt job (copy it from your browser)"),
            (&VARIABLES[4..], "dbt API token for"),
            (&[], "dbt job: arrow keys"),
        ] {
            let pty = Pty::start(&without(&site, variables, &["run"]), 30, 100);
            pty.sees(question);
            assert!(Command::new("kill").args([name, &pty.id().to_string()]).status().unwrap().success());
            let left = pty.ends(exit);
            assert!(left.screen.contains("Canceled. Nothing was started."), "{name}\n{}", left.screen);
        }
    }
    assert_eq!(site.writes(0), Vec::<String>::new());
}

#[test]
fn an_answer_is_checked_as_the_flag_is_and_asked_for_again_with_the_same_words() {
    let site = Site::new();
    let origin = site.sandbox.origin();
    let mut pty = Pty::start(&without(&site, &VARIABLES[2..], &["deploy-notebook"]), 40, 110);
    pty.answers("dbt host", "login.dbt.com");
    pty.sees("your answer \"login.dbt.com\" is invalid: it is dbt's sign-in page");
    pty.sees_times("dbt host (", 2);
    pty.keys(&format!("{origin}\r"));
    pty.answers("dbt account ID", "fifty");
    pty.sees("your answer \"fifty\" is not an account ID, a number such as 51234");
    pty.sees_times("dbt account ID (", 2);
    // Corrected with editing keys.
    pty.keys("99\u{7f}\u{7f}\u{7f}5123\u{1b}[D\u{1b}[C4\r");
    let left = pty.ends(0);
    assert!(left.screen.contains("dbt account ID (the number after /deploy/ in its URLs): 51234"));
    assert!(left.screen.contains("dbtrigger deploy-notebook --dbt-host"), "{}", left.screen);
    let flagged = site.run(&["deploy-notebook", "--dbt-account", "fifty"]).ends(2);
    let _ = flagged.says("--dbt-account \"fifty\" is not an account ID, a number such as 51234");
}

#[test]
fn a_token_at_the_question_for_a_host_is_not_taken_and_not_repeated() {
    let site = Site::new();
    let mut pty = Pty::start(&without(&site, &VARIABLES[2..], &["deploy-notebook"]), 40, 110);
    // The token is visible until the line ends, so it is not one of those that the leak suite searches for.
    let typed = "dbtc_Typed-at-a-question-for-hosts";
    pty.answers("dbt host", typed);
    pty.sees("your answer looks like a token, not a host, and is not shown");
    assert!(!pty.screen().contains(typed), "{}", pty.screen());
    pty.sees_times("dbt host (", 2);
    pty.keys("nightly\r");
    pty.sees("\"nightly\" is not a valid host: it has no dot");
    pty.keys("\u{3}");
    let left = pty.ends(130);
    assert!(!left.screen.contains("DBT_CLOUD_HOST"), "{}", left.screen);
}

#[test]
fn a_list_says_how_much_of_it_is_shown_finds_ids_and_is_left_with_esc() {
    let site = Site::new();
    let mut pty = Pty::start(&site.command(&["run"]), 30, 70);
    pty.sees("find: |   10 of 1");
    pty.keys("zzz");
    pty.sees("find: zzz|   no matches");
    pty.keys("\u{7f}\u{7f}\u{7f}300042");
    pty.sees("> 300042");
    pty.keys("\u{1b}");
    let left = pty.ends(130);
    assert!(left.screen.contains("Canceled. Nothing was started."), "{}", left.screen);
    assert_eq!(site.writes(0), Vec::<String>::new());
}

#[test]
fn what_a_workspace_is_told_by_is_in_the_command_for_the_next_time() {
    let site = Site::new();
    let mut pty = Pty::start(&without(&site, &VARIABLES[..1], &["init-secrets"]), 30, 110);
    let origin = site.sandbox.origin();
    pty.answers("Databricks host", &format!("{origin}/?o=4242"));
    let left = pty.ends(0);
    assert!(left.screen.replace('\n', "").contains(&format!("DATABRICKS_HOST='{origin}/?o=4242'")), "{}", left.screen);
}

#[test]
fn a_refused_token_is_asked_for_again_and_three_times_at_most() {
    let site = Site::new();
    let wrong = "dbtc_5EED0wrong0wrong0wrong0";
    let mut pty = Pty::start(&without(&site, &["DBT_CLOUD_TOKEN"], &["init-secrets"]), 40, 110);
    let again = "> ";
    pty.answers_hidden("dbt API key for", wrong);
    pty.sees("cannot use the dbt API key");
    pty.answers_hidden(again, "two words");
    pty.sees("not a token: it contains a space or tab");
    pty.answers_hidden(again, "");
    pty.sees("not a token: it is empty");
    // The terminal edits the line: Ctrl-U deletes it all, Backspace one character.
    pty.answers_hidden(again, &format!("{wrong}\u{15}{DBT_TOKEN}x\u{7f}"));
    let left = pty.ends(0);
    assert!(!left.raw.contains(wrong) && !left.raw.contains("two words"), "{}", left.screen);

    let site = Site::new();
    for (variable, question) in [("DBT_CLOUD_TOKEN", "dbt API key for"), ("DATABRICKS_TOKEN", "personal access token")]
    {
        let mut pty = Pty::start(&without(&site, &[variable], &["init-secrets"]), 60, 110);
        for before in 0..3 {
            // The earlier answers remain as lines, with the question below them.
            pty.sees_times(question, before + 1);
            pty.answers_hidden("(hidden):", "wrong-token-0123456789");
        }
        let left = pty.ends(4);
        assert_eq!(left.screen.matches(": (hidden)").count(), 3, "{}", left.screen);
    }
    assert_eq!(site.writes(0), Vec::<String>::new());
}

#[test]
fn a_piece_of_what_is_far_too_long_is_not_taken_for_the_token() {
    let site = Site::new();
    let mut pty = Pty::start(&without(&site, &["DBT_CLOUD_TOKEN"], &["init-secrets"]), 20, 110);
    pty.answers_hidden("dbt API key for", &"0123456789".repeat(500));
    pty.sees("cause: the input is longer than any token");
    let left = pty.ends(1);
    assert!(!left.raw.contains("0123456789"), "{}", left.screen);
    assert_eq!(site.writes(0), Vec::<String>::new());
}

#[test]
fn run_without_a_job_offers_the_jobs_of_the_account_and_finds_them_by_typing() {
    let site = Site::with(|options| options.speed = 600.0);
    let mut pty = Pty::start(&without(&site, &["DBT_CLOUD_TOKEN"], &["run"]), 16, 60);
    pty.answers_hidden("dbt API token for", DBT_TOKEN);
    pty.sees("dbt job: arrow keys");
    pty.keys("zzzz");
    pty.sees("find: zzzz|");
    // Nothing matches, so nothing can be chosen.
    pty.keys("\r\u{7f}\u{7f}\u{7f}\u{7f}22222");
    pty.sees("find: 22222|");
    pty.keys("2");
    pty.sees("find: 222222|");
    pty.keys("\r");
    let left = pty.ends(0);
    assert!(left.screen.contains("DbtJobRunStatus.SUCCESS"), "{}", left.screen);
    let whole = left.raw.replace("\r\n", "");
    assert!(whole.contains("dbtrigger run 222222"), "{}", left.screen);
    assert!(!left.raw.contains(&DBT_TOKEN[..12]));
    // The rows of an open question are truncated, not wrapped; the lines that it leaves are whole.
    let open: Vec<&str> =
        left.screens.iter().filter_map(|screen| Some(screen.split_once("dbt job: arrow")?.1)).collect();
    assert!(open.len() > 3 && open.iter().any(|screen| screen.contains('…')), "{open:?}");
    assert!(open.iter().all(|screen| screen.lines().skip(1).all(|line| line.chars().count() < 60)), "{open:?}");
    let runs = site.inspect()["dbt_runs"].as_array().unwrap().iter().filter(|run| run["seeded"] == false).count();
    assert_eq!(runs, 1);
}

#[test]
fn profiles_of_the_file_are_offered_and_one_that_is_whole_answers_all() {
    let site = Site::new();
    let origin = site.sandbox.origin();
    let file = site.home.path().join(".databrickscfg");
    let text = format!(
        "[other]\nhost = https://other.cloud.databricks.com\ntoken = x-other-token\n[work]\nhost = {origin}\ntoken = {DATABRICKS_TOKEN}\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut pty = Pty::start(&without(&site, &VARIABLES[..2], &["init-secrets"]), 30, 110);
    pty.sees("other   https://other.cloud.databricks.com");
    pty.sees("another workspace");
    pty.keys("\u{1b}[B");
    pty.sees("> work");
    pty.keys("\r");
    let left = pty.ends(0);
    assert!(left.screen.contains("Without questions: dbtrigger init-secrets -p work\n"), "{}", left.screen);
    // A profile without a credential provides its host; the rest is asked for.
    std::fs::write(&file, format!("[work]\nhost = {origin}\n")).unwrap();
    let mut command = without(&site, &VARIABLES[..2], &["init-secrets"]);
    command.env("PATH", "");
    let mut pty = Pty::start(&command, 30, 110);
    pty.answers("> work", "");
    pty.answers_hidden("personal access token for http", DATABRICKS_TOKEN);
    let left = pty.ends(0);
    assert!(left.screen.contains("Without questions: DATABRICKS_HOST="), "{}", left.screen);
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn nothing_is_asked_with_no_input_in_ci_or_when_stdin_is_taken() {
    let site = Site::new();
    for (arguments, ci) in [
        (&["init-secrets", "--no-input"][..], ""),
        (&["init-secrets"], "true"),
        (&["init-secrets", "--token-stdin"], ""),
    ] {
        let mut command = without(&site, &VARIABLES, arguments);
        command.env("CI", ci);
        let mut pty = Pty::start(&command, 40, 110);
        if arguments.contains(&"--token-stdin") {
            pty.keys(&format!("{}\r\u{4}", "dbtc_typed-0123456789"));
        }
        let left = pty.ends(2);
        for variable in &VARIABLES[..4] {
            assert!(left.screen.contains(variable), "{variable}\n{}", left.screen);
        }
    }
    let mut command = site.command(&["run"]);
    command.env("CI", "true");
    let left = Pty::start(&command, 20, 110).ends(2);
    assert!(left.screen.contains("no dbt job given"), "{}", left.screen);
}

#[test]
fn a_token_is_not_asked_for_where_it_would_not_be_sent() {
    let site = Site::new();
    let address = format!("{}/deploy/51234/projects/4101/jobs/222222", site.sandbox.origin());
    let command = without(&site, &["DBT_CLOUD_HOST", "DBT_CLOUD_TOKEN"], &["run", &address]);
    let left = Pty::start(&command, 20, 110).ends(2);
    assert!(!left.screen.contains("dbt API token for"), "{}", left.screen);
    assert_eq!(site.requests(), 0);
}
