//! Runs of dbt jobs as a function of time.
//!
//! The status of a run follows from when it left the queue and how long each stage takes. Only leaving the queue
//! depends on other runs: runs of one deploy job never overlap.

use serde_json::{Map, Value};

use super::World;
use super::dbt::Dbt;
use super::dbt_jobs::DbtJob;

/// How long a running step takes to stop after cancellation, in milliseconds.
const CANCEL_TAKES: i64 = 8_000;
/// The account's limit on the duration of a run, in milliseconds.
const LONGEST_RUN: i64 = 86_400_000;

/// How runs of a job proceed; durations in milliseconds.
#[derive(Clone, Copy)]
pub(super) struct RunPlan {
    pub(super) queued: i64,
    pub(super) starting: i64,
    pub(super) running: i64,
    pub(super) outcome: PlannedOutcome,
    /// How a run created by retry ends.
    pub(super) resumed: PlannedOutcome,
    /// A run elsewhere in the account that new runs appear to wait for.
    pub(super) blocked_by: Option<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PlannedOutcome {
    Success,
    /// A model and a test fail, and downstream nodes are skipped.
    ModelError,
    /// Another user cancels it in the dbt user interface.
    CancelledElsewhere,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Success,
    Error,
    /// Canceled by the user or token that [`World::canceller`] returns.
    Cancelled,
    TimedOut,
}

#[derive(Clone)]
pub(super) struct Step {
    pub(super) name: String,
    /// The dbt command; `None` for cloning and for the profile.
    pub(super) command: Option<String>,
    weight: i64,
}

#[derive(Clone)]
pub(super) struct DbtRun {
    pub(super) id: i64,
    pub(super) job: i64,
    pub(super) project: i64,
    pub(super) environment: i64,
    pub(super) created: i64,
    pub(super) plan: RunPlan,
    pub(super) timeout: i64,
    pub(super) trigger: Map<String, Value>,
    pub(super) steps: Vec<Step>,
    pub(super) dequeued: Option<i64>,
    pub(super) cancelled: Option<i64>,
    /// The run that this run resumes.
    pub(super) retrying: Option<i64>,
    /// CI jobs and pull request runs do not wait for each other.
    pub(super) parallel: bool,
    pub(super) commit: String,
    pub(super) seeded: bool,
}

/// Statuses and their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Queued = 1,
    Starting = 2,
    Running = 3,
    Success = 10,
    Error = 20,
    Cancelled = 30,
}

impl Status {
    pub(super) fn number(self) -> i64 {
        self as i64
    }

    /// The name in responses, such as `Queued`.
    pub(super) fn name(self) -> String {
        format!("{self:?}")
    }
}

impl DbtRun {
    /// Returns when it reaches RUNNING, possibly in the future.
    pub(super) fn starts_running(&self) -> Option<i64> {
        self.dequeued.map(|dequeued| dequeued + self.plan.starting)
    }

    /// Returns its end as currently determined, possibly in the future.
    fn scheduled_end(&self) -> Option<(i64, End)> {
        let Some(running) = self.starts_running() else {
            // A queued run is canceled at once.
            return self.cancelled.map(|at| (at, End::Cancelled));
        };
        let done = running + self.plan.running;
        let by_itself = match self.plan.outcome {
            PlannedOutcome::Success => (done, End::Success),
            PlannedOutcome::ModelError => (done, End::Error),
            PlannedOutcome::CancelledElsewhere => (done, End::Cancelled),
        };
        let limit = running + self.timeout.min(LONGEST_RUN);
        let own = if by_itself.0 > limit { (limit, End::TimedOut) } else { by_itself };
        match self.cancelled {
            Some(at) if at < running => Some((at, End::Cancelled)),
            Some(at) if at < own.0 => Some((own.0.min(at + CANCEL_TAKES), End::Cancelled)),
            Some(_) | None => Some(own),
        }
    }

    /// Returns its end, if it has ended by `now`.
    pub(super) fn end(&self, now: i64) -> Option<(i64, End)> {
        self.scheduled_end().filter(|(at, _)| *at <= now)
    }

    pub(super) fn status(&self, now: i64) -> Status {
        match (self.end(now), self.dequeued, self.starts_running()) {
            (Some((_, End::Success)), _, _) => Status::Success,
            (Some((_, End::Error)), _, _) => Status::Error,
            (Some((_, End::Cancelled | End::TimedOut)), _, _) => Status::Cancelled,
            (None, _, Some(running)) if now >= running => Status::Running,
            (None, Some(_), _) => Status::Starting,
            (None, None, _) => Status::Queued,
        }
    }

    /// Whether it did any work, that is, reached RUNNING before it ended.
    pub(super) fn worked(&self, now: i64) -> bool {
        let last = self.end(now).map_or(now, |(at, _)| at);
        self.starts_running()
            .is_some_and(|running| running <= last && running <= now && self.cancelled.is_none_or(|at| at >= running))
    }

    /// Returns the index of the step that fails, if any.
    pub(super) fn failing_step(&self) -> Option<usize> {
        let works = |step: &Step| step.command.as_deref().is_some_and(|command| !command.starts_with("dbt deps"));
        (self.plan.outcome == PlannedOutcome::ModelError).then(|| self.steps.iter().position(works)).flatten()
    }

    /// Returns start and end of each step if nothing interrupts it; `None` for steps after a failing one.
    pub(super) fn step_times(&self) -> Vec<Option<(i64, i64)>> {
        let Some(running) = self.starts_running() else {
            return vec![None; self.steps.len()];
        };
        let last = self.failing_step().unwrap_or(self.steps.len().saturating_sub(1));
        let total: i64 = self.steps.iter().take(last + 1).map(|step| step.weight).sum();
        let mut passed = 0;
        let mut times = Vec::new();
        for (index, step) in self.steps.iter().enumerate() {
            if index > last {
                times.push(None);
                continue;
            }
            let begin = running + self.plan.running * passed / total.max(1);
            passed += step.weight;
            times.push(Some((begin, running + self.plan.running * passed / total.max(1))));
        }
        times
    }
}

/// Returns the steps of a run: clone, profile, deps, one per command, then docs if enabled.
pub(super) fn steps(commands: &[String], docs: bool) -> Vec<Step> {
    let plain = |name: &str, weight| Step { name: name.to_owned(), command: None, weight };
    let invoke = |command: &str, weight| Step {
        name: format!("Invoke dbt with `{command}`"),
        command: Some(command.to_owned()),
        weight,
    };
    let mut steps = vec![plain("Clone git repository", 5), plain("Create profile from connection Databricks", 2)];
    if !commands.iter().any(|command| command.trim() == "dbt deps") {
        steps.push(invoke("dbt deps", 8));
    }
    steps.extend(commands.iter().map(|command| invoke(command, 70)));
    if docs {
        steps.push(Step {
            name: "Generate docs".to_owned(),
            command: Some("dbt docs generate".to_owned()),
            weight: 15,
        });
    }
    steps
}

impl Dbt {
    /// Takes runs out of the queue that are due by `now`, each at its own time.
    pub(super) fn advance(&mut self, now: i64) {
        let open = std::mem::take(&mut self.open);
        for place in open {
            let run = &self.runs[place];
            if run.dequeued.is_none() && run.cancelled.is_none() {
                let blocked = !run.parallel && self.open.iter().any(|earlier| self.runs[*earlier].job == run.job);
                let free =
                    if run.parallel { i64::MIN } else { self.last_end.get(&run.job).copied().unwrap_or(i64::MIN) };
                let turn = free.max(run.created + run.plan.queued);
                if !blocked && turn <= now {
                    self.runs[place].dequeued = Some(turn);
                }
            }
            let run = &self.runs[place];
            match run.end(now) {
                Some((at, _)) => {
                    let last = self.last_end.entry(run.job).or_insert(at);
                    *last = at.max(*last);
                }
                None => self.open.push(place),
            }
        }
    }

    /// Returns the runs that a queued run waits for.
    pub(super) fn blockers(&self, run: &DbtRun) -> Vec<i64> {
        let earlier = self
            .open
            .iter()
            .map(|place| &self.runs[*place])
            .filter(|other| !run.parallel && other.job == run.job && other.id < run.id);
        run.plan.blocked_by.into_iter().chain(earlier.map(|other| other.id)).collect()
    }

    pub(super) fn find(&self, id: i64) -> Option<usize> {
        self.runs.binary_search_by_key(&id, |run| run.id).ok()
    }

    pub(super) fn push(&mut self, run: DbtRun) {
        self.open.push(self.runs.len());
        self.next_run = self.next_run.max(run.id + 1);
        self.runs.push(run);
    }
}

impl World {
    /// Creates a run of a job and returns its id.
    pub(super) fn new_dbt_run(&mut self, job: &DbtJob, trigger: Map<String, Value>, retrying: Option<i64>) -> i64 {
        let id = self.dbt.next_run;
        let overridden: Option<Vec<String>> = trigger
            .get("steps_override")
            .and_then(Value::as_array)
            .map(|steps| steps.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        let mut commands = overridden.filter(|steps| !steps.is_empty()).unwrap_or_else(|| job.commands.clone());
        let mut plan = job.plan;
        if retrying.is_some() {
            plan.outcome = plan.resumed;
            "dbt retry".clone_into(&mut commands[0]);
        }
        let docs = trigger.get("generate_docs_override").and_then(Value::as_bool).unwrap_or(job.generate_docs);
        let seconds = trigger.get("timeout_seconds_override").and_then(Value::as_i64).unwrap_or(job.timeout_seconds);
        let for_pull_request = trigger.iter().any(|(name, value)| name.ends_with("_request_id") && !value.is_null());
        let timeout = if seconds > 0 { seconds * 1000 } else { LONGEST_RUN };
        let parallel = job.is_ci || for_pull_request;
        let run = self.run_of(job, id, self.now.0, plan, trigger);
        self.dbt.push(DbtRun { timeout, retrying, parallel, steps: steps(&commands, docs), ..run });
        id
    }

    /// Returns a run of a job as it is configured, without its effects on the queue.
    pub(super) fn run_of(
        &mut self,
        job: &DbtJob,
        id: i64,
        created: i64,
        plan: RunPlan,
        trigger: Map<String, Value>,
    ) -> DbtRun {
        DbtRun {
            id,
            job: job.id,
            project: job.project,
            environment: job.environment,
            created,
            plan,
            timeout: LONGEST_RUN,
            trigger,
            steps: steps(&job.commands, job.generate_docs),
            dequeued: None,
            cancelled: None,
            retrying: None,
            parallel: false,
            commit: self.ids.next_commit_sha(),
            seeded: false,
        }
    }
}
