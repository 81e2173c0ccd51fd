//! Progress lines at a terminal during a run, and what remains afterwards.

use std::process::Command;

use crate::harness::Site;
use crate::pty::Pty;

/// The progress lines on a screen.
fn drawn(screen: &str) -> Vec<&str> {
    screen.lines().filter(|line| line.starts_with(['|', '/', '-', '\\'])).collect()
}

#[test]
fn a_line_is_drawn_for_the_run_and_what_is_left_is_what_a_pipe_gets() {
    let site = Site::with(|options| options.speed = 60.0);
    let left = Pty::start(&site.command(&["run", "222222"]), 30, 60).ends(0);
    // Only lines of output remain, one per change; which changes a poll sees is chance.
    let lines: Vec<&str> = left.screen.lines().collect();
    assert!(lines[0].starts_with("job_run_id = ") && lines[1].starts_with("http://"), "{lines:?}");
    assert!(lines[2..].iter().all(|line| line.starts_with("DbtJobRunStatus.")), "{lines:?}");
    assert!(lines.last().unwrap().starts_with("DbtJobRunStatus.SUCCESS   in "), "{lines:?}");
    // For a run that has ended, every `watch` prints the same.
    let run = lines[0].trim_start_matches("job_run_id = ");
    let piped = site.run(&["watch", run]).ends(0);
    let watched = Pty::start(&site.command(&["watch", run]), 30, 100).ends(0);
    assert_eq!((watched.screen.trim_end(), ""), (piped.stdout.trim_end(), piped.stderr.as_str()));
    let bars: Vec<&str> = left.screens.iter().flat_map(|screen| drawn(screen)).collect();
    assert!(bars.iter().any(|bar| bar.contains("  dbt run ") && bar.contains("RUNNING")), "{bars:?}");
    assert!(bars.iter().all(|bar| bar.chars().count() <= 60), "{bars:?}");
    // Once the run has ended there is no progress line.
    assert!(left.screens.iter().all(|screen| !screen.contains("SUCCESS") || drawn(screen).is_empty()), "{bars:?}");
    assert!(left.screens.iter().all(|screen| drawn(screen).len() <= 1), "{:?}", left.screens);
}

/// Not with Ctrl-C, at which the terminal discards output that it has not shown yet.
fn interrupt(pty: &Pty) {
    assert!(Command::new("kill").args(["-INT", &pty.id().to_string()]).status().unwrap().success());
}

/// The end of a synchronized update.
const WHOLE: &str = "\u{1b}[?2026l";

/// The screen after each frame, in a terminal of this size.
fn frames(raw: &str, rows: u16, columns: u16) -> Vec<String> {
    let mut terminal = vt100::Parser::new(rows.try_into().unwrap(), columns.try_into().unwrap(), 0);
    let look = |frame: &str| {
        terminal.process(frame.as_bytes());
        terminal.screen().contents()
    };
    raw.split_inclusive(WHOLE).map(look).collect()
}

#[test]
fn many_runs_keep_their_lines_while_others_are_printed() {
    let site = Site::with(|options| options.speed = 60.0);
    let jobs: Vec<String> = (300_001..=300_006).map(|job| job.to_string()).collect();
    let arguments: Vec<&str> = ["run"].into_iter().chain(jobs.iter().map(String::as_str)).collect();
    let pty = Pty::start(&site.command(&arguments), 40, 100);
    pty.sees_times(": dbt run ", 6);
    pty.sees("RUNNING");
    interrupt(&pty);
    let left = pty.ends(130);
    let counts: Vec<usize> = frames(&left.raw, 40, 100).iter().map(|screen| drawn(screen).len()).collect();
    assert!(counts.contains(&6), "{counts:?}");
    // A line disappears when its run ends, and at no other time.
    assert!(counts.windows(2).all(|pair| pair[1] + 1 >= pair[0]), "{counts:?}");
    assert_eq!(drawn(&left.screen), Vec::<&str>::new(), "{}", left.screen);
}

#[test]
fn more_runs_than_the_terminal_has_rows_leave_room_for_what_is_printed() {
    let site = Site::with(|options| options.speed = 30.0);
    let jobs: Vec<String> = (300_001..=300_025).map(|job| job.to_string()).collect();
    let arguments: Vec<&str> = ["run"].into_iter().chain(jobs.iter().map(String::as_str)).collect();
    let pty = Pty::start(&site.command(&arguments), 10, 100);
    pty.sees("  and 18 more");
    interrupt(&pty);
    let left = pty.ends(130);
    let frames = frames(&left.raw, 10, 100);
    assert!(frames.iter().any(|screen| screen.contains("  and 18 more")), "{frames:?}");
    for screen in &frames {
        let printed = screen.lines().filter(|line| line.starts_with("3000")).count();
        assert!(drawn(screen).len() <= 8 && (printed > 0 || drawn(screen).len() < 7), "{screen}");
    }
    assert_eq!(drawn(&left.screen), Vec::<&str>::new(), "{}", left.screen);
}

#[test]
fn nothing_is_left_of_the_lines_when_the_window_becomes_narrower_and_a_signal_ends_it() {
    let site = Site::with(|options| options.speed = 20.0);
    let pty = Pty::start(&site.command(&["run", "222222", "300001"]), 30, 120);
    pty.sees_times(": dbt run ", 2);
    pty.resize(30, 60);
    interrupt(&pty);
    let left = pty.ends(130);
    assert_eq!(drawn(&left.screen), Vec::<&str>::new(), "{}", left.screen);
    assert!(left.screen.contains("dbtrigger watch"), "{}", left.screen);
}

#[test]
fn nothing_is_left_of_the_line_when_somebody_interrupts() {
    let site = Site::with(|options| options.speed = 20.0);
    let pty = Pty::start(&site.command(&["run", "222222"]), 30, 90);
    pty.sees("  dbt run ");
    interrupt(&pty);
    let left = pty.ends(130);
    assert_eq!(drawn(&left.screen), Vec::<&str>::new(), "{}", left.screen);
    assert!(left.screen.contains("dbtrigger watch"), "{}", left.screen);
}

#[test]
fn nothing_is_drawn_when_quiet_verbose_or_on_a_terminal_that_cannot() {
    let site = Site::with(|options| options.speed = 60.0);
    for (arguments, term) in
        [(&["run", "222222", "-q"][..], "xterm"), (&["run", "222222", "-v"], "xterm"), (&["run", "222222"], "dumb")]
    {
        let left = Pty::start_as(&site.command(arguments), term, 40, 90).ends(0);
        let bars: Vec<&str> = left.screens.iter().flat_map(|screen| drawn(screen)).collect();
        assert_eq!(bars, Vec::<&str>::new(), "{arguments:?}");
    }
}
