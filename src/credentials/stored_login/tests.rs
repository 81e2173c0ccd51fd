use crate::context::Environment;
use crate::credentials::{
    Account, AccountFlags, AuthMethod, InputErrors, KeySource, MissingInput, Token, account, api_token, databricks,
    key_to_store,
};
use crate::failure::{Code, Failure};
use crate::keyring::double::{Double, Mood};
use crate::keyring::{KeyringError, Owner};
use crate::secret::Vault;

const HOST: &str = "https://ab123.us1.dbt.com";
const WORKSPACE: &str = "https://w.cloud.databricks.com";

fn dbt(account: u64) -> Owner {
    Owner::Dbt { host: HOST.to_owned(), account }
}

fn workspace(host: &str) -> Owner {
    Owner::Databricks { host: host.to_owned(), workspace: None }
}

fn locked() -> KeyringError {
    KeyringError::Locked("nobody gave its password".to_owned())
}

fn find_dbt(environment: &Environment) -> Result<(Account, Token), Failure> {
    let (flags, mut errors) = (AccountFlags::default(), InputErrors::default());
    let account = account(&flags, &[], environment, &mut errors);
    let token = api_token(&flags, &[], environment, &Vault::default(), &mut errors);
    let token = errors.need(token, MissingInput::value("the token", "give it", None));
    errors.settle().map(|()| (account.unwrap(), token.unwrap()))
}

/// Host, and the owner of the credential.
fn find_databricks(environment: &Environment) -> Result<(String, String), Failure> {
    let mut errors = InputErrors::default();
    let found = databricks(environment, &Vault::default(), &mut errors);
    errors.settle().map(|()| found.map(|found| (found.origin.to_string(), found.auth_method.known_as())).unwrap())
}

#[test]
fn the_only_login_says_host_account_and_token_and_what_is_stated_chooses_among_several() {
    let one = Double::holding(&[(dbt(1), "dbtc_one-0001")]);
    let environment = Environment::default().with_keyring(one.keyring());
    let (account, token) = find_dbt(&environment).unwrap();
    assert_eq!((account.origin.to_string().as_str(), account.id), (HOST, 1));
    assert_eq!(token.secret_for(&account).unwrap().reveal(), "dbtc_one-0001");
    assert_eq!(token.source().to_string(), format!("the login for dbt account 1 at {HOST} in the keyring"));

    let two = Double::holding(&[(dbt(1), "dbtc_one-0001"), (dbt(2), "dbtc_two-0002")]);
    let environment = Environment::default().with_keyring(two.keyring());
    let failure = find_dbt(&environment).unwrap_err();
    assert_eq!(failure.code, Code::MissingInput);
    assert_eq!(failure.causes, [dbt(1).to_string(), dbt(2).to_string()], "{failure:?}");
    let stated = Environment::of([("DBT_CLOUD_ACCOUNT_ID", "2")]).with_keyring(two.keyring());
    let (account, token) = find_dbt(&stated).unwrap();
    assert_eq!(token.secret_for(&account).unwrap().reveal(), "dbtc_two-0002");
}

#[test]
fn a_login_goes_to_its_own_host_and_account_only() {
    let double = Double::holding(&[(dbt(1), "dbtc_one-0001"), (workspace(WORKSPACE), "dapi-one-0001")]);
    for variable in [("DBT_CLOUD_HOST", "other.us1.dbt.com"), ("DBT_CLOUD_ACCOUNT_ID", "7")] {
        let failure = find_dbt(&Environment::of([variable]).with_keyring(double.keyring())).unwrap_err();
        assert_eq!(failure.code, Code::MissingInput);
        assert!(failure.causes.iter().any(|cause| cause.contains("tried keyring: no login")), "{failure:?}");
    }
    let elsewhere = Environment::of([("DATABRICKS_HOST", "https://x.cloud.databricks.com")]);
    let failure = find_databricks(&elsewhere.with_keyring(double.keyring())).unwrap_err();
    assert!(failure.causes.iter().any(|cause| cause.contains("no login for Databricks at https://x.")), "{failure:?}");
}

#[test]
fn a_workspace_is_found_alone_or_by_its_host_and_variables_go_before() {
    let double = Double::holding(&[(workspace(WORKSPACE), "dapi-one-0001")]);
    let kept = (WORKSPACE.to_owned(), format!("the login for Databricks at {WORKSPACE} in the keyring"));
    for variables in [Environment::default(), Environment::of([("DATABRICKS_HOST", WORKSPACE)])] {
        assert_eq!(find_databricks(&variables.with_keyring(double.keyring())).unwrap(), kept);
    }
    let named = Environment::of([("DATABRICKS_HOST", WORKSPACE), ("DATABRICKS_AUTH_TYPE", "pat")]);
    assert_eq!(find_databricks(&named.with_keyring(double.keyring())).unwrap(), kept);
    let calls = double.calls.lock().unwrap().len();
    let variables = Environment::of([("DATABRICKS_HOST", WORKSPACE), ("DATABRICKS_TOKEN", "dapi-two-0002")]);
    assert_eq!(find_databricks(&variables.with_keyring(double.keyring())).unwrap().1, "DATABRICKS_TOKEN");
    let dbt = Environment::of([
        ("DBT_CLOUD_HOST", "ab123.us1.dbt.com"),
        ("DBT_CLOUD_ACCOUNT_ID", "1"),
        ("DBT_CLOUD_TOKEN", "dbtc_one-0001"),
    ]);
    find_dbt(&dbt.with_keyring(double.keyring())).unwrap();
    assert_eq!(double.calls.lock().unwrap().len(), calls, "opened although everything was given");

    let two =
        Double::holding(&[(workspace(WORKSPACE), "dapi-one-0001"), (workspace("https://x.cloud.databricks.com"), "d")]);
    let failure = find_databricks(&Environment::default().with_keyring(two.keyring())).unwrap_err();
    assert!(failure.what.contains("several Databricks workspaces") && failure.causes.len() == 2, "{failure:?}");
}

#[test]
fn a_token_of_a_variable_does_not_go_to_a_host_that_only_the_keyring_names() {
    let double = Double::holding(&[(workspace("https://dbx.example"), "dapi-one-0001")]);
    let environment = Environment::of([("DATABRICKS_TOKEN", "dapi-two-0002")]).with_keyring(double.keyring());
    assert_eq!(find_databricks(&environment).unwrap_err().code, Code::Contradiction);
    let owner = Owner::Dbt { host: "https://dbt.example".to_owned(), account: 1 };
    let double = Double::holding(&[(owner, "dbtc_one-0001")]);
    let environment = Environment::of([("DBT_CLOUD_TOKEN", "dbtc_two-0002")]).with_keyring(double.keyring());
    let (account, token) = find_dbt(&environment).unwrap();
    assert_eq!(token.secret_for(&account).unwrap_err().code, Code::Contradiction);
}

#[test]
fn it_is_not_opened_in_ci_nor_where_a_variable_forbids_it() {
    for name in ["CI", "DBTRIGGER_NO_KEYRING"] {
        let double = Double::holding(&[(dbt(1), "dbtc_one-0001")]);
        let failure = find_dbt(&Environment::of([(name, "1")]).with_keyring(double.keyring())).unwrap_err();
        assert!(failure.causes.iter().any(|cause| cause.contains(&format!("not used: {name} is set"))), "{failure:?}");
        assert!(double.calls.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn the_key_to_store_as_a_secret_never_comes_from_it() {
    let double = Double::holding(&[(dbt(1), "dbtc_one-0001")]);
    let environment = Environment::default().with_keyring(double.keyring());
    let key = key_to_store(&KeySource::default(), &environment, &Vault::default()).await.unwrap();
    assert!(key.is_none() && double.calls.lock().unwrap().is_empty());
}

#[test]
fn dbts_own_file_comes_behind_it_and_is_warned_about_where_a_locked_one_may_hold_another_login() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".dbt")).unwrap();
    let file = "context: {active-host: ab123.us1.dbt.com, active-project: '1'}\nprojects: [{project-id: '1', account-id: '9', account-host: ab123.us1.dbt.com, token-value: dbtu_nine-0009}]\n";
    std::fs::write(home.path().join(".dbt/dbt_cloud.yml"), file).unwrap();
    let environment = Environment::of([("HOME", home.path().to_str().unwrap())]);
    let double = Double::holding(&[(dbt(1), "dbtc_one-0001")]);
    assert_eq!(find_dbt(&environment.with_keyring(double.keyring())).unwrap().0.id, 1);
    let (account, token) = find_dbt(&environment.with_keyring(Double::new(Mood::Refuses(locked())).keyring())).unwrap();
    assert_eq!(account.id, 9);
    assert!(token.remarks().iter().any(|remark| remark.contains("the keyring is locked")), "{:?}", token.remarks());
    let absent = Double::new(Mood::Refuses(KeyringError::Absent("no bus".to_owned())));
    let (_, token) = find_dbt(&environment.with_keyring(absent.keyring())).unwrap();
    assert!(!token.remarks().iter().any(|remark| remark.contains("keyring")), "{:?}", token.remarks());
}

#[cfg(unix)]
#[test]
fn the_login_of_databricks_comes_behind_it_and_is_warned_about_where_it_is_locked() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("databricks");
    std::fs::write(&program, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let environment = Environment::of([("DATABRICKS_HOST", WORKSPACE), ("PATH", folder.path().to_str().unwrap())]);
    for (double, remarked) in [
        (Double::new(Mood::Good), false),
        (Double::new(Mood::Refuses(locked())), true),
        (Double::new(Mood::Hangs), true),
    ] {
        let mut errors = InputErrors::default();
        let found = databricks(&environment.with_keyring(double.keyring()), &Vault::default(), &mut errors).unwrap();
        assert!(matches!(found.auth_method, AuthMethod::Cli { .. }));
        assert_eq!(found.remark.is_some(), remarked, "{:?}", found.remark);
    }
}

#[test]
fn one_that_was_removed_by_other_means_is_not_counted() {
    let double = Double::holding(&[(dbt(1), "dbtc_one-0001"), (dbt(2), "dbtc_two-0002")]);
    double.entries.lock().unwrap().remove(&format!("dbt {HOST} 1"));
    assert_eq!(find_dbt(&Environment::default().with_keyring(double.keyring())).unwrap().0.id, 2);
}

fn with_id(id: &str) -> Owner {
    Owner::Databricks { host: WORKSPACE.to_owned(), workspace: Some(id.to_owned()) }
}

/// The workspace ID that is sent, and the token.
fn asked(environment: &Environment) -> Result<(Option<String>, String), Failure> {
    let mut errors = InputErrors::default();
    let found = databricks(environment, &Vault::default(), &mut errors);
    errors.settle()?;
    let found = found.unwrap();
    let AuthMethod::Token(token) = found.auth_method else { panic!("{:?}", found.auth_method) };
    Ok((found.workspace.map(|id| id.value), token.value.reveal().to_owned()))
}

#[test]
fn two_workspaces_of_one_host_stand_side_by_side_and_the_id_of_a_login_is_sent() {
    let (one, two, older) = ("dapi-one-0001", "dapi-two-0002", "dapi-old-0000");
    let both = Double::holding(&[(with_id("1"), one), (with_id("2"), two)]);
    let alone = Double::holding(&[(with_id("1"), one)]);
    let mixed = Double::holding(&[(with_id("1"), one), (workspace(WORKSPACE), older)]);
    let old = Double::holding(&[(workspace(WORKSPACE), older)]);
    let browser = format!("{WORKSPACE}/?o=2");
    let (host, id) = (("DATABRICKS_HOST", WORKSPACE), ("DATABRICKS_WORKSPACE_ID", "2"));
    let sent = |id: &str, token: &str| Some((Some(id.to_owned()), token.to_owned()));
    for (double, variables, expected) in [
        (&alone, &[][..], sent("1", one)),
        (&alone, &[host], sent("1", one)),
        (&both, &[host], None),
        (&both, &[], None),
        (&both, &[host, id], sent("2", two)),
        (&both, &[id], sent("2", two)),
        (&both, &[("DATABRICKS_HOST", browser.as_str())], sent("2", two)),
        // A login stored for one workspace is not used for another; one without an ID is for the whole host.
        (&alone, &[host, id], None),
        (&mixed, &[host, id], sent("2", older)),
        (&mixed, &[host, ("DATABRICKS_WORKSPACE_ID", "1")], sent("1", one)),
        (&mixed, &[host], None),
        (&old, &[host, id], sent("2", older)),
        (&old, &[], Some((None, older.to_owned()))),
    ] {
        let environment = Environment::default()
            .with(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
            .with_keyring(double.keyring());
        let found = asked(&environment);
        match expected {
            Some(expected) => assert_eq!(found.unwrap(), expected, "{variables:?}"),
            None => assert_eq!(found.unwrap_err().code, Code::MissingInput, "{variables:?}"),
        }
    }
}

#[test]
fn an_unreadable_list_leaves_what_is_named_usable() {
    let double = Double::holding(&[(workspace(WORKSPACE), "dapi-one-0001"), (with_id("2"), "dapi-two-0002")]);
    double.put("logins", "junk");
    let named = |id: &str| {
        Environment::of([("DATABRICKS_HOST", WORKSPACE), ("DATABRICKS_WORKSPACE_ID", id)])
            .with_keyring(double.keyring())
    };
    assert_eq!(asked(&named("")).unwrap().1, "dapi-one-0001");
    assert_eq!(asked(&named("2")).unwrap().1, "dapi-two-0002");
    let failure = asked(&Environment::default().with_keyring(double.keyring())).unwrap_err();
    assert!(failure.causes.iter().any(|cause| cause.contains("keyring entry \"logins\"")), "{failure:?}");
}

#[test]
fn no_token_shows_in_what_is_printed_for_developers() {
    let double = Double::holding(&[(dbt(1), "dbtc_one-0001"), (workspace(WORKSPACE), "dapi-one-0001")]);
    let active = super::dbt(None, None, &double.keyring()).unwrap();
    let databricks = super::databricks(None, None, &double.keyring()).unwrap();
    let shown = format!("{active:?} {databricks:?} {:?}", double.keyring().token(&dbt(1)));
    assert!(shown.contains("***") && !shown.contains("-0001"), "{shown}");
}

#[test]
fn where_nothing_can_be_stored_no_login_is_advised() {
    let closed =
        Environment::of([("DATABRICKS_HOST", WORKSPACE), ("CI", "1")]).with_keyring(Double::new(Mood::Good).keyring());
    let absent = Double::new(Mood::Refuses(KeyringError::Absent("no bus".to_owned())));
    let absent = Environment::of([("DATABRICKS_HOST", WORKSPACE)]).with_keyring(absent.keyring());
    for environment in [closed, absent] {
        let failure = find_databricks(&environment).unwrap_err();
        assert!(!failure.causes.iter().any(|cause| cause.contains("auth login")), "{failure:?}");
    }
}

#[test]
fn a_host_of_another_scheme_or_port_is_advised_as_it_can_be_given_again() {
    for (host, advised) in [
        ("http://127.0.0.1:18231", "pass --dbt-host http://127.0.0.1:18231, or"),
        ("https://dbt.example:8443", "pass --dbt-host dbt.example:8443, or"),
    ] {
        let double = Double::holding(&[(Owner::Dbt { host: host.to_owned(), account: 1 }, "dbtc_one-0001")]);
        let environment = Environment::of([("DBT_CLOUD_TOKEN", "dbtc_two-0002")]).with_keyring(double.keyring());
        let (account, token) = find_dbt(&environment).unwrap();
        let failure = token.secret_for(&account).unwrap_err();
        assert!(failure.hints[0].to_string().contains(advised), "{failure:?}");
    }
}
