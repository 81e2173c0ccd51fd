//! The Databricks identity: a workspace, and one of the ways to authenticate there (databricks-api §1).

pub(super) mod host;
mod workspace;

use std::path::PathBuf;

use url::Url;

use self::host::{find_host, may_go_there};
use super::config_file::{self, Profile};
use super::kept::{self, Nothing};
use super::{Missing, Source, Sourced, Wants};
use crate::context::Environment;
use crate::failure::{Code, Failure};
use crate::origin::Origin;
use crate::questions::Question;
use crate::secret::{Secret, Vault};

/// A workspace and how its door is opened.
#[derive(Clone, Debug)]
pub(crate) struct Databricks {
    pub(crate) origin: Origin,
    /// What names the host.
    pub(crate) host_from: Source,
    /// Which workspace, where the host serves several.
    pub(crate) workspace: Option<Sourced<String>>,
    pub(crate) way: Way,
    /// The ways before this one, and why each does not apply.
    pub(crate) tried: Vec<String>,
    /// What its owner should know.
    pub(crate) remark: Option<String>,
}

/// The ways that are built (databricks-api §1.1), each with what it takes.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    Token(Sourced<Secret>),
    ServicePrincipal { id: Sourced<String>, secret: Secret },
    GitHub { id: Option<Sourced<String>>, url: Url, token: Secret, audience: Option<String> },
    Cli { program: PathBuf, profile: Option<String> },
}

impl Databricks {
    /// A workspace, and a token that somebody gave for it.
    pub(crate) fn with_token(host: Sourced<Origin>, token: Sourced<Secret>) -> Databricks {
        let Sourced { value: origin, source: host_from } = host;
        Databricks { origin, host_from, workspace: None, way: Way::Token(token), tried: Vec::new(), remark: None }
    }
}

impl Way {
    /// The name in `auth_type` and in the User-Agent.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Way::Token(_) => "pat",
            Way::ServicePrincipal { .. } => "oauth-m2m",
            Way::GitHub { .. } => "github-oidc",
            Way::Cli { .. } => "databricks-cli",
        }
    }

    /// Whose credential it is and where it comes from.
    pub(crate) fn known_as(&self) -> String {
        match self {
            Way::Token(token) => token.source.to_string(),
            Way::ServicePrincipal { id, secret: _ } => format!("service principal {} (of {})", id.value, id.source),
            Way::GitHub { id: Some(id), .. } => format!("GitHub's id token for {} (of {})", id.value, id.source),
            Way::GitHub { id: None, .. } => "GitHub's id token".to_owned(),
            Way::Cli { program: _, profile: Some(profile) } => {
                format!("the login of `databricks` for profile {profile}")
            }
            Way::Cli { program: _, profile: None } => "the login of `databricks`".to_owned(),
        }
    }
}

/// What a profile or the environment can say, and the variables for it.
const ATTRIBUTES: [(&str, &str); 8] = [
    ("host", "DATABRICKS_HOST"),
    ("token", "DATABRICKS_TOKEN"),
    ("client_id", "DATABRICKS_CLIENT_ID"),
    ("client_secret", "DATABRICKS_CLIENT_SECRET"),
    ("auth_type", "DATABRICKS_AUTH_TYPE"),
    ("audience", "DATABRICKS_TOKEN_AUDIENCE"),
    ("databricks_cli_path", "DATABRICKS_CLI_PATH"),
    ("workspace_id", "DATABRICKS_WORKSPACE_ID"),
];

/// What belongs to ways that are not built. Named when nothing else is there.
const OTHER_WAYS: [(&str, &str, &str); 6] = [
    ("basic", "password", "DATABRICKS_PASSWORD"),
    ("azure-client-secret", "azure_client_secret", "ARM_CLIENT_SECRET"),
    ("azure-msi", "azure_use_msi", "ARM_USE_MSI"),
    ("metadata-service", "metadata_service_url", "DATABRICKS_METADATA_SERVICE_URL"),
    ("google-credentials", "google_credentials", "GOOGLE_CREDENTIALS"),
    ("env-oidc", "oidc_token_env", "DATABRICKS_OIDC_TOKEN"),
];

/// Where the identity is looked for.
struct Place<'a> {
    environment: &'a Environment,
    profile: Option<Profile>,
    /// Whether the environment may say something: an explicit profile is the whole identity.
    environment_counts: bool,
    /// Why there is no profile, in words.
    no_profile: Option<String>,
}

impl Place<'_> {
    fn find(environment: &Environment) -> Result<Place<'_>, Failure> {
        if let Some(name) = environment.profile() {
            let profile = Some(config_file::named(name, "-p", environment)?);
            return Ok(Place { environment, profile, environment_counts: false, no_profile: None });
        }
        let variable = "DATABRICKS_CONFIG_PROFILE";
        if let Some(name) = environment.get(variable) {
            let profile = Some(config_file::named(name, variable, environment)?);
            return Ok(Place { environment, profile, environment_counts: true, no_profile: None });
        }
        // databricks-api §1.3: the file is not read when the environment says who we are.
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

    /// The host of the only login that is stored.
    fn kept_host(&self) -> Result<Option<Sourced<Origin>>, Failure> {
        if !self.environment_counts {
            return Ok(None);
        }
        match kept::databricks(None, self.environment.keyring()) {
            Ok((host, _)) => Ok(Some(host)),
            Err(Nothing::Why(_) | Nothing::Hidden(_)) => Ok(None),
            Err(Nothing::Several(failure)) => Err(failure),
        }
    }

    /// Why a value is not there: where it was looked for.
    fn lacks(&self, key: &str) -> String {
        let variable = ATTRIBUTES.into_iter().find(|(known, _)| *known == key).map_or("", |(_, variable)| variable);
        match (&self.profile, self.environment_counts) {
            (Some(profile), true) => format!("neither {variable} nor {key} in profile {}", profile.name),
            (Some(profile), false) => format!("no {key} in profile {}", profile.name),
            (None, _) => format!("{variable} is not set"),
        }
    }
}

/// Finds the workspace and the way in. What is missing or wrong is added to `wants`, and `None` comes back.
///
/// The profile that `-p` names is the whole identity; else the environment, then the profile that it names, or the default
/// one if it says nothing about Databricks.
pub(crate) fn databricks(environment: &Environment, vault: &Vault, wants: &mut Wants) -> Option<Databricks> {
    let place = match Place::find(environment) {
        Ok(place) => place,
        Err(failure) => return wants.optional(Err(failure)),
    };
    let host = wants.need(
        find_host(&place).and_then(|found| match found {
            Some(host) => Ok(Some(host)),
            None => place.kept_host(),
        }),
        Missing {
            what: "the host of the Databricks workspace",
            give: if place.environment_counts { "set DATABRICKS_HOST, such as https://dbc-a1b2345c-d6e7.cloud.databricks.com, or name a profile of ~/.databrickscfg with -p" } else { "add host to the profile that -p names" },
            ask: place.environment_counts.then_some(Question::DatabricksHost),
        },
    );
    let workspace = wants.optional(workspace::find(&place));
    let mut tried = Vec::new();
    let found = find_way(&place, host.as_ref().map(|host| &host.value), vault, &mut tried);
    let found = found.and_then(|way| match (way, &host) {
        (Some(way), Some(host)) => may_go_there(&way, host).map(|()| Some(way)),
        (way, _) => Ok(way),
    });
    let nothing = matches!(found, Ok(None));
    let way = wants.need(
        found,
        Missing {
            what: "the credential for Databricks",
            give: if place.environment_counts { "set DATABRICKS_TOKEN to a personal access token or store one with `dbtrigger auth login --databricks`, or set DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET of a service principal, or name a profile of ~/.databrickscfg with -p" } else { "add token, or client_id and client_secret, to the profile that -p names" },
            ask: place.environment_counts.then_some(Question::DatabricksCredential),
        },
    );
    if nothing {
        for row in &tried {
            wants.remark(row.clone());
        }
    }
    let (Sourced { value: origin, source: host_from }, way) = (host?, way?);
    let remark = match way {
        // The one way behind the keyring.
        Way::Cli { .. } => match kept::databricks(Some(&origin), environment.keyring()) {
            Err(Nothing::Hidden(trouble)) if place.environment_counts => {
                Some(format!("{} is used, since {trouble}; if you have a login there, unlock it", way.known_as()))
            }
            Ok(_) | Err(Nothing::Hidden(_) | Nothing::Why(_) | Nothing::Several(_)) => None,
        },
        Way::Token(_) | Way::ServicePrincipal { .. } | Way::GitHub { .. } => None,
    };
    Some(Databricks { origin, host_from, workspace, way, tried, remark })
}

/// The host alone, for the way to it: it can be walked without a credential.
pub(crate) fn databricks_host(environment: &Environment) -> Option<Origin> {
    let place = Place::find(environment).ok()?;
    let named = find_host(&place).ok()?;
    let host = named.or_else(|| place.kept_host().ok().flatten());
    host.map(|host| host.value)
}

/// The host that the environment or a profile names: what is wrong with an answer is found as with the variable.
pub(crate) fn check_host(environment: &Environment) -> Result<Option<Sourced<Origin>>, Failure> {
    find_host(&Place::find(environment)?)
}

/// A way with what it takes, or why it does not apply; a value that cannot be used is a failure.
type Find = fn(&Place<'_>, Option<&Origin>, &Vault) -> Result<Result<Way, String>, Failure>;

/// The first way that applies; the others go into `tried`, one row each.
fn find_way(
    place: &Place<'_>,
    host: Option<&Origin>,
    vault: &Vault,
    tried: &mut Vec<String>,
) -> Result<Option<Way>, Failure> {
    if let Some(typed) = vault.kept("DATABRICKS_TOKEN") {
        return Ok(Some(Way::Token(Sourced::new(typed, Source::Typed))));
    }
    if let Some(why) = &place.no_profile {
        tried.push(row("profile", why));
    }
    let ways: [(&str, Find); 4] =
        [("pat", token), ("oauth-m2m", service_principal), ("github-oidc", github), ("databricks-cli", cli)];
    let login: Find = login;
    if let Some(named) = place.get("auth_type") {
        let Some((name, find)) = ways.into_iter().find(|(name, _)| *name == named.value) else {
            return Err(Failure::new(
                Code::InvalidInput,
                format!("{} is \"{}\", and this program does not have that way.", named.source, named.value),
            )
            .advise("use one of pat, oauth-m2m, github-oidc, databricks-cli"));
        };
        let mut found = find(place, host, vault)?;
        if let ("pat", Err(why)) = (name, &found) {
            found = login(place, host, vault)?.map_err(|of_keyring| format!("{why}, and {of_keyring}"));
        }
        return found.map(Some).map_err(|why| {
            Failure::new(Code::InvalidInput, format!("{} asks for {name}, which does not apply: {why}.", named.source))
                .advise("give what is missing, or leave auth_type out so that every way is tried")
        });
    }
    if let (Some(token), Some(oauth)) =
        (place.get("token"), place.get("client_secret").or_else(|| place.get("client_id")))
    {
        return Err(Failure::new(
            Code::Contradiction,
            format!("Two ways to authenticate with Databricks are given: {} and {}.", token.source, oauth.source),
        )
        .advise("drop one of the two, or set DATABRICKS_AUTH_TYPE to pat or oauth-m2m"));
    }
    let [first @ .., (name, last)] = ways;
    // Somebody put it there for this; `databricks` may be anywhere.
    for (name, find) in first.into_iter().chain([(kept::NAME, login), (name, last)]) {
        match find(place, host, vault)? {
            Ok(way) => return Ok(Some(way)),
            Err(why) => tried.push(row(name, &why)),
        }
    }
    for (name, key, variable) in OTHER_WAYS {
        let set = if place.environment.get(variable).is_some() {
            variable
        } else if place.profile.as_ref().is_some_and(|profile| profile.get(key).is_some()) {
            key
        } else {
            continue;
        };
        tried.push(row(name, &format!("{set} is set, but this program does not have this way")));
    }
    Ok(None)
}

/// A row of the table of what was tried.
pub(super) fn row(name: &str, why: &str) -> String {
    format!("tried {name:<15} {why}")
}

fn admit(vault: &Vault, text: Sourced<String>) -> Result<Sourced<Secret>, Failure> {
    let Sourced { value, source } = text;
    vault.admit(value).map(|secret| Sourced::new(secret, source.clone())).map_err(|odd| {
        Failure::new(Code::InvalidInput, format!("{source} does not hold a token: {odd}."))
            .advise("make a personal access token in the workspace under Settings > Developer > Access tokens, and give it alone")
    })
}

fn token(place: &Place<'_>, _: Option<&Origin>, vault: &Vault) -> Result<Result<Way, String>, Failure> {
    match place.get("token") {
        Some(text) => Ok(Ok(Way::Token(admit(vault, text)?))),
        None => Ok(Err(place.lacks("token"))),
    }
}

/// The token of `auth login` for this host.
fn login(place: &Place<'_>, host: Option<&Origin>, vault: &Vault) -> Result<Result<Way, String>, Failure> {
    if !place.environment_counts {
        return Ok(Err("not opened: the profile that -p names is the whole identity".to_owned()));
    }
    match kept::databricks(host, place.environment.keyring()) {
        Ok((_, token)) => Ok(Ok(Way::Token(admit(vault, token)?))),
        Err(Nothing::Why(why)) => Ok(Err(why)),
        Err(Nothing::Hidden(trouble)) => Ok(Err(trouble.to_string())),
        Err(Nothing::Several(failure)) => Err(failure),
    }
}

fn service_principal(place: &Place<'_>, _: Option<&Origin>, vault: &Vault) -> Result<Result<Way, String>, Failure> {
    match (place.get("client_id"), place.get("client_secret")) {
        (Some(id), Some(secret)) => {
            if id.value.chars().any(|sign| !sign.is_ascii_graphic() || sign == ':') {
                return Err(Failure::new(
                    Code::InvalidInput,
                    format!("{} is \"{}\", which is no application id.", id.source, id.value),
                )
                .advise(
                    "give the application id of the service principal, such as 0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d11",
                ));
            }
            Ok(Ok(Way::ServicePrincipal { id, secret: admit(vault, secret)?.value }))
        }
        (None, _) => Ok(Err(place.lacks("client_id"))),
        (Some(_), None) => Ok(Err(place.lacks("client_secret"))),
    }
}

fn github(place: &Place<'_>, _: Option<&Origin>, vault: &Vault) -> Result<Result<Way, String>, Failure> {
    let (url, token) = ("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN");
    let (Some(url_text), Some(secret)) = (place.environment.get(url), place.environment.get(token)) else {
        return Ok(Err(format!("{url} is not set: no job in GitHub Actions with `permissions: id-token: write`")));
    };
    let id = place.get("client_id");
    if id.is_none() && place.get("auth_type").is_none() {
        return Ok(Err(place.lacks("client_id")));
    }
    let parsed = Url::parse(url_text).ok().filter(|url| Origin::of(url).is_ok());
    let Some(parsed) = parsed else {
        return Err(Failure::new(Code::InvalidInput, format!("{url} is no https address."))
            .advise("leave the variable to GitHub, which sets it"));
    };
    let token = admit(vault, Sourced::new(secret.to_owned(), Source::Variable(token)))?.value;
    Ok(Ok(Way::GitHub { id, url: parsed, token, audience: place.get("audience").map(|found| found.value) }))
}

fn cli(place: &Place<'_>, host: Option<&Origin>, _: &Vault) -> Result<Result<Way, String>, Failure> {
    if host.is_none() {
        return Ok(Err("no host to ask `databricks` for a token of".to_owned()));
    }
    let program = match place.get("databricks_cli_path") {
        Some(named) => {
            let path = PathBuf::from(&named.value);
            if !path.is_absolute() || !path.is_file() {
                return Err(Failure::new(
                    Code::InvalidInput,
                    format!("{} is \"{}\", which is no absolute path of a program.", named.source, named.value),
                )
                .advise("give the absolute path of the program `databricks`"));
            }
            path
        }
        None => match super::cli::on_path(place.environment.get("PATH").unwrap_or_default()) {
            Some(path) => path,
            None => return Ok(Err("no program `databricks` in an absolute folder of PATH".to_owned())),
        },
    };
    // A profile that has no host of its own is not what the host was found in.
    let profile = place.profile.as_ref().filter(|profile| profile.get("host").is_some());
    Ok(Ok(Way::Cli { program, profile: profile.map(|profile| profile.name.clone()) }))
}

#[cfg(test)]
mod tests;
