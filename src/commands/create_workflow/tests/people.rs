//! The run-as identity and the grants on the workflow.

use super::*;
use crate::commands::databricks_client;
use crate::credentials::{self, AccountFlags, InputErrors};
use crate::databricks::permissions::{JobLevel, NotebookLevel};
use crate::databricks::secrets::Permission;
use crate::engine::kinds::{Grant, GrantWant, Identity, JobGrant, NotebookGrant, WorkflowJob};
use crate::engine::{Action, Consents, Inputs, Plan, Planned, Step, apply};
use crate::events::Events;

const SERVICE: &str = "0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d11";
const OTHER_SERVICE: &str = "0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d12";
const AS_SERVICE: [&str; 4] = ["--job", "222222", "--run-as", SERVICE];
const GRANTED: [&str; 5] = ["--job", "222222", "--run-as", SERVICE, "--grant-run-as"];

fn granted(ctx: &Harness, kind: &str) -> Value {
    ctx.world(|world| world.inspect())["grants"]
        .as_object()
        .unwrap()
        .iter()
        .find(|(id, _)| id.starts_with(kind))
        .map(|(_, grants)| grants.clone())
        .unwrap_or_default()
}

/// Sends a request as another client.
fn call(ctx: &Harness, method: &str, path: &str, body: &Value) -> Value {
    let request = http::Request::builder()
        .method(method)
        .uri(format!("http://127.0.0.1:1{path}"))
        .header("authorization", format!("Bearer {DATABRICKS_TOKEN}"))
        .body(body.to_string().into())
        .unwrap();
    match ctx.world(|world| world.answer(SimTime(0), &request)) {
        Reply::Answer(answer) => serde_json::from_slice(answer.body()).unwrap(),
        other @ Reply::Broken(..) => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn runs_act_as_whom_the_flag_says_and_without_it_as_before() {
    let ctx = prepared().await;
    let first = create(&ctx, &GRANTED).await;
    assert_eq!((first.exit, &first.data["run_as"]), (0, &json!(SERVICE)), "{first:?}");
    // The grants are written before the job.
    let writes = ["databricks:secrets/acls/put", "databricks:permissions/update", "databricks:jobs/create"];
    assert_eq!(ctx.take_writes(), writes);
    let job = only_job(&ctx);
    assert_eq!(job["settings"]["run_as"], json!({ "service_principal_name": SERVICE }));
    let acls = &ctx.world(|world| world.inspect())["scopes"]["dbt-cloud"]["acls"];
    assert_eq!(acls[SERVICE], "READ");
    for line in [&GRANTED[..], &AS_SERVICE, &JOB] {
        let again = create(&ctx, line).await;
        assert_eq!((again.exit, &again.data["result"]), (0, &json!("kept")), "{line:?} {again:?}");
        assert_eq!((ctx.take_writes(), warnings(&again).len()), (vec![], 0), "{line:?} {again:?}");
    }
    // Other updates do not send `run_as`, which would require an extra permission.
    assert_eq!(create(&ctx, &["--job", "222222", "--retries", "1"]).await.exit, 0);
    let sent = ctx.take_log().into_iter().find(|seen| seen.writes).unwrap();
    assert!(!sent.body.contains("run_as"), "{}", sent.body);
    assert_eq!(only_job(&ctx)["settings"]["run_as"], json!({ "service_principal_name": SERVICE }));
    let back = create(&ctx, &["--job", "222222", "--run-as", ANA]).await;
    assert_eq!((back.exit, ctx.take_writes()), (0, vec!["databricks:jobs/update"]), "{back:?}");
    assert!(back.text.contains(&format!("run_as: {SERVICE} -> {ANA} (from --run-as)")), "{}", back.text);
    assert_eq!(create(&ctx, &["--job", "222222", "--run-as", "Ana@Example.com"]).await.data["result"], "kept");
}

#[tokio::test(start_paused = true)]
async fn whom_an_operator_chose_is_no_edit_by_hand_and_is_checked_too() {
    let ctx = prepared().await;
    create(&ctx, &JOB).await;
    let job = only_job(&ctx);
    let bo = json!({ "run_as": { "user_name": "bo@example.com" } });
    ask(&ctx, "/api/2.2/jobs/update", &json!({ "job_id": job["job_id"], "new_settings": bo }));
    ctx.take_log();
    let outcome = create(&ctx, &JOB).await;
    assert_eq!((outcome.exit, outcome.code, ctx.take_writes()), (7, Some(Code::Refused), vec![]), "{outcome:?}");
    assert!(outcome.failure.contains("run-as identity bo@example.com"), "{}", outcome.failure);
    let outcome = create(&ctx, &["--job", "222222", "--grant-run-as"]).await;
    assert_eq!((outcome.exit, &outcome.data["result"]), (0, &json!("kept")), "{outcome:?}");
    assert_eq!(ctx.take_writes(), ["databricks:secrets/acls/put", "databricks:permissions/update"]);
    assert_eq!(create(&ctx, &JOB).await.exit, 0);
}

#[tokio::test(start_paused = true)]
async fn an_identity_that_may_not_read_what_it_needs_is_refused_with_the_commands_that_let_it() {
    let ctx = prepared().await;
    let outcome = create(&ctx, &AS_SERVICE).await;
    assert_eq!((outcome.exit, outcome.code, ctx.take_writes()), (7, Some(Code::Refused), vec![]), "{outcome:?}");
    for word in [
        "--grant-run-as",
        "the secret scope dbt-cloud and the notebook /Users/ana@example.com/dbtrigger/run_dbt_job_51234",
        &format!("init-secrets --scope dbt-cloud --key api-key --grant {SERVICE}:READ"),
        &format!(
            "deploy-notebook --notebook /Users/ana@example.com/dbtrigger/run_dbt_job_51234 --grant {SERVICE}:CAN_RUN"
        ),
    ] {
        assert!(outcome.failure.contains(word), "{word} in {}", outcome.failure);
    }
    // The suggested commands help.
    let scope = ["--scope", "dbt-cloud", "--key", "api-key", "--grant", &format!("{SERVICE}:READ")];
    assert_eq!(ctx.run(init_secrets::run, &scope).await.unwrap().exit, 0);
    let outcome = create(&ctx, &AS_SERVICE).await;
    assert!(outcome.exit == 7 && !outcome.failure.contains("the secret scope"), "{outcome:?}");
    let grant = format!("{SERVICE}:CAN_READ");
    assert_eq!(ctx.run(deploy_notebook::run, &["--grant", &grant]).await.unwrap().exit, 0);
    let outcome = create(&ctx, &AS_SERVICE).await;
    assert_eq!((outcome.exit, warnings(&outcome).len()), (0, 0), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn what_comes_through_a_group_counts_and_what_cannot_be_found_out_is_a_warning() {
    let ctx = prepared().await;
    ctx.world(|world| world.add_caller(SERVICE, "dapi-service", false, &["data-team"]));
    let outcome = create(&ctx.copy(), &AS_SERVICE).await;
    assert_eq!((outcome.exit, warnings(&outcome).len()), (0, 2), "{outcome:?}");
    let said = warnings(&outcome).join("\n");
    for word in
        ["can read the secret scope dbt-cloud", "can read the notebook", "may be members of one that can: admins"]
    {
        assert!(said.contains(word), "{said}");
    }
    // Its groups are unknown.
    for rule in ["status=403", "missing-field"] {
        let ctx = ctx.copy();
        let rule = format!("databricks:scim/service-principals={rule},times=forever");
        ctx.world(|world| world.add_fault(FaultRule::parse(&rule).unwrap()));
        let outcome = create(&ctx, &AS_SERVICE).await;
        assert!(outcome.exit == 0 && warnings(&outcome)[0].contains("group that can"), "{rule}: {outcome:?}");
    }
    // The readers of the notebook are unknown.
    let hidden = ctx.copy();
    let rule = "databricks:permissions/get=status=403,times=forever";
    hidden.world(|world| world.add_fault(FaultRule::parse(rule).unwrap()));
    let outcome = create(&hidden, &AS_SERVICE).await;
    assert!(outcome.exit == 0 && warnings(&outcome).join("\n").contains("permissions/get"), "{outcome:?}");
    // With `--grant-run-as` this is a failure.
    let outcome = create(&hidden, &GRANTED).await;
    assert!(outcome.exit == 4 && outcome.failure.contains("CAN_MANAGE"), "{outcome:?}");

    assert_eq!(ctx.run(init_secrets::run, &["--grant", "data-team:READ"]).await.unwrap().exit, 0);
    assert_eq!(ctx.run(deploy_notebook::run, &["--grant", "data-team"]).await.unwrap().exit, 0);
    ctx.take_log();
    let outcome = create(&ctx, &GRANTED).await;
    assert_eq!((outcome.exit, warnings(&outcome).len()), (0, 0), "{outcome:?}");
    assert_eq!(ctx.take_writes(), ["databricks:jobs/create"]);
}

#[tokio::test(start_paused = true)]
async fn administrators_may_read_everything() {
    let ctx = prepared().await;
    ctx.world(|world| world.add_caller("cy@example.com", "dapi-cy", true, &[]));
    let outcome = create(&ctx, &["--job", "222222", "--run-as", "cy@example.com"]).await;
    assert_eq!((outcome.exit, warnings(&outcome).len()), (0, 0), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn where_there_are_no_access_lists_everybody_may_read_and_nothing_is_said() {
    let ctx = prepared().await;
    for operation in ["permissions/get", "secrets/acls/list"] {
        let rule = format!("databricks:{operation}=status=501,times=forever");
        ctx.world(|world| world.add_fault(FaultRule::parse(&rule).unwrap()));
    }
    let outcome = create(&ctx, &["--job", "222222", "--run-as", SERVICE]).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    assert!(!outcome.said().contains("could not be found out"), "{}", outcome.said());
}

#[tokio::test(start_paused = true)]
async fn whom_runs_may_not_act_as_is_said_with_what_to_ask_for() {
    for (who, code, word) in [
        (OTHER_SERVICE, Code::NotAllowed, "the role Service Principal User"),
        ("gone@elsewhere.invalid", Code::NotFound, "check --run-as gone@elsewhere.invalid"),
    ] {
        let ctx = prepared().await;
        ctx.world(|world| world.add_caller(OTHER_SERVICE, "dapi-other-0123456789", false, &[]));
        let rule = "databricks:permissions/get=status=403,times=forever";
        ctx.world(|world| world.add_fault(FaultRule::parse(rule).unwrap()));
        ctx.world(|world| {
            world.add_fault(FaultRule::parse("databricks:secrets/acls/list=status=403,times=9").unwrap());
        });
        let outcome = create(&ctx, &["--job", "222222", "--run-as", who]).await;
        assert_eq!(outcome.code, Some(code), "{who}: {outcome:?}");
        assert!(outcome.failure.contains(word), "{}", outcome.failure);
        assert!(jobs(&ctx).is_empty());
    }
    // Only an admin can run as another user.
    let ctx = Harness::new();
    ctx.world(|world| world.add_caller("cy@example.com", "dapi-cy-0123456789", false, &[]));
    ctx.set("DATABRICKS_TOKEN", "dapi-cy-0123456789");
    assert_eq!(ctx.run(init_secrets::run, &[]).await.unwrap().exit, 0);
    assert_eq!(ctx.run(deploy_notebook::run, &[]).await.unwrap().exit, 0);
    let outcome = create(&ctx, &["--job", "222222", "--run-as", "bo@example.com", "--grant-run-as"]).await;
    assert!(outcome.exit == 4 && outcome.failure.contains("requires a workspace administrator"), "{outcome:?}");
    let wrong = create(&ctx, &["--job", "222222", "--run-as", "a\tb"]).await;
    assert!(wrong.exit == 2 && wrong.failure.contains("control character"), "{wrong:?}");
}

#[tokio::test(start_paused = true)]
async fn a_user_whose_name_is_no_mail_can_be_given_rights_and_runs() {
    let ctx = prepared().await;
    ctx.world(|world| world.add_caller("svc-bo", "dapi-svc-0123456789", false, &[]));
    let line = ["--job", "222222", "--run-as", "svc-bo", "--grant-run-as", "--grant", "svc-bo:CAN_VIEW"];
    let outcome = create(&ctx, &line).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    // A name without `@` may also be a group.
    let group = create(&ctx, &["--job", "222222", "--grant", "data-engineers:CAN_VIEW"]).await;
    assert_eq!(group.exit, 0, "{group:?}");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_only_the_runs_may_look_at_is_a_warning_and_nothing_is_given_to_whoever_asks() {
    let ctx = prepared().await;
    assert_eq!(create(&ctx, &GRANTED).await.exit, 0);
    ctx.world(|world| world.add_fault(FaultRule::parse("databricks:secrets/list=status=403,times=2").unwrap()));
    let outcome = create(&ctx, &JOB).await;
    assert!(outcome.exit == 0 && warnings(&outcome)[0].contains("cannot check whether the key exists"), "{outcome:?}");
    let mine = create(&ctx, &["--job", "222222", "--run-as", ANA]).await;
    assert_eq!(mine.code, Some(Code::NotAllowed), "{mine:?}");
    let mine = create(&ctx, &["--job", "222222", "--run-as", ANA, "--grant-run-as"]).await;
    assert!(mine.exit == 0 && mine.said().contains("has nothing to add"), "{mine:?}");
}

#[tokio::test(start_paused = true)]
async fn access_to_the_workflow_is_given_once_and_those_of_others_stay() {
    let ctx = prepared().await;
    let line = ["--job", "222222", "--grant", "data-team:CAN_MANAGE_RUN", "--grant", "bo@example.com:CAN_VIEW"];
    let first = create(&ctx, &line).await;
    assert_eq!(first.exit, 0, "{first:?}");
    let give = "databricks:permissions/update";
    assert_eq!(ctx.take_writes(), ["databricks:jobs/create", give, give]);
    assert_eq!(granted(&ctx, "jobs/"), json!({ "data-team": "CAN_MANAGE_RUN", "bo@example.com": "CAN_VIEW" }));
    for line in [&line[..], &["--job", "222222", "--grant", "data-team:CAN_VIEW"], &JOB] {
        assert_eq!((create(&ctx, line).await.exit, ctx.take_writes()), (0, vec![]), "{line:?}");
    }
    let id = only_job(&ctx)["job_id"].clone();
    let others = json!({ "access_control_list": [{ "group_name": "analysts", "permission_level": "CAN_VIEW" }] });
    call(&ctx, "PATCH", &format!("/api/2.0/permissions/jobs/{id}"), &others);
    let more =
        create(&ctx, &["--job", "222222", "--grant", "data-team:CAN_MANAGE", "--grant", &format!("{ANA}:CAN_VIEW")])
            .await;
    assert!(more.text.contains("CAN_MANAGE_RUN -> CAN_MANAGE (higher level requested)"), "{}", more.text);
    assert!(more.text.contains("is the owner"), "{}", more.text);
    assert_eq!(ctx.take_writes(), [give]);
    let all = json!({ "data-team": "CAN_MANAGE", "bo@example.com": "CAN_VIEW", "analysts": "CAN_VIEW" });
    assert_eq!(granted(&ctx, "jobs/"), all);

    let ctx = prepared().await;
    let own = create(&ctx, &["--job", "222222", "--grant", &format!("{ANA}:CAN_MANAGE")]).await;
    assert!(own.exit == 0 && own.text.contains("is the owner"), "{own:?}");
    assert_eq!(ctx.take_writes(), ["databricks:jobs/create"]);
}

#[tokio::test(start_paused = true)]
async fn a_level_that_somebody_gave_since_the_plan_is_not_lowered() {
    let ctx = prepared().await;
    assert_eq!(create(&ctx, &["--job", "222222", "--grant", "data-team:CAN_VIEW"]).await.exit, 0);
    assert_eq!(ctx.run(deploy_notebook::run, &["--grant", "data-team:CAN_READ"]).await.unwrap().exit, 0);
    let staged = ctx.ctx(AccountFlags::default(), Events::new(|_| {}));
    let databricks = credentials::databricks(&staged.context.environment, &staged.vault, &mut InputErrors::default());
    let writer = databricks_client(&databricks.unwrap(), &staged).unwrap();
    let none = Consents::default();
    let principal = "data-team".to_owned();
    let id = only_job(&ctx)["job_id"].as_u64().unwrap();
    let object = WorkflowJob { workflow: NAME.to_owned(), identity: Identity::of_name(NAME), job: Some(id) };
    let on_job = JobGrant { object, principal: principal.clone(), level: JobLevel::CanManageRun };
    let on_notebook = NotebookGrant {
        object: "/Users/ana@example.com/dbtrigger/run_dbt_job_51234".parse().unwrap(),
        principal: principal.clone(),
        level: NotebookLevel::CanRun,
    };
    let on_scope = GrantWant { scope: "dbt-cloud".parse().unwrap(), principal, permission: Permission::Read };
    let mut plan = Plan {
        refusals: Vec::new(),
        steps: vec![
            Planned::JobGrant(Step::<JobGrant>::plan(&writer, on_job, &none).await.unwrap()),
            Planned::NotebookGrant(Step::<NotebookGrant>::plan(&writer, on_notebook, &none).await.unwrap()),
            Planned::Grant(Step::<Grant>::plan(&writer, on_scope, &none).await.unwrap()),
        ],
    };
    assert!(plan.entries().iter().all(|entry| matches!(entry.action, Action::Create | Action::Update(_))));
    // Another client grants more in the meantime.
    let more = json!({ "access_control_list": [{ "group_name": "data-team", "permission_level": "CAN_MANAGE" }] });
    let notebook = ctx.world(|world| world.inspect())["grants"]
        .as_object()
        .unwrap()
        .keys()
        .find(|id| id.starts_with("notebooks/"))
        .unwrap()
        .clone();
    call(&ctx, "PATCH", &format!("/api/2.0/permissions/jobs/{id}"), &more);
    call(&ctx, "PATCH", &format!("/api/2.0/permissions/{notebook}"), &more);
    let acl = json!({ "scope": "dbt-cloud", "principal": "data-team", "permission": "MANAGE" });
    ask(&ctx, "/api/2.0/secrets/acls/put", &acl);
    apply(&writer, &mut plan, &Inputs::default(), &|_| ()).await.unwrap();
    assert_eq!(granted(&ctx, "jobs/"), json!({ "data-team": "CAN_MANAGE" }));
    assert_eq!(granted(&ctx, "notebooks/"), json!({ "data-team": "CAN_MANAGE" }));
    assert_eq!(ctx.world(|world| world.inspect())["scopes"]["dbt-cloud"]["acls"]["data-team"], "MANAGE");
}

#[tokio::test(start_paused = true)]
async fn access_that_cannot_be_given_says_why() {
    let ctx = prepared().await;
    let outcome = create(&ctx, &["--job", "222222", "--grant", "no-such-group:CAN_VIEW"]).await;
    assert_eq!(outcome.exit, 6, "{outcome:?}");
    assert!(outcome.failure.contains("check \\\"no-such-group\\\""), "{}", outcome.failure);
    ctx.world(|world| world.add_fault(FaultRule::parse("databricks:permissions/get=status=403").unwrap()));
    let outcome = create(&ctx, &["--job", "222222", "--grant", "data-team:CAN_VIEW"]).await;
    assert!(outcome.exit == 4 && outcome.failure.contains("requires CAN_MANAGE on the job"), "{outcome:?}");
    ctx.take_log();
    let everybody = create(&ctx, &["--job", "222222", "--grant", "users:CAN_MANAGE"]).await;
    assert_eq!((everybody.exit, ctx.take_writes().len()), (7, 0), "{everybody:?}");
}

#[tokio::test(start_paused = true)]
async fn without_access_lists_access_to_the_workflow_is_skipped_with_a_remark() {
    for premium in [false, true] {
        let ctx = prepared().await;
        if premium {
            for operation in ["get", "update"] {
                let rule = format!("databricks:permissions/{operation}=status=501,times=forever");
                ctx.world(|world| world.add_fault(FaultRule::parse(&rule).unwrap()));
            }
        } else {
            ctx.world(|world| world.set_premium(false));
        }
        let line = ["--job", "222222", "--grant", "data-team:CAN_VIEW"];
        for _ in 0..2 {
            let outcome = create(&ctx, &line).await;
            assert_eq!(outcome.exit, 0, "{outcome:?}");
            assert!(outcome.said().contains("no access control for jobs"), "{}", outcome.said());
        }
        assert_eq!(granted(&ctx, "jobs/"), json!({}));
    }
}

#[tokio::test(start_paused = true)]
#[ignore = "takes long; .ci/run runs it"]
async fn with_grants_it_survives_every_trouble_at_every_request() {
    let line = [&GRANTED[..], &["--grant", "data-team:CAN_MANAGE_RUN"]].concat();
    let base = prepared().await;
    let calm = base.copy();
    assert_eq!(create(&calm, &line).await.exit, 0);
    let requests = calm.take_log().len();
    let settings_and_grants = |ctx: &Harness| {
        let world = ctx.world(|world| world.inspect());
        (
            only_job(ctx)["settings"].clone(),
            world["scopes"]["dbt-cloud"]["acls"].clone(),
            granted(ctx, "jobs/"),
            granted(ctx, "notebooks/"),
        )
    };
    let whole = settings_and_grants(&calm);
    assert!(requests >= 15, "{requests}");
    for trouble in InjectedFault::REPEATABLE {
        for index in 0..requests {
            let ctx = base.copy();
            ctx.inject_fault(index, trouble);
            if let Some(first) = ctx.run(super::super::run, &line).await {
                assert_eq!(first.exit, 0, "{trouble:?} at {index}: {first:?}");
            }
            assert_eq!(create(&ctx, &line).await.exit, 0, "{trouble:?} at {index}");
            assert_eq!(settings_and_grants(&ctx), whole, "{trouble:?} at {index}");
            ctx.take_log();
            create(&ctx, &line).await;
            assert_eq!(ctx.take_writes(), [""; 0], "{trouble:?} at {index}");
        }
    }
}
