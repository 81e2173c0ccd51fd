//! A keyring for tests that refuses, hangs or forgets on request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use zeroize::Zeroizing;

use super::{Keyring, KeyringError, Owner, Store, wrapped};
use crate::secret::UncheckedSecret;

/// How the keyring behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Good,
    /// Each call fails with this error.
    Refuses(KeyringError),
    /// A call that starts with this text, such as `write logins`, fails with this error.
    RefusesTo(&'static str, KeyringError),
    /// No call returns.
    Hangs,
    /// Each call takes this long.
    Takes(Duration),
    /// Stored values are changed on the way.
    Garbles,
    /// Removed entries stay.
    Clings,
}

pub(crate) struct Double {
    pub(crate) entries: Mutex<BTreeMap<String, String>>,
    /// All calls, in order.
    pub(crate) calls: Mutex<Vec<String>>,
    mood: Mutex<Mood>,
    /// The total time of all calls, as the clock reports it.
    taken: Mutex<Duration>,
}

impl Double {
    pub(crate) fn new(mood: Mood) -> Arc<Double> {
        Arc::new(Double {
            entries: Mutex::default(),
            calls: Mutex::default(),
            mood: Mutex::new(mood),
            taken: Mutex::default(),
        })
    }

    /// Changes the behavior from now on.
    pub(crate) fn becomes(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// A keyring that holds these tokens.
    pub(crate) fn holding(tokens: &[(Owner, &str)]) -> Arc<Double> {
        let double = Double::new(Mood::Good);
        let index = super::Index { logins: tokens.iter().map(|(owner, _)| owner.clone()).collect() };
        double.put(super::INDEX, &wrapped(index).unwrap());
        for (owner, token) in tokens {
            double.put(&owner.entry(), &wrapped(super::Held { token: Zeroizing::new((*token).to_owned()) }).unwrap());
        }
        double
    }

    pub(crate) fn put(&self, entry: &str, value: &str) {
        self.entries.lock().unwrap().insert(entry.to_owned(), value.to_owned());
    }

    /// A `Keyring` on this double, with a short limit if it hangs.
    pub(crate) fn keyring(self: &Arc<Double>) -> Keyring {
        let hangs = *self.mood.lock().unwrap() == Mood::Hangs;
        let limit = if hangs { Duration::from_millis(20) } else { Duration::from_mins(1) };
        let clock = self.clone();
        Keyring::with_clock(Ok(self.clone()), limit, limit, Box::new(move || *clock.taken.lock().unwrap()))
    }

    fn call(&self, what: &str, entry: &str) -> Result<(), KeyringError> {
        self.calls.lock().unwrap().push(format!("{what} {entry}"));
        let mood = self.mood.lock().unwrap().clone();
        match mood {
            Mood::Refuses(trouble) => Err(trouble),
            Mood::RefusesTo(call, trouble) if format!("{what} {entry}").starts_with(call) => Err(trouble),
            Mood::Takes(time) => {
                *self.taken.lock().unwrap() += time;
                Ok(())
            }
            Mood::Hangs => {
                let (_kept, never) = mpsc::channel::<()>();
                // Longer than the test, whose end also ends this thread.
                let _ = never.recv_timeout(Duration::from_hours(1));
                Err(KeyringError::Failed("it woke up".to_owned()))
            }
            Mood::Good | Mood::Garbles | Mood::Clings | Mood::RefusesTo(..) => Ok(()),
        }
    }
}

impl Store for Double {
    fn read(&self, entry: &str) -> Result<Option<UncheckedSecret>, KeyringError> {
        self.call("read", entry)?;
        Ok(self.entries.lock().unwrap().get(entry).cloned().map(UncheckedSecret::from))
    }

    fn write(&self, entry: &str, value: &str) -> Result<(), KeyringError> {
        self.call("write", entry)?;
        let value = if *self.mood.lock().unwrap() == Mood::Garbles { &value[1..] } else { value };
        self.put(entry, value);
        Ok(())
    }

    fn remove(&self, entry: &str) -> Result<(), KeyringError> {
        self.call("remove", entry)?;
        if *self.mood.lock().unwrap() != Mood::Clings {
            self.entries.lock().unwrap().remove(entry);
        }
        Ok(())
    }
}
