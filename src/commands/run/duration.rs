//! Durations as people write them, and as they read them.

use std::time::Duration;

/// Longer waits are typing errors.
const LONGEST: Duration = Duration::from_hours(8784);

/// Reads `90s`, `10m` or `2h`.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let form = "a duration is written like 90s, 10m or 2h";
    let (number, unit) = text.split_at(text.trim_end_matches(|character: char| !character.is_ascii_digit()).len());
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(form.to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| form.to_owned())?;
    match number.checked_mul(seconds).map(Duration::from_secs) {
        Some(duration) if duration <= LONGEST => Ok(duration),
        Some(_) | None => Err("it is longer than a year".to_owned()),
    }
}

/// `4m 12s`, `1h 2m 3s`, `12s`.
pub(super) fn shown(duration: Duration) -> String {
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
    fn durations_have_a_number_and_one_unit() {
        for (text, seconds) in
            [("90s", Some(90)), ("10m", Some(600)), ("2h", Some(7200)), ("0s", Some(0)), ("24h", Some(86400))]
        {
            assert_eq!(parse(text).ok().map(|duration| duration.as_secs()), seconds, "{text}");
        }
        for text in ["", "10", "h", "1.5h", "-1s", "1h30m", "1d", "99999999999999999999s", "9999999h", "ä"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_shown_without_empty_parts_in_front() {
        for (seconds, text) in [(12, "12s"), (252, "4m 12s"), (3723, "1h 2m 3s"), (90_000, "25h 0m 0s")] {
            assert_eq!(shown(Duration::from_secs(seconds)), text);
        }
    }
}
