//! Small helpers for text.

use std::fmt::Write as _;
use std::time::Duration;

/// Lowercase hex digits.
pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `4m 12s`, `1h 2m 3s`, `12s`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h {minutes}m {seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shown_without_empty_parts_in_front() {
        for (seconds, text) in [(12, "12s"), (252, "4m 12s"), (3723, "1h 2m 3s"), (90_000, "25h 0m 0s")] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }
}
