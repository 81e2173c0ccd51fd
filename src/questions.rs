//! What can be asked at a terminal, as data, and who asks it. Commands know only this; only `ui` draws it.

use std::future::Future;
use std::pin::Pin;

use zeroize::Zeroizing;

/// A missing value that a person can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    DatabricksHost,
    DatabricksCredential,
    /// A token to store, of this workspace, or of the one that the environment names by then.
    DatabricksToken {
        host: Option<String>,
    },
    DbtHost,
    DbtAccount,
    /// The token for asking dbt.
    DbtToken,
    /// The dbt API key to store, and whether dbt is asked about it before.
    DbtKey {
        tried: bool,
        /// The scope and the name of a key that makes another one needless.
        unless_stored: Option<(String, String)>,
    },
    /// A job of the account, of those in this project and environment.
    DbtJob {
        /// The flag that names it; without one it is an argument.
        flag: Option<&'static str>,
        project: Option<String>,
        environment: Option<String>,
    },
    /// A setting of the plan on the screen, to be edited.
    Setting {
        setting: Setting,
        /// Its value in that plan.
        now: String,
    },
}

/// A setting of `setup` that can be edited before the plan is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Setting {
    Scope,
    Notebook,
    Compute,
    Schedule,
    Zone,
    RunAs,
}

impl Setting {
    /// The label of its line in the plan.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Setting::Scope => "Secret scope",
            Setting::Notebook => "Notebook",
            Setting::Compute => "Compute",
            Setting::Schedule => "Schedule",
            Setting::Zone => "Time zone",
            Setting::RunAs => "Run as",
        }
    }

    /// The names of its flag.
    pub(crate) fn flags(self) -> Vec<&'static str> {
        match self {
            Setting::Notebook => vec![self.flag(), "--path"],
            Setting::Scope | Setting::Compute | Setting::Schedule | Setting::Zone | Setting::RunAs => vec![self.flag()],
        }
    }

    /// The flag that sets it.
    pub(crate) fn flag(self) -> &'static str {
        match self {
            Setting::Scope => "--scope",
            Setting::Notebook => "--notebook",
            Setting::Compute => "--compute",
            Setting::Schedule => "--schedule",
            Setting::Zone => "--timezone",
            Setting::RunAs => "--run-as",
        }
    }
}

/// All that a command could be told, so that it can begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) questions: Vec<Question>,
    /// The addresses that the command line has; host and account may come from them.
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
    /// The terminal cannot be used, and why.
    Broken(String),
}

/// An answer on its way.
pub(crate) type Asking<'a, T> = Pin<Box<dyn Future<Output = Result<T, Unanswered>> + 'a>>;

/// Puts one question and waits for its answer. What is typed comes back as it is; whoever asks checks it.
pub(crate) trait Prompter {
    /// A line of text, with `initial` there to be edited.
    fn text<'a>(&'a self, prompt: &'a str, initial: &'a str) -> Asking<'a, String>;
    /// A line that is not shown while it is typed, nor after.
    fn secret<'a>(&'a self, prompt: &'a str) -> Asking<'a, Zeroizing<String>>;
    /// One of these, found by arrow keys or by typing parts of it. Gives its place.
    fn choose<'a>(&'a self, prompt: &'a str, items: &'a [String]) -> Asking<'a, usize>;
    /// One of these keys, in lower case; Enter is the one in capitals.
    fn key<'a>(&'a self, prompt: &'a str, keys: &'a str) -> Asking<'a, char>;
}
