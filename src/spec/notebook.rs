//! The notebook that runs a dbt job, as it is asked for.

use serde::Serialize;

use super::grants::GrantTo;
use super::setting::Setting;
use crate::databricks::permissions::NotebookLevel;
use crate::databricks::workspace::NotebookPath;
use crate::dbt::Field;
use crate::origin::Origin;

/// A notebook that runs a dbt job.
#[derive(Clone, Debug)]
pub(crate) struct NotebookSpec {
    /// By default the account's, in the caller's home folder.
    pub(crate) path: Option<NotebookPath>,
    pub(crate) settings: NotebookSettings,
    pub(crate) grants: Vec<GrantTo<NotebookLevel>>,
}

/// The settings of a notebook.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NotebookSettings {
    /// The dbt host that receives the key.
    #[serde(skip)]
    pub(crate) host: Origin,
    pub(crate) account_id: u64,
    pub(crate) scope: Setting<String>,
    pub(crate) key: Setting<String>,
    #[serde(skip)]
    pub(crate) allow_override: Setting<Vec<&'static Field>>,
    pub(crate) allow_job: Setting<Vec<u64>>,
}
