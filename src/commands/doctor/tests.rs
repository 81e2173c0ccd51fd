//! `doctor`, end to end against the in-memory sandbox: each check fails once.

use serde_json::{Value, json};

use crate::commands::tests::harness::{ANA, DBT_TOKEN, Harness, Outcome, id};
use crate::commands::{create_workflow, deploy_notebook, init_secrets, run as run_command};
use crate::failure::Code;
use crate::sandbox::{FaultRule, NotebookOutcome};

const BO: &str = "bo@example.com";
const NOTEBOOK: &str = "setup.notebook:/Users/ana@example.com/dbtrigger/run_dbt_job_51234";
const KEY: &str = "setup.key:dbt-cloud/api-key";

/// Arguments for `doctor`, and how the workflow is edited before.
type Edit = (&'static [&'static str], fn(&mut Value));
/// Breaks something in the sandbox.
type Breaks<'a> = Box<dyn Fn(&Harness) + 'a>;

async fn doctor(ctx: &Harness, line: &[&str]) -> Outcome {
    ctx.take_log();
    let outcome = ctx.run(super::run, line).await.expect("nobody kills it");
    let writes = ctx.take_writes();
    assert!(writes.is_empty(), "it wrote: {writes:?}");
    outcome
}

/// A sandbox with secret, notebook and workflow.
async fn prepared() -> Harness {
    let ctx = Harness::new();
    assert_eq!(ctx.run(init_secrets::run, &[]).await.unwrap().exit, 0);
    assert_eq!(ctx.run(deploy_notebook::run, &[]).await.unwrap().exit, 0);
    assert_eq!(create(&ctx, &["--job", "222225"]).await.exit, 0);
    ctx
}

async fn create(ctx: &Harness, line: &[&str]) -> Outcome {
    let outcome = ctx.run(create_workflow::run, line).await.unwrap();
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    outcome
}

/// ID and settings of the last workflow.
fn workflow(ctx: &Harness) -> (u64, Value) {
    let jobs = ctx.world(|world| world.inspect())["jobs"].as_array().unwrap().clone();
    let job = jobs.last().unwrap().clone();
    (job["job_id"].as_u64().unwrap(), job["settings"].clone())
}

fn reset(ctx: &Harness, edit: impl FnOnce(&mut Value)) {
    let (job_id, mut settings) = workflow(ctx);
    edit(&mut settings);
    ctx.post("/api/2.2/jobs/reset", &json!({ "job_id": job_id, "new_settings": settings }));
}

fn checks(outcome: &Outcome) -> Vec<Value> {
    outcome.data["checks"].as_array().unwrap().clone()
}

/// The check whose ID starts like this.
#[track_caller]
fn check(outcome: &Outcome, id: &str) -> Value {
    let all = checks(outcome);
    let found = all.iter().find(|check| check["id"].as_str().unwrap().starts_with(id));
    found.unwrap_or_else(|| panic!("{id} is not in {all:#?}")).clone()
}

/// Asserts that exactly this check fails, with this message and next step.
#[track_caller]
fn only_fails(outcome: &Outcome, id: &str, says: &str, next: &str) {
    let failed: Vec<Value> = checks(outcome).into_iter().filter(|check| check["status"] == "failed").collect();
    assert_eq!(failed.len(), 1, "{failed:#?}");
    let only = failed[0].to_string().replace("\\\"", "\"");
    assert!(failed[0]["id"].as_str().unwrap().starts_with(id), "{only}");
    assert!(only.contains(says) && failed[0]["next"].to_string().replace("\\\"", "\"").contains(next), "{only}");
    assert_eq!((outcome.exit, outcome.code), (1, Some(Code::Failed)), "{outcome:?}");
    assert!(!outcome.failure.contains(id), "people read words, not IDs: {}", outcome.failure);
}

#[track_caller]
fn warns(outcome: &Outcome, id: &str, says: &str, next: &str) {
    let found = check(outcome, id);
    let text = found.to_string().replace("\\\"", "\"");
    assert!(found["status"] == "warning" && text.contains(says), "{text}");
    assert!(found["next"].to_string().replace("\\\"", "\"").contains(next), "{text}");
    assert_eq!((outcome.exit, outcome.code), (0, None), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_whole_setup_is_well_and_shown_in_three_parts() {
    let ctx = prepared().await;
    let outcome = doctor(&ctx, &[]).await;
    assert_eq!((outcome.exit, outcome.code), (0, None), "{outcome:?}");
    let counts = &outcome.data["counts"];
    assert_eq!((&counts["failed"], &counts["warning"]), (&json!(0), &json!(0)), "{:#?}", outcome.data);
    let (id, _) = workflow(&ctx);
    for known in [
        "dbt.credentials".to_owned(),
        "dbt.connection".to_owned(),
        "dbt.clock".to_owned(),
        "dbt.identity".to_owned(),
        "databricks.identity".to_owned(),
        NOTEBOOK.to_owned(),
        KEY.to_owned(),
        format!("setup.workflow:{id}"),
        format!("setup.schedule:{id}"),
        format!("setup.rights:{id}"),
        "setup.job:222225".to_owned(),
    ] {
        let status = check(&outcome, &known)["status"].clone();
        assert!(status == "ok" || known == "dbt.clock", "{known}: {status}");
    }
    let place = |word: &str| outcome.text.find(word).unwrap_or_else(|| panic!("{word} in {}", outcome.text));
    assert!(place("dbt\n  ✓ ") < place("Databricks\n  ✓ ") && place("Databricks\n") < place("Setup\n"));
    let lines = checks(&outcome).len();
    let all: u64 = counts.as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(all, lines as u64);
}

#[tokio::test(start_paused = true)]
async fn values_that_are_missing_break_a_link_each_and_the_rest_is_skipped() {
    let ctx = prepared().await;
    ctx.set("DBT_CLOUD_TOKEN", "");
    let outcome = doctor(&ctx, &[]).await;
    only_fails(&outcome, "dbt.credentials", "not signed in to dbt", "set DBT_CLOUD_TOKEN");
    assert_eq!(check(&outcome, "dbt.connection")["status"], "ok", "the host is probed without a token");
    for id in ["dbt.identity", "setup.job:222225"] {
        let skipped = check(&outcome, id);
        assert_eq!(
            (&skipped["status"], &skipped["reason"]),
            (&json!("skipped"), &json!("the check of dbt credentials failed"))
        );
    }
    assert_eq!(check(&outcome, "setup.workflow:")["status"], "ok");
    ctx.set("DATABRICKS_TOKEN", "");
    ctx.set("DBT_CLOUD_HOST", "");
    let outcome = doctor(&ctx, &[]).await;
    assert!(outcome.exit == 1 && outcome.failure.contains("2 checks failed"), "{}", outcome.failure);
    assert!(check(&outcome, "databricks.credentials")["reason"].to_string().contains("tried pat"));
    let reached = check(&outcome, "databricks.connection");
    assert_eq!(reached["status"], "ok", "the host is probed without a credential");
    for id in ["dbt.connection", "databricks.identity", "setup.notebook", "setup.key", "setup.workflow", "setup.job"] {
        assert_eq!(check(&outcome, id)["status"], "skipped", "{id}");
    }
    ctx.set("DATABRICKS_HOST", "");
    let outcome = doctor(&ctx, &[]).await;
    let skipped = check(&outcome, "databricks.connection");
    assert_eq!(skipped["reason"], "the check of Databricks credentials failed", "{skipped}");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_refused_breaks_the_identity_and_what_needs_it_is_skipped() {
    let ctx = prepared().await;
    ctx.set("DBT_CLOUD_TOKEN", "dbtc_another-0123456789");
    let outcome = doctor(&ctx, &[]).await;
    only_fails(&outcome, "dbt.identity", "rejects the token", "DBT_CLOUD_HOST");
    assert_eq!(check(&outcome, "setup.job:222225")["reason"], "the check of dbt identity failed");
    let ctx = prepared().await;
    ctx.set("DATABRICKS_TOKEN", "dapi-another-0123456789");
    let outcome = doctor(&ctx, &["--job", "222225"]).await;
    only_fails(&outcome, "databricks.identity", "DATABRICKS_TOKEN", "DATABRICKS_TOKEN");
    assert_eq!(check(&outcome, "setup.workflow")["reason"], "the check of Databricks identity failed");
    assert_eq!(check(&outcome, "setup.job:222225")["status"], "ok", "dbt can be asked all the same");
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_account_breaks_the_identity_with_the_accounts_that_it_sees() {
    let ctx = prepared().await;
    ctx.set("DBT_CLOUD_ACCOUNT_ID", "7");
    let outcome = doctor(&ctx, &[]).await;
    let found = check(&outcome, "dbt.identity");
    assert!(found["reason"].to_string().contains("51234") && outcome.exit == 1, "{found}");
    assert!(found["next"].to_string().contains("DBT_CLOUD_ACCOUNT_ID"), "{found}");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_no_dbt_breaks_the_identity() {
    let ctx = prepared().await;
    let rule = FaultRule::parse("dbt:accounts/list=status=404,times=forever").unwrap();
    ctx.world(|world| world.add_fault(rule));
    only_fails(&doctor(&ctx, &[]).await, "dbt.identity", "does not respond like dbt", "DBT_CLOUD_HOST");
}

#[tokio::test(start_paused = true)]
async fn an_empty_workspace_says_what_to_make_in_the_guides_order() {
    let ctx = Harness::new();
    let outcome = doctor(&ctx, &[]).await;
    assert_eq!(outcome.exit, 1);
    for (id, next) in [
        ("setup.notebook", "dbtrigger deploy-notebook"),
        ("setup.key:dbt-cloud/api-key", "dbtrigger init-secrets --scope dbt-cloud --key api-key"),
        ("setup.workflow", "dbtrigger create-workflow"),
    ] {
        let found = check(&outcome, id);
        assert_eq!((&found["status"], &found["next"][0]["command"]), (&json!("failed"), &json!(next)), "{found}");
    }
    assert!(outcome.failure.contains("\"dbtrigger setup\"") && !outcome.failure.contains("init-secrets"));
    assert!(outcome.text.contains("  ✗ no workflow created by dbtrigger") && !outcome.text.contains("next:"));
}

#[tokio::test(start_paused = true)]
async fn a_notebook_that_is_gone_or_not_ours_breaks_its_link_and_the_key_is_skipped() {
    let ctx = prepared().await;
    let path = NOTEBOOK.strip_prefix("setup.notebook:").unwrap();
    ctx.post("/api/2.0/workspace/delete", &json!({ "path": path }));
    let outcome = doctor(&ctx, &[]).await;
    only_fails(&outcome, NOTEBOOK, "no notebook at", "\"dbtrigger deploy-notebook\"");
    for id in ["setup.key:", "setup.rights:"] {
        assert_eq!(
            check(&outcome, id)["reason"],
            format!("the check of {} failed", NOTEBOOK["setup.".len()..].replace(':', " "))
        );
    }
    import(&ctx, "print('theirs')");
    only_fails(
        &doctor(&ctx, &[]).await,
        NOTEBOOK,
        "was not created by dbtrigger, so its dbt account and key",
        "--adopt",
    );
}

/// Overwrites the notebook as another client.
fn import(ctx: &Harness, text: &str) {
    use base64::Engine as _;
    let content = base64::engine::general_purpose::STANDARD.encode(format!("# Databricks notebook source\n{text}\n"));
    let path = NOTEBOOK.strip_prefix("setup.notebook:").unwrap();
    let body = json!({ "path": path, "format": "SOURCE", "language": "PYTHON", "overwrite": true, "content": content });
    ctx.post("/api/2.0/workspace/import", &body);
}

/// The notebook source that `deploy-notebook --print` prints, without its first line.
async fn printed(ctx: &Harness) -> String {
    let text = ctx.run(deploy_notebook::run, &["--print"]).await.unwrap().text;
    text.split_once('\n').unwrap().1.to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_notebook_that_was_edited_breaks_its_link_with_what_was_changed() {
    let ctx = prepared().await;
    let text = printed(&ctx).await;
    import(&ctx, &format!("{text}\nprint('mine')"));
    let outcome = doctor(&ctx, &[]).await;
    only_fails(&outcome, NOTEBOOK, "edited by hand", "\"dbtrigger deploy-notebook --force\"");
    assert!(outcome.text.contains("\n      -print('mine')"), "{}", outcome.text);
    let shown = check(&outcome, NOTEBOOK)["next"][0]["command"].clone();
    assert_eq!(shown, "dbtrigger deploy-notebook --force --dry-run");
    let many = (0..40).fold(String::new(), |many, line| many + &format!("\nprint({line})"));
    import(&ctx, &format!("{text}{many}"));
    let reason = check(&doctor(&ctx, &[]).await, NOTEBOOK)["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("more lines)") && !reason.contains("print(39)"), "{reason}");
    let unreadable: String = text
        .lines()
        .map(|line| if line.starts_with("SETTINGS = ") { "SETTINGS = {}\n".to_owned() } else { format!("{line}\n") })
        .collect();
    import(&ctx, &unreadable);
    only_fails(&doctor(&ctx, &[]).await, NOTEBOOK, "cannot read the settings of notebook", "--force");
}

#[tokio::test(start_paused = true)]
async fn a_notebook_that_may_not_start_the_job_breaks_its_link() {
    let ctx = prepared().await;
    assert_eq!(ctx.run(deploy_notebook::run, &["--allow-job", "1"]).await.unwrap().exit, 0);
    only_fails(&doctor(&ctx, &[]).await, NOTEBOOK, "not 222225", "--allow-job 1 --allow-job 222225");
}

#[tokio::test(start_paused = true)]
async fn a_notebook_of_another_account_is_a_warning_and_its_jobs_are_skipped() {
    let ctx = prepared().await;
    ctx.set("DBT_CLOUD_HOST", "http://127.0.0.1:2");
    let outcome = doctor(&ctx, &[]).await;
    warns(
        &outcome,
        NOTEBOOK,
        "the account 51234 at http://127.0.0.1:1",
        "--dbt-host http://127.0.0.1:1 --dbt-account 51234",
    );
    assert_eq!(check(&outcome, "setup.job:222225")["status"], "skipped");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_missing_breaks_its_link_and_one_that_everybody_reads_is_a_warning() {
    let ctx = prepared().await;
    let everybody = json!({ "scope": "dbt-cloud", "principal": "users", "permission": "READ" });
    ctx.post("/api/2.0/secrets/acls/put", &everybody);
    warns(&doctor(&ctx, &[]).await, KEY, "every user of this workspace can read", "remove the group");
    ctx.post("/api/2.0/secrets/delete", &json!({ "scope": "dbt-cloud", "key": "api-key" }));
    let outcome = doctor(&ctx, &[]).await;
    only_fails(&outcome, KEY, "has no key api-key", "dbtrigger init-secrets --scope dbt-cloud --key api-key");
    assert_eq!(check(&outcome, "setup.rights:")["status"], "skipped");
    ctx.post("/api/2.0/secrets/scopes/delete", &json!({ "scope": "dbt-cloud" }));
    only_fails(&doctor(&ctx, &[]).await, KEY, "no secret scope dbt-cloud", "dbtrigger init-secrets");
}

#[tokio::test(start_paused = true)]
async fn whoever_the_runs_act_as_has_to_read_key_and_notebook() {
    let ctx = prepared().await;
    let (job_id, _) = workflow(&ctx);
    let bo = json!({ "run_as": { "user_name": BO } });
    ctx.post("/api/2.2/jobs/update", &json!({ "job_id": job_id, "new_settings": bo }));
    let outcome = doctor(&ctx, &[]).await;
    only_fails(
        &outcome,
        "setup.rights:",
        BO,
        &format!("dbtrigger init-secrets --scope dbt-cloud --key api-key --grant {BO}:READ"),
    );
    assert!(
        check(&outcome, "setup.rights:")["next"][1].to_string().contains("deploy-notebook --notebook"),
        "{outcome:?}"
    );
    create(&ctx, &["--job", "222225", "--grant-run-as"]).await;
    let outcome = doctor(&ctx, &[]).await;
    assert_eq!((outcome.exit, &check(&outcome, "setup.rights:")["status"]), (0, &json!("ok")), "{outcome:?}");
    ctx.world(|world| {
        world.add_fault(FaultRule::parse("databricks:permissions/get=status=403,times=forever").unwrap());
    });
    warns(&doctor(&ctx, &[]).await, "setup.rights:", "cannot tell whether", "");
}

#[tokio::test(start_paused = true)]
async fn what_was_edited_in_a_workflow_breaks_its_link_and_a_paused_schedule_is_a_warning() {
    let ctx = prepared().await;
    create(&ctx, &["--job", "222225", "--schedule", "0 0 6 * * ?"]).await;
    let outcome = doctor(&ctx, &[]).await;
    assert!(check(&outcome, "setup.schedule:")["what"].to_string().contains("0 0 6 * * ? in UTC"), "{outcome:?}");
    reset(&ctx, |settings| {
        settings["schedule"]["pause_status"] = "PAUSED".into();
        settings["tasks"][0]["disable_auto_optimization"] = false.into();
    });
    let outcome = doctor(&ctx, &[]).await;
    assert_eq!(check(&outcome, "setup.schedule:")["status"], "warning");
    assert!(check(&outcome, "setup.schedule:")["next"].to_string().contains("--unpaused"));
    let mend = "dbtrigger create-workflow --job 222225 --force";
    only_fails(&outcome, "setup.workflow:", "was edited by hand", mend);
    assert_eq!(check(&outcome, "setup.workflow:")["reason"], "task.disable_auto_optimization: true -> false");
    create(&ctx, &["--job", "222225", "--force"]).await;
    let outcome = doctor(&ctx, &[]).await;
    warns(&outcome, "setup.schedule:", "is paused", "--unpaused");
    // Settings that operators may change are not edits.
    reset(&ctx, |settings| {
        settings["email_notifications"] = json!({ "on_failure": ["bo@example.com"] });
        settings["tasks"][0]["max_retries"] = 2.into();
    });
    let outcome = doctor(&ctx, &[]).await;
    assert_eq!((outcome.exit, &check(&outcome, "setup.workflow:")["status"]), (0, &json!("ok")), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_workflow_that_was_made_to_start_another_dbt_job_is_found_by_either_and_named_with_both() {
    let ctx = prepared().await;
    let (id, _) = workflow(&ctx);
    // The dbt job is known from the task key, from the name, or from `--job`.
    let edits: [Edit; 3] = [
        (&[], |settings| settings["parameters"][0]["default"] = "999".into()),
        (&[], |settings| settings["tasks"][0]["task_key"] = "load".into()),
        (&["--job", "222225"], |settings| settings["name"] = "Mine".into()),
    ];
    for (line, edit) in edits {
        reset(&ctx, edit);
        let outcome = doctor(&ctx, line).await;
        let (link, mend) = (format!("setup.workflow:{id}"), "\"dbtrigger create-workflow --job 222225 --force\"");
        only_fails(&outcome, &link, "parameters.job_id: 222225 -> 999", mend);
        for job in ["222225", "999"] {
            assert!(check(&doctor(&ctx, &["--job", job]).await, &link).is_object(), "{job}");
        }
    }
    // Nothing identifies the original job any more.
    let outcome = doctor(&ctx, &[]).await;
    let found = check(&outcome, &format!("setup.workflow:{id}"));
    assert!(
        found["status"] == "failed"
            && found["next"].to_string().contains("run create-workflow with --force and its original --job and"),
        "{found}"
    );
}

#[tokio::test(start_paused = true)]
async fn two_workflows_of_one_mark_and_one_that_names_no_job_are_broken_links() {
    let ctx = prepared().await;
    let (_, settings) = workflow(&ctx);
    let copy = ctx.post("/api/2.2/jobs/create", &settings)["job_id"].clone();
    only_fails(
        &doctor(&ctx, &[]).await,
        "setup.workflow:",
        "2 jobs have this workflow's tag",
        "remove what is not needed with",
    );
    ctx.post("/api/2.2/jobs/delete", &json!({ "job_id": copy }));
    reset(&ctx, |settings| settings["parameters"][0]["default"] = "{{job.id}}".into());
    // The task key identifies the original job.
    only_fails(&doctor(&ctx, &[]).await, "setup.workflow:", "222225 -> {{job.id}}", "--job 222225 --force");
    reset(&ctx, |settings| settings["tasks"][0]["task_key"] = "load".into());
    only_fails(&doctor(&ctx, &[]).await, "setup.workflow:", "names no dbt job", "--force");
}

#[tokio::test(start_paused = true)]
async fn overrides_that_the_notebook_does_not_take_any_more_break_their_link() {
    let ctx = prepared().await;
    assert_eq!(ctx.run(deploy_notebook::run, &["--allow-override", "git_branch"]).await.unwrap().exit, 0);
    create(&ctx, &["--job", "222225", "--override", "git_branch=main"]).await;
    let outcome = doctor(&ctx, &[]).await;
    assert_eq!((outcome.exit, &check(&outcome, "setup.overrides:")["status"]), (0, &json!("ok")), "{outcome:?}");
    assert_eq!(ctx.run(deploy_notebook::run, &["--allow-override", "none"]).await.unwrap().exit, 0);
    only_fails(
        &doctor(&ctx, &[]).await,
        "setup.overrides:",
        "does not allow override git_branch",
        "--allow-override git_branch",
    );
}

#[tokio::test(start_paused = true)]
async fn the_last_run_of_a_workflow_is_a_link_with_its_cause_and_what_to_do() {
    let failed = |message: &str| NotebookOutcome::Failed { error: message.to_owned(), trace: String::new() };
    let ctx = prepared().await;
    let (id, _) = workflow(&ctx);
    let link = format!("setup.last-run:{id}");
    let none = check(&doctor(&ctx, &[]).await, &link);
    assert_eq!(none["status"], "skipped", "what is not known is not ticked: {none}");
    let (mut good, mut total, mut wrong) = (0, 0, Vec::new());
    for (reason, says, next) in [
        (
            "key-refused",
            "dbt rejects the key in dbt-cloud/api-key",
            "init-secrets --scope dbt-cloud --key api-key --rotate",
        ),
        ("key-malformed", "is not a dbt API key", "--rotate"),
        ("key-not-allowed", "is not allowed to read the dbt job", "Job Runner"),
        ("address-refused", "IP restrictions", "addresses"),
        ("job-not-visible", "cannot see the dbt job", "dbtrigger jobs"),
        ("job-off", "would not start", "dbtrigger jobs"),
        ("egress", "cannot reach dbt", "port 443"),
        ("tls", "TLS handshake", "REQUESTS_CA_BUNDLE"),
        ("secret", "cannot use the secret", "--grant"),
        ("error", "Failed: model orders (error): x", "dbtrigger watch --workflow-run"),
        ("cancelled", "the dbt run was canceled", "dbtrigger watch --workflow-run"),
        ("unknown", "The words of it.", "dbtrigger watch --workflow-run"),
        ("fancy-new", "The words of it.", "dbtrigger watch --workflow-run"),
    ] {
        let ctx = ctx.copy();
        ctx.post("/api/2.2/jobs/run-now", &json!({ "job_id": id }));
        let message =
            format!("NotTriggered: The words of it.\nFailed: model orders (error): x\ndbtrigger-reason: {reason}");
        ctx.finish_notebook(failed(&message)).await;
        tokio::time::sleep(std::time::Duration::from_mins(1)).await;
        let outcome = doctor(&ctx, &[]).await;
        let found = check(&outcome, &link);
        let (text, hints) = (found.to_string().replace("\\\"", "\""), found["next"].to_string());
        let right = found["status"] == "failed" && text.contains(says) && hints.contains(next) && outcome.exit == 1;
        total += 1;
        good += usize::from(right && !text.contains("dbtrigger-reason"));
        if !right {
            wrong.push(format!("{reason}: {text}"));
        }
    }
    crate::sim::say(&format!("causes of a failed last run, told by doctor: {good} of {total}"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    ctx.post("/api/2.2/jobs/run-now", &json!({ "job_id": id }));
    ctx.finish_notebook(NotebookOutcome::Finished).await;
    tokio::time::sleep(std::time::Duration::from_mins(1)).await;
    let outcome = doctor(&ctx, &[]).await;
    assert_eq!((outcome.exit, &check(&outcome, &link)["status"]), (0, &json!("ok")), "{outcome:?}");
    let rule = "databricks:jobs/runs/list=status=403,times=forever";
    ctx.world(|world| world.add_fault(FaultRule::parse(rule).unwrap()));
    let outcome = doctor(&ctx, &[]).await;
    assert_eq!(check(&outcome, &link)["status"], "warning", "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn each_dbt_job_is_looked_at_once_with_what_deserves_a_look() {
    let ctx = prepared().await;
    create(&ctx, &["--name", "Several", "--job", "222222", "--job", "222225", "--job", "300120"]).await;
    assert!(!doctor(&ctx, &[]).await.text.contains("it runs from both"), "nothing starts the workflow");
    create(
        &ctx,
        &["--name", "Several", "--job", "222222", "--job", "222225", "--job", "300120", "--schedule", "0 0 6 * * ?"],
    )
    .await;
    let outcome = doctor(&ctx, &[]).await;
    warns(&outcome, "setup.job:222222", "also has a schedule in dbt", "");
    warns(&outcome, "setup.job:300120", "a CI job", "");
    let jobs = checks(&outcome).iter().filter(|check| check["id"].as_str().unwrap().starts_with("setup.job:")).count();
    assert_eq!(jobs, 3);
    assert!(check(&outcome, "setup.job:222222")["what"].to_string().contains("its last run 123442"), "{outcome:?}");
    assert!(check(&outcome, "setup.job:222225")["what"].to_string().contains("no runs yet"), "{outcome:?}");
    // The command for a workflow with its own name.
    reset(&ctx, |settings| settings["tasks"][0]["disable_auto_optimization"] = false.into());
    let again = "dbtrigger create-workflow --name Several --job 222222 --job 222225 --job 300120 --force";
    let (id, _) = workflow(&ctx);
    only_fails(&doctor(&ctx, &[]).await, &format!("setup.workflow:{id}"), "was edited", again);
}

#[tokio::test(start_paused = true)]
async fn a_dbt_job_that_is_gone_or_deactivated_breaks_its_link_and_a_failed_run_is_a_warning() {
    let ctx = prepared().await;
    create(&ctx, &["--job", "300119"]).await;
    only_fails(
        &doctor(&ctx, &[]).await,
        "setup.job:300119",
        "dbt deactivated it after 100",
        "see the notice on the job's page in dbt; after failures,",
    );
    let ctx = prepared().await;
    // With `--name`, dbt is not needed.
    ctx.set("DBT_CLOUD_TOKEN", "");
    create(&ctx, &["--name", "Gone", "--job", "999"]).await;
    ctx.set("DBT_CLOUD_TOKEN", DBT_TOKEN);
    only_fails(
        &doctor(&ctx, &["--workflow", "Gone"]).await,
        "setup.job:999",
        "cannot read the dbt job 999",
        "dbtrigger jobs",
    );
    let ctx = prepared().await;
    let failed = ctx.run(run_command::run, &["222223"]).await.unwrap();
    assert_eq!(failed.exit, 3);
    create(&ctx, &["--job", "222223"]).await;
    let next = format!("dbtrigger watch {}", id(&failed.data["run_id"]));
    warns(&doctor(&ctx, &["--job", "Broken models"]).await, "setup.job:222223", "its last run failed", &next);
}

#[tokio::test(start_paused = true)]
async fn a_last_run_that_cannot_be_looked_at_is_a_warning_with_the_reason() {
    let ctx = prepared().await;
    ctx.world(|world| world.add_fault(FaultRule::parse("dbt:runs/list=status=403,times=forever").unwrap()));
    let outcome = doctor(&ctx, &[]).await;
    warns(&outcome, "setup.job:222225", "cannot read the last run of dbt job 222225", "--job 222225");
    let found = check(&outcome, "setup.job:222225");
    assert!(found["reason"].to_string().contains("403") && !found["what"].to_string().contains("403"), "{found}");
    assert!(found["next"].to_string().contains("permission set"), "{found}");
    assert_eq!(outcome.data["counts"]["warning"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_workflow_or_a_job_that_is_named_narrows_what_is_looked_at() {
    let ctx = prepared().await;
    create(&ctx, &["--job", "222226"]).await;
    let jobs = |outcome: &Outcome| -> Vec<String> {
        let ids = checks(outcome).into_iter().map(|check| check["id"].as_str().unwrap().to_owned());
        ids.filter_map(|id| id.strip_prefix("setup.job:").map(ToOwned::to_owned)).collect()
    };
    assert_eq!(jobs(&doctor(&ctx, &[]).await), ["222225", "222226"]);
    assert_eq!(jobs(&doctor(&ctx, &["--job", "222226"]).await), ["222226"]);
    assert_eq!(jobs(&doctor(&ctx, &["--workflow", "dbt: Long queue (222225)"]).await), ["222225"]);
    let outcome = doctor(&ctx, &["--job", "222223"]).await;
    only_fails(&outcome, "setup.workflow", "starts dbt job 222223", "create-workflow --job 222223");
    let outcome = doctor(&ctx, &["--workflow", "dbt: long queue (222225)"]).await;
    only_fails(&outcome, "setup.workflow", "no workflow is named", "did you mean");
    let outcome = doctor(&ctx, &["--job", "Nighly build"]).await;
    only_fails(&outcome, "setup.job", "no dbt job is named", "did you mean");
    assert_eq!(check(&outcome, "setup.workflow")["reason"], "the check of dbt job failed");
    ctx.set("DBT_CLOUD_TOKEN", "");
    let outcome = doctor(&ctx, &["--job", "Long queue"]).await;
    only_fails(&outcome, "dbt.credentials", "not signed in to dbt", "");
    assert_eq!(check(&outcome, "setup.workflow")["reason"], "the dbt job is not known");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_understood_is_refused_before_anything_is_asked() {
    let ctx = prepared().await;
    for (line, code) in [
        (&["--project", "Jaffle Shop"][..], Code::Usage),
        (&["--job", "222222", "--environment", "x"], Code::Usage),
        (&["--job", "0"], Code::InvalidInput),
        (&["--workflow", " "], Code::InvalidInput),
        (&["--workflow", "https://other.cloud.databricks.com/jobs/1"], Code::Contradiction),
    ] {
        ctx.take_log();
        let outcome = ctx.run(super::run, line).await.unwrap();
        assert_eq!((outcome.exit, outcome.code), (2, Some(code)), "{line:?}");
        assert_eq!(ctx.take_log(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_in_somebody_elses_workflow_is_compared_and_one_without_any_is_a_broken_link() {
    let ctx = prepared().await;
    let notebook = json!({ "notebook_path": "/Shared/theirs", "source": "WORKSPACE" });
    let body = json!({ "name": "Daily load", "tasks": [{ "task_key": "load", "notebook_task": notebook }] });
    let theirs = ctx.post("/api/2.2/jobs/create", &body)["job_id"].to_string();
    let outcome = doctor(&ctx, &["--workflow", "Daily load"]).await;
    only_fails(
        &outcome,
        "setup.workflow",
        "\" has no task that dbtrigger created",
        &format!("create-workflow --add-to {theirs}"),
    );
    create(&ctx, &["--add-to", "Daily load", "--job", "222225"]).await;
    let outcome = doctor(&ctx, &["--workflow", &theirs]).await;
    assert_eq!(
        (outcome.exit, &check(&outcome, &format!("setup.task:{theirs}/dbt_222225"))["status"]),
        (0, &json!("ok"))
    );
    reset(&ctx, |settings| settings["tasks"][1]["disable_auto_optimization"] = false.into());
    let again = format!("dbtrigger create-workflow --add-to {theirs} --job 222225 --task-key dbt_222225 --force");
    let outcome = doctor(&ctx, &["--workflow", &theirs]).await;
    only_fails(&outcome, "setup.task:", "disable_auto_optimization: true -> false", &again);
    reset(&ctx, |settings| {
        settings["tasks"][1]["notebook_task"]["base_parameters"]["job_id"] = "999".into();
        settings["tasks"][1]["notebook_task"]["notebook_path"] = "/Shared/theirs".into();
    });
    let outcome = doctor(&ctx, &["--workflow", &theirs]).await;
    only_fails(&outcome, "setup.task:", "job_id: 222225 -> 999", &again);
    only_fails(&outcome, "setup.task:", "run_dbt_job_51234 -> /Shared/theirs", &again);
}

#[tokio::test(start_paused = true)]
async fn next_commands_are_for_the_profile_that_is_named() {
    let ctx = Harness::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config");
    let token = crate::commands::tests::harness::DATABRICKS_TOKEN;
    std::fs::write(&file, format!("[my work]\nhost = http://127.0.0.1:1\ntoken = {token}\n")).unwrap();
    ctx.set("DATABRICKS_CONFIG_FILE", file.to_str().unwrap());
    ctx.choose_profile("my work");
    let outcome = doctor(&ctx, &[]).await;
    let next = &check(&outcome, "setup.notebook")["next"][0]["command"];
    assert_eq!(next, "dbtrigger -p 'my work' deploy-notebook");
    // The program adds `-p` to these at the end.
    assert!(outcome.failure.contains("\"dbtrigger setup\""), "{}", outcome.failure);
    assert!(check(&outcome, "databricks.identity")["what"].to_string().contains(ANA));
}

/// Splits a command as a shell does.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for sign in command.chars() {
        match sign {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            sign => word.push(sign),
        }
    }
    words.push(word);
    words
}

/// Runs the suggested command of each failed check until none fails. Returns the commands.
async fn mend(ctx: &Harness, line: &[&str]) -> Vec<String> {
    let mut typed = Vec::new();
    for _ in 0..2 {
        let outcome = doctor(ctx, line).await;
        let failed = checks(&outcome).into_iter().filter(|check| check["status"] == "failed");
        let hints: Vec<Value> = failed.flat_map(|check| check["next"].as_array().unwrap().clone()).collect();
        let named = hints.iter().filter_map(|hint| hint["command"].as_str()?.strip_prefix("dbtrigger "));
        for command in
            &named.filter(|command| *command != "jobs" && !command.ends_with("--dry-run")).collect::<Vec<_>>()
        {
            // At a terminal the job is asked for.
            let asks = *command == "create-workflow" || command.starts_with("create-workflow --add-to");
            let words = words(&if asks { format!("{command} --job 222225") } else { (*command).to_owned() });
            let flags: Vec<&str> = words[1..].iter().map(String::as_str).collect();
            let outcome = match words[0].as_str() {
                "init-secrets" => ctx.run(init_secrets::run, &flags).await,
                "deploy-notebook" => ctx.run(deploy_notebook::run, &flags).await,
                "create-workflow" => ctx.run(create_workflow::run, &flags).await,
                other => panic!("{other} mends nothing"),
            };
            let outcome = outcome.unwrap();
            assert_eq!(outcome.exit, 0, "{command}: {}", outcome.failure);
            typed.push((*command).to_owned());
        }
        let after = doctor(ctx, line).await;
        if after.exit == 0 {
            assert!(!typed.is_empty(), "nothing was broken");
            return typed;
        }
    }
    panic!("{typed:?} do not mend it: {}", doctor(ctx, line).await.text);
}

#[tokio::test(start_paused = true)]
async fn the_commands_that_broken_links_name_mend_them_as_they_stand_there() {
    // From an empty workspace, in order.
    let typed = mend(&Harness::new(), &[]).await;
    assert_eq!(typed, ["deploy-notebook", "init-secrets --scope dbt-cloud --key api-key", "create-workflow"]);
    let base = prepared().await;
    let path = NOTEBOOK.strip_prefix("setup.notebook:").unwrap();
    let text = printed(&base).await;
    let breaks: [(&str, Breaks<'_>); 10] = [
        (
            "no scope",
            Box::new(|ctx| {
                ctx.post("/api/2.0/secrets/scopes/delete", &json!({ "scope": "dbt-cloud" }));
            }),
        ),
        (
            "no key",
            Box::new(|ctx| {
                ctx.post("/api/2.0/secrets/delete", &json!({ "scope": "dbt-cloud", "key": "api-key" }));
            }),
        ),
        (
            "no notebook",
            Box::new(|ctx| {
                ctx.post("/api/2.0/workspace/delete", &json!({ "path": path }));
            }),
        ),
        ("somebody's notebook", Box::new(|ctx| import(ctx, "print('theirs')"))),
        ("an edited notebook", Box::new(|ctx| import(ctx, &format!("{text}\nprint('mine')")))),
        (
            "no rights",
            Box::new(|ctx| {
                let bo = json!({ "run_as": { "user_name": BO } });
                ctx.post("/api/2.2/jobs/update", &json!({ "job_id": workflow(ctx).0, "new_settings": bo }));
            }),
        ),
        (
            "no workflow",
            Box::new(|ctx| {
                ctx.post("/api/2.2/jobs/delete", &json!({ "job_id": workflow(ctx).0 }));
            }),
        ),
        (
            "an edited task",
            Box::new(|ctx| {
                reset(ctx, |settings| settings["tasks"][0]["disable_auto_optimization"] = false.into());
            }),
        ),
        (
            "another job",
            Box::new(|ctx| {
                reset(ctx, |settings| settings["parameters"][0]["default"] = "999".into());
            }),
        ),
        (
            "another notebook",
            Box::new(|ctx| {
                reset(ctx, |settings| settings["tasks"][0]["notebook_task"]["notebook_path"] = "/Shared/x".into());
            }),
        ),
    ];
    for (what, broken) in breaks {
        let ctx = base.copy();
        broken(&ctx);
        mend(&ctx, &[]).await;
        let (_, settings) = workflow(&ctx);
        assert_eq!(settings["parameters"][0]["default"], "222225", "{what}");
        let ctx = base.copy();
        broken(&ctx);
        mend(&ctx, &["--job", "222225"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_mends_a_setup_at_places_of_its_own_keeps_them() {
    let ctx = Harness::new();
    let at = "/Shared/dbt/run it";
    assert_eq!(ctx.run(init_secrets::run, &["--scope", "team", "--key", "dbt.key"]).await.unwrap().exit, 0);
    let deploy = ["--notebook", at, "--accept-shared-path", "--scope", "team", "--key", "dbt.key"];
    let rest = ["--allow-override", "git_branch", "--allow-job", "222225"];
    assert_eq!(ctx.run(deploy_notebook::run, &[&deploy[..], &rest].concat()).await.unwrap().exit, 0);
    create(&ctx, &["--job", "222225", "--notebook", at]).await;
    assert_eq!(doctor(&ctx, &[]).await.exit, 0);
    let content = ctx.world(|world| world.inspect())["workspace"][at]["content"].as_str().unwrap().to_owned();
    let edited = format!("{content}\nprint('mine')\n");
    let content = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, edited);
    let body = json!({ "path": at, "format": "SOURCE", "language": "PYTHON", "overwrite": true, "content": content });
    ctx.post("/api/2.0/workspace/import", &body);
    assert_eq!(
        mend(&ctx, &[]).await,
        [
            "deploy-notebook --notebook '/Shared/dbt/run it' --accept-shared-path --scope team --key dbt.key --allow-override git_branch --allow-job 222225 --force"
        ]
    );
    ctx.post("/api/2.0/secrets/delete", &json!({ "scope": "team", "key": "dbt.key" }));
    reset(&ctx, |settings| settings["parameters"][0]["default"] = "222226".into());
    assert_eq!(
        mend(&ctx, &[]).await,
        [
            "init-secrets --scope team --key dbt.key",
            "create-workflow --job 222225 --notebook '/Shared/dbt/run it' --force"
        ]
    );
    let other = ["--notebook", at, "--accept-shared-path", "--allow-job", "1"];
    assert_eq!(ctx.run(deploy_notebook::run, &other).await.unwrap().exit, 0);
    let bo = json!({ "run_as": { "user_name": BO } });
    ctx.post("/api/2.2/jobs/update", &json!({ "job_id": workflow(&ctx).0, "new_settings": bo }));
    assert_eq!(
        mend(&ctx, &[]).await,
        [
            "deploy-notebook --notebook '/Shared/dbt/run it' --accept-shared-path --allow-job 1 --allow-job 222225",
            "init-secrets --scope team --key dbt.key --grant bo@example.com:READ"
        ]
    );
    // The key that a deleted notebook read is unknown, which the advice mentions.
    ctx.post("/api/2.0/workspace/delete", &json!({ "path": at }));
    let next = check(&doctor(&ctx, &[]).await, "setup.notebook:")["next"].to_string();
    assert!(next.contains("add --scope and --key if it was not dbt-cloud/api-key"), "{next}");
}
