//! What earlier commands saw in a workspace, so that the next one can ask for it in its first requests (decision 31).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::commands::CommandContext;
use crate::commands::shared::cache::CacheFile;
use crate::commands::shared::default_path::default_path;
use crate::databricks::me::Me;
use crate::databricks::workspace::NotebookPath;
use crate::engine::kinds::Identity;
use crate::engine::{Plan, Step};

/// Guesses about a workspace. Whatever is read because of one is used only if the workspace itself says the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkspaceCache {
    /// The caller's name, which the default path of the notebook contains.
    user_name: Option<String>,
    /// IDs of our jobs, by identity.
    jobs: BTreeMap<String, u64>,
}

fn file(origin: &str, ctx: &CommandContext) -> CacheFile {
    CacheFile::new("workspace", origin, &ctx.context.environment)
}

impl WorkspaceCache {
    pub(crate) fn load(origin: &str, ctx: &CommandContext) -> WorkspaceCache {
        file(origin, ctx).load().unwrap_or_default()
    }

    /// The default path of the notebook, if the caller is the same as before.
    pub(crate) fn notebook(&self, account: u64) -> Option<NotebookPath> {
        let user_name = self.user_name.clone()?;
        default_path(&Me { user_name, workspace_id: None }, account).ok()
    }

    /// The ID of the workflow.
    pub(crate) fn job(&self, identity: &Identity) -> Option<u64> {
        self.jobs.get(identity.as_str()).copied()
    }

    /// Notes the caller, and the workflow if the plan has one.
    pub(crate) fn note(origin: &str, me: &Me, plan: &Plan, ctx: &CommandContext) {
        let before = WorkspaceCache::load(origin, ctx);
        let mut after = WorkspaceCache { user_name: Some(me.user_name.clone()), ..before.clone() };
        let workflow = plan.workflow();
        if let Some((step, have)) = workflow.and_then(|step| Some((step, Step::present(step)?))) {
            after.jobs.insert(step.want.identity.as_str().to_owned(), have.job.id);
        }
        if after != before {
            file(origin, ctx).store(&after);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::commands::tests::harness::{ACCOUNT, Harness, number};
    use crate::commands::{create_workflow, deploy_notebook, init_secrets};

    #[tokio::test(start_paused = true)]
    #[expect(clippy::print_stdout, reason = "the figure")]
    async fn a_wrong_guess_changes_no_outcome() {
        // The user, and whether the ID is that of another workflow or of none.
        let cases = [(None, None), (Some("bo@example.com"), None), (Some("../x"), Some(false)), (None, Some(true))];
        let mut ends = Vec::new();
        for (user_name, has_job) in cases {
            let world = Harness::new();
            let cache = tempfile::tempdir().unwrap();
            world.set("XDG_CACHE_HOME", cache.path().to_str().unwrap());
            let mislead = |job: u64| {
                let jobs = has_job.map(|exists| {
                    let identity = Identity::of_job(ACCOUNT, 222_222);
                    (identity.as_str().to_owned(), if exists { job } else { 1 })
                });
                let wrong =
                    WorkspaceCache { user_name: user_name.map(str::to_owned), jobs: jobs.into_iter().collect() };
                for file in std::fs::read_dir(cache.path().join("dbtrigger")).unwrap() {
                    std::fs::write(file.unwrap().path(), serde_json::to_vec(&wrong).unwrap()).unwrap();
                }
            };
            let mut end = Vec::new();
            let stored = world.run(init_secrets::run, &[]).await.unwrap();
            mislead(1);
            let deployed = world.run(deploy_notebook::run, &[]).await.unwrap();
            let other = world.run(create_workflow::run, &["--job", "222225"]).await.unwrap();
            for outcome in [&stored, &deployed, &other] {
                assert_eq!(outcome.exit, 0, "{outcome:?}");
            }
            for _ in 0..2 {
                mislead(number(&other.data["job_id"]));
                let deployed = world.run(deploy_notebook::run, &[]).await.unwrap();
                mislead(number(&other.data["job_id"]));
                let created = world.run(create_workflow::run, &["--job", "222222"]).await.unwrap();
                assert_eq!((deployed.exit, created.exit), (0, 0), "{deployed:?} {created:?}");
                end.push(
                    [&deployed.data["object_id"], &created.data["job_id"], &created.data["result"]].map(Value::clone),
                );
            }
            ends.push((world.take_writes(), end));
        }
        assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
        println!("wrong guesses without effect: {} of {}", ends.len(), cases.len());
    }
}
