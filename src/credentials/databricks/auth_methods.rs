//! Auth methods, tried in order.

use std::path::PathBuf;

use tokio::sync::OnceCell;
use url::Url;

use super::{Place, Tried, profiles_at};
use crate::context::{Environment, Wall};
use crate::credentials::cli::FromCli;
use crate::credentials::oauth::{Endpoint, FromGitHub, FromServicePrincipal};
use crate::credentials::stored_login::{self, NoLogin};
use crate::credentials::{Source, Sourced, config_file};
use crate::failure::{Code, Failure};
use crate::http::{Credential, TokenClient};
use crate::origin::Origin;
use crate::secret::{Secret, UncheckedSecret, Vault};

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

    /// Where its secret comes from; `None` if another program keeps it.
    pub(super) fn secret_source(&self) -> Option<&Source> {
        match self {
            AuthMethod::Token(Sourced { value: _, source })
            | AuthMethod::ServicePrincipal { id: _, secret: Sourced { value: _, source } }
            | AuthMethod::GitHub { id: _, url: _, token: Sourced { value: _, source }, audience: _ } => Some(source),
            AuthMethod::Cli { .. } => None,
        }
    }

    /// Whether another program keeps the login together with its host. `databricks` finds a login by host or by profile
    /// name; a profile in another file may pair the name with any host.
    pub(super) fn finds_its_login_by_host(&self) -> bool {
        matches!(self, AuthMethod::Cli { program: _, profile } if profile.as_ref().is_none_or(|profile| profile.is_own))
    }

    /// The credential for requests to this workspace.
    pub(crate) fn credential(&self, at: &Connection<'_>) -> Result<Credential, Failure> {
        let Connection { origin, tried, environment, vault, wall, token_client } = *at;
        let endpoint = || -> Result<Endpoint, Failure> {
            let token_client = token_client(origin)?;
            Ok(Endpoint { origin: origin.clone(), token_client, vault: vault.clone(), url: OnceCell::new() })
        };
        Ok(match self {
            AuthMethod::Token(token) => Credential::Fixed(token.value.clone()),
            AuthMethod::ServicePrincipal { id, secret } => Credential::issued(
                FromServicePrincipal { endpoint: endpoint()?, id: id.value.clone(), secret: secret.value.clone() },
                wall.clone(),
            ),
            AuthMethod::GitHub { id, url, token, audience } => {
                let github = Origin::of(url).map_err(|bad| {
                    Failure::new(Code::InvalidInput, format!("the ID token URL from GitHub is invalid: {bad}"))
                        .advise("do not set ACTIONS_ID_TOKEN_REQUEST_URL; GitHub sets it")
                })?;
                Credential::issued(
                    FromGitHub {
                        endpoint: endpoint()?,
                        github: token_client(&github)?,
                        id: id.as_ref().map(|id| id.value.clone()),
                        url: url.clone(),
                        token: token.value.clone(),
                        audience: audience.clone(),
                    },
                    wall.clone(),
                )
            }
            AuthMethod::Cli { program, profile } => Credential::issued(
                FromCli {
                    program: program.clone(),
                    profile: profile.as_ref().map(|profile| profile.name.clone()),
                    host: origin.to_string(),
                    profiles: profiles_at(environment, Some(origin)),
                    tried: tried.to_vec(),
                    vault: vault.clone(),
                    wall: wall.clone(),
                    forces: OnceCell::new(),
                },
                wall.clone(),
            ),
        })
    }
}

/// What getting a token needs beside the auth method.
#[derive(Clone, Copy)]
pub(crate) struct Connection<'a> {
    pub(crate) origin: &'a Origin,
    pub(crate) tried: &'a [Tried],
    pub(crate) environment: &'a Environment,
    pub(crate) vault: &'a Vault,
    pub(crate) wall: &'a Wall,
    /// Makes the client for requesting tokens from an origin.
    pub(crate) token_client: &'a dyn Fn(&Origin) -> Result<TokenClient, Failure>,
}

/// Settings of unsupported auth methods. Mentioned if no supported one applies.
const UNSUPPORTED_METHODS: [(&str, &str, &str); 6] = [
    ("basic", "password", "DATABRICKS_PASSWORD"),
    ("azure-client-secret", "azure_client_secret", "ARM_CLIENT_SECRET"),
    ("azure-msi", "azure_use_msi", "ARM_USE_MSI"),
    ("metadata-service", "metadata_service_url", "DATABRICKS_METADATA_SERVICE_URL"),
    ("google-credentials", "google_credentials", "GOOGLE_CREDENTIALS"),
    ("env-oidc", "oidc_token_env", "DATABRICKS_OIDC_TOKEN"),
];

/// Returns an auth method, or why it does not apply. Fails if a value is invalid.
type Find = fn(&Place<'_>, Option<&Origin>, &Vault) -> Result<Result<AuthMethod, String>, Failure>;

/// Returns the first auth method that applies, and adds the others to `tried`.
pub(super) fn find_auth_method(
    place: &Place<'_>,
    host: Option<&Origin>,
    vault: &Vault,
    tried: &mut Vec<Tried>,
) -> Result<Option<AuthMethod>, Failure> {
    if let Some(typed) = vault.kept("DATABRICKS_TOKEN") {
        return Ok(Some(AuthMethod::Token(Sourced::new(typed, Source::Typed))));
    }
    if let Some(why) = &place.no_profile {
        tried.push(Tried::new("profile", why));
    }
    let methods: [(&'static str, Find); 4] =
        [("pat", token), ("oauth-m2m", service_principal), ("github-oidc", github), ("databricks-cli", cli)];
    let login: Find = login;
    if let Some(named) = place.get("auth_type") {
        let Some((name, find)) = methods.into_iter().find(|(name, _)| *name == named.value) else {
            return Err(Failure::new(
                Code::InvalidInput,
                format!("{} \"{}\" is not supported", named.source, named.value),
            )
            .advise("use pat, oauth-m2m, github-oidc, or databricks-cli"));
        };
        let mut found = find(place, host, vault)?;
        if let ("pat", Err(why)) = (name, &found) {
            found = login(place, host, vault)?.map_err(|of_keyring| format!("{why}, and {of_keyring}"));
        }
        return found.map(Some).map_err(|why| {
            Failure::new(Code::InvalidInput, format!("{} is {name}, which is not usable: {why}", named.source))
                .advise("provide what is missing, or remove auth_type to try every method")
        });
    }
    if let (Some(token), Some(oauth)) =
        (place.get("token"), place.get("client_secret").or_else(|| place.get("client_id")))
    {
        return Err(Failure::new(
            Code::Contradiction,
            format!("two Databricks authentication methods are configured: {} and {}", token.source, oauth.source),
        )
        .advise("remove one of them, or set DATABRICKS_AUTH_TYPE to pat or oauth-m2m"));
    }
    let [first @ .., (name, last)] = methods;
    // The keyring comes before the CLI: the login was stored for dbtrigger, while `databricks` may be installed for any
    // purpose.
    for (name, find) in first.into_iter().chain([(stored_login::NAME, login), (name, last)]) {
        match find(place, host, vault)? {
            Ok(method) => return Ok(Some(method)),
            Err(why) => tried.push(Tried::new(name, why)),
        }
    }
    for (name, key, variable) in UNSUPPORTED_METHODS {
        let set = if place.environment.get(variable).is_some() {
            variable
        } else if place.profile.as_ref().is_some_and(|profile| profile.get(key).is_some()) {
            key
        } else {
            continue;
        };
        tried.push(Tried::new(name, format!("{set} is set, but this authentication type is not supported")));
    }
    Ok(None)
}

fn admit(vault: &Vault, text: Sourced<impl Into<UncheckedSecret>>) -> Result<Sourced<Secret>, Failure> {
    let Sourced { value, source } = text;
    vault.admit_unchecked(&value.into()).map(|secret| Sourced::new(secret, source.clone())).map_err(|odd| {
        Failure::new(Code::InvalidInput, format!("{source} is not a token: {odd}"))
            .advise("create a personal access token in the workspace under Settings > Developer > Access tokens, and pass only the token")
    })
}

fn token(place: &Place<'_>, _: Option<&Origin>, vault: &Vault) -> Result<Result<AuthMethod, String>, Failure> {
    match place.get("token") {
        Some(text) => Ok(Ok(AuthMethod::Token(admit(vault, text)?))),
        None => Ok(Err(place.lacks("token"))),
    }
}

/// The token stored by `auth login` for this host.
fn login(place: &Place<'_>, host: Option<&Origin>, vault: &Vault) -> Result<Result<AuthMethod, String>, Failure> {
    if !place.environment_counts {
        return Ok(Err("not opened: -p selects the whole identity".to_owned()));
    }
    match place.stored_login(host) {
        Ok((_, token)) => Ok(Ok(AuthMethod::Token(admit(vault, token)?))),
        Err(NoLogin::None(why)) => Ok(Err(why)),
        Err(NoLogin::Unreadable(trouble)) => Ok(Err(trouble.to_string())),
        Err(NoLogin::Ambiguous(failure)) => Err(failure),
    }
}

fn service_principal(
    place: &Place<'_>,
    _: Option<&Origin>,
    vault: &Vault,
) -> Result<Result<AuthMethod, String>, Failure> {
    match (place.get("client_id"), place.get("client_secret")) {
        (Some(id), Some(secret)) => {
            if id.value.chars().any(|sign| !sign.is_ascii_graphic() || sign == ':') {
                return Err(Failure::new(
                    Code::InvalidInput,
                    format!("{} \"{}\" is not an application ID", id.source, id.value),
                )
                .advise(
                    "use the application ID of the service principal, such as 0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d11",
                ));
            }
            Ok(Ok(AuthMethod::ServicePrincipal { id, secret: admit(vault, secret)? }))
        }
        (None, _) => Ok(Err(place.lacks("client_id"))),
        (Some(_), None) => Ok(Err(place.lacks("client_secret"))),
    }
}

fn github(place: &Place<'_>, _: Option<&Origin>, vault: &Vault) -> Result<Result<AuthMethod, String>, Failure> {
    let (url, token) = ("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN");
    let (Some(url_text), Some(secret)) = (place.environment.get(url), place.environment.get(token)) else {
        return Ok(Err(format!("{url} is not set: not a GitHub Actions job with `permissions: id-token: write`")));
    };
    let id = place.get("client_id");
    if id.is_none() && place.get("auth_type").is_none() {
        return Ok(Err(place.lacks("client_id")));
    }
    let parsed = Url::parse(url_text).ok().filter(|url| Origin::of(url).is_ok());
    let Some(parsed) = parsed else {
        return Err(
            Failure::new(Code::InvalidInput, format!("{url} is not an HTTPS URL")).advise("do not set it; GitHub does")
        );
    };
    let token = admit(vault, Sourced::new(secret.to_owned(), Source::Variable(token)))?;
    Ok(Ok(AuthMethod::GitHub { id, url: parsed, token, audience: place.get("audience").map(|found| found.value) }))
}

fn cli(place: &Place<'_>, host: Option<&Origin>, _: &Vault) -> Result<Result<AuthMethod, String>, Failure> {
    if host.is_none() {
        return Ok(Err("no host for `databricks auth token`".to_owned()));
    }
    let is_own = config_file::is_own(place.environment);
    let program = match place.get("databricks_cli_path") {
        Some(named) => {
            if matches!(named.source, Source::Profile { .. }) && !is_own {
                return Err(Failure::new(
                    Code::Contradiction,
                    format!(
                        "{} names a program, which is not started because the file comes from DATABRICKS_CONFIG_FILE",
                        named.source
                    ),
                )
                .advise("only if you trust that program: set DATABRICKS_CLI_PATH to it"));
            }
            let path = PathBuf::from(&named.value);
            if !path.is_absolute() || !path.is_file() {
                return Err(Failure::new(
                    Code::InvalidInput,
                    format!("{} \"{}\" is not the absolute path of a program", named.source, named.value),
                )
                .advise("use the absolute path of the `databricks` CLI"));
            }
            path
        }
        None => match crate::credentials::cli::on_path(place.environment.get("PATH").unwrap_or_default()) {
            Some(path) => path,
            None => return Ok(Err("no `databricks` CLI in an absolute directory of PATH".to_owned())),
        },
    };
    // If the profile has no host, the host is from elsewhere, so ask `databricks` by host.
    let profile = place.profile.as_ref().filter(|profile| profile.get("host").is_some());
    Ok(Ok(AuthMethod::Cli {
        program,
        profile: profile.map(|profile| CliProfile { name: profile.name.clone(), is_own }),
    }))
}
