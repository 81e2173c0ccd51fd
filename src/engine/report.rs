//! How a provisioning command reports: the same for all of them.

use serde_json::{Map, Value, json};

use super::plan::{Action, Entry, Refusal};
use crate::failure::Report;

/// What was found, and what was done about it.
#[derive(Clone, Debug)]
pub(crate) struct Provisioned {
    /// The workspace that was written to.
    pub(crate) workspace: String,
    /// The identity that wrote.
    pub(crate) identity: String,
    /// Nothing was written: this is what would be.
    pub(crate) dry_run: bool,
    pub(crate) entries: Vec<Entry>,
    /// What the command adds: lines for people, fields for JSON.
    pub(crate) lines: Vec<String>,
    pub(crate) fields: Map<String, Value>,
}

impl Report for Provisioned {
    fn text(&self) -> String {
        let Provisioned { workspace: _, identity: _, dry_run, entries, lines, fields: _ } = self;
        let mut text = String::new();
        for Entry { kind, name, action } in entries {
            let line = match action {
                Action::Keep(None) => format!("  = {kind} {name}: as it should be"),
                Action::Keep(Some(note)) => format!("  = {kind} {name}: {note}"),
                Action::Create if *dry_run => format!("  + {kind} {name}: would be created"),
                Action::Create => format!("  + {kind} {name}: created"),
                Action::Update(_) if *dry_run => format!("  ~ {kind} {name}: would be updated"),
                Action::Update(_) => format!("  ~ {kind} {name}: updated"),
                Action::Blocked { why, unless: _ } => format!("  ! {kind} {name}: {}", why.what),
            };
            text.push_str(&line);
            text.push('\n');
            match action {
                Action::Update(changes) => {
                    for change in changes {
                        text.push_str(&format!("      {}", change.field));
                        match (&change.from, &change.to) {
                            (Some(from), Some(to)) => text.push_str(&format!(": {from} -> {to}")),
                            (None, Some(to)) => text.push_str(&format!(": {to}")),
                            (Some(from), None) => text.push_str(&format!(": {from} -> nothing")),
                            (None, None) => {}
                        }
                        text.push_str(&format!(" ({})\n", change.reason));
                    }
                }
                Action::Blocked { why: Refusal { what: _, diff: Some(diff) }, unless: _ } => text.push_str(diff),
                Action::Keep(_)
                | Action::Create
                | Action::Blocked { why: Refusal { what: _, diff: None }, unless: _ } => {}
            }
        }
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    fn json(&self) -> Value {
        let Provisioned { workspace, identity, dry_run, entries, lines: _, fields } = self;
        let entries: Vec<Value> = entries.iter().map(Entry::json).collect();
        let mut data = json!({ "workspace": workspace, "identity": identity, "dry_run": dry_run, "steps": entries });
        if let Value::Object(data) = &mut data {
            data.extend(fields.clone());
        }
        data
    }
}
