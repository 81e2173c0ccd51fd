//! One request, taken apart for a handler.

use bytes::Bytes;
use http::{Request, header};
use serde_json::Value;

use super::answers::Refusal;
use crate::sandbox::SimTime;

/// A request that has been authenticated and has a route.
pub(super) struct Call {
    pub(super) now: SimTime,
    /// Who calls Databricks; empty for dbt.
    pub(super) caller: String,
    /// What stood in the places of the path's `{…}`, from left to right.
    pub(super) places: Vec<String>,
    /// Query parameters, decoded, in order, doubled ones kept.
    pub(super) query: Vec<(String, String)>,
    body: Bytes,
    form: bool,
    /// The header as it came, for the routes that read it themselves.
    pub(super) authorization: Option<String>,
    /// Below `/api/2.1/`: the Jobs API without pages of arrays.
    pub(super) older_jobs_api: bool,
}

impl Call {
    pub(super) fn read(
        now: SimTime,
        request: &Request<Bytes>,
        caller: String,
        places: Vec<String>,
    ) -> Result<Call, Refusal> {
        let text = request.uri().query().unwrap_or_default();
        let query = url::form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if kind.is_some_and(|kind| kind.starts_with("multipart/")) {
            return Err(Refusal::NotBuilt("bodies of several parts".to_owned()));
        }
        Ok(Call {
            now,
            caller,
            places,
            query,
            body: request.body().clone(),
            form: kind.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded")),
            authorization: request
                .headers()
                .get(header::AUTHORIZATION)
                .and_then(|value| value.to_str().ok())
                .map(ToOwned::to_owned),
            older_jobs_api: request.uri().path().starts_with("/api/2.1/"),
        })
    }

    /// The first query parameter of that name.
    pub(super) fn asked(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The number in the path's n-th place; what is no number names nothing.
    pub(super) fn id(&self, place: usize) -> Option<i64> {
        self.places.get(place)?.parse().ok()
    }

    /// The body as a JSON object; an absent body is an empty object. Forms become objects of texts.
    pub(super) fn object(&self) -> Result<serde_json::Map<String, Value>, String> {
        if self.body.is_empty() {
            return Ok(serde_json::Map::new());
        }
        if self.form {
            let pairs = url::form_urlencoded::parse(&self.body).into_owned();
            return Ok(pairs.map(|(key, value)| (key, Value::String(value))).collect());
        }
        match serde_json::from_slice(&self.body) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err("the body is no JSON object".to_owned()),
            Err(error) => Err(format!("the body is no JSON: {error}")),
        }
    }

    pub(super) fn is_form(&self) -> bool {
        self.form
    }
}
