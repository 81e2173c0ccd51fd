//! Which account is found, and every refusal.

use super::*;

fn find(flags: &AccountFlags, job: Option<&str>, environment: &Environment) -> Result<Account, Failure> {
    let pasted: Vec<(String, Link)> = job.iter().map(|text| ((*text).to_owned(), Link::parse(text).unwrap())).collect();
    let mut wants = Wants::default();
    let found = account(flags, &pasted, environment, &mut wants);
    wants.settle().map(|()| found.unwrap())
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
        find(flags, job, environment).unwrap().check_bare_token().is_ok()
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
    assert_eq!((failure.code, failure.causes.len()), (Code::MissingInput, 5));
    assert_eq!(failure.causes[2], "tried keyring: the keyring is not opened, since this is a test");
    assert_eq!(failure.causes[3], "tried dbt_cloud.yml: there is no home folder");
    assert!(failure.causes[4].contains("DBT_TOKEN"));
}
