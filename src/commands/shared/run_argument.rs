//! The RUN argument: a run in dbt or Databricks by ID or URL, or chosen from a list.

use url::Url;

use crate::commands::{CommandContext, connect_databricks, connect_dbt};
use crate::credentials::{Account, Databricks, InputErrors, MissingInput};
use crate::databricks::get_workflow_run;
use crate::dbt::{Link, Run, get_run, get_run_with_trigger};
use crate::document::unquoted;
use crate::failure::{Code, Failure};
use crate::http::{Deadline, Meaning, Writer};
use crate::origin::{Origin, shown, with_scheme};
use crate::questions::Question;

/// The run that the user named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RunArgument {
    /// The ID of a dbt run, or of a Databricks run if dbt has none with it.
    Id(u64),
    /// A dbt run, by URL.
    Dbt { run: u64, pasted: (String, Link) },
    /// A run of a Databricks job; the workspace if given as a URL.
    Workflow { run: u64, origin: Option<Origin> },
}

const ADVICE: &str = "use the ID or URL of a dbt run or of a Databricks run";

/// A run, the service that has it, and a line to that.
#[expect(clippy::large_enum_variant, reason = "there is one, and it is taken apart at once")]
pub(crate) enum RunFound {
    /// As it was seen, if it was looked at.
    Dbt {
        run: u64,
        seen: Option<Box<Run>>,
        account: Account,
        writer: Writer,
        by_address: bool,
    },
    Workflow {
        run: u64,
        identity: Databricks,
        writer: Writer,
    },
}

/// The run that is named, or was chosen from the list. `active`: of those that have not ended.
pub(crate) async fn find_run(
    text: Option<&str>,
    workflow_run: Option<u64>,
    active: bool,
    deadline: &Deadline,
    ctx: &CommandContext,
) -> Result<RunFound, Failure> {
    let named = match (text, workflow_run) {
        (_, Some(run)) => RunArgument::Workflow { run, origin: None },
        (Some(text), None) => RunArgument::read(text)?,
        (None, None) => ctx.prompts.run.clone().ok_or_else(|| missing(active, ctx))?,
    };
    named.find(deadline, ctx).await
}

/// Says that no run is named. A list of them takes access to one of the services.
fn missing(active: bool, ctx: &CommandContext) -> Failure {
    let mut errors = InputErrors::default();
    let give = "pass the ID or URL of a run (`dbtrigger runs` lists them)";
    let missing = MissingInput::value("run", give, Some(Question::Run { active }));
    errors.need(Ok(None::<u64>), missing);
    let lines = (connect_dbt(&[], InputErrors::default(), ctx), connect_databricks(InputErrors::default(), ctx));
    let failure = match lines {
        (Err(_), Err(_)) => connect_dbt(&[], errors, ctx).err(),
        (Ok(_), _) | (_, Ok(_)) => errors.settle().err(),
    };
    failure.unwrap_or_else(|| Failure::new(Code::Bug, "the run is missing without an error"))
}

impl RunArgument {
    /// Finds the service that has the run. dbt is asked first for a bare id: most runs that people name are there.
    async fn find(self, deadline: &Deadline, ctx: &CommandContext) -> Result<RunFound, Failure> {
        match self {
            RunArgument::Id(run) => match connect_dbt(&[], InputErrors::default(), ctx) {
                Ok((account, writer)) => {
                    let writer = writer.until(deadline);
                    let looked = writer.read(get_run_with_trigger(account.id, run)).await;
                    if looked.as_ref().is_err_and(|error| error.means() == Meaning::NotFound)
                        && let Some(found) = in_databricks(run, deadline, ctx).await
                    {
                        return Ok(found);
                    }
                    // One that was just started may not be found for a moment.
                    let seen = looked.ok().filter(|seen| seen.id == run).map(Box::new);
                    Ok(RunFound::Dbt { run, seen, account, writer, by_address: false })
                }
                Err(failure) => in_databricks(run, deadline, ctx).await.ok_or(failure),
            },
            RunArgument::Dbt { run, pasted } => {
                let (account, writer) = connect_dbt(&[pasted], InputErrors::default(), ctx)?;
                Ok(RunFound::Dbt { run, seen: None, account, writer: writer.until(deadline), by_address: true })
            }
            RunArgument::Workflow { run, origin } => {
                let (identity, writer) = connect_databricks(InputErrors::default(), ctx)?;
                check_workspace(origin.as_ref(), &identity.origin)?;
                Ok(RunFound::Workflow { run, identity, writer: writer.until(deadline) })
            }
        }
    }

    fn read(text: &str) -> Result<RunArgument, Failure> {
        let text = unquoted(text);
        let invalid = |why: &str| {
            Failure::new(Code::InvalidInput, format!("\"{}\" is not a run: {why}", shown(text))).advise(ADVICE)
        };
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return match text.parse() {
                Ok(run) if run > 0 => Ok(RunArgument::Id(run)),
                Ok(_) | Err(_) => Err(invalid("it is not a run ID")),
            };
        }
        if !text.contains('/') {
            return Err(invalid("it is neither an ID nor a URL"));
        }
        let url = with_scheme(text)
            .map_err(|bad| bad.to_string())
            .and_then(|text| Url::parse(&text).map_err(|error| error.to_string()))
            .map_err(|why| invalid(&why))?;
        if let Some(run) = databricks_run(&url) {
            let origin = Origin::of(&url).map_err(|bad| invalid(&bad.to_string()))?;
            return Ok(RunArgument::Workflow { run, origin: Some(origin) });
        }
        let link = Link::parse(text).map_err(|bad| invalid(&bad.to_string()))?;
        match (link.run, link.job) {
            (Some(run), _) => Ok(RunArgument::Dbt { run, pasted: (text.to_owned(), link) }),
            (None, Some(job)) => Err(invalid(&format!("it is the URL of dbt job {job}, not of a run"))),
            (None, None) => Err(invalid("the URL contains no run")),
        }
    }
}

/// The run ID in a workspace URL: `/jobs/JOB/runs/RUN`, `#job/JOB/run/RUN`. dbt's URLs contain
/// the account, and never a job before a run.
fn databricks_run(url: &Url) -> Option<u64> {
    let path = format!("{}/{}", url.path(), url.fragment().unwrap_or_default());
    let parts: Vec<&str> = path.split(['/', '?']).filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| matches!(*part, "deploy" | "accounts" | "projects")) {
        return None;
    }
    parts.windows(4).find_map(|four| match four {
        ["job" | "jobs", job, "run" | "runs", run] => job.parse::<u64>().ok().and(run.parse().ok()),
        _ => None,
    })
}

/// The run of this id in the workspace, if there is access to one and it has such a run.
async fn in_databricks(run: u64, deadline: &Deadline, ctx: &CommandContext) -> Option<RunFound> {
    let (identity, writer) = connect_databricks(InputErrors::default(), ctx).ok()?;
    let writer = writer.until(deadline);
    writer.read_once(get_workflow_run(run, None)).await.ok().filter(|seen| seen.run_id == run)?;
    ctx.events.remark(format!("{run} is a Databricks run"));
    Some(RunFound::Workflow { run, identity, writer })
}

/// Whether dbt has a run of this id, as far as it can be asked.
pub(crate) async fn is_dbt_run(run: u64, deadline: &Deadline, ctx: &CommandContext) -> bool {
    let Ok((account, writer)) = connect_dbt(&[], InputErrors::default(), ctx) else { return false };
    writer.until(deadline).read_once(get_run(account.id, run)).await.is_ok_and(|seen| seen.id == run)
}

/// A run that Databricks does not have is one of dbt.
pub(crate) fn of_other_service(failure: Failure, command: &str, run: u64) -> Failure {
    failure.cause(format!("{run} is a dbt run")).run(format!("{command} it"), format!("dbtrigger {command} {run}"))
}

/// Refuses a run in another workspace than the current one.
fn check_workspace(given: Option<&Origin>, own: &Origin) -> Result<(), Failure> {
    match given {
        Some(given) if given != own => {
            Err(Failure::new(Code::Contradiction, format!("the run's URL is at {given}, but DATABRICKS_HOST is {own}"))
                .advise("set DATABRICKS_HOST and DATABRICKS_TOKEN for the run's workspace"))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_an_id_or_an_address_of_either_service() {
        for text in ["70471805314449", "\"70471805314449\""] {
            assert_eq!(RunArgument::read(text), Ok(RunArgument::Id(70_471_805_314_449)));
        }
        for text in [
            "https://ab123.us1.dbt.com/deploy/1/projects/2/runs/3/",
            "ab123.us1.dbt.com/deploy/1/projects/2/runs/3?tabId=artifacts",
            "https://cloud.getdbt.com/#/accounts/1/projects/2/runs/3/",
            "https://cloud.getdbt.com/api/v2/accounts/1/runs/3/",
        ] {
            assert!(matches!(RunArgument::read(text), Ok(RunArgument::Dbt { run: 3, pasted: _ })), "{text}");
        }
        for text in [
            "https://dbc.cloud.databricks.com/jobs/9007199254740993/runs/3?o=12",
            "https://dbc.cloud.databricks.com/?o=12#job/9007199254740993/run/3",
        ] {
            let origin = Origin::parse("https://dbc.cloud.databricks.com").ok();
            assert_eq!(RunArgument::read(text), Ok(RunArgument::Workflow { run: 3, origin }), "{text}");
        }
    }

    #[test]
    fn what_names_no_run_is_refused_with_the_forms_that_do() {
        for (text, says) in [
            ("", "neither"),
            ("0", "not a run ID"),
            ("99999999999999999999", "not a run ID"),
            ("nightly", "neither"),
            ("https://ab123.us1.dbt.com/deploy/1/projects/2/jobs/3", "dbt job 3"),
            ("https://dbc.cloud.databricks.com/jobs/3", "dbt job 3"),
            ("https://ab123.us1.dbt.com/deploy/1/projects/2", "no run"),
            ("http://ab123.us1.dbt.com/deploy/1/runs/3", "https"),
            ("https://me:hunter2@ab123.us1.dbt.com/deploy/1/runs/3", "user name"),
        ] {
            let failure = RunArgument::read(text).unwrap_err();
            assert_eq!(failure.code, Code::InvalidInput, "{text}");
            assert!(failure.what.contains(says), "{}", failure.what);
            assert!(!failure.what.contains("hunter2"), "{}", failure.what);
        }
        let origins = ["https://a.cloud.databricks.com", "https://b.cloud.databricks.com"]
            .map(|text| Origin::parse(text).unwrap());
        assert_eq!(check_workspace(Some(&origins[0]), &origins[1]).unwrap_err().code, Code::Contradiction);
        assert!(check_workspace(Some(&origins[0]), &origins[0]).is_ok() && check_workspace(None, &origins[0]).is_ok());
    }
}
