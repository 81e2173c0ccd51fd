//! The dbt Cloud account and the tokens for it.

use std::io::Read as _;
use std::path::PathBuf;

use super::{Missing, Source, Sourced, Wants};
use crate::context::Environment;
use crate::dbt::{Link, parse_host};
use crate::failure::{Code, Failure};
use crate::origin::{Origin, shown};
use crate::questions::Question;
use crate::secret::{Secret, Vault};

/// The variables that hold a dbt token, ours first.
const TOKEN_VARIABLES: [&str; 4] =
    ["DBT_CLOUD_TOKEN", "DBT_CLOUD_API_KEY", "DBT_CLOUD_API_TOKEN", "DBT_CLOUD_SERVICE_TOKEN"];

/// Far more bytes than a token has.
const LONGEST_TOKEN: u64 = 64 << 10;

/// Other tools' names (dbt-cloud-api §2.4a), named when they are set and ours are not.
const OTHERS: [(&str, &str); 6] = [
    ("DBT_TOKEN", "DBT_CLOUD_TOKEN"),
    ("DBT_API_KEY", "DBT_CLOUD_TOKEN"),
    ("DBT_HOST", "DBT_CLOUD_HOST"),
    ("DBT_BASE_URL", "DBT_CLOUD_HOST"),
    ("DBT_ACCOUNT_ID", "DBT_CLOUD_ACCOUNT_ID"),
    ("DBT_CLOUD_JOB_ID", "the job as an argument"),
];

/// An account and where it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) origin: Origin,
    pub(crate) id: u64,
    /// Whether a bare token may go there: a host of dbt's, or one that a flag or variable names.
    trusted: bool,
}

/// The global flags that name the account.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct AccountFlags {
    /// Any page of your dbt account, pasted from the browser: host, account, and project or job if it names one
    #[arg(long, global = true, value_name = "URL", help_heading = "Account of dbt")]
    pub(crate) dbt_url: Option<String>,
    /// Host of your dbt account, as a person gave it
    #[arg(
        long,
        global = true,
        value_name = "HOST",
        help = "Host of your dbt account, such as ab123.us1.dbt.com [env: DBT_CLOUD_HOST]",
        help_heading = "Account of dbt"
    )]
    pub(crate) dbt_host: Option<String>,
    /// Id of the account, as a person gave it
    #[arg(
        long,
        global = true,
        value_name = "ID",
        help = "Id of your dbt account [env: DBT_CLOUD_ACCOUNT_ID]",
        help_heading = "Account of dbt"
    )]
    pub(crate) dbt_account: Option<String>,
}

/// Finds host and account id from flags, pasted addresses (`--dbt-url` and jobs given by URL) and the environment.
/// What is missing, wrong or contradicting is added to `wants`.
pub(crate) fn account(
    flags: &AccountFlags,
    pasted: &[(String, Link)],
    environment: &Environment,
    wants: &mut Wants,
) -> Option<Account> {
    wants.pasted(pasted.iter().map(|(text, _)| text));
    let host = wants.need(
        find_host(flags, pasted, environment),
        Missing {
            what: "the host of your dbt account",
            give: "--dbt-host, --dbt-url with any page of the account, or DBT_CLOUD_HOST, such as ab123.us1.dbt.com",
            ask: Some(Question::DbtHost),
        },
    );
    let id = wants.need(
        find_id(flags, pasted, environment),
        Missing {
            what: "the id of your dbt account",
            give: "--dbt-account, --dbt-url with any page of the account, or DBT_CLOUD_ACCOUNT_ID",
            ask: Some(Question::DbtAccount),
        },
    );
    others(environment, wants);
    let (origin, named) = host?;
    let trusted = named || origin.is_under("dbt.com") || origin.is_under("getdbt.com");
    Some(Account { origin, id: id?, trusted })
}

/// Finds the host alone, for whoever asks for it.
pub(crate) fn dbt_host(
    flags: &AccountFlags,
    pasted: &[(String, Link)],
    environment: &Environment,
) -> Result<Option<Origin>, Failure> {
    Ok(find_host(flags, pasted, environment)?.map(|(origin, _)| origin))
}

/// Finds the account id alone, for what asks dbt nothing.
pub(crate) fn account_id(
    flags: &AccountFlags,
    pasted: &[(String, Link)],
    environment: &Environment,
) -> Result<Option<u64>, Failure> {
    find_id(flags, pasted, environment)
}

impl Account {
    /// Refuses to send a token that belongs to no host to a host that only a pasted address names.
    pub(crate) fn check_bare_token(&self) -> Result<(), Failure> {
        if self.trusted {
            return Ok(());
        }
        let host = self.origin.host();
        Err(Failure::new(
            Code::Refused,
            format!("The dbt token is not sent to {host}: it is no host of dbt's, and only a pasted address names it."),
        )
        .advise(format!(
            "only if you know that {host} is your dbt host: name it with --dbt-host {host}, or set DBT_CLOUD_HOST to it"
        )))
    }
}

/// The links of `--dbt-url` and of jobs, each with the text it came from.
fn links(flags: &AccountFlags, pasted: &[(String, Link)]) -> Result<Vec<Sourced<Link>>, Failure> {
    let mut all = Vec::new();
    if let Some(text) = &flags.dbt_url {
        let link = Link::parse(text).map_err(|bad| {
            Failure::new(Code::InvalidInput, format!("--dbt-url is \"{}\", which cannot be used: {bad}.", shown(text)))
                .advise("copy the address from your browser when a page of your dbt account is open")
        })?;
        all.push(Sourced::new(link, Source::Flag("--dbt-url")));
    }
    all.extend(pasted.iter().map(|(text, link)| Sourced::new(link.clone(), Source::Pasted(text.clone()))));
    Ok(all)
}

/// The host, and whether a flag or variable names it.
fn find_host(
    flags: &AccountFlags,
    pasted: &[(String, Link)],
    environment: &Environment,
) -> Result<Option<(Origin, bool)>, Failure> {
    let read = |text: &str, source: Source| {
        parse_host(text).map(|origin| Sourced::new(origin, source.clone())).map_err(|bad| {
            Failure::new(Code::InvalidInput, format!("{source} is \"{}\", which cannot be used: {bad}.", shown(text)))
                .advise("give the host in your browser's address bar when signed in to dbt, such as ab123.us1.dbt.com")
        })
    };
    let flag = flags.dbt_host.as_deref().map(|text| read(text, Source::Flag("--dbt-host"))).transpose()?;
    let mut variables = Vec::new();
    for name in ["DBT_CLOUD_HOST", "DBT_CLOUD_HOST_URL"] {
        if let Some(text) = environment.get(name) {
            variables.push(read(text, Source::Variable(name))?);
        }
    }
    agree("host", &variables)?;
    let from_links: Vec<Sourced<Origin>> =
        links(flags, pasted)?.into_iter().map(|link| Sourced::new(link.value.origin, link.source)).collect();
    let url_flag = flags.dbt_url.is_some();
    // A flag beats the environment; an address pasted as the job does not, so it has to agree with what is set.
    let named = flag.or_else(|| if url_flag { None } else { variables.first().cloned() });
    let mut stated: Vec<Sourced<Origin>> = named.iter().cloned().collect();
    stated.extend(from_links);
    agree("host", &stated)?;
    Ok(stated.into_iter().next().map(|found| {
        let named = named.is_some() || variables.iter().any(|variable| variable.value == found.value);
        (found.value, named)
    }))
}

fn find_id(flags: &AccountFlags, pasted: &[(String, Link)], environment: &Environment) -> Result<Option<u64>, Failure> {
    let read = |text: &str, source: Source| match text.trim().parse::<u64>() {
        Ok(id) if id > 0 && !text.contains('+') => Ok(Sourced::new(id, source)),
        Ok(_) | Err(_) => Err(Failure::new(
            Code::InvalidInput,
            format!("{source} is \"{text}\", which is no account id: that is a number such as 51234."),
        )
        .advise("the id is the number behind /deploy/ in the address of any page of your dbt account")),
    };
    let flag = flags.dbt_account.as_deref().map(|text| read(text, Source::Flag("--dbt-account"))).transpose()?;
    let name = "DBT_CLOUD_ACCOUNT_ID";
    let variable = environment.get(name).map(|text| read(text, Source::Variable(name))).transpose()?;
    let links: Vec<Sourced<u64>> = links(flags, pasted)?
        .into_iter()
        .filter_map(|link| Some(Sourced::new(link.value.account?, link.source)))
        .collect();
    let from_url_flag = links.iter().any(|link| link.source == Source::Flag("--dbt-url"));
    let mut stated: Vec<Sourced<u64>> = flag.or(if from_url_flag { None } else { variable }).into_iter().collect();
    stated.extend(links);
    agree("account id", &stated)?;
    Ok(stated.first().map(|found| found.value))
}

/// All sources say the same, or the two that do not are named.
fn agree<T: PartialEq + std::fmt::Display>(what: &str, stated: &[Sourced<T>]) -> Result<(), Failure> {
    let Some(first) = stated.first() else { return Ok(()) };
    match stated.iter().find(|other| other.value != first.value) {
        None => Ok(()),
        Some(other) => Err(Failure::new(
            Code::Contradiction,
            format!(
                "Two sources name a different {what} of dbt: {} says {}, {} says {}.",
                first.source, first.value, other.source, other.value
            ),
        )
        .advise("drop or correct one of the two")),
    }
}

fn others(environment: &Environment, wants: &mut Wants) {
    for (theirs, ours) in OTHERS {
        if environment.get(theirs).is_some() && environment.get(ours).is_none() {
            wants.remark(format!("{theirs} is set, but this program reads {ours}"));
        }
    }
}

/// The token for asking dbt, from the environment.
pub(crate) fn api_token(environment: &Environment, vault: &Vault) -> Result<Option<Secret>, Failure> {
    if let Some(typed) = vault.kept(TOKEN_VARIABLES[0]) {
        return Ok(Some(typed));
    }
    let mut found: Option<(&str, &str)> = None;
    for name in TOKEN_VARIABLES {
        let Some(text) = environment.get(name) else { continue };
        match found {
            None => found = Some((name, text)),
            Some((_, first)) if first == text => {}
            Some((first, _)) => {
                return Err(Failure::new(
                    Code::Contradiction,
                    format!("{first} and {name} hold different tokens for dbt."),
                )
                .advise(format!("unset one of them: `unset {name}`")));
            }
        }
    }
    found.map(|(name, text)| admit(vault, text.to_owned(), &Source::Variable(name))).transpose()
}

/// Where the key that is to be stored comes from.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct KeySource {
    /// Read the dbt API key from standard input
    #[arg(long, conflicts_with = "token_file")]
    pub(crate) token_stdin: bool,
    /// Read the dbt API key from this file
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

/// The key to store, with its source: standard input, a file, or the environment.
///
/// Standard input may stay silent for ever, so it is read beside the program: an interruption is still heard.
pub(crate) async fn key_to_store(
    from: &KeySource,
    environment: &Environment,
    vault: &Vault,
) -> Result<Option<Sourced<Secret>>, Failure> {
    let KeySource { token_stdin, token_file } = from.clone();
    if !token_stdin && token_file.is_none() {
        if let Some(typed) = vault.kept(TOKEN_VARIABLES[0]) {
            return Ok(Some(Sourced::new(typed, Source::Typed)));
        }
        let name =
            TOKEN_VARIABLES.into_iter().find(|name| environment.get(name).is_some()).unwrap_or(TOKEN_VARIABLES[0]);
        return Ok(api_token(environment, vault)?.map(|secret| Sourced::new(secret, Source::Variable(name))));
    }
    let source = token_file.as_ref().map_or(Source::Stdin, |path| Source::File(path.display().to_string()));
    let read = tokio::task::spawn_blocking(move || match token_file {
        Some(path) => std::fs::File::open(path).and_then(short),
        None => short(std::io::stdin()),
    });
    match read.await {
        Ok(Ok(text)) => admit(vault, text, &source).map(|secret| Some(Sourced::new(secret, source))),
        Ok(Err(error)) => Err(unreadable(&source, &error)),
        Err(error) => Err(unreadable(&source, &std::io::Error::other(error))),
    }
}

/// A token is short: more is some other file. It is not read to its end, and a piece of it is not taken for the token.
fn short(from: impl std::io::Read) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    from.take(LONGEST_TOKEN + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST_TOKEN {
        return Err(std::io::Error::other(format!("it is longer than any token: more than {LONGEST_TOKEN} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| std::io::Error::other("it is no text"))
}

fn unreadable(source: &Source, error: &std::io::Error) -> Failure {
    Failure::new(Code::InvalidInput, format!("The dbt API key cannot be read from {source}."))
        .cause(error.to_string())
        .advise("give a readable file to --token-file, or pipe the key into --token-stdin")
}

fn admit(vault: &Vault, text: String, source: &Source) -> Result<Secret, Failure> {
    vault.admit(text).map_err(|odd| {
        Failure::new(Code::InvalidInput, format!("What {source} holds is no dbt token: {odd}."))
            .advise("copy the token again from dbt, under Account settings > API tokens")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(flags: &AccountFlags, job: Option<&str>, environment: &Environment) -> Result<Account, Failure> {
        let pasted: Vec<(String, Link)> =
            job.iter().map(|text| ((*text).to_owned(), Link::parse(text).unwrap())).collect();
        let mut wants = Wants::default();
        let found = account(flags, &pasted, environment, &mut wants);
        wants.settle().map(|()| found.unwrap())
    }

    #[test]
    fn a_flag_beats_the_environment_and_a_pasted_job_has_to_agree_with_it() {
        let environment = Environment::of([("DBT_CLOUD_HOST", "ab.us1.dbt.com"), ("DBT_CLOUD_ACCOUNT_ID", "1")]);
        let flags = AccountFlags { dbt_host: Some("cd.eu1.dbt.com".into()), ..AccountFlags::default() };
        assert_eq!(find(&flags, None, &environment).unwrap().origin.host(), "cd.eu1.dbt.com");
        let job = "https://cd.eu1.dbt.com/deploy/1/projects/2/jobs/3";
        let failure = find(&AccountFlags::default(), Some(job), &environment).unwrap_err();
        assert_eq!(failure.code, Code::Contradiction);
        assert!(failure.what.contains("DBT_CLOUD_HOST") && failure.what.contains(job), "{}", failure.what);
        assert_eq!(find(&flags, Some(job), &environment).unwrap().id, 1);
        let url = AccountFlags { dbt_url: Some("https://cd.eu1.dbt.com/deploy/7/".into()), ..AccountFlags::default() };
        assert_eq!(find(&url, None, &environment).unwrap().id, 7);
    }

    #[test]
    fn a_bare_token_goes_to_dbts_domains_or_to_a_host_that_a_flag_or_variable_names() {
        let nothing = Environment::default();
        let trusts = |flags: &AccountFlags, job: Option<&str>, environment: &Environment| {
            find(flags, job, environment).unwrap().check_bare_token().is_ok()
        };
        let dbt = "https://ab.us1.dbt.com/deploy/1/projects/2/jobs/3";
        let strange = "https://dbt.example.com/deploy/1/projects/2/jobs/3";
        assert!(trusts(&AccountFlags::default(), Some(dbt), &nothing));
        assert!(!trusts(&AccountFlags::default(), Some(strange), &nothing));
        let url = AccountFlags { dbt_url: Some(strange.into()), ..AccountFlags::default() };
        assert!(!trusts(&url, None, &nothing));
        assert!(trusts(&url, None, &Environment::of([("DBT_CLOUD_HOST", "dbt.example.com")])));
        let flag = AccountFlags { dbt_host: Some("dbt.example.com".into()), ..AccountFlags::default() };
        assert!(trusts(&flag, Some(strange), &nothing));
    }

    #[test]
    fn a_file_that_is_too_long_or_no_text_is_refused_and_never_cut_to_a_token() {
        let full = "a".repeat(64 << 10);
        assert_eq!(short(full.as_bytes()).unwrap(), full);
        assert!(short(format!("{full}a").as_bytes()).unwrap_err().to_string().contains("longer than any token"));
        assert_eq!(short([0xff].as_slice()).unwrap_err().to_string(), "it is no text");
    }

    #[test]
    fn an_account_id_is_digits() {
        for text in ["0", "+1", "-1", "1e3", "", "99999999999999999999"] {
            let flags = AccountFlags { dbt_account: Some(text.into()), ..AccountFlags::default() };
            let failure = find(&flags, None, &Environment::of([("DBT_CLOUD_HOST", "ab.us1.dbt.com")])).unwrap_err();
            assert_eq!(failure.code, Code::InvalidInput, "{text:?}");
        }
    }

    #[test]
    fn everything_missing_is_named_at_once_with_other_tools_variables() {
        let environment = Environment::of([("DBT_TOKEN", "x")]);
        let failure = find(&AccountFlags::default(), None, &environment).unwrap_err();
        assert_eq!((failure.code, failure.causes.len()), (Code::MissingInput, 3));
        assert!(failure.causes[2].contains("DBT_TOKEN"));
    }

    #[test]
    fn two_variables_with_different_tokens_contradict_each_other() {
        let vault = Vault::default();
        let environment = Environment::of([("DBT_CLOUD_TOKEN", "dbtc_aaaa"), ("DBT_CLOUD_API_KEY", "dbtc_bbbb")]);
        let failure = api_token(&environment, &vault).unwrap_err();
        assert_eq!(failure.code, Code::Contradiction);
        let environment = Environment::of([("DBT_CLOUD_TOKEN", "dbtc_aaaa"), ("DBT_CLOUD_API_KEY", "dbtc_aaaa")]);
        assert_eq!(api_token(&environment, &vault).unwrap().unwrap().reveal(), "dbtc_aaaa");
    }
}
