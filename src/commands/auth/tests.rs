use std::sync::Arc;

use super::run;
use crate::commands::tests::harness::{ACCOUNT, ANA, DATABRICKS_TOKEN, DBT_TOKEN, Harness, Outcome};
use crate::failure::Code;
use crate::keyring::double::{Double, Mood};
use crate::keyring::{KeyringError, Owner};

const ORIGIN: &str = "http://127.0.0.1:1";

async fn typed(world: &Harness, line: &[&str]) -> Outcome {
    world.run(run, line).await.unwrap()
}

/// A sandbox without variables of the services, and with this keyring.
fn world(double: &Arc<Double>) -> Harness {
    let world = Harness::new();
    for name in ["DATABRICKS_HOST", "DATABRICKS_TOKEN", "DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID", "DBT_CLOUD_TOKEN"] {
        world.set(name, "");
    }
    world.use_keyring(&double.keyring());
    world
}

fn both() -> [(Owner, &'static str); 2] {
    [
        (Owner::Dbt { host: ORIGIN.to_owned(), account: ACCOUNT }, DBT_TOKEN),
        (Owner::Databricks { host: ORIGIN.to_owned(), workspace: None }, DATABRICKS_TOKEN),
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
        (KeyringError::Absent("no bus".to_owned()), "no keyring"),
        (KeyringError::Locked("no prompt".to_owned()), "the keyring is locked"),
        (KeyringError::Failed("full".to_owned()), "the keyring failed: full"),
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
    assert!(outcome.failure.contains("it returned a different token than was stored"), "{}", outcome.failure);
}

#[tokio::test(start_paused = true)]
async fn status_names_who_where_and_from_where_and_one_failing_service_leaves_the_other_told() {
    let double = Double::holding(&both());
    let world = world(&double);
    let well = typed(&world, &["status"]).await;
    assert_eq!(well.exit, 0, "{}", well.failure);
    assert_eq!(well.data["databricks"]["identity"], ANA);
    assert_eq!(well.data["databricks"]["identity_kind"], "user");
    assert_eq!(well.data["dbt"]["account_id"], ACCOUNT.to_string());
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
    assert!(half.failure.contains("not signed in to dbt") && half.failure.contains("dbtrigger auth login"));
}

#[tokio::test(start_paused = true)]
async fn status_without_anything_says_what_was_tried_and_how_to_sign_in() {
    let outcome = typed(&world(&Double::new(Mood::Good)), &["status"]).await;
    assert_eq!((outcome.exit, outcome.code), (4, Some(Code::NotAuthenticated)));
    for part in
        ["not signed in to Databricks or dbt", "tried keyring: ", "tried pat: ", "dbtrigger auth login --databricks"]
    {
        assert!(outcome.failure.contains(part), "{part}\n{}", outcome.failure);
    }
    assert!(outcome.text.contains("Keyring: empty"), "{}", outcome.text);
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
    assert_eq!((one.exit, one.data["removed"][0]["account_id"].as_str()), (0, Some("2")), "{}", one.failure);
    assert_eq!(one.data["logins"].as_array().unwrap().len(), 2);
    world.use_keyring(&double.keyring());
    let again = typed(&world, &line).await;
    assert_eq!((again.exit, again.data["removed"].as_array().unwrap().len()), (0, 0));
    assert!(again.text.contains("keyring has no login for dbt account 2"), "{}", again.text);
    world.set("DBT_CLOUD_TOKEN", DBT_TOKEN);
    let all = typed(&world, &["logout", "--all"]).await;
    assert_eq!((all.exit, all.data["removed"].as_array().unwrap().len()), (0, 2));
    assert!(all.text.contains("For dbt, commands use DBT_CLOUD_TOKEN"), "{}", all.text);
    assert!(double.entries.lock().unwrap().is_empty());
}

const LISTED: &str = "logins";

fn failed() -> KeyringError {
    KeyringError::Failed("full".to_owned())
}

fn of_workspace(id: &str) -> Owner {
    Owner::Databricks { host: ORIGIN.to_owned(), workspace: Some(id.to_owned()) }
}

/// The workspace ID in each request.
fn workspaces(world: &Harness) -> Vec<Option<String>> {
    world.take_log().into_iter().map(|seen| seen.workspace).collect()
}

#[tokio::test(start_paused = true)]
async fn a_login_asks_the_workspace_that_is_named_and_is_stored_for_it() {
    let double = Double::new(Mood::Good);
    let world = world(&double);
    world.set("DATABRICKS_TOKEN", DATABRICKS_TOKEN);
    let browser = format!("{ORIGIN}/?o=4242");
    for (host, variable, sent) in
        [(browser.as_str(), "", "4242"), (browser.as_str(), "4242", "4242"), (ORIGIN, "17", "17")]
    {
        world.set("DATABRICKS_WORKSPACE_ID", variable);
        let outcome = typed(&world, &["login", "--databricks", host]).await;
        assert_eq!((outcome.exit, &outcome.data["workspace_id"]), (0, &sent.into()), "{}", outcome.failure);
        assert_eq!(workspaces(&world), [Some(sent.to_owned())]);
    }
    assert_eq!(double.keyring().logins(), Ok(vec![of_workspace("17"), of_workspace("4242")]));
    // Different IDs for the same host contradict each other; one for another host is ignored.
    assert_eq!(typed(&world, &["login", "--databricks", &browser]).await.code, Some(Code::Contradiction));
    world.set("DATABRICKS_HOST", "https://other.cloud.databricks.com");
    assert_eq!(typed(&world, &["login", "--databricks", ORIGIN]).await.exit, 0);
    assert_eq!(workspaces(&world), [None]);

    // Commands, `auth status` and `auth logout` use the workspace of the login.
    world.set("DATABRICKS_TOKEN", "");
    world.set("DATABRICKS_HOST", ORIGIN);
    world.set("DATABRICKS_WORKSPACE_ID", "4242");
    world.use_keyring(&double.keyring());
    let status = typed(&world, &["status"]).await;
    assert_eq!(status.data["databricks"]["workspace_sent"], "4242");
    assert_eq!(status.data["databricks"]["workspace_from"], "DATABRICKS_WORKSPACE_ID");
    assert_eq!(status.data["keyring"]["logins"][1]["workspace_id"], "17");
    assert_eq!(workspaces(&world), [Some("4242".to_owned())]);
    let logout = typed(&world, &["logout", "--databricks"]).await;
    assert_eq!(logout.data["removed"][0]["workspace_id"], "4242", "{}", logout.failure);
    assert_eq!(logout.data["logins"].as_array().unwrap().len(), 2);
    // The login without a workspace ID is named by its host.
    world.set("DATABRICKS_WORKSPACE_ID", "");
    let logout = typed(&world, &["logout", "--databricks", ORIGIN]).await;
    assert_eq!(logout.data["removed"][0]["workspace_id"], serde_json::Value::Null, "{}", logout.failure);
    world.use_keyring(&double.keyring());
    let status = typed(&world, &["status"]).await;
    assert!(status.text.contains(&format!("the login for Databricks workspace 17 at {ORIGIN}")), "{}", status.text);
    assert_eq!(workspaces(&world), [Some("17".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn logout_says_what_is_gone_also_when_it_fails_half_way() {
    for (call, removed, says) in [
        ("remove databricks", 1, "cannot remove the token"),
        ("remove logins", 2, "cannot update the list of logins"),
        ("remove dbt", 0, "cannot remove the token"),
    ] {
        let double = Double::holding(&both());
        let world = world(&double);
        double.becomes(Mood::RefusesTo(call, failed()));
        let outcome = typed(&world, &["logout", "--all"]).await;
        assert_eq!((outcome.exit, outcome.data["removed"].as_array().unwrap().len()), (1, removed), "{call}");
        assert_eq!(outcome.data["logins"].as_array().unwrap().len(), 2 - removed, "{call}");
        assert!(outcome.failure.contains(says), "{}", outcome.failure);
        assert_eq!(outcome.failure.matches("already removed").count(), removed, "{}", outcome.failure);
        assert!(!outcome.failure.contains("nothing was removed") && !outcome.text.contains("does not have"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_cannot_be_read_locks_nobody_out() {
    for (list, newer) in [("junk", false), (r#"{"version":2,"logins":[]}"#, true)] {
        let double = Double::holding(&both());
        double.put(LISTED, list);
        let world = world(&double);
        world.set("DBT_CLOUD_TOKEN", DBT_TOKEN);
        let whole = ["logout", "--dbt-host", ORIGIN, "--dbt-account", "51234"];
        let logout = typed(&world, &whole).await;
        assert_eq!((logout.exit, logout.data["removed"].as_array().unwrap().len()), (0, 1), "{}", logout.failure);
        assert!(logout.said().contains("service dbtrigger username 'logins'") || !cfg!(target_os = "linux"));

        let some = typed(&world, &["logout", "--databricks"]).await;
        assert_eq!(some.exit, 1);
        assert!(some.failure.contains("name one with --databricks HOST"), "{}", some.failure);

        world.set("DATABRICKS_HOST", ORIGIN);
        let all = typed(&world, &["logout", "--all"]).await;
        assert_eq!((all.exit, all.data["removed"].as_array().unwrap().len()), (1, 1), "{}", all.failure);
        for part in ["there may be more tokens", "already removed", "\\\"dbtrigger\\\"", "logins"] {
            assert!(all.failure.contains(part), "{part}\n{}", all.failure);
        }

        world.use_keyring(&double.keyring());
        let login = typed(&world, &["login", "--dbt-host", ORIGIN, "--dbt-account", "51234"]).await;
        assert_eq!(login.exit, u8::from(newer), "{}", login.failure);
        if newer {
            assert!(login.failure.contains("update dbtrigger, or"), "{}", login.failure);
        } else {
            assert!(login.said().contains("was started over"), "{}", login.said());
        }
    }
    // An unreadable token can be replaced and removed.
    let double = Double::holding(&both());
    double.put(&format!("dbt {ORIGIN} 51234"), "junk");
    let world = world(&double);
    world.set("DBT_CLOUD_TOKEN", DBT_TOKEN);
    let login = typed(&world, &["login", "--dbt-host", ORIGIN, "--dbt-account", "51234"]).await;
    assert_eq!((login.exit, &login.data["replaced"]), (0, &true.into()), "{}", login.failure);
}

#[tokio::test(start_paused = true)]
async fn status_says_when_a_token_ends_or_who_does_not_tell() {
    let world = world(&Double::holding(&both()));
    let given = typed(&world, &["status"]).await;
    for (service, note) in [("databricks", "unknown for a personal access token"), ("dbt", "unknown")] {
        assert!(given.data[service]["expires_at"].is_null());
        assert_eq!(given.data[service]["expires_note"], note);
        assert!(given.text.contains(&format!("  {:<22} {note}", "expires")), "{}", given.text);
    }
    let id = "1b2c3d4e-0000-4000-8000-000000000001";
    world.set("DATABRICKS_HOST", ORIGIN);
    world.set("DATABRICKS_CLIENT_ID", id);
    world.set("DATABRICKS_CLIENT_SECRET", "dose-rehearsal-0123456789");
    world.world(|world| {
        world.set_origin(ORIGIN.to_owned());
        world.add_client(id, "dose-rehearsal-0123456789", true);
    });
    let issued = typed(&world, &["status"]).await;
    assert!(issued.data["databricks"]["expires_at"].is_string(), "{}", issued.failure);
    assert!(issued.data["databricks"]["expires_note"].is_null());
    // Earlier auth methods: data in JSON, columns in text.
    let pat = issued.data["databricks"]["tried"].as_array().unwrap().iter().find(|tried| tried["way"] == "pat");
    assert_eq!(pat.unwrap()["reason"], "DATABRICKS_TOKEN is not set");
    assert!(issued.text.contains("\n  tried pat              DATABRICKS_TOKEN is not set\n"), "{}", issued.text);
}

/// The hints of the failure.
fn hints(outcome: &Outcome) -> Vec<String> {
    let failure: serde_json::Value = serde_json::from_str(&outcome.failure).unwrap();
    failure["hints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hint| hint["command"].as_str().or_else(|| hint["text"].as_str()).unwrap().to_owned())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn status_without_a_keyring_advises_variables_and_no_login() {
    let absent = KeyringError::Absent("no bus".to_owned());
    for (variable, mood, says) in [
        ("CI", Mood::Good, "CI closes the keyring: unset it"),
        ("DBTRIGGER_NO_KEYRING", Mood::Good, "DBTRIGGER_NO_KEYRING closes the keyring: unset it"),
        ("", Mood::Refuses(absent), "set DATABRICKS_HOST and DATABRICKS_TOKEN"),
    ] {
        let double = Double::new(mood);
        let world = world(&double);
        if !variable.is_empty() {
            world.set(variable, "1");
            world.use_keyring(&double.keyring());
        }
        let outcome = typed(&world, &["status"]).await;
        assert!(!outcome.failure.contains("auth login"), "{}", outcome.failure);
        assert!(outcome.failure.contains(says), "{}", outcome.failure);
        assert!(outcome.failure.contains("DBT_CLOUD_TOKEN"), "{}", outcome.failure);
    }
}

#[tokio::test(start_paused = true)]
async fn status_advises_to_mend_the_variable_that_goes_before_the_keyring() {
    let world = world(&Double::holding(&both()));
    world.set("DBT_CLOUD_HOST", ORIGIN);
    world.set("DBT_CLOUD_ACCOUNT_ID", "51234");
    for (variable, login) in [
        ("DBT_CLOUD_TOKEN", format!("dbtrigger auth login --dbt-host {ORIGIN} --dbt-account 51234")),
        ("DATABRICKS_TOKEN", format!("dbtrigger auth login --databricks {ORIGIN}")),
    ] {
        world.set("DATABRICKS_HOST", ORIGIN);
        world.set(variable, "dbtc_wrong-0123456789");
        let outcome = typed(&world, &["status"]).await;
        let expected = format!(
            "set {variable} to a valid token, or unset it and run `{login}`: it takes precedence over the keyring"
        );
        assert_eq!(hints(&outcome)[0], expected, "{}", outcome.failure);
        world.set(variable, "");
    }
}

#[tokio::test(start_paused = true)]
async fn status_of_a_profile_names_it_its_file_and_what_it_lacks() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(".databrickscfg");
    std::fs::write(&file, format!("[prod]\nhost = {ORIGIN}\n[broken]\ntoken = dapi-of-broken-1\n[empty]\nx = 1\n"))
        .unwrap();
    let file = file.display().to_string();
    for (profile, expected) in [
        ("prodd", "did you mean \"prod\"?".to_owned()),
        ("broken", format!("add host to profile broken in {file}")),
        ("empty", format!("add host, and token (or client_id and client_secret) to profile empty in {file}")),
        ("prod", format!("add token (or client_id and client_secret) to profile prod in {file}")),
    ] {
        let world = world(&Double::new(Mood::Good));
        world.set("HOME", home.path().to_str().unwrap());
        world.choose_profile(profile);
        let outcome = typed(&world, &["status"]).await;
        assert!(hints(&outcome).contains(&format!("Databricks: {expected}")), "{}", outcome.failure);
        assert!(outcome.failure.contains(&file), "{}", outcome.failure);
        let other = |hint: &String| hint.contains(&format!("-p {profile}")) || hint.contains("login --databricks");
        assert!(!hints(&outcome).iter().any(other), "{}", outcome.failure);
    }
}

#[tokio::test(start_paused = true)]
async fn status_of_nothing_is_in_order_by_service_and_a_known_host_is_shown() {
    let world = world(&Double::new(Mood::Good));
    let outcome = typed(&world, &["status"]).await;
    let failure: serde_json::Value = serde_json::from_str(&outcome.failure).unwrap();
    let causes: Vec<&str> = failure["causes"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    let first = causes.iter().take_while(|line| line.starts_with("Databricks: ")).count();
    assert!(first > 0 && first < causes.len(), "{causes:#?}");
    assert!(causes[first..].iter().all(|line| line.starts_with("dbt: ")), "{causes:#?}");
    let commands: Vec<&str> =
        failure["hints"].as_array().unwrap().iter().filter_map(|hint| hint["command"].as_str()).collect();
    assert_eq!(commands, ["dbtrigger auth login --databricks", "dbtrigger auth login"]);
    assert!(outcome.data["databricks"]["host"].is_null());
    world.set("DATABRICKS_HOST", &format!("{ORIGIN}/?o=4242"));
    let outcome = typed(&world, &["status"]).await;
    let known = &outcome.data["databricks"];
    assert_eq!((&known["host"], &known["host_from"]), (&ORIGIN.into(), &"DATABRICKS_HOST".into()));
    assert_eq!(known["workspace_sent"], "4242");
    let login = format!("dbtrigger auth login --databricks '{ORIGIN}/?o=4242'");
    assert_eq!(hints(&outcome)[0], login);
}

#[tokio::test(start_paused = true)]
async fn a_variable_that_goes_before_the_login_is_named_and_what_is_listed_and_gone_is_removed() {
    let double = Double::new(Mood::Good);
    let world = world(&double);
    world.set("DBT_CLOUD_TOKEN", DBT_TOKEN);
    let line = ["--dbt-host", ORIGIN, "--dbt-account", "51234"];
    let login = typed(&world, &[&["login"][..], &line].concat()).await;
    assert_eq!(login.exit, 0, "{login:?}");
    assert!(login.said().contains("DBT_CLOUD_TOKEN is set and takes precedence over the keyring"), "{}", login.said());
    // The entry is removed with other tools.
    double.entries.lock().unwrap().retain(|entry, _| entry == "logins");
    let logout = typed(&world, &[&["logout"][..], &line].concat()).await;
    assert_eq!((logout.exit, logout.data["removed"].as_array().map(Vec::len)), (0, Some(1)), "{logout:?}");
    assert!(double.entries.lock().unwrap().is_empty());
}
