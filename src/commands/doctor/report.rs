//! The result of one check, and the report of all of them.

use std::collections::BTreeMap;

use crate::commands::GlobalFlags;
use crate::document::{Data, document};
use crate::failure::{Code, Failure, Hint, Report, hints_in_json, next_lines};
use crate::line::Line;

/// The section a check belongs to, in display order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Section {
    Dbt,
    Databricks,
    /// What dbtrigger set up, and the dbt jobs it starts.
    Setup,
}

impl Section {
    const ALL: [Section; 3] = [Section::Dbt, Section::Databricks, Section::Setup];

    /// The prefix of a check's ID.
    pub(super) fn word(self) -> &'static str {
        match self {
            Section::Dbt => "dbt",
            Section::Databricks => "databricks",
            Section::Setup => "setup",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Section::Dbt => "dbt",
            Section::Databricks => "Databricks",
            Section::Setup => "Setup",
        }
    }
}

/// Result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    Warning,
    Failed,
    /// Not checked, because another check failed.
    Skipped,
}

impl Status {
    const ALL: [Status; 4] = [Status::Failed, Status::Warning, Status::Ok, Status::Skipped];

    fn word(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Failed => "failed",
            Status::Skipped => "skipped",
        }
    }

    /// Independent of whether the output is a terminal.
    fn symbol(self) -> char {
        match self {
            Status::Ok => '✓',
            Status::Warning => '!',
            Status::Failed => '✗',
            Status::Skipped => '–',
        }
    }
}

/// One check.
#[derive(Clone, Debug)]
pub(super) struct Check {
    part: Section,
    /// Stable; the part after a colon tells several objects apart.
    id: String,
    status: Status,
    what: String,
    reasons: Vec<String>,
    /// How many of the last reasons say where a value was looked for.
    tried: usize,
    next: Vec<Hint>,
    /// Of a failed check.
    code: Option<Code>,
    /// Later checks do not depend on it.
    is_optional: bool,
    /// The command that creates what it did not find, and all else that a first run needs.
    setup: Option<String>,
}

impl Check {
    fn new(part: Section, id: &str, status: Status, what: impl Into<String>) -> Check {
        let id = format!("{}.{id}", part.word());
        let what = what.into();
        let (reasons, next) = (Vec::new(), Vec::new());
        Check { part, id, status, what, reasons, tried: 0, next, code: None, is_optional: false, setup: None }
    }

    pub(super) fn ok(part: Section, id: &str, what: impl Into<String>) -> Check {
        Check::new(part, id, Status::Ok, what)
    }

    pub(super) fn warning(part: Section, id: &str, what: impl Into<String>) -> Check {
        Check::new(part, id, Status::Warning, what)
    }

    pub(super) fn failed(part: Section, id: &str, failure: Failure) -> Check {
        let Failure { code, what, causes, hints, open_questions } = failure;
        Check {
            code: Some(code),
            reasons: causes,
            tried: open_questions.tried,
            next: hints,
            ..Check::new(part, id, Status::Failed, what)
        }
    }

    pub(super) fn skipped(part: Section, id: &str, reason: &str) -> Check {
        let check = Check::new(part, id, Status::Skipped, "");
        Check { what: check.subject(), reasons: vec![reason.to_owned()], ..check }
    }

    /// What it checks, in words.
    fn subject(&self) -> String {
        let (_, name) = self.id.split_once('.').unwrap_or_default();
        let (kind, object) = name.split_once(':').map_or((name, None), |(kind, object)| (kind, Some(object)));
        let (kind, belongs_to) = match (self.part, kind) {
            (Section::Dbt | Section::Databricks, kind) => return format!("{} {kind}", self.part.title()),
            (Section::Setup, "job") => ("dbt job", false),
            // Unknown while its notebook cannot be read.
            (Section::Setup, "key") if object.is_some_and(|object| object.starts_with('/')) => {
                ("secret of notebook", false)
            }
            (Section::Setup, "key") => ("secret", false),
            (Section::Setup, "last-run") => ("last run", true),
            (Section::Setup, "rights") => ("access", true),
            (Section::Setup, "overrides" | "schedule") => (kind, true),
            (Section::Setup, _) => (kind, false),
        };
        match object {
            None => kind.to_owned(),
            Some(workflow) if belongs_to => format!("{kind} of workflow {workflow}"),
            Some(object) => format!("{kind} {object}"),
        }
    }

    pub(super) fn because(mut self, reason: impl Into<String>) -> Check {
        self.reasons.push(reason.into());
        self
    }

    /// Adds a warning to a check that passed.
    pub(super) fn warn(mut self, reason: impl Into<String>) -> Check {
        if self.status == Status::Ok {
            self.status = Status::Warning;
        }
        self.because(reason)
    }

    /// Adds the next steps of a failure.
    pub(super) fn then(mut self, hints: Vec<Hint>) -> Check {
        self.next.extend(hints);
        self
    }

    pub(super) fn run(mut self, label: &'static str, command: impl Into<String>) -> Check {
        self.next.push(Hint::run(label, command));
        self
    }

    pub(super) fn advise(mut self, advice: impl Into<String>) -> Check {
        self.next.push(Hint::Do(advice.into()));
        self
    }

    pub(super) fn part(&self) -> Section {
        self.part
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Marks it as not required by later checks.
    pub(super) fn optional(self) -> Check {
        Check { is_optional: true, ..self }
    }

    /// If what it looks for does not exist, marks it as mended by `setup`, for this dbt job if that is known.
    pub(super) fn or_setup(self, job: Option<u64>) -> Check {
        let job = job.map(|job| format!(" --job {job}")).unwrap_or_default();
        let is_missing = self.code == Some(Code::NotFound);
        Check { setup: is_missing.then(|| format!("dbtrigger setup{job}")), ..self }
    }

    pub(super) fn blocks_later_checks(&self) -> bool {
        self.has_failed() && !self.is_optional
    }

    /// The reason for skipping another check, if this one has failed.
    pub(super) fn as_reason(&self) -> String {
        format!("the check of {} failed", self.subject())
    }

    pub(super) fn has_failed(&self) -> bool {
        self.status == Status::Failed
    }

    /// The next steps, with the global flags of this command.
    fn hints(&self, global_flags: &GlobalFlags) -> Vec<Hint> {
        self.next.iter().cloned().map(|hint| global_flags.hint(hint)).collect()
    }

    fn text(&self) -> Vec<Line> {
        let Check { status, what, reasons, tried, .. } = self;
        if *status == Status::Skipped {
            let skipped = format!("{} {what}: skipped because {}", status.symbol(), reasons.join("; "));
            return vec![Line::Item(2, skipped)];
        }
        let mut lines = vec![Line::Item(2, format!("{} {what}", status.symbol()))];
        for reason in &reasons[..reasons.len() - tried] {
            lines.extend(format!("cause: {reason}").lines().map(|line| Line::Item(6, line.to_owned())));
        }
        lines
    }

    fn json(&self, global_flags: &GlobalFlags) -> Data {
        let Check { id, status, what, reasons, .. } = self;
        let reason = (!reasons.is_empty()).then(|| reasons.join("; "));
        let hints = hints_in_json(&self.hints(global_flags));
        document!({ "id": id, "status": status.word(), "what": what, "reason": reason, "next": hints })
    }
}

/// All checks in display order.
pub(super) struct Examined {
    checks: Vec<Check>,
    global_flags: GlobalFlags,
}

impl Examined {
    pub(super) fn new(mut checks: Vec<Check>, global_flags: GlobalFlags) -> Examined {
        checks.sort_by_key(|check| check.part);
        Examined { checks, global_flags }
    }

    /// The failure of the command if a check has failed, with the first next step of each.
    pub(super) fn failure(&self) -> Option<Failure> {
        let broken = || self.checks.iter().filter(|check| check.status == Status::Failed);
        let subjects: Vec<String> = broken().map(Check::subject).collect();
        let what = match subjects.as_slice() {
            [] => return None,
            [only] => format!("1 check failed: {only}"),
            several => format!("{} checks failed: {}", several.len(), several.join(", ")),
        };
        let mut failure = Failure::new(Code::Failed, what);
        failure.hints = self.hints(Status::Failed);
        Some(failure)
    }

    /// What to do about all checks that ended so, each thing once. `setup` mends several checks at once.
    fn hints(&self, status: Status) -> Vec<Hint> {
        let checks = || self.checks.iter().filter(|check| check.status == status);
        let mended: Vec<&String> = checks().filter_map(|check| check.setup.as_ref()).collect();
        let setup = mended.first().filter(|_| mended.len() > 1);
        let mut all: Vec<Hint> = setup.map(|setup| Hint::run("set up everything", *setup)).into_iter().collect();
        for check in checks().filter(|check| setup.is_none() || check.setup.is_none()) {
            for hint in &check.next {
                if !all.contains(hint) {
                    all.push(hint.clone());
                }
            }
        }
        all
    }

    fn counts(&self) -> [(&'static str, usize); 4] {
        Status::ALL.map(|status| (status.word(), self.checks.iter().filter(|check| check.status == status).count()))
    }
}

impl Report for Examined {
    fn text(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for part in Section::ALL {
            let checks: Vec<Line> =
                self.checks.iter().filter(|check| check.part == part).flat_map(Check::text).collect();
            if !checks.is_empty() {
                lines.push(part.title().into());
                lines.extend(checks);
            }
        }
        let counts = self.counts().into_iter().filter(|(_, count)| *count > 0);
        let counts: Vec<String> = counts.map(|(word, count)| format!("{count} {word}")).collect();
        lines.push(counts.join(", ").into());
        // What to do about broken checks stands below the error.
        if self.failure().is_none() {
            let hints: Vec<Hint> =
                self.hints(Status::Warning).into_iter().map(|hint| self.global_flags.hint(hint)).collect();
            lines.extend(next_lines(&hints));
        }
        lines
    }

    fn json(&self) -> Data {
        let checks: Vec<Data> = self.checks.iter().map(|check| check.json(&self.global_flags)).collect();
        document!({ "checks": checks, "counts": BTreeMap::from(self.counts()) })
    }
}
