//! What a workflow needs: the deployed notebook and the key that it reads.

use std::collections::BTreeSet;

use crate::commands::shared::default_path::default_path;
use crate::databricks::is_missing;
use crate::databricks::me::Me;
use crate::databricks::secrets::{KeyName, ScopeName, SecretInfo, list, scopes};
use crate::databricks::workspace::{NotebookPath, export};
use crate::engine::kinds::Notebook;
use crate::engine::{Action, Entry, Planned, Step};
use crate::failure::{Code, Failure, of_databricks};
use crate::http::{HttpError, Reader};
use crate::nearest::nearest_names;
use crate::notebook::{Found, Reading, Settings, State, read};
use crate::origin::Origin;
use crate::spec::DEFAULT_SCOPE;
use crate::text::quoted;

/// What the workflow needs from its notebook.
pub(crate) struct NotebookRequirements<'a> {
    /// The notebook, if given; otherwise the default one of this identity and account.
    pub(crate) notebook: Option<&'a NotebookPath>,
    /// The dbt account of the jobs.
    pub(crate) account: Option<u64>,
    /// The dbt jobs that it starts.
    pub(crate) jobs: Vec<u64>,
    /// The dbt host where the jobs were looked up.
    pub(crate) host: Option<&'a Origin>,
}

/// The inner failure is a refusal: the look-up succeeded, and what it found does not fit.
pub(crate) type Checked<T> = Result<Result<T, Failure>, Failure>;

/// What the look-ups of a workflow found besides the objects to write.
#[derive(Clone, Default)]
pub(crate) struct Findings {
    pub(crate) warnings: Vec<String>,
    pub(crate) refusals: Vec<Entry>,
}

impl Findings {
    /// The value, or `None` once its refusal is noted.
    pub(crate) fn need<T>(&mut self, kind: &'static str, name: &str, checked: Result<T, Failure>) -> Option<T> {
        checked.map_err(|refusal| self.refusals.push(Entry::refused(kind, name, refusal))).ok()
    }

    /// The steps for the access of others. For a refused object, a failed lookup is only a warning.
    pub(super) fn unless_blocked(
        &mut self,
        action: &Action,
        steps: Result<Vec<Planned>, Failure>,
    ) -> Result<Vec<Planned>, Failure> {
        match (action, steps) {
            (Action::Blocked { .. }, Err(failure)) => {
                self.warnings.push(failure.what);
                Ok(Vec::new())
            }
            (Action::Blocked { .. } | Action::Keep(_) | Action::Create | Action::Update(_) | Action::Remove, steps) => {
                steps
            }
        }
    }
}

/// A notebook of the jobs' account, and the location of its key.
pub(crate) struct Prerequisites {
    pub(crate) path: NotebookPath,
    /// Exported source.
    pub(crate) text: String,
    pub(crate) scope: String,
    pub(crate) key: String,
    /// Overrides that a caller may send.
    allow_override: Vec<String>,
    /// The dbt jobs that it may start; empty: any.
    allow_job: Vec<u64>,
    /// Problems that do not block the workflow.
    pub(crate) warnings: Vec<String>,
    /// Whether notebook and key exist; otherwise the same plan creates them.
    pub(super) is_there: bool,
}

impl NotebookRequirements<'_> {
    /// The notebook's path.
    pub(crate) fn path(&self, me: &Me) -> Result<NotebookPath, Failure> {
        match (self.notebook, self.account) {
            (Some(path), _) => Ok(path.clone()),
            (None, Some(account)) => default_path(me, account),
            (None, None) => Err(Failure::new(Code::Bug, "no notebook and no account")),
        }
    }
}

/// Reads the notebook as the caller; if runs act as the caller, this proves that they can read it.
pub(crate) async fn read_prerequisites(
    reader: &Reader,
    requirements: &NotebookRequirements<'_>,
    path: NotebookPath,
) -> Checked<Prerequisites> {
    match reader.read(export(&path)).await {
        Ok(text) => Ok(fit(requirements, path, text)),
        Err(error) if is_missing(&error) => {
            Ok(Err(Failure::new(Code::NotFound, format!("no notebook at {path}, or you cannot see it"))
                .cause(error.to_string())
                .run("deploy the notebook", deploy(requirements, &path, ""))))
        }
        Err(error) => Err(of_databricks(&format!("cannot read the notebook {path}"), &error)),
    }
}

/// The prerequisites, if this notebook is for the jobs' account.
fn fit(requirements: &NotebookRequirements<'_>, path: NotebookPath, text: String) -> Result<Prerequisites, Failure> {
    let (state, found) = match read(&text) {
        Reading::NotOurs => {
            return Err(Failure::new(
                Code::Refused,
                format!("notebook {path} was not created by dbtrigger, so its dbt account and key are unknown"),
            )
            .run("replace the notebook", deploy(requirements, &path, " --adopt"))
            .advise("name the deployed notebook with --notebook"));
        }
        Reading::Ours { version: _, state: _, settings: None } => {
            return Err(Failure::new(
                Code::Refused,
                format!("cannot read the settings of notebook {path}: it was edited by hand"),
            )
            .run("replace the notebook", deploy(requirements, &path, " --force")));
        }
        Reading::Ours { version: _, state, settings: Some(found) } => (state, found),
    };
    let Found { host, account_id, scope, key, allow_override, allow_job } = found;
    check_account(requirements, &path, &account_id)?;
    let mut warnings = Vec::new();
    if state == State::EditedByHand {
        warnings.push(format!("notebook {path} was edited by hand; runs use the edited version"));
    }
    if let Some(other) = requirements.host.filter(|origin| origin.to_string() != host) {
        warnings.push(format!("notebook {path} starts jobs at {host}, but the job was looked up at {other}"));
    }
    Ok(Prerequisites { path, text, scope, key, allow_override, allow_job, warnings, is_there: true })
}

/// The prerequisites after the same plan has deployed the notebook.
pub(in crate::commands) fn planned(
    requirements: &NotebookRequirements<'_>,
    step: &Step<Notebook>,
) -> Result<Prerequisites, Failure> {
    let Settings { host: _, account_id, scope, key, allow_override, allow_job } =
        step.want.settings.after(step.have.as_ref());
    check_account(requirements, &step.want.path, &account_id.to_string())?;
    Ok(Prerequisites {
        path: step.want.path.clone(),
        text: String::new(),
        scope,
        key,
        allow_override: allow_override.iter().map(|key| key.name().to_owned()).collect(),
        allow_job,
        warnings: Vec::new(),
        is_there: false,
    })
}

/// Checks that the notebook is for the account of the jobs.
fn check_account(requirements: &NotebookRequirements<'_>, path: &NotebookPath, found: &str) -> Result<(), Failure> {
    let Some(account) = requirements.account.filter(|account| account.to_string() != found) else { return Ok(()) };
    Err(Failure::new(
        Code::Refused,
        format!(
            "notebook {path} is for dbt account {found}, but dbt job {} belongs to account {account}",
            listed(&requirements.jobs)
        ),
    )
    .advise("name that account's notebook with --notebook, or drop --notebook")
    .run("deploy a notebook for this account", format!("dbtrigger deploy-notebook --dbt-account {account}")))
}

fn listed(jobs: &[u64]) -> String {
    jobs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Scopes with similar names. Only for advice, so errors are ignored.
async fn near(reader: &Reader, scope: &ScopeName) -> Vec<String> {
    let known = reader.read_once(scopes()).await.unwrap_or_default();
    nearest_names(scope.as_str(), known.iter().map(|scope| scope.name.as_str()))
}

/// Keys of the default scope, listed before the notebook's own scope is known.
pub(crate) struct UsualKeys(Option<Result<Vec<SecretInfo>, HttpError>>);

impl UsualKeys {
    /// Not listed, since the scope is already known.
    pub(crate) fn unknown() -> UsualKeys {
        UsualKeys(None)
    }

    pub(crate) async fn list(reader: &Reader) -> UsualKeys {
        let Ok(scope) = DEFAULT_SCOPE.parse::<ScopeName>() else { return UsualKeys(None) };
        let listed = reader.read_once(list(&scope)).await;
        // A temporary error is dropped; the list is then requested again.
        let known = match &listed {
            Ok(_) => true,
            Err(error) => error.is_final(),
        };
        UsualKeys(Some(listed).filter(|_| known))
    }

    /// The keys of this scope.
    async fn of(self, reader: &Reader, scope: &ScopeName) -> Result<Vec<SecretInfo>, HttpError> {
        match self {
            UsualKeys(Some(listed)) if scope.as_str() == DEFAULT_SCOPE => listed,
            UsualKeys(_) => reader.read(list(scope)).await,
        }
    }
}

/// The command that deploys the notebook.
fn deploy(requirements: &NotebookRequirements<'_>, path: &NotebookPath, flags: &str) -> String {
    let at = if requirements.notebook.is_some() { at(path) } else { String::new() };
    format!("dbtrigger deploy-notebook{at}{flags}")
}

/// The flags of `deploy-notebook` for a notebook at this path; a shared path requires a consent.
pub(in crate::commands) fn at(path: &NotebookPath) -> String {
    let shared = if path.is_shared() { " --accept-shared-path" } else { "" };
    format!(" --notebook {}{shared}", quoted(path.as_str()))
}

impl Prerequisites {
    /// The prerequisites for a notebook that does not exist yet and would read this key.
    pub(crate) fn first(path: NotebookPath, scope: String, key: String) -> Prerequisites {
        Prerequisites {
            path,
            text: String::new(),
            scope,
            key,
            allow_override: Vec::new(),
            allow_job: Vec::new(),
            warnings: Vec::new(),
            is_there: true,
        }
    }

    /// Checks that the notebook may start the jobs.
    pub(crate) fn check_jobs(&self, requirements: &NotebookRequirements<'_>) -> Result<(), Failure> {
        let (path, allowed) = (&self.path, &self.allow_job);
        let refused: Vec<u64> = requirements.jobs.iter().copied().filter(|job| !allowed.contains(job)).collect();
        if allowed.is_empty() || refused.is_empty() {
            return Ok(());
        }
        let flags: Vec<String> = allowed.iter().chain(&refused).map(|job| format!(" --allow-job {job}")).collect();
        Err(Failure::new(
            Code::Refused,
            format!("notebook {path} may start only these dbt jobs: {}; not {}", listed(allowed), listed(&refused)),
        )
        .run("allow it in the notebook", deploy(requirements, path, &flags.concat())))
    }

    /// Checks that the notebook allows all overrides of the workflow, including existing ones; otherwise every run
    /// would fail.
    pub(crate) fn check_overrides(
        &self,
        requirements: &NotebookRequirements<'_>,
        names: &BTreeSet<String>,
    ) -> Result<(), Failure> {
        let (path, allowed) = (&self.path, &self.allow_override);
        let refused: Vec<&str> = names.iter().filter(|name| !allowed.contains(name)).map(String::as_str).collect();
        if refused.is_empty() {
            return Ok(());
        }
        let all: BTreeSet<&String> = allowed.iter().chain(names).collect();
        let flags: Vec<String> = all.into_iter().map(|name| format!(" --allow-override {name}")).collect();
        let allowed = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
        Err(Failure::new(
            Code::Refused,
            format!("notebook {path} does not allow override {}; allowed: {allowed}", refused.join(", ")),
        )
        .run("allow it in the notebook", deploy(requirements, path, &flags.concat()))
        .advise("clear the workflow's overrides with --override none"))
    }

    /// Scope and key as valid names.
    pub(in crate::commands) fn secret(&self) -> Result<(ScopeName, KeyName), Failure> {
        let Prerequisites { path, scope, key, .. } = self;
        match (scope.parse(), key.parse()) {
            (Ok(scope), Ok(key)) => Ok((scope, key)),
            (Err(_), _) | (_, Err(_)) => Err(Failure::new(
                Code::Refused,
                format!("notebook {path} reads key \"{key}\" in secret scope \"{scope}\"; these names are not valid"),
            )
            .run(
                "replace the notebook",
                format!("dbtrigger deploy-notebook{} --force --scope dbt-cloud --key api-key", at(path)),
            )),
        }
    }

    /// Checks that the key exists and that the caller can read it: listing requires the same permission as reading.
    pub(crate) async fn check_key(&self, usual: UsualKeys, reader: &Reader, me: &Me) -> Checked<()> {
        let Prerequisites { path, scope, key, is_there, .. } = self;
        let command = format!("dbtrigger init-secrets --scope {} --key {}", quoted(scope), quoted(key));
        let scope = match self.secret() {
            Ok((scope, _)) if *is_there => scope,
            named => return Ok(named.map(|_| ())),
        };
        match usual.of(reader, &scope).await {
            Ok(keys) if keys.iter().any(|found| found.key == *key) => Ok(Ok(())),
            Ok(keys) => Ok(Err(Failure::new(
                Code::NotFound,
                format!("secret scope {scope} has no key {key}, which notebook {path} reads"),
            )
            .run("store the key", command)
            .meant(&nearest_names(key.as_str(), keys.iter().map(|found| found.key.as_str()))))),
            Err(error) if is_missing(&error) => Ok(Err(Failure::new(
                Code::NotFound,
                format!("no secret scope {scope}, from which notebook {path} reads its key"),
            )
            .cause(error.to_string())
            .run("store the key", command)
            .meant(&near(reader, &scope).await))),
            Err(error) => {
                let failure =
                    of_databricks(&format!("cannot read the secret scope {scope} as {}", me.user_name), &error);
                Err(if failure.code == Code::NotAllowed {
                    failure.advise(format!(
                        "a manager of the scope can grant access: `dbtrigger init-secrets --scope {scope} --grant {}`",
                        quoted(&format!("{}:READ", me.user_name))
                    ))
                } else {
                    failure
                })
            }
        }
    }
}
