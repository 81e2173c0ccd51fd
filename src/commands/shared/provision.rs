//! Shared by all provisioning commands: look up the caller, show or apply a plan, report.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;

use futures_util::future::MaybeDone;

use crate::commands::shared::prompts::{canceled, unanswered_at};
use crate::commands::shared::workspace_cache::WorkspaceCache;
use crate::commands::{CommandContext, GlobalFlags, StateNote};
use crate::credentials::{InputErrors, MissingInput};
use crate::databricks::me::{Me, me};
use crate::document::{Data, ToDocument};
use crate::engine::{Action, Entry, Inputs, Note, Plan, Progress, Provisioned, apply, blocked};
use crate::events::Event;
use crate::failure::{Ended, Failure, Hint, Known, Remedy, Report, of_databricks};
use crate::http::{Meaning, Reader, Writer};
use crate::line::Line;
use crate::questions::Prompter;

/// Looks up the owner of the token, which also checks host and token.
pub(crate) async fn who(reader: &Reader) -> Result<Me, Failure> {
    reader.read(me()).await.map_err(|error| {
        let mut failure = of_databricks(&format!("cannot look up the identity of {}", reader.known_as()), &error);
        if error.means() != Meaning::RightMissing {
            return failure;
        }
        // The service answers 403 to an unknown token, and everyone may look up their own identity.
        failure.hints.clear();
        failure
            .cause("a wrong or expired token, or one from another workspace, gets this response")
            .hint(Hint::Against(Remedy::DatabricksToken))
            .advise("if the token is valid, ask a workspace administrator about IP access lists")
    })
}

/// Looks up the caller in parallel with other lookups. The caller's failure takes precedence, since it explains the
/// other.
pub(crate) async fn caller_and<T>(
    reader: &Reader,
    looks: Pin<Box<dyn Future<Output = Result<T, Failure>> + '_>>,
) -> Result<(Me, T), Failure> {
    let (me, found) = tokio::try_join!(who(reader), async { Ok(looks.await) })?;
    Ok((me, found?))
}

/// Runs `main`, and `side` as far as it gets meanwhile. The caller awaits the rest of `side` if it needs it.
pub(crate) async fn poll_alongside<T, S: Future + Unpin>(
    side: &mut MaybeDone<S>,
    mut main: Pin<Box<dyn Future<Output = T> + '_>>,
) -> T {
    poll_fn(|context| {
        // `MaybeDone` keeps the result.
        let _ = Pin::new(&mut *side).poll(context);
        main.as_mut().poll(context)
    })
    .await
}

/// The flags of a command that asks before it applies its plan.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct ConfirmationFlags {
    /// Apply the plan without asking
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Show the plan and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl ConfirmationFlags {
    /// Requires `-y` where no one can be asked.
    pub(crate) fn check(self, ctx: &CommandContext, errors: &mut InputErrors) {
        if ctx.prompts.prompter.is_none() && !self.yes && !self.dry_run {
            errors.need(Ok(None::<()>), MissingInput::confirmation());
        }
    }
}

/// Shows a plan between these lines and asks for one of `keys`. Ends the command on `n` or without an answer.
pub(crate) async fn ask_to_apply(
    plan: &Plan,
    (above, below): (&[Line], Vec<Line>),
    (workspace, me): (&str, &Me),
    (keys, state): (&str, &'static str),
    prompter: &dyn Prompter,
    ctx: &CommandContext,
) -> Result<char, Ended<Box<dyn Report>>> {
    let plan = Provisioned {
        workspace: workspace.to_owned(),
        identity: me.user_name.clone(),
        dry_run: true,
        entries: plan.entries(),
        lines: below,
        ..Provisioned::default()
    };
    for line in above.iter().cloned().chain(["".into()]).chain(plan.text()) {
        ctx.events.emit(Event::Asked(line));
    }
    ctx.interrupt_report.set_note(plan.json(), StateNote { cause: None, state, next: None });
    let answer = prompter.key("Apply?", keys).await;
    ctx.interrupt_report.clear();
    let failure = match answer {
        Ok('n') => canceled(None, Some(state)),
        Ok(key) => return Ok(key),
        Err(reason) => unanswered_at(reason, Some(state)),
    };
    Err(Ended { report: Some(Box::new(Known::from(plan.json()))), failure: Some(failure) })
}

/// What applying a plan needs.
pub(crate) struct Provision<'a> {
    pub(crate) ctx: &'a CommandContext,
    pub(crate) writer: &'a Writer,
    pub(crate) me: &'a Me,
    pub(crate) dry_run: bool,
    pub(crate) inputs: Inputs,
}

/// How applying a plan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The target state is reached, and something was written.
    Changed,
    /// The target state already existed.
    Unchanged,
    /// Dry run.
    Shown,
    /// Refused; nothing was written.
    Blocked,
    /// Something failed midway.
    Failed,
}

/// The result of a plan. Commands add lines and fields, then call `end`.
pub(crate) struct Applied {
    pub(crate) plan: Plan,
    pub(crate) finish: Finish,
    workspace: String,
    identity: String,
    dry_run: bool,
    global_flags: GlobalFlags,
    lines: Vec<Line>,
    hints: Vec<Hint>,
    fields: Data,
    pub(crate) failure: Option<Failure>,
}

impl Provision<'_> {
    /// Applies the plan as far as possible. Prints workspace and identity before the first write.
    pub(crate) async fn apply(self, mut plan: Plan) -> Applied {
        let Provision { ctx, writer, me, dry_run, inputs } = self;
        let (workspace, identity) = (writer.origin().to_owned(), me.user_name.clone());
        let refusal = blocked(&plan);
        let global_flags = ctx.global_flags();
        let (mut hints, mut fields) = (Vec::new(), Data::default());
        let (finish, failure) = if dry_run {
            if plan.writes() && refusal.is_none() {
                ctx.events.remark(format!("Would write to {workspace} as {identity}"));
            }
            // A dry run shows a refusal and still succeeds.
            if let Some(refusal) = refusal {
                let refusal = global_flags.failure(refusal);
                fields.set("refused", refusal.json());
                hints = refusal.hints;
            }
            (Finish::Shown, None)
        } else if refusal.is_some() {
            (Finish::Blocked, refusal)
        } else if plan.writes() {
            ctx.events.remark(format!("Writing to {workspace} as {identity}"));
            let activity = ctx.events.activity("writing");
            activity.state(format!("to {workspace} as {identity}"));
            let so_far = RefCell::new(plan.entries());
            let record_entry = |entry: Entry| {
                let mut entries = so_far.borrow_mut();
                if let Some(known) =
                    entries.iter_mut().find(|known| known.kind == entry.kind && known.name == entry.name)
                {
                    *known = entry;
                }
                let (workspace, identity) = (workspace.clone(), identity.clone());
                let known = Provisioned { workspace, identity, entries: entries.clone(), ..Provisioned::default() };
                ctx.interrupt_report.set_note(known.json(), half_done(&entries));
            };
            match apply(writer, &mut plan, &inputs, &record_entry).await {
                Ok(()) => (Finish::Changed, None),
                Err(failure) => (Finish::Failed, Some(failure)),
            }
        } else {
            (Finish::Unchanged, None)
        };
        tell_of_skipped(&plan, ctx);
        WorkspaceCache::note(&workspace, me, &plan, ctx);
        Applied { plan, finish, workspace, identity, dry_run, global_flags, lines: Vec::new(), hints, fields, failure }
    }
}

/// The note if the command is interrupted while it applies the plan.
fn half_done(entries: &[Entry]) -> StateNote {
    let is_written = |entry: &&Entry| match (&entry.action, entry.progress) {
        (Action::Create | Action::Update(_) | Action::Remove, Progress::Written | Progress::Done) => true,
        (
            Action::Create | Action::Update(_) | Action::Remove,
            Progress::Pending | Progress::Failed | Progress::Unknown,
        )
        | (Action::Keep(_) | Action::Blocked { .. }, _) => false,
    };
    let written: Vec<String> =
        entries.iter().filter(is_written).map(|entry| format!("{} {}", entry.kind, entry.quoted)).collect();
    StateNote {
        cause: (!written.is_empty()).then(|| format!("already written: {}", written.join(", "))),
        state: "some changes may be missing",
        next: Some(Hint::Do("run the same command again to finish: it writes only what is missing".to_owned())),
    }
}

/// Prints a remark for each grant that is skipped.
fn tell_of_skipped(plan: &Plan, ctx: &CommandContext) {
    for entry in plan.entries() {
        if let Action::Keep(Some(note @ Note::Skipped(_))) = &entry.action {
            ctx.events.remark(format!("{} {}: {note}", entry.kind, entry.quoted));
        }
    }
}

impl Applied {
    /// Whether the target state is reached.
    pub(crate) fn is_well(&self) -> bool {
        match self.finish {
            Finish::Changed | Finish::Unchanged => true,
            Finish::Shown | Finish::Blocked | Finish::Failed => false,
        }
    }

    /// What became of an object, in one word; `None` if nothing was applied.
    pub(crate) fn result(&self, action: &Action, created: &'static str) -> Option<&'static str> {
        self.is_well().then_some(match action {
            Action::Create => created,
            Action::Update(_) => "updated",
            Action::Keep(_) | Action::Remove | Action::Blocked { .. } => "kept",
        })
    }

    /// Adds a line of text output.
    pub(crate) fn line(&mut self, line: impl Into<Line>) {
        self.lines.push(line.into());
    }

    /// Adds a next step: a label and a command to paste.
    pub(crate) fn next(&mut self, label: &'static str, command: impl Into<String>) {
        self.then(Hint::run(label, command));
    }

    /// Adds a next step.
    pub(crate) fn then(&mut self, hint: Hint) {
        self.hints.push(self.global_flags.hint(hint));
    }

    /// Takes the next steps out, to be printed later.
    pub(crate) fn take_hints(&mut self) -> Vec<Hint> {
        std::mem::take(&mut self.hints)
    }

    /// Adds a field to the JSON data.
    pub(crate) fn field(&mut self, name: &str, value: impl ToDocument) {
        self.fields.set(name, value);
    }

    /// The report, with the failure if there is one.
    pub(crate) fn end(self) -> Ended<Box<dyn Report>> {
        let Applied { plan, finish, workspace, identity, dry_run, global_flags: _, mut lines, hints, fields, failure } =
            self;
        if finish == Finish::Unchanged {
            lines.insert(0, "Nothing to change.".into());
        }
        let report = Provisioned { workspace, identity, dry_run, entries: plan.entries(), lines, hints, fields };
        Ended { report: Some(Box::new(report)), failure }
    }
}
