//! One loop for the paged lists of both services. A list that cannot be read to its end is an error.

use std::collections::HashSet;

use futures_util::future::join_all;

use super::call::BodyProblem;
use super::client::Reader;
use super::error::HttpError;

/// More pages than any list has; protects against a service whose pages never end.
const MOST: usize = 500;

/// The page tokens or offsets requested so far, to detect loops.
#[derive(Debug)]
pub(crate) struct Pages<P>(Vec<P>);

impl<P> Default for Pages<P> {
    fn default() -> Pages<P> {
        Pages(Vec::new())
    }
}

impl<P: Clone + PartialEq> Pages<P> {
    /// Returns the next page, or an error if it was requested before or there are too many.
    pub(crate) fn step(&mut self, next: Option<P>) -> Result<Option<P>, BodyProblem> {
        let Some(next) = next else { return Ok(None) };
        if self.0.contains(&next) {
            return Err(BodyProblem::Unreadable("its pages form a loop".to_owned()));
        }
        if self.0.len() + 1 >= MOST {
            return Err(BodyProblem::Unreadable(format!("more than {MOST} pages")));
        }
        self.0.push(next.clone());
        Ok(Some(next))
    }
}

impl Reader {
    /// Reads a list to its end, or until there are `enough` rows. `page` returns the rows of one page and where the
    /// next one starts. Rows with the same `id` are taken once, because rows may shift to the next page between
    /// requests.
    pub(crate) async fn pages<T, P: Clone + PartialEq>(
        &self,
        operation: &'static str,
        id: impl Fn(&T) -> u64,
        enough: usize,
        mut page: impl AsyncFnMut(Option<P>) -> Result<(Vec<T>, Option<P>), HttpError>,
    ) -> Result<Vec<T>, HttpError> {
        let (mut rows, mut known, mut pages, mut place) = (Vec::new(), HashSet::new(), Pages::default(), None);
        loop {
            let (some, next) = page(place).await?;
            let (before, empty) = (rows.len(), some.is_empty());
            rows.extend(some.into_iter().filter(|row| known.insert(id(row))));
            if rows.len() >= enough {
                rows.truncate(enough);
                return Ok(rows);
            }
            if next.is_some() && rows.len() == before && !empty {
                return Err(
                    self.invalid_response(operation, BodyProblem::Unreadable("its pages repeat rows".to_owned()))
                );
            }
            place = pages.step(next).map_err(|problem| self.invalid_response(operation, problem))?;
            if place.is_none() {
                return Ok(rows);
            }
        }
    }
}

/// Concurrent requests.
const AT_A_TIME: usize = 8;

/// Runs `work` for each item, a few at a time. Results are in the order of the items.
pub(crate) async fn side_by_side<T, R>(items: &[T], work: impl AsyncFn(&T) -> R) -> Vec<R> {
    let mut done = Vec::with_capacity(items.len());
    for some in items.chunks(AT_A_TIME) {
        done.extend(join_all(some.iter().map(|item| work(item))).await);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_get_on_or_end_with_an_error() {
        let mut pages = Pages::default();
        for place in 1..MOST {
            assert_eq!(pages.step(Some(place)), Ok(Some(place)));
        }
        assert!(pages.step(Some(MOST)).is_err());
        assert!(pages.step(Some(7)).is_err());
        assert_eq!(pages.step(None), Ok(None));
    }
}
