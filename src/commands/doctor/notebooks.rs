//! Checks of the notebook and of the key that it reads.

use std::collections::BTreeSet;

use super::context::{CheckContext, PART};
use super::report::Check;
use crate::commands::create_workflow::prerequisites::{self, Prerequisites, UsualKeys, read_prerequisites};
use crate::commands::shared::default_path::default_path;
use crate::databricks::secrets::{KeyName, ScopeName};
use crate::databricks::workspace::NotebookPath;
use crate::engine::kinds::{Notebook, NotebookHave, NotebookWant, Secret, SecretWant, VERSION};
use crate::engine::{Action, Change, Consent, Consents, Kind as _};
use crate::failure::{Code, Failure, of_databricks};
use crate::notebook::{Found, OverrideKey, Reading, State, read};
use crate::origin::Origin;
use crate::spec::{DEFAULT_KEY, DEFAULT_SCOPE, NotebookSettings, Setting};
use crate::text::quoted;

/// How a notebook is used.
pub(super) struct NotebookUse {
    pub(super) jobs: BTreeSet<u64>,
    pub(super) never_runs_as_caller: bool,
}

/// The checks of a notebook and its key.
pub(super) struct NotebookCheck {
    pub(super) checks: Vec<Check>,
    /// The error is the check that failed.
    pub(super) prerequisites: Result<Prerequisites, String>,
    pub(super) key: Result<(), String>,
    /// The account of its jobs, in words, if not the one in use.
    pub(super) other_account: Option<String>,
}

impl NotebookCheck {
    /// The account whose jobs the notebook starts.
    pub(super) fn account(&self) -> Option<u64> {
        match read(&self.prerequisites.as_ref().ok()?.text) {
            Reading::Ours { version: _, state: _, settings } => settings?.account_id.parse().ok(),
            Reading::NotOurs => None,
        }
    }

    /// The checks of a notebook that cannot be used.
    fn broken(id: &str, failure: Failure) -> NotebookCheck {
        let notebook = Check::failed(PART, id, failure);
        let of = notebook.as_reason();
        let key = Check::skipped(PART, &id.replacen("notebook", "key", 1), &of);
        NotebookCheck { checks: vec![notebook, key], prerequisites: Err(of.clone()), key: Err(of), other_account: None }
    }
}

/// Checks the notebook at this path, or the default one, and the key that it reads.
pub(super) async fn check_notebook(
    chain: &CheckContext<'_>,
    path: Option<&str>,
    notebook_use: &NotebookUse,
) -> NotebookCheck {
    let CheckContext { reader, me, dbt } = chain;
    let id = path.map_or("notebook".to_owned(), |path| format!("notebook:{path}"));
    let usual = dbt.account.and_then(|account| default_path(me, account).ok());
    let named = match path.map(str::parse::<NotebookPath>).transpose() {
        Ok(named) => named,
        Err(bad) => {
            let what = format!("cannot read notebook \"{}\" of a workflow: {bad}", path.unwrap_or_default());
            let failure = Failure::new(Code::Refused, what);
            return NotebookCheck::broken(
                &id,
                failure.advise("point the workflow at a notebook deployed with `dbtrigger deploy-notebook`"),
            );
        }
    };
    let Some(place) = named.or_else(|| usual.clone()) else {
        let of = "dbt.credentials failed, and the notebook needs an account";
        let checks = ["notebook", "key"].map(|id| Check::skipped(PART, id, of));
        return NotebookCheck {
            checks: checks.into(),
            prerequisites: Err(of.to_owned()),
            key: Err(of.to_owned()),
            other_account: None,
        };
    };
    let is_usual = usual.as_ref() == Some(&place);
    let asked = prerequisites::NotebookRequirements {
        notebook: (!is_usual).then_some(&place),
        account: dbt.account.filter(|_| is_usual),
        jobs: notebook_use.jobs.iter().copied().collect(),
        host: None,
    };
    let found = read_prerequisites(reader, &asked, place.clone()).await.flatten();
    let prerequisites = match found.and_then(|found| found.check_jobs(&asked).map(|()| found)) {
        Ok(prerequisites) => prerequisites,
        Err(failure) => {
            let absent = failure.code == Code::NotFound && path.is_none();
            let failure = if failure.code == Code::NotFound && !absent {
                failure.advise(format!(
                    "the secret it read is unknown: add --scope and --key if it was not {DEFAULT_SCOPE}/{DEFAULT_KEY}"
                ))
            } else {
                failure
            };
            let mut broken = NotebookCheck::broken(&id, failure);
            if absent {
                // The key that the first notebook would read.
                let (scope, key) = (DEFAULT_SCOPE.to_owned(), DEFAULT_KEY.to_owned());
                let first = Prerequisites::first(place, scope, key);
                let (check, _) = key_check(chain, &first, notebook_use).await;
                broken.checks.pop();
                broken.checks.push(check);
            }
            return broken;
        }
    };
    let (check, other_account) = notebook_state_check(chain, &id, &prerequisites, is_usual);
    let (key_check, key) = key_check(chain, &prerequisites, notebook_use).await;
    let prerequisites = if check.has_failed() { Err(check.as_reason()) } else { Ok(prerequisites) };
    NotebookCheck { checks: vec![check, key_check], prerequisites, key, other_account }
}

/// Checks that the notebook is unchanged and of this version. Returns its account if not the one in use.
fn notebook_state_check(
    chain: &CheckContext<'_>,
    id: &str,
    prerequisites: &Prerequisites,
    is_usual: bool,
) -> (Check, Option<String>) {
    let path = &prerequisites.path;
    let Reading::Ours { version, state, settings: Some(found) } = read(&prerequisites.text) else {
        let failure = Failure::new(Code::Bug, format!("the settings of notebook {path} can no longer be read"));
        return (Check::failed(PART, id, failure), None);
    };
    let at = if is_usual { String::new() } else { prerequisites::at(path) };
    let other_account = other_account(chain, &found);
    // The command names the notebook's own account, so that it is kept.
    let of = if other_account.is_some() {
        format!(" --dbt-host {} --dbt-account {}", found.host, found.account_id)
    } else {
        String::new()
    };
    let deploy = format!("dbtrigger deploy-notebook{at}{of}");
    let Some(want) = as_it_says(path, &found) else {
        let failure = Failure::new(
            Code::Refused,
            format!("notebook {path} has an invalid host or account: {}, {}", found.host, found.account_id),
        );
        return (Check::failed(PART, id, failure.run("replace the notebook", format!("{deploy} --force"))), None);
    };
    let have = NotebookHave::Notebook { object_id: None, text: prerequisites.text.clone() };
    let consents = Consents::default().with(Consent::AcceptSharedPath, true);
    let mut check = match Notebook::diff(&want, Some(&have), &consents) {
        Action::Keep(_) | Action::Create | Action::Remove => {
            Check::ok(PART, id, format!("notebook {path} is up to date (dbtrigger {VERSION})"))
        }
        Action::Update(changes) => {
            let check = Check::warning(PART, id, format!("notebook {path} is outdated"));
            changes.iter().map(describe_change).fold(check, Check::because).run("update the notebook", &deploy)
        }
        Action::Blocked { why, unless: _ } if state == State::EditedByHand => {
            let failure = Failure::new(Code::Refused, why.what).cause("runs use the edited version");
            let failure = why.diff.iter().fold(failure, |failure, diff| failure.cause(first_lines(diff)));
            let mend = format!("{deploy}{} --force", as_flags(&found));
            Check::failed(
                PART,
                id,
                failure.run("see what would be lost", format!("{mend} --dry-run")).run("discard the edits", mend),
            )
        }
        Action::Blocked { why, unless: _ } => {
            let what = format!("notebook {path} was written by dbtrigger {version}; this is {VERSION}");
            Check::warning(PART, id, what).because(why.what).advise("update dbtrigger")
        }
    };
    if path.is_shared() {
        check = check.warn("it is under /Shared, where every user of the workspace can edit it and so use the key");
    }
    if let Some(other_account) = &other_account {
        check = check
            .warn(format!("it starts jobs in {other_account}, not in the account in use"))
            .advise(format!("to check its jobs too, add{of}"));
    }
    (check, other_account)
}

/// Maximum number of diff lines shown.
const FIRST_LINES: usize = 12;

fn first_lines(diff: &str) -> String {
    let more = diff.lines().count().saturating_sub(FIRST_LINES);
    let mut lines: Vec<&str> = diff.lines().take(FIRST_LINES).collect();
    let rest = format!("({more} more lines)");
    if more > 0 {
        lines.push(&rest);
    }
    lines.join("\n")
}

/// The settings of a manually edited notebook, as flags for deploying it again.
fn as_flags(found: &Found) -> String {
    let Found { host: _, account_id: _, scope, key, allow_override, allow_job } = found;
    let mut flags = String::new();
    if (scope.as_str(), key.as_str()) != (DEFAULT_SCOPE, DEFAULT_KEY) {
        flags = format!(" --scope {} --key {}", quoted(scope), quoted(key));
    }
    let known = allow_override.iter().filter_map(|name| OverrideKey::named(name));
    flags.extend(known.map(|name| format!(" --allow-override {}", name.name())));
    flags.extend(allow_job.iter().map(|job| format!(" --allow-job {job}")));
    flags
}

/// The account of the notebook, if not the one in use.
fn other_account(chain: &CheckContext<'_>, found: &Found) -> Option<String> {
    let account = chain.dbt.account.is_some_and(|account| account.to_string() != found.account_id);
    let host = chain.dbt.line.as_ref().is_ok_and(|(account, _)| account.origin.to_string() != found.host);
    (account || host).then(|| format!("the account {} at {}", found.account_id, found.host))
}

/// The notebook with the same settings, as this version would deploy it.
fn as_it_says(path: &NotebookPath, found: &Found) -> Option<NotebookWant> {
    let Found { host, account_id, scope, key, allow_override, allow_job } = found;
    let settings = NotebookSettings {
        host: Origin::parse(host).ok()?,
        account_id: account_id.parse().ok()?,
        scope: Setting::Set(scope.clone()),
        key: Setting::Set(key.clone()),
        allow_override: Setting::Set(allow_override.iter().filter_map(|name| OverrideKey::named(name)).collect()),
        allow_job: Setting::Set(allow_job.clone()),
    };
    Some(NotebookWant { path: path.clone(), settings })
}

/// Such as `version: 0.1.0 -> 0.2.0 (this dbtrigger writes a newer one)`.
pub(super) fn describe_change(change: &Change) -> String {
    let Change { field, from, to, reason } = change;
    match (from, to) {
        (None, None) => format!("{field}: {reason}"),
        (from, to) => {
            let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
            format!("{field}: {} -> {} ({reason})", shown(from), shown(to))
        }
    }
}

/// Checks that the key exists and is not readable by all users. Its value is never read.
async fn key_check(
    chain: &CheckContext<'_>,
    prerequisites: &Prerequisites,
    notebook_use: &NotebookUse,
) -> (Check, Result<(), String>) {
    let CheckContext { reader, me, dbt: _ } = chain;
    let name = format!("{}/{}", prerequisites.scope, prerequisites.key);
    let id = format!("key:{name}");
    if let Err(failure) = prerequisites.check_key(UsualKeys::unknown(), reader, me).await.flatten() {
        // Only the run-as identity needs to read the key.
        if failure.code == Code::NotAllowed && notebook_use.never_runs_as_caller {
            let what = format!("{} cannot see whether key {name} exists", me.user_name);
            return (Check::warning(PART, &id, what).because(failure.what), Ok(()));
        }
        let check = Check::failed(PART, &id, failure);
        let of = check.as_reason();
        return (check, Err(of));
    }
    let check = Check::ok(PART, &id, format!("secret {name} exists"));
    let (Ok(scope), Ok(key)) = (prerequisites.scope.parse::<ScopeName>(), prerequisites.key.parse::<KeyName>()) else {
        return (check, Ok(()));
    };
    let want = SecretWant { scope, key, compare: None, intended_readers: Vec::new() };
    let check = match Secret::observe(reader, &want).await {
        Ok(Some(have)) => match have.readers.everybody() {
            Some(level) => {
                let check = check.warn(format!(
                    "every user of this workspace can read secret scope {} (users: {level})",
                    want.scope
                ));
                if have.readers.can_be_closed() {
                    check.advise("remove the group `users` from the scope, or keep the key in another scope")
                } else {
                    check.advise("keep the key in another scope, or in a workspace with the Premium plan, which can restrict scopes")
                }
            }
            None => check,
        },
        Ok(None) => check,
        Err(error) => {
            let failure = of_databricks(&format!("the readers of secret scope {} are unknown", want.scope), &error);
            failure.causes.into_iter().fold(check.warn(failure.what), Check::because)
        }
    };
    (check, Ok(()))
}
