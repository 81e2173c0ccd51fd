//! The attempts of a run's tasks: automatic retries, and repairs of the whole run.

use serde::Deserialize;

use super::run_state::RunState;
use super::runs::{TaskRun, WorkflowRun};
use super::{lenient_number, optional, optional_list};

/// The original run, or a repair of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Repair {
    #[serde(default, deserialize_with = "optional")]
    start_time: Option<u64>,
    #[serde(default, deserialize_with = "optional")]
    end_time: Option<u64>,
    #[serde(default, deserialize_with = "optional_list")]
    task_run_ids: Option<Vec<u64>>,
}

/// A condition task. Once evaluated, its outcome is `true` or `false`, as in `depends_on`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Condition {
    #[serde(default, deserialize_with = "optional")]
    outcome: Option<String>,
}

/// A for-each task, with the counts that some services include.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct ForEach {
    #[serde(default, deserialize_with = "optional")]
    stats: Option<Stats>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Stats {
    #[serde(default, deserialize_with = "optional")]
    task_run_stats: Option<Iterations>,
}

/// Iterations of a for-each task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Iterations {
    #[serde(rename = "total_iterations", deserialize_with = "lenient_number")]
    pub(crate) total: u64,
    #[serde(rename = "succeeded_iterations", default, deserialize_with = "super::or_default")]
    pub(crate) succeeded: u64,
    #[serde(rename = "failed_iterations", default, deserialize_with = "super::or_default")]
    pub(crate) failed: u64,
}

/// An attempt of a task, and the repair that made it (0 is the original run).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt<'a> {
    pub(crate) task: &'a TaskRun,
    pub(crate) repair: usize,
}

impl WorkflowRun {
    /// Number of repairs.
    pub(crate) fn repairs(&self) -> usize {
        self.repair_history.as_ref().map_or(0, |history| history.len().saturating_sub(1))
    }

    /// Start and end in milliseconds since 1970; those of the last repair if there is one.
    pub(crate) fn span(&self) -> (Option<u64>, Option<u64>) {
        let last = self.repair_history.as_ref().filter(|history| history.len() > 1).and_then(|history| history.last());
        let (start, end) = last.map_or((self.start_time, self.end_time), |last| {
            (last.start_time.or(self.start_time), last.end_time.or(self.end_time))
        });
        (start.filter(|at| *at > 0), end.filter(|at| *at > 0))
    }

    /// The attempts of each task, latest last, in the order of the response. Sorted by repair first: attempt numbers
    /// start over in a repair, and IDs do not grow with time.
    pub(crate) fn attempts(&self) -> Vec<Vec<Attempt<'_>>> {
        let mut tasks: Vec<Vec<Attempt<'_>>> = Vec::new();
        for task in self.tasks.iter().flatten() {
            let attempt = Attempt { task, repair: self.repair_of(task) };
            match tasks.iter_mut().find(|known| known[0].task.task_key == task.task_key) {
                Some(known) => known.push(attempt),
                None => tasks.push(vec![attempt]),
            }
        }
        for attempts in &mut tasks {
            attempts.sort_by_key(|Attempt { task, repair }| {
                let waits = matches!(task.state(), Some(RunState::Active(_)));
                let started = task.start_time.filter(|at| *at > 0).unwrap_or(if waits { u64::MAX } else { 0 });
                (*repair, task.attempt_number.unwrap_or(0), started, task.run_id)
            });
        }
        tasks
    }

    fn repair_of(&self, task: &TaskRun) -> usize {
        let history = self.repair_history.as_deref().unwrap_or_default();
        let lists = |id: u64| {
            history.iter().rposition(|repair| repair.task_run_ids.as_ref().is_some_and(|ids| ids.contains(&id)))
        };
        // A retry may be listed only by its first attempt. What is not listed yet belongs to the latest repair.
        lists(task.run_id)
            .or_else(|| lists(task.original_attempt_run_id?))
            .unwrap_or_else(|| history.len().saturating_sub(1))
    }
}

impl TaskRun {
    /// The outcome of a condition task.
    pub(crate) fn outcome(&self) -> Option<&str> {
        self.condition_task.as_ref().and_then(|condition| condition.outcome.as_deref())
    }

    /// The iterations of a for-each task, if the service returns them.
    pub(crate) fn iterations(&self) -> Option<Iterations> {
        self.for_each_task.as_ref()?.stats.as_ref()?.task_run_stats
    }

    /// Whether it may have output: condition tasks have none, and iterations of a for-each task have their own.
    pub(crate) fn has_output(&self) -> bool {
        self.condition_task.is_none() && self.for_each_task.is_none()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn shown(value: Value) -> Vec<Vec<(u64, u64, usize)>> {
        let run: WorkflowRun = serde_json::from_value(value).unwrap();
        let of = |attempt: &Attempt<'_>| (attempt.task.run_id, attempt.task.attempt(), attempt.repair);
        run.attempts().iter().map(|attempts| attempts.iter().map(of).collect()).collect()
    }

    #[test]
    fn the_newest_attempt_of_a_task_comes_last_whatever_its_id() {
        let tasks = json!([
            {"run_id": 11, "task_key": "a", "attempt_number": 0},
            {"run_id": 12, "task_key": "b"},
            {"run_id": 13, "task_key": "a", "attempt_number": 2, "start_time": 0, "state": {"life_cycle_state": "WAITING_FOR_RETRY"}},
            {"run_id": 14, "task_key": "a", "attempt_number": 1}]);
        assert_eq!(
            shown(json!({"run_id": 1, "tasks": tasks})),
            [vec![(11, 1, 0), (14, 2, 0), (13, 3, 0)], vec![(12, 1, 0)]]
        );
    }

    #[test]
    fn a_repair_is_newer_than_every_retry_before_it() {
        // The repair's attempt has the lowest ID and number.
        let tasks = json!([
            {"run_id": 30, "task_key": "a", "attempt_number": 0, "original_attempt_run_id": 30},
            {"run_id": 31, "task_key": "a", "attempt_number": 1, "original_attempt_run_id": 30},
            {"run_id": 9, "task_key": "a", "attempt_number": 0, "original_attempt_run_id": 9},
            {"run_id": 8, "task_key": "b", "attempt_number": 0}]);
        let history = |second: Value| json!([{"id": 1, "task_run_ids": [30, 8]}, {"id": 5, "task_run_ids": second}]);
        // Whether or not the repair is listed already, with a retry that is listed only by its first attempt.
        for second in [json!([9]), json!([]), Value::Null] {
            assert_eq!(
                shown(json!({"run_id": 1, "tasks": tasks, "repair_history": history(second)})),
                [vec![(30, 1, 0), (31, 2, 0), (9, 1, 1)], vec![(8, 1, 0)]]
            );
        }
    }

    #[test]
    fn a_repaired_run_lasted_as_long_as_its_last_repair() {
        let run = |value: Value| serde_json::from_value::<WorkflowRun>(value).unwrap();
        let repaired = run(json!({"run_id": 1, "start_time": 5, "end_time": 90, "repair_history": [
            {"start_time": 5, "end_time": 10}, {"start_time": 80, "end_time": 90}]}));
        assert_eq!((repaired.repairs(), repaired.span()), (1, (Some(80), Some(90))));
        let plain = run(json!({"run_id": 1, "start_time": 5, "end_time": 0, "repair_history": [{"start_time": 7}]}));
        assert_eq!((plain.repairs(), plain.span()), (0, (Some(5), None)));
        assert_eq!(run(json!({"run_id": 1, "repair_history": 7})).repairs(), 0);
    }

    #[test]
    fn conditions_and_loops_are_read_where_they_are_told() {
        let task = |value: Value| serde_json::from_value::<TaskRun>(value).unwrap();
        let condition = task(json!({"run_id": 1, "condition_task": {"op": "EQUAL_TO", "outcome": "false"}}));
        assert_eq!((condition.outcome(), condition.has_output()), (Some("false"), false));
        let stats =
            json!({"task_run_stats": {"total_iterations": 10, "succeeded_iterations": 7, "failed_iterations": null}});
        let looped = task(json!({"run_id": 1, "for_each_task": {"inputs": "[1]", "stats": stats}}));
        assert_eq!(looped.iterations(), Some(Iterations { total: 10, succeeded: 7, failed: 0 }));
        for bare in [json!({"run_id": 1}), json!({"run_id": 1, "condition_task": null, "for_each_task": 7})] {
            let bare = task(bare);
            assert_eq!((bare.outcome(), bare.iterations(), bare.has_output()), (None, None, true));
        }
        assert_eq!(task(json!({"run_id": 1, "for_each_task": {"stats": {"task_run_stats": {}}}})).iterations(), None);
    }
}
