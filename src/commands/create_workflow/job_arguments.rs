//! The dbt jobs of the command line: by ID, by URL or by name, which requires a request to dbt.

use crate::commands::CommandContext;
use crate::commands::shared::job_argument::{JobArgument, JobFilterFlags};
use crate::credentials::{Account, InputErrors, MissingInput, Token};
use crate::dbt::Link;
use crate::failure::{Code, Failure};
use crate::http::side_by_side;
use crate::questions::Question;
use crate::spec::{Setting, TaskSpec, tasks};

/// Where the tasks go.
#[derive(Debug)]
pub(in crate::commands) enum TargetWorkflow {
    /// Into a workflow of dbtrigger.
    Own,
    /// Into an existing workflow of others: a single task, whose key may be set by a flag.
    Existing { task_key: Option<String> },
}

/// The jobs as given, each with its key if it has one.
#[derive(Debug)]
pub(in crate::commands) struct JobArguments {
    jobs: Vec<(Option<String>, JobArgument)>,
    job_filter: JobFilterFlags,
    target: TargetWorkflow,
    depends_on: Setting<Vec<String>>,
}

impl JobArguments {
    /// Parses the jobs without requests. Returns their tasks, unless a name must be resolved.
    pub(in crate::commands) fn read(
        given: Vec<String>,
        job_filter: JobFilterFlags,
        target: TargetWorkflow,
        depends_on: Vec<Setting<String>>,
        ctx: &CommandContext,
        errors: &mut InputErrors,
    ) -> (JobArguments, Vec<TaskSpec>) {
        let given = given_jobs(given, ctx, &job_filter, errors);
        let mut jobs = Vec::new();
        for text in &given {
            let (key, job) = tasks::split(text);
            let Some(named) = errors.optional(JobArgument::read(job.trim()).map(Some)) else { continue };
            jobs.push((key.map(ToOwned::to_owned), named));
        }
        let depends_on = Setting::list("--depends-on", "none", depends_on);
        let depends_on = errors.optional(depends_on.map(Some)).unwrap_or_default();
        let asked = JobArguments { jobs, job_filter, target, depends_on };
        if !asked.job_filter.is_empty() && asked.jobs.len() == given.len() && !asked.has_names() {
            let what = "--project and --environment apply to a job given by name";
            let failure = Failure::new(Code::Usage, what).advise("drop them, or name the job");
            errors.optional(Err::<Option<()>, Failure>(failure));
        }
        let tasks = match asked.tasks() {
            // If a job is missing, its key would be reported as missing too.
            Some(tasks) if asked.len() == given.len() => errors.optional(tasks.map(Some)).unwrap_or_default(),
            Some(_) | None => Vec::new(),
        };
        (asked, tasks)
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn has_names(&self) -> bool {
        self.jobs.iter().any(|(_, named)| matches!(named, JobArgument::Name(_)))
    }

    /// The URLs, which may provide host and account.
    pub(super) fn pasted(&self) -> Vec<(String, Link)> {
        self.jobs.iter().flat_map(|(_, named)| named.pasted()).collect()
    }

    /// The tasks, or `None` if a name must be resolved.
    fn tasks(&self) -> Option<Result<Vec<TaskSpec>, Failure>> {
        let ids: Option<Vec<u64>> = self
            .jobs
            .iter()
            .map(|(_, named)| match named {
                JobArgument::Id(job) | JobArgument::Address { job, pasted: _ } => Some(*job),
                JobArgument::Name(_) => None,
            })
            .collect();
        ids.map(|ids| self.with(&ids))
    }

    fn with(&self, ids: &[u64]) -> Result<Vec<TaskSpec>, Failure> {
        let named = self.jobs.iter().zip(ids);
        let keyed: Vec<(String, u64)> =
            named.map(|((key, _), id)| (key.clone().unwrap_or_else(|| format!("dbt_{id}")), *id)).collect();
        match &self.target {
            TargetWorkflow::Own => tasks::tasks(&keyed, &self.depends_on),
            TargetWorkflow::Existing { task_key } => tasks::added(&keyed, task_key.clone(), &self.depends_on),
        }
    }

    /// Resolves names to IDs with dbt.
    pub(super) async fn find(
        &self,
        account: &Account,
        token: &Token,
        ctx: &CommandContext,
    ) -> Result<Vec<TaskSpec>, Failure> {
        let reader = crate::commands::dbt_client(account, token, ctx)?.reader();
        let everywhere = JobFilterFlags::default();
        let find = async |(_, named): &(Option<String>, JobArgument)| {
            let job_filter = if let JobArgument::Name(_) = named { &self.job_filter } else { &everywhere };
            named.find(&reader, account, job_filter).await
        };
        let ids: Vec<u64> = side_by_side(&self.jobs, find).await.into_iter().collect::<Result<_, _>>()?;
        self.with(&ids)
    }
}

/// The jobs of the command line, or the job chosen at a prompt.
fn given_jobs(
    given: Vec<String>,
    ctx: &CommandContext,
    job_filter: &JobFilterFlags,
    errors: &mut InputErrors,
) -> Vec<String> {
    if !given.is_empty() {
        return given;
    }
    let missing = MissingInput::value(
        "dbt job",
        "pass --job with the ID, URL, or name of a dbt job (`dbtrigger jobs` lists them)",
        Some(Question::DbtJob {
            flag: Some("--job"),
            project: job_filter.project.clone(),
            environment: job_filter.environment.clone(),
        }),
    );
    let chosen = errors.need(Ok(ctx.prompts.job), missing);
    chosen.iter().map(ToString::to_string).collect()
}
