//! Durations in arguments: `50ms`, `90s`, `10m`, `2h`, `1d`.

use std::time::Duration;

/// Parses a duration.
///
/// # Errors
/// The reason, in words.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong(text))?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "d" => number.checked_mul(86_400_000),
        _ => return Err(wrong(text)),
    };
    // More than ten years is likely a typo, and deadline arithmetic must not overflow.
    milliseconds.filter(|value| *value <= 315_360_000_000).map(Duration::from_millis).ok_or_else(|| wrong(text))
}

fn wrong(text: &str) -> String {
    format!("\"{text}\" is not a duration: use a whole number and a unit, such as 90s, 10m, or 2h")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_and_a_unit() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86_400)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)));
        }
        assert_eq!(parse("50ms"), Ok(Duration::from_millis(50)));
        for text in ["", "90", "s", "-1s", "1.5h", "1 h", "99999999999999999999s", "9999999999h"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
