//! What was about to be started, on disk and synced: a later start can point at what an earlier one left behind.
//!
//! One file per start, one JSON line per fact, locked by the process that follows the run. The marker in `cause` is
//! what the protocol rests on; nothing here ever stops a trigger, and whatever cannot be read is passed over.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::marker::Key;

/// How long dbt Cloud's runs are looked through for a key; an older intent cannot be picked up by it any more.
pub(super) const LOOK_BACK: SignedDuration = SignedDuration::from_hours(7 * 24);

/// More than any intent of ours, so that a file of somebody else is not read to its end.
const LARGEST: u64 = 64 << 10;

/// The folder of intents, if there is a place for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    folder: Option<PathBuf>,
}

/// What is about to be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) origin: String,
    pub(crate) account: u64,
    pub(crate) job: u64,
    /// SHA-256 of the parameters.
    pub(crate) parameters: String,
    /// The newest run of the job before.
    pub(crate) newer_than: u64,
    /// The command that picks the run up.
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
    /// This run has ended, and another one may have been started that resumes it.
    Resuming(u64),
}

/// An intent that this process holds. Dropping it leaves the file behind, open for a later start to find.
#[derive(Debug)]
pub(crate) struct Intent {
    path: PathBuf,
    file: File,
}

/// What was noted, and what somebody else has noted for the same start before.
#[derive(Debug)]
pub(crate) struct Noted {
    pub(crate) intent: Intent,
    /// An earlier intent for the same key that has not been closed, or is held by another process now.
    pub(crate) earlier: Option<OpenIntent>,
}

/// An intent that nobody has followed to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenIntent {
    pub(crate) entry: Entry,
    pub(crate) run: Option<u64>,
}

impl Journal {
    /// A journal in this folder of states; without one there is no journal.
    pub(crate) fn new(state_folder: Option<PathBuf>) -> Journal {
        Journal { folder: state_folder.map(|folder| folder.join("starts")) }
    }

    /// Notes what is about to be started, and returns when it is on disk. `Ok(None)`: there is no folder for it.
    pub(crate) fn note(&self, entry: &Entry) -> io::Result<Option<Noted>> {
        let Some(folder) = &self.folder else { return Ok(None) };
        make_folder(folder)?;
        let path = folder.join(file_name(entry));
        let mut options = OpenOptions::new();
        options.create(true).append(true).read(true);
        owner_only(&mut options);
        let file = options.open(&path)?;
        // Two processes with one key: each writes whole lines, one of them holds the lock, and the one that comes second
        // reads what the first has written.
        let _ = file.try_lock();
        let mut intent = Intent { path, file };
        intent.write(&Line::Intent(entry.clone()))?;
        // The name of the file is on disk only when the folder is (where a folder can be opened at all).
        #[cfg(unix)]
        File::open(folder)?.sync_all()?;
        let earlier = parse(&contents(&intent.path).unwrap_or_default(), true);
        Ok(Some(Noted { intent, earlier }))
    }

    /// The run has ended, whoever started it and whoever saw that: an intent for it leaves nothing to pick up.
    pub(crate) fn close_run(&self, origin: &str, account: u64, run: u64, now: Timestamp) {
        let Some(listed) = self.folder.as_ref().and_then(|folder| fs::read_dir(folder).ok()) else { return };
        for path in listed.filter_map(|item| Some(item.ok()?.path())) {
            let is_it = |open: &OpenIntent| {
                open.run == Some(run) && open.entry.origin == origin && open.entry.account == account
            };
            if read(&path, now).as_ref().is_some_and(is_it) {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Intents that no living process follows, newest first. Those that are too old to pick up are removed.
    pub(crate) fn open_intents(&self, now: Timestamp) -> Vec<OpenIntent> {
        let Some(listed) = self.folder.as_ref().and_then(|folder| fs::read_dir(folder).ok()) else { return Vec::new() };
        let mut found: Vec<OpenIntent> =
            listed.filter_map(|item| Some(item.ok()?.path())).filter_map(|path| read(&path, now)).collect();
        found.sort_by_key(|open| std::cmp::Reverse(open.entry.at));
        found
    }
}

impl Intent {
    /// Notes the run as soon as it is known.
    pub(crate) fn run(&mut self, id: u64) -> io::Result<()> {
        self.write(&Line::Run(id))
    }

    /// Notes that the run, which has ended, is about to be resumed: the key finds the run that does so, if there is one.
    pub(crate) fn resuming(&mut self, id: u64) -> io::Result<()> {
        self.write(&Line::Resuming(id))
    }

    /// The run has ended, or surely was not started: nothing is left to pick up.
    pub(crate) fn close(self) {
        // What cannot be removed is offered once more at worst.
        let _ = fs::remove_file(&self.path);
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        // The line before may be torn: this one begins on its own.
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
    format!("{}.jsonl", &super::marker::hex(&digest)[..32])
}

fn read(path: &Path, now: Timestamp) -> Option<OpenIntent> {
    if path.extension()? != "jsonl" {
        return None;
    }
    let file = OpenOptions::new().append(true).open(path).ok()?;
    // Held by a process that follows it.
    file.try_lock().ok()?;
    let open = parse(&contents(path).ok()?, false)?;
    if now.duration_since(open.entry.at) > LOOK_BACK {
        let _ = fs::remove_file(path);
        return None;
    }
    Some(open)
}

fn contents(path: &Path) -> io::Result<String> {
    let mut text = Vec::new();
    File::open(path)?.take(LARGEST).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The newest intent, or the newest but the last one, with the run if it was noted. A torn line says nothing; the
/// others count.
fn parse(text: &str, but_the_last: bool) -> Option<OpenIntent> {
    let (mut entries, mut run) = (Vec::new(), None);
    for line in text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
        match line {
            Line::Intent(noted) => entries.push(noted),
            Line::Run(id) => run = Some(id),
            Line::Resuming(_) => run = None,
        }
    }
    if but_the_last {
        entries.pop();
    }
    let entry = entries.pop()?;
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

    #[test]
    fn an_intent_is_found_again_unless_it_is_closed_held_or_too_old() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(Some(folder.path().to_owned()));
        let mut held = journal.note(&entry("held", now())).unwrap().unwrap().intent;
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
        journal.note(&entry("held", now())).unwrap().unwrap().intent.run(123).unwrap();
        journal.note(&entry("closed", now())).unwrap().unwrap().intent.close();
        let old = now() - SignedDuration::from_hours(8 * 24);
        drop(journal.note(&entry("old", old)).unwrap().unwrap());
        assert_eq!(journal.open_intents(now()).len(), 1);
        assert_eq!(fs::read_dir(folder.path().join("starts")).unwrap().count(), 1);
    }

    #[test]
    fn who_comes_second_with_a_key_learns_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(Some(folder.path().to_owned()));
        let mut first = journal.note(&entry("k", now())).unwrap().unwrap();
        assert_eq!(first.earlier, None);
        let second = journal.note(&entry("k", now())).unwrap().unwrap();
        assert_eq!(second.earlier, Some(OpenIntent { entry: entry("k", now()), run: None }));
        first.intent.run(5).unwrap();
        let third = journal.note(&entry("k", now())).unwrap().unwrap();
        assert_eq!(third.earlier.unwrap().run, Some(5));
    }

    #[test]
    fn a_run_that_is_being_resumed_is_not_what_goes_on_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(Some(folder.path().to_owned()));
        let mut intent = journal.note(&entry("k", now())).unwrap().unwrap().intent;
        intent.run(5).unwrap();
        intent.resuming(5).unwrap();
        drop(intent);
        // Whoever sees the end of the run that failed does not close it.
        journal.close_run(&entry("k", now()).origin, 1, 5, now());
        assert_eq!(journal.open_intents(now()), [OpenIntent { entry: entry("k", now()), run: None }]);
        let mut again = journal.note(&entry("k", now())).unwrap().unwrap().intent;
        again.run(6).unwrap();
        drop(again);
        assert_eq!(journal.open_intents(now()), [OpenIntent { entry: entry("k", now()), run: Some(6) }]);
    }

    #[test]
    fn a_torn_or_foreign_file_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(Some(folder.path().to_owned()));
        let mut torn = journal.note(&entry("torn", now())).unwrap().unwrap().intent;
        torn.run(7).unwrap();
        torn.file.write_all(b"{\"run\":12").unwrap();
        drop(torn);
        let starts = folder.path().join("starts");
        fs::write(starts.join("empty.jsonl"), "").unwrap();
        fs::write(starts.join("binary.jsonl"), [0xff, 0xfe, 0]).unwrap();
        fs::write(starts.join("half.jsonl"), "{\"intent\":{\"key\":\"x\"").unwrap();
        fs::create_dir(starts.join("folder.jsonl")).unwrap();
        assert_eq!(journal.open_intents(now()), [OpenIntent { entry: entry("torn", now()), run: Some(7) }]);
        journal.note(&entry("torn", now())).unwrap().unwrap().intent.run(8).unwrap();
        assert_eq!(journal.open_intents(now()), [OpenIntent { entry: entry("torn", now()), run: Some(8) }]);
    }

    #[test]
    fn without_a_folder_or_a_disk_there_is_no_journal_and_no_harm() {
        assert!(Journal::default().note(&entry("k", now())).unwrap().is_none());
        assert_eq!(Journal::default().open_intents(now()), []);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("starts"), "a file where a folder should be").unwrap();
        let journal = Journal::new(Some(folder.path().to_owned()));
        assert!(journal.note(&entry("k", now())).is_err());
        assert_eq!(journal.open_intents(now()), []);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(Some(folder.path().to_owned()));
        let intent = journal.note(&entry("k", now())).unwrap().unwrap().intent;
        assert_eq!(fs::metadata(&intent.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(folder.path().join("starts")).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
