use std::cell::RefCell;
use std::rc::Rc;

use serde_json::Value;

use super::*;
use crate::commands::tests::harness::{Harness, Outcome, id};
use crate::commands::{create_workflow, deploy_notebook, init_secrets, run};
use crate::events::{Event, Level};
use crate::failure::{Code, TaskRun};
use crate::sandbox::NotebookOutcome;

/// The contents of both files, and the warnings.
struct Written {
    outputs: String,
    summary: String,
}

fn write(named: &[&str], detail: bool, runs: &[RunOutcome], code: Option<Code>) -> Written {
    let folder = tempfile::tempdir().unwrap();
    let (output, summary) = (folder.path().join("output"), folder.path().join("summary.md"));
    let environment = Environment::of([
        ("GITHUB_OUTPUT", output.to_str().unwrap()),
        ("GITHUB_STEP_SUMMARY", summary.to_str().unwrap()),
    ]);
    let warnings = write_to(named, detail, runs, code, &environment);
    assert_eq!(warnings, Vec::<Event>::new());
    let read = |path| std::fs::read_to_string(path).unwrap();
    Written { outputs: read(output), summary: read(summary) }
}

/// Returns the level, title and message of each annotation.
fn annotate(named: &[&str], detail: bool, runs: &[RunOutcome], code: Option<Code>) -> Vec<(Level, String, String)> {
    let environment = Environment::of([("GITHUB_ACTIONS", "true")]);
    let events = write_to(named, detail, runs, code, &environment);
    let annotation = |event| {
        let Event::Annotation { level, title, message } = event else { panic!("{event:?}") };
        (level, title, message)
    };
    events.into_iter().map(annotation).collect()
}

fn write_to(
    named: &[&str],
    detail: bool,
    runs: &[RunOutcome],
    code: Option<Code>,
    environment: &Environment,
) -> Vec<Event> {
    let events: Rc<RefCell<Vec<Event>>> = Rc::default();
    let sink = events.clone();
    let named = named.iter().map(ToString::to_string).collect();
    let failure = code.map(|code| Failure::new(code, "It did not end well.\r\n(dbtc_secret)"));
    let results = Results::default();
    let ending = Ending { runs, failure: failure.as_ref(), results: &results, exit: code.map_or(0, Code::exit) };
    let redact = |text: &str| text.replace("dbtc_secret", "***");
    let heard = Events::new(move |event| sink.borrow_mut().push(event));
    CiOutputs { named, detail, junit: None }.write(&ending, environment, &redact, &heard);
    events.take()
}

/// Parses as GitHub's runner does: a line is `name=value`, or starts a multi-line value with `name<<WORD`.
fn read_outputs(text: &str) -> Vec<(String, String)> {
    assert!(text.ends_with('\n') && !text.contains('\r'), "{text:?}");
    let lines = text.lines().map(|line| {
        let equals = line.find('=').unwrap_or_else(|| panic!("{line:?} in {text:?}"));
        assert!(line.find("<<").is_none_or(|heredoc| equals < heredoc), "{line:?}");
        (line[..equals].to_owned(), line[equals + 1..].to_owned())
    });
    lines.collect()
}

fn names(outputs: &str) -> Vec<String> {
    read_outputs(outputs).into_iter().map(|(name, _)| name).collect()
}

/// The cells of each row below the heading.
fn cells(summary: &str) -> Vec<Vec<&str>> {
    let rows = summary.lines().skip_while(|line| *line != "|---|---|---|---|").skip(1);
    let rows = rows.take_while(|line| !line.is_empty());
    rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// A run of dbt job 1.
fn run_of_dbt(run_id: u64, status: &str) -> RunOutcome {
    RunOutcome {
        name: "1".to_owned(),
        job_id: Some(1),
        run_id: Some(run_id),
        run_url: Some(format!("https://x/{run_id}")),
        status: Some(status.to_owned()),
        ..RunOutcome::default()
    }
}

fn failed_part(name: &str, message: &str) -> FailedPart {
    FailedPart { name: name.to_owned(), message: Some(message.to_owned()) }
}

fn run_failed(what: &str) -> Result<(), Failure> {
    Err(Failure::new(Code::RunFailed, what))
}

async fn start(ctx: &Harness, line: &[&str]) -> Outcome {
    ctx.run(run::run, line).await.expect("nobody kills it")
}

/// What fails in the sandbox's job with broken models.
const FAILED: &str = "model orders, test unique_stg_orders_order_id";

const SINGLE: [&str; 4] = ["run_id", "run_url", "status", "exit_code"];

#[tokio::test(start_paused = true)]
async fn a_run_is_told_however_it_ended() {
    for (job, status, exit, shown) in [
        ("222222", "SUCCESS", "0", "SUCCESS"),
        ("222223", "ERROR", "3", "ERROR (run-failed)"),
        ("222224", "CANCELLED", "20", "CANCELLED (run-cancelled)"),
    ] {
        let outcome = start(&Harness::new(), &[job]).await;
        let written = write(&[job], false, &outcome.runs, outcome.code);
        let (run, url) = (id(&outcome.data["run_id"]), outcome.data["run_url"].as_str().unwrap());
        let told = read_outputs(&written.outputs);
        let expected = SINGLE.iter().zip([run.as_str(), url, status, exit]);
        assert_eq!(told, expected.map(|(name, value)| (name.to_string(), value.to_owned())).collect::<Vec<_>>());
        let rows = cells(&written.summary);
        assert_eq!(rows.len(), 1, "{}", written.summary);
        assert_eq!(rows[0][..3], [job, &format!("[{run}]({url})"), shown]);
        assert_eq!(rows[0][3], if status == "ERROR" { FAILED } else { "" }, "{}", written.summary);
    }
}

#[tokio::test(start_paused = true)]
async fn messages_of_what_failed_are_told_only_if_wished_for() {
    let outcome = start(&Harness::new(), &["222223"]).await;
    let message = outcome.data["failed_nodes"][0]["message"].as_str().unwrap();
    let first = message.split(' ').next().unwrap();
    assert!(first.len() > 3, "{message}");
    let brief = write(&["222223"], false, &outcome.runs, outcome.code).summary;
    assert!(!brief.contains(first), "{brief}");
    let detailed = write(&["222223"], true, &outcome.runs, outcome.code).summary;
    let line = detailed.lines().find(|line| line.starts_with("- **model orders**: ")).unwrap();
    assert!(line.contains(first), "{line}");
    assert_eq!(cells(&brief), cells(&detailed));
}

#[tokio::test(start_paused = true)]
async fn several_runs_are_told_as_json_each_with_its_own_outcome() {
    let named = ["222222", "222223", "222224"];
    let outcome = start(&Harness::new(), &named).await;
    let written = write(&named, false, &outcome.runs, outcome.code);
    let told = read_outputs(&written.outputs);
    assert_eq!(names(&written.outputs), ["runs", "exit_code"]);
    assert_eq!(told[1].1, "3");
    let runs: Value = serde_json::from_str(&told[0].1).unwrap();
    let of = |name: &str| runs.as_array().unwrap().iter().map(|run| run[name].clone()).collect::<Vec<_>>();
    assert_eq!(of("status"), ["SUCCESS", "ERROR", "CANCELLED"]);
    assert_eq!(of("exit_code"), [0, 3, 20]);
    assert_eq!(of("job_id"), ["222222", "222223", "222224"]);
    for (index, run) in outcome.data["runs"].as_array().unwrap().iter().enumerate() {
        assert_eq!((&run["run_id"], &run["run_url"]), (&of("run_id")[index], &of("run_url")[index]));
    }
    let rows = cells(&written.summary);
    let statuses: Vec<&str> = rows.iter().map(|row| row[2]).collect();
    assert_eq!(statuses, ["SUCCESS", "ERROR (run-failed)", "CANCELLED (run-cancelled)"]);
    assert_eq!(rows[1][3], FAILED);
}

#[tokio::test(start_paused = true)]
async fn where_nothing_was_started_the_step_still_gets_every_output() {
    let outcome = start(&Harness::new(), &["999999"]).await;
    assert_eq!(outcome.exit, 6, "{outcome:?}");
    let missing = Some(Code::NotFound);
    let single = write(&["no such | job"], false, &[], missing);
    assert_eq!(single.outputs, "run_id=\nrun_url=\nstatus=\nexit_code=6\n");
    assert_eq!(cells(&single.summary), [["no such &#124; job", "", "not-found", ""]]);
    let several = write(&["1", "2"], false, &[], missing);
    assert_eq!(several.outputs, "runs=[]\nexit_code=6\n");
    assert_eq!(cells(&several.summary).len(), 2, "{}", several.summary);
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_run_is_told_with_what_became_of_it() {
    let ctx = Harness::new();
    ctx.interrupt_at("dbt:runs/get", 3);
    let outcome = start(&ctx, &["222222", "--on-interrupt", "cancel"]).await;
    let written = write(&["222222"], false, &outcome.runs, outcome.code);
    let told = read_outputs(&written.outputs);
    assert_eq!((told[2].1.as_str(), told[3].1.as_str()), ("CANCELLED", "143"));
    assert_eq!(cells(&written.summary)[0][2], "CANCELLED (interrupted)");
    // Several jobs still running: an active run has no result of its own.
    let ended = RunOutcome { result: Some(Ok(())), ..run_of_dbt(12, "SUCCESS") };
    let written = write(&["1", "2"], false, &[run_of_dbt(11, "RUNNING"), ended], Some(Code::Interrupted(2)));
    let runs: Value = serde_json::from_str(&read_outputs(&written.outputs)[0].1).unwrap();
    assert_eq!((&runs[0]["exit_code"], &runs[1]["exit_code"]), (&130.into(), &0.into()));
    let statuses: Vec<&str> = cells(&written.summary).iter().map(|row| row[2]).collect();
    assert_eq!(statuses, ["RUNNING (interrupted)", "SUCCESS"]);
}

#[test]
fn a_run_of_a_workflow_is_told_with_the_dbt_runs_behind_it() {
    let dbt_run = TaskRun {
        task_key: "dbt_1".to_owned(),
        run_id: 77,
        run_url: Some("https://x/77".to_owned()),
        status: Some("Error".to_owned()),
    };
    let run = RunOutcome {
        name: "dbt: <Nightly>".to_owned(),
        run_id: Some(9),
        run_url: Some("https://x/jobs/5/runs/9".to_owned()),
        status: Some("FAILED".to_owned()),
        failed: vec![failed_part("dbt_1", "dbt run\n77 | failed")],
        dbt_runs: vec![dbt_run],
        ..RunOutcome::default()
    };
    let written = write(&["w"], true, &[run], Some(Code::RunFailed));
    assert_eq!(written.outputs, "run_id=9\nrun_url=https://x/jobs/5/runs/9\nstatus=FAILED\nexit_code=3\n");
    assert_eq!(
        cells(&written.summary),
        [
            ["dbt\\: &lt;Nightly&gt;", "[9](https://x/jobs/5/runs/9)", "FAILED (run-failed)", "dbt_1"],
            ["dbt_1", "[77](https://x/77)", "Error", ""]
        ]
    );
    assert!(written.summary.ends_with("\n- **dbt_1**: dbt run 77 &#124; failed\n"), "{}", written.summary);
}

#[tokio::test(start_paused = true)]
async fn a_workflow_that_was_really_run_has_these_fields() {
    let ctx = Harness::new();
    assert_eq!(ctx.run(init_secrets::run, &[]).await.unwrap().exit, 0);
    assert_eq!(ctx.run(deploy_notebook::run, &[]).await.unwrap().exit, 0);
    let _ = ctx.run(create_workflow::run, &["--job", "222223", "--name", "w"]).await.unwrap();
    let play = async {
        let (error, trace) = ("dbt run 5 failed".to_owned(), String::new());
        let _ = ctx.finish_notebook(NotebookOutcome::Failed { error, trace }).await;
        std::future::pending::<()>().await;
    };
    let outcome = tokio::select! {
        outcome = start(&ctx, &["--workflow", "w"]) => outcome,
        () = play => unreachable!(),
    };
    let written = write(&["w"], false, &outcome.runs, outcome.code);
    let told = read_outputs(&written.outputs);
    assert_eq!((told[2].1.as_str(), told[3].1.as_str()), ("FAILED", "3"), "{outcome:?}");
    assert!(!told[0].1.is_empty() && told[1].1.contains(&format!("/runs/{}", told[0].1)), "{told:?}");
    assert_eq!(cells(&written.summary)[0][3], outcome.data["tasks"][0]["task_key"].as_str().unwrap());
}

#[test]
fn no_text_of_a_service_ends_its_line_its_cell_or_its_link() {
    let hostile = "a\nexit_code=0\r\nrun_id<<EOF\nx\nEOF\u{85}|b` [c](http://evil) <img src=x> @team *d* _e_ #7 www.f $g$ dbtc_secret";
    let run = RunOutcome {
        name: hostile.to_owned(),
        run_id: Some(9),
        run_url: Some(hostile.to_owned()),
        status: Some(hostile.to_owned()),
        failed: vec![failed_part(hostile, hostile)],
        ..RunOutcome::default()
    };
    let written = write(&["w"], true, std::slice::from_ref(&run), Some(Code::RunFailed));
    assert_eq!(names(&written.outputs), SINGLE);
    assert_eq!(read_outputs(&written.outputs)[3].1, "3");
    let several = write(&["w", "v"], true, &[run, RunOutcome::default()], Some(Code::RunFailed));
    assert_eq!(names(&several.outputs), ["runs", "exit_code"]);
    let mut seen = 0;
    for text in [&written.summary, &several.summary] {
        for row in cells(text) {
            assert_eq!(row.len(), 4, "{text}");
        }
        for line in text.lines().filter(|line| line.contains("exit_code")) {
            seen += 1;
            for live in ["[c](", "b` ", "<img", "@team", " *d*", " _e_", "#7", "www.f", "$g$", "http://", "dbtc_secret"]
            {
                assert!(!line.contains(live), "{live}: {line}");
            }
            for dead in [r"\[c\](http\://evil)", r"b\`", "&lt;img", "\\@\u{200b}team", r"\*d\*", r"\_e\_", r"www\.f"] {
                assert!(line.contains(dead), "{dead}: {line}");
            }
        }
    }
    assert_eq!(seen, 4, "{}{}", written.summary, several.summary);
    assert!(!written.outputs.contains("dbtc_secret") && !several.outputs.contains("dbtc_secret"));
}

#[test]
fn an_address_that_could_end_its_link_is_none() {
    for (url, shown) in [
        ("https://x/runs/9?o=1#tab", "[9](https://x/runs/9?o=1#tab)"),
        ("https://x/) <b>", "9"),
        ("javascript:alert(1)", "9"),
        ("https://x/a|b", "9"),
        ("https://x/\u{202e}", "9"),
    ] {
        let run = RunOutcome { run_url: Some(url.to_owned()), ..run_of_dbt(9, "SUCCESS") };
        assert_eq!(cells(&write(&["1"], false, &[run], None).summary)[0][1], shown, "{url}");
    }
}

#[test]
fn a_summary_has_an_end() {
    let failed = (0..30).map(|number| failed_part(&format!("model m{number}"), &"*".repeat(400))).collect();
    let run = RunOutcome { failed, ..run_of_dbt(9, "ERROR") };
    let one = write(&["1"], true, std::slice::from_ref(&run), Some(Code::RunFailed)).summary;
    assert!(cells(&one)[0][3].ends_with("model m19, and 10 more"), "{one}");
    assert!(one.contains("- **model m29**") && !one.contains("more lines"), "{one}");
    let many = write(&["1", "2"], true, &vec![run; 100], Some(Code::RunFailed)).summary;
    assert!(many.len() < 300 * 1024, "{}", many.len());
    let left_out: usize = many.lines().last().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let reasons = many.lines().filter(|line| line.starts_with("- **")).count();
    assert_eq!((cells(&many).len(), reasons + left_out), (100, 3_000));
}

#[test]
fn what_stands_in_a_file_stays_and_is_not_run_into() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("output");
    for (before, after) in [("a=b", "a=b\nrun_id="), ("a=b\n", "a=b\nrun_id="), ("", "run_id=")] {
        std::fs::write(&path, before).unwrap();
        let environment = Environment::of([("GITHUB_OUTPUT", path.to_str().unwrap())]);
        assert_eq!(write_to(&["1"], false, &[], None, &environment), []);
        assert!(std::fs::read_to_string(&path).unwrap().starts_with(after), "{before:?}");
    }
}

#[test]
fn a_file_that_cannot_be_written_is_warned_of_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (there, away) = (folder.path(), folder.path().join("no/such"));
    let environment =
        Environment::of([("GITHUB_OUTPUT", there.to_str().unwrap()), ("GITHUB_STEP_SUMMARY", away.to_str().unwrap())]);
    let warnings = write_to(&["1"], false, &[], None, &environment);
    let [Event::Warning(first), Event::Warning(second)] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(
        first.contains("the outputs of this step") && first.contains("(GITHUB_OUTPUT): it is not a file"),
        "{first}"
    );
    assert!(second.contains("the summary of this step") && second.contains("(GITHUB_STEP_SUMMARY): "), "{second}");
    let (results, heard) = (Results::default(), Rc::<RefCell<Vec<Event>>>::default());
    let (ending, sink) = (Ending { runs: &[], failure: None, results: &results, exit: 0 }, heard.clone());
    let events = Events::new(move |event| sink.borrow_mut().push(event));
    let outputs = CiOutputs { named: vec!["1".to_owned()], detail: false, junit: Some(there.to_owned()) };
    outputs.write(&ending, &Environment::default(), &str::to_owned, &events);
    let [Event::Warning(junit)] = &heard.take()[..] else { panic!("one warning") };
    assert!(junit.contains("cannot write the JUnit report to") && junit.ends_with("it is a directory"), "{junit}");
    // Outside GitHub Actions nothing is written or warned about.
    assert_eq!(write_to(&["1"], true, &[], None, &Environment::default()), []);
}

#[tokio::test(start_paused = true)]
async fn github_shows_what_did_not_end_well_and_messages_only_if_wished_for() {
    let outcome = start(&Harness::new(), &["222223"]).await;
    let url = outcome.data["run_url"].as_str().unwrap();
    let brief = annotate(&["222223"], false, &outcome.runs, outcome.code);
    let lines = format!("It did not end well. (***)\n{url}\nmodel orders\ntest unique_stg_orders_order_id");
    assert_eq!(brief, [(Level::Error, "dbtrigger run 222223: ERROR (run-failed)".to_owned(), lines)]);
    let detailed = annotate(&["222223"], true, &outcome.runs, outcome.code);
    assert!(detailed[0].2.contains("model orders: Database Error in model orders"), "{detailed:?}");
    // No annotations outside GitHub Actions, nor for runs that succeeded.
    assert_eq!(write_to(&["222223"], false, &outcome.runs, outcome.code, &Environment::of([("CI", "true")])), []);
    let good = start(&Harness::new(), &["222222"]).await;
    assert_eq!(annotate(&["222222"], true, &good.runs, None), []);
    // Also for failures before anything is started.
    let missing = annotate(&["no such\njob dbtc_secret"], false, &[], Some(Code::NotFound));
    assert_eq!(missing[0].1, "dbtrigger run no such job ***: not-found");
    let with_failures = RunOutcome {
        with_failures: true,
        failed: vec![failed_part("a", "secret data")],
        ..run_of_dbt(9, "SUCCESS_WITH_FAILURES")
    };
    let warned = annotate(&["w"], false, &[with_failures], None);
    assert_eq!((warned.len(), warned[0].0), (1, Level::Warning), "{warned:?}");
    assert!(warned[0].2.ends_with("https://x/9\na"), "{warned:?}");
}

#[test]
fn github_shows_ten_and_the_last_says_how_many_more_there_are() {
    let annotated = |failure: usize| {
        let mut runs =
            vec![RunOutcome { result: Some(run_failed("dbt run 1 failed.")), ..run_of_dbt(1, "ERROR") }; failure];
        for run in &mut runs {
            run.run_url = None;
        }
        runs.push(RunOutcome { result: Some(Ok(())), ..run_of_dbt(1, "SUCCESS") });
        let named = vec!["1"; runs.len()];
        annotate(&named, false, &runs, Some(Code::RunFailed))
    };
    let ten = annotated(10);
    assert!(ten.len() == 10 && ten.iter().all(|(_, _, message)| message == "dbt run 1 failed."), "{ten:?}");
    let failed = vec![FailedPart { name: "model m".to_owned(), message: None }; 23];
    let run = RunOutcome { failed, run_url: None, ..run_of_dbt(1, "ERROR") };
    let many = annotate(&["1"], false, &[run], Some(Code::RunFailed));
    assert!(many[0].2.ends_with("model m\nand 3 more") && many[0].2.lines().count() == 22, "{many:?}");
    let more = annotated(25);
    assert_eq!(more.len(), 10);
    assert!(more[9].2.starts_with("16 more runs did not succeed"), "{more:?}");
}

#[test]
fn what_is_not_known_of_several_does_not_look_well() {
    let known = RunOutcome { result: Some(Ok(())), ..run_of_dbt(11, "SUCCESS") };
    let written = write(&["1", "2", "3"], false, &[known], Some(Code::Interrupted(15)));
    let shown: Vec<(&str, &str)> = cells(&written.summary).iter().map(|row| (row[0], row[2])).collect();
    assert_eq!(shown, [("1", "SUCCESS"), ("2 more", "interrupted")]);
    // No job was given or chosen.
    let nothing = write(&[], false, &[], Some(Code::MissingInput));
    assert_eq!(cells(&nothing.summary)[0][2], "missing-input");
}

#[test]
#[expect(clippy::print_stdout, reason = "the line is what the test is for")]
fn no_file_of_a_ci_shows_a_secret_whatever_it_is_disguised_as() {
    use crate::secret::tests::{MIXED, disguises, readable};
    let (mut count, mut wrong) = (0, Vec::new());
    for (name, text, part) in disguises() {
        let filter = crate::secret::Filter::of(MIXED);
        let redact = |text: &str| crate::ui::clean(&filter, text);
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let environment = Environment::of([
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_OUTPUT", path("output").to_str().unwrap()),
            ("GITHUB_STEP_SUMMARY", path("summary").to_str().unwrap()),
        ]);
        let said = format!("it says <{text}> and no more");
        let run = RunOutcome {
            run_url: Some(format!("https://x.example/{text}")),
            failed: vec![failed_part(&said, &said)],
            result: Some(run_failed(&said)),
            ..run_of_dbt(7, &said)
        };
        let failure = Failure::new(Code::RunFailed, said.clone());
        let results = Results::default();
        let heard: Rc<RefCell<Vec<Event>>> = Rc::default();
        let sink = heard.clone();
        let events = Events::new(move |event| sink.borrow_mut().push(event));
        for runs in [vec![run.clone()], vec![run.clone(), run]] {
            let named = vec![said.clone(); runs.len()];
            let ending = Ending { runs: &runs, failure: Some(&failure), results: &results, exit: 3 };
            CiOutputs { named, detail: true, junit: Some(path("junit")) }.write(
                &ending,
                &environment,
                &redact,
                &events,
            );
        }
        let annotations = heard.take().into_iter().map(|event| {
            let Event::Annotation { level: _, title, message } = event else { panic!("{event:?}") };
            format!("{title} {message}")
        });
        let annotations = annotations.collect::<Vec<_>>().join(" ");
        let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
        for (sink, said) in [
            ("output", read("output")),
            ("summary", read("summary")),
            ("junit", read("junit")),
            ("annotations", annotations),
        ] {
            count += 1;
            let unescaped = said.replace("&amp;", "&").replace('\\', "").replace("<br>", "");
            if said.is_empty() || [&said, &unescaped].iter().any(|said| readable(said).contains(&part)) {
                wrong.push(format!("{sink}, {name}: {said}"));
            }
        }
    }
    println!("disguised secrets in files of a CI: {} of {count}", count - wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
