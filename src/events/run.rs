//! What happens while a run is triggered and followed, as data. `ui::run_events` has the words.

use std::fmt;
use std::time::Duration;

/// A run and its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunId {
    Dbt(u64),
    Databricks(u64),
}

impl fmt::Display for RunId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunId::Dbt(id) => write!(formatter, "dbt run {id}"),
            RunId::Databricks(id) => write!(formatter, "Databricks run {id}"),
        }
    }
}

/// Errors are in the words of `http::HttpError`; texts of a service are one line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RunEvent {
    /// The journal cannot be written; the marker in `cause` is enough.
    StartNotRecorded { error: String },
    /// A start with this key is in progress on this machine.
    OtherStartInProgress,
    /// A start with this key left an intent without a run.
    OtherStartEnded,
    /// The key is used again: its run is followed.
    Adopted { has_ended: bool },
    /// The job is a CI job, and no pull request is given.
    CiJob { job: u64 },
    /// An earlier command left a run, or a start, that was not followed to its end.
    OpenStart { job: u64, run: Option<u64>, command: String },
    /// A start had no effect, and is repeated after the wait.
    NotSent { error: String, wait: Duration },
    /// The outcome of a start is unclear.
    StartUnclear { error: String },
    /// No run was found for this long, so it is started again.
    StartRepeated { after: Duration },
    /// With `--no-wait`: a second run is ruled out first.
    CheckingForSecondRun,
    /// dbt deactivated the job of a queued run.
    JobDisabled { run: u64, job: u64, why: String, advice: String },
    /// dbt has a second run of the same start.
    SecondRun { run: u64, kept: u64, outcome: DuplicateOutcome, url: String },
    /// Of two runs of a start, the first is followed.
    FollowingFirst { run: u64 },
    /// The last lookup for a second run was incomplete.
    SecondRunUnknown { run: u64 },
    /// The run is known, with its URL if that is known.
    Found { run: RunId, url: Option<String> },
    /// The status changed, or what is known about it.
    Status { run: RunId, status: String, has_ended: bool, detail: Option<StatusDetail> },
    /// Databricks queued the run.
    Queued { reason: QueueReason, ahead: Option<RunsAhead> },
    /// The run was repaired, so many times by now.
    Repaired { times: usize },
    /// The status of the newest attempt of a task.
    TaskStatus {
        run: RunId,
        task: String,
        status: String,
        attempt: u64,
        /// 0: the original run.
        repair: usize,
        /// The result of a condition task.
        outcome: Option<String>,
        iterations: Option<IterationCounts>,
    },
    /// An attempt of a task was followed by another one: in a repair of this number, or in the same run.
    TaskRetried { task: String, status: String, attempt: u64, repair: Option<usize> },
    /// What an ended task printed, and the exception that ended it.
    TaskOutput { lines: Vec<String>, error: Vec<String>, dbt_run_url: Option<String> },
    /// The run succeeded although tasks failed.
    SucceededWithFailures { causes: Vec<String> },
    /// Nothing was printed for minutes.
    StillRunning { run: RunId, age: Duration },
    /// A poll was answered with 429.
    PollLimited { error: String, wait: Duration },
    /// Several polls in a row failed.
    PollFailing { error: String },
    /// The machine was suspended for this long.
    Suspended { duration: Duration },
    /// A failed run is about to be resumed; `attempt`: its number and the most of them.
    Resuming { run: u64, attempt: Option<(u32, u32)> },
    /// The outcome of a resumption is unclear.
    ResumeUnclear { run: u64, error: String },
    /// The run resumes a failed one.
    Resumed { run: u64, failed: u64 },
    /// With `--failed`: the last run is being resumed by somebody else.
    ResumedElsewhere,
    /// After an interrupt.
    Canceling { run: RunId },
    /// The dbt runs of a canceled Databricks run could not be looked up.
    ChildRunsUnknown { error: String, command: String },
    /// A task of a canceled run started this dbt run.
    ChildRunMayBeActive { url: String },
    /// The dbt runs that notebooks canceled could not be looked up.
    CanceledChildRunsUnknown { error: String },
    /// The cause of an active dbt run could not be read.
    ParentUnknown { run: u64, error: String },
    /// A file of the run was not downloaded; without a path, an unknown number of them.
    ArtifactMissing { run: u64, path: Option<String>, reason: String },
    /// This many more were not.
    MoreArtifactsMissing { run: u64, count: usize },
    /// The JUnit report lacks a step of the run.
    ResultsMissing { run: u64, step: String, reason: String },
    /// The command that goes on where this one ends.
    Next { command: String },
}

/// What is known beside a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StatusDetail {
    /// The duration of a run that has ended.
    Took(Duration),
    Step {
        index: u64,
        count: usize,
        title: String,
    },
    /// The dbt run that a queued one waits for.
    WaitingFor(u64),
}

/// Why Databricks queued a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum QueueReason {
    WorkflowRunLimit,
    WorkspaceRunLimit,
    WorkspaceTaskLimit,
    /// In the words of the service.
    Other(String),
}

/// What is shown of the other active runs of the same job, so that equal ones are shown once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunsAhead {
    /// The first three runs that have started.
    pub(crate) first: Vec<u64>,
    /// Number of runs that have started.
    pub(crate) begun: usize,
    /// Number of runs that are queued and were created before.
    pub(crate) waiting: usize,
    /// Whether there are more than were read.
    pub(crate) more: bool,
}

/// Iterations of a for-each task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IterationCounts {
    pub(crate) total: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
}

/// What happened to a second run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DuplicateOutcome {
    /// It was queued, and was canceled.
    Cancelled,
    /// It was running or could not be canceled, and was left alone.
    Left,
    /// It had already ended.
    Ended,
}

impl DuplicateOutcome {
    /// The value in JSON output.
    pub(crate) fn word(self) -> &'static str {
        match self {
            DuplicateOutcome::Cancelled => "cancelled",
            DuplicateOutcome::Left => "left",
            DuplicateOutcome::Ended => "ended",
        }
    }
}
