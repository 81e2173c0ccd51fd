//! The command line at first sight: help, version, usage errors, missing values.

use std::process::Command;

use crate::harness::Site;

/// The program in an empty environment.
pub(crate) fn bare(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_dbtrigger"))
        .args(arguments)
        .env_clear()
        .env("DBTRIGGER_NO_KEYRING", "1")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn help_and_version_go_to_stdout_and_name_only_what_is_built() {
    let (exit, out, err) = bare(&["--version"]);
    let line = concat!("dbtrigger ", env!("CARGO_PKG_VERSION"), " (");
    assert!(exit == 0 && out.starts_with(line) && out.lines().count() == 1 && err.is_empty(), "{out}{err}");
    let (_, document, _) = bare(&["version", "-o", "json"]);
    let data = &serde_json::from_str::<serde_json::Value>(&document).unwrap()["data"];
    let [version, commit, target] = ["version", "commit", "target"].map(|field| data[field].as_str().unwrap());
    assert_eq!(out, format!("dbtrigger {version} ({commit}, {target})\n"));
    for command in commands() {
        let (exit, help, _) = bare(&[&command, "--help"]);
        assert_eq!(exit, 0, "{command}");
        assert!(examples(&help).len() >= 2, "{command} has fewer than two examples\n{help}");
        for sub in subcommands(&help) {
            let (exit, help, _) = bare(&[&command, &sub, "--help"]);
            assert_eq!(exit, 0, "{command} {sub}");
            assert!(examples(&help).len() >= 2, "{command} {sub} has fewer than two examples\n{help}");
        }
        // Three ways to the same page.
        assert_eq!(bare(&["help", &command]), bare(&[&command, "--help"]));
    }
    assert_eq!(bare(&["help", "auth", "login"]), bare(&["auth", "login", "--help"]));
    assert_eq!(bare(&["help"]), bare(&["--help"]));
    assert_eq!(bare(&[]), (2, String::new(), bare(&["-h"]).1));
}

#[test]
fn help_has_colors_where_they_are_wanted() {
    let colored = |arguments: &[&str], variable: Option<(&str, &str)>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dbtrigger"));
        let output = command.args(arguments).env_clear().envs(variable).output().unwrap();
        [output.stdout, output.stderr].concat().contains(&0x1b)
    };
    for help in [&["-h"][..], &["run", "--help"], &["help", "run"], &[]] {
        let with = |color: &'static str| [help, &["--color", color]].concat();
        // A pipe is not a terminal.
        assert!(!colored(help, None), "{help:?}");
        assert!(colored(help, Some(("CLICOLOR_FORCE", "1"))), "{help:?}");
        assert!(!colored(&with("never"), Some(("CLICOLOR_FORCE", "1"))), "{help:?}");
        if !help.contains(&"help") {
            assert!(colored(&with("always"), Some(("NO_COLOR", "1"))), "{help:?}");
        }
    }
}

#[test]
fn global_options_come_last_and_are_the_same_for_every_command() {
    let globals = |help: &str| {
        let (own, rest) = help.split_once("\nGlobal options:\n").unwrap_or_else(|| panic!("{help}"));
        (own.to_owned(), rest.to_owned())
    };
    let (_, everywhere) = globals(&bare(&["jobs", "--help"]).1);
    let everywhere = everywhere.split("\n\nExamples:").next().unwrap();
    for flag in ["-o, --output", "--no-input", "-p, --profile", "--dbt-url", "--ca-bundle"] {
        assert!(everywhere.contains(flag), "{flag} in {everywhere}");
    }
    for command in commands() {
        let (_, long, _) = bare(&[&command, "--help"]);
        let (own, rest) = globals(&long);
        assert!(rest.starts_with(everywhere), "{command}\n{rest}");
        assert!(!own.contains("--output") && own.contains("-h, --help"), "{command}\n{own}");
        let (_, short, _) = bare(&[&command, "-h"]);
        assert!(short.contains("--output") && !short.contains("--ca-bundle"), "{command}\n{short}");
        assert!(short.lines().count() < long.lines().count(), "{command}");
    }
}

/// The commands in the program's help, in its order.
pub(crate) fn commands() -> Vec<String> {
    let (exit, help, _) = bare(&["--help"]);
    assert_eq!(exit, 0);
    // Groups of commands, then the options.
    let names = listed(help.split("\nGlobal options:\n").next().unwrap());
    assert!(names.len() >= 12, "{names:?}");
    names
}

/// Each command by its full name; a command with subcommands is replaced by them.
pub(crate) fn whole_commands() -> Vec<String> {
    let with_actions = commands().into_iter().flat_map(|command| {
        let actions = subcommands(&bare(&[&command, "--help"]).1);
        let whole = actions.iter().map(|action| format!("{command} {action}")).collect();
        if actions.is_empty() { vec![command] } else { whole }
    });
    with_actions.collect()
}

/// The subcommands in a command's help; `help` has no page.
pub(crate) fn subcommands(help: &str) -> Vec<String> {
    listed(help.split("\nCommands:\n").nth(1).unwrap_or_default().split("\n\n").next().unwrap_or_default())
}

fn listed(list: &str) -> Vec<String> {
    // A description may continue on the next line, indented further.
    let names = list.lines().filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    names.map(|line| line.split(' ').next().unwrap().to_owned()).filter(|name| name != "help").collect()
}

/// The commands of the examples, without the program's name.
pub(crate) fn examples(help: &str) -> Vec<Vec<String>> {
    let part = help.split("Examples:").nth(1).unwrap_or_default();
    part.lines().filter_map(|line| line.strip_prefix("  dbtrigger ")).map(words).collect()
}

#[test]
fn a_wrong_flag_is_a_usage_error_in_text_and_in_json() {
    let (exit, out, err) = bare(&["run", "--frobnicate"]);
    assert_eq!((exit, out.as_str()), (2, ""));
    assert!(err.contains("--frobnicate"), "{err}");
    for (line, near) in [
        (&["run", "--frobnicate"][..], None),
        (&["rnu"], Some("\"run\"")),
        (&["setup", "--jbo", "1"], Some("--job")),
        (&["jbos"], Some("jobs")),
        (&["jobs", "--projekt", "x"], Some("--project")),
        (&["completions", "basch"], Some("bash")),
    ] {
        let (exit, out, err) = bare(line);
        assert_eq!((exit, out.as_str()), (2, ""), "{line:?}");
        assert!(near.is_none_or(|near| err.contains(near)), "{line:?}\n{err}");
        assert!(err.contains(" [usage]\n") && err.trim_end().ends_with("--help"), "{line:?}\n{err}");
        let text = err;
        let (exit, out, err) = bare(&[line, &["-o", "json"]].concat());
        let document: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((exit, &document["ok"], &document["error"]["code"]), (2, &false.into(), &"usage".into()));
        assert_eq!(err, text, "{line:?}");
        let hints = document["error"]["hints"].to_string();
        assert!(near.is_none_or(|near| hints.replace('\\', "").contains(near)), "{line:?}\n{hints}");
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "the line is what the test is for")]
fn an_error_stands_on_stderr_in_either_form_of_output() {
    let mut same = 0;
    let whole = whole_commands();
    let mut lines: Vec<Vec<&str>> =
        whole.iter().map(|command| command.split(' ').chain(["--frobnicate"]).collect()).collect();
    lines.extend(["jobs", "runs", "doctor", "run", "setup", "init-secrets"].map(|command| vec![command]));
    lines.extend([vec!["auth", "login", "--dbt-host", "x.dbt.com"], vec!["--ca-bundle", "/nowhere", "jobs"], vec![]]);
    for line in &lines {
        let (text_exit, _, text) = bare(line);
        let (exit, out, err) = bare(&[&line[..], &["-o", "json"]].concat());
        let document: serde_json::Value = serde_json::from_str(&out).unwrap();
        let code = document["error"]["code"].as_str().unwrap();
        assert!(exit == text_exit && err.contains(&format!(" [{code}]\n")), "{line:?}: {exit}\n{err}");
        // Without arguments, text output is the help.
        assert!(line.is_empty() || err == text, "{line:?}\n{err}\n{text}");
        same += 1;
    }
    println!("errors on stderr under -o json: {same} of {}", lines.len());
}

#[test]
fn flags_of_runs_that_would_say_nothing_about_what_is_listed_are_refused() {
    let filters = [["--job", "1"], ["--status", "error"], ["--project", "x"], ["--environment", "x"]];
    for list in [&["--workflow", "x"][..], &["--orphans"]] {
        for filter in &filters {
            let (exit, _, err) = bare(&[&["runs"], list, filter].concat());
            assert!(exit == 2 && err.contains("cannot be used with"), "{list:?} {filter:?}\n{err}");
        }
    }
    for line in [["runs", "--orphans", "--workflow", "x"], ["runs", "--orphans", "--limit", "5"]] {
        let (exit, _, err) = bare(&line);
        assert!(exit == 2 && err.contains("cannot be used with"), "{line:?}\n{err}");
    }
}

#[test]
fn all_missing_values_are_named_at_once() {
    for (arguments, variables) in [
        (
            &["init-secrets"][..],
            &["DATABRICKS_HOST", "DATABRICKS_TOKEN", "DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID", "DBT_CLOUD_TOKEN"][..],
        ),
        (&["setup"], &["-y", "--job", "DATABRICKS_HOST", "DATABRICKS_TOKEN", "DBT_CLOUD_HOST", "DBT_CLOUD_TOKEN"]),
        (&["deploy-notebook"], &["DATABRICKS_HOST", "DATABRICKS_TOKEN", "DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID"]),
        (&["remove", "--all"], &["-y", "DATABRICKS_HOST", "DATABRICKS_TOKEN"]),
        (&["run"], &["dbt job", "DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID", "DBT_CLOUD_TOKEN"]),
        (&["create-workflow"], &["--job", "DATABRICKS_HOST", "DATABRICKS_TOKEN", "DBT_CLOUD_HOST", "DBT_CLOUD_TOKEN"]),
        (&["run", "222222"], &["DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID", "DBT_CLOUD_TOKEN"]),
        (&["watch", "1"], &["DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID", "DBT_CLOUD_TOKEN"]),
        (&["cancel", "--workflow-run", "1"], &["DATABRICKS_HOST", "DATABRICKS_TOKEN"]),
        (&["jobs"], &["DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID", "DBT_CLOUD_TOKEN"]),
        (&["runs"], &["DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID", "DBT_CLOUD_TOKEN"]),
        (
            &["runs", "--orphans"],
            &["DATABRICKS_HOST", "DATABRICKS_TOKEN", "DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID", "DBT_CLOUD_TOKEN"],
        ),
        (&["runs", "--workflow", "x"], &["DATABRICKS_HOST", "DATABRICKS_TOKEN"]),
        (&["watch", "--workflow-run", "1"], &["DATABRICKS_HOST", "DATABRICKS_TOKEN"]),
        (&["run", "--workflow", "x"], &["DATABRICKS_HOST", "DATABRICKS_TOKEN"]),
    ] {
        let (exit, out, err) = bare(arguments);
        assert_eq!((exit, out.as_str()), (2, ""), "{arguments:?}\n{err}");
        for variable in variables {
            assert!(err.contains(variable), "{arguments:?} does not name {variable}\n{err}");
        }
        let (_, out, _) = bare(&[arguments, &["-o", "json"]].concat());
        let document: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(document["error"]["code"], "missing-input", "{arguments:?}");
    }
}

#[test]
fn a_profile_named_with_p_is_used_whatever_the_environment_says() {
    let site = Site::new();
    let file = site.home.path().join(".databrickscfg");
    let environment = site.command(&[]);
    let host = environment.get_envs().find(|(name, _)| *name == "DATABRICKS_HOST").unwrap().1.unwrap();
    let host = host.to_str().unwrap();
    let token = crate::harness::DATABRICKS_TOKEN;
    std::fs::write(&file, format!("[work]\nhost = {host}\ntoken = {token} ; mine\n")).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = site.command(arguments);
        command
            .env("DATABRICKS_HOST", "https://elsewhere.invalid")
            .env("DATABRICKS_TOKEN", "dapi-elsewhere-0123456789");
        Site::finish(arguments, command.spawn().unwrap())
    };
    let _ = run(&["init-secrets", "-p", "work"]).ends(0);
    let _ = run(&["init-secrets", "--profile", "gone"]).ends(2).says("the profiles there: work");
    let _ = run(&["init-secrets", "--profile", "wrok"]).ends(2).says("did you mean \"work\"?");
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_service_principal_signs_in_and_its_secret_shows_nowhere() {
    const ID: &str = "1b2c3d4e-0000-4000-8000-000000000001";
    const SECRET: &str = "dose5eed0canary0client0secret0";
    let site = Site::new();
    site.sandbox.with_world(|world, _| world.add_client(ID, SECRET, true));
    let arguments = ["init-secrets", "-vv"];
    let mut command = site.command(&arguments);
    command.env_remove("DATABRICKS_TOKEN").env("DATABRICKS_CLIENT_ID", ID).env("DATABRICKS_CLIENT_SECRET", SECRET);
    let output = Site::finish(&arguments, command.spawn().unwrap()).ends(0).says("/oidc/v1/token -> 200").says(ID);
    let shown = output.to_string();
    // The log counts changes, and requesting a token is not one.
    let log = site.sandbox.log();
    let asked = log.iter().find(|line| line.operation == "databricks:oidc/token").unwrap();
    assert_eq!((asked.method.as_str(), asked.writes), ("POST", false));
    assert!(
        site.writes(0).iter().all(|operation| operation.starts_with("databricks:secrets/")),
        "{:?}",
        site.writes(0)
    );
    signs_in_as(&site, "auth/oauth-m2m");
    // The Base64 of the ID and the secret begins like that of the ID.
    assert!(!shown.contains(SECRET) && !shown.contains("MWIyYzNkNGU") && !shown.contains("eyJ0sandbox"), "{shown}");
}

/// Every request to Databricks names the authentication method used.
#[track_caller]
fn signs_in_as(site: &Site, way: &str) {
    let log = site.sandbox.log();
    let agents =
        log.iter().filter(|line| line.service == "databricks").map(|line| line.agent.clone().unwrap_or_default());
    let agents: Vec<String> = agents.collect();
    assert!(!agents.is_empty() && agents.iter().all(|agent| agent.split(' ').any(|word| word == way)), "{agents:?}");
}

#[cfg(unix)]
#[test]
fn the_login_of_databricks_is_asked_for_a_token_and_its_refusal_comes_with_the_other_ways() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = Site::new();
    let folder = site.home.path().join("bin");
    let program = folder.join("databricks");
    std::fs::create_dir(&folder).unwrap();
    let run = |script: String| {
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = site.command(&["init-secrets", "-v"]);
        command.env_remove("DATABRICKS_TOKEN").env("PATH", &folder);
        Site::finish(&["init-secrets", "-v"], command.spawn().unwrap())
    };
    let token = crate::harness::DATABRICKS_TOKEN;
    let _ = run(format!("#!/bin/sh\necho '{{\"access_token\":\"{token}\"}}'\n")).ends(0);
    signs_in_as(&site, "auth/databricks-cli");
    let refused = run("#!/bin/sh\necho 'no login for this host' >&2\nexit 1\n".to_owned()).ends(4);
    let refused = refused.says("no login for this host").says("tried pat").says("tried oauth-m2m");
    let _ = refused.says("databricks auth login --host");
    std::fs::remove_file(&program).unwrap();
}

#[test]
fn the_sandbox_points_a_client_at_itself_and_ends_when_interrupted() {
    use std::io::{BufRead as _, BufReader};
    use std::process::Stdio;

    let site = Site::new();
    let file = site.home.path().join("sandbox.env");
    for (tls, count) in [(&[][..], 5), (&["--tls"][..], 7)] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_dbtrigger"))
            .args(["sandbox", "--env-file"])
            .arg(&file)
            .args(tls)
            .env_clear()
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().take(count);
        let lines: Vec<String> = lines.map(Result::unwrap).collect();
        let written = std::fs::read_to_string(&file).unwrap();
        for line in &lines {
            let pair = line.strip_prefix("export ").unwrap();
            assert!(written.lines().any(|line| line == pair), "{pair}");
        }
        assert_eq!(written.lines().count(), count, "{written}");
        let authority = lines.iter().find_map(|line| line.strip_prefix("export SSL_CERT_FILE="));
        assert!(authority.is_none_or(|file| std::path::Path::new(file).exists()), "{written}");
        let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(status.success());
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert!(authority.is_none_or(|file| !std::path::Path::new(file).exists()), "{written}");
    }
}

#[test]
fn a_static_script_for_each_shell_knows_every_command_and_bash_completes_with_its_own() {
    let site = Site::new();
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = site.run(&["completions", shell, "--static"]).ends(0).stdout;
        for command in commands() {
            assert!(script.contains(&command), "{shell} does not know {command}");
        }
        assert!(script.contains("idempotency-key"), "{shell} knows no flags");
        let document = site.run(&["completions", shell, "--static", "-o", "json"]).ends(0).json();
        let expected = document["data"]["script"].as_str().unwrap().trim_end();
        assert_eq!((script.trim_end(), &document["data"]["shell"]), (expected, &shell.into()));
    }
    let script = site.home.path().join("completions.bash");
    std::fs::write(&script, site.run(&["completions", "bash", "--static"]).ends(0).stdout).unwrap();
    let complete = |words: &[&str]| {
        // As bash calls it: the program, the word to complete, the word before.
        let line = r#"source "$1" || exit 1; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
            _dbtrigger "$1" "${!#}" "${COMP_WORDS[COMP_CWORD - 1]}"; echo "${COMPREPLY[*]}""#;
        let output = Command::new("bash").args(["--norc", "-uc", line, "bash"]).arg(&script).args(words).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(complete(&["dbtrigger", "create-"]), "create-workflow");
    assert_eq!(complete(&["dbtrigger", "run", "--idem"]), "--idempotency-key");
    assert_eq!(complete(&["dbtrigger", "completions", "power"]), "powershell");
    let checked = Command::new("bash").arg("-n").arg(&script).status().unwrap();
    assert!(checked.success());
    let _ = site.run(&["completions", "csh"]).ends(2).says("bash, zsh, fish, powershell");
    std::fs::remove_file(&script).unwrap();
}

#[test]
fn a_shell_that_asks_the_program_gets_codes_files_and_names_of_jobs() {
    let site = Site::new();
    let script = site.home.path().join("completions.bash");
    std::fs::write(&script, site.run(&["completions", "bash"]).ends(0).stdout).unwrap();
    let folder = std::path::Path::new(env!("CARGO_BIN_EXE_dbtrigger")).parent().unwrap();
    let own = site.command(&[]);
    let variables = || own.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let complete = |words: &[&str]| {
        // As bash calls it.
        let line = r#"source "$1" || exit 1; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
            _dbtrigger; echo "${COMPREPLY[*]}""#;
        let output = Command::new("bash")
            .args(["--norc", "-c", line, "bash"])
            .arg(&script)
            .args(words)
            .env_clear()
            .envs(variables())
            .env("PATH", format!("{}:/usr/bin:/bin", folder.display()))
            .current_dir(site.home.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(complete(&["dbtrigger", "create-"]), "create-workflow");
    assert_eq!(complete(&["dbtrigger", "explain", "not-fo"]), "not-found");
    assert_eq!(complete(&["dbtrigger", "run", "Nigh"]), "'Nightly build'");
    let listed = || site.sandbox.log().iter().filter(|line| line.operation == "dbt:jobs/list").count();
    let pages = listed();
    assert_eq!(complete(&["dbtrigger", "run", "'Nightly b"]), "Nightly build");
    assert_eq!(complete(&["dbtrigger", "setup", "--job", "22222"]).split_whitespace().count(), 5);
    assert_eq!(complete(&["dbtrigger", "init-secrets", "--token-file", "completions."]), "completions.bash");
    // The names came once, and were kept.
    assert_eq!(listed(), pages);
    for (shell, line) in
        [("zsh", "Nightly build:222222"), ("fish", "Nightly build\t222222"), ("powershell", "Nightly build\t222222")]
    {
        let registered = site.run(&["completions", shell]).ends(0).stdout;
        assert!(registered.contains("DBTRIGGER_COMPLETE"), "{registered}");
        let mut command = site.command(&["--", "dbtrigger", "run", "Nigh"]);
        command.env("DBTRIGGER_COMPLETE", shell).env("_CLAP_COMPLETE_INDEX", "2");
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), line);
    }
    // Without access there is nothing to offer, and nothing is said.
    let mut command = site.command(&["--", "dbtrigger", "run", "Nigh"]);
    command.env("DBTRIGGER_COMPLETE", "zsh").env("_CLAP_COMPLETE_INDEX", "2").env("DBT_CLOUD_ACCOUNT_ID", "");
    let output = command.output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len(), output.stderr.len()), (Some(0), 0, 0));
    std::fs::remove_file(&script).unwrap();
}

/// Splits like a shell, for single quotes only.
pub(crate) fn words(line: &str) -> Vec<String> {
    line.split('\'').enumerate().fold(Vec::new(), |mut words, (index, part)| {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(ToOwned::to_owned));
        }
        words
    })
}

/// The flags in a help text, without continuation lines.
fn flags(help: &str) -> Vec<String> {
    let words = help.lines().map(str::trim_start).filter(|line| line.starts_with('-')).flat_map(str::split_whitespace);
    let flag = |word: &str| word.trim_end_matches(',').to_owned();
    let mut all: Vec<String> = words.filter(|word| word.starts_with("--")).map(flag).collect();
    all.sort();
    all.dedup();
    all
}

#[test]
#[expect(clippy::print_stdout, reason = "the line is what the test is for")]
fn a_token_among_the_arguments_is_refused_before_any_request_and_never_repeated() {
    let site = Site::new();
    let command = site.command(&[]);
    let live = command.get_envs().find(|(name, _)| *name == "DBT_CLOUD_TOKEN").and_then(|(_, value)| value);
    let live = live.and_then(|value| value.to_str()).unwrap().to_owned();
    let foreign = "dapi0123456789abcdef0123456789abcdef";
    let (before, mut count, mut wrong) = (site.requests(), 0, Vec::new());
    for command in whole_commands() {
        let words: Vec<&str> = command.split(' ').collect();
        let mut forms = vec![vec![String::new()], vec!["--no-such-flag=".to_owned()]];
        for flag in flags(&bare(&[&words[..], &["--help"]].concat()).1) {
            forms.push(vec![format!("{flag}=")]);
            forms.push(vec![flag, String::new()]);
        }
        for token in [foreign, live.as_str()] {
            for form in &forms {
                count += 1;
                let (last, front) = form.split_last().unwrap();
                let value = format!("{last}{token}");
                let rest: Vec<&str> = front.iter().map(String::as_str).chain([value.as_str()]).collect();
                let line = [&words[..], &rest].concat();
                // The harness would keep the arguments of a run.
                let output = site.command(&line).output().unwrap();
                let said = [&output.stdout[..], &output.stderr].concat();
                let said = String::from_utf8_lossy(&said);
                if output.status.code() != Some(2) || said.contains(token) {
                    wrong.push(format!("{line:?}: {:?} {said}", output.status));
                }
            }
        }
    }
    println!("tokens as arguments of the program: {} of {count}", count - wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(site.requests(), before);
}
