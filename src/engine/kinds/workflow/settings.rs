//! The settings of a job that we manage: reading, comparing and writing them. Pure.
//!
//! All other settings of our jobs (notifications, other tags, permissions, description, further parameters and
//! tasks) are kept byte for byte.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::job_schedule::{JobSchedule, job_schedule, planned_schedule};
use super::{Identity, WorkflowWant, tasks};
use crate::databricks::raw::Raw;
use crate::engine::Change;
use crate::engine::kinds::digest::digest;
use crate::engine::kinds::task::{self, plain};
use crate::spec::Setting;

/// For users who filter jobs by tags.
const MANAGED_BY: (&str, &str) = ("managed-by", "dbtrigger");
/// The mark that a job is found by.
pub(crate) const ID_TAG: &str = "dbtrigger-id";
/// Digest of what we wrote last: tells "edited by hand" from "to be changed". The number before the hyphen is the
/// version of its field list, raised when other fields are managed.
const SETTINGS_TAG: &str = "dbtrigger-settings";
const SETTINGS_VERSION: &str = "2-";

/// A managed field by API name, and its value as text; `None`: absent.
pub(super) type Field = (String, Option<String>);

/// The wanted values of the managed job fields.
fn wanted_of_job(want: &WorkflowWant) -> Vec<Field> {
    let only = match want.tasks.as_slice() {
        [only] => Some(only.job.to_string()),
        _ => None,
    };
    vec![
        ("parameters.job_id".to_owned(), only),
        ("parameters.dbtrigger_job_id".to_owned(), None),
        ("max_concurrent_runs".to_owned(), Some("1".to_owned())),
        ("queue.enabled".to_owned(), Some("true".to_owned())),
    ]
}

/// The managed job fields as they are, with the service's defaults filled in.
fn found_of_job(settings: &Raw) -> Vec<Field> {
    let text = |raw: &Raw, name: &str, default: &str| {
        Some(raw.read::<Value>(name).map_or_else(|| default.to_owned(), |value| plain(&value)))
    };
    vec![
        ("parameters.job_id".to_owned(), parameter(settings, "job_id")),
        ("parameters.dbtrigger_job_id".to_owned(), parameter(settings, "dbtrigger_job_id")),
        ("max_concurrent_runs".to_owned(), text(settings, "max_concurrent_runs", "1")),
        ("queue.enabled".to_owned(), text(&settings.object("queue"), "enabled", "true")),
    ]
}

/// The wanted values of all managed fields.
fn wanted(want: &WorkflowWant) -> Vec<Field> {
    let mut fields = wanted_of_job(want);
    fields.extend(tasks::wanted(want));
    fields
}

/// The same fields as they are.
fn found(want: &WorkflowWant, settings: &Raw) -> Vec<Field> {
    let mut fields = found_of_job(settings);
    fields.extend(tasks::found(want, settings));
    fields
}

fn parameter(settings: &Raw, name: &str) -> Option<String> {
    let all = settings.list("parameters");
    let found = all.iter().find(|parameter| parameter.read::<String>("name").as_deref() == Some(name))?;
    Some(found.read::<Value>("default").map(|value| plain(&value)).unwrap_or_default())
}

/// The value of the digest tag for a state.
fn settings_tag(state: &impl Serialize) -> String {
    format!("{SETTINGS_VERSION}{}", digest(&json!(state).to_string(), 16))
}

fn digest_wanted(want: &WorkflowWant) -> String {
    settings_tag(&(wanted_of_job(want), tasks::state_wanted(want)))
}

/// Independent of what is wanted now, so that a changed set of tasks is not taken for an edit by hand.
fn digest_found(settings: &Raw) -> String {
    settings_tag(&(found_of_job(settings), tasks::state_found(settings)))
}

fn tags(settings: &Raw) -> BTreeMap<String, String> {
    settings.read("tags").unwrap_or_default()
}

/// The tags that we manage.
fn our_tags(want: &WorkflowWant) -> [(&'static str, String); 3] {
    let Identity(identity) = &want.identity;
    [(MANAGED_BY.0, MANAGED_BY.1.to_owned()), (ID_TAG, identity.clone()), (SETTINGS_TAG, digest_wanted(want))]
}

/// Whether a managed field was changed since we wrote it, to something other than what is wanted now. Without the
/// digest tag, any difference counts as edited.
pub(super) fn is_edited(want: &WorkflowWant, settings: &Raw) -> bool {
    found(want, settings) != wanted(want) && tags(settings).get(SETTINGS_TAG) != Some(&digest_found(settings))
}

/// How a job compares with its digest tag.
pub(super) enum Record {
    Agrees,
    Differs,
    /// There is no tag, or it covers other fields.
    Unknown,
}

pub(super) fn record(settings: &Raw) -> Record {
    match tags(settings).get(SETTINGS_TAG) {
        Some(tag) if *tag == digest_found(settings) => Record::Agrees,
        Some(tag) if tag.starts_with(SETTINGS_VERSION) => Record::Differs,
        Some(_) | None => Record::Unknown,
    }
}

/// Whether this is what was written last.
pub(super) fn is_written(want: &WorkflowWant, settings: &Raw) -> bool {
    tags(settings).get(SETTINGS_TAG) == Some(&digest_wanted(want))
}

/// Whether these settings belong to the wanted dbtrigger job. If so, what operators chose is kept; otherwise unset
/// flags get their defaults.
pub(super) fn is_own(want: &WorkflowWant, settings: &Raw) -> bool {
    tags(settings).get(ID_TAG).map(String::as_str) == Some(want.identity.as_str())
}

/// The emails notified of failed runs, sorted.
fn notified(settings: &Raw) -> Option<Vec<String>> {
    let mut all: Vec<String> = settings.object("email_notifications").read("on_failure")?;
    all.sort_unstable();
    (!all.is_empty()).then_some(all)
}

/// The changes to an existing job, field by field.
pub(super) fn changes(want: &WorkflowWant, settings: &Raw) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut compare = |field: &str, from: Option<String>, to: Option<String>, reason: &str| {
        if from != to {
            changes.push(Change { field: field.to_owned(), from, to, reason: reason.to_owned() });
        }
    };
    if want.named {
        compare("name", settings.read("name"), Some(want.name.clone()), "from --name");
    }
    let there = found(want, settings);
    for ((field, to), (_, from)) in wanted(want).into_iter().zip(there) {
        let reason = match field.as_str() {
            "parameters.job_id" => "from --job",
            "parameters.dbtrigger_job_id" => "it would start a different dbt job than --job",
            field => task::reason(field),
        };
        compare(&field, from, to, reason);
    }
    for (field, from, to, reason) in tasks::chosen(want, settings) {
        compare(&field, from, to, reason);
    }
    let existing = job_schedule(settings);
    let schedule = planned_schedule(want, existing.clone());
    let part = |schedule: Option<&JobSchedule>, part: fn(&JobSchedule) -> String| schedule.map(part);
    let pause = |existing: &JobSchedule| if existing.paused { "PAUSED".to_owned() } else { "UNPAUSED".to_owned() };
    for (field, of, reason) in [
        (
            "schedule.quartz_cron_expression",
            (|it| it.expression.clone()) as fn(&JobSchedule) -> String,
            "from --schedule",
        ),
        ("schedule.timezone_id", |it| it.timezone.clone(), "from --timezone or its default"),
        ("schedule.pause_status", pause, "from --paused, --unpaused, or the default"),
    ] {
        compare(field, part(existing.as_ref(), of), part(schedule.as_ref(), of), reason);
    }
    let shown = |all: Vec<String>| all.join(", ");
    let (from, to) = (notified(settings), want.settings.notify.after(notified(settings)));
    compare("email_notifications.on_failure", from.map(shown), to.map(shown), "from --notify");
    let there = tags(settings);
    for (name, value) in &want.settings.tags {
        compare(&format!("tags.{name}"), there.get(name).cloned(), Some(value.clone()), "from --tag");
    }
    for (name, value) in our_tags(want) {
        let reason = if name == SETTINGS_TAG { "the last write" } else { "the mark of dbtrigger" };
        compare(&format!("tags.{name}"), there.get(name).cloned(), Some(value), reason);
    }
    changes
}

pub(super) fn count_tags(want: &WorkflowWant, settings: &Raw) -> usize {
    let mut all = tags(settings);
    all.extend(want.settings.tags.clone());
    all.extend(our_tags(want).map(|(name, value)| (name.to_owned(), value)));
    all.len()
}

/// The whole settings to send: the existing or new ones with our fields set.
pub(super) fn whole(want: &WorkflowWant, there: Option<&Raw>) -> Raw {
    let mut settings = there.cloned().unwrap_or_default();
    // If omitted, it stays as it is; sent without permission to set it, it is refused.
    settings.remove("run_as");
    if want.named || there.is_none() {
        settings.set("name", &want.name);
    }
    let mut all_tags = settings.object("tags");
    for (name, value) in &want.settings.tags {
        all_tags.set(name, value);
    }
    for (name, value) in our_tags(want) {
        all_tags.set(name, &value);
    }
    // Ownership decides what is kept and is read from the old tags, so compute the tasks before setting ours.
    let tasks = tasks::whole(want, &settings);
    settings.set("tags", &all_tags);
    let parameters = parameters(want, settings.list("parameters"));
    if parameters.is_empty() {
        settings.remove("parameters");
    } else {
        settings.set("parameters", &parameters);
    }
    settings.set("tasks", &tasks);
    settings.set("max_concurrent_runs", &1);
    let mut queue = settings.object("queue");
    queue.set("enabled", &true);
    settings.set("queue", &queue);
    if let Some(JobSchedule { expression, timezone, paused }) = planned_schedule(want, job_schedule(&settings)) {
        let mut raw = settings.object("schedule");
        raw.set("quartz_cron_expression", &expression);
        raw.set("timezone_id", &timezone);
        raw.set("pause_status", if paused { "PAUSED" } else { "UNPAUSED" });
        settings.set("schedule", &raw);
    } else if want.settings.schedule == Setting::Clear {
        settings.remove("schedule");
    }
    let notify = want.settings.notify.after(notified(&settings));
    if notify != notified(&settings) {
        let mut emails = settings.object("email_notifications");
        match notify {
            Some(notify) => emails.set("on_failure", &notify),
            None => emails.remove("on_failure"),
        }
        settings.set("email_notifications", &emails);
    }
    settings
}

fn parameters(want: &WorkflowWant, mut all: Vec<Raw>) -> Vec<Raw> {
    let name = |parameter: &Raw| parameter.read::<String>("name").unwrap_or_default();
    all.retain(|parameter| name(parameter) != "dbtrigger_job_id");
    let [only] = want.tasks.as_slice() else {
        // It would win over each task's own.
        all.retain(|parameter| name(parameter) != "job_id");
        return all;
    };
    let place = all.iter().position(|parameter| name(parameter) == "job_id");
    let place = place.unwrap_or_else(|| {
        all.push(Raw::default());
        all.len() - 1
    });
    all[place].set("name", "job_id");
    all[place].set("default", &only.job.to_string());
    all
}

/// The changes as diff lines, without the digest tag, which follows from the rest.
pub(super) fn lines(changes: &[Change]) -> String {
    task::lines(changes.iter().filter(|change| !change.field.ends_with(SETTINGS_TAG)))
}
