//! Service principals in whole commands: expiring tokens, renewal and refusals.

use std::time::Duration;

use tokio::time::sleep;

use crate::commands::tests::harness::{Harness, Outcome};
use crate::commands::{CommandContext, databricks_client};
use crate::commands::{deploy_notebook, init_secrets};
use crate::credentials::{InputErrors, databricks};
use crate::databricks::jobs::create;
use crate::databricks::me::me;
use crate::databricks::raw::Raw;
use crate::failure::{Code, Ended, Report, of_databricks};
use crate::http::Sent;

const ID: &str = "1b2c3d4e-0000-4000-8000-000000000001";
const SECRET: &str = "dose-rehearsal-0123456789";

/// A sandbox accessed as a service principal with a secret.
fn with_principal() -> Harness {
    let ctx = Harness::new();
    ctx.set("DATABRICKS_TOKEN", "");
    ctx.set("DATABRICKS_CLIENT_ID", ID);
    ctx.set("DATABRICKS_CLIENT_SECRET", SECRET);
    ctx.world(|world| {
        world.set_origin("http://127.0.0.1:1".to_owned());
        world.add_client(ID, SECRET, true);
    });
    ctx
}

#[derive(clap::Args)]
struct Polls {
    #[arg(long)]
    times: u32,
    #[arg(long)]
    every: u64,
}

/// Looks up the caller repeatedly, one attempt each, like the follower of a run.
async fn poll(args: Polls, ctx: &CommandContext) -> Ended<Box<dyn Report>> {
    let mut errors = InputErrors::default();
    let identity = databricks(&ctx.context.environment, &ctx.vault, &mut errors);
    if let Err(failure) = errors.settle() {
        return failure.into();
    }
    let reader = databricks_client(&identity.unwrap(), ctx).unwrap().reader();
    for _ in 0..args.times {
        if let Err(error) = reader.read_once(me()).await {
            return of_databricks("cannot look", &error).into();
        }
        sleep(Duration::from_secs(args.every)).await;
    }
    Ended { report: None, failure: None }
}

async fn polled(ctx: &Harness, times: u32, every: u64) -> Outcome {
    ctx.run(poll, &["--times", &times.to_string(), "--every", &every.to_string()]).await.unwrap()
}

fn count(ctx: &Harness, operation: &str) -> (usize, usize) {
    let log = ctx.take_log();
    (log.iter().filter(|seen| seen.operation == operation).count(), log.len())
}

#[tokio::test(start_paused = true)]
async fn a_service_principal_provisions_and_the_report_names_it() {
    let ctx = with_principal();
    let outcome = ctx.run(init_secrets::run, &[]).await.unwrap();
    assert_eq!((outcome.exit, outcome.failure.as_str()), (0, ""));
    assert_eq!(outcome.data["identity"], ID);
    assert_eq!(count(&ctx, "databricks:oidc/token").0, 1, "requests at the same time share one token");
}

#[tokio::test(start_paused = true)]
async fn tokens_are_renewed_before_they_expire_however_long_a_run_is_followed() {
    let ctx = with_principal();
    ctx.world(|world| world.set_token_life(60));
    // Ten minutes; the first token expires after one.
    assert_eq!(polled(&ctx, 60, 10).await.failure, "");
    let log = ctx.take_log();
    let tokens = log.iter().filter(|seen| seen.operation == "databricks:oidc/token").count();
    let looks = log.iter().filter(|seen| seen.operation == "databricks:scim/me").count();
    assert_eq!(looks, 60, "none was refused and sent again");
    // Renewed at half of its lifetime, because less than five minutes are left.
    assert!((19..=21).contains(&tokens), "{tokens}");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_ends_early_is_renewed_once_and_the_request_sent_again() {
    let ctx = with_principal();
    let world = ctx.clone();
    let ending = async {
        sleep(Duration::from_secs(15)).await;
        world.world(crate::sandbox::World::end_tokens);
        std::future::pending::<()>().await;
    };
    let outcome = tokio::select! {
        outcome = polled(&ctx, 3, 10) => outcome,
        () = ending => unreachable!(),
    };
    assert_eq!(outcome.failure, "");
    let log = ctx.take_log();
    let of = |operation: &str| log.iter().filter(|seen| seen.operation == operation).count();
    assert_eq!((of("databricks:oidc/token"), of("databricks:scim/me")), (2, 4));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_has_ended_is_renewed_also_where_the_service_answers_403() {
    // A plain 403 for a token of some age, and for a new one.
    for (gap, (tokens, looks), code) in [(70, (2, 4), None), (10, (1, 2), Some(Code::NotAllowed))] {
        let ctx = with_principal();
        let rule = "databricks:scim/me=status=403,nth=2";
        ctx.world(|world| world.add_fault(crate::sandbox::FaultRule::parse(rule).unwrap()));
        let outcome = polled(&ctx, 3, gap).await;
        assert_eq!(outcome.code, code, "{outcome:?}");
        let log = ctx.take_log();
        let of = |operation: &str| log.iter().filter(|seen| seen.operation == operation).count();
        assert_eq!((of("databricks:oidc/token"), of("databricks:scim/me")), (tokens, looks), "{gap}");
    }
    // A message about the token renews it at once; a blocked IP address does not.
    for (body, tokens, code) in [
        (r#"{"error_code":403,"message":"Invalid access token."}"#, 2, Code::NotAuthenticated),
        ("Token is expiring within 30 seconds. (token expired)", 2, Code::NotAuthenticated),
        ("Source IP address 1.2.3.4 is blocked by Databricks IP ACL", 1, Code::NotAllowed),
        (r#"{"error_code":"FEATURE_DISABLED","message":"not in this tier"}"#, 1, Code::NotAllowed),
    ] {
        let ctx = with_principal();
        ctx.answer_with("databricks:scim/me", 403, body);
        assert_eq!(polled(&ctx, 1, 1).await.code, Some(code), "{body}");
        assert_eq!(count(&ctx, "databricks:oidc/token").0, tokens, "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_does_not_resolve_is_given_up_by_oauth_as_by_a_token() {
    for (ctx, operation) in [(with_principal(), "databricks:host-metadata"), (Harness::new(), "databricks:scim/me")] {
        let rule = format!("{operation}=no-name,times=forever");
        ctx.world(|world| world.add_fault(crate::sandbox::FaultRule::parse(&rule).unwrap()));
        let outcome = ctx.run(init_secrets::run, &[]).await.unwrap();
        assert_eq!((outcome.exit, outcome.code), (12, Some(Code::Network)), "{outcome:?}");
        assert!(outcome.took < Duration::from_secs(10), "{operation}: {:?}", outcome.took);
    }
}

/// Creates a job with an expired token.
async fn make_late(_: Nothing, ctx: &CommandContext) -> Ended<Box<dyn Report>> {
    let identity = databricks(&ctx.context.environment, &ctx.vault, &mut InputErrors::default());
    let writer = databricks_client(&identity.unwrap(), ctx).unwrap();
    writer.read(me()).await.unwrap();
    sleep(Duration::from_mins(1)).await;
    let mut settings = Raw::default();
    settings.set("name", "late");
    match writer.once(create(&settings)).await {
        Sent::Done(_) => Ended { report: None, failure: None },
        other @ (Sent::NotSent(_) | Sent::Rejected(_) | Sent::Open(_)) => panic!("{other:?}"),
    }
}

#[derive(clap::Args)]
struct Nothing {}

#[tokio::test(start_paused = true)]
async fn what_must_not_be_repeated_is_sent_again_after_a_401_because_nothing_was_done() {
    let ctx = with_principal();
    let world = ctx.clone();
    let ending = async {
        sleep(Duration::from_secs(30)).await;
        world.world(crate::sandbox::World::end_tokens);
        std::future::pending::<()>().await;
    };
    let outcome = tokio::select! {
        outcome = ctx.run(make_late, &[]) => outcome.unwrap(),
        () = ending => unreachable!(),
    };
    assert_eq!(outcome.failure, "");
    let log = ctx.take_log();
    assert_eq!(log.iter().filter(|seen| seen.operation == "databricks:jobs/create").count(), 2);
    let jobs = ctx.world(|world| world.inspect())["jobs"].as_array().map(Vec::len);
    assert_eq!(jobs, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_refuses_every_token_is_not_asked_for_ever() {
    let ctx = with_principal();
    ctx.world(|world| world.set_token_life(0));
    let outcome = polled(&ctx, 1, 1).await;
    assert_eq!((outcome.exit, outcome.code), (4, Some(Code::NotAuthenticated)));
    assert_eq!(count(&ctx, "databricks:scim/me").0, 2);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_leaves_the_old_token_in_use_while_it_lives() {
    let ctx = with_principal();
    ctx.world(|world| {
        world.set_token_life(3600);
        world.add_fault(crate::sandbox::FaultRule::parse("databricks:oidc/token=status=503,nth=2").unwrap());
    });
    assert_eq!(polled(&ctx, 70, 60).await.failure, "");
    assert_eq!(count(&ctx, "databricks:oidc/token").0, 3);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_client_secret_is_said_with_the_endpoint_and_what_to_do() {
    let ctx = with_principal();
    ctx.set("DATABRICKS_CLIENT_SECRET", "dose-wrong-0123456789");
    let outcome = ctx.run(init_secrets::run, &[]).await.unwrap();
    assert_eq!((outcome.exit, outcome.code), (4, Some(Code::NotAuthenticated)));
    for part in ["http://127.0.0.1:1/oidc/v1/token answered 401", "invalid_client", "DATABRICKS_CLIENT_SECRET", ID] {
        assert!(outcome.failure.contains(part), "{part}: {}", outcome.failure);
    }
    assert!(!outcome.failure.contains("dose-wrong"), "{}", outcome.failure);
    assert!(ctx.take_writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_token_endpoint_that_is_down_for_a_moment_is_asked_again_and_one_that_stays_down_is_75() {
    let ctx = with_principal();
    ctx.world(|world| world.add_fault(crate::sandbox::FaultRule::parse("databricks:oidc/token=status=503").unwrap()));
    assert_eq!(ctx.run(init_secrets::run, &[]).await.unwrap().failure, "");
    let ctx = with_principal();
    let forever = "databricks:oidc/token=status=503,times=forever";
    ctx.world(|world| world.add_fault(crate::sandbox::FaultRule::parse(forever).unwrap()));
    let outcome = ctx.run(init_secrets::run, &[]).await.unwrap();
    assert_eq!((outcome.exit, outcome.code), (75, Some(Code::Unavailable)));
}

#[tokio::test(start_paused = true)]
async fn a_token_endpoint_that_asks_for_time_gets_it_however_many_want_a_token() {
    let ctx = with_principal();
    ctx.world(|world| {
        world.add_fault(crate::sandbox::FaultRule::parse("databricks:oidc/token=retry-after=30,times=2").unwrap());
    });
    // This command sends several requests in parallel.
    let outcome = ctx.run(init_secrets::run, &[]).await.unwrap();
    assert_eq!(outcome.failure, "");
    assert!(outcome.said().contains("retrying in 30s"), "{}", outcome.said());
    assert!(outcome.took >= Duration::from_mins(1), "{:?}", outcome.took);
    assert_eq!(count(&ctx, "databricks:oidc/token").0, 3, "nobody asks while it wants to be left alone");
    // A Retry-After beyond the limit for all attempts is not awaited.
    let ctx = with_principal();
    let absurd = "databricks:oidc/token=retry-after-huge,times=forever";
    ctx.world(|world| world.add_fault(crate::sandbox::FaultRule::parse(absurd).unwrap()));
    let outcome = ctx.run(init_secrets::run, &[]).await.unwrap();
    assert_eq!((outcome.exit, outcome.code), (75, Some(Code::Unavailable)));
    assert!(outcome.took < Duration::from_secs(1), "{:?}", outcome.took);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_asked_to_wait_waits_as_long_while_the_old_token_lives() {
    let ctx = with_principal();
    ctx.world(|world| {
        world.set_token_life(3600);
        world.add_fault(crate::sandbox::FaultRule::parse("databricks:oidc/token=retry-after=180,nth=2").unwrap());
    });
    assert_eq!(polled(&ctx, 70, 60).await.failure, "");
    let log = ctx.take_log();
    let tokens: Vec<usize> = (0..log.len()).filter(|at| log[*at].operation == "databricks:oidc/token").collect();
    assert_eq!(tokens.len(), 3);
    assert_eq!(tokens[2] - tokens[1], 4, "three looks, a minute each, lie between the refusal and the next try");
}

#[tokio::test(start_paused = true)]
async fn a_token_endpoint_on_another_host_gets_no_secret() {
    let ctx = with_principal();
    ctx.world(|world| world.set_origin("https://elsewhere.example.com".to_owned()));
    let outcome = ctx.run(init_secrets::run, &[]).await.unwrap();
    assert_eq!((outcome.exit, outcome.code), (4, Some(Code::NotAuthenticated)));
    assert!(
        outcome.failure.contains("as its token endpoint; secrets are not sent to another host"),
        "{}",
        outcome.failure
    );
    assert_eq!(count(&ctx, "databricks:oidc/token").0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_profile_with_p_provisions_its_own_workspace() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("profiles");
    let text =
        format!("[work]\nhost = http://127.0.0.1:1\ntoken = {}\n", crate::commands::tests::harness::DATABRICKS_TOKEN);
    std::fs::write(&file, text).unwrap();
    let ctx = Harness::new();
    ctx.set("DATABRICKS_CONFIG_FILE", file.to_str().unwrap());
    ctx.set("DATABRICKS_HOST", "https://elsewhere.example.com");
    ctx.set("DATABRICKS_TOKEN", "dapi-of-elsewhere-0123456789");
    ctx.choose_profile("work");
    let outcome = ctx.run(init_secrets::run, &[]).await.unwrap();
    assert_eq!((outcome.exit, outcome.failure.as_str()), (0, ""));
    assert_eq!(outcome.data["workspace"], "http://127.0.0.1:1");
    std::fs::write(&file, "[work]\nhost = http://127.0.0.1:1\ntoken = dapi-of-nobody-0123456789\n").unwrap();
    let outcome = ctx.run(deploy_notebook::run, &[]).await.unwrap();
    assert_eq!(outcome.exit, 4);
    assert!(outcome.failure.contains("the identity of token of profile work in"), "{}", outcome.failure);
}

#[tokio::test(start_paused = true)]
async fn every_request_to_a_host_of_several_workspaces_names_the_one_that_is_meant() {
    for (variables, due) in [
        (&[("DATABRICKS_WORKSPACE_ID", "12")][..], Some("12")),
        (&[("DATABRICKS_HOST", "http://127.0.0.1:1/?o=13")], Some("13")),
        (&[("DATABRICKS_HOST", "http://127.0.0.1:1/?o=14"), ("DATABRICKS_WORKSPACE_ID", "14")], Some("14")),
        (&[], None),
    ] {
        let ctx = with_principal();
        for (name, value) in variables {
            ctx.set(name, value);
        }
        let outcome = ctx.run(init_secrets::run, &[]).await.unwrap();
        assert_eq!((outcome.exit, outcome.failure.as_str()), (0, ""), "{variables:?}");
        let log = ctx.take_log();
        let services = |of: &str| log.iter().filter(|seen| seen.operation.starts_with(of)).count();
        assert!(services("databricks:") > 3 && services("dbt:") > 0, "{log:?}");
        for seen in log {
            // Tokens and host metadata belong to the whole host, and dbt has no workspaces.
            let of_host =
                ["databricks:oidc/", "databricks:host-metadata"].iter().any(|of| seen.operation.starts_with(of));
            let names = seen.operation.starts_with("databricks:") && !of_host;
            assert_eq!(seen.workspace.as_deref(), due.filter(|_| names), "{variables:?}: {}", seen.operation);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_instead_of_an_answer_may_mean_that_no_workspace_was_named() {
    let ctx = Harness::new();
    let rule = crate::sandbox::FaultRule::parse("databricks:scim/me=login,times=forever").unwrap();
    ctx.world(|world| world.add_fault(rule));
    let outcome = ctx.run(deploy_notebook::run, &[]).await.unwrap();
    assert_eq!(outcome.code, Some(Code::UnexpectedResponse), "{outcome:?}");
    assert!(outcome.failure.contains(&crate::failure::Remedy::DatabricksHost.to_string()), "{}", outcome.failure);
}
