//! A hermetic environment for each test: its own sandbox, its own home, the built program.
//!
//! All output of the program and the sandbox's log are also kept in a folder, where the leak suite searches the
//! output of the whole test run for tokens.

use std::ffi::OsString;
use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dbtrigger::sandbox::{Background, FaultRule, Options, Reply, Seed, SimTime, World};
use serde_json::Value;

/// The tokens of all tests, which the leak suite searches for.
pub(crate) const DATABRICKS_TOKEN: &str = "dapi5eed0canary0databricks0token0";
pub(crate) const DBT_TOKEN: &str = "dbtc_Canary+dbt/token-5EED0xyz_Q";

/// The sandboxes' start time: 2026-11-02T03:04:05Z.
pub(crate) const START: SimTime = SimTime(1_793_588_645_000);

/// The folder for all output.
pub(crate) fn outputs() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("outputs");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The file with the requests and responses of the sandboxes, to be compared with dbt's API description.
fn exchanges() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("exchanges");
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(format!("{}.jsonl", std::process::id()))
}

/// Keeps this text for the leak suite.
pub(crate) fn keep(kind: &str, text: &str) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{}-{number}-{kind}.txt", std::process::id());
    std::fs::write(outputs().join(name), text).unwrap();
}

/// The environment of one test.
pub(crate) struct Site {
    pub(crate) sandbox: Background,
    pub(crate) home: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

/// An ID in a document.
#[track_caller]
pub(crate) fn id(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no id: {value}")).to_owned()
}

impl Site {
    /// A sandbox with the default seed and no delay.
    pub(crate) fn new() -> Site {
        Site::with(|_| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Site {
        let mut options = Options::new(Seed {
            databricks_token: DATABRICKS_TOKEN.to_owned(),
            dbt_token: DBT_TOKEN.to_owned(),
            start: START,
            random: 7,
        });
        options.search_path = search_path();
        options.python_environment = Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("sandbox-python"));
        options.exchanges = Some(exchanges());
        change(&mut options);
        let sandbox = Background::start(options).unwrap();
        let variables = sandbox.environment().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Site { sandbox, home: tempfile::tempdir().unwrap(), variables }
    }

    /// Adds a fault rule in text form.
    pub(crate) fn fault(&self, rule: &str) {
        let rule = FaultRule::parse(rule).unwrap();
        self.sandbox.with_world(|world, _| world.add_fault(rule));
    }

    /// Returns the state of the world.
    pub(crate) fn inspect(&self) -> Value {
        self.sandbox.with_world(|world: &mut World, _| world.inspect())
    }

    /// The world without what may differ between two runs: IDs, the count of writes, and the sandbox's port, which
    /// is in the notebook and so changes its digest.
    pub(crate) fn essence(&self) -> Value {
        let text = self.inspect().to_string().replace(self.sandbox.origin(), "the sandbox");
        let mut parts = text.split("sha256=");
        let mut same = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            same.push_str("sha256=");
            same.push_str(&part[64..]);
        }
        let mut world = serde_json::from_str(&same).unwrap();
        forget(&mut world);
        world
    }

    /// Creates someone else's workflow: two tasks, the second after the first, and its own `job_id`.
    pub(crate) fn make_workflow(&self, name: &str) {
        let notebook = serde_json::json!({ "notebook_path": "/Shared/theirs", "source": "WORKSPACE" });
        let body = serde_json::json!({
            "name": name, "parameters": [{ "name": "job_id", "default": "7" }],
            "tasks": [
                { "task_key": "load", "notebook_task": notebook, "odd": [1.5, null] },
                { "task_key": "report", "notebook_task": notebook, "depends_on": [{ "task_key": "load" }] },
            ],
        });
        self.post("/api/2.2/jobs/create", &body);
    }

    /// A successful request to the workspace by someone else.
    pub(crate) fn post(&self, path: &str, body: &Value) {
        let request = http::Request::post(format!("{}{path}", self.sandbox.origin()))
            .header("authorization", format!("Bearer {DATABRICKS_TOKEN}"))
            .body(body.to_string().into())
            .unwrap();
        let reply = self.sandbox.with_world(|world, now| world.answer(now, &request));
        assert!(matches!(reply, Reply::Answer(ref answer) if answer.status().is_success()), "{reply:?}");
    }

    /// The program with these arguments, isolated from the machine.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dbtrigger"));
        command.args(arguments).env_clear().current_dir(self.home.path());
        command.env("HOME", self.home.path()).env("PATH", search_path().unwrap_or_default());
        // The tests never use the machine's keyring.
        command.env("DBTRIGGER_NO_KEYRING", "1");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        Site::finish(arguments, self.command(arguments).spawn().unwrap())
    }

    /// Runs it with this standard input.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Site::finish(arguments, child)
    }

    /// Waits for a program that was started with [`Site::command`].
    pub(crate) fn finish(arguments: &[&str], child: Child) -> Output {
        let output = child.wait_with_output().unwrap();
        let output = Output {
            arguments: arguments.iter().map(ToString::to_string).collect(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            exit: output.status.code(),
        };
        keep("output", &output.to_string());
        output
    }

    /// The write operations, in order, from request number `since`.
    pub(crate) fn writes(&self, since: usize) -> Vec<String> {
        let log = self.sandbox.log();
        log.iter().skip(since).filter(|line| line.writes).map(|line| line.operation.to_owned()).collect()
    }

    pub(crate) fn requests(&self) -> usize {
        self.sandbox.log().len()
    }

    /// Waits until the sandbox has received this operation so many times.
    pub(crate) fn until_asked(&self, operation: &str, times: usize) {
        let is_asked = || self.sandbox.log().iter().filter(|line| line.operation == operation).count() >= times;
        let asked = self.sandbox.until(|_, _| is_asked().then_some(()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let waited = runtime.block_on(async { tokio::time::timeout(Duration::from_mins(1), asked).await });
        assert!(waited.is_ok(), "{operation} was not requested {times} times");
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let lines: Vec<String> = self.sandbox.log().iter().map(|line| serde_json::to_string(line).unwrap()).collect();
        keep("log", &lines.join("\n"));
        // The leak suite also searches the files left in the home folder.
        let mut left = String::new();
        walk(self.home.path(), &mut |path| {
            left += &String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default());
            left.push('\n');
        });
        keep("home", &left);
    }
}

fn forget(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for name in ["object_id", "job_id", "version", "created_time", "last_updated_timestamp", "dbt_runs"] {
                fields.shift_remove(name);
            }
            fields.values_mut().for_each(forget);
        }
        Value::Array(items) => items.iter_mut().for_each(forget),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn walk(folder: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { walk(&path, visit) } else { visit(&path) }
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests look for the machine's Python")]
fn search_path() -> Option<OsString> {
    std::env::var_os("PATH")
}

/// The output and exit code of one run of the program.
#[must_use = "the exit code says whether it worked: call `ends`"]
pub(crate) struct Output {
    pub(crate) arguments: Vec<String>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) exit: Option<i32>,
}

impl Output {
    /// Fails with all output unless the program exited with this code.
    #[track_caller]
    pub(crate) fn ends(self, exit: i32) -> Output {
        assert_eq!(self.exit, Some(exit), "{self}");
        self
    }

    /// The JSON document on stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}\n{self}"))
    }

    /// Fails unless stdout or stderr contains this text.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Output {
        assert!(self.stdout.contains(text) || self.stderr.contains(text), "nothing says {text:?}\n{self}");
        self
    }
}

impl fmt::Display for Output {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Output { arguments, stdout, stderr, exit } = self;
        writeln!(formatter, "$ dbtrigger {}\n{stdout}---- stderr\n{stderr}---- exit {exit:?}", arguments.join(" "))
    }
}
