//! `run --workflow W`.

use tokio::time::{Instant, timeout_at};
use url::Url;

use super::follow_workflow::{WorkflowReport, follow_run};
use super::{Waiting, resume};
use crate::commands::job_named::NAME;
use crate::commands::last_known::Known;
use crate::commands::{Stage, to_databricks};
use crate::credentials::{Databricks, Wants, databricks};
use crate::databricks::jobs::{Page, list};
use crate::databricks::{
    OtherParameter, WorkflowRow, get_workflow, get_workflow_run, is_missing, list_workflows_named, run_now,
};
use crate::failure::{Code, Ended, Failure, Report, of_databricks};
use crate::http::{Fault, HttpError, Reader};
use crate::nearest::nearest;
use crate::origin::{Origin, with_scheme};
use crate::runs::plain;

/// More pages of jobs of one name are not read.
const MOST_PAGES: u32 = 20;

/// A workflow as a person names it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Named {
    Id(u64),
    Name(String),
}

pub(super) async fn run(text: &str, waiting: Waiting, mut wants: Wants, stage: &Stage) -> Ended<Box<dyn Report>> {
    let identity = databricks(&stage.context.environment, &stage.vault, &mut wants);
    let named = wants.optional(read_workflow(text, identity.as_ref().map(|identity| &identity.origin)).map(Some));
    if let Err(failure) = wants.settle() {
        return failure.into();
    }
    let (Some(identity), Some(named)) = (identity, named) else {
        return Failure::new(Code::Bug, "A value is missing, and nothing said so.").into();
    };
    match start(text, &identity, named, &waiting, stage).await {
        Ok(ended) => ended,
        Err(failure) => failure.into(),
    }
}

/// The same for a workflow that is known by its id.
pub(super) async fn press(
    workflow: u64,
    identity: &Databricks,
    waiting: &Waiting,
    stage: &Stage,
) -> Ended<Box<dyn Report>> {
    start(&workflow.to_string(), identity, Named::Id(workflow), waiting, stage).await.unwrap_or_else(Ended::from)
}

/// An id, an address in either of its forms (databricks-api §5.7), or else a name.
fn read_workflow(text: &str, own: Option<&Origin>) -> Result<Named, Failure> {
    let invalid = |why: String| {
        Failure::new(Code::InvalidInput, format!("\"{text}\" cannot be used as a workflow: {why}."))
            .advise("give the id of the Databricks job, its address, or its exact name")
    };
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map(Named::Id).map_err(|_| invalid("the number is too large for an id".to_owned()));
    }
    if text.trim().is_empty() {
        return Err(invalid("it is empty".to_owned()));
    }
    if !text.contains("://") {
        return Ok(Named::Name(text.to_owned()));
    }
    let url = with_scheme(text)
        .map_err(|bad| bad.to_string())
        .and_then(|text| Url::parse(&text).map_err(|error| error.to_string()))
        .map_err(invalid)?;
    let origin = Origin::of(&url).map_err(|bad| invalid(bad.to_string()))?;
    if let Some(own) = own.filter(|own| **own != origin) {
        return Err(Failure::new(
            Code::Contradiction,
            format!("The workflow's address is at {origin}, and the Databricks identity in use is for {own}."),
        )
        .advise("set DATABRICKS_HOST and DATABRICKS_TOKEN for the workspace that the workflow is in, or name its profile with -p"));
    }
    let path = format!("{}/{}", url.path(), url.fragment().unwrap_or_default());
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let id = parts.windows(2).find(|pair| matches!(pair[0], "jobs" | "job")).and_then(|pair| pair[1].parse().ok());
    id.map(Named::Id).ok_or_else(|| invalid("the address names no job".to_owned()))
}

async fn start(
    text: &str,
    identity: &Databricks,
    named: Named,
    waiting: &Waiting,
    stage: &Stage,
) -> Result<Ended<Box<dyn Report>>, Failure> {
    let deadline = Instant::now() + waiting.timeout;
    let writer = to_databricks(identity, stage)?;
    let row = timeout_at(deadline, find(&writer, text, named)).await.unwrap_or_else(|_| {
        Err(Failure::new(Code::Unavailable, format!("The time was over before {text} was found; nothing was started."))
            .advise("give more time with --timeout"))
    })?;
    let job = row.job_id;
    let mut report = WorkflowReport {
        workflow: job,
        name: row.name().to_owned(),
        origin: identity.origin.to_string(),
        key: Some(waiting.key.as_str().to_owned()),
        run: None,
        url: None,
        state: None,
    };
    let again = resume::of_workflow(text, &waiting.parameters, None);
    let resume = resume::of_workflow(text, &waiting.parameters, Some(waiting.key.as_str()));
    let shown_name = report.shown_name();
    stage.last_known.set(Known {
        data: report.json(),
        line: format!("a run of {shown_name} may have been started"),
        resume: resume.clone(),
    });
    let token = waiting.key.token(job);
    let sent = timeout_at(deadline, writer.put(run_now(job, &token, &waiting.parameters))).await;
    let started = match sent.map_err(|_| None).and_then(|sent| sent.map_err(Some)) {
        Ok(started) => started,
        Err(error) => {
            let failure = not_started(&shown_name, &resume, error.as_ref());
            return Ok(Ended { report: Some(Box::new(report)), failure: Some(failure) });
        }
    };
    let run = started.run_id;
    report.run = Some(run);
    report.url = Some(format!("{}/jobs/{job}/runs/{run}", identity.origin));
    stage.events.progress(format!("workflow_run_id = {run}"));
    stage.events.progress(report.url());
    if waiting.given
        && let Some(failure) = other_parameters(&writer, run, waiting, deadline).await
    {
        stage.last_known.clear();
        return Ok(Ended { report: Some(Box::new(report)), failure: Some(failure) });
    }
    if waiting.no_wait {
        stage.last_known.clear();
        return Ok(Ended::well(Box::new(report)));
    }
    Ok(follow_run(report, run, &writer, deadline, Some(&again), stage).await)
}

/// The service gives the run of a key again whatever parameters come with it (databricks-api §2.6).
async fn other_parameters(reader: &Reader, run: u64, waiting: &Waiting, deadline: Instant) -> Option<Failure> {
    // A run that cannot be looked at now is followed all the same, and shows what it is.
    let seen = timeout_at(deadline, reader.glance(get_workflow_run(run, None))).await.ok()?.ok()?;
    let OtherParameter { name, wanted, seen } = seen.differs_from(&waiting.parameters)?;
    Some(
        Failure::new(
            Code::Refused,
            format!("The key belongs to Databricks run {run} already, which was started with other parameters."),
        )
        .cause(format!("{name} is wanted as \"{wanted}\", and run {run} has \"{seen}\""))
        .advise("give a new --idempotency-key for a new run, or the same parameters to follow that run"),
    )
}

async fn find(reader: &Reader, text: &str, named: Named) -> Result<WorkflowRow, Failure> {
    let name = match named {
        Named::Id(id) => {
            return reader.read(get_workflow(id)).await.map_err(|error| {
                let failure =
                    of_databricks(&format!("Cannot look at the workflow {text}; nothing was started"), &error);
                if is_missing(&error) { Failure { code: Code::NotFound, ..failure } } else { failure }
            });
        }
        Named::Name(name) => name,
    };
    let (mut found, mut page) = (Vec::new(), None);
    for _ in 0..MOST_PAGES {
        let listed = reader.read(list_workflows_named(&name, page.as_deref())).await.map_err(|error| {
            of_databricks(&format!("Cannot look for a workflow named \"{name}\"; nothing was started"), &error)
        })?;
        // The service ignores case (§5.4), and a look-alike may ignore the filter.
        found.extend(listed.jobs.into_iter().filter(|row| row.name() == name));
        page = listed.next_page_token.filter(|token| !token.is_empty());
        if page.is_none() {
            break;
        }
    }
    if found.len() == 1 {
        return Ok(found.remove(0));
    }
    if found.is_empty() {
        let failure =
            Failure::new(Code::NotFound, format!("No workflow is named \"{name}\", or this identity cannot see it."))
                .advise("compare the name with the workspace's page Jobs & Pipelines, or give the id");
        let near = near(reader, &name).await;
        return Err(failure.meant(&near));
    }
    let failure = Failure::new(Code::InvalidInput, format!("{} workflows are named \"{name}\".", found.len()));
    Err(found.iter().fold(failure, |failure, row| {
        let creator = row.creator_user_name.as_deref().unwrap_or("somebody");
        failure
            .cause(format!("{} was made by {creator}", row.job_id))
            .run(format!("dbtrigger run --workflow {}", row.job_id))
    }))
}

/// The workflows whose names are nearest. For advice only: what cannot be listed is not suggested.
async fn near(reader: &Reader, name: &str) -> Vec<String> {
    let (mut all, mut page) = (Vec::new(), None);
    for _ in 0..MOST_PAGES {
        let Ok(Page { jobs, next }) = reader.glance(list(None, page.as_deref())).await else { break };
        all.extend(jobs);
        page = next;
        if page.is_none() {
            break;
        }
    }
    let near = nearest(name, &all, |job| &job.name);
    near.iter().map(|job| format!("\"{}\" ({})", plain(&job.name, NAME), job.id)).collect()
}

/// `run-now` failed after all its attempts. Any of them may have started the run; the token makes the next try safe.
fn not_started(workflow: &str, resume: &str, error: Option<&HttpError>) -> Failure {
    let unknown = Failure::new(Code::OutcomeUnknown, format!("It is unknown whether a run of {workflow} was started."));
    let advice = "that command cannot start a second run: it carries the same idempotency token";
    let Some(error) = error else {
        return unknown.cause("the time was over before Databricks answered").run(resume).advise(advice);
    };
    let surely_not = match &error.fault {
        Fault::Status(status, _) => status.is_client_error() && !matches!(status.as_u16(), 408 | 429),
        Fault::NotSent(_) | Fault::NoToken(_) => error.attempts == 1,
        Fault::Lost(_) | Fault::Nonsense(_) | Fault::TooLate(_) => false,
    };
    if surely_not {
        return of_databricks(&format!("Databricks did not start {workflow}"), error);
    }
    unknown.cause(error.to_string()).run(resume).advise(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workflow_is_an_id_an_address_or_a_name() {
        let own = Origin::parse("https://dbc.cloud.databricks.com").unwrap();
        let read = |text: &str| read_workflow(text, Some(&own));
        for text in [
            "9007199254740993",
            "https://dbc.cloud.databricks.com/jobs/9007199254740993?o=12",
            "https://dbc.cloud.databricks.com/jobs/9007199254740993/runs/5?o=12",
            "https://dbc.cloud.databricks.com/?o=12#job/9007199254740993/run/5",
            "https://dbc.cloud.databricks.com/?o=12#/jobs/9007199254740993",
        ] {
            assert_eq!(read(text), Ok(Named::Id(9_007_199_254_740_993)), "{text}");
        }
        assert_eq!(read("dbt: Nightly/Build (1)"), Ok(Named::Name("dbt: Nightly/Build (1)".to_owned())));
        for (text, code) in [
            ("https://other.cloud.databricks.com/jobs/1", Code::Contradiction),
            ("http://dbc.cloud.databricks.com/jobs/1", Code::InvalidInput),
            ("https://dbc.cloud.databricks.com/explore", Code::InvalidInput),
            ("  ", Code::InvalidInput),
            ("99999999999999999999", Code::InvalidInput),
        ] {
            assert_eq!(read(text).unwrap_err().code, code, "{text}");
        }
    }
}
