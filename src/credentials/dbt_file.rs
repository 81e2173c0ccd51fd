//! Reads `~/.dbt/dbt_cloud.yml`, the user's settings for dbt's own tools. Never writes it.

use std::fs::File;

use serde::Deserialize;

use super::{Source, Sourced};
use crate::context::Environment;
use crate::dbt::parse_host;
use crate::origin::{Origin, shown};
use crate::secret::UncheckedSecret;
use crate::yaml;

/// The file's name in the list of sources that were tried.
pub(super) const NAME: &str = "dbt_cloud.yml";

/// A stored login: the active project of the file, or a login in the keyring.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) host: Sourced<Origin>,
    /// Missing in older files.
    pub(super) account: Option<Sourced<u64>>,
    /// Unsealed by the caller that uses it. `Err`: why there is none.
    pub(super) token: Result<Sourced<UncheckedSecret>, String>,
    /// Remarks for the user.
    pub(super) remarks: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Document {
    context: Option<Context>,
    projects: Option<Vec<Project>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct Context {
    active_host: Option<String>,
    active_project: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct Project {
    project_id: Option<String>,
    account_id: Option<String>,
    account_host: Option<String>,
    token_value: Option<UncheckedSecret>,
    /// The token's key in older files.
    api_key: Option<UncheckedSecret>,
}

/// Returns the active project, or why there is none. An unusable file is not an error, because the user did not name
/// it; the reason is listed if a value is missing.
pub(super) fn active(environment: &Environment) -> Result<Active, String> {
    let home = environment.home().ok_or("no home directory")?;
    let path = home.join(".dbt").join(NAME);
    let name = path.display().to_string();
    let opened = match super::open_file(&path) {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(format!("no file {name}")),
        Err(error) => return Err(format!("cannot read {name}: {}", crate::failure::io_reason(&error))),
    };
    let exposed =
        others_read(&opened).then(|| format!("{name} holds a token and is readable by others: chmod 600 {name}"));
    let Document { context, projects } = yaml::read(opened).map_err(|bad| format!("cannot read {name}: {bad}"))?;
    let Context { active_host, active_project } = context.unwrap_or_default();
    let wanted = filled(active_project).ok_or_else(|| format!("{name} has no active-project in its context"))?;
    let projects = projects.unwrap_or_default();
    let there: Vec<String> = projects.iter().filter_map(|project| filled(project.project_id.clone())).collect();
    let mut of_this_id =
        projects.into_iter().filter(|project| filled(project.project_id.clone()).as_ref() == Some(&wanted));
    let project = match (of_this_id.next(), of_this_id.next()) {
        (Some(project), None) => project,
        (Some(_), Some(_)) => return Err(format!("{name} has several projects {wanted}, the active one")),
        (None, _) => {
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            return Err(format!("{name} has no project {wanted}, the active one; projects: {there}"));
        }
    };
    let Project { project_id: _, account_id, account_host, token_value, api_key } = project;
    let at = |key| Source::DbtFile { key, project: wanted.clone(), file: name.clone() };
    let host = host(account_host, at("account-host"))?;
    if let Some(text) = filled(active_host) {
        let meant = origin(&text, &format!("active-host in {name}"))?;
        if meant != host.value {
            return Err(format!("active-host in {name} is {meant}, {}", host.stated()));
        }
    }
    let account = filled(account_id).map(|text| account(&text, at("account-id"))).transpose()?;
    let newer = trimmed(token_value).map(|text| Sourced::new(text, at("token-value")));
    let token = newer.or_else(|| trimmed(api_key).map(|text| Sourced::new(text, at("api-key"))));
    let token = token.ok_or_else(|| format!("project {wanted} in {name} has no token-value"));
    Ok(Active { host, account, token, remarks: exposed.into_iter().collect() })
}

fn filled(text: Option<String>) -> Option<String> {
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn trimmed(text: Option<UncheckedSecret>) -> Option<UncheckedSecret> {
    text.map(|text| UncheckedSecret::from(text.reveal().trim().to_owned())).filter(|text| !text.reveal().is_empty())
}

fn origin(text: &str, source: &str) -> Result<Origin, String> {
    parse_host(text).map_err(|bad| format!("{source} \"{}\" is invalid: {bad}", shown(text)))
}

fn host(text: Option<String>, source: Source) -> Result<Sourced<Origin>, String> {
    let text = filled(text).ok_or_else(|| format!("no {source}"))?;
    Ok(Sourced::new(origin(&text, &source.to_string())?, source))
}

fn account(text: &str, source: Source) -> Result<Sourced<u64>, String> {
    let id = text.parse::<u64>().ok().filter(|id| *id > 0 && text.bytes().all(|byte| byte.is_ascii_digit()));
    match id {
        Some(id) => Ok(Sourced::new(id, source)),
        None => Err(format!("{source} is not an account ID")),
    }
}

#[cfg(unix)]
fn others_read(file: &File) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|about| about.permissions().mode() & 0o044 != 0)
}

#[cfg(not(unix))]
fn others_read(_: &File) -> bool {
    false
}

#[cfg(test)]
mod tests;
