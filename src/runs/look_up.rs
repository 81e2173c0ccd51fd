//! Looking for runs by the marker in their `cause`.

use jiff::Timestamp;

use super::journal::LOOK_BACK;
use crate::context::Wall;
use crate::dbt::{self, PAGE, Run, Trigger};
use crate::http::{Fault, HttpError, Read, Reader, Shape};

/// More rows than this are not looked through.
const MOST_ROWS: u64 = 50_000;

/// Rows without their trigger are read one by one, but not by the hundred.
const MOST_SINGLES: u32 = 10;

/// Where to look.
pub(super) struct LookUp<'a> {
    pub(super) reader: &'a Reader,
    pub(super) wall: &'a Wall,
    pub(super) account: u64,
    pub(super) job: u64,
    /// Repeat each request within the usual time, for callers without a rhythm of their own.
    pub(super) patient: bool,
}

/// How far a look-up came. Only a complete one says "no".
#[derive(Debug)]
pub(super) struct Looked {
    /// Newest first; each with its trigger.
    pub(super) runs: Vec<Run>,
    /// Why it is not complete.
    pub(super) cut: Option<HttpError>,
}

impl LookUp<'_> {
    /// All runs of the job that are newer than this one; without it, those of the last 7 days.
    pub(super) async fn runs(&self, newer_than: Option<u64>) -> Looked {
        let (mut runs, mut seen, mut singles) = (Vec::new(), 0, 0);
        let cut = |runs, error| Looked { runs, cut: Some(error) };
        loop {
            let read = dbt::list_runs(self.account, self.job, newer_than, seen, PAGE);
            let page = match self.ask(read).await {
                Ok(page) => page,
                Err(error) => return cut(runs, error),
            };
            seen += page.rows.len() as u64;
            let more = page.more_after(seen, PAGE);
            let horizon = self.horizon(page.date);
            for mut run in page.rows {
                let too_old = match newer_than {
                    Some(id) => run.id <= id,
                    None => run.created().is_some_and(|created| created < horizon),
                };
                if too_old {
                    return Looked { runs, cut: None };
                }
                if run.job_definition_id.is_some_and(|job| job != self.job) {
                    continue;
                }
                // Without a working include every row lacks its trigger: that is no "no" (dbt-cloud-api §3.3).
                if run.trigger.is_none() {
                    singles += 1;
                    let single = if singles > MOST_SINGLES {
                        Err(self.nonsense("the list of runs does not say what started them"))
                    } else {
                        self.ask(dbt::get_run_with_trigger(self.account, run.id)).await
                    };
                    match single {
                        Ok(single) if single.id == run.id && single.trigger.is_some() => run = single,
                        Ok(_) => {
                            let error = self.nonsense(&format!("the service does not say what started run {}", run.id));
                            return cut(runs, error);
                        }
                        Err(error) => return cut(runs, error),
                    }
                }
                runs.push(run);
            }
            if !more {
                return Looked { runs, cut: None };
            }
            if seen >= MOST_ROWS {
                return cut(runs, self.nonsense("the job has too many runs to look through"));
            }
        }
    }

    /// The id of the job's newest run; 0 if it has none.
    pub(super) async fn newest(&self) -> Result<u64, HttpError> {
        let page = self.ask(dbt::list_runs(self.account, self.job, None, 0, 1)).await?;
        Ok(page.rows.first().map_or(0, |run| run.id))
    }

    async fn ask<T>(&self, read: Read<T>) -> Result<T, HttpError> {
        if self.patient { self.reader.read(read).await } else { self.reader.glance(read).await }
    }

    /// Runs from before this moment are not looked at; by the service's clock, since ours may be wrong.
    fn horizon(&self, date: Option<Timestamp>) -> Timestamp {
        date.unwrap_or_else(|| self.wall.now()).saturating_sub(LOOK_BACK).unwrap_or(Timestamp::MIN)
    }

    fn nonsense(&self, reason: &str) -> HttpError {
        HttpError {
            service: "dbt Cloud",
            operation: "runs/list",
            origin: self.reader.origin().to_owned(),
            fault: Fault::Nonsense(Shape::Unreadable(reason.to_owned())),
            attempts: 1,
            request_id: None,
            late: false,
        }
    }
}

/// Whether this run was started with the marker. A resumed run never was, whatever its cause says.
pub(super) fn is_own(run: &Run, marker: &str) -> bool {
    run.retrying_run_id.is_none() && carries(run.trigger.as_ref(), marker)
}

fn carries(trigger: Option<&Trigger>, marker: &str) -> bool {
    trigger.is_some_and(|trigger| trigger.cause.contains(marker))
}

/// The first run that was started with the marker: of two, the lower id counts.
pub(super) fn first_own<'a>(runs: &'a [Run], marker: &str) -> Option<&'a Run> {
    runs.iter().filter(|run| is_own(run, marker)).min_by_key(|run| run.id)
}

/// The run that carries the marker, and the run that stands for it now: itself, or whatever has resumed it last.
pub(super) fn found<'a>(runs: &'a [Run], marker: &str) -> Option<(&'a Run, &'a Run)> {
    // The first one may be too old to show while a run that resumed it is not.
    let first = first_own(runs, marker)
        .or_else(|| runs.iter().filter(|run| carries(run.trigger.as_ref(), marker)).max_by_key(|run| run.id))?;
    let mut now = first;
    // Ids grow along the chain, so this ends.
    while let Some(next) =
        runs.iter().filter(|run| run.retrying_run_id == Some(now.id) && run.id > now.id).max_by_key(|run| run.id)
    {
        now = next;
    }
    Some((first, now))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use bytes::Bytes;
    use http::{Request, Response};
    use serde_json::{Value, json};

    use super::*;
    use crate::context::Entropy;
    use crate::events::Events;
    use crate::http::{Credential, Lane, Limits, Pace, Pending, Profile, Transport, Writer};
    use crate::secret::Vault;

    fn run(id: u64, cause: &str, retrying: Option<u64>) -> Run {
        serde_json::from_value(json!({"id": id, "retrying_run_id": retrying, "trigger": {"cause": cause}})).unwrap()
    }

    /// A service that answers by path, and remembers what it was asked.
    struct Canned {
        answer: fn(&str) -> Value,
        asked: Rc<RefCell<Vec<String>>>,
    }

    impl Transport for Canned {
        fn send(&self, request: Request<Bytes>, _: Limits, _: Lane) -> Pending<'_> {
            let target = request.uri().path_and_query().unwrap().to_string();
            let body = json!({"status": {}, "data": (self.answer)(&target)}).to_string();
            self.asked.borrow_mut().push(target);
            Box::pin(async move { Ok(Response::new(Bytes::from(body))) })
        }
    }

    async fn looked(newer_than: Option<u64>, answer: fn(&str) -> Value) -> (Looked, Vec<String>) {
        let asked = Rc::new(RefCell::new(Vec::new()));
        let profile = Profile {
            service: "dbt Cloud",
            origin: "https://sandbox.invalid".to_owned(),
            scheme: "Token",
            credential: Credential::Fixed(Vault::default().admit("token-0123456789".to_owned()).unwrap()),
            known_as: "a token".to_owned(),
            user_agent: "test".to_owned(),
            workspace: None,
            said: dbt::said,
        };
        let wall = Wall::of(|| "2026-11-23T12:00:00Z".parse().unwrap());
        let transport = Rc::new(Canned { answer, asked: asked.clone() });
        let (entropy, events) = (Entropy::seeded(1), Events::new(|_| {}));
        let writer = Writer::new(profile, transport, Pace::default(), entropy, wall.clone(), events);
        let look_up = LookUp { reader: &writer, wall: &wall, account: 1, job: 2, patient: false };
        let looked = look_up.runs(newer_than).await;
        let asked = asked.borrow().clone();
        (looked, asked)
    }

    fn ids(looked: &Looked) -> Vec<u64> {
        looked.runs.iter().map(|run| run.id).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_without_its_trigger_is_read_by_itself() {
        let (looked, asked) = looked(Some(3), |target| match target {
            "/api/v2/accounts/1/runs/5/?include_related=%5B%22trigger%22%5D" => {
                json!({"id": 5, "trigger": {"cause": "[dbtrigger:k]"}})
            }
            _ => json!([{"id": 5, "trigger": null}, {"id": 4, "trigger": {"cause": "by hand"}}]),
        })
        .await;
        assert!(looked.cut.is_none() && asked.len() == 2, "{asked:?}");
        assert_eq!(first_own(&looked.runs, "[dbtrigger:k]").map(|run| run.id), Some(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_whose_trigger_nobody_tells_makes_the_look_up_a_failed_one() {
        let (looked, _) = looked(Some(3), |target| {
            if target.contains("/runs/5/") {
                json!({"id": 5, "trigger": null})
            } else {
                json!([{"id": 5, "trigger": null}, {"id": 4, "trigger": {"cause": "by hand"}}])
            }
        })
        .await;
        assert!(looked.cut.is_some() && looked.runs.is_empty(), "{looked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn pages_are_read_until_a_run_is_too_old_and_other_jobs_are_passed_over() {
        let (looked, asked) = looked(None, |target| {
            let row = |id: u64, job: u64, day: u64| {
                json!({"id": id, "job_definition_id": job, "trigger": {"cause": "x"},
                       "created_at": format!("2026-11-{day:02} 13:00:00.000000+00:00")})
            };
            let first = target.contains("offset=0");
            let days = if first { 23 } else { 16 };
            let mut rows: Vec<Value> =
                (0..100).map(|number| row(if first { 500 } else { 300 } - number, 2, days)).collect();
            rows[1]["job_definition_id"] = json!(7);
            if !first {
                rows[2] = row(298, 2, 15);
            }
            Value::Array(rows)
        })
        .await;
        assert!(looked.cut.is_none());
        assert_eq!((looked.runs.len(), asked.len()), (100, 2), "{:?}", ids(&looked));
        assert_eq!(looked.runs.last().map(|run| run.id), Some(300));
    }

    #[test]
    fn of_two_the_lower_counts_and_a_resumed_run_stands_for_the_one_it_resumes() {
        let marker = "[dbtrigger:k]";
        let runs = [
            run(9, "rerun", Some(7)),
            run(8, "by hand", None),
            run(7, "[dbtrigger:k] rerun", Some(4)),
            run(6, "x [dbtrigger:k]", None),
            run(5, "[dbtrigger:kk]", None),
            run(4, "x [dbtrigger:k]", None),
        ];
        assert_eq!(first_own(&runs, marker).map(|run| run.id), Some(4));
        assert_eq!(found(&runs, marker).map(|(first, now)| (first.id, now.id)), Some((4, 9)));
        assert_eq!(found(&runs[..3], marker).map(|(first, now)| (first.id, now.id)), Some((7, 9)));
        assert_eq!(found(&runs, "[dbtrigger:other]"), None);
    }
}
