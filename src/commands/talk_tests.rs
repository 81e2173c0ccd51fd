//! Questions with scripted answers, against the world in memory.

use std::cell::RefCell;
use std::collections::VecDeque;

use zeroize::Zeroizing;

use super::rehearsal::{DATABRICKS_TOKEN, DBT_TOKEN, Rehearsal};
use super::talk::{Instead, answer};
use super::{Stage, line_to_dbt};
use crate::credentials::{AccountFlags, Wants};
use crate::events::Events;
use crate::failure::{Code, Failure};
use crate::questions::{Asking, Open, Question, Questioner, Unanswered};

/// Gives these answers one after the other: what is typed, or a part of what is chosen.
struct Scripted(RefCell<VecDeque<Result<&'static str, Unanswered>>>);

impl Scripted {
    fn of<const N: usize>(answers: [&'static str; N]) -> Scripted {
        Scripted(RefCell::new(answers.into_iter().map(Ok).collect()))
    }

    fn next(&self, prompt: &str) -> Result<&'static str, Unanswered> {
        self.0.borrow_mut().pop_front().unwrap_or_else(|| panic!("nobody expects the question: {prompt}"))
    }
}

impl Questioner for Scripted {
    fn text<'a>(&'a self, prompt: &'a str) -> Asking<'a, String> {
        Box::pin(async move { self.next(prompt).map(ToOwned::to_owned) })
    }

    fn secret<'a>(&'a self, prompt: &'a str) -> Asking<'a, Zeroizing<String>> {
        Box::pin(async move { self.next(prompt).map(|text| Zeroizing::new(text.to_owned())) })
    }

    fn choose<'a>(&'a self, prompt: &'a str, items: &'a [String]) -> Asking<'a, usize> {
        Box::pin(async move {
            let part = self.next(prompt)?;
            Ok(items.iter().position(|item| item.contains(part)).unwrap_or_else(|| panic!("{part}: {items:?}")))
        })
    }
}

async fn asked(world: &Rehearsal, questions: &[Question], script: &Scripted) -> (Result<Vec<Instead>, Failure>, Stage) {
    let mut stage = world.stage(AccountFlags::default(), Events::new(|_| ()));
    let open = Open { questions: questions.to_vec(), pasted: Vec::new() };
    let answered = answer(&open, &mut stage, script).await;
    assert!(script.0.borrow().is_empty(), "questions were left out");
    (answered, stage)
}

#[tokio::test(start_paused = true)]
async fn a_job_is_chosen_with_what_its_list_takes_and_is_named_as_it_was_narrowed() {
    let world = Rehearsal::new();
    world.set("DBT_CLOUD_TOKEN", "");
    let job =
        |flag, project: Option<&str>| Question::DbtJob { flag, project: project.map(str::to_owned), environment: None };
    let script = Scripted::of([DBT_TOKEN, "222222"]);
    let (instead, stage) = asked(&world, &[job(Some("--job"), None)], &script).await;
    let token = Instead::Variable("DBT_CLOUD_TOKEN", None);
    assert_eq!(instead.unwrap(), [token.clone(), Instead::Flag("--job", "222222".to_owned())]);
    assert_eq!(stage.talk.job, Some(222_222));
    assert_eq!(line_to_dbt(&[], Wants::default(), &stage).map(|(account, _)| account.id), Ok(51_234));
    // An id and a flag that narrows names do not go together; the name does.
    let script = Scripted::of([DBT_TOKEN, "222222"]);
    let (instead, _) = asked(&world, &[job(None, Some("Jaffle Shop"))], &script).await;
    assert_eq!(instead.unwrap(), [token, Instead::Argument("Nightly build".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_token_is_asked_for_again() {
    let world = Rehearsal::new();
    world.set("DBT_CLOUD_TOKEN", "");
    let script = Scripted::of(["two words", DBT_TOKEN]);
    let (instead, _) = asked(&world, &[Question::DbtToken], &script).await;
    assert_eq!(instead.unwrap(), [Instead::Variable("DBT_CLOUD_TOKEN", None)]);
}

#[tokio::test(start_paused = true)]
async fn a_key_of_another_account_is_not_asked_for_again() {
    let world = Rehearsal::new();
    for name in ["DBT_CLOUD_TOKEN", "DBT_CLOUD_ACCOUNT_ID"] {
        world.set(name, "");
    }
    let script = Scripted::of(["7", DBT_TOKEN]);
    let (answered, stage) = asked(&world, &[Question::DbtAccount, Question::DbtKey { tried: true }], &script).await;
    assert_eq!(answered.unwrap_err().code, Code::NotFound);
    assert!(stage.vault.kept("DBT_CLOUD_TOKEN").is_none());
    // Nobody wants it to be tried: any token will do.
    let script = Scripted::of(["dbtc_never-tried-0123"]);
    let (answered, stage) = asked(&world, &[Question::DbtKey { tried: false }], &script).await;
    assert_eq!(answered.unwrap(), [Instead::Variable("DBT_CLOUD_TOKEN", None)]);
    assert_eq!(stage.vault.kept("DBT_CLOUD_TOKEN").unwrap().reveal(), "dbtc_never-tried-0123");
}

#[tokio::test(start_paused = true)]
async fn a_terminal_that_cannot_be_used_is_said_with_the_way_around_it() {
    let broken = Scripted(RefCell::new([Err(Unanswered::Broken("gone".to_owned()))].into()));
    let (answered, _) = asked(&Rehearsal::new(), &[Question::DbtHost], &broken).await;
    let failure = answered.unwrap_err();
    assert_eq!((failure.code, failure.causes.as_slice()), (Code::Failed, ["gone".to_owned()].as_slice()));
    assert!(format!("{:?}", failure.hints).contains("--no-input"), "{failure:?}");
}

#[tokio::test(start_paused = true)]
async fn a_token_to_store_is_tried_at_the_workspace_that_it_is_for() {
    let world = Rehearsal::new();
    world.set("DATABRICKS_TOKEN", "");
    let host = Some("http://127.0.0.1:1/?o=4242".to_owned());
    let (answered, _) = asked(&world, &[Question::DatabricksToken { host }], &Scripted::of([DATABRICKS_TOKEN])).await;
    answered.unwrap();
    let named: Vec<Option<String>> = world.take_log().into_iter().map(|seen| seen.workspace).collect();
    assert_eq!(named, [Some("4242".to_owned())]);
}
