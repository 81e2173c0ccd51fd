//! `run --artifacts`: the files that a run has left, below a folder. Nothing here changes the run's outcome.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::dbt::{Status, Step, get_artifact, get_run_with_steps, list_artifacts};
use crate::events::Events;
use crate::failure::{Code, Failure};
use crate::http::Reader;
use crate::runs::plain;

/// dbt uploads some seconds after the end of the run (dbt-cloud-api §6).
const UPLOAD: Duration = Duration::from_secs(30);
const BETWEEN: Duration = Duration::from_secs(3);

/// Fetching may take so long in all.
const LIMIT: Duration = Duration::from_mins(15);

/// More files than this are not fetched.
const MOST_FILES: usize = 10_000;

/// The longest name of a file, and the longest path.
const LONGEST_PART: usize = 200;
const LONGEST: usize = 1_000;

/// Makes the folder, and tries that files can be written there, before anything is started.
pub(super) fn check_folder(folder: &Path) -> Result<(), Failure> {
    let tried = fs::create_dir_all(folder).and_then(|()| tempfile::NamedTempFile::new_in(folder));
    tried.map(drop).map_err(|error| {
        let what =
            format!("--artifacts is \"{}\", where no files can be written; nothing was started.", folder.display());
        Failure::new(Code::InvalidInput, what).cause(error.to_string()).advise("name a folder that you may write to")
    })
}

/// Fetches the files of the run into the folder, and gives the names of those that are there.
pub(super) async fn fetch(reader: &Reader, account: u64, run: u64, folder: &Path, events: &Events) -> Vec<String> {
    let mut fetched = Vec::new();
    if timeout(LIMIT, fetch_all(reader, account, run, folder, events, &mut fetched)).await.is_err() {
        events.remark(format!("the files of dbt run {run} took too long; {} of them are there", fetched.len()));
    }
    fetched
}

async fn fetch_all(reader: &Reader, account: u64, run: u64, folder: &Path, events: &Events, fetched: &mut Vec<String>) {
    let until = Instant::now() + UPLOAD;
    let listed = loop {
        match reader.read(list_artifacts(account, run)).await {
            Ok(listed) if !listed.is_empty() => break listed,
            // Nothing yet and nothing ever look alike.
            Ok(_) | Err(_) if Instant::now() + BETWEEN < until => sleep(BETWEEN).await,
            Ok(_) => return events.remark(format!("dbt run {run} has left no files")),
            Err(error) => return events.remark(format!("the files of dbt run {run} are not to be had: {error}")),
        }
    };
    let step = deciding_step(reader, account, run).await;
    for path in listed.iter().take(MOST_FILES) {
        let Some(place) = place(path) else {
            events.remark(format!("a file of dbt run {run} is left out for its name: {}", plain(path, LONGEST_PART)));
            continue;
        };
        // What that step did not make, another one did.
        let file = match reader.read(get_artifact(account, run, path, step)).await {
            Err(error) if step.is_some() && error.is_status(404) => {
                reader.read(get_artifact(account, run, path, None)).await
            }
            other => other,
        };
        let written = match file {
            Ok(bytes) => write(folder, &place, &bytes).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match written {
            Ok(()) => fetched.push(path.clone()),
            Err(why) => events.remark(format!("{} of dbt run {run} is missing: {why}", plain(path, LONGEST_PART))),
        }
    }
    if listed.len() > MOST_FILES {
        events.remark(format!("dbt run {run} has {} files; {MOST_FILES} were looked at", listed.len()));
    }
}

/// Of several steps that leave files of one name: the one that failed, else the last that builds (§6).
async fn deciding_step(reader: &Reader, account: u64, run: u64) -> Option<u64> {
    let mut steps: Vec<Step> = reader.read(get_run_with_steps(account, run)).await.ok()?.run_steps?;
    steps.sort_by_key(|step| step.index);
    let builds = |step: &&Step| {
        let verb = step
            .title()
            .strip_prefix("dbt ")
            .and_then(|rest| rest.split_whitespace().find(|word| !word.starts_with('-')));
        matches!(verb, Some("build" | "run" | "test" | "seed" | "snapshot" | "retry"))
    };
    let failed = steps.iter().find(|step| step.runs_dbt() && step.status == Some(Status::Error));
    failed.or_else(|| steps.iter().rfind(builds)).map(|step| step.index)
}

/// Where a file goes below the folder; `None` if its name leads elsewhere, or means something to a system.
fn place(path: &str) -> Option<PathBuf> {
    let parts: Vec<&str> = path.split('/').collect();
    let fits = |part: &&str| {
        let stem = part.split('.').next().unwrap_or_default().trim_end().to_ascii_lowercase();
        let numbered = |name: &str| stem.strip_prefix(name).is_some_and(|rest| rest.len() == 1 && rest != "0");
        let reserved = matches!(stem.as_str(), "con" | "prn" | "aux" | "nul") || numbered("com") || numbered("lpt");
        !part.is_empty()
            && part.len() <= LONGEST_PART
            && !reserved
            && !part.ends_with(['.', ' '])
            && !part.chars().any(|character| character.is_control() || r#"\:*?"<>|"#.contains(character))
    };
    (path.len() <= LONGEST && parts.iter().all(fits)).then(|| parts.iter().collect())
}

/// Writes a file whole or not at all. No folder below ours is a link that leads out of it.
fn write(folder: &Path, place: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut inner = folder.to_path_buf();
    for part in place.parent().into_iter().flat_map(Path::components) {
        inner.push(part);
        match fs::symlink_metadata(&inner) {
            Ok(there) if there.is_dir() => {}
            Ok(_) => return Err(io::Error::other(format!("{} is no folder", inner.display()))),
            Err(_) => fs::create_dir(&inner)?,
        }
    }
    let target = folder.join(place);
    if fs::symlink_metadata(&target).is_ok_and(|there| !there.is_file()) {
        return Err(io::Error::other(format!("{} is there, and is no file", target.display())));
    }
    let mut file = tempfile::NamedTempFile::new_in(&inner)?;
    file.write_all(bytes)?;
    file.persist(&target).map_err(|failed| failed.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_stay_below_the_folder_and_mean_nothing_else_are_taken() {
        for good in [
            "manifest.json",
            "compiled/shop/models/a b.sql",
            "metadata/telemetry-1-otel.parquet",
            ".hidden",
            "com0",
            "console.log",
        ] {
            assert!(place(good).is_some(), "{good}");
        }
        let long = "a".repeat(201);
        for bad in [
            "",
            "/etc/passwd",
            "..",
            "../x",
            "a/../../x",
            "a/./x",
            "a//x",
            "a/",
            "c:\\x",
            "a\\..\\x",
            "con",
            "NUL.json",
            "x/lpt1.txt",
            "a\nb",
            "a ",
            "a.",
            "x?y",
            long.as_str(),
        ] {
            assert_eq!(place(bad), None, "{bad:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn no_link_is_followed_and_what_is_no_file_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let (folder, outside) = (home.path().join("new"), home.path().join("outside"));
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("x"), "theirs").unwrap();
        write(&folder, Path::new("run/x"), b"1").unwrap();
        // Whoever reads the old file meanwhile reads it to its end.
        let mut old = fs::File::open(folder.join("run/x")).unwrap();
        write(&folder, Path::new("run/x"), b"2").unwrap();
        let mut read = String::new();
        std::io::Read::read_to_string(&mut old, &mut read).unwrap();
        assert_eq!(read, "1");
        assert_eq!(fs::read(folder.join("run/x")).unwrap(), b"2");
        std::os::unix::fs::symlink(&outside, folder.join("link")).unwrap();
        std::os::unix::fs::symlink(outside.join("x"), folder.join("x")).unwrap();
        assert!(write(&folder, Path::new("link/x"), b"ours").is_err());
        assert!(write(&folder, Path::new("x"), b"ours").is_err());
        assert!(write(&folder, Path::new("run"), b"ours").is_err());
        assert_eq!(fs::read(outside.join("x")).unwrap(), b"theirs");
        // Nothing half-written stays.
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }
}
