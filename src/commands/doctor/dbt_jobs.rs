//! Checks of the dbt jobs.

use super::context::{Dbt, PART};
use super::report::Check;
use crate::commands::jobs::moment;
use crate::commands::shared::job_argument::shown_name;
use crate::dbt::{Status, get_job, list_runs};
use crate::failure::{Code, Failure, of_dbt};

/// Checks that the job exists and can start, and how its last run ended. `other_account`: its account, if not the one
/// in use.
pub(super) async fn look(dbt: &Dbt, job: u64, other_account: Option<&str>, has_active_trigger: bool) -> Check {
    let id = format!("job:{job}");
    if let Some(other_account) = other_account {
        return Check::skipped(PART, &id, &format!("it belongs to {other_account}, not to the account in use"));
    }
    let (account, reader) = match &dbt.line {
        Ok(line) => line,
        Err(of) => return Check::skipped(PART, &id, of),
    };
    let (found, runs) =
        tokio::join!(reader.read(get_job(account.id, job)), reader.read(list_runs(account.id, job, 0, 1)));
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            let failure = of_dbt(&format!("cannot read the dbt job {job}"), &error);
            let failure = if failure.code == Code::NotFound {
                failure.run("list the dbt jobs", "dbtrigger jobs")
            } else {
                failure
            };
            return Check::failed(PART, &id, failure);
        }
    };
    let title = shown_name(found.name.as_deref());
    if let Some(disabled) = found.disabled_reason() {
        let failure = Failure::new(Code::Refused, format!("dbt job {job} \"{title}\" would not start"));
        return Check::failed(PART, &id, failure.cause(disabled.why()).advise(disabled.advice()));
    }
    let last = runs.as_ref().ok().and_then(|page| page.rows.first());
    let ended = match (&runs, last) {
        (Err(_), _) => "the outcome of its last run is unknown".to_owned(),
        (Ok(_), None) => "no runs yet".to_owned(),
        (Ok(_), Some(run)) => {
            let status = run.status.map(Status::word).unwrap_or_default();
            let at = run.created().map(|at| format!(" of {}", moment(at, &dbt.zone))).unwrap_or_default();
            format!("its last run {}{at}: {status}", run.id)
        }
    };
    let mut check = Check::ok(PART, &id, format!("dbt job {job} \"{title}\" exists; {ended}"));
    if let Err(error) = &runs {
        let Failure { code: _, what, causes, hints, open_questions: _ } =
            of_dbt(&format!("cannot read the last run of dbt job {job}"), error);
        check = causes.into_iter().fold(check.warn(what), Check::because).then(hints);
        check = check.run("list the last run", format!("dbtrigger runs --job {job} --limit 1"));
    }
    if has_active_trigger && found.has_schedule() {
        check = check.warn("it also has a schedule in dbt; it runs from both");
    }
    if found.is_ci() {
        check = check.warn("it is a CI job for pull requests");
    }
    if let Some(run) = last.filter(|run| run.status == Some(Status::Error)) {
        check = check.warn("its last run failed").run("see why it failed", format!("dbtrigger watch {}", run.id));
    }
    check
}
