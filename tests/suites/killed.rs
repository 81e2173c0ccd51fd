//! Kills the program at every request, before, during and after its effect, then runs it again: the result is the
//! same, without duplicates.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::harness::Site;
use crate::{all, conclude};

/// A command, and the commands that precede it.
struct Subject {
    name: &'static str,
    before: &'static [&'static [&'static str]],
    arguments: &'static [&'static str],
}

const SECRETS: &[&str] = &["init-secrets", "--grant", "data-engineers", "--grant", "analysts"];
const NOTEBOOK: &[&str] = &["deploy-notebook"];
const WORKFLOW: &[&str] = &["create-workflow", "--job", "222222"];
/// A task in someone else's workflow, which exists in every world here.
const TASK: &[&str] = &["create-workflow", "--add-to", "Daily load", "--job", "222222"];

const SUBJECTS: [Subject; 13] = [
    Subject { name: "init-secrets", before: &[], arguments: SECRETS },
    Subject { name: "deploy-notebook", before: &[SECRETS], arguments: NOTEBOOK },
    Subject {
        name: "deploy-notebook, an update",
        before: &[SECRETS, NOTEBOOK],
        arguments: &["deploy-notebook", "--allow-override", "git_branch"],
    },
    Subject {
        name: "deploy-notebook with a grant",
        before: &[SECRETS, NOTEBOOK],
        arguments: &["deploy-notebook", "--grant", "data-engineers"],
    },
    Subject {
        name: "create-workflow, from one job to two",
        before: &[SECRETS, NOTEBOOK, &["create-workflow", "--job", "222222", "--name", "Both"]],
        arguments: &[
            "create-workflow",
            "--name",
            "Both",
            "--job",
            "222222",
            "--job",
            "222225",
            "--depends-on",
            "dbt_222225=dbt_222222",
        ],
    },
    Subject { name: "create-workflow", before: &[SECRETS, NOTEBOOK], arguments: WORKFLOW },
    Subject {
        name: "create-workflow with a check",
        before: &[SECRETS, NOTEBOOK],
        arguments: &["create-workflow", "--job", "222222", "--check"],
    },
    Subject {
        name: "create-workflow as another, with grants",
        before: &[SECRETS, NOTEBOOK],
        arguments: &[
            "create-workflow",
            "--job",
            "222222",
            "--run-as",
            "0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d11",
            "--grant-run-as",
            "--grant",
            "data-engineers:CAN_MANAGE_RUN",
        ],
    },
    Subject {
        name: "create-workflow, an update",
        before: &[SECRETS, NOTEBOOK, WORKFLOW],
        arguments: &["create-workflow", "--job", "222222", "--schedule", "0 0 6 * * ?", "--timezone", "Europe/Berlin"],
    },
    Subject {
        name: "remove --all",
        before: &[&["init-secrets"], NOTEBOOK, WORKFLOW, TASK],
        arguments: &["remove", "--all", "--with-secret", "-y"],
    },
    Subject {
        name: "remove --job, with access that stays",
        before: &[SECRETS, NOTEBOOK, WORKFLOW, TASK],
        arguments: &["remove", "--job", "222222", "-y"],
    },
    Subject { name: "create-workflow --add-to", before: &[SECRETS, NOTEBOOK], arguments: TASK },
    Subject {
        name: "create-workflow --add-to, an update",
        before: &[SECRETS, NOTEBOOK, TASK],
        arguments: &[
            "create-workflow",
            "--add-to",
            "Daily load",
            "--job",
            "222222",
            "--depends-on",
            "dbt_222222=load",
            "--retries",
            "1",
        ],
    },
];

fn prepared(subject: &Subject) -> Site {
    let site = Site::new();
    site.make_workflow("Daily load");
    for arguments in subject.before {
        let _ = site.run(arguments).ends(0);
    }
    site
}

#[test]
fn killed_at_every_request_and_run_once_more() {
    let mut cases = Vec::new();
    let mut whole = Vec::new();
    for (index, subject) in SUBJECTS.iter().enumerate() {
        let site = prepared(subject);
        let since = site.requests();
        let _ = site.run(subject.arguments).ends(0);
        whole.push(essence(&site));
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        for line in &site.sandbox.log()[since..] {
            let operation = line.operation.to_owned();
            let nth = seen.entry(operation.clone()).or_default();
            *nth += 1;
            // Requests by the check's notebook are not points to kill us at.
            if !line.agent.as_ref().is_some_and(|agent| agent.starts_with("dbtrigger/")) {
                continue;
            }
            for kill in ["kill,phase=before", "kill-during", "kill,phase=after"] {
                cases.push((index, format!("{operation}={kill},nth={nth}")));
            }
        }
    }
    let deaths = AtomicUsize::new(0);
    let failures = all(&cases, |(index, rule)| {
        let subject = &SUBJECTS[*index];
        let site = prepared(subject);
        site.fault(rule);
        // Reads are sent in parallel, and one that is no longer needed is dropped: then nothing is killed, or the
        // rule takes effect in the next run.
        let (mut killed, mut done, mut starts) = (false, false, 0);
        for _ in 0..3 {
            let output = site.run(subject.arguments);
            starts += 1;
            match output.exit {
                None => killed = true,
                Some(0) => done = true,
                Some(_) => return Some(format!("{}, {rule}: neither killed nor done\n{output}", subject.name)),
            }
            if done {
                break;
            }
        }
        deaths.fetch_add(usize::from(killed), Ordering::Relaxed);
        if !done {
            return Some(format!("{}, {rule}: not done after three runs", subject.name));
        }
        if let Some(wrong) = wrong_checks(&site, starts, subject.arguments.contains(&"--check")) {
            return Some(format!("{}, {rule}: {wrong}", subject.name));
        }
        let place = difference(&whole[*index], &essence(&site))?;
        Some(format!("{}, {rule}: another world, {place}", subject.name))
    });
    let failures: Vec<String> = failures.into_iter().flatten().collect();
    let deaths = deaths.into_inner();
    assert!(deaths * 10 >= cases.len() * 9, "only {deaths} of {} were killed", cases.len());
    conclude("killed at every request, then run once more", &failures, cases.len());
}

/// What is wrong with the one-time runs of several starts: each start makes at most one, and the last waits for its
/// own.
fn wrong_checks(site: &Site, starts: usize, wanted: bool) -> Option<String> {
    let world = site.inspect();
    let runs = world["job_runs"].as_array().unwrap();
    let well = match runs.last() {
        Some(last) => wanted && runs.len() <= starts && last["result"] == "SUCCESS",
        None => !wanted,
    };
    (!well).then(|| format!("{} one-time runs of {starts} starts: {}", runs.len(), world["job_runs"]))
}

/// The world without its one-time runs, which are checked separately.
fn essence(site: &Site) -> Value {
    let mut world = site.essence();
    world.as_object_mut().unwrap().shift_remove("job_runs");
    world
}

/// The path of the first difference between two worlds.
fn difference(due: &Value, found: &Value) -> Option<String> {
    if due == found {
        return None;
    }
    match (due, found) {
        (Value::Object(due), Value::Object(found)) => {
            let names = due.keys().chain(found.keys());
            names.into_iter().find_map(|name| {
                let field = |of: &serde_json::Map<String, Value>| of.get(name).cloned().unwrap_or_default();
                difference(&field(due), &field(found)).map(|deeper| format!("{name} > {deeper}"))
            })
        }
        (Value::Array(due), Value::Array(found)) if due.len() == found.len() => {
            due.iter().zip(found).find_map(|(due, found)| difference(due, found))
        }
        _ => Some(format!("{due} became {found}")),
    }
}
