//! Exactly once with the real program over real sockets: each fault that a socket can show, before and after the effect of the
//! trigger, with runs that show at once and late.

use serde_json::Value;

use crate::harness::Site;
use crate::{all, conclude};

/// Faults after which the trigger must still come to one run, whatever happened.
const OPEN: [&str; 24] = [
    "reset",
    "close",
    "hang",
    "reset-after-head",
    "reset-in-body",
    "silence",
    "truncated",
    "drip",
    "status=408",
    "status=500",
    "status=502",
    "status=503",
    "status=504",
    "login",
    "empty",
    "bad-utf8",
    "huge",
    "deep",
    "missing-field",
    "null-data",
    "wrong-type",
    "gzip-bomb",
    "redirect=https://elsewhere.invalid/",
    "unknown-status",
];

/// Answers that promise that nothing was done, so they come before the effect only; with the exit code they lead to.
const CLEAR: [(&str, i32); 7] = [
    ("status=429", 0),
    ("retry-after=1", 0),
    ("retry-after-date=60", 0),
    ("status=400", 1),
    ("status=401", 4),
    ("status=403", 4),
    ("status=404", 6),
];

struct Case {
    rule: String,
    lag_ms: i64,
    exit: i32,
}

#[test]
fn one_run_over_real_sockets() {
    let mut cases = Vec::new();
    for class in OPEN {
        for phase in ["before", "after"] {
            // The sandbox's clock runs 600 times as fast: 600,000 ms show after one second.
            for lag_ms in [0, 600_000] {
                cases.push(Case { rule: format!("dbt:jobs/run={class},phase={phase}"), lag_ms, exit: 0 });
            }
        }
    }
    for (class, exit) in CLEAR {
        cases.push(Case { rule: format!("dbt:jobs/run={class}"), lag_ms: 0, exit });
    }
    let failures: Vec<String> = all(&cases, one).into_iter().flatten().collect();
    conclude("exactly once, real program on real sockets", &failures, cases.len());
}

fn one(case: &Case) -> Option<String> {
    let Case { rule, lag_ms, exit } = case;
    let site = Site::with(|options| options.speed = 600.0);
    site.sandbox.with_world(|world, _| world.set_listing_lag(*lag_ms));
    site.fault(rule);
    let output = site.run(&["run", "222222", "--settle", "4s", "-o", "json"]);
    let world = site.inspect();
    let ours: Vec<&Value> = world["dbt_runs"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|run| run["cause"].as_str().is_some_and(|cause| cause.contains("[dbtrigger:")))
        .collect();
    let worked = ours.iter().filter(|run| run["worked"] == true).count();
    let due = usize::from(*exit == 0);
    let right = output.exit == Some(*exit) && worked == due && ours.len() == due;
    (!right).then(|| {
        format!("{rule}, lag {lag_ms} ms: {} runs made, {worked} worked, exit {exit} was due\n{output}", ours.len())
    })
}
