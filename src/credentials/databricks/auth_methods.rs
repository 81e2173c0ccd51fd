//! Auth methods, tried in order.

use std::path::PathBuf;

use url::Url;

use super::{AuthMethod, CliProfile, Place, Tried};
use crate::credentials::stored_login::{self, NoLogin};
use crate::credentials::{Source, Sourced, config_file};
use crate::failure::{Code, Failure};
use crate::origin::Origin;
use crate::secret::{Secret, UncheckedSecret, Vault};

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
