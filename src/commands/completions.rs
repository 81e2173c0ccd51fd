//! `completions`: shell completion scripts.

use std::io::Write as _;

use clap_complete::Shell;
use clap_complete::env::Shells;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::shared::cache::CacheFile;
use super::shared::job_argument::names;
use super::{CommandContext, connect_dbt};
use crate::credentials::{InputErrors, account};
use crate::document::{Data, document};
use crate::failure::{Code, Ended, Failure, Report};
use crate::line::Line;

/// Print a shell completion script
///
/// Completes commands, flags, files, error codes, and the names of dbt jobs. Install it:
///   bash        ~/.local/share/bash-completion/completions/dbtrigger
///   zsh         a file _dbtrigger in a directory of $fpath
///   fish        ~/.config/fish/completions/dbtrigger.fish
///   powershell  append to the file that $PROFILE names
#[derive(Clone, Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:
  dbtrigger completions bash
  dbtrigger completions zsh

For the current shell only: source <(dbtrigger completions bash)"
)]
pub(crate) struct Args {
    /// Shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Named,
    /// Print a script that completes only commands and flags, and never starts dbtrigger
    #[arg(long = "static")]
    is_static: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Named {
    Bash,
    Zsh,
    Fish,
    Powershell,
}

/// The variable by which a script names its shell when it asks dbtrigger for completions.
const VARIABLE: &str = "DBTRIGGER_COMPLETE";

/// Bash inserts completions unquoted, so dbtrigger quotes them, for which it needs the words as typed.
const BASH: &str = r#"_dbtrigger() {
    local IFS=$'\n'
    COMPREPLY=($(DBTRIGGER_COMPLETE=bash _CLAP_COMPLETE_INDEX=$COMP_CWORD dbtrigger -- "${COMP_WORDS[@]}" 2>/dev/null))
    if [[ ${COMPREPLY-} == */ ]]; then compopt -o nospace 2>/dev/null; fi
}
complete -F _dbtrigger dbtrigger
"#;

/// Autoloaded from $fpath, the zsh script only defines the completer, so it must also be called.
const ZSH_END: &str = r#"
if [ "$funcstack[1]" = "_dbtrigger" ]; then _clap_dynamic_completer_dbtrigger; fi
"#;

impl Named {
    fn generator(self) -> (&'static str, Shell) {
        match self {
            Named::Bash => ("bash", Shell::Bash),
            Named::Zsh => ("zsh", Shell::Zsh),
            Named::Fish => ("fish", Shell::Fish),
            Named::Powershell => ("powershell", Shell::PowerShell),
        }
    }

    /// The script that asks the program `name`.
    fn asking(self, name: &str) -> std::io::Result<Vec<u8>> {
        let mut script = Vec::new();
        match self {
            Named::Bash => script.write_all(BASH.as_bytes())?,
            Named::Zsh | Named::Fish | Named::Powershell => {
                let shells = Shells::builtins();
                let Some(shell) = shells.completer(self.generator().0) else { return Ok(script) };
                shell.write_registration(VARIABLE, name, name, name, &mut script)?;
            }
        }
        if self == Named::Zsh {
            script.write_all(ZSH_END.as_bytes())?;
        }
        Ok(script)
    }
}

/// Prints the script for the clap command `root`.
pub(crate) fn run(args: &Args, mut root: clap::Command) -> Ended<Box<dyn Report>> {
    let Args { shell: named, is_static } = args;
    let (shell, generator) = named.generator();
    let name = root.get_name().to_owned();
    let script = if *is_static {
        let mut script = Vec::new();
        clap_complete::generate(generator, &mut root, name, &mut script);
        script
    } else {
        named.asking(&name).unwrap_or_default()
    };
    match String::from_utf8(script) {
        Ok(script) => Ended::well(Box::new(Completions { shell, script })),
        Err(error) => Failure::new(Code::Bug, format!("the completion script for {shell} is not UTF-8"))
            .cause(error.to_string())
            .into(),
    }
}

/// How long listed jobs are reused.
const FRESH: SignedDuration = SignedDuration::from_mins(5);

/// Cached jobs of an account.
#[derive(Serialize, Deserialize)]
struct Listed {
    /// In seconds since 1970.
    at: i64,
    jobs: Vec<(u64, String)>,
}

impl Listed {
    fn is_fresh(&self, now: Timestamp) -> bool {
        let age = Timestamp::from_second(self.at).map(|at| now.duration_since(at));
        age.is_ok_and(|age| !age.is_negative() && age < FRESH)
    }
}

/// IDs and names of the account's dbt jobs, from the cache if it is fresh.
pub(crate) async fn jobs(ctx: &CommandContext) -> Vec<(u64, String)> {
    let environment = &ctx.context.environment;
    let Some(account) = account(&ctx.account, &[], environment, &mut InputErrors::default()) else { return Vec::new() };
    let file = CacheFile::new("jobs", &format!("{} {}", account.origin, account.id), environment);
    let now = ctx.context.wall.now();
    if let Some(listed) = file.load().filter(|listed: &Listed| listed.is_fresh(now)) {
        return listed.jobs;
    }
    let Ok((account, reader)) = connect_dbt(&[], InputErrors::default(), ctx) else { return Vec::new() };
    let jobs = names(&reader, &account).await.unwrap_or_default();
    if !jobs.is_empty() {
        file.store(&Listed { at: now.as_second(), jobs: jobs.clone() });
    }
    jobs
}

struct Completions {
    shell: &'static str,
    script: String,
}

impl Report for Completions {
    fn text(&self) -> Vec<Line> {
        vec![self.script.trim_end_matches('\n').into()]
    }

    fn json(&self) -> Data {
        let Completions { shell, script } = self;
        document!({ "shell": shell, "script": script })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::tests::harness::Harness;
    use crate::credentials::AccountFlags;
    use crate::events::Events;

    #[tokio::test(start_paused = true)]
    async fn names_of_jobs_are_asked_for_once_in_a_while_and_nothing_is_kept_of_a_failure() {
        let world = Harness::new();
        let cache = tempfile::tempdir().unwrap();
        world.set("XDG_CACHE_HOME", cache.path().to_str().unwrap());
        let listed = async || {
            let jobs = jobs(&world.ctx(AccountFlags::default(), Events::new(|_| ()))).await;
            (jobs.iter().any(|job| *job == (222_222, "Nightly build".to_owned())), world.take_log().len())
        };
        world.set("DBT_CLOUD_TOKEN", "");
        assert_eq!(listed().await, (false, 0));
        world.set("DBT_CLOUD_TOKEN", crate::commands::tests::harness::DBT_TOKEN);
        let (found, asked) = listed().await;
        assert!(found && asked > 0);
        assert_eq!(listed().await, (true, 0));
        // Another account has other jobs.
        world.set("DBT_CLOUD_ACCOUNT_ID", "2");
        assert!(!listed().await.0);
        world.set("DBT_CLOUD_ACCOUNT_ID", "51234");
        tokio::time::sleep(std::time::Duration::from_mins(6)).await;
        assert_eq!(listed().await, (true, asked));
        let text = std::fs::read_dir(cache.path().join("dbtrigger")).unwrap();
        assert!(
            text.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).all(|text| !text.contains("dbtc_"))
        );
    }
}
