//! Global flags that printed commands must repeat, because the program cannot find the values itself.

use std::ffi::OsString;
use std::path::Path;

use crate::credentials::AccountFlags;
use crate::failure::{Ended, Failure, Hint};
use crate::text::quoted;

/// The global flags for profile, CA bundle and dbt account, with their values.
#[derive(Clone, Debug, Default)]
pub(crate) struct GlobalFlags(Vec<(&'static str, String)>);

/// Flags that select the dbt account; `--dbt-url` includes the other two.
const OF_DBT: [&str; 3] = ["--dbt-url", "--dbt-host", "--dbt-account"];

impl GlobalFlags {
    /// `profile`: value of `-p`.
    pub(crate) fn of(profile: Option<&str>, ca_bundle: Option<&Path>, account: &AccountFlags) -> GlobalFlags {
        let AccountFlags { dbt_url, dbt_host, dbt_account } = account;
        let [url, host, id] = OF_DBT;
        let all = [
            ("-p", profile.map(ToOwned::to_owned)),
            ("--ca-bundle", ca_bundle.map(|file| file.to_string_lossy().into_owned())),
            (url, dbt_url.clone()),
            (host, dbt_host.clone()),
            (id, dbt_account.clone()),
        ];
        GlobalFlags(all.into_iter().filter_map(|(flag, value)| Some((flag, value?))).collect())
    }

    /// Adds the flags to a dbtrigger command, unless it has them.
    pub(crate) fn command(&self, command: &str) -> String {
        let Some(rest) = command.strip_prefix("dbtrigger ") else { return command.to_owned() };
        let says = |flag: &str| rest.split(' ').any(|word| word == flag);
        let [url, _, _] = OF_DBT;
        let is_said = |flag: &str| match flag {
            // Two sources for different accounts would contradict each other.
            _ if flag == url => OF_DBT.into_iter().any(says),
            _ if OF_DBT.contains(&flag) => says(url) || says(flag),
            _ => says(flag),
        };
        let flags = self.0.iter().filter(|(flag, _)| !is_said(flag));
        let words = flags.flat_map(|(flag, value)| [(*flag).to_owned(), quoted(value)]);
        let words: Vec<String> = ["dbtrigger".to_owned()].into_iter().chain(words).chain([rest.to_owned()]).collect();
        words.join(" ")
    }

    /// Same, for a next step.
    pub(crate) fn hint(&self, hint: Hint) -> Hint {
        match hint {
            Hint::Run { label, command } => Hint::run(label, self.command(&command)),
            hint @ (Hint::Anyway { .. } | Hint::Add(_) | Hint::Do(_) | Hint::Against(_)) => hint,
        }
    }

    /// Same, for all next steps of a failure.
    pub(crate) fn failure(&self, failure: Failure) -> Failure {
        let hints = failure.hints.into_iter().map(|hint| self.hint(hint)).collect();
        Failure { hints, ..failure }
    }

    /// Same, for the failure of a command; `arguments` is the command line that failed.
    pub(crate) fn complete<R>(&self, mut ended: Ended<R>, arguments: &[OsString]) -> Ended<R> {
        if let Some(failure) = &mut ended.failure {
            let hints = std::mem::take(&mut failure.hints).into_iter().map(|hint| match hint {
                Hint::Add(flag) => Hint::Anyway { flag, command: with_flag(arguments, flag) },
                hint @ (Hint::Run { .. } | Hint::Anyway { .. } | Hint::Do(_) | Hint::Against(_)) => self.hint(hint),
            });
            failure.hints = hints.collect();
        }
        ended
    }
}

/// The command line with one more flag, before any `--`.
fn with_flag(arguments: &[OsString], flag: &str) -> String {
    let mut words: Vec<String> = arguments.iter().skip(1).map(|word| quoted(&word.to_string_lossy())).collect();
    let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
    words.insert(end, flag.to_owned());
    format!("dbtrigger {}", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Code;

    fn arguments(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn account(dbt_url: Option<&str>, dbt_host: Option<&str>, dbt_account: Option<&str>) -> AccountFlags {
        let [dbt_url, dbt_host, dbt_account] = [dbt_url, dbt_host, dbt_account].map(|text| text.map(str::to_owned));
        AccountFlags { dbt_url, dbt_host, dbt_account }
    }

    #[test]
    fn an_advised_command_says_what_this_one_was_given_and_nothing_else_does() {
        let failure =
            || Failure::new(Code::NotFound, "x").run("x", "dbtrigger deploy-notebook").run("y", "ls").advise("look");
        let hints = |profile, ca_bundle: Option<&str>, account: &AccountFlags| {
            let global_flags = GlobalFlags::of(profile, ca_bundle.map(Path::new), account);
            let ended = global_flags.complete(Ended::<()>::from(failure()), &[]);
            ended
                .failure
                .unwrap()
                .hints
                .iter()
                .map(|hint| hint.command().unwrap_or("none").to_owned())
                .collect::<Vec<_>>()
        };
        let none = AccountFlags::default();
        assert_eq!(hints(Some("work"), None, &none), ["dbtrigger -p work deploy-notebook", "ls", "none"]);
        assert_eq!(hints(Some("it's"), None, &none)[0], "dbtrigger -p \"it's\" deploy-notebook");
        assert_eq!(hints(Some(""), None, &none)[0], "dbtrigger -p '' deploy-notebook");
        assert_eq!(hints(None, None, &none)[0], "dbtrigger deploy-notebook");
        assert_eq!(
            hints(Some("dev"), Some("/etc/ca.pem"), &account(None, Some("h.example"), Some("7")))[0],
            "dbtrigger -p dev --ca-bundle /etc/ca.pem --dbt-host h.example --dbt-account 7 deploy-notebook"
        );
    }

    #[test]
    fn what_a_command_says_itself_is_not_said_twice_nor_contradicted() {
        let command = |account: &AccountFlags, command| GlobalFlags::of(None, None, account).command(command);
        let both = account(None, Some("h"), Some("7"));
        assert_eq!(command(&both, "dbtrigger x --dbt-account 8"), "dbtrigger --dbt-host h x --dbt-account 8");
        assert_eq!(command(&both, "dbtrigger x --dbt-url u"), "dbtrigger x --dbt-url u");
        let url = account(Some("u"), None, None);
        assert_eq!(command(&url, "dbtrigger x --dbt-account 8"), "dbtrigger x --dbt-account 8");
        assert_eq!(command(&url, "dbtrigger x"), "dbtrigger --dbt-url u x");
    }

    #[test]
    fn the_flag_that_consents_comes_with_the_whole_line() {
        let refused = || Failure::new(Code::Refused, "x").unless("--force");
        let hint = |line: &str| {
            let global_flags = GlobalFlags::of(Some("work"), None, &AccountFlags::default());
            let ended = global_flags.complete(Ended::<()>::from(refused()), &arguments(line));
            ended.failure.unwrap().hints[0].command().map(str::to_owned)
        };
        assert_eq!(
            hint("/bin/dbtrigger -p work deploy-notebook --scope a:b"),
            Some("dbtrigger -p work deploy-notebook --scope a:b --force".to_owned())
        );
        assert_eq!(hint("dbtrigger x -- y"), Some("dbtrigger x --force -- y".to_owned()));
        assert_eq!(refused().hints[0].to_string(), "to overwrite it, add --force");
    }
}
