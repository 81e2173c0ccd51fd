//! Number of sequential request waves per command, as in docs/benchmarks.md, counted on paused time.

use std::time::Duration;

use crate::commands::tests::harness::{Harness, Seen, id};
use crate::commands::{create_workflow, deploy_notebook, doctor, init_secrets, run, setup, watch};
use crate::sandbox::NotebookOutcome;

const PAGE: &str = include_str!("../../../docs/benchmarks.md");
/// Shorter than the limit for guesses.
const LATENCY: Duration = Duration::from_secs(4);

/// A row of the page: the command and its expected counts.
struct Row<'a> {
    command: &'a str,
    waves: u128,
    requests: usize,
}

fn rows() -> Vec<Row<'static>> {
    let table = PAGE.split("| waves |").nth(1).unwrap().split("\n\n").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        Row { command: cells[0], waves: cells[2].parse().unwrap(), requests: cells[3].parse().unwrap() }
    })
    .collect()
}

fn wave_of(seen: &Seen, first: &Seen) -> u128 {
    seen.at.saturating_sub(first.at).as_millis() / LATENCY.as_millis() + 1
}

/// Number of waves and of requests.
fn waves(sent: &[Seen]) -> (u128, usize) {
    let Some((first, last)) = sent.first().zip(sent.last()) else { return (0, 0) };
    (wave_of(last, first), sent.len())
}

/// A sandbox with several workflows, the last with several tasks; and the ID of a run of it in which all tasks failed.
async fn several() -> (Harness, String) {
    let world = Harness::new();
    let _ = world.run(init_secrets::run, &[]).await;
    let _ = world.run(deploy_notebook::run, &[]).await;
    let tasks = ["--name", "Three", "--job", "a=222222", "--job", "b=222225", "--job", "c=300001"];
    for line in [
        &["--job", "222225"][..],
        &["--job", "300002", "--run-as", "bo@example.com", "--grant-run-as"],
        &["--job", "300001"],
        &tasks,
    ] {
        let made = world.run(create_workflow::run, line).await.unwrap();
        assert_eq!(made.exit, 0, "{made:?}");
    }
    let started = world.run(run::run, &["--workflow", "Three", "--no-wait"]).await.unwrap();
    for _ in 0..3 {
        let _ =
            world.finish_notebook(NotebookOutcome::Failed { error: "E: no".to_owned(), trace: String::new() }).await;
    }
    tokio::time::sleep(Duration::from_mins(1)).await;
    (world, id(&started.data["workflow_run_id"]))
}

#[tokio::test(start_paused = true)]
#[expect(clippy::print_stdout, reason = "the line is what the test is for")]
async fn each_command_takes_the_waves_that_the_page_says() {
    let (apart, whole, (several, failed)) = (Harness::new(), Harness::new(), several().await);
    let folder = tempfile::tempdir().unwrap();
    let cache = tempfile::tempdir().unwrap();
    apart.set("XDG_CACHE_HOME", cache.path().to_str().unwrap());
    let files = ["222223", "--artifacts", folder.path().to_str().unwrap()];
    let failed = ["--workflow-run", failed.as_str()];
    let run_as = ["--job", "222222", "--run-as", "bo@example.com", "--grant-run-as"];
    let compute = ["--job", "222225", "--compute", "new", "--policy", "A1B2C3D4E5F60718"];
    let grant = ["--grant", "data-engineers"];
    let job = ["--job", "222222"];
    let yes = ["--job", "222222", "-y"];
    let mut right = 0;
    let rows = rows();
    for row in &rows {
        let (world, line) = match row.command.rsplit_once(", ").map_or(row.command, |(command, _)| command) {
            "`create-workflow --job 222222 --run-as bo@example.com --grant-run-as`" => (&apart, &run_as[..]),
            "`create-workflow --job 222225 --compute new --policy A1B2C3D4E5F60718`" => (&apart, &compute[..]),
            "`run 222223 --artifacts target`" => (&apart, &files[..]),
            "`watch --workflow-run 123`" => (&several, &failed[..]),
            "`doctor`" => (&several, &[][..]),
            "`setup --job 222222 -y`" => (&whole, &yes[..]),
            "`create-workflow --job 222222`" => (&apart, &job[..]),
            "`init-secrets --scope granted --grant data-engineers`" => {
                (&apart, &["--scope", "granted", grant[0], grant[1]][..])
            }
            _ => (&apart, &[][..]),
        };
        world.set_latency(LATENCY);
        world.take_log();
        let outcome = match row.command.split([' ', '`']).nth(1).unwrap() {
            "init-secrets" => world.run(init_secrets::run, line).await,
            "deploy-notebook" => world.run(deploy_notebook::run, line).await,
            "create-workflow" => world.run(create_workflow::run, line).await,
            "run" => world.run(run::run, line).await,
            "watch" => world.run(watch::run, line).await,
            "doctor" => world.run(doctor::run, line).await,
            "setup" => {
                let result = r#"{"mode":"check","ok":true,"output":["reached"]}"#.to_owned();
                tokio::select! {
                    outcome = world.run(setup::run, line) => outcome,
                    never = async { loop { world.finish_notebook(NotebookOutcome::Exited { result: result.clone() }).await; } } => never,
                }
            }
            other => panic!("{other}"),
        };
        let outcome = outcome.expect("nobody kills it");
        let mut log = world.take_log();
        let exit = match row.command.split([' ', '`']).nth(1).unwrap() {
            "run" => {
                // Skip the requests before the run's end.
                let end = log.iter().find(|seen| seen.operation == "dbt:runs/artifacts/list").map(|seen| seen.at);
                log.retain(|seen| Some(seen.at) >= end);
                3
            }
            "watch" => 3,
            "doctor" => 1,
            _ => {
                // Skip the check run.
                let end = log.iter().position(|seen| seen.operation.starts_with("databricks:jobs/runs/"));
                log.truncate(end.unwrap_or(log.len()));
                0
            }
        };
        assert_eq!(outcome.exit, exit, "{}: {outcome:?}", row.command);
        let found = waves(&log);
        if found == (row.waves, row.requests) {
            right += 1;
        } else {
            println!(
                "{}: {} waves and {} requests; the page says {} and {}",
                row.command, found.0, found.1, row.waves, row.requests
            );
            for seen in &log {
                println!("  {:>3} {}", wave_of(seen, &log[0]), seen.operation);
            }
        }
    }
    println!("WAVES: {right} of {}", rows.len());
    assert_eq!(right, rows.len());
}
