//! Next steps of `auth status`.

use crate::context::Environment;
use crate::credentials::{Account, Source, Workspace, profiles_file};
use crate::failure::{Code, Failure, Hint};
use crate::keyring::KeyringError;

use super::Logins;

/// What determines the next steps.
pub(super) struct Next<'a> {
    pub(super) environment: &'a Environment,
    pub(super) logins: &'a Logins,
}

impl Next<'_> {
    /// Why `auth login` would not help.
    pub(super) fn cannot_log_in(&self) -> Option<&KeyringError> {
        match self.logins {
            // `auth login` replaces a damaged list.
            Ok(_) | Err(KeyringError::Corrupt { entry: _, why: _ }) => None,
            Err(trouble) => Some(trouble),
        }
    }

    /// Next steps if values for Databricks are missing; host or credential may be known.
    pub(super) fn without_databricks(&self, at: Option<&Workspace>, has_credential: bool) -> Vec<Hint> {
        let credential = "token (or client_id and client_secret)";
        // A profile named by the user is the whole identity, so a login would not be used.
        if let Some(profile) = self.environment.profile() {
            let lacking = match (at, has_credential) {
                (None, true) => "host".to_owned(),
                (None, false) => format!("host, and {credential}"),
                (Some(_), _) => credential.to_owned(),
            };
            let file = profiles_file(self.environment).map(|file| file.display().to_string()).unwrap_or_default();
            return vec![Hint::Do(format!("add {lacking} to profile {profile} in {file}"))];
        }
        let variables = if at.is_some() { "DATABRICKS_TOKEN" } else { "DATABRICKS_HOST and DATABRICKS_TOKEN" };
        self.sign_in(&login_to_databricks(at), variables)
    }

    /// Next steps if values for dbt are missing; the account may be known.
    pub(super) fn without_dbt(&self, account: Option<&Account>) -> Vec<Hint> {
        let variables = match account {
            Some(_) => "DBT_CLOUD_TOKEN",
            None => "DBT_CLOUD_HOST, DBT_CLOUD_ACCOUNT_ID and DBT_CLOUD_TOKEN",
        };
        self.sign_in(&login_to_dbt(account), variables)
    }

    fn sign_in(&self, login: &str, variables: &str) -> Vec<Hint> {
        match self.cannot_log_in() {
            None => vec![Hint::run(label(login), login), Hint::Do(format!("set {variables}"))],
            Some(trouble) => {
                let set = Hint::Do(format!("set {variables}"));
                [set].into_iter().chain(trouble.remedy().map(Hint::Do)).collect()
            }
        }
    }

    /// Puts the next steps first if the service rejects the token from this source.
    pub(super) fn after_a_refusal(&self, failure: Failure, source: &Source, login: &str) -> Failure {
        if !matches!(failure.code, Code::NotAuthenticated | Code::NotAllowed) {
            return failure;
        }
        let hints = match (source, self.cannot_log_in()) {
            // The variable takes precedence over the keyring.
            (Source::Variable(name), None) => {
                vec![Hint::Do(format!(
                    "set {name} to a valid token, or unset it and run `{login}`: it takes precedence over the keyring"
                ))]
            }
            (Source::Variable(name), Some(_)) => vec![Hint::Do(format!("set {name} to a valid token"))],
            (Source::Keyring(_), _) | (Source::DbtFile { .. }, None) => vec![Hint::run(label(login), login)],
            (Source::DbtFile { .. } | Source::Profile { .. }, _) => vec![Hint::Do(format!("correct {source}"))],
            (Source::Flag(_) | Source::Pasted(_) | Source::Typed | Source::Stdin | Source::File(_), _) => Vec::new(),
        };
        Failure { hints: [hints, failure.hints].concat(), ..failure }
    }
}

/// Replaces the next steps if the failure is only about missing values.
pub(super) fn instead(failure: Failure, hints: impl FnOnce() -> Vec<Hint>) -> Failure {
    if failure.code == Code::MissingInput { Failure { hints: hints(), ..failure } } else { failure }
}

/// The label of this command.
fn label(login: &str) -> &'static str {
    if login.contains("--databricks") { "sign in to Databricks" } else { "sign in to dbt" }
}

/// The command that signs in to this workspace.
pub(super) fn login_to_databricks(at: Option<&Workspace>) -> String {
    let login = "dbtrigger auth login --databricks";
    match at {
        Some(Workspace { host, id: Some(id) }) => {
            let number = id.value.bytes().all(|byte| byte.is_ascii_digit());
            format!("{login} '{}/?{}={}'", host.value, if number { "o" } else { "w" }, id.value)
        }
        Some(Workspace { host, id: None }) => format!("{login} {}", host.value),
        None => login.to_owned(),
    }
}

/// The command that signs in to this account.
pub(super) fn login_to_dbt(account: Option<&Account>) -> String {
    let login = "dbtrigger auth login";
    match account {
        Some(account) => {
            let host = account.origin.to_string();
            let host = host.strip_prefix("https://").unwrap_or(&host);
            format!("{login} --dbt-host {host} --dbt-account {}", account.id)
        }
        None => login.to_owned(),
    }
}
