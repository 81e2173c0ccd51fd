//! What is shown before somebody accepts it.

use super::Args;
use crate::commands::create_workflow::{THEN_CHECKED, THEN_RUN};
use crate::commands::talk::unanswered;
use crate::commands::{Said, Stage};
use crate::credentials::Source;
use crate::databricks::me::Me;
use crate::document::Data;
use crate::engine::{Action, Plan, Planned, Provisioned};
use crate::failure::{Code, Ended, Failure, Report};
use crate::questions::Questioner;

/// What the steps of a plan do not say: whose key would be stored, and how a new workflow would run. `key`: where the key is from.
pub(super) fn details(args: &Args, plan: &Plan, key: Option<&Source>, me: &Me) -> Vec<String> {
    let of = |step: &Planned| match step {
        Planned::Secret(step) if step.writes() => Some(format!("API key: from {}", key?)),
        Planned::Workflow(step) if matches!(step.action, Action::Create) => {
            let compute = args.compute.as_deref().unwrap_or("serverless");
            let who = step.want.run_as.as_deref().unwrap_or(&me.user_name);
            let zone = args.timezone.as_deref().unwrap_or("UTC");
            let schedule = match args.schedule.as_deref() {
                None => "no schedule".to_owned(),
                Some(cron) if args.paused => format!("{cron} in {zone}, paused"),
                Some(cron) => format!("{cron} in {zone}"),
            };
            Some(format!("Compute: {compute}; schedule: {schedule}; run as: {who}"))
        }
        Planned::Scope(_)
        | Planned::Secret(_)
        | Planned::Grant(_)
        | Planned::Notebook(_)
        | Planned::NotebookGrant(_)
        | Planned::Workflow(_)
        | Planned::AddedTask(_)
        | Planned::JobGrant(_) => None,
    };
    plan.steps.iter().filter_map(of).collect()
}

/// The plan as it is shown, whatever comes of it.
pub(super) struct Offered {
    plan: Provisioned,
}

impl Offered {
    pub(super) fn of(plan: &Plan, details: Vec<String>, run_now: bool, workspace: &str, me: &Me) -> Offered {
        let mut lines = details;
        lines.push(THEN_CHECKED.to_owned());
        if run_now {
            lines.push(THEN_RUN.to_owned());
        }
        let (workspace, identity) = (workspace.to_owned(), me.user_name.clone());
        let entries = plan.entries();
        Offered { plan: Provisioned { workspace, identity, dry_run: true, entries, lines, fields: Data::default() } }
    }

    /// Shows it, and asks whether it is to be carried out.
    pub(super) async fn accept(self, asker: &dyn Questioner, stage: &Stage) -> Result<(), Ended<Box<dyn Report>>> {
        let prompt = format!("Apply to {} as {}", self.plan.workspace, self.plan.identity);
        stage.events.asked("Plan:");
        for line in self.plan.text().lines() {
            stage.events.asked(line);
        }
        // A signal at the question finds what was shown.
        stage.last_known.stands(self.plan.json(), Said { cause: None, advice: "nothing was written or started" });
        let items = ["no".to_owned(), "yes".to_owned()];
        let chosen = asker.choose(&prompt, &items).await;
        stage.last_known.clear();
        let failure = match chosen {
            Ok(1) => return Ok(()),
            Ok(_) => Failure::new(Code::Failed, "Canceled. Nothing was written.")
                .advise("change the plan with flags: `dbtrigger setup --help`"),
            Err(reason) => unanswered(reason),
        };
        Err(Ended { report: Some(Box::new(self)), failure: Some(failure) })
    }
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
