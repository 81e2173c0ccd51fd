//! `sandbox`: serves both services on loopback until interrupted.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use super::CommandContext;
use crate::context::{Context, Environment};
use crate::durations;
use crate::events::Event;
use crate::failure::{Code, Ended, Failure, Report};
use crate::sandbox::{FaultRule, Options, Seed, SimTime, StartError};

/// Simulate Databricks and dbt locally
///
/// Serves both APIs on one loopback address, prints the environment variables to connect to it, and runs until
/// interrupted. Nothing is kept. Seeded dbt jobs: 222222 succeeds after a few simulated minutes, 222223 fails with a
/// model error, 222224 is canceled by someone else, 222225 waits a long time in the queue.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  dbtrigger sandbox --env-file sandbox.env
  dbtrigger sandbox --speed 600 --fault 'dbt:jobs/run=reset,phase=after'
  dbtrigger sandbox --tls --env-file sandbox.env

A fault is OPERATION=CLASS[,phase=before|after][,nth=N][,times=M|forever]. OPERATION is the service and the path after its version, \
such as dbt:jobs/run, databricks:jobs/create, or databricks:secrets/*. CLASS is reset, close, hang, truncated, drip, \
status=503, retry-after=5, login, empty, kill, and others; an unknown class prints the whole list.")]
pub(crate) struct Args {
    /// Port on 127.0.0.1 [default: any free port]
    #[arg(long)]
    port: Option<u16>,
    /// Serve HTTPS with a certificate made at startup; its file is one of the variables
    #[arg(long)]
    tls: bool,
    /// Also write the variables to a file, one NAME=value per line
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Delay each request, such as 50ms
    #[arg(long, value_name = "DURATION", value_parser = durations::parse)]
    latency: Option<Duration>,
    /// Delay each new connection
    #[arg(long, value_name = "DURATION", value_parser = durations::parse)]
    connect_latency: Option<Duration>,
    /// Simulated seconds per second
    #[arg(long, default_value_t = 60.0)]
    speed: f64,
    /// Inject a fault; repeatable
    #[arg(long, value_name = "RULE", value_parser = FaultRule::parse)]
    fault: Vec<FaultRule>,
    /// Append one JSON line per request to a file, with secrets replaced
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

pub(crate) async fn run(args: Args, ctx: &CommandContext) -> Ended<Box<dyn Report>> {
    let Args { port, tls, env_file, latency, connect_latency, speed, fault, log } = args;
    let (remarks, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let options = Options {
        port,
        tls: tls.then(|| ctx.context.wall.now()),
        env_file,
        latency: latency.unwrap_or_default(),
        connect_latency: connect_latency.unwrap_or_default(),
        speed,
        faults: fault,
        log,
        on_message: Box::new(move |text| {
            // The receiver lives as long as this command.
            let _ = remarks.send(text.to_owned());
        }),
        ..options(&ctx.context)
    };
    let sandbox = match crate::sandbox::start(options).await {
        Ok(sandbox) => sandbox,
        Err(error) => return start_failure(&error).into(),
    };
    let variables = sandbox.environment();
    if ctx.json {
        let object: Map<String, Value> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
        ctx.events.emit(Event::Document(Value::Object(object).to_string()));
    } else {
        for (name, value) in &variables {
            ctx.events.emit(Event::Document(format!("export {name}={value}")));
        }
    }
    ctx.events.remark(format!("Serving Databricks and dbt on {}; press Ctrl-C to stop.", sandbox.origin()));
    while let Some(text) = heard.recv().await {
        ctx.events.remark(text);
    }
    // The sandbox holds the sender, so only an interrupt ends this command.
    std::future::pending().await
}

/// Options with new tokens, the current time, and a folder for Python packages.
pub(super) fn options(context: &Context) -> Options {
    let Context {
        environment,
        stdin_is_terminal: _,
        stdout_is_terminal: _,
        zone: _,
        stderr_is_terminal: _,
        wall,
        entropy,
        program,
    } = context;
    let mut options = Options::new(Seed {
        databricks_token: format!("dapi{}", entropy.name()),
        dbt_token: format!("dbtc_{}", entropy.name()),
        start: SimTime(wall.now().as_millisecond()),
        random: u64::from_le_bytes(entropy.bytes()),
    });
    let folder = |environment: &Environment| Some(environment.cache_folder()?.join("sandbox-python"));
    options.search_path = search_path(program.as_deref(), environment.get("PATH"));
    options.python_environment = folder(environment);
    options
}

/// Where to look for Python: first next to the program, where a wheel's Python may have `requests` (extra `demo`), then
/// in `PATH`.
fn search_path(program: Option<&Path>, path: Option<&str>) -> Option<OsString> {
    let real = program.and_then(|file| file.canonicalize().ok());
    let beside = real.as_deref().and_then(Path::parent).map(Path::to_owned);
    let folders = beside.into_iter().chain(std::env::split_paths(path.unwrap_or_default()));
    // A folder name with a separator cannot be joined.
    std::env::join_paths(folders).ok().or_else(|| path.map(Into::into))
}

pub(super) fn start_failure(error: &StartError) -> Failure {
    let what = error.to_string();
    match error {
        StartError::Port { .. } => Failure::new(Code::Failed, what).advise("drop --port to use any free port"),
        StartError::Fault { .. } => Failure::new(Code::InvalidInput, what).advise("drop this fault"),
        StartError::Speed(_) => Failure::new(Code::InvalidInput, what).advise("pass a number such as 60 to --speed"),
        StartError::File { path: _, source } => Failure::new(Code::Failed, what)
            .cause(source.to_string())
            .advise("choose a file in a directory that you can write to"),
        StartError::System(source) => {
            Failure::new(Code::Failed, what).cause(source.to_string()).advise("check the limits with `ulimit -a`")
        }
    }
}
