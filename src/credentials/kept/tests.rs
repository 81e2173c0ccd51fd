use crate::context::Environment;
use crate::credentials::{
    Account, AccountFlags, KeySource, Missing, Token, Wants, Way, account, api_token, databricks, key_to_store,
};
use crate::failure::{Code, Failure};
use crate::keyring::double::{Double, Mood};
use crate::keyring::{Owner, Trouble};
use crate::secret::Vault;

const HOST: &str = "https://ab123.us1.dbt.com";
const WORKSPACE: &str = "https://w.cloud.databricks.com";

fn dbt(account: u64) -> Owner {
    Owner::Dbt { host: HOST.to_owned(), account }
}

fn workspace(host: &str) -> Owner {
    Owner::Databricks { host: host.to_owned() }
}

fn locked() -> Trouble {
    Trouble::Locked("nobody gave its password".to_owned())
}

fn find_dbt(environment: &Environment) -> Result<(Account, Token), Failure> {
    let (flags, mut wants) = (AccountFlags::default(), Wants::default());
    let account = account(&flags, &[], environment, &mut wants);
    let token = api_token(&flags, &[], environment, &Vault::default(), &mut wants);
    let token = wants.need(token, Missing { what: "the token", give: "give it", ask: None });
    wants.settle().map(|()| (account.unwrap(), token.unwrap()))
}

/// Host, and whose credential it is.
fn find_databricks(environment: &Environment) -> Result<(String, String), Failure> {
    let mut wants = Wants::default();
    let found = databricks(environment, &Vault::default(), &mut wants);
    wants.settle().map(|()| found.map(|found| (found.origin.to_string(), found.way.known_as())).unwrap())
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
        assert!(
            failure.causes.iter().any(|cause| cause.contains("tried keyring         it has no login")),
            "{failure:?}"
        );
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
    assert!(failure.what.contains("several workspaces") && failure.causes.len() == 2, "{failure:?}");
}

#[test]
fn a_token_of_a_variable_does_not_go_to_a_host_that_only_the_keyring_names() {
    let double = Double::holding(&[(workspace("https://dbx.example"), "dapi-one-0001")]);
    let environment = Environment::of([("DATABRICKS_TOKEN", "dapi-two-0002")]).with_keyring(double.keyring());
    assert_eq!(find_databricks(&environment).unwrap_err().code, Code::Refused);
    let owner = Owner::Dbt { host: "https://dbt.example".to_owned(), account: 1 };
    let double = Double::holding(&[(owner, "dbtc_one-0001")]);
    let environment = Environment::of([("DBT_CLOUD_TOKEN", "dbtc_two-0002")]).with_keyring(double.keyring());
    let (account, token) = find_dbt(&environment).unwrap();
    assert_eq!(token.secret_for(&account).unwrap_err().code, Code::Refused);
}

#[test]
fn it_is_not_opened_in_ci_nor_where_a_variable_forbids_it() {
    for name in ["CI", "DBTRIGGER_NO_KEYRING"] {
        let double = Double::holding(&[(dbt(1), "dbtc_one-0001")]);
        let failure = find_dbt(&Environment::of([(name, "1")]).with_keyring(double.keyring())).unwrap_err();
        assert!(failure.causes.iter().any(|cause| cause.contains(&format!("since {name} is set"))), "{failure:?}");
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
    let absent = Double::new(Mood::Refuses(Trouble::Absent("no bus".to_owned())));
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
        let mut wants = Wants::default();
        let found = databricks(&environment.with_keyring(double.keyring()), &Vault::default(), &mut wants).unwrap();
        assert!(matches!(found.way, Way::Cli { .. }));
        assert_eq!(found.remark.is_some(), remarked, "{:?}", found.remark);
    }
}

#[test]
fn one_that_was_removed_by_other_means_is_not_counted() {
    let double = Double::holding(&[(dbt(1), "dbtc_one-0001"), (dbt(2), "dbtc_two-0002")]);
    double.entries.lock().unwrap().remove(&format!("dbt {HOST} 1"));
    assert_eq!(find_dbt(&Environment::default().with_keyring(double.keyring())).unwrap().0.id, 2);
}
