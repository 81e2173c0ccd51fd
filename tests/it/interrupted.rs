//! `run --on-interrupt cancel` with the built program and real signals.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::harness::{Site, id};

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// The dbt runs that were started.
fn runs(site: &Site) -> Vec<Value> {
    let world = site.inspect();
    world["dbt_runs"].as_array().unwrap().iter().filter(|run| run["seeded"] == false).cloned().collect()
}

fn document(child: &mut Child, exit: i32) -> Value {
    let (mut out, mut said) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(exit), "{out}{said}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{said}"))
}

#[test]
fn a_signal_cancels_the_run_and_the_program_ends_by_it() {
    for (name, exit) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        let site = Site::with(|options| options.speed = 20.0);
        let mut child = site.command(&["run", "222222", "--on-interrupt", "cancel", "-o", "json"]).spawn().unwrap();
        site.until_asked("dbt:runs/get", 1);
        signal(&child, name);
        let document = document(&mut child, exit);
        assert_eq!(document["error"]["code"], "interrupted", "{document}");
        assert_eq!(document["data"]["status"], "CANCELLED", "{document}");
        assert_eq!(document["data"]["on_interrupt"], "cancelled", "{document}");
        assert_eq!(site.writes(0), ["dbt:jobs/run", "dbt:runs/cancel"]);
    }
}

/// CI runners write a step into a file, start a shell on it, and send the shell the signal (docs/ci.md).
#[test]
fn in_the_place_of_a_steps_shell_it_hears_what_the_shell_is_sent() {
    let site = Site::with(|options| options.speed = 20.0);
    let run = site.command(&["run", "222222", "--on-interrupt", "cancel", "-o", "json"]);
    let folder = tempfile::tempdir().unwrap();
    let step = folder.path().join("step.sh");
    let words: Vec<String> = std::iter::once(run.get_program())
        .chain(run.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    std::fs::write(&step, format!("true\nexec {}\n", words.join(" "))).unwrap();
    let mut shell = Command::new("bash");
    shell.args(["--noprofile", "--norc", "-e", "-o", "pipefail"]).arg(&step).env_clear();
    shell.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    site.until_asked("dbt:runs/get", 1);
    signal(&child, "-INT");
    let document = document(&mut child, 130);
    assert_eq!(document["data"]["on_interrupt"], "cancelled", "{document}");
}

#[test]
fn without_it_the_run_goes_on() {
    let site = Site::with(|options| options.speed = 20.0);
    let mut child = site.command(&["run", "222222", "--on-interrupt", "leave", "-o", "json"]).spawn().unwrap();
    site.until_asked("dbt:runs/get", 1);
    signal(&child, "-INT");
    let document = document(&mut child, 130);
    assert_eq!(document["data"]["on_interrupt"], Value::Null, "{document}");
    assert_eq!(site.writes(0), ["dbt:jobs/run"]);
}

#[test]
fn a_start_that_is_not_answered_yet_is_waited_for_and_its_run_cancelled() {
    let site = Site::with(|options| {
        options.speed = 20.0;
        options.latency = Duration::from_secs(1);
    });
    let line = ["run", "222222", "--on-interrupt", "cancel", "-o", "json"];
    let mut child = site.command(&line).spawn().unwrap();
    site.until_asked("dbt:jobs/run", 1);
    signal(&child, "-TERM");
    let document = document(&mut child, 143);
    assert_eq!(document["data"]["on_interrupt"], "cancelled", "{document}");
    assert_eq!(runs(&site).len(), 1, "{document}");
    assert_eq!(site.writes(0), ["dbt:jobs/run", "dbt:runs/cancel"]);
}

#[test]
fn a_second_signal_ends_at_once_and_names_what_may_go_on() {
    // While the start has no response yet.
    let site = Site::with(|options| options.speed = 20.0);
    site.fault("dbt:jobs/run=hang");
    let line = ["run", "222222", "--on-interrupt", "cancel", "-o", "json"];
    let mut child = site.command(&line).spawn().unwrap();
    site.until_asked("dbt:jobs/run", 1);
    signal(&child, "-INT");
    // Signals of the same kind that arrive together are merged.
    signal(&child, "-TERM");
    let begun = Instant::now();
    let said = document(&mut child, 143);
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(said["error"]["causes"].to_string().contains("may have been started"), "{said}");
    assert!(said["error"]["hints"].to_string().contains("--idempotency-key"), "{said}");
    // While it is being canceled.
    let site = Site::with(|options| options.speed = 20.0);
    site.fault("dbt:runs/cancel=hang,times=forever");
    let mut child = site.command(&line).spawn().unwrap();
    site.until_asked("dbt:runs/get", 1);
    signal(&child, "-INT");
    site.until_asked("dbt:runs/cancel", 1);
    signal(&child, "-INT");
    let said = document(&mut child, 130);
    let run = id(&said["data"]["run_id"]);
    assert!(said["error"]["causes"].to_string().contains(&format!("canceling dbt run {run}")), "{said}");
    assert!(said["error"]["hints"].to_string().contains(&format!("\"dbtrigger cancel {run}\"")), "{said}");
}

#[test]
fn a_reader_that_is_ended_by_the_same_signal_does_not_keep_the_run_from_being_cancelled() {
    let site = Site::with(|options| options.speed = 20.0);
    site.fault("dbt:runs/cancel=status=503,times=1");
    let mut child = site.command(&["run", "222222", "--on-interrupt", "cancel"]).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    signal(&child, "-INT");
    drop(out);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said}");
    assert!(said.contains("was canceled"), "{said}");
    assert_eq!(site.writes(0).last().map(String::as_str), Some("dbt:runs/cancel"));
}

#[test]
fn a_workflow_is_cancelled_with_the_dbt_run_behind_it() {
    let site = Site::with(|options| options.speed = 20.0);
    for line in [&["init-secrets"][..], &["deploy-notebook"], &["create-workflow", "--job", "222225", "--name", "w"]] {
        let _ = site.run(line).ends(0);
    }
    let line = ["run", "--workflow", "w", "--on-interrupt", "cancel", "-o", "json"];
    let mut child = site.command(&line).spawn().unwrap();
    site.until_asked("dbt:jobs/run", 1);
    signal(&child, "-TERM");
    let document = document(&mut child, 143);
    assert_eq!(document["data"]["on_interrupt"], "cancelled", "{document}");
    // Whether canceled by the notebook itself or from here.
    assert!(document["data"]["dbt_runs"].is_array(), "{document}");
    let runs = runs(&site);
    assert_eq!(runs.iter().map(|run| &run["status"]).collect::<Vec<_>>(), [30], "{runs:?}");
}

#[test]
fn a_resumption_that_is_interrupted_is_named_and_found_by_the_command_that_is_said() {
    let site = Site::with(|options| options.speed = 20.0);
    site.fault("dbt:runs/retry=hang,phase=after");
    let mut child = site.command(&["run", "222226", "--retry", "1", "-o", "json"]).spawn().unwrap();
    site.until_asked("dbt:runs/retry", 1);
    signal(&child, "-INT");
    let said = document(&mut child, 130);
    let failed = &id(&said["data"]["run_id"]);
    let causes = said["error"]["causes"].to_string();
    assert!(causes.contains(&format!("a run that resumes dbt run {failed} may have been started")), "{said}");
    assert!(!causes.contains("goes on"), "{said}");
    let command = said["error"]["hints"][0]["command"].as_str().unwrap();
    assert!(command.ends_with(" --retry 1"), "{command}");
    // A later start points to it, too, and not to the run that has ended.
    let later = site.run(&["run", "222222", "--no-wait"]).ends(0);
    let _ = later.says("a start of dbt job 222226 was not followed to its end");
    let line: Vec<&str> = command.split(' ').skip(1).chain(["-o", "json"]).collect();
    let found: Value = serde_json::from_str(&site.run(&line).ends(0).stdout).unwrap();
    assert_eq!((&found["data"]["status"], &found["data"]["adopted"]), (&"SUCCESS".into(), &true.into()), "{found}");
    assert_eq!(site.writes(0).iter().filter(|write| *write == "dbt:runs/retry").count(), 1);
}

#[test]
fn a_run_that_is_over_and_not_resumed_yet_does_not_go_on() {
    let site = Site::with(|options| options.speed = 300.0);
    site.fault("dbt:runs/list=hang,nth=3,times=forever");
    // The first two: the look-up of the newest run, and the one for a duplicate run at the end.
    let mut child = site.command(&["run", "222226", "--retry", "1", "-o", "json"]).spawn().unwrap();
    site.until_asked("dbt:runs/list", 3);
    signal(&child, "-INT");
    let said = document(&mut child, 130);
    let error = said["error"].to_string();
    let run = &id(&said["data"]["run_id"]);
    assert!(error.contains(&format!("dbt run {run} failed and was not resumed yet")), "{said}");
    assert!(error.contains(" --retry 1\"") && !error.contains("still running"), "{said}");
    assert_eq!(site.writes(0), ["dbt:jobs/run"]);
}

/// A pipe without a writer in place of each file that the program reads: it is refused, or waited for until a
/// signal arrives.
#[test]
#[expect(clippy::print_stdout, reason = "the line is what the test is for")]
fn a_pipe_given_as_a_file_neither_hangs_nor_keeps_a_signal_out() {
    use rustix::fs::{CWD, FileType, Mode, OFlags};
    let site = Site::new();
    let pipe = site.home.path().join("pipe");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let name = pipe.to_str().unwrap();
    std::fs::create_dir_all(site.home.path().join(".dbt")).unwrap();
    let of_dbt = site.home.path().join(".dbt/dbt_cloud.yml");
    rustix::fs::mknodat(CWD, &of_dbt, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    // Arguments, a variable to unset, one to set, and whether the program waits for the pipe.
    let rows: [(&[&str], &str, &str, bool); 6] = [
        (&["init-secrets", "--token-file", name], "", "", true),
        (&["jobs", "--ca-bundle", name], "", "", false),
        (&["jobs"], "", "SSL_CERT_FILE", false),
        (&["create-workflow", "--job", "222222", "--cluster-json", name], "", "", false),
        (&["runs", "--workflow", "x", "-p", "x"], "", "DATABRICKS_CONFIG_FILE", false),
        (&["jobs"], "DBT_CLOUD_TOKEN", "", false),
    ];
    let mut wrong = Vec::new();
    let count = rows.len();
    for (line, without, with, waits) in rows {
        let mut command = site.command(line);
        if !without.is_empty() {
            command.env_remove(without);
        }
        if !with.is_empty() {
            command.env(with, name);
        }
        let mut child = command.spawn().unwrap();
        let writer = waits.then(|| {
            loop {
                // Opening succeeds once a reader waits.
                match rustix::fs::open(&pipe, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()) {
                    Ok(writer) => break Some(writer),
                    Err(_) if child.try_wait().unwrap().is_some() => break None,
                    Err(_) => std::thread::yield_now(),
                }
            }
        });
        if matches!(writer, Some(Some(_))) {
            signal(&child, "-TERM");
        }
        let output = Site::finish(line, child);
        let expected = if waits { 143 } else { 2 };
        if output.exit != Some(expected) {
            wrong.push(format!("{line:?} {with}: {output}"));
        }
    }
    // The harness keeps every file of the home folder.
    for pipe in [&pipe, &of_dbt] {
        std::fs::remove_file(pipe).unwrap();
    }
    println!("pipes given as files: {} of {count}", count - wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
