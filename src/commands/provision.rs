//! What all provisioning commands do alike: say who writes where, refuse, show or walk a plan, report.

use serde_json::{Map, Value};

use super::{Given, Stage};
use crate::databricks::me::{Me, me};
use crate::engine::{Action, Inputs, Plan, Provisioned, blocked, walk};
use crate::failure::{Code, Ended, Failure, Report, of_databricks};
use crate::http::{Reader, Writer};

/// Who the token belongs to. Also the first proof that host and token are good.
pub(crate) async fn who(reader: &Reader) -> Result<Me, Failure> {
    reader.read(me()).await.map_err(|error| {
        let mut failure = of_databricks(&format!("Cannot find out who {} belongs to", reader.known_as()), &error);
        if failure.code != Code::NotAllowed {
            return failure;
        }
        // The service answers 403 for a token that it does not know (databricks-api §7), and anybody may ask who they are.
        failure.hints.clear();
        failure
            .cause("a wrong or expired token gets this answer, and so does a good one of another workspace")
            .advise("check the host, or make a new token under Settings > Developer > Access tokens, then set DATABRICKS_TOKEN or the profile's token")
            .advise("if the token is good, ask a workspace administrator whether access is restricted to certain IP addresses")
    })
}

/// A plan and all that it takes to carry it out.
pub(crate) struct Provision<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) writer: &'a Writer,
    pub(crate) me: &'a Me,
    pub(crate) dry_run: bool,
    pub(crate) inputs: Inputs,
}

/// How far a plan was carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// Everything is as it should be, and something was written for it.
    Changed,
    /// Everything was as it should be; nothing was written.
    Unchanged,
    /// Nothing was written: somebody only wanted to see the plan.
    Shown,
    /// Nothing was written: something in the plan is blocked.
    Blocked,
    /// Something failed on the way.
    Failed,
}

/// What became of a plan. Commands add their own lines and fields, then end with it.
pub(crate) struct Carried {
    pub(crate) plan: Plan,
    pub(crate) finish: Finish,
    workspace: String,
    identity: String,
    dry_run: bool,
    given: Given,
    lines: Vec<String>,
    fields: Map<String, Value>,
    pub(crate) failure: Option<Failure>,
}

impl Provision<'_> {
    /// Carries the plan as far as it goes. Names the workspace and the identity before the first write.
    pub(crate) async fn carry_out(self, mut plan: Plan) -> Carried {
        let Provision { stage, writer, me, dry_run, inputs } = self;
        let (workspace, identity) = (writer.origin().to_owned(), me.user_name.clone());
        let refusal = blocked(&plan);
        let given = stage.given();
        let mut lines = Vec::new();
        let (finish, failure) = if dry_run {
            if plan.writes() {
                stage.events.remark(format!("Would write to {workspace} as {identity}"));
            }
            // A dry run shows what is blocked; that is no failure of it.
            if let Some(Failure { code: _, what, causes, hints, open: _ }) = refusal {
                lines.push(format!("Without --dry-run this would be refused: {what}"));
                lines.extend(causes.iter().map(|cause| format!("  because: {cause}")));
                lines.extend(hints.into_iter().map(|hint| format!("next: {}", given.hint(hint))));
            }
            (Finish::Shown, None)
        } else if refusal.is_some() {
            (Finish::Blocked, refusal)
        } else if plan.writes() {
            stage.events.remark(format!("Writing to {workspace} as {identity}"));
            let going = stage.events.going("writing");
            going.state(format!("to {workspace} as {identity}"));
            match walk(writer, &mut plan, &inputs).await {
                Ok(()) => (Finish::Changed, None),
                Err(failure) => (Finish::Failed, Some(failure)),
            }
        } else {
            (Finish::Unchanged, None)
        };
        tell_of_skipped(&plan, stage);
        Carried { plan, finish, workspace, identity, dry_run, given, lines, fields: Map::new(), failure }
    }
}

/// A grant that was left out is never left out silently.
fn tell_of_skipped(plan: &Plan, stage: &Stage) {
    for entry in plan.entries() {
        if let Action::Keep(Some(note)) = &entry.action
            && note.starts_with("skipped")
        {
            stage.events.remark(format!("{} {}: {note}", entry.kind, entry.name));
        }
    }
}

impl Carried {
    /// Whether everything is now as it should be.
    pub(crate) fn is_well(&self) -> bool {
        match self.finish {
            Finish::Changed | Finish::Unchanged => true,
            Finish::Shown | Finish::Blocked | Finish::Failed => false,
        }
    }

    /// Adds a line for people.
    pub(crate) fn line(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    /// Adds a line with a command to paste, behind what it is for.
    pub(crate) fn next(&mut self, label: &str, command: &str) {
        self.lines.push(format!("{label}: {}", self.given.command(command)));
    }

    /// Adds a field to the JSON data.
    pub(crate) fn field(&mut self, name: &str, value: impl Into<Value>) {
        self.fields.insert(name.to_owned(), value.into());
    }

    /// The report, with the failure beside it if there is one.
    pub(crate) fn end(self) -> Ended<Box<dyn Report>> {
        let Carried { plan, finish, workspace, identity, dry_run, given: _, mut lines, fields, failure } = self;
        if finish == Finish::Unchanged {
            lines.insert(0, "Nothing to change.".to_owned());
        }
        let report = Provisioned { workspace, identity, dry_run, entries: plan.entries(), lines, fields };
        Ended { report: Some(Box::new(report)), failure }
    }
}
