//! `man`: the manual pages, for whoever packages the program. Left out of the help.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::failure::{Code, Ended, Failure, Report};

/// Write a manual page for every command
#[derive(Clone, Debug, clap::Args)]
#[command(hide = true)]
pub(crate) struct Args {
    /// The folder, which is made if it is missing
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Writes the pages of the command line `root`.
pub(crate) fn run(args: Args, root: clap::Command) -> Ended<Box<dyn Report>> {
    let Args { folder } = args;
    let written = std::fs::create_dir_all(&folder).and_then(|()| clap_mangen::generate_to(root, &folder));
    match written {
        Ok(()) => Ended::well(Box::new(Written(folder))),
        Err(error) => Failure::new(Code::Failed, format!("The manual pages cannot be written to {}.", folder.display()))
            .cause(error.to_string())
            .advise("check the folder's permissions")
            .into(),
    }
}

struct Written(PathBuf);

impl Report for Written {
    fn text(&self) -> String {
        format!("Wrote the manual pages to {}\n", self.0.display())
    }

    fn json(&self) -> Value {
        json!({ "folder": self.0 })
    }
}
