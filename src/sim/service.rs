//! A variant of dbt Cloud on top of the sandbox's world: what it does on its own, and how it lists and answers.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::sandbox::{Reply, SimTime, World};

const HOST: &str = "https://sandbox.invalid";

/// Upper limit of descending run IDs: a later run has a lower ID.
const FALLING_FROM: u64 = 900_000;

/// The `service` member of a protocol case (`tests/protocol/README.md`), and what has happened so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Service {
    habits: Value,
    begun: Option<SimTime>,
    requests: u32,
    triggers: u32,
    /// Request number, job and cause of a run that another caller creates before that request.
    other_caller: Option<(u32, u64, String)>,
}

impl Service {
    pub(super) fn of(case: &Value) -> Service {
        Service { habits: case["service"].clone(), ..Service::default() }
    }

    /// A service where another caller triggers `job` right before our request number `nth`.
    pub(super) fn with_other_caller(nth: u32, job: u64, cause: String) -> Service {
        Service { other_caller: Some((nth, job, cause)), ..Service::default() }
    }

    /// Whether the other caller has triggered its run.
    pub(super) fn other_caller_came(&self) -> bool {
        self.other_caller.is_none()
    }

    pub(super) fn answer(&mut self, world: &mut World, now: SimTime, request: &Request<Bytes>) -> Reply {
        self.requests += 1;
        let begun = *self.begun.get_or_insert(now);
        if self.other_caller.as_ref().is_some_and(|(nth, _, _)| self.requests >= *nth)
            && let Some((_, job, cause)) = self.other_caller.take()
        {
            let body = Bytes::from(json!({ "cause": cause }).to_string());
            let _ = world.answer(now, &like(request, "POST", &format!("jobs/{job}/run/"), body));
        }
        if self.habits.is_null() {
            return world.answer(now, request);
        }
        let limited_s = self.habits["limited_s"].as_i64().unwrap_or(0);
        if now.0 < begun.0 + limited_s * 1000 {
            let mut limited = Response::new(Bytes::from_static(b"{}"));
            *limited.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            return Reply::Answer(limited);
        }
        let request = self.as_heard(request);
        let reply = world.answer(now, &request);
        let is_trigger = World::route(&request).is_some_and(|route| route.operation == "dbt:jobs/run");
        if is_trigger {
            self.triggers += 1;
            for _ in 0..self.habits["repeats"].as_u64().unwrap_or(0) {
                let _ = world.answer(now, &request);
            }
        }
        let Reply::Answer(mut answer) = reply else { return reply };
        if is_trigger
            && self.triggers == 1
            && let Some(other) = self.other_answer(world, now, &request, &answer)
        {
            answer = other;
        }
        Reply::Answer(self.as_told(answer))
    }

    fn falls(&self) -> bool {
        self.habits["ids"] == "falling"
    }

    /// The request as the service understands it.
    fn as_heard(&self, request: &Request<Bytes>) -> Request<Bytes> {
        let uri = request.uri().to_string();
        let (path, query) = uri.split_once('?').unwrap_or((&uri, ""));
        let ignored = |pair: &&str| {
            let name = pair.split('=').next().unwrap_or_default();
            let of_case =
                self.habits["ignores"].as_array().is_some_and(|names| names.iter().any(|known| known == name));
            of_case || (self.falls() && (name == "order_by" || name == "id__gt"))
        };
        let query: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !ignored(pair)).collect();
        let mut path = path.to_owned();
        if self.falls()
            && let Some((front, behind)) = path.split_once("/runs/")
            && let Some((id, rest)) = behind.split_once('/')
            && let Ok(id) = id.parse::<u64>()
        {
            path = format!("{front}/runs/{}/{rest}", FALLING_FROM - id);
        }
        let mut body = request.body().clone();
        if let Ok(mut sent) = serde_json::from_slice::<Value>(&body)
            && let Some(cause) = sent["cause"].as_str()
        {
            let kept = match self.habits["cause"].as_str() {
                Some("lower") => cause.to_lowercase(),
                Some("cut") => cause.chars().take(60).collect(),
                Some(_) | None => cause.to_owned(),
            };
            sent["cause"] = json!(kept);
            body = Bytes::from(sent.to_string());
        }
        let uri = if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) };
        let mut heard = Request::builder().method(request.method()).uri(uri);
        if let Some(headers) = heard.headers_mut() {
            headers.clone_from(request.headers());
        }
        heard.body(body).unwrap()
    }

    /// The response in place of that to the first trigger.
    fn other_answer(
        &self,
        world: &mut World,
        now: SimTime,
        request: &Request<Bytes>,
        answer: &Response<Bytes>,
    ) -> Option<Response<Bytes>> {
        let mut body: Value = serde_json::from_slice(answer.body()).ok()?;
        let made = body["data"]["id"].as_u64()?;
        let job = body["data"]["job_definition_id"].as_u64()?;
        let related = "include_related=%5B%22trigger%22%5D&order_by=-id&limit=100";
        let wanted = self.habits["answers"].as_str()?;
        if wanted == "no-trigger" {
            body["data"]["trigger"] = Value::Null;
        } else {
            let list = like(request, "GET", &format!("runs/?{related}"), Bytes::new());
            let Reply::Answer(listed) = world.answer(now, &list) else { return None };
            let listed: Value = serde_json::from_slice(listed.body()).ok()?;
            let fits = |row: &&Value| match wanted {
                "other-job" => row["job_definition_id"] != job,
                "old-run" => row["job_definition_id"] == job && row["id"] != made,
                other => panic!("no such answer: {other}"),
            };
            body["data"] = listed["data"].as_array()?.iter().find(fits)?.clone();
        }
        Some(answer.clone().map(|_| Bytes::from(body.to_string())))
    }

    /// The response as the service sends it.
    fn as_told(&self, answer: Response<Bytes>) -> Response<Bytes> {
        let Ok(mut body) = serde_json::from_slice::<Value>(answer.body()) else { return answer };
        if self.falls() {
            fall(&mut body);
        }
        let rows = body["data"].as_array().map(Vec::len);
        if let (Some(rows), Some(page)) = (rows, body["extra"]["pagination"].as_object_mut()) {
            match self.habits["total_count"].as_str() {
                Some("none") => drop(page.shift_remove("total_count")),
                Some("page") => drop(page.insert("total_count".to_owned(), json!(rows))),
                Some(other) => panic!("no such total_count: {other}"),
                None => {}
            }
        }
        answer.map(|_| Bytes::from(body.to_string()))
    }
}

/// A request by another caller with the same credential.
fn like(request: &Request<Bytes>, method: &str, path: &str, body: Bytes) -> Request<Bytes> {
    let mut other = Request::builder().method(method).uri(format!("{HOST}/api/v2/accounts/51234/{path}"));
    if let Some(headers) = other.headers_mut() {
        headers.clone_from(request.headers());
        headers.insert("content-type", http::HeaderValue::from_static("application/json"));
        headers.remove("content-length");
    }
    other.body(body).unwrap()
}

/// Replaces each run's ID by its descending one.
fn fall(value: &mut Value) {
    match value {
        Value::Array(rows) => rows.iter_mut().for_each(fall),
        Value::Object(fields) => {
            let is_run = fields.contains_key("retrying_run_id");
            for (name, field) in fields.iter_mut() {
                match field.as_u64() {
                    Some(id) if is_run && (name == "id" || name == "retrying_run_id") => {
                        *field = json!(FALLING_FROM - id);
                    }
                    Some(_) | None => fall(field),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
