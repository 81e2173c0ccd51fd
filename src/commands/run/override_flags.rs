//! The flags of `run` that override the job's settings, made from the table of dbt's fields.

use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::{Map, Value};

use crate::dbt::{FIELDS, Field, Kind, Overrides, Together, wrong_together};
use crate::durations;
use crate::failure::{Code, Failure};

/// Overrides of the job's settings for this run, and its cause.
#[derive(Clone, Debug)]
pub(super) struct OverrideFlags {
    cause: Option<String>,
    overrides: Overrides,
}

/// The flags in the short help.
const COMMON: [&str; 2] = ["git_branch", "steps_override"];

fn flag(name: &'static str, flag: &'static str, value_name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(flag)
        .value_name(value_name)
        .help(help)
        .help_heading("Overrides")
        .conflicts_with_all(["workflow", "failed"])
        .hide_short_help(!COMMON.contains(&name))
}

fn flag_of(field: &Field) -> Arg {
    let flag = flag(field.name, field.flag, field.value_name, field.help);
    match field.kind {
        Kind::Text => flag.value_parser(NonEmptyStringValueParser::new()),
        Kind::Texts => flag.value_parser(NonEmptyStringValueParser::new()).action(ArgAction::Append),
        Kind::Number => flag.value_parser(|text: &str| {
            text.parse::<u64>().ok().filter(|number| *number > 0).ok_or("must be a whole number of at least 1")
        }),
        Kind::Seconds => flag.value_parser(|text: &str| durations::whole_seconds(text).map(|limit| limit.as_secs())),
        Kind::Flag => {
            flag.value_parser(value_parser!(bool)).num_args(0..=1).require_equals(true).default_missing_value("true")
        }
    }
}

/// The value of the flag, as JSON.
fn value_of(field: &Field, matches: &mut ArgMatches) -> Option<Value> {
    match field.kind {
        Kind::Text => matches.remove_one::<String>(field.name).map(Value::from),
        Kind::Texts => matches.remove_many::<String>(field.name).map(Iterator::collect),
        Kind::Number | Kind::Seconds => matches.remove_one::<u64>(field.name).map(Value::from),
        Kind::Flag => matches.remove_one::<bool>(field.name).map(Value::from),
    }
}

impl clap::Args for OverrideFlags {
    fn augment_args(command: Command) -> Command {
        let cause = flag("cause", "cause", "TEXT", "Reason for the run, shown in dbt");
        command.arg(cause).args(FIELDS.iter().map(flag_of))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for OverrideFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Self::from_arg_matches_mut(&mut matches.clone())
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, clap::Error> {
        let cause = matches.remove_one("cause");
        let mut overrides = Map::new();
        for field in &FIELDS {
            overrides.extend(value_of(field, matches).map(|value| (field.name.to_owned(), value)));
        }
        Ok(OverrideFlags { cause, overrides: Overrides(overrides) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl OverrideFlags {
    /// Splits into the cause and the overrides for dbt.
    pub(super) fn settle(self) -> Result<(Option<String>, Overrides), Failure> {
        let OverrideFlags { cause, overrides } = self;
        match wrong_together(|name| overrides.0.contains_key(name)) {
            None => Ok((cause, overrides)),
            Some(Together::TwoPullRequests(one, other)) => {
                let what = format!("--{} conflicts with --{}: a run is for one pull request", one.flag, other.flag);
                Err(Failure::new(Code::Contradiction, what).advise("drop one of them"))
            }
            Some(Together::NoCommit(one)) => {
                let what =
                    format!("--{} requires --git-sha or --git-branch: dbt does not look up the commit", one.flag);
                Err(Failure::new(Code::Usage, what).advise("add --git-sha with the commit of the pull request"))
            }
        }
    }
}
