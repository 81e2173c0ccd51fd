//! The dbt Cloud account: authentication, state, query parameters and paging.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::World;
use super::answers::{HandlerResult, ServiceError, dbt_data, envelope, json_answer};
use super::call::Call;
use super::dbt_jobs::DbtJob;
use super::dbt_runs::DbtRun;

/// The account of the seeded token.
pub(super) const ACCOUNT: i64 = 51234;
/// How long the account stays throttled, in milliseconds.
const COOL_DOWN: i64 = 300_000;
const MINUTE: i64 = 60_000;
/// Maximum and default page size.
const LARGEST_PAGE: usize = 100;

/// What ended runs of a scripted job look like.
#[derive(Clone, Default)]
pub(super) struct Scripted {
    /// Fields of the run, including its steps.
    pub(super) run: Map<String, Value>,
    /// Files of each step by name, keyed by step number.
    pub(super) files: Map<String, Value>,
}

#[derive(Clone, Default)]
pub(super) struct Dbt {
    pub(super) token: String,
    pub(super) jobs: BTreeMap<i64, DbtJob>,
    /// Sorted by id.
    pub(super) runs: Vec<DbtRun>,
    /// Indexes of runs that have not ended.
    pub(super) open: Vec<usize>,
    /// When the last ended run of each job ended.
    pub(super) last_end: BTreeMap<i64, i64>,
    pub(super) next_run: i64,
    pub(super) listing_lag: i64,
    pub(super) fresh_404: i64,
    /// Scripted jobs.
    pub(super) scripted: BTreeMap<i64, Scripted>,
    /// Requests per minute.
    pub(super) rate: u32,
    minute: (i64, u32),
    cooling_until: i64,
}

impl Dbt {
    pub(super) fn new(token: String) -> Dbt {
        Dbt { token, rate: 5000, ..Dbt::default() }
    }

    /// Authenticates a dbt request; `Token` and `Bearer` mean the same.
    pub(super) fn authenticate(&self, authorization: Option<&str>) -> Result<(), ServiceError> {
        let token =
            authorization.and_then(|value| value.strip_prefix("Token ").or_else(|| value.strip_prefix("Bearer ")));
        match token {
            Some(token) if token == self.token => Ok(()),
            Some(_) => Err(ServiceError::dbt(401, "Invalid token.")),
            None => Err(ServiceError::dbt(401, "Authentication credentials were not provided.")),
        }
    }

    /// Counts a request toward the account's limit.
    pub(super) fn throttle(&mut self, now: i64) -> Result<(), ServiceError> {
        let minute = now.div_euclid(MINUTE);
        if self.minute.0 != minute {
            self.minute = (minute, 0);
        }
        self.minute.1 = self.minute.1.saturating_add(1);
        if self.minute.1 > self.rate && now >= self.cooling_until {
            self.cooling_until = now + COOL_DOWN;
        }
        if now < self.cooling_until {
            // Often without the envelope.
            return Err(ServiceError::dbt_detail(429, "Request was throttled."));
        }
        Ok(())
    }
}

impl World {
    /// Sets how long a new dbt run is missing from lists of runs, in milliseconds.
    pub fn set_listing_lag(&mut self, milliseconds: i64) {
        self.dbt.listing_lag = milliseconds;
    }
}

impl Call {
    /// The account in the path must be the token's; another one is 403, not 404.
    pub(super) fn check_account(&self) -> Result<(), ServiceError> {
        match self.id(0) {
            Some(ACCOUNT) => Ok(()),
            Some(_) => Err(ServiceError::dbt(403, "Access denied: Token is not scoped to account.")),
            None => Err(ServiceError::dbt_not_found()),
        }
    }

    /// Refuses unknown query parameters. `account_id` is accepted everywhere, because Dagster sends it.
    pub(super) fn check_query(&self, known: &[&str]) -> Result<(), ServiceError> {
        let foreign = self.query.iter().find(|(name, _)| name != "account_id" && !known.contains(&name.as_str()));
        match foreign {
            None => Ok(()),
            Some((name, _)) => {
                Err(ServiceError::dbt(400, &format!("Additional properties are not allowed ('{name}' was unexpected)")))
            }
        }
    }

    /// Returns the members named in `include_related`, in any encoding: comma-separated, JSON or repeated, and a
    /// Python-style list, which dbt's own MCP server sends.
    pub(super) fn included(&self) -> Vec<String> {
        let values = self.query.iter().filter(|(name, _)| name == "include_related" || name == "include_related[]");
        values.flat_map(|(_, value)| list_items(value)).map(str::to_owned).collect()
    }

    /// Returns an integer query parameter.
    pub(super) fn dbt_number(&self, name: &str) -> Result<Option<i64>, ServiceError> {
        self.query_param(name).map(|value| integer(name, value)).transpose()
    }

    pub(super) fn dbt_flag(&self, name: &str) -> Result<Option<bool>, ServiceError> {
        match self.query_param(name).map(str::to_lowercase).as_deref() {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => Err(ServiceError::dbt_field(name, format!("'{other}' is not of type 'boolean'"))),
        }
    }

    /// Parses `NAME__in`: JSON `[1,2]`, comma-separated or repeated.
    pub(super) fn dbt_numbers(&self, name: &str) -> Result<Option<Vec<i64>>, ServiceError> {
        let mut values = self.query.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).peekable();
        if values.peek().is_none() {
            return Ok(None);
        }
        values.flat_map(list_items).map(|item| integer(name, item)).collect::<Result<_, _>>().map(Some)
    }

    /// Parses `NAME__range`: a JSON array of two times in double quotes; any other form is refused.
    pub(super) fn dbt_range(&self, name: &str) -> Result<Option<(i64, i64)>, ServiceError> {
        let Some(value) = self.query_param(name) else {
            return Ok(None);
        };
        let wrong = || ServiceError::dbt_field(name, format!("'{value}' is not an array of two times"));
        let ends: Vec<String> = serde_json::from_str(value).map_err(|_| wrong())?;
        let [from, to] = ends.as_slice() else {
            return Err(wrong());
        };
        Ok(Some((moment(from).ok_or_else(wrong)?, moment(to).ok_or_else(wrong)?)))
    }

    /// Sorts rows, cuts the page and adds the envelope. The default order is ascending by id.
    pub(super) fn page<T>(&self, mut rows: Vec<T>, orders: &[Order<T>], show: impl Fn(&T) -> Value) -> HandlerResult {
        let limit = self.dbt_number("limit")?.unwrap_or(100);
        let Ok(limit @ 1..=LARGEST_PAGE) = usize::try_from(limit) else {
            return Err(ServiceError::dbt_field("limit", format!("{limit} is not between 1 and {LARGEST_PAGE}")));
        };
        let Ok(offset) = usize::try_from(self.dbt_number("offset")?.unwrap_or(0)) else {
            return Err(ServiceError::dbt_field("offset", "the offset is less than the minimum of 0"));
        };
        let order = self.query_param("order_by").unwrap_or("id");
        let name = order.strip_prefix('-').unwrap_or(order);
        let Some((_, key)) = orders.iter().find(|(known, _)| *known == name) else {
            let what = format!("'{order}' is not one of the orders of this list");
            return Err(ServiceError::dbt_field("order_by", what));
        };
        rows.sort_by_key(key);
        if order.starts_with('-') {
            rows.reverse();
        }
        let total = rows.len();
        let page: Vec<Value> = rows.iter().skip(offset).take(limit).map(show).collect();
        let given = self.query.iter().filter(|(name, _)| name != "order_by" && name != "include_related");
        let mut filters: Value = given.map(|(name, value)| (name.clone(), json!(value))).collect();
        (filters["limit"], filters["offset"], filters["account_id"]) = (json!(limit), json!(offset), json!(ACCOUNT));
        let count = page.len();
        let mut body = envelope(200, "Success!", Value::Array(page));
        body["extra"] =
            json!({ "filters": filters, "order_by": order, "pagination": { "count": count, "total_count": total } });
        Ok(json_answer(200, &body))
    }
}

/// Splits a list written as JSON or with commas; quotes are dropped.
fn list_items(value: &str) -> impl Iterator<Item = &str> {
    let bare = value.trim().trim_start_matches('[').trim_end_matches(']');
    bare.split(',').map(|item| item.trim().trim_matches(['"', '\''])).filter(|item| !item.is_empty())
}

fn integer(field: &str, text: &str) -> Result<i64, ServiceError> {
    text.parse().map_err(|_| ServiceError::dbt_field(field, format!("'{text}' is not of type 'integer'")))
}

/// A name for `order_by` and its sort key.
pub(super) type Order<T> = (&'static str, fn(&T) -> i64);

/// Parses a time as clients write it, with `T` or a space, `Z` or an offset, into milliseconds.
fn moment(text: &str) -> Option<i64> {
    let text = text.trim().replacen(' ', "T", 1);
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Some(moment.as_millisecond());
    }
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

fn written(at: i64, form: &str) -> Option<String> {
    let moment = jiff::Timestamp::from_millisecond(at).ok()?;
    Some(moment.strftime(form).to_string())
}

/// Formats a time of a run: a space between date and time, and an offset.
pub(super) fn run_time(at: i64) -> Value {
    json!(written(at, "%Y-%m-%d %H:%M:%S.%6f+00:00"))
}

/// Formats any other time.
pub(super) fn plain_time(at: i64) -> Value {
    json!(written(at, "%Y-%m-%dT%H:%M:%S.%6fZ"))
}

/// Formats a duration as `HH:MM:SS`; hours may exceed 23.
pub(super) fn clock(milliseconds: i64) -> String {
    let seconds = milliseconds.max(0) / 1000;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

pub(super) fn humanized(milliseconds: i64) -> String {
    let minutes = milliseconds.max(0) / 60_000;
    let seconds = milliseconds.max(0) / 1000 % 60;
    if minutes == 0 { format!("{seconds} seconds") } else { format!("{minutes} minutes, {seconds} seconds") }
}

fn account(world: &World) -> Value {
    json!({
        "id": ACCOUNT, "name": "Sandbox", "plan": "enterprise_2025", "state": 1, "run_slots": 15, "queue_limit": 50,
        "run_duration_limit_seconds": 86_400, "developer_seats": 8, "read_only_seats": 50, "locked": false,
        "lock_reason": null, "lock_cause": null, "run_locked_until": null, "pending_cancel": false,
        "identifier": "act_sandbox", "static_subdomain": "sb512", "vanity_subdomain": null, "docs_job_id": null,
        "freshness_job_id": null, "it_seats": 1, "explorer_seats": 0, "analyst_seats": 0, "unlocked_at": null,
        "billing_email_address": null, "pod_memory_request_mebibytes": 600, "develop_pod_memory_request_mebibytes": 600,
        "enterprise_login_slug": null, "business_critical": false, "starter_repo_url": null, "git_auth_level": "personal",
        "trial_end_date": null, "copilot_locked_until": null, "agent_credit_locked": false, "account_migration_events": [],
        "groups": [], "created_at": plain_time(world.start.0 - 400 * 86_400_000),
        "updated_at": plain_time(world.start.0 - 86_400_000),
    })
}

/// `GET accounts/`: only the token's account.
pub(super) fn accounts(world: &mut World, call: &Call) -> HandlerResult {
    call.check_query(&["limit", "offset", "order_by", "state", "pk", "pk__in"])?;
    let rows = vec![account(world)];
    call.page(rows, &[("id", |row| row["id"].as_i64().unwrap_or(0))], Value::clone)
}

pub(super) fn one_account(world: &mut World, call: &Call) -> HandlerResult {
    call.check_account()?;
    call.check_query(&[])?;
    Ok(dbt_data(&account(world)))
}

/// `GET v2 whoami/`: undocumented but used by dbt's own tools. The response for a service token is unverified.
pub(super) fn who_am_i(_: &mut World, call: &Call) -> HandlerResult {
    call.check_query(&[])?;
    Ok(dbt_data(&json!({ "user": { "id": 7001, "email": "ana@example.com" } })))
}
