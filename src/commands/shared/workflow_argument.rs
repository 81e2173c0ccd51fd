//! The WORKFLOW argument: a Databricks job by ID, URL or exact name.

use url::Url;

use crate::commands::CommandContext;
use crate::commands::shared::job_argument::NAME;
use crate::credentials::{Databricks, InputErrors, databricks};
use crate::databricks::jobs::{Page, Summary, list};
use crate::databricks::{WorkflowRow, get_workflow, is_missing, list_workflows_named};
use crate::document::unquoted;
use crate::failure::{Code, Failure, of_databricks};
use crate::http::Reader;
use crate::nearest::nearest;
use crate::origin::{Origin, with_scheme};
use crate::runs::plain;

/// Jobs searched for similar names.
const NEAR: usize = 2_000;

/// The workflow that the user named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WorkflowArgument {
    Id(u64),
    Name(String),
}

impl WorkflowArgument {
    /// Parses an ID, a URL in either form, or a name.
    pub(crate) fn read(text: &str, own: Option<&Origin>) -> Result<WorkflowArgument, Failure> {
        let text = unquoted(text);
        let invalid = |why: String| {
            Failure::new(Code::InvalidInput, format!("\"{text}\" is not a workflow: {why}"))
                .advise("use the ID, URL, or exact name of the Databricks job")
        };
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text
                .parse()
                .map(WorkflowArgument::Id)
                .map_err(|_| invalid("the number is too large for an ID".to_owned()));
        }
        if text.trim().is_empty() {
            return Err(invalid("it is empty".to_owned()));
        }
        if !text.contains("://") {
            return Ok(WorkflowArgument::Name(text.to_owned()));
        }
        let url = with_scheme(text)
            .map_err(|bad| bad.to_string())
            .and_then(|text| Url::parse(&text).map_err(|error| error.to_string()))
            .map_err(invalid)?;
        let origin = Origin::of(&url).map_err(|bad| invalid(bad.to_string()))?;
        if let Some(own) = own.filter(|own| **own != origin) {
            return Err(Failure::new(
                Code::Contradiction,
                format!("the workflow's URL is at {origin}, but the Databricks identity is for {own}"),
            )
            .advise(
                "set DATABRICKS_HOST and DATABRICKS_TOKEN for the workflow's workspace, or pick its profile with -p",
            ));
        }
        let path = format!("{}/{}", url.path(), url.fragment().unwrap_or_default());
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let id = parts.windows(2).find(|pair| matches!(pair[0], "jobs" | "job")).and_then(|pair| pair[1].parse().ok());
        id.map(WorkflowArgument::Id).ok_or_else(|| invalid("the URL contains no job".to_owned()))
    }

    /// Parses the argument, and resolves the Databricks identity that it is for.
    pub(crate) fn with_identity(
        text: &str,
        mut errors: InputErrors,
        ctx: &CommandContext,
    ) -> Result<(WorkflowArgument, Databricks), Failure> {
        let identity = databricks(&ctx.context.environment, &ctx.vault, &mut errors);
        let origin = identity.as_ref().map(|identity| &identity.origin);
        let named = errors.optional(WorkflowArgument::read(text, origin).map(Some));
        errors.settled(named.zip(identity))
    }

    /// The only matching job. `nothing` is a sentence that says what was not done if there is none; `again` is the
    /// command for one of several.
    pub(crate) async fn find(
        &self,
        reader: &Reader,
        text: &str,
        nothing: &str,
        again: impl Fn(u64) -> String,
    ) -> Result<WorkflowRow, Failure> {
        let name = match self {
            WorkflowArgument::Id(id) => {
                return reader.read(get_workflow(*id)).await.map_err(|error| {
                    let failure = of_databricks(&format!("cannot read workflow {text}"), &error).state(nothing);
                    if is_missing(&error) { Failure { code: Code::NotFound, ..failure } } else { failure }
                });
            }
            WorkflowArgument::Name(name) => name.as_str(),
        };
        let page = async |token: Option<String>| {
            let listed = reader.read(list_workflows_named(name, token.as_deref())).await?;
            // The service ignores case, and may ignore the filter.
            let named = listed.jobs.into_iter().filter(|row| row.name() == name).collect();
            Ok((named, listed.next_page_token.filter(|token| !token.is_empty())))
        };
        let listed = reader.pages("jobs/list", |row: &WorkflowRow| row.job_id, usize::MAX, page).await;
        let mut found = listed.map_err(|error| {
            of_databricks(&format!("cannot look for a workflow named \"{name}\""), &error).state(nothing)
        })?;
        if found.len() == 1 {
            return Ok(found.remove(0));
        }
        if found.is_empty() {
            let failure = Failure::new(
                Code::NotFound,
                format!("no workflow is named \"{name}\", or this identity cannot see it"),
            )
            .advise("compare the name with Jobs & Pipelines in the workspace, or use the ID");
            let near = near(reader, name).await;
            return Err(failure.meant(&near));
        }
        let failure = Failure::new(Code::InvalidInput, format!("{} workflows are named \"{name}\"", found.len()));
        Err(found.iter().fold(failure, |failure, row| {
            let creator = row.creator_user_name.as_deref().unwrap_or("an unknown user");
            failure
                .cause(format!("{} was created by {creator}", row.job_id))
                .run(format!("use workflow {}", row.job_id), again(row.job_id))
        }))
    }
}

/// Workflows with similar names. Only for advice, so errors are ignored.
async fn near(reader: &Reader, name: &str) -> Vec<String> {
    let page = async |token: Option<String>| {
        let Page { jobs, next } = reader.read_once(list(None, token.as_deref())).await?;
        Ok((jobs.rows, next))
    };
    let all = reader.pages("jobs/list", |job: &Summary| job.id, NEAR, page).await.unwrap_or_default();
    let near = nearest(name, &all, |job| &job.name);
    near.iter().map(|job| format!("\"{}\" ({})", plain(&job.name, NAME), job.id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workflow_is_an_id_an_address_or_a_name() {
        let own = Origin::parse("https://dbc.cloud.databricks.com").unwrap();
        let read = |text: &str| WorkflowArgument::read(text, Some(&own));
        for text in [
            "9007199254740993",
            "\"9007199254740993\"",
            "https://dbc.cloud.databricks.com/jobs/9007199254740993?o=12",
            "https://dbc.cloud.databricks.com/jobs/9007199254740993/runs/5?o=12",
            "https://dbc.cloud.databricks.com/?o=12#job/9007199254740993/run/5",
            "https://dbc.cloud.databricks.com/?o=12#/jobs/9007199254740993",
        ] {
            assert_eq!(read(text), Ok(WorkflowArgument::Id(9_007_199_254_740_993)), "{text}");
        }
        assert_eq!(read("dbt: Nightly/Build (1)"), Ok(WorkflowArgument::Name("dbt: Nightly/Build (1)".to_owned())));
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
