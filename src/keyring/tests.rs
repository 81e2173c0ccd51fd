use super::double::{Double, Mood};
use super::*;

fn dbt(account: u64) -> Owner {
    Owner::Dbt { host: "https://ab123.us1.dbt.com".to_owned(), account }
}

fn workspace() -> Owner {
    Owner::Databricks { host: "https://w.cloud.databricks.com".to_owned(), workspace: None }
}

#[tokio::test]
async fn tokens_are_kept_side_by_side_replaced_and_removed() {
    let double = Double::new(Mood::Good);
    let keyring = double.keyring();
    assert_eq!(keyring.open().await, Ok(vec![]));
    for (owner, token, before) in
        [(dbt(2), "dbtc_two", false), (dbt(1), "dbtc_one", false), (workspace(), "dapi", false), (dbt(2), "new", true)]
    {
        assert_eq!(keyring.keep(&owner, token).await, Ok(before), "{owner}");
    }
    let fresh = double.keyring();
    assert_eq!(fresh.logins(), Ok(vec![dbt(1), dbt(2), workspace()]));
    assert_eq!(fresh.token(&dbt(2)), Ok(Some(UncheckedSecret::from("new".to_owned()))));
    assert_eq!(fresh.token(&dbt(3)), Ok(None));
    for owner in [dbt(1), dbt(2), dbt(2), workspace()] {
        assert!(fresh.remove(&owner).await.is_ok());
        assert_eq!(fresh.token(&owner), Ok(None));
        assert_eq!(fresh.unlist(&[owner]).await, Ok(()));
    }
    assert_eq!(fresh.logins(), Ok(vec![]));
    assert_eq!(double.entries.lock().unwrap().len(), 0);
}

#[test]
fn nothing_is_read_before_it_is_wanted_nor_twice() {
    let double = Double::holding(&[(dbt(1), "one")]);
    let keyring = double.keyring();
    assert!(double.calls.lock().unwrap().is_empty());
    for _ in 0..2 {
        keyring.token(&dbt(1)).unwrap();
        keyring.logins().unwrap();
    }
    assert_eq!(*double.calls.lock().unwrap(), ["read dbt https://ab123.us1.dbt.com 1", "read logins"]);
}

#[tokio::test]
async fn one_that_hangs_is_waited_for_once_and_every_call_ends() {
    let double = Double::new(Mood::Hangs);
    let keyring = double.keyring();
    let timed_out = KeyringError::TimedOut(Duration::from_millis(20));
    assert_eq!(keyring.logins(), Err(timed_out.clone()));
    assert_eq!(keyring.token(&dbt(1)), Err(timed_out.clone()));
    assert_eq!(double.calls.lock().unwrap().len(), 1);
    assert!(timed_out.to_string().contains("did not respond within 0.02 s"), "{timed_out}");
}

#[test]
fn one_that_hangs_ends_a_login_and_the_runtime_too() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let keyring = Double::new(Mood::Hangs).keyring();
    let timed_out = KeyringError::TimedOut(Duration::from_millis(20));
    runtime.block_on(async {
        assert_eq!(keyring.open().await, Err(timed_out.clone()));
        assert_eq!(keyring.keep(&dbt(1), "dbtc_one").await, Err(timed_out.clone()));
        assert_eq!(keyring.remove(&dbt(1)).await, Err(timed_out.clone()));
    });
    runtime.shutdown_background();
}

#[tokio::test]
async fn what_is_not_given_back_as_it_was_is_not_called_stored() {
    let garbled = Double::new(Mood::Garbles).keyring().keep(&dbt(1), "dbtc_one").await.unwrap_err();
    assert!(
        matches!(&garbled, KeyringError::Corrupt { entry: _, why } if why.contains("it returned a different token than was stored")),
        "{garbled}"
    );
    let double = Double::new(Mood::Clings);
    double.keyring().keep(&dbt(1), "dbtc_one").await.unwrap();
    let clings = double.keyring().remove(&dbt(1)).await.unwrap_err();
    assert!(matches!(&clings, KeyringError::Corrupt { entry: _, why } if why.contains("still exists")), "{clings}");
}

#[tokio::test]
async fn a_refusal_and_a_closed_keyring_keep_their_words() {
    let locked = KeyringError::Locked("no prompt".to_owned());
    let keyring = Double::new(Mood::Refuses(locked.clone())).keyring();
    assert_eq!(keyring.logins(), Err(locked.clone()));
    assert_eq!(keyring.keep(&dbt(1), "x").await, Err(locked));
    let closed = Keyring::closed("CI");
    assert_eq!(closed.token(&dbt(1)), Err(KeyringError::Closed("CI")));
    assert_eq!(closed.open().await.unwrap_err().to_string(), "the keyring is not used: CI is set");
}

#[test]
fn an_entry_of_another_form_is_refused_without_any_of_its_text() {
    for (text, says) in [
        (r#"{"version":2,"token":"dbtc_secret"}"#, "format 2"),
        (r#"{"version":1,"tokens":"dbtc_secret"}"#, "did not write it"),
        ("dbtc_secret", "did not write it"),
    ] {
        let double = Double::new(Mood::Good);
        double.put(&dbt(1).entry(), text);
        let trouble = double.keyring().token(&dbt(1)).unwrap_err();
        assert!(trouble.hides() && trouble.to_string().contains(says), "{trouble}");
        assert!(!trouble.to_string().contains("secret"), "{trouble}");
    }
}

fn failed() -> KeyringError {
    KeyringError::Failed("full".to_owned())
}

#[tokio::test]
async fn a_login_that_fails_half_way_leaves_no_token_that_no_list_names() {
    for (call, listed) in [("write logins", vec![]), ("write dbt", vec![])] {
        let double = Double::new(Mood::RefusesTo(call, failed()));
        assert_eq!(double.keyring().keep(&dbt(1), "dbtc_one").await, Err(failed()), "{call}");
        double.becomes(Mood::Good);
        assert_eq!(double.keyring().logins(), Ok(listed), "{call}");
        assert_eq!(double.keyring().token(&dbt(1)), Ok(None), "{call}");
    }
    // An existing token stays, and stays listed.
    let double = Double::holding(&[(dbt(1), "dbtc_old")]);
    double.becomes(Mood::RefusesTo("write dbt", failed()));
    assert_eq!(double.keyring().keep(&dbt(1), "dbtc_one").await, Err(failed()));
    double.becomes(Mood::Good);
    assert_eq!(double.keyring().logins(), Ok(vec![dbt(1)]));
    assert_eq!(double.keyring().token(&dbt(1)), Ok(Some(UncheckedSecret::from("dbtc_old".to_owned()))));
}

#[tokio::test]
async fn a_process_that_ends_within_a_login_leaves_no_token_that_no_list_names() {
    let double = Double::new(Mood::Good);
    double.keyring().keep(&dbt(1), "dbtc_one").await.unwrap();
    let calls = double.calls.lock().unwrap().clone();
    let at = |call: &str| calls.iter().position(|made| made.starts_with(call)).unwrap();
    assert!(at("write logins") < at("write dbt"), "{calls:?}");
}

#[tokio::test]
async fn a_damaged_list_is_begun_anew_by_a_login_and_a_newer_one_is_left_alone() {
    let newer = r#"{"version":2,"logins":[]}"#;
    for text in ["junk", r#"{"version":0,"logins":[]}"#, r#"{"version":1,"logins":7}"#] {
        let double = Double::new(Mood::Good);
        double.put(INDEX, text);
        assert!(matches!(double.keyring().logins(), Err(KeyringError::Corrupt { entry, why: _ }) if entry == INDEX));
        assert_eq!(double.keyring().keep(&dbt(1), "dbtc_one").await, Ok(false), "{text}");
        assert_eq!(double.keyring().logins(), Ok(vec![dbt(1)]));
    }
    let double = Double::new(Mood::Good);
    double.put(INDEX, newer);
    let trouble = double.keyring().keep(&dbt(1), "dbtc_one").await.unwrap_err();
    assert_eq!(trouble, KeyringError::Newer { entry: INDEX.to_owned(), form: 2 });
    assert!(trouble.remedy().unwrap().contains("dbtrigger"), "{:?}", trouble.remedy());
    assert_eq!(*double.entries.lock().unwrap(), [(INDEX.to_owned(), newer.to_owned())].into());
}

#[test]
fn all_reading_of_a_command_has_one_limit() {
    let double = Double::holding(&[(dbt(1), "one"), (dbt(2), "two")]);
    // Two of these exceed the minute available.
    double.becomes(Mood::Takes(Duration::from_secs(40)));
    let keyring = double.keyring();
    assert_eq!(keyring.logins(), Ok(vec![dbt(1), dbt(2)]));
    assert!(keyring.token(&dbt(1)).is_ok());
    assert_eq!(keyring.token(&dbt(2)), Err(KeyringError::TimedOut(Duration::from_mins(1))));
    assert_eq!(double.calls.lock().unwrap().len(), 2);
    assert!(keyring.token(&dbt(1)).is_ok(), "what was read is known");
}

#[test]
fn a_workspace_has_an_entry_of_its_own_and_older_entries_stay_readable() {
    let of = |workspace: Option<&str>| Owner::Databricks {
        host: "https://w.cloud.databricks.com".to_owned(),
        workspace: workspace.map(ToOwned::to_owned),
    };
    assert_eq!(of(Some("42")).entry(), "databricks https://w.cloud.databricks.com 42");
    let double = Double::new(Mood::Good);
    let older = r#"{"version":1,"logins":[{"service":"databricks","host":"https://w.cloud.databricks.com"}]}"#;
    double.put(INDEX, older);
    double.put("databricks https://w.cloud.databricks.com", r#"{"version":1,"token":"dapi"}"#);
    assert_eq!(double.keyring().logins(), Ok(vec![of(None)]));
    assert!(double.keyring().token(&of(None)).unwrap().is_some());
    assert_eq!(*wrapped(Index { logins: vec![of(None)] }).unwrap(), older);
}

#[tokio::test]
async fn what_cannot_be_read_is_written_over_and_a_list_without_the_name_is_left_as_it_is() {
    let double = Double::holding(&[(dbt(1), "one")]);
    double.becomes(Mood::RefusesTo("read dbt", KeyringError::corrupt("x", "it is not text")));
    assert!(double.keyring().keep(&dbt(1), "two").await.is_err());
    let calls = |begin: &str| double.calls.lock().unwrap().iter().filter(|call| call.starts_with(begin)).count();
    // It existed before, so it is not removed when it cannot be read back.
    assert_eq!((calls("write dbt"), calls("remove dbt")), (1, 0));
    double.becomes(Mood::Good);
    assert_eq!(double.keyring().unlist(&[dbt(2)]).await, Ok(()));
    assert_eq!(calls("write logins"), 0);
}
