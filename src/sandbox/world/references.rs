//! Dynamic value references in parameters: plain substitution, no expressions.

use jiff::tz::TimeZone;

use super::people::WORKSPACE_ID;
use crate::sandbox::SimTime;

/// The values of all references for one attempt of a task.
pub(super) struct ReferenceValues<'a> {
    pub(super) job_id: i64,
    pub(super) job_name: &'a str,
    pub(super) run_id: i64,
    pub(super) started: SimTime,
    pub(super) task_key: &'a str,
    pub(super) task_run_id: i64,
    /// 0 for the first attempt.
    pub(super) attempt: i64,
    /// How often the run has been repaired.
    pub(super) repairs: usize,
    pub(super) notebook_path: &'a str,
    pub(super) origin: &'a str,
    /// Job parameters as (name, value).
    pub(super) parameters: &'a [(String, String)],
    /// Looks up `T.run_id`, `T.result_state` and `T.values.K` of other tasks.
    pub(super) others: &'a dyn Fn(&str, &str) -> Option<String>,
}

const NAMESPACES: [&str; 4] = ["job.", "task.", "tasks.", "workspace."];

/// Splits a text into literal parts (`Ok`) and references with their braces (`Err`).
fn parts(text: &str) -> Vec<Result<&str, &str>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let Some(length) = rest[start..].find("}}") else {
            break;
        };
        parts.push(Ok(&rest[..start]));
        parts.push(Err(&rest[start..start + length + 2]));
        rest = &rest[start + length + 2..];
    }
    parts.push(Ok(rest));
    parts
}

fn inside(reference: &str) -> &str {
    reference.trim_start_matches('{').trim_end_matches('}').trim()
}

/// Replaces known references; unknown ones are left unchanged.
pub(super) fn substituted(text: &str, values: &ReferenceValues<'_>) -> String {
    let shown = parts(text).into_iter().map(|part| match part {
        Ok(literal) => literal.to_owned(),
        Err(reference) => value(inside(reference), values).unwrap_or_else(|| reference.to_owned()),
    });
    shown.collect()
}

fn value(name: &str, values: &ReferenceValues<'_>) -> Option<String> {
    if let Some(part) = name.strip_prefix("job.start_time.") {
        return time(part, values.started);
    }
    if let Some(parameter) = name.strip_prefix("job.parameters.") {
        let parameter = parameter.trim_matches('`');
        return values.parameters.iter().find(|(known, _)| known == parameter).map(|(_, value)| value.clone());
    }
    if let Some((task, rest)) = name.strip_prefix("tasks.").and_then(|rest| rest.split_once('.')) {
        return (values.others)(task.trim_matches('`'), rest);
    }
    Some(match name {
        "job.id" | "job_id" => values.job_id.to_string(),
        "job.name" => values.job_name.to_owned(),
        "job.run_id" | "parent_run_id" => values.run_id.to_string(),
        "job.repair_count" => values.repairs.to_string(),
        "job.trigger.type" => "manual".to_owned(),
        "job.trigger.file_arrival.location" => String::new(),
        "task.name" | "task_key" => values.task_key.to_owned(),
        "task.run_id" | "run_id" => values.task_run_id.to_string(),
        "task.execution_count" => (values.attempt + 1).to_string(),
        "task_retry_count" => values.attempt.to_string(),
        "task.notebook_path" => values.notebook_path.to_owned(),
        "workspace.id" => WORKSPACE_ID.to_string(),
        "workspace.url" => values.origin.to_owned(),
        "start_date" => time("iso_date", values.started)?,
        _ => return None,
    })
}

fn time(part: &str, at: SimTime) -> Option<String> {
    let moment = jiff::Timestamp::from_millisecond(at.0).ok()?.to_zoned(TimeZone::UTC);
    Some(match part {
        "iso_date" => moment.strftime("%Y-%m-%d").to_string(),
        "iso_datetime" => moment.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
        "iso_weekday" => moment.weekday().to_monday_one_offset().to_string(),
        "is_weekday" => (moment.weekday().to_monday_one_offset() < 6).to_string(),
        "year" => moment.year().to_string(),
        "month" => moment.month().to_string(),
        "day" => moment.day().to_string(),
        "hour" => moment.hour().to_string(),
        "minute" => moment.minute().to_string(),
        "second" => moment.second().to_string(),
        "timestamp_ms" => at.0.to_string(),
        _ => return None,
    })
}

/// Returns the first unknown name in a known namespace, an error when a job is written. Unknown namespaces are allowed.
pub(super) fn check(text: &str, parameters: &[&str], tasks: &[&str]) -> Result<(), String> {
    let parameters: Vec<_> = parameters.iter().map(|name| ((*name).to_owned(), String::new())).collect();
    // Only whether there is a value matters.
    let values = ReferenceValues {
        job_id: 0,
        job_name: "",
        run_id: 0,
        started: SimTime(0),
        task_key: "",
        task_run_id: 0,
        attempt: 0,
        repairs: 0,
        notebook_path: "",
        origin: "",
        parameters: &parameters,
        others: &|task, _| tasks.contains(&task).then(String::new),
    };
    let is_unknown =
        |name: &str| NAMESPACES.iter().any(|space| name.starts_with(space)) && value(name, &values).is_none();
    match parts(text).into_iter().filter_map(Result::err).find(|reference| is_unknown(inside(reference))) {
        Some(unknown) => Err(unknown.to_owned()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        let parameters = [("job_id".to_owned(), "222222".to_owned())];
        let others = |task: &str, what: &str| (task == "a" && what == "values.n").then(|| "7".to_owned());
        let values = ReferenceValues {
            job_id: 1,
            job_name: "dbt",
            run_id: 2,
            started: SimTime(1_700_000_000_000),
            task_key: "b",
            task_run_id: 3,
            attempt: 1,
            repairs: 2,
            notebook_path: "/Shared/n",
            origin: "https://sandbox.invalid",
            parameters: &parameters,
            others: &others,
        };
        substituted(text, &values)
    }

    #[test]
    fn references_are_replaced_in_the_middle_of_text_and_unknown_ones_stay() {
        assert_eq!(
            read("{{workspace.id}}/{{ job.run_id }}/{{task.name}}/{{job.repair_count}}"),
            format!("{WORKSPACE_ID}/2/b/2")
        );
        assert_eq!(read("{{task.execution_count}} {{tasks.a.values.n}} {{job.parameters.job_id}}"), "2 7 222222");
        assert_eq!(read("{{job.start_time.iso_date}}"), "2023-11-14");
        assert_eq!(read("{{mystery.thing}} {{ and {unfinished"), "{{mystery.thing}} {{ and {unfinished");
    }

    #[test]
    fn an_unknown_name_in_a_known_namespace_is_refused_and_an_unknown_namespace_is_not() {
        assert_eq!(check("{{job.parameters.x}}", &["x"], &[]), Ok(()));
        assert_eq!(check("a{{job.parameters.y}}", &["x"], &[]), Err("{{job.parameters.y}}".to_owned()));
        assert_eq!(check("{{task.nonsense}}", &[], &[]), Err("{{task.nonsense}}".to_owned()));
        assert_eq!(check("{{tasks.gone.run_id}}", &[], &["here"]), Err("{{tasks.gone.run_id}}".to_owned()));
        assert_eq!(check("{{mystery.thing}} {{job_id}}", &[], &[]), Ok(()));
    }
}
