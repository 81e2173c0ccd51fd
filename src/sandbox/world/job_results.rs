//! When a blocked task starts, and the result of a run whose tasks have ended.

use serde_json::Value;

use super::job_runs::{JobRun, Stage, TaskRun};
use super::job_settings::{tasks, texts};

/// What happens to a blocked task.
pub(super) enum Decision {
    NotYet,
    Start,
    /// It never starts and ends with this result.
    End(&'static str),
}

impl TaskRun {
    fn is_failed(&self) -> bool {
        matches!(self.result, Some("FAILED" | "TIMEDOUT" | "UPSTREAM_FAILED"))
    }
}

impl JobRun {
    /// Decides whether a blocked task may start (`run_if`).
    pub(super) fn decision(&self, settings: &Value) -> Decision {
        let needs = texts(settings.get("depends_on"), "task_key");
        let ends: Vec<&TaskRun> = needs.iter().filter_map(|need| self.last(need)).collect();
        if ends.iter().any(|task| task.stage != Stage::Ended) {
            return Decision::NotYet;
        }
        if ends.is_empty() {
            return Decision::Start;
        }
        // Tasks that depend only on excluded tasks are excluded too.
        if ends.iter().all(|task| task.result == Some("EXCLUDED")) {
            return Decision::End("EXCLUDED");
        }
        let succeeded = ends.iter().filter(|task| task.is_good()).count();
        let failed = ends.iter().filter(|task| task.is_failed()).count();
        let rule = settings.get("run_if").and_then(Value::as_str).unwrap_or("ALL_SUCCESS");
        let skipped = if failed > 0 { "UPSTREAM_FAILED" } else { "UPSTREAM_CANCELED" };
        let ends_with = match rule {
            "ALL_DONE" => None,
            "AT_LEAST_ONE_SUCCESS" => (succeeded == 0).then_some(skipped),
            "NONE_FAILED" => (failed > 0).then_some(skipped),
            "AT_LEAST_ONE_FAILED" => (failed == 0).then_some("EXCLUDED"),
            "ALL_FAILED" => (failed < ends.len()).then_some("EXCLUDED"),
            _ => (succeeded < ends.len()).then_some(skipped),
        };
        ends_with.map_or(Decision::Start, Decision::End)
    }

    pub(super) fn set_result(&mut self, now: i64) {
        self.ended = Some(self.tasks.iter().filter_map(|task| task.ended).max().unwrap_or(now));
        if let Some(result) = self.stopped {
            self.result = Some(result);
            return;
        }
        let keys: Vec<&str> = tasks(&self.settings).iter().filter_map(|task| task["task_key"].as_str()).collect();
        let needed: Vec<&str> =
            tasks(&self.settings).iter().flat_map(|task| texts(task.get("depends_on"), "task_key")).collect();
        let bad = |key: &&&str| self.last(key).is_some_and(|task| !task.is_good());
        let Some(first) = keys.iter().find(bad) else {
            self.result = Some("SUCCESS");
            return;
        };
        // A failed leaf makes the run FAILED; otherwise the run is SUCCESS_WITH_FAILURES.
        let leaf_failed = keys.iter().filter(|key| !needed.contains(key)).any(|key| bad(&key));
        if !leaf_failed {
            self.result = Some("SUCCESS_WITH_FAILURES");
            return;
        }
        let failed =
            keys.iter().find(|key| self.last(key).is_some_and(|task| task.result == Some("FAILED"))).unwrap_or(first);
        let said = self.last(failed).map(|task| task.message.clone()).unwrap_or_default();
        let mut message = format!("Task {failed} failed with message: {said}.");
        if keys.iter().any(|key| self.last(key).is_some_and(|task| task.result == Some("UPSTREAM_FAILED"))) {
            message.push_str(" This caused all downstream tasks to get skipped.");
        }
        self.message = message;
        let timed_out = self.last(failed).is_some_and(|task| task.result == Some("TIMEDOUT"));
        let cancelled = self.last(failed).is_some_and(|task| task.result == Some("CANCELED"));
        self.result = Some(if timed_out {
            "TIMEDOUT"
        } else if cancelled {
            "CANCELED"
        } else {
            "FAILED"
        });
    }
}
