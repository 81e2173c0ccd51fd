//! What is shown before somebody accepts it.

use super::Args;
use crate::commands::create_workflow::{THEN_CHECKED, THEN_RUN};
use crate::commands::provision::Offered;
use crate::credentials::Source;
use crate::databricks::me::Me;
use crate::engine::{Action, Plan, Planned};

/// What the steps of a plan do not say: whose key would be stored, and how a new workflow would run. `key`: where the key is from.
pub(super) fn details(args: &Args, plan: &Plan, key: Option<&Source>, me: &Me) -> Vec<String> {
    let of = |step: &Planned| match step {
        Planned::Secret(step) if step.writes() => Some(format!("The key would come from {}.", key?)),
        Planned::Workflow(step) if matches!(step.action, Action::Create) => {
            let compute = args.compute.as_deref().unwrap_or("serverless");
            let who = step.want.run_as.as_deref().unwrap_or(&me.user_name);
            let zone = args.timezone.as_deref().unwrap_or("UTC");
            let schedule = match args.schedule.as_deref() {
                None => "without a schedule".to_owned(),
                Some(cron) if args.paused => format!("at {cron} in {zone}, paused"),
                Some(cron) => format!("at {cron} in {zone}"),
            };
            Some(format!("The workflow would run on {compute}, {schedule}, as {who}."))
        }
        Planned::Scope(_)
        | Planned::Secret(_)
        | Planned::Grant(_)
        | Planned::Notebook(_)
        | Planned::NotebookGrant(_)
        | Planned::Workflow(_)
        | Planned::AddedTask(_)
        | Planned::JobGrant(_)
        | Planned::Removal(_) => None,
    };
    plan.steps.iter().filter_map(of).collect()
}

/// The plan with what the guide does after it.
pub(super) fn offered(plan: &Plan, details: Vec<String>, run_now: bool, workspace: &str, me: &Me) -> Offered {
    let mut lines = details;
    lines.push(THEN_CHECKED.to_owned());
    if run_now {
        lines.push(THEN_RUN.to_owned());
    }
    Offered::of(plan, lines, workspace, me)
}
