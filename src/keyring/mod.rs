//! Tokens in the operating system's keyring. It is opened only when a token is needed, on a separate thread and
//! with a time limit, since some keyrings wait for a window that the user does not see. Each entry is read once per
//! command, and all reads together have one time limit.

#[cfg(test)]
pub(crate) mod double;
mod system;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::secret::UncheckedSecret;

/// Time limit of all reads of a command.
const SHORT: Duration = Duration::from_secs(3);

/// Time limit while the user unlocks the keyring to log in.
const LONG: Duration = Duration::from_mins(1);

/// The entry that lists the others: keyrings differ in what can be searched.
const INDEX: &str = "logins";

/// Format version of stored entries.
const VERSION: u32 = 1;

/// What a token is for: it is only sent to the host that it is stored with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "service", rename_all = "lowercase")]
pub(crate) enum Owner {
    Dbt {
        host: String,
        account: u64,
    },
    Databricks {
        host: String,
        /// The workspace, if the host serves several. Older entries have none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        workspace: Option<String>,
    },
}

impl Owner {
    fn entry(&self) -> String {
        match self {
            Owner::Dbt { host, account } => format!("dbt {host} {account}"),
            Owner::Databricks { host, workspace: None } => format!("databricks {host}"),
            Owner::Databricks { host, workspace: Some(id) } => format!("databricks {host} {id}"),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Dbt { host, account } => write!(formatter, "dbt account {account} at {host}"),
            Owner::Databricks { host, workspace: None } => write!(formatter, "Databricks at {host}"),
            Owner::Databricks { host, workspace: Some(id) } => {
                write!(formatter, "Databricks workspace {id} at {host}")
            }
        }
    }
}

/// Why a keyring operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyringError {
    /// This environment variable forbids opening it.
    #[error("the keyring is not used: {0} is set")]
    Closed(&'static str),
    /// With the reason.
    #[error("no keyring on this system")]
    Absent(String),
    /// It requires its password, and the user did not enter it.
    #[error("the keyring is locked")]
    Locked(String),
    #[error("the keyring did not respond within {} s: it may be asking for its password in a separate window", .0.as_secs_f64())]
    TimedOut(Duration),
    /// The entry's content is not what dbtrigger wrote.
    #[error("keyring entry \"{entry}\" is unusable: {why}")]
    Corrupt { entry: String, why: String },
    #[error("keyring entry \"{entry}\" was written by a newer version of dbtrigger (format {form})")]
    Newer { entry: String, form: u32 },
    /// Any other error, as the system words it.
    #[error("the keyring failed: {0}")]
    Failed(String),
}

impl KeyringError {
    /// Whether there is a keyring that may hold the entry.
    pub(crate) fn hides(&self) -> bool {
        !matches!(self, KeyringError::Closed(_) | KeyringError::Absent(_))
    }

    /// Whether the error is about the content of one entry, not the keyring.
    pub(crate) fn is_of_an_entry(&self) -> bool {
        matches!(self, KeyringError::Corrupt { entry: _, why: _ } | KeyringError::Newer { entry: _, form: _ })
    }

    /// The system's own words for a missing or locked keyring, which messages leave out.
    pub(crate) fn system_text(&self) -> Option<&str> {
        if let KeyringError::Absent(why) | KeyringError::Locked(why) = self { Some(why) } else { None }
    }

    /// What the user can do, if anything.
    pub(crate) fn remedy(&self) -> Option<String> {
        match self {
            KeyringError::Closed(variable) => {
                Some(format!("{variable} closes the keyring: unset it to use the keyring"))
            }
            KeyringError::Locked(_) | KeyringError::TimedOut(_) => Some(
                "unlock the keyring (for example, sign in to the desktop), then run the same command again".to_owned(),
            ),
            KeyringError::Corrupt { entry, why: _ } => Some(system::deletion(entry)),
            KeyringError::Newer { entry, form: _ } => Some(format!("update dbtrigger, or {}", system::deletion(entry))),
            KeyringError::Absent(_) | KeyringError::Failed(_) => None,
        }
    }

    fn corrupt(entry: &str, why: &str) -> KeyringError {
        KeyringError::Corrupt { entry: entry.to_owned(), why: why.to_owned() }
    }
}

/// A store of named values. Its calls may block.
pub(crate) trait Store: Send + Sync {
    fn read(&self, entry: &str) -> Result<Option<UncheckedSecret>, KeyringError>;
    fn write(&self, entry: &str, value: &str) -> Result<(), KeyringError>;
    /// Succeeds if the entry does not exist.
    fn remove(&self, entry: &str) -> Result<(), KeyringError>;
}

/// The content of an entry.
#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    version: u32,
    #[serde(flatten)]
    content: T,
}

#[derive(Serialize, Deserialize)]
struct Held {
    token: Zeroizing<String>,
}

#[derive(Serialize, Deserialize)]
struct Index {
    logins: Vec<Owner>,
}

type Answer = Result<Option<UncheckedSecret>, KeyringError>;

/// Returns the time since a fixed moment.
type Clock = Box<dyn Fn() -> Duration>;

/// The user's keyring.
#[derive(Clone)]
pub(crate) struct Keyring(Rc<Inner>);

struct Inner {
    store: Result<Arc<dyn Store>, &'static str>,
    /// `limit` is for all reads together, `waited` the time that they have taken.
    limit: Duration,
    waited: Cell<Duration>,
    clock: Clock,
    patience: Duration,
    answers: RefCell<BTreeMap<String, Answer>>,
    /// Set after a timeout: later reads do not wait again.
    timed_out: RefCell<Option<KeyringError>>,
}

#[cfg(test)]
impl Default for Keyring {
    fn default() -> Keyring {
        Keyring::closed("A_TEST")
    }
}

impl Keyring {
    /// The system's keyring, not opened yet.
    pub(crate) fn of_the_system() -> Keyring {
        Keyring::new(Ok(Arc::new(system::System)), SHORT, LONG)
    }

    /// A keyring that is never opened, since this environment variable is set.
    pub(crate) fn closed(variable: &'static str) -> Keyring {
        Keyring::new(Err(variable), SHORT, LONG)
    }

    fn new(store: Result<Arc<dyn Store>, &'static str>, limit: Duration, patience: Duration) -> Keyring {
        let begun = Instant::now();
        Keyring::with_clock(store, limit, patience, Box::new(move || begun.elapsed()))
    }

    fn with_clock(
        store: Result<Arc<dyn Store>, &'static str>,
        limit: Duration,
        patience: Duration,
        clock: Clock,
    ) -> Keyring {
        let (answers, timed_out, waited) = (RefCell::default(), RefCell::default(), Cell::default());
        Keyring(Rc::new(Inner { store, limit, waited, clock, patience, answers, timed_out }))
    }

    /// Whether nothing can be stored here, as far as that is known without opening it.
    pub(crate) fn is_known_unusable(&self) -> bool {
        let Inner { store, limit: _, waited: _, clock: _, patience: _, answers, timed_out: _ } = &*self.0;
        let hides = |answer: &Answer| answer.as_ref().err().is_none_or(KeyringError::hides);
        store.is_err() || !answers.borrow().values().all(hides)
    }

    /// Everything that a token is stored for.
    pub(crate) fn logins(&self) -> Result<Vec<Owner>, KeyringError> {
        index(self.read(INDEX))
    }

    /// The token stored for this owner.
    pub(crate) fn token(&self, owner: &Owner) -> Answer {
        let entry = owner.entry();
        let held = self.read(&entry)?.map(|text| unwrapped::<Held>(&entry, &text)).transpose()?;
        Ok(held.map(|Held { token }| UncheckedSecret::from(token)))
    }

    /// Opens it, with time for the user to unlock it.
    pub(crate) async fn open(&self) -> Result<Vec<Owner>, KeyringError> {
        let answer = self.run_with_timeout(|store| store.read(INDEX)).await;
        self.0.answers.borrow_mut().insert(INDEX.to_owned(), answer.clone());
        index(answer)
    }

    /// Stores the token, reads it back, and returns whether there was one before. The list is written first: a
    /// listed token that does not exist is ignored, but an unlisted one would never be found. A damaged list is
    /// replaced.
    pub(crate) async fn keep(&self, owner: &Owner, token: &str) -> Result<bool, KeyringError> {
        let (entry, owner) = (owner.entry(), owner.clone());
        let held = wrapped(Held { token: Zeroizing::new(token.to_owned()) })?;
        self.0.answers.borrow_mut().clear();
        self.run_with_timeout(move |store| {
            let before = is_there(store, &entry)?;
            let listed = match index(store.read(INDEX)) {
                Err(KeyringError::Corrupt { entry: _, why: _ }) => Vec::new(),
                listed => listed?,
            };
            if !listed.contains(&owner) {
                write_list(store, [listed.as_slice(), &[owner]].concat())?;
            }
            let stored = store.write(&entry, &held).and_then(|()| match store.read(&entry)? {
                Some(back) if *back.reveal() == **held => Ok(()),
                Some(_) | None => Err(KeyringError::corrupt(&entry, "it returned a different token than was stored")),
            });
            if stored.is_err() && !before && store.remove(&entry).is_ok() {
                // If this fails too, the list names a token that does not exist, which is harmless.
                drop(write_list(store, listed));
            }
            stored.map(|()| before)
        })
        .await
    }

    /// Removes this owner's token, and returns whether there was one. The list is not changed.
    pub(crate) async fn remove(&self, owner: &Owner) -> Result<bool, KeyringError> {
        let entry = owner.entry();
        self.0.answers.borrow_mut().clear();
        self.run_with_timeout(move |store| {
            if !is_there(store, &entry)? {
                return Ok(false);
            }
            store.remove(&entry)?;
            if is_there(store, &entry)? {
                return Err(KeyringError::corrupt(&entry, "it still exists after removal"));
            }
            Ok(true)
        })
        .await
    }

    /// Removes these owners from the list.
    pub(crate) async fn unlist(&self, owners: &[Owner]) -> Result<(), KeyringError> {
        let owners = owners.to_vec();
        self.0.answers.borrow_mut().clear();
        self.run_with_timeout(move |store| {
            let before = index(store.read(INDEX))?;
            let after: Vec<Owner> = before.iter().filter(|known| !owners.contains(known)).cloned().collect();
            if after == before { Ok(()) } else { write_list(store, after) }
        })
        .await
    }

    fn read(&self, entry: &str) -> Answer {
        let Inner { store, limit, waited, clock, patience: _, answers, timed_out } = &*self.0;
        if let Some(known) = answers.borrow().get(entry) {
            return known.clone();
        }
        if let Some(trouble) = &*timed_out.borrow() {
            return Err(trouble.clone());
        }
        let store = store.clone().map_err(KeyringError::Closed)?;
        // Signals are not handled while this blocks.
        let left = limit.saturating_sub(waited.get());
        if left.is_zero() {
            return Err(KeyringError::TimedOut(*limit));
        }
        let since = clock();
        let name = entry.to_owned();
        let (tell, hear) = mpsc::channel();
        let thread = std::thread::Builder::new().name("keyring".to_owned());
        // The receiver may have timed out.
        let begun = thread.spawn(move || drop(tell.send(store.read(&name))));
        let answer = match begun {
            Err(error) => Err(KeyringError::Failed(error.to_string())),
            Ok(_) => hear.recv_timeout(left).unwrap_or_else(|error| {
                Err(match error {
                    mpsc::RecvTimeoutError::Timeout => KeyringError::TimedOut(*limit),
                    mpsc::RecvTimeoutError::Disconnected => KeyringError::Failed("it broke off".to_owned()),
                })
            }),
        };
        waited.set(waited.get() + clock().saturating_sub(since));
        if let Err(trouble @ KeyringError::TimedOut(_)) = &answer {
            *timed_out.borrow_mut() = Some(trouble.clone());
        }
        answers.borrow_mut().insert(entry.to_owned(), answer.clone());
        answer
    }

    /// Runs a blocking operation on another thread, so that signals are still handled.
    async fn run_with_timeout<T: Send + 'static>(
        &self,
        act: impl FnOnce(&dyn Store) -> Result<T, KeyringError> + Send + 'static,
    ) -> Result<T, KeyringError> {
        let Inner { store, limit: _, waited: _, clock: _, patience, answers: _, timed_out: _ } = &*self.0;
        let store = store.clone().map_err(KeyringError::Closed)?;
        let acting = tokio::task::spawn_blocking(move || act(&*store));
        match tokio::time::timeout(*patience, acting).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => Err(KeyringError::Failed(error.to_string())),
            Err(_) => Err(KeyringError::TimedOut(*patience)),
        }
    }
}

/// Whether the entry exists, readable or not.
fn is_there(store: &dyn Store, entry: &str) -> Result<bool, KeyringError> {
    match store.read(entry) {
        Err(trouble) if trouble.is_of_an_entry() => Ok(true),
        answer => answer.map(|text| text.is_some()),
    }
}

fn write_list(store: &dyn Store, mut logins: Vec<Owner>) -> Result<(), KeyringError> {
    if logins.is_empty() {
        return store.remove(INDEX);
    }
    logins.sort();
    store.write(INDEX, &wrapped(Index { logins })?)
}

fn index(answer: Answer) -> Result<Vec<Owner>, KeyringError> {
    answer?.map_or(Ok(Vec::new()), |text| unwrapped::<Index>(INDEX, &text).map(|index| index.logins))
}

fn wrapped(content: impl Serialize) -> Result<Zeroizing<String>, KeyringError> {
    let text = serde_json::to_string(&Envelope { version: VERSION, content });
    text.map(Zeroizing::new).map_err(|error| KeyringError::Failed(error.to_string()))
}

/// Never quotes the text in errors: it may be a token.
fn unwrapped<T: for<'de> Deserialize<'de>>(entry: &str, text: &UncheckedSecret) -> Result<T, KeyringError> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let corrupt = || KeyringError::corrupt(entry, "dbtrigger did not write it");
    let Version { version } = serde_json::from_str(text.reveal()).map_err(|_| corrupt())?;
    if version > VERSION {
        return Err(KeyringError::Newer { entry: entry.to_owned(), form: version });
    }
    if version < VERSION {
        return Err(corrupt());
    }
    let Envelope { version: _, content } = serde_json::from_str(text.reveal()).map_err(|_| corrupt())?;
    Ok(content)
}

#[cfg(test)]
mod tests;
