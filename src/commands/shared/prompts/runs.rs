//! Asks for a run: recent dbt runs, and the latest run of each workflow that runs dbt jobs.

use super::{Dialog, Instead};
use crate::commands::jobs::moment;
use crate::commands::runs::Span;
use crate::commands::shared::job_argument::shown_name;
use crate::commands::shared::run_argument::RunArgument;
use crate::commands::{connect_databricks, connect_dbt, workflows};
use crate::credentials::InputErrors;
use crate::databricks::RunState;
use crate::dbt::{RunFilter, Status, list_account_runs};
use crate::failure::{Code, Failure, of_dbt};
use crate::runs::plain;

/// So many dbt runs are offered.
const MOST: u64 = 50;

/// A run to choose, and the line that shows it.
struct Offer {
    run: RunArgument,
    line: String,
}

impl Dialog<'_> {
    /// Asks for a run, of those that have not ended if so wanted.
    pub(super) async fn run(&mut self, active: bool) -> Result<(), Failure> {
        let mut offers = self.workflow_runs(active).await;
        match self.dbt_runs(active).await {
            Ok(runs) => offers.splice(0..0, runs).for_each(drop),
            // Without access to dbt there are those of Databricks.
            Err(failure) if offers.is_empty() => return Err(failure),
            Err(_) => {}
        }
        if offers.is_empty() {
            let what = if active { "no run is active" } else { "no runs yet" };
            return Err(Failure::new(Code::NotFound, what).run("list runs", "dbtrigger runs"));
        }
        let lines: Vec<String> = offers.iter().map(|offer| offer.line.clone()).collect();
        let chosen = self.choose("Run", &lines).await?;
        let run = offers.swap_remove(chosen).run;
        match &run {
            RunArgument::Workflow { run, origin: _ } => {
                self.instead().push(Instead::Flag("--workflow-run", run.to_string()));
            }
            RunArgument::Id(run) | RunArgument::Dbt { run, pasted: _ } => {
                self.instead().push(Instead::Argument(run.to_string()));
            }
        }
        self.ctx.prompts.run = Some(run);
        Ok(())
    }

    async fn dbt_runs(&self, active: bool) -> Result<Vec<Offer>, Failure> {
        let (account, reader) = connect_dbt(&self.pasted, InputErrors::default(), self.ctx)?;
        let statuses = if active { vec![Status::Queued, Status::Starting, Status::Running] } else { Vec::new() };
        let filter = RunFilter { job: None, statuses };
        let page = reader.read(list_account_runs(account.id, &filter, 0, MOST)).await;
        let page = page.map_err(|error| of_dbt("cannot list the runs of the account", &error))?;
        // A look-alike may ignore the filter.
        let rows = page.rows.into_iter().filter(|run| !active || run.ended().is_none());
        let offers = rows.map(|run| {
            let status = run.status.map(Status::word).unwrap_or_default();
            let at = run.created().map(|at| moment(at, &self.ctx.context.zone)).unwrap_or_default();
            let line = format!("{}   {status}   {}   {at}", run.id, shown_name(run.job_name()));
            Offer { run: RunArgument::Id(run.id), line }
        });
        Ok(offers.collect())
    }

    /// Those of Databricks, as far as there is access.
    async fn workflow_runs(&self, active: bool) -> Vec<Offer> {
        let Ok((_, writer)) = connect_databricks(InputErrors::default(), self.ctx) else { return Vec::new() };
        let rows = workflows::rows(&writer.reader(), self.ctx).await.unwrap_or_default();
        let offers = rows.into_iter().filter_map(|row| {
            let last = row.last.as_ref()?;
            let state = last.state();
            if active && matches!(state, Some(RunState::Ended(_))) {
                return None;
            }
            let status = state.map(|state| plain(state.word(), 100)).unwrap_or_default();
            let at = Span::of(last).started.map(|at| moment(at, &self.ctx.context.zone)).unwrap_or_default();
            let line = format!("{}   {status}   workflow {}   {at}", last.run_id, shown_name(Some(&row.name())));
            Some(Offer { run: RunArgument::Workflow { run: last.run_id, origin: None }, line })
        });
        offers.collect()
    }
}
