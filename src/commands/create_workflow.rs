//! `create-workflow`.

use super::Stage;
use crate::failure::{Code, Ended, Failure, Report};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(_args: Args, _stage: &Stage) -> Ended<Box<dyn Report>> {
    Failure::new(Code::Bug, "This command is not built yet.").into()
}
