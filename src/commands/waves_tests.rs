//! How many requests of a command wait for one another: the waves of docs/benchmarks.md, counted on paused time.

use std::time::Duration;

use super::rehearsal::{Rehearsal, Seen};
use super::{create_workflow, deploy_notebook, init_secrets, setup};
use crate::sandbox::NotebookOutcome;

const PAGE: &str = include_str!("../../docs/benchmarks.md");
const LATENCY: Duration = Duration::from_secs(10);

/// One row of the page: the command, and how many waves it takes.
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

/// The waves, and how many requests went out in them. A check run is none of them.
fn waves(log: &[Seen]) -> (u128, usize) {
    let before = |seen: &&Seen| !seen.operation.starts_with("databricks:jobs/runs/");
    let sent: Vec<&Seen> = log.iter().take_while(before).collect();
    let Some((first, last)) = sent.first().zip(sent.last()) else { return (0, 0) };
    (wave_of(last, first), sent.len())
}

#[tokio::test(start_paused = true)]
#[expect(clippy::print_stdout, reason = "the line is what the test is for")]
async fn each_command_takes_the_waves_that_the_page_says() {
    let (apart, whole) = (Rehearsal::new(), Rehearsal::new());
    let grant = ["--grant", "data-engineers"];
    let job = ["--job", "222222"];
    let yes = ["--job", "222222", "-y"];
    let mut right = 0;
    let rows = rows();
    for row in &rows {
        let (world, line) = match row.command.trim_end_matches(", first").trim_end_matches(", again") {
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
            "setup" => {
                let result = r#"{"mode":"check","ok":true,"output":["reached"]}"#.to_owned();
                tokio::select! {
                    outcome = world.run(setup::run, line) => outcome,
                    never = async { loop { world.play(NotebookOutcome::Exited { result: result.clone() }).await; } } => never,
                }
            }
            other => panic!("{other}"),
        };
        let outcome = outcome.expect("nobody kills it");
        assert_eq!(outcome.exit, 0, "{}: {outcome:?}", row.command);
        let log = world.take_log();
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
