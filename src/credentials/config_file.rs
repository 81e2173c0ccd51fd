//! Reads `~/.databrickscfg`, an INI file by the rules of the Databricks Go SDK.
//!
//! A custom parser, because INI crates inherit from `[DEFAULT]`, cut secrets at any `#`, or swallow the next section.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::context::Environment;
use crate::failure::{Code, Failure, io_reason};
use crate::nearest::nearest_names;

/// The section with settings; not a profile.
const SETTINGS: &str = "__settings__";

/// The profile used if none is named.
const DEFAULT: &str = "DEFAULT";

/// Sections with their keys, in the order of the file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ini(Vec<(String, BTreeMap<String, String>)>);

/// The number of a line that is not a section, a comment or `key = value`. Its text may be a secret, so it is not kept.
#[derive(Debug, PartialEq, Eq)]
struct BadLine(usize);

impl Ini {
    fn parse(text: &str) -> Result<Ini, BadLine> {
        let mut ini = Ini::default();
        let mut section = DEFAULT.to_owned();
        let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate();
        while let Some((index, line)) = lines.next() {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(rest) = line.strip_prefix('[') {
                let (name, _) = rest.rsplit_once(']').ok_or(BadLine(index + 1))?;
                name.trim().clone_into(&mut section);
                ini.section(&section);
                continue;
            }
            let (key, value) = line.split_once(['=', ':']).ok_or(BadLine(index + 1))?;
            let value = value.trim();
            let value = match value.strip_suffix('\\') {
                // A continued value is not unquoted and keeps its comments, as in the SDK.
                Some(begun) => {
                    let mut joined = begun.to_owned();
                    for (_, next) in lines.by_ref() {
                        let next = next.trim();
                        let (part, goes_on) = next.strip_suffix('\\').map_or((next, false), |part| (part, true));
                        joined += part;
                        if !goes_on {
                            break;
                        }
                    }
                    joined
                }
                None => unquoted(without_comment(value)).to_owned(),
            };
            ini.section(&section).insert(key.trim().to_ascii_lowercase(), value);
        }
        Ok(ini)
    }

    fn section(&mut self, name: &str) -> &mut BTreeMap<String, String> {
        let at = self.0.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            self.0.push((name.to_owned(), BTreeMap::new()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    fn get(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, keys)| keys)
    }
}

/// ` #` and ` ;` start a comment only with the space, so that secrets may contain these characters.
fn without_comment(value: &str) -> &str {
    let end = value.find(" #").or_else(|| value.find(" ;")).unwrap_or(value.len());
    // After `key =` the comment may be the whole value.
    if value.starts_with(['#', ';']) { "" } else { value[..end].trim_end() }
}

fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote))
            && !inner.contains(quote)
        {
            return inner;
        }
    }
    value
}

/// A profile, with its name and file for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) name: String,
    pub(super) file: String,
    /// Keys in lowercase; an empty value counts as absent.
    keys: BTreeMap<String, String>,
}

impl Profile {
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.keys.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// The path of the file: `DATABRICKS_CONFIG_FILE`, or `.databrickscfg` in the home directory.
pub(crate) fn place(environment: &Environment) -> Option<PathBuf> {
    match environment.get("DATABRICKS_CONFIG_FILE") {
        Some(named) => match named.strip_prefix("~/") {
            Some(rest) => Some(environment.home()?.join(rest)),
            None => Some(PathBuf::from(named)),
        },
        None => Some(environment.home()?.join(".databrickscfg")),
    }
}

/// Whether the file is in the home directory, where only the user writes. Any other file may come from a repository.
pub(super) fn is_own(environment: &Environment) -> bool {
    place(environment) == environment.home().map(|home| home.join(".databrickscfg"))
}

/// Reads the profile `name`; an error if there is none. `by` is the flag, variable or setting that named it.
pub(super) fn named(name: &str, by: &str, environment: &Environment) -> Result<Profile, Failure> {
    let wrong = |what: String| Failure::new(Code::InvalidInput, what);
    if name == SETTINGS {
        return Err(wrong(format!("{by} names the profile {SETTINGS}, which is no profile: it holds settings"))
            .advise("name one of the other sections of the file"));
    }
    let Some(path) = place(environment) else {
        return Err(wrong(format!("{by} names the profile {name}, and no home directory to look for it in"))
            .advise("set DATABRICKS_CONFIG_FILE to the file with the profile"));
    };
    let file = path.display().to_string();
    let Some(ini) = read(&path)? else {
        return Err(wrong(format!("{by} names the profile {name}, and there is no file {file}")).advise(
            "make it with `databricks configure`, or set DATABRICKS_CONFIG_FILE to the file with the profile",
        ));
    };
    let Some(keys) = ini.get(name) else {
        let there: Vec<&str> = ini
            .0
            .iter()
            .filter(|(known, keys)| known != SETTINGS && !keys.is_empty())
            .map(|(known, _)| known.as_str())
            .collect();
        let near = nearest_names(name, there.iter().copied());
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        return Err(wrong(format!("{by} names the profile {name}, which {file} does not have"))
            .cause(format!("the profiles there: {there}"))
            .advise("name one of them with -p, or add the section to the file")
            .meant(&near));
    };
    if keys.is_empty() {
        return Err(wrong(format!("{by} names the profile {name}, which is empty in {file}"))
            .advise("add at least host and token to the section"));
    }
    Ok(Profile { name: name.to_owned(), file, keys: keys.clone() })
}

/// Reads the profile used if none is named: the file's `default_profile`, or `DEFAULT`. If there is none, returns the
/// reason.
pub(super) fn default(environment: &Environment) -> Result<Result<Profile, String>, Failure> {
    let Some(path) = place(environment) else { return Ok(Err("no home directory".to_owned())) };
    let file = path.display().to_string();
    let Some(ini) = read(&path)? else { return Ok(Err(format!("there is no file {file}"))) };
    if let Some(chosen) = ini.get(SETTINGS).and_then(|keys| keys.get("default_profile")).filter(|name| !name.is_empty())
    {
        return named(chosen, &format!("default_profile in {file}"), environment).map(Ok);
    }
    match ini.get(DEFAULT) {
        Some(keys) if !keys.is_empty() => Ok(Ok(Profile { name: DEFAULT.to_owned(), file, keys: keys.clone() })),
        Some(_) | None => Ok(Err(format!("{file} has no default_profile and no profile {DEFAULT}"))),
    }
}

/// Name and host of the profiles that have a host; empty if the file cannot be read.
pub(crate) fn profiles(environment: &Environment) -> Vec<(String, String)> {
    let Some(Ok(Some(Ini(sections)))) = place(environment).map(|path| read(&path)) else { return Vec::new() };
    let host = |keys: &BTreeMap<String, String>| keys.get("host").filter(|host| !host.is_empty()).cloned();
    sections.into_iter().filter_map(|(name, keys)| Some((name, host(&keys)?))).collect()
}

fn read(path: &Path) -> Result<Option<Ini>, Failure> {
    let file = path.display();
    let wrong = |cause: String| {
        Failure::new(Code::InvalidInput, format!("{file} cannot be read as a file of Databricks profiles"))
            .cause(cause)
            .advise(format!("correct {file}, or set DATABRICKS_CONFIG_FILE to another file"))
    };
    match super::read_file(path) {
        Ok(text) => Ini::parse(&text).map(Some).map_err(|BadLine(line)| {
            wrong(format!("line {line} is neither [section], nor key = value, nor a comment"))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(io_reason(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(line: &str) -> String {
        Ini::parse(&format!("[p]\n{line}\n")).unwrap().get("p").unwrap()["k"].clone()
    }

    #[test]
    fn values_are_read_by_the_rules_of_the_go_sdk() {
        for (line, expected) in [
            ("k = plain", "plain"),
            ("k=plain", "plain"),
            ("K : plain", "plain"),
            ("k = dapi#h;x", "dapi#h;x"),
            ("k = a;b==", "a;b=="),
            ("k = value # comment", "value"),
            ("k = value ; comment", "value"),
            ("k = value\t# part", "value\t# part"),
            ("k = \"quo ted\"", "quo ted"),
            ("k = 'quoted' # comment", "quoted"),
            ("k = \"half", "\"half"),
            ("k = https://x.example:8443/?o=1", "https://x.example:8443/?o=1"),
            ("k = back\\slash", "back\\slash"),
            ("k = be\\\n  gun \\\n on", "begun on"),
            ("k = # nothing", ""),
            ("k =", ""),
            ("k = first\nk = second", "second"),
        ] {
            assert_eq!(value(line), expected, "{line}");
        }
    }

    #[test]
    fn sections_stand_for_themselves_and_a_continued_value_does_not_swallow_the_next() {
        let text = "\u{feff}host = https://zero\n; c\n[DEFAULT]\r\ntoken = t\r\n[ a b ]\nk = x\\\n\n[c]\nk = y\n[a b]\nl = z\n";
        let ini = Ini::parse(text).unwrap();
        assert_eq!(ini.get("DEFAULT").unwrap().len(), 2);
        assert_eq!(ini.get("a b").unwrap()["k"], "x");
        assert_eq!(ini.get("a b").unwrap()["l"], "z");
        assert_eq!(ini.get("c").unwrap().len(), 1, "nothing is inherited");
        assert_eq!(Ini::parse("[p]\n\ndapi-a-token-alone\n"), Err(BadLine(3)));
        assert_eq!(Ini::parse("[p\n"), Err(BadLine(1)));
    }
}
