//! Which account is found, and every refusal.

use super::*;
use crate::credentials::{TOKEN_VARIABLES, api_token};
use crate::keyring::Owner;
use crate::keyring::double::Double;

fn find(flags: &AccountFlags, job: Option<&str>, environment: &Environment) -> Result<Account, Failure> {
    let pasted: Vec<(String, Link)> = job.iter().map(|text| ((*text).to_owned(), Link::parse(text).unwrap())).collect();
    let mut errors = InputErrors::default();
    let found = account(flags, &pasted, environment, &mut errors);
    errors.settle().map(|()| found.unwrap())
}

#[test]
fn a_flag_beats_the_environment_and_a_pasted_job_has_to_agree_with_it() {
    let environment = Environment::of([("DBT_CLOUD_HOST", "ab.us1.dbt.com"), ("DBT_CLOUD_ACCOUNT_ID", "1")]);
    let flags = AccountFlags { dbt_host: Some("cd.eu1.dbt.com".into()), ..AccountFlags::default() };
    assert_eq!(find(&flags, None, &environment).unwrap().origin.host(), "cd.eu1.dbt.com");
    let job = "https://cd.eu1.dbt.com/deploy/1/projects/2/jobs/3";
    let failure = find(&AccountFlags::default(), Some(job), &environment).unwrap_err();
    assert_eq!(failure.code, Code::Contradiction);
    assert!(failure.what.contains("DBT_CLOUD_HOST") && failure.what.contains(job), "{}", failure.what);
    assert_eq!(find(&flags, Some(job), &environment).unwrap().id, 1);
    let url = AccountFlags { dbt_url: Some("https://cd.eu1.dbt.com/deploy/7/".into()), ..AccountFlags::default() };
    assert_eq!(find(&url, None, &environment).unwrap().id, 7);
}

#[test]
fn a_bare_token_goes_to_dbts_domains_or_to_a_host_that_a_flag_or_variable_names() {
    let nothing = Environment::default();
    let trusts = |flags: &AccountFlags, job: Option<&str>, environment: &Environment| {
        find(flags, job, environment).unwrap().check_bare_token("T").is_ok()
    };
    let dbt = "https://ab.us1.dbt.com/deploy/1/projects/2/jobs/3";
    let strange = "https://dbt.example.com/deploy/1/projects/2/jobs/3";
    assert!(trusts(&AccountFlags::default(), Some(dbt), &nothing));
    assert!(!trusts(&AccountFlags::default(), Some(strange), &nothing));
    let url = AccountFlags { dbt_url: Some(strange.into()), ..AccountFlags::default() };
    assert!(!trusts(&url, None, &nothing));
    assert!(trusts(&url, None, &Environment::of([("DBT_CLOUD_HOST", "dbt.example.com")])));
    let flag = AccountFlags { dbt_host: Some("dbt.example.com".into()), ..AccountFlags::default() };
    assert!(trusts(&flag, Some(strange), &nothing));
}

#[test]
fn an_account_id_is_digits() {
    for text in ["0", "+1", "-1", "1e3", "", "99999999999999999999"] {
        let flags = AccountFlags { dbt_account: Some(text.into()), ..AccountFlags::default() };
        let failure = find(&flags, None, &Environment::of([("DBT_CLOUD_HOST", "ab.us1.dbt.com")])).unwrap_err();
        assert_eq!(failure.code, Code::InvalidInput, "{text:?}");
    }
}

#[test]
fn everything_missing_is_named_at_once_with_other_tools_variables() {
    let environment = Environment::of([("DBT_TOKEN", "x")]);
    let failure = find(&AccountFlags::default(), None, &environment).unwrap_err();
    assert_eq!((failure.code, failure.causes.len()), (Code::MissingInput, 3), "{failure:?}");
    assert!(failure.causes.iter().any(|cause| cause.contains("DBT_TOKEN")), "{failure:?}");
    assert_eq!(failure.causes[1], "tried keyring: the keyring is not used: A_TEST is set");
    assert_eq!(failure.causes[2], "tried dbt_cloud.yml: no home directory");
    assert_eq!(failure.open_questions.tried, 2);
}

/// The account, and the token if it may be sent there.
fn token_for(
    flags: &AccountFlags,
    pasted: &[(String, Link)],
    environment: &Environment,
) -> Result<(Account, String), Failure> {
    let (vault, mut errors) = (crate::secret::Vault::default(), InputErrors::default());
    let account = account(flags, pasted, environment, &mut errors);
    let token = api_token(flags, pasted, environment, &vault, &mut errors);
    let token = errors.need(token, MissingInput::value("the token", "give it", None));
    errors.settle()?;
    let (account, token) = (account.unwrap(), token.unwrap());
    let secret = token.secret_for(&account)?;
    Ok((account, secret.reveal().to_owned()))
}

#[test]
#[expect(clippy::print_stdout, reason = "the line is what the test is for")]
fn a_token_goes_only_to_a_host_that_it_belongs_to_or_that_somebody_named() {
    const SOURCES: [&str; 6] = ["--dbt-host", "DBT_CLOUD_HOST", "--dbt-url", "the URL", "keyring", "dbt_cloud.yml"];
    let (mut count, mut wrong) = (0, Vec::new());
    for host_from in SOURCES {
        for token_from in [&TOKEN_VARIABLES[..], &["keyring", "dbt_cloud.yml"]].concat() {
            for host in ["ab123.us1.dbt.com", "dbt.example.com"] {
                for stored_at in ["ab123.us1.dbt.com", "dbt.example.com", "other.us1.dbt.com"] {
                    let is_stored = |place: &str| host_from == place || token_from == place;
                    // Host and token of a stored login come together.
                    if ["keyring", "dbt_cloud.yml"].contains(&host_from) && host != stored_at {
                        continue;
                    }
                    if is_stored("keyring") && is_stored("dbt_cloud.yml") {
                        continue;
                    }
                    count += 1;
                    let page = format!("https://{host}/deploy/1/projects/2/jobs/3");
                    let (mut flags, mut pasted) = (AccountFlags::default(), Vec::new());
                    let mut environment = Environment::of([("DBT_CLOUD_ACCOUNT_ID", "1")]);
                    let set = |environment: &Environment, name: &str, value: &str| {
                        environment.with([(name.to_owned(), value.to_owned())])
                    };
                    match host_from {
                        "--dbt-host" => flags.dbt_host = Some(host.to_owned()),
                        "DBT_CLOUD_HOST" => environment = set(&environment, "DBT_CLOUD_HOST", host),
                        "--dbt-url" => flags.dbt_url = Some(page.clone()),
                        "the URL" => pasted.push((page.clone(), Link::parse(&page).unwrap())),
                        _ => {}
                    }
                    let bare = TOKEN_VARIABLES.contains(&token_from);
                    if bare {
                        environment = set(&environment, token_from, "dbtc_of-table-1");
                    }
                    if is_stored("keyring") {
                        let owner = Owner::Dbt { host: format!("https://{stored_at}"), account: 1 };
                        environment =
                            environment.with_keyring(Double::holding(&[(owner, "dbtc_of-table-2")]).keyring());
                    }
                    let home = tempfile::tempdir().unwrap();
                    if is_stored("dbt_cloud.yml") {
                        let folder = home.path().join(".dbt");
                        std::fs::create_dir(&folder).unwrap();
                        let text = format!(
                            "context:\n  active-project: \"1\"\nprojects:\n- project-id: \"1\"\n  account-id: \"1\"\n  \
                             account-host: {stored_at}\n  token-value: dbtc_of-table-3\n"
                        );
                        std::fs::write(folder.join("dbt_cloud.yml"), text).unwrap();
                        environment = set(&environment, "HOME", home.path().to_str().unwrap());
                    }
                    let named = ["--dbt-host", "DBT_CLOUD_HOST"].contains(&host_from);
                    let sent = if bare { named || host.ends_with(".dbt.com") } else { host == stored_at };
                    let row = format!("host source {host_from} ({host}), token from {token_from} (of {stored_at})");
                    match (token_for(&flags, &pasted, &environment), sent) {
                        (Ok((account, _)), true) if account.origin.host() == host => {}
                        (Err(failure), false) if failure.code.exit() == 2 => {
                            let said = failure.json().to_string();
                            // A login for another host does not count for this one.
                            let named = if token_from == "keyring" { host } else { host_from };
                            if !said.contains(token_from) || !said.contains(named) {
                                wrong.push(format!("{row}: names not both: {said}"));
                            }
                        }
                        (found, _) => wrong.push(format!("{row}: {found:?}")),
                    }
                }
            }
        }
    }
    println!("dbt tokens and hosts: {} of {count}", count - wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
