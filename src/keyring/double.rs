//! A keyring for tests: it refuses, hangs or forgets as it is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use zeroize::Zeroizing;

use super::{Keyring, KeyringError, Owner, Store, wrapped};
use crate::secret::Sealed;

/// How it behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Good,
    /// Each call ends so.
    Refuses(KeyringError),
    /// A call that begins so ends so, such as `write logins`.
    RefusesTo(&'static str, KeyringError),
    /// No call ends.
    Hangs,
    /// Each call takes this long.
    Takes(Duration),
    /// What is written is changed on the way.
    Garbles,
    /// What is removed stays.
    Clings,
}

pub(crate) struct Double {
    pub(crate) entries: Mutex<BTreeMap<String, String>>,
    /// Each call, in order.
    pub(crate) calls: Mutex<Vec<String>>,
    mood: Mutex<Mood>,
    /// What its calls have taken.
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

    /// From now on it behaves so.
    pub(crate) fn becomes(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// One that holds these tokens.
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

    /// A keyring on it. What hangs is waited for a moment only.
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
                // As long as the test, whose end ends the thread too.
                let _ = never.recv_timeout(Duration::from_hours(1));
                Err(KeyringError::Failed("it woke up".to_owned()))
            }
            Mood::Good | Mood::Garbles | Mood::Clings | Mood::RefusesTo(..) => Ok(()),
        }
    }
}

impl Store for Double {
    fn read(&self, entry: &str) -> Result<Option<Sealed>, KeyringError> {
        self.call("read", entry)?;
        Ok(self.entries.lock().unwrap().get(entry).cloned().map(Sealed::from))
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
