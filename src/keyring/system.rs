//! The system's keyring: Keychain on macOS, Credential Manager on Windows, Secret Service elsewhere.

use ::keyring::{Entry, Error};
use zeroize::Zeroizing;

use super::{KeyringError, Store};
use crate::secret::UncheckedSecret;

/// The service name of all our entries.
const SERVICE: &str = "dbtrigger";

pub(super) struct System;

impl Store for System {
    fn read(&self, entry: &str) -> Result<Option<UncheckedSecret>, KeyringError> {
        match open(entry)?.get_secret() {
            Ok(bytes) => String::from_utf8(bytes).map(|text| Some(UncheckedSecret::from(text))).map_err(|error| {
                drop(Zeroizing::new(error.into_bytes()));
                KeyringError::corrupt(entry, "it is not text")
            }),
            Err(Error::NoEntry) => Ok(None),
            Err(error) => Err(trouble(&error)),
        }
    }

    fn write(&self, entry: &str, value: &str) -> Result<(), KeyringError> {
        // As bytes: Windows would store a string as UTF-16, and allows 2,560 bytes.
        open(entry)?.set_secret(value.as_bytes()).map_err(|error| trouble(&error))
    }

    fn remove(&self, entry: &str) -> Result<(), KeyringError> {
        match open(entry)?.delete_credential() {
            Ok(()) | Err(Error::NoEntry) => Ok(()),
            Err(error) => Err(trouble(&error)),
        }
    }
}

/// How the user can delete an entry with the system's own tools.
pub(super) fn deletion(entry: &str) -> String {
    if cfg!(target_os = "macos") {
        format!(
            "delete the entry \"{SERVICE}\" with the account \"{entry}\" in Keychain Access, or run `security delete-generic-password -s {SERVICE} -a '{entry}'`"
        )
    } else if cfg!(windows) {
        format!("delete \"{entry}.{SERVICE}\" in the Credential Manager, under Windows Credentials")
    } else {
        format!(
            "run `secret-tool clear service {SERVICE} username '{entry}'`, or delete that entry in Passwords and Keys (seahorse)"
        )
    }
}

fn open(entry: &str) -> Result<Entry, KeyringError> {
    // `Entry::new` reports a missing keyring without its cause.
    if let Err(error) = Entry::store_status() {
        return Err(KeyringError::Absent(reason(error)));
    }
    Entry::new(SERVICE, entry).map_err(|error| trouble(&error))
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library may come to know more errors, which have words of their own"
)]
fn trouble(error: &Error) -> KeyringError {
    match error {
        Error::NoStorageAccess(why) => KeyringError::Locked(why.to_string()),
        Error::NoDefaultStore => KeyringError::Absent("the system has none".to_owned()),
        Error::TooLong(what, most) => KeyringError::Failed(format!("its {what} takes {most} bytes at most")),
        _ => KeyringError::Failed("the keyring service reported an error".to_owned()),
    }
}

/// The error's cause, as one line.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is behind others says no more")]
fn reason(error: &Error) -> String {
    match error {
        Error::PlatformFailure(why) | Error::NoStorageAccess(why) => why.to_string(),
        other => other.to_string(),
    }
}
