use super::*;
use crate::dbt::{FIELDS, Field, Kind};
use crate::origin::Origin;

fn settings() -> Settings {
    Settings {
        host: Origin::parse("https://ab123.us1.dbt.com").unwrap(),
        account_id: 51234,
        scope: "dbt-cloud".to_owned(),
        key: "api-key".to_owned(),
        allow_override: Vec::new(),
        allow_job: Vec::new(),
    }
}

#[test]
fn the_template_has_one_placeholder_one_marker_line_and_one_settings_line() {
    assert_eq!(TEMPLATE.matches(PLACEHOLDER).count(), 1);
    assert_eq!(TEMPLATE.matches(marker_line::PREFIX).count(), 1);
    assert_eq!(TEMPLATE.matches(&format!("\n{SETTINGS_BEFORE}{PLACEHOLDER}{SETTINGS_AFTER}\n")).count(), 1);
}

#[test]
fn the_template_is_in_the_form_that_an_export_gives_back() {
    const SEPARATOR: &str = "\n\n# COMMAND ----------\n\n";
    assert!(TEMPLATE.starts_with("# Databricks notebook source\n"));
    assert!(TEMPLATE.is_ascii());
    assert!(!TEMPLATE.contains(['\r', '\t']));
    assert!(TEMPLATE.ends_with('\n') && !TEMPLATE.ends_with("\n\n"));
    assert!(!TEMPLATE.contains("# MAGIC"));
    assert_eq!(TEMPLATE.matches("COMMAND").count(), TEMPLATE.matches(SEPARATOR).count());
    for cell in TEMPLATE.split(SEPARATOR) {
        assert_eq!(cell.trim_matches('\n'), cell.strip_suffix('\n').unwrap_or(cell));
    }
    for line in TEMPLATE.lines() {
        assert_eq!(line, line.trim_end());
        assert!(line.len() <= 120, "too long to read: {line}");
    }
}

#[test]
fn the_exit_is_the_very_last_statement() {
    let last = TEMPLATE.trim_end().lines().last();
    assert_eq!(last, Some("dbutils.notebook.exit(result)"));
    assert_eq!(TEMPLATE.matches("notebook.exit").count(), 1);
}

#[test]
fn requests_is_the_only_import_beyond_the_standard_library() {
    const STANDARD: [&str; 14] = [
        "base64",
        "email.utils",
        "enum",
        "hashlib",
        "io",
        "json",
        "os",
        "queue",
        "random",
        "re",
        "threading",
        "time",
        "urllib.parse",
        "uuid",
    ];
    let imports: Vec<&str> = TEMPLATE.lines().filter_map(|line| line.strip_prefix("import ")).collect();
    let foreign: Vec<&&str> = imports.iter().filter(|name| !STANDARD.contains(name)).collect();
    assert_eq!(foreign, [&"requests"]);
    assert!(!TEMPLATE.lines().any(|line| line.trim_start().starts_with("from ") && line.contains(" import ")));
}

#[test]
fn a_rendered_notebook_is_read_back_as_ours_and_intact() {
    let mut settings = settings();
    settings.allow_override = ["steps_override", "git_branch"].map(|name| Field::named(name).unwrap()).to_vec();
    settings.allow_job = vec![222_223, 222_222, 222_223];
    let text = render(&settings, "0.1.0");
    let Reading::Ours { version, state, settings: Some(found) } = read(&text) else {
        panic!("not ours");
    };
    assert_eq!((version.as_str(), state), ("0.1.0", State::Intact));
    assert_eq!(found.host, "https://ab123.us1.dbt.com");
    assert_eq!((found.account_id.as_str(), found.scope.as_str()), ("51234", "dbt-cloud"));
    assert_eq!(found.key, "api-key");
    assert_eq!(found.allow_override, ["git_branch", "steps_override"]);
    assert_eq!(found.allow_job, [222_222, 222_223]);
    assert_eq!(found.credential_changes(&settings), []);
}

#[test]
fn a_round_trip_through_a_workspace_changes_nothing() {
    let text = render(&settings(), "0.1.0");
    let forms = [
        text.clone(),
        text.strip_suffix('\n').expect("ends so").to_owned(),
        text.replace('\n', "\r\n"),
        format!("\u{feff}{text}"),
        format!("{text}\n\n"),
    ];
    for form in forms {
        assert_eq!(drift(&form, &settings(), "0.1.0"), Drift::Unchanged);
    }
}

#[test]
fn the_three_states_are_told_apart() {
    let text = render(&settings(), "0.1.0");
    let unmoved = |version: &str, downgrade| Difference {
        version: version.to_owned(),
        downgrade,
        credential_changes: Vec::new(),
    };
    assert_eq!(drift(&text, &settings(), "0.2.0"), Drift::Outdated(unmoved("0.1.0", false)));
    assert_eq!(drift(&text, &settings(), "0.0.9"), Drift::Outdated(unmoved("0.1.0", true)));
    let edited = text.replace("SETTLE = 60", "SETTLE = 61");
    assert_eq!(drift(&edited, &settings(), "0.1.0"), Drift::EditedByHand(unmoved("0.1.0", false)));
    let damaged = text.replace(" sha256=", " sha=");
    assert_eq!(drift(&damaged, &settings(), "0.1.0"), Drift::EditedByHand(unmoved("", false)));
    assert_eq!(drift("print(1)", &settings(), "0.1.0"), Drift::NotOurs);
    assert_eq!(drift("", &settings(), "0.1.0"), Drift::NotOurs);
}

#[test]
fn a_marker_further_down_is_a_quotation() {
    let text = "# Databricks notebook source\n\n# COMMAND ----------\n\n# dbtrigger-notebook: version=1.0.0 sha256=0";
    assert_eq!(read(text), Reading::NotOurs);
}

#[test]
fn another_account_host_scope_or_key_is_named() {
    let text = render(&settings(), "0.1.0");
    let want = Settings {
        host: Origin::parse("https://zz999.us1.dbt.com").unwrap(),
        account_id: 99,
        scope: "other".to_owned(),
        key: "other-key".to_owned(),
        ..settings()
    };
    let Drift::Outdated(difference) = drift(&text, &want, "0.1.0") else {
        panic!("not outdated");
    };
    let what: Vec<&str> = difference.credential_changes.iter().map(|change| change.what).collect();
    assert_eq!(what, ["dbt host", "dbt account", "secret scope", "secret key"]);
    assert_eq!(difference.credential_changes[1].from, "51234");
    assert_eq!(difference.credential_changes[1].to, "99");
}

#[test]
fn settings_that_were_edited_out_of_shape_are_not_guessed() {
    let text = render(&settings(), "0.1.0").replace(SETTINGS_BEFORE, "SETTINGS = dict('");
    let Reading::Ours { version: _, state, settings } = read(&text) else {
        panic!("not ours");
    };
    assert_eq!((state, settings), (State::EditedByHand, None));
}

#[test]
fn the_template_has_dbts_fields_and_their_types() {
    let (_, rest) = TEMPLATE.split_once("\nOVERRIDES = {\n").unwrap();
    let (rows, _) = rest.split_once("\n}\n").unwrap();
    let expected = FIELDS.iter().map(|Field { name, kind, .. }| {
        let python = match kind {
            Kind::Text => "str",
            Kind::Number | Kind::Seconds => "int",
            Kind::Flag => "bool",
            Kind::Texts => "list",
        };
        format!("    \"{name}\": {python},")
    });
    assert_eq!(rows.lines().collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}
