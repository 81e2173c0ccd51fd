//! Tokens in the operating system's keyring. Opened only when one is needed, on a thread of its own and with a time limit,
//! since some keyrings wait for a window that nobody sees. What was read once is not read again.

#[cfg(test)]
pub(crate) mod double;
mod system;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// So long a command waits that only wants to know.
const SHORT: Duration = Duration::from_secs(3);

/// So long somebody may take who unlocks the keyring in order to log in.
const LONG: Duration = Duration::from_mins(1);

/// The entry that names the others: keyrings differ in what they let one search for.
const INDEX: &str = "logins";

/// The form of what we store.
const VERSION: u32 = 1;

/// Whose token it is: a token goes to the host that it is stored with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "service", rename_all = "lowercase")]
pub(crate) enum Owner {
    Dbt { host: String, account: u64 },
    Databricks { host: String },
}

impl Owner {
    /// The name of the entry.
    fn entry(&self) -> String {
        match self {
            Owner::Dbt { host, account } => format!("dbt {host} {account}"),
            Owner::Databricks { host } => format!("databricks {host}"),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Dbt { host, account } => write!(formatter, "dbt account {account} at {host}"),
            Owner::Databricks { host } => write!(formatter, "Databricks at {host}"),
        }
    }
}

/// Why a keyring gives or takes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Something forbids opening it.
    Closed(&'static str),
    /// There is none, and why.
    Absent(String),
    /// It wants its password, and nobody gave it.
    Locked(String),
    /// No answer within this time.
    Silent(Duration),
    /// What stands there is not what was written.
    Odd(String),
    /// Anything else, in the system's words.
    Failed(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Closed(why) => write!(formatter, "the keyring is not opened, since {why}"),
            Trouble::Absent(why) => write!(formatter, "there is no keyring here: {why}"),
            Trouble::Locked(why) => write!(formatter, "the keyring is locked: {why}"),
            Trouble::Silent(limit) => write!(
                formatter,
                "the keyring did not answer within {} s: it may wait for its password in a window of its own",
                limit.as_secs_f64()
            ),
            Trouble::Odd(why) => write!(formatter, "the keyring's entry cannot be used: {why}"),
            Trouble::Failed(why) => write!(formatter, "the keyring failed: {why}"),
        }
    }
}

impl Trouble {
    /// Whether a keyring is there that may hold what is looked for.
    pub(crate) fn hides(&self) -> bool {
        match self {
            Trouble::Locked(_) | Trouble::Silent(_) | Trouble::Odd(_) | Trouble::Failed(_) => true,
            Trouble::Closed(_) | Trouble::Absent(_) => false,
        }
    }
}

/// Named values, kept by somebody else. Each call may take as long as it likes.
pub(crate) trait Store: Send + Sync {
    fn read(&self, entry: &str) -> Result<Option<Zeroizing<String>>, Trouble>;
    fn write(&self, entry: &str, value: &str) -> Result<(), Trouble>;
    /// What is not there is removed already.
    fn remove(&self, entry: &str) -> Result<(), Trouble>;
}

/// What stands in the entry of a token. It is wiped with the text that it came from.
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

type Answer = Result<Option<Zeroizing<String>>, Trouble>;

/// The keyring of whoever runs the program.
#[derive(Clone)]
pub(crate) struct Keyring(Rc<Inner>);

struct Inner {
    store: Result<Arc<dyn Store>, &'static str>,
    limit: Duration,
    patience: Duration,
    answers: RefCell<BTreeMap<String, Answer>>,
    /// It did not answer once: nobody waits for it again.
    silent: RefCell<Option<Trouble>>,
}

#[cfg(test)]
impl Default for Keyring {
    fn default() -> Keyring {
        Keyring::closed("this is a test")
    }
}

impl Keyring {
    /// The one of the system. Nothing is opened yet.
    pub(crate) fn of_the_system() -> Keyring {
        Keyring::new(Ok(Arc::new(system::System)), SHORT, LONG)
    }

    /// One that is never opened, for this reason.
    pub(crate) fn closed(why: &'static str) -> Keyring {
        Keyring::new(Err(why), SHORT, LONG)
    }

    fn new(store: Result<Arc<dyn Store>, &'static str>, limit: Duration, patience: Duration) -> Keyring {
        let (answers, silent) = (RefCell::default(), RefCell::default());
        Keyring(Rc::new(Inner { store, limit, patience, answers, silent }))
    }

    /// Everything that a token is stored for.
    pub(crate) fn logins(&self) -> Result<Vec<Owner>, Trouble> {
        index(self.read(INDEX)?)
    }

    /// The token that is stored for this one.
    pub(crate) fn token(&self, owner: &Owner) -> Answer {
        self.read(&owner.entry())?.map(|text| unwrapped::<Held>(&text).map(|held| held.token)).transpose()
    }

    /// Opens it, for as long as a person may take to unlock it.
    pub(crate) async fn open(&self) -> Result<Vec<Owner>, Trouble> {
        let answer = self.patiently(|store| store.read(INDEX)).await;
        self.0.answers.borrow_mut().insert(INDEX.to_owned(), answer.clone());
        index(answer?)
    }

    /// Stores the token, reads it back, and says whether one was there before.
    pub(crate) async fn keep(&self, owner: &Owner, token: &str) -> Result<bool, Trouble> {
        let (entry, owner) = (owner.entry(), owner.clone());
        let held = wrapped(Held { token: Zeroizing::new(token.to_owned()) })?;
        self.0.answers.borrow_mut().clear();
        self.patiently(move |store| {
            let before = store.read(&entry)?.is_some();
            store.write(&entry, &held)?;
            if store.read(&entry)?.as_deref() != Some(&*held) {
                return Err(Trouble::Odd("it took the token, and does not give it back as it was".to_owned()));
            }
            list(store, |logins| {
                if !logins.contains(&owner) {
                    logins.push(owner);
                }
            })?;
            Ok(before)
        })
        .await
    }

    /// Removes the token of this one.
    pub(crate) async fn remove(&self, owner: &Owner) -> Result<(), Trouble> {
        let (entry, owner) = (owner.entry(), owner.clone());
        self.0.answers.borrow_mut().clear();
        self.patiently(move |store| {
            store.remove(&entry)?;
            if store.read(&entry)?.is_some() {
                return Err(Trouble::Odd("it removed the token, and still gives it".to_owned()));
            }
            list(store, |logins| logins.retain(|known| *known != owner))
        })
        .await
    }

    fn read(&self, entry: &str) -> Answer {
        let Inner { store, limit, patience: _, answers, silent } = &*self.0;
        if let Some(known) = answers.borrow().get(entry) {
            return known.clone();
        }
        if let Some(trouble) = &*silent.borrow() {
            return Err(trouble.clone());
        }
        let store = store.clone().map_err(Trouble::Closed)?;
        let name = entry.to_owned();
        let (tell, hear) = mpsc::channel();
        let thread = std::thread::Builder::new().name("keyring".to_owned());
        // Nobody may listen any more when the answer comes.
        let begun = thread.spawn(move || drop(tell.send(store.read(&name))));
        let answer = match begun {
            Err(error) => Err(Trouble::Failed(error.to_string())),
            Ok(_) => hear.recv_timeout(*limit).unwrap_or_else(|error| {
                Err(match error {
                    mpsc::RecvTimeoutError::Timeout => Trouble::Silent(*limit),
                    mpsc::RecvTimeoutError::Disconnected => Trouble::Failed("it broke off".to_owned()),
                })
            }),
        };
        if let Err(trouble @ Trouble::Silent(_)) = &answer {
            *silent.borrow_mut() = Some(trouble.clone());
        }
        answers.borrow_mut().insert(entry.to_owned(), answer.clone());
        answer
    }

    /// Beside the program, so that a signal is still heard.
    async fn patiently<T: Send + 'static>(
        &self,
        act: impl FnOnce(&dyn Store) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Trouble> {
        let Inner { store, limit: _, patience, answers: _, silent: _ } = &*self.0;
        let store = store.clone().map_err(Trouble::Closed)?;
        let acting = tokio::task::spawn_blocking(move || act(&*store));
        match tokio::time::timeout(*patience, acting).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => Err(Trouble::Failed(error.to_string())),
            Err(_) => Err(Trouble::Silent(*patience)),
        }
    }
}

/// Changes the list of logins, if that changes anything.
fn list(store: &dyn Store, change: impl FnOnce(&mut Vec<Owner>)) -> Result<(), Trouble> {
    let before = index(store.read(INDEX)?)?;
    let mut after = before.clone();
    change(&mut after);
    if after == before {
        return Ok(());
    }
    if after.is_empty() {
        return store.remove(INDEX);
    }
    after.sort();
    store.write(INDEX, &wrapped(Index { logins: after })?)
}

fn index(text: Option<Zeroizing<String>>) -> Result<Vec<Owner>, Trouble> {
    text.map_or(Ok(Vec::new()), |text| unwrapped::<Index>(&text).map(|index| index.logins))
}

fn wrapped(content: impl Serialize) -> Result<Zeroizing<String>, Trouble> {
    let text = serde_json::to_string(&Envelope { version: VERSION, content });
    text.map(Zeroizing::new).map_err(|error| Trouble::Failed(error.to_string()))
}

/// Nothing of the text is quoted: it may be a token.
fn unwrapped<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, Trouble> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let odd = || Trouble::Odd("it is not of the form that this program writes".to_owned());
    let Version { version } = serde_json::from_str(text).map_err(|_| odd())?;
    if version != VERSION {
        return Err(Trouble::Odd(format!("another version of this program wrote it, in form {version}")));
    }
    let Envelope { version: _, content } = serde_json::from_str(text).map_err(|_| odd())?;
    Ok(content)
}

#[cfg(test)]
mod tests;
