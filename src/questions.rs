//! Questions at a terminal, as data, and the trait that asks them. Only `ui` draws them.

use std::future::Future;
use std::pin::Pin;

use zeroize::Zeroizing;

/// A missing value that the user can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    DatabricksHost,
    DatabricksCredential,
    /// A token to store for this workspace, or for the one in the environment at that time.
    DatabricksToken {
        host: Option<String>,
    },
    DbtHost,
    DbtAccount,
    /// The token for requests to dbt.
    DbtToken,
    /// The dbt API key to store, and whether it is first tried with dbt.
    DbtKey {
        tried: bool,
        /// The scope and the name of a key that makes another one needless.
        unless_stored: Option<(String, String)>,
    },
    /// A job of the account, in this project and environment.
    DbtJob {
        /// The flag that names it; `None` for an argument.
        flag: Option<&'static str>,
        project: Option<String>,
        environment: Option<String>,
    },
    /// A run of either service: a recent one, or one that has not ended.
    Run {
        active: bool,
    },
    /// A setting of the plan on the screen, to be edited.
    Setting {
        setting: PlanSetting,
        /// Its value in that plan.
        now: String,
    },
}

/// A setting of `setup` that can be edited before the plan is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PlanSetting {
    Scope,
    Notebook,
    Compute,
    Schedule,
    Zone,
    RunAs,
}

impl PlanSetting {
    /// The label of its line in the plan.
    pub(crate) fn label(self) -> &'static str {
        match self {
            PlanSetting::Scope => "Secret scope",
            PlanSetting::Notebook => "Notebook",
            PlanSetting::Compute => "Compute",
            PlanSetting::Schedule => "Schedule",
            PlanSetting::Zone => "Time zone",
            PlanSetting::RunAs => "Run as",
        }
    }

    /// The names of its flag.
    pub(crate) fn flags(self) -> Vec<&'static str> {
        match self {
            PlanSetting::Notebook => vec![self.flag(), "--path"],
            PlanSetting::Scope
            | PlanSetting::Compute
            | PlanSetting::Schedule
            | PlanSetting::Zone
            | PlanSetting::RunAs => vec![self.flag()],
        }
    }

    pub(crate) fn flag(self) -> &'static str {
        match self {
            PlanSetting::Scope => "--scope",
            PlanSetting::Notebook => "--notebook",
            PlanSetting::Compute => "--compute",
            PlanSetting::Schedule => "--schedule",
            PlanSetting::Zone => "--timezone",
            PlanSetting::RunAs => "--run-as",
        }
    }
}

/// The questions that must be answered before a command can start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OpenQuestions {
    pub(crate) questions: Vec<Question>,
    /// URLs from the command line; host and account may come from them.
    pub(crate) pasted: Vec<String>,
    /// How many of the last causes say where a value was looked for; they are shown with `-v`.
    pub(crate) tried: usize,
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// Ctrl-C, or Esc at a list.
    Interrupted,
    /// The terminal is gone.
    EndOfInput,
    /// The terminal cannot be used, with the reason.
    Broken(String),
}

/// A pending answer.
pub(crate) type PendingAnswer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Unanswered>> + 'a>>;

/// Asks one question and waits for the answer, which is returned as typed; the caller checks it.
pub(crate) trait Prompter {
    /// A line of text, with `initial` prefilled.
    fn text<'a>(&'a self, prompt: &'a str, initial: &'a str) -> PendingAnswer<'a, String>;
    /// A line that is never shown.
    fn secret<'a>(&'a self, prompt: &'a str) -> PendingAnswer<'a, Zeroizing<String>>;
    /// One of these items, chosen by arrow keys or by typing parts of it. Returns its index.
    fn choose<'a>(&'a self, prompt: &'a str, items: &'a [String]) -> PendingAnswer<'a, usize>;
    /// One of these keys, in lower case; Enter is the one in upper case.
    fn key<'a>(&'a self, prompt: &'a str, keys: &'a str) -> PendingAnswer<'a, char>;
}
