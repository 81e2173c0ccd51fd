//! The help of `dbtrigger`, `-h`, `--help` and `help`: colors, groups of commands, and one example in short help.

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::builder::styling::AnsiColor;
use clap::builder::{StyledStr, Styles};
use clap::{CommandFactory as _, FromArgMatches as _, ValueHint};

use super::Root;

/// The colors of cargo's help.
const STYLES: Styles = Styles::styled()
    .header(AnsiColor::BrightGreen.on_default().bold())
    .usage(AnsiColor::BrightGreen.on_default().bold())
    .literal(AnsiColor::BrightCyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// The groups of commands in the program's help.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Set up", &["setup", "init-secrets", "deploy-notebook", "create-workflow"]),
    ("Run", &["run", "watch", "cancel"]),
    ("Inspect", &["doctor", "runs", "jobs", "workflows"]),
    ("Manage", &["auth", "remove", "explain", "completions", "version", "help"]),
    ("Try it", &["demo", "sandbox"]),
];

const HELP: &str = "Show help for a command";

pub(super) fn parse(arguments: &[OsString]) -> Result<Root, clap::Error> {
    let mut command = command_line();
    let matches = command.try_get_matches_from_mut(arguments)?;
    Root::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// The command line with its help: everything in `--help`, the most used flags in `-h`.
pub(super) fn command_line() -> clap::Command {
    let mut command = Root::command().styles(STYLES);
    for subcommand in command.get_subcommands_mut() {
        with_example(subcommand);
    }
    let template = template(&command);
    with_hints(command).help_template(template)
}

/// Which values are files, for completions.
fn with_hints(command: clap::Command) -> clap::Command {
    let hinted =
        |arg: clap::Arg| match arg.get_value_names().and_then(|names| names.first()).map(clap::builder::Str::as_str) {
            Some("FILE") => arg.value_hint(ValueHint::FilePath),
            Some("DIR") => arg.value_hint(ValueHint::DirPath),
            Some(_) | None => arg,
        };
    command.mut_args(hinted).mut_subcommands(with_hints)
}

/// A space at which clap breaks no line.
const UNBROKEN: char = '\u{a0}';

/// Commands in examples with spaces at which no line is broken, so that they can be pasted.
fn unbroken(examples: &str) -> String {
    let line = |line: &str| match line.strip_prefix("  ") {
        Some(command) => format!("  {}", command.replace(' ', &UNBROKEN.to_string())),
        None => line.to_owned(),
    };
    examples.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// Help from clap with its spaces again.
pub(crate) fn with_spaces(help: &str) -> String {
    help.replace(UNBROKEN, " ")
}

/// Keeps only the first example in short help.
fn with_example(command: &mut clap::Command) {
    for subcommand in command.get_subcommands_mut() {
        with_example(subcommand);
    }
    let Some(after) = command.get_after_help().map(|text| text.ansi().to_string()) else { return };
    let header = |text: &str| format!("{0}{text}{0:#}", STYLES.get_header());
    let after = unbroken(&after);
    let first = after.split_once("Examples:\n").and_then(|(_, examples)| examples.lines().next()).unwrap_or_default();
    let short = format!("{}\n{first}", header("Example:"));
    let long = after.replace("Examples:", &header("Examples:"));
    *command = std::mem::take(command).after_help(short).after_long_help(long);
}

/// The program's help, with its commands in groups.
fn template(command: &clap::Command) -> StyledStr {
    let (header, literal) = (STYLES.get_header(), STYLES.get_literal());
    let mut text = StyledStr::from("{about-with-newline}\n{usage-heading} {usage}\n");
    for (title, names) in GROUPS {
        let _ = writeln!(text, "\n{header}{title}:{header:#}");
        for name in names {
            let about = command.find_subcommand(name).and_then(|subcommand| subcommand.get_about());
            // clap adds `help` only when parsing.
            let about = about.map(ToString::to_string).or_else(|| (*name == "help").then(|| HELP.to_owned()));
            if let Some(about) = about {
                let _ = writeln!(text, "  {literal}{name:<15}{literal:#}  {about}");
            }
        }
    }
    let _ = write!(text, "\n{header}Global options:{header:#}\n{{options}}{{after-help}}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Collects all commands and subcommands, each with its full name.
    fn every<'a>(command: &'a clap::Command, words: &str, all: &mut Vec<(String, &'a clap::Command)>) {
        for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
            let words = format!("{words} {}", subcommand.get_name());
            if subcommand.get_name() != "help" {
                every(subcommand, &words, all);
                all.push((words, subcommand));
            }
        }
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "the line is what the test is for")]
    fn short_help_fits_one_screen_and_has_one_example() {
        let mut root = command_line();
        root.build();
        let narrow = root.clone().term_width(60).render_help().to_string();
        assert!(narrow.lines().all(|line| line.chars().count() <= 60), "{narrow}");
        let mut all = vec![("dbtrigger".to_owned(), &root)];
        every(&root, "dbtrigger", &mut all);
        let mut wrong = Vec::new();
        for (words, command) in &all {
            let help = with_spaces(&(*command).clone().term_width(80).render_help().to_string());
            // A command to paste is not broken.
            let is_wide = |line: &str| line.chars().count() > 80 && !line.starts_with("  dbtrigger ");
            let (lines, wide) = (help.lines().count(), help.lines().any(is_wide));
            let example = *words == "dbtrigger" || help.contains("\nExample:\n  dbtrigger ");
            if lines > 40 || wide || !example {
                wrong.push(format!("{words}: {lines} lines\n{help}"));
            }
        }
        println!("short help of at most 40 lines: {} of {}", all.len() - wrong.len(), all.len());
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn a_flag_has_the_same_names_and_the_same_form_in_every_command() {
        let parsed = |line: &str| {
            let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            format!("{:?}", parse(&arguments).unwrap())
        };
        let mut root = command_line();
        root.build();
        let mut all = Vec::new();
        every(&root, "dbtrigger", &mut all);
        let (mut notebooks, mut grants) = (0, 0);
        for (words, command) in &all {
            for flag in command.get_arguments() {
                match flag.get_long() {
                    Some("notebook") => {
                        notebooks += 1;
                        let [notebook, path] = ["--notebook", "--path"].map(|flag| {
                            let rest = if words == "dbtrigger remove" { "--all " } else { "" };
                            parsed(&format!("{words} {rest}{flag} /a/b"))
                        });
                        assert_eq!(notebook, path);
                    }
                    Some("grant") => {
                        grants += 1;
                        let names = flag.get_value_names().unwrap_or_default();
                        assert_eq!(
                            names.iter().map(clap::builder::Str::as_str).collect::<Vec<_>>(),
                            ["PRINCIPAL[:LEVEL]"]
                        );
                        let help = flag.get_help().unwrap().to_string();
                        assert!(help.contains("(default)"), "{words}: {help}");
                    }
                    Some(_) | None => {}
                }
            }
        }
        assert_eq!((notebooks, grants), (4, 4));
    }

    #[test]
    fn every_command_is_in_one_group() {
        let mut root = command_line();
        root.build();
        for subcommand in root.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
            let groups = GROUPS.iter().filter(|(_, names)| names.contains(&subcommand.get_name()));
            assert_eq!(groups.count(), 1, "{}", subcommand.get_name());
        }
    }
}
