//! Prompts with scripted answers, against the in-memory sandbox.

use crate::commands::shared::prompts::{Instead, answer};
use crate::commands::tests::harness::{DATABRICKS_TOKEN, DBT_TOKEN, Harness};
use crate::commands::tests::person::{Answer, Person};
use crate::commands::{CommandContext, connect_dbt};
use crate::credentials::{AccountFlags, InputErrors};
use crate::events::Events;
use crate::failure::{Code, Failure};
use crate::questions::{OpenQuestions, Question, Unanswered};

async fn asked(
    world: &Harness,
    questions: &[Question],
    answers: &[Answer],
) -> (Result<Vec<Instead>, Failure>, CommandContext) {
    let mut ctx = world.ctx(AccountFlags::default(), Events::new(|_| ()));
    let open = OpenQuestions { questions: questions.to_vec(), pasted: Vec::new(), tried: 0 };
    let person = Person::of(answers);
    let answered = answer(&open, &mut ctx, &*person).await;
    assert!(person.answers.borrow().is_empty(), "questions were left out");
    let instead = ctx.prompts.answers.borrow().instead.clone();
    (answered.map(|()| instead), ctx)
}

#[tokio::test(start_paused = true)]
async fn a_job_is_chosen_with_what_its_list_takes_and_is_named_as_it_was_narrowed() {
    let world = Harness::new();
    world.set("DBT_CLOUD_TOKEN", "");
    let job =
        |flag, project: Option<&str>| Question::DbtJob { flag, project: project.map(str::to_owned), environment: None };
    let script = [Ok(DBT_TOKEN), Ok("222222")];
    let (instead, ctx) = asked(&world, &[job(Some("--job"), None)], &script).await;
    let token = Instead::Variable("DBT_CLOUD_TOKEN", None);
    assert_eq!(instead.unwrap(), [token.clone(), Instead::Flag("--job", "222222".to_owned())]);
    assert_eq!(ctx.prompts.job, Some(222_222));
    assert_eq!(connect_dbt(&[], InputErrors::default(), &ctx).map(|(account, _)| account.id), Ok(51_234));
    // A filter flag cannot be combined with an ID, but with a name.
    let script = [Ok(DBT_TOKEN), Ok("222222")];
    let (instead, _) = asked(&world, &[job(None, Some("Jaffle Shop"))], &script).await;
    assert_eq!(instead.unwrap(), [token, Instead::Argument("Nightly build".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_token_is_asked_for_again() {
    let world = Harness::new();
    world.set("DBT_CLOUD_TOKEN", "");
    let script = [Ok("two words"), Ok(DBT_TOKEN)];
    let (instead, _) = asked(&world, &[Question::DbtToken], &script).await;
    assert_eq!(instead.unwrap(), [Instead::Variable("DBT_CLOUD_TOKEN", None)]);
}

/// Asks for a job, without account and token in the environment.
async fn addressed(world: &Harness, answers: &[&'static str]) -> (Result<Vec<Instead>, Failure>, CommandContext) {
    for name in ["DBT_CLOUD_HOST", "DBT_CLOUD_TOKEN", "DBT_CLOUD_ACCOUNT_ID"] {
        world.set(name, "");
    }
    let questions = [
        Question::DbtHost,
        Question::DbtAccount,
        Question::DbtKey { tried: true, unless_stored: None },
        Question::DbtJob { flag: Some("--job"), project: None, environment: None },
    ];
    let script = answers.iter().copied().map(Ok).collect::<Vec<Answer>>();
    asked(world, &questions, &script).await
}

#[tokio::test(start_paused = true)]
#[expect(clippy::print_stdout, reason = "the line is what the test is for")]
async fn the_address_of_the_job_or_what_is_known_of_it_leads_to_account_and_job() {
    const HOST: &str = "http://127.0.0.1:1";
    const ADDRESS: &str = "http://127.0.0.1:1/deploy/51234/projects/111111/jobs/222222";
    let rows: &[&[&'static str]] = &[
        &[ADDRESS, DBT_TOKEN],
        // A URL of the account, and a job from the list.
        &["http://127.0.0.1:1/deploy/51234/projects/111111", DBT_TOKEN, "222222"],
        // Only a host: the account is known from the key.
        &[HOST, DBT_TOKEN, "222222"],
        &["222222", HOST, DBT_TOKEN],
        &["Nightly build", HOST, DBT_TOKEN],
        // Mistakes, each corrected without losing earlier answers.
        &["dbtc_Typed-in-the-wrong-place", "login.dbt.com/x", ADDRESS, DBT_TOKEN],
        &["https://dbt.example.org/deploy/51234/jobs/222222", "n", ADDRESS, DBT_TOKEN],
        &["http://127.0.0.1:1/deploy/7/jobs/222222", DBT_TOKEN, "y"],
        &["http://127.0.0.1:1/deploy/51234/jobs/999", DBT_TOKEN, "222222"],
        &["Nightly biuld", HOST, DBT_TOKEN, "222222"],
        &[ADDRESS, "dbtc_a-token-of-somebody-else", DBT_TOKEN],
    ];
    for answers in rows {
        let (instead, ctx) = addressed(&Harness::new(), answers).await;
        let instead = instead.unwrap_or_else(|failure| panic!("{answers:?}: {failure:?}"));
        assert_eq!(ctx.prompts.job, Some(222_222), "{answers:?}");
        for flag in [("--dbt-host", HOST), ("--dbt-account", "51234"), ("--job", "222222")] {
            let given = instead.iter().filter(|given| **given == Instead::Flag(flag.0, flag.1.to_owned())).count();
            assert_eq!(given, 1, "{flag:?} after {answers:?}: {instead:?}");
        }
        assert_eq!(instead.len(), 4, "{answers:?}: {instead:?}");
    }
    println!("addresses of jobs: {0} of {0}", rows.len());
}

#[tokio::test(start_paused = true)]
async fn no_other_account_than_the_one_named_is_used_without_consent() {
    let (answered, ctx) =
        addressed(&Harness::new(), &["http://127.0.0.1:1/deploy/7/jobs/222222", DBT_TOKEN, "n"]).await;
    assert_eq!(answered.unwrap_err().code, Code::NotFound);
    assert_eq!(ctx.prompts.job, None);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_not_tried_is_taken_as_typed() {
    let world = Harness::new();
    world.set("DBT_CLOUD_TOKEN", "");
    let script = [Ok("dbtc_never-tried-0123")];
    let (answered, ctx) = asked(&world, &[Question::DbtKey { tried: false, unless_stored: None }], &script).await;
    assert_eq!(answered.unwrap(), [Instead::Variable("DBT_CLOUD_TOKEN", None)]);
    assert_eq!(ctx.vault.kept("DBT_CLOUD_TOKEN").unwrap().reveal(), "dbtc_never-tried-0123");
}

#[tokio::test(start_paused = true)]
async fn a_terminal_that_cannot_be_used_is_said_with_the_way_around_it() {
    let broken = [Err(Unanswered::Broken("gone".to_owned()))];
    let world = Harness::new();
    world.set("DBT_CLOUD_HOST", "");
    let (answered, _) = asked(&world, &[Question::DbtHost], &broken).await;
    let failure = answered.unwrap_err();
    assert_eq!((failure.code, failure.causes.as_slice()), (Code::Failed, ["gone".to_owned()].as_slice()));
    assert!(format!("{:?}", failure.hints).contains("--no-input"), "{failure:?}");
}

#[tokio::test(start_paused = true)]
async fn a_token_to_store_is_tried_at_the_workspace_that_it_is_for() {
    let world = Harness::new();
    world.set("DATABRICKS_TOKEN", "");
    let host = Some("http://127.0.0.1:1/?o=4242".to_owned());
    let (answered, _) = asked(&world, &[Question::DatabricksToken { host }], &[Ok(DATABRICKS_TOKEN)]).await;
    answered.unwrap();
    let named: Vec<Option<String>> = world.take_log().into_iter().map(|seen| seen.workspace).collect();
    assert_eq!(named, [Some("4242".to_owned())]);
}
