//! Durations in arguments (`50ms`, `90s`, `10m`, `1h 30m`, `1d`) and for display (`2m 30s`).

use std::time::Duration;

use jiff::fmt::friendly::SpanPrinter;
use jiff::{Span, SpanRelativeTo};

/// More than ten years is likely a typo, and deadline arithmetic must not overflow.
const LONGEST: Duration = Duration::from_hours(10 * 365 * 24);

/// Parses a duration.
///
/// # Errors
/// The reason, in words.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let span = text.parse::<Span>().and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
    let duration = span.ok().and_then(|span| Duration::try_from(span).ok()).filter(|duration| *duration <= LONGEST);
    duration.ok_or_else(|| format!("\"{text}\" is not a duration: use a number and a unit, such as 90s, 10m, or 2h"))
}

/// Parses a duration of whole seconds, at least one: dbt reads 0 as no limit, and a task would
/// hang forever.
pub(crate) fn whole_seconds(text: &str) -> Result<Duration, String> {
    let duration = parse(text)?;
    if duration.as_secs() == 0 || duration.subsec_nanos() != 0 {
        return Err(format!("\"{text}\" is not a whole number of seconds, at least 1"));
    }
    Ok(duration)
}

/// Whole seconds, such as `4m 12s`.
pub(crate) fn shown(duration: Duration) -> String {
    SpanPrinter::new().unsigned_duration_to_string(&Duration::from_secs(duration.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_numbers_and_units() {
        for (text, seconds) in
            [("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86_400), ("1h 30m", 5400), ("1.5h", 5400)]
        {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)));
        }
        assert_eq!(parse("50ms"), Ok(Duration::from_millis(50)));
        for text in ["", "90", "s", "-1s", "1 month", "99999999999999999999s", "9999999999h"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_limit_has_whole_seconds() {
        assert_eq!(whole_seconds("10m"), Ok(Duration::from_mins(10)));
        for text in ["0s", "500ms", "1500ms", "soon"] {
            assert!(whole_seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_shown_as_they_are_parsed_without_empty_parts() {
        for (seconds, text) in [(0, "0s"), (12, "12s"), (252, "4m 12s"), (3723, "1h 2m 3s"), (90_000, "25h")] {
            assert_eq!(shown(Duration::from_secs(seconds)), text);
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)));
        }
    }
}
