//! `init-secrets` and `deploy-notebook`, end to end against the in-memory sandbox.

use std::cell::RefCell;
use std::time::Duration;

use serde_json::{Value, json};

use crate::commands::tests::harness::{ACCOUNT, ANA, DATABRICKS_TOKEN, DBT_TOKEN, Harness, InjectedFault, Outcome};
use crate::commands::{CommandContext, InterruptReport, deploy_notebook, init_secrets, setup};
use crate::failure::{Code, Ended, Report};
use crate::sandbox::{FaultKind, FaultRule, Phase, SimTime};

const PATH: &str = "/Users/ana@example.com/dbtrigger/run_dbt_job_51234";
const SERVICE: &str = "0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d11";

async fn init(ctx: &Harness, line: &[&str]) -> Outcome {
    ctx.run(init_secrets::run, line).await.expect("nobody kills it")
}

async fn deploy(ctx: &Harness, line: &[&str]) -> Outcome {
    ctx.run(deploy_notebook::run, line).await.expect("nobody kills it")
}

fn refused(outcome: &Outcome, words: &[&str]) {
    assert_eq!((outcome.exit, outcome.code), (7, Some(Code::Refused)), "{outcome:?}");
    for word in words {
        assert!(outcome.failure.contains(word), "{word} in {}", outcome.failure);
    }
}

/// The sandbox's state without secret versions.
fn state(ctx: &Harness) -> Value {
    let mut found = ctx.world(|world| world.inspect());
    if let Some(scopes) = found["scopes"].as_object_mut() {
        for scope in scopes.values_mut() {
            for secret in scope["secrets"].as_object_mut().unwrap().values_mut() {
                secret["version"] = Value::Null;
            }
        }
    }
    found
}

fn steps(outcome: &Outcome) -> Vec<String> {
    let step = |step: &Value| format!("{} {}", step["action"].as_str().unwrap(), step["progress"].as_str().unwrap());
    outcome.data["steps"].as_array().unwrap().iter().map(step).collect()
}

/// One fault at each request, then the command again: the same end, and a third time writes nothing.
async fn survives(fresh: impl Fn() -> Harness, run: impl AsyncFn(&Harness) -> Option<Outcome>) {
    let clean = fresh();
    assert_eq!(run(&clean).await.unwrap().exit, 0);
    let (requests, goal) = (clean.take_log().len(), state(&clean));
    for index in 0..requests {
        for trouble in InjectedFault::REPEATABLE {
            let ctx = fresh();
            ctx.inject_fault(index, trouble);
            if let Some(outcome) = run(&ctx).await {
                assert_eq!(outcome.exit, 0, "{trouble:?} at {index}: {outcome:?}");
            }
            assert_eq!(run(&ctx).await.unwrap().exit, 0, "{trouble:?} at {index}");
            assert_eq!(state(&ctx), goal, "{trouble:?} at {index}");
            ctx.take_log();
            run(&ctx).await;
            assert_eq!(ctx.take_writes(), [""; 0], "{trouble:?} at {index}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn init_secrets_stores_the_key_and_gives_access_and_the_second_time_writes_nothing() {
    let ctx = Harness::new();
    ctx.set_latency(Duration::from_millis(50));
    let line = ["--grant", "data-engineers:READ"];
    let first = init(&ctx, &line).await;
    assert_eq!(first.exit, 0, "{first:?}");
    assert_eq!(steps(&first), ["create done", "create done", "create done"]);
    assert_eq!(
        (first.data["workspace"].as_str(), first.data["identity"].as_str()),
        (Some("http://127.0.0.1:1"), Some(ANA))
    );
    assert!(first.said().contains("Writing to http://127.0.0.1:1 as ana@example.com"), "{}", first.said());
    // Lookups and key check; create scope; read it back and observe the key; write key; observe grant; write grant;
    // final read of both.
    assert_eq!(first.took, Duration::from_millis(50) * 7);
    let writes = ["databricks:secrets/scopes/create", "databricks:secrets/put", "databricks:secrets/acls/put"];
    assert_eq!(ctx.take_writes(), writes);
    let scope = ctx.world(|world| world.inspect())["scopes"]["dbt-cloud"].clone();
    assert_eq!(scope["acls"], json!({ ANA: "MANAGE", "data-engineers": "READ" }));

    let second = init(&ctx, &line).await;
    assert_eq!((second.exit, steps(&second)), (0, vec!["keep done".to_owned(); 3]));
    assert!(second.text.contains("kept (replace it with --rotate)"), "{}", second.text);
    assert!(second.text.contains("init-secrets --rotate"), "{}", second.text);
    assert_eq!(second.took, Duration::from_millis(50));
    assert_eq!(ctx.take_writes(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_there_needs_no_key_and_a_missing_one_is_named_with_everything_else() {
    let ctx = Harness::new();
    ctx.set("DBT_CLOUD_TOKEN", "");
    ctx.set("DBT_CLOUD_HOST", "");
    let missing = init(&ctx, &[]).await;
    assert_eq!((missing.exit, missing.code), (2, Some(Code::MissingInput)));
    for word in ["DBT_CLOUD_TOKEN", "--token-stdin", "DBT_CLOUD_HOST"] {
        assert!(missing.failure.contains(word), "{}", missing.failure);
    }
    assert_eq!(ctx.take_writes(), [""; 0]);

    ctx.set("DATABRICKS_TOKEN", "");
    let all = init(&ctx, &[]).await;
    assert!(all.failure.contains("not signed in to Databricks or dbt") && ctx.take_log().is_empty(), "{}", all.failure);

    let ctx = Harness::new();
    assert_eq!(init(&ctx, &[]).await.exit, 0);
    ctx.set("DBT_CLOUD_TOKEN", "");
    ctx.set("DBT_CLOUD_HOST", "");
    assert_eq!(init(&ctx, &[]).await.exit, 0);
}

#[tokio::test(start_paused = true)]
async fn rotate_writes_only_another_key_and_writes_blindly_where_values_cannot_be_read() {
    let ctx = Harness::new();
    init(&ctx, &[]).await;
    ctx.take_log();
    let same = init(&ctx, &["--rotate"]).await;
    assert!(same.text.contains("unchanged"), "{}", same.text);
    assert_eq!(ctx.take_writes(), [""; 0]);

    ctx.world(|world| world.set_secret_reading(false));
    let blind = init(&ctx, &["--rotate"]).await;
    assert!(blind.exit == 0 && blind.text.contains("is not readable"), "{blind:?}");
    assert_eq!(ctx.take_writes(), ["databricks:secrets/put"]);

    ctx.world(|world| world.set_secret_reading(true));
    ctx.set("DBT_CLOUD_TOKEN", "dbtc_another-0123456789");
    let other = init(&ctx, &["--rotate", "--no-validate"]).await;
    assert!(other.exit == 0 && other.text.contains("value (--rotate; a different key is stored)"), "{other:?}");
    assert_eq!(ctx.take_writes(), ["databricks:secrets/put"]);

    ctx.set("DBT_CLOUD_TOKEN", "");
    assert_eq!(init(&ctx, &["--rotate"]).await.code, Some(Code::MissingInput));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_key_is_found_out_before_anything_is_written() {
    for (rule, code, word) in [
        ("dbt:accounts/list=status=401,times=forever", Code::NotAuthenticated, "cannot use the dbt API key"),
        ("dbt:accounts/list=status=403,times=forever", Code::NotAllowed, "cannot see any dbt account with the key"),
        ("dbt:accounts/list=status=404,times=forever", Code::UnexpectedResponse, "does not respond like dbt"),
        ("dbt:accounts/list=login,times=forever", Code::UnexpectedResponse, "web page"),
    ] {
        let ctx = Harness::new();
        ctx.world(|world| world.add_fault(FaultRule::parse(rule).unwrap()));
        let outcome = init(&ctx, &[]).await;
        assert_eq!(outcome.code, Some(code), "{rule}: {}", outcome.failure);
        assert!(
            outcome.failure.contains(word) && outcome.failure.to_lowercase().contains("nothing was written"),
            "{}",
            outcome.failure
        );
        assert_eq!(ctx.take_writes(), [""; 0]);
    }
    let ctx = Harness::new();
    ctx.set("DBT_CLOUD_ACCOUNT_ID", "7");
    let outcome = init(&ctx, &[]).await;
    assert_eq!(outcome.code, Some(Code::NotFound));
    assert!(outcome.failure.contains("not for account 7") && outcome.failure.contains("51234"), "{}", outcome.failure);
    assert_eq!(ctx.take_writes(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_key_from_a_file_loses_its_line_end_and_a_missing_file_is_named() {
    let ctx = Harness::new();
    ctx.set("DBT_CLOUD_TOKEN", "");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{DBT_TOKEN}\n")).unwrap();
    let file = file.to_str().unwrap();
    let outcome = init(&ctx, &["--token-file", file, "--scope", "team", "--key", "dbt"]).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    assert!(outcome.text.contains("next: dbtrigger deploy-notebook --scope team --key dbt"), "{}", outcome.text);
    let same = init(&ctx, &["--token-file", file, "--scope", "team", "--key", "dbt", "--rotate"]).await;
    assert!(same.text.contains("unchanged"), "{}", same.text);
    ctx.take_log();
    let missing = init(&ctx, &["--token-file", "/nowhere/token"]).await;
    assert_eq!((missing.exit, missing.code), (2, Some(Code::InvalidInput)));
    assert!(missing.failure.contains("/nowhere/token") && ctx.take_log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_personal_key_is_stored_with_a_warning() {
    let ctx = Harness::new();
    ctx.set("DBT_CLOUD_TOKEN", "dbtu_personal-0123456789");
    ctx.world(|world| world.set_dbt_token("dbtu_personal-0123456789"));
    let outcome = init(&ctx, &[]).await;
    assert!(outcome.exit == 0 && outcome.said().contains("personal token"), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_of_init_secrets_tries_the_key_and_writes_nothing() {
    let ctx = Harness::new();
    let before = state(&ctx);
    let outcome = init(&ctx, &["--dry-run", "--grant", "data-engineers"]).await;
    assert_eq!((outcome.exit, outcome.data["dry_run"].as_bool()), (0, Some(true)));
    assert!(outcome.text.contains("+ secret scope dbt-cloud\n"), "{}", outcome.text);
    assert!(ctx.take_log().iter().any(|seen| seen.operation == "dbt:accounts/list"));
    assert_eq!(state(&ctx), before);
    assert!(!outcome.said().contains("Writing to"));
}

#[tokio::test(start_paused = true)]
async fn without_the_premium_plan_nothing_is_opened_silently() {
    let ctx = Harness::new();
    ctx.world(|world| world.set_premium(false));
    let outcome = init(&ctx, &[]).await;
    refused(
        &outcome,
        &["was not created: without the Premium plan, every user of", "Premium", "--accept-shared-scope"],
    );
    assert!(!ctx.take_log().iter().any(|seen| seen.body.contains("initial_manage_principal")));
}

#[tokio::test(start_paused = true)]
async fn without_the_premium_plan_an_accepted_scope_is_made_open_and_grants_are_skipped_with_a_remark() {
    let ctx = Harness::new();
    ctx.world(|world| world.set_premium(false));
    let line = ["--accept-shared-scope", "--grant", "data-engineers"];
    let made = init(&ctx, &line).await;
    assert_eq!(made.exit, 0, "{made:?}");
    assert!(made.said().contains("every user of this workspace can read secret scope dbt-cloud"), "{}", made.said());
    assert!(made.said().contains("READ on dbt-cloud for data-engineers: skipped"), "{}", made.said());
    assert_eq!(steps(&made), ["create done", "create done", "keep done"]);
    let scope = ctx.world(|world| world.inspect())["scopes"]["dbt-cloud"].clone();
    assert_eq!(scope["acls"], json!({ "users": "MANAGE" }));
    let mut sent = ctx.take_log();
    sent.retain(|seen| seen.operation == "databricks:secrets/scopes/create");
    assert!(!sent[0].body.contains("initial_manage_principal"), "the closed one is tried first");
    assert_eq!(sent.len(), 2);

    let again = init(&ctx, &line).await;
    assert_eq!((again.exit, steps(&again)), (0, vec!["keep done".to_owned(); 3]), "{again:?}");
    assert!(again.said().contains("skipped: every user already has MANAGE on the scope"), "{}", again.said());
    assert_eq!(ctx.take_writes(), [""; 0]);
    // Without the flag, the existing key is kept and another one is not added.
    let kept = init(&ctx, &["--grant", "data-engineers"]).await;
    assert!(kept.exit == 0 && kept.said().contains("every user of this workspace can read"), "{kept:?}");
    refused(&init(&ctx, &["--key", "other"]).await, &["(users: MANAGE)", "--accept-shared-scope"]);
    assert_eq!(ctx.take_writes(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn without_the_premium_plan_an_accepted_scope_survives_every_trouble_at_every_request() {
    let line = ["--accept-shared-scope", "--grant", "data-engineers"];
    let fresh = || {
        let ctx = Harness::new();
        ctx.world(|world| world.set_premium(false));
        ctx
    };
    survives(fresh, async |ctx| ctx.run(init_secrets::run, &line).await).await;
}

#[tokio::test(start_paused = true)]
async fn acl_endpoints_that_answer_501_are_a_workspace_without_acls() {
    let ctx = Harness::new();
    assert_eq!(init(&ctx, &["--key", "first"]).await.exit, 0);
    ctx.world(|world| world.add_fault(FaultRule::parse("databricks:secrets/acls/*=status=501,times=forever").unwrap()));
    ctx.take_log();
    let refusal = init(&ctx, &["--grant", "data-engineers"]).await;
    refused(&refusal, &["--accept-shared-scope"]);
    assert!(refusal.said().contains("no Premium plan"), "{}", refusal.said());
    assert_eq!(ctx.take_writes(), [""; 0]);
    let accepted = init(&ctx, &["--grant", "data-engineers", "--accept-shared-scope"]).await;
    assert_eq!(accepted.exit, 0, "{accepted:?}");
    assert!(accepted.said().contains("skipped: no access control"), "{}", accepted.said());
    assert_eq!(ctx.take_writes(), ["databricks:secrets/put"]);
    // A new scope would be readable by all users too.
    refused(&init(&ctx, &["--scope", "new"]).await, &["--accept-shared-scope"]);
    assert_eq!(ctx.take_writes(), [""; 0]);
    assert_eq!(init(&ctx, &["--scope", "new", "--accept-shared-scope"]).await.exit, 0);
}

/// An unreadable entry, which may grant access to all users.
const ODD_READER: &str = r#"{"items":[7]}"#;

/// Responses to listing a scope's readers, and the exit code of storing a key.
const READERS_ANSWERS: &[(u16, &str, u8)] = &[
    (403, r#"{"error_code":"PERMISSION_DENIED","message":"ACL is not supported in your workspace."}"#, 7),
    (404, r#"{"error_code":"FEATURE_DISABLED","message":"ACLs are disabled or not available in this tier"}"#, 7),
    (403, r#"{"error_code":"FEATURE_DISABLED","message":""}"#, 7),
    (
        500,
        r#"{"error_code":"INTERNAL_ERROR","message":"FEATURE_DISABLED: ACLs for secrets are disabled or not available in this tier"}"#,
        7,
    ),
    (400, r#"{"error_code":"BAD_REQUEST","message":"ACL is not supported in your workspace."}"#, 7),
    (501, r#"{"error_code":"NOT_IMPLEMENTED","message":"no such call"}"#, 7),
    (501, "", 7),
    (404, r#"{"error_code":"ENDPOINT_NOT_FOUND","message":"No API found"}"#, 7),
    (404, "<html><title>404 Not Found</title></html>", 7),
    (405, "", 7),
    (403, r#"{"error_code":"PERMISSION_DENIED","message":"User ana does not have MANAGE permission on scope"}"#, 7),
    (403, "", 7),
    (400, r#"{"error_code":"INVALID_PARAMETER_VALUE","message":"odd"}"#, 7),
    (404, r#"{"error_code":"RESOURCE_DOES_NOT_EXIST","message":"Scope does not exist"}"#, 7),
    (200, r#"{"items":[{"principal":"users","permission":"MANAGE"}]}"#, 7),
    (200, r#"{"items":[{"principal":"Users","permission":"READ"}]}"#, 7),
    (200, r#"{"items":[{"permission":"READ"}]}"#, 7),
    (
        200,
        r#"{"items":[{"principal":"ana@example.com","permission":"MANAGE"},{"principal":"bo@example.com","permission":"MANAGE"}]}"#,
        7,
    ),
    (200, ODD_READER, 7),
    (200, "<html><title>Sign in</title></html>", 13),
    (401, "", 4),
    (403, r#"{"error_code":403,"message":"Invalid access token."}"#, 4),
    (429, "", 75),
    (503, "", 75),
];

#[expect(clippy::print_stdout, reason = "the figure")]
#[tokio::test(start_paused = true)]
async fn a_key_is_never_stored_where_the_readers_are_not_known_to_be_few_unless_that_is_accepted() {
    let (mut held, mut cases) = (0, 0);
    for (status, body, exit) in READERS_ANSWERS {
        for existing in [false, true] {
            let ctx = Harness::new();
            if existing {
                assert_eq!(init(&ctx, &["--key", "first"]).await.exit, 0);
            }
            ctx.take_log();
            ctx.answer_with("databricks:secrets/acls/list", *status, body);
            let case = format!("{status} {body}, existing: {existing}");
            let shown = init(&ctx, &["--dry-run"]).await;
            assert_eq!(ctx.take_writes(), [""; 0], "{case}");
            let outcome = init(&ctx, &[]).await;
            let writes = ctx.take_writes();
            assert!(!writes.contains(&"databricks:secrets/put"), "{case}: {outcome:?}");
            assert_eq!(outcome.exit, *exit, "{case}: {outcome:?}");
            // For a new scope, only the read after its creation shows that all users can read it.
            let tells_nothing = *status != 200 && !body.contains("RESOURCE_DOES_NOT_EXIST");
            let looked_at_first = existing || tells_nothing || *body == ODD_READER;
            assert!(!looked_at_first || writes.is_empty(), "{case}: {writes:?}");
            if *exit == 7 {
                let code = shown.data["refused"]["code"].as_str();
                assert_eq!((shown.exit, code), (0, looked_at_first.then_some("refused")), "{case}: {shown:?}");
                let accepted = init(&ctx, &["--accept-shared-scope"]).await;
                assert_eq!(
                    (accepted.exit, ctx.take_writes().last()),
                    (0, Some(&"databricks:secrets/put")),
                    "{case}: {accepted:?}"
                );
            }
            (held, cases) = (held + 1, cases + 1);
        }
    }
    println!("readers of a scope: {held} of {cases}");
}

#[tokio::test(start_paused = true)]
async fn who_can_read_a_scope_that_was_there_is_listed_and_others_than_meant_take_a_flag() {
    let ctx = Harness::new();
    assert_eq!(init(&ctx, &["--key", "first", "--grant", "analysts"]).await.exit, 0);
    ctx.take_log();
    let refusal = init(&ctx, &[]).await;
    refused(
        &refusal,
        &[
            "others can read it: analysts (READ)",
            "--accept-shared-scope",
            "name the intended readers with --grant, remove the others'",
        ],
    );
    let listed = "Readers of scope dbt-cloud: analysts (READ), ana@example.com (MANAGE)";
    let listed_too = "Readers of scope dbt-cloud: ana@example.com (MANAGE), analysts (READ)";
    assert!(refusal.text.contains(listed) || refusal.text.contains(listed_too), "{}", refusal.text);
    assert_eq!(refusal.data["readers"].as_array().map(Vec::len), Some(2));
    assert_eq!(ctx.take_writes(), [""; 0]);
    // Listed without a refusal if nothing is stored.
    let kept = init(&ctx, &["--key", "first"]).await;
    assert!(kept.exit == 0 && kept.text.contains("Readers of scope"), "{kept:?}");
    let shown = init(&ctx, &["--dry-run"]).await;
    assert!(shown.exit == 0 && shown.text.contains("Plan cannot be applied: "), "{}", shown.text);
    assert_eq!(ctx.take_writes(), [""; 0]);

    assert_eq!(init(&ctx.copy(), &["--accept-shared-scope"]).await.exit, 0);
    let named = init(&ctx, &["--grant", "analysts:READ"]).await;
    assert_eq!(named.exit, 0, "{named:?}");
    assert_eq!(ctx.take_writes(), ["databricks:secrets/put"]);
    ctx.set("DBT_CLOUD_TOKEN", "dbtc_another-0123456789");
    refused(&init(&ctx, &["--rotate", "--no-validate"]).await, &["analysts (READ)"]);
}

#[tokio::test(start_paused = true)]
async fn readers_that_cannot_be_seen_are_warned_about_and_do_not_hinder_where_nothing_is_stored() {
    let ctx = Harness::new();
    assert_eq!(init(&ctx, &["--key", "first"]).await.exit, 0);
    let rule = "databricks:secrets/acls/list=status=403,times=forever";
    ctx.world(|world| world.add_fault(FaultRule::parse(rule).unwrap()));
    let outcome = init(&ctx, &["--key", "first"]).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    assert!(outcome.said().contains("that requires MANAGE"), "{}", outcome.said());
    assert!(outcome.data["readers"].is_null());
}

#[tokio::test(start_paused = true)]
async fn everybody_is_let_in_only_with_the_flag_for_it() {
    let ctx = Harness::new();
    let line = ["--grant", "users", "--accept-shared-scope"];
    let outcome = init(&ctx, &line).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    assert_eq!(
        ctx.world(|world| world.inspect())["scopes"]["dbt-cloud"]["acls"],
        json!({ ANA: "MANAGE", "users": "READ" })
    );
    ctx.take_log();
    assert_eq!(init(&ctx, &line).await.exit, 0);
    assert_eq!(ctx.take_writes(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_stored_untried_only_with_the_flag_for_it_and_that_is_said() {
    let ctx = Harness::new();
    ctx.set("DBT_CLOUD_HOST", "");
    ctx.set("DBT_CLOUD_ACCOUNT_ID", "");
    ctx.set("DBT_CLOUD_TOKEN", "dbtu_nobody-knows-it-012345");
    assert_eq!(init(&ctx, &[]).await.code, Some(Code::MissingInput));
    let outcome = init(&ctx, &["--no-validate"]).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    assert!(
        outcome.said().contains("was not checked with dbt (--no-validate)")
            && outcome.said().contains("personal token")
    );
    assert!(!ctx.take_log().iter().any(|seen| seen.operation.starts_with("dbt:")));
    ctx.set("DBT_CLOUD_TOKEN", "");
    assert_eq!(init(&ctx, &["--no-validate", "--key", "x"]).await.code, Some(Code::MissingInput));
}

#[tokio::test(start_paused = true)]
async fn another_spelling_of_a_scope_is_the_same_scope_and_a_reserved_name_is_refused() {
    let ctx = Harness::new();
    assert_eq!(init(&ctx, &["--scope", "DBT-Cloud"]).await.exit, 0);
    ctx.take_log();
    let outcome = init(&ctx, &[]).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    assert!(outcome.text.contains("exists as DBT-Cloud"), "{}", outcome.text);
    assert_eq!(ctx.take_writes(), [""; 0]);
    // The next command uses the stored spelling, which the notebook reads.
    for says in ["dbtrigger deploy-notebook --scope DBT-Cloud\n", "init-secrets --scope DBT-Cloud --rotate"] {
        assert!(format!("{}\n", outcome.text).contains(says), "{says}: {}", outcome.text);
    }
    let ctx = Harness::new();
    assert_eq!(init(&ctx, &[]).await.exit, 0);
    let outcome = init(&ctx, &["--scope", "DBT-CLOUD"]).await;
    assert!(format!("{}\n", outcome.text).contains("dbtrigger deploy-notebook\n"), "{}", outcome.text);
    assert_eq!(deploy(&ctx, &[]).await.exit, 0);

    ctx.world(|world| world.reserve_scope("system"));
    let reserved = init(&ctx, &["--scope", "System"]).await;
    assert_eq!((reserved.exit, reserved.code), (2, Some(Code::InvalidInput)), "{reserved:?}");
    assert!(reserved.failure.contains("Databricks reserves this name") && reserved.failure.contains("--scope"));
    assert_eq!(steps(&reserved), ["create failed", "create pending"]);
}

#[tokio::test(start_paused = true)]
async fn a_scope_that_everybody_reads_takes_no_key_and_nobody_is_let_make_it_one() {
    let ctx = Harness::new();
    let asked = init(&ctx, &["--grant", "users"]).await;
    refused(&asked, &["every user of this workspace"]);
    assert_eq!(ctx.take_writes(), [""; 0]);
    assert_eq!(init(&ctx, &["--key", "first"]).await.exit, 0);
    open_to_everybody(&ctx);
    ctx.take_log();
    let outcome = init(&ctx, &[]).await;
    refused(
        &outcome,
        &["every user of this workspace can read secret scope dbt-cloud (users: READ)", "--accept-shared-scope"],
    );
    assert_eq!(init(&ctx.copy(), &["--accept-shared-scope"]).await.exit, 0);
    assert_eq!(ctx.take_writes(), [""; 0]);
    let kept = init(&ctx, &["--key", "first"]).await;
    assert_eq!(kept.exit, 0);
    assert!(kept.said().contains("every user of this workspace can read"), "{}", kept.said());
}

/// Another client grants the group of all users access to the scope.
fn open_to_everybody(ctx: &Harness) {
    let body = json!({ "scope": "dbt-cloud", "principal": "users", "permission": "READ" }).to_string();
    let request = http::Request::post("http://127.0.0.1:1/api/2.0/secrets/acls/put")
        .header("authorization", format!("Bearer {DATABRICKS_TOKEN}"))
        .body(bytes::Bytes::from(body))
        .unwrap();
    ctx.world(|world| world.answer(SimTime(1_760_000_100_000), &request));
}

#[tokio::test(start_paused = true)]
async fn a_key_vault_scope_is_used_if_the_key_is_there_else_the_way_in_azure_is_said() {
    let ctx = Harness::new();
    ctx.world(|world| world.add_key_vault_scope("dbt-cloud", &["api-key"]));
    let kept = init(&ctx, &[]).await;
    assert_eq!(kept.exit, 0, "{kept:?}");
    assert!(kept.text.contains("in an Azure Key Vault, not compared"), "{}", kept.text);
    refused(&init(&ctx, &["--rotate"]).await, &["which only Azure can write"]);
    let other = ctx.copy();
    other.set("DBT_CLOUD_TOKEN", "from-the-vault");
    let same = init(&other, &["--rotate"]).await;
    assert!(same.exit == 0 && same.text.contains("unchanged"), "{same:?}");
    let outcome = init(&ctx, &["--key", "other_key"]).await;
    refused(
        &outcome,
        &[
            "which only Azure can write",
            "https://sandbox.vault.azure.net/",
            "(Key Vault names allow only letters, digits, and hyphens:",
        ],
    );
    assert_eq!(ctx.take_writes(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn access_is_never_lowered_and_a_stranger_is_named() {
    let ctx = Harness::new();
    let own = init(&ctx, &["--grant", ANA]).await;
    assert!(own.text.contains("gets MANAGE by creating the scope"), "{}", own.text);
    let again = init(&ctx, &["--grant", ANA]).await;
    assert!(again.text.contains("kept: already has MANAGE"), "{}", again.text);
    let stranger = init(&ctx, &["--grant", "strangers"]).await;
    assert_eq!(stranger.code, Some(Code::NotFound), "{stranger:?}");
    assert!(stranger.failure.contains("strangers") && stranger.failure.contains("application ID"));
    assert_eq!(steps(&stranger), ["keep done", "keep done", "create failed"]);
}

#[tokio::test(start_paused = true)]
async fn two_grants_go_out_one_after_another() {
    let ctx = Harness::new();
    let outcome = init(&ctx, &["--grant", "analysts", "--grant", "admins:WRITE"]).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    let again = init(&ctx, &["--grant", "analysts", "--grant", "admins:MANAGE"]).await;
    assert!(again.text.contains("permission: WRITE -> MANAGE"), "{}", again.text);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_interrupted_while_writing_hears_what_is_written_and_how_far_each_step_is() {
    let fresh = Harness::new();
    let there = fresh.copy();
    assert_eq!(init(&there, &[]).await.exit, 0);
    there.set("DBT_CLOUD_TOKEN", "dbtc_another-0123456789");
    let line = ["--rotate", "--no-validate", "--grant", "analysts", "--grant", "data-engineers"];
    let (scope, more) = ("secret scope dbt-cloud", "secret dbt-cloud/api-key, grant READ on dbt-cloud for analysts");
    let pending = "pending";
    for (world, write, cause, progress) in [
        (&fresh, 1, Some(scope.to_owned()), ["done", pending, pending, pending]),
        (&fresh, 3, Some(format!("{scope}, {more}")), ["done", "written", "written", pending]),
        // What existed before is not reported as written.
        (&there, 0, None, ["done", pending, pending, pending]),
        (&there, 2, Some(more.to_owned()), ["done", "written", "written", pending]),
        // All writes are done; none is read back.
        (
            &there,
            3,
            Some(format!("{more}, grant READ on dbt-cloud for data-engineers")),
            ["done", "written", "written", "written"],
        ),
    ] {
        let requests = world.copy();
        init(&requests, &line).await;
        let log = requests.take_log();
        let writes: Vec<usize> = (0..log.len()).filter(|index| log[*index].writes).collect();
        let at = writes.get(write).copied().unwrap_or(writes[writes.len() - 1] + 1);
        let ctx = world.copy();
        let known = RefCell::new(InterruptReport::default());
        let command = async |args, ctx: &CommandContext| {
            known.replace(ctx.interrupt_report.clone());
            init_secrets::run(args, ctx).await
        };
        ctx.inject_fault(at, InjectedFault::KilledBefore);
        assert!(ctx.run(command, &line).await.is_none());
        let left = known.borrow().get().expect("how far it is");
        let note = left.note.expect("how things stand");
        assert_eq!(note.cause, cause.map(|steps| format!("already written: {steps}")));
        assert!(note.next.as_ref().unwrap().to_string().contains("run the same command again"), "{note:?}");
        assert_eq!(left.known.data["dry_run"], false);
        let steps = left.known.data["steps"].as_array().unwrap();
        assert_eq!(steps.iter().map(|step| &step["progress"]).collect::<Vec<_>>(), progress, "{steps:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_never_shows_or_cannot_be_read_back_is_a_failure() {
    let ctx = Harness::new();
    ctx.world(|world| world.set_stale_reads(1000));
    let stale = init(&ctx, &[]).await;
    assert_eq!(stale.code, Some(Code::Failed), "{stale:?}");
    assert!(stale.failure.contains("was created, but reads back differently"), "{}", stale.failure);
    assert_eq!(steps(&stale), ["create written", "create pending"]);
    let ctx = Harness::new();
    // The second listing is the one after the write.
    ctx.world(|world| world.add_fault(FaultRule::parse("databricks:secrets/scopes/list=status=403,nth=2").unwrap()));
    let unread = init(&ctx, &[]).await;
    assert!(unread.failure.contains("read back"), "{unread:?}");
    assert_eq!(steps(&unread), ["create written", "create pending"]);
}

#[tokio::test(start_paused = true)]
async fn init_secrets_survives_every_trouble_at_every_request() {
    survives(Harness::new, async |ctx| ctx.run(init_secrets::run, &["--grant", "data-engineers"]).await).await;
}

#[tokio::test(start_paused = true)]
async fn stale_reads_after_a_write_are_waited_out() {
    let ctx = Harness::new();
    ctx.world(|world| world.set_stale_reads(3));
    assert_eq!(init(&ctx, &["--grant", "data-engineers"]).await.exit, 0);
    let deployed = deploy(&ctx, &[]).await;
    assert_eq!(deployed.exit, 0, "{deployed:?}");
}

#[tokio::test(start_paused = true)]
async fn deploy_notebook_writes_once_and_the_second_time_nothing() {
    let ctx = Harness::new();
    ctx.set("DBT_CLOUD_TOKEN", "");
    ctx.set_latency(Duration::from_millis(50));
    let first = deploy(&ctx, &[]).await;
    assert_eq!(first.exit, 0, "{first:?}");
    assert_eq!(ctx.take_writes(), ["databricks:workspace/mkdirs", "databricks:workspace/import"]);
    assert_eq!(first.took, Duration::from_millis(50) * 5);
    assert_eq!((first.data["path"].as_str(), first.data["state"].as_str()), (Some(PATH), Some("absent")));
    assert!(
        first.data["object_id"].is_string() && first.data["sha256"].as_str().unwrap().len() == 64,
        "{}",
        first.data
    );
    assert!(first.text.contains("next: dbtrigger create-workflow"), "{}", first.text);
    assert!(first.said().contains("Writing to http://127.0.0.1:1 as ana@example.com"));
    let text = ctx.world(|world| world.inspect())["workspace"][PATH]["content"].as_str().unwrap().to_owned();
    assert!(text.contains(&ACCOUNT.to_string()) && !text.contains(DBT_TOKEN));

    let second = deploy(&ctx, &[]).await;
    assert_eq!(
        (second.exit, second.data["state"].as_str(), steps(&second)),
        (0, Some("unchanged"), vec!["keep done".to_owned()])
    );
    assert_eq!(second.took, Duration::from_millis(50) * 2);
    let given = deploy(&ctx, &["--notebook", &format!("/Workspace{PATH}")]).await;
    assert_eq!((given.took, given.data["state"].as_str()), (Duration::from_millis(50), Some("unchanged")));
    assert_eq!(ctx.take_writes(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn deploy_notebook_survives_every_trouble_at_every_request() {
    survives(Harness::new, async |ctx| ctx.run(deploy_notebook::run, &[]).await).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_of_settings_is_written_and_listed_and_what_is_not_said_stays() {
    let ctx = Harness::new();
    deploy(&ctx, &["--scope", "other", "--allow-override", "git_branch", "--allow-job", "222222"]).await;
    ctx.take_log();
    assert_eq!(deploy(&ctx, &[]).await.data["state"], "unchanged");
    let less = deploy(&ctx, &["--allow-override", "none"]).await;
    assert!(less.text.contains("overrides: git_branch -> none (--allow-override)"), "{}", less.text);
    assert_eq!((less.data["scope"].as_str(), less.data["state"].as_str()), (Some("other"), Some("outdated")));
    assert_eq!(ctx.take_writes(), ["databricks:workspace/import"]);
    let moved = deploy(&ctx, &["--scope", "dbt-cloud"]).await;
    refused(&moved, &["another secret scope (dbt-cloud instead of other)", "--force"]);
    assert!(moved.text.contains("--- in the workspace"), "{}", moved.text);
    let forced = deploy(&ctx, &["--scope", "dbt-cloud", "--force"]).await;
    assert_eq!((forced.exit, forced.data["scope"].as_str()), (0, Some("dbt-cloud")));
    ctx.set("DBT_CLOUD_ACCOUNT_ID", "7");
    refused(&deploy(&ctx, &["--notebook", PATH]).await, &["another dbt account (7 instead of 51234)"]);
}

/// Another client writes this text to the path.
fn write(ctx: &Harness, path: &str, format: &str, text: &str) {
    use base64::Engine as _;
    let content = base64::engine::general_purpose::STANDARD.encode(text);
    let body = json!({ "path": path, "format": format, "language": "PYTHON", "content": content, "overwrite": true });
    post(ctx, "workspace/import", &body);
}

fn post(ctx: &Harness, endpoint: &str, body: &Value) {
    let request = http::Request::post(format!("http://127.0.0.1:1/api/2.0/{endpoint}"))
        .header("authorization", format!("Bearer {}", crate::commands::tests::harness::DATABRICKS_TOKEN))
        .header("content-type", "application/json")
        .body(bytes::Bytes::from(body.to_string()))
        .unwrap();
    match ctx.world(|world| world.answer(SimTime(0), &request)) {
        crate::sandbox::Reply::Answer(answer) => assert_eq!(answer.status(), 200, "{answer:?}"),
        other @ crate::sandbox::Reply::Broken(..) => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_edited_by_hand_is_shown_and_left_alone_unless_forced() {
    let ctx = Harness::new();
    deploy(&ctx, &[]).await;
    let text = ctx.world(|world| world.inspect())["workspace"][PATH]["content"].as_str().unwrap().to_owned();
    write(&ctx, PATH, "SOURCE", &format!("{text}\n# mine\n"));
    ctx.take_log();
    let outcome = deploy(&ctx, &[]).await;
    refused(&outcome, &["was edited by hand since dbtrigger", "--force"]);
    assert!(outcome.text.contains("-# mine") && outcome.data["steps"][0]["diff"].as_str().unwrap().contains("-# mine"));
    assert_eq!(outcome.data["state"], "edited-by-hand");
    let shown = deploy(&ctx, &["--dry-run"]).await;
    assert_eq!(shown.exit, 0);
    assert!(shown.text.contains("Plan cannot be applied: "), "{}", shown.text);
    assert_eq!(deploy(&ctx, &["--adopt"]).await.exit, 7);
    // The diff is the same as in the refusal.
    let shown = deploy(&ctx, &["--force", "--dry-run"]).await;
    assert!(shown.exit == 0 && shown.text.contains("-# mine"), "{}", shown.text);
    assert_eq!(shown.data["steps"][0]["diff"], outcome.data["steps"][0]["diff"]);
    assert!(!shown.text.contains("writes another one"), "{}", shown.text);
    assert_eq!(ctx.take_writes(), [""; 0]);
    let forced = deploy(&ctx, &["--force"]).await;
    assert!(forced.text.contains("--force: manual edits are lost"), "{}", forced.text);
    assert_eq!(deploy(&ctx, &[]).await.data["state"], "unchanged");
}

#[tokio::test(start_paused = true)]
async fn a_notebook_of_somebody_elses_is_shown_and_left_alone_unless_adopted() {
    let ctx = Harness::new();
    let token = "dbtc_somebodys-own-0123456789";
    post(&ctx, "workspace/mkdirs", &json!({ "path": "/Users/ana@example.com/dbtrigger" }));
    write(&ctx, PATH, "SOURCE", &format!("# Databricks notebook source\ntoken = \"{token}\"\n"));
    let outcome = deploy(&ctx, &[]).await;
    refused(&outcome, &["was not created by dbtrigger", "--adopt"]);
    assert!(outcome.text.contains("-token = ") && !outcome.text.contains(token), "{}", outcome.text);
    assert_eq!(deploy(&ctx, &["--force"]).await.exit, 7);
    assert_eq!(ctx.take_writes(), [""; 0]);
    assert_eq!(deploy(&ctx, &["--adopt"]).await.exit, 0);
    assert_eq!(deploy(&ctx, &[]).await.data["state"], "unchanged");
}

#[tokio::test(start_paused = true)]
async fn a_folder_or_file_in_the_way_is_named_and_no_flag_helps() {
    let ctx = Harness::new();
    post(&ctx, "workspace/mkdirs", &json!({ "path": PATH }));
    let all = ["--force", "--adopt", "--accept-shared-path"];
    refused(&deploy(&ctx, &all).await, &["there is a folder at", "choose another --notebook"]);
    let ctx = Harness::new();
    post(&ctx, "workspace/mkdirs", &json!({ "path": "/Users/ana@example.com/dbtrigger" }));
    write(&ctx, PATH, "AUTO", "just text");
    refused(&deploy(&ctx, &all).await, &["there is a file at"]);
    let below = format!("{PATH}/deeper");
    refused(&deploy(&ctx, &["--notebook", &below]).await, &["there is a file at", PATH, "cannot be created"]);
}

#[tokio::test(start_paused = true)]
async fn below_a_notebook_nothing_would_be_created_and_a_dry_run_says_so() {
    let ctx = Harness::new();
    let above = "/Users/ana@example.com/nb";
    write(&ctx, above, "SOURCE", "# Databricks notebook source\nprint(1)\n");
    for below in ["sub", "not/there/yet"] {
        let path = format!("{above}/{below}");
        let shown = deploy(&ctx, &["--notebook", &path, "--dry-run"]).await;
        assert_eq!((shown.exit, &shown.data["state"]), (0, &json!("in-the-way")), "{shown:?}");
        assert!(shown.text.contains(&format!("there is a notebook at {above}, ")), "{}", shown.text);
        assert!(!shown.text.contains("Plan: 1 to add"), "{}", shown.text);
        ctx.take_log();
        refused(&deploy(&ctx, &["--notebook", &path]).await, &["cannot be created", "choose another --notebook"]);
        assert_eq!(ctx.take_writes(), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn below_shared_it_takes_a_flag_of_its_own() {
    let ctx = Harness::new();
    for path in ["/Shared/run_dbt_job", "/Workspace/Shared/run_dbt_job"] {
        refused(
            &deploy(&ctx, &["--notebook", path]).await,
            &["every user of the workspace can edit it", "--accept-shared-path"],
        );
    }
    assert_eq!(ctx.take_writes(), [""; 0]);
    let outcome = deploy(&ctx, &["--notebook", "/Shared/run_dbt_job", "--accept-shared-path"]).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    assert!(outcome.text.contains("--notebook /Shared/run_dbt_job"), "{}", outcome.text);
}

#[tokio::test(start_paused = true)]
async fn print_asks_nobody_anything() {
    let ctx = Harness::new();
    ctx.set("DATABRICKS_TOKEN", "");
    ctx.set("DBT_CLOUD_TOKEN", "");
    let outcome = deploy(&ctx, &["--print", "--scope", "other"]).await;
    assert!(outcome.text.starts_with("# Databricks notebook source\n") && outcome.text.contains("other"));
    assert_eq!(outcome.data["text"].as_str(), Some(format!("{}\n", outcome.text).as_str()));
    assert!(ctx.take_log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_host_that_only_a_pasted_address_names_is_not_sent_the_key_by_a_notebook_either() {
    let ctx = Harness::new();
    ctx.set("DBT_CLOUD_HOST", "");
    ctx.set("DBT_CLOUD_ACCOUNT_ID", "");
    let url = ["--dbt-url", "https://dbt.evil.example/deploy/51234/"];
    assert_eq!(deploy(&ctx, &url).await.exit, 2);
    assert_eq!(init(&ctx, &url).await.exit, 2);
    assert_eq!(ctx.take_writes(), [""; 0]);
    assert!(!ctx.take_log().iter().any(|seen| seen.operation.starts_with("dbt:")));
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_shows_a_refusal_as_data_and_fails_where_it_cannot_look() {
    let ctx = Harness::new();
    let shared = deploy(&ctx, &["--notebook", "/Shared/run", "--dry-run"]).await;
    assert_eq!((shared.exit, &shared.data["refused"]["code"]), (0, &json!("refused")), "{shared:?}");
    ctx.world(|world| world.add_fault(FaultRule::parse("databricks:workspace/*=status=403,times=forever").unwrap()));
    for line in [&["--dry-run"][..], &["--notebook", "/Shared/run", "--dry-run"]] {
        let blind = deploy(&ctx, line).await;
        assert_eq!((blind.code, &blind.data), (Some(Code::NotAllowed), &Value::Null), "{blind:?}");
    }
    let setup = Box::pin(ctx.run(setup::run, &["--job", "222222", "--dry-run"])).await.unwrap();
    assert_eq!(setup.code, Some(Code::NotAllowed), "{setup:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wrong_workspace_token_is_one_failure_and_nothing_is_written() {
    for (rule, code) in [
        ("databricks:*=status=401,times=forever", Code::NotAuthenticated),
        ("databricks:*=status=403,times=forever", Code::NotAllowed),
        ("databricks:*=login,times=forever", Code::UnexpectedResponse),
    ] {
        let ctx = Harness::new();
        ctx.world(|world| world.add_fault(FaultRule::parse(rule).unwrap()));
        let outcome = init(&ctx, &[]).await;
        assert_eq!(outcome.code, Some(code), "{rule}");
        // Everyone may look up their own identity, so a 403 here means a bad token.
        let is_token = outcome.failure.contains("a wrong or expired token, or one from another workspace,");
        assert_eq!(is_token, code == Code::NotAllowed, "{outcome:?}");
        assert_eq!(deploy(&ctx, &[]).await.code, Some(code), "{rule}");
        assert_eq!(ctx.take_writes(), [""; 0]);
    }
}

/// Every class of fault, before and after the effect, once and forever, at every operation of a command; or each of so many.
async fn every_fault<A: clap::Args>(
    command: impl AsyncFn(A, &crate::commands::CommandContext) -> Ended<Box<dyn Report>>,
    operations: &[&str],
    line: &[&str],
    every: usize,
) -> usize {
    let fresh = Harness::new();
    let clean = fresh.copy();
    clean.run(&command, line).await.unwrap();
    let goal = state(&clean);
    let (mut shown, mut number) = (0, 0_usize);
    for operation in operations {
        for (class, phase) in
            FaultKind::catalogue().iter().flat_map(|class| [(class, Phase::Before), (class, Phase::After)])
        {
            if !class.allows(phase) {
                continue;
            }
            let phase = if phase == Phase::After { "after" } else { "before" };
            for times in ["1", "forever"] {
                // An effect that is lost each time is the same as one lost once.
                if (phase, times) == ("after", "forever") {
                    continue;
                }
                number += 1;
                if !number.is_multiple_of(every) {
                    continue;
                }
                let case = format!("{operation}={class},phase={phase},times={times}");
                let ctx = fresh.copy_of_age(Duration::ZERO);
                let rule = FaultRule::parse(&case).unwrap_or_else(|error| panic!("{case}: {error}"));
                ctx.world(|world| world.add_fault(rule));
                let begun = tokio::time::Instant::now();
                if let Some(outcome) = ctx.run(&command, line).await {
                    assert_ne!(outcome.code, Some(Code::Bug), "{case}: {outcome:?}");
                    assert!(begun.elapsed() < Duration::from_secs(150), "{case} took {:?}", begun.elapsed());
                    // ACLs that always return 501 mean no access control, which is reported.
                    let skipped = outcome.said().contains(": skipped: ") && case.contains("status=501");
                    if outcome.exit == 0 {
                        assert!(skipped || state(&ctx) == goal, "{case}: {outcome:?}");
                    } else {
                        assert!(outcome.failure.contains("hints\":[{"), "{case}: {}", outcome.failure);
                    }
                }
                if times == "1" {
                    let again = ctx.run(&command, line).await.unwrap();
                    assert_eq!((again.exit, state(&ctx)), (0, goal.clone()), "{case}: {again:?}");
                }
                shown += 1;
            }
        }
    }
    shown
}

const OF_INIT_SECRETS: [&str; 9] = [
    "databricks:scim/me",
    "databricks:secrets/scopes/list",
    "databricks:secrets/list",
    "databricks:secrets/acls/list",
    "databricks:secrets/acls/get",
    "dbt:accounts/list",
    "databricks:secrets/scopes/create",
    "databricks:secrets/put",
    "databricks:secrets/acls/put",
];

const OF_DEPLOY_NOTEBOOK: [&str; 7] = [
    "databricks:scim/me",
    "databricks:workspace/get-status",
    "databricks:workspace/export",
    "databricks:workspace/mkdirs",
    "databricks:workspace/import",
    "databricks:permissions/get",
    "databricks:permissions/update",
];

#[tokio::test(start_paused = true)]
#[ignore = "takes minutes; .ci/run runs it"]
async fn every_fault_at_every_operation_ends_well_or_says_what_to_do() {
    let line = ["--grant", "data-engineers"];
    let shown = every_fault(init_secrets::run, &OF_INIT_SECRETS, &line, 1).await;
    assert!(shown > 300, "{shown}");
    let shown = every_fault(deploy_notebook::run, &OF_DEPLOY_NOTEBOOK, &line, 1).await;
    assert!(shown > 250, "{shown}");
}

#[tokio::test(start_paused = true)]
async fn some_faults_at_every_operation_end_well_or_say_what_to_do() {
    let line = ["--grant", "data-engineers"];
    assert!(every_fault(init_secrets::run, &OF_INIT_SECRETS, &line, 11).await > 25);
    assert!(every_fault(deploy_notebook::run, &OF_DEPLOY_NOTEBOOK, &line, 11).await > 20);
}

#[tokio::test(start_paused = true)]
async fn deploy_notebook_gives_access_once_and_takes_none_away() {
    let ctx = Harness::new();
    let line = ["--grant", "data-engineers", "--grant", "bo@example.com:can_read", "--grant", SERVICE];
    let first = deploy(&ctx, &line).await;
    assert_eq!((first.exit, steps(&first)), (0, vec!["create done".to_owned(); 4]), "{first:?}");
    let sent: Vec<_> = ctx.take_log().into_iter().filter(|seen| seen.writes).collect();
    let bodies: Vec<&str> = sent.iter().skip(2).map(|seen| seen.body.as_str()).collect();
    assert!(sent.iter().skip(2).all(|seen| seen.operation == "databricks:permissions/update"), "{sent:?}");
    assert!(bodies[0].contains(r#""group_name":"data-engineers""#) && bodies[0].contains("CAN_RUN"), "{bodies:?}");
    assert!(bodies[1].contains(r#""user_name":"bo@example.com""#) && bodies[1].contains("CAN_READ"), "{bodies:?}");
    assert!(bodies[2].contains("service_principal_name"), "{bodies:?}");
    let again = deploy(&ctx, &line).await;
    assert_eq!((again.exit, steps(&again)), (0, vec!["keep done".to_owned(); 4]));
    assert_eq!(ctx.take_writes(), [""; 0]);

    let raised = deploy(&ctx, &["--grant", "data-engineers:CAN_EDIT"]).await;
    assert!(raised.text.contains("permission_level: CAN_RUN -> CAN_EDIT (higher level requested)"), "{}", raised.text);
    ctx.take_log();
    let less = deploy(&ctx, &["--grant", "data-engineers:CAN_READ"]).await;
    assert!(less.text.contains("kept: already has CAN_EDIT"), "{}", less.text);
    let own = deploy(&ctx, &["--grant", ANA]).await;
    assert!(own.text.contains("kept: already has CAN_MANAGE from the folder"), "{}", own.text);
    assert_eq!(ctx.take_writes(), [""; 0]);
    // Existing grants of others are kept.
    let others = deploy(&ctx, &line[2..]).await;
    assert_eq!((others.exit, ctx.take_writes()), (0, Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn what_the_folder_of_a_new_notebook_hands_down_is_not_given_again() {
    let ctx = Harness::new();
    let outcome = deploy(&ctx, &["--grant", ANA]).await;
    assert_eq!(steps(&outcome), ["create done", "keep done"], "{outcome:?}");
    assert!(!ctx.take_writes().contains(&"databricks:permissions/update"));
    let shared = ["--notebook", "/Shared/run", "--accept-shared-path", "--grant", "analysts"];
    let shared = deploy(&ctx, &shared).await;
    assert!(shared.text.contains("every user already has CAN_MANAGE there"), "{}", shared.text);
    assert!(!ctx.take_writes().contains(&"databricks:permissions/update"));
}

#[tokio::test(start_paused = true)]
async fn without_access_lists_a_grant_on_the_notebook_is_skipped_with_a_remark() {
    let no_premium = Harness::new();
    no_premium.world(|world| world.set_premium(false));
    let look_alike = Harness::new();
    let rule = FaultRule::parse("databricks:permissions/*=status=501,times=forever").unwrap();
    look_alike.world(|world| world.add_fault(rule));
    for ctx in [no_premium, look_alike] {
        for expected in [["create done", "keep done"], ["keep done", "keep done"]] {
            let outcome = deploy(&ctx, &["--grant", "data-engineers"]).await;
            assert_eq!((outcome.exit, steps(&outcome)), (0, expected.map(str::to_owned).to_vec()), "{outcome:?}");
            let said = "for data-engineers: skipped: no access control for notebooks (no Premium plan)";
            assert!(outcome.said().contains(said) && outcome.text.contains("every user can read, run, and edit it"));
            assert!(!ctx.take_writes().contains(&"databricks:permissions/update"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_on_the_notebook_that_cannot_be_given_says_why() {
    let ctx = Harness::new();
    let stranger = deploy(&ctx, &["--grant", "strangers"]).await;
    assert_eq!(stranger.code, Some(Code::NotFound), "{stranger:?}");
    assert!(stranger.failure.contains("check \\\"strangers\\\"") && stranger.failure.contains("application ID"));
    assert_eq!(steps(&stranger), ["create done", "create failed"]);
    ctx.take_log();
    refused(&deploy(&ctx, &["--grant", "users:CAN_EDIT"]).await, &["every user of this workspace edit the notebook"]);
    let both = deploy(&ctx, &["--grant", "a:CAN_RUN", "--grant", "A:CAN_READ"]).await;
    assert_eq!((both.exit, both.code), (2, Some(Code::Contradiction)));
    assert_eq!(ctx.take_writes(), [""; 0]);
    assert_eq!(deploy(&ctx, &["--grant", "users:CAN_RUN"]).await.exit, 0);
    assert_eq!(deploy(&ctx, &["--grant", "users:CAN_EDIT", "--accept-shared-path"]).await.exit, 0);
    ctx.world(|world| {
        world.add_fault(FaultRule::parse("databricks:permissions/get=status=403,times=forever").unwrap());
    });
    let hidden = deploy(&ctx, &["--grant", "analysts"]).await;
    assert_eq!(hidden.code, Some(Code::NotAllowed), "{hidden:?}");
    assert!(hidden.failure.contains("reading and granting access requires CAN_MANAGE on"), "{}", hidden.failure);
}

#[tokio::test(start_paused = true)]
#[ignore = "takes long; .ci/run runs it"]
async fn deploy_notebook_with_a_grant_survives_every_trouble_at_every_request() {
    survives(Harness::new, async |ctx| ctx.run(deploy_notebook::run, &["--grant", "data-engineers"]).await).await;
}

#[tokio::test(start_paused = true)]
async fn a_newer_notebook_and_one_of_another_account_or_host_are_left_alone_unless_forced() {
    use crate::notebook::{Settings, render};
    let settings = Settings {
        host: crate::origin::Origin::parse("http://127.0.0.1:1").unwrap(),
        account_id: ACCOUNT,
        scope: "dbt-cloud".to_owned(),
        key: "api-key".to_owned(),
        allow_override: Vec::new(),
        allow_job: Vec::new(),
    };
    let elsewhere = crate::origin::Origin::parse("cd.eu1.dbt.com").unwrap();
    let version = crate::engine::kinds::VERSION;
    for (text, word) in [
        (render(&settings, "99.0.0"), "an older version of it"),
        (render(&Settings { account_id: 7, ..settings.clone() }, version), "another dbt account (51234 instead of 7)"),
        (render(&Settings { host: elsewhere, ..settings.clone() }, version), "cd.eu1.dbt.com"),
    ] {
        let ctx = Harness::new();
        post(&ctx, "workspace/mkdirs", &json!({ "path": "/Users/ana@example.com/dbtrigger" }));
        write(&ctx, PATH, "SOURCE", &text);
        refused(&deploy(&ctx, &[]).await, &[word, "--force", "choose another --notebook"]);
        assert_eq!(deploy(&ctx, &["--adopt"]).await.exit, 7, "{word}");
        assert_eq!(ctx.take_writes(), [""; 0]);
        assert_eq!(deploy(&ctx, &["--force"]).await.exit, 0, "{word}");
        assert_eq!(deploy(&ctx, &[]).await.data["state"], "unchanged");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_done_without_a_body_in_its_answer_is_done() {
    let ctx = Harness::new();
    for operation in [
        "secrets/scopes/create",
        "secrets/put",
        "secrets/acls/put",
        "workspace/mkdirs",
        "workspace/import",
        "permissions/update",
    ] {
        let rule = format!("databricks:{operation}=empty,phase=after,times=forever");
        ctx.world(|world| world.add_fault(FaultRule::parse(&rule).unwrap()));
    }
    for _ in 0..2 {
        let stored = init(&ctx, &["--grant", "data-engineers"]).await;
        assert_eq!(stored.exit, 0, "{stored:?}");
        let deployed = deploy(&ctx, &["--grant", "data-engineers"]).await;
        assert_eq!(deployed.exit, 0, "{deployed:?}");
    }
    assert_eq!(ctx.take_writes().len(), 6, "each once");
}

#[tokio::test(start_paused = true)]
async fn names_that_need_escaping_arrive_as_they_are() {
    for name in ["run me", "it's \"mine\"", "50%2F&a=b?c#d+e", "läuft 走", "a;b|c`d$(e)\\f"] {
        let ctx = Harness::new();
        let path = format!("/Users/ana@example.com/team {name}/{name}");
        let outcome = deploy(&ctx, &["--notebook", &path, "--grant", "data-engineers"]).await;
        assert_eq!((outcome.exit, outcome.data["path"].as_str()), (0, Some(path.as_str())), "{outcome:?}");
        assert!(ctx.world(|world| world.inspect())["workspace"][&path]["content"].is_string(), "{path}");
        let next = format!("--notebook {}", crate::text::quoted(&path));
        assert!(outcome.text.contains(&next) && next.contains('\''), "{}", outcome.text);
        ctx.take_log();
        assert_eq!(deploy(&ctx, &["--notebook", &path, "--grant", "data-engineers"]).await.exit, 0);
        assert_eq!(ctx.take_writes(), [""; 0], "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_scope_with_nearly_the_name_of_another_is_remarked_on() {
    let ctx = Harness::new();
    assert_eq!(init(&ctx, &[]).await.exit, 0);
    let meant = "no secret scope \"dbt-clod\" yet; did you mean \"dbt-cloud\"?";
    for line in [&["--scope", "dbt-clod", "--dry-run"][..], &["--scope", "finance"], &["--scope", "dbt-cloud"]] {
        let outcome = init(&ctx, line).await;
        assert!(outcome.exit == 0 && outcome.said().contains(meant) == line.contains(&"dbt-clod"), "{outcome:?}");
    }
    let line = ["--scope", "dbt-clod"];
    for (run, remarks) in [(0, true), (1, false)] {
        ctx.take_log();
        let outcome = ctx.run(deploy_notebook::run, &line).await.unwrap();
        let asked = ctx.take_log().iter().any(|seen| seen.operation == "databricks:secrets/scopes/list");
        assert_eq!((outcome.exit, outcome.said().contains(meant), asked), (0, remarks, remarks), "{run}: {outcome:?}");
    }
    let outcome = init(&ctx, &line).await;
    assert!(outcome.said().contains(meant), "{outcome:?}");
    assert!(!init(&ctx, &line).await.said().contains(meant));
}
