//! dbt Cloud.

use serde_json::{Value, json};

use super::{Bench, RUNS};

const NIGHTLY: i64 = 222_222;
const BROKEN: i64 = 222_223;
const PLAIN: i64 = 300_010;

fn cause(text: &str) -> Value {
    json!({ "cause": text })
}

fn refused(bench: &mut Bench, body: &Value) -> Value {
    let (status, answer) = bench.call("POST", "/api/v2/accounts/51234/jobs/222222/run/", body);
    assert_eq!(status, 400, "{body}: {answer}");
    answer["data"].clone()
}

fn listed(bench: &mut Bench, query: &str) -> Vec<i64> {
    let page = bench.get(&format!("{RUNS}?{query}"));
    page["data"].as_array().expect("rows").iter().map(|row| row["id"].as_i64().expect("an id")).collect()
}

#[test]
fn the_first_run_is_the_guides_and_goes_through_every_status() {
    let mut bench = Bench::new();
    let run = bench.trigger(NIGHTLY, &cause("Triggered by Databricks Workflows."));
    assert_eq!(run, 123_456);
    let statuses: Vec<i64> =
        [0, 10, 19, 11, 199, 1].into_iter().map(|seconds| bench.wait(seconds).status(run)).collect();
    assert_eq!(statuses, [1, 2, 2, 3, 3, 10]);
    let over = bench.run(run);
    assert_eq!(over["run_duration"], "00:03:30");
    assert_eq!(over["href"], "https://sandbox.invalid/deploy/51234/projects/4101/runs/123456/");
    let names: Vec<&str> = over["run_steps"]
        .as_array()
        .expect("steps")
        .iter()
        .rev()
        .map(|step| step["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(
        names,
        [
            "Clone git repository",
            "Create profile from connection Databricks",
            "Invoke dbt with `dbt deps`",
            "Invoke dbt with `dbt build`"
        ]
    );
}

#[test]
fn the_answer_to_a_trigger_is_the_envelope_with_run_and_trigger() {
    let mut bench = Bench::new();
    let body = json!({ "cause": "c", "git_branch": "b", "steps_override": ["dbt run"], "threads_override": null, "account_id": 51234, "fancy": 1 });
    let answer = bench.post("/api/v2/accounts/51234/jobs/222222/run?account_id=51234", &body);
    assert_eq!(answer["status"]["code"], 200);
    let trigger = &answer["data"]["trigger"];
    assert_eq!((&trigger["cause"], &trigger["cause_category"]), (&json!("c"), &json!("api")));
    assert_eq!(
        (&trigger["git_branch"], &trigger["steps_override"], &trigger["threads_override"]),
        (&json!("b"), &json!(["dbt run"]), &Value::Null)
    );
    assert_eq!(answer["data"]["run_steps"], json!([]));
}

#[test]
fn a_trigger_without_cause_or_with_empty_or_wrong_overrides_is_refused_in_data() {
    let mut bench = Bench::new();
    for (body, field) in [
        (json!({}), "cause"),
        (cause(""), "cause"),
        (json!({ "cause": 7 }), "cause"),
        (cause(&"x".repeat(256)), "cause"),
        (json!({ "cause": "c", "git_branch": "" }), "git_branch"),
        (json!({ "cause": "c", "steps_override": [""] }), "steps_override"),
        (json!({ "cause": "c", "steps_override": "dbt run" }), "steps_override"),
        (json!({ "cause": "c", "threads_override": "4" }), "threads_override"),
        (json!({ "cause": "c", "generate_docs_override": 1 }), "generate_docs_override"),
    ] {
        assert!(refused(&mut bench, &body).get(field).is_some(), "{body}");
    }
    let before = bench.world.inspect()["dbt_runs"].as_array().map(Vec::len);
    bench.trigger(NIGHTLY, &cause(&"x".repeat(255)));
    assert_eq!(bench.world.inspect()["dbt_runs"].as_array().map(Vec::len), before.map(|count| count + 1));
}

#[test]
fn an_unknown_query_parameter_is_refused_by_name() {
    let mut bench = Bench::new();
    let (status, body) = bench.call("GET", &format!("{RUNS}?job_id=1"), &Value::Null);
    assert_eq!(status, 400);
    assert_eq!(body["status"]["user_message"], "Additional properties are not allowed ('job_id' was unexpected)");
}

#[test]
fn rows_lack_their_trigger_unless_it_is_asked_for_in_one_of_three_encodings() {
    let mut bench = Bench::new();
    bench.trigger(PLAIN, &cause("[dbtrigger:k]"));
    let path = format!("{RUNS}?job_definition_id={PLAIN}");
    assert_eq!(bench.get(&path)["data"][0]["trigger"], Value::Null);
    for encoded in [
        "include_related=%5B%22trigger%22%5D",
        "include_related=trigger,job",
        "include_related=job&include_related=trigger",
    ] {
        let row = bench.get(&format!("{path}&{encoded}"))["data"][0].clone();
        assert_eq!(row["trigger"]["cause"], "[dbtrigger:k]", "{encoded}");
    }
    assert_eq!(bench.call("GET", &format!("{path}&include_related=nonsense"), &Value::Null).0, 400);
}

#[test]
fn lists_are_ascending_by_id_unless_asked_and_bounded_as_asked() {
    let mut bench = Bench::new();
    let made: Vec<i64> = (0..3).map(|_| bench.wait(60).trigger(PLAIN, &cause("c"))).collect();
    let job = format!("job_definition_id={PLAIN}");
    assert_eq!(listed(&mut bench, &job), made);
    assert_eq!(listed(&mut bench, &format!("{job}&order_by=-id&limit=1")), [made[2]]);
    assert_eq!(listed(&mut bench, &format!("{job}&id__gt={}", made[1])), [made[2]]);
    assert_eq!(listed(&mut bench, &format!("{job}&status__in=%5B1%5D")), [made[2]]);
    assert_eq!(listed(&mut bench, &format!("{job}&status__in=2&status__in=3")), [made[1]]);
    assert_eq!(listed(&mut bench, &format!("{job}&offset=1&limit=1")), [made[1]]);
    let range = "created_at__range=%5B%222026-09-21T14:14:00Z%22,%222026-09-21%2014:15:30%2B00:00%22%5D";
    assert_eq!(listed(&mut bench, &format!("{job}&{range}")).len(), 2);
    for wrong in ["limit=101", "limit=0", "order_by=fancy", "created_at__range=2026,2027", "id__gt=x"] {
        assert_eq!(bench.call("GET", &format!("{RUNS}?{wrong}"), &Value::Null).0, 400, "{wrong}");
    }
}

#[test]
fn jobs_need_pages_and_are_found_by_part_of_their_name() {
    let mut bench = Bench::new();
    let page = bench.get("/api/v2/accounts/51234/jobs/");
    assert_eq!(page["extra"]["pagination"], json!({ "count": 100, "total_count": 125 }));
    let rest = bench.get("/api/v2/accounts/51234/jobs/?offset=100");
    assert_eq!(rest["data"].as_array().map(Vec::len), Some(25));
    let found = bench.get("/api/v2/accounts/51234/jobs/?name__icontains=NIGHTLY");
    assert_eq!(found["data"][0]["id"], NIGHTLY);
    assert_eq!(found["data"][0]["triggers"]["schedule"], true);
    let one = bench.get("/api/v2/accounts/51234/jobs/222222?include_related=%5B%22most_recent_run%22%5D");
    assert_eq!(one["data"]["most_recent_run"]["status"], 10);
    assert_eq!(bench.get("/api/v3/accounts/")["data"][0]["id"], 51234);
}

#[test]
fn runs_of_one_job_never_overlap_and_say_what_they_wait_for() {
    let mut bench = Bench::new();
    let first = bench.trigger(PLAIN, &cause("a"));
    let second = bench.trigger(PLAIN, &cause("b"));
    let other = bench.trigger(PLAIN + 1, &cause("c"));
    bench.wait(45);
    assert_eq!((bench.status(first), bench.status(second), bench.status(other)), (3, 1, 3));
    assert_eq!(bench.run(second)["blocked_by"], json!([first]));
    bench.wait(46);
    assert_eq!((bench.status(first), bench.status(second)), (10, 2));
    assert_eq!(bench.run(second)["blocked_by"], json!([]));
    // No request for an hour, but each change still has its own time.
    assert_eq!(bench.wait(3600).run(second)["run_duration"], "00:01:00");
}

#[test]
fn runs_of_pull_requests_overlap() {
    let mut bench = Bench::new();
    bench.trigger(PLAIN, &cause("a"));
    let second = bench.trigger(PLAIN, &json!({ "cause": "b", "github_pull_request_id": 7 }));
    assert_eq!(bench.wait(45).status(second), 3);
}

#[test]
fn a_queued_run_is_cancelled_at_once_and_a_running_one_a_little_later() {
    let mut bench = Bench::new();
    let first = bench.trigger(PLAIN, &cause("a"));
    let second = bench.trigger(PLAIN, &cause("b"));
    bench.wait(45);
    let answer = bench.post(&format!("{RUNS}{second}/cancel"), &Value::Null);
    assert_eq!(answer["data"]["status"], 30);
    assert!(answer["data"]["finished_at"].is_string());
    assert_eq!(bench.post(&format!("{RUNS}{first}/cancel/"), &Value::Null)["data"]["status"], 3);
    let over = bench.wait(9).run(first);
    assert_eq!((&over["status"], &over["status_message"]), (&json!(30), &json!("Cancelled by user.")));
    assert_eq!(bench.call("POST", &format!("{RUNS}{first}/cancel/"), &Value::Null).0, 400);
    let inspected = bench.world.inspect();
    let worked: Vec<&Value> = inspected["dbt_runs"]
        .as_array()
        .expect("runs")
        .iter()
        .filter(|run| run["seeded"] == false)
        .map(|run| &run["worked"])
        .collect();
    assert_eq!(worked, [true, false]);
}

#[test]
fn a_run_over_its_time_limit_ends_as_cancelled() {
    let mut bench = Bench::new();
    let run = bench.trigger(NIGHTLY, &json!({ "cause": "c", "timeout_seconds_override": 60 }));
    let over = bench.wait(91).run(run);
    assert_eq!(over["status"], 30);
    assert!(
        over["status_message"].as_str().is_some_and(|text| text.starts_with("This run timed out after running for"))
    );
    assert_eq!(over["retry_not_supported_reason"], "RETRY_NOT_FAILED_RUN");
}

#[test]
fn somebody_else_cancels_and_a_long_queue_names_what_it_waits_for() {
    let mut bench = Bench::new();
    let elsewhere = bench.trigger(222_224, &cause("c"));
    let waiting = bench.trigger(222_225, &cause("c"));
    bench.wait(600);
    assert_eq!(bench.status(elsewhere), 30);
    let row = bench.run(waiting);
    assert_eq!((&row["status"], &row["blocked_by"]), (&json!(1), &json!([123_450])));
    assert_eq!(bench.status(123_450), 3);
    assert_eq!(bench.wait(640).status(waiting), 3);
    let audit = bench.get(&format!("{RUNS}{elsewhere}/?include_related=audit"));
    assert_eq!(audit["data"]["audit"]["cancellation"]["actor"]["type"], "user");
}

#[test]
fn a_fresh_run_may_be_hidden_from_lists_and_from_reading() {
    let mut bench = Bench::new();
    bench.world.set_listing_lag(30_000);
    bench.world.set_fresh_404(5_000);
    let run = bench.trigger(PLAIN, &cause("c"));
    let job = format!("job_definition_id={PLAIN}");
    assert_eq!(bench.call("GET", &format!("{RUNS}{run}/"), &Value::Null).0, 404);
    assert_eq!(bench.wait(5).status(run), 1);
    assert!(listed(bench.wait(24), &job).is_empty());
    assert_eq!(listed(bench.wait(1), &job), [run]);
}

#[test]
fn times_of_runs_have_a_space_and_times_of_jobs_do_not() {
    let mut bench = Bench::new();
    let run = bench.trigger(PLAIN, &cause("c"));
    assert_eq!(bench.run(run)["created_at"], "2026-09-21 14:13:20.000000+00:00");
    let job = bench.get("/api/v2/accounts/51234/jobs/222222/");
    assert!(job["data"]["created_at"].as_str().is_some_and(|text| text.contains('T') && text.ends_with('Z')));
}

#[test]
fn a_failed_run_shows_its_step_and_its_results_by_step_after_the_upload() {
    let mut bench = Bench::new();
    let run = bench.trigger(BROKEN, &cause("why"));
    let over = bench.wait(150).run(run);
    assert_eq!((&over["status"], &over["can_retry"]), (&json!(20), &json!(true)));
    let failed = over["run_steps"]
        .as_array()
        .expect("steps")
        .iter()
        .find(|step| step["status"] == 20)
        .expect("a failed step")
        .clone();
    assert_eq!(
        (&failed["index"], &failed["name"], &failed["logs"]),
        (&json!(4), &json!("Invoke dbt with `dbt build`"), &Value::Null)
    );
    assert_eq!(over["run_steps"][0]["status_humanized"], "Skipped");
    let path = format!("{RUNS}{run}/artifacts/run_results.json");
    assert_eq!(bench.call("GET", &format!("{path}?step=4"), &Value::Null).0, 404);
    assert!(bench.wait(5).run(run)["run_steps"][1]["logs"].as_str().is_some_and(|log| log.contains("Database Error")));
    assert_eq!(bench.call("GET", &format!("{path}?step=5"), &Value::Null).0, 404, "the docs step was skipped");
    let results = bench.get(&format!("{path}?step=4"));
    assert_eq!(bench.get(&path), results, "without a step it is the last one that ran");
    let statuses: Vec<&str> = results["results"]
        .as_array()
        .expect("results")
        .iter()
        .map(|node| node["status"].as_str().expect("a status"))
        .collect();
    assert_eq!(statuses, ["success", "success", "error", "fail", "pass", "skipped"]);
    assert_eq!(results["metadata"]["env"]["DBT_CLOUD_RUN_REASON"], "why");
    assert_eq!(bench.get(&format!("{RUNS}{run}/artifacts/"))["data"], json!(["manifest.json", "run_results.json"]));
}

#[test]
fn only_the_latest_failed_run_is_retried_and_carries_what_it_resumes() {
    let mut bench = Bench::new();
    let run = bench.trigger(222_226, &json!({ "cause": "[dbtrigger:k]", "git_branch": "b" }));
    let retry = format!("{RUNS}{run}/retry/");
    let (status, body) = bench.call("POST", &retry, &Value::Null);
    assert_eq!((status, &body["data"]["retry_not_supported_reason"]), (400, &json!("RETRY_NOT_FAILED_RUN")));
    bench.wait(200);
    let resumed = bench.post(&retry, &Value::Null)["data"].clone();
    assert_eq!((&resumed["retrying_run_id"], &resumed["trigger"]["cause_category"]), (&json!(run), &json!("rerun")));
    assert_eq!(
        (&resumed["trigger"]["cause"], &resumed["trigger"]["git_branch"]),
        (&json!("[dbtrigger:k]"), &json!("b"))
    );
    let (_, again) = bench.call("POST", &retry, &Value::Null);
    assert_eq!(again["data"]["retry_not_supported_reason"], "RETRY_NOT_LATEST_RUN");
    assert_eq!(bench.wait(200).status(resumed["id"].as_i64().expect("an id")), 10);
    // The last run succeeded, so rerun starts a new one without overrides.
    let new = bench.post("/api/v2/accounts/51234/jobs/222226/rerun/", &Value::Null)["data"].clone();
    assert_eq!((&new["retrying_run_id"], &new["trigger"]["git_branch"]), (&Value::Null, &Value::Null));
}

#[test]
fn too_many_requests_cool_the_account_down_for_five_minutes() {
    let mut bench = Bench::new();
    bench.world.set_dbt_rate_limit(3);
    let path = "/api/v2/accounts/51234/";
    let statuses: Vec<u16> = [0, 0, 0, 0, 240, 61]
        .into_iter()
        .map(|seconds| bench.wait(seconds).call("GET", path, &Value::Null).0)
        .collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429, 200]);
}

#[test]
fn projects_and_their_environments_are_listed_by_the_newer_api() {
    let mut bench = Bench::new();
    let names = |page: &Value| -> Vec<String> {
        page["data"]
            .as_array()
            .expect("rows")
            .iter()
            .map(|row| row["name"].as_str().expect("a name").to_owned())
            .collect()
    };
    let projects = bench.get("/api/v3/accounts/51234/projects/?limit=1&offset=1");
    assert_eq!(names(&projects), ["Finance"]);
    assert_eq!(projects["extra"]["pagination"], json!({ "count": 1, "total_count": 2 }));
    assert_eq!(names(&bench.get("/api/v3/accounts/51234/projects/?name__icontains=JAFFLE")), ["Jaffle Shop"]);
    let environments = bench.get("/api/v3/accounts/51234/projects/4102/environments/?deployment_type=production");
    assert_eq!((names(&environments), &environments["data"][0]["id"]), (vec!["Production".to_owned()], &json!(41021)));
    for path in ["/api/v3/accounts/51234/projects/99/environments/", "/api/v3/accounts/51234/projects/?colour=red"] {
        let (status, answer) = bench.call("GET", path, &Value::Null);
        assert!(status == 404 || status == 400, "{path}: {answer}");
    }
}

#[test]
fn the_lesser_routes_show_the_same_projects_environments_steps_and_artifacts() {
    let mut bench = Bench::new();
    let (v2, v3) = ("/api/v2/accounts/51234", "/api/v3/accounts/51234");
    assert_eq!(bench.get(&format!("{v2}/projects/"))["data"], bench.get(&format!("{v3}/projects/"))["data"]);
    assert_eq!(bench.get(&format!("{v3}/projects/4102"))["data"]["name"], "Finance");
    let all = bench.get(&format!("{v2}/environments/"))["data"].clone();
    assert_eq!(all.as_array().map(Vec::len), Some(2), "{all}");
    let some = bench.get(&format!("{v2}/environments/?project_id=4102"))["data"].clone();
    let one = bench.get(&format!("{v3}/projects/4102/environments/41021/"))["data"].clone();
    assert_eq!(some, json!([one]));
    let run = bench.trigger(NIGHTLY, &cause("x"));
    bench.wait(600);
    let step = bench.run(run)["run_steps"][0].clone();
    let alone = bench.get(&format!("{v2}/steps/{}/", step["id"]))["data"].clone();
    assert_eq!((&alone["name"], &alone["status"]), (&step["name"], &step["status"]));
    let newest = bench.get(&format!("{v2}/jobs/222222/artifacts/run_results.json"));
    assert_eq!(newest["metadata"]["env"]["DBT_CLOUD_RUN_ID"], run.to_string());
    assert!(bench.get("/api/v2/whoami/")["data"]["user"]["id"].is_i64());
    for absent in [
        format!("{v3}/projects/1/"),
        format!("{v3}/projects/4101/environments/41021/"),
        format!("{v2}/steps/1/"),
        format!("{v2}/jobs/222222/artifacts/sources.json"),
    ] {
        assert_eq!(bench.call("GET", &absent, &Value::Null).0, 404, "{absent}");
    }
}

#[test]
fn jobs_are_made_changed_and_deleted_and_keep_what_was_written() {
    let mut bench = Bench::new();
    let jobs = "/api/v2/accounts/51234/jobs/";
    // The fields that Dagster sends.
    let least = json!({ "account_id": 51234, "project_id": 4101, "environment_id": 41011, "name": "New", "description": "d", "job_type": "other" });
    let made = bench.post(jobs, &least)["data"].clone();
    let id = made["id"].as_i64().expect("an id");
    assert_eq!((&made["name"], &made["execution"]["timeout_seconds"]), (&json!("New"), &json!(0)));
    // Some clients send back everything they read, with changes.
    let mut whole = made.clone();
    whole["execute_steps"] = json!(["dbt seed", "dbt build"]);
    whole["settings"] = json!({ "threads": 8 });
    whole["triggers"]["schedule"] = json!(true);
    let path = format!("{jobs}{id}/");
    bench.post(&path, &whole);
    let seen = bench.get(&path)["data"].clone();
    assert_eq!(seen["settings"], json!({ "threads": 8, "target_name": "default" }));
    assert_eq!((&seen["triggers"]["schedule"], &seen["execute_steps"][0]), (&json!(true), &json!("dbt seed")));
    let run = bench.post(&format!("{path}run/"), &json!({ "cause": "x" }))["data"].clone();
    assert_eq!(run["job"]["triggers"]["schedule"], true);
    let names: Vec<Value> = bench.wait(400).run(run["id"].as_i64().expect("an id"))["run_steps"]
        .as_array()
        .map(|steps| steps.iter().map(|step| step["name"].clone()).collect())
        .unwrap_or_default();
    assert!(names.contains(&json!("Invoke dbt with `dbt seed`")), "{names:?}");
    for (field, value) in [
        ("name", json!("")),
        ("name", json!(1)),
        ("environment_id", json!(41021)),
        ("account_id", json!(1)),
        ("triggers", json!("often")),
    ] {
        let mut wrong = least.clone();
        wrong[field] = value.clone();
        assert_eq!(bench.call("POST", jobs, &wrong).0, 400, "{field} {value}");
    }
    for field in ["name", "project_id", "environment_id"] {
        let mut less = least.clone();
        less[field] = Value::Null;
        let (status, refused) = bench.call("POST", jobs, &less);
        assert!(status == 400 && refused.to_string().contains("is a required property"), "{field}: {refused}");
    }
    assert_eq!(bench.call("POST", "/api/v2/accounts/1/jobs/", &least).0, 403);
    // A job can be deleted by setting its state and with DELETE.
    let other = bench.post(jobs, &least)["data"]["id"].as_i64().expect("an id");
    let mut ended = least.clone();
    ended["state"] = json!(2);
    bench.post(&format!("{jobs}{other}/"), &ended);
    assert_eq!(bench.call("GET", &format!("{jobs}{other}/"), &Value::Null).0, 404);
    assert_eq!(bench.call("DELETE", &path, &Value::Null).1["data"]["state"], 2);
    assert_eq!(bench.call("GET", &path, &Value::Null).0, 404);
    assert_eq!(bench.call("DELETE", &path, &Value::Null).0, 404);
}

#[test]
fn what_clients_read_beside_jobs_is_there_and_what_dbt_can_and_this_cannot_is_not_called_forbidden() {
    let mut bench = Bench::new();
    for (path, field, value) in [
        ("v2/accounts/51234/projects/4101/", "name", json!("Jaffle Shop")),
        ("v2/accounts/51234/environments/41011/", "project_id", json!(4101)),
    ] {
        assert_eq!(bench.get(&format!("/api/{path}"))["data"][field], value, "{path}");
    }
    let environments = bench.get("/api/v3/accounts/51234/environments/?project_id=4102");
    assert_eq!(environments["data"][0]["id"], 41021);
    let variables = "/api/v3/accounts/51234/projects/4101/environment-variables/job/?job_definition_id=";
    assert_eq!(bench.get(&format!("{variables}222222"))["data"], json!({}));
    assert_eq!(bench.call("GET", &format!("{variables}1"), &Value::Null).0, 404);
    assert_eq!(bench.call("POST", "/api/v3/accounts/51234/projects/", &json!({ "name": "x" })).0, 501);
    assert_eq!(bench.call("DELETE", "/api/v2/accounts/51234/runs/1/", &Value::Null).0, 405);
}
