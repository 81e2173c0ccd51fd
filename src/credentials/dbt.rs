//! The dbt account: host and ID.

use super::databricks::{Tried, passed_over};
use super::dbt_file::{self, Active};
use super::stored_login::{self, NoLogin};
use super::{InputErrors, MissingInput, SignIn, Source, Sourced, expanded, two_different};
use crate::context::Environment;
use crate::dbt::{Link, parse_host};
use crate::failure::{Code, Failure};
use crate::origin::{Origin, shown};
use crate::questions::Question;

/// Variables of other tools. Mentioned if they are set and ours are not.
const OTHERS: [(&str, &str); 6] = [
    ("DBT_TOKEN", "DBT_CLOUD_TOKEN"),
    ("DBT_API_KEY", "DBT_CLOUD_TOKEN"),
    ("DBT_HOST", "DBT_CLOUD_HOST"),
    ("DBT_BASE_URL", "DBT_CLOUD_HOST"),
    ("DBT_ACCOUNT_ID", "DBT_CLOUD_ACCOUNT_ID"),
    ("DBT_CLOUD_JOB_ID", "the job as an argument"),
];

/// An account and its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) origin: Origin,
    pub(crate) id: u64,
    /// Whether a token without a host may be sent there: a host of dbt, or one named by a flag or variable.
    trusted: bool,
    /// The source of the host.
    pub(crate) host_from: Source,
    /// The source of the account ID.
    pub(crate) id_from: Source,
}

/// The global flags that name the account.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct AccountFlags {
    /// URL of any page in your dbt account: sets host, account, and project or job if it names one
    #[arg(long, global = true, hide_short_help = true, value_name = "URL", help_heading = "Global options")]
    pub(crate) dbt_url: Option<String>,
    /// Host of your dbt account, as typed
    #[arg(
        long,
        global = true,
        hide_short_help = true,
        value_name = "HOST",
        help = "Host of your dbt account, such as ab123.us1.dbt.com [env: DBT_CLOUD_HOST]",
        help_heading = "Global options"
    )]
    pub(crate) dbt_host: Option<String>,
    /// Account ID, as typed
    #[arg(
        long,
        global = true,
        hide_short_help = true,
        value_name = "ID",
        help = "ID of your dbt account [env: DBT_CLOUD_ACCOUNT_ID]",
        help_heading = "Global options"
    )]
    pub(crate) dbt_account: Option<String>,
}

/// Host and account ID from flags, pasted URLs (`--dbt-url` and jobs given by URL) and the environment.
pub(super) struct Stated {
    host: Result<Option<Host>, Failure>,
    id: Result<Option<Sourced<u64>>, Failure>,
}

/// Why no stored login is used.
pub(super) enum NotStored {
    /// The sources that were tried.
    Nowhere(Vec<Tried>),
    /// Several logins match.
    Several(Failure),
}

impl NotStored {
    pub(super) fn of_file(why: &str) -> NotStored {
        NotStored::Nowhere(vec![Tried::new(dbt_file::NAME, why)])
    }
}

/// A host, and whether a flag or variable names it.
#[derive(Clone)]
struct Host {
    origin: Sourced<Origin>,
    named: bool,
}

impl Stated {
    pub(super) fn read(flags: &AccountFlags, pasted: &[(String, Link)], environment: &Environment) -> Stated {
        Stated { host: find_host(flags, pasted, environment), id: find_id(flags, pasted, environment) }
    }

    /// The login for the given host and account from the keyring, or from dbt's own file.
    pub(super) fn stored(&self, environment: &Environment) -> Result<Active, NotStored> {
        let kept = match (&self.host, &self.id) {
            (Ok(host), Ok(id)) => {
                let host = host.as_ref().map(|host| &host.origin.value);
                stored_login::dbt(host, id.as_ref().map(|id| id.value), environment.keyring())
            }
            (Err(_), _) | (_, Err(_)) => Err(NoLogin::None("skipped: the account is ambiguous".to_owned())),
        };
        let (in_keyring, hidden) = match kept {
            Ok(active) => return Ok(active),
            Err(NoLogin::Ambiguous(failure)) => return Err(NotStored::Several(failure)),
            Err(NoLogin::None(why)) => (Tried::new(stored_login::NAME, why), None),
            Err(NoLogin::Unreadable(trouble)) => (Tried::new(stored_login::NAME, trouble.to_string()), Some(trouble)),
        };
        match self.in_file(environment) {
            Ok(mut active) => {
                let used = active.host.source.to_string();
                active.remarks.extend(hidden.map(|trouble| passed_over(&used, &trouble)));
                Ok(active)
            }
            Err(why) => Err(NotStored::Nowhere(vec![in_keyring, Tried::new(dbt_file::NAME, why)])),
        }
    }

    /// Like `stored`, but having none is not an error.
    fn whatever_is_stored(&self, environment: &Environment) -> Result<Option<Active>, Failure> {
        match self.stored(environment) {
            Ok(active) => Ok(Some(active)),
            Err(NotStored::Nowhere(_)) => Ok(None),
            Err(NotStored::Several(failure)) => Err(failure),
        }
    }

    /// The active project of dbt's own file, or why it is not used, such as being for another host or account.
    fn in_file(&self, environment: &Environment) -> Result<Active, String> {
        let active = dbt_file::active(environment)?;
        if let Ok(Some(Host { origin, named: _ })) = &self.host
            && origin.value != active.host.value
        {
            return Err(format!(
                "not used: {}, {}, and a stored token is sent only to its own host",
                active.host.stated(),
                origin.stated()
            ));
        }
        if let (Ok(Some(stated)), Some(theirs)) = (&self.id, &active.account)
            && stated.value != theirs.value
        {
            return Err(format!(
                "not used: {}, {}, and a stored token is only for its own account",
                theirs.stated(),
                stated.stated()
            ));
        }
        Ok(active)
    }
}

/// Finds host and account ID from flags, pasted URLs, the environment, the keyring and dbt's own file. Adds what is
/// missing, invalid or conflicting to `errors`.
pub(crate) fn account(
    flags: &AccountFlags,
    pasted: &[(String, Link)],
    environment: &Environment,
    errors: &mut InputErrors,
) -> Option<Account> {
    errors.pasted(pasted.iter().map(|(text, _)| text));
    let stated = Stated::read(flags, pasted, environment);
    let stored = match (&stated.host, &stated.id) {
        (Ok(None), _) | (_, Ok(None)) => match stated.stored(environment) {
            Ok(active) => Some(active),
            Err(NotStored::Nowhere(rows)) => {
                for row in rows {
                    errors.tried(row.to_string());
                }
                None
            }
            Err(NotStored::Several(failure)) => return errors.optional(Err(failure)),
        },
        (Ok(Some(_)) | Err(_), Ok(Some(_)) | Err(_)) => None,
    };
    let found = whole(stated, stored.as_ref(), environment, errors);
    others(environment, errors);
    found
}

/// The account from flags and the environment. Stored logins do not count.
pub(crate) fn named_account(
    flags: &AccountFlags,
    environment: &Environment,
    errors: &mut InputErrors,
) -> Option<Account> {
    let found = whole(Stated::read(flags, &[], environment), None, environment, errors);
    others(environment, errors);
    found
}

/// Host and account ID from flags and the environment, each if given.
pub(crate) fn named_host_and_id(
    flags: &AccountFlags,
    environment: &Environment,
) -> Result<(Option<Origin>, Option<u64>), Failure> {
    let Stated { host, id } = Stated::read(flags, &[], environment);
    Ok((host?.map(|host| host.origin.value), id?.map(|id| id.value)))
}

fn whole(
    stated: Stated,
    stored: Option<&Active>,
    environment: &Environment,
    errors: &mut InputErrors,
) -> Option<Account> {
    let Stated { host, id } = stated;
    let from_store = || stored.map(|active| Host { origin: active.host.clone(), named: false });
    let host = errors.need(
        host.map(|found| found.or_else(from_store)),
        MissingInput::sign_in(SignIn::DbtHost, environment, Some(Question::DbtHost)),
    );
    let id = errors.need(
        id.map(|found| found.or_else(|| stored?.account.clone())),
        MissingInput::sign_in(SignIn::DbtAccount, environment, Some(Question::DbtAccount)),
    );
    let Host { origin: Sourced { value: origin, source: host_from }, named } = host?;
    let trusted = named || origin.is_under("dbt.com") || origin.is_under("getdbt.com");
    let Sourced { value: id, source: id_from } = id?;
    Some(Account { origin, id, trusted, host_from, id_from })
}

/// Finds only the host.
pub(crate) fn dbt_host(
    flags: &AccountFlags,
    pasted: &[(String, Link)],
    environment: &Environment,
) -> Result<Option<Origin>, Failure> {
    let stated = Stated::read(flags, pasted, environment);
    if let Some(Host { origin, named: _ }) = stated.host.clone()? {
        return Ok(Some(origin.value));
    }
    Ok(stated.whatever_is_stored(environment)?.map(|active| active.host.value))
}

/// Finds only the account ID, for commands that send nothing to dbt.
pub(crate) fn account_id(
    flags: &AccountFlags,
    pasted: &[(String, Link)],
    environment: &Environment,
) -> Result<Option<u64>, Failure> {
    let stated = Stated::read(flags, pasted, environment);
    if let Some(id) = stated.id.clone()? {
        return Ok(Some(id.value));
    }
    Ok(stated.whatever_is_stored(environment)?.and_then(|active| active.account).map(|id| id.value))
}

impl Account {
    /// Refuses to send a token without a host to a host that only a pasted URL, the keyring or dbt's own file names.
    /// `token` is the token's source.
    pub(crate) fn check_bare_token(&self, token: &str) -> Result<(), Failure> {
        if self.trusted {
            return Ok(());
        }
        // In the form that the flag accepts: with its port, and with the scheme unless it is https.
        let host = self.origin.to_string();
        let host = host.strip_prefix("https://").unwrap_or(&host);
        Err(Failure::new(
            Code::Contradiction,
            format!("{token} is not sent to {host}: it is not a dbt host, and only {} names it", self.host_from),
        )
        .advise(format!("only if {host} is your dbt host: pass --dbt-host {host}, or set DBT_CLOUD_HOST to it")))
    }
}

/// The URLs of `--dbt-url` and of jobs, with their sources.
fn links(flags: &AccountFlags, pasted: &[(String, Link)]) -> Result<Vec<Sourced<Link>>, Failure> {
    let mut all = Vec::new();
    if let Some(text) = &flags.dbt_url {
        expanded(Sourced::new(text.clone(), Source::Flag("--dbt-url")))?;
        let link = Link::parse(text).map_err(|bad| {
            Failure::new(Code::InvalidInput, format!("--dbt-url \"{}\" is invalid: {bad}", shown(text)))
                .advise("copy the URL of a page of your dbt account from your browser")
        })?;
        all.push(Sourced::new(link, Source::Flag("--dbt-url")));
    }
    all.extend(pasted.iter().map(|(text, link)| Sourced::new(link.clone(), Source::Pasted(text.clone()))));
    Ok(all)
}

/// Parses a dbt host from the user.
pub(crate) fn read_host(text: &str, source: &Source) -> Result<Sourced<Origin>, Failure> {
    expanded(Sourced::new(text.to_owned(), source.clone()))?;
    parse_host(text).map(|origin| Sourced::new(origin, source.clone())).map_err(|bad| {
        Failure::new(Code::InvalidInput, format!("{source} \"{}\" is invalid: {bad}", shown(text)))
            .advise("use the host in your browser's address bar when signed in to dbt, such as ab123.us1.dbt.com")
    })
}

/// Parses a dbt account ID from the user.
pub(crate) fn read_account_id(text: &str, source: Source) -> Result<Sourced<u64>, Failure> {
    match text.trim().parse::<u64>() {
        Ok(id) if id > 0 && !text.contains('+') => Ok(Sourced::new(id, source)),
        Ok(_) | Err(_) => {
            let Sourced { value, source } = expanded(Sourced::new(text.to_owned(), source))?;
            let what = format!("{source} \"{value}\" is not an account ID, a number such as 51234");
            Err(Failure::new(Code::InvalidInput, what)
                .advise("use the number after /deploy/ in the URL of any page of your dbt account"))
        }
    }
}

fn find_host(
    flags: &AccountFlags,
    pasted: &[(String, Link)],
    environment: &Environment,
) -> Result<Option<Host>, Failure> {
    let flag = flags.dbt_host.as_deref().map(|text| read_host(text, &Source::Flag("--dbt-host"))).transpose()?;
    let mut variables = Vec::new();
    for name in ["DBT_CLOUD_HOST", "DBT_CLOUD_HOST_URL"] {
        if let Some(text) = environment.get(name) {
            variables.push(read_host(text, &Source::Variable(name))?);
        }
    }
    agree("dbt hosts", &variables)?;
    let from_links: Vec<Sourced<Origin>> =
        links(flags, pasted)?.into_iter().map(|link| Sourced::new(link.value.origin, link.source)).collect();
    let url_flag = flags.dbt_url.is_some();
    // A flag overrides the environment. A pasted job URL does not, so it has to match the environment.
    let named = flag.or_else(|| if url_flag { None } else { variables.first().cloned() });
    let mut stated: Vec<Sourced<Origin>> = named.iter().cloned().collect();
    stated.extend(from_links);
    agree("dbt hosts", &stated)?;
    Ok(stated.into_iter().next().map(|found| {
        let named = named.is_some() || variables.iter().any(|variable| variable.value == found.value);
        Host { origin: found, named }
    }))
}

fn find_id(
    flags: &AccountFlags,
    pasted: &[(String, Link)],
    environment: &Environment,
) -> Result<Option<Sourced<u64>>, Failure> {
    let flag =
        flags.dbt_account.as_deref().map(|text| read_account_id(text, Source::Flag("--dbt-account"))).transpose()?;
    let name = "DBT_CLOUD_ACCOUNT_ID";
    let variable = environment.get(name).map(|text| read_account_id(text, Source::Variable(name))).transpose()?;
    let links: Vec<Sourced<u64>> = links(flags, pasted)?
        .into_iter()
        .filter_map(|link| Some(Sourced::new(link.value.account?, link.source)))
        .collect();
    let from_url_flag = links.iter().any(|link| link.source == Source::Flag("--dbt-url"));
    let mut stated: Vec<Sourced<u64>> = flag.or(if from_url_flag { None } else { variable }).into_iter().collect();
    stated.extend(links);
    agree("dbt account IDs", &stated)?;
    Ok(stated.into_iter().next())
}

/// Fails if two sources differ, and names them.
fn agree<T: PartialEq + std::fmt::Display>(what: &str, stated: &[Sourced<T>]) -> Result<(), Failure> {
    let Some(first) = stated.first() else { return Ok(()) };
    match stated.iter().find(|other| other.value != first.value) {
        None => Ok(()),
        Some(other) => Err(two_different(what, first, other)),
    }
}

fn others(environment: &Environment, errors: &mut InputErrors) {
    for (theirs, ours) in OTHERS {
        if environment.get(theirs).is_some() && environment.get(ours).is_none() {
            errors.remark(format!("{theirs} is set, but dbtrigger reads {ours}"));
        }
    }
}

#[cfg(test)]
mod tests;
