//! What is shown before the plan is applied, and the answer to it.

use super::Args;
use super::setup_plan::SetupPlan;
use crate::commands::create_workflow::{Input, THEN_CHECKED, THEN_RUN};
use crate::commands::prompts::unanswered;
use crate::commands::{CommandContext, StateNote};
use crate::credentials::{Account, Source};
use crate::databricks::me::Me;
use crate::document::Data;
use crate::engine::{Action, Planned, Provisioned};
use crate::failure::{Code, Ended, Failure, Report};
use crate::questions::{Prompter, Question, Setting};

/// One line of what stands around the plan.
pub(super) struct Row {
    label: &'static str,
    value: String,
    /// What edits it.
    setting: Option<Setting>,
}

impl Row {
    pub(super) fn line(&self) -> String {
        format!("{:<14}{}", self.label, self.value)
    }
}

/// What the changes do not say: for which workspace, account and job they are, and each setting with its value. `key`: the
/// source of a key that would be stored.
pub(super) fn rows(
    args: &Args,
    input: &Input,
    account: &Account,
    setup_plan: &SetupPlan,
    key: Option<&Source>,
    (workspace, me): (&str, &Me),
) -> Vec<Row> {
    let (mut path, mut is_new) = (String::new(), false);
    for step in &setup_plan.plan.steps {
        match step {
            Planned::Notebook(step) => step.want.path.as_str().clone_into(&mut path),
            Planned::Workflow(step) => is_new = matches!(step.action, Action::Create),
            Planned::Scope(_)
            | Planned::Secret(_)
            | Planned::Grant(_)
            | Planned::NotebookGrant(_)
            | Planned::AddedTask(_)
            | Planned::JobGrant(_)
            | Planned::Removal(_) => {}
        }
    }
    let or = |given: &Option<String>, default: &str| match given {
        Some(value) => value.clone(),
        None if is_new => default.to_owned(),
        None => UNCHANGED.to_owned(),
    };
    let job = input.jobs.first().map(|task| task.job).unwrap_or_default();
    let fixed = |label, value| Row { label, value, setting: None };
    let editable = |setting: Setting, value| Row { label: setting.label(), value, setting: Some(setting) };
    let mut rows = vec![
        fixed("Workspace", format!("{workspace} (as {})", me.user_name)),
        fixed("dbt job", format!("{job} in account {} ({})", account.id, account.origin)),
    ];
    rows.extend(key.filter(|_| setup_plan.writes_key()).map(|key| fixed("API key", format!("from {key}"))));
    rows.push(editable(Setting::Scope, setup_plan.scope.to_string()));
    rows.push(editable(Setting::Notebook, path));
    rows.push(editable(Setting::Compute, or(&args.compute, "serverless")));
    let paused = if args.paused { " (paused)" } else { "" };
    rows.push(editable(Setting::Schedule, or(&args.schedule, NONE) + paused));
    if args.schedule.is_some() {
        rows.push(editable(Setting::Zone, or(&args.timezone, "UTC")));
    }
    rows.push(editable(Setting::RunAs, or(&args.run_as, &me.user_name)));
    rows
}

/// A setting of a workflow that exists and keeps it.
const UNCHANGED: &str = "unchanged";

const NONE: &str = "none";

/// The plan as it is shown, whatever comes of it.
pub(super) struct Offered {
    plan: Provisioned,
    rows: Vec<Row>,
}

impl Offered {
    pub(super) fn of(setup_plan: &SetupPlan, rows: Vec<Row>, run_now: bool, workspace: &str, me: &Me) -> Offered {
        let mut lines = vec![THEN_CHECKED.to_owned()];
        if run_now {
            lines.push(THEN_RUN.to_owned());
        }
        let (workspace, identity) = (workspace.to_owned(), me.user_name.clone());
        let entries = setup_plan.plan.entries();
        let plan = Provisioned { workspace, identity, dry_run: true, entries, lines, fields: Data::default() };
        Offered { plan, rows }
    }

    /// Shows it, and asks whether to apply it, or which setting to change before.
    pub(super) async fn accept(
        self,
        prompter: &dyn Prompter,
        ctx: &CommandContext,
    ) -> Result<(), Ended<Box<dyn Report>>> {
        for row in &self.rows {
            ctx.events.asked(row.line());
        }
        ctx.events.asked(String::new());
        for line in self.plan.text().lines() {
            ctx.events.asked(line);
        }
        // A signal at the question finds what was shown.
        ctx.last_known.stands(self.plan.json(), StateNote { cause: None, advice: "nothing was written or started" });
        let answer = self.answer(prompter).await;
        ctx.last_known.clear();
        match answer {
            Ok(Answer::Apply) => Ok(()),
            // Asked for at the root, which then begins again with the answer.
            Ok(Answer::Edit(question)) => {
                let mut failure = Failure::new(Code::MissingInput, "The plan is being edited.");
                failure.open.questions = vec![question];
                Err(Ended { report: None, failure: Some(failure) })
            }
            Ok(Answer::Leave) => {
                let failure = Failure::new(Code::Failed, "Canceled. Nothing was written.");
                Err(Ended { report: Some(Box::new(self)), failure: Some(failure) })
            }
            Err(failure) => Err(Ended { report: Some(Box::new(self)), failure: Some(failure) }),
        }
    }

    async fn answer(&self, prompter: &dyn Prompter) -> Result<Answer, Failure> {
        match prompter.key("Apply?", "yNe").await.map_err(unanswered)? {
            'y' => Ok(Answer::Apply),
            'e' => {
                let editable: Vec<(&Row, Setting)> =
                    self.rows.iter().filter_map(|row| Some((row, row.setting?))).collect();
                let lines: Vec<String> = editable.iter().map(|(row, _)| row.line()).collect();
                let (row, setting) = editable[prompter.choose("Edit", &lines).await.map_err(unanswered)?];
                let given = ![UNCHANGED, NONE].contains(&row.value.as_str());
                let now = if given { row.value.clone() } else { String::new() };
                Ok(Answer::Edit(Question::Setting { setting, now }))
            }
            _ => Ok(Answer::Leave),
        }
    }
}

enum Answer {
    Apply,
    Edit(Question),
    Leave,
}

/// It was on the screen already.
impl Report for Offered {
    fn text(&self) -> String {
        String::new()
    }

    fn json(&self) -> Data {
        self.plan.json()
    }
}
