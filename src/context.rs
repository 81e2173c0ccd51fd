//! The process environment: variables, terminals, clocks, entropy, directories.
//!
//! It is read once at the start, and `commands` passes the parts on. No other file asks the operating system for
//! these.

mod variables;

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::rc::Rc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use self::variables::VARIABLES;
use crate::keyring::Keyring;
use crate::placeholder::Placeholder;

/// Variables that hold a secret: the output filter masks all of them, used or not.
const SECRETS: [&str; 13] = [
    "DATABRICKS_TOKEN",
    "DATABRICKS_CLIENT_SECRET",
    "DATABRICKS_PASSWORD",
    "DATABRICKS_OIDC_TOKEN",
    "ARM_CLIENT_SECRET",
    "GOOGLE_CREDENTIALS",
    "DBT_CLOUD_TOKEN",
    "DBT_CLOUD_API_KEY",
    "DBT_CLOUD_API_TOKEN",
    "DBT_CLOUD_SERVICE_TOKEN",
    "DBT_TOKEN",
    "DBT_API_KEY",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
];

/// Proxy URLs, which may contain a password.
const PROXIES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// The surroundings of a process.
pub(crate) struct Context {
    pub(crate) environment: Environment,
    pub(crate) stdin_is_terminal: bool,
    pub(crate) stdout_is_terminal: bool,
    pub(crate) stderr_is_terminal: bool,
    pub(crate) wall: Wall,
    /// The time zone of printed times.
    pub(crate) zone: TimeZone,
    pub(crate) entropy: Entropy,
    /// The path of this program, if known.
    #[cfg(feature = "sandbox")]
    pub(crate) program: Option<PathBuf>,
}

impl Context {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the time zone")]
    pub(crate) fn look() -> Context {
        Context {
            environment: Environment::look(),
            stdin_is_terminal: std::io::stdin().is_terminal(),
            stdout_is_terminal: std::io::stdout().is_terminal(),
            stderr_is_terminal: std::io::stderr().is_terminal(),
            wall: Wall::of_the_system(),
            zone: TimeZone::try_system().unwrap_or(TimeZone::UTC),
            entropy: Entropy::of_the_system(),
            #[cfg(feature = "sandbox")]
            program: std::env::current_exe().ok(),
        }
    }

    /// Whether the user can be prompted.
    pub(crate) fn may_ask(&self, no_input: bool) -> bool {
        self.stdin_is_terminal && self.stderr_is_terminal && !self.environment.is_ci() && !no_input
    }
}

/// The environment variables. An empty variable counts as unset.
#[derive(Clone)]
#[cfg_attr(test, derive(Default))]
pub(crate) struct Environment {
    variables: Rc<BTreeMap<String, String>>,
    keyring: Keyring,
    /// The Databricks profile from the command line. It is kept here because it decides which variables count.
    profile: Option<Rc<str>>,
}

impl fmt::Debug for Environment {
    /// Names only: values may be tokens.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.variables.keys()).finish()
    }
}

impl Environment {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    fn look() -> Environment {
        let known =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let variables = Rc::new(known.collect());
        let looked = Environment { variables, keyring: Keyring::of_the_system(), profile: None };
        let keyring = looked.its_keyring();
        Environment { keyring, ..looked }
    }

    /// In CI the keyring is closed: the environment has all credentials, and there is no user to unlock it.
    fn its_keyring(&self) -> Keyring {
        if self.is_ci() {
            Keyring::closed("CI")
        } else if self.get("DBTRIGGER_NO_KEYRING").is_some() {
            Keyring::closed("DBTRIGGER_NO_KEYRING")
        } else {
            self.keyring.clone()
        }
    }

    /// The same with another keyring, which is still closed if the variables say so.
    #[cfg(test)]
    pub(crate) fn with_keyring(&self, keyring: Keyring) -> Environment {
        let with = Environment { keyring, ..self.clone() };
        Environment { keyring: with.its_keyring(), ..with }
    }

    /// Where `auth login` stores tokens.
    pub(crate) fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    #[cfg(test)]
    pub(crate) fn of<const N: usize>(variables: [(&str, &str); N]) -> Environment {
        Environment::default().with(variables.map(|(name, value)| (name.to_owned(), value.to_owned())))
    }

    #[cfg(test)]
    pub(crate) fn with(&self, variables: impl IntoIterator<Item = (String, String)>) -> Environment {
        let mut all = (*self.variables).clone();
        all.extend(variables);
        Environment { variables: Rc::new(all), keyring: self.keyring.clone(), profile: self.profile.clone() }
    }

    /// The same with the profile from `-p`.
    pub(crate) fn with_profile(&self, profile: Option<&str>) -> Environment {
        let (variables, keyring) = (self.variables.clone(), self.keyring.clone());
        Environment { variables, keyring, profile: profile.map(Rc::from) }
    }

    /// The same with a variable that the user just entered.
    pub(crate) fn with_answer(&self, name: &str, value: &str) -> Environment {
        let mut all = (*self.variables).clone();
        all.insert(name.to_owned(), value.to_owned());
        Environment { variables: Rc::new(all), keyring: self.keyring.clone(), profile: self.profile.clone() }
    }

    /// The profile from `-p`.
    pub(crate) fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }

    /// The value of a variable, which must be in [`VARIABLES`], the source of its documentation.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        debug_assert!(
            VARIABLES.iter().any(|(_, group)| group.iter().any(|(known, _)| *known == name)),
            "{name} is read, and src/context/variables.rs does not have it"
        );
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether we run in CI: `CI` is set and not false.
    pub(crate) fn is_ci(&self) -> bool {
        self.get("CI").is_some_and(|value| !matches!(value.trim().to_ascii_lowercase().as_str(), "" | "false" | "0"))
    }

    /// Every secret in the environment with its variable, used or not. Unexpanded references to secrets are left
    /// out.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = (&'static str, Cow<'_, str>)> {
        let whole = SECRETS.into_iter().filter_map(|name| Some((name, Cow::Borrowed(self.get(name)?.trim()))));
        let passwords = PROXIES.into_iter().filter_map(|name| {
            let (_, rest) = self.variables.get(name)?.split_once("://")?;
            let (user, _) = rest.split_once('@')?;
            Some((name, Cow::Owned(user.split_once(':')?.1.to_owned())))
        });
        whole.chain(passwords).filter(|(_, value)| Placeholder::find(value).is_none())
    }

    /// The names of all variables that are set.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str)
    }

    /// The home folder, where other tools keep their configuration.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        self.get("HOME").or_else(|| self.get("USERPROFILE")).map(PathBuf::from)
    }

    /// The folder for data worth keeping but not essential (the journal of triggers).
    pub(crate) fn state_folder(&self) -> Option<PathBuf> {
        self.folder("XDG_STATE_HOME", ".local/state")
    }

    /// The folder for data that can be recreated: names of jobs for completions, the sandbox's Python packages.
    pub(crate) fn cache_folder(&self) -> Option<PathBuf> {
        self.folder("XDG_CACHE_HOME", ".cache")
    }

    fn folder(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        let base = match self.get(variable).map(PathBuf::from).filter(|path| path.is_absolute()) {
            Some(base) => base,
            None if cfg!(windows) => PathBuf::from(self.get("LOCALAPPDATA")?),
            None => PathBuf::from(self.get("HOME")?).join(below_home),
        };
        Some(base.join("dbtrigger"))
    }
}

/// The wall clock. Simulations pass their own.
#[derive(Clone)]
pub(crate) struct Wall(Rc<dyn Fn() -> Timestamp>);

impl Wall {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    fn of_the_system() -> Wall {
        Wall(Rc::new(Timestamp::now))
    }

    /// A clock driven by the caller.
    #[cfg(test)]
    pub(crate) fn of(clock: impl Fn() -> Timestamp + 'static) -> Wall {
        Wall(Rc::new(clock))
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.0)()
    }
}

/// The source of randomness: the operating system, or a seed in simulations.
#[derive(Clone)]
pub(crate) struct Entropy(Rc<RefCell<Fill>>);

type Fill = dyn FnMut(&mut [u8]);

impl Entropy {
    fn of_the_system() -> Entropy {
        Entropy(Rc::new(RefCell::new(|buffer: &mut [u8]| {
            // Without randomness there are no safe keys, so do not continue.
            getrandom::fill(buffer).expect("the operating system gives random bytes");
        })))
    }

    /// A repeatable source (the generator `SplitMix64`), for simulations.
    #[cfg(test)]
    pub(crate) fn seeded(seed: u64) -> Entropy {
        let mut state = seed;
        Entropy(Rc::new(RefCell::new(move |buffer: &mut [u8]| {
            for byte in buffer {
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut mixed = state;
                mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                *byte = (mixed ^ (mixed >> 31)).to_le_bytes()[0];
            }
        })))
    }

    pub(crate) fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut buffer = [0; N];
        (self.0.borrow_mut())(&mut buffer);
        buffer
    }

    /// A random name of 26 letters and digits (130 bits), usable in keys and tokens.
    pub(crate) fn name(&self) -> String {
        const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        self.bytes::<26>().iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect()
    }

    /// A uniform value from 0 to 1.
    pub(crate) fn fraction(&self) -> f64 {
        f64::from(u32::from_le_bytes(self.bytes::<4>())) / f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::variables::BY_LIBRARIES;
    use super::*;

    #[test]
    fn every_variable_that_is_documented_is_read() {
        let mut code = String::new();
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if !path.ends_with("context/variables.rs") {
                    let text = std::fs::read_to_string(&path).unwrap_or_default();
                    code += text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
                }
            }
        }
        let ours = VARIABLES.iter().filter(|(title, _)| *title != BY_LIBRARIES.0);
        let unread: Vec<&str> = ours
            .flat_map(|(_, group)| group.iter())
            .map(|(name, _)| *name)
            .filter(|name| !code.contains(&format!("\"{name}\"")))
            .collect();
        assert!(unread.is_empty(), "{unread:?}");
        let mut seen = std::collections::BTreeSet::new();
        assert!(VARIABLES.iter().all(|(_, group)| group.iter().all(|(name, _)| seen.insert(*name))), "one twice");
    }

    #[test]
    fn every_variable_whose_name_says_so_is_known_as_a_secret() {
        let says_so =
            |name: &str| ["TOKEN", "SECRET", "PASSWORD", "KEY", "CREDENTIALS"].iter().any(|word| name.contains(word));
        // The audience and the URL are not secret, and the switch is about the keyring.
        let others = ["DATABRICKS_TOKEN_AUDIENCE", "ACTIONS_ID_TOKEN_REQUEST_URL", "DBTRIGGER_NO_KEYRING"];
        for (name, _) in VARIABLES.iter().flat_map(|(_, group)| group.iter()) {
            assert_eq!(SECRETS.contains(name), says_so(name) && !others.contains(name), "{name}");
        }
        let environment = Environment::of([
            ("HTTPS_PROXY", "http://ana:pass-0123@proxy.example:3128"),
            ("DBT_TOKEN", "$(DBT_TOKEN)"),
            ("DATABRICKS_TOKEN", "dapi-0123\n"),
        ]);
        let secrets: Vec<_> = environment.secrets().map(|(name, value)| (name, value.into_owned())).collect();
        assert_eq!(secrets, [("DATABRICKS_TOKEN", "dapi-0123".to_owned()), ("HTTPS_PROXY", "pass-0123".to_owned())]);
    }

    #[test]
    #[should_panic(expected = "src/context/variables.rs does not have it")]
    fn a_variable_that_is_not_documented_cannot_be_read() {
        let _ = Environment::default().get("DBTRIGGER_SECRET_SWITCH");
    }

    #[test]
    fn questions_need_two_terminals_and_nobody_who_forbids_them() {
        for (stdin, stderr, ci, no_input, may) in [
            (true, true, "", false, true),
            (false, true, "", false, false),
            (true, false, "", false, false),
            (true, true, "true", false, false),
            (true, true, "1", false, false),
            (true, true, "woodpecker", false, false),
            (true, true, "false", false, true),
            (true, true, "False", false, true),
            (true, true, "0", false, true),
            (true, true, " ", false, true),
            (true, true, "", true, false),
        ] {
            let context = Context {
                environment: Environment::of([("CI", ci)]),
                stdin_is_terminal: stdin,
                stderr_is_terminal: stderr,
                ..Context::look()
            };
            assert_eq!(context.may_ask(no_input), may, "{stdin} {stderr} {ci:?} {no_input}");
        }
    }
}
