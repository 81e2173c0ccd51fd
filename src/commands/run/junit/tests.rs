use std::collections::BTreeMap;

use super::*;
use crate::commands::run;
use crate::commands::tests::harness::{Harness, Outcome, number};
use crate::events::RunEvent;
use crate::sandbox::FaultRule;

fn node(unique_id: &str, status: &str, message: &str) -> Node {
    let node =
        serde_json::json!({ "unique_id": unique_id, "status": status, "message": message, "execution_time": 1.25 });
    serde_json::from_value(node).unwrap()
}

fn part(step: &str, results: Result<Vec<Node>, &str>) -> StepResults {
    StepResults { step: step.to_owned(), results: results.map_err(ToOwned::to_owned) }
}

fn cases(parts: Vec<StepResults>, detail: bool) -> Vec<Case> {
    let results = Results::default();
    results.insert(7, parts);
    results.cases(7, detail, &|text| text.replace("dbtc_secret", "***"))
}

#[test]
fn each_status_has_its_verdict_and_its_message_only_if_wished_for() {
    for (status, verdict, output) in [
        ("success", "passed", None),
        ("pass", "passed", None),
        ("warn", "passed", Some("warn: Got 3 of dbtc_secret")),
        ("no-op", "passed", Some("no-op: Got 3 of dbtc_secret")),
        ("fail", "failure: fail: Got 3 of dbtc_secret", None),
        ("partial success", "failure: partial success: Got 3 of dbtc_secret", None),
        ("error", "error: error: Got 3 of dbtc_secret", None),
        ("runtime error", "error: runtime error: Got 3 of dbtc_secret", None),
        ("skipped", "skipped: skipped: Got 3 of dbtc_secret", None),
        ("", "skipped: dbt reports no status", None),
    ] {
        for detail in [false, true] {
            let nodes = vec![node("test.shop.unique_id.e3b8", status, "Got 3 of dbtc_secret")];
            let all = cases(vec![part("step 4: dbt build", Ok(nodes))], detail);
            let Case { class, name, seconds, verdict: got, output: out } = &all[0];
            assert_eq!((class.as_str(), name.as_str(), *seconds), ("test.shop", "unique_id.e3b8", Some(1.25)));
            let got = match got {
                Verdict::Passed => "passed".to_owned(),
                Verdict::Failure { kind, message } => {
                    assert_eq!(kind, status);
                    format!("failure: {message}")
                }
                Verdict::Error { kind, message } => {
                    assert_eq!(kind, status);
                    format!("error: {message}")
                }
                Verdict::Skipped { message } => format!("skipped: {message}"),
            };
            let shown = |text: &str| text.replace(": Got 3 of dbtc_secret", if detail { ": Got 3 of ***" } else { "" });
            assert_eq!((got, out.clone()), (shown(verdict), output.map(shown)), "{status} {detail}");
        }
    }
}

#[test]
fn of_a_node_that_several_steps_ran_the_last_counts_and_a_step_without_results_is_seen() {
    let first =
        part("step 3: dbt run", Ok(vec![node("model.shop.a", "success", ""), node("model.shop.b.v2", "warn", "")]));
    let none = part("step 4: dbt test", Err("HTTP 404"));
    let last = part("step 5: dbt build", Ok(vec![node("odd", "error", ""), node("model.shop.a", "error", "")]));
    let all = cases(vec![first, none, last], true);
    let names: Vec<(&str, &str)> = all.iter().map(|case| (case.class.as_str(), case.name.as_str())).collect();
    assert_eq!(names, [("model.shop", "a"), ("model.shop", "b.v2"), ("dbt.step", "step 4: dbt test"), ("", "odd")]);
    assert!(matches!(all[0].verdict, Verdict::Error { kind: _, message: _ }), "{all:?}");
    assert_eq!(all[2].verdict, Verdict::Skipped { message: "its results are not available: HTTP 404".to_owned() });
}

#[test]
fn no_text_is_more_than_text() {
    let text = "a ]]> <b x='1'> & \" \u{0}\u{1b}\u{b}\u{fffe}\u{ffff}\r\n\té😀";
    let verdict = Verdict::Error { kind: text.to_owned(), message: text.to_owned() };
    let case = Case {
        class: text.to_owned(),
        name: text.to_owned(),
        seconds: Some(f64::NAN),
        verdict,
        output: Some(text.to_owned()),
    };
    let xml = document(&[Suite::of(text, Some(3), vec![case])]);
    let escaped = "a ]]&gt; &lt;b x=&apos;1&apos;&gt; &amp; &quot; \
                   \u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}&#13;&#10;&#9;é😀";
    let expected = format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="dbtrigger" tests="1" failures="0" errors="1" skipped="0">
  <testsuite name="dbt job {escaped}" tests="1" failures="0" errors="1" skipped="0" time="3">
    <testcase classname="{escaped}" name="{escaped}"><error type="{escaped}" message="{escaped}">{escaped}</error><system-out>{escaped}</system-out></testcase>
  </testsuite>
</testsuites>
"#
    );
    assert_eq!(xml, expected);
}

#[test]
fn a_file_is_written_whole_or_not_at_all_and_only_where_a_file_belongs() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("junit.xml");
    write(&file, "1").unwrap();
    // A reader of the old file is not disturbed.
    let mut old = fs::File::open(&file).unwrap();
    write(&file, "2").unwrap();
    assert_eq!((io::read_to_string(&mut old).unwrap(), fs::read_to_string(&file).unwrap()), ("1".into(), "2".into()));
    assert!(write(home.path(), "3").unwrap_err().to_string().contains("it is a directory"));
    assert!(
        write(&home.path().join("no/such.xml"), "3").unwrap_err().to_string().contains("its directory does not exist")
    );
    assert!(write(&file.join("x"), "3").is_err() && write(Path::new("/"), "3").is_err());
    #[cfg(unix)]
    {
        let link = home.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for special in [link.as_path(), Path::new("/dev/null")] {
            assert!(
                write(special, "3").unwrap_err().to_string().contains("it exists and is not a regular file"),
                "{}",
                special.display()
            );
        }
        // Usual permissions of a new file; a temporary file would be private.
        let mode = |path: &Path| std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions());
        let plain = home.path().join("plain");
        fs::write(&plain, "").unwrap();
        assert_eq!(mode(&file), mode(&plain));
        fs::remove_file(&plain).unwrap();
        fs::remove_file(&link).unwrap();
    }
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
}

/// Returns the outcome and the collected results.
async fn start(ctx: &Harness, line: &[&str]) -> (Outcome, Results) {
    let mut results = Results::default();
    let command = async |args: run::Args, ctx: &crate::commands::CommandContext| {
        results = ctx.results.clone();
        run::run(args, ctx).await
    };
    let outcome = ctx.run(command, line).await.expect("nobody kills it");
    (outcome, results)
}

/// Counts the verdicts of the run's nodes.
fn verdicts(outcome: &Outcome, results: &Results) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for case in results.cases(number(&outcome.data["run_id"]), false, &ToOwned::to_owned) {
        let word = match case.verdict {
            Verdict::Passed => "passed",
            Verdict::Failure { kind: _, message: _ } => "failure",
            Verdict::Error { kind: _, message: _ } => "error",
            Verdict::Skipped { message: _ } => "skipped",
        };
        *counts.entry(word).or_default() += 1;
    }
    counts
}

#[tokio::test(start_paused = true)]
async fn the_results_of_every_step_that_builds_are_fetched_and_of_a_resumed_run_the_last_ones() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("junit.xml");
    let file = file.to_str().unwrap();
    for (line, exit, expected) in [
        (&["222222"][..], 0, &[("passed", 6)][..]),
        (&["222223"], 3, &[("error", 1), ("failure", 1), ("passed", 3), ("skipped", 1)]),
        (&["222226", "--retry", "1"], 0, &[("passed", 6)]),
        (&["222222", "--step", "dbt run", "--step", "dbt test", "--step", "dbt compile"], 0, &[("passed", 6)]),
        (&["222222", "--step", "dbt debug"], 0, &[]),
    ] {
        let ctx = Harness::new();
        let (outcome, results) = start(&ctx, &[line, &["--junit", file]].concat()).await;
        assert_eq!(outcome.exit, exit, "{line:?}: {outcome:?}");
        assert_eq!(verdicts(&outcome, &results), expected.iter().copied().collect(), "{line:?}: {}", outcome.said());
    }
    // Without `--junit` nothing is downloaded.
    let ctx = Harness::new();
    let _ = start(&ctx, &["222222"]).await;
    assert!(ctx.take_log().iter().all(|seen| !seen.operation.contains("artifacts")));
}

#[tokio::test(start_paused = true)]
async fn results_are_waited_for_and_what_is_not_to_be_had_is_a_warning_and_changes_no_outcome() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("junit.xml");
    for (rule, there) in [
        ("dbt:runs/artifacts/get=status=404,times=3", true),
        ("dbt:runs/artifacts/get=status=404,times=forever", false),
        ("dbt:runs/artifacts/get=status=403,times=forever", false),
        ("dbt:runs/artifacts/get=hang,times=forever", false),
    ] {
        let ctx = Harness::new();
        ctx.world(|world| world.add_fault(FaultRule::parse(rule).unwrap()));
        let line = ["222222", "--timeout", "10m", "--junit", file.to_str().unwrap()];
        let (outcome, results) = start(&ctx, &line).await;
        assert_eq!(outcome.exit, 0, "{rule}: {outcome:?}");
        assert!(outcome.took <= std::time::Duration::from_secs(661), "{rule}: {:?}", outcome.took);
        let warns = |event: &&RunEvent| matches!(event, RunEvent::ResultsMissing { .. });
        assert_eq!(outcome.run_events().iter().any(warns), !there, "{rule}: {}", outcome.said());
        let expected = if there { ("passed", 6) } else { ("skipped", 1) };
        assert_eq!(verdicts(&outcome, &results), BTreeMap::from([expected]), "{rule}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_written_is_refused_before_anything_is_started() {
    let home = tempfile::tempdir().unwrap();
    let (folder, missing) = (home.path().to_owned(), home.path().join("no/such.xml"));
    for (file, jobs) in [(folder, &["222222"][..]), (missing, &["222222", "300001"])] {
        let ctx = Harness::new();
        let (outcome, results) = start(&ctx, &[jobs, &["--junit", file.to_str().unwrap()]].concat()).await;
        assert_eq!((outcome.exit, outcome.code), (2, Some(Code::InvalidInput)), "{outcome:?}");
        assert!(outcome.failure.contains("cannot write to --junit") && results.is_refused(), "{outcome:?}");
        assert_eq!(ctx.take_writes(), Vec::<&str>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn from_the_start_on_the_file_says_that_the_end_is_not_known() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("junit.xml");
    fs::write(&file, "what an earlier run has left").unwrap();
    let ctx = Harness::new();
    let (outcome, _) = start(&ctx, &["222222", "300001", "--junit", file.to_str().unwrap()]).await;
    assert_eq!(outcome.exit, 0, "{outcome:?}");
    // The command writes only the placeholder; the program writes the report when it ends.
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(r#"tests="2" failures="0" errors="2""#), "{text}");
    assert!(text.contains(r#"<error type="outcome-unknown""#), "{text}");
}
