//! Writes JUnit XML (docs/decisions/0024) by hand: its shape is fixed, and all text is escaped in one place.

use std::fmt::Write as _;

/// The tests of one dbt run.
pub(in crate::commands::run) struct Suite {
    name: String,
    /// Duration of the run.
    seconds: Option<u64>,
    cases: Vec<Case>,
}

/// One test: the run itself, a node of it, or a step without results.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::commands::run) struct Case {
    pub(in crate::commands::run) class: String,
    pub(in crate::commands::run) name: String,
    pub(in crate::commands::run) seconds: Option<f64>,
    pub(in crate::commands::run) verdict: Verdict,
    pub(in crate::commands::run) output: Option<String>,
}

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::commands::run) enum Verdict {
    Passed,
    /// The test found a problem.
    Failure {
        kind: String,
        message: String,
    },
    /// The test did not complete.
    Error {
        kind: String,
        message: String,
    },
    Skipped {
        message: String,
    },
}

impl Suite {
    pub(in crate::commands::run) fn of(job: &str, seconds: Option<u64>, cases: Vec<Case>) -> Suite {
        Suite { name: format!("dbt job {job}"), seconds, cases }
    }
}

impl Case {
    /// The test for the run itself. The name is the same for all runs of the job, so that a CI can show its history.
    pub(in crate::commands::run) fn of_run(job: &str, verdict: Verdict, output: Option<String>) -> Case {
        Case { class: "dbt.run".to_owned(), name: format!("dbt job {job}"), seconds: None, verdict, output }
    }
}

/// Number of tests by verdict.
#[derive(Default)]
struct Counts {
    tests: usize,
    failures: usize,
    errors: usize,
    skipped: usize,
}

impl Counts {
    fn of<'a>(cases: impl Iterator<Item = &'a Case>) -> Counts {
        let mut counts = Counts::default();
        for case in cases {
            counts.tests += 1;
            match case.verdict {
                Verdict::Passed => {}
                Verdict::Failure { kind: _, message: _ } => counts.failures += 1,
                Verdict::Error { kind: _, message: _ } => counts.errors += 1,
                Verdict::Skipped { message: _ } => counts.skipped += 1,
            }
        }
        counts
    }

    fn attributes(&self) -> String {
        let Counts { tests, failures, errors, skipped } = self;
        format!(r#"tests="{tests}" failures="{failures}" errors="{errors}" skipped="{skipped}""#)
    }
}

/// Renders the whole document.
pub(in crate::commands::run) fn document(suites: &[Suite]) -> String {
    let all = Counts::of(suites.iter().flat_map(|suite| &suite.cases)).attributes();
    let mut xml = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"dbtrigger\" {all}>\n");
    for Suite { name, seconds, cases } in suites {
        let (name, counts) = (escaped(name), Counts::of(cases.iter()).attributes());
        let time = seconds.map(|seconds| format!(r#" time="{seconds}""#)).unwrap_or_default();
        let _ = writeln!(xml, r#"  <testsuite name="{name}" {counts}{time}>"#);
        for case in cases {
            add(&mut xml, case);
        }
        xml += "  </testsuite>\n";
    }
    xml + "</testsuites>\n"
}

fn add(xml: &mut String, case: &Case) {
    let Case { class, name, seconds, verdict, output } = case;
    // Negative, infinite or huge numbers are not valid times everywhere.
    let time = seconds.filter(|seconds| (0.0..1e9).contains(seconds));
    let time = time.map(|seconds| format!(r#" time="{seconds:.3}""#)).unwrap_or_default();
    let _ = write!(xml, r#"    <testcase classname="{}" name="{}"{time}>"#, escaped(class), escaped(name));
    // Some CI services show the attribute, others the text.
    let mut problem = |element: &str, kind: &str, message: &str| {
        let (kind, message) = (escaped(kind), escaped(message));
        let _ = write!(xml, r#"<{element} type="{kind}" message="{message}">{message}</{element}>"#);
    };
    match verdict {
        Verdict::Passed => {}
        Verdict::Failure { kind, message } => problem("failure", kind, message),
        Verdict::Error { kind, message } => problem("error", kind, message),
        Verdict::Skipped { message } => {
            let _ = write!(xml, r#"<skipped message="{}"/>"#, escaped(message));
        }
    }
    if let Some(output) = output {
        let _ = write!(xml, "<system-out>{}</system-out>", escaped(output));
    }
    *xml += "</testcase>\n";
}

/// Escapes text for elements and attributes. Characters that XML 1.0 forbids are replaced.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            // Also escapes `]]>`.
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&apos;",
            // In an attribute, parsers would read them as spaces.
            '\t' => escaped += "&#9;",
            '\n' => escaped += "&#10;",
            '\r' => escaped += "&#13;",
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ => escaped.push(character),
        }
    }
    escaped
}
