//! dbt tokens: one for requests, and one to store as a secret.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use super::dbt::{NotStored, Stated};
use super::dbt_file::Active;
use super::{Account, AccountFlags, InputErrors, Source, Sourced, text_of};
use crate::context::Environment;
use crate::dbt::Link;
use crate::durations::shown;
use crate::failure::{Code, Failure, io_reason};
use crate::origin::Origin;
use crate::secret::{Secret, Vault};

/// Variables with a dbt token, ours first.
pub(crate) const TOKEN_VARIABLES: [&str; 4] =
    ["DBT_CLOUD_TOKEN", "DBT_CLOUD_API_KEY", "DBT_CLOUD_API_TOKEN", "DBT_CLOUD_SERVICE_TOKEN"];

/// Timeout for reading a pipe that is passed as a file, such as `<(command)`.
const PIPE: Duration = Duration::from_secs(30);

/// Longest token file, in bytes. Tokens are far shorter.
const LONGEST_TOKEN: u64 = 64 << 10;

/// A token that can only be read for an account that it may be sent to.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    secret: Secret,
    source: Source,
    /// The host that it is stored with; `None` for a bare token.
    stored_for: Option<Origin>,
    /// Remarks for the user about where it is stored.
    remarks: Vec<String>,
}

impl Token {
    /// A token without a host.
    pub(crate) fn bare(token: Sourced<Secret>) -> Token {
        let Sourced { value: secret, source } = token;
        Token { secret, source, stored_for: None, remarks: Vec::new() }
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Remarks for the user about where it is stored.
    pub(crate) fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// The kind of token, if its prefix shows it.
    pub(crate) fn kind(&self) -> Option<&'static str> {
        let text = self.secret.reveal();
        [("dbtc_", "service token"), ("dbtu_", "personal token")]
            .into_iter()
            .find(|(start, _)| text.starts_with(start))
            .map(|(_, kind)| kind)
    }

    /// The secret, if it may be sent to the host of this account.
    pub(crate) fn secret_for(&self, account: &Account) -> Result<Secret, Failure> {
        let Some(stored_for) = &self.stored_for else {
            account.check_bare_token(&self.source.to_string())?;
            return Ok(self.secret.clone());
        };
        if *stored_for == account.origin {
            return Ok(self.secret.clone());
        }
        let (source, host) = (&self.source, &account.origin);
        Err(Failure::new(Code::Contradiction, format!("{source} is stored for {stored_for} and is not sent to {host}"))
            .advise("set DBT_CLOUD_TOKEN to a token for that host"))
    }
}

/// The token for requests to dbt: from the environment, or stored in the keyring or dbt's own file for this host and
/// account. Adds the reasons to `errors` if there is none.
pub(crate) fn api_token(
    flags: &AccountFlags,
    pasted: &[(String, Link)],
    environment: &Environment,
    vault: &Vault,
    errors: &mut InputErrors,
) -> Result<Option<Token>, Failure> {
    if let Some(found) = in_environment(environment, vault)? {
        return Ok(Some(Token::bare(found)));
    }
    let stored = Stated::read(flags, pasted, environment).stored(environment).and_then(|active| {
        let Active { host, account: _, token, remarks } = active;
        let Sourced { value, source } = token.map_err(|why| NotStored::of_file(&why))?;
        let secret = vault
            .admit_unchecked(&value)
            .map_err(|odd| NotStored::of_file(&format!("{source} is not a token: {odd}")))?;
        Ok(Token { secret, source, stored_for: Some(host.value), remarks })
    });
    match stored {
        Ok(token) => Ok(Some(token)),
        Err(NotStored::Nowhere(rows)) => {
            for row in rows {
                errors.tried(row.to_string());
            }
            Ok(None)
        }
        Err(NotStored::Several(failure)) => Err(failure),
    }
}

/// The token from the variables, or the typed one.
fn in_environment(environment: &Environment, vault: &Vault) -> Result<Option<Sourced<Secret>>, Failure> {
    if let Some(typed) = vault.kept(TOKEN_VARIABLES[0]) {
        return Ok(Some(Sourced::new(typed, Source::Typed)));
    }
    let mut found: Option<(&'static str, &str)> = None;
    for name in TOKEN_VARIABLES {
        let Some(text) = environment.get(name) else { continue };
        match found {
            None => found = Some((name, text)),
            Some((_, first)) if first == text => {}
            Some((first, _)) => {
                return Err(Failure::new(
                    Code::Contradiction,
                    format!("{first} and {name} hold different tokens for dbt"),
                )
                .advise(format!("unset one of them: `unset {name}`")));
            }
        }
    }
    let Some((name, text)) = found else { return Ok(None) };
    let source = Source::Variable(name);
    Ok(Some(Sourced::new(admit(vault, text.to_owned(), &source)?, source)))
}

/// Where the key that is to be stored comes from.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct KeySource {
    /// Read the dbt API key from stdin
    #[arg(long, conflicts_with = "token_file")]
    pub(crate) token_stdin: bool,
    /// Read the dbt API key from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

impl KeySource {
    /// Whether a flag names the source of the key.
    pub(crate) fn is_given(&self) -> bool {
        let KeySource { token_stdin, token_file } = self;
        *token_stdin || token_file.is_some()
    }
}

/// Reads the key to store, from stdin, a file or the environment. Never from dbt's own file: its token belongs to a
/// user, who would then act in every workflow.
///
/// Stdin may block forever, so it is read on another thread and an interruption is still noticed.
pub(crate) async fn key_to_store(
    from: &KeySource,
    environment: &Environment,
    vault: &Vault,
) -> Result<Option<Sourced<Secret>>, Failure> {
    match given_token(from, "dbt API key", "copy the token again from Account settings > API tokens in dbt", vault)
        .await?
    {
        Some(given) => Ok(Some(given)),
        None => in_environment(environment, vault),
    }
}

/// Reads the token from stdin or a file, if a flag names one. `what` and `advice` are for errors.
pub(crate) async fn given_token(
    from: &KeySource,
    what: &str,
    advice: &str,
    vault: &Vault,
) -> Result<Option<Sourced<Secret>>, Failure> {
    let KeySource { token_stdin, token_file } = from.clone();
    if !token_stdin && token_file.is_none() {
        return Ok(None);
    }
    let source = token_file.as_ref().map_or(Source::Stdin, |path| Source::File(path.display().to_string()));
    // Typing on stdin has no time limit.
    let patience = if token_file.is_some() { PIPE } else { Duration::MAX };
    // Opening a pipe blocks until it has a writer, so it must not happen on the thread that handles signals.
    let read = tokio::task::spawn_blocking(move || match token_file {
        Some(path) => std::fs::File::open(path).and_then(short),
        None => short(std::io::stdin()),
    });
    let Ok(read) = Box::pin(tokio::time::timeout(patience, read)).await else {
        let why = format!("it sent nothing for {}", shown(PIPE));
        return Err(unreadable(what, &source, &std::io::Error::other(why)));
    };
    match read {
        Ok(Ok(text)) => match vault.admit(text) {
            Ok(secret) => Ok(Some(Sourced::new(secret, source))),
            Err(odd) => {
                Err(Failure::new(Code::InvalidInput, format!("{source} is not a {what}: {odd}")).advise(advice))
            }
        },
        Ok(Err(error)) => Err(unreadable(what, &source, &error)),
        Err(error) => Err(unreadable(what, &source, &std::io::Error::other(error))),
    }
}

/// Reads a token. A file that is too long is an error, so that it is neither read to its end nor cut to a token.
fn short(from: impl std::io::Read) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    from.take(LONGEST_TOKEN + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST_TOKEN {
        return Err(std::io::Error::other(format!("it is longer than {LONGEST_TOKEN} bytes")));
    }
    text_of(bytes)
}

fn unreadable(what: &str, source: &Source, error: &std::io::Error) -> Failure {
    Failure::new(Code::InvalidInput, format!("cannot read the {what} from {source}"))
        .cause(io_reason(error))
        .advise("pass a readable file to --token-file, or pipe the token into --token-stdin")
}

fn admit(vault: &Vault, text: String, source: &Source) -> Result<Secret, Failure> {
    vault.admit(text).map_err(|odd| {
        Failure::new(Code::InvalidInput, format!("{source} is not a dbt token: {odd}"))
            .advise("copy the token again from Account settings > API tokens in dbt")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_long_or_no_text_is_refused_and_never_cut_to_a_token() {
        let full = "a".repeat(64 << 10);
        assert_eq!(short(full.as_bytes()).unwrap(), full);
        assert!(short(format!("{full}a").as_bytes()).unwrap_err().to_string().contains("longer than"));
        assert_eq!(short([0xff].as_slice()).unwrap_err().to_string(), "it is not UTF-8");
    }

    #[tokio::test]
    #[expect(clippy::print_stdout, reason = "the line is what the test is for")]
    async fn a_token_file_is_read_in_utf_8_with_one_line_ending_and_refused_with_the_reason_otherwise() {
        let (le, be) = (|unit: u16| unit.to_le_bytes(), |unit: u16| unit.to_be_bytes());
        let wide = |bytes: fn(u16) -> [u8; 2], text: &str| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
        let token = "dbtc_of-file-0123";
        let rows: [(&str, Vec<u8>, Option<&str>); 14] = [
            ("alone", token.into(), None),
            ("LF", format!("{token}\n").into(), None),
            ("CRLF", format!("{token}\r\n").into(), None),
            ("CR", format!("{token}\r").into(), Some("carriage return")),
            ("CR between", format!("{token}\r{token}\r").into(), Some("carriage return")),
            ("CR CR LF", format!("{token}\r\r\n").into(), Some("carriage return")),
            ("two lines", format!("{token}\n\n").into(), Some("more than one line")),
            ("empty", Vec::new(), Some("empty")),
            ("UTF-16LE", wide(le, &format!("\u{feff}{token}\r\n")), Some("UTF-16")),
            ("UTF-16BE", wide(be, &format!("\u{feff}{token}\r\n")), Some("UTF-16")),
            ("UTF-16LE without BOM", wide(le, token), Some("UTF-16")),
            ("UTF-16BE without BOM", wide(be, token), Some("UTF-16")),
            ("UTF-8 with BOM", format!("\u{feff}{token}").into(), Some("invisible")),
            ("Latin-1", [token.as_bytes(), b"\xe4"].concat(), Some("UTF-8")),
        ];
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let count = rows.len();
        let mut wrong = Vec::new();
        for (name, bytes, refused) in rows {
            std::fs::write(&file, bytes).unwrap();
            let from = KeySource { token_stdin: false, token_file: Some(file.clone()) };
            match (given_token(&from, "token", "copy it again", &Vault::default()).await, refused) {
                (Ok(Some(found)), None) if found.value.reveal() == token => {}
                (Err(failure), Some(why)) if failure.code.exit() == 2 => {
                    let said = failure.json().to_string();
                    if !said.contains(why) || said.contains(token) {
                        wrong.push(format!("{name}: {said}"));
                    }
                }
                (other, _) => wrong.push(format!("{name}: {other:?}")),
            }
        }
        println!("token files: {} of {count}", count - wrong.len());
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn two_variables_with_different_tokens_contradict_each_other() {
        let vault = Vault::default();
        let environment = Environment::of([("DBT_CLOUD_TOKEN", "dbtc_aaaa"), ("DBT_CLOUD_API_KEY", "dbtc_bbbb")]);
        let failure = in_environment(&environment, &vault).unwrap_err();
        assert_eq!(failure.code, Code::Contradiction);
        let environment = Environment::of([("DBT_CLOUD_TOKEN", "dbtc_aaaa"), ("DBT_CLOUD_API_KEY", "dbtc_aaaa")]);
        assert_eq!(in_environment(&environment, &vault).unwrap().unwrap().value.reveal(), "dbtc_aaaa");
    }
}
