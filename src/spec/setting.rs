//! Settings of what may already exist.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::str::FromStr;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::failure::{Code, Failure};

/// A setting of an object that may already exist.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) enum Setting<T> {
    /// Keeps the existing value; a new object gets the default.
    #[default]
    Keep,
    Set(T),
    /// Removes the existing value.
    Clear,
}

impl<T> Setting<T> {
    /// The value to set, if there is one.
    pub(crate) fn value(&self) -> Option<&T> {
        match self {
            Setting::Set(value) => Some(value),
            Setting::Keep | Setting::Clear => None,
        }
    }

    /// The value that an object has afterwards.
    pub(crate) fn after(&self, existing: Option<T>) -> Option<T>
    where
        T: Clone,
    {
        match self {
            Setting::Keep => existing,
            Setting::Set(value) => Some(value.clone()),
            Setting::Clear => None,
        }
    }

    /// Reads a repeatable flag: its values, or the `word` that clears the list.
    pub(crate) fn list(flag: &str, word: &str, given: Vec<Setting<T>>) -> Result<Setting<Vec<T>>, Failure> {
        let (mut values, mut clears) = (Vec::new(), false);
        for one in given {
            match one {
                Setting::Keep => {}
                Setting::Set(value) => values.push(value),
                Setting::Clear => clears = true,
            }
        }
        match (values.is_empty(), clears) {
            (true, false) => Ok(Setting::Keep),
            (true, true) => Ok(Setting::Clear),
            (false, false) => Ok(Setting::Set(values)),
            (false, true) => Err(Failure::new(Code::Contradiction, format!("{flag} {word} conflicts with a value"))
                .advise(format!("use `{flag} {word}` alone, or only values"))),
        }
    }
}

impl<T> From<Option<T>> for Setting<T> {
    fn from(value: Option<T>) -> Setting<T> {
        value.map_or(Setting::Keep, Setting::Set)
    }
}

/// The value of a repeatable flag, or `none`.
impl FromStr for Setting<String> {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Setting<String>, Infallible> {
        Ok(if text == "none" { Setting::Clear } else { Setting::Set(text.to_owned()) })
    }
}

/// A task that runs one dbt job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct TaskSpec {
    /// Its key in the workflow.
    pub(crate) key: String,
    /// The dbt job's ID.
    pub(crate) job: u64,
    /// The keys of the tasks that it depends on.
    pub(crate) depends_on: Setting<Vec<String>>,
}

/// The settings of each task.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct TaskSettings {
    /// How often a failed task is retried.
    pub(crate) retries: Setting<u32>,
    /// In seconds.
    pub(crate) timeout: Setting<u64>,
    /// Overrides for every run of the dbt job.
    pub(crate) overrides: Setting<Map<String, Value>>,
}

/// The settings of a workflow as a whole.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct WorkflowSettings {
    /// A valid Quartz expression.
    pub(crate) schedule: Setting<String>,
    /// An IANA time zone name.
    pub(crate) timezone: Setting<String>,
    pub(crate) paused: Setting<bool>,
    /// Emails notified of failed runs, sorted.
    pub(crate) notify: Setting<Vec<String>>,
    /// Additional tags, besides ours and those of others.
    pub(crate) tags: BTreeMap<String, String>,
    /// The identity of its runs: a user's email or a service principal's application ID.
    pub(crate) run_as: Setting<String>,
}
