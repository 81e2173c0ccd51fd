//! Notebooks in the machine's real Python, with a table in place of the cluster.

#![expect(clippy::disallowed_methods, reason = "these tests look for the machine's Python")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::execute::{Cluster, NotebookRun, Refused, execute};
use super::python::{Python, PythonSearch, find};
use crate::sandbox::{NotebookOutcome, SimTime};

const HEADER: &str = "# Databricks notebook source\n";
const NEXT: &str = "\n# COMMAND ----------\n";

/// 2030-01-01, so it cannot be confused with the machine's clock.
const NOW: SimTime = SimTime(1_893_456_000_000);

/// One scope with one secret. Setting the task value `cancel` cancels the run, so a notebook decides when that happens.
#[derive(Default)]
struct Table {
    values: Mutex<BTreeMap<String, Value>>,
    cancelled: AtomicBool,
}

impl Cluster for Table {
    fn secret(&self, scope: &str, key: &str) -> Result<String, Refused> {
        match (scope, key) {
            ("dbt-cloud", "api-key") => Ok("dbtc_s3cret-value".to_owned()),
            ("closed", _) => {
                Err(Refused { kind: "forbidden", words: "PERMISSION_DENIED: no READ on scope closed".to_owned() })
            }
            _ => Err(Refused {
                kind: "missing",
                words: format!("Secret does not exist with scope: {scope} and key: {key}"),
            }),
        }
    }

    fn secrets(&self, scope: &str) -> Result<Vec<String>, Refused> {
        self.secret(scope, "api-key").map(|_| vec!["api-key".to_owned()])
    }

    fn set_task_value(&self, key: &str, value: Value) {
        if key == "cancel" {
            self.cancelled.store(true, Ordering::Relaxed);
        }
        self.values.lock().expect("the table").insert(key.to_owned(), value);
    }

    fn task_value(&self, task: &str, key: &str) -> Option<Value> {
        (task == "first" && key == "there").then(|| json!({"rows": 3}))
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

async fn machine() -> Python {
    let search = PythonSearch { python: None, search_path: std::env::var_os("PATH"), environment: None };
    find(&search).await.expect("tests of the notebook runner need a Python on the PATH")
}

async fn run_on(table: &Table, cells: &[&str], speed: f64) -> (NotebookOutcome, String) {
    run_with(&machine().await, table, cells, speed).await
}

async fn run_with(python: &Python, table: &Table, cells: &[&str], speed: f64) -> (NotebookOutcome, String) {
    let parameters = BTreeMap::from([("job_id".to_owned(), "222222".to_owned())]);
    let source = format!("{HEADER}{}", cells.join(NEXT));
    let path = std::env::var_os("PATH");
    let notebook = NotebookRun {
        path: "/Users/ana@example.com/notebook",
        source: &source,
        parameters: &parameters,
        now: NOW,
        speed,
        search_path: path.as_deref(),
        authority: None,
    };
    execute(python, &notebook, table).await
}

async fn run(cells: &[&str]) -> (NotebookOutcome, String) {
    run_on(&Table::default(), cells, 60.0).await
}

fn trouble(outcome: NotebookOutcome) -> (String, String) {
    match outcome {
        NotebookOutcome::Failed { error, trace } => (error, trace),
        other @ (NotebookOutcome::Exited { result: _ } | NotebookOutcome::Finished) => {
            panic!("it did not fail: {other:?}")
        }
    }
}

#[tokio::test]
async fn cells_run_in_order_and_share_their_names_and_their_output_is_kept() {
    let (outcome, output) = run(&[
        "import sys, subprocess\nsubprocess.run(['echo', 'from a subprocess'], check=True)\nx = 40",
        "# MAGIC %md\n# MAGIC # A title that is no Python",
        "# MAGIC %pip install something",
        "# DBTITLE 1,The sum\nprint(x + 2)\nprint('grün 🙂', file=sys.stderr)\nprint(__name__, end='')",
        "",
    ])
    .await;
    assert_eq!(outcome, NotebookOutcome::Finished);
    for part in
        ["from a subprocess\n", "42\ngrün 🙂\n__main__", "skipped, nothing is installed here: %pip install something"]
    {
        assert!(output.contains(part), "{part:?} in {output:?}");
    }
}

#[tokio::test]
async fn a_cell_in_another_language_fails_and_says_so() {
    let (outcome, _) = run(&["# MAGIC %sql\n# MAGIC select 1"]).await;
    let (error, _) = trouble(outcome);
    assert_eq!(error, "NotImplementedError: the sandbox runs Python cells only, not `%sql`");
}

#[tokio::test]
async fn a_widget_exists_by_parameter_or_definition_and_otherwise_raises() {
    let (outcome, output) = run(&[
        "print(dbutils.widgets.get('job_id'))\n\
         dbutils.widgets.text('job_id', 'default', 'Job')\n\
         dbutils.widgets.text('mode', 'run')\n\
         dbutils.widgets.dropdown('size', 's', ['s', 'm'])\n\
         print(dbutils.widgets.getAll())",
        // Created again in the cell that removed it, a widget keeps its value.
        "dbutils.widgets.remove('mode')\ndbutils.widgets.text('mode', 'check')\nprint(dbutils.widgets.get('mode'))\ndbutils.widgets.remove('size')",
        "for attempt in (lambda: dbutils.widgets.text('n', 1), lambda: dbutils.widgets.dropdown('d', 'x', ['y']), lambda: dbutils.widgets.get('size')):\n\
        \x20   try:\n        attempt()\n    except Exception as failure:\n        print(type(failure).__name__, str(failure).splitlines()[-1])",
        "dbutils.widgets.get('absent')",
    ])
    .await;
    assert_eq!(
        output,
        "222222\n{'job_id': '222222', 'mode': 'run', 'size': 's'}\nrun\n\
         TypeError the default of widget n must be a string, not int\n\
         Py4JJavaError : com.databricks.dbutils_v1.InvalidInputWidgetDefinition: the default of d is not among its choices\n\
         Py4JJavaError : com.databricks.dbutils_v1.InputWidgetNotDefined: No input widget named size is defined\n"
    );
    let (error, _) = trouble(outcome);
    assert!(
        error.contains("com.databricks.dbutils_v1.InputWidgetNotDefined: No input widget named absent is defined"),
        "{error}"
    );
}

#[tokio::test]
async fn secrets_are_handed_out_and_struck_out_of_what_is_printed() {
    let (outcome, output) = run(&[
        "key = dbutils.secrets.get(scope='dbt-cloud', key='api-key')\n\
         print('key', key, len(key), end='|')\n\
         print(key[:5], end='')\nprint(key[5:])\n\
         print(dbutils.secrets.getBytes('dbt-cloud', 'api-key'))\n\
         print([entry.key for entry in dbutils.secrets.list('dbt-cloud')])",
        "for scope in ('none', 'closed'):\n\
        \x20   try:\n        dbutils.secrets.get(scope, 'api-key')\n    except Exception as failure:\n        print(str(failure).splitlines()[-1])",
        "raise Exception('with ' + key)",
    ])
    .await;
    assert_eq!(
        output,
        "key [REDACTED] 17|[REDACTED]\nb'[REDACTED]'\n['api-key']\n\
         : java.lang.IllegalArgumentException: Secret does not exist with scope: none and key: api-key\n\
         : com.databricks.common.client.DatabricksServiceHttpClientException: PERMISSION_DENIED: no READ on scope closed\n"
    );
    // Whether Databricks redacts errors is unverified; here a leak must be visible.
    assert_eq!(trouble(outcome).0, "Exception: with dbtc_s3cret-value");
}

#[tokio::test]
async fn exit_ends_the_notebook_well_unless_a_broad_handler_swallows_it() {
    let (outcome, output) =
        run(&["print('a')\ndbutils.notebook.exit('{\"ok\": true}')\nprint('b')", "print('c')"]).await;
    assert_eq!(outcome, NotebookOutcome::Exited { result: "{\"ok\": true}".to_owned() });
    assert_eq!(output, "a\n");
    let (outcome, output) =
        run(&["try:\n    dbutils.notebook.exit('x')\nexcept Exception:\n    print('swallowed')"]).await;
    assert_eq!(outcome, NotebookOutcome::Finished);
    assert_eq!(output, "swallowed\n");
    let (outcome, _) = run(&["dbutils.notebook.exit({'ok': True})"]).await;
    assert_eq!(trouble(outcome).0, "TypeError: the value of dbutils.notebook.exit must be a string, not dict");
}

#[tokio::test]
async fn a_failure_has_its_message_and_a_trace_of_the_notebook_only() {
    let (outcome, output) =
        run(&["def fail():\n    raise Exception('dbt run 1 failed')", "print('before')\nfail()", "print('after')"])
            .await;
    assert_eq!(output, "before\n");
    let (error, trace) = trouble(outcome);
    assert_eq!(error, "Exception: dbt run 1 failed");
    assert!(trace.contains("notebook, cell 2\", line 2"), "{trace}");
    assert!(trace.contains("raise Exception('dbt run 1 failed')"), "{trace}");
    assert!(!trace.contains("<string>"), "{trace}");
    assert_eq!(trouble(run(&["x ="]).await.0).0.lines().last(), Some("SyntaxError: invalid syntax"));
    assert_eq!(trouble(run(&["import sys\nsys.exit(3)"]).await.0).0, "SystemExit: 3");
}

#[tokio::test]
async fn what_databricks_offers_and_the_sandbox_does_not_is_an_attribute_error() {
    for call in [
        "dbutils.fs.ls('/')",
        "dbutils.notebook.run('x', 1)",
        "dbutils.secrets.listScopes()",
        "dbutils.widgets.combobox('a', 'b', ['b'])",
    ] {
        let (error, _) = trouble(run(&[call]).await.0);
        assert!(error.starts_with("AttributeError: dbutils") && error.contains("it offers: "), "{error}");
    }
}

#[tokio::test]
async fn task_values_are_json_of_limited_size() {
    let table = Table::default();
    let (outcome, output) = run_on(
        &table,
        &[
            "values = dbutils.jobs.taskValues\n\
             values.set(key='dbt_run_id', value=123456)\nvalues.set('list', [1, None, 'ä'])\n\
             print(values.get(taskKey='first', key='there'), values.get('first', 'absent', default=0))",
            "for attempt in (lambda: values.set('big', 'x' * 49151), lambda: values.set('set', {1}), lambda: values.get('first', 'absent', debugValue=1)):\n\
            \x20   try:\n        attempt()\n    except Exception as failure:\n        print(type(failure).__name__)",
        ],
        60.0,
    )
    .await;
    assert_eq!(outcome, NotebookOutcome::Finished);
    assert_eq!(output, "{'rows': 3} 0\nValueError\nTypeError\nValueError\n");
    let values = table.values.lock().expect("the table");
    assert_eq!(json!(*values), json!({"dbt_run_id": 123_456, "list": [1, null, "ä"]}));
}

#[cfg(unix)]
#[tokio::test]
async fn a_cancelled_notebook_is_interrupted_and_may_clean_up() {
    let (outcome, output) = run_on(
        &Table::default(),
        &["import time\ntry:\n    dbutils.jobs.taskValues.set('cancel', 1)\n    time.sleep(1e6)\nfinally:\n    print('cleaning up')"],
        1.0,
    )
    .await;
    assert_eq!(output, "cleaning up\n");
    assert_eq!(trouble(outcome).0, "KeyboardInterrupt");
}

/// Time is paused, so the grace period takes no real time.
#[cfg(unix)]
#[tokio::test]
async fn a_cancelled_notebook_that_will_not_end_is_killed() {
    let python = machine().await;
    tokio::time::pause();
    let (outcome, _) = run_with(
        &python,
        &Table::default(),
        &["import signal, subprocess, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n\
           subprocess.Popen(['sleep', '1000'])\ndbutils.jobs.taskValues.set('cancel', 1)\nwhile True: time.sleep(1e6)"],
        1.0,
    )
    .await;
    let (error, _) = trouble(outcome);
    assert!(error.contains("cancellation and was killed"), "{error}");
}

#[tokio::test]
async fn a_notebook_lives_on_the_sandboxs_clock_and_its_libraries_on_the_machines() {
    let (outcome, output) = run_on(
        &Table::default(),
        &["import sys, time, datetime as dt\nfrom datetime import datetime, timezone\n\
           from email.utils import parsedate_to_datetime\n\
           mono, wall = time.monotonic(), time.time()\ntime.sleep(3600)\n\
           print(time.monotonic() - mono >= 3600, time.time() - wall >= 3600)\n\
           print(datetime.now(timezone.utc).year, dt.date.today().year, time.gmtime().tm_year, time.strftime('%Y'))\n\
           print(sys.modules['time'].gmtime().tm_year < 2030)\n\
           then = parsedate_to_datetime('Tue, 01 Jan 2030 00:00:00 GMT')\n\
           print(isinstance(then, datetime), (datetime.now(timezone.utc) - then).total_seconds() >= 3600)"],
        36_000.0,
    )
    .await;
    assert_eq!(outcome, NotebookOutcome::Finished, "{output}");
    assert_eq!(output, "True True\n2030 2030 2030 2030\nTrue\nTrue True\n");
}

#[tokio::test]
async fn a_python_that_dies_fails_its_task() {
    let (outcome, output) = run(&["print('last words')\nimport os\nos._exit(3)"]).await;
    assert_eq!(output, "last words\n");
    let (error, _) = trouble(outcome);
    assert!(error.contains("ended early") && error.contains('3'), "{error}");
}

#[tokio::test]
async fn a_notebook_sees_nothing_of_this_machines_variables_and_files() {
    let (outcome, output) = run(&["import os, sys\nprint(sorted(name for name in os.environ if name not in ('PATH', 'HOME', 'NO_PROXY', 'LC_CTYPE', 'SYSTEMROOT', '__CF_USER_TEXT_ENCODING')))\nprint(os.listdir('.'), os.path.samefile(os.environ['HOME'], '.'), sys.stdin.read() == '')"]).await;
    assert_eq!(outcome, NotebookOutcome::Finished, "{output}");
    assert_eq!(output, "[]\n[] True True\n");
}
