//! How a provisioning command reports: the same for all of them.

use std::fmt::Write as _;

use super::plan::{Action, Change, Entry, Progress};
use crate::document::{Data, document};
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
    pub(crate) fields: Data,
}

impl Report for Provisioned {
    fn text(&self) -> String {
        let Provisioned { workspace: _, identity: _, dry_run: _, entries, lines, fields: _ } = self;
        // Once something failed, what was not begun is not reached; otherwise nothing was to be written at all.
        let stopped = entries.iter().any(|entry| match entry.progress {
            Progress::Written | Progress::Failed | Progress::Unknown => true,
            Progress::Pending | Progress::Done => false,
        });
        let mut text = String::new();
        for Entry { kind, name: _, quoted, action, progress, diff } in entries {
            let said = |verb: &str| match progress {
                Progress::Pending if stopped => "not reached".to_owned(),
                Progress::Pending => format!("would be {verb}"),
                Progress::Written => format!("{verb}, not confirmed"),
                Progress::Done => verb.to_owned(),
                Progress::Failed => "failed".to_owned(),
                Progress::Unknown => format!("unknown whether it was {verb}"),
            };
            let (sign, state) = match action {
                Action::Keep(None) => ('=', "as it should be".to_owned()),
                Action::Keep(Some(note)) => ('=', note.to_string()),
                Action::Create => ('+', said("created")),
                Action::Update(_) => ('~', said("updated")),
                Action::Remove => ('-', said("removed")),
                // The reason is said with the error, or with the dry run's last lines.
                Action::Blocked { why: _, unless: _ } => ('!', "refused".to_owned()),
            };
            let _ = writeln!(text, "  {sign} {kind} {quoted}: {state}");
            if let Action::Update(changes) = action {
                for change in changes {
                    describe(&mut text, change);
                }
            }
            if let Some(diff) = diff {
                text.push_str(diff);
                if !diff.ends_with('\n') {
                    text.push('\n');
                }
            }
        }
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    fn json(&self) -> Data {
        let Provisioned { workspace, identity, dry_run, entries, lines: _, fields } = self;
        let entries: Vec<Data> = entries.iter().map(Entry::json).collect();
        let mut data =
            document!({ "workspace": workspace, "identity": identity, "dry_run": dry_run, "steps": entries });
        data.extend(fields);
        data
    }
}

fn describe(text: &mut String, change: &Change) {
    let Change { field, from, to, reason } = change;
    let _ = match (from, to) {
        (Some(from), Some(to)) => writeln!(text, "      {field}: {from} -> {to} ({reason})"),
        (None, Some(to)) => writeln!(text, "      {field}: {to} ({reason})"),
        (Some(from), None) => writeln!(text, "      {field}: {from} -> nothing ({reason})"),
        (None, None) => writeln!(text, "      {field} ({reason})"),
    };
}
