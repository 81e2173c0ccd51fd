//! The envelope of dbt's responses: `{"status": …, "data": …, "extra": …}`.

use bytes::Bytes;
use http::Response;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::http::{BodyProblem, HttpError, Read, Reader, Rows};
pub(super) use crate::http::{lenient_number, optional, optional_list, or_default, skip_invalid};

/// Largest page of a list.
pub(crate) const PAGE: u64 = 100;

#[derive(Deserialize)]
struct Envelope<T> {
    // A missing `data` and `null` are the same error, reported by `open`.
    #[serde(default = "Option::default", bound(deserialize = "T: Deserialize<'de>"))]
    data: Option<T>,
    #[serde(default, deserialize_with = "optional")]
    extra: Option<Extra>,
}

#[derive(Deserialize)]
struct Extra {
    #[serde(default, deserialize_with = "optional")]
    pagination: Option<Pagination>,
}

#[derive(Deserialize)]
struct Pagination {
    #[serde(default, deserialize_with = "optional")]
    total_count: Option<u64>,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Page<T> {
    pub(crate) rows: Vec<T>,
    /// Number of unreadable rows.
    pub(crate) unreadable: u64,
    /// Number of rows on all pages, if returned.
    pub(crate) total: Option<u64>,
    /// The service's clock.
    pub(crate) date: Option<Timestamp>,
}

impl<T> Page<T> {
    /// Number of rows on this page, including unreadable ones.
    pub(crate) fn count(&self) -> u64 {
        self.rows.len() as u64 + self.unreadable
    }

    /// Whether rows may follow after the first `seen` ones. If the total is unknown, a short page is the last one.
    pub(crate) fn more_after(&self, seen: u64, limit: u64) -> bool {
        if self.count() == 0 {
            return false;
        }
        match self.total {
            Some(total) => seen < total,
            None => self.count() >= limit,
        }
    }
}

/// Reads a list to its end, or until there are `enough` rows that fit. `list` requests the page at an offset.
pub(crate) async fn all<T>(
    reader: &Reader,
    operation: &'static str,
    (id, fits): (impl Fn(&T) -> u64, impl Fn(&T) -> bool),
    enough: usize,
    list: impl Fn(u64) -> Read<Page<T>>,
) -> Result<Vec<T>, HttpError> {
    let page = async |offset: Option<u64>| {
        let offset = offset.unwrap_or_default();
        let mut page = reader.read(list(offset)).await?;
        let seen = offset + page.count();
        let more = page.more_after(seen, PAGE);
        page.rows.retain(&fits);
        Ok((page.rows, more.then_some(seen)))
    };
    reader.pages(operation, id, enough, page).await
}

/// Parses the envelope's `data`.
pub(crate) fn data<T: DeserializeOwned>(answer: &Response<Bytes>) -> Result<T, BodyProblem> {
    open(answer).map(|(data, _)| data)
}

/// Parses a page of a list.
pub(crate) fn page<T: DeserializeOwned>(answer: &Response<Bytes>) -> Result<Page<T>, BodyProblem> {
    let (Rows { rows, unreadable }, extra) = open::<Rows<T>>(answer)?;
    let total = extra.and_then(|extra| extra.pagination).and_then(|pagination| pagination.total_count);
    let date = answer.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| date.timestamp());
    Ok(Page { rows, unreadable: unreadable as u64, total, date })
}

fn open<T: DeserializeOwned>(answer: &Response<Bytes>) -> Result<(T, Option<Extra>), BodyProblem> {
    if answer.body().is_empty() {
        return Err(BodyProblem::Empty);
    }
    let Envelope { data, extra } = serde_json::from_slice(answer.body()).map_err(|error| BodyProblem::of(&error))?;
    let data = data.ok_or_else(|| BodyProblem::Unreadable("it has no `data`".to_owned()))?;
    Ok((data, extra))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Response<Bytes> {
        Response::new(Bytes::from(body.to_owned()))
    }

    #[test]
    fn an_answer_without_data_is_no_answer() {
        assert_eq!(data::<u64>(&answer(r#"{"status":{"code":200},"data":7}"#)), Ok(7));
        assert_eq!(data::<u64>(&answer("")), Err(BodyProblem::Empty));
        for body in [r#"{"status":{}}"#, r#"{"data":null}"#, r#"{"data":"seven"}"#, "[]"] {
            assert!(matches!(data::<u64>(&answer(body)), Err(BodyProblem::Unreadable(_))), "{body}");
        }
        assert!(matches!(data::<u64>(&answer("{")), Err(BodyProblem::Broken(_))));
        let deep = format!("{{\"data\":{}", "[".repeat(100_000));
        assert!(matches!(data::<serde_json::Value>(&answer(&deep)), Err(BodyProblem::Broken(_))));
    }

    #[test]
    fn a_list_ends_where_its_length_says_or_else_at_a_short_page() {
        let told =
            page::<u64>(&answer(r#"{"data":[1,2],"extra":{"pagination":{"count":2,"total_count":3}}}"#)).unwrap();
        assert!(told.more_after(2, 100) && !told.more_after(3, 100));
        let untold = page::<u64>(&answer(r#"{"data":[1,2],"extra":"odd"}"#)).unwrap();
        assert!(untold.more_after(2, 2) && !untold.more_after(2, 100));
        let empty = page::<u64>(&answer(r#"{"data":[],"extra":{"pagination":{"total_count":9}}}"#)).unwrap();
        assert!(!empty.more_after(4, 2));
    }
}
