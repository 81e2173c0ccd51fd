//! Shows the plan and asks whether to apply it.

use super::Args;
use super::setup_plan::SetupPlan;
use crate::commands::create_workflow::{Input, THEN_CHECKED, THEN_RUN};
use crate::commands::shared::prompts::unanswered_at;
use crate::commands::shared::provision::ask_to_apply;
use crate::commands::{CommandContext, NOTHING_WRITTEN};
use crate::credentials::{Account, Source};
use crate::databricks::me::Me;
use crate::engine::Action;
use crate::failure::{Code, Ended, Failure, Report};
use crate::line::Line;
use crate::questions::{PlanSetting, Prompter, Question};

/// A line above the plan.
pub(super) struct Row {
    label: &'static str,
    value: String,
    /// The setting and its value, if it can be edited.
    edit: Option<(PlanSetting, String)>,
}

impl Row {
    pub(super) fn line(&self) -> Line {
        Line::Setting { label: self.label, value: self.value.clone() }
    }
}

/// The context of the plan: workspace, account and job, and each setting with its value. `key`: source of the key to
/// store.
pub(super) fn rows(
    args: &Args,
    input: &Input,
    account: &Account,
    setup_plan: &SetupPlan,
    key: Option<&Source>,
    (workspace, me): (&str, &Me),
) -> Vec<Row> {
    let path = setup_plan.plan.notebook().map(|step| step.want.path.to_string()).unwrap_or_default();
    let is_new = setup_plan.plan.workflow().is_some_and(|step| matches!(step.action, Action::Create));
    let job = input.spec.tasks.first().map(|task| task.job).unwrap_or_default();
    let fixed = |label, value| Row { label, value, edit: None };
    let row = |setting: PlanSetting, value: String, now: String| Row {
        label: setting.label(),
        value,
        edit: Some((setting, now)),
    };
    let editable = |setting, value: String| row(setting, value.clone(), value);
    // `default` is for a new workflow; an existing one keeps its value.
    let optional = |setting, given: Option<&String>, default: &str, suffix: &str| match given {
        Some(value) => row(setting, format!("{value}{suffix}"), value.clone()),
        None => row(setting, if is_new { default } else { "unchanged" }.to_owned(), String::new()),
    };
    let mut rows = vec![
        fixed("Workspace", format!("{workspace} (as {})", me.user_name)),
        fixed("dbt job", format!("{job} in account {} ({})", account.id, account.origin)),
    ];
    rows.extend(key.filter(|_| setup_plan.writes_key()).map(|key| {
        let from = if *key == Source::Typed { "as typed".to_owned() } else { format!("from {key}") };
        fixed("API key", from)
    }));
    rows.push(editable(PlanSetting::Scope, setup_plan.scope.to_string()));
    rows.push(editable(PlanSetting::Notebook, path));
    rows.push(optional(PlanSetting::Compute, args.compute.as_ref(), "serverless", ""));
    let paused = if args.paused { " (paused)" } else { "" };
    rows.push(optional(PlanSetting::Schedule, args.workflow.schedule.as_ref(), "none", paused));
    if args.workflow.schedule.is_some() {
        rows.push(optional(PlanSetting::Zone, args.workflow.timezone.as_ref(), "UTC", ""));
    }
    rows.push(optional(PlanSetting::RunAs, args.run_as.as_ref(), &me.user_name, ""));
    rows
}

/// Shows the plan and asks whether to apply it or to edit a setting.
pub(super) async fn accept(
    setup_plan: &SetupPlan,
    rows: Vec<Row>,
    run_now: bool,
    access: (&str, &Me),
    prompter: &dyn Prompter,
    ctx: &CommandContext,
) -> Result<(), Ended<Box<dyn Report>>> {
    let above: Vec<Line> = rows.iter().map(Row::line).collect();
    let below = [THEN_CHECKED].into_iter().chain(run_now.then_some(THEN_RUN)).map(Line::from).collect();
    let asked = ("yNe", NOTHING_WRITTEN);
    let key = ask_to_apply(&setup_plan.plan, (&above, below), access, asked, prompter, ctx).await?;
    if key != 'e' {
        return Ok(());
    }
    let mut editable: Vec<(String, (PlanSetting, String))> =
        rows.into_iter().filter_map(|row| Some((row.line().to_string(), row.edit?))).collect();
    let lines: Vec<String> = editable.iter().map(|(line, _)| line.clone()).collect();
    let chosen =
        prompter.choose("Edit", &lines).await.map_err(|reason| unanswered_at(reason, Some(NOTHING_WRITTEN)))?;
    let (_, (setting, now)) = editable.swap_remove(chosen);
    // The setting is prompted for by the caller, which runs the command again with the answer.
    let mut failure = Failure::new(Code::MissingInput, "the plan is being edited");
    failure.open_questions.questions = vec![Question::Setting { setting, now }];
    Err(failure.into())
}
