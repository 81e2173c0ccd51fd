//! The services' own clients and third-party ones against the sandbox over https: runs each test of the Python
//! files in this folder with its own sandbox. `.ci/run` installs the clients and names their Python in
//! `CLIENTS_PYTHON`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../harness/mod.rs"]
#[expect(dead_code, reason = "the harness serves several test programs")]
mod harness;

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::Site;

/// A service principal that signs in with a secret.
const CLIENT_ID: &str = "1b2c3d4e-0000-4000-8000-000000000001";
const CLIENT_SECRET: &str = "dose5eed0canary0client0secret0";

#[expect(
    clippy::disallowed_methods,
    reason = "the tests are told where the clients are, and a certificate is checked against the real time"
)]
fn surroundings() -> (PathBuf, jiff::Timestamp) {
    let python =
        std::env::var_os("CLIENTS_PYTHON").expect("CLIENTS_PYTHON names a Python with tests/clients/requirements.txt");
    (python.into(), jiff::Timestamp::now())
}

/// Runs each test of a file, and prints `NAME: N of M`.
#[expect(clippy::print_stdout, reason = "the line is what the suite is for")]
fn each_test_of(module: &str) {
    let (python, now) = surroundings();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let text = std::fs::read_to_string(folder.join(format!("{module}.py"))).unwrap();
    let mut class = "";
    let mut cases = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("class ") {
            class = name.split('(').next().unwrap();
        }
        if let Some(name) = line.strip_prefix("    def test_") {
            cases.push(format!("{module}.{class}.test_{}", name.split('(').next().unwrap()));
        }
    }
    let mut failures = Vec::new();
    for case in &cases {
        let site = Site::with(|options| {
            options.tls = Some(now);
            options.speed = 600.0;
        });
        site.sandbox.with_world(|world, _| world.add_client(CLIENT_ID, CLIENT_SECRET, true));
        let arguments = ["-B", "-W", "error::ResourceWarning", "-m", "unittest", case];
        // Used only for this site's environment variables.
        let mut command = Command::new(&python);
        for (name, value) in site.command(&[]).get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.args(arguments).current_dir(&folder);
        command.env("TRIED_CLIENT_ID", CLIENT_ID).env("TRIED_CLIENT_SECRET", CLIENT_SECRET);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // Exceptions during cleanup are only printed and do not change the exit code.
        if !output.status.success() || said.contains("ResourceWarning") {
            failures.push(format!("{case}\n{said}"));
        }
        let log = site.sandbox.log();
        for line in log.iter().filter(|line| line.status == Some(501)) {
            failures.push(format!("{case}: the sandbox lacks {} {}", line.method, line.path));
        }
    }
    println!("{module}: {} of {}", cases.len() - failures.len().min(cases.len()), cases.len());
    assert!(!cases.is_empty() && failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn databricks_own_sdk() {
    each_test_of("test_databricks");
}

#[test]
fn clients_of_dbt() {
    each_test_of("test_dbt");
}
