//! What the kinds ask and write, request by request, and what becomes of each answer.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use http::{Request, Response};
use serde_json::{Value, json};

use super::access::{kind_of, manages};
use super::grant::{Access, GrantHave};
use super::tests::none;
use super::workflow::tests::{made, want as workflow_want};
use super::*;
use crate::context::Wall;
use crate::databricks::jobs::{self, Job, Summary};
use crate::databricks::permissions::{JobLevel, NotebookLevel, Principal, job_permissions};
use crate::databricks::secrets::Permission;
use crate::databricks::workspace;
use crate::engine::plan::failed;
use crate::engine::{Action, Inputs, Kind, Plan, Planned, Progress, RaceOutcome, Removal, Step, apply as apply_plan};
use crate::failure::{Code, Failure, Hint};
use crate::http::{Idempotent, Lane, Limits, Pending, Transport, Writer};

const SCOPES: &str = "GET /api/2.0/secrets/scopes/list";
const KEYS: &str = "GET /api/2.0/secrets/list";
const ACLS: &str = "GET /api/2.0/secrets/acls/list";
const PUT_ACL: &str = "POST /api/2.0/secrets/acls/put";
const JOB_ACCESS: &str = "GET /api/2.0/permissions/jobs/7";
const GRANT_ON_JOB: &str = "PATCH /api/2.0/permissions/jobs/7";
const STATUS: &str = "GET /api/2.0/workspace/get-status";
const FOLDER: &str = "GET /api/2.0/workspace/list";
const DELETE_FOLDER: &str = "POST /api/2.0/workspace/delete";
const JOBS: &str = "GET /api/2.2/jobs/list";
const JOB: &str = "GET /api/2.2/jobs/get";
const DELETE_JOB: &str = "POST /api/2.2/jobs/delete";
const RUNS: &str = "GET /api/2.2/jobs/runs/list";
const USERS: &str = "GET /api/2.0/preview/scim/v2/Users";

const ANA: &str = "ana@example.com";

type Answer = (u16, Value);

fn ok(body: Value) -> Answer {
    (200, body)
}

fn error(status: u16, code: &str) -> Answer {
    (status, json!({ "error_code": code, "message": "as the test says" }))
}

fn no_acls() -> Answer {
    error(400, "FEATURE_DISABLED")
}

fn denied() -> Answer {
    error(403, "PERMISSION_DENIED")
}

fn gone() -> Answer {
    error(404, "RESOURCE_DOES_NOT_EXIST")
}

/// Gives the answers to each kind of request in order, and then repeats the last one. Any other request is a failure
/// of the test.
struct Script {
    left: RefCell<BTreeMap<&'static str, Vec<Answer>>>,
    asked: RefCell<Vec<String>>,
}

impl Script {
    fn count(&self, request: &str) -> usize {
        self.asked.borrow().iter().filter(|asked| *asked == request).count()
    }
}

impl Transport for Script {
    fn send(&self, request: Request<Bytes>, _: Limits, _: Lane) -> Pending<'_> {
        let asked = format!("{} {}", request.method(), request.uri().path());
        let mut left = self.left.borrow_mut();
        let answers = left.get_mut(asked.as_str()).unwrap_or_else(|| panic!("nobody expects {asked}"));
        let (status, body) = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        self.asked.borrow_mut().push(asked);
        let answer = Response::builder().status(status).body(Bytes::from(body.to_string())).unwrap();
        Box::pin(async move { Ok(answer) })
    }
}

fn service<const N: usize>(answers: [(&'static str, Vec<Answer>); N]) -> (Writer, Rc<Script>) {
    let script = Rc::new(Script { left: RefCell::new(answers.into()), asked: RefCell::default() });
    let wall = Wall::of(|| jiff::Timestamp::UNIX_EPOCH);
    let writer = Writer::over(script.clone(), crate::databricks::parse_error, wall);
    (writer, script)
}

/// Applies one step, and returns what became of it, as the action and the progress.
async fn applied(writer: &Writer, step: Planned) -> (Result<(), Failure>, Action, Progress) {
    let mut plan = Plan { refusals: Vec::new(), steps: vec![step] };
    let result = apply_plan(writer, &mut plan, &Inputs::default(), &|_| {}).await;
    let entry = plan.entries().remove(0);
    (result, entry.action, entry.progress)
}

fn advice(failure: &Failure) -> String {
    let all = failure.hints.iter().filter_map(|hint| match hint {
        Hint::Do(advice) => Some(advice.as_str()),
        Hint::Run { .. } | Hint::Anyway { .. } | Hint::Add(_) | Hint::Against(_) => None,
    });
    all.collect::<Vec<_>>().join("; ")
}

fn acls(all: &[(&str, &str)]) -> Answer {
    let items = all.iter().map(|(principal, permission)| json!({ "principal": principal, "permission": permission }));
    ok(json!({ "items": items.collect::<Vec<_>>() }))
}

fn access(all: &[(&str, &str)]) -> Answer {
    let entry = |(principal, level): &(&str, &str)| json!({ Principal::of(principal).field(): principal, "all_permissions": [{ "permission_level": level }] });
    ok(json!({ "access_control_list": all.iter().map(entry).collect::<Vec<_>>() }))
}

fn grant(permission: Permission) -> GrantWant {
    GrantWant { scope: "dbt-cloud".parse().unwrap(), principal: ANA.to_owned(), permission }
}

fn job_grant(job: Option<u64>) -> JobGrant {
    let WorkflowWant { name, identity, .. } = workflow_want();
    let object = WorkflowJob { workflow: name, identity, job };
    JobGrant { object, principal: ANA.to_owned(), level: JobLevel::CanManageRun }
}

#[tokio::test(start_paused = true)]
async fn a_refused_grant_on_a_scope_is_needless_only_where_a_second_read_shows_no_acls() {
    for (put, second, expected) in [
        (no_acls(), acls(&[("users", "MANAGE")]), Ok("every user")),
        (no_acls(), no_acls(), Ok("no access control for secrets")),
        (no_acls(), acls(&[(ANA, "READ")]), Err((Code::Failed, ""))),
        (no_acls(), acls(&[]), Err((Code::Failed, ""))),
        (no_acls(), denied(), Err((Code::Failed, ""))),
        (denied(), acls(&[("users", "MANAGE")]), Err((Code::NotAllowed, "requires MANAGE on secret scope dbt-cloud"))),
    ] {
        let case = format!("{put:?}, {second:?}");
        let (writer, script) = service([(ACLS, vec![acls(&[]), second]), (PUT_ACL, vec![put])]);
        let step = Planned::Grant(Step::settled(grant(Permission::Read), Action::Create));
        let (result, action, progress) = applied(&writer, step).await;
        assert_eq!(script.count(PUT_ACL), 1, "{case}");
        match expected {
            Ok(note) => {
                let Action::Keep(Some(kept)) = action else { panic!("{case}: {action:?}") };
                assert!(result.is_ok() && kept.to_string().contains(note), "{case}: {kept}");
            }
            Err((_, says)) => {
                let failure = result.unwrap_err();
                assert!(failure.what.starts_with("cannot create grant"), "{case}: {}", failure.what);
                assert!(advice(&failure).contains(says), "{case}: {}", advice(&failure));
                assert_eq!(progress, Progress::Failed, "{case}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_grant_on_a_job_is_needless_only_where_a_second_read_shows_no_acls() {
    let nobody = || access(&[]);
    for (patch, second, expected) in [
        (no_acls(), no_acls(), Ok("no access control for jobs")),
        (no_acls(), nobody(), Err("")),
        (no_acls(), denied(), Err("")),
        (denied(), no_acls(), Err("requires CAN_MANAGE on the job")),
        (gone(), nobody(), Err("check \"ana@example.com\"")),
    ] {
        let case = format!("{patch:?}, {second:?}");
        let (writer, _) = service([(JOB_ACCESS, vec![nobody(), nobody(), second]), (GRANT_ON_JOB, vec![patch])]);
        let step = Step::plan(&writer, job_grant(Some(7)), &none()).await.unwrap();
        let (result, action, progress) = applied(&writer, Planned::JobGrant(step)).await;
        match expected {
            Ok(note) => {
                let Action::Keep(Some(kept)) = action else { panic!("{case}: {action:?}") };
                assert!(result.is_ok() && kept.to_string().contains(note), "{case}: {kept}");
            }
            Err(says) => {
                let failure = result.unwrap_err();
                assert!(failure.what.starts_with("cannot create workflow grant"), "{case}: {}", failure.what);
                assert!(advice(&failure).contains(says), "{case}: {}", advice(&failure));
                assert_eq!(progress, Progress::Failed, "{case}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_access_list_that_cannot_be_read_in_full_counts_only_if_it_names_the_principal() {
    let unreadable = json!({ "principal": ["odd"] });
    let named = json!({ "principal": ANA, "permission": "READ" });
    for (items, reads) in [(json!([unreadable, named]), true), (json!([unreadable]), false), (json!([]), true)] {
        let (writer, _) = service([(ACLS, vec![ok(json!({ "items": items }))])]);
        assert_eq!(Grant::observe(&writer, &grant(Permission::Read)).await.is_ok(), reads, "{items}");
    }
    let unreadable = json!({ "all_permissions": [{ "permission_level": "CAN_VIEW" }] });
    let named = json!({ "user_name": ANA, "all_permissions": [{ "permission_level": "CAN_VIEW" }] });
    for (list, reads) in [(json!([unreadable, named]), true), (json!([unreadable]), false), (json!([]), true)] {
        let (writer, _) = service([(JOB_ACCESS, vec![ok(json!({ "access_control_list": list }))])]);
        assert_eq!(JobGrant::observe(&writer, &job_grant(Some(7))).await.is_ok(), reads, "{list}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_is_absent_only_if_the_service_says_so() {
    for (answer, expected) in [(gone(), Some(true)), (denied(), None), (no_acls(), Some(false))] {
        let (writer, _) = service([(ACLS, vec![answer.clone()]), (JOB_ACCESS, vec![answer.clone()])]);
        let found = Grant::observe(&writer, &grant(Permission::Read)).await;
        assert_eq!(found.ok().map(|found| found.is_none()), expected, "{answer:?}");
        let found = JobGrant::observe(&writer, &job_grant(Some(7))).await;
        assert_eq!(found.ok().map(|found| found.is_none()), expected, "{answer:?}");
    }
    let object = "/Users/ana@example.com/run".parse().unwrap();
    let want = NotebookGrant { object, principal: ANA.to_owned(), level: NotebookLevel::CanRun };
    for answer in [gone(), ok(json!({ "object_type": "DIRECTORY", "object_id": 7 }))] {
        let (writer, _) = service([(STATUS, vec![answer])]);
        assert_eq!(NotebookGrant::observe(&writer, &want).await.unwrap(), None);
    }
    let (writer, _) = service([(STATUS, vec![denied()])]);
    let failure = Step::<NotebookGrant>::plan(&writer, want, &none()).await.map(|_| ()).unwrap_err();
    assert!(advice(&failure).contains("CAN_MANAGE on /Users/ana@example.com/run"), "{}", advice(&failure));
}

#[test]
fn a_grant_that_reads_back_lower_differs() {
    let have = |access: Access| Some(GrantHave { access, principals: std::collections::BTreeSet::new() });
    let step = Step::<Grant>::settled(grant(Permission::Write), Action::Create);
    for (now, shows) in [
        (None, false),
        (have(Access::Nothing), false),
        (have(Access::Level("READ".to_owned())), false),
        (have(Access::Level("WRITE".to_owned())), true),
        (have(Access::Level("MANAGE".to_owned())), true),
        (have(Access::Level("FANCY_NEW".to_owned())), true),
        (have(Access::NoAcls), true),
    ] {
        assert_eq!(Grant::differences(&step, now.as_ref()).is_empty(), shows, "{now:?}");
    }
}

/// The failure of a write that is refused with this answer.
async fn refused<K: Kind>(want: &K::Want, write: Idempotent<()>, path: &'static str, answer: Answer) -> Failure {
    let (writer, _) = service([(path, vec![answer])]);
    let error = writer.put_once(write).await.unwrap_err();
    failed::<K>("remove", want, &error)
}

#[tokio::test(start_paused = true)]
async fn a_refused_removal_names_the_right_that_it_takes_only_if_that_is_missing() {
    let path: workspace::NotebookPath = "/Users/ana@example.com/run".parse().unwrap();
    let me = ANA.to_owned();
    let task = TaskRemovalWant { workflow: 7, workflow_name: "Daily".to_owned(), keys: Vec::new(), me: me.clone() };
    let notebook =
        NotebookRemovalWant { path: path.clone(), leaving: std::collections::BTreeSet::new(), me: me.clone() };
    let workflow = WorkflowRemovalWant { job: 7, name: "Daily".to_owned(), named: true, twins: Vec::new(), me };
    for (answer, is_denied) in [(denied(), true), (error(400, "INVALID_STATE"), false), (gone(), false)] {
        let code = |failure: &Failure| failure.code == Code::NotAllowed;
        let update = jobs::update(7, &jobs::Update::default());
        let failure = refused::<TaskRemoval>(&task, update, "POST /api/2.2/jobs/update", answer.clone()).await;
        assert_eq!((code(&failure), advice(&failure).contains("changing job 7 takes")), (is_denied, is_denied));
        let failure = refused::<WorkflowRemoval>(&workflow, jobs::delete(7), DELETE_JOB, answer.clone()).await;
        assert_eq!((code(&failure), advice(&failure).contains("deleting a job takes")), (is_denied, is_denied));
        let delete = workspace::delete(&path);
        let failure = refused::<NotebookRemoval>(&notebook, delete, DELETE_FOLDER, answer).await;
        assert_eq!((code(&failure), advice(&failure).contains("deleting a notebook takes")), (is_denied, is_denied));
    }
    // Another request was refused.
    let delete = || jobs::delete(7);
    let failure = refused::<TaskRemoval>(&task, delete(), DELETE_JOB, denied()).await;
    assert!(!advice(&failure).contains("takes CAN_MANAGE"), "{}", advice(&failure));
    let failure = refused::<NotebookRemoval>(&notebook, delete(), DELETE_JOB, denied()).await;
    assert!(!advice(&failure).contains("takes CAN_MANAGE"), "{}", advice(&failure));
    let update = jobs::update(7, &jobs::Update::default());
    let failure = refused::<WorkflowRemoval>(&workflow, update, "POST /api/2.2/jobs/update", denied()).await;
    assert!(!advice(&failure).contains("takes CAN_MANAGE"), "{}", advice(&failure));
}

#[tokio::test(start_paused = true)]
async fn a_folder_is_removed_if_it_is_empty_and_one_that_is_gone_is_done() {
    let want = || FolderRemovalWant {
        path: "/Users/ana@example.com/dbtrigger".parse().unwrap(),
        leaving: vec!["/Users/ana@example.com/dbtrigger/a".parse().unwrap()],
    };
    let inside = |name: &str| {
        ok(json!({ "objects": [{ "path": format!("/Workspace/Users/ana@example.com/dbtrigger/{name}") }] }))
    };
    let empty = || ok(json!({}));
    for (answer, then, expected) in [
        (ok(json!({})), gone(), Ok(())),
        (gone(), gone(), Ok(())),
        (denied(), empty(), Err(Code::NotAllowed)),
        (error(400, "DIRECTORY_NOT_EMPTY"), inside("b"), Err(Code::ChangedMeanwhile)),
    ] {
        let case = format!("{answer:?}");
        // What leaves before it may still be listed.
        let (writer, script) = service([(FOLDER, vec![inside("a"), inside("a"), then]), (DELETE_FOLDER, vec![answer])]);
        let step = Step::<FolderRemoval>::plan(&writer, want(), &none()).await.unwrap();
        assert_eq!(step.action, Action::Remove);
        let (result, _, progress) = applied(&writer, Planned::Removal(Removal::Folder(step))).await;
        assert_eq!(result.as_ref().map_err(|failure| failure.code), expected.as_ref().map_err(|code| *code), "{case}");
        assert_eq!(progress, if expected.is_ok() { Progress::Done } else { Progress::Failed }, "{case}");
        assert_eq!(script.count(DELETE_FOLDER), 1, "{case}");
    }
    let (writer, _) = service([(FOLDER, vec![inside("b")])]);
    let kept = Step::<FolderRemoval>::plan(&writer, want(), &none()).await.unwrap();
    let Action::Keep(Some(note)) = kept.action else { panic!("{:?}", kept.action) };
    assert!(note.to_string().ends_with("not empty: /Workspace/Users/ana@example.com/dbtrigger/b"), "{note}");
    let (writer, _) = service([(FOLDER, vec![denied()])]);
    let failure = Step::<FolderRemoval>::plan(&writer, want(), &none()).await.map(|_| ()).unwrap_err();
    assert!(failure.what.contains("/Users/ana@example.com/dbtrigger"), "{}", failure.what);
}

fn scopes(names: &[&str]) -> Answer {
    let scopes = names.iter().map(|name| json!({ "name": name, "backend_type": "DATABRICKS" }));
    ok(json!({ "scopes": scopes.collect::<Vec<_>>() }))
}

fn keys(names: &[&str]) -> Answer {
    let keys = names.iter().map(|name| json!({ "key": name, "last_updated_timestamp": 1 }));
    ok(json!({ "secrets": keys.collect::<Vec<_>>() }))
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_still_listed_after_its_removal_is_read_until_it_is_gone() {
    let want = || SecretRemovalWant {
        scope: "dbt-cloud".parse().unwrap(),
        key: "api-key".parse().unwrap(),
        wanted: true,
        needed_by: Vec::new(),
    };
    let there = || keys(&["api-key", "other"]);
    let deleted = || ok(json!({}));
    for (name, answer, listed, expected, reads) in [
        ("late", deleted(), vec![there(), there(), there(), there(), keys(&["other"])], Ok(()), Some(5)),
        ("with its scope", deleted(), vec![there(), there(), gone()], Ok(()), Some(3)),
        ("gone before", gone(), vec![there(), there(), keys(&[])], Ok(()), Some(3)),
        ("never", deleted(), vec![there()], Err("reads back differently"), None),
        ("refused", denied(), vec![there()], Err("cannot remove secret dbt-cloud/api-key"), Some(2)),
        (
            "changed",
            deleted(),
            vec![there(), ok(json!({ "secrets": [{ "key": "api-key" }] }))],
            Err("changed"),
            Some(2),
        ),
        ("gone meanwhile", deleted(), vec![there(), keys(&[])], Ok(()), Some(2)),
    ] {
        let (writer, script) = service([
            (SCOPES, vec![scopes(&["dbt-cloud"])]),
            (KEYS, listed),
            ("POST /api/2.0/secrets/delete", vec![answer]),
        ]);
        let step = Step::<SecretRemoval>::plan(&writer, want(), &none()).await.unwrap();
        assert_eq!(step.action, Action::Remove, "{name}");
        let (result, _, _) = applied(&writer, Planned::Removal(Removal::Secret(step))).await;
        match expected {
            Ok(()) => assert_eq!(result, Ok(()), "{name}"),
            Err(says) => {
                let failure = result.unwrap_err();
                assert!(failure.what.contains(says), "{name}: {}", failure.what);
                assert_eq!(advice(&failure).contains("takes WRITE"), name == "refused", "{name}");
            }
        }
        assert!(reads.is_none_or(|reads| script.count(KEYS) == reads), "{name}: {} reads", script.count(KEYS));
    }
    for (answer, hides) in [(denied(), Some(true)), (gone(), Some(false)), (error(400, "INVALID_STATE"), None)] {
        let (writer, _) = service([(SCOPES, vec![scopes(&["dbt-cloud"])]), (KEYS, vec![answer.clone()])]);
        let found = SecretRemoval::observe(&writer, &want()).await;
        assert_eq!(found.ok().map(|found| found.is_some()), hides, "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_scope_is_removed_once_its_keys_are_no_longer_listed_and_only_if_nobody_else_has_access() {
    let want = || ScopeRemovalWant {
        scope: "dbt-cloud".parse().unwrap(),
        wanted: true,
        leaving: vec!["api-key".parse().unwrap()],
        me: ANA.to_owned(),
    };
    let (there, empty) = (|| keys(&["api-key"]), || keys(&[]));
    let own = || acls(&[("Ana@example.com", "MANAGE"), ("admins", "MANAGE")]);
    let delete = "POST /api/2.0/secrets/scopes/delete";
    for (name, listed, seen, expected, deletes) in [
        ("late key", vec![there(), there(), there(), empty()], own(), Ok(()), 1),
        ("no key", vec![empty()], own(), Ok(()), 1),
        ("a key that never leaves", vec![there()], own(), Err(Code::ChangedMeanwhile), 0),
        ("another key", vec![there(), keys(&["other"])], own(), Err(Code::ChangedMeanwhile), 0),
        (
            "another reader",
            vec![there(), empty()],
            acls(&[(ANA, "MANAGE"), ("data", "READ")]),
            Err(Code::ChangedMeanwhile),
            0,
        ),
        (
            "no MANAGE",
            vec![there(), empty()],
            acls(&[(ANA, "WRITE"), ("admins", "MANAGE")]),
            Err(Code::ChangedMeanwhile),
            0,
        ),
    ] {
        // Listed twice more after it was deleted.
        let scope = || scopes(&["dbt-cloud"]);
        let before = if name == "late key" { 4 } else { 2 };
        let shown = std::iter::repeat_with(scope).take(before + 2).chain([scopes(&[])]).collect();
        let shown = if deletes == 1 { shown } else { vec![scope()] };
        let (writer, script) =
            service([(SCOPES, shown), (KEYS, listed), (ACLS, vec![own(), seen]), (delete, vec![ok(json!({}))])]);
        let step = Step::<ScopeRemoval>::plan(&writer, want(), &none()).await.unwrap();
        assert_eq!(step.action, Action::Remove, "{name}");
        let (result, _, _) = applied(&writer, Planned::Removal(Removal::Scope(step))).await;
        assert_eq!(result.map_err(|failure| failure.code), expected, "{name}");
        assert_eq!(script.count(delete), deletes, "{name}");
        if deletes == 1 {
            assert_eq!(script.count(SCOPES), before + 3, "{name}");
        }
    }
    for (answer, found) in [(denied(), Some(true)), (gone(), Some(false)), (error(400, "INVALID_STATE"), None)] {
        let (writer, _) =
            service([(SCOPES, vec![scopes(&["dbt-cloud"])]), (KEYS, vec![answer.clone()]), (ACLS, vec![own()])]);
        let seen = ScopeRemoval::observe(&writer, &want()).await;
        assert_eq!(seen.ok().map(|seen| seen.is_some()), found, "{answer:?}");
    }
    let (writer, _) = service([
        (SCOPES, vec![scopes(&["dbt-cloud"])]),
        (KEYS, vec![empty()]),
        (ACLS, vec![own()]),
        (delete, vec![denied()]),
    ]);
    let step = Step::<ScopeRemoval>::plan(&writer, want(), &none()).await.unwrap();
    let failure = applied(&writer, Planned::Removal(Removal::Scope(step))).await.0.unwrap_err();
    assert!(failure.what.starts_with("cannot remove secret scope dbt-cloud"), "{}", failure.what);
    assert!(advice(&failure).contains("takes MANAGE on the secret scope dbt-cloud"), "{}", advice(&failure));
}

#[tokio::test(start_paused = true)]
async fn of_several_jobs_made_at_once_only_the_first_stays_and_only_one_that_never_ran_is_deleted() {
    use CreatedJob::{Created, Deleted};
    use RaceOutcome::{NotYet, Ours, Theirs};
    let idle = || ok(json!({}));
    let ran = || ok(json!({ "runs": [{ "run_id": 3, "job_id": 8 }] }));
    let unexpected = || error(500, "UNEXPECTED");
    for (ours, created, runs, delete, expected, then, deletes) in [
        (vec![8], CreatedJob::None, unexpected(), unexpected(), Some(Ours), CreatedJob::None, 0),
        (vec![9, 8], CreatedJob::None, unexpected(), unexpected(), Some(Ours), CreatedJob::None, 0),
        (vec![], Created(8), unexpected(), unexpected(), Some(Ours), Created(8), 0),
        (vec![8], Created(8), unexpected(), unexpected(), Some(Ours), Created(8), 0),
        (vec![8, 9], Created(8), unexpected(), unexpected(), Some(NotYet), Created(8), 0),
        (vec![9], Created(8), unexpected(), unexpected(), Some(NotYet), Created(8), 0),
        (vec![9, 8], Created(8), idle(), ok(json!({})), Some(NotYet), Deleted(8), 1),
        (vec![9, 8], Created(8), idle(), gone(), Some(NotYet), Deleted(8), 1),
        (vec![9, 8], Created(8), idle(), denied(), None, Created(8), 1),
        (vec![9, 8], Created(8), ran(), unexpected(), Some(NotYet), Created(8), 0),
        (vec![9, 8], Deleted(8), unexpected(), unexpected(), Some(NotYet), Deleted(8), 0),
        (vec![9], Deleted(8), unexpected(), unexpected(), Some(Theirs), Deleted(8), 0),
    ] {
        let case = format!("{ours:?}, {created:?}, {runs:?}, {delete:?}");
        let (writer, script) = service([(RUNS, vec![runs]), (DELETE_JOB, vec![delete])]);
        let summary = |id| Summary { id, name: String::new(), tags: BTreeMap::new(), created: None };
        let job = Job { id: 8, run_as: None, settings: serde_json::from_str("{}").unwrap() };
        let ours = ours.into_iter().map(summary).collect();
        let mut step = Step::<Workflow>::settled(workflow_want(), Action::Create);
        step.now = Some(WorkflowHave { ours, namesakes: Vec::new(), job, created_job: created });
        let outcome = Workflow::resolve_race(&writer, &mut step).await;
        assert_eq!(outcome.ok(), expected, "{case}");
        assert_eq!(step.now.unwrap().created_job, then, "{case}");
        assert_eq!(script.count(DELETE_JOB), deletes, "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_jobs_with_one_mark_the_oldest_is_first_then_the_one_with_the_lowest_id() {
    let want = workflow_want();
    let settings = made(&want);
    let job = |id: u64, created: i64| json!({ "job_id": id, "created_time": created, "settings": { "name": settings["name"], "tags": settings["tags"] } });
    let listed = |jobs: &[Value]| ok(json!({ "jobs": jobs }));
    let got = || ok(json!({ "job_id": 9, "settings": settings }));
    let three = || listed(&[job(8, 7), job(7, 7), job(9, 5)]);
    let one = || listed(&[job(9, 5)]);
    let absent = || listed(&[]);
    // The IDs found, and how often the job was read; `None`: any number of times.
    for (name, lists, gets, expected, reads) in [
        ("they stay", vec![three()], vec![got()], Some(vec![9, 7, 8]), None),
        ("all but one vanish", vec![three(), three(), one()], vec![got()], Some(vec![9]), Some(3)),
        ("one", vec![one()], vec![got()], Some(vec![9]), Some(1)),
        ("just made", vec![one()], vec![gone(), gone(), got()], Some(vec![9]), Some(3)),
        ("just deleted", vec![one(), one(), absent()], vec![gone()], Some(vec![]), Some(2)),
        ("listed for ever", vec![one()], vec![gone()], None, None),
        ("hidden", vec![one()], vec![denied()], None, Some(1)),
    ] {
        let (writer, script) = service([(JOBS, lists), (JOB, gets)]);
        let begun = tokio::time::Instant::now();
        let found = find_workflow(&writer, &want.name, &want.identity, JobsAhead::default()).await;
        let ids = |have: WorkflowHave| have.ours.iter().map(|job| job.id).collect::<Vec<_>>();
        assert_eq!(found.ok().map(|found| found.map(ids).unwrap_or_default()), expected, "{name}");
        assert!(reads.is_none_or(|reads| script.count(JOB) == reads), "{name}: {} reads", script.count(JOB));
        let took = begun.elapsed().as_secs();
        match name {
            "they stay" => assert!((2..5).contains(&took), "{took}"),
            "listed for ever" => assert!((30..36).contains(&took), "{took}"),
            _ => assert!(took < 2, "{name}: {took}"),
        }
    }
    let (writer, _) = service([(JOBS, vec![three()]), ("GET /api/2.0/permissions/jobs/9", vec![no_acls()])]);
    assert!(JobGrant::observe(&writer, &job_grant(None)).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_job_is_managed_by_its_owner_by_those_who_may_and_by_their_groups() {
    let groups = |names: &[&str]| {
        let groups: Vec<Value> = names.iter().map(|name| json!({ "display": name })).collect();
        ok(json!({ "Resources": [{ "groups": groups }] }))
    };
    let (alone, admin) = (|| groups(&["data"]), || groups(&["data", "admins"]));
    let bo = "bo@example.com";
    for (listed, groups, expected) in [
        (access(&[(ANA, "CAN_MANAGE"), (bo, "IS_OWNER")]), alone(), Some(true)),
        (access(&[("Ana@Example.com", "IS_OWNER")]), alone(), Some(true)),
        (access(&[(ANA, "FANCY_NEW")]), alone(), Some(true)),
        (access(&[(bo, "IS_OWNER"), (ANA, "CAN_MANAGE_RUN")]), alone(), Some(false)),
        (access(&[(bo, "IS_OWNER"), (ANA, "CAN_EDIT")]), alone(), Some(false)),
        (access(&[(bo, "IS_OWNER"), ("admins", "CAN_MANAGE")]), alone(), Some(false)),
        (access(&[(bo, "IS_OWNER"), ("admins", "CAN_MANAGE")]), admin(), Some(true)),
        (access(&[(bo, "IS_OWNER"), ("platform", "CAN_MANAGE")]), alone(), Some(true)),
        (access(&[(bo, "IS_OWNER"), ("platform", "CAN_VIEW")]), alone(), Some(false)),
        (access(&[(bo, "IS_OWNER")]), denied(), Some(true)),
        (denied(), admin(), Some(false)),
        (no_acls(), alone(), Some(true)),
        (gone(), alone(), Some(true)),
        (error(400, "INVALID_STATE"), alone(), None),
    ] {
        let case = format!("{listed:?}, {groups:?}");
        let (writer, _) = service([(JOB_ACCESS, vec![listed]), (USERS, vec![groups])]);
        let listed = writer.read(job_permissions(7)).await;
        assert_eq!(manages(&writer, ANA, listed).await.ok(), expected, "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_without_an_at_sign_is_a_group_unless_a_user_has_it() {
    for (answer, expected) in [
        (ok(json!({ "Resources": [{ "userName": "Data" }] })), Principal::User),
        (ok(json!({ "Resources": [{ "userName": "data2" }] })), Principal::Group),
        (ok(json!({ "Resources": [] })), Principal::Group),
        (denied(), Principal::Group),
    ] {
        let (writer, _) = service([(USERS, vec![answer.clone()])]);
        assert_eq!(kind_of(&writer, "data").await, expected, "{answer:?}");
    }
}
