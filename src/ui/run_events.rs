//! The words of run events: lines, warnings and the state on a progress line.

use crate::durations::shown;
use crate::events::{DuplicateOutcome, Event, IterationCounts, QueueReason, RunEvent, RunId, RunsAhead, StatusDetail};
use crate::line::Line;

/// Replaces an event of a run by what is printed for it. With several jobs, each line names its job.
pub(crate) fn printed(event: Event) -> Vec<Event> {
    match event {
        Event::Run(event) => lines(event),
        Event::OfJob { job, event } => printed(*event).into_iter().map(|event| prefixed(&job, event)).collect(),
        other @ (Event::Remark(_)
        | Event::Asked(_)
        | Event::Warning(_)
        | Event::Progress(_)
        | Event::Waiting(_)
        | Event::ActivityState { what: _, state: _ }
        | Event::ActivityEnded { what: _ }
        | Event::Document(_)
        | Event::Annotation { level: _, title: _, message: _ }
        | Event::Trace { line: _, bodies: _ }) => vec![other],
    }
}

fn prefixed(job: &str, event: Event) -> Event {
    let named = |text: &str| format!("{job}: {text}");
    match event {
        Event::Remark(line) => Event::Remark(line.map(named)),
        Event::Waiting(text) => Event::Waiting(format!("{job}: {text}")),
        Event::Warning(text) => Event::Warning(format!("{job}: {text}")),
        Event::Progress(line) => Event::Progress(line.map(named)),
        Event::ActivityState { what, state } => Event::ActivityState { what: format!("{job}: {what}"), state },
        Event::ActivityEnded { what } => Event::ActivityEnded { what: format!("{job}: {what}") },
        other @ (Event::Asked(_)
        | Event::Document(_)
        | Event::Annotation { level: _, title: _, message: _ }
        | Event::Trace { line: _, bodies: _ }
        | Event::Run(_)
        | Event::OfJob { job: _, event: _ }) => other,
    }
}

#[expect(clippy::too_many_lines, reason = "one arm per event")]
fn lines(event: RunEvent) -> Vec<Event> {
    let text = match event {
        RunEvent::Found { run, url } => {
            let id = match run {
                RunId::Dbt(id) => format!("job_run_id = {id}"),
                RunId::Databricks(id) => format!("workflow_run_id = {id}"),
            };
            return std::iter::once(id).chain(url).map(progress).collect();
        }
        RunEvent::Status { run, status, has_ended, detail } => {
            let detail = detail.as_ref().map(status_detail).unwrap_or_default();
            let line = format!("{status}{detail}");
            // The progress line is drawn below the printed one and shows the same state.
            let state = Event::ActivityState { what: run.to_string(), state: line.clone() };
            return (!has_ended).then_some(state).into_iter().chain([progress(line)]).collect();
        }
        RunEvent::TaskStatus { run, task, status, attempt, repair, outcome, iterations } => {
            let mut notes = Vec::new();
            notes.extend((repair > 0).then(|| format!("repair {repair}")));
            notes.extend((attempt > 1).then(|| format!("attempt {attempt}")));
            notes.extend(outcome.map(|outcome| format!("it is {outcome}")));
            notes.extend(iterations.map(iteration_counts));
            let notes = if notes.is_empty() { String::new() } else { format!("   ({})", notes.join(", ")) };
            let line = format!("task {task}   {status}{notes}");
            return vec![Event::ActivityState { what: run.to_string(), state: line.clone() }, progress(line)];
        }
        RunEvent::TaskRetried { task, status, attempt, repair } => {
            let which = repair.map_or(format!("attempt {attempt}"), |repair| format!("before repair {repair}"));
            return vec![progress(format!("task {task}   {status}   ({which}; tried again)"))];
        }
        RunEvent::TaskOutput { lines, error, dbt_run_url } => {
            let url = dbt_run_url.filter(|url| !lines.contains(url) && !error.contains(url));
            return lines.into_iter().chain(error).chain(url).map(|line| progress(format!("  {line}"))).collect();
        }
        RunEvent::StillRunning { run, age } => {
            return vec![Event::Waiting(format!("{run} is still running after {}", shown(age)))];
        }
        RunEvent::SucceededWithFailures { mut causes } => {
            causes.push("some tasks failed, but the run succeeded: SUCCESS_WITH_FAILURES".to_owned());
            return causes.into_iter().map(|cause| Event::Remark(Line::Prose(cause))).collect();
        }
        RunEvent::JobDisabled { run, job, why, advice } => {
            return warning(format!(
                "dbt run {run} is waiting, but runs of dbt job {job} do not start: {why}; {advice}"
            ));
        }
        RunEvent::SecondRun { run, kept, outcome, url } => {
            let outcome = match outcome {
                DuplicateOutcome::Cancelled => "was canceled while queued",
                DuplicateOutcome::Left => "is already running or could not be canceled, and was left alone",
                DuplicateOutcome::Ended => "has already ended",
            };
            return warning(format!("dbt has a second run {run} for this start besides {kept}; it {outcome}: {url}"));
        }
        RunEvent::ChildRunsUnknown { error, command } => {
            return warning(format!("its dbt run was not looked up: {error}; with access to dbt, run `{command}`"));
        }
        RunEvent::ChildRunMayBeActive { url } => {
            return warning(format!("one of its tasks started a dbt run that may still be running: {url}"));
        }
        RunEvent::ArtifactMissing { run, path: Some(path), reason } => {
            return warning(format!("{path} of dbt run {run} was not downloaded: {reason}"));
        }
        RunEvent::ArtifactMissing { run, path: None, reason } => {
            return warning(format!("artifacts of dbt run {run} were not downloaded: {reason}"));
        }
        RunEvent::MoreArtifactsMissing { run, count } => {
            return warning(format!("{count} more artifacts of dbt run {run} were not downloaded"));
        }
        RunEvent::ResultsMissing { run, step, reason } => {
            return warning(format!("the JUnit report lacks the results of dbt run {run}, {step}: {reason}"));
        }
        RunEvent::Next { command } => return vec![Event::Remark(Line::Whole(format!("next: {command}")))],
        RunEvent::StartNotRecorded { error } => {
            format!("cannot record this start on disk ({error}); continuing without")
        }
        RunEvent::OtherStartInProgress => {
            "another start with this key is in progress on this machine; waiting for its run".to_owned()
        }
        RunEvent::OtherStartEnded => {
            "another start with this key was just in progress; looking for its run first".to_owned()
        }
        RunEvent::Adopted { has_ended: false } => "this key was used before; following its run".to_owned(),
        RunEvent::Adopted { has_ended: true } => {
            "this key was used before and its run has ended; use a new --idempotency-key for a new run".to_owned()
        }
        RunEvent::CiJob { job } => format!(
            "dbt job {job} is a CI job: use --github-pull-request-id (or GitLab, Azure) to run it for a pull request"
        ),
        RunEvent::OpenStart { job, run, command } => match run {
            Some(run) => {
                format!("an earlier dbt run {run} of job {job} may still be running; follow it again with `{command}`")
            }
            None => format!("a start of dbt job {job} was not followed to its end; resume with `{command}`"),
        },
        RunEvent::NotSent { error, wait } => {
            format!("{error}; nothing was started, retrying in {}", shown(wait))
        }
        RunEvent::StartUnclear { error } => {
            format!("unclear whether the run was started ({error}); looking for it before sending anything again")
        }
        RunEvent::StartRepeated { after } => format!("no run found after {}; starting it again", shown(after)),
        RunEvent::CheckingForSecondRun => "the request was sent more than once; checking for a second run".to_owned(),
        RunEvent::FollowingFirst { run } => format!("following dbt run {run}, the first of the two"),
        RunEvent::SecondRunUnknown { run } => format!("cannot check for a second run besides {run}"),
        RunEvent::Queued { reason, ahead } => queued(reason, ahead.as_ref()),
        RunEvent::Repaired { times } => {
            let times = if times == 1 { "once".to_owned() } else { format!("{times} times") };
            format!("this run was repaired {times}; the last attempt of each task counts")
        }
        RunEvent::PollLimited { error, wait } => format!("{error}; retrying in {}", shown(wait)),
        RunEvent::PollFailing { error } => format!("{error}; still waiting"),
        RunEvent::Suspended { duration } => {
            format!("this machine slept for {}; checking again", shown(duration))
        }
        RunEvent::Resuming { run, attempt } => {
            let attempt = attempt.map(|(number, most)| format!(" (attempt {number} of {most})")).unwrap_or_default();
            format!("dbt run {run} failed; retrying from the point of failure{attempt}")
        }
        RunEvent::ResumeUnclear { run, error } => {
            format!("unclear whether run {run} was retried ({error}); checking before sending anything again")
        }
        RunEvent::Resumed { run, failed } => format!("dbt run {run} resumes run {failed}"),
        RunEvent::ResumedElsewhere => "the last run is being resumed already; following that run".to_owned(),
        RunEvent::Canceling { run } => {
            let with = match run {
                RunId::Dbt(_) => "",
                RunId::Databricks(_) => " and its dbt runs",
            };
            format!("interrupted: canceling {run}{with}; press Ctrl-C again to exit now")
        }
        RunEvent::CanceledChildRunsUnknown { error } => {
            format!("cannot look up which dbt runs its notebooks canceled: {error}")
        }
        RunEvent::ParentUnknown { run, error } => {
            format!("cannot read what started dbt run {run}, or a run that it retries: {error}")
        }
    };
    vec![Event::Remark(Line::Prose(text))]
}

fn progress(line: String) -> Event {
    Event::Progress(Line::Whole(line))
}

fn warning(text: String) -> Vec<Event> {
    vec![Event::Warning(text)]
}

fn status_detail(detail: &StatusDetail) -> String {
    match detail {
        StatusDetail::Took(took) => format!("   in {}", shown(*took)),
        StatusDetail::Step { index, count, title } => format!("   step {index}/{count}: {title}"),
        StatusDetail::WaitingFor(run) => format!("   waiting for run {run}"),
    }
}

fn iteration_counts(counts: IterationCounts) -> String {
    let IterationCounts { total, succeeded, failed } = counts;
    let failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
    format!("{succeeded} of {total} iterations succeeded{failed}")
}

/// Why a queued run waits, and for which runs.
fn queued(reason: QueueReason, ahead: Option<&RunsAhead>) -> String {
    let reason = match reason {
        QueueReason::WorkflowRunLimit => "the workflow is at its concurrency limit".to_owned(),
        QueueReason::WorkspaceRunLimit => "the workspace is at its run limit".to_owned(),
        QueueReason::WorkspaceTaskLimit => "the workspace is at its task limit".to_owned(),
        QueueReason::Other(words) => words,
    };
    let Some(RunsAhead { first, begun, waiting, more }) = ahead else { return format!("queued: {reason}") };
    let ids: Vec<String> = first.iter().map(u64::to_string).collect();
    let runs = match (*begun, ids.join(", ")) {
        (0, _) => None,
        (1, id) => Some(format!("run {id}")),
        (2 | 3, ids) => Some(format!("runs {ids}")),
        (many, ids) => Some(format!("runs {ids} and {} more", many - first.len())),
    };
    let waiting = match waiting {
        0 => None,
        1 => Some("1 run queued earlier".to_owned()),
        many => Some(format!("{many} runs queued earlier")),
    };
    let parts: Vec<String> = runs.into_iter().chain(waiting).chain(more.then(|| "others".to_owned())).collect();
    if parts.is_empty() {
        format!("queued: {reason}")
    } else {
        format!("queued: {reason}; behind {}", parts.join(" and "))
    }
}
