//! Durations for display and as arguments.

use std::time::Duration;

use crate::commands::durations;

/// Parses a duration of whole seconds, at least one: dbt reads 0 as no limit (dbt-cloud-api §3.1).
pub(super) fn whole_seconds(text: &str) -> Result<Duration, String> {
    let duration = durations::parse(text)?;
    if duration.as_secs() == 0 || duration.subsec_millis() != 0 {
        return Err(format!("\"{text}\" is not a whole number of seconds, at least 1"));
    }
    Ok(duration)
}

/// `4m 12s`, `1h 2m 3s`, `12s`.
pub(crate) fn shown(duration: Duration) -> String {
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
    fn a_limit_for_dbt_has_whole_seconds() {
        assert_eq!(whole_seconds("10m"), Ok(Duration::from_mins(10)));
        for text in ["0s", "500ms", "1500ms", "soon"] {
            assert!(whole_seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_shown_without_empty_parts_in_front() {
        for (seconds, text) in [(12, "12s"), (252, "4m 12s"), (3723, "1h 2m 3s"), (90_000, "25h 0m 0s")] {
            assert_eq!(shown(Duration::from_secs(seconds)), text);
        }
    }
}
