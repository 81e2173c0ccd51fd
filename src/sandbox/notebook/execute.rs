//! Runs one notebook in one Python process.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, MissedTickBehavior};

use super::python::Python;
use crate::sandbox::{NotebookOutcome, SimTime};

const DRIVER: &str = include_str!("dbutils.py");

/// How long a notebook may clean up after cancellation. Real time, because cleanup uses the network.
const GRACE: Duration = Duration::from_secs(5);

/// How often to check for cancellation.
const TICK: Duration = Duration::from_millis(25);

/// Longest printed text kept, in bytes; Databricks cuts the output of a run too.
const OUTPUT_LIMIT: usize = 5 * 1024 * 1024;

/// Why a secret is not handed out.
pub(super) struct Refused {
    /// `missing` or `forbidden`.
    pub(super) kind: &'static str,
    /// The reason in Databricks' words.
    pub(super) words: String,
}

/// What a notebook can request from the sandbox while it runs.
pub(super) trait Cluster {
    fn secret(&self, scope: &str, key: &str) -> Result<String, Refused>;
    fn secrets(&self, scope: &str) -> Result<Vec<String>, Refused>;
    fn set_task_value(&self, key: &str, value: Value);
    fn task_value(&self, task: &str, key: &str) -> Option<Value>;
    fn is_cancelled(&self) -> bool;
}

/// One notebook to run.
pub(super) struct NotebookRun<'a> {
    pub(super) path: &'a str,
    pub(super) source: &'a str,
    pub(super) parameters: &'a BTreeMap<String, String>,
    /// The sandbox's clock at the start.
    pub(super) now: SimTime,
    pub(super) speed: f64,
    pub(super) search_path: Option<&'a OsStr>,
    /// The CA certificate file that it trusts.
    pub(super) authority: Option<&'a Path>,
}

#[derive(Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
enum DriverMessage {
    Print { text: String },
    Secret { number: u64, scope: String, key: String },
    Secrets { number: u64, scope: String },
    SetValue { number: u64, key: String, value: Value },
    GetValue { number: u64, task: String, key: String },
    End(NotebookOutcome),
}

/// Runs the notebook to its end and returns the outcome and the printed text.
///
/// In the printed text, every secret that was handed out is replaced by `[REDACTED]`, exact matches only. Error, trace
/// and exit value are left unchanged: whether Databricks redacts them is unverified, and tests
/// should see a leak.
pub(super) async fn execute(
    python: &Python,
    notebook: &NotebookRun<'_>,
    cluster: &impl Cluster,
) -> (NotebookOutcome, String) {
    let mut run = Run { printed: Vec::new(), handed_out: Vec::new(), outcome: None };
    let outcome = match run.drive(python, notebook, cluster).await {
        Ok(outcome) => outcome,
        Err(failure) => failed(format!("The notebook's Python process failed: {failure}")),
    };
    (outcome, run.output())
}

fn failed(error: String) -> NotebookOutcome {
    NotebookOutcome::Failed { error, trace: String::new() }
}

struct Run {
    printed: Vec<u8>,
    handed_out: Vec<String>,
    outcome: Option<NotebookOutcome>,
}

impl Run {
    async fn drive(
        &mut self,
        python: &Python,
        notebook: &NotebookRun<'_>,
        cluster: &impl Cluster,
    ) -> std::io::Result<NotebookOutcome> {
        let folder = tempfile::tempdir()?;
        let mut child = spawn(python, notebook, folder.path())?;
        let group = Group::of(&child);
        let (Some(mut stdin), Some(stdout), Some(mut stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(std::io::Error::other("its pipes are missing"));
        };
        let mut lines = BufReader::new(stdout).lines();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut raw = [0; 8192];
        let mut raw_open = true;
        let mut kill_at = None;

        let first = json!({
            "path": notebook.path,
            "source": notebook.source,
            "parameters": notebook.parameters,
            "now": notebook.now.0,
            "speed": notebook.speed,
            "import_from": python.import_from,
        });
        // If the process has already exited, the end of its stdout shows it.
        let _ = write_line(&mut stdin, &first).await;
        let killed = loop {
            tokio::select! {
                biased;
                _ = tick.tick() => match kill_at {
                    Some(at) if Instant::now() >= at => break true,
                    None if cluster.is_cancelled() => {
                        group.interrupt(&mut child);
                        kill_at = Some(Instant::now() + GRACE);
                    }
                    Some(_) | None => {}
                },
                line = lines.next_line() => {
                    let Some(line) = line? else { break false };
                    if let Some(answer) = self.handle_message(&line, cluster) {
                        let _ = write_line(&mut stdin, &answer).await;
                    }
                    if self.outcome.is_some() {
                        break false;
                    }
                }
                count = stderr.read(&mut raw), if raw_open => match count? {
                    0 => raw_open = false,
                    count => self.print(&raw[..count]),
                },
            }
        };
        if self.outcome.is_none() {
            // Killed, or its stdout is closed: it can report nothing more.
            let _ = child.start_kill();
        }
        // Python is about to exit. Output of its subprocesses until then still counts, but one that stays behind with
        // the pipe open must not hold up the task.
        let drain = async {
            while let Ok(count @ 1..) = stderr.read(&mut raw).await {
                self.print(&raw[..count]);
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(200), drain).await;
        group.kill(&mut child);
        let status = child.wait().await?;
        Ok(self.outcome.take().unwrap_or_else(|| {
            failed(if killed {
                format!("The notebook did not end within {} s of its cancellation and was killed.", GRACE.as_secs())
            } else {
                format!("The notebook's Python process ended early: {status}.")
            })
        }))
    }

    /// Handles one line from the driver and returns the response it waits for, if any.
    fn handle_message(&mut self, line: &str, cluster: &impl Cluster) -> Option<Value> {
        let refused = |number: u64, refused: Refused| {
            let Refused { kind, words } = refused;
            json!({"number": number, "kind": kind, "error": words})
        };
        match serde_json::from_str(line) {
            Ok(DriverMessage::Print { text }) => {
                self.print(text.as_bytes());
                None
            }
            Ok(DriverMessage::Secret { number, scope, key }) => Some(match cluster.secret(&scope, &key) {
                Ok(value) => {
                    let answer = json!({"number": number, "value": value});
                    self.handed_out.push(value);
                    answer
                }
                Err(why) => refused(number, why),
            }),
            Ok(DriverMessage::Secrets { number, scope }) => Some(match cluster.secrets(&scope) {
                Ok(keys) => json!({"number": number, "value": keys}),
                Err(why) => refused(number, why),
            }),
            Ok(DriverMessage::SetValue { number, key, value }) => {
                cluster.set_task_value(&key, value);
                Some(json!({"number": number}))
            }
            Ok(DriverMessage::GetValue { number, task, key }) => Some(match cluster.task_value(&task, &key) {
                Some(value) => json!({"number": number, "value": value}),
                None => json!({"number": number}),
            }),
            Ok(DriverMessage::End(outcome)) => {
                self.outcome = Some(outcome);
                None
            }
            // Printed directly to the file descriptor, past the replaced `sys.stdout`.
            Err(_) => {
                self.print(line.as_bytes());
                self.print(b"\n");
                None
            }
        }
    }

    fn print(&mut self, text: &[u8]) {
        // Keep more than is shown, so a secret at the limit is still complete when it is replaced.
        let room = (2 * OUTPUT_LIMIT).saturating_sub(self.printed.len());
        self.printed.extend_from_slice(&text[..text.len().min(room)]);
    }

    fn output(&mut self) -> String {
        let mut text = String::from_utf8_lossy(&self.printed).into_owned();
        self.handed_out.retain(|secret| !secret.is_empty());
        // Longest first, because one secret may contain another.
        self.handed_out.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        self.handed_out.dedup();
        for secret in &self.handed_out {
            text = text.replace(secret.as_str(), "[REDACTED]");
        }
        if text.len() > OUTPUT_LIMIT {
            text.truncate(text.floor_char_boundary(OUTPUT_LIMIT));
            text.push_str("\n*** WARNING: output was truncated ***\n");
        }
        text
    }
}

fn spawn(python: &Python, notebook: &NotebookRun<'_>, folder: &Path) -> std::io::Result<Child> {
    let mut command = Command::new(&python.executable);
    // A cluster knows nothing of this machine's environment: no proxies, no tokens, no `.netrc` in HOME. Windows cannot
    // start programs without some of its variables.
    if cfg!(not(windows)) {
        command.env_clear();
    }
    if let Some(path) = notebook.search_path {
        command.env("PATH", path);
    }
    if let Some(authority) = notebook.authority {
        command.env("SSL_CERT_FILE", authority).env("REQUESTS_CA_BUNDLE", authority);
    }
    command
        .args(["-I", "-B", "-X", "utf8", "-c", DRIVER])
        .env("HOME", folder)
        .env("NO_PROXY", "127.0.0.1,localhost")
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // Ctrl-C in the sandbox's terminal must not reach the notebook.
    #[cfg(unix)]
    command.process_group(0);
    command.spawn()
}

async fn write_line(stdin: &mut tokio::process::ChildStdin, line: &Value) -> std::io::Result<()> {
    let mut text = line.to_string();
    text.push('\n');
    stdin.write_all(text.as_bytes()).await?;
    stdin.flush().await
}

/// The notebook's process group: Python and everything it started. Killed on drop, so nothing outlives a stopped
/// sandbox.
pub(super) struct Group {
    #[cfg(unix)]
    leader: std::cell::Cell<Option<rustix::process::Pid>>,
}

#[cfg(unix)]
impl Group {
    /// Returns the group of a child that was started as its leader.
    pub(super) fn of(child: &Child) -> Group {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Group { leader: std::cell::Cell::new(id.and_then(rustix::process::Pid::from_raw)) }
    }

    /// Sends SIGINT to Python only, as Databricks interrupts its interpreter.
    fn interrupt(&self, _child: &mut Child) {
        if let Some(leader) = self.leader.get() {
            let _ = rustix::process::kill_process(leader, rustix::process::Signal::INT);
        }
    }

    /// Marks the leader as waited for, with no processes left behind.
    pub(super) fn ended(&self) {
        self.leader.set(None);
    }

    /// Kills the group. Not once the leader has been waited for: its id may then belong to another process.
    fn kill(&self, _child: &mut Child) {
        if let Some(leader) = self.leader.take() {
            let _ = rustix::process::kill_process_group(leader, rustix::process::Signal::KILL);
        }
    }
}

#[cfg(unix)]
impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader.take() {
            let _ = rustix::process::kill_process_group(leader, rustix::process::Signal::KILL);
        }
    }
}

#[cfg(not(unix))]
impl Group {
    pub(super) fn of(_child: &Child) -> Group {
        Group {}
    }

    #[expect(clippy::unused_self, reason = "there are groups elsewhere")]
    pub(super) fn ended(&self) {}

    /// Ends the process at once: nothing can interrupt a single process here.
    fn interrupt(&self, child: &mut Child) {
        let _ = child.start_kill();
    }

    fn kill(&self, child: &mut Child) {
        let _ = child.start_kill();
    }
}
