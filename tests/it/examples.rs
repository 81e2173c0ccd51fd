//! The examples at the end of each command's help.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::Command;

use crate::arguments::{bare, commands, examples, subcommands};
use crate::harness::{DBT_TOKEN, Site};

#[test]
fn every_example_in_the_help_works() {
    let site = Site::with(|options| options.speed = 300.0);
    std::fs::write(site.home.path().join("new-key"), DBT_TOKEN).unwrap();
    site.make_workflow("Daily load");
    // In the order of the help, which is also the order in which a user would try them.
    let pages = commands().into_iter().flat_map(|command| {
        let (_, help, _) = bare(&[&command, "--help"]);
        let below = subcommands(&help).into_iter().map(|sub| vec![command.clone(), sub]).collect::<Vec<_>>();
        [vec![command]].into_iter().chain(below)
    });
    let mut counted = BTreeMap::new();
    for page in pages {
        let command = page.join(" ");
        let page: Vec<&str> = page.iter().map(String::as_str).collect();
        let (_, help, _) = bare(&[page.as_slice(), &["--help"]].concat());
        let mut started = Vec::new();
        for arguments in examples(&help) {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            match command.as_str() {
                // The help of `dbtrigger auth` itself has these examples, too; they need a keyring: tests/keyring runs them.
                "auth" | "auth login" | "auth logout" if arguments[1] != "status" => {
                    assert_eq!(site.run(&[&arguments[..2], &["--help"]].concat()).ends(0).stderr, "");
                }
                "sandbox" => serves_until_interrupted(&site, &arguments),
                // It has a sandbox of its own, and a test below.
                "demo" => {}
                // They mostly wait, and none needs another one's run.
                "run" => started.push(site.command(&arguments).spawn().unwrap()),
                _ => {
                    let _ = site.run(&arguments).ends(0);
                }
            }
            *counted.entry(command.clone()).or_insert(0) += 1;
        }
        for run in started {
            let _ = Site::finish(&page, run).ends(0);
        }
    }
    assert!(counted.len() >= 15 && counted.values().all(|count| *count >= 2), "{counted:?}");
    std::fs::remove_file(site.home.path().join("new-key")).unwrap();
}

#[test]
fn every_example_of_the_demo_works() {
    let site = Site::new();
    let started: Vec<_> = examples(&bare(&["demo", "--help"]).1)
        .into_iter()
        .map(|arguments| {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            site.command(&arguments).spawn().unwrap()
        })
        .collect();
    assert!(started.len() >= 2);
    for demo in started {
        let _ = Site::finish(&["demo"], demo).ends(0);
    }
}

/// Starts a command that runs until interrupted, reads its first line, and interrupts it.
fn serves_until_interrupted(site: &Site, arguments: &[&str]) {
    let mut child = site.command(arguments).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap_or_else(|| panic!("{arguments:?} prints nothing")).unwrap();
    assert!(first.starts_with("export DATABRICKS_HOST="), "{first}");
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let _ = Site::finish(arguments, child).ends(130);
    assert!(rest.iter().any(|line| line.starts_with("export DBT_CLOUD_TOKEN=")), "{rest:?}");
}
