//! The root of the command line: parses the arguments, dispatches the command, handles signals, and exits.

mod complete;
mod help;
mod signals;
mod usage;

use std::ffi::OsString;
use std::panic;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::help::{command_line, parse};
use self::signals::{InterruptEffect, interrupted, on_interrupt, reader_gone};
use self::usage::{check, refuse, refuse_arguments};
use crate::commands::run::{CiOutputs, Ending, Results};
use crate::commands::{self, Answers, CommandContext, Instead, InterruptReport, Prompts, Wire};
use crate::context::{Context, Environment};
use crate::credentials::AccountFlags;
use crate::events::{Event, Interruption};
use crate::failure::{Code, Ended, Failure, Report};
use crate::http::Pace;
use crate::line::Line;
use crate::questions::Question;
use crate::secret::Vault;
use crate::text::quoted;
use crate::ui::{Color, Format, OutputSettings, Printer};

/// Run dbt platform (dbt Cloud) jobs from Databricks Workflows
#[derive(Debug, Parser)]
#[command(
    name = "dbtrigger",
    version = commands::version::LINE,
    max_term_width = 110,
    arg_required_else_help = true,
    after_help = "New here? Run `dbtrigger demo` (no account needed), then `dbtrigger setup`."
)]
struct Root {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    globals: Globals,
}

/// Options of every command.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
struct Globals {
    /// Output format: text (default) or json
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT", hide_default_value = true, hide_possible_values = true)]
    output: Format,
    /// Print only results, warnings, and errors
    #[arg(short, long, global = true, hide_short_help = true)]
    quiet: bool,
    /// Show each request; -vv also shows bodies, without secrets
    #[arg(short, long, global = true, hide_short_help = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// When to use color
    #[arg(long, global = true, hide_short_help = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    color: Color,
    /// Never prompt; list everything that is missing and exit
    #[arg(long, global = true, hide_short_help = true)]
    no_input: bool,
    /// Databricks profile, as typed
    #[arg(
        short,
        long,
        global = true,
        value_name = "NAME",
        help = "Profile in ~/.databrickscfg",
        long_help = "Profile in ~/.databrickscfg; -p overrides all Databricks variables [env: DATABRICKS_CONFIG_PROFILE]"
    )]
    profile: Option<String>,
    /// Also trust the certificates in this PEM file, such as those of a TLS-inspecting proxy
    #[arg(long, global = true, hide_short_help = true, value_name = "FILE")]
    ca_bundle: Option<PathBuf>,
    #[command(flatten)]
    account: AccountFlags,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    Setup(Box<commands::setup::Args>),
    InitSecrets(commands::init_secrets::Args),
    DeployNotebook(commands::deploy_notebook::Args),
    CreateWorkflow(Box<commands::create_workflow::Args>),
    Run(Box<commands::run::Args>),
    Watch(commands::watch::Args),
    Cancel(commands::cancel::Args),
    Runs(commands::runs::Args),
    Jobs(commands::jobs::Args),
    Workflows(commands::workflows::Args),
    Doctor(commands::doctor::Args),
    Remove(commands::remove::Args),
    Auth(commands::auth::Args),
    #[cfg(feature = "sandbox")]
    Sandbox(commands::sandbox::Args),
    #[cfg(feature = "sandbox")]
    Demo(commands::demo::Args),
    Explain(commands::explain::Args),
    Completions(commands::completions::Args),
    Version(commands::version::Args),
    Man(commands::man::Args),
}

/// The signal of a closed pipe, which ends programs quietly.
const SIGPIPE: u8 = 13;

/// Runs the program on the process's own arguments and streams.
pub(crate) fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let context = Context::look();
    report_panics(context.environment.get("RUST_BACKTRACE").is_some_and(|value| value != "0"));
    let vault = Vault::default();
    for (_, secret) in context.environment.secrets() {
        vault.learn(&secret);
    }
    if let Some(answer) = complete::answer(&arguments, &context) {
        let settings = OutputSettings { format: Format::Text, quiet: false, verbose: 0, color: false, draws: false };
        let printer = Printer::on_streams(settings, vault.filter());
        // An empty line would be offered as a word.
        return if answer.is_empty() { 0 } else { printer.page(&answer, None) }.into();
    }
    // Before clap, whose errors quote the arguments.
    if let Err(failure) = check(&arguments, &context.environment) {
        return refuse_arguments(failure, &arguments, &context, &vault).into();
    }
    let root = match parse(&arguments) {
        Ok(root) => root,
        Err(error) => return refuse(&error, &arguments, &context, &vault).into(),
    };
    let Root { command, globals } = root;
    let Globals { output, quiet, verbose, color, no_input, profile, ca_bundle, account } = globals;
    let environment = context.environment.with_profile(profile.as_deref());
    let context = Context { environment, ..context };
    let color = use_color(color, &context.environment, context.stderr_is_terminal);
    let draws = context.stderr_is_terminal && context.environment.get("TERM") != Some("dumb");
    let printer = Printer::on_streams(OutputSettings { format: output, quiet, verbose, color, draws }, vault.filter());
    let roots = match commands::roots(ca_bundle.as_deref(), &context.environment) {
        Ok(roots) => roots,
        Err(failure) => return printer.end(&failure.into()).into(),
    };
    let (interrupt_report, interruption) = (InterruptReport::default(), Interruption::default());
    let asks = context.may_ask(no_input) && !command.reads_stdin();
    let interrupt_effect = command.interrupt_effect();
    let prompts =
        Prompts { prompter: asks.then(|| printer.prompter()), undone: interrupt_effect.undone(), ..Prompts::default() };
    let answers = prompts.answers.clone();
    let mut ctx = CommandContext {
        context,
        vault,
        events: printer.events(),
        json: output == Format::Json,
        account,
        ca_bundle,
        pace: Pace::default(),
        interrupt_report: interrupt_report.clone(),
        results: Results::default(),
        interruption: interruption.clone(),
        wire: Wire::Sockets(roots),
        prompts,
    };
    let outputs = command.ci_outputs();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = Failure::new(Code::Failed, "cannot start the async runtime")
                .cause(error.to_string())
                .advise("check the limits on open files and processes (`ulimit -a`)");
            return printer.end(&failure.into()).into();
        }
    };
    // After `setup`, the same is printed as commands for CI.
    let rerun_hint = RerunHint { arguments: &arguments, only_failed: matches!(command, Command::Setup(_)) };
    let interrupt = |signal| {
        let (ended, said) = on_interrupt(signal, interrupt_effect, &interrupt_report, &printer);
        let Ended { report, failure } = ended;
        (Ended { report, failure: failure.map(|failure| keep_answers(failure, &arguments, &answers.borrow())) }, said)
    };
    let exit = runtime.block_on(async {
        let (ended, said) = tokio::select! {
            biased;
            signal = interrupted(&interruption) => interrupt(signal),
            // Without a message: the reader has closed the pipe.
            () = reader_gone(&printer, &interruption) => (interrupt(SIGPIPE).0, false),
            ended = converse(async |ctx: &CommandContext| dispatch(command.clone(), ctx).await, rerun_hint, &mut ctx) => (ended, true),
        };
        let ended = ctx.global_flags().complete(ended, &arguments);
        let code = ended.failure.as_ref().map(|failure| failure.code);
        let exit = if said { printer.end(&ended) } else { code.map_or(0, Code::exit) };
        if let Some(outputs) = outputs {
            let runs = ended.report.map(|report| report.runs()).unwrap_or_default();
            let ending = Ending { runs: &runs, failure: ended.failure.as_ref(), results: &ctx.results, exit };
            outputs.write(&ending, &ctx.context.environment, &|text| printer.clean(text), &ctx.events);
        }
        exit
    });
    // A hanging prompt or look-up must not delay the exit.
    runtime.shutdown_background();
    exit.into()
}

/// Reports a panic as a bug and exits with its code. Release builds abort on a panic, so nothing runs after the hook.
fn report_panics(with_backtrace: bool) {
    let default = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| {
        if with_backtrace {
            default(panicked);
        }
        let at = panicked.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
        let mut failure = Failure::new(Code::Bug, format!("internal error{at}"));
        // Only a literal: a formatted message may quote data.
        failure.causes.extend(panicked.payload().downcast_ref::<&str>().map(ToString::to_string));
        let failure = failure.run("see what to report", "dbtrigger explain bug");
        let settings = OutputSettings { format: Format::Text, quiet: false, verbose: 0, color: false, draws: false };
        let exit = Printer::on_streams(settings, Vault::default().filter()).end(&failure.into());
        #[expect(clippy::exit, clippy::disallowed_methods, reason = "a panic has no way back to `main`")]
        std::process::exit(exit.into());
    }));
}

/// How to print the command line once more, with all answers in it.
#[derive(Clone, Copy)]
struct RerunHint<'a> {
    arguments: &'a [OsString],
    /// Print it only if the command failed.
    only_failed: bool,
}

/// Runs the command. At a terminal, asks for missing values and runs it again.
async fn converse(
    carry_out: impl AsyncFn(&CommandContext) -> Ended<Box<dyn Report>>,
    rerun_hint: RerunHint<'_>,
    ctx: &mut CommandContext,
) -> Ended<Box<dyn Report>> {
    let Some(prompter) = ctx.prompts.prompter.clone() else { return carry_out(ctx).await };
    let mut asked: Vec<Question> = Vec::new();
    loop {
        let ended = carry_out(ctx).await;
        let open = ended.failure.as_ref().map(|failure| failure.open_questions.clone()).unwrap_or_default();
        // An answer may lead to another question, so only now are all of them known.
        let answers = ctx.prompts.answers.borrow().clone();
        if open.questions.is_empty() && !answers.is_empty() {
            if let Some(failure) = ended.failure {
                let failure = if matches!(failure.code, Code::Cancelled(_)) {
                    keep_answers(failure, rerun_hint.arguments, &answers)
                } else {
                    failure.run(CONTINUE, next_time(rerun_hint.arguments, &answers))
                };
                return Ended { report: ended.report, failure: Some(failure) };
            }
            if !rerun_hint.only_failed {
                let command = format!("Without questions: {}", next_time(rerun_hint.arguments, &answers));
                ctx.events.emit(Event::Remark(Line::Whole(command)));
            }
        }
        // Already asked and still missing: asking again does not help.
        if open.questions.iter().all(|question| asked.contains(question)) {
            return ended;
        }
        if let Err(failure) = commands::answer(&open, ctx, &*prompter).await {
            let answers = ctx.prompts.answers.borrow();
            if answers.is_empty() {
                return failure.into();
            }
            return failure.run(CONTINUE, next_time(rerun_hint.arguments, &answers)).into();
        }
        // A setting can be edited any number of times.
        let once = |question: &Question| !matches!(question, Question::Setting { setting: _, now: _ });
        asked.extend(open.questions.into_iter().filter(once));
    }
}

/// Label of the command with all answers, after a failure.
const CONTINUE: &str = "continue with these answers";

/// Adds the command with the answers, unless the failure has a command already: that of the work that was done.
fn keep_answers(failure: Failure, arguments: &[OsString], answers: &Answers) -> Failure {
    if answers.is_empty() || failure.hints.iter().any(|hint| hint.command().is_some()) {
        failure
    } else {
        failure.run(CONTINUE, next_time(arguments, answers))
    }
}

/// The equivalent command, which asks only for secrets. An edited setting replaces its flag.
fn next_time(arguments: &[OsString], Answers { instead, settings }: &Answers) -> String {
    let mut arguments: Vec<String> =
        arguments.iter().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    for name in settings.keys().flat_map(|setting| setting.flags()) {
        while let Some(at) = arguments.iter().position(|word| word == name) {
            arguments.drain(at..arguments.len().min(at + 2));
        }
        arguments.retain(|word| word.strip_prefix(name).is_none_or(|value| !value.starts_with('=')));
    }
    let edited = settings.iter().filter_map(|(setting, value)| Some(Instead::Flag(setting.flag(), value.clone()?)));
    let instead: Vec<Instead> = instead.iter().cloned().chain(edited).collect();
    let given = arguments.iter().map(|argument| quoted(argument));
    let mut words: Vec<String> = ["dbtrigger".to_owned()].into_iter().chain(given).collect();
    // After `--`, nothing is a flag.
    let verbatim = words.iter().position(|word| word == "--").map_or(Vec::new(), |index| words.split_off(index));
    for instead in &instead {
        match instead {
            Instead::Variable(name, Some(value)) => words.insert(0, format!("{name}={}", quoted(value))),
            Instead::Variable(_, None) => {}
            Instead::Flag(flag, value) => words.extend([(*flag).to_owned(), quoted(value)]),
            Instead::Argument(value) => words.push(quoted(value)),
        }
    }
    words.extend(verbatim);
    words.join(" ")
}

async fn dispatch(command: Command, ctx: &CommandContext) -> Ended<Box<dyn Report>> {
    match command {
        Command::Setup(args) => commands::setup::run(*args, ctx).await,
        Command::InitSecrets(args) => commands::init_secrets::run(args, ctx).await,
        Command::DeployNotebook(args) => commands::deploy_notebook::run(args, ctx).await,
        Command::CreateWorkflow(args) => commands::create_workflow::run(*args, ctx).await,
        Command::Remove(args) => commands::remove::run(args, ctx).await,
        Command::Run(args) => commands::run::run(*args, ctx).await,
        Command::Watch(args) => commands::watch::run(args, ctx).await,
        Command::Cancel(args) => commands::cancel::run(args, ctx).await,
        Command::Runs(args) => commands::runs::run(args, ctx).await,
        Command::Jobs(args) => commands::jobs::run(args, ctx).await,
        Command::Workflows(args) => commands::workflows::run(args, ctx).await,
        Command::Doctor(args) => commands::doctor::run(args, ctx).await,
        Command::Auth(args) => commands::auth::run(args, ctx).await,
        #[cfg(feature = "sandbox")]
        Command::Sandbox(args) => commands::sandbox::run(args, ctx).await,
        #[cfg(feature = "sandbox")]
        Command::Demo(args) => commands::demo::run(args, ctx).await,
        Command::Explain(args) => commands::explain::run(args),
        Command::Completions(args) => commands::completions::run(&args, command_line()),
        Command::Version(args) => commands::version::run(&args),
        Command::Man(args) => commands::man::run(args, command_line()),
    }
}

fn use_color(wish: Color, environment: &Environment, stderr_is_terminal: bool) -> bool {
    match wish {
        Color::Always => true,
        Color::Never => false,
        Color::Auto if environment.get("NO_COLOR").is_some() => false,
        Color::Auto if environment.get("CLICOLOR_FORCE").is_some_and(|value| value != "0") => true,
        Color::Auto => stderr_is_terminal && environment.get("TERM") != Some("dumb"),
    }
}

impl Command {
    /// Whether the command reads standard input, so that prompts cannot.
    fn reads_stdin(&self) -> bool {
        match self {
            Command::Setup(args) => args.reads_stdin(),
            Command::InitSecrets(args) => args.reads_stdin(),
            Command::Auth(args) => args.reads_stdin(),
            Command::DeployNotebook(_)
            | Command::CreateWorkflow(_)
            | Command::Remove(_)
            | Command::Run(_)
            | Command::Watch(_)
            | Command::Cancel(_)
            | Command::Runs(_)
            | Command::Jobs(_)
            | Command::Workflows(_)
            | Command::Doctor(_)
            | Command::Explain(_)
            | Command::Completions(_)
            | Command::Version(_)
            | Command::Man(_) => false,
            #[cfg(feature = "sandbox")]
            Command::Sandbox(_) | Command::Demo(_) => false,
        }
    }

    /// The output for CI, in addition to what is printed.
    fn ci_outputs(&self) -> Option<CiOutputs> {
        if let Command::Run(args) = self { Some(CiOutputs::of(args)) } else { None }
    }

    fn interrupt_effect(&self) -> InterruptEffect {
        match self {
            Command::Setup(_)
            | Command::InitSecrets(_)
            | Command::DeployNotebook(_)
            | Command::CreateWorkflow(_)
            | Command::Remove(_) => InterruptEffect::Half,
            Command::Run(_) => InterruptEffect::Run,
            Command::Cancel(_) => InterruptEffect::Unconfirmed,
            Command::Auth(args) if args.changes_keyring() => InterruptEffect::Keyring,
            Command::Auth(_)
            | Command::Watch(_)
            | Command::Runs(_)
            | Command::Jobs(_)
            | Command::Workflows(_)
            | Command::Doctor(_) => InterruptEffect::AsItWas,
            #[cfg(feature = "sandbox")]
            Command::Sandbox(_) | Command::Demo(_) => InterruptEffect::Nothing,
            Command::Explain(_) | Command::Completions(_) | Command::Version(_) | Command::Man(_) => {
                InterruptEffect::Nothing
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use zeroize::Zeroizing;

    use super::*;
    use crate::commands::tests::harness::Harness;
    use crate::events::Events;
    use crate::failure::Hint;
    use crate::questions::{PendingAnswer, PlanSetting, Prompter};

    fn arguments(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn what_the_pages_of_explain_tell_people_to_type_can_be_typed() {
        let mut typed: Vec<(Code, &str)> = Vec::new();
        for code in Code::ALL {
            let page = code.explanation();
            // The page on usage errors shows a wrong one.
            if code != Code::Usage {
                typed.push((code, page.example.0));
            }
            for text in page.why.iter().chain(page.what_to_do) {
                typed.extend(text.split('`').filter(|part| part.starts_with("dbtrigger ")).map(|part| (code, part)));
            }
        }
        assert!(typed.len() > Code::ALL.len());
        for (code, line) in typed {
            // A quoted part is one word.
            let words = line.split('\'').enumerate().flat_map(|(index, part)| match index % 2 {
                0 => part.split_whitespace().collect(),
                _ => vec![part],
            });
            match parse(&words.map(OsString::from).collect::<Vec<_>>()) {
                Ok(_) => {}
                Err(error) => assert!(!error.use_stderr(), "{code:?}: {line}\n{error}"),
            }
        }
    }

    #[test]
    fn the_command_that_asks_nothing_has_every_answer_and_no_secret() {
        let instead = [
            Instead::Variable("DATABRICKS_HOST", Some("https://w.cloud.databricks.com".to_owned())),
            Instead::Variable("DATABRICKS_TOKEN", None),
            Instead::Flag("--dbt-account", "1".to_owned()),
            Instead::Variable("DBT_CLOUD_TOKEN", None),
            Instead::Argument("it's nightly".to_owned()),
        ];
        assert_eq!(
            next_time(
                &arguments("/bin/dbtrigger run --cause a:b"),
                &Answers { instead: instead.into(), ..Answers::default() }
            ),
            r#"DATABRICKS_HOST=https://w.cloud.databricks.com dbtrigger run --cause a:b --dbt-account 1 "it's nightly""#
        );
    }

    #[test]
    fn an_answer_stands_before_what_is_taken_as_it_is() {
        assert_eq!(
            next_time(
                &arguments("dbtrigger run --no-wait -- 222222"),
                &Answers { instead: vec![Instead::Flag("--dbt-account", "1".to_owned())], ..Answers::default() }
            ),
            "dbtrigger run --no-wait --dbt-account 1 -- 222222"
        );
    }

    #[test]
    fn an_edited_setting_replaces_its_flag_however_often_it_was_edited() {
        let settings = [
            (PlanSetting::Scope, Some("team".to_owned())),
            (PlanSetting::Notebook, None),
            (PlanSetting::Compute, Some("new".to_owned())),
        ];
        let line = arguments("dbtrigger setup --scope a --path /x --compute=serverless --key k");
        assert_eq!(
            next_time(&line, &Answers { instead: Vec::new(), settings: settings.into() }),
            "dbtrigger setup --key k --scope team --compute new"
        );
    }

    /// Answers the text questions.
    struct Typist;

    impl Prompter for Typist {
        fn text<'a>(&'a self, prompt: &'a str, _: &'a str) -> PendingAnswer<'a, String> {
            let text = if prompt.contains("host") { "ab123.us1.dbt.com" } else { "51234" };
            Box::pin(async move { Ok(text.to_owned()) })
        }

        fn secret<'a>(&'a self, prompt: &'a str) -> PendingAnswer<'a, Zeroizing<String>> {
            panic!("nobody expects the question: {prompt}")
        }

        fn choose<'a>(&'a self, prompt: &'a str, _: &'a [String]) -> PendingAnswer<'a, usize> {
            panic!("nobody expects the question: {prompt}")
        }

        fn key<'a>(&'a self, prompt: &'a str, _: &'a str) -> PendingAnswer<'a, char> {
            panic!("nobody expects the question: {prompt}")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_command_for_the_next_time_is_said_once_with_the_answers_of_all_rounds() {
        let (host, account) = (&[Question::DbtHost][..], &[Question::DbtAccount][..]);
        for (rounds, expected) in [
            (&[][..], &[][..]),
            (&[host], &["dbtrigger run --dbt-host ab123.us1.dbt.com"]),
            (&[host, account], &["dbtrigger run --dbt-host ab123.us1.dbt.com --dbt-account 51234"]),
            // Still missing after the answer: there is no equivalent command to print.
            (&[host, account, account], &[]),
        ] {
            let events = Events::new(move |event| panic!("{event:?}"));
            let world = Harness::new();
            for name in ["DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID", "DBT_CLOUD_TOKEN"] {
                world.set(name, "");
            }
            let mut ctx = world.ctx(AccountFlags::default(), events);
            ctx.prompts.prompter = Some(Rc::new(Typist));
            let left = RefCell::new(rounds.iter());
            let carry_out = async |_: &CommandContext| -> Ended<Box<dyn Report>> {
                let mut failure = Failure::new(Code::MissingInput, "It ends so.");
                failure.open_questions.questions =
                    left.borrow_mut().next().map(|round| round.to_vec()).unwrap_or_default();
                failure.into()
            };
            let ended =
                converse(carry_out, RerunHint { arguments: &arguments("dbtrigger run"), only_failed: false }, &mut ctx)
                    .await;
            let failure = ended.failure.unwrap();
            assert_eq!(failure.what, "It ends so.");
            assert_eq!(failure.hints.iter().filter_map(Hint::command).collect::<Vec<_>>(), expected);
        }
    }
}
