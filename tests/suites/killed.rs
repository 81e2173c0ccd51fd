//! Killed at every request, before, during and after its effect, then run once more: the same world, nothing double.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::Site;
use crate::{all, conclude};

/// A command, and what has to be there before it.
struct Subject {
    name: &'static str,
    before: &'static [&'static [&'static str]],
    arguments: &'static [&'static str],
}

const SECRETS: &[&str] = &["init-secrets", "--grant", "data-engineers", "--grant", "analysts"];
const NOTEBOOK: &[&str] = &["deploy-notebook"];
const WORKFLOW: &[&str] = &["create-workflow", "--job", "222222"];

const SUBJECTS: [Subject; 5] = [
    Subject { name: "init-secrets", before: &[], arguments: SECRETS },
    Subject { name: "deploy-notebook", before: &[SECRETS], arguments: NOTEBOOK },
    Subject {
        name: "deploy-notebook, an update",
        before: &[SECRETS, NOTEBOOK],
        arguments: &["deploy-notebook", "--allow-override", "git_branch"],
    },
    Subject { name: "create-workflow", before: &[SECRETS, NOTEBOOK], arguments: WORKFLOW },
    Subject {
        name: "create-workflow, an update",
        before: &[SECRETS, NOTEBOOK, WORKFLOW],
        arguments: &["create-workflow", "--job", "222222", "--schedule", "0 0 6 * * ?", "--timezone", "Europe/Berlin"],
    },
];

fn prepared(subject: &Subject) -> Site {
    let site = Site::new();
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
        whole.push(essence(&site.inspect()));
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        for line in &site.sandbox.log()[since..] {
            let operation = format!("{}:{}", line.service, line.operation);
            let nth = seen.entry(operation.clone()).or_default();
            *nth += 1;
            for kill in ["kill,phase=before", "kill-during", "kill,phase=after"] {
                cases.push((index, format!("{operation}={kill},nth={nth}")));
            }
        }
    }
    let failures = all(&cases, |(index, rule)| {
        let subject = &SUBJECTS[*index];
        let site = prepared(subject);
        site.fault(rule);
        let killed = site.run(subject.arguments);
        if killed.exit.is_some() {
            return Some(format!("{}, {rule}: it was not killed\n{killed}", subject.name));
        }
        let again = site.run(subject.arguments);
        if again.exit != Some(0) {
            return Some(format!("{}, {rule}: the second run failed\n{again}", subject.name));
        }
        let world = essence(&site.inspect());
        (world != whole[*index])
            .then(|| format!("{}, {rule}: another world\n{world}\ninstead of\n{}", subject.name, whole[*index]))
    });
    let failures: Vec<String> = failures.into_iter().flatten().collect();
    conclude("killed at every request, then run once more", &failures, cases.len());
}

/// The world without what may differ between two histories: ids and the count of writes.
fn essence(world: &Value) -> Value {
    let mut world = world.clone();
    forget(&mut world);
    world
}

fn forget(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for name in ["object_id", "job_id", "version", "created_time", "last_updated_timestamp", "dbt_runs"] {
                fields.shift_remove(name);
            }
            fields.values_mut().for_each(forget);
        }
        Value::Array(items) => items.iter_mut().for_each(forget),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
