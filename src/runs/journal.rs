//! The journal of starts: what is about to be started is written to disk, so that a later command can find what an
//! earlier one left behind.
//!
//! Each key and job has one file with a JSON object per line. The process that starts a run locks it exclusively, so
//! that of several processes with one key one sends and the others wait for its run; processes that follow the run
//! share the lock. The OS releases the lock of a dead process. Correctness rests on the marker in `cause`: no error
//! here stops a trigger, and unreadable files are skipped.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::cause_marker::Key;

/// How far back dbt's runs are searched for a key. Older intents can no longer be picked up.
pub(super) const LOOK_BACK: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Larger than any of our files, in bytes; a foreign file is not read further.
const LARGEST: u64 = 64 << 10;

/// Attempts to open and lock a file that other processes keep removing.
const MOST_TRIES: u32 = 10;

/// Tries to lock a file exclusively.
type Lock = fn(&File) -> Result<(), TryLockError>;

/// The folder of intents, if there is a state folder.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    folder: Option<PathBuf>,
    /// Replaced in tests: some file systems have no locks.
    lock: Lock,
}

impl Default for Journal {
    fn default() -> Journal {
        Journal::new(None)
    }
}

/// A start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) origin: String,
    pub(crate) account: u64,
    pub(crate) job: u64,
    /// SHA-256 of the parameters, in hex.
    pub(crate) parameters: String,
    /// Lower bound of the run's ID (`RunLowerBound::id`).
    pub(crate) newer_than: u64,
    /// The command that finds or starts the run.
    pub(crate) resume: String,
    #[serde(serialize_with = "write_moment", deserialize_with = "read_moment")]
    pub(crate) at: Timestamp,
}

fn write_moment<S: Serializer>(moment: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(moment)
}

fn read_moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Intent(Entry),
    Run(u64),
    /// This run ended, and a run that resumes it may have been started.
    Resuming(u64),
}

/// An intent that this process holds. Dropping it keeps the file, for a later start to find.
#[derive(Debug)]
pub(crate) struct Intent {
    path: PathBuf,
    file: File,
    /// Whether other processes may hold it too.
    shared: bool,
}

/// Which process may start a run with a key on this machine.
#[derive(Debug)]
pub(crate) enum Turn {
    /// No state folder, so no journal.
    NoJournal,
    /// This process, with what an earlier start left behind.
    Ours(Intent, Option<OpenIntent>),
    /// Other processes follow this run.
    Followed(Intent, OpenIntent),
    /// Another process is starting a run.
    Busy,
}

/// An intent whose run was not followed to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenIntent {
    pub(crate) entry: Entry,
    pub(crate) run: Option<u64>,
}

impl Journal {
    /// Creates a journal in this state folder. Without one, nothing is recorded.
    pub(crate) fn new(state_folder: Option<PathBuf>) -> Journal {
        Journal { folder: state_folder.map(|folder| folder.join("starts")), lock: File::try_lock }
    }

    /// Takes the turn to start this entry, if it is free. An error means that files cannot be locked here, and then the
    /// journal is not read either.
    pub(crate) fn turn(&self, entry: &Entry) -> io::Result<Turn> {
        let Journal { folder: Some(folder), lock } = self else { return Ok(Turn::NoJournal) };
        make_folder(folder)?;
        let path = folder.join(file_name(entry));
        let mut options = OpenOptions::new();
        options.create(true).append(true).read(true);
        owner_only(&mut options);
        for _ in 0..MOST_TRIES {
            let file = options.open(&path)?;
            let alone = locked(lock(&file)).inspect_err(|_| remove_if_empty(&file, &path))?;
            if !alone && !locked(file.try_lock_shared())? {
                return Ok(Turn::Busy);
            }
            // Removed by another process between opening and locking.
            if !is_at(&file, &path) {
                continue;
            }
            let noted = parse(&contents(&path)?);
            let intent = Intent { path, file, shared: !alone };
            return Ok(match noted {
                left if alone => Turn::Ours(intent, left),
                Some(open) if open.run.is_some() => Turn::Followed(intent, open),
                Some(_) | None => Turn::Busy,
            });
        }
        Ok(Turn::Busy)
    }

    /// Removes the intent of a run that ended, whichever process started it.
    pub(crate) fn close_run(&self, origin: &str, account: u64, run: u64, now: Timestamp) {
        let Some(listed) = self.folder.as_ref().and_then(|folder| fs::read_dir(folder).ok()) else { return };
        for path in listed.filter_map(|item| Some(item.ok()?.path())) {
            let is_it = |open: &OpenIntent| {
                open.run == Some(run) && open.entry.origin == origin && open.entry.account == account
            };
            if let Some((_lock, open)) = take(&path, self.lock, now)
                && is_it(&open)
            {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Returns the intents that no running process holds, newest first. Removes those that are too old to pick up.
    pub(crate) fn open_intents(&self, now: Timestamp) -> Vec<OpenIntent> {
        let Some(listed) = self.folder.as_ref().and_then(|folder| fs::read_dir(folder).ok()) else { return Vec::new() };
        let mut found: Vec<OpenIntent> =
            listed.filter_map(|item| Some(take(&item.ok()?.path(), self.lock, now)?.1)).collect();
        found.sort_by_key(|open| std::cmp::Reverse(open.entry.at));
        found
    }
}

impl Intent {
    /// Records the start, and returns once it is on disk.
    pub(crate) fn note(&mut self, entry: &Entry) -> io::Result<()> {
        self.write(&Line::Intent(entry.clone()))?;
        // The directory entry is on disk only once the folder is synced (Windows cannot open folders).
        #[cfg(unix)]
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }

    /// Lets other processes with the key follow the run, once it is recorded.
    pub(crate) fn share(&mut self) {
        self.shared = true;
        // A process that gets the lock in between finds the run recorded. If sharing fails, a later start prints a
        // remark at worst.
        let _ = self.file.unlock();
        let _ = self.file.try_lock_shared();
    }

    /// Gives the turn back. Removes the file unless something was recorded.
    pub(crate) fn abandon(self) {
        remove_if_empty(&self.file, &self.path);
    }

    /// Records the run, as soon as it is known.
    pub(crate) fn run(&mut self, id: u64) -> io::Result<()> {
        self.write(&Line::Run(id))
    }

    /// Records that a run that ended is about to be resumed: the key now belongs to the run that resumes it, if any.
    pub(crate) fn resuming(&mut self, id: u64) -> io::Result<()> {
        self.write(&Line::Resuming(id))
    }

    /// Removes the intent of a run that ended, or that certainly was not started.
    pub(crate) fn close(self) {
        let Intent { path, file, shared } = self;
        // The last of several followers removes the file, unless a new start has replaced it.
        let alone = !shared || (file.unlock().is_ok() && file.try_lock().is_ok());
        if alone && is_at(&file, &path) {
            // If this fails, a later start finds the intent once more at worst.
            let _ = fs::remove_file(&path);
        }
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        // Start on a new line, because the previous write may have been interrupted.
        let text = format!("\n{}\n", serde_json::to_string(line)?);
        self.file.write_all(text.as_bytes())?;
        self.file.sync_all()
    }
}

/// One file per key, job, account and host.
fn file_name(entry: &Entry) -> String {
    use sha2::{Digest as _, Sha256};
    let Entry { key, origin, account, job, parameters: _, newer_than: _, resume: _, at: _ } = entry;
    let digest = Sha256::digest(format!("{origin} {account} {job} {key}"));
    format!("{}.jsonl", &crate::text::hex(digest)[..32])
}

/// The intent in this file, with the lock on it, if no process holds it.
fn take(path: &Path, lock: Lock, now: Timestamp) -> Option<(File, OpenIntent)> {
    if path.extension()? != "jsonl" {
        return None;
    }
    let file = OpenOptions::new().append(true).open(path).ok()?;
    lock(&file).ok()?;
    if !is_at(&file, path) {
        return None;
    }
    let Some(open) = parse(&contents(path).ok()?) else {
        remove_if_empty(&file, path);
        return None;
    };
    if now.duration_since(open.entry.at) > LOOK_BACK {
        let _ = fs::remove_file(path);
        return None;
    }
    Some((file, open))
}

/// Whether the lock was taken. Only `WouldBlock` means that another process holds it.
fn locked(tried: Result<(), TryLockError>) -> io::Result<bool> {
    match tried {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn remove_if_empty(file: &File, path: &Path) {
    if file.metadata().is_ok_and(|file| file.len() == 0) {
        let _ = fs::remove_file(path);
    }
}

/// Whether the path still names this file.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let place = |of: fs::Metadata| (of.dev(), of.ino());
    matches!((file.metadata(), fs::metadata(path)), (Ok(open), Ok(there)) if place(open.clone()) == place(there.clone()))
}

/// On other systems an open file keeps its name.
#[cfg(not(unix))]
fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
}

fn contents(path: &Path) -> io::Result<String> {
    let mut text = Vec::new();
    File::open(path)?.take(LARGEST).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Returns the newest intent, with its run if recorded. Invalid lines are skipped.
fn parse(text: &str) -> Option<OpenIntent> {
    let (mut entry, mut run) = (None, None);
    for line in text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
        match line {
            Line::Intent(noted) => entry = Some(noted),
            Line::Run(id) => run = Some(id),
            Line::Resuming(_) => run = None,
        }
    }
    let entry = entry?;
    Key::parse(&entry.key).is_ok().then_some(OpenIntent { entry, run })
}

#[cfg(unix)]
fn make_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn make_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

#[cfg(unix)]
fn owner_only(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.mode(0o600);
}

#[cfg(not(unix))]
fn owner_only(_options: &mut OpenOptions) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, at: Timestamp) -> Entry {
        Entry {
            key: key.to_owned(),
            origin: "https://ab123.us1.dbt.com".to_owned(),
            account: 1,
            job: 2,
            parameters: "digest".to_owned(),
            newer_than: 122,
            resume: format!("dbtrigger run 2 --idempotency-key {key}"),
            at,
        }
    }

    fn now() -> Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    /// Records a start.
    fn note(journal: &Journal, entry: &Entry) -> Intent {
        match journal.turn(entry).unwrap() {
            Turn::Ours(mut intent, _) => {
                intent.note(entry).unwrap();
                intent
            }
            other @ (Turn::NoJournal | Turn::Followed(..) | Turn::Busy) => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_intent_is_found_again_unless_it_is_closed_held_or_too_old() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(Some(folder.path().to_owned()));
        let mut held = note(&journal, &entry("held", now()));
        held.run(123).unwrap();
        assert_eq!(journal.open_intents(now()), []);
        drop(held);
        assert_eq!(journal.open_intents(now()), [OpenIntent { entry: entry("held", now()), run: Some(123) }]);
        let origin = entry("held", now()).origin;
        for (origin, account, run) in [("https://other", 1, 123), (origin.as_str(), 2, 123), (origin.as_str(), 1, 124)]
        {
            journal.close_run(origin, account, run, now());
            assert_eq!(journal.open_intents(now()).len(), 1);
        }
        journal.close_run(&origin, 1, 123, now());
        assert_eq!(journal.open_intents(now()), []);
        note(&journal, &entry("held", now())).run(123).unwrap();
        note(&journal, &entry("closed", now())).close();
        let old = now() - SignedDuration::from_hours(8 * 24);
        drop(note(&journal, &entry("old", old)));
        assert_eq!(journal.open_intents(now()).len(), 1);
        assert_eq!(fs::read_dir(folder.path().join("starts")).unwrap().count(), 1);
    }

    #[test]
    fn one_starts_with_a_key_and_the_others_wait_for_its_run() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(Some(folder.path().to_owned()));
        let turn = || journal.turn(&entry("k", now())).unwrap();
        let mut first = note(&journal, &entry("k", now()));
        assert!(matches!(turn(), Turn::Busy));
        first.run(5).unwrap();
        first.share();
        let known = |turn: &Turn| matches!(turn, Turn::Followed(_, OpenIntent { entry: _, run: Some(5) }));
        let (second, third) = (turn(), turn());
        assert!(known(&second) && known(&third), "{second:?} {third:?}");
        // While the run is being resumed, the new run is unknown.
        first.resuming(5).unwrap();
        assert!(matches!(turn(), Turn::Busy));
        drop((first, second, third));
        assert!(matches!(turn(), Turn::Ours(_, Some(OpenIntent { entry: _, run: None }))));
        // After the file is closed, a waiting process starts with a new one.
        let Turn::Ours(waited, _) = turn() else { panic!() };
        waited.close();
        assert!(matches!(turn(), Turn::Ours(_, None)));
        // The last of two followers removes the file.
        let mut first = note(&journal, &entry("k", now()));
        first.run(6).unwrap();
        first.share();
        let Turn::Followed(second, _) = turn() else { panic!() };
        first.close();
        assert!(matches!(turn(), Turn::Followed(..)));
        second.close();
        assert!(matches!(turn(), Turn::Ours(_, None)));
    }

    #[test]
    fn a_run_that_is_being_resumed_is_not_what_goes_on_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(Some(folder.path().to_owned()));
        let mut intent = note(&journal, &entry("k", now()));
        intent.run(5).unwrap();
        intent.resuming(5).unwrap();
        drop(intent);
        // The end of the failed run does not close the intent.
        journal.close_run(&entry("k", now()).origin, 1, 5, now());
        assert_eq!(journal.open_intents(now()), [OpenIntent { entry: entry("k", now()), run: None }]);
        let mut again = note(&journal, &entry("k", now()));
        again.run(6).unwrap();
        drop(again);
        assert_eq!(journal.open_intents(now()), [OpenIntent { entry: entry("k", now()), run: Some(6) }]);
    }

    #[test]
    fn a_torn_or_foreign_file_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(Some(folder.path().to_owned()));
        let mut torn = note(&journal, &entry("torn", now()));
        torn.run(7).unwrap();
        torn.file.write_all(b"{\"run\":12").unwrap();
        drop(torn);
        let starts = folder.path().join("starts");
        fs::write(starts.join("empty.jsonl"), "").unwrap();
        fs::write(starts.join("binary.jsonl"), [0xff, 0xfe, 0]).unwrap();
        fs::write(starts.join("half.jsonl"), "{\"intent\":{\"key\":\"x\"").unwrap();
        fs::create_dir(starts.join("folder.jsonl")).unwrap();
        assert_eq!(journal.open_intents(now()), [OpenIntent { entry: entry("torn", now()), run: Some(7) }]);
        note(&journal, &entry("torn", now())).run(8).unwrap();
        assert_eq!(journal.open_intents(now()), [OpenIntent { entry: entry("torn", now()), run: Some(8) }]);
    }

    #[test]
    fn without_a_folder_or_a_disk_there_is_no_journal_and_no_harm() {
        assert!(matches!(Journal::default().turn(&entry("k", now())).unwrap(), Turn::NoJournal));
        assert_eq!(Journal::default().open_intents(now()), []);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("starts"), "a file where a folder should be").unwrap();
        let journal = Journal::new(Some(folder.path().to_owned()));
        assert!(journal.turn(&entry("k", now())).is_err());
        assert_eq!(journal.open_intents(now()), []);
    }

    #[test]
    fn what_cannot_be_locked_is_neither_read_nor_written_nor_removed() {
        let kinds: [Lock; 3] = [
            // ENOLCK on Linux: a network file system without its lock service.
            |_| Err(TryLockError::Error(io::Error::from_raw_os_error(37))),
            |_| Err(TryLockError::Error(io::ErrorKind::Unsupported.into())),
            |_| Err(TryLockError::WouldBlock),
        ];
        let mut left_alone = 0;
        for (number, lock) in kinds.into_iter().enumerate() {
            let folder = tempfile::tempdir().unwrap();
            let healthy = Journal::new(Some(folder.path().to_owned()));
            let noted = entry("k", now());
            note(&healthy, &noted).run(5).unwrap();
            let journal = Journal { lock, ..healthy.clone() };
            let turn = journal.turn(&noted);
            // For `WouldBlock` the shared lock, which is not replaced, decides between busy and followed.
            let is_told = if number < 2 { turn.is_err() } else { turn.is_ok() };
            drop(turn);
            journal.close_run(&noted.origin, noted.account, 5, now());
            let unread = journal.open_intents(now()).is_empty();
            let is_there = healthy.open_intents(now()) == [OpenIntent { entry: noted, run: Some(5) }];
            left_alone += usize::from(is_told && unread && is_there);
        }
        crate::sim::say(&format!("journals that cannot be locked: {left_alone} of {}", kinds.len()));
        assert_eq!(left_alone, kinds.len());
        // No new file is left behind.
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal { lock: kinds[0], ..Journal::new(Some(folder.path().to_owned())) };
        assert!(journal.turn(&entry("k", now())).is_err());
        assert_eq!(fs::read_dir(folder.path().join("starts")).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(Some(folder.path().to_owned()));
        let intent = note(&journal, &entry("k", now()));
        assert_eq!(fs::metadata(&intent.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(folder.path().join("starts")).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
