//! Exactly once, simulated: every fault class, before and after the effect, with every listing lag, alone and followed
//! by a second fault, through the real protocol on the real world.

use std::sync::Mutex;

use super::scene::{Scene, Stage, Told, key_of, on_paused_time, world};
use crate::dbt::End;
use crate::runs::{Journal, NotStarted};
use crate::sandbox::{Class, Phase};

/// What a case has to end in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// One run that did work, followed to its success.
    Run,
    /// Refused, with no run.
    Nothing,
    /// The service cannot be looked at any more: nobody knows, and nothing was sent again.
    Unknown,
    /// Looking at the run is refused for good: it goes on, and the caller is told so.
    LeftAlone,
}

#[derive(Debug)]
struct Case {
    name: String,
    scene: Scene,
    /// Started so often, as after a kill; the last start counts.
    starts: u32,
    /// The journal survives between starts (the same machine), or does not (another one).
    same_machine: bool,
    expect: Expect,
}

fn phases(class: &Class) -> Vec<(&'static str, Phase)> {
    [("before", Phase::Before), ("after", Phase::After)]
        .into_iter()
        .filter(|(_, phase)| class.allows(*phase))
        // A service that denies what it has done cannot be served right by anybody.
        .filter(|(_, phase)| *phase == Phase::Before || !class.denies_effect())
        .collect()
}

fn kills(class: &Class) -> bool {
    matches!(class, Class::Kill | Class::KillDuring)
}

/// What a fault of this class at the trigger leads to.
fn expected(class: &Class) -> Expect {
    let refused = matches!(class, Class::Status(status) if (400..500).contains(status) && !matches!(status, 408 | 429));
    if refused { Expect::Nothing } else { Expect::Run }
}

/// Faults that come on top: none, the same trouble once more, trouble with looking and with following.
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
    for class in Class::catalogue() {
        for (phase, _) in phases(&class) {
            let first = format!("dbt:jobs/run={class},phase={phase}");
            let expect = expected(&class);
            if kills(&class) {
                // Killed at the trigger, then started again with the same key: at once, and on this or another machine.
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
        // The same class at each look-up and at each look, after an answer that was lost behind the effect.
        for operation in ["dbt:runs/list", "dbt:runs/get"] {
            let lost = "dbt:jobs/run=reset,phase=after".to_owned();
            for times in ["1", "4"] {
                for lag in [0, 12_000, 50_000] {
                    let fault = format!("{operation}={class},nth=2,times={times}");
                    if kills(&class) {
                        continue;
                    }
                    let Ok(_) = crate::sandbox::Rule::parse(&fault) else { continue };
                    // Four waits of five minutes are more than the fifteen that looking may take.
                    let too_long = class == Class::RetryAfterAbsurd && times == "4" && operation == "dbt:runs/list";
                    let proof =
                        operation == "dbt:runs/get" && times == "4" && matches!(class, Class::Status(401 | 403 | 404));
                    let expect = match (too_long, proof) {
                        (true, _) => Expect::Unknown,
                        (false, true) => Expect::LeftAlone,
                        (false, false) => Expect::Run,
                    };
                    add(Scene { lag, ..Scene::new(vec![lost.clone(), fault]) }, 1, true, expect);
                }
            }
        }
        // At most once: whatever happens, one request at most leaves.
        if !kills(&class) {
            for (phase, when) in phases(&class) {
                let expect = match (class.on_sockets(), class.denies_effect(), when) {
                    (true, true, _) if matches!(class, Class::Redirect(_)) => Expect::Unknown,
                    (true, true, _) => Expect::Nothing,
                    // Nothing leaves: it may be repeated.
                    (false, _, _) | (_, _, Phase::After) => Expect::Run,
                    (true, false, Phase::Before) => Expect::Unknown,
                };
                for lag in [0, 50_000] {
                    let faults = vec![format!("dbt:jobs/run={class},phase={phase}")];
                    add(Scene { lag, at_most_once: true, ..Scene::new(faults) }, 1, true, expect);
                }
            }
        }
        // Looking never works again: nothing may be sent a second time.
        let answers = matches!(class, Class::UnknownStatus | Class::Stale);
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

/// Runs one case and says what is wrong with it.
async fn wrong(case: &Case, world: &crate::sandbox::World) -> Option<String> {
    let Case { name: _, scene, starts, same_machine, expect } = case;
    let stage = Stage::new(world, scene);
    let key = key_of(scene);
    let folder = (*starts > 1).then(|| tempfile::tempdir().unwrap());
    let journal = Journal::new(folder.as_ref().filter(|_| *same_machine).map(|folder| folder.path().to_owned()));
    let mut told = stage.start(scene, &journal, &key).await;
    for _ in 1..*starts {
        if !matches!(told, Told::Killed) {
            return Some(format!("was not killed: {told:?}"));
        }
        told = stage.start(scene, &journal, &key).await;
    }
    let truth = stage.truth(&key);
    let good = match (expect, &told) {
        (Expect::Run, Told::Ended { run, end, adopted: _, duplicates: _ }) => {
            // Only two machines that know nothing of each other can make a second run, which is stopped while it waits.
            *end == Some(End::Success) && truth.worked == [*run] && (!same_machine || truth.all == [*run])
        }
        (Expect::Nothing, Told::NotStarted(NotStarted::Rejected(_))) => truth.all.is_empty() && truth.posts == 1,
        (Expect::Nothing, Told::NotStarted(NotStarted::NeverSent(_))) => {
            scene.at_most_once && truth.all.is_empty() && truth.posts == 1
        }
        (Expect::Unknown, Told::NotStarted(NotStarted::Unknown { .. })) => truth.posts == 1 && truth.all.len() <= 1,
        (Expect::LeftAlone, Told::Left { run, error: Some(_) }) => truth.worked == [*run],
        (Expect::Run | Expect::Nothing | Expect::Unknown | Expect::LeftAlone, _) => false,
    };
    let duplicates = truth.worked.len() > 1;
    (!good || duplicates).then(|| format!("told {told:?}\n  truth {truth:?}\n  said {:#?}", stage.remarks.borrow()))
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
