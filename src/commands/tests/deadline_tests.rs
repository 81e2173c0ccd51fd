//! Every command that waits ends at its `--timeout`, whichever response is missing, and always prints something within
//! five minutes.

use std::time::Duration;

use crate::commands::tests::harness::{Harness, InjectedFault, Outcome, id};
use crate::commands::{
    cancel, create_workflow, deploy_notebook, init_secrets, jobs, run, runs, setup, watch, workflows,
};
use crate::sandbox::{Cut, FaultKind, FaultRule, NotebookOutcome, Phase};
use crate::sim::say;

/// Workspace ID of the sandbox.
const WORKSPACE: &str = "7405609032100112";

/// How late a command may report its timeout.
const LATE: Duration = Duration::from_millis(100);

/// A sandbox with a queued dbt run, a failing one, and a workflow run that started a dbt run.
struct Scene {
    world: Harness,
    waiting: String,
    failing: String,
    workflow_run: String,
}

async fn scene() -> Scene {
    let world = Harness::new();
    let start = async |line: &[&str]| world.run(run::run, line).await.unwrap().data;
    let _ = world.run(init_secrets::run, &[]).await.unwrap();
    let _ = world.run(deploy_notebook::run, &[]).await.unwrap();
    let made = world.run(create_workflow::run, &["--job", "222225"]).await.unwrap();
    assert_eq!(made.exit, 0, "{made:?}");
    let workflow_run = id(&start(&["--workflow", "dbt: Long queue (222225)", "--no-wait"]).await["workflow_run_id"]);
    let key = format!("{WORKSPACE}/{workflow_run}/dbt/0");
    let _ = start(&["222225", "--no-wait", "--idempotency-key", &key]).await;
    let waiting = id(&start(&["222225", "--no-wait"]).await["run_id"]);
    let failing = id(&start(&["222223", "--no-wait"]).await["run_id"]);
    Scene { world, waiting, failing, workflow_run }
}

#[derive(Clone, Copy, Debug)]
enum Command {
    Run,
    Watch,
    Cancel,
}

impl Command {
    async fn on(self, world: &Harness, line: &[&str], timeout: Duration) -> Option<Outcome> {
        let timeout = format!("{}s", timeout.as_secs());
        let line = [line, &["--timeout", &timeout]].concat();
        match self {
            Command::Run => world.run(run::run, &line).await,
            Command::Watch => world.run(watch::run, &line).await,
            Command::Cancel => world.run(cancel::run, &line).await,
        }
    }
}

impl Scene {
    /// The same scene once more, as it was at this age of its world.
    fn copy(&self, age: Duration) -> Scene {
        let Scene { world, waiting, failing, workflow_run } = self;
        let (waiting, failing, workflow_run) = (waiting.clone(), failing.clone(), workflow_run.clone());
        Scene { world: world.copy_of_age(age), waiting, failing, workflow_run }
    }

    /// The commands that wait.
    fn lines<'a>(&'a self, files: &'a str, junit: &'a str) -> Vec<(Command, Vec<&'a str>)> {
        let Scene { world: _, waiting, failing, workflow_run } = self;
        let workflow = "dbt: Long queue (222225)";
        vec![
            (Command::Run, vec!["222222"]),
            (Command::Run, vec!["222223", "--artifacts", files, "--junit", junit]),
            (Command::Run, vec!["222223", "--retry", "1"]),
            (Command::Run, vec!["222222", "222223", "--artifacts", files]),
            (Command::Run, vec!["222222", "--no-wait"]),
            (Command::Run, vec!["Nightly build", "--project", "Jaffle Shop", "--idempotency-key", "k"]),
            (Command::Run, vec!["--workflow", workflow, "--idempotency-key", "k", "--param", "a=b"]),
            (Command::Watch, vec![failing]),
            (Command::Watch, vec!["--workflow-run", workflow_run]),
            (Command::Cancel, vec![waiting]),
            (Command::Cancel, vec!["--workflow-run", workflow_run]),
        ]
    }
}

#[tokio::test(start_paused = true)]
#[ignore = "takes long; .ci/run runs it"]
async fn no_command_waits_past_its_time_whichever_answer_does_not_come() {
    let folder = tempfile::tempdir().unwrap();
    let (files, junit) = (folder.path().join("files"), folder.path().join("junit.xml"));
    let (files, junit) = (files.to_str().unwrap(), junit.to_str().unwrap());
    let (mut ended, mut all, mut late) = (0, 0, Vec::new());
    let first = scene().await;
    let age = first.world.age();
    for number in 0..first.lines(files, junit).len() {
        let scene_of_all = first.copy(age);
        let (command, line) = scene_of_all.lines(files, junit).swap_remove(number);
        // No notebook is ended here, so workflow runs stay active until the timeout.
        let healthy = command.on(&scene_of_all.world, &line, Duration::from_mins(20)).await.unwrap();
        let asked = scene_of_all.world.take_log().len();
        let exact = Duration::from_secs(healthy.took.as_secs() + 1).min(Duration::from_mins(20));
        for timeout in [Duration::from_secs(2), Duration::from_secs(30), exact] {
            for index in [0, 1, asked / 2, asked.saturating_sub(3), asked - 1] {
                for trouble in [InjectedFault::Hang, InjectedFault::HangFromHere] {
                    let scene = first.copy(age);
                    let (command, line) = scene.lines(files, junit).swap_remove(number);
                    scene.world.inject_fault(index, trouble);
                    let outcome = command.on(&scene.world, &line, timeout).await.unwrap();
                    all += 1;
                    // The failure is the run's outcome, the timeout or "unknown", never a network error.
                    let fits = outcome.took < timeout || [0, 3, 8, 9, 20].contains(&outcome.exit);
                    if outcome.took <= timeout + LATE && fits {
                        ended += 1;
                    } else {
                        let (took, exit) = (outcome.took, outcome.exit);
                        late.push(format!(
                            "{command:?} {line:?}, {trouble:?} at {index} of {asked}: {took:?} of {timeout:?}, exit {exit}"
                        ));
                    }
                }
            }
        }
    }
    say(&format!("deadlines: {ended} of {all}"));
    assert!(late.is_empty(), "{}", late.join("\n"));
}

/// Commands without `--timeout`, and how long each may wait for a missing response: two minutes for a request with its
/// retries, three hours for a check run.
const UNTIMED: [(&str, &[&str], Duration); 9] = [
    ("runs", &[], Duration::from_mins(2)),
    ("runs", &["--job", "222222"], Duration::from_mins(2)),
    ("runs", &["--workflow", "dbt: Long queue (222225)"], Duration::from_mins(2)),
    ("runs", &["--orphans"], Duration::from_mins(2)),
    ("jobs", &[], Duration::from_mins(2)),
    ("workflows", &[], Duration::from_mins(2)),
    ("create-workflow", &["--job", "222225", "--check"], Duration::from_hours(3)),
    ("setup", &["--job", "222222", "-y"], Duration::from_hours(3)),
    ("init-secrets", &["--scope", "other", "--grant", "data-engineers"], Duration::from_mins(2)),
];

async fn untimed(world: &Harness, command: &str, line: &[&str]) -> Outcome {
    let ends = async {
        match command {
            "runs" => world.run(runs::run, line).await,
            "jobs" => world.run(jobs::run, line).await,
            "workflows" => world.run(workflows::run, line).await,
            "create-workflow" => world.run(create_workflow::run, line).await,
            "setup" => world.run(setup::run, line).await,
            "init-secrets" => world.run(init_secrets::run, line).await,
            other => panic!("{other}"),
        }
    };
    let result = r#"{"mode":"check","ok":true,"output":["reached"]}"#;
    tokio::select! {
        outcome = ends => outcome.unwrap(),
        never = async { loop { world.finish_notebook(NotebookOutcome::Exited { result: result.to_owned() }).await; } } => never,
    }
}

#[tokio::test(start_paused = true)]
async fn no_command_without_a_time_waits_for_ever_whichever_answer_does_not_come() {
    let (mut ended, mut all, mut late) = (0, 0, Vec::new());
    let first = scene().await;
    let age = first.world.age();
    for (command, line, most) in UNTIMED {
        let scene_of_all = first.copy(age);
        let healthy = untimed(&scene_of_all.world, command, line).await;
        let asked = scene_of_all.world.take_log().len();
        assert!(asked > 0, "{command} {line:?}: {healthy:?}");
        let mut longest = Duration::ZERO;
        for index in [0, asked / 2, asked - 1] {
            for trouble in [InjectedFault::Hang, InjectedFault::HangFromHere] {
                let scene = first.copy(age);
                scene.world.inject_fault(index, trouble);
                let outcome = untimed(&scene.world, command, line).await;
                all += 1;
                longest = longest.max(outcome.took);
                if outcome.took <= most + Duration::from_secs(2) {
                    ended += 1;
                } else {
                    late.push(format!("{command} {line:?}, {trouble:?} at {index} of {asked}: {:?}", outcome.took));
                }
            }
        }
        say(&format!("{command} {}: at most {} s", line.join(" "), longest.as_secs()));
    }
    say(&format!("waits without a time: {ended} of {all}"));
    assert!(late.is_empty(), "{}", late.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn cancel_ends_at_its_time_under_every_fault() {
    let timeout = Duration::from_secs(5);
    let (mut ended, mut all, mut late) = (0, 0, Vec::new());
    let first = scene().await;
    let age = first.world.age();
    for class in FaultKind::catalogue() {
        // These end the program.
        if matches!(class, FaultKind::Cut(Cut::Kill | Cut::KillDuring)) {
            continue;
        }
        for (of_workflow, operation) in [
            (false, "dbt:runs/get"),
            (false, "dbt:runs/cancel"),
            (true, "databricks:jobs/runs/get"),
            (true, "databricks:jobs/runs/cancel"),
            (true, "dbt:runs/list"),
            (true, "dbt:runs/cancel"),
        ] {
            for phase in [Phase::Before, Phase::After].into_iter().filter(|phase| class.allows(*phase)) {
                let Scene { world, waiting, failing: _, workflow_run } = first.copy(age);
                let word = if phase == Phase::Before { "before" } else { "after" };
                let rule = format!("{operation}={class},phase={word},times=forever");
                world.world(|world| world.add_fault(FaultRule::parse(&rule).unwrap()));
                let line: &[&str] = if of_workflow { &["--workflow-run", &workflow_run] } else { &[&waiting] };
                let outcome = Command::Cancel.on(&world, line, timeout).await.unwrap();
                all += 1;
                if outcome.took <= timeout + LATE {
                    ended += 1;
                } else {
                    late.push(format!("{line:?} under {rule}: {:?}", outcome.took));
                }
            }
        }
    }
    say(&format!("deadlines of cancel under faults: {ended} of {all}"));
    assert!(late.is_empty(), "{}", late.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn a_log_has_a_line_at_least_every_five_minutes_while_a_run_goes_on() {
    let silent = "dbt:runs/get=status=503,nth=3,times=forever";
    let (mut spoken, mut all, mut quiet) = (0, 0, Vec::new());
    let first = scene().await;
    let age = first.world.age();
    for (number, rules) in [
        (0, &[silent][..]),
        (0, &["dbt:runs/get=hang,nth=3,times=forever"]),
        (0, &["dbt:runs/get=retry-after-huge,nth=3,times=forever"]),
        (3, &[silent, "dbt:runs/list=hang,nth=5,times=forever"]),
        (6, &[]),
        (6, &["databricks:jobs/runs/get=status=500,nth=3,times=forever"]),
        (7, &[silent]),
        (8, &[]),
        (10, &["databricks:jobs/runs/get=hang,nth=2,times=forever"]),
    ] {
        let scene = first.copy(age);
        for rule in rules {
            scene.world.world(|world| world.add_fault(FaultRule::parse(rule).unwrap()));
        }
        let (command, line) = scene.lines("files", "junit.xml").swap_remove(number);
        let line: Vec<&str> = line.into_iter().filter(|word| !["--artifacts", "files"].contains(word)).collect();
        let outcome = command.on(&scene.world, &line, Duration::from_mins(70)).await.unwrap();
        assert!(outcome.took > Duration::from_hours(1), "{command:?} {line:?} {rules:?}: {:?}", outcome.took);
        all += 1;
        if outcome.silence <= Duration::from_mins(5) {
            spoken += 1;
        } else {
            quiet.push(format!("{command:?} {line:?} {rules:?}: {:?}", outcome.silence));
        }
    }
    say(&format!("logs without five minutes of silence: {spoken} of {all}"));
    assert!(quiet.is_empty(), "{}", quiet.join("\n"));
}
