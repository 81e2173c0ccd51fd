//! The report of every provisioning command.

use std::fmt::Write as _;

use super::plan::{Action, Change, Entry, Progress};
use crate::document::{Data, document};
use crate::failure::{Hint, Report, next_lines};

/// What was found and what was done about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Provisioned {
    /// The workspace.
    pub(crate) workspace: String,
    /// The identity used.
    pub(crate) identity: String,
    /// Whether nothing was written and the entries are only planned.
    pub(crate) dry_run: bool,
    pub(crate) entries: Vec<Entry>,
    /// Additions of the command: lines for text output, fields for JSON.
    pub(crate) lines: Vec<String>,
    /// What to do next: the last lines.
    pub(crate) hints: Vec<Hint>,
    pub(crate) fields: Data,
}

impl Report for Provisioned {
    fn text(&self) -> String {
        let Provisioned { workspace: _, identity: _, dry_run, entries, lines, hints, fields: _ } = self;
        // If any step was begun, the pending ones were not reached; otherwise nothing was meant to be written.
        let stopped = entries.iter().any(|entry| match entry.progress {
            Progress::Written | Progress::Failed | Progress::Unknown => true,
            Progress::Pending | Progress::Done => false,
        });
        let mut text = String::new();
        for Entry { kind, name: _, quoted, action, progress, diff } in entries {
            let said = |verb: &str| match progress {
                Progress::Pending if stopped => ": not reached".to_owned(),
                // In a plan, the sign is enough.
                Progress::Pending => String::new(),
                Progress::Written => format!(": {verb}, not confirmed"),
                Progress::Done => format!(": {verb}"),
                Progress::Failed => ": failed".to_owned(),
                Progress::Unknown => format!(": unknown whether {verb}"),
            };
            let (sign, state) = match action {
                Action::Keep(None) => ('=', ": unchanged".to_owned()),
                Action::Keep(Some(note)) => ('=', format!(": {note}")),
                Action::Create => ('+', said("created")),
                Action::Update(_) => ('~', said("updated")),
                Action::Remove => ('-', said("removed")),
                // Without a dry run, the reason is in the error.
                Action::Blocked { why: _, unless: _ } => ('!', ": refused".to_owned()),
            };
            let _ = writeln!(text, "  {sign} {kind} {quoted}{state}");
            if let Action::Update(changes) = action {
                for change in changes {
                    describe(&mut text, change);
                }
            }
            if let Action::Blocked { why, unless: _ } = action
                && *dry_run
            {
                let _ = writeln!(text, "      {}", why.what);
                for cause in &why.causes {
                    let _ = writeln!(text, "      cause: {cause}");
                }
            }
            if let Some(diff) = diff {
                text.push_str(diff);
                if !diff.ends_with('\n') {
                    text.push('\n');
                }
            }
        }
        if *dry_run && !entries.is_empty() {
            let count = |of: fn(&Action) -> bool| entries.iter().filter(|entry| of(&entry.action)).count();
            let add = count(|action| matches!(action, Action::Create));
            let change = count(|action| matches!(action, Action::Update(_)));
            let remove = count(|action| matches!(action, Action::Remove));
            let _ = match count(|action| matches!(action, Action::Blocked { .. })) {
                0 => writeln!(text, "Plan: {add} to add, {change} to change, {remove} to remove."),
                1 => writeln!(text, "Plan cannot be applied: 1 problem"),
                several => writeln!(text, "Plan cannot be applied: {several} problems"),
            };
        }
        for line in lines.iter().cloned().chain(next_lines(hints).into_iter().map(|line| format!("next: {line}"))) {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }

    fn verbatim(&self) -> Vec<&str> {
        self.entries.iter().filter_map(|entry| entry.diff.as_deref()).collect()
    }

    fn json(&self) -> Data {
        let Provisioned { workspace, identity, dry_run, entries, lines: _, hints: _, fields } = self;
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
