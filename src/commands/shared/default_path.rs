//! Where the notebook is unless a flag says otherwise.

use crate::databricks::me::Me;
use crate::databricks::workspace::NotebookPath;
use crate::failure::{Code, Failure};

/// The default path of the notebook.
pub(crate) fn default_path(me: &Me, account: u64) -> Result<NotebookPath, Failure> {
    let text = format!("{}/dbtrigger/run_dbt_job_{account}", me.home());
    text.parse().map_err(|bad| {
        Failure::new(Code::InvalidInput, format!("your home folder {text} is not a valid notebook path: {bad}"))
            .advise("choose a path with --notebook")
    })
}
