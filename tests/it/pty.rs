//! The built program at a terminal: a pty, and an emulator that knows what the user sees.
//!
//! It is the program's controlling terminal, so that Ctrl-C arrives as a signal where the terminal generates one. A
//! shell starts the program and outlives it, since a terminal drops what nobody has read yet when its session ends.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use crate::harness::keep;

/// Far longer than any step takes; a test that waits this long fails and shows the screen.
const LONGEST: Duration = Duration::from_secs(30);

/// Longer than any program at a terminal runs.
const LONGEST_RUN: Duration = Duration::from_mins(2);

/// Introduces the exit code, as a title of the terminal, which nobody sees.
const EXIT: &str = "\u{1b}]0;exit ";

/// Runs the program, prints its exit code, and stops until it is killed.
const SHELL: &str = r#"trap : HUP INT QUIT TERM; "$@"; printf '\033]0;exit %d\007' "$?"; kill -STOP $$"#;

/// The same as a number of checks of the program's state.
const MOST_LOOKS: usize = 1_000_000;

struct Seen {
    parser: vt100::Parser,
    raw: Vec<u8>,
    /// Every distinct screen, oldest first.
    screens: Vec<String>,
}

impl Seen {
    /// The exit code, once the shell has printed it.
    fn exit(&self) -> Option<i32> {
        let raw = String::from_utf8_lossy(&self.raw);
        raw.rsplit_once(EXIT)?.1.strip_suffix('\u{7}')?.parse().ok()
    }
}

/// A program at its own terminal.
pub(crate) struct Pty {
    keyboard: File,
    /// Our own handle of the terminal, to read its state after the program has exited.
    terminal: OwnedFd,
    shell: Child,
    seen: Arc<(Mutex<Seen>, Condvar)>,
    reader: JoinHandle<()>,
    before: String,
}

/// How the program left its terminal.
pub(crate) struct Left {
    pub(crate) exit: Option<i32>,
    pub(crate) screen: String,
    pub(crate) raw: String,
    pub(crate) screens: Vec<String>,
}

impl Pty {
    /// Starts the program with all three streams at a terminal of this size.
    pub(crate) fn start(command: &Command, rows: u16, columns: u16) -> Pty {
        Pty::start_as(command, "xterm-256color", rows, columns)
    }

    /// The same with this `TERM`. The command gets only the variables that it sets.
    pub(crate) fn start_as(command: &Command, kind: &str, rows: u16, columns: u16) -> Pty {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let terminal = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        tcsetwinsize(&master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let before = state(&terminal);
        let stream = || terminal.try_clone().unwrap();
        let mut command = in_a_session(command);
        command.env("TERM", kind).stdin(stream()).stdout(stream()).stderr(stream());
        let shell = command.spawn().unwrap();
        let seen = Seen {
            parser: vt100::Parser::new(rows.try_into().unwrap(), columns.try_into().unwrap(), 1000),
            raw: Vec::new(),
            screens: Vec::new(),
        };
        let seen = Arc::new((Mutex::new(seen), Condvar::new()));
        let (keyboard, shared) = (File::from(master), seen.clone());
        let mut screen = keyboard.try_clone().unwrap();
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Reading a closed pty fails.
            while let Ok(count @ 1..) = screen.read(&mut buffer) {
                let mut seen = shared.0.lock().unwrap();
                seen.parser.process(&buffer[..count]);
                seen.raw.extend_from_slice(&buffer[..count]);
                let now = seen.parser.screen().contents();
                if seen.screens.last() != Some(&now) {
                    seen.screens.push(now);
                }
                shared.1.notify_all();
            }
        });
        Pty { keyboard, terminal, shell, seen, reader, before }
    }

    /// Waits until the screen contains this text.
    #[track_caller]
    pub(crate) fn sees(&self, text: &str) {
        self.sees_times(text, 1);
    }

    /// Waits until the screen contains this text this many times.
    #[track_caller]
    pub(crate) fn sees_times(&self, text: &str, times: usize) {
        let guard = self.seen.0.lock().unwrap();
        let waited = self
            .seen
            .1
            .wait_timeout_while(guard, LONGEST, |seen| seen.parser.screen().contents().matches(text).count() < times)
            .unwrap();
        assert!(!waited.1.timed_out(), "never saw {text:?} {times} times\n{}", waited.0.parser.screen().contents());
    }

    pub(crate) fn keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the program reads a hidden line: earlier input is discarded.
    #[track_caller]
    pub(crate) fn hides(&self, question: &str) {
        self.sees(question);
        let tasks = format!("/proc/{}/task", self.id());
        let waits = (0..MOST_LOOKS).any(|_| {
            std::thread::yield_now();
            std::fs::read_dir(&tasks).unwrap().all(|task| sleeps(&task.unwrap().path().join("stat")))
        });
        assert!(waits, "the program never waits at {question:?}");
    }

    /// Waits for this question, then types a hidden answer and Enter.
    #[track_caller]
    pub(crate) fn answers_hidden(&mut self, question: &str, answer: &str) {
        self.hides(question);
        self.keys(&format!("{answer}\r"));
    }

    /// Waits for this text, then types an answer and Enter.
    #[track_caller]
    pub(crate) fn answers(&mut self, question: &str, answer: &str) {
        self.sees(question);
        self.keys(&format!("{answer}\r"));
    }

    /// The current screen.
    pub(crate) fn screen(&self) -> String {
        self.seen.0.lock().unwrap().parser.screen().contents()
    }

    /// Resizes the terminal, as when the user resizes its window.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let mut seen = self.seen.0.lock().unwrap();
        tcsetwinsize(&self.keyboard, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        seen.parser.screen_mut().set_size(rows.try_into().unwrap(), columns.try_into().unwrap());
    }

    /// The program's process ID, while it runs.
    pub(crate) fn id(&self) -> u32 {
        let shell = self.shell.id();
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
        children.trim().parse().unwrap()
    }

    /// Waits for the end. The terminal must be as it was: echo, line mode and a visible cursor.
    #[track_caller]
    pub(crate) fn ends(self, exit: i32) -> Left {
        let Pty { keyboard, terminal, mut shell, seen, reader, before } = self;
        let guard = seen.0.lock().unwrap();
        let (guard, waited) = seen.1.wait_timeout_while(guard, LONGEST_RUN, |seen| seen.exit().is_none()).unwrap();
        assert!(!waited.timed_out(), "it does not end\n{}", guard.parser.screen().contents());
        drop(guard);
        let after = state(&terminal);
        shell.kill().unwrap();
        let _ = shell.wait().unwrap();
        // No one else has the terminal open now, so the reader ends.
        drop(terminal);
        reader.join().unwrap();
        drop(keyboard);
        let seen = seen.0.lock().unwrap();
        let raw = String::from_utf8_lossy(&seen.raw).into_owned();
        let (raw, _) = raw.rsplit_once(EXIT).unwrap();
        keep("terminal", raw);
        let left = Left {
            exit: seen.exit(),
            screen: seen.parser.screen().contents(),
            raw: raw.to_owned(),
            screens: seen.screens.clone(),
        };
        assert_eq!(left.exit, Some(exit), "{}", left.screen);
        assert_eq!(after, before, "{}", left.screen);
        assert!(!seen.parser.screen().hide_cursor(), "{}", left.screen);
        let (_, column) = seen.parser.screen().cursor_position();
        assert_eq!(column, 0, "the shell's prompt begins its own line\n{}", left.screen);
        left
    }
}

/// The terminal's settings, as text.
fn state(terminal: &OwnedFd) -> String {
    format!("{:?}", tcgetattr(terminal).unwrap())
}

/// The command in a session that owns the terminal.
fn in_a_session(command: &Command) -> Command {
    let mut session = Command::new("/usr/bin/setsid");
    session
        .args(["--ctty", "/bin/sh", "-c", SHELL, "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear();
    session.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(directory) = command.get_current_dir() {
        session.current_dir(directory);
    }
    session
}

/// Whether this thread is waiting. One that has just ended counts as waiting.
fn sleeps(stat: &Path) -> bool {
    std::fs::read_to_string(stat).map_or(true, |stat| stat.rsplit(')').next().unwrap_or_default().starts_with(" S"))
}
