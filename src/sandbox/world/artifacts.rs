//! Artifacts of dbt Cloud runs, such as `run_results.json`, per step.

use serde_json::{Value, json};

use super::World;
use super::answers::{HandlerResult, ServiceError, dbt_data, plain};
use super::call::Call;
use super::dbt::plain_time;
use super::dbt_jobs::DBT_VERSION;
use super::dbt_runs::{DbtRun, Step};

/// Nodes of the sandbox's dbt project, in execution order.
const NODES: &[&str] = &[
    "model.jaffle_shop.stg_customers",
    "model.jaffle_shop.stg_orders",
    "model.jaffle_shop.orders",
    "test.jaffle_shop.unique_stg_orders_order_id.e3b841c71a",
    "test.jaffle_shop.not_null_stg_customers_customer_id.e2cfb1f9aa",
    "model.jaffle_shop.customer_report",
];

/// Returns status, message and failures of a node in a failing build.
fn failure(node: &str) -> Option<(&'static str, &'static str, Value)> {
    match node {
        "model.jaffle_shop.orders" => Some((
            "error",
            "Database Error in model orders (models/marts/orders.sql)\n  [UNRESOLVED_COLUMN.WITH_SUGGESTION] A column, variable, or function parameter with name `amout` cannot be resolved. Did you mean one of the following? [`amount`, `status`].\n  compiled code at target/run/jaffle_shop/models/marts/orders.sql",
            Value::Null,
        )),
        "test.jaffle_shop.unique_stg_orders_order_id.e3b841c71a" => {
            Some(("fail", "Got 3 results, configured to fail if != 0", json!(3)))
        }
        "model.jaffle_shop.customer_report" => Some(("skipped", "Skipping due to failed upstream nodes", Value::Null)),
        _ => None,
    }
}

/// Returns the dbt subcommand: `build` of `dbt build --select x`.
fn which(step: &Step) -> Option<&str> {
    let mut words = step.command.as_deref()?.split_whitespace().skip(1).filter(|word| !word.starts_with('-'));
    words.next()
}

fn run_results(world: &World, run: &DbtRun, index: usize) -> Option<Value> {
    let step = run.steps.get(index)?;
    let verb = which(step)?;
    let (begin, end) = run.step_times().get(index).copied().flatten()?;
    let nodes: Vec<&str> = match verb {
        "build" | "retry" => NODES.to_vec(),
        "run" | "seed" | "snapshot" | "compile" | "docs" => {
            NODES.iter().copied().filter(|node| node.starts_with("model.")).collect()
        }
        "test" => NODES.iter().copied().filter(|node| node.starts_with("test.")).collect(),
        _ => return None,
    };
    let failing = run.failing_step() == Some(index);
    let results: Vec<Value> = nodes
        .iter()
        .map(|node| {
            let test = node.starts_with("test.");
            let good = if test { ("pass", Value::Null, json!(0)) } else { ("success", json!("OK"), Value::Null) };
            let (status, message, failures) = failure(node).filter(|_| failing).map_or(good, |(status, message, failures)| (status, json!(message), failures));
            let name = node.split('.').nth(2).unwrap_or_default();
            json!({
                "status": status, "timing": [
                    { "name": "compile", "started_at": plain_time(begin), "completed_at": plain_time(begin + 100) },
                    { "name": "execute", "started_at": plain_time(begin + 100), "completed_at": plain_time(begin + 1300) },
                ],
                "thread_id": "Thread-1 (worker)", "execution_time": if status == "skipped" { 0.0 } else { 1.2 },
                "adapter_response": {}, "message": message, "failures": failures, "unique_id": node,
                "compiled": status != "skipped", "compiled_code": format!("select * from {name}_source"),
                "relation_name": if test { Value::Null } else { json!(format!("`main`.`analytics`.`{name}`")) }, "batch_results": null,
            })
        })
        .collect();
    let elapsed = (end - begin) / 1000;
    Some(json!({
        "metadata": {
            "dbt_schema_version": "https://schemas.getdbt.com/dbt/run-results/v6.json", "dbt_version": DBT_VERSION,
            "generated_at": plain_time(end), "invocation_id": format!("00000000-0000-4000-8000-{:012}", run.id * 100 + i64::try_from(index).unwrap_or(0)),
            "env": { "DBT_CLOUD_RUN_ID": run.id.to_string(), "DBT_CLOUD_JOB_ID": run.job.to_string(), "DBT_CLOUD_PROJECT_ID": run.project.to_string(),
                     "DBT_CLOUD_RUN_REASON": run.trigger.get("cause"), "DBT_CLOUD_ACCOUNT_ID": super::dbt::ACCOUNT.to_string() },
        },
        "elapsed_time": elapsed, "args": { "which": if verb == "docs" { "generate" } else { verb }, "target": "prod", "origin": world.origin },
        "results": results,
    }))
}

/// Returns a file of one step, if the step produced it.
fn file(world: &World, run: &DbtRun, index: usize, path: &str) -> Option<Value> {
    if let Some(scripted) = world.dbt.scripted.get(&run.job) {
        return scripted.files.get(&(index + 1).to_string())?.get(path).cloned();
    }
    let results = run_results(world, run, index)?;
    match path {
        "run_results.json" => Some(results),
        "manifest.json" => Some(json!({
            "metadata": { "dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json", "dbt_version": DBT_VERSION, "project_name": "jaffle_shop" },
            "nodes": NODES.iter().map(|node| ((*node).to_owned(), json!({ "unique_id": node }))).collect::<serde_json::Map<_, _>>(),
        })),
        "catalog.json" if run.steps.get(index).and_then(which) == Some("docs") => Some(
            json!({ "metadata": { "dbt_schema_version": "https://schemas.getdbt.com/dbt/catalog/v1.json" }, "nodes": {}, "sources": {} }),
        ),
        _ => None,
    }
}

/// Returns the number of steps of a run.
fn steps(world: &World, run: &DbtRun) -> usize {
    let scripted = world.dbt.scripted.get(&run.job).and_then(|scripted| scripted.run.get("run_steps")?.as_array());
    scripted.map_or(run.steps.len(), Vec::len)
}

/// Returns the number of the last step that ran. That dbt uses it if later steps never ran is not documented.
fn last_ran(world: &World, run: &DbtRun) -> usize {
    if world.dbt.scripted.contains_key(&run.job) {
        return steps(world, run);
    }
    run.step_times().iter().rposition(Option::is_some).map_or(0, |last| last + 1)
}

/// `GET runs/{R}/artifacts/`: artifacts of the whole run; `step` is ignored.
pub(super) fn list(world: &mut World, call: &Call) -> HandlerResult {
    let run = world.dbt_run(call)?;
    call.check_query(&["step"])?;
    if !world.has_artifacts(run) {
        return Ok(dbt_data(&Value::Null));
    }
    let made = |path: &&str| (0..steps(world, run)).any(|index| file(world, run, index, path).is_some());
    let paths: Vec<&str> = ["manifest.json", "run_results.json", "catalog.json"].into_iter().filter(made).collect();
    Ok(dbt_data(&json!(paths)))
}

/// `GET runs/{R}/artifacts/{path}?step=N`: by default of the last step. 404 before the upload and for files the
/// step did not produce.
pub(super) fn get(world: &mut World, call: &Call) -> HandlerResult {
    let run = world.dbt_run(call)?;
    call.check_query(&["step"])?;
    let step = match call.dbt_number("step")? {
        None => last_ran(world, run),
        Some(step) => usize::try_from(step).unwrap_or(0),
    };
    let path = call.path_params.get(2).map(String::as_str).unwrap_or_default();
    if !world.has_artifacts(run) || step == 0 {
        return Err(ServiceError::dbt_not_found());
    }
    match file(world, run, step - 1, path) {
        Some(file) => Ok(plain(200, "application/json", file.to_string())),
        None => Err(ServiceError::dbt_not_found()),
    }
}

/// `GET jobs/{J}/artifacts/{path}`: the newest of any run of the job.
pub(super) fn of_the_job(world: &mut World, call: &Call) -> HandlerResult {
    let job = world.dbt_job(call)?.id;
    call.check_query(&[])?;
    let path = call.path_params.get(2).map(String::as_str).unwrap_or_default();
    let runs = world.dbt.runs.iter().rev().filter(|run| run.job == job && world.has_artifacts(run));
    let mut newest = runs.flat_map(|run| (0..run.steps.len()).rev().map(move |index| (run, index)));
    let file = newest.find_map(|(run, index)| file(world, run, index, path));
    file.map(|file| plain(200, "application/json", file.to_string())).ok_or_else(ServiceError::dbt_not_found)
}
