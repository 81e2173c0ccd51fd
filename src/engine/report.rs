//! The report of every provisioning command.

use super::plan::{Action, Change, Entry, Progress, Refusal};
use crate::document::{Data, document};
use crate::failure::{Hint, Report, next_lines};
use crate::line::Line;

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
    pub(crate) lines: Vec<Line>,
    /// What to do next: the last lines.
    pub(crate) hints: Vec<Hint>,
    pub(crate) fields: Data,
}

impl Report for Provisioned {
    fn text(&self) -> Vec<Line> {
        let Provisioned { workspace: _, identity: _, dry_run, entries, lines, hints, fields: _ } = self;
        // If any step was begun, the pending ones were not reached; otherwise nothing was meant to be written.
        let stopped = entries.iter().any(|entry| match entry.progress {
            Progress::Written | Progress::Failed | Progress::Unknown => true,
            Progress::Pending | Progress::Done => false,
        });
        let mut text = Vec::new();
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
            text.push(Line::Item(2, format!("{sign} {kind} {quoted}{state}")));
            if let Action::Update(changes) = action {
                text.extend(changes.iter().map(|change| Line::Item(6, described(change))));
            }
            if let Action::Blocked { why, unless: _ } = action
                && *dry_run
            {
                for Refusal { what, causes, .. } in [why].into_iter().chain(&why.others) {
                    text.push(Line::Item(6, what.clone()));
                    text.extend(causes.iter().map(|cause| Line::Item(6, format!("cause: {cause}"))));
                }
            }
            text.extend(diff.as_deref().map(|diff| diff.trim_end_matches('\n').into()));
        }
        if *dry_run && !entries.is_empty() {
            let count = |of: fn(&Action) -> bool| entries.iter().filter(|entry| of(&entry.action)).count();
            let add = count(|action| matches!(action, Action::Create));
            let change = count(|action| matches!(action, Action::Update(_)));
            let remove = count(|action| matches!(action, Action::Remove));
            let problems = |entry: &Entry| match &entry.action {
                Action::Blocked { why, unless: _ } => 1 + why.others.len(),
                Action::Keep(_) | Action::Create | Action::Update(_) | Action::Remove => 0,
            };
            let plan = match entries.iter().map(problems).sum() {
                0 => format!("Plan: {add} to add, {change} to change, {remove} to remove."),
                1 => "Plan cannot be applied: 1 problem".to_owned(),
                several => format!("Plan cannot be applied: {several} problems"),
            };
            text.push(plan.into());
        }
        text.extend(lines.iter().cloned().chain(next_lines(hints)));
        text
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

fn described(change: &Change) -> String {
    let Change { field, from, to, reason } = change;
    match (from, to) {
        (Some(from), Some(to)) => format!("{field}: {from} -> {to} ({reason})"),
        (None, Some(to)) => format!("{field}: {to} ({reason})"),
        (Some(from), None) => format!("{field}: {from} -> nothing ({reason})"),
        (None, None) => format!("{field} ({reason})"),
    }
}
