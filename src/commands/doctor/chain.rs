//! The chain from a workflow to its dbt jobs: which workflows are looked at, and what is found at each of their links.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;

use super::check::{Check, Part};
use super::notebooks::{Footing, footing};
use super::workflows::{self, Standing};
use super::{jobs, last_run, notebooks};
use crate::commands::create_workflow::rights;
use crate::commands::job_named::{JobNamed, Narrow};
use crate::commands::workflow_named::WorkflowNamed;
use crate::credentials::Account;
use crate::databricks::me::Me;
use crate::failure::Failure;
use crate::http::Reader;

pub(super) const PART: Part = Part::Chain;

/// The dbt half: the line to it, or which link to it is broken.
pub(super) struct Dbt {
    pub(super) line: Result<(Account, Reader), String>,
    pub(super) account: Option<u64>,
}

/// What is to be looked at.
pub(super) struct Wanted {
    /// With the text that names it.
    pub(super) workflow: Option<(WorkflowNamed, String)>,
    pub(super) job: Option<JobNamed>,
    pub(super) narrow: Narrow,
}

/// What the links of the chain are looked at with.
pub(super) struct Chain<'a> {
    pub(super) reader: &'a Reader,
    pub(super) me: &'a Me,
    pub(super) dbt: &'a Dbt,
}

/// What is not looked at where the workspace cannot be asked.
const IN_THE_WORKSPACE: [&str; 4] = ["notebook", "key", "workflow", "rights"];

fn skipped(of: &str) -> Vec<Check> {
    IN_THE_WORKSPACE.map(|id| Check::skipped(PART, id, id, of)).into()
}

impl Chain<'_> {
    /// Follows it as far as it holds.
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
        for (path, load) in loads(&standing) {
            let footing = footing(self, Some(&path), load).await;
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
            // What a first workflow would stand on.
            let load = notebooks::Load { jobs: job.into_iter().collect(), others_only: false };
            checks.extend(footing(self, None, load).await.checks);
        }
        checks.extend(none);
        let mut known = BTreeMap::new();
        let last = standing.iter().map(|workflow| last_run::look(self, workflow, &footings));
        for (workflow, last) in standing.iter().zip(join_all(last).await) {
            checks.extend(workflows::compare(self, workflow, &footings));
            checks.push(last);
            checks.push(self.rights(workflow, &footings, &mut known).await);
        }
        // Of a workflow that starts several, only the one that is asked about.
        let mut started: BTreeMap<u64, Option<String>> = BTreeMap::new();
        for task in standing.iter().flat_map(|workflow| &workflow.tasks) {
            let Some(id) = task.job.filter(|id| job.is_none_or(|job| job == *id)) else { continue };
            let elsewhere = footings.get(&task.notebook).and_then(|footing: &Footing| footing.elsewhere.clone());
            started.entry(id).or_insert(elsewhere);
        }
        if let Some(job) = job {
            started.entry(job).or_insert(None);
        }
        for (job, elsewhere) in started {
            let is_started = standing.iter().any(|workflow| workflow.is_for(job) && workflow.starts_by_itself());
            checks.push(jobs::look(self.dbt, job, elsewhere.as_deref(), is_started).await);
        }
        checks
    }

    /// Whether whoever a workflow runs as may read its notebook and its key.
    async fn rights(
        &self,
        workflow: &Standing,
        footings: &BTreeMap<String, Footing>,
        known: &mut BTreeMap<(String, String), Result<Vec<String>, Failure>>,
    ) -> Check {
        let id = format!("rights:{}", workflow.have.job.id);
        let skipped = |of: &str| Check::skipped(PART, &id, &format!("the rights of {}", workflow.short()), of);
        let Some(who) = workflow.have.job.run_as.clone() else {
            return skipped("the run-as identity is unknown");
        };
        let is_me = who.eq_ignore_ascii_case(&self.me.user_name);
        let paths: BTreeSet<&str> = workflow.tasks.iter().map(|task| task.notebook.as_str()).collect();
        let mut unsure = Vec::new();
        for path in paths {
            let Some(Footing { checks: _, ground, key, elsewhere: _ }) = footings.get(path) else { continue };
            let ground = match ground {
                Ok(ground) => ground,
                Err(of) => return skipped(of),
            };
            if let Err(of) = key {
                return skipped(of);
            }
            if is_me {
                // Reading both just now was the proof.
                continue;
            }
            let asked = (who.clone(), path.to_owned());
            if !known.contains_key(&asked) {
                let found = match rights::look(self.reader, &who, ground).await {
                    Some(rights) => rights.check(),
                    None => Ok(Vec::new()),
                };
                known.insert(asked.clone(), found);
            }
            match known.get(&asked) {
                Some(Ok(warnings)) => unsure.extend(warnings.iter().cloned()),
                Some(Err(failure)) => return Check::failed(PART, &id, failure.clone()),
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

/// The dbt job that is asked about, by its id.
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

/// The notebooks of the workflows, each with what it has to carry.
fn loads(standing: &[Standing]) -> BTreeMap<String, notebooks::Load> {
    let mut loads: BTreeMap<String, notebooks::Load> = BTreeMap::new();
    for workflow in standing {
        for task in &workflow.tasks {
            let load = loads
                .entry(task.notebook.clone())
                .or_insert_with(|| notebooks::Load { jobs: BTreeSet::new(), others_only: true });
            load.jobs.extend(task.job);
            load.others_only &= workflow.is_of_another;
        }
    }
    loads
}
