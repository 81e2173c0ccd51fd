use std::sync::Arc;

use super::run;
use crate::commands::rehearsal::{ACCOUNT, ANA, DATABRICKS_TOKEN, DBT_TOKEN, Outcome, Rehearsal};
use crate::failure::Code;
use crate::keyring::double::{Double, Mood};
use crate::keyring::{Owner, Trouble};

const ORIGIN: &str = "http://127.0.0.1:1";

async fn typed(world: &Rehearsal, line: &[&str]) -> Outcome {
    world.run(run, line).await.unwrap()
}

/// A world without any variable of the services, and this keyring.
fn world(double: &Arc<Double>) -> Rehearsal {
    let world = Rehearsal::new();
    for name in ["DATABRICKS_HOST", "DATABRICKS_TOKEN", "DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID", "DBT_CLOUD_TOKEN"] {
        world.set(name, "");
    }
    world.use_keyring(&double.keyring());
    world
}

fn both() -> [(Owner, &'static str); 2] {
    [
        (Owner::Dbt { host: ORIGIN.to_owned(), account: ACCOUNT }, DBT_TOKEN),
        (Owner::Databricks { host: ORIGIN.to_owned() }, DATABRICKS_TOKEN),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_token_that_its_service_refuses_is_not_stored() {
    let double = Double::new(Mood::Good);
    let world = world(&double);
    world.set("DBT_CLOUD_TOKEN", "dbtc_wrong-0123456789");
    world.set("DATABRICKS_TOKEN", "dapi-wrong-0123456789");
    for (line, exit) in [
        (&["login", "--dbt-host", ORIGIN, "--dbt-account", "51234"][..], 4),
        (&["login", "--databricks", ORIGIN], 4),
        (&["login", "--databricks", "https://accounts.cloud.databricks.com"], 2),
        (&["login", "--dbt-host", ORIGIN], 2),
    ] {
        assert_eq!(typed(&world, line).await.exit, exit, "{line:?}");
    }
    world.set("DBT_CLOUD_TOKEN", DBT_TOKEN);
    let other = typed(&world, &["login", "--dbt-host", ORIGIN, "--dbt-account", "7"]).await;
    assert_eq!(other.exit, 6, "{}", other.failure);
    assert!(double.entries.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_explicit_login_fails_where_the_keyring_cannot_be_used_and_names_the_other_ways() {
    for (trouble, says) in [
        (Trouble::Absent("no bus".to_owned()), "there is no keyring here: no bus"),
        (Trouble::Locked("no prompt".to_owned()), "the keyring is locked: no prompt"),
        (Trouble::Failed("full".to_owned()), "the keyring failed: full"),
    ] {
        let world = world(&Double::new(Mood::Refuses(trouble)));
        world.set("DBT_CLOUD_TOKEN", DBT_TOKEN);
        for line in [&["login", "--dbt-host", ORIGIN, "--dbt-account", "51234"][..], &["logout"]] {
            let outcome = typed(&world, line).await;
            assert_eq!(outcome.code, Some(Code::Failed));
            assert!(
                outcome.failure.contains(says) && outcome.failure.contains("DBT_CLOUD_TOKEN"),
                "{}",
                outcome.failure
            );
            assert!(world.take_log().is_empty(), "asked before the keyring was known to work");
        }
    }
    let closed = world(&Double::new(Mood::Good));
    closed.set("CI", "true");
    closed.use_keyring(&Double::new(Mood::Good).keyring());
    let outcome = typed(&closed, &["login"]).await;
    assert!(outcome.code == Some(Code::InvalidInput) && outcome.failure.contains("CI is set"), "{}", outcome.failure);
}

#[tokio::test(start_paused = true)]
async fn what_the_keyring_garbles_is_not_called_stored() {
    let world = world(&Double::new(Mood::Garbles));
    world.set("DBT_CLOUD_TOKEN", DBT_TOKEN);
    let outcome = typed(&world, &["login", "--dbt-host", ORIGIN, "--dbt-account", "51234"]).await;
    assert!(outcome.failure.contains("does not give it back as it was"), "{}", outcome.failure);
}

#[tokio::test(start_paused = true)]
async fn status_names_who_where_and_from_where_and_one_failing_service_leaves_the_other_told() {
    let double = Double::holding(&both());
    let world = world(&double);
    let well = typed(&world, &["status"]).await;
    assert_eq!(well.exit, 0, "{}", well.failure);
    assert_eq!(well.data["databricks"]["identity"], ANA);
    assert_eq!(well.data["databricks"]["identity_kind"], "user");
    assert_eq!(well.data["dbt"]["account_id"], ACCOUNT);
    assert_eq!(well.data["dbt"]["token_kind"], "service token");
    assert_eq!(well.data["keyring"]["logins"].as_array().unwrap().len(), 2);
    assert!(
        well.text.contains("the login for dbt account 51234 at http://127.0.0.1:1 in the keyring"),
        "{}",
        well.text
    );
    assert_eq!(world.take_log().len(), 2, "one request each");

    world.set("DBT_CLOUD_HOST", ORIGIN);
    world.set("DBT_CLOUD_ACCOUNT_ID", "51234");
    world.set("DBT_CLOUD_TOKEN", "dbtc_wrong-0123456789");
    let half = typed(&world, &["status"]).await;
    assert_eq!((half.exit, half.code), (4, Some(Code::NotAuthenticated)));
    assert_eq!((&half.data["databricks"]["works"], &half.data["dbt"]["works"]), (&true.into(), &false.into()));
    assert!(half.failure.contains("dbt Cloud does not work") && half.failure.contains("dbtrigger auth login"));
}

#[tokio::test(start_paused = true)]
async fn status_without_anything_says_what_was_tried_and_how_to_sign_in() {
    let outcome = typed(&world(&Double::new(Mood::Good)), &["status"]).await;
    assert_eq!((outcome.exit, outcome.code), (4, Some(Code::NotAuthenticated)));
    for part in
        ["Neither Databricks nor dbt Cloud works", "tried keyring", "tried pat", "dbtrigger auth login --databricks"]
    {
        assert!(outcome.failure.contains(part), "{part}\n{}", outcome.failure);
    }
    assert!(outcome.text.contains("Keyring: nothing is stored"), "{}", outcome.text);
}

#[tokio::test(start_paused = true)]
async fn logout_removes_what_is_named_is_the_same_twice_and_says_what_remains() {
    let second = (Owner::Dbt { host: ORIGIN.to_owned(), account: 2 }, "dbtc_two-0123456789");
    let double = Double::holding(&[both()[0].clone(), second, both()[1].clone()]);
    let world = world(&double);
    let several = typed(&world, &["logout"]).await;
    assert_eq!((several.exit, several.code), (2, Some(Code::MissingInput)));
    assert!(several.failure.contains("dbt account 2 at") && several.failure.contains("--all"), "{}", several.failure);
    assert_eq!(double.entries.lock().unwrap().len(), 4);
    let line = ["logout", "--dbt-host", ORIGIN, "--dbt-account", "2"];
    let one = typed(&world, &line).await;
    assert_eq!((one.exit, one.data["removed"][0]["account_id"].as_u64()), (0, Some(2)), "{}", one.failure);
    assert_eq!(one.data["logins"].as_array().unwrap().len(), 2);
    world.use_keyring(&double.keyring());
    let again = typed(&world, &line).await;
    assert_eq!((again.exit, again.data["removed"].as_array().unwrap().len()), (0, 0));
    assert!(again.text.contains("does not have a login for dbt account 2"), "{}", again.text);
    world.set("DBT_CLOUD_TOKEN", DBT_TOKEN);
    let all = typed(&world, &["logout", "--all"]).await;
    assert_eq!((all.exit, all.data["removed"].as_array().unwrap().len()), (0, 2));
    assert!(all.text.contains("For dbt, commands use DBT_CLOUD_TOKEN"), "{}", all.text);
    assert!(double.entries.lock().unwrap().is_empty());
}
