//! What is used from `dbt_cloud.yml`, for which host, and why not.

use std::fs;

use super::*;
use crate::credentials::{
    Account, AccountFlags, InputErrors, KeySource, Token, account, account_id, api_token, key_to_store,
};
use crate::dbt::Link;
use crate::failure::{Code, Failure};
use crate::secret::Vault;

const TWO: &str = r#"
version: "1"
context:
  active-host: "ab123.us1.dbt.com"
  active-project: "4101"
  defer-env-id: "7"
projects:
  - project-name: "Shop"
    project-id: "4101"
    account-name: "Ours"
    account-id: "51234"
    account-host: "ab123.us1.dbt.com"
    token-name: "cli"
    token-value: "dbtu_of-shop-0123"
  - project-name: "Other"
    project-id: "4102"
    account-id: "99"
    account-host: "cd456.eu1.dbt.com"
    token-value: "dbtu_of-other-0123"
"#;

/// A home directory with the file, with environment, flags and pasted URLs.
struct Home {
    folder: tempfile::TempDir,
    environment: Environment,
    flags: AccountFlags,
    pasted: Vec<(String, Link)>,
}

impl Home {
    fn with(text: &str) -> Home {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(".dbt")).unwrap();
        let file = folder.path().join(".dbt/dbt_cloud.yml");
        fs::write(&file, text).unwrap();
        mode(&file, 0o600);
        let environment = Environment::of([("HOME", folder.path().to_str().unwrap())]);
        Home { folder, environment, flags: AccountFlags::default(), pasted: Vec::new() }
    }

    fn set(mut self, name: &str, value: &str) -> Home {
        self.environment = self.environment.with([(name.to_owned(), value.to_owned())]);
        self
    }

    fn host(mut self, host: &str) -> Home {
        self.flags.dbt_host = Some(host.to_owned());
        self
    }

    fn id(mut self, id: &str) -> Home {
        self.flags.dbt_account = Some(id.to_owned());
        self
    }

    fn job(mut self, address: &str) -> Home {
        self.pasted.push((address.to_owned(), Link::parse(address).unwrap()));
        self
    }

    fn find(&self) -> Result<(Account, Token), Failure> {
        let Home { folder: _, environment, flags, pasted } = self;
        let mut errors = InputErrors::default();
        let account = account(flags, pasted, environment, &mut errors);
        let token = api_token(flags, pasted, environment, &Vault::default(), &mut errors);
        let token = errors.need(token, crate::credentials::MissingInput::value("token", "give it", None));
        errors.settle().map(|()| (account.unwrap(), token.unwrap()))
    }

    /// Host, account, token, and the token's source.
    #[track_caller]
    fn is(&self, host: &str, id: u64, token: &str, from: &str) {
        let (account, found) = self.find().unwrap();
        let source = found.source().to_string().replace(&self.folder.path().display().to_string(), "~");
        assert_eq!((account.origin.to_string().as_str(), account.id, source.as_str()), (host, id, from));
        assert_eq!(found.secret_for(&account).unwrap().reveal(), token);
    }

    /// All causes of the failure, without the path of the temporary directory.
    fn said(&self) -> String {
        let failure = self.find().unwrap_err();
        assert_eq!((failure.code, failure.code.exit()), (Code::MissingInput, 2));
        let lines: Vec<String> = [failure.what].into_iter().chain(failure.causes).collect();
        lines.join("\n").replace(&self.folder.path().display().to_string(), "~")
    }
}

#[cfg(unix)]
fn mode(file: &std::path::Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(not(unix))]
fn mode(_: &std::path::Path, _: u32) {}

const SHOP: &str = "token-value of project 4101 in ~/.dbt/dbt_cloud.yml";

#[test]
fn the_active_project_gives_host_account_and_token() {
    Home::with(TWO).is("https://ab123.us1.dbt.com", 51234, "dbtu_of-shop-0123", SHOP);
    let other = TWO
        .replace("active-project: \"4101\"", "active-project: 4102")
        .replace("active-host: \"ab123.us1.dbt.com\"", "");
    let from = "token-value of project 4102 in ~/.dbt/dbt_cloud.yml";
    Home::with(&other).is("https://cd456.eu1.dbt.com", 99, "dbtu_of-other-0123", from);
    let home = Home::with(TWO);
    assert_eq!(account_id(&home.flags, &home.pasted, &home.environment).unwrap(), Some(51234));
}

#[test]
fn flags_and_variables_come_first_and_what_they_leave_open_is_filled() {
    let token = ("DBT_CLOUD_TOKEN", "dbtc_of-the-environment");
    Home::with(TWO).set(token.0, token.1).is("https://ab123.us1.dbt.com", 51234, token.1, token.0);
    let home = Home::with(TWO).host("ab123.us1.dbt.com").set("DBT_CLOUD_ACCOUNT_ID", "51234");
    home.is("https://ab123.us1.dbt.com", 51234, "dbtu_of-shop-0123", SHOP);
    let job = "https://ab123.us1.dbt.com/deploy/51234/projects/1/jobs/2";
    Home::with(TWO).job(job).is("https://ab123.us1.dbt.com", 51234, "dbtu_of-shop-0123", SHOP);
    // The file is not read if nothing is missing.
    let broken = Home::with("{").host("h.dbt.com").id("1").set(token.0, token.1);
    broken.is("https://h.dbt.com", 1, token.1, token.0);
}

#[test]
fn what_is_stored_with_a_host_goes_nowhere_else() {
    let elsewhere = "https://evil.dbt.com/deploy/51234/projects/1/jobs/2";
    for (home, source) in [
        (Home::with(TWO).host("evil.dbt.com").id("51234"), "--dbt-host is https://evil.dbt.com"),
        (Home::with(TWO).set("DBT_CLOUD_HOST", "evil.dbt.com").id("51234"), "DBT_CLOUD_HOST is https://evil.dbt.com"),
        (Home::with(TWO).job(elsewhere), "https://evil.dbt.com in the URL"),
    ] {
        let said = home.said();
        assert!(
            said.starts_with("no token given\ntried keyring: the keyring is not used: A_TEST is set\ntried dbt_cloud.yml: not used: account-host"),
            "{said}"
        );
        assert!(said.contains("of project 4101 in ~/.dbt/dbt_cloud.yml is https://ab123.us1.dbt.com, "), "{said}");
        assert!(said.contains(source) && said.ends_with("and a stored token is sent only to its own host"), "{said}");
        assert!(!said.contains("dbtu_"), "{said}");
    }
    // The file's account is not combined with another host.
    let home = Home::with(TWO).host("evil.dbt.com");
    assert_eq!(account_id(&home.flags, &home.pasted, &home.environment).unwrap(), None);
    assert!(home.said().contains("no dbt account ID"), "{}", home.said());
    let said = Home::with(TWO).id("99").said();
    assert!(said.contains("no dbt host"), "{said}");
    assert!(said.contains("is 51234, --dbt-account is 99"), "{said}");
}

#[test]
fn a_token_keeps_its_host_also_when_somebody_puts_it_together_with_another_account() {
    let (_, token) = Home::with(TWO).find().unwrap();
    let other = Home::with(TWO).host("evil.dbt.com").id("1").set("DBT_CLOUD_TOKEN", "dbtc_bare-0123");
    let (account, bare) = other.find().unwrap();
    assert!(bare.secret_for(&account).is_ok());
    let failure = token.secret_for(&account).unwrap_err();
    assert_eq!(failure.code, Code::Contradiction);
    assert!(failure.what.contains("is stored for https://ab123.us1.dbt.com and is not sent to https://evil.dbt.com"));
}

#[test]
fn a_bare_token_goes_to_no_strange_host_that_only_the_file_names() {
    let strange = TWO.replace("ab123.us1.dbt.com", "http://127.0.0.1:8080");
    Home::with(&strange).is("http://127.0.0.1:8080", 51234, "dbtu_of-shop-0123", SHOP);
    let (account, token) = Home::with(&strange).set("DBT_CLOUD_TOKEN", "dbtc_bare-0123").find().unwrap();
    let failure = token.secret_for(&account).unwrap_err();
    assert_eq!(failure.code, Code::Contradiction);
    assert!(failure.what.contains("only account-host of project 4101 in"), "{}", failure.what);
}

#[test]
fn a_file_that_gives_nothing_says_why() {
    for (from, to, why) in [
        (
            "active-project: \"4101\"",
            "active-project: 7",
            "~/.dbt/dbt_cloud.yml has no project 7, the active one; projects: 4101, 4102",
        ),
        ("active-project: \"4101\"", "", "has no active-project in its context"),
        ("\"4102\"", "\"4101\"", "has several projects 4101, the active one"),
        ("active-host: \"ab123", "active-host: \"zz999", "is https://zz999.us1.dbt.com, account-host of project 4101"),
        ("account-host: \"ab123.us1.dbt.com\"", "", "no account-host of project 4101 in ~/"),
        ("account-host: \"ab123.us1.dbt.com\"", "account-host: \"http://ab123.us1.dbt.com\"", "only https is allowed"),
        (
            "account-id: \"51234\"",
            "account-id: \"+5\"",
            "account-id of project 4101 in ~/.dbt/dbt_cloud.yml is not an account ID",
        ),
        ("token-value: \"dbtu_of-shop-0123\"", "", "project 4101 in ~/.dbt/dbt_cloud.yml has no token-value"),
        (
            "dbtu_of-shop-0123",
            "dbtu_of shop",
            "token-value of project 4101 in ~/.dbt/dbt_cloud.yml is not a token: it contains a space",
        ),
        ("context:", "context: dbtu_x", "cannot read ~/.dbt/dbt_cloud.yml: line "),
        ("projects:", "projects: &a [*a]\nothers:", "cannot read ~/.dbt/dbt_cloud.yml: line"),
        ("version: \"1\"", "version: [", "cannot read ~/.dbt/dbt_cloud.yml: line"),
    ] {
        let said = Home::with(&TWO.replacen(from, to, if from == "\"4102\"" { 9 } else { 1 })).said();
        assert!(said.contains(why) && !said.contains("dbtu_"), "{why}: {said}");
    }
    let home = Home::with(TWO);
    fs::remove_file(home.folder.path().join(".dbt/dbt_cloud.yml")).unwrap();
    assert!(home.said().contains("tried dbt_cloud.yml: no file ~/.dbt/dbt_cloud.yml"), "{}", home.said());
    fs::create_dir(home.folder.path().join(".dbt/dbt_cloud.yml")).unwrap();
    assert!(home.said().contains("cannot read ~/.dbt/dbt_cloud.yml: "), "{}", home.said());
}

#[test]
fn an_older_file_has_a_token_under_another_name_and_no_account() {
    let old = "context:\n  active-project: 1\nprojects:\n  - project-id: 1\n    account-host: ab.us1.dbt.com\n    api-key: 0123456789\n";
    let said = Home::with(old).said();
    assert!(said.contains("no dbt account ID given") && !said.contains("the token"), "{said}");
    Home::with(old).id("5").is(
        "https://ab.us1.dbt.com",
        5,
        "0123456789",
        "api-key of project 1 in ~/.dbt/dbt_cloud.yml",
    );
}

#[cfg(unix)]
#[test]
fn a_file_that_others_can_read_is_remarked_on() {
    for (bits, remarked) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true)] {
        let home = Home::with(TWO);
        mode(&home.folder.path().join(".dbt/dbt_cloud.yml"), bits);
        let token = home.find().unwrap().1;
        assert_eq!(token.remarks().iter().any(|text| text.contains("chmod 600")), remarked, "{bits:o}");
    }
}

#[tokio::test]
async fn the_key_to_store_never_comes_from_the_file() {
    let home = Home::with(TWO);
    let key = key_to_store(&KeySource::default(), &home.environment, &Vault::default()).await.unwrap();
    assert!(key.is_none());
}
