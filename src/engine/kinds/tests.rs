//! Ownership, case by case: the action for an object that is absent, ours, edited or someone else's.

use std::collections::BTreeSet;

use super::grant::{Access, GrantHave};
use super::grant_on::GrantOnHave;
use super::secret::Readers;
use super::secret::SecretHave;
use super::*;
use crate::databricks::permissions::Holding;
use crate::databricks::secrets::{Acl, Backend, Fingerprint, Permission, ScopeInfo};
use crate::dbt::Field;
use crate::engine::{Action, Consent, Consents, Kind, Step};
use crate::failure::Hint;
use crate::notebook::{Settings, normalise, render};
use crate::origin::Origin;
use crate::secret::Vault;
use crate::spec::{NotebookSettings, Setting};

pub(super) fn none() -> Consents {
    Consents::default()
}

pub(super) fn with(consent: Consent) -> Consents {
    Consents::default().with(consent, true)
}

pub(super) fn fields(action: &Action) -> Vec<&str> {
    match action {
        Action::Update(changes) => changes.iter().map(|change| change.field.as_str()).collect(),
        Action::Keep(_) | Action::Create | Action::Remove | Action::Blocked { .. } => panic!("{action:?}"),
    }
}

/// One case: the state and consents, the expected action and the actual one.
pub(super) struct Cell {
    name: String,
    due: &'static str,
    found: String,
}

impl Cell {
    pub(super) fn new(name: impl Into<String>, due: &'static str, action: &Action) -> Cell {
        Cell { name: name.into(), due, found: word(action) }
    }
}

/// Run with `cargo test --lib every_cell -- --nocapture` to see the count.
#[test]
#[expect(clippy::print_stdout, reason = "the line is what the test is for")]
fn every_cell_of_every_kind_is_as_the_table_says() {
    let cells: Vec<Cell> = [
        scope_cells(),
        secret_cells(),
        shared_secret_cells(),
        reader_cells(),
        vault_cells(),
        grant_cells(),
        creator_cells(),
        notebook_grant_cells(),
        job_grant_cells(),
        notebook_cells(),
        shared_notebook_cells(),
        workflow::tests::cells(),
        added_task::tests::cells(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let wrong: Vec<String> = cells
        .iter()
        .filter(|Cell { name: _, due, found }| due != found)
        .map(|Cell { name, due, found }| format!("{name}: {found} instead of {due}"))
        .collect();
    println!("ownership cells: {} of {}", cells.len() - wrong.len(), cells.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `keep`, `create`, `update`, `remove`, or `blocked` with its flag.
fn word(action: &Action) -> String {
    match action {
        Action::Keep(_) => "keep".to_owned(),
        Action::Create => "create".to_owned(),
        Action::Update(_) => "update".to_owned(),
        Action::Remove => "remove".to_owned(),
        Action::Blocked { why: _, unless } => format!("blocked {}", unless.map_or("always", Consent::flag)),
    }
}

fn note(action: &Action) -> String {
    match action {
        Action::Keep(Some(note)) => note.to_string(),
        Action::Blocked { why, unless: _ } => why.what.clone(),
        Action::Keep(None) | Action::Create | Action::Update(_) | Action::Remove => String::new(),
    }
}

fn scope_want() -> ScopeWant {
    ScopeWant { scope: "dbt-cloud".parse().unwrap() }
}

fn scope_have(name: &str, backend: Backend) -> ScopeInfo {
    ScopeInfo { name: name.to_owned(), backend }
}

/// A missing scope is created; an existing one is never changed.
fn scope_cells() -> Vec<Cell> {
    let have = scope_have;
    let cells = [
        (None, "create"),
        (Some(have("dbt-cloud", Backend::Databricks)), "keep"),
        (Some(have("DBT-Cloud", Backend::Databricks)), "keep"),
        (Some(have("dbt-cloud", Backend::KeyVault(None))), "keep"),
        (Some(have("dbt-cloud", Backend::Other("NEW".to_owned()))), "blocked always"),
    ];
    let cells = cells.into_iter().map(|(have, due)| {
        Cell::new(format!("scope, {have:?}"), due, &Scope::diff(&scope_want(), have.as_ref(), &none()))
    });
    cells.collect()
}

#[test]
fn a_vault_that_came_meanwhile_is_not_the_scope_that_was_made() {
    let step = Step::<Scope>::settled(scope_want(), Action::Create);
    assert_ne!(Scope::differences(&step, Some(&scope_have("dbt-cloud", Backend::KeyVault(None)))), [""; 0]);
}

fn fingerprint(value: &str) -> Fingerprint {
    Fingerprint::of(&Vault::default().admit(value.to_owned()).unwrap())
}

fn secret_want(rotate: bool) -> SecretWant {
    SecretWant {
        scope: "dbt-cloud".parse().unwrap(),
        key: "api-key".parse().unwrap(),
        compare: rotate.then(|| fingerprint("dbtc_1234567890")),
        intended_readers: Vec::new(),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as observing gives it")]
fn secret_have(updated: Option<i64>, everybody: Option<&str>, same: Option<bool>) -> Option<SecretHave> {
    let acl = |permission: &str| Acl { principal: "users".to_owned(), permission: permission.to_owned() };
    let stored = same.map(|same| fingerprint(if same { "dbtc_1234567890" } else { "dbtc_another-key" }));
    let readers = Readers::Listed(everybody.map(acl).into_iter().collect());
    Some(SecretHave { keys: BTreeSet::new(), is_there: updated.is_some(), updated, readers, stored })
}

#[expect(clippy::unnecessary_wraps, reason = "as observing gives it")]
fn unseen(updated: Option<i64>, readers: Readers) -> Option<SecretHave> {
    Some(SecretHave { keys: BTreeSet::new(), is_there: updated.is_some(), updated, readers, stored: None })
}

/// An existing key is kept unless it is to be rotated and differs.
fn secret_cells() -> Vec<Cell> {
    let cells = [
        (None, false, "create"),
        (None, true, "create"),
        (secret_have(None, None, None), false, "create"),
        (secret_have(Some(1), None, None), false, "keep"),
        (secret_have(Some(1), None, Some(true)), true, "keep"),
        (secret_have(Some(1), None, Some(false)), true, "update"),
        (secret_have(Some(1), None, None), true, "update"),
    ];
    cells.into_iter().map(secret_cell).collect()
}

fn secret_cell((have, rotate, due): (Option<SecretHave>, bool, &'static str)) -> Cell {
    let consents = none().with(Consent::Rotate, rotate);
    let action = Secret::diff(&secret_want(rotate), have.as_ref(), &consents);
    Cell::new(format!("secret, {have:?}, rotate {rotate}"), due, &action)
}

#[test]
fn of_a_key_that_is_kept_it_is_said_that_it_was_not_compared() {
    let kept = Secret::diff(&secret_want(false), secret_have(Some(1), None, None).as_ref(), &none());
    assert_eq!(note(&kept), "kept (replace it with --rotate)");
}

/// A key is not stored where all users can read it.
fn shared_secret_cells() -> Vec<Cell> {
    let cells = [
        (secret_have(None, Some("MANAGE"), None), false, "blocked --accept-shared-scope"),
        (secret_have(Some(1), Some("READ"), Some(false)), true, "blocked --accept-shared-scope"),
        (secret_have(Some(1), Some("READ"), Some(true)), true, "keep"),
        (secret_have(Some(1), Some("READ"), None), false, "keep"),
        (unseen(None, Readers::NoAcls), false, "blocked --accept-shared-scope"),
        (unseen(None, Readers::Hidden), false, "blocked --accept-shared-scope"),
        (unseen(Some(1), Readers::NoAcls), true, "blocked --accept-shared-scope"),
        (unseen(Some(1), Readers::Hidden), true, "blocked --accept-shared-scope"),
        (unseen(Some(1), Readers::Hidden), false, "keep"),
    ];
    cells.into_iter().map(secret_cell).collect()
}

/// A key is stored only if no one but the intended readers can read it, or others are accepted.
fn reader_cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    let listed = |names: &[(&str, &str)]| {
        let acl = |(principal, permission): &(&str, &str)| Acl {
            principal: (*principal).to_owned(),
            permission: (*permission).to_owned(),
        };
        Readers::Listed(names.iter().map(acl).collect())
    };
    let (ana, bo) = ("ana@example.com", "bo@example.com");
    for (readers, meant, expected) in [
        (listed(&[(ana, "MANAGE"), ("admins", "MANAGE")]), &[][..], "create"),
        (listed(&[(ana, "MANAGE"), ("analysts", "READ")]), &[], "blocked --accept-shared-scope"),
        (listed(&[(ana, "MANAGE"), ("analysts", "READ")]), &["Analysts".to_owned()], "create"),
        // The only person with MANAGE created it; of two, either may have.
        (listed(&[(bo, "MANAGE"), (ana, "WRITE")]), &[], "create"),
        (listed(&[(bo, "MANAGE"), (ana, "MANAGE")]), &[], "blocked --accept-shared-scope"),
        (listed(&[("platform", "MANAGE"), (ana, "WRITE")]), &[], "blocked --accept-shared-scope"),
        (listed(&[(bo, "READ")]), &[], "blocked --accept-shared-scope"),
    ] {
        let keys = BTreeSet::new();
        let have = SecretHave { keys, is_there: false, updated: None, readers: readers.clone(), stored: None };
        for (consents, expected) in [(none(), expected), (with(Consent::AcceptSharedScope), "create")] {
            let mut step = Step::<Secret>::settled(secret_want(false), Action::Create);
            step.have = Some(have.clone());
            step.consents = consents;
            step.settle_readers(ana, meant);
            cells.push(Cell::new(format!("secret, {readers:?}, meant for {meant:?}"), expected, &step.action));
        }
    }
    cells
}

/// A key in an Azure Key Vault is kept, or the error says how to set it in Azure.
fn vault_cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    let address = "https://v.vault.azure.net/";
    let scope = ScopeInfo { name: "dbt-cloud".to_owned(), backend: Backend::KeyVault(Some(address.to_owned())) };
    for (action, expected) in [
        (Action::Keep(None), "keep"),
        (Action::Create, "blocked always"),
        (Action::Update(Vec::new()), "blocked always"),
    ] {
        let mut step = Step::<Secret>::settled(secret_want(false), action);
        step.settle(Some(&scope));
        cells.push(Cell::new("secret in a vault", expected, &step.action));
        if let Action::Blocked { why, unless: _ } = &step.action {
            assert!(matches!(&why.hints[..], [Hint::Do(advice)] if advice.contains(address)));
        }
    }
    let mut untouched = Step::<Secret>::settled(secret_want(false), Action::Create);
    untouched.settle(None);
    cells.push(Cell::new("secret in no vault", "create", &untouched.action));
    cells
}

#[test]
fn a_key_shows_by_its_value_else_by_its_time_and_without_either_the_answer_is_believed() {
    let mut step = Step::<Secret>::settled(secret_want(true), Action::Update(Vec::new()));
    let timeless = |same: Option<bool>| {
        let have = secret_have(Some(1), None, same).unwrap();
        Some(SecretHave { updated: None, ..have })
    };
    let before = || secret_have(Some(1), None, Some(false));
    for (before, now, shows) in [
        (before(), None, false),
        (before(), secret_have(None, None, None), false),
        (before(), secret_have(Some(1), None, None), false),
        (before(), secret_have(Some(2), None, None), true),
        (before(), secret_have(Some(2), None, Some(false)), false),
        (before(), secret_have(Some(1), None, Some(true)), true),
        (before(), timeless(None), true),
        (timeless(None), timeless(None), true),
        (timeless(None), timeless(Some(false)), false),
        (None, timeless(None), true),
    ] {
        step.have = before;
        assert_eq!(Secret::differences(&step, now.as_ref()).is_empty(), shows, "{:?} {now:?}", step.have);
    }
}

fn grant_want(permission: Permission) -> GrantWant {
    GrantWant { scope: "dbt-cloud".parse().unwrap(), principal: "data-team".to_owned(), permission }
}

/// Access is raised and never lowered.
fn grant_cells() -> Vec<Cell> {
    use Permission::{Manage, Read, Write};
    let have = |access: Access| Some(GrantHave { access, principals: BTreeSet::new() });
    let level = |name: &str| have(Access::Level(name.to_owned()));
    let cells = [
        (Read, None, "create"),
        (Read, have(Access::Nothing), "create"),
        (Read, level("READ"), "keep"),
        (Read, level("WRITE"), "keep"),
        (Read, level("MANAGE"), "keep"),
        (Write, level("READ"), "update"),
        (Manage, level("WRITE"), "update"),
        (Write, level("FANCY_NEW"), "keep"),
        (Read, have(Access::NoAcls), "keep"),
        (Manage, have(Access::Everybody), "keep"),
    ];
    let cells = cells.into_iter().map(|(want, have, due)| {
        let action = Grant::diff(&grant_want(want), have.as_ref(), &none());
        Cell::new(format!("grant of {want:?}, {have:?}"), due, &action)
    });
    cells.collect()
}

#[test]
fn of_access_that_is_more_than_wanted_it_is_said_that_it_stays() {
    let have = GrantHave { access: Access::Level("MANAGE".to_owned()), principals: BTreeSet::new() };
    let more = Grant::diff(&grant_want(Permission::Read), Some(&have), &none());
    assert_eq!(note(&more), "kept: already has MANAGE");
}

/// The creator of the scope keeps MANAGE.
fn creator_cells() -> Vec<Cell> {
    let cells = [(true, "Data-Team", "keep"), (true, "ana@example.com", "create"), (false, "data-team", "create")];
    let cells = cells.into_iter().map(|(creates, me, due)| {
        let mut step = Step::<Grant>::settled(grant_want(Permission::Read), Action::Create);
        step.settle(creates, me);
        Cell::new(format!("grant by {me}, who creates the scope: {creates}"), due, &step.action)
    });
    cells.collect()
}

/// Access to the notebook is added and never lowered.
fn notebook_grant_cells() -> Vec<Cell> {
    use crate::databricks::permissions::NotebookLevel::{CanManage, CanRead, CanRun};
    let mut cells = Vec::new();
    let held = |levels: &[(&str, bool)], everybody: &[&str]| {
        let holding = |principal: &str, level: &str, inherited| Holding {
            principal: principal.to_owned(),
            level: level.to_owned(),
            inherited,
        };
        Some(GrantOnHave::Held {
            id: 7,
            own: levels.iter().map(|(level, inherited)| holding("data-team", level, *inherited)).collect(),
            everybody: everybody.iter().map(|level| holding("users", level, true)).collect(),
            holders: BTreeSet::new(),
        })
    };
    for (level, have, expected, says) in [
        (CanRun, None, "create", ""),
        (CanRun, held(&[], &[]), "create", ""),
        (CanRun, held(&[("CAN_RUN", false)], &[]), "keep", ""),
        (CanRead, held(&[("CAN_EDIT", false)], &[]), "keep", "kept: already has CAN_EDIT"),
        (CanRun, held(&[("CAN_READ", false)], &[]), "update", ""),
        (CanManage, held(&[("CAN_READ", true)], &[]), "update", ""),
        (CanRun, held(&[("CAN_RUN", true)], &[]), "keep", "has it from the folder"),
        (CanRun, held(&[("CAN_READ", false), ("CAN_MANAGE", true)], &[]), "keep", "from the folder"),
        (CanRun, held(&[], &["CAN_MANAGE"]), "keep", "every user already has CAN_MANAGE there"),
        (CanRun, held(&[], &["CAN_RUN"]), "keep", "every user already has CAN_RUN there"),
        (CanManage, held(&[], &["CAN_RUN"]), "create", ""),
        (CanManage, held(&[("FANCY_NEW", false)], &[]), "keep", "FANCY_NEW, an unknown level"),
        (CanRun, Some(GrantOnHave::NoAcls), "keep", "no access control for notebooks"),
    ] {
        let want = NotebookGrant { object: notebook_want().path, principal: "data-team".to_owned(), level };
        let action = NotebookGrant::diff(&want, have.as_ref(), &none());
        cells.push(Cell::new(format!("grant of {level:?} on the notebook, {have:?}"), expected, &action));
        assert!(note(&action).contains(says), "{}", note(&action));
        found_after_the_plan::<NotebookGrant>(want, have.as_ref(), &action);
    }
    cells
}

/// Access to the workflow is added and never lowered, whatever is consented to.
fn job_grant_cells() -> Vec<Cell> {
    use crate::databricks::permissions::JobLevel::{CanManage, CanManageRun, CanView};
    let mut cells = Vec::new();
    let held = |levels: &[(&str, bool)]| {
        let holding =
            |level: &str, inherited| Holding { principal: "data-team".to_owned(), level: level.to_owned(), inherited };
        let own = levels.iter().map(|(level, inherited)| holding(level, *inherited)).collect();
        Some(GrantOnHave::Held { id: 7, own, everybody: Vec::new(), holders: BTreeSet::new() })
    };
    for (level, have, expected, says) in [
        (CanManageRun, None, "create", ""),
        (CanManageRun, held(&[]), "create", ""),
        (CanManageRun, held(&[("CAN_MANAGE_RUN", false)]), "keep", ""),
        (CanView, held(&[("CAN_MANAGE", false)]), "keep", "kept: already has CAN_MANAGE"),
        (CanView, held(&[("CAN_MANAGE", true)]), "keep", "kept: already has"),
        (CanManage, held(&[("CAN_VIEW", false)]), "update", ""),
        (CanManage, held(&[("CAN_VIEW", false), ("CAN_MANAGE_RUN", true)]), "update", ""),
        (CanManage, held(&[("IS_OWNER", false)]), "keep", "is the owner"),
        (CanManage, held(&[("FANCY_NEW", false)]), "keep", "FANCY_NEW, an unknown level"),
        (CanView, Some(GrantOnHave::NoAcls), "keep", "no access control for jobs"),
    ] {
        let object =
            WorkflowJob { workflow: "dbt: Nightly".to_owned(), identity: Identity::of_name("x"), job: Some(7) };
        let want = JobGrant { object, principal: "data-team".to_owned(), level };
        for consents in [none(), with(Consent::Force), with(Consent::Adopt)] {
            let action = JobGrant::diff(&want, have.as_ref(), &consents);
            cells.push(Cell::new(format!("grant of {level:?} on the workflow, {have:?}"), expected, &action));
            assert!(note(&action).contains(says), "{}", note(&action));
            found_after_the_plan::<JobGrant>(want.clone(), have.as_ref(), &action);
        }
    }
    cells
}

/// What a plan would keep is kept, with the same note, if it appears only after the plan.
fn found_after_the_plan<K: Kind>(want: K::Want, have: Option<&K::Have>, planned: &Action) {
    let step = Step::<K>::settled(want, Action::Create);
    let kept = matches!(planned, Action::Keep(_));
    assert_eq!(K::differences(&step, have).is_empty(), kept, "{planned:?}");
    if kept {
        assert_eq!(&Action::Keep(K::downgraded_to_noop(&step, have)), planned);
    }
}

fn notebook_want() -> NotebookWant {
    NotebookWant {
        path: "/Users/ana@example.com/dbtrigger/run_dbt_job_51234".parse().unwrap(),
        settings: NotebookSettings {
            host: Origin::parse("ab123.us1.dbt.com").unwrap(),
            account_id: 51234,
            scope: Setting::Keep,
            key: Setting::Keep,
            allow_override: Setting::Keep,
            allow_job: Setting::Keep,
        },
    }
}

fn notebook_with(change: impl FnOnce(&mut NotebookSettings)) -> NotebookWant {
    let mut want = notebook_want();
    change(&mut want.settings);
    want
}

fn settings() -> Settings {
    notebook_want().settings.after(None)
}

#[expect(clippy::unnecessary_wraps, reason = "as observing gives it")]
fn there(text: impl Into<String>) -> Option<NotebookHave> {
    Some(NotebookHave::Notebook { object_id: Some(7), text: text.into() })
}

/// As Databricks returns it: without the final newline.
fn exported(settings: &Settings, version: &str) -> String {
    normalise(&render(settings, version))
}

fn edited(text: &str) -> String {
    format!("{text}\n# a remark of somebody's\n")
}

/// A notebook is written only where that loses no work of others.
fn notebook_cells() -> Vec<Cell> {
    let ours = exported(&settings(), VERSION);
    let older = exported(&settings(), "0.0.1");
    let newer = exported(&settings(), "99.0.0");
    let other_account = exported(&Settings { account_id: 7, ..settings() }, VERSION);
    let other_host = exported(&Settings { host: Origin::parse("cd.eu1.dbt.com").unwrap(), ..settings() }, VERSION);
    let foreign = "# Databricks notebook source\nprint(1)";
    let cells: [(&str, Option<NotebookHave>, &'static str, &'static str, &'static str); 13] = [
        ("absent", None, "create", "create", "create"),
        ("ours", there(ours.clone()), "keep", "keep", "keep"),
        ("ours, with other line ends", there(ours.replace('\n', "\r\n") + "\r\n"), "keep", "keep", "keep"),
        ("ours, older", there(older.clone()), "update", "update", "update"),
        ("ours, newer", there(newer), "blocked --force", "update", "blocked --force"),
        ("ours, other account", there(other_account), "blocked --force", "update", "blocked --force"),
        ("ours, other host", there(other_host), "blocked --force", "update", "blocked --force"),
        ("ours, edited", there(edited(&ours)), "blocked --force", "update", "blocked --force"),
        ("ours, older and edited", there(edited(&older)), "blocked --force", "update", "blocked --force"),
        ("foreign", there(foreign), "blocked --adopt", "blocked --adopt", "update"),
        (
            "a folder",
            Some(NotebookHave::Other("DIRECTORY".into())),
            "blocked always",
            "blocked always",
            "blocked always",
        ),
        ("a file", Some(NotebookHave::Other("FILE".into())), "blocked always", "blocked always", "blocked always"),
        (
            "below a notebook",
            Some(NotebookHave::NoFolder {
                above: "/Users/ana@example.com/nb".parse().unwrap(),
                kind: "NOTEBOOK".into(),
            }),
            "blocked always",
            "blocked always",
            "blocked always",
        ),
    ];
    let cells = cells.into_iter().flat_map(|(cell, have, plain, force, adopt)| {
        let act = |flag: &str, due: &'static str, consents: &Consents| {
            let action = Notebook::diff(&notebook_want(), have.as_ref(), consents);
            Cell::new(format!("notebook, {cell} {flag}"), due, &action)
        };
        [
            act("", plain, &none()),
            act("--force", force, &with(Consent::Force)),
            act("--adopt", adopt, &with(Consent::Adopt)),
        ]
    });
    cells.collect()
}

#[test]
fn a_refusal_shows_the_lines_that_differ() {
    let ours = exported(&settings(), VERSION);
    let Action::Blocked { why, unless: _ } = Notebook::diff(&notebook_want(), there(edited(&ours)).as_ref(), &none())
    else {
        panic!("it was edited")
    };
    assert!(why.diff.unwrap().contains("-# a remark of somebody's"));
    let moved = exported(&Settings { account_id: 7, ..settings() }, VERSION);
    let action = Notebook::diff(&notebook_want(), there(moved).as_ref(), &none());
    assert!(note(&action).contains("another dbt account (51234 instead of 7)"), "{}", note(&action));
}

/// Below /Shared, nothing is written without consent.
fn shared_notebook_cells() -> Vec<Cell> {
    let want = NotebookWant { path: "/Workspace/Shared/run".parse().unwrap(), ..notebook_want() };
    let haves = [("absent", None), ("ours", there(exported(&settings(), VERSION))), ("foreign", there("print(1)"))];
    let mut cells: Vec<Cell> = haves
        .into_iter()
        .map(|(cell, have)| {
            let action = Notebook::diff(&want, have.as_ref(), &none());
            Cell::new(format!("notebook below /Shared, {cell}"), "blocked --accept-shared-path", &action)
        })
        .collect();
    let accepted = Notebook::diff(&want, None, &with(Consent::AcceptSharedPath));
    cells.push(Cell::new("notebook below /Shared, absent --accept-shared-path", "create", &accepted));
    cells
}

#[test]
fn what_is_not_said_stays_as_it_is_in_a_notebook_of_ours() {
    let deployed = Settings {
        scope: "other".to_owned(),
        key: "token".to_owned(),
        allow_override: vec![Field::named("git_branch").unwrap()],
        allow_job: vec![222_222],
        ..settings()
    };
    let have = there(exported(&deployed, VERSION));
    assert_eq!(word(&Notebook::diff(&notebook_want(), have.as_ref(), &none())), "keep");
    // An explicit flag counts: fewer allowed overrides are an ordinary change, another key is not.
    let fewer = notebook_with(|settings| settings.allow_override = Setting::Clear);
    let Action::Update(changes) = Notebook::diff(&fewer, have.as_ref(), &none()) else { panic!("it differs") };
    assert_eq!((changes.len(), changes[0].field.as_str()), (1, "overrides"));
    assert_eq!((changes[0].from.as_deref(), changes[0].to.as_deref()), (Some("git_branch"), Some("none")));
    let elsewhere = notebook_with(|settings| settings.key = Setting::Set("api-key".to_owned()));
    assert_eq!(word(&Notebook::diff(&elsewhere, have.as_ref(), &none())), "blocked --force");
    // An edited notebook's settings are not reused.
    let have = there(edited(&exported(&deployed, VERSION)));
    assert_eq!(notebook_want().settings.after(have.as_ref()), settings());
}
