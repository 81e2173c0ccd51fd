use serde_json::json;

use super::*;
use crate::engine::kinds::tests::{Cell, fields, none, with};

/// An edit to a job.
type Edit = fn(&mut Value);

fn want() -> AddedTaskWant {
    AddedTaskWant {
        workflow: 987_654_321_012_345_678,
        workflow_name: "Daily load".to_owned(),
        task: TaskSpec { key: "dbt_222222".to_owned(), job: 222_222, depends_on: Setting::Keep },
        notebook: "/Users/ana@example.com/dbtrigger/run_dbt_job_51234".to_owned(),
        compute: Setting::Keep,
        settings: TaskSettings::default(),
    }
}

fn job(settings: &Value) -> Job {
    Job { id: want().workflow, run_as: None, settings: serde_json::from_str(&settings.to_string()).unwrap() }
}

/// Someone else's workflow, without our task.
fn foreign() -> Value {
    json!({
        "name": "Daily load", "format": "MULTI_TASK", "odd": [1.50, null],
        "parameters": [{ "name": "region", "default": "eu" }],
        "job_clusters": [{ "job_cluster_key": "small", "new_cluster": {} }],
        "tasks": [
            { "task_key": "load", "ai_thing_task": { "x": 1.0 }, "max_retries": 3 },
            { "task_key": "report", "depends_on": [{ "task_key": "load" }], "sql_task": { "odd": null } },
        ],
    })
}

/// Our task as it would be sent.
fn sent(want: &AddedTaskWant, settings: &Value) -> Value {
    json!(to_send(want, &job(settings).settings))
}

/// The job after the service's upsert: the task replaces the one with its key, or is appended.
fn after(want: &AddedTaskWant, settings: &Value) -> Value {
    let (mut settings, task) = (settings.clone(), sent(want, settings));
    let tasks = settings["tasks"].as_array_mut().unwrap();
    match tasks.iter().position(|other| other["task_key"] == task["task_key"]) {
        Some(place) => tasks[place] = task,
        None => tasks.push(task),
    }
    settings
}

/// The workflow with our task in it.
fn added() -> Value {
    after(&want(), &foreign())
}

/// The same with our task edited.
fn edited(edit: Edit) -> Value {
    let mut settings = added();
    edit(&mut settings["tasks"][2]);
    settings
}

fn diff(want: &AddedTaskWant, settings: &Value, consents: &Consents) -> Action {
    AddedTask::diff(want, Some(&job(settings)), consents)
}

fn refusal(action: &Action) -> (&str, Option<Consent>, &str) {
    match action {
        Action::Blocked { why, unless } => (&why.what, *unless, why.diff.as_deref().unwrap_or_default()),
        Action::Keep(_) | Action::Create | Action::Update(_) | Action::Remove => panic!("{action:?}"),
    }
}

fn foreign_with(task: Value) -> Value {
    let mut settings = foreign();
    settings["tasks"].as_array_mut().unwrap().push(task);
    settings
}

fn without(mut settings: Value, edit: Edit) -> Value {
    edit(&mut settings);
    settings
}

/// A task is written only where that loses no work of others.
pub(in crate::engine::kinds) fn cells() -> Vec<Cell> {
    let plain = want();
    let mut moved = want();
    moved.notebook = "/Shared/other".to_owned();
    let unmark: Edit = |settings| {
        settings["tasks"][2].as_object_mut().unwrap().shift_remove("description");
    };
    let bundle: Edit = |settings| settings["deployment"] = json!({ "kind": "BUNDLE" });
    let terraform: Edit = |settings| settings["tags"] = json!({ "managed_by": "terraform" });
    let renamed: Edit = |task| task["task_key"] = "renamed".into();
    let by_hand: Edit = |task| task["disable_auto_optimization"] = false.into();
    let chosen: Edit = |task| task["max_retries"] = 2.into();
    let copied: Edit = |settings| {
        let mut copy = settings["tasks"][2].clone();
        copy["task_key"] = "copy".into();
        settings["tasks"].as_array_mut().unwrap().push(copy);
    };
    let own_workflow: Edit = |settings| settings["tags"] = json!({ ID_TAG: "00" });
    let sql = json!({ "task_key": "dbt_222222", "sql_task": {} });
    let other_notebook = json!({ "task_key": "dbt_222222", "notebook_task": { "notebook_path": "/Shared/theirs" } });
    let same_notebook = json!({ "task_key": "dbt_222222",
        "notebook_task": { "notebook_path": format!("/Workspace{}", want().notebook) } });
    let (always, force, adopt) = ("blocked always", "blocked --force", "blocked --adopt");
    let (keep, create, update) = ("keep", "create", "update");
    let cells: [(&str, &AddedTaskWant, Value, [&'static str; 3]); 24] = [
        ("absent", &plain, foreign(), [create; 3]),
        ("absent, no task at all", &plain, json!({ "format": "MULTI_TASK", "tasks": [] }), [create; 3]),
        ("absent, a bundle's", &plain, without(foreign(), bundle), [always; 3]),
        ("absent, Terraform's", &plain, without(foreign(), terraform), [always; 3]),
        ("ours", &plain, added(), [keep; 3]),
        ("ours, another flag", &moved, added(), [update; 3]),
        ("ours, renamed", &plain, edited(renamed), [keep; 3]),
        ("ours, renamed, another flag", &moved, edited(renamed), [update; 3]),
        ("ours, edited", &plain, edited(by_hand), [force, update, force]),
        ("ours, edited, another flag", &moved, edited(by_hand), [force, update, force]),
        ("ours, an operator's choice", &plain, edited(chosen), [keep; 3]),
        ("ours, a bundle's", &plain, without(added(), bundle), [keep; 3]),
        ("ours, a bundle's, another flag", &moved, without(added(), bundle), [always; 3]),
        ("ours, edited, a bundle's", &plain, without(edited(by_hand), bundle), [always; 3]),
        ("ours twice", &plain, without(added(), copied), [always; 3]),
        ("foreign", &plain, foreign_with(sql), [always; 3]),
        ("foreign, another notebook", &plain, foreign_with(other_notebook), [always; 3]),
        ("foreign, our notebook", &plain, foreign_with(same_notebook.clone()), [adopt, adopt, update]),
        ("foreign, the same", &plain, without(added(), unmark), [adopt, adopt, update]),
        ("foreign, the same, another flag", &moved, without(added(), unmark), [adopt, adopt, update]),
        ("foreign, a bundle's", &plain, without(foreign_with(same_notebook), bundle), [always; 3]),
        ("a workflow of ours, absent", &plain, without(foreign(), own_workflow), [create; 3]),
        ("a workflow of ours, its own task", &plain, without(without(added(), unmark), own_workflow), [always; 3]),
        ("a workflow of ours, added", &plain, after(&plain, &without(foreign(), own_workflow)), [keep; 3]),
    ];
    let mut all = Vec::new();
    for (cell, want, settings, due) in cells {
        let consents = [("", none()), ("--force", with(Consent::Force)), ("--adopt", with(Consent::Adopt))];
        for ((flag, consents), due) in consents.into_iter().zip(due) {
            let action = diff(want, &settings, &consents);
            all.push(Cell::new(format!("added task, {cell} {flag}"), due, &action));
            if matches!(action, Action::Create | Action::Update(_)) {
                let next = after(want, &settings);
                all.push(Cell::new(format!("added task, {cell} {flag}, again"), keep, &diff(want, &next, &none())));
                assert_eq!(others_of(want, &next), others_of(want, &settings), "{cell}");
            }
        }
    }
    all
}

/// The job without our task, as text.
fn others_of(want: &AddedTaskWant, settings: &Value) -> String {
    let own = key(want, there(want, &job(settings).settings).task().0);
    let mut settings = settings.clone();
    if let Some(tasks) = settings["tasks"].as_array_mut() {
        tasks.retain(|task| task["task_key"] != *own);
    }
    settings.to_string()
}

#[test]
fn what_is_sent_is_the_task_of_the_guide_with_its_own_job_and_the_mark() {
    let task = sent(&want(), &foreign());
    let Some(Mark { key, digest }) = Mark::of(&serde_json::from_str(&task.to_string()).unwrap()) else { panic!() };
    assert_eq!(key, "dbt_222222");
    assert_eq!(
        task,
        json!({
            "task_key": "dbt_222222",
            "notebook_task": {
                "notebook_path": want().notebook,
                "source": "WORKSPACE",
                "base_parameters": {
                    "job_id": "222222",
                    "dbtrigger_key": "{{workspace.id}}/{{job.run_id}}/{{task.name}}/{{job.repair_count}}",
                    "dbtrigger_attempt": "{{task.execution_count}}"
                }
            },
            "max_retries": 0,
            "disable_auto_optimization": true,
            "timeout_seconds": 87_000,
            "description": format!("Starts a dbt job and waits for it. [dbtrigger dbt_222222 {digest}]"),
        })
    );
}

#[test]
fn where_the_workflow_has_a_job_id_of_its_own_or_may_come_to_have_one_the_parameter_that_wins_is_passed() {
    let names: Edit = |settings| settings["parameters"] = json!([{ "name": "job_id", "default": "7" }]);
    let ours: Edit = |settings| settings["tags"] = json!({ ID_TAG: "00" });
    for edit in [names, ours] {
        let base = sent(&want(), &without(foreign(), edit))["notebook_task"]["base_parameters"].clone();
        assert_eq!((&base["dbtrigger_job_id"], &base["job_id"]), (&json!("222222"), &Value::Null));
        // The parameter was added later: then the old field goes.
        let later = without(added(), edit);
        let fields_changed = [
            "task.notebook_task.base_parameters.job_id",
            "task.notebook_task.base_parameters.dbtrigger_job_id",
            "task.description",
        ];
        assert_eq!(fields(&diff(&want(), &later, &none())), fields_changed);
        assert_eq!(diff(&want(), &after(&want(), &later), &none()), Action::Keep(None));
    }
}

#[test]
fn a_parameter_of_the_workflow_that_would_win_over_ours_is_refused_even_if_it_came_later() {
    for (name, overrides, clashes) in [
        ("dbtrigger_job_id", false, true),
        ("dbtrigger_key", false, true),
        ("dbtrigger_attempt", false, true),
        ("dbtrigger_overrides", true, true),
        // The task does not pass these, so a value for the whole workflow is intended.
        ("dbtrigger_overrides", false, false),
        ("dbtrigger_timeout_minutes", false, false),
    ] {
        let mut want = want();
        if overrides {
            want.settings.overrides = json!({ "git_branch": "main" }).as_object().cloned().into();
        }
        let mut settings = after(&want, &foreign());
        assert_eq!(diff(&want, &settings, &none()), Action::Keep(None));
        settings["parameters"].as_array_mut().unwrap().push(json!({ "name": name, "default": "" }));
        let action = diff(&want, &settings, &none());
        if clashes {
            let (what, unless, _) = refusal(&action);
            assert!(what.contains(name) && unless.is_none(), "{what}");
        } else {
            assert_eq!(action, Action::Keep(None), "{name}");
        }
    }
}

#[test]
fn what_the_service_fills_in_or_orders_otherwise_is_no_difference() {
    let mut want = want();
    want.task.depends_on = Setting::Set(vec!["load".to_owned(), "report".to_owned()]);
    let fills: [(&str, Edit); 5] = [
        ("the order of tasks", |settings| settings["tasks"].as_array_mut().unwrap().reverse()),
        ("the order of depends_on", |settings| {
            settings["tasks"][2]["depends_on"].as_array_mut().unwrap().reverse();
        }),
        ("defaults", |settings| {
            settings["tasks"][2]["run_if"] = "ALL_SUCCESS".into();
            settings["tasks"][2]["email_notifications"] = json!({});
            settings["performance_target"] = "PERFORMANCE_OPTIMIZED".into();
        }),
        ("the prefix of the path", |settings| {
            let path = settings["tasks"][2]["notebook_task"]["notebook_path"].as_str().unwrap().to_owned();
            settings["tasks"][2]["notebook_task"]["notebook_path"] = format!("/Workspace{path}").into();
        }),
        ("words around the mark", |settings| {
            let mark = settings["tasks"][2]["description"].as_str().unwrap().to_owned();
            settings["tasks"][2]["description"] = format!("Ask Bo. {mark} Thanks.").into();
        }),
    ];
    for (what, fill) in fills {
        let settings = without(after(&want, &foreign()), fill);
        assert_eq!(diff(&want, &settings, &none()), Action::Keep(None), "{what}");
    }
}

#[test]
fn flags_change_their_own_field_and_left_out_it_stays() {
    let mut other = want();
    other.settings.retries = Setting::Set(2);
    other.settings.timeout = Setting::Set(60);
    other.compute = Setting::Set(Compute::JobCluster("small".to_owned()));
    other.settings.overrides = json!({ "git_branch": "main" }).as_object().cloned().into();
    other.task.depends_on = Setting::Set(vec!["load".to_owned()]);
    let settings = added();
    assert_eq!(
        fields(&diff(&other, &settings, &none())),
        [
            "task.max_retries",
            "task.timeout_seconds",
            "task.notebook_task.base_parameters.dbtrigger_overrides",
            "task.depends_on",
            "task.job_cluster_key"
        ]
    );
    let next = after(&other, &settings);
    assert_eq!(diff(&want(), &next, &none()), Action::Keep(None));
    assert_eq!(carried_overrides(&want(), &job(&next).settings), BTreeSet::from(["git_branch".to_owned()]));
    other.task.depends_on = Setting::Clear;
    assert_eq!(fields(&diff(&other, &next, &none())), ["task.depends_on"]);
}

#[test]
fn an_entry_of_depends_on_that_says_more_than_the_key_stays_as_it_is() {
    let mut want = want();
    want.task.depends_on = Setting::Set(vec!["load".to_owned()]);
    let mut settings = after(&want, &foreign());
    settings["tasks"][2]["depends_on"] = json!([{ "task_key": "load", "outcome": "true" }]);
    assert_eq!(diff(&want, &settings, &none()), Action::Keep(None));
    want.task.depends_on = Setting::Set(vec!["load".to_owned(), "report".to_owned()]);
    let due = json!([{ "task_key": "load", "outcome": "true" }, { "task_key": "report" }]);
    assert_eq!(sent(&want, &settings)["depends_on"], due);
}

#[test]
fn a_refusal_says_what_is_in_the_way_and_shows_what_differs_or_what_to_add_elsewhere() {
    let by_hand: Edit = |task| task["disable_auto_optimization"] = false.into();
    let action = diff(&want(), &edited(by_hand), &none());
    let (what, _, lines) = refusal(&action);
    assert!(what.contains("dbt_222222 of job 987654321012345678 \"Daily load\" was edited"), "{what}");
    assert_eq!(lines, "      - task.disable_auto_optimization: false\n      + task.disable_auto_optimization: true\n");

    // The task shown for a bundle is recognized once it was added there.
    let mut bundled = foreign();
    bundled["deployment"] = json!({ "kind": "BUNDLE" });
    let action = diff(&want(), &bundled, &none());
    let (what, _, task) = refusal(&action);
    assert!(what.contains("bundle"), "{what}");
    bundled["tasks"].as_array_mut().unwrap().push(serde_json::from_str(task).unwrap());
    assert_eq!(diff(&want(), &bundled, &none()), Action::Keep(None));
}

#[test]
fn jobs_that_take_no_more_tasks_are_refused_with_the_reason() {
    let refused = |settings: &Value| refusal(&diff(&want(), settings, &none())).0.to_owned();
    let single = json!({ "format": "SINGLE_TASK", "notebook_task": { "notebook_path": "/x" } });
    assert!(refused(&single).contains("has the old single-task format, which takes no second task"));
    assert!(
        refused(&json!({ "notebook_task": { "notebook_path": "/x" } }))
            .contains("has the old single-task format, which takes no second task")
    );
    let mut full = foreign();
    full["tasks"] = (0..1000).map(|number| json!({ "task_key": format!("t{number}"), "sql_task": {} })).collect();
    assert!(refused(&full).contains("1000 tasks"));
    full["tasks"].as_array_mut().unwrap().pop();
    assert_eq!(diff(&want(), &full, &none()), Action::Create);
    // Updating an existing task needs no room.
    let full = after(&want(), &full);
    let mut other = want();
    other.settings.retries = Setting::Set(1);
    assert_eq!(fields(&diff(&other, &full, &none())), ["task.max_retries"]);
    other.compute = Setting::Set(Compute::JobCluster("big".to_owned()));
    assert!(refusal(&diff(&other, &foreign(), &none())).0.contains("no job cluster big; its job clusters: small"));
}

#[test]
fn words_of_others_that_look_like_a_mark_keep_no_task_from_being_taken_over_once_and_for_all() {
    for words in ["see [dbtrigger docs]", "[dbtrigger nightly job] by Bo"] {
        let mut theirs = added();
        theirs["tasks"][2]["description"] = words.into();
        assert_eq!(refusal(&diff(&want(), &theirs, &none())).1, Some(Consent::Adopt), "{words}");
        let settings = after(&want(), &theirs);
        let description = settings["tasks"][2]["description"].as_str().unwrap();
        assert!(description.starts_with(&format!("{words} [dbtrigger dbt_222222 1-")), "{description}");
        assert_eq!(diff(&want(), &settings, &none()), Action::Keep(None), "{words}");
        assert_eq!(after(&want(), &settings), settings, "{words}");
    }
}

#[test]
fn a_description_without_room_for_the_mark_is_refused() {
    let mut settings = added();
    settings["tasks"][2]["description"] = "x".repeat(990).into();
    let (what, unless, _) = {
        let action = diff(&want(), &settings, &with(Consent::Adopt));
        let (what, unless, lines) = refusal(&action);
        (what.to_owned(), unless, lines.to_owned())
    };
    assert!(what.contains("is too long to add dbtrigger's mark") && unless.is_none(), "{what}");
}

#[test]
fn tasks_that_are_not_there_and_circles_through_tasks_of_others_are_found() {
    let needs = |keys: &[&str]| {
        let mut want = want();
        want.task.depends_on = Setting::Set(keys.iter().map(ToString::to_string).collect());
        want
    };
    let refused = |want: &AddedTaskWant, settings: &Value| {
        needs::refused(want, &job(settings), "job").map(|refusal| refusal.what).unwrap_or_default()
    };
    assert_eq!(refused(&needs(&["load", "report"]), &added()), "");
    let unknown = refused(&needs(&["load", "x", "dbt_222222"]), &added());
    assert!(unknown.contains("no task x, dbt_222222,") && unknown.ends_with(": load, report"), "{unknown}");
    let mut waiting = added();
    waiting["tasks"][0]["depends_on"] = json!([{ "task_key": "dbt_222222" }]);
    assert!(refused(&needs(&["report"]), &waiting).contains("dbt_222222, load, report"));
    assert_eq!(refused(&want(), &waiting), "");
    // A cycle without our task is not ours to fix.
    let mut theirs = added();
    theirs["tasks"][0]["depends_on"] = json!([{ "task_key": "report" }]);
    assert_eq!(refused(&needs(&["load"]), &theirs), "");
}

#[test]
fn what_others_wrote_meanwhile_is_named_and_what_the_service_orders_otherwise_is_not() {
    let before = job(&foreign());
    assert_eq!(changed_meanwhile(&want(), &before, &job(&added())), [""; 0]);
    let edits: [(&str, Edit); 5] = [
        ("", |settings| settings["tasks"].as_array_mut().unwrap().reverse()),
        ("", |settings| settings["performance_target"] = "PERFORMANCE_OPTIMIZED".into()),
        ("tasks.load", |settings| settings["tasks"][0]["max_retries"] = 4.into()),
        ("tasks.new", |settings| settings["tasks"].as_array_mut().unwrap().push(json!({ "task_key": "new" }))),
        ("odd", |settings| {
            settings.as_object_mut().unwrap().shift_remove("odd");
        }),
    ];
    for (changed, edit) in edits {
        let after = job(&without(added(), edit));
        assert_eq!(changed_meanwhile(&want(), &before, &after).join(" "), changed);
    }
}
