//! A keyring for tests: it refuses, hangs or forgets as it is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use zeroize::Zeroizing;

use super::{Keyring, Owner, Store, Trouble, wrapped};

/// How it behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Good,
    /// Each call ends so.
    Refuses(Trouble),
    /// No call ends.
    Hangs,
    /// What is written is changed on the way.
    Garbles,
    /// What is removed stays.
    Clings,
}

pub(crate) struct Double {
    pub(crate) entries: Mutex<BTreeMap<String, String>>,
    /// Each call, in order.
    pub(crate) calls: Mutex<Vec<String>>,
    mood: Mood,
}

impl Double {
    pub(crate) fn new(mood: Mood) -> Arc<Double> {
        Arc::new(Double { entries: Mutex::default(), calls: Mutex::default(), mood })
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
        let limit = if self.mood == Mood::Hangs { Duration::from_millis(20) } else { Duration::from_mins(1) };
        Keyring::new(Ok(self.clone()), limit, limit)
    }

    fn call(&self, what: &str, entry: &str) -> Result<(), Trouble> {
        self.calls.lock().unwrap().push(format!("{what} {entry}"));
        match &self.mood {
            Mood::Refuses(trouble) => Err(trouble.clone()),
            Mood::Hangs => {
                let (_kept, never) = mpsc::channel::<()>();
                // As long as the test, whose end ends the thread too.
                let _ = never.recv_timeout(Duration::from_hours(1));
                Err(Trouble::Failed("it woke up".to_owned()))
            }
            Mood::Good | Mood::Garbles | Mood::Clings => Ok(()),
        }
    }
}

impl Store for Double {
    fn read(&self, entry: &str) -> Result<Option<Zeroizing<String>>, Trouble> {
        self.call("read", entry)?;
        Ok(self.entries.lock().unwrap().get(entry).cloned().map(Zeroizing::new))
    }

    fn write(&self, entry: &str, value: &str) -> Result<(), Trouble> {
        self.call("write", entry)?;
        let value = if self.mood == Mood::Garbles { &value[1..] } else { value };
        self.put(entry, value);
        Ok(())
    }

    fn remove(&self, entry: &str) -> Result<(), Trouble> {
        self.call("remove", entry)?;
        if self.mood != Mood::Clings {
            self.entries.lock().unwrap().remove(entry);
        }
        Ok(())
    }
}
