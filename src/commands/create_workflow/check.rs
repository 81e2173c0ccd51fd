//! `--check`: runs the notebook in check mode as a one-time run, with the identity and compute of the workflow, and
//! interprets the result.

use std::time::Duration;

use super::prerequisites::{Prerequisites, at};
use crate::commands::CommandContext;
use crate::commands::run::{WorkflowReport, follow_run_with};
use crate::databricks::jobs::Job;
use crate::databricks::me::Me;
use crate::databricks::raw::Raw;
use crate::databricks::workspace::NotebookPath;
use crate::databricks::{RunState, WorkflowEnd, list_one_time_runs, submit_run};
use crate::engine::kinds::{check_tasks, digest, is_serverless_refused, run_as_refused};
use crate::failure::{Code, Ended, Failure, Report, of_databricks};
use crate::http::{Deadline, Phrase, Reader, Service, Writer, says};
use crate::runs::{Key, PollResult, Probe as _, TaskState, WorkflowProbe, WorkflowState};
use crate::spec::TaskSpec;
use crate::text::quoted;

/// How long the check is followed: longer than its tasks may take.
const WAIT: Duration = Duration::from_hours(3);
/// A check of an existing workflow.
pub(in crate::commands) struct Check {
    name: String,
    tasks: Vec<Raw>,
    /// Run-as identity; `other`: it is not the caller.
    who: String,
    other: bool,
    path: NotebookPath,
    scope: String,
    key: String,
    /// Digest in the run's name, which tells checks of different states apart.
    mark: Option<String>,
    /// Its run, if one is already active.
    going: Option<u64>,
}

/// Maximum number of pages searched for an earlier check. An older one is not found, so the check runs again.
const PAGES: usize = 4;

/// Maximum number of lines shown of the notebook's message about its dbt run.
const RUN_LINES: usize = 20;

/// Length of the digest in the run's name, in characters.
const MARK: usize = 8;

impl Check {
    pub(in crate::commands) fn of(job: &Job, tasks: &[TaskSpec], prerequisites: &Prerequisites, me: &Me) -> Check {
        let other = super::identity::other(None, job.run_as.as_deref(), me);
        Check {
            name: job.settings.read("name").unwrap_or_default(),
            tasks: check_tasks(&job.settings, tasks),
            who: other.unwrap_or(&me.user_name).to_owned(),
            other: other.is_some(),
            path: prerequisites.path.clone(),
            scope: prerequisites.scope.clone(),
            key: prerequisites.key.clone(),
            mark: None,
            going: None,
        }
    }

    /// Returns the check if it is needed: `None` if it has succeeded before, with its run if one is active. The run's
    /// name contains a digest of everything the check depends on; `state` is the content of notebook and secret.
    pub(in crate::commands) async fn due(mut self, state: &str, reader: &Reader) -> Option<Check> {
        let tasks = self.tasks.iter().map(|task| serde_json::to_string(task).unwrap_or_default()).collect::<String>();
        let Check { name: _, tasks: _, who, other: _, path: _, scope, key, mark: _, going: _ } = &self;
        self.mark = Some(digest(&format!("{tasks}\n{who}\n{scope}\n{key}\n{state}"), MARK));
        let name = self.run_name();
        let mut page = None;
        for _ in 0..PAGES {
            // If the runs cannot be listed, check again, which does no harm.
            let Ok(found) = reader.read(list_one_time_runs(page.as_deref())).await else { return Some(self) };
            if let Some(run) = found.runs.rows.iter().find(|run| run.run_name.as_deref() == Some(&name)) {
                match run.state() {
                    Some(RunState::Ended(WorkflowEnd::Success(_))) if is_confirmed(reader, run.run_id).await => {
                        return None;
                    }
                    Some(RunState::Active(_)) => self.going = Some(run.run_id),
                    Some(RunState::Ended(
                        WorkflowEnd::Success(_)
                        | WorkflowEnd::SuccessWithFailures(_)
                        | WorkflowEnd::Excluded(_)
                        | WorkflowEnd::NotRun(_)
                        | WorkflowEnd::Cancelled(_)
                        | WorkflowEnd::Failed(_),
                    ))
                    | None => {}
                }
                return Some(self);
            }
            page = found.next_page_token.filter(|token| !token.is_empty());
            if page.is_none() {
                break;
            }
        }
        Some(self)
    }

    fn run_name(&self) -> String {
        let mark = self.mark.as_ref().map(|mark| format!(" [{mark}]")).unwrap_or_default();
        format!("dbtrigger check: {}{mark}", self.name)
    }

    /// Starts the check and follows it to its end.
    pub(super) async fn run(&self, writer: &Writer, ctx: &CommandContext) -> Ended<Box<dyn Report>> {
        let deadline = Deadline::after(WAIT);
        let writer = &writer.until(&deadline);
        let name = self.run_name();
        let run = match self.going {
            Some(run) => run,
            None => match self.start(&name, writer, ctx).await {
                Ok(run) => run,
                Err(failure) => return failure.into(),
            },
        };
        let report = WorkflowReport {
            name,
            origin: writer.origin().to_owned(),
            run: Some(run),
            url: Some(format!("{}/jobs/runs/{run}", writer.origin())),
            ..WorkflowReport::default()
        };
        ctx.events.progress(format!("Checking as {}: run {run}", self.who));
        let judge = |report: &WorkflowReport, state: &WorkflowState| self.judge(report, state);
        follow_run_with(report, run, writer, &deadline, ctx, &judge).await
    }

    async fn start(&self, name: &str, writer: &Writer, ctx: &CommandContext) -> Result<u64, Failure> {
        // A new token per check; only retries after a lost response share it.
        let token = Key::fresh(&ctx.context.entropy).token(0);
        let run_as = self.other.then_some(self.who.as_str());
        match writer.put(submit_run(name, &token, &self.tasks, run_as)).await {
            Ok(started) => Ok(started.run_id),
            Err(error) => {
                let failure = of_databricks("cannot start the check", &error).state("the workflow is unchanged");
                if is_serverless_refused(&error) {
                    let failure = Failure { code: Code::Failed, ..failure };
                    return Err(failure
                        .cause("the workspace does not allow serverless compute")
                        .advise("use other compute: --compute cluster:ID, or --compute new for a small job cluster"));
                }
                Err(match (run_as, error.service_error()) {
                    (Some(who), Some(service_error)) => run_as_refused(who, service_error, failure),
                    (None, _) | (_, None) => failure,
                })
            }
        }
    }

    fn judge(&self, report: &WorkflowReport, state: &WorkflowState) -> Option<Failure> {
        let is_bad = |task: &&TaskState| matches!(task.state, Some(RunState::Ended(WorkflowEnd::Failed(_))));
        if let Some(task) = state.tasks.iter().find(is_bad) {
            return Some(self.used().meaning(task).advise(format!("see {}", report.url())));
        }
        let (code, word) = match &state.state {
            RunState::Active(_) => return None,
            RunState::Ended(WorkflowEnd::Success(_)) => return self.unconfirmed(report, state),
            RunState::Ended(WorkflowEnd::Cancelled(word)) => (Code::RunCancelled, word),
            RunState::Ended(
                WorkflowEnd::SuccessWithFailures(word)
                | WorkflowEnd::Excluded(word)
                | WorkflowEnd::NotRun(word)
                | WorkflowEnd::Failed(word),
            ) => (Code::Failed, word),
        };
        let failure = Failure::new(code, format!("the check ended with {word}; the workflow is unchanged"));
        let failure = state.run.message().map(ToOwned::to_owned).into_iter().fold(failure, Failure::cause);
        Some(failure.advise(format!("see {}", report.url())))
    }

    fn used(&self) -> Used<'_> {
        let Check { name: _, tasks: _, who, other: _, path, scope, key, mark: _, going: _ } = self;
        Used { who, path, scope, key }
    }

    /// The failure of a run that succeeded without confirmation by the notebook.
    fn unconfirmed(&self, report: &WorkflowReport, state: &WorkflowState) -> Option<Failure> {
        let task = unconfirmed(state)?;
        let what = format!("the check succeeded, but notebook {} did not confirm it", self.path);
        let failure = Failure::new(Code::Failed, what)
            .cause(format!("task {} returned no result with \"mode\": \"check\" and \"ok\": true", task.key))
            .run("deploy the notebook again", format!("dbtrigger deploy-notebook{}", at(&self.path)));
        Some(failure.advise(format!("see {}", report.url())))
    }
}

/// The first task whose notebook does not report a successful check.
fn unconfirmed(state: &WorkflowState) -> Option<&TaskState> {
    state.tasks.iter().find(|task| !task.output.as_ref().is_some_and(|output| output.checked))
}

/// Whether an earlier successful run was confirmed by the notebook. If it cannot be read, the check runs again.
async fn is_confirmed(reader: &Reader, run: u64) -> bool {
    match WorkflowProbe::new(reader, run).poll().await {
        Ok(PollResult::Ended(state)) => !state.tasks.is_empty() && unconfirmed(&state).is_none(),
        Ok(PollResult::Active(_)) | Err(_) => false,
    }
}

/// What a task of a workflow uses.
pub(in crate::commands) struct Used<'a> {
    /// Run-as identity.
    pub(in crate::commands) who: &'a str,
    pub(in crate::commands) path: &'a NotebookPath,
    pub(in crate::commands) scope: &'a str,
    pub(in crate::commands) key: &'a str,
}

impl Used<'_> {
    /// Turns a failed task into a failure about the workflow.
    pub(in crate::commands) fn meaning(&self, task: &TaskState) -> Failure {
        let Used { who, path, scope, key } = self;
        let output = task.output.as_ref();
        let lines = output.map(|output| output.error.as_slice()).unwrap_or_default();
        let verdict = output.and_then(|output| output.reason.as_deref()).unwrap_or_default();
        let first = lines.first().or(task.message.as_ref());
        let of = |code: Code, what: &str| first.cloned().into_iter().fold(Failure::new(code, what), Failure::cause);
        let secrets = format!("dbtrigger init-secrets --scope {} --key {}", quoted(scope), quoted(key));
        let deploy = format!("dbtrigger deploy-notebook{}", at(path));
        // If the notebook could not be read, it has reported nothing.
        let is_unreadable = |line: &String| says(Service::Databricks, line, Phrase::NotebookUnreadable);
        let unread = lines.iter().chain(&task.message).any(is_unreadable);
        match verdict {
            "key-refused" => of(Code::NotAuthenticated, &format!("dbt rejects the key in {scope}/{key}"))
                .run("replace the key", format!("{secrets} --rotate")),
            "key-malformed" => of(Code::NotAuthenticated, &format!("{scope}/{key} is not a dbt API key"))
                .run("replace the key", format!("{secrets} --rotate")),
            "key-not-allowed" => {
                of(Code::NotAllowed, &format!("the key in {scope}/{key} is not allowed to read the dbt job"))
                    .advise("give it at least the Job Runner permission set on the project, or store another key")
            }
            "address-refused" => of(Code::NotAllowed, "dbt's IP restrictions block the workflow's compute").advise(
                "ask the dbt account's administrator to allow the egress IP addresses of this workspace's compute",
            ),
            "job-not-visible" => {
                of(Code::NotFound, &format!("the key in {scope}/{key} cannot see the dbt job of task {}", task.key))
                    .run("list the dbt jobs", "dbtrigger jobs")
            }
            "egress" => of(Code::Network, "the workflow's compute cannot reach dbt")
                .advise("allow egress to that host on port 443: firewall, egress policy, serverless network policy"),
            "name" => of(Code::Network, "the workflow's compute cannot resolve the dbt host").advise(
                "check the host in the notebook, and DNS in the compute's network (private DNS, egress policy)",
            ),
            "proxy" => of(Code::Network, "the proxy of the workflow's compute does not connect to dbt")
                .advise("check HTTPS_PROXY and NO_PROXY on that compute"),
            "network" => of(Code::Network, "the connection from the workflow's compute to dbt broke")
                .advise("run the same command again; if it breaks again, check the firewall and egress policy"),
            "tls" => of(Code::Tls, "the TLS handshake between the workflow's compute and dbt fails")
                .advise("behind a TLS-inspecting proxy, set REQUESTS_CA_BUNDLE to its certificate on that compute"),
            "secret" => of(Code::NotAllowed, &format!("{who} cannot use the secret {scope}/{key}"))
                .run("grant read access", format!("{secrets} --grant {}", quoted(&format!("{who}:READ"))))
                .advise("let create-workflow grant it with --grant-run-as"),
            "input" => of(Code::Refused, &format!("notebook {path} rejects the workflow's parameters"))
                .run("deploy the notebook again", deploy),
            "unavailable" => of(Code::Unavailable, "dbt was unavailable for a minute")
                .advise("run the same command again in a few minutes"),
            "unexpected-response" => {
                of(Code::UnexpectedResponse, "the host that answers the workflow's compute is not dbt")
                    .advise("the host in the notebook may be wrong, or a proxy or sign-in page answers instead")
            }
            _ if unread => of(Code::NotAllowed, &format!("{who} cannot read notebook {path}, or it was deleted"))
                .run("grant access to the notebook", format!("{deploy} --grant {}", quoted(&format!("{who}:CAN_RUN")))),
            "job-off" => of(Code::Refused, &format!("the dbt job of task {} would not start", task.key))
                .run("list the dbt jobs", "dbtrigger jobs"),
            // Failure of the dbt run itself, whose lines are all useful.
            "error" | "cancelled" | "timeout" => {
                let what = match verdict {
                    "error" => "the dbt run ended in error",
                    "cancelled" => "the dbt run was canceled",
                    _ => "the notebook timed out waiting for the dbt run",
                };
                lines.iter().take(RUN_LINES).cloned().fold(Failure::new(Code::RunFailed, what), Failure::cause)
            }
            _ => of(Code::Failed, &format!("task {} failed for another reason", task.key)),
        }
    }
}
