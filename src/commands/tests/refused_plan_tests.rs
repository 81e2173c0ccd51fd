//! Every refusal is in the plan: a dry run shows it and succeeds, a real run is refused and writes nothing.

use serde_json::{Value, json};

use crate::commands::tests::harness::{Harness, Outcome};
use crate::commands::{create_workflow, deploy_notebook, init_secrets, setup};
use crate::failure::Code;

const NOTEBOOK: &str = "/Users/ana@example.com/dbtrigger/run_dbt_job_51234";
const FOREIGN: &str = "/Users/ana@example.com/foreign";
const SERVICE: &str = "0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d11";

/// What is done before, in order.
enum Before {
    Secret(&'static [&'static str]),
    Notebook(&'static [&'static str]),
    /// Someone else's notebook at this path.
    ForeignNotebook(&'static str),
    Workflow,
    /// Someone else edits the workflow.
    Edit,
    /// Someone else's job with one task.
    ForeignJob(&'static str),
    /// This dbt job is deleted.
    Deleted(i64),
}
use Before::{Deleted, Edit, ForeignJob, ForeignNotebook, Notebook, Secret, Workflow};

impl Before {
    async fn happen(&self, ctx: &Harness) {
        let outcome = match self {
            Secret(line) => ctx.run(init_secrets::run, line).await,
            Notebook(line) => ctx.run(deploy_notebook::run, line).await,
            Workflow => ctx.run(create_workflow::run, &["--job", "222222"]).await,
            ForeignNotebook(path) => {
                let import = json!({ "path": path, "format": "SOURCE", "language": "PYTHON",
                    "content": "IyBEYXRhYnJpY2tzIG5vdGVib29rIHNvdXJjZQo=", "overwrite": true });
                ctx.post("/api/2.0/workspace/mkdirs", &json!({ "path": "/Users/ana@example.com/dbtrigger" }));
                ctx.post("/api/2.0/workspace/import", &import);
                return;
            }
            Edit => {
                let job = ctx.world(|world| world.inspect())["jobs"][0].clone();
                let mut settings = job["settings"].clone();
                settings["tasks"][0]["disable_auto_optimization"] = false.into();
                ctx.post("/api/2.2/jobs/reset", &json!({ "job_id": job["job_id"], "new_settings": settings }));
                return;
            }
            ForeignJob(name) => {
                let task =
                    json!({ "task_key": "load", "notebook_task": { "notebook_path": "/x", "source": "WORKSPACE" } });
                ctx.post("/api/2.2/jobs/create", &json!({ "name": name, "tasks": [task] }));
                return;
            }
            Deleted(job) => {
                ctx.world(|world| world.script_dbt_job(*job, &json!({ "job": { "state": 2 } })));
                return;
            }
        };
        assert_eq!(outcome.map(|outcome| outcome.exit), Some(0));
    }
}

#[derive(Clone, Copy)]
enum Command {
    Init,
    Deploy,
    Create,
    SetUp,
}
use Command::{Create, Deploy, Init, SetUp};

impl Command {
    async fn run(self, ctx: &Harness, line: &[&str]) -> Outcome {
        match self {
            Init => ctx.run(init_secrets::run, line).await,
            Deploy => ctx.run(deploy_notebook::run, line).await,
            Create => ctx.run(create_workflow::run, line).await,
            SetUp => ctx.run(setup::run, line).await,
        }
        .expect("nobody kills it")
    }
}

const JOB: [&str; 2] = ["--job", "222222"];
const ADD: [&str; 4] = ["--job", "222222", "--add-to", "Daily load"];
const READY: &[Before] = &[Secret(&[]), Notebook(&[])];
const HOSTED: &[Before] = &[Secret(&[]), Notebook(&[]), ForeignJob("Daily load")];
const AS_SERVICE: &[&str] = &["--run-as", SERVICE];

/// What happened before, the command, its flags besides the job, and the refused entries: kind and start of the name.
type Row = (&'static [Before], Command, &'static [&'static str], &'static [(&'static str, &'static str)]);

const NO_NOTEBOOK: (&str, &str) = ("notebook", NOTEBOOK);
const KEY: (&str, &str) = ("secret", "dbt-cloud/api-key");
const WORKFLOW: (&str, &str) = ("workflow", "dbt: Nightly build (222222)");
const TASK: (&str, &str) = ("task", "dbt_222222 in job ");
const EVERYBODY_CHANGES: (&str, &str) = ("workflow grant", "CAN_MANAGE on \"dbt: Nightly build (222222)\" for users");
const EVERYBODY_READS: (&str, &str) = ("grant", "READ on dbt-cloud for users");

const ROWS: &[Row] = &[
    (&[Secret(&[])], Create, &[], &[NO_NOTEBOOK]),
    (&[Secret(&[]), ForeignNotebook(FOREIGN)], Create, &["--notebook", FOREIGN], &[("notebook", FOREIGN)]),
    (&[Secret(&[]), Notebook(&["--allow-job", "222225"])], Create, &[], &[NO_NOTEBOOK]),
    (READY, Create, &["--override", "git_branch=main"], &[("override", "git_branch")]),
    (&[Notebook(&[])], Create, &[], &[KEY]),
    (&[Secret(&["--key", "other"]), Notebook(&[])], Create, &[], &[KEY]),
    (READY, Create, AS_SERVICE, &[("run-as identity", SERVICE)]),
    (READY, Create, &["--unpaused"], &[WORKFLOW]),
    (READY, Create, &["--timezone", "Europe/Berlin"], &[WORKFLOW]),
    (READY, Create, &["--grant", "users:CAN_MANAGE"], &[EVERYBODY_CHANGES]),
    (READY, Create, &["--unpaused", "--grant", "users:CAN_MANAGE"], &[WORKFLOW, EVERYBODY_CHANGES]),
    (&[Secret(&[])], Create, &["--grant", "users:CAN_MANAGE"], &[NO_NOTEBOOK, EVERYBODY_CHANGES]),
    (
        &[Notebook(&["--allow-job", "222225"])],
        Create,
        &["--override", "git_branch=main"],
        &[NO_NOTEBOOK, ("override", "git_branch"), KEY],
    ),
    (READY, Create, &["--compute", "cluster:none"], &[("cluster", "none")]),
    (READY, Create, &["--compute", "cluster:0103-120000-jobrun03"], &[("cluster", "0103-120000-jobrun03")]),
    (READY, Create, &["--compute", "new:m9.huge"], &[("node type", "m9.huge")]),
    (READY, Create, &["--compute", "new", "--policy", "X"], &[("cluster policy", "X")]),
    (READY, Create, &["--compute", "job-cluster:small"], &[WORKFLOW]),
    (&[Secret(&[]), Notebook(&[]), Deleted(222_222)], Create, &[], &[("dbt job", "222222")]),
    (
        &[Secret(&[]), Notebook(&[]), Workflow, Edit],
        Create,
        &["--compute", "cluster:none", "--override", "git_branch=main", "--run-as", SERVICE],
        &[("cluster", "none"), ("override", "git_branch"), ("run-as identity", SERVICE), WORKFLOW],
    ),
    (
        &[ForeignJob("dbt: Nightly build (222222)")],
        Create,
        &["--compute", "cluster:none"],
        &[("cluster", "none"), NO_NOTEBOOK, WORKFLOW],
    ),
    (&[Secret(&[]), ForeignJob("Daily load")], Create, &ADD, &[NO_NOTEBOOK]),
    (HOSTED, Create, &["--add-to", "Daily load", "--override", "git_branch=main"], &[("override", "git_branch")]),
    (HOSTED, Create, &["--add-to", "Daily load", "--compute", "cluster:none"], &[("cluster", "none")]),
    (&[Notebook(&[]), ForeignJob("Daily load")], Create, &["--add-to", "Daily load"], &[KEY]),
    (HOSTED, Create, &["--add-to", "Daily load", "--depends-on", "dbt_222222=lode"], &[TASK]),
    (&[Secret(&[]), ForeignNotebook(NOTEBOOK)], Deploy, &[], &[NO_NOTEBOOK]),
    (
        &[],
        Deploy,
        &["--grant", "users:CAN_EDIT"],
        &[("notebook grant", "CAN_EDIT on /Users/ana@example.com/dbtrigger/run_dbt_job_51234 for users")],
    ),
    (&[], Init, &["--grant", "users"], &[EVERYBODY_READS]),
    (&[], SetUp, &["-y", "--grant", "users"], &[EVERYBODY_READS]),
    (&[], SetUp, &["-y", "--paused"], &[WORKFLOW]),
    (
        &[Secret(&["--grant", "data-engineers"])],
        Init,
        &["--rotate", "--key", "second"],
        &[("secret", "dbt-cloud/second")],
    ),
    (&[], SetUp, &["-y", "--compute", "cluster:none"], &[("cluster", "none")]),
    (&[Deleted(222_222)], SetUp, &["-y"], &[("dbt job", "222222")]),
    (&[ForeignNotebook(NOTEBOOK)], SetUp, &["-y"], &[NO_NOTEBOOK]),
    (&[Secret(&[]), Notebook(&["--allow-job", "222225"])], SetUp, &["-y"], &[NO_NOTEBOOK]),
    (
        &[ForeignNotebook(NOTEBOOK), Deleted(222_222)],
        SetUp,
        &["-y", "--compute", "cluster:none"],
        &[("dbt job", "222222"), ("cluster", "none"), NO_NOTEBOOK],
    ),
];

/// Whether these entries are refused, and no others.
fn are(outcome: &Outcome, entries: &[(&str, &str)]) -> bool {
    let steps = outcome.data["steps"].as_array().into_iter().flatten();
    let blocked: Vec<&Value> = steps.filter(|step| step["action"] == "blocked").collect();
    let is = |(step, (kind, name)): (&&Value, &(&str, &str))| {
        step["kind"] == *kind && step["name"].as_str().is_some_and(|text| text.starts_with(name))
    };
    blocked.len() == entries.len() && blocked.iter().zip(entries).all(is)
}

/// Whether the failure has each refusal's sentence.
fn names_all(failure: &Value, outcome: &Outcome) -> bool {
    let text = failure.to_string();
    let steps = outcome.data["steps"].as_array().into_iter().flatten();
    let mut reasons = steps.filter_map(|step| step["reason"].as_str());
    reasons.all(|reason| text.contains(json!(reason).to_string().trim_matches('"')))
}

#[expect(clippy::print_stdout, reason = "the figure")]
#[tokio::test(start_paused = true)]
async fn each_refusal_is_in_the_plan_and_nothing_of_a_refused_plan_is_written() {
    let (mut good, mut total, mut wrong) = (0, 0, Vec::new());
    for (before, command, flags, entries) in ROWS {
        let ctx = Harness::new();
        for before in *before {
            before.happen(&ctx).await;
        }
        ctx.take_log();
        let line = match command {
            Create | SetUp if !flags.contains(&"--job") => [&JOB[..], flags].concat(),
            Create | SetUp | Init | Deploy => flags.to_vec(),
        };
        let dry = command.run(&ctx, &[&line[..], &["--dry-run"]].concat()).await;
        let real = command.run(&ctx, &line).await;
        let writes = ctx.take_writes();
        let shown = &dry.data["refused"];
        let is_dry = dry.exit == 0 && dry.code.is_none() && shown["code"] == "refused" && names_all(shown, &dry);
        let failure = serde_json::from_str(&real.failure).unwrap_or_else(|_| json!(real.failure));
        let is_real = (real.exit, real.code) == (7, Some(Code::Refused)) && names_all(&failure, &real);
        total += entries.len();
        if is_dry && is_real && are(&dry, entries) && are(&real, entries) && writes.is_empty() {
            good += entries.len();
        } else {
            wrong.push(format!("{line:?}: {writes:?}\n  dry: {dry:?}\n  real: {real:?}"));
        }
    }
    println!("refusals in the plan: {good} of {total}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_refused_for_several_reasons_says_them_all() {
    const SHARED: &str = "/Shared/run";
    type Case = (&'static [Before], Command, Vec<&'static str>, &'static [&'static str]);
    let cases: [Case; 3] = [
        (
            &[Secret(&[]), Notebook(&[]), Workflow, Edit],
            Create,
            vec!["--job", "222222", "--unpaused"],
            &["has no schedule", "edited by hand", "--force"],
        ),
        (
            HOSTED,
            Create,
            [&ADD[..], &["--compute", "job-cluster:small", "--depends-on", "dbt_222222=lode"]].concat(),
            &["no job cluster small", "no task lode"],
        ),
        (&[ForeignNotebook(SHARED)], Deploy, vec!["--notebook", SHARED], &["--accept-shared-path", "--adopt"]),
    ];
    for (before, command, line, words) in cases {
        let ctx = Harness::new();
        for before in before {
            before.happen(&ctx).await;
        }
        let dry = command.run(&ctx, &[&line[..], &["--dry-run"]].concat()).await;
        let real = command.run(&ctx, &line).await;
        let (shown, failure) = (dry.data["refused"].to_string(), &real.failure);
        assert!(words.iter().all(|word| shown.contains(word) && failure.contains(word)), "{dry:?}\n{real:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_edited_workflow_keeps_the_notebook_that_it_runs() {
    const TEAM: &str = "/Users/ana@example.com/team/run";
    let ctx = Harness::new();
    Secret(&[]).happen(&ctx).await;
    Notebook(&["--notebook", TEAM]).happen(&ctx).await;
    let created = ctx.run(create_workflow::run, &["--job", "222222", "--notebook", TEAM]).await.unwrap();
    assert_eq!(created.exit, 0, "{created:?}");
    Edit.happen(&ctx).await;
    let refused = ctx.run(create_workflow::run, &["--job", "222222"]).await.unwrap();
    let steps = refused.data["steps"].as_array().unwrap();
    assert_eq!((refused.exit, steps.len(), &steps[0]["kind"]), (7, 1, &"workflow".into()), "{refused:?}");
    let forced = ctx.run(create_workflow::run, &["--job", "222222", "--force"]).await.unwrap();
    assert_eq!(forced.exit, 0, "{forced:?}");
    let job = ctx.world(|world| world.inspect())["jobs"][0].clone();
    assert_eq!(job["settings"]["tasks"][0]["notebook_task"]["notebook_path"], TEAM);
}

#[tokio::test(start_paused = true)]
async fn setup_asks_for_no_key_that_a_refused_plan_would_not_store() {
    let ctx = Harness::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "dbtc_rejected-0123456789").unwrap();
    let key = file.path().to_str().unwrap();
    let line = ["--job", "222222", "--compute", "cluster:none", "--token-file", key, "-y"];
    let refused = ctx.run(setup::run, &line).await.unwrap();
    assert_eq!((refused.exit, refused.code), (7, Some(Code::Refused)), "{refused:?}");
}
