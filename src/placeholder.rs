//! References to variables that were not expanded.

use std::fmt;

/// The syntax of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placeholder {
    /// `$(NAME)`.
    Azure,
    /// `$NAME` or `${NAME}`.
    Shell,
    /// `%NAME%`.
    Windows,
    /// `${{ NAME }}` or `{{ NAME }}`.
    Template,
}

impl Placeholder {
    /// The first reference in a credential, a host or an ID, which never contain these characters themselves.
    pub(crate) fn find(text: &str) -> Option<Placeholder> {
        let between = |start: &str, end: &str| {
            text.split_once(start).and_then(|(_, rest)| rest.split_once(end)).map(|(name, _)| name)
        };
        if between("{{", "}}").is_some() {
            return Some(Placeholder::Template);
        }
        if between("$(", ")").is_some_and(is_name) {
            return Some(Placeholder::Azure);
        }
        if between("${", "}").is_some_and(is_name) {
            return Some(Placeholder::Shell);
        }
        let bare = text.trim();
        let bare = bare.split_once("://").map_or(bare, |(_, rest)| rest);
        if bare.strip_prefix('$').is_some_and(|rest| rest.split(['/', ':']).next().is_some_and(is_name)) {
            return Some(Placeholder::Shell);
        }
        let inner = bare.strip_prefix('%').and_then(|rest| rest.split_once('%')).map(|(name, _)| name);
        // `%D0%B0` is an encoded letter.
        inner.is_some_and(|name| name.len() > 2 && is_name(name)).then_some(Placeholder::Windows)
    }

    /// The same for a text that may contain such characters: it must be exactly one reference. `{{NAME}}` is
    /// Databricks' own.
    pub(crate) fn of_whole(text: &str) -> Option<Placeholder> {
        let wrapped = |start: &str, end: &str| {
            text.strip_prefix(start).and_then(|rest| rest.strip_suffix(end)).filter(|name| !name.contains(end))
        };
        if wrapped("${{", "}}").is_some() {
            return Some(Placeholder::Template);
        }
        if wrapped("$(", ")").is_some_and(is_name) {
            return Some(Placeholder::Azure);
        }
        if wrapped("${", "}").or_else(|| text.strip_prefix('$')).is_some_and(is_name) {
            return Some(Placeholder::Shell);
        }
        wrapped("%", "%").is_some_and(is_name).then_some(Placeholder::Windows)
    }
}

/// Azure's names have dots, too.
fn is_name(text: &str) -> bool {
    text.starts_with(|sign: char| sign.is_ascii_alphabetic() || sign == '_')
        && text.chars().all(|sign| sign.is_ascii_alphanumeric() || matches!(sign, '_' | '.' | '-'))
}

impl fmt::Display for Placeholder {
    /// What it is, and the likely cause.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Placeholder::Azure => {
                "an unexpanded Azure Pipelines variable, $(NAME): it is not defined for this job, or not mapped under env"
            }
            Placeholder::Shell => {
                "an unexpanded variable, $NAME or ${NAME}: it is in single quotes, or no shell reads it"
            }
            Placeholder::Windows => {
                "an unexpanded cmd.exe variable, %NAME%: it is not set, or cmd.exe does not run the line"
            }
            Placeholder::Template => {
                "an unexpanded CI expression, {{ NAME }}: CI expands it only in its own files"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_ci_or_a_shell_was_to_replace_is_told_from_values() {
        for (text, found, whole) in [
            ("$(DATABRICKS_TOKEN)", Some(Placeholder::Azure), true),
            ("$(group.name)", Some(Placeholder::Azure), true),
            ("${DBT_CLOUD_TOKEN}", Some(Placeholder::Shell), true),
            ("$DBT_CLOUD_TOKEN\n", Some(Placeholder::Shell), false),
            ("%DBT_CLOUD_TOKEN%", Some(Placeholder::Windows), true),
            ("${{ secrets.DBT_CLOUD_TOKEN }}", Some(Placeholder::Template), true),
            ("{{ dbt_token }}", Some(Placeholder::Template), false),
            ("https://$(DATABRICKS_HOST)/", Some(Placeholder::Azure), false),
            ("https://$DBT_HOST/api", Some(Placeholder::Shell), false),
            ("https://%DBT_HOST%", Some(Placeholder::Windows), false),
            ("Bearer $(TOKEN)", Some(Placeholder::Azure), false),
            ("ab123.us1.dbt.com", None, false),
            ("https://x.example/%D0%B0/%2f", None, false),
            ("dbtc_aB3-xyz/+0123456789==", None, false),
            ("$5", None, false),
            ("", None, false),
        ] {
            assert_eq!((Placeholder::find(text), Placeholder::of_whole(text).is_some()), (found, whole), "{text:?}");
        }
    }
}
