//! One dbtrigger task, in our own workflow or another: reading, comparing and writing it. Pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::compute::{self, Compute};
use crate::databricks::raw::Raw;
use crate::engine::Change;
use crate::spec::{Setting, TaskSettings};

/// Filled in by the workflow when it runs; constant for all automatic retries of a task.
const KEY: &str = "{{workspace.id}}/{{job.run_id}}/{{task.name}}/{{job.repair_count}}";
const ATTEMPT: &str = "{{task.execution_count}}";
/// In seconds. The notebook waits 1440 minutes; ten more let it end by itself, with its own message, before the
/// task is cut off.
const TASK_TIMEOUT: u64 = (1440 + 10) * 60;

/// The notebook parameter that identifies our tasks.
pub(super) const KEY_PARAMETER: &str = "dbtrigger_key";
pub(super) const ATTEMPT_PARAMETER: &str = "dbtrigger_attempt";
pub(super) const OVERRIDES: &str = "dbtrigger_overrides";
/// The two notebook parameters that name the dbt job; the second takes precedence.
pub(super) const JOB: &str = "job_id";
pub(super) const JOB_THAT_WINS: &str = "dbtrigger_job_id";

/// The fields that we manage, by API name, with their values as text.
pub(super) type State = [(&'static str, Option<String>); 10];

/// A setting that a flag may choose and an operator may change, as it is and as it will be.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) field: &'static str,
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    pub(super) reason: &'static str,
}

/// What a dbtrigger task is built from.
#[derive(Clone, Copy)]
pub(super) struct Recipe<'a> {
    pub(super) key: &'a str,
    pub(super) job: u64,
    /// The task parameter that names the dbt job; `None`: a parameter of the workflow does.
    pub(super) job_parameter: Option<&'static str>,
    pub(super) notebook: &'a str,
    pub(super) compute: &'a Setting<Compute>,
    pub(super) settings: &'a TaskSettings,
}

/// Returns strings as they are, other values as JSON.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

/// Strips `/Workspace`: both spellings name the same path, and the service may return either.
pub(super) fn bare(path: &str) -> String {
    path.strip_prefix("/Workspace").filter(|rest| rest.starts_with('/')).unwrap_or(path).to_owned()
}

pub(super) fn key_of(task: &Raw) -> String {
    task.read("task_key").unwrap_or_default()
}

/// The dbt job in a default task key such as `dbt_222222`.
pub(crate) fn job_in_key(key: &str) -> Option<u64> {
    key.strip_prefix("dbt_").filter(|id| id.bytes().all(|byte| byte.is_ascii_digit())).and_then(|id| id.parse().ok())
}

/// The keys that a task depends on, sorted, since the service reorders them.
pub(super) fn needs_of(task: &Raw) -> Vec<String> {
    let mut needs: Vec<String> = task.list("depends_on").iter().map(key_of).collect();
    needs.sort_unstable();
    needs
}

pub(super) fn need(key: &str) -> Raw {
    let mut need = Raw::default();
    need.set("task_key", key);
    need
}

/// Whether the task runs our notebook, as the parameter we always set shows.
pub(super) fn has_key(task: &Raw) -> bool {
    task.object("notebook_task").object("base_parameters").has(KEY_PARAMETER)
}

/// The managed fields as they are, with the service's defaults filled in.
pub(super) fn found(task: Option<&Raw>) -> State {
    let notebook = task.map(|task| task.object("notebook_task")).unwrap_or_default();
    let base = notebook.object("base_parameters");
    let text = |raw: &Raw, name: &str| raw.read::<Value>(name).map(|value| plain(&value));
    let of_task = |name: &str| task.and_then(|task| text(task, name));
    let or = |value: Option<String>, default: &str| task.map(|_| value.unwrap_or_else(|| default.to_owned()));
    [
        ("task_key", of_task("task_key")),
        ("notebook_task.notebook_path", text(&notebook, "notebook_path").map(|path| bare(&path))),
        ("notebook_task.source", or(text(&notebook, "source"), "WORKSPACE")),
        ("notebook_task.base_parameters.dbtrigger_key", text(&base, KEY_PARAMETER)),
        ("notebook_task.base_parameters.dbtrigger_attempt", text(&base, ATTEMPT_PARAMETER)),
        ("notebook_task.base_parameters.job_id", text(&base, JOB)),
        ("notebook_task.base_parameters.dbtrigger_job_id", text(&base, JOB_THAT_WINS)),
        ("notebook_task.warehouse_id", text(&notebook, "warehouse_id")),
        ("environment_key", of_task("environment_key")),
        ("disable_auto_optimization", or(of_task("disable_auto_optimization"), "false")),
    ]
}

/// Why a managed field is changed.
pub(super) fn reason(field: &str) -> &'static str {
    match field.rsplit('.').next().unwrap_or(field) {
        "task_key" => "from --job",
        "notebook_path" => "the notebook that reads the key and starts the dbt job",
        "disable_auto_optimization" => "a retried task would start dbt again",
        JOB | JOB_THAT_WINS => "each task starts its dbt job",
        _ => "managed by dbtrigger",
    }
}

/// The names of the overrides in a parameter's text.
pub(super) fn override_names(chosen: &[Chosen]) -> BTreeSet<String> {
    let texts =
        chosen.iter().filter(|chosen| chosen.field.ends_with(OVERRIDES)).filter_map(|chosen| chosen.to.as_ref());
    texts
        .filter_map(|text| serde_json::from_str::<Map<String, Value>>(text).ok())
        .flat_map(|all| all.into_iter().map(|(name, _)| name))
        .collect()
}

/// The changes as diff lines.
pub(super) fn lines<'a>(changes: impl IntoIterator<Item = &'a Change>) -> String {
    let mut text = String::new();
    for Change { field, from, to, reason: _ } in changes {
        for (sign, value) in [('-', from), ('+', to)] {
            if let Some(value) = value {
                let _ = writeln!(text, "      {sign} {field}: {value}");
            }
        }
    }
    text
}

impl Recipe<'_> {
    /// The wanted values of the managed fields.
    pub(super) fn managed(&self) -> State {
        let some = |text: &str| Some(text.to_owned());
        let job = |parameter: &str| (self.job_parameter == Some(parameter)).then(|| self.job.to_string());
        [
            ("task_key", some(self.key)),
            ("notebook_task.notebook_path", Some(bare(self.notebook))),
            ("notebook_task.source", some("WORKSPACE")),
            ("notebook_task.base_parameters.dbtrigger_key", some(KEY)),
            ("notebook_task.base_parameters.dbtrigger_attempt", some(ATTEMPT)),
            ("notebook_task.base_parameters.job_id", job(JOB)),
            ("notebook_task.base_parameters.dbtrigger_job_id", job(JOB_THAT_WINS)),
            ("notebook_task.warehouse_id", None),
            ("environment_key", None),
            ("disable_auto_optimization", some("true")),
        ]
    }

    /// The chosen settings. A dbtrigger task (`own`) keeps what operators set; any other gets the defaults. `needs`
    /// is what it will depend on.
    pub(super) fn chosen(&self, task: Option<&Raw>, own: bool, needs: &[Raw]) -> Vec<Chosen> {
        let existing = task.filter(|_| own);
        let number = |name: &str| task.map(|task| task.read::<i64>(name).unwrap_or(0).to_string());
        let overrides = task.and_then(overrides_of);
        let listed = |all: Vec<String>| (!all.is_empty()).then(|| all.join(", "));
        let mut all = vec![
            Chosen {
                field: "max_retries",
                from: number("max_retries"),
                to: Some(self.retries(existing).to_string()),
                reason: "from --retries or its default",
            },
            Chosen {
                field: "timeout_seconds",
                from: number("timeout_seconds"),
                to: Some(self.timeout(existing).to_string()),
                reason: "from --task-timeout or its default",
            },
            Chosen {
                field: "notebook_task.base_parameters.dbtrigger_overrides",
                from: overrides.clone(),
                to: self.overrides(overrides.filter(|_| own)),
                reason: "from --override",
            },
            Chosen {
                field: "depends_on",
                from: task.and_then(|task| listed(needs_of(task))),
                to: listed(needs.iter().map(key_of).collect()),
                reason: "from --depends-on, or a task was removed",
            },
        ];
        let compute = compute::fields(self.compute, task, own);
        let reason = "--compute says so, or its default";
        all.extend(compute.map(|(field, from, to)| Chosen { field, from, to, reason }));
        all
    }

    /// The whole task to send: the existing one with our fields set.
    pub(super) fn written(&self, there: Option<&Raw>, own: bool, needs: &[Raw]) -> Raw {
        let existing = there.filter(|_| own);
        let mut task = there.cloned().unwrap_or_default();
        task.set("task_key", self.key);
        if needs.is_empty() {
            task.remove("depends_on");
        } else if there.map(needs_of) != Some(needs.iter().map(key_of).collect()) {
            task.set("depends_on", needs);
        }
        let mut notebook = task.object("notebook_task");
        notebook.set("notebook_path", self.notebook);
        notebook.set("source", "WORKSPACE");
        notebook.remove("warehouse_id");
        let mut base = notebook.object("base_parameters");
        for parameter in [JOB, JOB_THAT_WINS] {
            if self.job_parameter == Some(parameter) {
                base.set(parameter, &self.job.to_string());
            } else {
                base.remove(parameter);
            }
        }
        base.set(KEY_PARAMETER, KEY);
        base.set(ATTEMPT_PARAMETER, ATTEMPT);
        match self.overrides(existing.and_then(overrides_of)) {
            Some(text) => base.set(OVERRIDES, &text),
            None => base.remove(OVERRIDES),
        }
        notebook.set("base_parameters", &base);
        task.set("notebook_task", &notebook);
        compute::write(self.compute, &mut task, existing.is_some());
        task.remove("environment_key");
        task.set("max_retries", &self.retries(existing));
        task.set("disable_auto_optimization", &true);
        task.set("timeout_seconds", &self.timeout(existing));
        task
    }

    fn retries(&self, existing: Option<&Raw>) -> i64 {
        let there = existing.and_then(|task| task.read("max_retries"));
        match &self.settings.retries {
            Setting::Keep => there.unwrap_or(0),
            Setting::Set(retries) => i64::from(*retries),
            Setting::Clear => 0,
        }
    }

    fn timeout(&self, existing: Option<&Raw>) -> u64 {
        let there = existing.map(|task| task.read("timeout_seconds").unwrap_or(0));
        self.settings.timeout.after(there).unwrap_or(TASK_TIMEOUT)
    }

    /// The overrides parameter to write. An equal text in another order is kept.
    fn overrides(&self, existing: Option<String>) -> Option<String> {
        match &self.settings.overrides {
            Setting::Keep => existing,
            Setting::Set(wanted) => {
                let is_equal =
                    |text: &String| serde_json::from_str(text).is_ok_and(|there: Map<_, _>| there == *wanted);
                existing.filter(is_equal).or_else(|| Some(Value::Object(wanted.clone()).to_string()))
            }
            Setting::Clear => None,
        }
    }
}

/// A dbtrigger task as found in a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExistingTask {
    pub(crate) key: String,
    /// The dbt job that it runs; `None` if the parameter is not a job ID.
    pub(crate) job: Option<u64>,
    /// The notebook's path in the workspace.
    pub(crate) notebook: String,
}

/// The dbtrigger tasks in a job, including those in other people's workflows.
pub(crate) fn existing_tasks(settings: &Raw) -> Vec<ExistingTask> {
    settings.list("tasks").iter().filter(|task| has_key(task)).map(|task| existing_task(settings, task)).collect()
}

/// The dbt jobs that a Databricks job runs, as far as it names them: through a notebook of ours, one that takes their id as ours
/// does, or Databricks' own task. `None`: it runs no dbt job.
pub(crate) fn dbt_jobs(settings: &Raw) -> Option<Vec<u64>> {
    let mut jobs = Vec::new();
    let mut runs_any = false;
    for task in settings.list("tasks") {
        let native = [("dbt_platform_task", "dbt_platform_job_id"), ("dbt_cloud_task", "dbt_cloud_job_id")]
            .into_iter()
            .find(|(name, _)| task.has(name));
        let job = match native {
            Some((name, id)) => task.object(name).read::<Value>(id).and_then(|value| plain(&value).parse().ok()),
            None if task.has("notebook_task") => existing_task(settings, &task).job,
            None => None,
        };
        runs_any |= job.is_some() || native.is_some() || has_key(&task);
        jobs.extend(job);
    }
    jobs.sort_unstable();
    jobs.dedup();
    runs_any.then_some(jobs)
}

/// Reads a dbtrigger task. A parameter of the job wins over the task's own.
pub(super) fn existing_task(settings: &Raw, task: &Raw) -> ExistingTask {
    let notebook = task.object("notebook_task");
    let base = notebook.object("base_parameters");
    let parameters = settings.list("parameters");
    let value = |name: &str| {
        let of_job = parameters.iter().find(|parameter| parameter.read::<String>("name").as_deref() == Some(name));
        of_job.and_then(|parameter| parameter.read::<Value>("default")).or_else(|| base.read(name))
    };
    ExistingTask {
        key: key_of(task),
        job: value(JOB_THAT_WINS).or_else(|| value(JOB)).and_then(|value| plain(&value).parse().ok()),
        notebook: bare(&notebook.read::<String>("notebook_path").unwrap_or_default()),
    }
}

/// The overrides parameter of a task.
fn overrides_of(task: &Raw) -> Option<String> {
    let base = task.object("notebook_task").object("base_parameters");
    base.read::<Value>(OVERRIDES).map(|value| plain(&value))
}
