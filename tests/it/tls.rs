//! The sandbox over https: only a client that trusts its certificate gets through.

use std::ffi::OsStr;
use std::process::Command;

use crate::harness::Site;

pub(crate) fn secure() -> Site {
    secure_since(0)
}

/// With a certificate created this many days ago, valid for a year.
#[expect(clippy::disallowed_methods, reason = "a certificate is checked against the real time")]
pub(crate) fn secure_since(days: i64) -> Site {
    Site::with(|options| {
        options.tls = Some(jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * days));
        options.speed = 300.0;
    })
}

fn variable(command: &Command, name: &str) -> String {
    let value = command.get_envs().find(|(known, _)| *known == OsStr::new(name));
    value.unwrap().1.unwrap().to_str().unwrap().to_owned()
}

#[test]
fn the_guide_works_over_https_and_the_notebooks_own_python_trusts_the_file_too() {
    let site = secure();
    let _ = site.run(&["init-secrets"]).ends(0);
    let _ = site.run(&["deploy-notebook"]).ends(0);
    let _ = site.run(&["create-workflow", "--job", "222222"]).ends(0);
    let _ = site.run(&["run", "--workflow", "dbt: Nightly build (222222)"]).ends(0).says("DbtJobRunStatus.SUCCESS");
    let _ = site.run(&["run", "222222"]).ends(0).says("https://127.0.0.1:");
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_an_error_of_its_own_and_a_bundle_ends_it() {
    let site = secure();
    let bundle = variable(&site.command(&[]), "SSL_CERT_FILE");
    let run = |arguments: &[&str]| {
        let mut command = site.command(arguments);
        command.env_remove("SSL_CERT_FILE");
        Site::finish(arguments, command.spawn().unwrap())
    };
    let refused = run(&["jobs", "-o", "json"]).ends(12);
    assert_eq!(refused.json()["error"]["code"], "tls", "{refused}");
    let _ = refused.says("--ca-bundle").says("SSL_CERT_FILE");
    let _ = run(&["jobs", "--ca-bundle", &bundle]).ends(0).says("222222");
}

#[test]
fn a_bundle_that_cannot_be_used_is_refused_before_anything_is_sent() {
    let site = secure();
    let junk = site.home.path().join("junk.pem");
    std::fs::write(&junk, "it contains no PEM certificate (-----BEGIN CERTIFICATE-----)").unwrap();
    for file in [junk.to_str().unwrap(), "absent.pem"] {
        let _ = site.run(&["init-secrets", "--ca-bundle", file]).ends(2).says(file).says("--ca-bundle");
    }
    assert_eq!(site.requests(), 0);
}

#[test]
fn a_loopback_host_is_reached_without_the_proxy_also_by_its_name() {
    let site = secure();
    for name in ["127.0.0.1", "localhost"] {
        let mut command = site.command(&["jobs"]);
        let host = variable(&command, "DBT_CLOUD_HOST").replace("127.0.0.1", name);
        // Nothing listens there.
        command.env("HTTPS_PROXY", "http://127.0.0.1:9").env("DBT_CLOUD_HOST", host);
        let _ = Site::finish(&["jobs"], command.spawn().unwrap()).ends(0);
    }
}
