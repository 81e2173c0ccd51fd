//! The command line as everybody meets it first: help, version, usage errors, missing values.

use std::process::Command;

use crate::harness::Site;

/// The program in an empty environment.
fn bare(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_dbtrigger")).args(arguments).env_clear().output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn help_and_version_go_to_stdout_and_name_only_what_is_built() {
    let (exit, out, err) = bare(&["--version"]);
    assert_eq!((exit, out.as_str(), err.as_str()), (0, concat!("dbtrigger ", env!("CARGO_PKG_VERSION"), "\n"), ""));
    let (exit, out, _) = bare(&["--help"]);
    assert_eq!(exit, 0);
    for command in [
        "init-secrets",
        "deploy-notebook",
        "create-workflow",
        "run",
        "watch",
        "cancel",
        "runs",
        "jobs",
        "sandbox",
        "demo",
    ] {
        assert!(out.contains(command), "{out}");
        let (exit, help, _) = bare(&[command, "--help"]);
        assert_eq!(exit, 0, "{command}");
        assert!(help.contains("Examples:"), "{command} has no example\n{help}");
    }
}

#[test]
fn a_wrong_flag_is_a_usage_error_in_text_and_in_json() {
    let (exit, out, err) = bare(&["run", "--frobnicate"]);
    assert_eq!((exit, out.as_str()), (2, ""));
    assert!(err.contains("--frobnicate"), "{err}");
    let (exit, out, _) = bare(&["run", "--frobnicate", "-o", "json"]);
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((exit, &document["ok"], &document["error"]["code"]), (2, &false.into(), &"usage".into()));
}

#[test]
fn all_missing_values_are_named_at_once() {
    for (arguments, variables) in [
        (
            &["init-secrets"][..],
            &["DATABRICKS_HOST", "DATABRICKS_TOKEN", "DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID", "DBT_CLOUD_TOKEN"][..],
        ),
        (&["deploy-notebook"], &["DATABRICKS_HOST", "DATABRICKS_TOKEN", "DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID"]),
        (&["run"], &["JOB", "DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID", "DBT_CLOUD_TOKEN"]),
        (&["create-workflow"], &["--job", "DATABRICKS_HOST", "DATABRICKS_TOKEN", "DBT_CLOUD_HOST", "DBT_CLOUD_TOKEN"]),
        (&["run", "222222"], &["DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID", "DBT_CLOUD_TOKEN"]),
        (&["watch", "1"], &["DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID", "DBT_CLOUD_TOKEN"]),
        (&["cancel", "--workflow-run", "1"], &["DATABRICKS_HOST", "DATABRICKS_TOKEN"]),
        (&["jobs"], &["DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID", "DBT_CLOUD_TOKEN"]),
        (&["runs"], &["DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID", "DBT_CLOUD_TOKEN"]),
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
    signs_in_as(&site, "auth/oauth-m2m");
    // Base64 of the id and the secret begins with that of the id.
    assert!(!shown.contains(SECRET) && !shown.contains("MWIyYzNkNGU") && !shown.contains("eyJ0sandbox"), "{shown}");
}

/// Every request to Databricks says which way was used.
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
        let mut command = site.command(&["init-secrets"]);
        command.env_remove("DATABRICKS_TOKEN").env("PATH", &folder);
        Site::finish(&["init-secrets"], command.spawn().unwrap())
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
    let mut child = Command::new(env!("CARGO_BIN_EXE_dbtrigger"))
        .args(["sandbox", "--env-file"])
        .arg(&file)
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines: Vec<String> = BufReader::new(child.stdout.take().unwrap()).lines().take(5).map(Result::unwrap).collect();
    let written = std::fs::read_to_string(&file).unwrap();
    for line in &lines {
        let pair = line.strip_prefix("export ").unwrap();
        assert!(written.lines().any(|line| line == pair), "{pair}");
    }
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn every_example_in_the_help_works() {
    use std::collections::BTreeMap;

    let site = Site::with(|options| options.speed = 600.0);
    std::fs::write(site.home.path().join("new-key"), crate::harness::DBT_TOKEN).unwrap();
    let mut counted = BTreeMap::new();
    // In the order in which a person would come to them.
    for command in ["init-secrets", "deploy-notebook", "create-workflow", "run", "watch", "cancel", "runs", "jobs"] {
        let (_, help, _) = bare(&[command, "--help"]);
        let examples = help.split("Examples:").nth(1).unwrap();
        for example in examples.lines().filter_map(|line| line.strip_prefix("  dbtrigger ")) {
            let arguments = words(example);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let _ = site.run(&arguments).ends(0);
            *counted.entry(command).or_insert(0) += 1;
        }
    }
    assert!(counted.len() == 8 && counted.values().all(|count| *count >= 2), "{counted:?}");
    std::fs::remove_file(site.home.path().join("new-key")).unwrap();
}

/// Splits as a shell does, for single quotes only.
fn words(line: &str) -> Vec<String> {
    line.split('\'').enumerate().fold(Vec::new(), |mut words, (index, part)| {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(ToOwned::to_owned));
        }
        words
    })
}
