//! `run`, `watch`, `cancel`, `jobs` and `runs`, end to end against the in-memory sandbox.

use std::time::Duration;

use crate::commands::tests::harness::{Harness, InjectedFault, Outcome, id, number};
use crate::commands::{cancel, connect_dbt, create_workflow, deploy_notebook, init_secrets, jobs, run, runs, watch};
use crate::credentials::{AccountFlags, InputErrors};
use crate::events::{Events, RunEvent};
use crate::failure::Code;
use crate::sandbox::FaultRule;

/// Workspace ID of the sandbox.
const WORKSPACE: &str = "7405609032100112";

async fn start(ctx: &Harness, line: &[&str]) -> Outcome {
    ctx.run(run::run, line).await.expect("nobody kills it")
}

async fn watched(ctx: &Harness, line: &[&str]) -> Outcome {
    ctx.run(watch::run, line).await.expect("nobody kills it")
}

async fn cancelled(ctx: &Harness, line: &[&str]) -> Outcome {
    ctx.run(cancel::run, line).await.expect("nobody kills it")
}

fn fault(ctx: &Harness, rule: &str) {
    ctx.world(|world| world.add_fault(FaultRule::parse(rule).unwrap()));
}

async fn started(ctx: &Harness, job: &str) -> String {
    id(&start(ctx, &[job, "--no-wait"]).await.data["run_id"])
}

/// Creates a workflow run and the dbt run that its notebook would have started.
async fn workflow_with_dbt_run(ctx: &Harness) -> (String, String) {
    let _ = ctx.run(init_secrets::run, &[]).await.unwrap();
    let _ = ctx.run(deploy_notebook::run, &[]).await.unwrap();
    let made = ctx.run(create_workflow::run, &["--job", "222225"]).await.unwrap();
    assert_eq!(made.exit, 0, "{made:?}");
    let pressed = start(ctx, &["--workflow", "dbt: Long queue (222225)", "--no-wait"]).await;
    let run = id(&pressed.data["workflow_run_id"]);
    let key = format!("{WORKSPACE}/{run}/dbt/0");
    let dbt_run = start(ctx, &["222225", "--no-wait", "--idempotency-key", &key]).await;
    let _ = ctx.take_log();
    (run, id(&dbt_run.data["run_id"]))
}

#[tokio::test(start_paused = true)]
async fn watch_shows_what_run_shows_and_ends_as_the_run_does() {
    for (job, exit, code) in
        [("222222", 0, None), ("222223", 3, Some(Code::RunFailed)), ("222224", 20, Some(Code::RunCancelled))]
    {
        let ctx = Harness::new();
        let run = started(&ctx, job).await;
        let _ = ctx.take_log();
        let outcome = watched(&ctx, &[&run]).await;
        assert_eq!((outcome.exit, outcome.code), (exit, code), "{outcome:?}");
        assert!(outcome.said().contains("DbtJobRunStatus.RUNNING"), "{}", outcome.said());
        assert_eq!(outcome.data["job_id"], job);
        assert_eq!(ctx.take_writes(), Vec::<&str>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_can_be_given_with_its_flag_too() {
    let requests = async |line: &[&str]| {
        let ctx = Harness::new();
        let outcome = start(&ctx, &[line, &["--no-wait", "--idempotency-key", "one"]].concat()).await;
        let mut sent: Vec<_> = ctx.take_log().into_iter().map(|seen| (seen.operation, seen.body)).collect();
        // Some are sent at the same time.
        sent.sort();
        (outcome.exit, outcome.data, sent)
    };
    let by_flag = requests(&["--job", "222222"]).await;
    assert!(by_flag.0 == 0 && by_flag.2.iter().any(|(operation, _)| *operation == "dbt:jobs/run"), "{by_flag:?}");
    assert_eq!(by_flag, requests(&["222222"]).await);
    let ctx = Harness::new();
    let two = start(&ctx, &["222225", "--job", "300005", "--no-wait"]).await;
    assert_eq!((two.exit, two.data["runs"].as_array().map(Vec::len)), (0, Some(2)), "{two:?}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_not_there_is_said_soon_and_one_that_does_not_show_yet_is_waited_for() {
    let ctx = Harness::new();
    let outcome = watched(&ctx, &["99"]).await;
    assert_eq!(outcome.code, Some(Code::NotFound), "{outcome:?}");
    assert!(outcome.took.as_secs() <= 5, "{:?}", outcome.took);
    ctx.world(|world| world.set_fresh_404(4_000));
    let run = started(&ctx, "222222").await;
    assert_eq!(watched(&ctx, &[&run]).await.exit, 0);
    // A run below the newest one, which is not new, is not new either.
    tokio::time::advance(Duration::from_mins(2)).await;
    let outcome = watched(&ctx, &["99"]).await;
    assert_eq!((outcome.code, outcome.took.as_secs()), (Some(Code::NotFound), 0), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn time_that_is_over_before_a_start_is_waited_long_enough_and_says_what_it_was_spent_on() {
    for (rule, line, says) in [
        ("dbt:runs/list=hang,times=forever", &["222222"][..], "runs"),
        ("dbt:jobs/run=refused,times=forever", &["222222"], "jobs/run"),
        ("dbt:jobs/run=status=429,times=forever", &["222222"], "429"),
        ("dbt:jobs/list=hang,times=forever", &["Nightly build"], "jobs/list"),
        ("databricks:jobs/list=hang,times=forever", &["--workflow", "Nightly"], "jobs/list"),
    ] {
        let ctx = Harness::new();
        fault(&ctx, rule);
        let outcome = start(&ctx, &[line, &["--timeout", "30s"]].concat()).await;
        assert_eq!((outcome.exit, outcome.code), (8, Some(Code::StillRunning)), "{rule}: {outcome:?}");
        assert!(outcome.failure.to_lowercase().contains("nothing was started"), "{rule}: {outcome:?}");
        assert!(outcome.failure.contains(says), "{rule}: {outcome:?}");
        assert!(outcome.took.as_secs() <= 31, "{rule}: {:?}", outcome.took);
        assert!(outcome.data["run_id"].is_null(), "{rule}: {outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_parameter_of_a_workflow_is_refused_beside_a_job_and_alone() {
    let ctx = Harness::new();
    for line in
        [&["222222", "--param", "day=1"][..], &["--param", "day=1"], &["--step", "dbt build", "--param", "day=1"]]
    {
        let outcome = start(&ctx, line).await;
        assert_eq!((outcome.exit, outcome.code), (2, Some(Code::Usage)), "{line:?} {outcome:?}");
        assert!(outcome.failure.contains("--param") && outcome.failure.contains("--workflow"), "{outcome:?}");
        assert_eq!(ctx.take_log().len(), 0, "{line:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn watching_outlasts_what_proves_nothing_and_stops_at_proof() {
    for (rule, exit) in [
        ("dbt:runs/get=status=503,times=30", 0),
        ("dbt:runs/get=reset,times=30", 0),
        ("dbt:runs/get=status=401,times=forever", 4),
        ("dbt:runs/get=status=403,times=forever", 4),
    ] {
        let ctx = Harness::new();
        let run = started(&ctx, "222222").await;
        fault(&ctx, rule);
        let outcome = watched(&ctx, &[&run]).await;
        assert_eq!(outcome.exit, exit, "{rule}: {outcome:?}");
    }
    let ctx = Harness::new();
    let run = started(&ctx, "222222").await;
    let outcome = watched(&ctx, &[&run, "--timeout", "30s"]).await;
    assert_eq!(outcome.code, Some(Code::StillRunning), "{outcome:?}");
    assert!(outcome.failure.contains(&format!("\"dbtrigger watch {run}\"")), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dbt_run_is_cancelled_and_that_is_confirmed() {
    let ctx = Harness::new();
    let run = started(&ctx, "222222").await;
    let _ = ctx.take_log();
    let outcome = cancelled(&ctx, &[&run]).await;
    assert_eq!((outcome.exit, &outcome.data["dbt_runs"][0]["cancelled"]), (0, &true.into()), "{outcome:?}");
    assert!(outcome.text.contains(&format!("dbt run {run} canceled")), "{}", outcome.text);
    assert_eq!(ctx.take_writes(), ["dbt:runs/cancel"]);
    // The second time there is nothing to do.
    let outcome = cancelled(&ctx, &[&run]).await;
    assert_eq!((outcome.exit, &outcome.data["dbt_runs"][0]["already_ended"]), (0, &true.into()), "{outcome:?}");
    assert!(outcome.text.contains("had already ended: CANCELLED"), "{}", outcome.text);
    assert_eq!(ctx.take_writes(), Vec::<&str>::new());
    assert_eq!(cancelled(&ctx, &["99"]).await.code, Some(Code::NotFound));
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_to_one_request_of_a_cancellation_the_run_is_cancelled() {
    for index in 0..3 {
        for trouble in
            [InjectedFault::LostBefore, InjectedFault::LostAfter, InjectedFault::ErrorAfter, InjectedFault::Unavailable]
        {
            let ctx = Harness::new();
            let run = started(&ctx, "222222").await;
            ctx.inject_fault(index, trouble);
            let outcome = cancelled(&ctx, &[&run]).await;
            assert_eq!((outcome.exit, &outcome.data["dbt_runs"][0]["status"]), (0, &"CANCELLED".into()), "{outcome:?}");
        }
    }
    let ctx = Harness::new();
    let run = started(&ctx, "222222").await;
    fault(&ctx, "dbt:runs/cancel=status=403,times=forever");
    let outcome = cancelled(&ctx, &[&run]).await;
    assert_eq!(outcome.code, Some(Code::NotAllowed), "{outcome:?}");
    assert!(outcome.failure.contains(&format!("\"dbtrigger cancel {run}\"")), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn cancelling_a_databricks_run_cancels_the_dbt_run_behind_it_and_no_other() {
    let ctx = Harness::new();
    let (run, dbt_run) = workflow_with_dbt_run(&ctx).await;
    let other = started(&ctx, "300005").await;
    let _ = ctx.take_log();
    let outcome = cancelled(&ctx, &["--workflow-run", &run]).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    assert_eq!(outcome.data["workflow_run"]["cancelled"], true, "{outcome:?}");
    let dbt_runs = outcome.data["dbt_runs"].as_array().unwrap();
    assert_eq!((dbt_runs.len(), id(&dbt_runs[0]["run_id"])), (1, dbt_run), "{outcome:?}");
    assert_eq!(dbt_runs[0]["cancelled"], true, "{outcome:?}");
    assert_eq!(ctx.take_writes(), ["databricks:jobs/runs/cancel", "dbt:runs/cancel"]);
    assert_eq!(watched(&ctx, &[&other]).await.exit, 0);
    // The second time nothing is written.
    let outcome = cancelled(&ctx, &["--workflow-run", &run]).await;
    assert_eq!((outcome.exit, &outcome.data["workflow_run"]["already_ended"]), (0, &true.into()), "{outcome:?}");
    assert_eq!(ctx.take_writes(), Vec::<&str>::new());
    assert_eq!(cancelled(&ctx, &["--workflow-run", "99"]).await.code, Some(Code::NotFound));
}

#[tokio::test(start_paused = true)]
async fn a_dbt_run_that_the_notebook_has_cancelled_first_is_in_the_report_and_no_other() {
    for (rule, reported) in [(None, true), (Some("dbt:runs/list=status=403,nth=3,times=forever"), false)] {
        let ctx = Harness::new();
        let (run, dbt_run) = workflow_with_dbt_run(&ctx).await;
        let other = started(&ctx, "300005").await;
        for each in [&dbt_run, &other] {
            assert_eq!(cancelled(&ctx, &[each]).await.exit, 0);
        }
        let _ = ctx.take_log();
        if let Some(rule) = rule {
            fault(&ctx, rule);
        }
        let outcome = cancelled(&ctx, &["--workflow-run", &run]).await;
        assert_eq!((outcome.exit, &outcome.data["workflow_run"]["cancelled"]), (0, &true.into()), "{outcome:?}");
        let dbt_runs = outcome.data["dbt_runs"].as_array().unwrap();
        if reported {
            assert_eq!((dbt_runs.len(), id(&dbt_runs[0]["run_id"])), (1, dbt_run), "{outcome:?}");
            assert_eq!(dbt_runs[0]["already_ended"], true, "{outcome:?}");
            assert!(outcome.text.contains("had already ended: CANCELLED"), "{}", outcome.text);
        } else {
            assert_eq!(dbt_runs.len(), 0, "{outcome:?}");
            assert!(
                outcome.said().contains("cannot look up which dbt runs its notebooks canceled"),
                "{}",
                outcome.said()
            );
        }
        assert_eq!(ctx.take_writes(), ["databricks:jobs/runs/cancel"]);
    }
}

#[tokio::test(start_paused = true)]
async fn without_access_to_dbt_the_databricks_run_is_cancelled_and_the_rest_is_said() {
    let ctx = Harness::new();
    let (run, _) = workflow_with_dbt_run(&ctx).await;
    ctx.set("DBT_CLOUD_TOKEN", "");
    for also_missing in [None, Some("DBT_CLOUD_ACCOUNT_ID")] {
        if let Some(name) = also_missing {
            ctx.set(name, "");
        }
        let command_ctx = ctx.ctx(AccountFlags::default(), Events::new(|_| ()));
        let why = connect_dbt(&[], InputErrors::default(), &command_ctx).err().unwrap();
        let outcome = cancelled(&ctx, &["--workflow-run", &run]).await;
        assert_eq!((outcome.exit, &outcome.data["dbt_runs"]), (0, &serde_json::Value::Null), "{outcome:?}");
        let events = outcome.run_events();
        let said = events.iter().find_map(|event| {
            let RunEvent::ChildRunsUnknown { error, command: _ } = event else { return None };
            Some(error.split("; ").collect::<Vec<_>>())
        });
        let said = said.unwrap_or_default();
        assert_eq!(said.first().copied(), Some(why.what.as_str()), "{}", outcome.said());
        assert!(said.iter().all(|part| !part.trim().is_empty() && part.trim() == *part), "{said:?}");
        assert!(why.causes.iter().all(|cause| said.join("; ").contains(cause)), "{said:?}");
    }
    let ctx = Harness::new();
    let (run, _) = workflow_with_dbt_run(&ctx).await;
    fault(&ctx, "dbt:runs/list=status=403,times=forever");
    let outcome = cancelled(&ctx, &["--workflow-run", &run]).await;
    assert_eq!(outcome.code, Some(Code::NotAllowed), "{outcome:?}");
    assert_eq!(outcome.data["workflow_run"]["cancelled"], true, "{outcome:?}");
    let ctx = Harness::new();
    let (run, _) = workflow_with_dbt_run(&ctx).await;
    fault(&ctx, "databricks:jobs/runs/cancel=status=403,times=forever");
    let outcome = cancelled(&ctx, &["--workflow-run", &run]).await;
    assert_eq!(outcome.code, Some(Code::NotAllowed), "{outcome:?}");
    assert!(outcome.failure.contains(&format!("\"dbtrigger cancel --workflow-run {run}\"")), "{outcome:?}");
}

async fn jobs_listed(ctx: &Harness, line: &[&str]) -> Outcome {
    ctx.run(jobs::run, line).await.expect("nobody kills it")
}

async fn runs_listed(ctx: &Harness, line: &[&str]) -> Outcome {
    ctx.run(runs::run, line).await.expect("nobody kills it")
}

fn names(outcome: &Outcome) -> Vec<&str> {
    outcome.data["jobs"].as_array().unwrap().iter().map(|job| job["name"].as_str().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn jobs_lists_every_page_with_project_environment_and_last_run() {
    let ctx = Harness::new();
    let outcome = jobs_listed(&ctx, &[]).await;
    assert_eq!((outcome.exit, names(&outcome).len()), (0, 125), "{}", outcome.text);
    let first = &outcome.data["jobs"][0];
    assert_eq!(
        (&first["job_id"], &first["project"], &first["environment"], &first["last_run"]["status"]),
        (&"222222".into(), &"Jaffle Shop".into(), &"Production".into(), &"SUCCESS".into())
    );
    let line = outcome.text.lines().find(|line| line.starts_with("222222 ")).unwrap();
    for part in ["Nightly build", "Jaffle Shop", "Production", "SUCCESS 2025-10-0"] {
        assert!(line.contains(part), "{line}");
    }
    assert!(outcome.text.contains("Given up") && outcome.text.contains("(deactivated)"), "{}", outcome.text);
    assert_eq!(ctx.take_writes(), Vec::<&str>::new());
    for project in ["Finance", "4102"] {
        assert_eq!(names(&jobs_listed(&ctx, &["--project", project]).await).len(), 40, "{project}");
    }
    let line = ["--project", "Finance", "--environment", "41021"];
    assert_eq!(names(&jobs_listed(&ctx, &line).await).len(), 40);
    assert_eq!(names(&jobs_listed(&ctx, &["--environment", "Production"]).await).len(), 125);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_is_not_there_is_refused_with_those_that_are() {
    let ctx = Harness::new();
    let outcome = jobs_listed(&ctx, &["--project", "finance"]).await;
    assert_eq!(outcome.code, Some(Code::NotFound), "{outcome:?}");
    assert!(outcome.failure.contains("Jaffle Shop") && outcome.failure.contains("4102"), "{outcome:?}");
    let outcome = jobs_listed(&ctx, &["--environment", "Staging"]).await;
    assert_eq!(outcome.code, Some(Code::NotFound), "{outcome:?}");
    assert!(outcome.failure.contains("Production"), "{outcome:?}");
    for (line, says) in [
        (["--project", "Finanse"], "did you mean \\\"Finance\\\"?"),
        (["--environment", "production"], "did you mean \\\"Production\\\"?"),
    ] {
        let outcome = jobs_listed(&ctx, &line).await;
        assert!(outcome.code == Some(Code::NotFound) && outcome.failure.contains(says), "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_mistyped_workflow_is_not_started_and_the_nearest_is_named() {
    let ctx = Harness::new();
    for (command, line) in [(0, &[][..]), (1, &[]), (2, &["--job", "222222"])] {
        let outcome = match command {
            0 => ctx.run(init_secrets::run, line).await,
            1 => ctx.run(deploy_notebook::run, line).await,
            _ => ctx.run(create_workflow::run, line).await,
        };
        assert_eq!(outcome.unwrap().exit, 0);
    }
    ctx.take_log();
    for typed in ["dbt: Nightly biuld (222222)", "DBT: nightly build (222222)", "Nightly build"] {
        let outcome = start(&ctx, &["--workflow", typed]).await;
        assert_eq!(outcome.code, Some(Code::NotFound), "{outcome:?}");
        assert!(outcome.failure.contains("did you mean \\\"dbt: Nightly build (222222)\\\" ("), "{outcome:?}");
    }
    let outcome = start(&ctx, &["--workflow", "something else entirely"]).await;
    assert!(outcome.code == Some(Code::NotFound) && !outcome.failure.contains("did you mean"), "{outcome:?}");
    // The suggestions are optional: the error is the same if the list cannot be read.
    fault(&ctx, "databricks:jobs/list=status=500,nth=2,times=forever");
    let outcome = start(&ctx, &["--workflow", "Nightly build"]).await;
    assert_eq!(outcome.code, Some(Code::NotFound), "{outcome:?}");
    assert_eq!(ctx.take_writes(), Vec::<&str>::new());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_may_not_list_projects_sees_jobs_all_the_same() {
    let ctx = Harness::new();
    fault(&ctx, "dbt:projects/list=status=403,times=forever");
    let outcome = jobs_listed(&ctx, &[]).await;
    assert_eq!((outcome.exit, names(&outcome).len()), (0, 125), "{outcome:?}");
    assert!(outcome.said().contains("this token cannot list projects; showing their IDs"), "{}", outcome.said());
    assert_eq!(jobs_listed(&ctx, &["--project", "4102"]).await.exit, 0);
    assert_eq!(jobs_listed(&ctx, &["--project", "Finance"]).await.code, Some(Code::NotAllowed));
    fault(&ctx, "dbt:jobs/list=status=403,times=forever");
    assert_eq!(jobs_listed(&ctx, &[]).await.code, Some(Code::NotAllowed));
}

#[tokio::test(start_paused = true)]
async fn a_job_is_run_by_its_name_and_the_commands_for_later_name_its_id() {
    let ctx = Harness::new();
    let outcome = start(&ctx, &["Nightly build"]).await;
    assert_eq!((outcome.exit, &outcome.data["job_id"]), (0, &"222222".into()), "{outcome:?}");
    let outcome = start(&ctx, &["Plain job 003", "--project", "Finance", "--environment", "Production"]).await;
    assert_eq!((outcome.exit, &outcome.data["job_id"]), (0, &"300003".into()), "{outcome:?}");
    let outcome = start(&ctx, &["Broken models"]).await;
    assert!(outcome.failure.contains("\"dbtrigger run 222223\""), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_no_job_has_or_several_have_starts_nothing() {
    let ctx = Harness::new();
    for (line, code, says) in [
        (&["nightly build"][..], Code::NotFound, "did you mean \\\"Nightly build\\\" (222222)"),
        (&["Nighly build"], Code::NotFound, "did you mean \\\"Nightly build\\\" (222222)"),
        (&["Plain job 003", "--project", "Jaffle Shop"], Code::NotFound, "did you mean \\\"Plain job "),
        (&["no such thing at all"], Code::NotFound, "dbtrigger jobs"),
        (&["222222", "--project", "Finance"], Code::Usage, "apply to a job given by name"),
        (&["  "], Code::InvalidInput, "empty"),
    ] {
        let outcome = start(&ctx, line).await;
        assert_eq!(outcome.code, Some(code), "{line:?} {outcome:?}");
        assert!(outcome.failure.contains(says), "{line:?} {outcome:?}");
    }
    assert_eq!(ctx.take_writes(), Vec::<&str>::new());
    ctx.world(|world| world.rename_dbt_job(300_003, "Nightly build"));
    let outcome = start(&ctx, &["Nightly build"]).await;
    assert_eq!(outcome.code, Some(Code::InvalidInput), "{outcome:?}");
    for says in ["222222 is in project Jaffle Shop", "300003 is in project Finance", "--project"] {
        assert!(outcome.failure.contains(says), "{outcome:?}");
    }
    assert_eq!(ctx.take_writes(), Vec::<&str>::new());
    assert_eq!(start(&ctx, &["Nightly build", "--project", "Finance"]).await.data["job_id"], "300003");
}

#[tokio::test(start_paused = true)]
async fn runs_lists_the_newest_first_of_the_account_or_of_a_job() {
    let ctx = Harness::new();
    for job in ["222222", "222223"] {
        let _ = start(&ctx, &[job]).await;
    }
    let _ = ctx.take_log();
    let ids = |outcome: &Outcome| -> Vec<u64> {
        outcome.data["runs"].as_array().unwrap().iter().map(|run| number(&run["run_id"])).collect()
    };
    let all = runs_listed(&ctx, &[]).await;
    assert_eq!(all.exit, 0, "{all:?}");
    assert!(ids(&all).len() == 8 && ids(&all).is_sorted_by(|one, next| one > next), "{}", all.text);
    assert!(all.text.lines().nth(1).unwrap().contains("Broken models (222223)"), "{}", all.text);
    for job in ["222222", "Nightly build"] {
        assert_eq!(ids(&runs_listed(&ctx, &["--job", job]).await).len(), 6, "{job}");
    }
    let failed = runs_listed(&ctx, &["--status", "error", "--limit", "1"]).await;
    assert_eq!((ids(&failed).len(), &failed.data["runs"][0]["job_id"]), (1, &"222223".into()), "{}", failed.text);
    assert_eq!(ctx.take_writes(), Vec::<&str>::new());
    let none = runs_listed(&ctx, &["--job", "300001"]).await;
    assert!(none.exit == 0 && none.said().contains("no runs yet"), "{none:?}");
    assert_eq!(runs_listed(&ctx, &["--job", "Nighly build"]).await.code, Some(Code::NotFound));
    fault(&ctx, "dbt:runs/list=status=401,times=forever");
    assert_eq!(runs_listed(&ctx, &[]).await.code, Some(Code::NotAuthenticated));
}

#[tokio::test(start_paused = true)]
async fn a_workflow_gets_its_parameters_and_a_key_does_not_take_others() {
    let ctx = Harness::new();
    let _ = workflow_with_dbt_run(&ctx).await;
    let named = ["--workflow", "dbt: Long queue (222225)", "--no-wait", "--idempotency-key", "k"];
    let with = |parameters: &[&'static str]| -> Vec<&str> {
        named.iter().copied().chain(parameters.iter().flat_map(|parameter| ["--param", *parameter])).collect()
    };
    let first = start(&ctx, &with(&["job_id=222222", "note=a=b"])).await;
    assert_eq!(first.exit, 0, "{first:?}");
    let sent = ctx.take_log().into_iter().find(|seen| seen.operation == "databricks:jobs/run-now").unwrap();
    assert!(sent.body.contains(r#""job_parameters":{"job_id":"222222","note":"a=b"}"#), "{}", sent.body);
    // The same key and parameters give the same run; other parameters are refused.
    let again = start(&ctx, &with(&["note=a=b", "job_id=222222"])).await;
    assert_eq!((again.exit, &again.data["workflow_run_id"]), (0, &first.data["workflow_run_id"]), "{again:?}");
    for other in [&["job_id=222223", "note=a=b"][..], &[]] {
        let outcome = start(&ctx, &with(other)).await;
        assert_eq!(outcome.code, Some(Code::Refused), "{other:?} {outcome:?}");
        assert!(outcome.failure.contains("job_id: requested"), "{outcome:?}");
    }
    let _ = ctx.take_log();
    for wrong in ["note", "=x", " note=x"] {
        let outcome = start(&ctx, &with(&[wrong])).await;
        assert_eq!(outcome.code, Some(Code::InvalidInput), "{wrong}: {outcome:?}");
    }
    assert_eq!(start(&ctx, &with(&["a=1", "a=2"])).await.code, Some(Code::InvalidInput));
    assert_eq!(ctx.take_log(), []);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_no_attempt_can_have_made_is_not_unknown() {
    let mut held = 0;
    let cases = [
        ("status=429,times=forever", Code::RateLimited),
        ("retry-after=300,times=forever", Code::RateLimited),
        ("refused,times=forever", Code::Network),
        ("no-name,times=forever", Code::Network),
        ("status=403,times=forever", Code::NotAllowed),
        ("status=503,times=forever", Code::OutcomeUnknown),
        ("reset,phase=after,times=forever", Code::OutcomeUnknown),
        ("hang,times=forever", Code::OutcomeUnknown),
    ];
    for (rule, code) in cases {
        for timeout in ["10s", "24h"] {
            let ctx = Harness::new();
            let _ = workflow_with_dbt_run(&ctx).await;
            ctx.take_log();
            fault(&ctx, &format!("databricks:jobs/run-now={rule}"));
            let line = ["--workflow", "dbt: Long queue (222225)", "--no-wait", "--timeout", timeout];
            let outcome = start(&ctx, &line).await;
            // At the deadline the failure may be the timeout, but nothing was started.
            let late = timeout == "10s" && code != Code::OutcomeUnknown && outcome.code == Some(Code::StillRunning);
            assert!(late || outcome.code == Some(code), "{rule} {timeout}: {outcome:?}");
            assert!(outcome.took < std::time::Duration::from_secs(125), "{rule} {timeout}: {:?}", outcome.took);
            held += 1;
        }
    }
    // A lost response may mean a started run, whatever later attempts return.
    let ctx = Harness::new();
    let _ = workflow_with_dbt_run(&ctx).await;
    fault(&ctx, "databricks:jobs/run-now=reset,phase=after,nth=1");
    fault(&ctx, "databricks:jobs/run-now=status=403,nth=2,times=forever");
    let outcome = start(&ctx, &["--workflow", "dbt: Long queue (222225)", "--no-wait"]).await;
    assert_eq!(outcome.code, Some(Code::OutcomeUnknown), "{outcome:?}");
    assert_eq!(held, cases.len() * 2);
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_of_another_form_is_not_asked_for_again_and_numbers_may_be_text() {
    // A truncated response is retried; a complete but invalid one is not.
    for (body, request) in [(r#"{"data": 7}"#, 1), (r#"{"status": {}}"#, 1), (r#"{"data": [{"id": "#, 9), ("", 9)] {
        let ctx = Harness::new();
        ctx.answer_with("dbt:runs/list", 200, body);
        let outcome = runs_listed(&ctx, &[]).await;
        assert_eq!(outcome.code, Some(Code::UnexpectedResponse), "{body}: {outcome:?}");
        let count = ctx.take_log().iter().filter(|seen| seen.operation == "dbt:runs/list").count();
        assert!(if request == 1 { count == 1 } else { count >= request }, "{body}: asked {count} times");
    }
    let ctx = Harness::new();
    let row = r#"{"id": "70471805314449", "status": "10", "job_definition_id": 222222.0}"#;
    ctx.answer_with(
        "dbt:runs/list",
        200,
        &format!(r#"{{"data": [{row}], "extra": {{"pagination": {{"total_count": "1"}}}}}}"#),
    );
    let outcome = runs_listed(&ctx, &[]).await;
    assert_eq!((outcome.exit, outcome.data["runs"].as_array().map(Vec::len)), (0, Some(1)), "{outcome:?}");
}
