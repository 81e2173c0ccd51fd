//! One file per subcommand: parses its arguments into complete values and calls the engine or runs.

#[cfg(test)]
mod artifacts_tests;
pub(crate) mod auth;
mod cache;
pub(crate) mod cancel;
pub(crate) mod completions;
pub(crate) mod create_workflow;
#[cfg(feature = "sandbox")]
pub(crate) mod demo;
pub(crate) mod deploy_notebook;
pub(crate) mod doctor;
pub(crate) mod explain;
mod grants;
pub(crate) mod init_secrets;
pub(crate) mod jobs;
pub(crate) mod man;
pub(crate) mod remove;
pub(crate) mod run;
pub(crate) mod runs;
#[cfg(feature = "sandbox")]
pub(crate) mod sandbox;
pub(crate) mod setup;
pub(crate) mod version;
pub(crate) mod watch;
pub(crate) mod workflows;

#[cfg(test)]
mod concurrent_tests;
mod connect;
#[cfg(test)]
mod deadline_tests;
mod given;
#[cfg(test)]
mod gone_tests;
#[cfg(test)]
pub(crate) mod harness;
#[cfg(test)]
mod identity_tests;
#[cfg(test)]
mod interrupt_tests;
pub(crate) mod job_named;
mod last_known;
mod last_seen;
#[cfg(test)]
mod list_tests;
#[cfg(test)]
mod named_tests;
#[cfg(test)]
mod off_tests;
#[cfg(test)]
pub(crate) mod person;
mod prompts;
#[cfg(test)]
mod prompts_tests;
pub(crate) mod provision;
#[cfg(test)]
mod provision_tests;
#[cfg(test)]
mod refusal_tests;
#[cfg(test)]
mod refused_plan_tests;
#[cfg(test)]
mod retry_tests;
mod run_named;
#[cfg(test)]
mod run_tests;
#[cfg(test)]
mod several_tests;
#[cfg(test)]
mod shown_tests;
mod table;
#[cfg(test)]
mod waves_tests;
mod workflow_named;

pub(crate) use connect::{connect_databricks, connect_dbt, probe_host, roots, to_databricks, to_dbt};
pub(crate) use given::GlobalFlags;
pub(crate) use last_known::{Interrupted, LastKnown, StateNote};
pub(crate) use prompts::{Instead, NOTHING_WRITTEN, Prompts, answer, left_at_a_question};

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
    pub(crate) last_known: LastKnown,
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
