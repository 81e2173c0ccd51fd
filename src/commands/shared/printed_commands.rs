//! Commands about runs, for next steps. With the key of a start, they follow its run instead of starting another.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::credentials::{Account, AccountFlags};
use crate::dbt::{FIELDS, Field, Kind, Overrides};
use crate::text::quoted;

/// The command for a dbt job. It repeats the parameters, since the key is refused with others.
pub(crate) fn run_dbt_job(job: &str, account: &AccountFlags, overrides: &Overrides, key: Option<&str>) -> String {
    let mut words = with_account("run", job, account);
    for Field { name, kind, flag, .. } in &FIELDS {
        let Some(value) = overrides.0.get(*name) else { continue };
        match kind {
            Kind::Text | Kind::Texts => {
                let texts = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
                words.extend(texts.iter().filter_map(Value::as_str).map(|text| format!("--{flag} {}", quoted(text))));
            }
            Kind::Number => words.push(format!("--{flag} {value}")),
            Kind::Seconds => words.push(format!("--{flag} {value}s")),
            Kind::Flag => words.push(format!("--{flag}={value}")),
        }
    }
    words.extend(key.map(|key| format!("--idempotency-key {}", quoted(key))));
    words.join(" ")
}

/// A command on a dbt run. For a job given by URL it uses a URL, which may be the only source of host and account.
pub(crate) fn on_dbt_run(command: &str, run: u64, account: &Account, flags: &AccountFlags, by_address: bool) -> String {
    let run =
        if by_address { format!("{}/deploy/{}/runs/{run}/", account.origin, account.id) } else { run.to_string() };
    with_account(command, &run, flags).join(" ")
}

/// The words of a command, with the flags that say which account its object is in.
fn with_account(command: &str, object: &str, flags: &AccountFlags) -> Vec<String> {
    let AccountFlags { dbt_url, dbt_host, dbt_account } = flags;
    let mut words = vec!["dbtrigger".to_owned(), command.to_owned(), quoted(object)];
    for (flag, value) in [("--dbt-url", dbt_url), ("--dbt-host", dbt_host), ("--dbt-account", dbt_account)] {
        words.extend(value.iter().flat_map(|value| [flag.to_owned(), quoted(value)]));
    }
    words
}

/// The command that follows a run of a Databricks job.
pub(crate) fn watch_workflow_run(run: u64) -> String {
    format!("dbtrigger watch --workflow-run {run}")
}

/// The command for a Databricks job.
pub(crate) fn run_workflow(workflow: &str, parameters: &BTreeMap<String, String>, key: Option<&str>) -> String {
    let words: Vec<String> =
        parameters.iter().map(|(name, value)| format!(" --param {}", quoted(&format!("{name}={value}")))).collect();
    let parameters = words.concat();
    let key = key.map(|key| format!(" --idempotency-key {}", quoted(key))).unwrap_or_default();
    format!("dbtrigger run --workflow {}{parameters}{key}", quoted(workflow))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_carries_every_parameter_in_a_form_that_can_be_pasted() {
        let account = AccountFlags { dbt_host: Some("ab123.us1.dbt.com".into()), ..AccountFlags::default() };
        let overrides = serde_json::json!({
            "git_branch": "it's",
            "github_pull_request_id": 9_007_199_254_740_993_u64,
            "threads_override": 8,
            "generate_docs_override": false,
            "timeout_seconds_override": 600,
            "steps_override": ["dbt seed", "dbt build --select tag:nightly"],
        });
        let overrides: Overrides = serde_json::from_value(overrides).unwrap();
        assert_eq!(
            run_dbt_job("222222", &account, &overrides, Some("k")),
            r#"dbtrigger run 222222 --dbt-host ab123.us1.dbt.com --git-branch "it's" --github-pull-request-id 9007199254740993 --threads 8 --generate-docs=false --run-timeout 600s --step 'dbt seed' --step 'dbt build --select tag:nightly' --idempotency-key k"#
        );
        let parameters = BTreeMap::from([("day".to_owned(), "last monday".to_owned())]);
        assert_eq!(
            run_workflow("dbt: Nightly (1)", &parameters, Some("k")),
            "dbtrigger run --workflow 'dbt: Nightly (1)' --param 'day=last monday' --idempotency-key k"
        );
    }
}
