//! Looks up runs by the marker in their `cause`.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};

use super::journal::LOOK_BACK;
use crate::context::Wall;
use crate::dbt::{self, PAGE, Page, Run, RunFilter, Trigger};
use crate::http::{BodyProblem, HttpError, Read, Reader};

/// Most rows read.
const MOST_ROWS: u64 = 50_000;

/// Most rows read of a list that is out of order, which has to be read to its end.
const MOST_ROWS_OUT_OF_ORDER: u64 = 5_000;

/// Most rows read of the runs of all jobs.
const MOST_ROWS_OF_ACCOUNT: u64 = 2_000;

/// Most rows without a trigger that are read one by one.
const MOST_SINGLES: u32 = 10;

/// How long after runs with a higher ID a run may appear in lists.
pub(super) const LATE: SignedDuration = SignedDuration::from_mins(10);

/// How much later than the row above a run may have been created before the list counts as out of order.
const SKEW: SignedDuration = SignedDuration::from_mins(1);

/// Lower bound for our run. A run is newer if its ID or its creation time is: IDs alone would hide runs if they did not
/// grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunLowerBound {
    pub(crate) id: u64,
    /// `None`: unknown, so only the ID counts.
    pub(crate) at: Option<Timestamp>,
}

impl RunLowerBound {
    /// Bound just below this run.
    pub(super) fn before(run: &Run) -> RunLowerBound {
        let moment = |at: Timestamp| at.saturating_sub(SignedDuration::from_secs(1)).unwrap_or(at);
        RunLowerBound { id: run.id.saturating_sub(1), at: run.created().map(moment) }
    }

    /// Bound at this run, the newest one.
    pub(super) fn newest(run: &Run) -> RunLowerBound {
        RunLowerBound { id: run.id, at: run.created() }
    }

    /// Whether the run is older, by ID and by creation time.
    pub(super) fn excludes(&self, run: &Run) -> bool {
        let older = self.at.zip(run.created()).is_none_or(|(at, created)| created <= at);
        run.id <= self.id && older
    }
}

/// What to search.
pub(super) struct LookUp<'a> {
    pub(super) reader: &'a Reader,
    pub(super) wall: &'a Wall,
    pub(super) account: u64,
    /// `None`: all jobs of the account.
    pub(super) job: Option<u64>,
    /// Whether each request is retried, for callers without retries of their own.
    pub(super) patient: bool,
}

/// Result of a lookup. Only a complete one proves that a run does not exist.
#[derive(Debug)]
pub(super) struct LookupResult {
    /// Newest first, each with its trigger.
    pub(super) runs: Vec<Run>,
    /// Why the lookup is incomplete.
    pub(super) incomplete: Option<HttpError>,
    /// Lower bound for runs created later.
    pub(super) since: RunLowerBound,
}

/// The rows read so far, to judge the list by its content alone.
#[derive(Default)]
struct Rows {
    ids: HashSet<u64>,
    dated: Vec<(u64, Timestamp)>,
    above: Option<(u64, Option<Timestamp>)>,
    out_of_order: bool,
}

impl Rows {
    /// Adds a row; `false` if it was seen before.
    fn take(&mut self, run: &Run) -> bool {
        // Rows move to later pages while new runs are created.
        if !self.ids.insert(run.id) {
            return false;
        }
        let created = run.created();
        if let Some((id, at)) = self.above {
            let later = created.zip(at).is_some_and(|(created, at)| created.duration_since(at) > SKEW);
            self.out_of_order |= run.id > id || later;
        }
        self.above = Some((run.id, created));
        self.dated.extend(created.map(|created| (run.id, created)));
        true
    }

    /// Lower bound for later runs. Leaves out the last minutes: a run that another attempt just started may be listed
    /// late, with a lower ID than others.
    fn since(&self, horizon: Timestamp) -> RunLowerBound {
        let late = |(_, created): &(u64, Timestamp)| created.saturating_sub(LATE).unwrap_or(Timestamp::MIN);
        let settled = self.dated.iter().map(late).max().map_or(horizon, |settled| settled.max(horizon));
        let old = || self.dated.iter().filter(|(_, created)| *created < settled);
        RunLowerBound { id: old().map(|(id, _)| *id).max().unwrap_or(0), at: old().map(|(_, created)| *created).max() }
    }
}

impl LookUp<'_> {
    /// Returns all runs newer than `since`, or of the last 7 days. Whether the list is complete is judged by the rows
    /// received: ordered by ID and by time down to an old one, or read to the end with as many rows as the service
    /// counts.
    pub(super) async fn runs(&self, since: Option<RunLowerBound>) -> LookupResult {
        let (mut runs, mut rows, mut seen, mut singles, mut unreadable) = (Vec::new(), Rows::default(), 0, 0, 0);
        let (mut horizon, mut total) = (Timestamp::MIN, None);
        let incomplete = loop {
            let page = match self.read(self.page(seen)).await {
                Ok(page) => page,
                Err(error) => break Some(error),
            };
            horizon = self.horizon(page.date);
            let (count, known) = (page.count(), rows.ids.len());
            unreadable += page.unreadable;
            let mut reached = false;
            let mut failed = None;
            for mut run in page.rows {
                if !rows.take(&run) || self.job.is_some_and(|job| run.job_definition_id.is_some_and(|of| of != job)) {
                    continue;
                }
                let too_old = match &since {
                    Some(since) => since.excludes(&run),
                    None => run.created().is_some_and(|created| created < horizon),
                };
                if too_old {
                    reached = true;
                    continue;
                }
                // If the include is ignored, every row lacks its trigger, which does not mean that it has no marker.
                if run.trigger.is_none() {
                    singles += 1;
                    match self.single(run.id, singles).await {
                        Ok(single) => run = single,
                        Err(error) => {
                            failed = Some(error);
                            break;
                        }
                    }
                }
                runs.push(run);
            }
            if failed.is_some() {
                break failed;
            }
            // A single row shows no order.
            if reached && !rows.out_of_order && count > 1 {
                break None;
            }
            seen += count;
            // Pages may report different counts; some may count only themselves, so take the highest.
            total = page.total.max(total);
            let ends = count == 0 || (count < PAGE && total.is_some_and(|total| seen >= total));
            if ends {
                let missing = total.filter(|total| rows.ids.len() as u64 + unreadable < *total);
                break missing
                    .map(|total| self.invalid_response(&format!("its list has {} rows of {total}", rows.ids.len())));
            }
            if rows.ids.len() == known {
                break Some(self.invalid_response("its list repeats itself"));
            }
            let most = match self.job {
                None => MOST_ROWS_OF_ACCOUNT,
                Some(_) if rows.out_of_order => MOST_ROWS_OUT_OF_ORDER,
                Some(_) => MOST_ROWS,
            };
            if seen >= most {
                break Some(self.invalid_response("too many runs to search"));
            }
        };
        // An unreadable row may be the run that is looked for.
        let incomplete =
            incomplete.or_else(|| (unreadable > 0).then(|| self.invalid_response("a row of its list cannot be read")));
        LookupResult { runs, incomplete, since: rows.since(horizon) }
    }

    /// Returns no runs, only the lower bound for the run of a new key.
    pub(super) async fn newest(&self, job: u64) -> LookupResult {
        let (since, incomplete) = match self.read(dbt::list_runs(self.account, job, 0, 1)).await {
            Ok(page) if page.unreadable > 0 => {
                (RunLowerBound::default(), Some(self.invalid_response("a row of its list cannot be read")))
            }
            Ok(page) => (page.rows.first().map_or_else(RunLowerBound::default, RunLowerBound::newest), None),
            Err(error) => (RunLowerBound::default(), Some(error)),
        };
        LookupResult { runs: Vec::new(), incomplete, since }
    }

    fn page(&self, seen: u64) -> Read<Page<Run>> {
        match self.job {
            Some(job) => dbt::list_runs(self.account, job, seen, PAGE),
            None => dbt::list_account_runs(self.account, &RunFilter::default(), seen, PAGE),
        }
    }

    /// Reads a run with its trigger.
    async fn single(&self, run: u64, singles: u32) -> Result<Run, HttpError> {
        if singles > MOST_SINGLES {
            return Err(self.invalid_response("the list of runs does not include what started them"));
        }
        let single = self.read(dbt::get_run_with_trigger(self.account, run)).await?;
        if single.id == run && single.trigger.is_some() {
            Ok(single)
        } else {
            Err(self.invalid_response(&format!("the service does not return what started run {run}")))
        }
    }

    async fn read<T>(&self, read: Read<T>) -> Result<T, HttpError> {
        if self.patient { self.reader.read(read).await } else { self.reader.read_once(read).await }
    }

    /// The oldest creation time searched, by the service's clock, since the local one may be wrong.
    fn horizon(&self, date: Option<Timestamp>) -> Timestamp {
        date.unwrap_or_else(|| self.wall.now()).saturating_sub(LOOK_BACK).unwrap_or(Timestamp::MIN)
    }

    fn invalid_response(&self, reason: &str) -> HttpError {
        self.reader.invalid_response("runs/list", BodyProblem::Unreadable(reason.to_owned()))
    }
}

/// Whether this run was started with the marker. A resumed run was not, whatever its cause says.
pub(super) fn is_own(run: &Run, marker: &str) -> bool {
    run.retrying_run_id.is_none() && carries(run.trigger.as_ref(), marker)
}

fn carries(trigger: Option<&Trigger>, marker: &str) -> bool {
    trigger.is_some_and(|trigger| trigger.cause.to_ascii_lowercase().contains(marker))
}

/// The first run started with the marker: the one with the lowest ID.
pub(super) fn first_own<'a>(runs: &'a [Run], marker: &str) -> Option<&'a Run> {
    runs.iter().filter(|run| is_own(run, marker)).min_by_key(|run| run.id)
}

/// The run with the marker, and the last run that resumed it, or itself.
pub(super) fn first_and_latest<'a>(runs: &'a [Run], marker: &str) -> Option<(&'a Run, &'a Run)> {
    // The first run may be too old to be listed while a run that resumed it is not.
    let first = first_own(runs, marker)
        .or_else(|| runs.iter().filter(|run| carries(run.trigger.as_ref(), marker)).max_by_key(|run| run.id))?;
    let mut now = first;
    // IDs grow along the chain, so this terminates.
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
    use crate::http::{Lane, Limits, Pending, Transport, Writer};

    fn run(id: u64, cause: &str, retrying: Option<u64>) -> Run {
        serde_json::from_value(json!({"id": id, "retrying_run_id": retrying, "trigger": {"cause": cause}})).unwrap()
    }

    /// A full page is followed by others.
    fn total(data: &Value) -> Value {
        data.as_array().map_or(Value::Null, |rows| json!(if rows.len() == 100 { 300 } else { rows.len() }))
    }

    /// Responds by path and records the requests.
    struct Canned {
        answer: fn(&str) -> Value,
        asked: Rc<RefCell<Vec<String>>>,
    }

    impl Transport for Canned {
        fn send(&self, request: Request<Bytes>, _: Limits, _: Lane) -> Pending<'_> {
            let target = request.uri().path_and_query().unwrap().to_string();
            // All data is on the first page, unless a test adds a second one.
            let behind = target.contains("offset=") && !target.contains("offset=0") && !target.contains("offset=100");
            let data = if behind { json!([]) } else { (self.answer)(&target) };
            let body = json!({"status": {}, "data": data, "extra": {"pagination": {"total_count": total(&data)}}});
            let body = body.to_string();
            self.asked.borrow_mut().push(target);
            Box::pin(async move { Ok(Response::new(Bytes::from(body))) })
        }
    }

    async fn looked(since: Option<u64>, answer: fn(&str) -> Value) -> (LookupResult, Vec<String>) {
        let asked = Rc::new(RefCell::new(Vec::new()));
        let wall = Wall::of(|| "2026-11-23T12:00:00Z".parse().unwrap());
        let transport = Rc::new(Canned { answer, asked: asked.clone() });
        let writer = Writer::over(transport, dbt::parse_error, wall.clone());
        let look_up = LookUp { reader: &writer, wall: &wall, account: 1, job: Some(2), patient: false };
        let looked = look_up.runs(since.map(|id| RunLowerBound { id, at: None })).await;
        let asked = asked.borrow().clone();
        (looked, asked)
    }

    fn ids(looked: &LookupResult) -> Vec<u64> {
        looked.runs.iter().map(|run| run.id).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn an_odd_row_hides_no_run_and_leaves_no_proof_that_there_is_none() {
        let (looked, _) = looked(Some(3), |_| {
            json!([{"id": 5, "trigger": {"cause": "[dbtrigger:k]"}}, {"id": []}, {"id": 3, "trigger": {"cause": "x"}}])
        })
        .await;
        assert_eq!(ids(&looked), [5]);
        assert!(looked.incomplete.is_some(), "{looked:?}");
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
        assert!(looked.incomplete.is_none() && asked.len() == 2, "{asked:?}");
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
        assert!(looked.incomplete.is_some() && looked.runs.is_empty(), "{looked:?}");
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
                (2..100).for_each(|number| rows[number] = row(300 - number as u64, 2, 15));
            }
            Value::Array(rows)
        })
        .await;
        assert!(looked.incomplete.is_none());
        assert_eq!((looked.runs.len(), asked.len()), (100, 2), "{:?}", ids(&looked));
        assert_eq!(looked.runs.last().map(|run| run.id), Some(300));
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_list_that_shows_its_order_or_its_end_is_complete() {
        fn rows(ids: impl Iterator<Item = u64>, at: impl Fn(u64) -> u64) -> Value {
            let row = |id| {
                json!({"id": id, "job_definition_id": 2, "trigger": {"cause": "x"},
                       "created_at": format!("2026-11-23 10:{:02}:{:02}.000000+00:00", at(id) / 60, at(id) % 60)})
            };
            Value::Array(ids.map(row).collect())
        }
        /// Name, response, number of requests, whether the lookup is complete, whether run 5 is found.
        type Case = (&'static str, fn(&str) -> Value, usize, bool, bool);
        let cases: [Case; 7] = [
            ("newest first", |_| rows((1..=5).rev(), |id| id * 100), 1, true, true),
            ("oldest first", |_| rows(1..=5, |id| id * 100), 1, true, true),
            (
                "oldest first, on two pages",
                |target| {
                    if target.contains("offset=0") { rows(1..=100, |id| id) } else { rows(101..=105, |id| id) }
                },
                3,
                false,
                true,
            ),
            ("the same page again", |_| rows((901..=1000).rev(), |id| id), 2, false, false),
            (
                "a full page of newer ones, and an end",
                |target| {
                    if target.contains("offset=0") { rows((101..=200).rev(), |id| id) } else { json!([]) }
                },
                2,
                false,
                false,
            ),
            ("ids fall", |_| rows((1..=5).rev(), |id| 600 - id * 100), 1, true, true),
            ("nothing", |_| json!([]), 1, true, false),
        ];
        for (name, answer, requests, complete, found) in cases {
            let (looked, asked) = looked(Some(4), answer).await;
            assert_eq!((asked.len(), looked.incomplete.is_none()), (requests, complete), "{name}: {looked:?}");
            assert_eq!(ids(&looked).contains(&5), found, "{name}: {looked:?}");
        }
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
        assert_eq!(first_and_latest(&runs, marker).map(|(first, now)| (first.id, now.id)), Some((4, 9)));
        assert_eq!(first_and_latest(&runs[..3], marker).map(|(first, now)| (first.id, now.id)), Some((7, 9)));
        assert_eq!(first_and_latest(&runs, "[dbtrigger:other]"), None);
    }
}
