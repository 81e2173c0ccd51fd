//! `man`: writes manual pages, for packagers. Hidden from the help.

use std::path::{Path, PathBuf};

use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::document::{Data, document};
use crate::failure::{Code, Ended, Failure, Report, io_reason};
use crate::line::Line;

/// Write a manual page for every command
#[derive(Clone, Debug, clap::Args)]
#[command(hide = true)]
pub(crate) struct Args {
    /// Output directory, created if missing
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Writes the pages of the clap command `root`.
pub(crate) fn run(args: Args, mut root: clap::Command) -> Ended<Box<dyn Report>> {
    let Args { folder } = args;
    root.build();
    match std::fs::create_dir_all(&folder).and_then(|()| write(root, &folder)) {
        Ok(()) => Ended::well(Box::new(Written(folder))),
        Err(error) => Failure::new(Code::Failed, format!("cannot write the manual pages to {}", folder.display()))
            .cause(io_reason(&error))
            .advise("check the directory's permissions")
            .into(),
    }
}

/// Writes the page of this command, then of its subcommands.
fn write(command: clap::Command, folder: &Path) -> std::io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help") {
        write(below.clone(), folder)?;
    }
    let examples = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    // Without this, arguments hidden from the short help would have no description.
    let command = command
        .after_help(None::<&'static str>)
        .after_long_help(None::<&'static str>)
        .mut_args(|argument| argument.hide_short_help(false));
    let man = Man::new(command).source(concat!("dbtrigger ", env!("CARGO_PKG_VERSION"))).manual("dbtrigger manual");
    let mut page = Vec::new();
    man.render(&mut page)?;
    if let Some((_, lines)) = examples.split_once("Examples:\n") {
        // No-fill mode keeps the line breaks of commands.
        Roff::new().control("SH", ["EXAMPLES"]).control("nf", []).to_writer(&mut page)?;
        for line in lines.lines() {
            Roff::new().text([roman(line.trim_start())]).to_writer(&mut page)?;
        }
        Roff::new().control("fi", []).to_writer(&mut page)?;
    }
    std::fs::write(folder.join(man.get_filename()), page)
}

struct Written(PathBuf);

impl Report for Written {
    fn text(&self) -> Vec<Line> {
        vec![format!("Wrote the manual pages to {}", self.0.display()).into()]
    }

    fn json(&self) -> Data {
        document!({ "folder": self.0.display().to_string() })
    }
}
