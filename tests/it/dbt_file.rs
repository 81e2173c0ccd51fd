//! dbt's own file in the home folder: good for requests to dbt, but never a key to store.

use std::path::PathBuf;

use crate::harness::{DBT_TOKEN, Output, Site};

/// Runs without any dbt variable.
fn run(site: &Site, arguments: &[&str]) -> Output {
    let mut command = site.command(arguments);
    for name in ["DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID", "DBT_CLOUD_TOKEN"] {
        command.env_remove(name);
    }
    Site::finish(arguments, command.spawn().unwrap())
}

fn write(site: &Site, host: &str, mode: u32) -> PathBuf {
    let folder = site.home.path().join(".dbt");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("dbt_cloud.yml");
    let text = format!(
        "version: \"1\"\ncontext:\n  active-host: \"{host}\"\n  active-project: \"4101\"\nprojects:\n  - project-name: \"Jaffle Shop\"\n    \
         project-id: \"4101\"\n    account-id: \"51234\"\n    account-host: \"{host}\"\n    token-name: \"cli\"\n    token-value: \"{DBT_TOKEN}\"\n"
    );
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    file
}

#[test]
fn jobs_are_listed_and_run_with_nothing_but_dbts_own_file() {
    let site = Site::with(|options| options.speed = 300.0);
    let file = write(&site, site.sandbox.origin(), 0o600);
    let listed = run(&site, &["jobs"]).ends(0).says("222222");
    assert!(!listed.stderr.contains("chmod"), "{listed}");
    let document = run(&site, &["run", "222222", "-o", "json"]).ends(0).json();
    assert_eq!(document["data"]["status"], "SUCCESS", "{document}");
    // Readable by others: a warning, but it works.
    let _ = write(&site, site.sandbox.origin(), 0o644);
    let _ = run(&site, &["jobs"]).ends(0).says("chmod 600");
    // A rejection by dbt names the source of the token.
    site.fault("dbt:jobs/list=status=401");
    let _ = run(&site, &["jobs"]).ends(4);
    // The token is not sent to another host.
    let before = site.requests();
    let _ = run(&site, &["jobs", "-v", "--dbt-host", "http://127.0.0.1:9", "--dbt-account", "51234"])
        .ends(2)
        .says("--dbt-host is http://127.0.0.1:9")
        .says("and a stored token is sent only to its own host");
    // Text that is not YAML is reported with file and line.
    std::fs::write(&file, "projects:\n  - [\n").unwrap();
    let _ = run(&site, &["jobs", "-v"]).ends(2).says(file.to_str().unwrap()).says("line 2");
    assert_eq!(site.requests(), before);
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_key_to_store_is_not_taken_from_dbts_own_file() {
    let site = Site::new();
    let file = write(&site, site.sandbox.origin(), 0o600);
    let _ = run(&site, &["init-secrets"]).ends(2).says("--token-stdin");
    assert!(site.writes(0).is_empty());
    assert_eq!(site.inspect()["scopes"]["dbt-cloud"], serde_json::Value::Null);
    std::fs::remove_file(file).unwrap();
}
