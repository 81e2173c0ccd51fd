//! Finds a Python with `requests`, or makes one: a private virtual environment, built once and reused.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;

use super::execute::Group;

/// Oldest Python version that the notebook driver supports.
const OLDEST: (u32, u32) = (3, 8);

/// Limit for a probe, which may import `requests` from a cold disk.
const PROBE_LIMIT: Duration = Duration::from_secs(30);

/// Limit for creating the environment and for downloading five small packages.
const MAKE_LIMIT: Duration = Duration::from_mins(5);

const PROBE: &str = "\
import json, sys
try:
    import requests
    found = True
except Exception:
    found = False
print(json.dumps({'executable': sys.executable, 'version': sys.version_info[:2], 'requests': found,
                  'import_from': [entry for entry in sys.path if entry]}))
";

/// Where to look for Python. Passed in, because this module reads no environment variables.
#[derive(Clone, Debug, Default)]
pub(in crate::sandbox) struct PythonSearch {
    /// Use this interpreter only.
    pub(in crate::sandbox) python: Option<PathBuf>,
    /// The `PATH` to search for `python3` and `python`.
    pub(in crate::sandbox) search_path: Option<OsString>,
    /// Folder of the private environment; `None` makes none.
    pub(in crate::sandbox) environment: Option<PathBuf>,
}

/// An interpreter that can run notebooks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(in crate::sandbox) struct Python {
    /// The real file, resolved through shims and links of version managers.
    pub(in crate::sandbox) executable: PathBuf,
    version: (u32, u32),
    requests: bool,
    /// `sys.path`, so an isolated Python also finds packages in the user's site folder.
    pub(in crate::sandbox) import_from: Vec<String>,
}

/// Returns the first interpreter with `requests`, otherwise the private environment, made on first use.
///
/// # Errors
///
/// A message for the user: what was tried and what to install.
pub(in crate::sandbox) async fn prepare(search: &PythonSearch, say: impl Fn(&str)) -> Result<Python, String> {
    let Some(base) = find(search).await else {
        return Err(match &search.python {
            Some(python) => format!(
                "Notebook tasks need Python {}.{} or newer, and {} is none.",
                OLDEST.0,
                OLDEST.1,
                python.display()
            ),
            None => format!(
                "Notebook tasks need Python {}.{} or newer, and neither `python3` nor `python` on the PATH is one. \
                 Install Python with the package `requests`.",
                OLDEST.0, OLDEST.1
            ),
        });
    };
    if base.requests {
        return Ok(base);
    }
    let Some(folder) = &search.environment else {
        return Err(advice(&base, "no folder for a private environment is set"));
    };
    // Made earlier by this program, or meanwhile by another process.
    if let Some(python) = probe(&interpreter(folder)).await
        && python.requests
    {
        return Ok(python);
    }
    say(&format!(
        "The Python at {} has no `requests`; making a private environment in {} (once)",
        base.executable.display(),
        folder.display()
    ));
    make(&base, folder).await.map_err(|why| advice(&base, &why))?;
    match probe(&interpreter(folder)).await {
        Some(python) if python.requests => Ok(python),
        Some(_) | None => Err(advice(&base, "the environment made cannot import it")),
    }
}

/// Returns the first interpreter with `requests`, otherwise the first one found.
pub(super) async fn find(search: &PythonSearch) -> Option<Python> {
    let mut first = None;
    for candidate in candidates(search) {
        if let Some(python) = probe(&candidate).await {
            if python.requests {
                return Some(python);
            }
            first.get_or_insert(python);
        }
    }
    first
}

fn advice(base: &Python, why: &str) -> String {
    let python = base.executable.display();
    format!(
        "The Python at {python} has no `requests`, and a private environment with it could not be made: {why}. \
         Install it with `{python} -m pip install requests`, or on Debian and Ubuntu with \
         `apt install python3-requests`."
    )
}

fn candidates(search: &PythonSearch) -> Vec<PathBuf> {
    if let Some(python) = &search.python {
        return vec![python.clone()];
    }
    let Some(path) = &search.search_path else {
        return Vec::new();
    };
    ["python3", "python"]
        .iter()
        .flat_map(|name| {
            std::env::split_paths(path)
                .map(move |folder| folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
        })
        .filter(|file| file.is_file())
        .collect()
}

fn interpreter(environment: &Path) -> PathBuf {
    if cfg!(windows) { environment.join("Scripts").join("python.exe") } else { environment.join("bin").join("python") }
}

async fn probe(python: &Path) -> Option<Python> {
    if !python.is_file() {
        return None;
    }
    // From an empty folder, because `-c` puts the current one first on `sys.path`, where a `requests.py` would count.
    let folder = tempfile::tempdir().ok()?;
    let answer =
        output(Command::new(python).args(["-B", "-c", PROBE]).current_dir(folder.path()), PROBE_LIMIT).await.ok()?;
    serde_json::from_str(answer.lines().last()?).ok().filter(|found: &Python| found.version >= OLDEST)
}

/// Builds in a temporary folder and renames it, so a half-made environment is never found.
async fn make(base: &Python, folder: &Path) -> Result<(), String> {
    let text = |failure: std::io::Error| format!("{}: {failure}", folder.display());
    let parent = folder.parent().ok_or_else(|| format!("{} has no parent folder", folder.display()))?;
    std::fs::create_dir_all(parent).map_err(text)?;
    let stage = tempfile::Builder::new().prefix("sandbox-python-").tempdir_in(parent).map_err(text)?;
    let made = stage.path().join("environment");
    // Temporary files that an interrupted `venv` or `pip` leaves behind are deleted with the folder.
    let scraps = stage.path().join("scraps");
    std::fs::create_dir(&scraps).map_err(text)?;
    let kept_together = |command: &mut Command| {
        command.env("TMPDIR", &scraps).env("TEMP", &scraps).env("TMP", &scraps);
    };
    let venv = |more: &'static [&'static str]| {
        let mut command = Command::new(&base.executable);
        command.args(["-I", "-m", "venv"]).arg(&made).args(more);
        kept_together(&mut command);
        command
    };
    let install = ["install", "--quiet", "--disable-pip-version-check", "--no-cache-dir", "requests"];
    match output(&mut venv(&[]), MAKE_LIMIT).await {
        Ok(_) => {
            let mut pip = Command::new(interpreter(&made));
            pip.args(["-I", "-m", "pip"]).args(install);
            kept_together(&mut pip);
            output(&mut pip, MAKE_LIMIT).await?;
        }
        // Debian splits `venv` into two packages. Without the second, the environment has no pip, but the base
        // interpreter's pip may be able to install into it.
        Err(why) => {
            let without_pip = output(&mut venv(&["--clear", "--without-pip"]), MAKE_LIMIT).await;
            let mut pip = Command::new(&base.executable);
            pip.args(["-I", "-m", "pip", "--python"]).arg(interpreter(&made)).args(install);
            kept_together(&mut pip);
            if without_pip.is_err() || output(&mut pip, MAKE_LIMIT).await.is_err() {
                return Err(why);
            }
        }
    }
    if folder.exists() {
        // It was probed above and is unusable, usually because its base interpreter is gone.
        std::fs::remove_dir_all(folder).map_err(text)?;
    }
    std::fs::rename(&made, folder).map_err(text)
}

/// Runs the command to its end and returns stdout, or the last printed lines on failure.
async fn output(command: &mut Command, limit: Duration) -> Result<String, String> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let failed = |failure: std::io::Error| format!("`{program}` could not be started: {failure}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // `venv` and `pip` start processes of their own, which must end with them on interruption.
    #[cfg(unix)]
    command.process_group(0);
    let child = command.spawn().map_err(failed)?;
    let group = Group::of(&child);
    let mut run = std::pin::pin!(child.wait_with_output());
    // Declared last and so dropped first, while the leader's id is still valid.
    let group = group;
    let ended = tokio::time::timeout(limit, &mut run)
        .await
        .map_err(|_| format!("`{program}` took longer than {} s", limit.as_secs()))?
        .map_err(failed)?;
    group.ended();
    if ended.status.success() {
        return Ok(String::from_utf8_lossy(&ended.stdout).into_owned());
    }
    let printed = [ended.stdout, ended.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    let lines: Vec<&str> = printed.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(3)..].join(" / ");
    Err(format!("`{program}` ended with {}: {last}", ended.status))
}

#[cfg(all(test, unix))]
mod tests {
    use std::io::Write as _;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};
    use std::sync::Mutex;

    use super::{PythonSearch, prepare};

    /// Written by another process: a file that this process has open for writing cannot be executed, and a concurrent
    /// test may fork while it is open.
    fn script(file: &Path, text: &str) -> PathBuf {
        let mut shell = Command::new("sh")
            .args(["-c", "cat >\"$1\" && chmod +x \"$1\"", "sh"])
            .arg(file)
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut stdin = shell.stdin.take().expect("its stdin");
        stdin.write_all(text.as_bytes()).expect("the script is written");
        drop(stdin);
        assert!(shell.wait().expect("the shell ends").success());
        file.to_owned()
    }

    /// Answers the probe; other commands (`-m venv`, `-m pip`) run `otherwise`.
    fn python(folder: &Path, name: &str, version: &str, requests: bool, otherwise: &str) -> PathBuf {
        let text = format!(
            "#!/bin/sh\ncase \"$*\" in *json.dumps*)\n\
             echo '{{\"executable\":\"{0}/{name}\",\"version\":[{version}],\"requests\":{requests},\"import_from\":[]}}';;\n\
             *) {otherwise};;\nesac\n",
            folder.display()
        );
        script(&folder.join(name), &text)
    }

    #[tokio::test]
    async fn the_first_python_with_requests_wins_over_an_earlier_one_without() {
        let folder = tempfile::tempdir().expect("a folder");
        python(folder.path(), "python3", "3, 12", false, "exit 1");
        let second = python(folder.path(), "python", "3, 9", true, "exit 1");
        let search =
            PythonSearch { python: None, search_path: Some(folder.path().as_os_str().to_owned()), environment: None };
        let found = prepare(&search, |_| ()).await.expect("one is found");
        assert_eq!(found.executable, second);
    }

    #[tokio::test]
    async fn without_requests_an_environment_is_made_once_and_used_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = tempfile::tempdir().expect("a folder");
        let inner = python(home.path(), "inner", "3, 12", true, "exit 0");
        // `-I -m venv DIR`
        let make = format!("mkdir -p \"$4/bin\" && cp \"{}\" \"$4/bin/python\"", inner.display());
        let base = python(folder.path(), "python3", "3, 12", false, &make);
        let environment = home.path().join("cache").join("sandbox-python");
        let search = PythonSearch { python: Some(base), search_path: None, environment: Some(environment.clone()) };
        let remarks = Mutex::new(Vec::new());
        let remark = |text: &str| remarks.lock().expect("a remark").push(text.to_owned());
        prepare(&search, &remark).await.expect("it is made");
        assert!(environment.join("bin/python").is_file());
        prepare(&search, &remark).await.expect("it is used again");
        let remarks = remarks.lock().expect("remarks");
        assert_eq!(remarks.len(), 1, "{remarks:?}");
        assert!(remarks[0].contains("no `requests`"), "{remarks:?}");
        let beside = std::fs::read_dir(home.path().join("cache")).expect("the cache").count();
        assert_eq!(beside, 1, "nothing half-made stays behind");
    }

    #[tokio::test]
    async fn an_environment_that_cannot_be_made_ends_with_what_to_install() {
        let folder = tempfile::tempdir().expect("a folder");
        let base = python(folder.path(), "python3", "3, 12", false, "echo no ensurepip >&2; exit 1");
        let mut search = PythonSearch {
            python: Some(base),
            search_path: None,
            environment: Some(folder.path().join("cache").join("sandbox-python")),
        };
        let said = prepare(&search, |_| ()).await.expect_err("it cannot be made");
        assert!(said.contains("no ensurepip"), "{said}");
        assert!(said.contains("pip install requests") && said.contains("apt install"), "{said}");
        search.environment = None;
        let said = prepare(&search, |_| ()).await.expect_err("none may be made");
        assert!(said.contains("pip install requests"), "{said}");
    }

    #[tokio::test]
    async fn no_python_and_an_old_python_are_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let old = python(folder.path(), "python3", "3, 6", true, "exit 1");
        for (python, named) in [(Some(old.clone()), old.display().to_string()), (None, "on the PATH".to_owned())] {
            let search =
                PythonSearch { python, search_path: Some(folder.path().as_os_str().to_owned()), environment: None };
            let said = prepare(&search, |_| ()).await.expect_err("too old");
            assert!(said.contains("Python 3.8") && said.contains(&named), "{said}");
        }
    }
}
