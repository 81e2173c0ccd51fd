//! Help, version, and arguments that cannot be understood.

use std::ffi::OsString;

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{Root, use_color};
use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::nearest::nearest_names;
use crate::secret::Vault;
use crate::ui::{Color, Format, Printer, Voice};

/// Help, version, and usage errors, before anything else is there.
pub(super) fn refuse(error: &clap::Error, arguments: &[OsString], context: &Context, vault: &Vault) -> u8 {
    let json = wants_json(arguments);
    let format = if json { Format::Json } else { Format::Text };
    let color = use_color(Color::Auto, &context.environment, context.stderr_is_terminal);
    let printer = Printer::on_streams(Voice { format, quiet: false, verbose: 0, color, draws: false }, vault.filter());
    let rendered = error.render().to_string();
    if !error.use_stderr() {
        return printer.page(&rendered);
    }
    // Somebody who says nothing at all is shown what there is to say.
    if !json && error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        printer.usage(&rendered);
        return Code::Usage.exit();
    }
    printer.end(&misuse(error, &rendered, arguments).into())
}

/// Whether JSON was asked for, in arguments that could not be parsed as a whole.
fn wants_json(arguments: &[OsString]) -> bool {
    let mut arguments = arguments.iter().skip(1).filter_map(|argument| argument.to_str());
    while let Some(argument) = arguments.next() {
        // Short flags may stand together, and `-o` takes the rest: `-qojson`, `-vo json`.
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

/// A usage error: clap's first paragraph is what is wrong, with everything that is missing; its tips say what to do.
fn misuse(error: &clap::Error, rendered: &str, arguments: &[OsString]) -> Failure {
    let root = Root::command();
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
    let failure = Failure::new(Code::Usage, format!("{what}."));
    let meant = meant(error, command, &root);
    let tips = paragraphs.flat_map(str::lines).filter_map(|line| line.trim().strip_prefix("tip: "));
    let failure = if meant.is_empty() {
        tips.fold(failure, |failure, tip| failure.advise(in_one_line(tip)))
    } else {
        failure.meant(&meant)
    };
    failure.run(format!("{} --help", words.join(" ")))
}

/// The names of this command that are nearest to the one that does not exist: clap does not see that letters were swapped.
fn meant(error: &clap::Error, command: &clap::Command, root: &clap::Command) -> Vec<String> {
    let typed = |kind| match error.get(kind) {
        Some(ContextValue::String(typed)) => Some(typed.as_str()),
        _ => None,
    };
    if let Some(typed) = typed(ContextKind::InvalidSubcommand) {
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
    use clap::Parser as _;

    use super::*;

    fn arguments(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
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
            let error = Root::try_parse_from(&arguments).expect_err("misused");
            misuse(&error, &error.render().to_string(), &arguments)
        };
        let missing = misused("dbtrigger watch");
        assert!(missing.what.contains("<RUN"), "{missing:?}");
        assert!(format!("{:?}", missing.hints).contains("dbtrigger watch --help"), "{missing:?}");
        let unknown = misused("dbtrigger create-workflow --jop 1");
        assert!(unknown.what.contains("'--jop'"), "{unknown:?}");
        assert_eq!(unknown.hints[0].to_string(), "did you mean \"--job\"?");
        let nothing = misused("dbtrigger -o json");
        assert!(nothing.what.contains("requires a subcommand"), "{nothing:?}");
    }

    #[test]
    fn swapped_letters_are_seen_through() {
        for (line, meant, help) in [
            ("dbtrigger rnu", "did you mean \"run\"?", "run `dbtrigger --help`"),
            ("dbtrigger setup --jbo 1", "did you mean \"--job\"?", "run `dbtrigger setup --help`"),
            ("dbtrigger run --quite", "did you mean \"--quiet\"?", "run `dbtrigger run --help`"),
            ("dbtrigger auth lgoin", "did you mean \"login\"?", "run `dbtrigger auth --help`"),
        ] {
            let arguments = arguments(line);
            let error = Root::try_parse_from(&arguments).expect_err("misused");
            let failure = misuse(&error, &error.render().to_string(), &arguments);
            let hints: Vec<String> = failure.hints.iter().map(ToString::to_string).collect();
            assert_eq!(hints, [meant, help], "{failure:?}");
        }
    }
}
