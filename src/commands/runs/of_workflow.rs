//! `runs --workflow`: recent runs of a Databricks job.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::with_name;
use crate::commands::jobs::moment;
use crate::commands::shared::job_argument::shown_name;
use crate::commands::shared::table::table;
use crate::commands::shared::workflow_argument::WorkflowArgument;
use crate::commands::{CommandContext, databricks_client};
use crate::credentials::InputErrors;
use crate::databricks::{RunState, WorkflowRun, list_workflow_runs};
use crate::document::{Data, Id, document};
use crate::durations::shown;
use crate::failure::{Failure, Report, of_databricks};
use crate::http::{HttpError, Reader};
use crate::line::Line;
use crate::runs::plain;

pub(super) async fn listed(text: &str, limit: u64, ctx: &CommandContext) -> Result<Box<dyn Report>, Failure> {
    let (named, identity) = WorkflowArgument::with_identity(text, InputErrors::default(), ctx)?;
    let reader = databricks_client(&identity, ctx)?;
    let again = |job: u64| format!("dbtrigger runs --workflow {job}");
    let row = named.find(&reader, text, "its runs were not listed", again).await?;
    let runs = runs_of(&reader, row.job_id, limit).await.map_err(|error| {
        let name = shown_name(Some(row.name()));
        of_databricks(&format!("cannot list the runs of workflow \"{name}\" ({})", row.job_id), &error)
    })?;
    let report = WorkflowRunsReport {
        workflow: row.job_id,
        name: row.name().to_owned(),
        origin: identity.origin.to_string(),
        runs,
        zone: ctx.context.zone.clone(),
    };
    if report.runs.is_empty() {
        let name = shown_name(Some(row.name()));
        ctx.events.remark(format!("no runs yet of workflow \"{name}\" ({})", row.job_id));
    }
    Ok(Box::new(report))
}

/// Returns the newest runs of the job, newest first.
async fn runs_of(reader: &Reader, job: u64, limit: u64) -> Result<Vec<WorkflowRun>, HttpError> {
    let page = async |token: Option<String>| {
        let page = reader.read(list_workflow_runs(job, false, token.as_deref())).await?;
        // Drop runs of other jobs, in case the service ignores `job_id`.
        let own = page.runs.rows.into_iter().filter(|run| run.job_id.is_none_or(|of| of == job)).collect();
        Ok((own, page.next_page_token.filter(|token| !token.is_empty())))
    };
    let enough = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut runs = reader.pages("jobs/runs/list", |run: &WorkflowRun| run.run_id, enough, page).await?;
    runs.sort_by_key(|run| std::cmp::Reverse(run.start_time));
    Ok(runs)
}

/// The `data` of `runs --workflow`.
struct WorkflowRunsReport {
    workflow: u64,
    name: String,
    origin: String,
    runs: Vec<WorkflowRun>,
    zone: TimeZone,
}

/// When a run started and ended, if known.
pub(crate) struct Span {
    pub(crate) started: Option<Timestamp>,
    pub(crate) finished: Option<Timestamp>,
}

impl Span {
    pub(crate) fn of(run: &WorkflowRun) -> Span {
        let at = |millis: Option<u64>| Timestamp::from_millisecond(i64::try_from(millis?).ok()?).ok();
        let (started, finished) = run.span();
        Span { started: at(started), finished: at(finished) }
    }

    fn took(&self) -> Option<Duration> {
        self.finished?.duration_since(self.started?).try_into().ok()
    }
}

impl Report for WorkflowRunsReport {
    fn text(&self) -> Vec<Line> {
        let row = |run: &WorkflowRun| {
            let span = Span::of(run);
            vec![
                run.run_id.to_string(),
                run.state().map(|state| plain(state.word(), 100)).unwrap_or_default(),
                with_name(Some(&self.name), Some(self.workflow)),
                span.started.map(|at| moment(at, &self.zone)).unwrap_or_default(),
                span.took().map(shown).unwrap_or_default(),
                run.trigger.as_deref().map(|trigger| plain(trigger, 100)).unwrap_or_default(),
            ]
        };
        table(&["ID", "STATUS", "WORKFLOW", "STARTED", "TOOK", "TRIGGER"], self.runs.iter().map(row))
    }

    fn json(&self) -> Data {
        let WorkflowRunsReport { workflow, name, origin, runs, zone: _ } = self;
        let row = |run: &WorkflowRun| {
            let span = Span::of(run);
            document!({
                "workflow_run_id": Id(run.run_id),
                "workflow_run_url": run.url(origin, *workflow),
                "status": run.state().as_ref().map(RunState::word),
                "message": run.message().map(|text| plain(text, 500)),
                "trigger": run.trigger,
                "started_at": span.started.map(|at| at.to_string()),
                "finished_at": span.finished.map(|at| at.to_string()),
                "duration_seconds": span.took(),
            })
        };
        document!({ "workflow_id": Id(*workflow), "workflow_name": name, "runs": runs.iter().map(row).collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use bytes::Bytes;
    use http::{Request, Response};
    use serde_json::{Value, json};

    use super::*;
    use crate::context::Wall;
    use crate::http::{Lane, Limits, Pending, Transport, Writer};

    /// Serves these pages in order, then repeats the last one.
    struct Pages {
        left: RefCell<Vec<Value>>,
        asked: RefCell<Vec<String>>,
    }

    impl Transport for Pages {
        fn send(&self, request: Request<Bytes>, _: Limits, _: Lane) -> Pending<'_> {
            self.asked.borrow_mut().push(request.uri().query().unwrap_or_default().to_owned());
            let mut left = self.left.borrow_mut();
            let page = if left.len() > 1 { left.remove(0) } else { left[0].clone() };
            Box::pin(async move { Ok(Response::new(Bytes::from(page.to_string()))) })
        }
    }

    async fn listed(pages: &[Value], limit: u64) -> (Vec<u64>, Vec<String>) {
        let transport = Rc::new(Pages { left: RefCell::new(pages.to_vec()), asked: RefCell::default() });
        let wall = Wall::of(|| Timestamp::UNIX_EPOCH);
        let writer = Writer::over(transport.clone(), crate::databricks::parse_error, wall);
        let runs = runs_of(&writer, 7, limit).await.unwrap();
        let asked = transport.asked.borrow().clone();
        (runs.iter().map(|run| run.run_id).collect(), asked)
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_moved_to_the_next_page_stands_once_and_other_jobs_runs_are_passed_over() {
        let pages = [
            json!({"runs": [{"run_id": 3, "job_id": 7}, {"run_id": 9, "job_id": 8}, {"run_id": 2}], "next_page_token": "n"}),
            json!({"runs": [{"run_id": 2, "job_id": 7}, {"run_id": 1, "job_id": 7}], "next_page_token": ""}),
        ];
        let (ids, asked) = listed(&pages, 20).await;
        assert_eq!(ids, [3, 2, 1]);
        assert_eq!(asked, ["job_id=7&limit=24", "job_id=7&limit=24&page_token=n"]);
        assert_eq!(listed(&pages, 1).await.0, [3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_may_be_absent_or_null() {
        for page in [json!({}), json!({"runs": null, "next_page_token": null}), json!({"runs": [], "has_more": false})]
        {
            assert_eq!(listed(std::slice::from_ref(&page), 20).await.0, Vec::<u64>::new(), "{page}");
        }
    }
}
