//! `version`: the build of the program.

use crate::document::{Data, document};
use crate::failure::{Ended, Report};
use crate::line::Line;

/// Version of the package.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Commit of the build; `unknown` without Git history.
const COMMIT: &str = env!("DBTRIGGER_COMMIT");
/// Target triple of the build.
const TARGET: &str = env!("DBTRIGGER_TARGET");

/// Output of `--version` after the name.
pub(crate) const LINE: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("DBTRIGGER_COMMIT"), ", ", env!("DBTRIGGER_TARGET"), ")");

/// Show version, commit, and target
///
/// Same as `dbtrigger --version`. Works offline; update dbtrigger the way you installed it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  dbtrigger version
  dbtrigger version -o json")]
pub(crate) struct Args {}

pub(crate) fn run(args: &Args) -> Ended<Box<dyn Report>> {
    let Args {} = args;
    Ended::well(Box::new(Version))
}

struct Version;

impl Report for Version {
    fn text(&self) -> Vec<Line> {
        vec![format!("dbtrigger {LINE}").into()]
    }

    fn json(&self) -> Data {
        document!({ "version": VERSION, "commit": Some(COMMIT).filter(|commit| *commit != "unknown"), "target": TARGET })
    }
}
