use serde_json::{Value, json};

use super::settings::{changes, whole};
use super::*;
use crate::databricks::raw::Raw;
use crate::engine::kinds::check_tasks;
use crate::engine::kinds::tests::{Cell, fields, none, with};

/// An edit to a job.
type Edit = fn(&mut Value);
type WantEdit = fn(&mut WorkflowWant);

const ID: u64 = 987_654_321_012_345_678;

fn task(job: u64) -> TaskSpec {
    TaskSpec { key: format!("dbt_{job}"), job, depends_on: Setting::Keep }
}

pub(in crate::engine::kinds) fn want() -> WorkflowWant {
    WorkflowWant {
        name: "dbt: Nightly (222222)".to_owned(),
        named: false,
        identity: Identity::of_job(51_234, 222_222),
        tasks: vec![task(222_222)],
        notebook: "/Users/ana@example.com/dbtrigger/run_dbt_job_51234".to_owned(),
        compute: Setting::Keep,
        each_task: TaskSettings::default(),
        settings: WorkflowSettings::default(),
        settle: Duration::from_mins(1),
    }
}

fn raw(value: &Value) -> Raw {
    serde_json::from_value::<Raw>(value.clone()).unwrap_or_else(|_| serde_json::from_str(&value.to_string()).unwrap())
}

fn as_value(raw: &Raw) -> Value {
    serde_json::from_str(&serde_json::to_string(raw).unwrap()).unwrap()
}

/// The settings of a newly created job.
pub(in crate::engine::kinds) fn made(want: &WorkflowWant) -> Value {
    as_value(&whole(want, None))
}

fn summary(job_id: u64, settings: &Value) -> Summary {
    Summary {
        id: job_id,
        name: settings["name"].as_str().unwrap_or_default().to_owned(),
        tags: serde_json::from_value(settings["tags"].clone()).unwrap_or_default(),
        created: None,
    }
}

fn have(want: &WorkflowWant, jobs: &[&Value]) -> WorkflowHave {
    let all = jobs.iter().enumerate().map(|(place, settings)| summary(ID + place as u64, settings));
    let (ours, namesakes): (Vec<Summary>, Vec<Summary>) = all.partition(|job| want.identity.is_of(job));
    let job_id = ours.first().or(namesakes.first()).unwrap().id;
    let settings = raw(jobs[usize::try_from(job_id - ID).unwrap()]);
    WorkflowHave { ours, namesakes, job: Job { id: job_id, run_as: None, settings }, created_job: CreatedJob::None }
}

fn diff(want: &WorkflowWant, jobs: &[&Value], consents: &Consents) -> Action {
    Workflow::diff(want, Some(&have(want, jobs)), consents)
}

fn blocked(action: &Action) -> (&str, Option<Consent>) {
    match action {
        Action::Blocked { why, unless } => (&why.what, *unless),
        Action::Keep(_) | Action::Create | Action::Update(_) | Action::Remove => panic!("{action:?}"),
    }
}

/// A job created by hand from the guide.
fn by_hand(want: &WorkflowWant) -> Value {
    json!({
        "name": want.name, "format": "MULTI_TASK", "max_concurrent_runs": 1, "email_notifications": {},
        "parameters": [{ "name": "job_id", "default": "222222" }],
        "tasks": [{ "task_key": "run_dbt", "notebook_task": { "notebook_path": "/Shared/run", "source": "WORKSPACE" },
                    "existing_cluster_id": "0101-abc", "timeout_seconds": 0 }],
    })
}

/// A job is written only where that loses no work of others.
pub(in crate::engine::kinds) fn cells() -> Vec<Cell> {
    let plain = want();
    let ours = made(&plain);
    let with_edit = |edit: Edit| {
        let mut job = ours.clone();
        edit(&mut job);
        vec![job]
    };
    let mut moved = plain.clone();
    moved.notebook = "/Shared/other".to_owned();
    let mut foreign_same = ours.clone();
    foreign_same.as_object_mut().unwrap().shift_remove("tags");
    let mut many = by_hand(&plain);
    many["tasks"].as_array_mut().unwrap().push(json!({ "task_key": "x", "sql_task": {} }));
    let bundled = |mut job: Value| {
        job["deployment"] = json!({ "kind": "BUNDLE" });
        vec![job]
    };
    let (always, force, adopt) = ("blocked always", "blocked --force", "blocked --adopt");
    let (keep, update) = ("keep", "update");
    let edited: Edit = |job| job["max_concurrent_runs"] = 5.into();
    let others: Edit = |job| job["description"] = "Owned by finance".into();
    let cells: [(&str, &WorkflowWant, Vec<Value>, [&'static str; 3]); 14] = [
        ("ours", &plain, vec![ours.clone()], [keep; 3]),
        ("ours, another flag", &moved, vec![ours.clone()], [update; 3]),
        ("ours, edited", &plain, with_edit(edited), [force, update, force]),
        ("ours, edited, another flag", &moved, with_edit(edited), [force, update, force]),
        ("ours, others' fields changed", &plain, with_edit(others), [keep; 3]),
        ("ours, of a bundle", &plain, bundled(ours.clone()), [keep; 3]),
        ("ours, of a bundle, another flag", &moved, bundled(ours.clone()), [always; 3]),
        ("ours twice", &plain, vec![ours.clone(), ours.clone()], [always; 3]),
        ("ours and a namesake", &plain, vec![ours.clone(), by_hand(&plain)], [keep; 3]),
        ("foreign", &plain, vec![by_hand(&plain)], [adopt, adopt, update]),
        ("foreign, the same", &plain, vec![foreign_same], [adopt, adopt, update]),
        ("foreign, several tasks", &plain, vec![many], [always; 3]),
        ("foreign twice", &plain, vec![by_hand(&plain), by_hand(&plain)], [always; 3]),
        ("foreign, of a bundle", &plain, bundled(by_hand(&plain)), [always; 3]),
    ];
    let mut all = vec![Cell::new("workflow, absent", "create", &Workflow::diff(&plain, None, &none()))];
    for (cell, want, jobs, due) in cells {
        let jobs: Vec<&Value> = jobs.iter().collect();
        let consents = [("", none()), ("--force", with(Consent::Force)), ("--adopt", with(Consent::Adopt))];
        for ((flag, consents), due) in consents.into_iter().zip(due) {
            all.push(Cell::new(format!("workflow, {cell} {flag}"), due, &diff(want, &jobs, &consents)));
        }
    }
    all
}

#[test]
fn a_new_job_is_as_the_guide_says_and_carries_our_tags() {
    let mut want = want();
    want.settings.schedule = Setting::Set("0 0 6 * * ?".to_owned());
    let settings = made(&want);
    assert_eq!(settings["name"], "dbt: Nightly (222222)");
    assert_eq!(settings["parameters"], json!([{ "name": "job_id", "default": "222222" }]));
    assert_eq!(
        settings["tasks"],
        json!([{
            "task_key": "dbt_222222",
            "notebook_task": {
                "notebook_path": "/Users/ana@example.com/dbtrigger/run_dbt_job_51234",
                "source": "WORKSPACE",
                "base_parameters": {
                    "dbtrigger_key": "{{workspace.id}}/{{job.run_id}}/{{task.name}}/{{job.repair_count}}",
                    "dbtrigger_attempt": "{{task.execution_count}}"
                }
            },
            "max_retries": 0,
            "disable_auto_optimization": true,
            "timeout_seconds": 87_000
        }])
    );
    assert_eq!(
        settings["schedule"],
        json!({
        "quartz_cron_expression": "0 0 6 * * ?", "timezone_id": "UTC", "pause_status": "UNPAUSED" })
    );
    assert_eq!((&settings["queue"], &settings["max_concurrent_runs"]), (&json!({ "enabled": true }), &json!(1)));
    assert_eq!(settings["tags"]["managed-by"], "dbtrigger");
    let tag = settings["tags"]["dbtrigger-id"].as_str().unwrap();
    assert!(tag.len() == 32 && tag.bytes().all(|byte| byte.is_ascii_hexdigit()), "{tag}");
}

#[test]
fn identities_differ_by_account_job_and_name() {
    let all = [
        Identity::of_job(1, 2),
        Identity::of_job(2, 1),
        Identity::of_job(12, 3),
        Identity::of_job(1, 23),
        Identity::of_name("a"),
        Identity::of_name("A"),
        Identity::of_name("dbt-account:1/job:2"),
    ];
    for (place, left) in all.iter().enumerate() {
        assert!(all.iter().skip(place + 1).all(|right| left != right), "{left:?}");
    }
}

#[test]
fn absent_it_is_created_and_as_it_should_be_it_is_kept() {
    let want = want();
    assert_eq!(Workflow::diff(&want, None, &none()), Action::Create);
    assert_eq!(diff(&want, &[&made(&want)], &none()), Action::Keep(None));
}

#[test]
fn what_the_service_fills_in_or_spells_otherwise_is_no_difference() {
    let want = want();
    let fills: [(&str, Edit); 10] = [
        ("format", |job| job["format"] = "MULTI_TASK".into()),
        ("empty notifications", |job| {
            job["email_notifications"] = json!({});
            job["webhook_notifications"] = json!({});
            job["tasks"][0]["email_notifications"] = json!({});
            job["tasks"][0]["notification_settings"] = json!({ "no_alert_for_skipped_runs": false });
        }),
        ("run_if", |job| job["tasks"][0]["run_if"] = "ALL_SUCCESS".into()),
        ("job timeout", |job| job["timeout_seconds"] = 0.into()),
        ("absent defaults", |job| {
            job.as_object_mut().unwrap().shift_remove("max_concurrent_runs");
            job.as_object_mut().unwrap().shift_remove("queue");
            job["tasks"][0].as_object_mut().unwrap().shift_remove("max_retries");
        }),
        ("absent source", |job| {
            job["tasks"][0]["notebook_task"].as_object_mut().unwrap().shift_remove("source");
        }),
        ("prefixed path", |job| {
            let path = job["tasks"][0]["notebook_task"]["notebook_path"].as_str().unwrap().to_owned();
            job["tasks"][0]["notebook_task"]["notebook_path"] = format!("/Workspace{path}").into();
        }),
        ("nulls", |job| {
            job["tasks"][0]["existing_cluster_id"] = Value::Null;
            job["tasks"][0]["notebook_task"]["warehouse_id"] = Value::Null;
            job["git_source"] = Value::Null;
        }),
        ("order of base parameters", |job| {
            let base = job["tasks"][0]["notebook_task"]["base_parameters"].as_object_mut().unwrap();
            let first = base.shift_remove("dbtrigger_key").unwrap();
            base.insert("dbtrigger_key".to_owned(), first);
        }),
        ("run_as, performance", |job| {
            job["run_as"] = json!({ "user_name": "ana@example.com" });
            job["performance_target"] = "PERFORMANCE_OPTIMIZED".into();
        }),
    ];
    for (what, fill) in fills {
        let mut job = made(&want);
        fill(&mut job);
        assert_eq!(diff(&want, &[&job], &none()), Action::Keep(None), "{what}");
    }
}

#[test]
fn what_we_do_not_manage_is_no_difference_and_survives_a_change_byte_for_byte() {
    let mut want = want();
    let mut job = made(&want);
    job["description"] = "Owned by finance".into();
    job["email_notifications"] = json!({ "on_failure": ["ops@example.com"] });
    job["tags"]["cost-center"] = "42".into();
    job["health"] = json!({ "rules": [{ "metric": "RUN_DURATION_SECONDS", "op": "GREATER_THAN", "value": 9_223_372_036_854_775_807_u64 }] });
    job["parameters"].as_array_mut().unwrap().insert(0, json!({ "name": "region", "default": "eu" }));
    job["tasks"][0]["depends_on"] = json!([{ "task_key": "load" }]);
    job["tasks"][0]["notebook_task"]["base_parameters"]["dbtrigger_timeout_minutes"] = "60".into();
    let others = json!({ "task_key": "load", "ai_thing_task": { "x": 1.0 }, "max_retries": 3 });
    job["tasks"].as_array_mut().unwrap().insert(0, others.clone());
    job["run_as"] = json!({ "service_principal_name": "0000" });
    assert_eq!(diff(&want, &[&job], &none()), Action::Keep(None));

    want.notebook = "/Shared/other".to_owned();
    let action = diff(&want, &[&job], &none());
    assert_eq!(fields(&action), ["task.notebook_task.notebook_path", "tags.dbtrigger-settings"]);
    let mut expected = job.clone();
    expected["tasks"][1]["notebook_task"]["notebook_path"] = "/Shared/other".into();
    expected.as_object_mut().unwrap().shift_remove("run_as");
    let sent = whole(&want, Some(&raw(&job)));
    expected["tags"]["dbtrigger-settings"] = as_value(&sent)["tags"]["dbtrigger-settings"].clone();
    assert_eq!(serde_json::to_string(&sent).unwrap(), expected.to_string());
    assert_eq!(diff(&want, &[&expected], &none()), Action::Keep(None));
}

#[test]
fn whom_runs_act_as_is_chosen_by_the_flag_and_never_an_edit_by_hand() {
    let (ana, id) = ("ana@example.com", "0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d11");
    let saying = |run_as: Option<&str>| {
        let mut want = want();
        want.settings.run_as = run_as.map(ToOwned::to_owned).into();
        want
    };
    let job = made(&want());
    let existing = |who: &str| {
        let mut have = have(&want(), &[&job]);
        have.job.run_as = Some(who.to_owned());
        have
    };
    for (asked, there, expected) in [
        (None, ana, None),
        (None, id, None),
        (Some(ana), ana, None),
        (Some(ana), "Ana@example.com", None),
        (Some(id), ana, Some(json!({ "service_principal_name": id }))),
        (Some(ana), id, Some(json!({ "user_name": ana }))),
    ] {
        let (want, have) = (saying(asked), existing(there));
        let action = Workflow::diff(&want, Some(&have), &none());
        let mut sent = whole(&want, Some(&have.job.settings));
        run_as::write(&want, Some(&have.job), &mut sent);
        assert_eq!(as_value(&sent).get("run_as"), expected.as_ref(), "{asked:?} {there}");
        match expected {
            None => assert_eq!(action, Action::Keep(None), "{asked:?} {there}"),
            Some(_) => assert_eq!(fields(&action), ["run_as"], "{asked:?} {there}"),
        }
        // `run_as` does not hide another edit, and someone else's job requires its own flag.
        let mut edited = job.clone();
        edited["max_concurrent_runs"] = 5.into();
        assert_eq!(blocked(&diff(&want, &[&edited], &none())).1, Some(Consent::Force));
        assert_eq!(blocked(&diff(&want, &[&by_hand(&want)], &none())).1, Some(Consent::Adopt));
    }
    let mut new = whole(&saying(Some(id)), None);
    run_as::write(&saying(Some(id)), None, &mut new);
    assert_eq!(as_value(&new)["run_as"], json!({ "service_principal_name": id }));
}

#[test]
fn a_job_of_ours_that_was_edited_is_shown_and_left_alone_unless_forced() {
    let want = want();
    let edits: [(&str, Edit); 11] = [
        ("parameters.job_id", |job| job["parameters"][0]["default"] = "999".into()),
        ("parameters.job_id", |job| job["parameters"] = json!([])),
        ("parameters.dbtrigger_job_id", |job| {
            job["parameters"].as_array_mut().unwrap().push(json!({ "name": "dbtrigger_job_id", "default": "9" }));
        }),
        ("max_concurrent_runs", |job| job["max_concurrent_runs"] = 5.into()),
        ("queue.enabled", |job| job["queue"]["enabled"] = false.into()),
        ("task.task_key", |job| job["tasks"][0]["task_key"] = "mine".into()),
        ("task.notebook_task.base_parameters.dbtrigger_key", |job| {
            job["tasks"][0]["notebook_task"]["base_parameters"]["dbtrigger_key"] = "fixed".into();
        }),
        ("task.notebook_task.base_parameters.dbtrigger_job_id", |job| {
            job["tasks"][0]["notebook_task"]["base_parameters"]["dbtrigger_job_id"] = "9".into();
        }),
        ("task.environment_key", |job| job["tasks"][0]["environment_key"] = "x".into()),
        ("task.disable_auto_optimization", |job| {
            job["tasks"][0].as_object_mut().unwrap().shift_remove("disable_auto_optimization");
        }),
        ("other dbtrigger tasks", |job| {
            let mut copy = job["tasks"][0].clone();
            copy["task_key"] = "dbt_copy".into();
            job["tasks"].as_array_mut().unwrap().push(copy);
        }),
    ];
    for (field, edit) in edits {
        let mut job = made(&want);
        edit(&mut job);
        let action = diff(&want, &[&job], &none());
        let (what, unless) = blocked(&action);
        assert!(what.contains("was edited by hand"), "{what}");
        assert_eq!(unless, Some(Consent::Force));
        let Action::Blocked { why, unless: _ } = &action else { panic!() };
        assert!(why.diff.as_ref().unwrap().contains(field), "{field}: {:?}", why.diff);
        assert_eq!(fields(&diff(&want, &[&job], &with(Consent::Force))), [field]);
        let fixed = as_value(&whole(&want, Some(&raw(&job))));
        assert_eq!(diff(&want, &[&fixed], &none()), Action::Keep(None), "{field}");
    }
}

#[test]
fn flags_that_changed_are_no_edit_by_hand() {
    let mut want = want();
    want.named = true;
    want.identity = Identity::of_name(&want.name);
    let job = made(&want);
    want.tasks = vec![task(333_333)];
    want.notebook = "/Shared/other".to_owned();
    assert_eq!(
        fields(&diff(&want, &[&job], &none())),
        ["parameters.job_id", "task.task_key", "task.notebook_task.notebook_path", "tags.dbtrigger-settings",]
    );
    let next = as_value(&whole(&want, Some(&raw(&job))));
    assert_eq!(next["tasks"].as_array().unwrap().len(), 1, "nothing of the job before is left behind");
    assert_eq!(diff(&want, &[&next], &none()), Action::Keep(None));
}

#[test]
fn a_lost_tag_is_put_back_and_a_renamed_job_keeps_its_name_unless_it_is_given() {
    let mut want = want();
    let mut job = made(&want);
    job["tags"].as_object_mut().unwrap().shift_remove("managed-by");
    job["tags"].as_object_mut().unwrap().shift_remove("dbtrigger-settings");
    job["name"] = "Renamed by hand".into();
    assert_eq!(fields(&diff(&want, &[&job], &none())), ["tags.managed-by", "tags.dbtrigger-settings"]);
    assert_eq!(as_value(&whole(&want, Some(&raw(&job))))["name"], "Renamed by hand");
    want.named = true;
    assert_eq!(fields(&diff(&want, &[&job], &none()))[0], "name");
}

#[test]
fn schedule_and_pause_that_operators_set_survive_unless_a_flag_says_otherwise() {
    let plain = want();
    let mut job = made(&plain);
    job["schedule"] = json!({ "quartz_cron_expression": "0 0 5 * * ?", "timezone_id": "Europe/Berlin", "pause_status": "PAUSED", "x": 1.50 });
    assert_eq!(diff(&plain, &[&job], &none()), Action::Keep(None));

    let mut other = plain.clone();
    other.settings.schedule = Setting::Set("0 0 6 * * ?".to_owned());
    assert_eq!(fields(&diff(&other, &[&job], &none())), ["schedule.quartz_cron_expression"]);
    let next = as_value(&whole(&other, Some(&raw(&job))));
    assert_eq!(
        next["schedule"],
        json!({ "quartz_cron_expression": "0 0 6 * * ?", "timezone_id": "Europe/Berlin", "pause_status": "PAUSED", "x": 1.50 })
    );

    other.settings.timezone = Setting::Set("UTC".to_owned());
    assert_eq!(fields(&diff(&other, &[&job], &none())), ["schedule.quartz_cron_expression", "schedule.timezone_id"]);

    let mut paused = plain.clone();
    paused.settings.paused = Setting::Set(true);
    job["schedule"]["pause_status"] = "UNPAUSED".into();
    assert_eq!(fields(&diff(&paused, &[&job], &none())), ["schedule.pause_status"]);
    job["schedule"].as_object_mut().unwrap().shift_remove("pause_status");
    assert_eq!(diff(&plain, &[&job], &none()), Action::Keep(None));
}

#[test]
fn a_job_that_starts_by_something_else_gets_no_schedule_beside_it() {
    let mut want = want();
    let mut job = made(&want);
    job["continuous"] = json!({ "pause_status": "UNPAUSED" });
    assert_eq!(diff(&want, &[&job], &none()), Action::Keep(None));
    want.settings.schedule = Setting::Set("0 0 6 * * ?".to_owned());
    assert_eq!(blocked(&diff(&want, &[&job], &with(Consent::Force))).1, None);
}

#[test]
fn a_namesake_is_left_alone_unless_it_is_to_be_adopted() {
    let want = want();
    let job = by_hand(&want);
    let action = diff(&want, &[&job], &none());
    assert_eq!(blocked(&action).1, Some(Consent::Adopt));
    assert!(blocked(&action).0.contains("was not created by dbtrigger"));
    assert_eq!(blocked(&diff(&want, &[&job], &with(Consent::Force))).1, Some(Consent::Adopt));
    let Action::Update(_) = diff(&want, &[&job], &with(Consent::Adopt)) else { panic!() };
    let next = as_value(&whole(&want, Some(&raw(&job))));
    assert_eq!(next["tasks"].as_array().unwrap().len(), 1, "two tasks would start dbt twice");
    assert_eq!(diff(&want, &[&next], &none()), Action::Keep(None));

    let mut another = want.clone();
    another.identity = Identity::of_name("x");
    let action = diff(&another, &[&made(&want)], &none());
    assert!(blocked(&action).0.contains("is another dbtrigger workflow"));
}

#[test]
fn what_adopting_would_destroy_is_never_adopted() {
    let want = want();
    let mut job = by_hand(&want);
    job["tasks"].as_array_mut().unwrap().push(json!({ "task_key": "other", "sql_task": {} }));
    assert_eq!(blocked(&diff(&want, &[&job], &with(Consent::Adopt))).1, None);
    let mut job = by_hand(&want);
    job["tasks"] = json!([{ "task_key": "etl", "sql_task": {} }]);
    assert_eq!(blocked(&diff(&want, &[&job], &with(Consent::Adopt))).1, None);
    let two = by_hand(&want);
    let action = diff(&want, &[&two, &two], &with(Consent::Adopt));
    assert!(
        blocked(&action).0.contains(&format!("job {ID} ")) && blocked(&action).0.contains(&format!("job {} ", ID + 1))
    );
}

#[test]
fn a_job_of_a_bundle_or_of_terraform_is_never_edited_not_even_one_with_our_tag() {
    let want = want();
    let marks: [(&str, Edit); 3] = [
        ("bundle", |job| job["deployment"] = json!({ "kind": "BUNDLE", "metadata_file_path": "/x" })),
        ("bundle", |job| job["edit_mode"] = "UI_LOCKED".into()),
        ("Terraform", |job| job["tags"]["ManagedBy"] = "Terraform 1.9".into()),
    ];
    for (who, mark) in marks {
        for job in [by_hand(&want), made(&want)] {
            let mut job = job;
            mark(&mut job);
            let other = WorkflowWant { notebook: "/Shared/other".to_owned(), ..want.clone() };
            let consents = Consents::default().with(Consent::Adopt, true).with(Consent::Force, true);
            let action = diff(&other, &[&job], &consents);
            let (what, unless) = blocked(&action);
            assert!(what.contains(who) && unless.is_none(), "{what}");
        }
    }
}

#[test]
fn two_of_ours_with_one_identity_are_refused_naming_both() {
    let want = want();
    let job = made(&want);
    let consents = Consents::default().with(Consent::Adopt, true).with(Consent::Force, true);
    let action = diff(&want, &[&job, &job], &consents);
    let (what, unless) = blocked(&action);
    assert!(what.contains(&ID.to_string()) && what.contains(&(ID + 1).to_string()) && unless.is_none(), "{what}");
}

#[test]
fn a_task_of_others_is_not_left_waiting_for_one_that_is_gone() {
    let mut want = want();
    let mut job = made(&want);
    job["tasks"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "task_key": "after", "depends_on": [{ "task_key": "dbt_222222" }], "sql_task": {} }));
    assert_eq!(diff(&want, &[&job], &none()), Action::Keep(None));
    want.tasks = vec![task(333_333)];
    let action = diff(&want, &[&job], &none());
    let (what, unless) = blocked(&action);
    assert!(what.contains("after") && what.contains("dbt_222222") && unless.is_none(), "{what}");
}

#[test]
fn a_foreign_job_beside_ours_is_none_of_our_business() {
    let want = want();
    assert_eq!(diff(&want, &[&made(&want), &by_hand(&want)], &none()), Action::Keep(None));
    assert!(changes(&want, &raw(&made(&want))).is_empty());
}

#[test]
fn what_operators_chose_survives_and_a_flag_changes_only_its_own_field() {
    let plain = want();
    let mut job = made(&plain);
    job["tasks"][0]["max_retries"] = 3.into();
    job["tasks"][0]["timeout_seconds"] = 0.into();
    job["tasks"][0]["notebook_task"]["base_parameters"]["dbtrigger_overrides"] =
        r#"{"threads_override":4,"git_branch":"x"}"#.into();
    job["email_notifications"] = json!({ "on_failure": ["b@x.example", "a@x.example"], "on_start": ["c@x.example"] });
    job["schedule"] =
        json!({ "quartz_cron_expression": "0 0 5 * * ?", "timezone_id": "UTC", "pause_status": "PAUSED" });
    assert_eq!(diff(&plain, &[&job], &none()), Action::Keep(None));

    let mut same = plain.clone();
    same.each_task.retries = Setting::Set(3);
    same.each_task.overrides =
        Setting::Set(serde_json::from_str(r#"{"git_branch":"x","threads_override":4}"#).unwrap());
    same.settings.notify = Setting::Set(vec!["a@x.example".to_owned(), "b@x.example".to_owned()]);
    same.settings.paused = Setting::Set(true);
    assert_eq!(diff(&same, &[&job], &none()), Action::Keep(None), "said again in another order");

    let flags: [(&str, WantEdit); 10] = [
        ("task.max_retries", |want| want.each_task.retries = Setting::Set(0)),
        ("task.max_retries", |want| want.each_task.retries = Setting::Clear),
        ("task.timeout_seconds", |want| want.each_task.timeout = Setting::Set(60)),
        ("task.timeout_seconds", |want| want.each_task.timeout = Setting::Clear),
        ("task.notebook_task.base_parameters.dbtrigger_overrides", |want| want.each_task.overrides = Setting::Clear),
        ("email_notifications.on_failure", |want| want.settings.notify = Setting::Clear),
        ("email_notifications.on_failure", |want| want.settings.notify = Setting::Set(vec!["d@x.example".to_owned()])),
        ("tags.team", |want| want.settings.tags = BTreeMap::from([("team".to_owned(), "x".to_owned())])),
        ("schedule.pause_status", |want| want.settings.paused = Setting::Set(false)),
        ("schedule.quartz_cron_expression", |want| want.settings.schedule = Setting::Clear),
    ];
    for (field, edit) in flags {
        let mut want = plain.clone();
        edit(&mut want);
        let action = diff(&want, &[&job], &none());
        assert_eq!(fields(&action)[0], field);
        let next = as_value(&whole(&want, Some(&raw(&job))));
        assert_eq!(diff(&want, &[&next], &none()), Action::Keep(None), "{field}: the second time");
        assert_eq!(diff(&plain, &[&next], &none()), Action::Keep(None), "{field}: without the flag");
        assert_eq!(next["email_notifications"]["on_start"], json!(["c@x.example"]));
        assert_eq!(next.get("schedule").is_none(), want.settings.schedule == Setting::Clear);
    }
}

#[test]
fn what_others_chose_in_a_job_that_is_taken_over_does_not_count() {
    let want = want();
    let mut job = by_hand(&want);
    job["tasks"][0]["max_retries"] = 5.into();
    job["tasks"][0]["notebook_task"]["base_parameters"] = json!({ "dbtrigger_overrides": "{\"git_branch\":\"x\"}" });
    let next = as_value(&whole(&want, Some(&raw(&job))));
    let task = &next["tasks"][0];
    assert_eq!((&task["max_retries"], &task["timeout_seconds"]), (&json!(0), &json!(87_000)));
    assert!(task["notebook_task"]["base_parameters"].get("dbtrigger_overrides").is_none());
    assert!(override_names(&want, Some(&raw(&job))).is_empty());
    assert_eq!(diff(&want, &[&next], &none()), Action::Keep(None));
}

#[test]
fn more_tags_than_databricks_takes_and_a_key_that_others_use_are_refused() {
    let mut want = want();
    let job = made(&want);
    want.settings.tags = (0..23).map(|number| (format!("t{number}"), String::new())).collect();
    let action = diff(&want, &[&job], &with(Consent::Force));
    assert!(blocked(&action).0.contains("26 tags") && blocked(&action).1.is_none(), "{action:?}");
    want.settings.tags.pop_first();
    assert!(matches!(diff(&want, &[&job], &none()), Action::Update(_)));

    let mut job = job;
    job["tasks"].as_array_mut().unwrap().push(json!({ "task_key": "dbt_333333", "sql_task": {} }));
    want.tasks = vec![task(333_333)];
    let action = diff(&want, &[&job], &with(Consent::Force));
    assert!(blocked(&action).0.contains("task dbt_333333") && blocked(&action).1.is_none(), "{action:?}");
}

#[test]
fn from_one_job_to_two_and_back_leaves_nothing_behind_and_needs_no_force() {
    let mut one = want();
    one.named = true;
    one.identity = Identity::of_name(&one.name);
    let mut two = one.clone();
    two.tasks =
        vec![task(222_222), TaskSpec { depends_on: Setting::Set(vec!["dbt_222222".to_owned()]), ..task(333_333) }];
    two.tasks[0].depends_on = Setting::Clear;
    let mut first = made(&one);
    first["tasks"][0]["max_retries"] = 4.into();
    let action = diff(&two, &[&first], &none());
    assert!(fields(&action).contains(&"parameters.job_id"), "{action:?}");
    let second = as_value(&whole(&two, Some(&raw(&first))));
    assert_eq!(diff(&two, &[&second], &none()), Action::Keep(None));
    assert!(second.get("parameters").is_none(), "it would win over the tasks' own");
    let tasks = second["tasks"].as_array().unwrap();
    let own = |task: &Value| task["notebook_task"]["base_parameters"]["job_id"].clone();
    assert_eq!((tasks.len(), own(&tasks[0]), own(&tasks[1])), (2, json!("222222"), json!("333333")));
    assert_eq!(tasks[1]["depends_on"], json!([{ "task_key": "dbt_222222" }]));
    assert_eq!((&tasks[0]["max_retries"], &tasks[1]["max_retries"]), (&json!(4), &json!(0)));

    // Without the flag the dependencies stay; an empty list removes them.
    let mut unsaid = two.clone();
    unsaid.tasks.iter_mut().for_each(|task| task.depends_on = Setting::Keep);
    assert_eq!(diff(&unsaid, &[&second], &none()), Action::Keep(None));
    let mut taken = two.clone();
    taken.tasks.iter_mut().for_each(|task| task.depends_on = Setting::Clear);
    assert_eq!(fields(&diff(&taken, &[&second], &none())), ["tasks.dbt_333333.depends_on"]);

    for back in [one.clone(), WorkflowWant { tasks: vec![task(333_333)], ..one.clone() }] {
        let third = as_value(&whole(&back, Some(&raw(&second))));
        assert!(matches!(diff(&back, &[&second], &none()), Action::Update(_)));
        assert_eq!(diff(&back, &[&third], &none()), Action::Keep(None));
        assert_eq!(third["tasks"].as_array().unwrap().len(), 1, "{third:#}");
        assert!(third["tasks"][0].get("depends_on").is_none(), "{third:#}");
        assert!(third["tasks"][0]["notebook_task"]["base_parameters"].get("job_id").is_none());
        if back.tasks == one.tasks {
            // Compared as objects, since a parameter that was removed and added again moves to another position.
            assert_eq!(third, first);
        }
    }
}

#[test]
fn under_other_keys_what_operators_set_stays_with_its_dbt_job_in_whatever_order_the_tasks_come() {
    let named = |key: &str, job| TaskSpec { key: key.to_owned(), ..task(job) };
    let both = WorkflowWant { tasks: vec![named("one", 222_222), named("two", 333_333)], ..want() };
    let mut job = made(&both);
    let mail = |who: &str| json!({ "on_failure": [who] });
    job["tasks"][0]["email_notifications"] = mail("one@x.example");
    job["tasks"][0]["max_retries"] = 4.into();
    job["tasks"][1]["email_notifications"] = mail("two@x.example");
    let mut turned = job.clone();
    turned["tasks"].as_array_mut().unwrap().reverse();
    let (one, two) = ("one@x.example", "two@x.example");
    let cases = [
        (vec![task(222_222)], vec![("dbt_222222", one, 4)]),
        (vec![task(333_333)], vec![("dbt_333333", two, 0)]),
        (vec![named("b", 333_333), named("a", 222_222)], vec![("a", one, 4), ("b", two, 0)]),
        // A matching key wins; the other task is matched by its dbt job.
        (vec![named("new", 222_222), named("two", 333_333)], vec![("new", one, 4), ("two", two, 0)]),
    ];
    for (tasks, due) in cases {
        for job in [&job, &turned] {
            let want = WorkflowWant { tasks: tasks.clone(), ..both.clone() };
            let sent = as_value(&whole(&want, Some(&raw(job))));
            let mut kept: Vec<(&str, &str, i64)> = sent["tasks"]
                .as_array()
                .unwrap()
                .iter()
                .map(|task| {
                    let mail = task["email_notifications"]["on_failure"][0].as_str().unwrap();
                    (task["task_key"].as_str().unwrap(), mail, task["max_retries"].as_i64().unwrap())
                })
                .collect();
            kept.sort_unstable();
            assert_eq!(kept, due, "{sent:#}");
            assert!(matches!(diff(&want, &[job], &none()), Action::Update(_)));
            assert_eq!(diff(&want, &[&sent], &none()), Action::Keep(None));
        }
    }

    // The dependency survives, too.
    job["tasks"][1]["depends_on"] = json!([{ "task_key": "one" }]);
    let renamed = WorkflowWant { tasks: vec![named("b", 333_333), named("a", 222_222)], ..both.clone() };
    let sent = as_value(&whole(&renamed, Some(&raw(&job))));
    assert_eq!(sent["tasks"][1]["depends_on"], json!([{ "task_key": "a" }]), "{sent:#}");
    let alone = WorkflowWant { tasks: vec![task(333_333)], ..both.clone() };
    assert!(as_value(&whole(&alone, Some(&raw(&job))))["tasks"][0].get("depends_on").is_none());

    // A third dbt job matches neither task; a single task is the one whose dbt job changes.
    let other = WorkflowWant { tasks: vec![task(444_444)], ..both.clone() };
    let sent = as_value(&whole(&other, Some(&raw(&job))));
    assert!(sent["tasks"][0].get("email_notifications").is_none(), "{sent:#}");
    let mut alone = made(&WorkflowWant { tasks: vec![task(222_222)], ..both });
    alone["tasks"][0]["email_notifications"] = mail(one);
    let sent = as_value(&whole(&other, Some(&raw(&alone))));
    assert_eq!(sent["tasks"][0]["email_notifications"], mail(one), "{sent:#}");
}

#[test]
fn several_tasks_that_were_edited_are_left_alone_and_tasks_of_others_stay_whole() {
    let mut want = want();
    want.tasks = vec![task(222_222), task(333_333)];
    let mut job = made(&want);
    let others = json!({ "task_key": "load", "sql_task": { "x": 1.0 }, "depends_on": [{ "task_key": "dbt_222222" }] });
    job["tasks"].as_array_mut().unwrap().insert(0, others.clone());
    job["tasks"][2]["depends_on"] = json!([{ "task_key": "load" }]);
    assert_eq!(diff(&want, &[&job], &none()), Action::Keep(None), "a dependency on others is theirs");
    let next = WorkflowWant {
        tasks: vec![
            task(222_222),
            TaskSpec { depends_on: Setting::Set(vec!["dbt_222222".to_owned()]), ..task(333_333) },
        ],
        ..want.clone()
    };
    let sent = as_value(&whole(&next, Some(&raw(&job))));
    assert_eq!(sent["tasks"][0], others);
    assert_eq!(sent["tasks"][2]["depends_on"], json!([{ "task_key": "dbt_222222" }, { "task_key": "load" }]));

    let edits: [(&str, Edit); 4] = [
        ("tasks.dbt_333333.notebook_task.base_parameters.job_id", |job| {
            job["tasks"][2]["notebook_task"]["base_parameters"]["job_id"] = "9".into();
        }),
        ("parameters.job_id", |job| job["parameters"] = json!([{ "name": "job_id", "default": "9" }])),
        ("tasks.dbt_222222.environment_key", |job| job["tasks"][1]["environment_key"] = "x".into()),
        ("tasks.dbt_333333.task_key", |job| {
            job["tasks"].as_array_mut().unwrap().pop();
        }),
    ];
    for (field, edit) in edits {
        let mut job = job.clone();
        edit(&mut job);
        let action = diff(&want, &[&job], &none());
        assert_eq!(blocked(&action).1, Some(Consent::Force), "{field}");
        assert!(fields(&diff(&want, &[&job], &with(Consent::Force))).contains(&field), "{field}");
        let fixed = as_value(&whole(&want, Some(&raw(&job))));
        assert_eq!(diff(&want, &[&fixed], &none()), Action::Keep(None), "{field}");
    }

    // A task that others depend on is not removed.
    let fewer = WorkflowWant { tasks: vec![task(333_333)], ..want };
    assert!(blocked(&diff(&fewer, &[&job], &with(Consent::Force))).0.contains("load"));
}

#[test]
fn a_check_is_the_same_notebook_on_the_same_compute_and_nothing_of_the_jobs_own() {
    let mut want = want();
    want.tasks = vec![task(1), task(2), task(3), task(4)];
    let mut job = made(&want);
    let number = "9223372036854775807";
    let cluster: Value = serde_json::from_str(&format!("{{\"num_workers\":{number}}}")).unwrap();
    job["job_clusters"] = json!([{ "job_cluster_key": "shared", "new_cluster": cluster }]);
    job["tasks"][1]["existing_cluster_id"] = "0101-abc".into();
    job["tasks"][2]["job_cluster_key"] = "shared".into();
    job["tasks"][3]["new_cluster"] = json!({ "num_workers": 1 });
    job["tasks"][3]["libraries"] = json!([{ "pypi": { "package": "x" } }]);
    job["tasks"][3]["depends_on"] = json!([{ "task_key": "dbt_1" }]);
    job["tasks"].as_array_mut().unwrap().push(json!({ "task_key": "others", "notebook_task": {} }));
    let all: Vec<Value> = check_tasks(&raw(&job), &want.tasks).iter().map(as_value).collect();
    assert_eq!(all.len(), 4);
    for (task, job_id) in all.iter().zip(["1", "2", "3", "4"]) {
        let base = json!({ "job_id": job_id, "dbtrigger_mode": "check" });
        assert_eq!(task["notebook_task"]["base_parameters"], base);
        assert_eq!((&task["max_retries"], &task["timeout_seconds"]), (&json!(0), &json!(7200)));
        assert!(task.get("depends_on").is_none() && task.get("job_cluster_key").is_none(), "{task}");
    }
    assert!(all[0].get("existing_cluster_id").is_none() && all[0].get("new_cluster").is_none());
    assert_eq!(all[1]["existing_cluster_id"], "0101-abc");
    assert_eq!(all[2]["new_cluster"].to_string(), format!("{{\"num_workers\":{number}}}"));
    assert_eq!(
        (&all[3]["new_cluster"]["num_workers"], &all[3]["libraries"][0]["pypi"]["package"]),
        (&json!(1), &json!("x"))
    );
}
