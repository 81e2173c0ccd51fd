//! `doctor` with the built program: a complete setup, and each host check broken on real sockets.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};

use serde_json::{Value, json};

use crate::harness::{Output, Site};

/// Runs it with other variables; an empty value removes one.
fn doctor(site: &Site, variables: &[(&str, &str)]) -> Output {
    let arguments = ["doctor", "-o", "json"];
    let mut command = site.command(&arguments);
    for (name, value) in variables {
        if value.is_empty() {
            command.env_remove(name)
        } else {
            command.env(name, value)
        };
    }
    Site::finish(&arguments, command.spawn().unwrap())
}

#[track_caller]
fn check(document: &Value, id: &str) -> Value {
    let all = document["data"]["checks"].as_array().unwrap();
    all.iter().find(|check| check["id"] == id).unwrap_or_else(|| panic!("{id}: {document:#}")).clone()
}

/// The check fails with this next step, and the later checks are skipped because of it.
#[track_caller]
fn breaks(output: Output, link: &str, next: &str, behind: &[&str]) {
    let document = output.ends(1).json();
    assert_eq!((&document["ok"], &document["error"]["code"]), (&json!(false), &json!("failed")));
    let broken = check(&document, link);
    assert!(broken["status"] == "failed" && broken["next"].to_string().contains(next), "{broken}");
    let subject = link.replace('.', " ").replace("databricks", "Databricks");
    assert_eq!(document["error"]["message"], format!("1 check failed: {subject}"), "{document:#}");
    assert!(document["error"]["hints"].to_string().contains(next), "{document:#}");
    for id in behind {
        let skipped = check(&document, id);
        assert!(skipped["status"] == "skipped" && skipped["reason"].as_str().unwrap().contains(&subject), "{skipped}");
    }
}

/// A local port that gives everyone the same answer.
fn telling(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}

/// Returns an address that refuses connections, and what keeps others from listening there.
fn refusing() -> (tokio::net::TcpSocket, SocketAddr) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn prepared(site: &Site) {
    let _ = site.run(&["init-secrets"]).ends(0);
    let _ = site.run(&["deploy-notebook"]).ends(0);
    let _ = site.run(&["create-workflow", "--job", "222225"]).ends(0);
}

#[test]
fn a_whole_setup_ends_with_0_and_writes_nothing() {
    let site = Site::new();
    prepared(&site);
    let since = site.requests();
    let text = site.run(&["doctor"]).ends(0);
    assert!(text.stdout.starts_with("dbt\n  \u{2713} ") && text.stderr.is_empty(), "{text}");
    let document = doctor(&site, &[]).ends(0).json();
    assert_eq!((&document["ok"], &document["data"]["counts"]["failed"]), (&json!(true), &json!(0)));
    for check in document["data"]["checks"].as_array().unwrap() {
        let fields: Vec<&String> = check.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["id", "status", "what", "reason", "next"]);
        let word = check["status"].as_str().unwrap();
        assert!(["ok", "skipped"].contains(&word) && (word == "skipped") == check["reason"].is_string(), "{check}");
        assert_eq!(check["next"], json!([]));
    }
    assert_eq!(site.writes(since), Vec::<String>::new());
}

#[test]
fn a_host_that_cannot_be_reached_is_named_with_the_reason_and_the_rest_is_skipped() {
    let site = Site::new();
    prepared(&site);
    let (_port, closed) = refusing();
    let host = format!("http://{closed}");
    breaks(
        doctor(&site, &[("DBT_CLOUD_HOST", &host)]),
        "dbt.connection",
        "check the host, the network, and HTTPS_PROXY, then run the",
        &["dbt.clock", "dbt.identity", "setup.job:222225"],
    );
    let broken = check(&doctor(&site, &[("DBT_CLOUD_HOST", &host)]).json(), "dbt.connection");
    assert_eq!(broken["what"], format!("cannot reach {closed}: connection refused"));
    // Longer than a DNS label may be, so no resolver is asked.
    let host = format!("https://{}.invalid", "a".repeat(70));
    breaks(
        doctor(&site, &[("DATABRICKS_HOST", &host)]),
        "databricks.connection",
        "check the host name and the network",
        &["databricks.clock", "databricks.identity", "setup.workflow", "setup.key"],
    );
    let host = format!("http://127.0.0.1:{}", telling("hello\r\n\r\n"));
    breaks(doctor(&site, &[("DBT_CLOUD_HOST", &host)]), "dbt.connection", "check the host", &["dbt.identity"]);
    let host = format!("https://127.0.0.1:{}", telling("HTTP/1.1 400 Bad Request\r\n\r\n"));
    breaks(doctor(&site, &[("DBT_CLOUD_HOST", &host)]), "dbt.connection", "check the host", &["dbt.identity"]);
}

#[test]
fn a_proxy_that_refuses_or_is_not_there_is_named_with_its_variable() {
    let site = Site::new();
    prepared(&site);
    let forbids =
        format!("http://ana:geheim@127.0.0.1:{}", telling("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"));
    for name in ["HTTPS_PROXY", "all_proxy"] {
        let output = doctor(&site, &[("DBT_CLOUD_HOST", "ab123.us1.dbt.com"), (name, &forbids)]);
        assert!(!output.to_string().contains("geheim"), "{output}");
        breaks(output, "dbt.connection", &format!("set in {name}"), &["dbt.clock", "dbt.identity"]);
    }
    let (_port, closed) = refusing();
    let absent = format!("http://{closed}");
    let output = doctor(&site, &[("DBT_CLOUD_HOST", "ab123.us1.dbt.com"), ("HTTPS_PROXY", &absent)]);
    breaks(output, "dbt.connection", "set in HTTPS_PROXY", &["dbt.clock"]);
}

#[test]
fn an_expired_certificate_is_named() {
    let document = doctor(&crate::tls::secure_since(370), &[]).ends(1).json();
    let expired = check(&document, "dbt.connection");
    assert!(expired["status"] == "failed" && expired["reason"].as_str().unwrap().contains("xpired"), "{expired}");
}

#[test]
fn a_certificate_that_nobody_vouches_for_and_a_clock_that_is_wrong_are_checks_of_their_own() {
    let site = crate::tls::secure();
    prepared(&site);
    let environment = site.command(&[]);
    let host = environment.get_envs().find(|(name, _)| *name == "DBT_CLOUD_HOST").unwrap().1.unwrap();
    let untrusted = doctor(&site, &[("SSL_CERT_FILE", "")]).ends(1).json();
    for id in ["dbt.connection", "databricks.connection"] {
        let broken = check(&untrusted, id);
        assert!(broken["status"] == "failed" && broken["next"].to_string().contains("--ca-bundle"), "{broken}");
    }
    // The sandbox has its own time; only a loopback address is exempt from the clock check.
    let by_name = host.to_str().unwrap().replace("127.0.0.1", "localhost");
    let document = doctor(&site, &[("DBT_CLOUD_HOST", &by_name)]).ends(1).json();
    let clock = check(&document, "dbt.clock");
    assert!(clock["status"] == "failed" && clock["next"].to_string().contains("set the clock"), "{clock}");
    assert_eq!(check(&document, "dbt.connection")["status"], "ok");
    assert_eq!(check(&document, "dbt.identity")["status"], "ok", "who has the wrong time may still be let in");
}

/// Runs a printed command in a shell.
fn type_in(site: &Site, line: &str, unset: &[&str]) -> Output {
    let mut shell = std::process::Command::new("sh");
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_dbtrigger")).parent().unwrap();
    let like = site.command(&[]);
    shell.args(["-c", line]).env_clear().current_dir(like.get_current_dir().unwrap());
    for (name, value) in like.get_envs() {
        if let Some(value) = value.filter(|_| !unset.iter().any(|unset| name == *unset)) {
            shell.env(name, value);
        }
    }
    let path = like.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, path)| path).unwrap_or_default();
    shell.env("PATH", format!("{}:{}", program.display(), path.to_string_lossy()));
    shell.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    Site::finish(&[line], shell.spawn().unwrap())
}

#[test]
fn commands_that_are_printed_say_once_more_what_was_given_on_the_line() {
    let site = Site::new();
    let like = site.command(&[]);
    let set = |name: &str| {
        let found = like.get_envs().find(|(known, _)| *known == name).unwrap();
        found.1.unwrap().to_str().unwrap().to_owned()
    };
    let profile = format!("[dev]\nhost = {}\ntoken = {}\n", set("DATABRICKS_HOST"), set("DATABRICKS_TOKEN"));
    let file = like.get_current_dir().unwrap().join(".databrickscfg");
    std::fs::write(&file, profile).unwrap();
    let unset = ["DATABRICKS_HOST", "DATABRICKS_TOKEN", "DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID"];
    let host = set("DBT_CLOUD_HOST");
    let flags = format!("-p dev --dbt-host {host} --dbt-account {}", set("DBT_CLOUD_ACCOUNT_ID"));
    // From nothing: each failed check names a command that can be pasted.
    let document = type_in(&site, &format!("dbtrigger {flags} doctor --job 222225 -o json"), &unset).ends(1).json();
    let hints = document["error"]["hints"].as_array().unwrap();
    let setup = format!("dbtrigger {flags} setup --job 222225");
    assert!(hints.iter().any(|given| given["command"] == setup), "{document:#}");
    for (link, command) in [
        ("setup.key:dbt-cloud/api-key", "init-secrets --scope dbt-cloud --key api-key"),
        ("setup.notebook", "deploy-notebook"),
        ("setup.workflow", "create-workflow --job 222225"),
    ] {
        let hint = format!("dbtrigger {flags} {command}");
        assert_eq!(check(&document, link)["next"][0]["command"], hint, "{document:#}");
        let done = type_in(&site, &hint, &unset).ends(0);
        let next = done.stdout.lines().find_map(|line| line.strip_prefix("next: "));
        assert!(next.unwrap().starts_with(&format!("dbtrigger {flags} ")), "{done}");
        if command.starts_with("create-workflow") {
            let _ = type_in(&site, next.unwrap(), &unset).ends(0);
        }
    }
    let _ = type_in(&site, &format!("dbtrigger {flags} doctor --job 222225"), &unset).ends(0);
    // A refusal prints the whole command line; commands for a pipeline name nothing of this machine.
    let path = "/Shared/run_dbt_job";
    let refused = type_in(&site, &format!("dbtrigger {flags} deploy-notebook --notebook {path}"), &unset).ends(7);
    let whole = format!("dbtrigger {flags} deploy-notebook --notebook {path} --accept-shared-path");
    let _ = refused.says(&format!("accept that others can edit it: {whole}"));
    let guide = format!("dbtrigger {flags} setup --job 222226 --dry-run -o json");
    let commands = type_in(&site, &guide, &unset).ends(0).json()["data"]["commands"].to_string();
    assert!(commands.contains("create-workflow --job 222226") && !commands.contains("-p dev"), "{commands}");
    assert!(!commands.contains("--dbt-host"), "{commands}");
    std::fs::remove_file(&file).unwrap();
}
