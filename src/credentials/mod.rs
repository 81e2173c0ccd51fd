//! The identity for each service, with the source of each value.

mod cli;
mod config_file;
mod databricks;
mod dbt;
mod dbt_file;
mod dbt_token;
mod input_errors;
mod oauth;
mod stored_login;

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use crate::failure::{Code, Failure};
use crate::keyring::Owner;
use crate::placeholder::Placeholder;
use crate::secret::InvalidSecret;

pub(crate) use config_file::{place as profiles_file, profiles};
pub(crate) use databricks::host::{check_credential_for_host, read_host as read_workspace_host};
pub(crate) use databricks::workspace::{Workspace, in_query as workspace_in_query, named_workspace};
pub(crate) use databricks::{AuthMethod, Connection, Databricks, Tried, check_host, databricks, databricks_host};
pub(crate) use dbt::{
    Account, AccountFlags, account, account_id, dbt_host, named_account, named_host_and_id, read_account_id,
    read_host as read_dbt_host,
};
pub(crate) use dbt_token::{KeySource, TOKEN_VARIABLES, Token, api_token, given_token, key_to_store};
pub(crate) use input_errors::{InputErrors, MissingInput, SignIn};

/// Where a value comes from, as shown in messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A flag, by name.
    Flag(&'static str),
    /// An environment variable, by name.
    Variable(&'static str),
    /// A URL pasted as an argument.
    Pasted(String),
    /// The user's answer at a prompt.
    Typed,
    /// The keyring, with the login's key.
    Keyring(Owner),
    /// Standard input.
    Stdin,
    /// A file, by path.
    File(String),
    /// A key of a Databricks profile.
    Profile { key: &'static str, profile: String, file: String },
    /// A key of a project in dbt's own file.
    DbtFile { key: &'static str, project: String, file: String },
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag(name) => write!(formatter, "{name}"),
            Source::Variable(name) => write!(formatter, "{name}"),
            Source::Pasted(text) => write!(formatter, "the URL {text}"),
            Source::Typed => formatter.write_str("your answer"),
            Source::Keyring(owner) => write!(formatter, "the login for {owner} in the keyring"),
            Source::Stdin => formatter.write_str("--token-stdin"),
            Source::File(path) => write!(formatter, "the file {path}"),
            Source::Profile { key, profile, file } => write!(formatter, "{key} of profile {profile} in {file}"),
            Source::DbtFile { key, project, file } => write!(formatter, "{key} of project {project} in {file}"),
        }
    }
}

/// A value with its source.
#[derive(Clone, Debug)]
pub(crate) struct Sourced<T> {
    pub(crate) value: T,
    pub(crate) source: Source,
}

impl<T> Sourced<T> {
    pub(crate) fn new(value: T, source: Source) -> Sourced<T> {
        Sourced { value, source }
    }
}

impl<T: fmt::Display> Sourced<T> {
    /// The value with its source: `DBT_CLOUD_HOST is A`, `B in --dbt-url`.
    fn stated(&self) -> String {
        let Sourced { value, source } = self;
        match source {
            Source::Flag("--dbt-url") | Source::Pasted(_) => format!("{value} in {source}"),
            Source::Flag(_)
            | Source::Variable(_)
            | Source::Typed
            | Source::Keyring(_)
            | Source::Stdin
            | Source::File(_)
            | Source::Profile { .. }
            | Source::DbtFile { .. } => format!("{source} is {value}"),
        }
    }
}

/// The failure for two sources that name different things; `what` is their plural.
fn two_different<T: fmt::Display>(what: &str, first: &Sourced<T>, second: &Sourced<T>) -> Failure {
    let both = format!("two different {what}: {}, {}", first.stated(), second.stated());
    let failure = Failure::new(Code::Contradiction, both);
    match (&first.source, &second.source) {
        (Source::Variable(name), Source::Profile { profile, .. })
        | (Source::Profile { profile, .. }, Source::Variable(name)) => failure.advise(format!(
            "to use the profile: `unset {name}`, or pass `-p {profile}`, which overrides the environment"
        )),
        (Source::Variable(name), other) | (other, Source::Variable(name)) => {
            failure.advise(format!("to use {other}: `unset {name}`"))
        }
        (_, _) => failure.advise("remove or correct one of them"),
    }
}

/// Opens a regular file. Fails for a pipe or device, which could block forever.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    let about = std::fs::metadata(path)?;
    // Users pass it to mean "no file".
    if about.is_file() || path == Path::new("/dev/null") {
        return File::open(path);
    }
    Err(io::Error::other(if about.is_dir() { "it is a directory" } else { "it is a pipe or device, not a file" }))
}

/// Reads a regular file as UTF-8.
fn read_file(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    open_file(path)?.read_to_end(&mut bytes)?;
    text_of(bytes)
}

/// Decodes UTF-8; the error says what the bytes are instead.
fn text_of(bytes: Vec<u8>) -> io::Result<String> {
    let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) || bytes.contains(&0);
    if utf16 {
        return Err(io::Error::other(InvalidSecret::Utf16.to_string()));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))
}

/// Returns the text, or an error if it is a placeholder that was not expanded.
fn expanded(text: Sourced<String>) -> Result<Sourced<String>, Failure> {
    match Placeholder::find(&text.value) {
        None => Ok(text),
        Some(placeholder) => {
            // Do not quote the text: the rest of it may be a token.
            Err(Failure::new(Code::InvalidInput, format!("{} holds {placeholder}", text.source))
                .advise(format!("set {} to its value, or remove it", text.source)))
        }
    }
}

#[cfg(test)]
mod tests;
