//! Exactly-once starts with the real program over real sockets: each fault that a socket can show, before and after
//! the effect of the trigger, with runs that are listed at once or late.

use serde_json::Value;

use crate::harness::{Output, Site};
use crate::{all, conclude};

/// Faults after which the trigger must still end in one run.
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

/// Responses that guarantee that nothing was done, so they come only before the effect; with the resulting exit
/// code.
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
            // The sandbox's clock runs 600 times as fast, so 600,000 ms pass in one second.
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

/// Processes that start with the same key at the same time.
struct Race {
    racers: usize,
    /// Whether all run on one machine, or each with its own home.
    one_home: bool,
    lag_ms: i64,
    job: &'static str,
}

/// A job for pull requests, whose runs do not wait for each other.
const CI_JOB: &str = "300120";

#[test]
fn racers_with_one_key() {
    let mut races = Vec::new();
    for racers in [2, 8, 16] {
        for lag_ms in [0, 30_000, 120_000] {
            races.push(Race { racers, one_home: true, lag_ms, job: "222222" });
        }
        races.push(Race { racers, one_home: true, lag_ms: 60_000, job: CI_JOB });
        for lag_ms in [0, 20_000] {
            races.push(Race { racers, one_home: false, lag_ms, job: "222222" });
        }
    }
    let total: usize = races.iter().map(|race| race.racers).sum();
    let failures: Vec<String> = all(&races, run_race).into_iter().flatten().collect();
    conclude("racers with one key, real processes", &failures, total);
}

/// What is wrong, for each racer with a wrong result.
fn run_race(race: &Race) -> Vec<String> {
    let Race { racers, one_home, lag_ms, job } = *race;
    // Duplicate runs are looked for every few real seconds, so where they occur the sandbox's clock is not much
    // faster.
    let site = Site::with(|options| options.speed = if one_home { 60.0 } else { 4.0 });
    site.sandbox.with_world(|world, _| world.set_listing_lag(lag_ms));
    let arguments = ["run", job, "--idempotency-key", "Race/1", "--settle", "5s", "-o", "json"];
    let children: Vec<_> = (0..racers)
        .map(|number| {
            let mut command = site.command(&arguments);
            if !one_home {
                let home = site.home.path().join(number.to_string());
                std::fs::create_dir(&home).unwrap();
                command.env("HOME", home);
            }
            command.spawn().unwrap()
        })
        .collect();
    let outputs: Vec<_> = children.into_iter().map(|child| Site::finish(&arguments, child)).collect();
    let world = site.inspect();
    let ours: Vec<&Value> = world["dbt_runs"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|run| run["cause"].as_str().is_some_and(|cause| cause.starts_with("[dbtrigger:race/1-")))
        .collect();
    let worked: Vec<String> =
        ours.iter().filter(|run| run["worked"] == true).map(|run| run["id"].to_string()).collect();
    let first = ours.first().map(|run| run["id"].to_string());
    let world_good = worked.len() == 1 && worked.first() == first.as_ref() && (!one_home || ours.len() == 1);
    let told_right = |output: &Output| {
        let document: Value = serde_json::from_str(&output.stdout).unwrap_or_default();
        let run = &document["data"]["run_id"];
        let run = run.as_str().map_or_else(|| run.to_string(), ToOwned::to_owned);
        output.exit == Some(0) && Some(run) == first
    };
    let setting =
        format!("{racers} racers, one home {one_home}, lag {lag_ms} ms, job {job}, {} runs, {worked:?}", ours.len());
    outputs
        .iter()
        .filter(|output| !(world_good && told_right(output)))
        .map(|output| format!("{setting}\n{output}"))
        .collect()
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
