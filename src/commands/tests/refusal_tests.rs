//! What each command reports for each kind of refusal: error code, exit code and remedy.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::commands::tests::harness::{Harness, Outcome, id};
use crate::commands::{
    auth, cancel, create_workflow, deploy_notebook, doctor, init_secrets, jobs, remove, run, runs, setup, watch,
    workflows,
};
use crate::failure::{Code, Remedy};
use crate::http::Service;
use crate::keyring::double::{Double, Mood};
use crate::sim::say;

/// Workspace ID of the sandbox.
const WORKSPACE: &str = "7405609032100112";

/// Refusals as observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    WrongToken,
    WrongTokenForbidden,
    ExpiredToken,
    MissingRight,
    Address,
    NoAcls,
    Unpaid,
    OtherAccount,
    WrongHost,
    LoginPage,
}

use Refusal::{
    Address, ExpiredToken, LoginPage, MissingRight, NoAcls, OtherAccount, Unpaid, WrongHost, WrongToken,
    WrongTokenForbidden,
};

/// Refusal, status and body; expected error code and remedy.
type Row = (Refusal, u16, &'static str, Code, Remedy);

const DATABRICKS: &[Row] = &[
    (
        WrongToken,
        401,
        r#"{"error_code":"UNAUTHENTICATED","message":"Credential was not sent or was of an unsupported type"}"#,
        Code::NotAuthenticated,
        Remedy::DatabricksToken,
    ),
    (
        WrongTokenForbidden,
        403,
        r#"{"error_code":403,"message":"Invalid access token."}"#,
        Code::NotAuthenticated,
        Remedy::DatabricksToken,
    ),
    (
        ExpiredToken,
        403,
        r#"{"error_code":"PERMISSION_DENIED","message":"Token is expiring within 30 seconds. (token expired)"}"#,
        Code::NotAuthenticated,
        Remedy::DatabricksToken,
    ),
    (
        MissingRight,
        403,
        r#"{"error_code":"PERMISSION_DENIED","message":"ana@example.com does not have permission to do this"}"#,
        Code::NotAllowed,
        Remedy::DatabricksRight,
    ),
    (
        Address,
        403,
        r#"{"error_code":"PERMISSION_DENIED","message":"Source IP address: 1.2.3.4 is blocked by Databricks IP ACL for workspace: 7"}"#,
        Code::NotAllowed,
        Remedy::DatabricksAddress,
    ),
    (
        NoAcls,
        403,
        r#"{"error_code":"PERMISSION_DENIED","message":"ACL is not supported in your workspace."}"#,
        Code::NotAllowed,
        Remedy::DatabricksPlan,
    ),
    (WrongHost, 404, "<html><title>404 Not Found</title></html>", Code::UnexpectedResponse, Remedy::DatabricksHost),
    (LoginPage, 200, "<html><title>Sign in</title></html>", Code::UnexpectedResponse, Remedy::DatabricksHost),
];

const DBT: &[Row] = &[
    (
        WrongToken,
        401,
        r#"{"status":{"code":401,"user_message":"Invalid token."},"data":null}"#,
        Code::NotAuthenticated,
        Remedy::DbtToken,
    ),
    (
        WrongTokenForbidden,
        403,
        r#"{"status":{"code":403,"user_message":"Invalid token."},"data":null}"#,
        Code::NotAuthenticated,
        Remedy::DbtToken,
    ),
    (
        ExpiredToken,
        401,
        r#"{"status":{"code":401,"user_message":"Token has expired"},"data":null}"#,
        Code::NotAuthenticated,
        Remedy::DbtToken,
    ),
    (
        MissingRight,
        403,
        r#"{"status":{"code":403,"user_message":"Access denied"},"data":null}"#,
        Code::NotAllowed,
        Remedy::DbtRight,
    ),
    (
        Address,
        403,
        r#"{"status":{"code":403,"user_message":"Forbidden: Access denied"},"data":{"account_access_denied":true}}"#,
        Code::NotAllowed,
        Remedy::DbtAddress,
    ),
    (
        Unpaid,
        401,
        r#"{"status":{"code":401,"user_message":"The API is not accessible to unpaid accounts."},"data":null}"#,
        Code::NotAllowed,
        Remedy::DbtPlan,
    ),
    (
        OtherAccount,
        403,
        r#"{"status":{"code":403,"user_message":"Access denied: Token is not scoped to account."},"data":null}"#,
        Code::NotAllowed,
        Remedy::DbtAccount,
    ),
    (WrongHost, 404, "<html><title>404 Not Found</title></html>", Code::UnexpectedResponse, Remedy::DbtHost),
    (LoginPage, 200, "<html><title>Sign in</title></html>", Code::UnexpectedResponse, Remedy::DbtHost),
];

fn prefix(service: Service) -> &'static str {
    match service {
        Service::Databricks => "databricks:",
        Service::Dbt => "dbt:",
    }
}

/// Whether the operation is refused in this way.
fn strikes(service: Service, refusal: Refusal, operation: &str) -> bool {
    operation.starts_with(prefix(service))
        && match refusal {
            // Everyone may look up their own identity.
            MissingRight => operation != "databricks:scim/me",
            NoAcls => {
                operation.starts_with("databricks:secrets/acls") || operation.starts_with("databricks:permissions")
            }
            WrongToken | WrongTokenForbidden | ExpiredToken | Address | Unpaid | OtherAccount | WrongHost
            | LoginPage => true,
        }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    InitSecrets,
    DeployNotebook,
    CreateWorkflow,
    Setup,
    Run,
    Runs,
    Jobs,
    Workflows,
    Watch,
    Cancel,
    Doctor,
    Remove,
    Auth,
}

impl Command {
    async fn on(self, world: &Harness, line: &[&str]) -> Outcome {
        let outcome = match self {
            Command::InitSecrets => world.run(init_secrets::run, line).await,
            Command::DeployNotebook => world.run(deploy_notebook::run, line).await,
            Command::CreateWorkflow => Box::pin(world.run(create_workflow::run, line)).await,
            Command::Setup => Box::pin(world.run(setup::run, line)).await,
            Command::Run => world.run(run::run, line).await,
            Command::Runs => world.run(runs::run, line).await,
            Command::Jobs => world.run(jobs::run, line).await,
            Command::Workflows => world.run(workflows::run, line).await,
            Command::Watch => world.run(watch::run, line).await,
            Command::Cancel => world.run(cancel::run, line).await,
            Command::Doctor => world.run(doctor::run, line).await,
            Command::Remove => Box::pin(world.run(remove::run, line)).await,
            Command::Auth => world.run(auth::run, line).await,
        };
        outcome.expect("nobody kills it")
    }
}

/// Whether the command has `--timeout`.
fn has_timeout(command: Command) -> bool {
    match command {
        Command::Run | Command::Watch | Command::Cancel => true,
        Command::InitSecrets
        | Command::DeployNotebook
        | Command::CreateWorkflow
        | Command::Setup
        | Command::Runs
        | Command::Jobs
        | Command::Workflows
        | Command::Doctor
        | Command::Remove
        | Command::Auth => false,
    }
}

/// A sandbox with a workflow of ours and one of others, a workflow run that started a dbt run, and a queued dbt run.
struct Scene {
    world: Harness,
    age: Duration,
    others: String,
    waiting: String,
    workflow_run: String,
}

async fn scene() -> Scene {
    let world = Harness::new();
    assert_eq!(Command::InitSecrets.on(&world, &[]).await.exit, 0);
    assert_eq!(Command::DeployNotebook.on(&world, &[]).await.exit, 0);
    assert_eq!(Command::CreateWorkflow.on(&world, &["--job", "222225"]).await.exit, 0);
    let task =
        json!({ "task_key": "load", "notebook_task": { "notebook_path": "/Shared/load", "source": "WORKSPACE" } });
    let others = world.post("/api/2.2/jobs/create", &json!({ "name": "Daily load", "tasks": [task] }));
    let press = ["--workflow", "dbt: Long queue (222225)", "--no-wait"];
    let workflow_run = id(&Command::Run.on(&world, &press).await.data["workflow_run_id"]);
    let key = format!("{WORKSPACE}/{workflow_run}/dbt/0");
    let _ = Command::Run.on(&world, &["222225", "--no-wait", "--idempotency-key", &key]).await;
    let waiting = id(&Command::Run.on(&world, &["222225", "--no-wait"]).await.data["run_id"]);
    let _ = world.take_log();
    Scene { age: world.age(), world, others: others["job_id"].to_string(), waiting, workflow_run }
}

impl Scene {
    fn copy(&self) -> Harness {
        let copy = self.world.copy_of_age(self.age);
        copy.use_keyring(&Double::new(Mood::Good).keyring());
        copy
    }

    fn lines(&self) -> Vec<(Command, Vec<&str>)> {
        let Scene { world: _, age: _, others, waiting, workflow_run } = self;
        vec![
            (Command::InitSecrets, vec!["--key", "second"]),
            (Command::DeployNotebook, vec!["--notebook", "/Users/ana@example.com/other"]),
            (Command::CreateWorkflow, vec!["--job", "222222"]),
            (Command::CreateWorkflow, vec!["--job", "222225", "--run-now"]),
            (Command::CreateWorkflow, vec!["--job", "222225", "--check"]),
            (Command::CreateWorkflow, vec!["--add-to", others, "--job", "222222"]),
            (Command::Setup, vec!["--job", "222222", "-y"]),
            (Command::Run, vec!["222222", "--timeout", "10m"]),
            (Command::Run, vec!["Nightly build", "--timeout", "10m"]),
            (Command::Run, vec!["222222", "222223", "--timeout", "10m"]),
            (Command::Run, vec!["--workflow", "dbt: Long queue (222225)", "--timeout", "10m"]),
            (Command::Runs, vec![]),
            (Command::Runs, vec!["--workflow", "dbt: Long queue (222225)"]),
            (Command::Runs, vec!["--orphans"]),
            (Command::Jobs, vec![]),
            (Command::Workflows, vec![]),
            (Command::Watch, vec![waiting, "--timeout", "10m"]),
            (Command::Watch, vec!["--workflow-run", workflow_run, "--timeout", "10m"]),
            (Command::Cancel, vec![waiting]),
            (Command::Cancel, vec!["--workflow-run", workflow_run]),
            (Command::Doctor, vec![]),
            (Command::Remove, vec!["--all", "--with-secret", "--cancel-runs", "-y"]),
            (Command::Remove, vec!["--workflow", "dbt: Long queue (222225)", "--cancel-runs", "-y"]),
            (Command::Remove, vec!["--job", "222225", "--cancel-runs", "-y"]),
            (Command::Auth, vec!["status"]),
            (Command::Auth, vec!["login"]),
            (Command::Auth, vec!["login", "--databricks"]),
        ]
    }
}

/// The remedies that the command advises.
fn advised(outcome: &Outcome) -> Vec<Remedy> {
    let text = format!("{} {}", outcome.failure, outcome.data);
    Remedy::ALL.into_iter().filter(|remedy| text.contains(&remedy.to_string())).collect()
}

/// Exceptions: the error code, if it fails, and whether it advises a remedy.
fn instead(command: Command, line: &[&str], service: Service, refusal: Refusal) -> Option<(Option<Code>, bool)> {
    match (command, service, refusal) {
        // `doctor` reads no access lists in such a workspace.
        (Command::Doctor, _, NoAcls) => Some((None, false)),
        (Command::Doctor, _, _) => Some((Some(Code::Failed), true)),
        // If the readers of a scope are unknown, it is kept, as are grants to others.
        (Command::Remove, _, NoAcls) => Some((None, false)),
        (Command::InitSecrets, _, NoAcls) => Some((Some(Code::Refused), false)),
        // The key already exists; the check that follows times out.
        (Command::Setup, _, NoAcls) => Some((Some(Code::StillRunning), false)),
        // With `--add-to`, dbt is optional, so only errors about the job count.
        (Command::CreateWorkflow, Service::Dbt, refusal)
            if line.contains(&"--add-to") && !matches!(refusal, MissingRight | OtherAccount) =>
        {
            Some((None, false))
        }
        // One unreadable run does not hide the others.
        (Command::Runs, Service::Databricks, MissingRight) if line.contains(&"--orphans") => Some((None, false)),
        // A proxy's login page may be temporary.
        (Command::Watch, _, LoginPage) => Some((Some(Code::StillRunning), false)),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
#[ignore = "takes long; .ci/run runs it"]
async fn each_command_says_what_a_refusal_means_and_what_helps() {
    let (mut good, mut total, mut wrong) = (0, 0, Vec::new());
    let scene = scene().await;
    for (command, line) in scene.lines() {
        let healthy = scene.copy();
        let _ = command.on(&healthy, &line).await;
        let log = healthy.take_log();
        for (service, rows) in [(Service::Databricks, DATABRICKS), (Service::Dbt, DBT)] {
            for &(refusal, status, body, code, remedy) in rows {
                if !log.iter().any(|seen| strikes(service, refusal, seen.operation)) {
                    continue;
                }
                let world = scene.copy();
                world.answer_from(0, move |of| strikes(service, refusal, of), status, body);
                let outcome = command.on(&world, &line).await;
                let (code, advises) = instead(command, &line, service, refusal).unwrap_or((Some(code), true));
                let expected = (code, code.map_or(0, Code::exit), Vec::from_iter(advises.then_some(remedy)));
                let found = (outcome.code, outcome.exit, advised(&outcome));
                assert!(has_timeout(command) || !outcome.failure.contains("--timeout"), "{command:?} {outcome:?}");
                total += 1;
                good += usize::from(found == expected);
                if found != expected {
                    wrong.push(format!(
                        "{command:?} {line:?} {service:?} {refusal:?}: {found:?}, not {expected:?}: {}",
                        outcome.failure
                    ));
                }
            }
        }
    }
    say(&format!("refusals: {good} of {total}"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_while_a_run_is_followed_means_the_same() {
    let (mut good, mut total, mut wrong) = (0, 0, Vec::new());
    let scene = scene().await;
    let follows = |(command, _): &(Command, Vec<&str>)| matches!(command, Command::Run | Command::Watch);
    for (command, line) in scene.lines().into_iter().filter(follows) {
        let healthy = scene.copy();
        let _ = command.on(&healthy, &line).await;
        let log = healthy.take_log();
        for (service, rows) in [(Service::Databricks, DATABRICKS), (Service::Dbt, DBT)] {
            for &(refusal, status, body, code, remedy) in rows {
                let middle = log.len() / 2;
                if refusal == NoAcls || !log[middle..].iter().any(|seen| strikes(service, refusal, seen.operation)) {
                    continue;
                }
                let world = scene.copy();
                world.answer_from(middle, move |of| strikes(service, refusal, of), status, body);
                let outcome = command.on(&world, &line).await;
                // A proxy's login page may be temporary.
                let expected =
                    if refusal == LoginPage { (Code::StillRunning, Vec::new()) } else { (code, vec![remedy]) };
                let found = (outcome.code.unwrap_or(Code::Bug), advised(&outcome));
                total += 1;
                good += usize::from(found == expected);
                if found != expected {
                    wrong.push(format!("{command:?} {line:?} {service:?} {refusal:?}: {found:?}, not {expected:?}"));
                }
            }
        }
    }
    say(&format!("refusals while a run is followed: {good} of {total}"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Command, arguments, and the request that is rate-limited.
const LIMITED: &[(Command, &[&str], &str)] = &[
    (Command::CreateWorkflow, &["--job", "222225", "--run-now"], "databricks:jobs/run-now"),
    (Command::CreateWorkflow, &["--job", "222225", "--check"], "databricks:jobs/runs/submit"),
    (Command::Setup, &["--job", "222222", "-y"], "databricks:jobs/runs/submit"),
    (Command::Run, &["--workflow", "dbt: Long queue (222225)"], "databricks:jobs/list"),
    (Command::Run, &["--workflow", "dbt: Long queue (222225)"], "databricks:jobs/run-now"),
    (Command::Run, &["222222"], "dbt:runs/list"),
    (Command::Run, &["222222"], "dbt:jobs/run"),
    (Command::Run, &["222222", "--idempotency-key", "k"], "dbt:runs/list"),
    (Command::Run, &["Nightly build"], "dbt:projects/list"),
    (Command::Run, &["Nightly build"], "dbt:jobs/list"),
    (Command::Run, &["222222", "222223", "222224"], "dbt:jobs/get"),
];

/// The number of runs in both services.
fn count_runs(world: &Harness) -> usize {
    let all = world.world(|world| world.inspect());
    ["job_runs", "dbt_runs"].iter().map(|of| all[of].as_array().map_or(0, Vec::len)).sum()
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_lasts_ends_with_try_later_and_nothing_is_started() {
    let (mut good, mut total, mut wrong) = (0, 0, Vec::new());
    let scene = scene().await;
    for (command, line, limited) in LIMITED {
        for body in [r#"{"detail":"Request was throttled."}"#, ""] {
            let world = scene.copy();
            let before = count_runs(&world);
            world.answer_from(0, move |of| of == *limited, 429, body);
            let outcome = command.on(&world, line).await;
            let started = count_runs(&world) - before;
            let advises_time = outcome.failure.contains("--timeout");
            let found = (outcome.code, outcome.exit, started, advises_time);
            total += 1;
            good += usize::from(found == (Some(Code::RateLimited), 75, 0, false));
            if found != (Some(Code::RateLimited), 75, 0, false) {
                wrong.push(format!("{command:?} {line:?} {limited}: {found:?} after {:?}", outcome.took));
            }
        }
    }
    say(&format!("limits that last: {good} of {total}"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn what_stands_before_a_start_of_dbt_waits_through_its_cool_down_within_the_time() {
    let (mut good, mut total, mut wrong) = (0, 0, Vec::new());
    let cool_down = Duration::from_mins(5);
    let scene = scene().await;
    for (command, line, limited) in LIMITED.iter().filter(|(_, _, limited)| limited.starts_with("dbt:")) {
        for timeout in ["24h", "3m"] {
            let world = scene.copy();
            let before = count_runs(&world);
            let begun = Instant::now();
            world.answer_from(0, move |of| of == *limited && begun.elapsed() < cool_down, 429, "");
            let line: Vec<&str> = line.iter().copied().chain(["--timeout", timeout]).collect();
            let outcome = command.on(&world, &line).await;
            let started = count_runs(&world) - before;
            let jobs = line.iter().take_while(|word| !word.starts_with("--")).count();
            let right = match timeout {
                // One of the jobs fails by design, another is canceled.
                "24h" => [0, 3].contains(&outcome.exit) && started == jobs && outcome.took >= cool_down,
                _ => outcome.code == Some(Code::StillRunning) && started == 0 && outcome.took <= Duration::from_mins(3),
            };
            total += 1;
            good += usize::from(right);
            if !right {
                wrong.push(format!("{line:?} {limited}: {:?} after {:?}, {started} runs", outcome.code, outcome.took));
            }
        }
    }
    say(&format!("cool-downs before a start: {good} of {total}"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
