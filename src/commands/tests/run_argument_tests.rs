//! `watch` and `cancel` take a run of either service by its id, or let a person choose one.

use serde_json::Value;

use crate::commands::shared::prompts::answer;
use crate::commands::shared::run_argument::RunArgument;
use crate::commands::tests::harness::{Harness, Outcome, id};
use crate::commands::tests::person::{Answer, Person};
use crate::commands::{cancel, create_workflow, deploy_notebook, init_secrets, run, watch};
use crate::credentials::AccountFlags;
use crate::events::Events;
use crate::failure::Code;
use crate::questions::{OpenQuestions, Question, Unanswered};
use crate::sandbox::NotebookOutcome;

const WATCH: bool = true;
const CANCEL: bool = false;

async fn on(world: &Harness, watches: bool, line: &[&str]) -> Outcome {
    let outcome = if watches { world.run(watch::run, line).await } else { world.run(cancel::run, line).await };
    outcome.expect("nobody kills it")
}

/// A world with an active run of each service: a dbt run, and a run of a workflow.
async fn scene() -> (Harness, String, String) {
    let world = Harness::new();
    let _ = world.run(init_secrets::run, &[]).await;
    let _ = world.run(deploy_notebook::run, &[]).await;
    let _ = world.run(create_workflow::run, &["--job", "222225"]).await;
    let started = world.run(run::run, &["--workflow", "dbt: Long queue (222225)", "--no-wait"]).await.unwrap();
    let workflow_run = id(&started.data["workflow_run_id"]);
    assert!(started.said().ends_with(&format!("next: dbtrigger watch --workflow-run {workflow_run}")), "{started:?}");
    let started = world.run(run::run, &["222225", "--no-wait"]).await.unwrap();
    let dbt_run = id(&started.data["run_id"]);
    assert!(started.said().ends_with(&format!("next: dbtrigger watch {dbt_run}")), "{started:?}");
    let _ = world.take_log();
    (world, dbt_run, workflow_run)
}

fn asked(world: &Harness, service: &str) -> usize {
    world.take_log().iter().filter(|seen| seen.operation.starts_with(service)).count()
}

#[tokio::test(start_paused = true)]
async fn an_id_is_one_of_dbt_or_else_of_databricks() {
    for watches in [WATCH, CANCEL] {
        let (world, dbt_run, _) = scene().await;
        let outcome = on(&world, watches, &[&dbt_run, "--timeout", "10m"]).await;
        assert_eq!(outcome.exit, if watches { 8 } else { 0 }, "{outcome:?}");
        // A run of dbt is no reason to look at Databricks.
        assert_eq!(asked(&world, "databricks:"), 0);
        for without_dbt in [false, true] {
            let (world, _, workflow_run) = scene().await;
            if without_dbt {
                world.set("DBT_CLOUD_TOKEN", "");
            }
            let line = [workflow_run.as_str(), "--timeout", "10m"];
            let outcome = if watches {
                let result = r#"{"run_id":"1","status":"SUCCESS"}"#.to_owned();
                let (outcome, _) =
                    tokio::join!(on(&world, WATCH, &line), world.finish_notebook(NotebookOutcome::Exited { result }));
                outcome
            } else {
                on(&world, CANCEL, &line).await
            };
            let found =
                if watches { &outcome.data["workflow_run_id"] } else { &outcome.data["workflow_run"]["run_id"] };
            assert_eq!((outcome.exit, found), (0, &Value::from(workflow_run.clone())), "{outcome:?}");
            assert!(outcome.said().contains(&format!("{workflow_run} is a Databricks run")), "{outcome:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_id_that_neither_has_is_not_found_and_one_of_the_other_service_is_said() {
    for (watches, command) in [(WATCH, "watch"), (CANCEL, "cancel")] {
        let (world, dbt_run, _) = scene().await;
        let none = on(&world, watches, &["7"]).await;
        assert_eq!(none.code, Some(Code::NotFound), "{none:?}");
        let other = on(&world, watches, &["--workflow-run", &dbt_run]).await;
        assert_ne!(other.exit, 0);
        assert!(other.failure.contains(&format!("\"dbtrigger {command} {dbt_run}\"")), "{other:?}");
        assert!(world.take_writes().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_run_and_a_terminal_the_list_of_runs_is_named_and_nothing_is_asked_of_a_service() {
    for watches in [WATCH, CANCEL] {
        for (without, open) in [
            (&[][..], &[][..]),
            (&["DBT_CLOUD_TOKEN"], &[]),
            (&["DATABRICKS_TOKEN"], &[]),
            (&["DBT_CLOUD_TOKEN", "DATABRICKS_TOKEN"], &["DBT_CLOUD_TOKEN"]),
        ] {
            let (world, _, _) = scene().await;
            for name in without {
                world.set(name, "");
            }
            let outcome = on(&world, watches, &[]).await;
            assert_eq!((outcome.code, outcome.exit), (Some(Code::MissingInput), 2), "{outcome:?}");
            assert!(outcome.failure.contains("dbtrigger runs"), "{outcome:?}");
            assert_eq!(outcome.failure.contains("DBT_CLOUD_TOKEN"), open.contains(&"DBT_CLOUD_TOKEN"), "{outcome:?}");
            assert!(world.take_log().is_empty());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_is_chosen_from_those_of_both_services() {
    let (world, dbt_run, workflow_run) = scene().await;
    let ended = world.run(run::run, &["222222"]).await.unwrap();
    let ended = id(&ended.data["run_id"]);
    let choose = async |active: bool, answer_with: Answer| {
        let mut ctx = world.ctx(AccountFlags::default(), Events::new(|_| ()));
        let open = OpenQuestions { questions: vec![Question::Run { active }], pasted: Vec::new(), tried: 0 };
        let answered = answer(&open, &mut ctx, &*Person::of(&[answer_with])).await;
        (answered.map_err(|failure| failure.code), ctx.prompts.run)
    };
    let leak = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
    let number = |text: &str| text.parse::<u64>().unwrap();
    for (active, chosen, found) in [
        (false, &ended, RunArgument::Id(number(&ended))),
        (true, &dbt_run, RunArgument::Id(number(&dbt_run))),
        (true, &workflow_run, RunArgument::Workflow { run: number(&workflow_run), origin: None }),
    ] {
        let (answered, run) = choose(active, Ok(leak(chosen))).await;
        assert!(answered.is_ok(), "{answered:?}");
        assert_eq!(run, Some(found));
    }
    let (answered, run) = choose(true, Err(Unanswered::Interrupted)).await;
    assert_eq!((answered, run), (Err(Code::Cancelled(Some(2))), None));
    // What was chosen is followed.
    let mut ctx = world.ctx(AccountFlags::default(), Events::new(|_| ()));
    ctx.prompts.run = Some(RunArgument::Id(number(&ended)));
    let matches = <watch::Args as clap::Args>::augment_args(clap::Command::new("x")).get_matches_from(["x"]);
    let args = <watch::Args as clap::FromArgMatches>::from_arg_matches(&matches).unwrap();
    let watched = watch::run(args, &ctx).await;
    assert_eq!(watched.report.map(|report| report.json()["run_id"].clone()), Some(Value::from(ended)));
    // Nothing is active: there is nothing to choose.
    let empty = Harness::new();
    empty.answer_with("dbt:runs/list", 200, r#"{"status":{"code":200},"data":[]}"#);
    let mut ctx = empty.ctx(AccountFlags::default(), Events::new(|_| ()));
    let open = OpenQuestions { questions: vec![Question::Run { active: true }], pasted: Vec::new(), tried: 0 };
    let failure = answer(&open, &mut ctx, &*Person::of(&[])).await.unwrap_err();
    assert_eq!(failure.code, Code::NotFound);
}
