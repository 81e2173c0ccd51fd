//! The RUN argument: a dbt run by ID or URL, or a Databricks run by URL or `--workflow-run`.

use url::Url;

use crate::dbt::Link;
use crate::document::unquoted;
use crate::failure::{Code, Failure};
use crate::origin::{Origin, shown, with_scheme};

/// The run that the user named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RunNamed {
    /// A dbt run, with its URL if given as one.
    Dbt { run: u64, pasted: Option<(String, Link)> },
    /// A run of a Databricks job; the workspace if given as a URL.
    Workflow { run: u64, origin: Option<Origin> },
}

const ADVICE: &str = "use the ID or URL of a dbt run, the URL of a Databricks run, or --workflow-run ID";

impl RunNamed {
    /// Parses RUN and `--workflow-run`, one of which is set.
    pub(crate) fn of(text: Option<&str>, workflow_run: Option<u64>) -> Result<RunNamed, Failure> {
        match (text, workflow_run) {
            (_, Some(run)) => Ok(RunNamed::Workflow { run, origin: None }),
            (Some(text), None) => RunNamed::read(text),
            (None, None) => Err(Failure::new(Code::Usage, "No run given.").advise(ADVICE)),
        }
    }

    fn read(text: &str) -> Result<RunNamed, Failure> {
        let text = unquoted(text);
        let invalid = |why: &str| {
            Failure::new(Code::InvalidInput, format!("\"{}\" is not a run: {why}.", shown(text))).advise(ADVICE)
        };
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return match text.parse() {
                Ok(run) if run > 0 => Ok(RunNamed::Dbt { run, pasted: None }),
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
            return Ok(RunNamed::Workflow { run, origin: Some(origin) });
        }
        let link = Link::parse(text).map_err(|bad| invalid(&bad.to_string()))?;
        match (link.run, link.job) {
            (Some(run), _) => Ok(RunNamed::Dbt { run, pasted: Some((text.to_owned(), link)) }),
            (None, Some(job)) => Err(invalid(&format!("it is the URL of dbt job {job}, not of a run"))),
            (None, None) => Err(invalid("the URL contains no run")),
        }
    }
}

/// The run ID in a workspace URL: `/jobs/JOB/runs/RUN`, `#job/JOB/run/RUN` (databricks-api §5.7). dbt's URLs contain
/// the account, and never a job before a run (dbt-cloud-api §1.3).
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

/// Refuses a run in another workspace than the current one.
pub(crate) fn check_workspace(given: Option<&Origin>, own: &Origin) -> Result<(), Failure> {
    match given {
        Some(given) if given != own => Err(Failure::new(
            Code::Contradiction,
            format!("The run's URL is at {given}, but DATABRICKS_HOST is {own}."),
        )
        .advise("set DATABRICKS_HOST and DATABRICKS_TOKEN for the run's workspace")),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_an_id_or_an_address_of_either_service() {
        let dbt = |text: &str| match RunNamed::read(text) {
            Ok(RunNamed::Dbt { run, pasted }) => (run, pasted.is_some()),
            other @ (Ok(RunNamed::Workflow { .. }) | Err(_)) => panic!("{text}: {other:?}"),
        };
        for text in ["70471805314449", "\"70471805314449\""] {
            assert_eq!(dbt(text), (70_471_805_314_449, false));
        }
        for text in [
            "https://ab123.us1.dbt.com/deploy/1/projects/2/runs/3/",
            "ab123.us1.dbt.com/deploy/1/projects/2/runs/3?tabId=artifacts",
            "https://cloud.getdbt.com/#/accounts/1/projects/2/runs/3/",
            "https://cloud.getdbt.com/api/v2/accounts/1/runs/3/",
        ] {
            assert_eq!(dbt(text), (3, true), "{text}");
        }
        for text in [
            "https://dbc.cloud.databricks.com/jobs/9007199254740993/runs/3?o=12",
            "https://dbc.cloud.databricks.com/?o=12#job/9007199254740993/run/3",
        ] {
            let origin = Origin::parse("https://dbc.cloud.databricks.com").ok();
            assert_eq!(RunNamed::read(text), Ok(RunNamed::Workflow { run: 3, origin }), "{text}");
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
            let failure = RunNamed::read(text).unwrap_err();
            assert_eq!(failure.code, Code::InvalidInput, "{text}");
            assert!(failure.what.contains(says), "{}", failure.what);
            assert!(!failure.what.contains("hunter2"), "{}", failure.what);
        }
        assert_eq!(RunNamed::of(None, None).unwrap_err().code, Code::Usage);
        let origins = ["https://a.cloud.databricks.com", "https://b.cloud.databricks.com"]
            .map(|text| Origin::parse(text).unwrap());
        assert_eq!(check_workspace(Some(&origins[0]), &origins[1]).unwrap_err().code, Code::Contradiction);
        assert!(check_workspace(Some(&origins[0]), &origins[0]).is_ok() && check_workspace(None, &origins[0]).is_ok());
    }
}
