//! Jobs.

use serde_json::{Value, json};

use super::Bench;

const CREATE: &str = "/api/2.2/jobs/create";

fn task(key: &str) -> Value {
    json!({ "task_key": key, "notebook_task": { "notebook_path": "/Shared/n" } })
}

fn settings_of(bench: &mut Bench, job: i64) -> Value {
    bench.get(&format!("/api/2.2/jobs/get?job_id={job}"))["settings"].clone()
}

fn create(bench: &mut Bench, settings: &Value) -> i64 {
    bench.post(CREATE, settings)["job_id"].as_i64().expect("a job id")
}

#[test]
fn ids_exceed_what_floating_point_can_count() {
    let mut bench = Bench::new();
    assert!(create(&mut bench, &json!({ "tasks": [task("a")] })) > 1 << 53);
}

#[test]
fn the_service_fills_in_defaults_and_turns_the_order_of_tasks() {
    let mut bench = Bench::new();
    let mut second = task("b");
    second["depends_on"] = json!([{ "task_key": "a" }, { "task_key": "c" }]);
    let job = create(&mut bench, &json!({ "tasks": [task("a"), second, task("c")], "fancy": 1 }));
    let settings = settings_of(&mut bench, job);
    for (name, value) in [
        ("name", json!("Untitled")),
        ("format", json!("MULTI_TASK")),
        ("email_notifications", json!({})),
        ("timeout_seconds", json!(0)),
        ("max_concurrent_runs", json!(1)),
        ("queue", json!({ "enabled": true })),
        ("performance_target", json!("PERFORMANCE_OPTIMIZED")),
    ] {
        assert_eq!(settings[name], value, "{name}");
    }
    assert!(settings.get("fancy").is_none());
    let keys: Vec<&str> = settings["tasks"]
        .as_array()
        .expect("tasks")
        .iter()
        .map(|task| task["task_key"].as_str().expect("a key"))
        .collect();
    assert_eq!(keys, ["c", "b", "a"]);
    assert_eq!(settings["tasks"][1]["depends_on"], json!([{ "task_key": "c" }, { "task_key": "a" }]));
    assert_eq!(settings["tasks"][0]["run_if"], "ALL_SUCCESS");
    assert_eq!(settings["tasks"][0]["notebook_task"]["source"], "WORKSPACE");
}

#[test]
fn a_missing_job_is_400_for_get_and_403_for_reset() {
    let mut bench = Bench::new();
    let (status, body) = bench.call("GET", "/api/2.2/jobs/get?job_id=5", &Value::Null);
    assert_eq!((status, &body["error_code"]), (400, &json!("INVALID_PARAMETER_VALUE")));
    assert_eq!(body["message"], "Job 5 does not exist.");
    let reset = json!({ "job_id": 5, "new_settings": {} });
    assert_eq!(bench.refused("POST", "/api/2.2/jobs/reset", &reset), (403, "PERMISSION_DENIED".to_owned()));
    assert_eq!(bench.refused("POST", "/api/2.2/jobs/update", &reset), (400, "INVALID_PARAMETER_VALUE".to_owned()));
}

#[test]
fn names_are_not_unique_and_the_filter_is_exact_but_for_case() {
    let mut bench = Bench::new();
    for name in ["dbt", "DBT", "dbt nightly"] {
        create(&mut bench, &json!({ "name": name, "tasks": [task("a")] }));
    }
    let found = bench.get("/api/2.2/jobs/list?name=Dbt");
    assert_eq!(found["jobs"].as_array().map(Vec::len), Some(2));
    assert!(found["jobs"][0]["settings"].get("tasks").is_none());
    let expanded = bench.get("/api/2.2/jobs/list?name=dbt+nightly&expand_tasks=true");
    assert_eq!(expanded["jobs"][0]["settings"]["tasks"][0]["task_key"], "a");
}

#[test]
fn lists_come_in_pages_of_twenty_with_tokens() {
    let mut bench = Bench::new();
    for number in 0..45 {
        create(&mut bench, &json!({ "name": format!("job {number}"), "tasks": [task("a")] }));
    }
    let mut sizes = Vec::new();
    let mut path = "/api/2.2/jobs/list".to_owned();
    loop {
        let page = bench.get(&path);
        sizes.push(page["jobs"].as_array().map_or(0, Vec::len));
        match page["next_page_token"].as_str() {
            Some(token) => path = format!("/api/2.2/jobs/list?page_token={token}"),
            None => break assert_eq!(page["has_more"], false),
        }
    }
    assert_eq!(sizes, [20, 20, 5]);
    assert_eq!(bench.refused("GET", "/api/2.2/jobs/list?limit=101", &Value::Null).0, 400);
    assert_eq!(bench.refused("GET", "/api/2.2/jobs/list?page_token=x", &Value::Null).0, 400);
    assert_eq!(Bench::new().get("/api/2.2/jobs/list"), json!({ "has_more": false }));
}

#[test]
fn update_merges_tasks_by_key_and_replaces_a_matching_one_whole() {
    let mut bench = Bench::new();
    let mut first = task("a");
    first["description"] = json!("theirs");
    let job = create(&mut bench, &json!({ "name": "j", "tags": { "x": "1" }, "tasks": [first, task("b")] }));
    let new = json!({ "tags": { "y": "2" }, "tasks": [task("a"), task("c")] });
    bench.post("/api/2.2/jobs/update", &json!({ "job_id": job, "new_settings": new, "fields_to_remove": ["tasks/b"] }));
    let settings = settings_of(&mut bench, job);
    assert_eq!(settings["tags"], json!({ "y": "2" }));
    assert_eq!(settings["name"], "j");
    let tasks = settings["tasks"].as_array().expect("tasks");
    assert_eq!(tasks.iter().map(|task| &task["task_key"]).collect::<Vec<_>>(), ["c", "a"]);
    assert!(tasks[1].get("description").is_none());
}

#[test]
fn reset_replaces_everything_but_who_the_job_runs_as() {
    let mut bench = Bench::new();
    let job = create(
        &mut bench,
        &json!({ "run_as": { "user_name": "bo@example.com" }, "tags": { "x": "1" }, "tasks": [task("a"), task("b")] }),
    );
    bench.post("/api/2.1/jobs/reset", &json!({ "job_id": job, "new_settings": { "name": "n", "tasks": [task("c")] } }));
    let whole = bench.get(&format!("/api/2.1/jobs/get?job_id={job}"));
    assert_eq!(whole["settings"]["tasks"].as_array().map(Vec::len), Some(1));
    assert!(whole["settings"].get("tags").is_none());
    assert_eq!(whole["run_as_user_name"], "bo@example.com");
    assert_eq!(whole["creator_user_name"], "ana@example.com");
}

#[test]
fn a_job_of_more_than_a_hundred_tasks_is_read_in_pages_from_2_2_on() {
    let mut bench = Bench::new();
    let tasks: Vec<Value> = (0..130).map(|number| task(&format!("t{number}"))).collect();
    let job = create(&mut bench, &json!({ "tasks": tasks, "parameters": [{ "name": "p", "default": "" }] }));
    let first = bench.get(&format!("/api/2.2/jobs/get?job_id={job}"));
    assert_eq!(first["settings"]["tasks"].as_array().map(Vec::len), Some(100));
    let token = first["next_page_token"].as_str().expect("a token").to_owned();
    let second = bench.get(&format!("/api/2.2/jobs/get?job_id={job}&page_token={token}"));
    assert_eq!(second["settings"]["tasks"].as_array().map(Vec::len), Some(30));
    assert_eq!(second["settings"]["parameters"], json!([]));
    assert!(second.get("next_page_token").is_none());
    let old = bench.get(&format!("/api/2.1/jobs/get?job_id={job}"));
    assert!(old.get("next_page_token").is_none());
}

#[test]
fn what_the_jobs_service_refuses_is_refused() {
    let mut bench = Bench::new();
    let mut bad_key = task("a");
    bad_key["task_key"] = json!("a b");
    let mut relative = task("a");
    relative["notebook_task"]["notebook_path"] = json!("n");
    let mut two_kinds = task("a");
    two_kinds["run_job_task"] = json!({ "job_id": 1 });
    let mut two_computes = task("a");
    two_computes["existing_cluster_id"] = json!("x");
    two_computes["new_cluster"] = json!({});
    let mut environment = task("a");
    environment["environment_key"] = json!("default");
    let mut circle = task("a");
    circle["depends_on"] = json!([{ "task_key": "a" }]);
    let mut dangling = task("a");
    dangling["depends_on"] = json!([{ "task_key": "z" }]);
    let mut unknown = task("a");
    unknown["notebook_task"]["base_parameters"] = json!({ "x": "{{job.parameters.gone}}" });
    for tasks in [
        json!([bad_key]),
        json!([relative]),
        json!([two_kinds]),
        json!([two_computes]),
        json!([environment]),
        json!([circle]),
        json!([dangling]),
        json!([unknown]),
        json!([task("a"), task("a")]),
        json!([{ "task_key": "a" }]),
    ] {
        let body = json!({ "tasks": tasks });
        assert_eq!(bench.refused("POST", CREATE, &body), (400, "INVALID_PARAMETER_VALUE".to_owned()), "{tasks}");
    }
    let many: serde_json::Map<String, Value> = (0..26).map(|number| (format!("t{number}"), json!("x"))).collect();
    let schedule =
        |cron: &str, zone: &str| json!({ "schedule": { "quartz_cron_expression": cron, "timezone_id": zone } });
    for body in [
        json!({ "tags": many }),
        json!({ "tags": { "a": "{}" } }),
        json!({ "tags": { "": "x" } }),
        json!({ "parameters": [{ "name": "a b", "default": "" }] }),
        json!({ "parameters": [{ "name": "a" }] }),
        json!({ "name": "x".repeat(4097) }),
        json!({ "max_concurrent_runs": 1001 }),
        schedule("0 6 * * *", "UTC"),
        schedule("0 0 6 * * *", "UTC"),
        schedule("0 0 6 * * ?", "Mars/Olympus"),
    ] {
        assert_eq!(bench.refused("POST", CREATE, &body), (400, "INVALID_PARAMETER_VALUE".to_owned()), "{body}");
    }
    let mut good = schedule("0 0 6 * * ?", "Europe/Berlin");
    good["tasks"] = json!([task("a")]);
    let job = create(&mut bench, &good);
    assert_eq!(settings_of(&mut bench, job)["schedule"]["pause_status"], "UNPAUSED");
}

#[test]
fn a_job_is_written_only_by_who_may_manage_it() {
    let mut bench = Bench::new();
    let job = create(&mut bench, &json!({ "tasks": [task("a")] }));
    bench.world.add_caller("carl@example.com", "carls-token", false, &[]);
    let get = format!("/api/2.2/jobs/get?job_id={job}");
    assert_eq!(bench.call_as("carls-token", "GET", &get, &Value::Null).0, 403);
    let permissions = format!("/api/2.0/permissions/jobs/{job}");
    let grant =
        json!({ "access_control_list": [{ "user_name": "carl@example.com", "permission_level": "CAN_MANAGE_RUN" }] });
    assert_eq!(bench.call("PATCH", &permissions, &grant).0, 200);
    assert_eq!(bench.call_as("carls-token", "GET", &get, &Value::Null).0, 200);
    let update = json!({ "job_id": job, "new_settings": { "name": "x" } });
    assert_eq!(bench.call_as("carls-token", "POST", "/api/2.2/jobs/update", &update).0, 403);
    assert_eq!(bench.call_as("carls-token", "POST", "/api/2.2/jobs/run-now", &json!({ "job_id": job })).0, 200);
    assert_eq!(bench.get(&permissions)["access_control_list"][0]["all_permissions"][0]["permission_level"], "IS_OWNER");
}

#[test]
fn a_workspace_without_serverless_compute_says_so() {
    let mut bench = Bench::new();
    bench.world.set_serverless(false);
    assert_eq!(
        bench.refused("POST", CREATE, &json!({ "tasks": [task("a")] })),
        (400, "INVALID_PARAMETER_VALUE".to_owned())
    );
    let mut on_cluster = task("a");
    on_cluster["existing_cluster_id"] = json!("0101-000000-abcdefgh");
    create(&mut bench, &json!({ "tasks": [on_cluster] }));
}

#[test]
fn a_list_may_lag_behind_a_create() {
    let mut bench = Bench::new();
    bench.world.set_stale_reads(1);
    create(&mut bench, &json!({ "tasks": [task("a")] }));
    assert_eq!(bench.get("/api/2.2/jobs/list"), json!({ "has_more": false }));
    assert_eq!(bench.get("/api/2.2/jobs/list")["jobs"].as_array().map(Vec::len), Some(1));
}
