//! Tokens from the Databricks CLI: `databricks auth token`. The user has signed in with it.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::OnceCell;

use super::Tried;
use super::databricks::ATTRIBUTES;
use crate::context::Wall;
use crate::durations::shown;
use crate::http::{IssuedToken, Issuer, NoToken, TokenFuture, shorten};
use crate::secret::Vault;

/// Timeout: a login that waits for a browser never ends.
const PATIENCE: Duration = Duration::from_secs(30);

/// Finds the CLI in the absolute directories of PATH. Relative and empty entries mean the current directory, where
/// another user may have put a program.
pub(super) fn on_path(path: &str) -> Option<PathBuf> {
    let name = if cfg!(windows) { "databricks.exe" } else { "databricks" };
    std::env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|file| runs(file))
}

#[cfg(unix)]
fn runs(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(file).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn runs(file: &Path) -> bool {
    file.is_file()
}

/// Gets tokens from the CLI, for a profile or for a host.
pub(super) struct FromCli {
    pub(super) program: PathBuf,
    pub(super) profile: Option<String>,
    pub(super) host: String,
    /// The profiles of this host. `databricks` does not choose between several.
    pub(super) profiles: Vec<String>,
    pub(super) tried: Vec<Tried>,
    pub(super) vault: Vault,
    pub(super) wall: Wall,
    /// Whether the CLI has `--force-refresh`; determined when first needed.
    pub(super) forces: OnceCell<bool>,
}

/// First version, major and minor, with `--force-refresh`.
const FORCES_SINCE: (u64, u64) = (0, 296);

/// Output of `databricks version --output json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    major: u64,
    minor: u64,
}

#[derive(Deserialize)]
struct TokenResponse {
    access_token: String,
    expiry: Option<String>,
}

impl Issuer for FromCli {
    fn issue(&self, refused: bool) -> TokenFuture<'_> {
        Box::pin(self.ask(refused))
    }
}

impl FromCli {
    /// Forces a renewal only for a rejected token: two processes that renew at once race for one refresh token.
    async fn ask(&self, refused: bool) -> Result<IssuedToken, NoToken> {
        let FromCli { program: _, profile, host, profiles: _, tried: _, vault, wall, forces } = self;
        let (flag, value) = profile.as_ref().map_or(("--host", host), |profile| ("--profile", profile));
        let mut words = vec!["auth", "token", flag, value];
        if refused && *forces.get_or_init(|| self.forces()).await {
            words.push("--force-refresh");
        }
        let output = match tokio::time::timeout(PATIENCE, self.run(&words)).await {
            Err(_) => return Err(self.none(&format!("it did not exit within {}", shown(PATIENCE)))),
            Ok(Err(error)) => return Err(self.none(&error.to_string())),
            Ok(Ok(output)) => output,
        };
        if !output.status.success() {
            return Err(self.none(&shorten(&String::from_utf8_lossy(&output.stderr))));
        }
        // The output may contain part of a token, so do not quote it.
        let response: TokenResponse = serde_json::from_slice(&output.stdout)
            .map_err(|_| self.none("it printed no JSON with access_token; it may be older than 0.207"))?;
        let secret = vault
            .admit(response.access_token)
            .map_err(|odd| self.none(&format!("its access_token is not a token: {odd}")))?;
        let life = response
            .expiry
            .and_then(|text| text.parse::<jiff::Timestamp>().ok())
            .map(|at| at.duration_since(wall.now()).try_into().unwrap_or(Duration::ZERO));
        Ok(IssuedToken { secret, life })
    }

    async fn run(&self, words: &[&str]) -> std::io::Result<Output> {
        let mut command = tokio::process::Command::new(&self.program);
        // CLI versions before 1.0 prefer these variables to the flag.
        for variable in ATTRIBUTES.map(|(_, variable)| variable).into_iter().chain(["DATABRICKS_CONFIG_PROFILE"]) {
            command.env_remove(variable);
        }
        command.args(words).stdin(Stdio::null()).kill_on_drop(true).output().await
    }

    async fn forces(&self) -> bool {
        let Ok(Ok(output)) = tokio::time::timeout(PATIENCE, self.run(&["version", "--output", "json"])).await else {
            return false;
        };
        serde_json::from_slice::<Version>(&output.stdout)
            .is_ok_and(|Version { major, minor }| (major, minor) >= FORCES_SINCE)
    }

    fn none(&self, why: &str) -> NoToken {
        let (flag, value) = self.profile.as_ref().map_or(("--host", &self.host), |profile| ("--profile", profile));
        NoToken {
            message: format!("`databricks auth token {flag} {value}` ({}): {why}", self.program.display()),
            is_retryable: false,
            net: None,
            retry_after: None,
            advice: match (&self.profile, self.profiles.as_slice()) {
                (None, several @ [_, _, ..]) => format!("pick a profile for this host with -p: {}", several.join(", ")),
                (Some(_) | None, _) => {
                    format!("log in with `databricks auth login {flag} {value}`, or set DATABRICKS_TOKEN")
                }
            },
            tried: self.tried.iter().map(ToString::to_string).collect(),
        }
    }
}
