//! Jobs: list, get, create, update, delete. Settings are kept as raw JSON, because most of a job is
//! not ours.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::raw::Raw;
use super::{is_missing, lenient_number, optional};
use crate::http::{
    BodyProblem, Call, HttpError, Idempotent, NonIdempotent, Pages, Path, Read, Reader, Rows, side_by_side,
};

/// Largest page of the list.
const PAGE: u32 = 100;
/// Arrays of a job that are paged by 100.
const PAGED: [&str; 4] = ["tasks", "job_clusters", "environments", "parameters"];

/// A job as listed, without its tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) tags: BTreeMap<String, String>,
    /// Creation time in milliseconds since 1970, if returned.
    pub(crate) created: Option<i64>,
}

/// One page of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) jobs: Rows<Summary>,
    /// The token of the next page.
    pub(crate) next: Option<String>,
}

/// One page of the list with tasks.
#[derive(Clone, Debug)]
pub(crate) struct PageWithTasks {
    /// Each job, with whether all of its tasks are included.
    pub(crate) jobs: Vec<(Job, bool)>,
    /// The token of the next page.
    pub(crate) next: Option<String>,
}

/// A job with all of its settings.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) id: u64,
    /// The identity that its runs act as, if returned.
    pub(crate) run_as: Option<String>,
    pub(crate) settings: Raw,
}

/// Smaller than `PAGE`, because each job comes with up to 100 tasks.
const PAGE_WITH_TASKS: u32 = 25;

/// `jobs/list` with the first page of each job's tasks.
pub(crate) fn list_with_tasks(page: Option<&str>) -> Read<PageWithTasks> {
    #[derive(Deserialize)]
    struct Item {
        #[serde(deserialize_with = "lenient_number")]
        job_id: u64,
        settings: Option<Raw>,
        has_more: Option<bool>,
    }
    #[derive(Deserialize)]
    struct Body {
        jobs: Option<Vec<Item>>,
        has_more: Option<bool>,
        next_page_token: Option<String>,
    }
    let call = Call::get("jobs/list", Path::new("/api/2.2/jobs/list"))
        .query("limit", PAGE_WITH_TASKS)
        .query("expand_tasks", true)
        .query_some("page_token", page)
        .cap(64 << 20);
    Read::new(call, |answer| {
        let Body { jobs, has_more, next_page_token } = crate::http::parse_json(answer)?;
        let jobs = jobs.unwrap_or_default().into_iter().map(|Item { job_id, settings, has_more }| {
            let settings = settings.unwrap_or_default();
            // A compatible server may omit the tasks.
            let is_whole = has_more != Some(true) && settings.has("tasks");
            (Job { id: job_id, run_as: None, settings }, is_whole)
        });
        Ok(PageWithTasks { jobs: jobs.collect(), next: next(has_more, next_page_token)? })
    })
}

/// Returns all jobs that this identity can see, each with all of its tasks.
pub(crate) async fn all_with_tasks(reader: &Reader) -> Result<Vec<Job>, HttpError> {
    let page = async |token: Option<String>| {
        let PageWithTasks { jobs, next } = reader.read(list_with_tasks(token.as_deref())).await?;
        Ok((jobs, next))
    };
    let listed = reader.pages("jobs/list", |(job, _): &(Job, bool)| job.id, usize::MAX, page).await?;
    let whole = side_by_side(&listed, async |(job, is_whole)| {
        if *is_whole {
            return Ok(Some(job.clone()));
        }
        match get(reader, job.id).await {
            Ok(job) => Ok(Some(job)),
            // Deleted after the list was read.
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    });
    Ok(whole.await.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// `jobs/list`: one page of all jobs, or of those with this name (case-insensitive).
pub(crate) fn list(name: Option<&str>, page: Option<&str>) -> Read<Page> {
    #[derive(Deserialize)]
    struct Settings {
        name: Option<String>,
        tags: Option<BTreeMap<String, String>>,
    }
    #[derive(Deserialize)]
    struct Item {
        #[serde(deserialize_with = "lenient_number")]
        job_id: u64,
        #[serde(default, deserialize_with = "optional")]
        created_time: Option<i64>,
        settings: Option<Settings>,
    }
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        jobs: Rows<Item>,
        has_more: Option<bool>,
        next_page_token: Option<String>,
    }
    let call = Call::get("jobs/list", Path::new("/api/2.2/jobs/list")).query("limit", PAGE);
    let call = call.query_some("name", name).query_some("page_token", page);
    Read::new(call, |answer| {
        let Body { jobs, has_more, next_page_token } = crate::http::parse_json(answer)?;
        let Rows { rows, unreadable } = jobs;
        let rows = rows.into_iter().map(|Item { job_id, created_time: created, settings }| {
            let Settings { name, tags } = settings.unwrap_or(Settings { name: None, tags: None });
            Summary { id: job_id, name: name.unwrap_or_default(), tags: tags.unwrap_or_default(), created }
        });
        Ok(Page { jobs: Rows { rows: rows.collect(), unreadable }, next: next(has_more, next_page_token)? })
    })
}

/// The next page's token. A list with more pages but no token is an error, so that it is not mistaken for a complete
/// one.
fn next(has_more: Option<bool>, token: Option<String>) -> Result<Option<String>, BodyProblem> {
    match (has_more, token.filter(|token| !token.is_empty())) {
        (Some(false), _) | (None, None) => Ok(None),
        (Some(true) | None, Some(token)) => Ok(Some(token)),
        (Some(true), None) => Err(BodyProblem::Unreadable("it has more pages but no page token".to_owned())),
    }
}

/// Reads all pages of the list. An incomplete list is an error, because it could lead to a duplicate job.
pub(crate) async fn all(reader: &Reader, name: Option<&str>) -> Result<Rows<Summary>, HttpError> {
    let mut unread = 0;
    let page = async |token: Option<String>| {
        let Page { jobs: Rows { rows, unreadable }, next } = reader.read(list(name, token.as_deref())).await?;
        unread += unreadable;
        Ok((rows, next))
    };
    let rows = reader.pages("jobs/list", |job: &Summary| job.id, usize::MAX, page).await?;
    Ok(Rows { rows, unreadable: unread })
}

/// `jobs/get`: one page of the job, and the token of the next page of its arrays.
pub(crate) fn get_page(job_id: u64, page: Option<&str>) -> Read<(Job, Option<String>)> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(deserialize_with = "lenient_number")]
        job_id: u64,
        run_as_user_name: Option<String>,
        settings: Option<Raw>,
        has_more: Option<bool>,
        next_page_token: Option<String>,
    }
    let call = Call::get("jobs/get", Path::new("/api/2.2/jobs/get")).query("job_id", job_id);
    let call = call.query_some("page_token", page);
    Read::new(call, |answer| {
        let Body { job_id, run_as_user_name, settings, has_more, next_page_token } = crate::http::parse_json(answer)?;
        let settings = settings.ok_or_else(|| BodyProblem::Unreadable("it has no settings".to_owned()))?;
        let run_as = settings.object("run_as");
        let named = ["user_name", "service_principal_name"].into_iter().find_map(|field| run_as.read(field));
        Ok((Job { id: job_id, run_as: run_as_user_name.or(named), settings }, next(has_more, next_page_token)?))
    })
}

/// `jobs/get` with the arrays of all pages.
pub(crate) async fn get(reader: &Reader, job_id: u64) -> Result<Job, HttpError> {
    let (mut job, mut token) = reader.read(get_page(job_id, None)).await?;
    let mut pages = Pages::default();
    while let Some(page) = pages.step(token).map_err(|problem| reader.invalid_response("jobs/get", problem))? {
        let (more, next) = reader.read(get_page(job_id, Some(&page))).await?;
        for name in PAGED {
            let added: Vec<Box<RawValue>> = more.settings.read(name).unwrap_or_default();
            if !added.is_empty() {
                let mut whole: Vec<Box<RawValue>> = job.settings.read(name).unwrap_or_default();
                whole.extend(added);
                job.settings.set(name, &whole);
            }
        }
        token = next;
    }
    Ok(job)
}

/// `jobs/create`: returns the new job's ID. It has no idempotency token; after a lost response, look for the job's tag.
pub(crate) fn create(settings: &Raw) -> NonIdempotent<u64> {
    #[derive(Deserialize)]
    struct Body {
        job_id: u64,
    }
    NonIdempotent::new(Call::post("jobs/create", Path::new("/api/2.2/jobs/create")).json(settings), |answer| {
        crate::http::parse_json(answer).map(|Body { job_id }| job_id)
    })
}

/// The changes that `jobs/update` makes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Update {
    /// Top-level fields, each complete, except `tasks`: only those that change, since the service merges them by key.
    pub(crate) new_settings: Raw,
    /// Names of top-level fields, or `tasks/KEY`.
    pub(crate) fields_to_remove: Vec<String>,
}

/// `jobs/update`: fields that it does not name are unchanged.
pub(crate) fn update(job_id: u64, Update { new_settings, fields_to_remove }: &Update) -> Idempotent<()> {
    #[derive(Serialize)]
    struct Body<'a> {
        job_id: u64,
        new_settings: &'a Raw,
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        fields_to_remove: &'a [String],
    }
    let call = Call::post("jobs/update", Path::new("/api/2.2/jobs/update"));
    Idempotent::new(call.json(&Body { job_id, new_settings, fields_to_remove }), super::done)
}

/// `jobs/delete`. A job that does not exist is an error.
pub(crate) fn delete(job_id: u64) -> Idempotent<()> {
    let call = Call::post("jobs/delete", Path::new("/api/2.2/jobs/delete"));
    Idempotent::new(call.json(&serde_json::json!({ "job_id": job_id })), super::done)
}

/// The URL of a job: `https://HOST/jobs/JOB?o=WORKSPACE`.
pub(crate) fn link(origin: &str, job_id: u64, workspace: Option<u64>) -> String {
    match workspace {
        Some(workspace) => format!("{origin}/jobs/{job_id}?o={workspace}"),
        None => format!("{origin}/jobs/{job_id}"),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Response;

    use super::*;

    fn answer(body: &str) -> Response<Bytes> {
        Response::new(Bytes::from(body.to_owned()))
    }

    #[test]
    fn a_name_and_a_token_are_encoded_into_the_list_call() {
        let Read { call, parse: _ } = list(Some("dbt: a & b (1)"), Some("t="));
        assert_eq!(call.target(), "/api/2.2/jobs/list?limit=100&name=dbt%3A+a+%26+b+%281%29&page_token=t%3D");
        assert_eq!(list(None, None).call.target(), "/api/2.2/jobs/list?limit=100");
    }

    #[test]
    fn a_list_that_is_cut_short_is_no_list() {
        let read = |body: &str| (list(None, None).parse)(&answer(body));
        assert_eq!(read("{}").unwrap(), Page { jobs: Rows::default(), next: None });
        assert_eq!(read(r#"{"jobs":[],"has_more":false,"next_page_token":"x"}"#).unwrap().next, None);
        assert_eq!(read(r#"{"has_more":true,"next_page_token":"x"}"#).unwrap().next.as_deref(), Some("x"));
        assert!(read(r#"{"has_more":true,"next_page_token":""}"#).is_err());
        assert_eq!(read(r#"{"jobs":[{"settings":{}}]}"#).unwrap().jobs, Rows { rows: vec![], unreadable: 1 });
        let page =
            read(r#"{"jobs":[{"job_id":9007199254740993,"settings":{"tags":{"a":"b"}}},{"job_id":1}]}"#).unwrap();
        assert_eq!(page.jobs.rows[0].id, 9_007_199_254_740_993);
        assert_eq!(page.jobs.rows[0].tags["a"], "b");
        assert_eq!(page.jobs.rows[1].name, "");
    }

    #[test]
    fn an_update_carries_what_changes_as_it_is_and_nothing_else() {
        let new_settings: Raw = serde_json::from_str(r#"{"tasks":[{"task_key":"x","odd":{"value":1.0}}]}"#).unwrap();
        let mut wanted = Update { new_settings, fields_to_remove: Vec::new() };
        let Idempotent { call, parse } = update(5, &wanted);
        assert_eq!(
            call.body.unwrap(),
            r#"{"job_id":5,"new_settings":{"tasks":[{"task_key":"x","odd":{"value":1.0}}]}}"#
        );
        assert!(parse(&answer("{}")).is_ok() && parse(&answer("<html>")).is_err());
        wanted.fields_to_remove.push("schedule".to_owned());
        let body = update(5, &wanted).call.body.unwrap();
        assert!(body.ends_with(br#","fields_to_remove":["schedule"]}"#));
        assert_eq!(delete(5).call.body.unwrap(), r#"{"job_id":5}"#);
    }
}
