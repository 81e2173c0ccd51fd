//! The Databricks identity: a workspace and an auth method.

mod auth_methods;
pub(super) mod host;
pub(super) mod workspace;

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use url::Url;

use self::auth_methods::find_auth_method;
use self::host::{check_credential_for_host, find_host};
use self::workspace::Workspace;
use super::config_file::{self, Profile};
use super::stored_login::{self, NoLogin};
use super::{InputErrors, MissingInput, SignIn, Source, Sourced, expanded};
use crate::context::Environment;
use crate::failure::Failure;
use crate::keyring::KeyringError;
use crate::origin::Origin;
use crate::questions::Question;
use crate::secret::{Secret, UncheckedSecret, Vault};

/// A workspace and the credential for it.
#[derive(Clone, Debug)]
pub(crate) struct Databricks {
    pub(crate) origin: Origin,
    /// The source of the host.
    pub(crate) host_from: Source,
    /// The workspace ID, if the host serves several.
    pub(crate) workspace: Option<Sourced<String>>,
    pub(crate) auth_method: AuthMethod,
    /// The auth methods before this one, and why each does not apply.
    pub(crate) tried: Vec<Tried>,
    /// A remark for the user.
    pub(crate) remark: Option<String>,
}

/// A source or auth method that was tried, and why it does not apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tried {
    pub(crate) name: &'static str,
    pub(crate) why: String,
}

impl Tried {
    pub(super) fn new(name: &'static str, why: impl Into<String>) -> Tried {
        Tried { name, why: why.into() }
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tried { name, why } = self;
        write!(formatter, "tried {name}: {why}")
    }
}

/// The supported auth methods, with their values.
#[derive(Clone, Debug)]
pub(crate) enum AuthMethod {
    Token(Sourced<Secret>),
    ServicePrincipal { id: Sourced<String>, secret: Sourced<Secret> },
    GitHub { id: Option<Sourced<String>>, url: Url, token: Sourced<Secret>, audience: Option<String> },
    Cli { program: PathBuf, profile: Option<CliProfile> },
}

/// The CLI profile to get the token for.
#[derive(Clone, Debug)]
pub(crate) struct CliProfile {
    pub(crate) name: String,
    /// Whether it is in the user's own file, where `databricks auth login` stored host and login together.
    pub(crate) is_own: bool,
}

impl Databricks {
    /// A workspace with a token given for it.
    pub(crate) fn with_token(at: Workspace, token: Sourced<Secret>) -> Databricks {
        let Workspace { host: Sourced { value: origin, source: host_from }, id: workspace } = at;
        Databricks {
            origin,
            host_from,
            workspace,
            auth_method: AuthMethod::Token(token),
            tried: Vec::new(),
            remark: None,
        }
    }
}

impl AuthMethod {
    /// The name in `auth_type` and in the User-Agent.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            AuthMethod::Token(_) => "pat",
            AuthMethod::ServicePrincipal { .. } => "oauth-m2m",
            AuthMethod::GitHub { .. } => "github-oidc",
            AuthMethod::Cli { .. } => "databricks-cli",
        }
    }

    /// The owner and source of the credential.
    pub(crate) fn known_as(&self) -> String {
        match self {
            AuthMethod::Token(Sourced { value: _, source: Source::Typed }) => "the typed token".to_owned(),
            AuthMethod::Token(token) => token.source.to_string(),
            AuthMethod::ServicePrincipal { id, secret: _ } => {
                format!("service principal {} (of {})", id.value, id.source)
            }
            AuthMethod::GitHub { id: Some(id), .. } => format!("GitHub's ID token for {} (of {})", id.value, id.source),
            AuthMethod::GitHub { id: None, .. } => "GitHub's ID token".to_owned(),
            AuthMethod::Cli { program: _, profile: Some(profile) } => {
                format!("the `databricks` CLI login for profile {}", profile.name)
            }
            AuthMethod::Cli { program: _, profile: None } => "the `databricks` CLI login".to_owned(),
        }
    }
}

/// The keys of a profile, and their environment variables.
pub(super) const ATTRIBUTES: [(&str, &str); 8] = [
    ("host", "DATABRICKS_HOST"),
    ("token", "DATABRICKS_TOKEN"),
    ("client_id", "DATABRICKS_CLIENT_ID"),
    ("client_secret", "DATABRICKS_CLIENT_SECRET"),
    ("auth_type", "DATABRICKS_AUTH_TYPE"),
    ("audience", "DATABRICKS_TOKEN_AUDIENCE"),
    ("databricks_cli_path", "DATABRICKS_CLI_PATH"),
    ("workspace_id", "DATABRICKS_WORKSPACE_ID"),
];

/// Where to look for the identity.
struct Place<'a> {
    environment: &'a Environment,
    profile: Option<Profile>,
    /// Whether the environment is used. A profile named by `-p` is the whole identity.
    environment_counts: bool,
    /// The reason why there is no profile.
    no_profile: Option<String>,
}

impl Place<'_> {
    /// Fails if any value is an unexpanded placeholder, even if it is not used.
    fn find(environment: &Environment) -> Result<Place<'_>, Failure> {
        let place = Place::look(environment)?;
        for (key, _) in ATTRIBUTES {
            let values = [place.in_environment(key), place.in_profile(key)];
            values.into_iter().flatten().try_for_each(|value| expanded(value).map(drop))?;
        }
        Ok(place)
    }

    fn look(environment: &Environment) -> Result<Place<'_>, Failure> {
        for variable in ["DATABRICKS_CONFIG_FILE", "DATABRICKS_CONFIG_PROFILE"] {
            if let Some(value) = environment.get(variable) {
                expanded(Sourced::new(value.to_owned(), Source::Variable(variable)))?;
            }
        }
        if let Some(name) = environment.profile() {
            let profile = Some(config_file::named(name, "-p", environment)?);
            return Ok(Place { environment, profile, environment_counts: false, no_profile: None });
        }
        let variable = "DATABRICKS_CONFIG_PROFILE";
        if let Some(name) = environment.get(variable) {
            let profile = Some(config_file::named(name, variable, environment)?);
            return Ok(Place { environment, profile, environment_counts: true, no_profile: None });
        }
        // The file is not read if the environment has an identity.
        let said = ATTRIBUTES[..4].iter().find(|(_, variable)| environment.get(variable).is_some());
        let (profile, no_profile) = match said {
            Some((_, variable)) => (None, Some(format!("not read, since {variable} is set"))),
            None => match config_file::default(environment)? {
                Ok(profile) => (Some(profile), None),
                Err(why) => (None, Some(why)),
            },
        };
        Ok(Place { environment, profile, environment_counts: true, no_profile })
    }

    fn in_environment(&self, key: &str) -> Option<Sourced<String>> {
        let (_, variable) = ATTRIBUTES.into_iter().find(|(known, _)| *known == key)?;
        let value = self.environment.get(variable).filter(|_| self.environment_counts)?;
        Some(Sourced::new(value.to_owned(), Source::Variable(variable)))
    }

    fn in_profile(&self, key: &'static str) -> Option<Sourced<String>> {
        let profile = self.profile.as_ref()?;
        let value = profile.get(key)?;
        Some(Sourced::new(
            value.to_owned(),
            Source::Profile { key, profile: profile.name.clone(), file: profile.file.clone() },
        ))
    }

    fn get(&self, key: &'static str) -> Option<Sourced<String>> {
        self.in_environment(key).or_else(|| self.in_profile(key))
    }

    /// The host of the only stored login.
    fn stored_host(&self) -> Result<Option<Sourced<Origin>>, Failure> {
        if !self.environment_counts {
            return Ok(None);
        }
        match self.stored_login(None) {
            Ok((host, _)) => Ok(Some(host)),
            Err(NoLogin::None(_) | NoLogin::Unreadable(_)) => Ok(None),
            Err(NoLogin::Ambiguous(failure)) => Err(failure),
        }
    }

    /// The stored login for this host, and for the workspace ID if one is given.
    fn stored_login(&self, host: Option<&Origin>) -> Result<(Sourced<Origin>, Sourced<UncheckedSecret>), NoLogin> {
        match workspace::find(self) {
            Ok(id) => {
                stored_login::databricks(host, id.as_ref().map(|id| id.value.as_str()), self.environment.keyring())
            }
            Err(_) => Err(NoLogin::None("skipped: the workspace is ambiguous".to_owned())),
        }
    }

    /// What to do if the profile, which is the whole identity, lacks these keys.
    fn add_to_profile(&self, keys: &str) -> Cow<'static, str> {
        let profile = self.profile.as_ref().map(|profile| profile.name.as_str()).unwrap_or_default();
        let file = config_file::place(self.environment).map(|file| file.display().to_string()).unwrap_or_default();
        format!("add {keys} to profile {profile} in {file}").into()
    }

    /// Why the value is missing: where it was looked for.
    fn lacks(&self, key: &str) -> String {
        let variable = ATTRIBUTES.into_iter().find(|(known, _)| *known == key).map_or("", |(_, variable)| variable);
        match (&self.profile, self.environment_counts) {
            (Some(profile), true) => format!("neither {variable} nor {key} in profile {}", profile.name),
            (Some(profile), false) => format!("no {key} in profile {}", profile.name),
            (None, _) => format!("{variable} is not set"),
        }
    }
}

/// Finds the workspace and the auth method. On failure, adds what is missing or wrong to `errors` and returns `None`.
///
/// A profile named by `-p` is the whole identity. Otherwise the environment counts first, then the profile that it
/// names, or the default one if the environment says nothing about Databricks.
pub(crate) fn databricks(environment: &Environment, vault: &Vault, errors: &mut InputErrors) -> Option<Databricks> {
    let place = match Place::find(environment) {
        Ok(place) => place,
        Err(failure) => return errors.optional(Err(failure)),
    };
    let host = errors.need(
        find_host(&place).and_then(|found| match found {
            Some(host) => Ok(Some(host)),
            None => place.stored_host(),
        }),
        if place.environment_counts {
            let ask = Some(Question::DatabricksHost);
            MissingInput::sign_in(SignIn::DatabricksHost, environment, ask)
        } else {
            MissingInput::value("Databricks host", place.add_to_profile("host"), None)
        },
    );
    let workspace = errors.optional(workspace::find(&place));
    let mut tried = Vec::new();
    let found = find_auth_method(&place, host.as_ref().map(|host| &host.value), vault, &mut tried);
    let found = found.and_then(|auth_method| match (auth_method, &host) {
        (Some(auth_method), Some(host)) => check_credential_for_host(&auth_method, host).map(|()| Some(auth_method)),
        (auth_method, _) => Ok(auth_method),
    });
    let nothing = matches!(found, Ok(None));
    let auth_method = errors.need(
        found,
        if place.environment_counts {
            let ask = Some(Question::DatabricksCredential);
            MissingInput::sign_in(SignIn::DatabricksToken, environment, ask)
        } else {
            let give = place.add_to_profile("token (or client_id and client_secret)");
            MissingInput::value("Databricks credential", give, None)
        },
    );
    if (nothing || host.is_none()) && place.environment_counts {
        let at = host.as_ref().map(|host| &host.value);
        let names = profiles_at(environment, at);
        errors.profiles(if names.is_empty() { profiles_at(environment, None) } else { names });
    }
    if nothing {
        for row in &tried {
            errors.tried(row.to_string());
        }
    }
    let (Sourced { value: origin, source: host_from }, auth_method) = (host?, auth_method?);
    let remark = match auth_method {
        // The CLI is the only method tried after the keyring.
        AuthMethod::Cli { .. } => match place.stored_login(Some(&origin)) {
            Err(NoLogin::Unreadable(trouble)) if place.environment_counts => {
                Some(passed_over(&auth_method.known_as(), &trouble))
            }
            Ok(_) | Err(NoLogin::Unreadable(_) | NoLogin::None(_) | NoLogin::Ambiguous(_)) => None,
        },
        AuthMethod::Token(_) | AuthMethod::ServicePrincipal { .. } | AuthMethod::GitHub { .. } => None,
    };
    // A login is for the workspace that it was stored for.
    let workspace = workspace.or_else(|| {
        let token_from = if let AuthMethod::Token(token) = &auth_method { Some(&token.source) } else { None };
        [Some(&host_from), token_from].into_iter().flatten().find_map(workspace::of_login)
    });
    Some(Databricks { origin, host_from, workspace, auth_method, tried, remark })
}

/// The names of the profiles for this host, or of all profiles with a host.
pub(crate) fn profiles_at(environment: &Environment, host: Option<&Origin>) -> Vec<String> {
    let fits = |text: &str| host.is_none_or(|host| Origin::parse(text).is_ok_and(|origin| origin == *host));
    config_file::profiles(environment).into_iter().filter(|(_, text)| fits(text)).map(|(name, _)| name).collect()
}

/// The remark for using `used` although the keyring, which has precedence, could not be read.
pub(super) fn passed_over(used: &str, trouble: &KeyringError) -> String {
    let remedy = trouble.remedy().map(|remedy| format!("; to use a login stored there: {remedy}")).unwrap_or_default();
    format!("using {used}: {trouble}{remedy}")
}

/// The host only, for probing it without a credential.
pub(crate) fn databricks_host(environment: &Environment) -> Option<Origin> {
    let place = Place::find(environment).ok()?;
    let named = find_host(&place).ok()?;
    let host = named.or_else(|| place.stored_host().ok().flatten());
    host.map(|host| host.value)
}

/// The host that the environment or a profile names. Also validates a host typed at a prompt.
pub(crate) fn check_host(environment: &Environment) -> Result<Option<Sourced<Origin>>, Failure> {
    find_host(&Place::find(environment)?)
}

#[cfg(test)]
mod tests;
