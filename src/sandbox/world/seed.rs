//! Initial content of a world: dbt projects, jobs and some run history; in the workspace only folders.

use super::World;
use super::dbt_jobs::DbtJob;
use super::dbt_run_views::trigger;
use super::dbt_runs::{DbtRun, PlannedOutcome, RunPlan};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const DAY: i64 = 24 * 60 * MINUTE;

const JAFFLE_SHOP: (i64, i64) = (4101, 41011);
const FINANCE: (i64, i64) = (4102, 41021);

/// First new run id; the guide's example shows it.
const FIRST_RUN: i64 = 123_456;
/// The run that "Long queue" runs appear to wait for.
const LONG_RUN: i64 = 123_450;

/// Queued 10 s, starting 20 s, running 3.5 minutes, success.
const USUAL: RunPlan = RunPlan {
    queued: 10 * SECOND,
    starting: 20 * SECOND,
    running: 210 * SECOND,
    outcome: PlannedOutcome::Success,
    resumed: PlannedOutcome::Success,
    blocked_by: None,
};

fn job(id: i64, (project, environment): (i64, i64), name: &str, plan: RunPlan) -> DbtJob {
    DbtJob {
        id,
        project,
        environment,
        name: name.to_owned(),
        commands: vec!["dbt build".to_owned()],
        generate_docs: false,
        scheduled: false,
        is_ci: false,
        deactivated: false,
        timeout_seconds: 0,
        plan,
        written: serde_json::Map::new(),
    }
}

/// Returns a job as clients create it, before the request body is applied.
pub(super) fn written_job(id: i64) -> DbtJob {
    job(id, (0, 0), "", RunPlan { running: MINUTE, ..USUAL })
}

fn jobs() -> Vec<DbtJob> {
    let mut nightly = job(222_222, JAFFLE_SHOP, "Nightly build", USUAL);
    nightly.scheduled = true;
    let mut broken = job(
        222_223,
        JAFFLE_SHOP,
        "Broken models",
        RunPlan {
            running: 2 * MINUTE,
            outcome: PlannedOutcome::ModelError,
            resumed: PlannedOutcome::ModelError,
            ..USUAL
        },
    );
    broken.generate_docs = true;
    let elsewhere = RunPlan { running: MINUTE, outcome: PlannedOutcome::CancelledElsewhere, ..USUAL };
    let long_queue = RunPlan { queued: 20 * MINUTE, running: MINUTE, blocked_by: Some(LONG_RUN), ..USUAL };
    let flaky = RunPlan { running: 90 * SECOND, outcome: PlannedOutcome::ModelError, ..USUAL };
    let mut jobs = vec![
        nightly,
        broken,
        job(222_224, JAFFLE_SHOP, "Cancelled from elsewhere", elsewhere),
        job(222_225, JAFFLE_SHOP, "Long queue", long_queue),
        job(222_226, JAFFLE_SHOP, "Flaky warehouse", flaky),
    ];
    let plain = RunPlan { running: MINUTE, ..USUAL };
    for number in 1..=120 {
        let home = if number % 3 == 0 { FINANCE } else { JAFFLE_SHOP };
        jobs.push(job(300_000 + number, home, &format!("Plain job {number:03}"), plain));
    }
    let count = jobs.len();
    for (index, job) in jobs.iter_mut().enumerate() {
        match count - index {
            1 => {
                "Pull requests".clone_into(&mut job.name);
                job.is_ci = true;
            }
            2 => {
                "Given up".clone_into(&mut job.name);
                job.deactivated = true;
            }
            4 => {
                "Carried out elsewhere".clone_into(&mut job.name);
                job.commands.clear();
                job.written.insert("job_type".to_owned(), "hybrid".into());
            }
            3 => {
                "With docs".clone_into(&mut job.name);
                job.generate_docs = true;
            }
            _ => {}
        }
    }
    jobs
}

impl World {
    fn past_run(&mut self, id: i64, job: &DbtJob, created: i64, plan: RunPlan) {
        let trigger = trigger(id + 1_000_000, job.id, "scheduled", "scheduled", &serde_json::Map::new());
        let run = self.run_of(job, id, created, plan, trigger);
        self.dbt.push(DbtRun { dequeued: Some(created + plan.queued), seeded: true, ..run });
    }

    /// Fills a new world.
    pub(super) fn seed(&mut self) {
        super::workspace::seed(self);
        for job in jobs() {
            self.dbt.jobs.insert(job.id, job);
        }
        let start = self.start.0;
        if let Some(nightly) = self.dbt.jobs.get(&222_222).cloned() {
            for (id, days) in [(123_410, 5), (123_418, 4), (123_427, 3), (123_435, 2), (123_442, 1)] {
                let outcome = if days == 3 { PlannedOutcome::ModelError } else { PlannedOutcome::Success };
                self.past_run(id, &nightly, start - days * DAY, RunPlan { outcome, ..USUAL });
            }
        }
        if let Some(other) = self.dbt.jobs.get(&300_002).cloned() {
            self.past_run(LONG_RUN, &other, start - 10 * MINUTE, RunPlan { running: 20 * 60 * MINUTE, ..USUAL });
        }
        self.dbt.next_run = FIRST_RUN;
        self.dbt.advance(start);
    }
}
