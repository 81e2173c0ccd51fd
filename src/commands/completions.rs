//! `completions`: shell completion scripts.

use clap_complete::Shell;

use crate::document::{Data, document};
use crate::failure::{Code, Ended, Failure, Report};

/// Print a shell completion script
///
/// Install it:
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Named {
    Bash,
    Zsh,
    Fish,
    Powershell,
}

impl Named {
    fn generator(self) -> (&'static str, Shell) {
        match self {
            Named::Bash => ("bash", Shell::Bash),
            Named::Zsh => ("zsh", Shell::Zsh),
            Named::Fish => ("fish", Shell::Fish),
            Named::Powershell => ("powershell", Shell::PowerShell),
        }
    }
}

/// Prints the script for the clap command `root`.
pub(crate) fn run(args: &Args, mut root: clap::Command) -> Ended<Box<dyn Report>> {
    let Args { shell } = args;
    let (shell, generator) = shell.generator();
    let name = root.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(generator, &mut root, name, &mut script);
    match String::from_utf8(script) {
        Ok(script) => Ended::well(Box::new(Completions { shell, script })),
        Err(error) => Failure::new(Code::Bug, format!("The completion script for {shell} is not UTF-8."))
            .cause(error.to_string())
            .into(),
    }
}

struct Completions {
    shell: &'static str,
    script: String,
}

impl Report for Completions {
    fn text(&self) -> String {
        self.script.clone()
    }

    fn json(&self) -> Data {
        let Completions { shell, script } = self;
        document!({ "shell": shell, "script": script })
    }
}
