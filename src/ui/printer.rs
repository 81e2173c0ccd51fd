//! The printer: results go to stdout, everything else to stderr, and every text is sanitized and masked.

use std::cell::{Cell, RefCell};
use std::io::{self, IsTerminal as _, Write};
use std::rc::Rc;

use dialoguer::console::{Term, measure_text_width};
use serde_json::Value;

use super::ask::{Terminal, wrapped};
use super::bars::{Bars, Screen};
use super::run_events::printed;
use super::sanitise::clean;
use crate::document::{Data, document};
use crate::events::{Event, Events, Level};
use crate::failure::{Code, Ended, Failure, Report, io_reason, next_lines};
use crate::line::{Line, VALUE_AT};
use crate::questions::Prompter;
use crate::secret::Filter;

/// How results are printed: text, or one JSON document on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// When to use color. `Auto`: on a terminal, unless `NO_COLOR` is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

/// Output settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutputSettings {
    pub(crate) format: Format,
    pub(crate) quiet: bool,
    pub(crate) verbose: u8,
    /// Color on stderr.
    pub(crate) color: bool,
    /// Whether stderr is a terminal that supports progress lines.
    pub(crate) draws: bool,
}

/// Writes to stdout and stderr; no other type does.
#[derive(Clone)]
pub(crate) struct Printer(Rc<Inner>);

struct Inner {
    settings: OutputSettings,
    filter: Filter,
    /// `None` with `-v`, with `-q`, or without a terminal.
    bars: Option<Bars>,
    out: RefCell<Box<dyn Write>>,
    err: Screen,
    /// Whether stdout and stderr are the same terminal.
    together: bool,
    closed: Cell<bool>,
    /// Whether output was lost, for example because the disk is full.
    lost: Cell<bool>,
    /// Whether a question is on the screen without an answer.
    asking: Rc<Cell<bool>>,
    on_close: tokio::sync::Notify,
}

const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

/// The colors of plan and check signs, of run outcomes, and of the labels that `demo` repeats.
const COLORS: [(&str, &str); 13] = [
    ("+", GREEN),
    ("~", YELLOW),
    ("-", RED),
    ("!", RED),
    ("✓", GREEN),
    ("✗", RED),
    ("SUCCESS", GREEN),
    ("ERROR", RED),
    ("FAILED", RED),
    ("CANCELLED", YELLOW),
    ("error:", RED),
    ("warning:", YELLOW),
    ("next:", CYAN),
];

/// Colors the sign or word at the start of each line, also after `DbtJobRunStatus.`.
fn painted(text: &str) -> String {
    let paint = |line: &str| {
        let rest = line.trim_start();
        let rest = rest.strip_prefix("DbtJobRunStatus.").unwrap_or(rest);
        let word = rest.split(' ').next().unwrap_or_default();
        match COLORS.iter().find(|(known, _)| *known == word) {
            Some((_, color)) => {
                let (start, end) = line.split_at(line.len() - rest.len());
                format!("{start}\u{1b}[{color}m{word}\u{1b}[0m{}", &end[word.len()..])
            }
            None => line.to_owned(),
        }
    };
    text.split('\n').map(paint).collect::<Vec<_>>().join("\n")
}

/// Wraps a line between words.
fn folded(line: &Line, columns: usize) -> String {
    const UNBROKEN: &str = "\u{a0}";
    match line {
        Line::Whole(text) => text.clone(),
        // A command in backticks counts as one word.
        Line::Prose(text) => {
            let parts = text.split('`').enumerate();
            let parts =
                parts.map(|(index, part)| if index % 2 == 1 { part.replace(' ', UNBROKEN) } else { part.into() });
            let text = parts.collect::<Vec<_>>().join("`");
            let lines = text.split('\n').map(|line| wrapped(line, columns, 0).join("\n    "));
            lines.collect::<Vec<_>>().join("\n").replace(UNBROKEN, " ")
        }
        // Continuation lines are indented by two columns more. `wrapped` counts four columns of indentation.
        Line::Item(indent, text) => {
            let lines = wrapped(text, (columns + 2).saturating_sub(*indent), 2);
            format!("{:indent$}{}", "", lines.join(&format!("\n{}", " ".repeat(indent + 2))))
        }
        Line::Setting { label, value } => {
            let lines = wrapped(value, (columns + 4).saturating_sub(VALUE_AT), 4);
            format!("{label:<VALUE_AT$}{}", lines.join(&format!("\n{}", " ".repeat(VALUE_AT))))
        }
    }
}

/// The clauses of a failure as sentences: "canceled; nothing was written" is "Canceled. Nothing was written."
fn sentences(what: &str) -> String {
    let sentence = |clause: &str| {
        let mut signs = clause.chars();
        signs.next().map(|first| format!("{}{}.", first.to_uppercase(), signs.as_str())).unwrap_or_default()
    };
    what.split("; ").map(sentence).collect::<Vec<_>>().join(" ")
}

impl Inner {
    /// The width of stderr's terminal, in columns.
    fn columns(&self) -> Option<usize> {
        self.settings.draws.then(|| usize::from(Term::stderr().size().1))
    }
}

impl Printer {
    /// A printer on the process's own streams.
    pub(crate) fn on_streams(settings: OutputSettings, filter: Filter) -> Printer {
        Printer::over(settings, filter, Box::new(io::stdout()), Box::new(io::stderr()), one_terminal())
    }

    /// A printer on two unrelated streams.
    #[cfg(test)]
    pub(crate) fn new(
        settings: OutputSettings,
        filter: Filter,
        out: Box<dyn Write>,
        err: Box<dyn Write + Send>,
    ) -> Printer {
        Printer::over(settings, filter, out, err, false)
    }

    /// A printer on two streams; `together` if they are the same terminal.
    pub(crate) fn over(
        settings: OutputSettings,
        filter: Filter,
        out: Box<dyn Write>,
        err: Box<dyn Write + Send>,
        together: bool,
    ) -> Printer {
        let on_close = tokio::sync::Notify::new();
        let (out, err) = (RefCell::new(out), Screen::new(err));
        let bars = (settings.draws && !settings.quiet && settings.verbose == 0).then(|| Bars::on(err.clone()));
        Printer(Rc::new(Inner {
            settings,
            filter,
            bars,
            out,
            err,
            together,
            closed: Cell::new(false),
            lost: Cell::new(false),
            asking: Rc::default(),
            on_close,
        }))
    }

    /// The sink that prints events here.
    pub(crate) fn events(&self) -> Events {
        let printer = self.clone();
        let bodies = self.0.settings.verbose >= 2;
        Events::new(move |event| printer.draw(event)).with_bodies(bodies)
    }

    /// Asks on stderr's terminal.
    pub(crate) fn prompter(&self) -> Rc<dyn Prompter> {
        Rc::new(Terminal::new(self.0.filter.clone(), self.0.asking.clone()))
    }

    /// Whether a question is on the screen without an answer, even if the caller stopped waiting.
    pub(crate) fn is_asking(&self) -> bool {
        self.0.asking.get()
    }

    /// Waits until the reader closes our stdout.
    pub(crate) async fn closed(&self) {
        while !self.0.closed.get() {
            self.0.on_close.notified().await;
        }
    }

    fn draw(&self, event: Event) {
        let OutputSettings { format, quiet, verbose, color: _, draws: _ } = self.0.settings;
        match event {
            event @ (Event::Run(_) | Event::OfJob { job: _, event: _ }) => {
                for event in printed(event) {
                    self.draw(event);
                }
            }
            Event::Progress(line) => match format {
                Format::Text => self.out(&line),
                Format::Json if quiet => {}
                Format::Json => self.err(&line.to_string()),
            },
            Event::ActivityState { what, state } => {
                if let Some(bars) = &self.0.bars {
                    bars.show(&self.on_a_bar(&what), self.on_a_bar(&state));
                }
            }
            Event::ActivityEnded { what } => {
                if let Some(bars) = &self.0.bars {
                    bars.clear(&self.on_a_bar(&what));
                }
            }
            Event::Waiting(_) if quiet || self.0.bars.is_some() => {}
            Event::Waiting(text) => self.err(&text),
            Event::Document(line) => self.out(&Line::Whole(line)),
            Event::Remark(_) if quiet => {}
            Event::Remark(line) | Event::Asked(line) => self.err(&self.shown(&line, self.0.columns())),
            Event::Warning(text) => self.labelled(YELLOW, "warning", &text),
            Event::Annotation { level, title, message } => self.annotation(level, &title, &message),
            Event::Trace { line, bodies } => {
                if verbose >= 1 {
                    self.err(&line);
                }
                if verbose >= 2 {
                    for body in &bodies {
                        self.err(&format!("  {body}"));
                    }
                }
            }
        }
    }

    /// The text with secrets masked and unsafe characters removed.
    pub(crate) fn clean(&self, text: &str) -> String {
        clean(&self.0.filter, text)
    }

    /// Cleans each string of a document separately, since secrets cannot be found in escaped JSON.
    fn clean_json(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.clean(text)),
            Value::Array(items) => items.iter().map(|item| self.clean_json(item)).collect(),
            Value::Object(fields) => {
                fields.iter().map(|(name, field)| (self.clean(name), self.clean_json(field))).collect()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    /// The text as shown on a progress line, which also identifies the line.
    fn on_a_bar(&self, text: &str) -> String {
        self.clean(text).replace(['\n', '\t'], " ")
    }

    /// Prints a command's result and returns its exit code, which is 0 only if all output was written.
    pub(crate) fn end(&self, ended: &Ended<Box<dyn Report>>) -> u8 {
        let Ended { report, failure } = ended;
        match self.0.settings.format {
            Format::Json => {
                let mut document = document!({ "version": 1_u32, "ok": failure.is_none() });
                if let Some(failure) = failure {
                    document.set("error", failure.json());
                }
                if let Some(report) = report {
                    document.set("data", report.json());
                } else if failure.is_none() {
                    document.set("data", Data::object());
                }
                self.out(&Line::Whole(self.clean_json(&document).to_string()));
            }
            Format::Text => {
                if let Some(report) = report {
                    for line in report.text() {
                        self.out(&line);
                    }
                }
            }
        }
        match failure {
            // Also with JSON: if stdout is redirected to a file, the log shows only this.
            Some(failure) => {
                self.failure(failure);
                failure.code.exit()
            }
            None if self.0.lost.get() => Code::Failed.exit(),
            None => 0,
        }
    }

    fn failure(&self, failure: &Failure) {
        let Failure { code, what, causes, hints, open_questions } = failure;
        let shown = match self.0.settings.verbose {
            0 => failure.main_causes(),
            _ => causes.iter().map(String::as_str).collect(),
        };
        if let Code::Cancelled(_) = code {
            self.wrapped("", &sentences(what));
        } else {
            self.labelled(RED, "error", &format!("{what} [{}]", code.name()));
        }
        for cause in &shown {
            self.wrapped("  cause: ", &cause.replace('\n', "\n  "));
        }
        let hidden = |cause: &&String| !shown.contains(&cause.as_str()) && !what.ends_with(cause.as_str());
        match causes.iter().filter(hidden).count() {
            0 => {}
            more if more > open_questions.tried => self.err("  (-v shows all causes)"),
            _ => self.err("  (-v shows where each was looked for)"),
        }
        for line in next_lines(hints) {
            self.err(&self.shown(&line, self.0.columns()));
        }
    }

    /// Prints help or version to stdout and returns the exit code. `colored`: the same text with colors.
    pub(crate) fn page(&self, text: &str, colored: Option<&str>) -> u8 {
        self.out_line(&self.own(text, colored));
        if self.0.lost.get() { Code::Failed.exit() } else { 0 }
    }

    /// Prints help to stderr. `colored`: the same text with colors.
    pub(crate) fn usage(&self, text: &str, colored: Option<&str>) {
        // A closed stderr cannot be reported.
        let _ = self.write_err(&self.own(text, colored));
    }

    /// The colored text, if the plain one needs no cleaning.
    fn own(&self, text: &str, colored: Option<&str>) -> String {
        let clean = self.clean(text);
        let text = colored.filter(|_| clean == text).unwrap_or(&clean);
        format!("{}\n", text.trim_end_matches('\n'))
    }

    /// The clean line, wrapped if the number of columns is known.
    fn shown(&self, line: &Line, columns: Option<usize>) -> String {
        let clean = line.clone().map(|text| self.clean(text));
        columns.map_or_else(|| clean.to_string(), |columns| folded(&clean, columns))
    }

    fn out(&self, line: &Line) {
        let shown = self.shown(line, self.0.columns().filter(|_| self.0.together));
        let painted = if self.0.settings.color && self.0.together { painted(&shown) } else { shown };
        self.out_line(&format!("{painted}\n"));
    }

    /// Writes a clean line.
    fn out_line(&self, line: &str) {
        if self.0.closed.get() {
            return;
        }
        match self.write_out(line) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.0.closed.set(true);
                self.0.on_close.notify_one();
            }
            Err(error) => {
                if !self.0.lost.replace(true) {
                    self.labelled(RED, "error", &format!("cannot write output: {}", io_reason(&error)));
                }
            }
        }
    }

    fn err(&self, text: &str) {
        let clean = self.clean(text);
        let painted = if self.0.settings.color { painted(&clean) } else { clean };
        // A closed stderr cannot be reported.
        let _ = self.write_err(&format!("{painted}\n"));
    }

    /// Prints a sentence that begins with a colored word.
    fn labelled(&self, color: &str, label: &str, text: &str) {
        let colored =
            if self.0.settings.color { format!("\u{1b}[{color}m{label}\u{1b}[0m: ") } else { format!("{label}: ") };
        self.wrapped(&colored, text);
    }

    /// Prints a sentence; on a terminal it is wrapped between words, with continuation lines indented.
    fn wrapped(&self, start: &str, text: &str) {
        let clean = self.clean(text);
        let lines = match self.0.columns() {
            Some(columns) => {
                let first = measure_text_width(start);
                clean.split('\n').flat_map(|line| wrapped(line, columns, first)).collect::<Vec<_>>().join("\n    ")
            }
            None => clean,
        };
        let _ = self.write_err(&format!("{start}{lines}\n"));
    }

    /// The only CI command that we print. Its texts cannot end it or begin another.
    fn annotation(&self, level: Level, title: &str, message: &str) {
        let word = match level {
            Level::Error => "error",
            Level::Warning => "warning",
        };
        let value = |text: &str| self.clean(text).replace('%', "%25").replace('\n', "%0A");
        let title = value(title).replace(':', "%3A").replace(',', "%2C");
        let line = format!("::{word} title={title}::{}\n", value(message));
        // A closed stderr cannot be reported.
        let _ = self.write_err(&line);
    }

    /// Writes a clean text.
    fn write_out(&self, text: &str) -> io::Result<()> {
        // Output to elsewhere does not affect the progress lines.
        if self.0.together && self.0.bars.is_some() {
            return self.write_err(text);
        }
        let mut out = self.0.out.borrow_mut();
        out.write_all(text.as_bytes()).and_then(|()| out.flush())
    }

    /// Writes a clean text.
    fn write_err(&self, text: &str) -> io::Result<()> {
        match &self.0.bars {
            Some(bars) => bars.print(text),
            None => self.0.err.print(text),
        }
    }
}

/// Whether stdout and stderr are the same terminal.
fn one_terminal() -> bool {
    io::stdout().is_terminal() && io::stderr().is_terminal() && same_device()
}

#[cfg(unix)]
fn same_device() -> bool {
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::MetadataExt as _;
    let device = |stream: std::os::fd::BorrowedFd<'_>| {
        Some(std::fs::File::from(stream.try_clone_to_owned().ok()?).metadata().ok()?.rdev())
    };
    device(io::stdout().as_fd()).is_some_and(|out| device(io::stderr().as_fd()) == Some(out))
}

/// A process has one console.
#[cfg(not(unix))]
fn same_device() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_below_their_beginning_and_commands_tables_and_diffs_are_not() {
        let wrapped = |line: Line, columns| folded(&line, columns);
        assert_eq!(wrapped(Line::Item(2, "✓ one two three".to_owned()), 10), "  ✓ one\n    two\n    three");
        assert_eq!(wrapped(Line::Item(6, "cause: one two".to_owned()), 16), "      cause: one\n        two");
        assert_eq!(wrapped(Line::Prose("one two three".to_owned()), 9), "one two\n    three");
        assert_eq!(
            wrapped(Line::Prose("run `dbtrigger jobs` now".to_owned()), 12),
            "run\n    `dbtrigger jobs`\n    now"
        );
        let setting = Line::Setting { label: "Notebook", value: "one two".to_owned() };
        assert_eq!(wrapped(setting, 18), "Notebook      one\n              two");
        for whole in ["  dbtrigger run 222222 --failed", "- a removed line", "1  2  a table"] {
            assert_eq!(wrapped(whole.into(), 10), whole);
        }
    }

    #[test]
    fn signs_and_outcomes_have_their_color_and_other_words_do_not() {
        for (line, colored) in [
            ("  + secret dbt-cloud/api-key", "  \u{1b}[32m+\u{1b}[0m secret dbt-cloud/api-key"),
            ("DbtJobRunStatus.ERROR   in 2m", "DbtJobRunStatus.\u{1b}[31mERROR\u{1b}[0m   in 2m"),
            ("  ✗ No notebook", "  \u{1b}[31m✗\u{1b}[0m No notebook"),
            ("SUCCESSFUL", "SUCCESSFUL"),
            ("a + b", "a + b"),
            ("", ""),
        ] {
            assert_eq!(painted(line), colored);
        }
        assert_eq!(painted("x\n  - y"), "x\n  \u{1b}[31m-\u{1b}[0m y");
    }
    use crate::secret::Vault;

    #[test]
    fn a_line_at_the_bottom_goes_away_whatever_had_to_be_cleaned_out_of_its_name() {
        let vault = Vault::default();
        vault.admit("dbtc_a-secret-value".to_owned()).unwrap();
        let settings = OutputSettings { format: Format::Text, quiet: false, verbose: 0, color: false, draws: true };
        let printer = Printer::new(settings, vault.filter(), Box::new(io::sink()), Box::new(io::sink()));
        let lines = || printer.0.bars.as_ref().unwrap().count();
        for what in ["dbt run 1", "a\nb\tc", "of dbtc_a-secret-value", "x\u{1b}[31my"] {
            let activity = printer.events().activity(what);
            activity.state("running");
            assert_eq!(lines(), 1, "{what:?}");
            drop(activity);
            assert_eq!(lines(), 0, "{what:?}");
        }
    }

    /// Records the output of both streams.
    #[derive(Clone, Default)]
    struct Shown(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl Write for Shown {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Shown {
        fn lines(&self) -> Vec<String> {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap()))
                .unwrap()
                .lines()
                .map(ToOwned::to_owned)
                .collect()
        }
    }

    fn printer(format: Format, color: bool) -> (Printer, Shown) {
        let settings = OutputSettings { format, quiet: false, verbose: 2, color, draws: false };
        let shown = Shown::default();
        (Printer::new(settings, Vault::default().filter(), Box::new(shown.clone()), Box::new(shown.clone())), shown)
    }

    /// Whether GitHub's runner or Azure's agent treats the line as a command.
    fn is_command(line: &str) -> bool {
        line.trim_start().starts_with("::") || line.contains("##[") || line.contains("##vso[")
    }

    #[test]
    fn no_line_of_a_service_is_a_command_for_a_ci_whatever_carries_it() {
        for text in [
            "::add-mask::x",
            "a\n::stop-commands::x",
            "a\r\n  \t::set-env name=PATH::/x",
            "a\u{b}\u{1b}[0m::error::x",
            "\u{feff}::error::x",
            "a\u{2028}::error::x",
            "##[error]x",
            "a ##vso[task.setvariable variable=PATH]x",
            "#\u{200b}#vso[task.complete]x",
        ] {
            for (format, color) in [(Format::Text, false), (Format::Text, true), (Format::Json, false)] {
                let (printer, shown) = printer(format, color);
                let text = text.to_owned();
                let failure = Failure::new(Code::Failed, text.clone())
                    .cause(text.clone())
                    .advise(text.clone())
                    .run("x", text.clone());
                for event in [
                    Event::Remark(Line::Prose(text.clone())),
                    Event::Warning(text.clone()),
                    Event::Progress(text.clone().into()),
                    Event::Document(text.clone()),
                    Event::Trace { line: text.clone(), bodies: vec![text.clone()] },
                ] {
                    printer.draw(event);
                }
                let _ = printer.end(&failure.into());
                printer.usage(&text, None);
                let _ = printer.page(&text, None);
                let lines = shown.lines();
                assert!(lines.len() > 5 && !lines.iter().any(|line| is_command(line)), "{text:?}: {lines:#?}");
            }
        }
    }

    #[test]
    fn an_annotation_is_one_line_and_one_command_whatever_its_texts_have_in_them() {
        let (printer, shown) = printer(Format::Json, true);
        let title = "a,b: 100%\r\n::add-mask::x".to_owned();
        let message = "one%0A::stop-commands::x\n::error::two ##vso[x]".to_owned();
        printer.draw(Event::Annotation { level: Level::Warning, title, message });
        let expected = "::warning title=a%2Cb%3A 100%25%0A%3A %3Aadd-mask%3A%3Ax::\
                        one%250A::stop-commands::x%0A: :error::two ## vso[x]";
        assert_eq!(shown.lines(), [expected]);
    }

    /// A name, the format, and a function that prints a text.
    type Sink<'a> = (&'a str, Format, &'a dyn Fn(&Printer, &str));

    #[test]
    #[expect(clippy::print_stdout, reason = "the line is what the test is for")]
    fn no_stream_shows_a_secret_whatever_it_is_disguised_as() {
        use crate::secret::tests::{MIXED, disguises, readable};
        struct Shows(String);
        impl Report for Shows {
            fn text(&self) -> Vec<Line> {
                vec![format!("of {}", self.0).into()]
            }
            fn json(&self) -> Data {
                Data::printed(&serde_json::json!({ "a": [self.0], self.0.clone(): { "b": self.0 } }).to_string())
            }
        }
        let of = |text: &str| Box::new(Shows(text.to_owned())) as Box<dyn Report>;
        let failed = |text: &str| Failure::new(Code::Failed, text).cause(text).advise(text).run("x", text);
        let sinks: [Sink<'_>; 15] = [
            ("remark", Format::Text, &|printer, text| printer.draw(Event::Remark(text.into()))),
            ("question", Format::Text, &|printer, text| printer.draw(Event::Asked(text.into()))),
            ("warning", Format::Text, &|printer, text| printer.draw(Event::Warning(text.to_owned()))),
            ("progress", Format::Text, &|printer, text| printer.draw(Event::Progress(text.into()))),
            ("progress beside JSON", Format::Json, &|printer, text| printer.draw(Event::Progress(text.into()))),
            ("document", Format::Json, &|printer, text| printer.draw(Event::Document(text.to_owned()))),
            ("trace", Format::Text, &|printer, text| {
                printer.draw(Event::Trace { line: text.to_owned(), bodies: vec![text.to_owned()] });
            }),
            ("annotation", Format::Text, &|printer, text| {
                let (title, message) = (text.to_owned(), text.to_owned());
                printer.draw(Event::Annotation { level: Level::Error, title, message });
            }),
            ("failure", Format::Text, &|printer, text| {
                let _ = printer.end(&failed(text).into());
            }),
            ("failure in JSON", Format::Json, &|printer, text| {
                let _ = printer.end(&failed(text).into());
            }),
            ("report", Format::Text, &|printer, text| {
                let _ = printer.end(&Ended::well(of(text)));
            }),
            ("report in JSON", Format::Json, &|printer, text| {
                let _ = printer.end(&Ended::well(of(text)));
            }),
            ("usage", Format::Text, &|printer, text| printer.usage(text, None)),
            ("page", Format::Text, &|printer, text| {
                let _ = printer.page(text, None);
            }),
            ("bar", Format::Text, &|printer, text| printer.usage(&printer.on_a_bar(text), None)),
        ];
        let (mut count, mut wrong) = (0, Vec::new());
        for (sink, format, write) in sinks {
            for (name, text, part) in disguises() {
                count += 1;
                let vault = Vault::default();
                vault.learn(MIXED);
                let settings = OutputSettings { format, quiet: false, verbose: 2, color: true, draws: false };
                let shown = Shown::default();
                let printer = Printer::new(settings, vault.filter(), Box::new(shown.clone()), Box::new(shown.clone()));
                write(&printer, &format!("it says <{text}> and no more"));
                let said = shown.lines().join("\n");
                // The reader undoes the escapes of JSON and annotations.
                let read = said
                    .replace("\\n", "")
                    .replace("%0A", "")
                    .replace("%25", "%")
                    .replace("%3A", ":")
                    .replace("%2C", ",");
                if said.is_empty() || [&said, &read].iter().any(|said| readable(said).contains(&part)) {
                    wrong.push(format!("{sink}, {name}: {said}"));
                }
            }
        }
        println!("disguised secrets on streams: {} of {count}", count - wrong.len());
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
