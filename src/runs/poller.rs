//! Polls many dbt runs with few requests: one list call covers a hundred runs.
//!
//! Each run keeps its own follower and deadline; only the polls are shared. Runs missing from the list are read one by
//! one, a few per round, so that a list that lags or omits rows does not raise the request rate.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::follow::reserve;
use super::look_up::{LATE, LookUp, LookupResult, RunLowerBound};
use crate::context::Wall;
use crate::dbt::{self, PAGE, Run};
use crate::http::{Deadline, Fault, HttpError, Reader};

/// How long polls are collected into one round.
const GATHER: Duration = Duration::from_millis(100);

/// Most runs read one by one in a round.
const MOST_SINGLES: usize = 10;

/// Polls for the followers of many runs.
pub(crate) struct RunPoller {
    reader: Reader,
    account: u64,
    /// Interval between rounds, for each hundred runs.
    interval: Duration,
    deadline: Deadline,
    /// How long before the deadline the followers poll for the last time, so that rounds no longer wait for the
    /// interval.
    reserve: Duration,
    waiting: RefCell<Vec<Waiter>>,
    /// Followers that look for second runs.
    searching: RefCell<Vec<Searcher>>,
    wakeup: Notify,
    /// The service rejects the list request, so all runs are read one by one.
    refused: Cell<bool>,
}

struct Waiter {
    run: u64,
    answer: oneshot::Sender<Result<Run, HttpError>>,
}

struct Searcher {
    wall: Wall,
    job: u64,
    since: RunLowerBound,
    /// When the run was created whose second run is looked for.
    created: Option<Timestamp>,
    answer: oneshot::Sender<LookupResult>,
}

impl RunPoller {
    pub(crate) fn new(reader: Reader, account: u64, interval: Duration, deadline: Deadline) -> RunPoller {
        RunPoller {
            reader,
            account,
            interval,
            reserve: reserve(deadline.at()),
            deadline,
            waiting: RefCell::default(),
            searching: RefCell::default(),
            wakeup: Notify::new(),
            refused: Cell::new(false),
        }
    }

    /// Polls a run. Cancel-safe.
    pub(super) async fn poll(&self, run: u64) -> Result<Run, HttpError> {
        let (answer, receiver) = oneshot::channel();
        self.waiting.borrow_mut().push(Waiter { run, answer });
        self.wakeup.notify_one();
        match receiver.await {
            Ok(answer) => answer,
            // The round was cut off; the follower's own timeout ends this wait.
            Err(_) => std::future::pending().await,
        }
    }

    /// Returns the job's runs newer than `since`. `created` is when the followed run was created.
    pub(super) async fn look_up(
        &self,
        wall: &Wall,
        job: u64,
        since: RunLowerBound,
        created: Option<Timestamp>,
    ) -> LookupResult {
        let (answer, receiver) = oneshot::channel();
        self.searching.borrow_mut().push(Searcher { wall: wall.clone(), job, since, created, answer });
        self.wakeup.notify_one();
        match receiver.await {
            Ok(looked) => looked,
            Err(_) => std::future::pending().await,
        }
    }

    /// Answers the searches for second runs, many of them from one list of the account's runs.
    async fn search(&self) {
        let mut searchers = std::mem::take(&mut *self.searching.borrow_mut());
        searchers.retain(|searcher| !searcher.answer.is_closed());
        let look_up = async |wall: Wall, job: Option<u64>, since: RunLowerBound| {
            let (reader, account) = (&self.reader, self.account);
            LookUp { reader, wall: &wall, account, job, patient: false }.runs(Some(since)).await
        };
        let oldest = searchers.iter().map(|searcher| searcher.created).min().flatten();
        if searchers.len() > MOST_SINGLES
            && let Some(oldest) = oldest
            && let Some(wall) = searchers.first().map(|searcher| searcher.wall.clone())
        {
            // By time only, because the IDs differ between jobs.
            let since = RunLowerBound { id: u64::MAX, at: oldest.checked_sub(LATE).ok() };
            let looked = look_up(wall, None, since).await;
            if looked.incomplete.is_none() {
                for Searcher { wall: _, job, since, created: _, answer } in searchers {
                    let of_job = |run: &&Run| run.job_definition_id == Some(job) && !since.excludes(run);
                    let runs = looked.runs.iter().filter(of_job).cloned().collect();
                    // Fails if the follower is gone.
                    let _ = answer.send(LookupResult { runs, incomplete: None, since: looked.since });
                }
                return;
            }
        }
        // The others stay for the next round.
        let later = searchers.split_off(searchers.len().min(MOST_SINGLES));
        self.searching.borrow_mut().splice(0..0, later);
        for Searcher { wall, job, since, created: _, answer } in searchers {
            let _ = answer.send(look_up(wall, Some(job), since).await);
        }
    }

    /// Answers all polls, for as long as it is polled itself.
    pub(crate) async fn serve(&self) {
        loop {
            while self.waiting.borrow().is_empty() && self.searching.borrow().is_empty() {
                self.wakeup.notified().await;
            }
            let begun = Instant::now();
            sleep(GATHER).await;
            let mut round = std::mem::take(&mut *self.waiting.borrow_mut());
            round.retain(|waiter| !waiter.answer.is_closed());
            let interval = self.interval * u32::try_from(round.len().div_ceil(chunk())).unwrap_or(u32::MAX);
            let final_polls_from = self.deadline.at() - self.reserve;
            if begun < final_polls_from {
                let _ = timeout_at(final_polls_from, async {
                    self.round(round).await;
                    self.search().await;
                })
                .await;
                sleep_until((begun + interval).min(final_polls_from)).await;
            } else {
                self.round(round).await;
                self.search().await;
            }
        }
    }

    async fn round(&self, waiters: Vec<Waiter>) {
        let mut missing = Vec::new();
        let mut waiters = waiters.into_iter().peekable();
        while waiters.peek().is_some() {
            let some: Vec<Waiter> = waiters.by_ref().take(chunk()).collect();
            missing.extend(self.list(some).await);
        }
        // Longest waiting first; the others stay for the next round.
        let later = missing.split_off(missing.len().min(MOST_SINGLES));
        self.waiting.borrow_mut().splice(0..0, later);
        if !self.waiting.borrow().is_empty() {
            self.wakeup.notify_one();
        }
        for Waiter { run, answer } in missing {
            // Fails if the follower is gone.
            let _ = answer.send(self.reader.read_once(dbt::get_run(self.account, run)).await);
        }
    }

    /// Answers the polls that one list call covers, and returns the others.
    async fn list(&self, waiters: Vec<Waiter>) -> Vec<Waiter> {
        if self.refused.get() {
            return waiters;
        }
        let runs: Vec<u64> = waiters.iter().map(|waiter| waiter.run).collect();
        let page = match self.reader.read_once(dbt::list_these_runs(self.account, &runs)).await {
            Ok(page) => page,
            Err(error) => {
                // An error about the list request, not about any run.
                let refused = |status: http::StatusCode| matches!(status.as_u16(), 400 | 404 | 405 | 422);
                self.refused.set(matches!(&error.fault, Fault::Status(status, _) if refused(*status)));
                if self.refused.get() || matches!(error.fault, Fault::InvalidResponse(_)) {
                    return waiters;
                }
                for Waiter { run: _, answer } in waiters {
                    let _ = answer.send(Err(error.clone()));
                }
                return Vec::new();
            }
        };
        let mut rows: HashMap<u64, Run> = page.rows.into_iter().map(|row| (row.id, row)).collect();
        let mut missing = Vec::new();
        for waiter in waiters {
            // A row without a status is unusable.
            match rows.remove(&waiter.run).filter(|row| row.status.is_some()) {
                Some(row) => {
                    let _ = waiter.answer.send(Ok(row));
                }
                None => missing.push(waiter),
            }
        }
        missing
    }
}

fn chunk() -> usize {
    usize::try_from(PAGE).unwrap_or(usize::MAX)
}
