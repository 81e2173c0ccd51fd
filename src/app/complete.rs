//! Completions requested by a shell: the scripts of `completions` start dbtrigger with the words typed so far.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _};
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate, complete};
use clap_complete::env::Shells;

use super::help::command_line;
use super::{Globals, Root};
use crate::commands::run::Results;
use crate::commands::{self, CommandContext, InterruptReport, Prompts, Wire};
use crate::context::Context;
use crate::credentials::AccountFlags;
use crate::events::{Events, Interruption};
use crate::failure::Code;
use crate::http::Pace;
use crate::secret::Vault;
use crate::text::quoted;

/// Longest wait for dbt while a user waits for completions.
const LIMIT: Duration = Duration::from_secs(1);

/// The completions, if a shell requests them: a variable names the shell, and the words follow `--`.
pub(super) fn answer(arguments: &[OsString], context: &Context) -> Option<String> {
    let shell = context.environment.get("DBTRIGGER_COMPLETE")?;
    let mut words: Vec<OsString> = arguments.iter().skip_while(|word| *word != "--").skip(1).cloned().collect();
    let folder = std::env::current_dir().ok();
    let number = context.environment.get("_CLAP_COMPLETE_INDEX").and_then(|text| text.parse().ok());
    let index: usize = number.unwrap_or(words.len().saturating_sub(1));
    if words.len() == index {
        words.push(OsString::new());
    }
    let mut root = with_values(command_line(), globals(&words).as_ref());
    if shell == "bash" {
        return Some(in_bash(&words, index, |words, index| {
            complete(&mut root, words, index, folder.as_deref()).unwrap_or_default()
        }));
    }
    let words = words.iter().map(|word| plain(word)).collect();
    let mut answer = Vec::new();
    // Without output, the shell offers nothing.
    Shells::builtins().completer(shell)?.write_complete(&mut root, words, folder.as_deref(), &mut answer).ok()?;
    String::from_utf8(answer).ok()
}

/// Bash inserts lines unchanged, so values with special characters are quoted, unless a quote is already open.
fn in_bash(
    words: &[OsString],
    index: usize,
    complete: impl FnOnce(Vec<OsString>, usize) -> Vec<CompletionCandidate>,
) -> String {
    // Bash splits `--flag=value` into three words.
    let (mut joined, mut at): (Vec<OsString>, usize) = (Vec::new(), 0);
    let mut before_is_sign = false;
    for (number, word) in words.iter().enumerate() {
        let is_sign = word == "=" && number > 0;
        match joined.last_mut() {
            Some(last) if is_sign || before_is_sign => last.push(word),
            Some(_) | None => joined.push(word.clone()),
        }
        before_is_sign = is_sign;
        if number == index {
            at = joined.len() - 1;
        }
    }
    let current = joined.get(at).cloned().unwrap_or_default();
    let current = current.to_string_lossy().into_owned();
    let flag = current.starts_with("--").then(|| current.split_once('=')).flatten().map(|(flag, _)| format!("{flag}="));
    let typed = current.split_once('=').filter(|_| flag.is_some()).map_or(current.as_str(), |(_, typed)| typed);
    let open = typed.starts_with(['\'', '"']);
    let candidates = complete(joined.iter().map(|word| plain(word)).collect(), at);
    let lines = candidates.iter().map(|candidate| {
        let value = candidate.get_value().to_string_lossy();
        let value = flag.as_deref().and_then(|flag| value.strip_prefix(flag)).unwrap_or(&value);
        if open || value.starts_with('-') { value.to_owned() } else { quoted(value) }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A word without the quotes that shells pass along.
fn plain(word: &OsStr) -> OsString {
    let Some(text) = word.to_str() else { return word.to_owned() };
    let mut quote = None;
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', None | Some('"')) => plain.extend(characters.next()),
            ('\'' | '"', None) => quote = Some(character),
            (_, Some(open)) if character == open => quote = None,
            (_, _) => plain.push(character),
        }
    }
    plain.into()
}

/// The global flags among the words, as far as they parse.
fn globals(words: &[OsString]) -> Option<Globals> {
    let matches = Root::command().ignore_errors(true).try_get_matches_from(words).ok()?;
    Globals::from_arg_matches(&matches).ok()
}

/// The command line, with completers for error codes and job names.
fn with_values(command: clap::Command, globals: Option<&Globals>) -> clap::Command {
    let jobs = Jobs::of(globals);
    let with_jobs = |arg: clap::Arg| {
        let jobs = jobs.clone();
        match arg.get_value_names().and_then(|names| names.first()).map(clap::builder::Str::as_str) {
            Some("JOB" | "[KEY=]JOB") => arg.add(ArgValueCompleter::new(move |typed: &OsStr| jobs.named(typed))),
            Some("CODE") => arg.add(ArgValueCandidates::new(codes)),
            Some(_) | None => arg,
        }
    };
    command.mut_args(with_jobs).mut_subcommands(|below| with_values(below, globals))
}

fn codes() -> Vec<CompletionCandidate> {
    let candidate = |code: Code| CompletionCandidate::new(code.name()).help(Some(code.explanation().means.into()));
    Code::ALL.into_iter().map(candidate).collect()
}

/// The arguments that select the account whose jobs are listed.
#[derive(Clone, Default)]
struct Jobs {
    account: AccountFlags,
    profile: Option<String>,
    ca_bundle: Option<PathBuf>,
}

impl Jobs {
    fn of(globals: Option<&Globals>) -> Jobs {
        globals.cloned().map_or_else(Jobs::default, |Globals { account, profile, ca_bundle, .. }| Jobs {
            account,
            profile,
            ca_bundle,
        })
    }

    /// Jobs whose name or ID starts with the word. Ambiguous names are left out.
    fn named(&self, typed: &OsStr) -> Vec<CompletionCandidate> {
        let Some(typed) = typed.to_str() else { return Vec::new() };
        let all = self.all();
        let is_unique = |name: &str| !name.is_empty() && all.iter().filter(|(_, other)| other == name).count() == 1;
        let candidates = all.iter().flat_map(|(id, name)| {
            let id = id.to_string();
            let by_id = (!typed.is_empty() || !is_unique(name)) && id.starts_with(typed);
            let by_name = is_unique(name) && name.starts_with(typed);
            let id_first = by_id.then(|| CompletionCandidate::new(&id).help(Some(name.clone().into())));
            id_first.into_iter().chain(by_name.then(|| CompletionCandidate::new(name).help(Some(id.clone().into()))))
        });
        candidates.collect()
    }

    fn all(&self) -> Vec<(u64, String)> {
        let Jobs { account, profile, ca_bundle } = self;
        let context = Context::look();
        let environment = context.environment.with_profile(profile.as_deref());
        let Ok(roots) = commands::roots(ca_bundle.as_deref(), &environment) else { return Vec::new() };
        let ctx = CommandContext {
            context: Context { environment, ..context },
            vault: Vault::default(),
            events: Events::new(|_| {}),
            json: false,
            account: account.clone(),
            ca_bundle: ca_bundle.clone(),
            pace: Pace::default(),
            interrupt_report: InterruptReport::default(),
            results: Results::default(),
            interruption: Interruption::default(),
            wire: Wire::Sockets(roots),
            prompts: Prompts::default(),
        };
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
        let jobs = runtime.block_on(async { tokio::time::timeout(LIMIT, commands::completions::jobs(&ctx)).await });
        // A hanging lookup must not delay the response.
        runtime.shutdown_background();
        jobs.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn words_come_without_their_quotes() {
        for (word, expected) in [
            ("Nightly", "Nightly"),
            (r"Nightly\ bu", "Nightly bu"),
            ("'Nightly bu", "Nightly bu"),
            ("'Nightly build'", "Nightly build"),
            (r#""it's \"so\"""#, r#"it's "so""#),
            (r"'a\b'", r"a\b"),
            ("", ""),
        ] {
            assert_eq!(plain(OsStr::new(word)), OsString::from(expected), "{word}");
        }
    }

    #[test]
    fn bash_gets_words_that_it_can_insert() {
        let asked = |words: &[&str], index, offered: &[&str]| {
            let mut seen = None;
            let lines = in_bash(&os(words), index, |words, at| {
                seen = Some(words[at].clone());
                offered.iter().map(CompletionCandidate::new).collect()
            });
            (seen.unwrap().into_string().unwrap(), lines)
        };
        for (words, index, seen, offered, lines) in [
            (&["x", "run", "Ni"][..], 2, "Ni", &["Nightly build", "Nightly"][..], "'Nightly build'\nNightly"),
            (&["x", "run", "'Nightly b"], 2, "Nightly b", &["Nightly build"], "Nightly build"),
            (&["x", "run", "--job", "=", "Ni"], 4, "--job=Ni", &["--job=Nightly build"], "'Nightly build'"),
            (&["x", "run", "--job", "="], 3, "--job=", &["--job=a"], "a"),
            (&["x", "run", "--id"], 2, "--id", &["--idempotency-key"], "--idempotency-key"),
        ] {
            assert_eq!(asked(words, index, offered), (seen.to_owned(), lines.to_owned()), "{words:?}");
        }
    }

    #[test]
    fn commands_flags_codes_and_shells_are_known_without_a_service() {
        let offered = |words: &[&str]| {
            let mut root = with_values(command_line(), None);
            let candidates = complete(&mut root, os(words), words.len() - 1, None).unwrap();
            candidates.iter().map(|candidate| candidate.get_value().to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(offered(&["dbtrigger", "create-"]), ["create-workflow"]);
        assert_eq!(offered(&["dbtrigger", "workf"]), ["workflows"]);
        assert_eq!(offered(&["dbtrigger", "run", "--fai"]), ["--failed"]);
        assert_eq!(offered(&["dbtrigger", "explain", "not-f"]), ["not-found"]);
        let all = offered(&["dbtrigger", "explain", ""]);
        assert!(Code::ALL.iter().all(|code| all.iter().any(|offered| offered == code.name())), "{all:?}");
        assert_eq!(offered(&["dbtrigger", "completions", "z"]), ["zsh"]);
    }

    #[test]
    fn a_file_or_folder_is_completed_wherever_one_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key.txt"), "").unwrap();
        std::fs::create_dir(folder.path().join("target")).unwrap();
        let offered = |words: &[&str]| {
            let mut root = with_values(command_line(), None);
            let candidates = complete(&mut root, os(words), words.len() - 1, Some(folder.path())).unwrap();
            candidates.iter().map(|candidate| candidate.get_value().to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(offered(&["dbtrigger", "init-secrets", "--token-file", "k"]), ["key.txt"]);
        assert_eq!(offered(&["dbtrigger", "run", "--artifacts", "t"]), ["target/"]);
        assert_eq!(offered(&["dbtrigger", "runs", "--ca-bundle", "k"]), ["key.txt"]);
    }
}
