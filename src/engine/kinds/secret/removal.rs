//! Removing the dbt API key. It carries no mark, so it is removed only with `--with-secret`.

use serde::Serialize;

use crate::databricks::is_missing;
use crate::databricks::secrets::{Backend, KeyName, ScopeName, delete, list, scopes};
use crate::databricks::workspace::NotebookPath;
use crate::engine::apply::Inputs;
use crate::engine::kinds::still_there;
use crate::engine::{Action, Applied, Consents, Creation, Kind, Step};
use crate::failure::Failure;
use crate::http::{HttpError, Meaning, Reader, Writer};

pub(crate) enum SecretRemoval {}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct SecretRemovalWant {
    pub(crate) scope: ScopeName,
    pub(crate) key: KeyName,
    /// Whether `--with-secret` was given.
    pub(crate) wanted: bool,
    /// Remaining notebooks that read it.
    pub(crate) needed_by: Vec<NotebookPath>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SecretRemovalHave {
    There {
        backend: Backend,
        /// When it was last written, in milliseconds since 1970, if the service says so.
        updated: Option<i64>,
    },
    /// The scope exists, but the caller may not list its keys.
    Hidden,
}

impl Kind for SecretRemoval {
    type Want = SecretRemovalWant;
    type Have = SecretRemovalHave;

    const KIND: &'static str = "secret";
    const CREATION: Creation = Creation::IsRefused;

    fn name(want: &SecretRemovalWant) -> String {
        format!("{}/{}", want.scope, want.key)
    }

    async fn observe(reader: &Reader, want: &SecretRemovalWant) -> Result<Option<SecretRemovalHave>, HttpError> {
        let (scopes, keys) = tokio::join!(reader.read(scopes()), reader.read(list(&want.scope)));
        let Some(scope) = scopes?.into_iter().find(|scope| want.scope.is(&scope.name)) else { return Ok(None) };
        let keys = match keys {
            Ok(keys) => keys,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) if error.means() == Meaning::RightMissing => return Ok(Some(SecretRemovalHave::Hidden)),
            Err(error) => return Err(error),
        };
        let found = keys.into_iter().find(|secret| secret.key == want.key.as_str());
        let there = |updated| SecretRemovalHave::There { backend: scope.backend, updated };
        Ok(found.map(|secret| there(secret.last_updated_timestamp)))
    }

    fn diff(want: &SecretRemovalWant, have: Option<&SecretRemovalHave>, _consents: &Consents) -> Action {
        match have {
            None => Action::absent(),
            Some(_) if !want.wanted => Action::kept("--with-secret removes it".to_owned()),
            Some(SecretRemovalHave::Hidden) => Action::kept("you may not look into its scope".to_owned()),
            Some(SecretRemovalHave::There { backend: Backend::KeyVault(_) | Backend::Other(_), updated: _ }) => {
                Action::kept("its scope is not kept by Databricks".to_owned())
            }
            Some(SecretRemovalHave::There { backend: Backend::Databricks, updated: _ }) => {
                let needed: Vec<&str> = want.needed_by.iter().map(NotebookPath::as_str).collect();
                if needed.is_empty() {
                    return Action::Remove;
                }
                Action::kept(format!("a notebook that stays reads it: {}", needed.join(", ")))
            }
        }
    }

    fn is_as_planned(step: &Step<SecretRemoval>, now: Option<&SecretRemovalHave>) -> bool {
        now.is_some() && step.have.as_ref() == now
    }

    async fn apply(writer: &Writer, step: &mut Step<SecretRemoval>, _inputs: &Inputs) -> Result<Applied, HttpError> {
        writer.put_once(delete(&step.want.scope, &step.want.key)).await.map(|()| Applied::Written)
    }

    fn differences(_step: &Step<SecretRemoval>, now: Option<&SecretRemovalHave>) -> Vec<String> {
        still_there(now)
    }

    fn explain(want: &SecretRemovalWant, error: &HttpError, failure: Failure) -> Failure {
        match error.code() {
            Some("PERMISSION_DENIED") => failure.advise(format!("this takes WRITE on the secret scope {}", want.scope)),
            Some(_) | None => failure,
        }
    }
}
