//! The built program with a real Secret Service: GNOME's keyring on a private bus, unlocked, locked, absent and
//! hanging.
//!
//! Skipped if `gnome-keyring-daemon` or `dbus-daemon` is not installed, unless `KEYRING_TESTS` is set.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../harness/mod.rs"]
#[expect(dead_code, reason = "the harness serves four test programs")]
mod harness;

#[path = "../it/pty.rs"]
#[expect(dead_code, reason = "it serves two test programs")]
mod pty;

#[path = "../it/reference/fields.rs"]
#[expect(dead_code, reason = "it serves two test programs")]
mod fields;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use harness::{DATABRICKS_TOKEN, DBT_TOKEN, Output, Site};
use serde_json::Value;
use tokio::time::Instant;

const VARIABLES: [&str; 6] = [
    "DBTRIGGER_NO_KEYRING",
    "DATABRICKS_HOST",
    "DATABRICKS_TOKEN",
    "DBT_CLOUD_HOST",
    "DBT_CLOUD_ACCOUNT_ID",
    "DBT_CLOUD_TOKEN",
];

/// Time limit of a read-only command on a busy machine; its own limit is 3 s.
const SHORT: Duration = Duration::from_secs(20);

/// A process that ends with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests look for the machine's programs")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[expect(clippy::print_stdout, reason = "a test that does nothing says so")]
fn missing() -> bool {
    let there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let missing: Vec<&str> =
        ["gnome-keyring-daemon", "dbus-daemon"].into_iter().filter(|program| !there(program)).collect();
    if missing.is_empty() {
        return false;
    }
    assert!(variable("KEYRING_TESTS").is_none(), "not installed: {}", missing.join(", "));
    println!("skipped: not installed: {}", missing.join(", "));
    true
}

/// A bus that starts no services.
struct Bus {
    address: String,
    folder: tempfile::TempDir,
    _daemon: Daemon,
}

impl Bus {
    fn start() -> Bus {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("bus.conf");
        let text = format!(
            "<busconfig><type>session</type><listen>unix:path={}/bus</listen><auth>EXTERNAL</auth><policy context=\"default\">\
             <allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>",
            folder.path().display()
        );
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new("dbus-daemon")
            .args(["--nofork", "--print-address=1", "--config-file"])
            .arg(&config)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Bus { address: address.trim().to_owned(), folder, _daemon: Daemon(child) }
    }

    /// GNOME's keyring on this bus; its data outlives the daemon.
    fn keyring(&self, unlocked: bool) -> Keyring {
        let home = self.folder.path().join("home");
        std::fs::create_dir_all(home.join("run")).unwrap();
        let mut command = Command::new("gnome-keyring-daemon");
        command
            .args(["--foreground", "--components=secrets"])
            .args(unlocked.then_some("--unlock"))
            .env("HOME", &home)
            .env("XDG_DATA_HOME", home.join("data"))
            .env("XDG_CONFIG_HOME", home.join("config"))
            .env("XDG_CACHE_HOME", home.join("cache"))
            .env("XDG_RUNTIME_DIR", home.join("run"))
            .env("DBUS_SESSION_BUS_ADDRESS", &self.address)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        if unlocked {
            // An empty password creates the first keyring and unlocks it.
            input.write_all(b"\n").unwrap();
        }
        let keyring = Keyring { daemon: Daemon(child), _input: (!unlocked).then_some(input) };
        let end = Instant::now() + SHORT;
        while !self.has_secrets() {
            assert!(Instant::now() < end, "the keyring does not come up");
            std::thread::yield_now();
        }
        keyring
    }

    fn has_secrets(&self) -> bool {
        let output = Command::new("dbus-send")
            .arg(format!("--bus={}", self.address))
            .args(["--print-reply", "--dest=org.freedesktop.DBus", "/", "org.freedesktop.DBus.NameHasOwner"])
            .arg("string:org.freedesktop.secrets")
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).contains("boolean true")
    }
}

struct Keyring {
    daemon: Daemon,
    _input: Option<ChildStdin>,
}

impl Keyring {
    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.daemon.0.id().to_string()]).status().unwrap().success());
    }
}

/// The program in this world, with this bus only.
fn command(site: &Site, bus: &str, arguments: &[&str]) -> Command {
    let mut command = site.command(arguments);
    for name in VARIABLES {
        command.env_remove(name);
    }
    command.env("DBUS_SESSION_BUS_ADDRESS", bus);
    command
}

fn run(site: &Site, bus: &str, arguments: &[&str]) -> Output {
    Site::finish(arguments, command(site, bus, arguments).spawn().unwrap())
}

fn fed(site: &Site, bus: &str, arguments: &[&str], input: &str) -> Output {
    let mut child = command(site, bus, arguments).stdin(Stdio::piped()).spawn().unwrap();
    // It may exit before it reads.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    Site::finish(arguments, child)
}

fn login_to_dbt(site: &Site, bus: &str) -> Output {
    let origin = site.sandbox.origin();
    let arguments = ["auth", "login", "--dbt-host", origin, "--dbt-account", "51234", "--token-stdin", "-vv"];
    fed(site, bus, &arguments, &format!("{DBT_TOKEN}\n"))
}

#[test]
fn a_login_is_used_by_every_command_until_it_is_removed() {
    if missing() {
        return;
    }
    let (bus, site) = (Bus::start(), Site::with(|options| options.speed = 600.0));
    let keyring = bus.keyring(true);
    let (bus_at, origin) = (bus.address.as_str(), site.sandbox.origin());
    let file = site.home.path().join("token");
    std::fs::write(&file, DATABRICKS_TOKEN).unwrap();
    let _ = login_to_dbt(&site, bus_at).ends(0).says("Stored the token for dbt account 51234");
    let _ = run(&site, bus_at, &["auth", "login", "--databricks", origin, "--token-file", "token"]).ends(0);
    std::fs::remove_file(&file).unwrap();
    let _ = login_to_dbt(&site, bus_at).ends(0).says("Replaced the token for dbt account 51234");

    let status = run(&site, bus_at, &["auth", "status", "-o", "json"]).ends(0).json();
    assert_eq!(
        status["data"]["dbt"]["token_from"],
        format!("the login for dbt account 51234 at {origin} in the keyring")
    );
    assert_eq!(status["data"]["databricks"]["works"], true);
    assert_eq!(status["data"]["keyring"]["logins"].as_array().unwrap().len(), 2);

    // The daemon stores it on disk.
    drop(keyring);
    let keyring = bus.keyring(true);
    let _ = run(&site, bus_at, &["run", "222222"]).ends(0).says("DbtJobRunStatus.SUCCESS");
    let _ = run(&site, bus_at, &["jobs", "-v"]).ends(0);
    let _ = run(&site, bus_at, &["deploy-notebook", "--dry-run", "--dbt-host", origin]).ends(0);
    // The key that workflows use is never read from the keyring.
    let _ = run(&site, bus_at, &["init-secrets"]).ends(2).says("--token-stdin");

    let twice = run(&site, bus_at, &["auth", "logout"]).ends(0).says("Removed the token for dbt account 51234");
    let _ = twice.says("The keyring still has the token for Databricks");
    let _ = run(&site, bus_at, &["auth", "logout"]).ends(0).says("has no login for dbt");
    let _ = run(&site, bus_at, &["jobs", "-v"]).ends(2).says("tried keyring");
    let _ = run(&site, bus_at, &["auth", "logout", "--all"]).ends(0).says("Removed the token for Databricks");
    let empty = run(&site, bus_at, &["auth", "status", "-o", "json"]).ends(4).json();
    assert_eq!(empty["data"]["keyring"]["logins"], Value::Array(Vec::new()));
    drop(keyring);
}

/// The documents of `docs/reference/json.md` that no other test can produce.
#[test]
fn the_documents_of_the_reference_are_what_comes() {
    if missing() {
        return;
    }
    let (bus, site) = (Bus::start(), Site::new());
    let _keyring = bus.keyring(true);
    let (bus_at, origin) = (bus.address.as_str(), site.sandbox.origin());
    let file = site.home.path().join("token");
    std::fs::write(&file, DBT_TOKEN).unwrap();
    let login =
        ["auth", "login", "--dbt-host", origin, "--dbt-account", "51234", "--token-file", "token", "-o", "json"];
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/reference");
    for (name, arguments) in
        [("auth-login.json", &login[..]), ("auth-logout.json", &["auth", "logout", "--all", "-o", "json"])]
    {
        let document = fields::normal(&run(&site, bus_at, arguments).ends(0).json());
        let text = serde_json::to_string_pretty(&document).unwrap() + "\n";
        let place = folder.join(name);
        if variable("UPDATE_REFERENCE").is_some() {
            std::fs::write(&place, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&place).unwrap(), text, "run: UPDATE_REFERENCE=1 cargo test --test keyring");
    }
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_login_asks_for_what_it_misses_and_shows_no_token() {
    if missing() {
        return;
    }
    let (bus, site) = (Bus::start(), Site::new());
    let _keyring = bus.keyring(true);
    let origin = site.sandbox.origin();
    let of_dbt = [("dbt host", origin), ("dbt API token for", DBT_TOKEN)];
    let of_databricks = [("Databricks host", origin), ("personal access token for", DATABRICKS_TOKEN)];
    for (arguments, conversation, stored) in [
        (&["auth", "login"][..], &of_dbt[..], "Stored the token for dbt account 51234"),
        (&["auth", "login", "--databricks"], &of_databricks, "Stored the token for Databricks at"),
        (&["auth", "login", "--databricks", origin], &of_databricks[1..], "Replaced the token for Databricks at"),
    ] {
        let mut pty = pty::Pty::start(&command(&site, &bus.address, arguments), 40, 120);
        for (question, answer) in conversation {
            if question.contains("token") {
                pty.answers_hidden(question, answer);
            } else {
                pty.answers(question, answer);
            }
        }
        let left = pty.ends(0);
        assert!(left.screen.contains(stored), "{}", left.screen);
        assert!(!left.raw.contains(DBT_TOKEN) && !left.raw.contains(DATABRICKS_TOKEN));
    }
    let _ = run(&site, &bus.address, &["auth", "status"]).ends(0);
}

#[test]
fn a_second_account_stands_beside_the_first_and_has_to_be_named_then() {
    if missing() {
        return;
    }
    let (bus, site, other) = (Bus::start(), Site::new(), Site::new());
    let _keyring = bus.keyring(true);
    for site in [&site, &other] {
        let _ = login_to_dbt(site, &bus.address).ends(0);
    }
    let both = run(&site, &bus.address, &["jobs", "-v"]).ends(2).says("none is selected");
    let _ = both.says(site.sandbox.origin()).says(other.sandbox.origin());
    let before = other.requests();
    let _ = run(&site, &bus.address, &["jobs", "-v", "--dbt-host", site.sandbox.origin()]).ends(0);
    let link = format!("{}/deploy/51234/projects/1/jobs/222225", other.sandbox.origin());
    let _ = run(&site, &bus.address, &["runs", "--job", &link]).ends(0);
    assert!(other.requests() > before);
    let elsewhere = ["jobs", "-v", "--dbt-host", "127.0.0.2", "--dbt-account", "51234"];
    let _ = run(&site, &bus.address, &elsewhere).ends(2).says("no login for account 51234 at");
    let _ = run(&site, &bus.address, &["auth", "logout"]).ends(2).says("--all");
}

#[test]
fn a_locked_keyring_is_named_and_nothing_hangs() {
    if missing() {
        return;
    }
    let (bus, site) = (Bus::start(), Site::new());
    let keyring = bus.keyring(true);
    let _ = login_to_dbt(&site, &bus.address).ends(0);
    drop(keyring);
    let _locked = bus.keyring(false);
    let begun = Instant::now();
    let _ = run(&site, &bus.address, &["jobs", "-v"]).ends(2).says("the keyring is locked");
    let _ = run(&site, &bus.address, &["auth", "status"]).ends(4).says("Keyring: locked");
    let _ = login_to_dbt(&site, &bus.address).ends(1).says("unlock the keyring");
    assert!(begun.elapsed() < SHORT, "{:?}", begun.elapsed());
}

#[test]
fn where_there_is_no_keyring_the_cause_and_the_other_ways_are_named() {
    if missing() {
        return;
    }
    let (bus, site) = (Bus::start(), Site::new());
    for (address, cause) in [("unix:path=/nonexistent/bus", "No such file"), (bus.address.as_str(), "secrets")] {
        let login = login_to_dbt(&site, address).ends(1).says("no keyring").says("set DBT_CLOUD_TOKEN");
        let login = login.says(cause);
        assert!(!login.stderr.contains('\u{1b}'));
        let _ = run(&site, address, &["jobs", "-v"]).ends(2).says("tried keyring: no keyring");
        let _ = run(&site, address, &["auth", "status"]).ends(4).says("Keyring: no keyring");
    }
}

#[test]
fn a_keyring_that_hangs_is_given_up_and_a_login_can_be_interrupted() {
    if missing() {
        return;
    }
    let (bus, site) = (Bus::start(), Site::new());
    let keyring = bus.keyring(true);
    keyring.signal("-STOP");
    let begun = Instant::now();
    let _ = run(&site, &bus.address, &["jobs", "-v"]).ends(2).says("did not respond within 3 s");
    let _ = run(&site, &bus.address, &["auth", "status"]).ends(4).says("did not respond within 3 s");
    assert!(begun.elapsed() < 2 * SHORT, "{:?}", begun.elapsed());
    // With all credentials given, the keyring is not even opened.
    let given = Site::finish(
        &["jobs", "-v"],
        site.command(&["jobs", "-v"]).env_remove("DBTRIGGER_NO_KEYRING").spawn().unwrap(),
    );
    let _ = given.ends(0);
    // A login waits for the user to unlock it, says so, and handles a signal.
    let origin = site.sandbox.origin();
    let arguments = ["auth", "login", "--dbt-host", origin, "--dbt-account", "51234", "--token-stdin"];
    let mut child = command(&site, &bus.address, &arguments).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("waiting for the keyring"), "{line}");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    keyring.signal("-CONT");
}

#[test]
fn it_is_not_opened_in_ci_nor_where_a_variable_forbids_it() {
    if missing() {
        return;
    }
    let (bus, site) = (Bus::start(), Site::new());
    let keyring = bus.keyring(true);
    let _ = login_to_dbt(&site, &bus.address).ends(0);
    // It would hang now.
    keyring.signal("-STOP");
    for name in ["CI", "DBTRIGGER_NO_KEYRING"] {
        for (arguments, exit) in [(&["jobs", "-v"][..], 2), (&["auth", "status"], 4), (&["auth", "logout"], 2)] {
            let child = command(&site, &bus.address, arguments).env(name, "1").spawn().unwrap();
            let _ = Site::finish(arguments, child).ends(exit).says(&format!("not used: {name} is set"));
        }
    }
    keyring.signal("-CONT");
}

#[test]
fn the_examples_of_the_help_that_change_the_keyring_work() {
    if missing() {
        return;
    }
    let (bus, site) = (Bus::start(), Site::new());
    let _keyring = bus.keyring(true);
    let origin = site.sandbox.origin();
    std::fs::write(site.home.path().join("token"), DATABRICKS_TOKEN).unwrap();
    let mut counted = 0;
    for page in [&["auth"][..], &["auth", "login"], &["auth", "logout"]] {
        let help = Site::finish(page, site.command(&[page, &["--help"]].concat()).spawn().unwrap()).ends(0).stdout;
        let before = counted;
        for line in help.split("Examples:").nth(1).unwrap().lines() {
            let Some(line) = line.strip_prefix("  dbtrigger ").filter(|line| !line.contains("status")) else {
                continue;
            };
            let here = line
                .replace("https://dbc-a1b2345c-d6e7.cloud.databricks.com", origin)
                .replace("ab123.us1.dbt.com", origin)
                .replace(" 1234", " 51234");
            // Quoted for a shell, and without spaces inside.
            let here = here.replace('\'', "");
            let arguments: Vec<&str> = here.split(' ').collect();
            let mut command = command(&site, &bus.address, &arguments);
            command
                .env("DBT_CLOUD_TOKEN", DBT_TOKEN)
                .env("DATABRICKS_HOST", origin)
                .env("DATABRICKS_TOKEN", DATABRICKS_TOKEN);
            let _ = Site::finish(&arguments, command.spawn().unwrap()).ends(0);
            counted += 1;
        }
        assert!(counted - before >= 2, "{page:?} has fewer than two examples");
    }
    assert!(counted >= 8, "{counted}");
    std::fs::remove_file(site.home.path().join("token")).unwrap();
}
