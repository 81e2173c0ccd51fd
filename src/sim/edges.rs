//! Single cases at the edges of the protocol.

use std::time::Duration;

use tokio::time::Instant;

use super::scene::{JOB, ReportedOutcome, START, Scene, SimHost, key_of, on_paused_time, world, world_of};
use super::service::Service;
use crate::dbt::End;
use crate::runs::{Journal, NotStarted};

/// A job for pull requests, whose runs do not wait for each other.
const CI_JOB: u64 = 300_120;

fn given(faults: &[&str]) -> Scene {
    let faults = faults.iter().map(ToString::to_string).collect();
    Scene { key: Some("edge".to_owned()), ..Scene::new(faults) }
}

#[test]
fn the_deadline_holds_while_the_run_is_started() {
    for (fault, seconds) in [
        ("dbt:jobs/run=hang,phase=after", 10),
        ("dbt:jobs/run=reset,phase=before", 20),
        ("dbt:jobs/run=status=503,times=forever", 90),
        ("dbt:jobs/run=retry-after-huge,times=forever", 30),
        ("dbt:jobs/run=refused,times=forever", 30),
        ("dbt:runs/list=hang,nth=2,times=forever", 15),
        ("dbt:runs/list=hang,times=forever", 15),
        ("dbt:runs/list=retry-after=60,times=forever", 15),
    ] {
        let lost = "dbt:jobs/run=reset,phase=after";
        let faults = if fault.starts_with("dbt:runs") { vec![lost, fault] } else { vec![fault] };
        let scene = Scene { timeout: Duration::from_secs(seconds), lag: 50_000, ..given(&faults) };
        on_paused_time(async {
            let host = SimHost::new(&world(), &scene);
            let begun = Instant::now();
            let reported = host.start(&scene, &Journal::default(), &key_of(&scene)).await;
            assert!(matches!(reported, ReportedOutcome::NotStarted(_)), "{fault}: {reported:?}");
            let took = begun.elapsed();
            assert!(took <= Duration::from_millis(seconds * 1000 + 1000), "{fault}: {took:?} of {seconds} s");
        });
    }
}

/// A job without runs in the simulated account.
const JOB_WITHOUT_RUNS: u64 = 300_005;

const DAY: i64 = 86_400_000;

#[test]
fn a_run_of_another_caller_between_any_two_requests_is_found() {
    let (mut total, mut wrong) = (0, Vec::new());
    for (history, job, start) in [
        ("a run each day", JOB, START),
        ("none within 7 days", JOB, START.plus(-9 * DAY)),
        ("no run at all", JOB_WITHOUT_RUNS, START),
    ] {
        let world = world_of(start);
        for fault in ["", "dbt:jobs/run=reset,phase=after", "dbt:jobs/run=reset,phase=before"] {
            let faults: &[&str] = if fault.is_empty() { &[] } else { &[fault] };
            for nth in 1.. {
                let scene = Scene { job, ..given(faults) };
                let (reported, actual, came, remarks) = on_paused_time(async {
                    let host = SimHost::new(&world, &scene);
                    let key = key_of(&scene);
                    let cause = crate::runs::cause("another caller", &key);
                    *host.transport.service.borrow_mut() = Service::with_other_caller(nth, job, cause);
                    let reported = host.start(&scene, &Journal::default(), &key).await;
                    let came = host.transport.service.borrow().other_caller_came();
                    let remarks = host.remarks.borrow().clone();
                    (reported, host.actual_runs(&key), came, remarks)
                });
                if !came {
                    break;
                }
                total += 1;
                let good = match &reported {
                    ReportedOutcome::Ended { run, end: Some(End::Success), adopted: _, duplicates } => {
                        // A run created when ours is about to end may do work before it is seen, and is reported.
                        actual.all.first() == Some(run)
                            && actual.worked.first() == Some(run)
                            && duplicates.len() + 1 == actual.all.len()
                            && (actual.worked.len() == 1 || *run < duplicates[0])
                    }
                    ReportedOutcome::Ended { .. }
                    | ReportedOutcome::NotStarted(_)
                    | ReportedOutcome::Left { .. }
                    | ReportedOutcome::Killed => false,
                };
                if !good {
                    wrong.push(format!(
                        "{history}, {fault}, before request {nth}: {reported:?}, {actual:?}, {remarks:?}"
                    ));
                }
            }
        }
    }
    super::say(&format!("run of another caller between any two requests: {} of {total}", total - wrong.len()));
    assert!(wrong.is_empty() && total > 60, "{}", wrong.join("\n"));
}

#[test]
#[ignore = "takes minutes; .ci/run runs it"]
fn of_many_that_race_with_one_key_one_run_does_work_and_everybody_follows_it() {
    let (mut total, mut wrong) = (0, Vec::new());
    for racers in [2, 8, 16] {
        for lag in [0, 500, 20_000, 50_000] {
            for (homes, stagger) in [("one home", 0), ("one home", 300), ("a home each", 0), ("a home each", 300)] {
                for (job, outcome) in [(JOB, End::Success), (222_223, End::Error)] {
                    let scene = Scene { lag, job, ..given(&[]) };
                    let (all, actual) = on_paused_time(async {
                        let host = SimHost::new(&world(), &scene);
                        let folder = tempfile::tempdir().unwrap();
                        let key = key_of(&scene);
                        let race = (0..racers).map(|number: u64| {
                            let home = if homes == "one home" { "home".to_owned() } else { number.to_string() };
                            let journal = Journal::new(Some(folder.path().join(home)));
                            let (host, scene, key) = (&host, &scene, &key);
                            async move {
                                tokio::time::sleep(Duration::from_millis(number * stagger)).await;
                                host.start(scene, &journal, key).await
                            }
                        });
                        let all = futures_util::future::join_all(race).await;
                        (all, host.actual_runs(&key))
                    });
                    total += all.len();
                    let made = if homes == "one home" { 1 } else { actual.all.len() };
                    let lowest = actual.all.first().copied();
                    let world_good = actual.worked.len() == 1
                        && actual.all.len() == made
                        && actual.worked.first().copied() == lowest;
                    for reported in &all {
                        let good = world_good
                            && matches!(reported, ReportedOutcome::Ended { run, end: Some(end), .. } if Some(*run) == lowest && *end == outcome);
                        if !good {
                            wrong.push(format!("{racers} racers, lag {lag}, {homes}, {stagger} ms apart, job {job}: {reported:?}, {actual:?}"));
                        }
                    }
                }
            }
        }
    }
    super::say(&format!("racers with one key, simulated: {} of {total}", total - wrong.len()));
    assert!(wrong.is_empty(), "{}", wrong[..wrong.len().min(12)].join("\n"));
}

#[test]
fn of_two_that_race_with_one_key_one_run_does_work() {
    for lag in [0, 500, 20_000, 50_000] {
        for same_machine in [true, false] {
            let scene = Scene { lag, ..given(&[]) };
            on_paused_time(async {
                let host = SimHost::new(&world(), &scene);
                let folder = tempfile::tempdir().unwrap();
                let journal = Journal::new(same_machine.then(|| folder.path().to_owned()));
                let key = key_of(&scene);
                let (one, two) = tokio::join!(host.start(&scene, &journal, &key), host.start(&scene, &journal, &key));
                let actual = host.actual_runs(&key);
                assert_eq!(actual.worked.len(), 1, "lag {lag}, same machine: {same_machine}: {actual:?}");
                for reported in [&one, &two] {
                    let followed = match reported {
                        ReportedOutcome::Ended { run, end: Some(End::Success), adopted: _, duplicates: _ } => {
                            Some(*run)
                        }
                        ReportedOutcome::Ended { .. }
                        | ReportedOutcome::NotStarted(_)
                        | ReportedOutcome::Left { .. }
                        | ReportedOutcome::Killed => None,
                    };
                    assert_eq!(followed, Some(actual.worked[0]), "{one:?} {two:?}");
                }
                if same_machine {
                    assert_eq!(actual.all.len(), 1, "{actual:?}");
                    let remarks = host.remarks.borrow();
                    let waiting = remarks.iter().filter(|text| text.contains("is in progress on this machine"));
                    assert_eq!(waiting.count(), 1, "{remarks:?}");
                }
            });
        }
    }
}

#[test]
fn a_second_run_is_expected_where_a_send_was_unclear_or_the_key_was_given() {
    let given_key = Some("edge".to_owned());
    // Faults, key, sends, whether a second run is likely, and for how many seconds it may appear.
    for (faults, key, sends, likely, seconds) in [
        (&[][..], &None, 1, false, 0..=0),
        (&[], &given_key, 1, true, 0..=0),
        // Nothing was sent, so it does not count.
        (&["dbt:jobs/run=refused"], &None, 1, false, 0..=0),
        (&["dbt:jobs/run=reset,phase=after"], &None, 1, true, 55..=60),
        (&["dbt:jobs/run=reset,phase=before"], &None, 2, true, 55..=60),
        (&["dbt:jobs/run=status=429"], &None, 2, true, 55..=60),
    ] {
        let scene = Scene { key: key.clone(), ..given(faults) };
        on_paused_time(async {
            let host = SimHost::new(&world(), &scene);
            let triggered = host.trigger(&scene, &Journal::default(), &key_of(&scene)).await.unwrap();
            let risk = triggered.duplicate_risk;
            assert_eq!((triggered.sends, risk.likely), (sends, likely), "{faults:?}");
            let left = risk.until.saturating_duration_since(Instant::now()).as_secs();
            assert!(seconds.contains(&left), "{faults:?}: {left} s");
        });
    }
}

#[test]
fn a_start_that_fails_is_tried_for_its_time_and_then_says_why() {
    const FOREVER: Duration = Duration::from_hours(4);
    let half_a_minute = Duration::from_secs(30);
    let never_sent = |error: &NotStarted| matches!(error, NotStarted::NeverSent(_));
    let no_time = |error: &NotStarted| matches!(error, NotStarted::NoTime(_));
    let no_run_shows = |error: &NotStarted| matches!(error, NotStarted::NoRunShows { error: _, sends: 5 });
    let is: [&dyn Fn(&NotStarted) -> bool; 3] = [&never_sent, &no_time, &no_run_shows];
    let [never_sent, no_time, no_run_shows] = is;
    let refused = "dbt:jobs/run=refused,times=forever";
    let limited = "dbt:jobs/run=status=429,times=forever";
    let blind = "dbt:runs/list=status=500,nth=2,times=forever";
    let lost = "dbt:jobs/run=reset,phase=before,times=forever";
    // Faults, at most once, time limit, outcome, seconds that it takes, and POSTs.
    for (faults, at_most_once, timeout, is, seconds, posts) in [
        (&[refused][..], false, FOREVER, never_sent, 890..=931, 10..=60),
        (&[refused], false, half_a_minute, no_time, 25..=31, 3..=30),
        (&[limited], true, FOREVER, never_sent, 0..=2, 1..=1),
        (&[limited, blind], false, FOREVER, never_sent, 850..=1900, 1..=30),
        (&[limited, blind], false, half_a_minute, no_time, 25..=31, 1..=3),
        (&[lost], false, FOREVER, no_run_shows, 290..=400, 5..=5),
    ] {
        let scene = Scene { key: None, at_most_once, timeout, ..given(faults) };
        on_paused_time(async {
            let host = SimHost::new(&world(), &scene);
            let begun = Instant::now();
            let error = host.trigger(&scene, &Journal::default(), &key_of(&scene)).await.unwrap_err();
            assert!(is(&error), "{faults:?}, {timeout:?}: {error:?}");
            let took = begun.elapsed().as_secs();
            let sent = host.transport.posts.get();
            assert!(seconds.contains(&took) && posts.contains(&sent), "{faults:?}: {took} s, {sent} POSTs");
        });
    }
}

#[test]
fn what_a_killed_start_may_have_sent_is_waited_for_unless_that_was_long_ago() {
    let scene = given(&["dbt:jobs/run=kill,phase=before"]);
    for (pause_s, waits) in [(1, true), (100, true), (150, false)] {
        on_paused_time(async {
            let host = SimHost::new(&world(), &scene);
            let folder = tempfile::tempdir().unwrap();
            let journal = Journal::new(Some(folder.path().to_owned()));
            let key = key_of(&scene);
            assert!(matches!(host.start(&scene, &journal, &key).await, ReportedOutcome::Killed));
            tokio::time::sleep(Duration::from_secs(pause_s)).await;
            let begun = Instant::now();
            let triggered = host.trigger(&scene, &journal, &key).await.unwrap();
            assert!(!triggered.adopted);
            let waited = begun.elapsed() > Duration::from_secs(50);
            let said = host.remarks.borrow().iter().any(|text| text.contains("was just in progress"));
            assert_eq!((waited, said), (waits, waits), "{pause_s} s later: {:?}", host.remarks.borrow());
        });
    }
}

#[test]
fn a_start_leaves_an_intent_only_where_a_run_may_have_been_started() {
    let (rejected, lost) = ("dbt:jobs/run=status=400", "dbt:jobs/run=reset,phase=before,times=5");
    let (killed, rejected_later) = ("dbt:jobs/run=kill,phase=before", "dbt:jobs/run=status=400,nth=2");
    for (faults, starts, left) in [
        (&[rejected][..], 1, 0),
        (&[lost], 1, 1),
        // The second one sends nothing that may have taken effect, but the first one did.
        (&[killed, rejected_later], 2, 1),
    ] {
        let scene = given(faults);
        on_paused_time(async {
            let host = SimHost::new(&world(), &scene);
            let folder = tempfile::tempdir().unwrap();
            let journal = Journal::new(Some(folder.path().to_owned()));
            for _ in 0..starts {
                let reported = host.start(&scene, &journal, &key_of(&scene)).await;
                assert!(!matches!(reported, ReportedOutcome::Ended { .. }), "{reported:?}");
            }
            assert_eq!(journal.open_intents(host.context.wall.now()).len(), left, "{faults:?}");
        });
    }
}

#[test]
fn a_second_run_that_works_already_is_left_alone_and_said_aloud() {
    let scene = Scene { job: CI_JOB, lag: 30_000, ..given(&["dbt:jobs/run=kill,phase=after"]) };
    on_paused_time(async {
        let host = SimHost::new(&world(), &scene);
        let key = key_of(&scene);
        let journal = Journal::default();
        assert!(matches!(host.start(&scene, &journal, &key).await, ReportedOutcome::Killed));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let reported = host.start(&scene, &journal, &key).await;
        let actual = host.actual_runs(&key);
        assert_eq!(actual.all.len(), 2);
        assert!(
            matches!(reported, ReportedOutcome::Ended { run, .. } if run == actual.all[0]),
            "{reported:?} {actual:?}"
        );
        let warned =
            host.remarks.borrow().iter().any(|text| text.contains("second run") && text.contains("left alone"));
        assert!(warned, "{:?}", host.remarks.borrow());
    });
}

#[test]
fn no_disk_never_stops_a_start() {
    let scene = given(&["dbt:jobs/run=reset,phase=after"]);
    on_paused_time(async {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("starts"), "a file where a folder should be").unwrap();
        let host = SimHost::new(&world(), &scene);
        let reported = host.start(&scene, &Journal::new(Some(folder.path().to_owned())), &key_of(&scene)).await;
        assert!(matches!(reported, ReportedOutcome::Ended { end: Some(End::Success), .. }), "{reported:?}");
        assert!(host.remarks.borrow().iter().any(|text| text.contains("on disk")));
    });
}

#[test]
fn looking_that_never_works_ends_after_fifteen_minutes_and_nothing_is_sent_again() {
    let scene = given(&["dbt:jobs/run=status=504,phase=after", "dbt:runs/list=status=500,nth=2,times=forever"]);
    on_paused_time(async {
        let host = SimHost::new(&world(), &scene);
        let begun = Instant::now();
        let reported = host.start(&scene, &Journal::default(), &key_of(&scene)).await;
        assert!(matches!(reported, ReportedOutcome::NotStarted(NotStarted::Unknown { .. })), "{reported:?}");
        assert!((900..=931).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        assert_eq!(host.actual_runs(&key_of(&scene)).posts, 1);
    });
}

#[test]
fn a_workflow_is_started_once_whatever_happens_to_the_answer() {
    use bytes::Bytes;

    use super::memory::MemoryTransport;
    use super::scene::{DATABRICKS_TOKEN, START};
    use crate::runs::Key;
    use crate::sandbox::{Cut, FaultKind, FaultRule, Phase, Reply};

    let key = Key::parse("nightly").unwrap();
    for class in
        FaultKind::catalogue().into_iter().filter(|class| !matches!(class, FaultKind::Cut(Cut::Kill | Cut::KillDuring)))
    {
        for (word, phase) in [("before", Phase::Before), ("after", Phase::After)] {
            if !class.allows(phase) || (phase == Phase::After && class.denies_effect()) {
                continue;
            }
            let mut world = world();
            let created = http::Request::post("https://sandbox.invalid/api/2.2/jobs/create")
                .header("authorization", format!("Bearer {DATABRICKS_TOKEN}"))
                .header("content-type", "application/json")
                .body(Bytes::from(
                    r#"{"name":"w","tasks":[{"task_key":"t","notebook_task":{"notebook_path":"/Shared/n"}}]}"#,
                ))
                .unwrap();
            let Reply::Answer(answer) = world.answer(START, &created) else { panic!("no answer") };
            let job = serde_json::from_slice::<serde_json::Value>(answer.body()).unwrap()["job_id"].as_u64().unwrap();
            world.add_fault(FaultRule::parse(&format!("databricks:jobs/run-now={class},phase={word}")).unwrap());
            on_paused_time(async {
                let host = SimHost::for_databricks(MemoryTransport::new(world, START));
                // A second start with the same key, as after exit code 9.
                let mut runs = Vec::new();
                for _ in 0..2 {
                    if let Ok(started) = host
                        .writer
                        .put(crate::databricks::run_now(job, &key.token(job), &std::collections::BTreeMap::new()))
                        .await
                    {
                        runs.push(started.run_id);
                    }
                }
                let state = host.transport.world.borrow().inspect();
                let made = state["job_runs"].as_array().unwrap().len();
                assert!(!runs.is_empty() && made == 1, "{class} {word}: {runs:?}, {made} made");
                assert!(runs.iter().all(|run| *run == runs[0]), "{class} {word}: {runs:?}");
            });
        }
    }
}
