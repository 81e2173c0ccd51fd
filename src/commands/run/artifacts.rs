//! `run --artifacts`: downloads a run's artifacts to a folder. Nothing here changes the run's outcome.

use std::cell::OnceCell;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::download::Download;
use crate::dbt::{End, RESULTS, Run, Steps, get_artifact, get_run_with_steps, list_artifacts};
use crate::events::RunEvent;
use crate::failure::{Code, Failure, io_reason};
use crate::http::{HttpError, Meaning, side_by_side};
use crate::runs::{Upload, plain};

/// Longest time for all downloads.
const LIMIT: Duration = Duration::from_mins(15);

/// Maximum number of files downloaded.
const MOST_FILES: usize = 10_000;

/// Longest file or folder name and longest path, in bytes.
const LONGEST_PART: usize = 200;
const LONGEST: usize = 1_000;

/// Runs whose files are downloaded at the same time.
pub(super) const AT_A_TIME: usize = 2;

/// Missing files that are named in warnings; the JSON document has all of them.
const MOST_WARNINGS: usize = 5;

/// Creates the folder and checks that it is writable, before anything is started.
pub(super) fn check_folder(folder: &Path) -> Result<(), Failure> {
    let tried = fs::create_dir_all(folder).and_then(|()| tempfile::NamedTempFile::new_in(folder));
    tried.map(drop).map_err(|error| {
        let what = format!("cannot write to --artifacts \"{}\"; nothing was started", folder.display());
        Failure::new(Code::InvalidInput, what)
            .cause(io_reason(&error))
            .advise("choose a directory that you can write to")
    })
}

/// Files of a run that were downloaded, and those that are missing.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    pub(super) fetched: Vec<String>,
    pub(super) missing: Vec<Missing>,
}

/// A file that dbt lists, and the result of downloading it, once known.
struct ListedFile {
    path: String,
    result: OnceCell<Result<(), String>>,
}

impl Files {
    fn add_missing(&mut self, reason: impl Into<String>) {
        self.missing.push(Missing { path: None, reason: reason.into() });
    }
}

/// A file that was not downloaded.
#[derive(Clone, Debug)]
pub(crate) struct Missing {
    /// `None`: all files, or an unknown set.
    pub(crate) path: Option<String>,
    pub(crate) reason: String,
}

impl Download<'_> {
    /// Downloads the run's artifacts to a folder. Warns about missing files.
    pub(super) async fn artifacts(&self, folder: &Path) -> Files {
        let (mut files, mut listed) = (Files::default(), Vec::new());
        let late = "the time for fetching was over";
        let in_time = self.within(LIMIT, Box::pin(self.all_artifacts(folder, &mut files, &mut listed))).await;
        if !in_time && listed.is_empty() {
            files.add_missing(late);
        }
        for ListedFile { path, result } in listed {
            match result.into_inner().unwrap_or_else(|| Err(late.to_owned())) {
                Ok(()) => files.fetched.push(path),
                Err(reason) => files.missing.push(Missing { path: Some(plain(&path, LONGEST_PART)), reason }),
            }
        }
        let run = self.run;
        for Missing { path, reason } in files.missing.iter().take(MOST_WARNINGS) {
            self.events.run(RunEvent::ArtifactMissing { run, path: path.clone(), reason: reason.clone() });
        }
        if files.missing.len() > MOST_WARNINGS {
            self.events.run(RunEvent::MoreArtifactsMissing { run, count: files.missing.len() - MOST_WARNINGS });
        }
        files
    }

    async fn all_artifacts(&self, folder: &Path, files: &mut Files, listed: &mut Vec<ListedFile>) {
        let Download { reader, account, run, .. } = *self;
        let (seen, mut paths) =
            tokio::join!(reader.read(get_run_with_steps(account, run)), reader.read(list_artifacts(account, run)));
        let mut upload = Upload::new(reader, account, seen.as_ref().unwrap_or(&Run::unseen(run)));
        let (step, leaves_files) = match &seen {
            Ok(seen) => {
                let steps = Steps::of(seen);
                let counts = steps.counts(seen.ended() == Some(End::Error));
                (Ok(counts.map(|step| step.index)), steps.leave_files())
            }
            Err(error) => (Err(error.clone()), true),
        };
        let wants_results = !matches!(step, Ok(None));
        let paths = loop {
            let is_whole = paths
                .as_ref()
                .is_ok_and(|paths| !paths.is_empty() && (!wants_results || paths.iter().any(|path| path == RESULTS)));
            // The last uploads may not be listed yet, and an empty list does not say whether any will come.
            if !is_whole && leaves_files && upload.wait_for_list().await {
                paths = reader.read(list_artifacts(account, run)).await;
                continue;
            }
            match paths {
                Ok(paths) if paths.is_empty() && leaves_files => return files.add_missing("dbt lists none"),
                Ok(paths) => break paths,
                Err(error) => return files.add_missing(error.to_string()),
            }
        };
        if paths.len() > MOST_FILES {
            files.add_missing(format!("it has {} files; at most {MOST_FILES} are downloaded", paths.len()));
        }
        listed.extend(paths.into_iter().take(MOST_FILES).map(|path| ListedFile { path, result: OnceCell::new() }));
        let mut left: Vec<&ListedFile> = listed.iter().collect();
        // Retry the files that may still be uploaded, all at once.
        while !left.is_empty() {
            let ask = async |file: &&ListedFile| match self.artifact(folder, &file.path, &step).await {
                Ok(result) => file.result.set(result).ok().and(None),
                Err(error) => Some(error),
            };
            let errors = side_by_side(&left, ask).await;
            let open: Vec<(&ListedFile, HttpError)> =
                left.into_iter().zip(errors).filter_map(|(file, error)| Some((file, error?))).collect();
            let may_appear =
                side_by_side(&open, async |(file, error)| upload.may_appear(&file.path, error).await).await;
            let goes_on = may_appear.contains(&true) && upload.wait_to_retry().await;
            left = open
                .into_iter()
                .zip(may_appear)
                .filter_map(|((file, error), may_appear)| {
                    if may_appear && goes_on {
                        return Some(file);
                    }
                    file.result.set(Err(error.to_string())).ok().and(None)
                })
                .collect();
        }
    }

    /// Downloads one file. The outer error means that dbt does not have the file, or not yet.
    async fn artifact(
        &self,
        folder: &Path,
        path: &str,
        step: &Result<Option<u64>, HttpError>,
    ) -> Result<Result<(), String>, HttpError> {
        let Download { reader, account, run, .. } = *self;
        let Some(local_path) = local_path(path) else {
            return Ok(Err("its name is not a valid file name here".to_owned()));
        };
        let results = path == RESULTS;
        let step = match step {
            Ok(step) => *step,
            // Without a step, dbt may serve the file of the last step, such as that of the docs.
            Err(error) if results => return Ok(Err(format!("cannot tell which step decides: {error}"))),
            Err(_) => None,
        };
        let mut read = reader.read(get_artifact(account, run, path, step)).await;
        // Another step may have made the file; `run_results.json` must be from this step.
        if !results && step.is_some() && read.as_ref().is_err_and(|error| error.means() == Meaning::NotFound) {
            read = reader.read(get_artifact(account, run, path, None)).await;
        }
        match read {
            Ok(bytes) => Ok(write(folder, &local_path, &bytes).map_err(|error| error.to_string())),
            Err(error) if error.means() == Meaning::NotFound => Err(error),
            Err(error) => Ok(Err(error.to_string())),
        }
    }
}

/// Where a file goes below the folder; `None` if the name leads outside or is special on some system.
fn local_path(path: &str) -> Option<PathBuf> {
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

/// Writes a file atomically. Refuses a symlink among the folders below ours.
fn write(folder: &Path, local_path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut inner = folder.to_path_buf();
    for part in local_path.parent().into_iter().flat_map(Path::components) {
        inner.push(part);
        match fs::symlink_metadata(&inner) {
            Ok(there) if there.is_dir() => {}
            Ok(_) => return Err(io::Error::other(format!("{} is no folder", inner.display()))),
            Err(_) => fs::create_dir(&inner)?,
        }
    }
    let target = folder.join(local_path);
    if fs::symlink_metadata(&target).is_ok_and(|there| !there.is_file()) {
        return Err(io::Error::other(format!("{} exists and is not a file", target.display())));
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
            assert!(local_path(good).is_some(), "{good}");
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
            assert_eq!(local_path(bad), None, "{bad:?}");
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
        // A reader of the old file is not disturbed.
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
        // No partial file is left.
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }
}
