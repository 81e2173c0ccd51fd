//! One file per subcommand: parses its arguments into complete values and calls the engine or runs.

pub(crate) mod auth;
pub(crate) mod cancel;
pub(crate) mod completions;
pub(crate) mod create_workflow;
#[cfg(feature = "sandbox")]
pub(crate) mod demo;
pub(crate) mod deploy_notebook;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod init_secrets;
pub(crate) mod jobs;
pub(crate) mod man;
pub(crate) mod remove;
pub(crate) mod run;
pub(crate) mod runs;
#[cfg(feature = "sandbox")]
pub(crate) mod sandbox;
pub(crate) mod setup;
pub(crate) mod shared;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod version;
pub(crate) mod watch;
pub(crate) mod workflows;

pub(crate) use shared::connect::{connect_databricks, connect_dbt, databricks_client, dbt_client, probe_host, roots};
pub(crate) use shared::global_flags::GlobalFlags;
pub(crate) use shared::interrupt_report::{InterruptReport, Interrupted, StateNote};
pub(crate) use shared::prompts::{Answers, Instead, NOTHING_WRITTEN, Prompts, answer, canceled};

use std::path::PathBuf;

use crate::context::Context;
use crate::credentials::AccountFlags;
use crate::events::{Events, Interruption};
use crate::http::{Pace, Roots};
use crate::runs::RunContext;
use crate::secret::Vault;

/// Context of every command.
pub(crate) struct CommandContext {
    pub(crate) context: Context,
    pub(crate) vault: Vault,
    pub(crate) events: Events,
    /// Results are JSON, so progress goes to stderr.
    #[cfg_attr(not(feature = "sandbox"), expect(dead_code, reason = "only the sandbox and the demo ask"))]
    pub(crate) json: bool,
    pub(crate) account: AccountFlags,
    /// Value of `--ca-bundle`.
    pub(crate) ca_bundle: Option<PathBuf>,
    pub(crate) pace: Pace,
    pub(crate) interrupt_report: InterruptReport,
    /// For `run --junit`.
    pub(crate) results: run::Results,
    /// Signals, for a command that handles the first one itself.
    pub(crate) interruption: Interruption,
    pub(crate) wire: Wire,
    /// The prompter and its answers.
    pub(crate) prompts: Prompts,
}

impl CommandContext {
    /// The flags that printed commands repeat.
    pub(crate) fn global_flags(&self) -> GlobalFlags {
        GlobalFlags::of(self.context.environment.profile(), self.ca_bundle.as_deref(), &self.account)
    }

    /// The parts that `runs` needs.
    pub(crate) fn run_context(&self) -> RunContext {
        RunContext {
            pace: self.pace.clone(),
            wall: self.context.wall.clone(),
            entropy: self.context.entropy.clone(),
            events: self.events.clone(),
            interruption: self.interruption.clone(),
        }
    }
}

/// How requests are sent.
pub(crate) enum Wire {
    /// Real connections, with these additional trusted certificates.
    Sockets(Roots),
    /// The in-memory sandbox.
    #[cfg(test)]
    Memory(std::rc::Rc<dyn crate::http::Transport>),
}
