//! `demo`: runs the guide against the sandbox, each step as a command the user could type.
//!
//! Each step starts this program as a child process, so the demo shows what users get.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

use super::CommandContext;
use super::sandbox::{options, start_failure};
use crate::document::{Data, document};
use crate::events::Events;
use crate::failure::{Code, Ended, Failure, Report};
use crate::line::Line;
use crate::sandbox::Background;
use crate::text::quoted;

/// Run the guide on a local sandbox
///
/// Starts the sandbox and runs the commands you would type: store the secret, deploy the notebook, create the workflow,
/// run it with the real notebook in a real Python, run a dbt job directly, and run one that fails. Asks nothing.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  dbtrigger demo
  dbtrigger demo -o json")]
pub(crate) struct Args {}

/// One step: what it shows, what is typed, and the exit code that belongs there.
struct Step {
    about: &'static str,
    arguments: &'static [&'static str],
    exit: i32,
}

const STEPS: [Step; 7] = [
    Step {
        about: "Store the dbt API key as a secret that data engineers can read.",
        arguments: &["init-secrets", "--grant", "data-engineers"],
        exit: 0,
    },
    Step {
        about: "Deploy the notebook that triggers a dbt job and waits for it.",
        arguments: &["deploy-notebook"],
        exit: 0,
    },
    Step {
        about: "Create a Databricks job for the notebook, daily at 6 a.m.",
        arguments: &["create-workflow", "--job", "222222", "--schedule", "0 0 6 * * ?", "--timezone", "Europe/Berlin"],
        exit: 0,
    },
    Step { about: "Run it again: nothing to change.", arguments: &["create-workflow", "--job", "222222"], exit: 0 },
    Step {
        about: "Run the Databricks job: the notebook runs in this machine's Python.",
        arguments: &["run", "--workflow", "dbt: Nightly build (222222)"],
        exit: 0,
    },
    Step { about: "Run the dbt job directly, without Databricks.", arguments: &["run", "222222"], exit: 0 },
    Step {
        about: "Run a dbt job that fails: the output shows where, and the exit code tells CI.",
        arguments: &["run", "222223"],
        exit: 3,
    },
];

pub(crate) async fn run(args: Args, ctx: &CommandContext) -> Ended<Box<dyn Report>> {
    let Args {} = args;
    walk(ctx).await.unwrap_or_else(Ended::from)
}

async fn walk(ctx: &CommandContext) -> Result<Ended<Box<dyn Report>>, Failure> {
    let events = &ctx.events;
    let Some(program) = &ctx.context.program else {
        return Err(
            Failure::new(Code::Failed, "cannot find the dbtrigger executable").advise("start it with its full path")
        );
    };
    let folder = tempfile::tempdir().map_err(|error| {
        Failure::new(Code::Failed, "cannot create a temporary directory")
            .cause(error.to_string())
            .advise("check TMPDIR")
    })?;
    let (remarks, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let mut options = options(&ctx.context);
    options.on_message = Box::new(move |text| {
        // The receiver is closed once the demo has ended.
        let _ = remarks.send(text.to_owned());
    });
    let sandbox = Background::start(options).map_err(|error| start_failure(&error))?;
    events.remark(format!("Sandbox for Databricks and dbt on {}; its clock runs 60 times faster.", sandbox.origin()));

    let mut shown = Vec::new();
    for (number, step) in STEPS.iter().enumerate() {
        events.progress("");
        events.progress(Line::Prose(format!("{}/{}  {}", number + 1, STEPS.len(), step.about)));
        events.progress(format!(
            "$ dbtrigger {}",
            step.arguments.iter().map(|argument| quoted(argument)).collect::<Vec<_>>().join(" ")
        ));
        let variables = sandbox.environment();
        let (exit, document) = run_child(program, step.arguments, variables, folder.path(), ctx, &mut heard).await?;
        if exit != Some(step.exit) {
            return Ok(Ended {
                report: Some(Box::new(Shown(shown))),
                failure: Some(
                    Failure::new(
                        Code::Failed,
                        format!("step {} of the demo ended with exit code {}", number + 1, exit.unwrap_or(-1)),
                    )
                    .cause(format!("expected {}", step.exit))
                    .advise("this is a bug: report it with the output above"),
                ),
            });
        }
        if step.exit != 0 {
            events.progress(format!("(exit code {})", step.exit));
        }
        shown.push(document!({ "about": step.about, "arguments": step.arguments, "exit_code": step.exit, "document": document }));
    }
    events.progress("\nThat was the whole guide.");
    events.progress("next: set up your own workspace: dbtrigger setup");
    events.progress("next: try more without an account: dbtrigger sandbox");
    Ok(Ended::well(Box::new(Shown(shown))))
}

/// Runs the program with these arguments against the sandbox. Returns its exit code and, if requested, its JSON
/// document. `state`: directory of the journal and the cache, so that a demo leaves nothing behind.
async fn run_child(
    program: &Path,
    arguments: &[&str],
    variables: Vec<(&'static str, String)>,
    state: &Path,
    ctx: &CommandContext,
    heard: &mut tokio::sync::mpsc::UnboundedReceiver<String>,
) -> Result<(Option<i32>, Data), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Code::Failed, format!("cannot start {}", program.display()))
            .cause(error.to_string())
            .advise("start it with its full path")
    };
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    if ctx.json {
        command.args(["-o", "json"]);
    }
    // Keep the user's own credentials out.
    for name in ctx.context.environment.names().filter(|name| is_credential(name)) {
        command.env_remove(name);
    }
    command.envs(variables).env("XDG_STATE_HOME", state).env("XDG_CACHE_HOME", state);
    let mut child = command.spawn().map_err(failed)?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let events = &ctx.events;
    let mut printed = String::new();
    {
        let listen = async {
            // Remarks of the sandbox, such as installing Python packages, appear between the lines.
            while let Some(text) = heard.recv().await {
                events.remark(text);
            }
            std::future::pending::<()>().await;
        };
        let read = async {
            tokio::join!(
                lines(out, events, (!ctx.json).then_some("  "), Some(&mut printed)),
                lines(err, events, Some("  "), None)
            )
        };
        tokio::select! {
            biased;
            _ = read => {}
            () = listen => {}
        }
    }
    let status = tokio::time::timeout(Duration::from_mins(1), child.wait()).await;
    let exit = status.ok().and_then(Result::ok).and_then(|status| status.code());
    Ok((exit, Data::printed(&printed)))
}

/// Prints each line as it arrives, indented, or collects it.
async fn lines(
    stream: Option<impl AsyncRead + Unpin>,
    events: &Events,
    show: Option<&str>,
    mut keep: Option<&mut String>,
) {
    let Some(stream) = stream else { return };
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(indent) = show {
            events.progress(format!("{indent}{line}"));
        }
        if let Some(keep) = keep.as_deref_mut() {
            keep.push_str(&line);
            keep.push('\n');
        }
    }
}

fn is_credential(name: &str) -> bool {
    ["DATABRICKS_", "DBT_", "ARM_", "GITHUB_"].iter().any(|prefix| name.starts_with(prefix))
}

/// The steps and what each printed.
struct Shown(Vec<Data>);

impl Report for Shown {
    fn text(&self) -> Vec<Line> {
        Vec::new()
    }

    fn json(&self) -> Data {
        document!({ "steps": self.0 })
    }
}
