//! Help, version, and usage errors.

use std::ffi::OsString;

use clap::ValueEnum as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::help::{command_line, with_spaces};
use super::use_color;
use crate::context::{Context, Environment};
use crate::failure::{Code, Failure};
use crate::nearest::nearest_names;
use crate::placeholder::Placeholder;
use crate::secret::{Filter, Vault, holds_a_token};
use crate::ui::{Color, Format, OutputSettings, Printer, clean};

/// Refuses arguments that contain a token, a secret from the environment or an unexpanded variable, before an error
/// message repeats them.
pub(super) fn check(arguments: &[OsString], environment: &Environment) -> Result<(), Failure> {
    let filters: Vec<_> = environment.secrets().map(|(name, secret)| (name, Filter::of(&secret))).collect();
    let mut before: Option<String> = None;
    for (index, argument) in arguments.iter().enumerate().skip(1) {
        // Removing characters can join a secret that was split.
        let text = clean(&Filter::default(), &argument.to_string_lossy());
        let (name, value) = match text.split_once('=') {
            Some((name, value)) if name.starts_with('-') => (Some(name), value),
            Some(_) | None => {
                (before.as_deref().filter(|flag| flag.starts_with('-') && !text.starts_with('-')), &*text)
            }
        };
        let place = match name {
            Some(flag) if !holds_a_token(flag) => format!("the value of {flag}"),
            Some(_) | None => format!("argument {index}"),
        };
        let variable = filters.iter().find(|(_, filter)| filter.finds(&text)).map(|(name, _)| name);
        let what = match variable {
            Some(variable) => format!("refused {place}: it contains the secret in {variable}"),
            None if holds_a_token(&text) => format!("refused {place}: it looks like a token"),
            None => {
                let values = [Some(value), value.split_once('=').map(|(_, value)| value)];
                if let Some(placeholder) = values.into_iter().flatten().find_map(Placeholder::of_whole) {
                    return Err(Failure::new(Code::Usage, format!("refused {place}: it is {placeholder}"))
                        .advise("pass the value itself"));
                }
                before = Some(text);
                continue;
            }
        };
        return Err(Failure::new(Code::Usage, what)
            .cause("arguments are visible to other programs and kept in shell history; nothing was sent")
            .advise("pass the token in DBT_CLOUD_TOKEN or DATABRICKS_TOKEN, with --token-file or --token-stdin, or run `dbtrigger auth login`")
            .advise("revoke this token if others could see it"));
    }
    Ok(())
}

/// Prints why the command did not start.
pub(super) fn refuse_arguments(failure: Failure, arguments: &[OsString], context: &Context, vault: &Vault) -> u8 {
    early_printer(arguments, context, vault).end(&failure.into())
}

fn early_printer(arguments: &[OsString], context: &Context, vault: &Vault) -> Printer {
    let format = if wants_json(arguments) { Format::Json } else { Format::Text };
    let color = use_color(wanted_color(arguments), &context.environment, context.stderr_is_terminal);
    Printer::on_streams(OutputSettings { format, quiet: false, verbose: 0, color, draws: false }, vault.filter())
}

/// Prints help, version and usage errors before the rest of the program is set up.
pub(super) fn refuse(error: &clap::Error, arguments: &[OsString], context: &Context, vault: &Vault) -> u8 {
    let printer = early_printer(arguments, context, vault);
    let rendered = error.render();
    let (plain, colored) = (with_spaces(&rendered.to_string()), with_spaces(&rendered.ansi().to_string()));
    let colored =
        |terminal| use_color(wanted_color(arguments), &context.environment, terminal).then_some(colored.as_str());
    if !error.use_stderr() {
        return printer.page(&plain, colored(context.stdout_is_terminal));
    }
    // `dbtrigger` alone prints help.
    if !wants_json(arguments) && error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        printer.usage(&plain, colored(context.stderr_is_terminal));
        return Code::Usage.exit();
    }
    printer.end(&misuse(error, &plain, arguments).into())
}

/// The value of `--color`; help is printed before the other arguments are parsed.
fn wanted_color(arguments: &[OsString]) -> Color {
    let words: Vec<&str> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
    let after = words.windows(2).filter(|pair| pair[0] == "--color").map(|pair| pair[1]);
    let value = after.chain(words.iter().filter_map(|word| word.strip_prefix("--color="))).last();
    value.and_then(|value| Color::from_str(value, false).ok()).unwrap_or(Color::Auto)
}

/// Whether JSON output was requested, in arguments that failed to parse.
fn wants_json(arguments: &[OsString]) -> bool {
    let mut arguments = arguments.iter().skip(1).filter_map(|argument| argument.to_str());
    while let Some(argument) = arguments.next() {
        // Short flags can be combined, and `-o` takes the rest: `-qojson`, `-vo json`.
        let short = argument.strip_prefix('-').map(|flags| flags.trim_start_matches(['q', 'v']));
        let value = match argument {
            "--" => return false,
            "--output" => arguments.next(),
            _ => match (argument.strip_prefix("--output="), short.and_then(|flags| flags.strip_prefix('o'))) {
                (Some(value), _) => Some(value),
                (None, Some("")) => arguments.next(),
                (None, Some(value)) => Some(value.strip_prefix('=').unwrap_or(value)),
                (None, None) => None,
            },
        };
        if value == Some("json") {
            return true;
        }
    }
    false
}

/// A usage error from clap: the first paragraph says what is wrong, with everything that is missing; the tips are
/// the next steps.
fn misuse(error: &clap::Error, rendered: &str, arguments: &[OsString]) -> Failure {
    let root = command_line();
    let (mut command, mut words) = (&root, vec![root.get_name()]);
    for argument in arguments.iter().skip(1).filter_map(|argument| argument.to_str()) {
        if let Some(subcommand) = command.find_subcommand(argument) {
            command = subcommand;
            words.push(subcommand.get_name());
        }
    }
    let in_one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut paragraphs = rendered.split("\n\n");
    let what = in_one_line(paragraphs.next().unwrap_or_default().trim_start_matches("error: "));
    let failure = Failure::new(Code::Usage, what);
    let meant = meant(error, command, &root);
    let tips = paragraphs.flat_map(str::lines).filter_map(|line| line.trim().strip_prefix("tip: "));
    let failure = if meant.is_empty() {
        tips.fold(failure, |failure, tip| failure.advise(in_one_line(tip)))
    } else {
        failure.meant(&meant)
    };
    failure.run("see its flags", format!("{} --help", words.join(" ")))
}

/// Words that other tools use for what one of our commands does.
const SYNONYMS: [(&[&str], &[&str]); 15] = [
    (&["retry", "rerun", "resume", "repair"], &["run --failed"]),
    (&["start", "trigger", "exec", "execute"], &["run"]),
    (&["stop", "abort", "kill"], &["cancel"]),
    (&["logs", "log", "follow", "tail", "wait"], &["watch"]),
    (&["status", "state"], &["runs", "auth status"]),
    (&["history", "ps"], &["runs"]),
    (&["list", "ls"], &["jobs", "workflows", "runs"]),
    (&["login", "signin"], &["auth login"]),
    (&["logout", "signout"], &["auth logout"]),
    (&["whoami"], &["auth status"]),
    (&["delete", "destroy", "rm", "uninstall"], &["remove"]),
    (&["install", "apply", "configure"], &["setup"]),
    (&["init"], &["setup", "init-secrets"]),
    (&["deploy"], &["setup", "deploy-notebook"]),
    (&["check", "test", "validate", "diagnose"], &["doctor"]),
];

/// The command's names nearest to an unknown one, since clap does not detect swapped letters.
fn meant(error: &clap::Error, command: &clap::Command, root: &clap::Command) -> Vec<String> {
    let typed = |kind| match error.get(kind) {
        Some(ContextValue::String(typed)) => Some(typed.as_str()),
        _ => None,
    };
    if let Some(typed) = typed(ContextKind::InvalidSubcommand) {
        let word = typed.to_ascii_lowercase();
        if command.get_name() == root.get_name()
            && let Some((_, names)) = SYNONYMS.iter().find(|(words, _)| words.contains(&word.as_str()))
        {
            return names.iter().map(|name| format!("\"{name}\"")).collect();
        }
        return nearest_names(typed, command.get_subcommands().map(clap::Command::get_name));
    }
    let Some(typed) = typed(ContextKind::InvalidArg).and_then(|typed| typed.strip_prefix("--")) else {
        return Vec::new();
    };
    if error.kind() != ErrorKind::UnknownArgument {
        return Vec::new();
    }
    let flags = command.get_arguments().chain(root.get_arguments().filter(|flag| flag.is_global_set()));
    let flags: Vec<String> = flags.filter_map(clap::Arg::get_long).map(|flag| format!("--{flag}")).collect();
    nearest_names(&format!("--{typed}"), flags.iter().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::super::help::parse;
    use super::*;

    fn arguments(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    /// Builds arguments that contain a token.
    type Form = Box<dyn Fn(&str) -> Vec<String>>;

    /// Each command by its words, with all its flags and arguments.
    fn every_command() -> Vec<(Vec<String>, Vec<clap::Arg>)> {
        fn walk(
            command: &clap::Command,
            words: &[String],
            globals: &[clap::Arg],
            all: &mut Vec<(Vec<String>, Vec<clap::Arg>)>,
        ) {
            let own = command.get_arguments().cloned().chain(globals.iter().cloned());
            all.push((words.to_vec(), own.collect()));
            for below in command.get_subcommands() {
                walk(below, &[words, &[below.get_name().to_owned()]].concat(), globals, all);
            }
        }
        let root = command_line();
        let globals: Vec<clap::Arg> = root.get_arguments().filter(|arg| arg.is_global_set()).cloned().collect();
        let mut all = Vec::new();
        walk(&root, &["dbtrigger".to_owned()], &globals, &mut all);
        all
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "the line is what the test is for")]
    fn an_argument_that_holds_a_token_or_a_secret_of_the_environment_is_refused_and_not_repeated() {
        let hex = "0123456789abcdef0123456789abcdef";
        let environment = Environment::of([
            ("DBT_CLOUD_TOKEN", "live-key/of+dbt=="),
            ("DATABRICKS_TOKEN", "live-token-of-databricks"),
            ("DATABRICKS_CLIENT_SECRET", "live-secret-of-databricks"),
            ("DBT_API_KEY", "live-key-of-another-tool"),
            ("HTTPS_PROXY", "http://ana:live-pass-of-proxy@proxy.example"),
        ]);
        let live = environment.secrets().map(|(_, value)| value.into_owned());
        let foreign = [
            format!("dapi{hex}"),
            format!("dapi{hex}-2"),
            format!("dose{hex}"),
            format!("dkea{hex}"),
            "dbtc_aB3dE6gH9jK2mN5pQ8sT1vW4".to_owned(),
            "dbtu_aB3dE6gH9jK2mN5pQ8sT1vW4".to_owned(),
            format!("eyJraWQiOiJhYmMi.eyJzdWIiOiJhYmMi.{hex}"),
            "$(DBT_CLOUD_TOKEN)".to_owned(),
            "${DBT_CLOUD_TOKEN}".to_owned(),
            "%DBT_CLOUD_TOKEN%".to_owned(),
            "${{ secrets.DBT_CLOUD_TOKEN }}".to_owned(),
        ];
        let tokens: Vec<String> = foreign.into_iter().chain(live).collect();
        let (mut count, mut wrong) = (0, Vec::new());
        for (words, args) in every_command() {
            let mut forms: Vec<Form> = vec![
                Box::new(|token| vec![token.to_owned()]),
                Box::new(|token| vec![format!("--no-such-flag={token}")]),
                Box::new(|token| vec!["--".to_owned(), token.to_owned()]),
            ];
            for arg in args {
                if let Some(long) = arg.get_long().map(ToOwned::to_owned) {
                    let flag = format!("--{long}");
                    let again = flag.clone();
                    forms.push(Box::new(move |token| vec![flag.clone(), token.to_owned()]));
                    let flag = again.clone();
                    forms.push(Box::new(move |token| vec![format!("{flag}={token}")]));
                    forms.push(Box::new(move |token| vec![again.clone(), format!("K={token}")]));
                }
                if let Some(short) = arg.get_short() {
                    forms.push(Box::new(move |token| vec![format!("-{short}"), token.to_owned()]));
                    forms.push(Box::new(move |token| vec![format!("-{short}={token}")]));
                }
            }
            for (at, form) in forms.iter().enumerate() {
                // Each token alone, after an unknown flag and after `--`; flags take turns.
                let each = if at < 3 { tokens.len() } else { 2 };
                for token in tokens.iter().cycle().skip(count).take(each) {
                    count += 1;
                    let line: Vec<OsString> = words.iter().cloned().chain(form(token)).map(OsString::from).collect();
                    match check(&line, &environment) {
                        Err(failure) if failure.code.exit() == 2 && !format!("{failure:?}").contains(token) => {}
                        other => wrong.push(format!("{line:?}: {other:?}")),
                    }
                }
            }
        }
        println!("tokens as arguments: {} of {count}", count - wrong.len());
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn a_secret_within_a_longer_argument_is_seen_and_ordinary_arguments_are_not_taken_for_one() {
        let environment = Environment::of([("DBT_CLOUD_TOKEN", "live-key/of+dbt=="), ("DATABRICKS_TOKEN", "$(TOKEN)")]);
        let refused =
            |argument: &str| check(&["dbtrigger".into(), "run".into(), argument.into()], &environment).is_err();
        for argument in [
            "https://live-key%2fof%2Bdbt%3D%3D@x.example",
            "Authorization: Token live-key/of+dbt==",
            "live-\u{200b}key/of+dbt==",
            "https://ana:dapi0123456789abcdef0123456789abcdef@x.example/?o=1",
            "key=bGl2ZS1rZXkvb2YrZGJ0PT0=",
        ] {
            assert!(refused(argument), "{argument}");
        }
        for argument in [
            "222222",
            "https://ab123.us1.dbt.com/deploy/1234/projects/111111/jobs/222222",
            "dapi-nightly-refresh-of-2026",
            "dose of data",
            "dbtc_nightly_refresh_job",
            "{{job.parameters.job_id}}",
            "--override=steps_override=[\"dbt build\"]",
            "0 0 6 ? * MON-FRI",
            "costs $5 (or more)",
            "0123-456789-abcdef12",
            "-qv",
            "",
        ] {
            assert!(!refused(argument), "{argument}");
        }
    }

    #[test]
    fn json_is_recognised_in_arguments_that_cannot_be_parsed() {
        for line in
            ["x -o json run", "x run --output json", "x --output=json", "x -ojson", "x -o=json", "x -qvo json run"]
        {
            assert!(wants_json(&arguments(line)), "{line}");
        }
        for line in ["x run json", "x -o text run", "x run -- -o json", "x -q run --output", "x --color json"] {
            assert!(!wants_json(&arguments(line)), "{line}");
        }
    }

    #[test]
    fn a_usage_error_as_data_names_everything_that_is_missing_and_the_commands_own_help() {
        let misused = |line: &str| {
            let arguments = arguments(line);
            let error = parse(&arguments).expect_err("misused");
            misuse(&error, &error.render().to_string(), &arguments)
        };
        let missing = misused("dbtrigger completions");
        assert!(missing.what.contains("<SHELL"), "{missing:?}");
        assert!(format!("{:?}", missing.hints).contains("dbtrigger completions --help"), "{missing:?}");
        let unknown = misused("dbtrigger create-workflow --jop 1");
        assert!(unknown.what.contains("'--jop'"), "{unknown:?}");
        assert_eq!(unknown.hints[0].to_string(), "did you mean \"--job\"?");
        let nothing = misused("dbtrigger -o json");
        assert!(nothing.what.contains("requires a subcommand"), "{nothing:?}");
    }

    #[test]
    fn each_mistyped_flag_of_each_command_leads_to_the_right_one() {
        let (mut all, mut wrong) = (0, Vec::new());
        for (words, args) in every_command().into_iter().filter(|(words, _)| words.len() > 1) {
            for flag in args.iter().filter_map(clap::Arg::get_long).filter(|flag| flag.len() > 3) {
                let (front, back) = flag.split_at(flag.len() - 2);
                let swapped: String = front.chars().chain(back.chars().rev()).collect();
                let line: Vec<OsString> =
                    words.iter().cloned().chain([format!("--{swapped}")]).map(OsString::from).collect();
                let Err(error) = parse(&line) else { continue };
                let failure = misuse(&error, &error.render().to_string(), &line);
                all += 1;
                let meant = format!("did you mean \"--{flag}\"");
                if !failure.hints.first().is_some_and(|hint| hint.to_string().starts_with(&meant)) {
                    wrong.push(format!("{line:?}: {failure:?}"));
                }
            }
        }
        assert!(wrong.is_empty() && all > 200, "{} of {all}\n{}", wrong.len(), wrong.join("\n"));
    }

    #[test]
    fn swapped_letters_are_seen_through() {
        for (line, meant, help) in [
            ("dbtrigger rnu", "did you mean \"run\"?", "see its flags: dbtrigger --help"),
            ("dbtrigger setup --jbo 1", "did you mean \"--job\"?", "see its flags: dbtrigger setup --help"),
            ("dbtrigger run --quite", "did you mean \"--quiet\"?", "see its flags: dbtrigger run --help"),
            ("dbtrigger auth lgoin", "did you mean \"login\"?", "see its flags: dbtrigger auth --help"),
        ] {
            let arguments = arguments(line);
            let error = parse(&arguments).expect_err("misused");
            let failure = misuse(&error, &error.render().to_string(), &arguments);
            let hints: Vec<String> = failure.hints.iter().map(ToString::to_string).collect();
            assert_eq!(hints, [meant, help], "{failure:?}");
        }
    }

    #[test]
    fn a_word_of_another_tool_leads_to_our_command() {
        for (typed, meant) in [
            ("retry", "\"run --failed\""),
            ("status", "\"runs\" or \"auth status\""),
            ("logs", "\"watch\""),
            ("list", "\"jobs\" or \"workflows\" or \"runs\""),
            ("start", "\"run\""),
            ("stop", "\"cancel\""),
            ("login", "\"auth login\""),
            ("Delete", "\"remove\""),
            ("destroy", "\"remove\""),
            ("init", "\"setup\" or \"init-secrets\""),
            ("deploy", "\"setup\" or \"deploy-notebook\""),
        ] {
            let arguments = arguments(&format!("dbtrigger {typed} 222223"));
            let error = parse(&arguments).expect_err("misused");
            let failure = misuse(&error, &error.render().to_string(), &arguments);
            assert_eq!(failure.hints[0].to_string(), format!("did you mean {meant}?"), "{typed}");
        }
        // A synonym is no command of ours, and what it stands for is one.
        for (words, names) in SYNONYMS {
            for word in words {
                assert!(command_line().find_subcommand(word).is_none(), "{word}");
            }
            for name in names {
                let flags = arguments(&format!("dbtrigger {name} --help"));
                let error = parse(&flags).expect_err("help");
                assert_eq!(error.kind(), ErrorKind::DisplayHelp, "{name}");
            }
        }
    }
}
