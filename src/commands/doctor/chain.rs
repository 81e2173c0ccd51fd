//! The checks from a workflow to its dbt jobs, and which workflows are checked.

use std::collections::{BTreeMap, BTreeSet};

use super::check::{Check, Section};
use super::notebooks::{NotebookCheck, footing};
use super::workflows::{self, WorkflowCheck};
use super::{jobs, last_run, notebooks};
use crate::commands::create_workflow::prerequisites::Prerequisites;
use crate::commands::create_workflow::rights;
use crate::commands::job_named::{JobNamed, Narrow};
use crate::commands::workflow_named::WorkflowNamed;
use crate::credentials::Account;
use crate::databricks::me::Me;
use crate::failure::Failure;
use crate::http::{Reader, side_by_side};

pub(super) const PART: Section = Section::Chain;

/// The connection to dbt, or the check that failed on the way.
pub(super) struct Dbt {
    pub(super) line: Result<(Account, Reader), String>,
    pub(super) account: Option<u64>,
}

/// What the user wants checked.
pub(super) struct Wanted {
    /// With its name or ID as typed.
    pub(super) workflow: Option<(WorkflowNamed, String)>,
    pub(super) job: Option<JobNamed>,
    pub(super) narrow: Narrow,
}

/// What the checks in the workspace use.
pub(super) struct Chain<'a> {
    pub(super) reader: &'a Reader,
    pub(super) me: &'a Me,
    pub(super) dbt: &'a Dbt,
}

/// By identity and notebook path: missing access, or warnings about unknown access.
type Rights = BTreeMap<(String, String), Result<Vec<String>, Failure>>;

/// Checks that are skipped without access to the workspace.
const IN_THE_WORKSPACE: [&str; 4] = ["notebook", "key", "workflow", "rights"];

fn skipped(of: &str) -> Vec<Check> {
    IN_THE_WORKSPACE.map(|id| Check::skipped(PART, id, id, of)).into()
}

impl Chain<'_> {
    /// Runs the checks that are possible.
    pub(super) async fn follow(databricks: Result<(Reader, Me), String>, dbt: &Dbt, wanted: &Wanted) -> Vec<Check> {
        let job = match the_job(dbt, wanted).await {
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
                    Some(job) => checks.push(jobs::look(dbt, job, None, false).await),
                    None => checks.push(Check::skipped(PART, "job", "job", &of)),
                }
                return checks;
            }
        };
        Chain { reader: &reader, me: &me, dbt }.links(wanted, job).await
    }

    async fn links(&self, wanted: &Wanted, job: Option<u64>) -> Vec<Check> {
        let (standing, none) = workflows::find(self, wanted, job).await;
        let mut checks: Vec<Check> = Vec::new();
        let mut footings = BTreeMap::new();
        let loads: Vec<(String, notebooks::NotebookUse)> = loads(&standing).into_iter().collect();
        let found = side_by_side(&loads, async |(path, load)| footing(self, Some(path), load).await).await;
        for ((path, _), footing) in loads.into_iter().zip(found) {
            checks.extend(
                footing
                    .checks
                    .iter()
                    .filter(|new| checks.iter().all(|old| old.id() != new.id()))
                    .cloned()
                    .collect::<Vec<_>>(),
            );
            footings.insert(path, footing);
        }
        if standing.is_empty() {
            // The notebook that a first workflow would use.
            let load = notebooks::NotebookUse { jobs: job.into_iter().collect(), others_only: false };
            checks.extend(footing(self, None, &load).await.checks);
        }
        checks.extend(none);
        // With `--job`, only that one of the workflow's jobs.
        let mut started: BTreeMap<u64, Option<String>> = BTreeMap::new();
        for task in standing.iter().flat_map(|workflow| &workflow.tasks) {
            let Some(id) = task.job.filter(|id| job.is_none_or(|job| job == *id)) else { continue };
            let elsewhere = footings.get(&task.notebook).and_then(|footing: &NotebookCheck| footing.elsewhere.clone());
            started.entry(id).or_insert(elsewhere);
        }
        if let Some(job) = job {
            started.entry(job).or_insert(None);
        }
        let started: Vec<(u64, Option<String>)> = started.into_iter().collect();
        let (last, rights, jobs) = tokio::join!(
            side_by_side(&standing, async |workflow| last_run::look(self, workflow, &footings).await),
            self.all_rights(&standing, &footings),
            side_by_side(&started, async |(job, elsewhere)| {
                let is_started = standing.iter().any(|workflow| workflow.is_for(*job) && workflow.starts_by_itself());
                jobs::look(self.dbt, *job, elsewhere.as_deref(), is_started).await
            }),
        );
        for (workflow, last) in standing.iter().zip(last) {
            checks.extend(workflows::compare(self, workflow, &footings));
            checks.push(last);
            checks.push(Chain::rights(workflow, &footings, &rights));
        }
        checks.extend(jobs);
        checks
    }

    /// Looks up the access of each other run-as identity to each notebook, once.
    async fn all_rights(&self, standing: &[WorkflowCheck], footings: &BTreeMap<String, NotebookCheck>) -> Rights {
        let mut asked: BTreeMap<(String, String), &Prerequisites> = BTreeMap::new();
        for workflow in standing {
            let Some(who) = self.runs_as_another(workflow) else { continue };
            for path in workflow.tasks.iter().map(|task| &task.notebook) {
                if let Some(NotebookCheck { checks: _, prerequisites: Ok(prerequisites), key: Ok(()), elsewhere: _ }) =
                    footings.get(path)
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
    fn rights(workflow: &WorkflowCheck, footings: &BTreeMap<String, NotebookCheck>, known: &Rights) -> Check {
        let id = format!("rights:{}", workflow.have.job.id);
        let skipped = |of: &str| Check::skipped(PART, &id, &format!("the rights of {}", workflow.short()), of);
        let Some(who) = workflow.have.job.run_as.clone() else {
            return skipped("the run-as identity is unknown");
        };
        let paths: BTreeSet<&str> = workflow.tasks.iter().map(|task| task.notebook.as_str()).collect();
        let mut unsure = Vec::new();
        for path in paths {
            let Some(NotebookCheck { checks: _, prerequisites, key, elsewhere: _ }) = footings.get(path) else {
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
            "Cannot tell whether {who}, the run-as identity of {}, can read the notebook and the key.",
            workflow.short()
        );
        unsure.into_iter().fold(Check::warning(PART, &id, what), Check::because)
    }
}

/// The ID of the requested dbt job.
async fn the_job(dbt: &Dbt, wanted: &Wanted) -> Result<Option<u64>, Check> {
    match (&wanted.job, &dbt.line) {
        (None, _) => Ok(None),
        (Some(JobNamed::Id(job) | JobNamed::Address { job, pasted: _ }), _) => Ok(Some(*job)),
        (Some(JobNamed::Name(_)), Err(of)) => Err(Check::skipped(PART, "job", "job", of)),
        (Some(named @ JobNamed::Name(_)), Ok((account, reader))) => {
            let found = named.find(reader, account, &wanted.narrow).await;
            found.map(Some).map_err(|failure| Check::failed(PART, "job", failure))
        }
    }
}

/// The notebooks of the workflows, and how each is used.
fn loads(standing: &[WorkflowCheck]) -> BTreeMap<String, notebooks::NotebookUse> {
    let mut loads: BTreeMap<String, notebooks::NotebookUse> = BTreeMap::new();
    for workflow in standing {
        for task in &workflow.tasks {
            let load = loads
                .entry(task.notebook.clone())
                .or_insert_with(|| notebooks::NotebookUse { jobs: BTreeSet::new(), others_only: true });
            load.jobs.extend(task.job);
            load.others_only &= workflow.is_of_another;
        }
    }
    loads
}
