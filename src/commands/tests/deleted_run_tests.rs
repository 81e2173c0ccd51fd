//! Runs that are deleted while a command uses them are reported with their own error code.

use serde_json::{Value, json};

use crate::commands::tests::harness::{Harness, Outcome, id};
use crate::commands::{cancel, create_workflow, deploy_notebook, init_secrets, run, watch};
use crate::failure::Code;
use crate::sim::say;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Run,
    Watch,
    Cancel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Databricks,
    Dbt,
}

/// When the run is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// Before the command starts.
    Before,
    /// After this many reads of the run.
    AfterLooks(usize),
}

impl Command {
    async fn on(self, world: &Harness, line: &[&str]) -> Outcome {
        let outcome = match self {
            Command::Run => world.run(run::run, line).await,
            Command::Watch => world.run(watch::run, line).await,
            Command::Cancel => world.run(cancel::run, line).await,
        };
        outcome.expect("nobody kills it")
    }
}

/// A sandbox with a queued dbt run, and a workflow run that started a dbt run.
struct Scene {
    world: Harness,
    dbt_run: String,
    workflow_run: String,
}

async fn scene() -> Scene {
    let world = Harness::new();
    let _ = world.run(init_secrets::run, &[]).await.unwrap();
    let _ = world.run(deploy_notebook::run, &[]).await.unwrap();
    let made = world.run(create_workflow::run, &["--job", "222225"]).await.unwrap();
    assert_eq!(made.exit, 0, "{made:?}");
    let press = ["--workflow", "dbt: Long queue (222225)", "--no-wait"];
    let workflow_run = id(&Command::Run.on(&world, &press).await.data["workflow_run_id"]);
    let dbt_run = id(&Command::Run.on(&world, &["222225", "--no-wait"]).await.data["run_id"]);
    let _ = world.take_log();
    Scene { world, dbt_run, workflow_run }
}

impl Service {
    /// The request that reads a run.
    fn look(self) -> &'static str {
        match self {
            Service::Databricks => "databricks:jobs/runs/get",
            Service::Dbt => "dbt:runs/get",
        }
    }

    /// From now on requests for a run find none.
    fn forget(self, world: &Harness, run: &str) {
        let (operations, status, body): (&[&'static str], u16, Value) = match self {
            Service::Databricks => (
                &["databricks:jobs/runs/get", "databricks:jobs/runs/cancel"],
                400,
                json!({ "error_code": "INVALID_PARAMETER_VALUE", "message": format!("Run {run} does not exist.") }),
            ),
            Service::Dbt => (
                &["dbt:runs/get", "dbt:runs/cancel"],
                404,
                json!({ "status": { "code": 404, "user_message": "The requested resource was not found. Please check that you have the proper permissions." }, "data": null }),
            ),
        };
        for operation in operations {
            world.answer_with(operation, status, &body.to_string());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_deleted_is_gone_and_does_not_go_on() {
    let (mut good, mut total, mut wrong) = (0, 0, Vec::new());
    for command in [Command::Run, Command::Watch, Command::Cancel] {
        for service in [Service::Databricks, Service::Dbt] {
            for when in [When::Before, When::AfterLooks(1), When::AfterLooks(2), When::AfterLooks(5)] {
                for timeout in ["4m", "24h"] {
                    let Scene { world, dbt_run, workflow_run } = scene().await;
                    let line: &[&str] = match (command, service) {
                        (Command::Run, Service::Databricks) => &["--workflow", "dbt: Long queue (222225)"],
                        (Command::Run, Service::Dbt) => &["222225"],
                        (Command::Watch | Command::Cancel, Service::Databricks) => &["--workflow-run", &workflow_run],
                        (Command::Watch | Command::Cancel, Service::Dbt) => &[&dbt_run],
                    };
                    // `run` creates the run itself.
                    match when {
                        When::Before if command == Command::Run => continue,
                        When::Before => service.forget(&world, "7"),
                        When::AfterLooks(looks) => {
                            let seen = std::cell::Cell::new(0);
                            world.side_effect(service.look(), move |world| {
                                seen.set(seen.get() + 1);
                                if seen.get() == looks {
                                    service.forget(world, "7");
                                }
                            });
                        }
                    }
                    let outcome = command.on(&world, &[line, &["--timeout", timeout]].concat()).await;
                    // A run deleted before looks like a wrong ID; `cancel` succeeds if it saw the run end.
                    let expected = if when == When::Before { Code::NotFound } else { Code::RunGone };
                    let ended =
                        command == Command::Cancel && matches!(when, When::AfterLooks(2..)) && outcome.exit == 0;
                    let right = ended || (outcome.code, outcome.exit) == (Some(expected), 6);
                    total += 1;
                    good += usize::from(right);
                    if !right {
                        wrong.push(format!(
                            "{command:?} {service:?} {when:?} {timeout}: {:?} after {:?}",
                            outcome.code, outcome.took
                        ));
                    }
                }
            }
        }
    }
    say(&format!("runs that are gone: {good} of {total}"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_never_was_is_not_found_also_where_the_list_of_runs_hangs() {
    for rule in
        ["dbt:runs/list=hang,times=forever", "dbt:runs/list=status=500,times=forever", "dbt:runs/get=hang,nth=9"]
    {
        let world = Harness::new();
        world.world(|world| world.add_fault(crate::sandbox::FaultRule::parse(rule).unwrap()));
        let watched = world.run(watch::run, &["99999", "--timeout", "3s"]).await.unwrap();
        assert_eq!((watched.exit, watched.code), (6, Some(Code::NotFound)), "{rule}: {watched:?}");
    }
}
