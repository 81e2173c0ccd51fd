//! The checks from a workflow to its dbt jobs, and which workflows are checked.

use std::collections::{BTreeMap, BTreeSet};

use super::context::{CheckContext, Dbt, PART, Selection};
use super::notebooks::{NotebookCheck, check_notebook};
use super::report::Check;
use super::workflows::{self, WorkflowCheck};
use super::{dbt_jobs, last_run, notebooks};
use crate::commands::create_workflow::prerequisites::Prerequisites;
use crate::commands::create_workflow::rights;
use crate::commands::shared::job_argument::JobArgument;
use crate::databricks::me::Me;
use crate::failure::Failure;
use crate::http::{Reader, side_by_side};

/// By identity and notebook path: missing access, or warnings about unknown access.
type Rights = BTreeMap<(String, String), Result<Vec<String>, Failure>>;

/// Checks that are skipped without access to the workspace.
const IN_THE_WORKSPACE: [&str; 4] = ["notebook", "key", "workflow", "rights"];

fn skipped(of: &str) -> Vec<Check> {
    IN_THE_WORKSPACE.map(|id| Check::skipped(PART, id, of)).into()
}

impl CheckContext<'_> {
    /// Runs the checks that are possible.
    pub(super) async fn follow(
        databricks: Result<(Reader, Me), String>,
        dbt: &Dbt,
        selection: &Selection,
    ) -> Vec<Check> {
        let job = match the_job(dbt, selection).await {
            Ok(job) => job,
            Err(check) => {
                let of = if check.has_failed() { check.as_reason() } else { "the dbt job is not known".to_owned() };
                let mut checks = skipped(&of);
                checks.push(check);
                return checks;
            }
        };
        let (reader, me) = match databricks {
            Ok(line) => line,
            Err(of) => {
                let mut checks = skipped(&of);
                match job {
                    Some(job) => checks.push(dbt_jobs::look(dbt, job, None, false).await),
                    None => checks.push(Check::skipped(PART, "job", &of)),
                }
                return checks;
            }
        };
        CheckContext { reader: &reader, me: &me, dbt }.links(selection, job).await
    }

    async fn links(&self, selection: &Selection, job: Option<u64>) -> Vec<Check> {
        let (workflow_checks, none) = workflows::find(self, selection, job).await;
        let mut checks: Vec<Check> = Vec::new();
        let mut notebook_checks = BTreeMap::new();
        let notebook_uses: Vec<(String, notebooks::NotebookUse)> =
            notebook_uses(&workflow_checks).into_iter().collect();
        let found = side_by_side(&notebook_uses, async |(path, notebook_use)| {
            check_notebook(self, Some(path), notebook_use).await
        })
        .await;
        for ((path, _), notebook_check) in notebook_uses.into_iter().zip(found) {
            checks.extend(
                notebook_check
                    .checks
                    .iter()
                    .filter(|new| checks.iter().all(|old| old.id() != new.id()))
                    .cloned()
                    .collect::<Vec<_>>(),
            );
            notebook_checks.insert(path, notebook_check);
        }
        if workflow_checks.is_empty() {
            // The notebook that a first workflow would use.
            let notebook_use = notebooks::NotebookUse { jobs: job.into_iter().collect(), never_runs_as_caller: false };
            checks.extend(check_notebook(self, None, &notebook_use).await.checks);
        }
        checks.extend(none);
        // With `--job`, only that one of the workflow's jobs.
        let mut started: BTreeMap<u64, Option<String>> = BTreeMap::new();
        for task in workflow_checks.iter().flat_map(|workflow| &workflow.tasks) {
            let Some(id) = task.job.filter(|id| job.is_none_or(|job| job == *id)) else { continue };
            let other_account = notebook_checks
                .get(&task.notebook)
                .and_then(|notebook_check: &NotebookCheck| notebook_check.other_account.clone());
            started.entry(id).or_insert(other_account);
        }
        if let Some(job) = job {
            started.entry(job).or_insert(None);
        }
        let started: Vec<(u64, Option<String>)> = started.into_iter().collect();
        let (last, rights, jobs) = tokio::join!(
            side_by_side(&workflow_checks, async |workflow| last_run::look(self, workflow, &notebook_checks).await),
            self.all_rights(&workflow_checks, &notebook_checks),
            side_by_side(&started, async |(job, other_account)| {
                let is_started =
                    workflow_checks.iter().any(|workflow| workflow.is_for(*job) && workflow.has_active_trigger());
                dbt_jobs::look(self.dbt, *job, other_account.as_deref(), is_started).await
            }),
        );
        for (workflow, last) in workflow_checks.iter().zip(last) {
            checks.extend(workflows::compare(self, workflow, &notebook_checks));
            checks.push(last);
            checks.push(CheckContext::rights(workflow, &notebook_checks, &rights));
        }
        checks.extend(jobs);
        checks
    }

    /// Looks up the access of each other run-as identity to each notebook, once.
    async fn all_rights(
        &self,
        workflow_checks: &[WorkflowCheck],
        notebook_checks: &BTreeMap<String, NotebookCheck>,
    ) -> Rights {
        let mut asked: BTreeMap<(String, String), &Prerequisites> = BTreeMap::new();
        for workflow in workflow_checks {
            let Some(who) = self.runs_as_another(workflow) else { continue };
            for path in workflow.tasks.iter().map(|task| &task.notebook) {
                if let Some(NotebookCheck {
                    checks: _,
                    prerequisites: Ok(prerequisites),
                    key: Ok(()),
                    other_account: _,
                }) = notebook_checks.get(path)
                {
                    asked.insert((who.to_owned(), path.clone()), prerequisites);
                }
            }
        }
        let asked: Vec<((String, String), &Prerequisites)> = asked.into_iter().collect();
        let look = async |((who, _), prerequisites): &((String, String), &Prerequisites)| {
            rights::look(self.reader, who, prerequisites).await.map_or_else(|| Ok(Vec::new()), |rights| rights.check())
        };
        let found = side_by_side(&asked, look).await;
        asked.into_iter().map(|(asked, _)| asked).zip(found).collect()
    }

    /// The run-as identity of the workflow, if it is not the caller.
    fn runs_as_another<'a>(&self, workflow: &'a WorkflowCheck) -> Option<&'a str> {
        workflow.have.job.run_as.as_deref().filter(|who| !who.eq_ignore_ascii_case(&self.me.user_name))
    }

    /// Checks that the run-as identity can read the notebook and the key.
    fn rights(workflow: &WorkflowCheck, notebook_checks: &BTreeMap<String, NotebookCheck>, known: &Rights) -> Check {
        let id = format!("rights:{}", workflow.have.job.id);
        let skipped = |of: &str| Check::skipped(PART, &id, of);
        let Some(who) = workflow.have.job.run_as.clone() else {
            return skipped("the run-as identity is unknown");
        };
        let paths: BTreeSet<&str> = workflow.tasks.iter().map(|task| task.notebook.as_str()).collect();
        let mut unsure = Vec::new();
        for path in paths {
            let Some(NotebookCheck { checks: _, prerequisites, key, other_account: _ }) = notebook_checks.get(path)
            else {
                continue;
            };
            if let (Err(of), _) | (Ok(_), Err(of)) = (prerequisites, key) {
                return skipped(of);
            }
            match known.get(&(who.clone(), path.to_owned())) {
                Some(Ok(warnings)) => unsure.extend(warnings.iter().cloned()),
                Some(Err(failure)) => return Check::failed(PART, &id, failure.clone()),
                // The caller has just read both.
                None => {}
            }
        }
        if unsure.is_empty() {
            return Check::ok(
                PART,
                &id,
                format!("{who}, the run-as identity of {}, can read the notebook and the key", workflow.short()),
            );
        }
        let what = format!(
            "cannot tell whether {who}, the run-as identity of {}, can read the notebook and the key",
            workflow.short()
        );
        unsure.into_iter().fold(Check::warning(PART, &id, what), Check::because)
    }
}

/// The ID of the requested dbt job.
async fn the_job(dbt: &Dbt, selection: &Selection) -> Result<Option<u64>, Check> {
    match (&selection.job, &dbt.line) {
        (None, _) => Ok(None),
        (Some(JobArgument::Id(job) | JobArgument::Address { job, pasted: _ }), _) => Ok(Some(*job)),
        (Some(JobArgument::Name(_)), Err(of)) => Err(Check::skipped(PART, "job", of)),
        (Some(named @ JobArgument::Name(_)), Ok((account, reader))) => {
            let found = named.find(reader, account, &selection.job_filter).await;
            found.map(Some).map_err(|failure| Check::failed(PART, "job", failure))
        }
    }
}

/// The notebooks of the workflows, and how each is used.
fn notebook_uses(workflow_checks: &[WorkflowCheck]) -> BTreeMap<String, notebooks::NotebookUse> {
    let mut notebook_uses: BTreeMap<String, notebooks::NotebookUse> = BTreeMap::new();
    for workflow in workflow_checks {
        for task in &workflow.tasks {
            let notebook_use = notebook_uses
                .entry(task.notebook.clone())
                .or_insert_with(|| notebooks::NotebookUse { jobs: BTreeSet::new(), never_runs_as_caller: true });
            notebook_use.jobs.extend(task.job);
            notebook_use.never_runs_as_caller &= workflow.is_of_another;
        }
    }
    notebook_uses
}
