//! The JOB argument: a dbt job by ID, by URL, or by a name that is unique in the account.

use crate::credentials::Account;
use crate::dbt::{Job, JobFilter, Link, PAGE, Project, all_pages, list_jobs, list_projects};
use crate::document::unquoted;
use crate::failure::{Code, Failure, of_dbt};
use crate::http::{HttpError, Meaning, Reader};
use crate::nearest::{nearest, nearest_names};
use crate::origin::shown;
use crate::runs::plain;

/// Longest name shown, in characters.
pub(crate) const NAME: usize = 100;

/// The job that the user named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JobArgument {
    Id(u64),
    /// The job's ID, and the URL as pasted.
    Address {
        job: u64,
        pasted: (String, Box<Link>),
    },
    Name(String),
}

/// The flags that limit a job name, or a list of jobs, to a project or an environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct JobFilterFlags {
    /// Only jobs in this dbt project (name or ID)
    #[arg(long, value_name = "PROJECT", hide_short_help = true)]
    pub(crate) project: Option<String>,
    /// Only jobs in this dbt environment (name or ID)
    #[arg(long, value_name = "ENVIRONMENT", hide_short_help = true)]
    pub(crate) environment: Option<String>,
}

impl JobFilterFlags {
    pub(crate) fn is_empty(&self) -> bool {
        let JobFilterFlags { project, environment } = self;
        project.is_none() && environment.is_none()
    }
}

const ADVICE: &str = "use its ID, URL, or name; `dbtrigger jobs` lists them";

impl JobArgument {
    /// Parses the argument without requests.
    pub(crate) fn read(text: &str) -> Result<JobArgument, Failure> {
        let text = unquoted(text);
        let invalid = |why: String| {
            Failure::new(Code::InvalidInput, format!("invalid dbt job \"{}\": {why}", shown(text))).advise(ADVICE)
        };
        if text.trim().is_empty() {
            return Err(invalid("it is empty".to_owned()));
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return match text.parse() {
                Ok(id) if id > 0 => Ok(JobArgument::Id(id)),
                Ok(_) | Err(_) => Err(invalid("a job ID is a positive number".to_owned())),
            };
        }
        // Names may contain slashes; URLs start with a host.
        let host = text.split('/').next().unwrap_or_default();
        if !text.contains("://") && (!text.contains('/') || !host.contains('.') || host.contains(' ')) {
            return Ok(JobArgument::Name(text.to_owned()));
        }
        let link = Link::parse(text).map_err(|bad| invalid(bad.to_string()))?;
        match (link.job, link.run) {
            (Some(job), _) => Ok(JobArgument::Address { job, pasted: (text.to_owned(), Box::new(link)) }),
            (None, Some(run)) => Err(invalid(format!("it is the URL of run {run}, not of a job"))),
            (None, None) => Err(invalid("the URL contains no dbt job".to_owned())),
        }
    }

    /// The URL, which may provide host and account.
    pub(crate) fn pasted(&self) -> Vec<(String, Link)> {
        match self {
            JobArgument::Address { job: _, pasted: (text, link) } => vec![(text.clone(), (**link).clone())],
            JobArgument::Id(_) | JobArgument::Name(_) => Vec::new(),
        }
    }

    /// Returns the ID; a name is looked up within `job_filter`.
    pub(crate) async fn find(
        &self,
        reader: &Reader,
        account: &Account,
        job_filter: &JobFilterFlags,
    ) -> Result<u64, Failure> {
        match self {
            JobArgument::Id(job) | JobArgument::Address { job, pasted: _ } if job_filter.is_empty() => Ok(*job),
            JobArgument::Id(job) | JobArgument::Address { job, pasted: _ } => Err(Failure::new(
                Code::Usage,
                format!("--project and --environment apply to a job given by name, but job {job} is given by ID"),
            )
            .advise("drop them, or name the job")),
            JobArgument::Name(name) => find_by_name(reader, account, name, job_filter).await.map(|job| job.id),
        }
    }
}

/// The only job with this name.
async fn find_by_name(
    reader: &Reader,
    account: &Account,
    name: &str,
    job_filter: &JobFilterFlags,
) -> Result<Job, Failure> {
    let projects = Projects::read(reader, account, job_filter).await?;
    // The service may ignore the filter, and dbt matches substrings in any case.
    let mut all = jobs(reader, account, job_filter, &projects, Some(name)).await?;
    let is_it = |job: &Job| job.name.as_deref() == Some(name);
    let mut found: Vec<Job> = all.iter().filter(|job| is_it(job)).cloned().collect();
    if found.len() == 1 {
        return Ok(found.remove(0));
    }
    if found.is_empty() {
        if let Ok(more) = jobs(reader, account, job_filter, &projects, None).await {
            all = more;
        }
        return Err(unknown(name, job_filter, &all));
    }
    let failure = Failure::new(Code::InvalidInput, format!("{} dbt jobs are named \"{name}\"", found.len()));
    let failure = found.iter().fold(failure, |failure, job| {
        failure.cause(format!("{} is in {}, environment {}", job.id, projects.of(job), environment(job)))
    });
    Err(failure.advise("use the ID of one of them, or add --project or --environment"))
}

fn unknown(name: &str, job_filter: &JobFilterFlags, all: &[Job]) -> Failure {
    let narrowed = if job_filter.is_empty() { "" } else { " there" };
    let failure =
        Failure::new(Code::NotFound, format!("no dbt job is named \"{name}\"{narrowed}, or this token cannot see it"));
    let near = nearest(name, all, |job| job.name.as_deref().unwrap_or_default());
    let near: Vec<String> =
        near.iter().map(|job| format!("\"{}\" ({})", shown_name(job.name.as_deref()), job.id)).collect();
    failure.cause("names are case-sensitive").run("list the dbt jobs", "dbtrigger jobs").meant(&near)
}

/// The projects of the account, if readable, and the ID of the requested one.
pub(crate) struct Projects {
    projects: Vec<Project>,
    project: Option<u64>,
    /// The token cannot list projects, so their names are unknown.
    pub(crate) unnamed: bool,
}

impl Projects {
    /// Reads the projects, and finds the one in `job_filter`.
    pub(crate) async fn read(
        reader: &Reader,
        account: &Account,
        job_filter: &JobFilterFlags,
    ) -> Result<Projects, Failure> {
        let requested = job_filter.project.as_deref();
        let id = requested.and_then(|text| text.parse().ok());
        let projects = match projects(reader, account).await {
            Ok(projects) => projects,
            // A restricted token may see jobs but no projects, whose names are only for display unless one is
            // requested.
            Err(error)
                if (requested.is_none() || id.is_some())
                    && matches!(error.means(), Meaning::RightMissing | Meaning::NotFound) =>
            {
                return Ok(Projects { projects: Vec::new(), project: id, unnamed: true });
            }
            Err(error) => return Err(of_dbt("cannot list the projects of the account", &error)),
        };
        let project = match (requested, id) {
            (None, _) => None,
            (Some(_), Some(id)) => Some(id),
            (Some(name), None) => {
                let mut named = projects.iter().filter(|project| project.name.as_deref() == Some(name));
                match (named.next(), named.next()) {
                    (Some(project), None) => Some(project.id),
                    (Some(one), Some(two)) => {
                        return Err(Failure::new(
                            Code::InvalidInput,
                            format!("several projects are named \"{name}\": {} and {}", one.id, two.id),
                        )
                        .advise("pass the ID of one of them to --project"));
                    }
                    (None, _) => {
                        let failure = Failure::new(
                            Code::NotFound,
                            format!("no project is named \"{name}\", or this token cannot see it"),
                        );
                        let failure = projects.iter().take(20).fold(failure, |failure, project| {
                            let other = shown_name(project.name.as_deref());
                            failure.cause(format!("\"{other}\" has ID {}", project.id))
                        });
                        let known = projects.iter().filter_map(|project| project.name.as_deref());
                        let near = nearest_names(name, known).iter().map(|name| plain(name, NAME)).collect::<Vec<_>>();
                        return Err(failure.advise("pass the name or ID of one of these to --project").meant(&near));
                    }
                }
            }
        };
        Ok(Projects { projects, project, unnamed: false })
    }

    pub(crate) fn name(&self, project: Option<u64>) -> Option<&str> {
        self.projects.iter().find(|known| Some(known.id) == project)?.name.as_deref()
    }

    fn of(&self, job: &Job) -> String {
        match (self.name(job.project_id), job.project_id) {
            (Some(name), _) => format!("project {}", shown_name(Some(name))),
            (None, Some(id)) => format!("project {id}"),
            (None, None) => "an unknown project".to_owned(),
        }
    }
}

/// All jobs within `job_filter`, sorted by ID.
pub(crate) async fn jobs(
    reader: &Reader,
    account: &Account,
    job_filter: &JobFilterFlags,
    projects: &Projects,
    name_part: Option<&str>,
) -> Result<Vec<Job>, Failure> {
    let requested = job_filter.environment.as_deref();
    let id: Option<u64> = requested.and_then(|text| text.parse().ok());
    let filter = JobFilter { project: projects.project, environment: id, name_part: name_part.map(ToOwned::to_owned) };
    let list = |offset| list_jobs(account.id, &filter, offset, PAGE);
    let listed = all_pages(reader, "jobs/list", (|job: &Job| job.id, |_: &Job| true), usize::MAX, list).await;
    let mut all = listed.map_err(|error| of_dbt("cannot list the jobs of the account", &error))?;
    // Filter here too, in case the service ignores a parameter.
    all.retain(|job| job.state != Some(2));
    all.retain(|job| projects.project.is_none_or(|project| job.project_id.is_none_or(|of| of == project)));
    all.sort_by_key(|job| job.id);
    let Some(requested) = requested else { return Ok(all) };
    let here = |job: &Job| match id {
        Some(id) => job.environment_id.is_none_or(|of| of == id),
        None => job.environment_name() == Some(requested),
    };
    let mut names: Vec<String> = all.iter().map(environment).collect();
    all.retain(here);
    // With a name filter, no match is not an error.
    if all.is_empty() && name_part.is_none() {
        names.sort_unstable();
        names.dedup();
        let failure = Failure::new(Code::NotFound, format!("no visible job is in environment \"{requested}\""));
        let failure = match names.as_slice() {
            [] => failure,
            names => failure.cause(format!("environments with jobs: {}", names[..names.len().min(20)].join(", "))),
        };
        let near = nearest_names(requested, names.iter().map(String::as_str));
        return Err(failure.advise("pass the name or ID of one of these to --environment").meant(&near));
    }
    Ok(all)
}

/// All jobs, each with its name.
pub(crate) async fn names(reader: &Reader, account: &Account) -> Result<Vec<(u64, String)>, Failure> {
    let projects = Projects { projects: Vec::new(), project: None, unnamed: true };
    let jobs = jobs(reader, account, &JobFilterFlags::default(), &projects, None).await?;
    Ok(jobs.into_iter().map(|job| (job.id, job.name.unwrap_or_default())).collect())
}

async fn projects(reader: &Reader, account: &Account) -> Result<Vec<Project>, HttpError> {
    let list = |offset| list_projects(account.id, offset, PAGE);
    all_pages(reader, "projects/list", (|project: &Project| project.id, |_: &Project| true), usize::MAX, list).await
}

/// The environment of a job: its name, or else its ID.
pub(crate) fn environment(job: &Job) -> String {
    let id = || job.environment_id.map(|id| id.to_string()).unwrap_or_default();
    job.environment_name().map_or_else(id, |name| shown_name(Some(name)))
}

/// A name for display.
pub(crate) fn shown_name(name: Option<&str>) -> String {
    plain(name.unwrap_or_default(), NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_an_id_an_address_or_a_name() {
        for text in ["222222", "\"222222\""] {
            assert_eq!(JobArgument::read(text), Ok(JobArgument::Id(222_222)));
        }
        for text in
            ["https://ab123.us1.dbt.com/deploy/1/projects/2/jobs/3", "ab123.us1.dbt.com/deploy/1/projects/2/jobs/3/"]
        {
            let named = JobArgument::read(text).unwrap();
            assert!(matches!(named, JobArgument::Address { job: 3, pasted: _ }), "{text}");
            assert_eq!(named.pasted().len(), 1);
        }
        for text in ["Nightly build", "daily/orders", "v1.2 build/x", "nightly"] {
            assert_eq!(JobArgument::read(text), Ok(JobArgument::Name(text.to_owned())));
        }
        for (text, says) in [
            ("", "empty"),
            ("0", "a job ID is a positive number"),
            ("99999999999999999999", "a job ID is a positive number"),
            ("https://ab123.us1.dbt.com/deploy/1/projects/2/runs/3", "run 3"),
            ("https://ab123.us1.dbt.com/deploy/1", "no dbt job"),
            ("http://ab123.us1.dbt.com/deploy/1/jobs/2", "https"),
        ] {
            let failure = JobArgument::read(text).unwrap_err();
            assert!(failure.code == Code::InvalidInput && failure.what.contains(says), "{}", failure.what);
        }
    }
}
