//! Simulates exactly-once starts: every fault class, before and after the effect, with every listing lag, alone and
//! followed by a second fault, through the real protocol on the sandbox's world.

use std::sync::Mutex;

use super::scene::{ReportedOutcome, Scene, SimHost, key_of, on_paused_time, world};
use crate::dbt::End;
use crate::runs::{Journal, NotStarted};
use crate::sandbox::{Cut, FaultKind, Phase};

/// The expected outcome of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// One run that did work, followed until it succeeded.
    Run,
    /// Rejected, without a run.
    Nothing,
    /// The service can no longer be read: the outcome is unknown, and nothing was sent again.
    Unknown,
    /// Reading the run is refused for good: it continues, and the caller is told so.
    LeftAlone,
}

#[derive(Debug)]
struct Case {
    name: String,
    scene: Scene,
    /// Number of starts, as after a kill; the last one counts.
    starts: u32,
    /// Whether the journal survives between starts, as on the same machine.
    same_machine: bool,
    expect: Expect,
}

fn phases(class: &FaultKind) -> Vec<(&'static str, Phase)> {
    [("before", Phase::Before), ("after", Phase::After)]
        .into_iter()
        .filter(|(_, phase)| class.allows(*phase))
        // Nothing can be done about a service that denies what it has done.
        .filter(|(_, phase)| *phase == Phase::Before || !class.denies_effect())
        .collect()
}

fn kills(class: &FaultKind) -> bool {
    matches!(class, FaultKind::Cut(Cut::Kill | Cut::KillDuring))
}

/// The outcome of a fault of this class at the trigger.
fn expected(class: &FaultKind) -> Expect {
    let refused =
        matches!(class, FaultKind::Status(status) if (400..500).contains(status) && !matches!(status, 408 | 429));
    if refused { Expect::Nothing } else { Expect::Run }
}

/// Additional faults: none, the same fault again, faults while looking up and following.
const SECOND: [&str; 12] = [
    "",
    "dbt:jobs/run=reset,phase=after,nth=2",
    "dbt:jobs/run=status=502,phase=before,nth=2",
    "dbt:jobs/run=hang,phase=after,nth=2",
    "dbt:runs/list=status=503,nth=2,times=3",
    "dbt:runs/list=hang,nth=2,times=2",
    "dbt:runs/list=login,nth=2,times=2",
    "dbt:runs/list=null-data,nth=3",
    "dbt:runs/list=retry-after=20,nth=2",
    "dbt:runs/list=status=401,nth=2",
    "dbt:runs/get=status=404,times=3",
    "dbt:runs/get=truncated,nth=2,times=5",
];

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |scene: Scene, starts, same_machine, expect| {
        let seed = cases.len() as u64 + 1;
        let scene = Scene { seed, ..scene };
        let Scene { faults, lag, fresh_404, key, .. } = &scene;
        let name = format!(
            "#{seed} {} lag {lag} ms, fresh 404 {fresh_404} ms, {} key, {starts} starts, same machine: {same_machine}",
            faults.join(" + "),
            if key.is_some() { "given" } else { "fresh" },
        );
        cases.push(Case { name, scene, starts, same_machine, expect });
    };
    for class in FaultKind::catalogue() {
        for (phase, _) in phases(&class) {
            let first = format!("dbt:jobs/run={class},phase={phase}");
            let expect = expected(&class);
            if kills(&class) {
                // Killed at the trigger, then started again with the same key: at once, and on this or another
                // machine.
                for lag in (0..=50_000).step_by(500) {
                    for same_machine in [true, false] {
                        let scene = Scene {
                            lag,
                            key: Some("nightly/2026-11-23".to_owned()),
                            ..Scene::new(vec![first.clone()])
                        };
                        add(scene, 2, same_machine, Expect::Run);
                    }
                }
                continue;
            }
            for lag in (0..=50_000).step_by(1000) {
                add(Scene { lag, ..Scene::new(vec![first.clone()]) }, 1, true, expect);
            }
            for second in SECOND {
                let faults: Vec<String> = [first.as_str(), second]
                    .iter()
                    .filter(|fault| !fault.is_empty())
                    .map(ToString::to_string)
                    .collect();
                for lag in [0, 11_000, 29_000, 50_000] {
                    for (fresh_404, key) in [(0, None), (25_000, Some("orders:7".to_owned()))] {
                        add(Scene { lag, fresh_404, key, ..Scene::new(faults.clone()) }, 1, true, expect);
                    }
                }
            }
        }
        // The same class at each look-up and each poll, after a response lost after the effect.
        for operation in ["dbt:runs/list", "dbt:runs/get"] {
            let lost = "dbt:jobs/run=reset,phase=after".to_owned();
            for times in ["1", "4"] {
                for lag in [0, 12_000, 50_000] {
                    let fault = format!("{operation}={class},nth=2,times={times}");
                    if kills(&class) {
                        continue;
                    }
                    let Ok(_) = crate::sandbox::FaultRule::parse(&fault) else { continue };
                    // Four waits of five minutes exceed the fifteen minutes for look-ups.
                    let too_long = class == FaultKind::RetryAfterHuge && times == "4" && operation == "dbt:runs/list";
                    let proof = operation == "dbt:runs/get"
                        && times == "4"
                        && matches!(class, FaultKind::Status(401 | 403 | 404));
                    let expect = match (too_long, proof) {
                        (true, _) => Expect::Unknown,
                        (false, true) => Expect::LeftAlone,
                        (false, false) => Expect::Run,
                    };
                    add(Scene { lag, ..Scene::new(vec![lost.clone(), fault]) }, 1, true, expect);
                }
            }
        }
        // At most once: whatever happens, at most one request is sent.
        if !kills(&class) {
            for (phase, when) in phases(&class) {
                let expect = match (class.on_sockets(), class.denies_effect(), when) {
                    (true, true, _) if matches!(class, FaultKind::Redirect(_)) => Expect::Unknown,
                    (true, true, _) => Expect::Nothing,
                    // Nothing is sent, so it may be repeated.
                    (false, _, _) | (_, _, Phase::After) => Expect::Run,
                    (true, false, Phase::Before) => Expect::Unknown,
                };
                for lag in [0, 50_000] {
                    let faults = vec![format!("dbt:jobs/run={class},phase={phase}")];
                    add(Scene { lag, at_most_once: true, ..Scene::new(faults) }, 1, true, expect);
                }
            }
        }
        // Look-ups never work again: nothing may be sent a second time.
        let answers = matches!(class, FaultKind::UnknownStatus | FaultKind::Cut(Cut::Stale));
        if !kills(&class) && !answers {
            for phase in ["before", "after"] {
                let faults = vec![
                    format!("dbt:jobs/run=reset,phase={phase}"),
                    format!("dbt:runs/list={class},nth=2,times=forever"),
                ];
                add(Scene::new(faults), 1, true, Expect::Unknown);
            }
        }
    }
    cases
}

/// Runs one case; returns what is wrong, if anything.
async fn wrong(case: &Case, world: &crate::sandbox::World) -> Option<String> {
    let Case { name: _, scene, starts, same_machine, expect } = case;
    let host = SimHost::new(world, scene);
    let key = key_of(scene);
    let folder = (*starts > 1).then(|| tempfile::tempdir().unwrap());
    let journal = Journal::new(folder.as_ref().filter(|_| *same_machine).map(|folder| folder.path().to_owned()));
    let mut reported = host.start(scene, &journal, &key).await;
    for _ in 1..*starts {
        if !matches!(reported, ReportedOutcome::Killed) {
            return Some(format!("was not killed: {reported:?}"));
        }
        reported = host.start(scene, &journal, &key).await;
    }
    let actual = host.actual_runs(&key);
    let good = match (expect, &reported) {
        (Expect::Run, ReportedOutcome::Ended { run, end, adopted: _, duplicates: _ }) => {
            // Only two machines without a shared journal can create a second run, which is canceled while queued.
            *end == Some(End::Success) && actual.worked == [*run] && (!same_machine || actual.all == [*run])
        }
        (Expect::Nothing, ReportedOutcome::NotStarted(NotStarted::Rejected(_))) => {
            actual.all.is_empty() && actual.posts == 1
        }
        (Expect::Nothing, ReportedOutcome::NotStarted(NotStarted::NeverSent(_))) => {
            scene.at_most_once && actual.all.is_empty() && actual.posts == 1
        }
        (Expect::Unknown, ReportedOutcome::NotStarted(NotStarted::Unknown { .. })) => {
            actual.posts == 1 && actual.all.len() <= 1
        }
        (Expect::LeftAlone, ReportedOutcome::Left { run, error: Some(_) }) => actual.worked == [*run],
        (Expect::Run | Expect::Nothing | Expect::Unknown | Expect::LeftAlone, _) => false,
    };
    let duplicates = actual.worked.len() > 1;
    (!good || duplicates).then(|| format!("told {reported:?}\n  truth {actual:?}\n  said {:#?}", host.remarks.borrow()))
}

#[test]
#[ignore = "takes minutes; .ci/run runs it"]
fn exactly_once_whatever_gets_lost() {
    let cases = cases();
    let (next, failed) = (std::sync::atomic::AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(|| {
                let world = world();
                on_paused_time(async {
                    while let Some(case) = cases.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                        if let Some(why) = wrong(case, &world).await {
                            failed.lock().unwrap().push(format!("{}: {why}", case.name));
                        }
                    }
                });
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    let total = cases.len();
    crate::sim::say(&format!("exactly once, simulated: {} of {total}", total - failed.len()));
    assert!(failed.is_empty(), "{} cases failed, such as\n{}", failed.len(), failed[..failed.len().min(12)].join("\n"));
    assert!(total >= 10_000, "only {total} cases");
}
